"""Stage ``shots``: where one shot ends and the next begins.

Observed, for every picture: the score of a detector (TransNetV2's two outputs, or PySceneDetect's content_val) and a
thumbnail of 8x8 colours, both from a working size (longer side 256 pixels). Thresholds act on these, so they can be
changed without decoding.

Decided, in this order:

1. *Transitions of the detector.* ``transnetv2``: each run of pictures whose first score is above the threshold, widened
   by the pictures around it whose second score is. ``content``: a cut where content_val reaches the threshold.
   ``adaptive``: where it reaches `adaptive_ratio` times the mean of its neighbours and `adaptive_min_content`.
2. *Fades.* A run of pictures that are black all over (no colour of the thumbnail above `black_level`) longer than
   `flash_s` is a transition, with the pictures on both sides that grow darker towards it (at most `fade_s`).
3. *Flash guard.* A transition of at most `flash_s` is no cut when a picture shortly before it (`flash_s`) shows the
   same scene as one shortly after it; so are transitions less than `flash_s` apart when this holds for all of them
   together. Lights may have changed in between: each channel of the one thumbnail is fitted to the other by gain and
   offset. Same means: the thumbnails' correlation is at least `same_correlation`, and what differs is on average at
   most `same_difference` grey levels and at most `same_share` of the largest change of picture around the transition.
   (A jump cut within one scene changes no more than the scene itself does, and stays a cut.) Where the scene before a
   short group differs from that behind it, one cut remains, whatever its single transitions look like.
4. *Shots* are what lies between transitions; pictures of a transition belong to neither side. Transitions less than
   `flash_s` apart are one. Shots under `min_shot_s` are dropped as "shot too short".

Spans are half-open in seconds of presentation time: from the first picture of a shot to the first one behind it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.curation._content import SIDE, ContentScores, adaptive_ratio
from macebench.curation._pictures import resized, working_size
from macebench.curation._ranges import FROM_ZERO, GREY, SHARE, check_ranges
from macebench.curation._transnet import TransNetScores
from macebench.curation.stage import Rejection, Task, Timeline, Verdict
from macebench.errors import UserError
from macebench.media import VideoInfo
from macebench.registry import stage
from macebench.types import Array, FloatArray

DETECTORS = ("transnetv2", "content", "adaptive")
THUMB = 8
_SAME_S = 1e-6
_RAMP = 1.0  # grey levels that a fading picture changes at least


@dataclass(frozen=True)
class ShotsConfig:
    """Settings of the shots stage.

    Attributes:
        detector: ``transnetv2``, ``content`` or ``adaptive``.
        min_shot_s: Shorter shots are dropped.
        transnetv2_threshold: Score of a transition, 0 to 1.
        content_threshold: content_val of a cut, 0 to 255.
        adaptive_ratio: A cut's content_val over the mean of its neighbours.
        adaptive_min_content: Least content_val of a cut for ``adaptive``.
        adaptive_window: Neighbours on each side.
        fades: Whether black pictures separate shots.
        fade_s: Longest way down to black, and up again.
        black_level: Grey level that no colour of a black thumbnail passes.
        flash_guard: Whether flashes and changes of light are told from cuts.
        flash_s: A flash lasts at most so long.
        same_difference: Most mean grey levels between two thumbnails of the same scene.
        same_share: The same as a share of the largest change of picture around the transition.
        same_correlation: Least correlation of two thumbnails of the same scene.
    """

    detector: str = "transnetv2"
    min_shot_s: float = 5.0
    transnetv2_threshold: float = 0.5
    content_threshold: float = 27.0
    adaptive_ratio: float = 3.0
    adaptive_min_content: float = 15.0
    adaptive_window: int = 2
    fades: bool = True
    fade_s: float = 1.0
    black_level: float = 16.0
    flash_guard: bool = True
    flash_s: float = 0.15
    same_difference: float = 10.0
    same_share: float = 0.3
    same_correlation: float = 0.9

    def __post_init__(self) -> None:
        if self.detector not in DETECTORS:
            raise UserError(f"shots.detector is {self.detector!r}.", hint=f"Take one of {', '.join(DETECTORS)}.")
        check_ranges("shots", self, _RANGES)


_RANGES = {
    "min_shot_s": FROM_ZERO, "transnetv2_threshold": SHARE, "content_threshold": GREY, "adaptive_ratio": FROM_ZERO,
    "adaptive_min_content": GREY, "adaptive_window": (1, math.inf), "fade_s": FROM_ZERO, "black_level": GREY,
    "flash_s": FROM_ZERO, "same_difference": GREY, "same_share": SHARE, "same_correlation": (-1.0, 1.0),
}  # fmt: skip


@dataclass(frozen=True)
class Transition:
    """Pictures between two shots.

    Attributes:
        first: Number of the first picture of the transition.
        after: Number of the first picture of the next shot; equal to `first` for a hard cut.
        middle: Number of the picture at which the shots are parted when one number is asked for.
        black: Whether the middle is that of a black run.
    """

    first: int
    after: int
    middle: int
    black: bool = False


class ShotsObserver:
    """Scores and thumbnails of one source. Memory grows by 200 bytes a picture."""

    def __init__(self, detector: str) -> None:
        self._detector = detector
        self._network: TransNetScores | None = None
        if detector == "transnetv2":
            self._network = TransNetScores()
        self._scorer = self._network or ContentScores()
        self._times: list[FloatArray] = []
        self._scores: list[Array] = []
        self._thumbs: list[Array] = []

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) RGB frames and their (B,) seconds."""
        if not len(frames):
            return
        self._times.append(np.array(times_s, np.float64))
        size = working_size(frames.shape[1:], SIDE)
        small = np.stack([resized(frame, *size) for frame in frames])
        self._thumbs.append(np.stack([resized(frame, THUMB, THUMB) for frame in small]))
        self._scores.append(self._scorer.update(small))

    def finish(self) -> Timeline:
        """One sample a picture: ``thumb`` (8, 8, 3) and ``content`` or ``transition`` and ``transition_any``."""
        times = np.concatenate([np.zeros(0), *self._times])
        thumbs = np.concatenate([np.zeros((0, THUMB, THUMB, 3), np.uint8), *self._thumbs])
        values: dict[str, Array] = {"thumb": thumbs}
        if self._network is None:
            values["content"] = np.concatenate([np.zeros(0, np.float32), *self._scores])
        else:
            scores = np.concatenate([*self._scores, self._network.finish()])
            values |= {"transition": scores[:, 0], "transition_any": scores[:, 1]}
        return Timeline(times, values, {"detector": self._detector})


