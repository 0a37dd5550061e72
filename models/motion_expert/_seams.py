"""Blending at the borders between kept and made frames of one track: the root, or one joint's rotation.

A gap is a stretch of made frames. At each of its borders with kept frames the made side gets a correction that is
complete at the frame next to the border and fades out along a half cosine. The corrections of both borders of a gap
are independent: each has faded out at the other border. All other frames come back bit by bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.motion.rotations import (
    axis_angle_to_quaternion,
    quaternion_multiply,
    quaternion_to_axis_angle,
    slerp,
)
from macebench.types import FloatArray

_CONJUGATE = np.array([1.0, -1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Seam:
    """A gap [start, end) of made frames, and how many kept frames lie in a row before and behind it."""

    start: int
    end: int
    before: int
    after: int


def seams_of(kept: NDArray[np.bool_]) -> list[Seam]:
    """The gaps of a track (T,) that touch a kept frame."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], kept, [True]]).astype(np.int8)))
    starts, ends = edges[::2].tolist(), edges[1::2].tolist()
    last, following = [0, *ends][: len(ends)], [*starts[1:], len(kept)]
    found = [Seam(a, b, a - c, d - b) for a, b, c, d in zip(starts, ends, last, following, strict=False)]
    return [seam for seam in found if seam.before or seam.after]


def weights(size: float, frames: int, limit: float, gap: int) -> FloatArray:
    """Shares of a correction at 1, 2, ... frames from the border, 1 at the first.

    Args:
        size: Length of the correction.
        frames: Shortest blend in frames.
        limit: Largest change a frame that the fading may add; a longer blend keeps it where the gap allows.
        gap: Frames of the gap.
    """
    wanted = max(frames, math.ceil(0.5 * math.pi * size / limit))
    length = max(1, min(wanted, gap - 1))
    return 0.5 * (1.0 + np.cos(np.pi * np.arange(length) / length))


def blend_vectors(track: FloatArray, seams: list[Seam], frames: int, limit: float) -> FloatArray:
    """A track (T, 3) with its gaps blended to their borders; `limit` in units of the track a frame."""
    result = track.copy()
    for seam in seams:
        if seam.before and seam.after and seam.end - seam.start == 1:
            result[seam.start] = (track[seam.start - 1] + track[seam.end]) / 2
            continue
        for border, step in _borders(seam):
            near, gap = border + step, seam.end - seam.start
            speeds = [track[a + step] - track[a] for a in _pairs(seam, border, step)]
            error = track[border] + (sum(speeds) / len(speeds) if speeds else 0.0) - track[near]
            share = weights(float(np.linalg.norm(error)), frames, limit, gap if seam.before and seam.after else gap + 1)
            result[near + step * np.arange(len(share))] += share[:, None] * error
    return result


def blend_rotations(track: FloatArray, seams: list[Seam], frames: int, limit: float) -> FloatArray:
    """As `blend_vectors` for a track (T, 3) of axis-angle; `limit` in radians a frame."""
    result = track.copy()
    if not seams:
        return result
    turned = axis_angle_to_quaternion(track)
    made = turned.copy()
    for seam in seams:
        if seam.before and seam.after and seam.end - seam.start == 1:
            made[seam.start] = slerp(turned[seam.start - 1], turned[seam.end], np.array(0.5))
        else:
            for border, step in _borders(seam):
                _blend_border(turned, made, seam, border, step, frames, limit)
        result[seam.start : seam.end] = quaternion_to_axis_angle(made[seam.start : seam.end])
    return result


def _blend_border(
    turned: FloatArray, made: FloatArray, seam: Seam, border: int, step: int, frames: int, limit: float
) -> None:
    """Correct the quaternions `made` (T, 4) near one border of a gap; `turned` are those before any correction."""
    near, gap = border + step, seam.end - seam.start
    speeds = [_turn(turned[a], turned[a + step]) for a in _pairs(seam, border, step)]
    mean = sum(speeds) / len(speeds) if speeds else np.zeros(3)
    wanted = quaternion_multiply(axis_angle_to_quaternion(np.asarray(mean)), turned[border])
    error = _turn(turned[near], wanted)
    share = weights(float(np.linalg.norm(error)), frames, limit, gap if seam.before and seam.after else gap + 1)
    index = near + step * np.arange(len(share))
    made[index] = quaternion_multiply(axis_angle_to_quaternion(share[:, None] * error), made[index])


def _borders(seam: Seam) -> list[tuple[int, int]]:
    """(kept frame at the border, direction into the gap)."""
    first = [(seam.start - 1, 1)] if seam.before else []
    return [*first, (seam.end, -1)] if seam.after else first


def _pairs(seam: Seam, border: int, step: int) -> list[int]:
    """First frames of the pairs that tell the speed on both sides of a border, going into the gap.

    The kept pair ends at the border, the made one begins behind it. A side of one frame tells nothing.
    """
    kept = seam.before if step > 0 else seam.after
    pairs = [(border - step, kept > 1), (border + step, seam.end - seam.start > 1)]
    return [frame for frame, there in pairs if there]


def _turn(start: FloatArray, end: FloatArray) -> FloatArray:
    """The rotation (3,), in the frame outside the joint, that leads from one quaternion to another, the short way."""
    return quaternion_to_axis_angle(quaternion_multiply(end, start * _CONJUGATE))
