"""Deciding: spans on their way through stages. Nothing is decoded here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from macebench.curation.stage import Rejection, Stage, Task, Verdict
from macebench.errors import MediaError


@dataclass(frozen=True)
class LedgerRow:
    """A rejected span and why."""

    task: Task
    rejection: Rejection


@dataclass(frozen=True)
class Decided:
    """What is left of some spans, and the ledger."""

    kept: tuple[Task, ...]
    ledger: tuple[LedgerRow, ...]

    def after(self, ledger: Sequence[LedgerRow]) -> Decided:
        """With an earlier ledger in front."""
        return Decided(self.kept, (*ledger, *self.ledger))


def _no_note(stage: Stage) -> None:
    pass


def decide(tasks: Sequence[Task], stages: Sequence[Stage], enter: Callable[[Stage], None] = _no_note) -> Decided:
    """Send spans through the stages, in order.

    Args:
        tasks: Spans, with what was observed of their sources.
        stages: Stages in order.
        enter: Called with each stage before it is asked.

    Returns:
        Kept spans and ledger, in the order of the spans.
    """
    kept: list[Task] = []
    ledger: list[LedgerRow] = []
    for task in tasks:
        _send(task, stages, enter, kept, ledger)
    return Decided(tuple(kept), tuple(ledger))


def _send(
    task: Task, stages: Sequence[Stage], enter: Callable[[Stage], None], kept: list[Task], ledger: list[LedgerRow]
) -> None:
    if not stages:
        kept.append(task)
        return
    stage = stages[0]
    enter(stage)
    try:
        verdict = stage.process(task)
    except MediaError as error:
        ledger.append(LedgerRow(task, Rejection(stage.name, error.reason)))
        return
    if verdict.rejection is not None:
        ledger.append(LedgerRow(_scored(task, stage, verdict), verdict.rejection))
        return
    for part, rejection in verdict.dropped:
        ledger.append(LedgerRow(_scored(part, stage, verdict), rejection))
    for following in verdict.tasks if verdict.tasks is not None else (task,):
        _send(_scored(following, stage, verdict), stages[1:], enter, kept, ledger)


def _scored(task: Task, stage: Stage, verdict: Verdict) -> Task:
    """The task with the verdict's scores as ``stage.score``; what the stage has put there itself stays."""
    named = {f"{stage.name}.{name}": float(value) for name, value in verdict.scores.items()}
    return dataclasses.replace(task, scores={**named, **task.scores})
