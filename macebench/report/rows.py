"""The rows of a section: models, calibration models and the reference set itself, with intervals and activity.

Intervals are of means over clips: a clustered bootstrap (`macebench.metrics.statistics.bootstrap_mean`), in which all
clips of one piece of music are drawn together. A column that weights its clips has the interval of its weighted mean.
Clips whose music has no file of its own are grouped by their own file, so that the windows of one motion stay together.
Intervals are computed from ``clips.parquet`` whenever the page is written and stored nowhere, with fewer resamples for
thousands of clusters. Scores of whole sets have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from macebench.aggregate import aggregate
from macebench.protocol import Protocol
from macebench.registry import Metric
from macebench.report.activity import FROZEN_SHARE, MOTION_ENERGY, barely_moves, describe
from macebench.report.groups import SHARES
from macebench.report.model import RowKind, RowView
from macebench.report.numbers import incomplete
from macebench.results import Entry, ScoreRecord
from macebench.tables import value_columns
from macebench.types import FloatArray

if TYPE_CHECKING:
    import pandas as pd

    from macebench.metrics.statistics import Interval

TRUTH = "reference set"
SEED = 0
MOST_RESAMPLES, LEAST_RESAMPLES = 2000, 400
_DRAWS = 1_000_000


Weights = Mapping[str, str]
"""The column that weights the clips of another column, by the name of that one."""


def weights_of(metrics: Iterable[Metric]) -> dict[str, str]:
    """The weighted columns of the metrics."""
    columns = [column for metric in metrics for column in metric.columns]
    return {column.name: column.weight for column in columns if column.weight is not None}


def model_rows(entries: Iterable[Entry], model: str, clips: pd.DataFrame, weights: Weights) -> list[RowView]:
    """A row for each entry; `model` is the evaluated one, `clips` the run's rows under this protocol."""

    def kind(entry: Entry) -> RowKind:
        if entry.model.name == model:
            return "evaluated"
        return "calibration" if entry.model.kind == "calibration" else "other"

    return [_row(entry, kind(entry), entry.model.name, clips, weights) for entry in entries]


def against_rows(
    entries: Iterable[Entry], model: str, name: str, clips: pd.DataFrame | None, weights: Weights
) -> list[RowView]:
    """The evaluated model of another run called `name`; without its per-clip table there are no intervals."""
    mine = [entry for entry in entries if entry.model.name == model]
    return [_row(entry, "against", f"{model} in {name}", clips, weights) for entry in mine]


def _row(entry: Entry, kind: RowKind, name: str, clips: pd.DataFrame | None, weights: Weights) -> RowView:
    scores = {score.name: score for score in entry.scores}
    found: dict[str, Interval] = {}
    if clips is not None:
        mine = clips[(clips["role"] == "generated") & (clips["model"] == entry.model.name)]
        found = intervals(mine, scores, weights)
    return RowView(name, kind, entry.model.summary, entry.n_clips, scores, incomplete(entry), found)


def reference_row(reference: pd.DataFrame, protocol: Protocol, metrics: Sequence[Metric]) -> list[RowView]:
    """The reference set's own values: of all clip metrics, and of sets where they are the aim. Empty without any."""
    wanted = [
        metric
        for metric in metrics
        if metric.feature is None or any(column.better == "reference" for column in metric.columns)
    ]
    scores = aggregate(reference, reference, protocol, wanted) if len(reference) else []
    sets = {column.name for metric in metrics if metric.feature is not None for column in metric.columns}
    kept = [score for score in scores if score.better == "reference" or score.name not in sets]
    records = {score.name: ScoreRecord.of(score) for score in kept}
    if not records:
        return []
    return [RowView(TRUTH, "reference", "The reference set's own values: the aim of ≈ columns.", len(reference),
                    records, intervals=intervals(reference, records, weights_of(metrics)))]  # fmt: skip


def aims_of(entries: Iterable[Entry], reference: Iterable[RowView]) -> dict[str, float]:
    """The reference set's own value of each column that aims at it: as stored, else as computed now."""
    records = {name: record for row in reference for name, record in row.scores.items()}
    computed = {
        name: record.value
        for name, record in records.items()
        if record.better == "reference" and record.value is not None
    }
    stored = {item.name: item.reference for entry in entries for item in entry.scores if item.reference is not None}
    return computed | stored


def intervals(rows: pd.DataFrame, columns: Iterable[str], weights: Weights | None = None) -> dict[str, Interval]:
    """95 % intervals of the means of the value columns among `columns` that vary over at least two clusters.

    Args:
        rows: Rows of ``clips.parquet``.
        columns: Names of columns.
        weights: The column that weights another one's clips; a clip without a positive weight does not count.
    """
    from macebench.metrics.statistics import bootstrap_mean

    known = set(value_columns(rows))
    clusters = np.array(
        [
            str(music or own or clip)
            for music, own, clip in zip(rows["music_sha256"], rows["sha256"], rows["clip_id"], strict=True)
        ],
        dtype=object,
    )
    found = {}
    for name in columns:
        if name not in known:
            continue
        values, heavy = rows[name].to_numpy(dtype=np.float64), _weights(rows, (weights or {}).get(name))
        used = np.isfinite(values) & np.isfinite(heavy) & (heavy > 0)
        groups = list(clusters[used])
        n_groups = len(set(groups))
        if n_groups > 1:
            count = min(max(_DRAWS // n_groups, LEAST_RESAMPLES), MOST_RESAMPLES)
            one = bootstrap_mean(values[used], weights=heavy[used], clusters=groups, n_resamples=count, seed=SEED)
            found[name] = within(name, one)
    return found


def _weights(rows: pd.DataFrame, column: str | None) -> FloatArray:
    """(N,) what the rows weigh: 1 without a weight; NaN where the table has no such column."""
    if column is None or column not in rows:
        return np.full(len(rows), 1.0 if column is None else np.nan)
    return rows[column].to_numpy(dtype=np.float64)


def within(name: str, interval: Interval) -> Interval:
    """The interval without what a share cannot be: below 0 or above 1."""
    if name not in SHARES:
        return interval
    return replace(interval, low=min(max(interval.low, 0.0), 1.0), high=min(max(interval.high, 0.0), 1.0))


def with_activity(rows: Iterable[RowView], truth: Iterable[RowView]) -> list[RowView]:
    """The rows, those marked that barely move beside the reference set's row."""
    aims = next(iter(truth), None)
    return [replace(row, still=_still(row, aims)) if aims is not None else row for row in rows]


def _still(row: RowView, truth: RowView) -> str:
    share, aim = row.value(FROZEN_SHARE), truth.value(FROZEN_SHARE)
    if row.kind == "reference" or not barely_moves(share, aim):
        return ""
    return describe(share, aim, row.value(MOTION_ENERGY), truth.value(MOTION_ENERGY))
