import numpy as np
import pytest
import torch

from macebench.errors import UserError
from macebench.models.training.adan import Adan


def _gradients(steps: int = 12) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(steps, 5))


def _written_out(start, gradients, lr, betas, eps, decay):
    """The paper's formulas in numpy, float64."""
    b1, b2, b3 = betas
    theta, m, v, n, previous = start.copy(), 0.0, 0.0, 0.0, gradients[0]
    for k, g in enumerate(gradients, start=1):
        d, previous = g - previous, g
        m = (1 - b1) * m + b1 * g
        v = (1 - b2) * v + b2 * d
        n = (1 - b3) * n + b3 * (g + (1 - b2) * d) ** 2
        c1, c2, c3 = 1 - (1 - b1) ** k, 1 - (1 - b2) ** k, 1 - (1 - b3) ** k
        move = lr * (m / c1 + (1 - b2) * v / c2) / (np.sqrt(n / c3) + eps)
        theta = (theta - move) / (1 + lr * decay)
    return theta


@pytest.mark.parametrize("decay", [0.0, 0.02, 0.5])
def test_equals_the_formulas(decay):
    start, gradients = np.linspace(-1, 1, 5), _gradients()
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = Adan([parameter], lr=0.1, weight_decay=decay)
    for g in gradients:
        parameter.grad = torch.tensor(g)
        optimizer.step()
    wanted = _written_out(start, gradients, 0.1, (0.02, 0.08, 0.01), 1e-8, decay)
    np.testing.assert_allclose(parameter.detach().numpy(), wanted, rtol=1e-10)


def test_finds_the_minimum_of_a_quadratic():
    goal, curvature = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([1.0, 10.0, 100.0])
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = Adan([parameter], lr=0.05, weight_decay=0.0)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (curvature * (parameter - goal).square()).sum()
        loss.backward()
        return float(loss.detach())

    first = optimizer.step(closure)
    for step in range(1500):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 1500)
        last = optimizer.step(closure)
    assert first == pytest.approx(66.0)
    assert last < 1e-5


def test_resumes_exactly():
    def run(first: int) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
        optimizer = Adan([parameter])
        for k, g in enumerate(_gradients()):
            if k == first:
                saved, copy = optimizer.state_dict(), torch.nn.Parameter(parameter.detach().clone())
                parameter, optimizer = copy, Adan([copy])
                optimizer.load_state_dict(saved)
            parameter.grad = torch.tensor(g)
            optimizer.step()
        return parameter.detach()

    assert torch.equal(run(6), run(-1))


def test_parameters_without_gradient_stay():
    parameter = torch.nn.Parameter(torch.ones(2))
    Adan([parameter]).step()
    assert parameter.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("arguments", [{"lr": -1.0}, {"eps": 0.0}, {"weight_decay": -1.0}, {"betas": (0.1, 0.0, 0.1)}])
def test_bad_settings(arguments):
    with pytest.raises(UserError, match="Adan"):
        Adan([torch.nn.Parameter(torch.ones(1))], **arguments)
