"""What a curation would do and how long it would take.

Sources are counted; some of them, chosen by the hash of their names, are probed and sent through the stages that need
no pictures. Time comes from what earlier runs with the same observers have measured (in the data set's folder, else in
the store); where nothing was measured, a few sampled sources are decoded for some seconds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
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
from macebench.curation.records import Index, Wanted
from macebench.curation.sources import check_sources, iter_sources
from macebench.curation.stage import Task
from macebench.curation.stages import probe
from macebench.engine import Crashed, Work, run_jobs
from macebench.errors import MediaError
from macebench.media import Decoder, VideoInfo, file_sha256
from macebench.store import Artifact, Ingredients, Store, default_store_path

if TYPE_CHECKING:
    from macebench.curation.pipeline import CurateJob

SAMPLE = 48
"""Sources that are looked at."""
_SPEEDS = "curate-speed"
_TRIALS, _MOST_TRIALS, _TRIAL_S, _WARM_UP_S = 3, 8, 8.0, 2.0
_START_S = 3.0


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
        n_sources: Sources.
        n_bytes: Their size.
        source_s: Their length in seconds.
        n_finished: Sources that an earlier run has finished.
        decode_s: Length of what has to be decoded.
        seconds: Estimated wall-clock time; None when nothing can be measured.
        sampled: Length and time are estimated from a sample of the sources.
        basis: Where the speeds come from.
    """

    n_sources: int
    n_bytes: int
    source_s: float
    n_finished: int
    decode_s: float
    seconds: float | None
    sampled: bool
    basis: str


@dataclass
class _Sampled:
    """Sums over the sources that were looked at."""

    n: int = 0
    n_bytes: int = 0
    source_s: float = 0.0
    finished: int = 0
    decode_s: float = 0.0
    ready_s: float = 0.0
    n_other: int = 0


def make_plan(job: CurateJob, progress: Callable[[str, int, int], None]) -> Plan:
    """Look at the sources without changing anything.

    Raises:
        UserError: a source that is not there, or no source at all.
    """
    if not job.motions:
        check_sources(job.sources)
    index = Index(None)
    try:
        index.plan(iter_sources(job.sources), job.limit)
        n_sources, n_bytes = index.counts()
        chosen = _sample(index)
    finally:
        index.close()
    store = Store(job.store if job.store is not None else default_store_path())
    with Decoder() as decoder:
        looked, decodable = _look(chosen, job, decoder, store, progress)
        speeds, basis = load_speeds(store, job.config), "an earlier run"
        if speeds is None and looked.decode_s:
            speeds, basis = _trials(job, decodable), "a trial on some seconds of video"
    factor = 1.0 if looked.n >= n_sources else n_bytes / max(looked.n_bytes, 1)
    seconds = None if speeds is None else _seconds(looked, speeds, factor, job.workers)
    if seconds is None and looked.finished == looked.n:
        seconds, basis = _START_S, "nothing left to do"
    finished = looked.finished if factor == 1.0 else round(looked.finished * n_sources / max(looked.n, 1))
    return Plan(
        n_sources, n_bytes, looked.source_s * factor, finished, looked.decode_s * factor, seconds, factor != 1.0, basis
    )


def _seconds(looked: _Sampled, speeds: Speeds, factor: float, workers: int) -> float:
    work = looked.decode_s * (speeds.look_s + speeds.rest_s) + looked.ready_s * speeds.rest_s
    work += looked.n_other * speeds.other_s
    return speeds.start_s + work * factor / workers


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
        sums.n += 1
        finished = False
        try:
            sums.n_bytes += source.path.stat().st_size
            sha256 = file_sha256(source.path)
            finished = is_finished(Path(job.out), sha256, job.config.clips_hash)
            info, measured = probe.measure(decoder, source.path)
        except (MediaError, OSError, ValueError):
            sums.finished, sums.n_other = sums.finished + finished, sums.n_other + (not finished)
            continue
        sums.source_s += info.duration_s
        if finished:
            sums.finished += 1
            continue
        state = _state(source, sha256, info, measured, job.config, store)
        if state == "decode":
            sums.decode_s += info.duration_s
            decodable.append((source.path, info))
        elif state == "ready":
            sums.ready_s += info.duration_s
        else:
            sums.n_other += 1
    progress("sample", len(chosen), len(chosen))
    return sums, decodable


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
