"""Optical flow between two pictures, and how much of it is not the camera's.

Two estimators, both of OpenCV, on grey pictures of the working size:

- ``dis``: dense inverse search, preset "ultrafast" (Kroeger, Timofte, Dai and Van Gool, ECCV 2016).
- ``farneback``: polynomial expansion (Farnebäck, SCIA 2003): pyramid scale 0.5, 3 levels, window 15, 3 rounds,
  neighbourhood 5, sigma 1.2.

Camera. Up to 200 corners (Shi and Tomasi, CVPR 1994), spread over the left quarter, the middle and the right quarter
of the picture, are followed by pyramidal Lucas-Kanade, and an affine motion is fitted by RANSAC. It counts when 40 % or
more of the corners in the outer quarters follow it; otherwise (a figure on a plain background) the camera stands. It is
the same for both estimators. Where it is more than a tenth of a pixel on average, the second picture is warped back by
it and the flow is computed again: what is left is motion in the scene.

Structure. A flat wall has no motion that could be measured, and estimators invent some. Each pixel therefore counts
with ``e / (e + 16)``, where e is the mean squared gradient (grey levels a pixel) of its 9x9 neighbourhood.

OpenCV's flow depends on its number of threads, so all is computed with one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from macebench.curation._pictures import Picture
from macebench.types import Array, FloatArray

ESTIMATORS = ("dis", "farneback")
_QUALITY, _DISTANCE = 0.01, 6
_STRIPS = ((0.0, 0.25, 60), (0.25, 0.75, 80), (0.75, 1.0, 60))  # from, to, most corners
_FEWEST = 6
_STRUCTURED = 0.3
_FOLLOWING = 0.4
_STILL_PX = 0.1
_FLAT = 16.0
_BOX = (9, 9)

Estimator = Callable[[Picture, Picture], Array]


@dataclass(frozen=True)
class Moved:
    """Mean lengths of motions between two pictures, in pixels.

    Attributes:
        total: Of the flow, weighted by structure.
        camera: Of the camera's motion, all pixels alike.
        residual: Of the flow without the camera's motion, weighted by structure.
    """

    total: float
    camera: float
    residual: float


def make_estimator(name: str) -> Estimator:
    """A function from two grey pictures (H, W) to the flow (H, W, 2) in pixels, x first.

    Raises:
        ValueError: no estimator has this name.
    """
    import cv2

    if name == "dis":
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        return lambda first, second: search.calc(first, second, None)
    if name == "farneback":
        return lambda first, second: cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    raise ValueError(f"no flow estimator {name!r}")


def measure(first: Picture, second: Picture, estimator: Estimator) -> Moved:
    """What moved between two grey pictures (H, W) of one size; no side under 64 pixels or a quarter of the other."""
    with _one_thread():
        weight = _structure(first)
        flow = estimator(first, second)
        camera = _camera(first, second, weight)
        total = _mean_length(flow, weight)
        length = float(np.linalg.norm(camera, axis=2).mean())
        if length <= _STILL_PX:
            return Moved(total, length, total)
        back, inside = _warped_back(second, camera)
        return Moved(total, length, _mean_length(estimator(first, back), weight, inside))


def _mean_length(flow: Array, weight: Array, inside: Array | None = None) -> float:
    lengths = np.sqrt(np.square(flow[..., 0]) + np.square(flow[..., 1])) * weight
    if inside is None:
        return float(lengths.mean())
    return float(lengths[inside].mean()) if inside.any() else 0.0


def _structure(picture: Picture) -> Array:
    """(H, W) in [0, 1): 0 where a picture is flat."""
    import cv2

    x = cv2.Sobel(picture, cv2.CV_32F, 1, 0) / 8
    y = cv2.Sobel(picture, cv2.CV_32F, 0, 1) / 8
    energy = cv2.boxFilter(x * x + y * y, -1, _BOX)
    return np.asarray(energy / (energy + _FLAT))


def _camera(first: Picture, second: Picture, weight: Array) -> Array:
    """(H, W, 2) float32: the affine motion of most corners; zeros where too few agree."""
    import cv2

    height, width = first.shape
    still = np.zeros((height, width, 2), np.float32)
    corners = _corners(first, weight)
    if len(corners) < _FEWEST:
        return still
    found, state, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, None, winSize=(15, 15), maxLevel=3)
    followed = state.ravel() > 0
    if np.count_nonzero(followed) < _FEWEST:
        return still
    corners = corners[followed]
    matrix, fits = cv2.estimateAffine2D(corners, found[followed], method=cv2.RANSAC, ransacReprojThreshold=1.0)
    x = corners[:, 0, 0] / width
    outer = (x < _STRIPS[0][1]) | (x >= _STRIPS[-1][0])
    agreed = np.count_nonzero(fits.ravel()[outer]) >= max(1.0, _FOLLOWING * np.count_nonzero(outer))
    return _field(matrix, height, width) if agreed and matrix is not None else still


def _corners(picture: Picture, weight: Array) -> Array:
    """(N, 1, 2) float32 pixels where there is some structure."""
    import cv2

    width = picture.shape[1]
    parts = [np.zeros((0, 1, 2), np.float32)]
    for start, end, most in _STRIPS:
        left = round(start * width)
        strip = np.ascontiguousarray(picture[:, left : round(end * width)])
        found = cv2.goodFeaturesToTrack(strip, most, _QUALITY, _DISTANCE)
        if found is not None:
            parts.append(found + np.array([left, 0], np.float32))
    corners = np.concatenate(parts)
    columns, rows = corners[:, 0].round().astype(np.intp).T
    return np.asarray(corners[weight[rows, columns] >= _STRUCTURED])


def _field(matrix: FloatArray, height: int, width: int) -> Array:
    x, y = np.arange(width)[None, :, None], np.arange(height)[:, None, None]
    change = matrix - np.eye(2, 3)
    return np.asarray(x * change[:, 0] + y * change[:, 1] + change[:, 2], np.float32)


def _warped_back(picture: Picture, motion: Array) -> tuple[Picture, Array]:
    """The picture without the motion, and which of its pixels (H, W) come from inside it."""
    import cv2

    height, width = picture.shape
    x = np.arange(width, dtype=np.float32)[None] + motion[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + motion[..., 1]
    back = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(back, np.uint8), (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


@contextmanager
def _one_thread() -> Iterator[None]:
    import cv2

    before = cv2.getNumThreads()
    if before != 1:
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        if before != 1:
            cv2.setNumThreads(before)
