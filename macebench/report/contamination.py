"""Copies of training clips among the generated ones, from a run's ``contamination.parquet``.

The table is optional: ``model``, ``protocol_hash``, ``clip_id``, ``nearest_clip_id``, ``distance``, ``ratio``,
``exact`` and ``near``. Exact copies come first among the worst, then near ones, then the smallest ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macebench.errors import UserError
from macebench.report.model import Contamination, CopyCount, CopyView
from macebench.results import CONTAMINATION_FILE

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("model", "protocol_hash", "clip_id", "nearest_clip_id", "distance", "ratio", "exact", "near")
MAX_SHOWN = 10


def read_contamination(run: Path) -> pd.DataFrame | None:
    """The table of a run folder; None when it has none.

    Raises:
        UserError: the file is no Parquet file, or lacks a column.
    """
    import pandas as pd
    import pyarrow as pa

    path = Path(run) / CONTAMINATION_FILE
    if not path.is_file():
        return None
    try:
        table = pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"table {path} is no Parquet file: {error}", hint="Run the evaluation again.") from error
    absent = [name for name in COLUMNS if name not in table.columns]
    if absent:
        raise UserError(f"table {path} lacks the columns {', '.join(absent)}.", hint="Run the evaluation again.")
    return table


def contamination_of(table: pd.DataFrame | None, digest: str, model: str) -> Contamination | None:
    """What the table says of one protocol; None when it says nothing."""
    mine = table[table["protocol_hash"] == digest] if table is not None else None
    if mine is None or not len(mine):
        return None
    counts = [
        CopyCount(str(name), len(rows), int(rows["exact"].sum()), int(rows["near"].sum()))
        for name, rows in mine.groupby("model", sort=False)
    ]
    found = [_copy(row) for row in mine[mine["model"] == model].to_dict("records")]
    return Contamination(counts, sorted(found, key=_badness)[:MAX_SHOWN])


def _copy(row: Mapping[Any, Any]) -> CopyView:
    return CopyView(
        str(row["clip_id"]), str(row["nearest_clip_id"] or ""), float(row["distance"]), float(row["ratio"]),
        bool(row["exact"]), bool(row["near"]),
    )  # fmt: skip


def _badness(copy: CopyView) -> tuple[bool, bool, float, float, str]:
    ratio, distance = (value if math.isfinite(value) else math.inf for value in (copy.ratio, copy.distance))
    return not copy.exact, not copy.near, ratio, distance, copy.clip_id
