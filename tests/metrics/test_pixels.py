"""PSNR, SSIM, L1 and FVD against golden values, scikit-image, torchmetrics, and by their own properties."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench.errors import UnknownNameError, Unscorable
from macebench.metrics import pixels
from macebench.metrics._ssim import VARIANTS, grey
from macebench.metrics.frechet import frechet_distance
from macebench.protocol import load_protocol
from macebench.types import Clip, Evidence, FeatureSet, Missing

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "vbench"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="shared golden values are not here")
SSIM_COLUMNS = {
    "grey-uniform7": "ssim_gray_skimage_default",
    "rgb-uniform7": "ssim_rgb_skimage_default",
    "gaussian": "ssim_rgb_skimage_gaussian",
    "torchmetrics": "ssim_rgb_torchmetrics",
}
SIZES = [(11, 11), (12, 40), (33, 17), (64, 48), (97, 131)]


def noisy(height, width, seed=0, frames=1):
    """Frames, and the same ones with noise."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    second = np.clip(first + rng.integers(-40, 41, first.shape), 0, 255).astype(np.uint8)
    return first, second


@pytest.fixture(scope="module")
def golden_pairs():
    clips = np.load(GOLDEN / "clips.npz", allow_pickle=False)
    names = {pair["clip"] for pair in json.loads((GOLDEN / "image_scores.json").read_text())["pairs"]}
    frames = {name: clips[name] for name in names}
    pairs = json.loads((GOLDEN / "image_scores.json").read_text())["pairs"]
    return [(pair, frames[pair["clip"]][pair["i"]][None], frames[pair["clip"]][pair["j"]][None]) for pair in pairs]


@golden
def test_golden_differences(golden_pairs):
    for pair, first, second in golden_pairs:
        assert pixels.l1(first, second)[0] == pytest.approx(pair["l1"], abs=1e-9)
        wanted = pixels.PSNR_CAP_DB if pair["psnr_rgb"] is None else pair["psnr_rgb"]
        assert pixels.psnr(first, second)[0] == pytest.approx(wanted, abs=1e-9)


@golden
@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_ssim(golden_pairs, variant):
    for pair, first, second in golden_pairs:
        assert pixels.ssim(first, second, variant=variant)[0] == pytest.approx(pair[SSIM_COLUMNS[variant]], abs=1e-9)


@golden
def test_golden_frechet_of_pooled_frames():
    clips = np.load(GOLDEN / "clips.npz", allow_pickle=False)
    wanted = json.loads((GOLDEN / "image_scores.json").read_text())["frechet_pool48"]
    assert wanted
    for names, value in wanted.items():
        first, second = (pooled(clips[name]) for name in names.split("|"))
        assert frechet_distance(first, second, normalise="none").value == pytest.approx(value, rel=1e-6)


def pooled(frames):
    """(T, 48): means of a grid of 4 x 4 cells in [0, 1], as torch's adaptive pooling cuts them, channel by channel."""
    torch = pytest.importorskip("torch")
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 255
    return torch.nn.functional.adaptive_avg_pool2d(planes, 4).flatten(1).numpy()


@pytest.mark.parametrize("size", SIZES)
def test_equals_scikit_image(size):
    metrics = pytest.importorskip("skimage.metrics")
    (first,), (second,) = noisy(*size)
    theirs = {
        "grey-uniform7": metrics.structural_similarity(grey(first), grey(second)),
        "rgb-uniform7": metrics.structural_similarity(first, second, channel_axis=2),
        "gaussian": metrics.structural_similarity(
            first, second, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        ),
    }
    for variant, value in theirs.items():
        assert pixels.ssim(first[None], second[None], variant=variant)[0] == pytest.approx(value, abs=1e-9)
    wanted = metrics.peak_signal_noise_ratio(first, second)
    assert pixels.psnr(first[None], second[None])[0] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("size", [*SIZES, (6, 9)])
def test_equals_torchmetrics(size):
    torch = pytest.importorskip("torch")
    image = pytest.importorskip("torchmetrics.functional.image")
    first, second = noisy(*size, seed=1)
    ours, theirs = (torch.from_numpy(frames).permute(0, 3, 1, 2).double() for frames in (first, second))
    wanted = float(image.structural_similarity_index_measure(ours, theirs, data_range=255.0))
    assert pixels.ssim(first, second, variant="torchmetrics")[0] == pytest.approx(wanted, abs=1e-9)
    wanted = float(image.peak_signal_noise_ratio(ours, theirs, data_range=255.0))
    assert pixels.psnr(first, second)[0] == pytest.approx(wanted, abs=1e-6)


def test_grey_is_the_luma_that_opencv_makes():
    cv2 = pytest.importorskip("cv2")
    (picture,), _ = noisy(128, 128, seed=2)
    np.testing.assert_array_equal(grey(picture), cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))


