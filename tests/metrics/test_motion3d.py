import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench import registry
from macebench.demo.choreography import GENRE_PHRASES, choreograph
from macebench.errors import Unscorable, UserError
from macebench.metrics import motion3d
from macebench.metrics.activity import activity_3d
from macebench.protocol import load_protocol
from macebench.scoring import score_clip
from macebench.types import Beats, Clip, Evidence, FeatureSet, Missing, Motion

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PARITY, VBENCH = SHARED / "golden" / "parity", SHARED / "golden" / "vbench"
needs_shared = pytest.mark.skipif(not PARITY.is_dir(), reason="needs ../shared/golden")
SETS = ["metrics_synthetic", "metrics_aist_clips"]
FIXED = load_protocol("motion3d-fixed/1")
PUBLISHED = ["aist-bailando/1", "finedance-lodge/1", "megadance-eval/1", "mace3d-released/1"]
AGGREGATES = {
    "aist-bailando/1": "bailando", "finedance-lodge/1": "lodge", "megadance-eval/1": "megadance",
    "mace3d-released/1": "mace3d_released",
}  # fmt: skip
SET_COLUMNS = {
    "fid_k_3d": ("fid_k",), "fid_g_3d": ("fid_g",), "div_k_3d": ("div_k",), "div_g_3d": ("div_g",),
    "kid_k_3d": ("kid_k", "kid_k_se"), "kid_g_3d": ("kid_g", "kid_g_se"),
    "fid_infinity_k_3d": ("fid_infinity_k",), "fid_infinity_g_3d": ("fid_infinity_g",),
}  # fmt: skip
CLIP_COLUMNS = {
    "bas_3d": ("bas", "bas_null", "bas_corrected", "bas_z", "beat_precision", "beat_recall", "beat_f"),
    "fsr_3d": ("fsr", "fsr_left", "fsr_right"), "pfc_3d": ("pfc",),
    "foot_contact_3d": ("foot_penetration", "foot_float", "foot_slide"),
    "activity_3d": ("frozen_share", "motion_energy"),
}  # fmt: skip
SMALL_NOTE = "n 6 below 72 features: biased"


def evidence(joints, fps=30.0, music=(), number=0):
    joints = np.asarray(joints, dtype=np.float64)
    heard = Beats(np.asarray(music, dtype=np.float64), len(joints) / fps)
    clip = Clip(f"clip{number:03d}", Path("a.npz"), "0" * 64)
    missing = Missing("no picture")
    return Evidence(clip, len(joints) / fps, missing, heard, missing, Motion(fps, joints))


def dances(fps=30.0, count=48, seconds=6.0):
    """The demo's choreography: closed form, so that every frame rate shows the same motion."""
    made = []
    for k in range(count):
        beats = np.arange(0.2 + 0.01 * k, seconds, 60 / (95 + k))
        genre = sorted(GENRE_PHRASES)[k % 6]
        made.append(evidence(choreograph(beats, seconds, fps, k, genre).motion.joints, fps, beats, k))
    return made


def trembling(clip, seed=0):
    """The clip with smooth unrest of 2 cm, a function of time alone: feet slide and the body accelerates."""
    rng = np.random.default_rng(seed)
    t = np.arange(len(clip.motion)) / clip.motion.fps
    rate, phase = rng.uniform(0.5, 2.5, (2, 6, 3))
    unrest = sum(np.sin(2 * np.pi * r * t[:, None] + p) for r, p in zip(rate, 6 * phase, strict=True))
    feet = sum(np.sin(2 * np.pi * r[::-1] * t[:, None] + 2 * p) for r, p in zip(rate, phase, strict=True))
    joints = clip.motion.joints + 0.02 * unrest[:, None] * [1, 0.2, 1]
    joints[:, [7, 10]] += 0.02 * feet[:, None] * [1, 0, 1]
    return moved(clip, joints)


def moved(clip, joints, **changes):
    return clip.replace(motion=Motion(clip.motion.fps, joints), **changes)


