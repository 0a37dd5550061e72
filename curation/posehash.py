"""Which clips show the same dance: hashes of what moves in the picture, twelve times a second.

Method: signs of the low frequencies of a discrete cosine transform (Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions", 2010), own code, but of the *difference* of two pictures a third of a second apart
instead of one picture. What stands still (the room, a logo) falls out, so that two dances in one studio do not look
alike, and where the dancer is and how she moves stays. The 64 bits of a moment are those of 8 x 8 frequencies without
the constant one and one more.

A copy that was encoded again, made larger or smaller, given another level or contrast, cut at another time or mirrored
has nearly the same bits (a mirrored one after a fixed change of signs). A copy with bars around it or cut at the sides
is found while the change is small; another camera of the same dance is not.

Candidates come from an inverted table of parts of the bits (linear cost); each is then compared bit by bit over the
whole span that both clips have. A moment without motion has no bits and counts nowhere; clips that stand still as a
whole are compared by one hash of their mean picture, unless it is of one colour.

Measured: 8 dances of the demo and 4 real videos, against copies with crf 35, with 200x150 pixels, mirrored, cut 1 s
later, at 60 % level: all found, scores 0.77 to 0.99. Cut by 4 % at two sides: 0.58 to 0.80; bars of a sixth at both
sides: 0.58 to 0.80; a heavily distorted copy: 0.62. Different dances with the same choreographer, room and camera: 0.48
at most of 496 pairs; 0.56 is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.curation._voting import Candidate, KeyTable, candidates, components
from macebench.types import Array, FloatArray

VERSION = 1
RATE_HZ = 12.0
SIDE = 32
MAX_DISTANCE = 0.22
MIN_COMMON = 36
STILL_DISTANCE = 0.10
_LAG = 4
_BITS = 64
_WAVES = 9
_STRIDES, _KEY_BITS = (1, 3, 5, 7, 9, 11, 13, 19, 23, 27), 20
_QUIET, _PLAIN = 1.0, 2.0
_BIN_S = 0.25
_MIN_VOTES = 4
_SLACK = 3
_SURE = 0.12
_SHORT, _WHOLE = 12, 0.9


@dataclass(frozen=True)
class MotionHash:
    """Hashes of one clip.

    Attributes:
        bits: (T,) uint64, one a moment, `RATE_HZ` a second; moment k lies at ``(k + 2) / RATE_HZ`` seconds.
        moving: (T,) whether anything moves there.
        still: 64 bits of the mean picture; 0 when it is of one colour.
    """

    bits: NDArray[np.uint64]
    moving: NDArray[np.bool_]
    still: int

    def __len__(self) -> int:
        return len(self.bits)


@dataclass(frozen=True)
class Match:
    """What two clips share.

    Attributes:
        score: One minus twice the share of different bits: 0 is chance, 1 the same.
        offset_s: What lies at t in the first clip lies at ``t + offset_s`` in the second.
        n_common: Number of compared moments (0: both stand still and were compared by their mean picture).
        mirrored: Whether the second is a mirror image of the first.
        same: Whether this is the same dance.
    """

    score: float
    offset_s: float
    n_common: int
    mirrored: bool = False
    same: bool = False


NO_MATCH = Match(0.0, 0.0, 0)


class MotionHasher:
    """Makes the hash of one clip from its pictures, in the order of time; keeps 32x32 pixels of twelve a second.

    All pictures that are nearest to one moment are averaged, so that a copy that begins between two moments is like.
    """

    def __init__(self) -> None:
        self._small: list[FloatArray] = []
        self._sum = np.zeros((SIDE, SIDE))
        self._count = 0

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take (B, H, W, 3) RGB pictures and their (B,) seconds after the clip's first picture."""
        for frame, time_s in zip(frames, times_s, strict=True):
            moment = int(np.floor(float(time_s) * RATE_HZ + 1e-6))
            if moment > len(self._small) and self._count:
                self._close(moment)
            self._sum += _small(frame)
            self._count += 1

    def _close(self, moment: int) -> None:
        """End the current moment; it is repeated where pictures are farther apart than moments."""
        mean = self._sum / self._count
        self._small += [mean] * (moment - len(self._small))
        self._sum, self._count = np.zeros((SIDE, SIDE)), 0

    def finish(self) -> MotionHash:
        """The hash of all pictures so far."""
        if self._count:
            self._close(len(self._small) + 1)
        return hash_small(np.array(self._small).reshape(-1, SIDE, SIDE))


