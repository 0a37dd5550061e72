"""DINO ViT-B/16: one vector for a picture of any size.

Source: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021; tensors of the published
``dino_vitbase16_pretrain.pth`` (facebookresearch/dino). The hub checkpoint ``facebook/dino-vitb16`` holds the same
under transformers' names; `from_hub` turns them back. The result is the class token behind the last layer norm.

The table of positions is made for 14 x 14 patches. For another grid it is resized, bicubic, with the scale factor
``(n + 0.1) / 14`` a side, as the published code does. Asking for the size instead (as transformers does) gives other
features: cosine 0.995 for 14 x 24 patches.

Input, as `dino_transform(224)` of VBench 0.1.5: floats in 0 to 255, shorter side resized to 224 (bilinear, not
antialiased), no crop; divided by 255; the mean and deviation of ImageNet. A last row or column of patches that is not
whole is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from macebench.models.appearance._common import Settings, fit, load, placed, torch_dtype
from macebench.models.appearance._tensorfile import TensorFile
from macebench.models.appearance._transformer import Layer, Linear, Norm, encode, norm
from macebench.models.appearance.clip import normalised, resized
from macebench.weights import WeightsFile

SIDE, PATCH, GRID = 224, 16, 14
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
_WIDTH, _LAYERS, _HEADS, _EPS = 768, 12, 12, 1e-6


def shapes(width: int = _WIDTH, layers: int = _LAYERS) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor by its published name."""
    result: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width), "pos_embed": (1, GRID * GRID + 1, width),
        "patch_embed.proj.weight": (width, 3, PATCH, PATCH), "patch_embed.proj.bias": (width,),
        "norm.weight": (width,), "norm.bias": (width,),
    }  # fmt: skip
    for index in range(layers):
        for part, (outputs, inputs) in {
            "attn.qkv": (3 * width, width), "attn.proj": (width, width),
            "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width),
        }.items():  # fmt: skip
            name = f"blocks.{index}.{part}"
            result |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
        for part in ("norm1", "norm2"):
            result |= {f"blocks.{index}.{part}.weight": (width,), f"blocks.{index}.{part}.bias": (width,)}
    return result


_HUB = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"layernorm\.(\w+)", r"norm.\1"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (r"encoder\.layer\.(\d+)\.output\.dense\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.(\w+)", r"blocks.\1.norm1.\2"),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.(\w+)", r"blocks.\1.norm2.\2"),
)
_HUB_IN = re.compile(r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)")


def from_hub(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a hub checkpoint under the published names; its pooler, which DINO does not have, is left out."""
    result: dict[str, Tensor] = {}
    for full, tensor in tensors.items():
        name = full.removeprefix("vit.")
        query = _HUB_IN.fullmatch(name)
        if query:
            others = [full.replace(".query.", f".{part}.") for part in ("key", "value")]
            joined = torch.cat([tensor, *(tensors[other] for other in others if other in tensors)])
            result[f"blocks.{query[1]}.attn.qkv.{query[2]}"] = joined
        elif not re.match(r"pooler\.|.*\.attention\.attention\.(key|value)\.", name):
            result[_renamed(name)] = tensor
    return result


def _renamed(name: str) -> str:
    for pattern, replacement in _HUB:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def dino_input(frames: Tensor) -> Tensor:
    """(B, 3, h, w) float32 input of (B, 3, H, W) frames in 0 to 255; see the module's docstring."""
    return normalised(resized(frames, SIDE, "bilinear") / 255.0, MEAN, DEVIATION)


def positions(table: Tensor, height: int, width: int) -> Tensor:
    """(1, 1 + rows * columns, C): the (1, 197, C) table for pictures of `height` x `width` pixels."""
    rows, columns = height // PATCH, width // PATCH
    if rows * columns == GRID * GRID and height == width:
        return table
    square = table[:, 1:].float().view(1, GRID, GRID, -1).permute(0, 3, 1, 2)
    factors = ((rows + 0.1) / GRID, (columns + 0.1) / GRID)
    patches = functional.interpolate(square, scale_factor=factors, mode="bicubic").permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([table[:, :1], patches.to(table.dtype)], dim=1)


class Dino:
    """The network, ready to run.

    Args:
        file: Its tensors, under the published names or transformers'.
        device: ``cpu`` or ``cuda``.
        dtype: What is computed with.
        width: Width; a twelfth of it for each head.
        layers: Layers.

    Raises:
        UserError: the tensors do not fit.
    """

    def __init__(
        self, file: TensorFile, device: str = "cpu", dtype: torch.dtype = torch.float32,
        *, width: int = _WIDTH, layers: int = _LAYERS,
    ) -> None:  # fmt: skip
        found: Mapping[str, Tensor] = file.tensors
        if "pos_embed" not in found:
            found = from_hub(found)
        fit(found, shapes(width, layers), "DINO ViT-B/16")
        self.device, self.dtype, self._file = device, dtype, file
        tensors = placed(found, device, dtype)
        self._class, self._table = tensors["cls_token"], tensors["pos_embed"]
        self._patches = tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"]
        self._after = Norm(tensors["norm.weight"], tensors["norm.bias"])
        self._layers = [_layer(tensors, f"blocks.{index}.") for index in range(layers)]

    @classmethod
    def from_weights(cls, row: WeightsFile, settings: Settings) -> Dino:
        """The network from a checked weights file."""
        return cls(load(row), settings.device, torch_dtype(settings))

    def embed(self, pictures: Tensor) -> Tensor:
        """(B, C) vectors, not normalised, of (B, 3, h, w) inputs (`dino_input`)."""
        pictures = pictures.to(self.device, self.dtype)
        patches = functional.conv2d(pictures, *self._patches, stride=PATCH).flatten(2).transpose(1, 2)
        x = torch.cat([self._class.expand(len(patches), 1, -1), patches], dim=1)
        x = x + positions(self._table, *pictures.shape[-2:])
        x = encode(x, self._layers, heads=_HEADS, eps=_EPS, activation="gelu", done=self._done)
        return norm(x, self._after, _EPS)

    def __call__(self, frames: Tensor) -> Tensor:
        """(B, C) float32 vectors of length 1 of (B, 3, H, W) uint8 frames."""
        return functional.normalize(self.embed(dino_input(frames.to(self.device))).float(), dim=-1)

    def _done(self, layer: Layer) -> None:
        for weight in layer.weights:
            self._file.release(weight)


def _layer(tensors: Mapping[str, Tensor], prefix: str) -> Layer:
    def part(name: str) -> Linear:
        return Linear(tensors[f"{prefix}{name}.weight"], tensors[f"{prefix}{name}.bias"])

    weights, biases = part("attn.qkv")
    query, key, value = (
        Linear(weight, bias)
        for weight, bias in zip(weights.chunk(3), biases.chunk(3) if biases is not None else (), strict=True)
    )
    norm1, norm2 = (
        Norm(*(tensors[f"{prefix}{name}.{end}"] for end in ("weight", "bias"))) for name in ("norm1", "norm2")
    )
    return Layer(norm1, query, key, value, part("attn.proj"), norm2, part("mlp.fc1"), part("mlp.fc2"))
