"""Clips with the same sound stay in one split where nobody says what the music is."""

import json

import numpy as np
import pandas as pd
import pytest

from macebench.curation import sounds
from macebench.curation.audit import audit
from macebench.curation.fingerprint import fingerprint
from macebench.curation.pipeline import curate
from macebench.curation.splits import ClipInfo, SplitConfig, plan_splits
from macebench.media import write_video

RATE, SECONDS = 22050, 4.1


def song(seed):
    """Chords of three tones that change every quarter of a second."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(0.25 * RATE)) / RATE
    parts = []
    for _ in range(int(SECONDS / 0.25) + 1):
        tones = 300 * 2 ** (rng.integers(0, 36, 3) / 12)
        parts.append(sum(np.sin(2 * np.pi * hertz * t) for hertz in tones) * np.exp(-6 * t) * 0.2)
    return np.concatenate(parts)[: int(SECONDS * RATE)]


@pytest.fixture(scope="module")
def dances(tmp_path_factory):
    """Six sources with one song and three with songs of their own, all with other pictures."""
    folder = tmp_path_factory.mktemp("dances")
    y, x = np.mgrid[:48, :64]
    for k in range(9):
        waves = (120 + 60 * np.sin((x * (k + 1) + y * (9 - k) + 7 * n) / 9.0) for n in range(round(SECONDS * 10)))
        frames = (np.repeat(wave[..., None], 3, axis=2).astype(np.uint8) for wave in waves)
        write_video(folder / f"{k}.mp4", frames, fps=10, audio=(song(0 if k < 6 else k), RATE))
    return folder


LONG = ("pieces.seconds=4", "splits.test_size=2", "splits.val_share=0")


@pytest.mark.slow
def test_a_shared_song_is_in_one_split(dances, job, files_of):
    task = job("out", *LONG, sources=[dances])
    curate(task)
    report = audit(task.out, store=task.store)
    assert not [found for found in report.findings if found.kind == "leak: sound"]
    table = pd.read_parquet(task.out / "metadata.parquet")
    shared = table[table.source_name.isin([f"{k}.mp4" for k in range(6)])]
    assert len(shared) == 6
    assert shared.split.nunique() == 1
    assert set(table.split) == {"train", "test"}
    other = job("other", *LONG, sources=[dances], store="store2", workers=2)
    curate(other)
    assert files_of(other.out) == files_of(task.out)


@pytest.mark.slow
def test_a_sound_is_fingerprinted_once_and_only_where_the_music_is_not_known(dances, job, tmp_path, monkeypatch):
    measured = []
    original = sounds._measure
    monkeypatch.setattr(sounds, "_measure", lambda *given: measured.append(given[0].name) or original(*given))
    curate(job("out", *LONG, sources=[dances]))
    assert len(measured) == 9
    curate(job("out", *LONG, "splits.seed=3", sources=[dances]))
    assert len(measured) == 9
    paths = [str(path) for path in sorted(dances.iterdir())]
    pd.DataFrame({"path": paths, "music": [f"m{k}" for k in range(9)]}).to_parquet(tmp_path / "t.parquet")
    curate(job("named", *LONG, sources=[tmp_path / "t.parquet"], store="store2"))
    curate(job("apart", *LONG, "splits.by=[source]", sources=[dances], store="store3"))
    assert len(measured) == 9


def test_groups_do_not_depend_on_the_order_and_leave_known_music_to_the_table():
    one, other = fingerprint(song(0), RATE), fingerprint(song(7), RATE)
    prints = [("c", "", one), ("a", "", one), ("b", "", other), ("d", "", one)]
    expected = {"a": "a", "c": "a", "d": "a"}
    assert sounds.groups(prints) == expected
    assert sounds.groups(prints[::-1]) == expected
    assert sounds.groups([("c", "m1", one), ("a", "m2", one)]) == {}
    assert sounds.groups([("c", "m1", one), ("a", "", one)]) == {"a": "a", "c": "a"}
    assert sounds.groups([("a", "", fingerprint(np.zeros(0), RATE))]) == {}


def test_equal_sound_never_breaks_official_splits():
    clips = [ClipInfo("a", "s1", official_split="test", sound="x"), ClipInfo("b", "s2", official_split="train",
             sound="x"), ClipInfo("c", "s3", sound="x"), ClipInfo("d", "s4"), ClipInfo("e", "s5", sound="y"),
             ClipInfo("f", "s6", sound="y")]  # fmt: skip
    plan = plan_splits(clips, SplitConfig(test_size=2, val_share=0.0))
    assert (plan.splits["a"], plan.splits["b"], plan.splits["c"]) == ("test", "train", "test")
    assert plan.splits["e"] == plan.splits["f"]
    assert any("1 group of clips with the same sound is in several splits" in note for note in plan.notes)
    free = plan_splits(clips, SplitConfig(test_size=2, val_share=0.0, by=("source",)))
    assert not any("sound" in note for note in free.notes)


def test_too_many_clips_are_not_grouped_and_that_is_said(job, monkeypatch):
    monkeypatch.setattr(sounds, "MOST", 4)
    task = job("out")
    assert curate(task).n_clips == 9
    (note,) = (text for text in json.loads((task.out / "dataset.json").read_text())["split_notes"] if "sound" in text)
    assert note == "more than 4 clips whose music is not named: they were not grouped by their sound."
    assert note in (task.out / "DATASHEET.md").read_text()
