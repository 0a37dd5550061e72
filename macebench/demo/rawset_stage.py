"""Rooms and figures for the planted raw sources: a furnished room, any number of dancers, drawn in software.

The drawing is that of `macebench.render.painter` with furniture on the wall and several bodies; a figure is a motion
with a look. Motions beside the choreographer's: somebody who stands and breathes, and somebody who walks by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from macebench.demo.kinematics import matrix_to_axis_angle
from macebench.render import Camera, Look, Scene, fit_camera
from macebench.skeleton import axis_angle_to_matrix, forward_kinematics
from macebench.types import N_JOINTS, Array, FloatArray, Motion

STANDING_M = 0.974
_SUBPIXEL_BITS = 4
_L_SHOULDER, _R_SHOULDER, _L_ELBOW, _CHEST, _HEAD = 16, 17, 18, 9, 15
_ARMS_DOWN = 1.25  # radians from the T pose

Picture = NDArray[np.uint8]
Colour = tuple[float, float, float]

PLACES: tuple[tuple[Colour, Colour, Colour, Colour], ...] = (
    ((0.72, 0.80, 0.88), (0.90, 0.93, 0.96), (0.66, 0.58, 0.47), (0.56, 0.48, 0.38)),
    ((0.16, 0.15, 0.27), (0.34, 0.27, 0.46), (0.26, 0.24, 0.30), (0.17, 0.16, 0.21)),
    ((0.71, 0.42, 0.33), (0.82, 0.60, 0.49), (0.47, 0.46, 0.45), (0.37, 0.36, 0.36)),
    ((0.42, 0.62, 0.55), (0.67, 0.80, 0.71), (0.80, 0.74, 0.62), (0.69, 0.63, 0.51)),
    ((0.90, 0.76, 0.42), (0.96, 0.88, 0.66), (0.40, 0.31, 0.25), (0.30, 0.23, 0.18)),
    ((0.25, 0.38, 0.58), (0.45, 0.60, 0.76), (0.62, 0.66, 0.70), (0.48, 0.52, 0.57)),
)
"""Wall above, wall below, light and dark checks of the floor."""


@dataclass(frozen=True)
class Figure:
    """Somebody in the picture."""

    motion: Motion
    look: Look


@dataclass(frozen=True)
class Place:
    """A furnished room.

    Attributes:
        number: Chooses the colours.
        seed: Chooses the furniture.
    """

    number: int = 0
    seed: int = 0

    def dress(self, look: Look) -> Look:
        """The look with the colours of this room."""
        top, bottom, light, dark = PLACES[self.number % len(PLACES)]
        return replace(look, wall_top=top, wall_bottom=bottom, floor_light=light, floor_dark=dark)


def clothes(seed: int) -> Look:
    """A look whose clothes differ from those of the seed before."""
    return Look.seeded(1009 * seed + 7)


def furniture(place: Place, width: int, height: int) -> tuple[Picture, NDArray[np.bool_]]:
    """Posters, a window and loudspeakers: a picture (H, W, 3) and where it counts (H, W)."""
    import cv2

    rng = np.random.default_rng([place.seed, place.number, 0xF0])
    canvas, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    slots = rng.permutation(np.linspace(0.02, 0.76, 4))
    for slot in slots[: int(rng.integers(2, 5))]:
        x, y = int(width * slot), int(height * rng.uniform(0.04, 0.20))
        w, h = int(width * rng.uniform(0.12, 0.20)), int(height * rng.uniform(0.14, 0.26))
        _poster(canvas[y : y + h, x : x + w], rng)
        mask[y : y + h, x : x + w] = 1
    for edge in (0.0, 1.0):
        if rng.random() < 0.75:
            w, h = int(width * rng.uniform(0.07, 0.11)), int(height * rng.uniform(0.26, 0.40))
            left, top = int(edge * (width - w)), int(height * 0.70) - h
            cv2.rectangle(canvas, (left, top), (left + w - 1, top + h), (38, 36, 40), -1)
            for share in (0.25, 0.68):
                centre, radius = (left + w // 2, int(top + share * h)), max(2, int(0.30 * w))
                cv2.circle(canvas, centre, radius, (95, 92, 98), -1)
                cv2.circle(canvas, centre, max(1, radius // 2), (20, 20, 22), -1)
            mask[top : top + h + 1, left : left + w] = 1
    return canvas, mask.astype(bool)


def _poster(area: Picture, rng: np.random.Generator) -> None:
    """Fill `area` with a framed pattern of stripes, blocks or panes."""
    area[:] = rng.integers(30, 90, 3)
    edge = max(2, area.shape[1] // 16)
    inner = area[edge:-edge, edge:-edge]
    inner[:] = rng.integers(90, 250, 3)
    rows, columns = (int(v) for v in rng.integers(2, 6, 2))
    high, wide = inner.shape[0] // rows + 1, inner.shape[1] // columns + 1
    for row in range(rows):
        for column in range(columns):
            if rng.random() < 0.6:
                inner[row * high : (row + 1) * high, column * wide : (column + 1) * wide] = rng.integers(20, 255, 3)


def film(
    figures: Sequence[Figure], place: Place, width: int, height: int, camera: Camera | None = None
) -> Iterator[Picture]:
    """One (height, width, 3) RGB picture for each frame of the figures' motions.

    Args:
        figures: One or more; motions of one length, with rotations.
        place: The room.
        width: Pixels.
        height: Pixels.
        camera: Sees all figures when None.
    """
    from macebench.render.room import OVERSAMPLING, Room

    camera = camera or fit_camera(together(figures), width, height, fill=0.9)
    scene = Scene(camera, place.dress(figures[0].look))
    room = Room(scene, width, height)
    items, mask = furniture(place, width * OVERSAMPLING, height * OVERSAMPLING)
    where = np.flatnonzero(mask)
    items = items.reshape(-1, 3)[where]
    actors = [_body_frames(figure, scene, width * OVERSAMPLING, height * OVERSAMPLING) for figure in figures]
    for frame in range(len(figures[0].motion.joints)):
        canvas = room.canvas(figures[0].motion.joints[frame])
        for figure in figures[1:]:
            np.minimum(canvas, room.canvas(figure.motion.joints[frame]), out=canvas)
        canvas.reshape(-1, 3)[where] = items
        drawn = [next(actor) for actor in actors]
        for body in sorted(drawn, key=lambda body: -body.depth):
            body.paint(canvas)
        yield room.small(canvas)


def together(figures: Sequence[Figure]) -> Motion:
    """One motion whose frames are those of all figures: for `fit_camera`."""
    motions = [figure.motion for figure in figures]
    return Motion(motions[0].fps, np.concatenate([motion.joints for motion in motions]))


def empty_room(place: Place, width: int, height: int, look: Look | None = None) -> Picture:
    """The room with nobody in it."""
    figure = Figure(moved(stand(1, 30.0), 60.0, 0.0), look or Look())
    camera = fit_camera(stand(1, 30.0), width, height, fill=0.8)
    return next(film([figure], place, width, height, camera))


@dataclass(frozen=True)
class _Drawn:
    """A body in one frame: lit triangles, far to near."""

    points: Array
    colours: list[list[float]]
    depth: float

    def paint(self, canvas: Picture) -> None:
        import cv2

        fill, line = cv2.fillConvexPoly, cv2.LINE_8
        for polygon, colour in zip(self.points, self.colours, strict=True):
            fill(canvas, polygon, colour, line, _SUBPIXEL_BITS)


def _body_frames(figure: Figure, scene: Scene, width: int, height: int) -> Iterator[_Drawn]:
    """The body in each frame; `width` and `height` are those of the canvas."""
    from macebench.render.base import face_normals, shade
    from macebench.render.body import load_body, posed

    body = load_body()
    albedo = body.colours(figure.look)
    for vertices, normals in posed(figure.motion):
        pixels, depth = scene.camera.project(vertices, width, height)
        a, b, c = (pixels[body.faces[:, k]] for k in range(3))
        facing = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        inside = (np.maximum(np.maximum(a, b), c) > 0.0) & (np.minimum(np.minimum(a, b), c) < [width, height])
        visible = np.flatnonzero(facing & inside.all(axis=1))
        visible = visible[np.argsort(-depth[body.faces[visible]].mean(axis=1), kind="stable")]
        points = np.round((pixels[body.faces[visible]] - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        lit = shade(face_normals(normals, body.faces[visible]), albedo[visible], scene)
        yield _Drawn(points, (255.0 * lit).tolist(), float(depth.mean()))


def sliced(motion: Motion, frames: Array) -> Motion:
    """The frames with these numbers."""
    rotations, root = _full(motion)
    return Motion(motion.fps, motion.joints[frames], rotations[frames], root[frames])


def _full(motion: Motion) -> tuple[FloatArray, FloatArray]:
    if motion.rotations is None or motion.root is None:
        raise ValueError("the motion has no rotations")
    return motion.rotations, motion.root


def moved(motion: Motion, x: Array | float, z: Array | float) -> Motion:
    """The motion moved sideways and forwards by metres, one value or one a frame."""
    rotations, root = _full(motion)
    shift = np.zeros_like(root)
    shift[:, 0], shift[:, 2] = x, z
    return Motion(motion.fps, motion.joints + shift[:, None], rotations, root + shift)


def turned(motion: Motion, degrees: float) -> Motion:
    """The motion seen by somebody who went around it: turned about the vertical axis of the stage."""
    rotations, root = _full(motion)
    turn = axis_angle_to_matrix(np.array([0.0, np.radians(degrees), 0.0]))
    changed = np.array(rotations)
    changed[:, 0] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(changed[:, 0]))
    root = root @ turn.T
    return Motion(motion.fps, forward_kinematics(changed, root), changed, root)


def stand(count: int, fps: float, *, breath_s: float = 4.0) -> Motion:
    """Somebody who stands with hanging arms and breathes.

    Args:
        count: Number of frames.
        fps: Frames a second.
        breath_s: Seconds a breath takes; 0 for none.
    """
    breath = np.sin(2.0 * np.pi * np.arange(count) / (fps * breath_s)) if breath_s else np.zeros(count)
    rotations = np.zeros((count, N_JOINTS, 3))
    rotations[:, _L_SHOULDER, 2], rotations[:, _R_SHOULDER, 2] = -_ARMS_DOWN, _ARMS_DOWN
    rotations[:, _L_SHOULDER, 2] += 0.012 * breath
    rotations[:, _R_SHOULDER, 2] -= 0.012 * breath
    rotations[:, _CHEST, 0] = -0.008 * breath
    rotations[:, _HEAD, 0] = 0.006 * breath
    root = np.tile([0.0, STANDING_M, 0.0], (count, 1))
    return Motion(fps, forward_kinematics(rotations, root), rotations, root)


def walk(x: FloatArray, z: float, fps: float, *, stride_m: float = 1.3) -> Motion:
    """Somebody who walks along x; who does not move stands.

    Args:
        x: (T,) metres.
        z: Metres.
        fps: Frames a second.
        stride_m: Length of a double step.
    """
    speed = np.gradient(x) * fps
    pace = np.clip(np.abs(speed) / 1.0, 0.0, 1.0)
    phase = 2.0 * np.pi * np.cumsum(np.abs(np.gradient(x))) / stride_m
    rotations = np.zeros((len(x), N_JOINTS, 3))
    for hip, knee, shoulder, elbow, side in ((1, 4, 17, 19, 0.0), (2, 5, 16, 18, np.pi)):
        swing = np.sin(phase + side)
        rotations[:, hip, 0] = -0.45 * swing * pace
        rotations[:, knee, 0] = (0.15 + 0.55 * np.clip(np.cos(phase + side), 0.0, 1.0)) * pace
        down = _arm_down(-_ARMS_DOWN if shoulder == _L_SHOULDER else _ARMS_DOWN)
        forward = axis_angle_to_matrix(np.stack([-0.4 * swing * pace, 0 * swing, 0 * swing], axis=1))
        rotations[:, shoulder] = matrix_to_axis_angle(forward @ down)
        rotations[:, elbow, 1] = (-0.5 if elbow == _L_ELBOW else 0.5) * pace
    heading = np.where(pace > 0.0, np.sign(speed), 0.0)
    rotations[:, 0, 1] = 0.5 * np.pi * _smooth(heading * pace, round(0.3 * fps))
    root = np.stack([x, STANDING_M - 0.03 * pace, np.full(len(x), z)], axis=1)
    return Motion(fps, forward_kinematics(rotations, root), rotations, root)


def _arm_down(angle: float) -> FloatArray:
    return axis_angle_to_matrix(np.array([0.0, 0.0, angle]))


def _smooth(values: FloatArray, width: int) -> FloatArray:
    """Running mean; the ends are continued."""
    half = max(1, width // 2)
    padded = np.pad(values, half, mode="edge")
    return np.asarray(np.convolve(padded, np.ones(2 * half + 1) / (2 * half + 1), mode="valid"))
