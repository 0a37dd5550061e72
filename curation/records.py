"""What a curation knows of its sources while it runs, in ``DATASET/.work``.

``index.sqlite`` lists the sources of the run (wanted) and remembers of every file looked at its size, time stamp, hash
and outcome (seen). It is a cache: without it files are hashed again. Sorting and joining happen in the database, so
that memory does not grow with the number of sources.

``records/<2 digits>/<source hash>.json`` is the record of one source: its clips and its rejected spans. It depends on
the source's bytes and on the settings only, never on its name, and is written last, when every clip of it is there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from macebench.curation.sources import Source
from macebench.errors import UserError
from macebench.store import write_text

WORK = ".work"
CLIP_NAME = re.compile(r"([0-9a-f]{12}-[0-9]{8,})(\.[0-9a-f]{12})?\.mp4")
"""Name of a clip's file: its id, and 12 digits of its hash for a stand-in."""
_SCHEMA = """
create table if not exists wanted
  (key blob primary key, name text not null, facts text not null, refused text not null, size integer);
create index if not exists by_name on wanted (name, key);
create table if not exists seen
  (key blob primary key, size integer, mtime_ns integer, sha text not null, stage text not null, reason text not null,
   costs text not null);
create table if not exists state (name text primary key, value text not null);
"""
_BATCH = 5000
_DISK = "Free some space, or choose another place; what was finished before is kept."


@dataclass(frozen=True)
class ClipRecord:
    """One clip of a source.

    Attributes:
        start_s, end_s: The span of the source that was asked for; the clip's id comes from it.
        cut_start_s, cut_end_s: What the clip is: from the timestamp of its first picture on.
        sound_share: Share of the clip in which the source has sound.
        n_frames, fps, width, height: Of the clip.
        audio_sr: Samples a second of its sound; 0 without sound.
        sha256: Of the clip file.
        size: Bytes of the clip file.
        encode_hash: What it was encoded with.
        scores: ``stage.score`` -> value.
        thumbnail: Name of its picture in ``.work/thumbnails``; may be empty.
    """

    start_s: float
    end_s: float
    cut_start_s: float
    cut_end_s: float
    sound_share: float
    n_frames: int
    fps: float
    width: int
    height: int
    audio_sr: int
    sha256: str
    size: int
    encode_hash: str
    scores: Mapping[str, float] = field(default_factory=dict)
    thumbnail: str = ""


@dataclass(frozen=True)
class SpanRecord:
    """One rejected span of a source; `end_s` is NaN when its length is not known."""

    start_s: float
    end_s: float
    stage: str
    reason: str
    value: float = math.nan
    threshold: float = math.nan
    scores: Mapping[str, float] = field(default_factory=dict)
    thumbnail: str = ""


@dataclass(frozen=True)
class SourceRecord:
    """All that came out of one source.

    Attributes:
        source_id: SHA-256 of the file.
        clips_hash: Settings that decided.
        duration_s: Of the source; NaN when it cannot be read.
        clips: In the order of time.
        rejected: In the order of time.
        early: Decoding was ended before the end of the source.
    """

    source_id: str
    clips_hash: str
    duration_s: float
    clips: tuple[ClipRecord, ...]
    rejected: tuple[SpanRecord, ...]
    early: bool = False


def clip_id(source_id: str, start_s: float) -> str:
    """Name of a clip: the first 12 digits of the source's hash, and its start in milliseconds."""
    return f"{source_id[:12]}-{round(start_s * 1000):08d}"


def record_path(out: Path, source_id: str) -> Path:
    """Where a source's record is."""
    return out / WORK / "records" / source_id[:2] / f"{source_id}.json"


def part_path(out: Path, name: str) -> Path:
    """Where a new clip lies until its split is known."""
    return out / WORK / "clips" / name[:2] / f"{name}.mp4"


