"""What the set metrics of 2-D and 3-D motion share: two feature sets and a protocol in, columns out.

Everything that decides a number is in the protocol's normaliser (`macebench.metrics.frechet.standardise`). The notes
say what a reader must know: columns that are constant in the reference, and sets with fewer clips than features,
whose covariance is singular and whose Fréchet distance is mostly bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from macebench.errors import Unscorable
from macebench.metrics.diversity import diversity
from macebench.metrics.frechet import (
    INFINITY_RATIO,
    frechet_distance,
    frechet_infinity,
    kernel_distance,
    varying_features,
)
from macebench.protocol import Protocol
from macebench.registry import Column
from macebench.types import FeatureSet

CONSTANT_REFERENCE = "all features are constant in the reference"
TOO_FEW_FOR_KERNEL = "fewer than 3 clips with features"
TOO_FEW_FOR_INFINITY = "fewer than 8 clips with features"
UNSURE = "too few to extrapolate"
MIN_KERNEL, MIN_INFINITY = 3, 8

Values = dict[str, float | str]


def kernel_columns(family: str) -> tuple[Column, Column]:
    """Columns of the kernel distance of ``k`` (kinetic) or ``g`` (geometric) features."""
    return (
        Column(f"kid_{family}", better="lower", summary="Unbiased kernel distance; around 0 for equal distributions"),
        Column(f"kid_{family}_se", better="lower", summary="Standard error of the kernel distance (jackknife)"),
    )


def infinity_columns(family: str) -> tuple[Column]:
    """Column of the extrapolated Fréchet distance of ``k`` or ``g`` features."""
    return (Column(f"fid_infinity_{family}", better="lower", summary="Fréchet distance extrapolated to infinite n"),)


def distance(column: str, generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> Values:
    """The Fréchet distance under `column`, with its notes."""
    options, notes = _normaliser(reference, protocol)
    result = frechet_distance(generated.values, reference.values, **options)
    notes += _small(generated, reference, result.dropped_features)
    return _noted({column: result.value}, notes)


def spread(column: str, generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> Values:
    """The mean pairwise distance of the generated set under `column`, with its notes."""
    options, notes = _normaliser(reference, protocol)
    return _noted({column: diversity(generated.values, reference=reference.values, **options)}, notes)


def kernel(family: str, generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> Values:
    """The kernel distance and its standard error under the columns of `kernel_columns`.

    Raises:
        Unscorable: a set has fewer than 3 vectors.
    """
    if min(len(generated), len(reference)) < MIN_KERNEL:
        raise Unscorable(TOO_FEW_FOR_KERNEL)
    options, notes = _normaliser(reference, protocol)
    result = kernel_distance(generated.values, reference.values, **options)
    return _noted({f"kid_{family}": result.value, f"kid_{family}_se": result.standard_error}, notes)


def infinity(family: str, generated: FeatureSet, reference: FeatureSet, protocol: Protocol) -> Values:
    """The extrapolated Fréchet distance under the column of `infinity_columns`, noted where it cannot be trusted.

    Raises:
        Unscorable: a set has fewer than 8 vectors.
    """
    if min(len(generated), len(reference)) < MIN_INFINITY:
        raise Unscorable(TOO_FEW_FOR_INFINITY)
    options, notes = _normaliser(reference, protocol)
    result = frechet_infinity(generated.values, reference.values, **options)
    dropped = int(np.count_nonzero(~_varying(reference, protocol)))
    n, features = min(len(generated), len(reference)), generated.values.shape[1] - dropped
    notes += [f"n {n} below {INFINITY_RATIO} x {features} features: {UNSURE}"] if n < INFINITY_RATIO * features else []
    return _noted({f"fid_infinity_{family}": result.value}, notes)


def _varying(reference: FeatureSet, protocol: Protocol) -> Any:
    rules = protocol.need_normaliser()
    limit = None if rules.mode == "none" else rules.drop_below
    return varying_features(reference.values, ddof=rules.ddof, drop_below=limit)


def _normaliser(reference: FeatureSet, protocol: Protocol) -> tuple[dict[str, Any], list[str]]:
    """Options of `standardise`, and a note when it drops columns."""
    rules = protocol.need_normaliser()
    options = {"normalise": rules.mode, "eps": rules.eps, "ddof": rules.ddof, "drop_below": rules.drop_below}
    varying = _varying(reference, protocol)
    if not varying.any():
        raise Unscorable(CONSTANT_REFERENCE)
    dropped = int(np.count_nonzero(~varying))
    note = f"{dropped} of {len(varying)} features constant in the reference, left out"
    return options, [note] if dropped else []


def _small(generated: FeatureSet, reference: FeatureSet, dropped: int) -> list[str]:
    """A note when a set has fewer clips than features."""
    n, features = min(len(generated), len(reference)), generated.values.shape[1] - dropped
    return [f"n {n} below {features} features: biased"] if n < features else []


def _noted(values: dict[str, float], notes: list[str]) -> Values:
    return {**values, **({"note": "; ".join(notes)} if notes else {})}
