"""Optical flow between two pictures, and how much of it is the camera's.

Two estimators, both of OpenCV, on grey pictures of the working size:

- ``dis``: dense inverse search, preset "ultrafast" (Kroeger, Timofte, Dai and Van Gool, ECCV 2016).
- ``farneback``: polynomial expansion (Farnebäck, SCIA 2003), 3 levels, window 15, 3 iterations, degree 5, sigma 1.2.

OpenCV's flow depends on its number of threads, so it is computed with one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from macebench.curation._pictures import Picture
from macebench.types import Array, FloatArray

ESTIMATORS = ("dis", "farneback")
_GRID = 8
_ROUNDS = 12
_SCALE_FLOOR = 0.05

Estimator = Callable[[Picture, Picture], Array]


@dataclass(frozen=True)
class FlowSplit:
    """Mean lengths of a flow's parts in pixels.

    Attributes:
        total: Of the flow itself.
        camera: Of the global motion alone.
        residual: Of what the global motion leaves over.
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
        return _with_one_thread(lambda a, b: search.calc(a, b, None))  # type: ignore[call-overload]
    if name == "farneback":
        return _with_one_thread(
            lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
        )
    raise ValueError(f"no flow estimator {name!r}")


def _with_one_thread(estimator: Estimator) -> Estimator:
    def run(a: Picture, b: Picture) -> Array:
        with _one_thread():
            return estimator(a, b)

    return run


@contextmanager
def _one_thread() -> Iterator[None]:
    import cv2

    before = cv2.getNumThreads()
    if before == 1:
        yield
        return
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
