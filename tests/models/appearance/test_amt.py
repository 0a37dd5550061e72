import hashlib
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from macebench import weights
from macebench.errors import Unscorable, UserError, WeightsCorruptError, WeightsMissingError
from macebench.metrics._interpolation import smoothness
from macebench.models.appearance import _amt_correlation, _amt_layers, _amt_network, amt
from macebench.registry import get
from macebench.types import FrameStatistic

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
VBENCH = SHARED / "golden" / "vbench"
needs_shared = pytest.mark.skipif(not VBENCH.is_dir(), reason="needs ../shared/golden/vbench")
GOLDEN = json.loads((VBENCH / "vbench_scores.json").read_text()) if VBENCH.is_dir() else {}
LARGE = {"real_carphone", "stall_256", "big_288x544", "real_pose1", "real_bunny"}
SCORED = sorted(GOLDEN.get("arrays", {}).get("motion_smoothness", {}).get("per_clip", {"absent": 0}))
REFUSED = sorted(
    GOLDEN.get("arrays", {}).get("motion_smoothness", {}).get("undefined_clips_vbench_returned_garbage", {"absent": 0})
)

# What the published network's own code gave for closed-form weights and pictures.
WEIGHTS_SHA256 = "ef1e7d24b4a03155fd9bc59d852aff892b3a89e3c2a7abfbf1afbc91fff1da85"
PROBE_FIRST = [
    0.5452229380607605, 0.45304015278816223, 0.27758777141571045, 0.10311071574687958,
    0.14830857515335083, 0.19246700406074524, 0.196260467171669, 0.08748047053813934,
]  # fmt: skip
PROBE_L2, PROBE_SUM = 135.8932450402323, 30554.6737550674


