"""What a reader must know beside the table of a section: how to read it, who barely moves, copies of training clips."""

from __future__ import annotations

from collections.abc import Sequence

from macebench.report.activity import MOVING_RATIO, RULE
from macebench.report.groups import error_column
from macebench.report.markup import Html, el, join
from macebench.report.model import Contamination, CopyCount, Section
from macebench.report.numbers import plural
from macebench.report.tables import copies_table

_NO_INTERVAL = (
    "Fréchet distances and diversity have no interval: they are of a whole set, and a resample repeats clips, "
    "which moves the value itself, so that a bootstrap interval would lie beside its own estimate."
)


def comparison_remark(section: Section, sections: Sequence[Section]) -> Html | None:
    """That rows of different protocols do not compare, where a page has several."""
    if len(sections) < 2:
        return None
    others = ", ".join(item.protocol.id for item in sections if item is not section)
    text = (
        f"Numbers of this section do not compare with those of {others}: columns of the same name are computed by "
        "another recipe."
    )
    return el("p", text, class_="muted small")


def how_to_read(section: Section, *, compares: bool) -> list[Html]:
    """The legend of the summary, and what is known of its uncertainty."""
    text = (
        "↑ higher is better, ↓ lower is better, ≈ nearer to the ground truth (the reference set's own value) is "
        "better, and gap is the distance to it. Green: best of its column among models whose dances move. "
        "n counts the clips behind a value; a clip that lacks any value is incomplete. "
        "Calibration rows are known changes of real dances and take no part in that. "
        "Only rows of one protocol hash compare."
    )
    text += " Δ is the evaluated model minus the row it stands in." if compares else ""
    return [el("p", text, class_="muted small"), el("p", _uncertainty(section), class_="muted small")]


def _uncertainty(section: Section) -> str:
    names = {column.name for column in section.columns}
    lines = []
    if any(row.intervals for row in section.rows):
        lines.append(
            "a … b under a mean is its 95 % bootstrap interval; clips of one piece of music (of one file, where the "
            "music is the video's own) are drawn together."
        )
    if names & {"fid_k", "fid_g", "div_k", "div_g"}:
        lines.append(_NO_INTERVAL)
        beside = ["n"]
        if any(name.startswith("fid_infinity") for name in names):
            beside.append("fid_infinity, extrapolated to infinite n")
        if any(error_column(name) in names for name in names if name.startswith("kid")):
            beside.append("kid, unbiased and with its standard error (±)")
        lines.append(f"Read them with {'; '.join(beside)}; `macebench compare` tests whether two runs differ.")
    return " ".join(lines)


def activity_remark(section: Section) -> Html | None:
    """A warning when an evaluated model barely moves."""
    rows = [row for row in section.rows if row.still and row.kind != "calibration"]
    if not rows:
        return None
    items = [el("li", f"{row.name} {row.still}.") for row in rows]
    text = (
        f"Barely moves: {RULE} (the limit is {100 * MOVING_RATIO:.0f} % of its share). Standing still is rewarded by "
        "distances, foot scores and picture scores: where such a value is good, the table says so."
    )
    return el("div", el("strong", "Too little dance."), el("ul", *items), el("p", text, class_="small"),
              class_="callout", role="note")  # fmt: skip


def contamination_part(section: Section) -> Html | None:
    """How many generated clips are copies of training clips, and the nearest ones."""
    found = section.contamination
    if found is None:
        return None
    text = (
        "For each generated clip the training clip that is nearest in feature space. The ratio is that distance over "
        "what is usual between two real clips: 1 is usual, 0 a copy. A near clip is no proof: look at the pair."
    )
    parts = [el("h3", "Copies of training clips"), *(_copies(count) for count in found.counts)]
    return join([*parts, *_worst(found), el("p", text, class_="muted small")])


def _copies(count: CopyCount) -> Html:
    text = (
        f"{count.model}: {count.n_near} of {plural(count.n_clips, 'clip')} near a training clip, {count.n_exact} exact."
    )
    return el("p", text, class_="verdict warn" if count.n_near else "verdict good")


def _worst(found: Contamination) -> list[Html]:
    if not found.worst:
        return []
    return [el("details", el("summary", f"The {plural(len(found.worst), 'clip')} nearest to training data"),
               copies_table(found.worst), open=any(copy.exact or copy.near for copy in found.worst))]  # fmt: skip
