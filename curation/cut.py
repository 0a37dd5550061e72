"""Cutting a clip out of a source: pictures and sound on one clock, encoded once.

**Pictures.** The clip begins with the first picture of the source whose timestamp is at or after the span's begin. That
timestamp is the clip's zero. Picture k of the clip is shown at ``k / fps``: it is the source's latest picture at that
time, where one that comes up to 0.45 of a picture later counts already. A source of a constant rate keeps every picture
once; a variable rate becomes constant by repeating and leaving out, without any picture being more than half a
picture's time off. After the source's last picture, that one stays until the span ends.

**Rate.** ``fps`` of the settings; without it that of the span's own pictures, as their packets say, for a source may
change its rate. Where they are even, it is the source's rate if theirs is the same, else one over their mean distance,
moved to a usual rate that is less than 0.1 % away. A variable rate becomes the rate on whose grid the pictures lie, or
one over their median distance (`macebench.media.rates.steady_rate`), moved to the usual rate that is less than 5 %
away, else to a whole number.

**Size.** Square pixels, turned as the source says. Sides become even by leaving out a row or a column. ``short_side``
makes larger pictures smaller, never smaller ones larger.

**Sound.** Cut on the same clock to the sample: sound that begins after the pictures keeps its delay as silence, and
sound that ends earlier is followed by silence, so that it is as long as the pictures. Two channels stay two.

**Encoding.** libx264, yuv420p (BT.601, limited range, and tagged so), AAC, one thread, no stamps of time or version:
the same source, span and settings give the same bytes. Nothing is copied from the source without decoding it: begin
and end of a clip lie between key pictures and inside sound packets (23 ms of AAC), and an untrusted stream stays
outside the data set. The file appears under its name when it is whole. Its tag ``comment`` names the source's hash and
the span. Pictures or sound that the encoder refuses cost their clip ("cannot be encoded"), as long as it still writes
a small plain video with the same settings.

The source is decoded in the decoder's process (`macebench.media.Decoder`), from the key picture before the span on.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from macebench.curation.stage import Task
from macebench.errors import MediaError, UserError
from macebench.media import Decoder, VideoInfo, file_sha256, write_video
from macebench.media.rates import USUAL_RATES, steady_rate, usual_rate
from macebench.media.writing import MOST_SIDE, EncoderError
from macebench.types import FloatArray

PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
)  # fmt: skip
_SAME_RATE, _NEAR_RATE = 0.001, 0.05
_EVEN_S, _CLOCK_S = 0.0035, 0.002
_FEW, _MOST_FPS = 8, 240.0
_AHEAD = 0.45
_LAST_PART = 0.05
_MOST_STILL_S = 1.0
_SOUND_BEYOND_S = 1.0
_BATCH = 8
_REFUSED, _ENDED = "cannot be encoded", "encoder crashed"


@dataclass(frozen=True)
class EncodeConfig:
    """How clips are written; the format is always H.264 with yuv420p and AAC in MP4.

    Attributes:
        fps: Frames a second; None keeps the source's rate.
        short_side: Pixels of the shorter side at most; None keeps the size.
        crf: Quality of x264: 0 is lossless, 51 the worst.
        preset: Preset of x264.
        audio_sample_rate: Samples a second of the sound.
        audio_channels: 2 keeps stereo, 1 makes mono.
    """

    fps: float | None = None
    short_side: int | None = None
    crf: int = 18
    preset: str = "veryfast"
    audio_sample_rate: int = 44100
    audio_channels: int = 2

    def __post_init__(self) -> None:
        if self.fps is not None and not 1.0 <= self.fps <= 240.0:
            raise UserError(f"encode.fps is {self.fps}, allowed is 1 to 240, or nothing.")
        if self.short_side is not None and (self.short_side < 16 or self.short_side % 2):
            raise UserError(f"encode.short_side is {self.short_side}, allowed are even numbers from 16, or nothing.")
        if not 0 <= self.crf <= 51:
            raise UserError(f"encode.crf is {self.crf}, allowed is 0 to 51.")
        if self.preset not in PRESETS:
            raise UserError(f"encode.preset is {self.preset!r}, allowed are {', '.join(PRESETS)}.")
        if self.audio_sample_rate not in (16000, 22050, 24000, 32000, 44100, 48000):
            raise UserError(
                f"encode.audio_sample_rate is {self.audio_sample_rate}, allowed are 16000, 22050, 24000, 32000, 44100 "
                "and 48000."
            )
        if self.audio_channels not in (1, 2):
            raise UserError(f"encode.audio_channels is {self.audio_channels}, allowed are 1 and 2.")


@dataclass(frozen=True)
class CutResult:
    """What a clip has become.

    Attributes:
        sha256: Of the clip's file.
        start_s: Timestamp of its first picture in the source.
        end_s: `start_s` and the clip's length.
        fps: Frames a second.
        n_frames: Pictures.
        width: Pixels.
        height: Pixels.
        audio_sr: Samples a second; 0 without sound.
        duration_s: ``n_frames / fps``.
        sound_share: Share of the clip in which the source has sound (be it silence).
    """

    sha256: str
    start_s: float
    end_s: float
    fps: float
    n_frames: int
    width: int
    height: int
    audio_sr: int
    duration_s: float
    sound_share: float


def cut_clip(decoder: Decoder, task: Task, target: Path, encode: EncodeConfig) -> CutResult:
    """Cut the span of a task out of its source and write it; see the module.

    Args:
        decoder: Reads the source; whatever else it reads is ended.
        task: Source and span; its end must be known.
        target: The file, ``.mp4``; replaced when it exists.
        encode: How.

    Raises:
        MediaError: the source cannot be read, has no picture in the span, ends more than a second before it does, or
            cannot be encoded.
        UserError: the file cannot be written, or the encoder writes nothing at all with these settings.
        ValueError: the task has no end.
    """
    if task.end_s is None or not task.end_s > task.start_s:
        raise ValueError(f"{task.source}: there is no span from {task.start_s} to {task.end_s}")
    info = task.info or decoder.probe(task.source)
    longer = max_side(info.width, info.height, encode.short_side)
    _check_sides(info.width, info.height, longer)
    sound = _read_sound(decoder, task, encode) if info.has_audio else None
    times = () if encode.fps else decoder.times(task.source, start_s=task.start_s, end_s=task.end_s)
    fps = output_rate(info, encode.fps, times)
    shot = _Shot(decoder, task, fps, longer)
    count = shot.count
    audio = None
    if sound is not None:
        samples = sound.between(shot.start_s, round(count / fps * encode.audio_sample_rate))
        if not np.isfinite(samples).all():
            raise MediaError(_REFUSED, "the sound has samples that are no numbers")
        audio = (samples, encode.audio_sample_rate)
    comment = f"source sha256 {task.source_id}, from {task.start_s:.3f} s to {task.end_s:.3f} s"
    _write(target, shot.pictures(), fps, audio, encode, comment)
    length = count / fps
    return CutResult(
        sha256=file_sha256(target),
        start_s=shot.start_s,
        end_s=shot.start_s + length,
        fps=fps,
        n_frames=count,
        width=shot.width,
        height=shot.height,
        audio_sr=0 if sound is None else encode.audio_sample_rate,
        duration_s=length,
        sound_share=0.0 if sound is None else sound.share(shot.start_s, length),
    )


def _write(
    target: Path,
    pictures: Iterator[NDArray[np.uint8]],
    fps: float,
    audio: tuple[NDArray[np.float32], int] | None,
    encode: EncodeConfig,
    comment: str,
) -> None:
    """Write a clip. Raises `MediaError` when the clip is to blame, `UserError` when settings, place or machine are."""
    how: dict[str, Any] = {"crf": encode.crf, "preset": encode.preset, "colour_tags": True}
    try:
        write_video(target, pictures, fps=fps, audio=audio, metadata={"comment": comment}, **how)
    except EncoderError as error:
        if error.ended:
            raise MediaError(_ENDED, error.message) from error
        rate, channels = encode.audio_sample_rate, encode.audio_channels
        with tempfile.TemporaryDirectory() as folder:  # nothing can be written with these settings: an error for all
            plain = np.zeros((4, 64, 64, 3), np.uint8)
            write_video(Path(folder, "plain.mp4"), plain, fps=25.0, audio=(np.zeros((rate, channels)), rate), **how)
        raise MediaError(_REFUSED, error.message) from error


def _check_sides(width: int, height: int, longer: int | None) -> None:
    """Raise `MediaError` when a side of the clip would be longer than x264 takes, or nothing."""
    scale = 1.0 if longer is None else longer / max(width, height)
    sides = [round(side * scale) for side in (width, height)]
    if max(sides) // 2 * 2 > MOST_SIDE or min(sides) < 2:
        raise MediaError(_REFUSED, f"{sides[0]}x{sides[1]}, allowed are 2 to {MOST_SIDE} pixels a side")


def output_rate(info: VideoInfo, wanted: float | None, times_s: ArrayLike = ()) -> float:
    """Frames a second of a clip; see the module.

    Args:
        info: What the source says.
        wanted: ``fps`` of the settings.
        times_s: (T,) seconds of the span's pictures, ascending; of fewer than 8 nothing is concluded.

    Raises:
        MediaError: neither the source nor its pictures say a rate, and none is wanted.
    """
    if wanted is not None:
        return usual_rate(wanted, _SAME_RATE)
    times: FloatArray = np.asarray(times_s, np.float64)
    known = math.isfinite(info.fps) and info.fps > 0
    if len(times) < _FEW:
        if known and not info.variable_rate:
            return usual_rate(info.fps, _SAME_RATE)
        return _whole_rate(info.steady_fps or info.fps)
    steps = np.diff(times)
    if steps.max() - steps.min() > _EVEN_S:
        return _whole_rate(steady_rate(times) or info.steady_fps or info.fps)
    length = float(times[-1] - times[0])
    mean, near = len(steps) / length, _SAME_RATE + _CLOCK_S / length
    if known and not info.variable_rate and abs(info.fps / mean - 1.0) < near:
        return usual_rate(info.fps, _SAME_RATE)
    return min(max(1.0, usual_rate(mean, near)), _MOST_FPS)


def _whole_rate(typical: float) -> float:
    """The usual rate near a typical one, or a whole number."""
    if not (math.isfinite(typical) and typical > 0):
        raise MediaError("no frame rate", "set encode.fps")
    rate = usual_rate(typical, _NEAR_RATE)
    return rate if rate in USUAL_RATES else min(max(1.0, float(round(typical))), _MOST_FPS)


def max_side(width: int, height: int, short_side: int | None) -> int | None:
    """Pixels of the longer side at which the shorter one has `short_side`; None when nothing is made smaller."""
    if short_side is None or min(width, height) <= short_side:
        return None
    return round(max(width, height) * short_side / min(width, height))


@dataclass(frozen=True)
class _SoundPart:
    """Sound around a span: (N,) or (N, 2) samples, the first one at `start_s` on the source's clock."""

    samples: NDArray[np.float32]
    rate: int
    start_s: float

    def between(self, start_s: float, count: int) -> NDArray[np.float32]:
        """`count` samples from `start_s` on; silence where there are none."""
        result = np.zeros((count, *self.samples.shape[1:]), np.float32)
        first = round((start_s - self.start_s) * self.rate)
        low, high = max(first, 0), min(first + count, len(self.samples))
        if high > low:
            result[low - first : high - first] = self.samples[low:high]
        return result

    def share(self, start_s: float, length_s: float) -> float:
        """The share of a span that the samples cover."""
        end = self.start_s + len(self.samples) / self.rate
        covered = min(end, start_s + length_s) - max(self.start_s, start_s)
        return min(1.0, max(0.0, covered / length_s))


