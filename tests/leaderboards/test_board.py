import dataclasses
import io
import json
import re

import pytest

from macebench.errors import UserError
from macebench.leaderboards import board as boards
from macebench.leaderboards.schema import Cell, read_board, write_board


@pytest.fixture
def run(make_run, tmp_path):
    return make_run(tmp_path / "runs" / "one", lost=("c",))


@pytest.fixture
def board(tmp_path):
    return tmp_path / "boards" / "board.csv"


def change_row(board, index, **changes):
    rows = read_board(board)
    rows[index] = rows[index].model_copy(update=changes)
    write_board(board, rows)


def test_a_run_makes_one_row_for_each_model_and_protocol(make_run, tmp_path, board):
    run = make_run(tmp_path / "run", protocols=("ma2d-fixed/1", "ma2d-paper/1"))
    added = boards.add(run, board, calibration=True)
    rows = read_board(board)
    assert [(row.model, row.protocol) for row in rows] == [
        ("mine", "ma2d-fixed/1"), ("frozen", "ma2d-fixed/1"), ("mine", "ma2d-paper/1"), ("frozen", "ma2d-paper/1"),
    ]  # fmt: skip
    assert len(added) == 4
    assert rows[0].run == "../run"
    assert (rows[0].evaluator_seconds, rows[0].evaluator_device) == (2.25, "x86_64")
    assert rows[0].versions == {"macebench": "0.1.0", "python": "3.11", "numpy": "2.4"}
    assert rows[0].pose_backend == "precomputed files"


def test_counts_are_in_the_row(run, board):
    boards.add(run, board, calibration=True)
    row = read_board(board)[0]
    assert (row.n_clips, row.n_unscored, row.n_reference) == (5, 12, 6)
    assert {(cell.n, cell.unscored) for cell in row.scores.values()} == {(4, 1)}


def test_adding_the_same_again_changes_nothing(run, board):
    boards.add(run, board, calibration=True)
    before = board.read_bytes()
    (run / "timing.json").write_text('{"seconds": {"extract": 99.0}}')
    again = boards.add(run, board, calibration=True)
    assert board.read_bytes() == before
    assert (again.added, len(again.unchanged)) == ((), 2)


def test_only_the_named_models_are_added(run, board):
    boards.add(run, board, ["frozen"])
    assert [row.model for row in read_board(board)] == ["frozen"]
    with pytest.raises(UserError, match="Did you mean 'mine'"):
        boards.add(run, board, ["mne"])


def test_calibration_rows_of_two_models_do_not_meet_unless_asked_for(make_run, tmp_path, board):
    one = make_run(tmp_path / "one")
    two = make_run(tmp_path / "two", models=(("yours", "external"), ("frozen", "calibration")), shift=0.25)
    assert boards.add(one, board).left_out == 1
    assert len(boards.add(two, board)) == 1
    assert [row.model for row in read_board(board)] == ["mine", "yours"]
    boards.add(one, board, calibration=True)
    with pytest.raises(UserError, match="has 'frozen' under"):
        boards.add(two, board, calibration=True)


def test_an_evaluated_calibration_model_is_added_under_each_protocol(make_run, tmp_path, board):
    models = (("jitter", "calibration"), ("frozen", "calibration"))
    boards.add(make_run(tmp_path / "run", models=models, protocols=("ma2d-fixed/1", "ma2d-paper/1")), board)
    assert [row.model for row in read_board(board)] == ["jitter", "jitter"]


def test_a_run_that_does_not_count_incomplete_clips_leaves_the_cell_empty(run, board):
    boards.add(run, board)
    assert read_board(board)[0].n_incomplete == 1
    edit_result(run, lambda result: [entry.pop("n_incomplete") for entry in result["entries"]])
    assert boards.verify(run, run) == []
    assert len(boards.add(run, board).unchanged) == 1
    boards.add(run, board.with_name("other.csv"))
    assert read_board(board.with_name("other.csv"))[0].n_incomplete is None


