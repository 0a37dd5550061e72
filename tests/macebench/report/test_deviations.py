"""The shipped deviations of approximating protocols, and that they are printed beside the scores."""

import io

import pytest

from macebench.deviations import deviations_of
from macebench.protocol import load_protocol, protocol_ids
from macebench.registry import get_metric
from macebench.report.console import summary_tables
from macebench.report.model import Section
from macebench.report.tables import summary_table
from macebench.report.view import load_view
from macebench.results import RunResult

FAST = "vbench6-fast/1"


@pytest.mark.parametrize("name", protocol_ids())
def test_approximations_and_only_they_have_measured_deviations(name):
    known, protocol = deviations_of(name), load_protocol(name)
    assert (known is not None) == (protocol.frames_grid is not None)
    if known is not None:
        assert known.hash == protocol.hash, "the protocol was changed: measure it again"
        assert set(known.dimensions) == set(protocol.metrics) == set(load_protocol(known.exact).metrics)
        assert all(0 <= item.median <= item.max and item.n <= known.n for item in known.dimensions.values())
        assert known.dimensions["temporal_flickering"].max == 0
        assert {column.name for metric in protocol.metrics for column in get_metric(metric).columns} >= set(
            known.dimensions
        )


def printed(result):
    from rich.console import Console

    screen = Console(width=200, file=io.StringIO())
    for table in summary_tables(result, 200):
        screen.print(table)
    return screen.file.getvalue()


def test_they_stand_beside_the_scores_in_terminal_and_page(make_run, tmp_path):
    run = make_run(tmp_path / "run", protocols=(FAST,))
    known = deviations_of(FAST)
    text = printed(RunResult.read(run))
    line = next(line for line in text.splitlines() if line.strip().startswith("deviation "))
    assert "0" in line.split()
    assert known.legend in " ".join(text.split())
    view = load_view(run)
    assert any(FAST in line and known.legend in line for line in view.cautions)
    section = view.sections[0]
    assert isinstance(section, Section)
    assert "off by" in str(summary_table(section))


def test_exact_protocols_print_none(make_run, tmp_path):
    run = make_run(tmp_path / "run", protocols=("vbench6/1",))
    assert "deviation from" not in printed(RunResult.read(run))
    assert "off by" not in str(summary_table(load_view(run).sections[0]))
