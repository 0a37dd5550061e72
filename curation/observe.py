"""Decode a source once, let every observer look on, keep what they saw.

Pictures are delivered with at most `max_side` pixels on the longer side, the same for every observer and whichever of
them are missing, so that a timeline never depends on what else was observed. `max_side` is part of its key in the
store.

An observer may have a method ``hopeless() -> Rejection | None``: once the pictures so far make sure that nothing of the
source can be kept, whatever follows, it says why, and decoding stops. It is asked at fixed times of the source (every
`CHECK_S` seconds), never between batches, so that the result does not depend on batch sizes. A stage whose observer
gives up has a method ``hopeless(timeline)`` too, with the same answer for the whole timeline as for its beginning: so
it makes no difference whether a timeline comes from the file or from the store (`early_end`).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.curation._pictures import resized, working_size
from macebench.curation.stage import ObservingStage, Rejection, Stage, Timeline
from macebench.curation.stages import probe
from macebench.errors import MediaError
from macebench.media import Decoder, VideoInfo
from macebench.store import Artifact, Ingredients, Store
from macebench.types import FloatArray

CHECK_S = 30.0
PASSING = (
    "file not found", "decoder ran out of memory", "decoder timed out", "decoder crashed", "encoder crashed",
)  # fmt: skip
"""Reasons that may be others the next time; every other reason depends on the file's bytes alone."""
_BATCH = 16
_VALUE = "value."


@dataclass(frozen=True)
class Cost:
    """What a decode pass cost.

    Attributes:
        seconds: Wall-clock time.
        video_s: Length of what was decoded.
        n_frames: Pictures.
        pixels: Of one picture as delivered by the file.
    """

    seconds: float
    video_s: float
    n_frames: int
    pixels: int


@dataclass(frozen=True)
class Observed:
    """What came out of one decode pass.

    Attributes:
        timelines: By stage name; empty when the pass was ended early.
        hopeless: Why it was ended early, or None.
        cost: What it cost.
    """

    timelines: Mapping[str, Timeline]
    hopeless: Rejection | None
    cost: Cost


class Thumbnails:
    """Keeps small pictures of a source, at most `MOST` and at least `STEP_S` seconds apart."""

    name = "thumbnails"
    config = None
    MOST = 240
    STEP_S = 0.5
    SIDE = 160
    QUALITY = 70

    def observer_settings(self) -> Mapping[str, Any]:
        """What decides the pictures."""
        return {"version": 2, "most": self.MOST, "step_s": self.STEP_S, "side": self.SIDE, "quality": self.QUALITY}

    def observe(self, info: VideoInfo) -> _ThumbnailObserver:
        """A fresh observer."""
        return _ThumbnailObserver(max(self.STEP_S, info.duration_s / self.MOST))


class _ThumbnailObserver:
    def __init__(self, step_s: float) -> None:
        self._step_s, self._due_s = step_s, 0.0
        self._times: list[float] = []
        self._pictures: list[NDArray[np.uint8]] = []

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        for frame, time_s in zip(frames, times_s.tolist(), strict=True):
            if time_s >= self._due_s:
                self._times.append(time_s)
                self._pictures.append(jpeg(frame))
                self._due_s = time_s + self._step_s

    def finish(self) -> Timeline:
        """One sample a picture: ``jpeg``, its file padded to the longest one, and ``size``, its bytes."""
        longest = max((len(item) for item in self._pictures), default=0)
        padded = np.zeros((len(self._pictures), longest), np.uint8)
        for row, item in zip(padded, self._pictures, strict=True):
            row[: len(item)] = item
        sizes = np.array([len(item) for item in self._pictures], np.int64)
        return Timeline(np.array(self._times, np.float64), {"jpeg": padded, "size": sizes})


def jpeg(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) RGB made small, as the bytes of a JPEG file."""
    import cv2

    height, width = working_size(frame.shape, Thumbnails.SIDE)
    small = np.ascontiguousarray(resized(frame, height, width)[..., ::-1])
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, Thumbnails.QUALITY])
    return np.asarray(data, np.uint8).ravel()


def thumbnail_of(frame: NDArray[np.uint8]) -> Timeline:
    """A timeline of `Thumbnails` with this one picture."""
    data = jpeg(frame)
    return Timeline(np.zeros(1), {"jpeg": data[None], "size": np.array([len(data)], np.int64)})


def thumbnail_at(timeline: Timeline, start_s: float, end_s: float) -> bytes:
    """The JPEG nearest to the middle of a span, from inside it where there is one; empty when there is none at all."""
    times = timeline.times_s
    if not len(times):
        return b""
    middle = (start_s + end_s) / 2
    outside = (times < start_s) | (times >= end_s)
    index = int(np.lexsort((np.abs(times - middle), outside))[0])
    return timeline.values["jpeg"][index, : int(timeline.values["size"][index])].tobytes()


def observers_of(stages: Sequence[Stage]) -> list[ObservingStage]:
    """The stages that look at pictures."""
    return [stage for stage in stages if isinstance(stage, ObservingStage)]


def timeline_key(stage: ObservingStage, source_id: str, max_side: int) -> Ingredients:
    """Key of a stage's timeline of one source."""
    settings = dict(stage.observer_settings())
    version = int(settings.pop("version"))
    settings = json.loads(json.dumps(settings)) | {"max_side": max_side}
    return Ingredients(f"curate-{stage.name}", version, {"source": source_id}, settings)


