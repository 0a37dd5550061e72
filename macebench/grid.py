"""Looking at a part of a clip's frames: a declared approximation, named in the protocol.

A *record* is what a frame statistic needs to know one value: one picture, a picture and its successor, or a picture and
its two neighbours. The grid has a point in the middle of each interval of ``1 / per_s`` seconds, counted from the
clip's first presentation timestamp; at each point one record is looked at: the first of the clip's records that starts
there or later. Records of the clip begin at every frame; those of three frames at every second one, as VBench's do.

Records hold true neighbours. The mean of likenesses of neighbours, or of interpolation errors, over the records of the
grid is therefore an unbiased estimate of the mean over all records. Comparing grid point with grid point would not be:
pictures half a second apart are less alike than neighbours.

A clip that has no record at a grid point, because it is short, is looked at where its first record is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from macebench.types import FloatArray, FrameStatistic

SEPARATOR = "@"
VERSION = 1
_EARLY_S = 1e-6

Frame = NDArray[np.uint8]


class GridRule(BaseModel):
    """How one frame statistic looks at a clip.

    Attributes:
        per_s: Grid points a second.
        frames: Consecutive frames of a record.
        first: Whether the clip's first frame is looked at, before all records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    per_s: float = Field(gt=0)
    frames: Literal[1, 2, 3] = 1
    first: bool = False

    @property
    def suffix(self) -> str:
        """The rule as a short text; equal rules have equal texts."""
        return f"{self.per_s:g}/s,{self.frames}" + (",first" if self.first else "")


def gridded_name(name: str, rule: GridRule) -> str:
    """What the statistic `name` under a rule is called: ``dino_b16@2/s,2,first``.

    Example:
        >>> gridded_name("musiq", GridRule(per_s=2))
        'musiq@2/s,1'
    """
    return name + SEPARATOR + rule.suffix


def split_name(name: str) -> tuple[str, GridRule | None]:
    """The statistic and its rule; None without one.

    Raises:
        ValueError: the text behind the separator is no rule.

    Example:
        >>> split_name("dino_b16@2/s,2,first")
        ('dino_b16', GridRule(per_s=2.0, frames=2, first=True))
    """
    base, separator, text = name.partition(SEPARATOR)
    if not separator:
        return base, None
    rate, *rest = text.split(",")
    values = {"per_s": rate.removesuffix("/s"), "frames": int(rest[0]) if rest else 1, "first": "first" in rest[1:]}
    return base, GridRule.model_validate(values)


class Gridded:
    """A frame statistic that sees the frames of a rule only.

    A statistic with a method ``restart()`` is told before each record, so that it does not take the last frame of one
    for a neighbour of the next one's first.

    Memory: the frames of the records that are not complete, and those of the clip's first record.

    Args:
        inner: A fresh frame statistic.
        rule: What it sees.
    """

    def __init__(self, inner: FrameStatistic, rule: GridRule) -> None:
        self._inner, self._rule = inner, rule
        self._stride = max(1, rule.frames - 1)
        self._open: list[list[tuple[Frame, float]]] = []
        self._reserve: list[tuple[Frame, float]] = []
        self._start_s, self._next_s, self._index = 0.0, math.nan, 0
        self._done = False

    def update(self, frames: Frame, times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) uint8 frames and their (B,) timestamps in seconds.

        Raises:
            ValueError: not one time a frame, or what the inner statistic refuses.
        """
        for frame, time_s in zip(frames, np.asarray(times_s, dtype=np.float64).tolist(), strict=True):
            self._take(frame, time_s)
            self._index += 1

    def _take(self, frame: Frame, time_s: float) -> None:
        kept: tuple[Frame, float] | None = None
        if self._index == 0:
            self._start_s, self._next_s = time_s, time_s + 0.5 / self._rule.per_s
            if self._rule.first:
                self._inner.update(frame[None], np.array([time_s]))
        if not self._done and len(self._reserve) < self._rule.frames:
            kept = (frame.copy(), time_s)  # the caller may use the batch's memory again
            self._reserve.append(kept)
        if self._index % self._stride == 0 and time_s >= self._next_s - _EARLY_S:
            self._open.append([])
            passed = math.floor((time_s + _EARLY_S - self._start_s) * self._rule.per_s + 0.5)
            self._next_s = self._start_s + (passed + 0.5) / self._rule.per_s
        if self._open:
            kept = kept or (frame.copy(), time_s)
            for record in self._open:
                record.append(kept)
            if len(self._open[0]) == self._rule.frames:
                self._give(self._open.pop(0))

    def _give(self, record: list[tuple[Frame, float]]) -> None:
        restart = getattr(self._inner, "restart", None)
        if restart is not None:
            restart()
        self._inner.update(np.stack([frame for frame, _ in record]), np.array([time_s for _, time_s in record]))
        self._done, self._reserve = True, []

    def result(self) -> FloatArray:
        """What the inner statistic says of the frames that it saw."""
        if not self._done and self._reserve:
            self._give(self._reserve)
        return self._inner.result()


def grid_ingredients(own: Mapping[str, Any], rule: GridRule | None) -> dict[str, Any]:
    """What a gridded statistic depends on: that of the inner one, and the rule."""
    if rule is None:
        return dict(own)
    return {**own, "grid": rule.model_dump(mode="json"), "grid_version": VERSION}
