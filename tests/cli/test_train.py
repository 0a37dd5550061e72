"""`macebench train` and `macebench ablate` from the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import typer

from macebench import registry
from macebench.cli import main
from macebench.cli.app import app
from macebench.models.training.ablation import VARIANTS
from macebench.models.training.config import TrainingConfig
from macebench.models.training.data import ItemInfo, build_training_set
from macebench.types import Motion


class Turning:
    """A dancer who turns in place."""

    def __init__(self, number):
        split = "val" if number == 2 else "train"
        self.info = ItemInfo(f"turn-{number}", "pop", "test", "CC0-1.0", "synthetic", number, "", split)
        self.number = number

    def recipe(self):
        return {"kind": "turn", "number": self.number}

    def load(self):
        n = 100
        rotations = np.zeros((n, 24, 3))
        rotations[:, 0, 1] = np.sin(np.arange(n) / (8 + self.number))
        rotations[:, 16:20, 2] = 0.5 * np.sin(np.arange(n) / (5 + self.number))[:, None]
        music = np.random.default_rng(self.number).normal(size=(n, 35))
        music[:, 33:] = 0
        music[::15, 34] = 1
        return Motion(30.0, np.zeros((n, 24, 3)), rotations, np.full((n, 3), 0.4)), music


class Turns:
    def items(self):
        return [Turning(number) for number in range(3)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("turns") / "set"
    build_training_set([Turns()], folder)
    return folder


SMALL = [
    "--set", "model=tiny", "--set", "batch=2", "--set", "horizon=40", "--set", "validation.ddim_steps=2",
    "--set", "validation.clips=2", "--set", "device=cpu", "--threads", "1",
]  # fmt: skip


def test_train_resumes_and_is_finished(data, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "motion-expert", "--out", str(out), "--data", str(data), *SMALL]
    assert main([*command, "--steps", "2"]) == 0
    text = capsys.readouterr().out
    assert "dances: 2 used, 1 held out, 0 left out" in text
    assert "parameters  1" in text
    assert "(mean of the last 2 steps)" in text
    assert f"run folder  {out}" in text
    assert "div_k_real" in text
    assert main([*command, "--steps", "3"]) == 0
    assert "goes on from step 2\nfrom step 2 on: steps 3, before 2" in capsys.readouterr().out
    assert main([*command, "--steps", "1"]) == 2
    assert "3 steps already, 1 are asked for" in capsys.readouterr().err
    assert main([*command, "--steps", "1", "--fresh", "--data", "demmo:12"]) == 2
    assert "data 'demmo:12' is no data set" in capsys.readouterr().err
    assert json.loads((out / "train.json").read_text("utf-8"))["steps"] == 3
    assert main([*command, "--steps", "3", "--set", "seed=4"]) == 2
    assert "--fresh" in capsys.readouterr().err
    assert main([*command, "--steps", "3", "--set", "seed=4", "--fresh"]) == 0


def test_config_file_and_its_mistakes(data, tmp_path, capsys):
    path = tmp_path / "train.yaml"
    path.write_text(f"model: tiny\ndata: {data}\nsteps: 1\nbatch: two\n", "utf-8")
    command = ["train", "motion-expert", "--config", str(path), "--out", str(tmp_path / "run")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "train.yaml, line 4: batch is" in error
    assert "--print-config" in error
    assert not (tmp_path / "run").exists()


def test_print_config_needs_no_folder_and_can_be_used(tmp_path, capsys):
    assert main(["train", "motion-expert", "--print-config", "--set", "lr=1e-3"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "c.yaml"
    path.write_text(text, "utf-8")
    assert main(["train", "motion-expert", "--print-config", "--config", str(path)]) == 0
    assert capsys.readouterr().out == text
    assert "lr: 0.001" in text
    assert main(["train", "motion-expert", "--print-config", "--set", "recipe=released"]) == 0
    assert "batch: 128\n" in capsys.readouterr().out


def test_plan_says_what_it_would_take(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "motion-expert", "--out", str(out), "--data", str(data), *SMALL, "--plan"]) == 0
    text = capsys.readouterr().out
    assert "3 sequences, 300 frames" in text
    assert "dances: 2 used, 1 held out, 0 left out" in text
    assert "steps left        20000" in text
    assert not (out / "checkpoints").exists()


def test_what_is_missing_or_wrong(data, tmp_path, capsys):
    assert main(["train", "motion-expert"]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["train", "motion-expert", "--out", str(tmp_path), "--data", "aist:/not/there"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["train", "motion-expert", "--out", str(tmp_path), "--set", "precision=bf16", *SMALL]) == 2
    assert "bf16" in capsys.readouterr().err


PLUGIN = """
import numpy as np

