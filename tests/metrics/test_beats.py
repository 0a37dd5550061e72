import doctest
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.demo.choreography import choreograph
from macebench.demo.music import GENRES, compose
from macebench.errors import UnknownNameError, Unscorable
from macebench.metrics import beats
from macebench.metrics.beats import beat_alignment, beat_report, motion_beats, music_beats, speed_curve

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PARITY = SHARED / "golden" / "parity"
VBENCH = SHARED / "golden" / "vbench"
needs_shared = pytest.mark.skipif(not PARITY.is_dir(), reason="needs ../shared/golden")
AIST_COLUMNS = [15, 15, 15, 15, 15, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8, 15, 12, 10, 10, 7, 11, 11, 8]


def dance(beat_times, duration_s, fps, joints=17, dip=0.9):
    """(T, J, 2): a body of size 2 that slows down at each beat."""
    fine = np.arange(0, duration_s, 1 / 960)
    near = np.min(np.abs(fine[:, None] - np.asarray(beat_times)[None]), axis=1)
    way = np.cumsum(1 - dip * np.exp(-((near / 0.08) ** 2))) / 960
    t = np.arange(int(duration_s * fps)) / fps
    along = np.interp(t, fine, way)
    rest = np.stack([np.linspace(-0.5, 0.5, joints), np.linspace(0, 2, joints)], axis=1)
    return rest[None] + np.stack([along, np.zeros_like(along)], axis=1)[:, None]


def golden_clips(name):
    scores = json.loads((PARITY / f"{name}.json").read_text())["per_clip"]
    if name == "metrics_synthetic":
        clips = np.load(PARITY / f"{name}.npz")["in_kp2d"][..., :2]
    else:
        joints = np.load(PARITY / "aist_clips_joints_DATA.npz")["joints"].astype(np.float64)[:, :, AIST_COLUMNS]
        clips = np.stack([300 + 200 * joints[..., 0], 600 - 200 * joints[..., 1]], axis=-1)
    return clips, scores


@needs_shared
@pytest.mark.parametrize("name", ["metrics_synthetic", "metrics_aist_clips"])
def test_released_2d_beats_and_scores(name):
    clips, golden = golden_clips(name)
    music = np.flatnonzero(np.arange(len(clips[0])) % 8 == 3) / 16
    for clip, wanted_beats, wanted in zip(clips, golden["dance_beats_2d"], golden["bas_2d"], strict=True):
        found = motion_beats(clip, fps=16, smoothing_s=3.5 / 16, variant="mace2d")
        np.testing.assert_allclose(found * 16, wanted_beats, atol=1e-9)
        assert beat_alignment(music, found, sigma_s=3 / 16) == pytest.approx(wanted, rel=1e-4, abs=1e-12)


@needs_shared
def test_lodge_and_bailando_agree_in_three_dimensions():
    golden = json.loads((VBENCH / "motion_scores.json").read_text())["bas"]
    clips = np.load(VBENCH / "motions.npz")["pred"].astype(np.float64)
    music = np.array(golden["music_beats"]) / 30
    for clip, wanted_beats, wanted in zip(clips, golden["motion_beats"], golden["per_clip"], strict=True):
        found = motion_beats(clip, fps=30, smoothing_s=5 / 30, variant="mace2d")
        np.testing.assert_allclose(found * 30, wanted_beats, atol=1e-9)
        assert beat_alignment(music, found, sigma_s=3 / 30) == pytest.approx(wanted, rel=1e-6)


@needs_shared
def test_released_music_beats():
    import librosa

    data = np.load(PARITY / "music_features.npz")
    sound = librosa.resample(data["signal"], orig_sr=15360, target_sr=8320)
    found = music_beats(sound, 8320, variant="mace2d")
    np.testing.assert_array_equal((found * 16).astype(int), data["beat_video_index_16fps"])


