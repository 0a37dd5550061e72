"""Opening a file and taking packets out of it; runs in the decoder process only.

Only the file protocol and a list of containers are let in, and both lists are given to the demuxer
itself, which checks them before it reads anything but the first bytes: a playlist that points
elsewhere is refused before it is followed, whatever the name of the file.

Damage. Packets that cannot be decoded before the first good picture are skipped. The first bad
packet after it ends the clip: what the codec still holds is delivered, then the reason is
``truncated file``. The same reason follows the last picture of a file that is shorter than
its structure says (`macebench.media.structure`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from macebench.errors import MediaError
from macebench.media.structure import lacks_index, missing_bytes
from macebench.media.values import Limits

TRUNCATED = "truncated file"
_FORMATS = "mov,matroska,wav,flac,mp3,ogg"
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<?xml", b"<MPD", b"<smil")


def open_file(path: str) -> Any:
    """An open input container.

    Raises:
        MediaError: not a media file, container not allowed, truncated file.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    try:
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(str(error)) from error
        raise MediaError(_reason_to_refuse(path, error), error.strerror or str(error)) from error


def _reason_to_refuse(path: str, error: Any) -> str:
    with Path(path).open("rb") as file:
        playlist = file.read(16).lstrip().startswith(_PLAYLISTS)
    if playlist or error.errno == errno.EINVAL:
        return "container not allowed"
    return TRUNCATED if lacks_index(path) else "not a media file"


def container_name(container: Any, path: str) -> str:
    """``mp4``, ``mov``, ``mkv``, ``webm``, ``wav``, ``flac``, ``mp3`` or ``ogg``."""
    name = str(container.format.name)
    if name.startswith("mov"):
        return "mov" if container.metadata.get("major_brand", "qt").strip() == "qt" else "mp4"
    if name.startswith("matroska"):
        with Path(path).open("rb") as file:
            return "webm" if b"webm" in file.read(64) else "mkv"
    return name.split(",", maxsplit=1)[0]


def video_stream(container: Any) -> Any:
    """The first video stream that is no cover picture. Raises `MediaError` when there is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise MediaError("no video stream")


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise `MediaError` when a picture is too large."""
    if width * height > limits.max_pixels:
        raise MediaError("too many pixels", f"{width}x{height}, allowed are {limits.max_pixels} pixels")


def check_length(seconds: float | None, limits: Limits) -> None:
    """Raise `MediaError` when a clip is too long."""
    if seconds is not None and seconds > limits.max_duration_s:
        raise MediaError("too long", f"{seconds:.1f} s, allowed are {limits.max_duration_s:.1f} s")


def declared_length(container: Any, stream: Any, first_s: float = 0.0) -> float | None:
    """Seconds that the stream, or else the container, says it lasts.

    Args:
        container: An open file.
        stream: One of its streams.
        first_s: Time of the stream's first frame on the file's clock. What a Matroska file says is a time of end on
            that clock, and becomes a length with it; only the statistics of mkvmerge are lengths.
    """
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    before_s = first_s if str(container.format.name).startswith("matroska") else 0.0
    tag = _tag_seconds(stream.metadata.get("DURATION", ""))
    if tag is not None:
        return tag if "_STATISTICS_WRITING_APP" in stream.metadata else max(tag - before_s, 0.0)
    return None if container.duration is None else max(container.duration / av.time_base - before_s, 0.0)


def _tag_seconds(text: str) -> float | None:
    """Seconds of a Matroska tag such as ``00:01:02.500000000``."""
    parts = text.split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds


class Track:
    """One stream of an open file, packet by packet and frame by frame.

    Args:
        container: An open file.
        stream: One of its streams.
        forgive_last: Bad packets that no good frame follows are no damage (sound files end that way).

    Attributes:
        good: Frames that came out so far.
        damage: What ended the track early; empty when nothing did.
    """

    def __init__(self, container: Any, stream: Any, *, forgive_last: bool = False) -> None:
        self.container, self.stream = container, stream
        self.good, self.damage, self._suspicion = 0, "", ""
        self._forgive_last = forgive_last
        if stream.codec_context is None:
            raise MediaError("not a media file", "no decoder for this codec")
        stream.codec_context.thread_count = 1

    def packets(self) -> Iterator[Any]:
        """Packets in file order; stops at the end or at damage."""
        try:
            for packet in self.container.demux(self.stream):
                if packet.size or packet.dts is not None:
                    yield packet
        except av.error.FFmpegError as error:
            self._note(error)

    def frames(self) -> Iterator[Any]:
        """Decoded frames in presentation order; stops at the end or at damage."""
        for packet in self.packets():
            yield from self.decode(packet)
            if self.damage:
                break
        yield from self.decode(None)

    def seek(self, seconds: float) -> bool:
        """Go to the last place before `seconds` on the file's clock where decoding can begin; False when it cannot.

        What was damaged before is forgotten: frames that came out of the codec in between do not count.
        """
        try:
            self.container.seek(round(seconds * av.time_base), backward=True, any_frame=False)
        except av.error.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError(str(error)) from error
            return False
        self.good, self.damage, self._suspicion = 0, "", ""
        return True

    def decode(self, packet: Any) -> Iterator[Any]:
        """Frames that this packet completes; None drains the codec."""
        if packet is not None and packet.is_corrupt:
            self._damaged("corrupt packet")
            return
        try:
            frames = self.stream.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            self._note(error)
            return
        for frame in frames:
            if frame.is_corrupt:
                self._damaged("corrupt frame")
                continue
            self.damage = self.damage or self._suspicion
            self.good += 1
            yield frame

    def _note(self, error: Any) -> None:
        if error.errno == errno.ENOMEM:
            raise MemoryError(str(error)) from error
        self._damaged(error.strerror or str(error))

    def _damaged(self, what: str) -> None:
        detail = f"{what} after {self.good} good frames"
        if self.good and self._forgive_last:
            self._suspicion = self._suspicion or detail
        elif self.good:
            self.damage = self.damage or detail

    def finish(self, path: str, nothing: str) -> None:
        """Say whether the track was whole.

        Raises:
            MediaError: truncated file, or `nothing` when not one frame came out.
        """
        missing = missing_bytes(path)
        if missing:
            raise MediaError(TRUNCATED, f"{missing} bytes are missing")
        if self.good == 0:
            raise MediaError(nothing)
        if self.damage:
            raise MediaError(TRUNCATED, self.damage)
