"""Editing a dance: parts of it are kept, the Motion Expert makes the rest to the music.

| mode | kept | made |
|---|---|---|
| ``inbetween`` | the given spans of time | what is between, before and after them |
| ``continue`` | the beginning | everything after it |
| ``upper`` | local rotations of trunk, arms and head | legs, pelvis and path |
| ``lower`` | path, pelvis, legs and feet | local rotations of trunk, arms and head |
| ``root`` | the path of the root | all rotations |

Spans can be given with the joint-wise modes, too: then the part is kept within them only.

Three things happen, in this order:

1. Masked denoising (`macebench.models.diffusion.constraints`): kept channels are given to the sampler, whose own
   blending of its estimate reaches over `SAMPLER_BLEND_S`: over a few frames a large error would become a dash. Values
   outside the range of the training data are clamped for the sampler alone. The model knows dances that begin by
   facing along z in the middle of the floor. So the dance is turned about the vertical first, by the mean heading of
   the kept frames, and, when its path leaves the training data's range, moved to the middle; the result is turned
   and moved back.
2. The kept part is put back from the input: rotations, root and, in frames kept as a whole, joints are the input's own
   numbers, at 30 frames a second.
3. `seam_blend`: at each border in time the GENERATED side is moved so that it goes on from the kept side at the mean of
   both speeds, and the correction fades out over `EditPlan.blend_s`, or longer where that would be a dash
   (`BLEND_SPEED_M_S`, `BLEND_TURN_RAD_S`). Turns of joints add up along the limbs. So in each gap the blend is made
   longer, up to the gap, until no joint is faster than the 99th percentile of the training data (`USUAL_SPEED`) in any
   frame that was moved; `Edited.seams` tells whether that was reached. Kept frames are never touched.

The body keeps the bones of the input. Source: MACE-Dance, section 3.2 (editing); EDGE (Tseng et al. 2023), section 3.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.models.diffusion.constraints import Constraint
from macebench.models.motion_expert import codec
from macebench.models.motion_expert._seams import Seam, blend_rotations, blend_vectors, seams_of
from macebench.models.motion_expert.expert import MotionExpert, Sampling
from macebench.motion.edit import heading
from macebench.motion.resample import bone_offsets, resample_motion
from macebench.motion.rotations import axis_angle_to_quaternion, quaternion_multiply, quaternion_to_axis_angle
from macebench.skeleton import axis_angle_to_matrix, forward_kinematics
from macebench.types import N_JOINTS, Array, FloatArray, Motion

Mode = Literal["inbetween", "continue", "upper", "lower", "root"]
MODES: tuple[str, ...] = ("inbetween", "continue", "upper", "lower", "root")
LOWER_JOINTS: tuple[int, ...] = (0, 1, 2, 4, 5, 7, 8, 10, 11)
UPPER_JOINTS: tuple[int, ...] = tuple(joint for joint in range(N_JOINTS) if joint not in LOWER_JOINTS)
BLEND_SPEED_M_S = 0.5
BLEND_TURN_RAD_S = 3.0
USUAL_SPEED = "joint_speed_p99_m_s"
"""Entry of a checkpoint's card: 99th percentile of the speeds of the fastest joint in its training data, in m/s."""
SAMPLER_BLEND_S = 1.0
LONGER = 1.4
"""Factor from one length of a blend to the next that is tried."""
_MOVED_M = 1e-6
_HORIZONTAL = (4, 5)  # channels of the root's place on the floor, z up
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class EditPlan:
    """What is kept.

    Attributes:
        mode: One of `MODES`.
        keep: Spans (start, end) in seconds. ``inbetween`` needs some; ``continue`` keeps the whole input without any;
            the other modes keep their part of the whole input.
        seconds: Length of the result. None is the length of the music for ``continue``, else that of the input.
        resample: Repetitions of each denoising step (RePaint): smoother seams at as many times the cost.
        blend_s: Least seconds over which a correction at a seam fades out; 0 leaves seams as the sampler made them.

    Raises:
        UserError: an unknown mode, or a number outside its range.
    """

    mode: Mode
    keep: tuple[tuple[float, float], ...] = ()
    seconds: float | None = None
    resample: int = 1
    blend_s: float = 0.2

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"unknown mode {self.mode!r}.", hint=f"Modes are {', '.join(MODES)}.")
        if self.mode == "inbetween" and not self.keep:
            raise UserError("inbetween needs spans to keep.", hint="For example --keep 0:2,4:6 (seconds).")
        for start, end in self.keep:
            if not 0 <= start < end or not math.isfinite(end):
                raise UserError(f"the span {start:g}:{end:g} is no span.", hint="Give START:END in seconds.")
        if self.seconds is not None and not self.seconds > 0:
            raise UserError(f"seconds is {self.seconds}, must be above 0.")
        if not 1 <= self.resample <= 100:
            raise UserError(f"resample is {self.resample}.", hint="Allowed are 1 to 100.")
        if not 0 <= self.blend_s <= 10:
            raise UserError(f"blend_s is {self.blend_s:g}.", hint="Allowed are 0 to 10 s.")


