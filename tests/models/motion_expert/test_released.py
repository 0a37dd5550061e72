"""The authors' file: read in full, refused when it wants to run anything, exact about its keys."""

import builtins
import collections
import os
import pickle
import runpy
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from macebench.errors import UserError
from macebench.models.motion_expert import released
from macebench.models.motion_expert.config import PRESETS
from macebench.models.motion_expert.network import MotionExpertNetwork
from macebench.models.motion_expert.released import load_released

parity = runpy.run_path(str(Path(__file__).parents[1] / "layers" / "parity.py"))
SMALL = PRESETS["released"].revised(latent_dim=16, ff_dim=32, n_dance_layers=1, n_music_layers=1, n_heads=2, d_state=2)


@pytest.fixture
def authors(monkeypatch):
    """Their modules, with classes as theirs are named, while a file is written."""

    def classes(normalizer="dataset.preprocess", scaler="dataset.scaler"):
        made = []
        for module, name in ((normalizer, "Normalizer"), (scaler, "MinMaxScaler")):
            kind = type(name, (), {"__module__": module})
            parts = module.split(".")
            for depth in range(1, len(parts) + 1):
                monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), types.ModuleType(module))
            setattr(sys.modules[module], name, kind)
            made.append(kind)
        return made

    return classes


def a_normalizer(classes):
    normalizer, scaler = (kind() for kind in classes)
    generator = torch.Generator().manual_seed(2)
    scale, low = torch.rand(151, generator=generator) + 0.5, torch.rand(151, generator=generator)
    scaler.__dict__.update(
        feature_range=(-1, 1), copy=True, clip=True, n_samples_seen_=7, scale_=scale, min_=low, data_min_=-low,
        data_max_=low, data_range_=2 * low,
    )  # fmt: skip
    normalizer.scaler = scaler
    return normalizer


def a_state(seed, prefix="", config=SMALL):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = MotionExpertNetwork(config).state_dict()
    return collections.OrderedDict((prefix + name, value) for name, value in state.items())


def content(classes, prefix=""):
    optimizer = {
        "state": {0: {"step": 3, "exp_avg": torch.ones(2)}},
        "param_groups": [{"betas": (0.02, 0.08), "lr": 4e-4}],
    }
    return {
        "ema_state_dict": a_state(1, prefix), "model_state_dict": a_state(2, prefix), "optimizer_state_dict": optimizer,
        "normalizer": a_normalizer(classes),
    }  # fmt: skip


def written(path, value, monkeypatch):
    """The file that `torch.save` makes of a value; the authors' modules are gone afterwards."""
    torch.save(value, path)
    for name in ("dataset", "dataset.preprocess", "dataset.scaler"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("weights", "seed"), [("model", 2), ("ema", 1)])
def test_the_whole_file(tmp_path, monkeypatch, authors, prefix, weights, seed):
    value = content(authors(), prefix)
    path = written(tmp_path / "train.pt", value, monkeypatch)
    found = load_released(path, weights=weights, config=SMALL)
    wanted = a_state(seed)
    assert all(torch.equal(value, wanted[name]) for name, value in found.network.state_dict().items())
    scaler = value["normalizer"].scaler
    np.testing.assert_array_equal(found.normalizer.scale, scaler.scale_.double())
    np.testing.assert_array_equal(found.normalizer.minimum, scaler.min_.double())
    assert not found.network.training
    assert found.config == SMALL
    assert found.card["weights"] == weights
    assert "dataset.preprocess" not in sys.modules


def test_model_weights_are_the_default(tmp_path, monkeypatch, authors):
    path = written(tmp_path / "train.pt", content(authors()), monkeypatch)
    found = load_released(path, config=SMALL).network.state_dict()
    assert torch.equal(found["final_layer.weight"], a_state(2)["final_layer.weight"])
    with pytest.raises(UserError, match="allowed are model and ema"):
        load_released(path, weights="best", config=SMALL)


def test_the_modules_may_lie_elsewhere(tmp_path, monkeypatch, authors):
    path = written(tmp_path / "train.pt", content(authors("motion.data.prep", "scalers")), monkeypatch)
    assert load_released(path, config=SMALL).normalizer.scale.shape == (151,)


def test_keys_of_the_released_list(tmp_path, monkeypatch, authors):
    keys = parity["golden_json"]("mace_state_dict")["keys"]
    value = content(authors())
    value["model_state_dict"] = {name: torch.full((1,), 0.25).expand(shape) for name, shape in keys.items()}
    found = load_released(written(tmp_path / "train.pt", value, monkeypatch))
    state = found.network.state_dict()
    assert set(state) == set(keys)
    assert all(bool((weight == 0.25).all()) for weight in state.values())
    assert found.config == PRESETS["released"]


