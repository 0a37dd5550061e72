import re

import numpy as np
import pytest

from macebench.motion import write_motion
from macebench.report.figures import N_FIGURES, front_view, is_motion, motion_strip
from macebench.skeleton import SMPL_JOINTS, forward_kinematics
from macebench.tables import file_sha256
from macebench.types import Motion

LEFT, RIGHT, HEAD, ROOT = (SMPL_JOINTS.index(name) for name in ("lwrist", "rwrist", "head", "root"))


def dance(n_frames=120, turn=0.0, travel=0.0):
    """A T pose turned about y by `turn` radians, whose arms sink and which travels sideways."""
    turns = np.zeros((n_frames, 24, 3))
    turns[:, 0, 1] = turn
    turns[:, 16, 2], turns[:, 17, 2] = np.linspace(0, -1.2, n_frames), np.linspace(0, 1.2, n_frames)
    root = np.column_stack([np.linspace(0, travel, n_frames), np.full(n_frames, 0.95), np.zeros(n_frames)])
    return Motion(30.0, forward_kinematics(turns, root), turns, root)


@pytest.fixture
def stored(tmp_path):
    def store(motion, name="clip.npz"):
        write_motion(tmp_path / name, motion)
        return tmp_path / name

    return store


def strip_of(path, run, start_s=0.0, duration_s=4.0):
    return motion_strip(file_sha256(path), str(path), start_s, duration_s, run)


@pytest.mark.parametrize("turn", [0.0, 1.0, 2.5, -2.0])
def test_the_dancer_is_seen_from_the_front_however_it_stands(turn):
    joints = dance(turn=turn).joints
    seen = front_view(joints, joints)
    assert seen[0, LEFT, 0] == pytest.approx(0.71, abs=0.05)
    assert seen[0, RIGHT, 0] == pytest.approx(-0.71, abs=0.05)
    np.testing.assert_allclose(seen[..., 1], joints[..., 1])


def test_travel_does_not_show():
    one, two = (front_view(motion.joints, motion.joints) for motion in (dance(), dance(travel=8.0)))
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_a_spin_is_seen_from_where_it_starts():
    joints = np.concatenate([dance(1, turn=turn).joints for turn in np.linspace(0, 2 * np.pi, 60, endpoint=False)])
    assert front_view(joints, joints)[0, LEFT, 0] > 0.5


def test_figures_are_spread_evenly_and_complete(stored, tmp_path):
    strip = strip_of(stored(dance()), tmp_path)
    assert len(re.findall("<figure>", strip)) == N_FIGURES
    assert [strip.count(f'class="bone {side}"') for side in ("left", "right", "middle")] == [N_FIGURES] * 3
    assert strip.count("<circle") == N_FIGURES
    times = [float(text) for text in re.findall(r"<figcaption>([\d.]+) s", strip)]
    np.testing.assert_allclose(times, (np.arange(8) + 0.5) / 2, atol=0.006)
    assert "<image" not in strip


def test_a_window_shows_its_own_part_of_the_file(stored, tmp_path):
    path = stored(dance(240))
    first, second = strip_of(path, tmp_path), strip_of(path, tmp_path, start_s=4.0)
    assert first != second
    whole = strip_of(path, tmp_path, duration_s=8.0)
    shapes = [set(re.findall('class="bone left" d="([^"]*)"', text)) for text in (first, second, whole)]
    assert not shapes[0] & shapes[1]


def test_a_figure_stands_inside_its_picture(stored, tmp_path):
    strip = strip_of(stored(dance()), tmp_path)
    width, height = (int(value) for value in re.search(r'viewBox="0 0 (\d+) (\d+)"', strip).groups())
    points = [tuple(map(int, pair)) for pair in re.findall(r"[ML](-?\d+) (-?\d+)", strip)]
    assert min(x for x, _ in points) >= 0
    assert max(x for x, _ in points) <= width
    assert min(y for _, y in points) >= 0
    assert max(y for _, y in points) <= height


def test_a_path_is_relative_to_the_run_folder(stored):
    path = stored(dance())
    run = path.parent / "runs" / "one"
    run.mkdir(parents=True)
    assert "<figure>" in motion_strip(file_sha256(path), "../../clip.npz", 0.0, 4.0, run)


def test_a_file_that_is_gone_changed_or_no_motion_has_a_reason(stored, tmp_path):
    path = stored(dance())
    assert "the motion file has changed since it was scored" in motion_strip("0" * 64, str(path), 0.0, 4.0, tmp_path)
    assert "the motion file is not there any more" in motion_strip("0" * 64, "gone.npz", 0.0, 4.0, tmp_path)
    path.write_bytes(b"no motion")
    assert "No figures: " in strip_of(path, tmp_path)
    assert "<figure>" not in strip_of(path, tmp_path)


@pytest.mark.parametrize("duration_s", [0.0, float("nan"), 1e9])
def test_an_odd_length_costs_nothing(stored, tmp_path, duration_s):
    assert "<figure>" in strip_of(stored(dance()), tmp_path, duration_s=duration_s)


def test_motion_files_are_known_by_their_suffix():
    assert [is_motion(path) for path in ("a/b.npz", "b.BVH", "c.npy", "d.mp4", "", "e.pkl")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
