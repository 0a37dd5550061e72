"""The room around the dancer: a wall with a gradient, a checked floor, soft shadows.

The shadows are blurred strokes on the floor below the bones: a wide faint one below the whole body, and a narrow
dark one below what touches the floor. Everything is drawn at `OVERSAMPLING` times the picture's size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from macebench.render.base import Scene
from macebench.render.camera import Camera
from macebench.skeleton import SMPL_PARENTS
from macebench.types import Array, FloatArray

OVERSAMPLING = 2
_SHADOW_COARSER = 4


class Room:
    """The room of one clip; the camera stands still.

    Args:
        scene: Camera, colours and floor.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
    """

    def __init__(self, scene: Scene, width: int, height: int) -> None:
        self._camera = scene.camera
        self._size = (width, height)
        self._empty = _paint(scene, width * OVERSAMPLING, height * OVERSAMPLING)

    def canvas(self, joints: FloatArray) -> NDArray[np.uint8]:
        """The room with the shadow of a dancer with `joints` (24, 3), large: a copy to draw on."""
        canvas = self._empty.copy()
        _shadow(canvas, joints, self._camera)
        return canvas

    def small(self, canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A large canvas at the picture's size."""
        import cv2

        return np.asarray(cv2.resize(canvas, self._size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _paint(scene: Scene, width: int, height: int) -> NDArray[np.uint8]:
    """The picture without a dancer: a wall's gradient and a checked floor that fades into it."""
    camera, look = scene.camera, scene.look
    focal = camera.focal_px(height)
    x, y = np.meshgrid(np.arange(width) + 0.5 - 0.5 * width, 0.5 * height - np.arange(height) - 0.5)
    rays = np.stack([x, y, np.full_like(x, -focal)], axis=-1) @ camera.axes
    down = np.minimum(rays[..., 1], -1e-6)
    travel = np.where(rays[..., 1] < 0.0, -camera.eye[1] / down, np.inf)
    wall = _mix(look.wall_top, look.wall_bottom, np.linspace(0.0, 1.0, height)[:, None, None] * np.ones((1, width, 1)))
    with np.errstate(invalid="ignore", over="ignore"):
        place = np.asarray(camera.eye)[[0, 2]] + travel[..., None] * rays[..., [0, 2]]
        far = np.where(np.isfinite(travel), np.linalg.norm(place, axis=-1), np.inf)
        odd = np.where(np.isfinite(far), np.floor(place / scene.check_m).sum(axis=-1) % 2.0, 0.0)
    floor = _mix(look.floor_light, look.floor_dark, odd[..., None])
    fade = np.clip((far - scene.reach_m) / 3.5, 0.0, 1.0)[..., None]
    fade = fade * fade * (3.0 - 2.0 * fade)
    return np.asarray(np.round(255.0 * (floor * (1.0 - fade) + wall * fade)), dtype=np.uint8)


def _mix(first: tuple[float, ...], second: tuple[float, ...], share: Array) -> Array:
    return np.asarray(np.asarray(first) * (1.0 - share) + np.asarray(second) * share)


def _shadow(canvas: NDArray[np.uint8], joints: FloatArray, camera: Camera) -> None:
    """Darken the floor of `canvas` below the bones; the nearer a bone is to the floor, the darker."""
    import cv2

    height, width = (side // _SHADOW_COARSER for side in canvas.shape[:2])
    dark = np.zeros((height, width), np.float32)
    ground = joints * [1.0, 0.0, 1.0]
    pixels, depth = camera.project(ground, width, height)
    metre = camera.focal_px(height) / depth
    for layer, (lift, strength, wide) in enumerate(((9.0, 0.30, 0.17), (0.10, 0.38, 0.07))):
        stroke = np.zeros_like(dark)
        for child, parent in enumerate(SMPL_PARENTS):
            if parent < 0 or min(joints[child, 1], joints[parent, 1]) > lift:
                continue
            ends = [tuple(int(v) for v in np.round(pixels[j] * 16)) for j in (parent, child)]
            thick = max(1, round(float(wide * metre[child])))
            cv2.line(stroke, ends[0], ends[1], strength, thick, cv2.LINE_8, 4)
        spread = float(max(0.6, (0.10, 0.03)[layer] * metre[0]))
        dark = np.maximum(dark, cv2.GaussianBlur(stroke, (0, 0), spread, sigmaY=0.5 * spread))
    rows = np.flatnonzero(dark.max(axis=1) > 0.004)
    if len(rows) == 0:
        return
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    band = canvas[top * _SHADOW_COARSER : bottom * _SHADOW_COARSER]
    keep = cv2.resize(1.0 - dark[top:bottom], (band.shape[1], band.shape[0]), interpolation=cv2.INTER_LINEAR)
    band[:] = (band * keep[..., None]).astype(np.uint8)
