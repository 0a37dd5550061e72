"""Copies of training data among generated dances: for each clip the nearest one of the training set.

Training clips are cut as generated ones are, whatever the protocol does with its reference set: a copy that is cut to
20 s must meet the same 20 s. What could not be compared is said in a note, one a protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from macebench.evidence import Extracted
from macebench.prepare import Prepared
from macebench.protocol import Protocol
from macebench.registry import Metric
from macebench.results import CONTAMINATION_FILE
from macebench.run import evidence_of, score_pieces
from macebench.tables import ClipRow, ContaminationRow, write_contamination
from macebench.types import FloatArray


def write_copies(prepared: Prepared, extracted: Extracted, rows: Sequence[ClipRow]) -> dict[str, str]:
    """Compare the evaluated model's clips with the training set; writes ``contamination.parquet``.

    Features are those of each protocol's set metrics, all of them side by side. Without a training set nothing is
    written, and a table of an earlier run goes.

    Returns:
        Protocol hash -> what was not compared, and why; empty when everything was.
    """
    target = prepared.config.out / CONTAMINATION_FILE
    if prepared.training is None:
        Path(target).unlink(missing_ok=True)
        return {}
    found: list[ContaminationRow] = []
    notes: dict[str, str] = {}
    for protocol in prepared.protocols:
        near, note = _of_protocol(prepared, extracted, protocol, rows)
        found += near
        notes |= {protocol.hash: note} if note else {}
    write_contamination(target, found)
    return notes


def _of_protocol(
    prepared: Prepared, extracted: Extracted, protocol: Protocol, rows: Sequence[ClipRow]
) -> tuple[list[ContaminationRow], str]:
    """The rows of one protocol, and what was not compared."""
    from macebench.metrics.contamination import nearest_training

    metrics = [metric for metric in prepared.metrics[protocol.hash] if metric.feature is not None]
    if not metrics or prepared.training is None:
        return [], "no metric of the protocol has features"
    model = prepared.config.model
    mine = [row for row in rows if (row.model, row.protocol_hash, row.role) == (model, protocol.hash, "generated")]
    known = _training_rows(prepared, extracted, protocol, metrics)
    (ids, ours), (their_ids, theirs) = _vectors(mine, metrics), _vectors(known, metrics)
    if not ids:
        return [], "no evaluated clip has features"
    try:
        result = nearest_training(ours, theirs)
    except ValueError as error:
        return [], str(error) if len(theirs) else f"none of {len(known)} training clips has features"
    near = [
        ContaminationRow(
            model, protocol.hash, clip_id, their_ids[int(result.nearest_index[index])],
            float(result.distance[index]), float(result.ratio[index]),
            bool(result.exact[index]), bool(result.near[index]),
        )
        for index, clip_id in enumerate(ids)
    ]  # fmt: skip
    lost = len(known) - len(their_ids)
    return near, f"{lost} of {len(known)} training clips have no features and were left out" if lost else ""


def _training_rows(
    prepared: Prepared, extracted: Extracted, protocol: Protocol, metrics: Sequence[Metric]
) -> list[ClipRow]:
    clips = prepared.training.clips if prepared.training is not None else ()
    evidence = evidence_of(prepared, clips, protocol, extracted)
    return score_pieces(evidence, protocol, metrics, "training", "generated")


def _vectors(rows: Sequence[ClipRow], metrics: Sequence[Metric]) -> tuple[list[str], FloatArray]:
    """Ids and (N, F) features of the clips that have all of them."""
    names = sorted({metric.feature for metric in metrics if metric.feature is not None})
    whole = [row for row in rows if all(name in row.features for name in names)]
    stacked = [np.concatenate([row.features[name] for name in names]) for row in whole]
    return [row.clip_id for row in whole], np.stack(stacked) if stacked else np.empty((0, 0))
