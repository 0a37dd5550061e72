"""The page itself: one HTML file that opens from disk, without network and without anything from outside.

Its content security policy allows the page's own style and script, by hash, and ``data:`` pictures; nothing else.
Equal run folders and videos give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from macebench.media import Decoder
from macebench.report.figures import is_motion, motion_strip
from macebench.report.markup import Html, el, join
from macebench.report.model import ClipView, RunView, Section
from macebench.report.numbers import plural, short
from macebench.report.plots import bar_pictures, legend, speed_plot
from macebench.report.remarks import activity_remark, comparison_remark, contamination_part, how_to_read
from macebench.report.strips import clip_strip
from macebench.report.tables import clips_table, columns_list, pairs_table, reasons_table, summary_table
from macebench.report.view import load_view
from macebench.results import REPORT_FILE, split_piece
from macebench.store import write_text

MAX_CLIPS = 60


def write_report(
    run: Path, *, out: Path | None = None, against: Path | None = None, max_clips: int = MAX_CLIPS
) -> Path:  # fmt: skip
    """Write one self-contained HTML page about a run.

    Args:
        run: Run folder.
        out: HTML file; ``report.html`` in the run folder when None.
        against: Another run folder, whose rows are shown beside those of the same protocol hash.
        max_clips: Clips that get pictures and plots; the worst ones.

    Returns:
        The path of the page.

    Raises:
        UserError: a run folder cannot be read, or `against` shares no protocol hash with it.
    """
    view = load_view(run, against)
    target = Path(out) if out is not None else Path(run) / REPORT_FILE
    with Decoder() as decoder:
        text = page(view, decoder, max_clips)
    write_text(target, text)
    return target


def page(view: RunView, decoder: Decoder, max_clips: int = MAX_CLIPS) -> str:
    """The text of the page."""
    style, script = Html(_resource("style.css")), Html(_resource("sort.js"))
    shown = worst_clips(view.sections)[:max_clips]
    head = el(
        "head", el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy(style, script)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"), el("meta", name="referrer", content="no-referrer"),
        el("title", f"{view.model or 'macebench run'} · macebench report"), el("style", style),
    )  # fmt: skip
    body = el(
        "body", _header(view),
        el("main", _warnings(view), _cautions(view), *(_section(item, view, shown) for item in view.sections),
           _clips(view, shown, decoder), _environment(view)),
        el("script", script),
    )  # fmt: skip
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n"


def _resource(name: str) -> str:
    return resources.files("macebench.report").joinpath(name).read_text("utf-8").replace("\r\n", "\n")


def policy(style: str, script: str) -> str:
    """The content security policy for exactly this style and script."""
    return (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def worst_clips(sections: Sequence[Section]) -> list[ClipView]:
    """Each clip once, by its worst place in any section; the first section decides among equals."""
    places: dict[str, tuple[int, int]] = {}
    views: dict[str, ClipView] = {}
    for number, section in enumerate(sections):
        for place, clip in enumerate(section.clips):
            places[clip.clip_id] = min(places.get(clip.clip_id, (place, number)), (place, number))
            views.setdefault(clip.clip_id, clip)
    return [views[name] for name in sorted(views, key=lambda name: places[name])]


def _anchors(clips: Iterable[ClipView]) -> dict[str, str]:
    return {clip.clip_id: f"clip-{index}" for index, clip in enumerate(clips, start=1)}


def _header(view: RunView) -> Html:
    links = [("#summary-1", "Summary"), ("#clips", "Clips"), ("#environment", "Environment")]
    navigation = el("nav", *(el("a", text, href=link) for link, text in links), aria_label="Page")
    title = el("h1", view.model or "Empty run")
    return el("header", el("div", el("p", "macebench report", class_="eyebrow"), title), navigation, class_="top")


def _warnings(view: RunView) -> Html | None:
    if not view.warnings:
        return None
    items = [el("li", text) for text in view.warnings]
    return el("div", el("strong", "This run folder was changed after it was written."), el("ul", *items),
              class_="callout bad", role="alert")  # fmt: skip


def _cautions(view: RunView) -> Html | None:
    if not view.cautions:
        return None
    items = [el("li", text) for text in view.cautions]
    return el("div", el("strong", "Read these scores with care."), el("ul", *items), class_="callout", role="note")


def _section(section: Section, view: RunView, shown: Sequence[ClipView]) -> Html:
    number = list(view.sections).index(section) + 1
    protocol = section.protocol
    title = el("h2", protocol.title, " ", el("code", protocol.id))
    evaluated = [row for row in section.rows if row.kind in ("evaluated", "other")]
    parts = [
        title, comparison_remark(section, view.sections), _facts(section), _verdict(section), activity_remark(section),
        summary_table(section), *how_to_read(section, compares=_compares(section)),
        *_not_compared(section, view.against), _reasons(section, evaluated), _bars(section),
        contamination_part(section), _about(section), _clip_part(section, shown),
    ]  # fmt: skip
    return el("section", *parts, id=f"summary-{number}")


def _facts(section: Section) -> Html:
    protocol = section.protocol
    reference, backend = protocol.reference, protocol.pose_backend
    pairs: list[tuple[str, object]] = [("protocol hash", el("code", protocol.hash))]
    if reference is not None:
        text = join([f"{reference.name} · n {reference.n} · ", el("code", reference.sha256[:12])])
        pairs.append(("reference", text))
    if backend is not None:
        text = join([f"{backend.name} · {backend.model} · ", el("code", backend.weights_sha256[:12])])
        pairs.append(("pose back end", text))
    windows = protocol.sampling.window_frames is not None
    pairs.append(("windows" if windows else "clips", len(section.clips)))
    return el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in pairs), class_="facts")


def _verdict(section: Section) -> Html:
    """One sentence: is everything scored?"""
    total, lacking = len(section.clips), sum(clip.n_unscored > 0 for clip in section.clips)
    if not total:
        return el("p", "No clip was evaluated.", class_="verdict bad")
    if not lacking:
        return el("p", f"Every value of all {plural(total, 'clip')} is scored.", class_="verdict good")
    reasons: dict[str, int] = {}
    for clip in section.clips:
        for reason in set(clip.reasons.values()):
            reasons[reason] = reasons.get(reason, 0) + 1
    listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))
    return el("p", f"{lacking} of {plural(total, 'clip')} lack at least one value: {listed}.", class_="verdict warn")


def _compares(section: Section) -> bool:
    return any(row.kind == "against" for row in section.rows)


def _not_compared(section: Section, against: str) -> list[Html]:
    if not section.not_compared:
        return []
    items = [el("li", line) for line in section.not_compared]
    return [el("div", el("strong", f"Not compared with {against}: its protocol differs."), el("ul", *items),
               class_="callout")]  # fmt: skip


def _reasons(section: Section, evaluated: Sequence[object]) -> Html | None:
    mine = reasons_table([row for row in section.rows if row in evaluated])
    others = reasons_table([row for row in section.rows if row not in evaluated])
    if mine is None and others is None:
        return None
    parts = [el("h3", "Not scored, and notes")]
    parts += [mine] if mine is not None else [el("p", "Nothing to say of the evaluated model.", class_="muted")]
    parts += [el("details", el("summary", "Other rows"), others)] if others is not None else []
    return join(parts)


def _bars(section: Section) -> Html | None:
    pictures = bar_pictures(section)
    if not pictures:
        return None
    marks = [("k-evaluated", "evaluated"), ("k-calibration", "calibration"), ("k-aim", "value of the reference set"),
             ("k-whisker", "95 % interval of a mean")]  # fmt: skip
    marks += [("k-against", "compared with")] if _compares(section) else []
    return join([el("h3", "Where the model stands"), legend(marks), el("div", *pictures, class_="tiles")])


def _about(section: Section) -> Html:
    protocol = section.protocol
    parts = [el("h3", "About the protocol"), el("p", protocol.description)]
    if protocol.known_defects:
        items = [el("li", text) for text in protocol.known_defects]
        parts.append(el("div", el("strong", "Known defects"), el("ul", *items), class_="callout"))
    if protocol.changes:
        items = [el("li", text) for text in protocol.changes]
        parts.append(el("details", el("summary", "What it changes"), el("ul", *items)))
    parts.append(el("details", el("summary", "What the columns mean"), columns_list(section.columns)))
    parts.append(el("p", f"Source: {protocol.source}", class_="muted small"))
    return join(parts)


def _clip_part(section: Section, shown: Sequence[ClipView]) -> Html | None:
    if not section.clips:
        return None
    text = (
        "Worst first: clips with more unscored values, then by mean rank over the columns; where nearer to the "
        "reference is better, the distance from the reference set's mean counts. Feature distances are from the "
        "reference's mean, in its deviations. Click a header to sort."
    )
    anchors = _anchors(shown)
    table = clips_table(section, frozenset(anchors), anchors)
    return join([el("h3", f"All {plural(len(section.clips), 'clip')}"), el("p", text, class_="muted small"), table])


def _clips(view: RunView, shown: Sequence[ClipView], decoder: Decoder) -> Html:
    total = len({clip.clip_id for section in view.sections for clip in section.clips})
    if not shown:
        return el("section", el("h2", "Clips"), el("p", "There are no clips to show.", class_="muted"), id="clips")
    said = (
        f"The {len(shown)} worst of {total} clips."
        if len(shown) < total
        else f"All {plural(total, 'clip')}, worst first."
    )
    marks = [("k-left", "dancer's left"), ("k-right", "right"), ("k-speed", "motion speed"),
             ("k-music", "music beat"), ("k-motion", "motion beat")]  # fmt: skip
    anchors = _anchors(shown)
    cards = [_card(clip, anchors[clip.clip_id], view, decoder) for clip in shown]
    toggle = None
    if any("<image" in card for card in cards):
        toggle = el("label", el("input", type="checkbox", id="show-pose", checked=True), " show poses", class_="toggle")
    return el("section", el("h2", "Clips"), el("p", said, class_="muted"), toggle, legend(marks), *cards, id="clips")


def _card(clip: ClipView, anchor: str, view: RunView, decoder: Decoder) -> Html:
    title = el("h3", clip.clip_id, " ", el("span", f"{clip.duration_s:.1f} s", class_="muted small"))
    parts: list[Html] = [title, _strip(clip, view, decoder)]
    for section in view.sections:
        mine = next((item for item in section.clips if item.clip_id == clip.clip_id), None)
        if mine is not None:
            parts.append(_scores(mine, section, len(view.sections) > 1))
            curve = view.curves.get((section.protocol.hash, clip.clip_id))
            parts += [speed_plot(curve)] if curve is not None else []
    return el("article", *parts, class_="card clip", id=anchor)


def _strip(clip: ClipView, view: RunView, decoder: Decoder) -> Html:
    """Pictures of the video, or figures of the motion."""
    path = view.videos.get(clip.clip_id, "")
    if not is_motion(path):
        return clip_strip(clip.clip_id, clip.sha256, clip.duration_s, path, view.run, decoder)
    cut = any(
        section.protocol.sampling.window_frames is not None and clip in section.clips for section in view.sections
    )
    start_s = split_piece(clip.clip_id)[1] if cut else 0.0
    return motion_strip(clip.sha256, path, start_s, clip.duration_s, view.run)


def _scores(clip: ClipView, section: Section, named: bool) -> Html:
    """The clip's values in one line, then its reasons."""
    values = [
        el("span", el("span", name, class_="muted"), f" {short(value)}", class_="chip")
        for name, value in clip.values.items()
        if value == value  # noqa: PLR0124 - not NaN
    ]
    reasons: dict[str, list[str]] = {}
    for name, reason in clip.reasons.items():
        reasons.setdefault(reason, []).append(name.removeprefix("feature."))
    lost = [
        el("span", f"not scored: {reason} ", el("span", ", ".join(names), class_="muted"), class_="chip lost")
        for reason, names in reasons.items()
    ]
    title = [el("code", section.protocol.id)] if named else []
    return el("p", *title, *values, *lost, class_="chips")


def _environment(view: RunView) -> Html:
    pairs: list[tuple[str, object]] = list(view.environment.items())
    parts = [el("h2", "Environment and time"), el("div", pairs_table(pairs), *_timing(view), class_="columns-2")]
    return el("section", *parts, id="environment")


def _timing(view: RunView) -> list[Html]:
    if not view.seconds:
        return [el("p", "No timing was kept.", class_="muted")]
    pairs: list[tuple[str, object]] = [(name, f"{value:.2f} s") for name, value in view.seconds.items()]
    return [pairs_table([*pairs, ("total", f"{sum(view.seconds.values()):.2f} s")])]