def _small(frame: NDArray[np.uint8]) -> FloatArray:
    """(SIDE, SIDE) luminance by area averages, 0 to 255."""
    import cv2

    little = np.asarray(cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float64)
    return np.asarray(little @ np.array([0.299, 0.587, 0.114]))


def hash_pictures(batches: Iterable[tuple[NDArray[np.uint8], FloatArray]]) -> MotionHash:
    """The hash of a clip from batches of (B, H, W, 3) pictures and their (B,) seconds."""
    hasher = MotionHasher()
    for frames, times_s in batches:
        hasher.update(frames, times_s)
    return hasher.finish()


def hash_small(pictures: FloatArray) -> MotionHash:
    """The hash of (T, SIDE, SIDE) luminance at `RATE_HZ`.

    Raises:
        ValueError: the pictures have another size.
    """
    small = np.asarray(pictures, np.float64)
    if small.ndim != 3 or small.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"pictures {small.shape}: expected (T, {SIDE}, {SIDE})")
    mean = small.mean(axis=0, keepdims=True) if len(small) else np.zeros((1, SIDE, SIDE))
    still = int(_signs(_waves(mean))[0]) if _contrast(mean)[0] >= _PLAIN else 0
    change = small[_LAG:] - small[:-_LAG]
    return MotionHash(_signs(_waves(change)), np.asarray(_contrast(change) >= _QUIET, np.bool_), still)


def _contrast(pictures: FloatArray) -> FloatArray:
    """(T,) deviation of the values of each picture: a fade of one colour has none."""
    return np.asarray(pictures.std(axis=(1, 2)), np.float64)


def _waves(pictures: FloatArray) -> FloatArray:
    """(T, 64) low frequencies, in the order of their sum; the constant one is left out."""
    basis = _basis()
    waves = np.einsum("uy,tyx,vx->tuv", basis, pictures, basis)
    rows, columns = _order()
    return np.asarray(waves[:, rows, columns])


def _basis() -> FloatArray:
    angle = np.pi * (np.arange(SIDE) + 0.5) / SIDE
    return np.asarray(np.cos(np.arange(_WAVES)[:, None] * angle[None]))


def _order() -> tuple[Array, Array]:
    pairs = [(u, v) for u in range(_WAVES) for v in range(_WAVES) if u + v > 0]
    chosen = sorted(pairs, key=lambda pair: (max(pair), sum(pair), pair))[:_BITS]
    return np.array([u for u, _ in chosen]), np.array([v for _, v in chosen])


def _signs(waves: FloatArray) -> NDArray[np.uint64]:
    weights = np.uint64(1) << np.arange(_BITS, dtype=np.uint64)
    return np.asarray(((waves > 0) * weights).sum(axis=1, dtype=np.uint64), np.uint64)


def _mirror_mask() -> np.uint64:
    """Bits that a mirror image turns over: those of odd horizontal frequencies."""
    odd = (_order()[1] % 2).astype(np.uint64)
    return np.uint64((odd << np.arange(_BITS, dtype=np.uint64)).sum(dtype=np.uint64))


def mirrored(one: MotionHash) -> MotionHash:
    """The hash that the mirror image has."""
    still = int(np.uint64(one.still) ^ _mirror_mask()) if one.still else 0
    return MotionHash(one.bits ^ _mirror_mask(), one.moving, still)


def keys(one: MotionHash) -> KeyTable:
    """Choices of 20 of the 64 bits of each moving moment, for the inverted table."""
    times = (np.flatnonzero(one.moving) + _LAG / 2) / RATE_HZ
    bits = one.bits[one.moving]
    parts = []
    for number, stride in enumerate(_STRIDES):
        key = np.full(len(bits), number, np.uint64)
        for k in range(_KEY_BITS):
            key = (key << np.uint64(1)) | ((bits >> np.uint64((k * stride + number) % _BITS)) & np.uint64(1))
        parts.append(key)
    return KeyTable(np.concatenate(parts), np.tile(times, len(_STRIDES)))


def match(first: MotionHash, second: MotionHash) -> Match:
    """What two clips share at their best shift, as it is or mirrored. Looks at every shift."""
    least = _needed(first, second)
    shifts = range(least - len(first), len(second) - least + 1)
    turned = mirrored(second)
    results = [_at_shift(first, other, shift, other is turned) for other in (second, turned) for shift in shifts]
    return max([_still(first, second), *results], key=_quality)


