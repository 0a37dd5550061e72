"""Beats of music, beats of motion, and how well they meet. Times are seconds from the start of the clip.

Motion beats are local minima of the smoothed speed curve, the mean over joints of the distance between frames (Li et
al., "AI Choreographer", 2021; released codes of Bailando, Lodge, EDGE and MACE-Dance). Variants:

- ``published`` (``mace2d`` is the same): as released by all: every strict minimum of
  ``scipy.ndimage.gaussian_filter`` of the frame-to-frame distance; beat i is put at ``i / fps``. A motionless dancer
  with keypoint noise has many beats.
- ``fixed``: the speed between frames i and i + 1 is put at ``(i + 0.5) / fps``, and a minimum counts only when its
  prominence is at least 10 % of the clip's mean speed and at least 3 % of the dancer's extent a second (median
  diagonal of the joints' bounding box): 5 cm a second for an adult, above what a pose estimator's millimetres make. A
  joint that is missing at a step counts at its own mean speed.

Music beats: ``librosa`` (ours), ``mace2d``, ``edge``, ``lodge`` and ``bailando``, see
`macebench.metrics._music_beats`.

Beat alignment is ``BA = mean over music beats of exp(-d^2 / (2 sigma^2))``, d to the nearest motion beat. It mostly
counts motion beats: one every S seconds gives ``sqrt(2 pi) sigma / S`` by chance. Therefore `beat_report` also gives
the *null*, the mean of BA over circular shifts of the music, ``corrected = (BA - null) / (1 - null)``, and ``z = (BA
- null) / deviation over the shifts``. Shifts are an even grid over the whole duration, no wider apart than a quarter
of sigma, zero included.

Music beats after the end of the motion are left out. LODGE keeps them (``keep_beyond``): each is then a miss, in the
score, in recall and, unmoved, in the null.

Without music beats there is no score. Without motion beats every music beat is missed: BA is 0, the limit of the
formula, and so are null, corrected and z, with a note: a model that freezes stays in the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from macebench.errors import Unscorable
from macebench.metrics import _music_beats
from macebench.registry import unknown
from macebench.types import Array, FloatArray

MUSIC_VARIANTS = _music_beats.VARIANTS
PUBLISHED = ("published", "aist", "bailando", "lodge", "megadance", "mace3d", "flowerdance", "mace2d")
"""One rule under the names of the codes that share it; they differ in frame rate and smoothing only."""
MOTION_VARIANTS = ("fixed", *PUBLISHED)
DIRECTIONS = ("music_to_motion", "motion_to_music")
NO_MUSIC_BEATS = "no music beats"
NO_MOTION_BEATS = "no motion beats"
TOO_SHORT = "too short"

PROMINENCE_OF_SPEED = 0.1
PROMINENCE_OF_EXTENT = 0.03
MIN_SHIFTS = 64
SHIFTS_PER_SIGMA = 4
LAG_STEP_S = 0.02


@dataclass(frozen=True)
class BeatReport:
    """How well motion beats meet music beats.

    Attributes:
        raw: Beat alignment in [0, 1].
        null: Mean of `raw` over circular shifts of the music.
        corrected: ``(raw - null) / (1 - null)``: 0 is chance, 1 is perfect, below 0 is worse than chance.
        z: ``raw - null`` in deviations of `raw` over the shifts.
        precision: Share of motion beats that are matched one to one with a music beat within the window.
        recall: Share of music beats that are matched.
        f_score: Harmonic mean of the two.
        best_lag_s: How much the motion is late where the alignment is best; NaN without motion beats.
        lag_curve: (L, 2) lags in seconds, and `raw` with the music moved by that lag.
        note: What a reader must know (``no motion beats``), or None.
    """

    raw: float
    null: float
    corrected: float
    z: float
    precision: float
    recall: float
    f_score: float
    best_lag_s: float
    lag_curve: FloatArray
    note: str | None = None


def music_beats(audio: FloatArray, sample_rate: float, *, variant: str = "librosa") -> FloatArray:
    """Beat times of a sound.

    Args:
        audio: (N,) mono samples.
        sample_rate: Hz; ``mace2d`` is meant for 8,320, ``bailando`` for 30,720 or 15,360.
        variant: One of `MUSIC_VARIANTS`.

    Returns:
        (B,) seconds from the first sample, increasing; empty for silence and for less than 2,048 samples.

    Raises:
        ValueError: not mono, not finite, or no sample rate.
        UnknownNameError: no such variant.
    """
    if variant not in MUSIC_VARIANTS:
        raise unknown("variant of music beats", variant, MUSIC_VARIANTS, "macebench ls protocols")
    sound = np.asarray(audio, dtype=np.float32)
    if sound.ndim != 1 or not sample_rate > 0:
        raise ValueError(f"audio has shape {sound.shape} at {sample_rate} Hz, expected (N,) and a rate above 0")
    if not np.isfinite(sound).all():
        raise ValueError(f"audio {sound.shape} holds values that are not finite")
    return _music_beats.track(sound, sample_rate, variant)


def speed_curve(
    positions: FloatArray, *, fps: float, smoothing_s: float, variant: str = "fixed"
) -> tuple[FloatArray, FloatArray]:
    """Times and smoothed speed of a motion.

    Args:
        positions: (T, J, D) in any unit of length; NaN where missing (``fixed`` only).
        fps: Frames a second.
        smoothing_s: Standard deviation of the Gaussian in seconds; 0 smooths nothing.
        variant: ``fixed`` or ``published``; decides the times, see the module's docstring.

    Returns:
        (T - 1,) seconds from the first frame, and (T - 1,) units of length a second.

    Raises:
        Unscorable: ``too short`` for fewer than 3 frames.
        ValueError: wrong shape, or values that are not finite where they must be.
        UnknownNameError: no such variant.
    """
    points = _check_positions(positions, fps, smoothing_s, variant)
    if len(points) < 3:
        raise Unscorable(TOO_SHORT)
    from scipy.ndimage import gaussian_filter

    speed = _mean_speed(np.linalg.norm(np.diff(points, axis=0), axis=2)) * fps
    smooth = gaussian_filter(speed, smoothing_s * fps)
    offset = 0.5 if variant == "fixed" else 0.0
    times = (np.arange(len(speed)) + offset) / fps
    return np.asarray(times, dtype=np.float64), np.asarray(smooth, dtype=np.float64)


def _check_positions(positions: FloatArray, fps: float, smoothing_s: float, variant: str) -> FloatArray:
    if variant not in MOTION_VARIANTS:
        raise unknown("variant of motion beats", variant, MOTION_VARIANTS, "macebench ls protocols")
    points = np.asarray(positions, dtype=np.float64)
    if points.ndim != 3 or 0 in points.shape[1:]:
        raise ValueError(f"positions have shape {points.shape}, expected (T, J, D)")
    if not (fps > 0 and smoothing_s >= 0):
        raise ValueError(f"fps is {fps} and smoothing_s {smoothing_s}: must be above 0 and at least 0")
    if np.isinf(points).any() or (variant != "fixed" and np.isnan(points).any()):
        raise ValueError(f"positions {points.shape} hold values that are not finite")
    return points


def _mean_speed(steps: FloatArray) -> FloatArray:
    """(T - 1,) mean over joints of (T - 1, J) distances; a missing one counts as its joint's mean."""
    known = np.isfinite(steps)
    if known.all():
        return np.asarray(steps.mean(axis=1))
    counts = known.sum(axis=0)
    used = counts > 0
    if not used.any():
        return np.zeros(len(steps))
    means = np.where(known, steps, 0.0).sum(axis=0)[used] / counts[used]
    return np.asarray(np.where(known[:, used], steps[:, used], means).mean(axis=1))