def test_other_numbers_for_a_model_are_refused_by_name_unless_replaced(run, board, make_run, tmp_path):
    boards.add(run, board, calibration=True)
    before = board.read_bytes()
    other = make_run(tmp_path / "runs" / "two", shift=0.25)
    with pytest.raises(UserError, match=r"bas: 0\.\d+ \(n 4\) != 0\.\d+ \(n 5\)") as caught:
        boards.add(other, board, ["mine"])
    assert "--replace" in caught.value.hint
    assert caught.value.message.count(" != ") == 3
    assert re.search(r"; \.\.\. and \d+ more\.$", caught.value.message)
    assert board.read_bytes() == before
    assert boards.add(other, board, ["mine"], replace=True).replaced[0][0] == "mine"
    rows = read_board(board)
    assert [row.model for row in rows] == ["mine", "frozen"]
    assert rows[0].run == "../runs/two"
    assert boards.verify(board, other) == boards.verify(board, run) == []


def test_a_run_that_does_not_verify_is_not_added(run, board):
    edit_result(run, lambda result: result["entries"][0]["scores"][0].update(value=0.0))
    with pytest.raises(UserError, match=r"does not verify: mine under .*fid_k is 0.0"):
        boards.add(run, board, calibration=True)
    assert not board.exists()


def test_boards_of_equal_runs_are_equal_bytes(make_run, tmp_path):
    texts = set()
    for name in ("one", "two"):
        boards.add(make_run(tmp_path / name / "run"), tmp_path / name / "board.csv")
        texts.add((tmp_path / name / "board.csv").read_bytes())
    assert len(texts) == 1


def test_hostile_names_survive_the_way_through_the_board(make_run, tmp_path, board):
    names = ("<script>alert(1)</script>", "../../etc/passwd", "=cmd()", 'a,"b"\nc')
    run = make_run(tmp_path / "run", models=tuple((name, "external") for name in names))
    boards.add(run, board, calibration=True)
    assert [row.model for row in read_board(board)] == list(names)
    assert boards.verify(board, run) == []
    assert not re.search(r"(^|,)[=@]", board.read_text("utf-8"), re.MULTILINE)


def test_rows_of_one_protocol_compare(run, board):
    boards.add(run, board, calibration=True)
    mine, frozen = read_board(board)
    pairs = boards.compare_rows(mine, frozen)
    assert pairs["fid_k"] == (mine.scores["fid_k"].value, frozen.scores["fid_k"].value)
    assert set(pairs) == set(mine.scores)


def test_rows_of_two_protocols_are_refused_and_the_difference_is_named(make_run, tmp_path, board):
    boards.add(make_run(tmp_path / "one"), board, calibration=True)
    boards.add(make_run(tmp_path / "two", reference_names=("r0", "r1", "r9")), board, calibration=True)
    rows = read_board(board)
    with pytest.raises(UserError, match=r"do not compare: reference\.n: 6 != 3; reference\.sha256: \w+ != \w+"):
        boards.compare_rows(rows[0], rows[2], boards.load_protocols(board))
    with pytest.raises(UserError, match="not at hand"):
        boards.compare_rows(rows[0], rows[2])


def test_a_protocol_file_that_was_edited_is_not_believed(run, board):
    boards.add(run, board, calibration=True)
    (path,) = (board.parent / "protocols").glob("*.json")
    assert set(boards.load_protocols(board)) == {path.stem}
    stored = json.loads(path.read_text("utf-8"))
    stored["sampling"]["fps"] = 30.0
    path.write_text(json.dumps(stored))
    assert boards.load_protocols(board) == {}


