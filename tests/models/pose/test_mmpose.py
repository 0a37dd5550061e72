"""mmpose in a child process, with a fake mmpose package in its place."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.models.pose.mmpose import MMPose
from macebench.pose import NO_PERSON
from macebench.types import Clip, Missing, PoseTrack

SIZE = (64, 48)

# Stands for mmpose and OpenCV: a "video" is a text file that holds the number of frames.
FAKE_MMPOSE = """
class MMPoseInferencer:
    def __init__(self, pose2d, pose2d_weights, device):
        assert (pose2d, pose2d_weights, device) == ("human", None, "cpu")
        self.index = 0
    def __call__(self, picture, return_vis):
        i = self.index
        self.index += 1
        near = dict(bbox=([10 + i, 5, 30 + i, 45],), bbox_score=0.9, keypoints=[[12 + i, k] for k in range(17)],
                    keypoint_scores=[0.1 * k for k in range(17)])
        far = dict(bbox=([50, 5, 60, 25 + 10 * i],), bbox_score=0.8, keypoints=[[55, 9]] * 17, keypoint_scores=[1] * 17)
        weak = dict(bbox=([0, 0, 64, 48],), bbox_score=0.1, keypoints=[[1, 1]] * 17, keypoint_scores=[1] * 17)
        yield {"predictions": [[far, weak] + ([near] if i != 2 else [])]}
"""
FAKE_CV2 = """
import numpy
class VideoCapture:
    def __init__(self, path):
        self.left = int(open(path).read())
    def read(self):
        self.left -= 1
        return self.left >= 0, numpy.zeros((48, 64, 3), numpy.uint8)
"""


@pytest.fixture
def place(tmp_path):
    """An interpreter in which the fakes can be imported, and a clip of five frames."""
    packages = tmp_path / "packages"
    (packages / "mmpose").mkdir(parents=True)
    (packages / "mmpose" / "__init__.py").write_text("")
    (packages / "mmpose" / "apis.py").write_text(FAKE_MMPOSE)
    (packages / "cv2.py").write_text(FAKE_CV2)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    video = tmp_path / "clip.mp4"
    video.write_text("5")
    return python, Clip("a", video, "0" * 64)


def run(place, n=5, size=SIZE, **settings):
    python, clip = place
    session = MMPose(python=python, **settings).start(clip, *size)
    frames = np.zeros((n, size[1], size[0], 3), dtype=np.uint8)
    session.update(frames[:2], np.arange(2) / 10)
    session.update(frames[2:], np.arange(2, n) / 10)
    return session.finish()


def test_one_person_of_many(place):
    track = run(place)
    assert isinstance(track, PoseTrack)
    assert track.present.tolist() == [True, True, False, True, True]
    assert np.allclose(track.keypoints[3, :, 0], 15)
    assert np.allclose(track.keypoints[3, :, 1], np.arange(17))
    assert np.allclose(track.confidence[0], np.clip(0.1 * np.arange(17), 0, 1))
    assert np.allclose(track.times_s, np.arange(5) / 10)
    assert (track.width, track.height) == SIZE


def test_nobody(place):
    assert run(place, box_score_min=1.0) == Missing(NO_PERSON)


@pytest.mark.parametrize(("n", "size"), [(4, SIZE), (5, (48, 64))])
def test_other_frames_than_the_decoder(place, n, size):
    assert run(place, n, size) == Missing("mmpose saw other frames than the decoder")


def test_crash_costs_the_clip_only(place):
    place[1].path.write_text("five")
    assert run(place) == Missing("mmpose failed (exit status 1)")


def test_hang(place):
    apis = place[0].parent / "packages" / "mmpose" / "apis.py"
    apis.write_text("import time\ntime.sleep(600)\n")
    assert run(place, timeout_s=1.0) == Missing("mmpose failed (timed out)")


def test_results_are_checked(place):
    python = place[0]
    writes = (
        "import sys, pathlib, numpy\n"
        "numpy.savez(pathlib.Path(sys.argv[2]) / 'result.npz', frame=numpy.zeros(1), box=numpy.zeros((1, 3)),"
        " score=numpy.zeros(1), keypoints=numpy.zeros((1, 17, 2)), confidence=numpy.zeros((1, 17)),"
        " n_frames=5, size=[64, 48])\n"
    )
    script = python.parent / "writer.py"
    for text, said in ((writes, "box has shape (1, 3)"), ("", "result file result.npz is missing")):
        script.write_text(text)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        found = run(place)
        assert found.reason.startswith("mmpose wrote no valid result: ")
        assert said in found.reason


def test_interpreter_without_mmpose(place):
    (place[0].parent / "packages" / "mmpose" / "apis.py").unlink()
    with pytest.raises(UserError, match="cannot import mmpose: ModuleNotFoundError") as caught:
        run(place)
    assert "python=" in caught.value.hint


def test_our_own_file_of_that_name_does_not_hide_the_package(tmp_path):
    video = tmp_path / "clip.mp4"
    video.write_text("5")
    # a real interpreter, in whose environment there is no mmpose at all
    with pytest.raises(UserError, match="No module named 'mmpose'"):
        run((Path(sys.executable), Clip("a", video, "0" * 64)))


def test_missing_interpreter_and_checkpoint(tmp_path):
    with pytest.raises(UserError, match="does not exist") as caught:
        MMPose(python=tmp_path / "python")
    assert "mim install" in caught.value.hint
    with pytest.raises(UserError, match=r"checkpoint .*none\.pth does not exist"):
        MMPose(python=sys.executable, checkpoint=tmp_path / "none.pth")


def test_description_follows_the_checkpoint(tmp_path):
    checkpoint = tmp_path / "c.pth"
    checkpoint.write_bytes(b"1")
    first = MMPose(python=sys.executable, checkpoint=checkpoint).describe()
    os.utime(checkpoint, (1, 1))
    assert MMPose(python=sys.executable, checkpoint=checkpoint).describe() == first
    checkpoint.write_bytes(b"2")
    assert MMPose(python=sys.executable, checkpoint=checkpoint).describe() != first
    assert MMPose(python=sys.executable, config="rtmpose-m").describe().model == "rtmpose-m"
