"""Which clips of two models are compared with each other, and what both have of them.

Clips are paired by id and music. A pair counts for a score when both of its clips have the value, and, where clips are
weighted, a weight above 0. A feature cell of several vectors (clips of 16 frames) counts as that many pairs, which stay
together as one cluster.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from macebench.aggregate import NO_REASON, NO_WEIGHT
from macebench.results import FEATURE_PREFIX, split_piece
from macebench.types import FloatArray

Row = Mapping[str, Any]
OTHER_NUMBER = "another number of features than the first"


@dataclass(frozen=True)
class Pairs:
    """Clips of both models; what happened to the others; and which belong together."""

    first: tuple[Row, ...]
    second: tuple[Row, ...]
    clusters: tuple[str, ...]
    unpaired: dict[str, int]


def pair_rows(first: Sequence[Row], second: Sequence[Row]) -> Pairs:
    """The clips that both have with the same music, in the order of `first`."""
    theirs = {str(row["clip_id"]): row for row in second}
    mine = {str(row["clip_id"]) for row in first}
    unpaired: Counter[str] = Counter()
    unpaired["only in the second run"] = len(theirs.keys() - mine)
    a, b, clusters = [], [], []
    for row in first:
        other = theirs.get(str(row["clip_id"]))
        if other is None:
            unpaired["only in the first run"] += 1
        elif row["music_sha256"] != other["music_sha256"]:
            unpaired["other music"] += 1
        else:
            a.append(row)
            b.append(other)
            # Pieces of one file have its music; without a hash of the music the file is what is known.
            clusters.append(str(row["music_sha256"]) or split_piece(str(row["clip_id"]))[0])
    return Pairs(tuple(a), tuple(b), tuple(clusters), {key: n for key, n in sorted(unpaired.items()) if n})


def vector_of(row: Row, name: str) -> FloatArray | None:
    """The feature vector in a cell, or None."""
    cell = row.get(name)
    return np.asarray(cell, dtype=np.float64) if isinstance(cell, np.ndarray | list | tuple) else None


@dataclass(frozen=True)
class Usable:
    """The pairs in which both clips have a value.

    Attributes:
        first: (n,) values or (n, F) vectors of the first model.
        second: The same of the second model.
        clusters: (n,) names of what is independent.
        unscored: Why other pairs have none: ``side: reason`` -> count.
        weights: (n,) of the first and of the second model; None where all clips weigh alike.
    """

    first: FloatArray
    second: FloatArray
    clusters: tuple[str, ...]
    unscored: dict[str, int]
    weights: tuple[FloatArray, FloatArray] | None = None

    @property
    def n(self) -> int:
        """Pairs."""
        return len(self.first)

    @property
    def n_clusters(self) -> int:
        """Different clusters."""
        return len(set(self.clusters))


def usable_pairs(pairs: Pairs, key: str, weight: str | None = None, width: int | None = None) -> Usable:
    """Values or vectors under `key` of the pairs that have both, with the column `weight` of each.

    With `width` the cell of a feature holds one vector or more of so many numbers.
    """
    found: list[tuple[Any, Any, str]] = []
    heavy: list[tuple[float, float]] = []
    lost: Counter[str] = Counter()
    for first, second, cluster in zip(pairs.first, pairs.second, pairs.clusters, strict=True):
        values = [_value(row, key) for row in (first, second)]
        weights = [_weight(row, weight) for row in (first, second)]
        reasons = [_reason(*item, key) for item in zip((first, second), values, weights, strict=True)]
        if not any(reasons) and np.shape(values[0]) != np.shape(values[1]):
            reasons[1] = OTHER_NUMBER
        lost.update(f"{side}: {why}" for side, why in zip(("first", "second"), reasons, strict=True) if why)
        if not any(reasons):
            ours, theirs = (parts_of(value, width) for value in values)
            found += [(one, two, cluster) for one, two in zip(ours, theirs, strict=True)]
            heavy.append((weights[0], weights[1]))
    both = [np.asarray([item[side] for item in found], np.float64) for side in (0, 1)]
    each = [np.asarray([item[side] for item in heavy], np.float64) for side in (0, 1)]
    return Usable(
        both[0], both[1], tuple(item[2] for item in found), dict(sorted(lost.items())),
        None if weight is None else (each[0], each[1]),
    )  # fmt: skip


def parts_of(value: Any, width: int | None) -> list[Any]:
    """The vectors of `width` numbers in a cell, as `macebench.aggregate` counts them; without `width` the cell."""
    return [value] if width is None else list(np.reshape(value, (-1, width)))


def _value(row: Row, key: str) -> Any:
    return vector_of(row, key) if key.startswith(FEATURE_PREFIX) else row.get(key, math.nan)


def _weight(row: Row, weight: str | None) -> float:
    return 1.0 if weight is None else float(row.get(weight, math.nan))


def _reason(row: Row, value: Any, weight: float, key: str) -> str:
    """Why a clip cannot be compared under `key`; empty when it can."""
    if value is None or not np.all(np.isfinite(value)):
        return str(json.loads(row["reasons"]).get(key, NO_REASON))
    return "" if math.isfinite(weight) and weight > 0 else NO_WEIGHT
