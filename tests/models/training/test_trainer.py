"""Training: exact resume after kill -9, atomic checkpoints, what a finished run holds, clear errors."""

import csv
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from macebench.errors import MediaError, UserError
from macebench.models.motion_expert import checkpoint
from macebench.models.motion_expert.codec import decode
from macebench.models.training import _datasets, _state, _step, trainer
from macebench.models.training._curve import Curve, read_curve
from macebench.models.training._datasets import joint_speed_p99, network_for, notes_on_data
from macebench.models.training._device import Place, find_place
from macebench.models.training._prefetch import Prefetch
from macebench.models.training._state import checkpoints
from macebench.models.training.config import config_text, load_config
from macebench.models.training.data import ItemInfo, TrainingSet, build_training_set
from macebench.models.training.trainer import plan, train
from macebench.types import Motion

FRAMES = 40


class Swaying:
    """Dances in closed form: every joint sways in time with music of a constant beat."""

    def __init__(self, number):
        self.number = number
        split = "val" if number % 3 == 2 else "train"
        self.info = ItemInfo(f"sway-{number}", "pop", "test", "CC0-1.0", "synthetic", number, "", split)

    def recipe(self):
        return {"kind": "sway", "number": self.number}

    def load(self):
        n, period = 150, 12 + self.number
        t = np.arange(n)[:, None, None]
        joint, axis = np.arange(24)[None, :, None], np.arange(3)[None, None]
        rotations = 0.4 * np.sin(2 * np.pi * t / period + 0.3 * joint * axis + self.number)
        root = np.stack([0.2 * np.sin(t[:, 0, 0] / 9), np.full(n, 0.9), 0.1 * np.cos(t[:, 0, 0] / 7)], axis=1)
        music = np.random.default_rng(self.number).normal(size=(n, 35))
        music[:, 33:] = 0
        music[::period, 34] = 1
        return Motion(30.0, np.zeros((n, 24, 3)), rotations, root), music


class Sways:
    """A source of `Swaying` dances."""

    def items(self):
        return [Swaying(number) for number in range(6)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sways") / "set"
    build_training_set([Sways()], folder)
    return folder


def settings(data, *changes):
    base = [
        "model=tiny", f'data=["{data}"]', "steps=6", "batch=2", f"horizon={FRAMES}", "threads=1", "device=cpu",
        "save_every=2", "validate_every=0", "log_every=2", "warmup=2", "network.dropout=0.1",
        "validation.clips=0", "validation.batches=1", "validation.times=[100]",
    ]  # fmt: skip
    return load_config(changes=[*base, *changes])


def weights(path):
    return {name: value.numpy().copy() for name, value in checkpoint.load(path).network.state_dict().items()}


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    said = []
    result = train(settings(data), out, say=said.append)
    return out, result, said


def test_a_finished_run_holds_what_it_should(finished, data):
    out, result, said = finished
    rows = read_curve(out / "loss.csv")
    assert [row["step"] for row in rows] == list(range(6))
    assert all(row["loss"] > 0 for row in rows)
    parts = ("reconstruction", "velocity", "joints", "foot")
    assert [sum(row[name] for name in parts) for row in rows] == pytest.approx([row["loss"] for row in rows], rel=1e-5)
    assert [row["lr"] for row in rows] == pytest.approx([settings(data).learning_rate(k) for k in range(6)])
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((out / "train.json").read_text("utf-8"))
    assert record["steps"] == 6
    assert record["licences"] == {"CC0-1.0": 6}
    assert record["config_hash"] == settings(data).hash
    card = checkpoint.load(result.model).card
    assert (card["seed"], card["steps"], card["data_sha256"]) == (0, 6, record["data_sha256"])
    assert card["joint_speed_p99_m_s"] == joint_speed_p99(TrainingSet.open(data))
    assert result.loss == pytest.approx(np.mean([row["loss"] for row in rows]))
    assert (result.loss_steps, record["loss_last_steps"]) == (6, 6)
    assert result.validation["val_total"] > 0
    assert any(line.startswith("step 4") for line in said)
    assert load_config(out / "config.yaml") == settings(data)
    assert [step for step, _ in checkpoints(out)] == [4, 6]


def test_a_finished_run_is_not_trained_again(finished, data, monkeypatch):
    out, result, _ = finished
    monkeypatch.setattr(trainer.Run, "loop", lambda self: pytest.fail("trained again"))
    again = train(settings(data), out)
    assert (again.steps, again.loss) == (result.steps, result.loss)


def test_the_speed_of_joints_is_that_of_the_training_motions(data, monkeypatch):
    made = TrainingSet.open(data)
    speeds = []
    for item in made.sequences:
        if item.split == "train":
            joints = decode(np.asarray(made.motions[made.rows(item)], dtype=np.float64)).joints
            speeds.append(np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=1) * 30)
    everything = np.percentile(np.concatenate(speeds), 99)
    assert joint_speed_p99(made) == pytest.approx(everything, abs=1e-4)
    monkeypatch.setattr(_datasets, "MAX_SPEED_FRAMES", 400)
    assert joint_speed_p99(made) == pytest.approx(everything, rel=0.1)
    assert joint_speed_p99(made) != pytest.approx(everything, abs=1e-4)


