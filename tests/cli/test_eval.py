"""The evaluation as a user runs it: a child process, real files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from macebench.cli.evaluate import ALL_CALIBRATIONS


def folder_bytes(folder):
    """Bytes of every file of a run folder but the wall times."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "timing.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def command(world, out, *options):
    base = [sys.executable, "-m", "macebench", "eval", "--reference", str(world.videos), "--out", str(out)]
    return [*base, "--poses", str(world.poses), "--no-report", *map(str, options)]


def run(world, out, *options, status=0, env=None):
    done = subprocess.run(
        command(world, out, *options), capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def entry(out, index=0):
    return json.loads((out / "result.json").read_text())["entries"][index]


def scores(out, index=0):
    return {score["name"]: score for score in entry(out, index)["scores"]}


def test_a_set_against_itself(tmp_path, tiny_world):
    done = run(tiny_world, tmp_path / "run", "--videos", tiny_world.videos, "--model", "mine")
    found = scores(tmp_path / "run")
    assert found["fid_k"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["fid_g"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["bas"]["n"] == tiny_world.n
    assert 0 < found["temporal_flickering"]["value"] < 1
    assert "mine" in done.stdout
    assert entry(tmp_path / "run")["model"]["name"] == "mine"
    names = sorted(os.listdir(tmp_path / "run" / "poses"))
    assert names == [f"clip{i}.npz" for i in range(tiny_world.n)]


@pytest.mark.slow
def test_workers_do_not_change_a_byte(tmp_path, tiny_world):
    one, three = tmp_path / "one", tmp_path / "three"
    for out, workers in ((one, 1), (three, 3)):
        env = {"MACEBENCH_STORE": str(tmp_path / f"store{workers}")}
        run(tiny_world, out, "--videos", tiny_world.videos, "--calibrate", "--workers", workers, env=env)
    assert folder_bytes(one) == folder_bytes(three)
    assert len(folder_bytes(one)) > 4


def test_a_second_run_decodes_nothing(tmp_path, tiny_world):
    run(tiny_world, tmp_path / "a", "--videos", tiny_world.videos)
    run(tiny_world, tmp_path / "b", "--videos", tiny_world.videos)
    assert len(json.loads((tmp_path / "a" / "timing.json").read_text())["clips"]) == tiny_world.n
    assert json.loads((tmp_path / "b" / "timing.json").read_text())["clips"] == {}
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")


def test_plan_says_what_would_be_done_and_does_nothing(tmp_path, tiny_world):
    done = run(tiny_world, tmp_path / "run", "--videos", tiny_world.videos, "--plan")
    assert f"to decode         {tiny_world.n}" in done.stdout
    assert "ma2d-fixed/1" in done.stdout
    assert not (tmp_path / "run").exists()


def test_limit(tmp_path, tiny_world):
    run(tiny_world, tmp_path / "run", "--videos", tiny_world.videos, "--limit", 3)
    assert entry(tmp_path / "run")["n_clips"] == 3


def test_calibration_rows_are_there_and_do_not_fail_the_run(tmp_path, tiny_world):
    run(tiny_world, tmp_path / "run", "--videos", tiny_world.videos, "--calibrate")
    names = [item["model"]["name"] for item in json.loads((tmp_path / "run" / "result.json").read_text())["entries"]]
    assert names == ["external", *ALL_CALIBRATIONS]
    frozen = scores(tmp_path / "run", 3)
    assert frozen["temporal_flickering"]["value"] == 1.0
    assert frozen["bas"]["value"] == 0
    assert frozen["bas"]["notes"] == {"no motion beats": tiny_world.n}
    jitter = scores(tmp_path / "run", 4)
    assert jitter["temporal_flickering"]["value"] is None
    assert jitter["temporal_flickering"]["reasons"] == {"calibration has no picture": tiny_world.n}


def test_both_protocols_in_one_run(tmp_path, tiny_world_long):
    options = ("--protocol", "ma2d-fixed/1", "--protocol", "ma2d-paper/1")
    run(tiny_world_long, tmp_path / "run", "--videos", tiny_world_long.videos, *options)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert len(result["protocols"]) == 2
    assert len({item["protocol_hash"] for item in result["entries"]}) == 2
    clips = pd.read_parquet(tmp_path / "run" / "clips.parquet")
    assert clips.groupby("protocol_hash")["duration_s"].count().nunique() == 1


def broken_world(tmp_path, world):
    """Copies of the tiny world's clips: one broken, one empty, one silent, and one without a pose file."""
    from macebench.media import write_video

    folder, poses = tmp_path / "broken", tmp_path / "poses"
    folder.mkdir()
    shutil.copytree(world.poses, poses)
    for index in range(world.n):
        shutil.copy(world.videos / f"clip{index}.mp4", folder / f"new{index}.mp4")
        shutil.copy(world.poses / f"clip{index}.npz", poses / f"new{index}.npz")
    (folder / "new0.mp4").write_bytes((world.videos / "clip0.mp4").read_bytes()[:2000])
    (folder / "new1.mp4").write_bytes(b"")
    frames = (np.full((192, 192, 3), 5 * i, np.uint8) for i in range(45))
    write_video(folder / "new2.mp4", frames, fps=15.0)
    (folder / "stranger.mp4").write_bytes((world.videos / "clip3.mp4").read_bytes() + b"\0")
    return replace(world, poses=poses), folder


def test_bad_files_cost_one_clip_each_and_give_a_reason(tmp_path, tiny_world):
    world, folder = broken_world(tmp_path, tiny_world)
    done = run(world, tmp_path / "run", "--videos", folder, status=3)
    found = scores(tmp_path / "run")
    assert found["fid_k"]["n"] + found["fid_k"]["n_unscored"] == 7
    assert found["bas"]["reasons"]["no music"] == 1
    assert found["temporal_flickering"]["n"] == 5
    assert sum(found["temporal_flickering"]["reasons"].values()) == 2
    assert "not scored" in done.stdout
    clips = pd.read_parquet(tmp_path / "run" / "clips.parquet").set_index(["role", "clip_id"])
    reasons = json.loads(clips.loc[("generated", "new1"), "reasons"])
    assert reasons["temporal_flickering"] == "empty file"
    assert np.isnan(clips.loc[("generated", "new1"), "temporal_flickering"])


@pytest.mark.slow
def test_music_of_ones_own_replaces_silence(tmp_path, tiny_world, click_track):
    from macebench.media import write_wav

    world, folder = broken_world(tmp_path, tiny_world)
    music = tmp_path / "music"
    music.mkdir()
    write_wav(music / "new2.wav", click_track(3.0, 110), 22050)
    run(world, tmp_path / "run", "--videos", folder, "--music", music, status=3)
    assert "no music" not in scores(tmp_path / "run")["bas"]["reasons"]


def test_reference_clips_that_cannot_be_read_are_said(tmp_path, tiny_world):
    world, folder = broken_world(tmp_path, tiny_world)
    done = run(world, tmp_path / "run", "--videos", tiny_world.videos, "--reference", folder, status=3)
    assert "reference: 4 clips lack at least one value" in done.stdout
    assert "evaluated clips are also in the reference set" in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert list(result["reference_unscored"].values()) == [4]
    assert result["n_shared_clips"] == 3


def test_one_name_for_two_videos_is_refused_when_poses_go_by_name(tmp_path, tiny_world):
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copy(tiny_world.videos / "clip1.mp4", folder / "clip0.mp4")
    done = run(tiny_world, tmp_path / "run", "--videos", folder, status=2)
    assert "'clip0' is in both sets with different videos" in done.stderr


@pytest.mark.slow
def test_poses_of_another_video_are_not_used(tmp_path, tiny_world):
    run(tiny_world, tmp_path / "a", "--videos", tiny_world.videos)
    folder, poses = tmp_path / "videos", tmp_path / "a" / "poses"
    folder.mkdir()
    shutil.copy(tiny_world.videos / "clip1.mp4", folder / "other.mp4")
    shutil.copy(poses / "clip0.npz", poses / "other.npz")
    run(replace(tiny_world, poses=poses), tmp_path / "b", "--videos", folder, status=3)
    assert scores(tmp_path / "b")["bas"]["reasons"] == {"pose file belongs to another video": 1}


@pytest.mark.slow
def test_a_renamed_video_finds_its_poses_again(tmp_path, tiny_world):
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(tiny_world.videos / "clip1.mp4", folder / "wrong.mp4")
    run(tiny_world, tmp_path / "a", "--videos", folder, status=3)
    assert scores(tmp_path / "a")["bas"]["reasons"] == {"no pose file": 1}
    (folder / "wrong.mp4").rename(folder / "clip1.mp4")
    run(tiny_world, tmp_path / "b", "--videos", folder, status=3)
    assert scores(tmp_path / "b")["bas"]["n"] == 1


BUGS = {
    "raises": "raise RuntimeError('boom')",
    "asserts": "assert False",
    "text": "return 'abc'",
    "none": "return None",
    "columns": "return {'other': 1.0}",
}
SLOW_BUGS = ("asserts", "text", "none")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW_BUGS else name for name in BUGS]
)
def test_a_metric_with_a_bug_costs_its_value_and_not_the_run(tmp_path, tiny_world, name):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from macebench.registry import metric\n"
        "@metric('buggy', needs=('pose',))\n"
        f"def buggy(evidence, protocol):\n    'Buggy.'\n    {BUGS[name]}\n"
    )
    options = ["--videos", tiny_world.videos, "--plugin", plugin, "--metric", "buggy"]
    run(tiny_world, tmp_path / "run", *options, status=3)
    found = scores(tmp_path / "run")
    assert found["bas"]["n"] == tiny_world.n
    assert found["buggy"]["n_unscored"] == tiny_world.n
    assert next(iter(found["buggy"]["reasons"])).startswith("metric failed")


