"""Retargeting to SMPL-24: exact on SMPL's own skeleton, the same motion from other rigs, bounds on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from macebench.errors import MediaError
from macebench.motion.bvh import Bvh, parse_bvh, read_bvh
from macebench.motion.joint_names import match_joints, split_name
from macebench.motion.retarget import TOE_HEIGHT_M, broken, jumps, rest_frames, retarget, turn_degrees
from macebench.skeleton import SMPL_JOINTS, SMPL_OFFSETS_M, SMPL_PARENTS, forward_kinematics
from macebench.types import Motion

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "motion"
LIMBS = [(side + a, side + b) for side in "lr" for a, b in
         (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))]  # fmt: skip
INDEX = {name: index for index, name in enumerate(SMPL_JOINTS)}
MIXAMO = (
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine2",
    "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm",
    "LeftForeArm", "RightForeArm", "LeftHand", "RightHand", "LeftHandMiddle1", "RightHandMiddle1",
)  # fmt: skip


def dance(frames: int = 60, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Smooth local rotations (T, 24, 3) and a root path (T, 3); knees and elbows bend the way they do."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 2 * np.pi, frames)[:, None, None]
    rotations = 0.35 * np.sin(time + rng.uniform(0, 6, (1, 24, 3))) * rng.uniform(0.3, 1, (1, 24, 3))
    bend = 0.8 + 0.5 * np.sin(time[:, 0] + rng.uniform(0, 6, (1, 4)))
    rotations[:, [4, 5, 18, 19]] = 0.0
    rotations[:, [4, 5], 0] = bend[:, :2]
    rotations[:, 18, 1], rotations[:, 19, 1] = -bend[:, 2], bend[:, 3]
    rotations[:, [22, 23]] = 0.0
    path = np.stack([0.4 * np.sin(time[:, 0, 0]), 1.0 + 0.05 * np.sin(2 * time[:, 0, 0]), 0.3 * time[:, 0, 0]], axis=1)
    return rotations, path


def as_bvh(rotations, root, *, offsets=SMPL_OFFSETS_M, names=SMPL_JOINTS, order="ZXY", unit=1.0, fps=60.0) -> Bvh:
    """The motion written as text and parsed again, on a skeleton with SMPL's hierarchy. `rotations` are matrices."""
    children = {j: [c for c, parent in enumerate(SMPL_PARENTS) if parent == j] for j in range(24)}
    order_of_file: list[int] = []
    lines = ["HIERARCHY"]

    def write(joint: int) -> None:
        order_of_file.append(joint)
        lines.extend([f"{'JOINT' if joint else 'ROOT'} {names[joint]}", "{"])
        lines.append("OFFSET " + " ".join(repr(float(v)) for v in offsets[joint] / unit))
        turns = " ".join(f"{axis}rotation" for axis in order)
        lines.append(f"CHANNELS 3 {turns}" if joint else f"CHANNELS 6 Xposition Yposition Zposition {turns}")
        for child in children[joint]:
            write(child)
        lines.append("}")

    write(0)
    lines += ["MOTION", f"Frames: {len(root)}", f"Frame Time: {1 / fps!r}"]
    flat = Rotation.from_matrix(np.asarray(rotations)[:, order_of_file].reshape(-1, 3, 3))
    angles = flat.as_euler(order, degrees=True).reshape(len(root), -1)
    lines += [" ".join(repr(float(v)) for v in row) for row in np.concatenate([root / unit, angles], axis=1)]
    return parse_bvh("\n".join(lines).encode())


def matrices(rotations) -> np.ndarray:
    return Rotation.from_rotvec(np.array(rotations).reshape(-1, 3)).as_matrix().reshape(*np.shape(rotations), 3)


def grounded(joints: np.ndarray) -> np.ndarray:
    """The joints with the floor where `retarget` puts it."""
    floor = np.percentile(joints[:, [10, 11], 1].min(axis=1), 5.0) - TOE_HEIGHT_M
    return joints - [0, floor, 0]


