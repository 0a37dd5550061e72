"""The motion scores of a video, registered: Fréchet distance, diversity and beat alignment of 2-D poses.

Everything that decides a number comes from the protocol: pose rules and sampling (`macebench.metrics.tracks`),
feature variants (`macebench.metrics.features`), the normaliser (`macebench.metrics.frechet`) and beat rules
(`macebench.metrics.beats`).

``quantise_fps`` (``ma2d-paper``): music beats are cut down to whole frames, ``int(time * 16)``, beats beyond the last
frame are left out and two beats in one frame count once, as in the released code; motion beats are whole
frames already.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from macebench.errors import Unscorable
from macebench.metrics import _sets, beats
from macebench.metrics._beat_columns import BEAT_COLUMNS, beat_values, whole_frames
from macebench.metrics.features import geometric_features_2d, kinetic_features_2d
from macebench.metrics.tracks import PreparedTrack, prepare_track
from macebench.protocol import BeatRules, Protocol
from macebench.registry import feature, metric
from macebench.types import Evidence, FeatureSet, FloatArray

JOINT_MISSING = "a joint is never visible"


@feature("kinetic_2d", needs=("pose",))
def kinetic_2d(evidence: Evidence, protocol: Protocol) -> FloatArray:
    """Kinetic features of the dancer, in the protocol's variant."""
    return _features(kinetic_features_2d, protocol.need_features().kinetic, evidence, protocol)


@feature("geometric_2d", needs=("pose",))
def geometric_2d(evidence: Evidence, protocol: Protocol) -> FloatArray:
    """Geometric features of the dancer, in the protocol's variant."""
    return _features(geometric_features_2d, protocol.need_features().geometric, evidence, protocol)


def _features(compute: Callable[..., FloatArray], variant: str, evidence: Evidence, protocol: Protocol) -> FloatArray:
    track = prepare_track(evidence.need_pose(), protocol)
    if len(track) < 3:
        raise Unscorable(beats.TOO_SHORT)
    fps = protocol.need_features().assumed_fps or track.fps
    values = compute(track.keypoints, track.confidence, fps=fps, variant=variant)
    if not np.isfinite(values).all():
        raise Unscorable(JOINT_MISSING)
    return values


@metric("fid_k", better="lower", feature="kinetic_2d", needs=("pose",))
def fid_k(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Fréchet distance of kinetic features; read it with n."""
    return _sets.distance("fid_k", generated, reference, protocol)


@metric("fid_g", better="lower", feature="geometric_2d", needs=("pose",))
def fid_g(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Fréchet distance of geometric features; read it with n."""
    return _sets.distance("fid_g", generated, reference, protocol)


@metric("div_k", better="reference", feature="kinetic_2d", needs=("pose",))
def div_k(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Mean pairwise distance of kinetic features; the reference's own value is the aim."""
    return _sets.spread("div_k", generated, reference, protocol)


@metric("div_g", better="reference", feature="geometric_2d", needs=("pose",))
def div_g(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Mean pairwise distance of geometric features; the reference's own value is the aim."""
    return _sets.spread("div_g", generated, reference, protocol)


@metric("kid_k_2d", columns=_sets.kernel_columns("k"), feature="kinetic_2d", needs=("pose",))
def kid_k_2d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Unbiased kernel distance of kinetic features, with its standard error."""
    return _sets.kernel("k", generated, reference, protocol)


@metric("kid_g_2d", columns=_sets.kernel_columns("g"), feature="geometric_2d", needs=("pose",))
def kid_g_2d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Unbiased kernel distance of geometric features, with its standard error."""
    return _sets.kernel("g", generated, reference, protocol)


@metric("fid_infinity_k_2d", columns=_sets.infinity_columns("k"), feature="kinetic_2d", needs=("pose",))
def fid_infinity_k_2d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Fréchet distance of kinetic features, extrapolated to infinite n."""
    return _sets.infinity("k", generated, reference, protocol)


@metric("fid_infinity_g_2d", columns=_sets.infinity_columns("g"), feature="geometric_2d", needs=("pose",))
def fid_infinity_g_2d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Fréchet distance of geometric features, extrapolated to infinite n."""
    return _sets.infinity("g", generated, reference, protocol)


@metric("bas", columns=BEAT_COLUMNS, needs=("pose", "music"))
def bas(evidence: Evidence, protocol: Protocol) -> _sets.Values:
    """Beat alignment of dance and music, with its circular-shift null."""
    rules = protocol.need_beats()
    track = prepare_track(evidence.need_pose(), protocol)
    heard = whole_frames(evidence.need_music().times_s - track.start_s, rules.quantise_fps)
    return beat_values(heard, _motion_times(track, rules), track.duration_s, rules)


def _motion_times(track: PreparedTrack, rules: BeatRules) -> FloatArray:
    return beats.motion_beats(
        track.keypoints, fps=track.fps, smoothing_s=rules.smoothing_s, variant=rules.motion_variant
    )


def motion_beat_times(evidence: Evidence, protocol: Protocol) -> FloatArray:
    """(D,) motion beats of a clip in seconds on its own clock, as `bas` uses them.

    Raises:
        Unscorable: the clip has no usable pose.
    """
    track = prepare_track(evidence.need_pose(), protocol)
    return _motion_times(track, protocol.need_beats()) + track.start_s


def speed_curve(evidence: Evidence, protocol: Protocol) -> tuple[FloatArray, FloatArray]:
    """The smoothed speed whose minima are the motion beats: (T - 1,) seconds on the clip's clock, pixels a second.

    Raises:
        Unscorable: the clip has no usable pose.
    """
    rules = protocol.need_beats()
    track = prepare_track(evidence.need_pose(), protocol)
    times, speed = beats.speed_curve(
        track.keypoints, fps=track.fps, smoothing_s=rules.smoothing_s, variant=rules.motion_variant
    )
    return times + track.start_s, speed
