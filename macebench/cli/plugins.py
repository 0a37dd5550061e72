"""The option ``--plugin`` of the commands that read runs and boards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file that registers more; repeatable.")]


def load_all(paths: list[Path] | None) -> None:
    """Run each file, so that what it registers is known."""
    from macebench.registry import load_plugins

    load_plugins(paths or ())
