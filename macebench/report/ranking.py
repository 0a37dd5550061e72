"""The clips of a section, worst first.

Worst first means: clips with more unscored values before others; among equals, by the mean rank over the clip's
values. A value's rank follows its direction; where the direction is *reference*, what counts is the distance from
the reference set's mean. Each feature adds the clip's distance from the reference's mean, in its deviations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from macebench.report.model import ClipView, ColumnView
from macebench.results import FEATURE_PREFIX
from macebench.tables import value_columns
from macebench.types import Better, FloatArray

if TYPE_CHECKING:
    import pandas as pd

_CONSTANT = 1e-6


def ranked_clips(generated: pd.DataFrame, reference: pd.DataFrame, columns: Sequence[ColumnView]) -> list[ClipView]:
    """The clips of the evaluated model, worst first.

    Args:
        generated: Their rows of ``clips.parquet`` under one protocol.
        reference: The rows of that protocol's reference set.
        columns: Score columns, in the order in which a clip shows them.
    """
    known = value_columns(generated)
    shown = [column for column in columns if column.name in known]
    features = [
        str(name) for name in generated.columns if _is_feature(name) and _any_vector(generated, reference, name)
    ]
    spreads = {name: _spread(reference[name]) for name in features}
    clips = [_clip(row, shown, spreads) for row in generated.to_dict("records")]
    return worst_first(clips, shown, {column.name: _mean(reference[column.name]) for column in shown})


def _is_feature(name: object) -> bool:
    return str(name).startswith(FEATURE_PREFIX)


def _any_vector(generated: pd.DataFrame, reference: pd.DataFrame, name: object) -> bool:
    """Whether any clip of either set has the feature, or a reason why it has none: others' columns are empty."""
    return any(
        isinstance(cell, np.ndarray) or str(name) in json.loads(reasons)
        for table in (generated, reference)
        for cell, reasons in zip(table[str(name)], table["reasons"], strict=True)
    )


def _clip(
    row: Mapping[Any, Any], columns: Iterable[ColumnView], spreads: Mapping[str, tuple[FloatArray, FloatArray] | None]
) -> ClipView:  # fmt: skip
    distances = {
        name.removeprefix(FEATURE_PREFIX): _distance(row[name], spread) for name, spread in spreads.items()
    }  # fmt: skip
    return ClipView(
        str(row["clip_id"]), str(row["sha256"]), float(row["duration_s"]),
        {column.name: float(row[column.name]) for column in columns}, distances,
        json.loads(row["reasons"]), json.loads(row["notes"]),
    )  # fmt: skip


def _spread(cells: Iterable[Any]) -> tuple[FloatArray, FloatArray] | None:
    """Mean and deviation of the reference's vectors; constant dimensions get an infinite deviation."""
    vectors = [cell for cell in cells if isinstance(cell, np.ndarray)]
    if len(vectors) < 2:
        return None
    stacked = np.stack(vectors)
    deviation = stacked.std(axis=0)
    return stacked.mean(axis=0), np.where(deviation > _CONSTANT, deviation, np.inf)


def _distance(cell: object, spread: tuple[FloatArray, FloatArray] | None) -> float:
    if spread is None or not isinstance(cell, np.ndarray) or cell.shape != spread[0].shape:
        return math.nan
    varying = np.isfinite(spread[1])
    if not varying.any():
        return math.nan
    return float(np.sqrt(np.mean(((cell - spread[0]) / spread[1])[varying] ** 2)))


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def worst_first(clips: Sequence[ClipView], columns: Iterable[ColumnView], aims: Mapping[str, float]) -> list[ClipView]:
    """The clips in the order of the module's text; `aims` are the reference's means by column."""
    costs: list[list[float]] = []
    for column in columns:
        values = [clip.values[column.name] for clip in clips]
        aim = aims[column.name] if math.isfinite(aims[column.name]) else _mean(values)
        costs.append([_cost(value, column.better, aim) for value in values])
    for name in clips[0].distances if clips else ():
        costs.append([clip.distances[name] for clip in clips])
    places = [ranks(cost) for cost in costs]
    badness = [_mean(place[index] for place in places) for index in range(len(clips))]
    keys = [
        (-clip.n_unscored, -bad if math.isfinite(bad) else 0.0, clip.clip_id)
        for clip, bad in zip(clips, badness, strict=True)
    ]
    return [clip for _, clip in sorted(zip(keys, clips, strict=True), key=lambda pair: pair[0])]


def _cost(value: float, better: Better, aim: float) -> float:
    return -value if better == "higher" else value if better == "lower" else abs(value - aim)


def ranks(values: Sequence[float]) -> list[float]:
    """Share of the other finite values that are smaller; ties count half; NaN stays NaN."""
    finite = np.asarray([value for value in values if math.isfinite(value)])
    others = max(len(finite) - 1, 1)

    def rank(value: float) -> float:
        smaller, equal = np.sum(finite < value), np.sum(finite == value) - 1
        return float(smaller + 0.5 * equal) / others

    return [rank(value) if math.isfinite(value) else math.nan for value in values]
