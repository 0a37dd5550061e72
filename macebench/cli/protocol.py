"""``macebench protocol``."""

from __future__ import annotations

from typing import Annotated

import typer

from macebench.cli.console import say

app = typer.Typer(help="Show and compare protocols.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Protocol id, such as ma2d-fixed/1, or a YAML file.")]


@app.command("show")
def show(name: Name) -> None:
    """Print a protocol as YAML."""
    import yaml

    from macebench.protocol import load_protocol

    protocol = load_protocol(name)
    say(f"# {protocol.id}, hash {protocol.hash} before the pose back end and the reference are filled in")
    say(yaml.safe_dump(protocol.model_dump(mode="json"), sort_keys=False, width=100).rstrip())


@app.command("diff")
def diff(one: Name, other: Name) -> None:
    """Print what makes two protocols differ."""
    from macebench.protocol import load_protocol

    lines = load_protocol(one).differences(load_protocol(other))
    say("\n".join(lines) if lines else "no difference")
