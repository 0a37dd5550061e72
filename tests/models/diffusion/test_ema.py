import pytest
import torch
from torch import nn

from macebench.errors import UserError
from macebench.models.diffusion.ema import EMA


def _network(width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 4), nn.BatchNorm1d(4))


def _shake(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def test_average_follows_the_formula():
    network = _network()
    ema, wanted = EMA(network, 0.9), network[0].weight.detach().double().clone()
    for seed in range(20):
        _shake(network, seed)
        ema.update(network)
        wanted = 0.9 * wanted + 0.1 * network[0].weight.detach().double()
    torch.testing.assert_close(ema.shadow["0.weight"].double(), wanted, rtol=1e-5, atol=1e-6)


def test_warmup():
    ema = EMA(_network(), 0.9999, warmup=True)
    assert [ema.decay_of(k) for k in (0, 1, 90)] == [1 / 10, 2 / 11, 91 / 100]
    assert ema.decay_of(10**6) == 0.9999
    assert EMA(_network(), 0.9999).decay_of(0) == 0.9999


def test_warmup_first_update_takes_nine_tenths():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = EMA(network, warmup=True)
    nn.init.ones_(network.weight)
    ema.update(network)
    assert float(ema.shadow["weight"]) == pytest.approx(0.9)


def test_buffers_are_copied():
    network = _network()
    ema = EMA(network, 0.9)
    network[1].running_mean.fill_(7.0)
    network[1].num_batches_tracked.fill_(5)
    ema.update(network)
    assert ema.shadow["1.running_mean"].tolist() == [7.0] * 4
    assert int(ema.shadow["1.num_batches_tracked"]) == 5


def test_saved_and_restored_is_bit_equal():
    network = _network()
    ema = EMA(network, 0.99, warmup=True)
    _shake(network, 1)
    ema.update(network)
    saved = ema.state_dict()
    other = EMA(_network(), 0.99, warmup=True)
    other.load_state_dict(saved)
    for seed in (2, 3):
        _shake(network, seed)
        ema.update(network)
        other.update(network)
    assert other.updates == ema.updates == 3
    assert all(torch.equal(other.shadow[name], value) for name, value in ema.shadow.items())
    assert int(saved["ema.updates"]) == 1  # a copy: later updates leave it alone


def test_applied_gives_back_the_own_weights():
    network = _network()
    ema = EMA(network, 0.5)
    first = network[0].weight.detach().clone()
    _shake(network, 4)
    own = network[0].weight.detach().clone()

    def fail_inside() -> None:
        with ema.applied(network):
            assert torch.equal(network[0].weight, first)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert torch.equal(network[0].weight, own)


def test_copy_to():
    network, other = _network(), _network()
    _shake(other, 1)
    EMA(network).copy_to(other)
    assert torch.equal(network[0].weight, other[0].weight)


def test_errors():
    ema = EMA(_network())
    with pytest.raises(UserError, match="decay"):
        EMA(_network(), 1.0)
    with pytest.raises(UserError, match="another network"):
        ema.update(nn.Linear(3, 4))
    with pytest.raises(UserError, match="another network"):
        ema.copy_to(nn.Linear(3, 4))
    with pytest.raises(UserError, match="updates"):
        ema.load_state_dict({"0.weight": torch.zeros(4, 3)})
    with pytest.raises(UserError, match="shape"):
        EMA(_network(2)).load_state_dict(ema.state_dict())
