"""Scores of pictures against pictures for the pose-driven animation track: PSNR, SSIM, LPIPS, L1 and FVD.

The first four compare each frame with the reference's frame of the same time (`macebench.pairs` pairs them); a clip's
value is the mean over its frames, a set's the mean over its clips. FVD compares two sets of short clips and needs no
pairs.

- ``l1``: mean absolute difference over pixels and channels, in levels of 0 to 255.
- ``psnr``: ``10 log10(255^2 / MSE)`` in dB, the MSE over pixels and channels. Equal frames have no finite value: the
  protocol's cap (100 dB, as in DisCo's code) stands for them and for whatever is above it, and they are noted.
- ``ssim``: see `macebench.metrics._ssim`; the protocol names one of four variants.
- ``lpips_alex``, ``lpips_vgg``: Zhang, Isola, Efros, Shechtman and Wang, "The unreasonable effectiveness of deep
  features as a perceptual metric", 2018, version 0.1; computed by `macebench.models.appearance.lpips`.
- ``fvd``: Unterthiner et al., "FVD: a new metric for video generation", 2019: Fréchet distance, not standardised,
  between features of clips of 16 consecutive frames at the video's own rate, without overlap (a rest shorter than 16
  is left out). Features are an extractor's (I3D's 400 logits, `macebench.models.appearance.i3d`). Biased upwards by
  an amount that grows as the sets get smaller: under 2 clips a set it is refused, under 256 noted.
- ``fvd_infinity``: `macebench.metrics.frechet.frechet_infinity` of the same features. Below 5 clips a feature (2,000
  for I3D) in either set it is refused: on two sets of one distribution it is then off by up to half of their variance.

Published tables rarely say which of these options they used; a value is comparable under one protocol hash only.
Sums of pixels are exact integers, so results do not depend on how frames are batched.

Known limits: PSNR, SSIM and L1 punish a shift of one pixel more than a blur. FVD of fewer clips than features (400)
rests on singular covariances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.errors import Unscorable
from macebench.metrics._ssim import ssim_pair
from macebench.metrics.frechet import (
    INFINITY_RATIO,
    FrechetInfinity,
    FrechetResult,
    frechet_distance,
    frechet_infinity,
)
from macebench.protocol import PixelRules, Protocol
from macebench.registry import Column, feature, frame_statistic, metric
from macebench.types import Evidence, FeatureSet, FloatArray

PSNR_CAP_DB = 100.0
CLIP_FRAMES = 16
FVD_CLIPS_MIN, FVD_CLIPS_GOOD, FVD_INFINITY_MIN = 2, 256, 8
DIFFERENCES, SSIM, LPIPS_ALEX, LPIPS_VGG = "pair_differences", "pair_ssim", "pair_lpips_alex", "pair_lpips_vgg"
I3D = "i3d_16"
NO_FRAMES = "no frames"
TOO_SHORT = f"shorter than {CLIP_FRAMES} frames"
EQUAL_FRAMES = "has frames equal to the reference's"
_PEAK = 255.0

Frames = NDArray[np.uint8]


# ---- formulas -------------------------------------------------------------------------------------------


def squared_error(generated: Frames, reference: Frames) -> FloatArray:
    """(T,) mean squared difference of each frame, in squared levels; arguments as for `psnr`."""
    pairs = zip(*_same(generated, reference), strict=True)
    return np.array([_squared_sum(one, two) / one.size for one, two in pairs], dtype=np.float64)


def psnr(generated: Frames, reference: Frames, *, cap_db: float = PSNR_CAP_DB) -> FloatArray:
    """(T,) peak signal-to-noise ratio of each frame in dB.

    Args:
        generated: (T, H, W, 3) uint8.
        reference: (T, H, W, 3) uint8.
        cap_db: Largest value; that of equal frames.

    Raises:
        ValueError: shapes or types do not fit.

    Example:
        >>> import numpy as np
        >>> dark = np.zeros((1, 2, 2, 3), np.uint8)
        >>> psnr(dark, dark + np.uint8(51)).round(4).tolist(), psnr(dark, dark).tolist()
        ([13.9794], [100.0])
    """
    return psnr_of(squared_error(generated, reference), cap_db)


def psnr_of(squared_errors: FloatArray, cap_db: float = PSNR_CAP_DB) -> FloatArray:
    """(T,) PSNR in dB of (T,) mean squared errors."""
    floor = _PEAK**2 / 10 ** (cap_db / 10)
    return np.minimum(10.0 * np.log10(_PEAK**2 / np.maximum(squared_errors, floor)), cap_db)


def l1(generated: Frames, reference: Frames) -> FloatArray:
    """(T,) mean absolute difference of each frame in levels, 0 to 255; arguments as for `psnr`."""
    pairs = zip(*_same(generated, reference), strict=True)
    return np.array([_absolute_sum(one, two) / one.size for one, two in pairs], dtype=np.float64)


def ssim(generated: Frames, reference: Frames, *, variant: str = "grey-uniform7") -> FloatArray:
    """(T,) structural similarity of each frame, in [-1, 1].

    Args:
        generated: (T, H, W, 3) uint8.
        reference: (T, H, W, 3) uint8.
        variant: One of `macebench.metrics._ssim.VARIANTS`.

    Raises:
        Unscorable: a side is shorter than the variant's window.
        ValueError: shapes or types do not fit.
        UnknownNameError: no such variant.
    """
    pairs = zip(*_same(generated, reference), strict=True)
    return np.array([ssim_pair(one, two, variant) for one, two in pairs], dtype=np.float64)


def _same(generated: Frames, reference: Frames) -> tuple[Frames, Frames]:
    for frames in (generated, reference):
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not all(frames.shape[1:]):
            raise ValueError(f"frames {frames.shape} {frames.dtype}, expected (T, H, W, 3) uint8")
    if generated.shape != reference.shape:
        raise ValueError(f"generated {generated.shape} and reference {reference.shape} must have one shape")
    return generated, reference


def _absolute_sum(one: Frames, two: Frames) -> int:
    return int((np.maximum(one, two) - np.minimum(one, two)).sum(dtype=np.uint64))


def _squared_sum(one: Frames, two: Frames) -> int:
    difference = (np.maximum(one, two) - np.minimum(one, two)).astype(np.uint16).ravel()
    difference *= difference  # 255^2 fits in 16 bits
    return int(difference.sum(dtype=np.uint64))


# ---- FVD ------------------------------------------------------------------------------------------------


def fvd(generated: FloatArray, reference: FloatArray) -> FrechetResult:
    """Fréchet video distance of two sets of clip features.

    Args:
        generated: (N, F) features of clips of 16 frames.
        reference: (M, F) features of clips of 16 frames.

    Raises:
        Unscorable: a set has fewer than 2 clips.
        ValueError: shapes do not fit or a value is not finite.
    """
    _check_clips(generated, reference, FVD_CLIPS_MIN)
    return frechet_distance(generated, reference, normalise="none")


def fvd_infinity(generated: FloatArray, reference: FloatArray, *, seed: int = 0) -> FrechetInfinity:
    """Fréchet video distance extrapolated to infinitely many clips; arguments as for `fvd`.

    Raises:
        Unscorable: a set has fewer than 5 clips a feature (`macebench.metrics.frechet.INFINITY_RATIO`).
        ValueError: shapes do not fit or a value is not finite.
    """
    _check_clips(generated, reference, max(FVD_INFINITY_MIN, INFINITY_RATIO * generated.shape[1]))
    return frechet_infinity(generated, reference, normalise="none", seed=seed)


def _check_clips(generated: FloatArray, reference: FloatArray, least: int) -> None:
    for name, values in (("generated set", generated), ("reference", reference)):
        if len(values) < least:
            raise Unscorable(f"{name} has fewer than {least} clips of {CLIP_FRAMES} frames")


def fvd_note(generated: int, reference: int) -> str:
    """What a reader must know of an FVD from so many clips; empty when there are enough."""
    if min(generated, reference) >= FVD_CLIPS_GOOD:
        return ""
    counts = f"{generated} generated and {reference} reference clips of {CLIP_FRAMES} frames"
    return f"{counts}: under {FVD_CLIPS_GOOD} the value is biased upwards"


def fvd_infinity_note(generated: int, reference: int, n_features: int) -> str:
    """What a reader must know of an extrapolated FVD from so many clips; empty when there are enough."""
    if min(generated, reference) >= 2 * INFINITY_RATIO * n_features:
        return ""
    counts = f"{generated} generated and {reference} reference clips of {CLIP_FRAMES} frames"
    return f"{counts} for {n_features} features: extrapolated to about 2 % of the features' variance"


# ---- statistics of pairs --------------------------------------------------------------------------------


@frame_statistic(DIFFERENCES)
class PairDifferences:
    """Mean squared and mean absolute difference of paired frames, (T, 2). A pair statistic (`macebench.pairs`)."""

    version = 1

    def __init__(self, rules: PixelRules) -> None:
        self._parts: list[FloatArray] = []

    @classmethod
    def ingredients(cls, rules: PixelRules) -> Mapping[str, Any]:
        """Nothing of the rules matters."""
        return {}

    def update(self, generated: Frames, reference: Frames) -> None:
        """Take the next (B, H, W, 3) frames of both."""
        both = squared_error(generated, reference), l1(generated, reference)
        self._parts.append(np.stack(both, axis=1))

    def result(self) -> FloatArray:
        """(T, 2) in squared levels and in levels."""
        return np.concatenate(self._parts) if self._parts else np.empty((0, 2))


@frame_statistic(SSIM)
class PairSsim:
    """SSIM of paired frames in the protocol's variant, (T,). A pair statistic (`macebench.pairs`)."""

    version = 1

    def __init__(self, rules: PixelRules) -> None:
        self._variant = rules.ssim
        self._parts: list[FloatArray] = []

    @classmethod
    def ingredients(cls, rules: PixelRules) -> Mapping[str, Any]:
        """The variant."""
        return {"variant": rules.ssim}

    def update(self, generated: Frames, reference: Frames) -> None:
        """Take the next (B, H, W, 3) frames of both. Raises `Unscorable` when they are too small."""
        self._parts.append(ssim(generated, reference, variant=self._variant))

    def result(self) -> FloatArray:
        """(T,) in [-1, 1]."""
        return np.concatenate(self._parts) if self._parts else np.empty(0)


