import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from macebench.errors import UserError
from macebench.models.diffusion.losses import Losses, LossWeights, foot_loss, joints_of, motion_losses
from macebench.models.motion_expert.codec import Normalizer
from macebench.skeleton import forward_kinematics

PARITY = runpy.run_path(str(Path(__file__).resolve().parents[1] / "layers" / "parity.py"))
SCALE = np.linspace(0.5, 2.0, 151)
NORMALIZER = Normalizer(SCALE, np.linspace(-0.2, 0.2, 151))
ONES = LossWeights(1.0, 1.0, 1.0, 1.0)


def _motion(seed: int, frames: int = 6) -> torch.Tensor:
    return torch.rand((2, frames, 151), generator=torch.Generator().manual_seed(seed)).double() * 2 - 1


def _joints(x: np.ndarray) -> np.ndarray:
    """FK in numpy, with rotations built by Gram-Schmidt from two rows."""
    rows = x[..., 7:].reshape(-1, 24, 2, 3)
    first = rows[..., 0, :] / np.linalg.norm(rows[..., 0, :], axis=-1, keepdims=True)
    second = rows[..., 1, :] - (first * rows[..., 1, :]).sum(-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    matrices = np.stack([first, second, np.cross(first, second)], axis=-2)
    joints = forward_kinematics(matrices, x[..., 4:7].reshape(-1, 3))
    return joints.reshape(*x.shape[:-1], 24, 3)


def _terms(losses: Losses) -> list[float]:
    return [float(getattr(losses, name)) for name in ("reconstruction", "velocity", "joints", "foot", "total")]


@pytest.mark.parametrize("case", ["released", "paper_uncond_beta1"])
def test_golden_terms(case):
    """Both stored cases use the released form of the losses; they differ in the prediction."""
    golden = PARITY["golden"]("mace_network")
    prediction, target = torch.tensor(golden[f"loss_{case}_xrecon"]), torch.tensor(golden["in_x0"])
    found = _terms(motion_losses(prediction, target, None, form="released"))
    np.testing.assert_allclose(found, golden[f"loss_{case}_terms"], rtol=2e-5)
    static = int((prediction[..., :4] > 0.95).sum())
    assert static == PARITY["golden_json"]("mace_network")[f"{case}_n_static"]


def test_released_form_written_out():
    y, x = _motion(0), _motion(1)
    found = motion_losses(y, x, None, form="released", weights=ONES)
    a, b = y.numpy(), x.numpy()
    joints = _joints(a)
    assert float(found.reconstruction) == pytest.approx(np.mean((a - b) ** 2))
    assert float(found.velocity) == pytest.approx(np.mean(np.diff(a - b, axis=1)[..., 4:] ** 2))
    assert float(found.joints) == pytest.approx(np.mean((joints - _joints(b)) ** 2))
    moved = np.zeros_like(joints)
    moved[:, :-1] = np.diff(joints, axis=1)
    kept = moved[:, :, [7, 8, 10, 11]] * (a[..., :4] > 0.95)[..., None]
    assert float(found.foot) == pytest.approx(np.mean(kept**2))


def test_paper_form_written_out():
    y, x = _motion(2) * 1.2, _motion(3)
    found = motion_losses(y, x, NORMALIZER, form="paper", weights=ONES)
    a, b = NORMALIZER.unnormalize(y.numpy(), clip=False), NORMALIZER.unnormalize(x.numpy(), clip=False)
    joints, true = _joints(a), _joints(b)
    assert float(found.reconstruction) == pytest.approx(np.mean((y - x).numpy() ** 2))
    assert float(found.joints) == pytest.approx(np.mean((joints - true) ** 2))
    assert float(found.velocity) == pytest.approx(np.mean(np.diff(joints - true, axis=1) ** 2))
    moved = np.zeros_like(joints)
    moved[:, :-1] = np.diff(joints, axis=1)
    kept = moved[:, :, [7, 8, 10, 11]] * (a[..., :4] > 0.95)[..., None]
    assert kept.any()
    assert float(found.foot) == pytest.approx(np.mean(kept**2))


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_perfect_prediction_costs_sliding_feet_only(form):
    x = _motion(4)
    x[..., :4] = -1.0
    assert _terms(motion_losses(x.clone(), x, NORMALIZER, form=form)) == [0.0] * 5


def test_weights_and_total():
    y, x = _motion(5), _motion(6)
    plain, weighted = (_terms(motion_losses(y, x, None, form="released", weights=w)) for w in (ONES, None))
    np.testing.assert_allclose(weighted[:4], np.array(plain[:4]) * [0.636, 2.964, 0.646, 10.942])
    assert weighted[4] == pytest.approx(sum(weighted[:4]))


@pytest.mark.parametrize("form", ["paper", "released"])
def test_gradients_are_finite_and_only_of_the_prediction(form):
    y, x = _motion(7).requires_grad_(), _motion(8).requires_grad_()
    motion_losses(y, x, NORMALIZER, form=form).total.backward()
    assert x.grad is None
    assert bool(torch.isfinite(y.grad).all())
    assert bool((y.grad.abs().sum(dim=(0, 1)) > 0).all())


def test_foot_loss_counts_the_still_last_frame():
    joints = torch.zeros(1, 3, 24, 3)
    joints[0, :, 7, 0] = torch.tensor([0.0, 1.0, 3.0])
    static = torch.tensor([[[True] + [False] * 3] * 3])
    assert float(foot_loss(joints, static)) == pytest.approx((1 + 4) / (3 * 4 * 3))
    static[0, 1, 0] = False
    assert float(foot_loss(joints, static)) == pytest.approx(1 / (3 * 4 * 3))


def test_joints_of_any_leading_axes():
    x = _motion(9)
    torch.testing.assert_close(joints_of(x)[1, 2], joints_of(x[1, 2]))


def test_errors():
    x = _motion(1)
    with pytest.raises(UserError, match="unknown loss form"):
        motion_losses(x, x, None, form="edge")
    with pytest.raises(UserError, match="normalizer"):
        motion_losses(x, x, None, form="paper")
    with pytest.raises(UserError, match="shape"):
        motion_losses(x, x[:, 1:], None, form="released")
    with pytest.raises(UserError, match="t >= 2"):
        motion_losses(x[:, :1], x[:, :1], None, form="released")
