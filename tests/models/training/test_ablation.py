"""Ablations: variants by settings alone, one budget, a table that says what was measured, resumable."""

import csv
import math

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.models.training import ablation
from macebench.models.training.ablation import (
    COLUMNS,
    VARIANTS,
    Ablation,
    ablate,
    folder_name,
    markdown,
    parse_betas,
    variant_config,
)
from macebench.models.training.config import load_config
from macebench.models.training.data import ItemInfo, build_training_set
from macebench.models.training.trainer import train
from macebench.types import Motion

CHANGES = (
    "model=tiny",
    "steps=2",
    "batch=2",
    "horizon=40",
    "threads=1",
    "device=cpu",
    "validation.batches=1",
    "seed=5",
)


class Nodding:
    """A dance in closed form with a constant beat."""

    def __init__(self, number):
        self.number = number
        split = "val" if number % 2 else "train"
        self.info = ItemInfo(f"nod-{number}", "pop", "test", "CC0-1.0", "synthetic", number, "", split)

    def recipe(self):
        return {"kind": "nod", "number": self.number}

    def load(self):
        n, period = 130, 12 + self.number
        t = np.arange(n)[:, None, None]
        joint, axis = np.arange(24)[None, :, None], np.arange(3)[None, None]
        rotations = 0.3 * np.sin(2 * np.pi * t / period + joint * axis + self.number)
        music = np.random.default_rng(self.number).normal(size=(n, 35))
        music[:, 33:] = 0
        music[::period, 34] = 1
        return Motion(30.0, np.zeros((n, 24, 3)), rotations, np.full((n, 3), 0.5)), music


class Nods:
    """A source of `Nodding` dances."""

    def items(self):
        return [Nodding(number) for number in range(4)]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nods") / "set"
    build_training_set([Nods()], folder)
    return load_config(changes=[*CHANGES, f'data=["{folder}"]'])


@pytest.fixture(scope="module")
def done(config, tmp_path_factory):
    job = Ablation(config, tmp_path_factory.mktemp("ablation"), seeds=2, clips=3, ddim_steps=2, betas=(0.5, 1.0))
    return job, ablate(job)


def test_variants_differ_by_what_the_table_says(config):
    base = variant_config(config, "full", 5)
    assert (base.network_config().mixer, base.guidance) == ("bimamba", "paper")
    for name in VARIANTS:
        made = variant_config(config, name, 5)
        same = made.model_dump(exclude={"network", "guidance"})
        assert same == base.model_dump(exclude={"network", "guidance"})
    assert variant_config(config, "bimamba->mamba", 5).network_config().mixer == "mamba"
    assert variant_config(config, "bimamba->transformer", 5).network_config().mixer == "transformer"
    assert variant_config(config, "gft->cfg", 5).network_config().guidance == "cfg"
    assert variant_config(config, "full", 6).seed == 6


def test_every_variant_and_seed_is_a_run(done):
    job, result = done
    assert list(result.values) == list(VARIANTS)
    for name in VARIANTS:
        for seed in (5, 6):
            assert (job.out / folder_name(name, seed) / "model.safetensors").is_file()
        assert all(len(result.values[name][column]) == 2 for column in COLUMNS)
    assert math.isfinite(result.values["full"]["fid_k"][0])
    assert all(value > 0 for value in result.values["gft->cfg"]["fps"])


def test_the_table_says_what_was_measured(done):
    job, result = done
    assert "Equal budget of 2 steps of 2 windows of 40 frames, preset tiny, seeds 5 to 6" in result.markdown
    assert (job.out / "table.md").read_text("utf-8") == result.markdown
    with result.table.open(encoding="utf-8", newline="") as file:
        rows = {(row["variant"], row["column"]): row for row in csv.DictReader(file)}
    values = result.values["gft->cfg"]["div_k"]
    row = rows["gft->cfg", "div_k"]
    assert float(row["mean"]) == pytest.approx(np.mean(values))
    assert float(row["deviation"]) == pytest.approx(np.std(values, ddof=1))
    assert [float(row["seed_0"]), float(row["seed_1"])] == pytest.approx(values)
    assert float(rows["real dances", "div_k"]["mean"]) == pytest.approx(result.real["div_k"])
    assert result.plot.read_bytes().startswith(b"\x89PNG")
    assert (job.out / "beta.png").is_file()


