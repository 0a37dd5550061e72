"""Music features: 35 columns at 30 frames a second, in two published layouts.

Sound is mono at 15,360 samples a second, the hop is 512 samples: 30 frames a second. Frame t is centred on t / 30 s. A
sound of d seconds has ``round(30 d)`` frames. Nothing is normalised.

``edge`` (Stanford-TML/EDGE ``baseline_features.py``; the same in FineDance, Lodge and MACE-Dance):

| columns | content |
|---|---|
| 0 | onset strength |
| 1-20 | 20 mel cepstral coefficients |
| 21-32 | 12 chroma bins, CENS |
| 33 | 1 on frames with an onset, else 0 |
| 34 | 1 on frames with a beat, else 0 |

The beat tracker starts from `start_bpm`: for AIST++ the tempo in the piece's name (`aist_start_bpm`), else librosa's
estimate on the sound at 22,050 samples a second.

``megadance`` (XulongT/MEGADance, after Bailando): 0-19 cepstral coefficients of the mel spectrogram in decibels below
its maximum, 20-31 chroma of the harmonic part over 4 octaves, 32 onset strength (median over bands) of the percussive
part, 33 beats, 34 onsets. The original loads sound with essentia, whose resampler is not ours.

Limits: a sound of more than `MAX_SECONDS` is refused before it is decoded whole, so memory stays below about 3 GB.
Silence has no beats and no onsets. A sound under 2,048 samples is filled up with silence and has no beats either.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from macebench.errors import MediaError
from macebench.registry import unknown
from macebench.types import Array, FloatArray

if TYPE_CHECKING:
    from macebench.media import Decoder

Layout = Literal["edge", "megadance"]
LAYOUTS: tuple[str, ...] = ("edge", "megadance")
FPS = 30.0
SAMPLE_RATE, HOP, TEMPO_RATE = 15360, 512, 22050
N_COLUMNS = 35
ONSET_COLUMN = {"edge": 33, "megadance": 34}
BEAT_COLUMN = {"edge": 34, "megadance": 33}
MAX_SECONDS = 1200.0
"""Longest sound in seconds that is taken."""

_MIN_SAMPLES = 2048
_AIST_NAME = re.compile(r"(?<![A-Za-z0-9])m(BR|PO|LO|MH|LH|WA|KR|JS|JB|HO)(\d)")


def music_features(
    source: str | Path | tuple[Array, int],
    layout: Layout = "edge",
    *,
    start_bpm: float | None = None,
    decoder: Decoder | None = None,
) -> FloatArray:
    """Features of a piece of music.

    Args:
        source: A sound or video file, or (samples (N,) mono with full scale 1, samples a second).
        layout: ``edge`` or ``megadance``, see the module.
        start_bpm: Tempo the beat tracker starts from. None takes librosa's estimate (``edge``) or 120 (``megadance``).
        decoder: A decoder to read the file with; None starts one for this call.

    Returns:
        (T, 35) at 30 frames a second, T = round(30 seconds), finite.

    Raises:
        MediaError: the file cannot be read, is too short for one frame, or is longer than `MAX_SECONDS` (``too long``);
            the detail names the file.
        UnknownNameError: no such layout.
        ValueError: samples of a wrong shape or not finite, or a rate or tempo that is not above 0.
    """
    if layout not in LAYOUTS:
        raise unknown("layout of music features", layout, LAYOUTS, "macebench train --help")
    if start_bpm is not None and not start_bpm > 0:
        raise ValueError(f"start_bpm is {start_bpm}, must be above 0")
    name, (samples, rate) = ("the sound", source) if isinstance(source, tuple) else _read(Path(source), decoder)
    samples = _checked(samples, rate, name)
    count = round(len(samples) * FPS / rate)
    if count < 1:
        raise MediaError("too short", f"{name} has {len(samples)} samples at {rate} Hz, less than one frame")
    with _quiet(), _one_thread():
        values = _LAYOUTS[layout](samples, rate, start_bpm)[:count]
    return np.asarray(values, dtype=np.float64)


def beat_frames(features: Array, layout: Layout = "edge") -> Array:
    """Frames (B,) with a beat, increasing, of features (T, 35)."""
    return np.flatnonzero(np.asarray(features)[:, BEAT_COLUMN[layout]] > 0.5)


def aist_start_bpm(name: str) -> float | None:
    """The tempo that AIST++ put into a piece's name, or None when the name holds no piece.

    ``mBR3`` is 80 + 10 * 3 beats a minute, as are PO, LO, MH, LH, WA, KR, JS and JB; ``mHO3`` is 110 + 5 * 3.

    Example:
        >>> aist_start_bpm("gBR_sBM_cAll_d04_mBR3_ch01"), aist_start_bpm("mHO2"), aist_start_bpm("song")
        (110.0, 120.0, None)
    """
    found = _AIST_NAME.search(name.replace("_", " "))
    if found is None:
        return None
    first, step = (110.0, 5.0) if found[1] == "HO" else (80.0, 10.0)
    return first + step * int(found[2])


def _read(path: Path, decoder: Decoder | None) -> tuple[str, tuple[Array, int]]:
    """Name, and samples at the file's own rate with that rate."""
    from macebench.media import Decoder, Limits

    if decoder is not None:
        return path.name, _samples(path, decoder)
    with Decoder(Limits(max_duration_s=MAX_SECONDS + 1.0)) as own:
        return path.name, _samples(path, own)


