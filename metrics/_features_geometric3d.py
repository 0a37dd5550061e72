"""Geometric features of a dancer in space: 32 shares of frames in which a relation of joints holds.

The questions are those of `macebench.metrics._relations`; frames 1 to T - 1 answer. With a frame rate r:

- ``move(a, b, c)``: ``r u . d / |d| > limit``, u the change of c - a since the last frame, d = b - a.
- ``nmove(a, b, c, d)``: the same with the change of d - a and the normal ``(c - a) x (b - a)``.
- ``plane(a, b, c, p)``: ``n . (p - a) / |n| > limit`` with the same normal.
- ``nplane(a, b, q, p)``: ``n . (p - q) / |n| > limit`` with n = b - a.
- ``angle(a, b, c, d)``: the degrees between b - a and d - c lie strictly within a range.
- ``fast(a)``: ``r |change of a| > limit``.

Where a direction has length zero the answer is no; the sources divide by zero there, and NaN answers no as well.
``y_min`` is at the height of the lowest joint of the frame.

Published variants (read in google/aistplusplus_api, `features/manual.py`, and in the copies of the others). Defects of
all: r is 120 Hz whatever the true rate, so at 30 frames a second every speed is read four times too high; the lengths
behind the limits are those of one rest pose, not the dancer's.

- ``aist``: 24 joints as given. ``bailando``: minus the root of frame 0. ``megadance``: the same. Nothing but
  differences of joints is asked, so these three agree.
- ``lodge``: 22 joints; joints 1 to 21 minus the root of their own frame, the root minus that of frame 0. The root then
  stands elsewhere than the body, which changes 10, 11, 14, 15, 23 to 28, and ``fast`` is relative to the root.
- ``mace3d``: the y-up body is turned by +90 degrees about z, so 16, 17, 28, 29 and 30 take sideways for up.

``fixed`` (ours): the true frame rate; upper arm (mean of both sides), shoulder width and hip width are medians over the
dancer's own frames; a normal counts as zero when its joints are on one line to 1e-9. The direction of ``move`` and
``nmove`` is the mean of both ends of the step. The sources take the end: two hands that circle each other at a constant
distance then move apart, the faster the lower the frame rate.

Arithmetic is float64. The sources mix float32 and float64, which can move a share by whole frames when a value lies on
its limit to 1e-7. Published shares are rounded to float32, as the sources do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.metrics import _relations as relations
from macebench.metrics._features_kinetic3d import as_given, from_each_root, from_first_root, turned
from macebench.metrics._relations import RELATIONS, Relation
from macebench.skeleton import SMPL_JOINTS
from macebench.types import FloatArray

_COLLINEAR = 1e-18
_INDEX = {name: index for index, name in enumerate((*SMPL_JOINTS[:22], "zero", "y_unit", "minus_y_unit", "y_min"))}
_KINDS: tuple[relations.Kind, ...] = ("move", "nmove", "plane", "nplane", "angle", "fast")

Limits = dict[str, float]


@dataclass(frozen=True)
class Rule:
    """What the variants do differently.

    Attributes:
        rate: Frames a second that turn differences into speeds.
        flat: Squared sine at or below which three joints have no normal.
        midway: Whether the direction of a movement is taken midway through the step.
    """

    rate: float
    flat: float
    midway: bool


PUBLISHED_RULE = Rule(rate=120.0, flat=0.0, midway=False)


def _rows(kind: relations.Kind) -> tuple[list[int], NDArray[np.intp]]:
    """Which features ask this question, and their joints as (joint of the question, feature) indices."""
    chosen = [row for row, relation in enumerate(RELATIONS) if relation.kind == kind]
    return chosen, np.array([[_INDEX[name] for name in RELATIONS[row].joints] for row in chosen], dtype=np.intp).T


_ROWS = {kind: _rows(kind) for kind in _KINDS}


def geometric(joints: FloatArray, fps: float, variant: str) -> FloatArray:
    """(32,) shares in [0, 1] of (T, 24, 3) metres, y up; T at least 2."""
    if variant == "fixed":
        return _shares(joints, Rule(fps, _COLLINEAR, midway=True), body_lengths(joints))
    shares = _shares(PUBLISHED[variant](joints), PUBLISHED_RULE, rest_lengths())
    return shares.astype(np.float32).astype(np.float64)


def rest_lengths() -> Limits:
    """Left upper arm, shoulder width and hip width of SMPL's rest pose in metres."""
    shoulder = np.array(relations.REST_LSHOULDER_M)
    return {
        "hl": float(np.linalg.norm(shoulder - relations.REST_LELBOW_M)),
        "sw": float(np.linalg.norm(shoulder - relations.REST_RSHOULDER_M)),
        "hw": float(np.linalg.norm(np.array(relations.REST_LHIP_M) - relations.REST_RHIP_M)),
    }


