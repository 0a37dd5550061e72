"""Sound of a file as mono float32 at its own rate; runs in the decoder process only.

Mono is the mean of the channels. A hole of more than 50 ms in the timestamps is filled with silence, so
that what follows stays on the clip's clock. Encoder delay is cut by the demuxer where the file declares it.
"""

from __future__ import annotations

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
_MAX_PLANES = 8
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}
_SLOT_SAMPLES = SOUND_SLOT_BYTES // 4


def stream_sound(path: str, limits: Limits, ring: Ring) -> dict[str, int]:
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
        out = _Samples(ring, limits)
        try:
            for frame in track.frames():
                out.add(frame, origin)
        finally:
            out.flush()
        track.finish(path, "no sound")
        if container.format.name == "flac" and declared and out.seconds < declared - 2 * _HOLE_S:
            raise MediaError(TRUNCATED, f"{out.seconds:.2f} of {declared:.2f} s")
    return {"decoded": out.count}


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
        count: Samples so far, silence in holes included.
    """

    def __init__(self, ring: Ring, limits: Limits) -> None:
        self._ring, self._limits = ring, limits
        self._rate, self._start_s = 0, 0.0
        self._slot: int | None = None
        self._used = 0
        self.count = 0

    @property
    def seconds(self) -> float:
        return self.count / self._rate if self._rate else 0.0

    def add(self, frame: Any, origin: float | None) -> None:
        time = None if frame.pts is None else float(frame.pts * frame.time_base)
        if self._rate == 0:
            self._rate, self._start_s = int(frame.sample_rate), time or 0.0
            offset = 0.0 if origin is None else self._start_s - origin
            self._ring.open(SOUND_SLOT_BYTES, sample_rate=self._rate, start_s=offset)
        if frame.sample_rate != self._rate:
            raise MediaError(TRUNCATED, f"sample rate changes from {self._rate} to {frame.sample_rate}")
        if frame.format.is_planar and frame.layout.nb_channels > _MAX_PLANES:
            # PyAV reads behind its table of planes and brings the process down.
            raise MediaError("not a media file", f"{frame.layout.nb_channels} channels")
        hole = 0.0 if time is None else time - self._start_s - self.seconds
        check_length(self.seconds + max(hole, 0.0), self._limits)
        if hole > _HOLE_S:
            self._put_silence(round(hole * self._rate))
        self._put(_mono(frame))

    def _put_silence(self, count: int) -> None:
        for start in range(0, count, _SLOT_SAMPLES):
            self._put(np.zeros(min(_SLOT_SAMPLES, count - start), np.float32))

    def _put(self, samples: Array) -> None:
        self.count += len(samples)
        while len(samples):
            if self._slot is None:
                self._slot, self._used = self._ring.acquire(), 0
            part = samples[: _SLOT_SAMPLES - self._used]
            view = self._ring.view(self._slot).view(np.float32)
            view[self._used : self._used + len(part)] = part
            self._used += len(part)
            samples = samples[len(part) :]
            if self._used == _SLOT_SAMPLES:
                self.flush()

    def flush(self) -> None:
        if self._slot is not None and self._used:
            self._ring.send(self._slot, n=self._used)
            self._slot = None


def _mono(frame: Any) -> Array:
    """(N,) float32, the mean of the channels of one frame."""
    values, name = frame.to_ndarray(), frame.format.name
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        values = values.reshape(-1, channels).T
    kind = name.removesuffix("p")
    if kind == "u8":
        values = values.astype(np.float64) - 128.0
    scaled = values if kind == "flt" else (values / _FULL_SCALE[kind]).astype(np.float32)
    return np.asarray(np.mean(scaled, axis=0, dtype=np.float32) if channels > 1 else scaled[0], np.float32)
