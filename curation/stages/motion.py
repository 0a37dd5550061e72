"""Stage ``motion``: how much moves in the scene, and how much is only the camera.

Observed: pairs of pictures `pair_s` seconds apart, `rate_hz` pairs a second, in grey on a working size whose longer
side has `side` pixels (the shorter one at least a quarter of it). The first picture of pair k is the first one at or
after ``k / rate_hz`` seconds, the second one is the later picture whose timestamp is nearest to `pair_s` seconds after
it. `macebench.curation._flow` says how motion is measured; every score is a length divided by the diagonal of the
picture and by the seconds between the two pictures: a fraction of the diagonal a second, whatever the size and rate.

Decided: the upper quartile over the pairs that lie wholly inside the span, so that no pair crosses a cut: who dances
for a quarter of the time is not near-static, and single flashes make nobody dance. A span is dropped when its residual
is below `min` or below `min_camera_share` of the camera's motion: as "camera motion only" where the camera moves,
as "near-static" where it stands.

Calibration (demo dances and stills made of them, 640x360 at 30 fps after x264; fractions of the diagonal a second,
``dis`` / ``farneback``). Dances: 0.006 to 0.011 / 0.007 to 0.011 before a standing camera, 0.036 to 0.046 / 0.038 to
0.046 before a moving one, never under 0.14 of the camera's motion. Somebody standing, with and without grain: up to
0.0003 / 0.0001. Panned and zoomed stills: up to 0.0019 / 0.0020 at 0.03 of camera motion, 0.004 / 0.004 at 0.16, 0.010
/ 0.005 at 0.5; never over 0.066 of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.curation import _flow
from macebench.curation._pictures import Picture, resized, working_size
from macebench.curation._ranges import FROM_ZERO, SHARE, check_ranges
from macebench.curation.stage import Rejection, Task, Timeline, Verdict
from macebench.errors import UserError
from macebench.media import VideoInfo
from macebench.registry import stage
from macebench.types import FloatArray

MIN_RESIDUAL = {"dis": 0.0015, "farneback": 0.0015}
"""Threshold of each estimator when none is given, in fractions of the diagonal a second."""
SCORES = ("total", "camera", "residual")
_SMALLEST = 64
_NARROWEST = 4  # OpenCV's DIS crashes on pictures eight times as wide as high
_QUANTILE = 0.75
_SAME = 1e-6


@dataclass(frozen=True)
class MotionConfig:
    """Settings of the motion stage.

    Attributes:
        estimator: ``dis`` or ``farneback``; `min` belongs to it.
        rate_hz: Pairs of pictures a second.
        pair_s: Seconds between the pictures of a pair; less than ``1 / rate_hz``.
        side: Pixels of the longer side on which motion is measured.
        min: Least residual motion in fractions of the diagonal a second; None: `MIN_RESIDUAL` of the estimator.
        min_camera_share: Least residual motion as a share of the camera's motion.
    """

    estimator: str = "dis"
    rate_hz: float = 4.0
    pair_s: float = 0.1
    side: int = 256
    min: float | None = None
    min_camera_share: float = 0.07

    def __post_init__(self) -> None:
        if self.estimator not in _flow.ESTIMATORS:
            raise UserError(
                f"motion.estimator is {self.estimator!r}.", hint=f"Take one of {', '.join(_flow.ESTIMATORS)}."
            )
        if not (self.rate_hz > 0 and 0 < self.pair_s < 1 / self.rate_hz):
            raise UserError(
                f"motion.pair_s is {self.pair_s} at motion.rate_hz {self.rate_hz}.",
                hint="A pair must end before the next one begins: pair_s is above 0 and below 1 / rate_hz.",
            )
        if self.side < _SMALLEST:
            raise UserError(f"motion.side is {self.side}.", hint=f"Give {_SMALLEST} pixels or more.")
        check_ranges("motion", self, {"min": FROM_ZERO, "min_camera_share": SHARE})

    @property
    def min_residual(self) -> float:
        """The threshold in use."""
        return MIN_RESIDUAL[self.estimator] if self.min is None else self.min

    @property
    def in_force(self) -> Mapping[str, Any]:
        """What holds for a field that is None; see `macebench.curation.config.in_force`."""
        return {"min": self.min_residual}


@dataclass(frozen=True)
class Shown:
    """A picture and when it is shown."""

    time_s: float
    picture: Picture


class PairSampler:
    """Picks pairs out of a stream of pictures, one pair at a time.

    Args:
        rate_hz: Pairs a second.
        pair_s: Seconds between the pictures of a pair.
    """

    def __init__(self, rate_hz: float, pair_s: float) -> None:
        self._rate_hz, self._pair_s = rate_hz, pair_s
        self._due = 0
        self._first: Shown | None = None
        self._later: Shown | None = None

    def add(self, shown: Shown) -> tuple[Shown, Shown] | None:
        """Take the next picture; the pair that it completes, if any."""
        pair = None
        if self._first is not None:
            wanted_s = self._first.time_s + self._pair_s
            if shown.time_s < wanted_s:
                self._later = shown
            else:
                pair = self._first, self._nearer(shown, wanted_s)
                self._first = self._later = None
        if self._first is None and shown.time_s * self._rate_hz >= self._due - _SAME:
            self._first = shown
            self._due = math.floor(shown.time_s * self._rate_hz + _SAME) + 1
        return pair

    def _nearer(self, shown: Shown, wanted_s: float) -> Shown:
        before = self._later
        return shown if before is None or shown.time_s - wanted_s <= wanted_s - before.time_s + _SAME else before

    def finish(self) -> tuple[Shown, Shown] | None:
        """The pair that is still open, when its last picture is nearer to its end than to its start."""
        if self._first is None or self._later is None:
            return None
        return (self._first, self._later) if self._later.time_s - self._first.time_s >= self._pair_s / 2 else None

    def keep(self, convert: Callable[[Picture], Picture]) -> None:
        """Replace the pictures that are still wanted: they may be views into a batch."""
        for name in ("_first", "_later"):
            shown = getattr(self, name)
            if shown is not None:
                setattr(self, name, Shown(shown.time_s, convert(shown.picture)))


class MotionObserver:
    """Measures the pairs of one source. Memory grows by four numbers a pair."""

    def __init__(self, config: MotionConfig) -> None:
        self._config = config
        self._sampler = PairSampler(config.rate_hz, config.pair_s)
        self._estimator = _flow.make_estimator(config.estimator)
        self._rows: list[tuple[float, float, float, float, float]] = []

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) RGB frames and their (B,) seconds."""
        for time_s, frame in zip(times_s.tolist(), frames, strict=True):
            self._measure(self._sampler.add(Shown(time_s, frame)))
        self._sampler.keep(self._grey)

    def finish(self) -> Timeline:
        """One sample a pair, at the time of its first picture: ``end_s`` and `SCORES`."""
        self._measure(self._sampler.finish())
        table = np.array(self._rows, np.float64).reshape(-1, 2 + len(SCORES))
        values = {name: table[:, column] for column, name in enumerate(("end_s", *SCORES), 1)}
        return Timeline(table[:, 0], values, {"estimator": self._config.estimator})

    def _measure(self, pair: tuple[Shown, Shown] | None) -> None:
        if pair is None:
            return
        first, second = self._grey(pair[0].picture), self._grey(pair[1].picture)
        moved = _flow.measure(first, second, self._estimator)
        unit = math.hypot(*first.shape) * (pair[1].time_s - pair[0].time_s)
        scores = (moved.total / unit, moved.camera / unit, moved.residual / unit)
        self._rows.append((pair[0].time_s, pair[1].time_s, *scores))

    def _grey(self, picture: Picture) -> Picture:
        """The picture in grey and working size; one that is grey already stays as it is."""
        import cv2

        if picture.ndim == 2:
            return picture
        side = self._config.side
        height, width = (max(pixels, side // _NARROWEST) for pixels in working_size(picture.shape, side))
        small = resized(picture, height, width)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def motion_scores(timeline: Timeline, start_s: float, end_s: float) -> dict[str, float]:
    """Upper quartiles of `SCORES` over the pairs inside ``[start_s, end_s)``, and ``pairs``, their number.

    Returns:
        Fractions of the diagonal a second; only ``pairs`` when there is none.
    """
    span = timeline.within(start_s, end_s)
    inside = span.values["end_s"] < end_s
    count = {"pairs": float(np.count_nonzero(inside))}
    if not inside.any():
        return count
    return {name: float(np.quantile(span.values[name][inside], _QUANTILE)) for name in SCORES} | count


def decide(scores: Mapping[str, float], config: MotionConfig) -> Rejection | None:
    """Whether a span with these scores is dropped."""
    if not scores["pairs"]:
        return Rejection("motion", "too few pictures", 0.0, 1.0)
    residual, camera = scores["residual"], scores["camera"]
    threshold = max(config.min_residual, config.min_camera_share * camera)
    if residual >= threshold:
        return None
    reason = "camera motion only" if camera >= config.min_residual else "near-static"
    return Rejection("motion", reason, residual, threshold)


@stage("motion")
class MotionStage:
    """Drops spans in which nothing moves, or nothing but the camera."""

    name = "motion"
    judges_clips = True

    def __init__(self, config: MotionConfig | None = None) -> None:
        self.config = config or MotionConfig()

    def observer_settings(self) -> Mapping[str, Any]:
        """What decides the timeline; thresholds do not."""
        config = self.config
        return {
            "version": 1, "estimator": config.estimator, "rate_hz": config.rate_hz, "pair_s": config.pair_s,
            "side": config.side,
        }  # fmt: skip

    def observe(self, info: VideoInfo) -> MotionObserver:
        """A fresh observer for one source."""
        return MotionObserver(self.config)

    def process(self, task: Task) -> Verdict:
        """Decide on one span from the timeline of its source."""
        scores = motion_scores(task.observed[self.name], task.start_s, math.inf if task.end_s is None else task.end_s)
        return Verdict(scores, decide(scores, self.config))
