"""Editing of the planted raw sources: shots joined by cuts, fades and dissolves; flashes, camera moves, marks.

Everything works on iterators of (H, W, 3) RGB pictures and counts in pictures, so that what is planted is known
exactly. `Clock` turns numbers of pictures into seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import repeat
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from macebench.types import FloatArray

Picture = NDArray[np.uint8]
MARK_SHARE, MARK_FRAMES = 24, 3
FRAME_SHARE = 1.7
"""A picture for `camera_moves` is so much larger than what the camera sees."""


@dataclass(frozen=True)
class Clock:
    """When pictures are shown.

    Attributes:
        rate: Ticks a second.
        ticks: Number of the tick of each picture, increasing from 0.
        end: Tick at which the last picture ends.
    """

    rate: Fraction
    ticks: tuple[int, ...]
    end: int

    @classmethod
    def even(cls, rate: Fraction, seconds: float) -> Clock:
        """A constant rate."""
        count = round(seconds * rate)
        return cls(rate, tuple(range(count)), count)

    @classmethod
    def uneven(cls, rate: Fraction, seconds: float, steps: Sequence[int]) -> Clock:
        """A rate that changes every two seconds: a picture each 1st, 2nd ... `steps` ticks, in turn."""
        ticks, now, end = [], 0, round(seconds * rate)
        while now < end:
            ticks.append(now)
            now += steps[int(now / (2 * rate)) % len(steps)]
        return cls(rate, tuple(ticks), ticks[-1] + 1)

    def __len__(self) -> int:
        return len(self.ticks)

    @property
    def times_s(self) -> FloatArray:
        """(T + 1,) seconds: of each picture, and of the end."""
        return np.array([*self.ticks, self.end], dtype=np.float64) / float(self.rate)

    @property
    def fps(self) -> float:
        """Mean pictures a second."""
        return len(self.ticks) * float(self.rate) / self.end

    def span(self, first: int, after: int) -> tuple[float, float]:
        """Seconds of the pictures ``first <= k < after``."""
        times = self.times_s
        return float(times[first]), float(times[after])


@dataclass(frozen=True)
class Join:
    """How one shot goes over into the next.

    Attributes:
        kind: ``cut``; ``dissolve``, the shots overlap; ``fade``, down to black and up again.
        frames: Pictures of the dissolve, or of each half of the fade.
        black: Black pictures in the middle of a fade.
    """

    kind: Literal["cut", "dissolve", "fade"] = "cut"
    frames: int = 0
    black: int = 0


@dataclass(frozen=True)
class Layout:
    """Where shots lie in a source, in numbers of pictures.

    Attributes:
        spans: First picture of each shot, picture after its last one; dissolving shots overlap.
        clear: The same without the pictures of gradual transitions.
        cuts: First pictures after hard cuts.
        gradual: First altered picture, first picture that is wholly the new shot.
        count: Pictures in all.
    """

    spans: tuple[tuple[int, int], ...]
    clear: tuple[tuple[int, int], ...]
    cuts: tuple[int, ...]
    gradual: tuple[tuple[int, int], ...]
    count: int


def lay_out(lengths: Sequence[int], joins: Sequence[Join]) -> Layout:
    """The layout of shots of `lengths` pictures with one join between each two."""
    spans, clear, cuts, gradual = [], [], [], []
    start = lead = 0
    for number, length in enumerate(lengths):
        join = joins[number] if number < len(joins) else Join()
        end = start + length
        spans.append((start, end))
        clear.append((start + lead, end - join.frames))
        following = end - join.frames if join.kind == "dissolve" else end + join.black
        if number < len(joins) and join.kind == "cut":
            cuts.append(end)
        elif number < len(joins):
            gradual.append((end - join.frames, following + join.frames))
        start, lead = following, join.frames
    return Layout(tuple(spans), tuple(clear), tuple(cuts), tuple(gradual), spans[-1][1])


def assemble(shots: Sequence[Iterable[Picture]], lengths: Sequence[int], joins: Sequence[Join]) -> Iterator[Picture]:
    """The pictures of all shots, joined; see `lay_out`."""
    sources = [iter(shot) for shot in shots]
    lead = Join()
    for number, (source, length) in enumerate(zip(sources, lengths, strict=True)):
        join = joins[number] if number < len(joins) else Join()
        first = lead.frames if lead.kind == "dissolve" else 0  # these were used up by the dissolve
        for k in range(first, length - join.frames):
            rising = lead.kind == "fade" and k < lead.frames
            yield _scaled(next(source), (k + 1) / (lead.frames + 1)) if rising else next(source)
        for k in range(join.frames):
            share = (k + 1) / (join.frames + 1)
            picture = next(source)
            if join.kind == "dissolve":
                yield _mixed(picture, next(sources[number + 1]), share)
            else:
                yield _scaled(picture, 1.0 - share)
        if join.kind == "fade":
            yield from repeat(np.zeros_like(picture), join.black)
        lead = join


def _scaled(picture: Picture, share: float) -> Picture:
    return np.round(picture * np.float32(share)).astype(np.uint8)


def _mixed(first: Picture, second: Picture, share: float) -> Picture:
    return np.round(first * np.float32(1.0 - share) + second * np.float32(share)).astype(np.uint8)


def brightened(pictures: Iterable[Picture], levels: Mapping[int, float]) -> Iterator[Picture]:
    """Stage lights: picture `k` is mixed with white by ``levels[k]`` in [0, 1], or darkened by -``levels[k]``."""
    for number, picture in enumerate(pictures):
        level = levels.get(number, 0.0)
        if level > 0.0:
            yield _mixed(picture, np.full_like(picture, 255), level)
        else:
            yield _scaled(picture, 1.0 + level) if level else picture


def strobe(first: int, after: int, period: int) -> dict[int, float]:
    """Levels of a strobe for `brightened`: half of each period is bright, the other half dark."""
    return {k: 0.75 if (k - first) % period < period // 2 else -0.7 for k in range(first, after)}


def marked(pictures: Iterable[Picture], onsets: Iterable[int]) -> Iterator[Picture]:
    """A black square in the top left corner that is white for `MARK_FRAMES` pictures from each onset."""
    white = {onset + k for onset in onsets for k in range(MARK_FRAMES)}
    for number, picture in enumerate(pictures):
        side = mark_side(picture.shape[1], picture.shape[0])
        changed = picture.copy()
        changed[:side, :side] = 255 if number in white else 0
        yield changed


def mark_side(width: int, height: int) -> int:
    """Pixels of the mark's edge."""
    return min(width, height) // MARK_SHARE


