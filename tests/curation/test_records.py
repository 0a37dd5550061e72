import math

import pytest

from macebench.curation.records import (
    ClipRecord,
    Index,
    Seen,
    SourceRecord,
    SpanRecord,
    clip_id,
    read_record,
    record_path,
    write_record,
)
from macebench.curation.sources import Source
from macebench.errors import UserError


def sources(*names, folder="/x"):
    from pathlib import Path

    return [Source(Path(folder, name), name) for name in names]


@pytest.fixture
def index(tmp_path):
    made = Index(tmp_path / "work" / "index.sqlite")
    yield made
    made.close()


def test_sources_come_in_the_order_of_their_names_whatever_the_chunk(index):
    index.plan(sources("b", "a", "c", "a/b"))
    for size in (1, 2, 10):
        assert [item.name for chunk in index.chunks(size) for item in chunk] == ["a", "a/b", "b", "c"]
    assert index.counts() == (4, 0)
    index.plan(sources("b", "a", "c"), limit=2)
    assert [item.name for chunk in index.chunks(9) for item in chunk] == ["a", "b"]


def test_a_path_given_twice_is_one_source_with_the_smaller_name(index):
    from pathlib import Path

    for order in (1, -1):
        index.plan([Source(Path("/x/a"), "z"), Source(Path("/x/a"), "a", {"genre": "b"})][::order])
        ((only,),) = index.chunks(9)
        assert (only.name, only.facts) == ("a", {"genre": "b"})


def test_what_was_seen_is_remembered_and_joined(index):
    index.plan(sources("a", "b", "c"))
    ((a, b, c),) = index.chunks(9)
    index.remember([Seen(a.key, 5, 6, "f" * 64), Seen(b.key, 5, 6, "0" * 64, "worker", "timed out", {"source_s": 2.0})])
    index.remember([Seen(c.key, 5, 6, "0" * 64)])
    assert [(item.name, item.reason) for item in index.outcomes()] == [("b", "timed out"), ("c", ""), ("a", "")]
    index.plan(sources("a"))
    ((again,),) = index.chunks(9)
    assert (again.size, again.mtime_ns, again.sha256) == (5, 6, "f" * 64)
    assert [item.name for item in index.outcomes()] == ["a"]


def test_a_damaged_index_is_made_again(tmp_path):
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    index = Index(path)
    index.plan(sources("a"))
    assert index.counts() == (1, 0)
    index.close()
    with pytest.raises(UserError, match="cannot be used"):
        Index(tmp_path)


def test_state_is_kept(tmp_path):
    for value in ("", "one", "two"):
        index = Index(tmp_path / "i.sqlite")
        assert index.get_state("store") == ("" if value in ("", "one") else "one")
        if value:
            index.set_state("store", value)
        index.close()


def test_a_record_comes_back_as_it_was_and_equal_ones_are_equal_bytes(tmp_path):
    clip = ClipRecord(
        0.5, 5.5, 0.52, 5.52, 1.0, 150, 30.0, 512, 896, 48000, "a" * 64, 12, "e", {"x.y": 1.0, "x.z": math.nan}, "t.jpg"
    )
    span = SpanRecord(0.0, math.nan, "probe", "too short", 1.0, math.nan)
    record = SourceRecord("b" * 64, "c", math.nan, (clip,), (span,))
    write_record(tmp_path, record)
    before = record_path(tmp_path, "b" * 64).read_bytes()
    found = read_record(tmp_path, "b" * 64)
    assert repr(found) == repr(record)
    write_record(tmp_path, found)
    assert record_path(tmp_path, "b" * 64).read_bytes() == before
    record_path(tmp_path, "b" * 64).write_bytes(before[:50])
    assert read_record(tmp_path, "b" * 64) is None
    assert read_record(tmp_path, "d" * 64) is None


def test_clip_ids():
    assert clip_id("0123456789abcdef", 4.2) == "0123456789ab-00004200"
    assert clip_id("0123456789abcdef", 123456.789) == "0123456789ab-123456789"
