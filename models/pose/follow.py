"""Following one person through boxes of many: the most prominent at first, then whoever overlaps the last box.

Boxes are ``left, top, right, bottom`` in pixels.
"""

from __future__ import annotations

import numpy as np

from macebench.models.pose.blazepose_steps import iou
from macebench.types import FloatArray


class Follower:
    """Chooses one box a frame; frames are given in order.

    The person is taken up where ``area * score`` is largest. Afterwards the box with the largest intersection over
    union with the person's last box is the person, when that is at least `iou_min`. After more than `patience_s`
    seconds without one, the most prominent box is taken up again.

    Args:
        iou_min: Overlap in [0, 1] that makes two boxes the same person.
        patience_s: Seconds for which a lost person is waited for.
    """

    def __init__(self, iou_min: float, patience_s: float) -> None:
        self._iou_min, self._patience_s = iou_min, patience_s
        self._box: FloatArray | None = None
        self._seen_s = 0.0

    def choose(self, boxes: FloatArray, scores: FloatArray, time_s: float) -> int | None:
        """Index of the person among (N, 4) boxes with (N,) scores at `time_s` seconds, or None."""
        if self._box is not None and time_s - self._seen_s > self._patience_s:
            self._box = None
        if not len(boxes):
            return None
        if self._box is None:
            size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
            index = int(np.argmax(size.prod(axis=1) * scores))
        else:
            overlap = iou(self._box, boxes)
            index = int(np.argmax(overlap))
            if overlap[index] < self._iou_min:
                return None
        self._box, self._seen_s = np.asarray(boxes[index], dtype=np.float64), time_s
        return index
