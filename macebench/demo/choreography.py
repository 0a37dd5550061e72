"""A procedural choreographer: beats in, a `Motion` of SMPL-24 out.

Phrases of `macebench.demo.phrases` are strung together, one key pose a beat. Between keys every channel eases
in and out, so that the limbs come (almost) to rest on the beats: the minima of speed lie there, and half a
beat later lie the maxima. A foot is either planted (the ball of the foot keeps its place; it may pivot and lift
its heel) or under way to its next place on an arc; never are both under way. The legs follow from the hips and
the feet by closed-form inverse kinematics; the hips sink as far as the legs' reach asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from macebench.demo.kinematics import (
    LEG_REACH,
    arm_matrix,
    euler,
    interpolate,
    leg_length,
    locate,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
    rotation,
    solve_leg,
)
from macebench.demo.phrases import ARMS, PHRASES, STAND, Foot, Pose
from macebench.skeleton import SMPL_OFFSETS_M, forward_kinematics
from macebench.types import N_JOINTS, FloatArray, Motion

STANDING_ROOT_M = 0.974
"""Height of the root when the body stands straight, soles on the floor."""

BALL_HEIGHT_M = 0.018
"""Height of the toe joint of a planted foot."""

_COUNTS = 4
_STEP_M = 0.02  # a foot that goes less far stays where it is
_ARC_M, _ARC_SHARE = 0.035, 0.16
_MAX_FOOT_TWIST = np.radians(48.0)
_STAGE_M = 0.22  # a dance keeps to this side or that of the middle
_FEET_APART_M = 0.17
_PASSING_M = 0.27
_FEET = slice(0, 10)
_ROOT, _TURN = slice(10, 13), slice(13, 16)
_BELLY, _CHEST, _HEAD = slice(16, 19), slice(19, 22), slice(22, 25)
_ARM = (slice(25, 29), slice(30, 34))
_ELBOW = (29, 34)
_CHANNELS = 35
_FLOW = 0.18

GENRE_PHRASES: Mapping[str, tuple[str, ...]] = {
    "house": ("step_touch", "bounce", "travel", "turn", "knee_lift", "arm_wave", "rock"),
    "hiphop": ("bounce", "arm_hits", "body_roll", "lunge", "knee_lift", "twist", "arm_wave"),
    "disco": ("disco", "step_touch", "turn", "twist", "travel", "bounce", "lunge"),
    "pop": ("step_touch", "arm_wave", "kick", "lunge", "arm_hits", "turn", "bounce"),
    "funk": ("twist", "body_roll", "kick", "disco", "arm_hits", "rock", "knee_lift"),
    "electro": ("arm_hits", "bounce", "knee_lift", "travel", "kick", "arm_wave", "turn"),
}
"""Which phrases a genre is danced with."""


@dataclass(frozen=True)
class Choreography:
    """A dance and what is known of it.

    Attributes:
        motion: The dance, with rotations and root.
        contacts: (T, 2) True while the left or right foot is planted.
        phrases: Names of the phrases, in order.
    """

    motion: Motion
    contacts: NDArray[np.bool_]
    phrases: tuple[str, ...]


def choreograph(beats_s: FloatArray, duration_s: float, fps: float, seed: int, genre: str = "pop") -> Choreography:
    """Dance to beats.

    Args:
        beats_s: (B,) beat times in seconds, increasing, at least two.
        duration_s: Length of the dance in seconds.
        fps: Frames a second.
        seed: The same seed gives the same dance.
        genre: A key of `GENRE_PHRASES`.

    Raises:
        ValueError: fewer than two beats, or an unknown genre.
    """
    if len(beats_s) < 2:
        raise ValueError(f"a dance needs two beats or more, got {len(beats_s)}")
    if genre not in GENRE_PHRASES:
        raise ValueError(f"genre {genre!r}: allowed are {sorted(GENRE_PHRASES)}")
    rng = np.random.default_rng([seed, 0xDA2CE])
    times = np.arange(round(duration_s * fps)) / fps
    key_times = _extended(np.asarray(beats_s, dtype=np.float64), duration_s)
    poses, names = _compose(len(key_times), rng, GENRE_PHRASES[genre])
    keys = _channels(poses, rng)
    flow = np.full(_CHANNELS, _FLOW)
    flow[_FEET] = 0.0
    frames = interpolate(keys, key_times, times, flow)
    contacts = _step_arcs(frames, keys, key_times, times)
    rotations, root = _solve(frames)
    joints = forward_kinematics(rotations, root)
    return Choreography(Motion(fps, joints, rotations, root), contacts, names)


def _extended(beats: FloatArray, duration_s: float) -> FloatArray:
    """The beats with more of them before 0 and after the end, so that every frame lies between two keys."""
    step = float(np.median(np.diff(beats)))
    before = beats[0] - step * np.arange(int(np.ceil(max(beats[0], 0.0) / step)) + 1, 0, -1)
    after = beats[-1] + step * np.arange(1, int(np.ceil(max(duration_s - beats[-1], 0.0) / step)) + 2)
    return np.concatenate([before, beats, after])


def _compose(count: int, rng: np.random.Generator, vocabulary: tuple[str, ...]) -> tuple[list[Pose], tuple[str, ...]]:
    """`count` key poses, feet made consistent, and the names of the phrases."""
    poses: list[Pose] = []
    names: list[str] = []
    centre, turned = _STAGE_M * (1.0 if rng.random() < 0.5 else -1.0), 0.0
    state = replace(
        STAND, left=replace(STAND.left, x=STAND.left.x + centre), right=replace(STAND.right, x=STAND.right.x + centre)
    )
    skip = int(rng.integers(_COUNTS))
    while len(poses) - skip < count:
        left = [name for name in vocabulary if name not in names[-3:]]
        name = left[int(rng.integers(len(left)))]
        names.append(name)
        mirror = centre > 0.0 if name == "travel" else bool(rng.random() < 0.5)
        phrase = PHRASES[name](rng)
        for pose in (p.mirrored() for p in phrase) if mirror else phrase:
            state = _settle(state, pose, centre, turned)
            poses.append(state)
        if name == "travel":
            centre = -centre
        if name == "turn":
            turned += -360.0 if mirror else 360.0
    return poses[skip : skip + count], tuple(names)


def _settle(before: Pose, wanted: Pose, centre: float, turned: float) -> Pose:
    """`wanted` on the stage: at most one foot leaves its place, the other one waits; feet do not cross."""
    asked = [replace(foot, x=foot.x + centre, yaw=foot.yaw + turned) for foot in (wanted.left, wanted.right)]
    held = [before.left, before.right]
    mover = _mover(asked, held, np.radians(wanted.turn + turned))
    feet = [
        foot if side == mover else replace(foot, x=held[side].x, z=held[side].z, lift=0.0)
        for side, foot in enumerate(asked)
    ]
    if mover is not None:
        feet[mover] = _apart(feet[mover], feet[1 - mover], mover, np.radians(wanted.turn + turned))
    return replace(wanted, left=feet[0], right=feet[1], turn=wanted.turn + turned)


def _mover(asked: list[Foot], held: list[Foot], heading: float) -> int | None:
    """Which foot leaves its place: 0 left, 1 right, None neither.

    A foot in the air comes first, then the one that has room, then the one with the longer way.
    """
    way = [float(np.hypot(new.x - old.x, new.z - old.z)) for new, old in zip(asked, held, strict=True)]
    raised = [max(new.lift, old.lift) for new, old in zip(asked, held, strict=True)]
    moving = [side for side in (0, 1) if way[side] > _STEP_M or raised[side] > 0.0]
    room = [_gap(asked[0], held[1], heading) >= _FEET_APART_M, _gap(held[0], asked[1], heading) >= _FEET_APART_M]
    return max(moving, key=lambda side: (raised[side], room[side], way[side]), default=None)


def _gap(left: Foot, right: Foot, heading: float) -> float:
    """How far the left foot is to the left of the right one, in metres, for a body turned by `heading`."""
    return float((left.x - right.x) * np.cos(heading) - (left.z - right.z) * np.sin(heading))


def _apart(foot: Foot, other: Foot, side: int, heading: float) -> Foot:
    """`foot` moved sideways until it is clear of `other`."""
    gap = _gap(foot, other, heading) if side == 0 else _gap(other, foot, heading)
    push = max(0.0, _FEET_APART_M - gap) * (1.0 if side == 0 else -1.0)
    return replace(foot, x=foot.x + push * float(np.cos(heading)), z=foot.z - push * float(np.sin(heading)))


def _channels(poses: list[Pose], rng: np.random.Generator) -> FloatArray:
    """(B, 35) channels of the poses; the quaternions of neighbours are on the same side."""
    keys = np.zeros((len(poses), _CHANNELS))
    for row, pose in zip(keys, poses, strict=True):
        row[_FEET] = [*_foot(pose.left), *_foot(pose.right)]
        support = (1.0 - pose.weight) * row[[0, 1]] + pose.weight * row[[5, 6]]
        ahead = np.array([-np.sin(np.radians(pose.turn)), -np.cos(np.radians(pose.turn))]) * 0.105
        row[_ROOT] = [*(support + ahead), pose.drop]
        row[_TURN] = np.radians([pose.pelvis[0], pose.turn + pose.pelvis[1], pose.pelvis[2]])
        spice = rng.normal(0.0, 1.2, (3, 3))
        row[16:25] = np.radians(np.array([pose.belly, pose.chest, pose.head]) + spice).reshape(-1)
        for side in (0, 1):
            row[_ARM[side]], row[_ELBOW[side]] = _arm(pose.arms[side], side, rng)
    for channel in _ARM:
        for key in range(1, len(keys)):
            if keys[key - 1, channel] @ keys[key, channel] < 0.0:
                keys[key, channel] *= -1.0
    for first in (0, 5):
        twist = keys[:, first + 3] - keys[:, 14]
        keys[:, first + 3] -= twist - np.clip(twist, -_MAX_FOOT_TWIST, _MAX_FOOT_TWIST)
    return keys


def _foot(foot: Foot) -> tuple[float, float, float, float, float]:
    return foot.x, foot.z, foot.lift, float(np.radians(foot.yaw)), float(np.radians(foot.heel))


def _arm(name: str, side: int, rng: np.random.Generator) -> tuple[FloatArray, float]:
    """Quaternion of the shoulder in the chest's frame and the elbow's angle, slightly varied."""
    upper, fore = (np.array(direction) * [1.0 if side == 0 else -1.0, 1.0, 1.0] for direction in ARMS[name])
    if side == 1 and name in ("cross", "clap"):
        upper[1], fore[1] = upper[1] - 0.14, fore[1] - 0.08  # the right hand passes below the left
    matrix, elbow = arm_matrix(upper + rng.normal(0.0, 0.03, 3), fore, side)
    return matrix_to_quaternion(matrix), elbow


def _step_arcs(frames: FloatArray, keys: FloatArray, key_times: FloatArray, times: FloatArray) -> NDArray[np.bool_]:
    """Lift feet that are under way (changes `frames`); returns (T, 2) where feet are planted."""
    slot, u = locate(key_times, times)
    contacts = np.empty((len(times), 2), dtype=bool)
    for side, first in enumerate((0, 5)):
        way = np.hypot(*(keys[1:, first : first + 2] - keys[:-1, first : first + 2]).T)
        lifted = np.maximum(keys[1:, first + 2], keys[:-1, first + 2]) > 0.0
        arc = np.where(lifted | (way == 0.0), 0.0, _ARC_M + _ARC_SHARE * way)[slot]
        bell = 16.0 * (u * (1.0 - u)) ** 2
        frames[:, first + 2] += arc * bell
        frames[:, first + 4] += np.where(arc > 0.0, np.radians(22.0), 0.0) * bell * (1.0 - u)
        contacts[:, side] = ((way == 0.0) & ~lifted)[slot]
    _step_around(frames, contacts, 16.0 * (u * (1.0 - u)) ** 2)
    return contacts


def _step_around(frames: FloatArray, contacts: NDArray[np.bool_], bell: FloatArray) -> None:
    """Bend the way of a foot that passes close by the other one; changes `frames`."""
    for side, (moving, held) in enumerate(((slice(0, 2), slice(5, 7)), (slice(5, 7), slice(0, 2)))):
        apart = frames[:, moving] - frames[:, held]
        distance = np.linalg.norm(apart, axis=1)
        push = np.where(contacts[:, side], 0.0, np.maximum(_PASSING_M - distance, 0.0) * bell)
        frames[:, moving] += apart * (push / np.maximum(distance, 0.05))[:, None]


def _solve(frames: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(T, 24, 3) local axis-angle rotations and (T, 3) root positions of channels (T, 35)."""
    pelvis = euler(frames[:, _TURN])
    local = np.tile(np.eye(3), (len(frames), N_JOINTS, 1, 1))
    local[:, 0] = pelvis
    belly, chest = frames[:, _BELLY], frames[:, _CHEST]
    local[:, 3], local[:, 6], local[:, 9] = euler(0.6 * belly), euler(0.4 * belly + 0.4 * chest), euler(0.6 * chest)
    against = (belly + chest) * [-0.25, -0.35, -0.35]
    local[:, 12], local[:, 15] = (
        euler(0.4 * frames[:, _HEAD] + 0.5 * against),
        euler(0.6 * frames[:, _HEAD] + 0.5 * against),
    )
    for side in (0, 1):
        _place_arm(local, frames, side)
    balls, turns = _feet(frames)
    ankles = [balls[side] - turns[side] @ SMPL_OFFSETS_M[10 + side] for side in (0, 1)]
    root = _root(frames, pelvis, ankles)
    for side in (0, 1):
        _place_leg(local, frames, side, root, ankles[side], turns[side])
    return matrix_to_axis_angle(local), root


