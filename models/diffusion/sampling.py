"""Samplers: from noise to a motion by DDIM or DDPM, with or without a constraint.

A denoiser maps (x_t, t) to an estimate of x_0, which is clamped to [-1, 1]. DDIM (Song et al. 2021, arXiv 2010.02502)
recomputes the noise from x_t and the clamped estimate, as EDGE and MACE-Dance do; the step that ends at the clean
motion returns the estimate. eta = 0 draws noise for x_T only, eta = 1 (the released setting) at every step but the
last.

Noise comes from a `NoiseSource`, a function of a draw's number, so that a sample is a function of its seed. Draws:
0 is x_T and k = 1, 2, ... the noise of the k-th step. With a constraint, the given part of step k uses
`draw_number(GIVEN, k)`; repetition r of a step (`Constraint.resample`) uses `draw_number(STEP, k, r)` and
`draw_number(GIVEN, k, r)`, and going back up before it `draw_number(RENOISE, k, r)`.

Memory is a fixed number of (b, t, c) tensors beside what the denoiser takes: linear in t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from macebench.errors import UserError
from macebench.models.diffusion.constraints import Constrained, Constraint
from macebench.models.diffusion.schedule import Schedule

Denoiser = Callable[[Tensor, int], Tensor]
NoiseSource = Callable[[int, tuple[int, ...]], Tensor]
Progress = Callable[[int, int], None]
STEP: Final = 0
GIVEN: Final = 1
RENOISE: Final = 2
_BITS = 20
_SEED_LIMIT = 2**64


def draw_number(kind: int, step: int, repetition: int = 0) -> int:
    """The number of a draw: unique for kind (STEP, GIVEN, RENOISE), step and repetition, both below 2^20."""
    return (kind << 2 * _BITS) | (repetition << _BITS) | step


def seeded_noise(seeds: int | Sequence[int], *, device: torch.device | str = "cpu") -> NoiseSource:
    """Noise that depends on each row's own seed and on the draw's number only.

    A row's noise is the same in any batch and on any device, and that of a longer motion begins with that of a
    shorter one. It is drawn on the CPU from Philox-4x64 with the key (seed, draw) and moved to the device.

    Args:
        seeds: One for each row, in 0 .. 2^64 - 1; a single number s gives row i the seed s + i.
        device: Where the noise is put.

    Returns:
        A source of N(0, 1) noise, float32. It raises `UserError` when a shape has another number of rows.

    Raises:
        UserError: A seed outside its range, or no seed.
    """
    numbers = _checked(seeds)

    def source(draw: int, shape: tuple[int, ...]) -> Tensor:
        result = np.empty(shape, dtype=np.float32)
        for row, seed in zip(result, _of_rows(numbers, shape), strict=True):
            key = np.array([seed, draw], dtype=np.uint64)
            np.random.Generator(np.random.Philox(key=key)).standard_normal(dtype=np.float32, out=row)
        return torch.from_numpy(result).to(device)

    return source


def device_noise(seeds: int | Sequence[int], *, device: torch.device | str) -> NoiseSource:
    """As `seeded_noise`, drawn on the device: faster on a GPU, but other numbers on another kind of device."""
    numbers = _checked(seeds)
    generator = torch.Generator(device)

    def source(draw: int, shape: tuple[int, ...]) -> Tensor:
        rows = []
        for seed in _of_rows(numbers, shape):
            mixed = np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64)[0]
            generator.manual_seed(int(mixed >> np.uint64(1)))
            rows.append(torch.randn(shape[1:], generator=generator, device=device))
        return torch.stack(rows)

    return source


def ddim(
    denoiser: Denoiser,
    shape: tuple[int, int, int],
    schedule: Schedule,
    noise: NoiseSource,
    *,
    steps: int = 50,
    eta: float = 1.0,
    clamp: bool = True,
    constraint: Constraint | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "b t c"]:
    """Sample with few steps (DDIM).

    Args:
        denoiser: (x_t (b, t, c), t) -> estimate of x_0.
        shape: (b, t, c) of the result.
        schedule: Noise schedule of the training.
        noise: Source of all random numbers; its device is that of the result.
        steps: Network evaluations, 1 to the schedule's timesteps (times `constraint.resample`).
        eta: 0 is deterministic after x_T, 1 adds the posterior's noise.
        clamp: Whether estimates are clamped to [-1, 1].
        constraint: Given part, see `constraints`.
        progress: Called after each step with steps done and steps in all.

    Returns:
        (b, t, c) normalised motion; where the constraint is hard, its value bit by bit.

    Raises:
        UserError: steps or eta outside its range, or a constraint of another shape.
    """
    if not 0.0 <= eta <= 1.0:
        raise UserError(f"eta is {eta}", hint="eta lies in [0, 1]; 1 is the released setting")
    times = schedule.ddim_times(steps)

    def step(x: Tensor, x0: Tensor, place: _Place) -> Tensor:
        sigma, c = schedule.ddim_coefficients(place.t, place.following, eta)
        result = float(schedule.signal[place.following]) * x0 + c * schedule.epsilon(x, place.t, x0)
        return result + sigma * noise(place.draw(STEP), shape) if sigma > 0 else result

    return _sample(denoiser, shape, schedule, noise, times, step, clamp, constraint, progress)


def ddpm(
    denoiser: Denoiser,
    shape: tuple[int, int, int],
    schedule: Schedule,
    noise: NoiseSource,
    *,
    clamp: bool = True,
    constraint: Constraint | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "b t c"]:
    """Sample with every step of the schedule (DDPM; Ho et al. 2020, arXiv 2006.11239, algorithm 2).

    Arguments, result and errors as in `ddim`; step k is the one from t = timesteps - k.
    """
    times = tuple(range(schedule.timesteps - 1, -2, -1))

    def step(x: Tensor, x0: Tensor, place: _Place) -> Tensor:
        mean, variance = schedule.posterior(x0, x, place.t)
        return mean + math.sqrt(variance) * noise(place.draw(STEP), shape)

    return _sample(denoiser, shape, schedule, noise, times, step, clamp, constraint, progress)


@dataclass(frozen=True)
class _Place:
    """One step of a sampling: its number from 1, the times it leads from and to, and its repetition from 0."""

    number: int
    t: int
    following: int
    repetition: int
    is_last: bool

    def draw(self, kind: int) -> int:
        return draw_number(kind, self.number, self.repetition)


def _places(times: Sequence[int], resample: int) -> Iterator[_Place]:
    for number, (t, following) in enumerate(pairwise(times), start=1):
        for repetition in range(resample if following >= 0 else 1):
            yield _Place(number, t, following, repetition, following < 0)


@torch.no_grad()
def _sample(
    denoiser: Denoiser,
    shape: tuple[int, int, int],
    schedule: Schedule,
    noise: NoiseSource,
    times: Sequence[int],
    step: Callable[[Tensor, Tensor, _Place], Tensor],
    clamp: bool,
    constraint: Constraint | None,
    progress: Progress | None,
) -> Tensor:
    x = noise(draw_number(STEP, 0), shape)
    given = Constrained(constraint, x) if constraint is not None else None
    for place in _places(times, constraint.resample if constraint is not None else 1):
        if place.repetition:
            x = _back_up(x, schedule, place, noise(place.draw(RENOISE), shape))
        x0 = denoiser(x, place.t)
        x0 = x0.clamp(-1.0, 1.0) if clamp else x0
        x0 = given.estimate(x0) if given is not None else x0
        if place.is_last:
            x = x0
        else:
            x = step(x, x0, place)
            if given is not None:
                fresh = noise(place.draw(GIVEN), shape)
                x = given.noised(x, schedule.q_sample(given.value, place.following, fresh))
        if progress is not None:
            progress(place.number, len(times) - 1)
    return x


def _back_up(x: Tensor, schedule: Schedule, place: _Place, fresh: Tensor) -> Tensor:
    """From the state at the following time back to the one at t, with new noise (RePaint, equation 1)."""
    kept = float(schedule.alphas_cumprod[place.t] / schedule.alphas_cumprod[place.following])
    return math.sqrt(kept) * x + math.sqrt(1.0 - kept) * fresh


def _checked(seeds: int | Sequence[int]) -> int | tuple[int, ...]:
    numbers = seeds if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
    listed = (numbers,) if isinstance(numbers, int) else numbers
    if not listed or any(not 0 <= seed < _SEED_LIMIT for seed in listed):
        raise UserError(f"seeds {listed}", hint="give one whole number of 0 or more, or one for each row")
    return numbers


def _of_rows(numbers: int | tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(numbers, int):
        return tuple((numbers + row) % _SEED_LIMIT for row in range(shape[0]))
    if len(numbers) != shape[0]:
        raise UserError(f"{len(numbers)} seeds for {shape[0]} rows", hint="give one seed for each row, or a single one")
    return numbers
