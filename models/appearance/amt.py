"""Motion smoothness of VBench: how well AMT-S guesses every other frame from its two neighbours.

Frames 2k and 2k + 2 are interpolated to a picture half way; its mean absolute difference from frame 2k + 1, over all
pixels and channels of uint8 pictures, is the error of that frame. VBench's score of a clip is
``(255 - mean error) / 255`` (Huang et al., "VBench", 2024; ``vbench/motion_smoothness.py`` of VBench 0.1.5), computed
by `macebench.metrics._interpolation.smoothness`.

As there: sides are padded to multiples of 16 by repeating the edge, half on either side; the interpolated picture is
cut, not rounded, to uint8. A last frame without a right neighbour is left out. Two differences, both on purpose:

- A clip with a padded side under 128 pixels is refused. The published network divides by zero there, and VBench
  scores what comes of turning NaN into uint8.
- The resolution never depends on how much memory a GPU has free.

The network (`macebench.models.appearance._amt_network`) is our own, after the paper. Its weights may not be used
commercially (CC BY-NC) and are never part of this package. It runs in float32 whatever ``MACEBENCH_DTYPE`` says:
positions in pixels need it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from macebench import weights
from macebench.registry import frame_statistic
from macebench.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

STATISTIC = "amt_s"
WEIGHTS = "amt-s"
SMALLEST_FRAME = 113
"""Smallest side that is at least 128 after padding to a multiple of 16."""

_CUDA_KEEP_BYTES = 2**33
_CUDA_PIXELS = 2**23

Frame = NDArray[np.uint8]


class Network(Protocol):
    """Interpolates pairs of pictures."""

    def pairs_at_once(self, height: int, width: int) -> int:
        """How many pairs of this size may be given together."""
        ...

    def __call__(self, first: Frame, last: Frame) -> Frame:
        """(B, H, W, 3) uint8 pictures half way between `first` and `last` of the same shape."""
        ...


class _Hashed(NamedTuple):
    frame: Frame
    digest: bytes


class _Triplet(NamedTuple):
    first: _Hashed
    middle: _Hashed
    last: _Hashed

    @property
    def digest(self) -> bytes:
        return b"".join(part.digest for part in self)


@frame_statistic(STATISTIC)
class AmtS:
    """Mean absolute error of each interpolated frame, (N,) in 0 to 255, N = (T - 1) // 2.

    NaN throughout when the frames are too small for the network; empty under three frames.

    Args:
        network: What interpolates; None is AMT-S with the weights of this machine, loaded at the first pair.
    """

    version = 1

    def __init__(self, network: Network | None = None) -> None:
        self._network = network
        self._shape: tuple[int, ...] = ()
        self._first: _Hashed | None = None
        self._middle: _Hashed | None = None
        self._waiting: list[_Triplet] = []
        self._latest: _Triplet | None = None
        self._guess: Frame | None = None
        self._errors: list[float] = []
        self._known: dict[bytes, int] = {}
        self._index: list[int] = []

    @classmethod
    def missing_weights(cls) -> list[str]:
        """Names of weights files that are not on this machine."""
        return [name for name in (WEIGHTS,) if not weights.find(name).path.is_file()]

    @classmethod
    def ingredients(cls) -> Mapping[str, Any]:
        """What else the result depends on."""
        return {"weights_sha256": weights.sha256_of(WEIGHTS), "dtype": "float32"}

    def update(self, frames: Frame, times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) uint8 frames; their timestamps play no part.

        Raises:
            ValueError: not uint8, not three channels, or another size than before.
            WeightsMissingError: the weights are not on this machine.
        """
        if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[3] != 3:
            raise ValueError(f"frames {frames.shape} {frames.dtype}, expected (B, H, W, 3) uint8")
        for frame in frames:
            self._shape = self._shape or frame.shape
            if self._shape != frame.shape:
                raise ValueError(f"frames of different size: {self._shape} and {frame.shape}")
            self._take(frame.copy())  # the caller may use the batch's memory again

    def restart(self) -> None:
        """The next frame is no neighbour of those before it."""
        self._first = self._middle = None

    def _take(self, frame: Frame) -> None:
        taken = _Hashed(frame, _digest(frame))
        if self._first is None:
            self._first = taken
        elif self._middle is None:
            self._middle = taken
        else:
            self._take_triplet(_Triplet(self._first, self._middle, taken))
            self._first, self._middle = taken, None

    def _take_triplet(self, triplet: _Triplet) -> None:
        """Find the error of three frames; those that were seen before keep theirs."""
        known = triplet.digest in self._known
        self._index.append(self._known.setdefault(triplet.digest, len(self._known)))
        if known:
            return
        if min(triplet.first.frame.shape[:2]) < SMALLEST_FRAME:
            self._errors.append(np.nan)
            return
        if self._latest is not None and _same_ends(triplet, self._latest):
            self._run()
            if self._guess is not None:
                self._errors.append(_mean_difference(self._guess, triplet.middle.frame))
            return
        self._latest = triplet
        self._waiting.append(triplet)
        if self._network is None:
            self._network = published_network()
        if len(self._waiting) >= self._network.pairs_at_once(*triplet.first.frame.shape[:2]):
            self._run()

    def _run(self) -> None:
        if not self._waiting or self._network is None:
            return
        first, last = (np.stack([triplet[end].frame for triplet in self._waiting]) for end in (0, 2))
        guesses = self._network(first, last)
        self._errors += [
            _mean_difference(guess, triplet.middle.frame) for guess, triplet in zip(guesses, self._waiting, strict=True)
        ]
        self._guess = guesses[-1]
        self._waiting.clear()

    def result(self) -> FloatArray:
        """(N,) errors."""
        self._run()
        return np.array(self._errors, dtype=np.float64)[np.array(self._index, dtype=np.intp)]