def _samples(path: Path, decoder: Decoder) -> tuple[Array, int]:
    parts: list[Array] = []
    rate, count = 1, 0
    try:
        for part in decoder.sound_parts(path):
            rate, count = part.sample_rate, count + len(part.samples)
            if count > MAX_SECONDS * rate:
                raise _too_long(path.name)
            parts.append(part.samples)
    except MediaError as error:
        if error.reason == "too long":
            raise _too_long(path.name) from error
        raise MediaError(error.reason, f"{path.name} {error.detail}".strip()) from error
    return np.concatenate(parts), rate


def _too_long(name: str) -> MediaError:
    return MediaError("too long", f"{name} is longer than {MAX_SECONDS:g} s, the longest music that is taken; cut it")


def _checked(samples: Array, rate: float, name: str) -> Array:
    values = np.asarray(samples, dtype=np.float32)
    if values.ndim != 1 or not rate > 0:
        raise ValueError(f"samples have shape {values.shape} at {rate} Hz, expected (N,) and a rate above 0")
    if len(values) > MAX_SECONDS * rate:
        raise _too_long(name)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds samples that are not finite")
    return values


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence librosa's remarks on short and silent sounds: both are dealt with here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of matrix products in one order: with the number of threads the last bits would change."""
    import scipy.linalg  # noqa: F401 - only libraries that are loaded can be told
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

    with threadpool_limits(1, user_api="blas"):
        yield


def _at(samples: Array, rate: float, wanted: int) -> Array:
    """Samples at another rate by soxr in high quality, at least `_MIN_SAMPLES` of them."""
    import soxr  # type: ignore[import-untyped, unused-ignore]

    if rate != wanted:
        count = int(np.ceil(len(samples) * wanted / rate))
        samples = soxr.resample(samples, rate, wanted, quality="HQ")[:count]
    short = max(_MIN_SAMPLES - len(samples), 0)
    return np.pad(samples, (0, short)) if short else samples


def _one_hot(count: int, frames: Array) -> FloatArray:
    column = np.zeros(count)
    column[np.asarray(frames, dtype=np.intp)] = 1.0
    return column


def _events(envelope: Array, samples: Array, start_bpm: Callable[[], float]) -> tuple[FloatArray, FloatArray]:
    """One-hot columns of onsets and beats; zeros where the envelope is flat."""
    from librosa.beat import beat_track
    from librosa.onset import onset_detect

    if len(samples) <= _MIN_SAMPLES or not envelope.any():
        return np.zeros(len(envelope)), np.zeros(len(envelope))
    onsets = onset_detect(onset_envelope=envelope, sr=SAMPLE_RATE, hop_length=HOP)
    _, beats = beat_track(onset_envelope=envelope, sr=SAMPLE_RATE, hop_length=HOP, start_bpm=start_bpm(), tightness=100)
    return _one_hot(len(envelope), onsets), _one_hot(len(envelope), beats)


def _edge(sound: Array, rate: float, start_bpm: float | None) -> FloatArray:
    """(T, 35) of the ``edge`` layout. One mel spectrogram serves onsets and cepstrum; the values are librosa's."""
    from librosa import power_to_db
    from librosa.feature import chroma_cens, melspectrogram, mfcc, tempo
    from librosa.onset import onset_strength

    samples = _at(sound, rate, SAMPLE_RATE)
    decibels = power_to_db(melspectrogram(y=samples, sr=SAMPLE_RATE))
    envelope = onset_strength(S=decibels, sr=SAMPLE_RATE)
    cepstrum = mfcc(S=decibels, n_mfcc=20)
    chroma = chroma_cens(y=samples, sr=SAMPLE_RATE, hop_length=HOP, n_chroma=12)

    def estimated() -> float:
        return float(tempo(y=_at(sound, rate, TEMPO_RATE), sr=TEMPO_RATE)[0])

    onsets, beats = _events(envelope, samples, estimated if start_bpm is None else lambda: float(start_bpm))
    return _table(envelope[None], cepstrum, chroma, onsets[None], beats[None])


def _megadance(sound: Array, rate: float, start_bpm: float | None) -> FloatArray:
    """(T, 35) of the ``megadance`` layout."""
    from librosa import power_to_db
    from librosa.effects import hpss
    from librosa.feature import chroma_cqt, melspectrogram, mfcc
    from librosa.onset import onset_strength

    samples = _at(sound, rate, SAMPLE_RATE)
    harmonic, percussive = hpss(samples)
    cepstrum = mfcc(S=power_to_db(melspectrogram(y=samples, sr=SAMPLE_RATE), ref=np.max), n_mfcc=20)
    chroma = chroma_cqt(y=harmonic, sr=SAMPLE_RATE, n_octaves=4)
    envelope = onset_strength(y=percussive, sr=SAMPLE_RATE, aggregate=np.median)
    onsets, beats = _events(envelope, samples, lambda: 120.0 if start_bpm is None else start_bpm)
    return _table(cepstrum, chroma, envelope[None], beats[None], onsets[None])


def _table(*rows: Array) -> FloatArray:
    """(T, columns) of (columns, T) parts, cut to the shortest."""
    count = min(part.shape[1] for part in rows)
    return np.concatenate([np.asarray(part[:, :count], dtype=np.float64).T for part in rows], axis=1)


_LAYOUTS: dict[str, Callable[[Array, Any, float | None], FloatArray]] = {"edge": _edge, "megadance": _megadance}
