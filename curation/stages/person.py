"""Stage ``person``: one person, whole in the picture, and no drawing.

A pose back end counts the people in sampled pictures (`macebench.people`): RT-DETR where its weights are on this
machine, else BlazePose. The timeline says which (``counter``, ``detector``, ``weights_sha256`` in its meta), and
``macebench.models.pose.people`` says what BlazePose cannot see: whoever is smaller than about a fifth of the picture's
height or hidden by more than half. It sees small people at the sides in every second sample only.

The decision is a vote over the samples of a span, never one picture. It is taken twice: over a shot, and over each clip
that is cut out of it. Scores of a span:

- ``one_share``, ``several_share``, ``none_share``: share of samples with exactly one person, two or more, none. The
  main person counts whatever its size, any other one from ``min_area`` on.
- ``body_share``: share of samples whose main person is wholly seen: the head (nose or both ears) and both ankles
  inside the picture and confident.
- ``pose_valid_ratio``: share of all keypoints of all samples that are confident and inside the picture.
- ``height_share``: median height of the main person's box as a share of the picture's; missing without a person.
- ``drawn_share``: share of samples that look like a drawn skeleton (`macebench.curation._people`).
- ``n_people_max``: most people in one sample;
- ``samples``: number of samples.

Reasons, the first that holds:

- ``drawn skeleton``: `drawn_share` reaches ``max_drawn_share``;
- ``no person``: a person in fewer than ``min_person_share`` of the samples;
- ``several people``: `several_share` reaches ``max_several_share`` (0 drops everything), in two samples at least;
- ``body not in frame``: `body_share` is below ``min_body_share``;
- ``person too small``: `height_share` is below ``min_height_share`` (off by default).

With ``give_up_s`` a source is ended early: when none of the samples of its first so many seconds shows exactly one
person, the rest is not decoded, and its only row in the ledger says ``nobody alone so far``. That saves most of the
cost of raw material from the web, and loses what a source with a long opening shows later; it is off by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.curation._people import VERSION, PeopleObserver
from macebench.curation._ranges import FROM_ZERO, SHARE, check_ranges
from macebench.curation.stage import Observer, Rejection, Task, Timeline, Verdict
from macebench.errors import UserError
from macebench.media import VideoInfo
from macebench.people import AUTO, PeopleCounter, people_counter
from macebench.registry import stage

_NOSE, _EARS, _ANKLES = 0, [3, 4], [15, 16]


@dataclass(frozen=True)
class PersonConfig:
    """What is looked at, and the thresholds of the vote; shares lie in [0, 1].

    Attributes:
        counter: Pose back end that counts; ``auto`` is RT-DETR (``vitpose``) where its weights are, else BlazePose.
        rate_hz: Samples a second.
        min_score: Score of the detector that a person needs.
        min_area: Share of the picture's area that a second person needs.
        keypoint_min: Confidence that a keypoint needs.
        min_person_share: Samples with a person that a span needs.
        max_several_share: Samples with two people or more that drop a span.
        min_body_share: Samples with the whole body that a span needs.
        min_height_share: Median height of the person that a span needs.
        max_drawn_share: Samples with a drawn skeleton that drop a span.
        give_up_s: Seconds without anybody alone after which a source is ended; None never ends one. Decoding stops at
            the next multiple of `macebench.curation.observe.CHECK_S`.
        drawn_dark: Dark share of a drawn skeleton's picture, at least.
        drawn_vivid: Vivid share of its lit pixels, at least.
        drawn_hues: Its number of hues, at least.
    """

    counter: str = AUTO
    rate_hz: float = 2.0
    min_score: float = 0.35
    min_area: float = 0.02
    keypoint_min: float = 0.3
    min_person_share: float = 0.3
    max_several_share: float = 0.1
    min_body_share: float = 0.7
    min_height_share: float = 0.0
    max_drawn_share: float = 0.5
    give_up_s: float | None = None
    drawn_dark: float = 0.7
    drawn_vivid: float = 0.6
    drawn_hues: int = 6

    def __post_init__(self) -> None:
        if not 0.0 < self.rate_hz <= 240.0:
            raise UserError(f"person.rate_hz is {self.rate_hz}, allowed is above 0 up to 240.")
        if self.give_up_s is not None and not 0.0 < self.give_up_s < np.inf:
            raise UserError(f"person.give_up_s is {self.give_up_s}, allowed is null or a number above 0.")
        check_ranges("person", self, {**dict.fromkeys(_SHARES, SHARE), "drawn_hues": FROM_ZERO})


_SHARES = (
    "min_score", "min_area", "keypoint_min", "min_person_share", "max_several_share", "min_body_share",
    "min_height_share", "max_drawn_share", "drawn_dark", "drawn_vivid",
)  # fmt: skip


@stage("person")
class Person:
    """Keeps spans with one person who is wholly in the picture."""

    name = "person"
    judges_clips = True

    def __init__(self, config: PersonConfig | None = None) -> None:
        self.config = config or PersonConfig()
        self._counter: PeopleCounter | None = None

    def observer_settings(self) -> Mapping[str, Any]:
        """Counter, weights and rate: what decides the timeline."""
        return {"version": VERSION, "rate_hz": self.config.rate_hz, **self._counts().describe()}

    def observe(self, info: VideoInfo) -> Observer:
        """A fresh observer for one source. The first picture raises `WeightsMissingError` without weights."""
        give_up = None if self.config.give_up_s is None else self.hopeless
        return PeopleObserver(self._counts(), self.config.rate_hz, give_up)

    def hopeless(self, seen: Timeline) -> Rejection | None:
        """Why a source is ended early, or None; looks at the first ``give_up_s`` seconds only."""
        limit = self.config.give_up_s
        if limit is None or not len(seen.times_s) or seen.times_s[-1] + 1.0 / self.config.rate_hz < limit:
            return None
        alone = people_in(seen.within(0.0, limit), self.config) == 1
        return None if alone.any() else Rejection(self.name, "nobody alone so far", limit, limit)

    def process(self, task: Task) -> Verdict:
        """Decide on one span. Raises ValueError when the source was not observed."""
        if self.name not in task.observed:
            raise ValueError(f"{task.source} has no timeline of the stage {self.name}")
        seen = task.observed[self.name].within(task.start_s, np.inf if task.end_s is None else task.end_s)
        scores = span_scores(seen, self.config)
        return Verdict(scores, _reject(scores, self.config))

    def _counts(self) -> PeopleCounter:
        if self._counter is None:
            self._counter = people_counter(self.config.counter)
        return self._counter


def span_scores(seen: Timeline, config: PersonConfig) -> dict[str, float]:
    """Scores of a span from its samples; see the module. A span without a sample has nobody."""
    if not len(seen.times_s):
        return {"one_share": 0.0, "several_share": 0.0, "none_share": 1.0, "body_share": 0.0,
                "pose_valid_ratio": 0.0, "drawn_share": 0.0, "n_people_max": 0.0, "samples": 0.0}  # fmt: skip
    people = people_in(seen, config)
    valid = valid_keypoints(seen, config.keypoint_min) & (people > 0)[:, None]
    scores = {
        "one_share": float((people == 1).mean()),
        "several_share": float((people > 1).mean()),
        "none_share": float((people == 0).mean()),
        "body_share": float(whole_body(valid).mean()),
        "pose_valid_ratio": float(valid.mean()),
        "drawn_share": float(is_drawing(seen, config).mean()),
        "n_people_max": float(people.max()),
        "samples": float(len(people)),
    }
    if (people > 0).any():
        box = seen.values["box"][people > 0]
        scores["height_share"] = float(np.median(box[:, 3] - box[:, 1]))
    return scores


def people_in(seen: Timeline, config: PersonConfig) -> NDArray[np.int64]:
    """(S,) number of people in each sample."""
    there = np.nan_to_num(seen.values["scores"], nan=-1.0) >= config.min_score
    large = np.nan_to_num(seen.values["areas"], nan=-1.0) >= config.min_area
    large[:, 0] = True
    return np.asarray((there & large).sum(axis=1), np.int64)


def valid_keypoints(seen: Timeline, least: float) -> NDArray[np.bool_]:
    """(S, 17) keypoints of the main person that are confident and inside the picture."""
    points, confidence = seen.values["keypoints"][..., :2], seen.values["keypoints"][..., 2]
    inside = ((points >= 0.0) & (points <= 1.0)).all(axis=-1)
    return np.asarray(inside & (confidence >= least), bool)


def whole_body(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(S,) samples with the head (nose or both ears) and both ankles among the (S, 17) valid keypoints."""
    head = valid[:, _NOSE] | valid[:, _EARS].all(axis=1)
    return np.asarray(head & valid[:, _ANKLES].all(axis=1), bool)


