"""Plots as inline SVG. Colours come from the style sheet's classes, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from macebench.report.groups import without_errors
from macebench.report.markup import Html, breakable, el, join
from macebench.report.model import ColumnView, CurveView, RowView, Section
from macebench.report.numbers import ARROWS, plural, short
from macebench.types import FloatArray

_WIDTH, _HEIGHT = 760.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 8.0, 18.0, 24.0
_MAX_POINTS = 700
_BAR_WIDTH, _BAR_ROW, _LABEL_WIDTH, _VALUE_WIDTH = 380.0, 22.0, 120.0, 62.0
# Logarithmic from the first ratio on; a ratio above the second is rounding beside a value, unless both are large.
_LOG_RATIOS = (60.0, 1e6)
_LARGE = 1e-3
_Along = Callable[[float], float]


def speed_plot(curve: CurveView) -> Html:
    """Motion speed over time with music beats (lines) and motion beats (dots)."""
    times, speed = curve.times_s, curve.speed
    if len(times) < 2 or not np.isfinite(speed).any():
        return el("p", "No motion speed: the clip has no usable pose or motion.", class_="muted small")
    start, end = float(times[0]), float(times[-1])
    top = float(np.nanmax(speed)) * 1.05 or 1.0

    def x(time_s: float) -> float:
        return _LEFT + (time_s - start) / (end - start) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)

    music = [value for value in curve.music_beats_s if start <= value <= end]
    motion = [value for value in curve.motion_beats_s if start <= value <= end]
    label = (
        f"Motion speed over {end - start:.1f} seconds, {plural(len(music), 'music beat')}, "
        f"{plural(len(motion), 'motion beat')}"
    )
    lines = Html(" ".join(f"M{x(value):.1f} {_TOP:g}V{_HEIGHT - _BOTTOM:g}" for value in music))
    dots = [
        el("circle", class_="motion", cx=f"{x(at):.1f}", cy=f"{y(float(np.interp(at, times, speed))):.1f}", r="3.5")
        for at in motion
    ]
    return el(
        "svg", el("title", label), _axes((start, end), top, curve.unit, x, y), el("path", class_="music", d=lines),
        el("path", class_="speed", d=_path(times, speed, x, y)), *dots,
        class_="plot", viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img", aria_label=label,
    )  # fmt: skip


def _path(times: FloatArray, values: FloatArray, x: _Along, y: _Along) -> Html:
    """An SVG path; a value that is not finite interrupts it."""
    step = max(1, math.ceil(len(times) / _MAX_POINTS))
    parts: list[str] = []
    pen = "M"
    for time_s, value in zip(times[::step], values[::step], strict=True):
        if not math.isfinite(value):
            pen = "M"
            continue
        parts.append(f"{pen}{x(float(time_s)):.1f} {y(float(value)):.1f}")
        pen = "L"
    return Html("".join(parts))


def _axes(span: tuple[float, float], top: float, unit: str, x: _Along, y: _Along) -> Html:
    base = _HEIGHT - _BOTTOM
    parts = [el("path", class_="axis", d=f"M{_LEFT:g} {base:g}H{_WIDTH - _RIGHT:g}")]
    for value in ticks(*span, 8):
        at = f"{x(value):.1f}"
        parts.append(el("text", f"{value:g} s", class_="tick", x=at, y=f"{_HEIGHT - 8:g}", text_anchor="middle"))
    for value in ticks(0.0, top, 3):
        at = f"{y(value):.1f}"
        parts.append(el("path", class_="gridline", d=f"M{_LEFT:g} {at}H{_WIDTH - _RIGHT:g}"))
        parts.append(el("text", f"{value:g}", class_="tick", x=f"{_LEFT - 6:g}", y=at, dy="3.5", text_anchor="end"))
    parts.append(el("text", unit, class_="tick", x=f"{_LEFT - 6:g}", y="9", text_anchor="end"))
    return join(parts)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 round numbers between `low` and `high`."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return []
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= raw), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def bar_pictures(section: Section) -> list[Html]:
    """One small bar chart for each score that any row has: all rows on one scale, the reference's value as a line.

    Whiskers are the intervals of means. A standard error has no picture of its own.
    """
    rows = [row for row in section.rows if row.kind != "reference"]
    truth = next((row for row in section.rows if row.kind == "reference"), None)
    shown = without_errors(column.name for column in section.columns)
    pictures = []
    for column in section.columns:
        if column.name in shown and any(math.isfinite(row.value(column.name)) for row in rows):
            own = truth.value(column.name) if truth is not None else math.nan
            pictures.append(_bars(column, rows, section.aims.get(column.name, own)))
    return pictures


def _bars(column: ColumnView, rows: Sequence[RowView], aim: float) -> Html:
    values = [row.value(column.name) for row in rows]
    ends = [_ends(row, column.name) for row in rows]
    scale = _Scale([value for value in (*values, aim, *(end for pair in ends for end in pair)) if math.isfinite(value)])
    height = _BAR_ROW * len(rows) + 4
    placed = list(enumerate(zip(rows, values, strict=True)))
    parts = [_bar(row, value, scale, index) for index, (row, value) in placed if math.isfinite(value)]
    parts += [_whisker(pair, scale, index) for index, pair in enumerate(ends) if math.isfinite(pair[1] - pair[0])]
    if math.isfinite(aim):
        parts.append(el("path", class_="aim", d=f"M{scale.x(aim):.1f} 0V{height:g}"))
    parts += [_bar_texts(row, value, ends[index][1], scale, index) for index, (row, value) in placed]
    title = join([breakable(column.name), f" {ARROWS[column.better]}"])
    facts = [column.unit] if column.unit != "1" else []
    facts += ["log scale"] if scale.log else []
    facts += [f"reference {short(aim)}"] if math.isfinite(aim) else []
    listed = ", ".join(f"{row.name} {short(value)}" for row, value in zip(rows, values, strict=True))
    picture = el(
        "svg", el("title", f"{column.name}: {listed}"), *parts,
        class_="bars", viewBox=f"0 0 {_BAR_WIDTH:g} {height:g}", role="img", aria_label=f"{column.name}: {listed}",
    )  # fmt: skip
    caption = el("figcaption", el("strong", title), el("span", " · ".join(facts), class_="muted small"))
    return el("figure", caption, picture, class_="card bar-card")


def _ends(row: RowView, column: str) -> tuple[float, float]:
    """The ends of a value's interval; NaN when it has none."""
    interval = row.intervals.get(column)
    return (math.nan, math.nan) if interval is None else (interval.low, interval.high)


