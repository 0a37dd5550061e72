import doctest
import re
from pathlib import Path

import pytest

from macebench import registry
from macebench.metrics import beats, contact
from macebench.metrics.features import GEOMETRIC_VARIANTS, KINETIC_VARIANTS, VARIANTS_2D
from macebench.protocol import load_protocol, protocol_ids

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
TEXT = PAGE.read_text("utf-8")
NAMED = set(re.findall(r"`([a-z0-9_/-]+)`", TEXT))


def test_worked_numbers_hold():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted >= 70
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(registry.BUILTIN["metrics"]))
def test_every_column_of_the_built_in_metrics_is_explained(name):
    assert {column.name for column in registry.get_metric(name).columns} <= NAMED


def test_every_variant_is_named():
    motion, music = beats.MOTION_VARIANTS, beats.MUSIC_VARIANTS
    feet = (*contact.SKATING_VARIANTS, *contact.PFC_VARIANTS)
    for variant in (*VARIANTS_2D, *KINETIC_VARIANTS, *GEOMETRIC_VARIANTS, *motion, *music, *feet):
        assert variant in NAMED, variant


@pytest.mark.parametrize("protocol_id", protocol_ids())
def test_the_table_of_protocols_says_what_they_use(protocol_id):
    protocol = load_protocol(protocol_id)
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{protocol_id}`"))
    if protocol.features is None:
        assert all(f"`{name}`" in row for name in protocol.metrics)
        return
    used = [protocol.features.kinetic, protocol.beats.music_variant]
    used += [protocol.contact.pfc] if "pfc_3d" in protocol.metrics else []
    used += [protocol.contact.skating] if "fsr_3d" in protocol.metrics else []
    assert all(f"`{variant}`" in row for variant in used)
    assert f"{protocol.sampling.fps:.0f}/s" in row
