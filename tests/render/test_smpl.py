"""SMPL bodies from made-up model files, against the package smplx."""

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.render import Body, Look, get_renderer
from macebench.render.body import Material, load_body
from macebench.render.smpl import SMPL_FILES, SmplBody, find_smpl, load_smpl
from macebench.skeleton import SMPL_OFFSETS_M, SMPL_PARENTS, forward_kinematics
from macebench.types import Motion

JOINTS = {"smpl": 24, "smplh": 52, "smplx": 55}
SIDES = 12


def parents_of(n_joints):
    """SMPL's parents; jaw and eyes hang on the head, fingers in chains of three on the wrists."""
    if n_joints == 24:
        return np.array(SMPL_PARENTS)
    parents = list(SMPL_PARENTS[:22])
    parents += [15, 15, 15] if n_joints == 55 else []
    for wrist in (20, 21):
        for _ in range(5):
            parents += [wrist, len(parents), len(parents) + 1]
    return np.array(parents)


def model(n_joints, seed=0):
    """Arrays of a body of tubes: a ring of vertices on each side of every joint."""
    rng = np.random.default_rng(seed)
    parents = parents_of(n_joints)
    places = np.zeros((n_joints, 3))
    for joint in range(1, n_joints):
        offset = SMPL_OFFSETS_M[joint] if joint < 22 else rng.normal(0, 0.02, 3)
        places[joint] = places[parents[joint]] + offset
    turn = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)
    ring = 0.05 * np.stack([np.cos(turn), 0 * turn, np.sin(turn)], axis=1)
    rings = [places[joint] + ring + [0, dy, 0] for joint in range(n_joints) for dy in (-0.04, 0.04)]
    vertices = np.concatenate(rings)
    weights = rng.random((len(vertices), n_joints)) * 0.02
    weights[np.arange(len(vertices)), np.repeat(np.arange(n_joints), 2 * SIDES)] += 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    faces = []
    for joint in range(n_joints):
        low = joint * 2 * SIDES
        for k in range(SIDES):
            here, beside = low + k, low + (k + 1) % SIDES
            faces += [[here, here + SIDES, beside], [beside, here + SIDES, beside + SIDES]]
    regressor = np.repeat(np.eye(n_joints), 2 * SIDES, axis=1) / (2 * SIDES)
    arrays = {
        "v_template": vertices, "weights": weights, "J_regressor": regressor, "f": np.array(faces, np.uint32),
        "posedirs": rng.normal(0, 0.002, (len(vertices), 3, 9 * (n_joints - 1))),
        "shapedirs": rng.normal(0, 0.01, (len(vertices), 3, 400 if n_joints == 55 else 10)),
        "kintree_table": np.stack([parents.astype(np.uint32), np.arange(n_joints, dtype=np.uint32)]),
    }  # fmt: skip
    if n_joints > 24:
        arrays |= {f"hands_mean{side}": rng.normal(0, 0.2, 45) for side in "lr"}
        arrays |= {f"hands_components{side}": np.eye(45) for side in "lr"}
    if n_joints == 55:
        corners = np.zeros((51, 3))
        arrays |= {
            "lmk_faces_idx": np.zeros(51, np.int64), "lmk_bary_coords": corners,
            "dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64), "dynamic_lmk_bary_coords": np.zeros((79, 17, 3)),
        }  # fmt: skip
    return arrays


