"""The evaluation loop: clips in, a run folder out.

`evaluate` extracts what the store lacks (poses, frame statistics, beats), scores every clip under every
protocol, aggregates, and writes the run folder. Each step is a function of files and frozen values, so a
run that was killed goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import importlib
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, TypeVar
from typing import Protocol as TypingProtocol

import macebench
from macebench import registry
from macebench.engine import Crashed, Work, run_jobs
from macebench.evidence import ClipKey, EvidenceSet, Extracted, Source, clip_key
from macebench.extract import (
    SUBJECT,
    Outcome,
    SoundJob,
    beat_ingredients,
    by_package,
    clip_ingredients,
    extract_beats,
    extract_clip,
    failure_ingredients,
    load_picture,
    setup_clip_worker,
    setup_sound_worker,
    sound_jobs,
    statistic_ingredients,
)
from macebench.identity import Picture, Pictures
from macebench.media import Decoder
from macebench.pieces import pieces
from macebench.prepare import COUNTED, EvalConfig, Prepared, model_card
from macebench.protocol import Protocol
from macebench.registry import Metric
from macebench.results import ModelRecord
from macebench.scoring import score_clip
from macebench.store import Artifact
from macebench.tables import ClipRow
from macebench.types import Clip, Evidence, ModelCard
from macebench.vbench_values import lasting

T = TypeVar("T")
REFERENCE_MODEL = "reference"
PACKAGE_LOG = "vbench.log"
_VERSIONS_OF = ("numpy", "scipy", "librosa", "av", "opencv-python-headless", "ai-edge-litert", "transformers")


class Progress(TypingProtocol):
    """Called after every finished piece of work."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """`done` of `total` pieces of `phase` are finished."""
        ...


def silent(phase: str, done: int, total: int) -> None:
    """A `Progress` that says nothing."""


@dataclass(frozen=True)
class RunPlan:
    """What an evaluation would do.

    Attributes:
        n_generated: Clips of the evaluated set.
        n_reference: Clips of the reference set.
        n_to_extract: Clips that are not in the store.
        n_sounds: Sounds whose beats are not in the store.
        n_pictures: Reference pictures that are not in the store.
        seconds: Estimated time from earlier clips with this back end, or None when there are none.
    """

    n_generated: int
    n_reference: int
    n_to_extract: int
    n_sounds: int
    seconds: float | None
    n_pictures: int = 0


def plan_run(prepared: Prepared) -> RunPlan:
    """What `evaluate` would do; reads only the store."""
    missing = [clip for clip in prepared.clips if clip.sha256 and not _extracted(prepared, clip)]
    name = prepared.backend.name if prepared.backend is not None else None
    metas = [meta for meta in prepared.store.metas("pose") if meta.get("backend") == name]
    costs = sorted(float(meta["seconds"]) for meta in metas if "seconds" in meta)
    seconds = costs[len(costs) // 2] * len(missing) / prepared.config.workers if costs else None
    return RunPlan(
        len(prepared.generated.clips), len(prepared.reference.clips), len(missing),
        len(_sounds_to_do(prepared)), 0.0 if not missing else seconds, len(_pictures_to_do(prepared)),
    )  # fmt: skip


def _extracted(prepared: Prepared, clip: Clip) -> bool:
    wanted = clip_ingredients(clip, prepared.plan, prepared.backend)
    failed = failure_ingredients(clip, prepared.plan)
    return prepared.store.has(failed) or all(prepared.store.has(item) for item in wanted)


def _sounds_to_do(prepared: Prepared) -> list[SoundJob]:
    if not prepared.needs_music:
        return []
    rules = [protocol.beats for protocol in prepared.protocols if protocol.beats is not None]
    jobs = sound_jobs(prepared.clips, rules)
    return [job for job in jobs if not prepared.store.has(beat_ingredients(job.sha256, job.rules))]


def _pictures_to_do(prepared: Prepared) -> list[Picture]:
    """Reference pictures that can be embedded and are not in the store."""
    if prepared.pictures is None or SUBJECT not in prepared.plan.statistics:
        return []
    return [item for item in prepared.pictures.files if load_picture(prepared.store, item) is None]


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
            seen, pictures = _run_clips(prepared, clips, progress)
            _run_package(prepared, progress)
            return Extracted(seen, heard.result(), pictures)
        finally:
            stop.set()


def _import_early() -> None:
    """Load what scoring needs while the workers are busy."""
    for name in ("pandas", "pyarrow.parquet", "scipy.ndimage", "scipy.signal", "scipy.linalg"):
        importlib.import_module(name)


def _run_clips(
    prepared: Prepared, clips: Sequence[Clip], progress: Progress
) -> tuple[dict[ClipKey, Outcome], dict[str, Outcome]]:
    """Outcomes of the clips, and of the reference pictures by content: the same workers have the network."""
    config = prepared.config
    work = Work(extract_clip, setup_clip_worker, (prepared.plan,))
    outcomes: dict[ClipKey, Outcome] = {}
    pictures: dict[str, Outcome] = {}
    total, ready = len(prepared.clips), len(prepared.clips) - len(clips)
    phase = "motions" if prepared.plan.motion else "poses"
    progress(phase, ready, total)
    jobs: list[Clip | Picture] = [*clips, *_pictures_to_do(prepared)]
    for index, result in run_jobs(work, jobs, workers=config.workers, engine=config.engine):
        job = jobs[index]
        if isinstance(job, Picture):
            pictures[job.sha256] = _outcome(result)
            continue
        outcomes[clip_key(job)] = _outcome(result)
        progress(phase, ready + len(outcomes), total)
    return outcomes, pictures


def _run_package(prepared: Prepared, progress: Progress) -> None:
    """Let VBench's own package score the clips that were decoded and that the store lacks its values of."""
    name = next((item for item in prepared.plan.statistics if by_package(item)), None)
    python = prepared.config.vbench_python
    if name is None or python is None:
        return
    from macebench.models.appearance import vbench_package

    store = prepared.store
    counts = ((clip, store.get(statistic_ingredients(clip, COUNTED))) for clip in prepared.clips if clip.sha256)
    known = [(clip, len(found.arrays["value"]), found.meta) for clip, found in counts if found is not None]
    todo = [item for item in known if not _settled(store.get(statistic_ingredients(item[0], name)))]
    size = vbench_package.CLIPS_AT_ONCE
    with Decoder() as decoder:
        for start in range(0, len(todo), size):
            part = todo[start : start + size]
            infos = [decoder.probe(clip.path) for clip, _, _ in part]
            clips = [
                vbench_package.PackageClip(clip.path, pairs, min(info.width, info.height))
                for (clip, pairs, _), info in zip(part, infos, strict=True)
            ]
            found = vbench_package.compute(python, clips, prepared.config.out / PACKAGE_LOG)
            for (clip, _, meta), rows in zip(part, found, strict=True):
                artifact = Artifact({"value": rows}, {"duration_s": meta["duration_s"], "again": not lasting(rows)})
                store.put(statistic_ingredients(clip, name), artifact)
            progress("vbench", len(known) - len(todo) + start + len(part), len(known))


