"""Poses from files: both formats, and everything that can be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.models.pose import make_estimator, precomputed
from macebench.models.pose.precomputed import Precomputed
from macebench.pose import NO_PERSON
from macebench.skeleton import coco25_to_coco17
from macebench.types import Clip, Missing, PoseTrack


def clip(name="a"):
    return Clip(name, Path("nowhere.mp4"), "0" * 64)


def fields(n=5, **changes):
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 100, (n, 17, 2))
    keypoints[1] = np.nan
    values = {
        "keypoints": keypoints,
        "confidence": np.where(np.isnan(keypoints[:, :, 0]), 0.0, 0.75),
        "times_s": np.arange(n) / 25,
        "width": np.int64(640),
        "height": np.int64(480),
        "skeleton": np.str_("coco17"),
    }
    return values | changes


def record(n=3, **changes):
    points = np.arange(n * 75, dtype=float).reshape(n, 25, 3) + 1
    points[:, :, 2] = 0.5
    points[1, 4] = 0
    return {"video_name": "a", "fps": 16, "total_frames": n, "skeleton": [], "keypoints": points.tolist()} | changes


def finish(folder, name="a", size=(64, 48)):
    session = make_estimator("precomputed", folder=folder).start(clip(name), *size)
    session.update(np.zeros((1, 2, 2, 3), dtype=np.uint8), np.array([0.0]))
    return session.finish()


def test_npz_round_trip(tmp_path):
    (tmp_path / "set").mkdir()
    values = fields()
    np.savez(tmp_path / "set" / "a.npz", **values)
    track = finish(tmp_path, "set/a", (0, 0))
    assert isinstance(track, PoseTrack)
    assert np.array_equal(track.keypoints, values["keypoints"], equal_nan=True)
    assert np.array_equal(track.confidence, values["confidence"])
    assert np.array_equal(track.times_s, values["times_s"])
    assert (track.width, track.height, track.skeleton) == (640, 480, "coco17")
    assert not Precomputed(folder=tmp_path).needs_frames


def test_npz_confidence_is_zero_where_the_point_is_missing(tmp_path):
    values = fields()
    values["confidence"] = np.full((5, 17), 0.9)
    values["keypoints"][0, 3, 1] = np.nan
    np.savez(tmp_path / "a.npz", **values)
    track = finish(tmp_path)
    assert (track.confidence[1] == 0).all()
    assert track.confidence[0, 3] == 0
    assert np.isnan(track.keypoints[0, 3]).all()


def test_json_swaps_y_and_x(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(record()))
    track = finish(tmp_path)
    points = np.array(record()["keypoints"])
    assert track.skeleton == "coco25"
    assert np.array_equal(track.keypoints[0, :, 0], points[0, :, 1])
    assert np.array_equal(track.keypoints[0, :, 1], points[0, :, 0])
    assert np.isnan(track.keypoints[1, 4]).all()
    assert track.confidence[1, 4] == 0
    assert track.confidence[0, 0] == 0.5
    assert np.allclose(track.times_s, [0, 1 / 16, 2 / 16])
    assert (track.width, track.height) == (64, 48)
    assert coco25_to_coco17(track.keypoints).shape == (3, 17, 2)


def test_json_asks_the_video_for_its_size(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(precomputed, "_picture_size", lambda path: asked.append(path) or (320, 240))
    (tmp_path / "a.json").write_text(json.dumps(record()))
    track = finish(tmp_path, size=(0, 0))
    assert (track.width, track.height) == (320, 240)
    assert asked == [Path("nowhere.mp4")]


def test_nobody_in_the_file(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(record(keypoints=np.zeros((3, 25, 3)).tolist())))
    assert finish(tmp_path) == Missing(NO_PERSON)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keypoints": np.zeros((5, 16, 2))}, "keypoints have shape (5, 16, 2)"),
        ({"keypoints": np.full((5, 17, 2), np.inf)}, "keypoints are infinite"),
        ({"keypoints": np.full((5, 17, 2), "x")}, "keypoints has type <U1"),
        ({"confidence": np.full((5, 17), 1.5)}, "confidence is outside [0, 1]"),
        ({"confidence": np.full((5, 17), np.nan)}, "confidence is outside [0, 1]"),
        ({"confidence": np.zeros((4, 17))}, "confidence has shape (4, 17)"),
        ({"times_s": np.zeros(5)}, "times_s do not increase"),
        ({"times_s": np.zeros((5, 1))}, "times_s has shape (5, 1)"),
        ({"skeleton": np.str_("smpl")}, "skeleton is none of ['coco17', 'coco25']"),
        ({"skeleton": np.array(["coco17"])}, "skeleton is none of ['coco17', 'coco25']"),
        ({"width": np.array([1, 2])}, "width is no size in pixels"),
        ({"height": np.int64(-4)}, "height is no size in pixels"),
    ],
)
def test_bad_npz_names_file_and_field(tmp_path, change, said):
    np.savez(tmp_path / "a.npz", **fields(**change))
    assert finish(tmp_path) == Missing(f"pose file a.npz: {said}")


def test_npz_without_a_field(tmp_path):
    values = fields()
    del values["times_s"]
    np.savez(tmp_path / "a.npz", **values)
    assert finish(tmp_path) == Missing("pose file a.npz: times_s is missing")


def test_npz_pickles_are_never_read(tmp_path):
    np.savez(tmp_path / "a.npz", **fields(skeleton=np.array({"boom": 1}, dtype=object)))
    assert finish(tmp_path) == Missing("pose file a.npz: cannot be read (ValueError)")


def test_npz_that_is_none_or_a_bomb(tmp_path, monkeypatch):
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    assert finish(tmp_path) == Missing("pose file a.npz: cannot be read (BadZipFile)")
    np.savez_compressed(tmp_path / "a.npz", **fields())
    monkeypatch.setattr(precomputed, "NPZ_BYTES_MAX", 100)
    assert "allowed are 100" in finish(tmp_path).reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fps": 0}, "fps is 0"),
        ({"fps": "16"}, "fps is no number"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": True}, "fps is no number"),
        ({"total_frames": 7}, "total_frames is 7, keypoints have 3 frames"),
        ({"keypoints": []}, "keypoints are no list of frames"),
        ({"keypoints": {}}, "keypoints are no list of frames"),
        ({"keypoints": [[[1, 2, 3]]]}, "keypoints have shape (1, 1, 3)"),
        ({"keypoints": [[[1, 2, 3]], [[1, 2]]]}, "keypoints do not have shape (T, 25, 3)"),
        ({"keypoints": [[["a", "b", "c"]] * 25]}, "keypoints has type <U1"),
        ({"keypoints": [[[float("nan"), 1, 1]] * 25]}, "keypoints hold a value that is no number"),
    ],
)
def test_bad_json_names_file_and_field(tmp_path, change, said):
    (tmp_path / "a.json").write_text(json.dumps(record(**change)))
    assert finish(tmp_path) == Missing(f"pose file a.json: {said}")


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "\x00"])
def test_no_json(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert finish(tmp_path).reason.startswith("pose file a.json: is no")


def test_json_size_cap(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text(json.dumps(record()))
    monkeypatch.setattr(precomputed, "JSON_BYTES_MAX", 10)
    assert "allowed are 10" in finish(tmp_path).reason


def test_no_file_for_the_clip(tmp_path):
    (tmp_path / "b.json").write_text(json.dumps(record()))
    assert finish(tmp_path, "a") == Missing("no pose file")


def test_clip_ids_do_not_leave_the_folder(tmp_path):
    inside, outside = tmp_path / "poses", tmp_path / "secret.npz"
    inside.mkdir()
    np.savez(outside, **fields())
    np.savez(inside / "b.npz", **fields())
    (inside / "link.npz").symlink_to(outside)
    assert finish(inside, "link") == Missing("pose file link.npz lies outside the pose folder")
    with pytest.raises(UserError, match="cannot be used as a file name"):
        finish(inside, "../secret")


def test_folder_must_hold_something(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Precomputed(folder=tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no \.npz"):
        Precomputed(folder=tmp_path)


def test_hash_follows_names_and_contents(tmp_path):
    hashes = []
    for name, text in (("a.json", "1"), ("a.json", "2"), ("b.json", "2"), ("notes.txt", "2")):
        (tmp_path / name).write_text(text)
        hashes.append(Precomputed(folder=tmp_path).describe().weights_sha256)
    assert len(set(hashes)) == 3
    assert hashes[2] == hashes[3]
