"""Frame statistics of the appearance networks: ``clip_l14``, ``clip_b32``, ``dino_b16`` and ``musiq``.

Each takes the uint8 frames of a clip as they are decoded and gives one row a frame:

| name | result | network |
|---|---|---|
| ``clip_l14`` | (T, 768), length 1 | CLIP ViT-L/14 (aesthetic quality) |
| ``clip_b32`` | (T, 512), length 1 | CLIP ViT-B/32 (background consistency) |
| ``dino_b16`` | (T, 768), length 1 | DINO ViT-B/16 (subject consistency) |
| ``musiq`` | (T,), 0 to 100 | MUSIQ SPAQ (imaging quality) |

Frames go through in batches (`macebench.models.appearance._common.Batches`); a frame that equals the one before it
takes its result. Memory does not grow with the clip but for the result itself. A network is loaded once in a process,
when the first frame arrives. Nothing here imports torch before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from macebench.errors import WeightsMissingError
from macebench.registry import frame_statistic
from macebench.types import FloatArray
from macebench.weights import find, loading, sha256_of

if TYPE_CHECKING:
    from macebench.models.appearance._common import Batches, Settings

FILES: dict[str, tuple[str, ...]] = {
    "clip_l14": ("clip-vit-l14", "clip-vit-l14-hub"),
    "clip_b32": ("clip-vit-b32", "clip-vit-b32-hub"),
    "dino_b16": ("dino-vitb16", "dino-vitb16-hub"),
    "musiq": ("musiq-spaq",),
}
"""Statistic to the weights files that it can use, the preferred one first."""

_fitting: dict[tuple[str, int], int] = {}
"""Batch that fitted into memory in this process, by statistic and the batch that was asked for."""


@cache
def network(name: str, row: str, settings: Settings) -> Any:
    """The network of a statistic, loaded from the weights file `row`.

    Raises:
        WeightsMissingError, WeightsCorruptError, UserError: see `macebench.models.appearance._common.load`.
    """
    with loading(row):
        if name == "musiq":
            from macebench.models.appearance.musiq import Musiq

            return Musiq.from_weights(find(row), settings)
        if name == "dino_b16":
            from macebench.models.appearance.dino import Dino

            return Dino.from_weights(find(row), settings)
        from macebench.models.appearance.clip import Clip

        return Clip.from_weights(name, find(row), settings)


class NetworkStatistic:
    """One row a frame from a network; the sub-classes name it."""

    name: ClassVar[str]
    version = 1

    def __init__(self) -> None:
        self._batches: Batches | None = None
        self._key = self.name, 0

    @classmethod
    def weights(cls) -> str:
        """The weights file that is used: the first of those possible that is on this machine, else the preferred."""
        files = FILES[cls.name]
        return next((name for name in files if find(name).path.is_file()), files[0])

    @classmethod
    def missing_weights(cls) -> list[str]:
        """The weights file to pull, or nothing when there is one."""
        name = cls.weights()
        return [] if find(name).path.is_file() else [name]

    @classmethod
    def ingredients(cls) -> Mapping[str, Any]:
        """What a stored result depends on beside the frames and the code.

        Raises:
            WeightsMissingError: the file's hash is not known and the file is not there.
        """
        from macebench.models.appearance._settings import dtype_name

        return {"weights_sha256": sha256_of(cls.weights()), "dtype": dtype_name()}

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) frames; their timestamps play no part.

        Raises:
            ValueError: see `Batches.add`.
            WeightsMissingError: with the command that gets the weights.
        """
        if self._batches is None:
            self._batches = self._started()
        self._batches.add(frames)

    def _started(self) -> Batches:
        from macebench.models.appearance._common import Batches, run_frames, settings

        row = find(self.weights())
        if not row.path.is_file():
            raise WeightsMissingError(f"weights file {row.name} is not on this machine ({row.path}).", hint=row.hint)
        chosen = settings()
        net = network(self.name, row.name, chosen)
        self._key = self.name, chosen.batch
        return Batches(lambda frames: run_frames(net, frames, chosen.device), _fitting.get(self._key, chosen.batch))

    def result(self) -> FloatArray:
        """One row for each frame; (0,) without frames."""
        if self._batches is None:
            return np.zeros(0)
        found = self._batches.finish().astype(np.float64)
        _fitting[self._key] = self._batches.batch
        return found


@frame_statistic("clip_l14")
class ClipL14(NetworkStatistic):
    """(T, 768) vectors of length 1 of CLIP ViT-L/14."""

    name = "clip_l14"


@frame_statistic("clip_b32")
class ClipB32(NetworkStatistic):
    """(T, 512) vectors of length 1 of CLIP ViT-B/32."""

    name = "clip_b32"


@frame_statistic("dino_b16")
class DinoB16(NetworkStatistic):
    """(T, 768) vectors of length 1 of DINO ViT-B/16."""

    name = "dino_b16"


@frame_statistic("musiq")
class MusiqSpaq(NetworkStatistic):
    """(T,) scores of MUSIQ, 0 to 100."""

    name = "musiq"
