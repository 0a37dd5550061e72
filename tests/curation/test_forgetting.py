"""What opted out stays out with other settings, and leaves nothing in the working folder and the store."""

import json

import pandas as pd

from macebench.curation.forgetting import Span, grouped, spans_of
from macebench.curation.optout import apply_optout
from macebench.curation.pipeline import curate
from macebench.media import file_sha256
from macebench.optout import OptOut, mark, salted


def rows_of(task):
    return pd.read_parquet(task.out / "metadata.parquet")


def listing(tmp_path, *digests):
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{digest}\n" for digest in digests))
    return path


def inputs_of(store):
    """Stage and input of every entry of a store."""
    found = set()
    for path in store.glob("*/*/*.json"):
        values = json.loads(path.read_text())
        found |= {(values["stage"], digest) for digest in values["inputs"].values()}
    return found


def test_a_clip_that_was_taken_out_does_not_come_back_with_another_encoding(job, tmp_path):
    curate(job("out"))
    gone = rows_of(job("out")).iloc[4]
    apply_optout(job("out").out, listing(tmp_path, gone.sha256))
    again = job("out", "encode.crf=31")
    result = curate(again)
    after = rows_of(again)
    assert gone.clip_id not in set(after.clip_id)
    assert len(after) == 8
    assert result.reasons["optout: opted out"] == 1
    assert not list(again.out.rglob(f"{gone.clip_id}*"))


def test_other_windows_do_not_bring_a_clip_back(job, tmp_path):
    curate(job("out"))
    gone = rows_of(job("out")).iloc[4]
    task = job("out", f"probe.optout={listing(tmp_path, gone.sha256)}")
    curate(task)
    other = job("out", f"probe.optout={tmp_path / 'list.txt'}", "pieces.seconds=0.8")
    curate(other)
    same = rows_of(other)
    same = same[same.source_id == gone.source_id]
    assert len(same)
    shared = same.end_s.clip(upper=gone.end_s) - same.start_s.clip(lower=gone.start_s)
    assert shared.max() <= 0.25


def test_without_its_entry_a_span_holds_no_more(job, tmp_path):
    curate(job("out"))
    gone = rows_of(job("out")).iloc[4]
    curate(job("out", f"probe.optout={listing(tmp_path, gone.sha256)}"))
    assert len(rows_of(job("out"))) == 8
    curate(job("out", "encode.crf=31"))
    assert len(rows_of(job("out"))) == 9


def entries_of_others(task, digest):
    """What the store holds of other sources and of their clips."""
    table = rows_of(task)
    ours = {digest, *table[table.source_id == digest].sha256}
    assert len(ours) == 4
    return {item for item in inputs_of(task.store) if item[1] not in ours}


def test_nothing_of_a_source_stays_behind(job, raw, tmp_path):
    task = job("out")
    curate(task)
    digest = file_sha256(raw.folder / "b.mp4")
    begin = digest[:12]
    assert list(task.out.glob(f".work/*/*/{begin}*"))
    assert digest in {item for _, item in inputs_of(task.store)}
    others = entries_of_others(task, digest)
    curate(job("out", f"probe.optout={listing(tmp_path, digest)}"))
    assert not list(task.out.rglob(f"{begin}*"))
    assert inputs_of(task.store) == others


def test_taking_out_a_source_reaches_the_store(job, raw, tmp_path):
    task = job("out")
    curate(task)
    digest = file_sha256(raw.folder / "b.mp4")
    others = entries_of_others(task, digest)
    apply_optout(task.out, listing(tmp_path, digest))
    assert not list(task.out.rglob(f"{digest[:12]}*"))
    assert inputs_of(task.store) == others


def test_taking_out_one_clip_takes_the_stored_pictures_of_its_source(job, tmp_path):
    task = job("out")
    curate(task)
    gone = rows_of(task).iloc[4]
    before = inputs_of(task.store)
    assert ("curate-thumbnails", gone.source_id) in before
    apply_optout(task.out, listing(tmp_path, gone.sha256))
    left = before - inputs_of(task.store)
    assert ("curate-thumbnails", gone.source_id) in left
    assert {item for _, item in left} <= {gone.source_id, gone.sha256}
    assert ("curate-light", gone.source_id) in inputs_of(task.store)
    assert not list(task.out.rglob(f"{gone.clip_id}*"))


def test_clips_that_only_touch_a_span_stay():
    spans = grouped([Span(mark("s"), 5.0, 10.0, mark("e"))])
    assert not spans.hit("s", 0.0, 5.03, 30.0)
    assert not spans.hit("s", 9.95, 15.0, 30.0)
    assert spans.hit("s", 0.0, 5.2, 30.0)
    assert spans.hit("s", 6.0, 7.0, 30.0)
    assert not spans.hit("t", 6.0, 7.0, 30.0)


def test_a_salted_clip_id_is_noted_by_its_entry():
    entry = salted("clip", "9f")
    lists = [OptOut(frozenset({entry}), "9f")]
    assert spans_of(lists, "s", "x", "clip", 1.0, 2.0) == {Span(mark("s"), 1.0, 2.0, mark(entry))}
    assert not spans_of(lists, "s", "x", "other", 1.0, 2.0)
    assert not spans_of(lists, "", "x", "clip", 1.0, 2.0)
