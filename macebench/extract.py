"""Extraction: what is computed once for each file and kept in the store.

A clip is decoded at most once; its frames go to the pose back end and to every frame statistic that is
not in the store yet. Sound is read and its beats are tracked in a separate worker, because the beat
tracker takes seconds to load.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from macebench import registry
from macebench.errors import MediaError, UserError
from macebench.grid import SEPARATOR, Gridded, grid_ingredients, split_name
from macebench.identity import Picture
from macebench.motion import MOTION_SUFFIXES
from macebench.motion.files import PICKLE_SUFFIXES
from macebench.pose import PoseEstimator, PoseSession
from macebench.protocol import VBENCH, BeatRules, PoseBackend
from macebench.store import Artifact, Ingredients, Store
from macebench.types import Beats, Clip, FloatArray, FrameStatistic, Missing, Motion, PoseTrack
from macebench.weights import missing_reason

POSE_VERSION = 1
BEATS_VERSION = 1
MOTION_VERSION = 1
VBENCH_VERSION = 1
PICTURE_VERSION = 1
NO_MUSIC = "no music"
NO_MOTION = "no 3-D motion"
NO_PICTURE = "motion file, no picture"
_SILENT = {"no sound": NO_MUSIC}
BY_NAME = "by_name"
SUBJECT = "dino_b16"
"""Frame statistic whose network embeds reference pictures, too."""
LASTING = (
    "empty file", "not a media file", "container not allowed", "no video stream", "no frames", "truncated file",
    "too many pixels", "too long",
)  # fmt: skip
"""Reasons that depend on the file's bytes alone; they are stored. A time-out or a crash is tried again."""


@dataclass(frozen=True)
class ClipPlan:
    """What a worker needs to know to extract clips.

    Attributes:
        store: Folder of the store.
        pose: Registered name of the pose back end; None when no metric needs poses, or when it cannot run.
        pose_settings: Keyword settings of the back end.
        statistics: Names of the frame statistics.
        plugins: Plugin files to load in the worker.
        threads: Threads that OpenCV may use in one worker; results do not depend on it.
        motion: Whether the clips are motion files.
        motion_fps: Frame rate of motion files that do not say theirs.
        lacking: Frame statistics that are left out because their weights are not on this machine: name -> reason.
        networks: Environment variables that say where and how networks run, for workers on another machine.
        pose_missing: Why the pose back end cannot run: its weights are not on this machine. Poses of the store count.
    """

    store: Path
    pose: str | None
    pose_settings: Mapping[str, Any]
    statistics: tuple[str, ...]
    plugins: tuple[Path, ...] = ()
    threads: int = 1
    motion: bool = False
    motion_fps: float | None = None
    lacking: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    pose_missing: str = ""


@dataclass(frozen=True)
class Outcome:
    """What extraction says of one clip: a reason when it failed, and the seconds it took."""

    reason: str | None = None
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class SoundJob:
    """Beats of one sound file under some rules."""

    path: Path
    sha256: str
    rules: BeatRules


@dataclass(frozen=True)
class ClipArtifacts:
    """What the store holds of one clip."""

    duration_s: float
    pose: PoseTrack | Missing
    frames: Mapping[str, FloatArray] | Missing
    motion: Motion | Missing
    notes: tuple[str, ...] = ()


def pose_ingredients(clip: Clip, backend: PoseBackend) -> Ingredients:
    """Key of a pose track. Back ends that find poses by the clip's name say so in their settings."""
    settings = backend.model_dump(mode="json") | {"code": code_hash("poses", backend.name)}
    if backend.settings.get(BY_NAME):
        settings["clip_id"] = clip.clip_id
    return Ingredients("pose", POSE_VERSION, {"video": clip.sha256}, settings)


def motion_ingredients(clip: Clip, plan: ClipPlan) -> Ingredients:
    """Key of a motion; a file's suffix says how it is read."""
    settings = {"suffix": clip.path.suffix.lower(), "fps": plan.motion_fps}
    return Ingredients("motion", MOTION_VERSION, {"motion": clip.sha256}, settings)


def failure_ingredients(clip: Clip, plan: ClipPlan) -> Ingredients:
    """Key of the reason why a file can never be read."""
    if plan.motion:
        same = motion_ingredients(clip, plan)
        return Ingredients("failure", same.version, same.inputs, same.settings)
    return Ingredients("failure", 1, {"video": clip.sha256}, {})


@cache
def code_hash(group: registry.Group, name: str) -> str:
    """SHA-256 of the file that defines something outside macebench; empty for what is built in.

    Built-in code has versions instead, so that an edited comment throws nothing away.
    """
    found = registry.get(group, name)
    if found.__module__.startswith("macebench."):
        return ""
    source = inspect.getsourcefile(found)
    return hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""


