"""2-D features that mean what they say: COCO-17 under its own names, x right, y up, torso lengths, seconds.

A missing keypoint (NaN, or confidence 0) takes no part. Every feature is a mean over the time steps at which all
of its joints are known, so nothing is invented in a long hole; a feature that is never known is NaN.

Kinetic, 51-d: for each joint ``[E_h, E_v, A]``, the mean squared horizontal and vertical velocity
(torso lengths a second, squared) and the mean size of the acceleration (torso lengths a second squared).
Velocities are backward differences averaged over a centred window of about 1/6 s (5 frames at 30 a second, 3 at
15); accelerations are differences of the raw velocities averaged over the same window. At the ends the window
holds the terms that exist. This is the scheme of google/aistplusplus_api (`features/kinetic.py`) with the
misplaced bracket of its acceleration repaired, the true frame time, and a window in seconds. The root's path is
part of the motion.

Geometric, 32-d: the relations of `macebench.metrics._relations` in the picture plane. Lengths are
the rest-pose lengths of SMPL over its torso length. Velocities are true speeds (the source multiplies by 120 Hz).

- ``move``: as in space, with vectors of the picture.
- ``nmove(a, b, c, d)``: the direction is the part of a to b that is perpendicular to a to c.
- ``plane(a, b, c, p)``: signed distance of p to the line a, b; positive on the side away from c.
- ``nplane``, ``angle``, ``fast``: as in space. ``y_min`` is the lowest keypoint of the frame.
- COCO-17 has no toes: the ankle stands for them (it only tells the sides of a line apart).
- Where a direction has length zero the answer is no.

Neither family changes when the picture is translated, scaled or mirrored.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from macebench.metrics import _relations as relations
from macebench.metrics._relations import RELATIONS, Relation
from macebench.skeleton import COCO17
from macebench.types import Array, FloatArray

WINDOW_S = 1.0 / 6.0
_INDEX = {name: index for index, name in enumerate(COCO17)}


def torso_length(keypoints: FloatArray) -> float:
    """Median distance of mid-shoulder and mid-hip over the frames that have all four; NaN without any.

    Args:
        keypoints: (T, 17, 2), NaN where missing.
    """
    shoulders = keypoints[:, [_INDEX["lshoulder"], _INDEX["rshoulder"]]].mean(axis=1)
    hips = keypoints[:, [_INDEX["lhip"], _INDEX["rhip"]]].mean(axis=1)
    lengths = np.linalg.norm(shoulders - hips, axis=1)
    known = lengths[np.isfinite(lengths)]
    return float(np.median(known)) if len(known) else float("nan")


def to_torso_units(keypoints: FloatArray) -> FloatArray:
    """Picture coordinates (y down) to torso lengths with y up; all NaN when there is no torso."""
    scale = torso_length(keypoints)
    if not scale > 0:
        return np.full_like(keypoints, np.nan)
    return keypoints * np.array([1.0, -1.0]) / scale


def kinetic(keypoints: FloatArray, fps: float) -> FloatArray:
    """(51,) kinetic features of (T, 17, 2) pixels, NaN where missing."""
    positions = to_torso_units(keypoints)
    half = max(1, round((WINDOW_S * fps - 1) / 2))
    velocity = np.diff(positions, axis=0) * fps
    acceleration = np.diff(velocity, axis=0) * fps
    steps = len(velocity)
    energy = _mean(_window_mean(velocity, np.arange(steps), half) ** 2)
    effort = _mean(np.linalg.norm(_window_mean(acceleration, np.arange(steps), half), axis=-1))
    return np.concatenate([energy, effort[:, None]], axis=1).ravel()


def _window_mean(values: FloatArray, centres: Array, half: int) -> FloatArray:
    """Mean of the known terms at most `half` away from each centre; NaN where there is none.

    Sums are differences of running sums of the values less their mean, which loses nothing that matters.
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    first = np.clip(centres - half, 0, len(values))
    last = np.clip(centres + half + 1, 0, len(values))
    total, count = _running(filled), _running(known.astype(np.float64))
    sums, counts = total[last] - total[first], count[last] - count[first]
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)


def _running(values: FloatArray) -> FloatArray:
    zero = np.zeros((1, *values.shape[1:]))
    return np.concatenate([zero, np.cumsum(values, axis=0)])


def _mean(values: FloatArray) -> FloatArray:
    """Mean over the first axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    return np.where(counts > 0, np.where(known, values, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)