def golden_clips(name):
    if name == "metrics_synthetic":
        return np.load(PARITY / f"{name}.npz")["in_joints3d"]
    return np.load(PARITY / "aist_clips_joints_DATA.npz")["joints"]


def golden(name, section):
    return json.loads((PARITY / f"{name}.json").read_text())[section]


def feature_set(compute, clips, protocol):
    return FeatureSet(np.stack([compute(clip, protocol) for clip in clips]))


def call(metric, *arguments):
    return registry.get_metric(metric).compute(*arguments)


def beats_of(clips, fps, step=15):
    return np.arange(7, clips.shape[1], step) / fps


@pytest.mark.parametrize("name", [*SET_COLUMNS, *CLIP_COLUMNS])
def test_registered_with_the_columns_of_the_field(name):
    found = registry.get_metric(name)
    assert tuple(column.name for column in found.columns) == (SET_COLUMNS | CLIP_COLUMNS)[name]
    assert "motion" in found.needs
    assert found.needs <= {"motion", "music"}
    assert all(column.summary for column in found.columns)
    for column in found.columns:
        assert column.better == ("lower" if column.name.startswith(("fid", "kid")) else "reference")
    if name in SET_COLUMNS:
        assert found.feature == ("kinetic_3d" if "_k" in name else "geometric_3d")


def test_features_are_registered():
    for name in ("kinetic_3d", "geometric_3d"):
        assert registry.get_feature(name).needs == {"motion"}
        assert registry.get_feature(name).compute is getattr(motion3d, name)


@needs_shared
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("protocol_id", AGGREGATES)
def test_golden_sets_through_the_protocols(name, protocol_id):
    """Distances and diversities of the public codes, through features, normaliser and metrics of the protocol."""
    protocol = load_protocol(protocol_id)
    clips = [evidence(joints, protocol.sampling.fps) for joints in golden_clips(name)]
    for letter, feature in (("k", motion3d.kinetic_3d), ("g", motion3d.geometric_3d)):
        expected = golden(name, "aggregate")[f"{AGGREGATES[protocol_id]}_{letter}"]
        real, fake = (feature_set(feature, clips[first::2], protocol) for first in (0, 1))
        fid, div = (call(f"{kind}_{letter}_3d", fake, real, protocol) for kind in ("fid", "div"))
        assert fid[f"fid_{letter}"] == pytest.approx(expected["fid_symmetric_eig"], rel=1e-3)
        assert fid["note"] == f"n {expected['n_pred']} below {expected['dim']} features: biased"
        assert div == {f"div_{letter}": pytest.approx(expected["div_pred"], rel=1e-4)}
        own = call(f"div_{letter}_3d", real, real, protocol)
        assert own == {f"div_{letter}": pytest.approx(expected["div_gt"], rel=1e-4)}


@needs_shared
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("protocol_id", PUBLISHED)
def test_golden_beats_through_the_protocols(name, protocol_id):
    """The same numbers at 60 and at 30 frames a second: the published rules count frames."""
    protocol, clips = load_protocol(protocol_id), golden_clips(name)
    fps, expected = protocol.sampling.fps, golden(name, "per_clip")
    for k, joints in enumerate(clips):
        clip = evidence(joints, fps, beats_of(clips, fps))
        found = motion3d.motion_beat_times(clip, protocol) * fps
        assert np.round(found).astype(int).tolist() == expected["dance_beats_3d"][k]
        np.testing.assert_allclose(found, np.round(found), atol=1e-9)
        values = call("bas_3d", clip, protocol)
        if expected["bas_3d"][k] is None:
            assert (values["bas"], values["note"]) == (0.0, "no motion beats")
        else:
            assert values["bas"] == pytest.approx(expected["bas_3d"][k], rel=1e-4)
            assert "note" not in values


