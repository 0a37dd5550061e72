"""Rotations and forward kinematics of SMPL-24 in torch, with gradients.

Any leading axes (``...``), any floating type, any device. Matrices act on column vectors. The 6-D form is the first two
ROWS of the matrix (Zhou et al. 2019, as in pytorch3d). Equal to `macebench.motion.rotations` and
`macebench.skeleton.forward_kinematics`, which are the float64 versions in numpy. Bone offsets are
`macebench.skeleton.SMPL_OFFSETS_M`, in metres.

All gradients are finite, also at the rotation by 0 and, for `matrix_to_axis_angle`, where the axis is not defined.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from macebench.skeleton import SMPL_OFFSETS_M, SMPL_PARENTS

_TINY = 1e-12
_SMALL_ANGLE = 1e-3


def _levels() -> tuple[tuple[slice, tuple[int, ...]], ...]:
    """(joints, places of their parents in the level above) for each depth of the tree; SMPL's order is by depth."""
    depth = [0]
    for parent in SMPL_PARENTS[1:]:
        depth.append(depth[parent] + 1)
    levels = []
    for level in range(1, max(depth) + 1):
        joints = [joint for joint, own in enumerate(depth) if own == level]
        above = depth.index(level - 1)
        parents = tuple(SMPL_PARENTS[joint] - above for joint in joints)
        levels.append((slice(joints[0], joints[-1] + 1), parents))
    return tuple(levels)


_LEVELS = _levels()


def rot6d_to_matrix(rotation: Float[Tensor, "*n 6"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrices of 6-D vectors, made orthonormal by Gram-Schmidt from the first row on.

    A zero row, or parallel rows, give a matrix with a zero row instead of an error.
    """
    first = functional.normalize(rotation[..., :3], dim=-1)
    second = rotation[..., 3:]
    second = functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), dim=-2)


def matrix_to_rot6d(matrix: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 6"]:
    """The first two rows of matrices."""
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrices of axis-angle vectors in radians (Rodrigues)."""
    square = (axis_angle * axis_angle).sum(-1)[..., None, None]
    near = square < _SMALL_ANGLE**2
    angle = torch.where(near, torch.ones_like(square), square).sqrt()
    sine = torch.where(near, 1 - square / 6, angle.sin() / angle)
    # (1 - cos a) / a^2 through the half angle, which loses no digits
    cosine = torch.where(near, 0.5 - square / 24, 2 * ((angle / 2).sin() / angle) ** 2)
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).reshape(*axis_angle.shape[:-1], 3, 3)
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + sine * cross + cosine * (cross @ cross)


def matrix_to_axis_angle(matrix: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3"]:
    """Axis-angle in radians, angle in [0, pi], of rotation matrices; compare rotations near pi as matrices."""
    quaternion = _matrix_to_quaternion(matrix)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    w, axis = quaternion[..., :1], quaternion[..., 1:]
    square = (axis * axis).sum(-1, keepdim=True)
    near = square < _TINY
    length = torch.where(near, torch.ones_like(square), square).sqrt()
    # angle / length tends to 2 / w
    return axis * torch.where(near, 2 / w.clamp(min=0.5), 2 * torch.atan2(length, w) / length)


def _matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Quaternions (..., 4), real part first; of the four ways the one with the largest divisor (Shepperd 1978)."""
    m = matrix
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    x, y, z = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    squares = torch.stack((m00 + m11 + m22, m00 - m11 - m22, m11 - m00 - m22, m22 - m00 - m11), dim=-1) + 1
    s0, s1, s2, s3 = squares.unbind(-1)
    entries = (s0, x, y, z, x, s1, xy, xz, y, xy, s2, yz, z, xz, yz, s3)
    table = torch.stack(entries, dim=-1).reshape(*m.shape[:-2], 4, 4)
    best = squares.argmax(dim=-1)[..., None, None].expand(*m.shape[:-2], 1, 4)
    return functional.normalize(table.gather(-2, best)[..., 0, :], dim=-1)


def forward_kinematics(
    rotations: Float[Tensor, "*n 24 3 3"], root: Float[Tensor, "*n 3"], offsets: Tensor | None = None
) -> Float[Tensor, "*n 24 3"]:
    """Joint positions in metres from local rotations.

    Args:
        rotations: Local rotation matrices in the order of `macebench.skeleton.SMPL_JOINTS`.
        root: Position of the root in metres; any frame, the joints are in the same.
        offsets: (24, 3) bone offsets from the parent in metres; those of SMPL when None.
    """
    if offsets is None:
        offsets = torch.as_tensor(SMPL_OFFSETS_M)
    offsets = offsets.to(dtype=rotations.dtype, device=rotations.device)[..., None]
    turned, places = rotations[..., :1, :, :], root[..., None, :]
    joints = [places]
    for own, parents in _LEVELS:
        if parents != tuple(range(len(parents))) or len(parents) != turned.shape[-3]:
            index = torch.tensor(parents, device=rotations.device)
            turned, places = turned.index_select(-3, index), places.index_select(-2, index)
        places = places + (turned @ offsets[own])[..., 0]
        turned = turned @ rotations[..., own, :, :]
        joints.append(places)
    return torch.cat(joints, dim=-2)
