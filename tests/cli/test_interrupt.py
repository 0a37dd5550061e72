"""Ctrl-C: the promised line, status 130, no process left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from macebench import cli
from macebench.cli import app as app_module

PROMISE = "macebench: interrupted.\n  Run the same command again: finished clips are kept.\n"
HANGING_PLUGIN = """
import multiprocessing, os, time
from pathlib import Path

if multiprocessing.parent_process() is not None:
    Path({folder!r}, str(os.getpid())).touch()
    time.sleep(60)
"""


def interrupted():
    raise KeyboardInterrupt


@pytest.mark.parametrize("through_typer", [True, False])
def test_the_promise_is_kept(monkeypatch, capsys, through_typer):
    if through_typer:
        app = typer.Typer()
        app.command()(interrupted)
        monkeypatch.setattr(app_module, "app", app)
    else:
        monkeypatch.setattr(cli, "_run", lambda words: interrupted())
    assert cli.main([]) == 130
    assert capsys.readouterr().err.endswith(PROMISE)


def test_other_endings_promise_nothing(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_run", lambda words: 3)
    assert cli.main([]) == 3
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("to_everybody", [True, False], ids=["terminal", "parent-only"])
def test_an_interrupted_evaluation_leaves_no_process(tmp_path, tiny_world, to_everybody):
    workers = tmp_path / "workers"
    workers.mkdir()
    plugin = tmp_path / "hanging.py"
    plugin.write_text(HANGING_PLUGIN.format(folder=str(workers)))
    command = [sys.executable, "-m", "macebench", "eval", "--reference", tiny_world.videos, "--poses", tiny_world.poses]
    options = ["--videos", tiny_world.videos, "--out", tmp_path / "run", "--workers", 2, "--plugin", plugin]
    child = subprocess.Popen(
        [str(word) for word in [*command, *options]], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_until(lambda: len(list(workers.iterdir())) >= 2, 60)
        began = time.monotonic()
        (os.killpg if to_everybody else os.kill)(child.pid, signal.SIGINT)
        said = child.communicate(timeout=30)[1]
        assert time.monotonic() - began < 10
        assert child.returncode == 130
        assert said.endswith(PROMISE)
        assert "Traceback" not in said
        wait_until(lambda: not any(Path(f"/proc/{path.name}").exists() for path in workers.iterdir()), 5)
    finally:
        child.kill()
        child.wait()


def wait_until(true, seconds):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
