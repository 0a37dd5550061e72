"""Diversity: mean distance between the dances of one set.

``DIV = mean over all unordered pairs of |f_i - f_j|`` on features that are standardised as for the Fréchet
distance (Li et al., "AI Choreographer", 2021; the released codes of Bailando, Lodge and MACE-Dance compute the same).
Standardised by each set's own deviation (``self``) it is about ``sqrt(2 F)`` whatever the dances do: it cannot see
amplitude. Standardised by the reference, more is not better: read it against the reference's own value.
"""

from __future__ import annotations

import numpy as np

from macebench.metrics.frechet import standardise
from macebench.types import FloatArray

_BLOCK_BYTES = 32 * 2**20


def diversity(
    features: FloatArray,
    *,
    reference: FloatArray | None = None,
    normalise: str = "reference",
    eps: float = 1e-4,
    ddof: int = 0,
    drop_below: float | None = 1e-6,
) -> float:
    """Mean Euclidean distance over all pairs of a set.

    Args:
        features: (N, F), N at least 2.
        reference: (M, F) set that standardises the features; None takes them as they are.
        normalise: See `macebench.metrics.frechet.standardise`, as for the other options.
        eps: Added to the deviation.
        ddof: Delta degrees of freedom of the deviation.
        drop_below: Columns with at most this deviation in the reference are dropped.

    Raises:
        ValueError: shapes do not fit, a value is not finite, or a set has fewer than 2 vectors.

    Example:
        >>> diversity(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]))
        3.3333333333333335
    """
    values = np.asarray(features, dtype=np.float64)
    against, how = (values, "none") if reference is None else (reference, normalise)
    values = standardise(values, against, normalise=how, eps=eps, ddof=ddof, drop_below=drop_below).generated
    return _mean_distance(values)


def _mean_distance(values: FloatArray) -> float:
    """Mean over pairs, in blocks of rows: memory stays bounded, and equal rows are at distance 0 exactly."""
    from scipy.spatial.distance import cdist, pdist

    count = len(values)
    block = max(1, int(_BLOCK_BYTES / (8 * count)))
    total = 0.0
    for start in range(0, count, block):
        rows = values[start : start + block]
        total += float(pdist(rows).sum()) if len(rows) > 1 else 0.0
        rest = values[start + block :]
        total += float(cdist(rows, rest).sum()) if len(rest) else 0.0
    return total / (count * (count - 1) / 2)
