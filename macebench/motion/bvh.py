"""BVH files: hierarchy, channel values, local rotations, forward kinematics.

The format (Biovision hierarchy) is a text file: ``HIERARCHY`` with nested ``ROOT``, ``JOINT`` and ``End Site`` blocks,
then ``MOTION`` with the number of frames, the frame time and one line of numbers a frame. What is read here:

* Rotation channels in any number and order. A joint's local rotation is the product of its channels' rotations in the
  order in which the file lists them; angles are degrees.
* Position channels of a joint REPLACE that component of its offset. Exporters agree on that for the root (an offset of
  the root is its height in the rest pose, not something to be added). Joints below the root whose position channels
  stay near zero although their offset does not hold differences instead; there the channels are added.
* Lower and upper case, tabs, CRLF, a byte order mark, braces on the line of the name, names with blanks, joints
  without channels, joints without an end site.

What is refused, always with `MediaError` (a short lasting reason, and a detail that names the line): see `read_bvh`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from macebench.errors import MediaError
from macebench.motion.rotations import euler_to_matrix
from macebench.types import FloatArray

MAX_JOINTS = 1_000
MAX_FILE_BYTES = 400_000_000
MAX_VALUES = 20_000_000
MAX_SIZE = 1e7

NOT_BVH = "not a BVH file"
TRUNCATED = "truncated file"
NOT_FINITE = "values not finite"
OUT_OF_RANGE = "values out of range"
TOO_LONG = "too long"
MALFORMED = "malformed BVH file"

_CHANNELS = {f"{axis}{kind}": f"{axis.upper()}{kind}" for axis in "xyz" for kind in ("position", "rotation")}
_AXES = "XYZ"


@dataclass(frozen=True)
class Bvh:
    """One BVH file.

    Attributes:
        names: J joint names in the order of the file, the root first.
        parents: J indices of the parents; -1 for the root.
        offsets: (J, 3) offsets from the parent in the file's unit.
        channels: J tuples of channel names such as ``("Zrotation", "Xrotation", "Yrotation")``.
        end_sites: Joint index -> (3,) offset of its end site.
        frame_time_s: Seconds between two frames.
        values: (T, C) channel values: file units and degrees.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: FloatArray
    channels: tuple[tuple[str, ...], ...]
    end_sites: dict[int, FloatArray]
    frame_time_s: float
    values: FloatArray = field(repr=False)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def fps(self) -> float:
        """Frames a second; frame times are written with few digits, so a rate within 0.1 % of a whole number is it."""
        rate = 1.0 / self.frame_time_s
        whole = round(rate)
        return float(whole) if whole and abs(rate - whole) < 1e-3 * whole else rate

    @cached_property
    def rotations(self) -> FloatArray:
        """(T, J, 3, 3) local rotation matrices."""
        result = np.empty((len(self), len(self.names), 3, 3))
        groups: dict[str, list[tuple[int, list[int]]]] = {}
        for joint, (start, names) in enumerate(self._columns()):
            turning = [column for column, name in enumerate(names, start) if name.endswith("rotation")]
            order = "".join(name[0] for name in names if name.endswith("rotation"))
            groups.setdefault(order, []).append((joint, turning))
        for order, members in groups.items():
            angles = np.radians(self.values[:, np.array([columns for _, columns in members], dtype=np.intp)])
            result[:, [joint for joint, _ in members]] = euler_to_matrix(angles, order)
        return result

    @cached_property
    def translations(self) -> FloatArray:
        """(T, J, 3) position of each joint in its parent's frame, file units."""
        result = np.repeat(self.offsets[None], len(self), axis=0)
        for joint, (start, names) in enumerate(self._columns()):
            moving = [(column, _AXES.index(n[0])) for column, n in enumerate(names, start) if n.endswith("position")]
            if not moving:
                continue
            columns, axes = (list(part) for part in zip(*moving, strict=True))
            given = self.values[:, columns]
            size = float(np.linalg.norm(self.offsets[joint, axes]))
            if joint and len(given) and float(np.median(np.linalg.norm(given, axis=1))) < 0.25 * size:
                given = given + self.offsets[joint, axes]
            result[:, joint, axes] = given
        return result

    @property
    def root(self) -> FloatArray:
        """(T, 3) position of the root, file units."""
        return self.translations[:, 0]

    @cached_property
    def global_rotations(self) -> FloatArray:
        """(T, J, 3, 3) rotation of each joint in the world."""
        result = self.rotations.copy()
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                result[:, joint] = result[:, parent] @ result[:, joint]
        return result

    def positions(self) -> FloatArray:
        """(T, J, 3) joint positions in the world by forward kinematics, file units."""
        result = self.translations.copy()
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                result[:, joint] = result[:, parent] + _apply(self.global_rotations[:, parent], result[:, joint])
        return result

    def _columns(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """For each joint, its first column in `values` and its channel names."""
        start = 0
        for names in self.channels:
            yield start, names
            start += len(names)


def _apply(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    return np.asarray((matrices @ vectors[..., None])[..., 0])


def read_bvh(path: Path | str) -> Bvh:
    """Read a BVH file.

    Args:
        path: The file, at most 400 MB.

    Returns:
        The hierarchy and all frames.

    Raises:
        MediaError: the file cannot be used. ``reason`` is one of: ``not a BVH file``, ``truncated file`` (the file
            ends before it should), ``malformed BVH file`` (a line is not what the format asks for),
            ``values not finite``, ``values out of range`` (above 1e7), ``too long`` (over 1,000 joints, 20 million
            values or 400 MB). ``detail`` names the line and what was expected.
        OSError: the file cannot be opened.
    """
    file = Path(path)
    if file.stat().st_size > MAX_FILE_BYTES:
        raise MediaError(TOO_LONG, f"{file.stat().st_size} bytes, at most {MAX_FILE_BYTES} are read")
    return parse_bvh(file.read_bytes())


def parse_bvh(data: bytes) -> Bvh:
    """As `read_bvh`, from the file's bytes."""
    if b"\0" in data[:4096] or not re.match(rb"\s*hierarchy\b", data[:4096].removeprefix(b"\xef\xbb\xbf"), re.I):
        raise MediaError(NOT_BVH, "line 1: expected HIERARCHY")
    lines = data.decode("utf-8", errors="replace").removeprefix("\ufeff").splitlines()
    motion = next((i for i, line in enumerate(lines) if line.strip().lower() == "motion"), None)
    if motion is None:
        raise MediaError(TRUNCATED, f"line {len(lines)}: the file ends before MOTION")
    joints = _Hierarchy(lines[:motion]).parse()
    columns = sum(len(channels) for channels in joints.channels)
    n_frames, frame_time, first = _motion_header(lines, motion + 1)
    if columns and n_frames > MAX_VALUES // columns:
        raise MediaError(TOO_LONG, f"{n_frames} frames of {columns} values, at most {MAX_VALUES} values are read")
    return Bvh(
        names=tuple(joints.names),
        parents=tuple(joints.parents),
        offsets=np.array(joints.offsets, dtype=np.float64),
        channels=tuple(joints.channels),
        end_sites=joints.end_sites,
        frame_time_s=frame_time,
        values=_frames(lines, first, n_frames, columns),
    )


class _Hierarchy:
    """Reads the HIERARCHY section, token by token, without recursion."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.tokens = [(token, n) for n, line in enumerate(lines, 1) for token in _split_braces(line)]
        self.at = 1  # after HIERARCHY
        self.names: list[str] = []
        self.parents: list[int] = []
        self.offsets: list[tuple[float, ...] | None] = []
        self.channels: list[tuple[str, ...]] = []
        self.end_sites: dict[int, FloatArray] = {}

    def parse(self) -> _Hierarchy:
        stack: list[int] = []  # open joints
        while self.at < len(self.tokens):
            self._block(stack)
        if stack:
            raise MediaError(TRUNCATED, f"line {self._line()}: expected }} of joint {self.names[stack[-1]]!r}")
        if not self.names:
            raise MediaError(MALFORMED, f"line {self._line()}: expected ROOT")
        for name, offset in zip(self.names, self.offsets, strict=True):
            if offset is None:
                raise MediaError(MALFORMED, f"joint {name!r}: expected OFFSET")
        return self

    def _block(self, stack: list[int]) -> None:
        word = self._next("a keyword").lower()
        if word == "root" and not stack and not self.names:
            self._open(-1, stack)
        elif not stack:
            self._fail("ROOT" if not self.names else "MOTION (one skeleton in a file)")
        elif word == "joint":
            self._open(stack[-1], stack)
        elif word == "end":
            self._end_site(stack[-1])
        elif word == "offset":
            self.offsets[stack[-1]] = self._numbers()
        elif word == "channels":
            self.channels[stack[-1]] = self._channels()
        elif word == "}":
            stack.pop()
        else:
            self._fail("JOINT, End Site, OFFSET, CHANNELS or }")

    def _open(self, parent: int, stack: list[int]) -> None:
        if len(self.names) >= MAX_JOINTS:
            raise MediaError(TOO_LONG, f"line {self._line()}: more than {MAX_JOINTS} joints")
        stack.append(len(self.names))
        self.names.append(self._until_brace())
        self.parents.append(parent)
        self.offsets.append(None)
        self.channels.append(())

    def _end_site(self, joint: int) -> None:
        self._until_brace()
        if self._next("OFFSET").lower() != "offset":
            self._fail("OFFSET")
        self.end_sites[joint] = np.array(self._numbers())
        if self._next("}") != "}":
            self._fail("}")

    def _until_brace(self) -> str:
        words = []
        while (word := self._next("{")) != "{":
            if word == "}":
                self._fail("{")
            words.append(word)
        return " ".join(words)

    def _numbers(self) -> tuple[float, ...]:
        values = []
        for _ in range(3):
            text = self._next("three numbers")
            value = _number(text)
            if value is None:
                self._fail("three numbers")
            if not abs(value) <= MAX_SIZE:
                reason = OUT_OF_RANGE if math.isfinite(value) else NOT_FINITE
                raise MediaError(reason, f"line {self._line()}: {text[:40]!r} in OFFSET")
            values.append(value)
        return tuple(values)

    def _channels(self) -> tuple[str, ...]:
        count = self._next("the number of channels")
        if not count.isdecimal() or len(count) > 1 or int(count) > 6:
            self._fail("0 to 6 channels")
        names = [self._next("a channel name") for _ in range(int(count))]
        known = tuple(_CHANNELS.get(name.lower(), "") for name in names)
        if "" in known:
            raise MediaError(MALFORMED, f"line {self._line()}: {names[known.index('')][:40]!r} is no channel name")
        return known

    def _next(self, expected: str) -> str:
        if self.at >= len(self.tokens):
            raise MediaError(TRUNCATED, f"line {self._line()}: expected {expected} before MOTION")
        self.at += 1
        return self.tokens[self.at - 1][0]

    def _line(self) -> int:
        return self.tokens[min(self.at, len(self.tokens)) - 1][1]

    def _fail(self, expected: str) -> NoReturn:
        raise MediaError(MALFORMED, f"line {self._line()}: {self.tokens[self.at - 1][0][:40]!r}, expected {expected}")


def _split_braces(line: str) -> list[str]:
    return line.replace("{", " { ").replace("}", " } ").split()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _motion_header(lines: list[str], start: int) -> tuple[int, float, int]:
    """The number of frames, the frame time in seconds, and the index of the first line of values."""
    found: list[tuple[str, int]] = []
    at = start
    for label in ("Frames:", "Frame Time:"):
        while at < len(lines) and not lines[at].strip():
            at += 1
        if at >= len(lines):
            raise MediaError(TRUNCATED, f"line {len(lines)}: the file ends before {label!r}")
        pattern = label[:-1].replace(" ", r"\s+") + r"\s*:\s*(\S+)"
        match = re.fullmatch(pattern, lines[at].strip(), re.I)
        if match is None:
            raise MediaError(MALFORMED, f"line {at + 1}: {lines[at].strip()[:40]!r}, expected '{label} <number>'")
        found.append((match[1], at + 1))
        at += 1
    (count, count_line), (time, time_line) = found
    if not re.fullmatch(r"[0-9]{1,18}", count) or int(count) == 0:
        raise MediaError(MALFORMED, f"line {count_line}: {count[:40]!r} frames, expected a whole number above 0")
    seconds = _number(time)
    if seconds is None or not 1e-5 <= seconds <= 1e5:
        raise MediaError(MALFORMED, f"line {time_line}: frame time {time[:40]!r}, expected seconds above 0")
    return int(count), seconds, at


def _frames(lines: list[str], first: int, n_frames: int, columns: int) -> FloatArray:
    """(T, C) values of the MOTION block. Lines after the declared frames must be blank."""
    rows = [i for i in range(first, len(lines)) if lines[i] and not lines[i].isspace()]
    if len(rows) > n_frames:
        raise MediaError(MALFORMED, f"line {rows[n_frames] + 1}: a frame after the {n_frames} that were declared")
    if not rows or not columns:
        raise MediaError(TRUNCATED if columns else MALFORMED, f"{len(rows)} frames of {columns} values")
    try:
        values = np.loadtxt([lines[i] for i in rows], comments=None, ndmin=2)
    except ValueError:
        _blame(lines, rows, n_frames, columns)
    if values.shape[1] != columns:
        _blame(lines, rows, n_frames, columns)
    if len(rows) < n_frames:
        raise MediaError(TRUNCATED, f"line {len(lines)}: {len(rows)} frames of the {n_frames} that were declared")
    good = (np.abs(values) <= MAX_SIZE).all(axis=1)
    if not good.all():
        bad = int(np.argmin(good))
        reason = OUT_OF_RANGE if np.isfinite(values[bad]).all() else NOT_FINITE
        raise MediaError(reason, f"line {rows[bad] + 1}: expected {columns} finite numbers up to {MAX_SIZE:.0e}")
    return values


def _blame(lines: list[str], rows: list[int], n_frames: int, columns: int) -> NoReturn:
    """Find the line that is wrong, and raise."""
    for i in rows:
        parts = lines[i].split()
        wrong = next((part for part in parts if _number(part) is None), None)
        last = i == rows[-1] and len(parts) <= columns
        if last and (len(parts) < columns or wrong) and len(rows) <= n_frames:
            raise MediaError(TRUNCATED, f"line {i + 1}: {len(parts)} values, expected {columns}")
        if wrong is not None:
            raise MediaError(MALFORMED, f"line {i + 1}: {wrong[:40]!r}, expected a number")
        if len(parts) != columns:
            raise MediaError(MALFORMED, f"line {i + 1}: {len(parts)} values, expected {columns}")
    raise MediaError(MALFORMED, f"expected {columns} numbers a line")
