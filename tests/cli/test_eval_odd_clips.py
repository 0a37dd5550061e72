"""Odd clips through `macebench eval` with filler weights: each has a score or a counted reason in every dimension."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from macebench.media import Decoder, write_video

pytestmark = pytest.mark.slow
NETWORKS = Path(__file__).resolve().parents[1] / "short_networks.py"
DIMENSIONS = (
    "imaging_quality", "aesthetic_quality", "subject_consistency", "background_consistency", "motion_smoothness",
    "temporal_flickering", "ms_flow", "dynamic_degree",
)  # fmt: skip
SHORT, SMALL = "too short", "smaller than 128 pixels"
HDR, WIDE, ALPHA = "HDR (PQ) read without tone mapping", "BT.2020 colours read as they are", "transparency ignored"


def pictures(count=6, height=128, width=160, channels=3):
    """(T, H, W, C) uint8: waves that move, brighter to the right."""
    t, y, x = np.mgrid[:count, :height, :width].astype(float)
    waves = [110 + 70 * np.sin((x + 5 * t) / (7 + k)) * np.cos((y - 3 * t) / (9 + k)) + x / 4 for k in range(channels)]
    return np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8)


def ffmpeg(*words, data=b""):
    import imageio_ffmpeg

    call = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *map(str, words)]
    subprocess.run(call, input=data, check=True)


def encode(path, frames, pixels, *words, fps=16):
    """Write frames with ffmpeg's own words for codec and tags."""
    height, width = frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{width}x{height}", "-r", fps, "-i", "pipe:0"]
    ffmpeg(*raw, *words, path, data=frames.tobytes())


def write_pngs(folder, frames, fps=16):
    import cv2

    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"frame_{index}.png"), frame[..., ::-1] if frame.shape[-1] == 3 else frame)
    (folder / "frames.json").write_text(json.dumps({"fps": fps}))


def decoded(path):
    with Decoder() as decoder:
        return np.concatenate([batch.frames for batch in decoder.frames(path)])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """clips.parquet of all odd clips, by clip id, and the scores of the run."""
    folder = tmp_path_factory.mktemp("odd")
    videos = folder / "videos"
    videos.mkdir()
    moving = pictures()
    write_video(videos / "moving.mp4", moving, fps=16)
    write_video(videos / "frozen.mp4", [moving[0]] * 6, fps=16)
    write_video(videos / "black.mp4", [np.zeros_like(moving[0])] * 6, fps=16)
    write_video(videos / "one.mp4", moving[:1], fps=16)
    write_video(videos / "two.mp4", moving[:2], fps=16)
    write_video(videos / "small.mp4", pictures(6, 64, 96), fps=16)
    encode(videos / "odd.mp4", pictures(6, 131, 157), "rgb24", "-c:v", "libx264", "-pix_fmt", "yuv444p")
    encode(videos / "alpha.mov", pictures(channels=4), "rgba", "-c:v", "png")
    encode(videos / "ten.mkv", moving, "rgb24", "-c:v", "libx264", "-pix_fmt", "yuv420p10le")
    ten = ["-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-x264-params"]
    for name, transfer in (("hdr", "smpte2084"), ("wide", "bt2020-10")):
        tags = f"colorprim=bt2020:colormatrix=bt2020nc:transfer={transfer}"
        encode(videos / f"{name}.mp4", moving, "rgb24", *ten, tags)
    encode(videos / "grey.mp4", moving, "rgb24", "-c:v", "libx264", "-pix_fmt", "gray")
    ffmpeg("-i", videos / "moving.mp4", "-c", "copy", videos / "remuxed.mkv")
    write_pngs(videos / "pngs", decoded(videos / "moving.mp4"))
    write_pngs(videos / "alpha-pngs", pictures(channels=4))
    call = [
        sys.executable, "-m", "macebench", "eval", "--videos", videos, "--reference", videos, "--protocol",
        "vbench6-fixed/1", "--plugin", NETWORKS, "--out", folder / "run", "--store", folder / "store", "--no-report",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, call)), capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    rows = pd.read_parquet(folder / "run" / "clips.parquet")
    entry = json.loads((folder / "run" / "result.json").read_text())["entries"][0]
    scores = {score["name"]: score for score in entry["scores"]}
    return rows[rows["role"] == "generated"].set_index("clip_id"), scores


