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
from typing import Any

import numpy as np

from macebench.errors import Unscorable
from macebench.metrics import beats
from macebench.metrics.diversity import diversity
from macebench.metrics.features import geometric_features_2d, kinetic_features_2d
from macebench.metrics.frechet import frechet_distance, varying_features
from macebench.metrics.tracks import PreparedTrack, prepare_track
from macebench.protocol import BeatRules, Protocol
from macebench.registry import Column, feature, metric
from macebench.types import Evidence, FeatureSet, FloatArray

JOINT_MISSING = "a joint is never visible"
CONSTANT_REFERENCE = "all features are constant in the reference"

BEAT_COLUMNS = (
    Column("bas", better="reference", summary="Beat alignment, not corrected for chance"),
    Column("bas_null", better="reference", summary="Mean beat alignment over circular shifts of the music"),
    Column("bas_corrected", better="reference", summary="Beat alignment above chance: 0 is chance, 1 perfect"),
    Column("bas_z", better="reference", summary="Beat alignment above chance in deviations of the null"),
    Column("beat_precision", better="reference", summary="Share of motion beats on a music beat (70 ms)"),
    Column("beat_recall", better="reference", summary="Share of music beats with a motion beat (70 ms)"),
    Column("beat_f", better="reference", summary="Harmonic mean of beat precision and recall"),
)


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


def _normaliser(reference: FeatureSet, protocol: Protocol) -> tuple[dict[str, Any], dict[str, str]]:
    """Options of `standardise`, and a note when it drops columns."""
    rules = protocol.need_normaliser()
    options = {"normalise": rules.mode, "eps": rules.eps, "ddof": rules.ddof, "drop_below": rules.drop_below}
    if rules.mode == "none":
        return options, {}
    varying = varying_features(reference.values, ddof=rules.ddof, drop_below=rules.drop_below)
    if not varying.any():
        raise Unscorable(CONSTANT_REFERENCE)
    dropped = int(np.count_nonzero(~varying))
    note = f"{dropped} of {len(varying)} features constant in the reference, left out"
    return options, {"note": note} if dropped else {}


def _distance(name: str, generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> dict[str, float | str]:
    options, note = _normaliser(reference, protocol)
    return {name: frechet_distance(generated.values, reference.values, **options).value, **note}


def _spread(name: str, generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> dict[str, float | str]:
    options, note = _normaliser(reference, protocol)
    return {name: diversity(generated.values, reference=reference.values, **options), **note}


@metric("fid_k", better="lower", feature="kinetic_2d", needs=("pose",))
def fid_k(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> dict[str, float | str]:
    """Fréchet distance of kinetic features; read it with n."""
    return _distance("fid_k", generated, reference, protocol)


@metric("fid_g", better="lower", feature="geometric_2d", needs=("pose",))
def fid_g(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> dict[str, float | str]:
    """Fréchet distance of geometric features; read it with n."""
    return _distance("fid_g", generated, reference, protocol)


@metric("div_k", better="reference", feature="kinetic_2d", needs=("pose",))
def div_k(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> dict[str, float | str]:
    """Mean pairwise distance of kinetic features; the reference's own value is the aim."""
    return _spread("div_k", generated, reference, protocol)


@metric("div_g", better="reference", feature="geometric_2d", needs=("pose",))
def div_g(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> dict[str, float | str]:
    """Mean pairwise distance of geometric features; the reference's own value is the aim."""
    return _spread("div_g", generated, reference, protocol)


@metric("bas", columns=BEAT_COLUMNS, needs=("pose", "music"))
def bas(evidence: Evidence, protocol: Protocol) -> dict[str, float | str]:
    """Beat alignment of dance and music, with its circular-shift null."""
    rules = protocol.need_beats()
    track = prepare_track(evidence.need_pose(), protocol)
    heard = _music_times(evidence.need_music().times_s, track, rules)
    danced = _motion_times(track, rules)
    report = beats.beat_report(heard, danced, track.duration_s, sigma_s=rules.sigma_s, direction=rules.direction)
    values: dict[str, float | str] = {
        "bas": report.raw,
        "beat_precision": report.precision,
        "beat_recall": report.recall,
        "beat_f": report.f_score,
    }
    if rules.null:
        values |= {"bas_null": report.null, "bas_corrected": report.corrected, "bas_z": report.z}
    return values | ({"note": report.note} if report.note else {})


def _music_times(times_s: FloatArray, track: PreparedTrack, rules: BeatRules) -> FloatArray:
    """Music beats on the track's clock, quantised when the protocol says so."""
    own = times_s - track.start_s
    if rules.quantise_fps is None:
        return own
    # A beat that lies on a frame must not fall into the frame before through rounding.
    frames = np.unique(np.floor(own * rules.quantise_fps + 1e-9))
    return np.asarray(frames / rules.quantise_fps)


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
