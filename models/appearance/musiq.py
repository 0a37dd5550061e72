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

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 32
GRID = 10
LONGER_SIDES = (224, 384)
VBENCH_LONGER_SIDE = 512
_NORM_EPS = 1e-6
_STANDARD_EPS = 1e-5


def vbench_input(frames: Tensor) -> Tensor:
    """(B, 3, h, w) pictures in [0, 1] of (B, 3, H, W) in 0 to 255: the longer side is at most 512.

    The sizes are cut, not rounded: 288 x 544 becomes 271 x 512.
    """
    height, width = frames.shape[-2:]
    pictures = frames.float()
    if max(height, width) > VBENCH_LONGER_SIDE:
        scale = VBENCH_LONGER_SIDE / max(height, width)
        size = (int(scale * height), int(scale * width))
        pictures = F.interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=False)
    return pictures / 255.0


class StandardConv(nn.Conv2d):
    """Convolution without bias whose filters are used with mean 0 and deviation 1; the border is as TensorFlow's."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=False)

    def standardise(self) -> None:
        """Replace the filters by the standardised ones, once and for all; call it after loading."""
        with torch.no_grad():
            mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
            deviation = self.weight.std(dim=(1, 2, 3), keepdim=True, unbiased=False)
            self.weight.copy_((self.weight - mean) / (deviation + _STANDARD_EPS))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        return F.conv2d(_same(x, kernel, stride), self.weight, stride=stride)


def _same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around a picture so that windows of `kernel` with `stride` cover all of it; the odd one goes last."""
    pads: list[int] = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads) if any(pads) else x


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with group norms, and a projection of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.gn1 = StandardConv(64, 64, 1), nn.GroupNorm(32, 64, _NORM_EPS)
        self.conv2, self.gn2 = StandardConv(64, 64, 3), nn.GroupNorm(32, 64, _NORM_EPS)
        self.conv3, self.gn3 = StandardConv(64, 256, 1), nn.GroupNorm(32, 256, _NORM_EPS)
        self.conv_proj, self.gn_proj = StandardConv(64, 256, 1), nn.GroupNorm(32, 256, _NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 64, H, W) to (B, 256, H, W)."""
        y = F.relu(self.gn1(self.conv1(x)))
        y = F.relu(self.gn2(self.conv2(y)))
        return F.relu(self.gn3(self.conv3(y)) + self.gn_proj(self.conv_proj(x)))


class Attention(nn.Module):
    """Self attention with separate query, key, value and output layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, asking: int) -> Tensor:
        """(B, L, C) to (B, asking, C): only the first `asking` tokens ask."""
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.query, x[:, :asking]), (self.key, x), (self.value, x))
        )
        y = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return result


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        result: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return result


class EncoderBlock(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, _NORM_EPS), nn.LayerNorm(width, _NORM_EPS)
        self.attention, self.mlp = Attention(width, heads), Mlp(width, hidden)

    def forward(self, x: Tensor, asking: int) -> Tensor:
        """(B, L, C) to (B, asking, C)."""
        y = x[:, :asking] + self.attention(self.norm1(x), asking)
        result: Tensor = y + self.mlp(self.norm2(y))
        return result


class _Table(nn.Module):
    """One learned table under the name that the checkpoint gives it."""

    def __init__(self, name: str, *shape: int) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


class Encoder(nn.Module):
    """The transformer with its class token and tables."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.posembed_input = _Table("position_emb", 1, GRID * GRID, width)
        self.scaleembed_input = _Table("scale_emb", len(LONGER_SIDES) + 1, 1, width)
        self.transformer = nn.ModuleDict(
            {f"encoderblock_{index}": EncoderBlock(width, heads, hidden) for index in range(layers)}
        )
        self.encoder_norm = nn.LayerNorm(width, _NORM_EPS)

    def place(self, rows: int, columns: int, scale: int) -> Tensor:
        """(1, rows * columns, C): what a grid of patches gets for position and scale."""
        table = self.posembed_input.get_parameter("position_emb")[0]
        across, down = _hashed(columns, table.device), _hashed(rows, table.device)
        positions = (down[:, None] * GRID + across[None, :]).flatten()
        scales = self.scaleembed_input.get_parameter("scale_emb")[scale]
        return (table[positions] + scales)[None]

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, C) patches to the (B, C) class token."""
        x = torch.cat([self.cls.expand(len(tokens), -1, -1), tokens], dim=1)
        blocks = list(self.transformer.values())
        for block in blocks[:-1]:
            x = block(x, x.shape[1])
        x = blocks[-1](x, 1)
        result: Tensor = self.encoder_norm(x[:, 0])
        return result


def _hashed(count: int, device: torch.device) -> Tensor:
    """(count,) entries of the table along one side: floor(GRID * i / count)."""
    return torch.arange(count, device=device) * GRID // count


class Musiq(nn.Module):
    """The network; call `standardise` once after its tensors are loaded. Defaults are the published ones."""

    def __init__(self, width: int = 384, heads: int = 6, hidden: int = 1152, layers: int = 14) -> None:
        super().__init__()
        self.conv_root, self.gn_root = StandardConv(3, 64, 7, 2), nn.GroupNorm(32, 64, _NORM_EPS)
        self.block1 = Bottleneck()
        self.embedding = nn.Linear(256 * (PATCH // 4) ** 2, width)
        self.transformer_encoder = Encoder(width, heads, hidden, layers)
        self.head = nn.Linear(width, 1)

    def standardise(self) -> None:
        """Standardise the filters of all convolutions."""
        for module in self.modules():
            if isinstance(module, StandardConv):
                module.standardise()

    def forward(self, pictures: Tensor) -> Tensor:
        """(B,) scores of (B, 3, H, W) pictures in [0, 1]."""
        pictures = pictures * 2.0 - 1.0
        tokens = []
        for scale, longer in enumerate((*LONGER_SIDES, None)):
            scaled = pictures if longer is None else _with_longer_side(pictures, longer)
            tokens.append(self._tokens(scaled, scale))
        result: Tensor = self.head(self.transformer_encoder(torch.cat(tokens, dim=1)))
        return result[:, 0]

    def _tokens(self, pictures: Tensor, scale: int) -> Tensor:
        """(B, h * w, C) tokens of the patches of one scale."""
        pictures = _same(pictures, PATCH, PATCH)
        batch, _, height, width = pictures.shape
        rows, columns = height // PATCH, width // PATCH
        patches = pictures.view(batch, 3, rows, PATCH, columns, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, PATCH, PATCH)
        vectors = self._stem(patches)
        return vectors.view(batch, rows * columns, -1) + self.transformer_encoder.place(rows, columns, scale)

    def _stem(self, patches: Tensor) -> Tensor:
        """(N, C) vectors of (N, 3, 32, 32) patches."""
        x = patches.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.gn_root(self.conv_root(x)))
        x = F.max_pool2d(_same(x, 3, 2), 3, 2)
        x = self.block1(x)
        result: Tensor = self.embedding(x.permute(0, 2, 3, 1).flatten(1))
        return result


def _with_longer_side(pictures: Tensor, longer: int) -> Tensor:
    """The pictures resized so that their longer side is `longer` pixels."""
    height, width = pictures.shape[-2:]
    ratio = longer / max(height, width)
    size = (max(round(height * ratio), 1), max(round(width * ratio), 1))
    return F.interpolate(pictures, size, mode="bicubic", align_corners=False, antialias=False)
