import dataclasses
import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import UserError
from macebench.metrics import statistics
from macebench.metrics.diversity import diversity
from macebench.metrics.frechet import frechet_distance, frechet_infinity, kernel_distance
from macebench.metrics.statistics import (
    WeightedPairs,
    bootstrap_mean,
    bootstrap_set_metric,
    bootstrap_weighted_difference,
    diversity_statistic,
    frechet_statistic,
    holm,
    infinity_statistic,
    kernel_statistic,
    minimum_detectable_difference,
    minimum_detectable_shift,
    paired_effect_size,
    permutation_test,
    sign_flip_test,
    weighted_swap_test,
)

RELEASED = {"normalise": "self", "eps": 1e-4, "ddof": 1, "drop_below": None}


def heavy(rng, n, f=12):
    return rng.standard_t(5, size=(n, f))


def generic(statistic):
    """The same statistic without its fast path."""

    def plain(features):
        return statistic(features)

    return plain


# Permutation test


@pytest.mark.parametrize("n", [20, 100, 500])
def test_null_experiments_reject_as_often_as_they_should(n):
    rng = np.random.default_rng(n)
    rejected = 0
    for experiment in range(200):
        if experiment % 20 == 0:
            statistic = frechet_statistic(heavy(rng, n))
        first, second = heavy(rng, n), heavy(rng, n)
        rejected += permutation_test(first, second, statistic, n_permutations=199, seed=experiment).p_value <= 0.05
    assert 0.02 <= rejected / 200 <= 0.08


def test_a_larger_amplitude_is_found():
    found = dict.fromkeys((20, 100), 0)
    rng = np.random.default_rng(0)
    for n in found:
        for seed in range(20):
            statistic = frechet_statistic(heavy(rng, n, 72))
            result = permutation_test(
                1.15 * heavy(rng, n, 72), heavy(rng, n, 72), statistic, n_permutations=99, seed=seed
            )
            found[n] += result.p_value <= 0.05
    assert found[20] >= 9
    assert found[100] >= 17


@pytest.mark.parametrize(("n", "m", "f"), [(20, 30, 12), (15, 40, 30), (40, 10, 12)])
@pytest.mark.parametrize(
    "make",
    [
        frechet_statistic,
        lambda r: frechet_statistic(r, **RELEASED),
        lambda r: frechet_statistic(r, normalise="none"),
        diversity_statistic,
        lambda r: diversity_statistic(r, normalise="none"),
        kernel_statistic,
        infinity_statistic,
    ],
    ids=["frechet", "frechet-self", "frechet-none", "diversity", "diversity-none", "kernel", "infinity"],
)
def test_fast_permutations_agree_with_plain_ones(make, n, m, f):
    rng = np.random.default_rng(f)
    first, second, reference = 1.3 * heavy(rng, n, f) + 0.2, heavy(rng, n, f), heavy(rng, m, f)
    reference[:, 0] = 1.0
    statistic = make(reference)
    swaps = rng.random((30, n)) < 0.5
    fast = statistic.differences(first, second, swaps)
    plain = [
        statistic(np.where(s[:, None], second, first)) - statistic(np.where(s[:, None], first, second)) for s in swaps
    ]
    np.testing.assert_allclose(fast, plain, rtol=1e-8, atol=1e-8 * np.abs(plain).max())


def test_statistics_are_the_metrics():
    rng = np.random.default_rng(0)
    first, reference = heavy(rng, 30), heavy(rng, 40)
    assert frechet_statistic(reference)(first) == frechet_distance(first, reference).value
    assert frechet_statistic(reference, **RELEASED)(first) == frechet_distance(first, reference, **RELEASED).value
    assert diversity_statistic(reference)(first) == diversity(first, reference=reference)
    assert kernel_statistic(reference)(first) == kernel_distance(first, reference).value
    assert infinity_statistic(reference)(first) == frechet_infinity(first, reference).value
    for make in (diversity_statistic, kernel_statistic, infinity_statistic):
        with pytest.raises(ValueError, match="standardised by themselves"):
            make(reference, normalise="self")


