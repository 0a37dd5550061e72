"""Weighted means of two models on the same clips: the difference of two ratios.

A score that weighs clips by their frames is ``sum w x / sum w``, so the difference of two models is none of per-clip
differences: their clips may even weigh differently. Hence, over clusters (such as pieces of music) of clips:

- Interval: whole clusters are drawn with replacement, both ratios are taken of each draw, and their difference is
  divided by its own linearised standard error (bootstrap-t; Efron and Tibshirani, 1993, chapter 12).
- Test: the labels of whole clusters are swapped, values together with their weights, and both ratios taken again.

With equal weights both are what `macebench.metrics.statistics` does with the plain mean of paired differences.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from macebench.metrics._clusters import (
    NULL_BAND,
    TIE,
    Clusters,
    Interval,
    SignFlipResult,
    Totals,
    Values,
    check_count,
    p_value_of,
    swaps_of,
    totals_of,
)
from macebench.types import FloatArray

_ROUNDING = 1e-14


@dataclass(frozen=True)
class WeightedPairs:
    """Scores and weights of two models on the same N clips.

    Attributes:
        first: (N,) finite scores of the first model.
        second: (N,) finite scores of the second model.
        first_weights: (N,) weights above 0 of the first model's clips.
        second_weights: (N,) weights of the second model's clips.
        clusters: N names; clips of one name are drawn or swapped together. None takes each clip on its own.

    Raises:
        ValueError: when anything is computed; a value is not finite, a weight is not above 0, or sizes differ.
    """

    first: Values
    second: Values
    first_weights: Values
    second_weights: Values
    clusters: Clusters = None

    @property
    def difference(self) -> float:
        """Weighted mean of the first model minus that of the second."""
        one, two = self.totals
        return one.mean - two.mean

    @functools.cached_property
    def totals(self) -> tuple[Totals, Totals]:
        """Totals by cluster of both models."""
        if len(self.first) != len(self.second):
            raise ValueError(f"{len(self.first)} and {len(self.second)} values are no pairs")
        return (
            totals_of(self.first, self.clusters, self.first_weights),
            totals_of(self.second, self.clusters, self.second_weights),
        )

    @functools.cached_property
    def by_cluster(self) -> FloatArray:
        """(G,) one number a cluster, whose plain mean is the difference and whose standard error is its.

        The linearised contribution of each cluster: what effect sizes and plans of experiments need.
        """
        one, two = self.totals
        moved = one.sums / one.counts.sum() - two.sums / two.counts.sum()
        moved[np.abs(moved) <= _ROUNDING * (abs(one.mean) + abs(two.mean))] = 0.0
        return np.asarray(self.difference + len(moved) * moved)


def bootstrap_weighted_difference(
    pairs: WeightedPairs, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Difference of two weighted means with an interval, by a studentised bootstrap over clusters.

    Args:
        pairs: Scores and weights.
        level: Nominal coverage, in (0, 1).
        n_resamples: Draws.
        seed: Seed of the draws.

    Raises:
        ValueError: there are fewer than 2 clusters, or `pairs` cannot be computed with.
    """
    one, two = pairs.totals
    g = len(one.sums)
    if g < 2 or not 0 < level < 1:
        raise ValueError(f"an interval needs at least 2 clusters and a level between 0 and 1: {g}, {level}")
    check_count(n_resamples)
    difference, error = pairs.difference, float(np.std(pairs.by_cluster, ddof=1)) / math.sqrt(g)
    if error == 0:
        return Interval(difference, difference, difference, 0.0, one.n, g, level)
    draws = np.random.default_rng(seed).multinomial(g, np.full(g, 1 / g), size=n_resamples).astype(np.float64)
    low, high = np.quantile(_studentised(one, two, draws, error), [(1 + level) / 2, (1 - level) / 2])
    return Interval(difference, difference - low * error, difference - high * error, error, one.n, g, level)


def _studentised(one: Totals, two: Totals, draws: FloatArray, error: float) -> FloatArray:
    """Centred differences of the draws in their own standard errors; draws of no spread are left out."""
    g = len(one.sums)
    weights = draws @ one.counts, draws @ two.counts
    means = (draws @ one.sums) / weights[0], (draws @ two.sums) / weights[1]
    # A cluster contributes (sum - mean * weight) / weights of the first model, minus the same of the second.
    parts = np.stack([one.sums, one.counts, two.sums, two.counts])
    factors = np.stack([1 / weights[0], -means[0] / weights[0], -1 / weights[1], means[1] / weights[1]], axis=1)
    products = np.einsum("ig,jg->gij", parts, parts).reshape(g, 16)
    spread = np.einsum("pi,pij,pj->p", factors, (draws @ products).reshape(-1, 4, 4), factors)
    variance = g / (g - 1) * spread
    usable = variance > 1e-12 * error**2
    return np.asarray((means[0] - means[1])[usable] / np.sqrt(variance[usable]))


def weighted_swap_test(pairs: WeightedPairs, *, n_permutations: int = 2000, seed: int = 0) -> SignFlipResult:
    """Whether two weighted means differ: labels of whole clusters are swapped, values with their weights.

    All swaps are looked at when there are at most `n_permutations`; otherwise random ones are drawn. Exact when the
    two models' clips could be exchanged.

    Args:
        pairs: Scores and weights.
        n_permutations: Most swaps to look at.
        seed: Seed of random swaps.

    Raises:
        ValueError: `pairs` cannot be computed with.
    """
    check_count(n_permutations)
    one, two = pairs.totals
    middle = (one.mean + two.mean) / 2
    sums = [part.sums + (part.mean - middle) * part.counts for part in (one, two)]
    swaps, everything = swaps_of(len(one.sums), n_permutations, seed)
    chosen = swaps.astype(np.float64)
    moved, moved_weights = chosen @ (sums[1] - sums[0]), chosen @ (two.counts - one.counts)
    null = (sums[0].sum() + moved) / (one.counts.sum() + moved_weights) - (sums[1].sum() - moved) / (
        two.counts.sum() - moved_weights
    )
    p_value = p_value_of(null, pairs.difference, TIE * (abs(one.mean) + abs(two.mean)), everything)
    low, high = np.quantile(null, NULL_BAND)
    return SignFlipResult(pairs.difference, p_value, one.n, len(one.sums), len(null), float(low), float(high))
