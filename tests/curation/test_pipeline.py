import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest

from macebench.curation.pipeline import run_stages
from macebench.curation.stage import Rejection, Verdict
from macebench.curation.stages.probe import Probe, ProbeConfig


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