def bone_errors(bvh: Bvh, motion: Motion) -> dict[str, float]:
    """Mean angle in degrees between each limb bone of the source and of the result."""
    joints = match_joints(bvh.names, bvh.parents)
    positions = bvh.positions()[len(bvh) - len(motion) :]
    result = {}
    for start, end in LIMBS:
        a = positions[:, joints[end]] - positions[:, joints[start]]
        b = motion.joints[:, INDEX[end]] - motion.joints[:, INDEX[start]]
        cosine = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        result[start] = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())
    return result


@pytest.mark.parametrize(("names", "unit"), [(SMPL_JOINTS, 1.0), (SMPL_JOINTS, 0.0254), (MIXAMO, 0.01)])
def test_smpls_own_skeleton_comes_back_unchanged(names, unit):
    rotations, root = dance()
    motion = retarget(as_bvh(matrices(rotations), root, names=names, unit=unit))
    assert motion.fps == 60.0
    np.testing.assert_allclose(motion.joints, grounded(forward_kinematics(rotations, root)), atol=1e-6)
    np.testing.assert_allclose(matrices(motion.rotations), matrices(rotations), atol=1e-6)


def test_joints_are_the_forward_kinematics_of_rotations_and_root():
    motion = retarget(as_bvh(matrices(dance()[0]), dance()[1]))
    np.testing.assert_allclose(forward_kinematics(motion.rotations, motion.root), motion.joints, atol=1e-12)


@pytest.mark.parametrize("degrees", [30.0, 90.0, 180.0])
def test_a_turned_and_moved_source_gives_a_turned_and_moved_result(degrees):
    rotations, root = dance()
    turn = Rotation.from_euler("Y", degrees, degrees=True).as_matrix()
    turned = matrices(rotations)
    turned[:, 0] = turn @ turned[:, 0]
    first = retarget(as_bvh(matrices(rotations), root))
    second = retarget(as_bvh(turned, root @ turn.T + [3.0, 0.7, -2.0]))
    np.testing.assert_allclose(second.joints, first.joints @ turn.T + [3.0, 0.0, -2.0], atol=1e-6)


def test_a_z_up_file_is_turned():
    rotations, root = dance()
    lie = Rotation.from_euler("X", 90, degrees=True).as_matrix()
    local = matrices(rotations)
    local[:, 0] = lie @ local[:, 0]
    motion = retarget(as_bvh(local, root @ lie.T))
    np.testing.assert_allclose(motion.joints, retarget(as_bvh(matrices(rotations), root)).joints, atol=1e-6)


