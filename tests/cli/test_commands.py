"""The short commands, as a user runs them."""

import json
import os
import subprocess
import sys

import pytest


def run(*words, status=0, env=None, cwd=None):
    call = [sys.executable, "-m", "macebench", *map(str, words)]
    full = {**os.environ, **(env or {})}
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=full, cwd=cwd)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_world):
    """A run folder with calibration rows and a report."""
    out = tmp_path_factory.mktemp("finished") / "run"
    words = ["--videos", tiny_world.videos, "--reference", tiny_world.videos, "--poses", tiny_world.poses]
    env = {"MACEBENCH_STORE": str(out.parent / "store")}
    text = run("eval", *words, "--calibrate", "--model", "mine", "--out", out, env=env)
    assert "report.html" in text
    return out


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("models", ["ground-truth", "half-speed", "calibration rows", "music to 3-D dance", "video"]),
        ("metrics", ["fid_k", "bas", "temporal_flickering", "frames", "lower", "Beat alignment above chance"]),
        ("protocols", ["ma2d-fixed/1", "ma2d-paper/1"]),
        ("stages", ["probe", "Cuts spans into clips."]),
        ("datasets", ["demo"]),
        ("poses", ["blazepose", "vitpose", "precomputed", "mmpose", "one person, 33 landmarks"]),
    ],
)
def test_ls(group, words):
    text = run("ls", group)
    assert all(word in text for word in words)

    assert "macebench." not in text


def test_ls_keeps_its_columns_with_long_names(tmp_path):
    (tmp_path / "long.py").write_text(
        "from macebench.registry import model\nfrom macebench.types import ModelCard\n\n\n"
        "@model('a-very-long-name-of-a-model')\nclass Long:\n    card = ModelCard('x', 'motion', 'Long.')\n"
    )
    lines = run("ls", "models", "--plugin", tmp_path / "long.py").split("\n\n")[0].splitlines()
    width = len("a-very-long-name-of-a-model") + 2
    assert {line[width:].split()[0] for line in lines} == {"kind", "motion", "video"}
    assert {line[width - 2 : width] for line in lines} == {"  "}


def test_ls_suggests():
    assert "Did you mean 'metrics'" in run("ls", "metric", status=2)
    assert "Groups are models, metrics, features" in run("ls", "foo", status=2)


def test_protocol_show_and_diff(tmp_path):
    text = run("protocol", "show", "ma2d-paper/1")
    assert "known_defects" in text
    file = tmp_path / "copy.yaml"
    file.write_text(text)
    assert run("protocol", "diff", file, "ma2d-paper/1").strip() == "no difference"
    assert "sampling.fps" in run("protocol", "diff", "ma2d-paper/1", "ma2d-fixed/1")


def test_doctor_names_what_is_missing_and_the_command(tmp_path):
    text = run("doctor", env={"MACEBENCH_WEIGHTS": str(tmp_path)})
    assert "macebench weights pull blazepose" in text
    assert "torch" in text
    assert "no command uses it yet" in text
    assert "store" in text


def test_weights_list_and_verify(tmp_path):
    env = {"MACEBENCH_WEIGHTS": str(tmp_path)}
    assert "missing" in run("weights", "list", env=env)
    assert "unknown" in run("weights", "pull", "blazeposs", env=env, status=2)
    folder = tmp_path / "blazepose"
    folder.mkdir()
    (folder / "pose_detection.tflite").write_bytes(b"not it")
    assert "corrupt" in run("weights", "verify", "blazepose", env=env, status=2)


def test_store_commands(finished, tiny_world):
    env = {"MACEBENCH_STORE": str(finished.parent / "store")}
    assert "entries" in run("store", "info", env=env)
    text = run("store", "why-recompute", tiny_world.videos / "clip0.mp4", env=env)
    assert "statistic frame_difference: in the store" in text
    assert "pose blazepose: will be computed" in text
    assert "not a video" in run("store", "why-recompute", "nothing.mp4", env=env, status=2)
    assert "--max-size is -1" in run("store", "gc", "--max-size", "-1", env=env, status=2)


def test_report_is_written_again(finished, tmp_path):
    run("report", finished, "--out", tmp_path / "page.html")
    assert "<script>" in (tmp_path / "page.html").read_text("utf-8")
    assert "is no run folder" in run("report", tmp_path, status=2)


def test_leaderboard_from_add_to_retract(finished, tmp_path):
    board = tmp_path / "board.csv"
    assert "10 rows" in run("leaderboard", "add", finished, "--board", board, "--calibration")
    before = board.read_bytes()
    run("leaderboard", "add", finished, "--board", board, "--calibration")
    assert board.read_bytes() == before
    assert "agrees" in run("leaderboard", "verify", board, "--run", finished)
    assert "mine" in run("leaderboard", "show", board)
    entry = json.loads((finished / "result.json").read_text())["entries"][0]
    value = next(score["value"] for score in entry["scores"] if score["name"] == "bas")
    board.write_text(board.read_text().replace(repr(value), repr(value + 0.01), 1))
    assert "bas" in run("leaderboard", "verify", board, "--run", finished, status=2)
    options = ["--model", "mine", "--protocol-hash", entry["protocol_hash"], "--reason", "a test"]
    run("leaderboard", "retract", board, *options)
    assert "retracted" in board.read_text()


def test_no_command_prints_help_and_an_unknown_one_says_so():
    assert "Usage" in run(status=2)
    assert "evl" in run("evl", status=2)


def test_demo_refuses_a_set_that_is_too_small():
    assert "--clips is 2" in run("demo", "--clips", "2", status=2)


def test_generate_names_what_is_wrong(tmp_path):
    assert "generates nothing" in run("generate", "--model", "frozen", "--music", tmp_path, status=2)
    assert "either --dataset or --music" in run("generate", "--model", "mace-dance", status=2)
    assert "Did you mean 'mace-dance'" in run("generate", "--model", "mace-danse", "--music", tmp_path, status=2)
    assert "Did you mean 'mace-dance'" in run("demo", "--model", "mace-danse", "--out", tmp_path / "d", status=2)
