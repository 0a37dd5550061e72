"""Calibration models: known changes of ground truth whose place on the board is known beforehand.

They act on pose tracks, beat times and frame statistics that are already there; nothing is decoded or
estimated again. A metric that ranks them wrongly is not measuring dance.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from macebench.registry import model
from macebench.types import Beats, Evidence, FloatArray, Missing, ModelCard, PoseTrack

NO_PICTURE = "calibration has no picture"
JITTER_SHARE = 0.01
_FRAME_DIFFERENCE = "frame_difference"


def _card(name: str, summary: str) -> ModelCard:
    return ModelCard(name, "calibration", summary, source="macebench", licence="Apache-2.0")


@model("ground-truth")
class GroundTruth:
    """Real clips, unchanged: the split half that every other row is read against."""

    card = _card("ground-truth", "Real clips against the other half of the split.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip as it is."""
        return evidence[index]


@model("random-music")
class RandomMusic:
    """Each dance with the beats of another clip's music: any beat score above its null is luck."""

    card = _card("random-music", "Real clips with the music of another clip.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with the beats of the next clip (half the set away) that has other music."""
        own = evidence[index]
        count = len(evidence)
        for step in range(count):
            other = evidence[(index + max(count // 2, 1) + step) % count]
            if isinstance(other.music, Beats) and _music_id(other) != _music_id(own):
                return own.replace(music=other.music)
        return own.replace(music=Missing("no other music in the set"))


def _music_id(evidence: Evidence) -> str:
    return evidence.clip.music_sha256 or evidence.clip.sha256


@model("time-shifted")
class TimeShifted:
    """The music moved by half a beat: every accent falls between two beats."""

    card = _card("time-shifted", "Real clips with the music shifted by half a beat.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with beats moved by half of their median distance."""
        own = evidence[index]
        if isinstance(own.music, Missing):
            return own
        beats = own.music.times_s
        if len(beats) < 2:
            return own.replace(music=Missing("no music beats"))
        half = float(np.median(np.diff(beats))) / 2
        moved = np.concatenate([beats[:1] - half, beats + half])
        kept = moved[(moved >= 0) & (moved <= own.music.duration_s)]
        return own.replace(music=Beats(kept, own.music.duration_s))


@model("frozen")
class Frozen:
    """The middle frame held for the whole clip."""

    card = _card("frozen", "The middle frame of each clip, held.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with one pose and no change between frames."""
        own = evidence[index]
        frames = own.frames
        if isinstance(frames, Mapping):
            frames = {name: np.zeros_like(value) for name, value in frames.items() if name == _FRAME_DIFFERENCE}
        if isinstance(own.pose, Missing):
            return own.replace(frames=frames)
        present = np.flatnonzero(own.pose.present)
        if not len(present):
            return own.replace(frames=frames)
        held = present[np.argmin(np.abs(present - len(own.pose) // 2))]
        indices = np.full(len(own.pose), held)
        pose = own.pose.replace(keypoints=own.pose.keypoints[indices], confidence=own.pose.confidence[indices])
        return own.replace(pose=pose, frames=frames)


@model("jitter")
class Jitter:
    """White noise on every keypoint of every frame, 1 % of the dancer's height."""

    card = _card("jitter", "Real clips with keypoint noise of 1 % of the dancer's height.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with noise seeded by its own hash, so that adding a clip changes no other."""
        own = evidence[index]
        if isinstance(own.pose, Missing):
            return own.replace(frames=Missing(NO_PICTURE))
        rng = np.random.default_rng(zlib.crc32(own.clip.sha256.encode()))
        noise = rng.normal(0.0, JITTER_SHARE * _height(own.pose), own.pose.keypoints.shape)
        pose = own.pose.replace(keypoints=own.pose.keypoints + noise)
        return own.replace(pose=pose, frames=Missing(NO_PICTURE))


def _height(pose: PoseTrack) -> float:
    """Median vertical extent of the visible keypoints in pixels."""
    rows = pose.keypoints[pose.present][..., 1]
    return float(np.median(np.nanmax(rows, axis=1) - np.nanmin(rows, axis=1))) if len(rows) else 0.0


@model("half-speed")
class HalfSpeed:
    """The first half of each clip, played at half speed."""

    card = _card("half-speed", "The first half of each clip at half speed.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip slowed down on its own timestamps; pictures are repeated, poses interpolated."""
        own = evidence[index]
        frames = own.frames
        if isinstance(frames, Mapping):
            frames = {n: _repeat_every_frame(v) for n, v in frames.items() if n == _FRAME_DIFFERENCE}
        if isinstance(own.pose, Missing):
            return own.replace(frames=frames)
        return own.replace(pose=_slow(own.pose), frames=frames)


def _repeat_every_frame(differences: FloatArray) -> FloatArray:
    """Frame differences after every picture of the first half is shown twice."""
    result = np.zeros_like(differences)
    result[1::2] = differences[: len(result[1::2])]
    return result


def _slow(pose: PoseTrack) -> PoseTrack:
    times = pose.times_s
    asked = times[0] + (times - times[0]) / 2
    right = np.clip(np.searchsorted(times, asked, side="right"), 1, len(times) - 1) if len(times) > 1 else None
    if right is None:
        return pose
    left = right - 1
    share = ((asked - times[left]) / (times[right] - times[left]))[:, None]
    keypoints = pose.keypoints[left] * (1 - share[..., None]) + pose.keypoints[right] * share[..., None]
    confidence = np.minimum(pose.confidence[left], pose.confidence[right])
    return pose.replace(keypoints=keypoints, confidence=np.where(np.isfinite(keypoints).all(-1), confidence, 0))
