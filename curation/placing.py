"""Bringing new clips and tables into a data set folder so that a kill at any moment leaves one that can be read.

What is promised: at every moment ``metadata.parquet`` and the tables of the splits name clips that are there, each
with the bytes of its row. No clip that a table names is moved, removed or written over while the table names it.

1. `place` gives every new clip its place by a hard link (a copy where the disk knows no links). A place that is taken
   by other bytes stays as it is; the new clip gets a stand-in beside it, ``<clip id>.<12 digits of its hash>.mp4``.
2. `publish` renames the new tables. With stand-ins, tables that name these come first; then the clips take their own
   names, which no table names then; then the final tables come.
3. `remove_strangers` removes what is in no table.

A kill leaves the old or the new tables. Files that are in no row may be left, a warning of ``macebench data verify``,
until the next run removes them. Between two renames of step 2 the counts in ``dataset.json``, the ledger and the data
sheet can be those of the other version for a moment. Pictures in ``thumbnails`` are not tied to the tables.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from macebench.clips import METADATA_FILE
from macebench.curation.records import CLIP_NAME, WORK, ClipRecord, clip_files, clip_id, part_path
from macebench.curation.videofolder import CLIPS, move_split_tables, write_split_tables
from macebench.errors import MacebenchError, UserError
from macebench.media import file_sha256
from macebench.store import atomic_write

if TYPE_CHECKING:
    from macebench.curation.outcomes import Outcomes

_PICTURE = re.compile(r"[0-9a-f]{12}-[0-9]{8,}(-[\w.-]+)?\.jpg")
_OURS = frozenset(
    {METADATA_FILE, "ledger.parquet", "dataset.json", "DATASHEET.md", "summary.html", "optout-spans.json"}
)
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp")
_BETWEEN = "between"
_DISK = "Free some space, or choose another place; what was finished before is kept."


def place(
    out: Path, sources: Outcomes, splits: Mapping[str, str], progress: Callable[[str, int, int], None]
) -> dict[str, str]:  # fmt: skip
    """Give every clip its place; see the module's docstring. Done again, it does nothing.

    Args:
        out: Folder of the data set.
        sources: What became of the sources.
        splits: Clip id -> split.
        progress: Called with (phase, done, total).

    Returns:
        File name -> stand-in of the clips whose place is taken by other bytes, both below `out`.

    Raises:
        MacebenchError: a clip is gone.
        UserError: the disk is full.
    """
    live, instead, done = _live(out), {}, 0
    for group in sources:
        for clip in group.clips:
            name = clip_id(group.first.sha256, clip.start_s)
            final = f"{CLIPS}/{splits[name]}/{name}.mp4"
            target = out / final
            if live.get(final) != clip.sha256 or _size(target) != clip.size:
                found = _bytes_of(out, group.first.sha256, clip, splits[name], live)
                other = _stand_in(target, clip.sha256)
                if not target.exists():
                    _bring(found, target)
                elif not os.path.samefile(found, target):
                    _bring(found, other)
                    instead[final] = other.relative_to(out).as_posix()
            done += 1
            progress("clips", done, len(splits))
    return instead


def _live(out: Path) -> dict[str, str]:
    """File name -> SHA-256 as the present table says; empty without a table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(out / METADATA_FILE, columns=["file_name", "sha256"])
    except (OSError, pa.ArrowException):
        return {}
    return dict(zip(table["file_name"].to_pylist(), table["sha256"].to_pylist(), strict=True))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _stand_in(target: Path, sha256: str) -> Path:
    return target.with_name(f"{target.stem}.{sha256[:12]}.mp4")


def _bytes_of(out: Path, source_id: str, clip: ClipRecord, split: str, live: Mapping[str, str]) -> Path:
    """A file with the bytes of a clip: the new one, a stand-in, or where an earlier run has put it."""
    name = clip_id(source_id, clip.start_s)
    part = part_path(out, name)
    if _size(part) == clip.size:
        return part
    other = _stand_in(out / CLIPS / split / f"{name}.mp4", clip.sha256)
    for path in (other, *clip_files(out, name)):
        if _size(path) != clip.size:
            continue
        said = live.get(path.relative_to(out).as_posix())
        if said == clip.sha256 or file_sha256(path) == clip.sha256:
            return path
        if said is None:
            path.unlink()
    raise MacebenchError(f"clip {name} is gone; run the same command again.")


def _bring(source: Path, target: Path) -> None:
    """Let `target` have the bytes of `source`, in one moment; both are there afterwards."""
    link = target.with_name(f".{target.name}.replaced.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        try:
            os.link(source, link)
        except OSError:
            shutil.copy2(source, link)
        os.replace(link, target)
        link.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}.", hint=_DISK) from error


def publish(new: Path, out: Path, names: Iterable[str], instead: Mapping[str, str]) -> None:
    """Let the new tables take their places; see the module's docstring.

    Args:
        new: Folder with the new files.
        out: Folder of the data set.
        names: The new files, ``metadata.parquet`` among them.
        instead: What `place` returned.

    Raises:
        UserError: the disk is full.
    """
    others = [name for name in names if name != METADATA_FILE]
    filled = write_split_tables(new / METADATA_FILE, new)
    if instead:
        between = new / _BETWEEN
        _write_between(new / METADATA_FILE, between / METADATA_FILE, instead)
        write_split_tables(between / METADATA_FILE, between)
        _rename(between, out, [METADATA_FILE])
        _rename(new, out, others)
        move_split_tables(between, out, filled)
        for final, other in instead.items():
            _bring(out / other, out / final)
        others = []
    _rename(new, out, [METADATA_FILE, *others])
    move_split_tables(new, out, filled)


def _rename(new: Path, out: Path, names: Iterable[str]) -> None:
    for name in names:
        os.replace(new / name, out / name)


def _write_between(table: Path, target: Path, instead: Mapping[str, str]) -> None:
    """The table with stand-ins for some file names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with (
        pq.ParquetFile(table) as rows,
        atomic_write(target) as temporary,
        pq.ParquetWriter(temporary, rows.schema_arrow, compression="zstd") as writer,
    ):
        for batch in rows.iter_batches(4096):
            part = pa.Table.from_batches([batch])
            names = [instead.get(name, name) for name in part["file_name"].to_pylist()]
            place = part.schema.get_field_index("file_name")
            field = part.schema.field(place)
            writer.write_table(part.set_column(place, field, pa.array(names, type=field.type)))


def remove_strangers(out: Path, splits: Mapping[str, str], pictures: Iterable[str]) -> None:
    """Remove clips and thumbnails of earlier runs and what is not needed any more; other people's files stay."""
    wanted = set(pictures)
    for path in sorted((out / CLIPS).glob("*/*.mp4")):
        found = CLIP_NAME.fullmatch(path.name)
        if found and (found[2] or splits.get(found[1]) != path.parent.name):
            path.unlink()
    for path in sorted((out / "thumbnails").glob("*.jpg")):
        if path.name not in wanted:
            path.unlink()
    for folder in sorted((out / CLIPS).glob("*")):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    for name in ("new", "clips", "hung"):
        shutil.rmtree(out / WORK / name, ignore_errors=True)


def sweep(out: Path) -> None:
    """Remove what killed runs have left of unfinished files outside the working folder."""
    for pattern in (".*.tmp", "thumbnails/.*.tmp", f"{CLIPS}/*/.*.tmp"):
        for path in out.glob(pattern):
            found = _TEMPORARY.fullmatch(path.name)
            name = found[1] if found else ""
            if name in _OURS or CLIP_NAME.fullmatch(name) or _PICTURE.fullmatch(name):
                path.unlink(missing_ok=True)
