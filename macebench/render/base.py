"""What every renderer is: a `Motion` in, pictures out; and the values that describe a picture.

World: metres, y up, the floor is the plane y = 0, a dancer at rest faces +z. Pictures are RGB, uint8,
(height, width, 3). Colours are RGB in [0, 1]. A renderer needs `Motion.rotations`: the body is skinned
with the global rotations of SMPL-24 (`macebench.skeleton`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.render.camera import Camera
from macebench.types import Array, FloatArray, Motion

Colour = tuple[float, float, float]
FLOOR_REACH_M = 1.8

_SKINS: tuple[Colour, ...] = (
    (0.94, 0.78, 0.67), (0.88, 0.68, 0.54), (0.78, 0.57, 0.43), (0.62, 0.43, 0.31), (0.47, 0.32, 0.23),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (0.10, 0.08, 0.07), (0.23, 0.14, 0.09), (0.40, 0.25, 0.14), (0.62, 0.46, 0.26), (0.36, 0.35, 0.35),
)  # fmt: skip
_SHIRTS: tuple[Colour, ...] = (
    (0.80, 0.22, 0.20), (0.16, 0.40, 0.68), (0.92, 0.90, 0.86), (0.93, 0.68, 0.20), (0.18, 0.52, 0.42),
    (0.52, 0.26, 0.55), (0.93, 0.48, 0.38), (0.20, 0.22, 0.26),
)  # fmt: skip
_TROUSERS: tuple[Colour, ...] = (
    (0.13, 0.17, 0.29), (0.16, 0.16, 0.18), (0.34, 0.33, 0.30), (0.29, 0.38, 0.52), (0.44, 0.36, 0.26),
)  # fmt: skip
_SHOES: tuple[Colour, ...] = ((0.93, 0.93, 0.91), (0.14, 0.13, 0.13), (0.72, 0.18, 0.18))
_WALLS: tuple[tuple[Colour, Colour], ...] = (
    ((0.80, 0.85, 0.90), (0.93, 0.94, 0.95)), ((0.87, 0.82, 0.76), (0.96, 0.94, 0.90)),
    ((0.74, 0.83, 0.80), (0.91, 0.94, 0.92)), ((0.82, 0.79, 0.88), (0.94, 0.93, 0.96)),
)  # fmt: skip
_FLOORS: tuple[tuple[Colour, Colour], ...] = (
    ((0.66, 0.62, 0.58), (0.60, 0.56, 0.52)), ((0.60, 0.63, 0.66), (0.54, 0.57, 0.60)),
    ((0.72, 0.61, 0.48), (0.66, 0.55, 0.43)),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Colours of the dancer and of the room. `Look.seeded` draws one.

    Attributes:
        skin, hair, shirt, trousers, shoes: Colours of the dancer.
        wall_top, wall_bottom: The background's gradient.
        floor_light, floor_dark: The two colours of the floor's checks.
        long_sleeves: The shirt covers the forearms.
        shorts: The trousers end at the knee.
    """

    skin: Colour = _SKINS[1]
    hair: Colour = _HAIRS[1]
    shirt: Colour = _SHIRTS[0]
    trousers: Colour = _TROUSERS[0]
    shoes: Colour = _SHOES[0]
    wall_top: Colour = _WALLS[0][0]
    wall_bottom: Colour = _WALLS[0][1]
    floor_light: Colour = _FLOORS[0][0]
    floor_dark: Colour = _FLOORS[0][1]
    long_sleeves: bool = False
    shorts: bool = False

    @classmethod
    def seeded(cls, seed: int) -> Look:
        """The look number `seed`: the same seed gives the same look."""
        rng = np.random.default_rng([seed, 0x100C])

        def pick(table: tuple[Colour, ...]) -> Colour:
            return table[int(rng.integers(len(table)))]

        top, bottom = _WALLS[int(rng.integers(len(_WALLS)))]
        light, dark = _FLOORS[int(rng.integers(len(_FLOORS)))]
        return cls(
            pick(_SKINS), pick(_HAIRS), pick(_SHIRTS), pick(_TROUSERS), pick(_SHOES), top, bottom, light, dark,
            long_sleeves=bool(rng.random() < 0.35), shorts=bool(rng.random() < 0.3),
        )  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """Everything of a picture but the dancer's motion.

    Attributes:
        camera: Where it is seen from.
        look: Colours.
        light: Direction towards the lamp (normalised by the renderer).
        ambient: Share of light that comes from everywhere, in [0, 1].
        check_m: Edge of a check of the floor in metres.
        reach_m: Distance from the origin up to which the floor is drawn in full; beyond it fades into the wall.
    """

    camera: Camera
    look: Look = field(default_factory=Look)
    light: tuple[float, float, float] = (0.45, 0.85, 0.75)
    ambient: float = 0.50
    check_m: float = 0.5
    reach_m: float = FLOOR_REACH_M

    @property
    def lamp(self) -> FloatArray:
        """(3,) unit vector towards the lamp."""
        direction = np.asarray(self.light, dtype=np.float64)
        return direction / np.linalg.norm(direction)


