"""The appearance track as a user runs it on a machine without weights."""

import dataclasses
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from macebench.errors import UserError
from macebench.extract import clip_ingredients, lacking_weights, load_clip, own_ingredients, pose_ingredients
from macebench.prepare import UNKNOWN, EvalConfig, prepare
from macebench.protocol import load_protocol
from macebench.registry import frame_statistic
from macebench.run import plan_run
from macebench.store import Artifact
from macebench.types import Missing

COMMAND = "weights missing: macebench weights pull vbench6"
SCORED = ("temporal_flickering", "ms_flow", "dynamic_degree", "is_dynamic")


def macebench(*words, status):
    done = subprocess.run(
        [sys.executable, "-m", "macebench", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path / "no-weights"))


def test_without_weights_the_rest_is_scored_and_the_command_is_said(tmp_path, tiny_world, no_weights):
    run, board = tmp_path / "run", tmp_path / "board.csv"
    said = macebench(
        "eval", "--videos", tiny_world.videos, "--reference", tiny_world.videos, "--protocol", "vbench6-fixed/1",
        "--model", "mine", "--limit", 2, "--out", run, status=3,
    )  # fmt: skip
    assert f"2 x {COMMAND}" in said
    result = json.loads((run / "result.json").read_text())
    scores = {score["name"]: score for score in result["entries"][0]["scores"]}
    assert {name for name, score in scores.items() if score["n"]} == set(SCORED)
    assert all(scores[name]["value"] == scores[name]["reference"] for name in SCORED)
    assert 0.9 < scores["ms_flow"]["value"] < 1
    assert scores["dynamic_degree"]["value"] > 0
    lost = [score for name, score in scores.items() if name not in SCORED]
    assert len(lost) == 7
    assert all(score["reasons"] == {COMMAND: 2} and score["value"] is None for score in lost)
    assert next(iter(result["protocols"].values()))["pose_backend"] is None
    assert not (run / "poses").exists() or not os.listdir(run / "poses")
    assert COMMAND in (run / "report.html").read_text()
    macebench("leaderboard", "add", run, "--board", board, status=0)
    macebench("leaderboard", "verify", board, "--run", run, status=0)
    assert "mine" in board.read_text()


POSE = "weights missing: macebench weights pull blazepose"


def referee(world, run, *words, status):
    return macebench(
        "eval", "--videos", world.videos, "--reference", world.videos, "--model", "mine", "--limit", 2, "--no-report",
        "--out", run, *words, status=status,
    )  # fmt: skip


def test_without_pose_weights_what_needs_no_pose_is_scored(tmp_path, tiny_world, no_weights):
    run = tmp_path / "run"
    said = referee(tiny_world, run, "--protocol", "video-referee/1", status=3)
    assert f"2 x {POSE}" in said
    result = json.loads((run / "result.json").read_text())
    scores = {score["name"]: score for score in result["entries"][0]["scores"]}
    assert {name for name, score in scores.items() if score["n"] == 2} == set(SCORED)
    for name in ("video_foot_slide", "video_foot_contact", "frozen_share"):
        assert scores[name]["reasons"] == {POSE: 2}
    assert scores["identity_drift"]["reasons"] == {COMMAND: 2}
    backend = next(iter(result["protocols"].values()))["pose_backend"]
    assert (backend["name"], len(backend["weights_sha256"])) == ("blazepose", 64)
    config = EvalConfig(str(tiny_world.videos), run, videos=tiny_world.videos, protocols=("video-referee/1",), limit=2)
    found = prepare(config)
    assert (found.plan.pose, found.plan.pose_missing) == (None, POSE)
    assert plan_run(found).n_to_extract == 0
    unpinned = dataclasses.replace(config, pose="vitpose")
    assert prepare(unpinned).protocols[0].pose_backend.weights_sha256 == UNKNOWN
    assert prepare(unpinned).plan.pose_missing.startswith("weights missing: macebench weights pull ")


def test_without_pose_weights_poses_of_the_store_are_used(tmp_path, tiny_world, no_weights):
    config = EvalConfig(str(tiny_world.videos), tmp_path, videos=tiny_world.videos, protocols=("video-referee/1",))
    found = prepare(config)
    clip = found.clips[0]
    for key in clip_ingredients(clip, found.plan, None):
        found.store.put(key, Artifact({"value": np.zeros((3, 2))}, {"duration_s": 1.0}))
    assert load_clip(found.store, clip, found.plan, found.backend).pose == Missing(POSE)
    found.store.put(pose_ingredients(clip, found.backend), Artifact({}, {"missing": "no person", "duration_s": 1.0}))
    assert load_clip(found.store, clip, found.plan, found.backend).pose == Missing("no person")


