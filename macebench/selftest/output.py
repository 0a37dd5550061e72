"""Writes the folder of a self-test (`macebench.selftest.schema` documents it)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from macebench.selftest.schema import CARD_FILE, CSV_FILE, JSON_FILE, PAGE_FILE, PLOT_FILE, Card, SelftestResult
from macebench.store import ensure_writable, write_text

_HEAD = (
    "protocol", "column", "damage", "unit", "strength", "clean", "value", "d_prime", "n_scored", "claim", "verdict",
    "rho", "monotone", "found_from",
)  # fmt: skip


def write_selftest(result: SelftestResult, out: Path) -> list[Path]:
    """Write all files of a self-test to `out` and return their paths, the page last.

    Raises:
        UserError: the folder cannot be written.
    """
    from macebench.selftest.page import page
    from macebench.selftest.plot import write_heatmap

    ensure_writable(out)
    write_text(out / JSON_FILE, result.model_dump_json(indent=1) + "\n")
    write_text(out / CSV_FILE, _csv(_HEAD, _rows(result)))
    write_text(out / CARD_FILE, _csv(tuple(Card.model_fields), _card_rows(result.cards)))
    write_heatmap(result, out / PLOT_FILE)
    write_text(out / PAGE_FILE, page(result))
    return [out / name for name in (JSON_FILE, CSV_FILE, CARD_FILE, PLOT_FILE, PAGE_FILE)]


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return text.getvalue()


def _rows(result: SelftestResult) -> Iterator[Sequence[object]]:
    units = {damage.name: damage.unit for damage in result.damages}
    clean = {(card.protocol, card.column): card.clean for card in result.cards}
    for cell in result.cells:
        for level in cell.levels:
            yield (
                cell.protocol, cell.column, cell.damage, units[cell.damage], level.strength,
                clean[cell.protocol, cell.column], level.value, level.d_prime, level.n_scored, cell.claim,
                cell.verdict, cell.rho, cell.monotone, cell.found_from,
            )  # fmt: skip


def _card_rows(cards: Sequence[Card]) -> Iterator[Sequence[object]]:
    for card in cards:
        values = card.model_dump()
        yield [" ".join(value) if isinstance(value, tuple) else value for value in values.values()]