class Body(Protocol):
    """Whom a renderer draws."""

    @property
    def faces(self) -> NDArray[np.int32]:
        """(F, 3) vertex numbers, counter-clockwise from outside."""
        ...

    def colours(self, look: Look) -> NDArray[np.float32]:
        """(F, 3) unlit colours in [0, 1]."""
        ...

    def outermost(self) -> Body:
        """The same body with those vertices alone that can be outermost, without faces: for measuring, not drawing."""
        ...

    def posed(self, motion: Motion) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Vertices (V, 3) in metres and normals (V, 3) of each frame.

        Raises:
            UserError: the motion has no rotations.
        """
        ...


@runtime_checkable
class Renderer(Protocol):
    """A renderer of pictures of `width` x `height` pixels."""

    width: int
    height: int

    def render(
        self,
        motion: Motion,
        *,
        camera: Camera | None = None,
        look: Look | None = None,
        reach_m: float = FLOOR_REACH_M,
    ) -> Iterator[NDArray[np.uint8]]:
        """One (height, width, 3) RGB picture for each frame of `motion`.

        Args:
            motion: Needs `rotations`.
            camera: `fit_camera` of the motion when None.
            look: `Look()` when None.
            reach_m: See `Scene`.

        Raises:
            UserError: the motion has no rotations.
        """
        ...

    def silhouette(self, motion: Motion, *, camera: Camera | None = None) -> Iterator[NDArray[np.bool_]]:
        """One (height, width) mask for each frame: True where the dancer covers the pixel's centre."""
        ...


def need_rotations(motion: Motion) -> FloatArray:
    """The (T, 24, 3) rotations. Raises `UserError` when the motion has joints only."""
    if motion.rotations is None:
        raise UserError(
            "this motion has joint positions but no rotations, and a body is skinned with rotations.",
            hint="Give the .npz a `rotations` array of shape (T, 24, 3), local axis-angle in SMPL's order.",
        )
    return motion.rotations


def face_normals(normals: Array, faces: Array) -> Array:
    """(F, 3) unit normals of the triangles `faces` (F, 3): the mean of their corners' `normals` (V, 3)."""
    total = normals[faces[:, 0]] + normals[faces[:, 1]] + normals[faces[:, 2]]
    return np.asarray(total / (np.sqrt(np.einsum("fa,fa->f", total, total))[:, None] + 1e-12))


def shade(normals: Array, albedo: Array, scene: Scene) -> Array:
    """Lit colours (F, 3) in [0, 1]: a directional lamp over an ambient light that is brighter from above."""
    direct = np.clip(normals @ scene.lamp.astype(normals.dtype), 0.0, 1.0)[:, None]
    sky = 0.5 + 0.5 * normals[:, 1:2]
    return np.asarray(
        np.clip(albedo * (scene.ambient * (0.70 + 0.30 * sky) + (1.12 - scene.ambient) * direct), 0.0, 1.0)
    )
