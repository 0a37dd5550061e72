"""A folder of PNG pictures as a clip: what many tools write instead of a video.

Such a folder is marked by ``frames.json`` with the frame rate, ``{"fps": 16}``, in it or in a folder above it (up to
the folder that is scanned), so that one file speaks for many clips. Its pictures are its own ``*.png`` files, in the
order of the numbers in their names (``frame_2`` before ``frame_10``). Picture k is shown at k / fps seconds. There is
no sound.

The pictures come out as those of a video do: 8-bit RGB, 16-bit ones brought to 8 bits, grey repeated, and the colours
of a transparent one as they are stored, whatever its alpha; a picture of another size than the first is scaled to it.
A PNG folder of a video's decoded frames gives the video's own pixels.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macebench.errors import MediaError, UserError
from macebench.media.stills import MAX_FILE_BYTES, PNG_SIGNATURE, decode_still

if TYPE_CHECKING:
    from macebench.media.ring import Ring
    from macebench.media.values import Limits

SIDECAR = "frames.json"
SUFFIX = ".png"
MAX_FPS = 1000.0
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class FrameFolder:
    """A folder of pictures.

    Attributes:
        path: The folder.
        fps: Pictures a second.
    """

    path: Path
    fps: float

    def files(self) -> list[Path]:
        """Its pictures in order."""
        with os.scandir(self.path) as entries:
            names = [entry.name for entry in entries if _is_picture(entry.name) and entry.is_file()]
        return [self.path / name for name in sorted(names, key=_natural)]

    @property
    def sha256(self) -> str:
        """Hash over the rate and, in order, the bytes of the pictures."""
        from macebench.media.files import file_sha256

        lines = [repr(self.fps), *(file_sha256(path) for path in self.files())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def find_frame_folders(root: str | Path) -> list[FrameFolder]:
    """Folders of pictures at and below `root` that have a frame rate, sorted by path.

    Hidden folders and links to folders are passed over.

    Raises:
        UserError: a ``frames.json`` is no JSON object with a rate above 0.
    """
    found: list[FrameFolder] = []
    rates: dict[str, float | None] = {}
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inherited = rates.get(os.path.dirname(place)) if place != str(root) else None
        rates[place] = read_rate(Path(place, SIDECAR)) if SIDECAR in names else inherited
        fps = rates[place]
        if fps is not None and any(map(_is_picture, names)):
            found.append(FrameFolder(Path(place), fps))
    return sorted(found, key=lambda item: item.path.as_posix())


def frame_folder(path: str | Path) -> FrameFolder | None:
    """The folder `path` with the rate of the nearest ``frames.json`` in it or above it; None when there is none."""
    folder = Path(path).absolute()
    for place in (folder, *folder.parents):
        if (place / SIDECAR).is_file():
            return FrameFolder(folder, read_rate(place / SIDECAR))
    return None


def read_rate(path: Path) -> float:
    """The frame rate of a ``frames.json``.

    Raises:
        UserError: it is no JSON object whose ``fps`` is above 0 and at most `MAX_FPS`.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
        fps = value["fps"] if isinstance(value, dict) else None
    except (OSError, ValueError, KeyError):
        fps = None
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not (0 < fps <= MAX_FPS and math.isfinite(fps)):
        raise UserError(f"{path} does not say how many pictures a second there are.",
                        hint='Write the frame rate into it, for example {"fps": 16}.')  # fmt: skip
    return float(fps)


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIX)


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key in which runs of digits count as numbers; equal keys fall back to the name itself."""
    parts = _NUMBERS.split(name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts if part], name


# ---- in the decoder process -----------------------------------------------------------------------------


def decoded(folder: str, fps: float, limits: Limits) -> Iterator[tuple[float, Any]]:
    """Seconds and frame (PyAV) of each picture of a folder.

    Raises:
        MediaError: ``no frames``, ``too long``, ``not a media file`` (the first one is no PNG) or ``truncated file``
            (a later one cannot be decoded).
    """
    files = FrameFolder(Path(folder), fps).files()
    if not files:
        raise MediaError("no frames")
    if len(files) > limits.max_frames or len(files) / fps > limits.max_duration_s:
        raise MediaError("too long", f"{len(files)} pictures at {fps:g} a second")
    for index, path in enumerate(files):
        yield index / fps, _decode(path, index, limits)


def _decode(path: Path, index: int, limits: Limits) -> Any:
    from macebench.media.source import TRUNCATED

    reason = TRUNCATED if index else "not a media file"
    if path.stat().st_size > MAX_FILE_BYTES:
        raise MediaError("too many pixels", f"{path.name} has more than {MAX_FILE_BYTES} bytes")
    data = path.read_bytes()
    if not data.startswith(PNG_SIGNATURE):
        raise MediaError(reason, f"{path.name} is no PNG file")
    return decode_still("png", data, limits, path.name, reason)


def probe_folder(folder: str, fps: float, limits: Limits) -> dict[str, Any]:
    """The fields of `macebench.media.values.VideoInfo`, with one picture decoded.

    Raises:
        MediaError: see `decoded`.
    """
    from macebench.media.pictures import Geometry, notes_of

    _, first = next(decoded(folder, fps, limits))
    geometry = Geometry(first, None, limits)
    count = len(FrameFolder(Path(folder), fps).files())
    return {
        "width": geometry.width, "height": geometry.height, "fps": fps, "duration_s": count / fps, "has_audio": False,
        "rotation_deg": 0, "variable_rate": False if count > 2 else None, "container": "png", "codec": "png",
        "n_frames": count, "steady_fps": fps if count > 2 else None,
        "notes": notes_of(first),
    }  # fmt: skip


def stream_folder(folder: str, fps: float, limits: Limits, ring: Ring, **how: Any) -> dict[str, int]:
    """Send the pictures of a folder through `ring`; arguments and counts as `macebench.media.pictures.stream_frames`.

    Raises:
        MediaError: see `decoded`.
    """
    from macebench.media.pictures import deliver

    return deliver(decoded(folder, fps, limits), limits, ring, **how)
