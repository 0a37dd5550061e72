"""The evaluation loop: clips in, a run folder out.

`evaluate` extracts what the store lacks (poses, frame statistics, beats), scores every clip under every
protocol, aggregates, and writes the run folder. Each step is a function of files and frozen values, so a
run that was killed goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import importlib
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar
from typing import Protocol as TypingProtocol

import macebench
from macebench import registry
from macebench.clips import REFERENCE_SPLIT, ClipSet, load_set, parse_spec, set_hash
from macebench.engine import Crashed, EngineName, Work, run_jobs
from macebench.errors import UserError
from macebench.extract import (
    ClipArtifacts,
    ClipPlan,
    Outcome,
    SoundJob,
    beat_ingredients,
    clip_ingredients,
    extract_beats,
    extract_clip,
    failure_ingredients,
    load_beats,
    load_clip,
    setup_clip_worker,
    setup_sound_worker,
    sound_jobs,
    sound_of,
)
from macebench.protocol import PoseBackend, Protocol, Reference, load_protocol
from macebench.registry import Metric
from macebench.results import ModelRecord
from macebench.scoring import needed, score_clip
from macebench.store import Store
from macebench.tables import ClipRow
from macebench.types import Beats, Clip, Evidence, Missing, ModelCard

T = TypeVar("T")
ClipKey = tuple[str, str, str]
REFERENCE_MODEL = "reference"
EXTERNAL = "external"
_VERSIONS_OF = ("numpy", "scipy", "librosa", "av", "opencv-python-headless", "ai-edge-litert", "transformers")


def clip_key(clip: Clip) -> ClipKey:
    """What tells two clips of a run apart: name, content and music."""
    return clip.clip_id, clip.sha256, clip.music_sha256


class Progress(TypingProtocol):
    """Called after every finished piece of work."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """`done` of `total` pieces of `phase` are finished."""
        ...


def silent(phase: str, done: int, total: int) -> None:
    """A `Progress` that says nothing."""


@dataclass(frozen=True)
class EvalConfig:
    """One evaluation.

    Attributes:
        reference: Folder of the reference set, or ``DIR:SPLIT`` of a data set.
        out: Run folder to write.
        videos: Folder of generated videos; None when `model` is a calibration model, which acts on the other
            half of the reference data set.
        model: Name of the row.
        protocols: Ids or YAML files.
        metrics: Registered metrics scored besides those of the protocols.
        calibrate: Calibration models scored on the evaluated clips, each as a row of its own.
        pose: Registered pose back end.
        pose_settings: Its settings.
        music: Folder of sound files by stem.
        limit: Only the first so many clips of each set.
        workers: Worker processes for decoding and pose.
        engine: ``local`` or ``ray``.
        store: Folder of the store; None is the user's.
        plugins: Python files that register more.
        only: Ids of the evaluated clips; None means all.
    """

    reference: str
    out: Path
    videos: Path | None = None
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


@dataclass(frozen=True)
class Prepared:
    """An `EvalConfig` with everything looked up: nothing is decoded yet."""

    config: EvalConfig
    generated: ClipSet
    reference: ClipSet
    protocols: tuple[Protocol, ...]
    metrics: Mapping[str, tuple[Metric, ...]]
    plan: ClipPlan
    backend: PoseBackend | None
    store: Store

    @property
    def clips(self) -> list[Clip]:
        """All different clips (by name, content and music)."""
        unique: dict[ClipKey, Clip] = {}
        for clip in (*self.generated.clips, *self.reference.clips):
            unique.setdefault(clip_key(clip), clip)
        return list(unique.values())

    @property
    def needs_music(self) -> bool:
        """Whether any metric compares with music."""
        return any("music" in needed(metrics)[1] for metrics in self.metrics.values())


@dataclass(frozen=True)
class RunPlan:
    """What an evaluation would do.

    Attributes:
        n_generated: Clips of the evaluated set.
        n_reference: Clips of the reference set.
        n_to_extract: Clips that are not in the store.
        n_sounds: Sounds whose beats are not in the store.
        seconds: Estimated time from earlier clips with this back end, or None when there are none.
    """

    n_generated: int
    n_reference: int
    n_to_extract: int
    n_sounds: int
    seconds: float | None


def prepare(config: EvalConfig) -> Prepared:
    """Look up every name and file of `config`.

    Raises:
        UserError: an unknown name, a missing folder, a wrong value.
    """
    for path in config.plugins:
        registry.load_plugin(path)
    _check(config)
    protocols = tuple({protocol.hash: protocol for protocol in map(load_protocol, config.protocols)}.values())
    chosen = [_metrics(protocol, config.metrics) for protocol in protocols]
    needs = set().union(*(needed(metrics)[1] for metrics in chosen))
    statistics = tuple(sorted(name.partition(":")[2] for name in needs if name.startswith("frames:")))
    backend = _backend(config) if "pose" in needs else None
    reference = load_set(config.reference, default_split=REFERENCE_SPLIT, limit=config.limit)
    generated = _generated(config)
    described = Reference(name=reference.name, sha256=set_hash(reference.clips), n=len(reference.clips))
    resolved = tuple(protocol.resolve(backend, described) for protocol in protocols)
    metrics = {protocol.hash: items for protocol, items in zip(resolved, chosen, strict=True)}
    store = Store(config.store)
    _check_sets(config, generated, reference)
    plan = ClipPlan(
        store=store.root,
        pose=config.pose if backend is not None else None,
        pose_settings=dict(config.pose_settings),
        statistics=statistics,
        plugins=config.plugins,
        threads=max(1, (os.cpu_count() or 1) // max(1, config.workers)),
    )
    return Prepared(config, generated, reference, resolved, metrics, plan, backend, store)


def _check(config: EvalConfig) -> None:
    """Refuse wrong values before anything is read."""
    if config.limit is not None and config.limit < 1:
        raise UserError(f"--limit is {config.limit}; it must be 1 or more.")
    if config.workers < 1:
        raise UserError(f"--workers is {config.workers}; it must be 1 or more.")
    known = config.model in registry.names("models")
    if config.videos is not None and known and model_card(config.model).kind == "calibration":
        raise UserError(
            f"{config.model!r} is a calibration model; it cannot be the name of your videos' row.",
            hint="Choose another --model name; --calibrate adds the calibration rows.",
        )
    if config.videos is None and not known and config.model != EXTERNAL:
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


def _metrics(protocol: Protocol, extra: Sequence[str]) -> tuple[Metric, ...]:
    names = dict.fromkeys((*protocol.metrics, *extra))
    return tuple(registry.get_metric(name) for name in names)


def _backend(config: EvalConfig) -> PoseBackend:
    from macebench.models.pose import make_estimator

    return make_estimator(config.pose, **config.pose_settings).describe()


def _generated(config: EvalConfig) -> ClipSet:
    if config.videos is not None:
        return load_set(str(config.videos), music=config.music, limit=config.limit, only=config.only)
    if config.model not in registry.names("models"):
        raise UserError("nothing to score: no --videos were given.",
                        hint="Give --videos DIR, or --model with a name of `macebench ls models`.")  # fmt: skip
    folder, split = parse_spec(config.reference)
    return load_set(folder, music=config.music, other_than=split or REFERENCE_SPLIT, limit=config.limit)


def plan_run(prepared: Prepared) -> RunPlan:
    """What `evaluate` would do; reads only the store."""
    missing = [clip for clip in prepared.clips if clip.sha256 and not _extracted(prepared, clip)]
    name = prepared.backend.name if prepared.backend is not None else None
    metas = [meta for meta in prepared.store.metas("pose") if meta.get("backend") == name]
    costs = sorted(float(meta["seconds"]) for meta in metas if "seconds" in meta)
    seconds = costs[len(costs) // 2] * len(missing) / prepared.config.workers if costs else None
    return RunPlan(
        len(prepared.generated.clips), len(prepared.reference.clips), len(missing),
        len(_sounds_to_do(prepared)), 0.0 if not missing else seconds,
    )  # fmt: skip


def _extracted(prepared: Prepared, clip: Clip) -> bool:
    wanted = clip_ingredients(clip, prepared.plan, prepared.backend)
    return prepared.store.has(failure_ingredients(clip)) or all(prepared.store.has(item) for item in wanted)


def _sounds_to_do(prepared: Prepared) -> list[SoundJob]:
    if not prepared.needs_music:
        return []
    rules = [protocol.beats for protocol in prepared.protocols if protocol.beats is not None]
    jobs = sound_jobs(prepared.clips, rules)
    return [job for job in jobs if not prepared.store.has(beat_ingredients(job.sha256, job.rules))]


@dataclass(frozen=True)
class Extracted:
    """Outcomes of extraction by clip and by sound; empty for what was in the store already."""

    clips: Mapping[ClipKey, Outcome]
    sounds: Mapping[str, Outcome]


def extract(prepared: Prepared, progress: Progress = silent) -> Extracted:
    """Compute what the store lacks. A clip that fails has an `Outcome` with a reason."""
    from concurrent.futures import ThreadPoolExecutor

    clips = [clip for clip in prepared.clips if clip.sha256 and not _extracted(prepared, clip)]
    sounds = [job for job in _sounds_to_do(prepared) if job.sha256]
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=2) as beside:
        heard = beside.submit(_run_sounds, prepared, sounds, stop)
        beside.submit(_import_early)
        try:
            seen = _run_clips(prepared, clips, progress)
            return Extracted(seen, heard.result())
        finally:
            stop.set()


def _import_early() -> None:
    """Load what scoring needs while the workers are busy."""
    for name in ("pandas", "pyarrow.parquet", "scipy.ndimage", "scipy.signal", "scipy.linalg"):
        importlib.import_module(name)


def _run_clips(prepared: Prepared, clips: Sequence[Clip], progress: Progress) -> dict[ClipKey, Outcome]:
    config = prepared.config
    work = Work(extract_clip, setup_clip_worker, (prepared.plan,))
    outcomes: dict[ClipKey, Outcome] = {}
    total, ready = len(prepared.clips), len(prepared.clips) - len(clips)
    progress("poses", ready, total)
    for index, result in run_jobs(work, clips, workers=config.workers, engine=config.engine):
        clip = clips[index]
        outcomes[clip_key(clip)] = _outcome(result)
        progress("poses", ready + len(outcomes), total)
    return outcomes


def _run_sounds(prepared: Prepared, jobs: Sequence[SoundJob], stop: threading.Event) -> dict[str, Outcome]:
    if not jobs:
        return {}
    work = Work(extract_beats, setup_sound_worker, (prepared.store.root,))
    results = run_jobs(work, jobs, workers=1, stop=stop)
    return {beat_ingredients(jobs[i].sha256, jobs[i].rules).key: _outcome(result) for i, result in results}


def _outcome(result: Outcome | Crashed) -> Outcome:
    return Outcome(result.reason) if isinstance(result, Crashed) else result


def evidence_of(
    prepared: Prepared, clips: Sequence[Clip], protocol: Protocol, extracted: Extracted
) -> tuple[Evidence, ...]:
    """Everything known of `clips` under `protocol`, in their order."""
    return tuple(_evidence(prepared, clip, protocol, extracted) for clip in clips)


def _evidence(prepared: Prepared, clip: Clip, protocol: Protocol, extracted: Extracted) -> Evidence:
    found = load_clip(prepared.store, clip, prepared.plan, prepared.backend) if clip.sha256 else None
    if found is None:
        lasting = prepared.store.get(failure_ingredients(clip))
        outcome = extracted.clips.get(clip_key(clip))
        given = str(lasting.meta["reason"]) if lasting else outcome.reason if outcome else None
        reason = given or ("not computed" if clip.sha256 else "file not found")
        found = ClipArtifacts(0.0, Missing(reason), Missing(reason))
    music = _music(prepared, clip, protocol, extracted)
    return Evidence(clip, found.duration_s, found.pose, music, found.frames)


def _music(prepared: Prepared, clip: Clip, protocol: Protocol, extracted: Extracted) -> Beats | Missing:
    if protocol.beats is None or not prepared.needs_music:
        return Missing("not computed")
    sha256 = sound_of(clip)[1]
    if not sha256:
        return Missing("file not found")
    found = load_beats(prepared.store, sha256, protocol.beats)
    if found is not None:
        return found
    outcome = extracted.sounds.get(beat_ingredients(sha256, protocol.beats).key)
    return Missing((outcome.reason if outcome else None) or "not computed")


def score(prepared: Prepared, extracted: Extracted, progress: Progress = silent) -> list[ClipRow]:
    """All rows of ``clips.parquet``: reference, evaluated model and calibration models, under each protocol."""
    rows: list[ClipRow] = []
    models = row_models(prepared.config)
    total = len(prepared.protocols) * (len(models) + 1)
    for protocol in prepared.protocols:
        metrics = prepared.metrics[protocol.hash]
        reference = evidence_of(prepared, prepared.reference.clips, protocol, extracted)
        rows += _rows(reference, protocol, metrics, REFERENCE_MODEL, "reference")
        progress("scores", len(rows) and _done(rows), total)
        real = evidence_of(prepared, prepared.generated.clips, protocol, extracted)
        for card in models:
            rows += _rows(transformed(card, real), protocol, metrics, card.name, "generated")
            progress("scores", _done(rows), total)
    return rows


def _done(rows: Sequence[ClipRow]) -> int:
    return len({(row.model, row.protocol_hash, row.role) for row in rows})


def _rows(
    evidence: Iterable[Evidence],
    protocol: Protocol,
    metrics: Sequence[Metric],
    model: str,
    role: Literal["generated", "reference"],
) -> list[ClipRow]:
    return [score_clip(item, protocol, metrics, model=model, role=role) for item in evidence]


def n_shared(prepared: Prepared) -> int:
    """Evaluated clips whose bytes are also in the reference set."""
    reference = {clip.sha256 for clip in prepared.reference.clips}
    return sum(clip.sha256 in reference for clip in prepared.generated.clips)


def row_models(config: EvalConfig) -> list[ModelCard]:
    """Cards of the rows: the evaluated model first, then the calibration models."""
    names = dict.fromkeys((config.model, *config.calibrate))
    return [model_card(name) for name in names]


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


def transformed(card: ModelCard, evidence: tuple[Evidence, ...]) -> Iterator[Evidence]:
    """The evidence as the row called `card.name` sees it: changed by a calibration model, else as it is."""
    if card.kind != "calibration":
        yield from evidence
        return
    model = registry.get("models", card.name)()
    for index in range(len(evidence)):
        yield model.transform(evidence, index)


def model_record(card: ModelCard) -> ModelRecord:
    """A model card in JSON."""
    return ModelRecord(name=card.name, kind=card.kind, summary=card.summary, source=card.source, licence=card.licence)


def environment() -> dict[str, str]:
    """Versions of what computed a result."""
    found = {
        "macebench": macebench.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    for name in _VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass
class Stopwatch:
    """Wall times by phase, for ``timing.json``."""

    phases: dict[str, float] = field(default_factory=dict)

    def measure(self, phase: str, action: Callable[[], T]) -> T:
        """Run `action` and note how long it took."""
        start = time.perf_counter()
        try:
            return action()
        finally:
            self.phases[phase] = self.phases.get(phase, 0.0) + time.perf_counter() - start
