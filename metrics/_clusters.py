"""Means over clips that belong together in clusters, such as all clips of one piece of music.

Shared by `macebench.metrics.statistics` and `macebench.metrics._ratio_means`. A mean may be weighted: it is the ratio
``sum w x / sum w`` over clips, and a cluster enters with its two sums. Whole clusters are drawn, flipped or swapped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.types import FloatArray

BoolArray = NDArray[np.bool_]
Clusters = Sequence[Hashable] | NDArray[Any] | None
Values = FloatArray | Sequence[float]
NULL_BAND = (0.025, 0.975)
# Differences of statistics that agree to this share of their size are ties.
TIE = 1e-9


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        mean: Mean over clips.
        low: Lower end.
        high: Upper end.
        standard_error: Cluster-robust standard error of the mean.
        n: Clips.
        n_clusters: Clusters that were resampled.
        level: Nominal coverage.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    n: int
    n_clusters: int
    level: float


@dataclass(frozen=True)
class SignFlipResult:
    """A sign flip test of a mean paired difference.

    Attributes:
        mean: Mean difference over clips.
        p_value: Two-sided, in (0, 1].
        n: Pairs.
        n_clusters: What was flipped independently.
        n_permutations: Flips looked at; all of them when there are few clusters.
        null_low: 2.5 % quantile of the mean under the null hypothesis.
        null_high: 97.5 % quantile.
    """

    mean: float
    p_value: float
    n: int
    n_clusters: int
    n_permutations: int
    null_low: float
    null_high: float


def swaps_of(g: int, count: int, seed: int) -> tuple[BoolArray, bool]:
    """Which of `g` clusters to swap, (P, g), and whether these are all the ways there are: at most `count`."""
    if g < 31 and 2**g <= count:
        return np.array(list(itertools.product((False, True), repeat=g)), dtype=bool), True
    return np.random.default_rng(seed).random((count, g)) < 0.5, False


def p_value_of(null: FloatArray, observed: float, tie: float, everything: bool) -> float:
    """Share of the null that reaches the observed; drawn ones get the observed added, all of them hold it."""
    reached = int(np.count_nonzero(np.abs(null) >= abs(observed) - tie))
    return reached / len(null) if everything else (1 + reached) / (1 + len(null))


def check_count(count: int) -> None:
    """Raise `ValueError` where nothing would be drawn."""
    if count < 1:
        raise ValueError(f"{count} resamples or permutations; at least 1 is needed")


def cluster_index(clusters: Clusters, n: int) -> tuple[NDArray[np.intp], int]:
    """(N,) number of each item's cluster, in order of appearance, and how many there are."""
    if clusters is None:
        return np.arange(n), n
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} cluster names for {n} clips")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.intp)
    return index, len(numbers)


@dataclass(frozen=True)
class Totals:
    """Sums and weights of each cluster, of values that had their mean taken off; that mean, and the number of clips.

    Without weights every clip weighs 1.
    """

    sums: FloatArray
    counts: FloatArray
    mean: float
    n: int

    @property
    def standard_error(self) -> float:
        """Cluster-robust standard error of the mean; NaN with one cluster."""
        g = len(self.sums)
        if g < 2:
            return math.nan
        return float(np.sqrt(g / (g - 1) * np.sum(self.sums**2)) / self.counts.sum())


def totals_of(values: Values, clusters: Clusters, weights: Values | None = None) -> Totals:
    """Totals of (N,) values with (N,) positive weights.

    Raises:
        ValueError: a value is not finite, there is none, or a weight is not above 0.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 1 or not np.isfinite(array).all():
        raise ValueError(f"values must be finite and of shape (N,), N at least 1; got {array.shape}")
    heavy = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
    if heavy.shape != array.shape or not (np.isfinite(heavy) & (heavy > 0)).all():
        raise ValueError(f"weights must be above 0 and of the values' shape {array.shape}; got {heavy.shape}")
    index, n_clusters = cluster_index(clusters, len(array))
    mean = math.fsum(heavy * array) / math.fsum(heavy)
    centred = array - mean
    # What is left of equal values is rounding, not spread.
    centred[np.abs(centred) <= 1e-14 * abs(mean)] = 0.0
    counts = np.asarray(np.bincount(index, weights=heavy, minlength=n_clusters), dtype=np.float64)
    sums = np.asarray(np.bincount(index, weights=heavy * centred, minlength=n_clusters), dtype=np.float64)
    return Totals(sums, counts, mean, len(array))


def studentised(totals: Totals, draws: FloatArray) -> FloatArray:
    """Centred means of the draws in their own standard errors; draws of no spread are left out."""
    sums, counts, g = totals.sums, totals.counts, len(totals.sums)
    n = draws @ counts
    means = (draws @ sums) / n
    spread = draws @ sums**2 - 2 * means * (draws @ (sums * counts)) + means**2 * (draws @ counts**2)
    usable = spread > 1e-12 * np.sum(sums**2)
    errors = np.sqrt(g / (g - 1) * spread[usable]) / n[usable]
    return np.asarray(means[usable] / errors)