def _place_arm(local: FloatArray, frames: FloatArray, side: int) -> None:
    shoulder = quaternion_to_matrix(frames[:, _ARM[side]])
    sign = 1.0 if side == 0 else -1.0
    rise = np.arcsin(np.clip(sign * shoulder[:, 1, 0], -1.0, 1.0))
    collar = rotation(2, sign * np.clip(0.12 + 0.24 * rise, -0.10, 0.5))
    local[:, 13 + side] = collar
    local[:, 16 + side] = np.swapaxes(collar, 1, 2) @ shoulder
    local[:, 18 + side] = rotation(1, -sign * frames[:, _ELBOW[side]])
    local[:, 20 + side] = rotation(2, np.full(len(frames), -sign * 0.12))


def _feet(frames: FloatArray) -> tuple[list[FloatArray], list[FloatArray]]:
    """Positions of the balls (T, 3) and rotations (T, 3, 3) of both feet."""
    balls, turns = [], []
    for first in (0, 5):
        x, z, lift, yaw, heel = frames[:, first : first + 5].T
        balls.append(np.stack([x, BALL_HEIGHT_M + lift, z], axis=1))
        turns.append(rotation(1, yaw) @ rotation(0, heel))
    return balls, turns


def _root(frames: FloatArray, pelvis: FloatArray, ankles: list[FloatArray]) -> FloatArray:
    """(T, 3) root: as high as wanted and as both legs reach (a smooth minimum)."""
    x, z, drop = frames[:, _ROOT].T
    limits = [STANDING_ROOT_M - 0.012 - drop]
    for side in (0, 1):
        hip = pelvis @ SMPL_OFFSETS_M[1 + side]
        away = np.hypot(ankles[side][:, 0] - x - hip[:, 0], ankles[side][:, 2] - z - hip[:, 2])
        length = LEG_REACH * leg_length(side)
        limits.append(ankles[side][:, 1] + np.sqrt(np.maximum(length**2 - away**2, 0.2)) - hip[:, 1])
    soft = 0.006
    stacked = np.stack(limits)
    lowest = stacked.min(axis=0)
    height = lowest - soft * np.log(np.exp((lowest - stacked) / soft).sum(axis=0))
    return np.stack([x, height, z], axis=1)


def _place_leg(
    local: FloatArray, frames: FloatArray, side: int, root: FloatArray, ankle: FloatArray, turn: FloatArray
) -> None:
    pelvis, yaw = local[:, 0], frames[:, 3 + 5 * side]
    hip = root + pelvis @ SMPL_OFFSETS_M[1 + side]
    heading = 0.5 * (yaw + frames[:, 14])
    pole = np.stack([np.sin(heading), np.full_like(heading, 0.7), np.cos(heading)], axis=1)
    local[:, 1 + side], local[:, 4 + side] = solve_leg(side, hip, ankle, pelvis, pole)
    shin = pelvis @ local[:, 1 + side] @ local[:, 4 + side]
    local[:, 7 + side] = np.swapaxes(shin, 1, 2) @ turn
    flat = rotation(0, -np.clip(frames[:, 4 + 5 * side], 0.0, 0.6))
    airborne = np.clip(frames[:, 2 + 5 * side] / 0.05, 0.0, 1.0)[:, None, None]
    local[:, 10 + side] = (1.0 - airborne) * flat + airborne * np.eye(3)
