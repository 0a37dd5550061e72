from pathlib import Path

import cv2
import numpy as np
import pytest

from macebench.errors import Unscorable
from macebench.metrics import _flow, _interpolation
from macebench.metrics.flow_statistics import (
    DYNAMIC_SPEED,
    FlowInterpolation,
    FlowMagnitude,
    dynamic_degree,
    flow_smoothness,
)
from macebench.registry import get
from macebench.types import FrameStatistic

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
CLIPS = SHARED / "golden" / "vbench" / "clips.npz"
needs_shared = pytest.mark.skipif(not CLIPS.is_file(), reason="needs ../shared/golden/vbench")
T = 16
STEPS = np.arange(T, dtype=float)


def texture(size, seed):
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.random((size // s, size // s, 3)), (size, size), interpolation=cv2.INTER_CUBIC) * s**0.5
        for s in (4, 12, 32)
    ]
    picture = np.sum(layers, axis=0)
    return ((picture - picture.min()) / np.ptp(picture) * 255).astype(np.float32)


BACKGROUND, DISC = texture(600, 1), texture(200, 2)
INSIDE = (np.hypot(*np.meshgrid(np.arange(200) - 100, np.arange(200) - 100)) < 45).astype(np.float32)


def scene(steps, pace=4.0, height=240, width=320):
    """A turning disc that moves `pace` pixels a step before a slower background."""
    frames = []
    for step in steps:
        behind = cv2.warpAffine(BACKGROUND, np.array([[1, 0, -60 - 0.3 * pace * step], [0, 1, -60]]), (width, height))
        turn = cv2.getRotationMatrix2D((100, 100), 0.7 * pace * step, 1.0)
        turn[:, 2] += [70 + pace * step - 100, height / 2 - 100]
        mask = cv2.warpAffine(INSIDE, turn, (width, height))[..., None]
        frames.append(cv2.warpAffine(DISC, turn, (width, height)) * mask + behind * (1 - mask))
    return np.rint(np.clip(frames, 0, 255)).astype(np.uint8)


def run(statistic, frames, times=None, cuts=()):
    times = np.arange(len(frames)) / 24 if times is None else times
    for part, when in zip(np.split(frames, list(cuts)), np.split(times, list(cuts)), strict=True):
        statistic.update(part, when)
    return statistic.result()


def smooth(frames):
    return flow_smoothness(run(FlowInterpolation(), frames))


def degree(frames, times=None):
    return dynamic_degree(run(FlowMagnitude(), frames, times))


@pytest.fixture(scope="module")
def steady():
    return scene(STEPS)


def test_a_frozen_picture_is_perfectly_smooth_and_not_dynamic(steady):
    frozen = np.repeat(steady[:1], 5, axis=0)
    assert smooth(frozen) == 1.0
    assert degree(frozen) == (0.0, False)


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white(value):
    frames = np.full((5, 90, 160, 3), value, np.uint8)
    assert smooth(frames) == 1.0
    assert degree(frames) == (0.0, False)


def test_steady_motion_beats_jitter_in_order(steady):
    jitter = np.random.default_rng(5).normal(size=T)
    scores = [smooth(steady)] + [smooth(scene(STEPS + amount * jitter)) for amount in (0.25, 0.5, 1.0)]
    assert scores == sorted(scores, reverse=True)
    assert 1 - scores[2] > 2 * (1 - scores[0])


def test_a_dropped_and_a_doubled_frame_cost(steady):
    skipped = scene(np.delete(np.arange(T + 1.0), 8))
    doubled = steady.copy()
    doubled[8] = doubled[7]
    assert smooth(skipped) < smooth(steady) - 5e-4
    assert smooth(doubled) < smooth(steady) - 5e-4


def test_shuffled_frames_are_worst(steady):
    shuffled = steady[np.random.default_rng(3).permutation(T)]
    assert smooth(shuffled) < 0.97 < 0.995 < smooth(steady)


def test_following_the_motion_beats_blending(steady):
    blend = [np.rint((steady[i].astype(float) + steady[i + 2]) / 2) - steady[i + 1] for i in range(T - 2)]
    assert 1 - smooth(steady) < np.abs(blend).mean() / 255 / 2


def test_backwards_is_as_smooth(steady):
    assert smooth(steady[::-1]) == pytest.approx(smooth(steady), abs=2e-4)


def test_resolution_does_not_matter_much(steady):
    large = np.stack([cv2.resize(frame, (640, 480), interpolation=cv2.INTER_CUBIC) for frame in steady])
    assert smooth(large) == pytest.approx(smooth(steady), abs=1e-3)
    assert degree(large)[0] == pytest.approx(degree(steady)[0], rel=0.05)


def test_blending_exact_flows_of_a_shift():
    first = BACKGROUND[:60, :80].astype(np.uint8)
    middle, last = (BACKGROUND[:60, by : by + 80].astype(np.uint8) for by in (2, 4))
    forth = np.zeros((60, 80, 2), np.float32)
    forth[..., 0] = -4
    guess = _interpolation.blended(first, last, _interpolation.Ends(forth, -forth))
    np.testing.assert_array_equal(guess[:, 4:-4], middle[:, 4:-4])


def test_what_only_one_frame_shows_is_taken_from_it():
    first, last = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 100, np.uint8)
    still, away = np.zeros((40, 60, 2), np.float32), np.full((40, 60, 2), 9, np.float32)
    # Still flows agree; where the forward flow does not lead back, the first frame shows what the last one hides.
    assert _interpolation.blended(first, last, _interpolation.Ends(still, still))[20, 30].tolist() == [50, 50, 50]
    guess = _interpolation.blended(first, last, _interpolation.Ends(np.where(away > 0, 0, away), still))
    assert guess[20, 30].tolist() == [50, 50, 50]
    hidden = still.copy()
    hidden[:, :30] = 9
    mixed = _interpolation.blended(first, last, _interpolation.Ends(hidden, still))
    assert 40 < mixed[20, 50, 0] < 60


