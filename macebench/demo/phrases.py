"""The vocabulary of the choreographer: poses, and phrases of four counts made of them.

A phrase is written for the left side (the dancer's left is +x) and mirrored for the right. Feet are given
on the floor around the phrase's centre in metres, body angles in degrees as (pitch, yaw, roll): pitch leans
forwards, yaw turns to the left, roll leans to the right. Arms are pairs of directions (upper arm, forearm)
in the chest's frame for the left arm: x outwards, y up, z forwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

Triple = tuple[float, float, float]
Arm = tuple[Triple, Triple]

ARMS: dict[str, Arm] = {
    "relaxed": ((0.28, -1.0, 0.05), (0.22, -1.0, 0.45)),
    "bent": ((0.45, -0.95, -0.15), (-0.15, 0.15, 1.0)),
    "fore_swing": ((0.30, -0.85, 0.55), (0.05, 0.10, 1.0)),
    "back_swing": ((0.50, -0.85, -0.50), (0.45, -1.0, 0.20)),
    "side": ((1.0, 0.0, 0.05), (1.0, 0.02, 0.28)),
    "side_low": ((0.85, -0.55, 0.10), (0.90, -0.40, 0.40)),
    "side_high": ((0.85, 0.50, 0.10), (0.70, 0.75, 0.30)),
    "vee": ((0.62, 0.85, 0.10), (0.45, 1.0, 0.25)),
    "high": ((0.30, 1.0, 0.12), (0.02, 1.0, 0.22)),
    "goal": ((1.0, 0.05, 0.10), (0.12, 1.0, 0.22)),
    "robot": ((1.0, 0.02, 0.10), (0.15, -1.0, 0.30)),
    "hip": ((0.85, -0.80, -0.30), (-0.35, -0.45, 0.62)),
    "cross": ((0.45, -0.55, 0.85), (-0.72, 0.15, 0.60)),
    "front": ((0.30, -0.05, 1.0), (0.10, 0.12, 1.0)),
    "clap": ((0.50, -0.30, 0.90), (-0.62, 0.40, 0.80)),
    "point_up": ((0.75, 0.80, 0.25), (0.70, 0.80, 0.42)),
    "point_down": ((0.18, -0.75, 0.75), (-0.55, -0.65, 0.60)),
    "sweep": ((0.90, 0.10, 0.45), (0.45, 0.15, 0.95)),
    "chest": ((0.95, -0.25, 0.30), (-0.60, 0.10, 0.80)),
    "head": ((0.95, 0.45, 0.20), (-0.25, 0.80, 0.55)),
}


@dataclass(frozen=True)
class Foot:
    """A foot: the ball's place on the floor and its height in metres, yaw and heel lift in degrees."""

    x: float
    z: float = 0.0
    lift: float = 0.0
    yaw: float = 0.0
    heel: float = 0.0


@dataclass(frozen=True)
class Pose:
    """A key pose on one count.

    Attributes:
        left, right: The feet.
        weight: 0 when the left foot carries all the weight, 1 when the right one does.
        drop: How far the hips sink below standing in metres.
        turn: Yaw of the whole body in degrees.
        pelvis, belly, chest, head: (pitch, yaw, roll) in degrees, relative to the part below.
        arms: Names in `ARMS` of the left and the right arm.
    """

    left: Foot = Foot(0.13, 0.0, yaw=8.0)
    right: Foot = Foot(-0.13, 0.0, yaw=-8.0)
    weight: float = 0.5
    drop: float = 0.03
    turn: float = 0.0
    pelvis: Triple = (0.0, 0.0, 0.0)
    belly: Triple = (0.0, 0.0, 0.0)
    chest: Triple = (2.0, 0.0, 0.0)
    head: Triple = (0.0, 0.0, 0.0)
    arms: tuple[str, str] = ("relaxed", "relaxed")

    def mirrored(self) -> Pose:
        """The same pose with left and right exchanged."""
        return Pose(
            left=_mirror_foot(self.right), right=_mirror_foot(self.left), weight=1.0 - self.weight, drop=self.drop,
            turn=-self.turn, pelvis=_mirror(self.pelvis), belly=_mirror(self.belly), chest=_mirror(self.chest),
            head=_mirror(self.head), arms=(self.arms[1], self.arms[0]),
        )  # fmt: skip


def _mirror_foot(foot: Foot) -> Foot:
    return replace(foot, x=-foot.x, yaw=-foot.yaw)


def _mirror(angles: Triple) -> Triple:
    return (angles[0], -angles[1], -angles[2])


