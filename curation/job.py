"""The work on one source, in a worker process: probe, look, decide, cut, note.

The result depends on the bytes of the source and on the settings, never on its name, the worker or the order. What
the store already holds is not computed again, and a clip that was cut before with the same span and encoding is kept.

A source that takes longer than its limit ends the worker process: that costs one source (`macebench.engine` starts
another worker). What the worker was told to do is noted in ``.work/hung`` first, so that the reason is known.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from macebench import registry
from macebench.curation.config import CurateConfig, config_from_plain
from macebench.curation.cut import CutResult, cut_clip
from macebench.curation.decide import Decided, LedgerRow, decide
from macebench.curation.observe import (
    PASSING,
    Cost,
    Thumbnails,
    early_end,
    load_timelines,
    observe,
    observers_of,
    probed,
    save_timelines,
    thumbnail_at,
    thumbnail_of,
)
from macebench.curation.outcomes import OptOuts, optouts
from macebench.curation.records import (
    WORK,
    ClipRecord,
    Seen,
    SourceRecord,
    SpanRecord,
    Wanted,
    clip_id,
    part_path,
    read_record,
    thumbnail_path,
    write_record,
)
from macebench.curation.sources import NOT_REGULAR
from macebench.curation.stage import ObservingStage, Rejection, Stage, Task, Timeline
from macebench.errors import MacebenchError, MediaError
from macebench.media import Decoder, Limits, VideoInfo, file_sha256
from macebench.store import Store, atomic_write

TIMED_OUT = "timed out"
CRASHED = "worker crashed"
_THUMBNAILS = Thumbnails()
_EXIT_HUNG = 75
_MOST_REASONS = 8
_HASHED_A_SECOND = 5e6
_LEAST_BYTES_A_SECOND = 2000.0


@dataclass(frozen=True)
class WorkerPlan:
    """What a worker needs to know.

    Attributes:
        out: Folder of the data set.
        store: Folder of the store.
        config: `CurateConfig.plain`.
        plugins: Plugin files to load.
        keep_going: A stage that fails costs the source, not the run.
    """

    out: Path
    store: Path
    config: Mapping[str, Any]
    plugins: tuple[Path, ...] = ()
    keep_going: bool = False


@dataclass
class _Worker:
    """State of one worker process."""

    plan: WorkerPlan
    config: CurateConfig
    stages: list[Stage]
    store: Store
    decoder: Decoder
    optout: OptOuts


_worker: _Worker | None = None


def setup_worker(plan: WorkerPlan) -> None:
    """Prepare a worker process for `process_source`."""
    global _worker  # noqa: PLW0603 - the state of a worker process
    import cv2

    cv2.setNumThreads(1)
    for path in plan.plugins:
        registry.load_plugin(path)
    config = config_from_plain(plan.config)
    stages, lists = config.make_stages(), optouts(plan.out, config)
    _worker = _Worker(plan, config, stages, Store(plan.store), Decoder(), lists)


def process_source(source: Wanted) -> Seen:
    """Work on one source. Needs `setup_worker` first.

    Raises:
        UserError: the disk is full, or a stage needs something that is not there.
        MacebenchError: a stage failed and `WorkerPlan.keep_going` is not set.
    """
    if _worker is None:
        raise RuntimeError("setup_worker was not called in this process")
    if source.refused:
        return Seen(source.key, stage="sources", reason=source.refused)
    start = time.perf_counter()
    with _time_limit(_worker, source) as limit:
        seen = _identified(source, limit)
        if seen.reason:
            return seen
        if _worker.optout.blocks_source(seen.sha256, source.name, source.facts):
            return dataclasses.replace(seen, stage="probe", reason="opted out")
        if is_finished(_worker.plan.out, seen.sha256, _worker.config.clips_hash):
            return seen
        work = _Work(_worker, source.path, seen.sha256, limit)
        reason = _worked(work, source, _worker.plan.keep_going)
        if reason:
            return dataclasses.replace(seen, stage=work.at, reason=reason)
    costs = work.costs | {"source_s": time.perf_counter() - start, "bytes": float(seen.size)}
    return dataclasses.replace(seen, costs=costs)


def _identified(source: Wanted, limit: _Limit) -> Seen:
    """Size, time and hash of a source, or why it has none. Only a regular file is opened."""
    try:
        status = os.stat(source.key)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            return Seen(source.key, stage="probe", reason=NOT_REGULAR)
        limit.size = status.st_size
        limit.add(status.st_size / _HASHED_A_SECOND)
        same = (source.size, source.mtime_ns) == (status.st_size, status.st_mtime_ns)
        sha256 = source.sha256 if same and source.sha256 else file_sha256(source.path)
    except (OSError, ValueError):
        return Seen(source.key, stage="probe", reason="file not found")
    return Seen(source.key, status.st_size, status.st_mtime_ns, sha256)


def _worked(work: _Work, source: Wanted, keep_going: bool) -> str:
    """Run the work; why the source is lost, or nothing."""
    try:
        work.run()
    except MediaError as error:
        return error.reason
    except (MacebenchError, OSError):
        raise
    except Exception as error:
        what = f"stage {work.at} failed on {source.name}: {type(error).__name__}: {error}"
        if not keep_going:
            raise MacebenchError(f"{what}. With --keep-going it costs this source only.") from error
        return f"stage failed: {type(error).__name__}"
    return ""


def is_finished(out: Path, sha256: str, clips_hash: str) -> bool:
    """Whether there is a record of these settings and all its clips are there."""
    record = read_record(out, sha256)
    if record is None or record.clips_hash != clips_hash:
        return False
    return all(find_clip(out, sha256, clip) is not None for clip in record.clips)


def find_clip(out: Path, source_id: str, clip: ClipRecord) -> Path | None:
    """The file of a clip, new or already in its split; judged by its size."""
    name = clip_id(source_id, clip.start_s)
    for path in (part_path(out, name), *sorted((out / "clips").glob(f"*/{name}.mp4"))):
        if path.is_file() and path.stat().st_size == clip.size:
            return path
    return None


class _Work:
    """One source on its way; `at` is where it is, `costs` what was measured."""

    def __init__(self, worker: _Worker, path: Path, sha256: str, limit: _Limit) -> None:
        self.worker, self.path, self.sha256, self.limit = worker, path, sha256, limit
        self.config, self.out = worker.config, worker.plan.out
        self.at = "probe"
        self.costs: dict[str, float] = {}

    def run(self) -> None:
        """Decide on the source, cut its clips and write its record. Raises `MediaError` for passing reasons."""
        self.worker.decoder.limits = Limits()  # not those of the source before
        try:
            info, measured = probed(self.worker.store, self.worker.decoder, self.path, self.sha256)
        except MediaError as error:
            self._note_failure(error, None)
            return
        self.limit.extend(info.duration_s)
        general = self.config.general
        wall_s = general.decode_s + general.decode_per_s * self.limit.believed(info.duration_s)
        self.worker.decoder.limits = dataclasses.replace(Limits(), wall_s=wall_s)
        try:
            self._decide_and_cut(info, measured)
        except MediaError as error:
            self._note_failure(error, info)

    def _decide_and_cut(self, info: VideoInfo, measured: Timeline) -> None:
        task = Task(self.path, self.sha256, 0.0, info.duration_s, {}, info, {"probe": measured})
        stages = self.worker.stages
        early = next((i for i, stage in enumerate(stages) if isinstance(stage, ObservingStage)), len(stages))
        decided = self._decide((task,), stages[:early])
        pictures = None if decided.kept else self._first_picture()
        hopeless = False
        if decided.kept and early < len(stages):
            self.at = "decode"
            timelines, rejection = self._look(info)
            pictures = timelines.get(_THUMBNAILS.name)
            if rejection is not None:
                hopeless, pictures = True, self._first_picture()
                decided = Decided((), (*decided.ledger, LedgerRow(task, rejection)))
            else:
                seen = [dataclasses.replace(item, observed=measured_with(item, timelines)) for item in decided.kept]
                decided = self._decide(tuple(seen), stages[early:]).after(decided.ledger)
        self._finish(info.duration_s, decided, pictures, hopeless)

    def _first_picture(self) -> Timeline | None:
        """The first picture of a source that is not decoded, for its row in the ledger."""
        try:
            for batch in self.worker.decoder.frames(self.path, batch=1, max_side=_THUMBNAILS.SIDE):
                return thumbnail_of(batch.frames[0])
        except MediaError as error:
            if error.reason in PASSING:
                raise
        return None

    def _decide(self, tasks: tuple[Task, ...], stages: list[Stage]) -> Decided:
        return decide(tasks, stages, self._enter)

    def _enter(self, stage: Stage) -> None:
        self.at = stage.name

    def _look(self, info: VideoInfo) -> tuple[dict[str, Timeline], Rejection | None]:
        """The timelines of all observing stages, decoding at most once."""
        store, side = self.worker.store, self.config.general.max_side
        wanted: list[Any] = [*observers_of(self.worker.stages), _THUMBNAILS]
        found = load_timelines(store, self.sha256, wanted, side)
        missing = [stage for stage in wanted if stage.name not in found]
        if not missing:
            return found, early_end(observers_of(self.worker.stages), found)
        observed = observe(self.worker.decoder, self.path, info, missing, side)
        self._count(observed.cost)
        if observed.hopeless is not None:
            return found, observed.hopeless
        save_timelines(store, self.sha256, missing, side, observed)
        timelines = found | dict(observed.timelines)
        return timelines, early_end(observers_of(self.worker.stages), timelines)

    def _count(self, cost: Cost) -> None:
        self.costs |= {
            "look_s": cost.seconds, "video_s": cost.video_s, "frames": cost.n_frames, "pixels": cost.pixels,
        }  # fmt: skip

    def _finish(self, duration_s: float, decided: Decided, pictures: Timeline | None, hopeless: bool) -> None:
        self.at = "cut"
        clips, failed = self._cut(decided.kept, pictures)
        rejected = self._spans((*decided.ledger, *failed), pictures)
        write_record(self.out, SourceRecord(self.sha256, self.config.clips_hash, duration_s, clips, rejected, hopeless))

    def _cut(
        self, tasks: tuple[Task, ...], pictures: Timeline | None
    ) -> tuple[tuple[ClipRecord, ...], list[LedgerRow]]:
        known = {(c.start_s, c.end_s): c for c in self._earlier() if c.encode_hash == self.config.encode_hash}
        clips: list[ClipRecord] = []
        failed: list[LedgerRow] = []
        start = time.perf_counter()
        for task in tasks:
            end_s = math.nan if task.end_s is None else task.end_s
            name = clip_id(self.sha256, task.start_s)
            clip = known.get((task.start_s, end_s))
            if clip is None or find_clip(self.out, self.sha256, clip) is None:
                try:
                    made = cut_clip(self.worker.decoder, task, part_path(self.out, name), self.config.encode)
                except MediaError as error:
                    if error.reason in PASSING:
                        raise
                    failed.append(LedgerRow(task, Rejection("cut", error.reason)))
                    continue
                clip = _clip_record(task, end_s, part_path(self.out, name), made, self.config.encode_hash)
                self.costs["cut_video_s"] = self.costs.get("cut_video_s", 0.0) + (end_s - task.start_s)
            picture = self._thumbnail(pictures, f"{name}.jpg", task.start_s, end_s)
            clips.append(dataclasses.replace(clip, scores=dict(task.scores), thumbnail=picture))
        self.costs["cut_s"] = time.perf_counter() - start
        return tuple(clips), failed

    def _earlier(self) -> tuple[ClipRecord, ...]:
        record = read_record(self.out, self.sha256)
        return () if record is None else record.clips

    def _spans(self, ledger: tuple[LedgerRow, ...], pictures: Timeline | None) -> tuple[SpanRecord, ...]:
        shown: set[tuple[str, str]] = set()
        spans = []
        for row in sorted(ledger, key=lambda row: (row.task.start_s, row.rejection.stage)):
            task, why = row.task, row.rejection
            end_s = math.nan if task.end_s is None else task.end_s
            picture = ""
            if (why.stage, why.reason) not in shown and len(shown) < _MOST_REASONS:
                shown.add((why.stage, why.reason))
                name = f"{clip_id(self.sha256, task.start_s)}-{why.stage}.jpg"
                picture = self._thumbnail(pictures, name, task.start_s, end_s)
            value, threshold = (math.nan if item is None else float(item) for item in (why.value, why.threshold))
            spans.append(
                SpanRecord(task.start_s, end_s, why.stage, why.reason, value, threshold, dict(task.scores), picture)
            )
        return tuple(spans)

    def _thumbnail(self, pictures: Timeline | None, name: str, start_s: float, end_s: float) -> str:
        """Write a thumbnail; its name, or nothing when there is no picture."""
        data = b"" if pictures is None else thumbnail_at(pictures, start_s, end_s)
        if not data:
            return ""
        with atomic_write(thumbnail_path(self.out, name)) as temporary:
            temporary.write_bytes(data)
        return name

    def _note_failure(self, error: MediaError, info: VideoInfo | None) -> None:
        """Write the record of a source that cannot be read. Raises the error again when its reason may pass."""
        if error.reason in PASSING:
            raise error
        end_s = math.nan if info is None else info.duration_s
        stage = "probe" if info is None else self.at
        span = SpanRecord(0.0, end_s, stage, error.reason)
        write_record(self.out, SourceRecord(self.sha256, self.config.clips_hash, end_s, (), (span,)))


def measured_with(task: Task, timelines: Mapping[str, Timeline]) -> dict[str, Timeline]:
    """What was observed of a source before and now."""
    return {**task.observed, **{name: item for name, item in timelines.items() if name != _THUMBNAILS.name}}


def _clip_record(task: Task, end_s: float, path: Path, made: CutResult, encode_hash: str) -> ClipRecord:
    return ClipRecord(
        start_s=task.start_s, end_s=end_s, cut_start_s=made.start_s, cut_end_s=made.end_s,
        sound_share=made.sound_share, n_frames=made.n_frames, fps=made.fps, width=made.width, height=made.height,
        audio_sr=made.audio_sr, sha256=made.sha256, size=path.stat().st_size, encode_hash=encode_hash,
    )  # fmt: skip


def hung_path(out: Path, source: Wanted) -> Path:
    """Where it is noted that a source took too long."""
    return out / WORK / "hung" / hashlib.sha256(source.key).hexdigest()[:24]


class _Limit:
    """When a source has taken too long.

    Attributes:
        size: Bytes of the source.
    """

    def __init__(self, seconds: float, per_second: float) -> None:
        self.per_second = per_second
        self.deadline = time.monotonic() + seconds
        self.size = 0
        self.done = threading.Event()

    def add(self, seconds: float) -> None:
        """Give more time."""
        self.deadline += seconds

    def extend(self, duration_s: float) -> None:
        """Give the time that a source of this length may take."""
        self.add(self.per_second * self.believed(duration_s))

    def believed(self, duration_s: float) -> float:
        """The length that a source says it has, at most that of its bytes at 16 kbit/s: a lie costs bounded time."""
        return min(duration_s, self.size / _LEAST_BYTES_A_SECOND) if math.isfinite(duration_s) else 0.0

    def wait(self, note: Path) -> None:
        """End the process when the time is over before the work is done."""
        while not self.done.wait(0.2):
            if time.monotonic() > self.deadline:
                with contextlib.suppress(OSError):
                    note.parent.mkdir(parents=True, exist_ok=True)
                    note.write_text(TIMED_OUT, "utf-8")
                os._exit(_EXIT_HUNG)


@contextlib.contextmanager
def _time_limit(worker: _Worker, source: Wanted) -> Iterator[_Limit]:
    note = hung_path(worker.plan.out, source)
    note.unlink(missing_ok=True)
    limit = _Limit(worker.config.general.source_s, worker.config.general.source_per_s)
    watch = threading.Thread(target=limit.wait, args=(note,), daemon=True)
    watch.start()
    try:
        yield limit
    finally:
        limit.done.set()
        watch.join()


def crash_reason(out: Path, source: Wanted) -> str:
    """Why the worker that had this source died."""
    note = hung_path(out, source)
    reason = TIMED_OUT if note.is_file() else CRASHED
    note.unlink(missing_ok=True)
    return reason


__all__ = [
    "CRASHED", "TIMED_OUT", "WorkerPlan", "crash_reason", "find_clip", "is_finished", "process_source",
    "setup_worker",
]  # fmt: skip