def test_a_validation_without_numbers_says_nothing(data, tmp_path):
    said = []
    train(settings(data, "steps=1", "log_every=9", "validation.batches=0"), tmp_path / "run", say=said.append)
    assert not any(line.startswith("step") for line in said)


def opened(data, out, say=None, changes=()):
    config = settings(data, *changes)
    return trainer.Run.open(config, out, resume=True, limit=None, workers=1, record=False, say=say)


def test_the_network_of_the_running_mean_changes_no_random_state(data, tmp_path):
    run = opened(data, tmp_path)
    before = torch.random.get_rng_state()
    run.ema_network()
    assert torch.equal(before, torch.random.get_rng_state())


def decayed(state):
    """Name -> weight decay of each parameter."""
    names = {id(parameter): name for name, parameter in state.network.named_parameters()}
    groups = state.optimizer.param_groups
    return {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}


def test_weight_decay_is_for_matrices_alone(data, tmp_path):
    state = opened(data, tmp_path).state
    found = decayed(state)
    assert set(found) == set(dict(state.network.named_parameters()))
    for name, parameter in state.network.named_parameters():
        spared = parameter.ndim < 2 or name.endswith((".A_log", ".D")) or name == "null_cond_embed"
        assert (found[name] == 0) == spared, name
    assert sum(name.endswith(".A_log") for name in found) > 1


def test_a_run_that_decayed_the_null_embedding_goes_on_so(data, tmp_path, monkeypatch):
    monkeypatch.setattr(_state._parameters, "__defaults__", (frozenset(),))
    run = tmp_path / "run"
    whole = train(settings(data), run)
    kept = (run / "loss.csv").read_bytes(), whole.model.read_bytes()
    for path in (run / "checkpoints" / "step-00000006.pt", run / "model.safetensors", run / "train.json"):
        path.unlink()
    monkeypatch.undo()
    assert decayed(opened(data, run).state)["null_cond_embed"] > 0
    train(settings(data), run)
    assert ((run / "loss.csv").read_bytes(), whole.model.read_bytes()) == kept


def test_the_written_weights_are_the_running_mean(finished, data):
    out, result, _ = finished
    saved = torch.load(out / "checkpoints" / "step-00000006.pt", weights_only=True)
    stored = weights(result.model)
    for name, value in stored.items():
        np.testing.assert_allclose(value, saved["ema"][name].numpy(), atol=1e-3, rtol=1e-3)
    assert any(not np.array_equal(saved["ema"][name], saved["network"][name]) for name in stored)


