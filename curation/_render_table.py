"""The table of rendered videos, which is read as a table of sources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from macebench.curation.render import Rendered

COLUMNS = (
    "path", "refused", "genre", "music", "performer", "split", "licence", "consent", "pairing", "source",
    "recording", "genre_raw", "style", "title", "start_s", "end_s", "fps", "n_frames", "width", "height", "renderer",
    "body", "floor_m", "floor_touching", "front_deg", "margin_px", "body_px", "motion_sha256", "music_sha256", "sha256",
)  # fmt: skip
"""Columns of the table; from ``genre`` to ``source`` they are `macebench.curation.sources.FACTS`. ``start_s`` and
``end_s`` are seconds of the motion file; ``floor_touching`` is the share of frames whose lowest point is within 3 cm of
the floor."""


def row(rendered: Rendered, out: Path) -> dict[str, Any]:
    """A row of the table; None where a refused recording has no value.

    Its `path` is then its name, with the start in milliseconds where only the rest of it is refused.
    """
    source = rendered.source
    rest = f"-{round(1000 * rendered.facts['start_s']):08d}" if "start_s" in rendered.facts else ""
    path = rendered.path.relative_to(out.absolute()).as_posix() if rendered.path is not None else source.name + rest
    known: dict[str, Any] = {
        "path": path, "refused": rendered.refused, "genre": source.genre, "music": source.music_id, "performer": "",
        "split": source.split, "licence": source.licence, "consent": "", "pairing": source.pairing,
        "source": source.collection, "recording": source.name, "genre_raw": source.genre_raw, "style": source.style,
        "title": source.title,
    }  # fmt: skip
    return {name: known.get(name, rendered.facts.get(name)) for name in COLUMNS}


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from macebench.store import atomic_write

    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, pa.string())
    numbers = ("start_s", "end_s", "fps", "floor_m", "floor_touching", "front_deg", "margin_px", "body_px")
    kinds |= dict.fromkeys(numbers, pa.float64()) | dict.fromkeys(("n_frames", "width", "height"), pa.int64())
    table = pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items())))
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary)
    return path