@settings(max_examples=25, deadline=None)
@given(st.integers(11, 40), st.integers(11, 40), st.integers(0, 2**32 - 1), st.sampled_from(VARIANTS))
def test_bounds_symmetry_and_flips(height, width, seed, variant):
    first, second = noisy(height, width, seed)
    value = pixels.ssim(first, second, variant=variant)[0]
    assert -1 <= value <= 1 + 1e-12
    assert pixels.ssim(second, first, variant=variant)[0] == pytest.approx(value, abs=1e-12)
    for axis in (1, 2):
        ours, theirs = np.flip(first, axis), np.flip(second, axis)
        assert pixels.ssim(ours, theirs, variant=variant)[0] == pytest.approx(value, abs=1e-10)
        assert pixels.l1(ours, theirs)[0] == pixels.l1(first, second)[0]
        assert pixels.psnr(ours, theirs)[0] == pixels.psnr(first, second)[0]
    assert 0 <= pixels.l1(first, second)[0] <= 255
    assert 0 <= pixels.psnr(first, second)[0] <= pixels.PSNR_CAP_DB


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_frame_is_like_itself(variant):
    first, _ = noisy(31, 45)
    assert pixels.ssim(first, first, variant=variant)[0] == pytest.approx(1, abs=1e-12)
    assert pixels.l1(first, first)[0] == 0
    assert pixels.psnr(first, first)[0] == pixels.PSNR_CAP_DB


def test_more_noise_is_worse():
    rng = np.random.default_rng(3)
    first = rng.integers(60, 190, (1, 48, 48, 3), dtype=np.uint8)
    noise = rng.normal(size=first.shape)
    worse = [np.clip(first + noise * size, 0, 255).astype(np.uint8) for size in (2, 8, 32)]
    for score, sign in ((pixels.psnr, -1), (pixels.ssim, -1), (pixels.l1, 1)):
        values = [sign * score(first, frames)[0] for frames in worse]
        assert values == sorted(values)


def test_known_differences():
    black, white = np.zeros((2, 8, 8, 3), np.uint8), np.full((2, 8, 8, 3), 255, np.uint8)
    assert pixels.psnr(black, white).tolist() == [0.0, 0.0]
    assert pixels.l1(black, white).tolist() == [255.0, 255.0]
    assert pixels.squared_error(white, black).tolist() == [65025.0, 65025.0]
    one = black.copy()
    one[0, 0, 0, 0] = 3
    assert pixels.squared_error(one, black).tolist() == [9 / 192, 0.0]
    # all black against all white: means 0 and 255, no variance
    assert pixels.ssim(black, white)[0] == pytest.approx(6.5025 / (65025 + 6.5025))


def test_a_nearly_equal_frame_is_never_above_an_equal_one():
    first = np.zeros((1, 512, 512, 3), np.uint8)
    second = first.copy()
    second[0, 0, 0, 0] = 1
    assert 10 * math.log10(255**2 * first.size) > pixels.PSNR_CAP_DB
    assert pixels.psnr(first, second)[0] == pixels.PSNR_CAP_DB
    assert pixels.psnr(first, second, cap_db=200)[0] == pytest.approx(10 * math.log10(255**2 * first.size))


def test_small_frames_are_refused_by_reason():
    first, second = noisy(6, 40)
    for variant, side in (("grey-uniform7", 7), ("rgb-uniform7", 7), ("gaussian", 11)):
        with pytest.raises(Unscorable, match=f"smaller than {side} pixels"):
            pixels.ssim(first, second, variant=variant)
    with pytest.raises(Unscorable, match="smaller than 6 pixels"):
        pixels.ssim(first[:, :5], second[:, :5], variant="torchmetrics")
    assert pixels.l1(first[:, :1, :1], second[:, :1, :1]).shape == (1,)


def test_malformed_frames():
    first, second = noisy(12, 12)
    for bad in (first[0], first.astype(np.float32), first[..., :1], first[:, :0]):
        with pytest.raises(ValueError, match="expected"):
            pixels.l1(bad, bad)
    with pytest.raises(ValueError, match="one shape"):
        pixels.psnr(first, second[:, 1:])
    with pytest.raises(UnknownNameError):
        pixels.ssim(first, second, variant="uniform")
    assert pixels.ssim(first[:0], second[:0]).shape == (0,)


@pytest.mark.parametrize("name", ["PairDifferences", "PairSsim"])
def test_pair_statistics_do_not_depend_on_batches(name):
    first, second = noisy(20, 24, frames=7)
    rules = load_protocol("animation/1").need_pixels()
    results = []
    for size in (1, 3, 7):
        statistic = getattr(pixels, name)(rules)
        for start in range(0, 7, size):
            statistic.update(first[start : start + size], second[start : start + size])
        results.append(statistic.result())
    assert len(results[0]) == 7
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def evidence(**frames):
    return Evidence(Clip("a", Path("a.mp4"), ""), 1.0, Missing("x"), Missing("x"), frames)


