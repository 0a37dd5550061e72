"""All scan backends: fixtures, float64 truth, gradients, long and extreme input, threads, batches, memory, errors."""

import math
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError, jaxtyped

from macebench.models.layers import _scan_kernels, scan
from macebench.models.layers.mamba import Mamba
from macebench.models.layers.scan import choose_backend, selective_scan

parity = runpy.run_path(str(Path(__file__).with_name("parity.py")))
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
Inputs = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def inputs(b: int, d: int, length: int, n: int, seed: int = 0, dense: bool = True) -> Inputs:
    """float32 inputs; dense along channels (as Mamba has them) or along time."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        x = torch.randn(*shape, generator=g)
        return x.transpose(1, 2).contiguous().transpose(1, 2) if dense and x.ndim == 3 else x

    rates = -torch.exp(torch.log(torch.arange(1, n + 1.0)) + 0.1 * draw(d, n))
    tensors = (draw(b, d, length), draw(b, d, length), rates, draw(b, n, length), draw(b, n, length))
    return dict(zip(NAMES, (*tensors, draw(d), draw(b, d, length), draw(d) - 3), strict=True))


def double(x: Inputs) -> Inputs:
    return {k: v.detach().double() for k, v in x.items()}


def error(a: torch.Tensor, truth: torch.Tensor) -> float:
    return float((a.double() - truth).abs().max() / truth.abs().max().clamp(min=1e-6))


def gradients(x: Inputs, plus: bool, backend: str) -> dict[str, torch.Tensor]:
    """Gradients of a fixed weighting of output and last state."""
    x = {k: v.detach().clone().requires_grad_() for k, v in x.items()}
    out, last = selective_scan(**x, delta_softplus=plus, return_last_state=True, backend=backend)
    weight = torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)
    weight_last = torch.sin(torch.arange(last.numel(), dtype=out.dtype)).view_as(last)
    ((out * weight).sum() + (last * weight_last).sum()).backward()
    return {k: v.grad for k, v in x.items()}


@pytest.mark.parametrize("backend", ["reference", "torch", "fused", "auto"])
@pytest.mark.parametrize("case", range(4))
def test_scan_equals_fixture(backend: str, case: int) -> None:
    stored = parity["golden"]("selective_scan")
    b, d, length, n = (int(v) for v in stored[f"case{case}_shape_b_d_l_n"])
    shapes = ((b, d, length), (b, d, length), (d, n), (b, n, length), (b, n, length), (d,), (b, d, length), (d,))
    x = {
        name: parity["noise"](math.prod(shape), f"scan{case}.{name}").reshape(shape)
        for name, shape in zip(NAMES, shapes, strict=True)
    }
    x["A"] = -np.exp(np.log(np.arange(1, n + 1)) + 0.1 * x["A"])
    x["delta_bias"] = x["delta_bias"] - 3
    t = {k: torch.from_numpy(v).float() for k, v in x.items()}
    out, last = selective_scan(**t, delta_softplus=True, return_last_state=True, backend=backend)
    assert out.numpy() == pytest.approx(stored[f"case{case}_out"], abs=2e-5)
    assert last.numpy() == pytest.approx(stored[f"case{case}_last_state"], abs=2e-5)
    plain = selective_scan(t["u"], 0.1 * t["delta"].abs(), t["A"], t["B"], t["C"], backend=backend)
    assert plain.numpy() == pytest.approx(stored[f"case{case}_plain_out"], abs=2e-5)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    b=st.integers(1, 3),
    d=st.sampled_from([1, 5, 64, 70, 130]),
    length=st.sampled_from([1, 2, 31, 32, 33, 64, 75]),
    n=st.sampled_from([1, 3, 16, 20]),
    seed=st.integers(0, 99),
    plus=st.booleans(),
    dense=st.booleans(),
)
def test_fused_gradients_equal_float64_autograd(
    b: int, d: int, length: int, n: int, seed: int, plus: bool, dense: bool
) -> None:
    x = inputs(b, d, length, n, seed, dense)
    if not plus:
        x["delta"], x["delta_bias"] = 0.1 * x["delta"].abs(), 0.01 * x["delta_bias"].abs()
    mine, truth = gradients(x, plus, "fused"), gradients(double(x), plus, "torch")
    for name in NAMES:
        assert error(mine[name], truth[name]) < 1e-4, name


def test_torch_gradients_equal_reference_gradients() -> None:
    x = double(inputs(2, 5, 9, 4))
    mine, truth = gradients(x, True, "torch"), gradients(x, True, "reference")
    assert max(error(mine[k], truth[k]) for k in NAMES) < 1e-12


def test_gradients_with_absent_tensors_and_partial_requests() -> None:
    x = {k: v for k, v in inputs(2, 6, 40, 4).items() if k in ("u", "delta", "A", "B", "C")}
    for backend, kind in (("fused", torch.float32), ("torch", torch.float64)):
        y = {k: v.detach().to(kind) for k, v in x.items()}
        y["delta"] = 0.1 * y["delta"].abs()
        y["B"].requires_grad_()
        selective_scan(**y, backend=backend).square().sum().backward()
        if backend == "fused":
            mine = y["B"].grad
            assert y["u"].grad is None
    assert error(mine, y["B"].grad) < 1e-4


@pytest.mark.parametrize("length", [1024, 8192])
def test_long_scan_equals_float64_reference(length: int) -> None:
    x = inputs(1, 3, length, 16, seed=4)
    truth, last = selective_scan(**double(x), delta_softplus=True, return_last_state=True, backend="reference")
    for backend in ("fused", "torch"):
        out, h = selective_scan(**x, delta_softplus=True, return_last_state=True, backend=backend)
        assert error(out, truth) < 1e-4
        assert error(h, last) < 1e-4


@pytest.mark.parametrize("scale", [1e-6, 1.0, 50.0, 1e4, 1e8])
def test_extreme_steps_neither_overflow_nor_lose_the_value(scale: float) -> None:
    x = inputs(1, 4, 300, 16, seed=7)
    x["delta"] = scale * x["delta"]
    x["z"] = x["z"] * 30
    truth = selective_scan(**double(x), delta_softplus=True, backend="reference")
    out = selective_scan(**x, delta_softplus=True, backend="fused")
    assert torch.isfinite(out).all()
    assert error(out, truth) < 1e-4
    mine, exact = gradients(x, True, "fused"), gradients(double(x), True, "torch")
    for name in NAMES:
        assert torch.isfinite(mine[name]).all(), name
        assert error(mine[name], exact[name]) < 2e-4, name


def test_slow_decay_keeps_precision_over_time() -> None:
    x = inputs(1, 2, 8192, 4, seed=2)
    x["delta"] = torch.full_like(x["delta"], 1e-4)
    x["delta_bias"] = torch.zeros_like(x["delta_bias"])
    truth = selective_scan(**double(x), backend="reference")
    assert error(selective_scan(**x, backend="fused"), truth) < 1e-4


def test_nan_stays_visible() -> None:
    x = inputs(1, 3, 20, 4)
    x["delta"][0, 1, 7] = float("nan")
    out = selective_scan(**x, delta_softplus=True, backend="fused")
    assert torch.isfinite(out[0, 1, :7]).all()
    assert torch.isnan(out[0, 1, 7:]).all()
    assert torch.isfinite(out[0, [0, 2]]).all()


def test_elementary_functions() -> None:
    grid = np.concatenate([np.linspace(-130, 128, 4001), np.linspace(-2, 2, 801), [0, -1e30]]).astype(np.float32)
    powers = np.array([_scan_kernels.exp2(v) for v in grid], np.float64)
    truth = np.exp2(grid.astype(np.float64))
    normal = (grid > -126) & (grid < 127.5)
    assert np.abs(powers[normal] / truth[normal] - 1).max() < 2e-7
    assert (powers[grid < -126.6] == 0).all()
    assert np.isinf(_scan_kernels.exp2(np.float32(130)))
    assert _scan_kernels.exp2(np.float32(0)) == 1
    wide = np.concatenate([np.linspace(-100, 100, 2001), np.linspace(-1, 1, 401)]).astype(np.float32)
    soft = np.array([_scan_kernels.softplus(v) for v in wide], np.float64)
    exact = np.logaddexp(0, wide.astype(np.float64))
    usual = wide > -80
    assert np.abs(soft[usual] / exact[usual] - 1).max() < 1e-5
    assert np.abs(soft - exact)[wide > -17].max() < 4e-6
    logistic = np.array([_scan_kernels.sigmoid(v) for v in wide], np.float64)
    assert np.abs(logistic - 1 / (1 + np.exp(-wide.astype(np.float64)))).max() < 2e-7


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    x = inputs(3, 70, 40, 16)
    alone = {k: v[1:2] if v.ndim == 3 else v for k, v in x.items()}
    whole = selective_scan(**x, delta_softplus=True, backend="fused")
    assert torch.equal(whole[1:2], selective_scan(**alone, delta_softplus=True, backend="fused"))


def test_results_do_not_depend_on_threads() -> None:
    x = inputs(2, 200, 70, 16)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append((selective_scan(**x, delta_softplus=True), gradients(x, True, "fused")))
    for out, grads in results[1:]:
        assert torch.equal(out, results[0][0])
        assert all(torch.equal(grads[k], results[0][1][k]) for k in NAMES)


def test_strided_and_expanded_inputs_need_no_copy_by_the_caller() -> None:
    x = inputs(2, 8, 12, 4)
    x["delta"] = 0.1 * x["delta"].abs()
    x["delta_bias"] = 0.01 * x["delta_bias"].abs()
    wide = torch.cat((x["u"].transpose(1, 2), x["z"].transpose(1, 2)), dim=2)
    views = {**x, "u": wide[..., :8].transpose(1, 2), "z": wide[..., 8:].transpose(1, 2)}
    assert torch.equal(selective_scan(**views, backend="fused"), selective_scan(**x, backend="fused"))
    one = {**x, "B": x["B"][:, :, :1].expand(-1, -1, 12)}
    same = {**one, "B": one["B"].contiguous()}
    assert torch.equal(selective_scan(**one, backend="fused"), selective_scan(**same, backend="fused"))


def saved_bytes(length: int, grad: bool = True) -> int:
    """Bytes that autograd keeps beside the inputs."""
    x = {k: v.requires_grad_(grad) for k, v in inputs(1, 64, length, 16).items()}
    given, kept = {v.data_ptr() for v in x.values()}, []

    def pack(t: torch.Tensor) -> torch.Tensor:
        if t.data_ptr() not in given:
            kept.append(t.numel() * t.element_size())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        selective_scan(**x, delta_softplus=True, backend="fused")
    return sum(kept)


def test_memory_for_the_gradient_is_linear_and_small() -> None:
    one = 512 * 64 * 4
    assert saved_bytes(1024) == 2 * saved_bytes(512)
    assert saved_bytes(512) <= one
    assert saved_bytes(512, grad=False) == 0


def test_torch_backend_has_no_node_whose_gradient_spans_all_frames_per_frame() -> None:
    x = {k: v.requires_grad_() for k, v in inputs(1, 4, 20, 4).items()}
    todo, names = [selective_scan(**x, backend="torch").grad_fn], []
    seen = set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.append(node.name())
        todo.extend(parent for parent, _ in node.next_functions)
    assert not any(name.startswith(("Select", "Slice", "Index")) for name in names)
    assert any(name.startswith("Unbind") for name in names)


def test_auto_takes_the_right_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs(1, 2, 3, 4)
    assert choose_backend(x["u"], x["A"], None) == "fused"
    assert choose_backend(x["u"].double(), x["A"]) == "torch"
    assert choose_backend(x["u"], x["A"].bfloat16()) == "torch"
    assert selective_scan(**double(x)).dtype == torch.float64
    called = []

    def fake(*args: object) -> tuple[torch.Tensor, torch.Tensor]:
        called.append(args)
        return args[0], torch.zeros(1, 2, 4)

    monkeypatch.setattr(scan, "mamba_ssm_scan", lambda: fake)
    on_cuda = {k: v.as_subclass(OnCuda) for k, v in x.items()}
    selective_scan(**on_cuda, delta_softplus=True)
    assert len(called) == 1
    assert called[0][8:] == (True, True)


class OnCuda(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


def strict_kernel(
    u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor, *rest: object
) -> tuple[torch.Tensor, torch.Tensor]:
    """mamba-ssm's demands on dtypes, and the scan itself."""
    D, z, bias, plus, last = rest
    assert isinstance(D, torch.Tensor) and isinstance(z, torch.Tensor) and isinstance(bias, torch.Tensor)  # noqa: PT018
    if u.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise RuntimeError("not implemented for this dtype")
    for x in (delta, B, C, z):
        if x.dtype != u.dtype:
            raise RuntimeError("Expected x.scalar_type() == input_type to be true")
    for x in (A, D, bias):
        if x.dtype != torch.float32:
            raise RuntimeError("Expected weight_type to be float32")
    plain = [x.as_subclass(torch.Tensor) for x in (u, delta, A, B, C, D, z, bias)]
    found = selective_scan(*plain, plus, return_last_state=bool(last), backend="torch")
    return found[0].to(u.dtype), found[1]


