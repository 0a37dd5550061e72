"""DINO ViT-B/16 against VBench's own run on filler weights, and against transformers."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.metrics.appearance import subject_consistency

torch = pytest.importorskip("torch")

from macebench.models.appearance import dino as module  # noqa: E402
from macebench.models.appearance._tensorfile import TensorFile, read_tensors  # noqa: E402
from macebench.models.appearance.dino import Dino  # noqa: E402

WIDTH, LAYERS = 48, 2


def test_filler_weights_are_the_golden_ones(filler, probes):
    probe = probes["dino_vitb16"]
    count, total, digest = filler.checksum(filler.tensors("dino", filler.dino_shapes()))
    assert (count, digest) == (probe["float_parameters"], probe["sha256_sorted_key_then_le_float32_bytes"])
    assert total == pytest.approx(probe["sum_float64"], rel=1e-12)


def test_shapes_are_those_of_the_checkpoint(filler):
    assert module.shapes() == filler.dino_shapes()


@pytest.mark.parametrize(("height", "width"), [(224, 224), (224, 384), (298, 224)])
def test_probe(dino, filler, probes, height, width):
    picture = torch.from_numpy(filler.noise(6, 1, 3, height, width) / 255 * 2 - 1)
    probe = probes["dino_vitb16"][f"output_{height}x{width}"]
    with torch.inference_mode():
        output = dino.embed(picture)[0]
    np.testing.assert_allclose(output[:8], probe["first8"], atol=2e-4)
    assert output.double().norm().item() == pytest.approx(probe["l2"], abs=1e-4)


def test_golden_clip(dino, clips, scores, run):
    value = subject_consistency(run(dino, clips["real_pose1"]))
    assert value == pytest.approx(scores["subject_consistency"]["per_clip"]["real_pose1"], abs=2e-6)


def test_positions_are_resized_by_factor_not_by_size():
    table = torch.linspace(-1, 1, 197 * 4).sin().view(1, 197, 4)
    assert module.positions(table, 224, 239) is not table
    assert torch.equal(module.positions(table, 224, 224), table)
    wide = module.positions(table, 224, 384)
    assert wide.shape == (1, 1 + 14 * 24, 4)
    square = table[:, 1:].view(1, 14, 14, 4).permute(0, 3, 1, 2)
    by_size = torch.nn.functional.interpolate(square, (14, 24), mode="bicubic").permute(0, 2, 3, 1).flatten(1, 2)
    assert (wide[:, 1:] - by_size).abs().max() > 1e-3
    assert module.positions(table, 229, 225).shape == (1, 197, 4)  # rests of patches are left out


def test_input_keeps_the_whole_picture():
    pictures = module.dino_input(torch.full((2, 3, 97, 131), 255, dtype=torch.uint8))
    assert pictures.shape == (2, 3, 224, 302)
    white = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(pictures[0, :, 5, 7], white, rtol=1e-5)


@pytest.fixture(scope="module")
def tiny(filler):
    shapes = filler.dino_shapes(WIDTH, LAYERS)
    return {name: torch.from_numpy(values) for name, values in filler.tensors("dino", shapes).items()}


def hub_names(tensors):
    """The names of facebook/dino-vitb16."""
    result = {
        "embeddings.cls_token": tensors["cls_token"], "embeddings.position_embeddings": tensors["pos_embed"],
        "pooler.dense.weight": torch.ones(WIDTH, WIDTH), "pooler.dense.bias": torch.ones(WIDTH),
    }  # fmt: skip
    for end in ("weight", "bias"):
        result[f"embeddings.patch_embeddings.projection.{end}"] = tensors[f"patch_embed.proj.{end}"]
        result[f"layernorm.{end}"] = tensors[f"norm.{end}"]
        for index in range(LAYERS):
            old, new = f"blocks.{index}", f"encoder.layer.{index}"
            for part, piece in zip(("query", "key", "value"), tensors[f"{old}.attn.qkv.{end}"].chunk(3), strict=True):
                result[f"{new}.attention.attention.{part}.{end}"] = piece.clone()
            for theirs, ours in {
                "attention.output.dense": "attn.proj", "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
                "layernorm_before": "norm1", "layernorm_after": "norm2",
            }.items():  # fmt: skip
                result[f"{new}.{theirs}.{end}"] = tensors[f"{old}.{ours}.{end}"]
    return result


def test_hub_checkpoint_and_transformers(tiny, filler, tmp_path):
    transformers = pytest.importorskip("transformers")
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(hub_names(tiny), tmp_path / "model.safetensors", {"format": "pt"})
    config = {
        "model_type": "vit", "architectures": ["ViTModel"], "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": 12, "intermediate_size": 4 * WIDTH, "layer_norm_eps": 1e-6,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    theirs = transformers.ViTModel.from_pretrained(tmp_path, local_files_only=True).eval()
    picture = torch.from_numpy(filler.noise(6, 2, 3, 224, 224) / 255 * 2 - 1)
    ours = Dino(TensorFile(tiny), width=WIDTH, layers=LAYERS)
    hub = Dino(read_tensors(tmp_path / "model.safetensors"), width=WIDTH, layers=LAYERS)
    with torch.inference_mode():
        wanted = theirs(pixel_values=picture).last_hidden_state[:, 0]
        torch.testing.assert_close(ours.embed(picture), wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(hub.embed(picture), ours.embed(picture))


def test_tensors_that_do_not_fit_are_named(tiny):
    names = hub_names(tiny)
    for wrong, match in (
        ({k: v for k, v in tiny.items() if k != "norm.bias"}, "norm.bias is missing"),
        ({k: v for k, v in names.items() if not re.search(r"layer\..*key", k)}, r"qkv\.weight is \(96, 48\), expected"),
        ({**tiny, "head.weight": torch.ones(1)}, "head.weight is not part"),
    ):
        with pytest.raises(UserError, match=match):
            Dino(TensorFile(wrong), width=WIDTH, layers=LAYERS)


def test_batch_size_does_not_matter(tiny, filler, run):
    network = Dino(TensorFile(tiny), width=WIDTH, layers=LAYERS)
    frames = filler.noise(1, 5, 40, 61, 3).astype(np.uint8)
    one = run(network, frames, 1)
    assert one.shape == (5, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-6)
    for batch in (2, 5):
        np.testing.assert_allclose(run(network, frames, batch), one, atol=1e-5)


@pytest.mark.slow
def test_batch_size_does_not_matter_at_full_size(dino, clips, run):
    frames = clips["noise_96x128"][:3]
    np.testing.assert_allclose(run(dino, frames, 3), run(dino, frames, 1), atol=1e-5)
