import json
import math

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.report.model import RunView
from macebench.report.view import load_view

CLIP_COLUMNS_TWO_SIDED = (
    "bas", "bas_null", "bas_corrected", "bas_z", "beat_precision", "beat_recall", "beat_f",
    "temporal_flickering",
)  # fmt: skip


def section(run, **options) -> RunView:
    return load_view(run, **options).sections[0]


def test_rows_have_an_order_and_the_reference_set_its_own_values(make_run, tmp_path):
    models = (("mine", "video"), ("frozen", "calibration"), ("yours", "external"))
    rows = section(make_run(tmp_path / "run", models=models)).rows
    assert [(row.name, row.kind) for row in rows] == [
        ("mine", "evaluated"), ("yours", "other"), ("frozen", "calibration"), ("reference set", "reference"),
    ]  # fmt: skip
    reference = rows[-1]
    assert reference.n_clips == 6
    assert "fid_k" not in reference.scores
    expected = np.mean([0.5 + 0.1 * math.cos(k + 0.4) for k in range(6)])
    assert reference.value("bas") == pytest.approx(expected)


def test_columns_carry_what_the_metric_says(make_run, tmp_path):
    columns = {column.name: column for column in section(make_run(tmp_path / "run")).columns}
    assert columns["fid_k"].better == "lower"
    assert columns["bas_corrected"].summary.startswith("Beat alignment above chance")


def test_clips_that_lack_values_come_first(make_run, tmp_path):
    clips = section(make_run(tmp_path / "run", lost=("d",))).clips
    assert clips[0].clip_id == "d"
    assert clips[0].n_unscored == 10
    assert [clip.n_unscored for clip in clips[1:]] == [0] * 4
    assert math.isnan(clips[0].distances["kinetic_2d"])
    assert clips[0].reasons["feature.kinetic_2d"] == "no person"


def test_a_changed_run_is_noticed(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert load_view(run).warnings == []
    result = json.loads((run / "result.json").read_text("utf-8"))
    next(iter(result["protocols"].values()))["sampling"]["fps"] = 30.0
    result["clips_sha256"] = "00"
    (run / "result.json").write_text(json.dumps(result), "utf-8")
    first, second = load_view(run).warnings
    assert "SHA-256 differs" in first
    assert "has another hash" in second


def test_another_run_of_the_same_protocol_is_a_row(make_run, tmp_path):
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "older", shift=0.25)
    rows = section(run, against=other).rows
    assert [row.name for row in rows] == ["mine", "mine in older", "frozen", "reference set"]
    assert [row.kind for row in rows] == ["evaluated", "against", "calibration", "reference"]


def test_a_run_of_another_reference_does_not_compare(make_run, tmp_path):
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "older", reference_names=("r0", "r1"))
    with pytest.raises(UserError, match=r"share no protocol hash.*reference\.n: 6 != 2"):
        load_view(run, other)


def test_only_the_protocols_that_agree_are_compared(make_run, tmp_path):
    run = make_run(tmp_path / "run", protocols=("ma2d-fixed/1", "ma2d-paper/1"))
    sections = load_view(run, make_run(tmp_path / "older")).sections
    assert [sum(row.kind == "against" for row in item.rows) for item in sections] == [1, 0]
    assert sections[0].not_compared == []
    assert sections[1].not_compared == ["ma2d-paper/1 is not in the other run"]


