from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench import registry
from macebench.demo.choreography import choreograph
from macebench.errors import Unscorable
from macebench.metrics.activity import (
    STILL_M_S,
    STILL_TORSOS_S,
    activity,
    activity_2d,
    activity_3d,
    relative_speed,
    torso_length,
)
from macebench.protocol import load_protocol
from macebench.types import Clip, Evidence, Missing, Motion, PoseTrack

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
AIST = SHARED / "golden" / "parity" / "aist_clips_joints_DATA.npz"
needs_shared = pytest.mark.skipif(not AIST.is_file(), reason="needs ../shared/golden/parity")
FIXED3, FIXED2 = load_protocol("motion3d-fixed/1"), load_protocol("ma2d-fixed/1")
REST = np.array(
    [[0, 60], [3, 63], [-3, 63], [6, 61], [-6, 61], [16, 44], [-16, 44], [22, 20], [-22, 20], [24, 0], [-24, 0],
     [9, 0], [-9, 0], [10, -30], [-10, -30], [11, -60], [-11, -60]], dtype=float,
)  # fmt: skip


def dance(fps=30.0, seconds=6.0, seed=0):
    return choreograph(np.arange(0.3, seconds, 0.55), seconds, fps, seed, "pop").motion.joints


def still(frames=120):
    return np.repeat(dance(seconds=1.0)[:1], frames, axis=0)


def share(joints, fps=30.0):
    return activity(joints, fps=fps, still_speed=STILL_M_S).frozen_share


def clip_of(pose=None, motion=None):
    missing = Missing("no picture")
    motion = Missing("no 3-D motion") if motion is None else motion
    return Evidence(Clip("a", Path("a"), "0" * 64), 4.0, pose or Missing("no person"), missing, missing, motion)


def track(points, confidence=0.9, fps=30.0):
    trust = np.full(points.shape[:2], confidence)
    return PoseTrack(
        points, np.where(np.isfinite(points).all(axis=2), trust, 0.0), np.arange(len(points)) / fps, 400, 400
    )


def swinging(fps=30.0, seconds=4.0):
    """COCO-17: arms and legs swing by up to a third of the torso (44 pixels) once a second."""
    t = np.arange(round(fps * seconds))[:, None] / fps
    points = np.array([200.0, 200.0]) + np.repeat((REST * [1, -1])[None], len(t), axis=0)
    size = np.array([0, 0, 0, 0, 0, 1, 1, 8, 8, 15, 15, 1, 1, 8, 8, 14, 14])
    points[..., 0] += size * np.sin(2 * np.pi * t + np.arange(17))
    return points


def test_frozen_is_one_and_a_dance_is_near_zero():
    assert activity(still(), fps=30, still_speed=STILL_M_S).motion_energy == 0.0
    assert share(still()) == 1.0
    assert share(dance()) < 0.05


@needs_shared
def test_real_clips_move():
    """Half of the two-second clips are never still; a few begin with a dancer who waits."""
    shares = [share(clip.astype(np.float64)) for clip in np.load(AIST)["joints"]]
    assert np.median(shares) == 0.0
    assert np.mean(shares) < 0.15
    assert np.mean(np.array(shares) > 0.3) < 0.15


@pytest.mark.parametrize("fps", [15.0, 30.0, 60.0])
def test_noise_of_a_centimetre_does_not_hide_a_frozen_clip_and_three_do(fps):
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(0.0, 1.0, (round(4 * fps), 24, 3))
        assert share(still(len(noise)) + 0.01 * noise, fps) == 1.0
        assert share(still(len(noise)) + 0.03 * noise, fps) < 0.5


def test_noise_does_not_make_a_dance_less_active():
    clip = dance()
    noisy = clip + np.random.default_rng(0).normal(0, 0.005, clip.shape)
    assert share(noisy) <= share(clip) + 0.01


def test_a_statue_that_slides_is_frozen_and_so_is_one_under_a_moving_camera():
    second = np.arange(120)[:, None, None] / 30
    assert share(still() + second * [2.0, 0.0, 0.5]) == 1.0
    points = swinging()
    points[:] = points[:1]
    pan = np.arange(len(points))[:, None, None] * [3.0, 0.0]
    assert activity_2d(clip_of(track(points + pan)), FIXED2)["frozen_share"] == 1.0


def test_half_of_the_time():
    clip = np.concatenate([dance(seconds=4.0), np.repeat(dance(seconds=4.0)[-1:], 120, axis=0)])
    assert share(clip) == pytest.approx(0.5, abs=0.06)


def test_energy_is_the_mean_square_of_the_speed():
    """Two points that part at 1 m/s each way: 1 (m/s)^2 relative to their middle."""
    t = np.arange(60)[:, None] / 30
    points = np.stack([np.hstack([t, 0 * t, 0 * t]), np.hstack([-t, 0 * t, 0 * t])], axis=1)
    found = activity(points, fps=30, still_speed=STILL_M_S)
    assert found.motion_energy == pytest.approx(1.0, rel=1e-9)
    assert found.frozen_share == 0.0
    np.testing.assert_allclose(relative_speed(points, 30.0), 1.0)


@pytest.mark.parametrize("fps", [25.0, 60.0, 120.0])
def test_frame_rate_hardly_matters(fps):
    one, two = activity(dance(30.0), fps=30, still_speed=0.3), activity(dance(fps), fps=fps, still_speed=0.3)
    assert two.motion_energy == pytest.approx(one.motion_energy, rel=0.03)
    assert two.frozen_share == pytest.approx(one.frozen_share, abs=0.02)


