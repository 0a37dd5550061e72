"""Numbers and counts for people: short and aligned."""

from __future__ import annotations

import math

from macebench.results import Entry

NO_VALUE = "–"
ARROWS = {"higher": "↑", "lower": "↓", "reference": "≈"}
_NOISE = 1e-12
DIRECTIONS = {
    "higher": "higher is better",
    "lower": "lower is better",
    "reference": "nearer to the reference is better",
}


def short(value: float) -> str:
    """About three significant digits, at most seven characters; NaN is a dash, rounding noise below 1e-12 is 0.

    Example:
        >>> [short(x) for x in (0.98765, 12.3456, 1234.5, 0.00012, 1.5e7, float("nan"))]
        ['0.988', '12.35', '1234', '1.2e-04', '1.5e+07', '–']
    """
    if math.isnan(value):
        return NO_VALUE
    size = abs(value)
    if size < _NOISE:
        return "0"
    if math.isinf(value):
        return f"{value:g}"
    if size >= 1e5 or size < 5e-4:
        return f"{value:.1e}"
    digits = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:.{digits}f}"


def plural(count: int, noun: str) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def incomplete(entry: Entry) -> int | None:
    """Clips of an entry that lack at least one value; None when its ``result.json`` is too old to say."""
    return entry.n_incomplete if "n_incomplete" in entry.model_fields_set else None
