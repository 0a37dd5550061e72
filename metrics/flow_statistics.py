"""What optical flow says of a clip: flow-interpolated motion smoothness (``ms_flow``) and dynamic degree.

Both need no weights. Flow is OpenCV's DIS at 320 pixels along the longer side (`macebench.metrics._flow`).

``flow_interpolation`` -> ``ms_flow``: every frame with two neighbours is guessed from them
(`macebench.metrics._interpolation`) and compared with what it is; ``(255 - mean error) / 255``. It follows the idea of
VBench's motion smoothness, but it is a metric of its own and its numbers must not stand in a column with that one:
another interpolator, another size, and every inner frame instead of every other. Like that one it rewards not moving:
a frozen picture scores 1.

``flow_magnitude`` -> dynamic degree: the clip is looked at 8 times a second. Between two looks, the mean length of the
fastest 5 % of all flow vectors, as a share of the diagonal, over the seconds between them, is the speed. The value is
the time-weighted mean speed in diagonals a second. A clip is ``dynamic`` when at least a quarter of its time is
faster than 0.13 diagonals a second. VBench's dynamic degree (Huang et al., 2024) has the same shape (8 looks a second,
fastest 5 %, 6/256 of the shorter side between two looks, a quarter of the looks), and for square pictures the same
threshold, but takes RAFT's flow. DIS finds less of large and of small motions: the two are not comparable.
"""

from __future__ import annotations

import math

import numpy as np

from macebench.errors import Unscorable
from macebench.metrics._flow import Frame, mean_speed, motion_share, moving_share, resized, working_size
from macebench.metrics._interpolation import TOO_SHORT, middle_error, smoothness
from macebench.registry import frame_statistic
from macebench.types import FloatArray

INTERPOLATION, MAGNITUDE = "flow_interpolation", "flow_magnitude"
LOOKS_PER_S = 8.0
DYNAMIC_SPEED = 0.13
"""Diagonals a second; 6 of 256 pixels in an eighth of a second, for a square picture."""
DYNAMIC_SHARE = 0.25
TOO_THIN = "too thin for optical flow"
_EARLY_S = 1e-3


class _Resizer:
    """Checks frames and brings them to the working size; None where that is too thin for flow."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None
        self._size: tuple[int, int] | None = None

    def check(self, frames: Frame) -> None:
        """Raises ValueError for frames that are not (B, H, W, 3) uint8, or of another size than before."""
        if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[3] != 3 or not all(frames.shape[1:]):
            raise ValueError(f"frames {frames.shape} {frames.dtype}, expected (B, H, W, 3) uint8")
        if self._shape is None:
            self._shape = frames.shape[1:]
            self._size = working_size(*frames.shape[1:3])
        elif self._shape != frames.shape[1:]:
            raise ValueError(f"frames of different size: {self._shape} and {frames.shape[1:]}")

    def small(self, frame: Frame) -> Frame | None:
        """A copy of `frame` at the working size."""
        return None if self._size is None else resized(frame, self._size)


@frame_statistic(INTERPOLATION)
class FlowInterpolation:
    """Mean absolute error of each inner frame guessed from its neighbours, (T - 2,) in 0 to 255.

    NaN throughout when the picture is too thin for flow; empty under three frames.
    """

    version = 1

    def __init__(self) -> None:
        self._resizer = _Resizer()
        self._last: list[Frame | None] = []
        self._errors: list[float] = []

    def update(self, frames: Frame, times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) uint8 frames; their timestamps play no part.

        Raises:
            ValueError: not uint8, not three channels, empty, or another size than before.
        """
        self._resizer.check(frames)
        for frame in frames:
            self._last = [*self._last[-2:], self._resizer.small(frame)]
            if len(self._last) == 3:
                self._errors.append(_error(*self._last))

    def result(self) -> FloatArray:
        """(T - 2,) errors."""
        return np.array(self._errors, dtype=np.float64)


def _error(first: Frame | None, middle: Frame | None, last: Frame | None) -> float:
    if first is None or middle is None or last is None:
        return float("nan")
    return middle_error(first, middle, last)


@frame_statistic(MAGNITUDE)
class FlowMagnitude:
    """Motion between looks at the clip, (N, 2): share of the diagonal, and seconds.

    Looked at are the first frame and the first one at or after each eighth of a second from there. So two looks are
    1 / 8 s apart on average whatever the frame rate, below 8 frames a second every frame is looked at, and a gap in
    the timestamps counts with its length. The share is NaN when the picture is too thin for flow. There are no rows
    when no frame lies 1 / 8 s after the first one.
    """

    version = 1

    def __init__(self) -> None:
        self._resizer = _Resizer()
        self._seen: Frame | None = None
        self._start_s = self._seen_s = 0.0
        self._next = 0
        self._moves: list[tuple[float, float]] = []

    def update(self, frames: Frame, times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) uint8 frames and their (B,) timestamps in seconds.

        Raises:
            ValueError: not uint8, not three channels, empty, another size than before, or not one time a frame.
        """
        self._resizer.check(frames)
        for frame, time_s in zip(frames, np.asarray(times_s, dtype=np.float64).tolist(), strict=True):
            if self._next == 0:
                self._start_s = time_s
            looks = (time_s - self._start_s + _EARLY_S) * LOOKS_PER_S
            if looks >= self._next:
                self._look(self._resizer.small(frame), time_s)
                self._next = math.floor(looks) + 1

    def _look(self, frame: Frame | None, time_s: float) -> None:
        if self._next:
            self._moves.append((_share(self._seen, frame), time_s - self._seen_s))
        self._seen, self._seen_s = frame, time_s

    def result(self) -> FloatArray:
        """(N, 2) moves."""
        return np.array(self._moves, dtype=np.float64).reshape(-1, 2)


def _share(before: Frame | None, after: Frame | None) -> float:
    return float("nan") if before is None or after is None else motion_share(before, after)


def flow_smoothness(errors: FloatArray) -> float:
    """``ms_flow`` of a clip, in [0, 1], from the errors of `FlowInterpolation`.

    Raises:
        Unscorable: ``too short`` under three frames, ``too thin for optical flow``.
    """
    return smoothness(errors, TOO_THIN)


def dynamic_degree(moves: FloatArray) -> tuple[float, bool]:
    """Mean speed in diagonals a second, and whether the clip counts as dynamic, from `FlowMagnitude`.

    Raises:
        Unscorable: ``too short`` without two looks, ``too thin for optical flow``.
    """
    moves = np.asarray(moves, dtype=np.float64)
    if not len(moves):
        raise Unscorable(TOO_SHORT)
    if np.isnan(moves).any():
        raise Unscorable(TOO_THIN)
    return mean_speed(moves), moving_share(moves, DYNAMIC_SPEED) >= DYNAMIC_SHARE
