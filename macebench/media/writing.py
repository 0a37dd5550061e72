"""Writing videos and sound files: whole or not at all, and the same bytes for the same input.

Videos are made by the ffmpeg binary of imageio-ffmpeg in a child process: libx264 yuv420p (BT.601, limited range)
and AAC, one thread, no time or version stamps. The file appears under its name only when finished.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import subprocess
import tempfile
import wave
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macebench.errors import UserError

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_COLOUR_TAGS = (
    "-color_range", "tv", "-colorspace", "smpte170m", "-color_primaries", "smpte170m", "-color_trc", "smpte170m",
)  # fmt: skip
_FINISH_S = 600.0
_SPACE_HINT = "Free some space, or choose another place."
_PLACE_WORDS = (
    "No space left", "File too large", "Disk quota exceeded", "Read-only file system", "Permission denied",
    "Input/output error",
)  # fmt: skip
_FILE_SIZE_LIMIT = -25
MOST_SIDE = 16384
"""Pixels of one side that x264 takes at most."""


class EncoderError(UserError):
    """The encoder did not make a video of these pictures and this sound; its place is not to blame.

    Args:
        message: What was to be written, and the encoder's words.
        hint: What to do about it.
        ended: It was ended by a signal or took too long, so the next try may end otherwise.
    """

    def __init__(self, message: str, *, hint: str = "", ended: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.ended = ended


def write_video(
    path: str | Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: float,
    audio: tuple[NDArray[Any], int] | None = None,
    crf: int = 18,
    preset: str = "veryfast",
    metadata: dict[str, str] | None = None,
    colour_tags: bool = False,
) -> Path:
    """Write an H.264 video with optional AAC sound.

    Args:
        path: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``; replaced when it exists.
        frames: (H, W, 3) uint8 RGB each, all of one size, both sides even.
        fps: Frames a second; 29.97 and the like are taken as 30000/1001.
        audio: Samples (N,) or (N, C) with full scale 1 (int16 is scaled), and samples a second. Starts with the
            first picture; may be longer or shorter than the pictures.
        crf: Quality of x264, 0 (lossless) to 51.
        preset: Preset of x264.
        metadata: Tags of the container, such as ``{"comment": "generated"}``.
        colour_tags: Say in the stream that its colours are BT.601 in limited range. Without it players guess by the
            size of the picture; the pixels are the same.

    Returns:
        The path.

    Raises:
        EncoderError: ffmpeg's complaint about pictures, sound or settings.
        UserError: no frame, odd or changing size, wrong suffix, full disk, or a place that cannot be written to.
    """
    from macebench.store import atomic_write

    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"{path}: cannot write {path.suffix or 'a file without suffix'}.",
                        hint=f"Allowed are {', '.join(_FORMATS)}.")  # fmt: skip
    if not (fps > 0 and math.isfinite(fps)):
        raise UserError(f"{path}: {fps} frames a second.", hint="Give a rate above 0.")
    height, width, pictures = _checked(path, frames)
    with contextlib.ExitStack() as stack:
        sound = None if audio is None else _Sound(stack.enter_context(tempfile.TemporaryFile()), *audio)
        temporary = stack.enter_context(atomic_write(path))
        command = [
            *_input(width, height, fps, sound),
            *_encoding(crf, preset, sound),
            *(_COLOUR_TAGS if colour_tags else ()),
            *_container(_FORMATS[path.suffix.lower()], metadata or {}),
            f"file:{temporary.absolute()}",
        ]
        _run(path, command, pictures, () if sound is None else (sound.handle,))
    return path


def _checked(path: Path, frames: Iterable[NDArray[np.uint8]]) -> tuple[int, int, Iterator[Any]]:
    """Height and width of the first frame, and all frames, each checked as it comes."""
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise UserError(f"{path}: there are no frames to write.", hint="Give at least one frame.")
    shape = np.shape(first)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise UserError(f"{path}: a frame has shape {shape}.", hint="Frames are (height, width, 3) RGB.")
    if shape[0] % 2 or shape[1] % 2:
        raise UserError(
            f"{path}: frames of {shape[1]}x{shape[0]} cannot be written, both sides must be even.",
            hint="Cut or pad one row or column.",
        )

    def checked() -> Iterator[Any]:
        for number, frame in enumerate(itertools.chain([first], pictures)):
            picture = np.asarray(frame)
            if picture.dtype != np.uint8 or picture.shape != shape:
                raise UserError(
                    f"{path}: frame {number} is {picture.dtype} {picture.shape}, expected uint8 {shape}.",
                    hint="All frames are uint8 and of one size.",
                )
            yield np.ascontiguousarray(picture)

    return shape[0], shape[1], checked()


class _Sound:
    """Raw float samples in an open file for ffmpeg to read."""

    def __init__(self, file: IO[bytes], samples: NDArray[Any], rate: int) -> None:
        data = _unit_samples(samples)
        self.rate, self.channels = int(rate), 1 if data.ndim == 1 else data.shape[1]
        if self.rate <= 0 or data.ndim > 2 or self.channels > 8:
            raise UserError(f"sound {data.shape} at {rate} Hz cannot be written.",
                            hint="Sound is (N,) or (N, channels), at most 8 channels, at a rate above 0.")  # fmt: skip
        file.write(data.astype("<f4").tobytes())
        file.seek(0)
        self.handle = file.fileno()


def _unit_samples(samples: ArrayLike) -> NDArray[np.float64]:
    """Samples with full scale 1. Raises `UserError` when some are not finite."""
    raw = np.asarray(samples)
    data = raw.astype(np.float64) / (2.0**15 if raw.dtype == np.int16 else 1.0)
    if data.ndim == 0 or not np.isfinite(data).all():
        raise UserError("The sound has samples that are no numbers.", hint="Replace NaN and infinity.")
    return data


def _input(width: int, height: int, fps: float, sound: _Sound | None) -> list[str]:
    rate = Fraction(fps).limit_denominator(1000)
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    if abs(float(ntsc) - fps) < 0.005 and rate.denominator > 1:
        rate = ntsc
    command = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", f"{rate.numerator}/{rate.denominator}", "-i", "pipe:0"]
    if sound is not None:
        command += ["-f", "f32le", "-ar", str(sound.rate), "-ac", str(sound.channels)]
        command += ["-i", f"pipe:{sound.handle}"]
    return command


def _encoding(crf: int, preset: str, sound: _Sound | None) -> list[str]:
    command = ["-map", "0:v", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", preset, "-crf", str(crf)]
    command += ["-threads", "1", "-flags:v", "+bitexact", "-sws_flags", "bicubic+accurate_rnd+bitexact"]
    if sound is not None:
        command += ["-map", "1:a", "-c:a", "aac", "-b:a", "192k", "-flags:a", "+bitexact"]
    return command


def _container(name: str, metadata: dict[str, str]) -> list[str]:
    command = ["-fflags", "+bitexact", "-map_metadata", "-1"]
    for key, value in metadata.items():
        command += ["-metadata", f"{key}={value}"]
    if name in ("mp4", "mov"):
        command += ["-movflags", "+faststart+use_metadata_tags" if metadata else "+faststart"]
    return [*command, "-f", name, "-y"]


def _run(path: Path, command: list[str], frames: Iterable[Any], handles: tuple[int, ...]) -> None:
    """Feed frames to ffmpeg; it never outlives this call.

    Raises:
        EncoderError: with its words when it fails.
        UserError: the place is full or cannot be written to.
    """
    import imageio_ffmpeg

    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", *command]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors,
                              pass_fds=handles, bufsize=0) as process:  # fmt: skip
            try:
                _feed(process, frames)
                code = process.wait(_FINISH_S)
            except subprocess.TimeoutExpired:
                code = -1
            finally:
                process.kill()
        size = errors.seek(0, os.SEEK_END)
        errors.seek(max(0, size - 600))
        said = " ".join(errors.read().decode("utf-8", "replace").split())
    if code != 0:
        what = f"{path} could not be written: ffmpeg ended with {code}. {said}".rstrip()
        if code == _FILE_SIZE_LIMIT or any(words in said for words in _PLACE_WORDS):
            raise UserError(what, hint=_SPACE_HINT)
        raise EncoderError(what, hint="Check preset, crf and the tags.", ended=code < 0)


def _feed(process: subprocess.Popen[bytes], frames: Iterable[Any]) -> None:
    if process.stdin is None:
        raise RuntimeError("ffmpeg has no pipe")
    # A broken pipe means that ffmpeg has given up: its own words tell why.
    with contextlib.suppress(BrokenPipeError):
        for frame in frames:
            data = memoryview(frame).cast("B")
            while data:
                data = data[process.stdin.write(data) or 0 :]
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


def write_wav(path: str | Path, samples: ArrayLike, sample_rate: int) -> Path:
    """Write a 16-bit WAV file.

    Args:
        path: The file; replaced when it exists.
        samples: (N,) or (N, C) with full scale 1, clipped to it; int16 is written as it is.
        sample_rate: Samples a second.

    Returns:
        The path.

    Raises:
        UserError: samples that are no numbers, wrong shape or rate, full disk.
    """
    from macebench.store import atomic_write

    path, data = Path(path), _unit_samples(samples)
    if sample_rate <= 0 or data.ndim > 2:
        raise UserError(f"{path}: sound {data.shape} at {sample_rate} Hz cannot be written.",
                        hint="Sound is (N,) or (N, channels) at a rate above 0.")  # fmt: skip
    pcm = np.clip(np.rint(data * 2.0**15), -(2**15), 2**15 - 1).astype("<i2")
    with atomic_write(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1 if pcm.ndim == 1 else pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(int(sample_rate))
        file.writeframes(pcm.tobytes())
    return path
