"""Statistics of the animation track that need networks; importing this loads no network and no torch.

`PairLpipsAlex` and `PairLpipsVgg` are pair statistics (`macebench.pairs`), `I3DClips` is a frame statistic. They say
which weights files they lack, so that what needs none is still scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.models.appearance import i3d
from macebench.models.appearance._settings import dtype_name, settings
from macebench.protocol import PixelRules
from macebench.registry import frame_statistic
from macebench.types import FloatArray
from macebench.weights import expected_sha256, find

Frames = NDArray[np.uint8]


def _lacking(rows: tuple[str, ...]) -> list[str]:
    return [name for name in rows if not find(name).path.is_file()]


class _PairLpips:
    """LPIPS of paired frames, (T,)."""

    version = 1
    kind: str
    rows: tuple[str, ...]

    def __init__(self, rules: PixelRules) -> None:
        self._range = rules.lpips_input
        self._parts: list[FloatArray] = []

    @classmethod
    def missing_weights(cls) -> list[str]:
        """Rows of the weights table that are not on this machine."""
        return _lacking(cls.rows)

    @classmethod
    def ingredients(cls, rules: PixelRules) -> Mapping[str, Any]:
        """What the values depend on besides the frames."""
        weights = {name: expected_sha256(name) for name in cls.rows}
        return {"weights": weights, "dtype": dtype_name(), "input": rules.lpips_input}

    def update(self, generated: Frames, reference: Frames) -> None:
        """Take the next (B, H, W, 3) frames of both. Raises `Unscorable` when they are too small."""
        from macebench.models.appearance._common import torch_dtype
        from macebench.models.appearance.lpips import distances, load_lpips

        chosen = settings()
        network = load_lpips(self.kind, chosen.device, torch_dtype(chosen))
        self._parts.append(distances(network, generated, reference, input_range=self._range))

    def result(self) -> FloatArray:
        """(T,) distances, at least 0."""
        return np.concatenate(self._parts) if self._parts else np.empty(0)


@frame_statistic("pair_lpips_alex")
class PairLpipsAlex(_PairLpips):
    """LPIPS with AlexNet."""

    kind, rows = "alex", ("lpips-alexnet", "lpips-head-alex")


@frame_statistic("pair_lpips_vgg")
class PairLpipsVgg(_PairLpips):
    """LPIPS with VGG-16."""

    kind, rows = "vgg", ("lpips-vgg16", "lpips-head-vgg")


@frame_statistic("i3d_16")
class I3DClips(i3d.ClipFeatures):
    """I3D's features of clips of 16 consecutive frames, (K, 400)."""

    version = 1

    def __init__(self) -> None:
        super().__init__(i3d.TorchScriptI3D())

    @classmethod
    def missing_weights(cls) -> list[str]:
        """Rows of the weights table that are not on this machine."""
        return _lacking((i3d.WEIGHTS,))

    @classmethod
    def ingredients(cls) -> Mapping[str, Any]:
        """What the values depend on besides the frames."""
        return {"weights": {i3d.WEIGHTS: expected_sha256(i3d.WEIGHTS)}}