def is_drawing(seen: Timeline, config: PersonConfig) -> NDArray[np.bool_]:
    """(S,) samples that look like a drawn skeleton on black; a missing number never does."""
    values = seen.values
    return np.asarray(
        (values["dark"] >= config.drawn_dark)
        & (values["vivid"] >= config.drawn_vivid)
        & (values["hues"] >= config.drawn_hues),
        bool,
    )  # fmt: skip


def _reject(scores: Mapping[str, float], config: PersonConfig) -> Rejection | None:
    """The first reason that holds; see the module."""
    if scores["drawn_share"] >= config.max_drawn_share:
        return Rejection("person", "drawn skeleton", scores["drawn_share"], config.max_drawn_share)
    person_share = 1.0 - scores["none_share"]
    if person_share == 0.0 or person_share < config.min_person_share:
        return Rejection("person", "no person", person_share, config.min_person_share)
    if _several(scores, config):
        return Rejection("person", "several people", scores["several_share"], config.max_several_share)
    if scores["body_share"] < config.min_body_share:
        return Rejection("person", "body not in frame", scores["body_share"], config.min_body_share)
    if scores["height_share"] < config.min_height_share:
        return Rejection("person", "person too small", scores["height_share"], config.min_height_share)
    return None


def _several(scores: Mapping[str, float], config: PersonConfig) -> bool:
    """Whether there are several people too often: one sample among others is not enough."""
    share, samples, limit = scores["several_share"], scores["samples"], config.max_several_share
    alone = limit > 0.0 and share * samples < 1.5 < samples
    return share >= limit and not alone
