"""Mamba (version 1) and the three sequence mixers of the Motion Expert.

A Mamba block of width d works on d_inner = expand d channels:

    x, z = split(in_proj(u));  x = SiLU(causal depthwise convolution(x))
    dt, B, C = split(x_proj(x));  A = -exp(A_log)
    y = selective_scan(x, dt_proj(dt), A, B, C, D, z, softplus);  out = out_proj(y)

Parameter names equal those of mamba-ssm, so official weights load. `BiMamba`, `CausalMamba` and `SelfAttention` share
one call, (b, t, d) -> (b, t, d), norm inside, no residual; they are the rows of the mixer ablation.

Source: Gu and Dao, Mamba (2023); MACE-Dance, section 3.2.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from macebench.models.layers.blocks import sinusoid
from macebench.models.layers.convolution import causal_convolution
from macebench.models.layers.scan import selective_scan

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


class Mamba(nn.Module):
    """One causal selective state-space block.

    Args:
        d_model: Width of input and output.
        d_state: State size n of each channel.
        d_conv: Frames that the depthwise convolution sees.
        expand: Inner width over outer width.
        backend: Backend of `selective_scan`.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, *, backend: str = "auto"
    ) -> None:
        super().__init__()
        inner, rank = expand * d_model, math.ceil(d_model / 16)
        self.backend = backend
        self.splits = (rank, d_state, d_state)
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, d_state + 1, dtype=torch.float32)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        self._start_steps()

    def _start_steps(self) -> None:
        """Step sizes start log-uniform between `DT_MIN` and `DT_MAX`."""
        scale = self.dt_proj.in_features**-0.5
        nn.init.uniform_(self.dt_proj.weight, -scale, scale)
        low, high = math.log(DT_MIN), math.log(DT_MAX)
        steps = torch.exp(low + (high - low) * torch.rand(self.dt_proj.out_features)).clamp(min=DT_FLOOR)
        with torch.no_grad():
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Mix along time; frame t sees frames up to t.

        Raises:
            ValueError: x is not (b, t, d_model).
        """
        _check_width(x, self.in_proj.in_features)
        inner, gate = self.in_proj(x).chunk(2, dim=-1)
        inner = causal_convolution(inner, self.conv1d.weight, cast("Tensor", self.conv1d.bias), backend=self.backend)
        dt, b, c = self.x_proj(inner).split(self.splits, dim=-1)
        delta = functional.linear(dt, self.dt_proj.weight)
        y = selective_scan(
            inner.transpose(1, 2),
            delta.transpose(1, 2),
            -torch.exp(self.A_log),
            b.transpose(1, 2),
            c.transpose(1, 2),
            self.D,
            gate.transpose(1, 2),
            self.dt_proj.bias,
            delta_softplus=True,
            backend=self.backend,
        )
        out: Tensor = self.out_proj(cast("Tensor", y).transpose(1, 2))
        return out


class BiMamba(nn.Module):
    """Norm, then one block forward in time plus another on reversed time; dropout on the sum."""

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.mamba_forward = Mamba(d_model, d_state, d_conv, expand)
        self.mamba_backward = Mamba(d_model, d_state, d_conv, expand)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Every frame sees all frames."""
        n = self.norm(x)
        out: Tensor = self.dropout(self.mamba_forward(n) + self.mamba_backward(n.flip(1)).flip(1))
        return out


class CausalMamba(nn.Module):
    """Norm, then one block forward in time; the one-direction row of the ablation."""

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.mamba_forward = Mamba(d_model, d_state, d_conv, expand)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Frame t sees frames up to t."""
        out: Tensor = self.dropout(self.mamba_forward(self.norm(x)))
        return out


class SelfAttention(nn.Module):
    """Norm, sinusoidal positions, multi-head self-attention; the transformer row of the ablation.

    Attention is fused by torch where it can be: without gradients memory is linear in time.
    """

    def __init__(self, d_model: int, n_heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model: {n_heads} and {d_model}")
        self.n_heads, self.rate = n_heads, dropout
        self.norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out_proj = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Every frame sees all frames."""
        _check_width(x, self.qkv.in_features)
        n = self.norm(x) + sinusoid(torch.arange(x.shape[1], device=x.device), x.shape[2]).to(x.dtype)
        q, k, v = (part.unflatten(2, (self.n_heads, -1)).transpose(1, 2) for part in self.qkv(n).chunk(3, dim=-1))
        rate = self.rate if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        out: Tensor = self.dropout(self.out_proj(mixed.transpose(1, 2).flatten(2)))
        return out


def _check_width(x: Tensor, width: int) -> None:
    if x.ndim != 3 or x.shape[2] != width or 0 in x.shape:
        raise ValueError(f"x must be (b, t, {width}) with b, t >= 1, not {tuple(x.shape)}")
