"""Rotations against published numbers, against each other and at the angles where formulas break."""

import math
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from macebench.motion.rotations import (
    axis_angle_to_matrix,
    axis_angle_to_quaternion,
    euler_to_matrix,
    matrix_to_axis_angle,
    matrix_to_euler,
    matrix_to_quaternion,
    matrix_to_rotation_6d,
    quaternion_multiply,
    quaternion_to_axis_angle,
    quaternion_to_matrix,
    rotation_6d_to_matrix,
    slerp,
    turn_up_z_to_y,
)
from macebench.skeleton import forward_kinematics

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
GOLDEN = SHARED / "golden" / "parity" / "rotations_fk_normalizer.npz"
ATOL = 2e-6  # the published numbers are float32

vectors = hnp.arrays(np.float64, (4, 3), elements=st.floats(-12, 12))


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.is_file():
        pytest.skip("the shared golden values are not beside the checkout")
    with np.load(GOLDEN, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def close(one, other, atol=1e-12):
    np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def test_golden_conversions(golden):
    matrices = axis_angle_to_matrix(golden["axis_angle"])
    close(matrices[:1, :6], golden["matrix"], ATOL)
    close(quaternion_to_matrix(golden["quat_from_axis_angle"]), matrices[:1, :6], ATOL)
    close(rotation_6d_to_matrix(golden["rot6d_raw_nonorthonormal"]), golden["matrix_from_raw6d"], ATOL)
    close(matrix_to_axis_angle(golden["matrix_from_raw6d"]), golden["axis_angle_from_raw6d"], 1e-4)
    close(matrix_to_rotation_6d(matrices), golden["rot6d_from_axis_angle"], ATOL)
    back = rotation_6d_to_matrix(golden["rot6d_from_axis_angle"])
    close(back, axis_angle_to_matrix(golden["axis_angle_from_rot6d"]), ATOL)


def test_golden_forward_kinematics(golden):
    for poses, root, joints in zip(golden["axis_angle"], golden["root_pos"], golden["fk_joints"], strict=True):
        close(forward_kinematics(poses, root), joints, 1e-5)


@given(vectors)
def test_every_form_is_the_same_rotation(vector):
    matrix = axis_angle_to_matrix(vector)
    close(matrix @ np.swapaxes(matrix, -1, -2), np.broadcast_to(np.eye(3), (4, 3, 3)))
    close(np.linalg.det(matrix), np.ones(4))
    close(quaternion_to_matrix(axis_angle_to_quaternion(vector)), matrix)
    close(quaternion_to_matrix(matrix_to_quaternion(matrix)), matrix)
    close(axis_angle_to_matrix(matrix_to_axis_angle(matrix)), matrix)
    close(rotation_6d_to_matrix(matrix_to_rotation_6d(matrix)), matrix)
    assert np.all(np.linalg.norm(matrix_to_axis_angle(matrix), axis=-1) <= math.pi + 1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-300, 1e-12, 1e-8, 1e-4, 1.0, 3.0, math.pi - 1e-7, math.pi - 1e-12])
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, -1, 0), (0, 0, 1), (1, 1, 1), (-2, 1, 0.5)])
def test_axis_angle_survives_near_nothing_and_near_a_half_turn(angle, axis):
    vector = angle * np.array(axis) / np.linalg.norm(axis)
    close(matrix_to_axis_angle(axis_angle_to_matrix(vector)), vector, 1e-9)
    close(quaternion_to_axis_angle(axis_angle_to_quaternion(vector)), vector, 1e-14 + 1e-12 * angle)


def test_exact_half_turns_have_no_branch_that_fails():
    for axis in product((-1, 0, 1), repeat=3):
        if any(axis):
            vector = math.pi * np.array(axis) / np.linalg.norm(axis)
            matrix = axis_angle_to_matrix(vector)
            close(axis_angle_to_matrix(matrix_to_axis_angle(matrix)), matrix)


