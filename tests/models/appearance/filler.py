"""Deterministic filler weights: every tensor is a function of network name, tensor name and shape; numpy only.

Element i (C order) of tensor K of network M is ``centre + spread * (2 u - 1)`` rounded to float32, where u is the top
24 bits of splitmix64's finaliser at ``i * 0x9E3779B97F4A7C15 + crc32(M:K) * 0xD1B54A32D192ED03 + 0x2545F4914F6CDD1D``.
"""

from __future__ import annotations

import math
import re
import zlib

import numpy as np

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


def uniform(stream, count):
    """`count` numbers in [0, 1) on a grid of 2^-24."""
    start = (zlib.crc32(stream.encode()) * 0xD1B54A32D192ED03 + 0x2545F4914F6CDD1D) & WORD
    z = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


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


def tensors(network, shapes):
    """{name: tensor} of {name: shape}."""
    return {name: tensor(network, name, shape) for name, shape in shapes.items()}
