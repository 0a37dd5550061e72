"""Deterministic filler weights: every tensor is a function of network name, tensor name and shape; numpy only.

Element i (C order) of tensor K of network M is ``centre + spread * (2 u - 1)`` rounded to float32, where u is the top
24 bits of splitmix64's finaliser at ``i * 0x9E3779B97F4A7C15 + crc32(M:K) * 0xD1B54A32D192ED03 + 0x2545F4914F6CDD1D``.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from pathlib import Path

import numpy as np

SHARED_HEAD = Path(__file__).resolve().parents[3].parent / "shared/data/weights/laion_sa_0_4_vit_l_14_linear.pth"
WORD = (1 << 64) - 1
# network -> (pattern of the tensor's name, gain of the fan-in rule) and (pattern, centre, spread); the first that fits
FAN = {
    "clip": [(r"attn\.in_proj_weight$", 2.0)],
    "dino": [(r"attn\.qkv\.weight$", 2.0)],
    "musiq": [(r"attention\.(query|key)\.weight$", 2.0), (r"^head\.weight$", 12.0)],
}
FIXED = {
    "clip": [(r"class_embedding$", 0.0, 0.05)],
    "dino": [(r"(cls_token|pos_embed)$", 0.0, 0.05)],
    "musiq": [(r"(position_emb|scale_emb|transformer_encoder\.cls)$", 0.0, 0.05), (r"^head\.bias$", 50.0, 0.0)],
}


def finalised(z):
    """splitmix64's finaliser of an array of 64-bit words, in place."""
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def uniform(stream, count):
    """`count` numbers in [0, 1) on a grid of 2^-24."""
    start = (zlib.crc32(stream.encode()) * 0xD1B54A32D192ED03 + 0x2545F4914F6CDD1D) & WORD
    z = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    return (finalised(z) >> np.uint64(40)).astype(np.float64) / 2**24


def centre_and_spread(network, name, shape):
    for pattern, centre, spread in FIXED.get(network, []):
        if re.search(pattern, name):
            return centre, spread
    if len(shape) >= 2:
        gain = next((gain for pattern, gain in FAN.get(network, []) if re.search(pattern, name)), 1.0)
        return 0.0, gain * math.sqrt(3.0 / max(1, math.prod(shape[1:])))
    if len(shape) == 1:
        return (1.0, 0.1) if name.endswith("weight") else (0.0, 0.05)
    return 1.0, 0.0


def tensor(network, name, shape):
    """The tensor `name` of `network` as float32."""
    centre, spread = centre_and_spread(network, name, tuple(shape))
    values = centre + spread * (2.0 * uniform(f"{network}:{name}", math.prod(shape)) - 1.0)
    return values.astype(np.float32).reshape(shape)


def amt_tensor(name, shape):
    """AMT's tensor `name`: small last layers for flows and pictures, slopes around a quarter."""
    fan = math.sqrt(3.0 / max(1, math.prod(shape[1:])))
    if re.search(r"flow_head\.2\.weight$|decoder[1-4]\.convblock\.2\.weight$", name):
        centre, spread = 0.0, 0.2 * fan
    elif name == "comb_block.2.weight":
        centre, spread = 0.0, 0.05 * fan
    elif len(shape) == 1:
        centre, spread = (0.25, 0.1) if name.endswith(".weight") else (0.0, 0.05)
    else:
        centre, spread = 0.0, fan
    u = uniform(f"amt_s:{name}", math.prod(shape))
    return (centre + spread * (2.0 * u - 1.0)).astype(np.float32).reshape(shape)


def tensors(network, shapes):
    """{name: tensor} of {name: shape}."""
    return {name: tensor(network, name, shape) for name, shape in shapes.items()}


