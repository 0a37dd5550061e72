"""The software renderer."""

import numpy as np
import pytest

from macebench.errors import UnknownNameError, UserError
from macebench.render import Camera, Look, Renderer, fit_camera, get_renderer
from macebench.skeleton import forward_kinematics
from macebench.types import Motion


@pytest.fixture(scope="module")
def motion():
    rotations = np.zeros((3, 24, 3))
    rotations[:, 16, 2], rotations[:, 17, 2] = -1.0, 1.0
    rotations[1, 0, 1] = 1.2
    rotations[2, 16, 2] = 0.8
    root = np.tile([0.0, 0.974, 0.0], (3, 1))
    return Motion(30.0, forward_kinematics(rotations, root), rotations, root)


def test_pictures_have_the_size_asked_for(motion):
    painter = get_renderer("painter", width=160, height=96)
    assert isinstance(painter, Renderer)
    frames = list(painter.render(motion))
    assert [(frame.shape, frame.dtype) for frame in frames] == [((96, 160, 3), np.uint8)] * 3
    assert [mask.shape for mask in painter.silhouette(motion)] == [(96, 160)] * 3


def test_the_same_motion_gives_the_same_pictures(motion):
    first = np.stack(list(get_renderer("painter", 128, 128).render(motion, look=Look.seeded(3))))
    again = np.stack(list(get_renderer("painter", 128, 128).render(motion, look=Look.seeded(3))))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, np.stack(list(get_renderer("painter", 128, 128).render(motion))))


def test_the_silhouette_covers_the_joints_and_not_the_corners(motion):
    camera = fit_camera(motion, 256, 256)
    masks = list(get_renderer("painter", 256, 256).silhouette(motion, camera=camera))
    inner = [0, 1, 2, 3, 4, 5, 6, 9, 12, 15, 18, 19]
    for joints, mask in zip(motion.joints, masks, strict=True):
        pixels, _ = camera.project(joints[inner], 256, 256)
        x, y = pixels.astype(int).T
        assert mask[y, x].all()
        assert not mask[[0, 0, -1, -1], [0, -1, 0, -1]].any()
        assert 0.03 < mask.mean() < 0.30


def test_the_body_hides_what_is_behind_it(motion):
    """From the front the shirt is seen; the chest's colour in the picture is the shirt's, lit."""
    look = Look(shirt=(0.9, 0.1, 0.1))
    camera = fit_camera(motion, 256, 256)
    frame = next(get_renderer("painter", 256, 256).render(motion, camera=camera, look=look))
    pixel, _ = camera.project(motion.joints[0, 6:7], 256, 256)
    red, green, blue = frame[int(pixel[0, 1]), int(pixel[0, 0])].astype(int)
    assert red > 3 * green
    assert red > 3 * blue


def test_the_floor_is_darker_below_the_dancer(motion):
    camera = fit_camera(motion, 256, 256)
    aside = np.array([50.0, 0.0, 0.0])
    far_away = Motion(30.0, motion.joints + aside, motion.rotations, motion.root + aside)
    painter = get_renderer("painter", 256, 256)
    with_dancer = next(painter.render(motion, camera=camera)).astype(int)
    empty = next(painter.render(far_away, camera=camera)).astype(int)
    outside = ~next(painter.silhouette(motion, camera=camera))
    change = (with_dancer - empty).sum(axis=2)[150:]
    assert change[outside[150:]].min() < -60
    assert change[outside[150:]].max() < 60


def test_motions_without_rotations_and_empty_pictures_are_refused(motion):
    with pytest.raises(UserError, match="rotations"):
        next(get_renderer("painter", 64, 64).render(Motion(30.0, motion.joints)))
    with pytest.raises(UserError, match="0x64"):
        get_renderer("painter", 0, 64)
    with pytest.raises(UnknownNameError, match="Did you mean 'painter'"):
        get_renderer("paintr")


def test_a_given_camera_is_used(motion):
    near = Camera((0.0, 1.2, 3.0), (0.0, 1.0, 0.0))
    far = Camera((0.0, 1.2, 9.0), (0.0, 1.0, 0.0))
    painter = get_renderer("painter", 128, 128)
    sizes = [next(painter.silhouette(motion, camera=camera)).sum() for camera in (near, far)]
    assert sizes[0] > 4 * sizes[1]


def test_the_floor_reaches_as_far_as_it_is_told(motion):
    camera = Camera((0.0, 1.2, 12.0), (0.0, 1.0, 0.0))
    painter = get_renderer("painter", 96, 96)
    near, far = (next(painter.render(motion, camera=camera, reach_m=reach)).astype(int) for reach in (1.8, 9.0))
    # the wall is not touched; a floor that reaches further covers more of the lower half
    assert np.array_equal(near[:20], far[:20])
    assert (np.abs(near - far).sum(axis=2)[60:] > 20).mean() > 0.5
