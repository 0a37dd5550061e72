import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import Unscorable, UserError
from macebench.metrics.tracks import prepare_track
from macebench.protocol import load_protocol
from macebench.skeleton import coco17_to_coco25
from macebench.types import PoseTrack

FIXED, PAPER = load_protocol("ma2d-fixed/1"), load_protocol("ma2d-paper/1")


def track(n_frames=90, fps=30.0, start=0.0, joints=17, keypoints=None, confidence=None, times=None):
    """Every joint moves on a straight line: interpolation must be exact."""
    times = start + np.arange(n_frames) / fps if times is None else times
    if keypoints is None:
        base = np.arange(joints)[None, :, None] * np.array([3.0, 5.0]) + 100.0
        keypoints = base + (times - times[0])[:, None, None] * np.array([40.0, -20.0])
    trust = np.full(keypoints.shape[:2], 0.9) if confidence is None else confidence
    return PoseTrack(keypoints, trust, times, 640, 480, "coco17" if joints == 17 else "coco25")


def with_holes(clip, frames, joints):
    points, trust = clip.keypoints.copy(), clip.confidence.copy()
    for frame in frames:
        points[frame, joints] = np.nan
        trust[frame, joints] = 0
    return clip.replace(keypoints=points, confidence=trust)


def line(times, joints=17):
    base = np.arange(joints)[None, :, None] * np.array([3.0, 5.0]) + 100.0
    return base + times[:, None, None] * np.array([40.0, -20.0])


