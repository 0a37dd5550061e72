"""What an evaluation needs to know before anything is computed: names, files, protocols, checks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from macebench import registry
from macebench.clips import REFERENCE_SPLIT, ClipSet, Kind, load_set, parse_spec, set_hash
from macebench.engine import EngineName
from macebench.errors import UserError, WeightsMissingError
from macebench.evidence import ClipKey, clip_key
from macebench.extract import ClipPlan, lacking_weights, missing_pose, own_ingredients
from macebench.identity import Pictures, find_pictures, with_pictures
from macebench.protocol import BY_VBENCH, PoseBackend, Protocol, Reference, load_protocol
from macebench.registry import Metric
from macebench.scoring import needed
from macebench.store import Store
from macebench.types import Clip, ModelCard

EXTERNAL = "external"
UNKNOWN = "unknown"
MOTION_TRACK = "motion-3d"
APPEARANCE_TRACK = "appearance"
_NETWORK_VARIABLES = ("MACEBENCH_DEVICE", "MACEBENCH_DTYPE", "MACEBENCH_BATCH", "MACEBENCH_WEIGHTS")
COUNTED = "frame_difference"
"""Frame statistic that has a value for each frame pair: VBench's own count is checked against it."""
COMPANIONS = {"video-2d": ("activity_2d",), MOTION_TRACK: ("activity_3d",)}
"""Scored beside every protocol of a track: what tells a calm dance from no dance."""


@dataclass(frozen=True)
class EvalConfig:
    """One evaluation.

    Attributes:
        reference: Folder of the reference set, or ``DIR:SPLIT`` of a data set.
        out: Run folder to write.
        videos: Folder of generated videos; None when `motions` are scored, or when `model` is a calibration model,
            which acts on the other half of the reference data set.
        motions: Folder of generated 3-D motions, or ``DIR:SPLIT`` of a data set. Then the reference set's motions
            are taken, too, as they are when all protocols score motions.
        motion_fps: Frame rate of motion files that do not say theirs.
        training: What the model was trained on, as `reference`: finds clips that are copies of it.
        model: Name of the row.
        protocols: Ids or YAML files.
        metrics: Registered metrics scored besides those of the protocols.
        calibrate: Calibration models scored on the evaluated clips, each as a row of its own.
        pose: Registered pose back end.
        pose_settings: Its settings.
        music: Folder of sound files by stem.
        limit: Only the first so many clips of the evaluated and of the reference set; the training set stays whole.
        workers: Worker processes for decoding and pose.
        engine: ``local`` or ``ray``.
        store: Folder of the store; None is the user's.
        plugins: Python files that register more.
        only: Ids of the evaluated clips; None means all.
        only_reference: Ids of the reference clips; None means all.
        vbench_python: Interpreter that has VBench's own package, which then computes its dimensions.
        identity: Picture of the dancer, or a folder with one by clip id (`macebench.identity`); None takes the first
            frame of each clip.
    """

    reference: str
    out: Path
    videos: Path | None = None
    motions: str | None = None
    motion_fps: float | None = None
    training: str | None = None
    model: str = EXTERNAL
    protocols: tuple[str, ...] = ("ma2d-fixed/1",)
    metrics: tuple[str, ...] = ()
    calibrate: tuple[str, ...] = ()
    pose: str = "blazepose"
    pose_settings: Mapping[str, Any] = field(default_factory=dict)
    music: Path | None = None
    limit: int | None = None
    workers: int = 1
    engine: EngineName = "local"
    store: Path | None = None
    plugins: tuple[Path, ...] = ()
    only: frozenset[str] | None = None
    only_reference: frozenset[str] | None = None
    vbench_python: Path | None = None
    identity: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """An `EvalConfig` with everything looked up: nothing is decoded yet."""

    config: EvalConfig
    generated: ClipSet
    reference: ClipSet
    training: ClipSet | None
    protocols: tuple[Protocol, ...]
    metrics: Mapping[str, tuple[Metric, ...]]
    plan: ClipPlan
    backend: PoseBackend | None
    store: Store
    pictures: Pictures | None = None

    @property
    def clips(self) -> list[Clip]:
        """All different clips (by name, content and music)."""
        unique: dict[ClipKey, Clip] = {}
        known = self.training.clips if self.training is not None else ()
        for clip in (*self.generated.clips, *self.reference.clips, *known):
            unique.setdefault(clip_key(clip), clip)
        return list(unique.values())

    @property
    def needs_music(self) -> bool:
        """Whether any metric compares with music."""
        return any("music" in needed(metrics)[1] for metrics in self.metrics.values())


