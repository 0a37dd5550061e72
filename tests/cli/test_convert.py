"""``macebench convert`` as a user runs it."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from macebench.motion import read_motion
from macebench.skeleton import forward_kinematics


def run(*words, status=0):
    call = [sys.executable, "-m", "macebench", "convert", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    np.save(folder / "joints.npy", np.zeros((4, 24, 3)))
    poses = {"smpl_poses": np.zeros((4, 72)), "smpl_trans": np.zeros((4, 3)), "smpl_scaling": np.ones(1)}
    (folder / "aist.pkl").write_bytes(pickle.dumps(poses))
    return folder


def test_convert_from_pickle_to_npz(source, tmp_path):
    out = tmp_path / "out"
    text = run(source, "--out", out, status=2)
    assert "aist.pkl is a pickle" in text
    assert "--trust-pickle" in text
    assert not list(out.glob("*.npz"))

    text = run(source, "--out", out, "--trust-pickle", status=3)
    assert "1 written, 0 unchanged, 1 failed" in text
    assert "joints.npy: no frame rate" in text
    assert "--fps" in text

    text = run(source, "--out", out, "--trust-pickle", "--fps", 25)
    assert "2 written, 0 unchanged, 0 failed" in text
    assert read_motion(out / "aist.npz").fps == 25
    assert "0 written, 2 unchanged, 0 failed" in run(source, "--out", out, "--trust-pickle", "--fps", 25)


def test_convert_says_what_is_wrong(source, tmp_path):
    out = tmp_path / "out"
    assert "does not exist" in run(tmp_path / "none", "--out", out, status=2)
    assert "--fps is 0" in run(source, "--out", out, "--fps", 0, status=2)
    assert "--limit is 0" in run(source, "--out", out, "--limit", 0, status=2)
    assert "up axis 'x' is not known" in run(source, "--out", out, "--trust-pickle", "--up", "x", status=2)
    assert "scale is 0.0" in run(source, "--out", out, "--trust-pickle", "--scale", 0, status=2)
    assert "format 'smpl' is not known" in run(source, "--out", out, "--trust-pickle", "--format", "smpl", status=2)
    (source / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "mark").encode() + b"'\ntR.")
    text = run(source / "evil.pkl", "--out", out, "--trust-pickle", status=3)
    assert "the file wants 'os.system'" in text
    assert not (tmp_path / "mark").exists()


def test_convert_takes_the_first_files_only(source, tmp_path):
    assert "1 written" in run(source, "--out", tmp_path / "out", "--trust-pickle", "--limit", 1)


def test_files_with_z_up_and_centimetres_are_put_right(tmp_path):
    body = forward_kinematics(np.zeros((3, 24, 3)), np.zeros((3, 3)))
    np.save(tmp_path / "lying.npy", 100.0 * body[..., [0, 2, 1]] * [1, -1, 1])
    text = run(tmp_path / "lying.npy", "--out", tmp_path / "as-is", "--fps", 30)
    assert "`macebench convert --up z`" in text
    text = run(tmp_path / "lying.npy", "--out", tmp_path / "turned", "--fps", 30, "--up", "z")
    assert "`macebench convert --scale`" in text
    text = run(tmp_path / "lying.npy", "--out", tmp_path / "right", "--fps", 30, "--up", "z", "--scale", 0.01)
    assert "note" not in text
    np.testing.assert_allclose(read_motion(tmp_path / "right" / "lying.npz").joints, body, atol=1e-12)
