"""Numbers of a training for TensorBoard, where the package ``tensorboard`` is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from macebench.errors import UserError

FOLDER = "tensorboard"


class Board:
    """Writes scalars below ``tensorboard/`` of a run folder; one that is off does nothing.

    Raises:
        UserError: it is on, and tensorboard is not installed.
    """

    def __init__(self, out: Path, on: bool) -> None:
        self._writer: Any = None
        if not on:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            message = "tensorboard is true, but TensorBoard is not installed."
            raise UserError(message, hint="`pip install tensorboard`, or leave it out: loss.csv has all.") from error
        self._writer = SummaryWriter(str(out / FOLDER))

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Write the numbers that are finite, each as ``group/name``."""
        for name, value in values.items() if self._writer is not None else ():
            if math.isfinite(value):
                self._writer.add_scalar(f"{group}/{name}", value, step)
