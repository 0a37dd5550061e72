"""The choreographer: on the beat, feet planted, bones rigid, no limb inside another."""

from dataclasses import replace

import numpy as np
import pytest

from macebench.demo.choreography import BALL_HEIGHT_M, GENRE_PHRASES, choreograph
from macebench.demo.phrases import ARMS, PHRASES, STAND
from macebench.render import fit_camera
from macebench.skeleton import SMPL_OFFSETS_M, SMPL_PARENTS, forward_kinematics

BEATS = np.arange(0.23, 5.0, 0.52)
CASES = [(genre, seed) for genre in sorted(GENRE_PHRASES) for seed in range(3)]


@pytest.fixture(scope="module")
def dances():
    return {case: choreograph(BEATS, 5.0, 30.0, case[1], case[0]) for case in CASES}


def test_same_seed_same_dance():
    one, other = (choreograph(BEATS, 3.0, 30.0, 4, "pop") for _ in range(2))
    assert np.array_equal(one.motion.rotations, other.motion.rotations)
    assert one.phrases == other.phrases
    assert not np.array_equal(one.motion.joints, choreograph(BEATS, 3.0, 30.0, 5, "pop").motion.joints)


def test_joints_follow_from_rotations(dances):
    motion = dances["pop", 0].motion
    assert forward_kinematics(motion.rotations, motion.root) == pytest.approx(motion.joints)
    lengths = np.linalg.norm(motion.joints[:, 1:] - motion.joints[:, list(SMPL_PARENTS[1:])], axis=2)
    assert lengths == pytest.approx(np.broadcast_to(np.linalg.norm(SMPL_OFFSETS_M[1:], axis=1), lengths.shape))


@pytest.mark.parametrize("case", CASES)
def test_planted_feet_do_not_slide(dances, case):
    dance = dances[case]
    for side in (0, 1):
        toes = dance.motion.joints[:, 10 + side]
        planted = dance.contacts[1:, side] & dance.contacts[:-1, side]
        assert np.linalg.norm(np.diff(toes, axis=0), axis=1)[planted].max() < 1e-6
        assert toes[dance.contacts[:, side], 1] == pytest.approx(BALL_HEIGHT_M, abs=1e-6)
    assert dance.contacts.any(axis=1).all(), "one foot is always on the floor"
    assert dance.motion.joints[:, :, 1].min() > 0.01, "nothing is below the floor"


def mean_speed(motion) -> np.ndarray:
    """Mean speed of the projected joints, pixels a frame, between neighbouring frames."""
    pixels, _ = fit_camera(motion, 512, 512).project(motion.joints, 512, 512)
    return np.linalg.norm(np.diff(pixels, axis=0), axis=2).mean(axis=1)


def alignment(speed: np.ndarray, fps: float, beats: np.ndarray) -> float:
    """Mean over beats of a Gaussian (0.1 s) of the distance to the nearest minimum of speed."""
    smooth = np.convolve(speed, [0.25, 0.5, 0.25], mode="same")
    inner = smooth[1:-1]
    minima = (np.flatnonzero((inner < smooth[:-2]) & (inner < smooth[2:])) + 1.5) / fps
    return float(np.mean([np.exp(-(np.abs(minima - beat).min() ** 2) / 0.02) for beat in beats]))


def test_the_limbs_rest_on_the_beats_and_not_between_them(dances):
    inner = BEATS[1:-1]
    on = [alignment(mean_speed(dance.motion), 30.0, inner) for dance in dances.values()]
    off = [alignment(mean_speed(dance.motion), 30.0, inner + 0.26) for dance in dances.values()]
    assert min(on) > 0.9
    assert np.mean(off) < 0.2


def test_speed_has_its_minimum_on_the_beat_to_a_frame(dances):
    """With 120 frames a second the slowest instant around a beat is within 25 ms of it."""
    dance = choreograph(BEATS, 5.0, 120.0, 1, "disco")
    speed = mean_speed(dance.motion)
    times = (np.arange(len(speed)) + 0.5) / 120.0
    for beat in BEATS[1:-1]:
        around = np.abs(times - beat) < 0.2
        assert abs(times[around][speed[around].argmin()] - beat) < 0.025


def test_the_beats_may_be_uneven():
    beats = np.array([0.4, 0.9, 1.5, 2.0, 2.7, 3.2, 3.6])
    speed = mean_speed(choreograph(beats, 4.0, 60.0, 0, "house").motion)
    assert alignment(speed, 60.0, beats[1:-1]) > 0.9


@pytest.mark.parametrize("case", CASES)
def test_knees_bend_the_right_way_and_nothing_jerks(dances, case):
    motion = dances[case].motion
    assert motion.rotations[:, [4, 5], 0].min() > 0.05
    assert np.abs(motion.rotations[:, [4, 5], 1:]).max() < 1e-6
    left, right = motion.rotations[:, 18, 1], motion.rotations[:, 19, 1]
    assert left.max() < 0
    assert right.min() > 0
    acceleration = np.linalg.norm(np.diff(motion.joints, 2, axis=0), axis=2) * motion.fps**2
    assert acceleration.max() < 120.0


def capsules_apart(a0, a1, b0, b1) -> float:
    """Smallest distance over all frames of two line segments, by sampling."""
    share = np.linspace(0, 1, 7)[None, :, None]
    a = a0[:, None] + (a1 - a0)[:, None] * share
    b = b0[:, None] + (b1 - b0)[:, None] * share
    return float(np.linalg.norm(a[:, :, None] - b[:, None], axis=3).min())


@pytest.mark.parametrize("case", CASES)
def test_limbs_keep_apart(dances, case):
    joint = dict(enumerate(np.moveaxis(dances[case].motion.joints, 1, 0)))
    head_top = joint[15] + [0.0, 0.12, 0.0]
    for side in (0, 1):
        elbow, wrist = joint[18 + side], joint[20 + side]
        hand = joint[22 + side] + 0.6 * (joint[22 + side] - wrist)
        assert capsules_apart(wrist, hand, joint[0], joint[9]) > 0.11
        assert capsules_apart(elbow, wrist, joint[0], joint[9]) > 0.12
        assert capsules_apart(wrist, hand, joint[15], head_top) > 0.10
    assert capsules_apart(joint[4], joint[7], joint[5], joint[8]) > 0.05
    assert capsules_apart(joint[7], joint[10], joint[8], joint[11]) > 0.05
    assert capsules_apart(joint[18], joint[20], joint[19], joint[21]) > 0.05


def test_phrases_are_varied_and_genres_use_known_ones():
    assert set().union(*GENRE_PHRASES.values()) == set(PHRASES)
    ends = []
    for phrase in PHRASES.values():
        poses = phrase(np.random.default_rng(0))
        assert len(poses) == 4
        assert {pose.arms[side] for pose in poses for side in (0, 1)} <= set(ARMS)
        ends.append(poses[0])
    assert len(set(ends)) == len(PHRASES)


def test_mirroring_twice_changes_nothing():
    for phrase in PHRASES.values():
        for pose in phrase(np.random.default_rng(1)):
            twice = pose.mirrored().mirrored()
            assert twice.weight == pytest.approx(pose.weight)
            assert replace(twice, weight=pose.weight) == pose
            assert pose.mirrored().arms == pose.arms[::-1]
            assert pose.mirrored().left.x == -pose.right.x
    assert STAND.mirrored() == STAND


def test_bad_arguments():
    with pytest.raises(ValueError, match="two beats"):
        choreograph(np.array([0.5]), 3.0, 30.0, 0)
    with pytest.raises(ValueError, match="polka"):
        choreograph(BEATS, 3.0, 30.0, 0, "polka")