def _whisker(ends: tuple[float, float], scale: _Scale, index: int) -> Html:
    low, high = (f"{scale.x(end):.1f}" for end in ends)
    middle = _BAR_ROW * index + 12
    caps = "".join(f"M{end} {middle - 3:g}v6" for end in (low, high))
    return el("path", class_="whisker", d=f"M{low} {middle:g}H{high}{caps}")


class _Scale:
    """From a value to a horizontal position: linear from zero, or logarithmic when values differ by far."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = min(values, default=0.0), max(values, default=1.0)
        self.log = low > 0 and high / low > _LOG_RATIOS[0] and (high / low < _LOG_RATIOS[1] or low > _LARGE)
        self.low = math.log10(low) - 0.3 if self.log else min(low, 0.0)
        self.high = math.log10(high) if self.log else max(high, 0.0)
        if not self.high > self.low:
            self.high = self.low + 1.0

    def x(self, value: float) -> float:
        at = math.log10(value) if self.log else value
        return _LABEL_WIDTH + (at - self.low) / (self.high - self.low) * (_BAR_WIDTH - _LABEL_WIDTH - _VALUE_WIDTH)

    @property
    def zero(self) -> float:
        return _LABEL_WIDTH if self.log else self.x(0.0)


def _bar(row: RowView, value: float, scale: _Scale, index: int) -> Html:
    one, two = sorted((scale.zero, scale.x(value)))
    width = max(two - one, 1.5)
    return el(
        "rect", class_=f"bar {row.kind}", x=f"{one:.1f}", y=f"{_BAR_ROW * index + 5:g}", width=f"{width:.1f}",
        height="14", rx="2",
    )  # fmt: skip


def _bar_texts(row: RowView, value: float, top: float, scale: _Scale, index: int) -> Html:
    """The row's name before the bar and the value behind it and its whisker, which ends at `top`."""
    finite = math.isfinite(value)
    baseline = f"{_BAR_ROW * index + 16:g}"
    name = row.name if len(row.name) <= 17 else f"{row.name[:16]}…"
    label = el(
        "text", el("title", row.name), name, class_=f"bar-name {row.kind}", x=f"{_LABEL_WIDTH - 8:g}", y=baseline,
        text_anchor="end",
    )  # fmt: skip
    reach = [scale.x(end) for end in (value, top) if math.isfinite(end)] if finite else []
    end = max([scale.zero, *reach])
    number = el(
        "text", short(value) if finite else "not scored", class_="bar-value" if finite else "bar-value missing",
        x=f"{end + 5:.1f}", y=baseline,
    )  # fmt: skip
    return join([label, number])


def legend(items: Iterable[tuple[str, str]]) -> Html:
    """A line that explains marks: (class, text) pairs."""
    return el("p", *(el("span", el("i", class_=f"key {mark}"), text) for mark, text in items), class_="legend small")
