"""What the page shows, read from a run folder and put in order; no HTML here.

A *section* is one resolved protocol: its rows (evaluated model first, then other models, those of a run to compare
with, calibration rows), the reference set's own values, and the evaluated model's clips, worst first.

Worst first means: clips with more unscored values before others; among equals, by the mean rank over the clip's
values. A value's rank follows its direction; where the direction is *reference*, what counts is the distance from
the reference set's mean. Each feature adds the clip's distance from the reference's mean, in its deviations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from macebench import registry
from macebench.aggregate import aggregate
from macebench.errors import UserError
from macebench.media import file_sha256
from macebench.protocol import Protocol
from macebench.registry import Metric
from macebench.report.numbers import incomplete, plural
from macebench.results import CLIPS_FILE, CURVES_FILE, FEATURE_PREFIX, TIMING_FILE, Entry, RunResult, ScoreRecord
from macebench.tables import read_clips, read_curves, value_columns
from macebench.types import Better, FloatArray

if TYPE_CHECKING:
    import pandas as pd

RowKind = Literal["evaluated", "other", "calibration", "against", "reference"]
_KINDS: tuple[RowKind, ...] = ("evaluated", "other", "against", "calibration", "reference")
_CONSTANT = 1e-6


@dataclass(frozen=True)
class ColumnView:
    """One score column."""

    name: str
    unit: str
    better: Better
    summary: str


@dataclass(frozen=True)
class RowView:
    """One row of the summary table; `name` is what people read, `n_incomplete` clips lack at least one value."""

    name: str
    kind: RowKind
    summary: str
    n_clips: int
    scores: Mapping[str, ScoreRecord]
    n_incomplete: int | None = None

    def value(self, column: str) -> float:
        """The value; NaN when there is none."""
        record = self.scores.get(column)
        return math.nan if record is None or record.value is None else record.value


@dataclass(frozen=True)
class ClipView:
    """One clip of the evaluated model under one protocol.

    Attributes:
        clip_id: Its id.
        sha256: Hash of the video file.
        duration_s: Seconds.
        values: Clip metric values by column; NaN when unscored.
        distances: Distance from the reference's mean by feature, in its deviations; NaN when there is no feature.
        reasons: Why a column or ``feature.<name>`` has no value.
        notes: Notes by column.
    """

    clip_id: str
    sha256: str
    duration_s: float
    values: Mapping[str, float]
    distances: Mapping[str, float]
    reasons: Mapping[str, str]
    notes: Mapping[str, str]

    @property
    def n_unscored(self) -> int:
        """Values and features that this clip lacks."""
        return sum(not math.isfinite(value) for value in self.values.values()) + sum(
            f"{FEATURE_PREFIX}{name}" in self.reasons for name in self.distances
        )


@dataclass(frozen=True)
class Section:
    """Everything under one resolved protocol."""

    protocol: Protocol
    columns: Sequence[ColumnView]
    rows: Sequence[RowView]
    clips: Sequence[ClipView]
    not_compared: Sequence[str] = ()


@dataclass(frozen=True)
class CurveView:
    """Motion speed of one clip with its beats; arrays of seconds and pixels a second."""

    times_s: FloatArray
    speed: FloatArray
    motion_beats_s: FloatArray
    music_beats_s: FloatArray


@dataclass(frozen=True)
class RunView:
    """A whole run folder.

    `warnings` say what was changed after it was written, `cautions` what weakens its scores.
    """

    run: Path
    model: str
    sections: Sequence[Section]
    curves: Mapping[tuple[str, str], CurveView]
    videos: Mapping[str, str]
    environment: Mapping[str, str]
    seconds: Mapping[str, float]
    against: str = ""
    warnings: Sequence[str] = field(default_factory=tuple)
    cautions: Sequence[str] = field(default_factory=tuple)


def load_view(run: Path, against: Path | None = None) -> RunView:
    """Read a run folder.

    Raises:
        UserError: it is none, a table is broken, or `against` shares no protocol hash with it.
    """
    run = Path(run)
    result = RunResult.read(run)
    clips = read_clips(run / CLIPS_FILE)
    model = result.entries[0].model.name if result.entries else ""
    other = RunResult.read(against) if against is not None else None
    name = Path(against).name if against is not None else ""
    if other is not None:
        _need_common(result, other, name)
    sections = [_section(result, digest, clips, model, other, name) for digest in result.protocols]
    curves, videos = _curves(run, model)
    return RunView(
        run, model, sections, curves, videos, result.environment, _seconds(run), name, _warnings(run, result),
        _cautions(result),
    )  # fmt: skip


def parse(stored: Mapping[str, Any], digest: str) -> Protocol:
    """The protocol of a ``result.json``."""
    try:
        return Protocol.model_validate(stored)
    except ValidationError as error:
        raise UserError(f"protocol {digest} of the run is not valid: {error.errors()[0]['msg']}.",
                        hint="Run the evaluation again.") from error  # fmt: skip


def _need_common(result: RunResult, other: RunResult, name: str) -> None:
    if result.protocols.keys() & other.protocols.keys():
        return
    lines = [line for digest in result.protocols for line in _differences(result, digest, other)]
    raise UserError(
        f"this run and {name} share no protocol hash, so nothing compares: {'; '.join(lines)}.",
        hint="Evaluate both under one protocol, pose back end and reference set.",
    )


def _differences(result: RunResult, digest: str, other: RunResult) -> list[str]:
    """Differences from the protocols of the same name in `other`; empty when it has this hash."""
    if digest in other.protocols:
        return []
    mine = parse(result.protocols[digest], digest)
    theirs = [parse(value, key) for key, value in other.protocols.items()]
    named = [item for item in theirs if item.name == mine.name]
    return [line for item in named for line in mine.differences(item)] or [f"{mine.id} is not in the other run"]


def changes_since(run: Path) -> list[str]:
    """What shows that a run folder was changed after it was written, one sentence each.

    Raises:
        UserError: it is no run folder, or a protocol in it is not valid.
    """
    return _warnings(Path(run), RunResult.read(run))


def _cautions(result: RunResult) -> list[str]:
    lines = []
    for digest, count in result.reference_unscored.items():
        if count and digest in result.protocols:
            protocol = parse(result.protocols[digest], digest)
            total = f" of {protocol.reference.n}" if protocol.reference is not None else ""
            lines.append(
                f"{protocol.id}: {count}{total} reference clips lack a feature or value; what they lack is left out."
            )
    if result.n_shared_clips:
        lines.append(
            f"{plural(result.n_shared_clips, 'evaluated clip')} with the same bytes as a clip of the reference set: "
            "the model is compared with its own videos."
        )
    return lines


def _warnings(run: Path, result: RunResult) -> list[str]:
    """What shows that a run folder was changed after it was written."""
    lines = []
    if file_sha256(run / CLIPS_FILE) != result.clips_sha256:
        lines.append(f"{CLIPS_FILE} is not the file that the scores were computed from (its SHA-256 differs).")
    for digest, stored in result.protocols.items():
        if parse(stored, digest).hash != digest:
            lines.append(f"The protocol stored under {digest} has another hash: it was changed.")
    return lines


def _seconds(run: Path) -> dict[str, float]:
    try:
        stored = json.loads((run / TIMING_FILE).read_text("utf-8"))["seconds"]
        return {str(name): float(value) for name, value in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _curves(run: Path, model: str) -> tuple[dict[tuple[str, str], CurveView], dict[str, str]]:
    """Curves by (protocol hash, clip id), and the video of each clip."""
    if not (run / CURVES_FILE).is_file():
        return {}, {}
    curves: dict[tuple[str, str], CurveView] = {}
    videos: dict[str, str] = {}
    for row in read_curves(run / CURVES_FILE).to_dict("records"):
        if row["model"] != model:
            continue
        lists = [_list(row[name]) for name in ("times_s", "speed", "motion_beats_s", "music_beats_s")]
        curves[str(row["protocol_hash"]), str(row["clip_id"])] = CurveView(*lists)
        if row["video"]:
            videos[str(row["clip_id"])] = str(row["video"])
    return curves, videos


def _list(cell: object) -> FloatArray:
    return np.asarray(cell if cell is not None else [], dtype=np.float64)


def _section(
    result: RunResult, digest: str, clips: pd.DataFrame, model: str, other: RunResult | None, name: str
) -> Section:  # fmt: skip
    protocol = parse(result.protocols[digest], digest)
    mine = clips[clips["protocol_hash"] == digest]
    reference = mine[mine["role"] == "reference"]
    entries = [entry for entry in result.entries if entry.protocol_hash == digest]
    metrics = _metrics(protocol, entries)
    rows = _rows(entries, model)
    if other is not None:
        theirs = [entry for entry in other.entries if entry.protocol_hash == digest]
        rows += _against(theirs, other.entries[0].model.name if other.entries else "", name)
    rows = sorted(rows + _reference_row(reference, protocol, metrics), key=lambda row: _KINDS.index(row.kind))
    generated = mine[(mine["role"] == "generated") & (mine["model"] == model)]
    columns = _columns(entries, metrics)
    return Section(
        protocol, columns, rows, _clips(generated, reference, columns),
        _differences(result, digest, other) if other is not None else (),
    )  # fmt: skip


def _metrics(protocol: Protocol, entries: Iterable[Entry]) -> list[Metric]:
    """The metrics that this process knows; a plugin's may be missing, then its texts are."""
    names = dict.fromkeys([*protocol.metrics, *(score.name for entry in entries for score in entry.scores)])
    found = []
    for name in names:
        if name in registry.names("metrics"):
            found.append(registry.get_metric(name))
    return found


