"""The shared layers: the fast linear layer, and a last layer that computes one token."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from macebench.models.appearance import _transformer as module  # noqa: E402
from macebench.models.appearance._transformer import Layer, Linear, Norm, encode, linear, norm  # noqa: E402


def numbers(*shape, step=0.37):
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * step + 1).float().view(shape)


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("activation", ["none", "gelu", "quick_gelu"])
@pytest.mark.parametrize("rows", [3, 100])
def test_linear_is_linear(monkeypatch, works, activation, rows):
    if not works:
        monkeypatch.setattr(module, "onednn_works", lambda: False)
    x, layer = numbers(2, rows, 40), Linear(numbers(24, 40, step=0.11), numbers(24))
    wanted = functional.linear(x, *layer)
    wanted = {"none": wanted, "gelu": functional.gelu(wanted), "quick_gelu": wanted * torch.sigmoid(1.702 * wanted)}[
        activation
    ]
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, layer, activation), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(linear(x[:, ::2], layer), functional.linear(x[:, ::2], *layer), rtol=1e-5, atol=1e-5)


def test_half_weights_are_converted():
    x, layer = numbers(100, 40), Linear(numbers(24, 40).half(), numbers(24))
    with torch.inference_mode():
        wanted = functional.linear(x, layer.weight.float(), layer.bias)
        torch.testing.assert_close(linear(x, layer), wanted, rtol=1e-5, atol=1e-5)


def test_onednn_that_disagrees_is_not_used(monkeypatch):
    module.onednn_works.cache_clear()
    try:
        monkeypatch.setattr(torch, "allclose", lambda *_, **__: False)
        assert not module.onednn_works()
    finally:
        module.onednn_works.cache_clear()


def some_layer(width, shift):
    def part(outputs, inputs, at):
        return Linear(numbers(outputs, inputs, step=0.21 + at + shift) / inputs**0.5, numbers(outputs, step=0.3 + at))

    norms = [Norm(1 + 0.1 * numbers(width, step=0.5 + at), 0.1 * numbers(width, step=0.7 + at)) for at in (0, 1)]
    return Layer(
        norms[0], part(width, width, 1), part(width, width, 2), part(width, width, 3), part(width, width, 4),
        norms[1], part(4 * width, width, 5), part(width, 4 * width, 6),
    )  # fmt: skip


def plainly(x, layers, heads):
    """All tokens of all layers, with the softmax written out."""
    for layer in layers:
        y = functional.layer_norm(x, (x.shape[-1],), *layer.norm1, 1e-5)
        query, key, value = (
            functional.linear(y, *part).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in (layer.query, layer.key, layer.value)
        )
        weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        x = x + functional.linear((weights @ value).transpose(1, 2).flatten(2), *layer.out)
        y = functional.linear(functional.layer_norm(x, (x.shape[-1],), *layer.norm2, 1e-5), *layer.fc1)
        x = x + functional.linear(functional.gelu(y), *layer.fc2)
    return x[:, 0]


def test_the_last_layer_computes_one_token_only():
    layers, x, done = [some_layer(32, shift) for shift in (0.0, 0.01, 0.02)], numbers(3, 41, 32), []
    with torch.inference_mode():
        found = encode(x, layers, heads=4, eps=1e-5, activation="gelu", done=done.append)
        torch.testing.assert_close(found, plainly(x, layers, 4), rtol=1e-4, atol=1e-5)
    assert done == layers
    assert found.shape == (3, 32)


def test_norm():
    x, layer = numbers(5, 8), Norm(numbers(8, step=0.2), numbers(8, step=0.9))
    torch.testing.assert_close(norm(x, layer, 1e-6), functional.layer_norm(x, (8,), layer.weight, layer.bias, 1e-6))
