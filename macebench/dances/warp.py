"""Bending the time of a dance so that it meets the beats of a piece of music.

Motion beats are the minima of speed (`macebench.metrics.beats.motion_beats`, ``fixed``). A path goes through pairs
(music beat, motion beat), both increasing. Dynamic programming chooses the pairs: it costs to leave out a music beat,
more to leave a motion beat between two pairs, and to play faster or slower. Between pairs time runs evenly, so the
local rate (seconds of motion in a second of music) is the path's slope, never outside `RATES`. The rate changes only on
the pairs, where the body is slowest. Positions are not touched: a planted foot stays planted.

A dance that was warped to music belongs to it by construction: what is recorded of it is ``pairing = "synthetic"``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from macebench.motion.edit import sampled
from macebench.types import FloatArray, Motion

RATES = (0.6, 1.6)
"""Slowest and fastest local rate of a warp."""
SMOOTHING_S = 5.0 / 60.0

_SKIP_BEAT, _OFF_BEAT, _RATE = 1.0, 1.5, 4.0
_MAX_BEATS, _MAX_MINIMA = 8, 4


@dataclass(frozen=True)
class WarpPath:
    """When each moment of a dance is played.

    Attributes:
        music_s: (P,) seconds of music, increasing, from 0 to the music's end.
        motion_s: (P,) seconds of the motion at these times.
        n_aligned: Motion beats that fall on a music beat.
        n_beats: Music beats in all.
    """

    music_s: FloatArray
    motion_s: FloatArray
    n_aligned: int
    n_beats: int

    def at(self, music_s: FloatArray) -> FloatArray:
        """Seconds of the motion at seconds of the music."""
        return np.asarray(np.interp(music_s, self.music_s, self.motion_s))

    @property
    def rates(self) -> FloatArray:
        """(P - 1,) local rates."""
        return np.asarray(np.diff(self.motion_s) / np.diff(self.music_s))


@dataclass(frozen=True)
class _Step:
    """The cheapest way that ends in one pair."""

    cost: float
    before: tuple[int, int] | None


def kinetic_beats(motion: Motion) -> FloatArray:
    """(D,) seconds of the motion's beats; empty when nothing moves. Raises `Unscorable` under 3 frames."""
    from macebench.metrics.beats import motion_beats

    return motion_beats(motion.joints, fps=motion.fps, smoothing_s=SMOOTHING_S)


def warp_path(
    motion_beats: FloatArray, music_beats: FloatArray, motion_s: float, music_s: float, *, start_s: float = 0.0
) -> WarpPath:
    """The path that brings motion beats onto music beats.

    Args:
        motion_beats: (D,) seconds, increasing.
        music_beats: (B,) seconds, increasing, within the music.
        motion_s: Length of the motion in seconds.
        music_s: Length of the music in seconds.
        start_s: Where the motion begins when there is no pair at all.

    Returns:
        The cheapest path; one at an even rate without pairs where there is none.

    Raises:
        ValueError: the motion is too short for the music even at the slowest rate.
    """
    if motion_s - start_s < RATES[0] * music_s:
        raise ValueError(f"{motion_s - start_s:.2f} s of motion cannot fill {music_s:.2f} s of music")
    minima, beats = np.asarray(motion_beats, dtype=np.float64), np.asarray(music_beats, dtype=np.float64)
    table = _table(minima, beats)
    ends = [
        (step.cost + _SKIP_BEAT * (len(beats) - 1 - k), (i, k))
        for (i, k), step in table.items()
        if motion_s - minima[i] >= RATES[0] * (music_s - beats[k])
    ]
    if not ends:
        rate = min(1.0, (motion_s - start_s) / music_s)
        return WarpPath(np.array([0.0, music_s]), np.array([start_s, start_s + rate * music_s]), 0, len(beats))
    pairs = _traced(table, min(ends)[1])
    return _with_ends(minima[[i for i, _ in pairs]], beats[[k for _, k in pairs]], motion_s, music_s, len(beats))


def _table(minima: FloatArray, beats: FloatArray) -> dict[tuple[int, int], _Step]:
    """The cheapest way to each pair (motion beat, music beat) that can be reached."""
    table: dict[tuple[int, int], _Step] = {}
    for k, beat in enumerate(beats):
        for i, moment in enumerate(minima):
            best = _Step(_SKIP_BEAT * k, None) if moment >= RATES[0] * beat else None
            for j, m in _before(minima, beats, i, k):
                before = table.get((j, m))
                if before is None:
                    continue
                cost = before.cost + _cost((moment - minima[j]) / (beat - beats[m]), i - j, k - m)
                if best is None or cost < best.cost:
                    best = _Step(cost, (j, m))
            if best is not None:
                table[i, k] = best
    return table


def _before(minima: FloatArray, beats: FloatArray, i: int, k: int) -> Iterator[tuple[int, int]]:
    """Pairs from which (i, k) can be reached at an allowed rate."""
    for j in range(max(0, i - _MAX_MINIMA), i):
        moved = minima[i] - minima[j]
        first = int(np.searchsorted(beats[:k], beats[k] - moved / RATES[0], side="left"))
        last = int(np.searchsorted(beats[:k], beats[k] - moved / RATES[1], side="right"))
        yield from ((j, m) for m in range(max(first, k - _MAX_BEATS), last))


def _cost(rate: float, minima: int, beats: int) -> float:
    """Cost of going on by so many motion beats and music beats at a rate."""
    return _SKIP_BEAT * (beats - 1) + _OFF_BEAT * (minima - 1) + _RATE * math.log(rate) ** 2


def _traced(table: dict[tuple[int, int], _Step], end: tuple[int, int]) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    at: tuple[int, int] | None = end
    while at is not None:
        pairs.append(at)
        at = table[at].before
    return pairs[::-1]


def _with_ends(minima: FloatArray, beats: FloatArray, motion_s: float, music_s: float, count: int) -> WarpPath:
    """The path through the pairs, going on to both ends of the music as evenly as the motion's length allows."""
    heard, moved = list(beats), list(minima)
    if heard[0] > 0.0:
        moved.insert(0, max(0.0, moved[0] - heard[0]))
        heard.insert(0, 0.0)
    if heard[-1] < music_s:
        moved.append(min(motion_s, moved[-1] + music_s - heard[-1]))
        heard.append(music_s)
    return WarpPath(np.array(heard), np.array(moved), len(beats), count)


def warp_to_beats(motion: Motion, music_beats: FloatArray, music_s: float, fps: float) -> tuple[Motion, WarpPath]:
    """A dance as long as the music, its beats on the music's where that is possible.

    Args:
        motion: The dance, with rotations; at least `RATES`[0] times as long as the music.
        music_beats: (B,) seconds.
        music_s: Length of the music in seconds.
        fps: Frames a second of the result.

    Raises:
        ValueError: the motion is too short or has no rotations.
    """
    last_s = (len(motion) - 1) / motion.fps
    path = warp_path(kinetic_beats(motion), music_beats, last_s, music_s)
    times = np.arange(round(music_s * fps)) / fps
    return sampled(motion, path.at(times), fps), path