def _columns(entries: Sequence[Entry], metrics: Iterable[Metric]) -> list[ColumnView]:
    summaries = {column.name: column.summary for metric in metrics for column in metric.columns}
    records = {score.name: score for entry in entries for score in entry.scores}
    return [
        ColumnView(record.name, record.unit, record.better, summaries.get(record.name, ""))
        for record in records.values()
    ]


def _rows(entries: Sequence[Entry], model: str) -> list[RowView]:
    def kind(entry: Entry) -> RowKind:
        if entry.model.name == model:
            return "evaluated"
        return "calibration" if entry.model.kind == "calibration" else "other"

    return [_row(entry, kind(entry), entry.model.name) for entry in entries]


def _row(entry: Entry, kind: RowKind, name: str) -> RowView:
    scores = {score.name: score for score in entry.scores}
    return RowView(name, kind, entry.model.summary, entry.n_clips, scores, incomplete(entry))


def _against(entries: Sequence[Entry], model: str, name: str) -> list[RowView]:
    return [_row(entry, "against", f"{model} in {name}") for entry in entries if entry.model.name == model]


def _reference_row(reference: pd.DataFrame, protocol: Protocol, metrics: Sequence[Metric]) -> list[RowView]:
    """The reference set's own values, where they are the aim."""
    scores = aggregate(reference, reference, protocol, metrics) if len(reference) else []
    records = {score.name: ScoreRecord.of(score) for score in scores if score.better == "reference"}
    if not records:
        return []
    return [RowView("reference set", "reference", "Its own values: the aim of ≈ columns.", len(reference), records)]


