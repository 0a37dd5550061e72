"""ViTPose's arithmetic against closed forms and against the image processors of transformers."""

from __future__ import annotations

import numpy as np
import pytest

from macebench.models.pose import vitpose_steps as steps


def gaussian(x, y, *, height=0.8, sigma=2.0, size=(64, 48)):
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    return height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize(("x", "y"), [(20.0, 30.0), (20.3, 30.4), (11.71, 5.62), (40.49, 58.51)])
def test_known_peak(x, y):
    cells, confidence = steps.decode(gaussian(x, y)[None].astype(np.float32))
    assert np.allclose(cells, [[x, y]], atol=0.02)
    assert 0.7 < confidence[0] < 0.8001


def test_no_peak_no_point():
    maps = np.stack([np.zeros((64, 48)), -gaussian(10, 10), gaussian(10, 10, height=3.0)])
    cells, confidence = steps.decode(maps)
    assert np.isnan(cells[:2]).all()
    assert np.allclose(cells[2], [10, 10], atol=0.02)
    assert confidence.tolist() == [0, 0, 1]


def test_peaks_at_the_border_stay_finite():
    cells, _ = steps.decode(np.stack([gaussian(0, 0), gaussian(47, 63), gaussian(-1, 30)]))
    assert np.abs(cells - [[0, 0], [47, 63], [0, 30]]).max() <= steps.STEP_MAX_CELLS
    flat, _ = steps.decode(np.full((1, 64, 48), 0.5))
    assert np.array_equal(flat, [[0, 0]])


def test_crop_keeps_the_shape_and_pads():
    assert np.allclose(steps.crop_of_box(np.array([10.0, 20.0, 40.0, 120.0])), [25, 70, 93.75, 125])
    assert np.allclose(steps.crop_of_box(np.array([0.0, 0.0, 90.0, 30.0])), [45, 15, 112.5, 150])


def test_crop_and_back():
    crop = np.array([100.0, 80.0, 60.0, 80.0])
    corners = np.array([[0.0, 0.0], [47.0, 63.0], [23.5, 31.5]])
    assert np.allclose(steps.to_picture(corners, crop, (48, 64)), [[70, 40], [130, 120], [100, 80]])


def test_cut_finds_a_bright_pixel():
    frame = np.zeros((200, 300, 3), dtype=np.uint8)
    frame[90, 110] = 255
    crop = steps.crop_of_box(np.array([80.0, 40.0, 140.0, 140.0]))
    picked = steps.cut(frame, crop)[0]
    row, column = np.unravel_index(np.argmax(picked), picked.shape)
    point = steps.to_picture(np.array([[float(column), float(row)]]), crop, steps.INPUT_SIZE)
    assert np.abs(point - [110, 90]).max() < 0.6


def test_person_boxes():
    logits = np.array([[0.0, 9.0], [2.0, -9.0], [-3.0, 0.0]])
    boxes = np.array([[0.5, 0.5, 0.2, 0.4], [0.25, 0.5, 0.1, 1.0], [0.5, 0.5, 1, 1]])
    found, scores = steps.person_boxes(logits, boxes, (200, 100), 0.5)
    assert np.allclose(found, [[40, 0, 60, 100], [80, 30, 120, 70]])
    assert np.allclose(scores, [1 / (1 + np.exp(-2)), 0.5])
    assert steps.person_boxes(logits, boxes, (200, 100), 0.95)[0].shape == (0, 4)


# ---- transformers as an independent reference


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("transformers")
    pytest.importorskip("PIL")
    from transformers.models.vitpose.image_processing_pil_vitpose import VitPoseImageProcessorPil

    return VitPoseImageProcessorPil()


def test_decoding_equals_transformers(reference):
    import torch
    from transformers.models.vitpose.modeling_vitpose import VitPoseEstimatorOutput

    rng = np.random.default_rng(5)
    maps = np.stack([gaussian(*rng.uniform((3, 3), (44, 60)), height=rng.uniform(0.3, 0.95)) for _ in range(17)])
    maps = (maps + rng.normal(0, 0.002, maps.shape)).astype(np.float32)
    box = np.array([30.0, 40.0, 130.0, 250.0])
    coco = [[[box[0], box[1], box[2] - box[0], box[3] - box[1]]]]
    output = VitPoseEstimatorOutput(heatmaps=torch.from_numpy(maps[None].copy()))
    expected = reference.post_process_pose_estimation(output, boxes=coco)[0][0]
    cells, confidence = steps.decode(maps)
    points = steps.to_picture(cells, steps.crop_of_box(box), (48, 64))
    assert np.abs(points - expected["keypoints"].numpy()).max() < 0.02
    assert np.allclose(confidence, expected["scores"].numpy(), atol=1e-6)


def test_crop_equals_transformers(reference):
    rows, columns = np.mgrid[0:240, 0:320]
    frame = np.stack([rows, columns // 2, (rows + columns) // 3], axis=2).astype(np.uint8)
    box = np.array([90.0, 60.0, 190.0, 200.0])
    coco = [[[box[0], box[1], box[2] - box[0], box[3] - box[1]]]]
    expected = np.asarray(reference(frame, boxes=coco, return_tensors="np")["pixel_values"][0])
    difference = np.abs(steps.cut(frame, steps.crop_of_box(box)) - expected) * steps.DEVIATION[:, None, None] * 255
    assert difference[:, 1:-1, 1:-1].max() <= 1.01


def test_detector_input_equals_transformers():
    pytest.importorskip("transformers")
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    from macebench.models.pose.vitpose import detector_input

    for shape in ((120, 160, 3), (800, 900, 3)):
        frame = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        expected = np.asarray(RTDetrImageProcessorPil()(frame, return_tensors="np")["pixel_values"][0])
        ours = detector_input(frame[None])[0].numpy()
        assert np.abs(ours - expected).max() * 255 <= 1.01
