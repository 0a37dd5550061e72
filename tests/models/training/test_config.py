"""Settings of a training: strict, located mistakes, and what decides the weights."""

import dataclasses
import itertools
import math

import pytest

from macebench.errors import UserError
from macebench.models.training.config import (
    DROP,
    LATER,
    SCHEDULING,
    TrainingConfig,
    build_config,
    config_from_plain,
    config_text,
    load_config,
)


def write(folder, text):
    path = folder / "train.yaml"
    path.write_text(text, "utf-8")
    return path


def test_file_and_changes_give_settings(tmp_path):
    path = write(tmp_path, "model: tiny\nsteps: 30\nnetwork:\n  mixer: mamba\nvalidation:\n  clips: 2\n")
    config = load_config(path, ["lr=1e-3", "validation.ddim_steps=7", "network.dropout=0.2", "data=[demo, x]"])
    assert (config.model, config.steps, config.lr) == ("tiny", 30, 1e-3)
    assert (config.validation.clips, config.validation.ddim_steps) == (2, 7)
    assert config.data == ("demo", "x")
    network = config.network_config()
    assert (network.mixer, network.dropout, network.guidance) == ("mamba", 0.2, "gft")


def test_one_source_needs_no_list():
    assert load_config(changes=["data=demo"]).data == ("demo",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps: 10\nbatch: 0\n", ["train.yaml, line 2", "batch is 0", "greater than or equal to 1"]),
        ("stepz: 10\n", ["train.yaml, line 1", "'steps'", "Allowed are model, network"]),
        ("guidance: gfd\n", ["line 1", '"gfd"', "'paper', 'thu-ml', 'released' or 'cfg'"]),
        ("model: tiny\n\nvalidation:\n  clip: 1\n", ["line 4", "validation.clip", "clips"]),
        ("network:\n  mixers: mamba\n", ["line 2", "network.mixers", "'mixer'"]),
        ("network:\n  mixer: lstm\n", ["line 2", '"lstm"', "'bimamba', 'mamba' or 'transformer'"]),
        ("model: huge\n", ["line 1", "'huge'", "paper, released, small, tiny"]),
        ("seed: 1\nseed: 2\n", ["line 2", "seed stands twice"]),
        ("- a\n", ["line 1", "a mapping is allowed"]),
        ("a: [\n", ["no YAML"]),
        ("lr: .nan\n", ["line 1", "lr"]),
        ("data: []\n", ["line 1", "at least one set"]),
        ("guidance: released\ndrop: 0.5\n", ["line", "drop must be 0"]),
        ("validation:\n  times: [1000]\n", ["line", "0 to 999"]),
        ("guidance: cfg\nnetwork:\n  guidance: gft\n", ["line", "guidance"]),
    ],
)
def test_mistakes_name_file_line_value_and_what_is_allowed(tmp_path, text, expected):
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, text))
    for part in expected:
        assert part in error.value.message, error.value.message
    assert error.value.hint


@pytest.mark.parametrize("change", ["steps", "=3", "steps.x=3", ".a=1"])
def test_changes_of_a_wrong_form(change):
    with pytest.raises(UserError, match="--set"):
        load_config(changes=["steps=3", change])


def test_a_mistake_on_the_command_line_names_the_option():
    with pytest.raises(UserError, match=r"--set steps=-1: steps is -1"):
        load_config(changes=["steps=-1"])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_printed_settings_are_read_back(tmp_path):
    config = load_config(changes=["model=tiny", "guidance=cfg", "network.dropout=0.3", "validation.times=[1, 2]"])
    assert load_config(write(tmp_path, config_text(config))) == config
    assert config_from_plain(config.plain()) == config


def test_every_field_is_explained():
    for line in config_text(TrainingConfig()).splitlines():
        assert line.strip() != "# None"


