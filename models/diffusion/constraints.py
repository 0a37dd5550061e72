"""Editing by masked denoising: parts of a motion are given, the diffusion model makes the rest.

After every step the given part of x_{t-1} is replaced by the noised given motion (MACE-Dance and EDGE, masked
denoising; Lugmayr et al. 2022, arXiv 2201.09865, equation 8):

    x_{t-1} <- mask * q_sample(value, t - 1) + (1 - mask) * x_{t-1}

and at the end x_0 <- mask * value + (1 - mask) * x_0, so that the given part is kept bit by bit. With few steps this
alone can leave a jump where given and made frames meet: the model's own estimate of the given frames differs from
them, and the made frames continue the estimate. Three cures, each off by default:

- `resample` > 1: every step is done that often, going back up in noise in between (RePaint, section 4.2); the cost
  grows in proportion.
- `blend` > 0: at the border of a given stretch, the estimate's error there (given value minus estimate) is added to
  the made frames, fading out over that many frames along a half cosine. A made stretch between two given ones takes
  the errors of both ends. It acts per channel and costs no network pass.
- Weights between 0 and 1 in the mask mix value and estimate, x_0 <- mask * value + (1 - mask) * x_0, at every step;
  `softened` makes such ramps. Only weights of exactly 1 are kept exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from macebench.errors import UserError

N_JOINTS = 24
FIRST_ROTATION = 7
ROTATION_CHANNELS = 6


@dataclass(frozen=True, eq=False)
class Constraint:
    """What is given, and how the seams are treated.

    Attributes:
        mask: (b, t, c) bool, True where the value is given; or float weights in [0, 1], 1 where it is kept exactly.
        value: (b, t, c) normalised motion; where the mask is 0 it is not read and may be anything, NaN too.
        resample: How often each step is done, 1 or more.
        blend: Frames over which an error at a border fades out; 0 leaves the estimate as it is.

    Raises:
        UserError: Unequal shapes, weights outside [0, 1], given values that are not finite, or a number out of range.
    """

    mask: Bool[Tensor, "b t c"] | Float[Tensor, "b t c"]
    value: Float[Tensor, "b t c"]
    resample: int = 1
    blend: int = 0

    def __post_init__(self) -> None:
        if self.mask.ndim != 3 or self.mask.shape != self.value.shape:
            shapes = f"mask {tuple(self.mask.shape)} and value {tuple(self.value.shape)}"
            raise UserError(f"{shapes} are not both (b, t, c)", hint="give one weight for each given value")
        if not bool(((self.mask >= 0) & (self.mask <= 1)).all()):
            raise UserError("the mask has weights outside [0, 1]")
        if not bool(torch.isfinite(self.value[self.mask > 0]).all()):
            raise UserError("given values are not finite numbers", hint="mask out the frames that are unknown")
        if self.resample < 1 or self.blend < 0:
            raise UserError(f"resample {self.resample}, blend {self.blend}", hint="resample >= 1 and blend >= 0")


class Constrained:
    """A constraint made ready for one sampling: on its device, with the borders found. Memory is linear in t.

    Args:
        constraint: What is given.
        like: A tensor of the sampled shape, for shape, type and device.

    Raises:
        UserError: The constraint has another shape.
    """

    def __init__(self, constraint: Constraint, like: Float[Tensor, "b t c"]) -> None:
        if constraint.mask.shape != like.shape:
            raise UserError(
                f"the constraint is {tuple(constraint.mask.shape)} and the motion {tuple(like.shape)}",
                hint="give the constraint the batch size, frames and channels of what is sampled",
            )
        weights = constraint.mask.to(like.device, like.dtype)
        self.hard = weights >= 1.0
        self.value = torch.where(weights > 0, constraint.value.to(like.device, like.dtype), 0.0)
        self.soft = torch.where(self.hard, 0.0, weights) if bool(((weights > 0) & ~self.hard).any()) else None
        self._borders = _Borders(self.hard, constraint.blend) if constraint.blend else None

    def estimate(self, x0: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        """The estimate of the clean motion with soft weights and blended borders; given values are put in."""
        if self._borders is not None:
            x0 = self._borders.blended(x0, self.value)
        if self.soft is not None:
            x0 = torch.lerp(x0, self.value, self.soft)
        return torch.where(self.hard, self.value, x0)

    def noised(self, x: Float[Tensor, "b t c"], given: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        """The state x with its given part replaced by that of `given`, the noised value."""
        return torch.where(self.hard, given, x)


class _Borders:
    """Where made frames meet given ones: for each made frame the last given one before it and the next one after it."""

    def __init__(self, hard: Bool[Tensor, "b t c"], frames: int) -> None:
        length = hard.shape[1]
        before, after = _neighbours(hard)
        index = torch.arange(length, device=hard.device)[None, :, None]
        inside = (before >= 0) & (after < length)
        reach = torch.where(inside, (after - before - 1).clamp(max=frames), frames)
        self.before, self.after = before.clamp(min=0), after.clamp(max=length - 1)
        self.weight_before = torch.where(before >= 0, _half_cosine(index - before, reach), 0.0)
        self.weight_after = torch.where(after < length, _half_cosine(after - index, reach), 0.0)

    def blended(self, x0: Tensor, value: Tensor) -> Tensor:
        error = value - x0
        x0 = torch.addcmul(x0, self.weight_before.to(x0), error.gather(1, self.before))
        return torch.addcmul(x0, self.weight_after.to(x0), error.gather(1, self.after))


def softened(mask: Bool[Tensor, "b t c"], frames: int) -> Float[Tensor, "b t c"]:
    """Weights that fall from 1 to 0 along a half cosine over `frames` frames before and after each given stretch.

    The value must hold a motion there as well, for example that of the dance that is edited.

    Raises:
        UserError: frames is negative.
    """
    if frames < 0:
        raise UserError(f"a ramp of {frames} frames", hint="take 0 or more")
    before, after = _neighbours(mask)
    length = mask.shape[1]
    index = torch.arange(length, device=mask.device)[None, :, None]
    reach = torch.full_like(before, frames)
    first = torch.where(before >= 0, _half_cosine(index - before, reach), 0.0)
    second = torch.where(after < length, _half_cosine(after - index, reach), 0.0)
    return torch.where(mask, 1.0, torch.maximum(first, second))


def pose_channels(joints: Iterable[int] = (), *, root: bool = False, contacts: bool = False) -> list[int]:
    """Channels of the 151-d motion vector: contacts 0..3, root 4..6, rotation of joint j in 7 + 6 j .. 12 + 6 j.

    Raises:
        UserError: A joint is not in 0 .. 23.
    """
    chosen = sorted(set(joints))
    if any(not 0 <= joint < N_JOINTS for joint in chosen):
        raise UserError(f"joints {chosen}", hint="SMPL's joints are 0 to 23")
    rotations = [FIRST_ROTATION + ROTATION_CHANNELS * joint + k for joint in chosen for k in range(ROTATION_CHANNELS)]
    return [*(range(4) if contacts else ()), *(range(4, FIRST_ROTATION) if root else ()), *rotations]


def _neighbours(hard: Tensor) -> tuple[Tensor, Tensor]:
    """Per entry the frame of the last given one up to it (-1: none) and of the first given one from it (t: none)."""
    length = hard.shape[1]
    index = torch.arange(length, device=hard.device)[None, :, None]
    before = torch.where(hard, index, -1).cummax(dim=1).values
    after = torch.where(hard, index, length).flip(1).cummin(dim=1).values.flip(1)
    return before, after


def _half_cosine(distance: Tensor, reach: Tensor) -> Tensor:
    """1 at distance 0, falling to 0 at distance reach + 1 and beyond; float32."""
    share = (distance.float() / (reach + 1)).clamp(0.0, 1.0)
    return 0.5 * (1.0 + torch.cos(torch.pi * share))
