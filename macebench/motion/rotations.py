"""Rotations: conversions between axis-angle, matrix, quaternion, 6-D and Euler angles, and spherical interpolation.

Everything is float64, pure and vectorised: the last axes hold one rotation, all axes before them are kept (``...``).

| form | shape | meaning |
|---|---|---|
| axis-angle | (..., 3) | axis times angle, radians |
| matrix | (..., 3, 3) | acts on column vectors, v' = R v |
| quaternion | (..., 4) | (w, x, y, z), unit length; q and -q are the same rotation |
| 6-D | (..., 6) | first two ROWS of the matrix, one after the other (Zhou et al. 2019 as in pytorch3d) |
| Euler | (..., n) | radians, intrinsic: order "zxy" means R = Rz Rx Ry, the convention of BVH channels |

Axis-angle that comes out of a conversion is the shortest: angle in [0, pi]. Compare rotations as matrices.
"""

from __future__ import annotations

import numpy as np

from macebench.skeleton import axis_angle_to_matrix
from macebench.types import FloatArray

__all__ = [
    "axis_angle_to_matrix", "axis_angle_to_quaternion", "euler_to_matrix", "matrix_to_axis_angle", "matrix_to_euler",
    "matrix_to_quaternion", "matrix_to_rotation_6d", "quaternion_multiply", "quaternion_to_axis_angle",
    "quaternion_to_matrix", "rotation_6d_to_matrix", "slerp", "turn_up_z_to_y",
]  # fmt: skip

_TINY = 1e-12
_DEGENERATE = 1e-6
_AXES = "xyz"


def axis_angle_to_quaternion(axis_angle: FloatArray) -> FloatArray:
    """Unit quaternions (..., 4) of axis-angle vectors (..., 3) in radians."""
    vector = np.asarray(axis_angle, dtype=np.float64)
    half = 0.5 * np.linalg.norm(vector, axis=-1, keepdims=True)
    # sin(a/2)/a through numpy's sinc, exact at 0
    return np.concatenate([np.cos(half), 0.5 * np.sinc(half / np.pi) * vector], axis=-1)


def quaternion_to_axis_angle(quaternion: FloatArray) -> FloatArray:
    """Axis-angle (..., 3), angle in [0, pi], of quaternions (..., 4); their length does not matter, 0 is no turn."""
    q = np.asarray(quaternion, dtype=np.float64)
    q = np.where(q[..., :1] < 0, -q, q)
    length = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(length, q[..., :1])
    small = length < _TINY
    # angle/length tends to 2/w; w is 0 only in the zero quaternion
    scale = np.where(small, 2.0 / np.maximum(q[..., :1], _TINY), angle / np.where(small, 1.0, length))
    return np.asarray(scale * q[..., 1:])


def quaternion_to_matrix(quaternion: FloatArray) -> FloatArray:
    """Matrices (..., 3, 3) of unit quaternions (..., 4)."""
    q = np.asarray(quaternion, dtype=np.float64)
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, axis=-1).reshape(*q.shape[:-1], 3, 3)


