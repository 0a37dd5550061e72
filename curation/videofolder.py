"""The table of each split beside its clips, as Hugging Face ``datasets`` wants it of a video folder.

``load_dataset("videofolder", data_dir=DATASET)`` finds the splits by the folders ``clips/<split>`` and reads a
``metadata.parquet`` only inside them. Each holds the rows of the data set's own table that are of its split, with
``file_name`` below the split's folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from macebench.clips import METADATA_FILE
from macebench.store import atomic_write

CLIPS = "clips"
_ROWS = 4096


def write_split_tables(table: Path, out: Path) -> list[str]:
    """Write ``clips/<split>/metadata.parquet`` below `out` for each split of the data set's `table`, in its order.

    Splits that have no rows any more lose theirs. The rows are read in parts: memory does not grow with their number.

    Returns:
        Names of the splits, sorted.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(table) as rows:
        splits = sorted(set(pq.read_table(table, columns=["split"])["split"].to_pylist()))
        for split in splits:
            _write(rows, split, out / CLIPS / split / METADATA_FILE)
    _remove_others(out, splits)
    return splits


def move_split_tables(new: Path, out: Path, splits: list[str]) -> None:
    """Let the tables that were written below `new` take their place below `out`."""
    for split in splits:
        (out / CLIPS / split).mkdir(parents=True, exist_ok=True)
        os.replace(new / CLIPS / split / METADATA_FILE, out / CLIPS / split / METADATA_FILE)
    _remove_others(out, splits)


def _remove_others(out: Path, splits: list[str]) -> None:
    for path in sorted((out / CLIPS).glob(f"*/{METADATA_FILE}")):
        if path.parent.name not in splits:
            path.unlink()


def _write(rows: Any, split: str, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with atomic_write(target) as temporary, pq.ParquetWriter(
        temporary, rows.schema_arrow, compression="zstd", version="2.6", data_page_version="1.0"
    ) as writer:  # fmt: skip
        for batch in rows.iter_batches(_ROWS):
            part = pa.Table.from_batches([batch])
            part = part.filter(pc.equal(part["split"], split))
            names = [Path(name).name for name in part["file_name"].to_pylist()]
            place = part.schema.get_field_index("file_name")
            field = part.schema.field(place)
            writer.write_table(part.set_column(place, field, pa.array(names, type=field.type)))
