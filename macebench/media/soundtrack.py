"""Sound of a file as float32 at its own rate; runs in the decoder process only.

Mono is the mean of the channels. When stereo is wanted, a stream of two channels keeps them; any other is mono. A hole
of more than 50 ms in the timestamps is filled with silence, so that what follows stays on the clip's clock. Encoder
delay is cut by the demuxer where the file declares it.

Beside pictures, sound keeps to the timestamps more closely: what is more than 5 ms late or early on the clip's clock
for 0.1 s on end (at the end of the file, 0.05 s) is moved by its least distance, with silence in front or without its
begin: packets were lost, or lie over each other. Timestamps that are rounded or that waver come back before that and
move nothing, so a healthy file gives its samples as they are.

With `start_s`, decoding begins 0.5 s before it, because codecs need some packets before they are exact, and what comes
earlier is dropped. A place that the file's index does not lead to is looked for from the begin.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from macebench.errors import MediaError
from macebench.media.pictures import Video, ticks_of
from macebench.media.ring import Ring
from macebench.media.source import TRUNCATED, Track, check_length, open_file
from macebench.media.values import Limits
from macebench.media.wire import SOUND_SLOT_BYTES
from macebench.types import Array

_HOLE_S = 0.05
_OFF_S, _LASTS_S, _LASTS_AT_END_S = 0.005, 0.1, 0.05
_RUN_UP_S, _RUN_OUT_S = 0.5, 0.1
_STEPS_BACK_S = (0.0, 2.0, 15.0, 90.0)
_MAX_PLANES = 8
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}
_SLOT_SAMPLES = SOUND_SLOT_BYTES // 4


def stream_sound(
    path: str,
    limits: Limits,
    ring: Ring,
    channels: int = 1,
    start_s: float | None = None,
    end_s: float | None = None,
) -> dict[str, int]:
    """Send the first sound stream of a file through `ring`.

    Raises:
        MediaError: no sound, and all of `macebench.media.decoder`.
    """
    with open_file(path) as container:
        if not container.streams.audio:
            raise MediaError("no sound")
        stream = container.streams.audio[0]
        declared = None if stream.duration is None else float(stream.duration * stream.time_base)
        check_length(declared, limits)
        origin = _first_picture_s(path, limits)
        track = Track(container, stream, forgive_last=True)
        out = _Samples(ring, limits, channels)
        zero = origin or 0.0
        try:
            for frame in _from(track, None if start_s is None else zero + start_s):
                if end_s is not None and frame.pts is not None and _time(frame) >= zero + end_s + _RUN_OUT_S:
                    return {"decoded": out.count}
                out.add(frame, origin)
        finally:
            out.finish()
        track.finish(path, "no sound")
        if container.format.name == "flac" and declared and out.seconds < declared - 2 * _HOLE_S:
            raise MediaError(TRUNCATED, f"{out.seconds:.2f} of {declared:.2f} s")
    return {"decoded": out.count}


def _from(track: Track, start_s: float | None) -> Iterator[Any]:
    """Frames from about `_RUN_UP_S` before `start_s` on (on the file's clock); all of them without it."""
    if start_s is None:
        return track.frames()
    wanted = start_s - _RUN_UP_S
    moved = False
    for back in _STEPS_BACK_S:
        if wanted - back <= 0 or not track.seek(wanted - back):
            break
        moved, frames = True, track.frames()
        first = next(frames, None)
        if first is not None and first.pts is not None and _time(first) <= wanted:
            return itertools.dropwhile(lambda frame: _ends_before(frame, wanted), itertools.chain([first], frames))
    if moved and not track.seek(min(float(track.stream.start_time or 0) * float(track.stream.time_base), 0.0)):
        raise MediaError(TRUNCATED, "its begin cannot be found again")
    return itertools.dropwhile(lambda frame: _ends_before(frame, wanted), track.frames())


def _time(frame: Any) -> float:
    return float(frame.pts * frame.time_base)


def _ends_before(frame: Any, seconds: float) -> bool:
    return frame.pts is not None and _time(frame) + frame.samples / frame.sample_rate <= seconds


def _first_picture_s(path: str, limits: Limits) -> float | None:
    """Timestamp of the first picture in seconds; None where there is no picture."""
    try:
        with open_file(path) as container:
            video = Video(container, limits)
            for frame in video.track.frames():
                base = frame.time_base or video.stream.time_base
                return float(ticks_of(frame, video.stream, None) * base)
    except MediaError as error:
        if error.reason not in ("no video stream", "no frames"):
            raise
    return None


class _Samples:
    """Fills slots of the ring with samples.

    Attributes:
        count: Samples of one channel so far, silence in holes included.
    """

    def __init__(self, ring: Ring, limits: Limits, channels: int = 1) -> None:
        self._ring, self._limits, self._channels = ring, limits, channels
        self._rate, self._start_s = 0, 0.0
        self._slot: int | None = None
        self._used = 0
        self._held: list[tuple[float, Array]] = []
        self.count = 0

    @property
    def seconds(self) -> float:
        return self.count / self._rate if self._rate else 0.0

    def _off(self, time: float | None) -> float:
        """Seconds by which what comes next lies behind what came before; below 0 when it lies over it."""
        if time is None:
            return self._held[-1][0] if self._held else 0.0
        return time - self._start_s - self.seconds - self._held_s

    @property
    def _held_s(self) -> float:
        return sum(len(samples) for _, samples in self._held) / self._rate if self._held else 0.0

    def add(self, frame: Any, origin: float | None) -> None:
        time = None if frame.pts is None else _time(frame)
        if self._rate == 0:
            self._rate, self._start_s = int(frame.sample_rate), time or 0.0
            self._channels = self._channels if frame.layout.nb_channels == self._channels else 1
            offset = 0.0 if origin is None else self._start_s - origin
            self._ring.open(SOUND_SLOT_BYTES, sample_rate=self._rate, start_s=offset, channels=self._channels)
        if frame.sample_rate != self._rate:
            raise MediaError(TRUNCATED, f"sample rate changes from {self._rate} to {frame.sample_rate}")
        if frame.format.is_planar and frame.layout.nb_channels > _MAX_PLANES:
            # PyAV reads behind its table of planes and brings the process down.
            raise MediaError("not a media file", f"{frame.layout.nb_channels} channels")
        off = self._off(time)
        check_length(self.seconds + max(off, 0.0), self._limits)
        if off > _HOLE_S and self._held:
            self._settle(moved=True)
            off = self._off(time)
        if off > _HOLE_S:
            self._put_silence(round(off * self._rate))
            off = 0.0
        if origin is None:
            self._put(_mixed(frame, self._channels))
        else:
            self._place(off, _mixed(frame, self._channels))

    def _place(self, off: float, samples: Array) -> None:
        """Send samples, or hold them until it is known whether they are off their time for long."""
        if abs(off) <= _OFF_S or (self._held and (self._held[0][0] > 0) != (off > 0)):
            self._settle(moved=False)
        if abs(off) <= _OFF_S:
            self._put(samples)
            return
        self._held.append((off, samples))
        if self._held_s >= _LASTS_S:
            self._settle(moved=True)

    def _settle(self, *, moved: bool) -> None:
        """Send what is held: as it is, or moved by the least distance from its time."""
        held, self._held = self._held, []
        shift = round(min((off for off, _ in held), key=abs, default=0.0) * self._rate) if moved else 0
        self._put_silence(shift)
        for _, samples in held:
            left_out = min(max(-shift, 0), len(samples))
            self._put(samples[left_out:])
            shift += left_out

    def _put_silence(self, count: int) -> None:
        for start in range(0, count, _SLOT_SAMPLES):
            self._put(np.zeros((min(_SLOT_SAMPLES, count - start), self._channels), np.float32))

    def _put(self, samples: Array) -> None:
        """Send (N, channels) samples."""
        self.count += len(samples)
        values = samples.reshape(-1)
        while len(values):
            if self._slot is None:
                self._slot, self._used = self._ring.acquire(), 0
            part = values[: _SLOT_SAMPLES - self._used]
            view = self._ring.view(self._slot).view(np.float32)
            view[self._used : self._used + len(part)] = part
            self._used += len(part)
            values = values[len(part) :]
            if self._used == _SLOT_SAMPLES:
                self.flush()

    def finish(self) -> None:
        """Send everything."""
        self._settle(moved=self._held_s >= _LASTS_AT_END_S)
        self.flush()

    def flush(self) -> None:
        if self._slot is not None and self._used:
            self._ring.send(self._slot, n=self._used)
            self._slot = None


def _mixed(frame: Any, channels: int) -> Array:
    """(N, channels) float32 of one frame: its channels when it has so many, else their mean in each."""
    values, name = frame.to_ndarray(), frame.format.name
    found = frame.layout.nb_channels
    if not frame.format.is_planar:
        values = values.reshape(-1, found).T
    kind = name.removesuffix("p")
    if kind == "u8":
        values = values.astype(np.float64) - 128.0
    scaled = values if kind == "flt" else (values / _FULL_SCALE[kind]).astype(np.float32)
    if found == channels:
        return np.asarray(scaled.T, np.float32)
    mono = np.mean(scaled, axis=0, dtype=np.float32) if found > 1 else scaled[0]
    return np.repeat(np.asarray(mono, np.float32)[:, None], channels, axis=1)
