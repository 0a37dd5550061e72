"""Scores as tables for the terminal. A table that would be too wide is continued in a second one below.

Where nearer to the ground truth is better, the distance to it stands under the value (``Δ0.031``) and its own value in
the last line. A standard error stands under its value, too (``±0.010``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from macebench.deviations import Deviations, deviations_of
from macebench.report.activity import RULE, entry_barely_moves
from macebench.report.groups import error_column, ordered, without_errors
from macebench.report.numbers import ARROWS, NO_VALUE, incomplete, short
from macebench.results import Entry, RunResult

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100
TRUTH = "reference set"
DEVIATION = "deviation"
_LEAST_NAME = 12
_GAP = 3
_LEGEND = "Δ distance to the reference set's own value: smaller is better"
_STILL = "barely moves"


@dataclass(frozen=True)
class Line:
    """One row of a table.

    Attributes:
        name: Model.
        n: Clips; None when the line is not of clips of its own.
        incomplete: Clips that lack at least one value; None when nobody counted.
        cells: Text of each score; a score that the row lacks has no key.
        style: Style of rich.
        legend: What the line means, below the table.
    """

    name: str
    n: int | None
    incomplete: int | None
    cells: Mapping[str, str]
    style: str = ""
    legend: str = ""


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
        heads = heading({record.name: f" {ARROWS[record.better]}" for item in entries for record in item.scores})
        lines = [_line(entry, index, heads) for index, entry in enumerate(entries)]
        aims = {
            item.name: item.reference for entry in entries for item in entry.scores if item.reference is not None
        }  # fmt: skip
        lines += [truth_line(aims)] if aims else []
        known = deviations_of(f"{protocol.get('name')}/{protocol.get('version')}")
        lines += [deviation_line(known)] if known is not None else []
        tables += score_tables(title_of(protocol, digest), lines, heads, width)
    return tables


def heading(marks: Mapping[str, str]) -> dict[str, str]:
    """Header texts of score columns in the order of their groups; `marks` are what stands behind the names."""
    return {name: broken(name) + marks[name] for name in ordered(without_errors(marks))}


def truth_line(aims: Mapping[str, float]) -> Line:
    """The line of the reference set's own values."""
    return Line(TRUTH, None, None, {name: short(value) for name, value in aims.items()}, "italic")


def deviation_line(known: Deviations) -> Line:
    """How far an approximating protocol was found from the exact one: median, and below it the largest."""
    cells = {name: f"{short(item.median)}\n≤{short(item.max)}" for name, item in known.dimensions.items()}
    return Line(DEVIATION, None, None, cells, "italic", known.legend)


def cell_text(value: float, n: int | None = None, *, reference: float | None = None, error: float | None = None) -> str:
    """A score's cell: value, its own `n` where it has one, and below what helps to read it.

    Args:
        value: The score; NaN is a dash.
        n: Clips behind it, when they are fewer than the row's.
        reference: The reference set's own value; the distance to it stands below.
        error: Standard error, which stands below.
    """
    if math.isnan(value):
        return NO_VALUE
    lines = [short(value) if n is None else f"{short(value)}/{n}"]
    lines += [f"Δ{short(abs(value - reference))}"] if reference is not None else []
    lines += [f"±{short(error)}"] if error is not None else []
    return "\n".join(lines)


def title_of(protocol: dict[str, object], digest: str) -> str:
    """Protocol id, hash, reference and pose back end in one line."""
    parts = [f"{protocol.get('name')}/{protocol.get('version')}  {digest}"]
    reference, backend = protocol.get("reference"), protocol.get("pose_backend")
    if isinstance(reference, dict):
        parts.append(f"reference {reference.get('name')} (n {reference.get('n')})")
    if isinstance(backend, dict):
        parts.append(f"pose {backend.get('name')} {backend.get('model')}")
    package = protocol.get("vbench_package")
    if isinstance(package, dict):
        parts.append(f"by vbench {package.get('version')}")
    if protocol.get("identity_reference"):
        parts.append(f"identity against a {protocol.get('identity_reference')}")
    return "  ".join(parts)


def _line(entry: Entry, index: int, names: Iterable[str]) -> Line:
    records = {record.name: record for record in entry.scores}
    cells = {}
    for name in names:
        record, error = records.get(name), records.get(error_column(name))
        if record is None:
            continue
        value = math.nan if record.value is None else record.value
        own = record.n if record.n != entry.n_clips else None
        cells[name] = cell_text(value, own, reference=record.reference, error=error.value if error else None)
    style = "bold" if not index else "dim" if entry.model.kind == "calibration" else ""
    name = marked_still(entry.model.name) if entry_barely_moves(entry) else entry.model.name
    return Line(name, entry.n_clips, incomplete(entry), cells, style)


def marked_still(name: str) -> str:
    """A model's name with the mark that it barely moves; the legend below the table says what that means."""
    return f"{name} ({_STILL})"


def broken(name: str) -> str:
    """A column name with a line break after each underscore, unless it is short."""
    return name if len(name) <= 6 else name.replace("_", "_\n")


def score_tables(title: str, lines: Sequence[Line], heads: Mapping[str, str], width: int = WIDTH) -> list[Table]:
    """One table, or several that share their rows when the scores do not fit beside each other.

    Args:
        title: Text above the first table.
        lines: The rows.
        heads: Text of the header by score, in order.
        width: Characters that a table may take.
    """
    longest = max((len(line.name) for line in lines), default=0)
    counts = max((len(_count(line.n)) for line in lines), default=1) + len("incom-") + 2 * _GAP
    room = width - counts - min(max(longest, _LEAST_NAME), width // 3)
    blocks: list[list[str]] = [[]]
    taken = 0
    for name, head in heads.items():
        texts = [head, *(line.cells.get(name, "") for line in lines)]
        wide = max(len(part) for text in texts for part in text.splitlines() or [""]) + _GAP
        if blocks[-1] and taken + wide > room:
            blocks.append([])
            taken = 0
        blocks[-1].append(name)
        taken += wide
    tables = [_table(title if not index else "", lines, heads, block) for index, block in enumerate(blocks)]
    tables[-1].caption = _caption(lines) or None
    return tables


def _count(n: int | None) -> str:
    return NO_VALUE if n is None else str(n)


def _caption(lines: Sequence[Line]) -> str:
    texts = [_LEGEND] if any("Δ" in cell for line in lines for cell in line.cells.values()) else []
    texts += [f"{_STILL}: {RULE}"] if any(f"({_STILL})" in line.name for line in lines) else []
    texts += [line.legend for line in lines if line.legend]
    return "\n".join(texts)


def _table(title: str, lines: Sequence[Line], heads: Mapping[str, str], names: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold") if title else None, title_justify="left", box=box.SIMPLE_HEAD,
                  padding=(0, 1), pad_edge=False, caption_justify="left", caption_style="dim")  # fmt: skip
    table.add_column("model", overflow="fold", min_width=_LEAST_NAME)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("incom-\nplete", justify="right", no_wrap=True)
    for name in names:
        table.add_column(Text(heads[name]), justify="right", no_wrap=True)
    for line in lines:
        lacking = NO_VALUE if line.incomplete is None else str(line.incomplete)
        cells = [line.name, _count(line.n), lacking, *(line.cells.get(name, NO_VALUE) for name in names)]
        table.add_row(*(Text(cell) for cell in cells), style=line.style)
    return table