def test_a_retracted_row_stays_with_its_reason(run, board):
    boards.add(run, board, calibration=True)
    digest = read_board(board)[0].protocol_hash
    boards.retract(board, "mine", digest, "wrong videos")
    assert [(row.status, row.status_reason) for row in read_board(board)] == [
        ("retracted", "wrong videos"),
        ("valid", ""),
    ]
    assert boards.add(run, board, calibration=True).added == ()
    assert read_board(board)[0].status == "retracted"
    with pytest.raises(UserError, match="needs a reason"):
        boards.retract(board, "mine", digest, "  ")
    with pytest.raises(UserError, match="unknown row"):
        boards.retract(board, "mine", "other", "x")


def test_the_board_is_shown_whole_in_100_columns(run, board):
    from rich.console import Console

    boards.add(run, board, calibration=True)
    boards.retract(board, "frozen", read_board(board)[0].protocol_hash, "[red]why[/red]")
    screen = Console(width=100, file=io.StringIO())
    for table in boards.show(board):
        screen.print(table)
    text = screen.file.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "…" not in text
    for part in ("mine", "[red]why[/red]", "precision", "flickering", "fid_k", "ma2d-fixed/1"):
        assert part in text


def edit_result(run, edit):
    path = run / "result.json"
    result = json.loads(path.read_text("utf-8"))
    edit(result)
    path.write_text(json.dumps(result), "utf-8")


def findings(board, run):
    return {(finding.model, finding.what) for finding in boards.verify(board, run)}


def test_an_honest_board_verifies(run, board):
    boards.add(run, board, calibration=True)
    assert boards.verify(board, run) == []
    assert boards.verify(run, run) == []


def test_a_changed_number_is_found(run, board):
    boards.add(run, board, calibration=True)
    row = read_board(board)[1]
    cell = row.scores["fid_k"]
    change_row(board, 1, scores=row.scores | {"fid_k": Cell(value=cell.value * (1 + 1e-8), n=4, unscored=1)})
    assert findings(board, run) == {("frozen", "fid_k")}
    (finding,) = boards.verify(board, run)
    assert finding.found == repr(cell.value)
    assert str(finding).startswith(f"frozen under {row.protocol_hash}: fid_k is ")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"n_clips": 6}, "n_clips"),
        ({"n_unscored": 0}, "n_unscored"),
        ({"n_incomplete": 0}, "n_incomplete"),
        ({"n_reference": 5}, "n_reference"),
        ({"reference_sha256": "00"}, "reference_sha256"),
        ({"clips_sha256": "00"}, "clips_sha256"),
        ({"pose_backend": "vitpose B"}, "pose_backend"),
        ({"protocol": "ma2d-paper/1"}, "protocol"),
        ({"protocol_hash": "000000000000"}, "protocol"),
    ],
)
def test_a_changed_field_is_found(run, board, changes, what):
    boards.add(run, board, calibration=True)
    change_row(board, 0, **changes)
    assert ("mine", what) in findings(board, run)


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        (Cell(value=None, n=0, unscored=5), "bas"),
        (Cell(value=0.5, n=5, unscored=0), "bas.unscored"),
        (Cell(value=0.5, n=3, unscored=1), "bas.n"),
    ],
)
def test_a_changed_count_is_found(run, board, cell, what):
    boards.add(run, board, calibration=True)
    change_row(board, 0, scores=read_board(board)[0].scores | {"bas": cell})
    assert ("mine", what) in findings(board, run)


def test_a_score_that_was_taken_away_is_found(run, board):
    boards.add(run, board, calibration=True)
    scores = dict(read_board(board)[0].scores)
    del scores["temporal_flickering"]
    change_row(board, 0, scores=scores)
    assert findings(board, run) == {("mine", "temporal_flickering")}


def test_a_score_of_no_known_metric_is_a_user_error(run, board):
    boards.add(run, board, calibration=True)
    change_row(board, 0, scores=read_board(board)[0].scores | {"charm": Cell(value=1.0, n=5, unscored=0)})
    with pytest.raises(UserError, match="'charm' belongs to no registered metric"):
        boards.verify(board, run)