@dataclass(frozen=True)
class Seams:
    """How the seams in time came out.

    Attributes:
        speed_m_s: Speed of the fastest joint in any step from, to or between frames that a blend moved, the sampler's
            own included, and over the borders; NaN without a seam.
        usual_m_s: The speed that blends are made longer for; NaN when the checkpoint does not tell.
        blend_s: The longest stretch of such frames beside one border, in seconds.
    """

    speed_m_s: float
    usual_m_s: float
    blend_s: float

    @property
    def dash(self) -> bool:
        """Whether a joint is faster than usual, however long the blend."""
        return self.speed_m_s > self.usual_m_s


@dataclass(frozen=True, eq=False)
class Edited:
    """A dance at 30 frames a second on the bones of the input, and its seams."""

    motion: Motion
    seams: Seams


@dataclass(frozen=True, eq=False)
class _Kept:
    """Which frames of which part are kept: joints (T, 24), root (T,), contacts (T,), and whole frames (T,)."""

    joints: Mask
    root: Mask
    contacts: Mask

    @property
    def any(self) -> Mask:
        """Frames of which anything is kept."""
        return np.asarray(self.joints.any(axis=1) | self.root)

    @property
    def whole(self) -> Mask:
        return np.asarray(self.joints.all(axis=1) & self.root)

    def channels(self) -> Mask:
        """(T, 151)."""
        parts = (np.repeat(self.contacts[:, None], 4, axis=1), np.repeat(self.root[:, None], 3, axis=1))
        return np.concatenate([*parts, np.repeat(self.joints, 6, axis=1)], axis=1)


@dataclass(frozen=True, eq=False)
class _Given:
    """The input at 30 frames a second, filled up to the length of the result with its last frame."""

    rotations: FloatArray
    root: FloatArray
    joints: FloatArray
    offsets: FloatArray
    length: int


