import hashlib
import json
import shutil
import sys

import pandas as pd
import pytest

from macebench.clips import load_set
from macebench.curation import optout as module
from macebench.curation.optout import apply_optout, dataset_hash, find_optout, load_optout, salted
from macebench.curation.videofolder import write_split_tables
from macebench.errors import UserError
from macebench.optout import OptOut, dataset_optout

SOURCES = {name: hashlib.sha256(name.encode()).hexdigest() for name in "ABC"}


def sha(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def data(tmp_path):
    """Five clips of three sources, with ledger, records, thumbnails and side files."""
    folder, rows = tmp_path / "set", []
    for k, name in enumerate("AABBC"):
        clip_id = f"{SOURCES[name][:12]}-{k:08d}"
        split = "test" if name == "C" else "train"
        for path in (f"clips/{split}/{clip_id}.mp4", f"motions/{clip_id}.npz", f"music/{clip_id}.wav",
                     f"thumbnails/{clip_id}.jpg", f".parts/{clip_id}.json",
                     f".work/thumbnails/{clip_id[:2]}/{clip_id}.jpg"):  # fmt: skip
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(path.encode())
        file_name = f"clips/{split}/{clip_id}.mp4"
        rows.append({
            "file_name": file_name, "clip_id": clip_id, "split": split, "source_id": SOURCES[name],
            "source_name": f"{name}.mp4", "start_s": 5.0 * k, "end_s": 5.0 * k + 5, "performer": f"dancer {name}",
            "sha256": sha(file_name.encode()),
        })  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "metadata.parquet", index=False)
    ledger = [{"source_id": SOURCES[n], "source_name": f"{n}.mp4", "start_s": 1.0, "end_s": 2.0, "stage": "motion",
               "reason": "static", "value": 0.1, "thumbnail": f"thumbnails/{n}.jpg"} for n in "AC"]  # fmt: skip
    pd.DataFrame(ledger).to_parquet(folder / "ledger.parquet", index=False)
    for name in "AC":
        record = folder / ".work" / "records" / SOURCES[name][:2] / f"{SOURCES[name]}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"clips": [], "rejected": [{"thumbnail": f"{name}.jpg"}]}))
        (folder / "thumbnails" / f"{name}.jpg").write_bytes(b"picture")
    summary = {"n_clips": 5, "splits": {"train": 4, "test": 1}, "hash": "old", "clip_seconds": 25.0, "version": 1}
    (folder / "dataset.json").write_text(json.dumps(summary))
    (folder / "summary.html").write_text("pictures")
    return folder


def listed(tmp_path, *lines):
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def ids(folder):
    return sorted(pd.read_parquet(folder / "metadata.parquet")["clip_id"])


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_list_is_read(tmp_path):
    found = load_optout(listed(tmp_path, "# head", "", f"{SOURCES['A'].upper()}  # source", "salt a b", SOURCES["B"]))
    assert (found.digests, found.salt) == ({SOURCES["A"], SOURCES["B"]}, "a b")
    assert SOURCES["A"] in found
    assert found.blocked(source_sha256=SOURCES["B"])
    assert found.blocked(SOURCES["A"].upper())
    assert not found.blocked(SOURCES["C"], "")


@pytest.mark.parametrize("line", ["abc", "g" * 64, "salt", "salt one\nsalt two", SOURCES["A"] + " x"])
def test_a_wrong_list_names_the_line(tmp_path, line):
    with pytest.raises(UserError, match=r"list\.txt:[23]: "):
        load_optout(listed(tmp_path, "# head", line))


