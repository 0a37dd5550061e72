"""The dancer's body: the wooden figure of ``mannequin-x`` (Apache-2.0), dressed, on the skeleton of SMPL-24.

The figure's joints have SMPL's names, order and parents, but slightly other places; the mesh is moved to the
offsets of `macebench.skeleton`, so that the drawn limbs lie exactly on `Motion.joints`. Fingers keep the
figure's relaxed pose and follow the wrist. A shirt, sleeves and trousers are lofted around the figure's torso
and limbs (they hide its ball joints), the head gets a face and hair, so that pose estimators see a person.

Skinning is linear blend skinning: a vertex is the weighted mean of its places in the joints' frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from macebench.render.base import Look, need_rotations
from macebench.skeleton import forward_kinematics_full
from macebench.types import N_JOINTS, Array, FloatArray, Motion

FLOOR_BELOW_ROOT_M = 0.974
"""Height of the root above the floor when the body stands straight, soles on the floor."""

_BATCH = 32
_TORSO = (0, 3, 6, 9, 13, 14)
_NECK, _HEAD = 12, 15
_HANDS, _FEET = (20, 21, 22, 23), (7, 8, 10, 11)


class Material(IntEnum):
    """What a triangle is made of; `Look` gives the colour."""

    SKIN = 0
    HAIR = 1
    SHIRT = 2
    SLEEVE = 3
    TROUSERS = 4
    SHIN = 5
    SHOES = 6
    EYE = 7
    PUPIL = 8
    BROW = 9
    LIPS = 10


@dataclass(frozen=True)
class BodyMesh:
    """A skinned triangle mesh in its rest pose (a T with the root at the origin).

    Attributes:
        vertices: (V, 3) metres, float32.
        faces: (F, 3) vertex numbers, counter-clockwise from outside.
        weights: (V, 24) skinning weights, rows sum to 1, float32.
        materials: (F,) `Material`.
        joints: (24, 3) the joints' places in the rest pose, float32.
        normals: (V, 3) unit normals in the rest pose, float32.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    weights: NDArray[np.float32]
    materials: NDArray[np.int32]
    joints: NDArray[np.float32]
    normals: NDArray[np.float32]

    def pose(self, rotations: FloatArray, root: FloatArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(T, V, 3) vertices and (T, V, 3) normals, not normalised, of a motion.

        Args:
            rotations: (T, 24, 3) local axis-angle in radians.
            root: (T, 3) positions of the root in metres.
        """
        places, turns = forward_kinematics_full(rotations, root)
        shift = places - np.einsum("tjab,jb->tja", turns, self.joints.astype(np.float64))
        affine = np.concatenate([turns, shift[..., None]], axis=-1).astype(np.float32)
        vertices = np.empty((len(affine), len(self.vertices), 3), np.float32)
        normals = np.empty_like(vertices)
        for frame, matrices in enumerate(affine):
            blended = (self.weights @ matrices.reshape(N_JOINTS, 12)).reshape(-1, 3, 4)
            vertices[frame] = np.einsum("vab,vb->va", blended[..., :3], self.vertices) + blended[..., 3]
            normals[frame] = np.einsum("vab,vb->va", blended[..., :3], self.normals)
        return vertices, normals

    def colours(self, look: Look) -> NDArray[np.float32]:
        """(F, 3) unlit colours in [0, 1]."""
        return material_colours(look)[self.materials]

    def outermost(self) -> BodyMesh:
        """See `macebench.render.base.Body.outermost`."""
        kept = outermost_vertices(self.vertices, self.weights)
        chosen = {name: getattr(self, name)[kept] for name in ("vertices", "weights", "normals")}
        return replace(self, faces=self.faces[:0], materials=self.materials[:0], **chosen)

    def posed(self, motion: Motion) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """See `macebench.render.base.Body.posed`."""
        rotations = need_rotations(motion)
        root = motion.root if motion.root is not None else motion.joints[:, 0]
        for start in range(0, len(rotations), _BATCH):
            batch = slice(start, start + _BATCH)
            yield from zip(*self.pose(rotations[batch], root[batch]), strict=True)


def outermost_vertices(vertices: Array, weights: Array, directions: int = 90) -> Array:
    """Numbers of the vertices that are outermost of their joint's part in some of many directions.

    What a part of radius r reaches to is found within r / 40.

    Args:
        vertices: (V, 3) rest pose.
        weights: (V, J) skinning weights.
        directions: Directions, spread evenly over the sphere; the six axes come on top.
    """
    turn = np.arange(directions) * np.pi * (3.0 - np.sqrt(5.0))
    height = 1.0 - (2.0 * np.arange(directions) + 1.0) / directions
    across = np.sqrt(1.0 - height**2)
    sphere = np.stack([across * np.cos(turn), height, across * np.sin(turn)], axis=1)
    sphere = np.concatenate([sphere, np.eye(3), -np.eye(3)])
    dominant = weights.argmax(axis=1)
    kept = [
        part[(vertices[part] @ sphere.T).argmax(axis=0)]
        for part in (np.flatnonzero(dominant == joint) for joint in range(weights.shape[1]))
        if len(part)
    ]
    return np.unique(np.concatenate(kept))


def material_colours(look: Look) -> NDArray[np.float32]:
    """(M, 3) colour in [0, 1] of each `Material`."""
    skin = np.asarray(look.skin)
    table = {
        Material.SKIN: look.skin,
        Material.HAIR: look.hair,
        Material.SHIRT: look.shirt,
        Material.SLEEVE: look.shirt if look.long_sleeves else look.skin,
        Material.TROUSERS: look.trousers,
        Material.SHIN: look.skin if look.shorts else look.trousers,
        Material.SHOES: look.shoes,
        Material.EYE: (0.97, 0.97, 0.97),
        Material.PUPIL: (0.12, 0.09, 0.08),
        Material.BROW: tuple(0.6 * np.asarray(look.hair) + 0.1 * skin),
        Material.LIPS: tuple(skin * (0.86, 0.58, 0.56)),
    }
    return np.array([table[material] for material in Material], np.float32)


@dataclass
class _Part:
    vertices: FloatArray
    faces: Array
    weights: FloatArray
    materials: Array


@lru_cache(maxsize=1)
def load_body() -> BodyMesh:
    """The dressed body; made once a process (about 0.5 s).

    Raises:
        ImportError: ``mannequin-x`` is not installed.
    """
    figure, joints = _figure()
    dominant = figure.weights.argmax(axis=1)
    parts = [
        _cluster(_pick(figure, dominant, (_NECK, _HEAD), Material.SKIN), 0.0055),
        _cluster(_pick(figure, dominant, _HANDS, Material.SKIN), 0.010),
        _cluster(_pick(figure, dominant, _FEET, Material.SHOES), 0.014),
    ]
    parts[0] = _sculpt_head(parts[0])
    parts += _face(parts[0])
    parts.append(_torso(figure, dominant))
    for side in (0, 1):
        parts.append(_leg(figure, dominant, joints, side))
        parts.append(_arm(figure, dominant, joints, side))
    return _join(parts, joints)


def posed(motion: Motion) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Vertices (V, 3) and normals (V, 3) of each frame of `load_body`'s. Raises `UserError` without rotations."""
    need_rotations(motion)
    return load_body().posed(motion)


def _figure() -> tuple[_Part, FloatArray]:
    """The wooden figure in a T on SMPL's joints, and those joints (24, 3)."""
    from mannequin import Mannequin

    model = Mannequin("wooden")
    rest = model.rest_pose()
    vertices = np.asarray(model.vertices(rest), np.float64)
    own = np.asarray(model.joint_transforms(rest), np.float64)[:N_JOINTS, :3, 3]
    weights = _folded_weights(model.parents, len(vertices))
    target = forward_kinematics_full(np.zeros((1, N_JOINTS, 3)), np.zeros((1, 3)))[0][0]
    moved = vertices + weights @ (target - own)
    faces = np.asarray(model.faces, np.int64)
    return _Part(moved, faces, weights, np.zeros(len(faces), np.int64)), target


def _folded_weights(parents: Sequence[int], count: int) -> FloatArray:
    """(V, 24) weights: finger joints are folded into their wrist."""
    resource = files("mannequin") / "assets" / "wooden.npz"
    with resource.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        index, value = data["skin_joint_indices"], data["skin_weights"].astype(np.float64)
        rigid = data["skin_rigid_joint_indices"]
    body = np.arange(len(parents))
    for joint in range(N_JOINTS, len(parents)):
        body[joint] = body[parents[joint]]
    weights = np.zeros((count, N_JOINTS))
    np.add.at(weights, (np.arange(count)[:, None], body[index]), value)
    weights[rigid >= 0] = 0.0
    weights[rigid >= 0, body[rigid[rigid >= 0]]] = 1.0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _pick(figure: _Part, dominant: Array, joints: Sequence[int], material: Material) -> _Part:
    """The triangles whose corners belong to `joints`."""
    chosen = np.isin(dominant, joints)
    faces = figure.faces[chosen[figure.faces].all(axis=1)]
    used, renumbered = np.unique(faces, return_inverse=True)
    faces = renumbered.reshape(-1, 3)
    return _Part(figure.vertices[used], faces, figure.weights[used], np.full(len(faces), material))


def _cluster(part: _Part, cell_m: float) -> _Part:
    """A coarser part: the vertices of each cubic cell become their mean."""
    cells = np.floor(part.vertices / cell_m).astype(np.int64)
    _, inverse = np.unique(cells, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    count = np.bincount(inverse).astype(np.float64)

    def mean(values: FloatArray) -> FloatArray:
        total = np.zeros((len(count), values.shape[1]))
        np.add.at(total, inverse, values)
        return np.asarray(total / count[:, None])

    faces = inverse[part.faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    return _Part(mean(part.vertices), faces[whole], mean(part.weights), part.materials[whole])


def _head_box(head: _Part) -> tuple[FloatArray, FloatArray]:
    """Middle and size of the head without the neck."""
    points = head.vertices[head.weights[:, _HEAD] > 0.5]
    low, high = points.min(axis=0), points.max(axis=0)
    return 0.5 * (low + high), high - low


def _bump(points: FloatArray, centre: tuple[float, float, float], size: tuple[float, float, float]) -> FloatArray:
    """(V,) a Gaussian of `points` around `centre` with axes `size`, 1 at the centre."""
    return np.asarray(np.exp(-0.5 * (((points - centre) / size) ** 2).sum(axis=1)))


def _sculpt_head(head: _Part) -> _Part:
    """Nose, eye sockets, chin and hair on the figure's smooth head. Proportions of an adult's face."""
    middle, size = _head_box(head)
    unit = (head.vertices - middle) / size  # x, y, z in [-0.5, 0.5], front at z = 0.5
    points = head.vertices.copy()
    front = unit[:, 2] > 0.1
    points[:, 2] += 0.020 * front * _bump(unit, (0.0, -0.10, 0.45), (0.07, 0.06, 0.4))
    points[:, 2] += 0.009 * front * _bump(unit, (0.0, 0.0, 0.45), (0.05, 0.09, 0.4))
    for side in (-1.0, 1.0):
        points[:, 2] -= 0.006 * front * _bump(unit, (side * 0.18, 0.03, 0.4), (0.10, 0.05, 0.4))
        ear = _bump(unit, (side * 0.5, -0.05, -0.02), (0.12, 0.085, 0.055))
        points[:, 0] += side * 0.016 * ear
    points[:, 2] += 0.006 * front * _bump(unit, (0.0, -0.43, 0.4), (0.16, 0.06, 0.4))
    hairy = hair_share(unit)
    outward = (points - middle) / (np.linalg.norm(points - middle, axis=1, keepdims=True) + 1e-9)
    points += 0.013 * hairy[:, None] * outward
    materials = np.where(hairy[head.faces].mean(axis=1) > 0.5, Material.HAIR, Material.SKIN)
    return _Part(points, head.faces, head.weights, materials)


def hair_share(unit: FloatArray) -> FloatArray:
    """(V,) 1 where hair grows: above the forehead, behind the ears, down to the nape."""
    hairline = np.interp(unit[:, 2], [-0.5, -0.15, 0.0, 0.2, 0.5], [-0.36, -0.30, 0.02, 0.26, 0.31])
    return np.asarray(1.0 / (1.0 + np.exp(-(unit[:, 1] - hairline) / 0.015)))


def _face(head: _Part) -> list[_Part]:
    """Eyes, brows and mouth: small discs just before the face."""
    middle, size = _head_box(head)
    discs: list[_Part] = []

    def disc(x: float, y: float, wide: float, tall: float, lift: float, material: Material) -> None:
        angle = np.linspace(0.0, 2.0 * np.pi, 10, endpoint=False)
        rim = np.stack([x + wide * np.cos(angle), y + tall * np.sin(angle)], axis=1)
        flat = np.concatenate([[[x, y]], rim])
        facing = head.vertices[head.vertices[:, 2] > middle[2]]
        gap = np.linalg.norm(flat[:, None] - facing[None, :, :2], axis=2)
        depth = np.array([facing[np.argsort(row)[:4], 2].max() for row in gap]) + lift
        ring = np.arange(10)
        faces = np.stack([np.zeros(10, np.int64), 1 + ring, 1 + (ring + 1) % 10], axis=1)
        weights = np.zeros((11, N_JOINTS))
        weights[:, _HEAD] = 1.0
        discs.append(_Part(np.column_stack([flat, depth]), faces, weights, np.full(10, material)))

    for side in (-1.0, 1.0):
        x, y = middle[0] + side * 0.175 * size[0], middle[1] + 0.02 * size[1]
        disc(x, y, 0.0145, 0.0075, 0.003, Material.EYE)
        disc(x, y, 0.0070, 0.0072, 0.005, Material.PUPIL)
        disc(x, y + 0.021, 0.0185, 0.0042, 0.004, Material.BROW)
    disc(middle[0], middle[1] - 0.27 * size[1], 0.025, 0.0070, 0.003, Material.LIPS)
    return discs


def _loft(
    skin: _Part, axis: int, knots: FloatArray, stations: FloatArray, segments: int, thickness_m: float, fold_m: float
) -> tuple[_Part, FloatArray]:
    """A tube around `skin` along `axis`; also the lower end of each face on the axis.

    Args:
        skin: What the tube covers.
        axis: 0 or 1: the tube runs along x or y.
        knots: (K, 3) points of the centre line, increasing along the axis.
        stations: (R,) places of the rings on the axis, increasing.
        segments: Corners of a ring.
        thickness_m: Gap between skin and cloth.
        fold_m: Smoothing along the axis.
    """
    across = [k for k in range(3) if k != axis]
    centres = np.stack([np.interp(stations, knots[:, axis], knots[:, k]) for k in across], axis=1)
    spine = np.stack([np.interp(skin.vertices[:, axis], knots[:, axis], knots[:, k]) for k in across], axis=1)
    offset = skin.vertices[:, across] - spine
    radius, bearing = np.linalg.norm(offset, axis=1), np.arctan2(offset[:, 1], offset[:, 0])
    angles = np.arange(segments) * 2.0 * np.pi / segments
    along = np.exp(-0.5 * ((stations[:, None] - skin.vertices[:, axis]) / fold_m) ** 2) + 1e-9
    turn = np.angle(np.exp(1j * (angles[:, None] - bearing)))
    around = np.exp(-0.5 * (turn / 0.16) ** 2) + 1e-9
    total = along @ around.T
    reach = ((along @ (around * radius**10).T) / total) ** 0.1 + thickness_m
    blurred = np.exp(-0.5 * ((stations[:, None] - skin.vertices[:, axis]) / 0.035) ** 2) + 1e-9
    weights = np.einsum("rv,sv,vj->rsj", blurred, around, skin.weights, optimize=True)
    weights /= weights.sum(axis=2, keepdims=True)
    points = np.empty((len(stations), segments, 3))
    points[..., axis] = stations[:, None]
    points[..., across[0]] = centres[:, :1] + reach * np.cos(angles)
    points[..., across[1]] = centres[:, 1:] + reach * np.sin(angles)
    faces = _tube_faces(len(stations), segments, flip=axis == 1)
    caps = np.stack([points[0].mean(axis=0), points[-1].mean(axis=0)])
    cap_weights = np.stack([weights[0].mean(axis=0), weights[-1].mean(axis=0)])
    vertices = np.concatenate([points.reshape(-1, 3), caps])
    part = _Part(
        vertices, faces, np.concatenate([weights.reshape(-1, N_JOINTS), cap_weights]), np.zeros(len(faces), int)
    )
    return part, vertices[faces][:, :, axis].min(axis=1)


def _tube_faces(rings: int, segments: int, *, flip: bool) -> Array:
    """Triangles of a closed tube whose two cap centres come after the rings."""
    ring, segment = np.meshgrid(np.arange(rings - 1), np.arange(segments), indexing="ij")
    here, beside = ring * segments + segment, ring * segments + (segment + 1) % segments
    above, corner = here + segments, beside + segments
    quads = np.concatenate(
        [np.stack([here, beside, corner], -1).reshape(-1, 3), np.stack([here, corner, above], -1).reshape(-1, 3)]
    )
    step = np.arange(segments)
    last = (rings - 1) * segments
    first_cap = np.stack([np.full(segments, rings * segments), (step + 1) % segments, step], axis=1)
    last_cap = np.stack([np.full(segments, rings * segments + 1), last + step, last + (step + 1) % segments], axis=1)
    faces = np.concatenate([quads, first_cap, last_cap])
    return faces[:, ::-1] if flip else faces


def _torso(figure: _Part, dominant: Array) -> _Part:
    skin = _pick(figure, dominant, _TORSO, Material.SHIRT)
    low, high = skin.vertices[:, 1].min(), skin.vertices[:, 1].max()
    stations = np.linspace(low + 0.005, high + 0.012, 32)
    middle = np.median(skin.vertices[:, [0, 2]], axis=0)
    knots = np.array([[0.0, low, middle[1]], [0.0, high, middle[1]]])
    part, place = _loft(skin, 1, knots, stations, 32, 0.009, 0.040)
    part.materials = np.where(place < -0.03, Material.TROUSERS, Material.SHIRT)
    _slope_shoulders(part.vertices, high)
    return part


def _slope_shoulders(points: FloatArray, top: float) -> None:
    """Bring the upper torso from a box to shoulders that fall off from the neck; changes `points`."""
    over = np.clip((points[:, 1] - (top - 0.04)) / 0.052, 0.0, 1.0)
    points[:, 0] *= 1.0 - 0.60 * over
    points[:, 2] *= 1.0 - 0.30 * over**1.5
    upper = np.clip((points[:, 1] - (top - 0.22)) / 0.20, 0.0, 1.0)
    points[:, 0] *= 1.0 + 0.20 * upper * upper * (3.0 - 2.0 * upper)
    points[:, 1] -= 0.16 * upper * np.clip(np.abs(points[:, 0]) - 0.05, 0.0, None)


def _leg(figure: _Part, dominant: Array, joints: FloatArray, side: int) -> _Part:
    skin = _pick(figure, dominant, (1 + side, 4 + side, 7 + side), Material.TROUSERS)
    hip, knee, ankle = joints[1 + side], joints[4 + side], joints[7 + side]
    top = skin.vertices[:, 1].max()
    stations = np.linspace(ankle[1] - 0.005, top - 0.01, 30)
    part, place = _loft(skin, 1, np.stack([ankle, knee, hip]), stations, 16, 0.008, 0.024)
    part.materials = np.where(place < knee[1] - 0.05, Material.SHIN, Material.TROUSERS)
    return part


def _arm(figure: _Part, dominant: Array, joints: FloatArray, side: int) -> _Part:
    skin = _pick(figure, dominant, (16 + side, 18 + side), Material.SKIN)
    shoulder, elbow, wrist = joints[16 + side], joints[18 + side], joints[20 + side]
    knots = np.stack([shoulder, elbow, wrist])
    inner, outer = np.abs(skin.vertices[:, 0]).min(), abs(wrist[0]) + 0.005
    stations = np.linspace(inner + 0.012, outer, 30) if side == 0 else np.linspace(-outer, -inner - 0.012, 30)
    part, place = _loft(skin, 0, knots if side == 0 else knots[::-1], stations, 14, 0.003, 0.020)
    start = np.clip((np.abs(part.vertices[:, 0]) - inner) / 0.22, 0.0, 1.0)[:, None]
    pull = (shoulder - [0.0, 0.025, 0.0] - part.vertices) * [0.0, 0.45, 0.30]
    part.vertices += (1.0 - start) ** 1.5 * pull
    swing = np.clip((np.abs(part.vertices[:, 0]) - abs(shoulder[0]) + 0.07) / 0.11, 0.0, 1.0)[:, None]
    swing = swing * swing * (3.0 - 2.0 * swing)
    collar = np.zeros(N_JOINTS)
    collar[13 + side] = 1.0
    part.weights = swing * part.weights + (1.0 - swing) * collar
    cuff = abs(0.35 * shoulder[0] + 0.65 * elbow[0])
    part.materials = np.where(np.abs(place) < cuff, Material.SHIRT, Material.SLEEVE)
    return part


def _join(parts: Sequence[_Part], joints: FloatArray) -> BodyMesh:
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=False)])
    vertices = np.concatenate([part.vertices for part in parts])
    return BodyMesh(
        vertices.astype(np.float32),
        faces.astype(np.int32),
        np.concatenate([part.weights for part in parts]).astype(np.float32),
        np.concatenate([part.materials for part in parts]).astype(np.int32),
        joints.astype(np.float32),
        vertex_normals(vertices, faces).astype(np.float32),
    )


def vertex_normals(vertices: FloatArray, faces: Array) -> FloatArray:
    """(V, 3) unit normals: the sum of the adjacent triangles' normals, weighted by area."""
    corner = vertices[faces]
    area = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    total = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(total, faces[:, k], area)
    return np.asarray(total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-12))
