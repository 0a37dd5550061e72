"""All-pairs correlation of two feature maps, in both directions, in bounded memory.

The full volume has (h w)^2 numbers a direction: 64 MiB for a 512x512 picture, 4 GiB for 1080p. It is kept while it
fits `KEEP_BYTES`; above that it is made anew, a strip of query pixels at a time, at every lookup. Both ways give the
same numbers: a lookup of one query pixel depends on its own slice of the volume only.

Source: RAFT (Teed and Deng, ECCV 2020), section 3.2; both directions after AMT (Li et al., CVPR 2023), section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from macebench.models.appearance._amt_layers import sample

KEEP_BYTES = 2**29
RADIUS = 3
LEVELS = 4
CHANNELS = LEVELS * (2 * RADIUS + 1) ** 2
"""Correlations found per pixel and direction."""


class Matches:
    """Correlations of every pixel of `queries` with windows of `targets`.

    Args:
        queries: (B, C, h, w) features.
        targets: Features of the same shape.
        keep_bytes: Most memory for the volume and its coarser levels.

    Raises:
        ValueError: a side is so small that the coarsest level has a single pixel, where positions are undefined.
    """

    def __init__(self, queries: Tensor, targets: Tensor, keep_bytes: int = KEEP_BYTES) -> None:
        batch, channels, self.height, self.width = queries.shape
        if min(self.height, self.width) < 2**LEVELS:
            raise ValueError(f"features of {self.height}x{self.width}, need {2**LEVELS} a side")
        self._queries = queries.flatten(2).transpose(1, 2) / math.sqrt(channels)
        self._targets = [targets]
        for _ in range(LEVELS - 1):  # the mean of correlations is the correlation with the mean
            self._targets.append(functional.avg_pool2d(self._targets[-1], 2))
        per_query = batch * self.height * self.width * queries.element_size() * 4 / 3
        self._strip = max(1, int(keep_bytes // per_query))
        self._kept = [self._volume(0, self._count)] if self._strip >= self._count else None

    @property
    def _count(self) -> int:
        return self.height * self.width

    def _volume(self, first: int, last: int) -> list[Tensor]:
        """Correlation levels, each (B * queries, 1, h', w'), of the query pixels first to last - 1."""
        queries = self._queries[:, first:last]
        return [(queries @ level.flatten(2)).reshape(-1, 1, *level.shape[-2:]) for level in self._targets]

    def _strips(self) -> Iterator[tuple[int, int, list[Tensor]]]:
        if self._kept is not None:
            yield 0, self._count, self._kept[0]
            return
        for first in range(0, self._count, self._strip):
            last = min(first + self._strip, self._count)
            yield first, last, self._volume(first, last)

    def at(self, points: Tensor) -> Tensor:
        """(B, CHANNELS, h, w) correlations around the (B, 2, h, w) positions, zero beyond the border."""
        batch = len(points)
        flat = points.flatten(2).transpose(1, 2)
        parts = [_windows(levels, flat[:, first:last], batch) for first, last, levels in self._strips()]
        found = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return found.transpose(1, 2).reshape(batch, CHANNELS, self.height, self.width)


def _windows(levels: list[Tensor], points: Tensor, batch: int) -> Tensor:
    """(B, queries, CHANNELS) of (B, queries, 2) positions; a window runs down its columns, left to right."""
    steps = torch.arange(-RADIUS, RADIUS + 1, dtype=points.dtype, device=points.device)
    window = torch.cartesian_prod(steps, steps).reshape(1, len(steps), len(steps), 2)
    centres = points.reshape(-1, 1, 1, 2)
    found = [sample(values, centres / 2**level + window, "zeros") for level, values in enumerate(levels)]
    return torch.cat([values.reshape(batch, points.shape[1], -1) for values in found], dim=2)
