"""Another frame rate for a motion, by time.

The new frames lie at k / fps while that is inside the recording, whose last frame is at (T - 1) / fps of the source.
Root positions are interpolated linearly, rotations on the sphere (`macebench.motion.rotations.slerp`). Joints follow
the rotations by forward kinematics over the bone lengths that the clip itself shows, so limbs keep their length; what
the rotations do not explain (at most `BONE_TOLERANCE_M`) is interpolated linearly and added. Where rotations and joints
do not belong together, or there are no rotations, joints are interpolated linearly. A frame of the source that falls on
the new grid is kept as it is.
"""

from __future__ import annotations

import math

import numpy as np

from macebench.motion.rotations import (
    axis_angle_to_quaternion,
    quaternion_to_axis_angle,
    quaternion_to_matrix,
    slerp,
)
from macebench.skeleton import SMPL_PARENTS, axis_angle_to_matrix, forward_kinematics, forward_kinematics_full
from macebench.types import Array, FloatArray, Motion

BONE_TOLERANCE_M = 1e-3
_ON_GRID = 1e-6
_BLOCK = 4096


def resample_motion(motion: Motion, fps: float) -> Motion:
    """The motion at `fps` frames a second; the same object when that is its rate.

    Args:
        motion: T frames.
        fps: Frames a second, above 0.

    Returns:
        floor((T - 1) / motion.fps * fps) + 1 frames.

    Raises:
        ValueError: `fps` is not above 0.
    """
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps is {fps}, must be above 0")
    if motion.fps == fps or len(motion) == 0:
        return motion if motion.fps == fps else motion.replace(fps=fps)
    count = math.floor((len(motion) - 1) / motion.fps * fps + _ON_GRID) + 1
    places = np.minimum(np.arange(count) * (motion.fps / fps), len(motion) - 1)
    nearest = np.rint(places)
    places = np.where(np.abs(places - nearest) < _ON_GRID, nearest, places)
    before = np.floor(places).astype(np.intp)
    share = places - before
    if not share.any():
        return _frames(motion, before, fps)
    return _between(motion, before, share, fps)


def _frames(motion: Motion, index: Array, fps: float) -> Motion:
    """Some frames of a motion, as they are."""
    rotations = None if motion.rotations is None else motion.rotations[index]
    root = None if motion.root is None else motion.root[index]
    return Motion(fps, motion.joints[index], rotations, root)


def _between(motion: Motion, before: Array, share: FloatArray, fps: float) -> Motion:
    """Frames between two of the source, a block at a time, so that memory stays in proportion to the motion."""
    after = np.minimum(before + 1, len(motion) - 1)
    root = None if motion.root is None else _linear(motion.root, before, after, share)
    joints = _linear(motion.joints, before, after, share)
    if motion.rotations is None:
        return Motion(fps, joints, None, root)
    offsets = bone_offsets(motion)
    rotations = np.empty_like(joints)
    for start in range(0, len(share), _BLOCK):
        block = slice(start, start + _BLOCK)
        first, last = int(before[block][0]), int(after[block][-1]) + 1
        part = Motion(motion.fps, motion.joints[first:last], motion.rotations[first:last])
        rotations[block], moved = _turned(part, before[block] - first, after[block] - first, share[block], offsets)
        if moved is not None:
            joints[block] = moved
    return Motion(fps, joints, rotations, root)


def _turned(
    motion: Motion, before: Array, after: Array, share: FloatArray, offsets: FloatArray | None
) -> tuple[FloatArray, FloatArray | None]:
    """(rotations, joints) between frames; joints None where there are no offsets to put them at."""
    source = axis_angle_to_quaternion(np.asarray(motion.rotations))
    turned = slerp(source[before], source[after], share[:, None])
    exact = share == 0
    rotations = quaternion_to_axis_angle(turned)
    rotations[exact] = np.asarray(motion.rotations)[before[exact]]
    if offsets is None:
        return rotations, None
    explained = forward_kinematics(quaternion_to_matrix(source), motion.joints[:, 0], offsets)
    rest = _linear(motion.joints - explained, before, after, share)
    root = _linear(motion.joints[:, 0], before, after, share)
    joints = forward_kinematics(quaternion_to_matrix(turned), root, offsets) + rest
    joints[exact] = motion.joints[before[exact]]
    return rotations, joints


def _linear(values: FloatArray, before: Array, after: Array, share: FloatArray) -> FloatArray:
    weight = share.reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray((1 - weight) * values[before] + weight * values[after])


def bone_offsets(motion: Motion) -> FloatArray | None:
    """The bone offsets over which a motion's rotations give its joints.

    Returns:
        (24, 3) metres in the parent's frame, the median over the frames; None when there are no rotations or when an
        offset leaves the median by more than `BONE_TOLERANCE_M`: then joints and rotations do not belong together.
    """
    if motion.rotations is None or len(motion) == 0:
        return None
    parents = list(SMPL_PARENTS[1:])
    seen = np.empty((len(motion), len(parents), 3))
    for start in range(0, len(motion), _BLOCK):
        block = slice(start, start + _BLOCK)
        joints = motion.joints[block]
        _, world = forward_kinematics_full(axis_angle_to_matrix(motion.rotations[block]), joints[:, 0])
        seen[block] = np.einsum("tjba,tjb->tja", world[:, parents], joints[:, 1:] - joints[:, parents])
    median = np.median(seen, axis=0)
    if np.abs(seen - median).max() > BONE_TOLERANCE_M:
        return None
    return np.concatenate([np.zeros((1, 3)), median])
