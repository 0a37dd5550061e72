"""Rotations, interpolation and leg inverse kinematics against closed forms and scipy."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from macebench.demo import kinematics as kin
from macebench.skeleton import SMPL_OFFSETS_M, axis_angle_to_matrix


def random_matrices(count: int) -> np.ndarray:
    return Rotation.random(count, random_state=0).as_matrix()


def test_axis_angle_equals_scipy():
    matrices = random_matrices(200)
    assert kin.matrix_to_axis_angle(matrices) == pytest.approx(Rotation.from_matrix(matrices).as_rotvec(), abs=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, np.pi - 1e-7, np.pi])
def test_axis_angle_goes_there_and_back_at_the_hard_angles(angle):
    axis = np.array([0.6, 0.0, -0.8])
    matrix = axis_angle_to_matrix(angle * axis)
    assert axis_angle_to_matrix(kin.matrix_to_axis_angle(matrix)) == pytest.approx(matrix, abs=1e-7)


def test_quaternions_go_there_and_back():
    matrices = random_matrices(200)
    assert kin.quaternion_to_matrix(kin.matrix_to_quaternion(matrices)) == pytest.approx(matrices, abs=1e-12)


def test_euler_is_roll_then_pitch_then_yaw():
    angles = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    expected = Rotation.from_euler("YXZ", angles[:, [1, 0, 2]]).as_matrix()
    assert kin.euler(angles) == pytest.approx(expected)


def test_interpolation_passes_through_the_keys_and_rests_there():
    keys = np.random.default_rng(0).normal(size=(6, 4))
    times = np.array([0.0, 0.4, 0.9, 1.5, 2.0, 2.6])
    assert kin.interpolate(keys, times, times, np.full(4, 0.3)) == pytest.approx(keys)
    step = 1e-6
    around = kin.interpolate(keys, times, np.array([0.9 - step, 0.9 + step]), np.zeros(4))
    assert np.abs(np.diff(around, axis=0) / (2 * step)).max() < 1e-4


def test_interpolation_half_way_is_the_mean_and_the_fastest():
    keys, times = np.array([[0.0], [1.0]]), np.array([0.0, 0.5])
    dense = kin.interpolate(keys, times, np.linspace(0, 0.5, 101), np.zeros(1))[:, 0]
    assert dense[50] == pytest.approx(0.5)
    assert np.diff(dense).argmax() in (49, 50)
    assert np.diff(dense).max() * 200 == pytest.approx(1.5 / 0.5, rel=1e-3)


@pytest.mark.parametrize("side", [0, 1])
def test_the_ankle_reaches_its_target(side):
    rng = np.random.default_rng(side)
    hip = rng.normal(0, 0.1, (100, 3))
    way = rng.normal(0, 1, (100, 3)) * [0.4, 0.3, 0.4] - [0, 1, 0]
    ankle = hip + way / np.linalg.norm(way, axis=1, keepdims=True) * rng.uniform(0.35, 0.80, (100, 1))
    pelvis = kin.euler(rng.uniform(-0.4, 0.4, (100, 3)))
    thigh, knee = kin.solve_leg(side, hip, ankle, pelvis, np.tile([0.0, 0.5, 1.0], (100, 1)))
    knee_at = hip + pelvis @ thigh @ SMPL_OFFSETS_M[4 + side]
    reached = knee_at + pelvis @ thigh @ knee @ SMPL_OFFSETS_M[7 + side]
    assert reached == pytest.approx(ankle, abs=1e-9)
    assert (kin.matrix_to_axis_angle(knee)[:, 0] > 0).all(), "a knee bends backwards only"
    assert (knee_at[:, 2] > (0.5 * (hip + ankle))[:, 2] - 1e-9).all(), "the knee points to the pole"


def test_a_target_out_of_reach_is_approached_in_a_straight_line():
    hip, ankle = np.zeros((1, 3)), np.array([[0.3, -3.0, 0.0]])
    pelvis = np.eye(3)[None]
    thigh, knee = kin.solve_leg(0, hip, ankle, pelvis, np.array([[0.0, 0.0, 1.0]]))
    end = thigh[0] @ (SMPL_OFFSETS_M[4] + knee[0] @ SMPL_OFFSETS_M[7])
    assert end / np.linalg.norm(end) == pytest.approx(ankle[0] / np.linalg.norm(ankle[0]))
    assert np.linalg.norm(end) == pytest.approx(kin.LEG_REACH * kin.leg_length(0))


@pytest.mark.parametrize("side", [0, 1])
def test_an_arm_points_where_it_is_told_and_the_elbow_bends_forwards(side):
    sign = 1.0 if side == 0 else -1.0
    upper, fore = np.array([sign * 0.8, -0.3, 0.2]), np.array([sign * 0.1, 0.9, 0.6])
    matrix, elbow = kin.arm_matrix(upper, fore, side)
    assert matrix @ matrix.T == pytest.approx(np.eye(3))
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    outward = np.array([sign, 0.0, 0.0])
    assert matrix @ outward == pytest.approx(upper / np.linalg.norm(upper))
    bent = matrix @ kin.rotation(1, np.array(-sign * elbow)) @ outward
    assert bent == pytest.approx(fore / np.linalg.norm(fore))
    assert 0 < elbow < np.pi
