"""CLIP's towers against VBench's own run on filler weights, and against transformers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.metrics.appearance import aesthetic_quality, background_consistency

torch = pytest.importorskip("torch")

from macebench.models.appearance._tensorfile import TensorFile, read_tensors  # noqa: E402
from macebench.models.appearance.clip import TOWERS, Clip, Tower, clip_input, from_openai  # noqa: E402

TINY = Tower("a tiny tower", 64, 3, 4, 32, 16)


@pytest.fixture(scope="module")
def tiny(filler):
    """OpenAI's names."""
    shapes = filler.clip_shapes(64, 3, 32, 16, 50)
    return {name: torch.from_numpy(values) for name, values in filler.tensors("clip", shapes).items()}


@pytest.fixture(scope="module")
def theirs(tiny):
    """The same tower as transformers builds it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, patch_size=32,
        image_size=224, projection_dim=16, hidden_act="quick_gelu",
    )  # fmt: skip
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    model.load_state_dict(from_openai(tiny), strict=True)
    return model


@pytest.fixture(scope="module")
def pictures(filler):
    return torch.from_numpy(filler.noise(5, 2, 3, 224, 224) / 255 * 2 - 1)


def embed(network, pictures):
    with torch.inference_mode():
        return network.embed(pictures)


def test_names_are_those_of_transformers(tiny, theirs, pictures):
    with torch.inference_mode():
        wanted = theirs(pixel_values=pictures).image_embeds
    torch.testing.assert_close(embed(Clip(TINY, TensorFile(tiny)), pictures), wanted, rtol=1e-4, atol=1e-4)


def test_hub_checkpoint(tiny, theirs, pictures, tmp_path):
    theirs.save_pretrained(tmp_path)
    network = Clip(TINY, read_tensors(tmp_path / "model.safetensors"))
    torch.testing.assert_close(embed(network, pictures), embed(Clip(TINY, TensorFile(tiny)), pictures))


def test_whole_hub_model_holds_more_than_the_tower(theirs, pictures):
    more = {
        "vision_model.embeddings.position_ids": torch.arange(50), "logit_scale": torch.ones(()),
        "text_projection.weight": torch.ones(2, 2), "text_model.final_layer_norm.bias": torch.ones(2),
    }  # fmt: skip
    network = Clip(TINY, TensorFile({**theirs.state_dict(), **more}))
    assert embed(network, pictures).shape == (2, 16)


class Root(torch.nn.Module):
    def forward(self, x):
        return x


def script_module(tensors):
    """A module with these names of tensors below it, nested as the names are."""
    root = Root()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        module.register_buffer(last, tensor)
    return root


def test_openai_file(tiny, pictures, tmp_path):
    """A TorchScript archive of 16-bit numbers, as OpenAI publishes it; it is never run."""
    half = {name: tensor.half() for name, tensor in tiny.items()}
    more = {"text_projection": torch.ones(2, 2), "transformer.resblocks.0.ln_1.weight": torch.ones(2)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(script_module({**half, **more})), str(tmp_path / "ViT.pt"))
    file = read_tensors(tmp_path / "ViT.pt")
    assert file.tensors["visual.conv1.weight"].dtype == torch.float16
    wanted = Clip(TINY, TensorFile({name: tensor.float() for name, tensor in half.items()}))
    torch.testing.assert_close(embed(Clip(TINY, file), pictures), embed(wanted, pictures))


def test_tensors_that_do_not_fit_are_named(tiny):
    with pytest.raises(UserError, match=r"class_embedding is missing"):
        Clip(TINY, TensorFile({k: v for k, v in tiny.items() if k != "visual.class_embedding"}))
    with pytest.raises(UserError, match=r"visual\.odd is not part"):
        Clip(TINY, TensorFile({**tiny, "visual.odd": torch.ones(2)}))
    with pytest.raises(UserError, match=r"visual_projection\.weight is \(16, 63\), expected \(16, 64\)"):
        Clip(TINY, TensorFile({**tiny, "visual.proj": torch.ones(63, 16)}))


def test_overshoot_is_kept_and_the_middle_is_cut_out():
    frames = torch.zeros(1, 3, 60, 100, dtype=torch.uint8)
    frames[:, :, :, 50:] = 255
    pictures = clip_input(frames)
    assert pictures.shape == (1, 3, 224, 224)
    white, black = (1 - 0.48145466) / 0.26862954, -0.48145466 / 0.26862954
    assert pictures[:, 0].max() > white + 0.05
    assert pictures[:, 0].min() < black - 0.05
    assert pictures[0, 0, 100, 0].item() == pytest.approx(black, abs=1e-5)
    assert pictures[0, 0, 100, 111] < 0 < pictures[0, 0, 100, 113]


def test_filler_weights_are_the_golden_ones(filler, probes):
    count, total, digest = filler.checksum(filler.tensors("clip", filler.CLIP["clip_b32"]))
    assert (count, digest) == (
        probes["clip_b32"]["float_parameters"], probes["clip_b32"]["sha256_sorted_key_then_le_float32_bytes"]
    )  # fmt: skip
    assert total == pytest.approx(probes["clip_b32"]["sum_float64"], rel=1e-12)


def check_probe(network, pictures, probe):
    output = embed(network, pictures)
    np.testing.assert_allclose(output.flatten()[:8], probe["output"]["first8"], atol=1e-4)
    assert output.double().norm().item() == pytest.approx(probe["output"]["l2"], abs=1e-4)


def test_probe_b32(clip_b32, probes, pictures):
    check_probe(clip_b32, pictures, probes["clip_b32"])


def test_golden_background_consistency(clip_b32, clips, scores, run):
    value = background_consistency(run(clip_b32, clips["big_288x544"]))
    assert value == pytest.approx(scores["background_consistency"]["per_clip"]["big_288x544"], abs=2e-6)


def test_batch_size_does_not_matter(tiny, filler, run):
    network = Clip(TINY, TensorFile(tiny))
    frames = filler.noise(1, 5, 40, 61, 3).astype(np.uint8)
    one = run(network, frames, 1)
    assert one.shape == (5, 16)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-6)
    for batch in (2, 5):
        np.testing.assert_allclose(run(network, frames, batch), one, atol=1e-5)


@pytest.mark.slow
def test_batch_size_does_not_matter_at_full_size(clip_b32, clips, run):
    frames = clips["odd_97x131"][:3]
    np.testing.assert_allclose(run(clip_b32, frames, 3), run(clip_b32, frames, 1), atol=1e-5)


@pytest.mark.slow
def test_l14(filler, tensor_file, probes, pictures, clips, scores, run):
    from macebench.metrics._laion import read_head

    head = filler.SHARED_HEAD
    if not head.is_file():
        pytest.skip(f"no {head}")
    network = Clip(TOWERS["clip_l14"], tensor_file("clip", filler.CLIP["clip_l14"]))
    check_probe(network, pictures, probes["clip_l14"])
    value = aesthetic_quality(run(network, clips["real_pose1"]), *read_head(head))
    assert value == pytest.approx(scores["aesthetic_quality"]["per_clip"]["real_pose1"], abs=2e-6)
