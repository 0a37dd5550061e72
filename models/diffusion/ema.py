"""Exponential moving average of a network's parameters: shadow <- d * shadow + (1 - d) * parameter.

The released trainers use d = 0.9999 after every step. With `warmup` the k-th update (k = 0, 1, ...) uses
min(d, (1 + k) / (10 + k)), so that short runs do not keep the initial weights. Buffers are copied, not averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from macebench.errors import UserError

UPDATES = "ema.updates"


class EMA:
    """The average of one network's parameters, kept beside it.

    Args:
        network: Its present values are the first shadow.
        decay: d, in [0, 1).
        warmup: Whether the first updates use the smaller decay of the module's text.

    Raises:
        UserError: decay is outside [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float = 0.9999, *, warmup: bool = False) -> None:
        if not 0.0 <= decay < 1.0:
            raise UserError(f"an EMA decay of {decay}", hint="take a number in [0, 1), for example 0.9999")
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.shadow: dict[str, Tensor] = {
            name: value.detach().clone() for name, value in network.state_dict(keep_vars=True).items()
        }

    def decay_of(self, update: int) -> float:
        """The decay that the update with this number (0 first) uses."""
        return min(self.decay, (1 + update) / (10 + update)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network's present values.

        Raises:
            UserError: The network has other parameters than the one the average was made of.
        """
        values = network.state_dict(keep_vars=True)
        _same_names(values, self.shadow)
        share = 1.0 - self.decay_of(self.updates)
        for name, value in values.items():
            if isinstance(value, nn.Parameter):
                self.shadow[name].lerp_(value.detach(), share)
            else:
                self.shadow[name].copy_(value)
        self.updates += 1

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Put the average into the network."""
        values = network.state_dict(keep_vars=True)
        _same_names(values, self.shadow)
        for name, value in values.items():
            value.detach().copy_(self.shadow[name])

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """The network holds the average inside the `with` block and its own values, bit by bit, after it."""
        own = {name: value.detach().clone() for name, value in network.state_dict(keep_vars=True).items()}
        self.copy_to(network)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in network.state_dict(keep_vars=True).items():
                    value.detach().copy_(own[name])

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the averages by parameter name, and the number of updates as ``ema.updates``."""
        state = {name: value.clone() for name, value in self.shadow.items()}
        state[UPDATES] = torch.tensor(self.updates, dtype=torch.int64)
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` gave; later updates are then bit by bit those of the saved average.

        Raises:
            UserError: Names are missing or unexpected, or a shape differs.
        """
        if UPDATES not in state:
            raise UserError(f"the saved average has no entry {UPDATES}", hint="save it with EMA.state_dict()")
        _same_names({name: value for name, value in state.items() if name != UPDATES}, self.shadow)
        for name, value in self.shadow.items():
            if state[name].shape != value.shape:
                raise UserError(f"{name} has shape {tuple(state[name].shape)}, not {tuple(value.shape)}")
            value.copy_(state[name])
        self.updates = int(state[UPDATES])


def _same_names(given: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> None:
    missing, unexpected = sorted(known.keys() - given.keys()), sorted(given.keys() - known.keys())
    if missing or unexpected:
        raise UserError(
            f"the average is of another network: missing {missing[:5]}, unexpected {unexpected[:5]}",
            hint="make the EMA from a network with the same configuration",
        )
