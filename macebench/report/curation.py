"""The page about a curated data set: yield, histograms with thresholds, pictures of what was kept and dropped.

One HTML file that opens from disk, without script and without anything from outside; pictures are inside it. Equal
data sets give equal bytes.
"""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from macebench.curation.config import CurateConfig
from macebench.curation.dataset import LEDGER_FILE, METADATA, METADATA_FILE
from macebench.curation.explain import limits, load_dataset
from macebench.report.markup import Html, el, join
from macebench.report.numbers import plural
from macebench.report.page import policy
from macebench.report.plots import ticks
from macebench.store import write_text
from macebench.types import FloatArray

SUMMARY_FILE = "summary.html"
_BINS = 40
_WIDTH, _HEIGHT, _LEFT, _BASE = 380.0, 130.0, 8.0, 108.0
_MOST_ROWS = 30
_STYLE = """
.yield { width: 100%; } .yield td:nth-child(n+3), .yield th:nth-child(n+3) { text-align: right; }
.funnel rect.kept { fill: var(--good); } .funnel rect.lost { fill: var(--bad); opacity: .75; }
.hist rect.kept { fill: var(--accent); } .hist rect.lost { fill: var(--bad); opacity: .75; }
.hist .limit { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 4 3; }
.hist text, .funnel text { fill: var(--muted); font-size: 10.5px; } .hist .axis { stroke: var(--line); fill: none; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 1rem; }
.grid figure { margin: 0; } .grid figcaption { font-size: .84rem; }
.thumbs { display: flex; flex-wrap: wrap; gap: .7rem; } .thumbs figure { margin: 0; width: 164px; }
.thumbs img { max-width: 160px; max-height: 160px; border-radius: 6px; display: block; }
.thumbs figcaption { font-size: .74rem; color: var(--muted); overflow-wrap: anywhere; line-height: 1.3; }
.key.kept { background: var(--accent); } .key.lost { background: var(--bad); }
.funnel { max-width: 760px; width: 100%; }
"""


@dataclass
class _Scores:
    """Values of one score, of kept clips and of rejected spans."""

    kept: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)


@dataclass
class _View:
    """What the page shows."""

    dataset: Path
    summary: Mapping[str, Any]
    config: CurateConfig
    scores: dict[str, _Scores] = field(default_factory=lambda: defaultdict(_Scores))
    genres: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    sources: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    kept_pictures: list[tuple[str, str]] = field(default_factory=list)
    lost_pictures: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))


def write_summary(dataset: Path) -> Path:
    """Write ``summary.html`` into a data set folder made by curate, and return its path.

    Raises:
        UserError: no such data set.
    """
    view = _load(Path(dataset))
    target = Path(dataset) / SUMMARY_FILE
    write_text(target, _page(view))
    return target


def _load(dataset: Path) -> _View:
    summary, config = load_dataset(dataset)
    view = _View(dataset, summary, config)
    for row in _rows(dataset / METADATA_FILE):
        _add_clip(view, row)
    for row in _rows(dataset / LEDGER_FILE):
        for name, value in json.loads(row["scores"]).items():
            view.scores[name].lost.append(float(value))
        if row["thumbnail"]:
            text = f"{row['source_name']} {_span(row)}{_judged(row)}"
            view.lost_pictures[row["stage"], row["reason"]].append((row["thumbnail"], text))
    return view


def _add_clip(view: _View, row: Mapping[str, Any]) -> None:
    length = row["end_s"] - row["start_s"]
    for place in (view.genres[row["genre"]], view.sources[row["source_name"], row["source_id"]]):
        place[0] += 1
        place[1] += length
    for name, value in row.items():
        if name not in METADATA and value is not None:
            view.scores[name].kept.append(float(value))
    picture = f"thumbnails/{row['clip_id']}.jpg"
    if (view.dataset / picture).is_file():
        view.kept_pictures.append((picture, f"{row['source_name']} {_span(row)}"))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(8192):
            yield from batch.to_pylist()


def _span(row: Mapping[str, Any]) -> str:
    end = "end" if row["end_s"] is None else f"{row['end_s']:.1f}"
    return f"{row['start_s']:.1f}–{end} s"


def _judged(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return ""
    return f" · {row['value']:.3g}" + ("" if row["threshold"] is None else f" against {row['threshold']:.3g}")


def _page(view: _View) -> str:
    style = Html(resources.files("macebench.report").joinpath("style.css").read_text("utf-8") + _STYLE)
    head = el(
        "head", el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy(style, Html(""))),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"), el("meta", name="referrer", content="no-referrer"),
        el("title", "Data set · macebench curate"), el("style", style),
    )  # fmt: skip
    sections = [_overview(view), _yield(view), _histograms(view), _kept(view), _lost(view), _hours(view)]
    title = el("div", el("p", "macebench curate", class_="eyebrow"), el("h1", "Data set"))
    body = el("body", el("header", title, class_="top"), el("main", *sections))
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n"


