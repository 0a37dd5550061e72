import doctest
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import UnknownNameError
from macebench.metrics import frechet
from macebench.metrics.frechet import INFINITY_RATIO, frechet_distance, frechet_infinity, kernel_distance, standardise

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PARITY = SHARED / "golden" / "parity"
VBENCH = SHARED / "golden" / "vbench"
needs_shared = pytest.mark.skipif(not PARITY.is_dir(), reason="needs ../shared/golden")
RELEASED = {"normalise": "self", "eps": 1e-4, "ddof": 1, "drop_below": None}


def sets(n=200, m=150, f=8, seed=0, shift=0.3):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(f, f))
    return rng.normal(size=(n, f)) @ mix + shift, rng.normal(size=(m, f)) @ mix.T * 1.2


def root_distance(a, b):
    """The textbook formula with scipy's matrix root."""
    one, two = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = a.mean(axis=0) - b.mean(axis=0)
    return shift @ shift + np.trace(one + two - 2 * scipy.linalg.sqrtm(one @ two).real)


def closed_form():
    i, j = np.arange(200)[:, None], np.arange(8)[None]
    a = np.sin(0.37 * i * (j + 1) + j) + 0.1 * j
    return 1.2 * np.sin(0.41 * i * (j + 1) + 2 * j) + 0.1 * j + 0.05, a


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_matrix_root(seed):
    a, b = sets(seed=seed)
    assert frechet_distance(a, b, normalise="none").value == pytest.approx(root_distance(a, b), rel=1e-6)


def test_agrees_with_torchmetrics():
    import torch
    from torchmetrics.image.fid import _compute_fid

    a, b = sets()
    parts = [torch.from_numpy(v) for x in (a, b) for v in (x.mean(0), np.cov(x, rowvar=False))]
    assert frechet_distance(a, b, normalise="none").value == pytest.approx(_compute_fid(*parts).item(), rel=1e-6)


@needs_shared
@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("raw", {"normalise": "none"}),
        ("gt_norm_ddof0_eps1e-10", {"eps": 1e-10}),
        ("gt_norm_ddof1_eps1e-10", {"eps": 1e-10, "ddof": 1}),
        ("gt_norm_ddof1_eps1e-4", {"eps": 1e-4, "ddof": 1}),
        ("self_norm_ddof1_eps1e-4", RELEASED),
    ],
)
def test_closed_form_golden(key, options):
    golden = json.loads((PARITY / "fid_closed_form.json").read_text())["values"][key]
    result = frechet_distance(*closed_form(), **options)
    assert result.value == pytest.approx(golden["fid"], rel=1e-7)
    assert (result.n_generated, result.n_reference, result.dropped_features) == (200, 200, 0)


@needs_shared
@pytest.mark.parametrize("name", ["metrics_synthetic", "metrics_aist_clips"])
@pytest.mark.parametrize(("family", "array"), [("k", "mace2d_kinetic75"), ("g", "mace2d_geometric32")])
def test_released_2d_golden(name, family, array):
    golden = json.loads((PARITY / f"{name}.json").read_text())
    features = np.load(PARITY / f"{name}.npz")[array].astype(np.float64)
    result = frechet_distance(features[1::2], features[0::2], **RELEASED)
    assert result.value == pytest.approx(golden["aggregate"][f"mace2d_{family}"]["fid"], rel=1e-4)


@needs_shared
@pytest.mark.parametrize("code", ["lodge", "bailando"])
@pytest.mark.parametrize(("family", "array"), [("k", "kinetic"), ("g", "manual")])
def test_other_codes_on_the_same_features(code, family, array):
    golden = json.loads((VBENCH / "motion_scores.json").read_text())[code]
    data = np.load(VBENCH / "motions.npz")
    sets_ = [data[f"{code}_{side}_{array}"].astype(np.float64) for side in ("pred", "gt")]
    result = frechet_distance(*sets_, eps=1e-10, ddof=0, drop_below=1e-6)
    assert result.dropped_features == golden[f"n_constant_gt_columns_{family}"]
    assert result.value == pytest.approx(golden[f"fid_{family}_without_constant"], rel=1e-4)


