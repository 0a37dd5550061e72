"""Motion files: what is read, what is written, and how each format is told from the others.

`read_motion` goes by suffix and shape, never by a guess at the values. Everything comes out as `Motion`: metres, y up,
SMPL-24. A source whose format is z-up is turned by (x, y, z) -> (x, z, -y), its root rotation with it.

| file | content | rate | up |
|---|---|---|---|
| ``.npz`` | ours, see below | in the file | in the file, else y |
| ``.npy`` (T, 315) | FineDance: translation 3, 52 x 6-D | 30 | y |
| ``.npy`` (T, 319) | FineDance: 4 contacts before that | 30 | y |
| ``.npy`` (T, 135) | Lodge: translation 3, 22 x 6-D | 30 | y |
| ``.npy`` (T, 139) | Lodge: 4 contacts before that | 30 | y |
| ``.npy`` (T, 151) | EDGE, MACE-Dance: 4 contacts, translation 3, 24 x 6-D | 30 | z |
| ``.npy`` (T, 24, 3), (T, 72) | joints of SMPL-24 (not poses), metres | must be given | y |
| ``.npy`` (T, 22, 3), (T, 66) | joints of SMPL without hands, metres | must be given | y |
| ``.bvh`` | any skeleton that `macebench.motion.retarget` knows | in the file | y |

Our ``.npz`` holds ``joints`` (T, 24, 3) in metres or ``rotations`` (T, 24, 3), local axis-angle in radians, or both;
``root`` (T, 3) in metres (needed when there are no joints); ``fps``; and optionally ``up``, "y" or "z". Nothing in it
is pickled. Without ``joints`` they follow from forward kinematics over the bone offsets in `macebench.skeleton`.

An ``.npz`` with AIST++'s names is read, too: ``smpl_poses`` (T, 72), ``smpl_trans`` (T, 3), ``fps``, and optionally
``smpl_scaling`` (1), by which the translation is divided, and ``up``. `write_aist` writes it, y up as AIST++ is, with
the scaling 1. Unlike AIST++'s own files it is no pickle and states its frame rate.

6-D rotations are the first two rows of the matrix. The published translation is taken as the position of the root
joint, as EDGE does it; SMPL bodies add a constant (the root's place in the rest pose), which moves the whole clip and
nothing else. Of 52 joints the first 22 are the body; the finger joints are dropped and both hands get no turn of their
own. Contacts are read past: they are derived from the motion where a metric needs them. Joints without hands get them
on the line from elbow to wrist, as far behind the wrist as SMPL's hand joint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from macebench.errors import MediaError, UserError
from macebench.motion.arrays import MOTION_REASONS, check_file, read_npy, read_npz
from macebench.motion.rotations import matrix_to_axis_angle, rotation_6d_to_matrix, turn_up_z_to_y
from macebench.skeleton import SMPL_OFFSETS_M, axis_angle_to_matrix, forward_kinematics
from macebench.store import write_npz
from macebench.types import N_JOINTS, Array, FloatArray, Motion

__all__ = [
    "MAX_FPS", "MAX_FRAMES", "MAX_SECONDS", "MOTION_REASONS", "MOTION_SUFFIXES", "add_hands", "check_motion",
    "check_values",
    "motion_from_joints", "motion_from_rotations", "orientation_note", "read_motion", "size_note", "write_aist",
    "write_motion",
]  # fmt: skip

MOTION_SUFFIXES: tuple[str, ...] = (".npz", ".npy", ".bvh")
PICKLE_SUFFIXES: tuple[str, ...] = (".pkl", ".pickle")
MAX_SECONDS = 3600.0
MAX_FRAMES = 3600 * 240
MAX_FPS = 1000.0
MAX_VALUE = 1e5
UP_AXES = ("y", "z")
_UP_QUESTION = "is the source's up axis right?"
_UP_HINT = "`macebench convert --up z` turns z-up files"
_UP_COSINE = 0.7
_LEG_M = (0.3, 1.5)
_AIST_NAMES = {"smpl_poses": (72,), "smpl_trans": (3,)}
_NPZ_NAMES = ("joints", "rotations", "root", "fps", "up", *_AIST_NAMES, "smpl_scaling")
_NO_RATE = "the file does not say it; give it with --motion-fps (macebench convert: --fps)"
_PICKLE = "convert it once: macebench convert --trust-pickle FILE --out FOLDER"


@dataclass(frozen=True)
class _Columns:
    """Layout of a row of a published motion array."""

    n_contacts: int
    n_joints: int
    fps: float
    up: str


_LAYOUTS = {
    315: _Columns(0, 52, 30.0, "y"),
    319: _Columns(4, 52, 30.0, "y"),
    135: _Columns(0, 22, 30.0, "y"),
    139: _Columns(4, 22, 30.0, "y"),
    151: _Columns(4, 24, 30.0, "z"),
}
_JOINT_SHAPES = {(24, 3): 24, (72,): 24, (22, 3): 22, (66,): 22}


def read_motion(path: str | Path, *, fps: float | None = None) -> Motion:
    """Read one motion file; formats are listed in the module.

    Args:
        path: The file, known by its suffix.
        fps: Frame rate of files that do not state one. ``.npz`` and ``.bvh`` state theirs; for the published column
            formats it replaces the customary 30; for bare joints it is needed.

    Returns:
        The motion in metres, y up, at the file's own frame rate.

    Raises:
        MediaError: the file cannot be used; the reason is one of `MOTION_REASONS`.
    """
    path = Path(path)
    if fps is not None:
        _check_fps(fps)
    suffix = path.suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        check_file(path)
        raise MediaError("pickle not allowed", _PICKLE)
    if suffix == ".npz":
        return check_motion(_read_ours(path))
    if suffix == ".npy":
        return check_motion(_read_columns(read_npy(path, _check_shape), fps))
    if suffix == ".bvh":
        from macebench.motion.bvh import read_bvh
        from macebench.motion.retarget import retarget

        check_file(path)
        return check_motion(retarget(read_bvh(path)))
    raise MediaError("not a motion file", f"suffix {path.suffix!r}; known are {', '.join(MOTION_SUFFIXES)}")


def write_motion(path: str | Path, motion: Motion) -> None:
    """Write our ``.npz`` (see the module) or a ``.bvh`` (`macebench.motion.bvh_write`); equal motions give equal bytes.

    Raises:
        UserError: the folder cannot be written or the disk is full; or the motion cannot be written as BVH.
        ValueError: another suffix.
    """
    if Path(path).suffix == ".bvh":
        from macebench.motion.bvh_write import write_bvh

        write_bvh(path, motion)
        return
    if Path(path).suffix != ".npz":
        raise ValueError(f"{path}: a motion is written as .npz or .bvh")
    values = {"joints": motion.joints, "root": motion.root, "rotations": motion.rotations}
    arrays = {name: value for name, value in values.items() if value is not None}
    write_npz(Path(path), {**arrays, "fps": np.array(motion.fps, dtype=np.float64)})


def write_aist(path: str | Path, motion: Motion) -> None:
    """Write an ``.npz`` with the names of AIST++ (see the module); equal motions give equal bytes.

    The joints are not written: they follow from the rotations over SMPL's bones. ``smpl_trans`` is the position of
    joint 0 in metres, y up.

    Raises:
        UserError: the motion has no rotations, or the file cannot be written.
    """
    if motion.rotations is None:
        raise UserError(f"{path}: a motion with joint positions alone has no poses to write.", hint="Write our .npz.")
    arrays = {
        "smpl_poses": motion.rotations.reshape(len(motion), -1), "smpl_trans": motion.joints[:, 0],
        "smpl_scaling": np.ones(1), "fps": np.array(motion.fps, dtype=np.float64),
    }  # fmt: skip
    write_npz(Path(path), arrays)


def motion_from_rotations(
    matrices: FloatArray, root: FloatArray, fps: float, *, up: str = "y", joints: FloatArray | None = None
) -> Motion:
    """A motion from local rotations.

    Args:
        matrices: (T, J, 3, 3) with J = 22, 24 or 52 (SMPL-H); see the module for what becomes of the hands.
        root: (T, 3) metres, position of the root joint.
        fps: Frames a second.
        up: "y" or "z"; a z-up source is turned.
        joints: (T, 24, 3) metres in the frame of the source, or None for forward kinematics.
    """
    local = np.array(np.broadcast_to(np.eye(3), (len(matrices), N_JOINTS, 3, 3)))
    kept = N_JOINTS if matrices.shape[1] == N_JOINTS else 22
    local[:, :kept] = matrices[:, :kept]
    if up == "z":
        root = turn_up_z_to_y(root)
        joints = None if joints is None else turn_up_z_to_y(joints)
        local[:, 0] = turn_up_z_to_y(np.swapaxes(local[:, 0], -1, -2)).swapaxes(-1, -2)
    if joints is None:
        joints = forward_kinematics(local, root)
    return Motion(fps, joints, matrix_to_axis_angle(local), root)


def motion_from_joints(joints: FloatArray, fps: float, *, up: str = "y") -> Motion:
    """A motion from positions alone: (T, 24, 3) metres, or (T, 22, 3) without hands; a z-up source is turned."""
    points = turn_up_z_to_y(joints) if up == "z" else np.asarray(joints, dtype=np.float64)
    return Motion(fps, add_hands(points) if points.shape[1] == 22 else points)


def add_hands(joints: FloatArray) -> FloatArray:
    """(T, 24, 3) of (T, 22, 3): hands on the line from elbow to wrist, SMPL's hand length behind the wrist."""
    elbows, wrists = joints[:, 18:20], joints[:, 20:22]
    along = wrists - elbows
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    reach = np.linalg.norm(SMPL_OFFSETS_M[22:24], axis=-1)[:, None]
    hands = wrists + reach * along / np.maximum(length, 1e-9)
    return np.concatenate([joints, hands], axis=1)


