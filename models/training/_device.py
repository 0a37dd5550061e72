"""Where a training computes: CPU, one GPU, or several processes started by ``accelerate launch``.

Accelerate is used where there is something for it to do, that is on a GPU or with several processes. A single CPU
process needs nothing of it. Gradients of several processes are averaged in one buffer after the backward pass, so that
the network may be called in any way and any number of times in a step.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from macebench.errors import UserError

if TYPE_CHECKING:
    from macebench.models.training.config import TrainingConfig


@dataclass(frozen=True)
class Place:
    """The device of this process, and its place among the others.

    Attributes:
        device: Where tensors live.
        rank: Number of this process, from 0.
        world: How many processes there are.
        bf16: Whether the network runs in bfloat16.
        notice: What the user should know, or empty.
    """

    device: torch.device
    rank: int = 0
    world: int = 1
    bf16: bool = False
    notice: str = ""
    accelerator: Any = None

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of the network's pass."""
        if not self.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.world > 1:
            self.accelerator.wait_for_everyone()

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over the processes."""
        return tensor if self.world == 1 else self.accelerator.reduce(tensor, reduction="mean")

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any of the processes; all of them must ask."""
        return flag if self.world == 1 else bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give all processes the mean of their gradients; a gradient that one lacks counts as zero."""
        if self.world == 1:
            return
        held = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in held])
        flat = self.mean(flat)
        for parameter, part in zip(held, torch.split(flat, [p.numel() for p in held]), strict=True):
            parameter.grad = part.view_as(parameter).clone()


def find_place(config: TrainingConfig) -> Place:
    """The device that the settings ask for.

    Raises:
        UserError: a GPU is asked for and there is none, bf16 on a CPU, or several processes without accelerate.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    gpu = torch.cuda.is_available()
    if config.device == "cuda" and not gpu:
        raise UserError("device is cuda, but torch finds no GPU.", hint="Use `--set device=cpu`; `macebench doctor`.")
    on_gpu = gpu and config.device != "cpu"
    bf16 = config.precision == "bf16"
    if bf16 and not on_gpu:
        raise UserError(
            "precision is bf16, but the device is a CPU, where bf16 is several times slower than fp32.",
            hint="Use `--set precision=fp32`.",
        )
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if not on_gpu and processes == 1:
        return Place(torch.device("cpu"))
    return _accelerated(on_gpu, bf16, processes)


def _accelerated(on_gpu: bool, bf16: bool, processes: int) -> Place:
    try:
        accelerate = importlib.import_module("accelerate")
    except ImportError as error:
        if processes > 1:
            message = f"{processes} processes were started, but accelerate is not installed."
            raise UserError(message, hint="`pip install macebench[train]` installs it.") from error
        notice = "accelerate is not installed: one GPU with plain torch"
        return Place(torch.device("cuda"), bf16=bf16, notice=notice)
    made = accelerate.Accelerator(cpu=not on_gpu)
    return Place(made.device, made.process_index, made.num_processes, bf16, "", made)
