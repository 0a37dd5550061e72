"""Counting the people in a picture: what a pose back end offers when it can.

Not every pose back end can count: one that follows a single person, or reads poses from files, cannot. Those that can
have the method ``people_counter``; `people_counter` finds them by the name of the back end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from macebench import registry, weights
from macebench.errors import UserError
from macebench.types import FloatArray

AUTO = "auto"
PREFERRED = ("vitpose", "blazepose")
"""What `AUTO` chooses from: the first whose weights are on this machine; the last one in any case."""


@dataclass(frozen=True)
class People:
    """The people seen in one picture.

    Attributes:
        boxes: (N, 4) left, top, right, bottom in pixels, inside the picture; the main person first.
        scores: (N,) in [0, 1].
        keypoints: (17, 2) COCO keypoints of the main person in pixels; NaN without one.
        confidence: (17,) in [0, 1]; 0 without a person.
    """

    boxes: FloatArray
    scores: FloatArray
    keypoints: FloatArray
    confidence: FloatArray

    def __len__(self) -> int:
        return len(self.boxes)


NOBODY = People(np.empty((0, 4)), np.empty(0), np.full((17, 2), np.nan), np.zeros(17))


class PeopleCounter(Protocol):
    """Counts the people in a sequence of pictures, each on its own: it keeps nothing of the pictures before.

    Attributes:
        batch: Pictures that are best given at once; the result depends on this grouping by rounding at most.
    """

    batch: int

    def describe(self) -> Mapping[str, float | int | str | bool]:
        """What decides the result: name of the detector, hash of the weights, thresholds, version. Loads nothing."""
        ...

    def count(self, frames: NDArray[np.uint8], first: int = 0) -> list[People]:
        """The people in each of (B, H, W, 3) RGB pictures. Loads the weights at the first call.

        Args:
            frames: The pictures.
            first: Number of the first one in its sequence: a counter may look at pictures in turn here and there.

        Raises:
            WeightsMissingError: with the command that gets them.
        """
        ...


@runtime_checkable
class CountsPeople(Protocol):
    """A pose back end that can count people."""

    def people_counter(self) -> PeopleCounter:
        """A counter; loads no weights yet."""
        ...


def people_counter(name: str = AUTO, settings: Mapping[str, Any] | None = None) -> PeopleCounter:
    """The counter of a pose back end.

    Args:
        name: A pose back end, or ``auto``.
        settings: Settings of the back end.

    Raises:
        UserError: no such back end, it cannot count people, or a setting that it does not have.
    """
    chosen = _preferred() if name == AUTO else name
    kind = registry.get("poses", chosen)
    if not hasattr(kind, "people_counter"):
        raise UserError(
            f"pose back end {chosen!r} cannot count people.",
            hint=f"Back ends that can are {', '.join(PREFERRED)}; {AUTO} chooses one of them.",
        )
    try:
        backend = kind(**(settings or {}))
    except TypeError as error:
        raise UserError(f"pose back end {chosen!r} does not have these settings: {error}.") from error
    counter: PeopleCounter = backend.people_counter()
    return counter


def _preferred() -> str:
    """The first preferred back end whose weights are all there."""
    for name in PREFERRED[:-1]:
        if all(row.path.is_file() for row in weights.select(name)):
            return name
    return PREFERRED[-1]