@pytest.mark.parametrize("normalise", ["reference", "self", "none"])
@pytest.mark.parametrize("n", [2, 5, 30, 300])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e6])
def test_identical_sets_are_at_zero(n, normalise, scale):
    a = sets(n, 4, f=40)[0] * scale
    assert 0 <= frechet_distance(a, a.copy(), normalise=normalise).value < 1e-9


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 60), m=st.integers(2, 60), f=st.integers(1, 40), seed=st.integers(0, 99))
def test_real_and_never_negative(n, m, f, seed):
    value = frechet_distance(*sets(n, m, f, seed)).value
    assert isinstance(value, float)
    assert value >= 0
    assert np.isfinite(value)


def test_fewer_vectors_than_dimensions():
    """The null space adds no root: check against an embedding where the answer is known."""
    a, b = sets(6, 7, 5)
    turn = np.linalg.qr(np.random.default_rng(9).normal(size=(40, 40)))[0]
    wide_a, wide_b = (np.pad(x, ((0, 0), (0, 35))) @ turn for x in (a, b))
    small = frechet_distance(a, b, normalise="none").value
    assert frechet_distance(wide_a, wide_b, normalise="none").value == pytest.approx(small, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), normalise=st.sampled_from(["reference", "self", "none"]))
def test_order_of_clips_does_not_matter(seed, normalise):
    a, b = sets(40, 30, seed=seed)
    rng = np.random.default_rng(seed)
    first = frechet_distance(a, b, normalise=normalise).value
    second = frechet_distance(rng.permutation(a), rng.permutation(b), normalise=normalise).value
    assert second == pytest.approx(first, rel=1e-9, abs=1e-10)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_common_rotation_does_not_matter(seed):
    a, b = sets(seed=seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(8, 8)))[0]
    first = frechet_distance(a, b, normalise="none").value
    assert frechet_distance(a @ turn, b @ turn, normalise="none").value == pytest.approx(first, rel=1e-9)
    assert frechet_distance(b, a, normalise="none").value == pytest.approx(first, rel=1e-9)


def test_units_of_features_do_not_matter_under_reference():
    a, b = sets()
    units = np.logspace(-1, 3, 8)
    first = frechet_distance(a, b, eps=0.0).value
    assert frechet_distance(a * units, b * units, eps=0.0).value == pytest.approx(first, rel=1e-9)


def test_self_normalisation_is_blind_and_reference_is_not():
    """Spec of the defect: an affine copy of the set scores 0 under the released normaliser."""
    a = closed_form()[1]
    copy = 5 * a + 3
    assert frechet_distance(copy, a, **RELEASED).value < 1e-6
    assert frechet_distance(copy, a, eps=1e-10).value == pytest.approx(455.00045, rel=1e-6)


def test_constant_reference_columns_are_dropped_and_counted():
    a, b = sets()
    b = np.column_stack([b, np.zeros(len(b)), np.full(len(b), 1e9) + 1e-7])
    stray = np.column_stack([a, np.eye(len(a))[0], np.full(len(a), 3.0)])
    result = frechet_distance(stray, b)
    assert result.dropped_features == 2
    assert result.value == pytest.approx(frechet_distance(a, b[:, :8]).value, rel=1e-12)
    assert frechet_distance(stray[:, :9], b[:, :9], eps=1e-10, drop_below=None).value > 1e15


def test_standardise_by_hand():
    reference = np.array([[0.0, 5.0], [2.0, 5.0]])
    generated = np.array([[4.0, 1.0], [0.0, 2.0]])
    done = standardise(generated, reference, eps=0.0)
    np.testing.assert_allclose(done.reference, [[-1.0], [1.0]])
    np.testing.assert_allclose(done.generated, [[3.0], [-1.0]])
    assert done.dropped_features == 1
    own = standardise(generated, reference, normalise="self", eps=0.0, ddof=1, drop_below=None)
    np.testing.assert_allclose(own.generated, np.array([[1, -1], [-1, 1]]) / np.sqrt(2))
    np.testing.assert_allclose(own.reference, np.array([[-1, 0], [1, 0]]) / np.sqrt(2))
    none = standardise(generated, reference, normalise="none")
    assert (none.generated == generated).all()
    assert none.dropped_features == 0


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), r"\(5, 3\).*\(5, 4\)"),
        (np.zeros(5), np.zeros((5, 1)), r"\(5,\)"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "at least 2"),
        (np.zeros((0, 3)), np.zeros((5, 3)), "at least 2"),
        (np.zeros((5, 0)), np.zeros((5, 0)), r"\(5, 0\)"),
        (np.full((5, 3), np.nan), np.eye(5)[:, :3], "not finite"),
        (np.eye(5)[:, :3], np.full((5, 3), np.inf), "not finite"),
        (np.eye(5)[:, :3], np.ones((5, 3)), "constant"),
    ],
)
def test_malformed_sets(a, b, text):
    for compute in (frechet_distance, kernel_distance, frechet_infinity):
        with pytest.raises(ValueError, match=text):
            compute(a, b)


