"""From the values over the splits to d', verdicts and report cards; `macebench.selftest.schema` says what they mean."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from macebench.registry import Column, Metric
from macebench.selftest.expectations import Claim, expectation
from macebench.selftest.inputs import needs_of
from macebench.selftest.measure import Outcome, Splits
from macebench.selftest.schema import D_LIMIT, FAILURES, FOUND, SEEN, Card, Cell, Level, Verdict
from macebench.types import FloatArray

# (z(0.975) + z(0.8)) * sqrt(2): two independent sets, level 5 %, power 80 %.
_TWO_SETS = 3.962


@dataclass(frozen=True)
class Answers:
    """All that was measured under one protocol.

    Attributes:
        protocol: Its id.
        track: Its track.
        metrics: Its metrics.
        clean: Result of the clean job.
        damages: Damage -> strengths and the result of its job, in the order of the damages.
    """

    protocol: str
    track: str
    metrics: Sequence[Metric]
    clean: Outcome
    damages: dict[str, tuple[tuple[float, ...], Outcome]]


def judged(answers: Answers) -> tuple[list[Cell], list[Card]]:
    """Cells and cards of one protocol; columns follow the order of the metrics."""
    cells: list[Cell] = []
    cards: list[Card] = []
    for metric in answers.metrics:
        for column in metric.columns:
            own = [_cell(answers, metric, column, damage) for damage in answers.damages]
            cells += own
            cards.append(_card(answers, metric, column, own))
    return cells, cards


def badness(values: FloatArray, reference: FloatArray, column: Column, *, of_clips: bool) -> FloatArray:
    """(R,) how bad the values are, higher is worse.

    Args:
        values: (R,) values of the generated halves.
        reference: (R,) values of the undamaged reference halves.
        column: Says which direction is better.
        of_clips: Whether the column is a mean over clips.
    """
    if column.better == "reference":
        return np.asarray(np.abs(values - reference))
    above = values - reference if of_clips else values
    return above if column.better == "lower" else -above


def d_prime(damaged: FloatArray, clean: FloatArray) -> float | None:
    """The d' of two samples; None when a side has fewer than 2 values.

    It is the difference of the means in pooled deviations, cut to +-99. Where that is smaller, the d' of the share of
    pairs in which the damaged one is worse (``sqrt(2) z(share)``, of equal sign) stands instead: a few enormous values
    would otherwise drown in their own deviation.
    """
    one, two = damaged[np.isfinite(damaged)], clean[np.isfinite(clean)]
    if min(len(one), len(two)) < 2:
        return None
    change = float(one.mean() - two.mean())
    deviation = math.sqrt((float(one.var(ddof=1)) + float(two.var(ddof=1))) / 2)
    size = max(float(np.abs(one).max()), float(np.abs(two).max()), 1.0)
    if abs(change) <= 1e-12 * size:
        return 0.0
    if deviation <= 1e-12 * size:
        return math.copysign(D_LIMIT, change)
    moments, pairs = change / deviation, _pairs(one, two)
    best = pairs if moments * pairs > 0 and abs(pairs) > abs(moments) else moments
    return rounded(min(max(best, -D_LIMIT), D_LIMIT))


def _pairs(one: FloatArray, two: FloatArray) -> float:
    """The d' of two normal distributions with this share of pairs in which the first one is larger."""
    larger = (one[:, None] > two[None]).mean() + 0.5 * (one[:, None] == two[None]).mean()
    edge = 0.5 / (len(one) * len(two))
    return math.sqrt(2.0) * NormalDist().inv_cdf(min(max(float(larger), edge), 1.0 - edge))


def rounded(value: float) -> float:
    """Nine significant digits."""
    return float(f"{value:.9g}")


def _or_none(value: float) -> float | None:
    return rounded(value) if math.isfinite(value) else None