def test_registered_scores():
    protocol = load_protocol("animation/1")
    scored = evidence(pair_differences=np.array([[0.0, 0.0], [65.025, 2.0]]), pair_ssim=np.array([1.0, 0.5]))
    assert pixels.psnr_score(scored, protocol) == {"psnr": pytest.approx(65), "note": pixels.EQUAL_FRAMES}
    assert pixels.l1_score(scored, protocol) == 1
    assert pixels.ssim_score(scored, protocol) == 0.75
    different = evidence(pair_differences=np.array([[65.025, 2.0]]))
    assert pixels.psnr_score(different, protocol) == {"psnr": pytest.approx(30), "note": ""}
    empty = evidence(pair_differences=np.empty((0, 2)), pair_ssim=np.empty(0), i3d_16=np.empty((0, 400)))
    for score in (pixels.psnr_score, pixels.l1_score, pixels.ssim_score, pixels.lpips_alex, pixels.i3d_16):
        with pytest.raises(Unscorable):
            score(empty, protocol)


# ---- FVD ------------------------------------------------------------------------------------------------


def features(count, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(size=(count, 12)) + shift


def test_fvd_of_a_set_with_itself_is_0():
    values = features(40) * 50
    assert pixels.fvd(values, values).value == pytest.approx(0, abs=1e-6)
    assert pixels.fvd(values, values[::-1]).value == pytest.approx(0, abs=1e-6)


def test_fvd_knows_a_shift_and_does_not_standardise():
    values = features(40)
    assert pixels.fvd(values + 2, values).value == pytest.approx(4 * 12)
    assert pixels.fvd(10 * (values + 2), 10 * values).value == pytest.approx(400 * 12)
    constant = np.concatenate([values, np.zeros((40, 1))], axis=1)
    assert pixels.fvd(constant + np.eye(13)[-1], constant).value == pytest.approx(1)


def test_fvd_equals_the_textbook_formula():
    linalg = pytest.importorskip("scipy.linalg")
    ours, theirs = features(300, 1, 0.3), features(280, 2)
    means = ours.mean(0), theirs.mean(0)
    covariances = np.cov(ours, rowvar=False), np.cov(theirs, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    wanted = np.sum((means[0] - means[1]) ** 2) + np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert pixels.fvd(ours, theirs).value == pytest.approx(wanted, rel=1e-9)


def test_fvd_refuses_and_notes_few_clips():
    for ours, theirs, who in ((1, 9, "generated set"), (9, 1, "reference")):
        with pytest.raises(Unscorable, match=f"{who} has fewer than 2 clips of 16 frames"):
            pixels.fvd(features(ours), features(theirs))
    assert pixels.fvd_note(256, 300) == ""
    assert "255 generated and 300 reference" in pixels.fvd_note(255, 300)
    protocol = load_protocol("animation/1")
    few = pixels.fvd_score(FeatureSet(features(9)), FeatureSet(features(9, 1)), protocol)
    assert few["fvd"] > 0
    assert "biased" in few["note"]
    many = pixels.fvd_score(FeatureSet(features(256)), FeatureSet(features(256, 1)), protocol)
    assert many["note"] == ""


def test_fvd_infinity_of_few_clips_is_refused():
    width = features(2).shape[1]
    for ours, theirs, who in ((5 * width - 1, 90, "generated set"), (90, 5 * width - 1, "reference")):
        with pytest.raises(Unscorable, match=f"{who} has fewer than {5 * width} clips of 16 frames"):
            pixels.fvd_infinity(features(ours), features(theirs, 1))
    with pytest.raises(Unscorable, match="fewer than 8 clips"):
        pixels.fvd_infinity(features(7)[:, :1], features(9, 1)[:, :1])
    rng = np.random.default_rng(0)
    protocol = load_protocol("animation/1")
    wide = [FeatureSet(rng.normal(size=(300, 400))) for _ in range(2)]
    with pytest.raises(Unscorable, match="generated set has fewer than 2000 clips of 16 frames"):
        pixels.fvd_infinity_score(*wide, protocol)
    assert pixels.fvd_infinity_note(10 * width, 10 * width, width) == ""
    assert f"for {width} features" in pixels.fvd_infinity_note(10 * width - 1, 10 * width, width)
    note = pixels.fvd_infinity_score(FeatureSet(features(70)), FeatureSet(features(80, 1)), protocol)["note"]
    assert "biased upwards" not in note


def test_fvd_infinity_where_it_is_given_is_near_the_truth():
    rng = np.random.default_rng(4)
    width = 30
    ours, theirs = rng.normal(size=(5 * width, width)), rng.normal(size=(5 * width, width))
    assert abs(pixels.fvd_infinity(ours, theirs).value) < 0.03 * width
    assert pixels.fvd_infinity(1.3 * ours, theirs).value == pytest.approx(0.09 * width, abs=0.04 * width)
    assert pixels.fvd_infinity(ours, ours[::-1]).value == 0.0


def test_fvd_infinity_is_nearer_to_the_truth():
    ours, theirs = features(400, 5), features(400, 6)
    far = pixels.fvd_infinity(ours, theirs)
    assert abs(far.value) < pixels.fvd(ours, theirs).value
    assert far.slope > 0
    protocol = load_protocol("animation/1")
    score = pixels.fvd_infinity_score(FeatureSet(ours), FeatureSet(theirs), protocol)
    assert score["fvd_infinity"] == far.value


def test_i3d_feature_is_all_vectors_of_a_video():
    values = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(pixels.i3d_16(evidence(i3d_16=values), load_protocol("animation/1")), np.arange(12.0))
