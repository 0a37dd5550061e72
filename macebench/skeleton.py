"""Skeletons: names, parents, bone offsets, forward kinematics and conversions between keypoint layouts.

SMPL-24 bone offsets are those of EDGE (Stanford-TML/EDGE, MIT), so forward kinematics needs no SMPL file.
COCO-17 is the order of the COCO keypoint challenge. ``coco25`` is what easy_ViTPose emits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from macebench.types import FloatArray

SMPL_JOINTS: tuple[str, ...] = (
    "root", "lhip", "rhip", "belly", "lknee", "rknee", "spine", "lankle", "rankle", "chest", "ltoes", "rtoes",
    "neck", "linshoulder", "rinshoulder", "head", "lshoulder", "rshoulder", "lelbow", "relbow", "lwrist",
    "rwrist", "lhand", "rhand",
)  # fmt: skip
SMPL_PARENTS: tuple[int, ...] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip
SMPL_OFFSETS_M: NDArray[np.float64] = np.array(
    [
        [0.0, 0.0, 0.0],
        [0.05858135, -0.08228004, -0.01766408],
        [-0.06030973, -0.09051332, -0.01354254],
        [0.00443945, 0.12440352, -0.03838522],
        [0.04345142, -0.38646945, 0.008037],
        [-0.04325663, -0.38368791, -0.00484304],
        [0.00448844, 0.1379564, 0.02682033],
        [-0.01479032, -0.42687458, -0.037428],
        [0.01905555, -0.4200455, -0.03456167],
        [-0.00226458, 0.05603239, 0.00285505],
        [0.04105436, -0.06028581, 0.12204243],
        [-0.03483987, -0.06210566, 0.13032329],
        [-0.0133902, 0.21163553, -0.03346758],
        [0.07170245, 0.11399969, -0.01889817],
        [-0.08295366, 0.11247234, -0.02370739],
        [0.01011321, 0.08893734, 0.05040987],
        [0.12292141, 0.04520509, -0.019046],
        [-0.11322832, 0.04685326, -0.00847207],
        [0.2553319, -0.01564902, -0.02294649],
        [-0.26012748, -0.01436928, -0.03126873],
        [0.26570925, 0.01269811, -0.00737473],
        [-0.26910836, 0.00679372, -0.00602676],
        [0.08669055, -0.01063603, -0.01559429],
        [-0.0887537, -0.00865157, -0.01010708],
    ]
)

COCO17: tuple[str, ...] = (
    "nose", "leye", "reye", "lear", "rear", "lshoulder", "rshoulder", "lelbow", "relbow", "lwrist", "rwrist",
    "lhip", "rhip", "lknee", "rknee", "lankle", "rankle",
)  # fmt: skip
COCO17_EDGES: tuple[tuple[int, int], ...] = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12),
    (11, 13), (13, 15), (12, 14), (14, 16),
)  # fmt: skip
COCO25: tuple[str, ...] = (
    "nose", "leye", "reye", "lear", "rear", "neck", "lshoulder", "rshoulder", "lelbow", "relbow", "lwrist",
    "rwrist", "lhip", "rhip", "hip", "lknee", "rknee", "lankle", "rankle", "lbigtoe", "lsmalltoe", "lheel",
    "rbigtoe", "rsmalltoe", "rheel",
)  # fmt: skip
COCO17_IN_COCO25: tuple[int, ...] = tuple(COCO25.index(name) for name in COCO17)


def axis_angle_to_matrix(axis_angle: FloatArray) -> FloatArray:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3) in radians (Rodrigues)."""
    vector = np.asarray(axis_angle, dtype=np.float64)
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape[:-1], 3, 3)
    # sin(a)/a and (1-cos(a))/a^2, exact at 0 through numpy's sinc
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2.0 * np.pi)) ** 2
    return np.asarray(np.eye(3) + first * cross + second * (cross @ cross))


def forward_kinematics(rotations: FloatArray, root: FloatArray, offsets: FloatArray = SMPL_OFFSETS_M) -> FloatArray:
    """Joint positions of SMPL-24 from local rotations.

    Args:
        rotations: (T, 24, 3) local axis-angle in radians, or (T, 24, 3, 3) local matrices.
        root: (T, 3) position of the root in metres, y up.
        offsets: (24, 3) bone offsets from the parent in metres.

    Returns:
        (T, 24, 3) joint positions in metres.
    """
    return forward_kinematics_full(rotations, root, offsets)[0]


def forward_kinematics_full(
    rotations: FloatArray, root: FloatArray, offsets: FloatArray = SMPL_OFFSETS_M
) -> tuple[FloatArray, FloatArray]:
    """As `forward_kinematics`, with the (T, 24, 3, 3) global rotations as the second value."""
    local = np.asarray(rotations, dtype=np.float64)
    if local.ndim == 3:
        local = axis_angle_to_matrix(local)
    positions = np.empty((*local.shape[:2], 3))
    turned = np.empty_like(local)
    positions[:, 0], turned[:, 0] = root, local[:, 0]
    for joint, parent in enumerate(SMPL_PARENTS[1:], start=1):
        positions[:, joint] = positions[:, parent] + turned[:, parent] @ offsets[joint]
        turned[:, joint] = turned[:, parent] @ local[:, joint]
    return positions, turned


def coco25_to_coco17(values: FloatArray) -> FloatArray:
    """(T, 25, ...) in easy_ViTPose's order to (T, 17, ...) in COCO's."""
    return np.asarray(values)[:, list(COCO17_IN_COCO25)]


def coco17_to_coco25(values: FloatArray) -> FloatArray:
    """(T, 17, ...) to (T, 25, ...): neck and hip are midpoints; toes and heels, which COCO-17 lacks, are the ankles."""
    source = np.asarray(values)
    result = np.empty((len(source), 25, *source.shape[2:]), dtype=source.dtype)
    result[:, list(COCO17_IN_COCO25)] = source
    result[:, 5] = (source[:, 5] + source[:, 6]) / 2
    result[:, 14] = (source[:, 11] + source[:, 12]) / 2
    result[:, 19:22] = source[:, 15:16]
    result[:, 22:25] = source[:, 16:17]
    return result
