"""Pictures of a working size, for observers that need no more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def working_size(height: int, width: int, longer: int) -> tuple[int, int]:
    """Height and width of a picture of the same shape whose longer side has `longer` pixels."""
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