@needs_shared
@pytest.mark.parametrize("rate", [15360, 22050])
def test_music_beats_of_the_3d_codes(rate):
    """The beat column of EDGE's features and the beats of LODGE, frame by frame at 30 a second."""
    import librosa

    data = np.load(PARITY / "music_features.npz")
    sound = data["signal"] if rate == 15360 else librosa.resample(data["signal"], orig_sr=15360, target_sr=rate)
    edge = music_beats(sound, rate, variant="edge")
    np.testing.assert_array_equal(np.round(edge * 30, 9), np.flatnonzero(data["features35"][:, 34]))
    lodge = music_beats(sound, rate, variant="lodge")
    np.testing.assert_array_equal(np.round(lodge * 30, 9), data["lodge_beats"])


@needs_shared
def test_start_tempo_of_the_3d_codes(monkeypatch):
    import librosa.beat

    data = np.load(PARITY / "music_features.npz")
    golden = json.loads((PARITY / "music_features.json").read_text())
    given = []
    whole = librosa.beat.beat_track
    monkeypatch.setattr(
        librosa.beat, "beat_track", lambda **options: given.append(options["start_bpm"]) or whole(**options)
    )
    for variant in ("edge", "lodge"):
        music_beats(data["signal"], 15360, variant=variant)
    assert given == pytest.approx([golden["start_bpm_from_audio"], golden["lodge_start_bpm"]], rel=1e-6)


@pytest.mark.parametrize(("variant", "rate"), [("edge", 22050), ("lodge", 15360), ("bailando", 30720)])
def test_published_trackers_find_clicks_on_whole_frames(click_track, variant, rate):
    import librosa

    sound = librosa.resample(click_track(8.0, 120), orig_sr=22050, target_sr=rate)
    found = music_beats(sound, rate, variant=variant)
    frames = found * (60 if variant == "bailando" else 30)
    np.testing.assert_allclose(frames, np.round(frames), atol=1e-9)
    assert beat_report(np.arange(0.1, 8.0, 0.5), found, 8.0, sigma_s=0.1).f_score >= 0.9


def test_a_sound_that_becomes_too_short_has_no_beats():
    assert music_beats(np.sin(np.arange(3000.0)), 30720, variant="edge").shape == (0,)


@pytest.mark.parametrize("bpm", [90, 120, 140])
def test_librosa_finds_clicks(click_track, bpm):
    found = music_beats(click_track(8.0, bpm), 22050)
    true = np.arange(0.1, 8.0, 60 / bpm)
    report = beat_report(true, found, 8.0, sigma_s=0.1)
    assert report.f_score >= 0.9
    assert np.all(np.diff(found) > 0)


@pytest.mark.parametrize("variant", beats.MUSIC_VARIANTS)
@pytest.mark.parametrize("sound", [np.zeros(0), np.zeros(500), np.ones(100), np.zeros(44100)])
def test_silence_has_no_beats(variant, sound):
    assert music_beats(sound, 8320, variant=variant).shape == (0,)


@pytest.mark.parametrize(
    ("sound", "rate", "text"),
    [
        (np.zeros((2, 9000)), 22050, r"\(2, 9000\)"),
        (np.full(9000, np.nan), 22050, "finite"),
        (np.zeros(9000), 0, "rate"),
    ],
)
def test_malformed_sound(sound, rate, text):
    with pytest.raises(ValueError, match=text):
        music_beats(sound, rate)


@pytest.mark.parametrize("fps", [15.0, 24.0, 30.0, 60.0])
def test_fixed_finds_the_dips_in_seconds(fps):
    true = np.array([0.63, 1.11, 1.7, 2.4, 3.1, 3.52, 4.2])
    found = motion_beats(dance(true, 5.0, fps), fps=fps, smoothing_s=1 / 12)
    np.testing.assert_allclose(found, true, atol=0.5 / fps + 1e-3)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-2, 1e4), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 50))
def test_place_size_mirror_and_order_of_joints_do_not_matter(scale, shift, seed):
    rng = np.random.default_rng(seed)
    clip = dance(np.cumsum(rng.uniform(0.3, 0.8, 8)), 5.0, 15.0) + rng.normal(0, 0.004, (75, 17, 2))
    first = motion_beats(clip, fps=15, smoothing_s=1 / 12)
    for other in (clip * scale, clip + shift, clip * [-1, 1], rng.permutation(clip, axis=1)):
        np.testing.assert_allclose(motion_beats(other, fps=15, smoothing_s=1 / 12), first, atol=1e-9)