@pytest.mark.parametrize("fps", [15.0, 24.0, 25.0, 29.97, 30.0, 60.0])
def test_resampled_by_time(fps):
    prepared = prepare_track(track(round(4 * fps), fps, start=0.7), FIXED)
    assert prepared.fps == 15.0
    assert prepared.start_s == pytest.approx(0.7)
    assert len(prepared) in (59, 60)
    np.testing.assert_allclose(prepared.keypoints, line(np.arange(len(prepared)) / 15), atol=0.2)
    inside = np.arange(len(prepared)) / 15 <= (round(4 * fps) - 1) / fps
    np.testing.assert_allclose(prepared.keypoints[inside], line(np.arange(len(prepared)) / 15)[inside], rtol=1e-9)
    np.testing.assert_allclose(prepared.confidence, 0.9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_variable_frame_rate_is_no_matter(seed):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.01, 0.08, 120))
    prepared = prepare_track(track(times=times, keypoints=line(times - times[0])), FIXED)
    grid = np.arange(len(prepared)) / 15
    assert grid[-1] <= times[-1] - times[0] + 0.05 / 15
    inside = grid <= times[-1] - times[0]
    np.testing.assert_allclose(prepared.keypoints[inside], line(grid)[inside], rtol=1e-9, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(shift=st.floats(-100, 100))
def test_time_shift_moves_only_the_start(shift):
    first, second = prepare_track(track(), FIXED), prepare_track(track(start=shift), FIXED)
    np.testing.assert_allclose(second.keypoints, first.keypoints, atol=1e-6)
    assert second.start_s == pytest.approx(shift)


def test_short_holes_are_interpolated():
    clip = with_holes(track(), range(30, 44), [9, 10])
    prepared = prepare_track(clip, FIXED)
    np.testing.assert_allclose(prepared.keypoints, line(np.arange(45) / 15), rtol=1e-9)


def test_hole_of_exactly_the_limit_is_interpolated_and_a_longer_one_is_not():
    limit = prepare_track(with_holes(track(), range(30, 45), [9]), FIXED)  # 15 frames: 0.5 s
    assert np.isfinite(limit.keypoints).all()
    longer = prepare_track(with_holes(track(), range(30, 46), [9]), FIXED)
    missing = np.isnan(longer.keypoints).any(axis=(1, 2))
    np.testing.assert_array_equal(np.flatnonzero(missing), np.arange(15, 23))
    assert not np.isnan(longer.keypoints[:, np.arange(17) != 9]).any()
    assert (longer.confidence[missing, 9] == 0).all()


def test_nothing_is_extrapolated():
    prepared = prepare_track(with_holes(track(), [*range(6), *range(80, 90)], [0]), FIXED)
    assert np.isnan(prepared.keypoints[:3, 0]).all()
    assert np.isnan(prepared.keypoints[-4:, 0]).all()
    assert np.isfinite(prepared.keypoints[3:40, 0]).all()


def test_low_confidence_is_missing():
    confidence = np.full((90, 17), 0.9)
    confidence[30:60, 3] = 0.29
    wild = line(np.arange(90) / 30)
    wild[30:60, 3] = 1e6
    prepared = prepare_track(track(keypoints=wild, confidence=confidence), FIXED)
    assert np.isnan(prepared.keypoints[16:29, 3]).all()
    assert np.nanmax(prepared.keypoints) < 1e3


def test_every_second_frame_missing_is_still_a_track():
    prepared = prepare_track(with_holes(track(), range(1, 90, 2), slice(None)), FIXED)
    np.testing.assert_allclose(prepared.keypoints[:44], line(np.arange(44) / 15), rtol=1e-9)


@pytest.mark.parametrize("protocol", [FIXED, PAPER])
def test_nobody_there(protocol):
    clip = with_holes(track(150), range(150), slice(None))
    with pytest.raises(Unscorable, match=r"^no person$"):
        prepare_track(clip, protocol)


def test_too_many_bad_frames():
    good = with_holes(track(150), range(100, 125), range(6))  # 11 of 17 joints, 1/6 of the frames
    assert len(prepare_track(good, FIXED)) == 75
    bad = with_holes(track(150), range(80, 125), range(6))
    with pytest.raises(Unscorable, match=r"^pose missing in too many frames$"):
        prepare_track(bad, FIXED)


@pytest.mark.parametrize(("n_frames", "fps", "protocol"), [(1, 30, FIXED), (2, 30, FIXED), (57, 30, FIXED),
                                                           (63, 16, PAPER), (100, 30, PAPER)])  # fmt: skip
def test_too_short(n_frames, fps, protocol):
    with pytest.raises(Unscorable, match=r"^too short$"):
        prepare_track(track(n_frames, fps), protocol)


def test_paper_takes_the_first_64_frames_as_they_are():
    points = np.random.default_rng(0).uniform(0, 500, (80, 25, 2))
    for times in (np.arange(80) / 16, np.round(np.arange(80) / 16, 3), 0.5 + np.arange(80) / 16):
        prepared = prepare_track(track(joints=25, keypoints=points, times=times), PAPER)
        np.testing.assert_array_equal(prepared.keypoints, points[:64, :, ::-1])
        assert prepared.fps == 16.0


def test_paper_keeps_the_clips_clock():
    assert prepare_track(track(80, 16.0, start=0.25), PAPER).start_s == 0.25


def test_paper_takes_64_frames_of_a_64_frame_file_with_rounded_timestamps():
    points = np.random.default_rng(0).uniform(0, 500, (64, 25, 2))
    times = np.floor(np.arange(64) / 16 * 1000) / 1000
    assert len(prepare_track(track(joints=25, keypoints=points, times=times), PAPER)) == 64


def test_paper_takes_the_nearest_frame_of_other_rates():
    points = np.arange(150.0)[:, None, None] * np.ones((1, 25, 2)) + 1
    prepared = prepare_track(track(joints=25, keypoints=points, times=np.arange(150) / 30), PAPER)
    wanted = np.round(np.arange(64) / 16 * 30 - 1e-9)
    np.testing.assert_array_equal(prepared.keypoints[:, 0, 0] - 1, wanted)


def test_paper_puts_the_missing_into_the_corner():
    clip = with_holes(track(64, 16.0, joints=25), [5], slice(None))
    prepared = prepare_track(clip, PAPER)
    assert not prepared.keypoints[5].any()
    assert not prepared.confidence[5].any()
    np.testing.assert_array_equal(prepared.keypoints[6], clip.keypoints[6][:, ::-1])


def test_paper_widens_coco17():
    clip = track(64, 16.0)
    np.testing.assert_array_equal(prepare_track(clip, PAPER).keypoints, coco17_to_coco25(clip.keypoints)[..., ::-1])


def test_paper_keeps_points_of_no_confidence():
    """The released code does not look at confidence."""
    clip = track(64, 16.0, joints=25, confidence=np.zeros((64, 25)))
    np.testing.assert_array_equal(prepare_track(clip, PAPER).keypoints, clip.keypoints[..., ::-1])


def test_fixed_narrows_coco25():
    wide = coco17_to_coco25(track().keypoints)
    clip = track(joints=25, keypoints=wide)
    np.testing.assert_allclose(prepare_track(clip, FIXED).keypoints, prepare_track(track(), FIXED).keypoints)


def test_the_track_is_not_written_to():
    clip = track()
    before = clip.keypoints.copy()
    prepare_track(clip, FIXED)
    np.testing.assert_array_equal(clip.keypoints, before)


def test_a_skeleton_that_poses_do_not_have():
    with pytest.raises(UserError, match="smpl24"):
        prepare_track(track(), FIXED.model_copy(update={"skeleton": "smpl24"}))


@pytest.mark.parametrize("last", [1e6, 1e12, 1.7e308])
def test_a_clip_with_absurd_times_is_too_long(last):
    times = np.append(np.arange(89) / 30, last)
    points = np.full((90, 17, 2), 100.0)
    with pytest.raises(Unscorable, match="too long"):
        prepare_track(track(keypoints=points, times=times), FIXED)


def test_absurd_times_beyond_the_frames_that_a_protocol_uses_do_not_matter():
    times = np.append(np.arange(150) / 30, 1e9)
    points = np.full((151, 17, 2), 100.0)
    assert len(prepare_track(track(keypoints=points, times=times), PAPER)) == 64
