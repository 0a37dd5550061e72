"""What the audit reads off one clip file: hash, picture and sound, in a worker process."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from macebench.curation import fingerprint, posehash
from macebench.curation.fingerprint import Fingerprint
from macebench.curation.posehash import MotionHash, MotionHasher
from macebench.engine import Crashed, EngineName, Work, run_jobs
from macebench.errors import MediaError
from macebench.media import Decoder, file_sha256
from macebench.store import Artifact, Ingredients, Store
from macebench.types import Array

VERSION = 1
_SIDE = 160
_NUMBERS = ("width", "height", "fps", "duration_s", "n_frames", "has_audio")


@dataclass(frozen=True)
class InspectJob:
    """One clip to look at.

    Attributes:
        clip_id: Its id.
        path: Its file.
        sha256: What its hash should be; empty when the manifest does not say.
        music: A sound file that belongs to it, or None.
        music_sha256: What its hash should be; empty when the manifest does not say.
    """

    clip_id: str
    path: Path
    sha256: str = ""
    music: Path | None = None
    music_sha256: str = ""


@dataclass(frozen=True)
class Inspected:
    """What was found.

    Attributes:
        clip_id: Its id.
        sha256: Hash of the file; empty when it cannot be read.
        problem: Why it cannot be used, or empty.
        wrong: Hashes that are not what the manifest says: ``sha256``, ``music_sha256``.
        width, height, fps, duration_s, n_frames: Of the video; NaN and 0 when unknown.
        has_audio: Whether it has sound.
        sound: Fingerprint of the sound, or None.
        motion: Hash of the pictures, or None.
    """

    clip_id: str
    sha256: str = ""
    problem: str = ""
    wrong: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    fps: float = math.nan
    duration_s: float = math.nan
    n_frames: int = 0
    has_audio: bool = False
    sound: Fingerprint | None = None
    motion: MotionHash | None = None


def inspect_all(
    jobs: Sequence[InspectJob],
    *,
    quick: bool,
    store: Path | None,
    workers: int,
    progress: Callable[[str, int, int], None],
    engine: EngineName = "local",
) -> list[Inspected]:
    """Look at all clips; results in the order of the jobs, whatever the number of workers.

    Args:
        jobs: The clips.
        quick: Only hash the file and decode one picture.
        store: Folder of the store; None takes the user's.
        workers: Processes; 1 works in this process.
        progress: Called with (phase, done, total).
        engine: Where the workers run.
    """
    phase = "verify" if quick else "inspect"
    found: list[Inspected | None] = [None] * len(jobs)
    progress(phase, 0, len(jobs))
    for done, (index, result) in enumerate(_results(jobs, quick, store, workers, engine), 1):
        found[index] = Inspected(jobs[index].clip_id, problem=result.reason) if isinstance(result, Crashed) else result
        progress(phase, done, len(jobs))
    return [one for one in found if one is not None]


def _results(
    jobs: Sequence[InspectJob], quick: bool, store: Path | None, workers: int, engine: EngineName
) -> Iterator[tuple[int, Inspected | Crashed]]:
    if workers > 1 or engine != "local":
        work = Work(_inspect_in_worker, _setup, (quick, store))
        yield from run_jobs(work, jobs, workers=workers, engine=engine)
        return
    with Decoder() as decoder:
        for index, job in enumerate(jobs):
            yield index, inspect_clip(job, decoder, Store(store), quick=quick)


_state: dict[str, tuple[Decoder, Store, bool]] = {}


def _setup(quick: bool, store: Path | None) -> None:
    import cv2

    cv2.setNumThreads(1)
    _state["worker"] = (Decoder(), Store(store), quick)


def _inspect_in_worker(job: InspectJob) -> Inspected:
    decoder, store, quick = _state["worker"]
    return inspect_clip(job, decoder, store, quick=quick)


def inspect_clip(job: InspectJob, decoder: Decoder, store: Store, *, quick: bool) -> Inspected:
    """Look at one clip; what was computed for the same bytes before comes from the store."""
    try:
        sha256 = file_sha256(job.path)
    except OSError:
        return Inspected(job.clip_id, problem="file not found")
    wrong = tuple(name for name, bad in _wrong(job, sha256) if bad)
    try:
        seen = _probed(job, decoder) if quick else _decoded(job, sha256, decoder, store)
    except MediaError as error:
        return Inspected(job.clip_id, sha256, error.reason, wrong)
    return dataclasses.replace(seen, sha256=sha256, wrong=wrong)


def _wrong(job: InspectJob, sha256: str) -> Iterator[tuple[str, bool]]:
    yield "sha256", bool(job.sha256) and sha256 != job.sha256
    if job.music is not None and job.music_sha256:
        yield "music_sha256", file_sha256(job.music) != job.music_sha256


def _probed(job: InspectJob, decoder: Decoder) -> Inspected:
    info = decoder.probe(job.path)
    return Inspected(
        job.clip_id, width=info.width, height=info.height, fps=info.fps, duration_s=info.duration_s,
        n_frames=info.n_frames or 0, has_audio=info.has_audio,
    )  # fmt: skip


def _decoded(job: InspectJob, sha256: str, decoder: Decoder, store: Store) -> Inspected:
    versions = {"fingerprint": fingerprint.VERSION, "posehash": posehash.VERSION, "side": _SIDE}
    ingredients = Ingredients("audit", VERSION, {"video": sha256}, versions)
    known = store.get(ingredients)
    if known is None:
        known = _artifact(_computed(job, decoder))
        store.put(ingredients, known)
    return _from_artifact(job.clip_id, known)


def _computed(job: InspectJob, decoder: Decoder) -> Inspected:
    seen = _probed(job, decoder)
    hasher, last = MotionHasher(), 0.0
    count = 0
    for batch in decoder.frames(job.path, max_side=_SIDE):
        hasher.update(batch.frames, batch.times_s)
        count, last = count + len(batch), float(batch.times_s[-1])
    length = last * count / (count - 1) if count > 1 else seen.duration_s
    return dataclasses.replace(
        seen, n_frames=count, duration_s=length, sound=_sound(job, decoder, seen.has_audio), motion=hasher.finish()
    )


def _sound(job: InspectJob, decoder: Decoder, has_audio: bool) -> Fingerprint | None:
    if not has_audio:
        return None
    try:
        sound = decoder.audio(job.path, fingerprint.SAMPLE_RATE)
    except MediaError as error:
        if error.reason == "no sound":
            return None
        raise
    return fingerprint.fingerprint(sound.samples, sound.sample_rate)


def _artifact(seen: Inspected) -> Artifact:
    meta = {name: getattr(seen, name) for name in _NUMBERS}
    meta = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in meta.items()}
    arrays: dict[str, Array] = {}
    if seen.sound is not None:
        arrays |= {"times_ms": seen.sound.times_ms, "cents": seen.sound.cents}
        meta["sound_ms"] = seen.sound.duration_ms
    if seen.motion is not None:
        arrays |= {"bits": seen.motion.bits, "moving": seen.motion.moving}
        arrays["still"] = np.array([seen.motion.still], np.uint64)
    return Artifact(arrays, meta)


def _from_artifact(clip_id: str, artifact: Artifact) -> Inspected:
    arrays, meta = artifact.arrays, artifact.meta
    sound = Fingerprint(arrays["times_ms"], arrays["cents"], int(meta["sound_ms"])) if "times_ms" in arrays else None
    motion = MotionHash(arrays["bits"], arrays["moving"], int(arrays["still"][0])) if "bits" in arrays else None
    numbers: dict[str, Any] = {name: math.nan if meta[name] is None else meta[name] for name in _NUMBERS}
    return Inspected(clip_id, sound=sound, motion=motion, **numbers)
