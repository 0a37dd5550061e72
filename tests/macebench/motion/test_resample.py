"""Frame rates: closed-form motions, limbs that keep their length, and frames that must not change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macebench.motion import resample, resample_motion
from macebench.motion.resample import bone_offsets
from macebench.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from macebench.skeleton import SMPL_OFFSETS_M, SMPL_PARENTS, forward_kinematics
from macebench.types import Motion


def turning(fps, seconds=2.0, offsets=SMPL_OFFSETS_M, speed=1.3):
    """Every joint turns about its own axis at constant speed, and the root walks a straight line."""
    times = np.arange(round(seconds * fps) + 1) / fps
    axes = np.random.default_rng(7).normal(size=(24, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    rotations = matrix_to_axis_angle(axis_angle_to_matrix(speed * times[:, None, None] * axes))
    root = np.stack([0.5 * times, 1.0 + 0 * times, -0.2 * times], axis=1)
    return Motion(fps, forward_kinematics(rotations, root, offsets), rotations, root)


def same(one, other, atol=1e-10):
    assert one.fps == other.fps
    np.testing.assert_allclose(one.joints, other.joints, rtol=0, atol=atol)
    np.testing.assert_allclose(one.root, other.root, rtol=0, atol=atol)
    if one.rotations is not None:
        pair = axis_angle_to_matrix(one.rotations), axis_angle_to_matrix(other.rotations)
        np.testing.assert_allclose(*pair, rtol=0, atol=atol)


def test_the_same_rate_gives_the_same_object():
    motion = turning(30)
    assert resample_motion(motion, 30) is motion


@pytest.mark.parametrize(("source", "wanted"), [(30, 60), (60, 30), (30, 24), (24, 30), (120, 30), (30, 29.97)])
def test_turning_at_constant_speed_is_found_exactly(source, wanted):
    found = resample_motion(turning(source), wanted)
    truth = turning(wanted)
    span = len(found)
    assert span == int(2 * wanted + 1e-6) + 1
    exact = Motion(wanted, truth.joints[:span], truth.rotations[:span], truth.root[:span])
    same(found, exact)


def test_there_and_back_changes_nothing():
    motion = turning(30)
    back = resample_motion(resample_motion(motion, 60), 30)
    assert np.array_equal(back.joints, motion.joints)
    assert np.array_equal(back.rotations, motion.rotations)


def test_frames_of_the_source_are_kept_to_the_bit():
    motion = turning(30, speed=4.0)
    found = resample_motion(motion, 60)
    assert np.array_equal(found.joints[::2], motion.joints)
    assert np.array_equal(found.rotations[::2], motion.rotations)
    assert np.array_equal(resample_motion(motion, 15).joints, motion.joints[::2])


def test_limbs_keep_the_length_that_the_clip_shows():
    offsets = SMPL_OFFSETS_M * np.linspace(0.7, 1.4, 24)[:, None]
    motion = turning(10, offsets=offsets, speed=6.0)
    np.testing.assert_allclose(bone_offsets(motion)[1:], offsets[1:], atol=1e-12)
    found = resample_motion(motion, 60)
    bones = found.joints[:, 1:] - found.joints[:, list(SMPL_PARENTS[1:])]
    lengths = np.linalg.norm(bones, axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(np.linalg.norm(offsets[1:], axis=1), lengths.shape), atol=1e-10)
    straight = resample_motion(Motion(10, motion.joints), 60).joints
    assert np.linalg.norm(straight[1::6, 4] - straight[1::6, 1], axis=-1).min() < lengths[:, 3].min() - 1e-3


def test_what_the_rotations_do_not_explain_is_kept():
    motion = turning(30)
    noise = 2e-4 * np.sin(np.arange(len(motion)))[:, None, None] * np.ones((24, 3))
    noisy = motion.replace(joints=motion.joints + noise)
    found = resample_motion(noisy, 60)
    assert np.array_equal(found.joints[::2], noisy.joints)
    expected = resample_motion(motion, 60).joints[1::2] + (noise[1:] + noise[:-1]) / 2
    np.testing.assert_allclose(found.joints[1::2], expected, atol=2e-4)


def test_joints_that_do_not_belong_to_the_rotations_go_straight():
    motion = turning(30)
    strange = motion.replace(joints=motion.joints[::-1].copy())
    assert bone_offsets(strange) is None
    found = resample_motion(strange, 60)
    np.testing.assert_allclose(found.joints[1::2], (strange.joints[1:] + strange.joints[:-1]) / 2, atol=1e-12)


def test_joints_alone_go_straight():
    motion = Motion(30, turning(30).joints)
    found = resample_motion(motion, 45)
    times = np.arange(len(found)) / 45
    expected = np.stack([np.interp(times, np.arange(len(motion)) / 30, motion.joints[:, 5, axis]) for axis in range(3)])
    np.testing.assert_allclose(found.joints[:, 5], expected.T, atol=1e-12)
    assert found.rotations is None


def test_a_half_turn_back_and_forth_goes_the_short_way():
    rotations = np.zeros((2, 24, 3))
    rotations[:, 16] = [[0, 0, 3.0], [0, 0, -3.0]]
    root = np.zeros((2, 3))
    motion = Motion(1, forward_kinematics(rotations, root), rotations, root)
    middle = resample_motion(motion, 2).rotations[1, 16]
    assert np.isclose(np.linalg.norm(middle), np.pi, atol=1e-9)


@given(st.integers(1, 40), st.floats(1, 240), st.floats(1, 240))
def test_the_grid_stays_inside_the_recording(frames, source, wanted):
    motion = Motion(source, np.zeros((frames, 24, 3)) + np.arange(frames)[:, None, None])
    found = resample_motion(motion, wanted)
    last = (len(found) - 1) / wanted
    end = (frames - 1) / source
    assert last <= end + 1e-6
    assert last + 1 / wanted > end - 1e-6
    np.testing.assert_allclose(found.joints[:, 0, 0], np.minimum(np.arange(len(found)) / wanted * source, frames - 1),
                               atol=1e-5)  # fmt: skip


def test_one_frame_and_no_frame():
    assert len(resample_motion(Motion(30, np.zeros((1, 24, 3))), 60)) == 1
    assert resample_motion(Motion(30, np.zeros((0, 24, 3))), 60).fps == 60


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(fps):
    with pytest.raises(ValueError, match="fps"):
        resample_motion(Motion(30, np.zeros((3, 24, 3))), fps)


def test_a_long_motion_is_done_in_blocks(monkeypatch):
    motion = turning(30, seconds=3, speed=4.0)
    whole = resample_motion(motion, 50)
    monkeypatch.setattr(resample, "_BLOCK", 7)
    assert bone_offsets(motion) is not None
    assert np.array_equal(resample_motion(motion, 50).joints, whole.joints)
    assert np.array_equal(resample_motion(motion, 50).rotations, whole.rotations)
