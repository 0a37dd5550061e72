import re

import numpy as np
import pytest

from macebench.media import Decoder, write_video
from macebench.report.strips import N_PICTURES, clip_strip, picture_times, read_pose
from macebench.tables import file_sha256


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as made:
        yield made


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two seconds in which the picture gets brighter."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, (np.full((48, 64, 3), 6 * k, np.uint8) for k in range(40)), fps=20.0)
    return path


def write_pose(run, name, confidence=0.9):
    path = run / "poses" / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    keypoints = np.tile(np.linspace(5, 40, 17)[None, :, None], (40, 1, 2))
    np.savez(path, keypoints=keypoints, confidence=np.full((40, 17), confidence), times_s=np.arange(40) / 20,
             width=64, height=48, skeleton="coco17")  # fmt: skip


def times_in(strip):
    return [float(text) for text in re.findall(r"<figcaption>([\d.]+) s", strip)]


def test_pictures_are_spread_evenly_and_carry_the_pose(video, decoder, tmp_path):
    write_pose(tmp_path, "clip")
    strip = clip_strip("clip", file_sha256(video), 2.0, str(video), tmp_path, decoder)
    assert strip.count("data:image/jpeg;base64,") == N_PICTURES
    assert np.abs(np.array(times_in(strip)) - picture_times(2.0)).max() < 0.06
    assert strip.count('class="bone left"') == N_PICTURES
    assert "muted" not in strip


def test_a_path_of_a_video_is_relative_to_the_run_folder(video, decoder):
    run = video.parent / "runs" / "one"
    run.mkdir(parents=True, exist_ok=True)
    strip = clip_strip("clip", file_sha256(video), 2.0, f"../../{video.name}", run, decoder)
    assert strip.count("data:image/jpeg;base64,") == N_PICTURES


def test_joints_that_were_hardly_seen_are_not_drawn(video, decoder, tmp_path):
    write_pose(tmp_path, "clip", confidence=0.1)
    assert "bone" not in clip_strip("clip", file_sha256(video), 2.0, str(video), tmp_path, decoder)


def test_without_a_video_the_pose_is_drawn_on_an_empty_picture(decoder, tmp_path):
    write_pose(tmp_path, "clip")
    strip = clip_strip("clip", "ab", 2.0, str(tmp_path / "gone.mp4"), tmp_path, decoder)
    assert "<image" not in strip
    assert strip.count('class="bone left"') == N_PICTURES
    assert "No pictures: the video is not there any more." in strip


def test_a_video_that_changed_is_not_shown(video, decoder, tmp_path):
    strip = clip_strip("clip", "0" * 64, 2.0, str(video), tmp_path, decoder)
    assert "the video has changed since it was scored" in strip
    assert "<image" not in strip


@pytest.mark.parametrize("path", ["", "/dev/zero", "\x00", "/", "x" * 5000])
def test_what_is_no_video_costs_the_pictures_only(decoder, tmp_path, path):
    strip = clip_strip("clip", "0" * 64, 2.0, path, tmp_path, decoder)
    assert "No pictures: " in strip
    assert "No pose." in strip


def test_a_file_that_is_no_video_has_a_reason(decoder, tmp_path):
    path = tmp_path / "x.mp4"
    path.write_text("no video")
    strip = clip_strip("x", file_sha256(path), 2.0, str(path), tmp_path, decoder)
    assert "No pictures: not a media file." in strip


def test_a_clip_id_cannot_leave_the_folder_of_the_poses(tmp_path):
    write_pose(tmp_path, "clip")
    assert read_pose(tmp_path, "clip") is not None
    for name in ("../poses/../../clip", str(tmp_path / "poses" / "clip"), "../secret", "clip\x00"):
        (tmp_path / "secret.npz").write_bytes((tmp_path / "poses" / "clip.npz").read_bytes())
        assert read_pose(tmp_path, name) is None


def test_a_broken_pose_file_is_no_pose(tmp_path):
    write_pose(tmp_path, "clip")
    path = tmp_path / "poses" / "clip.npz"
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert read_pose(tmp_path, "clip") is None
    np.savez(path, keypoints=np.array([{}], dtype=object))
    assert read_pose(tmp_path, "clip") is None


def test_long_clips_show_their_first_half_minute():
    assert picture_times(3600.0)[-1] < 30
    assert picture_times(0.0) == picture_times(float("nan")) == [0.0]
