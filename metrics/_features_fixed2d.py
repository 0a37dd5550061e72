"""2-D features that mean what they say: COCO-17 under its own names, x right, y up, torso lengths, seconds.

A missing keypoint (NaN, or confidence 0) takes no part. Every feature is a mean over the time steps at which all
of its joints are known, so nothing is invented in a long hole; a feature that is never known is NaN.

Kinetic, 51-d: for each joint ``[E_h, E_v, A]``, the mean squared horizontal and vertical velocity
(torso lengths a second, squared) and the mean size of the acceleration (torso lengths a second squared).
Velocities are backward differences averaged over a centred window of about 1/6 s (5 frames at 30 a second, 3 at
15); accelerations are differences of the raw velocities averaged over the same window. At the ends the window
holds the terms that exist. This is the scheme of google/aistplusplus_api (`features/kinetic.py`) with the
misplaced bracket of its acceleration repaired, the true frame time, and a window in seconds. The root's path is
part of the motion.

Geometric, 32-d: the relations of `macebench.metrics._relations` in the picture plane. Lengths are
the rest-pose lengths of SMPL over its torso length. Velocities are true speeds (the source multiplies by 120 Hz).

- ``move``: as in space, with vectors of the picture.
- ``nmove(a, b, c, d)``: the direction is the part of a to b that is perpendicular to a to c.
- ``plane(a, b, c, p)``: signed distance of p to the line a, b; positive on the side away from c.
- ``nplane``, ``angle``, ``fast``: as in space. ``y_min`` is the lowest keypoint of the frame.
- COCO-17 has no toes: the ankle stands for them (it only tells the sides of a line apart). The belly is the
  mid-hip, the neck the mid-shoulder, the chest lies between them at 0.72 of the way.
- Where a direction has length zero the answer is no.

Neither family changes when the picture is translated, scaled or mirrored.
"""

from __future__ import annotations

import numpy as np

from macebench.metrics import _relations as relations
from macebench.metrics._relations import RELATIONS, Relation
from macebench.skeleton import COCO17
from macebench.types import FloatArray

WINDOW_S = 1.0 / 6.0
# Height of SMPL's chest on the line from mid-hip to mid-shoulder in its rest pose.
CHEST_SHARE = 0.72
_COLLINEAR = 1e-18
_UP = np.array([0.0, 1.0])
_INDEX = {name: index for index, name in enumerate(COCO17)}


def torso_length(keypoints: FloatArray) -> float:
    """Median distance of mid-shoulder and mid-hip over the frames that have all four; NaN without any.

    Args:
        keypoints: (T, 17, 2), NaN where missing.
    """
    shoulders = keypoints[:, [_INDEX["lshoulder"], _INDEX["rshoulder"]]].mean(axis=1)
    hips = keypoints[:, [_INDEX["lhip"], _INDEX["rhip"]]].mean(axis=1)
    lengths = np.linalg.norm(shoulders - hips, axis=1)
    known = lengths[np.isfinite(lengths)]
    return float(np.median(known)) if len(known) else float("nan")


def to_torso_units(keypoints: FloatArray) -> FloatArray:
    """Picture coordinates (y down) to torso lengths with y up; all NaN when there is no torso."""
    scale = torso_length(keypoints)
    if not scale > 0:
        return np.full_like(keypoints, np.nan)
    return np.asarray(keypoints * np.array([1.0, -1.0]) / scale)


def kinetic(keypoints: FloatArray, fps: float) -> FloatArray:
    """(51,) kinetic features of (T, 17, 2) pixels, NaN where missing."""
    velocity = np.diff(to_torso_units(keypoints), axis=0) * fps
    acceleration = np.diff(velocity, axis=0) * fps
    half = max(1, round((WINDOW_S * fps - 1) / 2))
    known = np.isfinite(velocity)
    smooth = np.where(known, _window_mean(velocity, half, len(velocity)), np.nan)
    change = np.where(known, _window_mean(acceleration, half, len(velocity)), np.nan)
    energy = _mean(smooth**2)
    effort = _mean(np.linalg.norm(change, axis=-1))
    return np.concatenate([energy, effort[:, None]], axis=1).ravel()


