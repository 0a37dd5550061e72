"""The tables of the page: summary, reasons and notes, copies of training clips, and the clips.

In the summary the best value of a column is marked: the smallest distance to the ground truth where nearer to it is
better. A calibration row and a row that barely moves are never best: they are there to be compared with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from macebench.deviations import deviations_of
from macebench.metrics._sets import UNSURE
from macebench.report.activity import is_flattered
from macebench.report.groups import error_column, grouped, without_errors
from macebench.report.markup import Html, breakable, el, join
from macebench.report.model import ClipView, ColumnView, CopyView, RowView, Section
from macebench.report.numbers import ARROWS, DIRECTIONS, plural, short
from macebench.results import EXTRAPOLATED, FEATURE_PREFIX, ScoreRecord

if TYPE_CHECKING:
    from macebench.metrics.statistics import Interval

_KIND_TEXT = {
    "evaluated": "evaluated",
    "other": "",
    "calibration": "calibration",
    "against": "compared with",
    "reference": "",
}


def summary_table(section: Section) -> Html:
    """Rows are models, columns are scores in groups; what helps to read a value stands under it."""
    names = without_errors(column.name for column in section.columns)
    groups = grouped(names)
    firsts = {members[0] for _, members in groups}
    columns = {column.name: column for column in section.columns}
    cells = [_Column(columns[name], section, name in firsts) for _, members in groups for name in members]
    bands = [el("th", group, scope="colgroup", colspan=len(members), class_="group") for group, members in groups]
    heads = el("tr", el("th", "model", scope="col"), *(cell.head() for cell in cells))
    first = next((row for row in section.rows if row.kind == "evaluated"), None)
    rows = [_summary_row(row, cells, first) for row in section.rows]
    table = el("table", el("thead", el("tr", el("td"), *bands), heads), *rows, class_="summary")
    return el("div", table, class_="scroll", tabindex="0", role="region", aria_label="Summary")


class _Column:
    """One column of the summary table: its header and its cells."""

    def __init__(self, view: ColumnView, section: Section, first: bool) -> None:
        self.view, self.section, self.first = view, section, first
        rows = [row for row in section.rows if row.kind != "reference"]
        self.best = best_cost(view, section, [row for row in rows if _competes(row)])
        costs = sorted(cost for row in rows if math.isfinite(cost := section.cost(row, view)))
        self.middle = costs[(len(costs) - 1) // 2] if costs else math.nan

    def head(self) -> Html:
        view, aim = self.view, self.section.aims.get(self.view.name, math.nan)
        arrow = el("span", ARROWS[view.better], class_="arrow", title=DIRECTIONS[view.better])
        unit = el("span", view.unit, class_="unit") if view.unit != "1" else None
        truth = el("span", f"ref {short(aim)}", class_="unit") if math.isfinite(aim) else None
        away = self._deviation()
        return el("th", breakable(view.name), " ", arrow, unit, truth, away, scope="col", title=view.summary or None,
                  class_="first" if self.first else None)  # fmt: skip

    def _deviation(self) -> Html | None:
        """How far this column of an approximating protocol was found from the exact one."""
        known = deviations_of(self.section.protocol.id)
        found = known.dimensions.get(self.view.name) if known is not None else None
        if known is None or found is None:
            return None
        text = f"off by {short(found.median)}, ≤ {short(found.max)}"
        return el("span", text, class_="unit", title=known.legend)

    def cell(self, row: RowView, first: RowView | None) -> Html:
        name, record = self.view.name, row.scores.get(self.view.name)
        if record is None:
            return el("td", class_="none first" if self.first else "none")
        value = row.value(name)
        is_best = _competes(row) and self.section.cost(row, self.view) == self.best
        shown = el("strong" if is_best else "span", short(value), class_="best" if is_best else "value")
        parts = [shown, *self._below(row), _counts(record, row), self._change(row, first)]
        return el("td", *parts, title=repr(value) if math.isfinite(value) else None,
                  class_="first" if self.first else None)  # fmt: skip

    def _below(self, row: RowView) -> list[Html]:
        """Distance to the truth, interval or standard error, and a warning where standing still is rewarded."""
        gap, interval = self.section.gap(row, self.view.name), row.intervals.get(self.view.name)
        error = row.value(error_column(self.view.name))
        lines = []
        if row.kind != "reference" and math.isfinite(gap):
            lines.append(el("span", f"gap {short(gap)}", class_="under gap", title="distance to the ground truth"))
        if interval is not None:
            lines.append(el("span", f"{short(interval.low)} … {short(interval.high)}", class_="under interval",
                            title=interval_text(interval)))  # fmt: skip
        if math.isfinite(error):
            lines.append(el("span", f"± {short(error)}", class_="under", title="standard error"))
        if row.still and is_flattered(self.view.name) and self.section.cost(row, self.view) <= self.middle:
            lines.append(el("span", el("span", "barely moves", class_="lost"), class_="under", title=row.still))
        return lines

    def _change(self, row: RowView, first: RowView | None) -> Html | None:
        name = self.view.name
        if row.kind != "against" or first is None or not math.isfinite(row.value(name) - first.value(name)):
            return None
        return el("span", f"Δ {first.value(name) - row.value(name):+.3g}", class_="under")


def _competes(row: RowView) -> bool:
    """Whether a row can be the best of a column."""
    return row.kind not in ("reference", "calibration") and not row.still


def interval_text(interval: Interval) -> str:
    """What an interval is, in one line."""
    return f"{100 * interval.level:g} % bootstrap interval of the mean over {plural(interval.n_clusters, 'cluster')}"


def best_cost(column: ColumnView, section: Section, rows: Iterable[RowView]) -> float:
    """The smallest cost (`Section.cost`) of a column; NaN when fewer than two rows have one.

    Also NaN for an extrapolated distance of which a row says that its clips are too few, or that is below 0: no
    distance is, so that such values have no order.
    """
    rows = list(rows)
    if EXTRAPOLATED in column.name and any(_unsure(row, column.name) for row in rows):
        return math.nan
    finite = [cost for row in rows if math.isfinite(cost := section.cost(row, column))]
    return min(finite) if len(finite) > 1 else math.nan


def _unsure(row: RowView, column: str) -> bool:
    record = row.scores.get(column)
    return row.value(column) < 0 or (record is not None and any(UNSURE in note for note in record.notes))


def _summary_row(row: RowView, columns: Iterable[_Column], first: RowView | None) -> Html:
    tag = el("span", _KIND_TEXT[row.kind], class_="tag") if _KIND_TEXT[row.kind] else None
    still = el("span", "barely moves", class_="lost", title=row.still) if row.still else None
    lost = el("span", f"{row.n_incomplete} incomplete", class_="lost", title="clips that lack at least one value")
    parts = [tag, lost if row.n_incomplete else None, still]
    count = el("span", plural(row.n_clips, "clip"), *(part for part in parts if part is not None), class_="under")
    name = el("th", el("span", row.name, class_="name"), count, scope="row", title=row.summary or None)
    return el("tbody", el("tr", name, *(column.cell(row, first) for column in columns)), class_=row.kind)


def _counts(record: ScoreRecord, row: RowView) -> Html | None:
    """n, and what is unscored; a mean over all clips of the row says nothing."""
    if not record.n_unscored:
        whole = record.n == row.n_clips and record.name in row.intervals
        return None if whole else el("span", f"n {record.n}", class_="under")
    reasons = "; ".join(f"{reason}: {count}" for reason, count in record.reasons.items())
    lost = el("span", f"{record.n_unscored} unscored", class_="lost", title=reasons)
    return el("span", f"n {record.n} ", lost, class_="under")


def copies_table(copies: Sequence[CopyView]) -> Html:
    """The clips that are nearest to a training clip, worst first."""
    texts = ("generated clip", "nearest training clip", "distance", "ratio", "copy")
    head = el("tr", *(el("th", text, scope="col") for text in texts))
    body = [
        el("tr", el("td", breakable(copy.clip_id)), el("td", breakable(copy.nearest)),
           el("td", short(copy.distance), class_="number"), el("td", short(copy.ratio), class_="number"),
           el("td", _copy_badge(copy)))
        for copy in copies
    ]  # fmt: skip
    return el("div", el("table", el("thead", head), el("tbody", *body), class_="reasons copies"), class_="scroll")


def _copy_badge(copy: CopyView) -> Html | None:
    if not (copy.exact or copy.near):
        return None
    return el("span", "exact copy" if copy.exact else "near copy", class_="badge not-scored")


def columns_list(columns: Sequence[ColumnView]) -> Html:
    """What each column means."""
    items = [
        join([
            el("dt", f"{column.name} {ARROWS[column.better]}"),
            el("dd", f"{column.summary or 'no description'} ({DIRECTIONS[column.better]})"),
        ])
        for column in columns
    ]  # fmt: skip
    return el("dl", *items, class_="columns")


def reasons_table(rows: Iterable[RowView]) -> Html | None:
    """Why values are missing, and notes on those that are there: one line for each model and text."""
    lines: dict[tuple[str, str, str, int], list[str]] = {}
    for row in rows:
        for name, record in row.scores.items():
            for reason, count in record.reasons.items():
                lines.setdefault((row.name, "not scored", reason, count), []).append(name)
            for note, count in record.notes.items():
                lines.setdefault((row.name, "note", note, count), []).append(name)
    if not lines:
        return None
    head = el("tr", *(el("th", text, scope="col") for text in ("model", "what", "why", "clips", "columns")))
    body = [
        el("tr", el("td", name), el("td", el("span", what, class_=f"badge {what.replace(' ', '-')}")), el("td", text),
           el("td", count, class_="number"), el("td", join(map(breakable, names), ", ")))
        for (name, what, text, count), names in lines.items()
    ]  # fmt: skip
    return el("div", el("table", el("thead", head), el("tbody", *body), class_="reasons"), class_="scroll")


def clips_table(section: Section, linked: frozenset[str], anchors: Mapping[str, str]) -> Html:
    """One row for each clip, sortable by its headers; worst first."""
    features = list(section.clips[0].distances) if section.clips else []
    columns = [column for column in section.columns if section.clips and column.name in section.clips[0].values]
    heads = [_sort_head("worst", "number", "ascending"), _sort_head("clip", "text"), _sort_head("seconds", "number")]
    heads += [_sort_head(column.name, "number", arrow=ARROWS[column.better]) for column in columns]
    heads += [_sort_head(f"{name} distance", "number", arrow="↓") for name in features]
    body = [
        _clip_row(rank, clip, columns, features, anchors[clip.clip_id] if clip.clip_id in linked else "")
        for rank, clip in enumerate(section.clips, start=1)
    ]
    table = el("table", el("thead", el("tr", *heads)), el("tbody", *body), class_="clips sortable")
    return el("div", table, class_="scroll tall", tabindex="0", role="region", aria_label="Clips")


def _sort_head(name: str, kind: str, sorted_as: str = "none", arrow: str = "") -> Html:
    button = el("button", breakable(name), f" {arrow}" if arrow else "", type="button")
    return el("th", button, scope="col", aria_sort=sorted_as, data_kind=kind)


def _clip_row(rank: int, clip: ClipView, columns: Iterable[ColumnView], features: Iterable[str], anchor: str) -> Html:
    """A row; its sort keys stand in one attribute because neighbours that lack the same value share a cell."""
    values = [(column.name, clip.values[column.name]) for column in columns]
    values += [(f"{FEATURE_PREFIX}{name}", clip.distances[name]) for name in features]
    keys = [rank, clip.clip_id, *(_finite(value) for value in (clip.duration_s, *(value for _, value in values)))]
    name = breakable(clip.clip_id)
    cells = [
        el("td", rank, class_="number"),
        el("th", el("a", name, href=f"#{anchor}") if anchor else name, scope="row", class_="clip-name"),
        el("td", f"{clip.duration_s:.1f}", class_="number"),
        *_value_cells(clip, values),
    ]
    return el("tr", *cells, data_keys=json.dumps(keys))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _value_cells(clip: ClipView, values: Sequence[tuple[str, float]]) -> list[Html]:
    cells = []
    for text, group in groupby(values, key=lambda item: _why_missing(clip, *item)):
        run = list(group)
        if text:
            span = len(run) if len(run) > 1 else None
            cells.append(el("td", text, class_="missing", colspan=span))
        else:
            cells += [_number_cell(value, clip.notes.get(name)) for name, value in run]
    return cells


def _number_cell(value: float, note: str | None) -> Html:
    mark = el("span", " *", class_="lost") if note else None
    return el("td", short(value), mark, class_="number", title=note)


def _why_missing(clip: ClipView, key: str, value: float) -> str:
    """``not scored: reason``; empty for a value that is there."""
    if math.isfinite(value):
        return ""
    reason = clip.reasons.get(key)
    if reason is None and key.startswith(FEATURE_PREFIX):
        return "no distance: the reference has fewer than 2 clips with this feature"
    return f"not scored: {reason or 'no reason given'}"


def pairs_table(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values, two columns."""
    body = [el("tr", el("th", name, scope="row"), el("td", value)) for name, value in pairs]
    return el("table", el("tbody", *body), class_="pairs")
