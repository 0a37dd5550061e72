"""What the appearance networks share: how their tensors are loaded and how frames are batched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macebench.errors import UserError
from macebench.models.appearance._settings import Settings, settings
from macebench.models.appearance._tensorfile import TensorFile, read_tensors
from macebench.weights import WeightsFile, path_of

__all__ = ["Batches", "Settings", "fit", "load", "placed", "run_frames", "settings", "torch_dtype"]


def torch_dtype(chosen: Settings) -> torch.dtype:
    """The settings' type as torch knows it."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[chosen.dtype]


def load(row: WeightsFile) -> TensorFile:
    """The tensors of a weights file whose SHA-256 has been checked.

    Raises:
        WeightsMissingError: it is not on this machine.
        WeightsCorruptError: it has another SHA-256.
        UserError: it cannot be read.
    """
    return read_tensors(path_of(row.name))


def fit(tensors: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]], what: str) -> None:
    """Check that there are exactly the tensors that a network needs.

    Raises:
        UserError: one is missing, too many or of another shape; the first is named.
    """
    missing, extra = sorted(set(shapes) - set(tensors)), sorted(set(tensors) - set(shapes))
    if missing or extra:
        name, how = (missing[0], "is missing") if missing else (extra[0], "is not part of the network")
        more = len(missing) + len(extra) - 1
        raise UserError(f"the weights do not fit {what}: {name} {how}" + (f" ({more} more)." if more else "."))
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != tuple(shape):
            raise UserError(
                f"the weights do not fit {what}: {name} is {tuple(tensors[name].shape)}, expected {tuple(shape)}."
            )


def placed(tensors: Mapping[str, Tensor], device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors where and as they are computed with.

    On a CPU matrices stay in the mapped file in the type they have there: `_transformer.linear` converts them at use.
    """
    kept = (torch.float32, torch.float16) if device == "cpu" else ()
    return {
        name: tensor if tensor.ndim == 2 and tensor.dtype in kept else tensor.to(device, dtype)
        for name, tensor in tensors.items()
    }


def run_frames(network: Callable[[Tensor], Tensor], frames: NDArray[np.uint8], device: str) -> NDArray[np.float32]:
    """(B, ...) float32 results of a network for (B, H, W, 3) frames; they become floats on the device."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        pictures = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2)
        return np.asarray(network(pictures).float().cpu().numpy())


def digest(frame: NDArray[np.uint8]) -> bytes:
    """SHA-256 of a frame's bytes; frames of one clip have one shape. Half a millisecond at 512x512."""
    return hashlib.sha256(np.ascontiguousarray(frame).data).digest()


class _Rows:
    """Rows that come in batches, in one array that doubles: thousands of small ones would hold the heap together."""

    def __init__(self) -> None:
        self._all: NDArray[Any] = np.zeros(0)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: NDArray[Any]) -> None:
        """Copy the next rows."""
        end = self._count + len(rows)
        if end > len(self._all):
            larger = np.empty((max(2 * len(self._all), end, 256), *rows.shape[1:]), rows.dtype)
            if self._count:
                larger[: self._count] = self.rows
            self._all = larger
        self._all[self._count : end] = rows
        self._count = end

    @property
    def rows(self) -> NDArray[Any]:
        """All rows."""
        return self._all[: self._count]


class Batches:
    """Runs a network over frames as they come, in batches; a frame equal to any before it is not run again.

    Memory: at most `batch` frames wait, whatever the length of the clip; of the others only the hash is kept.

    Args:
        network: (B, H, W, 3) uint8 frames to (B, ...) results.
        batch: Frames at once, at most.
    """

    def __init__(self, network: Callable[[NDArray[np.uint8]], NDArray[Any]], batch: int) -> None:
        self._network, self.batch = network, batch
        self._waiting: list[NDArray[np.uint8]] = []
        self._shape: tuple[int, ...] = ()
        self._known: dict[bytes, int] = {}
        self._results = _Rows()
        self._index: list[int] = []
        self.different = 0

    def add(self, frames: NDArray[np.uint8]) -> None:
        """Take the next frames.

        Raises:
            ValueError: not (B, H, W, 3) uint8, empty, or of another size than before.
        """
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not all(frames.shape[1:]):
            raise ValueError(f"frames {frames.shape} {frames.dtype}, expected (B, H, W, 3) uint8")
        for frame in frames:
            self._shape = self._shape or frame.shape
            if frame.shape != self._shape:
                raise ValueError(f"a frame of {frame.shape} after one of {self._shape}")
            index = self._known.setdefault(digest(frame), self.different)
            if index == self.different:
                self._waiting.append(frame.copy())  # the caller may use the batch's memory again
                self.different += 1
            self._index.append(index)
            if len(self._waiting) >= self.batch:
                self._run()

    def _run(self) -> None:
        while self._waiting:
            frames = np.stack(self._waiting[: self.batch])
            try:
                result = self._network(frames)
            except torch.cuda.OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch //= 2
                torch.cuda.empty_cache()
                continue
            self._results.append(result)
            del self._waiting[: len(frames)]

    def finish(self) -> NDArray[Any]:
        """(T, ...) results of all frames; (0,) without frames."""
        self._run()
        if not self._results:
            return np.zeros(0)
        return np.asarray(self._results.rows[self._index])
