"""Scores from per-clip data: the same arithmetic as the run itself (`macebench.aggregate`), nothing decoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from macebench import registry
from macebench.aggregate import aggregate
from macebench.errors import UserError
from macebench.protocol import Protocol
from macebench.registry import Metric
from macebench.types import Score

if TYPE_CHECKING:
    import pandas as pd


def recompute(
    entry_model: str, protocol: Protocol, clips: pd.DataFrame, columns: Iterable[str] = ()
) -> dict[str, Score]:
    """Every score of one model under one resolved protocol, by column name.

    Args:
        entry_model: Name of the model.
        protocol: The resolved protocol, with its pose back end and reference.
        clips: A whole ``clips.parquet`` (`macebench.tables.read_clips`).
        columns: Scores that the row has; those that are not of the protocol's own metrics are looked up.

    Raises:
        UserError: a column belongs to no registered metric.
    """
    mine = clips[clips["protocol_hash"] == protocol.hash]
    generated = mine[(mine["model"] == entry_model) & (mine["role"] == "generated")]
    reference = mine[mine["role"] == "reference"]
    scores = aggregate(generated, reference, protocol, metrics_of(protocol, columns))
    return {score.name: score for score in scores}


def metrics_of(protocol: Protocol, columns: Iterable[str] = ()) -> list[Metric]:
    """The protocol's metrics, and those that the further columns belong to."""
    metrics = [registry.get_metric(name) for name in protocol.metrics]
    for column in columns:
        if not _has(metrics, column):
            metrics.append(_metric_with(column))
    return metrics


def _has(metrics: Sequence[Metric], column: str) -> bool:
    return any(item.name == column for metric in metrics for item in metric.columns)


def _metric_with(column: str) -> Metric:
    known = registry.names("metrics")
    likely = sorted(known, key=lambda name: (not column.startswith(name), name))
    for name in likely:
        metric = registry.get_metric(name)
        if _has([metric], column):
            return metric
    raise UserError(
        f"score {column!r} belongs to no registered metric.",
        hint="Give the file that registers it with --plugin, or install its package.",
    )