def _settled(artifact: Artifact | None) -> bool:
    """Whether the package need not be asked again."""
    return artifact is not None and not artifact.meta.get("again")


def _run_sounds(prepared: Prepared, jobs: Sequence[SoundJob], stop: threading.Event) -> dict[str, Outcome]:
    if not jobs:
        return {}
    work = Work(extract_beats, setup_sound_worker, (prepared.store.root,))
    results = run_jobs(work, jobs, workers=1, stop=stop)
    return {beat_ingredients(jobs[i].sha256, jobs[i].rules).key: _outcome(result) for i, result in results}


def _outcome(result: Outcome | Crashed) -> Outcome:
    return Outcome(result.reason) if isinstance(result, Crashed) else result


def evidence_of(
    prepared: Prepared,
    clips: Sequence[Clip],
    protocol: Protocol,
    extracted: Extracted,
    role: Literal["generated", "reference"] = "generated",
) -> Sequence[Evidence]:
    """Everything known of `clips` under `protocol`, in their order, loaded when it is asked for.

    `role` says whose reference pictures they have: one given picture is that of the evaluated clips alone.
    """
    source, pictures = source_of(prepared, extracted), prepared.pictures or Pictures()
    rules = protocol.beats if prepared.needs_music else None
    return EvidenceSet(clips, lambda clip: source.load(clip, rules, pictures.of(clip, role)))


def source_of(prepared: Prepared, extracted: Extracted) -> Source:
    """Where the evidence of a run comes from."""
    return Source(prepared.store, prepared.plan, prepared.backend, extracted)


def score(prepared: Prepared, extracted: Extracted, progress: Progress = silent) -> list[ClipRow]:
    """All rows of ``clips.parquet``: reference, evaluated model and calibration models, under each protocol."""
    rows: list[ClipRow] = []
    models = row_models(prepared.config)
    total = len(prepared.protocols) * (len(models) + 1)
    for protocol in prepared.protocols:
        metrics = prepared.metrics[protocol.hash]
        reference = evidence_of(prepared, prepared.reference.clips, protocol, extracted, "reference")
        rows += score_pieces(reference, protocol, metrics, REFERENCE_MODEL, "reference")
        progress("scores", len(rows) and _done(rows), total)
        real = evidence_of(prepared, prepared.generated.clips, protocol, extracted)
        for card in models:
            rows += score_pieces(transformed(card, real), protocol, metrics, card.name, "generated")
            progress("scores", _done(rows), total)
    return rows


def _done(rows: Sequence[ClipRow]) -> int:
    return len({(row.model, row.protocol_hash, row.role) for row in rows})


def score_pieces(
    evidence: Iterable[Evidence],
    protocol: Protocol,
    metrics: Sequence[Metric],
    model: str,
    role: Literal["generated", "reference"],
) -> list[ClipRow]:
    """The rows of some clips, one for each piece of each (`macebench.pieces`)."""
    return [
        score_clip(piece, protocol, metrics, model=model, role=role)
        for item in evidence
        for piece in pieces(item, protocol, role)
    ]


def n_shared(prepared: Prepared) -> int:
    """Evaluated clips whose bytes are also in the reference set."""
    reference = {clip.sha256 for clip in prepared.reference.clips}
    return sum(clip.sha256 in reference for clip in prepared.generated.clips)


def row_models(config: EvalConfig) -> list[ModelCard]:
    """Cards of the rows: the evaluated model first, then the calibration models."""
    names = dict.fromkeys((config.model, *config.calibrate))
    return [model_card(name) for name in names]


def transformed(card: ModelCard, evidence: Sequence[Evidence]) -> Iterator[Evidence]:
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
