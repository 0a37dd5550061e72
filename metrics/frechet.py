"""Distances between two sets of feature vectors, in float64.

Fréchet distance (Heusel et al., "GANs trained by a two time-scale update rule", 2017, equation 6) between the
normal distributions with the sets' means and covariances (divisor n - 1)::

    F = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

With S1 = A'A and S2 = B'B (A, B: centred rows over sqrt(n - 1)) the last trace is the sum of the singular values
of A B'. Computed so it is real, never negative (what is left of rounding is cut to 0), right for fewer vectors than
dimensions, and 0 for a set against itself. No matrix root is taken: `scipy.linalg.sqrtm` returns
complex or inaccurate roots for singular products.

Before it, features are standardised per column, ``(x - mean) / (deviation + eps)``; `standardise` says by whom.
FID is biased upwards for few vectors, by an amount that grows with the dimension: a value without its two n says
nothing. There is no bootstrap interval for it: resampling adds the same bias again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.registry import unknown
from macebench.types import FloatArray

NORMALISERS = ("reference", "self", "none")
# What rounding alone explains: a column whose deviation is this small beside its values is constant, and a
# distance this small beside the traces is 0.
_ROUNDING = 1e-12
INFINITY_RATIO = 5
"""Vectors a feature, in the smaller set, from which on `frechet_infinity` can be trusted; measured there."""
_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class FrechetResult:
    """A Fréchet distance and what it was computed from.

    Attributes:
        value: The distance, at least 0, in squared units of the standardised features.
        n_generated: Vectors in the generated set.
        n_reference: Vectors in the reference set.
        dropped_features: Columns left out because they are constant in the reference.
    """

    value: float
    n_generated: int
    n_reference: int
    dropped_features: int


@dataclass(frozen=True)
class Standardised:
    """Two sets on one scale.

    Attributes:
        generated: (N, F') float64.
        reference: (M, F') float64.
        dropped_features: F - F'.
    """

    generated: FloatArray
    reference: FloatArray
    dropped_features: int


def standardise(
    generated: FloatArray,
    reference: FloatArray,
    *,
    normalise: str = "reference",
    eps: float = 1e-4,
    ddof: int = 0,
    drop_below: float | None = 1e-6,
) -> Standardised:
    """Bring the columns of two sets to a common scale.

    Args:
        generated: (N, F) features.
        reference: (M, F) features.
        normalise: ``reference``: both sets by the reference's mean and deviation. ``self``: each set by its own
            (released 2-D code of MACE-Dance: blind to offsets and scale). ``none``: as they are, nothing dropped.
        eps: Added to the deviation.
        ddof: Delta degrees of freedom of the deviation (0: numpy's, 1: torch's).
        drop_below: Columns whose deviation in the reference is at most this are left out of both sets; None keeps
            all. A constant column divided by a small `eps` lets one stray value decide everything.

    Raises:
        ValueError: shapes do not fit, a value is not finite, a set has fewer than 2 vectors, or every column is
            constant in the reference.
        UnknownNameError: no such normaliser.
    """
    if normalise not in NORMALISERS:
        raise unknown("normaliser", normalise, NORMALISERS, "macebench ls protocols")
    ours, theirs = _check(generated, reference)
    if normalise == "none":
        return Standardised(ours, theirs, 0)
    mean, deviation = theirs.mean(axis=0), _deviation(theirs, ddof)
    keep = varying_features(theirs, ddof=ddof, drop_below=drop_below)
    if not keep.any():
        raise ValueError(f"all {len(mean)} features are constant in the reference {theirs.shape}")
    ours, theirs, mean, deviation = ours[:, keep], theirs[:, keep], mean[keep], deviation[keep]
    own_mean, own_deviation = (ours.mean(axis=0), _deviation(ours, ddof)) if normalise == "self" else (mean, deviation)
    return Standardised(
        (ours - own_mean) / _divisor(own_deviation, eps),
        (theirs - mean) / _divisor(deviation, eps),
        int(np.count_nonzero(~keep)),
    )


def varying_features(reference: FloatArray, *, ddof: int = 0, drop_below: float | None = 1e-6) -> NDArray[np.bool_]:
    """(F,) which columns of the (M, F) reference vary by more than `drop_below`; all of them when that is None."""
    values = np.asarray(reference, dtype=np.float64)
    if drop_below is None:
        return np.ones(values.shape[1], dtype=bool)
    return np.asarray(_deviation(values, ddof) > drop_below)


def _deviation(values: FloatArray, ddof: int) -> FloatArray:
    """Standard deviation a column, 0 where it is nothing but rounding."""
    deviation = values.std(axis=0, ddof=ddof)
    return np.where(deviation <= _ROUNDING * np.abs(values).max(axis=0), 0.0, deviation)


def _divisor(deviation: FloatArray, eps: float) -> FloatArray:
    """Deviation plus `eps`; 1 where that is 0, so that a constant column becomes 0."""
    total = deviation + eps
    return np.where(total > 0, total, 1.0)


def _check(generated: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    ours, theirs = np.asarray(generated, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1] or ours.shape[1] == 0:
        raise ValueError(f"generated {ours.shape} and reference {theirs.shape} must be (N, F) and (M, F)")
    if min(len(ours), len(theirs)) < 2:
        raise ValueError(f"a set needs at least 2 vectors: generated {ours.shape}, reference {theirs.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError(f"features {ours.shape}, {theirs.shape} hold values that are not finite")
    return ours, theirs


def frechet_distance(
    generated: FloatArray,
    reference: FloatArray,
    *,
    normalise: str = "reference",
    eps: float = 1e-4,
    ddof: int = 0,
    drop_below: float | None = 1e-6,
) -> FrechetResult:
    """Fréchet distance between two sets of feature vectors; see the module's docstring.

    Args:
        generated: (N, F) features, N at least 2.
        reference: (M, F) features, M at least 2.
        normalise: See `standardise`, as for the other options.
        eps: Added to the deviation.
        ddof: Delta degrees of freedom of the deviation; the covariance always has divisor n - 1.
        drop_below: Columns with at most this deviation in the reference are dropped and counted.

    Raises:
        ValueError: see `standardise`.

    Example:
        >>> import numpy as np
        >>> line = np.arange(4.0)[:, None]
        >>> round(frechet_distance(line + 3.0, line, normalise="none").value, 9)
        9.0
    """
    sets = standardise(generated, reference, normalise=normalise, eps=eps, ddof=ddof, drop_below=drop_below)
    value = _distance(sets.generated, sets.reference)
    return FrechetResult(value, len(sets.generated), len(sets.reference), sets.dropped_features)


def _distance(first: FloatArray, second: FloatArray) -> float:
    shift = first.mean(axis=0) - second.mean(axis=0)
    one, two = _factor(first), _factor(second)
    cross = np.linalg.svd(one @ two.T, compute_uv=False).sum()
    traces = np.sum(one**2) + np.sum(two**2)
    value = float(shift @ shift + traces - 2.0 * cross)
    return value if value > _ROUNDING * traces else 0.0


def _factor(values: FloatArray) -> FloatArray:
    """A matrix R with R'R equal to the covariance; at most F rows."""
    centred = (values - values.mean(axis=0)) / np.sqrt(len(values) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r") if len(centred) > centred.shape[1] else centred)


@dataclass(frozen=True)
class FrechetInfinity:
    """A Fréchet distance extrapolated to infinitely many vectors.

    Attributes:
        value: Intercept of the line; it can fall a little below 0. Exactly 0 for a set against itself.
        slope: Bias at size n times n, seen from the generated set.
        sizes: (S,) generated vectors in each step.
        distances: (S,) mean distance at each size.
    """

    value: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_infinity(
    generated: FloatArray,
    reference: FloatArray,
    *,
    normalise: str = "reference",
    eps: float = 1e-4,
    ddof: int = 0,
    drop_below: float | None = 1e-6,
    steps: int = 8,
    repeats: int = 8,
    seed: int = 0,
) -> FrechetInfinity:
    """Fréchet distance at infinite n: a line through distances at growing n against 1/n, read at 0.

    After Chong and Forsyth, "Effectively unbiased FID and inception score and where to find them", 2020. Both
    sets are thinned by the same share, so that the bias of the reference goes as well. Standardised once, by
    the whole sets. A set against itself, in any order, is 0: thinned sets differ, so that a line would fall below it.

    The line holds from n = 5 F on (`INFINITY_RATIO`). Error on two sets of one normal distribution, as a share of its
    total variance, with equal and with falling variances (F = 32, 72, 400): +20 to +60 % at n = F / 2, +5 to +18 % at
    n = F, within 5 % at 2 F, within 2 % at 5 F. With deviations of 1.3 against 1 it is within 3 % at 5 F. For fewer
    features single sets scatter more.

    Args:
        generated: (N, F) features, N at least 8.
        reference: (M, F) features, M at least 8.
        normalise: See `standardise`, as for the other options up to `drop_below`.
        eps: Added to the deviation.
        ddof: Delta degrees of freedom of the deviation.
        drop_below: Columns with at most this deviation in the reference are dropped.
        steps: Number of sizes, evenly spaced from half of the set to all of it.
        repeats: Random subsets a size (without replacement); the whole set is taken once.
        seed: Seed of the subsets.

    Raises:
        ValueError: see `standardise`; a set has fewer than 8 vectors, or fewer than 2 steps.
    """
    sets = standardise(generated, reference, normalise=normalise, eps=eps, ddof=ddof, drop_below=drop_below)
    first, second = sets.generated, sets.reference
    if min(len(first), len(second)) < 8 or steps < 2 or repeats < 1:
        raise ValueError(f"extrapolation needs 8 vectors a set and 2 steps: {first.shape}, {second.shape}, {steps}")
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(len(first) / 2, len(first), steps).round().astype(int))
    if _same_rows(first, second):
        return FrechetInfinity(0.0, 0.0, tuple(map(int, sizes)), (0.0,) * len(sizes))
    distances = [_thinned(first, second, int(size), repeats, rng) for size in sizes]
    slope, value = np.polyfit(1.0 / sizes, distances, 1)
    return FrechetInfinity(float(value), float(slope), tuple(map(int, sizes)), tuple(distances))


def _same_rows(first: FloatArray, second: FloatArray) -> bool:
    """Whether two sets hold the same vectors, in any order."""
    if first.shape != second.shape:
        return False
    one, two = (values[np.lexsort(values.T)] for values in (first, second))
    return np.array_equal(one, two)


def _thinned(first: FloatArray, second: FloatArray, size: int, repeats: int, rng: np.random.Generator) -> float:
    if size == len(first):
        return _distance(first, second)
    other = max(2, round(len(second) * size / len(first)))
    found = [
        _distance(
            first[rng.choice(len(first), size, replace=False)],
            second[rng.choice(len(second), other, replace=False)],
        )
        for _ in range(repeats)
    ]
    return float(np.mean(found))


@dataclass(frozen=True)
class KernelResult:
    """A kernel distance with its standard error.

    Attributes:
        value: Unbiased squared maximum mean discrepancy; around 0, below or above, for equal distributions.
        standard_error: Delete-one jackknife over both sets.
        n_generated: Vectors in the generated set.
        n_reference: Vectors in the reference set.
        dropped_features: Columns left out because they are constant in the reference.
    """

    value: float
    standard_error: float
    n_generated: int
    n_reference: int
    dropped_features: int


def kernel_distance(
    generated: FloatArray,
    reference: FloatArray,
    *,
    normalise: str = "reference",
    eps: float = 1e-4,
    ddof: int = 0,
    drop_below: float | None = 1e-6,
) -> KernelResult:
    """Kernel distance with ``k(x, y) = (x.y / F + 1)^3`` on standardised features.

    Bińkowski et al., "Demystifying MMD GANs", 2018: unlike the Fréchet distance its expectation does not depend on
    n. All pairs are used instead of random blocks.

    Args:
        generated: (N, F) features, N at least 3.
        reference: (M, F) features, M at least 3.
        normalise: See `standardise`, as for the other options.
        eps: Added to the deviation.
        ddof: Delta degrees of freedom of the deviation.
        drop_below: Columns with at most this deviation in the reference are dropped.

    Raises:
        ValueError: see `standardise`, or a set has fewer than 3 vectors.
    """
    sets = standardise(generated, reference, normalise=normalise, eps=eps, ddof=ddof, drop_below=drop_below)
    x, y = sets.generated, sets.reference
    n, m = len(x), len(y)
    if min(n, m) < 3:
        raise ValueError(f"the standard error needs at least 3 vectors a set: {x.shape}, {y.shape}")
    xx, yy = _kernel_sums(x, x) - _kernel_diagonal(x), _kernel_sums(y, y) - _kernel_diagonal(y)
    xy, yx = _kernel_sums(x, y), _kernel_sums(y, x)
    one, two, cross = xx.sum(), yy.sum(), xy.sum()
    value = one / (n * (n - 1)) + two / (m * (m - 1)) - 2 * cross / (n * m)
    without_x = (one - 2 * xx) / ((n - 1) * (n - 2)) - 2 * (cross - xy) / ((n - 1) * m)
    without_y = (two - 2 * yy) / ((m - 1) * (m - 2)) - 2 * (cross - yx) / ((m - 1) * n)
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    return KernelResult(float(value), float(np.sqrt(variance)), n, m, sets.dropped_features)


def _kernel_sums(rows: FloatArray, columns: FloatArray) -> FloatArray:
    """(N,) sums of the kernel of each row with all columns, in blocks of bounded memory."""
    block = max(1, _BLOCK_BYTES // (8 * len(columns)))
    parts = [
        ((rows[start : start + block] @ columns.T / rows.shape[1] + 1.0) ** 3).sum(axis=1)
        for start in range(0, len(rows), block)
    ]
    return np.concatenate(parts)


def _kernel_diagonal(rows: FloatArray) -> FloatArray:
    return np.asarray((np.sum(rows**2, axis=1) / rows.shape[1] + 1.0) ** 3)
