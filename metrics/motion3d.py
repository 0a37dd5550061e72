"""The motion scores of a dance in space, registered: sets of features, beats and feet of SMPL-24 joints.

A metric sees the motion at the protocol's frame rate and cut (`macebench.pieces`), with the music's beats on the
clock of that cut. Everything else that decides a number comes from the protocol: feature variants
(`macebench.metrics.features`), the normaliser (`macebench.metrics.frechet`), beat rules (`macebench.metrics.beats`)
and contact rules (`macebench.metrics.contact`).

Published beats (``motion_variant: published``) are frames: music beats are cut down to whole frames where the
protocol has ``quantise_fps``, and with ``beyond_end: keep`` beats after the end of the motion count as misses
(LODGE).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from macebench.errors import Unscorable
from macebench.metrics import _sets, beats
from macebench.metrics._beat_columns import BEAT_COLUMNS, beat_values, whole_frames
from macebench.metrics.contact import NO_CONTACT, foot_contact_error, foot_skating_ratio, physical_foot_contact
from macebench.metrics.features import geometric_features, kinetic_features
from macebench.protocol import Protocol
from macebench.registry import Column, feature, metric
from macebench.types import Evidence, FeatureSet, FloatArray, Motion

JOINTS_MISSING = "joints are missing"
MIN_FRAMES = 3

SKATING_COLUMNS = (
    Column("fsr", better="reference", summary="Share of ground contact in which the feet slide"),
    Column("fsr_left", better="reference", summary="The same of the left foot"),
    Column("fsr_right", better="reference", summary="The same of the right foot"),
)
CONTACT_COLUMNS = (
    Column("foot_penetration", "m", "reference", "Mean depth of the lowest foot joint below the ground"),
    Column("foot_float", "m", "reference", "Mean height of the lowest foot joint above the ground; jumps count"),
    Column("foot_slide", "m/s", "reference", "Mean horizontal speed of the feet on the ground"),
)


@feature("kinetic_3d", needs=("motion",))
def kinetic_3d(evidence: Evidence, protocol: Protocol) -> FloatArray:
    """Kinetic features of the dancer, in the protocol's variant."""
    return _features(kinetic_features, protocol.need_features().kinetic, evidence, protocol)


@feature("geometric_3d", needs=("motion",))
def geometric_3d(evidence: Evidence, protocol: Protocol) -> FloatArray:
    """Geometric features of the dancer, in the protocol's variant."""
    return _features(geometric_features, protocol.need_features().geometric, evidence, protocol)


def _features(compute: Callable[..., FloatArray], variant: str, evidence: Evidence, protocol: Protocol) -> FloatArray:
    motion = usable_motion(evidence)
    fps = protocol.need_features().assumed_fps or motion.fps
    return compute(motion.joints, fps=fps, variant=variant)


def usable_motion(evidence: Evidence) -> Motion:
    """The motion of a clip.

    Raises:
        Unscorable: there is none, it has fewer than 3 frames, or a joint that is not finite.
    """
    motion = evidence.need_motion()
    if len(motion) < MIN_FRAMES:
        raise Unscorable(beats.TOO_SHORT)
    if not np.isfinite(motion.joints).all():
        raise Unscorable(JOINTS_MISSING)
    return motion


@metric("fid_k_3d", columns=(Column("fid_k", better="lower", summary="Fréchet distance of kinetic features"),),
        feature="kinetic_3d", needs=("motion",))  # fmt: skip
def fid_k_3d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Fréchet distance of kinetic features; read it with n."""
    return _sets.distance("fid_k", generated, reference, protocol)


@metric("fid_g_3d", columns=(Column("fid_g", better="lower", summary="Fréchet distance of geometric features"),),
        feature="geometric_3d", needs=("motion",))  # fmt: skip
def fid_g_3d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Fréchet distance of geometric features; read it with n."""
    return _sets.distance("fid_g", generated, reference, protocol)


@metric("div_k_3d", columns=(Column("div_k", summary="Mean pairwise distance of kinetic features"),),
        feature="kinetic_3d", needs=("motion",))  # fmt: skip
def div_k_3d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Mean pairwise distance of kinetic features; the reference's own value is the aim."""
    return _sets.spread("div_k", generated, reference, protocol)


@metric("div_g_3d", columns=(Column("div_g", summary="Mean pairwise distance of geometric features"),),
        feature="geometric_3d", needs=("motion",))  # fmt: skip
def div_g_3d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Mean pairwise distance of geometric features; the reference's own value is the aim."""
    return _sets.spread("div_g", generated, reference, protocol)


