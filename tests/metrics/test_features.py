import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import UnknownNameError
from macebench.metrics import _features_fixed2d as fixed
from macebench.metrics._relations import RELATIONS
from macebench.metrics.features import geometric_features_2d, kinetic_features_2d
from macebench.skeleton import COCO17

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PARITY = SHARED / "golden" / "parity"
needs_shared = pytest.mark.skipif(not PARITY.is_dir(), reason="needs ../shared/golden/parity")
AIST_COLUMNS = [15, 15, 15, 15, 15, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8, 15, 12, 10, 10, 7, 11, 11, 8]
I = {name: index for index, name in enumerate(COCO17)}  # noqa: E741


def person(n_frames=40, seed=0, amount=8.0):
    """(T, 17, 2) pixels of a moving stick figure that walks about."""
    rest = np.array(
        [[0, 60], [3, 63], [-3, 63], [6, 61], [-6, 61], [16, 44], [-16, 44], [22, 20], [-22, 20], [24, 0],
         [-24, 0], [9, 0], [-9, 0], [10, -30], [-10, -30], [11, -60], [-11, -60]], dtype=float,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, amount, (n_frames, 17, 2))
    smooth = np.stack(
        [np.convolve(steps[:, j, a], np.ones(5) / 5, "same")[:n_frames] for j in range(17) for a in range(2)]
    )
    return np.array([300.0, 300.0]) + rest * [1, -1] + smooth.T.reshape(n_frames, 17, 2)


def both(keypoints, fps=15.0, confidence=None):
    trust = np.ones(keypoints.shape[:2]) if confidence is None else confidence
    return (
        kinetic_features_2d(keypoints, trust, fps=fps),
        geometric_features_2d(keypoints, trust, fps=fps),
    )


def parity_keypoints(name):
    if name == "metrics_synthetic":
        return np.load(PARITY / f"{name}.npz")["in_kp2d"][..., :2]
    joints = np.load(PARITY / "aist_clips_joints_DATA.npz")["joints"].astype(np.float64)[:, :, AIST_COLUMNS]
    return np.stack([300 + 200 * joints[..., 0], 600 - 200 * joints[..., 1]], axis=-1)


@needs_shared
@pytest.mark.parametrize("name", ["metrics_synthetic", "metrics_aist_clips"])
def test_mace2d_is_the_released_code_to_the_bit(name):
    clips, golden = parity_keypoints(name), np.load(PARITY / f"{name}.npz")
    trust = np.ones(clips.shape[1:3])
    kinetic = [kinetic_features_2d(clip, trust, fps=16, variant="mace2d") for clip in clips]
    geometric = [geometric_features_2d(clip, trust, fps=16, variant="mace2d") for clip in clips]
    np.testing.assert_array_equal(np.float32(kinetic), golden["mace2d_kinetic75"])
    np.testing.assert_array_equal(np.float32(geometric), golden["mace2d_geometric32"])


@needs_shared
def test_parity_readme_still_names_what_is_tested():
    names = json.loads((PARITY / "metrics_synthetic.json").read_text())["arrays"]
    assert {"mace2d_kinetic75", "mace2d_geometric32"} <= set(names)


def test_mace2d_ignores_frame_rate_and_confidence():
    clip = np.random.default_rng(1).uniform(0, 500, (20, 25, 2))
    trust = np.ones((20, 25))
    for compute in (kinetic_features_2d, geometric_features_2d):
        first = compute(clip, trust, fps=16, variant="mace2d")
        np.testing.assert_array_equal(first, compute(clip, 0 * trust, fps=60, variant="mace2d"))


def test_mace2d_has_eleven_dead_features():
    clip = np.random.default_rng(2).uniform(0, 500, (30, 25, 2))
    values = geometric_features_2d(clip, np.ones((30, 25)), fps=16, variant="mace2d")
    dead = [k for k, relation in enumerate(RELATIONS) if relation.kind in ("plane", "nplane")]
    assert dead == [2, 3, 8, 14, 15, 16, 17, 18, 27, 29, 30]
    assert not values[dead].any()


