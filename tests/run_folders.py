"""Synthetic run folders for tests: real metrics on closed-form features, nothing decoded."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from macebench.aggregate import aggregate, reference_scores
from macebench.clips import set_hash
from macebench.protocol import PoseBackend, Reference, load_protocol
from macebench.registry import get_metric
from macebench.results import (
    CLIPS_FILE,
    CURVES_FILE,
    RESULT_FILE,
    TIMING_FILE,
    Entry,
    ModelRecord,
    RunResult,
    with_reference,
)
from macebench.tables import ClipRow, CurveRow, read_clips, write_clips, write_curves
from macebench.types import Clip

BACKEND = PoseBackend(name="precomputed", model="files", weights_sha256="ab" * 32, input_size=(0, 0))
CLIP_COLUMNS = (
    "bas",
    "bas_null",
    "bas_corrected",
    "bas_z",
    "beat_precision",
    "beat_recall",
    "beat_f",
    "temporal_flickering",
)


def sha(text):
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def columns_of(protocol):
    """Clip columns and sizes of the features of a protocol's rows."""
    if protocol.track == "video-2d":
        return CLIP_COLUMNS, {"kinetic_2d": 5, "geometric_2d": 3}
    metrics = [get_metric(name) for name in protocol.metrics]
    names = [column.name for metric in metrics if metric.feature is None for column in metric.columns]
    return names, {"kinetic_3d": 5, "geometric_3d": 3} if protocol.track == "motion-3d" else {}


def clip_row(model, protocol, name, role, k, shift=0.0, frozen=0.05):
    """Row k of a model: values and features from closed forms; a larger shift moves them from the reference."""
    wave = [math.sin(0.7 * k + j) for j in range(5)]
    columns, sizes = columns_of(protocol)
    values = {column: 0.5 + 0.1 * math.cos(k + j) - 0.2 * shift for j, column in enumerate(columns)}
    values |= {"frozen_share": frozen} if "frozen_share" in values else {}
    shapes = dict(zip(sizes, (np.array(wave) + shift, np.array(wave[:3]) * (1 + shift)), strict=False))
    return ClipRow(
        model=model, protocol_hash=protocol.hash, clip_id=name, role=role, sha256=sha(name), duration_s=5.0,
        values=values,
        features=shapes,
    )  # fmt: skip


def without(row, reason="no person"):
    """The row with nothing scored."""
    reasons = dict.fromkeys([*row.values, *(f"feature.{name}" for name in row.features)], reason)
    values = dict.fromkeys(row.values, math.nan)
    return dataclasses.replace(row, values=values, features={}, reasons=reasons)


def make_run(
    folder, *, models=(("mine", "external"), ("frozen", "calibration")), names=("a", "b", "c", "d", "e"), lost=(),
    videos=None, protocols=("ma2d-fixed/1",), reference_names=("r0", "r1", "r2", "r3", "r4", "r5"), shift=0.0,
    still=(),
):  # fmt: skip
    """Write a run folder and return its path.

    `lost` are clips in which nothing is scored; `videos` gives (path, sha256) of videos or motion files by clip; models
    in `still` stand still in 90 % of their frames.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reference_clips = [Clip(name, Path(name), sha(name)) for name in reference_names]
    reference = Reference(name="ref <b>", sha256=set_hash(reference_clips), n=len(reference_clips))
    loaded = [load_protocol(name) for name in protocols]
    resolved = [item.resolve(None if item.track == "motion-3d" else BACKEND, reference) for item in loaded]
    rows, curves = [], []
    for protocol in resolved:
        digest = protocol.hash
        rows += [clip_row("reference", protocol, name, "reference", k + 0.4) for k, name in enumerate(reference_names)]
        for place, (model, _) in enumerate(models):
            for k, name in enumerate(names):
                row = clip_row(
                    model, protocol, name, "generated", k, shift + 0.5 * place, 0.9 if model in still else 0.05
                )
                if videos and name in videos:
                    row = dataclasses.replace(row, sha256=videos[name][1])
                rows.append(without(row) if name in lost else row)
        times = np.arange(40) / 10
        curves += [
            CurveRow(models[0][0], digest, name, times, 50 + 40 * np.sin(3 * times + k), [0.5, 2.6], [0.5, 1.5, 2.5],
                     str(videos[name][0]) if videos and name in videos else "")
            for k, name in enumerate(names) if name not in lost
        ] if models else []  # fmt: skip
    write_run(folder, resolved, models, rows, curves)
    return folder


def write_run(folder, resolved, models, rows, curves):
    clips_sha256 = write_clips(folder / CLIPS_FILE, rows)
    write_curves(folder / CURVES_FILE, curves)
    table = read_clips(folder / CLIPS_FILE)
    entries = []
    for protocol in resolved:
        mine = table[table["protocol_hash"] == protocol.hash]
        reference = mine[mine["role"] == "reference"]
        for model, kind in models:
            clips = mine[(mine["model"] == model) & (mine["role"] == "generated")]
            metrics = [get_metric(name) for name in protocol.metrics]
            scores = aggregate(clips, reference, protocol, metrics)
            records = with_reference(scores, reference_scores(reference, protocol, metrics))
            card = ModelRecord(name=model, kind=kind)
            lacking = int((clips["reasons"] != "{}").sum())
            entries.append(Entry(model=card, protocol_hash=protocol.hash, n_clips=len(clips), n_incomplete=lacking,
                                 scores=records))  # fmt: skip
    result = RunResult(
        protocols={p.hash: p.model_dump(mode="json") for p in resolved}, entries=entries,
        environment={"macebench": "0.1.0", "python": "3.11", "numpy": "2.4", "machine": "x86_64"},
        clips_sha256=clips_sha256,
        metric_versions={name: get_metric(name).version for protocol in resolved for name in protocol.metrics},
    )  # fmt: skip
    (folder / RESULT_FILE).write_text(result.model_dump_json(indent=1), "utf-8")
    timing = {"seconds": {"extract": 2.0, "score": 0.25}, "workers": 1, "clips": {}}
    (folder / TIMING_FILE).write_text(json.dumps(timing), "utf-8")