def test_the_mean_of_the_fastest_twentieth():
    flow = np.zeros((10, 20, 2), np.float32)
    flow[0, :10] = [3, 4]
    assert _flow.top_magnitude(flow) == 5.0
    flow[0, :5] = [6, 8]
    assert _flow.top_magnitude(flow) == 7.5
    assert _flow.top_magnitude(flow[:1, :1]) == 10.0


def test_degree_of_given_moves():
    moves = np.array([[0.02, 0.1], [0.0, 0.3]])
    assert dynamic_degree(moves) == (pytest.approx(0.05), True)  # a quarter of the time above 0.13 a second
    assert dynamic_degree(np.array([[0.02, 0.1], [0.0, 0.4]])) == (pytest.approx(0.04), False)
    assert dynamic_degree(np.array([[DYNAMIC_SPEED, 1.0]])) == (DYNAMIC_SPEED, False)


def test_speed_of_a_known_shift():
    frames = np.stack([BACKGROUND[50:290, 3 * i : 3 * i + 320] for i in range(T)]).astype(np.uint8)
    speed, dynamic = degree(frames)
    assert speed == pytest.approx(3 * 24 / 400, rel=0.1)
    assert dynamic


@pytest.mark.parametrize("fps", [12, 25, 30, 60])
def test_speed_does_not_depend_on_the_frame_rate(fps):
    wanted, _ = degree(scene(np.arange(24) / 24 * 12, pace=2), np.arange(24) / 24)
    speed, _ = degree(scene(np.arange(fps) / fps * 12, pace=2), np.arange(fps) / fps)
    assert speed == pytest.approx(wanted, rel=0.12)


def test_a_variable_frame_rate_counts_by_time():
    seconds = np.sort(np.random.default_rng(1).choice(np.arange(48) / 48, 30, replace=False))
    wanted, _ = degree(scene(np.arange(24) / 24 * 12, pace=2), np.arange(24) / 24)
    speed, _ = degree(scene(seconds * 12, pace=2), seconds)
    assert speed == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("fps", [5, 24, 25, 30, 120])