def test_blocks_change_nothing(monkeypatch):
    from macebench.metrics import _set_statistics

    rng = np.random.default_rng(0)
    first, second, reference = heavy(rng, 20), heavy(rng, 20), heavy(rng, 30)
    swaps = rng.random((40, 20)) < 0.5
    makers = (frechet_statistic, diversity_statistic, kernel_statistic)
    whole = [make(reference).differences(first, second, swaps) for make in makers]
    monkeypatch.setattr(_set_statistics, "_BLOCK_BYTES", 5000)
    for make, expected in zip(makers, whole, strict=True):
        np.testing.assert_allclose(make(reference).differences(first, second, swaps), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("wrap", [lambda x: x, generic], ids=["fast", "plain"])
def test_a_set_against_itself_has_p_one(wrap):
    rng = np.random.default_rng(0)
    first, reference = heavy(rng, 25), heavy(rng, 40)
    result = permutation_test(first, first.copy(), wrap(frechet_statistic(reference)), n_permutations=50)
    assert result.difference == 0
    assert result.p_value == 1


def test_labels_swap_the_sign_and_the_seed_decides():
    rng = np.random.default_rng(0)
    first, second, reference = heavy(rng, 25) + 0.3, heavy(rng, 25), heavy(rng, 40)
    statistic = frechet_statistic(reference)
    one = permutation_test(first, second, statistic, n_permutations=99, seed=3)
    other = permutation_test(second, first, statistic, n_permutations=99, seed=3)
    assert one == permutation_test(first, second, statistic, n_permutations=99, seed=3)
    assert other.difference == -one.difference
    assert other.p_value == one.p_value
    assert one.null_low == pytest.approx(-other.null_high)
    assert (
        one.p_value != permutation_test(first, second, statistic, n_permutations=99, seed=4).p_value
        or one.p_value < 0.02
    )


def test_p_by_hand():
    """Mean of one feature, two pairs: of the four swaps two reach the difference of 3."""
    result = permutation_test(np.array([[3.0], [5.0]]), np.array([[1.0], [1.0]]), lambda x: float(x.mean()))
    assert (result.difference, result.p_value, result.n_permutations) == (3, 0.5, 4)
    assert result.smallest_p == 0.5
    assert result.detectable == pytest.approx(2.8016 * result.null_deviation, rel=1e-4)


def test_clusters_are_swapped_together():
    rng = np.random.default_rng(0)
    pieces = np.repeat(np.arange(8), 10)
    seen = []

    def statistic(features):
        seen.append(features[:, 0].copy())
        return float(features.mean())

    permutation_test(np.ones((80, 2)), np.zeros((80, 2)), statistic, clusters=pieces, n_permutations=20)
    for column in seen:
        assert all(len(set(column[pieces == k])) == 1 for k in range(8))
    # Ten copies of each clip are no more evidence than the clip itself.
    first, second, reference = heavy(rng, 8)[pieces] + 0.6, heavy(rng, 8)[pieces], heavy(rng, 40)
    loose = permutation_test(first, second, frechet_statistic(reference), n_permutations=199)
    tied = permutation_test(first, second, frechet_statistic(reference), n_permutations=199, clusters=pieces)
    assert (loose.n_clusters, tied.n_clusters, tied.n) == (80, 8, 80)
    assert tied.null_deviation > 2 * loose.null_deviation
    assert tied.smallest_p == 2**-7


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), {}),
        (np.ones((1, 2)), np.ones((1, 2)), {}),
        (np.ones(3), np.ones(3), {}),
        (np.full((3, 2), np.nan), np.ones((3, 2)), {}),
        (np.ones((3, 2)), np.ones((3, 2)), {"n_permutations": 0}),
        (np.ones((3, 2)), np.ones((3, 2)), {"clusters": ["a"]}),
    ],
)
def test_permutation_test_refuses(first, second, options):
    with pytest.raises(ValueError, match=r"."):
        permutation_test(first, second, lambda x: 0.0, **options)


# Why a set metric has no interval


