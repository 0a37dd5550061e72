"""Drawing a dance: motions of SMPL-24 to pictures.

`get_renderer` gives a renderer by name: ``painter`` (software, needs no graphics library) or ``pyrender``
(off-screen OpenGL). Both take the same `Motion`, `Camera` and `Look`, and draw either body: the dressed mannequin, or
SMPL's from the user's own model file (`macebench.render.smpl`).
"""

from __future__ import annotations

from macebench.render.base import Body, Look, Renderer, Scene
from macebench.render.camera import Camera, fit_camera

RENDERERS = ("painter", "pyrender")

__all__ = ["RENDERERS", "Body", "Camera", "Look", "Renderer", "Scene", "fit_camera", "get_renderer"]


def get_renderer(name: str = "painter", width: int = 512, height: int = 512, body: Body | None = None) -> Renderer:
    """A renderer for pictures of `width` x `height` pixels.

    Args:
        name: One of `RENDERERS`.
        width: Pixels.
        height: Pixels.
        body: Whom to draw; the dressed mannequin when None.

    Raises:
        UnknownNameError: no such renderer.
        UserError: a size below 1, or the renderer's libraries are not on this machine.
    """
    from macebench.errors import UserError
    from macebench.registry import unknown

    if width < 1 or height < 1:
        raise UserError(f"a picture of {width}x{height} pixels cannot be drawn.", hint="Give sizes above 0.")
    if name == "painter":
        from macebench.render.painter import Painter

        return Painter(width, height, body)
    if name == "pyrender":
        from macebench.render.gl import GlRenderer

        return GlRenderer(width, height, body)
    raise unknown("renderer", name, RENDERERS, "macebench doctor")