Counts = tuple[Pose, Pose, Pose, Pose]
Phrase = Callable[[np.random.Generator], Counts]
STAND = Pose()
WIDE = Pose(left=Foot(0.22, 0.0, yaw=14.0), right=Foot(-0.22, 0.0, yaw=-14.0), drop=0.05)


def _choice(rng: np.random.Generator, *options: tuple[str, ...]) -> tuple[str, ...]:
    return options[int(rng.integers(len(options)))]


def step_touch(rng: np.random.Generator) -> Counts:
    """Step to the left, touch, step back to the right, touch; the arms swing along."""
    out, close = _choice(rng, ("side_low", "bent"), ("sweep", "cross"), ("goal", "hip"), ("fore_swing", "clap"))
    back = "cross" if out == "sweep" else out
    first = Pose(
        Foot(0.40, yaw=12), Foot(-0.13, heel=22, yaw=-5), 0.18, 0.06, 0.0,
        (0, 6, 5), (0, 0, -4), (4, 12, -7), (0, -8, 3),
        (out, back),
    )  # fmt: skip
    touch = Pose(
        Foot(0.40, yaw=8), Foot(0.17, 0.03, heel=30, yaw=-4), 0.12, 0.10, 0.0,
        (0, -6, -5), (4, 0, 4), (7, -10, 5), (3, 6, -2),
        (close, close),
    )  # fmt: skip
    second = Pose(
        Foot(0.40, heel=22, yaw=5), Foot(-0.13, yaw=-12), 0.82, 0.06, 0.0,
        (0, -6, -5), (0, 0, 4), (4, -12, 7), (0, 8, -3),
        (back, out),
    )  # fmt: skip
    last = Pose(
        Foot(0.10, 0.03, heel=30, yaw=4), Foot(-0.13, yaw=-8), 0.88, 0.10, 0.0,
        (0, 6, 5), (4, 0, -4), (7, 10, -5), (3, -6, 2),
        (close, close),
    )  # fmt: skip
    return first, touch, second, last


def travel(rng: np.random.Generator) -> Counts:
    """Two steps to the left with a close and a touch; the arms open and shut."""
    open_arm, shut = _choice(rng, ("side", "clap"), ("side_high", "cross"), ("vee", "chest"))
    poses = []
    for count in range(4):
        going = count % 2 == 0
        sway = 4.0 if going else -4.0
        left = Foot(0.35 if count < 2 else 0.57, yaw=14)
        right = Foot((-0.13, 0.09, 0.09, 0.31)[count], 0.02 * count, yaw=-4, heel=20 if going else 12)
        chest = (0.0 if going else 9.0, 0.0, -1.5 * sway)
        arms = (open_arm, open_arm) if going else (shut, shut)
        drop = 0.05 if going else 0.11
        poses.append(Pose(left, right, 0.27, drop, 0.0, (0, 0, sway), (0, 0, -3), chest, (0, 10, 0), arms))
    return poses[0], poses[1], poses[2], poses[3]


def turn(rng: np.random.Generator) -> Counts:
    """A full turn to the left in four steps."""
    wide, tight = _choice(rng, ("side", "cross"), ("side_high", "chest"), ("vee", "hip"))
    radius = 0.21

    def at(foot: float, degrees: float) -> tuple[float, float]:
        angle = np.radians(degrees)
        return float(foot * radius * np.cos(angle)), float(-foot * radius * np.sin(angle))

    # left foot at, right foot at, left yaw, right yaw, weight, body yaw; each count moves one foot
    steps = (
        (90, 0, 100, 40, 0.4, 80), (90, 180, 140, 185, 0.6, 172), (270, 180, 275, 225, 0.4, 262),
        (270, 360, 325, 350, 0.6, 352),
    )  # fmt: skip
    poses = []
    for count, (left, right, left_yaw, right_yaw, weight, body) in enumerate(steps):
        heels = (0, 14) if count % 2 == 0 else (10, 0)
        feet = Foot(*at(1, left), yaw=left_yaw, heel=heels[0]), Foot(*at(-1, right), yaw=right_yaw, heel=heels[1])
        arm = (wide, tight)[count % 2]
        poses.append(Pose(*feet, weight, 0.055, body, head=(0, 8 if count == 3 else 28, 0), arms=(arm, arm)))
    return poses[0], poses[1], poses[2], poses[3]