def test_time_reversal_mirrors_the_beats():
    clip = dance([0.63, 1.7, 2.4, 3.52], 5.0, 30.0)
    first = motion_beats(clip, fps=30, smoothing_s=1 / 12)
    second = motion_beats(clip[::-1], fps=30, smoothing_s=1 / 12)
    np.testing.assert_allclose(second, np.sort((len(clip) - 1) / 30 - first), atol=1e-9)


def still_dancer(noise, n=150, seed=0):
    rest = np.stack([np.linspace(-0.3, 0.3, 17), np.linspace(0, 1.7, 17)], axis=1)
    return rest + np.random.default_rng(seed).normal(0, noise, (n, 17, 2))


def test_jitter_of_a_pose_estimator_is_no_dance():
    """3 mm of noise on a person of 1.7 m: the released rule sees two beats a second, the fixed one none."""
    for seed in range(5):
        clip = still_dancer(0.003, seed=seed)
        assert len(motion_beats(clip, fps=15, smoothing_s=1 / 12, variant="mace2d")) > 10
        assert len(motion_beats(clip, fps=15, smoothing_s=1 / 12)) == 0


def test_jitter_does_not_hide_or_add_beats_of_a_dance():
    true = np.arange(0.5, 9.6, 0.5)
    clip = dance(true, 10.0, 15.0) + np.random.default_rng(1).normal(0, 0.003, (150, 17, 2))
    found = motion_beats(clip, fps=15, smoothing_s=1 / 12)
    assert len(found) == len(true)
    np.testing.assert_allclose(found, true, atol=0.07)


def test_frozen_dancer_has_no_beats():
    for variant in beats.MOTION_VARIANTS:
        assert motion_beats(np.ones((60, 17, 2)), fps=15, smoothing_s=0.1, variant=variant).shape == (0,)


def test_a_joint_that_comes_and_goes_makes_no_beat():
    """One wrist is fast; where it is missing the mean over the others would dip."""
    t = np.arange(75) / 15
    clip = np.ones((75, 17, 2)) * np.arange(17)[None, :, None] * 0.1
    clip[..., 0] += t[:, None] * 1.0
    clip[:, 9, 0] += t * 20.0
    clip[20:30, 9] = np.nan
    assert len(motion_beats(clip, fps=15, smoothing_s=1 / 12)) == 0
    speed = speed_curve(clip, fps=15, smoothing_s=0.0)[1]
    np.testing.assert_allclose(speed, speed[0], rtol=1e-9)


def test_speed_curve_has_times_and_units():
    clip = np.zeros((31, 4, 3))
    clip[:, :, 2] = np.arange(31)[:, None] * 0.1
    times, speed = speed_curve(clip, fps=30, smoothing_s=0.1)
    np.testing.assert_allclose(speed, 3.0)
    np.testing.assert_allclose(times, (np.arange(30) + 0.5) / 30)
    assert speed_curve(clip, fps=30, smoothing_s=0.1, variant="mace2d")[0][0] == 0.0
    assert not speed_curve(np.full((5, 3, 2), np.nan), fps=30, smoothing_s=0.1)[1].any()


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("variant", beats.MOTION_VARIANTS)
def test_too_short(n, variant):
    with pytest.raises(Unscorable, match=r"^too short$"):
        motion_beats(np.zeros((n, 17, 2)), fps=15, smoothing_s=0.1, variant=variant)


@pytest.mark.parametrize(
    ("positions", "options", "text"),
    [
        (np.zeros((9, 17)), {}, r"\(9, 17\)"),
        (np.zeros((9, 0, 2)), {}, r"\(9, 0, 2\)"),
        (np.full((9, 3, 2), np.inf), {}, "finite"),
        (np.full((9, 3, 2), np.nan), {"variant": "mace2d"}, "finite"),
        (np.zeros((9, 3, 2)), {"fps": 0}, "fps"),
        (np.zeros((9, 3, 2)), {"smoothing_s": -1}, "smoothing"),
    ],
)
def test_malformed_motion(positions, options, text):
    with pytest.raises(ValueError, match=text):
        motion_beats(positions, **({"fps": 15, "smoothing_s": 0.1} | options))