def rebased(rotations: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local matrices and offsets of a rig whose joints are turned by `frames` (24, 3, 3) against SMPL's."""
    parents = [0, *SMPL_PARENTS[1:]]
    above = frames[parents]
    above[0] = np.eye(3)
    local = above @ matrices(rotations) @ np.swapaxes(frames, -1, -2)
    return local, np.einsum("jab,jb->ja", above, SMPL_OFFSETS_M)


@pytest.mark.parametrize("facing", [90.0, 180.0])
def test_a_rest_pose_that_faces_elsewhere(facing):
    rotations, root = dance()
    frames = np.repeat(Rotation.from_euler("Y", facing, degrees=True).as_matrix()[None], 24, axis=0)
    local, offsets = rebased(rotations, frames)
    motion = retarget(as_bvh(local, root, offsets=offsets))
    np.testing.assert_allclose(motion.joints, grounded(forward_kinematics(rotations, root)), atol=1e-6)


def test_an_a_pose_gives_the_same_motion():
    rotations, root = dance()
    frames = np.repeat(np.eye(3)[None], 24, axis=0)
    for side, sign in (("l", -1), ("r", 1)):
        down = Rotation.from_euler("Z", 45 * sign, degrees=True).as_matrix()
        for joint in ("shoulder", "elbow", "wrist", "hand"):
            frames[INDEX[side + joint]] = down
    local, offsets = rebased(rotations, frames)
    bvh = as_bvh(local, root, offsets=offsets)
    motion = retarget(bvh)
    assert max(bone_errors(bvh, motion).values()) < 1e-4
    # joints agree; twists of the arms only as far as the bone does not point along the axis of the turn
    np.testing.assert_allclose(motion.joints, grounded(forward_kinematics(rotations, root)), atol=0.01)


def test_a_rig_whose_zero_rotations_are_no_pose():
    rotations, root = dance(240)
    quarter = Rotation.from_euler("Z", 90, degrees=True).as_matrix()
    frames = np.repeat(quarter[None], 24, axis=0)
    along_x = {"lhip": (0, 0, 90), "lknee": (0, 0, 90), "rhip": (0, 0, 90), "rknee": (0, 0, 90)}
    for name, turn in along_x.items():
        frames[INDEX[name]] = Rotation.from_euler("XYZ", turn, degrees=True).as_matrix()
    for side, sign in (("l", 0), ("r", 180)):
        for joint in ("shoulder", "elbow", "wrist"):
            frames[INDEX[side + joint]] = Rotation.from_euler("XZ", (40, sign), degrees=True).as_matrix()
    frames[0] = np.eye(3)
    local, offsets = rebased(rotations, frames)
    bvh = as_bvh(local, root, offsets=offsets)
    motion = retarget(bvh)
    assert max(bone_errors(bvh, motion).values()) < 1e-4
    off = Rotation.from_matrix(
        (matrices(motion.rotations).swapaxes(-1, -2) @ matrices(rotations)).reshape(-1, 3, 3)
    ).magnitude()
    mean = np.degrees(off.reshape(-1, 24).mean(axis=0))
    assert mean.max() < 25.0
    assert mean[[INDEX[n] for n in ("lknee", "rknee", "lelbow", "relbow")]].max() < 10.0
    wanted = grounded(forward_kinematics(rotations, root))
    assert np.linalg.norm(motion.joints - wanted, axis=-1).mean() < 0.05


def test_scale_follows_the_legs_and_can_be_given():
    rotations, root = dance()
    large = as_bvh(matrices(rotations), root, offsets=2 * SMPL_OFFSETS_M)
    steps = np.diff(retarget(large).root, axis=0)
    np.testing.assert_allclose(
        np.diff(retarget(large, scale=0.25).root, axis=0) * [2, 0, 2],
        np.diff(retarget(large, scale=0.5).root, axis=0) * [1, 0, 1],
        atol=0.02,
    )
    np.testing.assert_allclose(np.diff(retarget(large, scale=0.5).root, axis=0), steps, atol=1e-9)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="scale"):
            retarget(large, scale=wrong)


def test_other_spines_keep_the_whole_bend():
    """A source with one joint in its spine: the chest turns as the source's, belly and spine share it."""
    turns = "Zrotation Xrotation Yrotation"
    lines = ["HIERARCHY", "ROOT Hips", "{", "OFFSET 0 0 0", f"CHANNELS 6 Xposition Yposition Zposition {turns}"]

    def joint(name: str, offset: str, *inside: str) -> list[str]:
        return [f"JOINT {name}", "{", f"OFFSET {offset}", f"CHANNELS 3 {turns}", *inside, "}"]

    for side, s in (("Left", 1), ("Right", -1)):
        foot = joint(f"{side}Foot", "0 -40 0", "End Site", "{", "OFFSET 0 -5 12", "}")
        lines += joint(f"{side}UpLeg", f"{9 * s} -5 0", *joint(f"{side}Leg", "0 -40 0", *foot))
    arms = []
    for side, s in (("Left", 1), ("Right", -1)):
        lower = joint(f"{side}ForeArm", f"{27 * s} 0 0", *joint(f"{side}Hand", f"{25 * s} 0 0"))
        arms += joint(f"{side}Arm", f"{16 * s} 40 0", *lower)
    lines += [*joint("Spine", "0 10 0", *arms, *joint("Head", "0 55 0")), "}"]
    columns = 3 * (1 + sum(line.startswith("CHANNELS") for line in lines))
    bvh = parse_bvh("\n".join([*lines, "MOTION", "Frames: 1", "Frame Time: 0.01", "0 " * columns]).encode())
    spine = 1 + 2 * 3  # joints before it
    values = bvh.values.copy()
    values[0, 3 + 3 * spine + 1] = 60.0
    bent = retarget(Bvh(bvh.names, bvh.parents, bvh.offsets, bvh.channels, bvh.end_sites, 0.01, values))
    angles = np.degrees(bent.rotations[0, [INDEX["belly"], INDEX["spine"], INDEX["chest"]], 0])
    np.testing.assert_allclose(angles, [20, 20, 20], atol=1e-6)
    np.testing.assert_allclose(bent.rotations[0, [INDEX["neck"], INDEX["head"]]], 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mixamorig:LeftUpLeg", ("l", "upleg")), ("mixamorig1:RightHand", ("r", "hand")), ("LeftUpLeg", ("l", "upleg")),
        ("lThigh", ("l", "thigh")), ("rShldr", ("r", "shldr")), ("L_Hip", ("l", "hip")), ("thigh_r", ("r", "thigh")),
        ("Bip01 L UpperArm", ("l", "upperarm")), ("Bip001 Head", ("", "head")), ("rinshoulder", ("r", "inshoulder")),
        ("leftarm", ("l", "arm")), ("LHipJoint", ("l", "hipjoint")), ("Character1_LeftFoot", ("l", "foot")),
        ("root", ("", "root")), ("LowerBack", ("", "lowerback")), ("", ("", "")), ("::", ("", "")),
    ],
)  # fmt: skip
def test_names_are_taken_apart(name, wanted):
    assert split_name(name) == wanted


