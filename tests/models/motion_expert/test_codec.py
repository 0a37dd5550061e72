"""Motions as vectors and back; the normalizer."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from macebench.errors import UserError
from macebench.models.motion_expert import codec
from macebench.models.motion_expert.codec import Normalizer, decode, encode
from macebench.skeleton import axis_angle_to_matrix, forward_kinematics
from macebench.types import Motion

parity = runpy.run_path(str(Path(__file__).parents[1] / "layers" / "parity.py"))


@pytest.fixture
def golden():
    return parity["golden"]("rotations_fk_normalizer")


def a_motion(frames=20, fps=30.0, seed=0):
    """Slow turns of all joints, y up."""
    rng = np.random.default_rng(seed)
    times = np.arange(frames)[:, None, None] / fps
    angles = rng.uniform(0.2, 1.2, (24, 3)) * np.sin(rng.uniform(0.5, 2, (24, 3)) * times + rng.uniform(0, 6, (24, 3)))
    root = np.concatenate([np.sin(times[:, 0]), 0.9 + 0 * times[:, 0], 0.3 * times[:, 0]], axis=1)
    return Motion(fps, forward_kinematics(angles, root), angles, root)


def test_golden_vectors(golden):
    for turns, root, wanted in zip(golden["vec_in_axis_angle72"], golden["vec_in_root"], golden["vec151"], strict=True):
        rotations = turns.reshape(-1, 24, 3).astype(np.float64)
        found = encode(Motion(30.0, forward_kinematics(rotations, root), rotations, root))
        np.testing.assert_allclose(found, wanted, atol=2e-6)
        np.testing.assert_array_equal(found[:, :4], wanted[:, :4])


def test_there_and_back():
    motion = a_motion()
    again = decode(encode(motion))
    assert again.fps == 30.0
    np.testing.assert_allclose(again.joints, motion.joints, atol=1e-9)
    np.testing.assert_allclose(again.rotations, motion.rotations, atol=1e-9)
    np.testing.assert_allclose(again.root, motion.root, atol=1e-9)
    np.testing.assert_allclose(encode(again), encode(motion), atol=1e-9)


def test_y_up_becomes_z_up():
    motion = a_motion()
    root = encode(motion)[:, codec.ROOT]
    np.testing.assert_allclose(root, np.stack([motion.root[:, 0], -motion.root[:, 2], motion.root[:, 1]], axis=1))
    up_in_body = axis_angle_to_matrix(motion.rotations[:, 0])[:, 1]
    np.testing.assert_allclose(kept_third_row(encode(motion)), up_in_body, atol=1e-12)


def kept_third_row(frames):
    """The third row of the root's matrix: where z-up's up lies in the body."""
    first, second = frames[:, 7:10], frames[:, 10:13]
    return np.cross(first, second)


def test_other_frame_rates_are_resampled():
    fine = a_motion(41, 60.0)
    found = encode(fine)
    assert found.shape == (21, 151)
    every_second = Motion(30.0, fine.joints[::2], fine.rotations[::2], fine.root[::2])
    np.testing.assert_allclose(found, encode(every_second), atol=1e-12)


def test_contacts_are_the_still_feet():
    joints = np.zeros((4, 24, 3))
    joints[:, 7, 0] = [0, 0.009, 0.02, 0.5]
    joints[:, 11, 2] = [0, 1, 1, 1]
    expected = [[1, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]]
    np.testing.assert_array_equal(codec.foot_contacts(joints), expected)


def test_channels_of_a_joint():
    motion = a_motion()
    turned = np.array(motion.rotations)
    turned[:, 16] += 0.3
    moved = encode(Motion(30.0, motion.joints, turned, motion.root))
    changed = np.flatnonzero(np.abs(moved - encode(motion)).max(axis=0) > 1e-9)
    assert set(changed) <= set(range(*codec.joint_channels(16).indices(151)))
    assert len(changed)
    with pytest.raises(ValueError, match="joint 24"):
        codec.joint_channels(24)


def test_what_cannot_be_encoded():
    motion = a_motion()
    with pytest.raises(UserError, match="needs rotations") as caught:
        encode(Motion(30.0, motion.joints))
    assert "macebench convert" in caught.value.hint
    with pytest.raises(UserError, match="no frame"):
        encode(Motion(30.0, np.zeros((0, 24, 3)), np.zeros((0, 24, 3))))
    broken = np.array(motion.rotations)
    broken[3, 4, 1] = np.nan
    with pytest.raises(UserError, match="not finite"):
        encode(Motion(30.0, motion.joints, broken, motion.root))


@pytest.mark.parametrize("shape", [(151,), (4, 150), (1, 4, 151)], ids=str)
def test_other_shapes_are_not_decoded(shape):
    with pytest.raises(UserError, match="expected"):
        decode(np.zeros(shape))


def test_values_that_are_not_finite_are_not_decoded():
    with pytest.raises(UserError, match="not finite"):
        decode(np.full((2, 151), np.inf))


def test_numbers_that_are_no_rotation_are_completed():
    frames = np.zeros((3, 151))
    frames[1, 7:] = np.tile([1.0, 0, 0, -2.0, 0, 0], 24)
    frames[2, 7:] = np.tile([1.0, 0, 0, 0, 1.0, 0], 24)
    motion = decode(frames)
    matrices = axis_angle_to_matrix(motion.rotations)
    np.testing.assert_allclose(
        matrices @ matrices.swapaxes(-1, -2), np.broadcast_to(np.eye(3), matrices.shape), atol=1e-9
    )
    np.testing.assert_allclose(motion.rotations[2, 1:], 0, atol=1e-9)


def test_golden_normalizer(golden):
    normalizer = Normalizer.fit(golden["mm_fit"])
    np.testing.assert_allclose(normalizer.scale, golden["mm_scale"], rtol=2e-6)
    np.testing.assert_allclose(normalizer.minimum, golden["mm_min"], atol=2e-6)
    for x in (golden["mm_in"], torch.from_numpy(golden["mm_in"])):
        np.testing.assert_allclose(normalizer.normalize(x), golden["mm_normalized"], atol=2e-6)
        np.testing.assert_allclose(normalizer.unnormalize(x), golden["mm_unnormalized_of_in"], atol=2e-6)


def test_normalizer_maps_training_values_into_the_range_and_back():
    frames = np.random.default_rng(5).normal(size=(50, 151)) * 3 + 1
    frames[:, 7] = 4.0
    normalizer = Normalizer.fit(frames)
    inside = normalizer.normalize(frames)
    np.testing.assert_allclose([inside.min(), np.delete(inside, 7, axis=1).max(axis=0).min()], [-1, 1], atol=1e-12)
    np.testing.assert_allclose(inside[:, 7], -1)
    np.testing.assert_allclose(normalizer.unnormalize(inside), frames, atol=1e-12)


def test_normalizer_clips_unless_told_not_to():
    normalizer = Normalizer(np.array([2.0]), np.array([-1.0]))
    for x in (np.array([[5.0]]), torch.tensor([[5.0]])):
        assert normalizer.normalize(x).item() == 1.0
        assert normalizer.normalize(x, clip=False).item() == 9.0
        assert normalizer.unnormalize(x).item() == 1.0
        assert normalizer.unnormalize(x, clip=False).item() == 3.0


def test_a_tensor_keeps_its_type_and_gradient():
    normalizer = Normalizer(np.array([2.0, 4.0]), np.array([-1.0, 0.0]))
    x = torch.tensor([[0.5, 0.25]], requires_grad=True)
    value = normalizer.unnormalize(x)
    value.sum().backward()
    assert value.dtype == torch.float32
    assert x.grad.tolist() == [[0.5, 0.25]]


@pytest.mark.parametrize("frames", [np.zeros((0, 3)), np.array([[1.0, np.nan]])], ids=["none", "nan"])
def test_what_cannot_be_fitted(frames):
    with pytest.raises(UserError):
        Normalizer.fit(frames)


@pytest.mark.parametrize(
    ("scale", "minimum"),
    [([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([np.inf], [1.0]), ([1.0], [np.nan]), ([[1.0]], [[1.0]])],
)
def test_what_is_no_normalizer(scale, minimum):
    with pytest.raises(ValueError, match="normalizer"):
        Normalizer(np.array(scale), np.array(minimum))


def test_a_normalizer_cannot_be_changed():
    scale = np.ones(3)
    normalizer = Normalizer(scale, np.zeros(3))
    scale[0] = 7.0
    assert normalizer.scale[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        normalizer.scale[0] = 2.0
