"""Published pickles: each layout written here and read back, and the files around them."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from macebench.errors import MediaError, UserError
from macebench.motion import MOTION_REASONS, read_motion
from macebench.motion.convert import convert_files, is_pickle, motion_from_values, plan, read_any
from macebench.motion.pickles import run_pickle
from macebench.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from macebench.skeleton import forward_kinematics
from macebench.types import Motion

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
T = 6


def dance():
    rng = np.random.default_rng(5)
    rotations, root = 0.4 * rng.normal(size=(T, 24, 3)), rng.normal(size=(T, 3))
    return rotations, root, forward_kinematics(rotations, root)


def with_z_up(rotations, root, joints):
    """The same motion as EDGE writes it, +90 degrees about x."""
    up = axis_angle_to_matrix(np.array([np.pi / 2, 0, 0]))
    turned = rotations.copy()
    turned[:, 0] = matrix_to_axis_angle(up @ axis_angle_to_matrix(rotations[:, 0]))
    return turned, root @ up.T, joints @ up.T


def values(**arrays):
    return run_pickle(pickle.dumps(arrays))


def assert_same(found, fps, joints, rotations=None, root=None):
    assert found.fps == fps
    np.testing.assert_allclose(found.joints, joints, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.root, joints[:, 0] if root is None else root, rtol=0, atol=1e-12)
    if rotations is None:
        assert found.rotations is None
    else:
        pair = axis_angle_to_matrix(found.rotations), axis_angle_to_matrix(rotations)
        np.testing.assert_allclose(*pair, rtol=0, atol=1e-12)


def test_aist():
    rotations, root, joints = dance()
    made = values(smpl_poses=rotations.reshape(T, 72), smpl_trans=93.78 * root, smpl_scaling=np.array([93.78]),
                  smpl_loss=1.5)  # fmt: skip
    assert_same(motion_from_values(made), 60, joints, rotations)
    assert motion_from_values(made, fps=30).fps == 30


@pytest.mark.parametrize("form", ["auto", "edge", "mace"])
def test_edge_and_mace(form):
    rotations, root, joints = dance()
    poses, trans, points = with_z_up(rotations, root, joints)
    made = values(smpl_poses=poses.reshape(T, 72), smpl_trans=trans, full_pose=points)
    assert_same(motion_from_values(made, form=form), 30, joints, rotations)
    moved = values(smpl_poses=poses.reshape(T, 72), smpl_trans=trans, full_pose=points + 0.01)
    np.testing.assert_allclose(
        motion_from_values(moved, form=form).joints, joints + np.array([0.01, 0.01, -0.01]), atol=1e-12
    )
    if form != "auto":
        bare = values(smpl_poses=poses.reshape(T, 72), smpl_trans=trans)
        assert_same(motion_from_values(bare, form=form), 30, joints, rotations)


def test_poses_alone_are_not_guessed():
    rotations, root, joints = dance()
    made = values(smpl_poses=rotations.reshape(T, 72), smpl_trans=root)
    with pytest.raises(MediaError, match="--format megadance or edge"):
        motion_from_values(made)
    assert_same(motion_from_values(made, form="megadance"), 30, joints, rotations)


@pytest.mark.parametrize("width", [66, 156])
def test_poses_with_and_without_fingers(width):
    rotations, root, _ = dance()
    poses = np.concatenate([rotations[:, :22].reshape(T, 66), np.full((T, 90), 0.3)], axis=1)[:, :width]
    body = rotations.copy()
    body[:, 22:] = 0
    found = motion_from_values(values(smpl_poses=poses, smpl_trans=root), form="megadance")
    assert_same(found, 30, forward_kinematics(body, root), body)


def test_bailando():
    joints = dance()[2]
    for points in (joints, joints.reshape(T, 72)):
        assert_same(motion_from_values(values(pred_position=points)), 60, joints)


def test_isaacgym_is_read_and_refused_for_its_skeleton():
    folder = SHARED / "data" / "motion" / "isaacgym_amp"
    if not folder.is_dir():
        pytest.skip("the shared motions are not beside the checkout")
    files = sorted(folder.glob("*.npy"))
    assert len(files) == 6
    for file in files:
        assert is_pickle(file)
        with pytest.raises(MediaError, match="unknown skeleton: 15 joints"):
            read_any(file)
        with pytest.raises(MediaError, match="pickle not allowed"):
            read_motion(file)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"smpl_poses": np.zeros((T, 71))}, "wrong shape"),
        ({"smpl_poses": np.zeros((T + 1, 72))}, "wrong shape"),
        ({"smpl_poses": np.zeros(72)}, "wrong shape"),
        ({"smpl_poses": np.full((T, 72), np.nan)}, "values not finite"),
        ({"smpl_poses": np.full((T, 72), 1e200)}, "values out of range"),
        ({"smpl_poses": "text"}, "pickle refused"),
        ({"smpl_poses": None}, "pickle refused"),
        ({"smpl_trans": np.zeros((T, 2))}, "wrong shape"),
        ({"smpl_scaling": np.array([0.0])}, "wrong shape"),
        ({"smpl_scaling": np.array([np.nan])}, "wrong shape"),
        ({"smpl_scaling": np.array([1.0, 2.0])}, "wrong shape"),
        ({"smpl_scaling": "x"}, "pickle refused"),
    ],
)
def test_values_that_cannot_be_used(changes, expected):
    good = {"smpl_poses": np.zeros((T, 72)), "smpl_trans": np.zeros((T, 3)), "smpl_scaling": np.array([1.0])}
    with pytest.raises(MediaError) as caught:
        motion_from_values(values(**{**good, **changes}))
    assert caught.value.reason == expected
    assert expected in MOTION_REASONS


def test_names_that_no_format_has(tmp_path):
    with pytest.raises(MediaError, match="format not known: the pickle holds pos, q"):
        motion_from_values(values(pos=np.zeros((T, 3)), q=np.zeros((T, 72))))
    with pytest.raises(MediaError, match="holds no pred_position"):
        motion_from_values({}, form="bailando")
    with pytest.raises(MediaError, match="holds nothing"):
        motion_from_values({})
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(MediaError, match="holds list"):
        read_any(tmp_path / "a.pkl")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A tree with one good motion of each kind and two bad ones."""
    rotations, root, joints = dance()
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    content = {"smpl_poses": rotations.reshape(T, 72), "smpl_trans": root, "smpl_scaling": np.array([1.0])}
    (source / "deep" / "aist.pkl").write_bytes(pickle.dumps(content))
    np.save(source / "bailando.pkl.npy", {"pred_position": joints}, allow_pickle=True)
    np.savez(source / "ours.npz", joints=joints, fps=25)
    np.save(source / "joints.npy", joints)
    (source / "bad.npy").write_bytes(b"hello")
    (source / "notes.txt").write_text("not a motion")
    (source / ".hidden.npy").write_bytes(b"hello")
    return source