def grainy(pictures: Iterable[Picture], seed: int, sigma: float = 2.0) -> Iterator[Picture]:
    """Noise of a sensor, new in every picture."""
    rng = np.random.default_rng([seed, 0x6A])
    for picture in pictures:
        noise = rng.normal(0.0, sigma, (picture.shape[0], picture.shape[1], 1)).astype(np.float32)
        yield np.clip(np.round(picture + noise), 0.0, 255.0).astype(np.uint8)


def camera_moves(
    pictures: Iterable[Picture], width: int, height: int, times_s: FloatArray, *, sway: float, zoom: float
) -> Iterator[Picture]:
    """What a hand-held camera sees of larger pictures: it pans, tilts, rolls and zooms.

    Args:
        pictures: `FRAME_SHARE` times as wide and high as what is seen.
        width: Pixels that are seen.
        height: Pixels that are seen.
        times_s: Seconds of each picture.
        sway: How far the centre goes to the sides, as a share of `width`.
        zoom: How much nearer it gets, as a share.
    """
    import cv2

    for picture, t in zip(pictures, times_s, strict=False):
        near = 1.0 + zoom * (0.5 - 0.5 * np.cos(2.0 * np.pi * t / 6.0))
        roll = np.radians(1.5) * np.sin(2.0 * np.pi * t / 3.1)
        x = 0.5 * picture.shape[1] + sway * width * np.sin(2.0 * np.pi * t / 4.3)
        y = 0.5 * picture.shape[0] + 0.35 * sway * height * np.sin(2.0 * np.pi * t / 2.9)
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]) / near
        shift = np.array([x, y]) - turn @ [0.5 * width, 0.5 * height]
        matrix = np.concatenate([turn, shift[:, None]], axis=1)
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(picture, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT)
        yield np.asarray(seen, dtype=np.uint8)
