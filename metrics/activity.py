"""The activity gate: does the dancer move at all? Most scores of a video reward a dancer who does not.

The speed of a joint is taken relative to the body: from the step of each joint between two frames the mean step of
all joints is taken away, so that neither a moving camera nor a statue that slides counts as dancing. The steps, as
vectors, are then smoothed over time by a Gaussian of 0.1 s, which takes the tremble of a pose estimator away and
leaves what lasts a tenth of a second or more.

- ``frozen_share``: share of the time steps in which the mean over joints of that speed is below 0.07 m/s in space, or
  0.14 torso lengths a second in the picture (a torso is about half a metre).
- ``motion_energy``: mean over time and joints of the squared speed, (m/s)^2 or (torso lengths/s)^2.
- ``pose_visibility`` (2-D): share of all keypoints of all frames whose confidence reaches the protocol's.

Noise: a statue with independent noise of 1 cm a coordinate stays frozen at 15 to 60 frames a second (at 30 it
trembles at 0.68 m/s from frame to frame, and at 0.04 m/s, 0.06 at most, after smoothing); noise of 3 cm does not,
because a viewer sees it move. The smoothing halves the speed of a movement that repeats twice a second; half of the
time steps of real dances are still above 0.5 m/s. The first and the last 0.1 s are not counted when there is more:
there the smoothing has only one side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from macebench.errors import Unscorable
from macebench.metrics.beats import TOO_SHORT
from macebench.metrics.motion3d import usable_motion
from macebench.metrics.tracks import prepare_track
from macebench.protocol import Protocol
from macebench.registry import Column, metric
from macebench.skeleton import COCO17, COCO25
from macebench.types import Evidence, FloatArray

SMOOTHING_S = 0.1
STILL_M_S = 0.07
STILL_TORSOS_S = 0.14
NO_TORSO = "the torso is never visible"
_TORSO = ("lshoulder", "rshoulder", "lhip", "rhip")

COLUMNS_3D = (
    Column("frozen_share", better="reference", summary="Share of the time in which the dancer does not move"),
    Column("motion_energy", "(m/s)^2", "reference", "Mean squared speed of the joints relative to the body"),
)
COLUMNS_2D = (
    Column("frozen_share", better="reference", summary="Share of the time in which the dancer does not move"),
    Column("motion_energy", "(torso/s)^2", "reference", "Mean squared speed of the joints relative to the body"),
    Column("pose_visibility", better="higher", summary="Share of keypoints that are seen"),
)


@dataclass(frozen=True)
class Activity:
    """How much a dancer moves.

    Attributes:
        frozen_share: Share of time steps below the threshold, in [0, 1].
        motion_energy: Mean squared speed relative to the body, in squared units of length a squared second.
    """

    frozen_share: float
    motion_energy: float


def activity(positions: FloatArray, *, fps: float, still_speed: float) -> Activity:
    """How much a body moves, relative to itself; see the module's docstring.

    Args:
        positions: (T, J, D) in any unit of length; NaN where missing.
        fps: Frames a second.
        still_speed: Mean speed of the joints below which a step is frozen, in the unit of length a second.

    Raises:
        Unscorable: fewer than 3 frames, or no joint known in two frames in a row.
        ValueError: wrong shape, or values that are infinite.
    """
    points = np.asarray(positions, dtype=np.float64)
    if points.ndim != 3 or 0 in points.shape[1:] or np.isinf(points).any():
        raise ValueError(f"positions {points.shape} must be (T, J, D) and not infinite")
    if not (fps > 0 and still_speed > 0):
        raise ValueError(f"fps is {fps} and still_speed {still_speed}, must be above 0")
    if len(points) < 3:
        raise Unscorable(TOO_SHORT)
    speed = _inner(relative_speed(points, fps), fps)
    known = np.isfinite(speed)
    if not known.any():
        raise Unscorable(TOO_SHORT)
    steps = known.any(axis=1)
    mean = np.nansum(speed[steps], axis=1) / known[steps].sum(axis=1)
    return Activity(float(np.mean(mean < still_speed)), float(np.mean(speed[known] ** 2)))


def relative_speed(positions: FloatArray, fps: float) -> FloatArray:
    """(T - 1, J) smoothed speed of each joint relative to the body, in units of length a second; NaN where missing."""
    steps = np.diff(positions, axis=0) * fps
    known = np.asarray(np.isfinite(steps).all(axis=2, keepdims=True))
    filled = np.where(known, steps, 0.0)
    counts = np.maximum(known.sum(axis=1, keepdims=True), 1)
    relative = np.where(known, filled - filled.sum(axis=1, keepdims=True) / counts, 0.0)
    total, weight = _smooth(relative, fps), _smooth(known.astype(np.float64), fps)
    mean = total / np.where(weight > 0, weight, 1.0)
    return np.where(known[..., 0], np.linalg.norm(mean, axis=2), np.nan)


def _smooth(values: FloatArray, fps: float) -> FloatArray:
    """Gaussian over time with nothing beyond the ends."""
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(values, SMOOTHING_S * fps, axis=0, mode="constant"))


def _inner(speed: FloatArray, fps: float) -> FloatArray:
    """Without the first and last 0.1 s where that leaves half of the steps or more."""
    cut = min(math.ceil(SMOOTHING_S * fps), len(speed) // 4)
    return speed[cut : len(speed) - cut]


@metric("activity_3d", columns=COLUMNS_3D, needs=("motion",))
def activity_3d(evidence: Evidence, protocol: Protocol) -> dict[str, float]:
    """Activity gate: share of frozen time and energy of the motion."""
    motion = usable_motion(evidence)
    found = activity(motion.joints, fps=motion.fps, still_speed=STILL_M_S)
    return {"frozen_share": found.frozen_share, "motion_energy": found.motion_energy}


@metric("activity_2d", columns=COLUMNS_2D, needs=("pose",))
def activity_2d(evidence: Evidence, protocol: Protocol) -> dict[str, float | str]:
    """Activity gate: share of frozen time, energy of the motion, and share of keypoints that are seen."""
    track = evidence.need_pose()
    seen = np.isfinite(track.keypoints).all(axis=2) & (track.confidence >= protocol.need_pose().confidence_min)
    visibility = float(seen.mean())
    try:
        prepared = prepare_track(track, protocol)
        points = np.where(prepared.confidence[..., None] > 0, prepared.keypoints, np.nan)
        found = activity(points / torso_length(points), fps=prepared.fps, still_speed=STILL_TORSOS_S)
    except Unscorable as unscorable:
        return {
            "frozen_share": math.nan, "motion_energy": math.nan, "pose_visibility": visibility,
            "note": unscorable.reason,
        }  # fmt: skip
    return {
        "frozen_share": found.frozen_share, "motion_energy": found.motion_energy, "pose_visibility": visibility,
    }  # fmt: skip


def torso_length(keypoints: FloatArray) -> float:
    """Median distance of mid-shoulder and mid-hip of (T, 17 or 25, 2) keypoints, in their unit.

    Raises:
        Unscorable: it is never known, or zero.
    """
    names = COCO17 if keypoints.shape[1] == len(COCO17) else COCO25
    lshoulder, rshoulder, lhip, rhip = (keypoints[:, names.index(name)] for name in _TORSO)
    length = np.linalg.norm((lshoulder + rshoulder - lhip - rhip) / 2, axis=1)
    length = length[np.isfinite(length)]
    if not len(length) or not np.median(length) > 0:
        raise Unscorable(NO_TORSO)
    return float(np.median(length))
