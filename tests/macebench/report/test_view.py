import json
import math

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.report.view import ClipView, ColumnView, RunView, _ranks, _worst_first, load_view


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


def clip(name, **values):
    return ClipView(name, "", 1.0, values, {}, {}, {})


@pytest.mark.parametrize(
    ("better", "order"),
    [
        ("higher", ["low", "mid", "top"]), ("lower", ["top", "mid", "low"]), ("reference", ["top", "low", "mid"]),
    ],
)  # fmt: skip
def test_worst_follows_the_direction(better, order):
    clips = [clip("mid", x=5.0), clip("low", x=1.0), clip("top", x=11.0)]
    ordered = _worst_first(clips, [ColumnView("x", "1", better, "")], {"x": 5.5})
    assert [item.clip_id for item in ordered] == order


def test_equal_clips_are_ordered_by_name():
    clips = [clip("b", x=1.0), clip("a", x=1.0)]
    assert [item.clip_id for item in _worst_first(clips, [ColumnView("x", "1", "higher", "")], {"x": 0.0})] == [
        "a",
        "b",
    ]


def test_ranks_are_shares_and_ties_are_halved():
    assert _ranks([3.0, 1.0, 2.0]) == [1.0, 0.0, 0.5]
    assert _ranks([1.0, 1.0]) == [0.5, 0.5]
    assert math.isnan(_ranks([math.nan, 1.0])[0])
    assert _ranks([4.0]) == [0.0]


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
