"""Feet on the ground: do they slide, and does the body accelerate without them? Joints are metres, y up, SMPL-24.

Foot skating ratio, FSR (Li et al., "Lodge", 2024; li-ronghui/LODGE, `foot_skating.py`): of the frames in which a foot
is on the ground, the share in which it slides. A foot is on the ground where its ankle is at most 8 cm and its toe at
most 5 cm above the ground.

- ``lodge``: the ground is the toes' height in frame 0 (their mean when they differ by less than 2 cm, else the
  lower). A foot slides when ``|mean(v_x, v_z)|`` of ankle or toe is above 1 cm a frame. Defects: the mean of the two
  components is blind to slides along a diagonal, a limit per frame depends on the frame rate, the last frame cannot
  slide, one frame decides on the ground, and a foot without contact makes the whole set NaN.
- ``fixed``: the ground is the median over frames of the lower toe: fitted bodies dip by centimetres, so a lower
  percentile leaves no contact at all in most real clips. A foot slides when the horizontal speed of ankle or toe is
  above 0.3 m/s, which is 1 cm a frame at 30 frames a second. Steps of 1/30 s are counted, one from each frame, and
  both ends of a step must be on the ground.

Physical foot contact score, PFC (Tseng et al., "EDGE", CVPR 2023; Stanford-TML/EDGE, `eval/eval_pfc.py`): the mean
over time of (slower of left ankle and toe) times (slower of right ankle and toe) times the root's acceleration, which
counts upwards only and is divided by its maximum in the clip; times 10,000. Lower is more plausible; a body that
never accelerates has 0.

- ``edge``: foot speeds are metres a frame, so half the frame rate is four times the score.
- ``mace3d``: AMAP-ML/MACE-Dance takes axis 2 as up on joints that are y up.
- ``fixed``: ``edge`` at 30 frames a second. A faster clip is read in steps of 1/30 s from each of its first frames,
  and the scores are averaged: more samples would raise the maximum of the acceleration. A slower one is brought to
  the scale of 30 frames a second.

Speeds of the ``fixed`` skating ratio and contact error are taken over 1/30 s as well, with positions between frames
interpolated. Over one frame instead, the same feet slide more at twice the rate: tremble and the beginning of a step
weigh more.

Foot contact error (ours; no public code): how far the feet are from a plausible ground. See `foot_contact_error`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.registry import unknown
from macebench.skeleton import SMPL_JOINTS
from macebench.types import N_JOINTS, FloatArray

SKATING_VARIANTS = ("lodge", "fixed")
PFC_VARIANTS = ("edge", "mace3d", "fixed")
NO_CONTACT = "no foot contact"
ANKLE_HEIGHT_M, TOE_HEIGHT_M = 0.08, 0.05
LEVEL_TOES_M = 0.02
SLIDE_M_A_FRAME = 0.01
SLIDE_M_S = 0.3
STEP_S = 1.0 / 30.0
PFC_SCALE = 10_000.0

# (ankle, toe) of each side
_FEET = tuple(
    (SMPL_JOINTS.index(f"{side}ankle"), SMPL_JOINTS.index(f"{side}toes")) for side in ("l", "r")
)  # fmt: skip
_HORIZONTAL, _UP = [0, 2], 1


@dataclass(frozen=True)
class FootSkating:
    """How much the feet slide while they are on the ground.

    Attributes:
        left: Share of the left foot's contact frames in which it slides, in [0, 1]; None without contact.
        right: The same of the right foot.
        value: ``lodge``: mean of the sides that have contact; ``fixed``: share over both feet's contacts together.
            None when neither foot has contact.
        left_contacts: Frames (``fixed``: steps between frames) in which the left foot is on the ground.
        right_contacts: The same of the right foot.
        reason: ``no foot contact`` when there is no value, or None.
    """

    left: float | None
    right: float | None
    value: float | None
    left_contacts: int
    right_contacts: int
    reason: str | None = None


@dataclass(frozen=True)
class FootContactError:
    """Deviations of the feet from a plausible ground.

    Attributes:
        penetration_m: Mean over frames of how far the lowest foot joint is below the ground, in metres.
        float_m: Mean over frames of how far the lowest foot joint is above the ground, in metres; jumps count too.
        slide_m_s: Mean horizontal speed of the feet on the ground, in m/s; None without contact.
        reason: ``no foot contact`` when there is no `slide_m_s`, or None.
    """

    penetration_m: float
    float_m: float
    slide_m_s: float | None
    reason: str | None = None


def foot_skating_ratio(joints: FloatArray, *, fps: float, variant: str = "fixed") -> FootSkating:
    """Share of ground contact in which the feet slide.

    Args:
        joints: (T, 24, 3) metres, y up.
        fps: Frames a second; ``lodge`` ignores it.
        variant: ``lodge`` or ``fixed``, see the module's docstring.

    Returns:
        Values in [0, 1]; never NaN.

    Raises:
        ValueError: wrong shape, values that are not finite, or fewer than 2 frames.
        UnknownNameError: no such variant.
    """
    points = _check(joints, fps, variant, SKATING_VARIANTS, frames=2)
    if variant == "lodge":
        touching, sliding = _lodge_contacts(points)
    else:
        touching, speed = _ground_steps(points, fps, ground_height(points))
        sliding = np.asarray((speed > SLIDE_M_S).any(axis=2))
    contacts, slides = touching.sum(axis=0), (touching & sliding).sum(axis=0)
    left, right = (_ratio(int(slides[side]), int(contacts[side])) for side in (0, 1))
    if variant == "lodge":
        sides = [side for side in (left, right) if side is not None]
        value = sum(sides) / len(sides) if sides else None
    else:
        value = _ratio(int(slides.sum()), int(contacts.sum()))
    reason = NO_CONTACT if value is None else None
    return FootSkating(left, right, value, int(contacts[0]), int(contacts[1]), reason)


def ground_height(joints: FloatArray) -> float:
    """Height of the ground in metres: the median over frames of the lower toe of (T, 24, 3)."""
    toes = joints[:, [toe for _, toe in _FEET], _UP]
    return float(np.median(toes.min(axis=1)))


def physical_foot_contact(joints: FloatArray, *, fps: float, variant: str = "fixed") -> float:
    """Physical foot contact score of one clip; a set is the mean over clips.

    Args:
        joints: (T, 24, 3) metres, y up.
        fps: Frames a second; the published variants ignore it.
        variant: ``edge``, ``mace3d`` or ``fixed``, see the module's docstring.

    Returns:
        At least 0; m^2 a squared frame at 30 frames a second, times 10,000. 0 for a root without acceleration.

    Raises:
        ValueError: wrong shape, values that are not finite, or fewer than 3 frames.
        UnknownNameError: no such variant.
    """
    points = _check(joints, fps, variant, PFC_VARIANTS, frames=3)
    up = 2 if variant == "mace3d" else _UP
    if variant != "fixed":
        return _edge_score(points, up) * PFC_SCALE
    lag = max(1.0, _lag(points, fps, steps=2))
    tracks = [_every(points, start, lag) for start in range(math.ceil(lag))]
    scores = [(_edge_score(track, up), len(track) - 2) for track in tracks if len(track) > 2]
    mean = sum(score * count for score, count in scores) / sum(count for _, count in scores)
    return mean * (STEP_S * fps / lag) ** 2 * PFC_SCALE


def _edge_score(points: FloatArray, up: int) -> float:
    """EDGE's score of (T, 24, 3), T at least 3, with metres a frame; 0 without acceleration."""
    acceleration = np.diff(points[:, 0], n=2, axis=0)
    acceleration[:, up] = np.maximum(acceleration[:, up], 0.0)
    size = np.linalg.norm(acceleration, axis=1)
    if not size.max() > 0:
        return 0.0
    ground = [axis for axis in range(3) if axis != up]
    left, right = (_length(np.diff(points[1:], axis=0), pair, ground).min(axis=1) for pair in _FEET)
    return float(np.mean(left * right * (size / size.max())))