def check_motion(motion: Motion) -> Motion:
    """The motion itself when it is finite, not empty and within the limits of this module.

    Raises:
        MediaError: ``wrong shape``, ``frame rate not allowed``, ``too long``, ``values not finite`` or
            ``values out of range``.
    """
    _check_fps(motion.fps)
    _check_length(len(motion))
    if motion.duration_s > MAX_SECONDS:
        raise MediaError("too long", f"{motion.duration_s:.0f} s, allowed are {MAX_SECONDS:.0f} s")
    for name in ("joints", "rotations", "root"):
        values = getattr(motion, name)
        if values is not None:
            check_values(values, name)
    return motion


def check_values(values: Array, name: str) -> Array:
    """The array itself when its values are finite and at most `MAX_VALUE` (metres, radians or none).

    Raises:
        MediaError: ``values not finite`` or ``values out of range``.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if not math.isfinite(largest):
        place = int(np.argmax(~np.isfinite(values.reshape(len(values), -1)).all(axis=1)))
        raise MediaError("values not finite", f"{name}, frame {place}")
    if largest > MAX_VALUE:
        raise MediaError("values out of range", f"{name} up to {largest:.3g}, allowed is {MAX_VALUE:.0e}")
    return values


def turned(motion: Motion, up: str = "y", scale: float = 1.0) -> Motion:
    """A motion whose source was wrongly taken for y up and metres, as it really is.

    Args:
        motion: As it was read.
        up: The source's up axis: ``y`` changes nothing, ``z`` turns it a quarter about x.
        scale: Metres in one unit of the source's lengths.

    Raises:
        ValueError: `up` is neither, or `scale` is not above 0.
    """
    if up not in UP_AXES or not 0.0 < scale < math.inf:
        raise ValueError(f"up is {up!r} and scale {scale}, expected y or z and a number above 0")
    if up == "y" and scale == 1.0:
        return motion
    joints, root = motion.joints * scale, None if motion.root is None else motion.root * scale
    return check_motion(_assemble(joints, motion.rotations, root, motion.fps, up))


def orientation_note(motion: Motion) -> str | None:
    """A sentence for the user when the body does not look upright with y up, else None. Nothing is changed.

    The mean direction from the ankles to the head is compared with y: a dancer who lies is rare, a z-up file read as
    y-up is not.
    """
    body = motion.joints[:, 15] - motion.joints[:, 7:9].mean(axis=1)
    mean = body.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length < 1e-6 or mean[1] / length >= _UP_COSINE:
        return None
    axis = int(np.argmax(np.abs(mean)))
    sign = "-" if mean[axis] < 0 else ""
    question = _UP_HINT if axis == 2 and not sign else _UP_QUESTION
    return f"the body points along {sign}{'xyz'[axis]}, not along y: {question}"


def size_note(motion: Motion) -> str | None:
    """A sentence for the user when the legs are not as long as a person's in metres, else None. Nothing is changed."""
    joints = motion.joints
    bones = (joints[:, (1, 2)] - joints[:, (4, 5)], joints[:, (4, 5)] - joints[:, (7, 8)])
    length = float(np.median(sum(np.linalg.norm(bone, axis=-1) for bone in bones)))
    if _LEG_M[0] <= length <= _LEG_M[1]:
        return None
    return f"the legs are {length:.3g} m long: are the joints in metres? `macebench convert --scale` changes units"