def test_a_naive_bootstrap_excludes_its_own_estimate():
    rng = np.random.default_rng(0)
    generated, reference = heavy(rng, 500, 72), heavy(rng, 500, 72)
    estimate = frechet_distance(generated, reference).value
    draws = [
        frechet_distance(generated[rng.integers(0, 500, 500)], reference[rng.integers(0, 500, 500)]).value
        for _ in range(60)
    ]
    assert min(draws) > estimate


def test_asking_for_an_interval_explains():
    with pytest.raises(UserError) as caught:
        bootstrap_set_metric("fid_k", np.zeros((3, 2)), level=0.9)
    text = str(caught.value)
    assert all(word in text for word in ("fid_k", "1.64", "permutation_test", "frechet_infinity", "kernel_distance"))


# Means


def coverage(draw, truth, n_experiments=400):
    hits = 0
    for seed in range(n_experiments):
        values, clusters = draw(np.random.default_rng(seed))
        found = bootstrap_mean(values, clusters=clusters, n_resamples=400, seed=seed)
        hits += found.low <= truth <= found.high
    return hits / n_experiments


@pytest.mark.parametrize("g", [10, 20])
def test_coverage_of_normal_values(g):
    assert 0.92 <= coverage(lambda rng: (rng.normal(size=g), None), 0.0) <= 0.98


def test_coverage_of_skewed_values():
    assert coverage(lambda rng: (rng.lognormal(sigma=0.7, size=15), None), math.exp(0.245)) >= 0.9


def test_coverage_with_clusters_and_without():
    def draw(rng):
        pieces = np.repeat(np.arange(15), rng.integers(1, 9, 15))
        return rng.normal(size=15)[pieces] + 0.5 * rng.normal(size=len(pieces)), pieces

    assert 0.9 <= coverage(draw, 0.0) <= 0.98
    assert coverage(lambda rng: (draw(rng)[0], None), 0.0, 200) < 0.85


def test_bootstrap_of_equal_values_is_a_point():
    found = bootstrap_mean([0.1, 0.1, 0.1], seed=1)
    assert (found.low, found.high, found.standard_error) == (found.mean, found.mean, 0.0)
    assert found.mean == pytest.approx(0.1)
    assert (found.n, found.n_clusters, found.level) == (3, 3, 0.95)


def test_bootstrap_of_two_values_is_finite_and_scales():
    found = bootstrap_mean([0.0, 1.0])
    assert all(map(math.isfinite, (found.low, found.high)))
    values = np.random.default_rng(0).normal(size=30)
    plain, turned = bootstrap_mean(values), bootstrap_mean(5 - 2 * values)
    assert turned.mean == pytest.approx(5 - 2 * plain.mean)
    assert turned.high - turned.low == pytest.approx(2 * (plain.high - plain.low))
    assert plain.low < plain.mean < plain.high
    assert plain.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(30))
    narrow = bootstrap_mean(values, level=0.5)
    assert plain.low < narrow.low < narrow.high < plain.high


@pytest.mark.parametrize(
    ("values", "options"),
    [([], {}), ([1.0], {}), ([1.0, math.nan], {}), ([1.0, 2.0], {"clusters": ["a", "a"]}), ([1.0, 2.0], {"level": 1.0}),
     ([1.0, 2.0], {"n_resamples": 0}), ([[1.0], [2.0]], {})],
)  # fmt: skip
def test_bootstrap_refuses(values, options):
    with pytest.raises(ValueError, match=r"."):
        bootstrap_mean(values, **options)


def test_sign_flip_by_hand():
    exact = sign_flip_test([1.0, 2.0, 3.0])
    assert (exact.mean, exact.p_value, exact.n_permutations) == (2.0, 0.25, 8)
    assert sign_flip_test([0.0, 0.0]).p_value == 1
    assert sign_flip_test([1.0, -1.0]).p_value == 1
    tied = sign_flip_test([1.0, 2.0, 3.0], clusters=["a", "a", "b"])
    assert (tied.p_value, tied.n_clusters, tied.n_permutations) == (0.5, 2, 4)