def test_a_list_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt does not exist"):
        load_optout(tmp_path / "none.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        load_optout(tmp_path / "bytes.txt")


def test_salted_ids_need_their_salt():
    entry = salted("dancer A", "salt")
    assert entry == hashlib.sha256(b"salt:dancer A").hexdigest()
    assert OptOut(frozenset({entry}), "salt").blocked(ids=("dancer A",))
    assert not OptOut(frozenset({entry}), "").blocked(ids=("dancer A",))
    assert not OptOut(frozenset({salted("", "salt")}), "salt").blocked(ids=("",))


def test_looking_changes_nothing(data, tmp_path):
    before = everything(data)
    done = apply_optout(data, listed(tmp_path, SOURCES["A"]), apply=False)
    assert [name[:12] for name in done.clips] == [SOURCES["A"][:12]] * 2
    assert (done.removed_files, done.kept_clips) == (0, 3)
    assert everything(data) == before


def test_a_source_is_removed_from_tables_and_disk(data, tmp_path):
    done = apply_optout(data, listed(tmp_path, SOURCES["A"]))
    assert (len(done.clips), done.kept_clips) == (2, 3)
    assert done.removed_pages == ("summary.html",)
    left = everything(data)
    # a list of hashes is all that may still name the source
    assert not [name for name in left if SOURCES["A"][:12] in name or name.endswith("/A.jpg")]
    assert not [name for name, content in left.items() if b"A.mp4" in content or b"dancer A" in content]
    assert "summary.html" not in left
    assert "thumbnails/C.jpg" in left
    assert len(ids(data)) == 3
    ledger = pd.read_parquet(data / "ledger.parquet")
    assert sorted(ledger["stage"]) == ["motion", "optout", "optout"]
    gone = ledger[ledger["stage"] == "optout"]
    assert set(gone["reason"]) == {"opted out"}
    assert not set(gone["source_id"]) & {*SOURCES.values(), *done.clips}
    assert set(gone["source_name"]) == {""}
    assert gone[["start_s", "end_s", "value"]].isna().all(axis=None)


def test_the_summary_is_true_again(data, tmp_path):
    apply_optout(data, listed(tmp_path, SOURCES["A"]))
    summary = json.loads((data / "dataset.json").read_text())
    rows = pd.read_parquet(data / "metadata.parquet").to_dict("records")
    assert (summary["n_clips"], summary["splits"], summary["clip_seconds"]) == (3, {"test": 1, "train": 2}, 15.0)
    lines = "".join(f"{r['clip_id']} {r['split']} {r['sha256']}\n" for r in rows)
    assert summary["hash"] == sha(lines.encode()) == dataset_hash(rows, demo=False)


@pytest.fixture
def curated(data):
    """`data` with what only `macebench curate` writes: tables of the splits, and a data sheet."""
    summary = json.loads((data / "dataset.json").read_text()) | {
        "schema": "macebench-dataset", "n_sources": 3, "source_seconds": 90.0, "rejected": [], "split_notes": [],
        "config": {"stages": ["probe"], "consent": "given", "licence": "CC0-1.0"},
    }  # fmt: skip
    (data / "dataset.json").write_text(json.dumps(summary))
    (data / "DATASHEET.md").write_text("**What it is.** 5 clips")
    write_split_tables(data / "metadata.parquet", data)
    return data


def split_rows(folder):
    return {
        path.parent.name: pd.read_parquet(path)["clip_id"].tolist() for path in folder.glob("clips/*/metadata.parquet")
    }


def test_the_tables_of_the_splits_and_the_data_sheet_forget_too(curated, tmp_path):
    assert sorted(split_rows(curated)) == ["test", "train"]
    apply_optout(curated, listed(tmp_path, SOURCES["A"], SOURCES["C"]))
    assert split_rows(curated) == {"train": ids(curated)}
    assert "**What it is.** 2 clips" in (curated / "DATASHEET.md").read_text()


def test_a_kill_before_the_last_tables_is_repaired(curated, tmp_path, monkeypatch):
    path = listed(tmp_path, SOURCES["A"])
    monkeypatch.setattr(module, "write_split_tables", lambda *_: sys.exit(9))
    with pytest.raises(SystemExit):
        apply_optout(curated, path)
    assert split_rows(curated) == {}
    monkeypatch.undo()
    apply_optout(curated, path)
    assert sorted(name for rows in split_rows(curated).values() for name in rows) == ids(curated)


def test_one_clip_of_a_source_leaves_the_others(data, tmp_path):
    row = pd.read_parquet(data / "metadata.parquet").iloc[0]
    apply_optout(data, listed(tmp_path, row["sha256"]))
    assert len(ids(data)) == 4
    assert row["clip_id"] not in ids(data)
    assert (data / ".work" / "records" / SOURCES["A"][:2] / f"{SOURCES['A']}.json").is_file()


def test_a_performer_is_removed_by_a_salted_id(data, tmp_path):
    path = listed(tmp_path, "salt 9f", salted("dancer B", "9f"))
    assert len(find_optout(data, load_optout(path))) == 2
    assert len(apply_optout(data, path).clips) == 2
    assert dataset_optout(data).salt == "9f"
    with pytest.raises(UserError, match="another salt"):
        apply_optout(data, listed(tmp_path, "salt 00", SOURCES["C"]))


def test_a_source_that_has_only_rejected_spans_leaves_the_ledger(data, tmp_path):
    apply_optout(data, listed(tmp_path, SOURCES["C"]))
    assert SOURCES["C"] not in set(pd.read_parquet(data / "ledger.parquet")["source_id"])
    assert not (data / "thumbnails" / "C.jpg").exists()


@pytest.mark.parametrize("step", ["_write_list", "_remove", "_rewrite_ledger", "_rewrite_summary", "_write_parquet"])
def test_a_run_that_is_killed_is_finished_by_the_next(data, tmp_path, monkeypatch, step):
    path, twin = listed(tmp_path, SOURCES["A"]), tmp_path / "twin"
    shutil.copytree(data, twin)
    apply_optout(twin, path)

    class Killed(BaseException):
        """Stands for a signal."""

    calls, original = [], getattr(module, step)

    def dies(*args):
        original(*args)
        calls.append(1)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, step, dies)
        with pytest.raises(Killed):
            apply_optout(data, path)
    assert calls
    # the loader leaves the clips out already
    assert len(load_set(data).clips) == 3
    apply_optout(data, path)
    assert everything(data) == everything(twin)
    apply_optout(data, path)
    assert everything(data) == everything(twin)