def test_mace2d_angles_include_their_limits():
    """A folded arm, wrist on the way to the shoulder: 0 degrees, which the released code counts as bent."""
    clip = np.random.default_rng(3).uniform(0, 500, (10, 25, 2))
    clip[:, [6, 8, 10]] = np.array([[300.0, 100.0], [100.0, 100.0], [200.0, 100.0]])
    assert geometric_features_2d(clip, np.ones((10, 25)), fps=16, variant="mace2d")[6] == 1.0


def loop_kinetic(positions, fps, half):
    """The window scheme of aistplusplus_api, one frame and joint at a time, NaN skipped."""
    n_frames, n_joints, _ = positions.shape
    values = []
    for joint in range(n_joints):
        p = positions[:, joint]
        squares, sizes = [], []
        for i in range(1, n_frames):
            if not np.isfinite(p[i] - p[i - 1]).all():
                continue
            terms = [(p[i + k] - p[i + k - 1]) * fps for k in range(-half, half + 1) if 0 < i + k < n_frames]
            turns = [
                ((p[i + k + 1] - p[i + k]) * fps - (p[i + k] - p[i + k - 1]) * fps) * fps
                for k in range(-half, half + 1)
                if 0 < i + k < n_frames - 1
            ]
            squares.append(np.mean([v for v in terms if np.isfinite(v).all()], axis=0) ** 2)
            turns = [a for a in turns if np.isfinite(a).all()]
            if turns:
                sizes.append(np.linalg.norm(np.mean(turns, axis=0)))
        values += [*np.mean(squares, axis=0), np.mean(sizes)]
    return np.array(values)


@pytest.mark.parametrize(("fps", "half"), [(15.0, 1), (30.0, 2), (60.0, 4)])
@pytest.mark.parametrize("holes", [False, True])
def test_fixed_kinetic_is_the_plain_loop(fps, half, holes):
    clip = person()
    if holes:
        clip[10:17, I["rwrist"]] = np.nan
        clip[0, I["nose"]] = clip[-1, I["lankle"]] = np.nan
    positions = clip * [1, -1] / fixed.torso_length(clip)
    np.testing.assert_allclose(both(clip, fps)[0], loop_kinetic(positions, fps, half), rtol=1e-11)


def loop_geometric(clip, fps):
    """The 32 questions, one frame at a time, in other words than the module's."""
    scale = np.median([np.hypot(*((f[5] + f[6] - f[11] - f[12]) / 2)) for f in clip])
    frames = [{n: f[i] * [1, -1] / scale for n, i in I.items()} for f in clip]
    for f in frames:
        low = min(point[1] for point in f.values())
        f["root"], f["neck"] = (f["lhip"] + f["rhip"]) / 2, (f["lshoulder"] + f["rshoulder"]) / 2
        f["chest"], f["belly"] = 0.28 * f["root"] + 0.72 * f["neck"], f["root"]
        f["ltoes"], f["rtoes"], f["zero"] = f["lankle"], f["rankle"], np.zeros(2)
        f["y_unit"], f["minus_y_unit"], f["y_min"] = np.array([0, 1]), np.array([0, -1]), np.array([0, low])
    lengths = fixed.rest_lengths()
    counts = np.zeros(32)
    for last, f in pairwise(frames):
        for k, relation in enumerate(RELATIONS):
            counts[k] += question(relation, last, f, fps, relation.factor * lengths[relation.length])
    return counts / (len(frames) - 1)


def question(relation, last, f, fps, threshold):
    names = relation.joints
    if relation.kind == "fast":
        return np.hypot(*(f[names[0]] - last[names[0]])) * fps > threshold
    if relation.kind == "angle":
        a, b, c, d = (complex(*f[name]) for name in names)
        degrees = abs(np.degrees(np.angle((b - a) / (d - c))))
        return relation.degrees[0] < degrees < relation.degrees[1]
    if relation.kind == "nplane":
        a, b, q, p = (f[name] for name in names)
        return (b - a) @ (p - q) / np.hypot(*(b - a)) > threshold
    if relation.kind == "plane":
        a, b, c, p = (f[name] for name in names)
        normal = np.array([a[1] - b[1], b[0] - a[0]]) / np.hypot(*(b - a))
        return (p - a) @ normal * (1 if (c - a) @ normal < 0 else -1) > threshold
    tip = names[2] if relation.kind == "move" else names[3]
    moved = ((f[tip] - f[names[0]]) - (last[tip] - last[names[0]])) * fps
    direction = f[names[1]] - f[names[0]]
    if relation.kind == "nmove":
        axis = f[names[2]] - f[names[0]]
        direction = direction - axis * (axis @ direction) / (axis @ axis)
    return moved @ direction / np.hypot(*direction) > threshold


