"""`macebench --help` answers fast because nothing heavy is imported."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "cv2", "librosa", "transformers", "pandas", "scipy", "av", "matplotlib", "pyarrow", "mannequin")


@pytest.mark.parametrize("command", [["--help"], ["eval", "--help"], ["--version"], ["ls", "models"]])
def test_nothing_heavy_is_imported(command):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "macebench", *command], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & set(HEAVY)
    assert done.stdout


def test_every_command_has_help():
    commands = ("demo", "generate", "eval", "report", "ls", "doctor", "leaderboard", "protocol", "weights", "store")
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "macebench", command, "--help"], capture_output=True, text=True, check=True
        )
        assert "Usage: macebench" in done.stdout
