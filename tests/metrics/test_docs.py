import doctest
import re
from pathlib import Path

from macebench.metrics.motion2d import BEAT_COLUMNS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_worked_numbers_hold():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted >= 25
    assert result.failed == 0


def test_every_column_of_the_built_in_metrics_is_explained():
    names = {column.name for column in BEAT_COLUMNS}
    names |= {"fid_k", "fid_g", "div_k", "div_g", "temporal_flickering"}
    assert names <= set(re.findall(r"`([a-z_]+)`", PAGE.read_text("utf-8")))
