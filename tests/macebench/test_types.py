import math

import numpy as np
import pytest

from macebench.errors import Unscorable
from macebench.types import Clip, Evidence, FeatureSet, Missing, Motion, PoseTrack, Score


def track(n=4, **changes):
    fields = {
        "keypoints": np.zeros((n, 17, 2)),
        "confidence": np.ones((n, 17)),
        "times_s": np.arange(n) / 30,
        "width": 64,
        "height": 48,
    }
    return PoseTrack(**{**fields, **changes})


def test_pose_track_is_read_only_and_knows_its_rate():
    made = track(5)
    assert made.fps == pytest.approx(30)
    with pytest.raises(ValueError, match="read-only"):
        made.keypoints[0] = 1
    with pytest.raises(AttributeError):
        made.width = 3


@pytest.mark.parametrize(
    "changes",
    [
        {"keypoints": np.zeros((4, 16, 2))},
        {"confidence": np.zeros((3, 17))},
        {"times_s": np.array([0.0, 1.0, 1.0, 2.0])},
        {"skeleton": "coco18"},
    ],
)
def test_pose_track_refuses_what_does_not_fit(changes):
    with pytest.raises(ValueError, match=r"pose track|times_s|skeleton"):
        track(4, **changes)


def test_present_is_false_where_the_person_is_missing():
    keypoints = np.zeros((3, 17, 2))
    keypoints[1] = np.nan
    assert track(3, keypoints=keypoints).present.tolist() == [True, False, True]


def test_motion_fills_the_root_and_checks_shapes():
    joints = np.random.default_rng(0).normal(size=(6, 24, 3))
    motion = Motion(30.0, joints)
    assert np.array_equal(motion.root, joints[:, 0])
    assert motion.duration_s == pytest.approx(0.2)
    with pytest.raises(ValueError, match="joints"):
        Motion(30.0, joints[:, :22])
    with pytest.raises(ValueError, match="fps"):
        Motion(0.0, joints)


def test_a_score_without_clips_has_no_value_and_reasons_add_up():
    assert math.isnan(Score("x", math.nan, 0, 2, "1", "higher", "h", {"no person": 2}).value)
    with pytest.raises(ValueError, match="no scored clip"):
        Score("x", 0.0, 0, 2, "1", "higher", "h", {"no person": 2})
    with pytest.raises(ValueError, match="reasons"):
        Score("x", 1.0, 1, 2, "1", "higher", "h", {"no person": 1})


def test_feature_set_checks_ids():
    with pytest.raises(ValueError, match="feature set"):
        FeatureSet(np.zeros((2, 3)), ("a",))


def test_missing_evidence_raises_its_reason(tmp_path):
    gone = Missing("no person")
    evidence = Evidence(Clip("a", tmp_path / "a.mp4", "0" * 64), 1.0, gone, Missing("no music"), {})
    with pytest.raises(Unscorable, match="no person"):
        evidence.need_pose()
    with pytest.raises(Unscorable, match="no music"):
        evidence.need_music()
    with pytest.raises(Unscorable, match="not computed"):
        evidence.need_frames("frame_difference")
