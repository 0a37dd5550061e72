"""Motion of any humanoid BVH file on the SMPL-24 skeleton.

The result is y up, in metres, with local axis-angle rotations and a root, so that
`macebench.skeleton.forward_kinematics` of both gives its joints exactly. The frame rate is the file's.

How it is done, in this order:

1. Joints are matched by name (`macebench.motion.joint_names`), the spine by the hierarchy.
2. A rest pose put before the take, and the few frames in which the body eases out of it, are dropped: see
   `rest_frames`. CMU's conversions have one: the root jumps in frame 1, the arms need until frame 4 or 5.
3. A file with z up (its head is along z above its feet) is turned by -90 degrees about x.
4. Every source joint gets a fixed *frame* F: its orientation in SMPL's zero pose is the inverse of F. The global
   rotation of the SMPL joint is then ``G(t) F`` with the source's global rotation G, so bends and twists are kept.
   When the pose of zero rotations is a T- or A-pose, F is the turn of the whole body (facing), and for the bones of
   arms, legs and hands in addition the smallest rotation that lays SMPL's bone along the source's: the directions of
   these bones then agree in every frame. Feet, collars, neck and head keep the rest pose of SMPL: a flat foot stays
   flat and shoulders are not drawn down to another body's collar bones.
   When zero rotations are no pose of a person (rigs whose bones all point along one axis), F is measured in the motion:
   bone directions (of the feet too), the hinge axes of knees and elbows, hips and shoulders as left-right axes; spine,
   neck, head and collars are straight on average, or where the rig's axes are laid along the body's.
5. The source's spine, of any number of joints, is spread over belly, spine and chest; the sum of the bends is kept.
6. The middle of the hips follows the source's, scaled by the ratio of leg lengths, which also turns inches or
   centimetres into metres.
7. The ground is y = 0: the low percentile `FLOOR_PERCENTILE` over frames of the lower toe joint is put at
   `TOE_HEIGHT_M`, the height of SMPL's toe joint above its sole. Feet may be below the ground in the few frames under
   the percentile; a step up or down is not levelled.

Dirty takes are converted as they are; `jumps` and `broken` find their frames. What differs from the source are the
proportions: hips and shoulders have SMPL's width, so hands and feet are those of another body with the same bone
directions, and a planted foot slides by the little that the widths of the hips differ when the hips turn over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from macebench.errors import MediaError
from macebench.motion.bvh import TRUNCATED, Bvh
from macebench.motion.joint_names import UNKNOWN_SKELETON, match_joints, path_to_root
from macebench.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from macebench.skeleton import SMPL_JOINTS, SMPL_OFFSETS_M, SMPL_PARENTS, forward_kinematics
from macebench.types import FloatArray, Motion

TOE_HEIGHT_M = 0.02
FLOOR_PERCENTILE = 5.0
MAX_EASE = 8
# joints that no body turns further from the zero pose, degrees; knees, hips and arms have no such simple limit
LIMITS_DEGREES = {"belly": 75.0, "spine": 75.0, "chest": 75.0, "neck": 90.0, "lankle": 95.0, "rankle": 95.0}

# SMPL joint -> (matched source joint, matched source joint at the end of its bone or empty)
_LIMBS: dict[str, tuple[str, str]] = {
    side + joint: (side + role, side + end if end else "")
    for side in "lr"
    for joint, role, end in (
        ("hip", "hip", "knee"), ("knee", "knee", "ankle"), ("ankle", "ankle", ""), ("toes", "toes", ""),
        ("inshoulder", "inshoulder", ""), ("shoulder", "shoulder", "elbow"), ("elbow", "elbow", "wrist"),
        ("wrist", "wrist", "hand"),
    )
}  # fmt: skip
_INDEX = {name: index for index, name in enumerate(SMPL_JOINTS)}
_SPINE = ("belly", "spine", "chest")
_TINY = 1e-9


@dataclass(frozen=True)
class _Source:
    """The matched source: global rotations (T, J, 3, 3), positions (T, J, 3), positions (J, 3) of zero rotations."""

    joints: dict[str, int]
    parents: tuple[int, ...]
    turned: FloatArray
    positions: FloatArray
    zero: FloatArray

    def at(self, role: str) -> FloatArray:
        """(T, 3) positions of a matched joint."""
        return self.positions[:, self.joints[role]]

    def rotation(self, role: str) -> FloatArray:
        """(T, 3, 3) global rotations of a matched joint."""
        return self.turned[:, self.joints[role]]

    @property
    def spine(self) -> list[int]:
        """Joints above the root up to the chest, from below."""
        path = path_to_root(self.parents, self.joints["chest"])
        return path[: path.index(self.joints["root"])][::-1]


def retarget(
    bvh: Bvh, *, drop_first: int | Literal["auto"] = "auto", scale: float | Literal["auto"] = "auto"
) -> Motion:
    """The motion of a BVH file on the SMPL-24 skeleton (see the module's docstring for the method).

    Args:
        bvh: What `macebench.motion.bvh.read_bvh` returns.
        drop_first: Frames to leave out at the start; True is frame 0 alone, False none, ``auto`` is `rest_frames`.
        scale: Metres per unit of the file for the path of the hips; ``auto`` is SMPL's leg length over the source's.

    Returns:
        The frames that are left at the file's frame rate, with rotations and root.

    Raises:
        MediaError: ``unknown skeleton`` (joints not found, or limbs without length), or ``truncated file`` (no frame
            is left).
        ValueError: `scale` is not above 0, or `drop_first` is below 0.
    """
    if drop_first != "auto" and drop_first < 0:
        raise ValueError(f"drop_first is {drop_first}, must not be below 0")
    if scale != "auto" and not scale > 0:
        raise ValueError(f"scale is {scale}, must be above 0")
    joints = match_joints(bvh.names, bvh.parents)
    first = rest_frames(bvh) if drop_first == "auto" else int(drop_first)
    if len(bvh) <= first:
        raise MediaError(TRUNCATED, f"{len(bvh)} frames, nothing is left without the rest pose")
    source = _upright(_source(bvh, joints, first))
    turned = _globals(source)
    factor = _leg_ratio(source) if scale == "auto" else float(scale)
    middle = factor * (source.at("lhip") + source.at("rhip")) / 2
    half = (SMPL_OFFSETS_M[_INDEX["lhip"]] + SMPL_OFFSETS_M[_INDEX["rhip"]]) / 2
    root = middle - turned[:, 0] @ half
    rotations = matrix_to_axis_angle(_locals(turned))
    root[:, 1] -= _floor(forward_kinematics(rotations, root))
    return Motion(fps=bvh.fps, joints=forward_kinematics(rotations, root), rotations=rotations, root=root)


def rest_frames(bvh: Bvh) -> int:
    """How many frames at the start are a rest pose, and the way out of it, that do not belong to the take.

    Steps are mean turns of the matched joints from a frame to the next. Frame 0 does not belong to the take when the
    step to frame 1 is over 3 degrees and over 5 times the median of steps 10 to 60, and either the rotations of frame
    0 are near zero (under 5 degrees on average: a rest pose) or the step is over twice the largest of all later ones.
    Up to `MAX_EASE` further frames go while the steps do not grow and are still over 1 degree and over 1.5 times the
    median.

    Returns:
        0 when the take starts at once, or has under 12 frames.

    Raises:
        MediaError: ``unknown skeleton``.
    """
    if len(bvh) < 12:
        return 0
    joints = sorted(set(match_joints(bvh.names, bvh.parents).values()))
    local = bvh.rotations[:62, joints]
    steps = _angles(np.swapaxes(local[:-1], -1, -2) @ local[1:]).mean(axis=1)
    usual = float(np.median(steps[10:]))
    posed = float(_angles(local[0]).mean()) < 5.0
    if not (steps[0] > max(3.0, 5.0 * usual) and (posed or steps[0] > 2.0 * float(steps[1:].max()))):
        return 0
    count = 1
    while count <= MAX_EASE and max(1.0, 1.5 * usual) < steps[count] < 1.1 * steps[count - 1]:
        count += 1
    return count


def turn_degrees(motion: Motion) -> FloatArray:
    """(T - 1, 24) degrees by which each joint's local rotation turns from a frame to the next.

    Raises:
        ValueError: the motion has no rotations.
    """
    local = axis_angle_to_matrix(_rotations(motion))
    return _angles(np.swapaxes(local[:-1], -1, -2) @ local[1:])


def jumps(motion: Motion, *, degrees: float = 60.0) -> NDArray[np.bool_]:
    """(T,) frames into which some joint turned by more than `degrees` since the frame before; the first is False.

    60 degrees a frame are 7,200 a second at 120 fps; a fast wrist of a dancer reaches 2,000.

    Raises:
        ValueError: the motion has no rotations.
    """
    fast = (turn_degrees(motion) > degrees).any(axis=1)
    return np.concatenate([np.zeros(min(1, len(motion)), dtype=np.bool_), fast])


def broken(motion: Motion) -> NDArray[np.bool_]:
    """(T,) frames in which an ankle, the neck or the trunk is turned further than a body can (`LIMITS_DEGREES`).

    Finds takes whose feet were captured or converted upside down, which do not jump.

    Raises:
        ValueError: the motion has no rotations.
    """
    angles = np.degrees(np.linalg.norm(_rotations(motion), axis=-1))
    limits = np.array([LIMITS_DEGREES.get(name, np.inf) for name in SMPL_JOINTS])
    return np.asarray((angles > limits).any(axis=1), dtype=np.bool_)


def _rotations(motion: Motion) -> FloatArray:
    if motion.rotations is None:
        raise ValueError("the motion has no rotations")
    return motion.rotations


def _source(bvh: Bvh, joints: dict[str, int], first: int) -> _Source:
    zero = bvh.offsets.copy()
    for joint, parent in enumerate(bvh.parents):
        if parent >= 0:
            zero[joint] += zero[parent]
    return _Source(joints, bvh.parents, bvh.global_rotations[first:], bvh.positions()[first:], zero)


def _upright(source: _Source) -> _Source:
    """The source with y up."""
    feet = (source.at("lankle") + source.at("rankle")) / 2
    up = _unit(source.at("head") - feet).mean(axis=0)
    if not (up[2] > 0.5 and up[2] > 2.0 * abs(up[1])):
        return source
    turn = axis_angle_to_matrix(np.array([-np.pi / 2, 0.0, 0.0]))
    return _Source(source.joints, source.parents, turn @ source.turned, source.positions @ turn.T, source.zero)


def _leg_ratio(source: _Source) -> float:
    """Length of SMPL's legs over the source's, metres per file unit."""

    def legs(positions: FloatArray, index: dict[str, int]) -> float:
        pairs = [(side + a, side + b) for side in "lr" for a, b in (("hip", "knee"), ("knee", "ankle"))]
        parts = [np.linalg.norm(positions[:, index[a]] - positions[:, index[b]], axis=-1) for a, b in pairs]
        return float(np.median(np.sum(parts, axis=0)))

    length = legs(source.positions, source.joints)
    if not length > _TINY:
        raise MediaError(UNKNOWN_SKELETON, "the legs have no length")
    zero_pose = forward_kinematics(np.zeros((1, len(SMPL_JOINTS), 3)), np.zeros((1, 3)))
    return legs(zero_pose, _INDEX) / length


def _floor(joints: FloatArray) -> float:
    toes = joints[:, [_INDEX["ltoes"], _INDEX["rtoes"]], 1].min(axis=1)
    return float(np.percentile(toes, FLOOR_PERCENTILE)) - TOE_HEIGHT_M


def _globals(source: _Source) -> FloatArray:
    """(T, 24, 3, 3) global rotations of the SMPL joints."""
    body = _body_of_zero(source)
    named = _from_motion(source) if body is None else _from_zero(source, body)
    result = np.empty((len(source.turned), len(SMPL_JOINTS), 3, 3))
    spine = _spread([named["root"], *(named[f"spine{i}"] for i in range(len(source.spine)))])
    for joint, (name, parent) in enumerate(zip(SMPL_JOINTS, SMPL_PARENTS, strict=True)):
        if name in _SPINE:
            result[:, joint] = spine[_SPINE.index(name)]
        elif name in named:
            result[:, joint] = named[name]
        elif name == "neck":  # the source has none: half of the head's turn
            result[:, joint] = _between(result[:, parent], named["head"], 0.5)
        else:
            result[:, joint] = result[:, parent]
    return result


def _locals(turned: FloatArray) -> FloatArray:
    local = turned.copy()
    parents = list(SMPL_PARENTS[1:])
    local[:, 1:] = np.swapaxes(turned[:, parents], -1, -2) @ turned[:, 1:]
    return np.asarray(local)


def _spread(chain: Sequence[FloatArray]) -> list[FloatArray]:
    """Global rotations of belly, spine and chest from those of root, spine 1, ... spine n.

    Each local turn of the source is cut over the SMPL joints in proportion: joint i of n covers the stretch
    [i/n, (i+1)/n] of the trunk, SMPL joint k of 3 the stretch [k/3, (k+1)/3]. With n = 3 it is one to one.
    """
    n = len(chain) - 1
    result = []
    for k in range(1, 4):
        place = k * n / 3.0
        below = min(int(place + 1e-9), n)
        share = place - below
        result.append(_between(chain[below], chain[below + 1], share) if share > 1e-6 else chain[below])
    return result


# ---- frames from the pose of zero rotations -------------------------------------------------------------------------


def _body_of_zero(source: _Source) -> FloatArray | None:
    """The turn (3, 3) from SMPL's zero pose to the pose of zero rotations, or None when that is no T- or A-pose."""
    body = _body(source.zero, source.joints)
    if body is None:
        return None
    snapped = _snap(body, 15.0)
    turn = body if snapped is None else snapped
    limits = {"hip": 60.0, "knee": 60.0, "shoulder": 100.0, "elbow": 100.0}
    for name, (role, end) in _LIMBS.items():
        if name[1:] in limits:
            bone = source.zero[source.joints[end]] - source.zero[source.joints[role]]
            if not _degrees(turn @ _direction(name), bone) < limits[name[1:]]:
                return None
    return turn


def _body(positions: FloatArray, joints: dict[str, int]) -> FloatArray | None:
    """Axes (columns left, up, forward) of a standing body (J, 3), or None when it does not stand."""
    hips = (positions[joints["lhip"]] + positions[joints["rhip"]]) / 2
    across = [positions[joints["l" + part]] - positions[joints["r" + part]] for part in ("hip", "shoulder")]
    up = positions[joints["head"]] - hips
    if not (_degrees(across[0], across[1]) < 45.0 and 45.0 < _degrees(across[0] + across[1], up) < 135.0):
        return None
    return _axes(across[0] + across[1], up)


def _from_zero(source: _Source, body: FloatArray) -> dict[str, FloatArray]:
    """SMPL joint (and ``spine0`` ...) -> (T, 3, 3) global rotation, with the zero pose as the rest pose."""
    result = {f"spine{i}": source.turned[:, joint] @ body for i, joint in enumerate(source.spine)}
    for name in ("root", "neck", "head"):
        if name in source.joints:
            result[name] = source.rotation(name) @ body
    for name, (role, end) in _LIMBS.items():
        if role not in source.joints:
            continue
        frame = body
        if end in source.joints:
            bone = source.zero[source.joints[end]] - source.zero[source.joints[role]]
            frame = _smallest_turn(body @ _direction(name), bone) @ body
        result[name] = source.rotation(role) @ frame
    return result


# ---- frames from the motion -----------------------------------------------------------------------------------------


def _from_motion(source: _Source) -> dict[str, FloatArray]:
    """As `_from_zero` for rigs whose zero rotations are no pose: frames are means over the motion."""
    across = {part: source.at("l" + part) - source.at("r" + part) for part in ("hip", "shoulder")}
    hips = (source.at("lhip") + source.at("rhip")) / 2
    above = source.at("neck" if "neck" in source.joints else "head")
    root = _fit(source.rotation("root"), _axes(across["hip"], source.positions[:, _lowest(source)] - hips))
    chest = _fit(source.rotation("chest"), _axes(across["shoulder"], above - source.at("chest")))
    result = {"root": root, "chest": chest}
    n = len(source.spine)
    for i, joint in enumerate(source.spine):
        result[f"spine{i}"] = _fit(source.turned[:, joint], _between(root, chest, (i + 1) / n), snap=True)
    result[f"spine{n - 1}" if n else "chest"] = chest
    for name in ("neck", "head"):
        if name in source.joints:
            result[name] = _fit(source.rotation(name), chest, snap=True)
    for side in "lr":
        if side + "inshoulder" in source.joints:
            result[side + "inshoulder"] = _fit(source.rotation(side + "inshoulder"), chest, snap=True)
        result |= _hinged(source, side, ("hip", "knee"), ("knee", "ankle"), root, np.array([1.0, 0.0, 0.0]))
        bend = np.array([0.0, -1.0 if side == "l" else 1.0, 0.0])
        result |= _hinged(source, side, ("shoulder", "elbow"), ("elbow", "wrist"), chest, bend)
        result |= _foot(source, side, result[side + "knee"]) | _hand(source, side, result[side + "elbow"])
    return result


def _lowest(source: _Source) -> int:
    """The lowest joint of the trunk that is not in the middle of the hips."""
    hips = (source.at("lhip") + source.at("rhip")) / 2
    leg = np.linalg.norm(source.at("lhip") - source.at("lknee"), axis=-1).max()
    trunk = [*source.spine, source.joints["head"]]
    return next((j for j in trunk if np.linalg.norm(source.positions[0, j] - hips[0]) > 0.1 * leg), trunk[-1])


def _hinged(
    source: _Source, side: str, upper: tuple[str, str], lower: tuple[str, str], base: FloatArray, axis: FloatArray
) -> dict[str, FloatArray]:
    """Upper and lower bone of an arm or leg. `axis` is the hinge of their joint in SMPL's zero pose.

    The hinge is where the joint bends, frames with much bend counting more; where it is straight, the hinge of `base`.
    """
    bones = [_unit(source.at(side + end) - source.at(side + start)) for start, end in (upper, lower)]
    result = {}
    for (start, _), bone in zip((upper, lower), bones, strict=True):
        hinge = np.cross(bones[0], bones[1]) + 0.05 * (base @ axis)
        weight = np.linalg.norm(hinge, axis=-1)
        rest = _axes(_direction(side + start), axis)
        result[side + start] = base = _fit(source.rotation(side + start), _axes(bone, hinge) @ rest.T, weight)
    return result


def _foot(source: _Source, side: str, shin: FloatArray) -> dict[str, FloatArray]:
    """Foot and toes: the bone from ankle to toes along SMPL's, not rolled against the shin on average."""
    foot = source.rotation(side + "ankle")
    if side + "toes" not in source.joints:
        return {side + "ankle": _fit(foot, shin)}
    left = np.array([1.0, 0.0, 0.0])
    world = _axes(source.at(side + "toes") - source.at(side + "ankle"), shin @ left)
    foot = _fit(foot, world @ _axes(_direction(side + "ankle"), left).T)
    return {side + "ankle": foot, side + "toes": _fit(source.rotation(side + "toes"), foot, snap=True)}


def _hand(source: _Source, side: str, forearm: FloatArray) -> dict[str, FloatArray]:
    """The hand: the middle finger ahead, the forefinger in front of the little one; else as the forearm on average."""
    hand = source.rotation(side + "wrist")
    if side + "hand" not in source.joints:
        return {side + "wrist": _fit(hand, forearm)}
    ahead = source.at(side + "hand") - source.at(side + "wrist")
    front = forearm @ np.array([0.0, 0.0, 1.0])
    if side + "index" in source.joints and side + "pinky" in source.joints:
        front = source.at(side + "index") - source.at(side + "pinky")
    rest = _axes(_direction(side + "wrist"), np.array([0.0, 0.0, 1.0]))
    return {side + "wrist": _fit(hand, _axes(ahead, front) @ rest.T)}


def _fit(source: FloatArray, target: FloatArray, weight: FloatArray | None = None, *, snap: bool = False) -> FloatArray:
    """``source @ F`` (T, 3, 3) with the constant rotation F that brings it nearest to `target` (T, 3, 3).

    F is the weighted mean of ``source^T target``; with `snap` laid along the axes when it is within 30 degrees of that.
    """
    share = np.ones(len(source)) if weight is None else weight
    mean = np.einsum("t,tji,tjk->ik", share, source, target)
    frame = _nearest_rotation(mean)
    snapped = _snap(frame, 30.0) if snap else None
    return source @ (frame if snapped is None else snapped)


# ---- small geometry -------------------------------------------------------------------------------------------------


def _direction(name: str) -> FloatArray:
    """Direction (3,) of SMPL's bone that starts at the joint `name`, in the zero pose."""
    return _unit(SMPL_OFFSETS_M[SMPL_PARENTS.index(_INDEX[name])])


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _TINY))


