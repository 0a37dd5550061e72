"""Pictures of a file: probing and streaming; runs in the decoder process only.

Pictures come out as a person would see them on a screen, in square pixels:

1. converted to RGB with the colour matrix and range that the file declares (BT.601, limited range when it
   declares none), as OpenCV does;
2. where the sample aspect ratio is not 1, the width is scaled to round(width * ratio) with swscale's bicubic
   filter (decord and OpenCV leave such pictures distorted);
3. turned and mirrored as the display matrix says, in quarter turns.

With `max_side`, a picture whose longer side would have more pixels comes out smaller: both sides times
max_side / longer side, rounded. Steps 1 and 2 and the scaling are then one step with swscale's area filter, which
averages the pixels that a new one covers, and with full colour resolution. Without it, and for smaller pictures,
nothing changes.

Pictures of more than 8 bits are brought to 8. HDR (PQ, HLG) is *not* tone mapped and BT.2020 colours are not brought to
those of a screen: the numbers of the file are taken as they are, so such a picture looks pale. Transparency is ignored:
the stored colours count. `probe` says so of the first picture.

A picture whose size differs from that of the first one is scaled to it. Timestamps are the presentation
timestamps minus that of the first picture; a picture that is not later than the one before is dropped and
counted. With `max_fps`, a picture is kept when it is at least 0.9 / max_fps later than the last kept one.

A file that says it lasts longer than its pictures do is not believed: the length ends one picture after the last one,
unless bytes are missing, so that a file that was cut off is known by its length too.

With `start_s`, decoding begins at the key picture before it. Whether it does is checked: when the first key picture
that comes out is later than `start_s`, the file's index is no help, and decoding begins earlier, at last at the begin
of the file. So the same pictures come out as without `start_s`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter

from macebench.errors import MediaError
from macebench.media.rates import steady_rate
from macebench.media.ring import Ring
from macebench.media.source import (
    TRUNCATED,
    Track,
    check_length,
    check_size,
    container_name,
    declared_length,
    open_file,
    video_stream,
)
from macebench.media.structure import missing_bytes
from macebench.media.values import Limits
from macebench.media.wire import MAX_SLOT_BYTES
from macebench.types import Array

_LOOKED_AT = 512
_REORDERING = 16
_MOST_TIMES = 20_000
_BICUBIC = 4
_AREA_FULL_COLOUR = 0x20 | 0x2000
_EVEN_S = 0.0025
_STEPS_BACK_S = (0.0, 2.0, 15.0, 90.0)
_SAME_S = 1e-6
_BEYOND_LAST_S = 0.5
_HDR, _BT2020 = {16: "PQ", 18: "HLG"}, 9
HDR_NOTE = "HDR ({}) read without tone mapping"
GAMUT_NOTE = "BT.2020 colours read as they are"
ALPHA_NOTE = "transparency ignored"


class Geometry:
    """How stored pictures become delivered ones, decided by the first picture of a clip.

    Attributes:
        width: Pixels of a delivered picture.
        height: As `width`.
        rotation_deg: Counter-clockwise turn, 0, 90, 180 or 270.
    """

    def __init__(self, frame: Any, sample_aspect: Any, limits: Limits, max_side: int | None = None) -> None:
        check_size(frame.width, frame.height, limits)
        aspect = float(sample_aspect or 1)
        self._width: int = max(1, round(frame.width * aspect)) if aspect > 0 else frame.width
        self._height: int = frame.height
        check_size(self._width, self._height, limits)
        self._filter = _BICUBIC
        longer = max(self._width, self._height)
        if max_side is not None and longer > max_side:
            self._width, self._height = (
                max(1, round(side * max_side / longer)) for side in (self._width, self._height)
            )
            self._filter = _AREA_FULL_COLOUR
        self._swap, self._flip_x, self._flip_y = _orientation(frame)
        self.width, self.height = self._width, self._height
        if self._swap:
            self.width, self.height = self._height, self._width
        self.rotation_deg = round(frame.rotation / 90) % 4 * 90
        self._limits = limits
        self._scaler = VideoReformatter()

    def picture(self, frame: Any) -> Array:
        """(height, width, 3) RGB view of one decoded frame."""
        check_size(frame.width, frame.height, self._limits)
        rgb = self._scaler.reformat(
            frame, width=self._width, height=self._height, format="rgb24", interpolation=self._filter, threads=1
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        picture = rows[: self._height, : self._width * 3].reshape(self._height, self._width, 3)
        if self._swap:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self._flip_y else 1, :: -1 if self._flip_x else 1]


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Swap axes, then flip x, then flip y: the display matrix rounded to quarter turns."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know the kind of EXIF data in a PNG picture
        data = None
    if data is None:
        return False, False, False
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), np.int32)[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


class Video:
    """An open file with a video stream, within the limits that can be checked before decoding."""

    def __init__(self, container: Any, limits: Limits) -> None:
        self.stream = video_stream(container)
        self.track = Track(container, self.stream)
        self.limits = limits
        check_size(self.stream.width, self.stream.height, limits)
        check_length(declared_length(container, self.stream), limits)
        if self.stream.frames > limits.max_frames:
            raise MediaError("too long", f"{self.stream.frames} pictures, allowed are {limits.max_frames}")

    def timed(self) -> Iterator[tuple[float, Any]]:
        """Seconds after the first picture, and the frame; within the limits, in the order of the codec."""
        return self._timed(None)

    def timed_from(self, start_s: float, origin_s: float) -> Iterator[tuple[float, Any]]:
        """As `timed`, but only from the key picture before `start_s` on; earlier when that is not known.

        Args:
            start_s: Seconds after the first picture.
            origin_s: The first picture's time on the file's clock.
        """
        for back in _STEPS_BACK_S:
            if start_s - back <= 0 or not self.track.seek(origin_s + start_s - back):
                break
            pictures = self._timed(origin_s)
            first = next(((seconds, frame) for seconds, frame in pictures if frame.key_frame), None)
            if first is not None and first[1].pts is not None and first[0] <= start_s + _SAME_S:
                yield first
                yield from pictures
                return
        if not self.track.seek(min(origin_s, 0.0)):
            raise MediaError(TRUNCATED, "its begin cannot be found again")
        yield from self._timed(origin_s)

    def _timed(self, origin_s: float | None) -> Iterator[tuple[float, Any]]:
        first, ticks = None, None
        for count, frame in enumerate(self.track.frames(), 1):
            base = frame.time_base or self.stream.time_base
            ticks = ticks_of(frame, self.stream, ticks)
            if first is None:
                first = ticks if origin_s is None else round(origin_s * base.denominator / base.numerator)
            seconds = (ticks - first) * base.numerator / base.denominator
            check_length(seconds, self.limits)
            if count > self.limits.max_frames:
                raise MediaError("too long", f"more than {self.limits.max_frames} pictures")
            yield seconds, frame


def ticks_of(frame: Any, stream: Any, before: int | None) -> int:
    """Timestamp of a frame in its time base; where it has none, one nominal picture after the last."""
    if frame.pts is not None:
        return int(frame.pts)
    if before is None:
        return 0
    rate = stream.average_rate or stream.guessed_rate or 25
    return before + max(1, int(round(1 / (rate * (frame.time_base or stream.time_base)))))  # noqa: RUF046


def stream_frames(
    path: str,
    limits: Limits,
    ring: Ring,
    batch: int,
    max_fps: float | None,
    max_side: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
) -> dict[str, int]:
    """Send the pictures of a file through `ring`; the counts come back.

    Raises:
        MediaError: see `macebench.media.decoder`.
    """
    with open_file(path) as container:
        video = Video(container, limits)
        out = _Batches(ring, batch, max_side, video.stream.sample_aspect_ratio, limits)
        pictures = video.timed() if start_s is None or start_s <= 0 else _from(video, start_s, out)
        counts, whole = _deliver(pictures, out, max_fps, start_s, end_s)
        if whole:
            video.track.finish(path, "no frames")
    return counts


def deliver(
    pictures: Iterator[tuple[float, Any]],
    limits: Limits,
    ring: Ring,
    batch: int,
    max_fps: float | None,
    max_side: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
) -> dict[str, int]:
    """As `stream_frames`, of decoded frames with their seconds instead of a file."""
    return _deliver(pictures, _Batches(ring, batch, max_side, None, limits), max_fps, start_s, end_s)[0]


def _deliver(
    pictures: Iterator[tuple[float, Any]],
    out: _Batches,
    max_fps: float | None,
    start_s: float | None,
    end_s: float | None,
) -> tuple[dict[str, int], bool]:
    """Counts, and whether the pictures were followed to their end."""
    counts = {"decoded": 0, "delivered": 0, "out_of_order": 0, "thinned": 0}
    distance = 0.0 if max_fps is None else 0.9 / max_fps
    low, high = -math.inf if start_s is None else start_s - _SAME_S, math.inf if end_s is None else end_s - _SAME_S
    last, kept = -math.inf, -math.inf
    try:
        for seconds, frame in pictures:
            counts["decoded"] += 1
            if seconds <= last:
                counts["out_of_order"] += 1
                continue
            last = seconds
            if seconds >= high:
                return counts, False
            if seconds < low:
                continue
            if seconds - kept < distance:
                counts["thinned"] += 1
                continue
            kept = seconds
            out.add(seconds, frame)
            counts["delivered"] += 1
    finally:
        out.flush()
    return counts, True


def _from(video: Video, start_s: float, out: _Batches) -> Iterator[tuple[float, Any]]:
    """Pictures from about `start_s` on; what they look like is decided by the first one of the file."""
    for frame in video.track.frames():
        out.start(frame)
        return video.timed_from(start_s, _origin_s(video, frame))
    return iter(())


class _Batches:
    """Fills slots of the ring with pictures."""

    def __init__(self, ring: Ring, batch: int, max_side: int | None, aspect: Any, limits: Limits) -> None:
        self._ring, self._batch, self.max_side = ring, batch, max_side
        self._aspect, self._limits = aspect, limits
        self._geometry: Geometry | None = None
        self._slot: int | None = None
        self._times: list[float] = []
        self._pictures = np.empty(0, np.uint8)

    def add(self, seconds: float, frame: Any) -> None:
        if self._geometry is None:
            self.start(frame)
        if self._slot is None:
            self._slot = self._ring.acquire()
            self._pictures = self._ring.view(self._slot).reshape(self._shape)
        if self._geometry is not None:
            self._pictures[len(self._times)] = self._geometry.picture(frame)
        self._times.append(seconds)
        if len(self._times) == self._batch:
            self.flush()

    def start(self, frame: Any) -> None:
        """Make room for pictures that look like the first one of the clip."""
        self._geometry = geometry = Geometry(frame, self._aspect, self._limits, self.max_side)
        picture = geometry.width * geometry.height * 3
        self._batch = max(1, min(self._batch, MAX_SLOT_BYTES // picture))
        self._shape = (self._batch, geometry.height, geometry.width, 3)
        self._ring.open(self._batch * picture, width=geometry.width, height=geometry.height)

    def flush(self) -> None:
        if self._slot is not None and self._times:
            self._ring.send(self._slot, times=self._times)
            self._slot, self._times = None, []


def probe(path: str, limits: Limits) -> dict[str, Any]:
    """The fields of `VideoInfo`, with one picture decoded.

    Raises:
        MediaError: see `macebench.media.decoder`.
    """
    with open_file(path) as container:
        video = Video(container, limits)
        stream, track = video.stream, video.track
        first, stamps = _look(video)
        if first is None:
            track.finish(path, "no frames")
            raise MediaError("no frames")
        geometry, notes = Geometry(first, stream.sample_aspect_ratio, limits), notes_of(first)
        rate = stream.average_rate or stream.guessed_rate
        looked_at = sorted(stamps)[: -_REORDERING if len(stamps) == _LOOKED_AT else None]
        first_s = _origin_s(video, first)
        duration = declared_length(container, stream, first_s)
        if duration is None:
            duration = _measured_length(video, stamps, float(rate or 0))
        else:
            check_length(duration, limits)
            duration = _believed_length(path, video, duration, first_s, looked_at)
        check_length(duration, limits)
        return {
            "width": geometry.width,
            "height": geometry.height,
            "fps": float(rate) if rate else math.nan,
            "duration_s": duration,
            "has_audio": bool(container.streams.audio),
            "rotation_deg": geometry.rotation_deg,
            "variable_rate": _is_variable(looked_at, stream.time_base),
            "container": container_name(container, path),
            "codec": stream.codec_context.name,
            "n_frames": stream.frames or None,
            "steady_fps": steady_rate(np.array(looked_at) * float(stream.time_base)),
            "notes": notes,
        }


def _origin_s(video: Video, first: Any) -> float:
    """Time of the first picture on the file's clock."""
    return float(ticks_of(first, video.stream, None) * (first.time_base or video.stream.time_base))


