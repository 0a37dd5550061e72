import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from macebench.errors import UserError
from macebench.models.diffusion import sampling
from macebench.models.diffusion.constraints import Constraint
from macebench.models.diffusion.sampling import GIVEN, RENOISE, STEP, ddim, ddpm, draw_number, seeded_noise
from macebench.models.diffusion.schedule import Schedule

PARITY = runpy.run_path(str(Path(__file__).resolve().parents[1] / "layers" / "parity.py"))
SCHEDULE = Schedule.cosine()
SHORT = Schedule.cosine(40)
SHAPE = (2, 30, 5)


def _denoiser(x: torch.Tensor, t: int) -> torch.Tensor:
    """Rows are treated on their own, and frames see their neighbours."""
    smooth = (x + x.roll(1, dims=1) + x.roll(-1, dims=1)) / 3
    return torch.tanh(0.8 * smooth + 0.1 * np.cos(t))


def _constraint(shape: tuple[int, int, int], **options: int) -> Constraint:
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, :10] = True
    mask[..., 0] = True
    value = torch.rand(shape, generator=torch.Generator().manual_seed(5)) * 3 - 1.5
    return Constraint(mask, value, **options)


@pytest.mark.parametrize("eta", [0, 1])
def test_golden_steps_with_the_golden_coefficients(eta):
    golden, times = PARITY["golden"]("mace_network"), SCHEDULE.ddim_times(50)
    pairs = list(pairwise(times[:-1]))
    found = np.array([SCHEDULE.ddim_coefficients(t, following, eta) for t, following in pairs])
    np.testing.assert_allclose(found[:, 0], golden[f"ddim_eta{eta}_sigma"], atol=3e-6)
    np.testing.assert_allclose(found[:, 1], golden[f"ddim_eta{eta}_c"], atol=3e-6)


def test_ddim_written_out():
    """The released loop with a denoiser that leaves [-1, 1]: the clamped estimate is what the noise is made of."""
    noise, eta, steps = seeded_noise([3, 4]), 0.6, 7
    times, abar = SCHEDULE.ddim_times(steps), SCHEDULE.alphas_cumprod
    x = noise(0, SHAPE).double()
    for k, (t, following) in enumerate(pairwise(times), start=1):
        x0 = (2 * _denoiser(x, t)).clamp(-1, 1)
        if following < 0:
            x = x0
            break
        made = (x - np.sqrt(abar[t]) * x0) / np.sqrt(1 - abar[t])
        sigma = eta * np.sqrt((1 - abar[t] / abar[following]) * (1 - abar[following]) / (1 - abar[t]))
        x = np.sqrt(abar[following]) * x0 + np.sqrt(1 - abar[following] - sigma**2) * made + sigma * noise(k, SHAPE)
    found = ddim(lambda x, t: 2 * _denoiser(x, t), SHAPE, SCHEDULE, noise, steps=steps, eta=eta)
    torch.testing.assert_close(found.double(), x, rtol=1e-4, atol=1e-5)
    assert float(found.abs().max()) == 1.0


def test_ddpm_written_out():
    noise, x = seeded_noise([1, 2]), seeded_noise([1, 2])(0, SHAPE)
    for k, t in enumerate(range(39, 0, -1), start=1):
        mean, variance = SHORT.posterior(_denoiser(x, t).clamp(-1, 1), x, t)
        x = mean + variance**0.5 * noise(k, SHAPE)
    torch.testing.assert_close(ddpm(_denoiser, SHAPE, SHORT, noise), _denoiser(x, 0).clamp(-1, 1))


def test_ddim_of_every_step_with_eta_one_is_ddpm():
    """With eta = 1 and no step left out both draw from the same posterior, here with the same noise."""
    noise = seeded_noise([1, 2])
    many = ddim(_denoiser, SHAPE, SHORT, noise, steps=40, eta=1.0)
    torch.testing.assert_close(many, ddpm(_denoiser, SHAPE, SHORT, noise), rtol=1e-3, atol=1e-3)


