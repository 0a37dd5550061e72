"""Do the feet slide in the picture? From a 2-D pose track, without knowing the camera (ours).

A foot is *planted* in a time step when

- it is low: its ankle is at most `NEAR_GROUND` body heights above the ground line, which is the lowest place (largest
  y) of either ankle within `WINDOW_S` seconds around the step; and
- it neither falls nor rises: its vertical speed, over `STEP_S` seconds, is at most `STILL_V` body heights a second.

``video_foot_slide`` is the mean speed in the picture of planted feet over `STEP_S`, in body heights a second.
``video_foot_contact`` is the share of steps in which at least one foot is planted, so that a value that rests on few
steps is seen.

The body height is 3.4 torso lengths (median distance of mid-shoulder and mid-hip), because heads and feet leave the
picture and arms rise above it; a dancer near the camera and one far away have the same value.

Known defects: a moving or zooming camera is sliding; the tremble of the pose estimator is speed (compare with the
ground truth's value from the same estimator); a turn on the spot moves the ankle. Ankles are used although some
skeletons know heels and toes: every back end finds ankles, so values of back ends can be compared. Two-sided: real
dancers slide and turn on purpose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.errors import Unscorable
from macebench.metrics.activity import torso_length
from macebench.metrics.tracks import TOO_SHORT, prepare_track
from macebench.protocol import Protocol
from macebench.registry import Column, metric
from macebench.skeleton import COCO17, COCO25
from macebench.types import Evidence, FloatArray

TORSOS = 3.4
NEAR_GROUND = 0.06
STILL_V = 0.25
STEP_S = 2.0 / 15.0
WINDOW_S = 1.0
NO_CONTACT = "no planted foot"
NO_ANKLE = "the ankles are never visible"

_COLUMNS = (
    Column("video_foot_slide", "heights/s", "reference", "Speed in the picture of feet that stand"),
    Column("video_foot_contact", "1", "reference", "Share of the time in which at least one foot stands"),
)


@dataclass(frozen=True)
class FootSlide:
    """How feet move while they stand.

    Attributes:
        slide: Mean speed of planted feet in body heights a second.
        contact: Share of known time steps with at least one planted foot, in [0, 1].
        n_planted: Steps of either foot that `slide` is the mean of.
    """

    slide: float
    contact: float
    n_planted: int


def foot_slide(keypoints: FloatArray, *, fps: float) -> FootSlide:
    """How feet move in the picture while they stand; see the module's docstring.

    Args:
        keypoints: (T, 17 or 25, 2) pixels at equal time steps, x right and y down, NaN where missing.
        fps: Time steps a second.

    Raises:
        Unscorable: shorter than `STEP_S`, no torso or ankle is ever seen, or no foot ever stands.
        ValueError: wrong shape or rate.
    """
    points = np.asarray(keypoints, dtype=np.float64)
    if points.ndim != 3 or points.shape[1:] not in ((len(COCO17), 2), (len(COCO25), 2)) or not fps > 0:
        raise ValueError(f"keypoints {points.shape} at {fps} frames a second, expected (T, 17 or 25, 2) above 0")
    names = COCO17 if points.shape[1] == len(COCO17) else COCO25
    lag = max(1, round(STEP_S * fps))
    if len(points) <= lag:
        raise Unscorable(TOO_SHORT)
    height = TORSOS * torso_length(points)
    ankles = points[:, [names.index("lankle"), names.index("rankle")]] / height
    if not np.isfinite(ankles).all(axis=2).any():
        raise Unscorable(NO_ANKLE)
    speed = (ankles[lag:] - ankles[:-lag]) * (fps / lag)
    low = _low(ankles[..., 1], max(1, round(WINDOW_S * fps / 2)))
    known = np.asarray(np.isfinite(speed).all(axis=2))
    steady = np.asarray(np.abs(np.nan_to_num(speed[..., 1], nan=np.inf)) <= STILL_V)
    planted = np.logical_and.reduce([known, low[:-lag], low[lag:], steady])
    if not planted.any():
        raise Unscorable(NO_CONTACT)
    slide = float(np.linalg.norm(speed[planted], axis=1).mean())
    return FootSlide(slide, float(planted.any(axis=1)[known.any(axis=1)].mean()), int(planted.sum()))


def _low(y: FloatArray, reach: int) -> NDArray[np.bool_]:
    """(T, 2) whether each ankle (y down, body heights) is near the lowest place of either within `reach` steps."""
    from scipy.ndimage import maximum_filter1d

    lowest = np.max(np.where(np.isfinite(y), y, -np.inf), axis=1)
    ground = maximum_filter1d(lowest, 2 * reach + 1, mode="nearest")
    return np.asarray(np.nan_to_num(y, nan=-np.inf) >= ground[:, None] - NEAR_GROUND)


@metric("video_foot_slide", columns=_COLUMNS, needs=("pose",))
def video_foot_slide(evidence: Evidence, protocol: Protocol) -> dict[str, float | str]:
    """Speed of planted feet in the picture, in body heights a second, and how often a foot is planted."""
    track = prepare_track(evidence.need_pose(), protocol)
    seen = np.where(track.confidence[..., None] > 0, track.keypoints, np.nan)
    try:
        found = foot_slide(seen, fps=track.fps)
    except Unscorable as unscorable:
        if unscorable.reason != NO_CONTACT:
            raise
        return {"video_foot_slide": math.nan, "video_foot_contact": 0.0, "note": NO_CONTACT}
    return {"video_foot_slide": found.slide, "video_foot_contact": found.contact}
