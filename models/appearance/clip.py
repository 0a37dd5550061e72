"""CLIP's vision towers ViT-L/14 and ViT-B/32: one vector for a picture.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; tensors of
the published files under the names that transformers gives them (`CLIPVisionModelWithProjection`, the names of the hub
checkpoints ``openai/clip-vit-large-patch14`` and ``openai/clip-vit-base-patch32``). `from_openai` turns the names of
OpenAI's own files into these. The tower computes what transformers' class does with ``hidden_act="quick_gelu"`` (tested
against it), but on a CPU in half the time and without a copy of the weights, see `_transformer`.

Input, as `clip_transform(224)` of VBench 0.1.5: the frame in 0 to 255 as floats, its shorter side resized to 224 and
the longer one to ``int(224 * longer / shorter)``, bicubic and not antialiased, so that overshoot beyond 0 and 255 is
kept; the middle 224 x 224; divided by 255; CLIP's mean and deviation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from macebench.models.appearance._common import Settings, fit, load, placed, torch_dtype
from macebench.models.appearance._tensorfile import TensorFile
from macebench.models.appearance._transformer import Layer, Linear, Norm, encode, norm
from macebench.weights import WeightsFile

SIDE = 224
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_EPS = 1e-5
_PRE = "vision_model.pre_layrnorm"  # the spelling of the checkpoints


@dataclass(frozen=True)
class Tower:
    """Sizes of a tower."""

    name: str
    width: int
    layers: int
    heads: int
    patch: int
    outputs: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by its name in transformers."""
        c, tokens = self.width, (SIDE // self.patch) ** 2 + 1
        shapes: dict[str, tuple[int, ...]] = {
            "vision_model.embeddings.class_embedding": (c,),
            "vision_model.embeddings.patch_embedding.weight": (c, 3, self.patch, self.patch),
            "vision_model.embeddings.position_embedding.weight": (tokens, c),
            "visual_projection.weight": (self.outputs, c),
        }
        for name in (_PRE, "vision_model.post_layernorm"):
            shapes |= {f"{name}.weight": (c,), f"{name}.bias": (c,)}
        for index in range(self.layers):
            for part, (outputs, inputs) in {
                "self_attn.q_proj": (c, c), "self_attn.k_proj": (c, c), "self_attn.v_proj": (c, c),
                "self_attn.out_proj": (c, c), "mlp.fc1": (4 * c, c), "mlp.fc2": (c, 4 * c),
            }.items():  # fmt: skip
                name = f"vision_model.encoder.layers.{index}.{part}"
                shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
            for part in ("layer_norm1", "layer_norm2"):
                name = f"vision_model.encoder.layers.{index}.{part}"
                shapes |= {f"{name}.weight": (c,), f"{name}.bias": (c,)}
        return shapes


TOWERS = {
    "clip_l14": Tower("CLIP ViT-L/14", 1024, 24, 16, 14, 768),
    "clip_b32": Tower("CLIP ViT-B/32", 768, 12, 12, 32, 512),
}

_OPENAI = (
    (r"conv1\.weight", "vision_model.embeddings.patch_embedding.weight"),
    (r"class_embedding", "vision_model.embeddings.class_embedding"),
    (r"positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    (r"ln_pre\.(weight|bias)", rf"{_PRE}.\1"),
    (r"ln_post\.(weight|bias)", r"vision_model.post_layernorm.\1"),
    (r"transformer\.resblocks\.(\d+)\.attn\.out_proj\.(\w+)", r"vision_model.encoder.layers.\1.self_attn.out_proj.\2"),
    (r"transformer\.resblocks\.(\d+)\.ln_([12])\.(\w+)", r"vision_model.encoder.layers.\1.layer_norm\2.\3"),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(\w+)", r"vision_model.encoder.layers.\1.mlp.fc1.\2"),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(\w+)", r"vision_model.encoder.layers.\1.mlp.fc2.\2"),
)
_OPENAI_IN = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")


def from_openai(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tower's tensors of an OpenAI file under transformers' names; all others are left out.

    OpenAI keeps query, key and value in one matrix, and the projection transposed. Unknown names below ``visual.``
    are kept as they are, so that `macebench.models.appearance._common.fit` names them.
    """
    result: dict[str, Tensor] = {}
    for full, tensor in tensors.items():
        if not full.startswith("visual."):
            continue
        name = full.removeprefix("visual.")
        joined = _OPENAI_IN.fullmatch(name)
        if joined:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                result[f"vision_model.encoder.layers.{joined[1]}.self_attn.{part}_proj.{joined[2]}"] = piece
        elif name == "proj":
            result["visual_projection.weight"] = tensor.t()
        else:
            result[_renamed(name)] = tensor
    return result


def _renamed(name: str) -> str:
    for pattern, replacement in _OPENAI:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return f"visual.{name}"


def from_hub(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tower's tensors of a hub checkpoint, which also holds the text tower and position numbers."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith(("vision_model.", "visual_projection.")) and not name.endswith("position_ids")
    }


def clip_input(frames: Tensor) -> Tensor:
    """(B, 3, 224, 224) float32 input of (B, 3, H, W) frames in 0 to 255; see the module's docstring."""
    pictures = resized(frames, SIDE, "bicubic")
    top, left = (round((size - SIDE) / 2.0) for size in pictures.shape[-2:])
    middle = pictures[:, :, top : top + SIDE, left : left + SIDE] / 255.0
    return normalised(middle, MEAN, DEVIATION)


def resized(frames: Tensor, shorter: int, mode: str) -> Tensor:
    """(B, 3, h, w) float32 with the shorter side `shorter` and the longer one cut to an integer; not antialiased."""
    height, width = frames.shape[-2:]
    longer = int(shorter * max(height, width) / min(height, width))
    size = (shorter, longer) if height <= width else (longer, shorter)
    return functional.interpolate(frames.float(), size, mode=mode, align_corners=False, antialias=False)


def normalised(pictures: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """``(pictures - mean) / deviation`` for each channel."""
    shape = (1, 3, 1, 1)
    return (pictures - pictures.new_tensor(mean).view(shape)) / pictures.new_tensor(deviation).view(shape)


class Clip:
    """A vision tower, ready to run.

    Args:
        tower: Its sizes.
        file: Its tensors, under OpenAI's names or transformers'.
        device: ``cpu`` or ``cuda``.
        dtype: What is computed with.

    Raises:
        UserError: the tensors do not fit.
    """

    def __init__(self, tower: Tower, file: TensorFile, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        openai = any(name.startswith("visual.") for name in file.tensors)
        found = from_openai(file.tensors) if openai else from_hub(file.tensors)
        fit(found, tower.shapes, tower.name)
        self.tower, self.device, self.dtype, self._file = tower, device, dtype, file
        tensors = placed(found, device, dtype)
        name = "vision_model.embeddings."
        self._patches = tensors[f"{name}patch_embedding.weight"]
        self._class = tensors[f"{name}class_embedding"].to(dtype)
        self._positions = tensors[f"{name}position_embedding.weight"].to(dtype)
        self._before, self._after = _norm(tensors, _PRE), _norm(tensors, "vision_model.post_layernorm")
        self._projection = tensors["visual_projection.weight"].to(dtype)
        self._layers = [_layer(tensors, f"vision_model.encoder.layers.{index}.") for index in range(tower.layers)]

    @classmethod
    def from_weights(cls, name: str, row: WeightsFile, settings: Settings) -> Clip:
        """The tower ``clip_l14`` or ``clip_b32`` from a checked weights file."""
        return cls(TOWERS[name], load(row), settings.device, torch_dtype(settings))

    def embed(self, pictures: Tensor) -> Tensor:
        """(B, outputs) projected vectors, not normalised, of (B, 3, 224, 224) inputs (`clip_input`)."""
        pictures = pictures.to(self.device, self.dtype)
        patches = functional.conv2d(pictures, self._patches, stride=self.tower.patch).flatten(2).transpose(1, 2)
        x = torch.cat([self._class.expand(len(patches), 1, -1), patches], dim=1) + self._positions
        x = encode(
            norm(x, self._before, _EPS), self._layers,
            heads=self.tower.heads, eps=_EPS, activation="quick_gelu", done=self._done,
        )  # fmt: skip
        return functional.linear(norm(x, self._after, _EPS), self._projection)

    def __call__(self, frames: Tensor) -> Tensor:
        """(B, outputs) float32 vectors of length 1 of (B, 3, H, W) uint8 frames."""
        return functional.normalize(self.embed(clip_input(frames.to(self.device))).float(), dim=-1)

    def _done(self, layer: Layer) -> None:
        for weight in layer.weights:
            self._file.release(weight)


def _norm(tensors: Mapping[str, Tensor], name: str) -> Norm:
    return Norm(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _layer(tensors: Mapping[str, Tensor], prefix: str) -> Layer:
    def part(name: str) -> Linear:
        return Linear(tensors[f"{prefix}{name}.weight"], tensors[f"{prefix}{name}.bias"])

    return Layer(
        _norm(tensors, f"{prefix}layer_norm1"),
        part("self_attn.q_proj"), part("self_attn.k_proj"), part("self_attn.v_proj"), part("self_attn.out_proj"),
        _norm(tensors, f"{prefix}layer_norm2"), part("mlp.fc1"), part("mlp.fc2"),
    )  # fmt: skip
