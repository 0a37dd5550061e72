"""What a training is judged by on held-out data: losses at fixed diffusion times, and sampled dances with our metrics.

Losses are measured on fixed windows with fixed noise at each of the settings' times, in evaluation mode, with the
losses' weights of the training; beta is that of sampling. A few dances are sampled to held-out music with few
denoising steps and scored against held-out dances of the same length. Nothing here depends on, or changes, the random
state of the training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch

from macebench.errors import UserError
from macebench.models.diffusion.guidance import guided_denoiser
from macebench.models.diffusion.sampling import ddim, seeded_noise
from macebench.models.diffusion.schedule import Schedule
from macebench.models.motion_expert.codec import decode
from macebench.models.training._datasets import genre_numbers
from macebench.models.training._score import SCORES, evidence_of, score_motions
from macebench.models.training._step import TERMS, Draws, Tensors, losses, mixed_seed, tensors
from macebench.models.training.data import TrainingSet, Windows
from macebench.protocol import load_protocol
from macebench.types import Evidence, FloatArray

if TYPE_CHECKING:
    from macebench.models.motion_expert.network import MotionExpertNetwork
    from macebench.models.training._device import Place
    from macebench.models.training.config import TrainingConfig, ValidationSettings

SPLIT = "val"
LOSS_COLUMNS = tuple(f"val_{term}" for term in TERMS)
REAL_COLUMNS = ("div_k_real", "div_g_real", "bas_corrected_real", "fsr_real")
VALIDATION_COLUMNS = (*LOSS_COLUMNS, *SCORES, *REAL_COLUMNS, "clips")
MAX_REFERENCE = 64
Progress = Callable[[str, int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class HeldOut:
    """A held-out piece: music features (t, 35), number of its genre in the data, and the real dance as evidence."""

    music: FloatArray
    genre: int
    real: Evidence


def validate(
    network: MotionExpertNetwork,
    data: TrainingSet,
    config: TrainingConfig,
    place: Place,
    progress: Progress | None = None,
) -> dict[str, float]:
    """The numbers of `VALIDATION_COLUMNS`; NaN where there is nothing to measure.

    Args:
        network: The running mean's network, in evaluation mode.
        data: The training set; its split ``val`` is used.
        config: The settings.
        place: The device.
        progress: Told the phase, what is done and the whole.
    """
    found = dict.fromkeys(VALIDATION_COLUMNS, math.nan)
    state = torch.random.get_rng_state()
    try:
        with torch.no_grad():
            found |= _losses(network, data, config, place)
            found |= _scores(network, data, config, place, progress or (lambda *_: None))
    finally:
        torch.random.set_rng_state(state)
    return found


def _losses(network: MotionExpertNetwork, data: TrainingSet, config: TrainingConfig, place: Place) -> dict[str, float]:
    settings = config.validation
    if not settings.batches or not settings.times or not has_split(data, config.window_frames()):
        return {}
    windows = Windows(data, config.window_frames(), config.batch, config.seed, SPLIT)
    schedule = Schedule.cosine()
    genres = genre_numbers(data, network.config)
    rows = []
    for index in range(settings.batches):
        made = windows.batch(index)
        batch = tensors(made, genres, place.device)
        for at in settings.times:
            draws = _fixed_draws(config, batch, index, at)
            terms = losses(network, batch, draws, schedule, data.normalizer, config, place)
            rows.append([float(getattr(terms, term)) for term in TERMS])
    return dict(zip(LOSS_COLUMNS, np.mean(rows, axis=0).tolist(), strict=True))


def _fixed_draws(config: TrainingConfig, batch: Tensors, index: int, at: int) -> Draws:
    generator = torch.Generator().manual_seed(mixed_seed(config.seed, index, at, 2))
    noise = torch.randn(batch.motion.shape, generator=generator).to(batch.motion)
    n, device = len(noise), batch.motion.device
    beta = torch.full((n,), config.validation.beta, device=device)
    times = torch.full((n,), at, dtype=torch.int64, device=device)
    none = torch.zeros(n, dtype=torch.bool, device=device)
    return Draws(times, beta, noise, none, none)


def has_split(data: TrainingSet, frames: int, split: str = SPLIT) -> bool:
    """Whether a training set has sequences of at least `frames` frames in a split."""
    return any(item.split == split and item.length >= frames for item in data.sequences)


def _scores(
    network: MotionExpertNetwork, data: TrainingSet, config: TrainingConfig, place: Place, progress: Progress
) -> dict[str, float]:
    settings = config.validation
    if not settings.clips:
        return {}
    held = held_out(data, settings.frames or config.window_frames(), MAX_REFERENCE)
    if not held:
        return {}
    chosen = spread(held, settings.clips)
    sampled = sample(network, chosen, data, config, place, progress)
    real = [item.real for item in held]
    protocol = load_protocol(settings.protocol)
    own = score_motions(real, real, protocol)
    found = score_motions(sampled, real, protocol)
    aims = {name: own[name.removesuffix("_real")] for name in REAL_COLUMNS}
    return found | aims | {"clips": float(len(sampled))}


def spread(items: Sequence[T], n: int) -> list[T]:
    """`n` of the items, evenly spread over all; all of them where there are fewer."""
    if not items:
        return []
    picks = np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(int)
    return [items[int(pick)] for pick in picks]


def held_out(data: TrainingSet, frames: int, most: int, split: str = SPLIT) -> list[HeldOut]:
    """Pieces of `frames` frames of a split, side by side; a shorter sequence gives none.

    Returns:
        At most `most`, spread evenly over all that there are.
    """
    places = [
        (number, start)
        for number, item in enumerate(data.sequences)
        if item.split == split
        for start in range(0, item.length - frames + 1, frames)
    ]
    return [_piece(data, *place, frames) for place in spread(places, most)]


def _piece(data: TrainingSet, number: int, start: int, frames: int) -> HeldOut:
    item = data.sequences[number]
    rows = slice(item.start + start, item.start + start + frames)
    music = np.asarray(data.music[rows], dtype=np.float64)
    real = decode(np.asarray(data.motions[rows], dtype=np.float64))
    return HeldOut(music, data.genre_index(item), evidence_of(real, music, f"real-{number}-{start}"))


def sample(
    network: MotionExpertNetwork,
    items: Sequence[HeldOut],
    data: TrainingSet,
    config: TrainingConfig,
    place: Place,
    progress: Progress | None = None,
    *,
    settings: ValidationSettings | None = None,
    seed: int = 0,
    seconds: list[float] | None = None,
) -> list[Evidence]:
    """Dances to held-out music, one for each item, sampled one batch of `config.batch` at a time.

    The seconds that each batch's denoising took are appended to `seconds`.

    Raises:
        UserError: the network gives numbers that are none.
    """
    rules = settings or config.validation
    tell = progress or (lambda *_: None)
    made: list[Evidence] = []
    for first in range(0, len(items), config.batch):
        part = items[first : first + config.batch]
        started = time.monotonic()
        motions = _sample_batch(network, part, first, data, config, rules, place, seed)
        if seconds is not None:
            seconds.append(time.monotonic() - started)
        values = data.normalizer.unnormalize(motions.astype(np.float64))
        if not np.isfinite(values).all():
            raise UserError("the sampled motion holds numbers that are none.", hint="Lower lr, or train longer.")
        for offset, (item, value) in enumerate(zip(part, values, strict=True)):
            made.append(evidence_of(decode(value), item.music, f"sample-{first + offset}"))
        tell("sample", len(made), len(items))
    return made


def _sample_batch(
    network: MotionExpertNetwork,
    items: Sequence[HeldOut],
    first: int,
    data: TrainingSet,
    config: TrainingConfig,
    rules: ValidationSettings,
    place: Place,
    seed: int,
) -> FloatArray:
    cond = torch.as_tensor(np.stack([item.music for item in items]), dtype=torch.float32, device=place.device)
    numbers = genre_numbers(data, network.config)
    genre = torch.tensor([int(numbers[item.genre]) for item in items], dtype=torch.int64, device=place.device)
    form: Literal["cfg", "gft"] = "cfg" if config.guidance == "cfg" else "gft"
    seeds = [mixed_seed(config.seed, seed, first + offset, 3) for offset in range(len(items))]
    shape = (len(items), cond.shape[1], network.config.n_features)
    schedule = Schedule.cosine()
    with torch.no_grad(), place.autocast():
        denoiser = guided_denoiser(network, cond, genre, form=form, beta=rules.beta, scale=rules.scale)
        found = ddim(denoiser, shape, schedule, seeded_noise(seeds, device=place.device), steps=rules.ddim_steps)
    return np.asarray(found.float().cpu().numpy(), dtype=np.float64)
