import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import UserError
from macebench.models.diffusion.schedule import MAX_BETA, Schedule

PARITY = runpy.run_path(str(Path(__file__).resolve().parents[1] / "layers" / "parity.py"))


def _noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@PARITY["needs_golden"]
def test_golden_tables():
    golden, schedule = PARITY["golden"]("schedule_every10th"), Schedule.cosine()
    for name in ("betas", "alphas_cumprod", "alphas_cumprod_prev"):
        np.testing.assert_array_equal(getattr(schedule, name)[::10], golden[name].astype(np.float64), err_msg=name)
    for name in ("variance", "log_variance_clipped", "mean_coef1", "mean_coef2"):
        found = getattr(schedule, f"posterior_{name}")[::10]
        np.testing.assert_allclose(found, golden[f"posterior_{name}"], rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(schedule.signal[::10], golden["sqrt_alphas_cumprod"], rtol=1e-6)
    np.testing.assert_allclose(schedule.noise[::10], golden["sqrt_one_minus_alphas_cumprod"], rtol=1e-6)
    np.testing.assert_allclose(1 / schedule.signal[::10], golden["sqrt_recip_alphas_cumprod"], rtol=1e-6)
    ratio = schedule.noise[10::10] / schedule.signal[10::10]
    np.testing.assert_allclose(ratio, golden["sqrt_recipm1_alphas_cumprod"][1:], rtol=2e-5)
    assert list(schedule.ddim_times(50)) == golden["ddim_times"].tolist()


@pytest.mark.parametrize("rounding", ["released", "exact"])
def test_values_of_the_specification(rounding):
    schedule = Schedule.cosine(rounding=rounding)
    assert schedule.timesteps == 1000
    assert schedule.betas[0] == pytest.approx(4.128422e-5, rel=1e-6)
    wanted = [0.999958716, 0.845887986, 0.492285172, 0.143178646]
    np.testing.assert_allclose(schedule.alphas_cumprod[[0, 250, 500, 750]], wanted, rtol=1e-6)
    assert schedule.betas[-1] == pytest.approx(MAX_BETA)


def test_exact_table_is_the_cosine():
    schedule = Schedule.cosine(rounding="exact")
    k = np.arange(0, 999) + 1
    cosine = np.cos((k / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.alphas_cumprod[:999], cosine, rtol=1e-9)
    np.testing.assert_allclose(Schedule.cosine().alphas_cumprod, schedule.alphas_cumprod, rtol=2e-5)


def test_posterior_agrees_with_bayes():
    """Density of q(x_{t-1} | x_0) q(x_t | x_{t-1}) as a function of x_{t-1}: precisions add."""
    schedule, t, x0, x_t = Schedule.cosine(rounding="exact"), 400, 0.3, -0.9
    before, beta = schedule.alphas_cumprod[t - 1], schedule.betas[t]
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (np.sqrt(before) * x0 / (1 - before) + np.sqrt(1 - beta) * x_t / beta) / precision
    found, variance = schedule.posterior(torch.full((1, 1, 1), x0).double(), torch.full((1, 1, 1), x_t).double(), t)
    assert float(found) == pytest.approx(mean, rel=1e-6)
    assert variance == pytest.approx(1 / precision, rel=1e-9)


def test_q_sample_moments_and_row_times():
    schedule, x0 = Schedule.cosine(), torch.full((3, 400, 50), 0.5)
    t = torch.tensor([10, 500, 950])
    x_t = schedule.q_sample(x0, t, _noise(x0.shape, 0))
    for row, step in enumerate(t.tolist()):
        share = schedule.alphas_cumprod[step]
        assert float(x_t[row].var()) == pytest.approx(1 - share, rel=0.03)
        assert float(x_t[row].mean()) == pytest.approx(0.5 * np.sqrt(share), abs=0.03)
        alone = schedule.q_sample(x0[row : row + 1], step, _noise(x0.shape, 0)[row : row + 1])
        torch.testing.assert_close(x_t[row : row + 1], alone, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(t=st.integers(0, 999), seed=st.integers(0, 2**31))
def test_q_sample_and_its_two_inverses(t, seed):
    schedule, x0, noise = Schedule.cosine(), _noise((2, 3, 4), seed).double(), _noise((2, 3, 4), seed + 1).double()
    x_t = schedule.q_sample(x0, t, noise)
    torch.testing.assert_close(schedule.epsilon(x_t, t, x0), noise, rtol=1e-8, atol=1e-8)
    atol = 1e-12 / float(schedule.signal[t])
    torch.testing.assert_close(schedule.x0_of_epsilon(x_t, t, noise), x0, rtol=1e-8, atol=atol)


@settings(max_examples=40, deadline=None)
@given(timesteps=st.integers(2, 1200), share=st.floats(0.001, 1.0))
def test_ddim_times_fall_from_the_last_step_to_the_clean_motion(timesteps, share):
    steps = max(1, int(share * timesteps))
    times = Schedule.cosine(timesteps).ddim_times(steps)
    assert len(times) == steps + 1
    assert (times[0], times[-1]) == (timesteps - 1, -1)
    assert all(a > b for a, b in pairwise(times))


@settings(max_examples=30, deadline=None)
@given(t=st.integers(1, 999), following=st.integers(0, 998), eta=st.floats(0, 1))
def test_ddim_coefficients_keep_the_variance(t, following, eta):
    schedule, following = Schedule.cosine(), min(following, t - 1)
    sigma, c = schedule.ddim_coefficients(t, following, eta)
    assert sigma**2 + c**2 == pytest.approx(1 - schedule.alphas_cumprod[following], rel=1e-9)
    if eta == 0:
        assert sigma == 0


def test_one_ddim_step_with_eta_one_is_the_posterior():
    schedule = Schedule.cosine(rounding="exact")
    sigma, _ = schedule.ddim_coefficients(300, 299, 1.0)
    assert sigma**2 == pytest.approx(schedule.posterior_variance[300], rel=1e-9)


@pytest.mark.parametrize("arguments", [{"timesteps": 1}, {"s": -0.1}, {"rounding": "float16"}])
def test_bad_schedule(arguments):
    with pytest.raises(UserError):
        Schedule.cosine(**arguments)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_bad_steps(steps):
    with pytest.raises(UserError, match="sampling steps"):
        Schedule.cosine().ddim_times(steps)