# ---- registered scores ----------------------------------------------------------------------------------


def _mean(evidence: Evidence, statistic: str) -> float:
    values = evidence.need_frames(statistic)
    if not len(values):
        raise Unscorable(NO_FRAMES)
    return math.fsum(values) / len(values)


@metric("psnr", unit="dB", better="higher", needs=(f"pairs:{DIFFERENCES}",))
def psnr_score(evidence: Evidence, protocol: Protocol) -> dict[str, Any]:
    """Peak signal-to-noise ratio against the reference's frames; mean over frames."""
    errors = evidence.need_frames(DIFFERENCES)
    if not len(errors):
        raise Unscorable(NO_FRAMES)
    values = psnr_of(errors[:, 0], protocol.need_pixels().psnr_cap_db)
    note = EQUAL_FRAMES if np.any(errors[:, 0] == 0) else ""
    return {"psnr": math.fsum(values) / len(values), "note": note}


@metric("l1", unit="levels of 255", better="lower", needs=(f"pairs:{DIFFERENCES}",))
def l1_score(evidence: Evidence, protocol: Protocol) -> float:
    """Mean absolute difference from the reference's frames."""
    differences = evidence.need_frames(DIFFERENCES)
    if not len(differences):
        raise Unscorable(NO_FRAMES)
    return math.fsum(differences[:, 1]) / len(differences)