def _every(points: FloatArray, start: int, lag: float) -> FloatArray:
    """Every `lag`-th frame from `start` on, interpolated where that is between two."""
    at = start + lag * np.arange(int((len(points) - 1 - start) / lag + 1e-9) + 1)
    whole = np.minimum(np.floor(at + 1e-9).astype(int), len(points) - 1)
    rest = np.clip(at - whole, 0.0, 1.0)[:, None, None]
    after = np.minimum(whole + 1, len(points) - 1)
    return np.asarray(points[whole] if not (rest > 1e-9).any() else (1 - rest) * points[whole] + rest * points[after])


def foot_contact_error(joints: FloatArray, *, fps: float, ground_m: float | None = None) -> FootContactError:
    """How far the feet are from standing and stepping on one ground.

    Args:
        joints: (T, 24, 3) metres, y up.
        fps: Frames a second.
        ground_m: Height of the toes on the ground in metres; None takes `ground_height`, which follows a dancer who
            hovers all the time. Give it to see that.

    Returns:
        Metres and m/s; never NaN.

    Raises:
        ValueError: wrong shape, values that are not finite, or fewer than 2 frames.
    """
    points = _check(joints, fps, "fixed", ("fixed",), frames=2)
    ground = ground_height(points) if ground_m is None else float(ground_m)
    lowest = points[:, [joint for pair in _FEET for joint in pair], _UP].min(axis=1) - ground
    touching, speed = _ground_steps(points, fps, ground)
    slide = float(speed.max(axis=2)[touching].mean()) if touching.any() else None
    return FootContactError(
        float(np.maximum(-lowest, 0.0).mean()),
        float(np.maximum(lowest, 0.0).mean()),
        slide,
        NO_CONTACT if slide is None else None,
    )


