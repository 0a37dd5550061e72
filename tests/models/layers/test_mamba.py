"""Mamba and the sequence mixers: fixtures, causality, batches, short clips, gradients, initial values."""

import runpy
from pathlib import Path

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from macebench.models.layers.mamba import BiMamba, CausalMamba, Mamba, SelfAttention

parity = runpy.run_path(str(Path(__file__).with_name("parity.py")))
MIXERS = {
    "bimamba": lambda: BiMamba(16, 4, 4, 2, 0.1),
    "mamba": lambda: CausalMamba(16, 4, 4, 2, 0.1),
    "transformer": lambda: SelfAttention(16, 4, 0.1),
}


def filled(module: torch.nn.Module, prefix: str) -> torch.nn.Module:
    weights = {k: torch.from_numpy(parity["fill"](prefix + k, v.shape)) for k, v in module.state_dict().items()}
    module.load_state_dict(weights)
    return module.eval()


def signal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_mamba_equals_fixture(backend: str) -> None:
    stored = parity["golden"]("selective_scan")
    block = filled(Mamba(64, backend=backend), "mamba_d64.")
    given = torch.from_numpy(parity["noise"](2 * 21 * 64, "mamba_d64.input").reshape(2, 21, 64)).float()
    assert given.numpy() == pytest.approx(stored["mamba_d64_in"], abs=1e-6)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert block(given).detach().numpy() == pytest.approx(stored["mamba_d64_out"], abs=2e-5)


def test_bimamba_equals_fixture_and_count() -> None:
    stored = parity["golden"]("mace_network")
    block = filled(BiMamba(512, 16, 4, 2, 0.1), "dancelayerstack.0.bimamba.")
    assert sum(p.numel() for p in block.parameters()) == 3_390_464
    with torch.no_grad():
        out = block(torch.from_numpy(stored["bimamba_in"]))
    assert out.numpy() == pytest.approx(stored["bimamba_out"], abs=2e-5)


@pytest.mark.parametrize("name", MIXERS)
def test_mixers_share_one_call(name: str) -> None:
    torch.manual_seed(0)
    mixer = MIXERS[name]().eval()
    forward = jaxtyped(typechecker=beartype)(type(mixer).forward)
    for frames in (1, 2, 5, 40):
        out = forward(mixer, signal(2, frames, 16))
        assert out.shape == (2, frames, 16)
        assert torch.isfinite(out).all()
    with pytest.raises(ValueError, match=r"x must be \(b, t, 16\)"):
        mixer(signal(2, 5, 16)[..., :15]) if name == "transformer" else mixer.mamba_forward(signal(2, 5, 15))


@pytest.mark.parametrize("name", MIXERS)
def test_rows_of_a_batch_do_not_touch_each_other(name: str) -> None:
    torch.manual_seed(0)
    mixer, x = MIXERS[name]().eval(), signal(3, 20, 16)
    assert torch.allclose(mixer(x)[1:2], mixer(x[1:2]), atol=1e-5)


def test_only_the_causal_mixer_ignores_the_future() -> None:
    x = signal(1, 20, 16)
    later = x.clone()
    later[:, 12:] = -x[:, 12:].flip(2)
    for name, make in MIXERS.items():
        torch.manual_seed(0)
        mixer = make().eval()
        same = torch.allclose(mixer(x)[:, :12], mixer(later)[:, :12], atol=1e-6)
        assert same is (name == "mamba"), name


def test_bimamba_with_swapped_directions_is_the_time_reverse() -> None:
    torch.manual_seed(0)
    mixer, x = BiMamba(16, 4).eval(), signal(1, 20, 16)
    forward = mixer(x)
    mixer.mamba_forward, mixer.mamba_backward = mixer.mamba_backward, mixer.mamba_forward
    assert torch.allclose(mixer(x.flip(1)).flip(1), forward, atol=1e-5)


def test_attention_knows_the_order_of_frames() -> None:
    torch.manual_seed(0)
    mixer, x = SelfAttention(16, 4).eval(), signal(1, 20, 16)
    assert not torch.allclose(mixer(x.flip(1)).flip(1), mixer(x), atol=1e-3)
    with pytest.raises(ValueError, match="divide"):
        SelfAttention(10, 4)


def test_initial_steps_are_log_uniform_and_rates_count_up() -> None:
    torch.manual_seed(0)
    block = Mamba(256)
    steps = torch.nn.functional.softplus(block.dt_proj.bias).detach()
    assert float(steps.min()) >= 0.99e-3
    assert float(steps.max()) <= 1.01e-1
    assert float(steps.log10().mean()) == pytest.approx(-2, abs=0.1)
    assert float(block.dt_proj.weight.detach().abs().max()) <= block.dt_proj.in_features**-0.5
    assert torch.allclose(torch.exp(block.A_log[3]), torch.arange(1, 17.0))
    assert torch.equal(block.D, torch.ones(512))


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_gradients_equal_float64(backend: str) -> None:
    torch.manual_seed(3)
    block, truth = Mamba(24, 8, backend=backend), Mamba(24, 8, backend="torch").double()
    truth.load_state_dict(block.state_dict())
    x = signal(2, 37, 24)
    for module, given in ((block, x.clone().requires_grad_()), (truth, x.double().requires_grad_())):
        (module(given) * torch.cos(torch.arange(24, dtype=given.dtype))).sum().backward()
        module.given = given
    pairs = [(block.given.grad, truth.given.grad)]
    pairs += [(p.grad, q.grad) for p, q in zip(block.parameters(), truth.parameters(), strict=True)]
    for mine, exact in pairs:
        assert float((mine.double() - exact).abs().max() / exact.abs().max()) < 1e-4


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    for make in MIXERS.values():
        mixer, x = make(), signal(1, 8, 16)
        assert not torch.equal(mixer(x), mixer(x))
        mixer.eval()
        assert torch.equal(mixer(x), mixer(x))
