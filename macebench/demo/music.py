"""A small synthesiser: pieces of dance music whose beat times are known exactly.

Everything is made of sines and seeded noise on a grid of sixteenth notes: drums, bass and chords, with patterns
of their own for each genre. Kick or snare fall on every beat, so that beat trackers have a fair chance; what
else is on the grid (off-beat hats, syncopated bass) is softer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macebench.types import FloatArray

SAMPLE_RATE = 44100


@dataclass(frozen=True)
class Genre:
    """Tempo range and patterns; a pattern has 16 characters, one a sixteenth: ``x`` loud, ``o`` soft, ``.`` rest.

    Attributes:
        tempo_bpm: Lowest and highest tempo.
        kick, snare, hat, open_hat, bass, chord: Patterns of one bar.
        wave: Number of overtones of the bass.
        chord_s: Length of a chord in sixteenths.
    """

    tempo_bpm: tuple[int, int]
    kick: str
    snare: str
    hat: str
    open_hat: str
    bass: str
    chord: str
    wave: int = 5
    chord_s: float = 1.5


GENRES: dict[str, Genre] = {
    "house": Genre(
        (118, 128), "x...x...x...x...", "....x.......x...", "o.o.o.o.o.o.o.o.", "..o...o...o...o.", "..o..o..o.o...o.",
        "x..o..o...o..o..", 4, 1.2,
    ),
    "hiphop": Genre(
        (90, 102), "x......ox.o.....", "....x.......x...", "o.o.o.o.o.o.o.oo", "................", "x.....o.x.o.....",
        "x.......x.......", 2, 6.0,
    ),
    "disco": Genre(
        (110, 124), "x...x...x...x...", "....x.......x...", "o...o...o...o...", "..o...o...o...o.", "x.o.x.o.x.o.x.o.",
        "x.....o.x.....o.", 6, 2.5,
    ),
    "pop": Genre(
        (100, 126), "x.......x.o.....", "....x.......x...", "o.o.o.o.o.o.o.o.", "..............o.", "x.o.o.o.x.o.o.o.",
        "x.......x.......", 4, 7.0,
    ),
    "funk": Genre(
        (98, 114), "x.....o.x..o....", "....x.......x...", "oooooooooooooooo", "......o.........", "x..o..o.x.oo..o.",
        "x...o..ox...o...", 7, 0.9,
    ),
    "electro": Genre(
        (126, 137), "x...x...x...x...", "....x.......x...", "..o...o...o...o.", "..o...o...o...o.", "xoooxoooxoooxooo",
        "x.......o.......", 9, 3.0,
    ),
}  # fmt: skip
"""Every genre by name."""

_PROGRESSIONS = ((0, 5, 3, 4), (0, 3, 4, 3), (0, 5, 1, 4), (5, 3, 0, 4))
_MINOR = (0, 2, 3, 5, 7, 8, 10)


@dataclass(frozen=True)
class Piece:
    """A piece of music.

    Attributes:
        samples: (N,) float32, full scale 1.
        sample_rate: Samples a second.
        beats_s: (B,) beat times in seconds.
        tempo_bpm: Beats a minute.
        genre: Name of the genre.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    beats_s: FloatArray
    tempo_bpm: float
    genre: str


def compose(genre: str, duration_s: float, seed: int, *, sample_rate: int = SAMPLE_RATE) -> Piece:
    """A piece of music; the same arguments give the same samples.

    The first beat lies anywhere in the first beat's length, on any beat of a bar.

    Args:
        genre: A key of `GENRES`.
        duration_s: Length in seconds.
        seed: Chooses tempo, key, chords, phase and noise.
        sample_rate: Samples a second.

    Raises:
        ValueError: unknown genre, or nothing to play.
    """
    if genre not in GENRES:
        raise ValueError(f"genre {genre!r}: allowed are {sorted(GENRES)}")
    if not duration_s > 0:
        raise ValueError(f"duration_s is {duration_s}, must be above 0")
    style, rng = GENRES[genre], np.random.default_rng([seed, 0x50FA])
    tempo = float(rng.integers(style.tempo_bpm[0], style.tempo_bpm[1] + 1))
    beat = 60.0 / tempo
    first = float(rng.uniform(0.02, beat))
    bar_start = first - beat * int(rng.integers(1, 5))
    mix = np.zeros(round(duration_s * sample_rate))
    _drums(mix, style, bar_start, beat / 4.0, rng, sample_rate)
    _harmony(mix, style, bar_start, beat / 4.0, rng, sample_rate)
    beats = np.array([first + beat * k for k in range(int(np.ceil((duration_s - first) / beat)))], dtype=np.float64)
    loud = np.tanh(1.4 * mix / (np.abs(mix).max() + 1e-9))
    return Piece((0.8 * loud).astype(np.float32), sample_rate, beats[beats < duration_s], tempo, genre)