def test_unknown_names_suggest():
    with pytest.raises(UnknownNameError, match="librosa"):
        music_beats(np.zeros(9000), 22050, variant="librsa")
    with pytest.raises(UnknownNameError, match="fixed"):
        motion_beats(np.zeros((9, 3, 2)), fps=15, smoothing_s=0.1, variant="fixd")
    with pytest.raises(UnknownNameError, match="music_to_motion"):
        beat_alignment(np.ones(1), np.ones(1), sigma_s=0.1, direction="music_to_dance")


def plain_alignment(music, motion, sigma):
    return np.mean([np.exp(-min((d - b) ** 2 for d in motion) / (2 * sigma**2)) for b in music])


@settings(max_examples=50, deadline=None)
@given(
    music=st.lists(st.floats(0, 20), min_size=1, max_size=20),
    motion=st.lists(st.floats(0, 20), min_size=1, max_size=20),
    shift=st.floats(-50, 50),
)
def test_alignment_is_the_plain_sum(music, motion, shift):
    music, motion = np.array(music), np.array(motion)
    value = beat_alignment(music, motion, sigma_s=0.1)
    assert 0 <= value <= 1
    assert value == pytest.approx(plain_alignment(music, motion, 0.1), rel=1e-9, abs=1e-12)
    other = beat_alignment(music, motion, sigma_s=0.1, direction="motion_to_music")
    assert other == pytest.approx(plain_alignment(motion, music, 0.1), rel=1e-9, abs=1e-12)
    moved = beat_alignment(music[::-1] + shift, motion[::-1] + shift, sigma_s=0.1)
    assert moved == pytest.approx(value, abs=1e-9)
    assert beat_alignment(music * 3, motion * 3, sigma_s=0.3) == pytest.approx(value, abs=1e-9)


def test_golden_of_the_closed_form_motion():
    """Motion beats 32, 62, 92, 122 against music every 15 of 150 frames, three frames wide."""
    music, motion = np.arange(0, 150, 15) / 30, np.array([32, 62, 92, 122]) / 30
    assert beat_alignment(music, motion, sigma_s=0.1) == pytest.approx(0.3203284312, abs=1e-9)
    assert beat_alignment(music, motion, sigma_s=0.1, direction="motion_to_music") == pytest.approx(
        0.8007374029, abs=1e-9
    )


def test_no_beats():
    with pytest.raises(Unscorable, match=r"^no music beats$"):
        beat_alignment(np.empty(0), np.ones(3), sigma_s=0.1)
    with pytest.raises(Unscorable, match=r"^no music beats$"):
        beat_report(np.empty(0), np.ones(3), 5.0, sigma_s=0.1)
    with pytest.raises(Unscorable, match=r"^no music beats$"):
        beat_report(np.array([5.0, 7.0, -1.0]), np.ones(3), 5.0, sigma_s=0.1)
    assert beat_alignment(np.ones(3), np.empty(0), sigma_s=0.1) == 0.0
    report = beat_report(np.ones(3), np.empty(0), 5.0, sigma_s=0.1)
    assert report.note == "no motion beats"
    assert (report.raw, report.null, report.corrected, report.z) == (0, 0, 0, 0)
    assert (report.precision, report.recall, report.f_score) == (0, 0, 0)
    assert np.isnan(report.best_lag_s)


@pytest.mark.parametrize(
    ("music", "motion", "duration", "sigma", "text"),
    [
        (np.ones((2, 2)), np.ones(2), 5, 0.1, r"\(2, 2\)"),
        (np.array([np.nan]), np.ones(2), 5, 0.1, "finite"),
        (np.ones(2), np.ones(2), 5, 0.0, "sigma_s"),
        (np.ones(2), np.ones(2), 0, 0.1, "duration_s"),
    ],
)
def test_malformed_beats(music, motion, duration, sigma, text):
    with pytest.raises(ValueError, match=text):
        beat_report(music, motion, duration, sigma_s=sigma)