def test_where_every_metric_needs_a_pose_missing_weights_are_an_error(tmp_path, tiny_world, no_weights):
    protocol = tmp_path / "feet.yaml"
    fields = load_protocol("video-referee/1").model_dump(mode="json") | {
        "name": "feet",
        "metrics": ["video_foot_slide"],
    }
    protocol.write_text(yaml.safe_dump(fields))
    call = ["eval", "--videos", tiny_world.videos, "--reference", tiny_world.videos, "--protocol", protocol, "--out",
            tmp_path / "run"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "macebench", *map(str, call)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "macebench weights pull blazepose" in done.stderr


def prepared(world, out, **how):
    return prepare(EvalConfig(str(world.videos), out, videos=world.videos, protocols=("vbench6/1",), **how))


def test_what_lacks_weights_is_not_planned(tmp_path, tiny_world, no_weights):
    found = prepared(tiny_world, tmp_path / "run")
    assert (found.plan.pose, found.backend, found.plan.statistics) == (None, None, ("frame_difference",))
    assert dict(found.plan.lacking) == dict.fromkeys(("amt_s", "clip_b32", "clip_l14", "dino_b16", "musiq"), COMMAND)


def test_the_protocol_says_the_networks_and_the_number_type(tmp_path, tiny_world, no_weights, monkeypatch):
    protocol = prepared(tiny_world, tmp_path / "run").protocols[0]
    assert set(protocol.frame_statistics) == {"amt_s", "clip_b32", "clip_l14", "dino_b16", "musiq"}
    assert protocol.frame_statistics["dino_b16"] == {"weights_sha256": UNKNOWN}
    assert len(protocol.frame_statistics["clip_l14"]["weights_sha256"]) == 64
    monkeypatch.setenv("MACEBENCH_DTYPE", "bfloat16")
    other = prepared(tiny_world, tmp_path / "run").protocols[0]
    assert "frame_statistics.clip_l14.dtype: float32 != bfloat16" in protocol.differences(other)


def test_weights_and_number_type_are_part_of_what_a_result_is_stored_under(tmp_path, tiny_world, monkeypatch):
    weights = {"sha256": "1" * 64}

    @frame_statistic("test-appearance-network")
    class Network:
        version = 1

        @classmethod
        def missing_weights(cls):
            return ["amt-s"] if not weights else []

        @classmethod
        def ingredients(cls):
            return {"weights_sha256": weights["sha256"]}

    found = prepared(tiny_world, tmp_path / "run")
    clip, plan = found.clips[0], found.plan
    plan = type(plan)(plan.store, None, {}, ("test-appearance-network",))
    first = clip_ingredients(clip, plan, None)[0]
    assert own_ingredients("test-appearance-network") == first.settings["ingredients"]
    weights["sha256"] = "2" * 64
    assert clip_ingredients(clip, plan, None)[0].key != first.key
    assert lacking_weights(["test-appearance-network", "frame_difference"]) == {}
    weights.clear()
    assert lacking_weights(["test-appearance-network"]) == {"test-appearance-network": COMMAND}
    assert (
        "ingredients"
        not in clip_ingredients(clip, type(plan)(plan.store, None, {}, ("frame_difference",)), None)[0].settings
    )


FAKES = Path(__file__).resolve().parents[1] / "models" / "appearance" / "test_vbench_package.py"


@pytest.fixture
def vbench_python(tmp_path, monkeypatch):
    """An interpreter with a fake vbench, and the values that it gives."""
    fakes = runpy.run_path(str(FAKES))
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "env").mkdir()
    return fakes["make_python"](tmp_path / "env", tmp_path / "cache"), fakes["VALUES"]


@pytest.mark.slow
def test_vbenchs_own_package_fills_the_rows_of_vbench6(tmp_path, tiny_world, no_weights, vbench_python, monkeypatch):
    python, values = vbench_python
    worlds_pairs = 4  # what the fake counts; the clips have more, so the count is told to agree
    fake = python.parent / "packages" / "vbench" / "background_consistency.py"
    run = tmp_path / "run"
    words = (
        "eval", "--videos", tiny_world.videos, "--reference", tiny_world.videos, "--protocol", "vbench6/1", "--model",
        "mine", "--limit", 2, "--out", run, "--vbench-python", python,
    )  # fmt: skip
    said = macebench(*words, status=3)
    assert "vbench saw other frames than the decoder" in said
    n = len(np.unique(pd.read_parquet(run / "clips.parquet")["clip_id"]))
    assert n == 2
    fake.write_text(fake.read_text().replace(f"else {worlds_pairs}", f"else {pairs_of(tiny_world)}"))
    said = macebench(*words, "--store", tmp_path / "other", status=0)
    assert "vbench6/1" in said
    assert "by vbench unknown" in " ".join(said.split())
    result = json.loads((run / "result.json").read_text())
    scores = {score["name"]: score["value"] for score in result["entries"][0]["scores"]}
    assert scores["imaging_quality"] == pytest.approx(values["imaging_quality"] / 100)
    for name in ("subject_consistency", "background_consistency", "motion_smoothness", "temporal_flickering"):
        assert scores[name] == pytest.approx(values[name])
    assert scores["subject_pairs"] == pairs_of(tiny_world)
    protocol = next(iter(result["protocols"].values()))
    assert protocol["vbench_package"]["torch"] == "0.0+fake"
    assert protocol["frame_statistics"] is None
    before = (run / "vbench.log").stat().st_size
    macebench(*words, "--store", tmp_path / "other", status=0)
    assert (run / "vbench.log").stat().st_size == before, "the store has the values"


