"""Usual rates, and the constant rate for uneven times."""

import numpy as np
import pytest

from macebench.media.rates import USUAL_RATES, steady_rate, usual_rate


def test_usual_rates_ascend():
    assert list(USUAL_RATES) == sorted(USUAL_RATES)


@pytest.mark.parametrize(
    ("rate", "near", "expected"),
    [(29.97, 0.001, 30000 / 1001), (29.99, 0.001, 30.0), (27.3, 0.001, 27.3), (27.3, 0.1, 25.0), (1e3, 0.05, 1e3)],
)
def test_usual_rate(rate, near, expected):
    assert usual_rate(rate, near) == expected


@pytest.mark.parametrize("rate", USUAL_RATES)
def test_pictures_left_out_of_a_grid_lead_back_to_it(rate):
    rng = np.random.default_rng(int(rate))
    ticks = np.cumsum(rng.choice([1, 1, 1, 2, 3], 200))
    times = 3.0 + np.round(ticks / rate, 3)
    assert steady_rate(times) == pytest.approx(rate, rel=0.002)


def test_pictures_on_no_grid_have_the_rate_of_their_median():
    rng = np.random.default_rng(0)
    steps = rng.uniform(0.028, 0.042, 300)
    assert steady_rate(np.cumsum(steps)) == pytest.approx(1 / np.median(steps[1:]))


def test_two_pictures_on_one_place_are_on_no_grid():
    times = np.sort(np.concatenate([np.arange(50) / 10, np.arange(50) / 10 + 0.0015]))
    assert steady_rate(times) not in USUAL_RATES


@pytest.mark.parametrize("times", [[], [0.0], [0.0, 1.0], [1.0, 1.0, 1.0]])
def test_too_few_pictures_have_no_rate(times):
    assert steady_rate(times) is None


def test_probe_tells_the_steady_rate(decoder, make):
    assert decoder.probe(make.pattern("even.mp4", fps=12)).steady_fps == pytest.approx(12)
    ticks = np.cumsum([0, *[1, 1, 2, 3] * 8])
    info = decoder.probe(make.timed("uneven.mp4", [int(1000 * tick / 25) for tick in ticks]))
    assert info.steady_fps == 25.0
    assert info.variable_rate
    assert info.fps < 20
