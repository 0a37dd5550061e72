"""Protocols: everything that decides a number, frozen, named, versioned and hashed.

A protocol file says how clips are sampled, which feature variants are used, how sets are normalised
and how beats are found. Before anything is scored it is *resolved*: the pose back end (with its weights'
hash) and the reference set (with its content hash) are written into it. The hash of the resolved protocol
stands in every score; two rows of different hashes are never compared.

So are the weights' hashes and number type of the networks that its frames go through (``frame_statistics``), or, when
VBench's own package computes the dimensions, its version and weights (``vbench_package``). A protocol with a
``frames_grid`` looks at a part of the frames only (`macebench.grid`). One with ``identity_reference: picture`` holds
the dancer against a picture that the user gives (`macebench.identity`), not against the clip's first frame.

Prose fields (title, description, source, known_defects, changes) are not part of the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from macebench.errors import UserError
from macebench.grid import SEPARATOR, GridRule, gridded_name
from macebench.registry import unknown

# Fields that came later: left out of the hash while they are None, so that older protocols keep theirs.
_LATER = {
    "sampling": ("window_frames", "stride_frames", "whole_reference"),
    "beats": ("beyond_end",),
    "": ("contact", "pixels", "frame_statistics", "frames_grid", "vbench_package", "identity_reference"),
}
_PROSE = {"title", "description", "source", "known_defects", "changes"}
HASH_DIGITS = 12
R = TypeVar("R")


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Sampling(_Rules):
    """How a clip becomes a sequence of equal time steps.

    Attributes:
        fps: Frames a second that features are computed at.
        method: ``linear`` interpolates poses between timestamps; ``nearest`` takes the nearest frame.
        max_frames: Only the first so many frames are used; None means all.
        min_frames: A shorter clip is unscored.
        window_frames: Motions are cut into windows of so many frames, each of which counts as a clip; a motion that
            is shorter is one window. None cuts nothing.
        stride_frames: Distance of the windows' starts; None is `window_frames`.
        whole_reference: Whether `max_frames` leaves the reference set alone.
    """

    fps: float = Field(gt=0)
    method: Literal["linear", "nearest"] = "linear"
    max_frames: int | None = Field(default=None, ge=2)
    min_frames: int = Field(default=2, ge=2)
    window_frames: int | None = Field(default=None, ge=2)
    stride_frames: int | None = Field(default=None, ge=1)
    whole_reference: bool | None = None


class PoseRules(_Rules):
    """When a pose track is good enough, and how holes in it are filled.

    Attributes:
        missing: ``interpolate`` fills gaps and refuses bad clips; ``zero`` puts a missing keypoint at
            (0, 0), which is what the released MACE-Dance code does.
        confidence_min: Keypoints below this are missing.
        max_gap_s: Longest hole that is interpolated, in seconds.
        min_joints: A frame with fewer keypoints is bad.
        max_bad_share: A clip with a larger share of bad frames is unscored.
    """

    missing: Literal["interpolate", "zero"] = "interpolate"
    confidence_min: float = Field(default=0.3, ge=0, le=1)
    max_gap_s: float = Field(default=0.5, ge=0)
    min_joints: int = Field(default=12, ge=1)
    max_bad_share: float = Field(default=0.2, ge=0, le=1)


class FeatureRules(_Rules):
    """Variants of the two feature families (see `macebench.metrics.features`) and the frame rate they assume.

    Attributes:
        kinetic: Variant of the kinetic features.
        geometric: Variant of the geometric features.
        assumed_fps: Frame rate that the code assumes when it differs from the true one (published defects);
            None means the true one.
    """

    kinetic: str
    geometric: str
    assumed_fps: float | None = Field(default=None, gt=0)


class Normaliser(_Rules):
    """How features are standardised before FID and DIV.

    Attributes:
        mode: ``reference`` uses the reference set's mean and deviation for both sets, ``self`` each set's
            own, ``none`` leaves the features alone.
        eps: Added to the deviation.
        ddof: Delta degrees of freedom of the deviation.
        drop_below: Features whose deviation in the reference is at most this are dropped and counted.
    """

    mode: Literal["reference", "self", "none"] = "reference"
    eps: float = Field(default=1e-4, ge=0)
    ddof: Literal[0, 1] = 0
    drop_below: float | None = Field(default=1e-6, ge=0)


class BeatRules(_Rules):
    """How beats are found and compared.

    Attributes:
        music_variant: Beat tracker (see `macebench.metrics.beats.music_beats`).
        music_sample_rate: Hz that the sound is resampled to.
        motion_variant: Motion beat finder (see `macebench.metrics.beats.motion_beats`).
        smoothing_s: Standard deviation of the Gaussian on the speed curve, in seconds.
        sigma_s: Width of the score's kernel, in seconds.
        direction: Which beats are averaged over.
        null: The circular-shift null and the corrected score are always reported; kept in the hash.
        quantise_fps: Frame rate that beat times are cut down to (published code); None means exact times.
        beyond_end: ``keep`` counts music beats after the motion's end as misses (published code of LODGE); None
            leaves them out.
    """

    music_variant: str = "librosa"
    music_sample_rate: int = Field(default=22050, gt=0)
    motion_variant: str = "fixed"
    smoothing_s: float = Field(gt=0)
    sigma_s: float = Field(gt=0)
    direction: Literal["music_to_motion", "motion_to_music"] = "music_to_motion"
    null: Literal[True] = True
    quantise_fps: float | None = Field(default=None, gt=0)
    beyond_end: Literal["keep"] | None = None


class ContactRules(_Rules):
    """Variants of the foot scores (see `macebench.metrics.contact`).

    Attributes:
        skating: Variant of the foot skating ratio.
        pfc: Variant of the physical foot contact score.
    """

    skating: str
    pfc: str


Alignment = Literal["crop-time", "nearest-time", "resize"]


class PixelRules(_Rules):
    """How frames are compared with the reference's frames (see `macebench.pairs` and `macebench.metrics.pixels`).

    Attributes:
        align: What may be done to a pair of videos that differ in size, length or frame times; empty refuses them.
        ssim: Variant of SSIM.
        psnr_cap_db: Largest PSNR of a frame, and that of a frame equal to the reference's.
        lpips_input: Range that pixels are brought to before LPIPS. The networks were trained on ``-1..1``; ``0..1`` is
            what DisCo's published code feeds.
        fvd_frames: Frames of one clip of the Fréchet video distance.
        fvd_features: Numbers that its extractor makes of one clip.
        weights: SHA-256 of each weights file, by its name in the weights table.
    """

    align: tuple[Alignment, ...] = ()
    ssim: Literal["grey-uniform7", "rgb-uniform7", "gaussian", "torchmetrics"]
    psnr_cap_db: float = Field(default=100.0, gt=0)
    lpips_input: Literal["-1..1", "0..1"] = "-1..1"
    fvd_frames: Literal[16] = 16
    fvd_features: int = Field(default=400, ge=1)
    weights: dict[str, str] = Field(default_factory=dict)

    @field_validator("align")
    @classmethod
    def _in_order(cls, value: tuple[Alignment, ...]) -> tuple[Alignment, ...]:
        return tuple(sorted(set(value)))


class PoseBackend(_Rules):
    """The pose back end of a resolved protocol.

    Attributes:
        name: Registered name.
        model: Which model and size.
        weights_sha256: Hash over the weights files, or of the precomputed files' format.
        input_size: (width, height) of the network's input in pixels.
        settings: Thresholds and the like.
    """

    name: str
    model: str
    weights_sha256: str
    input_size: tuple[int, int]
    settings: dict[str, float | int | str | bool] = Field(default_factory=dict)


GriddedStatistic = Literal["musiq", "clip_l14", "clip_b32", "dino_b16", "amt_s"]
Grid = dict[GriddedStatistic, GridRule]
_RECORDS = {
    "musiq": (1, False), "clip_l14": (1, False), "clip_b32": (2, True), "dino_b16": (2, True), "amt_s": (3, False),
}  # fmt: skip
VBENCH = "vbench"
"""The frame statistic that stands for VBench's own package."""
BY_VBENCH = ("musiq", "clip_l14", "clip_b32", "dino_b16", "amt_s")
"""Frame statistics whose place VBench's own package takes."""