@pytest.mark.parametrize("frames", [14, 33, 35, 37])
def test_chance_level_of_published_scores(frames):
    """One motion beat every S frames gives sqrt(18 pi) / S by chance, three frames wide: 0.20 to 0.23 and 0.53."""
    fps, duration = 30.0, 100 * frames / 30.0
    motion = (np.arange(100) + 0.5) * frames / fps
    music = np.sort(np.random.default_rng(frames).uniform(0, duration, 400))
    report = beat_report(music, motion, duration, sigma_s=3 / fps)
    assert report.null == pytest.approx(np.sqrt(18 * np.pi) / frames, rel=0.02)


def test_on_every_beat_wrong_music_and_every_second_beat():
    music = np.arange(0.3, 20, 0.5)
    on = beat_report(music, music, 20.0, sigma_s=0.1)
    assert on.raw == 1.0
    assert on.corrected == pytest.approx(1.0)
    assert on.null == pytest.approx(np.sqrt(2 * np.pi) * 0.1 / 0.5, abs=0.02)
    assert (on.precision, on.recall, on.f_score, on.best_lag_s) == (1, 1, 1, 0)
    second = beat_report(music, music[::2], 20.0, sigma_s=0.1)
    assert second.corrected > 0.25
    assert second.z > 1
    assert (second.precision, second.recall) == (1.0, 0.5)
    rng = np.random.default_rng(0)
    wrong = [
        beat_report(np.arange(rng.uniform(0, 0.6), 20, rng.uniform(0.4, 0.8)), music, 20.0, sigma_s=0.1).corrected
        for _ in range(100)
    ]
    assert abs(np.mean(wrong)) < 3 * np.std(wrong) / 10
    off = beat_report(music + 0.25, music, 20.0, sigma_s=0.1)
    assert off.corrected < -0.2


def test_null_is_the_mean_over_all_shifts():
    music, motion = np.array([0.2, 0.9, 1.0, 2.2]), np.array([0.5, 1.7, 2.4])
    report = beat_report(music, motion, 3.0, sigma_s=0.1)
    shifts = np.arange(0, 3.0, 1e-3)
    scores = [plain_alignment((music + s) % 3.0, motion, 0.1) for s in shifts]
    assert report.null == pytest.approx(np.mean(scores), abs=1e-3)
    assert report.corrected == pytest.approx((report.raw - report.null) / (1 - report.null))
    assert report.z == pytest.approx((report.raw - np.mean(scores)) / np.std(scores), abs=0.02)
    backwards = beat_report(music, motion, 3.0, sigma_s=0.1, direction="motion_to_music")
    assert backwards.raw == pytest.approx(plain_alignment(motion, music, 0.1))


@pytest.mark.parametrize("lag", [-0.3, -0.1, 0.0, 0.14])
def test_lag_curve_finds_a_late_dance(lag):
    music = np.cumsum(np.random.default_rng(2).uniform(0.4, 0.9, 20)) + 0.5
    report = beat_report(music, music + lag, 20.0, sigma_s=0.1)
    assert report.best_lag_s == pytest.approx(lag, abs=0.011)
    assert report.lag_curve.shape == (51, 2)
    np.testing.assert_allclose(report.lag_curve[[0, 25, -1], 0], [-0.5, 0, 0.5], atol=1e-12)
    assert report.lag_curve[25, 1] == pytest.approx(report.raw)
    assert report.lag_curve[:, 1].max() == pytest.approx(1.0, abs=0.01)


def test_a_match_is_one_to_one():
    report = beat_report(np.array([1.0, 2.0]), np.array([0.95, 1.0, 1.05, 2.5]), 3.0, sigma_s=0.1)
    assert (report.precision, report.recall) == (0.25, 0.5)
    edge = beat_report(np.array([1.0]), np.array([1.06]), 3.0, sigma_s=0.1)
    assert edge.f_score == 1.0
    assert beat_report(np.array([1.0]), np.array([1.08]), 3.0, sigma_s=0.1).f_score == 0.0


