"""Taking clips that are on the opt-out list (`macebench.optout`) out of a data set.

`apply_optout` puts a list into the data set's ``optout.txt``, removes files, then rewrites the tables. The list is
written first and ``metadata.parquet`` last: a run that is killed in between is finished by the next one, and until then
the loader already leaves the clips out. Of a clip that a list names, the span of its source is noted, so that no clip
that overlaps it stays or comes back (`macebench.curation.forgetting`). What the store of the last curation holds of the
clips and their sources is removed, too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from macebench.clips import METADATA_FILE, inside
from macebench.curation._manifest import read_manifest
from macebench.curation.forgetting import (
    Span,
    files_of_clip,
    files_of_source,
    grouped,
    in_force,
    read_spans,
    remove_stored,
    spans_of,
    store_of,
    write_spans,
)
from macebench.curation.records import record_path
from macebench.curation.videofolder import CLIPS, write_split_tables
from macebench.errors import UserError
from macebench.optout import HASH_COLUMNS, ID_COLUMNS, OPTOUT_FILE, OptOut, dataset_optout, load_optout, mark, salted
from macebench.store import atomic_write, write_text

SCHEMA, LEDGER_FILE = "macebench-dataset", "ledger.parquet"
STAGE, REASON = "optout", "opted out"
_FILE_COLUMNS = ("file_name", "motion_file_name")
_SIDE_FOLDERS = ("motions", "music")
_PAGES = ("summary.html", "audit.html", "audit.json", "audit.png")

__all__ = [
    "OPTOUT_FILE", "OptOut", "OptOutResult", "apply_optout", "dataset_hash", "dataset_optout", "find_optout",
    "load_optout", "mark", "salted",
]  # fmt: skip


@dataclass(frozen=True)
class OptOutResult:
    """What a list means for a data set.

    Attributes:
        clips: Ids of the clips that are hit, sorted.
        removed_files: Files removed; 0 when the list was not applied.
        kept_clips: Clips that stay.
        removed_pages: Names of the removed pages and reports about the data set, which showed the clips.
    """

    clips: tuple[str, ...]
    removed_files: int
    kept_clips: int
    removed_pages: tuple[str, ...] = ()


def find_optout(dataset: Path, optout: OptOut) -> list[dict[str, Any]]:
    """Rows of ``metadata.parquet`` that are hit.

    Raises:
        UserError: it is no data set.
    """
    return [row for row in _rows(Path(dataset)) if optout.names_row(row)]


def apply_optout(dataset: Path, listing: Path, *, apply: bool = True) -> OptOutResult:
    """Take what a list names out of a data set: files, rows, thumbnails and what curation kept of it.

    The ledger gets a row "opted out" for each clip, without name, place or picture. Pages with pictures of the data set
    are removed; ``macebench curate`` and ``macebench data audit`` write them again.

    Args:
        dataset: Folder with ``metadata.parquet``.
        listing: The list.
        apply: False only looks.

    Raises:
        UserError: wrong list, no data set, a path in it leaves the folder, or the disk is full.
    """
    folder, new = Path(dataset), load_optout(listing)
    old = dataset_optout(folder)
    rows = _rows(folder)
    spans, hit = _found(folder, rows, (new, old))
    names = tuple(sorted(str(row["clip_id"]) for row in hit))
    if not apply:
        return OptOutResult(names, 0, len(rows) - len(hit))
    files = [path for row in hit for path in _files_of(folder, row)]
    _write_list(folder, listing, old, new)
    write_spans(folder, spans)
    sources = _gone_sources(rows, hit, new, old)
    _forget_stored(folder, hit, sources)
    removed = sum(_remove(path) for path in [*files, *_curation_files(folder, sources)])
    _rewrite_ledger(folder, hit, sources)
    pages: tuple[str, ...] = ()
    if hit:
        pages = tuple(name for name in _PAGES if _remove(folder / name))
        _rewrite_tables(folder, set(names))
    _rewrite_split_tables(folder)
    return OptOutResult(names, removed + len(pages), len(rows) - len(hit), pages)


def _found(folder: Path, rows: Sequence[dict[str, Any]], lists: Sequence[OptOut]) -> tuple[set[Span], list[Any]]:
    """All spans to note, and the rows that lists name or that overlap such a span."""
    spans, hit = set(read_spans(folder)), []
    named = [any(one.names_row(row) for one in lists) for row in rows]
    for row in (row for row, found in zip(rows, named, strict=True) if found):
        source, start_s, end_s = _place_of(row)
        spans |= spans_of(lists, source, str(row.get("sha256") or ""), str(row["clip_id"]), start_s, end_s)
    held = grouped(in_force(spans, lists))
    for row, found in zip(rows, named, strict=True):
        if found or held.hit(*_place_of(row), float(row.get("fps") or 0.0)):
            hit.append(row)
    return spans, hit


def _place_of(row: Mapping[str, Any]) -> tuple[str, float, float]:
    """Source and span of a row; no source where the table does not say."""
    if row.get("start_s") is None or row.get("end_s") is None:
        return "", 0.0, 0.0
    return str(row.get("source_id") or ""), float(row["start_s"]), float(row["end_s"])


def _forget_stored(folder: Path, hit: Sequence[Mapping[str, Any]], sources: set[str]) -> None:
    """Remove what the store holds of gone sources and of the clips, and the pictures of sources that stay in part."""
    clips = {str(row.get("sha256") or "") for row in hit}
    remove_stored(store_of(folder), sources | clips, {str(row.get("source_id") or "") for row in hit})


def _rows(folder: Path) -> list[dict[str, Any]]:
    path, table = folder / METADATA_FILE, read_manifest(folder)
    known = {*ID_COLUMNS, *HASH_COLUMNS, *_FILE_COLUMNS, "split", "start_s", "end_s", "fps"}
    wanted = [name for name in table.column_names if name in known]
    if "clip_id" not in wanted or "file_name" not in wanted:
        raise UserError(f"{path} lacks clip_id or file_name.", hint="Name a data set made by macebench.")
    return list(table.select(wanted).to_pylist())


def _files_of(folder: Path, row: Mapping[str, Any]) -> list[Path]:
    """Every file of one clip that may be there."""
    name = str(row["clip_id"])
    paths = [inside(folder, str(row[column])) for column in _FILE_COLUMNS if row.get(column)]
    for side in _SIDE_FOLDERS:
        place = inside(folder, f"{side}/{name}")
        if place.parent.is_dir():
            paths += [path for path in sorted(place.parent.iterdir()) if path.stem == place.name and path.is_file()]
    paths += files_of_clip(folder, inside(folder, name).name)
    thumbnails = folder / "thumbnails"
    if thumbnails.is_dir():
        paths += [path for path in sorted(thumbnails.iterdir()) if path.stem == name and path.is_file()]
    paths.append(inside(folder, f".parts/{name}.json"))
    return paths


def _write_list(folder: Path, listing: Path, old: OptOut, new: OptOut) -> None:
    """Put a list into the data set's own.

    Raises:
        UserError: both have a salt, and not the same.
    """
    if old.salt and new.salt and old.salt != new.salt:
        raise UserError(
            f"{listing} has another salt than {folder / OPTOUT_FILE}.", hint="One salt belongs to one data set."
        )
    salt = new.salt or old.salt
    lines = ["# Opt-out list of this data set; see macebench data optout."]
    lines += [f"salt {salt}"] if salt else []
    write_text(folder / OPTOUT_FILE, "\n".join([*lines, *sorted(old.digests | new.digests)]) + "\n")


def _gone_sources(rows: Sequence[Mapping[str, Any]], hit: Sequence[Mapping[str, Any]], *lists: OptOut) -> set[str]:
    """Source ids that are named by a list, or of which no clip is left."""
    named = {digest for one in lists for digest in one.digests}
    ours = {str(row.get("source_id") or "") for row in hit}
    hit_ids = {row["clip_id"] for row in hit}
    left = {str(row.get("source_id") or "") for row in rows if row["clip_id"] not in hit_ids}
    return ((ours - left) | named) - {""}


def _curation_files(folder: Path, sources: Iterable[str]) -> list[Path]:
    """Records and thumbnails that curation keeps of sources, in ``.work`` and ``thumbnails``."""
    found = []
    for source in sorted(sources):
        files = files_of_source(folder, source)
        try:
            values = json.loads(record_path(folder, source).read_text("utf-8")) if files else {}
        except (OSError, ValueError):
            values = {}
        for item in [*values.get("clips", []), *values.get("rejected", [])]:
            name = str(item.get("thumbnail") or "")
            if name and "/" not in name and not name.startswith("."):
                found += [folder / "thumbnails" / name, folder / ".work" / "thumbnails" / name[:2] / name]
        found += files
    return list(dict.fromkeys(found))


def _remove(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return 0
    try:
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise UserError(f"{path} cannot be removed: {error.strerror}.", hint="Check the folder's rights.") from error
    return 1


def _rewrite_ledger(folder: Path, hit: Sequence[Mapping[str, Any]], sources: set[str]) -> None:
    """Take the rows of gone sources out of the ledger and add one row a clip that says no more than the reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / LEDGER_FILE
    if path.is_file():
        table = pq.read_table(path)
        kept = [row for row in table.to_pylist() if str(row.get("source_id") or "") not in sources]
        schema = table.schema
    else:
        kept, schema = [], pa.schema([("source_id", pa.string()), ("stage", pa.string()), ("reason", pa.string())])
    marks = sorted(mark(str(row.get("sha256") or row["clip_id"])) for row in hit)
    known = {str(row.get("source_id")) for row in kept}
    empty = {item.name: "" if pa.types.is_string(item.type) or pa.types.is_large_string(item.type) else None
             for item in schema}  # fmt: skip
    added = [empty | {"source_id": mark, "stage": STAGE, "reason": REASON} for mark in marks if mark not in known]
    if not added and path.is_file() and len(kept) == table.num_rows:
        return
    _write_parquet(path, pa.Table.from_pylist([*kept, *added], schema=schema))


