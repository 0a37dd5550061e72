"""Rotations, leg inverse kinematics and key-pose interpolation for the choreographer.

World: metres, y up, the dancer faces +z, her left is +x. Angles are radians. The skeleton is SMPL-24 of
`macebench.skeleton`; the inverse kinematics are exact for its offsets (closed form, law of cosines).
"""

from __future__ import annotations

import numpy as np

from macebench.skeleton import SMPL_OFFSETS_M
from macebench.types import Array, FloatArray

LEG_REACH = 0.992
"""Longest hip-to-ankle distance as a share of the leg's length: knees never lock."""


def rotation(axis: int, angle: FloatArray) -> FloatArray:
    """(..., 3, 3) rotations by `angle` (...) about a coordinate axis (0 x, 1 y, 2 z)."""
    angle = np.asarray(angle, dtype=np.float64)
    result = np.zeros((*angle.shape, 3, 3))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    result[..., axis, axis] = 1.0
    result[..., first, first] = result[..., second, second] = np.cos(angle)
    result[..., second, first] = np.sin(angle)
    result[..., first, second] = -np.sin(angle)
    return result


def euler(angles: FloatArray) -> FloatArray:
    """(..., 3, 3) rotations of (..., 3) pitch, yaw and roll: first roll, then pitch, then yaw."""
    return np.asarray(rotation(1, angles[..., 1]) @ rotation(0, angles[..., 0]) @ rotation(2, angles[..., 2]))


def matrix_to_axis_angle(matrices: FloatArray) -> FloatArray:
    """Axis-angle vectors (..., 3) of rotation matrices (..., 3, 3); angles in [0, pi]."""
    quaternion = matrix_to_quaternion(matrices)
    quaternion = np.where(quaternion[..., :1] < 0.0, -quaternion, quaternion)
    sine = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, quaternion[..., :1])
    return np.asarray(quaternion[..., 1:] * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 2.0))


def matrix_to_quaternion(matrices: FloatArray) -> FloatArray:
    """Unit quaternions (..., 4), scalar first, of rotation matrices (..., 3, 3).

    The largest of the four components is found first, so that no division is by a small number.
    """
    m = np.asarray(matrices, dtype=np.float64)
    x, y, z = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = np.stack([1 + x + y + z, 1 + x - y - z, 1 - x + y - z, 1 - x - y + z], axis=-1)
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = np.stack(
        [
            np.stack([squares[..., 0], wx, wy, wz], axis=-1),
            np.stack([wx, squares[..., 1], xy, xz], axis=-1),
            np.stack([wy, xy, squares[..., 2], yz], axis=-1),
            np.stack([wz, xz, yz, squares[..., 3]], axis=-1),
        ],
        axis=-2,
    )
    best = squares.argmax(axis=-1)[..., None, None]
    chosen = np.take_along_axis(rows, best, axis=-2)[..., 0, :]
    return np.asarray(chosen / np.linalg.norm(chosen, axis=-1, keepdims=True))


