"""Resampling of a sequence to a fixed rate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macebench.media import resample_track

NAN = np.nan


def test_the_grid_itself_comes_back():
    times, values = np.arange(10) / 30, np.arange(20.0).reshape(10, 2)
    for method in ("linear", "nearest"):
        grid, result = resample_track(times, values, 30, method=method)
        assert np.allclose(grid, times, atol=1e-12)
        assert np.array_equal(result, values)


def test_linear_on_uneven_times():
    grid, result = resample_track([0, 0.1, 0.4], [0.0, 1.0, 4.0], 20)
    assert np.allclose(grid, np.arange(9) / 20)
    assert np.allclose(result, grid * 10)


def test_nearest_takes_the_earlier_of_two():
    _, result = resample_track([0, 1, 2], [5, 6, 7], 2, method="nearest")
    assert result.tolist() == [5, 5, 6, 6, 7]


def test_linear_needs_two_finite_neighbours():
    values = np.array([[0.0, 0.0], [1.0, NAN], [2.0, 2.0]])
    _, result = resample_track([0, 1, 2], values, 2)
    assert np.allclose(result[:, 0], [0, 0.5, 1, 1.5, 2])
    assert np.array_equal(result[:, 1], [0, NAN, NAN, NAN, 2], equal_nan=True)


def test_a_timestamp_that_is_met_keeps_its_value_beside_a_hole():
    _, result = resample_track([0, 1 / 3, 2 / 3, 1], [1.0, NAN, 3.0, 4.0], 3)
    assert np.array_equal(result, [1, NAN, 3, 4], equal_nan=True)


def test_infinity_is_no_neighbour():
    _, result = resample_track([0, 1], [np.inf, 1.0], 2)
    assert not np.isfinite(result[1])


def test_nothing_is_made_up_outside():
    grid, linear = resample_track([0.5, 1.0], [1.0, 2.0], 4, duration_s=2.0)
    assert grid.tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert np.array_equal(linear, [NAN, NAN, 1, 1.5, 2, NAN, NAN, NAN, NAN], equal_nan=True)
    _, nearest = resample_track([0.5, 1.0], [1.0, 2.0], 4, duration_s=2.0, method="nearest")
    assert np.array_equal(nearest, [NAN, 1, 1, 1, 2, 2, NAN, NAN, NAN], equal_nan=True)


def test_one_sample():
    grid, result = resample_track([0.0], [[3.0, NAN]], 30)
    assert grid.tolist() == [0.0]
    assert np.array_equal(result, [[3.0, NAN]], equal_nan=True)


def test_a_shorter_duration_cuts():
    assert len(resample_track(np.arange(31) / 30, np.zeros(31), 30, duration_s=0.5)[0]) == 16


def test_the_last_grid_point_survives_rounding():
    times = np.arange(300) * (1 / 30)
    for fps in (30, 15, 10, 60):
        grid, _ = resample_track(times, np.zeros(300), fps)
        assert len(grid) == int(299 / 30 * fps + 1e-6) + 1


@given(
    steps=st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=30),
    fps=st.floats(1.0, 60.0),
    slope=st.floats(-10, 10),
)
def test_straight_lines_stay_straight(steps, fps, slope):
    times = np.concatenate([[0.0], np.cumsum(steps)])
    grid, result = resample_track(times, slope * times + 1, fps)
    assert np.allclose(result, slope * grid + 1, atol=1e-6)
    assert grid[-1] <= times[-1] + 1e-9 < grid[-1] + 1 / fps + 1e-6


@pytest.mark.parametrize(
    ("times", "values", "change"),
    [
        ([], [], {}),
        ([0, 1], [1], {}),
        ([[0, 1]], [[1, 2]], {}),
        ([0, 0], [1, 2], {}),
        ([1, 0], [1, 2], {}),
        ([0, NAN], [1, 2], {}),
        ([0, 1], [1, 2], {"fps": 0}),
        ([0, 1], [1, 2], {"fps": np.inf}),
        ([0, 1], [1, 2], {"method": "cubic"}),
    ],
)
def test_malformed(times, values, change):
    with pytest.raises(ValueError, match=r"times_s|fps"):
        resample_track(times, values, **({"fps": 10.0} | change))
