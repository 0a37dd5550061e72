"""Guidance: how the condition's pull is trained and used.

Guidance-free training (GFT; Chen et al. 2025, arXiv 2501.15420; MACE-Dance, equation 3) trains one network that also
reads beta: y = beta f(x_t, t, c, beta) + (1 - beta) sg[f(x_t, t, none, u)] is compared with the clean motion, sg
stops the gradient. Sampling then takes f(x_t, t, c, beta) alone, one pass a step. A small beta is strong guidance,
beta = 1 the plain conditional model; scale w of classifier-free guidance corresponds to beta = 1 / w.

Forms of training (`training_prediction`):

- ``"paper"``: u = 1, the empty condition, the network in the mode it is in. The condition of a share of 0.1 of the
  rows is dropped and their beta is 1, so that f(., none, 1) is trained.
- ``"thu-ml"``: the original GFT. As ``"paper"``, and the unconditional pass runs in evaluation mode (no dropout).
- ``"released"``: MACE-Dance's public code. u = beta, the network in the mode it is in, nothing is dropped.
- ``"cfg"``: classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598). y = f(x_t, t, c, 1) with the condition
  of a share of 0.25 of the rows dropped (EDGE); sampling takes two passes and f_none + w (f_c - f_none).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from macebench.errors import UserError

Denoiser = Callable[[Tensor, int], Tensor]
GuidanceForm = Literal["gft", "cfg"]
TrainingForm = Literal["paper", "thu-ml", "released", "cfg"]
DROP_PROBABILITY: dict[str, float] = {"paper": 0.1, "thu-ml": 0.1, "released": 0.0, "cfg": 0.25}


class GuidedNetwork(Protocol):
    """What guidance needs of `macebench.models.motion_expert.network.MotionExpertNetwork`."""

    training: bool

    def __call__(
        self, x: Tensor, cond: Tensor, genre: Tensor, times: Tensor, beta: Tensor, drop: Tensor | None = None
    ) -> Tensor:
        """(b, t, 151) estimate of the clean motion."""

    def encode_music(self, cond: Tensor, genre: Tensor, drop: Tensor | None = None) -> Tensor:
        """(b, t, d) memory of the music."""

    def denoise(self, x: Tensor, memory: Tensor, times: Tensor, beta: Tensor) -> Tensor:
        """(b, t, 151) estimate of the clean motion, given the memory."""


def guided_denoiser(
    network: GuidedNetwork,
    cond: Float[Tensor, "b t 35"],
    genre: Int[Tensor, " b"],
    *,
    form: GuidanceForm = "gft",
    beta: float | Float[Tensor, " b"] = 0.75,
    scale: float = 2.0,
    capped_below: int = 0,
) -> Denoiser:
    """The function (x_t (b, t, c), t) -> x_0 estimate that the samplers call.

    The music is encoded here, once; each call of the result costs one network pass for ``"gft"`` and two for ``"cfg"``
    (run one after the other, which takes half the memory of one pass of the double batch).

    Args:
        network: In evaluation mode.
        cond: Music features at the motion's frame rate.
        genre: Genre labels.
        form: ``"gft"`` or ``"cfg"``; it must be the one that the network was trained with.
        beta: GFT's temperature in [0, 1], for all rows or for each.
        scale: CFG's w, 0 or more.
        capped_below: CFG: w is at most 1 at steps t below this one. EDGE's DDPM sampler uses a tenth of the steps,
            its DDIM sampler does not cap (0).

    Raises:
        UserError: Unknown form, beta or scale outside its range, or the network is in training mode.
    """
    rows = cond.shape[0]
    betas = torch.as_tensor(beta, dtype=cond.dtype, device=cond.device).expand(rows)
    _check_guidance(network, form, betas, scale)
    with torch.no_grad():
        memory = network.encode_music(cond, genre)
        if form == "gft":
            return _one_pass(network, memory, betas)
        empty = network.encode_music(cond, genre, torch.ones(rows, dtype=torch.bool, device=cond.device))
    with_music = _one_pass(network, memory, torch.ones_like(betas))
    without = _one_pass(network, empty, torch.ones_like(betas))

    def denoiser(x_t: Tensor, t: int) -> Tensor:
        weight = min(scale, 1.0) if t < capped_below else scale
        return torch.lerp(without(x_t, t), with_music(x_t, t), weight)

    return denoiser


def _one_pass(network: GuidedNetwork, memory: Tensor, betas: Tensor) -> Denoiser:
    def denoiser(x_t: Tensor, t: int) -> Tensor:
        times = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)
        with torch.no_grad():
            return network.denoise(x_t, memory, times, betas)

    return denoiser


def _check_guidance(network: GuidedNetwork, form: str, betas: Tensor, scale: float) -> None:
    if form not in ("gft", "cfg"):
        raise UserError(f"unknown guidance {form!r}", hint="gft or cfg")
    if not bool(((betas >= 0) & (betas <= 1)).all()):
        raise UserError(f"beta is {betas.tolist()}", hint="beta lies in [0, 1]; 0.75 is the paper's value")
    if not 0.0 <= scale < float("inf"):
        raise UserError(f"a guidance scale of {scale}", hint="take a number of 0 or more; 2 is EDGE's value")
    if network.training:
        raise UserError("the network is in training mode, where dropout is active", hint="call network.eval() first")


def training_prediction(
    network: GuidedNetwork,
    x_t: Float[Tensor, "b t c"],
    cond: Float[Tensor, "b t 35"],
    genre: Int[Tensor, " b"],
    times: Int[Tensor, " b"],
    beta: Float[Tensor, " b"],
    *,
    form: TrainingForm = "paper",
    drop: Bool[Tensor, " b"] | None = None,
) -> Float[Tensor, "b t c"]:
    """The prediction that training compares with the clean motion; see the module's text for the forms.

    Args:
        network: Only its forward call is used, so a wrapped (data-parallel, compiled) network works as well.
        x_t: Noised motion.
        cond: Music features.
        genre: Genre labels.
        times: Diffusion step of each row.
        beta: U(0, 1) of each row, drawn by the caller; ``"cfg"`` does not use it.
        form: Form of training.
        drop: Rows whose condition is taken away, drawn by the caller with `DROP_PROBABILITY[form]`; None is no row.

    Raises:
        UserError: Unknown form, or rows to drop in the form ``"released"``.
    """
    if form not in DROP_PROBABILITY:
        raise UserError(f"unknown training form {form!r}", hint="one of " + ", ".join(DROP_PROBABILITY))
    if form == "released" and drop is not None and bool(drop.any()):
        raise UserError("the training form 'released' drops no condition", hint="take form='paper', or drop=None")
    ones = torch.ones_like(beta)
    if form == "cfg":
        return network(x_t, cond, genre, times, ones, drop)
    if drop is not None:
        beta = torch.where(drop, ones, beta)
    everything = torch.ones(len(beta), dtype=torch.bool, device=beta.device)
    other = beta if form == "released" else ones
    conditional = network(x_t, cond, genre, times, beta, None if form == "released" else drop)
    with torch.no_grad():
        unconditional = _without_music(network, (x_t, cond, genre, times, other, everything), form == "thu-ml")
    share = beta[:, None, None]
    return share * conditional + (1.0 - share) * unconditional


def _without_music(network: GuidedNetwork, inputs: tuple[Tensor, ...], evaluation: bool) -> Tensor:
    if not (evaluation and network.training and isinstance(network, torch.nn.Module)):
        return network(*inputs)
    network.eval()
    try:
        return network(*inputs)
    finally:
        network.train()
