import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from macebench.curation.sources import Source, check_sources, iter_sources, shown
from macebench.errors import UserError


def names(*specs):
    return sorted(source.name for source in iter_sources(specs))


def touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")


def test_a_folder_gives_its_videos_and_nothing_else(tmp_path):
    touch(tmp_path, "a.mp4", "b/c.MKV", "b/.hidden.mp4", ".git/d.mp4", "notes.txt", "e.wav")
    assert names(tmp_path) == ["a.mp4", "b/c.MKV"]


def test_hostile_names_are_text(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in (b"bad\xff.mp4", b"new\nline.mp4", b"-rf.mp4", "ü <b>.mp4".encode(), b"file:x.mp4"):
        (folder / os.fsdecode(name)).write_bytes(b"x")
    found = names(folder)
    assert found == sorted(["bad\\xff.mp4", "new\nline.mp4", "-rf.mp4", "ü <b>.mp4", "file:x.mp4"])
    for name in found:
        name.encode("utf-8")


def test_a_link_out_of_the_folder_is_refused_not_followed(tmp_path):
    touch(tmp_path, "outside.mp4", "raw/a.mp4")
    (tmp_path / "raw" / "out.mp4").symlink_to(tmp_path / "outside.mp4")
    (tmp_path / "raw" / "in.mp4").symlink_to(tmp_path / "raw" / "a.mp4")
    (tmp_path / "raw" / "loop").symlink_to(tmp_path / "raw")
    found = {source.name: source.refused for source in iter_sources([tmp_path / "raw"])}
    assert found == {"a.mp4": "", "in.mp4": "", "out.mp4": "link leaves the folder"}


def test_lists_and_tables_are_relative_to_their_own_folder(tmp_path):
    import pandas as pd

    listing = tmp_path / "list.txt"
    listing.write_bytes(b"# comment\na.mp4\r\n\nsub/b.mp4\n/abs/c.mp4\n")
    found = {source.name: source.path for source in iter_sources([listing])}
    assert found["a.mp4"] == tmp_path / "a.mp4"
    assert str(found["/abs/c.mp4"]) == "/abs/c.mp4"
    table = tmp_path / "table.parquet"
    rows = {"path": ["a.mp4", "b.mp4"], "genre": ["Folk", None], "other": [1, 2], "refused": ["", "no music"]}
    pd.DataFrame(rows).to_parquet(table)
    sources = sorted(iter_sources([table]), key=lambda source: source.name)
    assert [dict(source.facts) for source in sources] == [{"genre": "Folk"}, {}]
    assert [source.refused for source in sources] == ["", "no music"]


def test_data_sets_below_a_folder_are_passed_over(tmp_path):
    raw = tmp_path / "raw"
    touch(raw, "a.mp4", "set/clips/train/x.mp4", "other/clips/y.mp4", "mine/z.mp4", "half/w.mp4")
    for name, schema in (("other", "macebench-dataset"), ("mine", "something else"), ("half", "macebench-dataset")):
        (raw / name / "dataset.json").write_text(json.dumps({"schema": schema}))
    for name in ("other", "mine"):
        (raw / name / ".work").mkdir()
    passed = []
    found = sorted(source.name for source in iter_sources([raw], raw / "set", passed.append))
    assert found == ["a.mp4", "half/w.mp4", "mine/z.mp4"]
    assert sorted(passed) == [raw / "other", raw / "set"]
    # as `curate raw/*` names it
    passed.clear()
    specs = [raw / "a.mp4", raw / "set", raw / "set" / "clips" / "train" / "x.mp4"]
    assert [source.name for source in iter_sources(specs, raw / "set", passed.append)] == ["a.mp4"]
    assert passed == specs[1:]
    with pytest.raises(UserError, match="holds no source") as caught:
        check_sources([raw / "set"], raw / "set")
    assert "passed over" in caught.value.hint


def test_the_folder_where_one_stands_may_hold_the_data_set(tmp_path, monkeypatch):
    touch(tmp_path, "a.mp4", "set/clips/train/x.mp4")
    monkeypatch.chdir(tmp_path)
    assert [source.name for source in iter_sources(["."], Path("set"))] == ["a.mp4"]


def test_what_is_no_regular_file_is_refused(tmp_path):
    import pandas as pd

    raw = tmp_path / "raw"
    touch(raw, "a.mp4")
    os.mkfifo(raw / "pipe.mp4")
    (tmp_path / "list.txt").write_text("raw/a.mp4\nraw/pipe.mp4\nraw\n/dev/zero\ngone.mp4\n")
    pd.DataFrame({"path": ["raw/pipe.mp4", "raw/a.mp4"]}).to_parquet(tmp_path / "t.parquet")
    odd = "no regular file"
    assert {s.name: s.refused for s in iter_sources([raw])} == {"a.mp4": "", "pipe.mp4": odd}
    assert {s.name: s.refused for s in iter_sources([tmp_path / "list.txt"])} == {
        "raw/a.mp4": "", "raw/pipe.mp4": odd, "raw": odd, "/dev/zero": odd, "gone.mp4": "",
    }  # fmt: skip
    assert {s.name: s.refused for s in iter_sources([tmp_path / "t.parquet"])} == {"raw/a.mp4": "", "raw/pipe.mp4": odd}
    with pytest.raises(UserError, match="no regular file"):
        list(iter_sources([raw / "pipe.mp4"]))


def test_what_is_no_source_is_named(tmp_path):
    import pandas as pd

    touch(tmp_path, "sound.wav")
    pd.DataFrame({"file": ["a"]}).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "u.parquet").write_bytes(b"no table")
    for name, word in (("none", "does not exist"), ("sound.wav", "no video"), ("t.parquet", "no column path"),
                       ("u.parquet", "no Parquet file")):  # fmt: skip
        with pytest.raises(UserError, match=word):
            list(iter_sources([tmp_path / name]))