def statistic_ingredients(clip: Clip, name: str) -> Ingredients:
    """Key of a frame statistic, gridded (`macebench.grid`) or not, or of what VBench's own package says of a clip."""
    base = name.partition(SEPARATOR)[0]
    if base == VBENCH:
        return Ingredients("statistic", VBENCH_VERSION, {"video": clip.sha256}, {"name": name})
    version = int(getattr(registry.get("statistics", base), "version", 1))
    settings: dict[str, Any] = {"name": name, "code": code_hash("statistics", base)}
    needed = own_ingredients(name)
    if needed:
        settings["ingredients"] = needed
    return Ingredients("statistic", version, {"video": clip.sha256}, settings)


def picture_ingredients(picture: Picture) -> Ingredients:
    """Key of a reference picture's embedding."""
    same = statistic_ingredients(Clip("picture", picture.path, picture.sha256), SUBJECT)
    settings = {**same.settings, "statistic_version": same.version}
    return Ingredients("picture", PICTURE_VERSION, {"picture": picture.sha256}, settings)


def load_picture(store: Store, picture: Picture) -> FloatArray | None:
    """(F,) embedding of a reference picture, or None when it is not in the store."""
    artifact = store.get(picture_ingredients(picture))
    return None if artifact is None else artifact.arrays["value"][0]


def own_ingredients(name: str) -> dict[str, Any]:
    """What a frame statistic depends on beside frames and code, such as its weights: its ``ingredients()``, if any.

    Raises:
        WeightsMissingError: a hash that is in no table, of a file that is not on this machine.
    """
    base, rule = split_name(name)
    return grid_ingredients(getattr(registry.get("statistics", base), "ingredients", dict)(), rule)


def make_statistic(name: str) -> FrameStatistic:
    """A fresh frame statistic; one with a rule behind its name sees a part of the frames (`macebench.grid`)."""
    base, rule = split_name(name)
    made: FrameStatistic = registry.get("statistics", base)()
    return made if rule is None else Gridded(made, rule)


def by_package(name: str) -> bool:
    """Whether VBench's own package computes this statistic; it does so before the clips are decoded."""
    return name.startswith(VBENCH + SEPARATOR)


def lacking_weights(names: Iterable[str]) -> dict[str, str]:
    """Frame statistic -> reason, for those whose weights are not on this machine (``missing_weights()``)."""
    bases = {name: name.partition(SEPARATOR)[0] for name in names if not by_package(name)}
    lost: dict[str, list[str]] = {
        name: getattr(registry.get("statistics", base), "missing_weights", list)() for name, base in bases.items()
    }
    return {name: missing_reason(rows) for name, rows in lost.items() if rows}


def missing_pose(estimator: PoseEstimator) -> str:
    """Why a pose back end cannot run: its weights (``missing_weights()``) are not on this machine. Else empty."""
    return missing_reason(getattr(estimator, "missing_weights", list)())


def beat_ingredients(sha256: str, rules: BeatRules) -> Ingredients:
    """Key of the beats of a sound file."""
    settings = {"variant": rules.music_variant, "sample_rate": rules.music_sample_rate}
    return Ingredients("beats", BEATS_VERSION, {"sound": sha256}, settings)


def clip_ingredients(clip: Clip, plan: ClipPlan, backend: PoseBackend | None) -> list[Ingredients]:
    """All that `plan` wants of a clip."""
    if plan.motion:
        return [motion_ingredients(clip, plan)]
    wanted = [statistic_ingredients(clip, name) for name in plan.statistics]
    return wanted + ([pose_ingredients(clip, backend)] if backend is not None and not plan.pose_missing else [])


def load_clip(store: Store, clip: Clip, plan: ClipPlan, backend: PoseBackend | None) -> ClipArtifacts | None:
    """What the store holds of a clip, or None when something is not there."""
    if plan.motion:
        return _load_motion(store.get(motion_ingredients(clip, plan)))
    statistics = {name: store.get(statistic_ingredients(clip, name)) for name in plan.statistics}
    pose = store.get(pose_ingredients(clip, backend)) if backend is not None else None
    lost = backend is not None and pose is None and not plan.pose_missing
    if lost or any(value is None for value in statistics.values()):
        return None
    found = [item for item in (*statistics.values(), pose) if item is not None]
    duration = float(found[0].meta["duration_s"]) if found else 0.0
    frames = {name: item.arrays["value"] for name, item in statistics.items() if item is not None}
    notes = next((tuple(item.meta["notes"]) for item in found if "notes" in item.meta), ())
    track = _unpack_pose(pose, plan.pose_missing or "no pose back end")
    return ClipArtifacts(duration, track, frames, Missing(NO_MOTION), notes)


