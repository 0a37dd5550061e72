"""Pre-norm vision transformers: the layers that CLIP, DINO and MUSIQ share, and the fast linear layer under them.

`encode` runs the layers and gives the class token. The last layer computes that token only, since no other is read:
the same numbers for less work.

On a CPU in float32 a linear layer goes through oneDNN (`torch.ops.mkldnn._linear_pointwise`, the operator that
`torch.compile` uses), because torch's own choice, MKL, leaves half of an AMD processor unused. The weight is brought
into oneDNN's layout at each call (3 % of the time at 2,000 rows) and dropped after it, so that a network needs no
second copy of its weights. The operator is internal to torch: where it is absent or does not agree with
`torch.nn.functional.linear`, that is used. Sums stay in float32; only their order differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["none", "gelu", "quick_gelu"]
_ROWS_MIN = 64


class Linear(NamedTuple):
    """Weight (outputs, inputs) and bias (outputs,) or None."""

    weight: Tensor
    bias: Tensor | None


class Norm(NamedTuple):
    """Weight and bias, both (C,), of a layer norm."""

    weight: Tensor
    bias: Tensor


class Layer(NamedTuple):
    """The tensors of one pre-norm transformer layer."""

    norm1: Norm
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    norm2: Norm
    fc1: Linear
    fc2: Linear

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """The six weight matrices."""
        return tuple(item.weight for item in (self.query, self.key, self.value, self.out, self.fc1, self.fc2))


@cache
def onednn_works() -> bool:
    """Whether torch's internal oneDNN operators are there and agree with `torch.nn.functional.linear`."""
    if not torch._C._has_mkldnn:
        return False
    x = torch.linspace(-1, 1, 128 * 32).view(128, 32)
    weight, bias = torch.linspace(-1, 1, 48 * 32).view(48, 32).cos(), torch.linspace(0, 1, 48)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 128)
        plain = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        smooth = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "gelu", [], "none")
    except (AttributeError, RuntimeError, TypeError):  # NotImplementedError is a RuntimeError
        return False
    wanted = functional.linear(x, weight, bias)
    return torch.allclose(plain, wanted, atol=1e-4) and torch.allclose(smooth, functional.gelu(wanted), atol=1e-4)


def pack(weight: Tensor, dtype: torch.dtype, rows: int) -> Tensor | None:
    """A weight in oneDNN's layout for inputs of `rows` rows, or None where it is used as it is."""
    if weight.device.type != "cpu" or dtype != torch.float32 or rows < _ROWS_MIN or not onednn_works():
        return None
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype).contiguous(), rows)
    return packed


def linear(x: Tensor, layer: Linear, activation: Activation = "none", packed: Tensor | None = None) -> Tensor:
    """(..., inputs) to (..., outputs), in the type of `x`, with an activation behind it.

    `packed` is the weight from `pack`, for those who use it several times.
    """
    if packed is None:
        packed = pack(layer.weight, x.dtype, x.numel() // x.shape[-1])
    if packed is None:
        return _activated(functional.linear(x, layer.weight.to(x.dtype), layer.bias), activation)
    fused: tuple[Any, ...] = ("gelu", [], "none") if activation == "gelu" else ("none", [], "")
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), packed, layer.bias, *fused)
    return _activated(result, activation) if activation == "quick_gelu" else result


def _activated(x: Tensor, activation: Activation) -> Tensor:
    if activation == "gelu":
        return functional.gelu(x)
    return (1.702 * x).sigmoid_().mul_(x) if activation == "quick_gelu" else x


def norm(x: Tensor, layer: Norm, eps: float) -> Tensor:
    """Layer norm over the last axis."""
    return functional.layer_norm(x, (x.shape[-1],), layer.weight, layer.bias, eps)


def encode(
    x: Tensor,
    layers: Sequence[Layer],
    *,
    heads: int,
    eps: float,
    activation: Activation,
    done: Callable[[Layer], None] | None = None,
) -> Tensor:
    """(B, C): the first token after all layers.

    Args:
        x: (B, L, C) tokens; the class token comes first.
        layers: At least one.
        heads: Attention heads.
        eps: Of the layer norms.
        activation: Between the two linear layers of each layer's network.
        done: Called with each layer after its use.
    """
    for index, layer in enumerate(layers):
        asking = 1 if index == len(layers) - 1 else x.shape[1]
        x = _layer(x, layer, asking, heads, eps, activation)
        if done is not None:
            done(layer)
    return x[:, 0]


def _layer(x: Tensor, layer: Layer, asking: int, heads: int, eps: float, activation: Activation) -> Tensor:
    """(B, L, C) to (B, asking, C): only the first `asking` tokens ask and are computed."""
    before = norm(x, layer.norm1, eps)
    query, key, value = (
        linear(tokens, part).view(len(x), -1, heads, x.shape[-1] // heads).transpose(1, 2)
        for part, tokens in ((layer.query, before[:, :asking]), (layer.key, before), (layer.value, before))
    )
    mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = x[:, :asking] + linear(mixed, layer.out)
    return x + linear(linear(norm(x, layer.norm2, eps), layer.fc1, activation), layer.fc2)
