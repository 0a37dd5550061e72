"""Motions with music to videos that are curated like any other source.

`render_source` makes the videos of one recording, `render_sources` those of many and a table of them, which
`macebench.curation.sources.iter_sources` reads: the videos then go through probe, shots, motion, person and windows.

A recording is cut into *takes* of equal length, at most `RenderConfig.take_s` seconds; where these would be shorter
than `RenderConfig.min_s`, into takes of `RenderConfig.take_s`, and what is left over is not made: it is a refused row
``too short``. Each take is one video with a camera of its own: over a whole song a dancer walks several metres, and one
camera for all of it would show a small dancer. The front is that of the whole recording; floor and camera are each
take's (`macebench.curation._framing`). Pictures are drawn, encoded and forgotten one by one: memory does not grow.

The frame rate is the motion's; a rate above `max_fps` is divided by the smallest whole number that brings it below.
Sound is mono at the rate of the music file, cut to the sample; picture k of a take is shown ``k / fps`` seconds after
its first sample. A recording ends where motion or music ends.

Files: ``<name>-<first 12 digits of the key>-<start in ms, 8 digits>.mp4`` and a ``.json`` beside it, both written whole
or not at all. The key is the hash of everything that decides the pictures and the sound: both files, the settings, the
body's file and the version here. A video that is there with its record is not made again. The painter gives the same
bytes for the same key; pyrender's depend on the OpenGL library.

What cannot be rendered is a row of the table with the reason in the column ``refused``: the motion or the music cannot
be read (``motion file not usable: ...``, ``music not usable: ...``), ``no rotations``, ``broken motion``,
``too short``, and what the source says itself (``no music``, ``no label``, ``on the ignore list``). Of a sound file
that is cut short, what is there is used.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from macebench.curation._ranges import FROM_ZERO, SHARE, check_ranges
from macebench.curation._render_table import row, write_table
from macebench.curation.motion_sources import MotionSource
from macebench.engine import Crashed, EngineName, Work, run_jobs
from macebench.errors import MediaError, UserError
from macebench.render import RENDERERS
from macebench.types import FloatArray, Motion

if TYPE_CHECKING:
    from macebench.curation._framing import Framing, Ground
    from macebench.media import Sound
    from macebench.render import Body

VERSION = 1
TABLE = "sources.parquet"
BODIES = ("mannequin", "smplx", "smplh", "smpl")
FLOORS, FRONTS = ("estimate", "file"), ("estimate", "file")
_GROUND_SAMPLES = 1500
_COMMENT = "synthetic picture: rendered from 3-D motion by macebench curate"


@dataclass(frozen=True)
class RenderConfig:
    """How motions are drawn.

    Attributes:
        width: Pixels, even.
        height: Pixels, even.
        renderer: painter or pyrender.
        body: Whom to draw: mannequin, or smplx, smplh or smpl with the user's model file.
        smpl_dir: Folder of the SMPL model files.
        take_s: Seconds of a take at most; longer recordings are cut into equal ones.
        min_s: Takes shorter than this are not made; at most take_s.
        margin: Distance of the body to the picture's edge, as a share of width or height.
        max_fps: Highest frame rate of a video.
        floor: Height of the floor: estimate it, or file for y = 0.
        front: Where the camera stands: estimate the dancer's front, or file for +z.
        max_broken: Recordings are refused when a larger share of frames jumps or has joints turned as no body can;
            None keeps them.
        look: Number of the dancer's colours; None takes one for each recording from its name.
        crf: Quality of x264, 0 to 51.
    """

    width: int = 512
    height: int = 512
    renderer: str = "painter"
    body: str = "mannequin"
    smpl_dir: str | None = field(default=None, metadata={"scope": "run"})
    take_s: float = 20.0
    min_s: float = 5.0
    margin: float = 0.05
    max_fps: float = 60.0
    floor: str = "estimate"
    front: str = "estimate"
    max_broken: float | None = 0.1
    look: int | None = None
    crf: int = 18

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("renderer", self.renderer, RENDERERS), ("body", self.body, BODIES), ("floor", self.floor, FLOORS),
            ("front", self.front, FRONTS),
        ):  # fmt: skip
            if value not in allowed:
                raise UserError(f"render.{name} is {value!r}.", hint=f"Allowed are {', '.join(allowed)}.")
        for name, side in (("width", self.width), ("height", self.height)):
            if side < 16 or side % 2:
                raise UserError(f"render.{name} is {side}.", hint="Give an even number of pixels, 16 or more.")
        ranges = {
            "take_s": (self.min_s, math.inf), "min_s": (0.1, math.inf), "margin": (0.0, 0.4), "max_fps": (1.0, 240.0),
            "max_broken": SHARE, "look": FROM_ZERO, "crf": (0, 51),
        }  # fmt: skip
        check_ranges("render", self, ranges)


@dataclass(frozen=True)
class Rendered:
    """One video of a take, or why there is none.

    Attributes:
        source: What it is made of.
        path: The video; None when refused.
        refused: Why there is no video; empty when there is one.
        facts: JSON values of the record: start and end in the recording, frames, camera, floor, margin, hashes.
    """

    source: MotionSource
    path: Path | None
    refused: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def render_source(source: MotionSource, out: str | Path, config: RenderConfig | None = None) -> tuple[Rendered, ...]:
    """The videos of one recording, in the order of time; those that are there are kept.

    Args:
        source: The recording.
        out: Folder of the videos; absolute paths come out of an absolute folder.
        config: Settings; `RenderConfig()` when None.

    Returns:
        One value a take, the one of a remainder that is too short with the reason in `refused`; or a single one with
        the reason when nothing can be made.

    Raises:
        UserError: the SMPL model is missing, the renderer's libraries are, or the disk is full.
    """
    config = config or RenderConfig()
    if source.refused:
        return (Rendered(source, None, source.refused),)
    body = load_body_of(config)
    try:
        recording = _read(source, config)
    except MediaError as error:
        return (Rendered(source, None, error.reason),)
    key = _key(source, config)
    takes, rest = _takes(recording)
    todo = [(span, _video_name(source.name, key, span[0] / recording.motion.fps)) for span in takes]
    done = {name: facts for span, name in todo if (facts := _finished(Path(out) / name, key, span)) is not None}
    if len(done) < len(todo):
        recording.measure(body)
    for span, name in todo:
        if name not in done:
            done[name] = _render_take(recording, span, Path(out) / name, body, key)
    made = [Rendered(source, Path(out) / name, "", done[name]) for _, name in todo]
    return (*made, *([] if rest is None else [_left_over(recording, rest)]))


def _takes(recording: _Recording) -> tuple[list[tuple[int, int]], tuple[int, int] | None]:
    """Spans of the takes, and of what is left over, if anything is."""
    config, motion = recording.config, recording.motion
    takes = plan_takes(len(motion), motion.fps, config.take_s, config.min_s)
    return takes, (takes[-1][1], len(motion)) if takes[-1][1] < len(motion) else None


def _left_over(recording: _Recording, rest: tuple[int, int]) -> Rendered:
    """The end of a recording, of which no take is made."""
    fps = recording.motion.fps
    offset = round(recording.source.start_s * fps) / fps
    facts = {"start_s": offset + rest[0] / fps, "end_s": offset + rest[1] / fps}
    return Rendered(recording.source, None, "too short", facts)


def planned_takes(source: MotionSource, out: Path, config: RenderConfig) -> tuple[tuple[float, Path | None], ...]:
    """(Seconds, its video where there is one already) of every take that `render_source` would make.

    Raises:
        MediaError: it cannot be rendered; the reason is the one for the ledger.
    """
    if source.refused:
        raise MediaError(source.refused)
    recording, key = _read(source, config), _key(source, config)
    fps, planned = recording.motion.fps, []
    for span in _takes(recording)[0]:
        video = Path(out) / _video_name(source.name, key, span[0] / fps)
        planned.append(((span[1] - span[0]) / fps, None if _finished(video, key, span) is None else video))
    return tuple(planned)


def try_render(source: MotionSource, video: Path, config: RenderConfig, seconds: float = 1.0) -> tuple[float, float]:
    """Make a video of the first seconds of a recording, to see how long it takes.

    Returns:
        Seconds for reading and measuring the recording, and seconds of drawing for each second of video.

    Raises:
        MediaError: it cannot be rendered.
    """
    body, start = load_body_of(config), time.perf_counter()
    recording = _read(source, config)
    recording.measure(body)
    read_s = time.perf_counter() - start
    count = min(len(recording.motion), max(2, round(seconds * recording.motion.fps)))
    _render_take(recording, (0, 2), video, body, "")  # the first pictures of a process take longer
    start = time.perf_counter()
    _render_take(recording, (0, count), video, body, "")
    return read_s, (time.perf_counter() - start) * recording.motion.fps / count


def render_sources(
    sources: Iterable[MotionSource],
    out: str | Path,
    config: RenderConfig | None = None,
    *,
    workers: int = 1,
    engine: EngineName = "local",
    ray_address: str | None = None,
    stop: threading.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The videos of many recordings and a table of them.

    Args:
        sources: Recordings; their names are unique.
        out: Folder of the videos; the table is ``sources.parquet`` in it, with paths relative to it.
        config: Settings; `RenderConfig()` when None.
        workers: Processes; the result does not depend on it.
        engine: ``local`` or ``ray`` (see `macebench.engine`).
        ray_address: Of an existing Ray cluster, whose nodes must see all folders.
        stop: Once it is set no further recording is begun, and `KeyboardInterrupt` is raised.
        progress: Called with (recordings done, recordings in all).

    Returns:
        The table's path: one row a video or refused recording, see `macebench.curation._render_table.COLUMNS`.

    Raises:
        UserError: see `render_source`; or two sources have one name.
    """
    config, out = config or RenderConfig(), Path(out)
    load_body_of(config)
    listed = sorted(sources, key=lambda source: source.name)
    twice = next((one.name for one, other in itertools.pairwise(listed) if one.name == other.name), None)
    if twice is not None:
        raise UserError(f"two motions are called {twice!r}.", hint="Names are paths below the folder without suffix.")
    made: dict[str, tuple[Rendered, ...]] = {}
    function = partial(render_source, out=out.absolute(), config=config)
    for number, result in _run(function, listed, workers, engine, ray_address, stop):
        crashed = isinstance(result, Crashed)
        made[listed[number].name] = (Rendered(listed[number], None, result.reason),) if crashed else result
        if progress is not None:
            progress(len(made), len(listed))
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt
    rows = [row(item, out) for source in listed for item in made[source.name]]
    return write_table(out / TABLE, rows)


