"""Scoring generated videos against the reference's videos of the same dances, frame by frame (track ``animation``).

`score_pairs` takes pairs of clips (`macebench.pairs`), reads both videos of a pair once and together, feeds every pair
statistic and every frame statistic that the store lacks, and makes rows as the other tracks have them. What was
computed is kept in the store under both videos' hashes, the alignment and the statistic's own ingredients, so a run
that was killed goes on where it stopped.

- A generated clip without a reference, and a reference without a generated clip, is a row without values.
- A pair that does not fit, or a video that cannot be read, has a reason; frame statistics of whole videos (those of
  FVD) do not need the pair.
- What needs weights that are not on this machine has the reason ``weights missing: macebench weights pull <group>``;
  the rest is scored.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from macebench import registry
from macebench.aggregate import aggregate
from macebench.clips import ClipSet, set_hash
from macebench.engine import Crashed, EngineName, Work, run_jobs
from macebench.errors import MediaError, Unscorable, UserError, WeightsMissingError
from macebench.extract import (
    LASTING,
    ClipPlan,
    code_hash,
    failure_ingredients,
    lacking_weights,
    own_ingredients,
    statistic_ingredients,
)
from macebench.pairs import (
    NO_GENERATED,
    NO_REFERENCE,
    Pair,
    PairStatistic,
    aligned,
    alignments,
    check_pairs,
    rows_table,
)
from macebench.prepare import UNKNOWN, network_variables
from macebench.protocol import PixelRules, Protocol, Reference
from macebench.registry import Metric
from macebench.scoring import joined, needed, score_clip, with_reasons
from macebench.store import Artifact, Ingredients, Store
from macebench.tables import ClipRow
from macebench.types import Clip, Evidence, FloatArray, FrameStatistic, Missing, Score

if TYPE_CHECKING:
    from macebench.media import Decoder, FrameBatch

PAIRS, FRAMES = "pairs", "frames"
NOT_COMPUTED, NO_FILE = "not computed", "file not found"
REFERENCE_MODEL = "reference"
PAIR_RECORD = 2
"""Version of what is stored beside a pair statistic: the compared span and the notes on both pictures."""
NO_POSE = Missing("not part of this track")
Progress = Callable[[int, int], None]
Role = Literal["generated", "reference"]


@dataclass(frozen=True)
class PairPlan:
    """What a worker needs to know.

    Attributes:
        store: Folder of the store.
        rules: The protocol's rules.
        pairs: Names of pair statistics.
        frames: Names of frame statistics of whole videos.
        plugins: Plugin files to load.
        networks: Environment variables that say where and how networks run, for workers on another machine.
    """

    store: Path
    rules: PixelRules
    pairs: tuple[str, ...]
    frames: tuple[str, ...]
    plugins: tuple[Path, ...] = ()
    networks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PairOutcome:
    """Reasons that are not in the store, by clip id and role; ``pair`` is the pair's."""

    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PairedScores:
    """Rows of ``clips.parquet`` and the scores made of them."""

    protocol: Protocol
    rows: tuple[ClipRow, ...]
    scores: tuple[Score, ...]


def resolve_animation(
    protocol: Protocol, reference: ClipSet, align: Iterable[str] = (), metrics: Sequence[Metric] | None = None
) -> Protocol:
    """The protocol with the reference set, the alignment and its networks written into it; all are part of its hash.

    Args:
        protocol: With a section ``pixels``.
        reference: The videos that the generated ones should equal.
        align: As `macebench.pairs.alignments` takes them.
        metrics: What will be computed; None is the protocol's own.

    Raises:
        UserError: the protocol has no section ``pixels``, or the alignment is not known.
    """
    rules = PixelRules.model_validate(protocol.need_pixels().model_dump() | {"align": alignments(align)})
    described = Reference(name=reference.name, sha256=set_hash(reference.clips), n=len(reference.clips))
    networks = _networks(_chosen(protocol, metrics), rules)
    return protocol.resolve(None, described, networks).model_copy(update={"pixels": rules})


