"""How much a picture differs from the one before: PySceneDetect's detectors, fed with pictures decoded elsewhere.

`ContentScores` gives what its ContentDetector calls ``content_val``: the mean absolute difference of hue, saturation
and value between two pictures, in 0 to 255, on a working size (longer side 256 pixels, as the library itself does by
width). `adaptive_ratio` is what its AdaptiveDetector compares with its threshold, computed from stored values:
content_val over the mean of the `window` values before and after it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.curation._pictures import resized, working_size
from macebench.types import Array, FloatArray

SIDE = 256
_LARGEST_RATIO = 255.0
_ZERO = 1e-5


class ContentScores:
    """content_val of each picture of one source; keeps one picture."""

    def __init__(self) -> None:
        self._detector = _detector()
        self._count = 0

    def update(self, frames: NDArray[np.uint8]) -> Array:
        """(B,) float32 scores of the next (B, H, W, 3) RGB frames; the first one of a source has 0."""
        import cv2
        from scenedetect import FrameTimecode  # type: ignore[import-untyped, unused-ignore]

        scores = np.zeros(len(frames), np.float32)
        for index, frame in enumerate(frames):
            small = resized(frame, *working_size(frame.shape, SIDE))
            self._detector.process_frame(FrameTimecode(self._count, 25.0), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
            scores[index] = self._detector.score
            self._count += 1
        return scores


def _detector() -> Any:
    from scenedetect import ContentDetector  # type: ignore[import-untyped, unused-ignore]

    class Scorer(ContentDetector):  # type: ignore[misc, unused-ignore]
        """The library's detector with its score in the open."""

        @property
        def score(self) -> float:
            return float(self._frame_score or 0.0)

    return Scorer(threshold=1e9)


def adaptive_ratio(content: Array, window: int) -> FloatArray:
    """How far each value stands out of the `window` values before and after it.

    Args:
        content: (T,) content_val.
        window: Values on each side.

    Returns:
        (T,) in 0 to 255; 0 where a side has fewer values; 255 where the others are 0 and it is not.
    """
    values = np.asarray(content, np.float64)
    ratio = np.zeros(len(values))
    span = 2 * window + 1
    if len(values) < span:
        return ratio
    sums = np.convolve(values, np.ones(span), mode="valid")
    middle = values[window : len(values) - window]
    means = (sums - middle) / (2 * window)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(means < _ZERO, np.where(middle < _ZERO, 0.0, _LARGEST_RATIO), middle / means)
    ratio[window : len(values) - window] = np.minimum(found, _LARGEST_RATIO)
    return ratio
