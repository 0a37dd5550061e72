"""Temporal flickering of VBench: how little consecutive frames differ.

``TF = (255 - mean_t mean |I_(t+1) - I_t|) / 255`` over all pixels and channels, range [0, 1]
(Huang et al., "VBench", 2024; `vbench/temporal_flickering.py` of VBench 0.1.5; a set is the mean over its videos).

Known defect of the metric: it rewards not moving. A frozen picture scores 1. Read it against the reference's
value, never as "higher is better".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from macebench.errors import Unscorable
from macebench.metrics._package import or_package
from macebench.protocol import Protocol
from macebench.registry import frame_statistic, metric
from macebench.types import Evidence, FloatArray

STATISTIC = "frame_difference"
TOO_SHORT = "too short"


@frame_statistic(STATISTIC)
class FrameDifference:
    """Mean absolute difference of consecutive frames, (T - 1,) in 0 to 255.

    Sums are integers, so the result is exact and does not depend on how frames are batched.
    """

    version = 1

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None
        self._values: list[float] = []

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) uint8 frames; their timestamps play no part.

        Raises:
            ValueError: not uint8, not four-dimensional, or another size than before.
        """
        if frames.ndim != 4 or frames.dtype != np.uint8:
            raise ValueError(f"frames {frames.shape} {frames.dtype}, expected (B, H, W, C) uint8")
        for frame in frames:
            if self._last is not None:
                self._values.append(_mean_difference(self._last, frame))
            self._last = frame
        if self._last is not None:
            self._last = self._last.copy()  # the caller may use the batch's memory again

    def result(self) -> FloatArray:
        """(T - 1,) differences; empty for fewer than two frames."""
        return np.array(self._values, dtype=np.float64)


def _mean_difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    if first.shape != second.shape or not first.size:
        raise ValueError(f"frames of different or empty size: {first.shape} and {second.shape}")
    import cv2

    total = cv2.norm(np.ascontiguousarray(first), np.ascontiguousarray(second), cv2.NORM_L1)
    return float(total) / first.size


@metric("temporal_flickering", better="reference", needs=(f"frames:{STATISTIC}",))
@or_package("temporal_flickering")
def temporal_flickering(evidence: Evidence, protocol: Protocol) -> float:
    """Likeness of consecutive frames (VBench); 1 is a still picture."""
    differences = evidence.need_frames(STATISTIC)
    if not len(differences):
        raise Unscorable(TOO_SHORT)
    return (255.0 - float(np.mean(differences))) / 255.0