@pytest.mark.parametrize("low", [("delta", "B", "C", "z"), ("u", "delta", "B", "C", "z"), ("D", "delta_bias"), ()])
def test_mixed_dtypes_reach_mamba_ssm_as_one(monkeypatch: pytest.MonkeyPatch, low: tuple[str, ...]) -> None:
    monkeypatch.setattr(scan, "mamba_ssm_scan", lambda: strict_kernel)
    x = {k: v.bfloat16() if k in low else v for k, v in inputs(1, 4, 12, 4).items()}
    out = selective_scan(**{k: v.as_subclass(OnCuda) for k, v in x.items()}, delta_softplus=True, backend="cuda")
    assert isinstance(out, torch.Tensor)
    assert out.dtype == (torch.bfloat16 if "u" in low else torch.float32)
    exact = selective_scan(**{k: v.double() for k, v in x.items()}, delta_softplus=True, backend="torch")
    assert error(out.as_subclass(torch.Tensor), exact) < (5e-2 if "u" in low else 1e-5)


def test_gradients_go_through_the_casts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "mamba_ssm_scan", lambda: strict_kernel)
    x = {k: v.bfloat16() if k in ("delta", "B", "C", "z") else v for k, v in inputs(1, 4, 12, 4).items()}
    leaves = {k: v.requires_grad_() for k, v in x.items()}
    out = selective_scan(**{k: v.as_subclass(OnCuda) for k, v in leaves.items()}, delta_softplus=True)
    assert isinstance(out, torch.Tensor)
    out.sum().backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None, name
        assert leaf.grad.dtype == leaf.dtype
        assert leaf.grad.abs().sum() > 0, name


