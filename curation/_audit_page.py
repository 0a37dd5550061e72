"""The audit for people: one PNG with distributions, one HTML page with tables and the PNG inside."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

from macebench.curation.audit import AuditReport, Finding
from macebench.store import atomic_write, write_text

MAX_SHOWN = 200
_CLIPS_SHOWN = 8
_BARS = 12
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#1b1b1b}"
    "table{border-collapse:collapse;margin:1em 0}th,td{text-align:left;padding:.25em .8em;border-bottom:1px solid #ddd;"
    "vertical-align:top;overflow-wrap:anywhere}.error{color:#a40000;font-weight:600}.warning{color:#8a5a00}"
    ".note{color:#555}img{max-width:100%}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(report: AuditReport, path: Path) -> list[Path]:
    """Write ``path`` (JSON), and beside it a PNG and an HTML page with the same stem; equal reports give equal bytes.

    Returns:
        The paths.

    Raises:
        UserError: they cannot be written.
    """
    json_path = Path(path)
    picture = figure_png(report)
    write_text(json_path, json.dumps(report.as_dict(), indent=2, sort_keys=True) + "\n")
    png, page = json_path.with_suffix(".png"), json_path.with_suffix(".html")
    with atomic_write(png) as temporary:
        temporary.write_bytes(picture)
    write_text(page, page_html(report, picture))
    return [json_path, png, page]


def figure_png(report: AuditReport) -> bytes:
    """Clips of each genre, frame rate and size, by split."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), dpi=110, layout="constrained")
    panels = (("genre", "genres"), ("frames a second", "fps"), ("size", "sizes"))
    for axes, (title, name) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        values = {split: getattr(one, name) for split, one in report.splits.items()}
        labels = _labels(values)
        left = [0.0] * len(labels)
        for split, counts in values.items():
            widths = [float(counts.get(label, 0)) for label in labels]
            axes.barh(range(len(labels)), widths, left=left, label=split.replace("$", r"\$")[:24])
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(labels)), [label.replace("$", r"\$")[:20] for label in labels])
        axes.invert_yaxis()
        axes.set_xlabel("clips")
        axes.set_title(title)
        if name == "genres" and values:
            axes.legend(frameon=False, fontsize="small")
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _labels(values: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The most frequent values of all splits."""
    totals: dict[str, int] = {}
    for counts in values.values():
        for label, count in counts.items():
            totals[label] = totals.get(label, 0) + count
    return sorted(totals, key=lambda label: (-totals[label], label))[:_BARS]


def page_html(report: AuditReport, picture: bytes) -> str:
    """The page; everything that comes from the data set is escaped."""
    state = "errors found" if report.failed else "no errors"
    image = base64.b64encode(picture).decode()
    splits = [
        (name, one.clips, f"{one.hours:.3f}", _top(one.genres), _top(one.fps), _top(one.sizes), one.without_sound)
        for name, one in report.splits.items()
    ]
    kinds = [(severity, kind, count) for (severity, kind), count in report.counts().items()]
    findings = [(one.severity, one.kind, one.detail, _clips(one)) for one in report.findings[:MAX_SHOWN]]
    more = len(report.findings) - MAX_SHOWN
    parts = [
        f"<h1>Audit of {html.escape(report.dataset)}</h1>",
        f"<p>{report.clips} clips, {state}.</p>",
        _table(("split", "clips", "hours", "genres", "frames a second", "sizes", "without sound"), splits),
        f'<img alt="Distributions" src="data:image/png;base64,{image}">',
        "<h2>Findings</h2>",
        _table(("severity", "kind", "number"), kinds) if kinds else "<p>None.</p>",
        _table(("severity", "kind", "what", "clips"), findings) if findings else "",
        f"<p>{more} more are in the JSON file.</p>" if more > 0 else "",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Audit of {html.escape(report.dataset)}</title><style>{_STYLE}</style></head><body>"
        f"{''.join(parts)}</body></html>\n"
    )


def _top(counts: Mapping[str, int]) -> str:
    shown = [f"{name}: {count} clip{'' if count == 1 else 's'}" for name, count in list(counts.items())[:_BARS]]
    return ", ".join([*shown, *(["..."] if len(counts) > _BARS else [])])


def _clips(one: Finding) -> str:
    shown = ", ".join(one.clips[:_CLIPS_SHOWN])
    return f"{shown} and {len(one.clips) - _CLIPS_SHOWN} more" if len(one.clips) > _CLIPS_SHOWN else shown


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def cells(tag: str, row: Sequence[object]) -> str:
        return "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row)

    lines = []
    for row in rows:
        kind = f' class="{row[0]}"' if row[0] in ("error", "warning", "note") else ""
        lines.append(f"<tr{kind}>{cells('td', row)}</tr>")
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
