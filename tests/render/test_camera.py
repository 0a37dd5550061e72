"""Projection in closed form, and the fitted camera."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.demo.choreography import GENRE_PHRASES, choreograph
from macebench.render import Camera, fit_camera
from macebench.render.camera import fit_points


def test_the_target_is_the_middle_of_the_picture():
    camera = Camera((1.0, 2.0, 5.0), (0.5, 1.0, 0.0), 30.0)
    pixels, depth = camera.project(np.array([camera.target]), 640, 480)
    assert pixels[0] == pytest.approx([320.0, 240.0])
    assert depth[0] == pytest.approx(np.linalg.norm(np.subtract(camera.eye, camera.target)))


def test_a_point_at_the_edge_of_the_field_of_view():
    camera = Camera((0.0, 0.0, 2.0), (0.0, 0.0, 0.0), 90.0)
    pixels, _ = camera.project(np.array([[2.0, 2.0, 0.0], [-2.0, -2.0, 0.0]]), 100, 100)
    assert pixels == pytest.approx(np.array([[100.0, 0.0], [0.0, 100.0]]))


def test_axes_are_a_rotation():
    axes = Camera((1.0, 2.0, 5.0), (0.5, 1.0, 0.0)).axes
    assert axes @ axes.T == pytest.approx(np.eye(3))
    assert np.linalg.det(axes) == pytest.approx(1.0)


@pytest.mark.parametrize("change", [{"fov_deg": 0.0}, {"fov_deg": 180.0}, {"eye": (0.0, 3.0, 0.0)}])
def test_cameras_that_see_nothing_are_refused(change):
    with pytest.raises(ValueError, match=r"fov_deg|straight"):
        Camera(**{"eye": (0.0, 1.0, 4.0), "target": (0.0, 1.0, 0.0), "fov_deg": 30.0, **change})


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), genre=st.sampled_from(sorted(GENRE_PHRASES)), wide=st.booleans())
def test_the_whole_body_is_in_every_picture(seed, genre, wide):
    width, height = (640, 360) if wide else (512, 512)
    motion = choreograph(np.arange(0.3, 4.0, 0.5), 4.0, 15.0, seed, genre).motion
    camera = fit_camera(motion, width, height)
    pixels, _ = camera.project(motion.joints, width, height)
    margin = 0.02 * height
    assert pixels.min() > margin
    assert (pixels < [width - margin, height - margin]).all()


def test_the_dancer_is_large_in_the_picture():
    shares = []
    for seed, genre in enumerate(sorted(GENRE_PHRASES)):
        motion = choreograph(np.arange(0.3, 5.0, 0.5), 5.0, 15.0, seed, genre).motion
        pixels, _ = fit_camera(motion, 512, 512).project(motion.joints, 512, 512)
        # from the head's joint to the toes is about 0.87 of a body's height
        shares.append(np.median(pixels[:, [10, 11], 1].max(axis=1) - pixels[:, 15, 1]) / 0.87 / 512)
    assert min(shares) > 0.55
    assert 0.60 < np.median(shares) < 0.85


def test_points_fill_what_they_may_and_the_aim_is_the_middle():
    cloud = np.random.default_rng(3).uniform([-1.0, 0.0, -0.5], [1.0, 1.8, 0.5], (200, 3))
    camera = fit_points(cloud, 200, 100, fill=0.8, aim=np.array([0.2, 0.9, 0.0]))
    pixels, _ = camera.project(cloud, 200, 100)
    assert np.abs(pixels / [100, 50] - 1).max() == pytest.approx(0.8, abs=1e-4)
    assert camera.target == pytest.approx((0.2, 0.9, 0.0))
    wider = fit_points(cloud, 200, 100, fill=0.8, aim=np.array([0.2, 0.9, 0.0]), radius_m=0.2)
    assert wider.eye[2] > camera.eye[2]
