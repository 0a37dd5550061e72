"""``macebench curate`` on 3-D motions: rendered first, then curated like videos."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from macebench.media import Decoder, write_wav
from macebench.motion.rotations import axis_angle_to_matrix, matrix_to_rotation_6d

QUICK = (
    "--set", "stages=[probe, windows]", "--set", "probe.min_side=64", "--set", "probe.min_duration_s=1",
    "--set", "windows.min_s=1", "--set", "windows.max_s=2", "--set", "render.width=96", "--set", "render.height=96",
    "--set", "render.min_s=1", "--no-report",
)  # fmt: skip


def run(*words, status=0):
    call = [sys.executable, "-m", "macebench", "curate", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def songs(tmp_path, dance, click_track):
    """FineDance's layout: 012 (a test song), 013 without music, 116 on the ignore list."""
    root = tmp_path / "FineDance"
    for folder in ("label_json", "motion", "music_wav"):
        (root / folder).mkdir(parents=True)
    for k, song in enumerate(("012", "013", "116")):
        motion = dance(k, 1.7)
        six = np.tile(matrix_to_rotation_6d(np.eye(3)), (len(motion), 52, 1))
        six[:, :22] = matrix_to_rotation_6d(axis_angle_to_matrix(motion.rotations[:, :22]))
        rows = np.concatenate([motion.root, six.reshape(len(motion), -1)], axis=1)
        np.save(root / "motion" / f"{song}.npy", rows.astype(np.float32))
        (root / "label_json" / f"{song}.json").write_text(json.dumps({"style1": "Folk", "style2": "Tai"}), "utf-8")
        if song != "013":
            write_wav(root / "music_wav" / f"{song}.wav", click_track(1.7, 120), 22050)
    return root


@pytest.mark.slow
def test_a_finedance_folder_becomes_a_data_set(songs, tmp_path):
    out = tmp_path / "set"
    assert "to render         1 of 3 recordings, 2 s of video" in run(
        "--finedance", songs, "--out", out, "--plan", *QUICK
    )
    text = run("--finedance", songs, "--out", out, *QUICK)
    assert "1 clips" in text
    (row,) = pd.read_parquet(out / "metadata.parquet").to_dict("records")
    assert (row["genre"], row["genre_raw"], row["split"], row["pairing"]) == ("Dai", "Tai", "test", "original")
    assert (row["source"], row["music"], row["recording"]) == ("finedance", "finedance-012", "012")
    assert "non-commercial" in row["licence"]
    assert row["fps"] == 30.0
    with Decoder() as decoder:
        assert decoder.probe(out / row["file_name"]).fps == 30.0
    ledger = pd.read_parquet(out / "ledger.parquet")
    assert dict(zip(ledger["source_name"], ledger["reason"], strict=True)) == {
        "013": "no music", "116": "on the ignore list",
    }  # fmt: skip

    before = {path.name: path.stat().st_mtime_ns for path in (out / ".work" / "rendered").glob("*.mp4")}
    run("--finedance", songs, "--out", out, *QUICK)
    assert {path.name: path.stat().st_mtime_ns for path in (out / ".work" / "rendered").glob("*.mp4")} == before


def test_a_folder_of_motions_becomes_a_data_set(dances, tmp_path):
    folder = dances(tmp_path / "in", 1, seconds=1.5)
    run("--motions", folder, "--out", tmp_path / "set", *QUICK)
    (row,) = pd.read_parquet(tmp_path / "set" / "metadata.parquet").to_dict("records")
    assert (row["pairing"], row["source"], row["recording"]) == ("synthetic", "motion", "dance0")


@pytest.mark.slow
def test_a_limit_counts_recordings_with_all_their_takes(dances, tmp_path):
    folder = dances(tmp_path / "in", 2, seconds=2.4)
    (folder / "zother.pkl").write_bytes(b"\x80\x04}.")
    words = ("--motions", folder, "--out", tmp_path / "set", "--set", "render.take_s=1.2", *QUICK)
    text = run(*words, "--limit", "1")
    metadata = pd.read_parquet(tmp_path / "set" / "metadata.parquet")
    assert metadata["recording"].tolist() == ["dance0", "dance0"]
    assert "2 clips" in text
    assert len(list((tmp_path / "set" / ".work" / "rendered").glob("*.mp4"))) == 2

    text = run(*words)
    assert "4 clips" in text
    assert "dropped: 1 x sources: motion file not usable: pickle not allowed" in text
    assert f"`macebench convert {folder} --out DIR --trust-pickle`" in text
    ledger = pd.read_parquet(tmp_path / "set" / "ledger.parquet")
    assert ledger["source_name"].tolist() == ["zother"]


def test_what_is_wrong_is_said(songs, tmp_path):
    out = ("--out", tmp_path / "set")
    assert "no FineDance folder" in run("--finedance", tmp_path, *out, status=2)
    assert "pairing is 'real'" in run("--finedance", songs, "--pairing", "real", *out, status=2)
    assert "cannot be used without --motions" in run("--music", tmp_path, *out, status=2)
    assert "no split 'nonsense'" in run("--finedance", songs, "--finedance-split", "nonsense", *out, status=2)
    assert "frame rate of motions is -3" in run("--motions", songs, "--motion-fps", "-3", *out, status=2)
    assert "without --motions" in run("--finedance", songs, "--motion-fps", "30", *out, status=2)
    assert "--smpl-dir" in run("--finedance", songs, "--body", "smplx", *out, status=2)
    assert "render.renderer is 'gl'" in run("--finedance", songs, "--renderer", "gl", *out, status=2)
    (tmp_path / "aist").mkdir()
    (tmp_path / "aist" / "gBR_sBM_cAll_d04_mBR0_ch01.pkl").write_bytes(b"\x80\x04}.")
    assert "macebench convert" in run("--motions", tmp_path / "aist", *out, status=2)
