"""VBench's appearance scores of one clip, as formulas on what the networks gave for its frames.

Source: Huang et al., "VBench: Comprehensive Benchmark Suite for Video Generative Models", CVPR 2024, and its code,
version 0.1.5 (`vbench/imaging_quality.py`, `aesthetic_quality.py`, `subject_consistency.py`,
`background_consistency.py`). All frames count; sums are in float64.

| score | of each frame | formula | range |
|---|---|---|---|
| imaging quality | MUSIQ SPAQ, 0 to 100 | mean | 0 to 100 |
| aesthetic quality | CLIP ViT-L/14 | mean of LAION's linear head / 10 | about 0 to 1 |
| subject consistency | DINO ViT-B/16 | see `consistency` | 0 to 1 |
| background consistency | CLIP ViT-B/32 | see `consistency` | 0 to 1 |

Both consistencies reward not moving: a frozen clip scores 1. Read them against the reference's value.
"""

from __future__ import annotations

import numpy as np

from macebench.errors import Unscorable
from macebench.types import FloatArray

NO_FRAMES = "no frames"
TOO_SHORT = "too short"


def imaging_quality(values: FloatArray) -> float:
    """Mean over (T,) scores of frames, 0 to 100.

    Raises:
        Unscorable: no frames.
    """
    if not len(values):
        raise Unscorable(NO_FRAMES)
    return float(np.mean(np.asarray(values, dtype=np.float64)))


def aesthetic_quality(features: FloatArray, weight: FloatArray, bias: float) -> float:
    """Mean over frames of ``(feature . weight + bias) / 10``.

    Args:
        features: (T, F) vectors of length 1.
        weight: (F,) of the linear head.
        bias: Of the linear head.

    Raises:
        Unscorable: no frames.
    """
    if not len(features):
        raise Unscorable(NO_FRAMES)
    scores = np.asarray(features, dtype=np.float64) @ np.asarray(weight, dtype=np.float64) + bias
    return float(np.mean(scores / 10.0))


def consistency(features: FloatArray) -> FloatArray:
    """(T - 1,) likeness of each frame but the first: ``(max(0, f_(t-1) . f_t) + max(0, f_0 . f_t)) / 2``.

    Args:
        features: (T, F) vectors of length 1.

    Raises:
        Unscorable: fewer than two frames.
    """
    if len(features) < 2:
        raise Unscorable(TOO_SHORT)
    vectors = np.asarray(features, dtype=np.float64)
    return _likeness(vectors[0], vectors[:-1], vectors[1:])


def gridded_consistency(features: FloatArray) -> FloatArray:
    """(N,) values of `consistency` for N of a clip's frames, from the frames that are needed for them.

    Args:
        features: (1 + 2 N, F) vectors of length 1: of the clip's first frame, then of each of the N frames' true
            predecessor and of the frame itself (`macebench.grid`).

    Raises:
        Unscorable: no pair.
    """
    if len(features) < 3:
        raise Unscorable(TOO_SHORT)
    vectors = np.asarray(features, dtype=np.float64)
    return _likeness(vectors[0], vectors[1::2], vectors[2::2])


def _likeness(first: FloatArray, before: FloatArray, after: FloatArray) -> FloatArray:
    """(N,) mean likeness of (N, F) vectors to those before them and to the first."""
    to_last = np.einsum("tf,tf->t", before, after)
    return np.asarray((np.maximum(to_last, 0.0) + np.maximum(after @ first, 0.0)) / 2.0)


def subject_consistency(features: FloatArray) -> float:
    """Mean `consistency` of (T, 768) DINO vectors.

    Raises:
        Unscorable: fewer than two frames.
    """
    return float(np.mean(consistency(features)))


def background_consistency(features: FloatArray) -> float:
    """Mean `consistency` of (T, 512) CLIP ViT-B/32 vectors.

    Raises:
        Unscorable: fewer than two frames.
    """
    return float(np.mean(consistency(features)))