def test_unknown_normaliser_suggests():
    with pytest.raises(UnknownNameError, match="reference"):
        frechet_distance(*sets(), normalise="referenc")


def heavy(n, rng):
    return np.exp(rng.normal(size=(n, 24)) @ np.linalg.qr(np.random.default_rng(5).normal(size=(24, 24)))[0] * 0.5)


def test_bias_falls_with_n_and_infinity_removes_most_of_it():
    rng = np.random.default_rng(3)
    small, large = [], []
    for _ in range(5):
        small.append(frechet_distance(heavy(50, rng), heavy(50, rng)).value)
        large.append(frechet_distance(heavy(400, rng), heavy(400, rng)).value)
    assert np.mean(small) > 3 * np.mean(large)
    found = frechet_infinity(heavy(400, rng), heavy(400, rng))
    assert abs(found.value) < 0.25 * np.mean(large)
    assert found.slope > 0
    assert found.sizes[-1] == 400


def test_infinity_sees_a_real_difference_and_repeats_itself():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(400, 6)) + 1.0, rng.normal(size=(400, 6))
    found = frechet_infinity(a, b, normalise="none")
    assert found.value == pytest.approx(6.0, rel=0.15)
    assert frechet_infinity(a, b, normalise="none") == found
    with pytest.raises(ValueError, match="8 vectors"):
        frechet_infinity(a[:7], b)


def plain_kernel(a, b):
    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    n, m = len(a), len(b)
    own = sum(k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j) / (n * (n - 1))
    other = sum(k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j) / (m * (m - 1))
    return own + other - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_kernel_distance_is_the_plain_sum():
    a, b = sets(15, 12, 5)
    result = kernel_distance(a, b, normalise="none")
    assert result.value == pytest.approx(plain_kernel(a, b), rel=1e-10)
    drop = [plain_kernel(np.delete(a, i, 0), b) for i in range(15)]
    drop_b = [plain_kernel(a, np.delete(b, i, 0)) for i in range(12)]
    wanted = np.sqrt(14 * np.var(drop) + 11 * np.var(drop_b))
    assert result.standard_error == pytest.approx(wanted, rel=1e-8)


def test_kernel_distance_is_not_biased_and_its_error_is_honest():
    rng = np.random.default_rng(6)
    found = [kernel_distance(rng.normal(size=(40, 6)), rng.normal(size=(40, 6)), normalise="none") for _ in range(150)]
    values = np.array([item.value for item in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(150)
    assert np.mean([item.standard_error for item in found]) == pytest.approx(values.std(), rel=0.4)
    with pytest.raises(ValueError, match="at least 3"):
        kernel_distance(np.eye(2), np.eye(3)[:, :2])


def test_blocks_do_not_change_the_kernel_distance(monkeypatch):
    a, b = sets(50, 40)
    whole = kernel_distance(a, b)
    monkeypatch.setattr(frechet, "_BLOCK_BYTES", 1000)
    assert kernel_distance(a, b).value == pytest.approx(whole.value, rel=1e-12)


def test_examples():
    assert doctest.testmod(frechet).failed == 0
    assert doctest.testmod(frechet).attempted > 0


def test_infinity_of_a_set_against_itself_is_0_and_not_below():
    values = np.random.default_rng(6).normal(size=(20, 12))
    found = frechet_infinity(values, values[::-1], normalise="none")
    assert (found.value, found.slope) == (0.0, 0.0)
    assert frechet_infinity(values, values + 1e-3, normalise="none").value != 0.0


@pytest.mark.parametrize("n_features", [32, 72])
def test_infinity_is_near_the_truth_from_five_vectors_a_feature_on_and_not_at_one(n_features):
    def errors(n):
        rng = np.random.default_rng(n)
        sets = [rng.normal(size=(2, n, n_features)) for _ in range(6)]
        return [frechet_infinity(*pair, normalise="none").value / n_features for pair in sets]

    assert max(map(abs, errors(INFINITY_RATIO * n_features))) < 0.05
    assert np.mean(errors(n_features)) > 0.1
