"""Writing a run folder (`macebench.results` documents what is in it)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from macebench.aggregate import aggregate, reference_scores
from macebench.copies import write_copies
from macebench.errors import Unscorable
from macebench.evidence import Extracted
from macebench.extract import load_clip, pose_arrays
from macebench.pieces import pieces
from macebench.prepare import MOTION_TRACK, EvalConfig, Prepared, prepare
from macebench.protocol import Protocol
from macebench.results import (
    CLIPS_FILE,
    CURVES_FILE,
    FEATURE_PREFIX,
    POSES_FOLDER,
    RESULT_FILE,
    TIMING_FILE,
    Entry,
    RunResult,
    with_reference,
)
from macebench.run import (
    Progress,
    Stopwatch,
    environment,
    evidence_of,
    extract,
    model_record,
    n_shared,
    row_models,
    score,
    silent,
    source_of,
    transformed,
)
from macebench.scoring import needed
from macebench.store import ensure_writable, write_npz, write_text
from macebench.tables import ClipRow, CurveRow, read_clips, write_clips, write_curves
from macebench.types import Beats, Evidence, ModelCard, Motion, PoseTrack

if TYPE_CHECKING:
    import pandas as pd


def evaluate(config: EvalConfig, progress: Progress = silent) -> RunResult:
    """Run an evaluation and write its run folder.

    Raises:
        UserError: `prepare` found something wrong, or the run folder cannot be written.
    """
    watch = Stopwatch()
    prepared = watch.measure("prepare", lambda: prepare(config))
    ensure_writable(config.out)
    ensure_writable(prepared.store.root)
    extracted = watch.measure("extract", lambda: extract(prepared, progress))
    rows = watch.measure("score", lambda: score(prepared, extracted, progress))
    (config.out / RESULT_FILE).unlink(missing_ok=True)
    notes = watch.measure("copies", lambda: write_copies(prepared, extracted, rows))
    result = watch.measure("write", lambda: _write(prepared, extracted, rows, notes))
    timing = {
        "seconds": watch.phases,
        "clips": {key[1]: outcome.seconds for key, outcome in extracted.clips.items()},
        "failures": _failures(prepared, extracted),
        "doubts": _doubts(prepared, extracted),
        "workers": config.workers,
    }
    write_text(config.out / TIMING_FILE, json.dumps(timing, indent=1, sort_keys=True))
    return result


def _write(
    prepared: Prepared, extracted: Extracted, rows: Sequence[ClipRow], training_notes: dict[str, str]
) -> RunResult:
    out = prepared.config.out
    clips_sha256 = write_clips(out / CLIPS_FILE, rows)
    table = read_clips(out / CLIPS_FILE)
    entries = [
        _entry(prepared, card, protocol, table)
        for protocol in prepared.protocols
        for card in row_models(prepared.config)
    ]
    result = RunResult(
        protocols={p.hash: p.model_dump(mode="json") for p in prepared.protocols},
        entries=entries,
        environment=environment(),
        clips_sha256=clips_sha256,
        reference_unscored={p.hash: _n_reference_unscored(prepared, table, p) for p in prepared.protocols},
        n_shared_clips=n_shared(prepared),
        metric_versions=_versions(prepared),
        training_notes=training_notes,
    )
    _write_poses(prepared)
    _write_curves(prepared, extracted)
    write_text(out / RESULT_FILE, result.model_dump_json(indent=1) + "\n")
    return result


def _failures(prepared: Prepared, extracted: Extracted) -> dict[str, str]:
    """Clip id -> reason and detail, of every clip that could not be read."""
    source = source_of(prepared, extracted)
    found = ((clip.clip_id, source.failure(clip)) for clip in prepared.clips)
    return {clip_id: ": ".join(filter(None, failed)) for clip_id, failed in found if failed is not None}


def _doubts(prepared: Prepared, extracted: Extracted) -> dict[str, str]:
    """Clip id -> what a reader should look at, of motions that do not look like a person in metres, y up."""
    from macebench.motion.files import orientation_note, size_note

    source = source_of(prepared, extracted)
    clips = prepared.clips if prepared.plan.motion else []
    motions = ((clip.clip_id, source.load(clip, None).motion) for clip in clips)
    found = ((name, orientation_note(item) or size_note(item)) for name, item in motions if isinstance(item, Motion))
    return {name: note for name, note in found if note is not None}


def _versions(prepared: Prepared) -> dict[str, int]:
    """Versions of the metrics and features of a run."""
    chosen = [metric for items in prepared.metrics.values() for metric in items]
    features = {FEATURE_PREFIX + item.name: item.version for item in needed(chosen)[0]}
    return dict(sorted(({metric.name: metric.version for metric in chosen} | features).items()))


def _entry(prepared: Prepared, card: ModelCard, protocol: Protocol, table: pd.DataFrame) -> Entry:
    mine = table[table["protocol_hash"] == protocol.hash]
    clips = mine[(mine["model"] == card.name) & (mine["role"] == "generated")]
    reference = mine[mine["role"] == "reference"]
    metrics = prepared.metrics[protocol.hash]
    scores = aggregate(clips, reference, protocol, metrics)
    return Entry(
        model=model_record(card),
        protocol_hash=protocol.hash,
        n_clips=len(clips),
        n_incomplete=_n_incomplete(table, protocol, "generated", card.name),
        scores=with_reference(scores, reference_scores(reference, protocol, metrics)),
    )


def _n_incomplete(table: pd.DataFrame, protocol: Protocol, role: str, model: str | None = None) -> int:
    """Clips of a role that lack at least one value."""
    mine = table[(table["protocol_hash"] == protocol.hash) & (table["role"] == role)]
    mine = mine if model is None else mine[mine["model"] == model]
    return int((mine["reasons"] != "{}").sum())


def _n_reference_unscored(prepared: Prepared, table: pd.DataFrame, protocol: Protocol) -> int:
    """Reference clips that lack at least one value which they could have (`Pictures.designed_absence`)."""
    designed = prepared.pictures.designed_absence if prepared.pictures is not None else ""
    mine = table[(table["protocol_hash"] == protocol.hash) & (table["role"] == "reference")]
    return sum(bool(set(json.loads(cell).values()) - {designed}) for cell in mine["reasons"])


def _write_poses(prepared: Prepared) -> None:
    """The evaluated clips' pose tracks, so that others can score them with ``--poses``; older ones go."""
    shutil.rmtree(prepared.config.out / POSES_FOLDER, ignore_errors=True)
    if prepared.backend is None:
        return
    for clip in prepared.generated.clips:
        target = prepared.config.out / POSES_FOLDER / f"{clip.clip_id}.npz"
        found = load_clip(prepared.store, clip, prepared.plan, prepared.backend) if clip.sha256 else None
        if found is not None and isinstance(found.pose, PoseTrack):
            write_npz(target, {**pose_arrays(found.pose), "video_sha256": np.asarray(clip.sha256)})


