"""Editing dances: joining them, mirroring them, reading them at other times, placing them on the floor.

**Joining.** The end of one dance and the start of the next overlap and are cross-faded, rotations on the sphere. The
second is turned about the vertical and moved on the floor so that heading and place of the root agree in the middle of
the overlap; heights are not changed. Feet may slide within the overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from macebench.motion.rotations import (
    axis_angle_to_quaternion,
    quaternion_multiply,
    quaternion_to_axis_angle,
    slerp,
)
from macebench.skeleton import SMPL_JOINTS, axis_angle_to_matrix, forward_kinematics
from macebench.types import FloatArray, Motion

FADE_S = 0.4

_MIRRORED = [
    SMPL_JOINTS.index({"l": "r", "r": "l"}[name[0]] + name[1:]) if name[0] in "lr" else index
    for index, name in enumerate(SMPL_JOINTS)
    if name != "root"
]
_MIRROR = [0, *_MIRRORED]


def sampled(motion: Motion, times_s: FloatArray, fps: float) -> Motion:
    """The poses of a motion at any times, as a motion of `fps` frames a second over SMPL's bone offsets.

    Args:
        motion: With rotations.
        times_s: (T,) seconds from its first frame; those outside are its ends.
        fps: Frames a second of the result.

    Raises:
        ValueError: the motion has no rotations.
    """
    rotations, root = _parts(motion)
    places = np.clip(np.asarray(times_s, dtype=np.float64) * motion.fps, 0, len(motion) - 1)
    before = np.floor(places).astype(np.intp)
    after = np.minimum(before + 1, len(motion) - 1)
    share = places - before
    turns = axis_angle_to_quaternion(rotations)
    place = (1.0 - share[:, None]) * root[before] + share[:, None] * root[after]
    return _motion(slerp(turns[before], turns[after], share[:, None]), place, fps)


def join(motions: Sequence[Motion], *, fade_s: float = FADE_S) -> Motion:
    """Dances one after the other, cross-faded; see the module.

    The result is shorter than the sum by `fade_s` at each join, or by half of the shorter neighbour where that is less.

    Args:
        motions: One or more, with rotations, of one frame rate.
        fade_s: Length of a cross-fade in seconds.

    Raises:
        ValueError: no motion, another frame rate, or one without rotations.
    """
    if not motions or len({motion.fps for motion in motions}) != 1:
        raise ValueError("motions to be joined must be one or more of one frame rate")
    fps = motions[0].fps
    most = round(fade_s * fps)
    fades = [min(most, len(a) // 2, len(b) // 2) for a, b in pairwise(motions)]
    total = sum(len(motion) for motion in motions) - sum(fades)
    turns, root = np.empty((total, len(SMPL_JOINTS), 4)), np.empty((total, 3))
    end = 0
    for motion, fade in zip(motions, [0, *fades], strict=True):
        rotations, place = _parts(motion)
        quaternions = axis_angle_to_quaternion(rotations)
        start = end - fade
        if start > 0:
            middle = fade // 2
            at = min(start + middle, end - 1)
            quaternions, place = _brought(quaternions, place, min(middle, len(place) - 1), turns[at, 0], root[at])
        share = _ease(fade)
        blend = slerp(turns[start:end], quaternions[:fade], share[:, None])
        blended = (1.0 - share[:, None]) * root[start:end] + share[:, None] * place[:fade]
        turns[start:end], root[start:end] = blend, blended
        end = start + len(motion)
        turns[start + fade : end], root[start + fade : end] = quaternions[fade:], place[fade:]
    return _motion(turns, root, fps)


def _ease(count: int) -> FloatArray:
    """Shares within (0, 1) that rise smoothly."""
    u = (np.arange(count) + 1.0) / (count + 1.0)
    return np.asarray(u * u * (3.0 - 2.0 * u))


def heading(turns: FloatArray) -> FloatArray:
    """Angle (...) about the vertical, in radians, that the root's quaternion (..., 4) faces; 0 looks along z."""
    w, x, y, z = np.moveaxis(np.asarray(turns), -1, 0)
    return np.asarray(np.arctan2(2.0 * (x * z + w * y), 1.0 - 2.0 * (x * x + y * y)))


def _brought(
    turns: FloatArray, root: FloatArray, at: int, goal_turn: FloatArray, goal_root: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """A motion turned about the vertical and moved on the floor so that its frame `at` is where the goal is."""
    angle = float(heading(goal_turn) - heading(turns[at, 0]))
    spin = np.array([np.cos(angle / 2.0), 0.0, np.sin(angle / 2.0), 0.0])
    turned = turns.copy()
    turned[:, 0] = quaternion_multiply(np.broadcast_to(spin, (len(turns), 4)), turns[:, 0])
    moved = root @ axis_angle_to_matrix(np.array([0.0, angle, 0.0])).T
    moved[:, [0, 2]] += (goal_root - moved[at])[[0, 2]]
    return turned, moved


def placed(motion: Motion) -> Motion:
    """The dance moved and turned on the floor: it begins by facing along z, and its middle is at the origin.

    Raises:
        ValueError: the motion has no rotations.
    """
    rotations, root = _parts(motion)
    front = np.array([1.0, 0.0, 0.0, 0.0])
    turns, place = _brought(axis_angle_to_quaternion(rotations), root, 0, front, np.zeros(3))
    low, high = place.min(axis=0), place.max(axis=0)
    place[:, [0, 2]] -= ((low + high) / 2.0)[[0, 2]]
    return _motion(turns, place, motion.fps)


def mirrored(motion: Motion) -> Motion:
    """The dance with left and right exchanged, over SMPL's bone offsets.

    Raises:
        ValueError: the motion has no rotations.
    """
    rotations, root = _parts(motion)
    turned = rotations[:, _MIRROR] * [1.0, -1.0, -1.0]
    place = root * [-1.0, 1.0, 1.0]
    return Motion(motion.fps, forward_kinematics(turned, place), turned, place)


def part(motion: Motion, frames: slice) -> Motion:
    """Some frames of a motion."""
    rotations, root = _parts(motion)
    return replace(motion, joints=motion.joints[frames], rotations=rotations[frames], root=root[frames])


def _parts(motion: Motion) -> tuple[FloatArray, FloatArray]:
    if motion.rotations is None or motion.root is None:
        raise ValueError("the motion has no rotations")
    return motion.rotations, motion.root


def _motion(turns: FloatArray, root: FloatArray, fps: float) -> Motion:
    rotations = quaternion_to_axis_angle(turns)
    return Motion(fps, forward_kinematics(rotations, root), rotations, root)


def clean_frames(motion: Motion, *, degrees: float = 60.0) -> NDArray[np.bool_]:
    """(T,) frames that neither jump (a joint turns by more than `degrees` a frame) nor bend further than a body can."""
    from macebench.motion.retarget import broken, jumps

    return np.asarray(~(jumps(motion, degrees=degrees) | broken(motion)), dtype=np.bool_)
