"""Finding media files in a folder, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Literal

from macebench.errors import UserError

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".webm", ".mkv"})
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a"})
_SUFFIXES = {"video": VIDEO_SUFFIXES, "audio": AUDIO_SUFFIXES, "any": VIDEO_SUFFIXES | AUDIO_SUFFIXES}


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits.

    Raises:
        OSError: the file cannot be read, or is no regular file (a pipe would be waited for without end).
    """
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def find_media(folder: str | Path, kinds: Literal["video", "audio", "any"] = "video") -> list[Path]:
    """Media files below a folder, found by suffix, sorted by their path below it.

    Hidden files and folders are passed over. Links to folders are not followed.

    Raises:
        UserError: the folder is not there, or a link leaves it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{root} is no folder.", hint="Name the folder that holds the clips.")
    if kinds not in _SUFFIXES:
        raise UserError(f"kind of media {kinds!r} is not known.", hint=f"Allowed are {', '.join(_SUFFIXES)}.")
    inside, found = root.resolve(), []
    for place, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            _check_link(Path(place, name), inside)
        for name in files:
            path = Path(place, name)
            if not name.startswith(".") and path.suffix.lower() in _SUFFIXES[kinds]:
                _check_link(path, inside)
                found.append(path)
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _check_link(path: Path, inside: Path) -> None:
    if path.is_symlink() and not path.resolve().is_relative_to(inside):
        raise UserError(
            f"{path} is a link that leaves the folder.",
            hint="Copy the file into the folder, or name the folder that the link points to.",
        )


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read: {error.strerror}.", hint="Check the folder's rights.") from error
