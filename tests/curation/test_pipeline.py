import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from macebench.curation.motion_sources import MotionSource
from macebench.curation.pipeline import chosen, curate, run_stages
from macebench.curation.stage import Rejection, Verdict
from macebench.curation.stages.probe import Probe, ProbeConfig
from macebench.errors import UserError


@dataclass(frozen=True)
class Splitter:
    """Cuts every source into two spans; scores the sum of its bytes."""

    name: str = "splitter"
    config: None = None

    def process(self, task):
        total = float(sum(task.source.read_bytes()))
        halves = tuple(dataclasses.replace(task, start_s=float(i), end_s=i + 1.0) for i in range(2))
        return Verdict({"total": total}, None, halves)


@dataclass(frozen=True)
class Late:
    """Refuses spans that begin late."""

    name: str = "late"
    config: float = 0.5

    def process(self, task):
        rejection = Rejection("late", "too late", task.start_s, self.config) if task.start_s > self.config else None
        return Verdict({"start": task.start_s}, rejection)


def sources(tmp_path, *texts):
    files = []
    for index, text in enumerate(texts):
        file = tmp_path / f"{index}.mp4"
        file.write_text(text)
        files.append(file)
    return files


def test_every_span_is_kept_or_in_the_ledger_with_its_scores(tmp_path):
    found = run_stages(sources(tmp_path, "a", "b", "c"), [Splitter(), Late()])
    assert len(found.kept) == 3
    assert len(found.ledger) == 3
    for task in found.kept:
        assert set(task.scores) == {"splitter.total", "late.start"}
    for row in found.ledger:
        assert row.rejection == Rejection("late", "too late", 1.0, 0.5)
        assert row.task.scores["late.start"] == 1.0


def test_the_order_of_sources_does_not_matter(tmp_path):
    files = sources(tmp_path, "a", "b", "c")
    assert run_stages(files, [Splitter(), Late()]) == run_stages(files[::-1], [Splitter(), Late()])


def test_no_stages_keep_everything_and_no_sources_nothing(tmp_path):
    assert len(run_stages(sources(tmp_path, "a"), []).kept) == 1
    assert run_stages([], [Late()]).kept == ()


def test_probe_reads_a_real_file_and_names_what_it_refuses(tmp_path, tiny_world):
    lenient = Probe(ProbeConfig(min_duration_s=1.0, min_side=64))
    found = run_stages(sorted(tiny_world.videos.glob("*.mp4")), [lenient])
    assert len(found.kept) == tiny_world.n
    assert found.kept[0].scores["probe.width"] == 192
    assert found.kept[0].end_s == pytest.approx(3.0, abs=0.1)
    strict = run_stages(sorted(tiny_world.videos.glob("*.mp4")), [Probe()])
    assert {row.rejection.reason for row in strict.ledger} == {"too short"}
    small = run_stages([tiny_world.videos / "clip0.mp4"], [Probe(ProbeConfig(min_duration_s=1.0))])
    assert small.ledger[0].rejection == Rejection("probe", "picture too small", 192.0, 256.0)


def test_probe_refuses_silence_and_broken_files(tmp_path):
    from macebench.media import write_video

    frames = (np.full((300, 300, 3), i, np.uint8) for i in range(12))
    silent = write_video(tmp_path / "silent.mp4", frames, fps=2.0)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    found = run_stages([silent, broken], [Probe()])
    assert {row.rejection.reason for row in found.ledger} == {"no sound", "not a media file"}


@pytest.fixture
def folder(raw, tmp_path):
    """A folder of two videos, for data sets of its own."""
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(raw.folder / name, tmp_path / "in" / name)
    return tmp_path / "in"


def test_a_data_set_in_its_own_source_folder_does_not_grow(job, folder, files_of):
    task = job("in/set", sources=[folder])
    one = curate(task)
    before = files_of(task.out)
    two = curate(task)
    assert (one.n_sources, two.n_sources) == (2, 2)
    assert (one.n_clips, two.n_clips) == (6, 6)
    assert files_of(task.out) == before
    assert one.passed_over == two.passed_over == (str(task.out),)


def test_a_source_that_is_gone_is_named_as_gone(job, raw, folder):
    task = job("set", sources=[folder])
    curate(task)
    (folder / "b.mp4").unlink()
    with pytest.raises(UserError, match=r"a source whose file is gone: b\.mp4\."):
        curate(task)
    (folder / "list.txt").write_text("a.mp4\nb.mp4\n")
    with pytest.raises(UserError, match=r"a source whose file is gone: b\.mp4\."):
        curate(dataclasses.replace(task, sources=(str(folder / "list.txt"),)))
    shutil.copy(folder / "a.mp4", folder / "b.mp4")
    with pytest.raises(UserError, match=r"a source whose file has changed: b\.mp4\."):
        curate(task)
    shutil.copy(raw.folder / "b.mp4", folder / "b.mp4")
    with pytest.raises(UserError, match="not among those given"):
        curate(dataclasses.replace(task, sources=(str(folder / "b.mp4"),)))


def test_a_listed_source_that_is_not_there_is_unfinished(job, folder):
    (folder / "list.txt").write_text("a.mp4\ngone.mp4\n")
    made = curate(job("set", sources=[folder / "list.txt"]))
    assert made.unfinished == {"file not found": 1}
    assert made.n_clips == 3


def test_the_result_has_the_splits_and_what_they_lack(job, folder):
    made = curate(job("set", "splits.test_share=0.5", sources=[folder / "a.mp4"]))
    assert made.splits == {"train": 3}
    assert [note.split(",")[0] for note in made.notes] == ["test has 0 clips"]


def test_a_limit_counts_files_and_recordings_together_in_the_order_of_names(job, folder):
    motions = tuple(MotionSource(name, Path(f"{name}.npy")) for name in ("c", "aa", "b"))
    task = dataclasses.replace(job("set", sources=[folder]), motions=motions)

    def names(limit, task=task):
        files, recordings = chosen(dataclasses.replace(task, limit=limit))
        return sorted(source.name for source in files), [source.name for source in recordings]

    assert names(None) == (["a.mp4", "b.mp4"], ["aa", "b", "c"])
    assert names(3) == (["a.mp4"], ["aa", "b"])
    assert names(4) == (["a.mp4", "b.mp4"], ["aa", "b"])
    assert names(2, dataclasses.replace(task, sources=())) == ([], ["aa", "b"])
