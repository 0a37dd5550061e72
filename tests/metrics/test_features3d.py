import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import UnknownNameError
from macebench.metrics import _features_geometric3d as g3
from macebench.metrics import _features_kinetic3d as k3
from macebench.metrics._relations import RELATIONS
from macebench.metrics.beats import beat_alignment, motion_beats
from macebench.metrics.contact import physical_foot_contact
from macebench.metrics.diversity import diversity
from macebench.metrics.features import GEOMETRIC_VARIANTS, KINETIC_VARIANTS, geometric_features, kinetic_features
from macebench.metrics.frechet import frechet_distance
from macebench.skeleton import SMPL_JOINTS, SMPL_OFFSETS_M, forward_kinematics

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PARITY, VBENCH = SHARED / "golden" / "parity", SHARED / "golden" / "vbench"
needs_shared = pytest.mark.skipif(not PARITY.is_dir(), reason="needs ../shared/golden")
SETS = ["metrics_synthetic", "metrics_aist_clips"]
KINETIC_KEYS = {
    "aist": "aist_kinetic72", "bailando": "bailando_kinetic72", "lodge": "lodge_kinetic66",
    "megadance": "megadance_kinetic72", "mace3d": "mace3d_kinetic66_released",
    "flowerdance": "flowerdance_kinetic66_released",
}  # fmt: skip
GEOMETRIC_KEYS = {
    "aist": "aist_manual32", "bailando": "bailando_manual32", "lodge": "lodge_manual32",
    "megadance": "megadance_geometric32", "mace3d": "mace3d_geometric32_released",
}  # fmt: skip
# each protocol's normaliser: what the golden aggregates were made with
NORMALISERS = {
    "aist": ("aist_no_root_removal", 1e-10, 0), "bailando": ("bailando", 1e-10, 0), "lodge": ("lodge", 1e-10, 0),
    "megadance": ("megadance", 1e-10, 1), "mace3d": ("mace3d_released", 1e-4, 1),
    "flowerdance": ("flowerdance_released", 1e-4, 1),
}  # fmt: skip


