import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import UnknownNameError
from macebench.metrics.contact import (
    NO_CONTACT,
    PFC_VARIANTS,
    SKATING_VARIANTS,
    foot_contact_error,
    foot_skating_ratio,
    ground_height,
    physical_foot_contact,
)
from macebench.skeleton import SMPL_JOINTS, forward_kinematics

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PARITY = SHARED / "golden" / "parity"
needs_shared = pytest.mark.skipif(not PARITY.is_dir(), reason="needs ../shared/golden/parity")
SETS = ["metrics_synthetic", "metrics_aist_clips"]
LANKLE, RANKLE, LTOE, RTOE = (SMPL_JOINTS.index(name) for name in ("lankle", "rankle", "ltoes", "rtoes"))


def standing(count=30):
    """(T, 24, 3) metres: the rest pose, its toes level and its ankles 6 cm above them."""
    body = forward_kinematics(np.zeros((1, 24, 3)), np.array([[0.0, 1.0, 0.0]]))
    body[:, [LTOE, RTOE], 1] = 0.0
    body[:, [LANKLE, RANKLE], 1] = 0.06
    return np.repeat(body, count, axis=0)


def gliding(velocity, count=31, fps=30.0):
    return standing(count) + (np.arange(count) / fps)[:, None, None] * np.asarray(velocity, dtype=float)


def stepping(fps=30.0, seconds=4.0):
    """A dancer who lifts and puts down each foot in turn, sways, and drifts a little."""
    t = np.arange(round(seconds * fps)) / fps
    body = standing(len(t))
    body += np.stack([0.1 * np.sin(2 * np.pi * 0.5 * t), 0.05 * np.sin(2 * np.pi * t), 0.2 * t], axis=1)[:, None]
    for side, phase in ((LANKLE, 0.0), (RANKLE, np.pi)):
        lift = np.maximum(0.0, np.sin(2 * np.pi * 0.7 * t + phase)) ** 2
        body[:, [side, side + 3], 1] = np.array([0.06, 0.0]) + 0.2 * lift[:, None]
        body[:, [side, side + 3], 0] += (0.6 * lift)[:, None]
    return body


def parity(name):
    golden = json.loads((PARITY / f"{name}.json").read_text())["per_clip"]
    if name == "metrics_synthetic":
        return np.load(PARITY / f"{name}.npz")["in_joints3d"], golden
    return np.load(PARITY / "aist_clips_joints_DATA.npz")["joints"], golden


@needs_shared
@pytest.mark.parametrize("name", SETS)
def test_lodge_skating_of_the_golden_clips(name):
    clips, golden = parity(name)
    for k, clip in enumerate(clips):
        found = foot_skating_ratio(clip, fps=30, variant="lodge")
        for mine, theirs in ((found.left, golden["fsr_left"][k]), (found.right, golden["fsr_right"][k])):
            assert (mine is None) == bool(np.isnan(theirs))
            if mine is not None:
                assert mine == pytest.approx(theirs, rel=1e-4)


@needs_shared
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("variant", "key"),
    [
        ("edge", "pfc_zup_of_turned_input"),
        ("mace3d", "pfc_mace3d_released"),
        ("mace3d", "pfc_up_axis2_as_given"),
        ("fixed", "pfc_zup_of_turned_input"),
    ],
)
def test_foot_contact_scores_of_the_golden_clips(name, variant, key):
    clips, golden = parity(name)
    mine = [physical_foot_contact(clip, fps=30, variant=variant) for clip in clips]
    np.testing.assert_allclose(mine, golden[key], rtol=1e-4)


@needs_shared
def test_fixed_skating_has_a_value_for_most_real_clips():
    clips, _ = parity("metrics_aist_clips")
    found = [foot_skating_ratio(clip, fps=30) for clip in clips]
    assert sum(f.value is None for f in found) <= 0.2 * len(clips)
    assert all((f.reason == NO_CONTACT) == (f.value is None) for f in found)


def loop_lodge(joints):
    """LODGE's rule, one frame at a time; (slides, contacts) of the left and of the right foot."""
    left, right = joints[0, LTOE, 1], joints[0, RTOE, 1]
    ground = (left + right) / 2 if abs(left - right) < 0.02 else min(left, right)
    result = []
    for ankle, toe in ((LANKLE, LTOE), (RANKLE, RTOE)):
        slides = contacts = 0
        for t in range(len(joints)):
            if joints[t, ankle, 1] - ground <= 0.08 and joints[t, toe, 1] - ground <= 0.05:
                contacts += 1
                if t + 1 < len(joints):
                    steps = (joints[t + 1] - joints[t])[[ankle, toe]]
                    slides += any(abs((dx + dz) / 2) > 0.01 for dx, _, dz in steps)
        result.append((slides, contacts))
    return result


