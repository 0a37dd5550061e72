"""Exact 2-D poses of a 3-D motion, seen by the camera of the demo's renderer: *projected poses*.

They stand for what a perfect pose estimator would find: every keypoint in every frame, confidence 1, nothing hidden.
What SMPL-24 does not know is put where it is on an adult: nose, eyes and ears in the frame of the head (its up is neck
to head, its left the line of the shoulders), small toes beside the big ones, heels behind the ankles. Lengths in
metres.
"""

from __future__ import annotations

import numpy as np

from macebench.render.camera import fit_camera
from macebench.skeleton import COCO25, SMPL_JOINTS
from macebench.types import FloatArray, Motion, PoseTrack

SIZE_PX = 512
# (forward, up, left) from the head joint in metres
_FACE = {
    "nose": (0.12, 0.06, 0.0), "leye": (0.10, 0.10, 0.032), "reye": (0.10, 0.10, -0.032),
    "lear": (0.02, 0.07, 0.075), "rear": (0.02, 0.07, -0.075),
}  # fmt: skip
_TOE_WIDTH_M, _HEEL_M = 0.04, 0.06


def projected_pose(motion: Motion, *, size: int = SIZE_PX) -> PoseTrack:
    """The pose track (coco25) of a motion in a square picture of `size` pixels that holds the whole dance."""
    camera = fit_camera(motion, size, size)
    points = _keypoints(motion.joints)
    pixels, _ = camera.project(points, size, size)
    times = np.arange(len(motion)) / motion.fps
    return PoseTrack(pixels, np.ones(pixels.shape[:2]), times, size, size, "coco25")


def _keypoints(joints: FloatArray) -> FloatArray:
    """(T, 25, 3) keypoints of (T, 24, 3) joints."""
    named = {name: joints[:, index] for index, name in enumerate(SMPL_JOINTS)}
    up = _unit(named["head"] - named["neck"])
    across = named["lshoulder"] - named["rshoulder"]
    left = _unit(across - up * np.sum(across * up, axis=1, keepdims=True))
    forward = np.cross(left, up)
    points = {name: named["head"] + f * forward + u * up + s * left for name, (f, u, s) in _FACE.items()}
    points["neck"] = (named["lshoulder"] + named["rshoulder"]) / 2
    points["hip"] = (named["lhip"] + named["rhip"]) / 2
    for side, sign in (("l", 1.0), ("r", -1.0)):
        ankle, toes = named[f"{side}ankle"], named[f"{side}toes"]
        ahead = _unit((toes - ankle) * [1.0, 0.0, 1.0])
        aside = sign * np.cross([0.0, 1.0, 0.0], ahead)
        points[f"{side}bigtoe"] = toes
        points[f"{side}smalltoe"] = toes + _TOE_WIDTH_M * aside
        points[f"{side}heel"] = np.stack([ankle[:, 0], toes[:, 1], ankle[:, 2]], axis=1) - _HEEL_M * ahead
    return np.stack([points[name] if name in points else named[name] for name in COCO25], axis=1)


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))
