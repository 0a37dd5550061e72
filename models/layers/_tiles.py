"""Between torch tensors and compiled CPU kernels: flat views without copies, and work spread over threads.

Threads are Python threads, because the kernels release the GIL; their number follows `torch.get_num_threads()`.
Work is cut into tiles whose results do not depend on which thread runs them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

FlatView = tuple[np.ndarray, int, int]


def rows(x: Tensor) -> Tensor:
    """(b, l, c) without gradient and with dense channels; copied only where it must be."""
    x = x.detach()
    return x if x.stride(2) == 1 else x.contiguous()


def flat_view(x: Tensor) -> FlatView:
    """(b, l, c) as flat memory with the strides of a row and of a frame; channels become dense."""
    x = rows(x)
    extent = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) + 1
    return x.as_strided((extent,), (1,)).numpy(), x.stride(0), x.stride(1)


def vector(x: Tensor | None, size: int) -> np.ndarray:
    """Array of a tensor, or zeros."""
    values: np.ndarray = (torch.zeros(size) if x is None else x.detach().contiguous()).numpy()
    return values


def check_fused(given: tuple[Tensor, ...]) -> None:
    """Refuse what the kernels cannot take.

    Raises:
        ValueError: A tensor is not float32 or not on the CPU.
    """
    if any(x.dtype != torch.float32 or x.device.type != "cpu" for x in given):
        raise ValueError("the fused backend takes float32 tensors on the CPU; use backend='torch'")


def run_tiles(work: Callable[[int, int], object], tiles: int) -> None:
    """Call `work(first, last)` over all tiles, on several threads when there is more than one of both."""
    threads = min(torch.get_num_threads(), tiles)
    if threads <= 1:
        work(0, tiles)
        return
    parts = min(tiles, 4 * threads)
    edges = [tiles * k // parts for k in range(parts + 1)]
    jobs = [_pool(threads).submit(work, first, last) for first, last in pairwise(edges)]
    for job in jobs:
        job.result()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="macebench-tiles")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
