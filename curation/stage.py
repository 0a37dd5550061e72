"""What a curation stage is: score now, decide later.

A stage that looks at pictures has an *observer*: it sees every source once, while the source is decoded for all
observers together, and leaves a `Timeline` of scores that know nothing of thresholds. Timelines are kept in the store
under the observer's settings, so that a threshold can be changed without decoding again.

Then the stage decides: `Stage.process` looks at one task (a span of one source file) and at the timelines, and returns
a `Verdict`: scores that are always kept, and, when a threshold of its frozen config refuses the span, the reason with
value and threshold. Deciding reads no file of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from macebench.media import VideoInfo
from macebench.types import Array, FloatArray


@dataclass(frozen=True)
class Timeline:
    """What an observer saw of one source.

    Attributes:
        times_s: (S,) seconds after the source's first picture, increasing: when each sample was taken.
        values: Score -> (S, ...) array, one entry a sample; NaN where a sample has none.
        meta: What the whole source has: small JSON values, such as the name of a detector.
    """

    times_s: FloatArray
    values: Mapping[str, Array]
    meta: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, array in self.values.items():
            if len(array) != len(self.times_s):
                raise ValueError(f"timeline {name} has {len(array)} samples, expected {len(self.times_s)}")

    def within(self, start_s: float, end_s: float) -> Timeline:
        """The samples with ``start_s <= time < end_s``."""
        low, high = np.searchsorted(self.times_s, [start_s, end_s])
        values = {name: array[low:high] for name, array in self.values.items()}
        return Timeline(self.times_s[low:high], values, self.meta)


class Observer(Protocol):
    """Looks at the pictures of one source while they are decoded. Its result must not depend on batch sizes."""

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) RGB frames and their (B,) seconds after the source's first picture."""
        ...

    def finish(self) -> Timeline:
        """The scores of the whole source."""
        ...


@dataclass(frozen=True)
class Task:
    """A span of a source file on its way through the stages.

    Attributes:
        source: The source file.
        source_id: SHA-256 of the source file.
        start_s: Begin of the span in seconds of presentation time.
        end_s: End of the span; None until a stage knows the length.
        scores: Scores of the stages so far: ``stage.score`` -> value.
        info: What the container says of the source; None before it was probed.
        observed: Timelines of the source by stage name.
    """

    source: Path
    source_id: str
    start_s: float = 0.0
    end_s: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    info: VideoInfo | None = None
    observed: Mapping[str, Timeline] = field(default_factory=dict)


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
        dropped: Parts of the task that do not go on while others do, each with its reason.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    rejection: Rejection | None = None
    tasks: tuple[Task, ...] | None = None
    dropped: tuple[tuple[Task, Rejection], ...] = ()


@runtime_checkable
class Stage(Protocol):
    """One step of the pipeline: a class with a name, a frozen config and one method."""

    name: str
    config: Any

    def process(self, task: Task) -> Verdict:
        """Look at one task. Must be a pure function of the task's file and the config."""
        ...


@runtime_checkable
class ObservingStage(Stage, Protocol):
    """A stage that looks at pictures.

    With a true attribute ``judges_clips`` it is asked again about each clip cut from what it let pass
    (`macebench.curation.decide`).

    `observer_settings` holds every setting that decides the timeline, none that decides on it, and a ``version``
    that is raised when the same settings give other scores: it is the timeline's key in the store.
    """

    def observer_settings(self) -> Mapping[str, Any]:
        """JSON values, with an integer ``version``."""
        ...

    def observe(self, info: VideoInfo) -> Observer:
        """A fresh observer for one source."""
        ...
