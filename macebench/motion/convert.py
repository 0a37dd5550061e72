"""Foreign motion files into our ``.npz``: what `read_motion` reads, and published pickles.

Pickles are read by `macebench.motion.pickles`, which carries out no call, and only when the user trusts them. The
format is known by the names in the dictionary, or named:

| format | dictionary | rate | up | position of the root |
|---|---|---|---|---|
| ``aist`` | ``smpl_poses`` (T, 72), ``smpl_trans`` (T, 3), ``smpl_scaling`` | 60 | y | smpl_trans / smpl_scaling |
| ``edge``, ``mace`` | ``smpl_poses``, ``smpl_trans``, ``full_pose`` (T, 24, 3) joints | 30 | z | smpl_trans |
| ``megadance`` | ``smpl_poses``, ``smpl_trans`` | 30 | y | smpl_trans |
| ``bailando`` | ``pred_position`` (T, 72) or (T, 24, 3) joints in metres | 60 | y | joint 0 |
| ``isaacgym`` | ``rotation``, ``skeleton_tree``: a body of 15 joints | - | - | - |

A dictionary with poses and translation alone is both ``megadance`` and EDGE's without joints, which differ in the up
axis: it is refused until the format is named. ``isaacgym`` is recognised and refused: a body without toes, hands,
neck and spine joints has nothing to put into nine of the 24 joints, and made-up toes would be scored as foot contact.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from macebench.errors import MediaError, UserError
from macebench.motion.arrays import read_npy_header
from macebench.motion.files import (
    MOTION_SUFFIXES,
    PICKLE_SUFFIXES,
    UP_AXES,
    check_motion,
    check_values,
    motion_from_joints,
    motion_from_rotations,
    orientation_note,
    read_motion,
    size_note,
    turned,
    write_motion,
)
from macebench.motion.pickles import as_array, read_pickle
from macebench.skeleton import axis_angle_to_matrix
from macebench.types import N_JOINTS, FloatArray, Motion

FORMATS: tuple[str, ...] = ("auto", "aist", "edge", "mace", "megadance", "bailando", "isaacgym")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Converted:
    """What became of a set of files.

    Attributes:
        written: Files made.
        unchanged: Files that were there already with the same content.
        failed: Source -> reason with detail.
        notes: Source -> what a reader should look at.
    """

    written: tuple[Path, ...]
    unchanged: tuple[Path, ...]
    failed: Mapping[Path, str]
    notes: Mapping[Path, str]

    @property
    def reasons(self) -> Mapping[str, int]:
        """Reason -> number of files."""
        return Counter(text.split(":")[0] for text in self.failed.values())


def plan(sources: Sequence[Path], out: Path, *, limit: int | None = None) -> list[tuple[Path, Path]]:
    """(source, target) of every motion file in `sources`, in order.

    A folder is searched below; hidden files, links and `out` itself are passed over, and the targets keep its tree.

    Raises:
        UserError: a source is missing or no motion file, a folder has none, or two sources want one target.
    """
    pairs: dict[Path, Path] = {}
    for source in sources:
        found = _below(source, out) if source.is_dir() else [_one(source)]
        root = source if source.is_dir() else source.parent
        for file in found:
            target = out / file.relative_to(root).with_name(f"{_stem(file)}.npz")
            other = pairs.setdefault(target, file)
            if other != file:
                raise UserError(f"{other} and {file} would both become {target}.", hint="Convert them one by one.")
            if target.resolve() == file.resolve():
                raise UserError(f"{file} would be written over itself.", hint="Choose another --out.")
    return [(file, target) for target, file in pairs.items()][:limit]


def _stem(path: Path) -> str:
    """The file's name without its suffix and without Bailando's inner ``.pkl``."""
    return Path(path.stem).stem if Path(path.stem).suffix in PICKLE_SUFFIXES else path.stem


def _one(source: Path) -> Path:
    known = (*MOTION_SUFFIXES, *PICKLE_SUFFIXES)
    if not source.is_file():
        raise UserError(f"{source} does not exist.", hint="Name motion files or folders that hold some.")
    if source.suffix.lower() not in known:
        raise UserError(f"{source} is no motion file.", hint=f"Known suffixes are {', '.join(known)}.")
    return source


def _below(folder: Path, out: Path) -> list[Path]:
    known, away = (*MOTION_SUFFIXES, *PICKLE_SUFFIXES), out.resolve()
    found = []
    for file in sorted(folder.rglob("*")):
        inner = file.relative_to(folder)
        if any(part.startswith(".") for part in inner.parts) or file.suffix.lower() not in known:
            continue
        if file.is_file() and not file.is_symlink() and not file.resolve().is_relative_to(away):
            found.append(file)
    if not found:
        raise UserError(f"{folder} holds no motion file.", hint=f"Known suffixes are {', '.join(known)}.")
    return found


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle: by its suffix, or a ``.npy`` whose header says that it holds objects."""
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return True
    if path.suffix.lower() != ".npy":
        return False
    try:
        with path.open("rb") as file:
            return bool(read_npy_header(file)[2].hasobject)
    except (MediaError, OSError):
        return False


