"""Reading numpy arrays out of files from strangers: ``.npy`` and ``.npz``, never pickled.

Everything that a file declares is checked before memory is taken for it: the kind and shape in an array's header, the
sizes in a zip archive's directory. `numpy.load` trusts those. Reasons of `MediaError` are in `MOTION_REASONS`.
"""

from __future__ import annotations

import contextlib
import math
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from macebench.errors import MediaError
from macebench.types import Array

MOTION_REASONS: tuple[str, ...] = (
    "file not found", "empty file", "file too large", "not a motion file", "truncated file", "wrong shape",
    "no frame rate", "frame rate not allowed", "up axis not known", "values not finite", "values out of range",
    "not a rotation", "too long", "pickle not allowed", "pickle refused",
    "format not known", "unknown skeleton", "not a BVH file", "malformed BVH file",
)  # fmt: skip
MAX_FILE_BYTES = 2**30
MAX_MEMBERS = 64
_NPY_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
# numpy evaluates the header as Python text; these three values are all that is needed of it
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>=|]?[a-zA-Z?][0-9]{0,9})['"]""")
_FORTRAN = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)\b""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([0-9L,\s]*)\)""")
_CONVERT = "the file is a pickle; convert it once: macebench convert --trust-pickle FILE --out FOLDER"

ShapeCheck = Callable[[tuple[int, ...]], None]


def check_file(path: Path) -> int:
    """The size in bytes of a regular, non-empty, not too large file.

    Raises:
        MediaError: it is none.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise MediaError("file not found") from error
    except OSError as error:
        raise MediaError("file not found", error.strerror or "") from error
    if not stat.S_ISREG(found.st_mode):
        raise MediaError("not a motion file", "not a regular file")
    if found.st_size == 0:
        raise MediaError("empty file")
    if found.st_size > MAX_FILE_BYTES:
        raise MediaError("file too large", f"{found.st_size} bytes, allowed are {MAX_FILE_BYTES}")
    return found.st_size


def read_npy(path: Path, check: ShapeCheck) -> Array:
    """The array of a ``.npy`` file as float64.

    Args:
        path: The file.
        check: Called with the declared shape before any data is read; raises `MediaError` to refuse.

    Raises:
        MediaError: see the module.
    """
    size = check_file(path)
    with path.open("rb") as file:
        return _read_array(file, size, check)


def read_npz(path: Path, names: Sequence[str], check: Callable[[str, tuple[int, ...]], None]) -> dict[str, Array]:
    """Those members of a ``.npz`` archive that are named in `names` and present; others are not looked at.

    Numbers come as float64, texts (``str_``) as they are.

    Args:
        path: The file.
        names: Names without ``.npy``.
        check: Called with a member's name and declared shape before its data is read.

    Raises:
        MediaError: see the module.
    """
    check_file(path)
    with _archive(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(archive.infolist()) > MAX_MEMBERS:
            raise MediaError("not a motion file", f"{len(archive.infolist())} members, allowed are {MAX_MEMBERS}")
        wanted = {name: members[f"{name}.npy"] for name in names if f"{name}.npy" in members}
        total = sum(info.file_size for info in wanted.values())
        if total > MAX_FILE_BYTES:
            raise MediaError("file too large", f"{total} bytes unpacked, allowed are {MAX_FILE_BYTES}")
        return {name: _read_member(archive, info, name, check) for name, info in wanted.items()}


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The open archive; what zipfile raises on damaged ones becomes a `MediaError`."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, zlib.error) as error:
        raise MediaError("not a motion file", str(error)) from error


def _read_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, check: Callable[[str, tuple[int, ...]], None]
) -> Array:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MediaError("not a motion file", f"member {name}: compression {info.compress_type} is not allowed")
    with archive.open(info) as stream:
        return _read_array(stream, info.file_size, lambda shape: check(name, shape))


def _read_array(stream: IO[bytes], size: int, check: ShapeCheck) -> Array:
    """One array in numpy's format from a stream of at most `size` bytes."""
    shape, fortran, dtype = read_npy_header(stream)
    if dtype.hasobject:
        raise MediaError("pickle not allowed", _CONVERT)
    if dtype.kind not in "fiuU" or dtype.itemsize > 256:
        raise MediaError("wrong shape", f"values of type {dtype}, expected numbers")
    check(shape)
    need = math.prod(shape) * dtype.itemsize
    if need > size:
        raise MediaError("truncated file", f"the header declares {need} bytes of data, the file has {size}")
    data = stream.read(need)
    if len(data) < need:
        raise MediaError("truncated file", f"{need - len(data)} bytes are missing")
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    return array if dtype.kind == "U" else np.ascontiguousarray(array, dtype=np.float64)


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """(shape, Fortran order, dtype) at the head of a stream in numpy's format; the data follow.

    Raises:
        MediaError: it is no such header.
    """
    magic = stream.read(8)
    if magic[:6] != _NPY_MAGIC:
        raise MediaError("not a motion file", "no numpy array")
    raw = stream.read(2 if magic[6:7] == b"\x01" else 4)
    length = int.from_bytes(raw, "little")
    if magic[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00") or not 0 < length <= _MAX_HEADER:
        raise MediaError("not a motion file", "the array's header is damaged")
    text = stream.read(length).decode("latin-1")
    found = [pattern.search(text) for pattern in (_DESCR, _FORTRAN, _SHAPE)]
    try:
        descr, fortran, shape = (match[1] for match in found if match is not None)
        axes = tuple(int(axis.strip().rstrip("L")) for axis in shape.split(",") if axis.strip())
        return axes, fortran == "True", np.dtype(descr)
    except (ValueError, TypeError) as error:
        raise MediaError("not a motion file", f"the array's header is damaged: {str(error)[:200]}") from error
