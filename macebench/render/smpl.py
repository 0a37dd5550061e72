"""SMPL's own bodies (SMPL, SMPL-H, SMPL-X) from the user's model files, by linear blend skinning in numpy.

The files are under their own licences and are never part of macebench: the user registers and downloads them. Only the
arrays needed are read from a ``.npz``, nothing in it is unpickled. The shape is the mean one (betas zero), the face is
at rest, hands have the file's mean pose where it has one. Pose correctives are applied, so vertices equal those of the
package ``smplx`` (tested). Vertices dominated by a joint get the clothes that `macebench.render.body` gives that limb.

The root joint is put at `Motion.root`. Legs of the mean SMPL-X body are some centimetres longer or shorter than those
of `macebench.skeleton`: the floor has to be found with the body that is drawn.

Reference: Loper et al., SMPL: a skinned multi-person linear model, SIGGRAPH Asia 2015; Pavlakos et al., Expressive body
capture, CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from macebench.errors import MediaError, UserError
from macebench.motion.arrays import read_npz
from macebench.render.base import Look, need_rotations
from macebench.render.body import Material, hair_share, material_colours, outermost_vertices, vertex_normals
from macebench.skeleton import axis_angle_to_matrix
from macebench.types import Array, FloatArray, Motion

SMPL_FILES: dict[str, tuple[str, ...]] = {
    "smplx": ("smplx/SMPLX_NEUTRAL.npz", "SMPLX_NEUTRAL.npz", "smplx/SMPLX_NEUTRAL_2020.npz"),
    "smplh": ("smplh/SMPLH_NEUTRAL.npz", "SMPLH_NEUTRAL.npz", "smplh/neutral/model.npz", "neutral/model.npz"),
    "smpl": ("smpl/SMPL_NEUTRAL.npz", "SMPL_NEUTRAL.npz"),
}
"""Model -> names below the model folder, in the order in which they are tried."""
_PLACES = {
    "smplx": "https://smpl-x.is.tue.mpg.de (SMPLX_NEUTRAL.npz of 'SMPL-X v1.1')",
    "smplh": "https://mano.is.tue.mpg.de (neutral/model.npz of 'Extended SMPL+H model')",
    "smpl": "https://smpl.is.tue.mpg.de, as arrays in a SMPL_NEUTRAL.npz: the .pkl there is a pickle and is not read",
}
_JOINTS = {"smplx": 55, "smplh": 52, "smpl": 24}
_BODY = 22
_NEEDED = ("v_template", "posedirs", "weights", "J_regressor", "kintree_table", "f")
_HANDS = ("hands_meanl", "hands_meanr")
_BATCH = 8


@dataclass(frozen=True)
class SmplBody:
    """A skinned body with pose correctives; satisfies `macebench.render.base.Body`.

    Attributes:
        vertices: (V, 3) metres, rest pose of the mean shape, float32.
        correctives: (9 (J - 1), V, 3) metres for each entry of the joints' turns away from rest, float32.
        weights: (V, J) skinning weights, float32.
        joints: (J, 3) the joints' places in the rest pose, metres.
        parents: J joint numbers, -1 for the root.
        hands: (30, 3) axis-angle of the finger joints, the last 30; empty where the model has no fingers.
        faces: (F, 3) vertex numbers.
        materials: (F,) `macebench.render.body.Material`.
        normals: (V, 3) unit normals in the rest pose, float32.
    """

    vertices: NDArray[np.float32]
    correctives: NDArray[np.float32]
    weights: NDArray[np.float32]
    joints: FloatArray
    parents: tuple[int, ...]
    hands: FloatArray
    faces: NDArray[np.int32]
    materials: NDArray[np.int32]
    normals: NDArray[np.float32]

    def colours(self, look: Look) -> NDArray[np.float32]:
        """(F, 3) unlit colours in [0, 1]."""
        return material_colours(look)[self.materials]

    def outermost(self) -> SmplBody:
        """See `macebench.render.base.Body.outermost`."""
        kept = outermost_vertices(self.vertices, self.weights)
        chosen = {name: getattr(self, name)[kept] for name in ("vertices", "weights", "normals")}
        fewer = self.correctives[:, kept]
        return replace(self, correctives=fewer, faces=self.faces[:0], materials=self.materials[:0], **chosen)

    def posed(self, motion: Motion) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """See `macebench.render.base.Body.posed`."""
        rotations = need_rotations(motion)
        root = motion.root if motion.root is not None else motion.joints[:, 0]
        for start in range(0, len(rotations), _BATCH):
            batch = slice(start, start + _BATCH)
            yield from self._pose(rotations[batch], root[batch])

    def _pose(
        self, rotations: FloatArray, root: FloatArray
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        local = self._local(rotations)
        feature = (local[:, 1:] - np.eye(3)).reshape(len(local), -1).astype(np.float32)
        shape = self.vertices + np.tensordot(feature, self.correctives, axes=1)
        turned, places = self._chain(local, root)
        shift = places - np.einsum("tjab,jb->tja", turned, self.joints)
        affine = np.concatenate([turned, shift[..., None]], axis=-1).astype(np.float32)
        for matrices, rest in zip(affine, shape, strict=True):
            blended = (self.weights @ matrices.reshape(len(matrices), 12)).reshape(-1, 3, 4)
            vertices = np.einsum("vab,vb->va", blended[..., :3], rest) + blended[..., 3]
            yield vertices, np.einsum("vab,vb->va", blended[..., :3], self.normals)

    def _local(self, rotations: FloatArray) -> FloatArray:
        """(T, J, 3, 3) local matrices of (T, 24, 3) axis-angle."""
        n_joints = len(self.parents)
        own = np.zeros((len(rotations), n_joints, 3))
        body = 24 if n_joints == 24 else _BODY
        own[:, :body] = rotations[:, :body]
        if len(self.hands):
            own[:, -len(self.hands) :] = self.hands
        return axis_angle_to_matrix(own)

    def _chain(self, local: FloatArray, root: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Global rotations (T, J, 3, 3) and places (T, J, 3) of the joints."""
        turned, places = np.empty_like(local), np.empty((*local.shape[:2], 3))
        turned[:, 0], places[:, 0] = local[:, 0], root
        for joint, parent in enumerate(self.parents[1:], start=1):
            turned[:, joint] = turned[:, parent] @ local[:, joint]
            places[:, joint] = places[:, parent] + turned[:, parent] @ (self.joints[joint] - self.joints[parent])
        return turned, places


