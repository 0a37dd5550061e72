"""Reading untrusted video and sound files in a process of its own.

One `Decoder` belongs to one worker process and reads many clips. Codecs run in a child process with a limit
on its address space; the parent waits for it with a limit on time. A child that crashes, hangs or runs
out of memory costs one clip: it is killed, collected and replaced at the next call.

Reasons of `MediaError`:

- ``file not found`` (also when it may not be read), ``empty file``
- ``not a media file``: no known container, no regular file, or a codec that is not there.
- ``container not allowed``: another container than mp4, mov, webm, mkv, wav, flac, mp3, ogg, or a playlist.
  The content decides, never the suffix.
- ``no video stream``, ``no frames``, ``no sound``
- ``truncated file``: raised after the good pictures. The file is shorter than its own structure says (MP4
  boxes, Matroska segment, RIFF size; an MP4 without its index cannot be opened at all), or a packet behind the
  first good picture cannot be decoded. For sound, bad packets at the very end are forgiven.
- ``too many pixels``, ``too long``
- ``decoder ran out of memory``, ``decoder timed out``, ``decoder crashed``

Decoding uses one thread, so that equal files give equal pixels and many workers do not fight for cores.
"""

from __future__ import annotations

import dataclasses
import math
import os
import stat
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from macebench.errors import MediaError
from macebench.media.framefolder import SIDECAR, frame_folder
from macebench.media.process import ChildGone, ChildProcess, copy_out, reason_of
from macebench.media.stills import turned
from macebench.media.values import FrameBatch, FrameCounts, Limits, Sound, VideoInfo
from macebench.media.wire import MAX_SLOT_BYTES, N_SLOTS, OUT_OF_MEMORY, SOUND_SLOT_BYTES, Message
from macebench.types import Array

_STOP_S = 5.0