def test_sign_flip_agrees_with_scipy():
    from scipy.stats import permutation_test as scipy_test

    gaps = np.random.default_rng(1).normal(0.4, 1, size=10)
    expected = scipy_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_test(gaps).p_value == pytest.approx(expected)
    drawn = sign_flip_test(gaps, n_permutations=1000, seed=2)
    assert drawn.n_permutations == 1000
    assert drawn.p_value == pytest.approx(expected, abs=0.05)


def test_sign_flip_null_rejections():
    rng = np.random.default_rng(5)
    rejected = [
        sign_flip_test(rng.standard_t(3, size=25), n_permutations=199, seed=k).p_value <= 0.05 for k in range(400)
    ]
    assert 0.02 <= np.mean(rejected) <= 0.08


def test_effect_sizes():
    assert paired_effect_size([0.0, 0.0]) == 0
    assert paired_effect_size([-2.0, -2.0]) == -math.inf
    assert math.isnan(paired_effect_size([1.0, 2.0], clusters=["a", "a"]))
    gaps = np.random.default_rng(0).normal(1, 2, 12)
    assert paired_effect_size(gaps) == pytest.approx(gaps.mean() / gaps.std(ddof=1))
    assert paired_effect_size(-3 * gaps) == pytest.approx(-paired_effect_size(gaps))
    # Every clip five times over, in its own cluster, is the same evidence.
    assert paired_effect_size(np.repeat(gaps, 5), clusters=np.repeat(np.arange(12), 5)) == pytest.approx(
        paired_effect_size(gaps)
    )


# What n clips can show


def detected(shift, draw, n_experiments=300):
    hits = 0
    for seed in range(n_experiments):
        values, clusters = draw(np.random.default_rng(seed))
        hits += sign_flip_test(values + shift, clusters=clusters, n_permutations=399, seed=seed).p_value <= 0.05
    return hits / n_experiments


def simulated_difference(draw):
    """The shift that is found in 80 % of the experiments, read off a line through nearby shifts."""
    shifts = np.linspace(0.3, 1.2, 7)
    return float(np.interp(0.8, [detected(shift, draw, 200) for shift in shifts], shifts))


@pytest.mark.parametrize("clustered", [False, True], ids=["clips", "pieces"])
def test_minimum_detectable_difference_agrees_with_simulation(clustered):
    def draw(rng):
        if not clustered:
            return rng.normal(size=25), None
        pieces = np.repeat(np.arange(16), 3)
        return 0.8 * rng.normal(size=16)[pieces] + 0.6 * rng.normal(size=48), pieces

    pilots = [
        minimum_detectable_difference(v, clusters=c) for v, c in (draw(np.random.default_rng(k)) for k in range(99))
    ]
    assert np.median(pilots) == pytest.approx(simulated_difference(draw), rel=0.2)


def test_minimum_detectable_difference_by_table():
    """t test, 20 pairs, 80 % at 5 %: d = 0.66 (Cohen's tables)."""
    values = np.random.default_rng(0).normal(size=20)
    values /= values.std(ddof=1)
    assert minimum_detectable_difference(values) == pytest.approx(0.66, abs=0.005)
    assert minimum_detectable_difference(values, n_clusters=34) == pytest.approx(0.495, abs=0.005)
    assert minimum_detectable_difference(values, power=0.95) > minimum_detectable_difference(values)
    assert minimum_detectable_difference([1.0, 1.0, 1.0]) == 0
    assert math.isfinite(minimum_detectable_difference([1.0, 2.0]))


@pytest.mark.parametrize("g", [3, 10, 40])
def test_power_is_that_of_the_noncentral_t(g):
    from scipy.stats import nct, t

    values = np.random.default_rng(g).normal(size=g)
    shift = minimum_detectable_difference(values) / (values.std(ddof=1) / math.sqrt(g))
    limit = t.ppf(0.975, g - 1)
    assert nct.sf(limit, g - 1, shift) + nct.cdf(-limit, g - 1, shift) == pytest.approx(0.8, abs=2e-3)


