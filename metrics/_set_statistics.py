"""Set metrics that know how to be permuted: what `macebench.metrics.statistics.permutation_test` runs fast.

A `SetStatistic` maps (N, F) features to a number and, beyond that, gives the differences of two paired sets for many
swaps of labels at once. With the rows of both sets in one matrix, a swap is a 0/1 vector over its rows:

- Fréchet distance: mean and covariance of a swapped set are linear in that vector, so that all swaps are one matrix
  product; ``tr (S1 S2)^(1/2)`` is the sum of the roots of the eigenvalues of ``R S1 R'`` with ``R'R = S2``.
- Means over pairs (diversity, kernel distance): the difference of the two sums over pairs is linear in the row sums of
  the pairwise matrix, which are needed once.

Values agree with `macebench.metrics.frechet` and `diversity` to rounding; memory is bounded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from macebench.metrics.diversity import diversity
from macebench.metrics.frechet import (
    frechet_distance,
    frechet_infinity,
    kernel_distance,
    standardise,
    varying_features,
)
from macebench.types import FloatArray

BoolArray = NDArray[np.bool_]
_BLOCK_BYTES = 32 * 2**20
# Eigenvalues this small beside the largest are rounding.
_ROUNDING = 1e-13


@runtime_checkable
class SetStatistic(Protocol):
    """A number of a set of features, with a fast way to permute it."""

    def __call__(self, features: FloatArray) -> float:
        """The statistic of (N, F) features."""
        ...

    def differences(self, first: FloatArray, second: FloatArray, swaps: BoolArray) -> FloatArray:
        """(P,) statistic of the first set minus that of the second after each of the (P, N) swaps of rows."""
        ...


@dataclass(frozen=True)
class FrechetStatistic:
    """Fréchet distance to a fixed reference; see `frechet_statistic`."""

    reference: FloatArray
    normalise: str = "reference"
    eps: float = 1e-4
    ddof: int = 0
    drop_below: float | None = 1e-6

    def __call__(self, features: FloatArray) -> float:
        """The distance of (N, F) features."""
        return frechet_distance(features, self.reference, **_options(self)).value

    def differences(self, first: FloatArray, second: FloatArray, swaps: BoolArray) -> FloatArray:
        """(P,) differences of the distances; see `SetStatistic`."""
        fixed = self._fixed
        one, two = ((np.asarray(x, np.float64)[:, fixed.keep] - fixed.mean) / fixed.divisor for x in (first, second))
        middle = (one.mean(axis=0) + two.mean(axis=0)) / 2
        one, two = one - middle, two - middle
        n_features = one.shape[1]
        found = np.empty(len(swaps))
        for block in _blocks(len(swaps), 4 * 8 * n_features**2):
            sums, moments = _swapped_moments(one, two, swaps[block])
            values = [self._values(s, m, len(one), middle) for s, m in zip(sums, moments, strict=True)]
            found[block] = values[0] - values[1]
        return found

    def _values(self, sums: FloatArray, moments: FloatArray, n: int, middle: FloatArray) -> FloatArray:
        """(P,) distances from sums (P, F) and second moments (P, F, F) of rows that had `middle` taken off."""
        means = sums / n
        covariance = (moments - n * means[:, :, None] * means[:, None, :]) / (n - 1)
        shift = means + middle - self._fixed.centre
        if self.normalise == "self":
            variance = np.einsum("pii->pi", covariance) * (n - 1) / (n - self.ddof)
            total = np.sqrt(np.maximum(variance, 0.0)) + self.eps
            scale = 1.0 / np.where(total > 0, total, 1.0)
            covariance = covariance * scale[:, :, None] * scale[:, None, :]
            shift = np.zeros_like(shift)
        root = self._fixed.root
        eigenvalues = np.linalg.eigvalsh(root @ covariance @ root.T)
        eigenvalues[eigenvalues <= _ROUNDING * eigenvalues[:, -1:]] = 0.0
        cross = np.sqrt(eigenvalues).sum(axis=1)
        traces = np.einsum("pii->p", covariance) + self._fixed.trace
        return np.asarray(np.maximum(np.sum(shift**2, axis=1) + traces - 2.0 * cross, 0.0))

    @functools.cached_property
    def _fixed(self) -> _Fixed:
        """What depends on the reference only."""
        reference = np.asarray(self.reference, dtype=np.float64)
        own = standardise(reference, reference, **_options(self)).reference
        n_features = reference.shape[1]
        keep = np.ones(n_features, dtype=bool)
        if self.normalise != "none":
            keep = varying_features(reference, ddof=self.ddof, drop_below=self.drop_below)
        mean, divisor = np.zeros(own.shape[1]), np.ones(own.shape[1])
        if self.normalise == "reference":
            total = reference[:, keep].std(axis=0, ddof=self.ddof) + self.eps
            mean, divisor = reference[:, keep].mean(axis=0), np.where(total > 0, total, 1.0)
        centred = (own - own.mean(axis=0)) / np.sqrt(len(own) - 1)
        root = np.asarray(np.linalg.qr(centred, mode="r") if len(centred) > centred.shape[1] else centred)
        return _Fixed(keep, mean, divisor, own.mean(axis=0), root, float(np.sum(centred**2)))


@dataclass(frozen=True)
class _Fixed:
    """The reference's part of a Fréchet distance: kept columns, scale, centre, root of the covariance, its trace."""

    keep: BoolArray
    mean: FloatArray
    divisor: FloatArray
    centre: FloatArray
    root: FloatArray
    trace: float