def quaternion_to_matrix(quaternions: FloatArray) -> FloatArray:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), scalar first; they are normalised here."""
    q = quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)
    w, v = q[..., 0, None, None], q[..., 1:]
    x, y, z = np.moveaxis(v, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*v.shape[:-1], 3, 3)
    return np.asarray(np.eye(3) + 2.0 * w * cross + 2.0 * (cross @ cross))


def interpolate(keys: FloatArray, key_times: FloatArray, times: FloatArray, flow: FloatArray) -> FloatArray:
    """Cubic Hermite interpolation of key poses.

    Args:
        keys: (B, C) channels at the keys.
        key_times: (B,) seconds, increasing.
        times: (T,) seconds within the keys.
        flow: (C,) share of the Catmull-Rom tangent kept at a key: at 0 a channel comes to rest on every
            key, which is what puts the minima of speed on the beats.

    Returns:
        (T, C) channels.
    """
    slot, u = locate(key_times, times)
    span = np.diff(key_times)[slot][:, None]
    tangent = np.zeros_like(keys)
    tangent[1:-1] = (keys[2:] - keys[:-2]) / (key_times[2:] - key_times[:-2])[:, None]
    tangent *= flow
    u = u[:, None]
    ease = u * u * (3.0 - 2.0 * u)
    leave, arrive = u * (1.0 - u) ** 2 * span, u * u * (u - 1.0) * span
    straight = keys[slot] * (1.0 - ease) + keys[slot + 1] * ease
    return np.asarray(straight + leave * tangent[slot] + arrive * tangent[slot + 1])


def locate(key_times: FloatArray, times: FloatArray) -> tuple[Array, FloatArray]:
    """For each time the number of its interval between keys, and the share of it that has passed in [0, 1]."""
    slot = np.clip(np.searchsorted(key_times, times, side="right") - 1, 0, len(key_times) - 2)
    return slot, np.clip((times - key_times[slot]) / np.diff(key_times)[slot], 0.0, 1.0)


def leg_length(side: int) -> float:
    """Thigh plus shin in metres; side 0 is left, 1 is right."""
    return float(np.linalg.norm(SMPL_OFFSETS_M[4 + side]) + np.linalg.norm(SMPL_OFFSETS_M[7 + side]))


def solve_leg(
    side: int, hip: FloatArray, ankle: FloatArray, pelvis: FloatArray, pole: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Hip and knee rotations that bring the ankle to its target.

    Args:
        side: 0 left, 1 right.
        hip: (T, 3) hip positions in metres.
        ankle: (T, 3) targets in metres; beyond reach they are approached as far as the leg allows.
        pelvis: (T, 3, 3) global rotations of the pelvis.
        pole: (T, 3) directions to which the knees point.

    Returns:
        (T, 3, 3) local rotations of the hip, and (T, 3, 3) of the knee. The knee only flexes (about +x).
    """
    thigh, shin = SMPL_OFFSETS_M[4 + side], SMPL_OFFSETS_M[7 + side]
    reach = ankle - hip
    distance = np.linalg.norm(reach, axis=1)
    limit = leg_length(side) * LEG_REACH
    usable = np.minimum(distance, limit)
    in_plane, out_of_plane = thigh[1] * shin[1] + thigh[2] * shin[2], thigh[2] * shin[1] - thigh[1] * shin[2]
    amplitude, straight = np.hypot(in_plane, out_of_plane), np.arctan2(out_of_plane, in_plane)
    wanted = (usable**2 - thigh @ thigh - shin @ shin) / 2.0 - thigh[0] * shin[0]
    knee = rotation(0, straight + np.arccos(np.clip(wanted / amplitude, -1.0, 1.0)))
    rest = thigh + knee @ shin
    turned = _frame(reach, pole) @ np.swapaxes(_frame(rest, np.array([0.0, 0.0, 1.0])), 1, 2)
    return np.swapaxes(pelvis, 1, 2) @ turned, knee


def _frame(main: FloatArray, other: FloatArray) -> FloatArray:
    """(T, 3, 3) orthonormal columns: along `main`, the part of `other` across it, and their cross product."""
    first = main / np.linalg.norm(main, axis=-1, keepdims=True)
    second = other - first * (first * other).sum(axis=-1, keepdims=True)
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def arm_matrix(upper: FloatArray, fore: FloatArray, side: int) -> tuple[FloatArray, float]:
    """Shoulder rotation (3, 3) and elbow angle of an arm given by directions.

    Args:
        upper: (3,) direction of the upper arm in the chest's frame.
        fore: (3,) direction of the forearm; with `upper` it spans the plane in which the elbow bends.
        side: 0 left, 1 right.
    """
    along = upper / np.linalg.norm(upper)
    fore = fore / np.linalg.norm(fore)
    across = fore - along * (along @ fore)
    across = across / np.linalg.norm(across)
    outward = along if side == 0 else -along
    matrix = np.stack([outward, np.cross(across, outward), across], axis=1)
    return matrix, float(np.arctan2(np.linalg.norm(np.cross(along, fore)), along @ fore))