@pytest.mark.slow
def test_a_frame_statistic_with_a_bug_costs_the_clip_and_an_edited_plugin_is_computed_again(tmp_path, tiny_world):
    plugin = tmp_path / "plugin.py"
    source = (
        "import numpy as np\n"
        "from macebench.registry import frame_statistic, metric\n"
        "@frame_statistic('size')\n"
        "class Size:\n"
        "    def update(self, frames, times_s):\n        RESULT\n"
        "    def result(self):\n        return np.array([self.n])\n"
        "@metric('size', needs=('frames:size',))\n"
        "def size(evidence, protocol):\n    'Size.'\n    return float(evidence.need_frames('size')[0])\n"
    )
    options = ["--videos", tiny_world.videos, "--plugin", plugin, "--metric", "size"]
    plugin.write_text(source.replace("RESULT", "raise ValueError('stat boom')"))
    run(tiny_world, tmp_path / "a", *options, status=3)
    assert scores(tmp_path / "a")["size"]["reasons"] == {"extraction failed: ValueError": tiny_world.n}
    failures = json.loads((tmp_path / "a" / "timing.json").read_text())["failures"]
    assert failures["clip0"] == "extraction failed: ValueError: stat boom"
    for value in (1.0, 2.0):
        plugin.write_text(source.replace("RESULT", f"self.n = {value}"))
        run(tiny_world, tmp_path / "b", *options)
        assert scores(tmp_path / "b")["size"]["value"] == value


