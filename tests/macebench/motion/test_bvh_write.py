"""BVH files: what is written is what our own reader finds."""

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.motion import read_motion, write_motion
from macebench.motion.bvh import read_bvh
from macebench.motion.bvh_write import JOINT_NAMES, write_bvh
from macebench.motion.joint_names import match_joints
from macebench.motion.retarget import retarget
from macebench.skeleton import SMPL_JOINTS, SMPL_OFFSETS_M, forward_kinematics
from macebench.types import Motion


def tumbling(frames=90, fps=30.0, seed=0, offsets=SMPL_OFFSETS_M):
    """Rotations over the whole sphere, with gimbal lock at frame 7."""
    rng = np.random.default_rng(seed)
    rotations = np.cumsum(rng.normal(0, 0.25, (frames, 24, 3)), axis=0)
    rotations[7:8] = [np.pi / 2, 0, 0]
    root = np.cumsum(rng.normal(0, 0.05, (frames, 3)), axis=0) + np.array([0, 0.9, 0])
    return Motion(fps, forward_kinematics(rotations, root, offsets), rotations, root)


def joints_of(bvh):
    """(T, 24, 3) metres in SMPL's order."""
    return bvh.positions()[:, [bvh.names.index(name) for name in JOINT_NAMES]] / 100


@pytest.mark.parametrize("fps", [30.0, 60.0, 25.0])
def test_the_reader_gives_the_joints_back(tmp_path, fps):
    motion = tumbling(fps=fps)
    write_bvh(tmp_path / "a.bvh", motion)
    bvh = read_bvh(tmp_path / "a.bvh")
    assert np.abs(joints_of(bvh) - motion.joints).max() < 1e-6
    assert bvh.fps == pytest.approx(fps, rel=1e-5)
    assert len(bvh.end_sites) == 5


def test_another_body_keeps_its_bones(tmp_path):
    motion = tumbling(offsets=SMPL_OFFSETS_M * 1.17)
    write_bvh(tmp_path / "a.bvh", motion)
    assert np.abs(joints_of(read_bvh(tmp_path / "a.bvh")) - motion.joints).max() < 1e-6


def test_the_root_is_joint_0_whatever_the_translation_says(tmp_path):
    motion = tumbling()
    write_bvh(tmp_path / "a.bvh", motion.replace(root=motion.root + np.array([0, 0.2, 0])))
    assert np.abs(joints_of(read_bvh(tmp_path / "a.bvh")) - motion.joints).max() < 1e-6


def test_our_reader_gives_the_same_dance_on_the_floor(tmp_path, dance):
    """Rotations and path return; the height is that of the floor."""
    motion = dance(3)
    write_motion(tmp_path / "a.bvh", motion)
    back = retarget(read_bvh(tmp_path / "a.bvh"), drop_first=0)
    shift = back.joints - motion.joints
    assert np.ptp(shift, axis=(0, 1)).max() < 1e-6
    assert np.abs(shift[..., (0, 2)]).max() < 1e-6
    assert read_motion(tmp_path / "a.bvh").fps == motion.fps


def test_every_joint_is_found_by_name(tmp_path):
    write_bvh(tmp_path / "a.bvh", tumbling(3))
    bvh = read_bvh(tmp_path / "a.bvh")
    found = match_joints(bvh.names, bvh.parents)
    for name, written in zip(SMPL_JOINTS, JOINT_NAMES, strict=True):
        if name not in ("belly", "spine"):
            assert bvh.names[found[name]] == written


def test_angles_do_not_jump(tmp_path):
    """A dancer who turns around three times: the angle runs on."""
    turn = np.linspace(0, 6 * np.pi, 180)
    rotations = np.zeros((180, 24, 3))
    wrapped = (turn + np.pi) % (2 * np.pi) - np.pi
    rotations[:, 0, 1] = wrapped
    root = np.zeros((180, 3))
    write_bvh(tmp_path / "a.bvh", Motion(30.0, forward_kinematics(rotations, root), rotations, root))
    angles = read_bvh(tmp_path / "a.bvh").values[:, 5]
    assert np.abs(angles - np.degrees(turn)).max() < 1e-4


def test_the_same_motion_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_motion(tmp_path / f"{name}.bvh", tumbling(20))
    assert (tmp_path / "a.bvh").read_bytes() == (tmp_path / "b.bvh").read_bytes()


def test_what_cannot_be_written_is_refused(tmp_path):
    motion = tumbling(5)
    with pytest.raises(UserError, match="positions alone"):
        write_bvh(tmp_path / "a.bvh", motion.replace(rotations=None))
    with pytest.raises(UserError, match="without frames"):
        write_bvh(tmp_path / "a.bvh", Motion(30.0, np.zeros((0, 24, 3)), np.zeros((0, 24, 3))))
    crooked = motion.joints + np.linspace(0, 1, 5)[:, None, None] * np.arange(24)[:, None]
    with pytest.raises(UserError, match="do not give its joints"):
        write_bvh(tmp_path / "a.bvh", motion.replace(joints=crooked))
    assert not (tmp_path / "a.bvh").exists()


def test_aist_style_arrays_hold_the_same_dance(tmp_path, dance):
    from macebench.motion.files import write_aist

    motion = dance(2)
    write_aist(tmp_path / "a.npz", motion)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as held:
        assert held["smpl_poses"].shape == (len(motion), 72)
        assert held["smpl_trans"].shape == (len(motion), 3)
        assert float(held["fps"]) == motion.fps
    back = read_motion(tmp_path / "a.npz")
    assert np.abs(back.joints - motion.joints).max() < 1e-12
    assert np.array_equal(back.rotations, motion.rotations)
