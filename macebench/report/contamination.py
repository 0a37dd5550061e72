"""Copies of training clips among the generated ones, from a run's ``contamination.parquet``.

A run has the table when it was given a training set (`macebench.results`). Exact copies come first among the worst,
then near ones, then the smallest ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macebench.report.model import Contamination, CopyCount, CopyView
from macebench.results import CONTAMINATION_FILE
from macebench.tables import read_contamination

if TYPE_CHECKING:
    import pandas as pd

MAX_SHOWN = 10


def load_contamination(run: Path) -> pd.DataFrame | None:
    """The table of a run folder; None when it has none.

    Raises:
        UserError: the file is no Parquet file, or lacks a column.
    """
    path = Path(run) / CONTAMINATION_FILE
    return read_contamination(path) if path.is_file() else None


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