def _lodge_contacts(joints: FloatArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(T, 2) on the ground, and (T, 2) sliding, left and right, as LODGE decides."""
    first, second = (joints[0, toe, _UP] for _, toe in _FEET)
    ground = (first + second) / 2 if abs(first - second) < LEVEL_TOES_M else min(first, second)
    drift = np.abs(np.diff(joints[..., _HORIZONTAL], axis=0).mean(axis=-1))
    drift = np.concatenate([drift, np.zeros_like(drift[:1])])
    sliding = np.stack([(drift[:, list(pair)] > SLIDE_M_A_FRAME).any(axis=1) for pair in _FEET], axis=1)
    return _touching(joints, float(ground)), sliding


def _touching(joints: FloatArray, ground: float) -> NDArray[np.bool_]:
    """(T, 2) whether the left and the right foot are on the ground."""
    heights = joints[..., _UP] - ground
    ankles, toes = np.array(_FEET).T
    return np.asarray((heights[:, ankles] <= ANKLE_HEIGHT_M) & (heights[:, toes] <= TOE_HEIGHT_M))


def _ground_steps(joints: FloatArray, fps: float, ground: float) -> tuple[NDArray[np.bool_], FloatArray]:
    """(N, 2) steps that begin and end on the ground; (N, 2, 2) speed of ankle and toe of each side in m/s."""
    lag = _lag(joints, fps, steps=1)
    after = _later(joints, lag)
    before = joints[: len(after)]
    speed = np.stack([_length(after - before, pair, _HORIZONTAL) for pair in _FEET], axis=1) * (fps / lag)
    return _touching(before, ground) & _touching(after, ground), speed


def _lag(joints: FloatArray, fps: float, *, steps: int) -> float:
    """Frames in a step, less where the clip does not hold `steps` of them."""
    return float(min(STEP_S * fps, (len(joints) - 1) // steps))


def _later(values: FloatArray, lag: float) -> FloatArray:
    """(T - ceil(lag), ...) values `lag` frames later, interpolated."""
    whole = round(lag) if abs(lag - round(lag)) < 1e-9 else math.floor(lag)
    rest = max(lag - whole, 0.0)
    if rest < 1e-9:
        return values[whole:]
    return np.asarray((1.0 - rest) * values[whole:-1] + rest * values[whole + 1 :])


def _length(steps: FloatArray, pair: tuple[int, int], axes: list[int]) -> FloatArray:
    """(N, 2) length of the steps of two joints along two axes of (N, 24, 3)."""
    step = steps[:, list(pair)][..., axes]
    return np.asarray(np.hypot(step[..., 0], step[..., 1]))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _check(joints: FloatArray, fps: float, variant: str, variants: tuple[str, ...], *, frames: int) -> FloatArray:
    """The joints as float64, after all checks."""
    if variant not in variants:
        raise unknown("variant of foot contact", variant, variants, "macebench ls protocols")
    points = np.asarray(joints, dtype=np.float64)
    if points.ndim != 3 or points.shape[1:] != (N_JOINTS, 3):
        raise ValueError(f"joints have shape {points.shape}, expected (T, {N_JOINTS}, 3)")
    if len(points) < frames:
        raise ValueError(f"foot contact needs at least {frames} frames, got joints {points.shape}")
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps is {fps}, must be above 0 and finite")
    if not np.isfinite(points).all():
        raise ValueError(f"joints {points.shape} hold values that are not finite")
    return points
