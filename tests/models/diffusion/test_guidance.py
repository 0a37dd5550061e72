import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from macebench.errors import UserError
from macebench.models.diffusion.guidance import DROP_PROBABILITY, guided_denoiser, training_prediction
from macebench.models.diffusion.losses import motion_losses
from macebench.models.diffusion.sampling import ddim
from macebench.models.diffusion.schedule import Schedule
from macebench.models.motion_expert.config import PRESETS
from macebench.models.motion_expert.network import MotionExpertNetwork

PARITY = runpy.run_path(str(Path(__file__).resolve().parents[1] / "layers" / "parity.py"))
SCHEDULE = Schedule.cosine()


class Toy(nn.Module):
    """A stand-in that counts its passes and notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3)
        self.null = nn.Parameter(torch.full((3,), 0.1))
        self.dropout = nn.Dropout(0.5)
        self.calls: list[dict[str, object]] = []
        self.encoded = 0

    def forward(self, x, cond, genre, times, beta, drop=None):
        return self.denoise(x, self.encode_music(cond, genre, drop), times, beta)

    def encode_music(self, cond, genre, drop=None):
        self.encoded += 1
        kept = cond if drop is None else cond * (~drop)[:, None, None]
        return kept + self.null + genre[:, None, None]

    def denoise(self, x, memory, times, beta):
        note = {
            "training": self.training,
            "grad": torch.is_grad_enabled(),
            "beta": beta.clone(),
            "times": times.clone(),
        }
        self.calls.append(note)
        return self.dropout(self.mix(x + memory) * (1 + beta[:, None, None]) + times[:, None, None] / 1000)


@pytest.fixture
def toy():
    torch.manual_seed(0)
    return Toy()


def _inputs(rows: int = 4):
    generator = torch.Generator().manual_seed(1)
    x, cond = (torch.randn((rows, 5, 3), generator=generator) for _ in range(2))
    times = torch.randint(0, 1000, (rows,), generator=generator)
    return x, cond, torch.arange(rows), times, torch.rand(rows, generator=generator)


def _plain(toy, inputs, beta, drop=None):
    x, cond, genre, times, _ = inputs
    toy.eval()
    return toy(x, cond, genre, times, beta, drop)


def test_gft_is_one_pass_a_step_and_encodes_the_music_once(toy):
    x, cond, genre, _, _ = _inputs()
    toy.eval()
    denoiser = guided_denoiser(toy, cond, genre, beta=0.6)
    ddim(denoiser, tuple(x.shape), SCHEDULE, lambda k, shape: torch.zeros(shape), steps=7)
    assert (len(toy.calls), toy.encoded) == (7, 1)
    assert [int(call["times"][0]) for call in toy.calls] == list(SCHEDULE.ddim_times(7)[:-1])
    assert all(torch.equal(call["beta"], torch.full((4,), 0.6)) for call in toy.calls)
    torch.testing.assert_close(
        denoiser(x, 30), toy(x, cond, genre, torch.full((4,), 30), torch.full((4,), 0.6)), rtol=0, atol=0
    )


def test_beta_of_each_row(toy):
    x, cond, genre, _, beta = _inputs()
    toy.eval()
    found = guided_denoiser(toy, cond, genre, beta=beta)(x, 5)
    torch.testing.assert_close(found, toy(x, cond, genre, torch.full((4,), 5), beta))


def test_cfg_is_two_passes_and_the_formula(toy):
    x, cond, genre, _, _ = _inputs()
    toy.eval()
    denoiser = guided_denoiser(toy, cond, genre, form="cfg", scale=2.5)
    found, ones, times = denoiser(x, 50), torch.ones(4), torch.full((4,), 50)
    assert (len(toy.calls), toy.encoded) == (2, 2)
    with_music = toy(x, cond, genre, times, ones)
    without = toy(x, cond, genre, times, ones, torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(found, without + 2.5 * (with_music - without))
    assert not found.requires_grad


def test_cfg_cap_below_a_time(toy):
    x, cond, genre, _, _ = _inputs()
    toy.eval()
    capped = guided_denoiser(toy, cond, genre, form="cfg", scale=2.0, capped_below=100)
    plain, one = (guided_denoiser(toy, cond, genre, form="cfg", scale=scale) for scale in (2.0, 1.0))
    torch.testing.assert_close(capped(x, 100), plain(x, 100))
    torch.testing.assert_close(capped(x, 99), one(x, 99))
    assert not torch.allclose(plain(x, 99), one(x, 99))
    weak = guided_denoiser(toy, cond, genre, form="cfg", scale=0.5, capped_below=100)
    torch.testing.assert_close(weak(x, 5), guided_denoiser(toy, cond, genre, form="cfg", scale=0.5)(x, 5))


@pytest.mark.parametrize("form", ["paper", "thu-ml", "released"])
def test_gft_forms_written_out(toy, form):
    x, cond, genre, times, beta = inputs = _inputs()
    drop = None if form == "released" else torch.tensor([False, True, False, False])
    toy.dropout.p = 0.0
    toy.train()
    found = training_prediction(toy, x, cond, genre, times, beta, form=form, drop=drop)
    ones, everything = torch.ones(4), torch.ones(4, dtype=torch.bool)
    used = beta if drop is None else torch.where(drop, ones, beta)
    empty = _plain(toy, inputs, beta if form == "released" else ones, everything)
    share = used[:, None, None]
    wanted = share * _plain(toy, inputs, used, drop) + (1 - share) * empty
    torch.testing.assert_close(found, wanted)
    if drop is not None:
        torch.testing.assert_close(found[1], empty[1])


@pytest.mark.parametrize("form", ["paper", "thu-ml", "released"])
def test_the_unconditional_pass_has_no_gradient(toy, form):
    inputs = _inputs()
    toy.dropout.p = 0.0
    found = training_prediction(toy, *inputs, form=form)
    (gradient,) = torch.autograd.grad(found.sum(), [toy.mix.weight])
    (wanted,) = torch.autograd.grad((inputs[4][:, None, None] * _plain(toy, inputs, inputs[4])).sum(), [toy.mix.weight])
    torch.testing.assert_close(gradient, wanted)
    assert [call["grad"] for call in toy.calls[:2]] == [True, False]


@pytest.mark.parametrize(
    ("form", "modes"), [("paper", [True, True]), ("thu-ml", [True, False]), ("released", [True, True])]
)
def test_modes_of_the_two_passes(toy, form, modes):
    toy.train()
    training_prediction(toy, *_inputs(), form=form)
    assert [call["training"] for call in toy.calls] == modes
    assert toy.training
    assert toy.dropout.training


def test_evaluation_mode_is_left_alone(toy):
    toy.eval()
    training_prediction(toy, *_inputs(), form="thu-ml")
    assert not toy.training


def test_cfg_training_is_the_conditional_pass_at_beta_one(toy):
    x, cond, genre, times, beta = inputs = _inputs()
    drop = torch.tensor([True, False, False, True])
    toy.dropout.p = 0.0
    found = training_prediction(toy, x, cond, genre, times, beta, form="cfg", drop=drop)
    assert len(toy.calls) == 1
    torch.testing.assert_close(found, _plain(toy, inputs, torch.ones(4), drop))


def test_errors(toy):
    x, cond, genre, times, beta = _inputs()
    with pytest.raises(UserError, match="training mode"):
        guided_denoiser(toy, cond, genre)
    toy.eval()
    for arguments in ({"form": "both"}, {"beta": 1.5}, {"beta": float("nan")}, {"scale": -1.0, "form": "cfg"}):
        with pytest.raises(UserError):
            guided_denoiser(toy, cond, genre, **arguments)
    with pytest.raises(UserError, match="unknown training form"):
        training_prediction(toy, x, cond, genre, times, beta, form="gft")
    with pytest.raises(UserError, match="drops no condition"):
        training_prediction(toy, x, cond, genre, times, beta, form="released", drop=torch.tensor([True] + [False] * 3))
    assert set(DROP_PROBABILITY) == {"paper", "thu-ml", "released", "cfg"}


def test_the_real_network_fits_the_interface():
    torch.manual_seed(0)
    network = MotionExpertNetwork(PRESETS["tiny"]).eval()
    x, cond = torch.randn(2, 8, 151), torch.randn(2, 8, 35)
    genre, times, beta = torch.zeros(2, dtype=torch.int64), torch.tensor([40, 40]), torch.tensor([0.75, 0.75])
    torch.testing.assert_close(guided_denoiser(network, cond, genre)(x, 40), network(x, cond, genre, times, beta))
    found = training_prediction(network, x, cond, genre, times, beta, drop=torch.tensor([True, False]))
    found.square().mean().backward()
    assert float(network.null_cond_embed.grad.abs().sum()) > 0


@pytest.fixture(scope="module")
def filled():
    golden = PARITY["golden"]("mace_network")
    network = MotionExpertNetwork(PRESETS["released"]).eval()
    state = {key: torch.from_numpy(PARITY["fill"](key, value.shape)) for key, value in network.state_dict().items()}
    network.load_state_dict(state)
    values = {key: torch.tensor(value) for key, value in golden.items()}
    return network, values | {"in_genre": values["in_genre"].long(), "in_times": values["in_times"].long()}


@pytest.mark.slow
@pytest.mark.parametrize(("case", "form"), [("released", "released"), ("paper_uncond_beta1", "paper")])
def test_golden_training_losses_and_gradients(filled, case, form):
    network, golden = filled
    network.zero_grad()
    x_t = SCHEDULE.q_sample(golden["in_x0"], golden["in_times"], golden["in_noise"])
    torch.testing.assert_close(x_t, golden["q_sample"], rtol=0, atol=1e-6)
    inputs = [golden[f"in_{name}"] for name in ("cond", "genre", "times", "beta")]
    prediction = training_prediction(network, x_t, *inputs, form=form)
    torch.testing.assert_close(prediction, golden[f"loss_{case}_xrecon"], rtol=0, atol=2e-4)
    losses = motion_losses(prediction, golden["in_x0"], None, form="released")
    terms = [losses.reconstruction, losses.velocity, losses.joints, losses.foot, losses.total]
    torch.testing.assert_close(torch.stack(terms).detach(), golden[f"loss_{case}_terms"], rtol=2e-5, atol=0)
    losses.total.backward()
    norms = [float(parameter.grad.norm()) for _, parameter in sorted(network.named_parameters())]
    np.testing.assert_allclose(norms, golden[f"loss_{case}_gradnorm_sorted_keys"], rtol=2e-3, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0, 1])
def test_golden_ddim_of_the_whole_network(filled, eta):
    network, golden = filled
    states = []
    inner = guided_denoiser(network, golden["in_cond"], golden["in_genre"], beta=0.75)

    def denoiser(x: torch.Tensor, t: int) -> torch.Tensor:
        states.append(x.clone())
        return inner(x, t)

    def noise(draw: int, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy(PARITY["draw"](shape[0], shape[1], s=draw))

    found = ddim(denoiser, (2, 30, 151), SCHEDULE, noise, steps=50, eta=float(eta))
    torch.testing.assert_close(found, golden[f"ddim_eta{eta}_final"], rtol=0, atol=2e-4)
    for k in (1, 25):
        torch.testing.assert_close(states[k], golden[f"ddim_eta{eta}_x_after_step{k}"], rtol=0, atol=2e-4)