def transitions(timeline: Timeline, config: ShotsConfig) -> tuple[Transition, ...]:
    """Where shots part, in order; see the module. A pure function of scores and thresholds."""
    if not len(timeline.times_s):
        return ()
    found = list(_detected(timeline, config))
    if config.flash_guard:
        found = list(_guarded(timeline, found, config))
    if config.fades:
        found.extend(_fades(timeline, config))
    found.sort(key=lambda one: (one.first, one.after))
    return tuple(map(_joined, _groups(found, timeline.times_s, config.flash_s)))


def boundaries(timeline: Timeline, config: ShotsConfig, end_s: float | None = None) -> list[tuple[float, float]]:
    """Shots as ``(start_s, end_s)``.

    Args:
        timeline: Of a `ShotsObserver`, or a part of one.
        config: Thresholds.
        end_s: End of the last shot; by default one median distance behind the last picture.
    """
    times = timeline.times_s
    if not len(times):
        return []
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    limits = np.append(times, times[-1] + step if end_s is None else max(end_s, times[-1]))
    shots, start = [], 0
    for one in transitions(timeline, config):
        shots.append((float(limits[start]), float(limits[one.first])))
        start = one.after
    shots.append((float(limits[start]), float(limits[-1])))
    return [(a, b) for a, b in shots if b > a]


def cut_times(timeline: Timeline, config: ShotsConfig) -> FloatArray:
    """(C,) seconds at which shots part: of the first picture after a cut, of the middle of a gradual transition.

    Transitions at the very beginning and end part nothing and are left out.
    """
    count = len(timeline.times_s)
    inner = [one.middle for one in transitions(timeline, config) if one.first > 0 and one.after < count]
    return timeline.times_s[np.array(inner, np.intp)]