def _load_filler():
    spec = importlib.util.spec_from_file_location("appearance_filler", Path(__file__).with_name("filler.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


filler = _load_filler()


filled = filler.amt_tensor


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tensors():
    return {name: torch.from_numpy(filled(name, shape)) for name, shape in _amt_network.layout().items()}


@pytest.fixture(scope="module")
def network(tensors):
    return amt.Interpolator(tensors)


def probe_noise(seed, shape):
    """Whole numbers in 0 to 255: splitmix64 of the index, the stream chosen by a multiple of the seed."""
    z = np.arange(math.prod(shape), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64((seed * 0xD1B54A32D192ED03) & filler.WORD)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    z ^= z >> np.uint64(31)
    return np.floor((z >> np.uint64(40)).astype(np.float64) / 2**24 * 256).reshape(shape)


def probe_pictures():
    ramp, shape = np.linspace(0, 0.8, 160), (1, 3, 128, 160)
    first = probe_noise(8, shape) / 255 * 0.2 + ramp
    last = probe_noise(9, shape) / 255 * 0.2 + np.roll(ramp, 3)
    return [torch.from_numpy(picture.astype(np.float32)) for picture in (first, last)]


def clip(n=7, height=128, width=128, seed=0):
    """A drifting texture with noise."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (height, width, 3))
    frames = [np.roll(base, 2 * i, axis=1) * 0.9 + rng.random(base.shape) * 25 for i in range(n)]
    return np.array(frames).astype(np.uint8)


class Blend:
    """A stand-in for the network that counts what it is given."""

    def __init__(self, at_once=1):
        self.at_once, self.calls = at_once, []

    def pairs_at_once(self, height, width):
        return self.at_once

    def __call__(self, first, last):
        self.calls.append(len(first))
        return ((first.astype(int) + last) // 2).astype(np.uint8)


def errors(frames, network, cuts=()):
    statistic = amt.AmtS(network)
    for part in np.split(frames, list(cuts)):
        statistic.update(part, np.arange(len(part), dtype=float))
    return statistic.result()


def test_a_restart_parts_triplets():
    frames, network = clip(6), Blend()
    statistic = amt.AmtS(network)
    for start in (0, 3):
        statistic.restart()
        statistic.update(frames[start : start + 3], np.arange(3.0))
    wanted = [*errors(frames[:3], Blend()), *errors(frames[3:], Blend())]
    assert statistic.result().tolist() == wanted
    assert network.calls == [1, 1]
    statistic.restart()
    with pytest.raises(ValueError, match="different size"):
        statistic.update(np.zeros((1, 64, 64, 3), np.uint8), np.zeros(1))


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_triplets_that_come_again_are_not_run_again(at_once):
    frames, network = clip(4), Blend(at_once)
    looped = frames[[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0]]
    wanted = errors(looped[:5], Blend()).tolist() * 3
    assert errors(looped, network, cuts=(2, 9)).tolist() == wanted
    assert sum(network.calls) == 2


def test_names_and_shapes_are_those_of_the_published_file():
    digest = hashlib.sha256()
    layout = _amt_network.layout()
    for name in sorted(layout):
        digest.update(name.encode())
        digest.update(filled(name, layout[name]).astype("<f4").tobytes())
    assert sum(math.prod(shape) for shape in layout.values()) == 2_990_543
    assert digest.hexdigest() == WEIGHTS_SHA256


def test_equals_the_published_network_on_a_closed_form(tensors):
    with torch.inference_mode():
        middle = _amt_network.interpolate(tensors, *probe_pictures()).double()
    np.testing.assert_allclose(middle.flatten()[:8].numpy(), PROBE_FIRST, atol=2e-6)
    assert float(middle.norm()) == pytest.approx(PROBE_L2, abs=1e-4)
    assert float(middle.sum()) == pytest.approx(PROBE_SUM, abs=1e-2)


@needs_shared
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in SCORED]
)
def test_vbench_on_arrays(name, network):
    frames = np.load(VBENCH / "clips.npz")[name]
    wanted = GOLDEN["arrays"]["motion_smoothness"]["per_clip"][name]
    assert smoothness(errors(frames, network)) == pytest.approx(wanted, abs=1e-6)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("name", SCORED)
def test_vbench_on_files(name, network):
    import av

    with av.open(str(VBENCH / "mp4" / f"{name}.mp4")) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    wanted = GOLDEN["mp4"]["motion_smoothness"]["per_clip"][name]
    assert smoothness(errors(frames, network)) == pytest.approx(wanted, abs=1e-6)


@needs_shared
@pytest.mark.parametrize("name", REFUSED)
def test_clips_that_vbench_scores_from_nan_are_refused(name):
    values = errors(np.load(VBENCH / "clips.npz")[name], Blend())
    with pytest.raises(Unscorable, match=r"^smaller than 128 pixels$"):
        smoothness(values)


def test_strips_of_the_volume_change_nothing(tensors):
    with torch.inference_mode():
        whole = _amt_network.interpolate(tensors, *probe_pictures())
        strips = _amt_network.interpolate(tensors, *probe_pictures(), keep_bytes=200_000)
    torch.testing.assert_close(strips, whole, atol=1e-5, rtol=0)


def test_pairs_together_score_as_pairs_alone(network):
    frames = clip(5)
    alone = [network(frames[i : i + 1], frames[i + 2 : i + 3])[0] for i in (0, 2)]
    together = network(frames[[0, 2]], frames[[2, 4]])
    np.testing.assert_allclose(together.astype(int), alone, atol=1)
    assert np.mean(together != np.array(alone)) < 1e-4


@pytest.mark.parametrize("cuts", [(1,), (3, 4), range(1, 7), (0, 0, 7)])
def test_batches_of_frames_do_not_matter(cuts):
    np.testing.assert_array_equal(errors(clip(), Blend(), cuts), errors(clip(), Blend()))


@pytest.mark.parametrize("at_once", [2, 3, 8])
def test_pairs_at_once_do_not_matter(at_once):
    np.testing.assert_array_equal(errors(clip(9), Blend(at_once)), errors(clip(9), Blend()))


def test_is_the_mean_difference_from_the_odd_frames():
    frames = clip(6)
    guesses = [(frames[i].astype(int) + frames[i + 2]) // 2 for i in (0, 2)]
    wanted = [np.abs(guess - frames[i]).mean() for guess, i in zip(guesses, (1, 3), strict=True)]
    np.testing.assert_allclose(errors(frames, Blend()), wanted, rtol=1e-14)


@pytest.mark.parametrize("at_once", [1, 4])
def test_equal_pairs_are_interpolated_once(at_once):
    frozen, moving = np.repeat(clip(1), 7, axis=0), clip(5, seed=1)
    frozen[3] = moving[0]
    counting = Blend(at_once)
    values = errors(np.concatenate([frozen, moving]), counting)
    assert sum(counting.calls) == 3
    assert len(values) == 5
    assert values[0] == values[2] == 0
    assert values[1] == pytest.approx(np.abs(frozen[0].astype(int) - moving[0]).mean(), rel=1e-14)


def test_the_callers_memory_may_be_used_again():
    frames, statistic = clip(), amt.AmtS(Blend())
    for frame in frames:
        buffer = frame[None].copy()
        statistic.update(buffer, np.zeros(1))
        buffer[:] = 0
    np.testing.assert_array_equal(statistic.result(), errors(frames, Blend()))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_frames_have_no_score(n):
    assert errors(clip()[:n], Blend()).shape == (0,)
    with pytest.raises(Unscorable, match=r"^too short$"):
        smoothness(errors(clip()[:n], Blend()))


def test_odd_sizes_and_the_smallest_one(network):
    frames = clip(3, height=113, width=135)
    assert 0 < smoothness(errors(frames, network)) < 1
    assert np.isnan(errors(clip(3, height=112, width=300), network)).all()


def test_black_frames_have_a_score(network):
    assert 0 < smoothness(errors(np.zeros((3, 128, 128, 3), np.uint8), network)) <= 1


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 1), np.uint8)]
)
def test_malformed_frames(bad):
    with pytest.raises(ValueError, match="expected"):
        amt.AmtS(Blend()).update(bad, np.zeros(len(bad)))


def test_a_picture_that_changes_its_size():
    statistic = amt.AmtS(Blend())
    statistic.update(clip(2), np.zeros(2))
    with pytest.raises(ValueError, match="different size"):
        statistic.update(clip(1, height=144), np.zeros(1))


@pytest.mark.parametrize(("height", "width"), [(112, 160), (130, 160)])
def test_the_network_refuses_sides_it_is_not_made_for(tensors, height, width):
    picture = torch.zeros(1, 3, height, width)
    with pytest.raises(ValueError, match="need sides"):
        _amt_network.interpolate(tensors, picture, picture)


def test_padding_is_half_on_either_side():
    assert _amt_network.pad_amounts(128, 160) == (0, 0, 0, 0)
    assert _amt_network.pad_amounts(120, 131) == (6, 7, 4, 4)


def test_a_window_holds_the_dot_products_around_its_centre():
    generator = torch.Generator().manual_seed(0)
    queries, targets = torch.randn(2, 1, 5, 16, 18, generator=generator)
    grid = _amt_layers.pixel_grid(queries)
    found = _amt_correlation.Matches(queries, targets).at(grid)
    full = torch.einsum("chw,cyx->hwyx", queries[0], targets[0]) / math.sqrt(5)
    side = 2 * _amt_correlation.RADIUS + 1
    window = found[0].reshape(_amt_correlation.LEVELS, side, side, 16, 18)[0]
    for y, x, dy, dx in [(8, 9, 0, 0), (8, 9, -3, 2), (5, 12, 3, 3)]:
        assert float(window[dx + 3, dy + 3, y, x]) == pytest.approx(float(full[y, x, y + dy, x + dx]), abs=1e-5)
    assert float(window[0, 0, 0, 0]) == 0  # beyond the border
    coarse = found[0].reshape(_amt_correlation.LEVELS, side, side, 16, 18)[1]
    assert float(coarse[3, 3, 8, 10]) == pytest.approx(float(full[8, 10, 8:10, 10:12].mean()), abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 3.3, -400.0, 400.0])
def test_strips_look_up_what_the_whole_volume_holds(shift):
    generator = torch.Generator().manual_seed(1)
    queries, targets = torch.randn(2, 2, 5, 18, 16, generator=generator)
    points = _amt_layers.pixel_grid(queries) + shift + torch.randn(2, 2, 18, 16, generator=generator)
    whole = _amt_correlation.Matches(queries, targets).at(points)
    strips = _amt_correlation.Matches(queries, targets, keep_bytes=60_000).at(points)
    torch.testing.assert_close(strips, whole, atol=2e-5, rtol=0)
    assert bool(whole.any()) == (abs(shift) < 400)


def test_matches_need_a_coarsest_level_of_two_pixels():
    features = torch.zeros(1, 4, 15, 20)
    with pytest.raises(ValueError, match="need 16 a side"):
        _amt_correlation.Matches(features, features)


def test_warping_by_whole_pixels_is_shifting():
    picture = torch.arange(30.0).reshape(1, 1, 5, 6)
    flow = torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1).expand(1, 2, 5, 6)
    warped = _amt_layers.warp(picture, flow)
    torch.testing.assert_close(warped[0, 0, 2:, :5], picture[0, 0, :3, 1:])
    torch.testing.assert_close(warped[0, 0, 0, :5], picture[0, 0, 0, 1:])  # the edge goes on
    torch.testing.assert_close(_amt_layers.rescale_flow(flow, 2)[0, :, 0, 0], torch.tensor([2.0, -4.0]))


def test_tensors_of_another_network_are_refused(tensors):
    with pytest.raises(UserError, match="do not fit AMT-S"):
        amt.Interpolator({name: tensor for name, tensor in tensors.items() if name != "update3.conv.bias"})


def test_weights_that_are_missing_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.ENV_FOLDER, str(tmp_path))
    assert amt.AmtS.missing_weights() == ["amt-s"]
    with pytest.raises(WeightsMissingError) as caught:
        amt.AmtS().update(clip(3), np.zeros(3))
    assert caught.value.hint == "run `macebench weights pull amt-s`"
    path = weights.find("amt-s").path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not the weights")
    assert amt.AmtS.missing_weights() == []
    with pytest.raises(WeightsCorruptError):
        amt.AmtS().update(clip(3), np.zeros(3))


def test_runs_from_a_weights_file(tmp_path, monkeypatch, tensors, network):
    path = tmp_path / "amt-s.pth"
    torch.save({"state_dict": tensors, "iteration": 3}, path)
    row = weights.find("amt-s").model_copy(update={"file": path.name, "size": None, "sha256": None})
    monkeypatch.setenv(weights.ENV_FOLDER, str(tmp_path))
    monkeypatch.setenv("MACEBENCH_DEVICE", "cpu")
    monkeypatch.setattr(weights, "weights_table", lambda: (row,))
    frames = clip(3)
    np.testing.assert_array_equal(errors(frames, None), errors(frames, network))
    assert amt.AmtS.ingredients() == {
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "dtype": "float32",
    }
    amt._loaded.cache_clear()


def test_nothing_imports_torch_before_the_first_pair():
    code = "import sys; from macebench.models.appearance.amt import AmtS; AmtS.missing_weights()"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_registered():
    assert get("statistics", "amt_s") is amt.AmtS
    assert isinstance(amt.AmtS(Blend()), FrameStatistic)