@needs_shared
@pytest.mark.parametrize("protocol_id", ["finedance-lodge/1", "aist-bailando/1"])
def test_beats_and_distances_of_the_other_golden_motions(protocol_id):
    protocol, scores = load_protocol(protocol_id), json.loads((VBENCH / "motion_scores.json").read_text())
    motions, fps = np.load(VBENCH / "motions.npz"), load_protocol(protocol_id).sampling.fps
    music = np.array(scores["bas"]["music_beats"]) / fps
    pairs = {side: [evidence(joints, fps, music) for joints in motions[side]] for side in ("gt", "pred")}
    for clip, wanted in zip(pairs["pred"], scores["bas"]["per_clip"], strict=True):
        assert call("bas_3d", clip, protocol)["bas"] == pytest.approx(wanted, rel=1e-6)
    expected = scores[AGGREGATES[protocol_id]]
    for letter, feature in (("k", motion3d.kinetic_3d), ("g", motion3d.geometric_3d)):
        real, fake = (feature_set(feature, pairs[side], protocol) for side in ("gt", "pred"))
        fid = call(f"fid_{letter}_3d", fake, real, protocol)[f"fid_{letter}"]
        assert fid == pytest.approx(expected[f"fid_{letter}"], rel=1e-4)
        div = call(f"div_{letter}_3d", fake, real, protocol)[f"div_{letter}"]
        assert div == pytest.approx(expected[f"div_{letter}"], rel=1e-4)


@needs_shared
@pytest.mark.parametrize("name", SETS)
def test_golden_feet_through_the_protocols(name):
    expected, lodge = golden(name, "per_clip"), load_protocol("finedance-lodge/1")
    for k, joints in enumerate(golden_clips(name)):
        clip = evidence(joints)
        sides = [expected["fsr_left"][k], expected["fsr_right"][k]]
        known = [side for side in sides if not np.isnan(side)]
        if known:
            values = call("fsr_3d", clip, lodge)
            np.testing.assert_allclose([values["fsr_left"], values["fsr_right"]], sides, rtol=1e-4)
            assert values["fsr"] == pytest.approx(np.mean(known), rel=1e-4)
            assert ("note" in values) == (len(known) == 1)
        else:
            with pytest.raises(Unscorable, match="no foot contact"):
                call("fsr_3d", clip, lodge)
        for protocol_id, key in (
            ("finedance-lodge/1", "pfc_zup_of_turned_input"),
            ("mace3d-released/1", "pfc_mace3d_released"),
        ):
            found = call("pfc_3d", clip, load_protocol(protocol_id))
            assert found == pytest.approx(expected[key][k], rel=1e-4)


def test_lodge_counts_beats_after_the_end_as_misses():
    lodge, dance = load_protocol("finedance-lodge/1"), dances(count=1)[0]
    late = np.concatenate([dance.music.times_s, 6.0 + 0.5 * np.arange(len(dance.music.times_s))])
    longer = dance.replace(music=Beats(late, 12.0))
    short, long = call("bas_3d", dance, lodge), call("bas_3d", longer, lodge)
    assert long["bas"] == pytest.approx(short["bas"] / 2, rel=0.02)
    assert long["beat_recall"] == short["beat_recall"] / 2
    assert long["bas_null"] == pytest.approx(short["bas_null"] / 2, rel=0.02)
    assert call("bas_3d", longer, FIXED) == call("bas_3d", dance, FIXED)
    only = dance.replace(music=Beats(np.array([8.0, 9.0]), 12.0))
    assert call("bas_3d", only, lodge)["bas"] < 1e-9
    with pytest.raises(Unscorable, match="no music beats"):
        call("bas_3d", only, FIXED)


def frozen(clip):
    return moved(clip, np.repeat(clip.motion.joints[:1], len(clip.motion), axis=0))


def row(clip, protocol):
    metrics = [registry.get_metric(name) for name in protocol.metrics]
    return score_clip(clip, protocol, metrics, model="m", role="generated")


