import os
import re
import subprocess
import sys

import numpy as np
import pytest

from macebench.curation import job as jobs
from macebench.curation.pipeline import curate
from macebench.curation.records import Wanted
from macebench.demo.rawset_files import ffmpeg
from macebench.errors import MacebenchError, UserError
from macebench.media import Limits


@pytest.fixture
def trouble(tmp_path):
    """Says what shall happen to which source; gives the setting."""

    def make(what, name):
        folder = tmp_path / "trouble"
        folder.mkdir(exist_ok=True)
        (folder / what).write_text(name)
        return f"trouble.folder={folder}"

    return make


def rows(out, table="ledger"):
    import pandas as pd

    return pd.read_parquet(out / f"{table}.parquet")


def test_a_worker_that_crashes_costs_one_source_and_the_next_run_finishes_it(job, trouble, files_of):
    clean = job("clean")
    curate(clean)
    task = job("out", trouble("crash", "b.mp4"))
    result = curate(task)
    assert result.unfinished == {"worker crashed": 1}
    ledger = rows(task.out)
    assert ledger[ledger.source_name == "b.mp4"][["stage", "reason"]].values.tolist() == [["worker", "worker crashed"]]
    assert set(rows(task.out, "metadata").source_name) == {"a.mp4", "below/c.mp4"}
    again = curate(job("out"))
    assert again.unfinished == {}
    assert files_of(task.out) == files_of(clean.out)


def test_a_crash_that_passes_leaves_no_trace(job, trouble, files_of):
    curate(job("clean"))
    task = job("out", trouble("crash-once", "b.mp4"))
    assert curate(task).unfinished == {}
    assert files_of(task.out) == files_of(job("clean").out)


@pytest.mark.slow
def test_a_stage_that_hangs_costs_one_source(job, trouble):
    task = job("out", trouble("hang", "b.mp4"), "source_s=3", "source_per_s=0.1")
    result = curate(task)
    assert result.unfinished == {"timed out": 1}
    assert set(rows(task.out, "metadata").source_name) == {"a.mp4", "below/c.mp4"}


def test_a_stage_that_fails_stops_the_run_or_costs_one_source(job, trouble):
    setting = trouble("fail", "b.mp4")
    with pytest.raises(MacebenchError, match=r"stage trouble failed on b.mp4: ValueError: no luck.*--keep-going"):
        curate(job("out", setting))
    result = curate(job("out", setting, keep_going=True))
    assert result.unfinished == {"stage failed: ValueError": 1}
    ledger = rows(job().out)
    assert ledger[ledger.source_name == "b.mp4"].stage.tolist() == ["trouble"]


def test_a_source_that_breaks_while_it_is_decoded_has_the_stage_decode(job, raw, tmp_path):
    folder = tmp_path / "cut"
    folder.mkdir()
    data = (raw.folder / "a.mp4").read_bytes()
    (folder / "short.mp4").write_bytes(data[: int(len(data) * 0.6)])
    task = job("out", sources=[folder])
    result = curate(task)
    assert result.reasons == {"decode: truncated file": 1}
    assert result.unfinished == {}
    assert result.n_clips == 0
    assert len(rows(task.out, "metadata")) == 0


