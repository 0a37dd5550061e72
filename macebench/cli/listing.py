"""``macebench ls``: names, and one line of what each of them is.

What is listed is imported, because the summary stands in its module; a module that cannot be imported says so in its
line. No built-in module of these groups imports torch before it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer

from macebench.cli.console import say
from macebench.cli.plugins import Plugins, load_all
from macebench.errors import MacebenchError, UserError
from macebench.registry import Group, get, get_metric, names

GROUPS = ("models", "metrics", "features", "protocols", "stages", "datasets", "dances", "poses", "statistics")
_CALIBRATION = "calibration"
_GAP = "  "
Row = Sequence[str]


def ls(group: Annotated[str, typer.Argument(help=", ".join(GROUPS))] = "models", plugin: Plugins = None) -> None:
    """List models, metrics, protocols, dances ...

    Example: macebench ls metrics
    """
    import difflib

    load_all(plugin)
    if group not in GROUPS:
        near = difflib.get_close_matches(group, GROUPS, n=1, cutoff=0.5)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"unknown group {group!r}.{meant}", hint=f"Groups are {', '.join(GROUPS)}.")
    special = {"models": _models, "metrics": _metrics, "protocols": _protocols}
    if group in special:
        special[group]()
    else:
        kind = cast(Group, group)
        _table((group, "what it is"), [(name, _summary(kind, name)) for name in names(kind)])


def _protocols() -> None:
    from macebench.protocol import load_protocol, protocol_ids

    protocols = [(name, load_protocol(name)) for name in protocol_ids()]
    _table(("protocols", "hash", "what it is"), [(name, item.hash, item.title) for name, item in protocols])


def _models() -> None:
    """Models that make something, then the known changes of ground truth."""
    rows = [(name, *_card(name)) for name in names("models")]
    _table(("models", "kind", "what it is"), [row for row in rows if row[1] != _CALIBRATION])
    say("")
    known = [(name, summary) for name, kind, summary in rows if kind == _CALIBRATION]
    _table(("calibration rows", "what it is: the ground truth with a known change (eval --calibrate)"), known)


def _card(name: str) -> tuple[str, str]:
    """Kind and summary of a model."""
    found = _load("models", name)
    card = getattr(found, "card", None)
    return ("?", found if isinstance(found, str) else "no card") if card is None else (card.kind, card.summary)


def _metrics() -> None:
    """One line a column; the name of the metric stands in the first one."""
    rows: list[Row] = []
    for name in names("metrics"):
        found = _load("metrics", name)
        if isinstance(found, str):
            rows.append((name, "?", "", "", found))
            continue
        for number, column in enumerate(get_metric(name).columns):
            better = column.better
            rows.append(("" if number else name, column.name, column.unit, better, _line(column.summary)))
    _table(("metrics", "column", "unit", "better", "what it is"), rows)


def _load(group: Group, name: str) -> Any:
    """The object, or text that says why there is none."""
    try:
        return get(group, name)
    except (ImportError, AttributeError, MacebenchError) as error:
        return f"cannot be loaded: {_line(str(error))}"


def _summary(group: Group, name: str) -> str:
    """The first line of what an object says of itself; of a pose back end, of what its module says."""
    found = _load(group, name)
    if isinstance(found, str):
        return found
    made = getattr(found, "compute", found)
    return _line(sys.modules[made.__module__].__doc__ if group == "poses" else made.__doc__)


def _line(text: str | None) -> str:
    return next(iter((text or "").strip().splitlines()), "").replace("``", "`")


def _table(head: Row, rows: Sequence[Row]) -> None:
    """Columns as wide as their longest cell; the last one is as long as it is."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)]
        say(_GAP.join([*cells, line[-1]]).rstrip())