@pytest.mark.parametrize("seed", range(5))
def test_fixed_geometric_is_the_plain_loop(seed):
    clip = person(seed=seed, amount=25.0)
    np.testing.assert_allclose(both(clip)[1], loop_geometric(clip, 15.0), atol=1e-12)


def test_rest_lengths_are_those_of_the_body():
    lengths = fixed.rest_lengths()
    assert lengths["hl"] == pytest.approx(0.4557, abs=2e-3)
    assert lengths["sw"] == pytest.approx(0.69, abs=1e-2)
    assert lengths["hw"] == pytest.approx(0.21, abs=1e-2)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shift=st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000)),
    scale=st.floats(0.1, 10),
)
def test_fixed_does_not_see_place_or_size(seed, shift, scale):
    clip = person(seed=seed)
    first, second = both(clip), both(clip * scale + np.array(shift))
    np.testing.assert_allclose(second[0], first[0], rtol=1e-6)
    # a share moves by whole frames, and only where a value lies on its threshold
    np.testing.assert_allclose(second[1], first[1], atol=1.01 / 39)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_fixed_does_not_see_a_mirror(seed):
    clip = person(seed=seed)
    for first, second in zip(both(clip), both(clip * [-1, 1] + [576, 0]), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-9, atol=1e-12)


def test_left_and_right_change_places_in_a_mirrored_dancer():
    swap = [I[n.replace("l", "r", 1) if n[0] == "l" else "l" + n[1:]] if n[0] in "lr" else I[n] for n in COCO17]
    clip = person(seed=3)
    kinetic, geometric = both(clip)
    other_kinetic, other_geometric = both((clip * [-1, 1])[:, swap])
    np.testing.assert_allclose(other_kinetic.reshape(17, 3), kinetic.reshape(17, 3)[swap], rtol=1e-9)
    twins = [(0, 1), (2, 3), (6, 7), (10, 11), (12, 13), (14, 15), (16, 17), (19, 20), (21, 22), (23, 24), (25, 26)]
    for one, two in twins:
        assert other_geometric[one] == pytest.approx(geometric[two], abs=1e-12)


def test_units_of_the_kinetic_features():
    """A figure that glides: one torso length a second to the right, without acceleration."""
    clip = np.repeat(person(1), 45, axis=0)
    torso = fixed.torso_length(clip)
    clip = clip + np.arange(45)[:, None, None] * np.array([torso / 15, 0.0])
    rows = both(clip)[0].reshape(17, 3)
    np.testing.assert_allclose(rows[:, 0], 1.0, rtol=1e-9)
    np.testing.assert_allclose(rows[:, 1:], 0.0, atol=1e-9)


def test_acceleration_is_an_acceleration():
    """Falling: y = 0.5 * 3 t^2 in torso lengths; the public codes' bracket would add the place to it."""
    clip = np.repeat(person(1), 45, axis=0)
    t = np.arange(45) / 15
    clip = clip + np.stack([0 * t, 1.5 * t**2 * fixed.torso_length(clip)], axis=1)[:, None]
    np.testing.assert_allclose(both(clip)[0].reshape(17, 3)[:, 2], 3.0, rtol=1e-9)


def test_slower_playback_has_less_energy():
    clip = person(60)
    slow = np.stack([np.interp(np.arange(0, 59.5, 0.5), np.arange(60), c) for c in clip.reshape(60, -1).T])
    slow = slow.T.reshape(-1, 17, 2)
    ratio = both(slow)[0].reshape(17, 3)[:, :2].sum() / both(clip)[0].reshape(17, 3)[:, :2].sum()
    assert 0.2 < ratio < 0.45  # a quarter, and a little more because the window is half as long in the dance's time


