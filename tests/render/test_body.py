"""The skinned body."""

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.render import Look
from macebench.render.body import FLOOR_BELOW_ROOT_M, Material, load_body, posed
from macebench.skeleton import forward_kinematics
from macebench.types import Motion


@pytest.fixture(scope="module")
def body():
    return load_body()


def test_the_mesh_is_consistent(body):
    assert body.faces.min() == 0
    assert body.faces.max() < len(body.vertices)
    assert body.weights.shape == (len(body.vertices), 24)
    assert body.weights.sum(axis=1) == pytest.approx(np.ones(len(body.vertices)), abs=1e-5)
    assert body.weights.min() >= 0.0
    assert set(np.unique(body.materials)) == {int(material) for material in Material}


def test_the_triangles_face_outwards(body):
    # the divergence theorem: the sum of signed tetrahedra is the enclosed volume, a person's is 50 to 120 litres
    a, b, c = (body.vertices[body.faces[:, k]].astype(np.float64) for k in range(3))
    volume = np.einsum("fa,fa->f", a, np.cross(b, c)).sum() / 6.0
    assert 0.04 < volume < 0.13


def test_without_rotation_the_body_only_moves(body):
    vertices, normals = body.pose(np.zeros((2, 24, 3)), np.array([[0.0, 0.0, 0.0], [1.0, 2.0, -3.0]]))
    assert vertices[0] == pytest.approx(body.vertices, abs=1e-5)
    assert vertices[1] == pytest.approx(body.vertices + np.array([1.0, 2.0, -3.0]), abs=1e-5)
    assert normals[1] == pytest.approx(body.normals, abs=1e-5)


def test_a_turned_root_turns_the_whole_body(body):
    rotations = np.zeros((1, 24, 3))
    rotations[0, 0, 1] = np.pi / 2
    vertices, _ = body.pose(rotations, np.zeros((1, 3)))
    turned = np.stack([body.vertices[:, 2], body.vertices[:, 1], -body.vertices[:, 0]], axis=1)
    assert vertices[0] == pytest.approx(turned, abs=1e-5)


def test_limbs_are_drawn_on_their_joints(body):
    """The flesh around an elbow and a knee follows the joint of forward kinematics."""
    rotations = np.random.default_rng(0).normal(0.0, 0.4, (3, 24, 3))
    joints = forward_kinematics(rotations, np.zeros((3, 3)))
    vertices, _ = body.pose(rotations, np.zeros((3, 3)))
    for joint in (4, 5, 18, 19):
        near = np.linalg.norm(body.vertices - body.joints[joint], axis=1) < 0.07
        assert near.sum() > 10
        assert np.linalg.norm(vertices[:, near].mean(axis=1) - joints[:, joint], axis=1).max() < 0.05


def test_the_soles_are_on_the_floor_when_standing(body):
    assert body.vertices[:, 1].min() + FLOOR_BELOW_ROOT_M == pytest.approx(0.0, abs=0.005)


def test_sleeves_and_trousers_follow_the_look(body):
    short, long = Look(long_sleeves=False, shorts=True), Look(long_sleeves=True, shorts=False)
    sleeve, shin = body.materials == Material.SLEEVE, body.materials == Material.SHIN
    assert body.colours(short)[sleeve][0] == pytest.approx(short.skin)
    assert body.colours(long)[sleeve][0] == pytest.approx(long.shirt)
    assert body.colours(short)[shin][0] == pytest.approx(short.skin)
    assert body.colours(long)[shin][0] == pytest.approx(long.trousers)


def test_looks_are_seeded():
    assert Look.seeded(5) == Look.seeded(5)
    assert len({Look.seeded(seed) for seed in range(20)}) > 15


def test_a_motion_without_rotations_is_refused():
    with pytest.raises(UserError, match="rotations"):
        next(posed(Motion(30.0, np.zeros((2, 24, 3)))))