def _quality(result: Match) -> tuple[bool, float, int]:
    return result.same, result.score, result.n_common


def _at_shift(first: MotionHash, second: MotionHash, shift: int, is_mirrored: bool) -> Match:
    begin, end = max(0, -shift), min(len(first), len(second) - shift)
    if end <= begin:
        return NO_MATCH
    both = first.moving[begin:end] & second.moving[begin + shift : end + shift]
    count = int(np.count_nonzero(both))
    if count < _needed(first, second):
        return NO_MATCH
    different = first.bits[begin:end][both] ^ second.bits[begin + shift : end + shift][both]
    distance = float(np.bitwise_count(different).mean()) / _BITS
    score = max(0.0, 1.0 - 2.0 * distance)
    return Match(score, shift / RATE_HZ, count, is_mirrored, distance <= MAX_DISTANCE)


def _needed(first: MotionHash, second: MotionHash) -> int:
    """Fewest moments to compare: `MIN_COMMON`, or nearly all of a clip that has fewer."""
    return min(MIN_COMMON, max(_SHORT, int(_WHOLE * min(_n_moving(first), _n_moving(second)))))


def _still(first: MotionHash, second: MotionHash) -> Match:
    """Compare two clips that stand still by their mean picture."""
    if not first.still or not second.still or _n_moving(first) >= _SHORT or _n_moving(second) >= _SHORT:
        return NO_MATCH
    results = []
    for other in (second, mirrored(second)):
        distance = (first.still ^ other.still).bit_count() / _BITS
        turned = other is not second
        results.append(Match(max(0.0, 1.0 - 2.0 * distance), 0.0, 0, turned, distance <= STILL_DISTANCE))
    return max(results, key=_quality)


def _n_moving(one: MotionHash) -> int:
    return int(np.count_nonzero(one.moving))


def pairs(hashes: Sequence[MotionHash]) -> list[tuple[int, int, Match]]:
    """Pairs of indices that show the same dance, and their match. Linear in the number of clips (see `groups`)."""
    count = len(hashes)
    turned = [mirrored(one) for one in hashes]
    tables = [keys(one) for one in [*hashes, *turned]]
    by_pair: dict[tuple[int, int], list[tuple[Candidate, bool]]] = {}
    for item in candidates(tables, bin_s=_BIN_S, min_votes=_MIN_VOTES, per_pair=2, n_first=count):
        one, other = item.first % count, item.second % count
        if one != other:
            flip = item.second >= count
            low_first = one < other
            placed = item if low_first else Candidate(other, one, -item.offset_s, item.votes)
            by_pair.setdefault((min(one, other), max(one, other)), []).append((placed, flip))
    found = []
    for (one, other), items in sorted(by_pair.items()):
        result = _best_of(hashes[one], hashes[other], turned[other], items)
        if result.same:
            found.append((one, other, result))
    return found + _still_pairs(hashes)


def _best_of(
    first: MotionHash, second: MotionHash, turned: MotionHash, items: Sequence[tuple[Candidate, bool]]
) -> Match:  # fmt: skip
    best = NO_MATCH
    for item, flip in items:
        middle = round(item.offset_s * RATE_HZ)
        for shift in range(middle - _SLACK, middle + _SLACK + 1):
            best = max(best, _at_shift(first, turned if flip else second, shift, flip), key=_quality)
        if best.same and best.score >= 1.0 - 2.0 * _SURE:
            break
    return best


def _still_pairs(hashes: Sequence[MotionHash]) -> list[tuple[int, int, Match]]:
    """Clips that stand still, each compared with those that share a part of their bits."""
    quiet = [k for k, one in enumerate(hashes) if one.still and _n_moving(one) < _SHORT]
    first: dict[tuple[int, int], list[int]] = {}
    found = []
    for k in quiet:
        near: set[int] = set()
        for turned in (hashes[k], mirrored(hashes[k])):
            for part in range(8):
                near.update(first.get((part, turned.still >> (8 * part) & 255), [])[-8:])
        for other in sorted(near):
            result = _still(hashes[other], hashes[k])
            if result.same:
                found.append((other, k, result))
        for part in range(8):
            first.setdefault((part, hashes[k].still >> (8 * part) & 255), []).append(k)
    return found


def groups(hashes: Sequence[MotionHash]) -> list[set[int]]:
    """Indices of clips that show the same dance, directly or through others; singles are left out."""
    return components(len(hashes), [(one, other) for one, other, _ in pairs(hashes)])
