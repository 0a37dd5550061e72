"""Dense optical flow at a fixed size, on the CPU: OpenCV's DIS (Kroeger et al., ECCV 2016), preset fast.

Every picture is first brought to `LONG_SIDE` pixels along its longer side, so that a number does not depend on the
resolution of the video. The flow is the same whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.types import FloatArray

LONG_SIDE = 320
SHORTEST_SIDE = 32
"""The smallest side, at the working size: patches of 8 pixels on a level of a quarter. Below it DIS reads past its
buffers, gives NaN and may end the process (OpenCV 5.0)."""
TOP_SHARE = 0.05

Frame = NDArray[np.uint8]
Flow = NDArray[np.float32]


def working_size(height: int, width: int) -> tuple[int, int] | None:
    """Height and width that flow is estimated at, or None when the picture is too thin for it."""
    scale = LONG_SIDE / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return size if min(size) >= SHORTEST_SIDE else None


def resized(frame: Frame, size: tuple[int, int]) -> Frame:
    """`frame` at `size` (height, width): areas averaged when it shrinks, bilinear when it grows."""
    if frame.shape[:2] == size:
        return frame.copy()
    import cv2

    how = cv2.INTER_AREA if frame.shape[0] * frame.shape[1] > size[0] * size[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(frame), size[::-1], interpolation=how), dtype=np.uint8)


def grey(frame: Frame) -> Frame:
    """(H, W) brightness of an RGB picture."""
    import cv2

    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def flow_between(before: Frame, after: Frame) -> Flow:
    """(H, W, 2) pixels, x before y, that the points of a grey picture move until the next one.

    Raises:
        ValueError: a side is under `SHORTEST_SIDE`.
    """
    if before.shape != after.shape or min(before.shape) < SHORTEST_SIDE:
        raise ValueError(f"pictures of {before.shape} and {after.shape}, need {SHORTEST_SIDE} pixels a side")
    import cv2

    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return np.asarray(estimator.calc(before, after, None), dtype=np.float32)


def fetched(picture: NDArray[Any], flow: Flow) -> NDArray[np.float32]:
    """`picture` at the places that `flow` points to, float32; beyond the border its edge goes on."""
    import cv2

    height, width = flow.shape[:2]
    x = np.arange(width, dtype=np.float32)[None, :] + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    values = picture.astype(np.float32, copy=False)
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)


def top_magnitude(flow: Flow) -> float:
    """Mean length, in pixels, of the fastest twentieth of all flow vectors (at least one)."""
    lengths = np.linalg.norm(np.asarray(flow, dtype=np.float64), axis=2).ravel()
    count = max(1, int(lengths.size * TOP_SHARE))
    return float(np.partition(lengths, lengths.size - count)[-count:].mean())


def motion_share(before: Frame, after: Frame) -> float:
    """`top_magnitude` between two RGB pictures as a share of their diagonal; 0 for equal pictures."""
    if np.array_equal(before, after):
        return 0.0
    return top_magnitude(flow_between(grey(before), grey(after))) / float(np.hypot(*before.shape[:2]))


def mean_speed(moves: FloatArray) -> float:
    """Time-weighted mean speed, in shares of the diagonal a second, of (N, 2) moves: share, seconds."""
    return float(moves[:, 0].sum() / moves[:, 1].sum())


def moving_share(moves: FloatArray, speed: float) -> float:
    """Share of the time, in [0, 1], with more than `speed` diagonals a second; moves as in `mean_speed`."""
    fast = moves[:, 0] > speed * moves[:, 1]
    return float(moves[fast, 1].sum() / moves[:, 1].sum())
