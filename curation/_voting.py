"""Which of many sequences share many keys at one shift in time: candidates for an exact comparison.

A sequence (a clip) is a table of keys, each at a time. All tables are put together and sorted by key, so that equal
keys lie side by side, and each entry is paired with the next `reach` entries of its key only. Cost is therefore linear
in the number of entries times `reach`, even where a key is in every clip: of many clips that share a piece, neighbours
in the order of the clips are paired, and of each clip the closest others are kept, which is enough to connect them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.types import Array, FloatArray

REACH = 24
PARTNERS = 16
_CHUNK = 200_000
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
    tables: Sequence[KeyTable],
    *,
    bin_s: float,
    min_votes: int,
    per_pair: int = 3,
    partners: int = PARTNERS,
    n_first: int | None = None,
    reach: int = REACH,
) -> list[Candidate]:
    """Pairs with at least `min_votes` shared keys at one shift, in the order of their indices, then of votes.

    Args:
        tables: One a sequence.
        bin_s: Width of a bin of shifts; two neighbouring bins are counted together.
        min_votes: Fewest shared keys.
        per_pair: Most shifts of one pair.
        partners: Of each sequence those so many others are kept that share most with it.
        n_first: Only pairs whose first one is among the first so many; None for all.
        reach: With how many following entries of the same key an entry is paired.
    """
    keys, owners, times = _sorted_entries(tables)
    n_first = len(tables) if n_first is None else n_first
    by_owner = np.argsort(owners, kind="stable")
    borders = np.searchsorted(owners[by_owner], np.arange(n_first + 1))
    found: list[Candidate] = []
    begin = 0
    while begin < n_first:
        end = max(begin + 1, int(np.searchsorted(borders, borders[begin] + _CHUNK, "right")) - 1)
        chosen = by_owner[borders[begin] : borders[min(end, n_first)]]
        codes = _votes(keys, owners, times, chosen, len(tables), bin_s, reach)
        found += _counted(codes, len(tables), bin_s, min_votes, per_pair)
        begin = end
    return _closest(found, partners)


def _counted(codes: NDArray[np.int64], n: int, bin_s: float, min_votes: int, per_pair: int) -> list[Candidate]:
    if not len(codes):
        return []
    bins, counts = np.unique(codes, return_counts=True)
    paired = _with_next(bins, counts)
    keep = paired >= min_votes
    return _best(bins[keep], counts[keep], paired[keep], n, bin_s, per_pair)


def _closest(found: Sequence[Candidate], partners: int) -> list[Candidate]:
    """Candidates of pairs in which one is among the `partners` closest of the other."""
    most: dict[tuple[int, int], int] = {}
    for item in found:
        pair = item.first, item.second
        most[pair] = max(most.get(pair, 0), item.votes)
    seen: Counter[int] = Counter()
    kept: set[tuple[int, int]] = set()
    for pair in sorted(most, key=lambda pair: (-most[pair], pair)):
        if min(seen[pair[0]], seen[pair[1]]) < partners:
            kept.add(pair)
            seen.update(pair)
    return [item for item in found if (item.first, item.second) in kept]


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


def _votes(
    keys: Array, owners: Array, times: Array, chosen: Array, n: int, bin_s: float, reach: int
) -> NDArray[np.int64]:
    """One code a pair of entries whose first one is chosen: the two owners and the bin of their shift."""
    parts = []
    for step in range(1, min(reach, len(keys) - 1) + 1):
        chosen = chosen[chosen + step < len(keys)]
        chosen = chosen[keys[chosen] == keys[chosen + step]]
        if not len(chosen):
            break
        one = chosen[owners[chosen] != owners[chosen + step]]
        shift = np.floor((times[one + step] - times[one]) / bin_s).astype(np.int64) + _SHIFTS // 2
        pair = owners[one].astype(np.int64) * n + owners[one + step]
        parts.append(pair * _SHIFTS + np.clip(shift, 0, _SHIFTS - 2))
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
