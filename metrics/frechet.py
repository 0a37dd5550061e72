"""Distances between two sets of feature vectors, in float64.

Fréchet distance (Heusel et al., "GANs trained by a two time-scale update rule", 2017, equation 6) between the
normal distributions with the sets' means and covariances (divisor n - 1)::

    F = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

With S1 = A'A and S2 = B'B (A, B: centred rows over sqrt(n - 1)) the last trace is the sum of the singular values
of A B'. It is computed so: real and never negative by construction, right for fewer vectors than
dimensions, and 0 for a set against itself up to rounding. No matrix root is taken: `scipy.linalg.sqrtm` returns
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
# Relative size of a column's deviation that rounding alone explains: such a column is constant.
_ROUNDING = 1e-12


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
        >>> frechet_distance(line + 3.0, line, normalise="none").value
        9.0
    """
    sets = standardise(generated, reference, normalise=normalise, eps=eps, ddof=ddof, drop_below=drop_below)
    value = _distance(sets.generated, sets.reference)
    return FrechetResult(value, len(sets.generated), len(sets.reference), sets.dropped_features)


def _distance(first: FloatArray, second: FloatArray) -> float:
    shift = first.mean(axis=0) - second.mean(axis=0)
    one, two = _factor(first), _factor(second)
    cross = np.linalg.svd(one @ two.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + np.sum(one**2) + np.sum(two**2) - 2.0 * cross))


def _factor(values: FloatArray) -> FloatArray:
    """A matrix R with R'R equal to the covariance; at most F rows."""
    centred = (values - values.mean(axis=0)) / np.sqrt(len(values) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r") if len(centred) > centred.shape[1] else centred)