def _mean(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    return math.fsum(finite) / len(finite) if len(finite) else math.nan


def _cell(answers: Answers, metric: Metric, column: Column, damage: str) -> Cell:
    strengths, outcome = answers.damages[damage]
    clean = answers.clean.levels[0].values[column.name]
    reference = answers.clean.reference[column.name]
    of_clips = metric.feature is None
    before = badness(clean, reference, column, of_clips=of_clips)
    after = [badness(item.values[column.name], reference, column, of_clips=of_clips) for item in outcome.levels]
    levels = tuple(
        _level(strength, item, column.name, d_prime(bad, before))
        for strength, item, bad in zip(strengths, outcome.levels, after, strict=True)
    )
    claim = expectation(column.name, damage, answers.track, needs_of(metric))
    found = [level.strength for level in levels if level.d_prime is not None and level.d_prime >= FOUND]
    return Cell(
        protocol=answers.protocol, column=column.name, damage=damage, claim=claim,
        verdict=verdict(claim, levels, measured=bool(np.isfinite(before).any())),
        levels=levels, d_prime=levels[-1].d_prime, rho=_rho([before, *after]), monotone=_monotone([before, *after]),
        found_from=found[0] if found else None,
    )  # fmt: skip


def _level(strength: float, splits: Splits, column: str, d: float | None) -> Level:
    value = _or_none(_mean(splits.values[column]))
    return Level(strength=strength, value=value, d_prime=d, n_scored=splits.n_scored[column])


def verdict(claim: Claim, levels: Sequence[Level], *, measured: bool) -> Verdict:
    """The verdict on one cell."""
    if not measured:
        return "not measured"
    if claim == "none":
        return "no claim"
    last = levels[-1].d_prime
    if claim == "unchanged":
        moved = [abs(level.d_prime) > SEEN for level in levels if level.d_prime is not None]
        return "refused" if not moved else "changed" if any(moved) else "invariant"
    if last is None:
        return "refused"
    return "right" if last >= SEEN else "wrong" if last <= -SEEN else "blind"


def _rho(levels: Sequence[FloatArray]) -> float | None:
    """Spearman's rank correlation of the mean badness with the number of the level."""
    means = np.array([_mean(level) for level in levels])
    means = means[np.isfinite(means)]
    if len(means) < 2 or np.ptp(means) <= 1e-12 * np.abs(means).max():
        return None
    return rounded(float(np.corrcoef(np.arange(len(means)), _ranks(means))[0, 1]))


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks; ties share their mean."""
    below = (values[:, None] > values[None]).sum(axis=1)
    same = (values[:, None] == values[None]).sum(axis=1)
    return np.asarray(below + (same - 1) / 2.0)


def _monotone(levels: Sequence[FloatArray]) -> bool:
    known = [level for level in levels if np.isfinite(level).any()]
    return all(not _falls(after - before) for before, after in itertools.pairwise(known))


def _falls(steps: FloatArray) -> bool:
    """Whether paired changes go down by more than their deviation."""
    finite = steps[np.isfinite(steps)]
    if len(finite) < 2:
        return False
    return bool(finite.mean() < -max(float(finite.std(ddof=1)), 1e-12))


def _card(answers: Answers, metric: Metric, column: Column, cells: Sequence[Cell]) -> Card:
    clean = answers.clean.levels[0].values[column.name]
    aim = _or_none(_mean(answers.clean.reference[column.name])) if column.better == "reference" else None
    worse = [cell for cell in cells if cell.verdict in ("right", "wrong", "blind")]
    same = [cell for cell in cells if cell.verdict in ("invariant", "changed")]
    weakest = min((cell for cell in worse if cell.verdict != "right"), key=_d, default=None)
    return Card(
        protocol=answers.protocol, metric=metric.name, column=column.name, unit=column.unit, better=column.better,
        clean=_or_none(_mean(clean)), reference=aim, detectable=_detectable(answers, metric, column.name),
        n=round(answers.clean.n_pieces / 2), mean_d_prime=_share([_d(cell) for cell in worse]), n_worse=len(worse),
        share_right=_share([cell.verdict == "right" for cell in worse]), n_unchanged=len(same),
        share_invariant=_share([cell.verdict == "invariant" for cell in same]),
        share_monotone=_share([cell.monotone for cell in worse]),
        blind_spot=weakest.damage if weakest is not None else None,
        blind_spot_d_prime=weakest.d_prime if weakest is not None else None,
        failures=tuple(cell.damage for cell in cells if cell.verdict in FAILURES),
    )  # fmt: skip


def _d(cell: Cell) -> float:
    return cell.d_prime or 0.0


def _share(values: Sequence[float]) -> float | None:
    return rounded(math.fsum(values) / len(values)) if values else None


def _detectable(answers: Answers, metric: Metric, column: str) -> float | None:
    """Smallest detectable difference of a column; see `macebench.selftest.schema.Card`."""
    if metric.feature is not None:
        values = answers.clean.levels[0].values[column]
        values = values[np.isfinite(values)]
        return rounded(_TWO_SETS * float(values.std(ddof=1))) if len(values) > 1 else None
    from macebench.metrics.statistics import minimum_detectable_difference

    values = answers.clean.clip_values[column]
    values = values[np.isfinite(values)]
    half = len(values) // 2
    if half < 2:
        return None
    order = np.random.default_rng(half).permutation(len(values))
    pairs = values[order[:half]] - values[order[half : 2 * half]]
    return rounded(minimum_detectable_difference(pairs)) or None
