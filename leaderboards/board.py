"""A board on disk: adding rows from run folders, comparing, retracting and showing them.

A board is a CSV file (`macebench.leaderboards.schema`). Beside it, the folder ``protocols`` holds the resolved
protocol of every row as ``<hash>.json``, so that a difference of two hashes can be named without the runs.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macebench.aggregate import metrics_of
from macebench.errors import UserError
from macebench.leaderboards.schema import COST, ScoreRow, as_float, read_board, write_board
from macebench.leaderboards.verify import Finding, check_rows, parse_stored, rows_of, same, verify
from macebench.protocol import Protocol
from macebench.registry import get_metric, unknown
from macebench.registry import names as registered
from macebench.report.groups import error_column
from macebench.results import RunResult
from macebench.store import write_text
from macebench.types import Better

if TYPE_CHECKING:
    from rich.table import Table

    from macebench.report.console import Line

__all__ = ["Added", "Finding", "add", "compare_rows", "load_protocols", "retract", "show", "verify"]

PROTOCOLS_FOLDER = "protocols"
_SHOWN_CHANGES = 3
_NOT_COMPARED = {*COST, "run", "status", "status_reason", "superseded_by", "scores"}


@dataclass(frozen=True)
class Added:
    """What `add` did: keys (model, protocol hash) by what became of them, and how many calibration rows stayed out."""

    added: tuple[tuple[str, str], ...] = ()
    unchanged: tuple[tuple[str, str], ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()
    left_out: int = 0

    def __len__(self) -> int:
        """Rows of the run that are now on the board."""
        return len(self.added) + len(self.unchanged) + len(self.replaced)


def add(
    run: Path, board: Path, models: Sequence[str] | None = None, *, replace: bool = False, calibration: bool = False
) -> Added:
    """Put the rows of a run on a board; the board is made when it does not exist.

    The run is verified first. A row that is there already (costs aside) stays as it is, retracted or not.

    Args:
        run: Run folder.
        board: CSV file.
        models: Only these models, whatever their kind; None means those that `calibration` lets in.
        replace: Replace a row of the same model and protocol whose content differs.
        calibration: Add the calibration rows, too. They are made from the run's own videos, so those of two runs
            differ under one key; without this, only the run's first model may be a calibration.

    Raises:
        UserError: the run does not verify, a model is not in it, or a row differs and `replace` is off.
    """
    run, board = Path(run), Path(board)
    result = RunResult.read(run)
    stated = rows_of(run, location=_location(run, board))
    rows = _choose(stated, models, calibration, run)
    findings = check_rows(rows, result, run)
    if findings:
        raise UserError(
            f"{run} does not verify: {findings[0]}.",
            hint=f"`macebench leaderboard verify {run} --run {run}` lists all.",
        )
    kept = {row.key: row for row in read_board(board)} if board.is_file() else {}
    outcome: dict[str, list[tuple[str, str]]] = {"added": [], "unchanged": [], "replaced": []}
    for row in rows:
        outcome[_place(row, kept, board, replace)].append(row.key)
    for digest in sorted({row.protocol_hash for row in rows}):
        _keep_protocol(board, digest, result.protocols[digest])
    if outcome["added"] or outcome["replaced"] or not board.is_file():
        write_board(board, list(kept.values()))
    left_out = len(stated) - len(rows) if models is None else 0
    return Added(tuple(outcome["added"]), tuple(outcome["unchanged"]), tuple(outcome["replaced"]), left_out)


def _choose(rows: list[ScoreRow], models: Sequence[str] | None, calibration: bool, run: Path) -> list[ScoreRow]:
    known = sorted({row.model for row in rows})
    for name in models or ():
        if name not in known:
            raise unknown(f"model of {run}", name, known, f"macebench report {run}")
    if models is not None:
        return [row for row in rows if row.model in models]
    return [row for row in rows if calibration or row.kind != "calibration" or row.model == rows[0].model]


def _place(row: ScoreRow, kept: dict[tuple[str, str], ScoreRow], board: Path, replace: bool) -> str:
    """Put `row` into `kept`; says what became of it."""
    there = kept.get(row.key)
    changes = [] if there is None else changes_of(there, row)
    if there is not None and not changes:
        return "unchanged"
    if there is not None and not replace:
        raise UserError(
            f"{board} has {row.model!r} under {row.protocol_hash} already, with other content: {_few(changes)}.",
            hint="Add with --replace if the new row is right, or use another model name.",
        )
    kept[row.key] = row
    return "added" if there is None else "replaced"


def _few(changes: Sequence[str]) -> str:
    rest = len(changes) - _SHOWN_CHANGES
    return "; ".join([*changes[:_SHOWN_CHANGES], *([f"... and {rest} more"] if rest > 0 else [])])


def changes_of(old: ScoreRow, new: ScoreRow) -> list[str]:
    """What differs between two rows of one model and protocol, scores first: ``column: old != new``.

    Costs are left out, and `n_incomplete` and the reference's own values where a row does not know them.
    """
    before, after = old.model_dump(exclude=_NOT_COMPARED), new.model_dump(exclude=_NOT_COMPARED)
    if old.n_incomplete is None or new.n_incomplete is None:
        del before["n_incomplete"]
    fields = [f"{name}: {before[name]} != {after[name]}" for name in before if before[name] != after[name]]
    lines = []
    for name in sorted({*old.scores, *new.scores}):
        one, two = old.scores.get(name), new.scores.get(name)
        if one is None or two is None:
            lines.append(f"{name}: {'absent' if one is None else 'there'} != {'absent' if two is None else 'there'}")
        elif not same(one.value, two.value) or (one.n, one.unscored) != (two.n, two.unscored):
            lines.append(f"{name}: {as_float(one)!r} (n {one.n}) != {as_float(two)!r} (n {two.n})")
        elif None not in (one.reference, two.reference) and not same(one.reference, two.reference):
            lines.append(f"{name}.reference: {one.reference!r} != {two.reference!r}")
    return lines + fields


def _location(run: Path, board: Path) -> str:
    """The run folder seen from the board's folder, with forward slashes."""
    return Path(os.path.relpath(run.resolve(), board.resolve().parent)).as_posix()


