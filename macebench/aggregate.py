"""From per-clip values to scores: the one place where a run and its verification compute the same number.

Input are the rows of ``clips.parquet`` (`macebench.tables.read_clips`) of one model under one protocol, and
the rows of that protocol's reference set. Rows are sorted by clip id, so their order does not matter.

- A *clip* metric's column is the mean over the clips with a finite value, summed exactly (`math.fsum`). A column that
  names a `weight` is the mean weighted by that other column; a clip without a positive weight has no value then. Where
  the weights differ a note gives the plain mean, too: VBench reports that one on several GPUs.
- A *set* metric gets the feature vectors of both sets. ``n`` counts the generated clips that have the
  feature. With fewer than two vectors on either side there is no value.
- Every clip is counted once in each score: in ``n``, or in ``n_unscored`` under a reason. Reasons of a clip
  metric are stored under the column's name, those of a set metric under ``feature.<name>``. A set metric's
  own note counts for all clips that it was computed from. One that fails costs its own value, not the run.
"""

from __future__ import annotations

import json
import math
import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from macebench import registry
from macebench.errors import Unscorable
from macebench.protocol import Protocol
from macebench.registry import Column, Metric
from macebench.results import FEATURE_PREFIX
from macebench.types import FeatureSet, FloatArray, Score

if TYPE_CHECKING:
    import pandas as pd

MIN_SET = 2
TOO_FEW_GENERATED = "fewer than 2 clips with features"
TOO_FEW_REFERENCE = "reference has fewer than 2 clips with features"
NO_REASON = "no reason given"
NOT_FINITE = "value is not finite"
NO_WEIGHT = "value has no weight"
UNWEIGHTED = "plain mean over clips"
FEATURE_NOT_FINITE = "feature is not finite"


@dataclass(frozen=True)
class _Row:
    """One clip, with its JSON cells parsed."""

    clip_id: str
    cells: Mapping[str, Any]
    reasons: Mapping[str, str]
    notes: Mapping[str, str]


def aggregate(
    clips: pd.DataFrame, reference: pd.DataFrame, protocol: Protocol, metrics: Sequence[Metric]
) -> list[Score]:
    """The scores of one model under one protocol.

    Args:
        clips: Generated rows of one model and one protocol hash.
        reference: Reference rows of that protocol.
        protocol: The resolved protocol.
        metrics: What to compute; the scores follow this order, and each metric's own order of columns.

    Returns:
        One score for each column of each metric; its value is NaN when nothing could be scored.
    """
    generated, other = _rows(clips), _rows(reference)
    scores: list[Score] = []
    for metric in metrics:
        if metric.feature is None:
            scores += [_clip_score(generated, column, protocol.hash) for column in metric.columns]
        else:
            scores += _set_scores(generated, other, metric, protocol)
    return scores


def reference_scores(reference: pd.DataFrame, protocol: Protocol, metrics: Iterable[Metric]) -> list[Score]:
    """The reference set's own values of the columns in which nearer to the reference is better.

    Args:
        reference: Reference rows of the protocol.
        protocol: The resolved protocol.
        metrics: Metrics of the run.

    Returns:
        One score for each column whose ``better`` is ``reference``; NaN where the reference has no value.
    """
    wanted = [metric for metric in metrics if any(column.better == "reference" for column in metric.columns)]
    scores = aggregate(reference, reference, protocol, wanted)
    return [score for score in scores if score.better == "reference"]


def metrics_of(
    protocol: Protocol, columns: Iterable[str] = (), recorded: Iterable[str] = ()
) -> tuple[list[Metric], list[str]]:
    """The metrics that stand behind the columns of a row, and the columns that no registered metric has.

    One column name may belong to several metrics (``fid_k`` of a video, and of a motion in space). The protocol's own
    metrics come first, then those that the run recorded, then others, those of the protocol's track before the rest.

    Args:
        protocol: The resolved protocol.
        columns: Names of columns; those that the protocol's own metrics report need not be among them.
        recorded: Names of metrics that the run used (`macebench.results.RunResult.metric_versions`).
    """
    known = registry.names("metrics")
    metrics = [registry.get_metric(name) for name in protocol.metrics if name in known]
    used = [name for name in recorded if name in known]
    lost: list[str] = []
    for column in columns:
        if has_column(metrics, column):
            continue
        found = _metric_with(column, used, protocol) or _metric_with(column, known, protocol)
        metrics += [found] if found is not None else []
        lost += [column] if found is None else []
    return metrics, lost


def has_column(metrics: Iterable[Metric], column: str) -> bool:
    """Whether one of `metrics` reports `column`."""
    return any(item.name == column for metric in metrics for item in metric.columns)


def _metric_with(column: str, names: Iterable[str], protocol: Protocol) -> Metric | None:
    def order(metric: Metric) -> tuple[bool, bool, str]:
        in_space = "motion" in metric.needs
        return in_space != (protocol.track == "motion-3d"), not column.startswith(metric.name), metric.name

    found = [metric for metric in map(registry.get_metric, names) if has_column([metric], column)]
    return min(found, key=order, default=None)


def _rows(table: pd.DataFrame) -> list[_Row]:
    records: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    rows = [
        _Row(str(record["clip_id"]), record, json.loads(record["reasons"]), json.loads(record["notes"]))
        for record in records
    ]
    return sorted(rows, key=lambda row: row.clip_id)