@pytest.mark.parametrize("protocol_id", [*PUBLISHED, "motion3d-fixed/1"])
def test_bad_clips_give_reasons_and_no_errors(protocol_id):
    protocol, dance = load_protocol(protocol_id), dances(count=1)[0]
    two = moved(dance, dance.motion.joints[:2])
    holes = dance.motion.joints.copy()
    holes[4, 7] = np.nan
    cases = {
        "too short": two, "joints are missing": moved(dance, holes),
        "no 3-D motion": dance.replace(motion=Missing("no 3-D motion")),
    }  # fmt: skip
    for reason, clip in cases.items():
        found = row(clip, protocol)
        assert set(found.reasons.values()) == {reason}
        assert not found.features
        assert np.isnan(list(found.values.values())).all()
    silent = row(dance.replace(music=Beats(np.empty(0), 6.0)), protocol)
    assert {silent.reasons[name] for name in CLIP_COLUMNS["bas_3d"]} == {"no music beats"}
    still = row(frozen(dance), protocol)
    assert not any("failed" in reason for reason in still.reasons.values())
    assert (still.values["bas"], still.notes["bas"]) == (0.0, "no motion beats")
    assert set(still.features) == {"kinetic_3d", "geometric_3d"}


def test_a_frozen_clip_is_frozen_and_has_no_foot_scores_above_zero():
    still = frozen(dances(count=1)[0])
    assert call("activity_3d", still, FIXED) == {"frozen_share": 1.0, "motion_energy": 0.0}
    assert call("pfc_3d", still, FIXED) == 0.0
    assert call("fsr_3d", still, FIXED)["fsr"] == 0.0


def hovering(clip, side):
    joints = clip.motion.joints.copy()
    joints[:, side] += [0.0, 0.4, 0.0]
    return moved(clip, joints)


def test_a_foot_without_contact_is_noted_and_two_are_a_reason():
    dance = frozen(dances(count=1)[0])
    values = call("fsr_3d", hovering(dance, [7, 10]), FIXED)
    assert np.isnan(values["fsr_left"])
    assert values["note"] == "no contact of the left foot"
    ankles = hovering(dance, [7, 8])
    with pytest.raises(Unscorable, match=r"^no foot contact$"):
        call("fsr_3d", ankles, FIXED)
    values = call("foot_contact_3d", ankles, FIXED)
    assert np.isnan(values["foot_slide"])
    assert values["note"] == "no foot contact"


@pytest.fixture(scope="module")
def slow():
    return [trembling(clip, k) for k, clip in enumerate(dances(30.0))]


@pytest.fixture(scope="module")
def fast():
    return [trembling(clip, k) for k, clip in enumerate(dances(60.0))]


def all_values(clips, protocol, reference=None):
    """Every number of a protocol: the odd clips against the even ones, or those of `reference`."""
    pools = {1: clips, 0: reference or clips}
    sets = {
        name: [feature_set(getattr(motion3d, name), pools[first][first::2], protocol) for first in (1, 0)]
        for name in ("kinetic_3d", "geometric_3d")
    }
    found = {}
    for name in protocol.metrics:
        metric = registry.get_metric(name)
        if metric.feature:
            result = metric.compute(*sets[metric.feature], protocol)
            found |= {column.name: result[column.name] for column in metric.columns}
            continue
        rows = [metric.compute(clip, protocol) for clip in clips]
        rows = [item if isinstance(item, dict) else {metric.columns[0].name: item} for item in rows]
        for column in metric.columns:
            found[column.name] = float(np.nanmean([item[column.name] for item in rows]))
    return found


# differences of two numbers that are near each other: compared on the scale they live on
_AROUND_ZERO = {"bas_z": 0.2, "bas_corrected": 0.02, "foot_penetration": 1e-3, "foot_float": 1e-3, "frozen_share": 0.01}


def assert_within_five_percent(one, two):
    """All but the extrapolated distance: n is below the number of features here, and the line follows noise."""
    for name, value in one.items():
        near = one[f"{name}_se"] / 4 if f"{name}_se" in one else _AROUND_ZERO.get(name, 0.0)
        if not name.startswith("fid_infinity"):
            assert two[name] == pytest.approx(value, rel=0.05, abs=near), name