def prepare(config: EvalConfig) -> Prepared:
    """Look up every name and file of `config`.

    Raises:
        UserError: an unknown name, a missing folder, a wrong value.
    """
    for path in config.plugins:
        registry.load_plugin(path)
    _check(config)
    protocols = tuple({protocol.hash: protocol for protocol in map(load_protocol, config.protocols)}.values())
    protocols = with_package(config, protocols)
    chosen = [_metrics(protocol, config.metrics) for protocol in protocols]
    protocols = with_pictures(config.identity, protocols, chosen)
    needs = set().union(*(needed(metrics)[1] for metrics in chosen))
    statistics = _seen(protocols, chosen)
    lacking = lacking_weights(statistics)
    backend, pose_missing = _backend(config, chosen) if "pose" in needs else (None, "")
    kind = _kind(config, protocols, needs)
    sound = config.music if kind == "motion" else None
    reference = load_set(
        config.reference, kind=kind, music=sound, default_split=REFERENCE_SPLIT, limit=config.limit,
        only=config.only_reference,
    )  # fmt: skip
    generated = _generated(config, kind)
    training = load_set(config.training, kind=kind, music=sound) if config.training is not None else None
    described = Reference(name=reference.name, sha256=set_hash(reference.clips), n=len(reference.clips))
    resolved = tuple(
        protocol.resolve(backend, described, _networks(protocol, metrics))
        for protocol, metrics in zip(protocols, chosen, strict=True)
    )
    metrics = {protocol.hash: items for protocol, items in zip(resolved, chosen, strict=True)}
    store = Store(config.store)
    _check_sets(config, generated, reference)
    pictures = find_pictures(config.identity, generated.clips, reference.clips) if config.identity else None
    plan = ClipPlan(
        store=store.root,
        pose=config.pose if backend is not None and not pose_missing else None,
        pose_missing=pose_missing,
        pose_settings=dict(config.pose_settings),
        statistics=tuple(name for name in statistics if name not in lacking),
        plugins=config.plugins,
        threads=max(1, (os.cpu_count() or 1) // max(1, config.workers)),
        motion=kind == "motion",
        motion_fps=config.motion_fps,
        lacking=lacking,
        networks=network_variables(),
    )
    return Prepared(config, generated, reference, training, resolved, metrics, plan, backend, store, pictures)


def with_package(config: EvalConfig, protocols: tuple[Protocol, ...]) -> tuple[Protocol, ...]:
    """The protocols with VBench's own package written into them, when its interpreter is named.

    Raises:
        UserError: a protocol that it cannot compute, or an interpreter without it.
    """
    if config.vbench_python is None:
        return protocols
    from macebench.models.appearance.vbench_package import describe

    wrong = [item.id for item in protocols if item.track != APPEARANCE_TRACK or item.frames_grid is not None]
    if wrong:
        raise UserError(
            f"VBench's own package cannot compute {', '.join(wrong)}.",
            hint="--vbench-python goes with --protocol vbench6/1 or vbench6-fixed/1.",
        )
    package = describe(config.vbench_python)
    return tuple(item.model_copy(update={"vbench_package": package}) for item in protocols)


def _check(config: EvalConfig) -> None:
    """Refuse wrong values before anything is read."""
    if config.limit is not None and config.limit < 1:
        raise UserError(f"--limit is {config.limit}; it must be 1 or more.")
    if config.workers < 1:
        raise UserError(f"--workers is {config.workers}; it must be 1 or more.")
    if config.motion_fps is not None and not config.motion_fps > 0:
        raise UserError(f"--motion-fps is {config.motion_fps}; it must be above 0.")
    if config.videos is not None and config.motions is not None:
        raise UserError("--videos and --motions were both given.", hint="Score them one after the other.")
    given = config.videos is not None or config.motions is not None
    known = config.model in registry.names("models")
    if given and known and model_card(config.model).kind == "calibration":
        raise UserError(
            f"{config.model!r} is a calibration model; it cannot be the name of your own row.",
            hint="Choose another --model name; --calibrate adds the calibration rows.",
        )
    if not given and not known and config.model != EXTERNAL:
        raise registry.unknown("model", config.model, registry.names("models"), "macebench ls models")


def _check_sets(config: EvalConfig, generated: ClipSet, reference: ClipSet) -> None:
    """Refuse music that matches nothing, and poses by name when one name means two videos."""
    if config.music is not None and not any(clip.music for clip in generated.clips):
        raise UserError(
            f"no sound file in {config.music} has the name of one of the {len(generated.clips)} clips.",
            hint=f"It must be called like the clip, for example {generated.clips[0].clip_id}.wav.",
        )
    if config.pose == "precomputed":
        hashes = {clip.clip_id: clip.sha256 for clip in reference.clips}
        for clip in generated.clips:
            if hashes.get(clip.clip_id, clip.sha256) != clip.sha256:
                raise UserError(
                    f"clip {clip.clip_id!r} is in both sets with different videos, but poses are found by name.",
                    hint="Rename one of the two videos and its pose file.",
                )


def _kind(config: EvalConfig, protocols: Sequence[Protocol], needs: set[str]) -> Kind:
    """Whether videos or motions are scored.

    Raises:
        UserError: the protocols, or a metric, want the other.
    """
    in_space = [protocol.track == MOTION_TRACK for protocol in protocols]
    kind: Kind = "motion" if config.motions is not None or (config.videos is None and all(in_space)) else "video"
    wrong = [item.id for item, space in zip(protocols, in_space, strict=True) if space != (kind == "motion")]
    if wrong:
        raise UserError(
            f"{', '.join(wrong)} cannot score {kind}s.",
            hint="`macebench ls protocols` lists them with what they score; score videos and motions in two runs.",
        )
    foreign = sorted(need for need in needs if (need == "motion") != (kind == "motion") and need != "music")
    if foreign:
        raise UserError(f"a metric needs {', '.join(foreign)}, which a {kind} does not have.",
                        hint="`macebench ls metrics` says what each metric needs.")  # fmt: skip
    return kind


def _metrics(protocol: Protocol, extra: Sequence[str]) -> tuple[Metric, ...]:
    """The protocol's metrics, those asked for, and the companions that need nothing more than these do."""
    chosen = [registry.get_metric(name) for name in dict.fromkeys((*protocol.metrics, *extra))]
    needs = needed(chosen)[1]
    beside = (registry.get_metric(name) for name in COMPANIONS.get(protocol.track, ()))
    return (*chosen, *(metric for metric in beside if metric not in chosen and metric.needs <= needs))


def _statistics(needs: set[str]) -> tuple[str, ...]:
    """Names of the frame statistics among `needs`."""
    return tuple(sorted(name.partition(":")[2] for name in needs if name.startswith("frames:")))


def _seen(protocols: Sequence[Protocol], chosen: Sequence[Sequence[Metric]]) -> tuple[str, ...]:
    """The frame statistics of all protocols: whole, gridded, or by VBench's own package."""
    found = set()
    for protocol, metrics in zip(protocols, chosen, strict=True):
        found |= {protocol.seen(name) for name in _statistics(needed(metrics)[1])}
        found |= {COUNTED} if protocol.vbench_package is not None else set()
    return tuple(sorted(found))


def _networks(protocol: Protocol, metrics: Sequence[Metric]) -> dict[str, dict[str, Any]]:
    """What the frame statistics of a protocol depend on beside the frames. A hash that nobody knows yet is ``unknown``:
    rows that were made without those weights stay apart from rows that were made with them.
    """
    found = {}
    for name in _statistics(needed(metrics)[1]):
        if protocol.vbench_package is not None and name in BY_VBENCH:
            continue
        try:
            found[name] = own_ingredients(name)
        except WeightsMissingError:
            found[name] = {"weights_sha256": UNKNOWN}
    return {name: values for name, values in found.items() if values}


def network_variables() -> dict[str, str]:
    """The environment variables that say where and how networks run and where their weights lie; for workers."""
    return {name: os.environ[name] for name in _NETWORK_VARIABLES if name in os.environ}


def _backend(config: EvalConfig, chosen: Iterable[Sequence[Metric]]) -> tuple[PoseBackend, str]:
    """The pose back end as the protocol's hash has it, and why it cannot run, if its weights are missing.

    Where most metrics need a pose hardly anything could be scored, after hours perhaps: then missing weights stay an
    error of extraction.
    """
    from macebench.models.pose import make_estimator

    estimator = make_estimator(config.pose, **config.pose_settings)
    wanted = ["pose" in needed([metric])[1] for metrics in chosen for metric in metrics]
    missing = "" if 2 * sum(wanted) > len(wanted) else missing_pose(estimator)
    try:
        return estimator.describe(), missing
    except WeightsMissingError:
        if not missing:
            raise
        return PoseBackend(name=config.pose, model=UNKNOWN, weights_sha256=UNKNOWN, input_size=(0, 0)), missing


def _generated(config: EvalConfig, kind: Kind) -> ClipSet:
    given = config.motions if kind == "motion" else config.videos
    if given is not None:
        return load_set(str(given), kind=kind, music=config.music, limit=config.limit, only=config.only)
    if config.model not in registry.names("models"):
        raise UserError("nothing to score: no --videos and no --motions were given.",
                        hint="Give one of them, or --model with a name of `macebench ls models`.")  # fmt: skip
    folder, split = parse_spec(config.reference)
    other = split or REFERENCE_SPLIT
    return load_set(folder, kind=kind, music=config.music, other_than=other, limit=config.limit)


def model_card(name: str) -> ModelCard:
    """The card of a row: the registered model's, or one that says the videos were made elsewhere.

    Raises:
        UserError: a registered model has no card.
    """
    if name not in registry.names("models"):
        return ModelCard(name, "external", "Videos made elsewhere.")
    card = getattr(registry.get("models", name), "card", None)
    if not isinstance(card, ModelCard):
        raise UserError(f"model {name!r} has no card.", hint="Give its class `card = ModelCard(name, kind, summary)`.")
    return card
