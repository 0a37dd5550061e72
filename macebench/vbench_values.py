"""What VBench's own package says of one clip, as one array: a row for each dimension, its value and a reason's number.

The array is what the store keeps of a clip (a frame statistic called ``vbench@...``). A value is VBench's
``video_results`` of that clip: imaging quality is 0 to 100, the others about 0 to 1. Where it is NaN the second number
says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from macebench.types import FloatArray

DIMENSIONS = (
    "imaging_quality", "aesthetic_quality", "subject_consistency", "background_consistency", "motion_smoothness",
    "temporal_flickering",
)  # fmt: skip
"""In the order of the rows."""
SCORED, FAILED, CRASHED, TIMED_OUT, NO_MP4, NO_WEIGHTS, OTHER_FRAMES, SMALL = range(8)
REASONS = (
    "", "vbench failed, see vbench.log", "vbench crashed, see vbench.log", "vbench timed out", "vbench reads mp4 only",
    "vbench weights missing, see macebench doctor", "vbench saw other frames than the decoder",
    "smaller than 128 pixels",
)  # fmt: skip
"""By the number in the second column."""
LASTING = (SCORED, FAILED, NO_MP4, NO_WEIGHTS, OTHER_FRAMES, SMALL)
"""Numbers that another run would give again: only those are not tried again."""


def packed(values: Mapping[str, float], reasons: Mapping[str, int], default: int = FAILED) -> FloatArray:
    """(6, 2) array of values and reasons by dimension; what has neither gets the reason `default`."""
    rows = np.full((len(DIMENSIONS), 2), np.nan)
    for index, name in enumerate(DIMENSIONS):
        value = values.get(name, math.nan)
        good = math.isfinite(value) and not reasons.get(name)
        rows[index] = (value, SCORED) if good else (math.nan, reasons.get(name) or default)
    return rows


def unpacked(rows: FloatArray, dimension: str) -> tuple[float, str]:
    """Value of a dimension, NaN when there is none, and then the reason.

    Raises:
        ValueError: not an array of `packed`.
    """
    if rows.shape != (len(DIMENSIONS), 2):
        raise ValueError(f"values of vbench {rows.shape}, expected {(len(DIMENSIONS), 2)}")
    value, number = rows[DIMENSIONS.index(dimension)]
    return float(value), REASONS[int(number)]


def lasting(rows: FloatArray) -> bool:
    """Whether another run would give the same."""
    return bool(np.isin(rows[:, 1].astype(int), LASTING).all())
