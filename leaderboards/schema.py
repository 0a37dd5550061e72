"""The leaderboard's table: one CSV row for each model and resolved protocol.

Columns, in this order: what was scored (`LEADING`), then for each score ``<name>``, ``<name>.n`` and
``<name>.unscored`` (names sorted) and, where nearer to the ground truth is better, ``<name>.reference`` (the reference
set's own value), then where it comes from (`TRAILING`). A value that does not exist is an empty cell. Numbers are
written with the fewest digits that read back as the same float64.

``n_unscored`` counts values, summed over all scores: a clip that lacks three scores counts three times.
``n_incomplete`` counts clips: those that lack at least one value or feature.

A cell that begins with ``= + - @``, a tab, a carriage return or an apostrophe and is no number gets an apostrophe
in front, so that no spreadsheet runs it; reading takes the apostrophe off again. Columns of `OPTIONAL`, and
``<name>.reference``, came later or may be unknown: a file without them loads. Any other missing or unknown column is
an error.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from macebench.errors import UserError
from macebench.store import atomic_write

LEADING = (
    "model", "kind", "protocol", "protocol_hash", "pose_backend", "reference", "reference_sha256", "n_reference",
    "n_clips", "n_unscored", "n_incomplete",
)  # fmt: skip
VERSIONS = ("macebench", "python", "numpy", "scipy", "librosa")
TRAILING = (
    *(f"version.{name}" for name in VERSIONS),
    "evaluator_seconds", "evaluator_device", "generator_seconds_per_second", "clips_sha256", "status",
    "status_reason", "superseded_by", "run",
)  # fmt: skip
OPTIONAL = frozenset(
    {
        *(f"version.{name}" for name in VERSIONS),
        "n_incomplete", "evaluator_seconds", "evaluator_device", "generator_seconds_per_second", "status",
        "status_reason", "superseded_by", "run",
    }
)  # fmt: skip
COST = ("evaluator_seconds", "evaluator_device", "generator_seconds_per_second")
_NUMBERS_OR_NONE = ("evaluator_seconds", "generator_seconds_per_second")
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "'")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cell(_Record):
    """One score of a row.

    Attributes:
        value: The number; None when nothing was scored.
        n: Clips that have a value.
        unscored: Clips that have none.
        reference: The reference set's own value, where nearer to it is better; None when there is none, or when the
            row does not say.
    """

    value: float | None
    n: int = Field(ge=0)
    unscored: int = Field(ge=0)
    reference: float | None = None


class ScoreRow(_Record):
    """One row of the board.

    Attributes:
        model: Name of the model.
        kind: See `macebench.types.ModelCard`.
        protocol: Id of the protocol.
        protocol_hash: Hash of the resolved protocol; rows of different hashes never compare.
        pose_backend: Name and model of the pose back end; empty when none was used.
        reference: Name of the reference set.
        reference_sha256: Hash of the reference set.
        n_reference: Clips in the reference set.
        n_clips: Clips of the model.
        n_unscored: Values without a number, over all scores.
        n_incomplete: Clips that lack at least one value or feature; None when the row does not say.
        scores: Score cells by name.
        versions: Versions of the software that computed the row, of `VERSIONS`.
        evaluator_seconds: Wall time of the whole run that the row comes from; what was in the store costs nothing.
        evaluator_device: What the run was computed on.
        generator_seconds_per_second: Seconds that the model needs for a second of dance.
        clips_sha256: Hash of the run's ``clips.parquet``, from which every number can be computed again.
        status: ``retracted`` rows stay in the file, with their reason.
        status_reason: Why the row was retracted.
        superseded_by: Hash of the protocol, or the row, that replaces this one.
        run: Run folder relative to the board's folder, or a URL.
    """

    model: str = Field(min_length=1)
    kind: Literal["motion", "video", "calibration", "external"]
    protocol: str
    protocol_hash: str = Field(min_length=1)
    pose_backend: str
    reference: str
    reference_sha256: str
    n_reference: int = Field(ge=0)
    n_clips: int = Field(ge=0)
    n_unscored: int = Field(ge=0)
    n_incomplete: int | None = Field(default=None, ge=0)
    scores: dict[str, Cell]
    versions: dict[Literal["macebench", "python", "numpy", "scipy", "librosa"], str] = {}
    evaluator_seconds: float | None = None
    evaluator_device: str = ""
    generator_seconds_per_second: float | None = None
    clips_sha256: str
    status: Literal["valid", "retracted"] = "valid"
    status_reason: str = ""
    superseded_by: str = ""
    run: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What is unique on a board."""
        return (self.model, self.protocol_hash)


def escape_cell(text: str) -> str:
    """`text` as it may stand in a CSV file; see the module's docstring."""
    return f"'{text}" if text.startswith(_DANGEROUS) and not _is_number(text) else text


