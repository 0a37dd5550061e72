"""Checkpoints: there and back, half precision, and files that are not what they should be."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from macebench.errors import UserError
from macebench.models.motion_expert import checkpoint
from macebench.models.motion_expert.codec import Normalizer
from macebench.models.motion_expert.config import PRESETS
from macebench.models.motion_expert.network import MotionExpertNetwork

TINY = PRESETS["tiny"]
CARD = {"data": "demo", "steps": 10, "seed": 3, "licence": "Apache-2.0"}


def a_network(config=TINY):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MotionExpertNetwork(config)


def a_normalizer():
    return Normalizer.fit(np.random.default_rng(0).normal(size=(30, 151)))


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path / "a.safetensors", a_network(), TINY, a_normalizer(), CARD)
    return tmp_path / "a.safetensors"


def edited(path, *, drop=(), add=None, meta=None):
    """The file with other tensors, or with other entries in its metadata (`meta` as a text replaces all of it)."""
    tensors = {name: value for name, value in load_file(path).items() if name not in drop}
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    about = json.loads(header["__metadata__"][checkpoint.FORMAT])
    text = meta if isinstance(meta, str) else json.dumps({**about, **(meta or {})})
    save_file({**tensors, **(add or {})}, path, metadata={checkpoint.FORMAT: text})
    return path


def test_there_and_back(saved):
    found = checkpoint.load(saved)
    wanted = a_network().state_dict()
    assert found.config == TINY
    assert found.card == CARD
    assert {name: value.dtype for name, value in found.network.state_dict().items()} == dict.fromkeys(
        wanted, torch.float32
    )
    assert all(torch.equal(value, wanted[name]) for name, value in found.network.state_dict().items())
    assert np.array_equal(found.normalizer.scale, a_normalizer().scale)
    assert np.array_equal(found.normalizer.minimum, a_normalizer().minimum)
    assert not found.network.training
    assert not any(value.requires_grad for value in found.network.parameters())


def test_the_same_values_give_the_same_bytes(saved, tmp_path):
    found = checkpoint.load(saved)
    checkpoint.save(tmp_path / "b.safetensors", found.network, found.config, found.normalizer, found.card)
    assert (tmp_path / "b.safetensors").read_bytes() == saved.read_bytes()


@torch.no_grad()
def test_half_precision(tmp_path):
    network = a_network().eval()
    checkpoint.save(tmp_path / "h.safetensors", network, TINY, a_normalizer(), CARD, half=True)
    found = checkpoint.load(tmp_path / "h.safetensors").network
    for name, value in found.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-3, atol=1e-6)
    generator = torch.Generator().manual_seed(4)
    x, cond = torch.randn(1, 20, 151, generator=generator), torch.randn(1, 20, 35, generator=generator)
    given = (x, cond, torch.tensor([1]), torch.tensor([500]), torch.tensor([0.75]))
    torch.testing.assert_close(found(*given), network(*given), rtol=0, atol=5e-3)


def test_the_small_preset_fits_in_twelve_megabytes(tmp_path):
    path = tmp_path / "small.safetensors"
    config = PRESETS["small"]
    checkpoint.save(path, a_network(config), config, a_normalizer(), CARD, half=True)
    assert path.stat().st_size <= 12_000_000


def test_loading_leaves_random_numbers_alone(saved):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    checkpoint.load(saved)
    assert torch.equal(torch.rand(3), wanted)


def test_missing_and_unexpected_weights_are_named(saved):
    edited(saved, drop=("network.final_layer.bias",))
    with pytest.raises(UserError, match=r"a\.safetensors misses weights: final_layer\.bias"):
        checkpoint.load(saved)
    edited(saved, add={"network.final_layer.bias": torch.zeros(151), "network.extra": torch.zeros(1)})
    with pytest.raises(UserError, match=r"unexpected weights: extra\."):
        checkpoint.load(saved)


def test_a_tensor_outside_the_network_is_unexpected(saved):
    edited(saved, add={"optimizer": torch.zeros(1)})
    with pytest.raises(UserError, match="unexpected weights: optimizer"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(150), r"another shape: final_layer\.bias \(150,\) for \(151,\)"),
        (torch.full((151,), torch.nan), "no numbers: final_layer.bias"),
        (torch.zeros(151, dtype=torch.int32), "no numbers: final_layer.bias"),
    ],
    ids=["shape", "nan", "integers"],
)
def test_weights_that_do_not_fit(saved, value, message):
    edited(saved, add={"network.final_layer.bias": value})
    with pytest.raises(UserError, match=message):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": ("normalizer.scale",)}, "no normalizer"),
        ({"add": {"normalizer.scale": torch.zeros(151)}}, "scale not 0"),
        ({"add": {"normalizer.scale": torch.ones(3), "normalizer.minimum": torch.ones(3)}}, "3 channels"),
        ({"meta": {"schema": 2}}, "schema 2, this version reads 1"),
        ({"meta": {"config": "{"}}, "config"),
        ({"meta": {"config": {"latent_dim": 1000000000000}}}, "latent_dim"),
        ({"meta": {"config": {"layers": 3}}}, "layers"),
        ({"meta": {"card": []}}, "no model card"),
        ({"meta": "{"}, "no JSON"),
        ({"meta": "[" * 100000}, "no JSON"),
        ({"meta": "[]"}, "schema none"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:30].replace("\n", " "),
)
def test_files_that_are_not_what_they_should_be(saved, change, message):
    edited(saved, **change)
    with pytest.raises(UserError, match=message) as caught:
        checkpoint.load(saved)
    assert "a.safetensors" in str(caught.value)


def test_a_config_far_larger_than_the_file_takes_no_memory(saved):
    huge = TINY.revised(latent_dim=8192, ff_dim=32768, n_dance_layers=128)
    edited(saved, meta={"config": huge.model_dump(mode="json")})
    with pytest.raises(UserError, match="misses weights"):
        checkpoint.load(saved)


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x08" + b"\0" * 30, b"PK\x03\x04" + b"\0" * 40], ids=len)
def test_damaged_files(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(tmp_path / "a.safetensors")


def test_a_file_cut_off(saved):
    saved.write_bytes(saved.read_bytes()[:-1000])
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(saved)


def test_a_safetensors_file_of_something_else(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="no checkpoint of a Motion Expert"):
        checkpoint.load(tmp_path / "a.safetensors")


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        checkpoint.load(tmp_path / "a.safetensors")


def test_what_is_not_saved(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="another config"):
        checkpoint.save(path, a_network(), PRESETS["small"], a_normalizer(), CARD)
    with pytest.raises(ValueError, match="3 channels"):
        checkpoint.save(path, a_network(), TINY, Normalizer(np.ones(3), np.ones(3)), CARD)
    network = a_network()
    with torch.no_grad():
        network.final_layer.weight[0, 0] = 1e6
    with pytest.raises(UserError, match=r"half precision: network\.final_layer\.weight"):
        checkpoint.save(path, network, TINY, a_normalizer(), CARD, half=True)
    assert list(tmp_path.iterdir()) == []