def test_frame_rate_hardly_matters():
    """The same smooth dance sampled at 15 and at 30 frames a second."""

    def sample(fps):
        t = np.arange(int(8 * fps))[:, None] / fps
        j = np.arange(17)[None]
        wave = np.stack([9 * np.sin(3.1 * t + j), 7 * np.sin(2.3 * t + 2 * j)], axis=-1)
        return both(person(1, amount=0) + wave, fps)[0]

    np.testing.assert_allclose(sample(15.0), sample(30.0), rtol=0.05)


def test_frozen_dancer_has_no_kinetic_energy():
    kinetic, geometric = both(np.repeat(person(1), 30, axis=0))
    assert not kinetic.any()
    assert set(geometric) <= {0.0, 1.0}


def test_missing_keypoints_take_no_part():
    clip = person(60)
    holes = clip.copy()
    holes[20:30, I["rwrist"]] = np.nan
    by_confidence = np.ones((60, 17))
    by_confidence[20:30, I["rwrist"]] = 0
    wild = clip.copy()
    wild[20:30, I["rwrist"]] = -1e6
    for one, two in zip(both(holes), both(wild, confidence=by_confidence), strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.isfinite(both(holes)[0]).all()
    untouched = [k for k in range(51) if k // 3 != I["rwrist"]]
    np.testing.assert_array_equal(both(holes)[0][untouched], both(clip)[0][untouched])


def test_a_joint_that_is_never_there_is_nan_not_zero():
    clip = person()
    clip[:, I["lankle"]] = np.nan
    kinetic, geometric = both(clip)
    assert np.isnan(kinetic.reshape(17, 3)[I["lankle"]]).all()
    assert np.isfinite(np.delete(kinetic.reshape(17, 3), I["lankle"], axis=0)).all()
    assert np.isnan(geometric[[17, 20, 22]]).all()
    assert np.isfinite(geometric[[0, 6, 16, 21]]).all()


def test_no_torso_no_features():
    clip = person()
    clip[:, [I["lhip"], I["rhip"]]] = np.nan
    assert np.isnan(both(clip)[0]).all()
    assert np.isnan(both(np.ones((10, 17, 2)))[0]).all()


def test_collinear_joints_answer_no():
    clip = np.zeros((5, 17, 2))
    clip[:, :, 1] = np.arange(17)[None] * 10.0  # everybody on one vertical line
    clip[:, :, 1] += np.arange(5)[:, None]
    values = both(clip)[1]
    assert np.isfinite(values).all()
    assert values[0] == values[1] == 0


@pytest.mark.parametrize(
    ("keypoints", "confidence", "variant", "text"),
    [
        (np.zeros((5, 17, 2)), np.ones((5, 17)), "mace2d", r"\(T, 25, 2\).*\(5, 17, 2\)"),
        (np.zeros((5, 25, 2)), np.ones((5, 25)), "fixed", r"\(T, 17, 2\).*\(5, 25, 2\)"),
        (np.zeros((5, 17, 3)), np.ones((5, 17)), "fixed", r"\(5, 17, 3\)"),
        (np.zeros((5, 17, 2)), np.ones((4, 17)), "fixed", r"\(4, 17\)"),
        (np.zeros((0, 17, 2)), np.ones((0, 17)), "fixed", r"\(0, 17, 2\)"),
        (np.zeros((1, 17, 2)), np.ones((1, 17)), "fixed", "at least"),
        (np.full((5, 17, 2), np.inf), np.ones((5, 17)), "fixed", "not finite"),
        (np.full((5, 25, 2), np.nan), np.ones((5, 25)), "mace2d", "not finite"),
    ],
)
def test_malformed_input_names_shapes(keypoints, confidence, variant, text):
    for compute in (kinetic_features_2d, geometric_features_2d):
        with pytest.raises(ValueError, match=text):
            compute(keypoints, confidence, fps=15, variant=variant)


def test_unknown_variant_suggests():
    with pytest.raises(UnknownNameError, match="fixed"):
        kinetic_features_2d(person(), np.ones((40, 17)), fps=15, variant="fixd")


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_frame_rate_must_be_a_rate(fps):
    with pytest.raises(ValueError, match="fps"):
        kinetic_features_2d(person(), np.ones((40, 17)), fps=fps)