CGSPEED = {
    "Hips": "", "LHipJoint": "Hips", "LeftUpLeg": "LHipJoint", "LeftLeg": "LeftUpLeg", "LeftFoot": "LeftLeg",
    "LeftToeBase": "LeftFoot", "RHipJoint": "Hips", "RightUpLeg": "RHipJoint", "RightLeg": "RightUpLeg",
    "RightFoot": "RightLeg", "RightToeBase": "RightFoot", "LowerBack": "Hips", "Spine": "LowerBack",
    "Spine1": "Spine", "Neck": "Spine1", "Neck1": "Neck", "Head": "Neck1", "LeftShoulder": "Spine1",
    "LeftArm": "LeftShoulder", "LeftForeArm": "LeftArm", "LeftHand": "LeftForeArm", "LeftFingerBase": "LeftHand",
    "LeftHandIndex1": "LeftFingerBase", "LThumb": "LeftHand", "RightShoulder": "Spine1", "RightArm": "RightShoulder",
    "RightForeArm": "RightArm", "RightHand": "RightForeArm", "RightFingerBase": "RightHand",
    "RightHandIndex1": "RightFingerBase", "RThumb": "RightHand",
}  # fmt: skip
OLD = {
    "Hips": "", "Chest": "Hips", "Neck": "Chest", "Head": "Neck", "LeftCollar": "Chest", "LeftShoulder": "LeftCollar",
    "LeftElbow": "LeftShoulder", "LeftWrist": "LeftElbow", "RightCollar": "Chest", "RightShoulder": "RightCollar",
    "RightElbow": "RightShoulder", "RightWrist": "RightElbow", "LeftHip": "Hips", "LeftKnee": "LeftHip",
    "LeftAnkle": "LeftKnee", "RightHip": "Hips", "RightKnee": "RightHip", "RightAnkle": "RightKnee",
}  # fmt: skip


def matched(tree: dict[str, str]) -> dict[str, str]:
    names = list(tree)
    found = match_joints(names, [names.index(parent) if parent else -1 for parent in tree.values()])
    return {role: names[index] for role, index in found.items()}


def test_cgspeed_names():
    found = matched(CGSPEED)
    wanted = {
        "root": "Hips", "chest": "Spine1", "neck": "Neck1", "head": "Head", "lhip": "LeftUpLeg", "lknee": "LeftLeg",
        "lankle": "LeftFoot", "ltoes": "LeftToeBase", "linshoulder": "LeftShoulder", "lshoulder": "LeftArm",
        "lelbow": "LeftForeArm", "lwrist": "LeftHand", "lhand": "LeftFingerBase", "rhip": "RightUpLeg",
        "rshoulder": "RightArm", "rinshoulder": "RightShoulder",
    }  # fmt: skip
    assert {role: found[role] for role in wanted} == wanted