def test_known_values():
    quarter = axis_angle_to_matrix(np.array([0, 0, math.pi / 2]))
    close(quarter @ [1, 0, 0], [0, 1, 0])
    close(matrix_to_quaternion(quarter), [math.sqrt(0.5), 0, 0, math.sqrt(0.5)])
    close(matrix_to_rotation_6d(quarter), [0, -1, 0, 1, 0, 0])
    close(turn_up_z_to_y(np.array([1.0, 2.0, 3.0])), [1, 3, -2])
    close(axis_angle_to_matrix(np.array([-math.pi / 2, 0, 0])) @ [1, 2, 3], [1, 3, -2])
    close(quaternion_to_axis_angle(np.zeros(4)), np.zeros(3))


def test_six_numbers_are_made_orthonormal_from_the_first_row_on():
    matrix = rotation_6d_to_matrix(np.array([2.0, 0, 0, 5.0, 3.0, 0]))
    close(matrix, np.eye(3))


@pytest.mark.parametrize("six", [[0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0], [1, 2, 3, 2, 4, 6]])
def test_six_numbers_that_are_no_rotation_are_refused(six):
    with pytest.raises(ValueError, match="6-D rotation"):
        rotation_6d_to_matrix(np.array(six, dtype=float))


@pytest.mark.parametrize("order", ["".join(order) for order in permutations("xyz")])
@settings(max_examples=25)
@given(angles=hnp.arrays(np.float64, (3,), elements=st.floats(-3.1, 3.1)))
def test_euler_angles_there_and_back(order, angles):
    matrix = euler_to_matrix(angles, order)
    parts = [axis_angle_to_matrix(angle * np.eye(3)["xyz".index(a)]) for angle, a in zip(angles, order, strict=True)]
    close(matrix, parts[0] @ parts[1] @ parts[2])
    close(euler_to_matrix(matrix_to_euler(matrix, order), order), matrix, 1e-8)


@pytest.mark.parametrize("order", ["".join(order) for order in permutations("xyz")])
@pytest.mark.parametrize("middle", [math.pi / 2, -math.pi / 2])
def test_euler_angles_in_gimbal_lock(order, middle):
    matrix = euler_to_matrix(np.array([0.7, middle, -0.4]), order)
    angles = matrix_to_euler(matrix, order)
    assert angles[2] == 0
    close(euler_to_matrix(angles, order), matrix, 1e-8)


def test_euler_orders_are_checked():
    close(euler_to_matrix(np.array([0.3]), "Y"), axis_angle_to_matrix(np.array([0, 0.3, 0])))
    for order in ("xy", "xyw"):
        with pytest.raises(ValueError, match="Euler"):
            euler_to_matrix(np.zeros(3), order)
    with pytest.raises(ValueError, match="once each"):
        matrix_to_euler(np.eye(3), "xyx")


@given(vectors, vectors)
def test_a_product_of_quaternions_is_the_product_of_matrices(one, other):
    product_ = quaternion_multiply(axis_angle_to_quaternion(one), axis_angle_to_quaternion(other))
    close(quaternion_to_matrix(product_), axis_angle_to_matrix(one) @ axis_angle_to_matrix(other))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.5, 3.1])
def test_slerp_turns_at_constant_speed(angle):
    axis = np.array([1.0, 2.0, -2.0]) / 3
    ends = axis_angle_to_quaternion(np.stack([0.4 * axis, (0.4 + angle) * axis]))
    shares = np.linspace(0, 1, 11)
    found = quaternion_to_matrix(slerp(ends[0], ends[1], shares))
    close(found, axis_angle_to_matrix((0.4 + angle * shares)[:, None] * axis))


def test_slerp_goes_the_short_way_and_takes_either_sign():
    start, end = axis_angle_to_quaternion(np.array([[0, 0, 3.0], [0, 0, -3.0]]))
    middle = quaternion_to_matrix(slerp(start, end, np.float64(0.5)))
    close(middle, axis_angle_to_matrix(np.array([0, 0, math.pi])))
    close(quaternion_to_matrix(slerp(start, -end, np.float64(0.25))), quaternion_to_matrix(slerp(start, end, 0.25)))


def test_golden_slerp(golden):
    start, end = axis_angle_to_quaternion(golden["axis_angle"])
    found = slerp(start, end, golden["slerp_weights"][0])
    close(quaternion_to_matrix(found), quaternion_to_matrix(golden["slerp_out"][0]), ATOL)
