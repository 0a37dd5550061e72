"""Feature vectors of one dance, in named variants that differ on purpose.

Kinetic features describe how fast the joints move and accelerate; geometric features are the shares of frames in
which 32 relations between joints hold (`macebench.metrics._relations`). Fréchet distance and diversity are
computed on them.

Variants of the 2-D features:

- ``mace2d``: as the released code of MACE-Dance computes them, defects included
  (`macebench.metrics._features_mace2d`); 25 keypoints in pixels, 75-d and 32-d.
- ``fixed``: ours (`macebench.metrics._features_fixed2d`); COCO-17, 51-d and 32-d, in torso lengths and seconds.

Variants of the 3-D features (`macebench.metrics._features_kinetic3d` and `_features_geometric3d` say what each does and
what is wrong with it): ``aist``, ``bailando``, ``lodge``, ``megadance``, ``mace3d``, ``flowerdance`` (kinetic only) as
their public codes compute them, and ``fixed``, ours.

This module checks shapes and picks; the pure functions are in the modules named.

Conventions: keypoints are pixels, x right and y down; joints are metres, y up, in the order of SMPL-24; time steps are
equal, `fps` of them a second.
"""

from __future__ import annotations

import math

import numpy as np

from macebench.metrics import _features_fixed2d, _features_geometric3d, _features_kinetic3d, _features_mace2d
from macebench.registry import unknown
from macebench.types import N_JOINTS, FloatArray

VARIANTS_2D = ("mace2d", "fixed")
KINETIC_VARIANTS = (*_features_kinetic3d.PUBLISHED, "fixed")
GEOMETRIC_VARIANTS = (*_features_geometric3d.PUBLISHED, "fixed")
_N_KEYPOINTS = {"mace2d": 25, "fixed": 17}


def kinetic_features(joints: FloatArray, *, fps: float, variant: str = "fixed") -> FloatArray:
    """Kinetic features of one dancer in space.

    Args:
        joints: (T, 24, 3) metres, y up, as loaded: each variant does its own root handling, axis turn and joint cut.
        fps: Time steps a second; the published variants ignore it and take 60, MEGADance and MACE-Dance 30.
        variant: ``aist``, ``bailando``, ``lodge``, ``megadance``, ``mace3d``, ``flowerdance`` or ``fixed``.

    Returns:
        (72,), or (66,) for ``lodge``, ``mace3d`` and ``flowerdance``, which drop the hands. For each joint
        ``[E_h, E_v, A]``: (m/s)^2, (m/s)^2 and m/s^2 with ``fixed``, whatever the source makes of it otherwise.

    Raises:
        ValueError: wrong shape, values that are not finite, or fewer than 3 frames.
        UnknownNameError: no such variant.
    """
    points = _check_joints(joints, fps, variant, KINETIC_VARIANTS, frames=3)
    return _features_kinetic3d.kinetic(points, fps, variant)


def geometric_features(joints: FloatArray, *, fps: float, variant: str = "fixed") -> FloatArray:
    """Geometric (relational) features of one dancer in space.

    Args:
        joints: (T, 24, 3) metres, y up, as in `kinetic_features`.
        fps: Time steps a second; the published variants ignore it and take 120.
        variant: ``aist``, ``bailando``, ``lodge``, ``megadance``, ``mace3d`` or ``fixed``.

    Returns:
        (32,) shares of frames in [0, 1].

    Raises:
        ValueError: wrong shape, values that are not finite, or fewer than 2 frames.
        UnknownNameError: no such variant.
    """
    points = _check_joints(joints, fps, variant, GEOMETRIC_VARIANTS, frames=2)
    return _features_geometric3d.geometric(points, fps, variant)


