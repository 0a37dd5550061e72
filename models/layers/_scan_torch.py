"""Selective scan in plain torch: the reference loop, and a loop whose gradient costs linear time.

Both compute, for every channel d and state index n,

    delta = softplus(delta + delta_bias)                    (each part when asked for)
    h_t = exp(delta_t A) h_(t-1) + delta_t B_t u_t          (Euler step for B)
    y_t = sum_n C_t h_t + D u_t;  out_t = y_t SiLU(z_t)

Source: Gu and Dao, Mamba (2023), algorithm 2; state-spaces/mamba for the Euler step.
"""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Scanned = tuple[Tensor, Tensor]


def step_sizes(delta: Tensor, delta_bias: Tensor | None, *, plus: bool) -> Tensor:
    """Step sizes from delta (b, d, l) with its bias (d,) and softplus."""
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    return functional.softplus(delta) if plus else delta


def finish(y: Tensor, u: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    """Skip connection D u and gate SiLU(z)."""
    if D is not None:
        y = y + D[:, None] * u
    return y if z is None else y * functional.silu(z)


def reference_scan(
    u: Float[Tensor, "b d l"],
    delta: Float[Tensor, "b d l"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b n l"],
    C: Float[Tensor, "b n l"],
) -> Scanned:
    """The definition, step by step, in the dtype of the inputs.

    Memory is b d n l twice, and the gradient costs quadratic time: a yardstick, not for use.

    Returns:
        y (b, d, l) and the last state (b, d, n).
    """
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    inflow = torch.einsum("bdl,bnl,bdl->bdln", delta, B, u)
    h, outputs = torch.zeros_like(decay[:, :, 0]), []
    for t in range(u.shape[-1]):
        h = decay[:, :, t] * h + inflow[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", h, C[:, :, t]))
    return torch.stack(outputs, dim=-1), h


def torch_scan(
    u: Float[Tensor, "b d l"],
    delta: Float[Tensor, "b d l"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b n l"],
    C: Float[Tensor, "b n l"],
) -> Scanned:
    """A loop over unbound frames: gradients in linear time, any device and dtype.

    The state is kept in the widest of the dtypes, at least float32, also under autocast.
    Without gradients memory is b d n beside inputs and output; with them autograd keeps b d n l three times.

    Returns:
        y (b, d, l) and the last state (b, d, n).
    """
    wide = functools.reduce(torch.promote_types, (u.dtype, delta.dtype, A.dtype, B.dtype, C.dtype), torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        delta, flows, B, C, A = delta.to(wide), delta.to(wide) * u.to(wide), B.to(wide), C.to(wide), A.to(wide)
        h, outputs = delta.new_zeros(*u.shape[:2], A.shape[1]), []
        for step, flow, b, c in zip(delta.unbind(-1), flows.unbind(-1), B.unbind(-1), C.unbind(-1), strict=True):
            h = torch.exp(step[..., None] * A) * h + flow[..., None] * b[:, None, :]
            outputs.append(torch.einsum("bdn,bn->bd", h, c))
    return torch.stack(outputs, dim=-1).to(u.dtype), h
