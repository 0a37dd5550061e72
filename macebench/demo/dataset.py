"""Builds the demo data set: music, dances and videos made by code, the same bytes for the same settings.

Layout of the folder: ``clips/train/*.mp4`` and ``clips/test/*.mp4`` (half each; ``test`` is the reference half),
``music/<clip_id>.wav``, ``motions/<clip_id>.npz`` (fps, joints, rotations, root), ``metadata.parquet`` (one row a
clip), ``dataset.json`` and ``DATASHEET.md``. Each clip has a piece of music of its own, so that the halves share
none. Genres take turns within each half, so that both halves have the same distribution. A clip depends on the
settings and its own number only: not on the number of workers nor on what was built before.

A finished clip is one whose record in ``.parts/`` has the settings' hash and whose files are all there; it is kept
when the build runs again. Every file appears under its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from macebench.errors import UserError
from macebench.registry import dataset

VERSION = 1
NAME = "demo"
SPLITS = ("train", "test")
LICENCE = "CC0-1.0"
COLUMNS = (
    "clip_id", "file_name", "split", "genre", "tempo_bpm", "beat_times_s", "start_s", "end_s", "fps", "n_frames",
    "width", "height", "sha256", "music_sha256", "licence", "pairing", "source", "renderer", "seed", "phrases",
)  # fmt: skip
"""Columns of ``metadata.parquet``."""


@dataclass(frozen=True)
class DemoConfig:
    """Settings of a demo data set; they and the version decide every byte of it.

    Attributes:
        n_clips: Number of clips; the first half is ``train``.
        seconds: Length of a clip.
        fps: Frames a second.
        size: Width and height in pixels, even.
        seed: Seed of the whole set.
        renderer: A name of `macebench.render.RENDERERS`.
    """

    n_clips: int = 32
    seconds: float = 5.0
    fps: float = 30.0
    size: int = 512
    seed: int = 0
    renderer: str = "painter"

    def __post_init__(self) -> None:
        if self.n_clips < 2 or self.seed < 0:
            raise UserError(
                f"a demo data set of {self.n_clips} clips with seed {self.seed} cannot be made.",
                hint="Both halves need a clip, and seeds are 0 or above.",
            )
        if self.size < 16 or self.size % 2:
            raise UserError(f"size is {self.size}.", hint="Give an even number of pixels, 16 or more.")
        if not (self.seconds >= 1.0 and 1.0 <= self.fps <= 240.0):
            raise UserError(
                f"{self.seconds} s at {self.fps} frames a second cannot be made.",
                hint="Clips last 1 s or more at 1 to 240 frames a second.",
            )

    @property
    def hash(self) -> str:
        """SHA-256 of the settings without `n_clips`, which decides how many clips there are, not what is in one."""
        settings = {key: value for key, value in asdict(self).items() if key != "n_clips"}
        text = json.dumps({"name": NAME, "version": VERSION, **settings}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class DemoClip:
    """Which clip: its name, half, genre and seed."""

    clip_id: str
    split: str
    genre: str
    seed: int


def plan_clips(config: DemoConfig) -> list[DemoClip]:
    """The clips of a data set, in the order of their ids."""
    from macebench.demo.music import GENRES

    genres = sorted(GENRES)
    half = (config.n_clips + 1) // 2
    clips = []
    for split, count in zip(SPLITS, (config.n_clips - half, half), strict=True):
        for number in range(count):
            name = f"{NAME}-{split}-{number:04d}"
            seed = int.from_bytes(hashlib.sha256(f"{config.seed}/{name}".encode()).digest()[:4], "big")
            clips.append(DemoClip(name, split, genres[number % len(genres)], seed))
    return sorted(clips, key=lambda clip: clip.clip_id)


@dataset(NAME)
def build_demo_dataset(
    out: Path,
    *,
    n_clips: int = 32,
    seconds: float = 5.0,
    fps: float = 30.0,
    size: int = 512,
    workers: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    renderer: str = "painter",
) -> Path:
    """Build the demo data set, or finish a build that was interrupted.

    Args:
        out: Folder of the data set; made when missing.
        n_clips: Number of clips, 2 or more.
        seconds: Length of a clip.
        fps: Frames a second.
        size: Width and height in pixels, even.
        workers: Processes; the result does not depend on it.
        seed: Seed of the whole set.
        progress: Called with (clips done, clips in all).
        renderer: A name of `macebench.render.RENDERERS`.

    Returns:
        `out`.

    Raises:
        UserError: settings out of range, or `out` holds a demo data set of other settings.
    """
    config = DemoConfig(n_clips, seconds, fps, size, seed, renderer)
    out = Path(out)
    _check_folder(out, config)
    clips = plan_clips(config)
    rows = {clip.clip_id: row for clip in clips if (row := _finished(out, clip, config)) is not None}
    todo = [clip for clip in clips if clip.clip_id not in rows]
    report = progress or (lambda _done, _total: None)
    report(len(rows), len(clips))
    for row in _built(out, todo, config, max(1, int(workers))):
        rows[row["clip_id"]] = row
        report(len(rows), len(clips))
    _write_tables(out, config, [rows[clip.clip_id] for clip in clips])
    return out


def _check_folder(out: Path, config: DemoConfig) -> None:
    from macebench.store import write_text

    stamp = out / ".parts" / "settings"
    if stamp.is_file() and stamp.read_text("utf-8").strip() != config.hash:
        raise UserError(
            f"{out} holds a demo data set made with other settings.",
            hint="Choose another folder with --out, or remove this one.",
        )
    if not stamp.is_file():
        if out.is_dir() and any(not child.name.startswith(".") for child in out.iterdir()):
            raise UserError(f"{out} is not empty and no demo data set.", hint="Choose another folder with --out.")
        write_text(stamp, config.hash + "\n")


def _finished(out: Path, clip: DemoClip, config: DemoConfig) -> dict[str, Any] | None:
    """The row of a clip that was finished before, or None."""
    from macebench.media import file_sha256

    record = out / ".parts" / f"{clip.clip_id}.json"
    try:
        row: dict[str, Any] = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    video, music, motion = _paths(out, clip)
    if row.get("settings") != config.hash or not (video.is_file() and music.is_file() and motion.is_file()):
        return None
    return row if (file_sha256(video), file_sha256(music)) == (row["sha256"], row["music_sha256"]) else None


def _paths(out: Path, clip: DemoClip) -> tuple[Path, Path, Path]:
    """Video, music and motion of a clip."""
    return (
        out / "clips" / clip.split / f"{clip.clip_id}.mp4",
        out / "music" / f"{clip.clip_id}.wav",
        out / "motions" / f"{clip.clip_id}.npz",
    )


def _built(out: Path, clips: list[DemoClip], config: DemoConfig, workers: int) -> Iterator[dict[str, Any]]:
    """Rows of the clips, as they are finished."""
    if workers == 1 or len(clips) < 2:
        yield from (build_clip(out, clip, config) for clip in clips)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    with _one_thread_each(), ProcessPoolExecutor(min(workers, len(clips)), get_context("spawn")) as pool:
        jobs = [pool.submit(build_clip, out, clip, config) for clip in clips]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            for job in jobs:
                job.cancel()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let the libraries of new processes use one thread: there is a process for every core already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def build_clip(out: Path, clip: DemoClip, config: DemoConfig) -> dict[str, Any]:
    """Make one clip with its music and motion, and return its row (see `build_demo_dataset`)."""
    import cv2

    from macebench.demo.choreography import choreograph
    from macebench.demo.music import compose
    from macebench.media import file_sha256, write_video, write_wav
    from macebench.render import Look, get_renderer
    from macebench.store import write_npz, write_text

    cv2.setNumThreads(1)
    video, music, motion_file = _paths(out, clip)
    piece = compose(clip.genre, config.seconds, clip.seed)
    grid = piece.beats_s[0] + 60.0 / piece.tempo_bpm * np.arange(len(piece.beats_s) + 1)
    dance = choreograph(grid, config.seconds, config.fps, clip.seed, clip.genre)
    motion = dance.motion
    write_wav(music, piece.samples, piece.sample_rate)
    arrays = {"fps": motion.fps, "joints": motion.joints, "rotations": motion.rotations, "root": motion.root}
    write_npz(motion_file, {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()})
    frames = get_renderer(config.renderer, config.size, config.size).render(motion, look=Look.seeded(clip.seed))
    write_video(
        video, frames, fps=config.fps, audio=(piece.samples, piece.sample_rate),
        metadata={"comment": "synthetic: rendered by macebench demo"},
    )  # fmt: skip
    row = {
        "clip_id": clip.clip_id, "file_name": video.relative_to(out).as_posix(), "split": clip.split,
        "genre": clip.genre, "tempo_bpm": piece.tempo_bpm, "beat_times_s": piece.beats_s.tolist(),
        "start_s": 0.0, "end_s": config.seconds, "fps": config.fps, "n_frames": len(motion.joints),
        "width": config.size, "height": config.size, "sha256": file_sha256(video),
        "music_sha256": file_sha256(music), "licence": LICENCE, "pairing": "synthetic", "source": NAME,
        "renderer": config.renderer, "seed": clip.seed, "phrases": list(dance.phrases), "settings": config.hash,
    }  # fmt: skip
    write_text(out / ".parts" / f"{clip.clip_id}.json", json.dumps(row, sort_keys=True) + "\n")
    return row


def _write_tables(out: Path, config: DemoConfig, rows: list[dict[str, Any]]) -> None:
    import pandas as pd

    from macebench.store import atomic_write, write_text

    table = pd.DataFrame(rows, columns=list(COLUMNS))
    with atomic_write(out / "metadata.parquet") as temporary:
        table.to_parquet(temporary, index=False)
    hashes = "\n".join(sorted(row["sha256"] for row in rows))
    summary = {
        "name": NAME,
        "version": VERSION,
        "settings": asdict(config),
        "settings_hash": config.hash,
        "hash": hashlib.sha256(hashes.encode()).hexdigest(),
        "n_clips": len(rows),
        "splits": {split: sum(row["split"] == split for row in rows) for split in SPLITS},
        "licence": LICENCE,
    }
    write_text(out / "DATASHEET.md", _datasheet(config, rows))
    write_text(out / "dataset.json", json.dumps(summary, indent=2, sort_keys=True) + "\n")


def _datasheet(config: DemoConfig, rows: list[dict[str, Any]]) -> str:
    genres = ", ".join(sorted({row["genre"] for row in rows}))
    tempi = [row["tempo_bpm"] for row in rows]
    reference = sum(row["split"] == "test" for row in rows)
    return f"""# Data sheet: macebench demo data set, version {VERSION}

