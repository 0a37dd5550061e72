"""The appearance track as a user runs it on a machine without weights."""

import json
import os
import subprocess
import sys

import pytest

from macebench.extract import clip_ingredients, lacking_weights, own_ingredients
from macebench.prepare import UNKNOWN, EvalConfig, prepare
from macebench.registry import frame_statistic

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
