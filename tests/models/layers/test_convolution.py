"""The causal convolution against `nn.Conv1d`: values, gradients, short clips, strides, threads, errors."""

import pytest
import torch
from torch.nn import functional

from macebench.models.layers.convolution import causal_convolution


def truth(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    k, d = weight.shape[-1], x.shape[2]
    out = functional.conv1d(x.transpose(1, 2), weight, bias, padding=k - 1, groups=d)
    return functional.silu(out[..., : x.shape[1]]).transpose(1, 2)


def gradients(function: object, *given: torch.Tensor) -> list[torch.Tensor]:
    given = tuple(v.detach().clone().requires_grad_() for v in given)
    out = function(*given)
    (out * torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)).sum().backward()
    return [out.detach(), *(v.grad for v in given)]


@pytest.mark.parametrize("backend", ["fused", "torch"])
@pytest.mark.parametrize(
    ("b", "frames", "d", "k"), [(2, 9, 5, 4), (1, 1, 3, 4), (1, 3, 70, 4), (3, 50, 130, 2), (2, 4, 64, 1)]
)
def test_values_and_gradients_equal_conv1d(backend: str, b: int, frames: int, d: int, k: int) -> None:
    torch.manual_seed(0)
    given = (torch.randn(b, frames, d), torch.randn(d, 1, k), torch.randn(d))
    mine = gradients(lambda *a: causal_convolution(*a, backend=backend), *given)
    exact = gradients(truth, *(v.double() for v in given))
    for value, right in zip(mine, exact, strict=True):
        assert value.shape == right.shape
        assert float((value - right).abs().max() / right.abs().max()) < 2e-6


def test_half_of_a_wider_tensor_and_threads() -> None:
    torch.manual_seed(0)
    wide, weight, bias = torch.randn(2, 30, 400), torch.randn(200, 1, 4), torch.randn(200)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(gradients(causal_convolution, wide[..., 200:], weight, bias))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert torch.allclose(results[0][0], truth(wide[..., 200:], weight, bias), atol=1e-5)


def test_wrong_input_is_named() -> None:
    x, weight, bias = torch.randn(2, 9, 5), torch.randn(5, 1, 4), torch.randn(5)
    for wrong in ((x[0], weight, bias), (x, weight[:4], bias), (x, weight, bias[:4]), (x[:, :0], weight, bias)):
        with pytest.raises(ValueError, match="x must be"):
            causal_convolution(*wrong)
    with pytest.raises(ValueError, match="float32"):
        causal_convolution(x.double(), weight.double(), bias.double(), backend="fused")
