"""``macebench weights``."""

from __future__ import annotations

from typing import Annotated

import typer

from macebench.cli.console import progress_bar, say, size
from macebench.errors import EXIT_OK, EXIT_USER_ERROR

app = typer.Typer(help="Weights files: list, fetch, verify.", no_args_is_help=True)


@app.command("list")
def show() -> None:
    """List all weights files with state, size, licence and source."""
    from macebench import weights

    for row in weights.weights_table():
        groups = ",".join(row.groups)
        length = size(row.size) if row.size else "?"
        say(f"{row.name:<26} {weights.status(row.name):<8} {length:>9}  {row.licence:<14} {groups}")
    say(f"folder: {weights.weights_folder()}")


@app.command("pull")
def pull(name: Annotated[str, typer.Argument(help="Name of a file or of a group.")]) -> None:
    """Fetch weights and check their SHA-256."""
    from macebench import weights

    with progress_bar() as progress:
        paths = weights.pull(name, progress)
    for path in paths:
        say(str(path))


@app.command("verify")
def verify(name: Annotated[str | None, typer.Argument(help="Name or group; default: all.")] = None) -> int:
    """Hash the files that are there; exit 2 when one is not what the table says."""
    from macebench import weights

    names = [row.name for row in weights.select(name)] if name else None
    states = weights.verify(names)
    for key, state in states.items():
        say(f"{key:<26} {state}")
    return EXIT_USER_ERROR if "corrupt" in states.values() else EXIT_OK
