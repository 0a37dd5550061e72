import json
from pathlib import Path

import numpy as np
import pytest

from macebench import registry
from macebench.errors import Unscorable, UserError
from macebench.metrics import motion2d
from macebench.metrics._beat_columns import whole_frames
from macebench.metrics.diversity import diversity
from macebench.metrics.frechet import frechet_distance
from macebench.protocol import load_protocol
from macebench.types import Beats, Clip, Evidence, FeatureSet, Missing, PoseTrack

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PARITY = SHARED / "golden" / "parity"
needs_shared = pytest.mark.skipif(not PARITY.is_dir(), reason="needs ../shared/golden/parity")
FIXED, PAPER = load_protocol("ma2d-fixed/1"), load_protocol("ma2d-paper/1")
SET_METRICS = ("fid_k", "fid_g", "div_k", "div_g")
REST = np.array(
    [[0, 60], [3, 63], [-3, 63], [6, 61], [-6, 61], [16, 44], [-16, 44], [22, 20], [-22, 20], [24, 0], [-24, 0],
     [9, 0], [-9, 0], [10, -30], [-10, -30], [11, -60], [-11, -60]], dtype=float,
)  # fmt: skip


def dancer(seed=0, n_frames=150, fps=30.0, start=0.0, beat_s=0.5):
    """A figure whose limbs slow down every `beat_s` seconds, first at 0.25 s."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_frames) / fps
    way = t - 0.9 * np.sin(2 * np.pi * (t - 0.25) / beat_s) * beat_s / (2 * np.pi)
    limb = np.array([1, 1, 1, 1, 1, 1, 1, 8, 8, 16, 16, 1, 1, 8, 8, 14, 14])
    size, speed, phase = rng.uniform(0.5, 1.5, (17, 2)), rng.uniform(2, 6, (17, 2)), rng.uniform(0, 6, (17, 2))
    swing = limb[:, None] * size * np.sin(speed * way[:, None, None] + phase)
    return PoseTrack(
        np.array([200.0, 200.0]) + REST * [1, -1] + swing, np.full((n_frames, 17), 0.9), start + t, 400, 400
    )


def clip_of(pose, music=None, duration=5.0):
    beats = Beats(np.arange(0.25, duration, 0.5), duration) if music is None else music
    return Evidence(Clip("a", Path("a.mp4"), "0" * 64), duration, pose, beats, Missing("no picture"))


def scores(pose, protocol=FIXED, **options):
    return motion2d.bas(clip_of(pose, **options), protocol)


@pytest.mark.parametrize("name", ["bas", *SET_METRICS])
def test_registered_under_their_names(name):
    found = registry.get_metric(name)
    assert found.name == name
    assert found.columns[0].name == name
    assert "pose" in found.needs


def test_features_are_registered():
    assert registry.get_feature("kinetic_2d").compute is motion2d.kinetic_2d
    assert registry.get_feature("geometric_2d").compute is motion2d.geometric_2d


@pytest.mark.parametrize(("protocol", "kinetic"), [(FIXED, 51), (PAPER, 75)])
def test_features_have_their_sizes(protocol, kinetic):
    evidence = clip_of(dancer())
    assert motion2d.kinetic_2d(evidence, protocol).shape == (kinetic,)
    assert motion2d.geometric_2d(evidence, protocol).shape == (32,)


def parity_track(points, fps=16.0):
    """What easy_ViTPose would have emitted: (y, x)."""
    times = np.arange(len(points)) / fps
    return PoseTrack(points[..., ::-1], np.ones(points.shape[:2]), times, 1000, 1000, "coco25")


@needs_shared
def test_paper_protocol_end_to_end_on_golden_clips():
    golden = json.loads((PARITY / "metrics_synthetic.json").read_text())
    data = np.load(PARITY / "metrics_synthetic.npz")
    music = Beats(np.flatnonzero(np.arange(64) % 8 == 3) / 16 + 0.01, 4.0)
    evidence = [clip_of(parity_track(points[..., :2]), music) for points in data["in_kp2d"]]
    kinetic = np.array([motion2d.kinetic_2d(item, PAPER) for item in evidence])
    geometric = np.array([motion2d.geometric_2d(item, PAPER) for item in evidence])
    np.testing.assert_array_equal(np.float32(kinetic), data["mace2d_kinetic75"])
    np.testing.assert_array_equal(np.float32(geometric), data["mace2d_geometric32"])
    for item, beats, wanted in zip(
        evidence, golden["per_clip"]["dance_beats_2d"], golden["per_clip"]["bas_2d"], strict=True
    ):
        assert motion2d.bas(item, PAPER)["bas"] == pytest.approx(wanted, rel=1e-4)
        np.testing.assert_allclose(motion2d.motion_beat_times(item, PAPER) * 16, beats, atol=1e-9)
    for family, values in (("k", kinetic), ("g", geometric)):
        aggregate = golden["aggregate"][f"mace2d_{family}"]
        generated, reference = FeatureSet(values[1::2]), FeatureSet(values[0::2])
        fid = getattr(motion2d, f"fid_{family}")(generated, reference, PAPER)
        div = getattr(motion2d, f"div_{family}")(generated, reference, PAPER)
        assert fid[f"fid_{family}"] == pytest.approx(aggregate["fid"], rel=1e-4)
        small = len(generated) < values.shape[1]
        assert fid.get("note") == (f"n {len(generated)} below {values.shape[1]} features: biased" if small else None)
        assert div == {f"div_{family}": pytest.approx(aggregate["div_pred"], rel=1e-4)}


@needs_shared
def test_paper_protocol_counts_a_dance_without_beats_as_zero():
    """Clip 14 of the real ones has no dance beat: the released 2-D code says 0, and so do we, with a note."""
    joints = np.load(PARITY / "aist_clips_joints_DATA.npz")["joints"].astype(np.float64)[14]
    columns = [15, 15, 15, 15, 15, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8, 15, 12, 10, 10, 7, 11, 11, 8]
    points = np.stack([300 + 200 * joints[:, columns, 0], 600 - 200 * joints[:, columns, 1]], axis=-1)
    protocol = PAPER.model_copy(update={"sampling": PAPER.sampling.model_copy(update={"min_frames": 60})})
    found = scores(parity_track(points), protocol, music=Beats(np.array([0.5, 1.0]), 3.75))
    assert found["bas"] == 0.0
    assert found["note"] == "no motion beats"


def test_dance_on_the_beat_is_far_from_chance():
    for protocol, least in ((FIXED, 0.5), (PAPER, 0.2)):
        found = scores(dancer(), protocol)
        assert found["bas"] > found["bas_null"]
        assert found["bas_corrected"] > least
        assert "note" not in found
    assert scores(dancer())["beat_f"] > 0.8


def test_columns_are_those_that_are_registered():
    found = scores(dancer())
    assert sorted(found) == sorted(column.name for column in motion2d.BEAT_COLUMNS)


def test_half_a_beat_off_is_worse_than_chance():
    late = Beats(np.arange(0.0, 5.0, 0.5), 5.0)
    assert scores(dancer(), music=late)["bas_corrected"] < -0.1


def test_the_clips_clock_counts():
    """A picture that starts late against music that does not, and both late."""
    music = Beats(np.arange(0.25, 5.0, 0.5) + 0.2, 6.0)
    together = scores(dancer(start=0.2), music=music)
    assert together["bas"] == pytest.approx(scores(dancer())["bas"], abs=0.02)
    assert scores(dancer(start=0.45), music=music)["bas_corrected"] < 0
    evidence = clip_of(dancer(start=0.23), music)
    times, speed = motion2d.speed_curve(evidence, FIXED)
    assert len(times) == len(speed) == 74
    assert times[0] == pytest.approx(0.23 + 0.5 / 15)
    assert np.isin(np.round(motion2d.motion_beat_times(evidence, FIXED), 6), np.round(times, 6)).all()


def test_frozen_clip_stays_in_the_mean():
    still = dancer()
    still = still.replace(keypoints=np.repeat(still.keypoints[:1], 150, axis=0))
    found = scores(still)
    assert found["note"] == "no motion beats"
    assert {found[name] for name in ("bas", "bas_null", "bas_corrected", "bas_z", "beat_f")} == {0.0}
    assert not motion2d.kinetic_2d(clip_of(still), FIXED).any()


def test_no_pose_no_music_no_beats_are_reasons():
    with pytest.raises(Unscorable, match=r"^no person$"):
        motion2d.kinetic_2d(clip_of(Missing("no person")), FIXED)
    with pytest.raises(Unscorable, match=r"^no music$"):
        scores(dancer(), music=Missing("no music"))
    with pytest.raises(Unscorable, match=r"^no music beats$"):
        scores(dancer(), music=Beats(np.empty(0), 5.0))
    with pytest.raises(Unscorable, match=r"^no music beats$"):
        scores(dancer(), music=Beats(np.array([5.2]), 6.0))
    with pytest.raises(Unscorable, match=r"^too short$"):
        scores(dancer(n_frames=2))


def test_a_joint_that_is_never_seen_unscores_features_not_beats():
    hidden = dancer()
    points, trust = hidden.keypoints.copy(), hidden.confidence.copy()
    points[:, 16], trust[:, 16] = np.nan, 0
    hidden = hidden.replace(keypoints=points, confidence=trust)
    for compute in (motion2d.kinetic_2d, motion2d.geometric_2d):
        with pytest.raises(Unscorable, match=r"^a joint is never visible$"):
            compute(clip_of(hidden), FIXED)
    assert scores(hidden)["bas_corrected"] > 0.5


def test_assumed_frame_rate_replaces_the_true_one():
    """The square of a velocity grows with the square of the rate that is assumed."""
    rules = FIXED.features.model_copy(update={"assumed_fps": 16.0})
    assumed = motion2d.kinetic_2d(clip_of(dancer()), FIXED.model_copy(update={"features": rules}))
    true = motion2d.kinetic_2d(clip_of(dancer()), FIXED)
    np.testing.assert_allclose(assumed, true * (16 / 15) ** 2, rtol=1e-9)


def test_quantised_beats_are_whole_frames_once_each():
    heard = np.array([0.0, 0.0624, 0.0626, 0.11, 3 / 16, 3.99, 4.01])
    found = whole_frames(heard, PAPER.beats.quantise_fps)
    np.testing.assert_allclose(found * 16, [0, 1, 3, 63, 64])
    np.testing.assert_array_equal(whole_frames(heard, FIXED.beats.quantise_fps), heard)


def feature_sets(n=30, seed=0):
    rng = np.random.default_rng(seed)
    return FeatureSet(rng.normal(0.3, 1, (n, 6))), FeatureSet(rng.normal(0, 1, (n, 6)))


@pytest.mark.parametrize("protocol", [FIXED, PAPER])
def test_set_metrics_follow_the_normaliser(protocol):
    generated, reference = feature_sets()
    rules = protocol.normaliser
    options = {"normalise": rules.mode, "eps": rules.eps, "ddof": rules.ddof, "drop_below": rules.drop_below}
    fid = frechet_distance(generated.values, reference.values, **options).value
    div = diversity(generated.values, reference=reference.values, **options)
    assert motion2d.fid_k(generated, reference, protocol) == {"fid_k": fid}
    assert motion2d.div_g(generated, reference, protocol) == {"div_g": div}


@pytest.mark.parametrize("name", SET_METRICS)
def test_dropped_columns_are_noted(name):
    generated, reference = feature_sets()
    values = reference.values.copy()
    values[:, [1, 4]] = 7.0
    found = getattr(motion2d, name)(generated, FeatureSet(values), FIXED)
    assert found["note"] == "2 of 6 features constant in the reference, left out"
    assert "note" not in getattr(motion2d, name)(generated, FeatureSet(values), PAPER)
    plain = FIXED.model_copy(update={"normaliser": FIXED.normaliser.model_copy(update={"mode": "none"})})
    assert "note" not in getattr(motion2d, name)(generated, FeatureSet(values), plain)


@pytest.mark.parametrize("name", SET_METRICS)
def test_a_reference_without_variation_is_a_reason(name):
    generated, _ = feature_sets()
    with pytest.raises(Unscorable, match="constant in the reference"):
        getattr(motion2d, name)(generated, FeatureSet(np.ones((5, 6))), FIXED)


def test_a_protocol_without_the_section_says_so():
    bare = FIXED.model_copy(update={"beats": None, "normaliser": None, "features": None})
    with pytest.raises(UserError, match="beats"):
        scores(dancer(), bare)
    with pytest.raises(UserError, match="normaliser"):
        motion2d.fid_k(*feature_sets(), bare)
    with pytest.raises(UserError, match="features"):
        motion2d.kinetic_2d(clip_of(dancer()), bare)


def test_degraded_dances_are_farther_than_the_split_half():
    """Jitter, half speed and freezing move the fixed Fréchet distance up, as a benchmark needs."""
    tracks = [dancer(seed, beat_s=0.4 + 0.02 * (seed % 8)) for seed in range(48)]
    rng = np.random.default_rng(0)

    def features(change):
        values = [motion2d.kinetic_2d(clip_of(change(track)), FIXED) for track in tracks[:24]]
        return FeatureSet(np.array(values))

    def slow(track):
        points = track.keypoints[np.arange(150) // 2]
        return track.replace(keypoints=points)

    reference = FeatureSet(np.array([motion2d.kinetic_2d(clip_of(track), FIXED) for track in tracks[24:]]))

    def distance(change):
        return motion2d.fid_k(features(change), reference, FIXED)["fid_k"]

    same = distance(lambda track: track)
    noisy = distance(lambda track: track.replace(keypoints=track.keypoints + rng.normal(0, 1.3, (150, 17, 2))))
    frozen = distance(lambda track: track.replace(keypoints=np.repeat(track.keypoints[:1], 150, axis=0)))
    assert same < 0.8 * min(noisy, frozen, distance(slow))


def test_order_of_clips_does_not_matter():
    generated, reference = feature_sets()
    order = np.random.default_rng(3).permutation(30)
    for name in SET_METRICS:
        first = getattr(motion2d, name)(generated, reference, FIXED)[name]
        mixed = getattr(motion2d, name)(FeatureSet(generated.values[order]), reference, FIXED)[name]
        assert mixed == pytest.approx(first, rel=1e-9)
