"""Deterministic weights and closed-form inputs of the parity fixtures.

The numbers follow the README beside the fixtures, sections 1 and 2. Other test folders load this
file with `runpy.run_path`. `golden(name)` skips the calling test when the shared folder is absent.
"""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "golden" / "parity"
SKIP_REASON = "the shared folder with the parity fixtures (golden/parity) is not beside the checkout"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=SKIP_REASON)


def golden(name: str) -> dict[str, np.ndarray]:
    """Arrays of one fixture."""
    if not (GOLDEN / f"{name}.npz").is_file():
        pytest.skip(SKIP_REASON)
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def golden_json(name: str) -> dict:
    """JSON of one fixture."""
    if not (GOLDEN / f"{name}.json").is_file():
        pytest.skip(SKIP_REASON)
    return json.loads((GOLDEN / f"{name}.json").read_text())


def noise(n: int, name: str, salt: int = 0) -> np.ndarray:
    """(n,) float64 of zero mean and unit variance, from a hash of name and index."""
    key = (zlib.crc32(name.encode()) + 1 + (salt << 32)) * 0x9E3779B97F4A7C15 % (1 << 64)
    z = np.arange(1, n + 1, dtype=np.uint64) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return math.sqrt(3) * (2 * ((z >> np.uint64(11)).astype(np.float64) * 2.0**-53) - 1)


def fill(key: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """float32 weights of one tensor of a state dict."""
    shape = tuple(shape)
    v = noise(math.prod(shape), key, salt).reshape(shape)
    return _scaled(key, shape, v).astype(np.float32)


def _scaled(key: str, shape: tuple[int, ...], v: np.ndarray) -> np.ndarray:
    last = key.rsplit(".", 1)[-1]
    fan = max(1, math.prod(shape[1:]))
    rules = (
        (last == "A_log", lambda: np.log(np.arange(1, shape[-1] + 1)) + 0.1 * v),
        (last == "D", lambda: 1 + 0.1 * v),
        (key.endswith("dt_proj.bias"), lambda: v - 3),
        (key.endswith(("genre_MLP.0.weight", "_emb.weight")), lambda: v),
        (key.endswith("null_cond_embed"), lambda: 0.5 * v),
        (key.endswith("final_layer.weight"), lambda: 0.15 * v / math.sqrt(shape[1])),
        (len(shape) == 1 and last == "weight", lambda: 1 + 0.1 * v),
        (len(shape) == 1, lambda: 0.1 * v),
    )
    return next((value() for holds, value in rules if holds), v / math.sqrt(fan))


def motion(batch: int, frames: int, phi: float = 0.0, channels: int = 151) -> np.ndarray:
    """(b, t, c) float32 motion-like input."""
    b, t, c = _grid(batch, frames, channels)
    return (0.8 * np.sin(0.11 * (t + 1) * (1 + 0.13 * (c % 11)) + 0.37 * c + 0.9 * b + phi)).astype(np.float32)


def cond(batch: int, frames: int, phi: float = 0.0) -> np.ndarray:
    """(b, t, 35) float32 music-like input; the last two columns are 0 or 1."""
    b, t, c = _grid(batch, frames, 35)
    x = 1.5 * np.sin(0.09 * (t + 1) * (1 + 0.07 * c) + 0.21 * c + 0.5 * b + phi)
    x[..., 33] = ((t + 2 * b) % 7 == 0)[..., 0]
    x[..., 34] = ((t + b) % 15 == 0)[..., 0]
    return x.astype(np.float32)


def draw(batch: int, frames: int, phi: float = 0.0, s: int = 0) -> np.ndarray:
    """(b, t, 151) float32 noise-like input, number s of a series."""
    b, t, c = _grid(batch, frames, 151)
    angle = 1.7 * (t + 1) + 0.61 * (c + 1) * (1 + 0.01 * t) + 2.3 * b + 0.77 * s + phi
    return (math.sqrt(2) * np.sin(angle)).astype(np.float32)


def _grid(batch: int, frames: int, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.arange(batch)[:, None, None], np.arange(frames)[None, :, None], np.arange(channels)[None, None, :]
