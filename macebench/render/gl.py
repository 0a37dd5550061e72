"""The second renderer: pyrender on off-screen OpenGL (EGL or OSMesa), same interface as the painter.

It draws the same mesh with the same camera, colours, lamp and room. It has a true depth buffer: the painter's
silhouettes are tested against it. The platform is the environment variable
``PYOPENGL_PLATFORM``; when it is not set, OSMesa is tried, then EGL.
"""

from __future__ import annotations

import ctypes.util
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.render.base import FLOOR_REACH_M, Body, Look, Scene, face_normals, shade
from macebench.render.body import load_body
from macebench.render.camera import Camera, fit_camera
from macebench.render.room import Room
from macebench.types import Array, Motion

_HINT = (
    "Install the libraries: `apt-get install libosmesa6 libegl1 libgl1-mesa-dri` and "
    "`pip install 'macebench[render]'`; or use the renderer `painter`, which needs neither."
)
_LIBRARIES = {"osmesa": "OSMesa", "egl": "EGL"}


def choose_platform() -> str:
    """The value for ``PYOPENGL_PLATFORM``. Raises `UserError` when no off-screen library is on this machine."""
    wanted = os.environ.get("PYOPENGL_PLATFORM")
    for name in (wanted,) if wanted else tuple(_LIBRARIES):
        if name not in _LIBRARIES or ctypes.util.find_library(_LIBRARIES[name]):
            return name
    raise UserError("no off-screen OpenGL on this machine: neither OSMesa nor EGL was found.", hint=_HINT)


def _load() -> Any:
    os.environ["PYOPENGL_PLATFORM"] = choose_platform()
    try:
        import pyrender
    except (ImportError, AttributeError, OSError) as error:
        raise UserError(f"pyrender cannot be loaded: {error}.", hint=_HINT) from error
    return pyrender


class GlRenderer:
    """A `macebench.render.base.Renderer` on pyrender.

    Args:
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.
        body: Whom to draw; the dressed mannequin when None.

    Raises:
        UserError: pyrender or an OpenGL library is missing.
    """

    def __init__(self, width: int = 512, height: int = 512, body: Body | None = None) -> None:
        self.width = width
        self.height = height
        self._body = body or load_body()
        self._pyrender = _load()

    def render(
        self,
        motion: Motion,
        *,
        camera: Camera | None = None,
        look: Look | None = None,
        reach_m: float = FLOOR_REACH_M,
    ) -> Iterator[NDArray[np.uint8]]:
        """See `macebench.render.base.Renderer.render`."""
        scene = Scene(camera or fit_camera(motion, self.width, self.height), look or Look(), reach_m=reach_m)
        room = Room(scene, self.width, self.height)
        for joints, (colour, depth) in zip(motion.joints, self._pictures(motion, scene), strict=True):
            yield np.where((depth > 0.0)[..., None], colour, room.small(room.canvas(joints))).astype(np.uint8)

    def silhouette(self, motion: Motion, *, camera: Camera | None = None) -> Iterator[NDArray[np.bool_]]:
        """See `macebench.render.base.Renderer.silhouette`."""
        scene = Scene(camera or fit_camera(motion, self.width, self.height))
        for _, depth in self._pictures(motion, scene):
            yield np.asarray(depth > 0.0)

    def _pictures(self, motion: Motion, scene: Scene) -> Iterator[tuple[Array, Array]]:
        """Colour (H, W, 3) and depth (H, W) of each frame; depth is 0 where nothing is."""
        gl = self._pyrender
        body = self._body
        albedo = body.colours(scene.look)
        stage = _stage(gl, scene)
        # no lamp of OpenGL's: its colour space differs, so the triangles come lit
        flags = gl.RenderFlags.FLAT
        canvas = self._canvas()
        try:
            for vertices, normals in body.posed(motion):
                lit = shade(face_normals(normals, body.faces), albedo, scene)
                node = stage.add(_mesh(gl, vertices[body.faces.reshape(-1)], np.repeat(lit, 3, axis=0)))
                yield canvas.render(stage, flags)
                stage.remove_node(node)
        finally:
            canvas.delete()

    def _canvas(self) -> Any:
        try:
            return self._pyrender.OffscreenRenderer(self.width, self.height)
        except (RuntimeError, OSError, ImportError, AttributeError) as error:
            raise UserError(f"off-screen OpenGL does not start: {error}.", hint=_HINT) from error


def _mesh(gl: Any, corners: Array, colours: Array) -> Any:
    """A mesh of separate triangles: corners (3F, 3) and colours (3F, 3)."""
    opaque = np.concatenate([colours, np.ones((len(colours), 1))], axis=1)
    material = gl.MetallicRoughnessMaterial(baseColorFactor=(1.0, 1.0, 1.0, 1.0), metallicFactor=0.0)
    return gl.Mesh([gl.Primitive(corners, color_0=opaque, material=material)])


def _stage(gl: Any, scene: Scene) -> Any:
    """A pyrender scene with the camera."""
    stage = gl.Scene(bg_color=(0.0, 0.0, 0.0, 0.0))
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = scene.camera.axes.T, scene.camera.eye
    stage.add(gl.PerspectiveCamera(yfov=np.radians(scene.camera.fov_deg), znear=0.05, zfar=100.0), pose=view)
    return stage
