"""``macebench curate`` as a user runs it."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from macebench.cli import main

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


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--pairing bogus", "--pairing cannot be used without --motions or --finedance"),
        ("--renderer pyrender --body smplx", "--renderer, --body cannot be used without --motions or --finedance"),
        ("--smpl-dir x", "--smpl-dir cannot be used without --motions or --finedance"),
        ("--motion-fps -3", "--motion-fps cannot be used without --motions"),
        ("--music x --assign-music", "--music, --assign-music cannot be used without --motions"),
        ("--finedance-split nonsense", "--finedance-split cannot be used without --finedance"),
        ("--finedance-ignore lodge", "--finedance-ignore cannot be used without --finedance"),
        ("--ray-address foo", "--ray-address cannot be used without --engine ray"),
        ("--workers 0", "--workers is 0; it must be 1 or more"),
        ("--workers 0 --plan", "--workers is 0; it must be 1 or more"),
    ],
)
def test_options_that_would_do_nothing_are_refused(world, tmp_path, capsys, words, named):
    root, _, _ = world
    assert main(["curate", str(root / "raw"), "--out", str(tmp_path / "o"), *words.split()]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_settings_of_the_drawing_are_printed_without_motions(capsys):
    assert main(["curate", "--print-config", "--renderer", "pyrender", "--test-size", "7"]) == 0
    text = capsys.readouterr().out
    assert 'renderer: "pyrender"' in text
    assert "test_size: 7" in text


def test_what_if_takes_settings_as_options(world, capsys):
    root, words, _ = world
    call = ["curate", "what-if", "--dataset", str(root / "out"), *map(str, words[:2])]
    for change in (["--wide.min_width", "10"], ["--wide.min_width=10"], ["--set", "wide.min_width=10"]):
        assert main([*call, *change]) == 0
        assert "wide.min_width: 100 -> 10" in capsys.readouterr().out
    assert main([*call, "--probe.min_level_db", "-50", "--store", str(root / "store")]) == 0
    assert "probe.min_level_db: -60.0 -> -50" in capsys.readouterr().out
    for change, named in (
        (["--wide.min_widht", "10"], "Did you mean 'min_width'?"),
        (["--wied.min_width", "10"], "Did you mean 'wide'"),
        (["--datset", "10"], "Did you mean '--dataset'"),
        (["--wide.min_width"], "--wide.min_width needs a value"),
        (["--wide.min_width", "--probe.min_side", "3"], "--wide.min_width needs a value"),
        (["10"], "does not take '10'"),
        (["--wide.min_width", "much"], "wide.min_width"),
    ):
        assert main([*call, *change]) == 2, change
        assert named in capsys.readouterr().err
    assert main(["curate", "what-if", "--help"]) == 0
    assert "--SECTION.FIELD VALUE" in capsys.readouterr().out


def test_a_data_set_in_the_source_folder_is_passed_over(world, tmp_path, capsys):
    root, words, _ = world
    (tmp_path / "raw").mkdir()
    shutil.copy(root / "raw" / "wide.mp4", tmp_path / "raw" / "a.mp4")
    out = tmp_path / "raw" / "set"
    call = ["curate", str(tmp_path / "raw"), "--out", str(out), "--store", str(root / "store"), *map(str, words)]
    said = []
    for more in ([], [], ["--plan"]):
        assert main([*call, *more]) == 0
        said.append(capsys.readouterr().out)
        assert said[-1].count(f"passed over: {out}; what is in a data set is no source") == 1
    assert said[0] == said[1]
    assert "1 clips" in said[0]
    assert "out of 1 sources" in said[0]
    assert "sources           1 (" in said[2]
    assert "note: the test split is empty" in said[0]


def test_a_listed_source_that_is_not_there_is_said(world, tmp_path, capsys):
    root, words, _ = world
    (tmp_path / "list.txt").write_text(f"{root / 'raw' / 'wide.mp4'}\ngone.mp4\n")
    out = ["--out", str(tmp_path / "o"), "--store", str(root / "store"), *map(str, words)]
    assert main(["curate", str(tmp_path / "list.txt"), *out]) == 3
    text = capsys.readouterr().out
    assert "not done: 1 x file not found" in text
    assert "1 clips" in text


def test_names_do_not_reach_the_terminal_raw(world, tmp_path, capsys):
    root, words, _ = world
    name = "a\x1b]0;title\x07\nkept as b.mp4"
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / name).write_bytes(b"no video")
    out = tmp_path / "o\x1b[31m"
    call = ["curate", str(tmp_path / "raw"), "--out", str(out), "--store", str(root / "store"), *map(str, words)]
    assert main(call) == 3
    assert main(["curate", "explain", name, "--dataset", str(out), *map(str, words[:2])]) == 0
    (tmp_path / "raw" / name).unlink()
    assert main(call) == 2
    found = capsys.readouterr()
    assert "\\x1b]0;title\\x07\\nkept as b.mp4  sha256" in found.out
    assert "\x1b" not in found.out + found.err.split("macebench: ")[-1]


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
