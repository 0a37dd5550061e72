"""The Motion Expert as one object, on the preset `tiny` with random weights."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from macebench.errors import MediaError, UserError
from macebench.media import write_wav
from macebench.models.diffusion.constraints import Constraint
from macebench.models.diffusion.schedule import Schedule
from macebench.models.motion_expert import codec, expert
from macebench.models.motion_expert.checkpoint import Checkpoint
from macebench.models.motion_expert.codec import Normalizer
from macebench.models.motion_expert.config import PRESETS
from macebench.models.motion_expert.expert import MotionExpert, Sampling
from macebench.models.motion_expert.network import MotionExpertNetwork


def make(**changes):
    """A network that nobody trained; its root stays in a room."""
    config = PRESETS["tiny"].revised(**changes)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = MotionExpertNetwork(config).eval()
    bounds = np.tile([[-1.0], [1.0]], (1, 151))
    bounds[:, :4], bounds[:, 6] = [[0.0], [1.0]], [0.6, 1.2]
    return MotionExpert(Checkpoint(network, config, Normalizer.fit(bounds), {"name": "test"}), "cpu")


@pytest.fixture(scope="module")
def tiny():
    return make()


def song(frames, seed=0):
    return np.random.default_rng(seed).normal(size=(frames, 35))


def test_songs_of_any_length_in_one_call(tiny):
    motions = tiny.sample([song(40), song(1), song(75)], seeds=[1, 2, 3], steps=4)
    assert [len(motion) for motion in motions] == [40, 1, 75]
    assert all(motion.fps == 30 and np.isfinite(motion.joints).all() for motion in motions)
    assert tiny.sample([], seeds=[]) == []


def test_a_dance_does_not_know_its_company(tiny):
    songs = [song(50, 1), song(30, 2), song(50, 3)]
    together = tiny.sample(songs, seeds=[5, 6, 7], steps=5)
    alone = tiny.sample(songs[2:], seeds=[7], steps=5)
    assert np.array_equal(together[2].joints, alone[0].joints)


def test_the_seed_the_genre_and_beta_matter(tiny):
    def dance(genre=None, **how):
        return tiny.sample([song(30)], genre, seeds=[how.pop("seed", 1)], steps=3, **how)[0].joints

    base = dance()
    assert np.array_equal(base, dance())
    for other in (dance(seed=2), dance("funk"), dance(beta=0.1), dance(eta=0.0)):
        assert np.abs(base - other).max() > 1e-4


def test_vectors_are_normalised_and_decode_as_the_codec_says(tiny):
    (values,) = tiny.sample_vectors([song(20)], None, [3], Sampling(steps=3))
    assert values.shape == (20, 151)
    assert np.abs(values).max() <= 1
    expected = codec.decode(tiny.normalizer.unnormalize(values))
    assert np.array_equal(tiny.decode(values).joints, expected.joints)


def test_a_saved_expert_dances_the_same(tiny, tmp_path):
    tiny.save(tmp_path / "a.safetensors")
    again = MotionExpert.open(tmp_path / "a.safetensors", "cpu")
    first, second = (one.sample([song(20)], seeds=[1], steps=2)[0] for one in (tiny, again))
    assert np.array_equal(first.joints, second.joints)


def test_cfg_has_a_scale_and_no_beta():
    cfg = make(guidance="cfg")
    weak, strong = (cfg.sample([song(20)], seeds=[1], steps=3, scale=scale)[0].joints for scale in (1.0, 4.0))
    assert np.abs(weak - strong).max() > 1e-6
    with pytest.raises(UserError, match="no beta"):
        cfg.sample([song(20)], seeds=[1], beta=0.5)


def test_gft_has_a_beta_and_no_scale(tiny):
    with pytest.raises(UserError, match="no scale"):
        tiny.sample([song(20)], seeds=[1], scale=2.0)


def test_ddpm_takes_every_step():
    model = make()
    model.schedule = Schedule.cosine(12)
    steps = []
    model.sample([song(10)], seeds=[1], sampler="ddpm", progress=lambda done, total: steps.append((done, total)))
    assert steps == [(k, 12) for k in range(1, 13)]


def test_progress_runs_over_all_songs(tiny):
    steps = []
    tiny.sample([song(8), song(9)], seeds=[1, 2], steps=3, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(k, 6) for k in range(1, 7)]


def test_the_time_of_sampling_is_kept():
    model = make()
    model.sample([song(8), song(9)], seeds=[1, 2], steps=2)
    assert model.timing.frames == 17
    assert model.timing.fps == pytest.approx(17 / model.timing.seconds)


def test_on_a_gpu_equal_lengths_share_a_batch(tiny, monkeypatch):
    monkeypatch.setattr(expert, "BATCH_FRAMES", 100)
    gpu = make()
    gpu.device = torch.device("cuda")
    assert list(gpu._batches([40, 30, 40, 40, 200])) == [[1], [0, 2], [3], [4]]
    assert list(tiny._batches([40, 40])) == [[0], [1]]


def test_a_constraint_is_kept_row_by_row(tiny):
    value = torch.linspace(-0.5, 0.5, 2 * 12 * 151).reshape(2, 12, 151)
    mask = torch.zeros(2, 12, 151, dtype=torch.bool)
    mask[0, :5], mask[1, 7:] = True, True
    rows = tiny.sample_vectors(
        [song(12), song(12)], None, [1, 2], Sampling(steps=3), constraint=Constraint(mask, value)
    )
    for row, given, kept in zip(rows, value.numpy(), mask.numpy(), strict=True):
        assert np.array_equal(row[kept], given[kept].astype(np.float64))
    with pytest.raises(UserError, match="one length"):
        tiny.sample([song(12), song(13)], seeds=[1, 2], constraint=Constraint(mask, value))


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.size = max(self.size, value.numel())
        return result


def largest_of(model, frames):
    with Largest() as seen:
        model.sample([song(frames)], seeds=[1], steps=1)
    return seen.size


def test_no_tensor_grows_faster_than_the_song(tiny):
    """The published attention: every dance frame attends to all of the music."""
    assert tiny.config.attention_frames is None
    short, long = largest_of(tiny, 1000), largest_of(tiny, 3000)
    assert long <= 3.05 * short
    assert long < 3000 * 3000


@pytest.mark.slow
def test_ten_minutes_in_one_pass(tiny):
    (motion,) = tiny.sample([song(18_000)], seeds=[1], steps=1)
    assert len(motion) == 18_000


def tone(seconds, rate, kind):
    t = np.arange(round(seconds * rate)) / rate
    if kind == "silence":
        return np.zeros(len(t), np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, len(t))
    return (noise if kind == "noise" else 0.3 * np.sin(2 * np.pi * 220 * t)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "seconds", "rate", "channels"),
    [("silence", 2, 22050, 1), ("noise", 2, 44100, 2), ("tone", 1, 8000, 1), ("tone", 0.1, 48000, 2)],
)
def test_strange_music_is_danced_to(tiny, tmp_path, kind, seconds, rate, channels):
    samples = tone(seconds, rate, kind)
    path = write_wav(tmp_path / "a.wav", samples if channels == 1 else np.stack([samples] * channels, 1), rate)
    motion = tiny.generate(path, 1, sampling=Sampling(steps=2))
    assert len(motion) == round(30 * seconds)
    assert np.isfinite(motion.joints).all()


def test_music_that_cannot_be_used_says_why(tiny, tmp_path, click_track):
    long = write_wav(tmp_path / "long.wav", click_track(3, 120), 22050)
    with pytest.raises(MediaError, match=r"too long: long.wav is longer than 2 s"):
        tiny.generate(long, 1, max_seconds=2)
    (tmp_path / "text.wav").write_bytes(b"RIFF no sound at all")
    with pytest.raises(MediaError, match="not a media file"):
        tiny.generate(tmp_path / "text.wav", 1)
    half = tmp_path / "half.wav"
    half.write_bytes(long.read_bytes()[:20_000])
    with pytest.raises(MediaError, match="truncated"):
        tiny.generate(half, 1)
    with pytest.raises(MediaError, match="file not found"):
        tiny.generate(tmp_path / "none.wav", 1)
    with pytest.raises(MediaError, match="too short"):
        tiny.generate(write_wav(tmp_path / "short.wav", np.zeros(10, np.float32), 22050), 1)


def test_the_first_seconds_of_long_music_are_enough(tiny, tmp_path, click_track):
    path = write_wav(tmp_path / "a.wav", click_track(3, 120), 22050)
    samples, rate = expert.read_sound(path, seconds=1.5, max_seconds=2)
    whole, _ = expert.read_sound(path)
    assert rate == 22050
    assert np.array_equal(samples, whole[: round(1.5 * rate)])
    assert len(tiny.generate(path, 1, seconds=1.5, sampling=Sampling(steps=1))) == 45


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"steps": 0}, "steps is 0"), ({"beta": 1.5}, "beta is 1.5"), ({"eta": -1}, "eta is -1"),
        ({"sampler": "euler"}, "unknown sampler"), ({"scale": float("nan")}, "scale is nan"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(how, text):
    with pytest.raises(UserError, match=text):
        Sampling(**how)


def test_songs_that_are_none_are_refused(tiny):
    for features, text in (
        (np.zeros((5, 7)), "features"), (np.zeros((0, 35)), "features"), (np.full((5, 35), np.nan), "not finite"),
        (np.zeros((40_000, 35)), "at most"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=text):
            tiny.sample([features], seeds=[1])
    with pytest.raises(UserError, match="one seed"):
        tiny.sample([song(5)], seeds=[1, 2])
    with pytest.raises(UserError, match="unknown genre"):
        tiny.sample([song(5)], "waltz", seeds=[1])


def test_a_checkpoint_is_found_or_named(tmp_path, monkeypatch, tiny):
    monkeypatch.setattr(expert, "EMBEDDED_FILE", "not-there.safetensors")
    monkeypatch.delenv(expert.CHECKPOINT_VARIABLE, raising=False)
    with pytest.raises(UserError, match="no embedded checkpoint"):
        MotionExpert.open()
    with pytest.raises(UserError, match="does not exist"):
        MotionExpert.open(tmp_path / "a.safetensors")
    (tmp_path / "a.zip").touch()
    with pytest.raises(UserError, match="by its suffix"):
        MotionExpert.open(tmp_path / "a.zip")
    (tmp_path / "a.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.pt cannot be read"):
        MotionExpert.open(tmp_path / "a.pt")
    tiny.save(tmp_path / "b.safetensors")
    monkeypatch.setenv(expert.CHECKPOINT_VARIABLE, str(tmp_path / "b.safetensors"))
    assert MotionExpert.open(device="cpu").card["name"] == "test"


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cpu:1", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(UserError):
        expert.find_device(name)
