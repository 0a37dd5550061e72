"""2-D features as the released code of MACE-Dance computes them, defects included.

Source: AMAP-ML/MACE-Dance, commit 8f92d123, `Evaluation-Motion/features/{kinetic,geometric}_2d.py`, read and
written again. Known defects, all reproduced:

- The joint table is not the one that easy_ViTPose emits: its "left hip" is the right wrist, its
  "left shoulder" the neck. Columns are taken as (x, y), though easy_ViTPose emits (y, x).
- Kinetic: the frame time is 1/30 s whatever the true rate; pixels are not scaled by the dancer's size; the mean
  of the two "hips" is subtracted in every frame; the box filter is padded with zeros at both ends.
- Geometric: `plane` and `nplane` always answer no, so 11 of 32 features are 0; `move` and `nmove` ask whether
  the first joint moves at all; thresholds are pixels a frame; angles include their limits.

Geometric features are thresholds, so arithmetic is in float32 as in the source. Results are rounded to float32
as the source does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from macebench.metrics._relations import RELATIONS, Relation
from macebench.types import Array, FloatArray

FRAME_TIME_S = 1.0 / 30.0
BOX = 5
_TINY = 1e-6

# What the released table says of the 25 columns.
_SHOULDERS, _ELBOWS, _WRISTS, _HIPS = (5, 6), (7, 8), (9, 10), (11, 12)
_KNEES, _ANKLES, _BIG_TOES = (13, 14), (15, 16), (19, 22)


def kinetic(keypoints: FloatArray) -> FloatArray:
    """(75,) features of (T, 25, 2) keypoints: for each joint the two energies and the mean acceleration."""
    centred = keypoints - keypoints[:, list(_HIPS)].mean(axis=1, keepdims=True)
    velocity = _box_filter(_edge_difference(centred))
    acceleration = _box_filter(_edge_difference(velocity))
    energy = np.mean(velocity**2, axis=0)
    effort = np.mean(np.linalg.norm(acceleration, axis=-1), axis=0)
    values = np.concatenate([energy, effort[:, None]], axis=1)
    return values.ravel().astype(np.float32).astype(np.float64)


def _edge_difference(values: FloatArray) -> FloatArray:
    """Backward difference over the frame time; the first frame repeats the second."""
    step = np.diff(values, axis=0) / FRAME_TIME_S
    return np.concatenate([step[:1], step])


def _box_filter(values: FloatArray) -> FloatArray:
    """Mean over five frames with zeros beyond both ends."""
    from scipy.ndimage import convolve1d

    return np.asarray(convolve1d(values, np.full(BOX, 1.0 / BOX), axis=0, mode="constant", cval=0.0))


def geometric(keypoints: FloatArray) -> FloatArray:
    """(32,) shares of frames of (T, 25, 2) keypoints."""
    joints = _named_joints(keypoints)
    shoulder_width = _norm(joints["lshoulder"][0] - joints["rshoulder"][0]) + np.float32(_TINY)
    hip_width = _norm(joints["lhip"][0] - joints["rhip"][0]) + np.float32(_TINY)
    lengths = {"sw": shoulder_width, "hl": shoulder_width, "hw": hip_width}
    answers = np.stack([_answer(relation, joints, lengths) for relation in RELATIONS], axis=1)
    return np.asarray(answers.astype(np.float32).mean(axis=0), dtype=np.float64)


def _named_joints(keypoints: FloatArray) -> dict[str, Array]:
    """SMPL names to (T, 2) float32 positions."""
    points = keypoints.astype(np.float32)
    middle = {name: ((keypoints[:, pair[0]] + keypoints[:, pair[1]]) / 2.0).astype(np.float32)
              for name, pair in (("root", _HIPS), ("neck", _SHOULDERS))}  # fmt: skip
    sides = {"shoulder": _SHOULDERS, "elbow": _ELBOWS, "wrist": _WRISTS, "hip": _HIPS,
             "knee": _KNEES, "ankle": _ANKLES, "toes": _BIG_TOES}  # fmt: skip
    named = {f"l{part}": points[:, pair[0]] for part, pair in sides.items()}
    named |= {f"r{part}": points[:, pair[1]] for part, pair in sides.items()}
    zero = np.zeros((len(points), 2))
    named |= {"root": middle["root"], "belly": middle["root"], "neck": middle["neck"], "chest": middle["neck"]}
    return named | {"zero": zero, "y_unit": zero + np.array([0.0, 1.0])}


def _answer(relation: Relation, joints: dict[str, Array], lengths: dict[str, Array]) -> NDArray[np.bool_]:
    """(T - 1,) answers for frames 1 to T - 1."""
    frames = len(joints["root"]) - 1
    if relation.kind in ("plane", "nplane"):
        return np.zeros(frames, dtype=bool)
    if relation.kind == "angle":
        a, b, c, d = (joints[name][1:] for name in relation.joints)
        degrees = _degrees(b - a, d - c)
        return np.asarray((relation.degrees[0] <= degrees) & (degrees <= relation.degrees[1]))
    moved = _norm(np.diff(joints[relation.joints[0]], axis=0))
    return np.asarray(moved > relation.factor * lengths[relation.length])


def _degrees(first: Array, second: Array) -> Array:
    unit_first = first / (_norm(first) + first.dtype.type(_TINY))[..., None]
    unit_second = second / (_norm(second) + second.dtype.type(_TINY))[..., None]
    cosine = np.sum(unit_first * unit_second, axis=-1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _norm(values: Array) -> Array:
    return np.asarray(np.linalg.norm(values, axis=-1))
