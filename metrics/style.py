"""Style scores of MEGADance: does a dance look like its genre to a classifier?

A classifier of genres gives each dance C logits (C = 20 in the released code, 16 of them used). From them
(Yang et al., "MEGADance", 2025; repository XulongT/MEGADance):

- FID_s and DIV_s: Fréchet distance and diversity of the logits, standardised by the ground truth's;
- accuracy: share of dances whose largest logit is their genre;
- macro precision P and recall R, means over classes of ``hits / predicted`` and ``hits / labelled``, 0 where
  the divisor is 0; ``F1 = 2 P R / (P + R + 1e-8)``.

Variants:

- ``published``: as above. Classes are those that occur as a label or as a prediction. Logits are standardised with
  torch's deviation (divisor n - 1) plus 1e-10: a logit that is constant in the ground truth makes FID_s meaningless.
  F1 of two means is not the mean of the classes' F1: a classifier can have high P and R on different classes.
- ``fixed``: F1 is the mean of the classes' own F1; classes are those that occur as a label, so that a stray prediction
  does not add a class of score 0; constant logits are dropped and counted; deviation with divisor n plus 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.metrics.diversity import diversity
from macebench.metrics.frechet import frechet_distance
from macebench.registry import unknown
from macebench.types import FloatArray

VARIANTS = ("published", "fixed")
_NORMALISERS: dict[str, dict[str, Any]] = {
    "published": {"eps": 1e-10, "ddof": 1, "drop_below": None},
    "fixed": {"eps": 1e-4, "ddof": 0, "drop_below": 1e-6},
}


@dataclass(frozen=True)
class StyleScores:
    """Style scores of a set of dances.

    Attributes:
        fid: Fréchet distance of the logits to the ground truth's.
        div: Mean pairwise distance of the logits, on the ground truth's scale.
        accuracy: Share of dances classified as their genre.
        precision: Macro precision, in [0, 1].
        recall: Macro recall, in [0, 1].
        macro_f1: Macro F1, in [0, 1].
        n: Dances.
        confusion: (C, C) counts; row = genre, column = classified as.
        dropped_logits: Logits that are constant in the ground truth and left out of `fid` and `div`.
    """

    fid: float
    div: float
    accuracy: float
    precision: float
    recall: float
    macro_f1: float
    n: int
    confusion: NDArray[np.int64]
    dropped_logits: int = 0


def style_scores(
    logits: FloatArray, labels: NDArray[Any], *, reference: FloatArray, variant: str = "fixed"
) -> StyleScores:
    """Style scores from a classifier's logits.

    Args:
        logits: (N, C) of the generated dances, N at least 2.
        labels: (N,) whole numbers in 0..C-1: the genre that each dance was made for.
        reference: (M, C) logits of the ground truth, M at least 2.
        variant: ``published`` or ``fixed``.

    Raises:
        ValueError: shapes do not fit, a value is not finite, a label is no class, or a set has fewer than 2 dances.
        UnknownNameError: no such variant.
    """
    if variant not in VARIANTS:
        raise unknown("variant of style scores", variant, VARIANTS, "macebench ls protocols")
    values, genres = _check(logits, labels)
    options = _NORMALISERS[variant]
    distance = frechet_distance(values, reference, **options)
    confusion = confusion_matrix(values.argmax(axis=1), genres, values.shape[1])
    precision, recall, f1 = macro_scores(confusion, variant=variant)
    return StyleScores(
        fid=distance.value,
        div=diversity(values, reference=reference, **options),
        accuracy=float(np.trace(confusion) / len(genres)),
        precision=precision,
        recall=recall,
        macro_f1=f1,
        n=len(genres),
        confusion=confusion,
        dropped_logits=distance.dropped_features,
    )


def _check(logits: FloatArray, labels: NDArray[Any]) -> tuple[FloatArray, NDArray[np.int64]]:
    values, genres = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2 or genres.shape != values.shape[:1]:
        raise ValueError(f"logits {values.shape} and labels {genres.shape} must be (N, C) and (N,)")
    if not np.isfinite(values).all():
        raise ValueError(f"logits {values.shape} hold values that are not finite")
    whole = np.issubdtype(genres.dtype, np.integer) or np.array_equal(genres, np.floor(genres))
    if not whole or (len(genres) and (genres.min() < 0 or genres.max() >= values.shape[1])):
        raise ValueError(f"labels must be whole numbers from 0 to {values.shape[1] - 1}")
    return values, genres.astype(np.int64)


def confusion_matrix(predicted: NDArray[Any], labels: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """(C, C) counts; row = label, column = prediction. Both are (N,) whole numbers in 0..C-1."""
    cells = np.asarray(labels, dtype=np.int64) * n_classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes).astype(np.int64)


def macro_scores(confusion: NDArray[np.int64], *, variant: str = "fixed") -> tuple[float, float, float]:
    """Macro precision, recall and F1 of a confusion matrix; see the module's docstring for the variants.

    Raises:
        ValueError: the matrix is empty.

    Example:
        >>> macro_scores(np.array([[2, 0], [1, 1]]), variant="fixed")
        (0.8333333333333333, 0.75, 0.7333333333333334)
    """
    labelled, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    used = (labelled > 0) | (predicted > 0) if variant == "published" else labelled > 0
    if not used.any():
        raise ValueError("no dance to score")
    hits = np.diag(confusion)[used].astype(np.float64)
    precision, recall = _share(hits, predicted[used]), _share(hits, labelled[used])
    mean_precision, mean_recall = float(precision.mean()), float(recall.mean())
    if variant == "published":
        f1 = 2 * mean_precision * mean_recall / (mean_precision + mean_recall + 1e-8)
    else:
        f1 = float(_share(2 * hits, labelled[used] + predicted[used]).mean())
    return mean_precision, mean_recall, f1


def _share(part: FloatArray, whole: NDArray[np.int64]) -> FloatArray:
    """Part over whole, 0 where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0))
