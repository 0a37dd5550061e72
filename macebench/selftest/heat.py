"""What the picture and the page share: the colour, the number and the mark of a cell."""

from __future__ import annotations

import math

from macebench.selftest.schema import Cell, Verdict

MARKS: dict[Verdict, str] = {"wrong": "✗", "blind": "○", "changed": "△", "refused": "–", "not measured": ""}
WORDS: dict[Verdict, str] = {
    "right": "notices the damage",
    "wrong": "says better where it is worse",
    "blind": "does not notice the damage",
    "changed": "moves though it must not",
    "refused": "the damaged clips are not scored",
    "invariant": "does not move, as it must",
    "no claim": "no claim",
    "not measured": "no value",
}
FULL_COLOUR_AT = 8.0
_WORSE, _BETTER, _NOTHING = (214, 96, 50), (38, 110, 190), (246, 246, 246)


def number(cell: Cell | None) -> str:
    """The d' in at most three characters and a sign; empty without a value."""
    if cell is None or cell.d_prime is None:
        return ""
    value = cell.d_prime
    if abs(value) < 0.05:
        return "0"
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"


def label(cell: Cell | None) -> str:
    """The number with the mark of its verdict."""
    if cell is None:
        return ""
    return f"{number(cell)} {MARKS.get(cell.verdict, '')}".strip()


def colour(cell: Cell | None) -> tuple[int, int, int]:
    """Red for "worse", blue for "better", on a logarithmic scale up to `FULL_COLOUR_AT`; paler without a claim."""
    if cell is None or cell.d_prime is None:
        return (255, 255, 255)
    size = min(math.log1p(abs(cell.d_prime)) / math.log1p(FULL_COLOUR_AT), 1.0)
    size *= 0.3 if cell.verdict == "no claim" else 1.0
    aim = _WORSE if cell.d_prime > 0 else _BETTER
    red, green, blue = (round(base + (end - base) * size) for base, end in zip(_NOTHING, aim, strict=True))
    return red, green, blue


def is_dark(shade: tuple[int, int, int]) -> bool:
    """Whether white text reads better on it."""
    return 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2] < 140
