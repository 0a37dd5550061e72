"""Building blocks of the frame interpolation network AMT, as pure functions on named tensors.

A network here is a mapping from state-dict names to tensors; nothing is a module and nothing holds state. Pictures
and features are (B, C, H, W) float; flows are (B, 2, H, W) in pixels of their own grid, x (right) before y (down).

Sources: Li et al., "AMT: All-Pairs Multi-Field Transforms for Efficient Frame Interpolation", CVPR 2023; what it
takes over from RAFT (Teed and Deng, ECCV 2020: correlation encoder, lookup) and from IFRNet (Kong et al., CVPR
2022: pyramid and decoders with a residual block on a slice of the channels).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]

CORRELATION_DOWN = 8
"""Correlations are looked up at an eighth of the picture's size, whatever the level that is updated."""

_LEAK = 0.1
_BOTTLENECKS = tuple(f"feat_encoder.layer{stage}.{index}" for stage in (1, 2, 3) for index in (0, 1))
_HALVING = ("feat_encoder.layer2.0", "feat_encoder.layer3.0")


def convolve(weights: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Convolution `name` with zero padding that keeps the size at stride 1."""
    kernel = weights[f"{name}.weight"]
    return functional.conv2d(x, kernel, weights[f"{name}.bias"], stride, kernel.shape[-1] // 2)


def convolve_prelu(weights: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Convolution ``<name>.0`` and the learned slopes ``<name>.1``."""
    return functional.prelu(convolve(weights, f"{name}.0", x, stride), weights[f"{name}.1.weight"])


def convolve_leaky(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Convolution `name` and a leaky ReLU."""
    return functional.leaky_relu(convolve(weights, name, x), _LEAK)


def two_convolutions(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Convolutions ``<name>.0`` and ``<name>.2`` with a leaky ReLU between them."""
    return convolve(weights, f"{name}.2", convolve_leaky(weights, f"{name}.0", x))


def rescale(x: Tensor, factor: float) -> Tensor:
    """Bilinear resize, half-pixel centres, no antialiasing."""
    if factor == 1:
        return x
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def rescale_flow(flow: Tensor, factor: float) -> Tensor:
    """A flow on a finer or coarser grid: resized, and its vectors in pixels of the new grid."""
    return rescale(flow, factor) * factor


def pixel_grid(like: Tensor) -> Tensor:
    """(1, 2, H, W) x and y of every pixel of `like`."""
    height, width = like.shape[-2:]
    y = torch.arange(height, dtype=like.dtype, device=like.device)
    x = torch.arange(width, dtype=like.dtype, device=like.device)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]


def sample(x: Tensor, points: Tensor, beyond: str) -> Tensor:
    """Values of `x` at (B, h, w, 2) pixel positions, bilinear; `beyond` the border: ``zeros`` or ``border``."""
    height, width = x.shape[-2:]
    span = torch.tensor([width - 1, height - 1], dtype=x.dtype, device=x.device)
    return functional.grid_sample(x, 2 * points / span - 1, padding_mode=beyond, align_corners=True)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """`x` fetched from where `flow` points; beyond the border its edge goes on."""
    return sample(x, (pixel_grid(x) + flow).permute(0, 2, 3, 1), "border")


def pyramid(weights: Weights, picture: Tensor) -> list[Tensor]:
    """Context features at a half, a quarter, an eighth and a sixteenth of the picture's size."""
    levels = []
    x = picture
    for level in (1, 2, 3, 4):
        x = convolve_prelu(weights, f"encoder.pyramid{level}.0", x, stride=2)
        x = convolve_prelu(weights, f"encoder.pyramid{level}.1", x)
        levels.append(x)
    return levels


def correlation_features(weights: Weights, picture: Tensor) -> Tensor:
    """(B, 84, H / 8, W / 8) features for matching: RAFT's small encoder with instance norm."""
    x = _normed(weights, "feat_encoder.conv1", picture, stride=2).relu_()
    for name in _BOTTLENECKS:
        stride = 2 if name in _HALVING else 1
        inner = _normed(weights, f"{name}.conv1", x).relu_()
        inner = _normed(weights, f"{name}.conv2", inner, stride).relu_()
        inner = _normed(weights, f"{name}.conv3", inner).relu_()
        skipped = x if stride == 1 else _normed(weights, f"{name}.downsample.0", x, stride)
        x = (skipped + inner).relu_()
    return convolve(weights, "feat_encoder.conv2", x)


def _normed(weights: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    return functional.instance_norm(convolve(weights, name, x, stride))


def decode(weights: Weights, name: str, x: Tensor, side: int) -> Tensor:
    """IFRNet's decoder: convolution, residual block, upsampling by two. The last `side` channels get extra layers."""
    block = f"{name}.convblock"
    x = convolve_prelu(weights, f"{block}.0", x)
    y = x
    for main, extra in (("conv1", "conv2"), ("conv3", "conv4")):
        y = convolve_prelu(weights, f"{block}.1.{main}", y)
        y = torch.cat([y[:, :-side], convolve_prelu(weights, f"{block}.1.{extra}", y[:, -side:])], dim=1)
    x = x + convolve(weights, f"{block}.1.conv5", y)
    x = functional.prelu(x, weights[f"{block}.1.prelu.weight"])
    kernel, bias = weights[f"{block}.2.weight"], weights[f"{block}.2.bias"]
    return functional.conv_transpose2d(x, kernel, bias, stride=2, padding=1)


def update(
    weights: Weights, name: str, content: Tensor, flows: Tensor, correlation: Tensor, factor: int
) -> tuple[Tensor, Tensor]:
    """Corrections of the content feature and of both flows, on the content's grid.

    Args:
        weights: The network.
        name: The update block.
        content: (B, C, h * factor, w * factor) feature of the frame in between.
        flows: (B, 4, h, w) both flows on the grid of the correlations.
        correlation: (B, K, h, w) what the lookup found in both directions.
        factor: How much finer the content's grid is.
    """
    coarse = rescale(content, 1 / factor)
    matched = convolve_leaky(weights, f"{name}.convc1", correlation)
    moved = convolve_leaky(weights, f"{name}.convf2", convolve_leaky(weights, f"{name}.convf1", flows))
    motion = convolve_leaky(weights, f"{name}.conv", torch.cat([matched, moved], dim=1))
    state = two_convolutions(weights, f"{name}.gru", torch.cat([motion, flows, coarse], dim=1))
    content_step = two_convolutions(weights, f"{name}.feat_head", state)
    flow_step = two_convolutions(weights, f"{name}.flow_head", state)
    return rescale(content_step, factor), rescale_flow(flow_step, factor)
