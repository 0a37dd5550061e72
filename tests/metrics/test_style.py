import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sk_confusion
from sklearn.metrics import f1_score, precision_score, recall_score

from macebench.errors import UnknownNameError
from macebench.metrics import style
from macebench.metrics.frechet import frechet_distance
from macebench.metrics.style import macro_scores, style_scores

CLASSES = 20


def sets(n=60, m=80, seed=0, used=16):
    """Logits of dances whose genre is often, not always, the largest."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, used, n)
    logits = rng.normal(size=(n, CLASSES))
    logits[np.arange(n), labels] += 1.5
    return logits, labels, rng.normal(size=(m, CLASSES)) + 0.2


@pytest.mark.parametrize("seed", range(4))
def test_published_agrees_with_scikit_learn(seed):
    logits, labels, reference = sets(seed=seed)
    found = style_scores(logits, labels, reference=reference, variant="published")
    guess = logits.argmax(axis=1)
    precision = precision_score(labels, guess, average="macro", zero_division=0)
    recall = recall_score(labels, guess, average="macro", zero_division=0)
    assert found.precision == pytest.approx(precision, abs=1e-12)
    assert found.recall == pytest.approx(recall, abs=1e-12)
    assert found.macro_f1 == pytest.approx(2 * precision * recall / (precision + recall + 1e-8), abs=1e-12)
    assert found.accuracy == pytest.approx(np.mean(guess == labels), abs=1e-12)
    np.testing.assert_array_equal(found.confusion, sk_confusion(labels, guess, labels=range(CLASSES)))
    assert (found.n, found.confusion.shape, found.dropped_logits) == (60, (CLASSES, CLASSES), 0)


@pytest.mark.parametrize("seed", range(4))
def test_fixed_agrees_with_scikit_learn(seed):
    logits, labels, reference = sets(seed=seed, used=5)
    found = style_scores(logits, labels, reference=reference)
    guess, occur = logits.argmax(axis=1), np.unique(labels)
    options = {"labels": occur, "average": "macro", "zero_division": 0}
    assert found.macro_f1 == pytest.approx(f1_score(labels, guess, **options), abs=1e-12)
    assert found.precision == pytest.approx(precision_score(labels, guess, **options), abs=1e-12)
    assert found.recall == pytest.approx(recall_score(labels, guess, **options), abs=1e-12)
    # Predictions of genres that nobody asked for lower the published scores a second time.
    assert found.recall > style_scores(logits, labels, reference=reference, variant="published").recall


def test_by_hand():
    """Two genres, four dances, one of them taken for the other."""
    confusion = np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]])
    precision, recall, f1 = macro_scores(confusion, variant="fixed")
    assert (precision, recall) == (pytest.approx((2 / 3 + 1) / 2), 0.75)
    assert f1 == pytest.approx((0.8 + 2 / 3) / 2)
    assert macro_scores(confusion, variant="published")[2] == pytest.approx(
        2 * precision * recall / (precision + recall)
    )


def test_published_f1_rewards_a_classifier_that_is_right_in_halves():
    """Precision 1 on one genre, recall 1 on the other: the F1 of the means is above the mean of the F1."""
    confusion = np.array([[1, 9], [0, 10]])
    assert macro_scores(confusion, variant="published")[2] > macro_scores(confusion, variant="fixed")[2] + 0.15


def test_nothing_right_is_zero_and_all_right_is_one():
    logits, reference = np.eye(4)[[1, 2, 3, 0]], sets()[2][:, :4]
    for variant in style.VARIANTS:
        wrong = style_scores(logits, [0, 1, 2, 3], reference=reference, variant=variant)
        assert (wrong.accuracy, wrong.macro_f1) == (0, 0)
        right = style_scores(logits, [1, 2, 3, 0], reference=reference, variant=variant)
        assert right.accuracy == 1
        assert right.macro_f1 == pytest.approx(1, abs=1e-7)


def test_distances_are_on_the_scale_of_the_ground_truth():
    logits, labels, reference = sets()
    found = style_scores(logits, labels, reference=reference, variant="published")
    mean, deviation = reference.mean(axis=0), reference.std(axis=0, ddof=1) + 1e-10
    a, b = (logits - mean) / deviation, (reference - mean) / deviation
    assert found.fid == pytest.approx(frechet_distance(a, b, normalise="none").value, rel=1e-9)
    pairs = [np.linalg.norm(a[i] - a[j]) for i in range(60) for j in range(i)]
    assert found.div == pytest.approx(np.mean(pairs), rel=1e-9)
    assert style_scores(reference, np.zeros(80, int), reference=reference).fid == pytest.approx(0, abs=1e-9)


def test_constant_logits_explode_as_published_and_are_dropped_in_fixed():
    logits, labels, reference = sets()
    reference[:, 7] = 1.0
    assert style_scores(logits, labels, reference=reference, variant="published").fid > 1e15
    found = style_scores(logits, labels, reference=reference)
    keep = [k for k in range(CLASSES) if k != 7]
    assert found.dropped_logits == 1
    assert found.fid == pytest.approx(frechet_distance(logits[:, keep], reference[:, keep]).value, rel=1e-9)


def test_bad_input():
    logits, labels, reference = sets()
    for bad in (labels[:-1], labels + CLASSES, labels - 1 - labels.max(), labels + 0.5):
        with pytest.raises(ValueError, match="labels"):
            style_scores(logits, bad, reference=reference)
    with pytest.raises(ValueError, match="not finite"):
        style_scores(np.where(logits > 2, np.nan, logits), labels, reference=reference)
    with pytest.raises(ValueError, match="at least 2"):
        style_scores(logits[:1], labels[:1], reference=reference)
    with pytest.raises(ValueError, match="no dance"):
        macro_scores(np.zeros((3, 3), int))
    with pytest.raises(UnknownNameError, match="published"):
        style_scores(logits, labels, reference=reference, variant="publishd")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000))
def test_order_of_dances_and_names_of_genres_do_not_matter(seed):
    logits, labels, reference = sets(n=12, seed=seed)
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(12), rng.permutation(CLASSES)
    for variant in style.VARIANTS:
        one = style_scores(logits, labels, reference=reference, variant=variant)
        renamed = np.argsort(names)[labels]
        two = style_scores(logits[order][:, names], renamed[order], reference=reference[:, names], variant=variant)
        for name in ("fid", "div", "accuracy", "precision", "recall", "macro_f1"):
            assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-9)


def test_examples():
    assert doctest.testmod(style).failed == 0
