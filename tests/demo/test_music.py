"""The synthesiser: exact beats, determinism, and a beat tracker that finds them."""

import numpy as np
import pytest

from macebench.demo.music import GENRES, compose


@pytest.mark.parametrize("genre", sorted(GENRES))
def test_beats_are_evenly_spaced_within_the_piece(genre):
    piece = compose(genre, 6.0, 3)
    low, high = GENRES[genre].tempo_bpm
    assert low <= piece.tempo_bpm <= high
    assert np.diff(piece.beats_s) == pytest.approx(60.0 / piece.tempo_bpm)
    assert 0.0 <= piece.beats_s[0] <= 60.0 / piece.tempo_bpm
    assert 6.0 - 60.0 / piece.tempo_bpm <= piece.beats_s[-1] < 6.0


def test_samples_are_loud_and_not_clipped():
    piece = compose("house", 4.0, 0)
    assert piece.samples.dtype == np.float32
    assert len(piece.samples) == 4 * piece.sample_rate
    assert 0.5 < np.abs(piece.samples).max() <= 0.8


def test_same_seed_same_samples():
    assert np.array_equal(compose("funk", 2.0, 7).samples, compose("funk", 2.0, 7).samples)
    assert not np.array_equal(compose("funk", 2.0, 7).samples, compose("funk", 2.0, 8).samples)


def test_patterns_are_one_bar_and_every_beat_has_a_drum():
    for genre in GENRES.values():
        for pattern in (genre.kick, genre.snare, genre.hat, genre.open_hat, genre.bass, genre.chord):
            assert len(pattern) == 16
            assert set(pattern) <= set("xo.")
        assert all("x" in (genre.kick[beat], genre.snare[beat]) for beat in (0, 4, 8, 12))


def test_energy_jumps_on_the_beats():
    """The power of the 30 ms after a beat is above that of the 30 ms before it."""
    for genre in GENRES:
        piece = compose(genre, 5.0, 1)
        n = int(0.03 * piece.sample_rate)
        starts = (piece.beats_s[1:-1] * piece.sample_rate).round().astype(int)
        after = [np.square(piece.samples[start : start + n]).mean() for start in starts]
        before = [np.square(piece.samples[start - n : start]).mean() + 1e-4 for start in starts]
        assert np.median(np.divide(after, before)) > 3.0


def test_bad_arguments():
    with pytest.raises(ValueError, match="polka"):
        compose("polka", 3.0, 0)
    with pytest.raises(ValueError, match="duration"):
        compose("house", 0.0, 0)


def f_measure(found: np.ndarray, truth: np.ndarray, window_s: float = 0.07) -> float:
    hits = sum(bool((np.abs(found - beat) <= window_s).any()) for beat in truth)
    return 2.0 * hits / (len(found) + len(truth))


@pytest.mark.slow
def test_a_beat_tracker_finds_the_beats():
    import librosa

    scores = []
    for genre in GENRES:
        for seed in range(4):
            piece = compose(genre, 5.0, seed, sample_rate=22050)
            _, found = librosa.beat.beat_track(y=piece.samples, sr=22050, units="time")
            scores.append(f_measure(found, piece.beats_s))
    assert np.median(scores) >= 0.9
    assert np.mean(scores) >= 0.85
