"""The page of a self-test: heat maps and report cards in one HTML file without links to the outside."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from macebench.report.markup import Html, breakable, el, join
from macebench.report.numbers import ARROWS, DIRECTIONS, short
from macebench.report.page import policy
from macebench.selftest.heat import MARKS, WORDS, colour, is_dark, label
from macebench.selftest.schema import FAILURES, Card, Cell, DamageRecord, ProtocolRecord, SelftestResult

_STYLE = """
.heat { border-collapse: separate; border-spacing: 2px; font-size: .8rem; }
.heat thead th { vertical-align: bottom; text-align: center; min-width: 3.6rem; padding: .2rem; }
.heat tbody th { font-weight: 500; white-space: nowrap; padding: .15rem .6rem .15rem 0; }
.heat td { text-align: center; padding: .2rem .1rem; border-radius: 3px; border: 2px solid transparent;
  white-space: nowrap; }
.heat td.failed { border-color: var(--ink); font-weight: 700; }
.heat td.faint { color: #777; }
.cards { font-size: .84rem; }
.cards td { text-align: right; white-space: nowrap; }
.cards td.text { text-align: left; white-space: normal; }
.cards tbody th { font-weight: 500; }
.cards tbody tr { border-top: 1px solid var(--line); }
"""


def page(result: SelftestResult) -> str:
    """The text of the page; equal results give equal text."""
    style = Html(
        resources.files("macebench.report").joinpath("style.css").read_text("utf-8") + _STYLE + _shades(result)
    )
    head = el(
        "head", el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy(style, "")),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", "macebench self-test"), el("style", style),
    )  # fmt: skip
    sections = [_section(item, result) for item in _ordered(result)]
    body = el("body", _header(result), el("main", _reading(result), *sections, _damages(result.damages)))
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n"


def _ordered(result: SelftestResult) -> list[ProtocolRecord]:
    return sorted(result.protocols, key=lambda item: "-fixed/" not in item.id)


def _class(cell: Cell) -> str:
    return "c{:02x}{:02x}{:02x}".format(*colour(cell))


def _shades(result: SelftestResult) -> str:
    """One rule for each colour: the page's policy allows no style attributes."""
    rules = set()
    for cell in result.cells:
        ink = "#fff" if is_dark(colour(cell)) else "#777" if cell.verdict == "no claim" else "#111"
        rules.add(f".heat td.{_class(cell)}.{_tone(cell)} {{ background: #{_class(cell)[1:]}; color: {ink}; }}")
    return "\n".join(sorted(rules)) + "\n"


def _tone(cell: Cell) -> str:
    return "faint" if cell.verdict == "no claim" else "clear"


def _header(result: SelftestResult) -> Html:
    links = [el("a", item.id, href=f"#{_anchor(item.id)}") for item in _ordered(result)]
    title = el("div", el("p", "macebench self-test", class_="eyebrow"), el("h1", "What each number sees"))
    return el("header", title, el("nav", *links, aria_label="Protocols"), class_="top")


def _anchor(protocol: str) -> str:
    return protocol.replace("/", "-")


def _reading(result: SelftestResult) -> Html:
    facts = (
        ("clips", result.source),
        ("halves", f"{result.n_half} clips against the others, {result.repeats} random splits"),
        ("seed", str(result.seed)),
    )  # fmt: skip
    items = [el("div", el("dt", name), el("dd", text)) for name, text in facts]
    marks = "; ".join(f"{mark} {WORDS[verdict]}" for verdict, mark in MARKS.items() if mark)
    return el(
        "section", el("h2", "How to read it"), el("dl", *items, class_="facts"),
        el("p", "Known damages are done to these dances, at increasing strength. A cell shows d' at the strongest: how "
                "far the column moves towards worse, in deviations of its own noise over random half splits. From 1 on "
                "it counts as an answer; 99 is the end of the scale."),
        el("p", f"Red says worse, blue says better; pale cells have no claim. Framed cells fail: {marks}."),
        el("p", "What was expected of each column was declared before anything was measured, and it is the same for "
                "all protocols. A published variant that fails is shown failing.", class_="muted"),
    )  # fmt: skip


def _section(record: ProtocolRecord, result: SelftestResult) -> Html:
    cells = result.of(record.id)[1]
    cards, without = result.measured(record.id)
    names = [item.name for item in result.damages if any((card.column, item.name) in cells for card in cards)]
    failures = sum(cell.verdict in FAILURES for cell in cells.values())
    judged = sum(cell.claim != "none" and cell.verdict not in ("not measured", "refused") for cell in cells.values())
    kind = "good" if not failures else "warn"
    return el(
        "section", el("h2", record.id, " ", el("code", record.hash)), el("p", record.title, class_="muted"),
        el("p", f"{failures} of {judged} judged cells fail.", class_=f"verdict {kind}"),
        el("div", _heat(cards, cells, names), class_="scroll"),
        el("p", f"Without a value: {', '.join(without)}.", class_="muted") if without else None,
        el("h3", "Report card"), el("div", _cards(cards), class_="scroll"), id=_anchor(record.id),
    )  # fmt: skip


def _heat(cards: Sequence[Card], cells: dict[tuple[str, str], Cell], names: Sequence[str]) -> Html:
    head = el("tr", el("th", ""), *(el("th", _lines(name), scope="col") for name in names))
    rows = [
        el("tr", el("th", card.column, scope="row"), *(_cell(cells.get((card.column, name))) for name in names))
        for card in cards
    ]
    return el("table", el("thead", head), el("tbody", *rows), class_="heat")


def _lines(name: str) -> Html:
    return join(name.split("-"), Html("-<wbr>"))


def _cell(cell: Cell | None) -> Html:
    if cell is None:
        return el("td", "")
    values = ", ".join(short(level.value) if level.value is not None else "none" for level in cell.levels)
    found = f"; found from {cell.found_from:g}" if cell.found_from is not None else ""
    order = "" if cell.monotone else "; not monotone"
    hint = f"{cell.column} under {cell.damage}: {WORDS[cell.verdict]}; values {values}{found}{order}"
    failed = " failed" if cell.verdict in FAILURES else ""
    return el("td", label(cell), class_=f"{_class(cell)} {_tone(cell)}{failed}", title=hint)


def _cards(cards: Sequence[Card]) -> Html:
    titles = (
        "column", "clean", "aim", "smallest difference seen", "n", "mean d'", "right", "invariant", "monotone",
        "worst blind spot", "fails under",
    )  # fmt: skip
    head = el("tr", *(el("th", title, scope="col") for title in titles))
    return el("table", el("thead", head), el("tbody", *(_card(card) for card in cards)), class_="cards")


def _card(card: Card) -> Html:
    blind = "" if card.blind_spot is None else f"{card.blind_spot} ({_number(card.blind_spot_d_prime)})"
    aim = _number(card.reference) if card.better == "reference" else ARROWS[card.better]
    cells = (
        _number(card.clean), aim, _number(card.detectable), str(card.n), _number(card.mean_d_prime),
        share(card.share_right, card.n_worse), share(card.share_invariant, card.n_unchanged),
        share(card.share_monotone, card.n_worse),
    )  # fmt: skip
    return el(
        "tr", el("th", breakable(card.column), title=DIRECTIONS[card.better], scope="row"),
        *(el("td", text) for text in cells),
        el("td", blind, class_="text"), el("td", ", ".join(card.failures), class_="text"),
    )  # fmt: skip


def _number(value: float | None) -> str:
    return "–" if value is None else short(value)


def share(value: float | None, count: int) -> str:
    """A share as a count: ``4 of 5``; a dash without one."""
    return "–" if value is None else f"{round(value * count)} of {count}"


def _damages(damages: Sequence[DamageRecord]) -> Html:
    head = el("tr", el("th", "damage"), el("th", "what happens"), el("th", "strengths"), el("th", "unit"))
    rows = [
        el("tr", el("th", item.name, scope="row"), el("td", item.summary),
           el("td", ", ".join(f"{value:g}" for value in item.strengths)), el("td", item.unit))
        for item in damages
    ]  # fmt: skip
    table = el("table", el("thead", head), el("tbody", *rows), class_="reasons")
    return el("section", el("h2", "The damages"), el("div", table, class_="scroll"))
