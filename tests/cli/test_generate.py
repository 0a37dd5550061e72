"""``macebench generate`` as a user runs it; only the last tests start a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

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


def test_options_that_a_model_lacks_are_named_with_those_it_has(run, songs, tmp_path):
    with pytest.raises(UserError, match="'random-phrases' does not take --beta, --device, --steps") as caught:
        run("--music", songs, "--out", tmp_path / "out", "--beta", "0.5", model="random-phrases")
    assert caught.value.hint == "Its own options: --training-set."
    with pytest.raises(UserError, match="does not take --training-set"):
        run("--music", songs, "--out", tmp_path / "out", "--training-set", tmp_path)


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("form", "there", "named"),
    [
        ("npz", {}, "s0.wav"),
        ("mp4", {"s0.wav": None, "s1.wav": None, "s0.mp4": "music"}, "s0.mp4"),
        ("npz", {"s0.wav": None, "s1.wav": None, "s0.npz": b"mine"}, "s0.npz"),
        ("bvh", {"s1.json": b'{"mine": 1}'}, "s1.json"),
        ("bvh", {"s1.bvh": b"mine", "s1.json": b"[]"}, "s1.bvh"),
        ("npz,bvh", {"bvh/s0.bvh": b"mine"}, "s0.bvh"),
    ],
)
def test_no_file_of_the_user_is_lost(run, songs, tmp_path, form, there, named):
    """The output folder is that of the music, or holds something of the same name."""
    out = songs
    if "s0.wav" in there or form == "npz,bvh":
        out = tmp_path / "out"
    for name, content in there.items():
        if content is None:
            continue
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((songs / "s0.wav").read_bytes() if content == "music" else content)
    music = out / "s0.mp4" if there.get("s0.mp4") == "music" else songs
    before = files_of(tmp_path)
    for more in ((), ("--plan",)):
        with pytest.raises(UserError, match="it would be lost") as caught:
            run("--music", music, "--out", out, "--format", form, *more)
        assert named in caught.value.message
        assert files_of(tmp_path) == before, "nothing was made"


def test_own_files_are_made_again_after_an_interruption(run, songs, tmp_path, monkeypatch):
    from macebench import generate

    out, words = tmp_path / "out", ("--music", songs / "s0.wav", "--out", tmp_path / "out", "--format", "npz")

    def killed(*_):
        raise KeyboardInterrupt

    write = generate.write_motion
    with monkeypatch.context() as patched:
        patched.setattr(generate, "write_motion", lambda *given: (write(*given), killed()))
        with pytest.raises(KeyboardInterrupt):
            generate.generate(
                "motion-expert", {"s0": songs / "s0.wav"}, out, formats=("npz",), options={"steps": 2, "device": "cpu"}
            )
    assert (out / "s0.npz").is_file()
    assert "sampled 15 frames" in run(*words)[1], "a file that was not finished is made again"
    assert "sampled" not in run(*words)[1]
    assert "sampled 15 frames" in run(*words, "--steps", "3")[1], "and so is one of another recipe"


def test_another_format_is_made_anew(run, songs, tmp_path):
    """Both are called s0.npz; which of them it is stands in the recipe."""
    words = ("--music", songs / "s0.wav", "--out", tmp_path / "out", "--format")
    keys = {}
    for form in ("npz", "aist", "npz"):
        run(*words, form)
        with np.load(tmp_path / "out" / "s0.npz") as file:
            keys.setdefault(form, []).append(sorted(file.files))
    assert keys["npz"][0] == keys["npz"][1] != keys["aist"][0]
    both = ("--music", songs / "s0.wav", "--out", tmp_path / "two")
    run(*both, "--format", "npz,bvh")
    dance = tmp_path / "two" / "npz" / "s0.json"
    assert '"format":"npz"' in dance.read_text().replace(" ", "")


def test_how_long_music_may_be_does_not_change_a_dance(run, songs, tmp_path):
    words = ("--music", songs, "--out", tmp_path / "out", "--format", "npz")
    run(*words)
    assert "sampled" not in run(*words, "--max-seconds", "900")[1]


def test_an_output_folder_below_a_file_is_one_error(run, songs, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for out in (tmp_path / "file", tmp_path / "file" / "deep" / "er"):
        with pytest.raises(UserError, match=r"file is a file\."):
            run("--music", songs, "--out", out, "--format", "npz")


@pytest.mark.parametrize("form", [",", "", " , "])
def test_no_format_is_refused(run, songs, tmp_path, form):
    with pytest.raises(UserError, match="names no format"):
        run("--music", songs, "--out", tmp_path / "out", "--format", form)


def build(folder, seed):
    """A training set of two procedural pieces of 20 s."""
    from macebench.dances.sources import DemoSource
    from macebench.models.training.data import build_training_set

    return build_training_set([DemoSource(2, 20.0, seed=seed)], folder)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["random-phrases", "nearest-music"])
def test_lower_bounds_take_a_training_set_of_the_users(songs, tmp_path, model):
    def call(folder):
        command = ["generate", "--model", model, "--music", songs, "--out", tmp_path / "out", "--format", "npz"]
        done = CliRunner().invoke(app, [*map(str, command), "--training-set", str(folder)], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        file = tmp_path / "out" / "s0.npz"
        return file.read_bytes(), file.stat().st_ino

    build(tmp_path / "a", 5)
    build(tmp_path / "b", 6)
    first = call(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "moved")
    assert call(tmp_path / "moved") == first, "the content counts, not the place: nothing is made again"
    assert call(tmp_path / "b")[0] != first[0]
    with pytest.raises(UserError, match="no finished training set"):
        call(tmp_path / "none")


def test_a_song_that_is_too_long_fails_alone(songs, tmp_path, monkeypatch):
    from macebench.media import write_wav as write
    from macebench.models.motion_expert import music

    write(songs / "long.wav", np.zeros(3 * 22050, np.float32), 22050)
    build(tmp_path / "set", 5)
    monkeypatch.setattr(music, "MAX_SECONDS", 2.0)
    command = ["generate", "--model", "nearest-music", "--music", songs, "--out", tmp_path / "out", "--format", "npz"]
    done = CliRunner().invoke(app, [*map(str, command), "--training-set", str(tmp_path / "set")], standalone_mode=False)
    assert done.exception is None
    assert done.return_value == EXIT_UNSCORED
    assert "failed: long: too long: long.wav is longer than 2 s" in done.output
    assert "2 dances as npz" in done.output
    assert not (tmp_path / "out" / "long.json").exists()


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
    from macebench.generate import model_options

    assert model_options("motion-expert", "cpu") == {"device": "cpu"}
    assert model_options("motion-expert", None) == model_options("random-phrases", "cpu") == {}
    chosen = model_options("random-phrases", "cpu", Path("set"))
    assert chosen == {"training_set": Path("set")}


@pytest.mark.slow
def test_eval_lets_a_lower_bound_dance_from_a_training_set(tmp_path, dances):
    folder, out = dances(tmp_path / "real", 3, seconds=2.0), tmp_path / "run"
    call = [
        "eval", "--reference", folder, "--protocol", "motion3d-fixed/1", "--out", out, "--store", tmp_path / "store",
        "--no-report",
    ]  # fmt: skip

    def run(*words):
        return CliRunner().invoke(app, list(map(str, [*call, *words])), standalone_mode=False)

    made = build(tmp_path / "set", 5)
    done = run("--model", "random-phrases", "--training-set", tmp_path / "set")
    assert done.return_value in (0, EXIT_UNSCORED), done.output
    recipe = json.loads((out / "generated-motions" / "dance1.json").read_text())
    assert recipe["settings"] == {"training_set": made.sha256}
    plan = run("--model", "random-phrases", "--training-set", tmp_path / "set", "--plan")
    assert "3 by random-phrases, of which 3 are in" in plan.output
    missing = run("--model", "random-phrases", "--training-set", tmp_path / "none", "--plan").exception
    assert "no finished training set" in str(missing)
    idle = run("--motions", folder, "--training-set", tmp_path / "set").exception
    assert "--training-set cannot be used with --motions" in str(idle)
    wrong = run("--model", "motion-expert", "--training-set", tmp_path / "set").exception
    assert "does not take --training-set" in str(wrong)


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
