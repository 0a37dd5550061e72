"""When a run may go on in its folder, and what is cleared where it starts anew."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from macebench.errors import UserError
from macebench.models.training._state import FOLDER, checkpoints, read_checkpoint
from macebench.models.training.config import LATER, SCHEDULING

if TYPE_CHECKING:
    from macebench.models.training.config import TrainingConfig

LOSS, VALIDATION, MODEL, RECORD, PLOT = (
    "loss.csv", "validation.csv", "model.safetensors", "train.json", "loss.png",
)  # fmt: skip
_HINT = "Use the same settings, another --out, or start anew with --fresh."


def identity(config: TrainingConfig) -> dict[str, Any]:
    """The settings that a checkpoint must share with the run that goes on from it."""
    left_out = SCHEDULING | {"data"}  # the data's own fingerprint is compared
    return {name: value for name, value in config.plain().items() if name not in left_out}


def check_identity(theirs: Mapping[str, Any], mine: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint of other settings or data.

    Args:
        theirs: What the checkpoint says of its run.
        mine: ``config``, ``network``, ``data``, ``normalizer`` and ``fitted`` (the data's own normaliser, which older
            versions always used).
        path: The checkpoint.

    Raises:
        UserError: they differ.
    """
    for name, value in mine["config"].items():
        other = theirs["config"].get(name, LATER.get(name))
        if other != value:
            raise UserError(f"{path} was made with {name} {other!r}, now it is {value!r}.", hint=_HINT)
    if theirs["network"] != mine["network"]:
        raise UserError(f"{path} was made with another network.", hint=_HINT)
    if theirs["data"] != mine["data"]:
        raise UserError(f"{path} was made with other training data.", hint=_HINT)
    if theirs.get("normalizer", mine["fitted"]) != mine["normalizer"]:
        raise UserError(f"{path} was made with another normaliser of the motions.", hint=_HINT)


def check_steps(step: int, config: TrainingConfig, out: Path) -> None:
    """Refuse a run that has more steps already than it is asked for."""
    if step > config.steps:
        raise UserError(
            f"{out} has {step} steps already, {config.steps} are asked for.",
            hint=f"Ask for {step} or more, use another --out, or start anew with --fresh.",
        )


def changes(theirs: Mapping[str, Any], mine: Mapping[str, Any], step: int) -> list[str]:
    """What may differ from the call that wrote a checkpoint, and then makes other numbers."""
    names = [name for name in ("steps", "processes") if theirs[name] != mine[name]]
    return [f"from step {step} on: {name} {mine[name]}, before {theirs[name]}" for name in names]


def make_folder(out: Path) -> None:
    """Make the run folder. Raises `UserError` when that is not possible."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the run folder {out} cannot be made: {error}.", hint="Name another one with --out."
        ) from error


def check_base(config: TrainingConfig, out: Path) -> None:
    """Refuse to begin with the weights that this very run would replace."""
    if config.start_from is not None and Path(config.start_from).resolve() == (out / MODEL).resolve():
        raise UserError(f"start_from is {out / MODEL}, which this run writes.", hint="Use another --out.")


def clear(out: Path) -> None:
    """Remove what an earlier run wrote; built data stays."""
    for path in [
        *(path for _, path in checkpoints(out)),
        *(out / name for name in (LOSS, VALIDATION, MODEL, RECORD, PLOT)),
    ]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (out / FOLDER).rmdir()


def read_record(out: Path) -> dict[str, Any]:
    """``train.json`` of a run; empty where there is none that can be read."""
    try:
        found = json.loads((out / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Budget:
    """What a run folder was trained with: steps, processes, and what later calls changed."""

    steps: int
    processes: int
    history: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """For people, without the history."""
        return f"{self.steps} steps" + (f" in {self.processes} processes" if self.processes > 1 else "")


def budgets_in(out: Path) -> list[Budget]:
    """What a run folder says of its training: its record, and its newest checkpoint that can be read."""
    found = []
    record = read_record(out)
    if record:
        found.append(Budget(record["steps"], record.get("world", 1), tuple(record.get("history", ()))))
    for _, path in reversed(checkpoints(out)):
        with contextlib.suppress(UserError):
            values = read_checkpoint(path, torch.device("cpu"))
            theirs = json.loads(values["identity"])
            found.append(Budget(theirs["steps"], theirs["processes"], tuple(values["history"])))
            break
    return found
