"""The documented schema of a run folder.

A run folder holds:

- ``result.json``: a `RunResult`.
- ``clips.parquet``: one row for each model and clip: ``model``, ``protocol_hash``, ``clip_id``, ``role``
  (``generated`` or ``reference``), ``sha256``, ``music_sha256``, ``duration_s``, one float64 column for each
  value of a clip metric (NaN when unscored), one list column ``feature.<name>`` for each feature, and
  ``reasons`` and ``notes``, JSON objects ``{column: text}``.
- ``poses/<clip_id>.npz``: keypoints, confidence, times_s, width, height, skeleton (no pickle).
- ``curves.parquet``: what the plots show: one row for each clip with speed curve, motion and music beats.
- ``contamination.parquet``: only with a training set; one row for each evaluated clip: ``model``, ``protocol_hash``,
  ``clip_id``, ``nearest_clip_id``, ``distance``, ``ratio``, ``exact``, ``near``.
- ``report.html``: one page without outside links.
- ``timing.json``: wall times; the only file that differs between two equal runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from macebench.errors import UserError
from macebench.types import Better, Score

SCHEMA_VERSION = 1
RESULT_FILE, CLIPS_FILE, CURVES_FILE = "result.json", "clips.parquet", "curves.parquet"
REPORT_FILE, TIMING_FILE, POSES_FOLDER = "report.html", "timing.json", "poses"
CONTAMINATION_FILE = "contamination.parquet"
INDEX_COLUMNS = (
    "model",
    "protocol_hash",
    "clip_id",
    "role",
    "sha256",
    "music_sha256",
    "duration_s",
    "reasons",
    "notes",
)
FEATURE_PREFIX = "feature."
EXTRAPOLATED = "_infinity"
"""Part of the names of columns with a distance extrapolated to infinitely many clips; below 0 it is an error."""
_PIECE = re.compile(r"(?P<file>.+)@(?P<start>\d+\.\d{3})")


def split_piece(clip_id: str) -> tuple[str, float]:
    """The clip that a row is of, and where in it the row's piece starts, in seconds.

    Rows of a protocol that cuts motions into windows are named ``<clip>@<start>`` (`macebench.pieces`).

    Example:
        >>> split_piece("solo/a@12.000"), split_piece("solo/a")
        (('solo/a', 12.0), ('solo/a', 0.0))
    """
    found = _PIECE.fullmatch(clip_id)
    return (found["file"], float(found["start"])) if found is not None else (clip_id, 0.0)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScoreRecord(_Record):
    """A `Score` in JSON: NaN is null.

    `reference` is the reference set's own value where nearer to it is better (``better: reference``), else null.
    """

    name: str
    value: float | None
    n: int
    n_unscored: int
    unit: str
    better: Better
    reasons: dict[str, int]
    notes: dict[str, int]
    reference: float | None = None

    @classmethod
    def of(cls, score: Score, reference: float = math.nan) -> ScoreRecord:
        """The record of a score; `reference` is the reference set's own value, NaN when there is none."""
        return cls(
            name=score.name, value=_or_none(score.value), n=score.n, n_unscored=score.n_unscored, unit=score.unit,
            better=score.better, reasons=dict(sorted(score.reasons.items())), notes=dict(sorted(score.notes.items())),
            reference=_or_none(reference),
        )  # fmt: skip

    @property
    def gap(self) -> float | None:
        """Distance of the value from the reference set's own; None when one of the two is not there."""
        if self.value is None or self.reference is None:
            return None
        return abs(self.value - self.reference)

    def score(self, protocol_hash: str) -> Score:
        """The score of a record."""
        value = math.nan if self.value is None else self.value
        return Score(self.name, value, self.n, self.n_unscored, self.unit, self.better, protocol_hash,
                     self.reasons, self.notes)  # fmt: skip


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def with_reference(scores: Iterable[Score], reference: Iterable[Score]) -> list[ScoreRecord]:
    """Records of `scores` with the reference set's own value beside each score that has no better direction.

    Args:
        scores: Scores of a model under a protocol.
        reference: Scores of the reference set under the same protocol (`macebench.aggregate.reference_scores`).
    """
    own = {score.name: score.value for score in reference}
    return [
        ScoreRecord.of(score, own.get(score.name, math.nan) if score.better == "reference" else math.nan)
        for score in scores
    ]


class ModelRecord(_Record):
    """Model card fields of a row."""

    name: str
    kind: Literal["motion", "video", "calibration", "external"]
    summary: str = ""
    source: str = ""
    licence: str = ""


class Entry(_Record):
    """Scores of one model under one resolved protocol. `n_incomplete` clips lack at least one value."""

    model: ModelRecord
    protocol_hash: str
    n_clips: int
    n_incomplete: int = 0
    scores: list[ScoreRecord]

    def score(self, name: str) -> ScoreRecord:
        """The score called `name`; KeyError when the row has none."""
        for record in self.scores:
            if record.name == name:
                return record
        raise KeyError(name)


class RunResult(_Record):
    """``result.json``: protocols by hash (complete, resolved), entries, and what computed them.

    `reference_unscored` counts, for each protocol hash, reference clips that lack a value or a feature, but for what
    they lack by design (`macebench.identity`);
    `n_shared_clips` counts evaluated clips whose bytes are also in the reference set; `metric_versions` says which
    version of each metric, and of each ``feature.<name>``, computed the run; `training_notes` says, for each protocol
    hash, what could not be compared with the training set.
    """

    schema_version: Literal[1] = 1
    protocols: dict[str, dict[str, Any]]
    entries: list[Entry]
    environment: dict[str, str]
    clips_sha256: str
    reference_unscored: dict[str, int] = {}
    n_shared_clips: int = 0
    metric_versions: dict[str, int] = {}
    training_notes: dict[str, str] = {}

    @property
    def n_unscored(self) -> int:
        """Unscored values over all entries."""
        return sum(score.n_unscored for entry in self.entries for score in entry.scores)

    def with_rows_of(self, other: RunResult) -> RunResult:
        """This result with the rows of another run under the same protocols before its own, to be shown in one table.

        Raises:
            ValueError: the other run has a protocol, reference set or back end that this one has not.
        """
        if strange := sorted(set(other.protocols) - set(self.protocols)):
            raise ValueError(f"protocols {', '.join(strange)} are not in both runs: their rows belong in two tables")
        return self.model_copy(update={"entries": [*other.entries, *self.entries]})

    @classmethod
    def read(cls, run: Path) -> RunResult:
        """The result of the run folder `run`.

        Raises:
            UserError: there is none, or it does not follow the schema.
        """
        path = Path(run) / RESULT_FILE
        if not path.is_file():
            raise UserError(f"{run} is no run folder: {RESULT_FILE} is missing.",
                            hint="`macebench eval --videos DIR --reference DIR --out RUN` makes one.")  # fmt: skip
        try:
            return cls.model_validate_json(path.read_text("utf-8"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(f"{path}: {where or 'the file'}: {first['msg']}.") from error