def test_curves_and_timing_may_be_missing(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    (run / "curves.parquet").unlink()
    (run / "timing.json").write_text("[]")
    view = load_view(run)
    assert (view.curves, view.seconds) == ({}, {})


def test_a_protocol_that_is_no_protocol_is_a_user_error(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    result = json.loads((run / "result.json").read_text("utf-8"))
    next(iter(result["protocols"].values())).pop("sampling")
    (run / "result.json").write_text(json.dumps(result), "utf-8")
    with pytest.raises(UserError, match="is not valid"):
        load_view(run)


def test_a_motion_protocol_has_its_own_metrics_under_the_same_column_names(make_run, tmp_path):
    found = section(make_run(tmp_path / "run", protocols=("motion3d-fixed/1",)))
    columns = {column.name: column for column in found.columns}
    assert columns["motion_energy"].unit == "(m/s)^2"
    assert columns["foot_slide"].unit == "m/s"
    assert columns["bas"].summary
    assert all(column.summary for column in found.columns)
    assert [column.name for column in found.columns][:6] == [
        "fid_k", "fid_g", "kid_k", "kid_k_se", "kid_g", "kid_g_se",
    ]  # fmt: skip
    assert set(found.clips[0].distances) == {"kinetic_3d", "geometric_3d"}


def test_features_of_another_protocol_are_no_columns_of_a_clip(make_run, tmp_path):
    run = make_run(tmp_path / "run", protocols=("ma2d-fixed/1", "motion3d-fixed/1"))
    two, three = load_view(run).sections
    assert set(two.clips[0].distances) == {"kinetic_2d", "geometric_2d"}
    assert set(three.clips[0].distances) == {"kinetic_3d", "geometric_3d"}


def test_the_reference_sets_values_are_the_stored_ones_or_computed_for_an_old_run(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    stored = section(run).aims
    assert set(stored) == {"div_k", "div_g", *CLIP_COLUMNS_TWO_SIDED}
    path = run / "result.json"
    result = json.loads(path.read_text("utf-8"))
    for entry in result["entries"]:
        for score in entry["scores"]:
            del score["reference"]
    del result["metric_versions"]
    path.write_text(json.dumps(result), "utf-8")
    assert section(run).aims == pytest.approx(stored)


def test_the_interval_of_a_share_stays_in_its_range():
    from macebench.metrics.statistics import Interval
    from macebench.report.rows import within

    wide = Interval(0.99, 0.97, 1.02, 0.01, 5, 5, 0.95)
    assert (within("pose_visibility", wide).low, within("pose_visibility", wide).high) == (0.97, 1.0)
    assert within("beat_f", Interval(0.01, -0.02, 0.03, 0.01, 5, 5, 0.95)).low == 0.0
    assert within("bas_z", wide) == wide


def test_intervals_are_clustered_by_music_and_otherwise_by_file():
    import pandas as pd

    from macebench.metrics.statistics import bootstrap_mean
    from macebench.report.rows import intervals

    values = [0.1, 0.4, 0.2, 0.9, 0.5, math.nan]
    table = pd.DataFrame(
        {
            "clip_id": ["a@0.000", "a@5.000", "b", "c", "d", "e"],
            "sha256": ["s1", "s1", "s2", "s3", "", "s5"],
            "music_sha256": ["", "", "m", "m", "", ""],
            "reasons": ["{}"] * 6,
            "notes": ["{}"] * 6,
            "x": values,
            "nothing": [math.nan] * 6,
        }
    )
    found = intervals(table, ["x", "nothing", "absent"])
    assert set(found) == {"x"}
    assert (found["x"].n, found["x"].n_clusters) == (5, 3)
    assert found["x"] == bootstrap_mean(values[:5], clusters=["s1", "s1", "m", "m", "d"], seed=0)
    assert intervals(table.iloc[:2], ["x"]) == {}
    weighted = table.assign(frames=[300.0, 30.0, 100.0, 0.0, 50.0, 10.0])
    of_frames = intervals(weighted, ["x"], {"x": "frames"})["x"]
    expected = (300 * 0.1 + 30 * 0.4 + 100 * 0.2 + 50 * 0.5) / 480
    assert (of_frames.mean, of_frames.n) == (pytest.approx(expected), 4)
    assert of_frames.low < expected < of_frames.high
    assert intervals(table, ["x"], {"x": "frames"}) == {}


def test_the_interval_of_a_weighted_score_is_of_the_score(make_run, tmp_path):
    rows = section(make_run(tmp_path / "run", protocols=("vbench6-fixed/1",))).rows
    for row in rows:
        for name in ("subject_consistency", "background_consistency", "imaging_quality"):
            assert row.intervals[name].mean == pytest.approx(row.value(name), rel=1e-12)
    lengths = rows[0].intervals["subject_pairs"]
    assert lengths.low < lengths.high


def test_the_reference_set_shows_its_own_clip_values_and_no_distance(make_run, tmp_path):
    reference = section(make_run(tmp_path / "run")).rows[-1]
    assert "temporal_flickering" in reference.scores
    assert "fid_k" not in reference.scores
    assert reference.intervals["bas"].n == 6


def test_metrics_of_another_version_are_a_caution(make_run, tmp_path):
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "older")
    result = json.loads((run / "result.json").read_text("utf-8"))
    assert result["metric_versions"]["fid_k"] == 1
    assert load_view(run, other).cautions == []
    result["metric_versions"] |= {"bas": 7, "feature.kinetic_2d": 3, "unknown": 2}
    (run / "result.json").write_text(json.dumps(result), "utf-8")
    bas, against, feature = load_view(run, other).cautions
    assert bas.startswith("bas was computed by version 7 of the metric")
    assert against == "bas does not compare with older: version 7 here, 1 there."
    assert feature.startswith("feature.kinetic_2d was computed by version 3")


def test_a_run_to_compare_with_needs_no_table_of_clips(make_run, tmp_path):
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "older", shift=0.25)
    assert section(run, against=other).rows[1].intervals["bas"].n == 5
    (other / "clips.parquet").unlink()
    assert section(run, against=other).rows[1].intervals == {}
