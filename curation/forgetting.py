"""What is kept so that what opted out stays out, and what is removed of it.

A clip that is on an opt-out list by its own hash or id would come back with other settings: with another encoding its
file has another hash, with other windows another start. So ``optout-spans.json`` in the data set says which span of
which source such an entry means. It names nobody: entry and source are written as `macebench.optout.mark`. A span
holds as long as its entry is on a list of the data set, and keeps out every clip of the source that shares more than a
picture or two with it.

Of a source that opted out nothing stays in the working folder (record, clips, thumbnails), nor in the store. Of a
source with single clips that opted out, their pictures go, and the store's pictures of the source.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from macebench.curation.observe import Thumbnails
from macebench.curation.records import (
    CLIP_NAME,
    WORK,
    Index,
    clip_files,
    clip_id,
    part_path,
    read_record,
    record_path,
    thumbnail_path,
)
from macebench.errors import UserError
from macebench.optout import OptOut, mark, salted
from macebench.store import Store, write_text

if TYPE_CHECKING:
    from macebench.curation.outcomes import Outcomes

SPANS_FILE = "optout-spans.json"
_SCHEMA, _VERSION = "macebench-optout-spans", 1
_PICTURES = f"curate-{Thumbnails.name}"
_EDGE_PICTURES = 2.5
_STATE = "forgotten"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class Span:
    """A span of a source that opted out.

    Attributes:
        source: `mark` of the source's SHA-256.
        start_s, end_s: The span.
        entry: `mark` of the entry of a list that says so.
    """

    source: str
    start_s: float
    end_s: float
    entry: str


@dataclass(frozen=True)
class Spans:
    """Spans by the mark of their source."""

    by_source: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)

    def hit(self, source_id: str, start_s: float, end_s: float, fps: float) -> tuple[Span, ...]:
        """The spans that a clip shares more than two pictures with."""
        if not self.by_source:
            return ()
        least = _EDGE_PICTURES / fps if fps > 0 else 0.0
        found = self.by_source.get(mark(source_id), ())
        return tuple(span for span in found if min(end_s, span.end_s) - max(start_s, span.start_s) > least)


def grouped(spans: Iterable[Span]) -> Spans:
    """Spans to look up."""
    found: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(set(spans)):
        found[span.source].append(span)
    return Spans({source: tuple(items) for source, items in found.items()})


def read_spans(folder: Path) -> list[Span]:
    """All spans that a data set notes; empty when it notes none.

    Raises:
        UserError: the file is damaged. Passing over it could bring back what opted out.
    """
    path = Path(folder) / SPANS_FILE
    if not path.is_file():
        return []
    try:
        values = json.loads(path.read_text("utf-8"))
        spans = [
            Span(str(item["source"]), float(item["start_s"]), float(item["end_s"]), str(item["entry"]))
            for item in values["spans"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "Put back a copy of it; it says which spans of which sources opted out."
        raise UserError(f"{path} cannot be read: {type(error).__name__}.", hint=hint) from error
    return spans


def write_spans(folder: Path, spans: Iterable[Span]) -> None:
    """Note spans; without any there is no file."""
    path, ordered = Path(folder) / SPANS_FILE, sorted(set(spans))
    if not ordered:
        path.unlink(missing_ok=True)
        return
    values = {"schema": _SCHEMA, "version": _VERSION, "spans": [asdict(span) for span in ordered]}
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    if not path.is_file() or path.read_text("utf-8") != text:
        write_text(path, text)


def in_force(spans: Iterable[Span], lists: Sequence[OptOut]) -> list[Span]:
    """The spans whose entries are on a list."""
    marks = {mark(digest) for one in lists for digest in one.digests}
    return [span for span in spans if span.entry in marks]


def clip_entries(lists: Iterable[OptOut], sha256: str, name: str) -> list[str]:
    """Entries of lists that name one clip, by its hash or its salted id."""
    found = []
    for one in lists:
        names = [sha256.lower(), *([salted(name, one.salt)] if one.salt and name else [])]
        found += [digest for digest in names if digest in one.digests]
    return found


def spans_of(
    lists: Iterable[OptOut], source_id: str, sha256: str, name: str, start_s: float, end_s: float
) -> set[Span]:
    """What is to be noted of a clip that a list names; nothing when the source is not known."""
    if not source_id:
        return set()
    return {Span(mark(source_id), start_s, end_s, mark(entry)) for entry in clip_entries(lists, sha256, name)}


def files_of_source(folder: Path, source: str) -> list[Path]:
    """Record, new clips and thumbnails of a source, not its clips in the tables; empty for what is no SHA-256."""
    if not _DIGEST.fullmatch(source):
        return []
    places = (f"{WORK}/thumbnails/{source[:2]}", f"{WORK}/clips/{source[:2]}", "thumbnails")
    found = [path for place in places for path in sorted((folder / place).glob(f"{source[:12]}-*"))]
    return [*found, record_path(folder, source)]


def files_of_clip(folder: Path, name: str) -> list[Path]:
    """What the working folder has of a clip, and its files in the splits; empty for a name that is not curation's."""
    if not CLIP_NAME.fullmatch(f"{name}.mp4"):
        return []
    work = [thumbnail_path(folder, f"{name}.jpg"), part_path(folder, name)]
    return work + clip_files(folder, name)


def forget(out: Path, index: Index, sources: Outcomes) -> None:
    """Remove what the working folder and the store hold of what opted out. The tables come first.

    Args:
        out: Folder of the data set.
        index: Its index, which knows the store.
        sources: What became of the sources.
    """
    whole: set[str] = set()
    partly: set[str] = set()
    for group in sources:
        if group.is_opted_out:
            record = read_record(out, group.first.sha256)
            whole |= {group.first.sha256, *(clip.sha256 for clip in (record.clips if record else ()))}
        elif group.opted_out:
            partly.add(group.first.sha256)
        for clip in group.opted_out:
            whole.add(clip.sha256)
            for path in files_of_clip(out, clip_id(group.first.sha256, clip.start_s)):
                path.unlink(missing_ok=True)
    for source in whole:
        for path in files_of_source(out, source):
            path.unlink(missing_ok=True)
    store = index.get_state("store")
    done = hashlib.sha256(" ".join((store, *sorted(whole))).encode()).hexdigest() if whole else ""
    if partly or index.get_state(_STATE) != done:
        remove_stored(Path(store) if store else None, whole, partly)
        index.set_state(_STATE, done)


def remove_stored(store: Path | None, sources: Iterable[str], partly: Iterable[str] = ()) -> int:
    """Remove what a store holds of inputs.

    Args:
        store: Folder of the store; None when it is not known.
        sources: Hashes of files of which nothing may stay.
        partly: Hashes of sources of which only the pictures go.

    Returns:
        Number of entries removed.
    """
    if store is None or not store.is_dir():
        return 0
    whole = Store(store)
    removed = whole.forget(set(sources))
    return removed + whole.forget(set(partly), _PICTURES)


def store_of(folder: Path) -> Path | None:
    """The store that the last curation of a data set used; None when it is not known."""
    path = Path(folder) / WORK / "index.sqlite"
    if not path.is_file():
        return None
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as base:
        row = base.execute("select value from state where name = 'store'").fetchone()
        return Path(row[0]) if row and row[0] else None
    return None
