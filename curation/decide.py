"""Deciding: spans on their way through stages. Nothing is decoded here.

A stage may judge a long shot well that has a bad half minute. So a stage with a true attribute ``judges_clips`` is
asked twice: when it is its turn, and again about each clip that later stages have cut out of the span it let pass. A
clip has the scores of its own pictures, and what the stage would drop by itself is dropped.
"""

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
    whole: list[_Judged] = []
    ledger: list[LedgerRow] = []
    for task in tasks:
        _send(_Judged(task), stages, enter, whole, ledger)
    kept: list[Task] = []
    for judged in whole:
        _judge_clip(judged, enter, kept, ledger)
    return Decided(tuple(kept), tuple(ledger))


@dataclass(frozen=True)
class _Judged:
    """A span, and the stages that judge clips and have let it, or the span around it, pass: stage and that span."""

    task: Task
    by: tuple[tuple[Stage, tuple[float, float | None]], ...] = ()


def _send(
    judged: _Judged,
    stages: Sequence[Stage],
    enter: Callable[[Stage], None],
    kept: list[_Judged],
    ledger: list[LedgerRow],
) -> None:
    if not stages:
        kept.append(judged)
        return
    stage, task = stages[0], judged.task
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
    by = (*judged.by, (stage, _span(task))) if getattr(stage, "judges_clips", False) else judged.by
    for following in verdict.tasks if verdict.tasks is not None else (task,):
        _send(_Judged(_scored(following, stage, verdict), by), stages[1:], enter, kept, ledger)


def _judge_clip(judged: _Judged, enter: Callable[[Stage], None], kept: list[Task], ledger: list[LedgerRow]) -> None:
    """Ask the stages again that have judged a longer span than what became of it."""
    task = judged.task
    for stage, span in judged.by:
        if span == _span(task):
            continue
        enter(stage)
        verdict = stage.process(task)
        others = {name: value for name, value in task.scores.items() if not name.startswith(f"{stage.name}.")}
        task = _scored(dataclasses.replace(task, scores=others), stage, verdict)
        if verdict.rejection is not None:
            ledger.append(LedgerRow(task, verdict.rejection))
            return
    kept.append(task)


def _span(task: Task) -> tuple[float, float | None]:
    return task.start_s, task.end_s


def _scored(task: Task, stage: Stage, verdict: Verdict) -> Task:
    """The task with the verdict's scores as ``stage.score``; what the stage has put there itself stays."""
    named = {f"{stage.name}.{name}": float(value) for name, value in verdict.scores.items()}
    return dataclasses.replace(task, scores={**named, **task.scores})
