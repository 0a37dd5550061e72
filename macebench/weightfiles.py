"""Whether a weights file can be what its name says, without loading it.

A damaged download, a web page in place of a file, or a wrong file is found before it is trusted. Only the frame of a
file is looked at, so this needs no torch and takes no time; a file that passes can still hold the wrong numbers, which
the networks find when they are loaded.

| suffix | what must be there |
|---|---|
| ``.pt``, ``.pth``, ``.bin`` | a zip archive with a member ``data.pkl``, or the magic number of torch's older format |
| ``.safetensors`` | a header in JSON whose last tensor ends with the file |
| ``.json`` | JSON |

A name such as ``net-358bb6af.pth`` holds the first digits of the file's SHA-256 (torch's convention).
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path

_HEADER_BYTES_MAX = 2**26
_MAGIC = b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
"""What a file in torch's older format holds behind its first two bytes: a pickled number."""
_PREFIX = re.compile(r"-([0-9a-f]{8,64})\.(?:pth?|bin)$")


def sha256_prefix(name: str) -> str:
    """The digits of the SHA-256 that a file name holds; empty when it holds none."""
    found = _PREFIX.search(name)
    return found.group(1) if found else ""


def problem(path: Path, name: str = "") -> str:
    """Why a file cannot be what its name says, or an empty text; files of other suffixes are not looked at.

    Args:
        path: The file.
        name: The name that it shall have; empty for its own.
    """
    check = _CHECKS.get(Path(name or path.name).suffix)
    if check is None:
        return ""
    try:
        return check(path)
    except (OSError, ValueError, LookupError, TypeError, struct.error, zipfile.BadZipFile) as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def _torch(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                found = any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())
            return "" if found else "a zip archive without data.pkl"
        file.seek(0)
        start = file.read(2 + len(_MAGIC))
    return "" if start[:1] == b"\x80" and start[2:] == _MAGIC else "not a file of torch"


def _safetensors(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(_HEADER_BYTES_MAX, size - 8):
            return "the header is longer than the file"
        header = json.loads(file.read(length))
    ends = [row["data_offsets"][1] for name, row in header.items() if name != "__metadata__"]
    wanted = 8 + length + max(ends, default=0)
    return "" if size == wanted else f"it has {size} bytes, its header says {wanted}"


def _json(path: Path) -> str:
    json.loads(path.read_text("utf-8"))
    return ""


_CHECKS = {".pt": _torch, ".pth": _torch, ".bin": _torch, ".safetensors": _safetensors, ".json": _json}
