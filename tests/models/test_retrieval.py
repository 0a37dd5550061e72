"""Retrieval models: phrases strung at random, and by the nearest music."""

from __future__ import annotations

import numpy as np
import pytest

from macebench import registry
from macebench.dances.warp import kinetic_beats
from macebench.demo.choreography import choreograph
from macebench.demo.music import compose
from macebench.errors import MediaError, UserError
from macebench.media import write_wav
from macebench.metrics.beats import beat_report
from macebench.models import retrieval
from macebench.models.motion_expert.codec import encode
from macebench.models.retrieval import Library, NearestMusic, RandomPhrases
from macebench.types import MotionModel

TEMPI = (0.40, 0.45, 0.5, 0.56, 0.62, 0.7)
FRAMES = 450


def features(beats_s, frames, seed=0):
    """Features that say where the beats are, in a noise that says nothing."""
    table = np.random.default_rng(seed).normal(0.0, 0.02, (frames, 35))
    table[:, 33:] = 0.0
    marks = np.rint(np.asarray(beats_s) * 30).astype(int)
    table[marks[marks < frames], 34] = 1.0
    table[:, 0] += np.convolve(table[:, 34], [0.5, 1.0, 0.5], mode="same")
    return table


@pytest.fixture(scope="module")
def library():
    motions, music = [], []
    for number, step in enumerate(TEMPI * 2):
        beats = np.arange(0.1 + 0.03 * number, FRAMES / 30, step)
        motions.append(encode(choreograph(beats, FRAMES / 30, 30.0, number).motion))
        music.append(features(beats, FRAMES, number))
    ends = FRAMES * np.arange(1, len(motions) + 1)
    spans = np.stack([ends - FRAMES, ends], axis=1)
    return Library(np.concatenate(motions).astype(np.float32), np.concatenate(music).astype(np.float32), spans)


@pytest.fixture
def models(library, monkeypatch):
    monkeypatch.setattr(retrieval, "open_library", lambda _: library)
    return RandomPhrases(), NearestMusic()


def corrected(motion, beats):
    return beat_report(beats, kinetic_beats(motion), motion.duration_s).corrected


def test_the_models_are_registered_with_cards():
    for name in ("random-phrases", "nearest-music"):
        model = registry.get("models", name)()
        assert isinstance(model, MotionModel)
        assert model.card.name == name
        assert model.card.kind == "motion"
        assert all((model.card.summary, model.card.source, model.card.licence))


def test_the_nearest_music_brings_its_beats_and_random_phrases_do_not(models):
    random, nearest = models
    found = []
    for seed, step in enumerate((0.43, 0.52, 0.6)):
        beats = np.arange(0.21, 12.0, step)
        table = features(beats, 360, 99 + seed)
        found.append((corrected(random.dance(360, seed), beats), corrected(nearest.dance(table, seed), beats)))
    chance, aligned = np.mean(found, axis=0)
    assert abs(chance) < 0.2
    assert aligned > 0.35


@pytest.mark.parametrize("count", [1, 2, 29, 30, 61, 300])
def test_dances_are_as_long_as_the_music(models, count):
    random, nearest = models
    for motion in (random.dance(count, 3), nearest.dance(features(np.arange(0, 10, 0.5), 300)[:count], 3)):
        assert len(motion) == count
        assert motion.fps == 30.0
        assert motion.rotations is not None


def test_a_seed_decides_the_dance(models):
    table = features(np.arange(0.1, 10, 0.5), 300)
    for model, asked in zip(models, (300, table), strict=True):
        first, again, other = model.dance(asked, 1), model.dance(asked, 1), model.dance(asked, 2)
        np.testing.assert_array_equal(first.joints, again.joints)
        assert not np.array_equal(first.joints, other.joints)


def test_joins_have_no_jump(models, library):
    fastest = max(
        float(np.linalg.norm(np.diff(library.phrase(a, b).joints, axis=0), axis=-1).max()) for a, b in library.spans
    )
    for model, asked in zip(models, (900, features(np.arange(0.1, 30, 0.47), 900)), strict=True):
        motion = model.dance(asked, 5)
        steps = np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1)
        assert steps.max() < 1.6 * fastest
        assert np.linalg.norm(np.diff(np.asarray(motion.root), axis=0), axis=-1).max() < 0.08


def test_the_nearest_window_is_found(library):
    known = library.music.astype(np.float64)
    index = retrieval._Index(known, library.spans)
    for row in (0, 100, FRAMES + 7, 5 * FRAMES + 200):
        distance = index._distances(known[row : row + retrieval.WINDOW])
        assert int(np.argmin(distance)) == row
        assert distance[row] == pytest.approx(0.0, abs=1e-8)
        other = known[row + 3 : row + 3 + retrieval.WINDOW] - known[row : row + retrieval.WINDOW]
        assert distance[row + 3] == pytest.approx(float(np.sum(other**2)))


def test_phrases_stay_within_their_sequence(library):
    index = retrieval._Index(library.music.astype(np.float64), library.spans)
    rng = np.random.default_rng(0)
    before = -1
    for _ in range(60):
        row = index.pick(rng.normal(size=(retrieval.WINDOW, 35)), before, rng)
        inside = [(a, b) for a, b in library.spans if a <= row and row + retrieval.STRIDE + retrieval.FADE <= b]
        assert len(inside) == 1
        assert abs(row - before) >= 15
        before = row


def test_a_library_that_is_too_short(monkeypatch, library):
    short = Library(library.motions[:40], library.music[:40], np.array([[0, 40]]))
    monkeypatch.setattr(retrieval, "open_library", lambda _: short)
    with pytest.raises(UserError, match="no training sequence has 75 frames"):
        NearestMusic().dance(np.zeros((90, 35)), 0)
    with pytest.raises(UserError, match="has more than 8 beats"):
        RandomPhrases().dance(90, 0)


def test_music_that_cannot_be_read(models, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    for model in models:
        with pytest.raises(MediaError, match=r"bad\.wav"):
            model.generate(tmp_path / "bad.wav", 0)


def test_music_files(models, tmp_path):
    piece = compose("house", 4.0, 1)
    write_wav(tmp_path / "a.wav", piece.samples, piece.sample_rate)
    for model in models:
        assert len(model.generate(tmp_path / "a.wav", 0)) == 120


def test_another_training_set_must_be_there(tmp_path):
    with pytest.raises(UserError, match="no finished training set"):
        RandomPhrases(tmp_path).dance(30, 0)


def test_the_procedural_library_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MACEBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(retrieval, "N_PIECES", 2)
    monkeypatch.setattr(retrieval, "PIECE_S", 4.0)
    made = retrieval.open_library()
    assert len(made.motions) == len(made.music) == 240
    assert 0 <= made.spans.min() < made.spans.max() <= 240

    def never(*_):
        raise AssertionError("made again")

    monkeypatch.setattr("macebench.models.training.data.build_training_set", never)
    kept = retrieval.open_library()
    np.testing.assert_array_equal(kept.motions, made.motions)
    np.testing.assert_array_equal(kept.music, made.music)