def test_a_set_without_ledger_gets_one(data, tmp_path):
    (data / "ledger.parquet").unlink()
    apply_optout(data, listed(tmp_path, SOURCES["B"]))
    assert list(pd.read_parquet(data / "ledger.parquet")["reason"]) == ["opted out"] * 2


def test_files_outside_the_folder_are_never_touched(data, tmp_path):
    victim = tmp_path / "victim.mp4"
    victim.write_bytes(b"keep")
    table = pd.read_parquet(data / "metadata.parquet")
    table.loc[0, "file_name"] = "../victim.mp4"
    table.to_parquet(data / "metadata.parquet", index=False)
    with pytest.raises(UserError, match="leaves the folder"):
        apply_optout(data, listed(tmp_path, SOURCES["A"]))
    assert victim.read_bytes() == b"keep"


def test_loading_leaves_opted_out_clips_out(data):
    assert len(load_set(f"{data}:train").clips) == 4
    (data / "optout.txt").write_text(f"salt x\n{SOURCES['A']}\n{salted('dancer C', 'x')}\n")
    clips = load_set(data).clips
    assert [clip.clip_id[:12] for clip in clips] == [SOURCES["B"][:12]] * 2
    with pytest.raises(UserError, match="no split 'test'"):
        load_set(f"{data}:test")
    only = [f"{SOURCES['A'][:12]}-00000000"]
    assert all(not clip.path.is_file() for clip in load_set(data, only=only).clips)


def test_no_data_set(tmp_path):
    with pytest.raises(UserError, match=r"is no data set: it has no metadata\.parquet"):
        apply_optout(tmp_path, listed(tmp_path, SOURCES["A"]))


def test_a_clip_whose_id_begins_another_ones_takes_nothing_along(tmp_path):
    folder = tmp_path / "set"
    names = ("clip1", "clip10", "*")
    for name in names:
        (folder / "clips" / "train").mkdir(parents=True, exist_ok=True)
        (folder / "clips" / "train" / f"{name}.mp4").write_text(name)
    rows = [{"clip_id": n, "file_name": f"clips/train/{n}.mp4", "split": "train", "sha256": sha(n.encode()),
             "source_id": "*"} for n in names]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "metadata.parquet")
    apply_optout(folder, listed(tmp_path, sha(b"clip1"), sha(b"*")))
    assert ids(folder) == ["clip10"]
    assert [path.name for path in folder.glob("clips/train/*.mp4")] == ["clip10.mp4"]


def test_what_overlaps_a_named_clip_goes_with_it(data, tmp_path):
    table = pd.read_parquet(data / "metadata.parquet")
    table.loc[1, ["start_s", "end_s"]] = (3.0, 8.0)
    table.to_parquet(data / "metadata.parquet", index=False)
    result = apply_optout(data, listed(tmp_path, table["sha256"][0]))
    assert result.clips == tuple(sorted(table["clip_id"][:2]))
    text = (data / "optout-spans.json").read_text()
    assert SOURCES["A"] not in text
    assert "A.mp4" not in text


def test_a_damaged_file_of_spans_is_an_error(data, tmp_path):
    (data / "optout-spans.json").write_text("{")
    with pytest.raises(UserError, match=r"optout-spans\.json cannot be read"):
        apply_optout(data, listed(tmp_path, SOURCES["A"]))