def test_a_block_under_autocast_meets_mamba_ssm_with_one_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "mamba_ssm_scan", lambda: strict_kernel)
    seen = []
    real = scan._cuda

    def on_cuda(*given: Any) -> Any:
        seen.append({x.dtype for x in given[:5] if x is not None})
        return real(*(x.as_subclass(OnCuda) if isinstance(x, torch.Tensor) else x for x in given))

    monkeypatch.setattr(scan, "_cuda", on_cuda)
    torch.manual_seed(0)
    block, x = Mamba(16, d_state=4, backend="cuda"), torch.randn(2, 10, 16)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        out = block(x)
    assert torch.isfinite(out.float()).all()
    assert len(seen[0]) > 1  # autocast leaves them mixed
    block.backend = "torch"
    assert error(out.as_subclass(torch.Tensor).float(), block(x).detach()) < 5e-2


def test_float64_is_not_for_mamba_ssm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "mamba_ssm_scan", lambda: strict_kernel)
    x = {k: v.as_subclass(OnCuda) for k, v in double(inputs(1, 2, 3, 4)).items()}
    assert choose_backend(*x.values()) == "torch"
    with pytest.raises(ValueError, match="float64"):
        selective_scan(**x, backend="cuda")


def test_low_precision_runs_with_a_wide_state() -> None:
    x = inputs(1, 4, 30, 4)
    half = {k: v.bfloat16() if v.ndim == 3 else v for k, v in x.items()}
    out = selective_scan(**half, delta_softplus=True)
    assert out.dtype in (torch.bfloat16, torch.float32)
    exact = selective_scan(**{k: v.double() for k, v in half.items()}, delta_softplus=True)
    assert error(out, exact) < 2e-2


