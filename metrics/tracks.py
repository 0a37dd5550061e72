"""From a pose track at the video's own timestamps to equal time steps, under a protocol.

``missing: interpolate`` (``ma2d-fixed``):

1. The track is brought to the protocol's skeleton. Keypoints below ``confidence_min`` are missing.
2. Each joint is interpolated in time between its known samples. A hole longer than ``max_gap_s`` (the time
   between the known samples around it, less one nominal frame) stays missing, and so does what lies before a
   joint's first or after its last known sample: nothing is extrapolated.
3. Samples are taken every ``1 / fps`` seconds from the first timestamp on; ``linear`` interpolates, ``nearest``
   takes the frame with the nearest timestamp.
4. A sample with fewer than ``min_joints`` joints is bad; too large a share of bad samples and the clip is unscored.

Missing joints of the remaining samples stay NaN. They are not edge-filled: a held joint would count as standing
still. Feature means leave such steps out (`macebench.metrics._features_fixed2d`), and the speed curve counts the
joint at its own mean speed (`macebench.metrics.beats`), so that a joint that comes and goes makes no beat.

``missing: zero`` (``ma2d-paper``): the nearest frame is taken, a missing keypoint is at (0, 0) with confidence 0,
and the two columns are swapped: easy_ViTPose emits (y, x, score) and the released code of MACE-Dance reads the
first column as x. A COCO-17 back end is brought to 25 keypoints by `macebench.skeleton.coco17_to_coco25`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from macebench.errors import Unscorable, UserError
from macebench.protocol import PoseRules, Protocol, Sampling
from macebench.skeleton import coco17_to_coco25, coco25_to_coco17
from macebench.types import Array, FloatArray, PoseTrack

NO_PERSON = "no person"
TOO_SHORT = "too short"
TOO_LONG = "too long"
POSE_MISSING = "pose missing in too many frames"
MAX_SAMPLES = 1_000_000
# Timestamps are rounded by containers; a sample this share of a step beyond the last frame still counts.
_SLACK = {"linear": 0.05, "nearest": 0.5}


@dataclass(frozen=True)
class PreparedTrack:
    """Poses at equal time steps.

    Attributes:
        keypoints: (T, K, 2) pixels, x right and y down, NaN where missing; under ``missing: zero`` the columns are
            (y, x) and a missing keypoint is (0, 0).
        confidence: (T, K) in [0, 1], 0 where missing.
        fps: Time steps a second.
        start_s: Time of the first step on the clip's clock in seconds.
    """

    keypoints: FloatArray
    confidence: FloatArray
    fps: float
    start_s: float = 0.0

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def duration_s(self) -> float:
        """Steps over rate: the last step lasts as long as the others."""
        return len(self) / self.fps


def prepare_track(track: PoseTrack, protocol: Protocol) -> PreparedTrack:
    """The track at the protocol's rate, with holes treated by the protocol's rules.

    Raises:
        Unscorable: ``no person``, ``too short``, ``too long`` (more than `MAX_SAMPLES` steps) or
            ``pose missing in too many frames``.
        UserError: the protocol has no pose rules, or a skeleton that 2-D poses cannot be brought to.
    """
    rules, sampling = protocol.need_pose(), protocol.sampling
    keypoints, confidence = _to_skeleton(track, protocol)
    visible = _known(keypoints) & (confidence >= rules.confidence_min)
    if not visible.any():
        raise Unscorable(NO_PERSON)
    grid = _grid(track.times_s, sampling)
    if rules.missing == "zero":
        return _zero_filled(keypoints, confidence, visible, _nearest(track.times_s, grid), grid, protocol)
    keypoints = np.where(visible[..., None], keypoints, np.nan)
    asked = grid if sampling.method == "linear" else track.times_s[_nearest(track.times_s, grid)]
    points, trust = _interpolate(keypoints, confidence, track.times_s, asked, rules.max_gap_s)
    _check_presence(_known(points), rules)
    return PreparedTrack(points, trust, sampling.fps, float(grid[0]))


def _to_skeleton(track: PoseTrack, protocol: Protocol) -> tuple[FloatArray, FloatArray]:
    if track.skeleton == protocol.skeleton:
        return track.keypoints, track.confidence
    convert = {("coco17", "coco25"): coco17_to_coco25, ("coco25", "coco17"): coco25_to_coco17}
    change = convert.get((track.skeleton, protocol.skeleton))
    if change is None:
        raise UserError(
            f"protocol {protocol.id} has skeleton {protocol.skeleton!r}; a pose track of {track.skeleton} can "
            "only become coco17 or coco25.",
            hint="`macebench ls protocols` lists the protocols for video.",
        )
    return change(track.keypoints), change(track.confidence)


def _grid(times_s: FloatArray, sampling: Sampling) -> FloatArray:
    """Times of the samples in seconds; `Unscorable` when there are too few or too many."""
    span = float(times_s[-1] - times_s[0]) if len(times_s) > 1 else 0.0
    count = np.floor(span * sampling.fps + _SLACK[sampling.method]) + 1
    if len(times_s) < 2 or count < sampling.min_frames:
        raise Unscorable(TOO_SHORT)
    count = min(count, sampling.max_frames or count)
    if not count <= MAX_SAMPLES:
        raise Unscorable(TOO_LONG)
    return np.asarray(times_s[0] + np.arange(int(count)) / sampling.fps)


def _nearest(times_s: FloatArray, asked: FloatArray) -> Array:
    """Index of the nearest timestamp for each asked time; the earlier one in a tie."""
    right = np.clip(np.searchsorted(times_s, asked), 1, len(times_s) - 1)
    left = right - 1
    return np.where(asked - times_s[left] <= times_s[right] - asked, left, right)


def _zero_filled(
    keypoints: FloatArray,
    confidence: FloatArray,
    visible: Array,
    frames: Array,
    grid: FloatArray,
    protocol: Protocol,
) -> PreparedTrack:
    known = visible[frames]
    _check_presence(known, protocol.need_pose())
    points = np.where(known[..., None], keypoints[frames], 0.0)[..., ::-1]
    return PreparedTrack(points, np.where(known, confidence[frames], 0.0), protocol.sampling.fps, float(grid[0]))


def _interpolate(
    keypoints: FloatArray, confidence: FloatArray, times_s: FloatArray, asked: FloatArray, max_gap_s: float
) -> tuple[FloatArray, FloatArray]:
    """Keypoints (N, K, 2) and confidence (N, K) at the asked times, NaN and 0 in holes that are too long."""
    frame_s = float(np.median(np.diff(times_s)))
    points = np.full((len(asked), *keypoints.shape[1:]), np.nan)
    trust = np.zeros(points.shape[:2])
    columns = np.concatenate([keypoints, confidence[..., None]], axis=2)
    for joint in range(keypoints.shape[1]):
        known = np.isfinite(keypoints[:, joint, 0])
        if not known.any():
            continue
        at = times_s[known]
        inside = _reachable(at, asked, max_gap_s + frame_s)
        values = [np.interp(asked[inside], at, columns[known, joint, axis]) for axis in range(3)]
        points[inside, joint] = np.stack(values[:2], axis=1)
        trust[inside, joint] = values[2]
    return points, trust


def _reachable(at: FloatArray, asked: FloatArray, longest_s: float) -> Array:
    """Which asked times lie on a known sample, or between two that are close enough."""
    tolerance = 1e-9 + _SLACK["linear"] * float(np.median(np.diff(asked))) if len(asked) > 1 else 1e-9
    right = np.clip(np.searchsorted(at, asked), 0, len(at) - 1)
    left = np.maximum(right - 1, 0)
    near = np.minimum(np.abs(at[right] - asked), np.abs(at[left] - asked)) <= tolerance
    between = (asked > at[left]) & (asked < at[right]) & (at[right] - at[left] <= longest_s + 1e-9)
    return np.asarray(near | between)


def _known(keypoints: FloatArray) -> Array:
    return np.asarray(np.isfinite(keypoints).all(axis=2))


def _check_presence(known: Array, rules: PoseRules) -> None:
    joints = known.sum(axis=1)
    if not joints.any():
        raise Unscorable(NO_PERSON)
    if np.mean(joints < rules.min_joints) > rules.max_bad_share:
        raise Unscorable(POSE_MISSING)
