"""Scores as tables for the terminal. A table that would be too wide is continued in a second one below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from macebench.report.numbers import ARROWS, NO_VALUE, incomplete, short
from macebench.results import Entry, RunResult

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100
_LEAST_NAME = 12
_GAP = 3


@dataclass(frozen=True)
class Line:
    """One row of a table.

    Attributes:
        name: Model.
        n: Clips.
        incomplete: Clips that lack at least one value; None when nobody counted.
        cells: Text of each score; a score that the row lacks has no key.
        style: Style of rich.
    """

    name: str
    n: int
    incomplete: int | None
    cells: dict[str, str]
    style: str = ""


def summary_tables(result: RunResult, width: int = WIDTH) -> list[Table]:
    """The tables of a run, protocol after protocol: model, n, clips that lack a value, and the scores.

    The evaluated model stands first; calibration rows after it are dim. A score that fewer clips have than the row
    has carries its own n, as in ``0.412/3``. NaN is a dash.

    Args:
        result: The run.
        width: Characters that a table may take.
    """
    tables: list[Table] = []
    for digest, protocol in result.protocols.items():
        entries = [entry for entry in result.entries if entry.protocol_hash == digest]
        heads = {
            record.name: f"{broken(record.name)} {ARROWS[record.better]}" for item in entries for record in item.scores
        }
        lines = [_line(entry, index) for index, entry in enumerate(entries)]
        tables += score_tables(title_of(protocol, digest), lines, heads, width)
    return tables


def title_of(protocol: dict[str, object], digest: str) -> str:
    """Protocol id, hash, reference and pose back end in one line."""
    parts = [f"{protocol.get('name')}/{protocol.get('version')}  {digest}"]
    reference, backend = protocol.get("reference"), protocol.get("pose_backend")
    if isinstance(reference, dict):
        parts.append(f"reference {reference.get('name')} (n {reference.get('n')})")
    if isinstance(backend, dict):
        parts.append(f"pose {backend.get('name')} {backend.get('model')}")
    return "  ".join(parts)


def _line(entry: Entry, index: int) -> Line:
    cells = {}
    for record in entry.scores:
        value = short(math.nan if record.value is None else record.value)
        partial = record.value is not None and record.n != entry.n_clips
        cells[record.name] = f"{value}/{record.n}" if partial else value
    style = "bold" if not index else "dim" if entry.model.kind == "calibration" else ""
    return Line(entry.model.name, entry.n_clips, incomplete(entry), cells, style)


def broken(name: str) -> str:
    """A column name with a line break after each underscore, unless it is short."""
    return name if len(name) <= 6 else name.replace("_", "_\n")


def score_tables(title: str, lines: Sequence[Line], heads: dict[str, str], width: int = WIDTH) -> list[Table]:
    """One table, or several that share their rows when the scores do not fit beside each other.

    Args:
        title: Text above the first table.
        lines: The rows.
        heads: Text of the header by score, in order.
        width: Characters that a table may take.
    """
    longest = max((len(line.name) for line in lines), default=0)
    counts = max((len(str(line.n)) for line in lines), default=1) + len("incom-") + 2 * _GAP
    room = width - counts - min(max(longest, _LEAST_NAME), width // 3)
    blocks: list[list[str]] = [[]]
    taken = 0
    for name, head in heads.items():
        wide = max(len(text) for text in (*head.splitlines(), *(line.cells.get(name, "") for line in lines))) + _GAP
        if blocks[-1] and taken + wide > room:
            blocks.append([])
            taken = 0
        blocks[-1].append(name)
        taken += wide
    return [_table(title if not index else "", lines, heads, block) for index, block in enumerate(blocks)]


def _table(title: str, lines: Sequence[Line], heads: dict[str, str], names: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold") if title else None, title_justify="left", box=box.SIMPLE_HEAD,
                  padding=(0, 1), pad_edge=False)  # fmt: skip
    table.add_column("model", overflow="fold", min_width=_LEAST_NAME)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("incom-\nplete", justify="right", no_wrap=True)
    for name in names:
        table.add_column(Text(heads[name]), justify="right", no_wrap=True)
    for line in lines:
        lacking = NO_VALUE if line.incomplete is None else str(line.incomplete)
        cells = [line.name, str(line.n), lacking, *(line.cells.get(name, NO_VALUE) for name in names)]
        table.add_row(*(Text(cell) for cell in cells), style=line.style)
    return table