def _detected(timeline: Timeline, config: ShotsConfig) -> Iterator[Transition]:
    values = timeline.values
    if config.detector == "transnetv2":
        sure = values["transition"] > config.transnetv2_threshold
        part = sure | (values["transition_any"] > config.transnetv2_threshold)
        for first, after in _runs(part):
            if sure[first:after].any():
                yield Transition(first, after, (first + after + 1) // 2)
        return
    content = np.asarray(values["content"], np.float64)
    if config.detector == "content":
        cut = content >= config.content_threshold
    else:
        ratio = adaptive_ratio(content, config.adaptive_window)
        cut = (ratio >= config.adaptive_ratio) & (content >= config.adaptive_min_content)
    for index in np.flatnonzero(cut).tolist():
        yield Transition(index, index, index)


def _runs(flags: Array) -> Iterator[tuple[int, int]]:
    """First and behind last of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _fades(timeline: Timeline, config: ShotsConfig) -> Iterator[Transition]:
    """Black runs with the ways down to them and up again."""
    times, thumbs = timeline.times_s, timeline.values["thumb"]
    black = thumbs.reshape(len(thumbs), -1).max(axis=1) <= config.black_level
    level = thumbs.reshape(len(thumbs), -1).mean(axis=1)
    for first, after in _runs(black):
        last_s = times[min(after, len(times) - 1)]
        if black.all() or last_s - times[first] <= config.flash_s + _SAME_S:
            continue
        low, high = first, after
        while low > 1 and level[low - 2] >= level[low - 1] + _RAMP and times[first] - times[low - 1] <= config.fade_s:
            low -= 1
        while (
            high < len(times) - 1 and level[high + 1] >= level[high] + _RAMP and times[high] - last_s <= config.fade_s
        ):
            high += 1
        yield Transition(low, high, min((first + after + 1) // 2, len(times) - 1), black=True)


def _guarded(timeline: Timeline, found: list[Transition], config: ShotsConfig) -> Iterator[Transition]:
    """The transitions that are no flashes."""
    for group in _groups(found, timeline.times_s, config.flash_s):
        whole = _joined(group)
        if _is_same(timeline, whole, config):
            continue
        kept = [one for one in group if not _is_flash(timeline, one, config)]
        if not kept and _length_s(timeline, whole) <= 2 * config.flash_s + _SAME_S:
            kept = [whole]
        yield from kept


def _length_s(timeline: Timeline, one: Transition) -> float:
    times = timeline.times_s
    return float(times[min(one.after, len(times) - 1)] - times[one.first])


def _is_flash(timeline: Timeline, one: Transition, config: ShotsConfig) -> bool:
    """Whether the same scene goes on behind a short transition."""
    return _length_s(timeline, one) <= config.flash_s + _SAME_S and _is_same(timeline, one, config)


def _is_same(timeline: Timeline, one: Transition, config: ShotsConfig) -> bool:
    """Whether a picture shortly before a transition shows the same scene as one shortly after it."""
    times, thumbs = timeline.times_s, timeline.values["thumb"]
    if one.first == 0 or one.after >= len(times):
        return False
    reach = config.flash_s + _SAME_S
    low = int(np.searchsorted(times, times[one.first - 1] - reach))
    high = int(np.searchsorted(times, times[one.after] + reach, side="right"))
    seen = np.asarray(thumbs[low:high], np.float64).reshape(high - low, THUMB * THUMB, 3)
    before, after = seen[: one.first - low], seen[one.after - low :]
    largest = max(_difference(before, seen).max(), _difference(after, seen).max())
    limit = min(config.same_difference, config.same_share * float(largest))
    if _difference(before, after).min() <= limit:
        return True
    rest, correlation = _without_light(before, after)
    return bool(((rest <= limit) & (correlation >= config.same_correlation)).any())


def _difference(some: FloatArray, others: FloatArray) -> FloatArray:
    """(P, N) mean absolute grey levels between thumbnails (P, K, 3) and (N, K, 3)."""
    return np.asarray(np.stack([np.abs(one - others).mean(axis=(1, 2)) for one in some]))


def _without_light(before: FloatArray, after: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What differs when gain and offset of each channel are fitted, and how well pictures correlate.

    Args:
        before: (P, K, 3) colours.
        after: (N, K, 3) colours.

    Returns:
        (P, N) mean absolute grey levels, the larger of fitting the one to the other and the other to the one, and
        (P, N) correlations.
    """
    x = (before - before.mean(axis=1, keepdims=True))[:, None]
    y = (after - after.mean(axis=1, keepdims=True))[None]
    both = (x * y).sum(axis=2, keepdims=True)
    size_x, size_y = (np.square(part).sum(axis=2, keepdims=True) + 1e-6 for part in (x, y))
    rest = [np.abs(y - both / size_x * x).mean(axis=(2, 3)), np.abs(x - both / size_y * y).mean(axis=(2, 3))]
    correlation = both.sum(axis=3) / np.sqrt(size_x.sum(axis=3) * size_y.sum(axis=3))
    return np.maximum(*rest), correlation[..., 0]


def _groups(found: list[Transition], times: FloatArray, gap_s: float) -> Iterator[list[Transition]]:
    """Transitions in order, those with less than `gap_s` between them together."""
    group: list[Transition] = []
    after = 0
    for one in found:
        if group and one.first > after and times[one.first] - times[after] >= gap_s - _SAME_S:
            yield group
            group, after = [], 0
        group.append(one)
        after = max(after, one.after)
    if group:
        yield group


def _joined(group: list[Transition]) -> Transition:
    """One transition over all; the middle is that of its black runs, or else of all."""
    if len(group) == 1:
        return group[0]
    first, after = min(one.first for one in group), max(one.after for one in group)
    black = [one.middle for one in group if one.black]
    middle = (black[0] + black[-1] + 1) // 2 if black else (first + after + 1) // 2
    return Transition(first, after, middle, bool(black))


@stage("shots")
class Shots:
    """Splits a source into its shots and drops the short ones."""

    name = "shots"

    def __init__(self, config: ShotsConfig | None = None) -> None:
        self.config = config or ShotsConfig()

    def observer_settings(self) -> Mapping[str, Any]:
        """What decides the timeline: ``content`` and ``adaptive`` share one."""
        scores = "transnetv2" if self.config.detector == "transnetv2" else "content"
        return {"version": 1, "scores": scores, "thumb": THUMB}

    def observe(self, info: VideoInfo) -> ShotsObserver:
        """A fresh observer for one source."""
        return ShotsObserver(self.config.detector)

    def process(self, task: Task) -> Verdict:
        """Split one span by the timeline of its source."""
        whole = task.observed[self.name]
        timeline = whole.within(task.start_s, np.inf if task.end_s is None else task.end_s)
        shots = boundaries(timeline, self.config, task.end_s)
        scores = {"shots": float(len(shots))}
        if not shots:
            return Verdict(scores, Rejection(self.name, "no shot"))
        kept, dropped = [], []
        for start_s, end_s in shots:
            part = self._part(task, timeline, start_s, end_s)
            if end_s - start_s >= self.config.min_shot_s - _SAME_S:
                kept.append(part)
            else:
                short = Rejection(self.name, "shot too short", end_s - start_s, self.config.min_shot_s)
                dropped.append((part, short))
        if not kept and len(dropped) == 1:
            return Verdict(scores, dropped[0][1])
        return Verdict(scores, None, tuple(kept), tuple(dropped))

    def _part(self, task: Task, timeline: Timeline, start_s: float, end_s: float) -> Task:
        span = timeline.within(start_s, end_s)
        name = "transition" if "transition" in span.values else "content"
        strongest = float(span.values[name][1:].max(initial=0.0))
        scores = {**task.scores, "shots.length_s": end_s - start_s, f"shots.{name}_max": strongest}
        return dataclasses.replace(task, start_s=start_s, end_s=end_s, scores=scores)