def body_lengths(joints: FloatArray) -> Limits:
    """Upper arm, shoulder width and hip width of the dancer: medians over (T, 24, 3) metres."""

    def length(first: str, second: str) -> float:
        bones = joints[:, _INDEX[first]] - joints[:, _INDEX[second]]
        return float(np.median(np.linalg.norm(bones, axis=-1)))

    arms = length("lshoulder", "lelbow"), length("rshoulder", "relbow")
    return {"hl": sum(arms) / 2, "sw": length("lshoulder", "rshoulder"), "hw": length("lhip", "rhip")}


def _shares(joints: FloatArray, rule: Rule, lengths: Limits) -> FloatArray:
    points = _with_pseudo_joints(joints)
    result = np.empty(len(RELATIONS))
    for kind, (rows, index) in _ROWS.items():
        values = _VALUES[kind]([points[..., joint] for joint in index], rule)
        result[rows] = _holds(values, [RELATIONS[row] for row in rows], lengths).mean(axis=0)
    return result


def _with_pseudo_joints(joints: FloatArray) -> FloatArray:
    """(3, T, 26): components first; the body, then the four points that are not of it."""
    frames, body = len(joints), 22
    points = np.zeros((3, frames, len(_INDEX)))
    points[..., :body] = np.moveaxis(joints[:, :body], -1, 0)
    points[1, :, _INDEX["y_unit"]] = 1.0
    points[1, :, _INDEX["minus_y_unit"]] = -1.0
    points[1, :, _INDEX["y_min"]] = joints[..., 1].min(axis=1)
    return points


def _holds(values: FloatArray, asked: list[Relation], lengths: Limits) -> NDArray[np.bool_]:
    """(T - 1, R) answers."""
    if asked[0].kind == "angle":
        low, high = np.array([relation.degrees for relation in asked]).T
        return np.asarray((values > low) & (values < high))
    return np.asarray(values > np.array([relation.factor * lengths[relation.length] for relation in asked]))


# Points below are (3, T, R): one column for each of the R relations of a kind. Values are (T - 1, R).


def _dot(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.asarray(first[0] * second[0] + first[1] * second[1] + first[2] * second[2])


def _normal(a: FloatArray, b: FloatArray, c: FloatArray, flat: float) -> FloatArray:
    """``(c - a) x (b - a)``, zero where the three are on one line to within the square root of `flat`."""
    u, v = c - a, b - a
    cross = np.stack([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]])
    return np.where(_dot(cross, cross) <= flat * _dot(u, u) * _dot(v, v), 0.0, cross)


def _along(vector: FloatArray, direction: FloatArray) -> FloatArray:
    """Component of `vector` along `direction`; 0 where the direction has length zero."""
    length = np.sqrt(_dot(direction, direction))
    return np.asarray(_dot(vector, direction) / np.where(length == 0, 1.0, length))


def _of_step(direction: FloatArray, rule: Rule) -> FloatArray:
    """(3, T - 1, R) direction that belongs to each step of (3, T, R)."""
    return (direction[:, 1:] + direction[:, :-1]) / 2 if rule.midway else direction[:, 1:]


def _move(points: list[FloatArray], rule: Rule) -> FloatArray:
    a, b, c = points
    return _along(np.diff(c - a, axis=1), _of_step(b - a, rule)) * rule.rate


def _nmove(points: list[FloatArray], rule: Rule) -> FloatArray:
    a, b, c, d = points
    return _along(np.diff(d - a, axis=1), _of_step(_normal(a, b, c, rule.flat), rule)) * rule.rate


def _plane(points: list[FloatArray], rule: Rule) -> FloatArray:
    a, b, c, p = (point[:, 1:] for point in points)
    return _along(p - a, _normal(a, b, c, rule.flat))


def _nplane(points: list[FloatArray], rule: Rule) -> FloatArray:
    a, b, q, p = (point[:, 1:] for point in points)
    return _along(p - q, b - a)


def _angle(points: list[FloatArray], rule: Rule) -> FloatArray:
    a, b, c, d = (point[:, 1:] for point in points)
    first, second = b - a, d - c
    lengths = np.sqrt(_dot(first, first) * _dot(second, second))
    cosine = _dot(first, second) / np.where(lengths == 0, 1.0, lengths)
    return np.where(lengths == 0, -1.0, np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _fast(points: list[FloatArray], rule: Rule) -> FloatArray:
    step = np.diff(points[0], axis=1)
    return np.asarray(np.sqrt(_dot(step, step)) * rule.rate)


_VALUES: dict[relations.Kind, Callable[[list[FloatArray], Rule], FloatArray]] = {
    "move": _move, "nmove": _nmove, "plane": _plane, "nplane": _nplane, "angle": _angle, "fast": _fast,
}  # fmt: skip


def _turned_from_first_root(joints: FloatArray) -> FloatArray:
    return turned(from_first_root(joints))


PUBLISHED: dict[str, Callable[[FloatArray], FloatArray]] = {
    "aist": as_given,
    "bailando": from_first_root,
    "lodge": from_each_root,
    "megadance": from_first_root,
    "mace3d": _turned_from_first_root,
}
