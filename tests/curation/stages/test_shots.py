"""Shots: detectors fed frame by frame, transitions, flashes, fades, spans."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.curation._content import ContentScores, adaptive_ratio
from macebench.curation._transnet import TransNetScores, load_network
from macebench.curation.stage import ObservingStage, Task, Timeline
from macebench.curation.stages.shots import (
    Shots,
    ShotsConfig,
    ShotsObserver,
    Transition,
    boundaries,
    cut_times,
    transitions,
)
from macebench.errors import UserError
from macebench.media import Decoder
from macebench.registry import get

VIDEO = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "video"
FPS = 25.0
CONTENT = ShotsConfig(detector="content")
ADAPTIVE = ShotsConfig(detector="adaptive")
NET = ShotsConfig()


def scene(seed, count, size=(36, 64)):
    """A still of coloured blocks in which one block wanders."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(20, 236, (6, 8, 3), dtype=np.uint8)
    still = np.kron(blocks, np.ones((size[0] // 6, size[1] // 8, 1), np.uint8))
    frames = np.repeat(still[None], count, axis=0)
    for k in range(count):
        x = (k * 2) % (size[1] - 8)
        frames[k, size[0] // 2 : size[0] // 2 + 8, x : x + 6] = rng.integers(60, 200)
    return frames


def film(lengths, seed=0):
    return np.concatenate([scene(seed * 1000 + k, length) for k, length in enumerate(lengths)])


def lit(frames, spans, level=0.8):
    """White flashes (level > 0) or dark ones (level < 0) over the spans of frames."""
    changed = frames.astype(float)
    for first, after in spans:
        part = changed[first:after]
        changed[first:after] = part * (1 - level) + 255 * level if level > 0 else part * (1 + level)
    return changed.round().astype(np.uint8)


def observe(frames, detector="content", batch=16, times=None):
    observer = ShotsObserver(detector)
    times = np.arange(len(frames)) / FPS if times is None else np.asarray(times, float)
    for start in range(0, len(frames), batch):
        observer.update(frames[start : start + batch], times[start : start + batch])
    return observer.finish()


def same_timeline(a, b):
    return np.array_equal(a.times_s, b.times_s) and all(np.array_equal(a.values[k], b.values[k]) for k in a.values)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(8, 60), min_size=1, max_size=5), st.integers(0, 99), st.sampled_from([CONTENT, ADAPTIVE]))
def test_hard_cuts_are_found_where_they_are(lengths, seed, config):
    timeline = observe(film(lengths, seed))
    assert np.allclose(cut_times(timeline, config), np.cumsum(lengths)[:-1] / FPS)
    spans = boundaries(timeline, config)
    edges = np.concatenate([[0], np.cumsum(lengths)]) / FPS
    assert np.allclose(spans, np.stack([edges[:-1], edges[1:]], axis=1))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 70), st.integers(0, 9))
def test_content_does_not_depend_on_batches(batch, seed):
    frames = film([20, 31, 15], seed)
    assert same_timeline(observe(frames, batch=batch), observe(frames, batch=len(frames)))


@pytest.mark.parametrize("level", [0.8, 1.0, -0.8])
@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("config", [CONTENT, ADAPTIVE])
def test_flashes_are_no_cuts(config, length, level):
    frames = lit(film([60, 60]), [(20, 20 + length), (90, 90 + length)], level)
    timeline = observe(frames)
    assert cut_times(timeline, config).tolist() == [60 / FPS]
    assert len(cut_times(timeline, replace(CONTENT, flash_guard=False))) > 1


@pytest.mark.parametrize("span", [(57, 60), (58, 60), (60, 62), (60, 63), (59, 61)])
@pytest.mark.parametrize("config", [CONTENT, replace(ADAPTIVE, adaptive_ratio=1.5)])
def test_a_cut_beside_a_flash_is_a_cut(config, span):
    timeline = observe(lit(film([60, 60]), [span], 0.9))
    cuts = cut_times(timeline, config)
    assert len(cuts) == 1
    assert abs(cuts[0] - 60 / FPS) <= 2 / FPS + 1e-9


def test_a_strobe_is_one_shot():
    on = [(k, k + 3) for k in range(30, 90, 6)]
    off = [(k + 3, k + 6) for k in range(30, 90, 6)]
    frames = lit(lit(film([120]), on, 0.75), off, -0.7)
    assert len(cut_times(observe(frames), CONTENT)) == 0


def test_a_change_of_light_is_no_cut():
    frames = film([100]).astype(float)
    frames[50:] = frames[50:] * [0.35, 0.6, 1.0]
    timeline = observe(frames.astype(np.uint8))
    assert timeline.values["content"].max() > CONTENT.content_threshold
    assert len(cut_times(timeline, CONTENT)) == 0


def test_a_jump_cut_within_a_scene_is_a_cut():
    frames = film([100])
    frames[50:] = np.roll(frames[50:], 8, axis=2)
    assert cut_times(observe(frames), CONTENT).tolist() == [2.0]


