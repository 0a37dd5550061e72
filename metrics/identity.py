"""Identity drift: does the dancer still look like at the beginning, or like in a picture? (ours)

Each frame has the vector of DINO ViT-B/16 that subject consistency uses (statistic ``dino_b16``): an embedding of the
*subject*, not of a face. Its distance ``1 - cosine`` to a reference is followed over time. The reference is the clip's
first frame, from which a picture-driven animator starts; under a protocol with ``identity_reference: picture``, which
``macebench eval --identity`` makes, it is the picture that the user gives (`macebench.identity`).

- ``identity_drift``: mean distance of the frames, 0 (the same) to 2; the first frame is not counted where it is the
  reference itself.
- ``identity_drift_slope``: least-squares slope of the distance over presentation time, a second. Above 0 the dancer
  becomes somebody else; a dancer who only turns has a distance and no slope.
- ``identity_min``: cosine of the frame that is least like the reference.

Subject consistency takes half of each frame's likeness from the frame before, so a slow drift hardly lowers it; here
every frame is held against the reference. Known defects: a turned back, a crouch or a moving camera is distance, too,
and against the first frame a frozen clip has none. A given picture of another pose, crop, shape or light than the video
is distance from the first frame on: that share is in the mean and in the least likeness, not in the slope. Read the
values against the ground truth's own, at equal length and with the same pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.errors import Unscorable
from macebench.identity import NEED
from macebench.protocol import PICTURE, Protocol
from macebench.registry import Column, frame_statistic, metric
from macebench.types import Evidence, FloatArray

SUBJECT, TIMES = "dino_b16", "frame_times"
TOO_SHORT = "too short"
NO_DIRECTION = "an embedding has no length"

_COLUMNS = (
    Column("identity_drift", "1", "reference", "Mean DINO distance of the frames to the first one, or to a picture"),
    Column("identity_drift_slope", "1/s", "reference", "Growth of that distance a second"),
    Column("identity_min", "1", "reference", "Cosine of the frame that is least like the first one, or a picture"),
)


@dataclass(frozen=True)
class IdentityDrift:
    """How far the subject moves away from the reference picture.

    Attributes:
        mean: Mean of ``1 - cosine`` over the frames, in [0, 2].
        slope_per_s: Its least-squares slope over time, a second; 0 for one frame.
        minimum: Smallest cosine, in [-1, 1].
    """

    mean: float
    slope_per_s: float
    minimum: float


def identity_drift(features: FloatArray, times_s: FloatArray, reference: FloatArray | None = None) -> IdentityDrift:
    """How far (T, F) embeddings move away from a reference picture.

    Args:
        features: (T, F) vectors, any length above 0.
        times_s: (T,) presentation timestamps in seconds, increasing.
        reference: (F,) vector of the reference picture. None takes the first frame, which is then not counted itself.

    Raises:
        Unscorable: ``too short`` (no frame to compare), or a vector of length 0.
        ValueError: shapes do not fit.
    """
    vectors, times = np.asarray(features, dtype=np.float64), np.asarray(times_s, dtype=np.float64)
    if vectors.ndim != 2 or times.shape != vectors.shape[:1]:
        raise ValueError(f"features {vectors.shape} and times {times.shape} do not fit")
    if reference is None:
        if len(vectors) < 2:
            raise Unscorable(TOO_SHORT)
        reference, vectors, times = vectors[0], vectors[1:], times[1:]
    if not len(vectors):
        raise Unscorable(TOO_SHORT)
    cosine = _unit(vectors) @ _unit(np.asarray(reference, dtype=np.float64)[None])[0]
    distance = 1.0 - np.clip(cosine, -1.0, 1.0)
    return IdentityDrift(float(distance.mean()), _slope(times, distance), float(1.0 - distance.max()))


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise Unscorable(NO_DIRECTION)
    return np.asarray(vectors / lengths)


def _slope(times: FloatArray, values: FloatArray) -> float:
    centred = times - times.mean()
    spread = float(centred @ centred)
    return float(centred @ (values - values.mean())) / spread if spread > 0 else 0.0


@frame_statistic(TIMES)
class FrameTimes:
    """(T,) presentation timestamps in seconds after the clip's first picture."""

    version = 1

    def __init__(self) -> None:
        self._times: list[float] = []

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next timestamps; the pictures play no part."""
        self._times += np.asarray(times_s, dtype=np.float64).tolist()

    def result(self) -> FloatArray:
        """(T,) seconds."""
        return np.array(self._times, dtype=np.float64)


@metric("identity_drift", columns=_COLUMNS, needs=(f"frames:{SUBJECT}", f"frames:{TIMES}", NEED))
def identity_drift_score(evidence: Evidence, protocol: Protocol) -> dict[str, float]:
    """Distance of the subject's DINO embedding to a reference: mean, growth a second, and the least likeness.

    The reference is the clip's first frame, or the picture that was given (``identity_reference: picture``).
    """
    vectors, times = evidence.need_frames(SUBJECT), evidence.need_frames(TIMES)
    picture = evidence.need_identity() if protocol.identity_reference == PICTURE else None
    found = identity_drift(vectors, times, picture)
    return {
        "identity_drift": found.mean, "identity_drift_slope": found.slope_per_s, "identity_min": found.minimum,
    }  # fmt: skip