def pairs_of(world):
    import cv2

    return int(cv2.VideoCapture(str(sorted(world.videos.rglob("*.mp4"))[0])).get(cv2.CAP_PROP_FRAME_COUNT)) - 1


@pytest.mark.parametrize("protocol", ["vbench6-fast/1", "ma2d-fixed/1"])
def test_vbenchs_own_package_computes_exact_appearance_only(tmp_path, tiny_world, protocol):
    with pytest.raises(UserError, match=f"cannot compute {protocol}"):
        prepare(
            EvalConfig(
                str(tiny_world.videos), tmp_path / "run", videos=tiny_world.videos, protocols=(protocol,),
                vbench_python=Path(sys.executable),
            )
        )  # fmt: skip


@pytest.mark.slow
def test_the_fast_protocol_is_never_in_one_table_with_the_exact_one(tmp_path, tiny_world, no_weights):
    runs = {}
    for name in ("vbench6/1", "vbench6-fast/1"):
        runs[name] = tmp_path / name.partition("/")[0]
        said = macebench(
            "eval", "--videos", tiny_world.videos, "--reference", tiny_world.videos, "--protocol", name, "--model",
            "mine", "--limit", 2, "--out", runs[name], status=3,
        )  # fmt: skip
        assert ("deviation from vbench6/1" in " ".join(said.split())) == (name == "vbench6-fast/1")
    exact, fast = (
        {score["name"]: score for score in json.loads((run / "result.json").read_text())["entries"][0]["scores"]}
        for run in runs.values()
    )
    assert exact["temporal_flickering"]["value"] == fast["temporal_flickering"]["value"]
    assert fast["subject_consistency"]["reasons"] == {COMMAND: 2}
    done = subprocess.run(
        [sys.executable, "-m", "macebench", "compare", *map(str, runs.values())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "protocol" in done.stdout + done.stderr
    board = tmp_path / "board.csv"
    for run in runs.values():
        macebench("leaderboard", "add", run, "--board", board, status=0)
    table = pd.read_csv(board)
    assert table["protocol_hash"].nunique() == 2
    shown = macebench("leaderboard", "show", board, status=0)
    assert "vbench6/1" in shown
    assert "vbench6-fast/1" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "cuda"), "no CUDA device"),
        (("--device", "tpu"), "device 'tpu' is not allowed"),
        (("--dtype", "float16", "--device", "cpu"), "dtype float16 needs a GPU"),
        (("--dtype", "int8"), "dtype 'int8' is not allowed"),
        (("--batch", "0"), "batch size '0' is not allowed"),
    ],
)
def test_options_that_are_not_allowed(tmp_path, tiny_world, monkeypatch, options, words):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "macebench", "eval", "--videos", str(tiny_world.videos), "--reference",
         str(tiny_world.videos), "--protocol", "vbench6/1", "--out", str(tmp_path / "run"), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in " ".join((done.stdout + done.stderr).split())


def test_options_reach_the_workers(tmp_path, tiny_world, no_weights, monkeypatch):
    from macebench.models.appearance._settings import overridden

    with overridden("cpu", None, "3"):
        plan = prepared(tiny_world, tmp_path / "run").plan
    assert dict(plan.networks).items() >= {"MACEBENCH_DEVICE": "cpu", "MACEBENCH_BATCH": "3"}.items()
    assert plan.networks.keys() - {"MACEBENCH_WEIGHTS"} == {"MACEBENCH_DEVICE", "MACEBENCH_BATCH"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--protocol", "vbench6/1", "--pose", "nonsense", "--poses", "/nonexist"),
         "--pose, --poses cannot be used: no metric of vbench6/1 looks at poses"),
        (("--protocol", "vbench6/1", "--pose-option", "garbage"), "--pose-option cannot be used"),
        (("--protocol", "vbench6-fixed/1", "--mmpose-python", "/nonexist"), "--mmpose-python cannot be used"),
        (("--protocol", "vbench6/1", "--motion-fps", -3),
         "--motion-fps cannot be used: no metric of vbench6/1 looks at 3-D motions"),
        (("--motion-fps", 30), "no metric of ma2d-fixed/1 looks at 3-D motions"),
        (("--pose", "vitpose", "--poses", "/nonexist"), "--pose vitpose and --poses name different pose back ends"),
        (("--protocol", "vbench6/1", "--protocol", "video-referee/1", "--pose", "nonsense"), "nonsense"),
        (("--protocol", "vbench6/1", "--metric", "video_foot_slide", "--pose", "nonsense"), "'nonsense'"),
    ],
)  # fmt: skip
def test_options_that_would_do_nothing_are_refused(tmp_path, tiny_world, words, expected):
    call = ["eval", "--videos", tiny_world.videos, "--reference", tiny_world.videos, "--out", tmp_path / "run", *words]
    done = subprocess.run(
        [sys.executable, "-m", "macebench", *map(str, call)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert expected in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