def _look(video: Video) -> tuple[Any, list[int]]:
    """The first good picture, or None, and timestamps of the first packets."""
    first, stamps = None, []
    for packet in itertools.islice(video.track.packets(), _LOOKED_AT):
        if packet.pts is not None:
            stamps.append(int(packet.pts))
        if first is None:
            first = next(video.track.decode(packet), None)
    return next(video.track.decode(None), None) if first is None else first, stamps


def notes_of(frame: Any) -> tuple[str, ...]:
    """What is not shown as it was meant: see `HDR_NOTE`, `GAMUT_NOTE` and `ALPHA_NOTE`."""
    transfer, primaries = int(frame.color_trc or 0), int(frame.color_primaries or 0)
    notes = [HDR_NOTE.format(name) for code, name in _HDR.items() if code == transfer]
    if not notes and primaries == _BT2020:
        notes.append(GAMUT_NOTE)
    if any(component.is_alpha for component in frame.format.components):
        notes.append(ALPHA_NOTE)
    return tuple(notes)


def _is_variable(stamps: list[int], base: Any) -> bool | None:
    if len(stamps) < 3:
        return None
    steps = np.diff(stamps)
    return bool((int(steps.max()) - int(steps.min()) - 1) * float(base) > _EVEN_S)


def _measured_length(video: Video, stamps: list[int], rate: float) -> float:
    """Length of a file that declares none: from the timestamps of all packets."""
    low, high = min(stamps, default=0), max(stamps, default=0)
    for count, packet in enumerate(video.track.packets()):
        if packet.pts is not None:
            low, high = min(low, packet.pts), max(high, packet.pts)
        if count > video.limits.max_frames:
            raise MediaError("too long", f"more than {video.limits.max_frames} pictures")
    return float((high - low) * video.stream.time_base) + (1 / rate if rate else 0.0)


