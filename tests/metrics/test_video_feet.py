import numpy as np
import pytest

from macebench.baselines.degradations import DEGRADATIONS
from macebench.errors import Unscorable
from macebench.metrics.video_feet import TORSOS, foot_slide, video_foot_slide
from macebench.protocol import load_protocol
from macebench.selftest.projected import projected_pose
from macebench.skeleton import COCO17, coco17_to_coco25
from macebench.types import Clip, Evidence, Missing, PoseTrack

PROTOCOL = load_protocol("video-referee/1")
FPS, TORSO = 15.0, 50.0
HEIGHT = TORSOS * TORSO
LEFT, RIGHT = COCO17.index("lankle"), COCO17.index("rankle")


def standing(count=45):
    """(T, 17, 2) pixels of a body that stands: shoulders at 100, hips at 150, ankles at 240."""
    body = np.zeros((count, 17, 2))
    body[:, :, 0] = 200.0
    body[:, :, 1] = 80.0
    body[:, [5, 6], 1], body[:, [11, 12], 1], body[:, [LEFT, RIGHT], 1] = 100.0, 100.0 + TORSO, 240.0
    body[:, [5, 11, LEFT], 0], body[:, [6, 12, RIGHT], 0] = 215.0, 185.0
    return body


def glide(body, pixels_per_s, direction=(1.0, 0.0)):
    time = np.arange(len(body)) / FPS
    return body + time[:, None, None] * pixels_per_s * np.asarray(direction)


def test_a_standing_body_does_not_slide():
    found = foot_slide(standing(), fps=FPS)
    assert (found.slide, found.contact) == (0.0, 1.0)
    assert found.n_planted == 2 * (45 - 2)


@pytest.mark.parametrize("speed", [0.1, 0.5, 2.0])
def test_a_gliding_body_slides_at_its_speed(speed):
    assert foot_slide(glide(standing(), speed * HEIGHT), fps=FPS).slide == pytest.approx(speed)


def test_the_size_of_the_picture_the_place_and_the_mirror_do_not_matter():
    body = glide(standing(), 40.0)
    value = foot_slide(body, fps=FPS).slide
    for other in (3.0 * body, body + 500.0, body * [-1.0, 1.0]):
        assert foot_slide(other, fps=FPS).slide == pytest.approx(value)


def test_a_foot_in_the_air_is_not_looked_at():
    body = standing()
    body[:, LEFT, 1] -= 0.2 * HEIGHT
    body[:, LEFT, 0] += 100.0 * np.sin(np.arange(45))
    found = foot_slide(body, fps=FPS)
    assert (found.slide, found.contact, found.n_planted) == (0.0, 1.0, 43)


def test_walking_with_planted_feet_slides_far_less_than_gliding():
    """Each foot stands half of the time while the body and the other foot move on."""
    count, step = 90, 30
    body = glide(standing(count), 0.5 * HEIGHT)
    for foot, late in ((LEFT, 0), (RIGHT, step // 2)):
        frame = np.arange(count) + late
        phase = frame % step / step
        swing = np.clip((phase - 0.5) / 0.5, 0.0, 1.0)
        along = (frame // step + swing) * step - late
        body[:, foot, 0] = 200.0 + along / FPS * 0.5 * HEIGHT
        body[:, foot, 1] = 240.0 - 0.15 * HEIGHT * np.sin(np.pi * swing)
    found = foot_slide(body, fps=FPS)
    assert found.slide < 0.1 < foot_slide(glide(standing(count), 0.5 * HEIGHT), fps=FPS).slide
    assert found.contact > 0.7


def test_a_jumping_body_has_no_planted_foot_in_the_air():
    body = standing(60)
    body[..., 1] -= (0.5 * HEIGHT * np.clip(np.sin(2 * np.pi * np.arange(60) / 15), 0, None))[:, None]
    body[..., 0] += (0.5 * HEIGHT * np.cumsum(np.sin(2 * np.pi * np.arange(60) / 15) > 0.01) / FPS)[:, None]
    found = foot_slide(body, fps=FPS)
    assert 0.2 < found.contact < 0.6
    assert found.slide < 0.05


def test_missing_ankles_are_left_out():
    body = glide(standing(), 0.5 * HEIGHT)
    body[10:20, LEFT] = np.nan
    assert foot_slide(body, fps=FPS).slide == pytest.approx(0.5)
    body[:, [LEFT, RIGHT]] = np.nan
    with pytest.raises(Unscorable, match="ankles"):
        foot_slide(body, fps=FPS)


def test_25_keypoints_have_the_same_value():
    body = glide(standing(), 30.0)
    assert foot_slide(coco17_to_coco25(body), fps=FPS) == foot_slide(body, fps=FPS)


def test_what_cannot_be_scored():
    with pytest.raises(Unscorable, match="too short"):
        foot_slide(standing(2), fps=FPS)
    with pytest.raises(Unscorable, match="torso"):
        foot_slide(np.full((20, 17, 2), np.nan), fps=FPS)
    with pytest.raises(ValueError, match="expected"):
        foot_slide(np.zeros((20, 24, 2)), fps=FPS)
    with pytest.raises(ValueError, match="expected"):
        foot_slide(standing(), fps=0.0)


def evidence(pose):
    missing = Missing("none")
    return Evidence(Clip("a", __file__, "0" * 64), 3.0, pose, missing, missing)


def track(body, fps):
    return PoseTrack(body, np.ones(body.shape[:2]), np.arange(len(body)) / fps, 640, 480)


def test_the_frame_rate_of_the_video_does_not_matter():
    values = []
    for fps in (16.0, 30.0, 60.0):
        count = round(3 * fps)
        body = standing(count) + (np.arange(count) / fps)[:, None, None] * np.array([0.3 * HEIGHT, 0.0])
        values.append(video_foot_slide(evidence(track(body, fps)), PROTOCOL)["video_foot_slide"])
    assert values == pytest.approx([0.3] * 3, abs=1e-6)


def test_feet_that_never_stand_are_a_counted_reason():
    body = standing(45)
    body[..., 1] += (np.arange(45) * 0.6 * HEIGHT / FPS)[:, None]  # the whole body falls
    found = video_foot_slide(evidence(track(body, FPS)), PROTOCOL)
    assert np.isnan(found["video_foot_slide"])
    assert (found["video_foot_contact"], found["note"]) == (0.0, "no planted foot")


@pytest.mark.parametrize(("name", "strength", "factor"), [("foot-skate", 0.4, 1.5), ("jitter", 0.02, 1.5)])
def test_known_damages_of_a_dance_raise_it(name, strength, factor):
    from macebench.demo.choreography import choreograph

    dances = [choreograph(0.5 * np.arange(9), 4.0, 30.0, seed, "funk").motion for seed in range(4)]
    clips = [evidence(projected_pose(motion)) for motion in dances]
    damaged = [DEGRADATIONS[name].apply(clips, index, strength) for index in range(4)]
    before, after = (
        np.mean([video_foot_slide(clip, PROTOCOL)["video_foot_slide"] for clip in part]) for part in (clips, damaged)
    )
    assert after > factor * before > 0
