import dataclasses
import math
import random

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.tables import (
    ClipRow,
    CurveRow,
    file_sha256,
    read_clips,
    read_curves,
    value_columns,
    write_clips,
    write_curves,
)


def rows():
    return [
        ClipRow("m", "h1", "b", "generated", "s1", duration_s=5.0, values={"x": 1.5, "a": math.nan},
                features={"k": np.arange(3.0)}, reasons={"a": "no person"}, notes={"x": "näher <b>"}),
        ClipRow("m", "h1", "a", "generated", "s2", values={"x": 0.1 + 0.2}, reasons={"feature.k": "no person"}),
        ClipRow("m", "h0", "b", "generated", "s1", music_sha256="mm"),
        ClipRow("r", "h1", "b", "reference", "s3", features={"k": np.array([1e-300, -2.0, 1 / 3])}),
    ]  # fmt: skip


def test_equal_rows_in_any_order_give_equal_bytes(tmp_path):
    hashes, order = set(), rows()
    for seed in range(4):
        random.Random(seed).shuffle(order)
        path = tmp_path / f"{seed}.parquet"
        hashes.add(write_clips(path, order))
        assert file_sha256(path) in hashes
    assert len(hashes) == 1


def test_the_order_of_keys_in_a_row_does_not_matter(tmp_path):
    forward = ClipRow("m", "h", "a", "generated", "s", values={"x": 1.0, "y": 2.0}, reasons={"p": "1", "q": "2"})
    backward = dataclasses.replace(forward, values={"y": 2.0, "x": 1.0}, reasons={"q": "2", "p": "1"})
    assert write_clips(tmp_path / "1", [forward]) == write_clips(tmp_path / "2", [backward])


def test_values_come_back_bit_for_bit(tmp_path):
    write_clips(tmp_path / "c.parquet", rows())
    table = read_clips(tmp_path / "c.parquet")
    assert list(zip(table["protocol_hash"], table["model"], table["clip_id"], strict=True)) == [
        ("h0", "m", "b"), ("h1", "m", "a"), ("h1", "m", "b"), ("h1", "r", "b"),
    ]  # fmt: skip
    assert value_columns(table) == ["a", "x"]
    assert table["x"][1] == 0.1 + 0.2
    assert math.isnan(table["a"][2])
    assert table["feature.k"][1] is None
    assert table["feature.k"][3].tolist() == [1e-300, -2.0, 1 / 3]
    assert table["notes"][2] == '{"x": "näher <b>"}'
    assert table["music_sha256"].tolist() == ["mm", "", "", ""]


def test_a_changed_value_changes_the_hash(tmp_path):
    changed = [dataclasses.replace(rows()[0], values={"x": np.nextafter(1.5, 2)}), *rows()[1:]]
    assert write_clips(tmp_path / "1", rows()) != write_clips(tmp_path / "2", changed)


def test_an_empty_table_keeps_its_columns(tmp_path):
    write_clips(tmp_path / "c.parquet", [])
    assert len(read_clips(tmp_path / "c.parquet")) == 0


@pytest.mark.parametrize("bad", ["model", "reasons", "feature.k"])
def test_a_value_cannot_take_the_name_of_the_schema(tmp_path, bad):
    with pytest.raises(ValueError, match="taken by the schema"):
        write_clips(tmp_path / "c", [ClipRow("m", "h", "a", "generated", "s", values={bad: 1.0})])


def test_two_rows_with_one_key_are_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "c.parquet"
    before = write_clips(path, rows())
    with pytest.raises(ValueError, match="two rows have the key"):
        write_clips(path, [rows()[0], rows()[0]])
    assert file_sha256(path) == before
    assert [item.name for item in tmp_path.iterdir()] == ["c.parquet"]


def test_a_feature_must_be_a_vector(tmp_path):
    with pytest.raises(ValueError, match="needs a vector"):
        write_clips(tmp_path / "c", [ClipRow("m", "h", "a", "generated", "s", features={"k": np.ones((2, 2))})])


def test_broken_files_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_clips(tmp_path / "nothing.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UserError, match="is no Parquet file"):
        read_clips(tmp_path / "text.parquet")
    write_clips(tmp_path / "clips.parquet", rows())
    with pytest.raises(UserError, match="lacks the columns times_s"):
        read_curves(tmp_path / "clips.parquet")


def test_curves_come_back_and_are_deterministic(tmp_path):
    curves = [CurveRow("m", "h", name, [0.0, 0.5], [1.0, math.nan], [], [0.25], "/v/ä.mp4") for name in "ba"]
    first = write_curves(tmp_path / "1", curves)
    assert first == write_curves(tmp_path / "2", curves[::-1])
    table = read_curves(tmp_path / "1")
    assert table["clip_id"].tolist() == ["a", "b"]
    assert table["motion_beats_s"][0].shape == (0,)
    assert math.isnan(table["speed"][0][1])
    assert table["video"][0] == "/v/ä.mp4"
