"""Changes of 2-D pose tracks. All are pure, keep timestamps and length, and leave missing keypoints missing.

Lengths in metres are turned into pixels by the dancer's torso (mid-shoulder to mid-hip), taken as `TORSO_M` long.
"""

from __future__ import annotations

import numpy as np

from macebench.skeleton import COCO17, COCO25
from macebench.types import Array, FloatArray, PoseTrack

TORSO_M = 0.5
"""Length of an adult's torso in metres, the bridge between metres and pixels."""

_TORSO = ("lshoulder", "rshoulder", "lhip", "rhip")


def names_of(pose: PoseTrack) -> tuple[str, ...]:
    """Keypoint names in the track's order."""
    return COCO17 if pose.skeleton == "coco17" else COCO25


def height_px(pose: PoseTrack) -> float:
    """Median vertical extent of the visible keypoints in pixels; 0 when nobody is there."""
    rows = pose.keypoints[pose.present][..., 1]
    return float(np.median(np.nanmax(rows, axis=1) - np.nanmin(rows, axis=1))) if len(rows) else 0.0


def pixels_per_metre(pose: PoseTrack) -> float:
    """Pixels that a metre has at the dancer, from the median torso; 0 when the torso is never seen."""
    names = names_of(pose)
    lshoulder, rshoulder, lhip, rhip = (pose.keypoints[:, names.index(name)] for name in _TORSO)
    lengths = np.linalg.norm((lshoulder + rshoulder - lhip - rhip) / 2, axis=1)
    known = lengths[np.isfinite(lengths)]
    return float(np.median(known)) / TORSO_M if len(known) else 0.0


def jittered(pose: PoseTrack, share: float, rng: np.random.Generator) -> PoseTrack:
    """White noise on every keypoint of every frame; its deviation is `share` of the dancer's height."""
    noise = rng.normal(0.0, share * height_px(pose), pose.keypoints.shape)
    return pose.replace(keypoints=pose.keypoints + noise)


def at_frames(pose: PoseTrack, frames: Array) -> PoseTrack:
    """The poses of other frames (T,) at the track's own times."""
    return pose.replace(keypoints=pose.keypoints[frames], confidence=pose.confidence[frames])


def nearest_present(pose: PoseTrack, frame: int) -> int:
    """The frame nearest to `frame` in which somebody is; `frame` itself when there is none."""
    present = np.flatnonzero(pose.present)
    return int(present[np.argmin(np.abs(present - frame))]) if len(present) else frame


def slowed(pose: PoseTrack, slowness: float) -> PoseTrack:
    """The beginning of the track at speed ``1 - slowness``; poses between frames are interpolated."""
    times = pose.times_s
    if len(times) < 2:
        return pose
    asked = times[0] + (times - times[0]) * (1.0 - slowness)
    right = np.clip(np.searchsorted(times, asked, side="right"), 1, len(times) - 1)
    left = right - 1
    share = (asked - times[left]) / (times[right] - times[left])
    return blended(pose, left, right, share)


def blended(pose: PoseTrack, first: Array, second: Array, share: FloatArray) -> PoseTrack:
    """At each time ``(1 - share)`` of the pose of frame `first` and `share` of that of frame `second`."""
    weight = share[:, None, None]
    keypoints = pose.keypoints[first] * (1 - weight) + pose.keypoints[second] * weight
    confidence = np.minimum(pose.confidence[first], pose.confidence[second])
    return pose.replace(keypoints=keypoints, confidence=np.where(np.isfinite(keypoints).all(-1), confidence, 0))


def mirrored(pose: PoseTrack) -> PoseTrack:
    """The dance in a mirror: x is turned round within the picture, left and right change names."""
    swap = mirror_order(names_of(pose))
    keypoints = pose.keypoints[:, swap] * [-1.0, 1.0] + [float(pose.width), 0.0]
    return pose.replace(keypoints=keypoints, confidence=pose.confidence[:, swap])


def mirror_order(names: tuple[str, ...]) -> list[int]:
    """Index of each name's partner on the other side; those in the middle keep theirs."""
    other = {"l": "r", "r": "l"}
    partners = [other.get(name[0], name[0]) + name[1:] for name in names]
    return [names.index(partner) if partner in names else index for index, partner in enumerate(partners)]


def moved(pose: PoseTrack, metres: FloatArray) -> PoseTrack:
    """All keypoints moved to the right of the picture by (T,) or () metres."""
    pixels = np.broadcast_to(np.asarray(metres, dtype=np.float64), (len(pose),)) * pixels_per_metre(pose)
    keypoints = pose.keypoints.copy()
    keypoints[..., 0] += pixels[:, None]
    return pose.replace(keypoints=keypoints)


def scaled(pose: PoseTrack, factor: float) -> PoseTrack:
    """The dancer `factor` times as large, about the middle of the picture."""
    middle = np.array([pose.width / 2, pose.height / 2])
    return pose.replace(keypoints=middle + (pose.keypoints - middle) * factor)


def dropped(pose: PoseTrack, lost: Array) -> PoseTrack:
    """Keypoints where (T, K) `lost` is true go missing."""
    keypoints = np.where(lost[..., None], np.nan, pose.keypoints)
    return pose.replace(keypoints=keypoints, confidence=np.where(lost, 0.0, pose.confidence))


def swapped(pose: PoseTrack, other: PoseTrack, where: Array) -> PoseTrack:
    """At the frames (T,) `where` the dancer of `other` at the same number of the frame; a short one starts again."""
    frames = np.arange(len(pose)) % max(len(other), 1)
    keypoints = np.where(where[:, None, None], other.keypoints[frames], pose.keypoints)
    confidence = np.where(where[:, None], other.confidence[frames], pose.confidence)
    return pose.replace(keypoints=keypoints, confidence=confidence)