def _run(
    function: Callable[[MotionSource], tuple[Rendered, ...]],
    sources: Sequence[MotionSource],
    workers: int,
    engine: EngineName,
    ray_address: str | None,
    stop: threading.Event | None,
) -> Iterator[tuple[int, Any]]:
    """(number, videos or `Crashed`) of every source; in this process where one worker is enough."""
    if workers > 1 or engine != "local":
        how: dict[str, Any] = {"workers": workers, "engine": engine, "stop": stop, "ray_address": ray_address}
        yield from run_jobs(Work(function, _one_thread), sources, **how)
        return
    for number, source in enumerate(sources):
        if stop is not None and stop.is_set():
            return
        yield number, function(source)


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


def plan_takes(n_frames: int, fps: float, take_s: float, min_s: float = 0.0) -> list[tuple[int, int]]:
    """Spans (first, behind the last) of frames: as few as possible of at most `take_s` seconds, nearly equal.

    Where equal ones would be shorter than `min_s`, all have `take_s` and the end of the recording is in none.
    """
    count = max(1, math.ceil(n_frames / (take_s * fps) - 1e-9))
    if count > 1 and n_frames // count < min_s * fps - 1e-6:
        length = math.floor(take_s * fps + 1e-6)
        return [(k * length, (k + 1) * length) for k in range(n_frames // length)]
    edges = [round(n_frames * k / count) for k in range(count + 1)]
    return list(itertools.pairwise(edges))


def load_body_of(config: RenderConfig) -> Body:
    """The body that is drawn. Raises `UserError` when its model file is missing; the hint says what to get."""
    if config.body == "mannequin":
        from macebench.render.body import load_body

        return load_body()
    from macebench.render.smpl import load_smpl

    return load_smpl(config.body, config.smpl_dir)


@dataclass
class _Recording:
    """A motion and its sound, both from the same moment on; what comes after `sound` is measured by `measure`."""

    source: MotionSource
    config: RenderConfig
    motion: Motion
    sound: Sound
    step: int = 1
    lowest: FloatArray = field(default_factory=lambda: np.zeros(0))
    front_rad: float = 0.0

    def measure(self, body: Body) -> None:
        """Find the lowest points and the front."""
        from macebench.curation._framing import front, lowest_points

        self.step = max(1, len(self.motion) // _GROUND_SAMPLES)
        self.lowest = lowest_points(self.motion, body, self.step)
        self.front_rad = front(self.motion) if self.config.front == "estimate" else 0.0

    def ground(self, span: tuple[int, int]) -> Ground:
        """The floor of a take, in the file's coordinates."""
        from macebench.curation._framing import find_ground, ground_at, local_ground

        own = self.lowest[math.ceil(span[0] / self.step) : math.ceil(span[1] / self.step)]
        if self.config.floor == "file":
            return ground_at(own, 0.0)
        return local_ground(find_ground(self.lowest), own)


def _read(source: MotionSource, config: RenderConfig) -> _Recording:
    """The motion at the video's rate, without its intro, and the music with it, both equally long.

    Raises:
        MediaError: it cannot be rendered; the reason is the one for the ledger.
    """
    from macebench.motion import read_motion, resample_motion

    try:
        motion = read_motion(source.motion, fps=source.fps)
    except MediaError as error:
        raise MediaError(f"motion file not usable: {error.reason}", error.detail) from error
    if motion.rotations is None:
        raise MediaError("no rotations")
    _check_unbroken(motion, config)
    motion = resample_motion(motion, motion.fps / math.ceil(motion.fps / config.max_fps - 1e-9))
    skipped = round(source.start_s * motion.fps)
    sound = _read_sound(source.music, skipped / motion.fps)
    count = min(len(motion) - skipped, math.floor(sound.duration_s * motion.fps + 1e-6))
    if count < config.min_s * motion.fps:
        raise MediaError("too short")
    return _Recording(source, config, _span(motion, skipped, skipped + count), sound)


def _check_unbroken(motion: Motion, config: RenderConfig) -> None:
    from macebench.motion.retarget import broken, jumps

    if config.max_broken is not None and (jumps(motion) | broken(motion)).mean() > config.max_broken:
        raise MediaError("broken motion")


def _span(motion: Motion, first: int, behind: int) -> Motion:
    """Frames `first` to `behind`, without the last."""
    part = slice(first, behind)
    rotations = None if motion.rotations is None else motion.rotations[part]
    root = None if motion.root is None else motion.root[part]
    return Motion(motion.fps, motion.joints[part], rotations, root)


def _read_sound(path: Path | None, skip_s: float) -> Sound:
    """The music from `skip_s` on, mono at its own rate.

    Raises:
        MediaError: ``no music`` or ``music not usable: ...``.
    """
    from macebench.media import Decoder, Sound

    if path is None:
        raise MediaError("no music")
    parts, rate = [], 0
    try:
        with Decoder() as decoder:
            for part in decoder.sound_parts(path):
                parts.append(part.samples)
                rate = part.sample_rate
    except MediaError as error:
        # what a cut file has is music all the same: the recording ends where it ends
        if error.reason != "truncated file" or not parts:
            raise MediaError(f"music not usable: {error.reason}", error.detail) from error
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if rate == 0:
        raise MediaError("music not usable: no sound")
    return Sound(samples[round(skip_s * rate) :], rate, 0.0)


def _key(source: MotionSource, config: RenderConfig) -> str:
    """SHA-256 of everything that decides the videos of a recording."""
    from macebench.media import file_sha256
    from macebench.protocol import canonical_json
    from macebench.render.smpl import find_smpl

    settings = {name: value for name, value in asdict(config).items() if name != "smpl_dir"}
    model = "" if config.body == "mannequin" else file_sha256(find_smpl(config.body, config.smpl_dir))
    music = "" if source.music is None else file_sha256(source.music)
    values = {
        "version": VERSION, "motion": file_sha256(source.motion), "music": music, "start_s": source.start_s,
        "fps": source.fps, "look": _look(source, config), "settings": settings, "model": model,
    }  # fmt: skip
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def _look(source: MotionSource, config: RenderConfig) -> int:
    if config.look is not None:
        return config.look
    return int.from_bytes(hashlib.sha256(source.name.encode("utf-8", "backslashreplace")).digest()[:4], "big")


def _video_name(name: str, key: str, start_s: float) -> str:
    return f"{name}-{key[:12]}-{round(1000 * start_s):08d}.mp4"


def _finished(video: Path, key: str, span: tuple[int, int]) -> dict[str, Any] | None:
    """The record of a video of these frames that was made before, or None."""
    from macebench.media import file_sha256

    try:
        facts: dict[str, Any] = json.loads(video.with_suffix(".json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    same = (facts.get("key"), facts.get("n_frames")) == (key, span[1] - span[0])
    whole = video.is_file() and same and file_sha256(video) == facts.get("sha256")
    return facts if whole else None


def _render_take(recording: _Recording, span: tuple[int, int], video: Path, body: Body, key: str) -> dict[str, Any]:
    """Draw and write one take; returns its record."""
    from macebench.curation._framing import frame_dance, staged
    from macebench.media import file_sha256, write_video
    from macebench.render import Look, get_renderer
    from macebench.store import write_text

    config, fps = recording.config, recording.motion.fps
    ground = recording.ground(span)
    motion = staged(_span(recording.motion, *span), ground.height_m, recording.front_rad)
    framing = frame_dance(motion, body, config.width, config.height, margin=config.margin)
    renderer = get_renderer(config.renderer, config.width, config.height, body)
    look = Look.seeded(_look(recording.source, config))
    pictures = renderer.render(motion, camera=framing.camera, look=look, reach_m=max(1.8, framing.reach_m + 0.6))
    sound = _cut_sound(recording.sound, span, fps)
    write_video(video, pictures, fps=fps, audio=sound, crf=config.crf, metadata={"comment": _COMMENT})
    facts = _facts(recording, span, ground, framing) | {"key": key, "sha256": file_sha256(video)}
    write_text(video.with_suffix(".json"), json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return facts


def _cut_sound(sound: Sound, span: tuple[int, int], fps: float) -> tuple[FloatArray, int]:
    first, behind = (round(frame / fps * sound.sample_rate) for frame in span)
    return np.asarray(sound.samples[first:behind]), sound.sample_rate


def _facts(recording: _Recording, span: tuple[int, int], ground: Ground, framing: Framing) -> dict[str, Any]:
    from macebench.media import file_sha256

    source, config, fps = recording.source, recording.config, recording.motion.fps
    offset = round(source.start_s * fps) / fps
    camera = framing.camera
    return {
        "start_s": offset + span[0] / fps, "end_s": offset + span[1] / fps, "fps": fps, "n_frames": span[1] - span[0],
        "width": config.width, "height": config.height, "renderer": config.renderer, "body": config.body,
        "floor_m": ground.height_m, "floor_touching": ground.touching,
        "front_deg": math.degrees(recording.front_rad), "margin_px": framing.margin_px, "body_px": framing.height_px,
        "camera": {"eye": list(camera.eye), "target": list(camera.target), "fov_deg": camera.fov_deg},
        "motion_sha256": file_sha256(source.motion),
        "music_sha256": "" if source.music is None else file_sha256(source.music),
    }  # fmt: skip
