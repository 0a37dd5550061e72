"""Adan: adaptive Nesterov momentum (Xie et al. 2022, arXiv 2208.06677, algorithm 1), MACE-Dance's and EDGE's optimiser.

With gradient g_k, difference d_k = g_k - g_{k-1} (d_1 = 0) and betas (b1, b2, b3) as shares of the NEW value:

    m_k = (1 - b1) m_{k-1} + b1 g_k
    v_k = (1 - b2) v_{k-1} + b2 d_k
    n_k = (1 - b3) n_{k-1} + b3 (g_k + (1 - b2) d_k)^2
    step = lr (m_k / c1 + (1 - b2) v_k / c2) / (sqrt(n_k / c3) + eps),   c_i = 1 - (1 - b_i)^k
    parameter = (parameter - step) / (1 + lr * weight_decay)

m, v and n start at 0; the c_i remove the bias of that start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast, overload

import torch
from torch import Tensor

from macebench.errors import UserError


class Adan(torch.optim.Optimizer):
    """See the module's text.

    Args:
        params: Parameters, or groups of them with their own settings.
        lr: Step size; the released trainers use 4e-4.
        betas: b1, b2, b3, each in (0, 1].
        eps: Added to the root, above 0.
        weight_decay: Proximal weight decay; the released trainers use 0.02.

    Raises:
        UserError: A setting outside its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 4e-4,
        betas: tuple[float, float, float] = (0.02, 0.08, 0.01),
        eps: float = 1e-8,
        weight_decay: float = 0.02,
    ) -> None:
        if lr < 0 or eps <= 0 or weight_decay < 0 or not all(0 < beta <= 1 for beta in betas):
            raise UserError(
                f"Adan with lr {lr}, betas {betas}, eps {eps}, weight_decay {weight_decay}",
                hint="lr and weight_decay >= 0, eps > 0, betas in (0, 1]",
            )
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient.

        Args:
            closure: Computes the loss and the gradients again; its result is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _update(parameter, parameter.grad, self.state[parameter], group)
        return loss


def _update(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["step"] = 0
        state["previous"] = gradient.clone()
        state.update({name: torch.zeros_like(parameter) for name in ("m", "v", "n")})
    state["step"] += 1
    b1, b2, b3 = cast("tuple[float, float, float]", group["betas"])
    c1, c2, c3 = (1.0 - (1.0 - beta) ** state["step"] for beta in (b1, b2, b3))
    m, v, n = state["m"], state["v"], state["n"]
    difference = gradient - state["previous"]
    m.lerp_(gradient, b1)
    v.lerp_(difference, b2)
    looked_ahead = gradient + (1.0 - b2) * difference
    n.mul_(1.0 - b3).addcmul_(looked_ahead, looked_ahead, value=b3)
    direction = (m / c1).add_(v, alpha=(1.0 - b2) / c2)
    parameter.addcdiv_(direction, (n / c3).sqrt_().add_(group["eps"]), value=-group["lr"])
    parameter.div_(1.0 + group["lr"] * group["weight_decay"])
    state["previous"].copy_(gradient)
