"""Editing: what is kept is kept, seams do not jump."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import UserError
from macebench.models.motion_expert._seams import blend_rotations, blend_vectors, seams_of
from macebench.models.motion_expert.checkpoint import Checkpoint
from macebench.models.motion_expert.codec import Normalizer, vectors
from macebench.models.motion_expert.config import PRESETS
from macebench.models.motion_expert.editing import (
    BLEND_SPEED_M_S,
    LOWER_JOINTS,
    MODES,
    UPPER_JOINTS,
    USUAL_SPEED,
    EditPlan,
    edit,
    edit_with_seams,
    input_frames,
    kept_parts,
    seam_blend,
)
from macebench.models.motion_expert.expert import MotionExpert, Sampling
from macebench.models.motion_expert.network import MotionExpertNetwork
from macebench.motion import read_motion
from macebench.motion.edit import heading, part
from macebench.motion.rotations import axis_angle_to_matrix, axis_angle_to_quaternion, matrix_to_axis_angle
from macebench.skeleton import SMPL_OFFSETS_M, forward_kinematics
from macebench.types import Motion

FAST = Sampling(steps=3)
SHARED = Path(__file__).resolve().parents[3].parent / "shared"
CMU = SHARED / "data" / "motion" / "cmu_subject05_dance" / "05_02.bvh"


def dancer(seconds=4.0, fps=30.0, offsets=SMPL_OFFSETS_M, at=(0.0, 0.95, 0.0)):
    """Swings all joints and walks a little."""
    t = np.arange(round(seconds * fps))[:, None] / fps
    joint = np.arange(24)[None]
    swing = np.stack([np.sin(4 * t + 0.7 * joint * (axis + 1)) for axis in range(3)], axis=-1)
    rotations = swing * (0.1 + 0.03 * (joint % 7))[..., None]
    root = np.concatenate([0.3 * np.sin(t), 0.03 * np.sin(5 * t), 0.2 * np.cos(0.7 * t)], axis=1) + np.array(at)
    return Motion(fps, forward_kinematics(rotations, root, offsets), rotations, root)


@pytest.fixture(scope="module")
def expert():
    """A network that nobody trained, whose normaliser fits the dancer."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = MotionExpertNetwork(PRESETS["tiny"]).eval()
    motion = dancer()
    seen = vectors(np.asarray(motion.rotations), np.asarray(motion.root))
    seen = np.concatenate([seen.min(0, keepdims=True) - 0.05, seen.max(0, keepdims=True) + 0.05])
    seen[:, 4:6] = [[-1.0, -1.0], [1.0, 1.0]]
    return MotionExpert(Checkpoint(network, PRESETS["tiny"], Normalizer.fit(seen)), "cpu")


def features(seconds, seed=0):
    return np.random.default_rng(seed).normal(size=(round(30 * seconds), 35))


def angle(first, second):
    """(...) radians between rotations."""
    product = np.swapaxes(axis_angle_to_matrix(first), -1, -2) @ axis_angle_to_matrix(second)
    return np.arccos(np.clip((np.trace(product, axis1=-2, axis2=-1) - 1) / 2, -1, 1))


PLANS = [
    EditPlan("inbetween", ((0.0, 1.0), (3.0, 4.0))),
    EditPlan("inbetween", ((1.2, 2.5),)),
    EditPlan("continue", seconds=6.0),
    EditPlan("continue", ((0.0, 1.5),)),
    EditPlan("upper"),
    EditPlan("lower"),
    EditPlan("root"),
    EditPlan("upper", ((1.0, 2.0),)),
    EditPlan("lower", ((0.0, 2.0),), resample=2),
    EditPlan("root", ((2.0, 4.0),), seconds=5.0),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.mode}-{plan.keep}-{plan.seconds}")
