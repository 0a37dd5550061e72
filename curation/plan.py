"""What a curation would do and how long it would take.

Sources are counted; some of them, chosen by the hash of their names, are probed and sent through the stages that need
no pictures. Time comes from what earlier runs with the same observers have measured (in the data set's folder, else in
the store); where nothing was measured, a few sampled sources are decoded for some seconds. Of recordings of 3-D motion
some are read, and of one that is not drawn yet one second is drawn. What is refused is not opened.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import stat
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from macebench import registry
from macebench.curation.config import CurateConfig, config_from_plain
from macebench.curation.cut import cut_clip
from macebench.curation.decide import decide
from macebench.curation.job import is_finished
from macebench.curation.observe import Thumbnails, observers_of, timeline_key
from macebench.curation.records import WORK, Index, Wanted
from macebench.curation.sources import check_sources
from macebench.curation.stage import Task
from macebench.curation.stages import probe
from macebench.engine import Crashed, Work, run_jobs
from macebench.errors import MediaError
from macebench.media import Decoder, VideoInfo, file_sha256
from macebench.store import Artifact, Ingredients, Store, default_store_path

if TYPE_CHECKING:
    from macebench.curation.motion_sources import MotionSource
    from macebench.curation.pipeline import CurateJob

SAMPLE = 48
"""Sources that are looked at."""
_SPEEDS = "curate-speed"
_TRIALS, _MOST_TRIALS, _TRIAL_S, _WARM_UP_S = 3, 8, 8.0, 2.0
_START_S = 3.0
_RECORDINGS = 12
"""Recordings that are read: each is some megabytes and a piece of music."""
_DRAWN_S = 1.0


@dataclass(frozen=True)
class Speeds:
    """What was measured.

    Attributes:
        look_s: Seconds of decoding and observing for each second of video.
        rest_s: Seconds of hashing, probing, deciding and cutting for each second of video that was decoded.
        other_s: Seconds for a source that is not decoded.
        start_s: Seconds until all workers are ready, and to put the tables together.
    """

    look_s: float
    rest_s: float
    other_s: float
    start_s: float


@dataclass(frozen=True)
class Plan:
    """What would be done.

    Attributes:
        n_sources: Sources: files, and recordings of 3-D motion.
        n_bytes: Their size; of a recording that of its motion.
        source_s: Their length in seconds; what cannot be read has none.
        n_finished: Sources that an earlier run has finished.
        decode_s: Length of what has to be decoded.
        seconds: Estimated wall-clock time; None when nothing can be measured.
        sampled: Length and time are estimated from a sample of the sources.
        basis: Where the speeds come from.
        n_recordings: Recordings of 3-D motion among the sources.
        n_render: Recordings of which something has to be drawn.
        render_s: Length of the video that has to be drawn; it has to be decoded, too.
        passed_over: Folders and videos among the sources that belong to a data set and are not taken, sorted.
    """

    n_sources: int
    n_bytes: int
    source_s: float
    n_finished: int
    decode_s: float
    seconds: float | None
    sampled: bool
    basis: str
    n_recordings: int = 0
    n_render: int = 0
    render_s: float = 0.0
    passed_over: tuple[str, ...] = ()


@dataclass
class _Sampled:
    """Sums over the sources that were looked at; `factor` leads to all there are."""

    n: float = 0
    n_bytes: float = 0
    source_s: float = 0.0
    finished: float = 0
    refused: float = 0
    decode_s: float = 0.0
    ready_s: float = 0.0
    n_other: float = 0
    n_render: float = 0
    render_s: float = 0.0

    def scaled(self, factor: float, count: int) -> _Sampled:
        """The same for all sources, `count` of them."""
        if factor == 1.0:
            return self
        share = count / max(self.n, 1)
        counts = {name: round(getattr(self, name) * share) for name in ("finished", "refused", "n_other", "n_render")}
        sums = {name: getattr(self, name) * factor for name in ("source_s", "decode_s", "ready_s", "render_s")}
        return _Sampled(count, round(self.n_bytes * factor), **counts, **sums)

    def plus(self, other: _Sampled) -> _Sampled:
        """The sums of both."""
        return _Sampled(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))


def make_plan(job: CurateJob, progress: Callable[[str, int, int], None]) -> Plan:
    """Look at the sources without changing anything.

    Raises:
        UserError: a source that is not there, or no source at all; or what is needed to draw is not there.
    """
    from macebench.curation.pipeline import chosen

    if not job.motions:
        check_sources(job.sources, Path(job.out))
    index, passed = Index(None), set[Path]()
    try:
        files, recordings = chosen(job, passed.add)
        index.plan(files, None if job.motions else job.limit)
        n_files, n_bytes = index.counts()
        some = _sample(index)
    finally:
        index.close()
    store = Store(job.store if job.store is not None else default_store_path())
    with tempfile.TemporaryDirectory() as folder, Decoder() as decoder:
        looked, decodable = _look(some, job, decoder, store, progress)
        factor = 1.0 if looked.n >= n_files else n_bytes / max(looked.n_bytes, 1)
        found = look_at_recordings(recordings, job, decoder, store, progress)
        trial = found.try_one(job, Path(folder) / "trial.mp4", decoder)
        whole = looked.scaled(factor, n_files).plus(found.sums.scaled(found.factor, len(recordings)))
        speeds, basis = load_speeds(store, job.config), "an earlier run"
        if speeds is None and whole.decode_s:
            speeds, basis = _trials(job, decodable or trial.videos), "a trial on some seconds of video"
    seconds = None if speeds is None else _seconds(whole, speeds, job.workers)
    if seconds is None and whole.finished + whole.refused == whole.n:
        seconds, basis = _START_S, "nothing left to do"
    elif seconds is not None and whole.n_render:
        seconds += (whole.n_render * trial.read_s + whole.render_s * trial.draw_s) / job.workers
        basis += " and a second of drawing"
    return Plan(
        n_files + len(recordings), int(whole.n_bytes), whole.source_s, int(whole.finished), whole.decode_s, seconds,
        max(factor, found.factor) != 1.0, basis, len(recordings), int(whole.n_render), whole.render_s,
        tuple(sorted(map(str, passed))),
    )  # fmt: skip


def _seconds(whole: _Sampled, speeds: Speeds, workers: int) -> float:
    work = whole.decode_s * (speeds.look_s + speeds.rest_s) + whole.ready_s * speeds.rest_s
    return speeds.start_s + (work + whole.n_other * speeds.other_s) / workers


def _sample(index: Index) -> list[Wanted]:
    """Up to `SAMPLE` sources, the same ones each time."""
    chosen: list[tuple[bytes, Wanted]] = []
    for chunk in index.chunks(2048):
        chosen += [(hashlib.sha256(item.name.encode()).digest(), item) for item in chunk]
        chosen = sorted(chosen, key=lambda pair: (pair[0], pair[1].key))[:SAMPLE]
    return [item for _, item in chosen]


def _look(
    chosen: Sequence[Wanted], job: CurateJob, decoder: Decoder, store: Store, progress: Callable[[str, int, int], None]
) -> tuple[_Sampled, list[tuple[Path, VideoInfo]]]:
    sums, decodable = _Sampled(), []
    for number, source in enumerate(chosen):
        progress("sample", number, len(chosen))
        info = _look_at(source, job, decoder, store, sums)
        if info is not None:
            decodable.append((source.path, info))
    progress("sample", len(chosen), len(chosen))
    return sums, decodable


def _look_at(source: Wanted, job: CurateJob, decoder: Decoder, store: Store, sums: _Sampled) -> VideoInfo | None:
    """Add a source to the sums; what it says of itself comes back where it has to be decoded."""
    sums.n += 1
    try:
        status = source.path.stat()
        if source.refused or not stat.S_ISREG(status.st_mode):
            sums.refused += 1
            return None
        sums.n_bytes += status.st_size
        sha256 = file_sha256(source.path)
        finished = is_finished(Path(job.out), sha256, job.config.clips_hash)
    except (OSError, ValueError):
        sums.refused += source.refused != ""
        sums.n_other += source.refused == ""
        return None
    sums.finished += finished
    try:
        info, measured = probe.measure(decoder, source.path)
    except MediaError:
        sums.n_other += not finished
        return None
    sums.source_s += info.duration_s
    state = "finished" if finished else _state(source, sha256, info, measured, job.config, store)
    if state == "decode":
        sums.decode_s += info.duration_s
        return info
    sums.ready_s += info.duration_s if state == "ready" else 0.0
    sums.n_other += state == "dropped"
    return None


@dataclass(frozen=True)
class _Drawn:
    """What a trial of drawing has shown.

    Attributes:
        read_s: Seconds for reading and measuring a recording.
        draw_s: Seconds for each second of video.
        videos: The video it made, if any.
    """

    read_s: float = 0.0
    draw_s: float = 0.0
    videos: tuple[tuple[Path, VideoInfo], ...] = ()


@dataclass
class _Recordings:
    """The recordings that were looked at; `todo` have to be drawn."""

    sums: _Sampled
    factor: float
    todo: list[MotionSource]

    def try_one(self, job: CurateJob, video: Path, decoder: Decoder) -> _Drawn:
        """Draw the beginning of one of them."""
        if not self.todo:
            return _Drawn()
        from macebench.curation.render import try_render

        read_s, draw_s = try_render(self.todo[0], video, job.config.render, _DRAWN_S)
        return _Drawn(read_s, draw_s, ((video, decoder.probe(video)),))


def look_at_recordings(
    recordings: Sequence[MotionSource],
    job: CurateJob,
    decoder: Decoder,
    store: Store,
    progress: Callable[[str, int, int], None],
) -> _Recordings:
    """Read some recordings: how long their takes are, and which of them have been drawn already."""
    sizes = {source.name: _size(source.motion) for source in recordings}
    by_hash = sorted(recordings, key=lambda source: hashlib.sha256(source.name.encode("utf-8", "replace")).digest())
    some = by_hash[:_RECORDINGS]
    found = _Recordings(_Sampled(), 1.0, [])
    for number, source in enumerate(some):
        progress("recordings", number, len(some))
        one = _look_at_recording(source, job, decoder, store)
        found.todo += [source] if one.n_render else []
        found.sums = found.sums.plus(dataclasses.replace(one, n_bytes=sizes[source.name]))
    if len(some) < len(recordings):
        found.factor = sum(sizes.values()) / max(found.sums.n_bytes, 1)
    return found


def _look_at_recording(source: MotionSource, job: CurateJob, decoder: Decoder, store: Store) -> _Sampled:
    """The sums of one recording, which count it as one source."""
    from macebench.curation.pipeline import RENDERED
    from macebench.curation.render import planned_takes

    try:
        takes = planned_takes(source, Path(job.out).absolute() / WORK / RENDERED, job.config.render)
    except (MediaError, OSError):
        return _Sampled(1, refused=1)
    made, missing = _Sampled(), sum(seconds for seconds, video in takes if video is None)
    videos = [video for _, video in takes if video is not None]
    for video in videos:
        _look_at(Wanted(os.fsencode(video), video.name, "", {}, 0, 0, ""), job, decoder, store, made)
    return dataclasses.replace(
        made, n=1, finished=int(made.finished == len(takes)), source_s=made.source_s + missing,
        decode_s=made.decode_s + missing, n_render=int(len(videos) < len(takes)), render_s=missing,
    )  # fmt: skip


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def _state(
    source: Wanted, sha256: str, info: VideoInfo, measured: Any, config: CurateConfig, store: Store
) -> Literal["dropped", "ready", "decode"]:
    """Whether a source is dropped before it is decoded, its timelines are all there, or it has to be decoded."""
    stages = config.make_stages()
    observing = observers_of(stages)
    first = stages.index(observing[0]) if observing else len(stages)
    task = Task(source.path, sha256, 0.0, info.duration_s, {}, info, {"probe": measured})
    if not decide((task,), stages[:first]).kept:
        return "dropped"
    side = config.general.max_side
    wanted: list[Any] = [*observing, Thumbnails()] if observing else []
    return "ready" if all(store.has(timeline_key(stage, sha256, side)) for stage in wanted) else "decode"


def _speed_key(config: CurateConfig) -> Ingredients:
    observing: list[Any] = [*observers_of(config.make_stages()), Thumbnails()]
    keys = {stage.name: timeline_key(stage, "", config.general.max_side).as_dict() for stage in observing}
    return Ingredients(_SPEEDS, 1, {}, {"observers": keys, "encode": config.encode_hash})


def load_speeds(store: Store, config: CurateConfig) -> Speeds | None:
    """What the last run with the same observers and encoding has measured."""
    artifact = store.get(_speed_key(config))
    return None if artifact is None else Speeds(**{k: float(v) for k, v in artifact.meta.items()})


@dataclass
class Measured:
    """Adds up what the sources of a run have cost (`Seen.costs`)."""

    video_s: float = 0.0
    look_s: float = 0.0
    decoded_s: float = 0.0
    other_s: float = 0.0
    n_other: int = 0

    def add(self, costs: Mapping[str, float]) -> None:
        """Count one source; one that was finished before has no costs."""
        if costs.get("look_s"):
            self.video_s += costs["video_s"]
            self.look_s += costs["look_s"]
            self.decoded_s += costs["source_s"]
        elif costs:
            self.other_s += costs["source_s"]
            self.n_other += 1

    def save(self, store: Store, config: CurateConfig, wall_s: float, workers: int) -> None:
        """Keep the speeds of a run of `wall_s` seconds, when it has decoded enough to say anything."""
        if self.video_s < _TRIAL_S:
            return
        rest_s, other_s = self.decoded_s - self.look_s, self.other_s / max(self.n_other, 1)
        start_s = max(wall_s - (self.decoded_s + self.other_s) / workers, 0.0)
        speeds = Speeds(self.look_s / self.video_s, rest_s / self.video_s, other_s, start_s)
        store.put(_speed_key(config), Artifact({}, dataclasses.asdict(speeds)))


@dataclass(frozen=True)
class _Trial:
    """What one worker tries: some seconds of a few sources."""

    config: Mapping[str, Any]
    plugins: tuple[Path, ...]
    sources: tuple[tuple[Path, VideoInfo], ...]


def _trials(job: CurateJob, sources: Sequence[tuple[Path, VideoInfo]]) -> Speeds | None:
    """Observe and cut some seconds of a few sources, with as many workers at a time as the run will have."""
    count = min(job.workers, len(sources), _MOST_TRIALS)
    plugins = tuple(Path(path).absolute() for path in job.plugins)
    trials = [
        _Trial(job.config.plain(), plugins, tuple(sources[number::count][:_TRIALS])) for number in range(count)
    ]  # fmt: skip
    found = [result for _, result in run_jobs(Work(try_out), trials, workers=count) if not isinstance(result, Crashed)]
    looked = [item for item in found if item[1] > 0]
    if not looked:
        return None
    look_s = sum(item[0] for item in looked) / sum(item[1] for item in looked)
    return Speeds(look_s, sum(item[2] for item in looked) / len(looked), 0.3, _START_S)


def try_out(trial: _Trial) -> tuple[float, float, float]:
    """In a worker: (seconds of observing, seconds of video observed, seconds of cutting a second of video)."""
    import cv2

    cv2.setNumThreads(1)
    for path in trial.plugins:
        registry.load_plugin(path)
    config = config_from_plain(trial.config)
    observing: list[Any] = [*observers_of(config.make_stages()), Thumbnails()]
    spent = video_s = 0.0
    with Decoder() as decoder:
        for path, info in trial.sources:
            seconds, length = _trial_look(decoder, path, info, observing, config)
            spent, video_s = spent + seconds, video_s + length
        cut = _trial_cut(config, trial.sources[0], decoder)
    return spent, video_s, cut


def _trial_look(
    decoder: Decoder, path: Path, info: VideoInfo, observing: Sequence[Any], config: CurateConfig
) -> tuple[float, float]:
    """(Seconds spent, seconds of video) after a warm-up."""
    observers = [stage.observe(info) for stage in observing]
    begin, first_s, last_s = math.nan, 0.0, 0.0
    try:
        for batch in decoder.frames(path, max_side=config.general.max_side):
            for observer in observers:
                observer.update(batch.frames, batch.times_s)
            last_s = float(batch.times_s[-1])
            if math.isnan(begin) and last_s >= min(_WARM_UP_S, info.duration_s / 3):
                begin, first_s = time.perf_counter(), last_s
            if last_s >= _TRIAL_S:
                break
    except MediaError:
        pass
    return (0.0, 0.0) if math.isnan(begin) else (time.perf_counter() - begin, last_s - first_s)


def _trial_cut(config: CurateConfig, source: tuple[Path, VideoInfo], decoder: Decoder) -> float:
    """Seconds of cutting for each second of video."""
    path, info = source
    end_s = min(5.0, info.duration_s)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            cut_clip(decoder, Task(path, "0" * 64, 0.0, end_s, {}, info), Path(folder) / "trial.mp4", config.encode)
        except MediaError:
            return 0.0
    return (time.perf_counter() - start) / end_s
