"""What a training holds in memory, and its checkpoints on disk.

A checkpoint is one file ``checkpoints/step-00000500.pt``: tensors and plain values, read with ``weights_only=True``. It
is written beside its place and moved there, so that a killed process or a full disk leaves the older ones as they are.
The last two are kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

from macebench.errors import UserError
from macebench.models.diffusion.ema import EMA
from macebench.models.motion_expert.network import MotionExpertNetwork
from macebench.models.training._base import put_weights

if TYPE_CHECKING:
    from macebench.models.motion_expert.checkpoint import Checkpoint
    from macebench.models.motion_expert.config import MotionExpertConfig
    from macebench.models.training.config import TrainingConfig

FOLDER = "checkpoints"
KEPT = 2
FORMAT = 1
SPARED = frozenset({"null_cond_embed", "A_log"})
"""Parameters of two and more axes that have no weight decay."""
_KEYS = frozenset({"format", "step", "skipped", "history", "identity", "network", "ema", "optimizer"})
_DAMAGED = (
    RuntimeError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, RecursionError, OverflowError,
    struct.error, zipfile.BadZipFile, UnpicklingError,
)  # fmt: skip
"""What torch and the unpickler raise for a file that a disk or a copy has spoilt."""
_NAME = re.compile(r"step-(\d+)\.pt")
Parameters = list[torch.nn.Parameter]


@dataclass
class State:
    """The changing part of a training.

    Attributes:
        network: The network that is trained.
        ema: The running mean of its weights.
        optimizer: The optimizer.
        step: Steps that are done.
        skipped: Steps whose gradient was no number and was left out.
        history: What later calls changed, for the record.
    """

    network: MotionExpertNetwork
    ema: EMA
    optimizer: torch.optim.Optimizer
    step: int = 0
    skipped: int = 0
    history: list[str] = field(default_factory=list)


def new_state(
    config: TrainingConfig, network_config: MotionExpertConfig, device: torch.device, base: Checkpoint | None = None
) -> State:
    """A fresh network with the weights that the seed gives, or those of `base`; its EMA and its optimizer."""
    torch.manual_seed(config.seed)
    network = MotionExpertNetwork(network_config).to(device)
    if base is not None:
        put_weights(network, base, config.start_from)
    ema = EMA(network, config.ema_decay, warmup=config.ema_warmup)
    return State(network, ema, make_optimizer(config, network))


def make_optimizer(config: TrainingConfig, network: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the settings name.

    Vectors (biases, norms, Mamba's D), the null embedding and Mamba's A_log have no weight decay, unless the settings'
    `decay` is ``all``.
    """
    decayed, others = _parameters(network)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.decay == "all":
        groups = [{"params": list(network.parameters()), "weight_decay": config.weight_decay}]
    if config.optimizer == "adan":
        from macebench.models.training.adan import Adan

        return Adan(groups, lr=config.lr)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.99))


def _parameters(network: torch.nn.Module, spared: Collection[str] = SPARED) -> tuple[Parameters, Parameters]:
    """The parameters with weight decay, and those without."""
    decayed: Parameters = []
    others: Parameters = []
    for name, parameter in network.named_parameters():
        has_decay = parameter.ndim >= 2 and name.rpartition(".")[2] not in spared
        (decayed if has_decay else others).append(parameter)
    return decayed, others


def save_checkpoint(state: State, out: Path, identity: Mapping[str, Any]) -> Path:
    """Write the checkpoint of a state and remove all but the last two.

    Args:
        state: What is saved.
        out: The run folder.
        identity: Plain values that decide whether a checkpoint belongs to a run (`load_checkpoint`).

    Raises:
        UserError: it cannot be written; older checkpoints are as they were.
    """
    folder = out / FOLDER
    values = {
        "format": FORMAT, "step": state.step, "skipped": state.skipped, "history": list(state.history),
        "identity": json.dumps(dict(identity), sort_keys=True), "network": state.network.state_dict(),
        "ema": state.ema.state_dict(), "optimizer": state.optimizer.state_dict(),
    }  # fmt: skip
    path = folder / f"step-{state.step:08d}.pt"
    write_atomically(path, lambda temporary: torch.save(values, temporary))
    for _, old in checkpoints(out)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, put it on the disk and move it to `path`.

    Raises:
        UserError: that failed; what stood at `path` is as it was.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        text = f"{path} cannot be written: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        hint = "Is the disk full? What was saved before is intact; the same command goes on from there."
        raise UserError(text, hint=hint) from error


def checkpoints(out: Path) -> list[tuple[int, Path]]:
    """Step and file of each checkpoint of a run, the oldest first."""
    found = ((_NAME.fullmatch(path.name), path) for path in (out / FOLDER).glob("step-*.pt"))
    return sorted((int(match[1]), path) for match, path in found if match)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """The content of a checkpoint file.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    try:
        sound = _is_sound(path)
        values = torch.load(path, map_location=device, weights_only=True) if sound else None
        if sound and isinstance(values, dict) and values.get("format") != FORMAT:
            raise UserError(f"checkpoint {path} has another format.", hint="Start anew with --fresh.")
        if isinstance(values, dict) and values.keys() >= _KEYS and isinstance(json.loads(values["identity"]), dict):
            return values
        reason = "it is damaged, or no checkpoint"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except _DAMAGED:
        reason = "it is damaged"
    raise UserError(f"checkpoint {path} cannot be read: {reason}.", hint="Remove it: the older one is used.")


def _is_sound(path: Path) -> bool:
    """Whether a file is an archive, as `torch.save` writes it, with the right checksums; torch looks at none."""
    if not zipfile.is_zipfile(path):
        path.stat()  # a file that is not there is another matter
        return False
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


def load_state(state: State, values: Mapping[str, Any]) -> None:
    """Put the content of a checkpoint into a state of the same settings."""
    state.network.load_state_dict(values["network"])
    state.ema.load_state_dict(values["ema"])
    _load_optimizer(state, values["optimizer"])
    state.step, state.skipped = int(values["step"]), int(values["skipped"])
    state.history = list(values["history"])


def _load_optimizer(state: State, saved: Mapping[str, Any]) -> None:
    """Put in an optimizer's state; a run that began when `SPARED` was decayed goes on so, with the same numbers."""
    before = _parameters(state.network, spared=())
    if [len(group["params"]) for group in saved["param_groups"]] == [len(part) for part in before]:
        for group, part in zip(state.optimizer.param_groups, before, strict=True):
            group["params"] = part
    state.optimizer.load_state_dict(dict(saved))
