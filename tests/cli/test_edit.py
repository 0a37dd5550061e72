"""``macebench edit`` in this process."""

import numpy as np
import pytest
from typer.testing import CliRunner

from macebench.cli.app import app
from macebench.cli.edit import parse_spans
from macebench.errors import UserError
from macebench.media import Decoder, write_wav
from macebench.motion import read_motion, write_motion


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    import torch

    from macebench.models.motion_expert.checkpoint import save
    from macebench.models.motion_expert.codec import Normalizer
    from macebench.models.motion_expert.config import PRESETS
    from macebench.models.motion_expert.network import MotionExpertNetwork

    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = MotionExpertNetwork(PRESETS["tiny"]).eval()
    bounds = np.tile([[-1.0], [1.0]], (1, 151))
    bounds[:, 6] = [0.6, 1.2]
    path = tmp_path_factory.mktemp("cli") / "tiny.safetensors"
    save(path, network, PRESETS["tiny"], Normalizer.fit(bounds), {})
    return path


@pytest.fixture
def run(checkpoint, tmp_path, dance, click_track):
    """`macebench edit` on a dance of 2 s and music of 3 s: (status, output), or the user's error."""
    write_motion(tmp_path / "dance.npz", dance(1, seconds=2.0))
    write_wav(tmp_path / "song.wav", click_track(3, 120), 22050)

    def call(*words, motion="dance.npz", music="song.wav"):
        fixed = ["--checkpoint", checkpoint, "--device", "cpu", "--steps", 2, "--music", tmp_path / music]
        command = ["edit", tmp_path / motion, *fixed, *words]
        done = CliRunner().invoke(app, list(map(str, command)), standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.return_value, done.output

    return call


def test_inbetween(run, tmp_path, dance):
    status, text = run("--mode", "inbetween", "--keep", "0:0.5,1.5:2", "--out", tmp_path / "e.npz")
    assert status == 0
    assert "60 frames, 30 of them kept whole" in text
    assert "fastest joint over seams, blended over " in text
    made, given = read_motion(tmp_path / "e.npz"), dance(1, seconds=2.0)
    assert np.abs(made.joints[:15] - given.joints[:15]).max() < 1e-5
    assert np.abs(made.joints[45:] - given.joints[45:]).max() < 1e-5
    assert np.abs(made.joints[20:40] - given.joints[20:40]).max() > 0.05


def test_the_speed_over_a_seam_is_compared_with_the_training_data(run, checkpoint, tmp_path):
    from macebench.models.motion_expert.checkpoint import load, save

    words = ["--mode", "inbetween", "--keep", "0:0.5,1.5:2", "--out", tmp_path / "e.npz"]
    assert "training speeds" not in run(*words)[1]
    made = load(checkpoint)
    known = tmp_path / "known.safetensors"
    save(known, made.network, made.config, made.normalizer, {"joint_speed_p99_m_s": 99.0})
    text = run(*words, "--checkpoint", known)[1]
    assert " m/s (99 % of training speeds are below 99.00 m/s)" in text
    assert "faster than usual" not in text
    save(known, made.network, made.config, made.normalizer, {"joint_speed_p99_m_s": 0.1})
    text = run(*words, "--checkpoint", known)[1]
    assert "faster than usual: no blend that fits is slower" in text
    text = run(*words, "--checkpoint", known, "--blend", 0)[1]
    assert "fastest joint over seams, not blended: " in text


def test_continue_is_as_long_as_the_music(run, tmp_path):
    run("--mode", "continue", "--out", tmp_path / "e.npz")
    assert len(read_motion(tmp_path / "e.npz")) == 90
    run("--mode", "continue", "--seconds", "2.5", "--out", tmp_path / "e.bvh")
    assert len(read_motion(tmp_path / "e.bvh")) > 60


def test_a_part_of_the_body_has_no_seam_in_time(run, tmp_path):
    text = run("--mode", "upper", "--out", tmp_path / "e.npz")[1]
    assert "seam" not in text
    assert "60 frames, the upper body kept in 60 of them" in text
    text = run("--mode", "upper", "--keep", "0:1", "--out", tmp_path / "f.npz")[1]
    assert "60 frames, the upper body kept in 30 of them" in text
    made, given = read_motion(tmp_path / "f.npz"), read_motion(tmp_path / "dance.npz")
    assert np.abs(made.rotations[:30, 16] - given.rotations[:30, 16]).max() < 1e-5  # a shoulder
    assert np.abs(made.rotations[31:, 16] - given.rotations[31:, 16]).max() > 1e-3


def test_a_video_has_the_music(run, tmp_path):
    run("--mode", "continue", "--keep", "0:0.1", "--seconds", "0.2", "--out", tmp_path / "e.mp4")
    with Decoder() as decoder:
        info = decoder.probe(tmp_path / "e.mp4")
    assert (info.has_audio, info.n_frames) == (True, 6)


def test_the_seed_decides(run, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("--mode", "lower", "--seed", seed, "--out", tmp_path / f"{name}.npz")
    files = {name: (tmp_path / f"{name}.npz").read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


def test_bad_input_is_a_users_error(run, tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    out = ["--out", tmp_path / "e.npz"]
    for words, files, text in (
        (["--mode", "sideways", *out], {}, "unknown mode"),
        (["--mode", "inbetween", *out], {}, "needs spans"),
        (["--mode", "inbetween", "--keep", "0:9", *out], {}, "cannot be kept"),
        (["--mode", "root", "--keep", "a:b", *out], {}, "is no span"),
        (["--mode", "root", "--out", tmp_path / "e.fbx"], {}, "is none of"),
        (["--mode", "root", *out], {"music": "none.wav"}, "does not exist"),
        (["--mode", "root", *out], {"music": "broken.wav"}, "cannot be used"),
        (["--mode", "root", *out], {"motion": "broken.npz"}, "cannot be used"),
        (["--mode", "continue", "--seconds", "9", *out], {}, "the music has 3 s"),
        (["--mode", "root", "--genre", "waltz", *out], {}, "unknown genre"),
    ):
        with pytest.raises(UserError, match=text):
            run(*words, **files)
    assert not (tmp_path / "e.npz").exists()


def test_what_is_cheap_to_check_is_checked_before_the_model_is_loaded(run, tmp_path, monkeypatch):
    from macebench.models.motion_expert import expert

    out = ["--out", tmp_path / "e.npz"]
    with monkeypatch.context() as blind:
        blind.setattr(expert.MotionExpert, "open", None)
        for words, files, text in (
            (["--mode", "root", "--keep", "5:9", *out], {}, "the span 5:9 s cannot be kept"),
            (["--mode", "continue", "--keep", "1:2", *out], {}, "continue keeps the beginning alone"),
            (["--mode", "root", "--seconds", "0", *out], {}, "--seconds is 0"),
            (["--mode", "root", "--blend", "-1", *out], {}, "^--blend is -1"),
            (["--mode", "root", "--resample", "0", *out], {}, "^--resample is 0"),
            (["--mode", "root", *out], {"motion": "nope.npz"}, r"nope\.npz does not exist"),
            (["--mode", "root", "--out", tmp_path / "dance.npz"], {}, "is the input itself"),
        ):
            with pytest.raises(UserError, match=text) as caught:
                run(*words, **files)
            assert "Errno" not in str(caught.value)
    monkeypatch.setattr(expert, "features_of", None)
    with pytest.raises(UserError, match="has no scale"):
        run("--mode", "root", "--scale", 3, *out)
    with pytest.raises(UserError, match="unknown genre"):
        run("--mode", "root", "--genre", "waltz", *out)


def test_spans_are_read():
    assert parse_spans("0:2,4:6.5") == ((0.0, 2.0), (4.0, 6.5))
    assert parse_spans(":2") == ((0.0, 2.0),)
    assert parse_spans(None) == ()
    for text in ("2", "1:2:3", "x:2"):
        with pytest.raises(UserError, match="is no span"):
            parse_spans(text)
