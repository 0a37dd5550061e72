from itertools import pairwise

import numpy as np
import pytest

from macebench.baselines.degradations import DEGRADATIONS, FADE_S
from macebench.demo.choreography import choreograph
from macebench.motion.resample import bone_offsets
from macebench.selftest.projected import projected_pose
from macebench.skeleton import COCO25, SMPL_JOINTS
from macebench.types import Beats, Clip, Evidence, Missing

NAMES = (
    "jitter", "freeze", "foot-skate", "time-shift", "wrong-music", "half-speed", "mirror", "two-second-loop", "scale",
    "translation", "dropped-joints", "identity-swap",
)  # fmt: skip
PARTS = ("pose", "motion", "music", "frames")


def dance(name, seed, seconds=5.0, beat=0.5):
    beats = np.arange(0.2 + 0.01 * seed, seconds, beat)
    motion = choreograph(beats, seconds, 30.0, seed).motion
    frames = {"frame_difference": np.linspace(1.0, 2.0, len(motion) - 1)}
    clip = Clip(name, f"/{name}.mp4", name * 8)
    return Evidence(clip, seconds, projected_pose(motion), Beats(beats, seconds), frames, motion)


SET = (dance("a", 1), dance("b", 2, beat=0.43), dance("c", 3, beat=0.6))


class Lazy(tuple):
    """A set that counts which items are asked for."""

    def __new__(cls, items):
        self = super().__new__(cls, items)
        self.asked = set()
        return self

    def __getitem__(self, index):
        self.asked.add(index)
        return super().__getitem__(index)

    def __iter__(self):
        raise AssertionError("the whole set was read")


def apply(name, strength, items=SET, index=0):
    return DEGRADATIONS[name].apply(items, index, strength)


def strongest(name):
    return DEGRADATIONS[name].strengths[-1]


def test_the_twelve_are_there_with_five_increasing_strengths():
    assert tuple(DEGRADATIONS) == NAMES
    for item in DEGRADATIONS.values():
        assert len(item.strengths) == 5
        assert np.all(np.diff(item.strengths) > 0)
        assert item.strengths[0] > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", range(5))
def test_length_clock_and_clip_stay_and_only_what_is_named_changes(name, level):
    own, made = SET[0], apply(name, DEGRADATIONS[name].strengths[level])
    assert made.clip == own.clip
    assert np.array_equal(made.pose.times_s, own.pose.times_s)
    assert len(made.motion) == len(own.motion)
    assert made.motion.fps == own.motion.fps
    for part in PARTS:
        if part not in DEGRADATIONS[name].applies_to:
            assert getattr(made, part) is getattr(own, part)


@pytest.mark.parametrize("name", NAMES)
def test_the_strongest_changes_every_part_that_is_named(name):
    made = apply(name, 1.0 if name == "mirror" else strongest(name))
    for part in DEGRADATIONS[name].applies_to:
        assert getattr(made, part) is not getattr(SET[0], part)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_deterministic_and_leaves_the_original_alone(name):
    before = [SET[0].pose.keypoints.copy(), SET[0].motion.joints.copy(), SET[0].music.times_s.copy()]
    one, two = apply(name, strongest(name)), apply(name, strongest(name))
    np.testing.assert_array_equal(one.pose.keypoints, two.pose.keypoints)
    np.testing.assert_array_equal(one.motion.joints, two.motion.joints)
    for old, now in zip(before, (SET[0].pose.keypoints, SET[0].motion.joints, SET[0].music.times_s), strict=True):
        np.testing.assert_array_equal(old, now)


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_the_clip_and_at_most_one_more(name):
    lazy = Lazy((*SET, dance("d", 4), dance("e", 5)))
    apply(name, strongest(name), lazy, 1)
    assert len(lazy.asked) <= (2 if name in ("wrong-music", "identity-swap") else 1)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("wrong-music", "identity-swap")])