def test_stopped_and_resumed_gives_the_same_bytes(finished, data, tmp_path, monkeypatch):
    out, result, _ = finished
    real, done = trainer.update, []

    def stopping(*args):
        row = real(*args)
        done.append(row)
        if len(done) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return row

    monkeypatch.setattr(trainer, "update", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(settings(data), tmp_path / "run")
    assert checkpoints(tmp_path / "run")[-1][0] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train(settings(data), tmp_path / "run")
    assert (tmp_path / "run" / "loss.csv").read_bytes() == (out / "loss.csv").read_bytes()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == result.model.read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
from macebench.models.training import trainer
from macebench.models.training.config import config_text, load_config
real, done = trainer.update, []
def update(*args):
    done.append(0)
    if len(done) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
trainer.update = update
trainer.train(load_config(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_killed_and_started_again_gives_the_same_curve(finished, data, tmp_path):
    out, result, _ = finished
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED), "utf-8")
    run = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(out / "config.yaml"), str(run)], env=environment, check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    assert [row["step"] for row in read_curve(run / "loss.csv")] == [0, 1, 2, 3, 4]  # one row after the checkpoint
    assert checkpoints(run)[-1][0] == 4
    assert not (run / "model.safetensors").exists()
    train(settings(data), run)
    assert (run / "loss.csv").read_bytes() == (out / "loss.csv").read_bytes()
    assert (run / "validation.csv").read_bytes() == (out / "validation.csv").read_bytes()
    assert (run / "model.safetensors").read_bytes() == result.model.read_bytes()


def test_another_seed_gives_another_curve(finished, data, tmp_path):
    train(settings(data, "seed=1"), tmp_path / "run")
    assert (tmp_path / "run" / "loss.csv").read_bytes() != (finished[0] / "loss.csv").read_bytes()


def test_other_settings_cannot_go_on(finished, data):
    with pytest.raises(UserError, match=r"made with lr 0\.0004, now it is 0\.001") as error:
        train(settings(data, "lr=1e-3"), finished[0])
    assert "--fresh" in error.value.hint


def test_other_data_cannot_go_on(data, tmp_path):
    train(settings(data, "steps=2"), tmp_path / "run")

    class Fewer:
        def items(self):
            return Sways().items()[:4]

    build_training_set([Fewer()], tmp_path / "other")
    with pytest.raises(UserError, match="other training data"):
        train(settings(tmp_path / "other", "steps=3"), tmp_path / "run")


def test_fresh_starts_anew(data, tmp_path):
    train(settings(data, "steps=2"), tmp_path / "run")
    train(settings(data, "steps=2", "seed=3"), tmp_path / "run", resume=False)
    assert json.loads((tmp_path / "run" / "train.json").read_text("utf-8"))["seed"] == 3


def everything(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "change",
    [
        'data=["nothing"]',
        "horizon=200",
        "validation.protocol=none/1",
        "start_from=/not/there.safetensors",
        "own weights",
    ],
)
def test_fresh_removes_nothing_before_settings_and_data_are_found_good(finished, data, tmp_path, change):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    before = everything(run)
    if change == "own weights":
        change = f"start_from={run / 'model.safetensors'}"
    with pytest.raises(UserError):
        train(settings(data, change), run, resume=False)
    assert everything(run) == before