def arm_wave(rng: np.random.Generator) -> Counts:
    """A wave through both arms from the right hand to the left one, the weight goes with it."""
    first = replace(
        WIDE, weight=0.85, arms=("side_low", "side_high"),
        pelvis=(0, 0, -5), belly=(0, 0, 6), chest=(0, -8, 9), head=(0, -14, 4),
    )  # fmt: skip
    second = replace(WIDE, weight=0.62, arms=("side", "robot"), chest=(-4, 0, 2), drop=0.09)
    third = replace(WIDE, weight=0.30, arms=("goal", "side"), chest=(-4, 0, -3), drop=0.05, head=(0, 10, 0))
    last = replace(
        WIDE, weight=0.14, arms=("side_high", "side_low"),
        pelvis=(0, 0, 5), belly=(0, 0, -6), chest=(0, 8, -9), head=(0, 16, -4),
    )  # fmt: skip
    return first, second, third, last


def bounce(rng: np.random.Generator) -> Counts:
    """Bounces in the knees while the arms pump up."""
    low, high = _choice(rng, ("bent", "high"), ("goal", "vee"), ("chest", "point_up"), ("head", "high"))
    base = replace(WIDE, left=Foot(0.19, yaw=14), right=Foot(-0.19, yaw=-14))
    down = replace(base, drop=0.17, arms=(low, low), chest=(12, 0, 0), belly=(6, 0, 0), head=(-6, 0, 0))
    lean = float(rng.uniform(4, 9))
    up = replace(base, drop=0.035, arms=(high, high), chest=(-6, 0, lean), pelvis=(0, 0, -lean / 2), weight=0.62)
    other = replace(base, drop=0.035, arms=(high, high), chest=(-6, 0, -lean), pelvis=(0, 0, lean / 2), weight=0.38)
    return down, up, down, other


def kick(rng: np.random.Generator) -> Counts:
    """Low kicks to the front, right and left, with the opposite arm."""
    front, side = _choice(rng, ("front", "side"), ("fore_swing", "back_swing"), ("point_up", "side_low"))
    height = float(rng.uniform(0.28, 0.42))
    home = replace(STAND, drop=0.10, arms=("bent", "bent"), chest=(8, 0, 0))
    first = Pose(
        Foot(0.09, yaw=10), Foot(-0.10, 0.52, height, -4, 38), 0.06, 0.05, 0.0,
        (-7, 8, 3), (0, 0, -2), (-3, 10, -4), (2, -6, 0),
        (front, side),
    )  # fmt: skip
    return first, replace(home, left=Foot(0.09, yaw=10), weight=0.45), first.mirrored(), replace(home, weight=0.55)


def knee_lift(rng: np.random.Generator) -> Counts:
    """Knee up on one count, down on the next; the arms pull down to the knee."""
    high, low = _choice(rng, ("high", "bent"), ("side_high", "chest"), ("vee", "fore_swing"))
    height = float(rng.uniform(0.30, 0.44))
    home = replace(STAND, drop=0.06, arms=(high, high), chest=(-4, 0, 0), head=(-4, 0, 0))
    up = Pose(
        Foot(0.08, yaw=10), Foot(-0.13, 0.24, height, -6, 35), 0.05, 0.03, 0.0,
        (-4, 6, 3), (8, 6, 0), (10, 10, -3), (4, -8, 0),
        (low, low),
    )  # fmt: skip
    return up, replace(home, left=Foot(0.09, yaw=8)), up.mirrored(), home


def body_roll(rng: np.random.Generator) -> Counts:
    """A wave through chest, belly and hips."""
    open_arm, shut = _choice(rng, ("side_low", "back_swing"), ("hip", "hip"), ("goal", "side_low"))
    base = replace(WIDE, left=Foot(0.18, yaw=14), right=Foot(-0.18, yaw=-14), arms=(shut, shut))
    wide = replace(base, arms=(open_arm, open_arm))
    first = replace(wide, drop=0.04, pelvis=(8, 0, 0), belly=(-2, 0, 0), chest=(-22, 0, 0), head=(-8, 0, 0))
    second = replace(base, drop=0.10, pelvis=(-4, 0, 0), belly=(-16, 0, 0), chest=(10, 0, 0), head=(6, 0, 0))
    third = replace(base, drop=0.18, pelvis=(-10, 0, 0), belly=(12, 0, 0), chest=(26, 0, 0), head=(4, 0, 0))
    last = replace(wide, drop=0.07, pelvis=(4, 0, 0), belly=(6, 0, 0), chest=(0, 0, 0))
    return first, second, third, last


