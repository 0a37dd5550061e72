"""Frame statistics: batches, repeated frames, memory, weights and settings."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from macebench.errors import UserError, WeightsCorruptError, WeightsMissingError
from macebench.models.appearance import _settings, statistics
from macebench.registry import get

torch = pytest.importorskip("torch")

from macebench.models.appearance._common import Batches, placed, run_frames  # noqa: E402

NAMES = {
    "clip_l14": statistics.ClipL14, "clip_b32": statistics.ClipB32, "dino_b16": statistics.DinoB16,
    "musiq": statistics.MusiqSpaq,
}  # fmt: skip


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path))
    for name in (_settings.ENV_DEVICE, _settings.ENV_DTYPE, _settings.ENV_BATCH):
        monkeypatch.delenv(name, raising=False)
    statistics.network.cache_clear()
    yield tmp_path
    statistics.network.cache_clear()


def picture(value, size=(4, 6)):
    return np.full((*size, 3), value, dtype=np.uint8)


class Means:
    """A network: the mean of each frame; keeps the sizes of its batches."""

    def __init__(self, limit=None):
        self.sizes, self.limit = [], limit

    def __call__(self, frames):
        if self.limit is not None and len(frames) > self.limit:
            raise torch.cuda.OutOfMemoryError("too much")
        self.sizes.append(len(frames))
        return frames.reshape(len(frames), -1).mean(axis=1)


@pytest.mark.parametrize("cuts", [[10], [1] * 10, [3, 0, 4, 3]])
def test_frames_are_batched_across_calls(cuts):
    frames = np.stack([picture(10 * index) for index in range(10)])
    network, start = Means(), 0
    batches = Batches(network, 4)
    for count in cuts:
        batches.add(frames[start : start + count])
        start += count
    assert batches.finish().tolist() == [10 * index for index in range(10)]
    assert network.sizes == [4, 4, 2]


def test_repeated_frames_are_not_run_again():
    network = Means()
    batches = Batches(network, 2)
    values = [5, 5, 5, 7, 5, 5, 9, 9]
    batches.add(np.stack([picture(value) for value in values[:3]]))
    batches.add(np.stack([picture(value) for value in values[3:]]))
    assert batches.finish().tolist() == values
    assert batches.different == sum(network.sizes) == 3


def test_frames_are_copied():
    batches, memory = Batches(Means(), 8), np.stack([picture(1), picture(2)])
    batches.add(memory)
    memory[:] = 77
    batches.add(memory[:1])
    assert batches.finish().tolist() == [1, 2, 77]


def test_no_more_than_a_batch_waits():
    batches = Batches(Means(), 4)
    for index in range(50):
        batches.add(np.stack([picture(index), picture(index + 100)]))
        assert len(batches._waiting) < 4


def test_batch_is_halved_when_a_gpu_is_full():
    network = Means(limit=3)
    batches = Batches(network, 8)
    batches.add(np.stack([picture(index) for index in range(9)]))
    assert batches.finish().tolist() == list(range(9))
    assert batches.batch == 2
    full = Batches(Means(limit=0), 4)
    full.add(picture(0)[None])
    with pytest.raises(torch.cuda.OutOfMemoryError):
        full.finish()


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 4, 6), np.uint8), np.zeros((2, 4, 6, 4), np.uint8), np.zeros((1, 4, 6, 3), np.float32),
        np.zeros((1, 0, 6, 3), np.uint8),
    ],
)  # fmt: skip
def test_other_arrays_are_refused(frames):
    with pytest.raises(ValueError, match="expected"):
        Batches(Means(), 4).add(frames)


def test_another_size_is_refused():
    batches = Batches(Means(), 4)
    batches.add(picture(0)[None])
    with pytest.raises(ValueError, match="after one of"):
        batches.add(picture(0, (5, 6))[None])


@pytest.mark.parametrize("name", NAMES)
def test_without_weights(weights, name):
    kind = NAMES[name]
    assert get("statistics", name) is kind
    assert kind.missing_weights() == [statistics.FILES[name][0]]
    statistic = kind()
    assert statistic.result().tolist() == []
    with pytest.raises(WeightsMissingError, match="is not on this machine") as caught:
        statistic.update(picture(0)[None], np.zeros(1))
    assert caught.value.hint == f"run `macebench weights pull {statistics.FILES[name][0]}`"


def test_hashes_that_are_known_need_no_file(weights):
    assert statistics.ClipL14.ingredients() == {
        "weights_sha256": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836", "dtype": "float32",
    }  # fmt: skip
    with pytest.raises(WeightsMissingError):
        statistics.MusiqSpaq.ingredients()


def test_the_hubs_file_serves_too(weights):
    path = weights / "dino" / "dino-vitb16" / "pytorch_model.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert statistics.DinoB16.missing_weights() == []
    assert statistics.DinoB16.weights() == "dino-vitb16-hub"
    with pytest.raises(WeightsCorruptError, match="not a file of torch") as caught:
        statistics.DinoB16().update(picture(0)[None], np.zeros(1))
    assert caught.value.hint == f"delete {path}, and run `macebench weights pull dino-vitb16-hub`"


@pytest.mark.parametrize("content", ["another network", "cut short"])
def test_what_no_network_can_be_made_of_is_not_trusted(weights, filler, content):
    path = weights / "dino" / "dino-vitb16" / "pytorch_model.bin"
    path.parent.mkdir(parents=True)
    torch.save({"a": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    if content == "cut short":
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WeightsCorruptError, match=f"weights in {path} cannot be used") as caught:
        statistics.DinoB16().update(picture(0)[None], np.zeros(1))
    assert "macebench weights pull dino-vitb16-hub" in caught.value.hint
    assert list(path.parent.iterdir()) == [path]


def test_another_file_under_the_name_is_refused(weights):
    path = weights / "clip" / "ViT-B-32.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    with pytest.raises(WeightsCorruptError, match="has SHA-256"):
        statistics.ClipB32().update(picture(0)[None], np.zeros(1))


def test_a_clip_from_file_to_scores(weights, filler, monkeypatch):
    tensors = filler.tensors("musiq", filler.musiq_shapes())
    path = weights / "musiq" / "musiq_spaq_ckpt-358bb6af.pth"
    path.parent.mkdir(parents=True)
    torch.save({name: torch.from_numpy(values) for name, values in tensors.items()}, path)
    with pytest.raises(WeightsCorruptError, match=r"its name says 358bb6af"):
        statistics.MusiqSpaq.ingredients()
    monkeypatch.setattr("macebench.weights.sha256_prefix", lambda name: "")
    assert statistics.MusiqSpaq.missing_weights() == []
    frames = filler.noise(3, 3, 40, 61, 3).astype(np.uint8)
    frames = frames[[0, 0, 1, 2, 2]]
    results = []
    for batch, cut in ((1, 1), (8, 3)):
        monkeypatch.setenv(_settings.ENV_BATCH, str(batch))
        statistic = statistics.MusiqSpaq()
        statistic.update(frames[:cut], np.arange(cut) / 16)
        statistic.update(frames[cut:], np.arange(cut, 5) / 16)
        results.append(statistic.result())
    assert results[0].shape == (5,)
    assert results[0].dtype == np.float64
    assert results[0][0] == results[0][1] != results[0][2]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)
    assert path.with_name(f"{path.name}.lock.json").is_file(), "the file is trusted once a network was made of it"


def test_settings(weights, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _settings.settings() == _settings.Settings("cpu", "float32", _settings.BATCH_CPU)
    monkeypatch.setenv(_settings.ENV_BATCH, "3")
    monkeypatch.setenv(_settings.ENV_DEVICE, "cpu")
    assert _settings.settings() == _settings.Settings("cpu", "float32", 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _settings.settings().device == "cpu"
    monkeypatch.setenv(_settings.ENV_DEVICE, "auto")
    monkeypatch.setenv(_settings.ENV_DTYPE, "bfloat16")
    monkeypatch.setenv(_settings.ENV_BATCH, "auto")
    assert _settings.settings() == _settings.Settings("cuda", "bfloat16", _settings.BATCH_CUDA)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_needs_a_gpu(weights, monkeypatch, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(_settings.ENV_DTYPE, dtype)
    with pytest.raises(UserError, match=f"dtype {dtype} needs a GPU") as caught:
        _settings.settings()
    assert "--dtype float32" in caught.value.hint


def test_options_hold_inside_only(weights, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(_settings.ENV_BATCH, "5")
    with _settings.overridden("cpu", None, "2"):
        assert _settings.settings() == _settings.Settings("cpu", "float32", 2)
    assert _settings.settings().batch == 5
    assert _settings.ENV_DEVICE not in os.environ
    with pytest.raises(UserError, match="no CUDA device"), _settings.overridden("cuda"):
        pass
    assert _settings.ENV_DEVICE not in os.environ
    monkeypatch.setenv(_settings.ENV_DEVICE, "tpu")  # not looked at without an option
    with _settings.overridden():
        assert os.environ[_settings.ENV_DEVICE] == "tpu"


def test_the_batch_that_fitted_serves_the_next_clip(weights, monkeypatch):
    networks = []

    def network(name, row, settings):
        networks.append(Means(limit=3))
        return networks[-1]

    path = weights / "musiq" / "musiq_spaq_ckpt-358bb6af.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    monkeypatch.setattr(statistics, "network", network)
    monkeypatch.setattr("macebench.models.appearance._common.run_frames", lambda net, frames, device: net(frames))
    monkeypatch.setattr(statistics, "_fitting", {})
    network.cache_clear = lambda: None
    frames = np.stack([picture(index) for index in range(12)])
    for _ in range(2):
        statistic = statistics.MusiqSpaq()
        statistic.update(frames, np.arange(12) / 16)
        assert statistic.result().tolist() == list(range(12))
    assert statistics._fitting == {("musiq", 8): 2}
    assert networks[1].sizes == [2] * 6


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [("MACEBENCH_DEVICE", "tpu", "device 'tpu'"), ("MACEBENCH_DEVICE", "cuda", "no CUDA device"),
     ("MACEBENCH_DTYPE", "int8", "dtype 'int8'"), ("MACEBENCH_BATCH", "0", "batch size '0'"),
     ("MACEBENCH_BATCH", "x", "batch size")],
)  # fmt: skip
def test_settings_that_are_not_allowed(weights, monkeypatch, name, value, match):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=match):
        _settings.settings()


def test_matrices_stay_in_the_file_on_a_cpu():
    tensors = {"matrix": torch.ones(2, 2).half(), "bias": torch.ones(2).half(), "double": torch.ones(2, 2).double()}
    found = placed(tensors, "cpu", torch.float32)
    assert found["matrix"] is tensors["matrix"]
    assert found["bias"].dtype == found["double"].dtype == torch.float32


def test_frames_become_floats_late():
    seen = []

    def network(frames):
        seen.append((frames.dtype, tuple(frames.shape)))
        return frames.float().mean(dim=(1, 2, 3))

    assert run_frames(network, np.stack([picture(3), picture(4)]), "cpu").tolist() == [3, 4]
    assert seen == [(torch.uint8, (2, 3, 4, 6))]


def test_importing_the_statistics_loads_no_torch():
    code = "import sys, macebench.models.appearance.statistics; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