class Decoder:
    """Reads clips through a decoder process that is started at the first call. Not for use by two threads.

    A folder of PNG pictures with a frame rate (`macebench.media.framefolder`) is read like a video without sound.

    Args:
        limits: What one clip may cost.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._child: ChildProcess | None = None
        self._guard: Any = None
        self._call: _Call | None = None
        self._requests = 0
        self._counts: FrameCounts | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the decoder process. The next call starts another one."""
        self._call = None
        if self._guard is not None:
            self._guard.detach()
        if self._child is not None:
            self._child.close()
        self._child, self._guard = None, None

    @property
    def counts(self) -> FrameCounts | None:
        """Counts of the last clip that `frames` read to its end without an error, else None."""
        return self._counts

    @property
    def pid(self) -> int | None:
        """Process id of the decoder process, None when none runs."""
        return self._child.pid if self._child is not None and self._child.usable else None

    def start(self) -> None:
        """Start the decoder process now instead of at the first call.

        Raises:
            UserError: it does not start: the memory limit is too low or the installation is broken.
        """
        self._running()

    def probe(self, path: str | Path) -> VideoInfo:
        """What a video file is; decodes one picture.

        Raises:
            MediaError: see the module.
        """
        fps = _folder_rate(path)
        call = self._begin("probe", path) if fps is None else self._begin("probe_folder", path, fps=fps)
        info = call.receive()["info"]
        return VideoInfo(**info | {"notes": tuple(info["notes"])})

    def times(self, path: str | Path, *, start_s: float, end_s: float) -> Array:
        """(T,) seconds after the first picture of the pictures of a span of a video file, ascending.

        They are read from the packets without decoding, so damage is not seen; of very many, only the first come.

        Raises:
            MediaError: see the module.
            ValueError: the span is none.
        """
        _check_span(start_s, end_s)
        return np.array(self._begin("times", path, start_s=start_s, end_s=end_s).receive()["times"], np.float64)

    def frames(
        self,
        path: str | Path,
        *,
        batch: int = 16,
        max_fps: float | None = None,
        max_side: int | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> Iterator[FrameBatch]:
        """The pictures of a video, in batches of at most `batch` (fewer where a batch would pass 128 MiB).

        The decoder works ahead by two batches and then waits; memory does not grow with the length.
        Leaving the loop early is fine. A later call on this decoder ends this one.

        Args:
            path: The file.
            batch: Most pictures in one batch.
            max_fps: Keep a picture only when it is at least 0.9 / `max_fps` seconds later than the last
                kept one.
            max_side: Pixels of the longer side of a delivered picture at most. A larger picture is made smaller
                in the decoder, keeping its shape, in the same step as the conversion to RGB (swscale's area
                filter); a smaller one stays as it is. Timestamps are the same with any value.
            start_s: Only pictures from this time on, in seconds after the file's first picture; decoding begins at
                the key picture before it, so that a span of a long file is cheap.
            end_s: Only pictures before this time. What follows is not looked at, so a file that is damaged behind
                it is read without an error.

        Raises:
            MediaError: see the module; good pictures come first.
            ValueError: `batch`, `max_fps` or `max_side` is not above 0, or the span is none.
        """
        if batch < 1 or (max_fps is not None and not max_fps > 0) or (max_side is not None and max_side < 1):
            raise ValueError(f"batch {batch}, max_fps {max_fps} and max_side {max_side} must be above 0")
        _check_span(start_s, end_s)
        span = {"start_s": start_s, "end_s": end_s}
        return self._frames(path, batch=batch, max_fps=max_fps, max_side=max_side, **span)

    def _frames(self, path: str | Path, **how: Any) -> Iterator[FrameBatch]:
        self._counts = None
        fps = _folder_rate(path)
        call = self._begin("frames", path, **how) if fps is None else self._begin("folder", path, fps=fps, **how)
        try:
            message = call.receive()
            shape = (0, 0)
            while message["kind"] != "end":
                if message["kind"] == "head":
                    shape = (message["height"], message["width"])
                else:
                    yield call.take_pictures(message, shape)
                message = call.receive()
            self._counts = FrameCounts(**{key: message[key] for key in _COUNTS})
        finally:
            call.leave()

    def picture(self, path: str | Path) -> Array:
        """The (H, W, 3) RGB picture of a PNG, JPEG or WebP file (`macebench.media.stills`).

        Raises:
            MediaError: ``transparent picture``, or see the module.
        """
        call = self._begin("still", path)
        found, shape = None, (0, 0)
        try:
            message = call.receive()
            while message["kind"] != "end":
                if message["kind"] == "head":
                    shape = (message["height"], message["width"])
                else:
                    found = call.take_pictures(message, shape).frames[0]
                message = call.receive()
        finally:
            call.leave()
        if found is None:
            raise MediaError("no frames")
        return turned(found, int(message["orientation"]))

    def audio(
        self,
        path: str | Path,
        sample_rate: int,
        *,
        channels: int = 1,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> Sound:
        """The sound of a video or sound file at `sample_rate`.

        Resampled by soxr in high quality, which is what librosa.load does by default. Silence comes back as it
        is. The first sound stream is taken.

        Args:
            path: The file.
            sample_rate: Samples a second.
            channels: 1 for the mean of all channels; 2 keeps the channels of a stereo stream, any other is mono.
            start_s: Only samples from this time on, in seconds after the file's first picture; decoding begins
                shortly before it. The first sample is the one nearest to it (the first of all if that is later).
            end_s: Only samples before this time.

        Raises:
            MediaError: ``no sound`` (also when there is none in the span), or see the module.
            ValueError: `sample_rate` is not above 0, `channels` is not 1 or 2, or the span is none.
        """
        if sample_rate <= 0 or channels not in (1, 2):
            raise ValueError(f"sample_rate {sample_rate} must be above 0, channels {channels} 1 or 2")
        _check_span(start_s, end_s)
        call = self._begin("audio", path, channels=channels, start_s=start_s, end_s=end_s)
        parts: list[Any] = []
        rate, first_s, found = 0, 0.0, 1
        try:
            message = call.receive()
            while message["kind"] != "end":
                if message["kind"] == "head":
                    rate, first_s, found = message["sample_rate"], message["start_s"], message["channels"]
                else:
                    parts.append(call.take_samples(message))
                message = call.receive()
        finally:
            call.leave()
        if not parts:
            raise MediaError("no sound")
        samples = np.concatenate(parts)
        parts.clear()
        samples = samples.reshape(-1, 2) if found == 2 else samples
        return _within(Sound(_resample(samples, rate, sample_rate), sample_rate, first_s), start_s, end_s)

    def sound_parts(self, path: str | Path) -> Iterator[Sound]:
        """The sound of a file in consecutive pieces, mono, at its own rate; memory does not grow with the length.

        Leaving the loop early is fine. A later call on this decoder ends this one.

        Raises:
            MediaError: ``no sound``, or see the module; good pieces come first.
        """
        call = self._begin("audio", path, channels=1, start_s=None, end_s=None)
        rate, start_s, count = 0, 0.0, 0
        try:
            message = call.receive()
            while message["kind"] != "end":
                if message["kind"] == "head":
                    rate, start_s = message["sample_rate"], message["start_s"]
                else:
                    samples = call.take_samples(message)
                    yield Sound(samples, rate, start_s + count / rate)
                    count += len(samples)
                message = call.receive()
        finally:
            call.leave()
        if not count:
            raise MediaError("no sound")

    def _begin(self, kind: str, path: str | Path, **how: Any) -> _Call:
        name = os.path.abspath(path) if kind in _OF_FOLDERS else _checked(path)
        if self._call is not None:
            self._call.leave()
        child = self._running()
        self._requests += 1
        request = {"kind": kind, "id": self._requests, "path": name, "how": how}
        call = _Call(self, child, self._requests)
        call.send(request | {"limits": dataclasses.asdict(self.limits)})
        self._call = call
        return call

    def _running(self) -> ChildProcess:
        if self._child is not None and not self._child.usable:
            self.discard()
        if self._child is None:
            self._child = ChildProcess(self.limits.memory_mb)
            self._guard = weakref.finalize(self, self._child.kill)
        return self._child

    def discard(self, child: ChildProcess | None = None) -> None:
        """Kill the decoder process (only if it is `child`, when given); the next call starts another one."""
        if child is not None and child is not self._child:
            return
        if self._guard is not None:
            self._guard()
        self._child, self._guard = None, None


_OF_FOLDERS = ("probe_folder", "folder")
_COUNTS = tuple(field.name for field in dataclasses.fields(FrameCounts))


class _Call:
    """One request and its answer."""

    def __init__(self, decoder: Decoder, child: ChildProcess, request: int) -> None:
        self._decoder, self._child, self._request = decoder, child, request
        self._left_s = decoder.limits.wall_s
        self._slot_bytes = 0
        self._done = False

    def send(self, message: Message) -> None:
        try:
            self._child.send(message)
        except ChildGone as gone:
            raise self._lost(reason_of(str(gone)), str(gone)) from gone

    def receive(self) -> Message:
        """The next message of this answer.

        Raises:
            MediaError: what the child reports, or what became of it.
        """
        while True:
            if self._done:
                raise RuntimeError("this clip is no longer read: another call on the decoder has ended it")
            message = self._next()
            if message.get("id") != self._request:
                continue
            if message["kind"] == "error":
                self._done = True
                if message["reason"] == OUT_OF_MEMORY:
                    self._decoder.discard(self._child)
                raise MediaError(message["reason"], message["detail"])
            if message["kind"] == "head":
                self._slot_bytes = int(message["slot_bytes"])
            self._done = message["kind"] == "end"
            return message

    def _next(self) -> Message:
        start = time.monotonic()
        try:
            message = self._child.receive(self._left_s)
        except ChildGone as gone:
            raise self._lost(reason_of(str(gone)), str(gone)) from gone
        self._left_s -= time.monotonic() - start
        if message is None:
            raise self._lost("decoder timed out", f"no picture within {self._decoder.limits.wall_s} s")
        return message

    def _lost(self, reason: str, detail: str) -> MediaError:
        self._done = True
        self._decoder.discard(self._child)
        return MediaError(reason, detail)

    def take_pictures(self, message: Message, shape: tuple[int, int]) -> FrameBatch:
        """Copy a batch out of its slot and give the slot back."""
        times = np.array(message["times"], np.float64)
        frames = self._take(message["slot"], (len(times), *shape, 3), np.uint8)
        return FrameBatch(frames, times)

    def take_samples(self, message: Message) -> Any:
        """Copy samples out of their slot and give the slot back."""
        if self._slot_bytes != SOUND_SLOT_BYTES:
            raise self._lost("decoder crashed", "it sent a slot of a wrong size")
        return self._take(message["slot"], (int(message["n"]),), np.float32)

    def _take(self, slot: int, shape: tuple[int, ...], dtype: Any) -> Any:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        largest = max(MAX_SLOT_BYTES, self._decoder.limits.max_pixels * 3)
        if not (0 <= slot < N_SLOTS and 0 < size <= self._slot_bytes <= largest):
            raise self._lost("decoder crashed", "it sent a slot of a wrong size")
        try:
            memory = self._child.memory(self._slot_bytes * N_SLOTS)
        except ChildGone as gone:
            raise self._lost("decoder crashed", str(gone)) from gone
        taken = copy_out(memory, slot * self._slot_bytes, shape, dtype)
        self.send({"kind": "free", "slot": slot})
        return taken

    def leave(self) -> None:
        """Abandon the rest of the answer; the child is killed when it does not stop soon."""
        if self._done:
            return
        self._left_s = min(self._left_s, _STOP_S)
        try:
            self.send({"kind": "stop"})
            while not self._done:
                self.receive()
        except MediaError:
            self._done = True


def _folder_rate(path: str | Path) -> float | None:
    """Pictures a second of a folder of pictures; None for what is no folder. Raises `MediaError`."""
    if not os.path.isdir(path):
        return None
    found = frame_folder(path)
    if found is None:
        raise MediaError("not a media file", f"a folder without {SIDECAR}")
    return found.fps


def _checked(path: str | Path) -> str:
    """The absolute name of a regular file with something in it. Raises `MediaError`."""
    if os.path.isdir(path):
        raise MediaError("no sound", "a folder of pictures") if frame_folder(path) else MediaError("not a media file")
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise MediaError("file not found", str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError("not a media file", "not a regular file")
    if status.st_size == 0:
        raise MediaError("empty file")
    return os.path.abspath(path)


def _resample(samples: Any, rate: int, target: int) -> Any:
    """Samples at another rate, as librosa.resample gives them: ceil(N * target / rate) of them."""
    if rate == target:
        return samples
    import soxr  # type: ignore[import-untyped, unused-ignore]

    wanted = -(-len(samples) * target // rate)
    result = soxr.resample(samples, rate, target, quality="HQ")[:wanted]
    return np.pad(result, [(0, wanted - len(result)), *[(0, 0)] * (samples.ndim - 1)])


def _within(sound: Sound, start_s: float | None, end_s: float | None) -> Sound:
    """The part of a sound that lies in a span. Raises `MediaError` when there is none."""
    if start_s is None and end_s is None:
        return sound
    rate, count = sound.sample_rate, len(sound.samples)
    low = 0 if start_s is None else min(max(round((start_s - sound.start_s) * rate), 0), count)
    high = count if end_s is None else min(max(round((end_s - sound.start_s) * rate), low), count)
    if low == high:
        raise MediaError("no sound", "none in the span")
    return Sound(sound.samples[low:high], rate, sound.start_s + low / rate)


def _check_span(start_s: float | None, end_s: float | None) -> None:
    low, high = start_s or 0.0, math.inf if end_s is None else end_s
    if not (math.isfinite(low) and high > low):
        raise ValueError(f"there is no span from {start_s} to {end_s} seconds")
