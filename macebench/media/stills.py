"""One picture in a file of its own: PNG, JPEG or WebP; `stream_still` runs in the decoder process only.

The content decides which of the three it is, never the suffix. The picture comes out as one of a folder of PNG pictures
does (`macebench.media.framefolder`): 8-bit RGB in the colours of the file. A JPEG or WebP file whose EXIF data says how
it was held is turned and mirrored as it says. Refused are an animated WebP file, and a picture one can look through
anywhere: what is stored there was not meant to be seen.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macebench.errors import MediaError
from macebench.types import Array

if TYPE_CHECKING:
    from macebench.media.ring import Ring
    from macebench.media.values import Limits

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_FILE_BYTES = 2**28
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_EXIF = re.compile(rb"(?:Exif\0\0|EXIF.{4}(?:Exif\0\0)?)(II\*\0|MM\0\*)", re.S)
_ORIENTATION = 0x0112
_OPAQUE = 255
# EXIF orientation -> swap the axes, then mirror x, then mirror y.
_TURNS = {
    2: (False, True, False), 3: (False, True, True), 4: (False, False, True), 5: (True, False, False),
    6: (True, True, False), 7: (True, True, True), 8: (True, False, True),
}  # fmt: skip


def turned(picture: Array, orientation: int) -> Array:
    """A (H, W, 3) picture as it was meant to be looked at, by its EXIF orientation 1 to 8; others change nothing."""
    swap, flip_x, flip_y = _TURNS.get(orientation, (False, False, False))
    picture = picture.swapaxes(0, 1) if swap else picture
    return picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1].copy()


def stream_still(path: str, limits: Limits, ring: Ring) -> dict[str, int]:
    """Send the picture of a file through `ring` as it is stored; its EXIF orientation comes back.

    Raises:
        MediaError: ``not a media file`` (also an animated one), ``truncated file``, ``too many pixels`` or
            ``transparent picture``.
    """
    from macebench.media.pictures import deliver

    if os.path.getsize(path) > MAX_FILE_BYTES:
        raise MediaError("too many pixels", f"more than {MAX_FILE_BYTES} bytes")
    data = Path(path).read_bytes()
    codec = _codec(data)
    orientation = 1
    if codec != "png":
        data, orientation = _without_exif(data)
    frame = decode_still(codec, data, limits, Path(path).name)
    if _is_transparent(frame):
        raise MediaError("transparent picture", "put it on the background of the videos")
    deliver(iter([(0.0, frame)]), limits, ring, batch=1, max_fps=None)
    return {"orientation": orientation}


def _is_transparent(frame: Any) -> bool:
    layout = frame.format
    if layout.name != "pal8" and not any(part.is_alpha for part in layout.components):
        return False
    return bool(frame.to_ndarray(format="rgba")[..., 3].min() < _OPAQUE)


def _codec(data: bytes) -> str:
    if data.startswith(PNG_SIGNATURE):
        return "png"
    if data.startswith(_JPEG_SIGNATURE):
        if data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
            raise MediaError("truncated file", "the JPEG file has no end")
        return "mjpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        if len(data) < int.from_bytes(data[4:8], "little") + 8:
            raise MediaError("truncated file", "the WebP file has no end")
        return "webp"
    raise MediaError("not a media file", "neither PNG nor JPEG nor WebP")


def decode_still(codec: str, data: bytes, limits: Limits, name: str, reason: str = "not a media file") -> Any:
    """The decoded frame (PyAV) of a picture's bytes.

    Args:
        codec: ``png``, ``mjpeg`` or ``webp``.
        data: The file.
        limits: What it may cost.
        name: Of the file, for people.
        reason: Of a picture that cannot be decoded.

    Raises:
        MediaError: `reason`, or ``too many pixels``.
    """
    import av

    from macebench.media.source import check_size

    if codec == "png":
        if len(data) < 24:
            raise MediaError(reason, f"{name} is no PNG file")
        check_size(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"), limits)
    context = av.CodecContext.create(codec, "r")
    context.thread_count = 1
    if codec != "png":
        context.options = {"err_detect": "explode", "max_pixels": str(limits.max_pixels)}
    try:
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    except av.error.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        if codec != "png" and error.errno == errno.EINVAL:
            raise MediaError("too many pixels", f"{name}: allowed are {limits.max_pixels} pixels") from error
        raise MediaError(reason, f"{name}: {error.strerror or error}") from error
    if not frames or frames[0].is_corrupt:
        raise MediaError(reason, f"{name} cannot be decoded")
    return frames[0]


def _without_exif(data: bytes) -> tuple[bytes, int]:
    """The file with its EXIF data made unreadable for the codec, whose versions differ in it; and the orientation."""
    found = _EXIF.search(data)
    if found is None:
        return data, 1
    hidden = data[: found.start()] + b"none" + data[found.start() + 4 :]
    try:
        return hidden, _orientation(data[found.start(1) :])
    except struct.error:
        return hidden, 1


def _orientation(tiff: bytes) -> int:
    """The orientation in the first directory of a TIFF structure; 1 when it has none."""
    order = "<" if tiff[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for index in range(count):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * index)
        if tag == _ORIENTATION:
            return int(value)
    return 1
