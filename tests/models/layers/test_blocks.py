"""FiLM, cross-attention and sinusoidal embedding: fixtures, formulas, shapes."""

import runpy
from pathlib import Path

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from macebench.models.layers.blocks import CrossBlock, FiLM, SinusoidalEmbedding, featurewise_affine, sinusoid

parity = runpy.run_path(str(Path(__file__).with_name("parity.py")))


def filled(module: torch.nn.Module, prefix: str) -> torch.nn.Module:
    weights = {k: torch.from_numpy(parity["fill"](prefix + k, v.shape)) for k, v in module.state_dict().items()}
    module.load_state_dict(weights)
    return module.eval()


def test_cross_block_equals_fixture() -> None:
    stored = parity["golden"]("mace_network")
    block = filled(CrossBlock(512, 8, 1024, 0.1), "dancelayerstack.0.transformer.")
    out = block(torch.from_numpy(stored["bimamba_in"]), torch.from_numpy(stored["cross_mem_in"]))
    assert out.detach().numpy() == pytest.approx(stored["cross_out"], abs=2e-5)


def test_embeddings_equal_fixture() -> None:
    stored = parity["golden"]("mace_network")
    total = torch.zeros(2, 512)
    for name, values in (("time", stored["in_times"]), ("beta", stored["in_beta"] * 1000)):
        inner = (torch.nn.Linear(512, 2048), torch.nn.Mish(), torch.nn.Linear(2048, 512))
        mlp = filled(torch.nn.Sequential(SinusoidalEmbedding(512), *inner), f"{name}_mlp.")
        total = total + mlp(torch.from_numpy(values))
    assert total.detach().numpy() == pytest.approx(stored["emb_time_plus_beta"], abs=2e-4)


def test_sinusoid_by_formula() -> None:
    out = sinusoid(torch.tensor([0.0, 3.0]), 6)
    angles = 3.0 * torch.tensor([1.0, 1e-2, 1e-4])
    assert torch.equal(out[0], torch.tensor([0.0, 0, 0, 1, 1, 1]))
    assert torch.allclose(out[1], torch.cat((angles.sin(), angles.cos())), atol=1e-6)


def test_film_is_mish_then_linear_and_starts_the_scale_at_one() -> None:
    film = FiLM(5, 3)
    t = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    scale, shift = film(t)
    expected = film.block[1](t * torch.tanh(torch.log1p(torch.exp(t))))
    assert torch.allclose(torch.cat((scale, shift), -1)[:, 0], expected, atol=1e-6)
    h = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(featurewise_affine(h, (scale, shift)), h + scale * h + shift, atol=1e-6)


def test_cross_block_has_no_residual_and_ignores_the_order_of_memory() -> None:
    torch.manual_seed(0)
    block = CrossBlock(16, 4, 32, 0.5).eval()
    x, memory = torch.randn(2, 6, 16), torch.randn(2, 9, 16)
    out = block(x, memory)
    assert torch.allclose(out, block(x, memory.flip(1)), atol=1e-5)
    assert torch.allclose(out[:1], block(x[:1], memory[:1]), atol=1e-5)
    torch.nn.init.zeros_(block.linear2.weight)
    assert torch.allclose(block(x, memory), block.linear2.bias.expand(2, 6, 16))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    block = CrossBlock(16, 4, 32, 0.5)
    x, memory = torch.randn(1, 6, 16), torch.randn(1, 9, 16)
    assert not torch.equal(block(x, memory), block(x, memory))
    block.eval()
    assert torch.equal(block(x, memory), block(x, memory))


def test_shapes_in_signatures_hold() -> None:
    for dim in (4, 32):
        jaxtyped(typechecker=beartype)(SinusoidalEmbedding.forward)(SinusoidalEmbedding(dim), torch.arange(3))
    jaxtyped(typechecker=beartype)(FiLM.forward)(FiLM(4, 6), torch.zeros(2, 4))
    block, forward = CrossBlock(8, 2, 16), jaxtyped(typechecker=beartype)(CrossBlock.forward)
    forward(block, torch.zeros(2, 3, 8), torch.zeros(2, 5, 8))
    with pytest.raises(TypeCheckError):
        forward(block, torch.zeros(2, 3, 8), torch.zeros(3, 5, 8))


def test_wrong_shapes_are_named() -> None:
    block = CrossBlock(8, 2, 16)
    with pytest.raises(ValueError, match=r"memory must be \(2, frames, 8\)"):
        block(torch.zeros(2, 3, 8), torch.zeros(3, 5, 8))
    with pytest.raises(ValueError, match=r"condition must be \(b, 4\)"):
        FiLM(4, 6)(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="even"):
        SinusoidalEmbedding(5)
    with pytest.raises(ValueError, match=r"values must be \(b,\)"):
        sinusoid(torch.zeros(2, 2), 4)
    with pytest.raises(ValueError, match="divide"):
        CrossBlock(10, 4)
