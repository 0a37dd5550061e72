"""Runs stages over sources: `curate` makes a data set, `run_stages` looks at a few files.

Every source is probed, decoded once with all observers looking on, decided upon from what they saw, cut, and noted
(`macebench.curation.job`); when all are done the data set is put together (`macebench.curation.dataset`). The folder
depends on the sources and the settings only: not on workers, engine, order, or on how often the run was killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from macebench.curation.config import CurateConfig
from macebench.curation.decide import Decided, LedgerRow, decide
from macebench.curation.motion_sources import MotionSource
from macebench.curation.observe import observe, observers_of
from macebench.curation.records import WORK, Index, Seen, Wanted
from macebench.curation.sources import Source, check_sources, iter_sources
from macebench.curation.stage import Stage, Task
from macebench.engine import Crashed, EngineName, Work, run_jobs
from macebench.errors import MediaError, UserError
from macebench.media import Decoder, file_sha256
from macebench.store import Store, default_store_path, ensure_writable

Progress = Callable[[str, int, int], None]
Curated = Decided
CHUNK = 2048
"""Sources handed to the workers at a time."""
RENDERED = "rendered"
"""Folder of the rendered videos in the working folder."""
_NOTE_S = 1.0
_RUN_SIDE = 640


def run_stages(sources: Iterable[Path], stages: Sequence[Stage]) -> Curated:
    """Send every source through the stages, in order; cheap stages should come first.

    Args:
        sources: Files; their order does not matter.
        stages: Stages in order.

    Returns:
        Kept spans and ledger, both in the order of source hash and start time.
    """
    kept: list[Task] = []
    ledger: list[LedgerRow] = []
    with Decoder() as decoder:
        for source in sources:
            decided = _run(Task(Path(source), file_sha256(Path(source))), stages, decoder)
            kept.extend(decided.kept)
            ledger.extend(decided.ledger)
    return Curated(tuple(sorted(kept, key=_order)), tuple(sorted(ledger, key=lambda row: _order(row.task))))


def _order(task: Task) -> tuple[str, float]:
    return task.source_id, task.start_s


def _run(task: Task, stages: Sequence[Stage], decoder: Decoder) -> Decided:
    """All stages on one source; it is decoded when an observing stage is reached."""
    observing = observers_of(stages)
    first = stages.index(observing[0]) if observing else len(stages)
    decided = decide((task,), stages[:first])
    if not decided.kept or not observing:
        return decided
    try:
        info = decided.kept[0].info or decoder.probe(task.source)
        seen = observe(decoder, task.source, info, observing, _RUN_SIDE).timelines
    except MediaError as error:
        from macebench.curation.stage import Rejection

        return Decided((), (*decided.ledger, LedgerRow(task, Rejection("decode", error.reason))))
    tasks = [dataclasses.replace(item, info=info, observed={**item.observed, **seen}) for item in decided.kept]
    return decide(tasks, stages[first:]).after(decided.ledger)


@dataclass(frozen=True)
class CurateJob:
    """What to curate, and how.

    Attributes:
        sources: Folders, videos, list files and tables of paths; data sets below them are passed over.
        motions: Recordings of 3-D motion, which are rendered first (`macebench.curation.render`); their videos are kept
            in the working folder.
        out: Folder of the data set.
        config: Settings.
        limit: Only the first so many sources in the order of their names; a recording counts as one, however many takes
            are made of it.
        workers: Worker processes.
        engine: ``local`` or ``ray``.
        ray_address: Of an existing Ray cluster; None starts one here. Its nodes must see all folders.
        store: Folder of the store; None for the default.
        plugins: Plugin files that register stages.
        keep_going: A stage that fails costs the source, not the run.
        prune: Clips of sources that are not named any more may be removed.
    """

    sources: tuple[str, ...]
    out: Path
    config: CurateConfig
    limit: int | None = None
    workers: int = 1
    engine: EngineName = "local"
    ray_address: str | None = None
    store: Path | None = None
    plugins: tuple[Path, ...] = ()
    keep_going: bool = False
    prune: bool = False
    motions: tuple[MotionSource, ...] = ()


@dataclass(frozen=True)
class CurateResult:
    """What came out.

    Attributes:
        n_sources: Sources of the run.
        n_clips: Clips of the data set.
        seconds: Their length.
        reasons: ``stage: reason`` -> rejected spans.
        unfinished: Reason -> sources that may end otherwise the next time: they timed out or crashed, or are not there.
        passed_over: Folders and videos among the sources that belong to a data set and were not taken, sorted.
        splits: Split -> its clips.
        notes: What the splits could not have, one sentence each.
    """

    n_sources: int
    n_clips: int
    seconds: float
    reasons: Mapping[str, int]
    unfinished: Mapping[str, int]
    passed_over: tuple[str, ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def curate(job: CurateJob, progress: Progress | None = None, stop: threading.Event | None = None) -> CurateResult:
    """Make a data set, or finish one that was interrupted.

    Raises:
        UserError: bad input, a full disk, or another run that works on the same folder.
    """
    from macebench.curation._lost import check_nothing_is_lost
    from macebench.curation.dataset import assemble

    report = progress or _silent
    out = Path(job.out)
    if not job.motions:
        check_sources(job.sources, out)
    _check_folder(out)
    passed: set[Path] = set()
    with _locked(out):
        _sweep(out)
        files, recordings = chosen(job, passed.add)
        takes = iter_sources(_rendered(job, recordings, report, stop))
        index = Index(out / WORK / "index.sqlite")
        try:
            index.plan(itertools.chain(files, takes), None if job.motions else job.limit)
            index.set_state("store", str(_store(job)))
            index.set_state("plugins", json.dumps([str(Path(path).absolute()) for path in job.plugins]))
            _work_off(job, index, report, stop)
            if not job.prune:
                check_nothing_is_lost(out, index)
            made = assemble(out, index, job.config, report, prune=job.prune, workers=job.workers)
        finally:
            index.close()
    return dataclasses.replace(made, passed_over=tuple(sorted(map(str, passed))), **_splits(out))


def _splits(out: Path) -> dict[str, Any]:
    """What the data set says of its splits."""
    from macebench.curation.dataset import DATASET_FILE

    summary = json.loads((out / DATASET_FILE).read_text("utf-8"))
    return {"splits": summary["splits"], "notes": tuple(summary["split_notes"])}


def chosen(
    job: CurateJob, passed: Callable[[Path], None] | None = None
) -> tuple[Iterable[Source], tuple[MotionSource, ...]]:
    """The files and the recordings of a job; where there are recordings, `CurateJob.limit` is applied to both together.

    Args:
        job: The job.
        passed: Called with every folder or video that is passed over.

    Raises:
        UserError: as `iter_sources`, when the files are gone through.
    """
    found, recordings = iter_sources(job.sources, Path(job.out), passed), sorted(job.motions, key=_name)
    if job.limit is None or not recordings:
        return found, tuple(recordings)
    index = Index(None)
    try:
        index.plan(found, job.limit)
        files = [
            Source(item.path, item.name, item.facts, item.refused) for some in index.chunks(CHUNK) for item in some
        ]
    finally:
        index.close()
    both: list[Source | MotionSource] = [*files, *recordings]
    first = sorted(both, key=_name)[: job.limit]
    return (
        [item for item in first if isinstance(item, Source)],
        tuple(item for item in first if isinstance(item, MotionSource)),
    )


def _name(source: Source | MotionSource) -> str:
    return source.name


def _rendered(
    job: CurateJob, recordings: Sequence[MotionSource], report: Progress, stop: threading.Event | None
) -> tuple[str, ...]:
    """Draw the motions, where there are some; returns the table of their videos."""
    if not recordings:
        return ()
    from macebench.curation.render import render_sources

    table = render_sources(
        recordings, Path(job.out) / WORK / RENDERED, job.config.render, workers=job.workers, engine=job.engine,
        ray_address=job.ray_address, stop=stop, progress=lambda done, total: report("rendered", done, total),
    )  # fmt: skip
    return (str(table),)


def _silent(phase: str, done: int, total: int) -> None:
    pass


def _store(job: CurateJob) -> Path:
    return (Path(job.store) if job.store is not None else default_store_path()).absolute()


def _check_folder(out: Path) -> None:
    """Refuse a folder that holds something else."""
    if out.is_dir() and not (out / WORK).is_dir() and any(not child.name.startswith(".") for child in out.iterdir()):
        raise UserError(f"{out} is not empty and no data set made by curate.", hint="Choose another folder with --out.")
    ensure_writable(out / WORK)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Make sure that no other run works on the folder; the lock ends with the process."""
    import fcntl

    with (out / WORK / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another run works on {out}.", hint="Wait for it, or choose another folder.") from error
        yield


def _sweep(out: Path) -> None:
    """Remove what killed runs have left of unfinished files."""
    for place, _, files in os.walk(out / WORK):
        for name in files:
            if name.startswith(".") and name.endswith(".tmp"):
                Path(place, name).unlink(missing_ok=True)


def _work_off(job: CurateJob, index: Index, report: Progress, stop: threading.Event | None) -> None:
    """Run every source through a worker and note what became of it."""
    from macebench.curation.job import WorkerPlan, process_source, setup_worker
    from macebench.curation.plan import Measured

    ensure_writable(_store(job))
    total, _ = index.counts()
    plugins = tuple(Path(path).absolute() for path in job.plugins)
    plan = WorkerPlan(Path(job.out).absolute(), _store(job), job.config.plain(), plugins, job.keep_going)
    work = Work(process_source, setup_worker, (plan,), job.config.general.gpus)
    done, begin, measured = 0, time.perf_counter(), Measured()
    report("sources", done, total)
    how: dict[str, Any] = {"workers": job.workers, "engine": job.engine, "stop": stop}
    if job.ray_address is not None:
        how["ray_address"] = job.ray_address
    for chunk in index.chunks(CHUNK):
        with _Notes(index) as notes:
            for number, result in run_jobs(work, chunk, **how):
                seen = _crashed(chunk[number], plan.out) if isinstance(result, Crashed) else result
                notes.add(seen)
                measured.add(seen.costs)
                done += 1
                report("sources", done, total)
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt
    measured.save(Store(_store(job)), job.config, time.perf_counter() - begin, min(job.workers, max(total, 1)))


def _crashed(source: Wanted, out: Path) -> Seen:
    from macebench.curation.job import crash_reason

    return Seen(source.key, sha256=source.sha256, stage="worker", reason=crash_reason(out, source))


class _Notes:
    """Puts results into the index, about once a second and at the end, whatever ends it."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._waiting: list[Seen] = []
        self._due = time.monotonic() + _NOTE_S

    def __enter__(self) -> _Notes:
        return self

    def __exit__(self, *error: object) -> None:
        self._index.remember(self._waiting)

    def add(self, seen: Any) -> None:
        """Note one result."""
        self._waiting.append(seen)
        if time.monotonic() >= self._due:
            self._index.remember(self._waiting)
            self._waiting.clear()
            self._due = time.monotonic() + _NOTE_S


def count_reasons(pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
    """``stage: reason`` -> how often, most frequent first."""
    counted = Counter(f"{stage}: {reason}" for stage, reason in pairs)
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