def test_examples():
    assert doctest.testmod(beats).failed == 0
    assert doctest.testmod(beats).attempted > 0


@pytest.mark.parametrize("direction", ["music_to_motion", "motion_to_music"])
@pytest.mark.parametrize("duration_s", [3.0, 61.7])
def test_the_null_in_blocks_has_the_bytes_of_the_null_at_once(direction, duration_s):
    heard, danced = (
        np.sort(np.random.default_rng(seed).uniform(0, duration_s, round(2 * duration_s))) for seed in (3, 4)
    )
    found = beats._null_scores(heard, danced, duration_s, 0.1, direction)
    shifts = np.arange(len(found)) * (duration_s / len(found))
    at_once = beats._scores((heard + shifts[:, None]) % duration_s, danced, 0.1, direction)
    assert found.tobytes() == at_once.tobytes()


def test_the_null_of_a_long_clip_needs_little_memory():
    import tracemalloc

    heard = danced = np.arange(0, 900, 0.5)
    tracemalloc.start()
    try:
        beats._null_scores(heard, danced, 900.0, 0.1, "music_to_motion")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_published_and_mace2d_are_one_rule():
    clip = dance([0.63, 1.7, 2.4, 3.52], 5.0, 30.0)
    both = [motion_beats(clip, fps=30, smoothing_s=1 / 6, variant=name) for name in ("published", "mace2d")]
    np.testing.assert_array_equal(*both)


def test_beats_beyond_the_end_are_misses_when_kept():
    music, motion = np.array([0.5, 1.0, 1.5, 2.5, 3.0]), np.array([0.5, 1.1, 1.5])
    cut, kept = (beat_report(music, motion, 2.0, sigma_s=0.05, keep_beyond=keep) for keep in (False, True))
    assert kept.raw == pytest.approx(cut.raw * 3 / 5, abs=1e-9)
    assert kept.null == pytest.approx(cut.null * 3 / 5, abs=1e-9)
    assert (cut.recall, kept.recall) == (2 / 3, 2 / 5)
    assert cut.precision == kept.precision == 2 / 3
    back = beat_report(music, motion, 2.0, sigma_s=0.05, direction="motion_to_music", keep_beyond=True)
    assert back.raw == pytest.approx(plain_alignment(motion, music, 0.05))


@pytest.fixture(scope="module")
def pieces():
    """Twelve pieces of the demo's music: (true beats, tracked beats, seed, genre), 12 s each."""
    made = []
    for seed in range(12):
        genre = sorted(GENRES)[seed % 6]
        piece = compose(genre, 12.0, seed, sample_rate=22050)
        made.append((piece.beats_s, music_beats(piece.samples, 22050), seed, genre))
    return made


@pytest.mark.slow
def test_true_beats_of_the_demo_are_found(pieces):
    scores = [beat_report(true, found, 12.0, sigma_s=0.1).f_score for true, found, _, _ in pieces]
    assert np.median(scores) >= 0.9


@pytest.mark.slow
def test_a_dance_on_every_second_beat_is_far_from_chance_and_wrong_music_is_at_chance(pieces):
    danced = []
    for true, _, seed, genre in pieces:
        joints = choreograph(true[seed % 2 :: 2], 12.0, 30.0, seed, genre).motion.joints
        danced.append(motion_beats(joints, fps=30, smoothing_s=1 / 12))

    def corrected(turn):
        heard = [found for _, found, _, _ in pieces[turn:] + pieces[:turn]]
        scores = [beat_report(h, d, 12.0, sigma_s=0.1).corrected for h, d in zip(heard, danced, strict=True)]
        return np.mean(scores), np.std(scores, ddof=1) / np.sqrt(len(scores))

    right, right_error = corrected(0)
    assert right > 0.2
    assert right > 10 * right_error
    wrong, wrong_error = corrected(1)
    assert abs(wrong) <= wrong_error
    assert abs(np.mean([corrected(turn)[0] for turn in range(1, 12)])) < 0.02