def test_eta_zero_draws_only_the_start():
    drawn = []

    def noise(draw: int, shape: tuple[int, ...]) -> torch.Tensor:
        drawn.append(draw)
        return seeded_noise([1, 2])(draw, shape)

    first = ddim(_denoiser, SHAPE, SCHEDULE, noise, steps=10, eta=0.0)
    assert drawn == [0]
    assert torch.equal(first, ddim(_denoiser, SHAPE, SCHEDULE, noise, steps=10, eta=0.0))
    drawn.clear()
    ddim(_denoiser, SHAPE, SCHEDULE, noise, steps=10, eta=1.0)
    assert drawn == list(range(10))


def test_each_draw_is_used_once():
    drawn = []

    def noise(draw: int, shape: tuple[int, ...]) -> torch.Tensor:
        drawn.append(draw)
        return torch.randn(shape, generator=torch.Generator().manual_seed(draw % 1000))

    ddim(_denoiser, SHAPE, SCHEDULE, noise, steps=4, constraint=_constraint(SHAPE, resample=3))
    assert len(set(drawn)) == len(drawn)
    wanted = {0} | {draw_number(kind, k, r) for kind in (STEP, GIVEN) for k in (1, 2, 3) for r in range(3)}
    assert set(drawn) == wanted | {draw_number(RENOISE, k, r) for k in (1, 2, 3) for r in (1, 2)}


@pytest.mark.parametrize("sampler", [ddim, ddpm])
@pytest.mark.parametrize("options", [{}, {"resample": 2}, {"blend": 5}, {"resample": 2, "blend": 5}])
def test_the_given_part_is_kept_bit_by_bit(sampler, options):
    constraint = _constraint(SHAPE, **options)
    found = sampler(_denoiser, SHAPE, SHORT, seeded_noise([1, 2]), constraint=constraint, **_few(sampler))
    assert torch.equal(found[constraint.mask], constraint.value[constraint.mask])
    free = sampler(_denoiser, SHAPE, SHORT, seeded_noise([1, 2]), **_few(sampler))
    assert not torch.equal(found[~constraint.mask], free[~constraint.mask])
    assert bool(torch.isfinite(found).all())


def _few(sampler: object) -> dict[str, int]:
    return {"steps": 8} if sampler is ddim else {}


def test_the_denoiser_sees_the_noised_given_part():
    """At time t the given part is sqrt(abar) value + sqrt(1 - abar) noise, whatever the model says."""
    constraint, noise, seen = _constraint(SHAPE), seeded_noise([1, 2]), []

    def denoiser(x: torch.Tensor, t: int) -> torch.Tensor:
        seen.append((t, x.clone()))
        return torch.zeros_like(x)

    ddim(denoiser, SHAPE, SCHEDULE, noise, steps=5, constraint=constraint)
    for k, (t, x) in enumerate(seen[1:], start=1):
        wanted = SCHEDULE.q_sample(constraint.value, t, noise(draw_number(GIVEN, k), SHAPE))
        torch.testing.assert_close(x[constraint.mask], wanted[constraint.mask])


def test_resampling_goes_back_to_the_noise_level_it_came_from():
    levels = []

    def denoiser(x: torch.Tensor, t: int) -> torch.Tensor:
        levels.append((t, float(x.var())))
        return torch.zeros_like(x)

    shape = (1, 400, 50)
    constraint = Constraint(torch.zeros(shape, dtype=torch.bool), torch.zeros(shape), resample=3)
    ddim(denoiser, shape, SCHEDULE, seeded_noise(0), steps=5, constraint=constraint)
    assert [t for t, _ in levels] == [t for t in SCHEDULE.ddim_times(5)[:-2] for _ in range(3)] + [199]
    for t, variance in levels:
        assert variance == pytest.approx(1 - SCHEDULE.alphas_cumprod[t], rel=0.05)


def _ideal_denoiser(x: torch.Tensor, t: int) -> torch.Tensor:
    """The exact x_0 of a stationary Gaussian process in time (per channel, length scale 6 frames, deviation 0.3)."""
    lag = torch.arange(x.shape[1]).double()
    prior = 0.09 * torch.exp(-0.5 * ((lag[:, None] - lag) / 6) ** 2)
    share = float(SCHEDULE.alphas_cumprod[t])
    gain = np.sqrt(share) * torch.linalg.inv(share * prior + (1 - share) * torch.eye(len(lag))) @ prior
    return (gain.T @ x.double()).float()