def _axes(first: FloatArray, second: FloatArray) -> FloatArray:
    """(..., 3, 3) right-handed orthonormal columns: along `first`, `second` made square to it, and their product."""
    x = _unit(first)
    y = _unit(second - np.sum(x * second, axis=-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _angles(matrices: FloatArray) -> FloatArray:
    """Angles in degrees of rotation matrices (..., 3, 3)."""
    return np.asarray(np.degrees(np.linalg.norm(matrix_to_axis_angle(matrices), axis=-1)))


def _degrees(first: FloatArray, second: FloatArray) -> float:
    """Angle between two vectors; NaN when one has no length."""
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.degrees(np.arccos(np.clip(first @ second / size, -1, 1)))) if size > _TINY else float("nan")


def _smallest_turn(start: FloatArray, end: FloatArray) -> FloatArray:
    """(3, 3) the smallest rotation from one direction to another; none when a vector has no length."""
    a, b = _unit(start), _unit(end)
    axis = np.cross(a, b)
    sine = float(np.linalg.norm(axis))
    if sine < _TINY:
        return np.eye(3)
    return axis_angle_to_matrix(axis / sine * np.arctan2(sine, float(a @ b)))


def _between(start: FloatArray, end: FloatArray, share: float) -> FloatArray:
    """(T, 3, 3) the rotation a share of the way from `start` to `end`."""
    local = matrix_to_axis_angle(np.swapaxes(start, -1, -2) @ end)
    return np.asarray(start @ axis_angle_to_matrix(share * local))


def _nearest_rotation(matrix: FloatArray) -> FloatArray:
    u, _, vt = np.linalg.svd(matrix)
    return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)


def _snap(matrix: FloatArray, degrees: float) -> FloatArray | None:
    """The rotation along the coordinate axes nearest to `matrix`, or None when it is further away than `degrees`."""
    choices = product(permutations(range(3)), product((1.0, -1.0), repeat=3))
    signed: list[FloatArray] = [np.eye(3)[list(order)] * np.array(signs) for order, signs in choices]
    best = max((m for m in signed if np.linalg.det(m) > 0), key=lambda m: float(np.trace(m.T @ matrix)))
    return best if _angles(best.T @ matrix) < degrees else None
