"""What the page shows, read from a run folder and put in order; no HTML here.

A *section* is one resolved protocol: its rows (evaluated model first, then other models, those of a run to compare
with, calibration rows), the reference set's own values, and the evaluated model's clips, worst first
(`macebench.report.ranking`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from macebench import registry
from macebench.aggregate import metrics_of
from macebench.deviations import deviations_of
from macebench.errors import UserError
from macebench.media import file_sha256
from macebench.protocol import Protocol
from macebench.registry import Metric
from macebench.report.contamination import contamination_of, load_contamination
from macebench.report.groups import ordered
from macebench.report.model import KINDS, ColumnView, CurveView, RowView, RunView, Section
from macebench.report.numbers import plural
from macebench.report.ranking import ranked_clips
from macebench.report.rows import against_rows, aims_of, model_rows, reference_row, weights_of, with_activity
from macebench.results import CLIPS_FILE, CURVES_FILE, FEATURE_PREFIX, TIMING_FILE, Entry, RunResult
from macebench.tables import read_clips, read_curves
from macebench.types import FloatArray

if TYPE_CHECKING:
    import pandas as pd

_CURVES = ("times_s", "speed", "motion_beats_s", "music_beats_s")
_SPEED_UNITS = {"motion-3d": "m/s"}


@dataclass(frozen=True)
class _Other:
    """The run to compare with; `clips` is None when it has no per-clip table."""

    name: str
    result: RunResult
    clips: pd.DataFrame | None


def load_view(run: Path, against: Path | None = None) -> RunView:
    """Read a run folder.

    Raises:
        UserError: it is none, a table is broken, or `against` shares no protocol hash with it.
    """
    run = Path(run)
    result = RunResult.read(run)
    clips = read_clips(run / CLIPS_FILE)
    copies = load_contamination(run)
    model = result.entries[0].model.name if result.entries else ""
    other = _other(against) if against is not None else None
    if other is not None:
        _need_common(result, other.result, other.name)
    sections = [_section(result, digest, clips, model, other, copies) for digest in result.protocols]
    curves, videos = _curves(run, model, result)
    return RunView(
        run, model, sections, curves, videos, result.environment, _seconds(run), other.name if other else "",
        _warnings(run, result), [*_cautions(result), *_version_cautions(result, other)],
    )  # fmt: skip


def _other(against: Path) -> _Other:
    path = Path(against)
    result = RunResult.read(path)
    return _Other(path.name, result, read_clips(path / CLIPS_FILE) if (path / CLIPS_FILE).is_file() else None)


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
    for stored in result.protocols.values():
        known = deviations_of(f"{stored.get('name')}/{stored.get('version')}")
        if known is not None:
            lines.append(f"{stored['name']}/{stored['version']} is an approximation; in the heads: {known.legend}.")
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


def _version_cautions(result: RunResult, other: _Other | None) -> list[str]:
    """Metrics that another version computed: than is installed here, or than the run to compare with had."""
    lines = []
    for name, version in sorted(result.metric_versions.items()):
        installed = _installed_version(name)
        if installed is not None and installed != version:
            lines.append(f"{name} was computed by version {version} of the metric; version {installed} is installed.")
        theirs = other.result.metric_versions.get(name, version) if other is not None else version
        if other is not None and theirs != version:
            lines.append(f"{name} does not compare with {other.name}: version {version} here, {theirs} there.")
    return lines


def _installed_version(name: str) -> int | None:
    feature = name.removeprefix(FEATURE_PREFIX)
    if feature != name:
        return registry.get_feature(feature).version if feature in registry.names("features") else None
    return registry.get_metric(name).version if name in registry.names("metrics") else None


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


def _curves(run: Path, model: str, result: RunResult) -> tuple[dict[tuple[str, str], CurveView], dict[str, str]]:
    """Curves by (protocol hash, clip id), and the video or motion file of each clip."""
    if not (run / CURVES_FILE).is_file():
        return {}, {}
    curves: dict[tuple[str, str], CurveView] = {}
    videos: dict[str, str] = {}
    for row in read_curves(run / CURVES_FILE).to_dict("records"):
        digest = str(row["protocol_hash"])
        if row["model"] != model or digest not in result.protocols:
            continue
        times, speed, motion, music = (_list(row[name]) for name in _CURVES)
        unit = _SPEED_UNITS.get(str(result.protocols[digest].get("track")), "px/s")
        curves[digest, str(row["clip_id"])] = CurveView(times, speed, motion, music, unit)
        if row["video"]:
            videos[str(row["clip_id"])] = str(row["video"])
    return curves, videos


def _list(cell: object) -> FloatArray:
    return np.asarray(cell if cell is not None else [], dtype=np.float64)


def _section(
    result: RunResult, digest: str, clips: pd.DataFrame, model: str, other: _Other | None, copies: pd.DataFrame | None
) -> Section:  # fmt: skip
    protocol = parse(result.protocols[digest], digest)
    mine = clips[clips["protocol_hash"] == digest]
    reference = mine[mine["role"] == "reference"]
    entries = [entry for entry in result.entries if entry.protocol_hash == digest]
    names = [score.name for entry in entries for score in entry.scores]
    metrics, _ = metrics_of(protocol, dict.fromkeys(names), result.metric_versions)
    truth = reference_row(reference, protocol, metrics)
    weights = weights_of(metrics)
    rows = [*model_rows(entries, model, mine, weights), *_against(digest, other, weights), *truth]
    columns = _columns(entries, metrics)
    return Section(
        protocol, columns, sorted(with_activity(rows, truth), key=lambda row: KINDS.index(row.kind)),
        ranked_clips(mine[(mine["role"] == "generated") & (mine["model"] == model)], reference, columns),
        _differences(result, digest, other.result) if other is not None else (),
        aims_of(entries, truth), contamination_of(copies, digest, model),
    )  # fmt: skip


def _against(digest: str, other: _Other | None, weights: Mapping[str, str]) -> list[RowView]:
    if other is None:
        return []
    entries = [entry for entry in other.result.entries if entry.protocol_hash == digest]
    model = other.result.entries[0].model.name if other.result.entries else ""
    clips = None if other.clips is None else other.clips[other.clips["protocol_hash"] == digest]
    return against_rows(entries, model, other.name, clips, weights)


def _columns(entries: Sequence[Entry], metrics: Iterable[Metric]) -> list[ColumnView]:
    """The columns of any row, by group; a plugin's that is not here has no summary."""
    summaries = {column.name: column.summary for metric in reversed(list(metrics)) for column in metric.columns}
    records = {score.name: score for entry in entries for score in entry.scores}
    return [
        ColumnView(name, records[name].unit, records[name].better, summaries.get(name, "")) for name in ordered(records)
    ]
