"""Videos compared with their references in pairs, as a user does it."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest


def run(*arguments, status=0):
    command = [sys.executable, "-m", "macebench", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def scores(out):
    return {score["name"]: score for score in json.loads((out / "result.json").read_text())["entries"][0]["scores"]}


def test_a_set_against_itself_and_its_row_on_a_board(tmp_path, tiny_world):
    out, board = tmp_path / "run", tmp_path / "board.csv"
    pair = ("--videos", tiny_world.videos, "--reference", tiny_world.videos)
    done = run("eval", "--track", "animation", *pair, "--limit", 2, "--model", "mine", "--out", out, status=3)
    found = scores(out)
    assert (found["psnr"]["value"], found["ssim"]["value"], found["l1"]["value"]) == (100.0, 1.0, 0.0)
    assert found["lpips_alex"]["reasons"] == {"weights missing: macebench weights pull animation": 2}
    assert "weights pull animation" in done.stdout
    assert (out / "report.html").is_file()
    run("leaderboard", "add", out, "--board", board)
    assert "agrees" in run("leaderboard", "verify", board, "--run", out).stdout


def test_videos_of_other_lengths_are_refused_unless_told_how(tmp_path, tiny_world):
    from macebench.media import write_video

    frames = (np.full((192, 192, 3), 40, np.uint8) for _ in range(20))
    write_video(tmp_path / "mine" / "clip0.mp4", frames, fps=15.0)
    pair = ("--videos", tmp_path / "mine", "--reference", tiny_world.videos, "--limit", 1, "--out", tmp_path / "run")
    assert "--align" in run("eval", "--track", "animation", *pair, status=2).stderr
    run("eval", "--protocol", "animation/1", *pair, "--align", "crop-time", "--no-report", status=3)
    assert 0 < scores(tmp_path / "run")["psnr"]["value"] < 100


def linked(folder, world, names):
    """A folder of some of the world's videos, by name -> source."""
    folder.mkdir()
    for name, source in names.items():
        (folder / f"{name}.mp4").symlink_to(world.videos / f"{source}.mp4")
    return folder


def test_pairs_are_limited_not_sets(tmp_path, tiny_world):
    """The first clips of two folders need not be pairs."""
    from macebench.pairfolder import PairConfig, evaluate_pairs

    ours = linked(tmp_path / "ours", tiny_world, {"b": "clip0", "c": "clip1"})
    theirs = linked(tmp_path / "theirs", tiny_world, {"a": "clip1", "b": "clip0", "c": "clip0", "d": "clip0"})
    config = PairConfig(ours, str(theirs), tmp_path / "run", store=tmp_path / "store")

    def psnr(limit):
        result = evaluate_pairs(dataclasses.replace(config, limit=limit))
        ((protocol,), (entry,)) = result.protocols.values(), result.entries
        score = next(item for item in entry.scores if item.name == "psnr")
        return entry.n_clips, score.n, score.reasons, protocol["reference"]["n"]

    assert psnr(2) == (2, 2, {}, 2)
    assert psnr(1) == (1, 1, {}, 1)
    assert psnr(3) == (3, 2, {"no generated clip of this name": 1}, 3)
    assert psnr(None) == (4, 2, {"no generated clip of this name": 2}, 4)


def test_a_wrong_alignment_is_no_internal_error(tmp_path, tiny_world):
    pair = ("--videos", tiny_world.videos, "--reference", tiny_world.videos, "--out", tmp_path / "run")
    for given, meant in (("nearest", "nearest-time"), ("crop", "crop-time"), ("resize,crop-tim", "crop-time")):
        said = run("eval", "--track", "animation", *pair, "--align", given, status=2).stderr
        assert "unknown alignment" in said
        assert meant in said
    helped = " ".join(run("eval", "--help").stdout.replace("│", " ").split())
    assert "resize, crop-time, nearest-time" in helped


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--track", "cinema"), "--track is 'cinema'"),
        (("--track", "animation"), "needs --videos"),
        (("--protocol", "animation/1", "--plan"), "--plan cannot be used"),
        (
            (
                "--track",
                "animation",
                "--pose",
                "nonsense",
                "--poses",
                "/nonexist",
                "--motion-fps",
                -3,
                "--pose-option",
                "garbage",
            ),
            "--motion-fps, --pose, --pose-option, --poses cannot be used when videos are compared in pairs",
        ),
        (("--track", "animation", "--mmpose-python", "/nonexist"), "--mmpose-python cannot be used"),
        (("--protocol", "animation/1", "--protocol", "ma2d-fixed/1"), "cannot be scored in one run"),
        (("--track", "animation", "--videos", __file__), f"{__file__} is a file; a folder is wanted."),
        (
            ("--track", "animation", "--protocol", "ma2d-fixed/1"),
            "ma2d-fixed/1 is no protocol of the animation track; it has animation/1.",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, tiny_world, arguments, words):
    done = run("eval", "--reference", tiny_world.videos, "--out", tmp_path / "run", *arguments, status=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
