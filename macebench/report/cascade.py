"""The page of a cascade gap: one table a protocol, generated against ground-truth motions under the same animator."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from macebench.report.markup import Html, breakable, el, join
from macebench.report.numbers import ARROWS, DIRECTIONS, NO_VALUE, plural, short
from macebench.report.page import policy

if TYPE_CHECKING:
    from macebench.cascade import Cascade
    from macebench.compare_records import Contrast, ProtocolComparison

HEADS = (
    "score",
    "generated motion",
    "ground-truth motion",
    "difference",
    "95 % interval",
    "effect",
    "p",
    "p Holm",
    "n",
)
EXPLANATION = (
    "Both sets of motions went through the same animator, with the same camera, look and music. The difference is "
    "generated minus ground truth; what the animator itself does wrong is in both columns. Bold: the difference is "
    "more than chance (Holm-adjusted p at most 0.05). Set metrics have no interval."
)


def cells(test: Contrast) -> list[str]:
    """The texts of a row, in the order of `HEADS`."""

    def one(value: float | None) -> str:
        return NO_VALUE if value is None else short(value)

    interval = NO_VALUE if test.low is None or test.high is None else f"[{short(test.low)}, {short(test.high)}]"
    return [
        f"{test.name} {ARROWS[test.better]}", one(test.first), one(test.second), one(test.difference), interval,
        one(test.effect), one(test.p_value), one(test.p_holm), str(test.n),
    ]  # fmt: skip


def remarks(result: Cascade) -> list[str]:
    """What became of pairs and values that are not in the tables."""
    lines = [f"not rendered: {name}: {why}" for name, why in result.rendered.failed.items()]
    lines += [f"note: {count} x {note}" for note, count in result.rendered.notes.items()]
    for part in result.comparison.protocols:
        lines += [f"{part.protocol}: not paired: {count} x {why}" for why, count in part.unpaired.items()]
        lost: dict[str, list[str]] = {}
        for test in part.tests:
            for why, count in (test.unscored or ({test.reason: 0} if test.reason else {})).items():
                lost.setdefault(f"{count} x {why}" if count else why, []).append(test.name)
        lines += [f"{part.protocol}: not scored: {why}  ({', '.join(names)})" for why, names in lost.items()]
    return lines


def cascade_page(result: Cascade) -> str:
    """The text of the page; self-contained, without script."""
    style = Html(resources.files("macebench.report").joinpath("style.css").read_text("utf-8").replace("\r\n", "\n"))
    head = el(
        "head", el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy(style, "")),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"), el("meta", name="referrer", content="no-referrer"),
        el("title", "cascade gap · macebench report"), el("style", style),
    )  # fmt: skip
    parts = [_section(part) for part in result.comparison.protocols]
    lines = remarks(result)
    notes = el("section", el("h2", "Remarks"), el("ul", *(el("li", line) for line in lines))) if lines else None
    main = el("main", el("p", EXPLANATION), *parts, *([notes] if notes is not None else []))
    return f"<!DOCTYPE html>\n{el('html', head, el('body', el('header', el('h1', 'Cascade gap')), main), lang='en')}\n"


def _section(part: ProtocolComparison) -> Html:
    heads = el("tr", *(el("th", text, scope="col") for text in HEADS))
    table = el("table", el("thead", heads), el("tbody", *(_row(test) for test in part.tests)), class_="reasons")
    title = el("h2", f"{part.protocol} ", el("code", part.protocol_hash), f" · {plural(part.n_pairs, 'pair')}")
    return el(
        "section", title, el("div", table, class_="scroll", tabindex="0", role="region", aria_label=part.protocol)
    )


def _row(test: Contrast) -> Html:
    name, *numbers = cells(test)
    mark = "strong" if test.significant else "span"
    shown = [el("td", el(mark, text), class_="number") for text in numbers]
    title = DIRECTIONS[test.better]
    return el("tr", el("th", join([breakable(name)]), scope="row", title=title), *shown)
