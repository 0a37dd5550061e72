"""The arithmetic around BlazePose's networks, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macebench.models.pose import blazepose_steps as steps
from macebench.skeleton import COCO17


def test_anchors_are_those_of_the_detector():
    anchors = steps.anchor_centres()
    assert anchors.shape == (2254, 2)
    assert np.allclose(anchors[0], anchors[1])
    assert np.allclose(anchors[0], 0.5 / 28)
    assert np.allclose(anchors[2], [1.5 / 28, 0.5 / 28])
    assert np.allclose(anchors[1568], 0.5 / 14)
    assert np.allclose(anchors[1568 + 392 : 1568 + 392 + 6], 0.5 / 7)
    assert np.allclose(anchors[-1], 6.5 / 7)


def test_coco_points_of_the_33():
    assert len(steps.COCO17_IN_BLAZEPOSE) == len(COCO17) == 17
    pairs = dict(zip(COCO17, steps.COCO17_IN_BLAZEPOSE, strict=True))
    assert (pairs["nose"], pairs["lshoulder"], pairs["rwrist"], pairs["lhip"], pairs["rankle"]) == (0, 11, 16, 23, 28)


def test_sigmoid_is_clipped():
    assert np.array_equal(steps.sigmoid(np.array([0.0, 1e9, -1e9])) > 0, [True, True, True])
    assert steps.sigmoid(np.array([0.0]))[0] == 0.5
    assert steps.sigmoid(np.array([2.0]))[0] == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-15)


def test_decoding():
    anchors = np.array([[0.5, 0.5], [0.25, 0.75], [0.1, 0.1]])
    raw = np.zeros((3, 12))
    raw[1] = [22.4, -22.4, 44.8, 67.2, 0, 0, 0, -56, 1, 2, 3, 4]
    found = steps.decode_detections(raw, np.array([1.0, 3.0, -5.0]), anchors, 0.5)
    assert found.shape == (2, 13)
    assert found[0, 0] == pytest.approx(1 / (1 + math.exp(-3)))
    assert np.allclose(found[0, 1:5], [0.35 - 0.1, 0.65 - 0.15, 0.35 + 0.1, 0.65 + 0.15])
    assert np.allclose(found[0, 5:9], [0.25, 0.75, 0.25, 0.5])
    assert np.allclose(found[1, 1:3], [0.5, 0.5])


def test_blending_is_the_weighted_mean_of_each_group():
    person = np.array([0.9, 0.1, 0.1, 0.5, 0.5, *[0.3] * 8])
    again = np.array([0.3, 0.1, 0.1, 0.5, 0.6, *[0.5] * 8])
    other = np.array([0.6, 0.7, 0.7, 0.9, 0.9, *[0.8] * 8])
    found = steps.blend(np.stack([person, other, again]))
    assert found.shape == (2, 13)
    assert found[0, 0] == 0.9
    assert np.allclose(found[0, 4], (0.9 * 0.5 + 0.3 * 0.6) / 1.2)
    assert np.allclose(found[0, 5:], (0.9 * 0.3 + 0.3 * 0.5) / 1.2)
    assert np.allclose(found[1], other)
    assert steps.blend(np.empty((0, 13))).shape == (0, 13)


def test_overlap():
    box = np.array([0.0, 0.0, 2.0, 2.0])
    others = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [1, 1, 1, 1]], dtype=float)
    assert np.allclose(steps.iou(box, others), [1, 1 / 7, 0, 0])
    assert np.allclose(steps.iou(np.zeros(4), np.zeros((1, 4))), 0)


@given(
    st.floats(-50, 50), st.floats(-50, 50), st.floats(-math.pi + 1e-6, math.pi), st.floats(1, 200), st.integers(2, 300)
)
def test_region_of_a_circle_turns_the_rim_up(x, y, angle, radius, side):
    centre = np.array([x, y])
    rim = centre + radius * np.array([math.sin(angle), -math.cos(angle)])
    region = steps.region_of_circle(centre, rim)
    assert region[2] == pytest.approx(2.5 * radius)
    assert math.remainder(region[3] - angle, 2 * math.pi) == pytest.approx(0, abs=1e-6)
    points = np.array([[0.5, 0.5], [0.5, 0.5 - 1 / 2.5]]) * side
    assert np.allclose(steps.to_picture(points, region, side), [centre, rim], atol=1e-8 * radius + 1e-9)


def test_upright_crop_copies_the_picture():
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.allclose(steps.crop(frame, steps.whole_picture(64, 64), 64) * 255, frame, atol=1e-3)


def test_letterbox_is_black_and_centred():
    frame = np.full((32, 64, 3), 200, dtype=np.uint8)
    picked = steps.crop(frame, steps.whole_picture(64, 32), 64)
    assert picked[:14].max() == 0
    assert picked[50:].max() == 0
    assert np.allclose(picked[18:46, 2:62], 200 / 255)


def test_turned_crop_is_upright():
    frame = np.zeros((100, 100, 3), dtype=np.uint8)
    frame[48:53, 78:83] = 255  # right of the centre
    region = steps.region_of_circle(np.array([50.0, 50.0]), np.array([80.0, 50.0]))
    picked = steps.crop(frame, region, 100)[:, :, 0]
    row, column = np.unravel_index(np.argmax(picked), picked.shape)
    assert abs(column - 50) <= 3
    assert abs(row - (50 - 40)) <= 3


def heatmap(x, y, *, height=4.0, n=1):
    rows, columns = np.mgrid[0:64, 0:64]
    one = height - 0.5 * ((columns - x) ** 2 + (rows - y) ** 2)
    return np.repeat(one[:, :, None], n, axis=2)


def test_refinement_moves_to_the_centre_of_mass():
    points = np.array([[30.2 / 64, 20.9 / 64]])
    assert np.allclose(steps.refine(points, heatmap(31, 21)) * 64, [[31, 21]], atol=0.15)
    assert np.array_equal(steps.refine(points, heatmap(31, 21, height=-2.0)), points)
    assert np.array_equal(steps.refine(points, heatmap(50, 50)), points)


def test_refinement_at_and_beyond_the_border():
    points = np.array([[0.2 / 64, 63.5 / 64], [-0.5, 0.5], [0.5, 1.5]])
    moved = steps.refine(points, heatmap(0, 63, n=3))
    assert np.all(moved[0] >= 0)
    assert np.all(moved[0] <= 1)
    assert np.array_equal(moved[1:], points[1:])


def test_sharpness():
    logits = np.full((8, 8, 3), -50.0)
    logits[2, 3, 0], logits[4, 4, 1] = 2.0, 0.0
    confidence = np.array([0.9, 0.8, 0.1])
    expected = (1 / (1 + math.exp(-2)) + 0.5) / 2
    assert steps.sharpness(logits, confidence, 0.5) == pytest.approx(expected)
    assert steps.sharpness(logits, np.zeros(3), 0.5) == 0.0
