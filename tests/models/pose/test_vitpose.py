"""ViTPose on tiny networks with deterministic filler weights, saved as the hub saves them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from macebench.errors import UserError, WeightsMissingError
from macebench.models.pose import make_estimator, vitpose_steps
from macebench.models.pose.vitpose import ViTPose
from macebench.pose import NO_PERSON
from macebench.types import Clip, Missing

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CLIP = Clip("a", Path("a.mp4"), "0" * 64)
WIDTH, HEIGHT = 160, 120
ANY_BOX = {"box_score_min": 0.0, "box_iou_min": 0.0}


def fill(model):
    """Deterministic weights: a sine of the position, scaled by the fan-in."""
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + index)
            scale = 1.5 / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else 0.5
            parameter.copy_((wave * scale).reshape(parameter.shape))
    return model


def tiny_vitpose(experts):
    backbone = transformers.VitPoseBackboneConfig(
        image_size=[256, 192], patch_size=[16, 16], hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        out_indices=[1], num_experts=experts, part_features=4,
    )  # fmt: skip
    config = transformers.VitPoseConfig(backbone_config=backbone, num_labels=17, use_simple_decoder=True)
    model = fill(transformers.VitPoseForPoseEstimation(config))
    torch.nn.init.constant_(model.head.conv.bias, 0.3)  # so that every heat map has a peak
    return model


def tiny_detector():
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16], feat_strides=[8, 16, 32],
        encoder_layers=1, encoder_ffn_dim=16, encoder_attention_heads=2, d_model=16, num_queries=6,
        decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16, decoder_layers=1, decoder_attention_heads=2,
        num_feature_levels=3, num_labels=3, num_denoising=0, encode_proj_layers=[2], hidden_expansion=1.0,
    )  # fmt: skip
    return fill(transformers.RTDetrForObjectDetection(config))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    models = {
        "vitpose-b": (tiny_vitpose(1), 192, 256),
        "vitpose-s": (tiny_vitpose(3), 192, 256),
        "rtdetr-r50": (tiny_detector(), 640, 640),
    }
    for name, (model, width, height) in models.items():
        model.save_pretrained(folder / name)
        size = {"size": {"width": width, "height": height}}
        (folder / name / "preprocessor_config.json").write_text(json.dumps(size))
    return folder


@pytest.fixture
def folder(saved, tmp_path, monkeypatch):
    import shutil

    target = tmp_path / "weights"
    shutil.copytree(saved, target)
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(target))
    return target


@pytest.fixture(scope="module")
def frames():
    coarse = np.random.default_rng(0).integers(0, 256, (7, 6, 8, 3))
    return np.repeat(np.repeat(coarse, 20, axis=1), 20, axis=2).astype(np.uint8)


def run(estimator, frames, step):
    session = estimator.start(CLIP, WIDTH, HEIGHT)
    for start in range(0, len(frames), step):
        part = frames[start : start + step]
        session.update(part, (start + np.arange(len(part))) / 10)
    return session.finish()


@pytest.mark.parametrize("size", ["b", "s"])
def test_result_does_not_depend_on_batches(folder, frames, size):
    estimator = make_estimator("vitpose", size=size, device="cpu", batch_size=4, **ANY_BOX)
    track = run(estimator, frames, 3)
    assert track.keypoints.shape == (7, 17, 2)
    assert track.present.all()
    assert np.isfinite(track.keypoints).all()
    assert len(np.unique(track.keypoints.round(3), axis=0)) == 7
    again = run(estimator, frames, 7)
    assert np.array_equal(track.keypoints, again.keypoints, equal_nan=True)
    other = run(ViTPose(size=size, device="cpu", batch_size=1, **ANY_BOX), frames, 7)
    assert np.allclose(track.keypoints, other.keypoints, atol=0.01, equal_nan=True)
    assert np.allclose(track.confidence, other.confidence, atol=1e-4)


def test_no_box_no_person(folder, frames):
    assert run(ViTPose(device="cpu", box_score_min=1.0), frames, 7) == Missing(NO_PERSON)
    empty = np.empty((0, HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert run(ViTPose(device="cpu"), empty, 1) == Missing(NO_PERSON)


def test_keypoints_are_where_the_heat_map_says(folder, frames, monkeypatch):
    estimator = ViTPose(device="cpu", box_iou_min=0.0)
    session = estimator.start(CLIP, WIDTH, HEIGHT)
    rows, columns = np.mgrid[0:64, 0:48]
    peak = 0.9 * np.exp(-((columns - 10.25) ** 2 + (rows - 40.5) ** 2) / 8)
    box = np.array([0.5, 0.5, 60 / WIDTH, 80 / HEIGHT])

    class Networks:
        def detect(self, pictures):
            there = [len(pictures[0]) and int(item[0, 0, 0]) > 0 for item in pictures]
            logits = np.array([[[4.0, 0.0], [-9.0, 9.0]] if item else [[-9.0, 0.0]] * 2 for item in there])
            return logits, np.tile(box, (len(pictures), 2, 1))

        def heatmaps(self, inputs):
            return np.tile(peak.astype(np.float32), (len(inputs), 17, 1, 1))

    session._networks = Networks()
    levels = np.array([9, 0, 9], dtype=np.uint8)
    session.update(np.tile(levels[:, None, None, None], (1, HEIGHT, WIDTH, 3)), np.arange(3) / 10)
    track = session.finish()
    crop = np.array([80.0, 60.0, 75.0, 100.0])
    expected = vitpose_steps.to_picture(np.array([[10.25, 40.5]]), crop, (48, 64))[0]
    assert track.present.tolist() == [True, False, True]
    assert np.allclose(track.keypoints[0], expected, atol=0.05)
    assert np.allclose(track.confidence[0], peak.max(), atol=1e-6)
    assert np.isnan(track.keypoints[1]).all()
    assert (track.confidence[1] == 0).all()


def test_description_follows_the_weights(folder):
    first = ViTPose().describe()
    assert (first.name, first.model, first.input_size) == ("vitpose", "vitpose-base-simple", (192, 256))
    assert first.weights_sha256 == ViTPose().describe().weights_sha256
    assert first.weights_sha256 != ViTPose(size="s").describe().weights_sha256


def test_missing_weights_name_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsMissingError, match="macebench weights pull rtdetr-r50-config"):
        ViTPose().describe()
    with pytest.raises(WeightsMissingError, match="macebench weights pull"):
        ViTPose(device="cpu").start(CLIP, WIDTH, HEIGHT)


def test_incomplete_weights_are_refused(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "vitpose-b" / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("head.conv.weight")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"do not fit their config: head\.conv\.weight"):
        ViTPose(device="cpu").start(CLIP, WIDTH, HEIGHT)


def test_other_preprocessing_is_refused(folder):
    path = folder / "vitpose-b" / "preprocessor_config.json"
    path.write_text('{"size": {"width": 288, "height": 384}}')
    with pytest.raises(UserError, match="this back end makes 192x256"):
        ViTPose(device="cpu").start(CLIP, WIDTH, HEIGHT)
    assert not list((folder / "vitpose-b").glob("*.lock.json")), "what is refused is not trusted"
    path.write_text("[]")
    with pytest.raises(UserError, match="no preprocessor configuration"):
        ViTPose(device="cpu").start(CLIP, WIDTH, HEIGHT)


def test_settings_are_checked(folder):
    with pytest.raises(UserError, match="size is 'x', allowed are s, b, l, h"):
        ViTPose(size="x")
    with pytest.raises(UserError, match="device is 'tpu'"):
        ViTPose(device="tpu")
    with pytest.raises(UserError, match="box_iou_min is 3"):
        ViTPose(box_iou_min=3)
    with pytest.raises(UserError, match="batch_size is 0"):
        ViTPose(batch_size=0)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device"):
            ViTPose(device="cuda").start(CLIP, WIDTH, HEIGHT)


def test_wrong_picture_size(folder, frames):
    session = ViTPose(device="cpu").start(CLIP, 10, 10)
    with pytest.raises(ValueError, match="expected"):
        session.update(frames, np.arange(len(frames)) / 10)
