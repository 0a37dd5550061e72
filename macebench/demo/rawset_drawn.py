"""Pictures of no person for the planted raw sources: shapes, a swinging lamp, drawn skeletons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from macebench.render import fit_camera
from macebench.skeleton import forward_kinematics_full
from macebench.types import FloatArray, Motion

Picture = NDArray[np.uint8]

# places in the frame of SMPL's head joint: nose, right eye, left eye, right ear, left ear, in metres
_FACE_M = np.array(
    [[0.0, 0.03, 0.12], [-0.035, 0.07, 0.10], [0.035, 0.07, 0.10], [-0.08, 0.05, 0.01], [0.08, 0.05, 0.01]]
)
_HEAD = 15
# neck, right arm, left arm, right leg, left leg: OpenPose's 18 points without the face
_BODY = (12, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7)
# pairs of (nose, _BODY, right eye, left eye, right ear, left ear)
_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip


def skeleton_points(motion: Motion) -> FloatArray:
    """(T, 18, 3) OpenPose's points of a motion with rotations, in metres."""
    if motion.rotations is None or motion.root is None:
        raise ValueError("the motion has no rotations")
    places, turns = forward_kinematics_full(motion.rotations, motion.root)
    face = places[:, _HEAD, None] + np.einsum("tab,fb->tfa", turns[:, _HEAD], _FACE_M)
    return np.concatenate([face[:, :1], places[:, list(_BODY)], face[:, 1:]], axis=1)


def skeletons(motion: Motion, width: int, height: int) -> Iterator[Picture]:
    """A dance as a coloured skeleton on black, as pose estimators draw it for video generators."""
    import cv2

    points, _ = fit_camera(motion, width, height, fill=0.9).project(skeleton_points(motion), width, height)
    thick = max(2, round(height / 110))
    for frame in points:
        canvas = np.zeros((height, width, 3), np.uint8)
        ends = [tuple(int(v) for v in np.round(16 * (point - 0.5))) for point in frame]
        for number, (a, b) in enumerate(_LIMBS):
            colour = tuple(0.6 * v for v in _rainbow(number, len(_LIMBS)))
            cv2.line(canvas, ends[a], ends[b], colour, 2 * thick, cv2.LINE_AA, 4)
        for number, end in enumerate(ends):
            cv2.circle(canvas, end, 16 * thick, _rainbow(number, len(ends)), -1, cv2.LINE_AA, 4)
        yield canvas


def _rainbow(number: int, count: int) -> tuple[float, float, float]:
    """Red, yellow, green, blue, magenta: fully saturated."""
    hue = 6.0 * number / count
    red, green, blue = np.clip([abs(hue - 3.0) - 1.0, 2.0 - abs(hue - 2.0), 2.0 - abs(hue - 4.0)], 0.0, 1.0)
    return 255.0 * float(red), 255.0 * float(green), 255.0 * float(blue)


def shapes(times_s: FloatArray, width: int, height: int, seed: int) -> Iterator[Picture]:
    """Discs, boxes and triangles that drift and bounce over a gradient."""
    import cv2

    rng = np.random.default_rng([seed, 0x5A])
    count = 9
    place, speed = rng.uniform(0.1, 0.9, (count, 2)), rng.uniform(-0.45, 0.45, (count, 2))
    radius, colours = rng.uniform(0.06, 0.17, count) * min(width, height), rng.integers(40, 256, (count, 3))
    corners = rng.integers(0, 5, count)
    ramp = np.linspace(0.25, 0.7, height)[:, None, None] * rng.integers(80, 220, 3)
    back = np.tile(ramp, (1, width, 1)).astype(np.uint8)
    for t in times_s:
        canvas = back.copy()
        folded = np.abs((place + speed * t) % 2.0 - 1.0) * [width, height]
        for k in range(count):
            colour = tuple(int(v) for v in colours[k])
            if corners[k] < 2:
                centre = (int(folded[k, 0]), int(folded[k, 1]))
                cv2.circle(canvas, centre, int(radius[k]), colour, -1, cv2.LINE_AA)
                continue
            angle = 1.5 * t * speed[k, 0] + 2.0 * np.pi * np.arange(corners[k] + 1) / (corners[k] + 1)
            ring = folded[k] + radius[k] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            cv2.fillConvexPoly(canvas, np.round(16 * ring).astype(np.int32), colour, cv2.LINE_AA, 4)
        yield canvas


def swinging_lamp(room: Picture, times_s: FloatArray) -> Iterator[Picture]:
    """A big lamp with its cone of light swings in a room."""
    import cv2

    height, width = room.shape[:2]
    dim = (0.55 * room).astype(np.uint8)
    rope = 0.42 * height
    for t in times_s:
        angle = 0.75 * np.sin(2.0 * np.pi * t / 2.6)
        hook = np.array([0.5 * width, -0.05 * height])
        along = np.array([np.sin(angle), np.cos(angle)])
        across = np.array([along[1], -along[0]])
        bulb, far = hook + rope * along, hook + 1.6 * height * along
        cone = np.stack([bulb - 0.1 * width * across, bulb + 0.1 * width * across,
                         far + 0.42 * width * across, far - 0.42 * width * across])  # fmt: skip
        light = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(light, np.round(16 * cone).astype(np.int32), 255, cv2.LINE_AA, 4)
        canvas = np.where(cv2.GaussianBlur(light, (0, 0), 3.0)[..., None] > 127, room, dim)
        cv2.line(canvas, _pixel(hook), _pixel(bulb), (25, 25, 25), max(1, width // 140), cv2.LINE_AA)
        shade = np.stack([bulb - 0.05 * height * along, bulb - 0.1 * width * across, bulb + 0.1 * width * across])
        cv2.fillConvexPoly(canvas, np.round(16 * shade).astype(np.int32), (200, 60, 40), cv2.LINE_AA, 4)
        yield canvas


def _pixel(point: FloatArray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
