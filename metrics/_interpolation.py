"""Frames guessed from their neighbours: an interpolator on optical flow, and the score of a list of errors.

No network and no weights; the pictures are uint8 arrays. See `macebench.metrics.flow_statistics` for what is
measured with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from macebench.errors import Unscorable
from macebench.metrics._flow import Flow, Frame, fetched, flow_between, grey
from macebench.types import FloatArray

TOO_SHORT = "too short"
TOO_SMALL = "smaller than 128 pixels"
PIXEL = 1.0
"""A flow that comes back within this many pixels counts as consistent: what both frames see is blended evenly."""


class Ends(NamedTuple):
    """The flows between two frames, in pixels, x before y, on the grid of the frame they start from."""

    forth: Flow
    back: Flow


def smoothness(errors: FloatArray, too_small: str = TOO_SMALL) -> float:
    """``(255 - mean error) / 255``, in [0, 1]; 1 when every frame is exactly what its neighbours suggest.

    Args:
        errors: (N,) mean absolute errors of guessed frames, in 0 to 255.
        too_small: The reason for NaN errors, which stand for frames that were too small to guess.

    Raises:
        Unscorable: ``too short`` without errors; `too_small` when they are NaN.
    """
    errors = np.asarray(errors, dtype=np.float64)
    if not errors.size:
        raise Unscorable(TOO_SHORT)
    if np.isnan(errors).any():
        raise Unscorable(too_small)
    return (255.0 - float(errors.mean())) / 255.0


def middle_error(first: Frame, middle: Frame, last: Frame) -> float:
    """Mean absolute difference, in 0 to 255, of `middle` from what `first` and `last` suggest.

    Args:
        first: (H, W, 3) uint8.
        middle: The frame in between.
        last: The frame after it.
    """
    return mean_difference(interpolated(first, last), middle)


def mean_difference(first: Frame, second: Frame) -> float:
    """Mean absolute difference of two uint8 pictures of one shape; the sum is exact.

    Raises:
        ValueError: the shapes differ, or there are no pixels.
    """
    if first.shape != second.shape or not first.size:
        raise ValueError(f"pictures of different or empty size: {first.shape} and {second.shape}")
    import cv2

    return float(cv2.norm(np.ascontiguousarray(first), np.ascontiguousarray(second), cv2.NORM_L1)) / first.size


def interpolated(first: Frame, last: Frame) -> Frame:
    """The (H, W, 3) uint8 picture half way between two pictures, by dense optical flow both ways.

    Equal pictures give that picture. Otherwise DIS flow is estimated in both directions and blended, see `blended`.

    Raises:
        ValueError: a side is too small for the flow.
    """
    if np.array_equal(first, last):
        return first
    before, after = grey(first), grey(last)
    return blended(first, last, Ends(flow_between(before, after), flow_between(after, before)))


def blended(first: Frame, last: Frame, flows: Ends) -> Frame:
    """The picture half way, from given flows.

    The motion is taken to be even, so a point half way came from ``x + (back - forth) / 4`` in the first frame and
    goes to ``x + (forth - back) / 4`` in the last one: the mean of half the backward flow and half the reversed
    forward flow. A point that the other frame does not show has a flow that does not lead back; the frame that shows
    it gets the weight, in proportion to ``PIXEL`` plus the pixels by which the flows miss each other.
    """
    shift = (flows.back - flows.forth) / 4.0
    hidden_in_last = fetched(_mismatch(flows.forth, flows.back), shift)
    hidden_in_first = fetched(_mismatch(flows.back, flows.forth), -shift)
    weight = (PIXEL + hidden_in_last) / (2 * PIXEL + hidden_in_last + hidden_in_first)
    guess = weight[..., None] * fetched(first, shift) + (1 - weight[..., None]) * fetched(last, -shift)
    return np.asarray(np.clip(np.rint(guess), 0, 255), dtype=np.uint8)


def _mismatch(there: Flow, again: Flow) -> NDArray[np.float32]:
    """(H, W) pixels by which going along one flow and back along the other misses the start."""
    return np.asarray(np.linalg.norm(there + fetched(again, there), axis=2), dtype=np.float32)