def rewrite_clips(run, keep, windows=()):
    """Write the clips again without some rows and make the run say that this is right.

    Reference clips in `windows` become two windows of one file.
    """
    from macebench.tables import ClipRow, file_sha256, read_clips, value_columns, write_clips

    path = run / "clips.parquet"
    table = read_clips(path)
    columns = value_columns(table)
    rows = []
    for row in table.to_dict("records"):
        features = {n[8:]: row[n] for n in row if n.startswith("feature.") and row[n] is not None}
        fields = {f.name: row[f.name] for f in dataclasses.fields(ClipRow) if f.name in row}
        texts = {"reasons": json.loads(row["reasons"]), "notes": json.loads(row["notes"])}
        values = {name: row[name] for name in columns}
        rows.append(ClipRow(**(fields | texts | {"values": values, "features": features})))
    cut = [row for row in rows if row.role == "reference" and row.clip_id in windows]
    rows = [row for row in rows if row not in cut] if cut else rows
    rows += [dataclasses.replace(row, clip_id=f"{row.clip_id}@{start}") for row in cut for start in ("0.000", "17.067")]
    write_clips(path, [row for row in rows if keep(row)])
    digest = file_sha256(path)
    edit_result(run, lambda result: result.update(clips_sha256=digest))
    return digest


def test_a_removed_clip_is_found_even_when_the_hashes_are_made_to_agree(run, board):
    boards.add(run, board, ["mine"])
    before = rewrite_clips(run, lambda row: True)
    assert boards.verify(board, run) == []
    assert before == read_board(board)[0].clips_sha256
    digest = rewrite_clips(run, lambda row: row.clip_id != "a")
    assert ("mine", "clips_sha256") in findings(board, run)
    change_row(board, 0, clips_sha256=digest)
    assert {("mine", "n_clips"), ("mine", "bas"), ("mine", "fid_k.n")} <= findings(board, run)


def test_a_removed_reference_clip_is_found(run, board):
    boards.add(run, board, ["mine"])
    digest = rewrite_clips(run, lambda row: row.clip_id != "r3")
    change_row(board, 0, clips_sha256=digest)
    assert {("mine", "n_reference"), ("mine", "reference_sha256"), ("mine", "fid_k")} <= findings(board, run)


def test_a_changed_clips_file_is_found_in_the_run_itself(run):
    (run / "clips.parquet").touch()
    assert boards.verify(run, run) == []
    edit_result(run, lambda result: result.update(clips_sha256="00"))
    assert ("", "SHA-256 of clips.parquet") in findings(run, run)


def test_an_edited_protocol_is_found(run, board):
    boards.add(run, board, calibration=True)

    def edit(result):
        next(iter(result["protocols"].values()))["normaliser"]["eps"] = 0.5

    edit_result(run, edit)
    assert findings(board, run) == {("mine", "protocol_hash"), ("frozen", "protocol_hash")}


def test_a_protocol_that_is_no_protocol_is_found(run, board):
    boards.add(run, board, calibration=True)
    edit_result(run, lambda result: next(iter(result["protocols"].values())).pop("sampling"))
    assert findings(board, run) == {("mine", "protocol"), ("frozen", "protocol")}


def test_a_run_that_the_board_does_not_know_is_a_user_error(run, board, make_run, tmp_path):
    boards.add(run, board, calibration=True)
    other = make_run(tmp_path / "other", models=(("yours", "external"),))
    with pytest.raises(UserError, match="no valid row"):
        boards.verify(board, other)


def test_a_row_whose_run_was_moved_is_checked_by_model_and_protocol(run, board, tmp_path):
    boards.add(run, board, ["mine"])
    moved = run.rename(tmp_path / "moved")
    assert boards.verify(board, moved) == []
    change_row(board, 0, clips_sha256="00", n_clips=4)
    assert findings(board, moved) == {("mine", "clips_sha256"), ("mine", "n_clips")}