def loop_fixed(joints, fps):
    ground = np.median(np.minimum(joints[:, LTOE, 1], joints[:, RTOE, 1]))
    result = []
    for ankle, toe in ((LANKLE, LTOE), (RANKLE, RTOE)):
        down = [f[ankle, 1] - ground <= 0.08 and f[toe, 1] - ground <= 0.05 for f in joints]
        slides = contacts = 0
        for t in range(1, len(joints)):
            if down[t] and down[t - 1]:
                contacts += 1
                steps = (joints[t] - joints[t - 1])[[ankle, toe]] * fps
                slides += any(np.sqrt(dx**2 + dz**2) > 0.3 for dx, _, dz in steps)
        result.append((slides, contacts))
    return result


@pytest.mark.parametrize("variant", SKATING_VARIANTS)
def test_skating_is_the_plain_loop(variant):
    clip = stepping() + np.random.default_rng(0).normal(0, 0.004, (120, 24, 3))
    expected = loop_lodge(clip) if variant == "lodge" else loop_fixed(clip, 30.0)
    found = foot_skating_ratio(clip, fps=30, variant=variant)
    ratios = [slides / contacts for slides, contacts in expected]
    assert 0 < min(ratios) < 1
    assert (found.left, found.right) == pytest.approx(ratios)
    assert [found.left_contacts, found.right_contacts] == [contacts for _, contacts in expected]
    pooled = sum(s for s, _ in expected) / sum(c for _, c in expected)
    assert found.value == pytest.approx(pooled if variant == "fixed" else np.mean(ratios))


def loop_pfc(joints, up):
    """EDGE's score, one frame at a time."""
    axes = [axis for axis in range(3) if axis != up]
    sizes, feet = [], []
    for t in range(len(joints) - 2):
        a = (joints[t + 2, 0] - 2 * joints[t + 1, 0] + joints[t, 0]) * 30**2
        a[up] = max(a[up], 0)
        sizes.append(np.sqrt(a @ a))
        speed = np.linalg.norm((joints[t + 2] - joints[t + 1])[:, axes], axis=1)
        feet.append(min(speed[LANKLE], speed[LTOE]) * min(speed[RANKLE], speed[RTOE]))
    return np.mean(np.array(feet) * sizes / max(sizes)) * 10_000


@pytest.mark.parametrize(("variant", "up"), [("edge", 1), ("mace3d", 2), ("fixed", 1)])
def test_foot_contact_score_is_the_plain_loop(variant, up):
    clip = stepping() + np.random.default_rng(1).normal(0, 0.004, (120, 24, 3))
    assert physical_foot_contact(clip, fps=30, variant=variant) == pytest.approx(loop_pfc(clip, up), rel=1e-9)


@pytest.mark.parametrize("variant", SKATING_VARIANTS)
def test_standing_does_not_slide_and_gliding_does(variant):
    assert foot_skating_ratio(standing(), fps=30, variant=variant).value == 0.0
    glide = foot_skating_ratio(gliding([1.0, 0.0, 0.0]), fps=30, variant=variant)
    assert glide.value == pytest.approx(1.0 if variant == "fixed" else 30 / 31)


def test_lodge_does_not_see_a_diagonal_slide():
    slide = gliding([1.0, 0.0, -1.0])
    assert foot_skating_ratio(slide, fps=30, variant="lodge").value == 0.0
    assert foot_skating_ratio(slide, fps=30).value == 1.0


@pytest.mark.parametrize("variant", SKATING_VARIANTS)
def test_no_contact_is_a_reason_and_not_a_number(variant):
    hover = standing()
    hover[:, [LANKLE, RANKLE], 1] += 0.3  # on tiptoe all the time
    found = foot_skating_ratio(hover, fps=30, variant=variant)
    assert (found.left, found.right, found.value, found.reason) == (None, None, None, NO_CONTACT)
    assert found.left_contacts == found.right_contacts == 0
    hover[:, LANKLE, 1] -= 0.3
    found = foot_skating_ratio(hover, fps=30, variant=variant)
    assert (found.left, found.right, found.value, found.reason) == (0.0, None, 0.0, None)