def _load_motion(artifact: Artifact | None) -> ClipArtifacts | None:
    if artifact is None:
        return None
    arrays = artifact.arrays
    motion = Motion(float(artifact.meta["fps"]), arrays["joints"], arrays.get("rotations"), arrays["root"])
    return ClipArtifacts(motion.duration_s, Missing(NO_PICTURE), Missing(NO_PICTURE), motion)


def load_beats(store: Store, sha256: str, rules: BeatRules) -> Beats | Missing | None:
    """Beats in the store, why there are none, or None when they were never tracked."""
    artifact = store.get(beat_ingredients(sha256, rules))
    if artifact is None:
        return None
    if "missing" in artifact.meta:
        return Missing(str(artifact.meta["missing"]))
    return Beats(artifact.arrays["times_s"], float(artifact.meta["duration_s"]))


def pose_arrays(track: PoseTrack) -> dict[str, Any]:
    """A pose track as named arrays: the format of a run folder's ``poses/*.npz``."""
    return {
        "keypoints": track.keypoints,
        "confidence": track.confidence,
        "times_s": track.times_s,
        "width": np.int64(track.width),
        "height": np.int64(track.height),
        "skeleton": np.str_(track.skeleton),
    }


def _unpack_pose(artifact: Artifact | None, without: str) -> PoseTrack | Missing:
    if artifact is None:
        return Missing(without)
    if "missing" in artifact.meta:
        return Missing(str(artifact.meta["missing"]))
    arrays = artifact.arrays
    return PoseTrack(
        arrays["keypoints"], arrays["confidence"], arrays["times_s"],
        int(arrays["width"]), int(arrays["height"]), str(arrays["skeleton"]),
    )  # fmt: skip


@dataclass
class _Worker:
    """State of one worker process."""

    plan: ClipPlan
    store: Store
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    estimator: PoseEstimator | None = None
    decoder: Any = None

    def get_estimator(self) -> PoseEstimator:
        if self.estimator is None:
            from macebench.models.pose import make_estimator

            self.estimator = make_estimator(self.plan.pose or "", **self.plan.pose_settings)
        return self.estimator

    def get_decoder(self) -> Any:
        if self.decoder is None:
            from macebench.media import Decoder

            self.decoder = self.stack.enter_context(Decoder())
        return self.decoder


_worker: _Worker | None = None


def setup_clip_worker(plan: ClipPlan) -> None:
    """Prepare a worker process for `extract_clip`."""
    global _worker  # noqa: PLW0603 - the state of a worker process
    import cv2

    os.environ.update(plan.networks)
    cv2.setNumThreads(plan.threads)
    for path in plan.plugins:
        registry.load_plugin(path)
    _worker = _Worker(plan, Store(plan.store))


def extract_clip(clip: Clip | Picture) -> Outcome:
    """Compute what the store lacks of one clip or reference picture. Needs `setup_clip_worker` first."""
    if _worker is None:
        raise RuntimeError("setup_clip_worker was not called in this process")
    start = time.perf_counter()
    try:
        if isinstance(clip, Picture):
            _embed(_worker, clip)
        else:
            _extract(_worker, clip)
    except MediaError as error:
        if isinstance(clip, Clip) and (_worker.plan.motion or error.reason in LASTING):
            key = failure_ingredients(clip, _worker.plan)
            _worker.store.put(key, Artifact({}, {"reason": error.reason, "detail": error.detail}))
        return Outcome(error.reason, time.perf_counter() - start, error.detail)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - a plugin or a network may fail on one odd clip
        return Outcome(f"extraction failed: {type(error).__name__}", time.perf_counter() - start, str(error))
    return Outcome(None, time.perf_counter() - start)


def _extract(worker: _Worker, clip: Clip) -> None:
    plan, store = worker.plan, worker.store
    if plan.motion:
        _extract_motion(store, motion_ingredients(clip, plan), clip.path, plan.motion_fps)
        return
    missing = [name for name in plan.statistics if not store.has(statistic_ingredients(clip, name))]
    names = [name for name in missing if not by_package(name)]
    session = None
    backend = worker.get_estimator().describe() if plan.pose is not None else None
    wants_pose = backend is not None and not store.has(pose_ingredients(clip, backend))
    needs_frames = bool(names) or (wants_pose and worker.get_estimator().needs_frames)
    info = worker.get_decoder().probe(clip.path) if needs_frames else None
    if wants_pose:
        session = worker.get_estimator().start(clip, info.width if info else 0, info.height if info else 0)
    statistics = {name: make_statistic(name) for name in names}
    start = time.perf_counter()
    duration = _stream(worker, clip, session, statistics) if needs_frames else 0.0
    notes = {"notes": list(info.notes)} if info is not None and info.notes else {}
    for name, statistic in statistics.items():
        value = Artifact({"value": statistic.result()}, {"duration_s": duration} | notes)
        store.put(statistic_ingredients(clip, name), value)
    if session is not None and backend is not None:
        meta = {"duration_s": duration, "seconds": time.perf_counter() - start} | notes
        _put_pose(store, pose_ingredients(clip, backend), session, meta)