def matrix_to_quaternion(matrix: FloatArray) -> FloatArray:
    """Unit quaternions (..., 4), w >= 0, of rotation matrices (..., 3, 3).

    Of the four ways to write a quaternion from a matrix the one with the largest divisor is taken (Shepperd 1978), so
    angles near 0 and near pi are exact.
    """
    m = np.asarray(matrix, dtype=np.float64)
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    x, y, z = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    squares = np.stack([m00 + m11 + m22, m00 - m11 - m22, m11 - m00 - m22, m22 - m00 - m11], axis=-1) + 1.0
    table = np.stack(
        [squares[..., 0], x, y, z, x, squares[..., 1], xy, xz, y, xy, squares[..., 2], yz, z, xz, yz, squares[..., 3]],
        axis=-1,
    ).reshape(*m.shape[:-2], 4, 4)
    best = np.argmax(squares, axis=-1)[..., None, None]
    q = np.take_along_axis(table, best, axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.asarray(np.where(q[..., :1] < 0, -q, q))


def matrix_to_axis_angle(matrix: FloatArray) -> FloatArray:
    """Axis-angle (..., 3) in radians, angle in [0, pi], of rotation matrices (..., 3, 3)."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def matrix_to_rotation_6d(matrix: FloatArray) -> FloatArray:
    """The first two rows (..., 6) of matrices (..., 3, 3)."""
    m = np.asarray(matrix, dtype=np.float64)
    return m[..., :2, :].reshape(*m.shape[:-2], 6)


def rotation_6d_to_matrix(rotation: FloatArray) -> FloatArray:
    """Rotation matrices (..., 3, 3) of 6-D vectors (..., 6), made orthonormal by Gram-Schmidt from the first row on.

    Raises:
        ValueError: a row is (nearly) zero or both rows are (nearly) parallel: that is no rotation.
    """
    vector = np.asarray(rotation, dtype=np.float64)
    first, length = _unit(vector[..., :3])
    second = vector[..., 3:]
    second, rest = _unit(second - np.sum(first * second, axis=-1, keepdims=True) * first)
    if np.any(length < _DEGENERATE) or np.any(rest < _DEGENERATE):
        raise ValueError("6-D rotation with a zero row or parallel rows")
    return np.stack([first, second, np.cross(first, second)], axis=-2)


def _unit(vector: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(direction, length) of vectors; a zero vector stays zero."""
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    return vector / np.maximum(length, _TINY), length


def euler_to_matrix(angles: FloatArray, order: str) -> FloatArray:
    """Matrices (..., 3, 3) of intrinsic Euler angles.

    Args:
        angles: (..., n) radians, in the order of `order`.
        order: n letters of x, y, z (any case), one an angle; "zxy" means R = Rz Rx Ry.

    Raises:
        ValueError: another letter, or not as many letters as angles.
    """
    turns = np.asarray(angles, dtype=np.float64)
    letters = order.lower()
    if len(letters) != turns.shape[-1] or set(letters) - set(_AXES):
        raise ValueError(f"order {order!r} for {turns.shape[-1]} Euler angles")
    result = np.broadcast_to(np.eye(3), (*turns.shape[:-1], 3, 3))
    for place, letter in enumerate(letters):
        result = result @ axis_angle_to_matrix(turns[..., place, None] * np.eye(3)[_AXES.index(letter)])
    return np.asarray(result)


def matrix_to_euler(matrix: FloatArray, order: str) -> FloatArray:
    """Intrinsic Euler angles (..., 3) in radians of matrices (..., 3, 3); the middle one in [-pi/2, pi/2].

    In gimbal lock the last angle is 0.

    Raises:
        ValueError: `order` does not hold each of x, y, z once.
    """
    m = np.asarray(matrix, dtype=np.float64)
    if sorted(order.lower()) != list(_AXES):
        raise ValueError(f"order {order!r}: expected x, y and z once each")
    i, j, k = (_AXES.index(letter) for letter in order.lower())
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    flat = np.hypot(m[..., i, i], m[..., i, j])
    locked = flat < 1e-9
    middle = np.arctan2(sign * m[..., i, k], flat)
    first = np.where(
        locked, np.arctan2(sign * m[..., k, j], m[..., j, j]), np.arctan2(-sign * m[..., j, k], m[..., k, k])
    )
    last = np.where(locked, 0.0, np.arctan2(-sign * m[..., i, j], m[..., i, i]))
    return np.stack([first, middle, last], axis=-1)


def quaternion_multiply(first: FloatArray, second: FloatArray) -> FloatArray:
    """Hamilton product (..., 4): the rotation `second`, then `first`."""
    w1, x1, y1, z1 = np.moveaxis(np.asarray(first, dtype=np.float64), -1, 0)
    w2, x2, y2, z2 = np.moveaxis(np.asarray(second, dtype=np.float64), -1, 0)
    return np.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        axis=-1,
    )


def slerp(start: FloatArray, end: FloatArray, share: FloatArray) -> FloatArray:
    """Spherical interpolation of unit quaternions, the shorter way round.

    The rotation between both turns at constant speed about one axis (Shoemake 1985).

    Args:
        start: (..., 4) at share 0.
        end: (..., 4) at share 1.
        share: (...) or a shape that broadcasts against it, in [0, 1].

    Returns:
        (..., 4) unit quaternions.
    """
    q0, q1 = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    part = np.asarray(share, dtype=np.float64)[..., None]
    cosine = np.sum(q0 * q1, axis=-1, keepdims=True)
    q1 = np.where(cosine < 0, -q1, q1)
    # the angle from sine and cosine, which is exact near 0, where the arc cosine is not
    across = np.linalg.norm(q1 - np.abs(cosine) * q0, axis=-1, keepdims=True)
    angle = np.arctan2(across, np.abs(cosine))
    weight = part * np.sinc(part * angle / np.pi) / np.sinc(angle / np.pi)
    rest = (1 - part) * np.sinc((1 - part) * angle / np.pi) / np.sinc(angle / np.pi)
    result = rest * q0 + weight * q1
    return np.asarray(result / np.linalg.norm(result, axis=-1, keepdims=True))


def turn_up_z_to_y(vectors: FloatArray) -> FloatArray:
    """Vectors (..., 3) of a z-up frame in the y-up frame: (x, y, z) becomes (x, z, -y), -90 degrees about x."""
    v = np.asarray(vectors, dtype=np.float64)
    return np.stack([v[..., 0], v[..., 2], -v[..., 1]], axis=-1)
