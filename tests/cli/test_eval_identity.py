"""`macebench eval --identity` with filler weights: identity drift against a picture of the dancer."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from macebench.media import Decoder, write_video
from macebench.protocol import load_protocol

pytestmark = pytest.mark.slow
cv2 = pytest.importorskip("cv2")
NETWORKS = Path(__file__).resolve().parents[1] / "short_networks.py"
COLUMNS = ("identity_drift", "identity_drift_slope", "identity_min")
COMMAND = "weights missing: macebench weights pull vbench6"


def dancer(k, count=7, height=96, width=128):
    """(T, H, W, 3) uint8: a spot that moves, in colours and stripes of dancer k."""
    t, y, x = np.mgrid[:count, :height, :width].astype(float)
    spot = np.exp(-((x - 40 - 6 * t) ** 2 + (y - 50) ** 2) / 300)
    stripes = [60 + 50 * np.sin((x * (k + 1) + y * (channel * k + 1)) / 9) for channel in range(3)]
    return np.stack([part * 0.8 + 120 * spot for part in stripes], axis=-1).clip(0, 255).astype(np.uint8)


def first_frame(path):
    with Decoder() as decoder:
        return next(iter(decoder.frames(path))).frames[0]


class World:
    """Videos of dancers a, b, c; reference videos a, z; a picture for a (its own first frame) and b (that of a)."""

    def __init__(self, folder):
        self.folder, self.videos, self.real, self.pictures = (folder, *(folder / n for n in ("made", "real", "who")))
        for k, path in enumerate(("made/a", "made/deep/b", "made/c", "real/a", "real/z")):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_video(folder / f"{path}.mp4", dancer(k), fps=12)
        (self.pictures / "deep").mkdir(parents=True)
        own = first_frame(self.videos / "a.mp4")[..., ::-1]
        for name in ("a.png", "deep/b.png"):
            cv2.imwrite(str(self.pictures / name), own)
        fields = {**load_protocol("video-referee/1").model_dump(mode="json"), "name": "drift"}
        self.protocol = folder / "drift.yaml"
        self.protocol.write_text(yaml.safe_dump({**fields, "metrics": ["identity_drift", "temporal_flickering"]}))

    def eval(self, name, *words, status=0, plugin=True):
        """Run ``macebench eval``; what it said comes back."""
        call = [
            sys.executable, "-m", "macebench", "eval", "--videos", self.videos, "--reference", self.real, "--protocol",
            self.protocol, *(["--plugin", NETWORKS] if plugin else []), "--out", self.folder / name, *words,
        ]  # fmt: skip
        done = subprocess.run(list(map(str, call)), capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def table(self, name):
        rows = pd.read_parquet(self.folder / name / "clips.parquet")
        rows = rows[rows["model"].isin(["external", "reference"])]
        return {(row["role"], row["clip_id"]): row for _, row in rows.iterrows()}

    def result(self, name):
        return json.loads((self.folder / name / "result.json").read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("identity"))
    store = ("--store", world.folder / "store", "--no-report")
    world.eval("first", *store)
    world.said = world.eval("pictures", *store, "--identity", world.pictures, "--calibrate", status=3)
    world.eval("single", *store, "--identity", world.pictures / "a.png")
    return world


def test_its_own_first_frame_gives_the_values_of_the_first_frame(world):
    first, found = (world.table(name)["generated", "a"] for name in ("first", "pictures"))
    assert found["identity_drift"] == pytest.approx(first["identity_drift"] * 6 / 7, rel=1e-4)
    assert found["identity_min"] == pytest.approx(first["identity_min"], abs=1e-6)
    assert found["temporal_flickering"] == first["temporal_flickering"]
    assert world.table("single")["generated", "a"]["identity_drift"] == found["identity_drift"]


def test_the_picture_of_another_dancer_is_farther_away(world):
    first, found = (world.table(name)["generated", "deep/b"] for name in ("first", "pictures"))
    assert found["identity_drift"] > 1.5 * first["identity_drift"]
    assert found["identity_min"] < first["identity_min"]


def test_a_clip_without_a_picture_is_counted_in_these_columns_alone(world):
    row = world.table("pictures")["generated", "c"]
    assert json.loads(row["reasons"]) == dict.fromkeys(COLUMNS, "no reference picture")
    assert np.isfinite(row["temporal_flickering"])
    assert "not scored: 1 x no reference picture" in world.said
    score = next(item for item in world.result("pictures")["entries"][0]["scores"] if item["name"] == "identity_drift")
    assert (score["n"], score["n_unscored"], score["reasons"]) == (2, 1, {"no reference picture": 1})


def test_the_reference_set_has_the_pictures_of_its_own_clips_only(world):
    table = world.table("pictures")
    assert np.isfinite(table["reference", "a"]["identity_drift"])
    assert json.loads(table["reference", "z"]["reasons"]) == dict.fromkeys(COLUMNS, "no reference picture")
    alone = world.table("single")
    assert all(np.isfinite(alone["generated", name]["identity_drift"]) for name in ("a", "deep/b", "c"))
    assert all(np.isnan(alone["reference", name]["identity_drift"]) for name in ("a", "z"))
    assert list(world.result("single")["reference_unscored"].values()) == [0]
    assert list(world.result("pictures")["reference_unscored"].values()) == [1]
    scores = {item["name"]: item for item in world.result("single")["entries"][0]["scores"]}
    assert scores["identity_drift"]["reference"] is None
    assert scores["temporal_flickering"]["reference"] is not None


def test_hashes_differ_between_first_frame_and_picture_alone(world):
    first, pictures, single = (list(world.result(name)["protocols"]) for name in ("first", "pictures", "single"))
    assert first != pictures
    assert pictures == single
    assert next(iter(world.result("pictures")["protocols"].values()))["identity_reference"] == "picture"
    assert "identity against a picture" in world.said


def test_results_do_not_depend_on_workers_and_the_store_is_used(world):
    other = ("--store", world.folder / "other", "--identity", world.pictures, "--no-report")
    assert "pictures to embed 1 of 1" in world.eval("workers", *other, "--plan")
    world.eval("workers", *other, "--workers", 2, "--calibrate", status=3)
    assert world.result("workers")["clips_sha256"] == world.result("pictures")["clips_sha256"]
    assert "pictures to embed 0 of 1" in world.eval("workers", *other, "--plan")


def test_a_picture_that_cannot_be_read_is_counted(world, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "c.jpg").write_bytes(b"")
    words = ("--store", world.folder / "store", "--identity", tmp_path, "--no-report")
    said = world.eval("broken", *words, status=3)
    assert "1 x reference picture: not a media file" in said
    assert "1 x reference picture: empty file" in said
    assert "1 x no reference picture" in said


def test_a_row_without_a_reference_value_can_be_reported_and_put_on_a_board(world, tmp_path):
    for words in (
        ("report", world.folder / "single"),
        ("leaderboard", "add", world.folder / "single", "--board", tmp_path / "board.csv"),
        ("leaderboard", "add", world.folder / "first", "--board", tmp_path / "board.csv"),
        ("leaderboard", "verify", tmp_path / "board.csv", "--run", world.folder / "single"),
    ):
        call = [sys.executable, "-m", "macebench", *map(str, words)]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert pd.read_csv(tmp_path / "board.csv")["protocol_hash"].nunique() == 2


def test_without_weights_the_reason_is_theirs(world, monkeypatch):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(world.folder / "no-weights"))
    words = ("--store", world.folder / "third", "--identity", world.pictures, "--no-report")
    said = world.eval("weightless", *words, status=3, plugin=False)
    assert f"3 x {COMMAND}" in said
    assert "reference picture" not in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--identity", "made/a.mp4"), "allowed are .png, .jpg, .jpeg, .webp"),
        (("--identity", "nobody.png"), "does not exist"),
        (("--identity", "real"), "for example a.png"),
        (("--identity", "who", "--protocol", "ma2d-fixed/1"), "has no metric that follows an identity"),
        (("--identity", "who", "--track", "animation"), "--identity cannot be used"),
    ],
)
def test_wrong_input(world, words, expected):
    known = [
        world.folder / word if before == "--identity" else word
        for before, word in zip(("", *words[:-1]), words, strict=True)
    ]
    call = ["eval", "--videos", world.videos, "--reference", world.real, "--out", world.folder / "wrong"]
    protocol = [] if {"--protocol", "--track"} & set(words) else ["--protocol", world.protocol]
    done = subprocess.run(
        [sys.executable, "-m", "macebench", *map(str, (*call, *known, *protocol))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert expected in " ".join((done.stdout + done.stderr).split())
