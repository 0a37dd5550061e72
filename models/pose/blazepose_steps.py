"""The arithmetic of BlazePose around its two networks: pure functions of arrays, no files, no state.

Written from the public description: "BlazePose: On-device Real-time Body Pose tracking" (Bazarevsky et al. 2020,
arXiv 2006.10204), "BlazeFace" (2019, arXiv 1907.05047) for anchors and blended suppression, and the documented
graph options of MediaPipe Pose (google-ai-edge/mediapipe, Apache-2.0).

Coordinates are pixels of the picture, x right and y down, integers at pixel centres. A region is
``(x, y, size, angle)``: a square of `size` pixels about (x, y), turned by `angle` radians (clockwise on the
screen); at angle 0 its top is up.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.types import FloatArray

Region = tuple[float, float, float, float]

DETECTOR_SIZE = 224
LANDMARK_SIZE = 256
STRIDES = (8, 16, 32, 32, 32)
ANCHORS_PER_CELL = 2
N_LANDMARKS = 39
HIP_CENTRE, CIRCLE = 33, 34
REGION_SCALE = 1.25
SCORE_CLIP = 100.0

COCO17_IN_BLAZEPOSE: tuple[int, ...] = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""Index of each COCO-17 keypoint among BlazePose's 33."""


def sigmoid(values: NDArray[Any]) -> FloatArray:
    """``1 / (1 + exp(-v))`` in float64; `values` are clipped to [-100, 100] so that nothing overflows."""
    clipped = np.clip(np.asarray(values, dtype=np.float64), -SCORE_CLIP, SCORE_CLIP)
    return np.asarray(1.0 / (1.0 + np.exp(-clipped)))


def anchor_centres() -> FloatArray:
    """(2254, 2) anchor centres (x, y) as shares of the detector's input.

    One feature map a stride: 28x28, 14x14, and 7x7 three times; two anchors a cell. Maps of equal stride are
    interleaved cell by cell. All anchors have size 1, so only centres are needed.
    """
    parts = []
    for stride in sorted(set(STRIDES)):
        cells = DETECTOR_SIZE // stride
        centres = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(centres, centres, indexing="xy"), axis=-1).reshape(-1, 2)
        parts.append(np.repeat(grid, ANCHORS_PER_CELL * STRIDES.count(stride), axis=0))
    return np.concatenate(parts)


def decode_detections(
    regressors: NDArray[Any], logits: NDArray[Any], anchors: FloatArray, score_min: float
) -> FloatArray:
    """Candidate persons of one picture.

    Args:
        regressors: (2254, 12): box centre x, y, width, height, then four points x, y, in input pixels; centres and
            points are relative to the anchor.
        logits: (2254,) scores before the sigmoid.
        anchors: (2254, 2) of `anchor_centres`.
        score_min: Candidates below are dropped.

    Returns:
        (N, 13), best first: score, left, top, right, bottom, and four points (hip centre, full-body circle,
        shoulder centre, upper-body circle), all as shares of the input.
    """
    scores = sigmoid(logits)
    keep = np.flatnonzero(scores >= score_min)
    keep = keep[np.argsort(-scores[keep], kind="stable")]
    values = np.asarray(regressors[keep], dtype=np.float64) / DETECTOR_SIZE
    centre, half = values[:, 0:2] + anchors[keep], values[:, 2:4] / 2
    points = (values[:, 4:12].reshape(-1, 4, 2) + anchors[keep][:, None]).reshape(-1, 8)
    return np.concatenate([scores[keep][:, None], centre - half, centre + half, points], axis=1)