def convert_files(
    pairs: Sequence[tuple[Path, Path]],
    *,
    trust_pickle: bool = False,
    fps: float | None = None,
    form: str = "auto",
    up: str = "y",
    scale: float = 1.0,
    progress: Progress | None = None,
) -> Converted:
    """Convert each source to its target; a file that cannot be used is counted and the next one follows.

    Args:
        pairs: From `plan`.
        trust_pickle: Read pickles, too.
        fps: Frame rate of files that do not state one; it replaces a format's customary rate. Nothing is resampled.
        form: One of `FORMATS`; says how pickles are read.
        up: ``z`` turns every motion as it is read, for sources that were wrongly taken for y up. Formats whose axis is
            known are turned without it, and would be turned twice.
        scale: Metres in one unit of the sources' lengths.
        progress: Called with ("convert", done, total).

    Raises:
        UserError: a source is a pickle and `trust_pickle` is False (before anything is written), or the disk is full.
    """
    if form not in FORMATS:
        raise UserError(f"format {form!r} is not known.", hint=f"Allowed are {', '.join(FORMATS)}.")
    if up not in UP_AXES:
        raise UserError(f"up axis {up!r} is not known.", hint=f"Allowed are {', '.join(UP_AXES)}.")
    if not 0.0 < scale < math.inf:
        raise UserError(
            f"scale is {scale}; it must be above 0.", hint="It is metres in one unit: 0.01 for centimetres."
        )
    _refuse_pickles([source for source, _ in pairs], trust_pickle)
    written: list[Path] = []
    unchanged: list[Path] = []
    failed: dict[Path, str] = {}
    notes: dict[Path, str] = {}
    for done, (source, target) in enumerate(pairs, start=1):
        try:
            motion = turned(read_any(source, fps=fps, form=form), up, scale)
        except MediaError as error:
            failed[source] = str(error)
        else:
            (written if _write(target, motion) else unchanged).append(target)
            if (note := orientation_note(motion) or size_note(motion)) is not None:
                notes[source] = note
        if progress is not None:
            progress("convert", done, len(pairs))
    return Converted(tuple(written), tuple(unchanged), failed, notes)


def _refuse_pickles(sources: Sequence[Path], trusted: bool) -> None:
    found = [] if trusted else [source for source in sources if is_pickle(source)]
    if found:
        raise UserError(
            f"{found[0]} is a pickle" + (f", as are {len(found) - 1} others." if len(found) > 1 else "."),
            hint="If you know where it comes from, add --trust-pickle: numbers are read, nothing in it is run.",
        )


def _write(target: Path, motion: Motion) -> bool:
    """Write the motion unless the file at `target` holds this very motion; whether it was written."""
    if target.is_file():
        with contextlib.suppress(MediaError):
            if _equal(read_motion(target), motion):
                return False
    write_motion(target, motion)
    return True


