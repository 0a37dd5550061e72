"""The measuring part of the self-test: every column of every protocol, over random half splits, for each damage.

A split divides the clips at random: one half is *generated* (and damaged), the other half is the undamaged reference.
The features and values of a clip are computed once for each damage and strength and used in all splits. What a
damage does not touch is not computed again: a column that needs no music cannot change with the music.

`measure` runs in a worker process. It gets the inputs once, when the worker is made (`setup_worker`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench import registry
from macebench.aggregate import values_of
from macebench.baselines.degradations import DEGRADATIONS
from macebench.errors import Unscorable
from macebench.pieces import pieces
from macebench.protocol import Protocol
from macebench.registry import Metric
from macebench.scoring import needed, score_clip
from macebench.selftest.inputs import Bench, needs_of
from macebench.tables import ClipRow
from macebench.types import Evidence, FeatureSet, FloatArray

MODEL = "selftest"
PARTS = ("pose", "motion", "music", "frames")
MIN_SET = 2
BoolArray = NDArray[np.bool_]
Rows = Sequence[Sequence[ClipRow]]


@dataclass(frozen=True)
class Job:
    """One piece of work: a damage at some strengths under one protocol; no damage measures the clean clips.

    Attributes:
        bench: Number of the bench.
        degradation: Name, or None.
        strengths: Strengths, increasing.
    """

    bench: int
    degradation: str | None
    strengths: tuple[float, ...] = ()


@dataclass(frozen=True)
class Splits:
    """Values of all columns over R splits.

    Attributes:
        values: Column -> (R,) value of the generated half; NaN where it has none.
        n_scored: Column -> pieces of all clips that have a value (of a set metric: its feature).
    """

    values: Mapping[str, FloatArray]
    n_scored: Mapping[str, int]


@dataclass(frozen=True)
class Outcome:
    """What `measure` found.

    Attributes:
        levels: One for each strength; the clean job has one.
        reference: Clean job only: column -> (R,) value of the undamaged reference half, measured as a generated half
            would be.
        clip_values: Clean job only: column -> (P,) values of all pieces, for columns that are means over clips.
        n_pieces: Pieces of all clips.
    """

    levels: tuple[Splits, ...]
    reference: Mapping[str, FloatArray]
    clip_values: Mapping[str, FloatArray]
    n_pieces: int


@dataclass(frozen=True)
class _Table:
    """Values and features of the pieces of all clips.

    Attributes:
        clip: (P,) number of each piece's clip.
        values: Column -> (P,), NaN where unscored.
        features: Feature -> (P, F), NaN where missing.
    """

    clip: NDArray[np.intp]
    values: Mapping[str, FloatArray]
    features: Mapping[str, FloatArray]


class Measurer:
    """The state of a worker: inputs, splits, and the clean rows of the protocols that it has met."""

    def __init__(self, benches: Sequence[Bench], splits: BoolArray) -> None:
        self.benches = benches
        self.splits = splits
        self._clean: dict[int, list[list[ClipRow]]] = {}

    def clean(self, number: int) -> list[list[ClipRow]]:
        """Rows of the undamaged clips of a bench."""
        if number not in self._clean:
            bench = self.benches[number]
            metrics = metrics_of(bench)
            self._clean[number] = [_rows(item, bench.protocol, metrics) for item in bench.evidence]
        return self._clean[number]

    def run(self, job: Job) -> Outcome:
        """Measure one job."""
        bench = self.benches[job.bench]
        metrics = metrics_of(bench)
        before = self.clean(job.bench)
        reference = _table(before, metrics)
        if job.degradation is None:
            level = _over_splits(reference, reference, self.splits, metrics, bench.protocol)
            return Outcome(
                (level,), _reference_values(reference, self.splits, metrics, bench.protocol), reference.values,
                len(reference.clip),
            )  # fmt: skip
        levels = []
        for strength in job.strengths:
            rows = _damaged(bench, metrics, before, job.degradation, strength)
            levels.append(_over_splits(_table(rows, metrics), reference, self.splits, metrics, bench.protocol))
        return Outcome(tuple(levels), {}, {}, len(reference.clip))


_worker: Measurer | None = None


def setup_worker(benches: Sequence[Bench], splits: BoolArray, plugins: Sequence[str]) -> None:
    """Prepare this process for `measure`."""
    from pathlib import Path

    global _worker  # noqa: PLW0603 - a worker process has one state
    for path in plugins:
        registry.load_plugin(Path(path))
    _worker = Measurer(benches, splits)


def measure(job: Job) -> Outcome:
    """One job in a prepared worker.

    Raises:
        RuntimeError: `setup_worker` was not called.
    """
    if _worker is None:
        raise RuntimeError("setup_worker was not called")
    return _worker.run(job)


def half_splits(n_clips: int, repeats: int, seed: int) -> BoolArray:
    """(R, N) true for the clips of the generated half; with an odd number the reference half is larger."""
    splits = np.zeros((repeats, n_clips), dtype=bool)
    for number in range(repeats):
        order = np.random.default_rng([seed, number, 0x5E1F]).permutation(n_clips)
        splits[number, order[: n_clips // 2]] = True
    return splits


def metrics_of(bench: Bench) -> list[Metric]:
    """The registered metrics of a bench."""
    return [registry.get_metric(name) for name in bench.metrics]


def _rows(evidence: Evidence, protocol: Protocol, metrics: Sequence[Metric]) -> list[ClipRow]:
    return [
        score_clip(piece, protocol, metrics, model=MODEL, role="generated")
        for piece in pieces(evidence, protocol, "generated")
    ]


def _damaged(bench: Bench, metrics: Sequence[Metric], before: Rows, name: str, strength: float) -> list[list[ClipRow]]:
    """Rows of all clips after the damage; what it does not touch is taken from the rows before it."""
    damage = DEGRADATIONS[name]
    result = []
    for index, (own, old) in enumerate(zip(bench.evidence, before, strict=True)):
        changed = damage.apply(bench.evidence, index, strength)
        parts = {part for part in PARTS if getattr(changed, part) is not getattr(own, part)}
        touched = [metric for metric in metrics if needs_of(metric) & parts]
        new = _rows(changed, bench.protocol, touched) if touched else []
        if touched and len(new) != len(old):
            result.append(_rows(changed, bench.protocol, metrics))
        else:
            result.append([_merged(row, new[i] if touched else None, touched) for i, row in enumerate(old)])
    return result


def _merged(old: ClipRow, new: ClipRow | None, touched: Sequence[Metric]) -> ClipRow:
    """`old` with what `new` has of the touched metrics."""
    if new is None:
        return old
    again = {feature.name for feature in needed(touched)[0]}
    features = {name: vector for name, vector in old.features.items() if name not in again}
    return ClipRow(
        MODEL, old.protocol_hash, old.clip_id, old.role, old.sha256,
        values={**old.values, **new.values}, features={**features, **new.features},
    )  # fmt: skip


def _table(rows: Rows, metrics: Sequence[Metric]) -> _Table:
    flat = [row for clip in rows for row in clip]
    clip = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    columns = [column.name for metric in metrics if metric.feature is None for column in metric.columns]
    values = {name: np.array([row.values.get(name, math.nan) for row in flat]) for name in columns}
    names = {metric.feature for metric in metrics if metric.feature is not None}
    return _Table(clip, values, {name: _stacked(flat, name) for name in sorted(names)})


def _stacked(rows: Sequence[ClipRow], name: str) -> FloatArray:
    """(P, F) features; a row without it is NaN. (P, 0) when no row has it."""
    width = max((len(row.features[name]) for row in rows if name in row.features), default=0)
    nothing = np.full(width, np.nan)
    return np.array([row.features.get(name, nothing) for row in rows], dtype=np.float64).reshape(len(rows), width)


def _over_splits(
    generated: _Table, reference: _Table, splits: BoolArray, metrics: Sequence[Metric], protocol: Protocol
) -> Splits:
    """All columns on the generated half of each split against the other half of the reference."""
    values = _collect(
        splits,
        metrics,
        lambda half, column: _mean(generated.values[column], half[generated.clip]),
        lambda half, metric: _set_values(
            metric, _known(generated, metric, half), _known(reference, metric, ~half), protocol
        ),
    )
    everybody = np.ones(splits.shape[1], dtype=bool)
    counts = {}
    for metric in metrics:
        for column in metric.columns:
            if metric.feature is None:
                counts[column.name] = int(np.isfinite(generated.values[column.name]).sum())
            else:
                counts[column.name] = len(_known(generated, metric, everybody))
    return Splits(values, counts)


def _reference_values(
    table: _Table, splits: BoolArray, metrics: Sequence[Metric], protocol: Protocol
) -> dict[str, FloatArray]:
    """What the reference half itself has: its mean, or the set metric of it against itself."""
    return _collect(
        splits,
        metrics,
        lambda half, column: _mean(table.values[column], ~half[table.clip]),
        lambda half, metric: _set_values(metric, _known(table, metric, ~half), _known(table, metric, ~half), protocol),
    )


def _collect(
    splits: BoolArray,
    metrics: Sequence[Metric],
    of_clips: Callable[[BoolArray, str], float],
    of_sets: Callable[[BoolArray, Metric], Mapping[str, float]],
) -> dict[str, FloatArray]:
    found: dict[str, list[float]] = {column.name: [] for metric in metrics for column in metric.columns}
    for half in splits:
        for metric in metrics:
            result = of_sets(half, metric) if metric.feature is not None else {}
            for column in metric.columns:
                value = of_clips(half, column.name) if metric.feature is None else result.get(column.name, math.nan)
                found[column.name].append(value)
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def _mean(values: FloatArray, where: BoolArray) -> float:
    chosen = values[where]
    finite = chosen[np.isfinite(chosen)]
    return math.fsum(finite) / len(finite) if len(finite) else math.nan


def _known(table: _Table, metric: Metric, half: BoolArray) -> FloatArray:
    """(M, F) finite features of the pieces of the clips in `half`."""
    features = table.features[str(metric.feature)][half[table.clip]]
    return features[np.isfinite(features).all(axis=1)] if features.shape[1] else features[:0]


def _set_values(
    metric: Metric, generated: FloatArray, reference: FloatArray, protocol: Protocol
) -> Mapping[str, float]:
    """Values of a set metric by column; empty when it has none."""
    if min(len(generated), len(reference)) < MIN_SET:
        return {}
    try:
        return values_of(metric, metric.compute(FeatureSet(generated), FeatureSet(reference), protocol))[0]
    except Unscorable:
        return {}
    except Exception:  # noqa: BLE001 - a plugin may raise anything; it costs its own value
        return {}
