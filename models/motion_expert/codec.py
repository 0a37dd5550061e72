"""A motion as the vectors that the Motion Expert learns, and back.

A frame is 151 numbers, at 30 frames a second, z up (EDGE, Tseng et al. 2023; the released code of MACE-Dance):

| channels | what |
|---|---|
| 0 to 3 | contact of ankles and toes (joints 7, 8, 10, 11): 1 under 0.01 m to the next frame, else 0; last frame 1 |
| 4 to 6 | position of the root in metres |
| 7 to 150 | local rotations of 24 joints, 6 numbers each: the first two rows of the matrix |

`macebench.types.Motion` is y up; `encode` turns by +90 degrees about x, `decode` turns back. The contacts are those of
SMPL's bone offsets (`macebench.skeleton.SMPL_OFFSETS_M`), whatever bones the motion itself shows.

`Normalizer` maps each channel to [-1, 1] linearly. All arithmetic on arrays is float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

from macebench.errors import UserError
from macebench.motion.resample import resample_motion
from macebench.motion.rotations import matrix_to_axis_angle, matrix_to_rotation_6d, rotation_6d_to_matrix
from macebench.skeleton import axis_angle_to_matrix, forward_kinematics
from macebench.types import N_JOINTS, Array, FloatArray, Motion

FPS = 30.0
N_FEATURES = 151
CONTACTS = slice(0, 4)
ROOT = slice(4, 7)
ROTATIONS = slice(7, N_FEATURES)
FOOT_JOINTS = (7, 8, 10, 11)
CONTACT_SPEED_M = 0.01

_Y_TO_Z_UP: FloatArray = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_DEGENERATE = 1e-5
_CONSTANT = 10 * float(np.finfo(np.float32).eps)


def joint_channels(joint: int) -> slice:
    """The six channels of a joint's rotation.

    Raises:
        ValueError: SMPL-24 has no such joint.
    """
    if not 0 <= joint < N_JOINTS:
        raise ValueError(f"joint {joint}: allowed are 0 to {N_JOINTS - 1}")
    start = ROTATIONS.start + 6 * joint
    return slice(start, start + 6)


def encode(motion: Motion) -> FloatArray:
    """The vectors (T, 151) of a motion, resampled to 30 frames a second, z up.

    Raises:
        UserError: the motion is empty, has joints only and no rotations, or holds values that are not finite.
    """
    if motion.rotations is None or motion.root is None:
        raise UserError(
            "the motion has joint positions only; the Motion Expert needs rotations.",
            hint="Give a motion with SMPL rotations: `macebench convert` writes one from a BVH or an AIST++ file.",
        )
    if len(motion) == 0:
        raise UserError("the motion has no frame.")
    if not (np.isfinite(motion.rotations).all() and np.isfinite(motion.root).all()):
        raise UserError("the motion has rotations or root positions that are not finite.")
    at_rate = resample_motion(motion, FPS)
    return vectors(np.asarray(at_rate.rotations), np.asarray(at_rate.root))


def vectors(rotations: FloatArray, root: FloatArray) -> FloatArray:
    """The vectors (T, 151), z up, of y-up rotations (T, 24, 3) in axis-angle and root positions (T, 3) in metres."""
    matrices = axis_angle_to_matrix(rotations)
    joints = forward_kinematics(matrices, root)
    matrices[:, 0] = _Y_TO_Z_UP @ matrices[:, 0]
    turned = matrix_to_rotation_6d(matrices).reshape(len(root), -1)
    return np.concatenate([foot_contacts(joints), root @ _Y_TO_Z_UP.T, turned], axis=1)


def foot_contacts(joints: FloatArray) -> FloatArray:
    """(T, 4) contacts of joints (T, 24, 3) in metres: 1 under `CONTACT_SPEED_M` to the next frame, else 0; last 1."""
    feet = joints[:, list(FOOT_JOINTS)]
    speed = np.zeros(feet.shape[:2])
    speed[:-1] = np.linalg.norm(np.diff(feet, axis=0), axis=-1)
    return (speed < CONTACT_SPEED_M).astype(np.float64)


def decode(frames: Array) -> Motion:
    """The motion, y up at 30 frames a second, that vectors (T, 151) stand for, over SMPL's bone offsets.

    Contacts are ignored. Six numbers that are no rotation (a zero row, or parallel rows), as an untrained network may
    give them, are completed to the nearest simple one instead of failing.

    Raises:
        UserError: another shape, or values that are not finite.
    """
    x = np.asarray(frames, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != N_FEATURES:
        raise UserError(f"motion vectors have shape {x.shape}, expected (T, {N_FEATURES}).")
    if not np.isfinite(x).all():
        raise UserError("the motion vectors hold values that are not finite.")
    matrices = rotation_6d_to_matrix(_completed(x[:, ROTATIONS].reshape(len(x), N_JOINTS, 6)))
    matrices[:, 0] = _Y_TO_Z_UP.T @ matrices[:, 0]
    root = x[:, ROOT] @ _Y_TO_Z_UP
    return Motion(FPS, forward_kinematics(matrices, root), matrix_to_axis_angle(matrices), root)


def _completed(rotation: FloatArray) -> FloatArray:
    """6-D rotations (..., 6) in which no row is zero or parallel to the other."""
    first, second = rotation[..., :3], rotation[..., 3:]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    first = np.where(length < _DEGENERATE, [1.0, 0.0, 0.0], first)
    unit = first / np.linalg.norm(first, axis=-1, keepdims=True)
    rest = second - np.sum(unit * second, axis=-1, keepdims=True) * unit
    lost = np.linalg.norm(rest, axis=-1, keepdims=True) < _DEGENERATE
    across = np.eye(3)[np.argmin(np.abs(unit), axis=-1)]
    return np.concatenate([first, np.where(lost, across, second)], axis=-1)


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Each channel to [-1, 1]: normalised = value * scale + minimum, the min-max scaler of EDGE.

    Attributes:
        scale: (C,) float64, not 0.
        minimum: (C,) float64; the normalised value of 0.

    Raises:
        ValueError: shapes differ, a value is not finite or a scale is 0.
    """

    scale: FloatArray
    minimum: FloatArray

    def __post_init__(self) -> None:
        for name in ("scale", "minimum"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.scale.ndim != 1 or self.scale.shape != self.minimum.shape:
            raise ValueError(f"normalizer: scale {self.scale.shape} and minimum {self.minimum.shape}")
        if not (np.isfinite(self.scale).all() and np.isfinite(self.minimum).all() and self.scale.all()):
            raise ValueError("normalizer: values must be finite and the scale not 0")

    @classmethod
    def fit(cls, frames: Array) -> Normalizer:
        """The normalizer that maps the smallest value of each channel to -1 and the largest to 1.

        A channel that is constant (up to 10 float32 roundings of 1) gets the scale 2, so that it maps to -1.

        Args:
            frames: (..., C) training vectors.

        Raises:
            UserError: no frame, or values that are not finite.
        """
        flat = np.asarray(frames).reshape(-1, np.shape(frames)[-1])
        if len(flat) == 0:
            raise UserError("there is no frame to fit the normalizer to.")
        low, high = flat.min(axis=0).astype(np.float64), flat.max(axis=0).astype(np.float64)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise UserError("the training motions hold values that are not finite.")
        extent = high - low
        scale = 2.0 / np.where(extent < _CONSTANT, 1.0, extent)
        return cls(scale, -1.0 - low * scale)

    @overload
    def normalize(self, x: Tensor, *, clip: bool = ...) -> Tensor: ...
    @overload
    def normalize(self, x: Array, *, clip: bool = ...) -> FloatArray: ...
    def normalize(self, x: Tensor | Array, *, clip: bool = True) -> Tensor | FloatArray:
        """Normalised values (..., C), clipped to [-1, 1] unless `clip` is false; a tensor keeps its type and device."""
        if isinstance(x, Tensor):
            result = x * _like(self.scale, x) + _like(self.minimum, x)
            return result.clamp(-1, 1) if clip else result
        values = np.asarray(x, dtype=np.float64) * self.scale + self.minimum
        return np.clip(values, -1, 1) if clip else values

    @overload
    def unnormalize(self, x: Tensor, *, clip: bool = ...) -> Tensor: ...
    @overload
    def unnormalize(self, x: Array, *, clip: bool = ...) -> FloatArray: ...
    def unnormalize(self, x: Tensor | Array, *, clip: bool = True) -> Tensor | FloatArray:
        """Values (..., C) of normalised ones, which are clipped to [-1, 1] first unless `clip` is false."""
        if isinstance(x, Tensor):
            inside = x.clamp(-1, 1) if clip else x
            return (inside - _like(self.minimum, x)) / _like(self.scale, x)
        values = np.asarray(x, dtype=np.float64)
        return ((np.clip(values, -1, 1) if clip else values) - self.minimum) / self.scale


def _like(array: FloatArray, x: Tensor) -> Tensor:
    return torch.tensor(array, dtype=x.dtype, device=x.device)
