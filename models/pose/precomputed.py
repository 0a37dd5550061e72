"""Poses read from files that something else has written; no network runs and no frame is decoded.

For the clip ``<clip_id>`` one of these is read below the folder:

``<clip_id>.npz``
    What macebench writes into a run folder's ``poses/``: ``keypoints`` (T, K, 2) pixels, NaN where missing;
    ``confidence`` (T, K) in [0, 1]; ``times_s`` (T,) seconds, increasing; ``width``, ``height`` pixels;
    ``skeleton`` ``coco17`` or ``coco25``. Never a pickle.
``<clip_id>.json``
    What the released MACE-Dance evaluation reads and easy_ViTPose makes: ``fps``, ``total_frames`` and ``keypoints``
    (T, 25, 3). A point is ``(y, x, score)``, so x and y are swapped here; ``[0, 0, 0]`` is a missing point; frame
    ``i`` is at ``i / fps`` seconds. The file does not say how large the picture is: the video itself is asked.

Files are untrusted: they are capped in size and every field is checked. A clip whose file is not there or not valid
costs that clip only: `Missing` with the file and the field in its reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.pose import NO_PERSON
from macebench.protocol import PoseBackend
from macebench.registry import pose_backend
from macebench.types import N_KEYPOINTS, Array, Clip, FloatArray, Missing, PoseTrack

JSON_BYTES_MAX = 128 * 2**20
NPZ_BYTES_MAX = 512 * 2**20
FRAMES_MAX = 1_000_000
FORMATS_VERSION = "precomputed poses, formats 1"
_FIELDS = ("keypoints", "confidence", "times_s", "width", "height", "skeleton")


class _FieldError(ValueError):
    """A field of a pose file is wrong; the text says which and why."""


@pose_backend("precomputed")
class Precomputed:
    """The pose back end ``precomputed``; see the module's docstring.

    Args:
        folder: Where the pose files lie.

    Raises:
        UserError: the folder does not exist or holds no pose file.
    """

    needs_frames = False

    def __init__(self, *, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser()
        hint = "It must hold <clip_id>.npz (the poses/ of a run folder) or <clip_id>.json (easy_ViTPose)."
        if not self.folder.is_dir():
            raise UserError(f"pose folder {self.folder} does not exist.", hint=hint)
        if not _pose_files(self.folder):
            raise UserError(f"pose folder {self.folder} holds no .npz and no .json file.", hint=hint)
        self._sha256: str | None = None

    def describe(self) -> PoseBackend:
        """What goes into the protocol's hash: names and contents of all pose files stand for the weights."""
        if self._sha256 is None:
            self._sha256 = _folder_sha256(self.folder)
        return PoseBackend(
            name="precomputed",
            model="files",
            weights_sha256=self._sha256,
            input_size=(0, 0),
            settings={"formats": FORMATS_VERSION, "by_name": True},
        )

    def start(self, clip: Clip, width: int, height: int) -> PrecomputedSession:
        """Begin a clip. `width` and `height` are used for JSON files when they are above 0."""
        return PrecomputedSession(self.folder, clip, (width, height))