def motion_beats(positions: FloatArray, *, fps: float, smoothing_s: float, variant: str = "fixed") -> FloatArray:
    """Beat times of a motion: minima of its speed.

    Args:
        positions: (T, J, D) in any unit of length; NaN where missing (``fixed`` only).
        fps: Frames a second.
        smoothing_s: Standard deviation of the Gaussian on the speed curve in seconds.
        variant: ``fixed`` or ``published``, see the module's docstring.

    Returns:
        (D,) seconds from the first frame, increasing; empty when nothing moves.

    Raises:
        Unscorable: ``too short`` for fewer than 3 frames.
        ValueError: wrong shape, or values that are not finite where they must be.
        UnknownNameError: no such variant.
    """
    times, speed = speed_curve(positions, fps=fps, smoothing_s=smoothing_s, variant=variant)
    if variant != "fixed":
        return np.asarray(times[_strict_minima(speed)])
    from scipy.signal import find_peaks

    least = max(PROMINENCE_OF_SPEED * float(speed.mean()), PROMINENCE_OF_EXTENT * _extent(positions))
    if not least > 0:
        return np.empty(0)
    return np.asarray(times[find_peaks(-speed, prominence=least)[0]])


def _strict_minima(values: FloatArray) -> Array:
    """Indices that are below both neighbours; never an end, never a plateau."""
    inner = values[1:-1]
    return np.flatnonzero((inner < values[:-2]) & (inner < values[2:])) + 1


