import io
import re

import pytest

from macebench.report.console import summary_tables
from macebench.results import RunResult


def printed(result, width=100):
    from rich.console import Console

    screen = Console(width=width, file=io.StringIO())
    for table in summary_tables(result, width):
        screen.print(table)
    return screen.file.getvalue()


@pytest.mark.parametrize("width", [60, 100, 200])
def test_everything_is_there_and_nothing_is_cut(make_run, tmp_path, width):
    result = RunResult.read(make_run(tmp_path / "run", lost=("a",)))
    text = printed(result, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    words = text.split()
    for column in ("fid_k", "fid_g", "div_k", "div_g", "bas", "bas_z", "beat_f", "precision", "recall", "flickering"):
        assert column in words, column
    for part in ("ma2d-fixed/1", next(iter(result.protocols)), "mine", "frozen", "↓", "≈"):
        assert part in text


def test_a_value_of_fewer_clips_says_so_and_no_value_is_a_dash(make_run, tmp_path):
    text = printed(RunResult.read(make_run(tmp_path / "run", lost=("a",))))
    assert "/4" in text
    text = printed(RunResult.read(make_run(tmp_path / "none", lost=("a", "b", "c", "d", "e"))))
    (line,) = [line for line in text.splitlines() if line.startswith(" mine")][:1]
    assert line.split() == ["mine", "5", "5", *["–"] * (len(line.split()) - 3)]


def test_each_protocol_has_its_own_table(make_run, tmp_path):
    result = RunResult.read(make_run(tmp_path / "run", protocols=("ma2d-fixed/1", "ma2d-paper/1")))
    titles = [str(table.title) for table in summary_tables(result, 300)]
    assert [title.split()[0] for title in titles] == ["ma2d-fixed/1", "ma2d-paper/1"]


def test_names_are_no_markup(make_run, tmp_path):
    result = RunResult.read(make_run(tmp_path / "run", models=(("[bold red]x[/]", "external"),)))
    assert "[bold red]x[/]" in printed(result).replace("\n", "")


def test_an_empty_run_has_a_table_without_rows(make_run, tmp_path):
    (table,) = summary_tables(RunResult.read(make_run(tmp_path / "run", models=(), names=())))
    assert table.row_count == 0


@pytest.mark.parametrize("width", [60, 100, 160])
def test_a_motion_run_says_the_aim_the_distance_to_it_and_who_barely_moves(make_run, tmp_path, width):
    result = RunResult.read(make_run(tmp_path / "run", protocols=("motion3d-fixed/1",), still=("frozen",)))
    text = printed(result, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    score = result.entries[0].score("bas")
    assert f"{score.value:.3f}" in text
    assert f"Δ{score.gap:.3f}" in text
    assert f"{score.reference:.3f}" in text
    assert "±" in text
    for part in ("reference set", "frozen (barely", "smaller is better"):
        assert part in " ".join(text.split())


def test_a_run_from_before_reference_values_has_a_table(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    path = run / "result.json"
    path.write_text(re.sub(r'"reference": ?[-\d.e]+', '"reference": null', path.read_text("utf-8")), "utf-8")
    text = printed(RunResult.read(run))
    assert "Δ" not in text
    assert "reference set" not in text