def _clip_score(rows: Sequence[_Row], column: Column, protocol_hash: str) -> Score:
    values: list[float] = []
    weights: list[float] = []
    reasons: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    for row in rows:
        value = float(row.cells.get(column.name, math.nan))
        weight = 1.0 if column.weight is None else float(row.cells.get(column.weight, math.nan))
        if math.isfinite(value) and not (math.isfinite(weight) and weight > 0):
            reasons[NO_WEIGHT] += 1
        elif math.isfinite(value):
            values.append(value)
            weights.append(weight)
            notes.update(_present(row.notes.get(column.name)))
        else:
            reasons[_reason(row, column.name, value)] += 1
    mean = math.fsum(map(operator.mul, values, weights)) / math.fsum(weights) if values else math.nan
    if len(set(weights)) > 1:
        notes[f"{UNWEIGHTED}: {math.fsum(values) / len(values):.10g}"] += len(values)
    return _score(column, mean, len(values), protocol_hash, reasons=reasons, notes=notes)


def _reason(row: _Row, key: str, value: float = math.nan) -> str:
    return row.reasons.get(key) or (NOT_FINITE if math.isinf(value) else NO_REASON)


def _present(note: str | None) -> list[str]:
    return [note] if note else []


@dataclass(frozen=True)
class _Vectors:
    """The clips of a set that have a feature, and why the others have none."""

    clip_ids: tuple[str, ...]
    values: tuple[FloatArray, ...]
    reasons: Counter[str]
    notes: Counter[str]

    @property
    def n(self) -> int:
        return len(self.values)

    def feature_set(self) -> FeatureSet:
        return FeatureSet(np.stack(self.values), self.clip_ids)


def _set_scores(
    generated: Sequence[_Row], reference: Sequence[_Row], metric: Metric, protocol: Protocol
) -> list[Score]:
    key = f"{FEATURE_PREFIX}{metric.feature}"
    width = protocol.pixels.fvd_features if protocol.pixels is not None else None
    mine, theirs = _vectors(generated, key, width), _vectors(reference, key, width)
    values, note, problem = _compute(metric, mine, theirs, protocol)
    notes = mine.notes + Counter({note: mine.n} if note else {})
    scores = []
    for column in metric.columns:
        value = values.get(column.name, math.nan)
        if math.isfinite(value):
            score = _score(column, value, mine.n, protocol.hash, reasons=mine.reasons, notes=notes)
        else:
            lost = Counter({problem or NOT_FINITE: mine.n} if mine.n else {})
            score = _score(column, math.nan, 0, protocol.hash, reasons=mine.reasons + lost)
        scores.append(score)
    return scores


def _vectors(rows: Iterable[_Row], key: str, width: int | None) -> _Vectors:
    """The vectors of a feature; a cell of several vectors of `width` numbers counts as several clips."""
    found: list[tuple[str, FloatArray]] = []
    reasons: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    for row in rows:
        cell = row.cells.get(key)
        vector = np.asarray(cell, dtype=np.float64) if isinstance(cell, np.ndarray | list | tuple) else None
        if vector is None:
            reasons[_reason(row, key)] += 1
        elif not np.isfinite(vector).all():
            reasons[FEATURE_NOT_FINITE] += 1
        elif width is None:
            found.append((row.clip_id, vector))
            notes.update(_present(row.notes.get(key)))
        else:
            parts = vector.reshape(-1, width)
            found += [(f"{row.clip_id}#{index:06d}", part) for index, part in enumerate(parts)]
            notes.update(_present(row.notes.get(key)) * len(parts))
    return _Vectors(tuple(name for name, _ in found), tuple(vector for _, vector in found), reasons, notes)


def _compute(metric: Metric, mine: _Vectors, theirs: _Vectors, protocol: Protocol) -> tuple[dict[str, float], str, str]:
    """Values by column, the metric's own note, and the reason when it has no value."""
    if mine.n < MIN_SET or theirs.n < MIN_SET:
        return {}, "", TOO_FEW_GENERATED if mine.n < MIN_SET else TOO_FEW_REFERENCE
    try:
        values, note = values_of(metric, metric.compute(mine.feature_set(), theirs.feature_set(), protocol))
    except Unscorable as error:
        return {}, "", error.reason
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it costs its own value
        return {}, "", f"metric failed: {type(error).__name__}: {error}"
    return values, note, ""


def values_of(metric: Metric, result: Any) -> tuple[dict[str, float], str]:
    """Values by column, and the note, of what a metric's function returned.

    Raises:
        ValueError: it returned other columns than it declared.
        TypeError: it returned something that is no number.
    """
    if not isinstance(result, Mapping):
        return {metric.columns[0].name: float(result)}, ""
    given = {str(name): float(value) for name, value in result.items() if name != "note"}
    expected = {column.name for column in metric.columns}
    if given.keys() != expected:
        raise ValueError(f"it returned {sorted(given)}, its columns are {sorted(expected)}")
    return given, str(result.get("note") or "")


def _score(
    column: Column,
    value: float,
    n: int,
    protocol_hash: str,
    *,
    reasons: Mapping[str, int],
    notes: Mapping[str, int] | None = None,
) -> Score:
    return Score(
        column.name, value, n, sum(reasons.values()), column.unit, column.better, protocol_hash,
        dict(sorted(reasons.items())), dict(sorted((notes or {}).items())),
    )  # fmt: skip