def _chosen(protocol: Protocol, metrics: Sequence[Metric] | None) -> list[Metric]:
    return [registry.get_metric(name) for name in protocol.metrics] if metrics is None else list(metrics)


def _networks(metrics: Sequence[Metric], rules: PixelRules) -> dict[str, Mapping[str, Any]]:
    """What the statistics depend on beside the frames, such as weights and the number type."""
    found: dict[str, Mapping[str, Any]] = {
        name: registry.get("statistics", name).ingredients(rules) for name in sorted(_wanted(metrics, PAIRS))
    }
    for name in sorted(_wanted(metrics, FRAMES)):
        try:
            found[name] = own_ingredients(name)
        except WeightsMissingError:
            found[name] = {"weights_sha256": UNKNOWN}
    return {name: values for name, values in found.items() if values}


def score_pairs(
    pairs: Sequence[Pair],
    protocol: Protocol,
    *,
    store: Store,
    metrics: Sequence[Metric] | None = None,
    model: str = "external",
    workers: int = 1,
    engine: EngineName = "local",
    plugins: tuple[Path, ...] = (),
    progress: Progress | None = None,
) -> PairedScores:
    """Score generated videos against the reference's.

    Args:
        pairs: The evaluated videos and those that they should equal (`macebench.pairs.pair_clips`).
        protocol: Resolved by `resolve_animation`.
        store: Where intermediate results are kept.
        metrics: What to compute; None is the protocol's own.
        model: Name of the rows.
        workers: Worker processes.
        engine: ``local`` or ``ray``.
        plugins: Python files that register more.
        progress: Called with pairs done and pairs in all.

    Raises:
        UserError: videos do not fit and the protocol's alignment does not say what to do.
    """
    from macebench.media import Decoder

    chosen, rules = _chosen(protocol, metrics), protocol.need_pixels()
    with Decoder() as decoder:
        check_pairs(pairs, rules.align, decoder)
    lacking = lacking_weights(_wanted(chosen, PAIRS) | _wanted(chosen, FRAMES))
    plan = PairPlan(
        store.root, rules,
        tuple(sorted(_wanted(chosen, PAIRS) - lacking.keys())),
        tuple(sorted(_wanted(chosen, FRAMES) - lacking.keys())), plugins, network_variables(),
    )  # fmt: skip
    outcomes = _extract_all(plan, store, pairs, workers, engine, progress)
    scorer = _Scorer(plan, store, protocol, chosen, lacking)
    rows = [row for pair, outcome in zip(pairs, outcomes, strict=True) for row in scorer.rows(pair, outcome, model)]
    mine, theirs = (rows_table([row for row in rows if row.role == role]) for role in ("generated", "reference"))
    return PairedScores(protocol, tuple(rows), tuple(aggregate(mine, theirs, protocol, chosen)))


def _wanted(metrics: Sequence[Metric], kind: str) -> set[str]:
    """Names of the statistics of a kind that metrics and their features need."""
    return {name for need in needed(metrics)[1] for head, _, name in [need.partition(":")] if head == kind}


# ---- computing ------------------------------------------------------------------------------------------


def pair_ingredients(pair: Pair, name: str, rules: PixelRules) -> Ingredients:
    """Key of a pair statistic."""
    statistic = registry.get("statistics", name)
    inputs = {"generated": _hash(pair.generated), "reference": _hash(pair.reference)}
    settings = {
        "name": name, "code": code_hash("statistics", name), "align": list(rules.align),
        "rules": dict(statistic.ingredients(rules)), "record": PAIR_RECORD,
    }  # fmt: skip
    return Ingredients("pair", int(statistic.version), inputs, settings)


def _hash(clip: Clip | None) -> str:
    return clip.sha256 if clip is not None else ""


