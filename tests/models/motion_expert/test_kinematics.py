"""Rotations and forward kinematics in torch: golden values, the numpy versions, gradients."""

import math
import runpy
from pathlib import Path

import beartype
import jaxtyping
import numpy as np
import pytest
import torch

from macebench import skeleton
from macebench.models.motion_expert import kinematics
from macebench.motion import rotations

parity = runpy.run_path(str(Path(__file__).parents[1] / "layers" / "parity.py"))
FUNCTIONS = (
    "rot6d_to_matrix", "matrix_to_rot6d", "axis_angle_to_matrix", "matrix_to_axis_angle", "forward_kinematics",
)  # fmt: skip


@pytest.fixture
def checked():
    """The functions with their shapes enforced."""
    check = jaxtyping.jaxtyped(typechecker=beartype.beartype)
    return {name: check(getattr(kinematics, name)) for name in FUNCTIONS}


@pytest.fixture
def golden():
    return {name: torch.from_numpy(array) for name, array in parity["golden"]("rotations_fk_normalizer").items()}


def some_axis_angles(*shape, seed=0):
    """Random vectors with angles up to pi, exact zero, tiny, and near pi among them."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(*shape, 3))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    angles = rng.uniform(0, math.pi, size=shape)
    angles.reshape(-1)[:6] = [0, 1e-9, 1e-5, 1e-3, math.pi - 1e-6, math.pi]
    return vectors * angles[..., None]


def test_golden_rotations(golden, checked):
    matrices = checked["axis_angle_to_matrix"](golden["axis_angle"])
    torch.testing.assert_close(matrices[:1, :6], golden["matrix"], atol=2e-6, rtol=0)
    six = checked["matrix_to_rot6d"](matrices)
    torch.testing.assert_close(six, golden["rot6d_from_axis_angle"], atol=2e-6, rtol=0)
    raw = checked["rot6d_to_matrix"](golden["rot6d_raw_nonorthonormal"])
    torch.testing.assert_close(raw, golden["matrix_from_raw6d"], atol=2e-6, rtol=0)
    again = checked["axis_angle_to_matrix"](checked["matrix_to_axis_angle"](raw))
    torch.testing.assert_close(again, raw, atol=2e-6, rtol=0)


def test_golden_joints(golden, checked):
    matrices = checked["rot6d_to_matrix"](golden["rot6d_from_axis_angle"])
    joints = checked["forward_kinematics"](matrices, golden["root_pos"])
    torch.testing.assert_close(joints, golden["fk_joints"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(60,), (2, 5, 24)], ids=str)
def test_as_the_numpy_versions(shape, checked):
    vectors = some_axis_angles(*shape)
    wanted = rotations.axis_angle_to_matrix(vectors)
    matrices = checked["axis_angle_to_matrix"](torch.from_numpy(vectors))
    np.testing.assert_allclose(matrices, wanted, atol=1e-12)
    six = checked["matrix_to_rot6d"](matrices)
    np.testing.assert_allclose(six, rotations.matrix_to_rotation_6d(wanted), atol=1e-12)
    np.testing.assert_allclose(checked["rot6d_to_matrix"](six), wanted, atol=1e-12)
    back = checked["matrix_to_axis_angle"](matrices)
    assert float(back.norm(dim=-1).max()) <= math.pi + 1e-9
    np.testing.assert_allclose(rotations.axis_angle_to_matrix(back.numpy()), wanted, atol=1e-12)


def test_forward_kinematics_as_the_numpy_version(checked):
    vectors, root = some_axis_angles(7, 24, seed=1), np.random.default_rng(2).normal(size=(7, 3))
    matrices = torch.from_numpy(rotations.axis_angle_to_matrix(vectors))
    found = checked["forward_kinematics"](matrices, torch.from_numpy(root))
    np.testing.assert_allclose(found, skeleton.forward_kinematics(vectors, root), atol=1e-12)
    batch = checked["forward_kinematics"](matrices.reshape(1, 7, 24, 3, 3), torch.from_numpy(root)[None])
    assert torch.equal(batch[0], found)
    single = checked["forward_kinematics"](matrices[3], torch.from_numpy(root[3]))
    np.testing.assert_allclose(single, found[3], atol=1e-14)


def test_other_bones():
    offsets = torch.from_numpy(2 * skeleton.SMPL_OFFSETS_M)
    matrices = torch.from_numpy(rotations.axis_angle_to_matrix(some_axis_angles(4, 24)))
    root = torch.zeros(4, 3, dtype=torch.float64)
    twice = kinematics.forward_kinematics(matrices, root, offsets)
    torch.testing.assert_close(twice, 2 * kinematics.forward_kinematics(matrices, root))


def test_gradients():
    generator = torch.Generator().manual_seed(3)
    six = torch.randn(2, 24, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    root = torch.randn(2, 3, dtype=torch.float64, generator=generator, requires_grad=True)

    def joints(six, root):
        return kinematics.forward_kinematics(kinematics.rot6d_to_matrix(six), root)

    assert torch.autograd.gradcheck(joints, (six, root), fast_mode=True)
    vectors = torch.from_numpy(some_axis_angles(20)[6:]).requires_grad_()
    assert torch.autograd.gradcheck(kinematics.axis_angle_to_matrix, (vectors,))
    assert torch.autograd.gradcheck(
        lambda v: kinematics.matrix_to_axis_angle(kinematics.axis_angle_to_matrix(v)), (vectors,)
    )


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, math.pi])
def test_gradients_are_finite_where_axes_are_lost(angle):
    vector = torch.tensor([angle, 0.0, 0.0], requires_grad=True)
    (slope,) = torch.autograd.grad(kinematics.axis_angle_to_matrix(vector).square().sum(), vector)
    assert torch.isfinite(slope).all()
    matrix = kinematics.axis_angle_to_matrix(vector.detach()).requires_grad_()
    (slope,) = torch.autograd.grad(kinematics.matrix_to_axis_angle(matrix).sum(), matrix)
    assert torch.isfinite(slope).all()


def test_six_numbers_that_are_no_rotation_give_finite_values_and_gradients():
    six = torch.tensor([[0.0] * 6, [1.0, 0, 0, 2.0, 0, 0]], requires_grad=True)
    matrix = kinematics.rot6d_to_matrix(six)
    (slope,) = torch.autograd.grad(matrix.sum(), six)
    assert torch.isfinite(matrix).all()
    assert torch.isfinite(slope).all()


def test_wrong_shapes_are_found(checked):
    with pytest.raises(jaxtyping.TypeCheckError):
        checked["rot6d_to_matrix"](torch.zeros(4, 5))
    with pytest.raises(jaxtyping.TypeCheckError):
        checked["forward_kinematics"](torch.zeros(4, 24, 3, 3), torch.zeros(5, 3))
