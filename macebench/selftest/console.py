"""The report card for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from macebench.report.numbers import ARROWS, short
from macebench.selftest.page import share
from macebench.selftest.schema import Card, SelftestResult

if TYPE_CHECKING:
    from rich.table import Table


def card_tables(result: SelftestResult) -> list[Table]:
    """One table for each protocol: the report cards of its columns that have a value."""
    return [_table(item.id, result.measured(item.id)[0]) for item in result.protocols]


def _table(protocol: str, cards: list[Card]) -> Table:
    from rich.table import Table

    table = Table(title=protocol, title_justify="left", title_style="bold", expand=False)
    table.add_column("column", no_wrap=True)
    for name in ("clean", "aim", "smallest seen", "mean d'", "right", "invariant", "monotone"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("worst blind spot", no_wrap=True)
    table.add_column("fails under")
    for card in cards:
        aim = _number(card.reference) if card.better == "reference" else ARROWS[card.better]
        blind = "" if card.blind_spot is None else f"{card.blind_spot} ({_number(card.blind_spot_d_prime)})"
        table.add_row(
            card.column, _number(card.clean), aim, _number(card.detectable), _number(card.mean_d_prime),
            share(card.share_right, card.n_worse), share(card.share_invariant, card.n_unchanged),
            share(card.share_monotone, card.n_worse), blind, ", ".join(card.failures),
        )  # fmt: skip
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else short(value)
