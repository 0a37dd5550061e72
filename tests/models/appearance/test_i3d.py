"""Clips of 16 frames, and TorchScript files in a child process."""

import hashlib
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from macebench.errors import UserError, WeightsMissingError
from macebench.models.appearance import i3d, paired

N_FEATURES = 5


class Small(torch.nn.Module):
    """A stand-in with I3D's way of being called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, N_FEATURES)

    def forward(self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False):
        x = x.float()
        if rescale:
            x = x / 127.5 - 1.0
        if resize:
            size = [x.shape[2], 8, 8]
            x = torch.nn.functional.interpolate(x, size=size, mode="trilinear", align_corners=False)
        y = self.linear(x.mean(dim=[3, 4]).transpose(1, 2)).square().mean(dim=1)
        return y if return_features else torch.softmax(y, dim=1)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """A small TorchScript file, its SHA-256 and the network in it."""
    torch.manual_seed(0)
    network = Small().eval()
    path = tmp_path_factory.mktemp("script") / "small.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save(str(path))
    return path, hashlib.sha256(path.read_bytes()).hexdigest(), network


def video(count, height=20, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


class Stub:
    """Mean colour of a clip's first and last frame; remembers what it was given."""

    n_features = 6

    def __init__(self):
        self.shapes = []

    def __call__(self, folder, clips, shape):
        assert list(folder.iterdir()) == []
        self.shapes.append(shape)
        data = np.fromfile(clips, np.uint8).reshape(shape)
        return np.concatenate([data[:, 0].mean(axis=(1, 2)), data[:, -1].mean(axis=(1, 2))], axis=1)


def run(statistic, frames, batch):
    for start in range(0, len(frames), batch):
        buffer = frames[start : start + batch].copy()
        statistic.update(buffer, np.arange(len(buffer)) / 25)
        buffer[:] = 0  # the caller may use the memory again
    return statistic.result()


@pytest.mark.parametrize("count", [0, 1, 15, 16, 31, 32, 53])
def test_clips_are_consecutive_and_do_not_overlap(count):
    frames = video(count)
    whole = count // 16
    expected = [np.r_[frames[16 * k].mean((0, 1)), frames[16 * k + 15].mean((0, 1))] for k in range(whole)]
    for batch in (1, 7, 16, 64):
        stub = Stub()
        values = run(i3d.ClipFeatures(stub), frames, batch)
        assert values.shape == (whole, 6)
        np.testing.assert_allclose(values, np.reshape(expected, (whole, 6)))
        assert stub.shapes == ([(whole, 16, 20, 24, 3)] if whole else [])


def test_long_videos_are_handed_over_in_parts():
    frames = video(16 * 7)
    stub = Stub()
    values = run(i3d.ClipFeatures(stub, clips_bytes=3 * 16 * 20 * 24 * 3), frames, 10)
    assert [shape[0] for shape in stub.shapes] == [3, 3, 1]
    np.testing.assert_array_equal(values, run(i3d.ClipFeatures(Stub()), frames, 10))
    one_by_one = Stub()
    run(i3d.ClipFeatures(one_by_one, clips_bytes=1), frames, 10)
    assert [shape[0] for shape in one_by_one.shapes] == [1] * 7


def test_malformed_frames():
    statistic = i3d.ClipFeatures(Stub())
    for bad in (video(1)[0], video(1).astype(np.float32), video(1)[..., :1]):
        with pytest.raises(ValueError, match="expected"):
            statistic.update(bad, np.zeros(1))
    statistic.update(video(1), np.zeros(1))
    with pytest.raises(ValueError, match="after frames of"):
        statistic.update(video(1, 21), np.zeros(1))


def test_temporary_files_go_when_an_extractor_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Broken(Stub):
        def __call__(self, folder, clips, shape):
            assert clips.is_file()
            raise RuntimeError("broken")

    statistic = i3d.ClipFeatures(Broken())
    statistic.update(video(16), np.zeros(16))
    with pytest.raises(RuntimeError, match="broken"):
        statistic.result()
    assert list(tmp_path.iterdir()) == []


def test_a_torchscript_file_runs_in_a_child(script, monkeypatch):
    monkeypatch.setenv("MACEBENCH_DEVICE", "cpu")
    path, digest, network = script
    frames = video(40)
    extractor = i3d.TorchScriptI3D(path, digest, n_features=N_FEATURES, batch=1)
    values = run(i3d.ClipFeatures(extractor), frames, 9)
    clips = torch.from_numpy(frames[:32].reshape(2, 16, 20, 24, 3)).permute(0, 4, 1, 2, 3)
    with torch.inference_mode():
        wanted = network(clips, rescale=True, resize=True, return_features=True).numpy()
    np.testing.assert_allclose(values, wanted, rtol=1e-5)
    assert values.dtype == np.float64


def test_a_changed_file_is_not_run(script, tmp_path, monkeypatch):
    monkeypatch.setenv("MACEBENCH_DEVICE", "cpu")
    path, digest, _ = script
    changed = tmp_path / "changed.pt"
    changed.write_bytes(path.read_bytes() + b"x")
    statistic = i3d.ClipFeatures(i3d.TorchScriptI3D(changed, digest, n_features=N_FEATURES))
    statistic.update(video(16), np.zeros(16))
    with pytest.raises(UserError, match="SHA-256"):
        statistic.result()


def test_another_number_of_features_is_refused(script, monkeypatch):
    monkeypatch.setenv("MACEBENCH_DEVICE", "cpu")
    path, digest, _ = script
    statistic = i3d.ClipFeatures(i3d.TorchScriptI3D(path, digest))
    statistic.update(video(16), np.zeros(16))
    with pytest.raises(UserError, match="expected 400"):
        statistic.result()


def test_the_worker_imports_nothing_of_macebench():
    source = Path(i3d.__file__).with_name("i3d_worker.py").read_text("utf-8")
    assert "import macebench" not in source
    assert "from macebench" not in source


def test_the_published_file_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("MACEBENCH_DEVICE", "cpu")
    assert paired.I3DClips.missing_weights() == ["i3d-torchscript"]
    assert set(paired.I3DClips.ingredients()["weights"]) == {"i3d-torchscript"}
    statistic = paired.I3DClips()
    assert statistic.result().shape == (0, 400)
    statistic = paired.I3DClips()
    statistic.update(video(16), np.zeros(16))
    with pytest.raises(WeightsMissingError, match="i3d-torchscript"):
        statistic.result()


def test_statistics_are_known_without_torch():
    code = (
        "import sys; from macebench import registry\n"
        "for name in ('i3d_16', 'pair_lpips_alex', 'pair_ssim'): registry.get('statistics', name)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