def test_looks_are_an_eighth_of_a_second_apart(fps):
    frames = np.zeros((2 * fps + 1, 16, 16, 3), np.uint8)
    times = 7.0 + np.arange(len(frames)) / fps
    moves = run(FlowMagnitude(), frames, times)
    assert len(moves) == (2 * fps if fps < 8 else 16)
    assert moves[:, 1].sum() == pytest.approx(2.0)


@pytest.mark.parametrize("cuts", [[1], [3, 4, 9], list(range(1, T)), [0, 0, T]])
@pytest.mark.parametrize("kind", [FlowInterpolation, FlowMagnitude])
def test_batches_do_not_matter(steady, kind, cuts):
    np.testing.assert_array_equal(run(kind(), steady, cuts=cuts), run(kind(), steady))


@pytest.mark.parametrize("kind", [FlowInterpolation, FlowMagnitude])
def test_threads_do_not_matter(steady, kind):
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = run(kind(), steady[:6])
        cv2.setNumThreads(4)
        np.testing.assert_array_equal(run(kind(), steady[:6]), one)
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("kind", [FlowInterpolation, FlowMagnitude])
def test_the_callers_memory_may_be_used_again(steady, kind):
    statistic, times = kind(), np.arange(T) / 24
    for frame, time in zip(steady, times, strict=True):
        buffer = frame[None].copy()
        statistic.update(buffer, np.array([time]))
        buffer[:] = 0
    np.testing.assert_array_equal(statistic.result(), run(kind(), steady))


@pytest.mark.parametrize("shape", [(97, 131), (2, 2), (1, 1), (32, 320), (320, 32), (31, 320), (20, 320), (1, 19)])
def test_odd_and_tiny_pictures_have_a_score(shape):
    frames = np.random.default_rng(0).integers(0, 256, (5, *shape, 3), dtype=np.uint8)
    if _flow.working_size(*shape) is None:
        with pytest.raises(Unscorable, match=r"^too thin for optical flow$"):
            smooth(frames)
        with pytest.raises(Unscorable, match=r"^too thin for optical flow$"):
            degree(frames)
    else:
        assert 0 < smooth(frames) < 1
        assert degree(frames)[0] >= 0


def test_flow_is_never_asked_of_pictures_that_are_too_thin_for_it():
    thin = np.zeros((20, 320), np.uint8)
    with pytest.raises(ValueError, match="need 32 pixels a side"):
        _flow.flow_between(thin, thin)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_frames_have_no_score(steady, n):
    with pytest.raises(Unscorable, match=r"^too short$"):
        smooth(steady[:n])
    with pytest.raises(Unscorable, match=r"^too short$"):
        degree(steady[:n])


def test_two_frames_far_enough_apart_have_a_degree(steady):
    assert degree(steady[[0, 4]], np.array([0.0, 0.2]))[0] > 0


@pytest.mark.parametrize("kind", [FlowInterpolation, FlowMagnitude])
@pytest.mark.parametrize(
    "bad", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((1, 0, 4, 3), np.uint8)]
)
def test_malformed_frames(kind, bad):
    with pytest.raises(ValueError, match="expected"):
        kind().update(bad, np.zeros(len(bad)))


@pytest.mark.parametrize("kind", [FlowInterpolation, FlowMagnitude])
def test_a_picture_that_changes_its_size(steady, kind):
    statistic = kind()
    statistic.update(steady[:1], np.zeros(1))
    with pytest.raises(ValueError, match="different size"):
        statistic.update(steady[:1, :100], np.ones(1))


@needs_shared
def test_a_stall_and_a_still_in_the_golden_clips():
    clips = np.load(CLIPS)
    assert smooth(clips["static_128x96"]) == 1.0
    assert degree(clips["static_128x96"]) == (0.0, False)
    carphone = clips["real_carphone"]
    stuttering = carphone[np.arange(len(carphone)) // 2 * 2]
    assert smooth(stuttering) < smooth(carphone)


def test_registered():
    assert get("statistics", "flow_interpolation") is FlowInterpolation
    assert get("statistics", "flow_magnitude") is FlowMagnitude
    assert isinstance(FlowInterpolation(), FrameStatistic)
    assert isinstance(FlowMagnitude(), FrameStatistic)