def test_what_was_done_is_not_done_again(done, monkeypatch):
    job, result = done
    monkeypatch.setattr(ablation, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(ablation, "_score", lambda *_: pytest.fail("scored again"))
    again = ablate(Ablation(job.config, job.out, seeds=2, clips=3, ddim_steps=2))
    assert again.markdown == result.markdown


def test_one_data_set_serves_all(config, tmp_path):
    made = config.model_copy(update={"steps": 1})
    job = Ablation(made, tmp_path, seeds=1, variants=("full", "gft->cfg"), clips=2, ddim_steps=1, limit=4)
    result = ablate(job)
    assert list(result.values) == ["full", "gft->cfg"]
    assert len(list((tmp_path / "data").iterdir())) == 1
    assert not (tmp_path / "full-seed5" / "data").exists()


@pytest.mark.parametrize("steps", [1, 3])
def test_another_budget_in_the_same_folder_is_refused(done, steps):
    job, _ = done
    before = {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
    other = job.config.model_copy(update={"steps": steps})
    with pytest.raises(UserError, match=rf"full-seed5 has another budget \(2 steps\) than the {steps} steps") as error:
        ablate(Ablation(other, job.out, seeds=2, clips=3, ddim_steps=2))
    assert "another --out" in error.value.hint
    assert {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()} == before


def test_a_training_that_was_prolonged_is_no_equal_budget(config, tmp_path):
    out = tmp_path / folder_name("full", 5)
    for steps in (1, 2):
        made = variant_config(config.model_copy(update={"steps": steps}), "full", 5)
        train(made, out, data_folder=tmp_path / "data")
    with pytest.raises(UserError, match=r"2 steps; from step 1 on: steps 2, before 1"):
        ablate(Ablation(config, tmp_path, seeds=1, variants=("full",), clips=2, ddim_steps=1))
    (out / "train.json").unlink()  # killed before the end: the checkpoint says so
    with pytest.raises(UserError, match=r"from step 1 on"):
        ablate(Ablation(config, tmp_path, seeds=1, variants=("full",), clips=2, ddim_steps=1))


@pytest.mark.parametrize("change", ["guidance=cfg", "network.mixer=mamba"])
def test_settings_that_are_a_variant_already(config, change):
    made = load_config(changes=[*CHANGES, change])
    with pytest.raises(UserError, match="full model"):
        Ablation(made, config)  # type: ignore[arg-type]


def test_an_unknown_variant(config, tmp_path):
    with pytest.raises(UserError, match=r"unknown variant 'gft>cfg'.*gft->cfg"):
        Ablation(config, tmp_path, variants=("gft>cfg",))


def test_too_little_held_out_data(config, tmp_path):
    made = config.model_copy(update={"validation": config.validation.model_copy(update={"frames": 129}), "steps": 1})
    build_training_set([type("Two", (), {"items": lambda _: [Nodding(0), Nodding(1)]})()], tmp_path / "set")
    job = Ablation(
        made.model_copy(update={"data": (str(tmp_path / "set"),)}), tmp_path / "out", seeds=1, variants=("full",)
    )
    with pytest.raises(UserError, match="1 held-out pieces of 129 frames"):
        ablate(job)
    assert not (tmp_path / "out" / "full-seed5").exists()


def test_missing_values_are_shown_as_missing(config, tmp_path):
    job = Ablation(config, tmp_path, seeds=3)
    held = {name: [math.nan] * 3 for name in COLUMNS} | {"fid_k": [1.0, math.nan, 3.0]}
    text = markdown(job, {"full": held}, dict.fromkeys(COLUMNS, math.nan))
    assert "| full | 2 +- 1.41 (n=2) | - |" in text


def test_temperatures():
    assert parse_betas(None) == ()
    assert parse_betas("0.25,0.5,1") == (0.25, 0.5, 1.0)
    for text in ("a", "0", "1.1", "0.5,"):
        with pytest.raises(UserError, match="--betas"):
            parse_betas(text)
