import dataclasses

import numpy as np
import pytest
import yaml

from macebench.pieces import TOO_SHORT, pieces
from macebench.protocol import load_protocol, parse_protocol
from macebench.types import Beats, Clip, Evidence, Missing, Motion


def motion(n_frames, fps=30.0):
    joints = np.zeros((n_frames, 24, 3))
    joints[..., 0] = np.arange(n_frames)[:, None] / fps
    return Motion(fps, joints)


def evidence(what, beats=(0.5, 1.5, 2.5, 3.5)):
    nothing = Missing("nothing")
    music = Beats(np.array(beats), 10.0)
    return Evidence(Clip("a", "a.npz", "0" * 64), 4.0, nothing, music, nothing, what)


def protocol(beyond_end=None, **sampling):
    base = load_protocol("motion3d-fixed/1").model_dump(mode="json")
    beats = {**base["beats"], "beyond_end": beyond_end}
    text = yaml.safe_dump({**base, "name": "test", "beats": beats, "sampling": {**base["sampling"], **sampling}})
    return parse_protocol(text, "test")


def test_a_motion_is_brought_to_the_frame_rate_and_cut():
    (piece,) = pieces(evidence(motion(121, 60.0)), protocol(fps=30.0, max_frames=45), "generated")
    assert (piece.motion.fps, len(piece.motion), piece.clip.clip_id) == (30.0, 45, "a")
    np.testing.assert_allclose(piece.motion.joints[:, 0, 0], np.arange(45) / 30, atol=1e-12)
    assert piece.duration_s == 1.5
    assert piece.music.times_s.tolist() == [0.5]


def test_the_reference_may_stay_whole():
    rules = protocol(max_frames=45, whole_reference=True)
    assert [len(p.motion) for p in pieces(evidence(motion(100)), rules, "reference")] == [100]
    assert [len(p.motion) for p in pieces(evidence(motion(100)), rules, "generated")] == [45]


def test_windows_are_pieces_with_their_own_clock():
    found = list(pieces(evidence(motion(120)), protocol(window_frames=60, stride_frames=30), "generated"))
    assert [piece.clip.clip_id for piece in found] == ["a@0.000", "a@1.000", "a@2.000"]
    assert [piece.motion.joints[0, 0, 0] for piece in found] == pytest.approx([0, 1, 2])
    assert [piece.music.times_s.tolist() for piece in found] == [[0.5, 1.5], [0.5, 1.5], [0.5, 1.5]]
    assert all(piece.duration_s == 2.0 for piece in found)


def test_a_motion_shorter_than_a_window_is_one_window():
    found = list(pieces(evidence(motion(50)), protocol(window_frames=60), "generated"))
    assert [(piece.clip.clip_id, len(piece.motion)) for piece in found] == [("a@0.000", 50)]


def test_beats_after_the_end_go_unless_the_protocol_keeps_them():
    (cut,) = pieces(evidence(motion(60)), protocol(), "generated")
    (kept,) = pieces(evidence(motion(60)), protocol(beyond_end="keep"), "generated")
    assert cut.music.times_s.tolist() == [0.5, 1.5]
    assert kept.music.times_s.tolist() == [0.5, 1.5, 2.5, 3.5]


def test_beats_between_the_cut_and_the_end_of_the_motion_go_in_any_case():
    (piece,) = pieces(evidence(motion(90)), protocol(beyond_end="keep", max_frames=30), "generated")
    assert piece.music.times_s.tolist() == [0.5, 3.5]


def test_too_short_and_missing_motions_are_counted_not_cut():
    (short,) = pieces(evidence(motion(10)), protocol(min_frames=30), "generated")
    assert short.motion == Missing(TOO_SHORT)
    (gone,) = pieces(evidence(Missing("wrong shape")), protocol(), "generated")
    assert gone.motion == Missing("wrong shape")


def test_videos_pass_through():
    item = evidence(motion(60))
    assert list(pieces(item, load_protocol("ma2d-fixed/1"), "generated")) == [item]


def test_rotations_and_root_are_cut_with_the_joints():
    rng = np.random.default_rng(0)
    whole = dataclasses.replace(motion(60), rotations=rng.normal(0, 0.1, (60, 24, 3)), root=rng.normal(0, 1, (60, 3)))
    second = list(pieces(evidence(whole), protocol(window_frames=20), "generated"))[1]
    np.testing.assert_array_equal(second.motion.rotations, whole.rotations[20:40])
    np.testing.assert_array_equal(second.motion.root, whole.root[20:40])
