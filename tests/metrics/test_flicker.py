import json
from pathlib import Path

import numpy as np
import pytest

from macebench.errors import Unscorable
from macebench.metrics.flicker import FrameDifference, temporal_flickering
from macebench.protocol import load_protocol
from macebench.registry import get, get_metric
from macebench.types import Clip, Evidence, FrameStatistic, Missing

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
VBENCH = SHARED / "golden" / "vbench"
needs_shared = pytest.mark.skipif(not VBENCH.is_dir(), reason="needs ../shared/golden/vbench")
PROTOCOL = load_protocol("ma2d-fixed/1")
GOLDEN = json.loads((VBENCH / "vbench_scores.json").read_text()) if VBENCH.is_dir() else {}
CLIPS = sorted(GOLDEN.get("arrays", {}).get("temporal_flickering", {}).get("per_clip", {"absent": 0}))


def picture(n=12, height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def differences(frames, batches=None):
    statistic = FrameDifference()
    for part in np.split(frames, batches or []):
        statistic.update(part, np.arange(len(part), dtype=float))
    return statistic.result()


def score(values):
    clip = Clip("a", Path("a.mp4"), "0" * 64)
    frames = values if isinstance(values, Missing) else {"frame_difference": values}
    evidence = Evidence(clip, 1.0, Missing("no pose"), Missing("no music"), frames)
    return temporal_flickering(evidence, PROTOCOL)


def decoded(path):
    import av

    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


@needs_shared
@pytest.mark.parametrize("name", CLIPS)
def test_vbench_on_arrays(name):
    frames = np.load(VBENCH / "clips.npz")[name]
    wanted = GOLDEN["arrays"]["temporal_flickering"]["per_clip"][name]
    assert score(differences(frames)) == pytest.approx(wanted, abs=1e-7)


@needs_shared
@pytest.mark.parametrize("name", CLIPS)
def test_vbench_on_files(name):
    wanted = GOLDEN["mp4"]["temporal_flickering"]["per_clip"][name]
    assert score(differences(decoded(VBENCH / "mp4" / f"{name}.mp4"))) == pytest.approx(wanted, abs=1e-7)


def test_is_the_exact_mean():
    frames = picture()
    wanted = np.abs(np.diff(frames.astype(np.int64), axis=0)).sum(axis=(1, 2, 3)) / (20 * 30 * 3)
    np.testing.assert_array_equal(differences(frames), wanted)


def test_sums_are_exact_in_a_large_white_picture():
    frames = np.stack([np.zeros((2160, 3840, 3), np.uint8), np.full((2160, 3840, 3), 255, np.uint8)])
    assert differences(frames).tolist() == [255.0]


@pytest.mark.parametrize("batches", [[1], [3, 4, 9], list(range(1, 12)), [0, 0, 12]])
def test_batches_do_not_matter(batches):
    np.testing.assert_array_equal(differences(picture(), batches), differences(picture()))


def test_the_callers_memory_may_be_used_again():
    frames, statistic = picture(4), FrameDifference()
    for frame in frames:
        buffer = frame[None].copy()
        statistic.update(buffer, np.zeros(1))
        buffer[:] = 0
    np.testing.assert_array_equal(statistic.result(), differences(frames))


def test_views_that_are_not_contiguous():
    frames = picture()[:, ::2, ::3]
    np.testing.assert_array_equal(differences(frames), differences(frames.copy()))


def test_bounds_and_mirror():
    frames = picture()
    assert score(differences(np.repeat(frames[:1], 5, axis=0))) == 1.0
    assert 0 < score(differences(frames)) < 1
    assert score(differences(frames[:, :, ::-1])) == score(differences(frames))
    assert score(differences(frames[::-1])) == pytest.approx(score(differences(frames)), abs=1e-12)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_frames_have_no_score(n):
    assert differences(picture()[:n]).shape == (0,)
    with pytest.raises(Unscorable, match=r"^too short$"):
        score(differences(picture()[:n]))


def test_no_picture_is_a_reason():
    with pytest.raises(Unscorable, match=r"^not a media file$"):
        score(Missing("not a media file"))


@pytest.mark.parametrize("bad", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8)])
def test_malformed_frames(bad):
    with pytest.raises(ValueError, match="expected"):
        FrameDifference().update(bad, np.zeros(len(bad)))


def test_a_picture_that_changes_its_size():
    statistic = FrameDifference()
    statistic.update(picture(2), np.zeros(2))
    with pytest.raises(ValueError, match="different"):
        statistic.update(picture(1, height=10), np.zeros(1))


def test_registered():
    assert get("statistics", "frame_difference") is FrameDifference
    assert isinstance(FrameDifference(), FrameStatistic)
    assert get_metric("temporal_flickering").needs == {"frames:frame_difference"}