def _extent(positions: FloatArray) -> float:
    """Median over frames of the diagonal of the known joints' bounding box; 0 when nothing is known."""
    points = np.asarray(positions, dtype=np.float64)
    known = np.asarray(np.isfinite(points).all(axis=2, keepdims=True))
    low = np.where(known, points, np.inf).min(axis=1)
    high = np.where(known, points, -np.inf).max(axis=1)
    seen = known.any(axis=(1, 2))
    return float(np.median(np.linalg.norm(high[seen] - low[seen], axis=1))) if seen.any() else 0.0


def beat_alignment(
    music: FloatArray, motion: FloatArray, *, sigma_s: float, direction: str = "music_to_motion"
) -> float:
    """Mean closeness of beats: ``mean exp(-d^2 / (2 sigma_s^2))``.

    Args:
        music: (B,) music beats in seconds.
        motion: (D,) motion beats in seconds.
        sigma_s: Width of the kernel in seconds; 3 frames at the rate of the published codes.
        direction: ``music_to_motion`` averages over music beats (published), ``motion_to_music`` over motion beats.

    Returns:
        A number in [0, 1]; 0 without motion beats.

    Raises:
        Unscorable: ``no music beats``.
        ValueError: a width that is not above 0, or times that are not finite.

    Example:
        >>> import numpy as np
        >>> round(beat_alignment(np.array([1.0, 2.0]), np.array([1.0, 2.1]), sigma_s=0.1), 6)
        0.803265
    """
    heard, danced = _check_beats(music, motion, sigma_s, direction)
    if not len(heard):
        raise Unscorable(NO_MUSIC_BEATS)
    if not len(danced):
        return 0.0
    return float(_scores(heard[None], danced, sigma_s, direction)[0])


def _check_beats(
    music: FloatArray, motion: FloatArray, sigma_s: float, direction: str
) -> tuple[FloatArray, FloatArray]:
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, DIRECTIONS, "macebench ls protocols")
    if not sigma_s > 0:
        raise ValueError(f"sigma_s is {sigma_s}, must be above 0")
    heard, danced = np.asarray(music, dtype=np.float64), np.asarray(motion, dtype=np.float64)
    if heard.ndim != 1 or danced.ndim != 1:
        raise ValueError(f"beats have shapes {heard.shape} and {danced.shape}, expected (B,) and (D,)")
    if not (np.isfinite(heard).all() and np.isfinite(danced).all()):
        raise ValueError("beat times must be finite")
    return np.sort(heard), np.sort(danced)


def _scores(music: FloatArray, motion: FloatArray, sigma_s: float, direction: str) -> FloatArray:
    """(S,) alignment of each row of (S, B) music beats with (D,) sorted motion beats."""
    if direction == "motion_to_music":
        distance = np.stack([_nearest_distance(motion, np.sort(row)) for row in music])
    else:
        distance = _nearest_distance(music, motion)
    return np.asarray(np.exp(-(distance**2) / (2.0 * sigma_s**2)).mean(axis=1))


def _nearest_distance(asked: FloatArray, beats: FloatArray) -> FloatArray:
    """Distance of each asked time to the nearest of the sorted beats."""
    right = np.clip(np.searchsorted(beats, asked), 0, len(beats) - 1)
    left = np.maximum(right - 1, 0)
    return np.asarray(np.minimum(np.abs(asked - beats[left]), np.abs(asked - beats[right])))


