"""Features of short clips for the Fréchet video distance: I3D as StyleGAN-V published it, or any other extractor.

Source: Carreira and Zisserman, "Quo vadis, action recognition?", CVPR 2017 (network); Unterthiner et al., "FVD", 2019
(its use); Skorokhodov et al., "StyleGAN-V", CVPR 2022 (the file ``i3d_torchscript.pt``). The file is called with
``(B, 3, 16, H, W)`` pixels of 0 to 255 and ``rescale=True, resize=True, return_features=True``: it brings pixels to
-1 to 1 and pictures to 224 x 224 by itself and returns the 400 logits.

Trust: a TorchScript file is a program. It cannot run Python, but its operators can read and write files. So it is

- read only when its SHA-256 is the one in the weights table (checked by us and again by the child, on the very bytes
  that are loaded);
- run in a child process (`macebench.models.appearance.i3d_worker`) that sees no tokens, is limited in time and, on a
  CPU, in memory, and hands back one array of finite numbers whose shape is checked.

An extractor is ``(clips file, shape) -> (N, F)``; `ClipFeatures` cuts a video into clips and keeps at most one of
them in memory: whole clips wait in a temporary file until `CLIPS_BYTES` of them are there.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.models.appearance._settings import settings
from macebench.process import require_success, result_path, run_job
from macebench.types import FloatArray
from macebench.weights import path_of, sha256_of

WEIGHTS = "i3d-torchscript"
CLIP_FRAMES = 16
N_FEATURES = 400
CLIPS_BYTES = 512 * 2**20
CALL = {"rescale": True, "resize": True, "return_features": True}
_WORKER = Path(__file__).with_name("i3d_worker.py")
_MEMORY_MB = 16384
_START_S, _CLIP_S = 300.0, 60.0
_CLIPS_FILE, _FEATURES_FILE = "clips.u8", "features.npy"

Frames = NDArray[np.uint8]


class Extractor(Protocol):
    """Turns clips into feature vectors."""

    n_features: int

    def __call__(self, folder: Path, clips: Path, shape: tuple[int, ...]) -> FloatArray:
        """(N, F) features of the clips in a file.

        Args:
            folder: An empty folder for the extractor's own files.
            clips: Raw bytes of an (N, 16, H, W, 3) uint8 array.
            shape: Its shape.
        """
        ...


class TorchScriptI3D:
    """The published TorchScript file, in a child process; see the module's docstring.

    Args:
        path: Another TorchScript file, for tests and other networks; None is the one of the weights table.
        sha256: Its SHA-256; needed with `path`.
        n_features: Numbers a clip.
        batch: Clips that go through the network at once.
    """

    def __init__(
        self, path: Path | None = None, sha256: str = "", *, n_features: int = N_FEATURES, batch: int = 2
    ) -> None:
        self._path, self._sha256 = path, sha256
        self.n_features = n_features
        self._batch = batch

    def __call__(self, folder: Path, clips: Path, shape: tuple[int, ...]) -> FloatArray:
        """(N, F) features of the (N, 16, H, W, 3) uint8 clips in a file.

        Raises:
            WeightsMissingError: the file is not on this machine.
            WeightsCorruptError: it has another SHA-256.
            UserError: the child fails, or returns something else than N rows of finite numbers.
        """
        device = settings().device
        job: dict[str, Any] = {
            "weights": str(self._path or path_of(WEIGHTS)), "sha256": self._sha256 or sha256_of(WEIGHTS),
            "clips": str(clips), "shape": list(shape), "device": device, "batch": self._batch, "call": CALL,
        }  # fmt: skip
        limit = _MEMORY_MB if device == "cpu" else None
        result = run_job(
            Path(sys.executable), _WORKER, folder, job, timeout_s=_START_S + _CLIP_S * shape[0], memory_mb=limit
        )
        require_success(result, "I3D", hint="`macebench weights verify` checks the file; the GPU may lack memory.")
        values = np.load(result_path(folder, _FEATURES_FILE), allow_pickle=False)
        if values.shape != (shape[0], self.n_features) or not np.isfinite(values).all():
            raise UserError(f"I3D returned {values.shape} for {shape[0]} clips, expected {self.n_features} a clip.")
        return np.asarray(values, dtype=np.float64)


class ClipFeatures:
    """Features of a video's clips of 16 consecutive frames, without overlap, (K, F); a rest is left out.

    Args:
        extractor: What turns clips into vectors.
        clips_bytes: Bytes of clips that are handed over at once.
    """

    def __init__(self, extractor: Extractor, clips_bytes: int = CLIPS_BYTES) -> None:
        self._extractor, self._limit = extractor, clips_bytes
        self._waiting: list[Frames] = []
        self._shape: tuple[int, ...] = ()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._file: IO[bytes] | None = None
        self._count = 0
        self._parts: list[FloatArray] = []

    def update(self, frames: Frames, times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) uint8 frames; their timestamps play no part.

        Raises:
            ValueError: not uint8, not four-dimensional, or another size than before.
        """
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise ValueError(f"frames {frames.shape} {frames.dtype}, expected (B, H, W, 3) uint8")
        self._shape = self._shape or frames.shape[1:]
        if frames.shape[1:] != self._shape:
            raise ValueError(f"frames of {frames.shape[1:]} after frames of {self._shape}")
        for frame in frames:
            self._waiting.append(frame.copy())  # the caller may use the batch's memory again
            if len(self._waiting) == CLIP_FRAMES:
                self._keep(np.stack(self._waiting))
                self._waiting.clear()

    def _keep(self, clip: Frames) -> None:
        if self._file is None:
            self._folder = tempfile.TemporaryDirectory(prefix="macebench-clips-")
            self._file = (Path(self._folder.name) / _CLIPS_FILE).open("wb")
        self._file.write(clip.tobytes())
        self._count += 1
        if (self._count + 1) * clip.nbytes > self._limit:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._file is None or self._folder is None:
            return
        self._file.close()
        folder = Path(self._folder.name)
        os.mkdir(folder / "job")
        try:
            shape = (self._count, CLIP_FRAMES, *self._shape)
            self._parts.append(self._extractor(folder / "job", folder / _CLIPS_FILE, shape))
        finally:
            self._folder.cleanup()
            self._folder, self._file, self._count = None, None, 0

    def result(self) -> FloatArray:
        """(K, F) features; K is 0 for fewer than 16 frames."""
        self._hand_over()
        return np.concatenate(self._parts) if self._parts else np.empty((0, self._extractor.n_features))
