"""LPIPS against golden values (real heads, filled backbones), an independent formula, and by its own properties."""

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from macebench.errors import Unscorable, UserError, WeightsCorruptError, WeightsMissingError
from macebench.models.appearance import lpips, paired
from macebench.protocol import load_protocol
from macebench.weights import find

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
GOLDEN, HEADS = SHARED / "golden" / "vbench", SHARED / "data" / "weights"
golden = pytest.mark.skipif(not GOLDEN.is_dir() or not HEADS.is_dir(), reason="shared golden values are not here")
FILLED_AS = {"alex": "lpips_alex", "vgg": "lpips_vgg16"}

_spec = importlib.util.spec_from_file_location("filler_of_lpips", Path(__file__).with_name("filler.py"))
filler = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(filler)


def slice_of(kind, layer):
    """The slice of the lpips package that a layer of the backbone is in, from 1."""
    return next(place for place, tap in enumerate(lpips.KINDS[kind].taps, 1) if layer <= tap)


def backbone(kind):
    """A checkpoint as torchvision names it, filled as the lpips package names it."""
    tensors = {}
    for name, tensor in lpips.Lpips(lpips.KINDS[kind]).features.state_dict().items():
        key = f"net.slice{slice_of(kind, int(name.split('.')[0]))}.{name}"
        tensors[f"features.{name}"] = torch.from_numpy(filler.tensor(FILLED_AS[kind], key, tuple(tensor.shape)))
    return tensors


def some_head(kind):
    return {
        f"lin{place}.model.1.weight": torch.linspace(0, 0.5, count).view(1, count, 1, 1)
        for place, count in enumerate(lpips.KINDS[kind].channels)
    }


@pytest.fixture(scope="module")
def networks():
    found = {}
    for kind in lpips.KINDS:
        found[kind] = lpips.Lpips(lpips.KINDS[kind])
        found[kind].load(backbone(kind), some_head(kind))
    return found


def frames(count=3, height=40, width=48, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return first, np.clip(first + rng.integers(-40, 41, first.shape), 0, 255).astype(np.uint8)


@golden
@pytest.mark.parametrize("kind", ["alex", pytest.param("vgg", marks=pytest.mark.slow)])
def test_golden(kind):
    network = lpips.Lpips(lpips.KINDS[kind])
    network.load(backbone(kind), lpips.read_checkpoint(HEADS / f"lpips_v01_{kind}.pth"))
    archive = np.load(GOLDEN / "clips.npz", allow_pickle=False)
    pairs = json.loads((GOLDEN / "image_scores.json").read_text())["pairs"]
    assert len(pairs) == 8
    clips = {name: archive[name] for name in {pair["clip"] for pair in pairs}}
    for pair in pairs:
        clip = clips[pair["clip"]]
        first, second = clip[pair["i"]][None], clip[pair["j"]][None]
        for column, input_range in ((f"lpips_{kind}", "-1..1"), (f"lpips_{kind}_fed_0_1", "0..1")):
            value = lpips.distances(network, first, second, input_range=input_range)[0]
            assert value == pytest.approx(pair[column], abs=1e-6)


@golden
def test_filled_backbone_is_the_one_of_the_probes():
    probes = json.loads((GOLDEN / "probes.json").read_text())
    for kind in lpips.KINDS:
        total = sum(float(tensor.double().sum()) for tensor in backbone(kind).values())
        assert total == pytest.approx(probes[FILLED_AS[kind]]["sum_float64"], abs=1e-6)


def by_hand(kind, first, second):
    """LPIPS of one pair, step by step in float64 and with nothing of the module but its table of layers."""
    tensors, head = backbone(kind), some_head(kind)
    mean, deviation = (
        torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
    )
    total, outputs = 0.0, []
    for picture in (first, second):
        x = (torch.from_numpy(picture).permute(2, 0, 1)[None].double() / 255 * 2 - 1 - mean) / deviation
        index, taps = 0, []
        for layer in lpips.KINDS[kind].layers:
            if len(layer) == 2:
                x, index = torch.nn.functional.max_pool2d(x, *layer), index + 1
                continue
            weight, bias = (tensors[f"features.{index}.{part}"].double() for part in ("weight", "bias"))
            x = torch.relu(torch.nn.functional.conv2d(x, weight, bias, stride=layer[2], padding=layer[3]))
            index += 2
            if index - 1 in lpips.KINDS[kind].taps:
                taps.append((x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))[0])
        outputs.append(taps)
    for place, (one, two) in enumerate(zip(*outputs, strict=True)):
        weights = head[f"lin{place}.model.1.weight"].double().view(-1, 1, 1)
        total += float(((one - two) ** 2 * weights).sum(0).mean())
    return total


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_equals_the_formula(networks, kind):
    first, second = frames(2)
    values = lpips.distances(networks[kind], first, second)
    for value, one, two in zip(values, first, second, strict=True):
        assert value == pytest.approx(by_hand(kind, one, two), abs=1e-5, rel=1e-5)
        assert value > 0.01


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_properties(networks, kind):
    first, second = frames()
    values = lpips.distances(networks[kind], first, second)
    np.testing.assert_allclose(lpips.distances(networks[kind], second, first), values, rtol=1e-5)
    for batch in (1, 2, 3):
        np.testing.assert_allclose(lpips.distances(networks[kind], first, second, batch=batch), values, rtol=1e-5)
    mixed = second.copy()
    mixed[1] = first[1]
    expected = np.where([True, False, True], values, 0)
    np.testing.assert_allclose(lpips.distances(networks[kind], first, mixed), expected, rtol=1e-5)
    assert lpips.distances(networks[kind], first, mixed)[1] == 0
    assert lpips.distances(networks[kind], first[:0], second[:0]).shape == (0,)
    less = lpips.distances(networks[kind], first, second, input_range="0..1")
    assert (less < values).all()


