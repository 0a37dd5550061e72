"""All-pairs correlation of two feature maps in bounded memory.

The full volume has (h w)^2 numbers a direction: 64 MiB for a 512x512 picture, 4 GiB for 1080p. It is kept while it
fits `KEEP_BYTES`. Above that it is made anew at every lookup, for a strip of query pixels at a time, and only the rows
of targets that the strip's windows reach. Both ways give the same numbers: nothing else is ever looked at.

Source: RAFT (Teed and Deng, ECCV 2020), section 3.2; both directions after AMT (Li et al., CVPR 2023), section 3.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from macebench.models.appearance._amt_layers import sample
from macebench.models.appearance._transformer import Linear, linear

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
        whole = self._strip >= self.height * self.width
        self._kept = [_volume(self._queries, level) for level in self._targets] if whole else None

    def at(self, points: Tensor) -> Tensor:
        """(B, CHANNELS, h, w) correlations around the (B, 2, h, w) positions, zero beyond the border."""
        flat = points.flatten(2).transpose(1, 2)
        if self._kept is not None:
            parts = [torch.cat([_windows(self._kept[i], flat / 2**i) for i in range(LEVELS)], dim=2)]
        else:
            starts = range(0, flat.shape[1], self._strip)
            parts = [self._strip_at(flat, slice(start, start + self._strip)) for start in starts]
        return torch.cat(parts, dim=1).transpose(1, 2).reshape(len(points), CHANNELS, self.height, self.width)

    def _strip_at(self, points: Tensor, strip: slice) -> Tensor:
        """(B, queries, CHANNELS) correlations of a strip of query pixels."""
        found = []
        for i, level in enumerate(self._targets):
            centres = points[:, strip] / 2**i
            top, bottom = _reach(centres[..., 1], level.shape[2])
            volume = _volume(self._queries[:, strip], level[:, :, top:bottom])
            found.append(_windows(volume, centres - centres.new_tensor([0, top])))
        return torch.cat(found, dim=2)


def _reach(y: Tensor, height: int) -> tuple[int, int]:
    """The rows, first and one past the last, that windows around `y` can touch; two at least."""
    top = min(max(math.floor(float(y.min())) - RADIUS, 0), height - 2)
    bottom = max(min(math.ceil(float(y.max())) + RADIUS + 1, height), top + 2)
    return top, bottom


def _volume(queries: Tensor, targets: Tensor) -> Tensor:
    """(B * queries, 1, h', w') dot products; of each element by the fast linear layer, which is a product, too."""
    products = [
        linear(rows, Linear(columns.t(), None)) for rows, columns in zip(queries, targets.flatten(2), strict=True)
    ]
    volume = torch.cat(products) if len(products) > 1 else products[0]
    return volume.reshape(-1, 1, *targets.shape[2:])


def _windows(volume: Tensor, centres: Tensor) -> Tensor:
    """(B, queries, window) around (B, queries, 2) positions; a window runs down its columns, left to right."""
    steps = torch.arange(-RADIUS, RADIUS + 1, dtype=centres.dtype, device=centres.device)
    window = torch.cartesian_prod(steps, steps).reshape(1, len(steps), len(steps), 2)
    return sample(volume, centres.reshape(-1, 1, 1, 2) + window, "zeros").reshape(*centres.shape[:2], -1)