def test_missing_and_unexpected_keys(tmp_path, monkeypatch, authors):
    value = content(authors())
    del value["model_state_dict"]["null_cond_embed"]
    path = written(tmp_path / "train.pt", value, monkeypatch)
    with pytest.raises(UserError, match=r"train\.pt misses weights: null_cond_embed"):
        load_released(path, config=SMALL)
    value = content(authors())
    value["model_state_dict"]["rotary.freqs"] = torch.zeros(2)
    path = written(tmp_path / "train.pt", value, monkeypatch)
    with pytest.raises(UserError, match=r"unexpected weights: rotary\.freqs"):
        load_released(path, config=SMALL)
    with pytest.raises(UserError, match=r"misses weights(.|\n)*more"):
        load_released(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.pop("normalizer"), "no normalizer"),
        (lambda value: value["normalizer"].__dict__.clear(), "no normalizer"),
        (lambda value: value["normalizer"].scaler.__dict__.update(scale_=[1.0]), "no normalizer"),
        (lambda value: value["normalizer"].scaler.__dict__.update(scale_=torch.ones(3)), r"scale \(3,\)"),
        (lambda value: value["normalizer"].scaler.__dict__.update(min_=torch.full((151,), torch.nan)), "finite"),
        (lambda value: value.pop("model_state_dict"), "no weights under model_state_dict; it holds ema_state_dict"),
        (lambda value: value.update(model_state_dict={"a": 3}), "no weights under model_state_dict"),
    ],
    ids=["no normalizer", "empty", "list", "shape", "nan", "no weights", "no tensors"],
)
def test_parts_that_are_missing(tmp_path, monkeypatch, authors, change, message):
    value = content(authors())
    change(value)
    with pytest.raises(UserError, match=message):
        load_released(written(tmp_path / "train.pt", value, monkeypatch), config=SMALL)


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(mark):
    """Calls that would leave the file `mark`, each with the name that must be reported."""
    code = f"open({str(mark)!r}, 'w').close()"
    command = [sys.executable, "-c", code]
    return {
        "os.system": (Call(os.system, f"touch {mark}"), "system"),
        "builtins.eval": (Call(builtins.eval, code), "eval"),
        "builtins.exec": (Call(builtins.exec, code), "exec"),
        "subprocess": (Call(subprocess.check_call, command), "check_call"),
        "open": (Call(open, str(mark), "w"), "open"),
        "torch.load": (Call(torch.load, str(mark)), "torch.serialization.load"),
        "getattr": (Call(getattr, "text", "upper"), "getattr"),
    }


@pytest.mark.parametrize("place", ["top", "normalizer", "attribute", "scaler", "state"])
@pytest.mark.parametrize(
    "attack", ["os.system", "builtins.eval", "builtins.exec", "subprocess", "open", "torch.load", "getattr"]
)
def test_hostile_files_are_refused(tmp_path, monkeypatch, authors, attack, place):
    call, name = hostile(tmp_path / "ran")[attack]
    value = content(authors())
    if place == "top":
        value = call
    elif place == "normalizer":
        value["normalizer"] = call
    elif place == "attribute":
        value["normalizer"].extra = [{"deep": (call,)}]
    elif place == "scaler":
        value["normalizer"].scaler.scale_ = call
    else:
        value["model_state_dict"]["final_layer.bias"] = call
    path = written(tmp_path / "train.pt", value, monkeypatch)
    with pytest.raises(UserError, match=f"refused: it wants to run .*{name}"):
        load_released(path, config=SMALL)
    assert not (tmp_path / "ran").exists()


def repacked(path, program):
    """A file of `torch.save` with another pickle in it."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, program if name.endswith("data.pkl") else data)
    return path


@pytest.mark.parametrize(
    "program",
    [
        pickle.dumps(Call(os.system, "true"), protocol=4),
        b"\x80\x02(S'true'\nios\nsystem\n.",
        b"\x80\x02cdataset.preprocess\nNormalizer\nX\x01\x00\x00\x00a\x85R.",
        b"\x80\x02cdataset.preprocess\nNormalizer\n)\x81X\x01\x00\x00\x00ab.",
        b"\x80\x02}.}",
        b"\x80\x02",
        b"",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02K\x01.",
    ],
    ids=["stack global", "inst", "called", "built", "trailing", "cut", "empty", "cyclic", "number"],
)
def test_other_programs(tmp_path, program):
    torch.save({}, tmp_path / "train.pt")
    with pytest.raises(UserError, match=r"train\.pt"):
        load_released(repacked(tmp_path / "train.pt", program), config=SMALL)


@pytest.mark.parametrize("data", [b"", b"nothing", pickle.dumps({"model_state_dict": {}}), b"PK\x03\x04" + b"\0" * 60])
def test_no_such_archive(tmp_path, data):
    (tmp_path / "train.pt").write_bytes(data)
    with pytest.raises(UserError, match="cannot be read"):
        load_released(tmp_path / "train.pt")


def test_a_file_cut_off(tmp_path, monkeypatch, authors):
    path = written(tmp_path / "train.pt", content(authors()), monkeypatch)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match="cannot be read"):
        load_released(path, config=SMALL)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_released(tmp_path / "train.pt")


def test_the_stand_in_is_not_left_admitted(tmp_path, monkeypatch, authors):
    before = set(torch.serialization.get_safe_globals())
    load_released(written(tmp_path / "train.pt", content(authors()), monkeypatch), config=SMALL)
    assert set(torch.serialization.get_safe_globals()) == before
    assert not [name for name in vars(released._Attributes) if not name.startswith("__")]
