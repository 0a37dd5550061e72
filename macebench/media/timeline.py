"""From timestamps to a fixed rate, on purpose and never by accident.

Point k of the grid lies at k / fps seconds, from 0 up to the last timestamp (or `duration_s`). Nothing is
made up: a point outside the timestamps, or beside a missing value, is missing (NaN).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
_SAME_S = 1e-9


def resample_track(
    times_s: ArrayLike,
    values: ArrayLike,
    fps: float,
    *,
    method: Literal["linear", "nearest"] = "linear",
    duration_s: float | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Values of a sequence at k / fps seconds.

    Args:
        times_s: (T,) seconds, strictly increasing.
        values: (T, ...) numbers; NaN where missing. Each element is treated on its own.
        fps: Points a second of the grid.
        method: ``linear`` between two finite neighbours only (a point that meets a timestamp within a nanosecond
            takes its value whatever the neighbours are); ``nearest`` takes the nearest timestamp's value,
            the earlier one of two, at most 1 / fps away outside the timestamps.
        duration_s: End of the grid (included) instead of the last timestamp.

    Returns:
        (G,) grid times in seconds and (G, ...) float64 values.

    Raises:
        ValueError: shapes, order or `fps` do not fit.
    """
    times, data = np.asarray(times_s, np.float64), np.asarray(values, np.float64)
    if times.ndim != 1 or len(times) == 0 or data.shape[:1] != times.shape:
        raise ValueError(f"times_s {times.shape} and values {data.shape} do not fit")
    if not np.isfinite(times).all() or np.any(np.diff(times) <= 0):
        raise ValueError("times_s must be finite and increase strictly")
    if not (fps > 0 and math.isfinite(fps)) or method not in ("linear", "nearest"):
        raise ValueError(f"fps {fps} must be above 0 and method {method!r} linear or nearest")
    end = float(times[-1]) if duration_s is None else duration_s
    grid = np.arange(max(0, math.floor((end + _SAME_S) * fps) + 1)) / fps
    return grid, (_linear if method == "linear" else _nearest)(times, data, grid, 1 / fps)


def _neighbours(times: FloatArray, grid: FloatArray) -> tuple[Any, Any]:
    """Indices of the timestamps before (or at) and after each point, clipped to the ends."""
    after = np.clip(np.searchsorted(times, grid, side="right"), 1, max(len(times) - 1, 1))
    return after - 1, np.minimum(after, len(times) - 1)


def _spread(weights: Any, like: FloatArray) -> Any:
    """Weights (G,) in the shape (G, 1, ...) of values with as many axes as `like`."""
    return weights.reshape(-1, *(1,) * (like.ndim - 1))


def _linear(times: FloatArray, data: FloatArray, grid: FloatArray, step: float) -> FloatArray:
    before, after = _neighbours(times, grid)
    span = np.where(after > before, times[after] - times[before], 1.0)
    weight = _spread((grid - times[before]) / span, data)
    with np.errstate(invalid="ignore"):
        result = data[before] + weight * (data[after] - data[before])
    outside = (grid < times[0]) | (grid > times[-1])
    result[outside] = np.nan
    for index in (before, after):
        hit = np.abs(grid - times[index]) <= _SAME_S
        result[hit] = data[index][hit]
    return np.asarray(result, np.float64)


def _nearest(times: FloatArray, data: FloatArray, grid: FloatArray, step: float) -> FloatArray:
    before, after = _neighbours(times, grid)
    index = np.where(grid - times[before] <= times[after] - grid + _SAME_S, before, after)
    index = np.where(grid < times[0], 0, index)
    result = data[index]
    far = np.maximum(times[0] - grid, grid - times[-1]) > step + _SAME_S
    result[far] = np.nan
    return result
