from pathlib import Path

import numpy as np
import pytest

from macebench.curation import fingerprint as module
from macebench.curation._voting import KeyTable, candidates, components
from macebench.curation.fingerprint import SAMPLE_RATE, Fingerprint, fingerprint, groups, match, pairs
from macebench.demo.music import compose
from macebench.media import Decoder, write_video

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
RATE = 44100


def piece(genre, seed, seconds=12.0):
    return compose(genre, seconds, seed).samples.astype(np.float64)


def cut(samples, start_s, length_s=6.0, rate=RATE):
    return samples[round(start_s * rate) : round((start_s + length_s) * rate)]


def played(samples, speed):
    """The samples played `speed` times as fast."""
    return np.interp(np.arange(int(len(samples) / speed)) * speed, np.arange(len(samples)), samples)


@pytest.fixture(scope="module")
def song():
    return piece("funk", 3)


@pytest.fixture(scope="module")
def first(song):
    return fingerprint(cut(song, 1.0), RATE)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: 0.05 * x,
        lambda x: np.stack([x, 0.8 * x], axis=1),
        lambda x: (2000 * x).astype(np.int16),
        lambda x: x + np.random.default_rng(0).normal(0, 0.1 * x.std(), len(x)),
        lambda x: np.clip(1.5 * x, -0.8, 0.8),
    ],
    ids=["gain", "stereo", "int16", "noise 20 dB", "clipped"],
)
def test_a_changed_copy_at_another_offset_is_found(song, first, change):
    found = match(first, fingerprint(change(cut(song, 2.25)), RATE))
    assert found.same
    assert found.offset_s == pytest.approx(-1.25, abs=0.01)
    assert found.speed == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("speed", [0.98, 0.99, 1.01, 1.02])
def test_another_speed_is_found(song, first, speed):
    found = match(first, fingerprint(played(cut(song, 1.5), speed), RATE))
    assert found.same
    assert found.speed == pytest.approx(1 / speed, abs=0.002)
    assert found.offset_s == pytest.approx(-0.5 / speed, abs=0.03)


def test_another_sample_rate_is_found(song, first):
    resampled = played(cut(song, 1.0), RATE / 22050)
    assert match(first, fingerprint(resampled, 22050)).score > 0.5


def test_a_copy_that_was_encoded_is_found(song, first, tmp_path):
    black = (np.zeros((16, 16, 3), np.uint8) for _ in range(30))
    write_video(tmp_path / "a.mp4", black, fps=5, audio=(cut(song, 2.25), RATE))
    with Decoder() as decoder:
        sound = decoder.audio(tmp_path / "a.mp4", SAMPLE_RATE)
    found = match(first, fingerprint(sound.samples, SAMPLE_RATE))
    assert found.same
    assert found.offset_s == pytest.approx(-1.25, abs=0.01)


def test_a_match_is_symmetric(song, first):
    second = fingerprint(cut(song, 2.0), RATE)
    one, other = match(first, second), match(second, first)
    assert one.offset_s == pytest.approx(-other.offset_s, abs=0.01)
    assert one.score == pytest.approx(other.score, abs=0.05)


def test_different_pieces_of_one_synthesiser_do_not_match():
    # seeds with pairwise different keys or tempi; two of 119 beats a minute in house
    prints = [fingerprint(piece(genre, seed, 6.0), RATE) for genre in ("house", "pop", "funk") for seed in range(5)]
    assert pairs(prints) == []
    assert max(match(prints[0], other).score for other in prints[1:5]) < 0.3


def test_pieces_at_the_same_tempo_in_other_keys_do_not_match(monkeypatch):
    import macebench.demo.music as music

    def fixed(key):
        original = np.random.default_rng

        class Rng:
            """A generator whose whole numbers are fixed: tempo, beat, key and chords."""

            def __init__(self, seed):
                self.inner, self.numbers = original(seed), iter([120, 2, key, 1])

            def integers(self, *_):
                return next(self.numbers)

            def __getattr__(self, name):
                return getattr(self.inner, name)

        monkeypatch.setattr(music.np.random, "default_rng", Rng)
        made = compose("house", 6.0, 0).samples
        monkeypatch.setattr(music.np.random, "default_rng", original)
        return fingerprint(made, RATE)

    low, high, again = fixed(0), fixed(1), fixed(0)
    assert match(low, again).score > 0.95
    assert not match(low, high).same


def test_groups_join_all_cuts_of_a_piece_and_nothing_else():
    prints = [fingerprint(cut(piece(genre, 7), start), RATE) for genre in ("disco", "pop") for start in (0, 2, 4)]
    assert groups(prints) == [{0, 1, 2}, {3, 4, 5}]
    assert groups(prints[::2]) == [{0, 1}]


def test_many_clips_of_one_piece_are_one_group(first):
    assert groups([first] * 60) == [set(range(60))]


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(RATE), np.ones(100)])
def test_silence_and_snippets_have_no_peaks_and_match_nothing(samples, first):
    empty = fingerprint(samples, RATE)
    assert len(empty) == 0
    assert not match(empty, empty).same
    assert not match(empty, first).same
    assert groups([empty, empty, first]) == []


def test_a_fingerprint_is_small(first):
    assert isinstance(first, Fingerprint)
    assert (first.times_ms.dtype, first.cents.dtype, first.duration_ms) == (np.uint32, np.uint16, 6000)
    assert 60 < len(first) < 60 * 24
    assert np.all(np.diff(first.times_ms.astype(int)) >= 0)


@pytest.mark.parametrize(("samples", "rate"), [(np.full(10, np.nan), 8000), (np.zeros((2, 2, 2)), 8000), ([0.0], 0)])
def test_wrong_sounds(samples, rate):
    with pytest.raises(ValueError, match="sound"):
        fingerprint(samples, rate)


def test_candidates_are_found_at_their_shift_and_cost_is_bounded():
    keys = np.arange(40, dtype=np.uint64)
    tables = [
        KeyTable(keys, keys / 10.0),
        KeyTable(keys[::-1], 5.0 + keys[::-1] / 10.0),
        KeyTable(keys + 99, keys / 1.0),
    ]
    (found,) = candidates(tables, bin_s=0.25, min_votes=5)
    assert (found.first, found.second, found.votes) == (0, 1, 40)
    assert found.offset_s == pytest.approx(5.0, abs=0.25)
    one_key = [KeyTable(np.zeros(3, np.uint64), np.arange(3.0)) for _ in range(500)]
    assert len(module.candidates(one_key, bin_s=1.0, min_votes=1, per_pair=1, reach=6)) < 500 * 6


def test_components():
    assert components(5, [(0, 3), (3, 4)]) == [{0, 3, 4}]
    assert components(0, []) == []


@pytest.mark.slow
def test_real_music(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    files = sorted((SHARED / "data" / "music").glob("*.ogg")) + sorted((SHARED / "data" / "music").glob("*.wav"))
    if len(files) < 4:
        pytest.skip("the shared music is not here")
    prints, truth = [], []
    with Decoder() as decoder:
        for number, path in enumerate(files):
            data, rate = soundfile.read(path)
            for k in range(3):
                part = cut(data, 1.0 + 1.7 * k, 8.0, rate)
                write_video(tmp_path / "a.mp4", (np.zeros((16, 16, 3), np.uint8) for _ in range(40)), fps=5,
                            audio=(part, rate))  # fmt: skip
                prints.append(fingerprint(decoder.audio(tmp_path / "a.mp4", SAMPLE_RATE).samples, SAMPLE_RATE))
                truth.append(number)
    assert groups(prints) == [{3 * n, 3 * n + 1, 3 * n + 2} for n in range(len(files))]
