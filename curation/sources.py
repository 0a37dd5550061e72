"""Which files are curated: folders, list files and tables of paths.

- A folder: every video below it, found by suffix. Hidden files and folders are passed over; links to folders are not
  followed. A file that is a link out of the folder is listed and refused later, with a row in the ledger. Data sets
  made by curate are passed over, so that no clip is cut into clips again: the one that is being made, whether it has
  anything in it or not, and folders below the given one with ``.work`` and a ``dataset.json`` of ours.
- A video file.
- A list file (``.txt`` or ``.list``): one path a line; blank lines and lines that begin with ``#`` are passed over.
- A table (``.parquet``) with a column ``path`` and, where known, `FACTS`, which go to the clips' rows. A row with text
  in the column ``refused`` is not opened; the text is the reason in the ledger.

What is there and no regular file (a device, a pipe, a folder) is refused, because reading it may never end.

Paths in lists and tables are relative to their own folder. Everything is a generator: a million sources need no more
memory than ten.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from macebench.errors import UserError
from macebench.media.files import VIDEO_SUFFIXES

LIST_SUFFIXES = (".txt", ".list")
TABLE_SUFFIXES = (".parquet",)
FACTS = (
    "genre", "genre_raw", "style", "title", "music", "performer", "recording", "split", "source", "licence", "consent",
    "pairing",
)  # fmt: skip
"""What a table may say of a source: text columns."""
REFUSED = "refused"
NOT_REGULAR = "no regular file"
_BATCH = 4096
_HINT = "Give a folder of videos, a video, a .txt file with one path a line, or a .parquet table with a column path."


@dataclass(frozen=True)
class Source:
    """One source file.

    Attributes:
        path: Where it is.
        name: For people and for the order: the path below the folder that was given, or as the list has it. Always
            text that can be encoded; bytes of a file name that are no UTF-8 are written as escapes.
        facts: What the table says of it: names of `FACTS`.
        refused: Why it must not be opened; empty when it may.
    """

    path: Path
    name: str
    facts: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""

    @property
    def facts_json(self) -> str:
        """The facts as one line of text."""
        return json.dumps(dict(self.facts), sort_keys=True) if self.facts else ""


def iter_sources(
    specs: Iterable[str | Path], out: Path | None = None, passed: Callable[[Path], None] | None = None
) -> Iterator[Source]:
    """Every source of every folder, file, list and table, in no certain order.

    Args:
        specs: Folders, videos, lists and tables.
        out: Folder of the data set that is being made; videos in it are no sources.
        passed: Called with every folder or video that is passed over because it belongs to a data set.

    Raises:
        UserError: one of `specs` does not exist or is none of these; a table lacks its column.
    """
    made, note = None if out is None else Path(out).resolve(), passed or _ignore
    for spec in specs:
        path = Path(spec)
        suffix = path.suffix.lower()
        if made is not None and (path.is_dir() or suffix in VIDEO_SUFFIXES) and path.resolve().is_relative_to(made):
            note(path)
        elif path.is_dir():
            yield from _from_folder(path, made, note)
        elif not path.is_file():
            raise UserError(f"source {spec} {_what_it_is(path)}.", hint=_HINT)
        elif suffix in VIDEO_SUFFIXES:
            yield Source(path, shown(path.name))
        elif suffix in LIST_SUFFIXES:
            yield from _from_list(path)
        elif suffix in TABLE_SUFFIXES:
            yield from _from_table(path)
        else:
            raise UserError(f"source {spec} is no video, list or table.", hint=_HINT)


def _ignore(path: Path) -> None:
    pass


def _what_it_is(path: Path) -> str:
    return f"is {NOT_REGULAR}" if path.exists() else "does not exist"


def check_sources(specs: Iterable[str | Path], out: Path | None = None) -> None:
    """Refuse sources among which there is not one file, before anything is made of them.

    Raises:
        UserError: as `iter_sources`, or no source at all.
    """
    specs = tuple(specs)
    passed: list[Path] = []
    if next(iter_sources(specs, out, passed.append), None) is None:
        names = ", ".join(map(str, specs))
        suffixes = " ".join(sorted(VIDEO_SUFFIXES))
        left = f" {', '.join(map(str, passed))} was passed over: what is in a data set is no source." if passed else ""
        raise UserError(
            f"{names} holds no source." if len(specs) == 1 else f"{names} hold no source.",
            hint=f"A source is a video ({suffixes}) in a folder or below it. {_HINT}{left}",
        )


def shown(name: str | Path) -> str:
    """A file name as text that can be encoded, with forward slashes."""
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace").replace(os.sep, "/")


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a data set made by curate: it has ``.work`` and a ``dataset.json`` of our schema."""
    from macebench.curation.dataset import DATASET_FILE, SCHEMA
    from macebench.curation.records import WORK

    path = folder / DATASET_FILE
    if not (folder / WORK).is_dir() or not path.is_file():
        return False
    try:
        summary = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(summary, dict) and summary.get("schema") == SCHEMA


def _from_folder(root: Path, made: Path | None, passed: Callable[[Path], None]) -> Iterator[Source]:
    inside, waiting = root.resolve(), [root]
    while waiting:
        place = waiting.pop()
        try:
            entries = os.scandir(place)
        except OSError as error:
            raise UserError(f"{place} cannot be read: {error.strerror}.", hint="Check the folder's rights.") from error
        with entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    ours = inside / path.relative_to(root) == made or is_dataset(path)
                    (passed if ours else waiting.append)(path)
                elif path.suffix.lower() in VIDEO_SUFFIXES:
                    yield _found(path, root, inside, entry.is_symlink())


def _found(path: Path, root: Path, inside: Path, is_link: bool) -> Source:
    leaves = is_link and not path.resolve().is_relative_to(inside)
    return Source(path, shown(path.relative_to(root)), refused="link leaves the folder" if leaves else _odd(path))


def _odd(path: Path) -> str:
    """Why a path that is there must not be opened; empty for a regular file and for what is not there."""
    try:
        return "" if stat.S_ISREG(os.stat(path).st_mode) else NOT_REGULAR
    except (OSError, ValueError):
        return ""


def _from_list(path: Path) -> Iterator[Source]:
    with path.open("rb") as lines:
        for line in lines:
            name = os.fsdecode(line.strip(b"\r\n"))
            if name.strip() and not name.startswith("#"):
                yield Source(path.parent / name, shown(name), refused=_odd(path.parent / name))


def _from_table(path: Path) -> Iterator[Source]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no Parquet file: {error}.", hint=_HINT) from error
    with table:
        columns = table.schema_arrow.names
        if "path" not in columns:
            raise UserError(f"{path} has no column path, only {', '.join(columns)}.", hint=_HINT)
        wanted = ["path", *(name for name in (REFUSED, *FACTS) if name in columns)]
        for batch in table.iter_batches(_BATCH, columns=wanted):
            for row in batch.to_pylist():
                yield _from_row(path, row)


def _from_row(table: Path, row: Mapping[str, Any]) -> Source:
    name = row["path"]
    if not isinstance(name, str) or not name:
        raise UserError(f"{table} has a row whose path is {name!r}.", hint="The column path holds text.")
    facts = {key: str(row[key]) for key in FACTS if row.get(key) not in (None, "")}
    path = table.parent / name
    return Source(path, shown(name), facts, str(row.get(REFUSED) or "") or _odd(path))
