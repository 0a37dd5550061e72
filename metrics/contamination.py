"""Did a model dance, or recall? The nearest training clip of each generated clip in feature space.

Features (such as `macebench.metrics.features.kinetic_features` beside `geometric_features`) are standardised by the
training set; columns that are constant in it are dropped. The distance is Euclidean. How near is too near is read
off real data: the distance of each training clip to its nearest *other* training clip, or, better, of held-out real
clips to the training set.

- *exact*: the distance is rounding (at most `exact`): the same motion.
- *near*: the distance is at most `threshold`, the smaller of the `near` quantile of those real distances (so that about
  that share of honest dances is flagged) and `fraction` of their median (so that a set whose clips all lie close
  together does not accuse every dance). Exact copies are near, too.

Clips that the training set holds twice are left out of the calibration. Distances do not prove: two short clips of one
choreography are near with good reason. Look at the pairs.

Measured with kinetic and geometric features side by side (variant ``fixed``): of 43 real AIST++ clips, each against
the clips of all other recordings, none is flagged; of copies with 1 mm of noise on each coordinate 42 or 43 are. (Clips
of one recording repeat its choreography, and are flagged.) Independent synthetic sets, Student t, 12-d: 0.2 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.metrics.frechet import standardise
from macebench.types import FloatArray

_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Contamination:
    """The nearest training clip of each generated clip.

    Attributes:
        distance: (N,) distance to the nearest training clip, in deviations of the training set.
        ratio: (N,) the same over the median distance of real clips: 1 is usual, 0 a copy.
        nearest_index: (N,) row of that training clip.
        exact: (N,) the same features up to rounding.
        near: (N,) nearer than real clips are to each other; holds for exact ones.
        threshold: Largest distance that counts as near.
        dropped_features: Columns that are constant in the training set.
    """

    distance: FloatArray
    ratio: FloatArray
    nearest_index: NDArray[np.intp]
    exact: NDArray[np.bool_]
    near: NDArray[np.bool_]
    threshold: float
    dropped_features: int

    @property
    def n_exact(self) -> int:
        """Exact copies."""
        return int(np.count_nonzero(self.exact))

    @property
    def n_near(self) -> int:
        """Near copies, exact ones included."""
        return int(np.count_nonzero(self.near))


def nearest_training(
    generated: FloatArray,
    training: FloatArray,
    *,
    reference: FloatArray | None = None,
    exact: float = 1e-6,
    near: float = 0.01,
    fraction: float = 0.5,
) -> Contamination:
    """The nearest training clip of each generated clip; exact and near copies are flagged.

    Args:
        generated: (N, F) features of generated clips.
        training: (M, F) features of the training set, M at least 3.
        reference: (R, F) features of real clips outside the training set, which then say what is usual; None takes the
            training clips' distances to each other.
        exact: Largest distance of an exact copy.
        near: Quantile of the real clips' distances, in (0, 1).
        fraction: Share of their median that a near copy may not exceed, in (0, 1].

    Raises:
        ValueError: shapes do not fit, a value is not finite, all columns are constant, too few clips, or the training
            set holds nothing but copies.

    Cost: N x M distances as matrix products, in blocks of bounded memory.
    """
    if not (0 < near < 1 and 0 < fraction <= 1 and exact >= 0):
        raise ValueError(f"near {near}, fraction {fraction} and exact {exact} must be shares, exact at least 0")
    theirs = np.asarray(training, dtype=np.float64)
    ours = np.asarray(generated, dtype=np.float64)
    if theirs.ndim != 2 or len(theirs) < 3 or ours.ndim != 2 or ours.shape[1] != theirs.shape[1] or not len(ours):
        raise ValueError(f"generated {ours.shape}, training {theirs.shape}: expected (N, F) and (M, F), M at least 3")
    real = theirs if reference is None else np.asarray(reference, dtype=np.float64)
    sets = standardise(np.concatenate([ours, real]), theirs)
    known, rows = sets.reference, sets.generated[: len(ours)]
    distance, index = _nearest(rows, known)
    usual, _ = _nearest(sets.generated[len(ours) :], known, leave_out=reference is None)
    usual = usual[usual > exact]
    if not len(usual):
        raise ValueError(f"training {theirs.shape}: every clip has a copy, so nothing says what is near")
    median = float(np.median(usual))
    threshold = min(float(np.quantile(usual, near)), fraction * median)
    same = distance <= exact
    return Contamination(
        distance, distance / median, index, same, same | (distance <= threshold), threshold, sets.dropped_features
    )


def _nearest(rows: FloatArray, known: FloatArray, *, leave_out: bool = False) -> tuple[FloatArray, NDArray[np.intp]]:
    """Distance (N,) and index (N,) of the nearest known vector; with `leave_out` row i may not choose i.

    Products find the nearest one; its distance is then computed from the difference, so that copies are at 0.
    """
    squares = np.sum(known**2, axis=1)
    block = max(1, _BLOCK_BYTES // (8 * len(known)))
    index = np.empty(len(rows), dtype=np.intp)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        scores = squares - 2.0 * (part @ known.T)
        if leave_out:
            own = np.arange(len(part))
            scores[own, start + own] = np.inf
        index[start : start + block] = scores.argmin(axis=1)
    return np.asarray(np.linalg.norm(rows - known[index], axis=1)), index
