"""Pictures of a working size, for observers that need no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def working_size(shape: Sequence[int], longer: int) -> tuple[int, int]:
    """Height and width of a picture (H, W, ...) once its longer side has `longer` pixels."""
    height, width = shape[:2]
    scale = longer / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(picture: Picture, height: int, width: int) -> Picture:
    """A picture (H, W) or (H, W, 3) in another size: area averages when smaller, bilinear when larger."""
    import cv2

    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    smaller = height * width < picture.shape[0] * picture.shape[1]
    filtered = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=filtered), np.uint8)
