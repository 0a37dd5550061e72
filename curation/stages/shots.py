"""Stage ``shots``: where one shot ends and the next begins.

Observed, for every picture: the score of a detector (TransNetV2's two outputs, or PySceneDetect's content_val) and a
thumbnail of 8x8 colours. Thresholds act on these, so they can be changed without decoding.

Decided, in this order:

1. *Transitions of the detector.* ``transnetv2``: each run of pictures whose first score is above the threshold, widened
   by the pictures around it whose second score is. ``content``: a cut where content_val reaches the threshold.
   ``adaptive``: where it reaches `adaptive_ratio` times the mean of its neighbours and `adaptive_min_content`.
2. *Fades.* A run of pictures that are black all over (no colour of the thumbnail above `black_level`) longer than
   `flash_s` is a transition.
3. *Flash guard.* A transition of at most `flash_s` is no cut when a picture shortly before it (`flash_s`) shows the same
   scene as one shortly after it. Lights may have changed in between: each channel of the one thumbnail is fitted to the
   other by gain and offset. Same means: the pictures' correlation is at least `same_correlation`, and what differs is
   at most `same_difference` grey levels and at most `same_share` of the largest change of picture around the transition.
   (A jump cut within one scene changes no more than the scene itself does, and stays a cut.)
4. *Shots* are what lies between transitions; pictures of a transition belong to neither side. Transitions less than
   `flash_s` apart are one. Shots under `min_shot_s` are dropped as "shot too short".

Spans are half-open in seconds of presentation time: from the first picture of a shot to the first one behind it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.curation._content import ContentScores, adaptive_ratio
from macebench.curation._pictures import resized
from macebench.curation.stage import Rejection, Task, Timeline, Verdict
from macebench.errors import UserError
from macebench.media import VideoInfo
from macebench.registry import stage
from macebench.types import Array, FloatArray

DETECTORS = ("transnetv2", "content", "adaptive")
THUMB = 8
_FLAT = 2.0


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
        black_level: Grey level that no colour of a black thumbnail passes.
        flash_guard: Whether flashes and changes of light are told from cuts.
        flash_s: A flash lasts at most so long.
        same_difference: Most grey levels between two thumbnails of the same scene.
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
    black_level: float = 16.0
    flash_guard: bool = True
    flash_s: float = 0.15
    same_difference: float = 10.0
    same_share: float = 0.3
    same_correlation: float = 0.9

    def __post_init__(self) -> None:
        if self.detector not in DETECTORS:
            raise UserError(f"shots.detector is {self.detector!r}.", hint=f"Take one of {', '.join(DETECTORS)}.")
        for name in ("min_shot_s", "flash_s"):
            if not getattr(self, name) >= 0:
                raise UserError(f"shots.{name} is {getattr(self, name)}.", hint="Give seconds, 0 or more.")
        if self.adaptive_window < 1:
            raise UserError(f"shots.adaptive_window is {self.adaptive_window}.", hint="Give 1 or more.")


@dataclass(frozen=True)
class Transition:
    """Pictures between two shots.

    Attributes:
        first: Number of the first picture of the transition.
        after: Number of the first picture of the next shot; equal to `first` for a hard cut.
    """

    first: int
    after: int


class ShotsObserver:
    """Scores and thumbnails of one source. Memory grows by 200 bytes a picture."""

    def __init__(self, detector: str) -> None:
        self._detector = detector
        self._network: Any = None
        self._content: ContentScores | None = None
        if detector == "transnetv2":
            from macebench.curation._transnet import TransNetScores

            self._network = TransNetScores()
        else:
            self._content = ContentScores()
        self._times: list[FloatArray] = []
        self._scores: list[Array] = []
        self._thumbs: list[Array] = []

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) RGB frames and their (B,) seconds."""
        if not len(frames):
            return
        scorer = self._network or self._content
        self._times.append(np.array(times_s, np.float64))
        self._thumbs.append(np.stack([resized(frame, THUMB, THUMB) for frame in frames]))
        self._scores.append(scorer.update(frames))

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
