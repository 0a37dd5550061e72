import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import UserError
from macebench.models.diffusion.constraints import Constrained, Constraint, pose_channels, softened


def _mask(pattern: str) -> torch.Tensor:
    return torch.tensor([[[mark == "x"] for mark in pattern]])


def test_blend_carries_the_error_of_a_border_into_the_made_frames():
    mask, value = _mask("xx......"), torch.full((1, 8, 1), 0.5)
    x0 = torch.full((1, 8, 1), 0.1)
    found = Constrained(Constraint(mask, value, blend=3), x0).estimate(x0)[0, :, 0]
    share = 0.5 * (1 + torch.cos(torch.pi * torch.tensor([1, 2, 3]) / 4))
    torch.testing.assert_close(found, torch.cat([torch.full((2,), 0.5), 0.1 + 0.4 * share, torch.full((3,), 0.1)]))


def test_blend_between_two_stretches_keeps_a_line_through_constant_errors():
    """Equal errors at both ends fade in opposite directions: half cosines of one gap add to 1."""
    mask, value = _mask("x....x"), torch.full((1, 6, 1), 0.7)
    x0 = torch.full((1, 6, 1), 0.2)
    found = Constrained(Constraint(mask, value, blend=100), x0).estimate(x0)
    torch.testing.assert_close(found, value)


def test_blend_makes_the_step_at_the_seam_that_of_the_estimate():
    mask = _mask("x" * 10 + "." * 40)
    x0 = torch.linspace(0, 1, 50).reshape(1, 50, 1)
    value = x0 + 0.3
    plain = Constrained(Constraint(mask, value), x0).estimate(x0).diff(dim=1).abs().max()
    blended = Constrained(Constraint(mask, value, blend=20), x0).estimate(x0).diff(dim=1).abs().max()
    assert float(plain) > 0.27
    assert float(blended) < 0.05


def test_channels_are_blended_on_their_own():
    mask = torch.cat([_mask("xx..."), _mask("....x")], dim=2)
    x0, value = torch.zeros(1, 5, 2), torch.ones(1, 5, 2)
    found = Constrained(Constraint(mask, value, blend=1), x0).estimate(x0)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([1, 1, 0.5, 0, 0]))
    torch.testing.assert_close(found[0, :, 1], torch.tensor([0, 0, 0, 0.5, 1]))


def test_free_values_may_be_anything():
    mask, value = _mask("x..x"), torch.tensor([0.1, float("nan"), float("inf"), 0.4]).reshape(1, 4, 1)
    x0 = torch.full((1, 4, 1), 0.3)
    place = Constrained(Constraint(mask, value, blend=2), x0)
    assert bool(torch.isfinite(place.estimate(x0)).all())
    assert place.noised(x0, place.value)[0, :, 0].tolist() == pytest.approx([0.1, 0.3, 0.3, 0.4])


def test_soft_weights_mix_and_hard_ones_keep():
    mask = torch.tensor([1.0, 0.25, 0.0]).reshape(1, 3, 1)
    value, x0 = torch.ones(1, 3, 1), torch.zeros(1, 3, 1)
    place = Constrained(Constraint(mask, value), x0)
    assert place.estimate(x0).flatten().tolist() == [1.0, 0.25, 0.0]
    assert place.noised(x0, torch.full((1, 3, 1), 9.0)).flatten().tolist() == [9.0, 0.0, 0.0]


@settings(max_examples=50, deadline=None)
@given(pattern=st.text("x.", min_size=1, max_size=30), frames=st.integers(0, 10), blend=st.integers(0, 10))
def test_given_values_are_kept_bit_by_bit(pattern, frames, blend):
    mask = _mask(pattern)
    generator = torch.Generator().manual_seed(len(pattern))
    value, x0 = (torch.randn(mask.shape, generator=generator) for _ in range(2))
    soft = softened(mask, frames)
    found = Constrained(Constraint(soft, value, blend=blend), x0).estimate(x0)
    assert torch.equal(found[mask], value[mask])
    assert bool((soft[~mask] < 1).all())
    assert bool((soft >= 0).all())
    if not mask.any():
        assert torch.equal(found, x0)


def test_softened_ramp():
    soft = softened(_mask("..x...."), 2).flatten()
    torch.testing.assert_close(soft, torch.tensor([0.25, 0.75, 1, 0.75, 0.25, 0, 0]))
    assert torch.equal(softened(_mask("x.x"), 0).flatten(), torch.tensor([1.0, 0.0, 1.0]))


def test_pose_channels():
    assert pose_channels(contacts=True, root=True) == [0, 1, 2, 3, 4, 5, 6]
    assert pose_channels([23]) == [145, 146, 147, 148, 149, 150]
    assert pose_channels(range(24), root=True, contacts=True) == list(range(151))
    with pytest.raises(UserError, match="joints"):
        pose_channels([24])


def test_errors():
    mask, value = _mask("x."), torch.zeros(1, 2, 1)
    with pytest.raises(UserError, match="not both"):
        Constraint(mask, value[:, 1:])
    with pytest.raises(UserError, match="not both"):
        Constraint(mask[0], value[0])
    with pytest.raises(UserError, match="outside"):
        Constraint(mask * 1.5, value)
    with pytest.raises(UserError, match="finite"):
        Constraint(mask, value * float("nan"))
    for numbers in ({"resample": 0}, {"blend": -1}):
        with pytest.raises(UserError, match="resample"):
            Constraint(mask, value, **numbers)
    with pytest.raises(UserError, match="constraint is"):
        Constrained(Constraint(mask, value), torch.zeros(1, 3, 1))
    with pytest.raises(UserError, match="ramp"):
        softened(mask, -1)