def _hits(pattern: str, bar_start: float, step: float, length_s: float) -> list[tuple[int, float, float]]:
    """(number of the step, time in seconds, loudness) of each note of a repeated pattern."""
    hits = []
    for k in range(int(np.ceil((length_s - bar_start) / step))):
        level = {"x": 1.0, "o": 0.45}.get(pattern[k % 16], 0.0)
        if level:
            hits.append((k, bar_start + k * step, level))
    return hits


def _add(mix: FloatArray, sound: FloatArray, time_s: float, level: float, sample_rate: int) -> None:
    """Add `sound` at `time_s`; what lies outside `mix` is cut off."""
    start = round(time_s * sample_rate)
    sound = sound[max(-start, 0) : max(len(mix) - start, 0)]
    start = max(start, 0)
    mix[start : start + len(sound)] += level * sound


def _drums(mix: FloatArray, style: Genre, bar: float, step: float, rng: np.random.Generator, rate: int) -> None:
    voices = (
        (style.kick, _kick(rate), 1.0),
        (style.snare, _snare(rng, rate), 0.75),
        (style.hat, _hat(rng, rate, 0.018), 0.22),
        (style.open_hat, _hat(rng, rate, 0.07), 0.20),
    )
    for pattern, sound, level in voices:
        for _, time_s, loud in _hits(pattern, bar, step, len(mix) / rate):
            _add(mix, sound, time_s, level * loud, rate)


def _kick(rate: int) -> FloatArray:
    t = np.arange(int(0.30 * rate)) / rate
    sweep = 48.0 * t + 110.0 * 0.03 * (1.0 - np.exp(-t / 0.03))
    click = 0.35 * np.sin(2.0 * np.pi * 1800.0 * t) * np.exp(-t / 0.003)
    return np.asarray(np.sin(2.0 * np.pi * sweep) * np.exp(-t / 0.10) + click)


def _snare(rng: np.random.Generator, rate: int) -> FloatArray:
    t = np.arange(int(0.22 * rate)) / rate
    noise = np.convolve(rng.normal(0.0, 0.5, len(t)), [0.5, 0.0, -0.5], mode="same")
    return np.asarray(1.2 * noise * np.exp(-t / 0.06) + 0.5 * np.sin(2.0 * np.pi * 190.0 * t) * np.exp(-t / 0.05))


def _hat(rng: np.random.Generator, rate: int, decay_s: float) -> FloatArray:
    t = np.arange(int(6.0 * decay_s * rate)) / rate
    noise = np.convolve(rng.normal(0.0, 0.5, len(t)), [0.25, -0.5, 0.25], mode="same")
    return np.asarray(noise * np.exp(-t / decay_s))


def _harmony(mix: FloatArray, style: Genre, bar: float, step: float, rng: np.random.Generator, rate: int) -> None:
    key = 45 + int(rng.integers(0, 9))
    progression = _PROGRESSIONS[int(rng.integers(len(_PROGRESSIONS)))]

    def pitch(degree: int) -> float:
        note = key + 12 * (degree // 7) + _MINOR[degree % 7]
        return float(440.0 * 2.0 ** ((note - 69) / 12.0))

    for k, time_s, loud in _hits(style.bass, bar, step, len(mix) / rate):
        degree = progression[(k // 16) % 4]
        octave = 2.0 if k % 4 == 2 and style.wave >= 6 else 1.0
        note = _tone(pitch(degree) / 2.0 * octave, 1.6 * step, style.wave, 0.16, rate)
        _add(mix, note, time_s, 0.34 * loud, rate)
    for k, time_s, loud in _hits(style.chord, bar, step, len(mix) / rate):
        degree = progression[(k // 16) % 4]
        for third in (0, 2, 4):
            note = _tone(pitch(degree + third) * 2.0, style.chord_s * step, 4, 0.30, rate)
            _add(mix, note, time_s, 0.11 * loud, rate)


def _tone(hertz: float, length_s: float, overtones: int, decay_s: float, rate: int) -> FloatArray:
    """A plucked tone: overtones fall off as 1/n, the whole decays, the ends are faded."""
    t = np.arange(max(int(length_s * rate), 2)) / rate
    wave = np.zeros_like(t)
    for n in range(1, overtones + 1):
        wave += np.sin(2.0 * np.pi * n * hertz * t) / n
    fade = np.minimum(1.0, np.minimum(t / 0.004, (t[-1] - t) / 0.012))
    return np.asarray(wave * np.exp(-t / decay_s) * fade)