def test_what_is_kept_is_the_inputs_own_and_the_rest_is_made(expert, plan):
    motion = dancer()
    made = edit(expert, motion, features(6), plan, 3, sampling=FAST)
    kept = kept_parts(plan, len(motion), len(made))
    n = min(len(motion), len(made))
    joints, root, whole = kept.joints[:n], kept.root[:n], kept.whole[:n]
    assert np.array_equal(made.rotations[:n][joints], motion.rotations[:n][joints])
    assert np.array_equal(made.root[:n][root], motion.root[:n][root])
    assert np.array_equal(made.joints[:n][whole], motion.joints[:n][whole])
    assert np.abs(forward_kinematics(made.rotations, made.root) - made.joints).max() < 1e-9
    assert np.isfinite(made.joints).all()
    new = ~joints
    if new.any():
        assert angle(made.rotations[:n][new], motion.rotations[:n][new]).mean() > 0.1


def test_the_length_is_that_of_the_dance_or_of_the_music(expert):
    motion = dancer()
    lengths = [len(edit(expert, motion, features(6), plan, 1, sampling=FAST)) for plan in PLANS]
    assert lengths == [120, 120, 180, 180, 120, 120, 120, 120, 120, 150]


@pytest.mark.parametrize("plan", [PLANS[0], PLANS[1], PLANS[2], PLANS[8]], ids=lambda plan: plan.mode)
def test_no_jump_at_a_seam(expert, plan):
    """Over a seam no joint turns faster than next to it, whatever an untrained network makes of the rest."""
    motion = dancer()
    made = edit(expert, motion, features(6), plan, 3, sampling=FAST)
    rough = edit(expert, motion, features(6), EditPlan(plan.mode, plan.keep, plan.seconds, blend_s=0), 3, sampling=FAST)
    kept = kept_parts(plan, len(motion), len(made))
    turns, raw = (angle(one.rotations[:-1], one.rotations[1:]) for one in (made, rough))
    worst = 0.0
    for joint in range(24):
        for edge in np.flatnonzero(np.diff(kept.joints[:, joint].astype(int))):
            beside = [turns[k, joint] for k in (edge - 1, edge + 1) if 0 <= k < len(turns)]
            assert turns[edge, joint] <= max(beside) + 0.1 + 1e-9
            worst = max(worst, raw[edge, joint] - max(beside))
    assert worst > 0.2, "without blending there is a jump: the test can fail"


def test_the_same_seed_edits_the_same(expert):
    motion, plan = dancer(), PLANS[0]
    first, again, other = (edit(expert, motion, features(4), plan, s, sampling=FAST).joints for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_values_beyond_the_training_data_are_kept(expert):
    """A dancer who stretches and jumps beyond all that was seen, and stands somewhere else."""
    motion = dancer(at=(30.0, 2.5, -70.0))
    wild = motion.rotations.copy()
    wild[:60, 16] *= 6
    motion = Motion(30.0, forward_kinematics(wild, motion.root), wild, motion.root)
    made = edit(expert, motion, features(4), EditPlan("continue", ((0.0, 2.0),)), 1, sampling=FAST)
    assert np.array_equal(made.rotations[:60], wild[:60])
    assert np.array_equal(made.joints[:60], motion.joints[:60])
    assert np.linalg.norm(made.root[60:, [0, 2]] - [30, -70], axis=1).max() < 4
    steps = np.linalg.norm(np.diff(made.root, axis=0), axis=1)
    assert steps[59] <= max(steps[58], steps[60]) + BLEND_SPEED_M_S / 30


def test_another_body_keeps_its_bones(expert):
    motion = dancer(offsets=SMPL_OFFSETS_M * 1.2)
    made = edit(expert, motion, features(4), PLANS[0], 1, sampling=FAST)
    shin = np.linalg.norm(made.joints[:, 7] - made.joints[:, 4], axis=1)
    assert np.ptp(shin) < 1e-9
    assert shin[0] == pytest.approx(1.2 * np.linalg.norm(SMPL_OFFSETS_M[7]))


def test_another_frame_rate_is_resampled(expert):
    motion = dancer(fps=60.0)
    made = edit(expert, motion, features(4), PLANS[0], 1, sampling=FAST)
    assert (made.fps, len(made), input_frames(motion)) == (30.0, 120, 120)
    assert np.abs(made.joints[:30] - motion.joints[:60:2]).max() < 1e-9


def test_a_translation_that_is_not_the_root_is_understood(expert):
    motion = dancer()
    moved = motion.replace(root=motion.root + np.array([0.0, 0.25, 0.0]))
    plain, other = (edit(expert, one, features(4), PLANS[0], 1, sampling=FAST) for one in (motion, moved))
    assert np.array_equal(plain.joints, other.joints)


def test_the_parts_of_the_body_are_all_of_it():
    assert sorted((*UPPER_JOINTS, *LOWER_JOINTS)) == list(range(24))
    parts = kept_parts(EditPlan("lower"), 30, 30)
    channels = parts.channels()[0]
    assert channels[:7].all()
    for joint in range(24):
        assert channels[7 + 6 * joint : 13 + 6 * joint].all() == (joint in LOWER_JOINTS)
    assert not kept_parts(EditPlan("upper"), 30, 30).channels()[:, :13].any()
    assert kept_parts(EditPlan("root"), 30, 30).channels()[0].nonzero()[0].tolist() == [4, 5, 6]


def test_the_contact_of_the_last_kept_frame_is_not_given():
    contacts = kept_parts(EditPlan("inbetween", ((0.0, 0.5),)), 30, 30).contacts
    assert contacts.nonzero()[0].tolist() == list(range(14))


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (EditPlan("inbetween", ((0.0, 9.0),)), "cannot be kept"),
        (EditPlan("inbetween", ((0.0, 4.0),)), "nothing is left"),
        (EditPlan("inbetween", ((1.0, 1.01),)), "cannot be kept"),
        (EditPlan("continue", seconds=4.0), "nothing is left"),
        (EditPlan("continue", ((1.0, 2.0),)), "beginning alone"),
        (EditPlan("continue", seconds=60.0), "the music has 6 s, the result 60 s"),
    ],
)
def test_plans_that_cannot_be_done_are_refused(expert, plan, text):
    with pytest.raises(UserError, match=text):
        edit(expert, dancer(), features(6), plan, 1, sampling=FAST)


