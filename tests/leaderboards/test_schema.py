import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macebench.errors import UserError
from macebench.leaderboards.schema import (
    LEADING,
    TRAILING,
    Cell,
    ScoreRow,
    as_float,
    escape_cell,
    from_csv,
    read_board,
    to_csv,
    unescape_cell,
    write_board,
)

# A file of the first published schema: it must load for ever.
FIRST_FILE = """\
model,kind,protocol,protocol_hash,pose_backend,reference,reference_sha256,n_reference,n_clips,n_unscored,\
bas,bas.n,bas.unscored,clips_sha256
mine,external,ma2d-fixed/1,0123456789ab,blazepose mediapipe-pose-full,demo:test,aa,16,5,2,0.25,3,2,bb
"""


def row(**changes):
    fields = {
        "model": "mine", "kind": "external", "protocol": "ma2d-fixed/1", "protocol_hash": "0123456789ab",
        "pose_backend": "blazepose full", "reference": "demo:test", "reference_sha256": "aa", "n_reference": 16,
        "n_clips": 5, "n_unscored": 2, "clips_sha256": "bb",
        "scores": {"bas": Cell(value=0.1 + 0.2, n=3, unscored=2), "fid_k": Cell(value=None, n=0, unscored=5)},
    }  # fmt: skip
    return ScoreRow(**(fields | changes))


names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**6)
rows = st.builds(
    row, model=names, reference=names, run=names, status_reason=names, evaluator_seconds=st.none() | numbers,
    versions=st.dictionaries(st.sampled_from(["python", "numpy", "scipy"]), names),
    scores=st.dictionaries(
        st.sampled_from(["bas", "fid_k", "=x", "a b"]),
        st.builds(Cell, value=st.none() | numbers, n=counts, unscored=counts, reference=st.none() | numbers),
    ),
)  # fmt: skip


@given(st.lists(rows, max_size=4))
def test_a_board_comes_back_exactly(board):
    # Dictionaries compare without order; everything else must be equal to the last bit.
    assert from_csv(to_csv(board)) == board


@given(st.text(max_size=8) | st.sampled_from(["=1+1", "'=1", "-5", "-x", "+1e5", "@a", "''", "\tx", "-"]))
def test_no_cell_can_start_a_formula_and_escaping_is_undone(text):
    cell = escape_cell(text)
    assert unescape_cell(cell) == text
    if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        float(cell)


def test_dangerous_names_are_escaped_and_numbers_are_not():
    text = to_csv([row(model="=cmd|'/c calc'!A1", reference="-3", run="@SUM(1)")])
    assert "\n'=cmd|'/c calc'!A1," in text
    assert ",-3," in text
    assert text.endswith(",'@SUM(1)\n")


def test_columns_have_one_order():
    header = to_csv([row()]).splitlines()[0].split(",")
    scores = ["bas", "bas.n", "bas.unscored", "fid_k", "fid_k.n", "fid_k.unscored"]
    assert header == [*LEADING, *scores, *TRAILING]


def test_the_reference_sets_own_value_has_a_column_where_a_row_has_one():
    scores = {"bas": Cell(value=0.5, n=3, unscored=0, reference=0.25), "fid_k": Cell(value=2.0, n=3, unscored=0)}
    text = to_csv([row(scores=scores), row(model="old", scores={"bas": Cell(value=0.5, n=3, unscored=0)})])
    header = text.splitlines()[0].split(",")
    assert [name for name in header if name.startswith(("bas", "fid"))] == [
        "bas", "bas.n", "bas.unscored", "bas.reference", "fid_k", "fid_k.n", "fid_k.unscored",
    ]  # fmt: skip
    new, old = from_csv(text)
    assert (new.scores["bas"].reference, old.scores["bas"].reference) == (0.25, None)


def test_a_reference_value_without_its_score_is_an_unknown_column():
    with pytest.raises(UserError, match=r"unknown columns: fid_k\.reference"):
        from_csv(FIRST_FILE.replace("clips_sha256", "fid_k.reference,clips_sha256").replace(",bb", ",1,bb"))


def test_what_is_missing_is_an_empty_cell_and_not_a_number():
    text = to_csv([row()])
    assert ",,0,5," in text
    assert "nan" not in text
    (back,) = from_csv(text)
    assert back.scores["fid_k"].value is None
    assert math.isnan(as_float(back.scores["fid_k"]))


def test_rows_may_have_different_scores():
    one, two = row(), row(model="b", scores={"div_k": Cell(value=1.0, n=5, unscored=0)})
    assert from_csv(to_csv([one, two])) == [one, two]


def test_a_file_of_the_first_schema_loads():
    (old,) = from_csv(FIRST_FILE)
    assert old.n_incomplete is None
    assert old.scores == {"bas": Cell(value=0.25, n=3, unscored=2)}
    assert (old.status, old.superseded_by, old.evaluator_seconds, old.versions) == ("valid", "", None, {})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clips_sha256", "surprise", "unknown columns: surprise"),
        ("n_clips", "model", "missing columns: n_clips"),
        ("bas.unscored", "bas.lost", "unknown columns: bas, bas.n, bas.lost"),
        (",bb\n", "\n", "row 2: 13 cells, the header has 14"),
        (",5,2,0.25", ",five,2,0.25", "row 2: n_clips: .*got 'five'"),
        (",0.25,", ",nan,", "row 2: scores.bas.value"),
        ("external", "unknown", "row 2: kind"),
        (FIRST_FILE, "", "is empty"),
    ],
)
def test_a_wrong_file_names_the_place(old, new, message):
    assert old in FIRST_FILE
    with pytest.raises(UserError, match=message):
        from_csv(FIRST_FILE.replace(old, new, 1))


@pytest.mark.parametrize("name", ["model", "bas.n", "x.unscored", "x.reference"])
def test_a_score_cannot_take_the_name_of_a_column(name):
    with pytest.raises(ValueError, match="taken by the schema"):
        to_csv([row(scores={name: Cell(value=1.0, n=1, unscored=0)})])


def test_files_are_read_with_or_without_a_byte_order_mark(tmp_path):
    write_board(tmp_path / "board.csv", [row(model="ä")])
    plain = read_board(tmp_path / "board.csv")
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "board.csv").read_bytes())
    assert read_board(tmp_path / "excel.csv") == plain == [row(model="ä")]


def test_what_is_no_board_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_board(tmp_path / "board.csv")
    (tmp_path / "board.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no UTF-8 CSV file"):
        read_board(tmp_path / "board.csv")