def _overview(view: _View) -> Html:
    summary = view.summary
    splits = ", ".join(f"{name} {count}" for name, count in summary["splits"].items()) or "none"
    facts = {
        "clips": f"{summary['n_clips']} ({length(summary['clip_seconds'])})",
        "sources": f"{summary['n_sources']} ({length(summary['source_seconds'])})",
        "splits": splits, "stages": ", ".join(view.config.stages), "hash": summary["hash"][:16],
        "settings": summary["config_hash"][:16],
    }  # fmt: skip
    pairs = [el("div", el("dt", name), el("dd", value)) for name, value in facts.items()]
    parts = [el("h2", "Overview"), el("dl", *pairs, class_="facts")]
    if summary["unfinished"]:
        text = ", ".join(f"{count} × {reason}" for reason, count in summary["unfinished"].items())
        parts.append(el("div", f"Not done, and tried again by the next run: {text}.", class_="callout", role="note"))
    parts += [el("p", note, class_="muted small") for note in summary["split_notes"]]
    for text, key in (("Stage {} looked with", "observers"), ("Where the settings of {} have none:", "in_force")):
        for name, values in sorted(summary.get(key, {}).items()):
            said = ", ".join(f"{field} {value}" for field, value in sorted(values.items()))
            parts.append(el("p", f"{text.format(name)} {said}.", class_="muted small"))
    return el("section", *parts)


def _yield(view: _View) -> Html:
    """What is left after each stage, and every reason."""
    rejected = view.summary["rejected"]
    rows = [
        el("tr", el("td", item["stage"]), el("td", item["reason"]), el("td", item["spans"]),
           el("td", length(item["seconds"]) if item["seconds"] else "–"))
        for item in rejected
    ]  # fmt: skip
    head = el("thead", el("tr", *(el("th", name) for name in ("stage", "reason", "spans", "time"))))
    table = el("div", el("table", head, el("tbody", *rows), class_="yield"), class_="scroll")
    note = "Time is that of the spans. What windows leave over is not counted; neither is what could not be opened."
    return el("section", el("h2", "Yield"), _funnel(view), table, el("p", note, class_="muted small"))


def _funnel(view: _View) -> Html:
    """Hours that are left after each stage."""
    lost: dict[str, float] = defaultdict(float)
    for item in view.summary["rejected"]:
        if item["reason"] != "duplicate":
            lost[item["stage"]] += item["seconds"]
    order = ["probe", "decode", *(name for name in view.config.stages if name != "probe"), "cut"]
    left = total = float(view.summary["source_seconds"])
    bars = [("sources", total, 0.0)]
    for name in [name for name in order if name in lost or name in view.config.stages]:
        left -= lost.get(name, 0.0)
        bars.append((f"after {name}", max(left, 0.0), lost.get(name, 0.0)))
    bars.append(("clips", float(view.summary["clip_seconds"]), 0.0))
    return _bars(bars, max(total, 1e-9))


def _bars(bars: Sequence[tuple[str, float, float]], top: float) -> Html:
    parts = []
    for index, (name, value, lost) in enumerate(bars):
        y, width, gone = index * 22, 480 * value / top, 480 * lost / top
        parts += [
            el("text", name, x="112", y=y + 15, text_anchor="end"),
            el("rect", class_="kept", x="120", y=y + 4, width=f"{width:.1f}", height="14", rx="2"),
            el("rect", class_="lost", x=f"{120 + width:.1f}", y=y + 4, width=f"{gone:.1f}", height="14", rx="2"),
            el("text", length(value), x=f"{126 + width + gone:.1f}", y=y + 15),
        ]
    label = ", ".join(f"{name} {length(value)}" for name, value, _ in bars)
    return el("svg", el("title", label), *parts, class_="funnel", viewBox=f"0 0 760 {len(bars) * 22 + 4}", role="img",
              aria_label=label)  # fmt: skip


def _histograms(view: _View) -> Html:
    known = limits(view.config)
    order = {name: index for index, name in enumerate(view.config.stages)}
    names = sorted(view.scores, key=lambda name: (order.get(name.partition(".")[0], 99), name not in known, name))
    figures = [_histogram(name, view.scores[name], known.get(name)) for name in names]
    key = el("p", el("span", el("i", class_="key kept"), "kept clips"), " ",
             el("span", el("i", class_="key lost"), "rejected spans"), class_="legend small")  # fmt: skip
    shown = [item for item in figures if item is not None]
    return el("section", el("h2", "Scores"), key, el("div", *shown, class_="grid"))


