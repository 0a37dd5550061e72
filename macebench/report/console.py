"""The result of a run as tables for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from macebench.report.numbers import ARROWS, folded, short
from macebench.results import Entry, RunResult

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


_HEAD_WIDTHS = (12, 6)


def summary_tables(result: RunResult, width: int = 100) -> list[Table]:
    """One table for each protocol: model, n, unscored values, and the scores.

    Column names are hyphenated where the table would be wider than `width` characters.

    The evaluated model stands first; calibration rows after it are dim. A score that fewer clips have than the row
    has carries its own n, as in ``0.412/3``. NaN is a dash.
    """
    return [_table(result, digest, width) for digest in result.protocols]


def _table(result: RunResult, digest: str, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    entries = [entry for entry in result.entries if entry.protocol_hash == digest]
    table = Table(
        title=Text(_title(result.protocols[digest], digest)), title_justify="left", title_style="bold",
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    table.add_column("model", overflow="fold", min_width=8)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("un-\nscored", justify="right")
    for head in _heads(entries, width):
        table.add_column(Text(head), justify="right", no_wrap=True, min_width=5)
    for index, entry in enumerate(entries):
        style = "dim" if index and entry.model.kind == "calibration" else "bold" if not index else ""
        table.add_row(*_cells(entry), style=style)
    return table


def _heads(entries: list[Entry], width: int) -> list[str]:
    """Names of the scores with their arrows, folded as little as fits."""
    records = entries[0].scores if entries else []
    taken = max((len(entry.model.name) for entry in entries), default=0) + 13
    for most in _HEAD_WIDTHS:
        heads = [f"{folded(record.name, most)} {ARROWS[record.better]}" for record in records]
        if taken + sum(max(5, *map(len, head.splitlines())) + 1 for head in heads) <= width:
            break
    return heads


def _title(protocol: dict[str, object], digest: str) -> str:
    parts = [f"{protocol.get('name')}/{protocol.get('version')}  {digest}"]
    reference, backend = protocol.get("reference"), protocol.get("pose_backend")
    if isinstance(reference, dict):
        parts.append(f"reference {reference.get('name')} (n {reference.get('n')})")
    if isinstance(backend, dict):
        parts.append(f"pose {backend.get('name')} {backend.get('model')}")
    return "  ".join(parts)


def _cells(entry: Entry) -> list[Text]:
    from rich.text import Text

    cells = [Text(entry.model.name), Text(str(entry.n_clips)), Text(str(sum(s.n_unscored for s in entry.scores)))]
    for record in entry.scores:
        value = short(math.nan if record.value is None else record.value)
        partial = record.value is not None and record.n != entry.n_clips
        cells.append(Text(f"{value}/{record.n}" if partial else value))
    return cells
