"""What the stage ``person`` keeps of a source: who was seen, and whether the picture is a drawing on black.

The pictures are sampled at a fixed rate: sample k is the first picture at or after ``k / rate_hz`` seconds, so that
neither the frame rate nor the batches decide what is looked at.

**Drawings.** Pose estimators draw skeletons for video generators: coloured sticks on black. Three numbers tell them
from somebody who dances on a dark stage; all are of the picture reduced to 256 pixels:

- ``dark``: share of pixels whose brightest channel is below 24 of 255;
- of the other pixels, which are lit: ``vivid``, the share with a saturation of 0.6 and a value of 0.35 at least;
- ``hues``: how many twelfths of the colour circle hold at least 3 % of the vivid ones each.

Sticks have a colour each, all round the circle. Measured: drawn skeletons ``vivid`` 0.84 to 0.87 and 9 to 11 hues; a
real dancer cut out on black 0.14 to 0.22 and at most 2; rendered dancers cut out on black up to 0.52 and at most 4. A
white dancer in rainbow light, 0.48 to 0.64 and 8 to 12, is the nearest. The last two are only computed where at least
half of the picture is dark, else they are missing (NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.curation._pictures import Picture, resized, working_size
from macebench.curation.stage import Rejection, Timeline
from macebench.people import People, PeopleCounter
from macebench.types import Array, FloatArray

GiveUp = Callable[[Timeline], Rejection | None]
MOST_PEOPLE = 4
VERSION = 1
DRAWING = ("dark", "vivid", "hues")
_WORKING_SIDE = 256
_DARK, _HALF_DARK = 24, 0.5
_SATURATION, _VALUE = 153, 90
_HUES, _HUE_SHARE = 12, 0.03
_SAME_S = 1e-6


class PeopleObserver:
    """Counts the people of one source while it is decoded.

    The timeline's values, S samples: ``areas`` and ``scores`` (S, 4) of the most prominent people, the main person
    first, NaN where there is none (areas are shares of the picture); ``box`` (S, 4) and ``keypoints`` (S, 17, 3) of
    the main person: left, top, right, bottom, and x, y, confidence, with lengths as shares of the picture's width and
    height; ``dark``, ``vivid`` and ``hues`` (S,), see the module. Its meta is what the counter says of itself
    and the rate.

    Args:
        counter: Counts people.
        rate_hz: Samples a second.
        give_up: Says of the samples so far whether the source is hopeless; None never does.
    """

    def __init__(self, counter: PeopleCounter, rate_hz: float, give_up: GiveUp | None = None) -> None:
        self._counter, self._rate, self._give_up = counter, rate_hz, give_up
        self._due = 0
        self._waiting: list[Picture] = []
        self._times: list[float] = []
        self._rows: list[dict[str, Array]] = []

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) RGB frames and their (B,) seconds after the source's first picture."""
        for frame, time_s in zip(frames, times_s, strict=True):
            place = (float(time_s) + _SAME_S) * self._rate
            if place < self._due:
                continue
            self._due = int(place) + 1
            self._times.append(float(time_s))
            self._waiting.append(frame.copy())
            if len(self._waiting) >= self._counter.batch:
                self._work()

    def hopeless(self) -> Rejection | None:
        """Why nothing of the source can be kept, or None; see `macebench.curation.observe`."""
        return None if self._give_up is None else self._give_up(self.finish())

    def finish(self) -> Timeline:
        """The samples so far: after the last frame those of the whole source."""
        self._work()
        values = {name: np.stack([row[name] for row in self._rows]) for name in _empty_row()} if self._rows else {
            name: np.empty((0, *value.shape)) for name, value in _empty_row().items()
        }  # fmt: skip
        return Timeline(np.array(self._times), values, {**self._counter.describe(), "rate_hz": self._rate})

    def _work(self) -> None:
        if not self._waiting:
            return
        found = self._counter.count(np.stack(self._waiting), len(self._rows))
        self._rows += [_row(people, frame) for people, frame in zip(found, self._waiting, strict=True)]
        self._waiting = []


def _empty_row() -> dict[str, Array]:
    row: dict[str, Array] = {"areas": np.full(MOST_PEOPLE, np.nan), "scores": np.full(MOST_PEOPLE, np.nan)}
    row |= {"box": np.full(4, np.nan), "keypoints": np.full((17, 3), np.nan, np.float32)}
    return row | {name: np.array(np.nan) for name in DRAWING}


def _row(people: People, frame: Picture) -> dict[str, Array]:
    """One sample of the timeline."""
    height, width = frame.shape[:2]
    row = _empty_row() | {name: np.array(value) for name, value in drawing_numbers(frame).items()}
    size, count = np.array([width, height], dtype=np.float64), min(len(people), MOST_PEOPLE)
    if count:
        boxes = people.boxes / np.tile(size, 2)
        row["areas"][:count] = (boxes[:count, 2:] - boxes[:count, :2]).prod(axis=1)
        row["scores"][:count] = people.scores[:count]
        row["box"] = boxes[0]
        row["keypoints"] = np.column_stack([people.keypoints / size, people.confidence]).astype(np.float32)
    return row


def drawing_numbers(picture: Picture) -> Mapping[str, float]:
    """``dark``, ``vivid`` and ``hues`` of an (H, W, 3) RGB picture; see the module."""
    import cv2

    small = resized(picture, *working_size(picture.shape, _WORKING_SIDE))
    lit = small.max(axis=2) >= _DARK
    numbers: dict[str, float] = {"dark": 1.0 - float(lit.mean()), "vivid": np.nan, "hues": np.nan}
    if numbers["dark"] < _HALF_DARK or not lit.any():
        return numbers
    hue, saturation, value = (channel[lit] for channel in cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2HSV)))
    vivid = (saturation >= _SATURATION) & (value >= _VALUE)
    numbers["vivid"] = float(vivid.mean())
    numbers["hues"] = float(_hues(hue[vivid]))
    return numbers


def _hues(hue: Any) -> int:
    """How many twelfths of the colour circle hold `_HUE_SHARE` of the hues (0 to 179) each."""
    if not len(hue):
        return 0
    counts = np.bincount(hue.astype(np.int64) * _HUES // 180, minlength=_HUES)
    return int((counts >= _HUE_SHARE * len(hue)).sum())