def _digest(frame: Frame) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(frame).data).digest()


def _same_ends(triplet: _Triplet, other: _Triplet) -> bool:
    return (triplet.first.digest, triplet.last.digest) == (other.first.digest, other.last.digest)


def _mean_difference(first: Frame, second: Frame) -> float:
    import cv2

    return float(cv2.norm(np.ascontiguousarray(first), np.ascontiguousarray(second), cv2.NORM_L1)) / first.size


class Interpolator:
    """AMT-S on a device.

    Args:
        tensors: Weights by published name.
        device: ``cpu`` or ``cuda``.
        batch: Most pairs at once on a GPU; on a CPU it is always one, which is as fast and takes least memory.

    Raises:
        UserError: the tensors are not those of AMT-S.
    """

    def __init__(self, tensors: Mapping[str, Tensor], device: str = "cpu", batch: int = 1) -> None:
        import torch

        from macebench.models.appearance import _amt_correlation, _amt_network, _common

        _common.fit(tensors, _amt_network.layout(), "AMT-S")
        self._weights = {
            name: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
            for name, tensor in _common.placed(tensors, device, torch.float32).items()
        }  # convolutions run channels last: a tenth faster on a CPU, other sums
        self._device, self._batch = device, batch
        self._keep = _CUDA_KEEP_BYTES if device == "cuda" else _amt_correlation.KEEP_BYTES

    def pairs_at_once(self, height: int, width: int) -> int:
        """How many pairs of this size are run together."""
        return max(1, min(self._batch, _CUDA_PIXELS // (height * width))) if self._device == "cuda" else 1

    def __call__(self, first: Frame, last: Frame) -> Frame:
        """(B, H, W, 3) uint8 pictures half way. Halves the batch for as long as a GPU's memory runs out."""
        import torch

        try:
            return self._run(first, last)
        except torch.cuda.OutOfMemoryError:
            if len(first) == 1:
                raise
        torch.cuda.empty_cache()
        half = self._batch = (len(first) + 1) // 2
        return np.concatenate([self(first[:half], last[:half]), self(first[half:], last[half:])])

    def _run(self, first: Frame, last: Frame) -> Frame:
        import torch

        from macebench.models.appearance._amt_network import interpolate_uint8

        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            ends = [torch.from_numpy(end).to(self._device) for end in (first, last)]
            return np.asarray(interpolate_uint8(self._weights, ends[0], ends[1], self._keep).cpu().numpy())


def published_network() -> Interpolator:
    """AMT-S with the weights of this machine, on the device of the environment (``MACEBENCH_DEVICE``).

    Raises:
        WeightsMissingError: they are not on this machine.
        WeightsCorruptError: the file has another SHA-256.
        UserError: the file cannot be read, or holds another network.
    """
    from macebench.models.appearance._settings import settings

    chosen = settings()
    weights.path_of(WEIGHTS)  # the file is there and unchanged
    return _loaded(weights.sha256_of(WEIGHTS), chosen.device, chosen.batch)


@cache
def _loaded(digest: str, device: str, batch: int) -> Interpolator:
    from macebench.models.appearance import _common

    return Interpolator(_common.load(weights.find(WEIGHTS)).tensors, device, batch)
