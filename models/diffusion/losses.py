"""Training losses of the Motion Expert: reconstruction, velocity, joints, foot contact.

Two named forms. x is the target, y the prediction, both (b, t, 151) normalised: contacts 4 | root 3 | 24 x rot6d.
' is the forward difference in time; every loss is a mean over all entries.

``"released"`` is what the public code of EDGE and MACE-Dance computes, all of it on NORMALISED values:

- reconstruction: (y - x)^2 over all 151 features;
- velocity: (y' - x')^2 over the 147 pose parameters (root and rot6d), not over joints;
- joints: (FK(y) - FK(x))^2, where FK reads the normalised root and rot6d as if they were metres and rotations;
- foot: |FK(y)' c|^2 for the feet (7, 8, 10, 11), last frame 0, with c = [y_contact > 0.95] of the model's own
  normalised contact outputs.

``"paper"`` is equation 4 of MACE-Dance: reconstruction as above; joints, velocity and foot on FK of the unnormalised
motion in metres (velocity: all 24 joints, metres a frame); c = [contact > 0.95] of the unnormalised contact, which
lies in [0, 1]. Nothing is clipped when it is unnormalised, so that values beyond [-1, 1] keep their gradient. The
paper names no weights; the default weights are those of the public code in both forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from macebench.errors import UserError
from macebench.models.motion_expert.kinematics import forward_kinematics, rot6d_to_matrix

LossForm = Literal["paper", "released"]
N_FEATURES = 151
N_JOINTS = 24
CONTACTS = slice(0, 4)
POSE = slice(4, N_FEATURES)
ROOT = slice(4, 7)
ROTATIONS = slice(7, N_FEATURES)
FEET = (7, 8, 10, 11)
CONTACT_THRESHOLD = 0.95


class Unnormalizer(Protocol):
    """What the losses need of `macebench.models.motion_expert.codec.Normalizer`."""

    def unnormalize(self, x: Tensor, *, clip: bool = ...) -> Tensor:
        """(..., 151) normalised to metres and rot6d; unless `clip` is false, values are clipped to [-1, 1] first."""


@dataclass(frozen=True)
class LossWeights:
    """Factors of the four losses; the defaults are those of the public code of EDGE and MACE-Dance."""

    reconstruction: float = 0.636
    velocity: float = 2.964
    joints: float = 0.646
    foot: float = 10.942


@dataclass(frozen=True)
class Losses:
    """The four WEIGHTED losses and their sum, each a scalar tensor; `total` is what training minimises."""

    reconstruction: Float[Tensor, ""]
    velocity: Float[Tensor, ""]
    joints: Float[Tensor, ""]
    foot: Float[Tensor, ""]
    total: Float[Tensor, ""]


def motion_losses(
    prediction: Float[Tensor, "b t 151"],
    target: Float[Tensor, "b t 151"],
    normalizer: Unnormalizer | None,
    *,
    form: LossForm = "paper",
    weights: LossWeights | None = None,
) -> Losses:
    """Losses of a predicted motion.

    Args:
        prediction: The model's x_0, normalised.
        target: The true x_0, normalised; no gradient flows into it.
        normalizer: Turns normalised values into metres; the form ``"released"`` does not use it.
        form: See the module's text.
        weights: Factors; None is `LossWeights()`.

    Raises:
        UserError: Unknown form, ``"paper"`` without a normalizer, unequal shapes, or fewer than two frames.
    """
    _check(prediction, target, normalizer, form)
    weights = weights or LossWeights()
    mse = torch.nn.functional.mse_loss
    if form == "paper" and normalizer is not None:
        made = normalizer.unnormalize(prediction, clip=False)
        true = normalizer.unnormalize(target.detach(), clip=False)
    else:
        made, true = prediction, target.detach()
    with torch.no_grad():
        true_joints = joints_of(true)
    made_joints = joints_of(made)
    if form == "paper":
        velocity = mse(_difference(made_joints), _difference(true_joints))
    else:
        velocity = mse(_difference(prediction[..., POSE]), _difference(target.detach()[..., POSE]))
    terms = (
        weights.reconstruction * mse(prediction, target.detach()),
        weights.velocity * velocity,
        weights.joints * mse(made_joints, true_joints),
        weights.foot * foot_loss(made_joints, made[..., CONTACTS] > CONTACT_THRESHOLD),
    )
    return Losses(*terms, total=terms[0] + terms[1] + terms[2] + terms[3])


def joints_of(motion: Float[Tensor, "*batch 151"]) -> Float[Tensor, "*batch 24 3"]:
    """Joint positions of motion vectors by forward kinematics, in the unit of their root."""
    rotations = motion[..., ROTATIONS].reshape(*motion.shape[:-1], N_JOINTS, 6)
    return forward_kinematics(rot6d_to_matrix(rotations), motion[..., ROOT])


def foot_loss(joints: Float[Tensor, "b t 24 3"], static: Bool[Tensor, "b t 4"]) -> Float[Tensor, ""]:
    """Mean square of the feet's forward difference where `static` holds; the last frame counts as 0."""
    feet = joints[:, :, list(FEET)]
    moved = _difference(feet) * static[:, :-1, :, None]
    return moved.square().sum() / feet.numel()


def _difference(values: Tensor) -> Tensor:
    return values[:, 1:] - values[:, :-1]


def _check(prediction: Tensor, target: Tensor, normalizer: Unnormalizer | None, form: str) -> None:
    if form not in ("paper", "released"):
        raise UserError(f"unknown loss form {form!r}", hint="paper or released")
    if form == "paper" and normalizer is None:
        raise UserError("the loss form 'paper' needs the data's normalizer", hint="give one, or take form='released'")
    if prediction.shape != target.shape:
        raise UserError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    if prediction.ndim != 3 or prediction.shape[1] < 2 or prediction.shape[2] != N_FEATURES:
        raise UserError(f"the losses need (b, t >= 2, {N_FEATURES}) and got {tuple(prediction.shape)}")
