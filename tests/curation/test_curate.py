"""The whole pipeline with toy stages: equal sources and settings give equal bytes, whatever happens on the way."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from macebench.curation.explain import explain, what_if
from macebench.curation.pipeline import curate
from macebench.errors import UserError
from macebench.media import Decoder, file_sha256


@pytest.fixture
def done(job):
    """A finished data set."""
    task = job("done")
    return task, curate(task)


def test_what_comes_out(done, raw):
    task, result = done
    metadata, ledger = (pd.read_parquet(task.out / f"{name}.parquet") for name in ("metadata", "ledger"))
    assert (result.n_sources, result.n_clips) == (5, 9)
    assert result.seconds == pytest.approx(9.0, abs=0.05)
    assert result.reasons == {"pieces: rest": 3, "light: too dark": 1, "probe: not a media file": 1}
    assert sorted(set(metadata.source_name)) == ["a.mp4", "b.mp4", "below/c.mp4"]
    assert {"probe.duration_s", "light.light", "pieces.count"} <= set(metadata.columns)
    for row in metadata.itertuples():
        path = task.out / row.file_name
        assert row.file_name == f"clips/{row.split}/{row.clip_id}.mp4"
        assert file_sha256(path) == row.sha256
        assert row.source_id == file_sha256(raw.folder / row.source_name)
        assert row.clip_id == f"{row.source_id[:12]}-{round(row.start_s * 1000):08d}"
        with Decoder() as decoder:
            info = decoder.probe(path)
        assert (info.width, info.height, info.fps) == (row.width, row.height, row.fps) == (72, 48, 10.0)
        assert info.has_audio
    dark = ledger[ledger.source_name == "dark.mp4"].iloc[0]
    assert (dark.stage, dark.reason, dark.threshold) == ("light", "too dark", 10.0)
    assert dark.value < 10
    assert (task.out / dark.thumbnail).read_bytes()[:2] == b"\xff\xd8"
    assert json.loads(dark.scores)["light.light"] == dark.value
    summary = json.loads((task.out / "dataset.json").read_text())
    assert summary["n_clips"] == 9
    assert summary["config_hash"] == task.config.hash
    assert sum(summary["splits"].values()) == 9
    assert "| light | too dark | 1 |" in (task.out / "DATASHEET.md").read_text()


def test_the_data_set_says_what_looked_and_which_values_hold(done):
    from macebench.report.curation import write_summary

    task, _ = done
    summary = json.loads((task.out / "dataset.json").read_text())
    assert summary["observers"] == {"light": {"version": 1, "every": 1}}
    assert "- stage `light`: every 1, version 1" in (task.out / "DATASHEET.md").read_text()
    assert "Stage light looked with every 1, version 1." in write_summary(task.out).read_text()


def test_detector_weights_and_derived_values_are_stated():
    from macebench.curation.config import load_config
    from macebench.curation.dataset import forces, observers

    config = load_config()
    assert config.sections["motion"].min is None
    assert forces(config)["motion"]["min"] == config.sections["motion"].min_residual
    seen = observers(config)["person"]
    stage = next(stage for stage in config.make_stages() if stage.name == "person")
    assert seen == json.loads(json.dumps(dict(stage.observer_settings())))
    assert "auto" not in seen.values()


def test_columns_are_documented_in_the_file(done):
    import pyarrow.parquet as pq

    from macebench.curation.dataset import METADATA

    schema = pq.read_schema(done[0].out / "metadata.parquet")
    for name, (_, text) in METADATA.items():
        assert schema.field(name).metadata[b"doc"].decode() == text


def test_the_evaluation_reads_the_data_set(done):
    from macebench.clips import load_set

    assert len(load_set(f"{done[0].out}:train").clips) + len(load_set(f"{done[0].out}:test").clips) <= 9


def test_two_workers_another_order_and_a_second_run_give_the_same_bytes(done, job, raw, tmp_path, files_of):
    expected = files_of(done[0].out)
    listing = tmp_path / "list.txt"
    moved = tmp_path / "elsewhere"
    shutil.copytree(raw.folder, moved)
    listing.write_text("".join(f"{name}\n" for name in reversed(raw.names)))
    shutil.move(listing, moved / "list.txt")
    other = job("other", sources=[moved / "list.txt"], store="store2", workers=2)
    curate(other)
    assert files_of(other.out) == expected
    before = {path: path.stat().st_mtime_ns for path in (done[0].out / "clips").rglob("*.mp4")}
    curate(done[0])
    assert files_of(done[0].out) == expected
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_ray_gives_the_same_bytes(done, job, files_of):
    ray = pytest.importorskip("ray")
    other = job("other", store="store2", workers=2, engine="ray")
    try:
        curate(other)
    finally:
        ray.shutdown()
    assert files_of(other.out) == files_of(done[0].out)


def test_a_new_source_changes_no_clip(done, job, raw, tmp_path, make_raw, files_of):
    before = {path.name: path.read_bytes() for path in (done[0].out / "clips").rglob("*.mp4")}
    new = make_raw(tmp_path / "more" / "0.mp4", 5)
    curate(job("done", sources=[raw.folder, new.parent]))
    after = {path.name: path.read_bytes() for path in (done[0].out / "clips").rglob("*.mp4")}
    assert len(after) == 12
    assert before.items() <= after.items()
    curate(job("fresh", sources=[new.parent, raw.folder], store="store3"))
    assert files_of(job("fresh").out) == files_of(done[0].out)


def test_clips_of_sources_not_named_are_only_removed_when_that_is_asked_for(done, job, raw, files_of):
    before = files_of(done[0].out)
    with pytest.raises(UserError, match="not among those given"):
        curate(job("done", limit=1))
    assert files_of(done[0].out) == before
    curate(job("done", limit=1, prune=True))
    curate(job("fresh", sources=[raw.folder / "a.mp4"]))
    assert files_of(done[0].out) == files_of(job("fresh").out)


def test_of_equal_files_the_one_with_the_smallest_name_is_taken(job, raw, tmp_path, files_of):
    outs = []
    for number, names in enumerate((("z.mp4", "b.mp4", "m.mp4"), ("m.mp4", "z.mp4", "b.mp4"))):
        folder = tmp_path / f"raw{number}"
        folder.mkdir()
        for name in names:
            shutil.copy(raw.folder / "a.mp4", folder / name)
        task = job(f"out{number}", sources=[folder], workers=number + 1)
        curate(task)
        outs.append(files_of(task.out))
        metadata, ledger = (pd.read_parquet(task.out / f"{name}.parquet") for name in ("metadata", "ledger"))
        assert set(metadata.source_name) == {"b.mp4"}
        twice = ledger[ledger.reason == "duplicate"]
        assert twice.source_name.tolist() == ["m.mp4", "z.mp4"]
        assert set(twice.stage) == {"probe"}
    assert outs[0] == outs[1]


def test_opted_out_sources_are_neither_processed_nor_kept(done, job, raw, tmp_path, files_of):
    listing = tmp_path / "optout.txt"
    listing.write_text(file_sha256(raw.folder / "b.mp4") + "\n")
    task = job("done", f"probe.optout={listing}")
    result = curate(task)
    assert result.reasons["probe: opted out"] == 1
    assert "b.mp4" not in set(pd.read_parquet(task.out / "metadata.parquet").source_name)
    fresh = job("fresh", f"probe.optout={listing}", store="store2")
    curate(fresh)
    assert files_of(fresh.out) == files_of(task.out)
    ledger = pd.read_parquet(task.out / "ledger.parquet")
    gone = ledger[ledger.reason == "opted out"]
    assert [(row.source_name, row.thumbnail) for row in gone.itertuples()] == [("", "")]
    digest = file_sha256(raw.folder / "b.mp4")
    assert digest not in set(ledger.source_id)
    assert [found.reason for found in explain(task.out, digest)] == ["opted out"]
    with pytest.raises(UserError, match=r"b\.mp4"):
        explain(task.out, "b.mp4")
    for page in ("DATASHEET.md", "dataset.json"):
        assert "b.mp4" not in (task.out / page).read_text()
    assert not list((fresh.out / ".work" / "records").rglob(f"{file_sha256(raw.folder / 'b.mp4')}.json"))
    again = job("done")
    curate(again)
    curate(job("clean"))
    assert files_of(again.out) == files_of(job("clean").out)


def test_a_source_ended_early_has_one_row_wherever_its_timeline_comes_from(done, job, files_of):
    patient = "light.patience=1.5"
    fresh = job("fresh", patient, store="empty")
    result = curate(fresh)
    assert result.reasons == {"pieces: rest": 3, "light: dark so far": 1, "probe: not a media file": 1}
    ledger = pd.read_parquet(fresh.out / "ledger.parquet")
    row = ledger[ledger.source_name == "dark.mp4"].iloc[0]
    assert (row.start_s, row.threshold) == (0.0, 10.0)
    assert (fresh.out / row.thumbnail).read_bytes()[:2] == b"\xff\xd8"
    stored = job("stored", patient)
    curate(stored)
    assert files_of(stored.out) == files_of(fresh.out)
    task, _ = done
    then = what_if(task.out, [patient])
    assert {f"{stage}: {reason}": n for (stage, reason), n in then.then.reasons.items()} == result.reasons


def test_a_clip_on_the_data_sets_own_list_stays_out(done, job):
    metadata = pd.read_parquet(done[0].out / "metadata.parquet")
    gone = metadata.iloc[4]
    (done[0].out / "optout.txt").write_text(f"{gone.sha256}\n")
    result = curate(job("done"))
    assert result.n_clips == 8
    assert result.reasons["optout: opted out"] == 1
    assert not (done[0].out / gone.file_name).exists()


def test_facts_of_a_table_go_to_the_rows(job, raw, tmp_path):
    table = tmp_path / "t.parquet"
    rows = {"path": [str(raw.folder / "a.mp4"), str(raw.folder / "b.mp4")], "genre": ["Folk", None],
            "split": ["test", "train"], "licence": ["CC0-1.0", ""], "music": ["063", "064"]}  # fmt: skip
    pd.DataFrame(rows).to_parquet(table)
    task = job("out", "genre=Street", sources=[table])
    curate(task)
    found = pd.read_parquet(task.out / "metadata.parquet")
    first, second = (found[found.music == music].iloc[0] for music in ("063", "064"))
    assert (first.genre, first.licence, first.split) == ("Folk", "CC0-1.0", "test")
    assert (second.genre, second.licence, second.split) == ("Street", "unknown", "train")


def test_every_kept_clip_has_a_picture_and_sources_share_what_there_is(done, job):
    metadata = pd.read_parquet(done[0].out / "metadata.parquet")
    pictures = {path.stem for path in (done[0].out / "thumbnails").iterdir()}
    assert set(metadata.clip_id) <= pictures
    few = job("few", "max_thumbnails=3", store="store2")
    curate(few)
    shown = metadata[metadata.clip_id.isin([path.stem for path in (few.out / "thumbnails").iterdir()])]
    assert sorted(shown.source_name) == ["a.mp4", "b.mp4", "below/c.mp4"]
    from macebench.report.curation import write_summary

    assert "Pictures of 3 of 9 clips; max_thumbnails is 3." in write_summary(few.out).read_text()
    assert "Pictures of" not in write_summary(done[0].out).read_text()


def test_nothing_is_written_without_a_source(job, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no source"):
        curate(job("new", sources=[tmp_path / "empty"]))
    assert not (tmp_path / "new").exists()


def test_hostile_names_go_through(job, raw, tmp_path):
    folder = tmp_path / "raw2"
    folder.mkdir()
    names = [b"bad\xff.mp4", b"new\nline.mp4", b"-i.mp4", b"=1+1 <b>&.mp4", b"http:..x.mp4"]
    for name, source in zip(names, ["a.mp4", "b.mp4", "below/c.mp4", "dark.mp4", "broken.mp4"], strict=True):
        shutil.copy(raw.folder / source, os.path.join(os.fsencode(folder), name))
    task = job("out", sources=[folder])
    assert curate(task).n_clips == 9
    from macebench.report.curation import write_summary

    text = write_summary(task.out).read_text()
    assert "&lt;b&gt;&amp;.mp4" in text
    assert "<b>&" not in text


def test_another_run_on_the_same_folder_is_refused(job):
    import fcntl

    task = job("out")
    (task.out / ".work").mkdir(parents=True)
    with (task.out / ".work" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run"):
            curate(task)


def test_a_folder_with_other_things_is_refused(job):
    task = job("out")
    task.out.mkdir()
    (task.out / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        curate(task)


def test_tables_are_written_in_row_groups(done, monkeypatch, job, files_of):
    import pyarrow.parquet as pq

    from macebench.curation import dataset

    monkeypatch.setattr(dataset, "_ROW_GROUP", 2)
    curate(done[0])
    assert pq.ParquetFile(done[0].out / "metadata.parquet").num_row_groups == 5


@pytest.mark.slow
def test_kill_9_at_any_moment_and_resume_gives_the_same_bytes(done, raw, tmp_path, files_of, changes):
    """The whole process group's leader is killed again and again at random moments."""
    expected = files_of(done[0].out)
    words = [sys.executable, "-m", "macebench", "curate", str(raw.folder), "--out", str(tmp_path / "k"), "--store",
             str(tmp_path / "kstore"), "--plugin", str(raw.plugin), "--workers", "2", "--no-report"]  # fmt: skip
    for change in changes:
        words += ["--set", change]
    rng, kills = random.Random(4), 0
    for _ in range(40):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.9, 2.3))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            check_consistent(tmp_path / "k")
    subprocess.run(words, check=True, capture_output=True)
    assert kills >= 1
    assert files_of(tmp_path / "k") == expected


def check_consistent(out):
    """What has its final name is whole."""
    time.sleep(0.1)
    for path in (out / "clips").rglob("*.mp4"):
        with Decoder() as decoder:
            assert sum(len(batch) for batch in decoder.frames(path)) == 10
    if (out / "metadata.parquet").is_file():
        for row in pd.read_parquet(out / "metadata.parquet").itertuples():
            assert (out / row.file_name).is_file()


def test_nan_has_no_place_in_json(done):
    for path in done[0].out.rglob("*.json"):
        text = path.read_text()
        assert "NaN" not in text
        json.loads(text, parse_constant=lambda word: math.inf)
