import math

import pytest

from macebench.report.model import ClipView, ColumnView
from macebench.report.ranking import ranks, worst_first


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
    ordered = worst_first(clips, [ColumnView("x", "1", better, "")], {"x": 5.5})
    assert [item.clip_id for item in ordered] == order


def test_equal_clips_are_ordered_by_name():
    clips = [clip("b", x=1.0), clip("a", x=1.0)]
    assert [item.clip_id for item in worst_first(clips, [ColumnView("x", "1", "higher", "")], {"x": 0.0})] == [
        "a",
        "b",
    ]


def testranks_are_shares_and_ties_are_halved():
    assert ranks([3.0, 1.0, 2.0]) == [1.0, 0.0, 0.5]
    assert ranks([1.0, 1.0]) == [0.5, 0.5]
    assert math.isnan(ranks([math.nan, 1.0])[0])
    assert ranks([4.0]) == [0.0]
