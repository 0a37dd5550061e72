"""The Motion Expert as registered models, through the generation pipeline."""

import json

import numpy as np
import pytest
import torch

from macebench import registry
from macebench.animators import Cascade, Mannequin
from macebench.errors import UserError
from macebench.generate import clip_seed, generate, make_model, plan_generation
from macebench.media import Decoder, write_wav
from macebench.models.motion_expert.checkpoint import Checkpoint
from macebench.models.motion_expert.codec import Normalizer
from macebench.models.motion_expert.config import PRESETS
from macebench.models.motion_expert.expert import MotionExpert
from macebench.models.motion_expert.generators import MaceDance, MotionExpertModel, code_hash
from macebench.models.motion_expert.network import MotionExpertNetwork
from macebench.motion import read_motion
from macebench.types import ModelCard, MotionModel, VideoModel


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = MotionExpertNetwork(PRESETS["tiny"]).eval()
    bounds = np.tile([[-1.0], [1.0]], (1, 151))
    bounds[:, 6] = [0.6, 1.2]
    path = tmp_path_factory.mktemp("expert") / "tiny.safetensors"
    MotionExpert(Checkpoint(network, PRESETS["tiny"], Normalizer.fit(bounds)), "cpu").save(path)
    return path


@pytest.fixture
def options(checkpoint):
    return {"checkpoint": checkpoint, "steps": 2, "device": "cpu"}


@pytest.fixture
def music(tmp_path, click_track):
    return {name: write_wav(tmp_path / f"{name}.wav", click_track(0.5, 120), 22050) for name in ("a", "b")}


def test_both_models_are_registered_as_what_they_are(options):
    assert registry.get("models", "motion-expert") is MotionExpertModel
    assert isinstance(make_model("motion-expert", options), MotionModel)
    made = make_model("mace-dance", options)
    assert isinstance(made, VideoModel)
    assert isinstance(made, Cascade)
    assert (MotionExpertModel.card.kind, MaceDance.card.kind) == ("motion", "video")


def test_each_format_holds_the_same_dance(tmp_path, music, options):
    out = tmp_path / "out"
    formats = ("npz", "aist", "bvh")
    made = generate("motion-expert", music, out, seed=3, formats=formats, options=options)
    assert [path.relative_to(out).as_posix() for path in made.videos] == ["npz/a.npz", "npz/b.npz"]
    ours, aist = read_motion(out / "npz" / "a.npz"), read_motion(out / "aist" / "a.npz")
    assert np.abs(ours.joints - aist.joints).max() < 1e-9
    assert (out / "npz" / "a.wav").is_file()
    assert len(read_motion(out / "bvh" / "a.bvh")) in range(1, 16)
    assert made.frames == 30
    assert made.seconds > 0
    seeds = [clip_seed(3, "a"), clip_seed(3, "b")]
    assert json.loads((out / "npz" / "a.json").read_text())["seed"] == seeds[0]
    expected = make_model("motion-expert", options).generate(music["b"], seeds[1])
    assert np.array_equal(read_motion(out / "npz" / "b.npz").joints, expected.joints)


@pytest.mark.slow
def test_what_is_there_is_kept_until_a_setting_changes(tmp_path, music, options, checkpoint):
    out = tmp_path / "out"

    def frames(**changes):
        return generate("motion-expert", music, out, as_motion=True, options={**options, **changes}).frames

    assert frames() == 30
    assert frames() == 0
    for changes in ({"beta": 0.5}, {"steps": 3}, {"genre": "funk"}, {"eta": 0.5}, {"seconds": 0.2}):
        assert frames(**changes) > 0, changes
    assert frames() == 30
    (out / "a.npz").unlink()
    assert frames() == 15
    other = MotionExpert.load(checkpoint, "cpu")
    with torch.no_grad():
        other.network.final_layer.bias += 0.01
    other.save(out / "other.safetensors")
    assert frames(checkpoint=out / "other.safetensors") == 30


def test_mace_dance_is_the_motion_expert_drawn(tmp_path, music, options):
    one = {"a": music["a"]}
    made = generate("mace-dance", one, tmp_path / "video", seed=1, options={**options, "seconds": 0.2})
    with Decoder() as decoder:
        info = decoder.probe(made.videos[0])
    assert (made.videos[0].name, info.has_audio, info.n_frames, round(info.fps)) == ("a.mp4", True, 6, 30)
    folders = [tmp_path / name for name in ("motion-expert", "mace-dance")]
    for folder in folders:
        generate(folder.name, music, folder, seed=1, as_motion=True, options=options)
    first, second = (read_motion(folder / "b.npz") for folder in folders)
    assert np.array_equal(first.joints, second.joints)


