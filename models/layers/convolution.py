"""Causal depthwise convolution with SiLU, channels last, as Mamba uses it.

On the CPU in float32 one compiled pass does padding, convolution, bias and SiLU, forward and backward; elsewhere it is
a sum of shifted products. Both give the numbers of `nn.Conv1d(d, d, k, groups=d, padding=k-1)` cut to l frames.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from macebench.models.layers import _tiles
from macebench.models.layers.scan import choose_backend


def causal_convolution(
    x: Float[Tensor, "b l d"], weight: Float[Tensor, "d 1 k"], bias: Float[Tensor, " d"], *, backend: str = "auto"
) -> Float[Tensor, "b l d"]:
    """SiLU of a depthwise convolution along time that sees frames t - k + 1 .. t; frames before the first are 0.

    Args:
        x: Input, channels last.
        weight: Weights in the layout of `nn.Conv1d(d, d, k, groups=d)`.
        bias: Bias.
        backend: "auto", "fused" (float32 on the CPU), or any other name of `scan.BACKENDS` for plain torch.

    Raises:
        ValueError: Shapes do not fit, or the fused backend was named for tensors that it cannot take.
    """
    if x.ndim != 3 or weight.shape[:2] != (x.shape[2], 1) or bias.shape != x.shape[2:] or 0 in x.shape:
        shapes = f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, bias {tuple(bias.shape)}"
        raise ValueError(f"x must be (b, l, d), weight (d, 1, k), bias (d,), none empty: {shapes}")
    name = choose_backend(x, weight, bias) if backend == "auto" else backend
    if name != "fused":
        return shifted_convolution(x, weight, bias)
    _tiles.check_fused((x, weight, bias))
    out: Tensor = FusedConvolution.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def shifted_convolution(
    x: Float[Tensor, "b l d"], weight: Float[Tensor, "d 1 k"], bias: Float[Tensor, " d"]
) -> Float[Tensor, "b l d"]:
    """`causal_convolution` in plain torch, as k shifted products."""
    k = weight.shape[-1]
    padded = functional.pad(x, (0, 0, k - 1, 0))
    return functional.silu(sum((padded[:, i : i + x.shape[1]] * weight[:, 0, i] for i in range(k)), bias))


class FusedConvolution(torch.autograd.Function):
    """Convolution and SiLU in one pass; the gradient recomputes the value before SiLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: D102
        from macebench.models.layers import _scan_kernels as kernels

        out = torch.empty(x.shape)
        kernels.convolve(_tiles.flat_view(x), _taps(weight), _tiles.vector(bias, x.shape[2]), out.numpy())
        ctx.save_for_backward(x, weight, bias)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: D102
        from macebench.models.layers import _scan_kernels as kernels

        x, weight, bias = ctx.saved_tensors
        view, g_view = _tiles.flat_view(x), _tiles.flat_view(g_out)
        gx, gw, gb = kernels.convolve_back(view, _taps(weight), _tiles.vector(bias, x.shape[2]), g_view, x.shape)
        return torch.from_numpy(gx), torch.from_numpy(gw).t().unsqueeze(1), torch.from_numpy(gb)


def _taps(weight: Tensor) -> Any:
    """(k, d) array of (d, 1, k) weights."""
    return weight.detach()[:, 0].t().contiguous().numpy()
