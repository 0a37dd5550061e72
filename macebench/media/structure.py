"""Is a file shorter than its own structure says? Answered from a few header bytes, without a codec.

MP4 and MOV are a chain of boxes with sizes, Matroska and WebM one segment with a size (unless it was
recorded live), WAV a chain of chunks, of which the sound's counts: the size of the whole is often wrong by a few
bytes in files that are complete. A last part that ends behind the end of the file means that
bytes are missing. Sizes that say "unknown" promise nothing. Sources: ISO/IEC 14496-12 section 4.2,
RFC 8794 section 6 and RFC 9559, the RIFF description of Microsoft and IBM (1991).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_BOXES = frozenset(b"ftyp styp moov moof mdat free skip wide mfra sidx uuid meta udta pdin emsg prft".split())
_MAX_BOXES = 200_000
_EBML_HEADER = 0x1A45DFA3
_EBML_SEGMENT = 0x18538067
_RIFF_UNKNOWN = 0x7FFFFF00
_MAX_CHUNKS = 1000


def missing_bytes(path: str | Path) -> int:
    """Bytes that the structure of the file promises behind its end; 0 when whole or of another kind."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        file.seek(0)
        if head[4:8] in _BOXES:
            return _missing_boxes(file, size)[0]
        if head[:4] == _EBML_HEADER.to_bytes(4, "big"):
            return _missing_segment(file, size)
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            return _missing_chunk(file, size)
    return 0


def _missing_chunk(file: BinaryIO, size: int) -> int:
    """Missing bytes of a WAV file's sound; of the whole file when it ends before the sound."""
    file.seek(4)
    whole = int.from_bytes(file.read(4), "little")
    place = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            break
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            return max(0, place + 8 + length - size) if length < _RIFF_UNKNOWN else 0
        place += 8 + length + length % 2
    return max(0, whole + 8 - size) if whole < _RIFF_UNKNOWN else 0


def lacks_index(path: str | Path) -> bool:
    """True for an MP4 or MOV file whose index (``moov``) is not there or cut: it cannot be opened."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(8)[4:8] != b"ftyp":
            return False
        file.seek(0)
        missing, whole = _missing_boxes(file, size)
    return missing > 0 or b"moov" not in whole


def _missing_boxes(file: BinaryIO, size: int) -> tuple[int, set[bytes]]:
    """Bytes missing from the last box, and the kinds of the boxes that are whole."""
    offset, whole = 0, set()
    for _ in range(_MAX_BOXES):
        file.seek(offset)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if kind not in _BOXES:
            break
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:
            whole.add(kind)
            break
        if length < 8:
            break
        offset += length
        if offset > size:
            return offset - size, whole
        whole.add(kind)
    return 0, whole


def _missing_segment(file: BinaryIO, size: int) -> int:
    file.seek(4)
    header = _ebml_number(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if int.from_bytes(file.read(4), "big") != _EBML_SEGMENT:
        return 0
    length = _ebml_number(file)
    return 0 if length is None else max(0, file.tell() + length - size)


def _ebml_number(file: BinaryIO) -> int | None:
    """The variable-length size at the file's position; None when it is unknown or cut."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    extra = 8 - first[0].bit_length()
    rest = file.read(extra)
    if len(rest) < extra:
        return None
    value = int.from_bytes(bytes([first[0] & (0x7F >> extra)]) + rest, "big")
    return None if value == (1 << (7 * (extra + 1))) - 1 else value
