"""Tables of the splits, and what Hugging Face ``datasets`` makes of the folder."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from macebench.curation.videofolder import move_split_tables, write_split_tables

SPLITS = {"a": "train", "b": "test", "c": "train", "d": "val"}


@pytest.fixture
def folder(tmp_path):
    """A data set folder without split tables; its clips are no real videos."""
    rows = []
    for name, split in SPLITS.items():
        path = tmp_path / "clips" / split / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        rows.append({"file_name": f"clips/{split}/{name}.mp4", "clip_id": name, "split": split, "fps": 30.0})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metadata.parquet")
    (tmp_path / "thumbnails").mkdir()
    (tmp_path / "thumbnails" / "a.jpg").write_bytes(b"x")
    return tmp_path


def table(folder, split):
    return pq.read_table(folder / "clips" / split / "metadata.parquet").to_pylist()


def test_each_split_has_its_rows_with_names_below_itself(folder):
    assert write_split_tables(folder / "metadata.parquet", folder) == ["test", "train", "val"]
    assert [(row["clip_id"], row["file_name"]) for row in table(folder, "train")] == [("a", "a.mp4"), ("c", "c.mp4")]
    whole = pq.read_schema(folder / "metadata.parquet")
    assert all(pq.read_schema(folder / "clips" / name / "metadata.parquet") == whole for name in SPLITS.values())


def test_a_split_without_rows_loses_its_table(folder):
    write_split_tables(folder / "metadata.parquet", folder)
    rows = pq.read_table(folder / "metadata.parquet").to_pylist()
    pq.write_table(pa.Table.from_pylist([row for row in rows if row["split"] != "val"]), folder / "metadata.parquet")
    new = folder / "new"
    move_split_tables(new, folder, write_split_tables(folder / "metadata.parquet", new))
    assert sorted(path.parent.name for path in folder.glob("clips/*/metadata.parquet")) == ["test", "train"]


def test_hugging_face_datasets_loads_the_folder(folder):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    write_split_tables(folder / "metadata.parquet", folder)
    datasets.disable_progress_bars()
    found = datasets.load_dataset("videofolder", data_dir=str(folder), cache_dir=str(folder / "cache"))
    assert {name: part["clip_id"] for name, part in found.items()} == {
        "train": ["a", "c"], "validation": ["d"], "test": ["b"]
    }  # fmt: skip
    row = found["train"].cast_column("video", datasets.Video(decode=False))[1]
    assert row["video"]["path"].endswith("clips/train/c.mp4")
    assert (row["fps"], row["split"]) == (30.0, "train")
