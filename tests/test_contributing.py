"""Every example of CONTRIBUTING.md is executed, as a user would."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from macebench.media import write_wav
from macebench.models.training.data import TrainingSet
from macebench.motion import read_motion

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python (?:file=(?P<file>\S+)|(?P<run>run))\n(?P<code>.*?)^```$", re.M | re.S)
BLOCKS = list(BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text("utf-8")))
FILES = {block["file"]: block["code"] for block in BLOCKS if block["file"]}
SNIPPETS = [block["code"] for block in BLOCKS if block["run"]]


def clicks(seconds, bpm, rate=22050):
    since = (np.arange(int(seconds * rate)) / rate) % (60 / bpm)
    return (np.sin(2 * np.pi * 1000 * since) * np.exp(-since / 0.01)).astype(np.float32)


@pytest.fixture
def workshop(tmp_path, tiny_world):
    """A folder with the examples as files and a small data set called ``dataset``."""
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    (tmp_path / "dataset").symlink_to(tiny_world.videos)
    return tmp_path


def run(workshop, *command, status=0):
    done = subprocess.run(command, cwd=workshop, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def macebench_eval(workshop, tiny_world, *options):
    common = ["--poses", str(tiny_world.poses), "--reference", str(tiny_world.videos), "--no-report"]
    run(workshop, sys.executable, "-m", "macebench", "eval", *common, "--out", "run", *options)
    result = json.loads((workshop / "run" / "result.json").read_text())
    return {score["name"]: score for score in result["entries"][0]["scores"]}


def test_there_is_an_example_of_each_kind():
    assert set(FILES) == {"jerk.py", "centroid.py", "sway.py", "portrait.py", "copies.py", "swings.py"}
    assert len(SNIPPETS) == 2


def test_a_clip_metric(workshop, tiny_world):
    scores = macebench_eval(
        workshop, tiny_world, "--videos", str(tiny_world.videos), "--plugin", "jerk.py", "--metric", "jerk"
    )
    assert scores["jerk"]["n"] == tiny_world.n
    assert scores["jerk"]["value"] > 0
    assert scores["jerk"]["unit"] == "px/s^3"


def test_a_set_metric(workshop, tiny_world):
    scores = macebench_eval(
        workshop, tiny_world, "--videos", str(tiny_world.videos), "--plugin", "centroid.py", "--metric", "centroid"
    )
    assert scores["centroid"]["value"] == 0
    assert scores["centroid"]["n"] == tiny_world.n


def test_a_stage(workshop):
    assert "in the ledger" in run(workshop, sys.executable, "-c", SNIPPETS[0])


def test_a_data_set(workshop, tiny_world):
    code = "from copies import *; build_copies(Path('made'), source=Path('dataset'))"
    run(workshop, sys.executable, "-c", code)
    command = [
        sys.executable,
        "-m",
        "macebench",
        "eval",
        "--videos",
        str(tiny_world.videos),
        "--reference",
        "made:train",
    ]
    assert "reference clips   3 (made:train)" in run(workshop, *command, "--poses", str(tiny_world.poses), "--plan")


def test_a_model_makes_motions(workshop):
    sounds = workshop / "songs"
    sounds.mkdir()
    write_wav(sounds / "clicks.wav", clicks(3.0, 120), 22050)
    command = [sys.executable, "-m", "macebench", "generate", "--model", "sway", "--plugin", "sway.py"]
    run(workshop, *command, "--music", "songs", "--format", "npz", "--out", "swaying")
    motion = read_motion(workshop / "swaying" / "clicks.npz")
    assert (len(motion), motion.fps) == (60, 30.0)
    assert abs(motion.rotations[:, 3, 2]).max() > 0.25
    refused = subprocess.run([*command, "--music", "songs", "--beta", "0.5"], cwd=workshop, capture_output=True,
                             text=True, check=False)  # fmt: skip
    assert refused.returncode == 2
    assert "does not take --beta" in refused.stderr


@pytest.mark.slow
def test_training_dances(workshop):
    assert run(workshop, sys.executable, "-c", SNIPPETS[1]) == "5 dances, 0 left out, 750 frames\n"
    made = TrainingSet.open(workshop / "training-set")
    assert [row.id for row in made.sequences if row.split == "val"] == ["swing-110"]
    for row in made.sequences:
        beats = np.flatnonzero(made.music[made.rows(row), 34])
        bpm = 60 * 30 / np.median(np.diff(beats))
        assert bpm == pytest.approx(int(row.id.split("-")[1]), rel=0.06)
    command = [sys.executable, "-m", "macebench", "train", "motion-expert", "--data", "training-set", "--out", "swings"]
    quick = ["--steps", "2", "--threads", "1"]
    small = ["model=tiny", "batch=2", "validation.clips=0", "validation.batches=0", "device=cpu"]
    run(workshop, *command, *quick, *(word for change in small for word in ("--set", change)))
    assert (workshop / "swings" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_model(workshop, tiny_world, blazepose_weights):
    command = [sys.executable, "-m", "macebench", "eval", "--model", "sway", "--plugin", "sway.py"]
    options = ["--reference", str(tiny_world.videos), "--limit", "2", "--out", "run", "--no-report"]
    done = subprocess.run([*command, *options], cwd=workshop, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    videos = sorted((workshop / "run" / "generated").glob("*.mp4"))
    assert len(videos) == 2
    entry = json.loads((workshop / "run" / "result.json").read_text())["entries"][0]
    assert entry["model"]["name"] == "sway"
    flicker = next(score for score in entry["scores"] if score["name"] == "temporal_flickering")
    assert flicker["n"] == 2