def _swapped_moments(
    one: FloatArray, two: FloatArray, swaps: BoolArray
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Sums (P, F) and second moments (P, F, F) of both sets after each swap."""
    n_features = one.shape[1]
    upper = np.triu_indices(n_features)
    weights = swaps.astype(np.float64)
    packed = np.zeros((len(swaps), len(upper[0])))
    for rows in _blocks(len(one), 2 * 8 * len(upper[0])):
        first, second = one[rows], two[rows]
        gain = second[:, upper[0]] * second[:, upper[1]] - first[:, upper[0]] * first[:, upper[1]]
        packed += weights[:, rows] @ gain
    moved = np.zeros((len(swaps), n_features, n_features))
    moved[:, upper[0], upper[1]] = packed
    moved[:, upper[1], upper[0]] = packed
    shifted = weights @ (two - one)
    sums = one.sum(axis=0) + shifted, two.sum(axis=0) - shifted
    return sums, (one.T @ one + moved, two.T @ two - moved)


@dataclass(frozen=True)
class InfinityStatistic:
    """Extrapolated Fréchet distance; see `infinity_statistic`.

    The intercept of the line is linear in the distances of the thinned sets, each of which permutes as above.
    """

    reference: FloatArray
    normalise: str = "reference"
    eps: float = 1e-4
    ddof: int = 0
    drop_below: float | None = 1e-6
    steps: int = 8
    repeats: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        _refuse_self(self.normalise)

    def __call__(self, features: FloatArray) -> float:
        """The extrapolated distance of (N, F) features, N at least 8."""
        more = {name: getattr(self, name) for name in ("steps", "repeats", "seed")}
        return frechet_infinity(features, self.reference, **_options(self), **more).value

    def differences(self, first: FloatArray, second: FloatArray, swaps: BoolArray) -> FloatArray:
        """(P,) differences of the extrapolated distances; see `SetStatistic`."""
        n = len(first)
        both = standardise(np.concatenate([first, second]), self.reference, **_options(self))
        one, two = both.generated[:n], both.generated[n:]
        found = np.zeros(len(swaps))
        for weight, rows, others in self._thinned(n, len(both.reference)):
            part = FrechetStatistic(both.reference[others], normalise="none")
            found += weight * part.differences(one[rows], two[rows], swaps[:, rows])
        return found

    def _thinned(self, n: int, m: int) -> Iterator[tuple[float, NDArray[np.intp], NDArray[np.intp]]]:
        """Weight in the intercept, rows and reference rows of each thinned set, as `frechet_infinity` draws them."""
        sizes = np.unique(np.linspace(n / 2, n, self.steps).round().astype(int))
        design = np.stack([1.0 / sizes, np.ones(len(sizes))], axis=1)
        rng = np.random.default_rng(self.seed)
        for weight, size in zip(np.linalg.pinv(design)[1], sizes, strict=True):
            if size == n:
                yield float(weight), np.arange(n), np.arange(m)
                continue
            for _ in range(self.repeats):
                rows = rng.choice(n, int(size), replace=False)
                yield float(weight) / self.repeats, rows, rng.choice(m, max(2, round(m * int(size) / n)), replace=False)


def _refuse_self(normalise: str) -> None:
    if normalise == "self":
        raise ValueError("sets that are standardised by themselves cannot be permuted by rows")


@dataclass(frozen=True)
class _PairMean:
    """``sum over ordered pairs of k(x, y) / (n (n - 1)) + sum of l(x) + constant`` on the reference's scale."""

    reference: FloatArray
    normalise: str = "reference"
    eps: float = 1e-4
    ddof: int = 0
    drop_below: float | None = 1e-6

    def __post_init__(self) -> None:
        _refuse_self(self.normalise)

    def differences(self, first: FloatArray, second: FloatArray, swaps: BoolArray) -> FloatArray:
        """(P,) differences of the statistic; see `SetStatistic`."""
        n = len(first)
        both = standardise(np.concatenate([first, second]), self.reference, **_options(self))
        rows = both.generated
        sums = np.concatenate([self._row_sums(rows, block) for block in _blocks(len(rows), 2 * 8 * len(rows))])
        weights = 2.0 * sums / (n * (n - 1)) + 2.0 * self._linear(rows, both.reference)
        own, other = weights[:n], weights[n:]
        # Row i of the first set counts 1 or, swapped, its partner does; the constant makes labels antisymmetric.
        total = float(weights.sum()) / 2.0
        return np.asarray(float(own.sum()) - total + swaps.astype(np.float64) @ (other - own))

    def _row_sums(self, rows: FloatArray, block: slice) -> FloatArray:
        """Sums of k of the rows in `block` with all other rows of both sets."""
        raise NotImplementedError

    def _linear(self, rows: FloatArray, reference: FloatArray) -> FloatArray:
        """The part l of each of the 2 n rows."""
        raise NotImplementedError


@dataclass(frozen=True)
class DiversityStatistic(_PairMean):
    """Diversity on a reference's scale; see `diversity_statistic`."""

    def __call__(self, features: FloatArray) -> float:
        """The diversity of (N, F) features."""
        return diversity(features, reference=self.reference, **_options(self))

    def _row_sums(self, rows: FloatArray, block: slice) -> FloatArray:
        from scipy.spatial.distance import cdist

        return np.asarray(cdist(rows[block], rows).sum(axis=1))

    def _linear(self, rows: FloatArray, reference: FloatArray) -> FloatArray:
        return np.zeros(len(rows))


@dataclass(frozen=True)
class KernelStatistic(_PairMean):
    """Kernel distance to a fixed reference; see `kernel_statistic`."""

    def __call__(self, features: FloatArray) -> float:
        """The unbiased kernel distance of (N, F) features."""
        return kernel_distance(features, self.reference, **_options(self)).value

    def _row_sums(self, rows: FloatArray, block: slice) -> FloatArray:
        own = np.sum(rows[block] ** 2, axis=1)
        return np.asarray(_kernel(rows[block] @ rows.T, rows.shape[1]).sum(axis=1) - _kernel(own, rows.shape[1]))

    def _linear(self, rows: FloatArray, reference: FloatArray) -> FloatArray:
        parts = [
            _kernel(rows[block] @ reference.T, rows.shape[1]).mean(axis=1)
            for block in _blocks(len(rows), 2 * 8 * len(reference))
        ]
        return np.asarray(-2.0 * np.concatenate(parts) / (len(rows) / 2))


def _kernel(products: FloatArray, n_features: int) -> FloatArray:
    return np.asarray((products / n_features + 1.0) ** 3)


def _options(statistic: Any) -> dict[str, Any]:
    """The normaliser's options of a statistic."""
    return {name: getattr(statistic, name) for name in ("normalise", "eps", "ddof", "drop_below")}


def _blocks(count: int, bytes_each: int) -> Iterator[slice]:
    """Slices over `count` items that take at most a fixed number of bytes each."""
    step = max(1, _BLOCK_BYTES // max(1, bytes_each))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def frechet_statistic(
    reference: FloatArray,
    *,
    normalise: str = "reference",
    eps: float = 1e-4,
    ddof: int = 0,
    drop_below: float | None = 1e-6,
) -> FrechetStatistic:
    """Fréchet distance to `reference` (M, F) as a statistic that `permutation_test` computes fast.

    The reference is standardised once. Options as in `macebench.metrics.frechet.standardise`.
    """
    return FrechetStatistic(reference, normalise, eps, ddof, drop_below)


def diversity_statistic(
    reference: FloatArray,
    *,
    normalise: str = "reference",
    eps: float = 1e-4,
    ddof: int = 0,
    drop_below: float | None = 1e-6,
) -> DiversityStatistic:
    """Diversity on the scale of `reference` (M, F), computed fast; `normalise` is ``reference`` or ``none``."""
    return DiversityStatistic(reference, normalise, eps, ddof, drop_below)


def kernel_statistic(
    reference: FloatArray,
    *,
    normalise: str = "reference",
    eps: float = 1e-4,
    ddof: int = 0,
    drop_below: float | None = 1e-6,
) -> KernelStatistic:
    """Kernel distance to `reference` (M, F), computed fast; `normalise` is ``reference`` or ``none``."""
    return KernelStatistic(reference, normalise, eps, ddof, drop_below)


def infinity_statistic(
    reference: FloatArray,
    *,
    normalise: str = "reference",
    eps: float = 1e-4,
    ddof: int = 0,
    drop_below: float | None = 1e-6,
) -> InfinityStatistic:
    """Fréchet distance extrapolated to infinite n (`frechet_infinity`); 57 distances a permutation.

    `normalise` is ``reference`` or ``none``.
    """
    return InfinityStatistic(reference, normalise, eps, ddof, drop_below)


def differences_of(
    statistic: Callable[[FloatArray], float], first: FloatArray, second: FloatArray, swaps: BoolArray
) -> FloatArray:
    """(P,) differences of any statistic after each swap, the fast way where there is one."""
    if isinstance(statistic, SetStatistic):
        return statistic.differences(first, second, swaps)
    found = np.empty(len(swaps))
    for index, swap in enumerate(swaps):
        chosen = swap[:, None]
        found[index] = statistic(np.where(chosen, second, first)) - statistic(np.where(chosen, first, second))
    return found