def test_thirty_and_sixty_frames_a_second_agree_under_fixed(slow, fast):
    one = all_values(slow, FIXED)
    assert one["fsr"] > 0.05
    assert one["pfc"] > 0.1
    assert_within_five_percent(one, all_values(fast, FIXED))
    assert_within_five_percent(one, all_values(fast, FIXED, reference=slow))


@pytest.mark.parametrize("protocol_id", PUBLISHED)
def test_thirty_and_sixty_frames_a_second_differ_under_the_published(slow, fast, protocol_id):
    """What the fixed protocol repairs: the same dances at the other rate, against the same reference."""
    protocol = load_protocol(protocol_id)
    one, two = all_values(slow, protocol), all_values(fast, protocol, reference=slow)
    moving = {name for name in one if abs(two[name] / one[name] - 1) > 0.05}
    assert {"fid_k", "fid_g", "div_k"} <= moving
    assert (protocol.metrics[-1] == "pfc_3d") == ("pfc" in moving)
    assert ("fsr" in one) == ("fsr" in moving)


@needs_shared
def test_real_clips_agree_at_thirty_and_sixty_frames_a_second():
    from scipy.interpolate import CubicSpline

    clips = golden_clips("metrics_aist_clips").astype(np.float64)
    times, music = np.arange(60) / 30, beats_of(clips, 30)
    slow = [evidence(joints, 30.0, music) for joints in clips]
    fast = [evidence(CubicSpline(times, joints)(np.arange(119) / 60), 60.0, music) for joints in clips]

    def values(items):
        feet = [clip for clip in items if _has_contact(clip)]
        assert len(feet) > 30
        rules = FIXED.model_copy(update={"metrics": tuple(n for n in FIXED.metrics if n not in CLIP_COLUMNS)})
        found = all_values(items, rules)
        rules = FIXED.model_copy(update={"metrics": tuple(CLIP_COLUMNS)})
        return found | all_values(feet, rules)

    assert_within_five_percent(values(slow), values(fast))


def _has_contact(clip):
    try:
        call("fsr_3d", clip, FIXED)
    except Unscorable:
        return False
    return True


def about_y(joints, angle):
    c, s = np.cos(angle), np.sin(angle)
    return joints @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T


DANCE = trembling(dances(count=1, seconds=4.0)[0])


@settings(max_examples=15, deadline=None)
@given(shift=st.tuples(*[st.floats(-5, 5)] * 3), angle=st.floats(-np.pi, np.pi))
def test_place_and_heading_do_not_matter(shift, angle):
    other = moved(DANCE, about_y(DANCE.motion.joints, angle) + np.array(shift))
    kinetic = [motion3d.kinetic_3d(clip, FIXED) for clip in (DANCE, other)]
    np.testing.assert_allclose(kinetic[1], kinetic[0], rtol=1e-6, atol=1e-9)
    geometric = [motion3d.geometric_3d(clip, FIXED) for clip in (DANCE, other)]
    np.testing.assert_allclose(geometric[1], geometric[0], atol=1.01 / 119)  # a value on its limit may flip a frame
    for name, columns in CLIP_COLUMNS.items():
        one, two = (call(name, clip, FIXED) for clip in (DANCE, other))
        one, two = ({"pfc": item} if name == "pfc_3d" else item for item in (one, two))
        for column in columns:
            assert two[column] == pytest.approx(one[column], rel=1e-6, abs=0.01), column


def test_published_protocols_see_place_or_heading():
    turned = moved(DANCE, about_y(DANCE.motion.joints, np.pi / 2))
    protocol = load_protocol("mace3d-released/1")
    kinetic = [motion3d.kinetic_3d(clip, protocol) for clip in (DANCE, turned)]
    assert np.median(np.abs(kinetic[1] / kinetic[0] - 1)[1::3]) > 0.2
    assert call("pfc_3d", turned, protocol) != pytest.approx(call("pfc_3d", DANCE, protocol), rel=0.05)


