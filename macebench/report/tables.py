"""The tables of the page: summary, reasons and notes, and the clips."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from macebench.report.markup import Html, breakable, el, join
from macebench.report.numbers import ARROWS, DIRECTIONS, plural, short
from macebench.report.view import ClipView, ColumnView, RowView, Section
from macebench.results import FEATURE_PREFIX, ScoreRecord

_KIND_TEXT = {
    "evaluated": "evaluated",
    "other": "",
    "calibration": "calibration",
    "against": "compared with",
    "reference": "",
}


def summary_table(section: Section) -> Html:
    """Rows are models, columns are scores; n and the unscored clips stand under each value."""
    best = {column.name: best_value(column, section.rows) for column in section.columns}
    head = el("tr", el("th", "model", scope="col"), *(_score_head(column) for column in section.columns))
    first = next((row for row in section.rows if row.kind == "evaluated"), None)
    rows = [_summary_row(row, section.columns, best, first) for row in section.rows]
    table = el("table", el("thead", head), *rows, class_="summary")
    return el("div", table, class_="scroll", tabindex="0", role="region", aria_label="Summary")


def best_value(column: ColumnView, rows: Iterable[RowView]) -> float:
    """The best value of a column; NaN when its direction is *reference* or fewer than two rows have one."""
    values = [row.value(column.name) for row in rows if row.kind != "reference"]
    finite = [value for value in values if math.isfinite(value)]
    if column.better == "reference" or len(finite) < 2:
        return math.nan
    return max(finite) if column.better == "higher" else min(finite)


def _score_head(column: ColumnView) -> Html:
    arrow = el("span", ARROWS[column.better], class_="arrow", title=DIRECTIONS[column.better])
    unit = el("span", column.unit, class_="unit") if column.unit != "1" else None
    return el("th", breakable(column.name), " ", arrow, unit, scope="col", title=column.summary or None)


def _summary_row(
    row: RowView, columns: Iterable[ColumnView], best: Mapping[str, float], first: RowView | None
) -> Html:  # fmt: skip
    tag = el("span", _KIND_TEXT[row.kind], class_="tag") if _KIND_TEXT[row.kind] else None
    lost = el("span", f"{row.n_incomplete} incomplete", class_="lost", title="clips that lack at least one value")
    count = el("span", plural(row.n_clips, "clip"), *([" ", lost] if row.n_incomplete else []), tag, class_="under")
    name = el("th", el("span", row.name, class_="name"), count, scope="row", title=row.summary or None)
    cells = [_score_cell(row, column.name, best[column.name], first) for column in columns]
    return el("tbody", el("tr", name, *cells), class_=row.kind)


def _score_cell(row: RowView, name: str, best: float, first: RowView | None) -> Html:
    record = row.scores.get(name)
    if record is None:
        return el("td", class_="none")
    value = row.value(name)
    is_best = row.kind != "reference" and value == best
    shown = el("strong" if is_best else "span", short(value), class_="best" if is_best else "value")
    change = None
    if row.kind == "against" and first is not None and math.isfinite(value - first.value(name)):
        change = el("span", f"Δ {first.value(name) - value:+.3g}", class_="under")
    return el("td", shown, _counts(record), change, title=repr(value) if math.isfinite(value) else None)


def _counts(record: ScoreRecord) -> Html:
    if not record.n_unscored:
        return el("span", f"n {record.n}", class_="under")
    reasons = "; ".join(f"{reason}: {count}" for reason, count in record.reasons.items())
    lost = el("span", f"{record.n_unscored} unscored", class_="lost", title=reasons)
    return el("span", f"n {record.n} ", lost, class_="under")


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
