from pathlib import Path

import numpy as np
import pytest

from macebench.metrics import contamination
from macebench.metrics.contamination import nearest_training
from macebench.metrics.features import geometric_features, kinetic_features

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "parity" / "aist_clips_joints_DATA.npz"
needs_clips = pytest.mark.skipif(not CLIPS.is_file(), reason="needs ../shared/golden")


def heavy(seed, n, f=24):
    return np.random.default_rng(seed).standard_t(5, size=(n, f))


def brute(generated, training):
    mean, deviation = training.mean(axis=0), training.std(axis=0) + 1e-4
    a, b = (generated - mean) / deviation, (training - mean) / deviation
    table = np.linalg.norm(a[:, None] - b[None], axis=2)
    own = np.linalg.norm(b[:, None] - b[None], axis=2)
    np.fill_diagonal(own, np.inf)
    return table, own.min(axis=1)


def test_agrees_with_every_pair(monkeypatch):
    generated, training = heavy(0, 30) * 1.2 + 0.1, heavy(1, 90)
    table, usual = brute(generated, training)
    found = nearest_training(generated, training)
    np.testing.assert_allclose(found.distance, table.min(axis=1), rtol=1e-9)
    np.testing.assert_array_equal(found.nearest_index, table.argmin(axis=1))
    np.testing.assert_allclose(found.ratio, table.min(axis=1) / np.median(usual), rtol=1e-9)
    assert found.threshold == pytest.approx(min(np.quantile(usual, 0.01), 0.5 * np.median(usual)))
    monkeypatch.setattr(contamination, "_BLOCK_BYTES", 8 * 90 * 4)
    small = nearest_training(generated, training)
    np.testing.assert_allclose(small.distance, found.distance, rtol=1e-12)
    assert small.threshold == pytest.approx(found.threshold, rel=1e-12)


@pytest.mark.parametrize("f", [2, 12, 72])
@pytest.mark.parametrize("given", [False, True], ids=["leave-one-out", "held-out"])
def test_independent_dances_are_seldom_flagged(f, given):
    flagged = [
        nearest_training(
            heavy(10 + k, 200, f), heavy(99 - k, 400, f), reference=heavy(50 + k, 400, f) if given else None
        )
        for k in range(8)
    ]
    assert np.mean([found.near for found in flagged]) <= 0.015
    assert sum(found.n_exact for found in flagged) == 0


def test_copies_are_flagged_and_named():
    training = heavy(0, 300)
    training[:, 3] = 2.0
    copied = np.array([7, 250, 7])
    generated = np.concatenate([training[copied], training[copied] + 0.003 * heavy(1, 3), heavy(2, 5)])
    found = nearest_training(generated, training)
    assert found.exact.tolist() == [True] * 3 + [False] * 8
    assert found.near.tolist() == [True] * 6 + [False] * 5
    assert found.nearest_index[:6].tolist() == [7, 250, 7] * 2
    assert (found.n_exact, found.n_near, found.dropped_features) == (3, 6, 1)
    assert (found.distance[:3] == 0).all()
    assert (found.ratio[3:6] < 0.1).all()


def test_float32_copies_are_exact():
    training = heavy(0, 100) * 5 + 3
    assert nearest_training(training.astype(np.float32), training).n_exact == 100


def test_units_and_order_do_not_matter():
    generated, training = heavy(0, 20), heavy(1, 60)
    scale = np.linspace(1, 50, 24)
    one, two = nearest_training(generated, training), nearest_training(generated * scale + 7, training * scale + 7)
    np.testing.assert_array_equal(one.nearest_index, two.nearest_index)
    np.testing.assert_allclose(one.distance, two.distance, rtol=1e-3)
    turned = nearest_training(generated[::-1], training[::-1])
    np.testing.assert_allclose(turned.distance[::-1], one.distance, rtol=1e-9)


def test_doubled_training_clips_do_not_hide_near_copies():
    training = np.concatenate([heavy(0, 100), heavy(0, 100)[:60]])
    found = nearest_training(training[:5] + 1e-3, training)
    assert found.threshold > 0.1
    assert found.n_near == 5


def test_a_tight_set_accuses_nobody():
    """All nearest distances are alike: the quantile alone would lie among them, half of the median does not."""
    training = np.eye(40) * 10
    assert nearest_training(np.eye(40)[:10] * 10 + 0.5, training).n_near == 10
    assert nearest_training(-np.eye(40)[:10] * 10, training).n_near == 0


def test_bad_input():
    good = heavy(0, 10)
    for generated, training in ((good[:, :3], good), (good, good[:2]), (good[:0], good), (good[0], good)):
        with pytest.raises(ValueError, match="expected"):
            nearest_training(generated, training)
    with pytest.raises(ValueError, match="not finite"):
        nearest_training(good * np.nan, good)
    with pytest.raises(ValueError, match="has a copy"):
        nearest_training(good, np.repeat(heavy(3, 2), 4, axis=0))
    for options in ({"near": 0.0}, {"near": 1.0}, {"fraction": 0.0}, {"exact": -1.0}):
        with pytest.raises(ValueError, match="must be shares"):
            nearest_training(good, good, **options)


def features(joints):
    return np.array([np.concatenate([kinetic_features(j, fps=30), geometric_features(j, fps=30)]) for j in joints])


@needs_clips
def test_real_clips():
    with np.load(CLIPS) as data:
        joints, ids = data["joints"].astype(np.float64), data["case_ids"]
    real = features(joints)
    assert nearest_training(real, real).n_exact == len(real)
    jittered = nearest_training(features(joints + 1e-3 * np.random.default_rng(0).normal(size=joints.shape)), real)
    assert jittered.n_near >= len(real) - 1
    assert jittered.n_exact == 0
    np.testing.assert_array_equal(jittered.nearest_index, np.arange(len(real)))
    # Clips of one recording repeat its choreography; those of other recordings are other dances.
    recordings = np.array([str(name).rsplit("_seg", 1)[0] for name in ids])
    flagged = [nearest_training(real[recordings == r], real[recordings != r]).n_near for r in np.unique(recordings)]
    assert sum(flagged) <= 1
