"""Runs stages over sources and keeps a ledger of what was dropped."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from macebench.curation.stage import Rejection, Stage, Task
from macebench.errors import MediaError
from macebench.media import file_sha256


@dataclass(frozen=True)
class LedgerRow:
    """A rejected span and why."""

    task: Task
    rejection: Rejection


@dataclass(frozen=True)
class Curated:
    """What is left, and the ledger. Every source is in one of the two."""

    kept: tuple[Task, ...]
    ledger: tuple[LedgerRow, ...]


def run_stages(sources: Iterable[Path], stages: Sequence[Stage]) -> Curated:
    """Send every source through the stages, in order; cheap stages should come first.

    Args:
        sources: Files; their order does not matter.
        stages: Stages in order.

    Returns:
        Kept spans and ledger, both in the order of source hash and start time.
    """
    kept: list[Task] = []
    ledger: list[LedgerRow] = []
    for task in sorted((Task(Path(p), file_sha256(Path(p))) for p in sources), key=_order):
        _send(task, stages, kept, ledger)
    return Curated(tuple(sorted(kept, key=_order)), tuple(sorted(ledger, key=lambda row: _order(row.task))))


def _order(task: Task) -> tuple[str, float]:
    return task.source_id, task.start_s


def _send(task: Task, stages: Sequence[Stage], kept: list[Task], ledger: list[LedgerRow]) -> None:
    if not stages:
        kept.append(task)
        return
    stage = stages[0]
    try:
        verdict = stage.process(task)
    except MediaError as error:
        ledger.append(LedgerRow(task, Rejection(stage.name, error.reason)))
        return
    named = {f"{stage.name}.{name}": value for name, value in verdict.scores.items()}
    if verdict.rejection is not None:
        marked = dataclasses.replace(task, scores={**task.scores, **named})
        ledger.append(LedgerRow(marked, verdict.rejection))
        return
    for following in verdict.tasks if verdict.tasks is not None else (task,):
        marked = dataclasses.replace(following, scores={**following.scores, **named})
        _send(marked, stages[1:], kept, ledger)