def test_a_run_whose_rows_are_retracted_says_why(run, board):
    boards.add(run, board)
    change_row(board, 0, status="retracted", status_reason="wrong videos")
    with pytest.raises(UserError, match=r"is retracted: 'mine' under \w+: wrong videos\."):
        boards.verify(board, run)


def test_retracted_rows_are_not_verified(run, board):
    boards.add(run, board, calibration=True)
    change_row(board, 0, n_clips=9, status="retracted", status_reason="x")
    assert boards.verify(board, run) == []


def test_a_broken_timing_file_is_a_user_error(run, board):
    (run / "timing.json").write_text("{}")
    with pytest.raises(UserError, match="no timing file"):
        boards.add(run, board, calibration=True)
    (run / "timing.json").unlink()
    boards.add(run, board, calibration=True)
    assert read_board(board)[0].evaluator_seconds is None


def test_an_empty_run_makes_a_board_without_rows(make_run, tmp_path, board):
    run = make_run(tmp_path / "empty", models=(), names=())
    assert len(boards.add(run, board, calibration=True)) == 0
    assert read_board(board) == []


def test_a_run_in_which_nothing_was_scored_can_be_added_and_verified(make_run, tmp_path, board):
    run = make_run(tmp_path / "run", lost=("a", "b", "c", "d", "e"))
    boards.add(run, board, calibration=True)
    assert all(cell.value is None and cell.unscored == 5 for cell in read_board(board)[0].scores.values())
    assert boards.verify(board, run) == []


def test_the_score_of_a_metric_that_is_not_the_protocols_is_computed_again(run):
    import pandas as pd

    from macebench.leaderboards.recompute import recompute
    from macebench.protocol import load_protocol
    from macebench.tables import read_clips

    protocol = load_protocol("ma2d-paper/1")
    clips = pd.DataFrame(read_clips(run / "clips.parquet")).assign(protocol_hash=protocol.hash)
    found = recompute("mine", protocol, clips, ["temporal_flickering", "bas_z"])
    assert found.scores["temporal_flickering"].n == 4
    assert found.reference["bas_z"].n == 6
    assert found.reference["temporal_flickering"].n == 6
    assert "fid_k" not in found.reference


def test_a_motion_run_has_its_own_metrics_under_the_same_column_names(make_run, tmp_path, board):
    run = make_run(tmp_path / "run", protocols=("motion3d-fixed/1",), lost=("c",))
    boards.add(run, board, calibration=True)
    row = read_board(board)[0]
    assert {"fid_k", "kid_k_se", "fid_infinity_g", "bas_z", "fsr_left", "foot_slide", "frozen_share"} <= set(row.scores)
    assert row.pose_backend == ""
    assert boards.verify(board, run) == []
    change_row(board, 0, scores=row.scores | {"fid_k": Cell(value=1.0, n=4, unscored=1)})
    assert findings(board, run) == {("mine", "fid_k")}


def test_the_reference_sets_own_value_is_on_the_board_and_verified(run, board):
    boards.add(run, board, calibration=True)
    row = read_board(board)[0]
    with_reference = {name for name, cell in row.scores.items() if cell.reference is not None}
    assert with_reference == set(row.scores) - {"fid_k", "fid_g"}
    cell = row.scores["bas"]
    change_row(board, 0, scores=row.scores | {"bas": cell.model_copy(update={"reference": cell.reference + 0.1})})
    assert findings(board, run) == {("mine", "bas.reference")}
    change_row(board, 0, scores=row.scores | {"bas": cell.model_copy(update={"reference": None})})
    assert findings(board, run) == {("mine", "bas.reference")}


def without_references(row):
    return {name: cell.model_copy(update={"reference": None}) for name, cell in row.scores.items()}