def _check_fps(fps: float) -> None:
    if not 0 < fps <= MAX_FPS:
        raise MediaError("frame rate not allowed", f"{fps} frames a second, allowed is up to {MAX_FPS:.0f}")


def _check_length(frames: int) -> None:
    if frames < 1:
        raise MediaError("wrong shape", "no frames")
    if frames > MAX_FRAMES:
        raise MediaError("too long", f"{frames} frames, allowed are {MAX_FRAMES}")


def _check_shape(shape: tuple[int, ...]) -> None:
    """Refuse an array that is in none of the known forms."""
    rest = shape[1:]
    if len(shape) < 2 or (rest not in _JOINT_SHAPES and not (len(rest) == 1 and rest[0] in _LAYOUTS)):
        known = "T x 315, 319, 135, 139, 151, 72, 66, 24 x 3 or 22 x 3"
        raise MediaError("wrong shape", f"{shape}, expected {known}")
    _check_length(shape[0])


def _read_columns(values: FloatArray, fps: float | None) -> Motion:
    check_values(values, "motion array")
    n_joints = _JOINT_SHAPES.get(values.shape[1:])
    if n_joints is not None:
        if fps is None:
            raise MediaError("no frame rate", _NO_RATE)
        return motion_from_joints(values.reshape(len(values), n_joints, 3), fps)
    layout = _LAYOUTS[values.shape[1]]
    root = values[:, layout.n_contacts : layout.n_contacts + 3]
    six = values[:, layout.n_contacts + 3 :].reshape(len(values), layout.n_joints, 6)
    body = six[:, : N_JOINTS if layout.n_joints == N_JOINTS else 22]
    try:
        matrices = rotation_6d_to_matrix(body)
    except ValueError as error:
        raise MediaError("not a rotation", str(error)) from error
    return motion_from_rotations(matrices, root, fps or layout.fps, up=layout.up)


