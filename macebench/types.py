"""The values that flow through macebench. All are frozen and checked when they are made.

Units: seconds, metres (y up) and pixels (x right, y down). Times are presentation timestamps.
Arrays in a value must not be written to; `numpy` flags enforce it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from macebench.errors import Unscorable, UserError

Array = NDArray[Any]
FloatArray = NDArray[np.float64]
Better = Literal["higher", "lower", "reference"]

N_KEYPOINTS = {"coco17": 17, "coco25": 25}
N_JOINTS = 24
MAX_ID_LENGTH = 200


def _frozen(array: Array, dtype: Any = np.float64) -> Array:
    """A read-only copy-if-needed view of `array` with `dtype`."""
    result = np.asarray(array, dtype=dtype)
    if result.flags.writeable:
        result = result.view()
        result.flags.writeable = False
    return result


def _set(instance: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(instance, name, value)


@dataclass(frozen=True)
class Clip:
    """One video or motion file to score.

    Attributes:
        clip_id: Unique in its set; the path below the scanned folder without its suffix.
        path: The file.
        sha256: Hash of the file's bytes (64 hex digits).
        music: A sound file used instead of the video's own sound, or None.
        music_sha256: Hash of `music`'s bytes; empty when `music` is None.
    """

    clip_id: str
    path: Path
    sha256: str
    music: Path | None = None
    music_sha256: str = ""

    def __post_init__(self) -> None:
        check_clip_id(self.clip_id)

    def replace(self, **changes: Any) -> Clip:
        """A copy with some fields changed (`dataclasses.replace`)."""
        return dataclasses.replace(self, **changes)


def check_clip_id(clip_id: str) -> None:
    """Refuse an id that could leave a folder: files of a run are named after it.

    Raises:
        UserError: the id is empty, absolute, too long, or holds ``..``, a backslash or a control character.
    """
    parts = clip_id.split("/")
    harmless = clip_id.isprintable() and "\\" not in clip_id and len(clip_id) <= MAX_ID_LENGTH
    if not harmless or any(part in ("", ".", "..") for part in parts):
        raise UserError(
            f"the clip id {clip_id[:80]!r} cannot be used as a file name.",
            hint="Ids are relative paths without `..`, of at most 200 printable characters.",
        )


@dataclass(frozen=True)
class Missing:
    """Something that could not be had, and why. It stands where the value would."""

    reason: str


@dataclass(frozen=True)
class PoseTrack:
    """2-D poses of one person over time.

    Attributes:
        keypoints: (T, K, 2) pixels, x right and y down; NaN where the joint or the person is missing.
        confidence: (T, K) in [0, 1]; 0 where the keypoint is NaN.
        times_s: (T,) presentation timestamps in seconds, strictly increasing.
        width: Picture width in pixels.
        height: Picture height in pixels.
        skeleton: ``coco17``, or ``coco25`` (the order of easy_ViTPose, see `macebench.skeleton`).

    Raises:
        ValueError: shapes do not agree, or times do not increase.
    """

    keypoints: FloatArray
    confidence: FloatArray
    times_s: FloatArray
    width: int
    height: int
    skeleton: str = "coco17"

    def __post_init__(self) -> None:
        keypoints, confidence = _frozen(self.keypoints), _frozen(self.confidence)
        times = _frozen(self.times_s)
        if self.skeleton not in N_KEYPOINTS:
            raise ValueError(f"skeleton {self.skeleton!r}: allowed are {sorted(N_KEYPOINTS)}")
        shape = (len(times), N_KEYPOINTS[self.skeleton], 2)
        if keypoints.shape != shape or confidence.shape != shape[:2]:
            raise ValueError(
                f"pose track of {self.skeleton}: keypoints {keypoints.shape} and confidence "
                f"{confidence.shape}, expected {shape} and {shape[:2]}"
            )
        if np.any(np.diff(times) <= 0):
            raise ValueError("times_s must increase strictly")
        _set(self, keypoints=keypoints, confidence=confidence, times_s=times)

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def fps(self) -> float:
        """Nominal frame rate: one over the median distance of two timestamps (NaN under 2 frames)."""
        return 1.0 / float(np.median(np.diff(self.times_s))) if len(self) > 1 else math.nan

    @property
    def present(self) -> NDArray[np.bool_]:
        """(T,) frames in which a person was found."""
        visible = np.asarray(np.isfinite(self.keypoints).all(axis=2), dtype=np.bool_)
        return np.asarray(visible.any(axis=1), dtype=np.bool_)

    def replace(self, **changes: Any) -> PoseTrack:
        """A copy with some fields changed (`dataclasses.replace`)."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Beats:
    """Beat times of a piece of music.

    Attributes:
        times_s: (B,) seconds on the clip's clock, increasing.
        duration_s: Length of the sound in seconds.
    """

    times_s: FloatArray
    duration_s: float

    def __post_init__(self) -> None:
        _set(self, times_s=_frozen(self.times_s))