def test_fewer_steps_than_there_are_is_refused(finished, data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    before = everything(run)
    with pytest.raises(UserError, match="has 6 steps already, 4 are asked for") as error:
        train(settings(data, "steps=4"), run)
    assert "--fresh" in error.value.hint
    assert everything(run) == before


def test_a_run_that_lacks_only_its_end_is_scored_once(finished, data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    (run / "train.json").unlink()
    train(settings(data), run)
    for name in ("validation.csv", "loss.csv", "model.safetensors"):
        assert (run / name).read_bytes() == (finished[0] / name).read_bytes()


def test_the_weights_of_fewer_steps_are_not_taken_for_the_end(data, tmp_path):
    run = tmp_path / "run"
    train(settings(data, "steps=2"), run)
    short = {name: (run / name).read_bytes() for name in ("model.safetensors", "train.json")}
    said = []
    whole = train(settings(data, "steps=4"), run, say=said.append)
    assert "from step 2 on: steps 4, before 2" in said
    kept = whole.model.read_bytes()
    for name, content in short.items():  # killed after the last checkpoint, before the weights
        (run / name).write_bytes(content)
    assert train(settings(data, "steps=4"), run).steps == 4
    assert whole.model.read_bytes() == kept


def test_what_is_used_held_out_and_left_out_is_said(tmp_path):
    class Some:
        def items(self):
            return [*Sways().items(), Broken(6), Broken(7)]

    class Broken(Swaying):
        def load(self):
            raise MediaError("no music", f"dance {self.number}")

    made = build_training_set([Some()], tmp_path / "set")
    said = []
    opened(made.folder, tmp_path / "run", said.append)
    assert "dances: 4 used, 2 held out, 2 left out (2 no music)" in said
    assert any(str(tmp_path / "set" / "sequences.json") in line for line in said)
    assert not any("warning" in line for line in said)
    assert (
        notes_on_data(made, 151)[0] == "dances: 0 used, 0 held out, 8 left out (6 shorter than 151 frames; 2 no music)"
    )


def test_nothing_held_out_is_a_warning(tmp_path):
    class Training(Sways):
        def items(self):
            return [item for item in super().items() if item.info.split == "train"]

    build_training_set([Training()], tmp_path / "set")
    said = []
    opened(tmp_path / "set", tmp_path / "run", said.append)
    assert "dances: 4 used, 0 held out, 0 left out" in said
    assert any("warning: no dance is held out" in line for line in said)


def test_more_steps_go_on(data, tmp_path):
    train(settings(data, "steps=2"), tmp_path / "run")
    result = train(settings(data, "steps=4"), tmp_path / "run")
    assert result.steps == 4
    record = json.loads((tmp_path / "run" / "train.json").read_text("utf-8"))
    assert record["history"] == ["from step 2 on: steps 4, before 2"]
    assert len(read_curve(tmp_path / "run" / "loss.csv")) == 4


def test_a_damaged_checkpoint_is_passed_over(finished, data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    for name in ("model.safetensors", "train.json"):
        (run / name).unlink()
    checkpoints(run)[-1][1].write_bytes(b"PK\x03\x04 nothing")
    said = []
    train(settings(data), run, say=said.append)
    assert any("cannot be read" in line for line in said)
    assert any("goes on from step 4" in line for line in said)
    assert (run / "loss.csv").read_bytes() == (finished[0] / "loss.csv").read_bytes()


def spoilt(path, kind):
    content = path.read_bytes()
    if kind == "another pickle":
        torch.save({"format": 1}, path)
    else:
        half = len(content) // 2
        path.write_bytes({
            "random": np.random.default_rng(0).bytes(4096), "empty": b"", "half": content[:half],
            "a hole": content[:half] + bytes(2000) + content[half + 2000 :],
        }[kind])  # fmt: skip


@pytest.mark.parametrize("kind", ["random", "empty", "half", "a hole", "another pickle"])
def test_a_spoilt_checkpoint_is_passed_over_in_our_words(finished, data, tmp_path, kind):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    spoilt(checkpoints(run)[-1][1], kind)
    said = []
    opened(data, run, said.append)
    assert any("step-00000006.pt cannot be read: it is damaged" in line for line in said)
    assert not any("weights_only" in line or "torch" in line for line in said)
    assert any("goes on from step 4" in line for line in said)
    spoilt(checkpoints(run)[0][1], "random")
    with pytest.raises(UserError, match="none of the checkpoints") as error:
        opened(data, run)
    assert "--fresh" in error.value.hint


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed")])
def test_a_full_disk_leaves_the_older_checkpoint(data, tmp_path, monkeypatch, error):
    run = tmp_path / "run"
    train(settings(data, "steps=2"), run)
    before = checkpoints(run)[-1][1].read_bytes()
    real = torch.save

    def full(values, path):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(_state.torch, "save", full)
    with pytest.raises(UserError, match="cannot be written") as found:
        train(settings(data, "steps=4"), run)
    assert "full" in found.value.hint
    monkeypatch.setattr(_state.torch, "save", real)
    assert [(step, path.read_bytes() == before) for step, path in checkpoints(run)] == [(2, True)]
    assert not list((run / "checkpoints").glob("*.tmp"))
    assert train(settings(data, "steps=4"), run).steps == 4


def poisoned(monkeypatch, bad_steps):
    """Let the loss of some steps be no number."""
    real = _step.losses

    def losses(network, batch, draws, *rest):
        found = real(network, batch, draws, *rest)
        if poisoned.step in bad_steps:
            found = type(found)(*(getattr(found, name) * float("nan") for name in (*_step.TERMS[:4], "total")))
        poisoned.step += 1
        return found

    poisoned.step = 0
    monkeypatch.setattr(_step, "losses", losses)


def test_a_loss_that_is_no_number_stops_and_names_the_step(data, tmp_path, monkeypatch):
    poisoned(monkeypatch, {3})
    with pytest.raises(UserError, match=r"step 3: loss is nan.*checkpoint of step 2 is kept") as error:
        train(settings(data), tmp_path / "run")
    assert "bad_gradients=skip" in error.value.hint
    saved = torch.load(checkpoints(tmp_path / "run")[-1][1], weights_only=True)
    assert all(torch.isfinite(value).all() for value in saved["network"].values())


def test_bad_steps_can_be_left_out_and_are_counted(data, tmp_path, monkeypatch):
    poisoned(monkeypatch, {1, 3})
    result = train(settings(data, "bad_gradients=skip"), tmp_path / "run")
    assert (result.steps, result.skipped) == (6, 2)
    assert np.isfinite(result.loss)
    assert result.loss_steps == 4
    rows = read_curve(tmp_path / "run" / "loss.csv")
    assert [row["step"] for row in rows if not np.isfinite(row["loss"])] == [1, 3]
    assert all(np.isfinite(value).all() for value in weights(result.model).values())


def test_too_many_bad_steps_stop_even_so(data, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "MAX_SKIPPED_IN_A_ROW", 2)
    poisoned(monkeypatch, set(range(10)))
    with pytest.raises(UserError, match="step 2: loss is nan"):
        train(settings(data, "bad_gradients=skip"), tmp_path / "run")


@pytest.mark.parametrize("change", ["guidance=cfg", "guidance=released", "guidance=thu-ml", "loss=released",
                                    "network.mixer=mamba", "network.mixer=transformer", "optimizer=adan"])  # fmt: skip
def test_every_variant_trains_and_is_told_apart(data, tmp_path, change, finished):
    result = train(settings(data, "steps=3", change), tmp_path / "run")
    rows, others = read_curve(tmp_path / "run" / "loss.csv"), read_curve(finished[0] / "loss.csv")
    assert np.isfinite(result.loss)
    assert rows[2]["loss"] != others[2]["loss"]


@pytest.mark.parametrize("change", ["optimizer=adan", "guidance=thu-ml"])
def test_other_forms_go_on_with_the_same_bytes_too(data, tmp_path, change):
    config, run = settings(data, "steps=4", change), tmp_path / "run"
    whole = train(config, run)
    kept = [(run / "loss.csv").read_bytes(), whole.model.read_bytes()]
    for path in (run / "checkpoints" / "step-00000004.pt", run / "model.safetensors", run / "train.json"):
        path.unlink()
    train(config, run)
    assert [(run / "loss.csv").read_bytes(), whole.model.read_bytes()] == kept


def test_training_lowers_the_loss(data, tmp_path):
    changes = ("steps=60", "lr=3e-3", "network.dropout=0", "save_every=100", "guidance=cfg", "drop=0", "ema_decay=0.9")
    train(settings(data, *changes), tmp_path / "run")
    losses = [row["reconstruction"] for row in read_curve(tmp_path / "run" / "loss.csv")]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])


def test_plan_measures_and_leaves_no_run(data, tmp_path):
    found = plan(settings(data, "steps=100"), tmp_path / "run")
    assert found.steps_left == 100
    assert found.seconds == pytest.approx(100 * found.seconds_per_step)
    assert (found.sequences, found.frames) == (6, 900)
    assert not checkpoints(tmp_path / "run")
    assert not (tmp_path / "run" / "loss.csv").exists()


def test_bf16_on_a_cpu_is_refused(data):
    with pytest.raises(UserError, match="bf16") as error:
        find_place(settings(data, "precision=bf16"))
    assert "fp32" in error.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(data):
    with pytest.raises(UserError, match="no GPU"):
        find_place(settings(data, "device=cuda"))


@pytest.mark.parametrize("name", ["nothing", "demo:x", "demo:0", "aist:/not/there", "folder:/not/there", "cmu:"])
def test_data_that_is_none(tmp_path, name):
    with pytest.raises(UserError, match="data '") as error:
        train(load_config(changes=["model=tiny", f'data=["{name}"]', "threads=1", "device=cpu"]), tmp_path / "run")
    assert "demo" in error.value.hint


def test_sets_are_put_together_and_limited(data, tmp_path):
    config = settings(data, "steps=1", f'data=["{data}", "demo:2:3"]')
    train(config, tmp_path / "run", limit=2)
    record = json.loads((tmp_path / "run" / "train.json").read_text("utf-8"))
    assert record["sequences"] == 4


def test_what_a_step_draws_depends_on_seed_step_and_process_only(data):
    config = settings(data)
    motion = torch.zeros(2, FRAMES, 151)
    first, again = (_step.draw(config, 5, 0, motion, 1000) for _ in range(2))
    for name in ("times", "beta", "noise", "drop", "drop_genre"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    for other in ((6, 0), (5, 1)):
        assert not torch.equal(first.noise, _step.draw(config, *other, motion, 1000).noise)


def test_shares_that_are_drawn(data):
    config = settings(data, "drop=0.25", "genre_drop=0.5")
    drawn = _step.draw(config, 0, 0, torch.zeros(4000, 1, 1), 1000)
    assert float(drawn.drop.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert float(drawn.drop_genre.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert 0 <= int(drawn.times.min()) < 10
    assert 990 < int(drawn.times.max()) <= 999
    assert float(drawn.beta.mean()) == pytest.approx(0.5, abs=0.02)


def test_gradients_of_several_processes_are_averaged():
    class Two:
        def reduce(self, tensor, reduction):
            assert reduction == "mean"
            return tensor / 2  # the other process has zeros

    place = Place(torch.device("cpu"), 0, 2, accelerator=Two())
    first, second = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(4))
    first.grad = torch.arange(6.0).reshape(2, 3)
    place.average_gradients([first, second])
    assert torch.equal(first.grad, torch.arange(6.0).reshape(2, 3) / 2)
    assert torch.equal(second.grad, torch.zeros(4))
    assert place.any(True)
    assert not place.any(False)


def test_prefetch_keeps_the_order_and_passes_errors_on():
    def make(step):
        if step == 3:
            raise UserError("no more")
        return step * 10

    with Prefetch(make, range(10)) as batches:
        assert [batches.get(step) for step in range(3)] == [0, 10, 20]
        with pytest.raises(UserError, match="no more"):
            batches.get(3)
    with Prefetch(make, range(3)) as batches, pytest.raises(RuntimeError, match="step 0 is next"):
        batches.get(1)


def test_prefetch_ends_while_its_queue_is_full():
    with Prefetch(lambda step: step, range(1000)) as batches:
        batches.get(0)
        time.sleep(0.05)
    assert not batches._thread.is_alive()


def test_a_curve_drops_half_a_row_and_later_rows(tmp_path):
    path = tmp_path / "c.csv"
    with Curve(path, ("a", "b")) as curve:
        for step in range(4):
            curve.add(step, {"a": step / 3, "b": float("nan")})
    with path.open("a", encoding="utf-8") as file:
        file.write("4,0.1")
    assert len(read_curve(path)) == 4
    with Curve(path, ("a", "b"), 2) as curve:
        curve.add(2, {"a": 1.0, "b": 2.0})
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert [(row["step"], row["a"], row["b"]) for row in rows] == [
        ("0", "0", ""), ("1", "0.333333333", ""), ("2", "1", "2"),
    ]  # fmt: skip


def test_a_curve_that_is_none(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(UserError, match="no column"):
        read_curve(path)


class Larger(Swaying):
    """The same dances on another path, to other music, of a genre that can be named."""

    def __init__(self, number, genre="pop"):
        super().__init__(number)
        self.info = dataclasses.replace(self.info, genre=genre)
        self.genre = genre

    def recipe(self):
        return super().recipe() | {"kind": "larger", "genre": self.genre}

    def load(self):
        motion, music = super().load()
        return dataclasses.replace(motion, root=3 * motion.root), 5 * music + 2


def larger(folder, genre="pop"):
    source = type("Source", (), {"items": lambda _: [Larger(number, genre) for number in range(6)]})()
    return build_training_set([source], folder)


STANDARD = "network.standardise_music=true"


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    return train(settings(data, "steps=1", STANDARD), tmp_path_factory.mktemp("base") / "run").model


def test_weights_to_begin_with_keep_their_units(data, base, tmp_path):
    before, other = checkpoint.load(base), larger(tmp_path / "set", "funk")
    changes = ("steps=1", STANDARD, f"start_from={base}")
    own = network_for(settings(other.folder, *changes), other)
    assert own.music_mean != before.config.music_mean
    said = []
    result = train(settings(other.folder, *changes), tmp_path / "run", say=said.append)
    after = checkpoint.load(result.model)
    for name in ("scale", "minimum"):
        np.testing.assert_array_equal(getattr(after.normalizer, name), getattr(before.normalizer, name))
        assert not np.array_equal(getattr(after.normalizer, name), getattr(other.normalizer, name))
    assert (after.config.music_mean, after.config.music_std) == (before.config.music_mean, before.config.music_std)
    assert after.config.genres == before.config.genres
    assert any("kept of" in line and "normaliser" in line and "statistics" in line for line in said)
    assert any("outside the range of the kept normaliser" in line for line in said)
    run = trainer.Run.open(settings(other.folder, *changes), tmp_path / "new", resume=True, limit=None, workers=1)
    rows = other.motions[run.windows.starts(0)[0][0] + np.arange(FRAMES)]
    np.testing.assert_allclose(run.batch(0).motion[0], before.normalizer.normalize(rows), atol=1e-6)


def test_the_same_data_goes_on_with_its_own_numbers(data, base, tmp_path):
    said = []
    run = opened(data, tmp_path / "run", said.append, (STANDARD, f"start_from={base}"))
    assert run.identity["normalizer"] == run.identity["fitted"]
    assert run.network_config == network_for(run.config, TrainingSet.open(data))
    assert not any("kept" in line or "warning" in line for line in said)


def test_what_the_weights_cannot_mean_is_refused(data, base, tmp_path):
    salsa = larger(tmp_path / "set", "salsa").folder
    begin = f"start_from={base}"
    with pytest.raises(
        UserError, match=r"genre salsa, which .* does not know; it knows electro, funk, pop, any"
    ) as error:
        opened(salsa, tmp_path / "run", None, (STANDARD, begin))
    assert "network.genres" in error.value.hint
    named = opened(salsa, tmp_path / "run", None, (STANDARD, begin, "network.genres=[salsa, a, b, any]"))
    assert named.network_config.genres == ("salsa", "a", "b", "any")
    with pytest.raises(UserError, match="standardise_music True, now it is False"):
        opened(data, tmp_path / "run", None, (begin,))
    with pytest.raises(UserError, match="n_heads 2, now it is 4"):
        opened(data, tmp_path / "run", None, (STANDARD, begin, "network.n_heads=4"))
    with pytest.raises(UserError, match="other sizes"):
        opened(data, tmp_path / "run", None, (STANDARD, begin, "network.latent_dim=16"))


def test_a_run_that_used_its_own_normaliser_is_not_continued_with_the_base(data, base, tmp_path):
    other, run = larger(tmp_path / "set"), tmp_path / "run"
    changes = ("steps=2", STANDARD, f"start_from={base}")
    train(settings(other.folder, *changes), run)
    path = checkpoints(run)[-1][1]
    values = torch.load(path, weights_only=True)
    theirs = json.loads(values["identity"])
    del theirs["normalizer"], theirs["fitted"]  # as older versions wrote it
    torch.save(values | {"identity": json.dumps(theirs)}, path)
    with pytest.raises(UserError, match="another normaliser"):
        opened(other.folder, run, None, changes)


def test_checkpoints_of_older_versions_go_on(finished, data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    path = checkpoints(run)[-1][1]
    values = torch.load(path, weights_only=True)
    theirs = json.loads(values["identity"])
    del theirs["normalizer"], theirs["fitted"], theirs["config"]["decay"]
    torch.save(values | {"identity": json.dumps(theirs)}, path)
    assert opened(data, run).state.step == 6


def test_the_released_recipe_trains(data, tmp_path):
    changes = ("recipe=released", "model=tiny", "batch=2", "warmup=0", "steps=2")
    config = settings(data, *changes)
    assert [config.learning_rate(step) for step in (0, 1, 1_000_000)] == [4e-4] * 3
    result = train(config, tmp_path / "run")
    assert np.isfinite(result.loss)
    state = opened(data, tmp_path / "new", None, changes).state
    assert set(decayed(state).values()) == {0.02}
    assert state.ema.decay_of(0) == 0.9999
    assert type(state.optimizer).__name__ == "Adan"


@pytest.mark.parametrize(("clip", "expected"), [("null", 1.0), ("1e-3", 1e-3)])
def test_gradients_are_cut_where_the_settings_say_so(data, tmp_path, monkeypatch, clip, expected):
    found = {}
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: found.update(norm=norm(self)))

    def norm(optimizer):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in grads])))

    run = opened(data, tmp_path / "run", None, (f"clip={clip}", "loss_weights.reconstruction=50"))
    row = run.update(run.batch(0))
    assert found["norm"] == pytest.approx(row["gradient"] if clip == "null" else expected, rel=1e-3)
    assert row["gradient"] > expected