def test_plans_that_are_none_are_refused():
    for how, text in (
        ({"mode": "sideways"}, "unknown mode"), ({"mode": "inbetween"}, "needs spans"),
        ({"mode": "root", "keep": ((2.0, 1.0),)}, "no span"), ({"mode": "root", "seconds": 0.0}, "above 0"),
        ({"mode": "root", "resample": 0}, "resample"), ({"mode": "root", "blend_s": -1.0}, "blend_s"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=text):
            EditPlan(**how)
    assert set(MODES) == {plan.mode for plan in PLANS}


def test_motions_that_cannot_be_edited_are_refused(expert):
    motion = dancer()
    with pytest.raises(UserError, match="positions only"):
        edit(expert, motion.replace(rotations=None), features(4), PLANS[0], 1)
    torn = motion.joints + np.linspace(0, 1, 120)[:, None, None] * np.arange(24)[:, None]
    with pytest.raises(UserError, match="do not give its joints"):
        edit(expert, motion.replace(joints=torn), features(4), PLANS[0], 1)
    with pytest.raises(UserError, match="no frame"):
        edit(expert, Motion(30.0, np.zeros((0, 24, 3)), np.zeros((0, 24, 3))), features(4), PLANS[0], 1)


# ---- where the dancer faces -----------------------------------------------------------------------------------------


def turned(motion, degrees):
    """The motion turned about the vertical through the origin."""
    turn = axis_angle_to_matrix(np.array([0.0, np.radians(degrees), 0.0]))
    rotations = np.array(motion.rotations)
    rotations[:, 0] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(rotations[:, 0]))
    return Motion(motion.fps, motion.joints @ turn.T, rotations, motion.joints[:, 0] @ turn.T)


def facing(motion):
    return np.degrees(heading(axis_angle_to_quaternion(motion.rotations[:, 0])))


def speeds(motion):
    return np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1).max(axis=1) * motion.fps


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.mode}-{plan.keep}-{plan.seconds}")
@pytest.mark.parametrize("degrees", [90, 180])
def test_a_dance_that_is_turned_is_edited_the_same_and_turned(expert, plan, degrees):
    motion = dancer(at=(0.3, 0.95, -0.2))
    around = turned(motion, degrees)
    straight = edit(expert, motion, features(6), plan, 3, sampling=FAST)
    made = edit(expert, around, features(6), plan, 3, sampling=FAST)
    assert np.abs(made.joints - turned(straight, degrees).joints).max() < 1e-3
    kept, n = kept_parts(plan, len(motion), len(made)), min(len(motion), len(made))
    assert np.array_equal(made.rotations[:n][kept.joints[:n]], around.rotations[:n][kept.joints[:n]])
    assert np.array_equal(made.root[:n][kept.root[:n]], around.root[:n][kept.root[:n]])