def _histogram(name: str, scores: _Scores, limit: tuple[str, Any] | None) -> Html | None:
    """Counts over the range of the values; a dashed line is the threshold."""
    kept, lost = _finite(scores.kept), _finite(scores.lost)
    both = np.concatenate([kept, lost])
    if not len(both) or (both.min() == both.max() and limit is None):
        return None
    compared = limit is not None and isinstance(limit[1], int | float) and not isinstance(limit[1], bool)
    threshold = float(limit[1]) if limit is not None and compared else math.nan
    low, high = _range(both, threshold)
    counts = [np.histogram(np.clip(part, low, high), _BINS, (low, high))[0] for part in (kept, lost)]
    top = max(int((counts[0] + counts[1]).max()), 1)
    parts = [_columns(counts, top), _axis(low, high)]
    if math.isfinite(threshold):
        at = f"{_along(threshold, low, high):.1f}"
        parts.append(el("path", class_="limit", d=f"M{at} 4V{_BASE:g}"))
    said = f"{limit[0]} = {limit[1]}" if limit is not None else "no threshold"
    label = f"{name}: {plural(len(kept), 'kept clip')}, {plural(len(lost), 'rejected span')}; {said}"
    picture = el("svg", el("title", label), *parts, class_="hist", viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img",
                 aria_label=label)  # fmt: skip
    caption = el("figcaption", el("strong", name), " ", el("span", said, class_="muted small"))
    return el("figure", caption, picture, class_="card bar-card")


def _finite(values: Iterable[float]) -> FloatArray:
    array = np.array(list(values), np.float64)
    return array[np.isfinite(array)]


def _range(values: FloatArray, threshold: float) -> tuple[float, float]:
    """The range of nearly all values and the threshold; a few far ones are put into the outermost columns."""
    low, high = float(np.quantile(values, 0.005)), float(np.quantile(values, 0.995))
    if math.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold)
    return (low - 0.5, high + 0.5) if low == high else (low, high)


def _along(value: float, low: float, high: float) -> float:
    return _LEFT + (value - low) / (high - low) * (_WIDTH - 2 * _LEFT)


def _columns(counts: Sequence[Any], top: int) -> Html:
    width = (_WIDTH - 2 * _LEFT) / _BINS
    parts = []
    for index, (kept, lost) in enumerate(zip(*counts, strict=True)):
        base = _BASE
        for count, name in ((int(kept), "kept"), (int(lost), "lost")):
            if count:
                tall = max(count / top * (_BASE - 8), 1.0)
                base -= tall
                parts.append(el("rect", class_=name, x=f"{_LEFT + index * width:.1f}", y=f"{base:.1f}",
                                width=f"{width - 0.6:.1f}", height=f"{tall:.1f}"))  # fmt: skip
    return join(parts)


def _axis(low: float, high: float) -> Html:
    marks = [
        el("text", f"{value:g}", x=f"{_along(value, low, high):.1f}", y=f"{_HEIGHT - 6:g}", text_anchor="middle")
        for value in ticks(low, high, 5)
    ]
    return join([el("path", class_="axis", d=f"M{_LEFT:g} {_BASE:g}H{_WIDTH - _LEFT:g}"), *marks])


def _kept(view: _View) -> Html:
    shown, clips = len(view.kept_pictures), int(view.summary["n_clips"])
    text = f"Pictures of {shown} of {plural(clips, 'clip')}; max_thumbnails is {view.config.general.max_thumbnails}."
    note = el("p", text, class_="muted small") if 0 < shown < clips else None
    return el("section", el("h2", "Kept"), _thumbnails(view.dataset, view.kept_pictures), note)


def _lost(view: _View) -> Html:
    parts: list[Html] = [el("h2", "Rejected")]
    for (stage, reason), pictures in sorted(view.lost_pictures.items()):
        parts += [el("h3", f"{stage}: {reason}"), _thumbnails(view.dataset, pictures)]
    return el("section", *parts)


def _thumbnails(dataset: Path, pictures: Sequence[tuple[str, str]]) -> Html:
    if not pictures:
        return el("p", "No pictures.", class_="muted small")
    figures = []
    for path, text in sorted(pictures):
        data = base64.b64encode((dataset / path).read_bytes()).decode("ascii")
        figures.append(
            el("figure", el("img", src=Html(f"data:image/jpeg;base64,{data}"), alt=text), el("figcaption", text))
        )
    return el("div", *figures, class_="thumbs")


def _hours(view: _View) -> Html:
    sources = {name: value for (name, _), value in view.sources.items()}
    return el("section", el("h2", "Clips and time"), _sums("genre", view.genres), _sums("source", sources))


def _sums(what: str, sums: Mapping[str, Sequence[float]]) -> Html:
    ordered = sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))
    rows = [
        el("tr", el("td", name), el("td", round(count)), el("td", length(seconds)))
        for name, (count, seconds) in ordered[:_MOST_ROWS]
    ]
    head = el("thead", el("tr", el("th", what), el("th", "clips"), el("th", "time")))
    more = len(ordered) - _MOST_ROWS
    note = el("p", f"and {more} more", class_="muted small") if more > 0 else None
    return join([el("h3", f"By {what}"), el("table", head, el("tbody", *rows)), note])


def length(seconds: float) -> str:
    """A length for people."""
    return (
        f"{seconds / 3600:.2f} h"
        if seconds >= 3600
        else f"{seconds / 60:.1f} min"
        if seconds >= 60
        else f"{seconds:.1f} s"
    )