def test_time_reversal_where_it_must_not_matter():
    joints, end = DANCE.motion.joints, (len(DANCE.motion) - 1) / 30
    music = np.array([0.8, 1.4, 2.0, 2.6])
    clip = DANCE.replace(music=Beats(music, 4.0))
    back = moved(clip, joints[::-1], music=Beats(np.sort(end - music), 4.0))
    energy = [motion3d.kinetic_3d(item, FIXED).reshape(24, 3) for item in (clip, back)]
    np.testing.assert_allclose(energy[1][:, :2], energy[0][:, :2], rtol=1e-9)
    np.testing.assert_allclose(energy[1][:, 2], energy[0][:, 2], rtol=0.03)
    for name in ("fsr_3d", "foot_contact_3d", "activity_3d"):
        one, two = call(name, clip, FIXED), call(name, back, FIXED)
        assert two == {column: pytest.approx(value, rel=1e-9, abs=1e-12) for column, value in one.items()}
    one, two = call("bas_3d", clip, FIXED), call("bas_3d", back, FIXED)
    for column in ("bas", "beat_precision", "beat_recall", "beat_f"):
        assert two[column] == pytest.approx(one[column], rel=1e-6)
    assert two["bas_null"] == pytest.approx(one["bas_null"], abs=0.01)


def test_units_scale_as_documented():
    """Centimetres for metres: speeds times 100, squares times 10,000; relations take the dancer's own lengths."""
    large = moved(DANCE, 100.0 * DANCE.motion.joints)
    one, two = (motion3d.kinetic_3d(clip, FIXED).reshape(24, 3) for clip in (DANCE, large))
    np.testing.assert_allclose(two, one * [1e4, 1e4, 1e2], rtol=1e-9)
    np.testing.assert_allclose(*(motion3d.geometric_3d(clip, FIXED) for clip in (DANCE, large)), atol=1.01 / 119)
    assert call("pfc_3d", large, FIXED) == pytest.approx(1e4 * call("pfc_3d", DANCE, FIXED), rel=1e-9)
    found = call("foot_contact_3d", large, FIXED)
    assert found["foot_float"] == pytest.approx(100 * call("foot_contact_3d", DANCE, FIXED)["foot_float"], rel=1e-9)
    assert call("bas_3d", large, FIXED)["bas"] == pytest.approx(call("bas_3d", DANCE, FIXED)["bas"], rel=1e-9)
    energy = activity_3d(large, FIXED)["motion_energy"]
    assert energy == pytest.approx(1e4 * activity_3d(DANCE, FIXED)["motion_energy"], rel=1e-9)


@pytest.fixture(scope="module")
def kinetic_sets(slow):
    return [feature_set(motion3d.kinetic_3d, slow[first::2], FIXED) for first in (1, 0)]


@pytest.mark.parametrize("name", ["fid_k_3d", "div_k_3d", "kid_k_3d"])
def test_order_of_clips_does_not_matter(name, kinetic_sets):
    order = np.random.default_rng(0).permutation(len(kinetic_sets[0]))
    shuffled = [FeatureSet(item.values[order]) for item in kinetic_sets]
    one, two = call(name, *kinetic_sets, FIXED), call(name, *shuffled, FIXED)
    for column in SET_COLUMNS[name]:
        assert two[column] == pytest.approx(one[column], rel=1e-9)


def random_sets(n, features=6, m=None):
    rng = np.random.default_rng(0)
    return FeatureSet(rng.normal(0.2, 1, (n, features))), FeatureSet(rng.normal(0, 1, (m or n, features)))


@pytest.mark.parametrize("name", SET_COLUMNS)
def test_small_sets_are_noted(name):
    noted = name.startswith("fid")
    for sets in (random_sets(10, 12), random_sets(30, 12, 11)):
        n = min(len(item) for item in sets)
        expected = f"n {n} below 12 features: biased" if noted else None
        if name.startswith("fid_infinity"):
            expected = f"n {n} below 5 x 12 features: too few to extrapolate"
        assert call(name, *sets, FIXED).get("note") == expected
    enough = 60 if name.startswith("fid_infinity") else 12
    assert "note" not in call(name, *random_sets(enough, 12), FIXED)


