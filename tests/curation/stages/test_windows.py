"""Windows: lengths, places, and that a clip depends on its own span only."""

import dataclasses
import hashlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macebench.curation.stage import Task
from macebench.curation.stages.windows import Windows, WindowsConfig, window_times
from macebench.errors import UserError
from macebench.registry import get

PINNED = ((92, 9780), (9780, 14799), (14799, 23000))
SOURCE = hashlib.sha256(b"a source").hexdigest()
starts = st.floats(0.0, 3600.0)
lengths = st.floats(5.0, 300.0)
sources = st.binary(min_size=1, max_size=8).map(lambda data: hashlib.sha256(data).hexdigest())


@st.composite
def configs(draw):
    low = draw(st.floats(0.5, 12.0))
    return WindowsConfig(
        min_s=low,
        max_s=draw(st.floats(low, 3 * low)),
        max_offset_s=draw(st.floats(0.0, 5.0)),
        overlap=draw(st.sampled_from([0.0, 0.0, 0.25, 0.5, 0.9])),
        max_clips=draw(st.sampled_from([None, None, 1, 3])),
        seed=draw(st.integers(0, 1000)),
    )


@given(sources, starts, lengths, configs())
def test_windows_are_in_bounds_and_inside_the_span(source, start, length, config):
    windows = window_times(source, start, start + length, config)
    room = start + length - start - config.min_s
    assert windows or room < 1.1e-3  # whole milliseconds
    assert not windows or room > -1e-5
    for low, high in windows:
        assert start <= low < high <= start + length
        assert config.min_s - 2e-6 <= high - low <= max(config.max_s, config.min_s + 1e-3) + 2e-6
    if config.max_clips is not None:
        assert len(windows) <= config.max_clips
    assert windows == window_times(source, start, start + length, config)


@given(sources, starts, lengths, st.integers(0, 99))
def test_without_overlap_nothing_is_lost_but_the_offset(source, start, length, seed):
    config = WindowsConfig(seed=seed)
    windows = window_times(source, start, start + length, config)
    assert windows[0][0] - start <= config.max_offset_s + 1e-6
    assert windows[-1][1] == pytest.approx(start + length, abs=1.1e-3)
    for (_, high), (low, _) in itertools.pairwise(windows):
        assert low == pytest.approx(high, abs=1e-6)
    assert len(windows) == -(-round(1000 * (windows[-1][1] - windows[0][0])) // 10_000)


@given(lengths, st.sampled_from([0.25, 0.5, 0.9]))
def test_overlapping_windows_step_by_their_own_length(length, overlap):
    windows = window_times(SOURCE, 0.0, length, WindowsConfig(overlap=overlap))
    for (low, high), (following, _) in itertools.pairwise(windows):
        assert following - low == pytest.approx((1 - overlap) * (high - low), abs=1.1e-3)
    assert length - windows[-1][0] >= 5.0


def test_short_limits_leave_the_rest_in_front():
    windows = window_times(SOURCE, 0.0, 14.0, WindowsConfig(min_s=6.0, max_s=6.5))
    assert [round(high - low, 3) for low, high in windows] == [6.5, 6.5]
    assert windows[0][0] == pytest.approx(1.0)
    assert windows[-1][1] == pytest.approx(14.0)


def test_lengths_and_offsets_vary_and_fill_the_range():
    found = [window_times(hashlib.sha256(bytes([k])).hexdigest(), 0.0, 15.5, WindowsConfig()) for k in range(200)]
    offsets = [windows[0][0] for windows in found]
    sizes = [high - low for windows in found for low, high in windows]
    assert 0.4 < sum(offsets) / 200 < 0.6
    assert min(offsets) < 0.05
    assert max(offsets) > 0.95
    assert min(sizes) < 5.2
    assert max(sizes) > 9.8


def test_a_clip_depends_on_source_span_and_seed_only():
    """Pinned: other windows would cut every data set anew."""
    pinned = window_times(SOURCE, 2.0, 25.0, WindowsConfig())
    assert pinned == [(2.0 + low / 1000, 2.0 + high / 1000) for low, high in PINNED]
    assert window_times(SOURCE, 2.0, 25.0, WindowsConfig(seed=1)) != pinned
    assert window_times(hashlib.sha256(b"another").hexdigest(), 2.0, 25.0, WindowsConfig()) != pinned
    moved = window_times(SOURCE, 3.0, 26.0, WindowsConfig())
    assert [low - 1 for low, _ in moved] != [low for low, _ in pinned]


def test_the_stage_makes_one_task_a_window():
    task = Task(Path("a.mp4"), SOURCE, 2.0, 25.0, {"shots.score": 1.0})
    verdict = Windows().process(task)
    assert [(item.start_s, item.end_s) for item in verdict.tasks] == window_times(SOURCE, 2.0, 25.0, WindowsConfig())
    assert all(item.scores == task.scores and item.source_id == SOURCE for item in verdict.tasks)
    assert verdict.rejection is None
    assert verdict.scores["clips"] == len(verdict.tasks) == 3
    used = sum(item.end_s - item.start_s for item in verdict.tasks)
    assert verdict.scores["used_share"] == pytest.approx(used / 23.0)
    assert isinstance(get("stages", "windows")(), Windows)


@pytest.mark.parametrize("length", [0.0, 1.0, 4.99, 4.999])
def test_a_short_span_is_too_short(length):
    verdict = Windows().process(Task(Path("a.mp4"), SOURCE, 7.0, 7.0 + length))
    assert (verdict.rejection.stage, verdict.rejection.reason) == ("windows", "too short")
    assert verdict.rejection.value == pytest.approx(length)
    assert verdict.rejection.threshold == 5.0
    assert verdict.tasks is None


def test_five_seconds_between_two_timestamps_are_enough():
    start = 100 / 29.97
    verdict = Windows().process(Task(Path("a.mp4"), SOURCE, start, start + 5.0))
    assert [(item.start_s, round(item.end_s - start, 6)) for item in verdict.tasks] == [(start, 5.0)]


def test_a_span_without_an_end_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="end of the span"):
        Windows().process(Task(Path("a.mp4"), SOURCE))


@pytest.mark.parametrize(
    "wrong",
    [{"min_s": 0.0}, {"min_s": 11.0}, {"max_s": 4.0}, {"max_s": 1e9}, {"max_offset_s": -1.0}, {"overlap": 0.95},
     {"overlap": -0.1}, {"max_clips": 0}, {"min_s": float("nan")}],
)  # fmt: skip
def test_settings_out_of_range(wrong):
    with pytest.raises(UserError, match=r"windows\."):
        dataclasses.replace(WindowsConfig(), **wrong)
