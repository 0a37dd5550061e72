"""Music with clicks at known times.

A click is a burst of 5 kHz that starts within one sample and dies within 20 ms, louder than the music around it:
its onset can be told to a millisecond, after AAC too. `find_clicks` is the detector that goes with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from macebench.types import Array, FloatArray

CLICK_HZ = 5000.0
_CLICK_S, _DECAY_S = 0.02, 0.004
_MUSIC, _CLICK = 0.40, 0.55


def click(rate: int) -> FloatArray:
    """The samples of one click, full scale 1."""
    t = np.arange(round(_CLICK_S * rate)) / rate
    return np.asarray(np.sin(2.0 * np.pi * CLICK_HZ * t) * np.exp(-t / _DECAY_S))


def with_clicks(music: Array, onsets_s: Array, rate: int) -> NDArray[np.float32]:
    """Soft music with clicks.

    Args:
        music: (N,) full scale 1.
        onsets_s: (K,) seconds after the first sample; what lies outside is left out.
        rate: Samples a second.
    """
    mix = _MUSIC * np.asarray(music, dtype=np.float64)
    burst = _CLICK * click(rate)
    for onset in onsets_s:
        start = round(float(onset) * rate)
        if 0 <= start < len(mix):
            part = burst[: len(mix) - start]
            mix[start : start + len(part)] += part
    return mix.astype(np.float32)


def find_clicks(samples: Array, rate: int, *, threshold: float = 0.5) -> FloatArray:
    """(K,) seconds after the first sample at which clicks begin.

    A matched filter (sine and cosine, so that the phase does not matter), and the peaks of its envelope that reach
    `threshold` times a whole click.

    Args:
        samples: (N,) mono, full scale 1.
        rate: Samples a second, at least 12000.
        threshold: Share of a click's own response, in (0, 1).

    Raises:
        ValueError: the rate is too low for the click.
    """
    if rate < 12000:
        raise ValueError(f"rate is {rate}, a click needs 12000 or more")
    t = np.arange(round(_CLICK_S * rate)) / rate
    kernel = np.exp(2j * np.pi * CLICK_HZ * t - t / _DECAY_S)
    n = len(samples) + len(kernel)
    spectrum = np.fft.fft(np.asarray(samples, dtype=np.float64), n) * np.conj(np.fft.fft(kernel, n))
    response = np.abs(np.fft.ifft(spectrum))[: len(samples)]
    whole = _CLICK * float(np.abs(np.vdot(kernel, click(rate))))
    onsets = []
    above = np.flatnonzero(response > threshold * whole)
    for group in np.split(above, np.flatnonzero(np.diff(above) > 0.1 * rate) + 1):
        if len(group):
            onsets.append(group[int(np.argmax(response[group]))] / rate)
    return np.array(onsets, dtype=np.float64)
