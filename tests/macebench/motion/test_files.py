"""Motion files: every format written here and read back, turned and filled as documented, and hostile files."""

import contextlib
import io
import math
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import MediaError
from macebench.motion import MOTION_REASONS, MOTION_SUFFIXES, arrays, files, read_motion, write_motion
from macebench.motion.files import orientation_note, size_note, turned
from macebench.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_rotation_6d
from macebench.skeleton import SMPL_OFFSETS_M, forward_kinematics
from macebench.types import Motion

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
T = 7


def dance(frames=T, n_joints=24, seed=3):
    """(rotations (T, J, 3) below a half turn, root (T, 3)) with y up."""
    rng = np.random.default_rng(seed)
    rotations = 0.4 * rng.normal(size=(frames, n_joints, 3))
    root = rng.normal(size=(frames, 3))
    return rotations, root


def motion_of(rotations, root, fps=30.0):
    return Motion(fps, forward_kinematics(rotations, root), rotations, root)


def columns(rotations, root, contacts=0):
    six = matrix_to_rotation_6d(axis_angle_to_matrix(rotations)).reshape(len(root), -1)
    return np.concatenate([np.ones((len(root), contacts)), root, six], axis=1)


def assert_same(found, expected, atol=1e-12):
    assert found.fps == expected.fps
    np.testing.assert_allclose(found.joints, expected.joints, rtol=0, atol=atol)
    np.testing.assert_allclose(found.root, expected.root, rtol=0, atol=atol)
    assert (found.rotations is None) == (expected.rotations is None)
    if expected.rotations is not None:
        pair = axis_angle_to_matrix(found.rotations), axis_angle_to_matrix(expected.rotations)
        np.testing.assert_allclose(*pair, rtol=0, atol=atol)


def save(path, array):
    np.save(path, array)
    return path


def reason(path, **options):
    with pytest.raises(MediaError) as caught:
        read_motion(path, **options)
    assert caught.value.reason in MOTION_REASONS
    return caught.value.reason


# --- our own ---------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(frames=st.integers(1, 5), fps=st.sampled_from([15, 29.97, 30, 120]), full=st.booleans(), seed=st.integers(0, 99))
def test_ours_comes_back_to_the_bit(tmp_path_factory, frames, fps, full, seed):
    path = tmp_path_factory.mktemp("ours") / "a.npz"
    motion = motion_of(*dance(frames, seed=seed), fps)
    motion = motion if full else Motion(fps, motion.joints)
    write_motion(path, motion)
    found = read_motion(path)
    assert found.fps == motion.fps
    assert np.array_equal(found.joints, motion.joints)
    assert np.array_equal(found.root, motion.root)
    assert np.array_equal(found.rotations, motion.rotations) if full else found.rotations is None


def test_equal_motions_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_motion(tmp_path / f"{name}.npz", motion_of(*dance()))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(ValueError, match=r"\.npz"):
        write_motion(tmp_path / "a.npy", motion_of(*dance()))


def test_ours_by_others(tmp_path):
    path = tmp_path / "a.npz"
    rotations, root = dance()
    expected = motion_of(rotations, root, 25.0)
    np.savez_compressed(path, rotations=rotations, root=root, fps=25)
    assert_same(read_motion(path, fps=99), expected)
    np.savez(path, joints=expected.joints.astype(np.float32), fps=np.array([25]), note="text", up="y")
    assert_same(read_motion(path), Motion(25, expected.joints), 1e-6)
    np.savez(path, joints=np.asfortranarray(expected.joints), fps=25)
    assert_same(read_motion(path), Motion(25, expected.joints))


def to_z(vectors):
    return np.stack([vectors[..., 0], -vectors[..., 2], vectors[..., 1]], axis=-1)


def root_to_z(rotations):
    """Rotations whose forward kinematics give the same body with z up."""
    from macebench.motion.rotations import matrix_to_axis_angle

    up = axis_angle_to_matrix(np.array([math.pi / 2, 0, 0]))
    return np.concatenate([matrix_to_axis_angle(up @ axis_angle_to_matrix(rotations[:, :1])), rotations[:, 1:]], axis=1)


