import dataclasses
import re

import pytest
import yaml

from macebench.curation.config import (
    GeneralConfig,
    config_from_plain,
    config_text,
    field_docs,
    load_config,
)
from macebench.curation.cut import EncodeConfig
from macebench.curation.render import RenderConfig
from macebench.curation.splits import SplitConfig
from macebench.curation.stages.probe import ProbeConfig
from macebench.errors import UserError

BASE = "stages: [probe, windows]\n"


def mistake(tmp_path, text, *changes):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_config(path, changes)
    return str(error.value)


def test_the_printed_config_loads_back_to_the_same_hash(tmp_path):
    config = load_config(None, ("stages=[probe, motion, windows]", "motion.min=1e-3", "probe.needs_audio=false"))
    path = tmp_path / "c.yaml"
    path.write_text(config_text(config))
    again = load_config(path)
    assert again == config
    assert again.hash == config.hash
    assert config_text(again) == config_text(config)
    assert again.sections["motion"].min == 0.001
    text = config_text(config)
    assert "# Shorter sources are dropped." in text
    fields = yaml.safe_load(text)
    assert set(fields["probe"]) == {f.name for f in dataclasses.fields(ProbeConfig)}


def test_plain_values_give_the_same_settings():
    config = load_config(None, ("stages=[probe, windows]", "windows.min_s=6"))
    assert config_from_plain(config.plain()) == config
    assert config_from_plain(config.plain(), ("windows.min_s=7",)).sections["windows"].min_s == 7.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BASE + "windows:\n  min_s: 6\n  max_x: 3\n", ("line 4", "windows.max_x", "max_s")),
        (BASE + "windows:\n  min_s: six\n", ("line 3", 'windows.min_s is "six"', "valid number", "Shortest clip")),
        (BASE + "windows:\n  max_clips: 1.5\n", ("line 3", "windows.max_clips is 1.5", "integer")),
        (BASE + "windows:\n  min_s: 20\n", ("line 3", "windows.min_s 20", "not above max_s")),
        (BASE + "probe:\n  needs_audio: yes\n", ("line 3", "probe.needs_audio", "boolean")),
        (BASE + "probe:\n  min_side: true\n", ("line 3", "probe.min_side is true", "integer")),
        (BASE + "windos:\n  min_s: 6\n", ("line 2", "'windos'", "'windows'")),
        (BASE + "windows: 3\n", ("line 2", "windows is 3", "section")),
        (BASE + "seed: 1\nseed: 2\n", ("line 3", "seed stands twice")),
        (BASE + "seed: -1\n", ("line 2", "seed", "0 or more")),
        (BASE + "max_side: [1]\n", ("line 2", "max_side is [1]", "integer")),
        ("stages: [probe, windwos]\n", ("line 1", "'windwos'", "'windows'")),
        ("stages: probe\n", ("line 1", "list of names")),
        ("stages: [probe, probe]\n", ("line 1", "stands twice")),
        ("seed: [1\n", ("line 2", "no YAML")),
        ("- a\n", ("line 1", "mapping is allowed")),
        (BASE + "windows:\n  min_s: 2020-01-01\n", ("line 3", "windows.min_s", "valid number")),
    ],
)
def test_a_mistake_names_line_field_value_and_what_is_allowed(tmp_path, text, said):
    words = mistake(tmp_path, text)
    assert "c.yaml" in words
    for word in said:
        assert word in words, words


def test_a_mistake_on_the_command_line_names_the_option(tmp_path):
    assert "--set windows.min_s=x" in mistake(tmp_path, BASE, "windows.min_s=x")
    assert "is not section.field=value" in mistake(tmp_path, BASE, "windows.min_s")
    assert "is not section.field=value" in mistake(tmp_path, BASE, "a.b.c=3")
    assert "seed is no section" in mistake(tmp_path, BASE + "seed: 3\n", "seed.x=3")
    with pytest.raises(UserError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


NUMBERS = [
    f"{name}.{field.name}" if name else field.name
    for name, section in {"": GeneralConfig(), **load_config().sections, "encode": EncodeConfig(),
                          "splits": SplitConfig(), "render": RenderConfig()}.items()
    for field in dataclasses.fields(section)
    if re.search(r"\b(int|float)\b", str(field.type)) and field.name != "min_level_db"
]  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_taken_below_its_range(tmp_path, name):
    words = mistake(tmp_path, BASE.replace("[probe, windows]", "[probe, shots, motion, person, windows]"), f"{name}=-5")
    assert name.rpartition(".")[2] in words
    assert "-5" in words


@pytest.mark.parametrize(
    "change",
    ["person.max_several_share=1.5", "motion.min_camera_share=2", "shots.transnetv2_threshold=1.1",
     "shots.black_level=256", "splits.test_share=1.01", "render.max_broken=2", "motion.min=.nan",
     "probe.min_level_db=.nan", "encode.crf=52"],
)  # fmt: skip
def test_no_number_is_taken_above_its_range(tmp_path, change):
    words = mistake(tmp_path, BASE.replace("[probe, windows]", "[probe, shots, motion, person, windows]"), change)
    assert change.partition("=")[0] in words


def test_the_seed_reaches_every_section_that_names_none():
    config = load_config(None, ("stages=[probe, windows]", "seed=5", "splits.seed=7"))
    assert config.sections["windows"].seed == 5
    assert config.splits.seed == 7


def test_the_hashes_cover_what_they_must():
    def made(*changes):
        return load_config(None, ("stages=[probe, windows]", *changes))

    base = made()
    assert made("licence=mine").clips_hash == base.clips_hash
    assert made("licence=mine").hash != base.hash
    assert made("probe.optout=list.txt", "source_s=5").hash == base.hash
    assert made("windows.min_s=6").clips_hash != base.clips_hash
    assert made("splits.test_size=3").clips_hash == base.clips_hash
    assert made("splits.test_size=3").hash != base.hash


def test_the_file_of_a_plugin_stage_is_part_of_the_hash(tmp_path, toys):
    from macebench import registry

    one = load_config(None, ("stages=[probe, pieces]",)).clips_hash
    other = tmp_path / "other.py"
    other.write_text(toys.read_text().replace('stage("pieces")', 'stage("pieces2")').replace('"light")', '"light2")')
                     .replace('"trouble")', '"trouble2")') + "# changed\n")  # fmt: skip
    registry.load_plugin(other)
    config = load_config(None, ("stages=[probe, pieces2]",))
    assert config.clips_hash != one
    assert load_config(None, ("stages=[probe, pieces]",)).clips_hash == one


def test_field_docs_join_lines():
    docs = field_docs(ProbeConfig)
    assert docs["min_duration_s"] == "Shorter sources are dropped."
    assert docs["min_level_db"].endswith("reading stops.")
