"""``macebench generate`` as a user runs it; only the last tests start a process of their own."""

import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from macebench.cli.app import app
from macebench.errors import EXIT_UNSCORED, UserError
from macebench.media import write_wav
from macebench.motion import read_motion


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The preset `tiny` with random weights, as the user's environment names it."""
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
def songs(tmp_path, click_track):
    folder = tmp_path / "songs"
    folder.mkdir()
    for number in range(2):
        write_wav(folder / f"s{number}.wav", click_track(0.5, 100 + number), 22050)
    return folder


@pytest.fixture
def run(checkpoint, monkeypatch):
    """`macebench generate --model motion-expert` in this process: (status, output), or the user's error."""
    monkeypatch.setenv("MACEBENCH_MOTION_EXPERT", str(checkpoint))

    def call(*words, model="motion-expert"):
        command = ["generate", "--model", model, "--device", "cpu", "--steps", "2", *map(str, words)]
        done = CliRunner().invoke(app, command, standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.return_value, done.output

    return call


def test_a_folder_of_songs(run, songs, tmp_path):
    out = tmp_path / "out"
    status, text = run("--music", songs, "--out", out, "--format", "npz")
    assert status == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "s0.json", "s0.npz", "s0.wav", "s1.json", "s1.npz", "s1.wav"
    ]  # fmt: skip
    assert "2 dances as npz" in text
    assert "sampled 30 frames" in text
    assert "frames a second" in text
    again = run("--music", songs, "--out", out, "--format", "npz")[1]
    assert "sampled" not in again


def test_one_song_many_seeds(run, songs, tmp_path):
    out = tmp_path / "out"
    run("--music", songs / "s0.wav", "--out", out, "--format", "aist,bvh", "--seeds", 3, "--seed", 7)
    assert [path.name for path in sorted((out / "aist").glob("*.npz"))] == ["s0-00.npz", "s0-01.npz", "s0-02.npz"]
    dances = [read_motion(out / "aist" / f"s0-0{k}.npz").joints for k in range(3)]
    assert np.abs(dances[0] - dances[1]).max() > 1e-3
    run("--music", songs / "s0.wav", "--out", tmp_path / "more", "--format", "aist", "--seeds", 4, "--seed", 7)
    assert np.array_equal(read_motion(tmp_path / "more" / "s0-02.npz").joints, dances[2])


def test_a_plan_makes_nothing(run, songs, tmp_path):
    status, text = run("--music", songs, "--out", tmp_path / "out", "--format", "npz", "--plan", "--seconds", "0.4")
    assert status == 0
    assert "pieces            2, of which 0" in text
    assert "estimated time" in text
    assert not (tmp_path / "out").exists()


def test_the_limit_counts_pieces(run, songs, tmp_path):
    assert "1 dance as npz" in run("--music", songs, "--out", tmp_path / "out", "--format", "npz", "--limit", 1)[1]


def test_a_piece_that_fails_is_named_and_counted(run, songs, tmp_path):
    (songs / "broken.wav").write_bytes(b"RIFF")
    status, text = run("--music", songs, "--out", tmp_path / "out", "--format", "npz")
    assert status == EXIT_UNSCORED
    assert "failed: broken: not a media file" in text
    assert "2 dances" in text
    status, text = run("--music", songs, "--out", tmp_path / "cut", "--format", "npz", "--max-seconds", "0.2")
    assert text.count("too long") == 2


def test_a_model_takes_its_own_options_only(run, songs, tmp_path):
    plain = tmp_path / "plain.py"
    plain.write_text(
        "from macebench.registry import model\nfrom macebench.types import ModelCard\n"
        "@model('test-cli-plain')\nclass Plain:\n    card = ModelCard('test-cli-plain', 'motion')\n"
    )
    with pytest.raises(UserError, match="does not take --device, --steps"):
        run("--music", songs, "--out", tmp_path / "out", "--plugin", plain, model="test-cli-plain")


def test_bad_input_is_a_users_error(run, songs, tmp_path):
    for words, text in (
        (["--music", tmp_path / "none"], "does not exist"),
        (["--music", songs, "--format", "fbx"], "unknown format"),
        (["--music", songs, "--beta", "2"], "beta is 2"),
        (["--music", songs, "--genre", "waltz"], "unknown genre"),
        (["--music", songs, "--checkpoint", tmp_path / "none.pt"], "does not exist"),
        ([], "either --dataset or --music"),
    ):
        with pytest.raises(UserError, match=text):
            run(*words, "--out", tmp_path / "out")
    with pytest.raises(UserError, match=r"unknown model 'mace-danse'\. Did you mean 'mace-dance'") as caught:
        run("--music", songs, "--out", tmp_path / "out", model="mace-danse")
    assert "macebench ls models" in caught.value.hint
    with pytest.raises(UserError, match="no 3-D motions"):
        run("--music", songs, "--format", "npz", "--out", tmp_path / "out", model="test-cli-film")