def test_a_row_from_before_there_were_reference_values_is_verified_without_them(run, board):
    boards.add(run, board)
    change_row(board, 0, scores=without_references(read_board(board)[0]))
    assert ".reference" not in board.read_text("utf-8")
    assert boards.verify(board, run) == []
    assert len(boards.add(run, board).unchanged) == 1


def test_a_changed_reference_value_is_another_row(run, board):
    boards.add(run, board)
    row = read_board(board)[0]
    cell = row.scores["bas"]
    change_row(board, 0, scores=row.scores | {"bas": cell.model_copy(update={"reference": 0.25})})
    with pytest.raises(UserError, match=r"bas\.reference: 0\.25 != 0\.\d+"):
        boards.add(run, board)


def shown(board, width=100):
    from rich.console import Console

    screen = Console(width=width, file=io.StringIO())
    for table in boards.show(board, width):
        screen.print(table)
    return screen.file.getvalue()


def test_the_board_shows_the_reference_the_distance_to_it_and_who_barely_moves(make_run, tmp_path, board):
    run = make_run(tmp_path / "run", protocols=("motion3d-fixed/1",), still=("frozen",))
    boards.add(run, board, calibration=True)
    text = shown(board)
    gap = abs(read_board(board)[0].scores["bas"].value - read_board(board)[0].scores["bas"].reference)
    assert f"Δ{gap:.3f}" in text
    assert "reference set" in text
    assert "frozen (barely moves)" in text
    assert "kid_k_se" not in text.replace("\n", "")
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100


def heads(board):
    (table,) = boards.show(board, 1000)
    return [str(column.header).replace("\n", "") for column in table.columns][3:]


def test_the_board_stands_in_the_order_of_eval_with_directions_and_counts(run, board):
    from macebench.report.console import summary_tables
    from macebench.results import RunResult

    boards.add(run, board, calibration=True)
    (theirs,) = summary_tables(RunResult.read(run), 1000)
    assert heads(board) == [str(column.header).replace("\n", "") for column in theirs.columns][3:]
    assert "fid_k ↓" in heads(board)
    assert f"{read_board(board)[0].scores['fid_k'].value:.3f}"[:4] in shown(board)
    assert "/4" in shown(board)


def test_a_column_of_no_registered_metric_has_no_mark(run, board):
    import shutil

    boards.add(run, board)
    change_row(board, 0, scores=read_board(board)[0].scores | {"charm": Cell(value=1.0, n=5, unscored=0)})
    assert heads(board)[-1] == "charm"
    shutil.rmtree(board.parent / "protocols")
    assert "fid_k ↓" in heads(board)
    assert "charm" in heads(board)


def test_windows_of_one_file_are_one_file_of_the_reference_set(make_run, tmp_path, board):
    names = ("solo@a", "b", "c")
    run = make_run(tmp_path / "run", protocols=("megadance-eval/1",), reference_names=names)
    first = rewrite_clips(run, lambda row: True)
    rewrite_clips(run, lambda row: True, windows=("b", "c"))
    assert first != rewrite_clips(run, lambda row: True)
    recount(run)
    boards.add(run, board, calibration=True)
    assert read_board(board)[0].n_reference == 3
    assert boards.verify(board, run) == []


def recount(run):
    """Score the rows of a run again, so that it agrees with changed clips."""
    from macebench.leaderboards.recompute import recompute
    from macebench.leaderboards.verify import parse_stored
    from macebench.results import RunResult, with_reference
    from macebench.tables import read_clips

    result, clips = RunResult.read(run), read_clips(run / "clips.parquet")
    entries = []
    for entry in result.entries:
        protocol = parse_stored(result.protocols[entry.protocol_hash])
        found = recompute(entry.model.name, protocol, clips, [score.name for score in entry.scores])
        records = with_reference(found.scores.values(), found.reference.values())
        entries.append(entry.model_copy(update={"scores": records}))
    (run / "result.json").write_text(result.model_copy(update={"entries": entries}).model_dump_json(), "utf-8")
