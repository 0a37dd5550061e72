"""docs/motion-expert.md is true: its examples run and its tables equal the code."""

import doctest
import re
from pathlib import Path

import pytest
import torch

from macebench import registry
from macebench.models.diffusion.guidance import DROP_PROBABILITY
from macebench.models.motion_expert.config import PRESETS
from macebench.models.motion_expert.editing import MODES
from macebench.models.motion_expert.network import MotionExpertNetwork, parameter_count
from macebench.models.training.ablation import VARIANTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "motion-expert.md"
TEXT = PAGE.read_text("utf-8")


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def row(name, head):
    """The cells of the row `name` in the table whose head begins with `head`."""
    table = TEXT.split(f"| {head} |", 1)[1].split("\n\n", 1)[0]
    return next(cells(line) for line in table.splitlines() if line.startswith(f"| `{name}`"))


def test_the_examples_run():
    before = torch.random.get_rng_state()
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    torch.random.set_rng_state(before)
    assert result.attempted >= 40
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_table_of_presets(name):
    config = PRESETS[name]
    with torch.device("meta"):
        parameters = parameter_count(MotionExpertNetwork(config))
    window = "all" if config.attention_frames is None else f"{config.attention_frames} frames"
    expected = [
        f"`{name}`", f"{parameters:,}", *map(str, (config.latent_dim, config.n_dance_layers, config.n_music_layers)),
        str(config.n_heads), str(config.d_state), f"{config.horizon_frames} frames", window,
        str(len(config.genres) or "none"),
    ]  # fmt: skip
    assert row(name, "preset") == expected


@pytest.mark.parametrize("form", sorted(DROP_PROBABILITY))
def test_the_table_of_guidance(form):
    taken = row(form, "`guidance` | u")[2]
    share = DROP_PROBABILITY[form]
    assert {"never": 0.0, "the same": DROP_PROBABILITY["paper"]}.get(taken, share) == share
    assert taken in ("never", "the same") or f"{share * 100:g} %" in taken


def test_every_mode_variant_and_source_of_dances_is_there():
    assert all(row(mode, "mode") for mode in MODES)
    assert all(f"`{variant}`" in TEXT for variant in VARIANTS)
    named = re.findall(r"^\| `(\w+)[:`]", TEXT.split("| `--data` |", 1)[1].split("\n\n", 1)[0], re.M)
    assert {*registry.BUILTIN["dances"], "DIR"} == set(named)


def test_every_switch_of_the_network_is_explained():
    config = PRESETS["paper"]
    switches = [name for name, value in config if isinstance(value, bool)]
    assert {"aligned_music", "standardise_music"} <= set(switches)
    assert not any(getattr(config, name) for name in switches), "the page says that they are off in `paper`"
    assert all(f"`{name}`" in TEXT for name in switches)
