"""Noise schedule of the diffusion process: tables, the forward process and its posterior.

The process has `timesteps` steps, numbered 0 (nearly clean) to timesteps - 1 (nearly noise):
q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I). Schedules are cosine (Nichol and Dhariwal 2021,
arXiv 2102.09672, equation 17): f(k) = cos^2(((k / T + s) / (1 + s)) pi / 2), beta_t = 1 - f(t + 1) / f(t),
clipped to 0.999.

Tables are float64. What is applied to tensors is the table's value in the tensor's own precision.

Two roundings of the steps are named. ``"released"`` (the default) rounds beta_t and 1 - beta_t to float32 before
everything else, as EDGE's and MACE-Dance's public code does: it is what released weights were trained with, and it
differs from the exact table by at most 3e-4 relative (the noise weight at t = 0). ``"exact"`` stays in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from macebench.errors import UserError

Table = NDArray[np.float64]
Rounding = Literal["released", "exact"]
MAX_BETA = 0.999
SMALLEST_VARIANCE = 1e-20


@dataclass(frozen=True, eq=False)
class Schedule:
    """Tables of one diffusion process, each (timesteps,) float64.

    Attributes:
        betas: Variance added by the step from t - 1 to t.
        alphas_cumprod: abar_t, the share of the signal's variance that is left at step t.
    """

    betas: Table
    alphas_cumprod: Table
    _on_device: dict[tuple[str, torch.device, torch.dtype], Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def cosine(cls, timesteps: int = 1000, s: float = 0.008, *, rounding: Rounding = "released") -> Schedule:
        """The cosine schedule.

        Args:
            timesteps: Number of steps T, at least 2.
            s: Offset of the cosine, so that the first steps are not too small; 0 or more.
            rounding: See the module's text.

        Raises:
            UserError: A number outside its range, or an unknown rounding.
        """
        if timesteps < 2 or s < 0:
            raise UserError(
                f"the schedule cannot have {timesteps} timesteps and offset {s}", hint="timesteps >= 2, s >= 0"
            )
        if rounding not in ("released", "exact"):
            raise UserError(f"unknown rounding {rounding!r}", hint="released or exact")
        angles = (np.arange(timesteps + 1, dtype=np.float64) / timesteps + s) / (1.0 + s) * (np.pi / 2.0)
        shares = np.cos(angles) ** 2
        betas = np.clip(1.0 - shares[1:] / shares[:-1], 0.0, MAX_BETA)
        alphas = 1.0 - betas
        if rounding == "released":
            betas = betas.astype(np.float32).astype(np.float64)
            alphas = (1.0 - betas).astype(np.float32).astype(np.float64)
        return cls(betas, _released_product(alphas) if rounding == "released" else np.cumprod(alphas))

    @property
    def timesteps(self) -> int:
        """Number of steps T."""
        return len(self.betas)

    @property
    def alphas_cumprod_prev(self) -> Table:
        """abar_{t-1}, with 1 before the first step."""
        return np.concatenate([[1.0], self.alphas_cumprod[:-1]])

    @property
    def posterior_variance(self) -> Table:
        """Variance of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, equation 7)."""
        return np.asarray(self.betas * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod))

    @property
    def posterior_mean_coef1(self) -> Table:
        """Weight of x_0 in the mean of q(x_{t-1} | x_t, x_0)."""
        return np.asarray(self.betas * np.sqrt(self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod))

    @property
    def posterior_mean_coef2(self) -> Table:
        """Weight of x_t in the mean of q(x_{t-1} | x_t, x_0)."""
        return np.asarray((1.0 - self.alphas_cumprod_prev) * np.sqrt(1.0 - self.betas) / (1.0 - self.alphas_cumprod))

    @property
    def posterior_log_variance_clipped(self) -> Table:
        """Logarithm of the posterior variance, which is 0 at t = 0 and taken as 1e-20 there."""
        return np.log(np.maximum(self.posterior_variance, SMALLEST_VARIANCE))

    @property
    def signal(self) -> Table:
        """sqrt(abar_t), the weight of x_0 in x_t."""
        return np.sqrt(self.alphas_cumprod)

    @property
    def noise(self) -> Table:
        """sqrt(1 - abar_t), the weight of the noise in x_t."""
        return np.sqrt(1.0 - self.alphas_cumprod)

    def q_sample(
        self, x0: Float[Tensor, "b t c"], t: Int[Tensor, " b"] | int, noise: Float[Tensor, "b t c"]
    ) -> Float[Tensor, "b t c"]:
        """x_t of x_0: sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise.

        Args:
            x0: Clean motion vectors, normalised to [-1, 1].
            t: Step of each row, or one step for all; 0 to timesteps - 1.
            noise: N(0, 1).
        """
        return self._at("signal", t, x0) * x0 + self._at("noise", t, x0) * noise

    def epsilon(
        self, x_t: Float[Tensor, "b t c"], t: Int[Tensor, " b"] | int, x0: Float[Tensor, "b t c"]
    ) -> Float[Tensor, "b t c"]:
        """The noise that leads from x_0 to x_t; the inverse of `q_sample` in its third argument."""
        return (x_t - self._at("signal", t, x_t) * x0) / self._at("noise", t, x_t)

    def x0_of_epsilon(
        self, x_t: Float[Tensor, "b t c"], t: Int[Tensor, " b"] | int, noise: Float[Tensor, "b t c"]
    ) -> Float[Tensor, "b t c"]:
        """The x_0 that the noise leads from to x_t; the inverse of `q_sample` in its first argument."""
        return (x_t - self._at("noise", t, x_t) * noise) / self._at("signal", t, x_t)

    def posterior(
        self, x0: Float[Tensor, "b t c"], x_t: Float[Tensor, "b t c"], t: int
    ) -> tuple[Float[Tensor, "b t c"], float]:
        """Mean (b, t, c) and variance of q(x_{t-1} | x_t, x_0); the variance is 0 at t = 0."""
        mean = float(self.posterior_mean_coef1[t]) * x0 + float(self.posterior_mean_coef2[t]) * x_t
        return mean, float(self.posterior_variance[t])

    def ddim_times(self, steps: int) -> tuple[int, ...]:
        """The steps + 1 times that DDIM visits, from timesteps - 1 down to -1, which stands for the clean motion.

        They are the integer parts of `steps` equal intervals of [-1, timesteps - 1] (EDGE, MACE-Dance): for 50 steps
        of 1000 they are 999, 979, ..., 19, -1.

        Raises:
            UserError: steps is not in 1 .. timesteps.
        """
        if not 1 <= steps <= self.timesteps:
            raise UserError(f"{steps} sampling steps", hint=f"take 1 to {self.timesteps} steps")
        return tuple(k * self.timesteps // steps - 1 for k in range(steps, -1, -1))

    def ddim_coefficients(self, t: int, following: int, eta: float) -> tuple[float, float]:
        """The pair sigma, c of the step t -> following (Song et al. 2021, arXiv 2010.02502, equations 12 and 16).

        x_following = sqrt(abar_following) x_0 + c epsilon + sigma z, with c^2 + sigma^2 = 1 - abar_following.
        """
        here, there = float(self.alphas_cumprod[t]), float(self.alphas_cumprod[following])
        sigma = eta * float(np.sqrt((1.0 - here / there) * (1.0 - there) / (1.0 - here)))
        return sigma, float(np.sqrt(max(1.0 - there - sigma**2, 0.0)))

    def _at(self, name: Literal["signal", "noise"], t: Tensor | int, like: Tensor) -> Tensor | float:
        """The table's value at t, shaped so that it multiplies (b, ...)."""
        if isinstance(t, int):
            return float(getattr(self, name)[t])
        key = (name, like.device, like.dtype)
        if key not in self._on_device:
            self._on_device[key] = torch.as_tensor(getattr(self, name), dtype=like.dtype, device=like.device)
        return self._on_device[key][t].reshape(-1, *[1] * (like.ndim - 1))


def _released_product(alphas: Table) -> Table:
    """Running product, each entry rounded to float32."""
    return np.cumprod(alphas).astype(np.float32).astype(np.float64)