@metric("ssim", better="higher", needs=(f"pairs:{SSIM}",))
def ssim_score(evidence: Evidence, protocol: Protocol) -> float:
    """Structural similarity to the reference's frames, in the protocol's variant; mean over frames."""
    return _mean(evidence, SSIM)


@metric("lpips_alex", better="lower", needs=(f"pairs:{LPIPS_ALEX}",))
def lpips_alex(evidence: Evidence, protocol: Protocol) -> float:
    """Perceptual distance from the reference's frames (LPIPS 0.1, AlexNet); mean over frames."""
    return _mean(evidence, LPIPS_ALEX)


@metric("lpips_vgg", better="lower", needs=(f"pairs:{LPIPS_VGG}",))
def lpips_vgg(evidence: Evidence, protocol: Protocol) -> float:
    """Perceptual distance from the reference's frames (LPIPS 0.1, VGG-16); mean over frames."""
    return _mean(evidence, LPIPS_VGG)


@feature(I3D, needs=(f"frames:{I3D}",))
def i3d_16(evidence: Evidence, protocol: Protocol) -> FloatArray:
    """Features of all clips of 16 frames of a video, one after another: (K * F,) for K clips."""
    values = evidence.need_frames(I3D)
    if not len(values):
        raise Unscorable(TOO_SHORT)
    return np.asarray(values, dtype=np.float64).ravel()


_FVD = Column("fvd", "1", "lower", "Fréchet video distance of clips of 16 frames (I3D).")
_FVD_INFINITY = Column("fvd_infinity", "1", "lower", "Fréchet video distance extrapolated to infinitely many clips.")


@metric("fvd", feature=I3D, columns=(_FVD,))
def fvd_score(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> dict[str, Any]:
    """Fréchet video distance; each row of a set is one clip of 16 frames."""
    value = fvd(generated.values, reference.values).value
    return {"fvd": value, "note": fvd_note(len(generated), len(reference))}


@metric("fvd_infinity", feature=I3D, columns=(_FVD_INFINITY,))
def fvd_infinity_score(generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> dict[str, Any]:
    """Fréchet video distance at infinitely many clips; each row of a set is one clip of 16 frames."""
    value = fvd_infinity(generated.values, reference.values).value
    note = fvd_infinity_note(len(generated), len(reference), generated.values.shape[1])
    return {"fvd_infinity": value, "note": note}
