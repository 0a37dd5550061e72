"""From the evidence of one clip to one row of ``clips.parquet``. Pure: no files, no clocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from macebench import registry
from macebench.errors import Unscorable
from macebench.protocol import Protocol
from macebench.registry import Feature, Metric
from macebench.results import FEATURE_PREFIX
from macebench.tables import ClipRow
from macebench.types import Evidence

_METRIC_FAILURES = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)


def needed(metrics: Sequence[Metric]) -> tuple[list[Feature], set[str]]:
    """The features of the set metrics, and everything that metrics and features need."""
    names = sorted({metric.feature for metric in metrics if metric.feature is not None})
    features = [registry.get_feature(name) for name in names]
    needs = {need for metric in metrics for need in metric.needs}
    return features, needs | {need for feature in features for need in feature.needs}


def score_clip(
    evidence: Evidence,
    protocol: Protocol,
    metrics: Sequence[Metric],
    *,
    model: str,
    role: Literal["generated", "reference"],
) -> ClipRow:
    """All clip metrics and features of one clip; what cannot be computed has a reason instead of a value."""
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    notes: dict[str, str] = {}
    for metric in metrics:
        if metric.feature is None:
            _add_metric(metric, evidence, protocol, values, reasons, notes)
    features: dict[str, Any] = {}
    for feature in needed(metrics)[0]:
        result, reason = _attempt(feature.compute, evidence, protocol)
        if reason:
            reasons[FEATURE_PREFIX + feature.name] = reason
        else:
            features[feature.name] = np.asarray(result, dtype=np.float64)
    clip = evidence.clip
    return ClipRow(
        model=model, protocol_hash=protocol.hash, clip_id=clip.clip_id, role=role, sha256=clip.sha256,
        music_sha256=clip.music_sha256, duration_s=evidence.duration_s, values=values, features=features,
        reasons=reasons, notes=notes,
    )  # fmt: skip


def _add_metric(
    metric: Metric,
    evidence: Evidence,
    protocol: Protocol,
    values: dict[str, float],
    reasons: dict[str, str],
    notes: dict[str, str],
) -> None:
    result, reason = _attempt(metric.compute, evidence, protocol)
    found: Mapping[str, Any] = result if isinstance(result, Mapping) else {metric.columns[0].name: result}
    for column in metric.columns:
        value = math.nan if reason else float(found.get(column.name, math.nan))
        values[column.name] = value
        if not math.isfinite(value):
            reasons[column.name] = reason or "value is not finite"
        elif found.get("note"):
            notes[column.name] = str(found["note"])


def _attempt(compute: Any, evidence: Evidence, protocol: Protocol) -> tuple[Any, str]:
    """The result, or the reason why there is none. A metric that fails costs this value, not the run."""
    try:
        return compute(evidence, protocol), ""
    except Unscorable as unscorable:
        return None, unscorable.reason
    except _METRIC_FAILURES as error:
        return None, f"metric failed: {type(error).__name__}: {error}"