class PrecomputedSession:
    """One clip; frames are ignored."""

    def __init__(self, folder: Path, clip: Clip, size: tuple[int, int]) -> None:
        self._folder, self._clip, self._size = folder, clip, size

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Frames are of no use here."""

    def finish(self) -> PoseTrack | Missing:
        """The track in the file, or why there is none.

        Raises:
            MediaError: the size of the picture is not known from elsewhere and the video cannot be read.
        """
        for suffix, read in ((".npz", _read_npz), (".json", self._read_json)):
            path = self._folder / f"{self._clip.clip_id}{suffix}"
            if not path.is_file():
                continue
            if not path.resolve().is_relative_to(self._folder.resolve()):
                return Missing(f"pose file {self._clip.clip_id}{suffix} lies outside the pose folder")
            try:
                track = read(path)
                if suffix == ".npz" and _of_video(path) not in ("", self._clip.sha256):
                    return Missing("pose file belongs to another video")
            except _FieldError as error:
                return Missing(f"pose file {self._clip.clip_id}{suffix}: {error}")
            return track if track.present.any() else Missing(NO_PERSON)
        return Missing("no pose file")

    def _read_json(self, path: Path) -> PoseTrack:
        keypoints, confidence, times = _json_arrays(path)
        width, height = self._size if min(self._size) > 0 else _picture_size(self._clip.path)
        return PoseTrack(keypoints, confidence, times, width, height, "coco25")


def _pose_files(folder: Path) -> list[Path]:
    """All pose files below a folder, sorted by their path in it."""
    found = [path for suffix in ("npz", "json") for path in folder.rglob(f"*.{suffix}") if path.is_file()]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _folder_sha256(folder: Path) -> str:
    """SHA-256 over the sorted names and contents of the pose files."""
    total = hashlib.sha256(FORMATS_VERSION.encode())
    for path in _pose_files(folder):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"\n{digest}  {path.relative_to(folder).as_posix()}".encode())
    return total.hexdigest()


def _picture_size(video: Path) -> tuple[int, int]:
    from macebench.media import Decoder

    with Decoder() as decoder:
        info = decoder.probe(video)
    return info.width, info.height


def _need(condition: bool, text: str) -> None:
    if not condition:
        raise _FieldError(text)


# ---- npz ------------------------------------------------------------------------------------------------


def _read_npz(path: Path) -> PoseTrack:
    fields = _npz_fields(path)
    skeleton = str(fields["skeleton"])
    _need(fields["skeleton"].shape == () and skeleton in N_KEYPOINTS, f"skeleton is none of {sorted(N_KEYPOINTS)}")
    numbers = {name: _numbers(name, fields[name]) for name in _FIELDS[:-1]}
    keypoints, confidence, times = numbers["keypoints"], numbers["confidence"], numbers["times_s"]
    n = N_KEYPOINTS[skeleton]
    _need(times.ndim == 1 and 0 < len(times) <= FRAMES_MAX, f"times_s has shape {times.shape}")
    _need(keypoints.shape == (len(times), n, 2), f"keypoints have shape {keypoints.shape}")
    _need(confidence.shape == (len(times), n), f"confidence has shape {confidence.shape}")
    _need(bool(np.isfinite(times).all() and (np.diff(times) > 0).all()), "times_s do not increase")
    _need(bool(((confidence >= 0) & (confidence <= 1)).all()), "confidence is outside [0, 1]")
    _need(not np.isinf(keypoints).any(), "keypoints are infinite")
    for name in ("width", "height"):
        value = numbers[name]
        _need(value.shape == () and 0 <= float(value) <= 65536, f"{name} is no size in pixels")
    known = np.asarray(np.isfinite(keypoints).all(axis=2))
    return PoseTrack(
        np.where(known[:, :, None], keypoints, np.nan), np.where(known, confidence, 0.0), times,
        int(numbers["width"]), int(numbers["height"]), skeleton,
    )  # fmt: skip


def _of_video(path: Path) -> str:
    """The hash of the video that the poses were estimated from; empty when the file does not say."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            return str(data["video_sha256"]) if "video_sha256" in data.files else ""
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _FieldError(f"cannot be read: {error}") from error


def _npz_fields(path: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        _need(size <= NPZ_BYTES_MAX, f"unpacks to {size} bytes, allowed are {NPZ_BYTES_MAX}")
        with np.load(path, allow_pickle=False) as file:
            for name in _FIELDS:
                _need(name in file.files, f"{name} is missing")
            return {name: file[name] for name in _FIELDS}
    except _FieldError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, MemoryError) as error:
        raise _FieldError(f"cannot be read ({type(error).__name__})") from error


def _numbers(name: str, value: Array) -> FloatArray:
    _need(value.dtype.kind in "fiu", f"{name} has type {value.dtype}")
    return value.astype(np.float64)


# ---- json -----------------------------------------------------------------------------------------------


def _json_arrays(path: Path) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(T, 25, 2) pixels x, y; (T, 25) confidences; (T,) seconds."""
    size = path.stat().st_size
    _need(size <= JSON_BYTES_MAX, f"has {size} bytes, allowed are {JSON_BYTES_MAX}")
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _FieldError("is not JSON") from error
    _need(isinstance(record, dict), "is no JSON object")
    fps = _rate(record.get("fps"))
    points = _points(record.get("keypoints"))
    total = record.get("total_frames", len(points))
    _need(total == len(points), f"total_frames is {total!r}, keypoints have {len(points)} frames")
    known = (points != 0).any(axis=2)
    keypoints = np.where(known[:, :, None], points[:, :, 1::-1], np.nan)
    confidence = np.where(known, np.clip(points[:, :, 2], 0.0, 1.0), 0.0)
    return keypoints, confidence, np.arange(len(points)) / fps


def _rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _FieldError("fps is no number")
    _need(math.isfinite(value) and 0 < value <= 1000, f"fps is {value}")
    return float(value)


def _points(value: Any) -> FloatArray:
    """(T, 25, 3) as it stands in the file."""
    _need(isinstance(value, list) and 0 < len(value) <= FRAMES_MAX, "keypoints are no list of frames")
    try:
        points = np.asarray(value)
    except ValueError as error:
        raise _FieldError("keypoints do not have shape (T, 25, 3)") from error
    _need(points.ndim == 3 and points.shape[1:] == (25, 3), f"keypoints have shape {points.shape}")
    points = _numbers("keypoints", points)
    _need(bool(np.isfinite(points).all()), "keypoints hold a value that is no number")
    return points
