"""MUSIQ against VBench's own run on the same filler weights."""

from __future__ import annotations

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.metrics.appearance import imaging_quality

torch = pytest.importorskip("torch")

from macebench.models.appearance import musiq as module  # noqa: E402
from macebench.models.appearance._tensorfile import TensorFile  # noqa: E402


def test_filler_weights_are_the_golden_ones(filler, probes):
    probe = probes["musiq"]
    count, total, digest = filler.checksum(filler.tensors("musiq", filler.musiq_shapes()))
    assert (count, digest) == (probe["float_parameters"], probe["sha256_sorted_key_then_le_float32_bytes"])
    assert total == pytest.approx(probe["sum_float64"], rel=1e-12)


def test_shapes_are_those_of_the_checkpoint(filler):
    assert module.shapes() == filler.musiq_shapes()


@pytest.mark.parametrize(("height", "width"), [(96, 128), (131, 97), (270, 512)])
def test_probe(musiq, filler, probes, height, width):
    picture = torch.from_numpy(filler.noise(7, 1, 3, height, width) / 255)
    with torch.inference_mode():
        assert musiq.score(picture).item() == pytest.approx(probes["musiq"][f"score_{height}x{width}"], abs=1e-4)


@pytest.mark.parametrize("clip", ["big_288x544", "real_pose1"])  # both are made smaller; one is not square
def test_golden_clip(musiq, clips, scores, run, clip):
    value = imaging_quality(run(musiq, clips[clip]))
    assert value == pytest.approx(scores["imaging_quality"]["per_clip"][clip], abs=1e-3)


def test_batch_size_does_not_matter(musiq, filler, run):
    frames = filler.noise(1, 3, 40, 61, 3).astype(np.uint8)
    one = run(musiq, frames, 1)
    assert one.shape == (3,)
    for batch in (2, 3):
        np.testing.assert_allclose(run(musiq, frames, batch), one, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((288, 544), (271, 512)), ((512, 512), (512, 512)), ((1920, 1080), (512, 288)), ((96, 128), (96, 128)),
        ((1, 9999), (1, 512)),
    ],
)  # fmt: skip
def test_sizes_are_cut(size, wanted):
    frames = torch.full((1, 3, *size), 255, dtype=torch.uint8)
    pictures = module.musiq_input(frames)
    assert tuple(pictures.shape[-2:]) == wanted
    torch.testing.assert_close(pictures, torch.ones_like(pictures))


def test_positions_are_hashed():
    assert module._hashed(4, "cpu").tolist() == [0, 2, 5, 7]
    assert module._hashed(16, "cpu").tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 6, 7, 8, 8, 9]


def test_scales_without_a_middle_axis_are_the_same(musiq, tensor_file, filler):
    """The layout that pyiqa 0.1.13 reads and writes."""
    name = "transformer_encoder.scaleembed_input.scale_emb"
    tensors = dict(tensor_file("musiq", filler.musiq_shapes()).tensors)
    tensors[name] = tensors[name].reshape(3, 384)
    picture = torch.from_numpy(filler.noise(7, 1, 3, 40, 61) / 255)
    with torch.inference_mode():
        assert torch.equal(module.Musiq(TensorFile(tensors)).score(picture), musiq.score(picture))


def test_tensors_that_do_not_fit_are_named(tensor_file, filler):
    shapes = filler.musiq_shapes()
    del shapes["head.bias"]
    few = {name: size for name, size in shapes.items() if "encoderblock" not in name and name != "embedding.weight"}
    with pytest.raises(UserError, match=r"do not fit MUSIQ: embedding\.weight is missing"):
        module.Musiq(tensor_file("musiq", few))
    with pytest.raises(UserError, match="is missing"):
        module.Musiq(TensorFile({}))