def dancer(seed=0, seconds=4.0, fps=30.0):
    """(T, 24, 3) metres: forward kinematics of smooth random angles at most 1 Hz, walking about."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * fps))[:, None, None] / fps
    rate, phase = rng.uniform(0.3, 1.0, (24, 3)), rng.uniform(0, 2 * np.pi, (24, 3))
    angles = rng.uniform(0.1, 0.5, (24, 3)) * np.sin(2 * np.pi * rate * t + phase)
    root = np.array([0.3, 0.95, -0.2]) + rng.uniform(0.05, 0.4, 3) * np.sin(2 * np.pi * 0.4 * t[:, 0] + phase[0])
    return forward_kinematics(angles, root)


def about_y(joints, angle):
    c, s = np.cos(angle), np.sin(angle)
    return joints @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T


def parity_joints(name):
    if name == "metrics_synthetic":
        return np.load(PARITY / f"{name}.npz")["in_joints3d"]
    return np.load(PARITY / "aist_clips_joints_DATA.npz")["joints"]


def stack(compute, clips, variant):
    return np.stack([compute(clip, fps=30, variant=variant) for clip in clips])


@needs_shared
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("variant", KINETIC_KEYS)
def test_published_kinetic_features(name, variant):
    mine = stack(kinetic_features, parity_joints(name), variant)
    # the sources difference float32 positions; the last digits of millimetre motions are noise there
    np.testing.assert_allclose(mine, np.load(PARITY / f"{name}.npz")[KINETIC_KEYS[variant]], rtol=1e-4)


@needs_shared
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("variant", GEOMETRIC_KEYS)
def test_published_geometric_features_to_the_bit(name, variant):
    mine = stack(geometric_features, parity_joints(name), variant)
    np.testing.assert_array_equal(np.float32(mine), np.load(PARITY / f"{name}.npz")[GEOMETRIC_KEYS[variant]])


@needs_shared
@pytest.mark.parametrize("name", SETS)
def test_the_axis_turn_is_all_that_separates_released_from_unturned(name):
    golden, clips = np.load(PARITY / f"{name}.npz"), parity_joints(name).astype(np.float64)
    np.testing.assert_allclose(k3.turned(clips)[:, 0], golden["mace3d_axis_turned_frame0"], atol=1e-6)
    back = np.stack([clips[..., 1], -clips[..., 0], clips[..., 2]], axis=-1)
    for variant in ("mace3d", "flowerdance"):
        key = f"{variant}_kinetic66_without_axis_turn"
        np.testing.assert_allclose(stack(kinetic_features, back, variant), golden[key], rtol=1e-4)
    unturned = np.float32(stack(geometric_features, back, "mace3d"))
    np.testing.assert_array_equal(unturned, golden["mace3d_geometric32_without_axis_turn"])


@needs_shared
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("variant", NORMALISERS)
def test_distances_and_diversities_of_the_golden_sets(name, variant):
    family, eps, ddof = NORMALISERS[variant]
    golden = json.loads((PARITY / f"{name}.json").read_text())["aggregate"]
    clips = parity_joints(name)
    for letter, compute in (("k", kinetic_features), ("g", geometric_features)):
        if f"{family}_{letter}" not in golden or (letter == "g" and variant not in GEOMETRIC_VARIANTS):
            continue
        values, expected = stack(compute, clips, variant), golden[f"{family}_{letter}"]
        real, fake = values[::2], values[1::2]
        rules = {"eps": eps, "ddof": ddof, "drop_below": None}
        assert diversity(real, reference=real, **rules) == pytest.approx(expected["div_gt"], rel=1e-4)
        assert diversity(fake, reference=real, **rules) == pytest.approx(expected["div_pred"], rel=1e-4)
        found = frechet_distance(fake, real, **rules)
        assert found.value == pytest.approx(expected["fid_symmetric_eig"], rel=1e-3)


@needs_shared
@pytest.mark.parametrize("repository", ["lodge", "bailando"])
def test_vbench_motions(repository):
    motions = np.load(VBENCH / "motions.npz")
    for side in ("gt", "pred"):
        kinetic = stack(kinetic_features, motions[side], repository)
        geometric = stack(geometric_features, motions[side], repository)
        np.testing.assert_allclose(kinetic, motions[f"{repository}_{side}_kinetic"], rtol=1e-4)
        np.testing.assert_array_equal(np.float32(geometric), motions[f"{repository}_{side}_manual"])
    scores = json.loads((VBENCH / "motion_scores.json").read_text())[repository]
    real, fake = (stack(kinetic_features, motions[side], repository) for side in ("gt", "pred"))
    assert frechet_distance(fake, real, eps=1e-10).value == pytest.approx(scores["fid_k_without_constant"], rel=1e-4)
    assert diversity(fake, reference=real, eps=1e-10) == pytest.approx(scores["div_k"], rel=1e-4)


@needs_shared
@pytest.mark.parametrize("name", SETS)
def test_beats_of_3d_clips_need_no_variant_of_their_own(name):
    """The published rule (Gaussian of 5 frames, kernel of 3, at 30 a second) is the strict-minimum variant."""
    golden = json.loads((PARITY / f"{name}.json").read_text())["per_clip"]
    clips = parity_joints(name)
    music = np.arange(7, clips.shape[1], 15) / 30
    for clip, frames, score in zip(clips, golden["dance_beats_3d"], golden["bas_3d"], strict=True):
        beats = motion_beats(clip, fps=30, smoothing_s=5 / 30, variant="mace2d")
        assert np.round(beats * 30).astype(int).tolist() == frames
        mine = beat_alignment(music, beats, sigma_s=0.1)
        assert mine == (0.0 if score is None else pytest.approx(score, rel=1e-6))


@needs_shared
def test_beats_of_vbench_motions():
    golden = json.loads((VBENCH / "motion_scores.json").read_text())["bas"]
    clips = np.load(VBENCH / "motions.npz")["pred"]
    scores = []
    for clip, frames in zip(clips, golden["motion_beats"], strict=True):
        beats = motion_beats(clip, fps=30, smoothing_s=5 / 30, variant="mace2d")
        assert np.round(beats * 30).astype(int).tolist() == frames
        scores.append(beat_alignment(np.array(golden["music_beats"]) / 30, beats, sigma_s=0.1))
    np.testing.assert_allclose(scores, golden["per_clip"], rtol=1e-9)


def loop_kinetic(joints, fps, half, misplaced):
    """The public scheme, one joint and frame at a time."""
    dt, count, values = 1 / fps, len(joints), []
    for p in np.moveaxis(joints, 1, 0):
        flat = upward = effort = 0.0
        for i in range(1, count):
            terms = [(p[i + k] - p[i + k - 1]) / dt for k in range(-half, half + 1) if 0 < i + k < count]
            mean = np.mean(terms, axis=0)
            flat, upward = flat + mean[0] ** 2 + mean[2] ** 2, upward + mean[1] ** 2
            turns = []
            for k in range(-half, half + 1):
                if 0 < i + k < count - 1:
                    before = p[i + k] - p[i + k - 1] / dt if misplaced else (p[i + k] - p[i + k - 1]) / dt
                    turns.append(((p[i + k + 1] - p[i + k]) / dt - before) / dt)
            effort += np.linalg.norm(np.mean(turns, axis=0)) if turns else 0.0
        values += [flat / (count - 1), upward / (count - 1), effort / (count - 1)]
    return np.array(values)


def loop_geometric(joints, rate, lengths, midway):
    """The 32 questions, one frame at a time."""
    counts = np.zeros(32)
    frames = [dict(zip(SMPL_JOINTS, frame, strict=True)) for frame in joints]
    for f in frames:
        low = min(point[1] for point in f.values())
        f["zero"], f["y_min"] = np.zeros(3), np.array([0, low, 0])
        f["y_unit"], f["minus_y_unit"] = np.array([0, 1, 0]), np.array([0, -1, 0])
    for last, now in pairwise(frames):
        for k, relation in enumerate(RELATIONS):
            limit = relation.factor * lengths[relation.length]
            counts[k] += question(relation, last, now, rate, limit, midway)
    return counts / (len(frames) - 1)


def question(relation, last, f, rate, limit, midway):
    if relation.kind == "fast":
        return np.linalg.norm(f[relation.joints[0]] - last[relation.joints[0]]) * rate > limit
    points = [f[name] for name in relation.joints]
    if relation.kind == "angle":
        a, b, c, d = points
        cosine = (b - a) @ (d - c) / np.linalg.norm(b - a) / np.linalg.norm(d - c)
        return relation.degrees[0] < np.degrees(np.arccos(cosine)) < relation.degrees[1]
    a, c = points[0], points[2]
    normal = direction(relation, f)
    if relation.kind == "plane":
        return (points[3] - a) @ normal / np.linalg.norm(normal) > limit
    if relation.kind == "nplane":
        return (points[3] - c) @ normal / np.linalg.norm(normal) > limit
    moved = (points[-1] - a) - (last[relation.joints[-1]] - last[relation.joints[0]])
    if midway:
        normal = (normal + direction(relation, last)) / 2
    return moved @ normal / np.linalg.norm(normal) * rate > limit


def direction(relation, f):
    a, b, c = (f[name] for name in relation.joints[:3])
    return np.cross(c - a, b - a) if relation.kind in ("nmove", "plane") else b - a


@pytest.mark.parametrize("count", [3, 4, 7, 40])
def test_kinetic_is_the_plain_loop(count):
    clip = dancer()[:count]
    ours, published = loop_kinetic(clip, 30, 2, misplaced=False), loop_kinetic(clip, 60, 2, misplaced=True)
    np.testing.assert_allclose(kinetic_features(clip, fps=30), ours, rtol=1e-10)
    np.testing.assert_allclose(kinetic_features(clip, fps=30, variant="aist"), published, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_geometric_is_the_plain_loop(seed):
    clip = dancer(seed)
    body = g3.body_lengths(clip)
    np.testing.assert_allclose(geometric_features(clip, fps=30), loop_geometric(clip, 30, body, True), atol=1e-12)
    published = loop_geometric(clip, 120, g3.rest_lengths(), False)
    np.testing.assert_allclose(geometric_features(clip, fps=30, variant="aist"), published, atol=1e-7)


def closed_form(k=0, count=120, fps=30.0):
    """The closed-form motion of which the expected numbers below are known."""
    t, j, c = np.arange(count)[:, None, None], np.arange(24)[:, None], np.arange(3)
    amplitude = 0.02 + 0.01 * ((7 * j + 3 * k) % 5)
    rest = np.zeros((24, 3))
    parents = (0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
    for joint in range(1, 24):
        rest[joint] = rest[parents[joint]] + SMPL_OFFSETS_M[joint]
    wave = np.sin(2 * np.pi * (0.5 + 0.1 * k) * t / fps + 0.3 * j + 0.7 * c)
    return rest + amplitude * (1 + 0.2 * c) * wave


def test_closed_form_kinetic_features():
    clip = closed_form()
    assert clip.sum() == pytest.approx(117.1949976, abs=1e-6)
    expected = {
        "aist": [0.02291032, 0.01108665, 100.92882538, 0.09172829, 0.04460765, 410.60562134],
        "bailando": [0.02291032, 0.01108665, 134.72856140, 0.09172829, 0.04460765, 469.39535522],
        "lodge": [0.02291032, 0.01108665, 134.72856140, 0.02702312, 0.01320274, 377.45230103],
        "megadance": [0.00563852, 0.00271289, 0.28002667, 0.02260239, 0.01096304, 0.5563043],
    }
    for variant, values in expected.items():
        np.testing.assert_allclose(kinetic_features(clip, fps=30, variant=variant)[:6], values, rtol=2e-6)
    assert kinetic_features(clip, fps=30, variant="aist").sum() == pytest.approx(48545.612405, rel=1e-7)
    assert kinetic_features(clip, fps=30, variant="megadance").sum() == pytest.approx(14.239178, rel=1e-6)


def test_closed_form_geometric_features():
    clip = closed_form()
    aist = {
        0: 0.35294119, 1: 0.45378152, 2: 0.41176471, 4: 0.35294119, 5: 0.35294119, 8: 1, 11: 0.06722689,
        12: 0.66386557, 15: 0.55462188, 21: 0.26050422, 22: 1, 23: 1, 24: 1, 27: 0.12605043,
    }  # fmt: skip
    values = geometric_features(clip, fps=30, variant="aist")
    np.testing.assert_allclose(values, [aist.get(k, 0.0) for k in range(32)], atol=1e-6)
    lodge = geometric_features(clip, fps=30, variant="lodge")
    np.testing.assert_allclose(lodge[[11, 12, 15, 21]], [0.11764706, 0, 0.48739496, 0.89915967], atol=1e-6)


def test_closed_form_beats_and_foot_contact():
    clip = closed_form(count=150)
    beats = motion_beats(clip, fps=30, smoothing_s=5 / 30, variant="mace2d")
    assert np.round(beats * 30).astype(int).tolist() == [32, 62, 92, 122]
    assert beat_alignment(np.arange(0, 150, 15) / 30, beats, sigma_s=0.1) == pytest.approx(0.3203284312, abs=1e-9)
    assert physical_foot_contact(clip, fps=30, variant="edge") == pytest.approx(0.0675297809, rel=1e-6)
    assert physical_foot_contact(clip, fps=30, variant="mace3d") == pytest.approx(0.0444925100, rel=1e-6)


def test_units_and_acceleration_of_fixed():
    """A body that falls with 3 m/s^2 and glides with 2 m/s along x."""
    t = np.arange(60) / 30
    fall = np.stack([2 * t, -1.5 * t**2, 0 * t], axis=1)
    clip = dancer()[:1] + fall[:, None]
    rows = kinetic_features(clip, fps=30).reshape(24, 3)
    np.testing.assert_allclose(rows[:, 0], 4.0, rtol=1e-9)
    np.testing.assert_allclose(rows[:, 2], 3.0, rtol=1e-9)
    bracket = kinetic_features(clip, fps=30, variant="aist").reshape(24, 3)
    assert (bracket[:, 2] > 100).all()  # the distance from the origin, which is no acceleration


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 500),
    shift=st.tuples(*[st.floats(-5, 5)] * 3),
    angle=st.floats(-np.pi, np.pi),
)
def test_place_and_heading_do_not_matter(seed, shift, angle):
    clip = dancer(seed, seconds=1.0)
    moved = about_y(clip, angle) + np.array(shift)
    for variant in ("fixed", "bailando", "megadance", "lodge"):
        one, two = (kinetic_features(c, fps=30, variant=variant) for c in (clip, moved))
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)
    for variant in ("fixed", "aist", "bailando", "megadance"):
        one, two = (geometric_features(c, fps=30, variant=variant) for c in (clip, moved))
        np.testing.assert_allclose(two, one, atol=1.01 / (len(clip) - 1))  # a value on its limit may flip a frame


def relative(one, two):
    return float(np.median(np.abs(two - one) / np.abs(one)))


def test_published_variants_see_place_and_heading():
    clip = dancer()
    away, turned = clip + np.array([3.0, 0.0, 0.0]), about_y(clip, np.pi / 2)

    def efforts(joints, variant):
        return kinetic_features(joints, fps=30, variant=variant).reshape(-1, 3)[:, 2]

    assert relative(efforts(clip, "aist"), efforts(away, "aist")) > 0.5
    for variant in ("mace3d", "flowerdance"):
        rows = [kinetic_features(c, fps=30, variant=variant).reshape(-1, 3)[:, 1] for c in (clip, turned)]
        assert relative(*rows) > 0.2
    shares = [geometric_features(c, fps=30, variant="mace3d") for c in (clip, turned)]
    assert np.abs(shares[0] - shares[1]).max() > 0.3


def test_frame_rate_hardly_matters_under_fixed_and_does_under_the_published():
    for seed in range(4):
        slow, fast = dancer(seed, fps=30.0), dancer(seed, fps=60.0)
        ours = [kinetic_features(c, fps=r) for c, r in ((slow, 30.0), (fast, 60.0))]
        np.testing.assert_allclose(ours[1], ours[0], rtol=0.05)
        shares = [geometric_features(c, fps=r) for c, r in ((slow, 30.0), (fast, 60.0))]
        np.testing.assert_allclose(shares[1], shares[0], atol=0.05)
        for variant in set(KINETIC_VARIANTS) - {"fixed"}:
            theirs = [kinetic_features(c, fps=r, variant=variant) for c, r in ((slow, 30.0), (fast, 60.0))]
            assert np.abs(theirs[1] / theirs[0] - 1).max() > 0.5
        theirs = [geometric_features(c, fps=r, variant="aist") for c, r in ((slow, 30.0), (fast, 60.0))]
        assert np.abs(theirs[1] - theirs[0]).max() > 0.05


def test_hands_that_circle_each_other_do_not_move_apart():
    clip = np.repeat(dancer()[:1], 30, axis=0)
    turn = 2 * np.pi * np.arange(30) / 30
    arm = np.stack([np.cos(turn), 0 * turn, np.sin(turn)], axis=1)
    clip[:, SMPL_JOINTS.index("lwrist")], clip[:, SMPL_JOINTS.index("rwrist")] = 0.5 * arm, -0.5 * arm
    assert geometric_features(clip, fps=30)[9] == 0.0
    assert geometric_features(clip, fps=30, variant="aist")[9] == 1.0


def test_size_of_the_body_does_not_matter_to_fixed_relations():
    clip = dancer()
    np.testing.assert_allclose(geometric_features(1.2 * clip, fps=30), geometric_features(clip, fps=30), atol=0.01)
    rest = [geometric_features(c, fps=30, variant="aist") for c in (clip, 1.2 * clip)]
    assert np.abs(rest[0] - rest[1]).max() > 0.02


@pytest.mark.parametrize(
    ("frames", "weights"), [(5, [1] * 5), (10, [0.5, *[1] * 9, 0.5]), (0.4, [1]), (2, [0.5, 1, 0.5])]
)
def test_window_weights_are_as_long_as_asked(frames, weights):
    np.testing.assert_allclose(k3.window_weights(frames), weights)


@pytest.mark.parametrize("variant", KINETIC_VARIANTS)
def test_same_dance_same_numbers_and_frozen_has_no_energy(variant):
    clip = dancer()
    first = kinetic_features(clip, fps=30, variant=variant)
    np.testing.assert_array_equal(first, kinetic_features(clip.copy(), fps=30, variant=variant))
    assert first.shape == ((66,) if variant in ("lodge", "mace3d", "flowerdance") else (72,))
    assert first.dtype == np.float64
    still = kinetic_features(np.repeat(clip[:1], 20, axis=0), fps=30, variant=variant).reshape(-1, 3)
    assert not still[:, :2].any()


@pytest.mark.parametrize("variant", GEOMETRIC_VARIANTS)
def test_one_point_answers_no_everywhere_a_direction_is_needed(variant):
    values = geometric_features(np.zeros((5, 24, 3)), fps=30, variant=variant)
    ground = {29, 30}  # "below the lowest point plus 1.2 upper arms" is true of a point
    assert np.isfinite(values).all()
    assert set(np.flatnonzero(values)) <= ground


def test_inputs_are_not_written_to():
    clip = dancer()
    before = clip.copy()
    clip.flags.writeable = False
    for variant in KINETIC_VARIANTS:
        kinetic_features(clip, fps=30, variant=variant)
    for variant in GEOMETRIC_VARIANTS:
        geometric_features(clip, fps=30, variant=variant)
    np.testing.assert_array_equal(clip, before)


@pytest.mark.parametrize("compute", [kinetic_features, geometric_features])
@pytest.mark.parametrize(
    ("joints", "fps", "text"),
    [
        (np.zeros((5, 22, 3)), 30, r"\(5, 22, 3\).*\(T, 24, 3\)"),
        (np.zeros((24, 3)), 30, r"\(24, 3\)"),
        (np.zeros((0, 24, 3)), 30, "at least"),
        (np.zeros((1, 24, 3)), 30, "at least"),
        (np.full((5, 24, 3), np.nan), 30, "not finite"),
        (np.zeros((5, 24, 3)), 0, "fps"),
        (np.zeros((5, 24, 3)), float("nan"), "fps"),
    ],
)
def test_malformed_input_is_refused(compute, joints, fps, text):
    with pytest.raises(ValueError, match=text):
        compute(joints, fps=fps)


def test_unknown_variants_suggest():
    with pytest.raises(UnknownNameError, match="bailando"):
        kinetic_features(dancer(), fps=30, variant="bailandó")
    with pytest.raises(UnknownNameError, match="variant of 3-D features"):
        geometric_features(dancer(), fps=30, variant="flowerdance")