def _check_member(name: str, shape: tuple[int, ...]) -> None:
    if name in ("fps", "up", "smpl_scaling"):
        good = shape in ((), (1,))
    elif name in _AIST_NAMES:
        good = len(shape) >= 2 and shape[1:] == _AIST_NAMES[name]
    else:
        good = len(shape) >= 2 and shape[1:] == ((3,) if name == "root" else (N_JOINTS, 3))
    if not good:
        raise MediaError("wrong shape", f"{name} {shape}")
    if name not in ("fps", "up", "smpl_scaling"):
        _check_length(shape[0])


def _read_ours(path: Path) -> Motion:
    found = _own_names(read_npz(path, _NPZ_NAMES, _check_member))
    joints, rotations, root = (found.get(name) for name in ("joints", "rotations", "root"))
    if joints is None and rotations is None:
        raise MediaError("not a motion file", "the archive holds neither joints nor rotations")
    if "fps" not in found:
        raise MediaError("no frame rate", "the archive holds no fps")
    for name, values in (("joints", joints), ("rotations", rotations), ("root", root), ("fps", found["fps"])):
        if values is not None and values.dtype.kind != "f":
            raise MediaError("wrong shape", f"{name} holds {values.dtype}")
        if values is not None and name != "fps":
            check_values(values, name)
    if len({len(values) for values in (joints, rotations, root) if values is not None}) > 1:
        raise MediaError("wrong shape", "joints, rotations and root differ in length")
    fps = float(found["fps"].reshape(-1)[0])
    _check_fps(fps)
    return _assemble(joints, rotations, root, fps, _up_of(found.get("up")))


def _own_names(found: dict[str, Array]) -> dict[str, Array]:
    """The arrays of a file with AIST++'s names under ours."""
    poses, translation = found.get("smpl_poses"), found.get("smpl_trans")
    if poses is None or translation is None or "joints" in found or "rotations" in found:
        return found
    scaling = float(found["smpl_scaling"].reshape(-1)[0]) if "smpl_scaling" in found else 1.0
    if not 1e-6 < scaling < 1e6:
        raise MediaError("values out of range", f"smpl_scaling {scaling:.3g}, expected a number above 0")
    return {**found, "rotations": poses.reshape(len(poses), N_JOINTS, 3), "root": translation / scaling}


def _up_of(value: Array | None) -> str:
    up = "y" if value is None else str(value.reshape(-1)[0])
    if up not in UP_AXES:
        raise MediaError("up axis not known", f"up is {up[:20]!r}, allowed are y and z")
    return up


def _assemble(
    joints: FloatArray | None, rotations: FloatArray | None, root: FloatArray | None, fps: float, up: str
) -> Motion:
    """What our file says, as it is; nothing is computed that the file holds."""
    if up == "z":
        joints, root = (None if values is None else turn_up_z_to_y(values) for values in (joints, root))
        rotations = None if rotations is None else _turn_root(rotations)
    if joints is None:
        if rotations is None or root is None:
            raise MediaError("not a motion file", "the archive holds rotations, but neither joints nor root")
        joints = forward_kinematics(rotations, root)
    return Motion(fps, joints, rotations, root)


def _turn_root(rotations: FloatArray) -> FloatArray:
    """Local axis-angle (T, 24, 3) of a z-up source with the root's turned to y up."""
    root = axis_angle_to_matrix(rotations[:, 0])
    turned = turn_up_z_to_y(np.swapaxes(root, -1, -2)).swapaxes(-1, -2)
    return np.concatenate([matrix_to_axis_angle(turned)[:, None], rotations[:, 1:]], axis=1)
