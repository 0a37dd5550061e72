"""What a curation stage is: score now, decide later.

A stage looks at one task (a span of one source file) and returns a `Verdict`: scores that are always kept,
and, when a threshold of its frozen config refuses the span, the reason with value and threshold. Scores are
stored for kept and rejected spans alike, so that a threshold can be changed without decoding again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Task:
    """A span of a source file on its way through the stages.

    Attributes:
        source: The source file.
        source_id: SHA-256 of the source file.
        start_s: Begin of the span in seconds of presentation time.
        end_s: End of the span; None until a stage knows the length.
        scores: Scores of the stages so far: ``stage.score`` -> value.
    """

    source: Path
    source_id: str
    start_s: float = 0.0
    end_s: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejection:
    """Why a span was dropped.

    Attributes:
        stage: Name of the stage.
        reason: Short and stable.
        value: The score that decided, or None when there was none (a broken file).
        threshold: What it was compared with, or None.
    """

    stage: str
    reason: str
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What a stage says of one task.

    Attributes:
        scores: Scores by name, kept whatever the decision.
        rejection: Why the span is dropped, or None.
        tasks: The spans that go on; by default the task itself (a stage that splits returns several).
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    rejection: Rejection | None = None
    tasks: tuple[Task, ...] | None = None


@runtime_checkable
class Stage(Protocol):
    """One step of the pipeline: a class with a name, a frozen config and one method."""

    name: str
    config: Any

    def process(self, task: Task) -> Verdict:
        """Look at one task. Must be a pure function of the task's file and the config."""
        ...
