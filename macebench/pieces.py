"""From the evidence of a file to the pieces that are scored: equal time steps, cut to length, in windows.

Only motions in space are cut here. The pose track of a video is sampled by each of its metrics
(`macebench.metrics.tracks`), because how is part of what is published.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from macebench.motion import resample_motion
from macebench.protocol import Protocol, Sampling
from macebench.types import Beats, Evidence, Missing, Motion

Role = Literal["generated", "reference"]
TOO_SHORT = "too short"


def pieces(evidence: Evidence, protocol: Protocol, role: Role) -> Iterator[Evidence]:
    """The pieces of one clip that `protocol` scores, each as evidence of its own.

    A motion is brought to the protocol's frame rate by time (rotations by spherical interpolation) and cut to
    ``max_frames`` or into windows. A window's clip id is ``<id>@<start in seconds>``, its beats are on its own clock.

    Args:
        evidence: One file. Anything but a motion passes through as it is.
        protocol: The resolved protocol.
        role: Whether the file belongs to the evaluated or to the reference set.
    """
    motion = evidence.motion
    if protocol.track != "motion-3d" or isinstance(motion, Missing):
        yield evidence
        return
    rules = protocol.sampling
    motion = resample_motion(motion, rules.fps)
    if len(motion) < rules.min_frames:
        yield evidence.replace(motion=Missing(TOO_SHORT))
        return
    keep = protocol.beats is not None and protocol.beats.beyond_end == "keep"
    for cut in _cuts(len(motion), rules, whole=bool(rules.whole_reference) and role == "reference"):
        yield _piece(evidence, motion, cut, named=rules.window_frames is not None, keep_beats=keep)


@dataclass(frozen=True)
class _Cut:
    """Frames ``start`` to ``stop`` (exclusive)."""

    start: int
    stop: int


def _cuts(n_frames: int, rules: Sampling, *, whole: bool) -> Iterator[_Cut]:
    if rules.window_frames is None:
        yield _Cut(0, n_frames if whole or rules.max_frames is None else min(n_frames, rules.max_frames))
        return
    length = min(rules.window_frames, n_frames)
    stride = rules.stride_frames or rules.window_frames
    for start in range(0, n_frames - length + 1, stride):
        yield _Cut(start, start + length)


def _piece(evidence: Evidence, motion: Motion, cut: _Cut, *, named: bool, keep_beats: bool) -> Evidence:
    span = slice(cut.start, cut.stop)
    rotations = None if motion.rotations is None else motion.rotations[span]
    root = None if motion.root is None else motion.root[span]
    part = Motion(motion.fps, motion.joints[span], rotations, root)
    start_s = cut.start / motion.fps
    beyond_s = motion.duration_s - start_s if keep_beats else None
    music = _moved(evidence.music, start_s, part.duration_s, beyond_s)
    clip = evidence.clip
    if named:
        clip = clip.replace(clip_id=f"{clip.clip_id}@{start_s:.3f}")
    return evidence.replace(clip=clip, duration_s=part.duration_s, motion=part, music=music)


def _moved(music: Beats | Missing, start_s: float, duration_s: float, beyond_s: float | None) -> Beats | Missing:
    """Beats on the clock of a piece: those inside it, and those from `beyond_s` on, where the whole motion ends."""
    if isinstance(music, Missing):
        return music
    times = music.times_s - start_s
    kept = (times >= 0) & (times < duration_s)
    if beyond_s is not None:
        kept |= times >= beyond_s
    return Beats(np.asarray(times[kept]), max(music.duration_s - start_s, 0.0))
