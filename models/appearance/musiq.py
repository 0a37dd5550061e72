"""MUSIQ: quality of a picture, 0 to 100, from patches of three sizes of it (written from the paper).

Source: Ke, Wang, Wang, Milanfar and Yang, "MUSIQ: Multi-scale Image Quality Transformer", ICCV 2021, sections 3.1 to
3.4 and the supplement; names of tensors are those of the published SPAQ checkpoint ``musiq_spaq_ckpt-358bb6af.pth``.

1. Scales: the picture with its longer side at 224, at 384 and as it is. The sides of the small ones are rounded,
   bicubic, not antialiased.
2. Each scale is cut into patches of 32 x 32 without overlap; what is missing at the border is black, shared by both
   sides (the odd row goes below, the odd column to the right).
3. A patch becomes a vector of 384 numbers: standardised 7x7 convolution with stride 2, group norm, ReLU, maximum of
   3x3 with stride 2, one bottleneck of a ResNet (64, 64, 256 channels) with standardised convolutions, and one linear
   layer on its 8 x 8 x 256 numbers.
4. Patch (i, j) of an h x w grid gets the entry (floor(10 i / h), floor(10 j / w)) of a learned 10 x 10 table (hashed
   position) and the vector of its scale.
5. 14 pre-norm transformer layers of width 384, 6 heads and a hidden width of 1152 run over one class token and all
   patches of all scales; the class token goes through a layer norm and a linear layer to the score.

The published code fills each small scale up to a square number of patches and masks them; a masked patch has no
weight, so none is made here. The last layer computes the class token only; no other token of it is read.

VBench's use (`vbench/imaging_quality.py` of 0.1.5): a picture whose longer side is above 512 is first resized to
``int(512 / longer * side)``, bilinear, not antialiased; then divided by 255.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from macebench.models.appearance._common import Settings, fit, load, placed, torch_dtype
from macebench.models.appearance._tensorfile import TensorFile
from macebench.models.appearance._transformer import Layer, Linear, Norm, encode, linear, norm, pack
from macebench.weights import WeightsFile

PATCH = 32
GRID = 10
LONGER_SIDES = (224, 384)
VBENCH_LONGER_SIDE = 512
_WIDTH, _LAYERS, _HEADS, _HIDDEN = 384, 14, 6, 1152
_GROUPS = 32
_NORM_EPS = 1e-6
_STANDARD_EPS = 1e-5
_STEM_PATCHES = 64


def shapes(width: int = _WIDTH, layers: int = _LAYERS, hidden: int = _HIDDEN) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor by its published name."""
    encoder = "transformer_encoder"
    result: dict[str, tuple[int, ...]] = {
        "conv_root.weight": (64, 3, 7, 7), "gn_root.weight": (64,), "gn_root.bias": (64,),
        "block1.conv1.weight": (64, 64, 1, 1), "block1.conv2.weight": (64, 64, 3, 3),
        "block1.conv3.weight": (256, 64, 1, 1), "block1.conv_proj.weight": (256, 64, 1, 1),
        "embedding.weight": (width, 256 * (PATCH // 4) ** 2), "embedding.bias": (width,),
        "head.weight": (1, width), "head.bias": (1,),
        f"{encoder}.cls": (1, 1, width),
        f"{encoder}.posembed_input.position_emb": (1, GRID * GRID, width),
        f"{encoder}.scaleembed_input.scale_emb": (len(LONGER_SIDES) + 1, 1, width),
        f"{encoder}.encoder_norm.weight": (width,), f"{encoder}.encoder_norm.bias": (width,),
    }  # fmt: skip
    for name, channels in (("gn1", 64), ("gn2", 64), ("gn3", 256), ("gn_proj", 256)):
        result |= {f"block1.{name}.weight": (channels,), f"block1.{name}.bias": (channels,)}
    for index in range(layers):
        block = f"{encoder}.transformer.encoderblock_{index}"
        for part in ("query", "key", "value", "out"):
            result |= {f"{block}.attention.{part}.weight": (width, width), f"{block}.attention.{part}.bias": (width,)}
        for part, (outputs, inputs) in {"fc1": (hidden, width), "fc2": (width, hidden)}.items():
            result |= {f"{block}.mlp.{part}.weight": (outputs, inputs), f"{block}.mlp.{part}.bias": (outputs,)}
        for part in ("norm1", "norm2"):
            result |= {f"{block}.{part}.weight": (width,), f"{block}.{part}.bias": (width,)}
    return result


def _with_scale_axis(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the vectors of the scales as (3, 1, C); pyiqa 0.1.13 has them as (3, C)."""
    found, name = dict(tensors), "transformer_encoder.scaleembed_input.scale_emb"
    if name in found and found[name].ndim == 2:
        found[name] = found[name][:, None]
    return found


def musiq_input(frames: Tensor) -> Tensor:
    """(B, 3, h, w) float32 pictures in [0, 1] of (B, 3, H, W) frames in 0 to 255: the longer side is at most 512.

    The sizes are cut, not rounded: 288 x 544 becomes 271 x 512.
    """
    height, width = frames.shape[-2:]
    pictures = frames.float()
    if max(height, width) > VBENCH_LONGER_SIDE:
        scale = VBENCH_LONGER_SIDE / max(height, width)
        size = (max(int(scale * height), 1), max(int(scale * width), 1))
        pictures = functional.interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=False)
    return pictures / 255.0


class Musiq:
    """The network, ready to run.

    Args:
        file: Its tensors under the published names.
        device: ``cpu`` or ``cuda``.
        dtype: What is computed with.
        width: Width of the transformer.
        layers: Layers of the transformer.
        hidden: Width inside its layers.

    Raises:
        UserError: the tensors do not fit.
    """

    def __init__(
        self, file: TensorFile, device: str = "cpu", dtype: torch.dtype = torch.float32,
        *, width: int = _WIDTH, layers: int = _LAYERS, hidden: int = _HIDDEN,
    ) -> None:  # fmt: skip
        found = _with_scale_axis(file.tensors)
        fit(found, shapes(width, layers, hidden), "MUSIQ")
        self.device, self.dtype = device, dtype
        self._tensors = tensors = placed(found, device, dtype)
        for name in [name for name, tensor in tensors.items() if tensor.ndim == 4]:
            tensors[name] = _standardised(tensors[name]).contiguous(memory_format=torch.channels_last)
        encoder = "transformer_encoder"
        self._class = tensors[f"{encoder}.cls"]
        self._positions = tensors[f"{encoder}.posembed_input.position_emb"][0]
        self._scales = tensors[f"{encoder}.scaleembed_input.scale_emb"]
        self._after = _norm(tensors, f"{encoder}.encoder_norm")
        self._embedding, self._head = _linear(tensors, "embedding"), _linear(tensors, "head")
        self._layers = [_layer(tensors, f"{encoder}.transformer.encoderblock_{index}.") for index in range(layers)]

    @classmethod
    def from_weights(cls, row: WeightsFile, settings: Settings) -> Musiq:
        """The network from a checked weights file."""
        return cls(load(row), settings.device, torch_dtype(settings))

    def score(self, pictures: Tensor) -> Tensor:
        """(B,) scores of (B, 3, H, W) pictures in [0, 1]."""
        pictures = pictures.to(self.device) * 2.0 - 1.0
        tokens = [self._class.expand(len(pictures), -1, -1)]
        for scale, longer in enumerate((*LONGER_SIDES, None)):
            tokens.append(self._embedded(pictures if longer is None else _with_longer_side(pictures, longer), scale))
        x = encode(torch.cat(tokens, dim=1), self._layers, heads=_HEADS, eps=_NORM_EPS, activation="gelu")
        return linear(norm(x, self._after, _NORM_EPS), self._head)[:, 0].float()

    def __call__(self, frames: Tensor) -> Tensor:
        """(B,) float32 scores of (B, 3, H, W) uint8 frames."""
        return self.score(musiq_input(frames.to(self.device)))

    def _embedded(self, pictures: Tensor, scale: int) -> Tensor:
        """(B, rows * columns, C) tokens of the patches of one scale, with position and scale."""
        pictures = _same(pictures, PATCH, PATCH).to(self.dtype)
        batch, _, height, width = pictures.shape
        rows, columns = height // PATCH, width // PATCH
        patches = pictures.view(batch, 3, rows, PATCH, columns, PATCH).permute(0, 2, 4, 1, 3, 5)
        parts = torch.split(patches.reshape(-1, 3, PATCH, PATCH), _STEM_PATCHES)
        weight = pack(self._embedding.weight, self.dtype, len(parts[0]))
        vectors = torch.cat([linear(self._stem(part), self._embedding, packed=weight) for part in parts])
        entries = _hashed(rows, self.device)[:, None] * GRID + _hashed(columns, self.device)[None, :]
        places = self._positions[entries.flatten()] + self._scales[scale]
        return vectors.view(batch, rows * columns, -1) + places

    def _stem(self, patches: Tensor) -> Tensor:
        """(N, 16384) numbers of (N, 3, 32, 32) patches, channels last."""
        x = patches.contiguous(memory_format=torch.channels_last)
        x = self._group_norm(self._conv(_same(x, 7, 2), "conv_root", stride=2), "gn_root").relu_()
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        y = self._group_norm(self._conv(x, "block1.conv1"), "block1.gn1").relu_()
        y = self._group_norm(self._conv(y, "block1.conv2", padding=1), "block1.gn2").relu_()
        y = self._group_norm(self._conv(y, "block1.conv3"), "block1.gn3")
        y += self._group_norm(self._conv(x, "block1.conv_proj"), "block1.gn_proj")
        return y.relu_().permute(0, 2, 3, 1).flatten(1)

    def _conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        return functional.conv2d(x, self._tensors[f"{name}.weight"], stride=stride, padding=padding)

    def _group_norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        return functional.group_norm(x, _GROUPS, weight, bias, _NORM_EPS)


def _standardised(filters: Tensor) -> Tensor:
    """Filters (outputs, inputs, h, w) with mean 0 and deviation 1 each."""
    deviation = filters.std(dim=(1, 2, 3), keepdim=True, unbiased=False)
    return (filters - filters.mean(dim=(1, 2, 3), keepdim=True)) / (deviation + _STANDARD_EPS)


def _same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around a picture so that windows of `kernel` with `stride` cover all of it; the odd one goes last."""
    pads: list[int] = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads) if any(pads) else x


def _with_longer_side(pictures: Tensor, longer: int) -> Tensor:
    """The pictures resized so that their longer side is `longer` pixels."""
    height, width = pictures.shape[-2:]
    ratio = longer / max(height, width)
    size = (max(round(height * ratio), 1), max(round(width * ratio), 1))
    return functional.interpolate(pictures, size, mode="bicubic", align_corners=False, antialias=False)


def _hashed(count: int, device: str) -> Tensor:
    """(count,) entries of the table along one side: floor(GRID * i / count)."""
    return torch.arange(count, device=device) * GRID // count


def _norm(tensors: Mapping[str, Tensor], name: str) -> Norm:
    return Norm(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _linear(tensors: Mapping[str, Tensor], name: str) -> Linear:
    return Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _layer(tensors: Mapping[str, Tensor], prefix: str) -> Layer:
    query, key, value = (_linear(tensors, f"{prefix}attention.{name}") for name in ("query", "key", "value"))
    out = _linear(tensors, f"{prefix}attention.out")
    norm1, norm2 = _norm(tensors, f"{prefix}norm1"), _norm(tensors, f"{prefix}norm2")
    fc1, fc2 = _linear(tensors, f"{prefix}mlp.fc1"), _linear(tensors, f"{prefix}mlp.fc2")
    return Layer(norm1, query, key, value, out, norm2, fc1, fc2)
