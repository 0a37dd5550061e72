"""The evaluation loop from inside: what a user cannot see from the command line."""

import dataclasses
import json

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.extract import ClipPlan, extract_clip, load_clip, setup_clip_worker
from macebench.prepare import EvalConfig, prepare
from macebench.run import plan_run, row_models, transformed
from macebench.runfolder import evaluate
from macebench.store import Store
from macebench.types import Missing


def config(world, out, **changes):
    fields = {
        "reference": str(world.videos),
        "videos": world.videos,
        "out": out,
        "pose": "precomputed",
        "pose_settings": {"folder": world.poses},
    }
    return EvalConfig(**{**fields, **changes})


def test_prepare_resolves_the_protocol(tmp_path, tiny_world):
    prepared = prepare(config(tiny_world, tmp_path))
    protocol = prepared.protocols[0]
    assert protocol.pose_backend.name == "precomputed"
    assert protocol.reference.n == tiny_world.n
    assert prepared.plan.statistics == ("frame_difference",)
    assert len(prepared.clips) == tiny_world.n


def test_a_protocol_without_poses_needs_no_back_end(tmp_path, tiny_world):
    from macebench.protocol import load_protocol

    base = load_protocol("ma2d-fixed/1").model_dump(mode="json")
    file = tmp_path / "flicker.yaml"
    import yaml

    file.write_text(yaml.safe_dump({**base, "name": "flicker", "metrics": ["temporal_flickering"]}))
    result = evaluate(config(tiny_world, tmp_path / "run", protocols=(str(file),), pose="vitpose", pose_settings={}))
    assert result.entries[0].score("temporal_flickering").n == tiny_world.n
    assert next(iter(result.protocols.values()))["pose_backend"] is None


def test_the_plan_counts_what_is_left(tmp_path, tiny_world):
    store = tmp_path / "store"
    evaluate(config(tiny_world, tmp_path / "run", limit=2, store=store))
    planned = plan_run(prepare(config(tiny_world, tmp_path / "run", store=store)))
    assert (planned.n_generated, planned.n_to_extract, planned.n_sounds) == (6, 4, 4)
    assert planned.seconds is not None


def test_the_plan_knows_nothing_of_a_back_end_it_never_saw(tmp_path, tiny_world):
    store = tmp_path / "store"
    evaluate(config(tiny_world, tmp_path / "run", limit=2, store=store))
    prepared = prepare(config(tiny_world, tmp_path / "run", store=store))
    other = dataclasses.replace(prepared, backend=prepared.backend.model_copy(update={"name": "blazepose"}))
    assert plan_run(prepared).seconds is not None
    assert plan_run(other).seconds is None


def test_a_clip_is_decoded_once_for_all_takers(tmp_path, tiny_world, monkeypatch):
    from macebench import media
    from macebench.clips import load_set

    calls = []
    original = media.Decoder.frames

    def counting(self, path, **options):
        calls.append(path)
        return original(self, path, **options)

    monkeypatch.setattr(media.Decoder, "frames", counting)
    clip = load_set(tiny_world.videos, limit=1).clips[0]
    plan = ClipPlan(tmp_path / "store", "precomputed", {"folder": tiny_world.poses}, ("frame_difference",))
    setup_clip_worker(plan)
    assert extract_clip(clip).reason is None
    assert extract_clip(clip).reason is None
    assert len(calls) == 1
    backend = prepare(config(tiny_world, tmp_path)).backend
    found = load_clip(Store(tmp_path / "store"), clip, plan, backend)
    assert len(found.pose) == 45
    assert found.frames["frame_difference"].shape == (44,)
    assert found.duration_s == pytest.approx(3.0, abs=0.01)


def test_result_follows_its_schema_and_files_agree(tmp_path, tiny_world):
    from macebench.results import RunResult
    from macebench.tables import read_clips

    evaluate(config(tiny_world, tmp_path / "run", calibrate=("frozen",)))
    result = RunResult.read(tmp_path / "run")
    table = read_clips(tmp_path / "run" / "clips.parquet")
    assert len(table) == 3 * tiny_world.n
    for entry in result.entries:
        for score in entry.scores:
            assert score.n + score.n_unscored == entry.n_clips
    mine = table[(table["model"] == "external") & (table["role"] == "generated")]
    assert result.entries[0].score("bas").value == pytest.approx(mine["bas"].mean(), abs=1e-12)
    assert json.loads((tmp_path / "run" / "timing.json").read_text())["workers"] == 1


@pytest.mark.slow
def test_precomputed_poses_of_a_run_give_the_same_scores(tmp_path, tiny_world):
    one = evaluate(config(tiny_world, tmp_path / "one"))
    again = {"folder": tmp_path / "one" / "poses"}
    two = evaluate(config(tiny_world, tmp_path / "two", pose_settings=again))
    for a, b in zip(one.entries[0].scores, two.entries[0].scores, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-12)


def test_a_video_that_vanishes_costs_one_clip(tmp_path, tiny_world):
    prepared = prepare(config(tiny_world, tmp_path))
    from macebench.run import evidence_of, extract

    gone = dataclasses.replace(prepared.generated.clips[0], path=tmp_path / "gone.mp4", sha256="e" * 64)
    clips = (gone, *prepared.generated.clips[1:])
    prepared = dataclasses.replace(prepared, generated=dataclasses.replace(prepared.generated, clips=clips))
    evidence = evidence_of(prepared, clips, prepared.protocols[0], extract(prepared))
    assert evidence[0].frames == Missing("file not found")
    assert not isinstance(evidence[1].frames, Missing)


def test_external_rows_are_not_transformed(tmp_path, tiny_world):
    external, frozen = row_models(config(tiny_world, tmp_path, calibrate=("frozen",)))
    assert external.kind == "external"
    assert frozen.kind == "calibration"
    assert list(transformed(external, ())) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"limit": 0}, "--limit"), ({"pose": "nope"}, "unknown pose"), ({"protocols": ("nope/1",)}, "unknown protocol")],
)
def test_prepare_refuses_what_is_wrong(tmp_path, tiny_world, changes, words):
    with pytest.raises(UserError, match=words):
        prepare(config(tiny_world, tmp_path, **changes))


@pytest.mark.slow
def test_more_clips_change_no_value_of_the_others(tmp_path, tiny_world):
    from macebench.tables import read_clips

    evaluate(config(tiny_world, tmp_path / "few", limit=3, reference=f"{tiny_world.videos}"))
    evaluate(config(tiny_world, tmp_path / "all"))
    few = read_clips(tmp_path / "few" / "clips.parquet").set_index(["role", "clip_id"])
    whole = read_clips(tmp_path / "all" / "clips.parquet").set_index(["role", "clip_id"]).loc[few.index]
    for column in ("bas", "bas_null", "temporal_flickering"):
        assert np.array_equal(few[column], whole[column])