def _check_joints(
    joints: FloatArray, fps: float, variant: str, variants: tuple[str, ...], *, frames: int
) -> FloatArray:
    """The joints as float64, after all checks."""
    if variant not in variants:
        raise unknown("variant of 3-D features", variant, variants, "macebench ls protocols")
    points = np.asarray(joints, dtype=np.float64)
    if points.ndim != 3 or points.shape[1:] != (N_JOINTS, 3):
        raise ValueError(f"joints have shape {points.shape}, expected (T, {N_JOINTS}, 3)")
    if len(points) < frames:
        raise ValueError(f"features need at least {frames} frames, got joints {points.shape}")
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps is {fps}, must be above 0 and finite")
    if not np.isfinite(points).all():
        raise ValueError(f"joints {points.shape} hold values that are not finite")
    return points


def kinetic_features_2d(
    keypoints: FloatArray, confidence: FloatArray, *, fps: float, variant: str = "fixed"
) -> FloatArray:
    """Kinetic features of one dancer in the picture.

    Args:
        keypoints: (T, K, 2) pixels; K is 25 for ``mace2d`` (columns as the released code reads them), 17 for ``fixed``.
        confidence: (T, K) in [0, 1]; with ``fixed`` a keypoint of confidence 0 is missing; ``mace2d`` ignores it.
        fps: Time steps a second; ``mace2d`` ignores it and takes 30.
        variant: ``mace2d`` or ``fixed``.

    Returns:
        (75,) or (51,): for each joint two energies and an acceleration. ``mace2d``: pixels and its own seconds.
        ``fixed``: torso lengths and seconds; NaN for a joint that is never known in two frames in a row.

    Raises:
        ValueError: shapes do not fit, a value is not finite where it must be, or there are fewer than 3 frames.
        UnknownNameError: no such variant.
    """
    points = _check(keypoints, confidence, fps, variant, frames=3)
    if variant == "mace2d":
        return _features_mace2d.kinetic(points)
    return _features_fixed2d.kinetic(points, fps)


def geometric_features_2d(
    keypoints: FloatArray, confidence: FloatArray, *, fps: float, variant: str = "fixed"
) -> FloatArray:
    """Geometric (relational) features of one dancer in the picture.

    Args:
        keypoints: (T, K, 2) pixels, as in `kinetic_features_2d`.
        confidence: (T, K), as in `kinetic_features_2d`.
        fps: Time steps a second; ``mace2d`` ignores it (its thresholds are pixels a frame).
        variant: ``mace2d`` or ``fixed``.

    Returns:
        (32,) shares of frames in [0, 1]; with ``fixed`` NaN for a relation whose joints are never known together.

    Raises:
        ValueError: shapes do not fit, a value is not finite where it must be, or there are fewer than 2 frames.
        UnknownNameError: no such variant.
    """
    points = _check(keypoints, confidence, fps, variant, frames=2)
    if variant == "mace2d":
        return _features_mace2d.geometric(points)
    return _features_fixed2d.geometric(points, fps)


def _check(keypoints: FloatArray, confidence: FloatArray, fps: float, variant: str, *, frames: int) -> FloatArray:
    """The keypoints as float64 with NaN where missing (``fixed``), after all checks."""
    if variant not in VARIANTS_2D:
        raise unknown("variant of 2-D features", variant, VARIANTS_2D, "macebench ls protocols")
    points, trust = np.asarray(keypoints, dtype=np.float64), np.asarray(confidence, dtype=np.float64)
    n_keypoints = _N_KEYPOINTS[variant]
    if points.ndim != 3 or points.shape[1:] != (n_keypoints, 2) or trust.shape != points.shape[:2]:
        raise ValueError(
            f"variant {variant} takes keypoints (T, {n_keypoints}, 2) and confidence (T, {n_keypoints}), "
            f"got {points.shape} and {trust.shape}"
        )
    if len(points) < frames:
        raise ValueError(f"features need at least {frames} frames, got keypoints {points.shape}")
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps is {fps}, must be above 0 and finite")
    if np.isinf(points).any() or (variant == "mace2d" and np.isnan(points).any()):
        raise ValueError(f"keypoints {points.shape} hold values that are not finite")
    if variant == "mace2d":
        return points
    missing = np.isnan(points).any(axis=2) | ~(trust > 0)
    return np.where(missing[..., None], np.nan, points)