def test_minimum_detectable_difference_refuses():
    with pytest.raises(ValueError, match="cannot be planned"):
        minimum_detectable_difference([1.0])
    with pytest.raises(ValueError, match="cannot be planned"):
        minimum_detectable_difference([1.0, 2.0], power=0.01)


def test_minimum_detectable_shift_agrees_with_simulation():
    """The shift is a share of the distance: scale the amplitude until the distances differ so much; 80 % are found."""
    rng = np.random.default_rng(1)
    n, reference = 60, heavy(rng, 60)
    statistic = frechet_statistic(reference)
    share = np.median([minimum_detectable_shift(heavy(rng, n), statistic, n_simulations=100, seed=k) for k in range(5)])
    amplitudes = np.linspace(1.0, 1.6, 13)
    sizes = [np.mean([statistic(a * heavy(rng, n)) for _ in range(40)]) for a in amplitudes]
    amplitude = np.interp(sizes[0] * (1 + share), sizes, amplitudes)
    found = [
        permutation_test(amplitude * heavy(rng, n), heavy(rng, n), statistic, n_permutations=199, seed=k).p_value
        <= 0.05
        for k in range(150)
    ]
    assert 0.55 <= np.mean(found) <= 0.97


def test_minimum_detectable_shift_shrinks_with_n_and_refuses():
    rng = np.random.default_rng(0)
    statistic = diversity_statistic(heavy(rng, 100))
    few, many = (minimum_detectable_shift(heavy(rng, n), statistic, n_simulations=100) for n in (20, 200))
    assert 0 < many < few / 2
    with pytest.raises(ValueError, match="at least 4"):
        minimum_detectable_shift(np.ones((3, 2)), statistic)
    with pytest.raises(ValueError, match="is 0 on every draw"):
        minimum_detectable_shift(np.ones((5, 2)), lambda x: 0.0, n_simulations=3)


# Many tests


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.02, 0.03, 0.04]), [0.04, 0.06, 0.06, 0.06])
    np.testing.assert_allclose(holm([math.nan, 0.03, 0.5, math.nan]), [math.nan, 0.06, 0.5, math.nan])
    assert holm([]).shape == (0,)
    assert np.isnan(holm([math.nan])).all()
    for bad in ([1.2], [-0.1], [[0.1]]):
        with pytest.raises(ValueError, match="p-values"):
            holm(bad)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_properties(values, random):
    adjusted = holm(values)
    assert (adjusted >= np.array(values)).all()
    assert (adjusted <= 1).all()
    order = list(range(len(values)))
    random.shuffle(order)
    np.testing.assert_array_equal(holm([values[k] for k in order]), adjusted[order])
    smallest = int(np.argmin(values))
    assert adjusted[smallest] == pytest.approx(min(1.0, values[smallest] * len(values)))


def test_examples():
    assert doctest.testmod(statistics).failed == 0


def weighted_pairs(rng, g, *, shift=0.0):
    """Clips of g pieces of music; long clips score lower, and the second model's clips have lengths of their own."""
    names = np.repeat(np.arange(g), rng.integers(1, 4, g))
    lengths = rng.integers(20, 300, (2, len(names))).astype(float)
    level = rng.normal(size=g)[names]
    values = [0.9 - 0.001 * part + 0.05 * level + 0.02 * rng.normal(size=len(names)) for part in lengths]
    return WeightedPairs(values[0] + shift, values[1], *lengths, names)


def test_a_weighted_mean_is_the_ratio_and_its_interval_is_of_it():
    values, weights = [0.9, 0.5, 0.7, 0.6], [300.0, 20.0, 100.0, 100.0]
    found = bootstrap_mean(values, weights=weights, seed=3)
    assert found.mean == pytest.approx((270 + 10 + 70 + 60) / 520)
    assert found.low < found.mean < found.high
    assert found.n == 4
    again = bootstrap_mean(values, weights=[10 * weight for weight in weights], seed=3)
    assert (again.low, again.high) == pytest.approx((found.low, found.high))
    plain = bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, weights=[7.0] * 4, seed=3).low == pytest.approx(plain.low)
    assert abs(plain.mean - found.mean) > 0.1