def beat_report(
    music: FloatArray,
    motion: FloatArray,
    duration_s: float,
    *,
    sigma_s: float = 0.1,
    direction: str = "music_to_motion",
    window_s: float = 0.07,
    max_lag_s: float = 0.5,
    keep_beyond: bool = False,
) -> BeatReport:
    """Beat alignment with its null and everything around it; see the module's docstring.

    Args:
        music: (B,) music beats in seconds; those outside ``[0, duration_s)`` are left out, see `keep_beyond`.
        motion: (D,) motion beats in seconds.
        duration_s: Length of the motion in seconds; the music is shifted around it.
        sigma_s: Width of the kernel in seconds; 3 frames at 30 a second.
        direction: As in `beat_alignment`.
        window_s: Largest distance of a match for precision and recall; 70 ms is usual in beat tracking.
        max_lag_s: The lag curve runs from minus to plus this.
        keep_beyond: Keep music beats from the motion's end on: they count as misses and are not shifted by the null.

    Raises:
        Unscorable: ``no music beats`` within the duration.
        ValueError: as in `beat_alignment`, or a duration that is not above 0.
    """
    heard, danced = _check_beats(music, motion, sigma_s, direction)
    if not duration_s > 0:
        raise ValueError(f"duration_s is {duration_s}, must be above 0")
    heard = heard[(heard >= 0) & ((heard < duration_s) | keep_beyond)]
    if not len(heard):
        raise Unscorable(NO_MUSIC_BEATS)
    lags = _lags(max_lag_s)
    if not len(danced):
        curve = np.stack([lags, np.zeros_like(lags)], axis=1)
        return BeatReport(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, float("nan"), curve, NO_MOTION_BEATS)
    raw = float(_scores(heard[None], danced, sigma_s, direction)[0])
    null, corrected, z = _against_chance(raw, _null_scores(heard, danced, duration_s, sigma_s, direction))
    curve = _scores(heard + lags[:, None], danced, sigma_s, direction)
    precision, recall, f_score = _matches(heard, danced, window_s)
    return BeatReport(
        raw, null, corrected, z, precision, recall, f_score, _best_lag(lags, curve),
        np.stack([lags, curve], axis=1),
    )  # fmt: skip


def _null_scores(
    music: FloatArray, motion: FloatArray, duration_s: float, sigma_s: float, direction: str
) -> FloatArray:
    """(S,) alignment at every shift of the grid; the music is moved around the duration.

    Both S and the number of beats grow with the duration: the (S, B) matrix is made in blocks of rows.
    """
    count = max(MIN_SHIFTS, int(np.ceil(SHIFTS_PER_SIGMA * duration_s / sigma_s)))
    shifts: FloatArray = np.arange(count, dtype=np.float64) * (duration_s / count)
    inside, beyond = music[music < duration_s], music[music >= duration_s]
    blocks = (shifts[start : start + 256, None] for start in range(0, count, 256))
    turned = (_turned(inside, beyond, block, duration_s) for block in blocks)
    return np.concatenate([_scores(rows, motion, sigma_s, direction) for rows in turned])


def _turned(inside: FloatArray, beyond: FloatArray, shifts: FloatArray, duration_s: float) -> FloatArray:
    """(S, B) beats moved around the duration by each of (S, 1) shifts; those beyond it stay where they are."""
    return np.concatenate([(inside + shifts) % duration_s, np.broadcast_to(beyond, (len(shifts), len(beyond)))], axis=1)


def _against_chance(raw: float, null_scores: FloatArray) -> tuple[float, float, float]:
    """Mean of the null, corrected score and z; the last two are 0 where the null leaves no room."""
    null, deviation = float(null_scores.mean()), float(null_scores.std())
    corrected = (raw - null) / (1.0 - null) if null < 1.0 else 0.0
    z = (raw - null) / deviation if deviation > 1e-12 else 0.0
    return null, corrected, z


def _lags(max_lag_s: float) -> FloatArray:
    steps = int(np.floor(max_lag_s / LAG_STEP_S + 1e-9))
    return np.asarray(np.arange(-steps, steps + 1) * LAG_STEP_S, dtype=np.float64)


def _best_lag(lags: FloatArray, curve: FloatArray) -> float:
    """Lag of the highest score; of equal ones the smallest."""
    best = np.flatnonzero(curve >= curve.max() - 1e-12)
    return float(lags[best[np.argmin(np.abs(lags[best]))]])


def _matches(music: FloatArray, motion: FloatArray, window_s: float) -> tuple[float, float, float]:
    """Precision, recall and F of the largest one-to-one matching within the window."""
    i = j = found = 0
    while i < len(music) and j < len(motion):
        if abs(music[i] - motion[j]) <= window_s:
            i, j, found = i + 1, j + 1, found + 1
        elif music[i] < motion[j]:
            i += 1
        else:
            j += 1
    precision, recall = found / len(motion), found / len(music)
    return precision, recall, 2 * precision * recall / (precision + recall) if found else 0.0
