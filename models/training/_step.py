"""One step of a training: what is drawn, the loss, and the update.

Everything that step k of process r draws comes from (seed, k, r): diffusion times, beta, noise and which samples lose
their music from one generator, dropout from torch's own, which is set anew for every step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macebench.models.diffusion.guidance import training_prediction
from macebench.models.diffusion.losses import Losses, LossWeights, motion_losses

if TYPE_CHECKING:
    from macebench.models.diffusion.schedule import Schedule
    from macebench.models.motion_expert.codec import Normalizer
    from macebench.models.motion_expert.network import MotionExpertNetwork
    from macebench.models.training._device import Place
    from macebench.models.training._state import State
    from macebench.models.training.config import TrainingConfig
    from macebench.models.training.data import Batch

TERMS = ("reconstruction", "velocity", "joints", "foot", "total")
COLUMNS = ("loss", "reconstruction", "velocity", "joints", "foot", "gradient", "lr")


@dataclass(frozen=True)
class Tensors:
    """A batch on its device: motion (b, t, 151) normalised, music (b, t, 35), genre (b,) int64."""

    motion: Tensor
    music: Tensor
    genre: Tensor


def tensors(batch: Batch, genres: NDArray[np.int64], device: torch.device) -> Tensors:
    """A batch on its device; `genres` are the network's numbers of the data's genres."""
    arrays = (batch.motion, batch.music, genres[batch.genre])
    return Tensors(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


@dataclass(frozen=True)
class Draws:
    """What one step draws: times (b,) int64, beta (b,) in [0, 1), noise as the motion.

    drop and drop_genre (b,) bool are the samples that lose their music, and their genre.
    """

    times: Tensor
    beta: Tensor
    noise: Tensor
    drop: Tensor
    drop_genre: Tensor


def mixed_seed(*parts: int) -> int:
    """A seed of 63 bits that depends on all parts."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def draw(config: TrainingConfig, step: int, rank: int, motion: Tensor, timesteps: int) -> Draws:
    """The random numbers of a step; drawn on the CPU, so that they are the same on any device."""
    generator = torch.Generator().manual_seed(mixed_seed(config.seed, step, rank))
    n = len(motion)
    times = torch.randint(0, timesteps, (n,), generator=generator)
    beta = torch.rand(n, generator=generator)
    drop = torch.rand(n, generator=generator) < config.drop_share
    drop_genre = torch.rand(n, generator=generator) < config.genre_drop
    noise = torch.randn(motion.shape, generator=generator)
    device = motion.device
    return Draws(*(item.to(device) for item in (times, beta, noise, drop, drop_genre)))


def loss_weights(config: TrainingConfig) -> LossWeights:
    """The settings' weights of the losses."""
    return LossWeights(**config.loss_weights.model_dump())


def losses(
    network: MotionExpertNetwork,
    batch: Tensors,
    draws: Draws,
    schedule: Schedule,
    normalizer: Normalizer,
    config: TrainingConfig,
    place: Place,
) -> Losses:
    """The losses of a batch; the network in the place's precision, the losses in float32."""
    noised = schedule.q_sample(batch.motion, draws.times, draws.noise)
    genre = batch.genre
    if network.config.genres:
        genre = torch.where(draws.drop_genre, network.config.genre_index(None), genre)
    with place.autocast():
        predicted = training_prediction(
            network, noised, batch.music, genre, draws.times, draws.beta, form=config.guidance, drop=draws.drop
        )
    return motion_losses(predicted.float(), batch.motion, normalizer, form=config.loss, weights=loss_weights(config))


def update(
    state: State, batch: Tensors, schedule: Schedule, normalizer: Normalizer, config: TrainingConfig, place: Place
) -> dict[str, float]:
    """One update of the weights.

    Returns:
        The numbers of `COLUMNS`. Where the loss or the gradient is no finite number, nothing was updated.
    """
    draws = draw(config, state.step, place.rank, batch.motion, schedule.timesteps)
    torch.manual_seed(mixed_seed(config.seed, state.step, place.rank, 1))  # dropout
    state.network.train()
    state.optimizer.zero_grad(set_to_none=True)
    found = losses(state.network, batch, draws, schedule, normalizer, config, place)
    found.total.backward()  # type: ignore[no-untyped-call]
    parameters = list(state.network.parameters())
    place.average_gradients(parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if config.clip is None else config.clip)
    terms = torch.stack([found.total, found.reconstruction, found.velocity, found.joints, found.foot]).detach()
    values = [*place.mean(terms.float()).tolist(), float(norm), config.learning_rate(state.step)]
    row = dict(zip(COLUMNS, values, strict=True))
    if is_finite(row):
        for group in state.optimizer.param_groups:
            group["lr"] = row["lr"]
        state.optimizer.step()
        state.ema.update(state.network)
    return row


def is_finite(row: dict[str, float]) -> bool:
    """Whether a step's loss and gradient are finite numbers."""
    return math.isfinite(row["loss"]) and math.isfinite(row["gradient"])
