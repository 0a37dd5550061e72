"""`macebench weights` and what `doctor` and `eval` say of weights, as a user sees it; nothing is fetched."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from macebench import weights
from macebench.cli import doctor

MUSIQ = "musiq/musiq_spaq_ckpt-358bb6af.pth"


def run(*arguments, folder, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "macebench", *map(str, arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, "MACEBENCH_WEIGHTS": str(folder)},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def rubbish(tmp_path):
    """A weights folder in which the file of MUSIQ is 100 kB of nothing."""
    path = tmp_path / "weights" / MUSIQ
    path.parent.mkdir(parents=True)
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    return path


def test_rubbish_is_said_with_the_command_and_never_trusted(tmp_path, rubbish, tiny_world):
    folder = tmp_path / "weights"
    assert re.search(r"musiq-spaq +corrupt", run("weights", "list", folder=folder))
    said = run(
        "eval", "--videos", tiny_world.videos, "--reference", tiny_world.videos, "--protocol", "vbench6-fixed/1",
        "--limit", 1, "--out", tmp_path / "run", folder=folder, status=2,
    )  # fmt: skip
    assert "is damaged or another file: not a file of torch" in said
    assert "macebench weights pull musiq-spaq" in said
    assert "Traceback" not in said
    assert list(rubbish.parent.iterdir()) == [rubbish]
    assert "!!] weights vbench6 " in run("doctor", folder=folder)


@pytest.mark.parametrize(
    ("present", "lines"),
    [
        (
            ("vbench6",),
            ["[ok] weights vbench6", "[  ] weights vbench6-hub   not needed: vbench6 is there"],
        ),
        (
            ("vbench6-hub",),
            ["[  ] weights vbench6   not needed: vbench6-hub is there", "[ok] weights vbench6-hub"],
        ),
        (
            (),
            [
                "[--] weights vbench6   fix: macebench weights pull vbench6, or vbench6-hub in its place",
                "[--] weights vbench6-hub   fix: macebench weights pull vbench6-hub, or vbench6 in its place",
            ],
        ),
    ],
)
def test_one_of_two_groups_is_enough(monkeypatch, present, lines):
    there = {row.name for group in present for row in weights.select(group)}
    monkeypatch.setattr(weights, "status", lambda name: "present" if name in there else "missing")
    assert [line for line in doctor._weights() if "vbench6" in line] == lines