@pytest.fixture(scope="module")
def embedded():
    return MotionExpert.embedded("cpu")


@pytest.fixture(scope="module")
def demo_piece():
    from macebench.dances.sources import DemoSource

    return DemoSource(3, 6.0, seed=77).items()[1].load()


BETWEEN = EditPlan("inbetween", ((0.0, 2.0), (4.0, 6.0)))
NOTHING = Sampling(steps=10)


@pytest.mark.slow
def test_a_demo_dance_with_its_back_to_us_does_not_spin_in_the_gap(embedded, demo_piece):
    motion, sounds = demo_piece
    straight, around = (
        edit(embedded, one, sounds, BETWEEN, 0, sampling=NOTHING) for one in (motion, turned(motion, 180))
    )
    apart = (facing(around) - facing(straight)) % 360
    assert np.abs(apart - 180).max() < 1
    assert speeds(around)[60:120].max() == pytest.approx(speeds(straight)[60:120].max(), rel=0.01)


@pytest.mark.slow
@pytest.mark.skipif(not CMU.is_file(), reason="the recorded dances are not there")
@pytest.mark.parametrize("degrees", [0, 180])
@pytest.mark.parametrize("plan", [BETWEEN, EditPlan("continue", ((0.0, 2.0),))], ids=lambda plan: plan.mode)
def test_a_recorded_dance_is_joined_without_a_dash(embedded, plan, degrees):
    """Somewhere on the floor, facing anywhere: no made frame is faster than the training data, nor spins."""
    recorded = part(read_motion(CMU), slice(0, 720))
    motion = turned(edit_input(recorded), degrees)
    sounds = features(6)
    done = edit_with_seams(embedded, motion, sounds, plan, 0, sampling=NOTHING)
    assert done.seams.usual_m_s == embedded.card[USUAL_SPEED]
    assert speeds(done.motion)[59:120].max() < done.seams.usual_m_s
    assert done.seams.speed_m_s < done.seams.usual_m_s
    away = (facing(done.motion)[60:120] - facing(motion)[59] + 180) % 360 - 180
    assert np.abs(away).max() < 45


def edit_input(motion):
    """A recorded motion of 120 frames a second at 30."""
    return Motion(30.0, motion.joints[::4], motion.rotations[::4], motion.joints[::4, 0])


# ---- what is said of the seams --------------------------------------------------------------------------------------


def known(expert, speed):
    return MotionExpert(Checkpoint(expert.network, expert.config, expert.normalizer, {USUAL_SPEED: speed}), "cpu")


def test_the_speed_of_seams_is_that_of_all_frames_that_were_moved(expert):
    motion = dancer()
    for plan in (PLANS[0], PLANS[2], PLANS[8]):
        done = edit_with_seams(expert, motion, features(6), plan, 3, sampling=FAST)
        raw = EditPlan(plan.mode, plan.keep, plan.seconds, plan.resample, blend_s=0)
        rough = edit_with_seams(expert, motion, features(6), raw, 3, sampling=FAST)
        state = kept_parts(plan, len(motion), len(done.motion)).any
        edges = np.flatnonzero(state[1:] != state[:-1])
        frames = np.arange(len(state))
        near = ~state & (np.abs(frames[:, None] - edges - 0.5).min(axis=1) < 30)
        assert done.seams.speed_m_s >= speeds(done.motion)[near[1:] | near[:-1]].max()
        assert done.seams.speed_m_s <= speeds(done.motion)[~state[1:] | ~state[:-1]].max()
        assert rough.seams.speed_m_s == pytest.approx(speeds(rough.motion)[edges].max())
        assert rough.seams.blend_s == 0 < done.seams.blend_s
        assert math.isnan(done.seams.usual_m_s)
        assert not done.seams.dash
    assert np.isnan(edit_with_seams(expert, motion, features(4), PLANS[4], 3, sampling=FAST).seams.speed_m_s)