def _clips(generated: pd.DataFrame, reference: pd.DataFrame, columns: Sequence[ColumnView]) -> list[ClipView]:
    known = value_columns(generated)
    shown = [column for column in columns if column.name in known]
    features = [str(name) for name in generated.columns if str(name).startswith(FEATURE_PREFIX)]
    spreads = {name: _spread(reference[name]) for name in features}
    clips = [_clip(row, shown, spreads) for row in generated.to_dict("records")]
    return _worst_first(clips, shown, {column.name: _mean(reference[column.name]) for column in shown})


def _clip(
    row: Mapping[Any, Any], columns: Iterable[ColumnView], spreads: Mapping[str, tuple[FloatArray, FloatArray] | None]
) -> ClipView:  # fmt: skip
    distances = {
        name.removeprefix(FEATURE_PREFIX): _distance(row[name], spread) for name, spread in spreads.items()
    }  # fmt: skip
    return ClipView(
        str(row["clip_id"]), str(row["sha256"]), float(row["duration_s"]),
        {column.name: float(row[column.name]) for column in columns}, distances,
        json.loads(row["reasons"]), json.loads(row["notes"]),
    )  # fmt: skip


def _spread(cells: Iterable[Any]) -> tuple[FloatArray, FloatArray] | None:
    """Mean and deviation of the reference's vectors; constant dimensions get an infinite deviation."""
    vectors = [cell for cell in cells if isinstance(cell, np.ndarray)]
    if len(vectors) < 2:
        return None
    stacked = np.stack(vectors)
    deviation = stacked.std(axis=0)
    return stacked.mean(axis=0), np.where(deviation > _CONSTANT, deviation, np.inf)


def _distance(cell: object, spread: tuple[FloatArray, FloatArray] | None) -> float:
    if spread is None or not isinstance(cell, np.ndarray) or cell.shape != spread[0].shape:
        return math.nan
    varying = np.isfinite(spread[1])
    if not varying.any():
        return math.nan
    return float(np.sqrt(np.mean(((cell - spread[0]) / spread[1])[varying] ** 2)))


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def _worst_first(clips: Sequence[ClipView], columns: Iterable[ColumnView], aims: Mapping[str, float]) -> list[ClipView]:
    costs: list[list[float]] = []
    for column in columns:
        values = [clip.values[column.name] for clip in clips]
        aim = aims[column.name] if math.isfinite(aims[column.name]) else _mean(values)
        costs.append([_cost(value, column.better, aim) for value in values])
    for name in clips[0].distances if clips else ():
        costs.append([clip.distances[name] for clip in clips])
    ranks = [_ranks(cost) for cost in costs]
    badness = [_mean(rank[index] for rank in ranks) for index in range(len(clips))]
    keys = [
        (-clip.n_unscored, -bad if math.isfinite(bad) else 0.0, clip.clip_id)
        for clip, bad in zip(clips, badness, strict=True)
    ]
    return [clip for _, clip in sorted(zip(keys, clips, strict=True), key=lambda pair: pair[0])]


def _cost(value: float, better: Better, aim: float) -> float:
    return -value if better == "higher" else value if better == "lower" else abs(value - aim)


def _ranks(values: Sequence[float]) -> list[float]:
    """Share of the other finite values that are smaller; ties count half; NaN stays NaN."""
    finite = np.asarray([value for value in values if math.isfinite(value)])
    others = max(len(finite) - 1, 1)

    def rank(value: float) -> float:
        smaller, equal = np.sum(finite < value), np.sum(finite == value) - 1
        return float(smaller + 0.5 * equal) / others

    return [rank(value) if math.isfinite(value) else math.nan for value in values]
