"""Rows of numbers by step in a CSV file that survives a killed process.

Numbers are written with nine digits, which is all of a float32: equal files mean equal runs.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from macebench.errors import UserError

STEP = "step"


class Curve:
    """A CSV file with a row a step. Opening it drops rows from `start` on, and what a killed process left half written.

    Args:
        path: The file; None writes nothing.
        columns: Names of the numbers, without ``step``.
        start: First step that will be written.
    """

    def __init__(self, path: Path | None, columns: Sequence[str], start: int = 0) -> None:
        self.columns = tuple(columns)
        self._file: TextIO | None = None
        if path is None:
            return
        kept = [row for row in read_curve(path) if row[STEP] < start] if path.is_file() and start else []
        temporary = path.with_name(path.name + ".tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(",".join((STEP, *self.columns)) + "\n")
            file.writelines(self._line(int(row[STEP]), row) for row in kept)
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8", newline="")

    def __enter__(self) -> Curve:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append the row of `step`; a column that is not among `values` stays empty."""
        if self._file is not None:
            self._file.write(self._line(step, values))
            self._file.flush()

    def sync(self) -> None:
        """Put what was added on the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def _line(self, step: int, values: Mapping[str, float]) -> str:
        cells = (values.get(name, math.nan) for name in self.columns)
        return ",".join((str(step), *("" if math.isnan(cell) else f"{cell:.9g}" for cell in cells))) + "\n"


def read_curve(path: Path) -> list[dict[str, float]]:
    """The rows of a curve; empty cells are NaN. A last row that was not written to its end is left out.

    Raises:
        UserError: the file is no curve.
    """
    text = path.read_text("utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    if not lines or not lines[0].startswith(STEP):
        raise UserError(f"{path} has no column {STEP!r}.", hint="Remove it, or start anew with --fresh.")
    try:
        return [
            {name: float(cell) if cell else math.nan for name, cell in row.items()} for row in csv.DictReader(lines)
        ]
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} holds something that is no number.", hint="Start anew with --fresh.") from error