def edit(
    expert: MotionExpert,
    motion: Motion,
    features: Array,
    plan: EditPlan,
    seed: int,
    *,
    genre: str | None = None,
    sampling: Sampling | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Motion:
    """The dance alone of `edit_with_seams`, which has the same arguments and errors."""
    return edit_with_seams(
        expert, motion, features, plan, seed, genre=genre, sampling=sampling, progress=progress
    ).motion


def edit_with_seams(
    expert: MotionExpert,
    motion: Motion,
    features: Array,
    plan: EditPlan,
    seed: int,
    *,
    genre: str | None = None,
    sampling: Sampling | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Edited:
    """Keep a part of `motion` and make the rest.

    Args:
        expert: The model.
        motion: The dance, with rotations; any frame rate.
        features: Music features (T, 35) at 30 frames a second, from the dance's first frame on; what is beyond the
            length of the result is not used.
        plan: What is kept.
        seed: 0 or more.
        genre: A name of the model's genres, or None.
        sampling: Settings.
        progress: Called with steps done and steps in all.

    Raises:
        UserError: the motion has no rotations or they do not give its joints, a span lies outside of it, nothing is
            left to make, or the music is shorter than the result.
    """
    source = _at_rate(motion)
    length = _length(plan, len(source), len(features))
    kept = kept_parts(plan, len(source), length)
    given = _filled(source, length)
    place = _place(expert, given, kept)
    constraint = _constraint(expert, given, kept, place, plan)
    cut = np.asarray(features)[:length]
    (vectors,) = expert.sample_vectors(
        [cut], genre, [seed], sampling or Sampling(), constraint=constraint, progress=progress
    )
    made = expert.decode(vectors)
    back = place.back(np.asarray(made.rotations), np.asarray(made.root))
    return _assembled(given, kept, *back, plan, usual_speed(expert))


def usual_speed(expert: MotionExpert) -> float:
    """The 99th percentile of training speeds in m/s that the checkpoint's card holds; NaN when it does not."""
    value = expert.card.get(USUAL_SPEED)
    return float(value) if isinstance(value, int | float) and value > 0 else math.nan


def input_frames(motion: Motion) -> int:
    """Frames that an input has at 30 frames a second."""
    return len(_at_rate(motion))


def check_plan(plan: EditPlan, motion: Motion) -> None:
    """Whether a plan fits a dance, as far as this is known without the music and the model; see `edit`.

    Raises:
        UserError: the motion has no rotations, a span lies outside of it, or nothing is left to make.
    """
    n_input = input_frames(motion)
    length = n_input + 1 if plan.mode == "continue" else n_input
    kept_parts(plan, n_input, length if plan.seconds is None else max(round(plan.seconds * codec.FPS), 1))


def kept_parts(plan: EditPlan, n_input: int, length: int) -> _Kept:
    """What a plan keeps of an input of `n_input` frames in a result of `length` frames (30 a second).

    Raises:
        UserError: a span lies outside the input or the result, or nothing is left to make.
    """
    frames = _kept_frames(plan, n_input, length)
    joints = np.zeros((length, N_JOINTS), dtype=np.bool_)
    chosen = {"upper": UPPER_JOINTS, "lower": LOWER_JOINTS, "root": ()}.get(plan.mode, tuple(range(N_JOINTS)))
    joints[:, list(chosen)] = frames[:, None]
    root = frames if plan.mode != "upper" else np.zeros_like(frames)
    contacts = np.zeros_like(frames)
    if plan.mode in ("inbetween", "continue", "lower"):
        # a contact compares with the next frame: that of the last kept one is not known yet
        contacts = frames & np.append(frames[1:], frames[-1])
    if joints.all() and root.all():
        raise UserError("nothing is left to make: the whole dance is kept.", hint="Keep less, or make it longer.")
    return _Kept(joints, root, contacts)


def _kept_frames(plan: EditPlan, n_input: int, length: int) -> Mask:
    spans = [(round(start * codec.FPS), round(end * codec.FPS)) for start, end in plan.keep]
    if not spans:
        spans = [(0, min(n_input, length))]
    frames = np.zeros(length, dtype=np.bool_)
    for start, end in spans:
        if end > min(n_input, length) or end <= start:
            where = f"{start / codec.FPS:g}:{end / codec.FPS:g} s"
            longest = min(n_input, length) / codec.FPS
            raise UserError(f"the span {where} cannot be kept.", hint=f"The dance has {longest:g} s to keep from.")
        frames[start:end] = True
    if plan.mode == "continue" and not frames[: int(frames.sum())].all():
        raise UserError("continue keeps the beginning alone.", hint="Use --mode inbetween for other spans.")
    return frames


def _length(plan: EditPlan, n_input: int, n_music: int) -> int:
    """Frames of the result."""
    length = n_music if plan.mode == "continue" else n_input
    if plan.seconds is not None:
        length = round(plan.seconds * codec.FPS)
    if length < 1:
        raise UserError("the result would have no frame.", hint="Give more seconds.")
    if n_music < length:
        raise UserError(
            f"the music has {n_music / codec.FPS:g} s, the result {length / codec.FPS:g} s.",
            hint="Give music that is as long as the dance, or fewer --seconds.",
        )
    return length


def _at_rate(motion: Motion) -> Motion:
    """The motion at 30 frames a second, its root at joint 0."""
    if motion.rotations is None:
        raise UserError(
            "the motion has joint positions only; editing needs rotations.",
            hint="Give a motion with SMPL rotations: a BVH file, or one in AIST++'s form.",
        )
    if not len(motion):
        raise UserError("the motion has no frame.")
    if not (np.isfinite(motion.rotations).all() and np.isfinite(motion.joints).all()):
        raise UserError("the motion holds values that are not finite.")
    moved = motion.replace(root=motion.joints[:, 0])
    return moved if motion.fps == codec.FPS else resample_motion(moved, codec.FPS)


def _filled(motion: Motion, length: int) -> _Given:
    offsets = bone_offsets(motion)
    if offsets is None:
        raise UserError("the motion's rotations do not give its joints.", hint="Leave the joints out: they follow.")
    index = np.minimum(np.arange(length), len(motion) - 1)
    rotations, root = np.asarray(motion.rotations)[index], np.asarray(motion.joints[:, 0])[index]
    return _Given(rotations, root, np.asarray(motion.joints)[index], offsets, len(motion))


@dataclass(frozen=True, eq=False)
class _Place:
    """A way from the input's place on the floor to that of the training data: first a turn, then a shift."""

    turn: float
    shift: FloatArray

    def there(self, rotations: FloatArray, root: FloatArray) -> tuple[FloatArray, FloatArray]:
        rotations, root = _turned(rotations, root, self.turn)
        return rotations, root + self.shift

    def back(self, rotations: FloatArray, root: FloatArray) -> tuple[FloatArray, FloatArray]:
        return _turned(rotations, root - self.shift, -self.turn)


def _turned(rotations: FloatArray, root: FloatArray, angle: float) -> tuple[FloatArray, FloatArray]:
    """A dance turned by `angle` radians about the vertical through the origin."""
    spin = np.array([math.cos(angle / 2.0), 0.0, math.sin(angle / 2.0), 0.0])
    turned = rotations.copy()
    pelvis = axis_angle_to_quaternion(rotations[:, 0])
    turned[:, 0] = quaternion_to_axis_angle(quaternion_multiply(np.broadcast_to(spin, pelvis.shape), pelvis))
    return turned, root @ axis_angle_to_matrix(np.array([0.0, angle, 0.0])).T


def _place(expert: MotionExpert, given: _Given, kept: _Kept) -> _Place:
    """The mean heading of the frames kept in part is turned along z; a kept path is moved to the middle at need.

    A path that lies within the training data's range is not moved: within a piece the dancer need not be in the middle.
    """
    facing = heading(axis_angle_to_quaternion(given.rotations[kept.any, 0]))
    mean = np.exp(1j * facing).mean()
    turn = -float(np.angle(mean) if abs(mean) > 1e-3 else facing[0])
    shift = np.zeros(3)
    if not kept.root.any():
        return _Place(turn, shift)
    _, root = _turned(given.rotations, given.root, turn)
    bounds = expert.normalizer.unnormalize(np.full((2, codec.N_FEATURES), [[-1.0], [1.0]]))
    # z-up channels 4 and 5 are x and -z of the y-up frame
    ranges = [(axis, np.sort(sign * bounds[:, c])) for c, axis, sign in zip(_HORIZONTAL, (0, 2), (1, -1), strict=True)]
    path = root[kept.root]
    if any(path[:, axis].min() < low or path[:, axis].max() > high for axis, (low, high) in ranges):
        for axis, (low, high) in ranges:
            shift[axis] = (low + high - path[:, axis].min() - path[:, axis].max()) / 2.0
    return _Place(turn, shift)


def _constraint(expert: MotionExpert, given: _Given, kept: _Kept, place: _Place, plan: EditPlan) -> Constraint:
    value = expert.normalizer.normalize(codec.vectors(*place.there(given.rotations, given.root))).astype(np.float32)
    mask = torch.from_numpy(kept.channels())[None]
    return Constraint(mask, torch.from_numpy(value)[None], plan.resample, _sampler_frames(plan.blend_s))


def _sampler_frames(blend_s: float) -> int:
    """Frames beside a border that the sampler's own blending reaches."""
    return round(max(blend_s, SAMPLER_BLEND_S) * codec.FPS) if blend_s else 0


def _assembled(
    given: _Given, kept: _Kept, rotations: FloatArray, root: FloatArray, plan: EditPlan, usual: float
) -> Edited:
    """Kept parts from the input, made parts blended to them, joints over the input's bones."""
    rotations, root = rotations.copy(), root.copy()
    rotations[kept.joints] = given.rotations[kept.joints]
    root[kept.root] = given.root[kept.root]
    best = _blended(_Track(rotations, root, _joints(given, kept, rotations, root)), given, kept, plan.blend_s, usual)
    motion = Motion(codec.FPS, best.track.joints, best.track.rotations, best.track.root)
    return Edited(motion, Seams(best.speed, usual, best.frames / codec.FPS))


def _joints(given: _Given, kept: _Kept, rotations: FloatArray, root: FloatArray) -> FloatArray:
    joints = forward_kinematics(rotations, root, given.offsets)
    joints[kept.whole] = given.joints[kept.whole]
    return np.asarray(joints)


@dataclass(frozen=True, eq=False)
class _Track:
    rotations: FloatArray
    root: FloatArray
    joints: FloatArray


@dataclass(frozen=True, eq=False)
class _Blended:
    """A track with some gaps blended; the fastest speed there, and the most frames moved beside a border."""

    track: _Track
    speed: float
    frames: int


def _blended(raw: _Track, given: _Given, kept: _Kept, blend_s: float, usual: float) -> _Blended:
    """Every gap with the first of the blends in `_lengths` that has no joint faster than `usual`, else the slowest."""
    gaps = seams_of(kept.any)
    chosen: list[_Blended | None] = [None] * len(gaps)
    longest = max((gap.end - gap.start for gap in gaps), default=0)
    for seconds in _lengths(blend_s, longest):
        open_gaps = [k for k, found in enumerate(chosen) if found is None or found.speed > usual]
        if not open_gaps:
            break
        rotations, root = seam_blend(raw.rotations, raw.root, kept.joints, kept.root, seconds)
        track = _Track(rotations, root, _joints(given, kept, rotations, root))
        for k in open_gaps:
            tried, before = (
                _Blended(track, *_dash(raw.joints, track.joints, gaps[k], _sampler_frames(blend_s))),
                chosen[k],
            )
            if before is None or tried.speed < before.speed:
                chosen[k] = tried
    result = _Track(raw.rotations.copy(), raw.root.copy(), raw.joints.copy())
    done = [(gap, found) for gap, found in zip(gaps, chosen, strict=True) if found is not None]
    for gap, found in done:
        rows = slice(gap.start, gap.end)
        result.rotations[rows], result.root[rows] = found.track.rotations[rows], found.track.root[rows]
        result.joints[rows] = found.track.joints[rows]
    speeds = [found.speed for _, found in done]
    return _Blended(result, max(speeds, default=math.nan), max((found.frames for _, found in done), default=0))


def _lengths(blend_s: float, longest: int) -> list[float]:
    """Blends in seconds: the least, then each longer by `LONGER`, up to a gap of `longest` frames; 0 stays 0."""
    lengths = [blend_s]
    while 0 < lengths[-1] * codec.FPS < longest:
        lengths.append(max(lengths[-1] * LONGER, lengths[-1] + 1.0 / codec.FPS))
    return lengths


def _dash(raw: FloatArray, joints: FloatArray, gap: Seam, near: int) -> tuple[float, int]:
    """Speed of the fastest joint where a blend moved something, and how many frames in a row it moved at most.

    The `near` frames beside each border count as moved.
    """
    moved = np.abs(joints - raw).max(axis=(1, 2)) > _MOVED_M
    if gap.before:
        moved[gap.start : min(gap.start + near, gap.end)] = True
    if gap.after:
        moved[max(gap.end - near, gap.start) : gap.end] = True
    steps = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=1) * codec.FPS
    borders = ([gap.start - 1] if gap.before else []) + ([gap.end - 1] if gap.after else [])
    asked = moved[1:] | moved[:-1]
    asked[: max(gap.start - 1, 0)] = False
    asked[gap.end :] = False
    asked[borders] = True
    inside = moved[gap.start : gap.end]
    still = np.flatnonzero(~inside)
    first = int(still[0]) if len(still) else len(inside)
    last = len(inside) - 1 - int(still[-1]) if len(still) else len(inside)
    return float(steps[asked].max()), max(first if gap.before else 0, last if gap.after else 0)


def seam_blend(
    rotations: FloatArray, root: FloatArray, kept_joints: Mask, kept_root: Mask, blend_s: float
) -> tuple[FloatArray, FloatArray]:
    """Move the made side of every seam to the kept side (see the module); kept values come back bit by bit.

    Args:
        rotations: (T, 24, 3) local axis-angle at 30 frames a second, kept and made.
        root: (T, 3) metres.
        kept_joints: (T, 24), True where a joint's rotation is kept.
        kept_root: (T,), True where the root is kept.
        blend_s: Shortest length of a blend in seconds; 0 changes nothing.
    """
    frames = round(blend_s * codec.FPS)
    if not frames:
        return rotations, root
    rotations, root = rotations.copy(), root.copy()
    root = blend_vectors(root, seams_of(kept_root), frames, BLEND_SPEED_M_S / codec.FPS)
    for joint in range(N_JOINTS):
        found: list[Seam] = seams_of(kept_joints[:, joint])
        rotations[:, joint] = blend_rotations(rotations[:, joint], found, frames, BLEND_TURN_RAD_S / codec.FPS)
    return rotations, root
