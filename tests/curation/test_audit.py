"""A small data set with one planted fault of each kind, and the same set without."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from macebench.curation._audit_page import write_report
from macebench.curation.audit import audit, verify
from macebench.demo.music import compose
from macebench.errors import UserError
from macebench.media import file_sha256, write_video

FPS, RATE = 20.0, 22050


def dance(seed, seconds=9.0, size=64):
    """(T, size, size, 3): blobs that move over a textured wall."""
    rng = np.random.default_rng(seed)
    rate, phase = rng.uniform(0.3, 1.2, (4, 2)), rng.uniform(0, 6.3, (4, 2))
    t = np.arange(round(seconds * FPS))[:, None, None] / FPS
    place = 0.5 + 0.25 * np.sin(2 * np.pi * rate * t + phase)
    grid = (np.arange(size) + 0.5) / size
    picture = np.random.default_rng(7).uniform(60, 110, (size, size))[None].repeat(len(t), axis=0)
    for k in range(4):
        x, y = place[:, k, 0, None, None], place[:, k, 1, None, None]
        picture = picture + 90 * np.exp(-((grid[None, None] - x) ** 2 + (grid[None, :, None] - y) ** 2) / 0.012)
    return np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[..., None], 3, axis=3)


GENRES = ("funk", "pop", "disco", "house")


def song(seed, seconds=9.0):
    return compose(GENRES[seed % 4], seconds, seed, sample_rate=RATE).samples


def cut(values, rate, start_s, length_s=5.0):
    return values[round(start_s * rate) : round((start_s + length_s) * rate)]


def write_clip(path, pictures, music, start_s=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, cut(pictures, FPS, start_s), fps=FPS, audio=(cut(music, RATE, start_s), RATE), preset="ultrafast")


def make_row(folder, path, split, k, **more):
    return {
        "clip_id": path.stem, "file_name": path.relative_to(folder).as_posix(), "split": split,
        "sha256": file_sha256(path), "source_id": f"{k:064x}", "music": f"song{k}", "performer": f"dancer{k}",
        "genre": GENRES[k % 4], "start_s": 0.0, "end_s": 5.0, "fps": FPS, "n_frames": 100, "width": 64, "height": 64,
        "licence": "CC0-1.0", "consent": "own work", **more,
    }  # fmt: skip


def save(folder, rows):
    pd.DataFrame(rows).to_parquet(folder / "metadata.parquet", index=False)
    counts = pd.Series([row["split"] for row in rows]).value_counts().to_dict()
    (folder / "dataset.json").write_text(json.dumps({"n_clips": len(rows), "splits": counts}), "utf-8")


@pytest.fixture(scope="module")
def clean_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "clean"
    rows = []
    for k in range(6):
        split = "train" if k < 4 else "test"
        path = folder / "clips" / split / f"clip{k}.mp4"
        write_clip(path, dance(k), song(k))
        rows.append(make_row(folder, path, split, k))
    save(folder, rows)
    return folder, rows


@pytest.fixture
def data(clean_set, tmp_path):
    """A copy of the clean set that a test may spoil."""
    folder, rows = clean_set
    shutil.copytree(folder, tmp_path / "set")
    return tmp_path / "set", [dict(row) for row in rows]


def kinds(report, severity="error"):
    return {one.kind for one in report.findings if one.severity == severity}


def clips_of(report, kind):
    return [one.clips for one in report.findings if one.kind == kind]


def add(folder, rows, name, split, pictures, music, start_s=0.0, **more):
    path = folder / "clips" / split / f"{name}.mp4"
    write_clip(path, pictures, music, start_s)
    rows.append(make_row(folder, path, split, 50 + len(rows), **more))
    save(folder, rows)


def test_a_clean_set_passes(clean_set):
    report = audit(clean_set[0])
    assert report.findings == ()
    assert not report.failed
    train = report.splits["train"]
    assert (train.clips, train.fps, train.sizes) == (4, {"20.00": 4}, {"64x64": 4})
    assert train.genres == {"disco": 1, "funk": 1, "house": 1, "pop": 1}
    assert train.hours == pytest.approx(4 * 5 / 3600, rel=1e-3)
    assert not verify(clean_set[0]).findings


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"source_id": f"{0:064x}"}, "leak: source"),
        ({"music": "song1"}, "leak: music"),
    ],
)
def test_a_leak_by_name_is_found(data, change, kind):
    folder, rows = data
    rows[5].update(change)
    save(folder, rows)
    report = audit(folder)
    assert kinds(report) == {kind}
    assert clips_of(report, kind) == [("clip0" if "source" in kind else "clip1", "clip5")]


def test_a_performer_in_two_splits_is_an_error_where_the_set_keeps_performers_apart(data):
    folder, rows = data
    rows[5]["performer"] = "dancer2"
    save(folder, rows)
    assert kinds(audit(folder), "warning") == {"leak: performer"}
    assert not audit(folder).failed
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"config": {"splits": {"by": ["performer"]}}}))
    assert kinds(audit(folder)) == {"leak: performer"}


def test_a_leak_of_the_music_is_found_by_ear(data):
    folder, rows = data
    add(folder, rows, "again", "test", dance(77), song(2), 1.3)
    report = audit(folder)
    assert kinds(report) == {"leak: sound"}
    assert clips_of(report, "leak: sound") == [("again", "clip2")]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_leak_of_the_dance_is_found_by_eye(data, mirrored):
    folder, rows = data
    pictures = dance(1)[:, :, ::-1] if mirrored else dance(1)
    add(folder, rows, "again", "test", pictures, song(42), 0.0 if mirrored else 1.0)
    report = audit(folder)
    assert kinds(report) == {"leak: picture"}
    assert clips_of(report, "leak: picture") == [("again", "clip1")]
    assert ("mirrored" in report.findings[0].detail) == mirrored


def test_copies_within_a_split_are_warnings(data):
    folder, rows = data
    shutil.copy(folder / rows[0]["file_name"], folder / "clips" / "train" / "copy.mp4")
    rows.append(rows[0] | {"clip_id": "copy", "file_name": "clips/train/copy.mp4"})
    add(folder, rows, "near", "train", dance(3), song(3), 0.5)
    report = audit(folder)
    assert not report.failed
    assert clips_of(report, "exact duplicate") == [("clip0", "copy")]
    assert clips_of(report, "near duplicate") == [("clip3", "near")]


def test_the_same_file_in_two_splits_is_an_error(data):
    folder, rows = data
    shutil.copy(folder / rows[0]["file_name"], folder / "clips" / "test" / "copy.mp4")
    rows.append(make_row(folder, folder / "clips" / "test" / "copy.mp4", "test", 99))
    save(folder, rows)
    assert "leak: same file" in kinds(audit(folder))


@pytest.mark.parametrize("look", [audit, verify])
def test_broken_files_are_found(data, look):
    folder, rows = data
    missing, cut_off, changed, text = (folder / rows[k]["file_name"] for k in range(4))
    missing.unlink()
    cut_off.write_bytes(cut_off.read_bytes()[:900])
    changed.write_bytes(changed.read_bytes() + bytes(8))
    text.write_text("no video")
    report = look(folder)
    assert clips_of(report, "missing file") == [("clip0",)]
    assert clips_of(report, "broken file") == [("clip1",), ("clip3",)]
    assert ("clip2",) in clips_of(report, "wrong hash")
    assert report.failed
    assert report.splits["train"].clips == 4


def test_wrong_tables_are_found(data):
    folder, rows = data
    rows[1]["file_name"] = rows[0]["file_name"]
    rows[2]["file_name"] = "../clip2.mp4"
    rows[3].update(width=65, fps=25.0)
    save(folder, [*rows, rows[4]])
    (folder / "dataset.json").write_text(json.dumps({"n_clips": 9, "splits": {"train": 4, "test": 2, "val": 1}}))
    report = verify(folder)
    assert {"clip_id twice", "file_name twice", "broken file", "wrong count"} <= kinds(report)
    assert clips_of(report, "broken file") == [("clip2",)]
    assert {one.detail for one in report.findings if one.kind == "wrong value"} == {
        "width is 64, the manifest says 65.", "fps is 20.000, the manifest says 25.000."}  # fmt: skip
    assert any("clip1.mp4 is in no row" in one.detail for one in report.findings)


def test_rows_without_rights_and_missing_columns_are_told(data):
    folder, rows = data
    rows[0]["licence"] = ""
    rows[1]["consent"] = None
    for row in rows:
        del row["performer"]
    save(folder, rows)
    report = audit(folder)
    assert not report.failed
    assert clips_of(report, "no licence") == [("clip0",)]
    assert clips_of(report, "no consent") == [("clip1",)]
    assert [one.detail for one in report.findings if one.severity == "note"] == [
        "the manifest has no column performer."
    ]


def test_opted_out_clips_that_are_still_there_are_an_error(data):
    folder, rows = data
    (folder / "optout.txt").write_text(rows[0]["sha256"] + "\n")
    assert clips_of(verify(folder), "opted out") == [("clip0",)]


def test_what_was_seen_is_kept_and_workers_do_not_matter(clean_set, tmp_path, monkeypatch):
    folder, _ = clean_set
    one, two = (audit(folder, workers=n, store=tmp_path / f"store{n}") for n in (1, 2))
    assert one == two
    monkeypatch.setattr("macebench.curation._inspect._computed", lambda *_: pytest.fail("decoded again"))
    assert audit(folder, store=tmp_path / "store1") == one


def test_the_report_is_written_with_everything_escaped(clean_set, data, tmp_path):
    folder, rows = data
    rows[5].update(genre="<script>x</script>", music="song1 <b>")
    rows[1]["music"] = "song1 <b>"
    save(folder, rows)
    report = audit(folder)
    paths = write_report(report, tmp_path / "a" / "audit.json")
    first = [path.read_bytes() for path in paths]
    assert first == [path.read_bytes() for path in write_report(audit(folder), tmp_path / "a" / "audit.json")]
    record = json.loads(first[0])
    assert record["failed"]
    assert record["findings"][0]["clips"] == ["clip1", "clip5"]
    page = first[2].decode()
    assert "<script>" not in page
    assert "song1 &lt;b&gt;" in page
    assert "Content-Security-Policy" in page
    assert first[1].startswith(b"\x89PNG")


def test_no_data_set(tmp_path):
    with pytest.raises(UserError, match=r"is no data set: it has no metadata\.parquet"):
        audit(tmp_path)
    pd.DataFrame({"clip_id": ["a"]}).to_parquet(tmp_path / "metadata.parquet")
    with pytest.raises(UserError, match="no column file_name"):
        verify(tmp_path)
