import json
import math
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macebench.aggregate import (
    FEATURE_NOT_FINITE,
    NO_REASON,
    NO_WEIGHT,
    NOT_FINITE,
    TOO_FEW_GENERATED,
    TOO_FEW_REFERENCE,
    UNWEIGHTED,
    aggregate,
    metrics_of,
    reference_scores,
)
from macebench.errors import Unscorable
from macebench.protocol import load_protocol
from macebench.registry import Column, Metric

PROTOCOL = load_protocol("ma2d-fixed/1")
MEAN = Metric("x", lambda evidence, protocol: 0.0, (Column("x", "px", "higher"),), frozenset())


def set_metric(compute, *columns):
    return Metric("s", compute, tuple(Column(name) for name in columns or ("s",)), frozenset(), feature="k")


def table(*rows):
    """A table from (clip id, x, vector or None, reasons, notes)."""
    return pd.DataFrame(
        {
            "clip_id": [row[0] for row in rows],
            "x": np.array([row[1] for row in rows], dtype=np.float64),
            "feature.k": pd.Series(
                [None if row[2] is None else np.asarray(row[2], float) for row in rows], dtype=object
            ),
            "reasons": [json.dumps(row[3]) for row in rows],
            "notes": [json.dumps(row[4]) for row in rows],
        }
    )


CLIPS = table(
    ("c", 4.0, [1, 2], {}, {"x": "odd"}),
    ("a", math.nan, None, {"x": "no music", "feature.k": "no person"}, {"x": "ignored"}),
    ("b", 1.0, [3, 4], {}, {"x": "odd", "feature.k": "short"}),
    ("d", math.inf, [5, 7], {}, {}),
    ("e", math.nan, [0, math.nan], {}, {}),
)


def test_a_clip_metric_is_the_mean_of_what_is_finite_and_everything_is_counted():
    (score,) = aggregate(CLIPS, CLIPS, PROTOCOL, [MEAN])
    assert (score.value, score.n, score.n_unscored) == (2.5, 2, 3)
    assert score.reasons == {"no music": 1, NOT_FINITE: 1, NO_REASON: 1}
    assert score.notes == {"odd": 2}
    assert (score.unit, score.better, score.protocol_hash) == ("px", "higher", PROTOCOL.hash)


WEIGHED = Metric("w", lambda *_: {}, (Column("x", weight="pairs"), Column("pairs", "frames")), frozenset())


def test_a_column_with_a_weight_is_the_weighted_mean_and_counts_clips_as_before():
    score, pairs = aggregate(CLIPS.assign(pairs=[30.0, 7.0, 10.0, 5.0, math.nan]), CLIPS, PROTOCOL, [WEIGHED])
    assert score.value == pytest.approx((4.0 * 30 + 1.0 * 10) / 40, abs=1e-15)
    assert (score.n, score.n_unscored, dict(score.notes)) == (2, 3, {"odd": 2, f"{UNWEIGHTED}: 2.5": 2})
    assert (pairs.value, pairs.n) == (13.0, 4)


@pytest.mark.parametrize("weight", [math.nan, 0.0, -1.0, math.inf])
def test_a_clip_without_a_weight_is_counted_and_left_out(weight):
    score = aggregate(CLIPS.assign(pairs=[weight, 1.0, 10.0, 1.0, 1.0]), CLIPS, PROTOCOL, [WEIGHED])[0]
    assert (score.value, score.n, score.n_unscored, score.reasons[NO_WEIGHT]) == (1.0, 1, 4, 1)
    alone = aggregate(CLIPS.iloc[:1].assign(pairs=[weight]), CLIPS, PROTOCOL, [WEIGHED])[0]
    assert (math.isnan(alone.value), alone.n, dict(alone.reasons)) == (True, 0, {NO_WEIGHT: 1})
    assert aggregate(CLIPS, CLIPS, PROTOCOL, [WEIGHED])[0].reasons[NO_WEIGHT] == 2


def test_equal_weights_are_the_plain_mean():
    same = aggregate(CLIPS.assign(pairs=80.0), CLIPS, PROTOCOL, [WEIGHED])[0]
    assert same.value == pytest.approx(2.5, abs=1e-15)
    assert not any(UNWEIGHTED in note for note in same.notes)


def test_a_set_metric_gets_the_vectors_in_the_order_of_the_clip_ids():
    seen = []

    def compute(generated, reference, protocol):
        seen.append((generated.clip_ids, generated.values.tolist(), len(reference), protocol.id))
        return {"one": 1.0, "two": 2.0, "note": "3 dropped"}

    one, two = aggregate(CLIPS, CLIPS.iloc[:3], PROTOCOL, [set_metric(compute, "one", "two")])
    assert seen == [(("b", "c", "d"), [[3, 4], [1, 2], [5, 7]], 2, "ma2d-fixed/1")]
    assert (one.value, two.value) == (1.0, 2.0)
    assert (one.n, one.n_unscored) == (3, 2)
    assert one.reasons == {"no person": 1, FEATURE_NOT_FINITE: 1}
    assert one.notes == {"3 dropped": 3, "short": 1}