def test_resampling_and_blending_heal_the_seam():
    """Given: a smooth motion that the process would make. The step across the seam against the usual step."""
    shape = (4, 80, 3)
    whole = ddim(_ideal_denoiser, shape, SCHEDULE, seeded_noise([9, 8, 7, 6]), steps=20)
    usual = float(torch.quantile(whole.diff(dim=1).abs(), 0.99))
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, :40] = True

    def seam(**options: int) -> float:
        given = Constraint(mask, whole, **options)
        found = ddim(_ideal_denoiser, shape, SCHEDULE, seeded_noise([1, 2, 3, 4]), steps=20, constraint=given)
        return float((found[:, 40] - found[:, 39]).abs().max())

    plain, resampled, blended, both = seam(), seam(resample=5), seam(blend=12), seam(resample=5, blend=12)
    assert resampled < plain
    assert max(blended, both) < usual < plain


def test_rows_depend_on_their_own_seed_only():
    together = ddim(_denoiser, (3, 30, 5), SCHEDULE, seeded_noise([11, 12, 13]), steps=6)
    alone = ddim(_denoiser, (1, 30, 5), SCHEDULE, seeded_noise([12]), steps=6)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=0)
    swapped = ddim(_denoiser, (2, 30, 5), SCHEDULE, seeded_noise([13, 11]), steps=6)
    assert torch.equal(swapped, together[[2, 0]])


def test_seeded_noise():
    noise = seeded_noise([5, 2**64 - 1])
    draws = noise(0, (2, 1000, 151))
    assert draws.dtype == torch.float32
    assert float(draws.mean()) == pytest.approx(0, abs=0.01)
    assert float(draws.std()) == pytest.approx(1, abs=0.01)
    assert torch.equal(draws[:, :300], noise(0, (2, 300, 151)))
    others = [noise(1, draws.shape)[0], noise(draw_number(RENOISE, 1, 1), draws.shape)[0], draws[1]]
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack([draws[0].flatten(), other.flatten()]))[0, 1])) < 0.02
    assert torch.equal(seeded_noise(5)(3, (2, 4, 1)), seeded_noise([5, 6])(3, (2, 4, 1)))


def test_device_noise():
    noise = sampling.device_noise([5, 6], device="cpu")
    draws = noise(3, (2, 500, 20))
    assert torch.equal(draws[1:], sampling.device_noise([6], device="cpu")(3, (1, 500, 20)))
    assert not torch.equal(draws, noise(4, (2, 500, 20)))
    assert float(draws.std()) == pytest.approx(1, abs=0.02)


def test_progress_counts_the_steps():
    calls = []
    ddim(_denoiser, SHAPE, SCHEDULE, seeded_noise(0), steps=4, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_gradient_is_kept():
    weight = torch.ones((), requires_grad=True)
    found = ddim(lambda x, t: weight * x, SHAPE, SCHEDULE, seeded_noise(0), steps=3, constraint=_constraint(SHAPE))
    assert not found.requires_grad


def test_shapes_of_the_signatures():
    checked = jaxtyped(typechecker=beartype)(SCHEDULE.__class__.q_sample)
    x = torch.zeros(2, 3, 4)
    assert checked(SCHEDULE, x, torch.tensor([1, 2]), x).shape == x.shape
    with pytest.raises(Exception, match="Type-check"):
        checked(SCHEDULE, x, torch.tensor([1, 2, 3]), x)


def test_errors():
    with pytest.raises(UserError, match="eta"):
        ddim(_denoiser, SHAPE, SCHEDULE, seeded_noise(0), eta=1.5)
    with pytest.raises(UserError, match="sampling steps"):
        ddim(_denoiser, SHAPE, SCHEDULE, seeded_noise(0), steps=0)
    with pytest.raises(UserError, match="seeds for"):
        ddim(_denoiser, SHAPE, SCHEDULE, seeded_noise([1]))
    for seeds in (-1, [], [1, 2**64]):
        with pytest.raises(UserError, match="seeds"):
            seeded_noise(seeds)
    with pytest.raises(UserError, match="constraint is"):
        ddim(_denoiser, SHAPE, SCHEDULE, seeded_noise(0), constraint=_constraint((1, 30, 5)))