def test_a_fade_to_black_belongs_to_neither_shot():
    frames = film([80, 80]).astype(float)
    ramp = np.ones(160)
    ramp[65:80] = np.linspace(1, 0, 16)[1:]
    ramp[80:88] = 0
    ramp[88:98] = np.linspace(0, 1, 11)[:-1]
    timeline = observe((frames * ramp[:, None, None, None]).astype(np.uint8))
    (before, after) = boundaries(timeline, CONTENT)
    assert before[0] == 0.0
    assert abs(before[1] - 65 / FPS) <= 3 / FPS
    assert abs(after[0] - 98 / FPS) <= 3 / FPS
    (one,) = transitions(timeline, CONTENT)
    assert 79 <= one.middle <= 88
    assert one.black
    assert not any(one.black for one in transitions(timeline, replace(CONTENT, fades=False)))


def test_a_dark_film_is_not_all_fade():
    frames = film([50]) // 32
    assert boundaries(observe(frames), CONTENT) == [(0.0, 2.0)]


def test_black_at_both_ends_is_cut_off():
    frames = film([100])
    frames[:10] = frames[90:] = 0
    assert boundaries(observe(frames), replace(CONTENT, fade_s=0.0)) == [(0.4, 3.6)]
    assert len(cut_times(observe(frames), CONTENT)) == 0


def test_no_picture_and_one_picture():
    for detector in ("content", "transnetv2"):
        none, one = observe(film([9])[:0], detector), observe(film([1]), detector)
        config = ShotsConfig(detector=detector)
        assert boundaries(none, config) == []
        assert transitions(none, config) == ()
        assert len(one.times_s) == 1
        assert boundaries(one, config, 0.04) == [(0.0, 0.04)]


def test_all_transition_leaves_no_shot():
    times = np.arange(50) / FPS
    ones = np.ones(50, np.float32)
    values = {"transition": ones, "transition_any": ones, "thumb": np.zeros((50, 8, 8, 3), np.uint8)}
    timeline = Timeline(times, values)
    assert boundaries(timeline, NET) == []
    verdict = Shots().process(Task(Path("x"), "0", 0.0, 2.0, observed={"shots": timeline}))
    assert verdict.rejection is not None
    assert verdict.rejection.reason == "no shot"


def scored(single, every, config=NET):
    count = len(single)
    rng = np.random.default_rng(0)
    thumbs = rng.integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    values = {"transition": np.array(single, float), "transition_any": np.array(every, float), "thumb": thumbs}
    return transitions(Timeline(np.arange(count) / FPS, values), config)


def test_gradual_transitions_take_the_pictures_around_them_along():
    single, every = np.zeros(60), np.zeros(60)
    single[30], every[25:36], every[50:52] = 0.9, 0.8, 0.9
    assert scored(single, every) == (Transition(25, 36, 31),)
    assert scored(single, every, replace(NET, transnetv2_threshold=0.85)) == (Transition(30, 31, 31),)
    assert scored(single, every, replace(NET, transnetv2_threshold=0.95)) == ()


def test_uneven_timestamps_are_kept():
    frames = film([40, 40])
    times = np.cumsum(np.where(np.arange(80) % 3 == 0, 0.05, 0.02))
    times -= times[0]
    timeline = observe(frames, times=times)
    assert cut_times(timeline, CONTENT).tolist() == [times[40]]
    assert boundaries(timeline, CONTENT, 9.0) == [(0.0, times[40]), (times[40], 9.0)]
    flash = observe(lit(frames, [(10, 12)], 0.9), times=times)
    assert cut_times(flash, CONTENT).tolist() == [times[40]]


@pytest.mark.parametrize("config", [CONTENT, replace(CONTENT, content_threshold=60.0), ADAPTIVE])
def test_another_threshold_needs_no_other_pictures(config):
    frames = lit(film([150, 60, 140]), [(30, 32)], 0.6)
    stored, again = observe(frames), observe(frames, config.detector, batch=7)
    assert Shots(config).observer_settings() == Shots(CONTENT).observer_settings()
    assert transitions(stored, config) == transitions(again, config)


def test_content_is_what_the_library_says():
    from scenedetect import AdaptiveDetector, FrameTimecode, StatsManager

    frames = film([12, 9, 20], 3)
    stats = StatsManager()
    detector = AdaptiveDetector(window_width=2)
    detector.stats_manager = stats
    codes = [FrameTimecode(k, FPS) for k in range(len(frames))]
    import cv2

    for code, frame in zip(codes, frames, strict=True):
        large = cv2.resize(frame, (256, 144), interpolation=cv2.INTER_LINEAR)
        detector.process_frame(code, np.ascontiguousarray(large[..., ::-1]))
    content = ContentScores().update(frames)
    want = [stats.get_metrics(code, ["content_val"])[0] for code in codes[1:]]
    assert np.allclose(content[1:], want, rtol=1e-6)
    ratios = [stats.get_metrics(code, ["adaptive_ratio (w=2)"])[0] for code in codes[2:-2]]
    assert np.allclose(adaptive_ratio(content, 2)[2:-2], ratios, rtol=1e-5)