@dataclass(frozen=True)
class Motion:
    """3-D motion of one dancer.

    Attributes:
        fps: Frames a second.
        joints: (T, 24, 3) metres, y up, in the order of SMPL (`macebench.skeleton.SMPL_JOINTS`).
        rotations: (T, 24, 3) local axis-angle in radians, or None when only joints are known.
        root: (T, 3) metres; the root's position.
    """

    fps: float
    joints: FloatArray
    rotations: FloatArray | None = None
    root: FloatArray | None = None

    def __post_init__(self) -> None:
        joints = _frozen(self.joints)
        if joints.ndim != 3 or joints.shape[1:] != (N_JOINTS, 3):
            raise ValueError(f"joints have shape {joints.shape}, expected (T, {N_JOINTS}, 3)")
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps}, must be above 0")
        root = _frozen(joints[:, 0] if self.root is None else self.root)
        if root.shape != (len(joints), 3):
            raise ValueError(f"root has shape {root.shape}, expected {(len(joints), 3)}")
        rotations = None if self.rotations is None else _frozen(self.rotations)
        if rotations is not None and rotations.shape != joints.shape:
            raise ValueError(f"rotations have shape {rotations.shape}, expected {joints.shape}")
        _set(self, joints=joints, root=root, rotations=rotations)

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.joints) / self.fps

    def replace(self, **changes: Any) -> Motion:
        """A copy with some fields changed (`dataclasses.replace`); give `root` too when `joints` move."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class FeatureSet:
    """Feature vectors of a set of clips; only clips that have one.

    Attributes:
        values: (N, F) float64.
        clip_ids: N ids, in the order of the rows.
    """

    values: FloatArray
    clip_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values = _frozen(self.values)
        if values.ndim != 2 or (self.clip_ids and len(self.clip_ids) != len(values)):
            raise ValueError(f"feature set: values {values.shape}, {len(self.clip_ids)} clip ids")
        _set(self, values=values)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Score:
    """One number of a result, with everything needed to trust it.

    Attributes:
        name: Column name, such as ``fid_k``.
        value: The number; NaN when nothing could be scored.
        n: Clips that have a value.
        n_unscored: Clips that have none.
        unit: Unit of the value, ``"1"`` for a pure number.
        better: Which direction is better; ``reference`` means nearer to the ground truth's value.
        protocol_hash: Hash of the resolved protocol.
        reasons: Why clips are unscored: reason -> count.
        notes: Things a reader must know about scored clips, such as ``no motion beats``: note -> count.
    """

    name: str
    value: float
    n: int
    n_unscored: int
    unit: str
    better: Better
    protocol_hash: str
    reasons: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n == 0 and not math.isnan(self.value):
            raise ValueError(f"score {self.name} has a value but no scored clip")
        if sum(self.reasons.values()) != self.n_unscored:
            raise ValueError(f"score {self.name}: {self.n_unscored} unscored, reasons {dict(self.reasons)}")


@dataclass(frozen=True)
class ModelCard:
    """What a reader must know of a model on the board.

    Attributes:
        name: Registered name.
        kind: ``motion`` (music to 3-D motion), ``video`` (music to video), ``calibration`` (a known
            degradation of the ground truth) or ``external`` (finished videos from elsewhere).
        summary: One sentence.
        source: Paper or repository.
        licence: SPDX identifier of code and weights.
    """

    name: str
    kind: Literal["motion", "video", "calibration", "external"]
    summary: str = ""
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Evidence:
    """All that is known of one clip, as a metric sees it. A calibration model edits this and nothing else.

    Attributes:
        clip: The file.
        duration_s: Length of the picture or motion in seconds.
        pose: The pose track at the video's own timestamps, or why there is none.
        music: Beat times under the protocol at hand, or why there are none.
        frames: Results of the frame statistics by name (see `macebench.registry.frame_statistic`),
            or why the picture could not be read.
        motion: The 3-D motion, or why there is none. A calibration model sees it at the file's own frame rate, a
            metric at the protocol's (`macebench.pieces`).
        lacking: Why a frame statistic was not computed at all, by its name: the weights are not on this machine.
        notes: What a reader must know of the file's pictures, such as ``transparency ignored``; counted beside every
            score that rests on them.
        identity: (F,) embedding of the picture that the dancer should look like, by the network of the frame statistic
            ``dino_b16``, or why there is none. Only protocols with ``identity_reference: picture`` look at it.
    """

    clip: Clip
    duration_s: float
    pose: PoseTrack | Missing
    music: Beats | Missing
    frames: Mapping[str, FloatArray] | Missing
    motion: Motion | Missing = Missing("no 3-D motion")
    lacking: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    identity: FloatArray | Missing = Missing("no reference picture")

    def need_pose(self) -> PoseTrack:
        """The pose track. Raises `Unscorable` with the reason when there is none."""
        if isinstance(self.pose, Missing):
            raise Unscorable(self.pose.reason)
        return self.pose

    def need_motion(self) -> Motion:
        """The 3-D motion. Raises `Unscorable` with the reason when there is none."""
        if isinstance(self.motion, Missing):
            raise Unscorable(self.motion.reason)
        return self.motion

    def need_music(self) -> Beats:
        """The music's beats. Raises `Unscorable` with the reason when there are none."""
        if isinstance(self.music, Missing):
            raise Unscorable(self.music.reason)
        return self.music

    def need_identity(self) -> FloatArray:
        """The reference picture's embedding. Raises `Unscorable` with the reason when there is none."""
        if isinstance(self.identity, Missing):
            raise Unscorable(self.identity.reason)
        return self.identity

    def need_frames(self, name: str) -> FloatArray:
        """The frame statistic `name`. Raises `Unscorable` with the reason when there is none."""
        if isinstance(self.frames, Missing):
            raise Unscorable(self.frames.reason)
        if name not in self.frames:
            raise Unscorable(self.lacking.get(name, f"frame statistic {name} not computed"))
        return self.frames[name]

    def replace(self, **changes: Any) -> Evidence:
        """A copy with some fields changed (`dataclasses.replace`)."""
        return dataclasses.replace(self, **changes)


@runtime_checkable
class MotionModel(Protocol):
    """Music to 3-D motion."""

    card: ModelCard

    def generate(self, music: Path, seed: int) -> Motion:
        """Dance to the sound file `music`; the same seed gives the same motion."""
        ...


@runtime_checkable
class VideoModel(Protocol):
    """Music and a picture of the dancer to a video."""

    card: ModelCard

    def generate(self, music: Path, reference_image: Path | None, seed: int) -> Path:
        """Make a video file with sound and return its path; the same seed gives the same video."""
        ...


@runtime_checkable
class Calibration(Protocol):
    """A known change of ground-truth evidence: a row whose place on the board is known beforehand."""

    card: ModelCard

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The changed evidence of clip `index`; all clips are given because music may be swapped."""
        ...


@runtime_checkable
class FrameStatistic(Protocol):
    """Something computed while the frames of one clip stream by; a fresh instance for every clip."""

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) RGB frames and their (B,) presentation timestamps."""
        ...

    def result(self) -> FloatArray:
        """The statistic of the whole clip."""
        ...
