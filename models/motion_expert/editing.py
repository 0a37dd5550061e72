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

1. Masked denoising (`macebench.models.diffusion.constraints`): kept channels are given to the sampler, with its own
   blending of the estimate near borders. Values outside the range of the training data are clamped for the sampler
   alone. A dancer who stands elsewhere on the floor than the training data is brought there first and back after.
2. The kept part is put back from the input: rotations, root and, in frames kept as a whole, joints are the input's own
   numbers, at 30 frames a second.
3. `seam_blend`: at each border in time the GENERATED side is moved so that it goes on from the kept side at the mean of
   both speeds, and the correction fades out over `EditPlan.blend_s`, or longer where that would be a dash
   (`BLEND_SPEED_M_S`, `BLEND_TURN_RAD_S`). Kept frames are never touched.

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
from macebench.motion.resample import bone_offsets, resample_motion
from macebench.skeleton import forward_kinematics
from macebench.types import N_JOINTS, Array, FloatArray, Motion

Mode = Literal["inbetween", "continue", "upper", "lower", "root"]
MODES: tuple[str, ...] = ("inbetween", "continue", "upper", "lower", "root")
LOWER_JOINTS: tuple[int, ...] = (0, 1, 2, 4, 5, 7, 8, 10, 11)
UPPER_JOINTS: tuple[int, ...] = tuple(joint for joint in range(N_JOINTS) if joint not in LOWER_JOINTS)
BLEND_SPEED_M_S = 0.5
BLEND_TURN_RAD_S = 3.0
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
        blend_s: Seconds over which a correction at a seam fades out; 0 leaves seams as the sampler made them.

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


@dataclass(frozen=True, eq=False)
class _Kept:
    """Which frames of which part are kept: joints (T, 24), root (T,), contacts (T,), and whole frames (T,)."""

    joints: Mask
    root: Mask
    contacts: Mask

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

    Returns:
        The dance at 30 frames a second, on the bones of the input.

    Raises:
        UserError: the motion has no rotations or they do not give its joints, a span lies outside of it, nothing is
            left to make, or the music is shorter than the result.
    """
    source = _at_rate(motion)
    length = _length(plan, len(source), len(features))
    kept = kept_parts(plan, len(source), length)
    given = _filled(source, length)
    shift = _shift(expert, given, kept)
    constraint = _constraint(expert, given, kept, shift, plan)
    cut = np.asarray(features)[:length]
    (vectors,) = expert.sample_vectors(
        [cut], genre, [seed], sampling or Sampling(), constraint=constraint, progress=progress
    )
    made = expert.decode(vectors)
    return _assembled(given, kept, np.asarray(made.rotations), np.asarray(made.root) - shift, plan)


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


def _shift(expert: MotionExpert, given: _Given, kept: _Kept) -> FloatArray:
    """What is added to the kept root (3,), y up, so that its place on the floor lies where the training data's does.

    Zero where it does already, and along the axes that are wider than the training data's.
    """
    shift = np.zeros(3)
    if not kept.root.any():
        return shift
    # z-up channels 4 and 5 are x and -z of the y-up frame
    for channel, axis, sign in ((_HORIZONTAL[0], 0, 1.0), (_HORIZONTAL[1], 2, -1.0)):
        bounds = np.full((2, codec.N_FEATURES), [[-1.0], [1.0]])
        low, high = np.sort(expert.normalizer.unnormalize(bounds)[:, channel])
        path = sign * given.root[kept.root, axis]
        if path.max() - path.min() > high - low:
            continue
        shift[axis] = sign * (max(low - path.min(), 0.0) + min(high - path.max(), 0.0))
    return shift


def _constraint(expert: MotionExpert, given: _Given, kept: _Kept, shift: FloatArray, plan: EditPlan) -> Constraint:
    vectors = codec.vectors(given.rotations, given.root + shift)
    value = expert.normalizer.normalize(vectors).astype(np.float32)
    return Constraint(
        torch.from_numpy(kept.channels())[None], torch.from_numpy(value)[None], plan.resample,
        round(plan.blend_s * codec.FPS),
    )  # fmt: skip


def _assembled(given: _Given, kept: _Kept, rotations: FloatArray, root: FloatArray, plan: EditPlan) -> Motion:
    """Kept parts from the input, made parts blended to them, joints over the input's bones."""
    rotations, root = rotations.copy(), root.copy()
    rotations[kept.joints] = given.rotations[kept.joints]
    root[kept.root] = given.root[kept.root]
    rotations, root = seam_blend(rotations, root, kept.joints, kept.root, plan.blend_s)
    joints = forward_kinematics(rotations, root, given.offsets)
    joints[kept.whole] = given.joints[kept.whole]
    return Motion(codec.FPS, joints, rotations, root)


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


def seam_speed(motion: Motion, plan: EditPlan, n_input: int) -> float:
    """Speed in m/s of the fastest joint from a kept frame to a made one or back; NaN without such a seam in time.

    Args:
        motion: What `edit` returned.
        plan: What was kept.
        n_input: Frames of the input, see `input_frames`.
    """
    kept = kept_parts(plan, n_input, len(motion))
    state = kept.joints.any(axis=1) | kept.root
    edges = np.flatnonzero(state[1:] != state[:-1])
    if not len(edges):
        return math.nan
    steps = np.linalg.norm(motion.joints[edges + 1] - motion.joints[edges], axis=-1)
    return float(steps.max() * motion.fps)