**What it is.** {len(rows)} videos of {config.seconds:g} s, {config.size}x{config.size} at {config.fps:g} frames a
second, of one computer-generated dancer, each with its own computer-generated music. {reference}
clips are the reference half (`test`), the others are `train`.

**What it is for.** To show and test the whole evaluation on any machine, without a download. It is no benchmark:
numbers on it say nothing about how well a model dances.

**How it was made.** By `macebench.demo` from seed {config.seed}. A synthesiser writes music ({genres};
{min(tempi):g} to {max(tempi):g} beats a minute) with known beat times. A procedural choreographer strings phrases of
four counts together on those beats; planted feet stay in place by inverse kinematics. The body is the wooden figure of
mannequin-x (Apache-2.0) in clothes lofted around it, drawn by the renderer `{config.renderer}`. The same settings give
the same files.

**What is known of each clip.** `metadata.parquet`: file, split, genre, tempo, beat times in seconds on the clip's
clock, frame rate and size, hashes. `motions/`: joints (frames, 24, 3) in metres with y up, local rotations as
axis-angle, root; order of SMPL. `music/`: the sound as WAV.

**Splits.** Every clip has a piece of music of its own: the halves share none. Genres take turns in each half.

**People.** Nobody is shown or heard. Skin, hair and clothes are drawn at random and mean nothing.

**Known limits.** One body shape, one dancer, a fixed camera, thirteen phrases; beats are rests of the limbs by
construction, which real dancing is not.

**Licence.** {LICENCE}. Pairing of music and dance: synthetic.
"""