def test_plain_names_where_shoulder_means_the_arm():
    found = matched(OLD)
    assert (found["lshoulder"], found["linshoulder"], found["rhip"]) == ("LeftShoulder", "LeftCollar", "RightHip")
    assert "ltoes" not in found


def test_unusual_names_are_found_by_what_they_contain():
    odd = {name.replace("Knee", "KneeJnt1").replace("Elbow", "ElbowCtrl"): parent for name, parent in OLD.items()}
    odd = {k: v.replace("Knee", "KneeJnt1").replace("Elbow", "ElbowCtrl") for k, v in odd.items()}
    assert matched(odd)["lknee"] == "LeftKneeJnt1"
    assert matched(odd)["relbow"] == "RightElbowCtrl"


def test_an_unknown_skeleton_names_what_was_not_found():
    tree = {name: parent for name, parent in OLD.items() if name not in {"LeftKnee", "LeftAnkle", "Head"}}
    with pytest.raises(MediaError) as caught:
        matched(tree)
    assert caught.value.reason == "unknown skeleton"
    assert "not found: lankle, lknee, head" in caught.value.detail
    assert "RightAnkle" in caught.value.detail


def test_limbs_that_do_not_hang_together_are_refused():
    with pytest.raises(MediaError, match="is not below") as caught:
        matched({**OLD, "LeftAnkle": "Hips"})
    assert caught.value.reason == "unknown skeleton"
    for below in ({"RightHip": "LeftHip"}, {"Head": "LeftShoulder"}, {"LeftCollar": "RightElbow"}):
        with pytest.raises(MediaError, match="does not grow from the trunk"):
            matched({**OLD, **below})


def test_legs_without_length_are_refused():
    offsets = SMPL_OFFSETS_M.copy()
    offsets[[4, 5, 7, 8]] = 0.0
    with pytest.raises(MediaError, match="no length"):
        retarget(as_bvh(matrices(dance()[0]), dance()[1], offsets=offsets))


def with_rest(ease: int) -> Bvh:
    """A take after a T-pose, with a way out of the pose of `ease` frames."""
    rotations, root = dance(200)
    share = np.concatenate([[0.0], 1 - 0.5 ** np.arange(1, ease + 1), np.ones(len(root) - 1 - ease)])
    rotations = rotations.copy()
    rotations[:, 16:18] += [0.0, 0.0, 1.2]
    rotations[:, 1:] *= share[:, None, None]
    rotations[0] = 0.0
    return as_bvh(matrices(rotations), root)


@pytest.mark.parametrize("ease", [0, 3])
def test_a_rest_pose_before_the_take_is_dropped(ease):
    bvh = with_rest(ease)
    assert rest_frames(bvh) == 1 + ease
    assert len(retarget(bvh)) == 200 - 1 - ease
    assert len(retarget(bvh, drop_first=False)) == 200
    assert len(retarget(bvh, drop_first=True)) == 199
    assert len(retarget(bvh, drop_first=7)) == 193


def test_a_take_without_a_rest_pose_keeps_frame_0():
    rotations, root = dance()
    assert rest_frames(as_bvh(matrices(rotations), root)) == 0
    still = as_bvh(np.tile(np.eye(3), (40, 24, 1, 1)), np.zeros((40, 3)))
    assert rest_frames(still) == 0
    assert len(retarget(still)) == 40


def test_nothing_left_is_an_error():
    bvh = as_bvh(np.tile(np.eye(3), (1, 24, 1, 1)), np.zeros((1, 3)))
    assert len(retarget(bvh)) == 1
    with pytest.raises(MediaError) as caught:
        retarget(bvh, drop_first=True)
    assert caught.value.reason == "truncated file"
    with pytest.raises(ValueError, match="drop_first"):
        retarget(bvh, drop_first=-1)