@pytest.mark.parametrize("names", [("joints",), ("joints", "rotations", "root"), ("rotations", "root")])
def test_ours_with_z_up_is_turned(tmp_path, names):
    rotations, root = dance()
    expected = motion_of(rotations, root)
    source = {"joints": to_z(expected.joints), "rotations": root_to_z(rotations), "root": to_z(root)}
    np.testing.assert_allclose(forward_kinematics(source["rotations"], source["root"]), source["joints"], atol=1e-12)
    np.savez(tmp_path / "a.npz", fps=30, up="z", **{name: source[name] for name in names})
    found = read_motion(tmp_path / "a.npz")
    assert_same(found, expected if "rotations" in names else Motion(30, expected.joints))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"joints": np.zeros((3, 24, 3))}, "no frame rate"),
        ({"fps": 30}, "not a motion file"),
        ({"rotations": np.zeros((3, 24, 3)), "fps": 30}, "not a motion file"),
        ({"joints": np.zeros((3, 22, 3)), "fps": 30}, "wrong shape"),
        ({"joints": np.zeros((0, 24, 3)), "fps": 30}, "wrong shape"),
        ({"joints": np.zeros((3, 24, 3)), "root": np.zeros((2, 3)), "fps": 30}, "wrong shape"),
        ({"joints": np.zeros((3, 24, 3)), "fps": [30, 30]}, "wrong shape"),
        ({"joints": np.zeros((3, 24, 3)), "fps": "thirty"}, "wrong shape"),
        ({"joints": np.full((3, 24, 3), "a"), "fps": 30}, "wrong shape"),
        ({"joints": np.zeros((3, 24, 3), dtype=complex), "fps": 30}, "wrong shape"),
        ({"joints": np.zeros((3, 24, 3)), "fps": 0}, "frame rate not allowed"),
        ({"joints": np.zeros((3, 24, 3)), "fps": np.nan}, "frame rate not allowed"),
        ({"joints": np.zeros((3, 24, 3)), "fps": 1e9}, "frame rate not allowed"),
        ({"joints": np.zeros((3, 24, 3)), "fps": 1e-9}, "too long"),
        ({"joints": np.zeros((3, 24, 3)), "fps": 30, "up": "x"}, "up axis not known"),
        ({"joints": np.full((3, 24, 3), np.nan), "fps": 30}, "values not finite"),
        ({"joints": np.zeros((3, 24, 3)), "rotations": np.full((3, 24, 3), np.inf), "fps": 30}, "values not finite"),
        ({"joints": np.full((3, 24, 3), 1e300), "fps": 30}, "values out of range"),
        ({"rotations": np.full((3, 24, 3), 1e300), "root": np.zeros((3, 3)), "fps": 30}, "values out of range"),
    ],
)
def test_ours_that_cannot_be_used(tmp_path, content, expected):
    np.savez(tmp_path / "a.npz", **content)
    assert reason(tmp_path / "a.npz") == expected


# --- published columns -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_joints", "contacts", "width"), [(52, 0, 315), (52, 4, 319), (22, 0, 135), (22, 4, 139)])
def test_finedance_and_lodge(tmp_path, n_joints, contacts, width):
    rotations, root = dance(n_joints=n_joints)
    array = columns(rotations, root, contacts)
    assert array.shape == (T, width)
    body = np.concatenate([rotations[:, :22], np.zeros((T, 2, 3))], axis=1)
    assert_same(read_motion(save(tmp_path / "a.npy", array)), motion_of(body, root))
    assert_same(read_motion(tmp_path / "a.npy", fps=60), motion_of(body, root, 60))
    assert_same(read_motion(save(tmp_path / "b.npy", array.astype(np.float32))), motion_of(body, root), 1e-5)


def test_edge_and_mace_are_turned(tmp_path):
    rotations, root = dance()
    array = columns(root_to_z(rotations), to_z(root), 4)
    assert array.shape == (T, 151)
    assert_same(read_motion(save(tmp_path / "a.npy", array)), motion_of(rotations, root))


