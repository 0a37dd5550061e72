"""Music features against EDGE's values, and on every kind of sound that people have."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from macebench.demo.music import compose
from macebench.errors import MediaError, UnknownNameError
from macebench.media import write_wav
from macebench.models.motion_expert import music
from macebench.models.motion_expert.music import LAYOUTS, aist_start_bpm, beat_frames, music_features

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
GOLDEN = SHARED / "golden" / "parity" / "music_features.npz"
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="the golden values are not beside this checkout")


@pytest.fixture(scope="module")
def piece():
    return compose("house", 6.0, 11)


@needs_golden
@pytest.mark.parametrize(("name", "bpm"), [("features35", None), ("features35_aist_name", aist_start_bpm("x_mBR4_y"))])
def test_the_edge_layout_is_edges(name, bpm):
    golden = np.load(GOLDEN, allow_pickle=False)
    found = music_features((golden["signal"], 15360), start_bpm=bpm)
    assert found.shape == golden[name].shape == (150, 35)
    np.testing.assert_allclose(found[:, 1:21], golden[name][:, 1:21], rtol=0, atol=1e-3)
    others = [0, *range(21, 33)]
    np.testing.assert_allclose(found[:, others], golden[name][:, others], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found[:, 33:], golden[name][:, 33:])


@needs_golden
def test_a_file_gives_what_its_samples_give(tmp_path):
    signal = np.load(GOLDEN, allow_pickle=False)["signal"]
    write_wav(tmp_path / "signal.wav", signal, 15360)
    found, wanted = music_features(tmp_path / "signal.wav"), music_features((signal, 15360))
    np.testing.assert_array_equal(found[:, 33:], wanted[:, 33:])
    np.testing.assert_allclose(found[:, 21:33], wanted[:, 21:33], atol=0.02)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_beats_are_where_the_music_has_them(piece, layout):
    found = beat_frames(music_features((piece.samples, piece.sample_rate), layout), layout) / 30.0
    assert len(found) >= len(piece.beats_s) - 3
    away = np.abs(found[:, None] - piece.beats_s).min(axis=1)
    assert np.median(away) < 0.06


@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_do_not_change_a_bit(piece, layout):
    from threadpoolctl import threadpool_limits

    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(music_features((piece.samples, piece.sample_rate), layout).tobytes())
    assert found[0] == found[1]


def test_the_edge_layout_calls_librosa_as_edge_does(piece):
    import librosa
    import soxr

    y = soxr.resample(piece.samples, piece.sample_rate, 15360, quality="HQ")
    found = music_features((piece.samples, piece.sample_rate))
    count = len(found)
    np.testing.assert_allclose(found[:, 0], librosa.onset.onset_strength(y=y, sr=15360)[:count], atol=1e-5)
    np.testing.assert_allclose(found[:, 1:21], librosa.feature.mfcc(y=y, sr=15360, n_mfcc=20).T[:count], atol=1e-4)
    chroma = librosa.feature.chroma_cens(y=y, sr=15360, hop_length=512, n_chroma=12).T
    np.testing.assert_allclose(found[:, 21:33], chroma[:count], atol=1e-6)


def test_the_megadance_layout(piece):
    import librosa

    y = librosa.resample(piece.samples, orig_sr=piece.sample_rate, target_sr=15360)
    found = music_features((piece.samples, piece.sample_rate), "megadance")
    harmonic, percussive = librosa.effects.hpss(y)
    mel = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=15360), ref=np.max)
    envelope = librosa.onset.onset_strength(y=percussive, sr=15360, aggregate=np.median)
    count = len(found)
    np.testing.assert_allclose(found[:, :20], librosa.feature.mfcc(S=mel).T[:count], atol=1e-3)
    chroma = librosa.feature.chroma_cqt(y=harmonic, sr=15360, n_octaves=4).T
    np.testing.assert_allclose(found[:, 20:32], chroma[:count], atol=1e-4)
    np.testing.assert_allclose(found[:, 32], envelope[:count], atol=1e-4)
    assert found[:, 33].sum() > 5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rate", [8000, 15360, 44100])
@pytest.mark.parametrize("seconds", [0.03, 0.1, 1.0, 3.0])
def test_silence_has_neither_beats_nor_onsets(layout, rate, seconds):
    found = music_features((np.zeros(round(rate * seconds)), rate), layout)
    assert found.shape == (round(30 * seconds), 35)
    assert np.isfinite(found).all()
    assert not found[:, 33:].any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seconds", [0.02, 0.14, 1.0, 2.517])
def test_noise_and_a_constant_give_finite_features(layout, seconds):
    rate = 22050
    noise = np.random.default_rng(0).normal(0.0, 0.2, round(rate * seconds))
    for samples in (noise, np.full_like(noise, 0.4)):
        found = music_features((samples, rate), layout)
        assert found.shape == (round(len(noise) / rate * 30), 35)
        assert np.isfinite(found).all()
        assert set(np.unique(found[:, 33:])) <= {0.0, 1.0}


def test_the_start_tempo_matters_where_the_music_leaves_it_open(piece):
    slow = music_features((piece.samples, piece.sample_rate), start_bpm=60.0)
    fast = music_features((piece.samples, piece.sample_rate), start_bpm=240.0)
    assert slow[:, 34].sum() < fast[:, 34].sum()
    np.testing.assert_array_equal(slow[:, :34], fast[:, :34])


@pytest.mark.parametrize(
    ("name", "bpm"),
    [("gBR_sBM_cAll_d04_mBR0_ch01", 80), ("mKR5", 130), ("gHO_sFM_cAll_d19_mHO3_ch04.wav", 125), ("mXX1", None),
     ("summer", None), ("tomLO2", None)],
)  # fmt: skip
def test_the_tempo_in_a_name(name, bpm):
    assert aist_start_bpm(name) == bpm


def test_a_stereo_file_of_another_rate(tmp_path, piece):
    samples = (piece.samples[::2] * 20000).astype("<i2")
    with wave.open(str(tmp_path / "stereo.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes(np.repeat(samples, 2).tobytes())
    found = music_features(tmp_path / "stereo.wav")
    assert found.shape == (180, 35)
    away = np.abs(beat_frames(found)[:, None] / 30.0 - piece.beats_s).min(axis=1)
    assert np.median(away) < 0.06


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF\x10\x00\x00\x00nonsense" * 40)
    (tmp_path / "empty.wav").write_bytes(b"")
    for name, reason in (("missing.wav", "file not found"), ("empty.wav", "empty file"), ("broken.wav", "")):
        with pytest.raises(MediaError, match=name) as caught:
            music_features(tmp_path / name)
        assert caught.value.reason.startswith(reason)


def test_too_short_and_too_long(tmp_path, monkeypatch):
    with pytest.raises(MediaError, match="less than one frame"):
        music_features((np.ones(100), 44100))
    monkeypatch.setattr(music, "MAX_SECONDS", 2.0)
    path = tmp_path / "long.wav"
    write_wav(path, np.zeros(3 * 8000, dtype=np.float32), 8000)
    with pytest.raises(MediaError, match=r"too long: long\.wav is longer than 2 s"):
        music_features(path)
    with pytest.raises(MediaError, match="too long: the sound is longer than 2 s"):
        music_features((np.zeros(3 * 8000), 8000))


def test_two_hours_are_refused_without_reading_them_whole(tmp_path):
    path = tmp_path / "hours.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(bytes([128]) * (8000 * 7200))
    with pytest.raises(MediaError, match=r"too long: hours\.wav is longer than 1200 s"):
        music_features(path)


def test_wrong_arguments():
    with pytest.raises(UnknownNameError, match="edge, megadance"):
        music_features((np.zeros(8000), 8000), "jukebox")
    with pytest.raises(ValueError, match="expected"):
        music_features((np.zeros((8000, 2)), 8000))
    with pytest.raises(ValueError, match="not finite"):
        music_features((np.full(8000, np.nan), 8000))
    with pytest.raises(ValueError, match="start_bpm"):
        music_features((np.zeros(8000), 8000), start_bpm=0.0)
