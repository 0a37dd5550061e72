"""``macebench ls``."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from macebench.cli.console import say
from macebench.cli.plugins import Plugins, load_all
from macebench.registry import Group, names, origin, unknown

GROUPS = ("models", "metrics", "features", "protocols", "stages", "datasets", "dances", "poses", "statistics")


def ls(group: Annotated[str, typer.Argument(help=", ".join(GROUPS))] = "models", plugin: Plugins = None) -> None:
    """List models, metrics, protocols, dances ..."""
    load_all(plugin)
    if group not in GROUPS:
        raise unknown("group", group, GROUPS, "macebench ls --help")
    if group == "protocols":
        from macebench.protocol import load_protocol, protocol_ids

        for name in protocol_ids():
            protocol = load_protocol(name)
            say(f"{name:<20} {protocol.hash}  {protocol.title}")
        return
    for name in names(cast(Group, group)):
        say(f"{name:<20} {origin(cast(Group, group), name)}")
