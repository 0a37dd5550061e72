import math

import pytest

from macebench.report.activity import barely_moves, describe, entry_barely_moves, is_flattered
from macebench.results import Entry, ModelRecord, ScoreRecord


@pytest.mark.parametrize(
    ("share", "reference", "expected"),
    [
        (0.54, 0.1, False), (0.56, 0.1, True), (1.0, 0.0, True), (0.0, 0.0, False), (0.7, 0.6, False),
        (0.85, 0.6, True), (1.0, 1.0, False), (math.nan, 0.1, False), (0.9, math.nan, False),
    ],
)  # fmt: skip
def test_a_row_that_moves_less_than_half_as_often_barely_moves(share, reference, expected):
    assert barely_moves(share, reference) is expected


def entry(value, reference):
    record = ScoreRecord(name="frozen_share", value=value, n=3, n_unscored=0, unit="1", better="reference", reasons={},
                         notes={}, reference=reference)  # fmt: skip
    model = ModelRecord(name="m", kind="external")
    return Entry(model=model, protocol_hash="x", n_clips=3, scores=[record])


def test_a_row_of_a_result_says_it_only_with_both_values():
    assert entry_barely_moves(entry(0.9, 0.1))
    assert not entry_barely_moves(entry(0.2, 0.1))
    assert not entry_barely_moves(entry(0.9, None))
    assert not entry_barely_moves(entry(None, 0.1))


def test_energy_is_left_out_where_it_is_not_known():
    assert describe(0.9, 0.1, math.nan, 1.0) == "moves in 10 % of its frames (reference 90 %)"


def test_standing_still_flatters_distances_feet_and_pictures():
    assert [name for name in ("fid_k", "fsr", "temporal_flickering", "bas", "div_k") if is_flattered(name)] == [
        "fid_k", "fsr", "temporal_flickering",
    ]  # fmt: skip
