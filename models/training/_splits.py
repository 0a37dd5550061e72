"""Which dances of a training set are held out.

A source may say what a dance belongs to. Else the hash of the dance's *group* decides: one group in `VAL_PARTS` is
``val``. Where that leaves ``val`` without any group, the smallest one (of equals, the one with the lowest hash) is
moved there; where it leaves ``train`` without any, the largest one is moved back. Both need two groups at least.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from macebench.models.training.data import ItemInfo

VAL_PARTS = 10
"""One group in so many is validation."""


def split_of(group: str) -> str:
    """The split of a group by its hash alone: one in `VAL_PARTS` is ``val``."""
    return "val" if _hash(group) % VAL_PARTS == 0 else "train"


def group_of(info: ItemInfo) -> str:
    """The group of a dance; one without a group is its own."""
    return info.group or info.id


def splits_of(infos: Sequence[ItemInfo]) -> list[str]:
    """The split of each of these dances, which are all that a training set uses; see the module."""
    sizes = Counter(group_of(info) for info in infos if not info.split)
    chosen = {group: split_of(group) for group in sizes}
    if len(sizes) > 1:
        there = {info.split for info in infos if info.split} | set(chosen.values())
        order = sorted(sizes, key=lambda group: (sizes[group], _hash(group)))
        if "val" not in there:
            chosen[order[0]] = "val"
        elif "train" not in there:
            chosen[order[-1]] = "train"
    return [info.split or chosen[group_of(info)] for info in infos]


def _hash(group: str) -> int:
    return int(hashlib.sha256(group.encode()).hexdigest()[:12], 16)
