"""Changes of 3-D motions. All are pure and keep the frame rate and the number of frames.

Where joints no longer follow from rotations, the rotations go (None): what is left says what is known.
"""

from __future__ import annotations

import numpy as np

from macebench.baselines._degrade_pose import mirror_order
from macebench.skeleton import SMPL_JOINTS
from macebench.types import Array, FloatArray, Motion

_MIRROR = mirror_order(SMPL_JOINTS)


def only_joints(motion: Motion, joints: FloatArray) -> Motion:
    """A motion of the same rate of which only joints are known."""
    return Motion(motion.fps, joints)


def height_m(motion: Motion) -> float:
    """Median vertical extent of the joints in metres."""
    return float(np.median(np.ptp(motion.joints[..., 1], axis=1))) if len(motion) else 0.0


def jittered(motion: Motion, share: float, rng: np.random.Generator) -> Motion:
    """White noise on every joint of every frame; its deviation is `share` of the dancer's height."""
    return only_joints(motion, motion.joints + rng.normal(0.0, share * height_m(motion), motion.joints.shape))


def at_frames(motion: Motion, frames: Array) -> Motion:
    """The poses of other frames (T,), one after the other."""
    rotations = None if motion.rotations is None else motion.rotations[frames]
    root = None if motion.root is None else motion.root[frames]
    return Motion(motion.fps, motion.joints[frames], rotations, root)


def slowed(motion: Motion, slowness: float) -> Motion:
    """The beginning of the motion at speed ``1 - slowness``, rotations interpolated on the sphere."""
    from macebench.motion import resample_motion

    if len(motion) < 2:
        return motion
    slow = resample_motion(motion.replace(fps=motion.fps * (1.0 - slowness)), motion.fps)
    return at_frames(slow, np.arange(len(motion)))


def blended(motion: Motion, first: Array, second: Array, share: FloatArray) -> Motion:
    """At each frame ``(1 - share)`` of the joints of frame `first` and `share` of those of frame `second`."""
    weight = share[:, None, None]
    return only_joints(motion, motion.joints[first] * (1 - weight) + motion.joints[second] * weight)


def mirrored(motion: Motion) -> Motion:
    """The dance in a mirror at x = 0: left and right change names; rotations turn the other way about y and z."""
    rotations = None if motion.rotations is None else motion.rotations[:, _MIRROR] * [1.0, -1.0, -1.0]
    flip = np.array([-1.0, 1.0, 1.0])
    root = None if motion.root is None else motion.root * flip
    return Motion(motion.fps, motion.joints[:, _MIRROR] * flip, rotations, root)


def moved(motion: Motion, metres: FloatArray) -> Motion:
    """The whole body moved by (3,) or (T, 3) metres; rotations stay."""
    step = np.broadcast_to(np.asarray(metres, dtype=np.float64), (len(motion), 3))
    root = None if motion.root is None else motion.root + step
    return motion.replace(joints=motion.joints + step[:, None], root=root)


def scaled(motion: Motion, factor: float) -> Motion:
    """A body `factor` times as large that dances the same, on the same floor; rotations stay."""
    root = None if motion.root is None else motion.root * factor
    return motion.replace(joints=motion.joints * factor, root=root)


def held(motion: Motion, lost: Array) -> Motion:
    """Joints where (T, 24) `lost` is true keep the position that they had before."""
    frames = np.where(lost, 0, np.arange(len(motion))[:, None])
    last = np.maximum.accumulate(frames, axis=0)
    return only_joints(motion, np.take_along_axis(motion.joints, last[..., None], axis=0))