from macebench.models.training.data import ItemInfo
from macebench.registry import dances
from macebench.types import Motion


class Nod:
    def __init__(self, number, bend):
        split = "val" if number == 2 else "train"
        self.info = ItemInfo(f"nod-{number}", "pop", "test", "CC0-1.0", "synthetic", number, "", split)
        self.number, self.bend = number, bend

    def recipe(self):
        return {"kind": "nod", "number": self.number, "bend": self.bend}

    def load(self):
        n = 80
        rotations = np.zeros((n, 24, 3))
        rotations[:, 15, 0] = self.bend * np.sin(np.arange(n) / (4 + self.number))
        return Motion(30.0, np.zeros((n, 24, 3)), rotations, np.full((n, 3), 0.4)), np.zeros((n, 35))


@dances("nods")
class Nods:
    def __init__(self, bend="0.5"):
        self.bend = float(bend)

    def items(self):
        return [Nod(number, self.bend) for number in range(3)]


@dances("nothing-to-say")
class Plain:
    def items(self):
        return []
"""


def test_dances_of_a_plugin(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(registry._registered, "dances", dict(registry._registered["dances"]))
    (tmp_path / "nods.py").write_text(PLUGIN, "utf-8")
    out = tmp_path / "run"
    command = ["train", "motion-expert", "--plugin", str(tmp_path / "nods.py"), "--steps", "1", *SMALL]
    assert main([*command, "--out", str(out), "--data", "nods:0.25", "--workers", "2"]) == 0
    assert json.loads((out / "train.json").read_text("utf-8"))["data"] == ["nods:0.25"]
    table = json.loads(next((out / "data").glob("*/sequences.json")).read_text("utf-8"))
    assert [row["id"] for row in table["sequences"]] == ["nod-0", "nod-1", "nod-2"]
    assert main([*command, "--out", str(tmp_path / "two"), "--data", "nods"]) == 0
    other = json.loads(next((tmp_path / "two" / "data").glob("*/sequences.json")).read_text("utf-8"))
    assert other["recipe"] != table["recipe"]
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "three"), "--data", "nothing-to-say:x"]) == 2
    assert "Try nothing-to-say alone" in capsys.readouterr().err


def test_help_names_what_is_there():
    command = typer.main.get_command(app)
    for name in ("train", "ablate"):
        options = {option.name: option for option in command.commands[name].commands["motion-expert"].params}
        assert str(TrainingConfig().steps) in options["steps"].help
        assert all(kind in options["data"].help for kind in registry.BUILTIN["dances"])
    assert all(variant in options["variant"].help for variant in VARIANTS)


def test_ablate(data, tmp_path, capsys):
    command = ["ablate", "motion-expert", "--out", str(tmp_path), "--data", str(data), *SMALL]
    assert main(
        [*command, "--steps", "1", "--seeds", "1", "--variant", "full", "--clips", "2", "--ddim-steps", "1"]
    ) in (0, 3)
    text = capsys.readouterr().out
    assert "Equal budget of 1 steps" in text
    assert "| real dances |" in text
    assert (tmp_path / "table.csv").is_file()
    table = (tmp_path / "table.md").read_text("utf-8")
    assert main([*command, "--steps", "2", "--seeds", "1", "--variant", "full", "--variant", "bimamba->mamba"]) == 2
    assert "another budget (1 steps) than the 2 steps" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "table.md").read_text("utf-8") == table
    assert main([*command, "--variant", "half"]) == 2
    assert "full" in capsys.readouterr().err


def test_settings_are_printed_without_torch():
    code = (
        "import sys; from macebench.cli import main; status = main(['train', 'motion-expert', '--print-config']); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
