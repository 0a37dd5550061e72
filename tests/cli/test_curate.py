"""``macebench curate`` as a user runs it."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

TOY = '''
"""A stage that keeps everything wider than it is asked to."""

from dataclasses import dataclass

from macebench.curation.stage import Rejection, Verdict
from macebench.registry import stage


@dataclass(frozen=True)
class WideConfig:
    """Width.

    Attributes:
        min_width: Narrower sources are dropped.
    """

    min_width: int = 100


@stage("wide")
class Wide:
    name = "wide"
    limits = {"width": "min_width"}

    def __init__(self, config=None):
        self.config = config or WideConfig()

    def process(self, task):
        width = float(task.info.width)
        limit = float(self.config.min_width)
        return Verdict({"width": width}, Rejection("wide", "too narrow", width, limit) if width < limit else None)
'''


def run(*words, status=0, store=None):
    call = [sys.executable, "-m", "macebench", *map(str, words)]
    env = {**os.environ, "MACEBENCH_STORE": str(store)} if store else None
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of two videos of 2 s, a plugin, and options that fit them."""
    from macebench.media import write_video

    root = tmp_path_factory.mktemp("curate")
    (root / "raw").mkdir()
    tone = 0.3 * np.sin(np.arange(2 * 22050) / 20)
    for name, width in (("wide.mp4", 128), ("narrow.mp4", 64)):
        frames = (np.full((64, width, 3), 10 * i, np.uint8) for i in range(20))
        write_video(root / "raw" / name, frames, fps=10.0, audio=(tone, 22050))
    (root / "toy.py").write_text(TOY)
    settings = ["stages=[probe, wide, windows]", "probe.min_duration_s=1", "probe.min_side=32", "windows.min_s=1",
                "windows.max_s=1.5"]  # fmt: skip
    (root / "c.yaml").write_text("".join(line.replace("=", ": ", 1) + "\n" for line in settings[:1]))
    words = ["--plugin", root / "toy.py", "--config", root / "c.yaml"]
    words += [word for change in settings[1:] for word in ("--set", change)]
    text = run("curate", root / "raw", "--out", root / "out", *words, store=root / "store")
    return root, words, text


def test_a_run_says_what_it_kept_and_why_not(world):
    root, _, text = world
    assert "clips" in text
    assert "dropped: 1 x wide: too narrow" in text
    assert (root / "out" / "summary.html").is_file()
    metadata = pd.read_parquet(root / "out" / "metadata.parquet")
    assert set(metadata.source_name) == {"wide.mp4"}


def test_explain_and_what_if(world):
    root, words, _ = world
    plugin = words[:2]
    text = run("curate", "explain", "narrow.mp4", "--dataset", root / "out", *plugin)
    assert "dropped by wide: too narrow: 64, threshold 100" in text
    assert "wide.min_width = 100" in text
    clip = pd.read_parquet(root / "out" / "metadata.parquet").clip_id[0]
    assert f"kept as {clip}" in run("curate", "explain", clip, "--dataset", root / "out", *plugin)
    assert "knows no clip" in run("curate", "explain", "x", "--dataset", root / "out", *plugin, status=2)
    text = run("curate", "what-if", "--dataset", root / "out", "--set", "wide.min_width=10", *plugin)
    assert "wide.min_width: 100 -> 10" in text
    assert "--set motion.min=0.003" in run("curate", "what-if", "--dataset", root / "out", *plugin, status=2)
    assert "too narrow" in text


def test_the_config_is_printed_and_loads_back(world, tmp_path):
    _, words, _ = world
    text = run("curate", "--print-config", *words)
    assert "# Narrower sources are dropped." in text
    (tmp_path / "c.yaml").write_text(text)
    assert run("curate", "--print-config", *words[:2], "--config", tmp_path / "c.yaml") == text


def test_a_plan_changes_nothing(world, tmp_path):
    root, words, _ = world
    text = run("curate", root / "raw", "--out", tmp_path / "p", *words, "--plan", store=root / "store")
    assert "sources           2" in text
    assert "length            4 s" in text
    assert not (tmp_path / "p").exists()
    text = run("curate", root / "raw", "--out", root / "out", *words, "--plan", store=root / "store")
    assert "finished          2" in text


def test_mistakes_are_named(world, tmp_path):
    root, words, _ = world
    assert "no sources" in run("curate", "--out", tmp_path / "o", *words, status=2)
    assert "--out is missing" in run("curate", root / "raw", *words, status=2)
    assert "does not exist" in run("curate", tmp_path / "none", "--out", tmp_path / "o", *words, status=2)
    (tmp_path / "empty").mkdir()
    for more in ([], ["--plan"]):
        text = run("curate", tmp_path / "empty", "--out", tmp_path / "o", *words, *more, status=2)
        assert "empty holds no source" in text
    assert not (tmp_path / "o").exists()
    assert "allowed are local and ray" in run(
        "curate", root / "raw", "--out", tmp_path / "o", *words, "--engine", "x", status=2
    )
    (tmp_path / "bad.yaml").write_text("stages: [probe, wide]\nwide:\n  min_with: 3\n")
    text = run("curate", root / "raw", "--out", tmp_path / "o", *words[:2], "--config", tmp_path / "bad.yaml", status=2)
    assert "bad.yaml, line 3: wide.min_with" in text
    assert "min_width" in text


def test_nothing_kept_is_said_by_the_status(world, tmp_path):
    root, words, _ = world
    text = run("curate", root / "raw", "--out", tmp_path / "o", *words, "--set", "wide.min_width=999", "--no-report",
               status=3, store=root / "store")  # fmt: skip
    assert "no clip was kept" in text


def test_help_names_the_sub_commands():
    text = run("curate", "--help")
    assert "explain" in text
    assert "what-if" in text
    assert "--ray-address" in text
    assert "--dataset" in run("curate", "explain", "--help")
