"""Which pictures of clips and rejected spans a data set shows, and putting them into ``thumbnails``.

A picture whose file in the working folder is gone is made again from the store's pictures of its source, or kept as
the last run has put it; without either it is left out and its cell stays empty.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macebench.curation.observe import Thumbnails, load_timelines, thumbnail_at
from macebench.curation.records import ClipRecord, SpanRecord, thumbnail_path
from macebench.store import Store, atomic_write

if TYPE_CHECKING:
    from macebench.curation.outcomes import Outcomes

FOLDER = "thumbnails"


class Pictures:
    """Chooses thumbnails: of kept clips and of rejected spans so many, of each reason about as many.

    The first clip of every source goes before the second one of any. Else their names alone decide, not the order in
    which they are offered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heaps: dict[tuple[str, str], list[tuple[int, int, str]]] = {}

    def offer(self, reason: tuple[str, str], name: str, number: int = 0) -> None:
        """A picture of a kept clip (no reason) or of a rejected span; `number` counts those of the same source."""
        if not name or not self._most:
            return
        rank = -int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        heap = self._heaps.setdefault(reason, [])
        heapq.heappush(heap, (-number, rank, name))
        if len(heap) > self._most:
            heapq.heappop(heap)

    def chosen(self) -> list[str]:
        """Names of the chosen pictures, sorted."""
        ranked = {reason: [name for _, _, name in sorted(heap, reverse=True)] for reason, heap in self._heaps.items()}
        kept = ranked.pop(("", ""), [])
        turns = [names[turn] for turn in range(self._most) for _, names in sorted(ranked.items()) if turn < len(names)]
        return sorted({*kept, *turns[: self._most]})


def offer_all(pictures: Pictures, sources: Outcomes) -> None:
    """Offer every picture of the sources."""
    for group in sources:
        for number, clip in enumerate(group.clips):
            pictures.offer(("", ""), clip.thumbnail, number)
        for _, span in group.spans():
            pictures.offer((span.stage, span.reason), span.thumbnail)


def restore(out: Path, names: Iterable[str], sources: Outcomes, store: Path | None, max_side: int) -> list[str]:
    """Make pictures again whose files in the working folder are gone.

    Args:
        out: Folder of the data set.
        names: Names of pictures.
        sources: What became of the sources.
        store: Folder of the store; None when it is not known.
        max_side: Size of the pictures that the stages see, part of the store's keys.

    Returns:
        The names of which there is a picture, sorted.
    """
    wanted = set(names)
    missing = {name for name in wanted if not thumbnail_path(out, name).is_file()}
    if missing and store is not None:
        for group in sources:
            items: Sequence[ClipRecord | SpanRecord] = (*group.clips, *(span for _, span in group.spans()))
            lost = [item for item in items if item.thumbnail in missing]
            if lost:
                _remake(out, lost, group.first.sha256, Store(store), max_side)
    gone = {name for name in missing if not thumbnail_path(out, name).is_file() and not (out / FOLDER / name).is_file()}
    return sorted(wanted - gone)


def _remake(out: Path, items: Sequence[ClipRecord | SpanRecord], source_id: str, store: Store, max_side: int) -> None:
    stage: Any = Thumbnails()
    timeline = load_timelines(store, source_id, [stage], max_side).get(stage.name)
    for item in items if timeline is not None else ():
        data = thumbnail_at(timeline, item.start_s, item.end_s) if timeline is not None else b""
        if data:
            with atomic_write(thumbnail_path(out, item.thumbnail)) as temporary:
                temporary.write_bytes(data)


def show(out: Path, names: Iterable[str]) -> None:
    """Put pictures into ``thumbnails``; what the working folder lacks stays as it is there."""
    for name in names:
        target = out / FOLDER / name
        try:
            data = thumbnail_path(out, name).read_bytes()
        except FileNotFoundError:
            continue
        if not target.is_file() or target.read_bytes() != data:
            with atomic_write(target) as temporary:
                temporary.write_bytes(data)