def iou(box: FloatArray, boxes: FloatArray) -> FloatArray:
    """(N,) intersection over union of one (4,) box with (N, 4) boxes: left, top, right, bottom."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=1)
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
    union = np.prod(np.maximum(box[2:] - box[:2], 0.0)) + areas - shared
    return np.asarray(np.where(union > 0, shared / np.where(union > 0, union, 1.0), 0.0))


def blend(candidates: FloatArray, iou_min: float = 0.3) -> FloatArray:
    """Weighted suppression (BlazeFace, section 4): each group of overlapping candidates becomes their mean.

    Args:
        candidates: (N, 13) of `decode_detections`.
        iou_min: Candidates that overlap the best one more than this are of its group.

    Returns:
        (M, 13), best first; the score is the group's best, the coordinates are means weighted by score.
    """
    rest, groups = candidates, []
    while len(rest):
        near = iou(rest[0, 1:5], rest[:, 1:5]) > iou_min
        near[0] = True
        group, rest = rest[near], rest[~near]
        mean = np.average(group, axis=0, weights=group[:, 0])
        mean[0] = group[0, 0]
        groups.append(mean)
    return np.stack(groups) if groups else np.empty((0, 13))


def whole_picture(width: int, height: int) -> Region:
    """The upright region that holds the whole picture (letterbox)."""
    return width / 2, height / 2, float(max(width, height)), 0.0


def region_of_circle(centre: FloatArray, rim: FloatArray) -> Region:
    """The region of a person from the hip centre and a point on the circle around the body.

    Its side is twice the circle's radius, times 1.25; it is turned so that the rim point is straight up.
    """
    x, y = float(rim[0] - centre[0]), float(rim[1] - centre[1])
    angle = math.pi / 2 - math.atan2(-y, x)
    angle -= 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))
    return float(centre[0]), float(centre[1]), 2 * math.hypot(x, y) * REGION_SCALE, angle


def region_matrix(region: Region, side: int) -> FloatArray:
    """(2, 3) matrix that takes a point of the region's `side` x `side` crop to the picture."""
    x, y, size, angle = region
    scale = size / side
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    offset = np.array([x, y]) - turn @ np.full(2, side / 2)
    return np.concatenate([turn, offset[:, None]], axis=1)


def crop(frame: NDArray[np.uint8], region: Region, side: int) -> NDArray[np.float32]:
    """The (side, side, 3) crop of a region in [0, 1], bilinear, black outside the picture."""
    import cv2

    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picked = cv2.warpAffine(frame, region_matrix(region, side), (side, side), flags=flags)
    return np.asarray(picked, dtype=np.float32) * np.float32(1 / 255)


def to_picture(points: FloatArray, region: Region, side: int) -> FloatArray:
    """(N, 2) points of a crop to pixels of the picture."""
    matrix = region_matrix(region, side)
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def refine(points: FloatArray, heatmaps: NDArray[Any], *, reach: int = 3, peak_min: float = 0.5) -> FloatArray:
    """Move landmarks to the centre of mass of their heat map nearby.

    Args:
        points: (N, 2) landmarks as shares of the crop.
        heatmaps: (H, W, N) logits.
        reach: The window is (2 reach + 1) cells wide, cut at the border.
        peak_min: A landmark moves only where the window's largest sigmoid is at least this.

    Returns:
        (N, 2) shares of the crop.
    """
    height, width, n = heatmaps.shape
    cells = np.floor(points * (width, height)).astype(np.int64)
    steps = np.arange(-reach, reach + 1)
    columns, rows = cells[:, 0, None] + steps, cells[:, 1, None] + steps
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    r, c = np.clip(rows, 0, height - 1)[:, :, None], np.clip(columns, 0, width - 1)[:, None, :]
    window = np.where(inside, sigmoid(heatmaps[r, c, np.arange(n)[:, None, None]]), 0.0)
    mass = window.sum(axis=(1, 2))
    move = (window.max(axis=(1, 2)) >= peak_min) & (mass > 0)
    safe = np.where(move, mass, 1.0)
    moved = np.stack([(window * c).sum(axis=(1, 2)) / safe / width, (window * r).sum(axis=(1, 2)) / safe / height], 1)
    centre_known = (cells >= 0).all(axis=1) & (cells[:, 0] < width) & (cells[:, 1] < height)
    return np.asarray(np.where((move & centre_known)[:, None], moved, points))


def sharpness(heatmaps: NDArray[Any], confidence: FloatArray, confident: float) -> float:
    """Mean peak of the heat maps of the joints whose confidence is above `confident`; 0 when there is none.

    Args:
        heatmaps: (H, W, N) logits.
        confidence: (N,) in [0, 1].
        confident: Threshold on the confidence.
    """
    chosen = confidence > confident
    if not chosen.any():
        return 0.0
    return float(sigmoid(heatmaps.max(axis=(0, 1))[chosen]).mean())
