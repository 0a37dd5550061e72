"""Scores of motions with macebench's own metrics, in memory and without a run folder.

The metrics are found by their registered names. The beats are those of the music features of the training set
(column 34, one frame in 1/30 s), so that no sound is needed; values compare within one training, not with a board.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from macebench import registry
from macebench.aggregate import values_of
from macebench.errors import Unscorable
from macebench.protocol import Protocol
from macebench.registry import Metric
from macebench.scoring import score_clip
from macebench.tables import ClipRow
from macebench.types import Beats, Clip, Evidence, FeatureSet, FloatArray, Missing, Motion

METRICS = ("fid_k_3d", "fid_g_3d", "div_k_3d", "div_g_3d", "bas_3d", "fsr_3d")
SCORES = ("fid_k", "fid_g", "div_k", "div_g", "bas_corrected", "fsr")
BEAT_COLUMN = 34
MIN_SET = 2


def evidence_of(motion: Motion, music: FloatArray, name: str) -> Evidence:
    """A motion and its music features (T, 35) as what metrics take."""
    times = np.flatnonzero(music[: len(motion), BEAT_COLUMN] > 0.5) / motion.fps
    none = Missing("no picture")
    clip = Clip(name, Path(name), "")
    return Evidence(clip, motion.duration_s, none, Beats(times, motion.duration_s), none, motion)


def score_motions(generated: Sequence[Evidence], reference: Sequence[Evidence], protocol: Protocol) -> dict[str, float]:
    """The columns `SCORES` of a set of motions; NaN where too few have a value.

    Args:
        generated: What is scored.
        reference: Real motions.
        protocol: A protocol of motions in space.
    """
    metrics = [registry.get_metric(name) for name in METRICS]
    mine = [score_clip(item, protocol, metrics, model="training", role="generated") for item in generated]
    theirs = [score_clip(item, protocol, metrics, model="training", role="reference") for item in reference]
    found: dict[str, float] = {}
    for metric in metrics:
        found |= _means(metric, mine) if metric.feature is None else _of_sets(metric, mine, theirs, protocol)
    return {name: found.get(name, math.nan) for name in SCORES}


def reasons_of(items: Sequence[Evidence], protocol: Protocol) -> Mapping[str, str]:
    """Why clips have no value: column -> reason of the first clip without one."""
    metrics = [registry.get_metric(name) for name in METRICS]
    found: dict[str, str] = {}
    for item in items:
        for name, reason in score_clip(item, protocol, metrics, model="training", role="generated").reasons.items():
            found.setdefault(name, reason)
    return found


def _means(metric: Metric, rows: Sequence[ClipRow]) -> dict[str, float]:
    means = {}
    for column in metric.columns:
        values = [row.values.get(column.name, math.nan) for row in rows]
        finite = [value for value in values if math.isfinite(value)]
        means[column.name] = math.fsum(finite) / len(finite) if finite else math.nan
    return means


def _of_sets(
    metric: Metric, mine: Sequence[ClipRow], theirs: Sequence[ClipRow], protocol: Protocol
) -> Mapping[str, float]:
    name = str(metric.feature)
    sets = [[row.features[name] for row in rows if name in row.features] for rows in (mine, theirs)]
    if min(map(len, sets)) < MIN_SET:
        return {}
    try:
        values, _ = values_of(metric, metric.compute(*(FeatureSet(np.stack(rows)) for rows in sets), protocol))
    except Unscorable:
        return {}
    return values