def lunge(rng: np.random.Generator) -> Counts:
    """A lunge to the left with a pose, a change of arms, and back."""
    up, down = _choice(rng, ("point_up", "side_low"), ("vee", "hip"), ("side_high", "chest"))
    first = Pose(
        Foot(0.52, 0.05, yaw=30), Foot(-0.13, yaw=-6), 0.30, 0.15, 0.0,
        (0, 8, 0), (0, 4, -5), (2, 10, -8), (0, 12, 2), (up, down)
    )  # fmt: skip
    second = replace(first, drop=0.19, arms=(down, up), chest=(4, -14, 6), head=(0, -14, 0))
    third = replace(STAND, left=Foot(0.22, yaw=10), weight=0.6, drop=0.05, arms=("clap", "clap"), chest=(8, 0, 0))
    last = replace(STAND, left=Foot(0.22, yaw=10), weight=0.4, drop=0.10, arms=("side", "side"), chest=(-4, 0, 0))
    return first, second, third, last


def disco(rng: np.random.Generator) -> Counts:
    """The left hand points up and out, then down across the body; the hips sway."""
    other = _choice(rng, ("hip",), ("bent",), ("relaxed",))[0]
    up = replace(
        WIDE, weight=0.22, drop=0.05, arms=("point_up", other),
        pelvis=(0, 6, 7), belly=(0, 0, -7), chest=(-4, 14, -8), head=(-8, 14, 0),
    )  # fmt: skip
    down = replace(
        WIDE, weight=0.78, drop=0.12, arms=("point_down", other),
        pelvis=(0, -8, -7), belly=(4, 0, 7), chest=(10, -18, 6), head=(6, -6, 0),
    )  # fmt: skip
    return up, down, replace(up, weight=0.18), replace(down, weight=0.82)


def twist(rng: np.random.Generator) -> Counts:
    """Both feet swivel on their balls, hips against shoulders."""
    front, back = _choice(rng, ("fore_swing", "back_swing"), ("sweep", "bent"), ("chest", "side_low"))
    low = float(rng.uniform(0.10, 0.17))

    def to(side: float, drop: float) -> Pose:
        feet = Foot(0.15, yaw=8 + 26 * side, heel=14), Foot(-0.15, yaw=-8 + 26 * side, heel=14)
        body = (0, 20 * side, 0), (4, -16 * side, 0), (4, -22 * side, 0), (0, 10 * side, 0)
        return Pose(*feet, 0.5 - 0.16 * side, drop, 0.0, *body, arms=(front, back) if side > 0 else (back, front))

    return to(1, low), to(-1, low - 0.04), to(1, low), to(-1, low + 0.03)


def rock(rng: np.random.Generator) -> Counts:
    """Left foot forward and home, right foot back and home."""
    ahead, home_arm = _choice(rng, ("front", "bent"), ("fore_swing", "relaxed"), ("side", "chest"))
    forward = Pose(
        Foot(0.13, 0.30, yaw=8), Foot(-0.13, heel=24, yaw=-6), 0.30, 0.08, 0.0,
        (2, -10, 0), (2, 0, 0), (4, -8, 0), (0, 10, 0),
        (home_arm, ahead),
    )  # fmt: skip
    home = replace(STAND, drop=0.04, arms=(home_arm, home_arm), chest=(-2, 0, 0))
    backward = Pose(
        Foot(0.13, yaw=8), Foot(-0.14, -0.30, yaw=-14, heel=12), 0.66, 0.09, 0.0,
        (2, -10, 0), (-4, 0, 0), (-6, -8, 0), (0, 10, 0),
        (ahead, home_arm),
    )  # fmt: skip
    return forward, home, backward, replace(home, drop=0.07)


def arm_hits(rng: np.random.Generator) -> Counts:
    """Sharp arm shapes at right angles over a steady stance."""
    shapes = (
        ("goal", "robot"), ("robot", "goal"), ("clap", "clap"), ("side", "side"), ("goal", "goal"), ("chest", "side"),
    )  # fmt: skip
    order = rng.permutation(len(shapes))[:4]
    poses = []
    for count, shape in enumerate(order):
        side = 1.0 if count % 2 == 0 else -1.0
        drop = (0.05, 0.11, 0.04, 0.12)[count]
        chest, head = (0.0, 10.0 * side, -4.0 * side), (0.0, -14.0 * side, 0.0)
        weight = 0.5 - 0.16 * side
        poses.append(replace(WIDE, weight=weight, drop=drop, arms=shapes[int(shape)], chest=chest, head=head))
    return poses[0], poses[1], poses[2], poses[3]


PHRASES: dict[str, Phrase] = {
    "step_touch": step_touch, "travel": travel, "turn": turn, "arm_wave": arm_wave, "bounce": bounce,
    "kick": kick, "knee_lift": knee_lift, "body_roll": body_roll, "lunge": lunge, "disco": disco,
    "twist": twist, "rock": rock, "arm_hits": arm_hits,
}  # fmt: skip
"""Every phrase by name."""
