"""The selective scan of Mamba with four backends and one meaning.

    h_t = exp(delta_t A) h_(t-1) + delta_t B_t u_t,   y_t = C_t h_t + D u_t,   out_t = y_t SiLU(z_t)

`reference` is the definition in plain torch, for float64 truth. `torch` is a loop with gradients in linear time on any
device. `fused` runs numba kernels on the CPU in float32, forward and backward, with memory linear in time and a small
factor. `cuda` calls mamba-ssm. `auto` takes `cuda` where it can, `fused` for float32 on the CPU, else `torch`.
No backend forms a cumulative sum of logarithms, so large steps do not overflow.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from macebench.models.layers import _scan_torch, _tiles

Backend = Literal["auto", "reference", "torch", "fused", "cuda"]
BACKENDS: tuple[str, ...] = ("auto", "reference", "torch", "fused", "cuda")


def selective_scan(
    u: Float[Tensor, "b d l"],
    delta: Float[Tensor, "b d l"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b n l"],
    C: Float[Tensor, "b n l"],
    D: Float[Tensor, " d"] | None = None,
    z: Float[Tensor, "b d l"] | None = None,
    delta_bias: Float[Tensor, " d"] | None = None,
    delta_softplus: bool = False,
    *,
    return_last_state: bool = False,
    backend: str = "auto",
) -> Float[Tensor, "b d l"] | tuple[Float[Tensor, "b d l"], Float[Tensor, "b d n"]]:
    """Scan over the last axis.

    Tensors that are dense along the channel axis (transposed views of (b, l, d)) cost no copy in the fused backend.

    Args:
        u: Input.
        delta: Step sizes, before bias and softplus.
        A: Decay rates; negative for a stable scan.
        B: Input weights a frame.
        C: Output weights a frame.
        D: Skip weights.
        z: Gate; the output is multiplied by SiLU(z).
        delta_bias: Added to delta.
        delta_softplus: Step sizes are softplus(delta + delta_bias).
        return_last_state: Also return h after the last frame.
        backend: One of `BACKENDS`.

    Returns:
        The output, and the last state when asked for. All backends are differentiable once in every tensor.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit, the backend has no such name or cannot take these tensors.
    """
    _check(u, delta, A, B, C, D, z, delta_bias)
    name = choose_backend(u, delta, A, B, C, D, z, delta_bias) if backend == "auto" else backend
    if name == "cuda":
        out, last = _cuda(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    elif name == "fused":
        out, last = _fused(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    elif name in ("reference", "torch"):
        loop = _scan_torch.torch_scan if name == "torch" else _scan_torch.reference_scan
        y, last = loop(u, _scan_torch.step_sizes(delta, delta_bias, plus=delta_softplus), A, B, C)
        out = _scan_torch.finish(y, u, D, z)
    else:
        raise ValueError(f"unknown scan backend {backend!r}; one of {', '.join(BACKENDS)}")
    return (out, last) if return_last_state else out


def choose_backend(*given: Tensor | None) -> str:
    """Backend that `auto` takes for these tensors."""
    tensors = [x for x in given if x is not None]
    if all(x.is_cuda for x in tensors):
        wide = any(x.dtype == torch.float64 for x in tensors)  # mamba-ssm has no kernels for it
        return "cuda" if not wide and mamba_ssm_scan() is not None else "torch"
    fits = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)
    return "fused" if fits and not torch.compiler.is_compiling() else "torch"


@lru_cache(maxsize=1)
def mamba_ssm_scan() -> Any:
    """`selective_scan_fn` of mamba-ssm, or None where it is not installed or does not load."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # type: ignore[import-not-found]
    except (ImportError, OSError, RuntimeError, AttributeError):
        return None
    return selective_scan_fn


def _check(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *rest: Tensor | None) -> None:
    if u.ndim != 3 or A.ndim != 2:
        raise ValueError(f"u must be (b, d, l) and A (d, n), not {tuple(u.shape)} and {tuple(A.shape)}")
    batch, d, length = u.shape
    n = A.shape[1]
    if min(batch, d, length, n) < 1:
        raise ValueError(f"no axis may be empty: u {tuple(u.shape)}, A {tuple(A.shape)}")
    wanted: tuple[tuple[str, Tensor | None, tuple[int, ...]], ...] = (
        ("delta", delta, (batch, d, length)),
        ("A", A, (d, n)),
        ("B", B, (batch, n, length)),
        ("C", C, (batch, n, length)),
        ("D", rest[0], (d,)),
        ("z", rest[1], (batch, d, length)),
        ("delta_bias", rest[2], (d,)),
    )
    for name, tensor, shape in wanted:
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape} beside u {tuple(u.shape)}, not {tuple(tensor.shape)}")
        if tensor.device != u.device:
            raise ValueError(f"{name} is on {tensor.device}, u on {u.device}")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be of a real floating dtype, not {tensor.dtype}")