def _equal(one: Motion, other: Motion) -> bool:
    if one.fps != other.fps or (one.rotations is None) != (other.rotations is None):
        return False
    return all(
        np.array_equal(mine, theirs)
        for mine, theirs in ((one.joints, other.joints), (one.root, other.root), (one.rotations, other.rotations))
        if mine is not None and theirs is not None
    )


def read_any(path: Path, *, fps: float | None = None, form: str = "auto") -> Motion:
    """Read a motion file, a pickle included (it is the caller's matter whether that is allowed).

    Raises:
        MediaError: ``pickle refused``, ``format not known``, or see `macebench.motion.read_motion`.
    """
    if not is_pickle(path):
        return read_motion(path, fps=fps)
    value = read_pickle(path)
    if not (isinstance(value, dict) and all(isinstance(key, str) for key in value)):
        raise MediaError("format not known", f"the pickle holds {type(value).__name__}, expected named arrays")
    return check_motion(motion_from_values(value, fps=fps, form=form))


def motion_from_values(values: Mapping[str, Any], *, fps: float | None = None, form: str = "auto") -> Motion:
    """A motion from the named values of a published file (see the module).

    Raises:
        MediaError: the names, shapes or values are not those of the format.
    """
    kind = _recognise(values) if form == "auto" else form
    if kind == "isaacgym":
        raise MediaError("unknown skeleton", "15 joints, without toes, hands, neck and spine: nine would be made up")
    if kind == "bailando":
        joints = _named(values, "pred_position", {(72,), (N_JOINTS, 3)})
        return motion_from_joints(joints.reshape(len(joints), N_JOINTS, 3), fps or 60.0)
    return _from_smpl(values, kind, fps)


def _recognise(values: Mapping[str, Any]) -> str:
    if "pred_position" in values:
        return "bailando"
    if "skeleton_tree" in values:
        return "isaacgym"
    if "smpl_poses" in values and "smpl_scaling" in values:
        return "aist"
    if "smpl_poses" in values and "full_pose" in values:
        return "edge"
    if "smpl_poses" in values:
        raise MediaError("format not known", "poses alone do not say which axis is up: --format megadance or edge")
    names = ", ".join(sorted(values))[:200]
    raise MediaError("format not known", f"the pickle holds {names or 'nothing'}")


def _from_smpl(values: Mapping[str, Any], kind: str, fps: float | None) -> Motion:
    poses = _named(values, "smpl_poses", {(72,), (66,), (156,), (N_JOINTS, 3)})
    root = _named(values, "smpl_trans", {(3,)})
    joints, up = None, "z" if kind in ("edge", "mace") else "y"
    if kind == "aist":
        scaling = as_array(values.get("smpl_scaling"), "smpl_scaling").reshape(-1)
        if len(scaling) != 1 or not 1e-6 < scaling[0] < 1e6:
            raise MediaError("wrong shape", f"smpl_scaling {scaling[:3]}, expected one number above 0")
        root = root / scaling[0]
    elif up == "z" and "full_pose" in values:
        joints = _named(values, "full_pose", {(N_JOINTS, 3)})
    if len({len(part) for part in (poses, root, joints) if part is not None}) != 1:
        raise MediaError("wrong shape", "poses, translation and joints differ in length")
    matrices = axis_angle_to_matrix(poses.reshape(len(poses), -1, 3))
    return motion_from_rotations(matrices, root, fps or (60.0 if kind == "aist" else 30.0), up=up, joints=joints)


def _named(values: Mapping[str, Any], name: str, shapes: set[tuple[int, ...]]) -> FloatArray:
    if name not in values:
        raise MediaError("format not known", f"the pickle holds no {name}")
    array = as_array(values[name], name)
    if array.ndim < 2 or array.shape[1:] not in shapes or not len(array):
        raise MediaError("wrong shape", f"{name} {array.shape}")
    return check_values(array, name)
