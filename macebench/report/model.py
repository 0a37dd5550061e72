"""The values that the page shows: what `macebench.report.view` reads and everything else draws. No HTML here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from macebench.protocol import Protocol
from macebench.results import FEATURE_PREFIX, ScoreRecord
from macebench.types import Better, FloatArray

if TYPE_CHECKING:
    from macebench.metrics.statistics import Interval

RowKind = Literal["evaluated", "other", "calibration", "against", "reference"]
KINDS: tuple[RowKind, ...] = ("evaluated", "other", "against", "calibration", "reference")


@dataclass(frozen=True)
class ColumnView:
    """One score column."""

    name: str
    unit: str
    better: Better
    summary: str


@dataclass(frozen=True)
class RowView:
    """One row of the summary table.

    Attributes:
        name: What people read.
        kind: What the row is of.
        summary: One sentence about the model.
        n_clips: Clips of the row.
        scores: Records by column.
        n_incomplete: Clips that lack at least one value; None when nobody counted.
        intervals: 95 % intervals of the means of clip metrics, by column.
        still: How little the row moves, when it barely moves (`macebench.report.activity`); else empty.
    """

    name: str
    kind: RowKind
    summary: str
    n_clips: int
    scores: Mapping[str, ScoreRecord]
    n_incomplete: int | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    still: str = ""

    def value(self, column: str) -> float:
        """The value; NaN when there is none."""
        record = self.scores.get(column)
        return math.nan if record is None or record.value is None else record.value


@dataclass(frozen=True)
class ClipView:
    """One clip of the evaluated model under one protocol.

    Attributes:
        clip_id: Its id.
        sha256: Hash of the video or motion file.
        duration_s: Seconds.
        values: Clip metric values by column; NaN when unscored.
        distances: Distance from the reference's mean by feature, in its deviations; NaN when there is no feature.
        reasons: Why a column or ``feature.<name>`` has no value.
        notes: Notes by column.
    """

    clip_id: str
    sha256: str
    duration_s: float
    values: Mapping[str, float]
    distances: Mapping[str, float]
    reasons: Mapping[str, str]
    notes: Mapping[str, str]

    @property
    def n_unscored(self) -> int:
        """Values and features that this clip lacks."""
        return sum(not math.isfinite(value) for value in self.values.values()) + sum(
            f"{FEATURE_PREFIX}{name}" in self.reasons for name in self.distances
        )


@dataclass(frozen=True)
class CopyView:
    """A generated clip and the training clip that is nearest to it.

    Attributes:
        clip_id: The generated clip.
        nearest: The training clip.
        distance: Their distance in feature space.
        ratio: That distance over what is usual between two real clips; NaN when unknown.
        exact: Whether the two are the same.
        near: Whether they are nearly or exactly the same.
    """

    clip_id: str
    nearest: str
    distance: float
    ratio: float
    exact: bool
    near: bool


@dataclass(frozen=True)
class CopyCount:
    """How many clips of a model are copies of a training clip; near ones include the exact ones."""

    model: str
    n_clips: int
    n_exact: int
    n_near: int


@dataclass(frozen=True)
class Contamination:
    """Copies among the generated clips of a section: counts by model, and the evaluated model's worst clips."""

    counts: Sequence[CopyCount]
    worst: Sequence[CopyView]


@dataclass(frozen=True)
class Section:
    """Everything under one resolved protocol.

    `aims` are the reference set's own values by column, where nearer to them is better.
    """

    protocol: Protocol
    columns: Sequence[ColumnView]
    rows: Sequence[RowView]
    clips: Sequence[ClipView]
    not_compared: Sequence[str] = ()
    aims: Mapping[str, float] = field(default_factory=dict)
    contamination: Contamination | None = None

    def gap(self, row: RowView, column: str) -> float:
        """Distance of a row's value from the reference set's own; NaN where that is not the aim."""
        return abs(row.value(column) - self.aims.get(column, math.nan))

    def cost(self, row: RowView, column: ColumnView) -> float:
        """What is smaller the better a row's value is; NaN when it has none, or no aim."""
        if column.better == "reference":
            return self.gap(row, column.name)
        return -row.value(column.name) if column.better == "higher" else row.value(column.name)


@dataclass(frozen=True)
class CurveView:
    """Motion speed of one clip with its beats; arrays of seconds and of `unit`."""

    times_s: FloatArray
    speed: FloatArray
    motion_beats_s: FloatArray
    music_beats_s: FloatArray
    unit: str = "px/s"


@dataclass(frozen=True)
class RunView:
    """A whole run folder.

    `videos` are paths of video and motion files by clip id, relative to the run folder. `warnings` say what was
    changed after the run was written, `cautions` what weakens its scores.
    """

    run: Path
    model: str
    sections: Sequence[Section]
    curves: Mapping[tuple[str, str], CurveView]
    videos: Mapping[str, str]
    environment: Mapping[str, str]
    seconds: Mapping[str, float]
    against: str = ""
    warnings: Sequence[str] = field(default_factory=tuple)
    cautions: Sequence[str] = field(default_factory=tuple)