def _keep_protocol(board: Path, digest: str, protocol: Mapping[str, Any]) -> None:
    path = board.parent / PROTOCOLS_FOLDER / f"{digest}.json"
    text = json.dumps(protocol, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if not path.is_file() or path.read_text("utf-8") != text:
        write_text(path, text)


def load_protocols(board: Path) -> dict[str, Protocol]:
    """The resolved protocols beside a board, by hash; a file whose content has another hash is left out."""
    found: dict[str, Protocol] = {}
    for path in sorted((Path(board).parent / PROTOCOLS_FOLDER).glob("*.json")):
        protocol = parse_stored(json.loads(path.read_text("utf-8")))
        if protocol is not None and protocol.hash == path.stem:
            found[protocol.hash] = protocol
    return found


def compare_rows(
    first: ScoreRow, second: ScoreRow, protocols: Mapping[str, Protocol] | None = None
) -> dict[str, tuple[float, float]]:
    """The values of two rows side by side, for the scores that both have.

    Args:
        first: A row.
        second: A row under the same resolved protocol.
        protocols: Resolved protocols by hash (`load_protocols`), to name what differs.

    Raises:
        UserError: the rows' protocols have different hashes; the differences are named.
    """
    refuse_difference(first.protocol_hash, second.protocol_hash, protocols or {})
    names = [name for name in first.scores if name in second.scores]
    return {name: (as_float(first.scores[name]), as_float(second.scores[name])) for name in names}


def refuse_difference(first: str, second: str, protocols: Mapping[str, Protocol]) -> None:
    """Raise a `UserError` that names the differences when two hashes differ."""
    if first == second:
        return
    one, two = protocols.get(first), protocols.get(second)
    lines = (
        one.differences(two) if one is not None and two is not None else ["the protocols themselves are not at hand"]
    )
    raise UserError(f"rows of protocol {first} and {second} do not compare: {'; '.join(lines)}.",
                    hint="Evaluate both under one protocol, pose back end and reference set.")  # fmt: skip


def retract(board: Path, model: str, protocol_hash: str, reason: str) -> ScoreRow:
    """Mark a row as retracted; it stays in the file.

    Raises:
        UserError: no such row, or no reason.
    """
    if not reason.strip():
        raise UserError("a retraction needs a reason.", hint="Say it with --reason.")
    rows = read_board(board)
    keys = [row.key for row in rows]
    if (model, protocol_hash) not in keys:
        known = [f"{name} under {digest}" for name, digest in keys]
        raise unknown("row", f"{model} under {protocol_hash}", known, f"macebench leaderboard show {board}")
    index = keys.index((model, protocol_hash))
    rows[index] = rows[index].model_copy(update={"status": "retracted", "status_reason": reason.strip()})
    write_board(board, rows)
    return rows[index]


def show(board: Path, width: int = 100) -> list[Table]:
    """The board as tables for the terminal, one protocol hash after the other; retracted rows are struck out.

    Columns stand in the order of `macebench eval`. Which direction is better is what the registered metrics say; a
    column of no registered metric has no mark.

    Args:
        board: CSV file.
        width: Characters that a table may take.
    """
    from macebench.report.console import heading, score_tables
    from macebench.report.numbers import ARROWS

    known = load_protocols(board)
    groups: dict[str, list[ScoreRow]] = {}
    for row in read_board(board):
        groups.setdefault(row.protocol_hash, []).append(row)
    tables: list[Table] = []
    for digest, rows in groups.items():
        aims = _aims(rows)
        names = sorted({name for row in rows for name in row.scores})
        better = _directions(names, known.get(digest)) | dict.fromkeys(aims, "reference")
        listed = [*(name for name in better if name in names), *(name for name in names if name not in better)]
        heads = heading({name: f" {ARROWS[better[name]]}" if name in better else "" for name in listed})
        title = f"{rows[0].protocol}  {digest}  reference {rows[0].reference} (n {rows[0].n_reference})"
        title += f"  pose {rows[0].pose_backend}" if rows[0].pose_backend else ""
        lines = [_line(row, heads, aims) for row in rows]
        tables += score_tables(title, [*lines, *_truth(aims)], heads, width)
    return tables


def _directions(names: Sequence[str], protocol: Protocol | None) -> dict[str, Better]:
    """Which direction is better, by column, in the order in which the metrics report them.

    Without the protocol, columns that metrics of one name report differently have no direction.
    """
    if protocol is not None:
        metrics = metrics_of(protocol, names)[0]
    else:
        metrics = [get_metric(name) for name in registered("metrics")]
    found: dict[str, set[Better]] = {}
    for column in (column for metric in metrics for column in metric.columns):
        found.setdefault(column.name, set()).add(column.better)
    return {name: kinds.pop() for name, kinds in found.items() if len(kinds) == 1}


def _aims(rows: Sequence[ScoreRow]) -> dict[str, float]:
    """The reference set's own values, which all rows of one protocol hash share."""
    cells = [(name, cell) for row in rows for name, cell in row.scores.items()]
    return {name: cell.reference for name, cell in cells if cell.reference is not None}


def _truth(aims: Mapping[str, float]) -> list[Line]:
    from macebench.report.console import truth_line

    return [truth_line(aims)] if aims else []


def _line(row: ScoreRow, heads: Iterable[str], aims: Mapping[str, float]) -> Line:
    from macebench.report.activity import FROZEN_SHARE, barely_moves
    from macebench.report.console import Line, cell_text, marked_still

    name, style = row.model, "dim" if row.kind == "calibration" else ""
    frozen = row.scores.get(FROZEN_SHARE)
    if frozen is not None and barely_moves(as_float(frozen), aims.get(FROZEN_SHARE, math.nan)):
        name = marked_still(name)
    if row.status == "retracted":
        name, style = f"{name} (retracted: {row.status_reason})", "strike dim"
    cells = {}
    for column in heads:
        cell, error = row.scores.get(column), row.scores.get(error_column(column))
        if cell is not None:
            own = cell.n if cell.n != row.n_clips else None
            aim, deviation = aims.get(column), error.value if error else None
            cells[column] = cell_text(as_float(cell), own, reference=aim, error=deviation)
    return Line(name, row.n_clips, row.n_incomplete, cells, style)
