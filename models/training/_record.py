"""What a finished training says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from macebench.models.training._curve import STEP, read_curve
from macebench.models.training._datasets import placeless
from macebench.models.training._resume import LOSS, VALIDATION

if TYPE_CHECKING:
    from macebench.models.training.config import TrainingConfig

LAST_STEPS = 100


def last_losses(out: Path) -> list[float]:
    """Losses of the last `LAST_STEPS` steps that have one."""
    return [row["loss"] for row in read_curve(out / LOSS) if row["loss"] - row["loss"] == 0.0][-LAST_STEPS:]


def last_scores(out: Path) -> dict[str, float]:
    """The numbers of the last validation."""
    rows = read_curve(out / VALIDATION)
    last = rows[-1] if rows else {}
    return {name: value for name, value in last.items() if name != STEP and value - value == 0.0}


def placeless_config(config: TrainingConfig) -> dict[str, Any]:
    """The settings without the folders of the machine."""
    values = config.plain()
    values["data"] = [placeless(name) for name in config.data]
    if config.start_from is not None:
        values["start_from"] = Path(config.start_from).name
    return values
