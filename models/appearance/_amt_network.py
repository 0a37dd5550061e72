"""AMT-S: the picture half way between two pictures.

Written from the paper, the authors' description of the method (``docs/method.md`` of MCG-NKU/AMT) and the names and
shapes of the published weights, without copying their code: it and the weights may not be used commercially. That it
computes the same is shown on closed-form weights.

The steps, with t = 0.5:

1. Both pictures lose their common mean. Context features at four levels, matching features at an eighth.
2. The coarsest decoder guesses a flow from the frame in between to either picture, and that frame's content feature.
3. At an eighth, a quarter and half of the size: the flows, scaled to reach from one picture to the other, look up
   the correlations on the grid of an eighth; an update block corrects flows and content; a decoder takes the context
   features warped by both flows one level up.
4. The last decoder gives three pairs of flows, each with a mask and a residual. Each pair makes a candidate picture;
   the result is their mean plus a correction from two convolutions over all candidates, cut to [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from macebench.models.appearance._amt_correlation import CHANNELS, KEEP_BYTES, Matches
from macebench.models.appearance._amt_layers import (
    CORRELATION_DOWN,
    Weights,
    convolve,
    convolve_prelu,
    correlation_features,
    decode,
    pixel_grid,
    pyramid,
    rescale_flow,
    update,
    warp,
)

WIDTHS = (20, 32, 44, 56)
"""Channels of the context features, fine to coarse."""
SIDE = 20
CANDIDATES = 3
MULTIPLE = 16
"""Sides must be multiples of this."""
SMALLEST_SIDE = 128
"""Below this the coarsest correlation level has one pixel and the published network divides by zero."""

_MATCHING = 84
_STATE = 76
_TIME = 0.5

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def layout() -> dict[str, tuple[int, ...]]:
    """Names and shapes of all 2,990,543 weights, as in the published file."""
    return dict(_shapes())


def _shapes() -> Shapes:
    yield from _context_shapes()
    yield from _matching_shapes()
    coarsest = 2 * WIDTHS[3]
    yield from _decoder_shapes("decoder4", coarsest + 1, coarsest, WIDTHS[2] + 4)
    for level in (3, 2, 1):
        inner = 3 * WIDTHS[level - 1]
        out = 8 * CANDIDATES if level == 1 else WIDTHS[level - 2] + 4
        yield from _decoder_shapes(f"decoder{level}", inner + 4, inner, out)
        yield from _update_shapes(f"update{level + 1}", WIDTHS[level - 1])
    yield from _prelu_shapes("comb_block", 3 * CANDIDATES, 6 * CANDIDATES)
    yield from _conv_shapes("comb_block.2", 6 * CANDIDATES, 3)


def _conv_shapes(name: str, inputs: int, outputs: int, size: int = 3) -> Shapes:
    yield f"{name}.weight", (outputs, inputs, size, size)
    yield f"{name}.bias", (outputs,)


def _prelu_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    yield from _conv_shapes(f"{name}.0", inputs, outputs)
    yield f"{name}.1.weight", (outputs,)


def _context_shapes() -> Shapes:
    for level, (inputs, width) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False), 1):
        yield from _prelu_shapes(f"encoder.pyramid{level}.0", inputs, width)
        yield from _prelu_shapes(f"encoder.pyramid{level}.1", width, width)


def _matching_shapes() -> Shapes:
    name = "feat_encoder"
    yield from _conv_shapes(f"{name}.conv1", 3, 32, 7)
    for stage, (before, width) in enumerate(((32, 32), (32, 64), (64, 96)), 1):
        for index, inputs in enumerate((before, width)):
            block = f"{name}.layer{stage}.{index}"
            yield from _conv_shapes(f"{block}.conv1", inputs, width // 4, 1)
            yield from _conv_shapes(f"{block}.conv2", width // 4, width // 4)
            yield from _conv_shapes(f"{block}.conv3", width // 4, width, 1)
            if inputs != width:
                yield from _conv_shapes(f"{block}.downsample.0", inputs, width, 1)
    yield from _conv_shapes(f"{name}.conv2", 96, _MATCHING, 1)


def _decoder_shapes(name: str, inputs: int, inner: int, outputs: int) -> Shapes:
    block = f"{name}.convblock"
    yield from _prelu_shapes(f"{block}.0", inputs, inner)
    for part, width in (("conv1", inner), ("conv2", SIDE), ("conv3", inner), ("conv4", SIDE)):
        yield from _prelu_shapes(f"{block}.1.{part}", width, width)
    yield from _conv_shapes(f"{block}.1.conv5", inner, inner)
    yield f"{block}.1.prelu.weight", (inner,)
    yield f"{block}.2.weight", (inner, outputs, 4, 4)
    yield f"{block}.2.bias", (outputs,)


def _update_shapes(name: str, content: int) -> Shapes:
    yield from _conv_shapes(f"{name}.convc1", 2 * CHANNELS, 64, 1)
    yield from _conv_shapes(f"{name}.convf1", 4, 40, 7)
    yield from _conv_shapes(f"{name}.convf2", 40, 20)
    yield from _conv_shapes(f"{name}.conv", 64 + 20, 68)
    yield from _conv_shapes(f"{name}.gru.0", 68 + 4 + content, _STATE)
    yield from _conv_shapes(f"{name}.gru.2", _STATE, _STATE)
    for head, outputs in (("feat_head", content), ("flow_head", 4)):
        yield from _conv_shapes(f"{name}.{head}.0", _STATE, _STATE)
        yield from _conv_shapes(f"{name}.{head}.2", _STATE, outputs)


def interpolate(weights: Weights, first: Tensor, last: Tensor, keep_bytes: int = KEEP_BYTES) -> Tensor:
    """The pictures half way between `first` and `last`.

    Args:
        weights: Tensors by name, see `layout`.
        first: (B, 3, H, W) RGB in [0, 1]; sides are multiples of 16, at least 128.
        last: Pictures of the same shape.
        keep_bytes: Most memory for correlation volumes, over both directions. It changes the speed, not the result.

    Returns:
        (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: a side is too small or no multiple of 16.
    """
    sides = first.shape[-2:]
    if first.shape != last.shape or min(sides) < SMALLEST_SIDE or any(side % MULTIPLE for side in sides):
        raise ValueError(f"pictures of {tuple(first.shape)} and {tuple(last.shape)}, need sides of 128, 144, 160 ...")
    mean = torch.cat([first, last], dim=2).mean(dim=(1, 2, 3), keepdim=True)
    pictures = (first - mean, last - mean)
    content, flows, context = _coarse_to_fine(weights, pictures, keep_bytes)
    fields = _decode_level(weights, 1, content, flows, context)
    return _combine(weights, pictures, mean, fields, rescale_flow(flows, 2))


def _coarse_to_fine(
    weights: Weights, pictures: tuple[Tensor, Tensor], keep_bytes: int
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Content, (B, 4, H / 2, W / 2) flows and the context features of both pictures, fine to coarse."""
    context = list(zip(*(pyramid(weights, picture) for picture in pictures), strict=True))
    features = [correlation_features(weights, picture) for picture in pictures]
    matches = (
        Matches(features[0], features[1], keep_bytes // 2),
        Matches(features[1], features[0], keep_bytes // 2),
    )
    when = torch.full_like(context[3][0][:, :1], _TIME)
    decoded = decode(weights, "decoder4", torch.cat([*context[3], when], dim=1), SIDE)
    flows, content = decoded[:, :4], decoded[:, 4:]
    for level in (3, 2, 1):
        content, flows = _correct(weights, level, content, flows, matches)
        if level > 1:
            decoded = _decode_level(weights, level, content, flows, context)
            flows, content = decoded[:, :4] + rescale_flow(flows, 2), decoded[:, 4:]
    return content, flows, context


def _correct(
    weights: Weights, level: int, content: Tensor, flows: Tensor, matches: tuple[Matches, Matches]
) -> tuple[Tensor, Tensor]:
    """Content and flows of a level after its update block."""
    factor = CORRELATION_DOWN >> level
    coarse = rescale_flow(flows, 1 / factor)
    here = pixel_grid(coarse)
    # A flow spans the way from the frame in between; from picture to picture it is 1 / t (or 1 / (1 - t)) as long.
    forth = matches[0].at(here + coarse[:, 2:] / _TIME)
    back = matches[1].at(here + coarse[:, :2] / (1 - _TIME))
    found = torch.cat([forth, back], dim=1)
    content_step, flow_step = update(weights, f"update{level + 1}", content, coarse, found, factor)
    return content + content_step, flows + flow_step


def _decode_level(
    weights: Weights, level: int, content: Tensor, flows: Tensor, context: list[tuple[Tensor, Tensor]]
) -> Tensor:
    features = context[level - 1]
    warped = [warp(features[0], flows[:, :2]), warp(features[1], flows[:, 2:])]
    return decode(weights, f"decoder{level}", torch.cat([content, *warped, flows], dim=1), SIDE)


def _combine(weights: Weights, pictures: tuple[Tensor, Tensor], mean: Tensor, fields: Tensor, flows: Tensor) -> Tensor:
    """The candidates of all fields, merged."""
    n = CANDIDATES
    to_first, to_last, masks, residuals = torch.split(fields, [2 * n, 2 * n, n, 3 * n], dim=1)
    masks = masks.sigmoid()
    candidates = []
    for i in range(n):
        pair, colours, mask = slice(2 * i, 2 * i + 2), slice(3 * i, 3 * i + 3), masks[:, i : i + 1]
        from_first = warp(pictures[0], flows[:, :2] + to_first[:, pair])
        from_last = warp(pictures[1], flows[:, 2:] + to_last[:, pair])
        candidates.append(mask * from_first + (1 - mask) * from_last + mean + residuals[:, colours])
    stacked = torch.cat(candidates, dim=1)
    hidden = convolve_prelu(weights, "comb_block", stacked)
    correction = convolve(weights, "comb_block.2", hidden)
    return (torch.stack(candidates).mean(dim=0) + correction).clamp(0, 1)


def pad_amounts(height: int, width: int) -> tuple[int, int, int, int]:
    """Left, right, top and bottom pixels that make both sides multiples of 16; the odd one goes right and below."""
    across, down = -width % MULTIPLE, -height % MULTIPLE
    return across // 2, across - across // 2, down // 2, down - down // 2


def interpolate_uint8(weights: Weights, first: Tensor, last: Tensor, keep_bytes: int = KEEP_BYTES) -> Tensor:
    """The pictures half way between uint8 pictures (B, H, W, 3) with sides of 113 and more, cut to uint8.

    Raises:
        ValueError: a side is too small.
    """
    height, width = first.shape[1:3]
    left, right, top, bottom = pad_amounts(height, width)

    def prepared(frames: Tensor) -> Tensor:
        pictures = frames.permute(0, 3, 1, 2).to(next(iter(weights.values())).dtype) / 255
        return functional.pad(pictures, (left, right, top, bottom), mode="replicate")

    middle = interpolate(weights, prepared(first), prepared(last), keep_bytes)
    inside = middle[:, :, top : top + height, left : left + width]
    return (inside * 255).to(torch.uint8).permute(0, 2, 3, 1)