def _embed(worker: _Worker, picture: Picture) -> None:
    """A reference picture goes through the network as a clip of one frame."""
    statistic = make_statistic(SUBJECT)
    statistic.update(worker.get_decoder().picture(picture.path)[None], np.zeros(1))
    worker.store.put(picture_ingredients(picture), Artifact({"value": statistic.result()}, {}))


def _extract_motion(store: Store, key: Ingredients, path: Path, fps: float | None) -> None:
    from macebench.motion import read_motion

    motion = read_motion(path, fps=fps)
    arrays = {"joints": motion.joints, "root": motion.root, "rotations": motion.rotations}
    store.put(key, Artifact({k: v for k, v in arrays.items() if v is not None}, {"fps": motion.fps}))


def _stream(
    worker: _Worker, clip: Clip, session: PoseSession | None, statistics: Mapping[str, FrameStatistic]
) -> float:
    """Decode once and feed everybody; the length of the picture in seconds comes back."""
    takers: list[Any] = [*statistics.values(), *([session] if session is not None else [])]
    first, last, count = 0.0, 0.0, 0
    for batch in worker.get_decoder().frames(clip.path):
        for taker in takers:
            taker.update(batch.frames, batch.times_s)
        first = float(batch.times_s[0]) if count == 0 else first
        last, count = float(batch.times_s[-1]), count + len(batch.times_s)
    return (last - first) * count / max(count - 1, 1)


def _put_pose(store: Store, key: Ingredients, session: PoseSession, meta: Mapping[str, Any]) -> None:
    track = session.finish()
    about = dict(meta) | {"backend": key.settings["name"]}
    if isinstance(track, Missing):
        store.put(key, Artifact({}, about | {"missing": track.reason}))
        return
    times = track.times_s
    length = meta["duration_s"] or float((times[-1] - times[0]) * len(times) / max(len(times) - 1, 1))
    store.put(key, Artifact(pose_arrays(track), about | {"duration_s": length, "n_frames": len(track)}))


def setup_sound_worker(store: Path) -> None:
    """Prepare a worker process for `extract_beats`."""
    global _worker  # noqa: PLW0603 - the state of a worker process
    os.environ.setdefault("NUMBA_DISABLE_PERFORMANCE_WARNINGS", "1")
    _worker = _Worker(ClipPlan(store, None, {}, ()), Store(store))


def extract_beats(job: SoundJob) -> Outcome:
    """Track the beats of one sound file and store them. Needs `setup_sound_worker` first."""
    if _worker is None:
        raise RuntimeError("setup_sound_worker was not called in this process")
    from macebench.metrics.beats import music_beats

    start = time.perf_counter()
    key = beat_ingredients(job.sha256, job.rules)
    try:
        sound = _worker.get_decoder().audio(job.path, job.rules.music_sample_rate)
    except MediaError as error:
        reason = _SILENT.get(error.reason, error.reason)
        if error.reason in _SILENT:
            _worker.store.put(key, Artifact({}, {"missing": reason, "duration_s": 0.0}))
        return Outcome(reason, time.perf_counter() - start, error.detail)
    beats = music_beats(sound.samples, sound.sample_rate, variant=job.rules.music_variant) + sound.start_s
    duration = sound.start_s + len(sound.samples) / sound.sample_rate
    _worker.store.put(key, Artifact({"times_s": beats}, {"duration_s": duration}))
    return Outcome(None, time.perf_counter() - start)


def sound_jobs(clips: Sequence[Clip], rules: Sequence[BeatRules]) -> list[SoundJob]:
    """One job for each different sound and each different tracker setting, in a stable order."""
    jobs: dict[str, SoundJob] = {}
    for clip in clips:
        sound = sound_of(clip)
        if sound is None:
            continue
        for rule in rules:
            job = SoundJob(sound[0], sound[1], rule)
            jobs.setdefault(beat_ingredients(job.sha256, rule).key, job)
    return list(jobs.values())


def sound_of(clip: Clip) -> tuple[Path, str] | None:
    """The sound file of a clip and its hash: its music when given, else the video itself; a motion has none."""
    if clip.music is not None:
        return clip.music, clip.music_sha256
    silent = (*MOTION_SUFFIXES, *PICKLE_SUFFIXES)
    return None if clip.path.suffix.lower() in silent else (clip.path, clip.sha256)