def _unread(store: Path) -> ClipPlan:
    return ClipPlan(store, None, {}, ())


def _extract_all(
    plan: PairPlan, store: Store, pairs: Sequence[Pair], workers: int, engine: EngineName, progress: Progress | None
) -> list[PairOutcome]:
    todo = [index for index, pair in enumerate(pairs) if _to_do(plan, store, pair)]
    outcomes = [PairOutcome()] * len(pairs)
    done = len(pairs) - len(todo)
    work = Work(extract_pair, setup_pair_worker, (plan,))
    for place, result in run_jobs(work, [pairs[index] for index in todo], workers=workers, engine=engine):
        outcomes[todo[place]] = PairOutcome({"pair": result.reason}) if isinstance(result, Crashed) else result
        done += 1
        if progress is not None:
            progress(done, len(pairs))
    return outcomes


def _to_do(plan: PairPlan, store: Store, pair: Pair) -> bool:
    clips = [clip for clip in (pair.generated, pair.reference) if clip is not None and clip.sha256]
    missing = any(_singles_to_do(plan, store, clip) for clip in clips)
    return missing or bool(_pairs_to_do(plan, store, pair))


def _singles_to_do(plan: PairPlan, store: Store, clip: Clip) -> list[str]:
    if store.has(failure_ingredients(clip, _unread(plan.store))):
        return []
    return [name for name in plan.frames if not store.has(statistic_ingredients(clip, name))]


def _pairs_to_do(plan: PairPlan, store: Store, pair: Pair) -> list[str]:
    if not (_hash(pair.generated) and _hash(pair.reference)):
        return []
    return [name for name in plan.pairs if not store.has(pair_ingredients(pair, name, plan.rules))]


@dataclass
class _Worker:
    """State of one worker process."""

    plan: PairPlan
    store: Store
    decoders: tuple[Decoder, Decoder]
    stack: ExitStack


_worker: _Worker | None = None


def setup_pair_worker(plan: PairPlan) -> None:
    """Prepare a worker process for `extract_pair`."""
    global _worker  # noqa: PLW0603 - the state of a worker process
    from macebench.media import Decoder

    os.environ.update(plan.networks)
    for path in plan.plugins:
        registry.load_plugin(path)
    stack = ExitStack()
    decoders = (stack.enter_context(Decoder()), stack.enter_context(Decoder()))
    _worker = _Worker(plan, Store(plan.store), decoders, stack)


def extract_pair(pair: Pair) -> PairOutcome:
    """Compute what the store lacks of one pair. Needs `setup_pair_worker` first."""
    if _worker is None:
        raise RuntimeError("setup_pair_worker was not called in this process")
    reasons: dict[str, str] = {}
    plan, store = _worker.plan, _worker.store
    streams = {}
    for role, clip, decoder in zip(
        ("generated", "reference"), (pair.generated, pair.reference), _worker.decoders, strict=True
    ):
        if clip is not None and clip.sha256:
            streams[role] = _Stream(decoder, clip, _singles_to_do(plan, store, clip))
    try:
        names = _pairs_to_do(plan, store, pair)
        if names:
            _compare(_worker, pair, names, streams["generated"], streams["reference"], reasons)
        for role, stream in streams.items():
            stream.finish(store, reasons, role)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - a network or a plugin may fail on one odd clip
        return PairOutcome(reasons | {"pair": f"extraction failed: {type(error).__name__}: {error}"})
    return PairOutcome(reasons)


