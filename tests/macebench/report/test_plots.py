import math
import re

import numpy as np
import pytest

from macebench.metrics.statistics import Interval
from macebench.protocol import load_protocol
from macebench.report.model import ColumnView, CurveView, RowView, Section
from macebench.report.plots import bar_pictures, speed_plot, ticks
from macebench.results import ScoreRecord


def curve(speed, motion=(0.5,), music=(0.25, 0.75)):
    times = np.linspace(0, 1, len(speed))
    return CurveView(times, np.array(speed, float), np.array(motion, float), np.array(music, float))


def test_beats_stand_where_they_are():
    plot = speed_plot(curve([0, 10, 0, 10, 0]))
    assert plot.count("<circle") == 1
    music = re.search(r'class="music" d="([^"]*)"', plot).group(1)
    places = [float(x) for x in re.findall(r"M([\d.]+) ", music)]
    (dot,) = re.findall(r'cx="([\d.]+)"', plot)
    assert float(dot) == pytest.approx(sum(places) / 2, abs=0.1)
    assert "2 music beats, 1 motion beat" in plot


def test_beats_outside_the_curve_are_left_out():
    plot = speed_plot(curve([1, 2, 3], motion=(-1.0, 9.0), music=(5.0,)))
    assert "0 music beats, 0 motion beats" in plot
    assert "<circle" not in plot


def test_a_hole_interrupts_the_line():
    plot = speed_plot(curve([1, 2, math.nan, 4, 5], motion=()))
    path = re.search(r'class="speed" d="([^"]*)"', plot).group(1)
    assert (path.count("M"), path.count("L")) == (2, 2)
    assert "nan" not in plot


@pytest.mark.parametrize("speed", [[], [1.0], [math.nan] * 5])
def test_no_curve_is_said(speed):
    assert "no usable pose" in speed_plot(curve(speed))


def test_a_still_dancer_has_a_flat_line():
    assert "nan" not in speed_plot(curve([0.0, 0.0, 0.0]))


def test_a_long_curve_is_thinned():
    assert len(speed_plot(curve(np.sin(np.arange(50000)) + 1))) < 20000


def test_ticks_are_round_and_inside():
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(3.3, 8.1, 3) == [4, 6, 8]
    assert ticks(1, 1, 5) == []
    assert ticks(0, math.nan, 5) == []
    for high in (0.013, 7.7, 123456.0):
        assert 1 <= len(ticks(0, high, 4)) <= 5


def test_the_axis_carries_the_unit_of_the_speed():
    motion = CurveView(np.arange(3.0), np.ones(3), np.empty(0), np.empty(0), "m/s")
    assert (">m/s<" in speed_plot(motion), ">px/s<" in speed_plot(curve([1, 2, 3]))) == (True, True)


def record(name, value):
    return ScoreRecord(name=name, value=value, n=3, n_unscored=0, unit="1", better="reference", reasons={}, notes={})


def bars(rows, aims=None):
    section = Section(load_protocol("ma2d-fixed/1"), [ColumnView("x", "1", "reference", "")], rows, [], aims=aims or {})
    (picture,) = bar_pictures(section)
    return picture


def test_whiskers_end_where_the_interval_ends_on_the_scale_of_the_bars():
    interval = Interval(0.5, 0.25, 1.0, 0.1, 3, 3, 0.95)
    one = RowView("one", "evaluated", "", 3, {"x": record("x", 0.5)}, intervals={"x": interval})
    two = RowView("two", "calibration", "", 3, {"x": record("x", 1.0)})
    picture = bars([one, two])
    low, high = map(float, re.search(r'class="whisker" d="M([\d.]+) 12H([\d.]+)', picture).groups())
    places = [(float(x), float(x) + float(w)) for x, w in re.findall(r'x="([\d.]+)" y="\d+" width="([\d.]+)"', picture)]
    assert high == pytest.approx(places[1][1], abs=0.1)
    assert low == pytest.approx((places[0][0] + places[0][1]) / 2, abs=0.1)
    assert picture.count("whisker") == 1


def test_the_line_of_the_aim_is_the_reference_sets_own_value():
    row = RowView("one", "evaluated", "", 3, {"x": record("x", 1.0)})
    assert "reference 0.500" in bars([row], {"x": 0.5})
    truth = RowView("reference set", "reference", "", 3, {"x": record("x", 0.25)})
    assert "reference 0.250" in bars([row, truth])
    assert 'class="aim"' not in bars([row])


@pytest.mark.parametrize(
    ("low", "high", "log"), [(1.0, 50.0, False), (1.0, 500.0, True), (19.0, 3.8e19, True), (3e-17, 0.006, False)]
)
def test_values_far_apart_are_drawn_on_a_log_scale_and_rounding_is_not(low, high, log):
    rows = [RowView("one", "evaluated", "", 3, {"x": record("x", value)}) for value in (low, high)]
    assert ("log scale" in bars(rows)) == log