def test_other_clips_do_not_matter(name):
    alone = apply(name, strongest(name), SET[:1])
    np.testing.assert_array_equal(alone.pose.keypoints, apply(name, strongest(name)).pose.keypoints)
    np.testing.assert_array_equal(alone.motion.joints, apply(name, strongest(name)).motion.joints)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_stays_missing(name):
    gone = Missing("gone")
    empty = Evidence(SET[0].clip, 0.0, gone, gone, gone, gone)
    made = apply(name, strongest(name), (empty, empty))
    assert (made.pose, made.motion, made.frames) == (gone, gone, gone)
    assert isinstance(made.music, Missing)


@pytest.mark.parametrize("name", NAMES)
def test_kept_rotations_still_belong_to_the_joints(name):
    made = apply(name, strongest(name)).motion
    np.testing.assert_allclose(made.root, made.joints[:, 0], atol=1e-9)
    if made.rotations is not None:
        assert bone_offsets(made) is not None


@pytest.mark.parametrize("name", ["freeze", "foot-skate", "half-speed", "mirror", "translation", "scale"])
def test_rotations_are_kept_where_they_can_be(name):
    assert apply(name, strongest(name)).motion.rotations is not None


def test_jitter_is_a_share_of_the_height_and_grows_with_the_same_noise():
    weak, strong = (apply("jitter", share).motion.joints - SET[0].motion.joints for share in (0.01, 0.02))
    np.testing.assert_allclose(strong, 2 * weak, atol=1e-12)
    height = np.median(np.ptp(SET[0].motion.joints[..., 1], axis=1))
    assert np.std(weak) == pytest.approx(0.01 * height, rel=0.03)


def test_freeze_holds_the_share_of_the_time_and_nothing_before():
    made = apply("freeze", 0.4)
    still = np.abs(np.diff(made.motion.joints, axis=0)).max(axis=(1, 2)) == 0
    assert still.mean() == pytest.approx(0.4, abs=0.02)
    assert still[-1]
    moving = ~still
    np.testing.assert_array_equal(made.motion.joints[:-1][moving], SET[0].motion.joints[:-1][moving])
    assert np.mean(made.frames["frame_difference"] == 0) == pytest.approx(0.4, abs=0.02)


def test_foot_skate_glides_at_its_speed():
    path = apply("foot-skate", 0.4).motion.root - SET[0].motion.root
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1) * 30.0
    np.testing.assert_allclose(speed, 0.4, rtol=1e-3)
    assert np.abs(path[:, 1]).max() == 0
    assert np.abs(path).max() < 0.4 * 4 / np.pi + 1e-9
    shift = apply("foot-skate", 0.4).pose.keypoints - SET[0].pose.keypoints
    assert np.abs(shift[..., 1]).max() == 0
    np.testing.assert_allclose(shift[..., 0], np.broadcast_to(shift[:, :1, 0], shift.shape[:2]), atol=1e-9)


def test_time_shift_is_a_share_of_a_beat():
    made = apply("time-shift", 0.2).music.times_s
    np.testing.assert_allclose(made[:3], SET[0].music.times_s[:3] + 0.1, atol=1e-9)
    half = apply("time-shift", 0.5).music.times_s
    assert np.abs(half[:, None] - SET[0].music.times_s[None]).min(axis=1) == pytest.approx(0.25)


def test_wrong_music_takes_over_at_the_end():
    own, other = SET[0].music.times_s, SET[1].music.times_s
    made = apply("wrong-music", 0.4).music.times_s
    np.testing.assert_array_equal(made[made < 3.0], own[own < 3.0])
    np.testing.assert_array_equal(made[made >= 3.0], other[other >= 3.0])
    np.testing.assert_array_equal(apply("wrong-music", 1.0).music.times_s, other)


def test_half_speed_loses_its_share_of_speed():
    made = apply("half-speed", 0.2).motion
    np.testing.assert_allclose(made.joints[::5][:30], SET[0].motion.joints[::4][:30], atol=1e-9)
    pose = apply("half-speed", 0.2).pose.keypoints
    np.testing.assert_allclose(pose[::5][:30], SET[0].pose.keypoints[::4][:30], atol=1e-6)
    repeats = apply("half-speed", 0.2).frames["frame_difference"] == 0
    assert repeats.mean() == pytest.approx(0.2, abs=0.02)