class _Stream:
    """One video while it is read: feeds the frame statistics of the whole video and hands the frames on."""

    def __init__(self, decoder: Decoder, clip: Clip, names: Sequence[str]) -> None:
        self.clip = clip
        self.error: MediaError | None = None
        self.notes: tuple[str, ...] = ()
        self._statistics: dict[str, FrameStatistic] = {name: registry.get("statistics", name)() for name in names}
        self._first, self._last, self._count = 0.0, 0.0, 0
        self.batches = self._read(decoder)

    def _read(self, decoder: Decoder) -> Iterator[FrameBatch]:
        try:
            self.notes = decoder.probe(self.clip.path).notes
            for batch in decoder.frames(self.clip.path):
                for statistic in self._statistics.values():
                    statistic.update(batch.frames, batch.times_s)
                self._first = float(batch.times_s[0]) if not self._count else self._first
                self._last, self._count = float(batch.times_s[-1]), self._count + len(batch)
                yield batch
        except MediaError as error:
            self.error = error
            raise

    @property
    def duration_s(self) -> float:
        """Length of the picture that has been read, in seconds."""
        return _span(self._first, self._last, self._count)

    def finish(self, store: Store, reasons: dict[str, str], role: str) -> None:
        """Read what is left and store the frame statistics, or note why there are none."""
        if not self._statistics:
            return
        try:
            for _ in self.batches:
                pass
        except MediaError:
            pass
        if self.error is None:
            for name, statistic in self._statistics.items():
                meta = {"duration_s": self.duration_s, "notes": list(self.notes)}
                store.put(statistic_ingredients(self.clip, name), Artifact({"value": statistic.result()}, meta))
            return
        reasons[role] = self.error.reason
        if self.error.reason in LASTING:
            meta = {"reason": self.error.reason, "detail": self.error.detail}
            store.put(failure_ingredients(self.clip, _unread(store.root)), Artifact({}, meta))


def _span(first_s: float, last_s: float, count: int) -> float:
    """Length of `count` frames in seconds; the last lasts as long as the others on average."""
    return (last_s - first_s) * count / max(count - 1, 1)


def _compare(
    worker: _Worker, pair: Pair, names: Sequence[str], ours: _Stream, theirs: _Stream, reasons: dict[str, str]
) -> None:
    """Feed the pair statistics and store them, or the reason why there are none."""
    rules, store = worker.plan.rules, worker.store
    running: dict[str, PairStatistic] = {name: registry.get("statistics", name)(rules) for name in names}
    refused: dict[str, str] = {}
    problem, count, first, last = "", 0, 0.0, 0.0
    try:
        for batch in aligned(ours.batches, theirs.batches, rules.align):
            first, last = float(batch.times_s[0]) if not count else first, float(batch.times_s[-1])
            count += len(batch.times_s)
            for name in list(running):
                try:
                    running[name].update(batch.generated, batch.reference)
                except Unscorable as error:
                    refused[name] = error.reason
                    del running[name]
    except Unscorable as error:
        problem = error.reason
    except MediaError as error:
        problem = error.reason if ours.error is not None else f"reference: {error.reason}"
        if error.reason not in LASTING:
            reasons["pair"] = problem
            return
    notes = [*ours.notes, *(f"reference: {note}" for note in theirs.notes)]
    meta = {"duration_s": None if problem else _span(first, last, count), "n_frames": count, "notes": notes}
    for name in names:
        reason = problem or refused.get(name, "")
        arrays = {} if reason else {"value": running[name].result()}
        store.put(pair_ingredients(pair, name, rules), Artifact(arrays, meta | ({"missing": reason} if reason else {})))


