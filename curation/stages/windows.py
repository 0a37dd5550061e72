"""Stage ``windows``: from spans to clips of 5 to 10 seconds.

A span is cut into windows of random lengths with a random offset in front. All times are whole milliseconds after the
span's begin; nothing is decoded, and the cut itself moves to the pictures' timestamps (`macebench.curation.cut`).

1. The offset is drawn from 0 to ``max_offset_s``, as long as a window of ``min_s`` remains.
2. Without overlap, what remains is cut into as few windows as ``max_s`` allows. Their lengths are drawn one after the
   other between ``min_s`` and ``max_s``, so that the last one ends with the span: nothing is left over. (When ``max_s``
   is below twice ``min_s`` some lengths cannot be cut without a rest; then the windows are ``max_s`` long and the rest
   goes in front.)
3. With an ``overlap``, a window of a length drawn between ``min_s`` and what is left (at most ``max_s``) follows after
   ``1 - overlap`` of the one before, until less than ``min_s`` is left.
4. Of more than ``max_clips`` windows some are drawn.

Draws come from SHA-256 of the seed, the source's hash, the span's begin and a counter: a clip depends on its own source
and span only. Other files, other spans and the version of a library change nothing.

Windows never leave their span, so they never lie across a cut. A span shorter than ``min_s`` is ``too short``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass

from macebench.curation._ranges import FROM_ZERO, check_ranges
from macebench.curation.stage import Rejection, Task, Verdict
from macebench.errors import UserError
from macebench.registry import stage

_MS = 1000
_ROUNDING = 1e-6


@dataclass(frozen=True)
class WindowsConfig:
    """How spans are cut.

    Attributes:
        min_s: Shortest clip in seconds.
        max_s: Longest clip in seconds.
        max_offset_s: Largest random offset in seconds.
        overlap: Share of a window that the next one repeats, 0 to 0.9.
        max_clips: Most clips of one span; None for no limit.
        seed: Another seed gives other windows.
    """

    min_s: float = 5.0
    max_s: float = 10.0
    max_offset_s: float = 1.0
    overlap: float = 0.0
    max_clips: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.1 <= self.min_s <= self.max_s <= 3600.0:
            raise UserError(
                f"windows.min_s {self.min_s} and max_s {self.max_s}: allowed are 0.1 to 3600, min_s not above max_s."
            )
        check_ranges("windows", self, {"max_offset_s": (0.0, 3600.0), "overlap": (0.0, 0.9), "seed": FROM_ZERO})
        if self.max_clips is not None and self.max_clips < 1:
            raise UserError(f"windows.max_clips is {self.max_clips}, allowed is 1 and more, or nothing.")


@stage("windows")
class Windows:
    """Cuts spans into clips."""

    name = "windows"

    def __init__(self, config: WindowsConfig | None = None) -> None:
        self.config = config or WindowsConfig()

    def process(self, task: Task) -> Verdict:
        """Cut one span. Raises ValueError when its end is not known."""
        if task.end_s is None:
            raise ValueError(f"{task.source}: the end of the span is not known")
        length = task.end_s - task.start_s
        windows = window_times(task.source_id, task.start_s, task.end_s, self.config)
        if not windows:
            return Verdict({"clips": 0.0}, Rejection("windows", "too short", length, self.config.min_s))
        used = sum(end - start for start, end in windows)
        following = tuple(dataclasses.replace(task, start_s=start, end_s=end) for start, end in windows)
        return Verdict({"clips": float(len(windows)), "used_share": used / length}, None, following)


def window_times(source_id: str, start_s: float, end_s: float, config: WindowsConfig) -> list[tuple[float, float]]:
    """Begins and ends in seconds of the windows of a span, in order; empty when the span is too short.

    Args:
        source_id: SHA-256 of the source.
        start_s: Begin of the span.
        end_s: End of the span.
        config: How to cut.
    """
    length = math.floor((end_s - start_s) * _MS + _ROUNDING * _MS)
    draws = _Draws(config.seed, source_id, round(start_s * _MS))
    shortest = math.ceil(config.min_s * _MS - _ROUNDING)
    longest = max(shortest, math.floor(config.max_s * _MS + _ROUNDING))
    if length < shortest:
        return []
    offset = draws.between(0, min(round(config.max_offset_s * _MS), length - shortest))
    if config.overlap > 0:
        spans = _overlapping(offset, length, shortest, longest, config.overlap, draws)
    else:
        spans = _partition(offset, length, shortest, longest, draws)
    if config.max_clips is not None:
        spans = draws.some(spans, config.max_clips)
    return [(start_s + low / _MS, min(start_s + high / _MS, end_s)) for low, high in spans]


def _partition(offset: int, length: int, shortest: int, longest: int, draws: _Draws) -> list[tuple[int, int]]:
    """Windows without a gap from `offset` to `length`."""
    count = -(-(length - offset) // longest)
    if count * shortest > length - offset:
        count -= 1
        offset = length - count * longest
    spans, at = [], offset
    for after in range(count - 1, -1, -1):
        left = length - at
        size = draws.between(max(shortest, left - after * longest), min(longest, left - after * shortest))
        spans.append((at, at + size))
        at += size
    return spans


def _overlapping(
    offset: int, length: int, shortest: int, longest: int, overlap: float, draws: _Draws
) -> list[tuple[int, int]]:
    """Windows each of which begins inside the one before."""
    spans, at = [], offset
    while length - at >= shortest:
        size = draws.between(shortest, min(longest, length - at))
        spans.append((at, at + size))
        at += max(1, round((1.0 - overlap) * size))
    return spans


class _Draws:
    """Numbers that depend on the seed, the source and the span alone."""

    def __init__(self, seed: int, source_id: str, start_ms: int) -> None:
        self._text = f"macebench windows {seed} {source_id} {start_ms} "
        self._count = 0

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        digest = hashlib.sha256(f"{self._text}{self._count}".encode()).digest()
        self._count += 1
        return low + int.from_bytes(digest[:8], "big") % (high - low + 1)

    def some(self, spans: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
        """At most `most` of the spans, in their order."""
        rest = list(spans)
        while len(rest) > most:
            del rest[self.between(0, len(rest) - 1)]
        return rest