def test_jumps_and_broken_frames_are_found():
    rotations, root = dance()
    rotations = rotations.copy()
    rotations[20, INDEX["lelbow"]] += [2.0, 0.0, 0.0]
    rotations[40, INDEX["rankle"]] = [0.0, 2.5, 0.0]
    motion = retarget(as_bvh(matrices(rotations), root))
    assert turn_degrees(motion).shape == (59, 24)
    assert np.flatnonzero(jumps(motion)).tolist() == [20, 21, 40, 41]
    assert np.flatnonzero(broken(motion)).tolist() == [40]
    assert not jumps(motion, degrees=179.0).any()
    assert jumps(motion.replace(joints=motion.joints[:1], rotations=motion.rotations[:1], root=None)).tolist() == [
        False
    ]
    for check in (jumps, broken):
        with pytest.raises(ValueError, match="no rotations"):
            check(motion.replace(rotations=None))


REAL = ["cmu_subject05_dance/05_02", "cmu_subject05_dance/05_05", "cmu_other/02_01", "animated_drawings/jesse_dance"]


def real(name: str) -> Bvh:
    path = SHARED / f"{name}.bvh"
    if not path.is_file():
        pytest.skip("the shared data is not beside the checkout")
    return read_bvh(path)


@pytest.mark.parametrize("name", REAL)
def test_real_files_keep_directions_feet_and_sides(name):
    bvh = real(name)
    motion = retarget(bvh)
    joints = match_joints(bvh.names, bvh.parents)
    positions = bvh.positions()[len(bvh) - len(motion) :]
    assert max(bone_errors(bvh, motion).values()) < 0.01
    assert np.isfinite(motion.joints).all()
    np.testing.assert_allclose(forward_kinematics(motion.rotations, motion.root), motion.joints, atol=1e-9)
    lowest = motion.joints[:, [10, 11], 1].min(axis=1)
    assert np.percentile(lowest, 5) == pytest.approx(TOE_HEIGHT_M)
    assert (lowest < -0.05).mean() < 0.02
    across = positions[:, joints["lhip"]] - positions[:, joints["rhip"]]
    here = motion.joints[:, INDEX["lhip"]] - motion.joints[:, INDEX["rhip"]]
    cosine = np.sum(across * here, axis=1) / np.linalg.norm(across, axis=1) / np.linalg.norm(here, axis=1)
    assert np.degrees(np.arccos(cosine)).mean() < 5.0  # SMPL's own hips are 4.4 degrees off the level
    assert 0.7 < np.median(motion.joints[:, INDEX["root"], 1]) < 1.2


@pytest.mark.parametrize("name", ["cmu_subject05_dance/05_02", "cmu_other/02_01", "cmu_other/07_02"])
def test_feet_slide_no_more_than_in_the_source(name):
    bvh = real(name)
    motion = retarget(bvh)
    joints = match_joints(bvh.names, bvh.parents)
    positions = bvh.positions()[len(bvh) - len(motion) :]
    leg = np.linalg.norm(positions[0, joints["lhip"]] - positions[0, joints["lknee"]])
    scale = np.linalg.norm(motion.joints[0, 1] - motion.joints[0, 4]) / leg
    before, after = [], []
    for ankle in ("lankle", "rankle"):
        source, result = scale * positions[:, joints[ankle]], motion.joints[:, INDEX[ankle]]
        speeds = [np.linalg.norm(np.diff(p[:, [0, 2]], axis=0), axis=1) * motion.fps for p in (source, result)]
        contact = (source[1:, 1] < np.percentile(source[:, 1], 5) + 0.05) & (speeds[0] < 0.3)
        before.append(speeds[0][contact])
        after.append(speeds[1][contact])
    assert np.concatenate(after).mean() < 1.25 * np.concatenate(before).mean()


def test_the_rest_pose_of_cmu_files_is_dropped():
    bvh = real("cmu_subject05_dance/05_15")
    assert 4 <= rest_frames(bvh) <= 6
    kept = retarget(bvh)
    assert turn_degrees(kept)[:10].max() < 15.0
    assert turn_degrees(retarget(bvh, drop_first=False))[0].max() > 90.0


def test_dirty_takes_are_converted_and_reported():
    motion = retarget(real("cmu_subject05_dance/05_05"))
    assert 0.005 < jumps(motion).mean() < 0.2
    assert broken(motion).mean() > 0.3
    clean = retarget(real("cmu_subject05_dance/05_02"))
    assert not jumps(clean).any()
    assert not broken(clean).any()
