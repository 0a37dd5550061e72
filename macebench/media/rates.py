"""Frame rates that are in use, and the constant rate that fits uneven timestamps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from macebench.types import Array

USUAL_RATES = (
    10.0, 12.0, 12.5, 15.0, 20.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 48.0, 50.0, 60000 / 1001, 60.0, 100.0,
    120.0,
)  # fmt: skip
"""Frames a second, ascending."""
_ON_GRID_S = 0.002
_SLOWER = 0.99


def usual_rate(rate: float, near: float) -> float:
    """The nearest usual rate when it is less than the share `near` away, else the rate itself."""
    nearest = min(USUAL_RATES, key=lambda usual: abs(math.log(usual / rate)))
    return nearest if abs(nearest / rate - 1.0) < near else rate


def steady_rate(times_s: Any) -> float | None:
    """The constant rate to which pictures at uneven times are best brought.

    Pictures that were left out of a constant rate lie on its grid: the lowest usual rate on whose grid, begun at the
    first picture, every picture lies within 2 ms (and not two on one place). Without such a rate, one over the median
    distance, so that the pictures of the fast parts are kept.

    Args:
        times_s: (T,) seconds, ascending.

    Returns:
        Frames a second; None for fewer than three pictures, or when half of them have no distance.
    """
    times: Array = np.asarray(times_s, np.float64)
    if len(times) < 3 or not np.median(np.diff(times)) > 0:
        return None
    median = 1.0 / float(np.median(np.diff(times)))
    since = times - times[0]
    for rate in USUAL_RATES:
        places = np.round(since * rate)
        if (
            rate >= _SLOWER * median
            and np.diff(places).min() >= 1
            and np.abs(places / rate - since).max() <= _ON_GRID_S
        ):
            return rate
    return median
