"""Which of many sequences share many keys at one shift in time: candidates for an exact comparison.

A sequence (a clip) is a table of keys, each at a time. All tables are put together and sorted by key, so that equal
keys lie side by side, and each entry is paired with the next `reach` entries of its key only. Cost is therefore linear
in the number of entries times `reach`, even where a key is in every clip: of many clips that share a piece, neighbours
in the order of the clips are paired, which is enough to connect them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.types import Array, FloatArray

REACH = 24
_REPEATS = 3
_SHIFTS = 1 << 20


@dataclass(frozen=True)
class KeyTable:
    """Keys of one sequence.

    Attributes:
        keys: (E,) unsigned integers.
        times_s: (E,) seconds.
    """

    keys: NDArray[np.uint64]
    times_s: FloatArray


@dataclass(frozen=True)
class Candidate:
    """Two sequences and the shift at which they share keys.

    Attributes:
        first: Index of the one.
        second: Index of the other, larger.
        offset_s: Time in the second minus time in the first, to the width of a bin.
        votes: Shared keys at about that shift.
    """

    first: int
    second: int
    offset_s: float
    votes: int


def candidates(
    tables: Sequence[KeyTable], *, bin_s: float, min_votes: int, per_pair: int = 3, reach: int = REACH
) -> list[Candidate]:
    """Pairs with at least `min_votes` shared keys at one shift, in the order of their indices, then of votes.

    Args:
        tables: One a sequence.
        bin_s: Width of a bin of shifts; two neighbouring bins are counted together.
        min_votes: Fewest shared keys.
        per_pair: Most shifts of one pair.
        reach: With how many following entries of the same key an entry is paired.
    """
    keys, owners, times = _sorted_entries(tables)
    codes = _votes(keys, owners, times, len(tables), bin_s, reach)
    if not len(codes):
        return []
    found, counts = np.unique(codes, return_counts=True)
    paired = _with_next(found, counts)
    keep = paired >= min_votes
    return _best(found[keep], counts[keep], paired[keep], len(tables), bin_s, per_pair)


def _sorted_entries(tables: Sequence[KeyTable]) -> tuple[Array, Array, Array]:
    """All entries sorted by key, owner and time; a key is kept three times an owner at most."""
    if not tables:
        empty = np.zeros(0)
        return empty.astype(np.uint64), empty.astype(np.int64), empty
    keys = np.concatenate([np.asarray(table.keys, np.uint64) for table in tables])
    times = np.concatenate([np.asarray(table.times_s, np.float64) for table in tables])
    owners = np.repeat(np.arange(len(tables)), [len(table.keys) for table in tables])
    order = np.lexsort((times, owners, keys))
    keys, owners, times = keys[order], owners[order], times[order]
    if len(keys) > _REPEATS:
        again = np.zeros(len(keys), np.bool_)
        again[_REPEATS:] = (keys[_REPEATS:] == keys[:-_REPEATS]) & (owners[_REPEATS:] == owners[:-_REPEATS])
        keys, owners, times = keys[~again], owners[~again], times[~again]
    return keys, owners, times


def _votes(keys: Array, owners: Array, times: Array, n: int, bin_s: float, reach: int) -> NDArray[np.int64]:
    """One code a pair of entries: the two owners and the bin of their shift."""
    parts = []
    for step in range(1, min(reach, len(keys) - 1) + 1):
        same = np.flatnonzero((keys[:-step] == keys[step:]) & (owners[:-step] != owners[step:]))
        first, second = owners[same].astype(np.int64), owners[same + step].astype(np.int64)
        shift = np.floor((times[same + step] - times[same]) / bin_s).astype(np.int64) + _SHIFTS // 2
        parts.append((first * n + second) * _SHIFTS + np.clip(shift, 0, _SHIFTS - 2))
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _with_next(codes: NDArray[np.int64], counts: Array) -> Array:
    """Votes of each bin together with those of the bin behind it."""
    total = counts.astype(np.int64).copy()
    follows = np.flatnonzero(np.diff(codes) == 1)
    total[follows] += counts[follows + 1]
    return total


def _best(codes: Array, own: Array, paired: Array, n: int, bin_s: float, per_pair: int) -> list[Candidate]:
    pair, shift = codes // _SHIFTS, codes % _SHIFTS - _SHIFTS // 2
    order = np.lexsort((shift, -paired, pair))
    result: list[Candidate] = []
    last, taken = -1, set[int]()
    for k in order:
        if pair[k] != last:
            last, taken = pair[k], set()
        if len(taken) < per_pair and not taken & {shift[k] - 1, shift[k], shift[k] + 1}:
            taken.add(shift[k])
            inner = 1.0 if paired[k] > own[k] else 0.5
            result.append(Candidate(int(last // n), int(last % n), float((shift[k] + inner) * bin_s), int(paired[k])))
    return result


def components(n: int, links: Sequence[tuple[int, int]]) -> list[set[int]]:
    """Connected components with two members or more, in the order of their smallest member.

    Args:
        n: Number of things.
        links: Pairs of indices.
    """
    parent = list(range(n))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    members: dict[int, set[int]] = {}
    for k in range(n):
        members.setdefault(root(k), set()).add(k)
    return [group for _, group in sorted(members.items()) if len(group) > 1]