@pytest.fixture(autouse=True)
def film():
    """A model of videos that takes the options of `run`."""
    from macebench.registry import model
    from macebench.types import ModelCard

    @model("test-cli-film")
    class Film:
        card = ModelCard("test-cli-film", "video")
        options = frozenset({"steps", "device"})

        def __init__(self, **options):
            pass

    return Film


def test_options_that_the_command_lacks_are_not_offered(run, songs, tmp_path):
    with pytest.raises(UserError, match="'random-phrases' does not take --beta, --device, --steps") as caught:
        run("--music", songs, "--out", tmp_path / "out", "--beta", "0.5", model="random-phrases")
    assert "--training-set" not in caught.value.hint
    assert "none of the command's" in caught.value.hint


def test_settings_that_would_do_nothing_are_refused(run, songs, tmp_path):
    for words, text in (
        (["--sampler", "ddpm"], "steps cannot be given with the sampler ddpm"),
        (["--max-seconds", "5000"], "max_seconds is 5000; at most 1200"),
    ):
        with pytest.raises(UserError, match=text):
            run("--music", songs, "--out", tmp_path / "out", *words)


def test_a_folder_without_music_is_named_with_what_counts(run, tmp_path):
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no music in .*empty: no file that ends in \.wav, \.flac, ") as caught:
        run("--music", tmp_path / "empty", "--out", tmp_path / "out")
    assert "Sub-folders are not searched" in caught.value.hint


def test_short_music_fails_and_silent_music_is_noted(run, tmp_path, click_track):
    folder = tmp_path / "odd"
    folder.mkdir()
    write_wav(folder / "short.wav", click_track(0.1, 100), 22050)
    write_wav(folder / "silent.wav", np.zeros(22050, np.float32), 22050)
    status, text = run("--music", folder, "--out", tmp_path / "out", "--format", "npz")
    assert status == EXIT_UNSCORED
    assert "failed: short: too short: short.wav has 0.10 s of sound, at least 0.5 s are needed" in text
    assert "note: silent: silent music: no beat can be followed" in text
    assert len(read_motion(tmp_path / "out" / "silent.npz")) == 30
    assert not (tmp_path / "out" / "short.npz").exists()


def test_two_songs_of_one_name(run, songs, tmp_path):
    (songs / "s0.flac").write_bytes((songs / "s0.wav").read_bytes())
    run("--music", songs, "--out", tmp_path / "out", "--format", "npz")
    assert (tmp_path / "out" / "s0.npz").is_file()
    assert (tmp_path / "out" / "s0.wav.npz").is_file()


def test_eval_plans_the_dances_before_it_makes_them(tmp_path, checkpoint, dances, monkeypatch):
    monkeypatch.setenv("MACEBENCH_MOTION_EXPERT", str(checkpoint))
    folder, out = dances(tmp_path / "real", 3, seconds=2.0), tmp_path / "run"
    call = [
        "eval", "--model", "motion-expert", "--reference", folder, "--protocol", "motion3d-fixed/1", "--out", out,
        "--store", tmp_path / "store", "--device", "cpu", "--plan",
    ]  # fmt: skip
    done = CliRunner().invoke(app, list(map(str, call)))
    assert done.exit_code == 0, done.output
    assert "3 by motion-expert, of which 0 are in" in done.output
    assert "under motion3d-fixed/1" in done.output
    assert not out.exists()


def test_the_device_reaches_models_that_have_one():
    from macebench.generate import device_option

    assert device_option("motion-expert", "cpu") == {"device": "cpu"}
    assert device_option("motion-expert", None) == device_option("random-phrases", "cpu") == {}


@pytest.mark.slow
def test_eval_generates_and_scores_both_models(tmp_path, checkpoint, dances):
    folder = dances(tmp_path / "real", 3, seconds=2.0)
    env = {
        **os.environ, "MACEBENCH_MOTION_EXPERT": str(checkpoint), "MACEBENCH_STORE": str(tmp_path / "store"),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    for name in ("motion-expert", "mace-dance"):
        out = tmp_path / name
        call = [
            "eval",
            "--model",
            name,
            "--reference",
            folder,
            "--protocol",
            "motion3d-fixed/1",
            "--no-report",
            "--workers",
            2,
        ]
        command = [sys.executable, "-m", "macebench", *map(str, call), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert done.returncode in (0, EXIT_UNSCORED), done.stdout + done.stderr
        assert "bas" in done.stdout
    first, second = (read_motion(tmp_path / name / "generated-motions" / "dance1.npz") for name in
                     ("motion-expert", "mace-dance"))  # fmt: skip
    assert np.array_equal(first.joints, second.joints)
