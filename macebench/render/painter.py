"""The default renderer: a painter's algorithm in software, no graphics library needed.

Triangles that face the camera are lit, sorted by depth and filled from far to near with OpenCV at twice the
picture's size; averaging 2x2 pixels smooths the edges. The room (wall, checked floor) is drawn once a clip;
soft shadows are blurred discs and strokes on the floor below the bones, darker near the ground.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from macebench.render.base import Look, Scene, face_normals, need_rotations, shade
from macebench.render.body import load_body
from macebench.render.camera import Camera, fit_camera
from macebench.skeleton import SMPL_PARENTS
from macebench.types import Array, FloatArray, Motion

_SCALE = 2
_SUBPIXEL_BITS = 4
_SHADOW_SCALE = 4
_BATCH = 32


class Painter:
    """A `macebench.render.base.Renderer` that needs numpy and OpenCV only.

    Args:
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.
    """

    def __init__(self, width: int = 512, height: int = 512) -> None:
        self.width = width
        self.height = height

    def render(
        self, motion: Motion, *, camera: Camera | None = None, look: Look | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """See `macebench.render.base.Renderer.render`."""
        import cv2

        scene = Scene(camera or fit_camera(motion, self.width, self.height), look or Look())
        body = load_body()
        albedo = body.colours(scene.look)
        room = _room(scene, self.width * _SCALE, self.height * _SCALE)
        for joints, vertices, normals in _posed(motion):
            canvas = room.copy()
            _shadow(canvas, joints, scene.camera)
            visible, points = self._visible(vertices, body.faces, scene.camera)
            lit = shade(face_normals(normals, body.faces[visible]), albedo[visible], scene)
            colours = (255.0 * lit).tolist()
            fill, line = cv2.fillConvexPoly, cv2.LINE_8
            for polygon, colour in zip(points, colours, strict=True):
                fill(canvas, polygon, colour, line, _SUBPIXEL_BITS)
            yield cv2.resize(canvas, (self.width, self.height), interpolation=cv2.INTER_AREA)

    def silhouette(self, motion: Motion, *, camera: Camera | None = None) -> Iterator[NDArray[np.bool_]]:
        """See `macebench.render.base.Renderer.silhouette`."""
        import cv2

        camera = camera or fit_camera(motion, self.width, self.height)
        body = load_body()
        for _, vertices, _ in _posed(motion):
            canvas = np.zeros((self.height * _SCALE, self.width * _SCALE), np.uint8)
            _, points = self._visible(vertices, body.faces, camera)
            for polygon in points:
                cv2.fillConvexPoly(canvas, polygon, 255, cv2.LINE_8, _SUBPIXEL_BITS)
            yield cv2.resize(canvas, (self.width, self.height), interpolation=cv2.INTER_AREA) > 127

    def _visible(self, vertices: Array, faces: Array, camera: Camera) -> tuple[Array, Array]:
        """Numbers and sub-pixel corners of the triangles that face the camera, far to near."""
        pixels, depth = camera.project(vertices, self.width * _SCALE, self.height * _SCALE)
        a, b, c = (pixels[faces[:, k]] for k in range(3))
        facing = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        visible = np.flatnonzero(facing)
        far_first = np.argsort(-depth[faces[visible]].mean(axis=1), kind="stable")
        visible = visible[far_first]
        # OpenCV's pixel centres are at whole numbers
        points = np.round((pixels[faces[visible]] - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        return visible, points


def _posed(motion: Motion) -> Iterator[tuple[FloatArray, Array, Array]]:
    """Joints (24, 3), vertices (V, 3) and normals (V, 3) of each frame; frames are skinned in batches."""
    rotations, body = need_rotations(motion), load_body()
    root = motion.root if motion.root is not None else motion.joints[:, 0]
    for start in range(0, len(rotations), _BATCH):
        batch = slice(start, start + _BATCH)
        yield from zip(motion.joints[batch], *body.pose(rotations[batch], root[batch]), strict=True)


def _room(scene: Scene, width: int, height: int) -> NDArray[np.uint8]:
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
    fade = np.clip((far - 1.8) / 3.5, 0.0, 1.0)[..., None]
    fade = fade * fade * (3.0 - 2.0 * fade)
    return np.asarray(np.round(255.0 * (floor * (1.0 - fade) + wall * fade)), dtype=np.uint8)


def _mix(first: tuple[float, ...], second: tuple[float, ...], share: Array) -> Array:
    return np.asarray(np.asarray(first) * (1.0 - share) + np.asarray(second) * share)


def _shadow(canvas: NDArray[np.uint8], joints: FloatArray, camera: Camera) -> None:
    """Darken the floor of `canvas` below the bones; the nearer a bone is to the floor, the darker."""
    import cv2

    height, width = (side // _SHADOW_SCALE for side in canvas.shape[:2])
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
    band = canvas[top * _SHADOW_SCALE : bottom * _SHADOW_SCALE]
    keep = cv2.resize(1.0 - dark[top:bottom], (band.shape[1], band.shape[0]), interpolation=cv2.INTER_LINEAR)
    band[:] = (band * keep[..., None]).astype(np.uint8)
