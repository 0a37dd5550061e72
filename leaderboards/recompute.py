"""Scores from per-clip data: the same arithmetic as the run itself (`macebench.aggregate`), nothing decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from macebench import registry
from macebench.aggregate import aggregate, metrics_of, reference_scores
from macebench.errors import UserError
from macebench.protocol import Protocol
from macebench.types import Score

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Recomputed:
    """What per-clip data say of one model under one protocol.

    Attributes:
        scores: The model's scores by column name.
        reference: The reference set's own values by column name, where nearer to them is better.
    """

    scores: dict[str, Score]
    reference: dict[str, Score]


def recompute(
    entry_model: str,
    protocol: Protocol,
    clips: pd.DataFrame,
    columns: Iterable[str] = (),
    recorded: Iterable[str] = (),
) -> Recomputed:
    """Every score of one model under one resolved protocol.

    Args:
        entry_model: Name of the model.
        protocol: The resolved protocol, with its pose back end and reference.
        clips: A whole ``clips.parquet`` (`macebench.tables.read_clips`).
        columns: Scores that the row has; those that are not of the protocol's own metrics are looked up.
        recorded: Metrics that the run says it used; asked before all others.

    Raises:
        UserError: a metric of the protocol is not registered, or a column belongs to no registered metric.
    """
    for name in protocol.metrics:
        registry.get_metric(name)
    metrics, lost = metrics_of(protocol, columns, recorded)
    if lost:
        raise UserError(
            f"score {lost[0]!r} belongs to no registered metric.",
            hint="Give the file that registers it with --plugin, or install its package.",
        )
    mine = clips[clips["protocol_hash"] == protocol.hash]
    generated = mine[(mine["model"] == entry_model) & (mine["role"] == "generated")]
    reference = mine[mine["role"] == "reference"]
    scores = aggregate(generated, reference, protocol, metrics)
    own = reference_scores(reference, protocol, metrics)
    return Recomputed({score.name: score for score in scores}, {score.name: score for score in own})