def _believed_length(path: str, video: Video, declared: float, first_s: float, looked_at: list[int]) -> float:
    """The declared length, or one picture more than the last one's time where that is clearly less."""
    stream = video.stream
    if len(looked_at) < 2 or missing_bytes(path) or not video.track.seek(first_s + declared):
        return declared
    last = max((int(packet.pts) for packet in video.track.packets() if packet.pts is not None), default=None)
    if last is None:
        return declared
    step = float(np.median(np.diff(looked_at)))
    end_s = float((max(last, looked_at[-1]) + step) * stream.time_base) - first_s
    return end_s if declared > end_s + _BEYOND_LAST_S else declared


def timestamps(path: str, limits: Limits, start_s: float, end_s: float) -> list[float]:
    """Seconds after the first picture of the pictures of a span, ascending, as their packets say; one is decoded.

    Raises:
        MediaError: see `macebench.media.decoder`.
    """
    with open_file(path) as container:
        video = Video(container, limits)
        first = next(video.track.frames(), None)
        if first is None:
            video.track.finish(path, "no frames")
            raise MediaError("no frames")
        first_s = _origin_s(video, first)
        for back in _STEPS_BACK_S:
            if start_s - back <= 0 or not video.track.seek(first_s + start_s - back):
                break
            earliest_s, found = _times(video, first_s, start_s, end_s)
            if earliest_s <= start_s + _SAME_S:
                return found
        if not video.track.seek(min(first_s, 0.0)):
            raise MediaError(TRUNCATED, "its begin cannot be found again")
        return _times(video, first_s, start_s, end_s)[1]


def _times(video: Video, first_s: float, start_s: float, end_s: float) -> tuple[float, list[float]]:
    """The earliest time from here on, and the times in a span, ascending; at most `_MOST_TIMES`."""
    earliest_s, found, behind = math.inf, [], 0
    for packet in video.track.packets():
        if packet.pts is None:
            continue
        time = float(packet.pts * video.stream.time_base) - first_s
        earliest_s = min(earliest_s, time)
        behind += time >= end_s - _SAME_S
        if start_s - _SAME_S <= time < end_s - _SAME_S:
            found.append(time)
        if behind >= _REORDERING or len(found) >= _MOST_TIMES:
            break
    return earliest_s, sorted(found)