def test_golden_edge_vectors(tmp_path):
    golden = SHARED / "golden" / "parity" / "rotations_fk_normalizer.npz"
    if not golden.is_file():
        pytest.skip("the shared golden values are not beside the checkout")
    with np.load(golden, allow_pickle=False) as data:
        parts = [data[name].astype(np.float64) for name in ("vec151", "vec_in_axis_angle72", "vec_in_root")]
    for vector, poses, root in zip(*parts, strict=True):
        expected = motion_of(poses.reshape(-1, 24, 3), root)
        assert_same(read_motion(save(tmp_path / "a.npy", vector)), expected, 1e-5)


def test_six_numbers_that_are_no_rotation(tmp_path):
    array = columns(*dance())
    array = np.concatenate([np.zeros((T, 4)), array], axis=1)
    array[3, 7:13] = 0
    assert reason(save(tmp_path / "a.npy", array)) == "not a rotation"


# --- joints ----------------------------------------------------------------------------------------------------------


def test_joints_alone_need_a_frame_rate(tmp_path):
    joints = motion_of(*dance()).joints
    for array in (joints, joints.reshape(T, 72)):
        path = save(tmp_path / "a.npy", array)
        assert reason(path) == "no frame rate"
        assert_same(read_motion(path, fps=24), Motion(24, joints))
    with pytest.raises(MediaError, match="--motion-fps"):
        read_motion(path)


def test_joints_without_hands_get_them(tmp_path):
    joints = motion_of(*dance()).joints[:, :22]
    for array in (joints, joints.reshape(T, 66)):
        found = read_motion(save(tmp_path / "a.npy", array), fps=30).joints
        assert np.array_equal(found[:, :22], joints)
        for hand, wrist, elbow in ((22, 20, 18), (23, 21, 19)):
            reach, along = found[:, hand] - joints[:, wrist], joints[:, wrist] - joints[:, elbow]
            length = np.linalg.norm(SMPL_OFFSETS_M[hand])
            np.testing.assert_allclose(np.linalg.norm(reach, axis=1), length, atol=1e-12)
            cosine = np.sum(reach * along, axis=1) / (length * np.linalg.norm(along, axis=1))
            np.testing.assert_allclose(cosine, 1, atol=1e-12)


def test_whole_numbers_and_fortran_order(tmp_path):
    joints = np.asfortranarray(np.arange(T * 72).reshape(T, 24, 3))
    assert np.array_equal(read_motion(save(tmp_path / "a.npy", joints), fps=30).joints, joints)


def test_a_bvh_file_is_retargeted():
    path = SHARED / "data" / "motion" / "cmu_subject05_dance" / "05_02.bvh"
    if not path.is_file():
        pytest.skip("the shared motions are not beside the checkout")
    motion = read_motion(path)
    assert math.isclose(motion.fps, 120, rel_tol=1e-3)
    assert orientation_note(motion) is None


# --- the up axis -----------------------------------------------------------------------------------------------------


def test_a_body_that_does_not_stand_is_noted_and_left_as_it_is(tmp_path):
    upright = forward_kinematics(np.zeros((T, 24, 3)), np.zeros((T, 3)))
    assert orientation_note(Motion(30, upright)) is None
    for moved, axis in ((to_z(upright), "along z"), (-upright, "along -y"), (upright[..., [1, 0, 2]], "along x")):
        found = read_motion(save(tmp_path / "a.npy", moved), fps=30)
        assert np.array_equal(found.joints, moved)
        assert axis in orientation_note(found)
    assert orientation_note(Motion(30, np.zeros((T, 24, 3)))) is None


# --- hostile files ---------------------------------------------------------------------------------------------------


def npy_header(text, version=1):
    width = "<H" if version == 1 else "<I"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, len(text)) + text


HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }\n"
FILES = {
    "nothing.npy": (b"", "empty file"),
    "text.npy": (b"hello world\n", "not a motion file"),
    "short.npy": (b"\x93NUM", "not a motion file"),
    "head.npy": (b"\x93NUMPY\x01\x00\xff", "not a motion file"),
    "version.npy": (b"\x93NUMPY\x09\x00" + b"\0" * 100, "not a motion file"),
    "long_header.npy": (npy_header(b" " * 60_000), "not a motion file"),
    "huge_header.npy": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "not a motion file"),
    "code.npy": (npy_header(b"__import__('os').system('true')\n"), "not a motion file"),
    "nested.npy": (npy_header(b"(" * 9000 + b"\n"), "not a motion file"),
    "lie.npy": (npy_header(HEADER % b"1000000000000, 24, 3"), "too long"),
    "half_lie.npy": (npy_header(HEADER % b"800000, 24, 3") + b"\0" * 800, "truncated file"),
    "negative.npy": (npy_header(HEADER % b"-1, 24, 3"), "not a motion file"),
    "no_axis.npy": (npy_header(HEADER % b"") + b"\0" * 8, "wrong shape"),
    "endless.npy": (npy_header(HEADER % (b"9" * 3000 + b", 24, 3")), "too long"),
    "type.npy": (npy_header(b"{'descr': 'zz', 'fortran_order': False, 'shape': (3, 24, 3), }\n"), "not a motion file"),
    "text.npz": (b"hello world\n", "not a motion file"),
    "end_only.npz": (b"PK\x05\x06" + b"\0" * 18, "not a motion file"),
    "text.bvh": (b"hello world\n", None),
    "a.pkl": (b"cos\nsystem\n(S'true'\ntR.", "pickle not allowed"),
    "a.txt": (b"hello", "not a motion file"),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_files(tmp_path, name):
    content, expected = FILES[name]
    (tmp_path / name).write_bytes(content)
    found = reason(tmp_path / name, fps=30)
    assert expected in (None, found)


def test_pickled_arrays_are_refused_and_the_way_is_named(tmp_path):
    np.save(tmp_path / "a.npy", {"x": 1}, allow_pickle=True)
    np.savez(tmp_path / "a.npz", joints=np.array([{}]), fps=30)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({}))
    for name in ("a.npy", "a.npz", "a.pkl"):
        assert reason(tmp_path / name) == "pickle not allowed"
        with pytest.raises(MediaError, match="macebench convert --trust-pickle"):
            read_motion(tmp_path / name)


def test_things_that_are_no_files(tmp_path):
    assert reason(tmp_path / "none.npy") == "file not found"
    assert reason(tmp_path / "none.pkl") == "file not found"
    (tmp_path / "folder.npz").mkdir()
    assert reason(tmp_path / "folder.npz") == "not a motion file"
    os.mkfifo(tmp_path / "pipe.npy")
    assert reason(tmp_path / "pipe.npy") == "not a motion file"


@pytest.mark.parametrize("fps", [0, -30, math.nan, math.inf, 1e6])
def test_a_rate_that_is_none(tmp_path, fps):
    path = save(tmp_path / "a.npy", np.zeros((3, 24, 3)))
    assert reason(path, fps=fps) == "frame rate not allowed"


def test_other_shapes(tmp_path):
    for shape in ((3,), (3, 73), (3, 24), (3, 23, 3), (3, 24, 4), (1, 3, 24, 3), (0, 72)):
        assert reason(save(tmp_path / "a.npy", np.zeros(shape)), fps=30) == "wrong shape"
    assert reason(save(tmp_path / "a.npy", np.zeros((3, 24, 3), dtype=bool)), fps=30) == "wrong shape"


def test_values_that_are_none(tmp_path):
    for value, expected in (
        (math.nan, "values not finite"),
        (math.inf, "values not finite"),
        (1e30, "values out of range"),
    ):
        for shape in ((3, 24, 3), (3, 151), (3, 315)):
            array = np.ones(shape)
            array[1].flat[9] = value
            assert reason(save(tmp_path / "a.npy", array), fps=30) == expected
    array[1].flat[9] = math.nan
    with pytest.raises(MediaError, match="frame 1"):
        read_motion(save(tmp_path / "a.npy", array), fps=30)


def test_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FRAMES", 10)
    assert reason(save(tmp_path / "a.npy", np.zeros((11, 72))), fps=30) == "too long"
    monkeypatch.setattr(arrays, "MAX_FILE_BYTES", 100)
    assert reason(tmp_path / "a.npy", fps=30) == "file too large"