def load_timelines(
    store: Store, source_id: str, stages: Sequence[ObservingStage], max_side: int
) -> dict[str, Timeline]:
    """What the store holds of the stages' timelines."""
    found = {}
    for stage in stages:
        artifact = store.get(timeline_key(stage, source_id, max_side))
        if artifact is not None:
            arrays = {k.removeprefix(_VALUE): v for k, v in artifact.arrays.items() if k.startswith(_VALUE)}
            found[stage.name] = Timeline(artifact.arrays["times_s"], arrays, artifact.meta["meta"])
    return found


def save_timelines(
    store: Store, source_id: str, stages: Sequence[ObservingStage], max_side: int, observed: Observed
) -> None:
    """Put the timelines of one pass into the store."""
    for stage in stages:
        timeline = observed.timelines[stage.name]
        arrays = {"times_s": timeline.times_s, **{_VALUE + name: array for name, array in timeline.values.items()}}
        meta = {"meta": dict(timeline.meta), "cost": dataclasses.asdict(observed.cost)}
        store.put(timeline_key(stage, source_id, max_side), Artifact(arrays, meta))


def observe(
    decoder: Decoder,
    path: Path,
    info: VideoInfo,
    stages: Sequence[ObservingStage],
    max_side: int,
    *,
    batch: int = _BATCH,
) -> Observed:
    """Decode `path` once and feed the observers of `stages`.

    Raises:
        MediaError: the source breaks while it is decoded.
    """
    start = time.perf_counter()
    observers = {stage.name: stage.observe(info) for stage in stages}
    count, last_s, checks = 0, 0.0, 1
    hopeless: Rejection | None = None
    pictures = decoder.frames(path, batch=batch, max_side=max_side)
    for frames, times_s in _pieces(pictures):
        if times_s[0] >= checks * CHECK_S:
            checks = int(times_s[0] // CHECK_S) + 1
            hopeless = _ask(observers.values())
            if hopeless is not None:
                break
        for observer in observers.values():
            observer.update(frames, times_s)
        count, last_s = count + len(times_s), float(times_s[-1])
    pictures.close()  # type: ignore[attr-defined]
    timelines = {} if hopeless else {name: observer.finish() for name, observer in observers.items()}
    cost = Cost(time.perf_counter() - start, last_s, count, info.width * info.height)
    return Observed(timelines, hopeless, cost)


def _pieces(batches: Iterator[Any]) -> Iterator[tuple[NDArray[np.uint8], FloatArray]]:
    """Batches, cut where a time to ask lies inside one."""
    for batch in batches:
        parts = np.floor(batch.times_s / CHECK_S)
        borders = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(batch.times_s)]
        for low, high in pairwise(borders):
            yield batch.frames[low:high], batch.times_s[low:high]


def _ask(observers: Any) -> Rejection | None:
    """The first reason why nothing can be kept."""
    for observer in observers:
        ask = getattr(observer, "hopeless", None)
        reason: Rejection | None = ask() if ask is not None else None
        if reason is not None:
            return reason
    return None


def early_end(stages: Sequence[ObservingStage], timelines: Mapping[str, Timeline]) -> Rejection | None:
    """The first reason why a source with these timelines is, or would have been, ended early."""
    for stage in stages:
        ask = getattr(stage, "hopeless", None)
        reason: Rejection | None = ask(timelines[stage.name]) if ask is not None else None
        if reason is not None:
            return reason
    return None


def probe_key(source_id: str) -> Ingredients:
    """Key of what a source says of itself."""
    return Ingredients("curate-probe", probe.VERSION, {"source": source_id}, {})


def load_probed(store: Store, source_id: str) -> tuple[VideoInfo, Timeline] | None:
    """What the store knows of a source's container and sound, or None.

    Raises:
        MediaError: it is known that the source cannot be read.
    """
    artifact = store.get(probe_key(source_id))
    if artifact is None:
        return None
    if "failed" in artifact.meta:
        raise MediaError(str(artifact.meta["failed"]))
    info = VideoInfo(**artifact.meta["info"])
    return info, Timeline(np.zeros(0), {}, {"level_db": float(artifact.meta["level_db"])})


def probed(store: Store, decoder: Decoder, path: Path, source_id: str) -> tuple[VideoInfo, Timeline]:
    """What a source says of itself, from the store or from the file.

    Raises:
        MediaError: it cannot be read.
    """
    known = load_probed(store, source_id)
    if known is not None:
        return known
    try:
        info, measured = probe.measure(decoder, path)
    except MediaError as error:
        if error.reason not in PASSING:
            store.put(probe_key(source_id), Artifact({}, {"failed": error.reason}))
        raise
    meta = {"info": dataclasses.asdict(info), "level_db": measured.meta["level_db"]}
    store.put(probe_key(source_id), Artifact({}, meta))
    return info, measured