def _rewrite_tables(folder: Path, gone: set[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / METADATA_FILE
    table = pq.read_table(path)
    stays = [str(name) not in gone for name in table["clip_id"].to_pylist()]
    left = table.filter(pa.array(stays))
    summary = _rewrite_summary(folder, left)
    _rewrite_sheet(folder, summary, table.column_names)
    for old in sorted((folder / CLIPS).glob(f"*/{METADATA_FILE}")):
        old.unlink()
    _write_parquet(path, left)


def _rewrite_split_tables(folder: Path) -> None:
    """The tables of the splits of a curated data set, when one of them is not there."""
    if _summary_of(folder).get("schema") != SCHEMA:
        return
    splits = {str(row.get("split")) for row in _rows(folder)}
    if not all((folder / CLIPS / split / METADATA_FILE).is_file() for split in splits):
        write_split_tables(folder / METADATA_FILE, folder)


def _rewrite_sheet(folder: Path, summary: Mapping[str, Any], columns: Sequence[str]) -> None:
    """The data sheet of a curated data set, with the counts of what is left."""
    from macebench.curation._datasheet import datasheet
    from macebench.curation.dataset import DATASHEET_FILE, LEDGER, METADATA

    if summary.get("schema") != SCHEMA or not (folder / DATASHEET_FILE).is_file():
        return
    scores = [name for name in columns if name not in METADATA]
    try:
        text = datasheet(summary, METADATA, LEDGER, scores)
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / 'dataset.json'} lacks {error}.", hint="Run `macebench curate` again.") from error
    write_text(folder / DATASHEET_FILE, text)


def _summary_of(folder: Path) -> dict[str, Any]:
    """The content of ``dataset.json``; nothing when there is none."""
    try:
        summary = json.loads((folder / "dataset.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _rewrite_summary(folder: Path, table: Any) -> Mapping[str, Any]:
    """Counts and hash in ``dataset.json``; the hash is the one of `macebench.curation.dataset` or of the demo.

    The new content comes back; nothing when there is none.
    """
    path, summary = folder / "dataset.json", _summary_of(folder)
    if not summary:
        return {}
    rows = table.select([name for name in ("clip_id", "split", "sha256") if name in table.column_names]).to_pylist()
    summary["n_clips"] = len(rows)
    if "split" in table.column_names:
        summary["splits"] = dict(sorted(Counter(str(row["split"]) for row in rows).items()))
    if "sha256" in table.column_names and "split" in table.column_names:
        summary["hash"] = dataset_hash(rows, demo=summary.get("name") == "demo")
    if {"start_s", "end_s"} <= set(table.column_names) and "clip_seconds" in summary:
        times = zip(table["start_s"].to_pylist(), table["end_s"].to_pylist(), strict=True)
        summary["clip_seconds"] = round(sum(end - start for start, end in times), 3)
    write_text(path, json.dumps(summary, indent=2, sort_keys=True) + "\n")
    return summary


def dataset_hash(rows: Sequence[Mapping[str, Any]], *, demo: bool) -> str:
    """The hash that ``dataset.json`` states: of clips in the table's order, or of the sorted hashes (demo)."""
    if demo:
        return hashlib.sha256("\n".join(sorted(str(row["sha256"]) for row in rows)).encode()).hexdigest()
    lines = [f"{row['clip_id']} {row['split']} {row['sha256']}\n" for row in rows]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _write_parquet(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", version="2.6", data_page_version="1.0")