def test_wrong_input_is_named() -> None:
    x = inputs(2, 4, 6, 3)
    cases = (
        ("delta", x["delta"][:, :3], r"delta must have shape \(2, 4, 6\)"),
        ("B", x["B"][:, :2], r"B must have shape \(2, 3, 6\)"),
        ("C", x["C"][:, :, :5], r"C must have shape"),
        ("A", x["A"][:3], r"A must have shape \(4, 3\)"),
        ("D", x["D"][:3], r"D must have shape \(4,\)"),
        ("z", x["z"][:1], r"z must have shape"),
        ("delta_bias", x["delta_bias"][:1], r"delta_bias must have shape"),
        ("u", x["u"][0], r"u must be \(b, d, l\)"),
        ("A", x["A"].to(torch.complex64), r"A must be of a real floating dtype"),
    )
    for name, value, message in cases:
        with pytest.raises(ValueError, match=message):
            selective_scan(**{**x, name: value})
    empty = {k: v[:, :, :0] if v.ndim == 3 else v for k, v in x.items()}
    with pytest.raises(ValueError, match="empty"):
        selective_scan(**empty)
    with pytest.raises(ValueError, match="unknown scan backend 'fast'"):
        selective_scan(**x, backend="fast")
    with pytest.raises(ValueError, match="float32"):
        selective_scan(**double(x), backend="fused")
    with pytest.raises(ValueError, match="mamba-ssm"):
        selective_scan(**x, backend="cuda")


def test_shapes_in_the_signature_hold() -> None:
    checked, x = jaxtyped(typechecker=beartype)(selective_scan), inputs(2, 4, 6, 3)
    for backend in ("reference", "torch", "fused"):
        out, last = checked(**x, return_last_state=True, backend=backend)
        assert out.shape == (2, 4, 6)
        assert last.shape == (2, 4, 3)
    with pytest.raises(TypeCheckError):
        checked(**{**x, "B": x["B"][:, :2]})


def test_kernels_are_compiled_once() -> None:
    for shape in ((1, 64, 64, 16), (2, 5, 33, 1), (1, 1, 1, 4), (3, 130, 40, 8)):
        gradients(inputs(*shape), True, "fused")
        gradients(inputs(*shape, dense=False), True, "fused")
    assert len(_scan_kernels._forward_tiles.signatures) == 1
    assert len(_scan_kernels._backward_tiles.signatures) == 1