def find_smpl(model: str, folder: str | Path | None) -> Path:
    """The model file of ``smplx``, ``smplh`` or ``smpl`` below the user's folder.

    Raises:
        UserError: no such model, no folder, or no file in it; the hint names what to get and where.
    """
    if model not in SMPL_FILES:
        raise UserError(f"there is no body {model!r}.", hint=f"Bodies: mannequin, {', '.join(SMPL_FILES)}.")
    hint = (
        f"Get the model, under its own licence, from {_PLACES[model]}, and give its folder with --smpl-dir. "
        "Without it, --body mannequin needs no file."
    )
    if folder is None:
        raise UserError(f"the body {model} needs a model file, and none comes with macebench.", hint=hint)
    places = [Path(folder) / name for name in SMPL_FILES[model]]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"{folder} holds no {' and no '.join(SMPL_FILES[model][:2])}.", hint=hint)
    return found


def load_smpl(model: str, folder: str | Path | None) -> SmplBody:
    """The body of a model file.

    Args:
        model: ``smplx``, ``smplh`` or ``smpl``.
        folder: Folder of the model files.

    Raises:
        UserError: see `find_smpl`; or the file is damaged or no such model.
    """
    path = find_smpl(model, folder)
    hint = f"Get it anew from {_PLACES[model]}."
    try:
        arrays = read_npz(path, (*_NEEDED, *_HANDS), lambda _name, _shape: None)
    except MediaError as error:
        raise UserError(f"{path} cannot be read: {error}.", hint=hint) from error
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise UserError(f"{path} is no {model} model: it lacks {', '.join(missing)}.", hint=hint)
    problem = _problem(arrays, _JOINTS[model])
    if problem:
        raise UserError(f"{path} is no {model} model: {problem}.", hint=hint)
    return _build(arrays)


def _problem(arrays: dict[str, Array], n_joints: int) -> str:
    """What is wrong with the arrays, or nothing."""
    v = arrays["v_template"].shape[0] if arrays["v_template"].ndim else 0
    shapes = {
        "v_template": (v, 3), "posedirs": (v, 3, 9 * (n_joints - 1)), "weights": (v, n_joints),
        "J_regressor": (n_joints, v), "kintree_table": (2, n_joints), "f": (len(np.atleast_1d(arrays["f"])), 3),
    }  # fmt: skip
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            return f"{name} has shape {arrays[name].shape}, expected {shape}"
        if not np.isfinite(arrays[name]).all():
            return f"{name} has values that are no numbers"
    parents, faces = arrays["kintree_table"][0, 1:], arrays["f"]
    if not (parents >= 0).all() or not (parents < np.arange(1, n_joints)).all():
        return "a joint stands before its parent"
    if faces.min(initial=0) < 0 or faces.max(initial=-1) >= v:
        return "a face has a vertex that does not exist"
    return "" if v and len(faces) else "it is empty"


def _build(arrays: dict[str, Array]) -> SmplBody:
    vertices, faces = arrays["v_template"], arrays["f"].astype(np.int64)
    joints = arrays["J_regressor"] @ vertices
    parents = (-1, *(int(parent) for parent in arrays["kintree_table"][0, 1:]))
    means = [arrays[name].reshape(-1, 3) for name in _HANDS if name in arrays]
    hands = np.concatenate(means) if len(means) == 2 and len(parents) > 24 else np.zeros((0, 3))
    return SmplBody(
        vertices.astype(np.float32),
        np.moveaxis(arrays["posedirs"], 2, 0).astype(np.float32),
        arrays["weights"].astype(np.float32),
        np.asarray(joints, dtype=np.float64),
        parents,
        hands,
        faces.astype(np.int32),
        _dressed(vertices, arrays["weights"], faces),
        vertex_normals(vertices, faces).astype(np.float32),
    )


def _dressed(vertices: FloatArray, weights: FloatArray, faces: Array) -> NDArray[np.int32]:
    """(F,) materials by the joint that moves a face most; the head's by the hairline."""
    wear = np.full(weights.shape[1], Material.SKIN)
    wear[[0, 1, 2]] = Material.TROUSERS
    wear[[4, 5]] = Material.SHIN
    wear[[3, 6, 9, 13, 14, 16, 17]] = Material.SHIRT
    wear[[18, 19]] = Material.SLEEVE
    wear[[7, 8, 10, 11]] = Material.SHOES
    by_joint = np.zeros((len(faces), weights.shape[1]))
    for corner in range(3):
        by_joint += weights[faces[:, corner]]
    materials = wear[by_joint.argmax(axis=1)]
    head = weights.argmax(axis=1) == 15
    if head.any():
        low, high = vertices[head].min(axis=0), vertices[head].max(axis=0)
        hairy = np.zeros(len(vertices))
        hairy[head] = hair_share((vertices[head] - 0.5 * (low + high)) / np.maximum(high - low, 1e-9))
        materials = np.where(hairy[faces].mean(axis=1) > 0.5, Material.HAIR, materials)
    return np.asarray(materials, dtype=np.int32)