@pytest.mark.slow
def test_sources_without_a_file_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.pdf").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(UserError, match="empty holds no source") as caught:
        check_sources([tmp_path / "empty"])
    assert ".mp4" in caught.value.hint
    with pytest.raises(UserError, match="hold no source"):
        check_sources([tmp_path / "empty", tmp_path / "list.txt"])
    (tmp_path / "list.txt").write_text("gone.mp4\n")
    check_sources([tmp_path / "empty", tmp_path / "list.txt"])


@pytest.mark.slow
def test_a_hundred_thousand_paths_plan_in_constant_memory(tmp_path):
    """In interpreters of their own: the table of interned names of a long test run grows by jumps."""
    code = (
        "import sys, tracemalloc\n"
        "from pathlib import Path\n"
        "from macebench.curation.records import Index\n"
        "from macebench.curation.sources import iter_sources\n"
        "folder, count = Path(sys.argv[1]), int(sys.argv[2])\n"
        "listing = folder / f'{count}.txt'\n"
        "with listing.open('w') as file:\n"
        "    file.writelines(f'folder/{(i * 7919) % count:09d}.mp4\\n' for i in range(count))\n"
        "tracemalloc.start()\n"
        "index = Index(folder / f'{count}.sqlite')\n"
        "index.plan(iter_sources([listing]))\n"
        "seen, last = 0, ''\n"
        "for chunk in index.chunks(2048):\n"
        "    for source in chunk:\n"
        "        assert source.name > last\n"
        "        last = source.name\n"
        "    seen += len(chunk)\n"
        "index.close()\n"
        "assert seen == count\n"
        "print(tracemalloc.get_traced_memory()[1])\n"
    )

    def peak(count):
        call = [sys.executable, "-c", code, str(tmp_path), str(count)]
        return int(subprocess.run(call, capture_output=True, text=True, check=True).stdout)

    assert peak(100_000) - peak(10_000) < 6e6  # 90 000 paths alone would be more


def test_shown_uses_forward_slashes():
    assert shown(os.path.join("a", "b.mp4")) == "a/b.mp4"
    assert Source("x", "x", {"genre": "a"}).facts_json == '{"genre": "a"}'
