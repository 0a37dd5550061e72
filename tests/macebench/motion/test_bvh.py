"""BVH: values against scipy's rotations, tolerant reading, hostile files."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from macebench.errors import MediaError
from macebench.motion.bvh import MAX_JOINTS, parse_bvh, read_bvh

SHARED = Path(__file__).resolve().parents[3].parent / "shared"

ARM = """HIERARCHY
ROOT hip
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT arm
  {
    OFFSET 1 2 3
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 4 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
1 2 3 0 0 0 0 0 0
1 2 3 90 0 0 0 90 0
"""


def parse(text: str):
    return parse_bvh(text.encode())


def reason(text: str | bytes) -> MediaError:
    with pytest.raises(MediaError) as caught:
        parse_bvh(text if isinstance(text, bytes) else text.encode())
    return caught.value


def test_hierarchy_values_and_positions():
    bvh = parse(ARM)
    assert bvh.names == ("hip", "arm")
    assert bvh.parents == (-1, 0)
    assert bvh.channels[1] == ("Zrotation", "Xrotation", "Yrotation")
    assert bvh.offsets.tolist() == [[0, 0, 0], [1, 2, 3]]
    assert bvh.end_sites[1].tolist() == [0, 4, 0]
    assert bvh.values.shape == (2, 9)
    assert len(bvh) == 2
    assert bvh.fps == 30.0
    assert bvh.root.tolist() == [[1, 2, 3], [1, 2, 3]]
    # a quarter turn about z takes (1, 2, 3) to (-2, 1, 3)
    np.testing.assert_allclose(bvh.positions()[:, 1], [[2, 4, 6], [-1, 3, 6]], atol=1e-12)


@pytest.mark.parametrize(
    ("time", "fps"), [("0.00833333", 120.0), ("0.01", 100.0), ("0.04", 25.0), ("0.034", 1 / 0.034)]
)
def test_frame_rates_are_whole_when_the_file_means_it(time, fps):
    assert parse(ARM.replace("0.0333333", time)).fps == pytest.approx(fps, abs=1e-12)


@pytest.mark.parametrize("order", ["".join(letters) for letters in itertools.permutations("XYZ")])
def test_rotation_orders_agree_with_scipy(order):
    channels = " ".join(f"{letter}rotation" for letter in order)
    angles = np.random.default_rng(7).uniform(-180, 180, (5, 6)).round(4)
    lines = ["1 2 3 " + " ".join(str(v) for v in row) for row in angles]
    text = ARM.replace("Zrotation Xrotation Yrotation", channels).split("MOTION")[0]
    bvh = parse(text + "MOTION\nFrames: 5\nFrame Time: 0.01\n" + "\n".join(lines))
    for joint in (0, 1):
        wanted = Rotation.from_euler(order, angles[:, 3 * joint : 3 * joint + 3], degrees=True).as_matrix()
        np.testing.assert_allclose(bvh.rotations[:, joint], wanted, atol=1e-12)
    np.testing.assert_allclose(bvh.global_rotations[:, 1], bvh.rotations[:, 0] @ bvh.rotations[:, 1], atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("  ", "\t").replace(" ", "\t"),
        str.lower,
        str.upper,
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n{", " {"),
        lambda text: text + "\n \n\n",
        lambda text: text.replace("1 2 3 90 0 0 0 90 0", "1e0 2.0E+0 3 9.0e1 0 -0 .0 +90. 0"),
        lambda text: re.sub(r"End Site\s*{[^}]*}", "", text),
        lambda text: text.replace("Frames: 2", "Frames:\t2 ").replace("Frame Time: ", "Frame Time:\t"),
    ],
    ids=["crlf", "tabs", "lower", "upper", "bom", "brace", "blank lines", "notation", "no end site", "tab labels"],
)
def test_writing_does_not_matter(change):
    bvh = parse(change(ARM))
    assert [name.lower() for name in bvh.names] == ["hip", "arm"]
    np.testing.assert_array_equal(bvh.positions(), parse(ARM).positions())


def test_names_with_blanks_and_joints_without_channels():
    text = ARM.replace("JOINT arm", "JOINT Bip01 L Arm").replace("    CHANNELS 3 Zrotation Xrotation Yrotation\n", "")
    bvh = parse(re.sub(r"^(1 2 3 \S+ \S+ \S+) .*$", r"\1", text, flags=re.M))
    assert bvh.names[1] == "Bip01 L Arm"
    assert bvh.channels[1] == ()
    np.testing.assert_array_equal(bvh.rotations[:, 1], np.tile(np.eye(3), (2, 1, 1)))


def six_channels(values: str) -> str:
    text = ARM.replace(
        "CHANNELS 3 Zrotation", "CHANNELS 6 Xposition Yposition Zposition Zrotation"
    ).replace("0.0333333", "0.01")  # fmt: skip
    return re.sub(r"^1 2 3 (0|90) 0 0 ", rf"1 2 3 0 0 0 {values} ", text, flags=re.M)


def test_positions_of_a_joint_replace_its_offset():
    np.testing.assert_allclose(parse(six_channels("1 2 4")).positions()[:, 1], [[2, 4, 7]] * 2)


def test_positions_near_zero_are_added_to_the_offset():
    np.testing.assert_allclose(parse(six_channels("0 0 0.5")).positions()[:, 1], [[2, 4, 6.5]] * 2)


def test_position_of_the_root_replaces_its_offset():
    bvh = parse(ARM.replace("OFFSET 0 0 0\n", "OFFSET 0 94 0\n"))
    np.testing.assert_array_equal(bvh.root, [[1, 2, 3]] * 2)


LAST = "1 2 3 90 0 0 0 90 0"
HOSTILE = {
    "empty": ("", "not a BVH file", "line 1"),
    "binary": (b"\x00\x01HIERARCHY", "not a BVH file", "line 1"),
    "other text": ("hello\nworld", "not a BVH file", "HIERARCHY"),
    "nothing but the word": ("HIERARCHY\n", "truncated file", "MOTION"),
    "no root": ("HIERARCHY\nMOTION\nFrames: 1\nFrame Time: 1\n1", "malformed BVH file", "ROOT"),
    "ends in the hierarchy": (ARM[:150], "truncated file", "MOTION"),
    "ends after MOTION": (ARM.split("Frames", maxsplit=1)[0], "truncated file", "Frames:"),
    "ends after Frames": (ARM.split("Frame Time", maxsplit=1)[0], "truncated file", "Frame Time:"),
    "no values": (ARM.split("1 2 3 0 0", maxsplit=1)[0], "truncated file", "0 frames"),
    "a line missing": (ARM.replace(LAST, ""), "truncated file", "1 frames of the 2"),
    "half a line": (ARM.replace(LAST, "1 2 3 90"), "truncated file", "line 20: 4 values, expected 9"),
    "short line": (ARM.replace("1 2 3 0 0 0 0 0 0", "1 2 3"), "malformed BVH file", "line 19: 3 values, expected 9"),
    "long line": (ARM.replace("1 2 3 0 0 0 0 0 0", "1 " * 10), "malformed BVH file", "line 19: 10 values, expected 9"),
    "both lines long": (ARM.replace("\n1 2 3", "\n0 1 2 3"), "malformed BVH file", "line 19: 10 values, expected 9"),
    "right sum, wrong lines": (
        ARM.replace("1 2 3 0 0 0 0 0 0", "1 2 3 0 0 0 0 0 0 1").replace(LAST, "1 2 3 90 0 0 0 90"),
        "malformed BVH file",
        "line 19",
    ),
    "too many frames": (ARM + LAST, "malformed BVH file", "line 21"),
    "a word among numbers": (ARM.replace("1 2 3 0", "1 x 3 0", 1), "malformed BVH file", "line 19: 'x'"),
    "comma": (ARM.replace("1 2 3 0", "1,5 2 3 0", 1), "malformed BVH file", "'1,5'"),
    "nan": (ARM.replace("1 2 3 0", "nan 2 3 0", 1), "values not finite", "line 19"),
    "inf": (ARM.replace(LAST, "1 2 3 inf 0 0 0 90 0"), "values not finite", "line 20"),
    "overflow": (ARM.replace(LAST, "1 2 3 1e999 0 0 0 90 0"), "values not finite", "line 20"),
    "huge value": (ARM.replace(LAST, "1e300 2 3 0 0 0 0 90 0"), "values out of range", "line 20"),
    "nan offset": (ARM.replace("OFFSET 1 2 3", "OFFSET 1 nan 3"), "values not finite", "line 8"),
    "huge offset": (ARM.replace("OFFSET 1 2 3", "OFFSET 1 1e200 3"), "values out of range", "line 8"),
    "two offsets": (ARM.replace("OFFSET 1 2 3", "OFFSET 1 2"), "malformed BVH file", "three numbers"),
    "no offset": (ARM.replace("    OFFSET 1 2 3\n", ""), "malformed BVH file", "'arm': expected OFFSET"),
    "unknown keyword": (ARM.replace("OFFSET 1 2 3", "SHIFT 1 2 3"), "malformed BVH file", "line 8: 'SHIFT'"),
    "unknown channel": (ARM.replace("Zposition", "Wposition"), "malformed BVH file", "line 5: 'Wposition'"),
    "channel count": (ARM.replace("CHANNELS 3", "CHANNELS 99999999"), "malformed BVH file", "0 to 6 channels"),
    "negative channel count": (ARM.replace("CHANNELS 3", "CHANNELS -3"), "malformed BVH file", "0 to 6 channels"),
    "two roots": (ARM.replace("MOTION", "ROOT b { OFFSET 0 0 0 }\nMOTION"), "malformed BVH file", "one skeleton"),
    "brace missing": (ARM.replace("}\nMOTION", "MOTION"), "truncated file", "'hip'"),
    "brace too many": (ARM.replace("}\nMOTION", "}}\nMOTION"), "malformed BVH file", "MOTION"),
    "zero frames": (ARM.replace("Frames: 2", "Frames: 0"), "malformed BVH file", "line 17"),
    "negative frames": (ARM.replace("Frames: 2", "Frames: -2"), "malformed BVH file", "line 17"),
    "absurd frames": (ARM.replace("Frames: 2", "Frames: 999999999999"), "too long", "999999999999 frames"),
    "frames of many digits": (ARM.replace("Frames: 2", "Frames: " + "9" * 5000), "malformed BVH file", "line 17"),
    "zero frame time": (ARM.replace("0.0333333", "0"), "malformed BVH file", "line 18"),
    "negative frame time": (ARM.replace("0.0333333", "-0.01"), "malformed BVH file", "line 18"),
    "frame time nan": (ARM.replace("0.0333333", "nan"), "malformed BVH file", "line 18"),
    "frame time word": (ARM.replace("0.0333333", "fast"), "malformed BVH file", "'fast'"),
    "no frame time label": (ARM.replace("Frame Time:", "Time:"), "malformed BVH file", "Frame Time:"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_files_are_refused_with_a_reason(name):
    text, wanted, detail = HOSTILE[name]
    error = reason(text)
    assert error.reason == wanted
    assert detail in error.detail
    assert len(error.detail) < 300


def test_deep_nesting_is_refused_without_recursion():
    text = "HIERARCHY\nROOT a\n{ OFFSET 0 0 0\n" + "JOINT b\n{ OFFSET 0 0 0\n" * 10_000 + "}" * 10_001 + "\nMOTION\n"
    error = reason(text)
    assert error.reason == "too long"
    assert str(MAX_JOINTS) in error.detail


def test_deep_nesting_within_the_limit_is_read():
    joints = "JOINT b\n{ OFFSET 0 1 0\n" * (MAX_JOINTS - 1)
    head = "HIERARCHY\nROOT a\n{ OFFSET 0 0 0\nCHANNELS 1 Zrotation\n"
    bvh = parse(head + joints + "}" * MAX_JOINTS + "\nMOTION\nFrames: 1\nFrame Time: 1\n90\n")
    np.testing.assert_allclose(bvh.positions()[0, -1], [-(MAX_JOINTS - 1), 0, 0], atol=1e-6)


@pytest.mark.parametrize("cut", range(5, len(ARM) - 12, 7))
def test_every_cut_file_is_refused(cut):
    assert reason(ARM[:cut]).reason in {"not a BVH file", "truncated file", "malformed BVH file"}


def test_file_is_read_from_disk(tmp_path):
    path = tmp_path / "a.bvh"
    path.write_text(ARM)
    np.testing.assert_array_equal(read_bvh(path).values, parse(ARM).values)
    with pytest.raises(OSError, match="No such file"):
        read_bvh(tmp_path / "absent.bvh")


def test_a_real_file_has_the_lengths_of_its_bones():
    path = SHARED / "data" / "motion" / "cmu_subject05_dance" / "05_02.bvh"
    if not path.is_file():
        pytest.skip("the shared data is not beside the checkout")
    bvh = read_bvh(path)
    assert (len(bvh), bvh.fps, bvh.values.shape[1]) == (1124, 120.0, 132)
    children = np.array([j for j, parent in enumerate(bvh.parents) if parent >= 0])
    positions = bvh.positions()
    bones = np.linalg.norm(positions[:, children] - positions[:, np.array(bvh.parents)[children]], axis=-1)
    np.testing.assert_allclose(bones, np.tile(np.linalg.norm(bvh.offsets[children], axis=-1), (1124, 1)), atol=1e-9)