def _read_sound(decoder: Decoder, task: Task, encode: EncodeConfig) -> _SoundPart:
    """The sound of the span and a little more; nothing but silence where the source has none."""
    end_s = (task.end_s or 0.0) + _SOUND_BEYOND_S
    try:
        sound = decoder.audio(
            task.source, encode.audio_sample_rate, channels=encode.audio_channels, start_s=task.start_s, end_s=end_s
        )
    except MediaError as error:
        if error.reason != "no sound":
            raise
        return _SoundPart(np.zeros(0, np.float32), encode.audio_sample_rate, task.start_s)
    return _SoundPart(sound.samples, sound.sample_rate, sound.start_s)


class _Shot:
    """The pictures of a span, on the clip's clock.

    Attributes:
        start_s: Timestamp of the first one.
        count: Pictures of the clip.
        width: Pixels of the clip.
        height: Pixels of the clip.
    """

    def __init__(self, decoder: Decoder, task: Task, fps: float, longer: int | None) -> None:
        self._fps, self._end_s = fps, float(task.end_s or 0.0)
        batches = decoder.frames(task.source, batch=_BATCH, max_side=longer, start_s=task.start_s, end_s=task.end_s)
        self._source = _one_by_one(batches)
        first = next(self._source, None)
        if first is None:
            raise MediaError("no frames", f"none from {task.start_s:.3f} s to {self._end_s:.3f} s")
        self._first = first
        self.start_s = first[0]
        self.height, self.width = (side - side % 2 for side in first[1].shape[:2])
        self.count = max(1, math.ceil((self._end_s - self.start_s) * fps - _LAST_PART))

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """The clip's pictures."""
        (time_s, shown), coming = self._first, next(self._source, None)
        for k in range(self.count):
            due = self.start_s + (k + _AHEAD) / self._fps
            while coming is not None and coming[0] <= due:
                time_s, shown = coming
                coming = next(self._source, None)
            if coming is None and due - time_s > _MOST_STILL_S:
                raise MediaError("truncated file", f"the last picture is at {time_s:.3f} s, before {self._end_s:.3f} s")
            yield shown[: self.height, : self.width]


def _one_by_one(batches: Iterator[Any]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Seconds and picture of each picture of the batches."""
    for batch in batches:
        yield from zip(batch.times_s.tolist(), batch.frames, strict=True)