def reasons(table, clip):
    return json.loads(table.loc[clip, "reasons"])


def test_every_clip_has_a_score_or_a_reason_in_every_dimension(table):
    rows, scores = table
    assert len(rows) == 15
    for clip, row in rows.iterrows():
        for name in DIMENSIONS:
            assert np.isfinite(row[name]) != bool(json.loads(row["reasons"]).get(name)), (clip, name)
    assert all(scores[name]["n"] + scores[name]["n_unscored"] == 15 for name in DIMENSIONS)


@pytest.mark.parametrize(
    "clip", ["moving", "frozen", "black", "odd", "alpha", "ten", "hdr", "wide", "grey", "remuxed", "pngs", "alpha-pngs"]
)
def test_what_is_long_and_large_enough_is_scored_throughout(table, clip):
    assert reasons(table[0], clip) == {}
    assert 0.0 < table[0].loc[clip, "temporal_flickering"] <= 1.0


def test_reasons_of_short_and_small_clips(table):
    rows = table[0]
    still = ("subject_consistency", "background_consistency", "temporal_flickering", "dynamic_degree")
    assert {name: reasons(rows, "one").get(name) for name in (*still, "motion_smoothness", "ms_flow")} == dict.fromkeys(
        (*still, "motion_smoothness", "ms_flow"), SHORT
    )
    assert {name: reasons(rows, "two").get(name) for name in ("motion_smoothness", "ms_flow")} == dict.fromkeys(
        ("motion_smoothness", "ms_flow"), SHORT
    )
    assert np.isfinite(
        rows.loc["two", ["imaging_quality", "subject_consistency", "temporal_flickering"]].astype(float)
    ).all()
    assert np.isfinite(rows.loc["one", ["imaging_quality", "aesthetic_quality"]].astype(float)).all()
    assert reasons(rows, "small") == {"motion_smoothness": SMALL}


def test_still_pictures_have_the_value_of_stillness(table):
    for clip in ("frozen", "black"):
        row = table[0].loc[clip]
        for name in ("subject_consistency", "background_consistency", "temporal_flickering", "ms_flow"):
            assert row[name] == pytest.approx(1.0, abs=1e-6), (clip, name)
        assert (row["dynamic_degree"], row["is_dynamic"]) == (0.0, 0.0)


@pytest.mark.parametrize("other", ["remuxed", "pngs"])
def test_mp4_mkv_and_png_folder_agree(table, other):
    rows = table[0]
    names = [*DIMENSIONS, "is_dynamic", "subject_pairs"]
    assert rows.loc[other, names].tolist() == rows.loc["moving", names].tolist()
    assert rows.loc[other, "duration_s"] == pytest.approx(rows.loc["moving", "duration_s"], abs=2e-3)


def test_what_is_not_shown_as_meant_is_a_counted_note(table):
    rows, scores = table
    for clip, note in (("hdr", HDR), ("wide", WIDE), ("alpha", ALPHA), ("alpha-pngs", ALPHA)):
        assert set(json.loads(rows.loc[clip, "notes"]).values()) == {note}, clip
    assert json.loads(rows.loc["moving", "notes"]) == {}
    assert scores["imaging_quality"]["notes"] == {HDR: 1, WIDE: 1, ALPHA: 2}


def test_ten_bits_look_like_eight(table):
    rows = table[0]
    assert rows.loc["ten", "temporal_flickering"] == pytest.approx(rows.loc["moving", "temporal_flickering"], abs=5e-3)