@pytest.mark.parametrize(
    ("clips", "reference", "reason", "count"),
    [(CLIPS.iloc[:2], CLIPS, TOO_FEW_GENERATED, 1), (CLIPS, CLIPS.iloc[:1], TOO_FEW_REFERENCE, 3)],
)
def test_a_set_of_less_than_two_is_unscored(clips, reference, reason, count):
    (score,) = aggregate(clips, reference, PROTOCOL, [set_metric(lambda *sets: 1.0)])
    assert math.isnan(score.value)
    assert (score.n, score.n_unscored) == (0, len(clips))
    assert score.reasons[reason] == count


def failing(*sets):
    raise Unscorable("constant reference")


def breaking(*sets):
    raise np.linalg.LinAlgError("did not converge")


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (failing, "constant reference"),
        (breaking, "metric failed: LinAlgError: did not converge"),
        (lambda *sets: math.nan, NOT_FINITE),
        (lambda *sets: {"other": 1.0}, "metric failed: ValueError: it returned ['other'], its columns are ['s']"),
    ],
)
def test_a_set_metric_without_a_value_counts_every_clip(compute, reason):
    (score,) = aggregate(CLIPS, CLIPS, PROTOCOL, [set_metric(compute)])
    assert (score.n, score.n_unscored, score.reasons[reason], dict(score.notes)) == (0, 5, 3, {})


def test_a_model_without_clips_has_no_values():
    scores = aggregate(CLIPS.iloc[:0], CLIPS, PROTOCOL, [MEAN, set_metric(lambda *sets: 1.0)])
    assert [(score.n, score.n_unscored, math.isnan(score.value)) for score in scores] == [(0, 0, True)] * 2


def test_a_column_that_is_not_there_is_unscored():
    (score,) = aggregate(CLIPS.drop(columns="x"), CLIPS, PROTOCOL, [MEAN])
    assert (score.n, score.n_unscored) == (0, 5)


@given(
    values=st.lists(st.floats(-1e12, 1e12) | st.just(math.nan), min_size=0, max_size=12),
    seed=st.integers(0, 1000),
)
def test_the_order_of_rows_changes_no_bit_and_each_clip_counts_once(values, seed):
    rows = [(f"c{k:02}", value, [value, k], {}, {}) for k, value in enumerate(values)]
    shuffled = random.Random(seed).sample(rows, len(rows))
    metrics = [MEAN, set_metric(lambda generated, reference, protocol: float(generated.values[:, 0].sum()))]
    one = aggregate(table(*rows), table(*rows), PROTOCOL, metrics)
    two = aggregate(table(*shuffled), table(*shuffled), PROTOCOL, metrics)
    assert [repr(score) for score in one] == [repr(score) for score in two]
    assert all(score.n + score.n_unscored == len(values) for score in one)


def test_the_reference_sets_own_values_are_of_columns_that_aim_at_it():
    spread = set_metric(lambda generated, reference, protocol: float(np.ptp(generated.values)), "s")
    calls = []
    distance = Metric("d", lambda *sets: calls.append(sets), (Column("d", "1", "lower"),), frozenset(), feature="k")
    two = Metric("t", lambda *_: {}, (Column("x", "1", "reference"), Column("y", "1", "higher")), frozenset())
    found = reference_scores(CLIPS, PROTOCOL, [MEAN, distance, spread, two])
    assert [(score.name, score.value) for score in found] == [("s", 6.0), ("x", 2.5)]
    assert calls == []


def test_a_column_is_of_the_protocols_own_metric_whatever_its_name():
    metrics, lost = metrics_of(load_protocol("motion3d-fixed/1"), ["fid_k", "frozen_share", "charm"])
    by_column = {column.name: metric.name for metric in metrics for column in metric.columns}
    assert (by_column["fid_k"], by_column["frozen_share"]) == ("fid_k_3d", "activity_3d")
    assert lost == ["charm"]
    assert all("pose" not in metric.needs for metric in metrics)


@pytest.mark.parametrize(
    ("protocol", "recorded", "expected"),
    [
        ("ma2d-paper/1", (), "kid_k_2d"),
        ("aist-bailando/1", (), "kid_k_3d"),
        ("ma2d-paper/1", ("kid_k_3d", "no such metric"), "kid_k_3d"),
    ],
)
def test_another_column_is_of_what_the_run_recorded_or_of_the_protocols_track(protocol, recorded, expected):
    metrics, lost = metrics_of(load_protocol(protocol), ["kid_k", "kid_k_se"], recorded)
    assert (metrics[-1].name, lost) == (expected, [])


def test_a_protocols_own_metric_that_nobody_registered_is_left_out():
    protocol = PROTOCOL.model_copy(update={"metrics": ("nobody-made-this", "bas")})
    metrics, lost = metrics_of(protocol, ["bas_z"])
    assert ([metric.name for metric in metrics], lost) == (["bas"], [])