def test_a_tree(folder, tmp_path):
    out = tmp_path / "out"
    pairs = plan([folder], out)
    names = [target.relative_to(out).as_posix() for _, target in pairs]
    assert names == ["bad.npz", "bailando.npz", "deep/aist.npz", "joints.npz", "ours.npz"]
    assert plan([folder], out, limit=2) == pairs[:2]
    steps = []
    done = convert_files(pairs, trust_pickle=True, progress=lambda *step: steps.append(step))
    assert steps == [("convert", n, 5) for n in range(1, 6)]
    assert [path.name for path in done.written] == ["bailando.npz", "aist.npz", "ours.npz"]
    assert done.reasons == {"not a motion file": 1, "no frame rate": 1}
    assert read_motion(out / "deep" / "aist.npz").fps == 60
    assert read_motion(out / "ours.npz").fps == 25
    assert np.array_equal(read_motion(out / "bailando.npz").joints, dance()[2])


def test_what_is_there_already_is_left_alone(folder, tmp_path):
    pairs = plan([folder / "ours.npz", folder / "joints.npy"], tmp_path / "out")
    assert len(convert_files(pairs, fps=30).written) == 2
    before = {path: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    again = convert_files(pairs, fps=30)
    assert (again.written, len(again.unchanged)) == ((), 2)
    assert {path: path.stat().st_ino for path in (tmp_path / "out").iterdir()} == before
    changed = convert_files(pairs, fps=24)
    assert [path.name for path in changed.written] == ["joints.npz"]
    (tmp_path / "out" / "ours.npz").write_bytes(b"damaged")
    assert [path.name for path in convert_files(pairs, fps=24).written] == ["ours.npz"]


def test_a_pickle_is_refused_before_anything_is_written(folder, tmp_path):
    with pytest.raises(UserError, match="--trust-pickle"):
        convert_files(plan([folder], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_upside_down_body_is_noted(tmp_path):
    standing = forward_kinematics(np.zeros((T, 24, 3)), np.zeros((T, 3)))
    np.save(tmp_path / "a.npy", -standing)
    done = convert_files(plan([tmp_path / "a.npy"], tmp_path / "out"), fps=30)
    assert "up axis" in done.notes[tmp_path / "a.npy"]
    assert len(done.written) == 1


def test_plans_that_cannot_be(folder, tmp_path):
    out = tmp_path / "out"
    for source, text in ((tmp_path / "none", "does not exist"), (folder / "notes.txt", "no motion file")):
        with pytest.raises(UserError, match=text):
            plan([source], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no motion file"):
        plan([tmp_path / "empty"], out)
    np.savez(folder / "joints.npz", joints=np.zeros((T, 24, 3)), fps=25)
    with pytest.raises(UserError, match="would both become"):
        plan([folder], out)
    with pytest.raises(UserError, match="over itself"):
        plan([folder / "ours.npz"], folder)
    with pytest.raises(UserError, match="format 'smpl'"):
        convert_files([], form="smpl")


def test_an_output_folder_inside_the_source_is_not_read(folder):
    (folder / "bad.npy").unlink()
    out = folder / "out"
    convert_files(plan([folder], out), trust_pickle=True, fps=30)
    assert all(not source.is_relative_to(out) for source, _ in plan([folder], out))


def test_a_hostile_pickle_fails_alone(folder, tmp_path):
    mark = tmp_path / "mark"
    (folder / "aaa.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.")
    done = convert_files(plan([folder], tmp_path / "out"), trust_pickle=True, fps=30)
    assert done.reasons == {"pickle refused": 1, "not a motion file": 1}
    assert "os.system" in done.failed[folder / "aaa.pkl"]
    assert len(done.written) == 4
    assert not mark.exists()


def test_a_motion_of_every_kind_is_a_motion(folder):
    for name in ("bailando.pkl.npy", "ours.npz", "deep/aist.pkl"):
        assert isinstance(read_any(folder / name), Motion)