def test_a_manifest_cannot_write_outside_the_run_folder(tmp_path, tiny_world):
    table = pd.DataFrame([("../../owned", "clip0.mp4", "train"), ("ok", "clip1.mp4", "test")])
    table.columns = ["clip_id", "file_name", "split"]
    folder = tmp_path / "evil"
    shutil.copytree(tiny_world.videos, folder)
    table.to_parquet(folder / "metadata.parquet")
    call = ["--reference", folder, "--model", "ground-truth"]
    done = run(tiny_world, tmp_path / "deep" / "run", *call, status=2)
    assert "cannot be used as a file name" in done.stderr
    assert not list(tmp_path.rglob("owned*"))


@pytest.mark.slow
def test_a_damaged_store_entry_is_computed_again(tmp_path, tiny_world):
    run(tiny_world, tmp_path / "a", "--videos", tiny_world.videos)
    for path in (tmp_path / "store").rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:-30])
    run(tiny_world, tmp_path / "b", "--videos", tiny_world.videos)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")


@pytest.mark.slow
def test_a_reused_run_folder_keeps_no_old_poses(tmp_path, tiny_world):
    run(tiny_world, tmp_path / "run", "--videos", tiny_world.videos)
    run(tiny_world, tmp_path / "run", "--videos", tiny_world.videos, "--limit", 2)
    assert sorted(os.listdir(tmp_path / "run" / "poses")) == ["clip0.npz", "clip1.npz"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--videos", "nowhere"], ["nowhere", "does not exist"]),
        (["--videos", "{videos}", "--protocol", "ma2d-fixd"], ["Did you mean", "macebench ls protocols"]),
        (["--videos", "{videos}", "--metric", "fid_q"], ["unknown metric", "macebench ls metrics"]),
        (["--videos", "{videos}", "--pose", "openpose"], ["unknown pose", "macebench ls poses"]),
        (["--videos", "{videos}", "--workers", "0"], ["--workers is 0"]),
        (["--videos", "{videos}", "--limit", "0"], ["--limit is 0"]),
        (["--videos", "{videos}", "--engine", "slurm"], ["--engine is 'slurm'"]),
        (["--videos", "{videos}", "--plugin", "none.py"], ["none.py", "does not exist"]),
        (["--videos", "{videos}", "--reference", "{videos}:test"], ["no splits"]),
        ([], ["nothing to score"]),
        (["--model", "grond-truth"], ["Did you mean 'ground-truth'"]),
        (["--videos", "{videos}", "--model", "frozen"], ["is a calibration model"]),
        (["--videos", "{videos}", "--plan", "--workers", "0"], ["--workers is 0"]),
        (["--videos", "{videos}", "--music", "{poses}"], ["no sound file in"]),
        (["--videos", "{videos}", "--poses", "{poses}", "--out", "{videos}/clip0.mp4/x"], ["cannot write in"]),
        (["--vidoes", "x"], ["--vidoes"]),
    ],
)
def test_wrong_input_exits_2_with_one_clear_error(tmp_path, tiny_world, options, words):
    filled = [word.format(videos=tiny_world.videos, poses=tiny_world.poses) for word in options]
    call = [sys.executable, "-m", "macebench", "eval", "--reference", str(tiny_world.videos), *filled]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_debug_shows_the_traceback(tmp_path, tiny_world):
    call = [sys.executable, "-m", "macebench", "eval", "--reference", "nowhere", "--videos", "x", "--debug"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--videos", "a", "--align", "resize"], "--align cannot be used without --track animation"),
        (["--videos", "a", "--align", "resize", "--pairs", "p.csv"], "--align, --pairs cannot be used without"),
        (["--videos", "a", "--seed", "0"], "--seed cannot be used with --videos"),
        (["--motions", "a", "--seed", "1"], "--seed cannot be used with --motions"),
        (["--videos", "a", "--model", "mace-dance"], "--model mace-dance cannot be used with --videos"),
        (["--track", "animation", "--videos", "a", "--model", "mace-dance"], "--model mace-dance cannot be used with"),
        (["--motions", "a", "--model", "random-phrases"], "--model random-phrases cannot be used with --motions"),
        (["--model", "mace-danse"], "unknown model 'mace-danse'. Did you mean 'mace-dance'"),
    ],
)
def test_options_that_would_be_ignored_are_refused(capfd, tiny_world, tmp_path, words, text):
    from macebench.cli import main

    assert main(["eval", "--reference", str(tiny_world.videos), "--out", str(tmp_path / "run"), *words]) == 2
    assert text in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_missing_weights_name_the_command(tmp_path, tiny_world):
    base = [
        sys.executable,
        "-m",
        "macebench",
        "eval",
        "--reference",
        str(tiny_world.videos),
        "--out",
        str(tmp_path / "r"),
    ]
    env = {**os.environ, "MACEBENCH_WEIGHTS": str(tmp_path / "weights")}
    call = [*base, "--videos", str(tiny_world.videos)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 2, "all but one metric of ma2d-fixed need a pose"
    assert "macebench weights pull" in done.stderr


@pytest.mark.slow
def test_kill_9_and_run_again_gives_the_same_bytes(tmp_path, tiny_world_many):
    world = tiny_world_many
    undisturbed = tmp_path / "undisturbed"
    env = {**os.environ, "MACEBENCH_STORE": str(tmp_path / "store0")}
    start = time.monotonic()
    subprocess.run(command(world, undisturbed, "--videos", world.videos), env=env, check=True, capture_output=True)
    whole = time.monotonic() - start
    out = tmp_path / "killed"
    env["MACEBENCH_STORE"] = str(tmp_path / "store1")
    rng = np.random.default_rng(0)
    for share in rng.uniform(0.1, 0.9, 5):
        child = subprocess.Popen(
            command(world, out, "--videos", world.videos), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(share * whole)
        child.send_signal(signal.SIGKILL)
        child.wait()
    done_before = len(list((tmp_path / "store1" / "pose").rglob("*.npz")))
    subprocess.run(command(world, out, "--videos", world.videos), env=env, check=True, capture_output=True)
    assert folder_bytes(out) == folder_bytes(undisturbed)
    decoded = json.loads((out / "timing.json").read_text())["clips"]
    assert len(decoded) <= world.n - done_before
