"""From the evidence of one clip to one row of ``clips.parquet``. Pure: no files, no clocks."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from macebench import registry
from macebench.aggregate import values_of
from macebench.errors import Unscorable, UserError
from macebench.protocol import Protocol
from macebench.registry import Feature, Metric
from macebench.results import FEATURE_PREFIX
from macebench.tables import ClipRow
from macebench.types import Evidence, FloatArray

T = TypeVar("T")
_PICTURED = ("pose", "frames:", "pairs:")
"""Starts of the names of needs that are made of pictures."""


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
        result, reason = _attempt(functools.partial(_vector, feature, evidence, protocol))
        if reason:
            reasons[FEATURE_PREFIX + feature.name] = reason
        else:
            features[feature.name] = result
            about = "; ".join(_picture_notes(evidence, feature.needs))
            notes.update({FEATURE_PREFIX + feature.name: about} if about else {})
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
    result, reason = _attempt(lambda: values_of(metric, metric.compute(evidence, protocol)))
    found, own = result or ({}, "")
    note = "; ".join(filter(None, (own, *_picture_notes(evidence, metric.needs))))
    for column in metric.columns:
        value = found.get(column.name, math.nan)
        values[column.name] = value
        if not math.isfinite(value):
            reasons[column.name] = reason or own or "value is not finite"
        elif note:
            notes[column.name] = note


def _picture_notes(evidence: Evidence, needs: Collection[str]) -> tuple[str, ...]:
    """What a reader must know of the pictures, for what rests on them."""
    return evidence.notes if any(need.startswith(_PICTURED) for need in needs) else ()


def _vector(feature: Feature, evidence: Evidence, protocol: Protocol) -> FloatArray:
    vector = np.asarray(feature.compute(evidence, protocol), dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"a feature has one axis, not shape {vector.shape}")
    return vector


def _attempt(action: Callable[[], T]) -> tuple[T | None, str]:
    """The result, or the reason why there is none. A metric that fails costs this value, not the run."""
    try:
        return action(), ""
    except Unscorable as unscorable:
        return None, unscorable.reason
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        return None, f"metric failed: {type(error).__name__}: {error}"


def joined(rows: Sequence[ClipRow]) -> ClipRow:
    """One row of several of the same clip, whose metrics were scored apart."""

    def merged(name: str) -> dict[str, Any]:
        return {key: value for row in rows for key, value in getattr(row, name).items()}

    return dataclasses.replace(
        rows[0], values=merged("values"), features=merged("features"), reasons=merged("reasons"), notes=merged("notes")
    )


def with_reasons(row: ClipRow, blocked: Sequence[tuple[Metric, str]]) -> ClipRow:
    """The row with the columns that could not be computed, and why."""
    values, reasons = dict(row.values), dict(row.reasons)
    for metric, reason in blocked:
        if metric.feature is not None:
            reasons[FEATURE_PREFIX + metric.feature] = reason
            continue
        for column in metric.columns:
            values[column.name], reasons[column.name] = math.nan, reason
    return dataclasses.replace(row, values=values, reasons=reasons)