@metric("kid_k_3d", columns=_sets.kernel_columns("k"), feature="kinetic_3d", needs=("motion",))
def kid_k_3d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Unbiased kernel distance of kinetic features, with its standard error."""
    return _sets.kernel("k", generated, reference, protocol)


@metric("kid_g_3d", columns=_sets.kernel_columns("g"), feature="geometric_3d", needs=("motion",))
def kid_g_3d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Unbiased kernel distance of geometric features, with its standard error."""
    return _sets.kernel("g", generated, reference, protocol)


@metric("fid_infinity_k_3d", columns=_sets.infinity_columns("k"), feature="kinetic_3d", needs=("motion",))
def fid_infinity_k_3d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Fréchet distance of kinetic features, extrapolated to infinite n."""
    return _sets.infinity("k", generated, reference, protocol)


@metric("fid_infinity_g_3d", columns=_sets.infinity_columns("g"), feature="geometric_3d", needs=("motion",))
def fid_infinity_g_3d(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> _sets.Values:
    """Fréchet distance of geometric features, extrapolated to infinite n."""
    return _sets.infinity("g", generated, reference, protocol)


@metric("bas_3d", columns=BEAT_COLUMNS, needs=("motion", "music"))
def bas_3d(evidence: Evidence, protocol: Protocol) -> _sets.Values:
    """Beat alignment of dance and music, with its circular-shift null."""
    rules, motion = protocol.need_beats(), usable_motion(evidence)
    heard = whole_frames(evidence.need_music().times_s, rules.quantise_fps)
    return beat_values(heard, _motion_beats(motion, protocol), motion.duration_s, rules)


def _motion_beats(motion: Motion, protocol: Protocol) -> FloatArray:
    rules = protocol.need_beats()
    return beats.motion_beats(
        motion.joints, fps=motion.fps, smoothing_s=rules.smoothing_s, variant=rules.motion_variant
    )


def motion_beat_times(evidence: Evidence, protocol: Protocol) -> FloatArray:
    """(D,) motion beats of a clip in seconds from its first frame, as `bas_3d` uses them.

    Raises:
        Unscorable: the clip has no usable motion.
    """
    return _motion_beats(usable_motion(evidence), protocol)


def speed_curve(evidence: Evidence, protocol: Protocol) -> tuple[FloatArray, FloatArray]:
    """The smoothed speed whose minima are the motion beats: (T - 1,) seconds from the first frame, m/s.

    Raises:
        Unscorable: the clip has no usable motion.
    """
    rules, motion = protocol.need_beats(), usable_motion(evidence)
    return beats.speed_curve(motion.joints, fps=motion.fps, smoothing_s=rules.smoothing_s, variant=rules.motion_variant)


@metric("fsr_3d", columns=SKATING_COLUMNS, needs=("motion",))
def fsr_3d(evidence: Evidence, protocol: Protocol) -> _sets.Values:
    """Foot skating ratio: share of ground contact in which the feet slide."""
    motion = usable_motion(evidence)
    found = foot_skating_ratio(motion.joints, fps=motion.fps, variant=protocol.need_contact().skating)
    if found.value is None:
        raise Unscorable(NO_CONTACT)
    values: _sets.Values = {"fsr": found.value, "fsr_left": _or_nan(found.left), "fsr_right": _or_nan(found.right)}
    without = [side for side, value in (("left", found.left), ("right", found.right)) if value is None]
    return values | ({"note": f"no contact of the {without[0]} foot"} if without else {})


@metric("pfc_3d", columns=(Column("pfc", summary="Physical foot contact score, times 10,000"),), needs=("motion",))
def pfc_3d(evidence: Evidence, protocol: Protocol) -> float:
    """Physical foot contact score: does the body accelerate while both feet move?"""
    motion = usable_motion(evidence)
    return physical_foot_contact(motion.joints, fps=motion.fps, variant=protocol.need_contact().pfc)


@metric("foot_contact_3d", columns=CONTACT_COLUMNS, needs=("motion",))
def foot_contact_3d(evidence: Evidence, protocol: Protocol) -> _sets.Values:
    """Foot contact error: depth below, height above and sliding on the ground."""
    motion = usable_motion(evidence)
    found = foot_contact_error(motion.joints, fps=motion.fps)
    values: _sets.Values = {
        "foot_penetration": found.penetration_m,
        "foot_float": found.float_m,
        "foot_slide": _or_nan(found.slide_m_s),
    }
    return values | ({"note": found.reason} if found.reason else {})


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