def test_frozen_clip_has_a_foot_contact_score_of_zero():
    for variant in PFC_VARIANTS:
        assert physical_foot_contact(standing(), fps=30, variant=variant) == 0.0
        assert physical_foot_contact(gliding([1.0, 0.0, 0.0]), fps=30, variant=variant) < 0.01 * 10_000


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 500),
    shift=st.tuples(*[st.floats(-5, 5)] * 3),
    angle=st.floats(-np.pi, np.pi),
)
def test_place_and_heading_do_not_matter(seed, shift, angle):
    clip = stepping() + np.random.default_rng(seed).normal(0, 0.003, (120, 24, 3))
    c, s = np.cos(angle), np.sin(angle)
    moved = clip @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T + np.array(shift)
    for variant in ("edge", "fixed"):
        one, two = (physical_foot_contact(x, fps=30, variant=variant) for x in (clip, moved))
        assert two == pytest.approx(one, rel=1e-6)
    one, two = (foot_skating_ratio(x, fps=30).value for x in (clip, moved))
    assert two == pytest.approx(one, abs=0.02)
    one, two = (foot_contact_error(x, fps=30) for x in (clip, moved))
    assert two.float_m == pytest.approx(one.float_m, abs=1e-9)
    assert two.slide_m_s == pytest.approx(one.slide_m_s, abs=0.02)


def test_published_variants_see_the_heading():
    clip = stepping()
    turned = clip @ np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]).T
    scores = [physical_foot_contact(x, fps=30, variant="mace3d") for x in (clip, turned)]
    assert abs(scores[0] / scores[1] - 1) > 0.1
    c = np.sqrt(0.5)
    slide = gliding([1.0, 0.0, 0.0])
    eighth = slide @ np.array([[c, 0, c], [0, 1, 0], [-c, 0, c]]).T
    shares = [foot_skating_ratio(x, fps=30, variant="lodge").value for x in (slide, eighth)]
    assert shares[0] > 0.9
    assert shares[1] == 0.0


def test_frame_rate_hardly_matters_under_fixed_and_does_under_the_published():
    slow, fast = stepping(30.0), stepping(60.0)

    def both(compute):
        return compute(slow, 30.0), compute(fast, 60.0)

    one, two = both(lambda c, r: physical_foot_contact(c, fps=r))
    assert two == pytest.approx(one, rel=0.05)
    one, two = both(lambda c, r: physical_foot_contact(c, fps=r, variant="edge"))
    assert two < 0.5 * one
    one, two = both(lambda c, r: foot_skating_ratio(c, fps=r).value)
    assert one > 0.1
    assert two == pytest.approx(one, abs=0.05)
    one, two = both(lambda c, r: foot_skating_ratio(c, fps=r, variant="lodge").value)
    assert two < 0.5 * one
    one, two = both(lambda c, r: foot_contact_error(c, fps=r).slide_m_s)
    assert two == pytest.approx(one, rel=0.05)


def test_contact_error_measures_metres():
    ideal = foot_contact_error(standing(), fps=30)
    assert (ideal.penetration_m, ideal.float_m, ideal.slide_m_s) == (0.0, 0.0, 0.0)
    high = standing() + np.array([0.0, 0.2, 0.0])
    assert ground_height(high) == pytest.approx(0.2)
    assert foot_contact_error(high, fps=30, ground_m=0.0).float_m == pytest.approx(0.2)
    assert foot_contact_error(high, fps=30, ground_m=0.0).reason == NO_CONTACT
    assert foot_contact_error(high, fps=30).float_m == 0.0
    assert foot_contact_error(high, fps=30, ground_m=0.5).penetration_m == pytest.approx(0.3)
    assert foot_contact_error(gliding([0.3, 0.0, 0.4]), fps=30).slide_m_s == pytest.approx(0.5)


@pytest.mark.parametrize("compute", [foot_skating_ratio, physical_foot_contact, foot_contact_error])
@pytest.mark.parametrize(
    ("joints", "fps", "text"),
    [
        (np.zeros((5, 22, 3)), 30, r"\(5, 22, 3\).*\(T, 24, 3\)"),
        (np.zeros((0, 24, 3)), 30, "at least"),
        (np.zeros((1, 24, 3)), 30, "at least"),
        (np.full((5, 24, 3), np.inf), 30, "not finite"),
        (np.zeros((5, 24, 3)), -1, "fps"),
    ],
)
def test_malformed_input_is_refused(compute, joints, fps, text):
    with pytest.raises(ValueError, match=text):
        compute(joints, fps=fps)


def test_unknown_variants_suggest():
    with pytest.raises(UnknownNameError, match="lodge"):
        foot_skating_ratio(standing(), fps=30, variant="lodg")
    with pytest.raises(UnknownNameError, match="edge"):
        physical_foot_contact(standing(), fps=30, variant="edg")
