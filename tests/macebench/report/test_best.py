"""Which value of a column is marked best, where the column is an extrapolated distance."""

import math

import pytest

from macebench.protocol import load_protocol
from macebench.report.model import ColumnView, RowView, Section
from macebench.report.tables import best_cost
from macebench.results import ScoreRecord


def best(*values, name="fvd_infinity", note=""):
    column = ColumnView(name, "1", "lower", "")
    notes = {note: 3} if note else {}
    rows = [
        RowView(str(k), "other", "", 3, {name: ScoreRecord(name=name, value=value, n=3, n_unscored=0, unit="1",
                                                           better="lower", reasons={}, notes=notes)})
        for k, value in enumerate(values)
    ]  # fmt: skip
    return best_cost(column, Section(load_protocol("animation/1"), [column], rows, []), rows)


def test_a_distance_below_0_is_not_the_best_and_neither_is_what_stands_beside_it():
    assert best(3.0, 5.0) == 3.0
    assert math.isnan(best(-287.0, 464.0))
    assert best(-0.2, 0.4, name="kid_k") == -0.2


@pytest.mark.parametrize("name", ["fid_infinity_k", "fid_infinity_g"])
def test_what_is_extrapolated_from_too_few_clips_has_no_best(name):
    from macebench.metrics._sets import UNSURE

    assert best(3.0, 5.0, name=name) == 3.0
    assert math.isnan(best(3.0, 5.0, name=name, note=f"n 12 below 5 x 72 features: {UNSURE}"))
