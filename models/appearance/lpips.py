"""LPIPS 0.1: perceptual distance of two pictures, with AlexNet or VGG-16 (written from the paper).

Source: Zhang, Isola, Efros, Shechtman and Wang, "The unreasonable effectiveness of deep features as a perceptual
metric", CVPR 2018, equation 1; names of tensors are those of torchvision's published checkpoints (backbones) and of
the ``lpips`` package 0.1.4 (linear heads).

1. Pixels in -1 to 1 are standardised by fixed means and deviations a channel.
2. The backbone's activations after five ReLUs are taken (AlexNet: all five convolutions; VGG-16: the last convolution
   of each of the five blocks), and each position's vector is divided by its length (plus 1e-10).
3. The squared differences of the two pictures are weighted by a learned weight a channel, summed over channels,
   averaged over positions, and summed over the five layers.

Pixels fed in 0 to 1 instead (DisCo's published code) give much smaller values; the protocol says which.
Frames equal to the reference's have distance 0 and are not run. Of a checkpoint only the convolutions are kept.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from macebench.errors import Unscorable, UserError
from macebench.models.appearance._common import fit
from macebench.types import FloatArray
from macebench.weights import path_of

Frames = NDArray[np.uint8]
_MEAN, _DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPS = 1e-10
_PIXELS_CPU, _PIXELS_CUDA = 2**18, 2**23


@dataclass(frozen=True)
class Kind:
    """A backbone.

    Attributes:
        name: Its name in files and columns.
        layers: In torchvision's order: (channels, kernel, stride, padding) of a convolution with its ReLU, or
            (kernel, stride) of a maximum.
        taps: Indices of the ReLUs that are read, in torchvision's counting.
        channels: Channels at the taps.
        smallest: Shortest side in pixels.
        backbone: Row of the weights table.
        head: Row of the weights table.
    """

    name: str
    layers: tuple[tuple[int, ...], ...]
    taps: tuple[int, ...]
    channels: tuple[int, ...]
    smallest: int
    backbone: str
    head: str


def _vgg(*blocks: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """Layers of blocks of (channels, convolutions), with maxima between them."""
    layers: list[tuple[int, ...]] = []
    for index, (channels, count) in enumerate(blocks):
        layers += ([(2, 2)] if index else []) + [(channels, 3, 1, 1)] * count
    return tuple(layers)


KINDS = {
    "alex": Kind(
        "alex",
        ((64, 11, 4, 2), (3, 2), (192, 5, 1, 2), (3, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
        (1, 4, 7, 9, 11), (64, 192, 384, 256, 256), 31, "lpips-alexnet", "lpips-head-alex",
    ),
    "vgg": Kind(
        "vgg", _vgg((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
        (3, 8, 15, 22, 29), (64, 128, 256, 512, 512), 16, "lpips-vgg16", "lpips-head-vgg",
    ),
}  # fmt: skip


def _features(layers: Sequence[tuple[int, ...]]) -> nn.Sequential:
    """The layers, numbered as torchvision numbers them."""
    modules: list[nn.Module] = []
    inputs = 3
    for layer in layers:
        if len(layer) == 2:
            modules.append(nn.MaxPool2d(*layer))
            continue
        outputs, kernel, stride, padding = layer
        modules += [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*modules)


class Lpips(nn.Module):
    """The network. Tensors: ``features.<n>.weight`` and ``.bias``, and ``lin<k>.model.1.weight`` in `heads`."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.features = _features(kind.layers)
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(1, count, 1, 1)) for count in kind.channels)
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def load(self, backbone: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> None:
        """Take the convolutions of a torchvision checkpoint and the linear head of the ``lpips`` package.

        Raises:
            UserError: a tensor is missing or has another shape.
        """
        shapes = {name: tensor.shape for name, tensor in self.features.state_dict(prefix="features.").items()}
        convolutions = {name: tensor for name, tensor in backbone.items() if name in shapes}
        heads = {f"lin{index}.model.1.weight": tensor.shape for index, tensor in enumerate(self.heads)}
        fit(convolutions, shapes, f"LPIPS {self.kind.name}")
        fit(head, heads, f"the head of LPIPS {self.kind.name}")
        self.features.load_state_dict({name.removeprefix("features."): value for name, value in convolutions.items()})
        with torch.no_grad():
            for parameter, name in zip(self.heads, heads, strict=True):
                parameter.copy_(head[name])

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(B,) distances of (B, 3, H, W) pictures in -1 to 1."""
        x = (torch.cat([first, second]) - self.mean) / self.deviation
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        total = torch.zeros(len(first), device=x.device, dtype=x.dtype)
        start = 0
        for tap, head in zip(self.kind.taps, self.heads, strict=True):
            x = self.features[start : tap + 1](x)
            start = tap + 1
            total += _layer_distance(x, head)
        return total


def _layer_distance(activations: Tensor, head: Tensor) -> Tensor:
    """(B,) of (2 B, C, h, w): the first half against the second."""
    length = torch.linalg.vector_norm(activations, dim=1, keepdim=True)
    one, two = (activations / (length + _EPS)).chunk(2)
    return functional.conv2d((one - two).square_(), head).mean(dim=(1, 2, 3))


def read_checkpoint(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint; nothing in it is run.

    Raises:
        UserError: it cannot be read or holds something else.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"weights file {path} cannot be read: {str(error).splitlines()[0][:200]}") from error
    except Exception as error:  # the restricted unpickler's own error has no name that may be imported
        raise UserError(f"weights file {path} holds more than tensors: {type(error).__name__}") from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"weights file {path} holds no table of tensors.")
    return found


@cache
def load_lpips(kind: str, device: str, dtype: torch.dtype) -> Lpips:
    """The network with its published weights; one a process.

    Raises:
        WeightsMissingError: a file is not on this machine.
        WeightsCorruptError: a file has another SHA-256 than the table says.
        UserError: a file cannot be read or does not fit.
    """
    which = KINDS[kind]
    network = Lpips(which)
    network.load(read_checkpoint(path_of(which.backbone)), read_checkpoint(path_of(which.head)))
    return network.to(device, dtype)


def distances(
    network: Lpips, generated: Frames, reference: Frames, *, input_range: str = "-1..1", batch: int | None = None
) -> FloatArray:
    """LPIPS of paired frames.

    Args:
        network: The network, where it shall run.
        generated: (T, H, W, 3) uint8.
        reference: (T, H, W, 3) uint8.
        input_range: ``-1..1``, or ``0..1`` as in DisCo's published code.
        batch: Pairs at once; None chooses by size of the frames. No result depends on it by more than rounding.

    Returns:
        (T,) distances, 0 for equal frames.

    Raises:
        Unscorable: a side is too short for the network.
        ValueError: shapes, types or `input_range` do not fit.
    """
    if generated.shape != reference.shape or generated.ndim != 4 or generated.dtype != np.uint8:
        raise ValueError(f"frames {generated.shape} and {reference.shape}, expected one (T, H, W, 3) uint8 shape")
    if input_range not in ("-1..1", "0..1"):
        raise ValueError(f"input range {input_range!r} must be '-1..1' or '0..1'")
    if min(generated.shape[1:3]) < network.kind.smallest:
        raise Unscorable(f"smaller than {network.kind.smallest} pixels")
    differ = [index for index in range(len(generated)) if not np.array_equal(generated[index], reference[index])]
    result = np.zeros(len(generated))
    device = network.mean.device.type
    pixels = _PIXELS_CUDA if device == "cuda" else _PIXELS_CPU
    size = batch or max(1, pixels // int(np.prod(generated.shape[1:3])))
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(differ), size):
            chosen = differ[start : start + size]
            one, two = (_pictures(frames[chosen], network.mean, input_range) for frames in (generated, reference))
            result[chosen] = network(one, two).double().cpu().numpy()
    return result


def _pictures(frames: Frames, like: Tensor, input_range: str) -> Tensor:
    """(B, 3, H, W) pictures in the range, where and as `like` is."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(like.device).permute(0, 3, 1, 2).float()
    pixels = pixels / 127.5 - 1.0 if input_range == "-1..1" else pixels / 255.0
    return pixels.to(like.dtype)