def _cuda(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    plus: bool,
) -> tuple[Tensor, Tensor]:
    """mamba-ssm's scan, whose kernels want one dtype of u, delta, B, C and z, and float32 of A, D and the bias.

    Under autocast they come mixed: they are brought to the widest of theirs, as torch's own arithmetic would.
    """
    scan = mamba_ssm_scan()
    if scan is None or not u.is_cuda:
        raise ValueError("the cuda backend needs mamba-ssm and tensors on a CUDA device")
    dtype = u.dtype
    for x in (delta, B, C, z):
        dtype = dtype if x is None else torch.promote_types(dtype, x.dtype)
    if dtype == torch.float64:
        raise ValueError("the cuda backend takes no float64; use the torch backend")
    gate, skip, offset = (
        None if x is None else x.to(kind) for x, kind in ((z, dtype), (D, torch.float32), (bias, torch.float32))
    )
    out, last = scan(u.to(dtype), delta.to(dtype), A.float(), B.to(dtype), C.to(dtype), skip, gate, offset, plus, True)
    return out, last


def _fused(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    plus: bool,
) -> tuple[Tensor, Tensor]:
    given = tuple(x for x in (u, delta, A, B, C, D, z, bias) if x is not None)
    _tiles.check_fused(given)
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in given)
    if not keep:
        return _run_forward((u, delta, B, C, z), A, D, bias, (z is not None, plus, False))[:2]
    out, last = FusedScan.apply(u, delta, A, B, C, D, z, bias, plus)  # type: ignore[no-untyped-call]
    return out, last


Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]
"""u, delta, B, C, z."""


def _views(inputs: Inputs) -> Any:
    u = inputs[0]
    return tuple(_tiles.flat_view((u if x is None else x).transpose(1, 2)) for x in inputs)


def _weights(A: Tensor, D: Tensor | None, bias: Tensor | None) -> Any:
    rates = (A.detach().t() * math.log2(math.e)).contiguous().numpy()
    return rates, _tiles.vector(D, A.shape[0]), _tiles.vector(bias, A.shape[0])


def _run_forward(
    inputs: Inputs, A: Tensor, D: Tensor | None, bias: Tensor | None, options: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Any]:
    """Output (b, d, l), last state (b, d, n) and kept states."""
    from macebench.models.layers import _scan_kernels as kernels

    batch, d, length = inputs[0].shape
    out, last = torch.empty(batch, length, d), torch.empty(batch, A.shape[1], d)
    states = kernels.forward(_views(inputs), _weights(A, D, bias), options, out.numpy(), last.numpy())
    return out.transpose(1, 2), last.transpose(1, 2), states


class FusedScan(torch.autograd.Function):
    """Fused forward and backward; the forward keeps one state in `_scan_kernels.CHUNK` frames."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        z: Tensor | None,
        bias: Tensor | None,
        plus: bool,
    ) -> tuple[Tensor, Tensor]:
        options = (z is not None, plus, True)
        out, last, states = _run_forward((u, delta, B, C, z), A, D, bias, options)
        ctx.save_for_backward(u, delta, A, B, C, D, z, bias, torch.from_numpy(states))
        ctx.options = options
        return out, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_out: Tensor, g_last: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        from macebench.models.layers import _scan_kernels as kernels

        u, delta, A, B, C, D, z, bias, states = ctx.saved_tensors
        grads = kernels.backward(
            _views((u, delta, B, C, z)),
            _weights(A, D, bias),
            ctx.options,
            states.numpy(),
            _tiles.flat_view(g_out.transpose(1, 2)),
            g_last.detach().transpose(1, 2).contiguous().numpy(),
            u.shape[2],
        )
        gu, gdelta, gz, gB, gC, gA, gD, gbias = (torch.from_numpy(x) for x in grads)
        return (
            gu.transpose(1, 2),
            gdelta.transpose(1, 2),
            gA.t(),
            gB.transpose(1, 2),
            gC.transpose(1, 2),
            None if D is None else gD,
            None if z is None else gz.transpose(1, 2),
            None if bias is None else gbias,
            None,
        )
