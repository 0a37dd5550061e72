"""The arithmetic of ViTPose around its networks: pure functions of arrays.

Sources: ViTPose (Xu et al. 2022, arXiv 2204.12484) for the crop, UDP (Huang et al., CVPR 2020) for the coordinates of
pixel centres, DARK (Zhang et al., CVPR 2020) for the position between the cells of a heat map. The tests compare
with the image processor of transformers.

Coordinates are pixels of the picture, integers at pixel centres. A crop is ``(x, y, width, height)``: its centre and
size; the centres of its outermost pixels lie on its border (UDP).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.types import FloatArray

INPUT_SIZE = (192, 256)
DETECTOR_SIZE = 640
PADDING = 1.25
MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])
BLUR_CELLS, BLUR_KERNEL = 0.8, 11
LOG_MIN, LOG_MAX = 0.001, 50.0
STEP_MAX_CELLS = 1.5
PERSON = 0


def crop_of_box(box: FloatArray) -> FloatArray:
    """(4,) crop of a person's (4,) box: widened to the input's shape of 3:4, then by a quarter."""
    width, height = box[2] - box[0], box[3] - box[1]
    aspect = INPUT_SIZE[0] / INPUT_SIZE[1]
    size = np.array([max(width, height * aspect), max(height, width / aspect)]) * PADDING
    return np.concatenate([(box[:2] + box[2:]) / 2, size])


def cut(frame: NDArray[np.uint8], crop: FloatArray) -> NDArray[np.float32]:
    """(3, 256, 192) network input of a crop: bilinear, black outside the picture, ImageNet mean and deviation."""
    import cv2

    scale = crop[2:] / (np.array(INPUT_SIZE) - 1)
    matrix = np.column_stack([np.diag(scale), crop[:2] - crop[2:] / 2])
    picked = cv2.warpAffine(frame, matrix, INPUT_SIZE, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(((picked / 255.0 - MEAN) / DEVIATION).transpose(2, 0, 1), dtype=np.float32)


def decode(heatmaps: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Peaks of heat maps between the cells (DARK).

    The largest cell is moved by one Newton step on the logarithm of the map, which is smoothed first (Gaussian of 0.8
    cells, 11 x 11 cells) and limited to [0.001, 50]. Where that surface has no maximum within 1.5 cells the cell
    itself stays. A map without a positive value has no peak.

    Args:
        heatmaps: (K, H, W).

    Returns:
        (K, 2) cells x, y (fractional; NaN without a peak), and (K,) largest values, limited to [0, 1].
    """
    n, _, width = heatmaps.shape
    flat = heatmaps.reshape(n, -1)
    peak = np.argmax(flat, axis=1)
    cells = np.stack([peak % width, peak // width], axis=1)
    values = flat[np.arange(n), peak]
    points = np.where((values > 0)[:, None], cells + _newton(heatmaps, cells), np.nan)
    return points, np.clip(np.asarray(values, dtype=np.float64), 0.0, 1.0)


def _newton(heatmaps: NDArray[Any], cells: NDArray[np.int64]) -> FloatArray:
    """(K, 2) step from each cell to the maximum of the smoothed logarithm."""
    import cv2

    kernel = (BLUR_KERNEL, BLUR_KERNEL)
    smooth = [
        cv2.GaussianBlur(np.asarray(item, dtype=np.float64), kernel, BLUR_CELLS, borderType=cv2.BORDER_REFLECT)
        for item in heatmaps
    ]
    surface = np.pad(np.log(np.clip(np.stack(smooth), LOG_MIN, LOG_MAX)), ((0, 0), (1, 1), (1, 1)), mode="edge")
    steps = np.arange(3)
    rows, columns = cells[:, 1, None] + steps, cells[:, 0, None] + steps
    v = surface[np.arange(len(cells))[:, None, None], rows[:, :, None], columns[:, None, :]]  # (K, y, x), 3 x 3
    dx, dy = (v[:, 1, 2] - v[:, 1, 0]) / 2, (v[:, 2, 1] - v[:, 0, 1]) / 2
    dxx = v[:, 1, 2] - 2 * v[:, 1, 1] + v[:, 1, 0]
    dyy = v[:, 2, 1] - 2 * v[:, 1, 1] + v[:, 0, 1]
    dxy = (v[:, 2, 2] - v[:, 1, 2] - v[:, 2, 1] + 2 * v[:, 1, 1] - v[:, 1, 0] - v[:, 0, 1] + v[:, 0, 0]) / 2
    determinant = dxx * dyy - dxy**2
    peaked = (dxx < 0) & (determinant > 1e-12)
    safe = np.where(peaked, determinant, 1.0)
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=1) / safe[:, None]
    near = peaked & (np.abs(step) <= STEP_MAX_CELLS).all(axis=1)
    return np.asarray(np.where(near[:, None], step, 0.0))


def to_picture(cells: FloatArray, crop: FloatArray, grid: tuple[int, int]) -> FloatArray:
    """(K, 2) heat map cells to pixels of the picture; `grid` is (W, H) of the heat map."""
    return np.asarray(cells / (np.array(grid) - 1) * crop[2:] + crop[:2] - crop[2:] / 2)


def person_boxes(
    logits: NDArray[Any], boxes: NDArray[Any], size: tuple[int, int], score_min: float
) -> tuple[FloatArray, FloatArray]:
    """Persons of one picture from RT-DETR's output.

    Args:
        logits: (Q, C) class scores before the sigmoid; class 0 is the person.
        boxes: (Q, 4) centre x, centre y, width, height as shares of the picture.
        size: (width, height) of the picture.
        score_min: Boxes below are dropped.

    Returns:
        (N, 4) boxes left, top, right, bottom in pixels, and (N,) scores in [0, 1], best first.
    """
    scores = 1.0 / (1.0 + np.exp(-np.asarray(logits[:, PERSON], dtype=np.float64)))
    keep = np.flatnonzero(scores >= score_min)
    keep = keep[np.argsort(-scores[keep], kind="stable")]
    chosen = np.asarray(boxes[keep], dtype=np.float64)
    half = chosen[:, 2:] / 2
    corners = np.concatenate([chosen[:, :2] - half, chosen[:, :2] + half], axis=1)
    return corners * np.array([*size, *size]), scores[keep]
