"""Counting people with the detectors of the pose back ends: see `macebench.people`.

**RT-DETR** (back end ``vitpose``) is a detector of many objects: its person boxes are the people. Keypoints of the
main person come from ViTPose.

**BlazePose** was made to find one person. Its detector sees a picture at 224 pixels, and a prominent person hides the
others from it. So each picture is looked at twice:

1. the whole picture, letterboxed;
2. a square of 0.6 times the longer side at one of its ends (the left one in pictures of even number, the right one in
   those of odd number; top and bottom of a tall picture), in which the people found so far are painted over with their
   surroundings.

Every candidate with the detector's least score must pass the guard of the pose back end (person flag, sharpness of
the heat maps: `macebench.models.pose.blazepose`), and its keypoints must not be those of a person found before. The
second look is left out when two people are known already: this counter tells none, one, and two or more apart.

Measured (share of pictures in which two people were found; the second one is cut out of a real video and pasted
beside the first, in a square picture):

======================================================  =====================================================
second person                                           share of pictures with two
======================================================  =====================================================
beside, 0.3 to 0.15 picture widths away (arms overlap)  0.83 to 0.72
behind, 0.1 widths away or less (trunks overlap)        0.00; the poses blur, and up to 0.72 have no person at all
smaller: 38 % of the picture's height                   0.78
smaller: 29 %, 24 %, 19 % of the height, at one side    0.50: whenever that side is looked at
smaller: 16 % of the height (1.2 % of the area)         0.17
smaller: 12 % of the height                             0.00
======================================================  =====================================================

Rendered dancers: two side by side 13 of 15 pictures, somebody who stands behind 10 of 10 once wholly in the picture;
one dancer alone 200 of 200 pictures, never two. So it cannot see who is smaller than about a fifth of the picture's
height, who is hidden by more than half, and groups that are all small: a distant crowd has no person for it. A vote
over pictures must not ask for more than half of them, and who is small must stay twice as long to be noticed. People
drawn or printed in the background count when they look like people. Looking at both sides of every picture finds the
small ones in all pictures, and costs half as much again.

Boxes of BlazePose are the bounding boxes of the confident keypoints, widened by 6 % of their longer side (12 % at the
top, where the skull is above the eyes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from macebench.models.pose import blazepose_steps as steps
from macebench.models.pose import vitpose_steps
from macebench.people import NOBODY, People
from macebench.protocol import PoseBackend
from macebench.types import FloatArray

if TYPE_CHECKING:
    from macebench.models.pose import blazepose, vitpose

RTDETR_SCORE_MIN = 0.35
ENOUGH, MOST = 2, 4
SQUARE_SHARE = 0.6
SEEN = 0.3
SAME_SHARE = 0.25
WIDER, WIDER_TOP = 0.06, 0.12
_COCO = list(steps.COCO17_IN_BLAZEPOSE)
_LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))
_ENDS = (9, 10, 15, 16)
_BEYOND, _LIMB_SHARE, _HEAD_SHARE = 0.35, 0.2, 0.25
_FILL_SIZE, _FILL_REACH, _FILL_MIN = 56, (3, 7, 15, 41, 111), 0.05
_SUBPIXEL = 2


@dataclass(frozen=True)
class _Person:
    """One person of a picture: (17, 2) pixels, (17,) confidences, (4,) box, score, radius of the body circle."""

    keypoints: FloatArray
    confidence: FloatArray
    box: FloatArray
    score: float
    radius: float


class BlazePosePeople:
    """Tells none, one, and two or more people apart with BlazePose; see the module.

    Args:
        networks: Gives the networks; called at the first picture.
        backend: What the pose back end says of itself.
        thresholds: Those of the pose back end.
    """

    batch = 1
    version = 2

    def __init__(
        self, networks: Callable[[], blazepose.Networks], backend: PoseBackend, thresholds: Mapping[str, float]
    ) -> None:
        self._load, self._backend = networks, backend
        self._limits = {key: thresholds[key] for key in ("detector_score_min", "presence_min", "sharpness_start")}

    def describe(self) -> dict[str, float | int | str | bool]:
        """What decides the result."""
        named = {"counter": "blazepose", "detector": "blazepose", "weights_sha256": self._backend.weights_sha256 or ""}
        return {**named, **self._limits, "counter_version": self.version}

    def count(self, frames: NDArray[np.uint8], first: int = 0) -> list[People]:
        """The people in each of (B, H, W, 3) RGB pictures; `first` is the number of the first one."""
        return [self._count(np.ascontiguousarray(frame), first + k) for k, frame in enumerate(frames)]

    def _count(self, frame: NDArray[np.uint8], number: int) -> People:
        height, width = frame.shape[:2]
        found: list[_Person] = []
        for region in looks(width, height, number):
            picture = steps.crop(frame, region, steps.DETECTOR_SIZE)
            for person in found:
                picture = painted_over(picture, *_inside(person, region))
            found += self._look(frame, picture, region, found)
            if len(found) >= ENOUGH:
                break
        return _people(found)

    def _look(
        self, frame: NDArray[np.uint8], picture: NDArray[np.float32], region: steps.Region, known: list[_Person]
    ) -> list[_Person]:
        """People in one region who are not among the `known`."""
        networks, new = self._load(), list[_Person]()
        for row in networks.detect(picture, self._limits["detector_score_min"])[:MOST]:
            circle = steps.to_picture(row[5:9].reshape(2, 2) * steps.DETECTOR_SIZE, region, steps.DETECTOR_SIZE)
            person = self._person(frame, steps.region_of_circle(circle[0], circle[1]), float(row[0]))
            if person is not None and not any(_same(person, other) for other in (*known, *new)):
                new.append(person)
        return new

    def _person(self, frame: NDArray[np.uint8], region: steps.Region, score: float) -> _Person | None:
        """The person of a region, or None when the guard says no."""
        from macebench.models.pose.blazepose import REGION_SHARE_MAX, REGION_SHARE_MIN

        height, width = frame.shape[:2]
        if not REGION_SHARE_MIN <= region[2] / max(width, height) <= REGION_SHARE_MAX:
            return None
        found = self._load().landmarks(frame, region)
        if found.flag < self._limits["presence_min"] or found.sharpness < self._limits["sharpness_start"]:
            return None
        points, confidence = found.points[_COCO], found.confidence[_COCO]
        box = box_of(points, confidence, width, height)
        radius = region[2] / (2 * steps.REGION_SCALE)
        return None if box is None else _Person(points, confidence, box, score, radius)


def looks(width: int, height: int, number: int) -> tuple[steps.Region, steps.Region]:
    """The regions of picture `number` in which people are looked for, the whole picture first."""
    longer = max(width, height)
    side = SQUARE_SHARE * longer
    move = (longer - side) / 2 * (1 if number % 2 else -1)
    x, y = (move, 0.0) if width >= height else (0.0, move)
    return steps.whole_picture(width, height), (width / 2 + x, height / 2 + y, side, 0.0)


def box_of(points: FloatArray, confidence: FloatArray, width: int, height: int) -> FloatArray | None:
    """(4,) box around the confident keypoints, inside the picture; None when fewer than three are confident."""
    seen = points[confidence > SEEN]
    if len(seen) < 3:
        return None
    low, high = seen.min(axis=0), seen.max(axis=0)
    longer = float((high - low).max())
    low, high = low - longer * np.array([WIDER, WIDER_TOP]), high + longer * WIDER
    box = np.clip(np.concatenate([low, high]), 0.0, [width, height, width, height])
    return box if (box[2:] > box[:2]).all() else None


def _same(a: _Person, b: _Person) -> bool:
    """Whether most keypoints of two people are at the same places."""
    distance = float(np.median(np.linalg.norm(a.keypoints - b.keypoints, axis=1)))
    return distance < SAME_SHARE * max(a.radius, b.radius)


def _inside(person: _Person, region: steps.Region) -> tuple[FloatArray, float]:
    """Keypoints and radius of a person in the pixels of a region's crop."""
    matrix = steps.region_matrix(region, steps.DETECTOR_SIZE)
    points = (person.keypoints - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return points, person.radius * steps.DETECTOR_SIZE / region[2]


def body_mask(points: FloatArray, radius: float, side: int) -> NDArray[np.uint8]:
    """(side, side) mask of a body: 1 on limbs, trunk and head.

    Args:
        points: (17, 2) COCO keypoints in pixels.
        radius: Radius of the circle around the body in pixels; limbs are 0.2 of it wide.
        side: Pixels of the mask.
    """
    import cv2

    mask = np.zeros((side, side), np.uint8)
    far = 8.0 * side
    joints = np.round(np.clip(points, -far, far) * 2**_SUBPIXEL).astype(np.int32)
    thick = max(2, round(_LIMB_SHARE * radius))

    def line(a: NDArray[np.int32], b: NDArray[np.int32]) -> None:
        cv2.line(mask, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), 1, thick, shift=_SUBPIXEL)

    for a, b in _LIMBS:
        beyond = np.round(_BEYOND * (joints[b] - joints[a])).astype(np.int32) if b in _ENDS else 0
        line(joints[a], joints[b] + beyond)
    trunk = cv2.convexHull(joints[[5, 6, 12, 11]])
    cv2.fillConvexPoly(mask, trunk, 1, shift=_SUBPIXEL)
    cv2.polylines(mask, [trunk], True, 1, thick, shift=_SUBPIXEL)
    head = np.round(joints[:5].mean(axis=0)).astype(np.int32)
    reach = max(1, round(_HEAD_SHARE * radius * 2**_SUBPIXEL))
    cv2.circle(mask, (int(head[0]), int(head[1])), reach, 1, -1, shift=_SUBPIXEL)
    line((joints[5] + joints[6]) // 2, head)
    return mask


def painted_over(picture: NDArray[np.float32], points: FloatArray, radius: float) -> NDArray[np.float32]:
    """A (S, S, 3) picture in which a body is filled with the means of what surrounds it."""
    import cv2

    mask = body_mask(points, radius, picture.shape[0])
    if not mask.any():
        return picture
    kept = (1 - mask).astype(np.float32)
    known = np.dstack([picture * kept[:, :, None], kept])
    small = cv2.resize(known, (_FILL_SIZE, _FILL_SIZE), interpolation=cv2.INTER_AREA)
    filled = np.zeros((_FILL_SIZE, _FILL_SIZE, 3), np.float32)
    missing = np.ones((_FILL_SIZE, _FILL_SIZE), dtype=bool)
    for reach in _FILL_REACH:
        near = cv2.blur(small, (reach, reach), borderType=cv2.BORDER_CONSTANT)
        enough = missing & (near[:, :, 3] > (_FILL_MIN if reach != _FILL_REACH[-1] else 0.0))
        filled[enough] = near[enough, :3] / near[enough, 3:]
        missing &= ~enough
    whole = cv2.resize(filled, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(mask[:, :, None] > 0, whole, picture).astype(np.float32)


def _people(found: list[_Person]) -> People:
    """The main person (largest area times score) first."""
    if not found:
        return NOBODY
    boxes, scores = np.stack([person.box for person in found]), np.array([person.score for person in found])
    order = _most_prominent_first(boxes, scores)
    main = found[order[0]]
    return People(boxes[order], scores[order], main.keypoints, main.confidence)


def _most_prominent_first(boxes: FloatArray, scores: FloatArray) -> NDArray[np.int64]:
    return np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * scores, kind="stable")


class ViTPosePeople:
    """Counts the person boxes of RT-DETR; see the module.

    Args:
        networks: Gives the networks; called at the first picture.
        backend: What the pose back end says of itself.
        batch: Pictures that go through a network at once.
    """

    version = 1

    def __init__(self, networks: Callable[[], vitpose.Networks], backend: PoseBackend, batch: int) -> None:
        self._load, self._backend, self.batch = networks, backend, batch

    def describe(self) -> dict[str, float | int | str | bool]:
        """What decides the result."""
        named = {"counter": "vitpose", "detector": "rt-detr", "weights_sha256": self._backend.weights_sha256 or ""}
        return {**named, "pose_model": self._backend.model, "score_min": RTDETR_SCORE_MIN,
                "counter_version": self.version}  # fmt: skip

    def count(self, frames: NDArray[np.uint8], first: int = 0) -> list[People]:
        """The people in each of (B, H, W, 3) RGB pictures; their numbers do not matter."""
        networks, result = self._load(), list[People]()
        for start in range(0, len(frames), self.batch):
            part = [np.ascontiguousarray(frame) for frame in frames[start : start + self.batch]]
            logits, shares = networks.detect(part)
            result += [_boxes(logits[k], shares[k], frame) for k, frame in enumerate(part)]
        return self._with_poses(networks, frames, result)

    def _with_poses(self, networks: vitpose.Networks, frames: NDArray[np.uint8], people: list[People]) -> list[People]:
        """The same people with keypoints of each main person."""
        crops = {k: vitpose_steps.crop_of_box(found.boxes[0]) for k, found in enumerate(people) if len(found)}
        if not crops:
            return people
        inputs = np.stack([vitpose_steps.cut(np.ascontiguousarray(frames[k]), crop) for k, crop in crops.items()])
        result = list(people)
        for (k, crop), heatmaps in zip(crops.items(), networks.heatmaps(inputs), strict=True):
            cells, confidence = vitpose_steps.decode(heatmaps)
            points = vitpose_steps.to_picture(cells, crop, (heatmaps.shape[2], heatmaps.shape[1]))
            result[k] = People(people[k].boxes, people[k].scores, points, confidence)
        return result


def _boxes(logits: FloatArray, shares: FloatArray, frame: NDArray[np.uint8]) -> People:
    """The person boxes of one picture, cut at its border; no keypoints yet."""
    height, width = frame.shape[:2]
    boxes, scores = vitpose_steps.person_boxes(logits, shares, (width, height), RTDETR_SCORE_MIN)
    boxes = np.clip(boxes, 0.0, [width, height, width, height])
    there = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes, scores = boxes[there], scores[there]
    if not len(boxes):
        return NOBODY
    order = _most_prominent_first(boxes, scores)
    return People(boxes[order], scores[order], NOBODY.keypoints, NOBODY.confidence)