@pytest.mark.parametrize(("kind", "side"), [("alex", 31), ("vgg", 16)])
def test_smallest_frames(networks, kind, side):
    first, second = frames(1, side, side)
    assert np.isfinite(lpips.distances(networks[kind], first, second)).all()
    with pytest.raises(Unscorable, match=f"smaller than {side} pixels"):
        lpips.distances(networks[kind], first[:, 1:], second[:, 1:])


def test_malformed_frames(networks):
    first, second = frames(1)
    with pytest.raises(ValueError, match="shape"):
        lpips.distances(networks["alex"], first, second[:, 1:])
    with pytest.raises(ValueError, match="shape"):
        lpips.distances(networks["alex"], first.astype(np.float32), second.astype(np.float32))
    with pytest.raises(ValueError, match="input range"):
        lpips.distances(networks["alex"], first, second, input_range="0..255")


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_loading_takes_the_convolutions_and_refuses_what_does_not_fit(kind):
    network = lpips.Lpips(lpips.KINDS[kind])
    tensors = backbone(kind) | {"classifier.6.weight": torch.zeros(2, 2)}
    network.load(tensors, some_head(kind))
    del tensors["features.0.bias"]
    with pytest.raises(UserError, match=r"features\.0\.bias is missing"):
        network.load(tensors, some_head(kind))
    with pytest.raises(UserError, match=r"lin0\.model\.1\.weight"):
        network.load(backbone(kind), some_head(kind) | {"lin0.model.1.weight": torch.zeros(1, 2, 1, 1)})


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_both_formats(tmp_path, zipped):
    path = tmp_path / "a.pth"
    tensors = {"features.0.bias": torch.arange(3.0)}
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(path) == zipped
    assert lpips.read_checkpoint(path)["features.0.bias"].tolist() == [0, 1, 2]


class Stranger:
    """Something that a checkpoint must not hold."""


def test_checkpoints_that_are_none(tmp_path):
    (tmp_path / "noise.pth").write_bytes(b"\x00not a checkpoint" * 9)
    torch.save(Stranger(), tmp_path / "object.pth")
    torch.save([1.0], tmp_path / "list.pth")
    for name in ("noise", "object", "list", "absent"):
        with pytest.raises(UserError, match=f"{name}.pth"):
            lpips.read_checkpoint(tmp_path / f"{name}.pth")


def test_published_files_are_found_by_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path))
    assert paired.PairLpipsAlex.missing_weights() == ["lpips-alexnet", "lpips-head-alex"]
    assert paired.PairLpipsVgg.missing_weights() == ["lpips-vgg16", "lpips-head-vgg"]
    with pytest.raises(WeightsMissingError, match="lpips-alexnet"):
        lpips.load_lpips("alex", "cpu", torch.float32)
    path = find("lpips-alexnet").path
    path.parent.mkdir(parents=True)
    torch.save(backbone("alex"), path)
    assert paired.PairLpipsAlex.missing_weights() == ["lpips-head-alex"]
    with pytest.raises(WeightsCorruptError):
        lpips.load_lpips("alex", "cpu", torch.float32)


def test_the_protocol_pins_the_weights_of_the_table():
    pinned = load_protocol("animation/1").need_pixels().weights
    assert len(pinned) == 5
    for name, digest in pinned.items():
        assert find(name).sha256 == digest
        assert "animation" in find(name).groups


def test_pair_statistic(networks, monkeypatch):
    monkeypatch.setattr(lpips, "load_lpips", lambda kind, device, dtype: networks[kind])
    monkeypatch.setenv("MACEBENCH_DEVICE", "cpu")
    rules = load_protocol("animation/1").need_pixels()
    first, second = frames(5)
    whole = lpips.distances(networks["alex"], first, second)
    for size in (1, 2, 5):
        statistic = paired.PairLpipsAlex(rules)
        for start in range(0, 5, size):
            statistic.update(first[start : start + size], second[start : start + size])
        np.testing.assert_allclose(statistic.result(), whole, rtol=1e-5)
    assert paired.PairLpipsVgg(rules).result().shape == (0,)
    wanted = {"lpips-alexnet", "lpips-head-alex"}
    assert set(paired.PairLpipsAlex.ingredients(rules)["weights"]) == wanted
    other = rules.model_copy(update={"lpips_input": "0..1"})
    assert paired.PairLpipsAlex.ingredients(rules) != paired.PairLpipsAlex.ingredients(other)