def test_the_released_recipe_is_that_of_the_released_code(tmp_path):
    config = load_config(write(tmp_path, "recipe: released\nsteps: 100\n"))
    assert (config.model, config.guidance, config.loss, config.optimizer) == (
        "released",
        "released",
        "released",
        "adan",
    )
    assert (config.batch, config.lr, config.weight_decay, config.decay) == (128, 4e-4, 0.02, "all")
    assert (config.ema_decay, config.ema_warmup, config.clip) == (0.9999, False, None)
    assert (config.drop_share, config.genre_drop) == (0.0, 0.0)
    assert (config.learning_rate(0), config.learning_rate(99), config.window_frames()) == (4e-4, 4e-4, 1200)
    weights = config.loss_weights
    assert (weights.reconstruction, weights.velocity, weights.joints, weights.foot) == (0.636, 2.964, 0.646, 10.942)
    assert load_config(write(tmp_path, config_text(config))) == config
    assert load_config(changes=["recipe=released", "batch=4"]).batch == 4


def test_an_unknown_recipe(tmp_path):
    with pytest.raises(UserError, match=r"train.yaml, line 2: recipe is 'mine'; allowed are released"):
        load_config(write(tmp_path, "steps: 3\nrecipe: mine\n"))
    with pytest.raises(UserError, match=r"recipe is \['released'\]"):
        load_config(changes=["recipe=[released]"])


def test_fields_of_a_later_version_change_no_hash_while_they_do_what_was_done(monkeypatch):
    before = load_config().hash
    assert load_config(changes=["decay=all"]).hash != before
    fields = TrainingConfig().plain()
    assert {name: fields[name] for name in LATER} == LATER
    monkeypatch.setattr("macebench.models.training.config.LATER", {})
    assert load_config().hash != before


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        TrainingConfig().steps = 3  # type: ignore[misc]


def test_guidance_decides_the_network():
    assert load_config(changes=["model=tiny", "guidance=cfg"]).network_config().guidance == "cfg"
    assert load_config(changes=["model=tiny", "guidance=released"]).network_config().guidance == "gft"


def test_share_without_music_is_that_of_the_form():
    from macebench.models.diffusion.guidance import DROP_PROBABILITY

    assert DROP_PROBABILITY == DROP
    assert load_config(changes=["guidance=cfg"]).drop_share == 0.25
    assert load_config(changes=["guidance=cfg", "drop=0.5"]).drop_share == 0.5


def test_hash_covers_what_decides_the_weights():
    base = TrainingConfig(model="tiny")
    same = {"save_every": 3, "validate_every": 5, "log_every": 2, "threads": 1, "device": "cpu", "half": False}
    assert base.model_copy(update=same).hash == base.hash
    for name, value in {
        "lr": 1e-3,
        "seed": 5,
        "steps": 7,
        "batch": 3,
        "guidance": "cfg",
        "network": {"mixer": "mamba"},
    }.items():
        assert base.model_copy(update={name: value}).hash != base.hash, name
    assert set(TrainingConfig.model_fields) >= SCHEDULING


def test_learning_rate_rises_and_falls():
    config = TrainingConfig(lr=1.0, warmup=10, steps=110, lr_final=0.1)
    rates = [config.learning_rate(step) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.1 + 0.9 * 0.5)
    assert rates[110] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert TrainingConfig(lr=2.0, warmup=0, steps=1).learning_rate(0) == 2.0


def test_default_window_is_the_presets():
    assert TrainingConfig(model="tiny").window_frames() == TrainingConfig(model="tiny").network_config().horizon_frames
    assert TrainingConfig(model="tiny", horizon=33).window_frames() == 33


def test_loss_weights_default_to_those_of_the_losses():
    from macebench.models.diffusion.losses import LossWeights

    assert TrainingConfig().loss_weights.model_dump() == dataclasses.asdict(LossWeights())


def test_no_number_is_infinite():
    with pytest.raises(UserError, match="lr"):
        build_config(_located({"lr": math.inf}))


def _located(values):
    from macebench.models.training._located import Located

    return Located(values, {}, "settings")