# ---- rows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scorer:
    """Makes rows from what is in the store."""

    plan: PairPlan
    store: Store
    protocol: Protocol
    metrics: Sequence[Metric]
    lacking: Mapping[str, str]

    def rows(self, pair: Pair, outcome: PairOutcome, model: str) -> list[ClipRow]:
        """The generated row of a pair and, where set metrics need it, the reference's."""
        found = [self._row(pair, "generated", outcome, model, self.metrics)]
        sets = [metric for metric in self.metrics if metric.feature is not None]
        if sets and pair.reference is not None:
            found.append(self._row(pair, "reference", outcome, REFERENCE_MODEL, sets))
        return found

    def _row(self, pair: Pair, role: Role, outcome: PairOutcome, model: str, metrics: Sequence[Metric]) -> ClipRow:
        own = pair.generated if role == "generated" else pair.reference
        clip = own or Clip(pair.clip_id, Path(pair.clip_id), "")
        taken = _Taken({f"{kind}:{name}": self.lacking[name] for kind in (PAIRS, FRAMES) for name in self.lacking})
        for name in self.plan.pairs if role == "generated" else ():
            taken.take(f"{PAIRS}:{name}", *self._pair_value(pair, name, outcome))
        for name in self.plan.frames:
            problem = outcome.reasons.get(role, outcome.reasons.get("pair", ""))
            taken.take(f"{FRAMES}:{name}", *self._frame_value(own, name, problem))
        reasons = {metric.name: _blocked(metric, taken.reasons) for metric in metrics}
        alike: dict[tuple[str, ...], list[Metric]] = {(): []}
        for metric in metrics:
            if not reasons[metric.name]:
                alike.setdefault(taken.notes_of(metric), []).append(metric)
        rows = [
            score_clip(
                Evidence(clip, taken.duration_s, NO_POSE, NO_POSE, taken.frames, notes=notes), self.protocol, group,
                model=model, role=role,
            )
            for notes, group in alike.items()
        ]  # fmt: skip
        return with_reasons(
            joined(rows), [(metric, reasons[metric.name]) for metric in metrics if reasons[metric.name]]
        )

    def _pair_value(self, pair: Pair, name: str, outcome: PairOutcome) -> tuple[Artifact | None, str]:
        if pair.generated is None or pair.reference is None:
            return None, NO_GENERATED if pair.generated is None else NO_REFERENCE
        if not (pair.generated.sha256 and pair.reference.sha256):
            return None, NO_FILE if not pair.generated.sha256 else f"reference: {NO_FILE}"
        artifact = self.store.get(pair_ingredients(pair, name, self.plan.rules))
        if artifact is None:
            return None, outcome.reasons.get("pair", NOT_COMPUTED)
        return artifact, str(artifact.meta.get("missing", ""))

    def _frame_value(self, clip: Clip | None, name: str, problem: str) -> tuple[Artifact | None, str]:
        if clip is None or not clip.sha256:
            return None, NO_GENERATED if clip is None else NO_FILE
        failed = self.store.get(failure_ingredients(clip, _unread(self.plan.store)))
        if failed is not None:
            return None, str(failed.meta["reason"])
        artifact = self.store.get(statistic_ingredients(clip, name))
        return artifact, "" if artifact is not None else problem or NOT_COMPUTED


@dataclass
class _Taken:
    """What the store has of one row: values, why there are none, and notes on the pictures, by need."""

    reasons: dict[str, str]
    frames: dict[str, FloatArray] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    duration_s: float = math.nan

    def take(self, need: str, artifact: Artifact | None, reason: str) -> None:
        """Sort one result in. The length is that of the compared span; of the whole picture where none was."""
        if artifact is None or reason:
            self.reasons[need] = reason or NOT_COMPUTED
        else:
            self.frames[need.partition(":")[2]] = artifact.arrays["value"]
        if artifact is not None:
            self.notes[need] = tuple(artifact.meta.get("notes", ()))
            length = artifact.meta["duration_s"]
            if math.isnan(self.duration_s) and length is not None:
                self.duration_s = float(length)

    def notes_of(self, metric: Metric) -> tuple[str, ...]:
        """What a reader must know of the pictures that a metric rests on."""
        needs = sorted(needed([metric])[1])
        return tuple(dict.fromkeys(note for need in needs for note in self.notes.get(need, ())))


def _blocked(metric: Metric, reasons: Mapping[str, str]) -> str:
    """Why a metric cannot be computed, or an empty text."""
    needs = needed([metric])[1]
    return next((reasons[need] for need in sorted(needs) if need in reasons), "")
