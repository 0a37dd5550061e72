import numpy as np
import pytest

from macebench import registry
from macebench.types import Beats, Clip, Evidence, Missing, Motion, PoseTrack

NAMES = [
    "ground-truth", "random-music", "time-shifted", "frozen", "jitter", "half-speed", "mirrored", "two-second-loop",
    "foot-skate", "identity-swap",
]  # fmt: skip


def evidence(name, n=10, beats=(0.5, 1.0, 1.5), pose=True):
    rng = np.random.default_rng(len(name))
    times = np.arange(n) / 10
    keypoints = np.cumsum(rng.normal(size=(n, 17, 2)), axis=0) + 100
    track = PoseTrack(keypoints, np.ones((n, 17)), times, 200, 200)
    return Evidence(
        Clip(name, f"/{name}.mp4", name * 8),
        n / 10,
        track if pose else Missing("no person"),
        Beats(np.array(beats), 2.0) if beats is not None else Missing("no music"),
        {"frame_difference": np.arange(1.0, n)},
    )


SET = (evidence("a"), evidence("b", beats=(0.3, 0.9, 1.5)), evidence("c", beats=(0.2, 0.6)))


def transform(name, items=SET, index=0):
    return registry.get("models", name)().transform(items, index)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("changes", [{"pose": False}, {"beats": None}, {"n": 1}, {"n": 2}, {"beats": ()}])
def test_every_calibration_survives_what_is_missing(name, changes):
    items = (evidence("a", **changes), SET[1])
    made = transform(name, items)
    assert made.clip == items[0].clip
    assert isinstance(made.pose, Missing) == isinstance(items[0].pose, Missing)


@pytest.mark.parametrize("name", NAMES)
def test_every_calibration_is_deterministic_and_leaves_the_original_alone(name):
    before = SET[0].pose.keypoints.copy()
    one, two = transform(name), transform(name)
    assert np.array_equal(one.pose.keypoints, two.pose.keypoints)
    assert np.array_equal(SET[0].pose.keypoints, before)
    assert np.array_equal(one.pose.times_s, SET[0].pose.times_s)


def test_ground_truth_is_unchanged():
    assert transform("ground-truth") is SET[0]


def test_random_music_takes_other_music_and_says_so_when_there_is_none():
    assert np.array_equal(transform("random-music").music.times_s, SET[1].music.times_s)
    alone = transform("random-music", (SET[0], SET[0]))
    assert alone.music == Missing("no other music in the set")


def test_time_shifted_moves_by_half_a_beat_and_stays_in_the_clip():
    assert transform("time-shifted").music.times_s == pytest.approx([0.25, 0.75, 1.25, 1.75])
    assert transform("time-shifted", (evidence("a", beats=(0.1, 1.9)),)).music.times_s == pytest.approx([1.0])


def test_frozen_does_not_move():
    made = transform("frozen")
    assert np.ptp(made.pose.keypoints, axis=0).max() == 0
    assert not made.frames["frame_difference"].any()


def test_jitter_is_one_percent_of_the_height_and_has_no_picture():
    big = evidence("a", n=400)
    made = transform("jitter", (big,))
    noise = made.pose.keypoints - big.pose.keypoints
    rows = big.pose.keypoints[..., 1]
    height = np.median(rows.max(1) - rows.min(1))
    assert np.std(noise) == pytest.approx(0.01 * height, rel=0.05)
    assert made.frames == Missing("calibration has no picture")


def test_half_speed_halves_displacements_and_repeats_pictures():
    original, made = SET[0].pose, transform("half-speed").pose
    np.testing.assert_allclose(made.keypoints[::2], original.keypoints[:5], atol=1e-9)
    middle = (original.keypoints[0] + original.keypoints[1]) / 2
    np.testing.assert_allclose(made.keypoints[1], middle, atol=1e-9)
    assert transform("half-speed").frames["frame_difference"].tolist() == [0, 1, 0, 2, 0, 3, 0, 4, 0]


def in_space(name, n=90):
    rng = np.random.default_rng(len(name))
    joints = np.cumsum(rng.normal(scale=0.01, size=(n, 24, 3)), axis=0) + rng.normal(size=(24, 3))
    gone = Missing("motion file")
    return Evidence(Clip(name, f"/{name}.npz", name * 8), n / 30, gone, Beats(np.array([0.5, 1.0]), 2.0), gone,
                    Motion(30.0, joints))  # fmt: skip


DANCES = (in_space("a"), in_space("bb"))


@pytest.mark.parametrize("name", ["frozen", "jitter", "half-speed", "mirrored", "two-second-loop", "foot-skate"])
def test_motions_in_space_are_changed_too(name):
    made = transform(name, DANCES)
    assert made.motion.joints.shape == (90, 24, 3)
    assert not np.array_equal(made.motion.joints, DANCES[0].motion.joints)
    assert made.music is DANCES[0].music
    assert made.frames == Missing("motion file")


@pytest.mark.parametrize("name", ["ground-truth", "random-music", "time-shifted"])
def test_music_models_leave_the_motion_alone(name):
    assert transform(name, DANCES).motion is DANCES[0].motion


def test_frozen_holds_the_middle_of_a_motion():
    made = transform("frozen", DANCES).motion.joints
    np.testing.assert_array_equal(made, np.broadcast_to(DANCES[0].motion.joints[45], made.shape))


def test_half_speed_of_a_motion_is_its_first_half():
    np.testing.assert_allclose(transform("half-speed", DANCES).motion.joints[::2], DANCES[0].motion.joints[:45])


def test_two_second_loop_repeats_every_two_seconds():
    long = (in_space("a", n=200), in_space("bb"))
    made = transform("two-second-loop", long).motion.joints
    np.testing.assert_array_equal(made[70:120], made[10:60])


def test_a_motion_in_space_has_no_identity_to_swap():
    assert transform("identity-swap", DANCES).motion == Missing("identities swap in video only")
    videos = (evidence("a", n=60), evidence("bb", n=60))
    made = np.all(transform("identity-swap", videos).pose.keypoints == videos[1].pose.keypoints, axis=(1, 2))
    assert made.mean() == pytest.approx(0.3, abs=0.05)
