"""``macebench leaderboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from macebench.cli.console import say, show_tables
from macebench.cli.plugins import Plugins, load_all
from macebench.errors import EXIT_OK, EXIT_USER_ERROR

app = typer.Typer(help="Leaderboard CSVs that anyone can recompute.", no_args_is_help=True)
Board = Annotated[Path, typer.Argument(help="Leaderboard CSV.")]


@app.command("add")
def add(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    board: Annotated[Path, typer.Option(help="Leaderboard CSV; made when it is not there.")],
    model: Annotated[list[str] | None, typer.Option(help="Only this model's rows; repeatable.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a row that has other numbers.")] = False,
    calibration: Annotated[bool, typer.Option("--calibration", help="Add the calibration rows, too.")] = False,
    plugin: Plugins = None,
) -> None:
    """Add the rows of a run; those of calibration models stay out unless asked for or named."""
    from macebench.leaderboards.board import add as add_rows
    from macebench.report.numbers import plural

    load_all(plugin)
    rows = add_rows(run, board, model, replace=replace, calibration=calibration)
    say(f"on {board} now: {plural(len(rows), 'row')} of {run}")
    if rows.left_out:
        say(f"left out: {plural(rows.left_out, 'calibration row')}; --calibration adds them")


@app.command("verify")
def verify(
    board: Board,
    run: Annotated[Path, typer.Option(help="Run folder to recompute the rows from.")],
    plugin: Plugins = None,
) -> int:
    """Recompute every number of the rows from the run's per-clip values; exit 2 when one differs."""
    from macebench.leaderboards.board import verify as verify_rows
    from macebench.report.numbers import plural

    load_all(plugin)
    findings = verify_rows(board, run)
    for finding in findings:
        say(str(finding))
    say("every number was recomputed and agrees" if not findings else plural(len(findings), "finding"))
    return EXIT_USER_ERROR if findings else EXIT_OK


@app.command("show")
def show(board: Board) -> None:
    """Print a leaderboard."""
    from macebench.leaderboards.board import show as show_board

    tables = show_board(board)
    show_tables(tables if isinstance(tables, list) else [tables])


@app.command("retract")
def retract(
    board: Board,
    model: Annotated[str, typer.Option(help="Model of the row.")],
    protocol_hash: Annotated[str, typer.Option(help="Protocol hash of the row.")],
    reason: Annotated[str, typer.Option(help="Why; it stays on the board.")],
) -> None:
    """Mark a row as retracted; it stays visible with the reason."""
    from macebench.leaderboards.board import retract as retract_row

    retract_row(board, model, protocol_hash, reason)
    say(f"retracted {model} under {protocol_hash} on {board}")