def noise(seed, *shape):
    """Whole numbers 0 to 255 as float32: the same finaliser with the plain seed in place of the name."""
    z = np.arange(math.prod(shape), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(seed * 0xD1B54A32D192ED03 & WORD)
    return (finalised(z) >> np.uint64(56)).astype(np.float32).reshape(shape)


def both(shapes, name, size):
    shapes[f"{name}.weight"] = size
    shapes[f"{name}.bias"] = (size[0],)


def clip_shapes(width, layers, patch, outputs, tokens):
    """OpenAI's names, vision tower only."""
    shapes = {
        "visual.class_embedding": (width,), "visual.positional_embedding": (tokens, width),
        "visual.proj": (width, outputs), "visual.conv1.weight": (width, 3, patch, patch),
    }  # fmt: skip
    both(shapes, "visual.ln_pre", (width,))
    both(shapes, "visual.ln_post", (width,))
    for index in range(layers):
        block = f"visual.transformer.resblocks.{index}"
        shapes[f"{block}.attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{block}.attn.in_proj_bias"] = (3 * width,)
        both(shapes, f"{block}.attn.out_proj", (width, width))
        both(shapes, f"{block}.mlp.c_fc", (4 * width, width))
        both(shapes, f"{block}.mlp.c_proj", (width, 4 * width))
        both(shapes, f"{block}.ln_1", (width,))
        both(shapes, f"{block}.ln_2", (width,))
    return shapes


CLIP = {"clip_l14": clip_shapes(1024, 24, 14, 768, 257), "clip_b32": clip_shapes(768, 12, 32, 512, 50)}


def dino_shapes(width=768, layers=12):
    """The names of facebookresearch/dino."""
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 197, width), "patch_embed.proj.weight": (width, 3, 16, 16)}
    shapes["patch_embed.proj.bias"] = (width,)
    both(shapes, "norm", (width,))
    for index in range(layers):
        both(shapes, f"blocks.{index}.attn.qkv", (3 * width, width))
        both(shapes, f"blocks.{index}.attn.proj", (width, width))
        both(shapes, f"blocks.{index}.mlp.fc1", (4 * width, width))
        both(shapes, f"blocks.{index}.mlp.fc2", (width, 4 * width))
        both(shapes, f"blocks.{index}.norm1", (width,))
        both(shapes, f"blocks.{index}.norm2", (width,))
    return shapes


def musiq_shapes():
    """The names of the published SPAQ checkpoint."""
    encoder = "transformer_encoder"
    shapes = {
        "conv_root.weight": (64, 3, 7, 7), "block1.conv1.weight": (64, 64, 1, 1), "block1.conv2.weight": (64, 64, 3, 3),
        "block1.conv3.weight": (256, 64, 1, 1), "block1.conv_proj.weight": (256, 64, 1, 1),
        f"{encoder}.cls": (1, 1, 384), f"{encoder}.posembed_input.position_emb": (1, 100, 384),
        f"{encoder}.scaleembed_input.scale_emb": (3, 1, 384),
    }  # fmt: skip
    for name in ("gn_root", "block1.gn1", "block1.gn2"):
        both(shapes, name, (64,))
    for name in ("block1.gn3", "block1.gn_proj"):
        both(shapes, name, (256,))
    both(shapes, "embedding", (384, 16384))
    both(shapes, "head", (1, 384))
    both(shapes, f"{encoder}.encoder_norm", (384,))
    for index in range(14):
        block = f"{encoder}.transformer.encoderblock_{index}"
        for part in ("query", "key", "value", "out"):
            both(shapes, f"{block}.attention.{part}", (384, 384))
        both(shapes, f"{block}.mlp.fc1", (1152, 384))
        both(shapes, f"{block}.mlp.fc2", (384, 1152))
        both(shapes, f"{block}.norm1", (384,))
        both(shapes, f"{block}.norm2", (384,))
    return shapes


def checksum(tensors):
    """(elements, sum in float64, SHA-256 over sorted names and little-endian numbers)."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].astype("<f4").tobytes())
    total = sum(values.astype(np.float64).sum() for values in tensors.values())
    return sum(values.size for values in tensors.values()), total, digest.hexdigest()