PICTURE: Literal["picture"] = "picture"
"""Value of `Protocol.identity_reference`: the dancer is held against a given picture."""


class VbenchPackage(_Rules):
    """VBench's own package in an interpreter of its own, in a resolved protocol.

    Attributes:
        version: Of the package.
        torch: Version of torch there.
        device: ``cpu`` or ``cuda``: on a GPU the package's motion smoothness depends on its memory.
        weights: SHA-256 by file below the package's cache folder; of those that are there.
    """

    version: str
    torch: str
    device: Literal["cpu", "cuda"]
    weights: dict[str, str]

    @property
    def suffix(self) -> str:
        """First digits of the SHA-256 over all fields."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()[:HASH_DIGITS]


class Reference(_Rules):
    """The reference set of a resolved protocol.

    Attributes:
        name: Folder or data set name; for people, not hashed.
        sha256: Hash over the sorted hashes of its files.
        n: Number of clips.
    """

    name: str
    sha256: str
    n: int


class Protocol(_Rules):
    """A named, versioned recipe. See the module's docstring."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: int = Field(ge=1)
    title: str
    description: str
    source: str
    known_defects: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    track: Literal["video-2d", "motion-3d", "animation", "appearance"]
    skeleton: str
    sampling: Sampling
    pose: PoseRules | None = None
    features: FeatureRules | None = None
    normaliser: Normaliser | None = None
    beats: BeatRules | None = None
    contact: ContactRules | None = None
    pixels: PixelRules | None = None
    metrics: tuple[str, ...]
    pose_backend: PoseBackend | None = None
    reference: Reference | None = None
    frame_statistics: dict[str, dict[str, Any]] | None = None
    frames_grid: Grid | None = None
    vbench_package: VbenchPackage | None = None
    identity_reference: Literal["picture"] | None = None

    @field_validator("frames_grid")
    @classmethod
    def _fitting_records(
        cls, value: dict[GriddedStatistic, GridRule] | None
    ) -> dict[GriddedStatistic, GridRule] | None:
        for name, rule in (value or {}).items():
            if (rule.frames, rule.first) != _RECORDS[name]:
                frames, first = _RECORDS[name]
                raise ValueError(f"{name} needs frames: {frames}" + (", first: true" if first else ""))
        return value

    @property
    def id(self) -> str:
        """``name/version``."""
        return f"{self.name}/{self.version}"

    @property
    def hash(self) -> str:
        """First digits of the SHA-256 over everything that decides a number."""
        return hashlib.sha256(canonical_json(self.hashed_fields()).encode()).hexdigest()[:HASH_DIGITS]

    def hashed_fields(self) -> dict[str, Any]:
        """The fields that decide a number, as plain JSON values."""
        fields = self.model_dump(mode="json", exclude=_PROSE)
        if fields["reference"] is not None:
            del fields["reference"]["name"]
        for section, names in _LATER.items():
            holder = fields[section] if section else fields
            for name in names if holder is not None else ():
                if holder[name] is None:
                    del holder[name]
        return fields

    def resolve(
        self,
        pose_backend: PoseBackend | None,
        reference: Reference | None,
        frame_statistics: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Protocol:
        """This protocol with the back end, the reference set and the networks of its frames written into it."""
        networks = {name: dict(values) for name, values in (frame_statistics or {}).items()} or None
        update = {"pose_backend": pose_backend, "reference": reference, "frame_statistics": networks}
        return self.model_copy(update=update)

    def seen(self, name: str) -> str:
        """What takes the place of the frame statistic `name` under this protocol: a gridded one, or itself."""
        if self.vbench_package is not None and name in BY_VBENCH:
            return VBENCH + SEPARATOR + self.vbench_package.suffix
        rule = (self.frames_grid or {}).get(name)  # type: ignore[call-overload]
        return name if rule is None else gridded_name(name, rule)

    def differences(self, other: Protocol) -> list[str]:
        """What makes the hashes differ: ``path: mine != theirs`` a line; empty when they agree."""
        mine, theirs = dict(_flat(self.hashed_fields())), dict(_flat(other.hashed_fields()))
        paths = sorted(mine.keys() | theirs.keys())
        return [
            f"{path}: {mine.get(path, 'absent')} != {theirs.get(path, 'absent')}"
            for path in paths
            if mine.get(path, "absent") != theirs.get(path, "absent")
        ]

    def need_beats(self) -> BeatRules:
        """The beat rules; a `UserError` when this protocol has none."""
        return _need(self.beats, self.id, "beats")

    def need_features(self) -> FeatureRules:
        """The feature rules; a `UserError` when this protocol has none."""
        return _need(self.features, self.id, "features")

    def need_normaliser(self) -> Normaliser:
        """The normaliser; a `UserError` when this protocol has none."""
        return _need(self.normaliser, self.id, "normaliser")

    def need_contact(self) -> ContactRules:
        """The foot contact rules; a `UserError` when this protocol has none."""
        return _need(self.contact, self.id, "contact")

    def need_pixels(self) -> PixelRules:
        """The rules of paired frames; a `UserError` when this protocol has none."""
        return _need(self.pixels, self.id, "pixels")

    def need_pose(self) -> PoseRules:
        """The pose rules; a `UserError` when this protocol has none."""
        return _need(self.pose, self.id, "pose")


def _need(rules: R | None, protocol_id: str, section: str) -> R:
    if rules is None:
        raise UserError(
            f"protocol {protocol_id} has no section {section!r}, which a requested metric needs.",
            hint=f"`macebench protocol show {protocol_id}` prints it; choose another protocol or metric.",
        )
    return rules


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key in value:
            yield from _flat(value[key], f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def protocol_ids() -> list[str]:
    """Ids of the built-in protocols, sorted."""
    files = resources.files("macebench.protocols").iterdir()
    stems = sorted(item.name.removesuffix(".yaml") for item in files if item.name.endswith(".yaml"))
    return ["/".join(stem.rsplit("-", 1)) for stem in stems]


def load_protocol(name: str) -> Protocol:
    """A built-in protocol by id (``ma2d-fixed/1``; without a version the newest), or one from a YAML file.

    Raises:
        UserError: unknown id, or a file that is no protocol; names the field.
    """
    if name.endswith((".yaml", ".yml")):
        return _from_file(Path(name))
    known = protocol_ids()
    versions = [item for item in known if item.split("/")[0] == name]
    wanted = max(versions, key=lambda item: int(item.split("/")[1])) if versions else name
    if wanted not in known:
        raise unknown("protocol", name, known, "macebench ls protocols")
    text = resources.files("macebench.protocols").joinpath(wanted.replace("/", "-") + ".yaml").read_text("utf-8")
    return parse_protocol(text, wanted)


def _from_file(path: Path) -> Protocol:
    if not path.is_file():
        raise UserError(
            f"protocol file {path} does not exist.", hint="`macebench ls protocols` lists the built-in ones."
        )
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"protocol file {path} cannot be read: {error}.") from error
    protocol = parse_protocol(text, str(path))
    if protocol.id in protocol_ids() and load_protocol(protocol.id).hash != protocol.hash:
        raise UserError(
            f"protocol file {path} has the name of the built-in {protocol.id} but other values.",
            hint="Give it a name or version of its own.",
        )
    return protocol


def parse_protocol(text: str, where: str) -> Protocol:
    """A protocol from YAML text; errors name `where` and the field."""
    hint = "`macebench protocol show ma2d-fixed/1` prints a valid one."
    try:
        return Protocol.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise UserError(f"protocol {where} is not YAML: {error}", hint=hint) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"protocol {where}: {field}: {first['msg']} (got {first['input']!r}).", hint=hint) from error