def clip_files(out: Path, name: str) -> list[Path]:
    """A clip's files in the splits, stand-ins included (`macebench.curation.placing`)."""
    found = [path for path in (out / "clips").glob(f"*/{name}*.mp4") if CLIP_NAME.fullmatch(path.name)]
    return sorted(path for path in found if path.name.partition(".")[0] == name)


def thumbnail_path(out: Path, name: str) -> Path:
    """Where a thumbnail lies until it is known whether it is shown."""
    return out / WORK / "thumbnails" / name[:2] / name


def write_record(out: Path, record: SourceRecord) -> None:
    """Write a record atomically; equal records give equal bytes."""
    text = json.dumps(_without_nan(asdict(record)), sort_keys=True, separators=(",", ":"), allow_nan=False)
    write_text(record_path(out, record.source_id), text + "\n")


def read_record(out: Path, source_id: str) -> SourceRecord | None:
    """The record of a source; None when there is none or it is damaged."""
    try:
        values = json.loads(record_path(out, source_id).read_text("utf-8"))
        clips = tuple(ClipRecord(**(item | {"scores": _with_nan(item["scores"])})) for item in values["clips"])
        spans = tuple(_span(item) for item in values["rejected"])
        duration = math.nan if values["duration_s"] is None else float(values["duration_s"])
        return SourceRecord(values["source_id"], values["clips_hash"], duration, clips, spans, values["early"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _span(item: dict[str, Any]) -> SpanRecord:
    numbers = {k: math.nan if item[k] is None else float(item[k]) for k in ("end_s", "value", "threshold")}
    return SpanRecord(**(item | numbers | {"scores": _with_nan(item["scores"])}))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in scores.items()}


@dataclass(frozen=True)
class Wanted:
    """A source of this run, and what is remembered of it.

    Attributes:
        key: Bytes of its absolute path.
        name: Its name.
        refused: Why it must not be opened; empty when it may.
        facts: What a table says of it.
        size, mtime_ns, sha256: As it was last seen; 0 and empty when it never was.
    """

    key: bytes
    name: str
    refused: str
    facts: Mapping[str, str]
    size: int
    mtime_ns: int
    sha256: str

    @property
    def path(self) -> Path:
        """The file."""
        return Path(os.fsdecode(self.key))


@dataclass(frozen=True)
class Seen:
    """What became of a source.

    Attributes:
        key: Bytes of its absolute path.
        size, mtime_ns: Of the file.
        sha256: Of the file; empty when it could not be read.
        stage, reason: Why there is no record of it; empty when there is one.
        costs: Measured seconds and amounts by name.
    """

    key: bytes
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    stage: str = ""
    reason: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A source and what became of it, for the tables."""

    name: str
    facts: Mapping[str, str]
    sha256: str
    stage: str
    reason: str


class Index:
    """The database. One process uses it.

    Args:
        path: The file; None for one that is gone with the object.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        try:
            self._base = self._open()
        except sqlite3.DatabaseError as error:
            if path is None or isinstance(error, sqlite3.OperationalError):
                raise _problem(path, error) from error
            path.unlink(missing_ok=True)
            self._base = self._open()

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        base = sqlite3.connect(str(self._path) if self._path is not None else "", isolation_level=None)
        try:
            base.executescript(f"pragma synchronous = normal; pragma temp_store = file;{_SCHEMA}")
        except sqlite3.DatabaseError:
            base.close()
            raise
        return base

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._base.execute("begin")
            yield self._base
            self._base.execute("commit")
        except sqlite3.Error as error:
            raise _problem(self._path, error) from error
        finally:
            if self._base.in_transaction:
                self._base.execute("rollback")

    def plan(self, sources: Iterable[Source], limit: int | None = None) -> None:
        """Make these the sources of the run; with `limit` the first so many in the order of their names."""
        with self._writing() as base:
            base.execute("delete from wanted")
            rows: list[tuple[Any, ...]] = []
            for source in sources:
                rows.append(_wanted_row(source))
                if len(rows) >= _BATCH:
                    _insert(base, rows)
                    rows.clear()
            _insert(base, rows)
            if limit is not None:
                kept = "select key from wanted order by name, key limit ?"
                base.execute(f"delete from wanted where key not in ({kept})", (limit,))  # noqa: S608 - no input in it

    def counts(self) -> tuple[int, int]:
        """Number of sources of the run, and their bytes as far as they are known."""
        row = self._base.execute("select count(*), coalesce(sum(size), 0) from wanted").fetchone()
        return int(row[0]), int(row[1])

    def chunks(self, size: int) -> Iterator[list[Wanted]]:
        """The sources of the run in the order of their names, so many at a time."""
        last: tuple[str, bytes] = ("", b"")
        query = (
            "select w.key, w.name, w.refused, w.facts, s.size, s.mtime_ns, s.sha "
            "from wanted w left join seen s using (key) where (w.name, w.key) > (?, ?) order by w.name, w.key limit ?"
        )
        while rows := self._base.execute(query, (*last, size)).fetchall():
            last = rows[-1][1], rows[-1][0]
            yield [_wanted(row) for row in rows]

    def remember(self, seen: Iterable[Seen]) -> None:
        """Note what became of sources."""
        rows = [
            (item.key, item.size, item.mtime_ns, item.sha256, item.stage, item.reason, json.dumps(dict(item.costs)))
            for item in seen
        ]
        with self._writing() as base:
            base.executemany("insert or replace into seen values (?, ?, ?, ?, ?, ?, ?)", rows)

    def outcomes(self) -> Iterator[Outcome]:
        """Every source of the run by hash and name; of equal files the one with the smallest name comes first."""
        query = (
            "select w.name, w.facts, s.sha, s.stage, s.reason from wanted w join seen s using (key) "
            "order by s.sha, w.name, w.key"
        )
        for name, facts, sha, stage, reason in self._base.execute(query):
            yield Outcome(name, _facts(facts), sha, stage, reason)

    def places(self) -> Iterator[tuple[str, str]]:
        """Hash and absolute path of every file that was ever read, wanted or not."""
        for sha256, key in self._base.execute("select sha, key from seen where sha != ''"):
            yield sha256, os.fsdecode(key)

    def costs(self) -> Iterator[Mapping[str, float]]:
        """What was measured of sources that were worked on, wanted or not."""
        for (text,) in self._base.execute("select costs from seen where costs != '{}'"):
            yield json.loads(text)

    def get_state(self, name: str) -> str:
        """A value kept between runs; empty when there is none."""
        row = self._base.execute("select value from state where name = ?", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def set_state(self, name: str, value: str) -> None:
        """Keep a value."""
        with self._writing() as base:
            base.execute("insert or replace into state values (?, ?)", (name, value))


def _wanted(row: tuple[Any, ...]) -> Wanted:
    key, name, refused, facts, size, mtime_ns, sha256 = row
    return Wanted(key, name, refused, _facts(facts), size or 0, mtime_ns or 0, sha256 or "")


def _facts(text: str) -> dict[str, str]:
    return dict(json.loads(text)) if text else {}


def _wanted_row(source: Source) -> tuple[Any, ...]:
    key = os.fsencode(os.path.abspath(source.path))
    try:
        size = os.stat(key).st_size
    except (OSError, ValueError):
        size = 0
    return key, source.name, source.facts_json, source.refused, size


def _insert(base: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    base.executemany(
        "insert into wanted values (?, ?, ?, ?, ?) on conflict (key) do update set name = excluded.name, "
        "facts = excluded.facts where (excluded.name, excluded.facts) < (name, facts)",
        rows,
    )


def _problem(path: Path | None, error: sqlite3.Error) -> UserError:
    return UserError(f"{path or 'the temporary index'} cannot be used: {error}.", hint=_DISK)
