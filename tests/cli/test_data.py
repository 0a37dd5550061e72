"""The commands around a data set, on a small demo data set."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from macebench.cli import main
from macebench.demo.dataset import build_demo_dataset


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_demo_dataset(tmp_path_factory.mktemp("data") / "set", n_clips=4, seconds=3.0, fps=10.0, size=64)


@pytest.fixture
def dataset(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "set"))


def test_the_demo_data_set_has_no_errors(dataset, tmp_path, capfd):
    assert main(["data", "audit", str(dataset), "--out", str(tmp_path / "out" / "a.json")]) == 0
    out, err = capfd.readouterr()
    assert "train" in out
    assert "10 fps: 2 clips" in out
    assert "64x64: 2 clips" in out
    assert "the manifest has no column source_id." in out
    assert "inspect" in err
    assert not json.loads((tmp_path / "out" / "a.json").read_text())["failed"]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".png", ".html"}
    assert main(["data", "verify", str(dataset)]) == 0
    assert "4 clips: whole" in capfd.readouterr().out


def test_a_leak_and_a_broken_file_exit_3(dataset, capfd):
    table = pd.read_parquet(dataset / "metadata.parquet")
    table["source_id"] = ["one"] * 4
    table.to_parquet(dataset / "metadata.parquet", index=False)
    assert main(["data", "audit", str(dataset)]) == 3
    out = capfd.readouterr().out
    assert "leak: source" in out
    assert (dataset / "audit.html").is_file()
    (dataset / table["file_name"][0]).write_bytes(b"x")
    assert main(["data", "verify", str(dataset)]) == 3
    assert "not a media file" in capfd.readouterr().out


def test_opt_out(dataset, tmp_path, capfd):
    table = pd.read_parquet(dataset / "metadata.parquet")
    listing = tmp_path / "list.txt"
    listing.write_text(table["sha256"][1] + "\n")
    assert main(["data", "optout", str(dataset), "--list", str(listing)]) == 0
    assert "on the list: 1 clip; not on it: 3" in capfd.readouterr().out
    for name in ("summary.html", "audit.html", "audit.json"):
        (dataset / name).write_text("x")
    assert main(["data", "optout", str(dataset), "--list", str(listing), "--apply"]) == 0
    out = capfd.readouterr().out
    assert "1 clip opted out" in out
    assert "removed too, because they showed the clips: summary.html, audit.html, audit.json" in out
    assert f"macebench data audit {dataset}" in out
    assert "writes summary.html again" in out
    assert not (dataset / "summary.html").exists()
    assert not (dataset / table["file_name"][1]).exists()
    assert main(["data", "verify", str(dataset)]) == 0
    listing.write_text("nonsense\n")
    assert main(["data", "optout", str(dataset), "--list", str(listing)]) == 2
    assert "list.txt:1" in capfd.readouterr().err


def test_wrong_input(tmp_path, capfd):
    assert main(["data", "audit", str(tmp_path)]) == 2
    assert main(["data", "verify", str(tmp_path), "--workers", "0"]) == 2
    assert "Traceback" not in capfd.readouterr().err
    for words in (["data", "verify", "nope"], ["data", "audit", "nope"], ["data", "optout", "nope", "--list", "x.txt"],
                  ["curate", "explain", "x", "--dataset", "nope"],
                  ["curate", "what-if", "--dataset", "nope", "--set", "seed=1"]):  # fmt: skip
        assert main(words) == 2
        err = capfd.readouterr().err
        assert "does not exist" in err
        assert "Errno" not in err
    assert main(["data", "audit", str(tmp_path)]) == 2
    assert "is no data set: it has no metadata.parquet" in capfd.readouterr().err
