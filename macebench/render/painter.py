"""The default renderer: a painter's algorithm in software, no graphics library needed.

Triangles that face the camera are lit, sorted by depth and filled from far to near with OpenCV at twice the
picture's size; averaging 2x2 pixels smooths the edges.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from macebench.render.base import FLOOR_REACH_M, Body, Look, Scene, face_normals, shade
from macebench.render.body import load_body
from macebench.render.camera import Camera, fit_camera
from macebench.render.room import OVERSAMPLING, Room
from macebench.types import Array, Motion

_SUBPIXEL_BITS = 4
# OpenCV also fills the pixels that an outline only touches: three of four small pixels make a covered one
_COVERED = 160


class Painter:
    """A `macebench.render.base.Renderer` that needs numpy and OpenCV only.

    Args:
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.
        body: Whom to draw; the dressed mannequin when None.
    """

    def __init__(self, width: int = 512, height: int = 512, body: Body | None = None) -> None:
        self.width = width
        self.height = height
        self._body = body or load_body()

    def render(
        self,
        motion: Motion,
        *,
        camera: Camera | None = None,
        look: Look | None = None,
        reach_m: float = FLOOR_REACH_M,
    ) -> Iterator[NDArray[np.uint8]]:
        """See `macebench.render.base.Renderer.render`."""
        import cv2

        scene = Scene(camera or fit_camera(motion, self.width, self.height), look or Look(), reach_m=reach_m)
        body = self._body
        albedo = body.colours(scene.look)
        room = Room(scene, self.width, self.height)
        for joints, (vertices, normals) in zip(motion.joints, body.posed(motion), strict=True):
            canvas = room.canvas(joints)
            visible, points = self._visible(vertices, body.faces, scene.camera)
            lit = shade(face_normals(normals, body.faces[visible]), albedo[visible], scene)
            colours = (255.0 * lit).tolist()
            fill, line = cv2.fillConvexPoly, cv2.LINE_8
            for polygon, colour in zip(points, colours, strict=True):
                fill(canvas, polygon, colour, line, _SUBPIXEL_BITS)
            yield room.small(canvas)

    def silhouette(self, motion: Motion, *, camera: Camera | None = None) -> Iterator[NDArray[np.bool_]]:
        """See `macebench.render.base.Renderer.silhouette`."""
        import cv2

        camera = camera or fit_camera(motion, self.width, self.height)
        body = self._body
        for vertices, _ in body.posed(motion):
            canvas = np.zeros((self.height * OVERSAMPLING, self.width * OVERSAMPLING), np.uint8)
            _, points = self._visible(vertices, body.faces, camera)
            for polygon in points:
                cv2.fillConvexPoly(canvas, polygon, 255, cv2.LINE_8, _SUBPIXEL_BITS)
            yield cv2.resize(canvas, (self.width, self.height), interpolation=cv2.INTER_AREA) > _COVERED

    def _visible(self, vertices: Array, faces: Array, camera: Camera) -> tuple[Array, Array]:
        """Numbers and sub-pixel corners of the triangles that face the camera, far to near."""
        pixels, depth = camera.project(vertices, self.width * OVERSAMPLING, self.height * OVERSAMPLING)
        a, b, c = (pixels[faces[:, k]] for k in range(3))
        facing = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        visible = np.flatnonzero(facing)
        far_first = np.argsort(-depth[faces[visible]].mean(axis=1), kind="stable")
        visible = visible[far_first]
        # OpenCV's pixel centres are at whole numbers
        points = np.round((pixels[faces[visible]] - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        return visible, points