@pytest.mark.slow
def test_two_processes_share_the_work_and_stay_equal(data, tmp_path):
    pytest.importorskip("accelerate")
    config = tmp_path / "c.yaml"
    config.write_text(config_text(settings(data)), "utf-8")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "macebench", "train",
               "motion-expert", "--config", str(config), "--out", str(run)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder") == 1
    record = json.loads((run / "train.json").read_text("utf-8"))
    assert (record["world"], record["steps"]) == (2, 6)
    rows = read_curve(run / "loss.csv")
    torch.set_num_threads(1)
    alone = trainer.Run.open(settings(data), tmp_path / "alone", resume=True, limit=None, workers=1)
    halves = []
    for rank in range(2):  # the first loss of both processes, with the same first weights
        batch = _step.tensors(alone.windows.batch(rank), alone.genres, torch.device("cpu"))
        drawn = _step.draw(alone.config, 0, rank, batch.motion, 1000)
        torch.manual_seed(_step.mixed_seed(alone.config.seed, 0, rank, 1))
        alone.state.network.train()
        found = _step.losses(
            alone.state.network, batch, drawn, alone.schedule, alone.normalizer, alone.config, alone.place
        )
        halves.append(float(found.total.detach()))
    assert rows[0]["loss"] == pytest.approx(np.mean(halves), rel=1e-5)