def test_a_file_that_is_not_there_is_in_the_ledger(job, raw, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text(f"{raw.folder}/a.mp4\ngone.mp4\n")
    task = job("out", sources=[listing])
    assert curate(task).reasons["probe: file not found"] == 1
    ledger = rows(task.out)
    assert ledger[ledger.source_name == "gone.mp4"].source_id.tolist() == [""]


def test_a_full_disk_stops_with_a_message_and_leaves_no_half_clip(job, monkeypatch, files_of):
    """The cut of the second source meets a full disk; the run is finished afterwards."""
    import contextlib
    import errno

    from macebench import store
    from macebench.curation.records import Index
    from macebench.curation.sources import iter_sources

    clean = job("clean")
    curate(clean)
    task = job("out")
    task.out.mkdir()
    real, left = store.atomic_write, [3]

    @contextlib.contextmanager
    def full(path):
        if path.suffix == ".mp4":
            left[0] -= 1
        if left[0] < 0:
            with real(path) as temporary:
                temporary.write_bytes(b"half")
                raise OSError(errno.ENOSPC, "No space left on device")
        with real(path) as temporary:
            yield temporary

    jobs.setup_worker(jobs.WorkerPlan(task.out, task.store, task.config.plain()))
    index = Index(None)
    index.plan(iter_sources(task.sources))
    (wanted,) = index.chunks(99)
    index.close()
    monkeypatch.setattr(store, "atomic_write", full)
    assert jobs.process_source(wanted[0]).reason == ""
    with pytest.raises(UserError, match="No space left on device") as error:
        jobs.process_source(wanted[1])
    assert "Free some space" in str(error.value)
    monkeypatch.setattr(store, "atomic_write", real)
    assert not any(path.read_bytes() == b"half" for path in task.out.rglob("*") if path.is_file())
    assert not (task.out / "metadata.parquet").exists()
    curate(task)
    assert files_of(task.out) == files_of(clean.out)


def test_clips_are_kept_when_only_thresholds_change(job, monkeypatch):
    task = job("out", "light.min_light=1")
    curate(task)
    before = {path.name: path.stat().st_mtime_ns for path in (task.out / "clips").rglob("*.mp4")}
    stricter = job("out", "light.min_light=50")
    curate(stricter)
    after = {path.name: path.stat().st_mtime_ns for path in (task.out / "clips").rglob("*.mp4")}
    assert 0 < len(after) < len(before)
    assert after.items() <= before.items()
    curate(job("out", "light.min_light=50", "encode.crf=40"))
    changed = {path.name: path.stat().st_mtime_ns for path in (task.out / "clips").rglob("*.mp4")}
    assert changed.keys() == after.keys()
    assert not changed.items() & after.items()


def test_a_record_without_its_clip_is_no_record(job):
    from macebench.curation.records import read_record

    task = job("out")
    curate(task)
    clip = sorted((task.out / "clips").rglob("*.mp4"))[0]
    (path,) = (task.out / ".work" / "records").rglob(f"{clip.name[:12]}*.json")
    record = read_record(task.out, path.stem)
    settings = record.clips_hash
    assert jobs.is_finished(task.out, path.stem, settings)
    assert not jobs.is_finished(task.out, path.stem, "other settings")
    clip.write_bytes(clip.read_bytes()[:-1])
    assert not jobs.is_finished(task.out, path.stem, settings)
    curate(task)
    assert np.all([jobs.is_finished(task.out, path.stem, settings), clip.is_file()])


def test_what_the_encoder_refuses_costs_its_clips_and_no_other_source(job, raw, tmp_path):
    """x264 takes no side above 16384; the source next to it is kept, in the first run and in every other."""
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "a.mp4").write_bytes((raw.folder / "a.mp4").read_bytes())
    ffmpeg([
        "-f", "lavfi", "-i", "color=s=16400x256:d=3:r=2", "-f", "lavfi", "-i", "sine=d=3",
        "-c:v", "ffv1", "-c:a", "flac", str(folder / "wide.mkv"),
    ])  # fmt: skip
    plain = ("stages=[probe, windows]", "windows.min_s=1", "windows.max_s=3", "encode.short_side=null")
    for _ in range(2):
        task = job("out", *plain, sources=[folder])
        result = curate(task)
        assert set(result.reasons) == {"cut: cannot be encoded"}
        assert set(rows(task.out, "metadata").source_name) == {"a.mp4"}
        assert result.unfinished == {}


def process(task, path):
    """One source through `process_source`, in this process."""
    jobs.setup_worker(jobs.WorkerPlan(task.out, task.store, task.config.plain()))
    return jobs.process_source(Wanted(os.fsencode(path), path.name, "", {}, 0, 0, ""))