def test_adaptive_ratio_of_still_pictures():
    assert adaptive_ratio(np.zeros(9), 2).tolist() == [0.0] * 9
    assert adaptive_ratio(np.array([0, 0, 0, 20.0, 0, 0, 0]), 2)[3] == 255.0
    assert adaptive_ratio(np.array([1.0, 2.0]), 2).tolist() == [0.0, 0.0]


def test_a_long_stream_keeps_little(monkeypatch):
    observer = ShotsObserver("transnetv2")
    monkeypatch.setattr("macebench.curation._transnet._scores", lambda network, window: np.zeros((50, 2), np.float32))
    frames = scene(0, 64)
    for k in range(60):
        observer.update(frames, (np.arange(64) + 64 * k) / FPS)
        assert len(observer._scorer._waiting) < 100 + 64
    timeline = observer.finish()
    assert len(timeline.times_s) == len(timeline.values["transition"]) == 60 * 64
    assert sum(array.nbytes for array in timeline.values.values()) <= 208 * 60 * 64


@pytest.mark.parametrize("count", [1, 49, 50, 51, 101])
def test_windows_are_the_packages_own(count):
    import torch

    frames = film([count // 2 + 1, count], 5)[:count]
    small = torch.from_numpy(np.stack([f[::2, ::2][:18] for f in frames]))
    small = torch.nn.functional.pad(small, (0, 0, 8, 8, 5, 4))
    scores = TransNetScores()
    found = [scores.update(part.numpy()) for part in small.split(17)]
    found = np.concatenate([*found, scores.finish()])
    with torch.no_grad():
        single, every = load_network().predict_frames(small, quiet=True)
    assert found.shape == (count, 2)
    assert np.allclose(found, np.stack([single.numpy(), every.numpy()], axis=1), atol=2e-4)


def test_loading_the_network_changes_nothing_else():
    import torch

    load_network.cache_clear()
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global generator is what is tested
    torch.manual_seed(5)
    want = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    load_network()
    observe(film([5]), "transnetv2")
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == want  # noqa: NPY002
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads


def test_the_network_finds_cuts_and_does_not_depend_on_batches():
    frames = film([40, 50, 30], 7)
    timeline = observe(frames, "transnetv2")
    assert np.allclose(cut_times(timeline, NET), np.array([40, 90]) / FPS, atol=2 / FPS)
    assert same_timeline(timeline, observe(frames, "transnetv2", batch=7))


@pytest.mark.parametrize("detector", ["content", "adaptive", "transnetv2"])
@pytest.mark.skipif(not VIDEO.is_dir(), reason="shared/data/video is not beside the checkout")
def test_the_fades_of_the_real_film(detector):
    observer = ShotsObserver(detector)
    with Decoder() as decoder:
        for batch in decoder.frames(VIDEO / "pyscenedetect__fades.mp4", max_side=256):
            observer.update(batch.frames, batch.times_s)
    timeline = observer.finish()
    assert len(timeline.times_s) == 250
    config = ShotsConfig(detector=detector)
    assert np.abs(cut_times(timeline, config) * 25 - [84, 167]).max() <= 2
    verdict = Shots(config).process(Task(Path("fades"), "0", 0.0, 10.0, observed={"shots": timeline}))
    assert verdict.tasks == ()
    assert {r.reason for _, r in verdict.dropped} == {"shot too short"}


def test_short_shots_are_dropped_and_long_ones_go_on():
    timeline = observe(film([130, 20, 150]))
    shots = get("stages", "shots")(CONTENT)
    assert isinstance(shots, ObservingStage)
    task = Task(Path("x"), "0", 0.0, 12.0, {"probe.fps": 25.0}, observed={"shots": timeline})
    verdict = shots.process(task)
    assert [(t.start_s, t.end_s) for t in verdict.tasks] == [(0.0, 5.2), (6.0, 12.0)]
    ((short, why),) = verdict.dropped
    assert (short.start_s, short.end_s) == (5.2, 6.0)
    assert (why.reason, why.threshold) == ("shot too short", 5.0)
    assert why.value == pytest.approx(0.8)
    assert verdict.rejection is None
    assert verdict.tasks[0].scores["probe.fps"] == 25.0
    assert verdict.tasks[0].scores["shots.content_max"] < CONTENT.content_threshold
    part = shots.process(replace(task, start_s=6.0))
    assert [(t.start_s, t.end_s) for t in part.tasks] == [(6.0, 12.0)]


def test_one_short_shot_is_a_rejection():
    verdict = Shots(CONTENT).process(Task(Path("x"), "0", 0.0, 2.0, observed={"shots": observe(film([50]))}))
    assert verdict.rejection is not None
    assert (verdict.rejection.reason, verdict.rejection.value) == ("shot too short", 2.0)


@pytest.mark.parametrize("wrong", [{"detector": "pyscenedetect"}, {"flash_s": -1.0}, {"adaptive_window": 0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(UserError, match="shots"):
        ShotsConfig(**wrong)
