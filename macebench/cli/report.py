"""``macebench report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from macebench.cli.console import say
from macebench.cli.plugins import Plugins, load_all


def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path | None, typer.Option(help="HTML file; default: report.html in the run folder.")] = None,
    against: Annotated[Path | None, typer.Option(help="Another run folder to show beside it.")] = None,
    plugin: Plugins = None,
) -> None:
    """Write one self-contained HTML page about a run."""
    from macebench.report import write_report
    from macebench.report.view import changes_since

    load_all(plugin)
    page = write_report(run, out=out, against=against)
    for line in changes_since(run):
        typer.echo(f"warning: {run}: {line}", err=True)
    say(str(page))
