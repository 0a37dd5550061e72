"""Beat trackers of music: librosa's dynamic programming (Ellis, 2007) with the settings of each public code.

Each tracker has one frame rate; its beats lie on whole frames. Sound at another rate is resampled first, as
`librosa.load` does it. ``hop`` is 512 samples everywhere.

- ``librosa``: the rate as given, no trimming of weak beats at the ends, start tempo 120.
- ``mace2d``: the rate as given, librosa's defaults (trimmed).
- ``edge`` (Stanford-TML/EDGE, FineDance, and the beat column that MACE-Dance and FlowerDance read): 15,360 Hz, so 30
  frames a second; the start tempo is librosa's estimate on the sound at 22,050 Hz. EDGE takes the tempo of AIST++
  pieces from their file names; that is not done here.
- ``lodge`` (li-ronghui/LODGE, `beat_align_score.py`): as ``edge``, but the start tempo is estimated on the 15,360-Hz
  samples as if they were 22,050 a second: 120 BPM reads as 172.
- ``bailando`` (lisiyao21/Bailando; XulongT/MEGADance copies it): the percussive part of the sound, onset strength by
  the median over bands, start tempo 120. Rate as given: Bailando's is 30,720 Hz (60 frames a second), MEGADance's
  15,360. Both load sound with essentia, whose resampler is not librosa's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from macebench.types import FloatArray

HOP = 512
EDGE_RATE, TEMPO_RATE = 15360, 22050
# Smallest sound that a spectrogram can be computed on, in samples.
MIN_SAMPLES = 2048

# Takes samples and their rate; gives frames and the rate that these frames have a hop of.
_Tracker = Callable[[Any, float], tuple[Any, float]]


def track(sound: Any, sample_rate: float, variant: str) -> FloatArray:
    """(B,) seconds of the beats of (N,) float32 samples; empty when there is too little to track."""
    import librosa

    if len(sound) < MIN_SAMPLES or not sound.any():
        return np.empty(0)
    frames, rate = _TRACKERS[variant](sound, sample_rate)
    return np.asarray(librosa.frames_to_time(frames, sr=rate, hop_length=HOP), dtype=np.float64)


def _plain(sound: Any, rate: float) -> tuple[Any, float]:
    from librosa.beat import beat_track

    return beat_track(y=sound, sr=rate, hop_length=HOP, trim=False)[1], rate


def _defaults(sound: Any, rate: float) -> tuple[Any, float]:
    from librosa.beat import beat_track

    return beat_track(y=sound, sr=rate, hop_length=HOP)[1], rate


def _edge(sound: Any, rate: float) -> tuple[Any, float]:
    from librosa.feature import tempo

    return _from_tempo(sound, rate, lambda _: float(tempo(y=_at_rate(sound, rate, TEMPO_RATE), sr=TEMPO_RATE)[0]))


def _lodge(sound: Any, rate: float) -> tuple[Any, float]:
    from librosa.feature import tempo

    return _from_tempo(sound, rate, lambda samples: float(tempo(y=samples, sr=TEMPO_RATE)[0]))


def _from_tempo(sound: Any, rate: float, start_bpm: Callable[[Any], float]) -> tuple[Any, float]:
    from librosa.beat import beat_track
    from librosa.onset import onset_strength

    samples = _at_rate(sound, rate, EDGE_RATE)
    if len(samples) < MIN_SAMPLES:
        return np.empty(0, dtype=int), EDGE_RATE
    envelope = onset_strength(y=samples, sr=EDGE_RATE, hop_length=HOP)
    bpm = start_bpm(samples)
    frames = beat_track(onset_envelope=envelope, sr=EDGE_RATE, hop_length=HOP, start_bpm=bpm, tightness=100)[1]
    return frames, EDGE_RATE


def _percussive(sound: Any, rate: float) -> tuple[Any, float]:
    from librosa.beat import beat_track
    from librosa.effects import hpss
    from librosa.onset import onset_strength

    envelope = onset_strength(y=hpss(sound)[1], sr=rate, hop_length=HOP, aggregate=np.median)
    return beat_track(onset_envelope=envelope, sr=rate, hop_length=HOP)[1], rate


def _at_rate(sound: Any, rate: float, wanted: float) -> Any:
    import librosa

    return sound if rate == wanted else librosa.resample(sound, orig_sr=rate, target_sr=wanted)


_TRACKERS: dict[str, _Tracker] = {
    "librosa": _plain,
    "mace2d": _defaults,
    "edge": _edge,
    "lodge": _lodge,
    "bailando": _percussive,
    "megadance": _percussive,
    "mace3d": _edge,
    "flowerdance": _edge,
}
VARIANTS = tuple(_TRACKERS)
