"""Blocks of the Motion Expert beside the sequence mixer: FiLM, cross-attention, sinusoidal embedding.

Source: FiLM (Perez et al., 2018), EDGE (Tseng et al., 2023), MACE-Dance, section 3.2. No block adds its input: the
caller does.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

MAX_PERIOD = 1e4


def sinusoid(values: Shaped[Tensor, " b"], dim: int) -> Float[Tensor, "b dim"]:
    """[sin(v f_k) | cos(v f_k)] with f_k = 10000^(-k / (dim/2 - 1)), k = 0 .. dim/2 - 1.

    Raises:
        ValueError: dim is odd or below 4, or values is not one-dimensional.
    """
    if dim % 2 or dim < 4:
        raise ValueError(f"dim must be even and at least 4, not {dim}")
    if values.ndim != 1:
        raise ValueError(f"values must be (b,), not {tuple(values.shape)}")
    half = dim // 2
    steps = torch.arange(half, device=values.device, dtype=torch.float32)
    angles = values.to(torch.float32)[:, None] * torch.exp(steps * (-math.log(MAX_PERIOD) / (half - 1)))
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class SinusoidalEmbedding(nn.Module):
    """`sinusoid` as a module without parameters: (b,) -> (b, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2 or dim < 4:
            raise ValueError(f"dim must be even and at least 4, not {dim}")
        self.dim = dim

    def forward(self, values: Shaped[Tensor, " b"]) -> Float[Tensor, "b dim"]:
        """Embed one number a row."""
        return sinusoid(values, self.dim)


class FiLM(nn.Module):
    """Scale and shift from a condition vector: Mish, then one linear map."""

    def __init__(self, d_cond: int, d_model: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Mish(), nn.Linear(d_cond, 2 * d_model))

    def forward(self, condition: Float[Tensor, "b c"]) -> tuple[Float[Tensor, "b 1 d"], Float[Tensor, "b 1 d"]]:
        """(scale, shift), for `featurewise_affine`.

        Raises:
            ValueError: condition is not (b, d_cond).
        """
        width = self.block[1].in_features
        if condition.ndim != 2 or condition.shape[1] != width:
            raise ValueError(f"condition must be (b, {width}), not {tuple(condition.shape)}")
        scale, shift = self.block(condition).unsqueeze(1).chunk(2, dim=-1)
        return scale, shift


def featurewise_affine(
    h: Float[Tensor, "b t d"], scale_shift: tuple[Float[Tensor, "b 1 d"], Float[Tensor, "b 1 d"]]
) -> Float[Tensor, "b t d"]:
    """(1 + scale) h + shift."""
    scale, shift = scale_shift
    return (scale + 1) * h + shift


class CrossBlock(nn.Module):
    """Cross-attention from motion to music, then a feed-forward part; no residual inside.

    norm_dance(x) asks, norm_music(memory) answers; dropout; norm; linear1; GELU; dropout; linear2; dropout.
    """

    def __init__(self, d_model: int, n_heads: int = 8, ff_dim: int = 1024, dropout: float = 0.1) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model: {n_heads} and {d_model}")
        self.cross_attn = nn.MultiheadAttention(d_model, n_heads, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(d_model, ff_dim)
        self.linear2 = nn.Linear(ff_dim, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.norm_dance = nn.LayerNorm(d_model)
        self.norm_music = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"], memory: Float[Tensor, "b s d"]) -> Float[Tensor, "b t d"]:
        """Read the memory at every frame of x.

        Raises:
            ValueError: x and memory differ in batch or width.
        """
        width = self.linear1.in_features
        for name, value in (("x", x), ("memory", memory)):
            if value.ndim != 3 or value.shape[2] != width or value.shape[0] != x.shape[0]:
                raise ValueError(f"{name} must be ({x.shape[0]}, frames, {width}), not {tuple(value.shape)}")
        music = self.norm_music(memory)
        read, _ = self.cross_attn(self.norm_dance(x), music, music, need_weights=False)
        hidden = self.linear1(self.norm(self.dropout(read)))
        out: Tensor = self.dropout(self.linear2(self.dropout(functional.gelu(hidden))))
        return out