def _window_mean(values: FloatArray, half: int, steps: int) -> FloatArray:
    """Mean of the known terms at most `half` away from steps 0 to `steps` - 1; NaN where there is none."""
    after = half + steps - len(values)
    padded = np.pad(values, ((half, after), (0, 0), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    return _mean(np.moveaxis(windows, -1, 0))


def _mean(values: FloatArray) -> FloatArray:
    """Mean over the first axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def geometric(keypoints: FloatArray, fps: float) -> FloatArray:
    """(32,) shares of time of (T, 17, 2) pixels, NaN where missing."""
    joints = _named_joints(to_torso_units(keypoints))
    lengths = rest_lengths()
    return np.array([_share(relation, joints, lengths, fps) for relation in RELATIONS])


def rest_lengths() -> dict[str, float]:
    """Upper arm, shoulder width and hip width of SMPL's rest pose in torso lengths."""
    left, right, elbow = (
        np.array(point) for point in (relations.REST_LSHOULDER_M, relations.REST_RSHOULDER_M, relations.REST_LELBOW_M)
    )
    hips = np.array([relations.REST_LHIP_M, relations.REST_RHIP_M])
    torso = np.linalg.norm((left + right) / 2 - hips.mean(axis=0))
    return {
        "hl": float(np.linalg.norm(left - elbow) / torso),
        "sw": float(np.linalg.norm(left - right) / torso),
        "hw": float(np.linalg.norm(hips[0] - hips[1]) / torso),
    }


def _named_joints(positions: FloatArray) -> dict[str, FloatArray]:
    """SMPL names to (T, 2) positions in torso lengths, y up."""
    named = {name: positions[:, index] for name, index in _INDEX.items()}
    root = (named["lhip"] + named["rhip"]) / 2
    neck = (named["lshoulder"] + named["rshoulder"]) / 2
    zero = np.zeros_like(root)
    height = np.where(np.isfinite(positions[..., 1]), positions[..., 1], np.inf).min(axis=1)
    lowest = np.stack([zero[:, 0], np.where(np.isfinite(height), height, np.nan)], axis=1)
    return named | {
        "root": root, "belly": root, "chest": root + CHEST_SHARE * (neck - root), "neck": neck,
        "ltoes": named["lankle"], "rtoes": named["rankle"],
        "zero": zero, "y_unit": zero + _UP, "minus_y_unit": zero - _UP, "y_min": lowest,
    }  # fmt: skip


def _share(relation: Relation, joints: dict[str, FloatArray], lengths: dict[str, float], fps: float) -> float:
    """Share of the known time steps whose answer is yes; NaN when none is known."""
    points = [joints[name] for name in relation.joints]
    value = _VALUES[relation.kind](points, fps)
    known = np.isfinite(value)
    if relation.kind == "angle":
        yes = (value > relation.degrees[0]) & (value < relation.degrees[1])
    else:
        yes = value > relation.factor * lengths[relation.length]
    return float(np.count_nonzero(yes & known) / np.count_nonzero(known)) if known.any() else float("nan")


def _along(vector: FloatArray, direction: FloatArray) -> FloatArray:
    """Component of `vector` along `direction`; 0 where the direction has length zero."""
    length = np.linalg.norm(direction, axis=-1)
    dot = np.sum(vector * direction, axis=-1)
    return np.asarray(dot / np.where(length == 0, 1.0, length))


def _cross(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.asarray(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])


def _move(points: list[FloatArray], fps: float) -> FloatArray:
    a, b, c = points
    return _along(np.diff(c - a, axis=0) * fps, (b - a)[1:])


def _nmove(points: list[FloatArray], fps: float) -> FloatArray:
    a, b, c, d = points
    axis, side = (c - a)[1:], (b - a)[1:]
    length = np.sum(axis**2, axis=-1, keepdims=True)
    outward = side - axis * np.sum(axis * side, axis=-1, keepdims=True) / np.where(length == 0, 1.0, length)
    # Rounding leaves a random direction where a, b and c are on one line.
    flat = np.sum(outward**2, axis=-1) <= _COLLINEAR * np.sum(side**2, axis=-1)
    return _along(np.diff(d - a, axis=0) * fps, np.where(flat[:, None], 0.0, outward))


def _plane(points: list[FloatArray], fps: float) -> FloatArray:
    a, b, c, p = (point[1:] for point in points)
    length = np.linalg.norm(b - a, axis=-1)
    distance = _cross(b - a, p - a) / np.where(length == 0, 1.0, length)
    return np.asarray(-np.sign(_cross(b - a, c - a)) * distance)


def _nplane(points: list[FloatArray], fps: float) -> FloatArray:
    a, b, q, p = (point[1:] for point in points)
    return _along(p - q, b - a)


def _angle(points: list[FloatArray], fps: float) -> FloatArray:
    a, b, c, d = (point[1:] for point in points)
    first, second = b - a, d - c
    degrees = np.degrees(np.arctan2(np.abs(_cross(first, second)), np.sum(first * second, axis=-1)))
    degenerate = (np.sum(first**2, axis=-1) == 0) | (np.sum(second**2, axis=-1) == 0)
    return np.where(degenerate, -1.0, degrees)


def _fast(points: list[FloatArray], fps: float) -> FloatArray:
    return np.asarray(np.linalg.norm(np.diff(points[0], axis=0) * fps, axis=-1))


_VALUES = {
    "move": _move, "nmove": _nmove, "plane": _plane, "nplane": _nplane, "angle": _angle, "fast": _fast,
}  # fmt: skip