def test_a_cascade_makes_a_video_that_goes_with_it(music, options):
    model = make_model("mace-dance", options)
    video = model.generate(music["a"], None, 5)
    assert video.is_file()
    folder = video.parent
    del model
    assert not folder.exists()


def test_a_cascade_is_checked(options, music, tmp_path):
    with pytest.raises(ValueError, match="makes videos"):
        Cascade(ModelCard("x", "motion"), MotionExpertModel(**options), Mannequin())
    motion = MotionExpertModel(**options).generate(music["a"], 1)
    with pytest.raises(UserError, match="cannot look like a picture"):
        Mannequin().animate(motion, music["a"], tmp_path / "me.png", 1, tmp_path / "a.mp4")


def test_one_bad_piece_does_not_lose_the_others(tmp_path, music, options):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    made = generate(
        "motion-expert", {**music, "bad": tmp_path / "bad.wav"}, tmp_path / "out", as_motion=True,
        options={**options, "max_seconds": 0.6},
    )  # fmt: skip
    assert len(made.videos) == 2
    assert "not a media file" in made.failed["bad"]
    short = generate("motion-expert", music, tmp_path / "out2", as_motion=True, options={**options, "max_seconds": 0.3})
    assert all("longer than 0.3 s" in reason for reason in short.failed.values())
    assert len(short.failed) == 2


def test_options_that_do_not_fit_are_refused(tmp_path, music, options):
    with pytest.raises(UserError, match="does not take --colour-of-hair"):
        make_model("motion-expert", {"colour_of_hair": "red"})
    for changes, text in (
        ({"genre": "waltz"}, "unknown genre"), ({"scale": 2.0}, "no scale"), ({"beta": 3.0}, "beta is 3"),
        ({"checkpoint": tmp_path / "none.safetensors"}, "does not exist"), ({"seconds": 0.0}, "above 0"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=text):
            generate("motion-expert", music, tmp_path / "out", as_motion=True, options={**options, **changes})
    with pytest.raises(UserError, match="unknown format"):
        generate("motion-expert", music, tmp_path / "out", formats=["fbx"], options=options)
    assert not list((tmp_path / "out").rglob("*.npz"))


def test_ddpm_has_neither_steps_nor_eta(options):
    for words, text in (({"steps": 10}, "steps cannot"), ({"steps": 10, "eta": 0.5}, "steps and eta cannot")):
        with pytest.raises(UserError, match=text):
            MotionExpertModel(sampler="ddpm", **words)
    assert MotionExpertModel(sampler="ddpm").sampling.sampler == "ddpm"
    assert (MotionExpertModel().sampling.steps, MotionExpertModel().sampling.eta) == (50, 1.0)


def test_the_longest_music_is_bounded():
    assert MotionExpertModel(max_seconds=1200).max_seconds == 1200
    with pytest.raises(UserError, match="max_seconds is 1201; at most 1200"):
        MotionExpertModel(max_seconds=1201)


def test_a_model_without_options_takes_none():
    @registry.model("test-generators-still")
    class Still:
        card = ModelCard("test-generators-still", "motion", "Stands.")

    with pytest.raises(UserError, match="does not take --beta"):
        make_model("test-generators-still", {"beta": 0.5})


def test_a_plan_says_what_is_left(tmp_path, music, options):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    out = tmp_path / "out"
    generate("motion-expert", {"a": music["a"]}, out, formats=["npz"], options=options)
    pieces = {**music, "bad": tmp_path / "bad.wav"}
    planned = plan_generation("motion-expert", pieces, out, formats=["npz"], options=options)
    assert (planned.pieces, planned.done, list(planned.unreadable)) == (3, 1, ["bad"])
    assert planned.music_s == pytest.approx(0.5)
    assert planned.seconds > 0
    assert not (out / "b.npz").exists()


def test_a_longer_dance_is_estimated_to_take_longer(options):
    model = MotionExpertModel(**options)
    assert model.estimate(100_000) > 2 * model.estimate(10_000) > 0
    assert model.timing.frames == 0


def test_the_code_hash_is_one_of_the_files():
    assert len(code_hash()) == 64
    assert code_hash() == code_hash()


def test_nothing_is_loaded_to_ask_a_model_its_name(tmp_path):
    assert MotionExpertModel(checkpoint=tmp_path / "none.safetensors").timing is None


@pytest.mark.slow
def test_workers_make_the_same_dances(tmp_path, music, options):
    one = generate("motion-expert", music, tmp_path / "one", as_motion=True, options=options)
    two = generate("motion-expert", music, tmp_path / "two", as_motion=True, options=options, workers=2)
    assert two.frames == 30
    for first, second in zip(one.videos, two.videos, strict=True):
        assert np.abs(read_motion(first).joints - read_motion(second).joints).max() < 1e-4