@pytest.mark.parametrize("weights", [[1.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0]])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be above 0"):
        bootstrap_mean([0.1, 0.2], weights=weights)


def test_equal_weights_are_the_tests_of_the_plain_mean():
    rng = np.random.default_rng(8)
    first, second, names = rng.normal(size=30), rng.normal(size=30), np.repeat(np.arange(10), 3)
    pairs = WeightedPairs(first, second, [5.0] * 30, [5.0] * 30, names)
    mine = bootstrap_weighted_difference(pairs, n_resamples=300, seed=2)
    plain = bootstrap_mean(first - second, clusters=names, n_resamples=300, seed=2)
    assert dataclasses.astuple(mine) == pytest.approx(dataclasses.astuple(plain))
    tests = (
        weighted_swap_test(pairs, n_permutations=300, seed=2),
        sign_flip_test(first - second, clusters=names, n_permutations=300, seed=2),
    )
    assert dataclasses.astuple(tests[0]) == pytest.approx(dataclasses.astuple(tests[1]))
    assert paired_effect_size(pairs.by_cluster) == pytest.approx(paired_effect_size(first - second, clusters=names))


def test_weighted_swaps_by_hand():
    pairs = WeightedPairs([1.0, 0.0], [0.0, 0.5], [3.0, 1.0], [1.0, 2.0])
    found = weighted_swap_test(pairs)
    # 3/4 - 1/3; the second swapped: 4/5 - 0; the first: 0 - 3/5 ... and the signs turned.
    null = [3 / 4 - 1 / 3, 4 / 5 - 0.0, 0.0 - 4 / 5, 1 / 3 - 3 / 4]
    assert found.mean == pytest.approx(null[0])
    assert found.p_value == 1.0
    assert (found.null_low, found.null_high) == pytest.approx(tuple(np.quantile(null, [0.025, 0.975])))
    other = weighted_swap_test(WeightedPairs([1.0, 0.5], [0.0, 0.0], [3.0, 2.0], [1.0, 1.0]))
    assert other.p_value == 0.5


def test_weighted_difference_covers_and_rejects_as_often_as_it_should():
    covered, rejected, n = 0, 0, 300
    for seed in range(n):
        pairs = weighted_pairs(np.random.default_rng(10_000 + seed), 20)
        interval = bootstrap_weighted_difference(pairs, n_resamples=300, seed=seed)
        covered += interval.low <= 0 <= interval.high
        rejected += weighted_swap_test(pairs, n_permutations=199, seed=seed).p_value <= 0.05
    assert 0.91 <= covered / n <= 0.98
    assert 0.02 <= rejected / n <= 0.08


def test_a_difference_that_only_the_weights_show():
    lengths = np.tile([300.0, 30.0], 12)
    first, second = np.where(lengths > 100, 0.9, 0.5), np.where(lengths > 100, 0.8, 0.65)
    noise = 0.01 * np.random.default_rng(1).normal(size=24)
    pairs = WeightedPairs(first + noise, second, lengths, lengths)
    assert np.mean(first) < np.mean(second)
    assert pairs.difference > 0.05
    assert bootstrap_weighted_difference(pairs).low > 0


def test_equal_models_have_no_spread():
    values, lengths = np.array([0.1, 0.7, 0.3]), np.array([10.0, 20.0, 70.0])
    pairs = WeightedPairs(values, values, lengths, lengths)
    found = bootstrap_weighted_difference(pairs)
    assert (found.mean, found.low, found.high, found.standard_error) == (0.0, 0.0, 0.0, 0.0)
    assert weighted_swap_test(pairs).p_value == 1.0
    with pytest.raises(ValueError, match="at least 2 clusters"):
        bootstrap_weighted_difference(WeightedPairs([1.0], [2.0], [1.0], [1.0]))
    with pytest.raises(ValueError, match="no pairs"):
        bootstrap_weighted_difference(WeightedPairs([1.0, 2.0], [2.0], [1.0, 1.0], [1.0]))
