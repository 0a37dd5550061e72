"""A kill at any moment of an update leaves a data set whose tables and clips are those of one version."""

import os
import shutil
import warnings

import pandas as pd
import pytest

from macebench.curation.audit import verify
from macebench.curation.dataset import assemble
from macebench.curation.pipeline import curate
from macebench.curation.placing import sweep
from macebench.curation.records import Index
from macebench.media import file_sha256

WATCHED = ("replace", "link", "unlink")


def put_together(task, out):
    index = Index(out / ".work" / "index.sqlite")
    try:
        assemble(out, index, task.config, lambda *_: None)
    finally:
        index.close()


def killed_at(number, task, out):
    """Put a data set together in a process of its own that ends before its so-manieth change; whether it did end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            count = iter(range(number))
            for name in WATCHED:
                setattr(os, name, dying(getattr(os, name), count))
            put_together(task, out)
            os._exit(0)
        finally:
            os._exit(7)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def dying(function, count):
    def wrapped(*args, **kwargs):
        if next(count, None) is None:
            os._exit(9)
        return function(*args, **kwargs)

    return wrapped


def check(out):
    """Every row of every table has its clip with its bytes."""
    tables = [out / "metadata.parquet", *out.glob("clips/*/metadata.parquet")]
    for path in tables:
        for row in pd.read_parquet(path).itertuples():
            assert file_sha256(path.parent / row.file_name) == row.sha256, (path, row.file_name)


def prepared(job, monkeypatch, *changes, **how):
    """A job whose sources are worked off, with nothing put together yet."""
    task = job("done", *changes, **how)

    class EnoughError(Exception):
        """Ends the run."""

    def enough(*_, **__):
        raise EnoughError

    with monkeypatch.context() as patch:
        patch.setattr("macebench.curation.dataset.assemble", enough)
        with pytest.raises(EnoughError):
            curate(task)
    return task


def kill_everywhere(task, tmp_path, expected, files_of, step):
    number, kills = 0, 0
    while True:
        out = tmp_path / "killed"
        shutil.copytree(task.out, out)
        dead = killed_at(number, task, out)
        check(out)
        if kills == 3:
            kinds = {found.kind for found in verify(out).findings if found.severity == "error"}
            assert kinds <= {"wrong count"}
        put_together(task, out)
        assert files_of(out) == expected
        shutil.rmtree(out)
        if not dead:
            return kills
        number, kills = number + step, kills + 1


ALL = ("encode.crf=34", "splits.seed=3", "splits.test_size=6")


@pytest.mark.parametrize(
    ("changes", "more", "step"),
    [
        pytest.param(("encode.crf=34",), False, 12, id="some"),
        pytest.param(("encode.crf=34",), False, 2, id="encoding", marks=pytest.mark.slow),
        pytest.param(("splits.test_size=6",), False, 2, id="splits", marks=pytest.mark.slow),
        pytest.param((), True, 2, id="source", marks=pytest.mark.slow),
        pytest.param(ALL, True, 3, id="all", marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_change_leaves_one_version(
    job, raw, tmp_path, monkeypatch, make_raw, files_of, changes, more, step
):  # fmt: skip
    curate(job("done"))
    sources = [raw.folder]
    if more:
        sources.append(make_raw(tmp_path / "more" / "0.mp4", 5).parent)
    before = files_of(job("done").out)
    fresh = job("fresh", *changes, sources=sources)
    curate(fresh)
    expected = files_of(fresh.out)
    assert expected != before
    task = prepared(job, monkeypatch, *changes, sources=sources)
    assert kill_everywhere(task, tmp_path, expected, files_of, step) > 4


@pytest.mark.slow
def test_a_disk_without_links_works_too(job, files_of, monkeypatch, tmp_path):
    curate(job("done"))
    task = prepared(job, monkeypatch, "encode.crf=34")
    curate(job("fresh", "encode.crf=34"))

    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    put_together(task, task.out)
    assert files_of(task.out) == files_of(job("fresh").out)


def test_a_full_disk_before_the_tables_leaves_the_old_version(job, monkeypatch, files_of):
    from macebench.curation import dataset

    curate(job("done"))
    task = prepared(job, monkeypatch, "encode.crf=34", "splits.test_size=4")
    before = files_of(task.out)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset, "show", full)
    with pytest.raises(OSError, match="No space"):
        put_together(task, task.out)
    assert files_of(task.out) == before
    assert verify(task.out).failed is False


def test_stale_temporary_files_of_ours_are_swept_and_no_others(job, files_of):
    task = job("done")
    curate(task)
    expected = files_of(task.out)
    clip = next((task.out / "clips").glob("*/*.mp4"))
    stale = [task.out / ".metadata.parquet.abcd_123.tmp", clip.with_name(f".{clip.name}.replaced.tmp"),
             task.out / "thumbnails" / f".{clip.stem}-light.jpg.abcdefgh.tmp",
             clip.with_name(".metadata.parquet.01234567.tmp")]  # fmt: skip
    others = [task.out / ".mine.tmp", task.out / ".notes.txt.abcdefgh.tmp"]
    for path in (*stale, *others):
        path.write_text("x")
    sweep(task.out)
    assert [path.exists() for path in stale] == [False] * 4
    assert [path.exists() for path in others] == [True] * 2
    for path in others:
        path.unlink()
    for path in stale:
        path.write_text("x")
    curate(task)
    assert files_of(task.out) == expected


def test_lost_thumbnails_are_made_again(job, files_of):
    task = job("done")
    curate(task)
    expected = files_of(task.out)
    shutil.rmtree(task.out / ".work" / "thumbnails")
    shutil.rmtree(task.out / "thumbnails")
    curate(task)
    found = files_of(task.out)
    gone = {name for name in expected if name not in found}
    # all pictures of decoded sources come back; the first picture of a source that was ended early is in no store
    assert not gone
    assert found == expected


def test_a_thumbnail_that_nobody_has_leaves_its_cell_empty(job, tmp_path):
    task = job("done")
    curate(task)
    shutil.rmtree(task.out / ".work" / "thumbnails")
    shutil.rmtree(task.out / "thumbnails")
    shutil.rmtree(task.store)
    curate(task)
    assert set(pd.read_parquet(task.out / "ledger.parquet").thumbnail) == {""}
    assert not list(task.out.glob("thumbnails/*"))
    check(task.out)