def test_a_pipe_is_no_source(job, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.mp4")
    task = job("out")
    seen = process(task, tmp_path / "pipe.mp4")
    assert (seen.stage, seen.reason, seen.sha256) == ("probe", "no regular file", "")
    monkeypatch.setattr(jobs, "_identified", lambda source, limit: (_ for _ in ()).throw(OSError(source.name)))
    with pytest.raises(OSError, match=r"pipe\.mp4"):  # the watch is on while a source is opened and hashed
        process(task, tmp_path / "pipe.mp4")


@pytest.mark.slow
def test_a_file_that_is_read_forever_costs_one_source(job, raw, tmp_path):
    """The hash is taken under the limit too."""
    code = """
import sys, time
from pathlib import Path
from macebench.curation import job as jobs
from macebench.curation.config import load_config
from macebench.curation.records import Wanted
jobs.file_sha256 = lambda path: time.sleep(60)
out, source = map(Path, sys.argv[1:])
jobs.setup_worker(jobs.WorkerPlan(out, out / "store", load_config(None, ["source_s=1", "stages=[probe]"]).plain()))
jobs.process_source(Wanted(bytes(source), source.name, "", {}, 0, 0, ""))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "out"), str(raw.folder / "a.mp4")]
    assert subprocess.run(command, timeout=40, check=False).returncode == 75


def test_a_source_is_probed_under_its_own_limits(job, raw, monkeypatch):
    found = []
    real = jobs.probed

    def noted(store, decoder, path, sha256):
        found.append(decoder.limits.wall_s)
        return real(store, decoder, path, sha256)

    monkeypatch.setattr(jobs, "probed", noted)
    task = job("out", "decode_s=7", "decode_per_s=0.1")
    jobs.setup_worker(jobs.WorkerPlan(task.out, task.store, task.config.plain()))
    for name in ("a.mp4", "b.mp4"):
        path = raw.folder / name
        assert jobs.process_source(Wanted(os.fsencode(path), name, "", {}, 0, 0, "")).reason == ""
    assert found == [Limits().wall_s] * 2


def test_a_lying_length_is_believed_as_far_as_the_bytes_allow():
    limit = jobs._Limit(900.0, 60.0)
    limit.size = 200_000
    begin = limit.deadline
    assert limit.believed(14.0) == 14.0
    assert limit.believed(3600.0) == 100.0
    assert limit.believed(float("nan")) == 0.0
    limit.extend(3600.0)
    assert limit.deadline - begin == pytest.approx(6000.0)


@pytest.mark.parametrize("case", ["late", "lying"])
def test_no_span_is_cut_behind_the_last_picture(job, tmp_path, case):
    """Pictures that begin 3 s after the sound, and a file that says it lasts an hour."""
    folder = tmp_path / "one"
    folder.mkdir()
    words = ["-itsoffset", "3" if case == "late" else "0", "-f", "lavfi", "-i", "testsrc2=s=96x64:d=14:r=10"]
    words += ["-f", "lavfi", "-i", f"sine=d={17 if case == 'late' else 14}", "-pix_fmt", "yuv420p"]
    ffmpeg([*words, str(folder / "a.mkv")])
    if case == "lying":
        data = (folder / "a.mkv").read_bytes()
        assert len(re.findall(rb"00:00:14\.\d{9}", data)) >= 1
        (folder / "a.mkv").write_bytes(re.sub(rb"00:00:14\.\d{9}", b"01:00:00.000000000", data))
    task = job("out", "stages=[probe, windows]", "windows.min_s=4", "windows.max_s=10", sources=[folder])
    result = curate(task)
    assert result.reasons == {}
    assert len(rows(task.out)) == 0
    clips = rows(task.out, "metadata")
    assert len(clips) == 2
    assert 13.5 < clips.end_s.max() <= 14.05