def unescape_cell(cell: str) -> str:
    """The inverse of `escape_cell`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_DANGEROUS) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and not text[0].isspace()


def to_csv(rows: Sequence[ScoreRow]) -> str:
    """The text of a board: equal rows in equal order give equal text."""
    flat = [_flat(row) for row in rows]
    names = sorted({name.removesuffix(".n") for row in flat for name in row if name.endswith(".n")})
    aimed = {name for row in rows for name, cell in row.scores.items() if cell.reference is not None}
    scores = [column for name in names for column in (*_triple(name), *([_aim(name)] if name in aimed else []))]
    columns = [*LEADING, *scores, *TRAILING]
    lines = [columns, *([_text(row.get(name)) for name in columns] for row in flat)]
    return "".join(",".join(_quoted(escape_cell(cell)) for cell in line) + "\n" for line in lines)


def from_csv(text: str, where: str = "board") -> list[ScoreRow]:
    """The rows of a board's text.

    Raises:
        UserError: a column is missing, unknown or twice there, or a cell is wrong; names `where` and line.
    """
    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True)) if text.strip() else []
    if not lines:
        raise UserError(
            f"{where} is empty: it has no header.", hint="`macebench leaderboard add RUN --board BOARD` makes a board."
        )
    header = [unescape_cell(cell) for cell in lines[0]]
    scores = _check_header(header, where)
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise UserError(f"{where}, row {number}: {len(cells)} cells, the header has {len(header)}.")
        values = dict(zip(header, map(unescape_cell, cells), strict=True))
        rows.append(_row(values, scores, f"{where}, row {number}"))
    return rows


def read_board(path: Path) -> list[ScoreRow]:
    """The rows of a board file.

    Raises:
        UserError: there is none, or it does not follow the schema.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"leaderboard {path} does not exist.", hint=f"`macebench leaderboard add RUN --board {path}` makes one."
        )
    try:
        return from_csv(path.read_bytes().decode("utf-8-sig"), str(path))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"leaderboard {path} is no UTF-8 CSV file: {error}") from error


def write_board(path: Path, rows: Sequence[ScoreRow]) -> None:
    """Write a board atomically."""
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(to_csv(rows).encode("utf-8"))


def _triple(name: str) -> tuple[str, str, str]:
    return (name, f"{name}.n", f"{name}.unscored")


def _aim(name: str) -> str:
    return f"{name}.reference"


def _text(value: object) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _quoted(cell: str) -> str:
    # Python's csv writer leaves a lone carriage return unquoted, which its own reader then takes for a line end.
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\r\n') else cell


def _flat(row: ScoreRow) -> dict[str, Any]:
    values = row.model_dump(exclude={"scores", "versions"})
    values |= {f"version.{name}": row.versions.get(name, "") for name in VERSIONS}  # type: ignore[call-overload]
    for name, cell in row.scores.items():
        if name in values or name.endswith((".n", ".unscored", ".reference")):
            raise ValueError(f"a score cannot be called {name!r}: the name is taken by the schema")
        values |= dict(zip(_triple(name), (cell.value, cell.n, cell.unscored), strict=True))
        values |= {_aim(name): cell.reference} if cell.reference is not None else {}
    return values


def _check_header(header: Sequence[str], where: str) -> list[str]:
    """The names of the scores."""
    known = {*LEADING, *TRAILING}
    scores = [name for name in header if name not in known and {*_triple(name)} <= {*header}]
    expected = known | {column for name in scores for column in (*_triple(name), _aim(name))}
    problems = {
        "unknown columns": [name for name in header if name not in expected],
        "missing columns": sorted(known - OPTIONAL - {*header}),
        "columns that are twice there": sorted({name for name in header if header.count(name) > 1}),
    }
    for what, names in problems.items():
        if names:
            raise UserError(f"{where}: {what}: {', '.join(names)}.")
    return scores


def _row(values: Mapping[str, str], scores: Iterable[str], where: str) -> ScoreRow:
    fields: dict[str, Any] = {name: values[name] for name in (*LEADING, *TRAILING) if values.get(name)}
    fields |= {name: values.get(name, "") for name in LEADING if not name.startswith("n_") and name != "kind"}
    fields["versions"] = {
        name: fields.pop(f"version.{name}") for name in VERSIONS if f"version.{name}" in fields
    }  # fmt: skip
    fields["scores"] = {name: cell for name in scores if (cell := _cell(values, name)) is not None}
    try:
        return ScoreRow.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: {field}: {first['msg']} (got {first['input']!r}).") from error


def _cell(values: Mapping[str, str], name: str) -> dict[str, Any] | None:
    """A score's cells; None when the row has no such score."""
    value, n, unscored = (values[column] for column in _triple(name))
    reference = values.get(_aim(name))
    if not (value or n or unscored or reference):
        return None
    return {"value": value or None, "n": n, "unscored": unscored, "reference": reference or None}


def as_float(cell: Cell) -> float:
    """The value; NaN when there is none."""
    return math.nan if cell.value is None else cell.value
