"""Writing motions as BVH files, for animation programs.

What is written: one skeleton of 24 joints with SMPL's names (``Pelvis``, ``L_Hip``, ...), y up, in centimetres, as
animation programs expect it; six channels at the root, three at every other joint, rotations as Z, X, Y Euler angles in
degrees. The pose of zero rotations is SMPL's T-pose. Angles run on beyond 180 degrees instead of jumping back, so that
curves can be edited. Numbers have six decimals: `macebench.motion.bvh.read_bvh` gives the joints back to 1e-6 m.

`macebench.motion.read_motion` of the file gives the same dance with its floor at y = 0 (`macebench.motion.retarget`):
another height when the dancer's toes were not there, and without a rest pose put before the take.

The root is the position of joint 0. Its offset is zero, its position channels are its place in the world. Bones have
the lengths of the motion's own joints.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from macebench.errors import UserError
from macebench.motion.resample import bone_offsets
from macebench.motion.rotations import axis_angle_to_matrix, matrix_to_euler
from macebench.skeleton import SMPL_PARENTS
from macebench.store import write_text
from macebench.types import FloatArray, Motion

JOINT_NAMES: tuple[str, ...] = (
    "Pelvis", "L_Hip", "R_Hip", "Spine1", "L_Knee", "R_Knee", "Spine2", "L_Ankle", "R_Ankle", "Spine3", "L_Toe",
    "R_Toe", "Neck", "L_Collar", "R_Collar", "Head", "L_Shoulder", "R_Shoulder", "L_Elbow", "R_Elbow", "L_Wrist",
    "R_Wrist", "L_Hand", "R_Hand",
)  # fmt: skip
CM_PER_M = 100.0
ORDER = "zxy"
_END_SHARE = 0.5
_BLOCK = 4096


def write_bvh(path: str | Path, motion: Motion) -> None:
    """Write a motion as BVH (see the module); equal motions give equal bytes.

    Args:
        path: The file.
        motion: With rotations; at least one frame.

    Raises:
        UserError: the motion has no frame or no rotations, its rotations do not give its joints, or the file cannot
            be written.
    """
    if not len(motion):
        raise UserError(f"{path}: a motion without frames cannot be written.")
    if motion.rotations is None:
        raise UserError(
            f"{path}: a motion with joint positions alone cannot be written as BVH.",
            hint="BVH holds rotations. Write .npz instead.",
        )
    offsets = bone_offsets(motion)
    if offsets is None:
        raise UserError(
            f"{path}: the motion's rotations do not give its joints.", hint="Leave the joints out: they follow."
        )
    write_text(Path(path), "\n".join([*_hierarchy(offsets * CM_PER_M), *_frames(motion)]) + "\n")


def _hierarchy(offsets: FloatArray) -> list[str]:
    """The lines of the HIERARCHY section; offsets (24, 3) in centimetres."""
    children: dict[int, list[int]] = {}
    for joint, parent in enumerate(SMPL_PARENTS):
        children.setdefault(parent, []).append(joint)
    lines = ["HIERARCHY"]

    def write(joint: int, depth: int) -> None:
        tab = "\t" * depth
        moving = "6 Xposition Yposition Zposition" if joint == 0 else "3"
        lines.extend([f"{tab}{'JOINT' if joint else 'ROOT'} {JOINT_NAMES[joint]}", f"{tab}{{"])
        lines.append(f"{tab}\tOFFSET {_numbers(offsets[joint], 8)}")
        lines.append(f"{tab}\tCHANNELS {moving} {' '.join(f'{axis.upper()}rotation' for axis in ORDER)}")
        for child in children.get(joint, []):
            write(child, depth + 1)
        if joint not in children:
            end = _numbers(_END_SHARE * offsets[joint], 8)
            lines.extend([f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\tOFFSET {end}", f"{tab}\t}}"])
        lines.append(f"{tab}}}")

    write(0, 0)
    return lines


def _frames(motion: Motion) -> list[str]:
    """The lines of the MOTION section."""
    order = _order_of_the_file()
    turns = np.empty((len(motion), len(order), 3))
    for start in range(0, len(motion), _BLOCK):
        block = slice(start, start + _BLOCK)
        local = axis_angle_to_matrix(np.asarray(motion.rotations)[block])
        turns[block] = matrix_to_euler(local[:, order], ORDER)
    turns = np.degrees(np.unwrap(turns, axis=0))
    values = np.concatenate([motion.joints[:, 0] * CM_PER_M, turns.reshape(len(turns), -1)], axis=1)
    head = ["MOTION", f"Frames: {len(motion)}", f"Frame Time: {1.0 / motion.fps:.10f}"]
    return [*head, *(_numbers(row, 6) for row in values)]


def _order_of_the_file() -> list[int]:
    """Joints in the order in which the hierarchy opens them: a parent, then each of its branches to the end."""
    order: list[int] = []

    def visit(joint: int) -> None:
        order.append(joint)
        for child, parent in enumerate(SMPL_PARENTS):
            if parent == joint:
                visit(child)

    visit(0)
    return order


def _numbers(values: FloatArray, decimals: int) -> str:
    return " ".join(f"{value:.{decimals}f}" for value in values)
