"""Bending dances to beats, joining and mirroring them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from macebench.dances.warp import RATES, kinetic_beats, warp_path, warp_to_beats
from macebench.demo.choreography import choreograph
from macebench.metrics.beats import beat_report
from macebench.motion import read_motion
from macebench.motion.edit import clean_frames, heading, join, mirrored, part, placed, sampled
from macebench.motion.rotations import axis_angle_to_quaternion
from macebench.skeleton import SMPL_JOINTS, forward_kinematics
from macebench.types import Motion

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "motion"


@pytest.fixture(scope="module")
def dance():
    """12 s of dance at 100 beats a minute."""
    return choreograph(np.arange(0.3, 12.0, 0.6), 12.0, 60.0, 5).motion


def largest_step(motion):
    return float(np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1).max())


def test_the_identity_when_the_beats_agree_already():
    beats = np.arange(0.5, 9.6, 0.5)
    path = warp_path(beats, beats, 10.0, 10.0)
    assert path.n_aligned == path.n_beats == len(beats)
    np.testing.assert_allclose(path.at(np.linspace(0, 10, 50)), np.linspace(0, 10, 50))


@pytest.mark.parametrize("seed", range(12))
def test_a_path_rises_within_its_rates_and_meets_beats(seed):
    rng = np.random.default_rng(seed)
    minima = np.cumsum(rng.uniform(0.3, 2.0, 30))
    music = np.arange(rng.uniform(0.05, 0.6), 20.0, rng.uniform(0.42, 0.7))
    path = warp_path(minima, music, float(minima[-1]) + 1.0, 20.0)
    assert path.music_s[0] == 0.0
    assert path.music_s[-1] == pytest.approx(20.0)
    assert path.rates.min() >= RATES[0] - 1e-9
    assert path.rates.max() <= RATES[1] + 1e-9
    assert path.motion_s.min() >= 0.0
    assert path.motion_s[-1] <= minima[-1] + 1.0
    inner = slice(1, -1)
    assert np.isin(path.motion_s[inner], minima).all()
    assert np.isin(path.music_s[inner], music).all()
    assert path.n_aligned >= 8


def test_without_motion_beats_time_runs_evenly():
    path = warp_path(np.empty(0), np.arange(0.5, 10, 0.5), 8.0, 10.0)
    assert path.n_aligned == 0
    np.testing.assert_allclose(path.rates, 0.8)


def test_a_motion_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="cannot fill"):
        warp_path(np.array([1.0]), np.array([1.0]), 5.9, 10.0)


def test_a_dance_meets_music_of_another_tempo(dance):
    music = np.arange(0.11, 10.0, 0.5)
    before = beat_report(music, kinetic_beats(sampled(dance, np.arange(300) / 30.0, 30.0)), 10.0)
    warped, path = warp_to_beats(dance, music, 10.0, 30.0)
    after = beat_report(music, kinetic_beats(warped), 10.0)
    assert len(warped) == 300
    assert warped.fps == 30.0
    assert path.n_aligned >= 15
    assert after.precision > 0.8 > 0.6 > before.precision
    assert after.corrected > before.corrected + 0.3


def test_poses_between_frames(dance):
    same = sampled(dance, np.arange(len(dance)) / dance.fps, dance.fps)
    np.testing.assert_allclose(same.joints, dance.joints, atol=1e-9)
    half = sampled(dance, np.array([0.5 / 60.0, 99.0]), 60.0)
    assert np.abs(half.joints[0] - (dance.joints[0] + dance.joints[1]) / 2).max() < 1e-3
    np.testing.assert_allclose(half.joints[1], dance.joints[-1], atol=1e-9)


def test_a_join_has_no_jump(dance):
    turned = placed(part(dance, slice(200, 420)))
    shift = np.array([3.0, 0.0, -2.0])
    away = Motion(60.0, turned.joints + shift, turned.rotations, np.asarray(turned.root) + shift)
    parts = [part(dance, slice(0, 150)), away, mirrored(part(dance, slice(300, 450)))]
    joined = join(parts, fade_s=0.4)
    assert len(joined) == sum(map(len, parts)) - 2 * 24
    assert largest_step(joined) < 2.0 * largest_step(dance)
    steps = np.linalg.norm(np.diff(np.asarray(joined.root), axis=0), axis=-1)
    assert steps.max() < 0.03
    np.testing.assert_allclose(joined.joints[:126], dance.joints[:126], atol=1e-9)
    np.testing.assert_allclose(joined.joints, forward_kinematics(joined.rotations, joined.root), atol=1e-12)


def test_a_join_carries_heading_and_keeps_heights(dance):
    parts = [part(dance, slice(0, 100)), part(dance, slice(300, 420))]
    joined = join(parts, fade_s=0.2)
    facing = heading(axis_angle_to_quaternion(np.asarray(joined.rotations)[:, 0]))
    assert np.abs(np.diff(np.unwrap(facing))).max() < 0.15
    np.testing.assert_allclose(np.asarray(joined.root)[100:, 1], np.asarray(parts[1].root)[12:, 1], atol=1e-12)


@pytest.mark.parametrize("lengths", [(1, 1), (1, 50, 2), (3, 3, 3, 3), (60,)])
def test_short_parts_are_joined_too(dance, lengths):
    parts = [part(dance, slice(40 * k, 40 * k + length)) for k, length in enumerate(lengths)]
    fades = [min(24, len(a) // 2, len(b) // 2) for a, b in pairwise(parts)]
    joined = join(parts)
    assert len(joined) == sum(lengths) - sum(fades)
    assert np.isfinite(joined.joints).all()


def test_what_cannot_be_joined(dance):
    with pytest.raises(ValueError, match="one frame rate"):
        join([])
    with pytest.raises(ValueError, match="one frame rate"):
        join([dance, dance.replace(fps=30.0)])
    with pytest.raises(ValueError, match="no rotations"):
        join([Motion(30.0, dance.joints)])


def test_the_mirror_exchanges_left_and_right(dance):
    other = mirrored(dance)
    swap = [SMPL_JOINTS.index(name) for name in warp_names()]
    np.testing.assert_allclose(other.joints[:, swap] * [-1, 1, 1], dance.joints, atol=0.04)
    np.testing.assert_allclose(mirrored(other).joints, dance.joints, atol=1e-9)


def warp_names():
    swapped = {"l": "r", "r": "l"}
    return [name if name == "root" or name[0] not in "lr" else swapped[name[0]] + name[1:] for name in SMPL_JOINTS]


def test_a_placed_dance_faces_along_z_in_the_middle(dance):
    root = np.asarray(placed(part(dance, slice(333, 600))).root)
    np.testing.assert_allclose(root.min(axis=0)[[0, 2]], -root.max(axis=0)[[0, 2]], atol=1e-9)
    facing = heading(axis_angle_to_quaternion(np.asarray(placed(part(dance, slice(333, 600))).rotations)[0, 0]))
    assert abs(float(facing)) < 1e-9


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded dances are not beside this checkout")
def test_a_recorded_dance_meets_the_beats():
    takes = [read_motion(SHARED / "cmu_subject05_dance" / f"05_{name}.bvh") for name in ("02", "04")]
    music = np.arange(0.2, 9.8, 0.5)
    long = join([*takes, mirrored(takes[0])])
    assert clean_frames(long).all()
    warped, path = warp_to_beats(long, music, 10.0, 30.0)
    assert beat_report(music, kinetic_beats(warped), 10.0).precision >= 0.6
    assert path.rates.max() <= RATES[1] + 1e-9