def archive(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_a_zip_bomb_is_seen_in_the_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_FILE_BYTES", 2**20)
    bomb = npy_header(HEADER % b"10000, 24, 3") + bytes(10000 * 72 * 8)
    path = archive(tmp_path / "a.npz", {"joints": bomb, "fps": npy(30)})
    assert path.stat().st_size < 2**16
    assert reason(path) == "file too large"


def test_a_zip_bomb_behind_a_small_array_is_not_unpacked(tmp_path):
    path = archive(tmp_path / "a.npz", {"joints": npy(np.zeros((3, 24, 3))) + bytes(10**8), "fps": npy(30)})
    assert len(read_motion(path)) == 3


def test_archives_that_lie(tmp_path):
    good = {"joints": npy(np.ones((50, 24, 3))), "fps": npy(30)}
    data = archive(tmp_path / "a.npz", good, zipfile.ZIP_STORED).read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    assert reason(tmp_path / "cut.npz") == "not a motion file"
    (tmp_path / "changed.npz").write_bytes(data.replace(np.ones(10).tobytes(), np.zeros(10).tobytes(), 1))
    assert reason(tmp_path / "changed.npz") == "not a motion file"
    lie = archive(tmp_path / "lie.npz", {**good, "joints": npy_header(HEADER % b"800000, 24, 3")})
    assert reason(lie) == "truncated file"
    assert reason(archive(tmp_path / "no.npz", {**good, "joints": b"hello"})) == "not a motion file"
    assert reason(archive(tmp_path / "lzma.npz", good, zipfile.ZIP_LZMA)) == "not a motion file"
    many = archive(tmp_path / "many.npz", {**good, **{f"x{n}": b"" for n in range(100)}})
    assert reason(many) == "not a motion file"


def test_every_flipped_byte_of_ours_gives_a_motion_or_a_reason(tmp_path):
    path = tmp_path / "a.npz"
    write_motion(path, Motion(30, np.ones((1, 24, 3))))
    data = path.read_bytes()
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 0x41
        path.write_bytes(changed)
        with contextlib.suppress(MediaError):
            assert read_motion(path).joints.shape == (1, 24, 3)


def test_the_suffixes():
    assert MOTION_SUFFIXES == (".npz", ".npy", ".bvh")


def test_a_body_that_is_not_in_metres_is_noticed():
    body = forward_kinematics(np.zeros((T, 24, 3)), np.zeros((T, 3)))
    assert size_note(Motion(30, body)) is None
    assert size_note(Motion(30, 100 * body)).startswith("the legs are 8")
    assert "`macebench convert --scale`" in size_note(Motion(30, 100 * body))
    assert "metres" in size_note(Motion(30, body / 39.37))


def test_a_motion_is_turned_and_scaled_as_a_whole():
    upright = motion_of(*dance())
    lying = 100.0 * upright.joints[..., [0, 2, 1]] * [1, -1, 1]
    root = matrix_to_axis_angle(_Y_TO_Z @ axis_angle_to_matrix(upright.rotations[:, 0]))
    rotations = np.concatenate([root[:, None], upright.rotations[:, 1:]], axis=1)
    found = turned(Motion(30, lying, rotations, 100.0 * upright.root @ _Y_TO_Z.T), "z", 0.01)
    np.testing.assert_allclose(found.joints, upright.joints, atol=1e-12)
    np.testing.assert_allclose(found.root, upright.root, atol=1e-12)
    np.testing.assert_allclose(forward_kinematics(found.rotations, found.root), upright.joints, atol=1e-9)
    assert turned(upright) is upright


@pytest.mark.parametrize("how", [{"up": "x"}, {"scale": 0.0}, {"scale": float("nan")}, {"scale": -1.0}])
def test_what_cannot_be_turned(how):
    with pytest.raises(ValueError, match="expected y or z and a number above 0"):
        turned(Motion(30, np.ones((2, 24, 3))), **how)


_Y_TO_Z = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