@settings(max_examples=15, deadline=None)
@given(shift=st.tuples(*[st.floats(-5, 5)] * 3), angle=st.floats(-np.pi, np.pi), scale=st.floats(0.5, 2))
def test_place_heading_and_time_do_not_matter_and_size_does_as_it_should(shift, angle, scale):
    clip = dance(seconds=3.0)
    c, s = np.cos(angle), np.sin(angle)
    first = activity(clip, fps=30, still_speed=0.3)
    turned = clip @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T + np.array(shift)
    for other in (turned, clip[::-1]):
        found = activity(other, fps=30, still_speed=0.3)
        assert found.motion_energy == pytest.approx(first.motion_energy, rel=1e-9)
        assert found.frozen_share == pytest.approx(first.frozen_share, abs=0.012)
    larger = activity(scale * clip, fps=30, still_speed=0.3)
    assert larger.motion_energy == pytest.approx(scale**2 * first.motion_energy, rel=1e-9)
    assert (larger.frozen_share - first.frozen_share) * (scale - 1) <= 0


def test_a_joint_that_is_missing_counts_as_neither_still_nor_moving():
    clip = dance()
    holes = clip.copy()
    holes[30:60, 20:] = np.nan
    one, two = activity(clip, fps=30, still_speed=0.3), activity(holes, fps=30, still_speed=0.3)
    assert two.motion_energy == pytest.approx(one.motion_energy, rel=0.15)
    assert two.frozen_share == pytest.approx(one.frozen_share, abs=0.05)
    with pytest.raises(Unscorable, match="too short"):
        activity(np.where(np.arange(9)[:, None, None] % 2, np.nan, np.ones((9, 4, 2))), fps=15, still_speed=1)


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_too_short(frames):
    with pytest.raises(Unscorable, match="too short"):
        activity(np.zeros((frames, 24, 3)), fps=30, still_speed=STILL_M_S)
    if frames:
        with pytest.raises(Unscorable, match="too short"):
            activity_3d(clip_of(motion=Motion(30.0, np.zeros((frames, 24, 3)))), FIXED3)


@pytest.mark.parametrize(
    ("points", "options", "text"),
    [
        (np.zeros((9, 24)), {}, r"\(9, 24\)"),
        (np.zeros((9, 0, 3)), {}, r"\(9, 0, 3\)"),
        (np.full((9, 2, 3), np.inf), {}, "infinite"),
        (np.zeros((9, 2, 3)), {"fps": 0}, "fps"),
        (np.zeros((9, 2, 3)), {"still_speed": 0}, "still_speed"),
    ],
)
def test_malformed_input_is_refused(points, options, text):
    with pytest.raises(ValueError, match=text):
        activity(points, **({"fps": 30, "still_speed": 0.1} | options))


def test_registered():
    assert registry.get_metric("activity_3d").compute is activity_3d
    assert [column.name for column in registry.get_metric("activity_2d").columns] == [
        "frozen_share", "motion_energy", "pose_visibility",
    ]  # fmt: skip
    better = {column.name: column.better for column in registry.get_metric("activity_2d").columns}
    assert better == {"frozen_share": "reference", "motion_energy": "reference", "pose_visibility": "higher"}


def test_in_the_picture_speeds_are_torsos_a_second():
    points = swinging()
    found = activity_2d(clip_of(track(points)), FIXED2)
    assert found["frozen_share"] == 0.0
    assert found["pose_visibility"] == 1.0
    assert activity_2d(clip_of(track(points * 3)), FIXED2)["motion_energy"] == pytest.approx(found["motion_energy"])
    assert torso_length(points) == pytest.approx(44.0, rel=0.02)
    own = activity(points[::2] / 44.0, fps=15, still_speed=STILL_TORSOS_S)
    assert found["motion_energy"] == pytest.approx(own.motion_energy, rel=0.05)


def test_noise_of_an_estimator_does_not_hide_a_frozen_video():
    points = np.repeat(swinging()[:1], 120, axis=0)
    noisy = points + np.random.default_rng(0).normal(0, 0.88, points.shape)  # 2 % of the torso, a centimetre
    assert activity_2d(clip_of(track(noisy)), FIXED2)["frozen_share"] == 1.0


def test_visibility_is_kept_when_the_pose_is_refused():
    points = swinging()
    points[40:, 7:] = np.nan
    found = activity_2d(clip_of(track(points)), FIXED2)
    assert np.isnan(found["frozen_share"])
    assert found["note"] == "pose missing in too many frames"
    assert found["pose_visibility"] == pytest.approx((40 * 17 + 80 * 7) / (120 * 17))
    faint = track(swinging(), confidence=0.2)
    assert activity_2d(clip_of(faint), FIXED2)["pose_visibility"] == 0.0
    with pytest.raises(Unscorable, match="no person"):
        activity_2d(clip_of(), FIXED2)


def test_without_a_torso_there_is_no_scale():
    points = swinging()
    points[:, 11:13] = np.nan
    found = activity_2d(clip_of(track(points)), FIXED2)
    assert found["note"] == "the torso is never visible"
    assert 0.8 < found["pose_visibility"] < 0.9