def write(folder, kind, arrays):
    path = folder / SMPL_FILES[kind][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return folder


@pytest.fixture
def motion():
    rng = np.random.default_rng(5)
    rotations = rng.normal(0, 0.4, (11, 24, 3))
    root = rng.normal(0, 1.0, (11, 3))
    return Motion(30.0, forward_kinematics(rotations, root), rotations, root)


@pytest.mark.parametrize("kind", sorted(JOINTS))
def test_the_root_joint_is_at_the_root(tmp_path, kind, motion):
    body = load_smpl(kind, write(tmp_path, kind, model(JOINTS[kind])))
    assert isinstance(body, SmplBody)
    still = Motion(30.0, motion.joints, np.zeros_like(motion.joints), motion.root)
    for (vertices, normals), root in zip(body.posed(still), motion.root, strict=True):
        around = vertices[body.weights.argmax(axis=1) == 0]
        assert around.mean(axis=0) == pytest.approx(root, abs=0.05)
        assert normals.shape == vertices.shape


@pytest.mark.parametrize("kind", sorted(JOINTS))
def test_vertices_are_those_of_the_package_smplx(tmp_path, kind, motion):
    torch = pytest.importorskip("torch")
    lbs = pytest.importorskip("smplx.lbs")
    n_joints = JOINTS[kind]
    arrays = model(n_joints)
    body = load_smpl(kind, write(tmp_path, kind, arrays))
    pose = np.zeros((len(motion), n_joints, 3))
    kept = 24 if kind == "smpl" else 22
    pose[:, :kept] = motion.rotations[:, :kept]
    if kind != "smpl":
        pose[:, -30:] = np.concatenate([arrays["hands_meanl"], arrays["hands_meanr"]]).reshape(30, 3)
    tensors = {name: torch.from_numpy(np.asarray(arrays[name], np.float64)) for name in arrays if name != "f"}
    parents = torch.from_numpy(parents_of(n_joints))
    n_pose = 9 * (n_joints - 1)
    vertices, joints = lbs.lbs(
        torch.zeros((len(motion), 10), dtype=torch.float64), torch.from_numpy(pose.reshape(len(motion), -1)),
        tensors["v_template"], tensors["shapedirs"][:, :, :10], tensors["posedirs"].reshape(-1, n_pose).T,
        tensors["J_regressor"], parents, tensors["weights"],
    )  # fmt: skip
    expected = vertices.numpy() + (motion.root - joints.numpy()[:, 0])[:, None]
    ours = np.stack([vertices for vertices, _ in body.posed(motion)])
    assert np.abs(ours - expected).max() < 2e-5


def test_the_class_of_the_package_reads_the_same_file(tmp_path, motion, monkeypatch):
    torch = pytest.importorskip("torch")
    smplx = pytest.importorskip("smplx")
    landmarks = {kind: dict.fromkeys(names, 0) for kind, names in smplx.body_models.VERTEX_IDS.items()}
    monkeypatch.setattr(smplx.body_models, "VERTEX_IDS", landmarks)
    write(tmp_path, "smplx", model(55))
    theirs = smplx.SMPLX(
        str(tmp_path / "smplx"), use_pca=False, flat_hand_mean=False, num_betas=10, use_face_contour=False,
        batch_size=len(motion), ext="npz",
    )  # fmt: skip
    turns = torch.from_numpy(motion.rotations.astype(np.float32))
    out = theirs(global_orient=turns[:, 0], body_pose=turns[:, 1:22].reshape(len(motion), -1))
    expected = out.vertices.detach().numpy() + (motion.root - out.joints.detach().numpy()[:, 0])[:, None]
    ours = np.stack([vertices for vertices, _ in load_smpl("smplx", tmp_path).posed(motion)])
    assert np.abs(ours - expected).max() < 1e-4


def test_limbs_are_dressed_and_the_painter_draws_them(tmp_path, motion):
    body = load_smpl("smplx", write(tmp_path, "smplx", model(55)))
    look = Look(shirt=(1.0, 0.0, 0.0), shoes=(0.0, 0.0, 1.0), long_sleeves=True)
    wear = {joint: set(body.materials[np.arange(len(body.materials)) // (2 * SIDES) == joint]) for joint in range(24)}
    assert wear[9] == wear[16] == {Material.SHIRT}
    assert wear[10] == {Material.SHOES}
    assert wear[20] == {Material.SKIN}
    assert Material.HAIR in wear[15]
    assert body.colours(look)[body.materials == Material.SLEEVE][0] == pytest.approx(look.shirt)
    still = Motion(30.0, motion.joints[:1], np.zeros((1, 24, 3)), np.array([[0.0, 1.0, 0.0]]))
    still = still.replace(joints=forward_kinematics(still.rotations, still.root))
    mask = next(get_renderer("painter", 64, 64, body).silhouette(still))
    assert 0.01 < mask.mean() < 0.5


def test_missing_models_name_what_to_get(tmp_path):
    with pytest.raises(UserError, match="needs a model file") as error:
        find_smpl("smplx", None)
    assert "smpl-x.is.tue.mpg.de" in error.value.hint
    assert "--smpl-dir" in error.value.hint
    with pytest.raises(UserError, match=r"holds no smplx/SMPLX_NEUTRAL\.npz"):
        find_smpl("smplx", tmp_path)
    with pytest.raises(UserError, match="pickle") as error:
        find_smpl("smpl", tmp_path)
    with pytest.raises(UserError, match="no body 'star'"):
        find_smpl("star", tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": np.zeros((3, 55))}, "weights has shape"), ({"f": np.full((4, 3), 10**6)}, "vertex that does not"),
        ({"v_template": None}, "lacks v_template"), ({"posedirs": np.array(["no"])}, "posedirs has shape"),
        ({"kintree_table": np.full((2, 55), 60)}, "before its parent"),
    ],
)  # fmt: skip
def test_damaged_models_are_refused(tmp_path, change, said):
    arrays = {name: value for name, value in (model(55) | change).items() if value is not None}
    with pytest.raises(UserError, match=said):
        load_smpl("smplx", write(tmp_path, "smplx", arrays))


def test_pickles_in_models_are_not_unpickled(tmp_path):
    arrays = model(55) | {"v_template": np.array([object], dtype=object)}
    with pytest.raises(UserError, match="pickle not allowed"):
        load_smpl("smplx", write(tmp_path, "smplx", arrays))
    whole = model(55) | {"joint2num": np.array({"hip": 0}, dtype=object)}
    assert load_smpl("smplx", write(tmp_path, "smplx", whole)).parents[0] == -1


def test_the_outermost_vertices_bound_the_body(motion):
    body: Body = load_body()
    calm = motion.replace(rotations=0.5 * motion.rotations)
    for (whole, _), (few, _) in zip(body.posed(calm), body.outermost().posed(calm), strict=True):
        assert len(few) < len(whole) / 3
        assert np.abs(whole.min(axis=0) - few.min(axis=0)).max() < 0.02
        assert np.abs(whole.max(axis=0) - few.max(axis=0)).max() < 0.02
        assert (few.min(axis=0) >= whole.min(axis=0) - 1e-6).all()
