import doctest
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from macebench.metrics import diversity as module
from macebench.metrics.diversity import diversity

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PARITY = SHARED / "golden" / "parity"
needs_shared = pytest.mark.skipif(not PARITY.is_dir(), reason="needs ../shared/golden/parity")
RELEASED = {"normalise": "self", "eps": 1e-4, "ddof": 1, "drop_below": None}


def features(n=60, f=10, seed=0):
    return np.random.default_rng(seed).normal(size=(n, f)) * np.arange(1, f + 1)


@pytest.mark.parametrize("n", [2, 3, 17, 200])
def test_is_the_mean_of_all_pairs(n):
    values = features(n)
    assert diversity(values) == pytest.approx(pdist(values).mean(), rel=1e-12)


@pytest.mark.parametrize("size", [1, 900, 5000])
def test_blocks_do_not_change_it(monkeypatch, size):
    values = features(37)
    monkeypatch.setattr(module, "_BLOCK_BYTES", size)
    assert diversity(values) == pytest.approx(pdist(values).mean(), rel=1e-12)


def test_reference_standardises():
    values, reference = features(30, seed=1), features(40, seed=2)
    wanted = pdist((values - reference.mean(0)) / (reference.std(0) + 1e-4)).mean()
    assert diversity(values, reference=reference) == pytest.approx(wanted, rel=1e-12)


def test_amplitude_is_seen_under_reference_and_not_under_self():
    values, reference = features(30, seed=1), features(40, seed=2)
    assert diversity(2 * values, reference=reference) == pytest.approx(2 * diversity(values, reference=reference))
    blind = [diversity(k * values, reference=reference, **RELEASED) for k in (1, 2)]
    assert blind[1] == pytest.approx(blind[0], rel=1e-3)
    assert blind[0] == pytest.approx(np.sqrt(2 * 10), rel=0.1)


def test_equal_dances_have_no_diversity():
    row = features(1)
    assert diversity(np.repeat(row, 50, axis=0)) == 0.0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_order_of_clips_does_not_matter(seed):
    values = features(25, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(values)
    assert diversity(shuffled) == pytest.approx(diversity(values), rel=1e-12)


@needs_shared
@pytest.mark.parametrize("name", ["metrics_synthetic", "metrics_aist_clips"])
@pytest.mark.parametrize(("family", "array"), [("k", "mace2d_kinetic75"), ("g", "mace2d_geometric32")])
def test_released_2d_golden(name, family, array):
    golden = json.loads((PARITY / f"{name}.json").read_text())
    values = np.load(PARITY / f"{name}.npz")[array].astype(np.float64)
    reference, generated = values[0::2], values[1::2]
    wanted = golden["aggregate"][f"mace2d_{family}"]
    assert diversity(generated, reference=reference, **RELEASED) == pytest.approx(wanted["div_pred"], rel=1e-4)
    assert diversity(reference, reference=reference, **RELEASED) == pytest.approx(wanted["div_gt"], rel=1e-4)


@needs_shared
def test_closed_form_golden():
    golden = json.loads((PARITY / "fid_closed_form.json").read_text())["values"]
    i, j = np.arange(200)[:, None], np.arange(8)[None]
    a = np.sin(0.37 * i * (j + 1) + j) + 0.1 * j
    b = 1.2 * np.sin(0.41 * i * (j + 1) + 2 * j) + 0.1 * j + 0.05
    assert diversity(a) == pytest.approx(golden["raw"]["div_gt"], rel=1e-9)
    wanted = golden["gt_norm_ddof0_eps1e-10"]["div_pred"]
    assert diversity(b, reference=a, eps=1e-10) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.zeros((1, 3)), "at least 2"),
        (np.zeros((0, 3)), "at least 2"),
        (np.zeros(3), r"\(3,\)"),
        (np.full((3, 3), np.nan), "not finite"),
    ],
)
def test_malformed(values, text):
    with pytest.raises(ValueError, match=text):
        diversity(values)


def test_examples():
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 0