def test_a_blend_is_made_longer_until_it_is_slow_enough(expert):
    motion, plan = dancer(), PLANS[2]
    short = edit_with_seams(expert, motion, features(6), plan, 3, sampling=FAST).seams
    longest = edit_with_seams(known(expert, 1e-3), motion, features(6), plan, 3, sampling=FAST).seams
    assert longest.dash
    assert longest.speed_m_s < short.speed_m_s, "a longer blend is slower: the test can fail"
    wanted = (longest.speed_m_s + short.speed_m_s) / 2
    fits = edit_with_seams(known(expert, wanted), motion, features(6), plan, 3, sampling=FAST)
    assert fits.seams.speed_m_s <= wanted
    assert not fits.seams.dash
    n = len(motion)
    assert np.array_equal(fits.motion.rotations[:n], motion.rotations)
    never = EditPlan(plan.mode, plan.keep, plan.seconds, blend_s=0)
    assert edit_with_seams(known(expert, wanted), motion, features(6), never, 3, sampling=FAST).seams.blend_s == 0


# ---- the blend alone ------------------------------------------------------------------------------------------------


def test_gaps_are_found():
    kept = np.array([0, 0, 1, 1, 1, 0, 1, 0, 0], dtype=bool)
    found = [(seam.start, seam.end, seam.before, seam.after) for seam in seams_of(kept)]
    assert found == [(0, 2, 0, 3), (5, 6, 3, 1), (7, 9, 1, 0)]
    assert seams_of(np.ones(4, bool)) == seams_of(np.zeros(4, bool)) == []


def test_a_step_becomes_a_slope_of_the_speed_that_was_allowed():
    """A dancer at 0 m, then one at 1 m: the made side starts at the border and takes its time."""
    track = np.zeros((200, 3))
    track[50:, 0] = 1.0
    kept = np.zeros(200, bool)
    kept[:50] = True
    result = blend_vectors(track, seams_of(kept), 6, BLEND_SPEED_M_S / 30)
    assert np.array_equal(result[:50], track[:50])
    assert result[50, 0] == pytest.approx(0, abs=1e-12)
    assert np.diff(result[:, 0]).max() <= BLEND_SPEED_M_S / 30 + 1e-9
    assert result[-1, 0] == 1.0


def test_a_line_stays_a_line():
    """Both sides move at one speed already: nothing is moved."""
    track = np.linspace([0, 0, 0], [1, 2, 3], 30)
    kept = np.arange(30) % 15 < 5
    assert np.abs(blend_vectors(track, seams_of(kept), 6, 1.0) - track).max() < 1e-12
    turning = np.zeros((30, 3))
    turning[:, 1] = np.linspace(0, 2.5, 30)
    assert np.abs(blend_rotations(turning, seams_of(kept), 6, 1.0) - turning).max() < 1e-9


@settings(max_examples=40, deadline=None)
@given(mask=st.lists(st.booleans(), min_size=1, max_size=24), seed=st.integers(0, 99))
def test_kept_frames_are_never_touched(mask, seed):
    rng = np.random.default_rng(seed)
    kept = np.array(mask)
    rotations, root = rng.normal(0, 1, (len(kept), 24, 3)), rng.normal(0, 1, (len(kept), 3))
    joints = np.repeat(kept[:, None], 24, axis=1)
    turned, moved = seam_blend(rotations, root, joints, kept, 0.2)
    assert np.array_equal(turned[kept], rotations[kept])
    assert np.array_equal(moved[kept], root[kept])
    assert np.isfinite(turned).all()
    for edge in np.flatnonzero(np.diff(kept.astype(int))):
        own = [np.linalg.norm(root[k + 1] - root[k]) for k in (edge - 1, edge + 1) if 0 <= k < len(kept) - 1]
        if 0 < edge < len(kept) - 2 and kept[edge - 1] == kept[edge] and kept[edge + 2] == kept[edge + 1]:
            assert np.linalg.norm(moved[edge + 1] - moved[edge]) <= max(own) + 1e-9