def test_dropped_columns_do_not_count_as_features():
    generated, reference = random_sets(10, 12)
    values = reference.values.copy()
    values[:, :2] = 1.0
    note = call("fid_k_3d", generated, FeatureSet(values), FIXED)["note"]
    assert note == "2 of 12 features constant in the reference, left out"
    values[:, 2] = 0.0
    fewer = FeatureSet(generated.values[:8])
    note = call("fid_k_3d", fewer, FeatureSet(values), FIXED)["note"]
    assert note == "3 of 12 features constant in the reference, left out; n 8 below 9 features: biased"


def test_too_few_clips_are_a_reason():
    with pytest.raises(Unscorable, match="fewer than 3 clips"):
        call("kid_k_3d", *random_sets(2, m=20), FIXED)
    with pytest.raises(Unscorable, match="fewer than 8 clips"):
        call("fid_infinity_g_3d", *random_sets(20, m=7), FIXED)
    with pytest.raises(Unscorable, match="constant in the reference"):
        call("kid_k_3d", random_sets(9)[0], FeatureSet(np.ones((9, 6))), FIXED)


def test_an_extrapolation_from_five_clips_a_feature_is_not_noted():
    assert "note" not in call("fid_infinity_k_3d", *random_sets(30, features=6), FIXED)
    note = call("fid_infinity_k_3d", *random_sets(30, features=6, m=29), FIXED)["note"]
    assert note == "n 29 below 5 x 6 features: too few to extrapolate"


def test_kernel_distance_of_equal_distributions_is_within_its_error():
    generated, reference = random_sets(200)
    same = call("kid_g_3d", FeatureSet(reference.values[:100]), FeatureSet(reference.values[100:]), FIXED)
    assert abs(same["kid_g"]) < 3 * same["kid_g_se"]
    other = call("kid_g_3d", generated, reference, FIXED)
    assert other["kid_g"] > 2 * other["kid_g_se"]


def test_twins_in_the_picture_are_the_same_functions():
    sets = random_sets(40)
    for kind in ("kid_k", "kid_g", "fid_infinity_k", "fid_infinity_g"):
        assert call(f"{kind}_2d", *sets, FIXED) == call(f"{kind}_3d", *sets, FIXED)
        assert registry.get_metric(f"{kind}_2d").needs == {"pose"}


def test_speed_curve_is_where_the_beats_come_from():
    clip = dances(count=1)[0]
    times, speed = motion3d.speed_curve(clip, FIXED)
    assert len(times) == len(speed) == len(clip.motion) - 1
    assert 0.05 < speed.mean() < 3.0
    assert np.isin(np.round(motion3d.motion_beat_times(clip, FIXED), 6), np.round(times, 6)).all()


def test_a_protocol_without_the_section_says_so():
    bare = FIXED.model_copy(update={"beats": None, "features": None, "contact": None})
    for name, section in (("bas_3d", "beats"), ("fsr_3d", "contact"), ("pfc_3d", "contact")):
        with pytest.raises(UserError, match=section):
            call(name, DANCE, bare)
    with pytest.raises(UserError, match="features"):
        motion3d.kinetic_3d(DANCE, bare)


def test_assumed_rate_replaces_the_true_one():
    rules = FIXED.need_features().model_copy(update={"assumed_fps": 60.0})
    found = motion3d.kinetic_3d(DANCE, FIXED.model_copy(update={"features": rules}))
    assert not np.allclose(found, motion3d.kinetic_3d(DANCE, FIXED), rtol=0.5)


def test_evidence_is_not_written_to():
    before = DANCE.motion.joints.copy()
    row(DANCE, FIXED)
    np.testing.assert_array_equal(DANCE.motion.joints, before)
    assert dataclasses.is_dataclass(DANCE)