def _write_curves(prepared: Prepared, extracted: Extracted) -> None:
    rows: list[CurveRow] = []
    card = row_models(prepared.config)[0]
    for protocol in prepared.protocols:
        if protocol.beats is None or not (prepared.backend is not None or prepared.plan.motion):
            continue
        evidence = evidence_of(prepared, prepared.generated.clips, protocol, extracted)
        for item in transformed(card, evidence):
            for piece in pieces(item, protocol, "generated"):
                rows.append(_curve(piece, protocol, card.name, prepared.config.out))
    write_curves(prepared.config.out / CURVES_FILE, rows)


def _curve(evidence: Evidence, protocol: Protocol, model: str, out: Path) -> CurveRow:
    """What the report plots of one clip; without a usable pose the curve is empty."""
    from macebench.metrics import motion2d, motion3d

    own = motion3d if protocol.track == MOTION_TRACK else motion2d
    nothing = np.empty(0)
    music = evidence.music.times_s if isinstance(evidence.music, Beats) else nothing
    times, speed, beats = nothing, nothing, nothing
    with contextlib.suppress(Unscorable):
        times, speed = own.speed_curve(evidence, protocol)
        beats = own.motion_beat_times(evidence, protocol)
    clip = evidence.clip
    video = Path(os.path.relpath(clip.path.resolve(), out.resolve())).as_posix()
    return CurveRow(model, protocol.hash, clip.clip_id, times, speed, beats, music, video)