def test_mirror_exchanges_sides_and_twice_is_nothing():
    once = apply("mirror", 1.0)
    left, right = SMPL_JOINTS.index("lwrist"), SMPL_JOINTS.index("rwrist")
    np.testing.assert_allclose(once.motion.joints[:, left], SET[0].motion.joints[:, right] * [-1, 1, 1])
    left, right = COCO25.index("lbigtoe"), COCO25.index("rbigtoe")
    np.testing.assert_allclose(once.pose.keypoints[:, left, 0], 512 - SET[0].pose.keypoints[:, right, 0])
    twice = apply("mirror", 1.0, (once,))
    np.testing.assert_allclose(twice.motion.rotations, SET[0].motion.rotations, atol=1e-12)
    np.testing.assert_allclose(twice.pose.keypoints, SET[0].pose.keypoints, atol=1e-9)


def test_mirror_takes_about_its_share_of_the_clips_and_keeps_those_it_took():
    clips = [SET[0].replace(clip=Clip(str(i), "x", f"{i:064d}")) for i in range(200)]
    taken = [{i for i in range(200) if apply("mirror", s, clips, i) is not clips[i]} for s in (0.2, 0.4, 0.6, 0.8, 1.0)]
    assert [len(found) / 200 for found in taken] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], abs=0.09)
    assert all(small <= large for small, large in pairwise(taken))


def test_a_loop_repeats_and_fades():
    made, fade = apply("two-second-loop", 0.5).motion.joints, round(FADE_S * 30)
    np.testing.assert_array_equal(made[:60], SET[0].motion.joints[:60])
    np.testing.assert_allclose(made[60 + fade : 120], made[fade:60])
    steps = np.linalg.norm(np.diff(made, axis=0), axis=2).max(axis=1)
    assert steps[59:60].max() < 1.5 * np.linalg.norm(np.diff(SET[0].motion.joints, axis=0), axis=2).max()


def test_scale_and_translation_are_what_they_say():
    np.testing.assert_allclose(apply("scale", 0.2).motion.joints, SET[0].motion.joints * 1.2)
    spread = np.ptp(apply("scale", 0.2).pose.keypoints, axis=(0, 1)) / np.ptp(SET[0].pose.keypoints, axis=(0, 1))
    np.testing.assert_allclose(spread, 1.2)
    np.testing.assert_allclose(apply("translation", 0.6).motion.root - SET[0].motion.root, [[0.6, 0, 0]] * 150)
    shift = apply("translation", 0.6).pose.keypoints - SET[0].pose.keypoints
    assert np.ptp(shift[..., 0]) < 1e-9
    assert shift[0, 0, 0] > 0


def test_dropped_joints_lose_their_share_and_more_holds_less():
    weak, strong = (apply("dropped-joints", share) for share in (0.1, 0.4))
    lost = [np.isnan(item.pose.keypoints[..., 0]) for item in (weak, strong)]
    assert [found.mean() for found in lost] == pytest.approx([0.1, 0.4], abs=0.03)
    assert not np.any(lost[0] & ~lost[1])
    assert np.array_equal(strong.pose.confidence == 0, lost[1])
    held = np.all(np.diff(strong.motion.joints, axis=0) == 0, axis=2)
    assert held.mean() == pytest.approx(0.4, abs=0.05)


def test_identity_swap_shows_the_other_dancer_for_its_share():
    made = apply("identity-swap", 0.3).pose.keypoints
    own, other = SET[0].pose.keypoints, SET[1].pose.keypoints
    from_own, from_other = (np.all(made == source, axis=(1, 2)) for source in (own, other))
    assert np.all(from_own | from_other)
    assert from_other[:120].mean() == pytest.approx(0.3, abs=0.05)


def test_identity_swap_leaves_a_clip_alone_when_there_is_nobody_else():
    assert apply("identity-swap", 0.3, (SET[0],)) is SET[0]


def test_touches_follows_the_track():
    in_space = [item.name for item in DEGRADATIONS.values() if item.touches("motion-3d")]
    assert "identity-swap" not in in_space
    assert len(in_space) == 11
    assert all(item.touches("video-2d") for item in DEGRADATIONS.values())
