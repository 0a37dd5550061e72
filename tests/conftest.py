"""Shared fixtures: a small world of videos, music and poses, made from closed forms."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@dataclass(frozen=True)
class TinyWorld:
    """Videos with sound, and pose tracks for them that a test can use in place of a pose estimator."""

    videos: Path
    poses: Path
    n: int


REST = np.array(
    [[0, -60], [3, -63], [-3, -63], [6, -61], [-6, -61], [16, -44], [-16, -44], [22, -20], [-22, -20],
     [24, 0], [-24, 0], [9, 0], [-9, 0], [10, 30], [-10, 30], [11, 60], [-11, 60]], dtype=float,
)  # fmt: skip


def dancing_keypoints(k: int, n_frames: int, fps: float) -> np.ndarray:
    """(T, 17, 2) pixels of a stick figure in a 192x192 picture; clip k has its own tempo, phase and style."""
    t = np.arange(n_frames)[:, None] / fps
    joint = np.arange(17)[None]
    tempo = 1.5 + 0.13 * k
    wave = np.sin(2 * np.pi * tempo * t + 0.4 * joint * (k % 3) + 0.5 * k)
    slow = np.sin(np.pi * tempo * t + 0.3 * joint + k)
    amplitude = 2.0 + ((7 * joint + 3 * k) % 5)
    moved = np.stack([amplitude * wave + 5 * slow, 0.6 * amplitude * slow + 2 * wave], axis=-1)
    return REST[None] + moved + np.array([96.0, 100.0])


def draw(keypoints: np.ndarray) -> np.ndarray:
    """A 192x192 RGB picture with a dot on each keypoint."""
    picture = np.full((192, 192, 3), 60, np.uint8)
    for x, y in np.clip(keypoints.round().astype(int), 3, 188):
        picture[y - 3 : y + 3, x - 3 : x + 3] = 220
    return picture


def clicks(duration_s: float, bpm: float, sample_rate: int = 22050) -> np.ndarray:
    """A click track as float32 samples."""
    t = np.arange(int(duration_s * sample_rate)) / sample_rate
    since = (t - 0.1) % (60 / bpm)
    return (0.6 * np.sin(2 * np.pi * 1000 * since) * np.exp(-since / 0.01) * (t >= 0.1)).astype(np.float32)


def make_world(folder: Path, n: int, seconds: float = 3.0, fps: float = 15.0) -> TinyWorld:
    """Write `n` videos and their pose tracks."""
    from macebench.media import write_video

    videos, poses = folder / "videos", folder / "poses"
    videos.mkdir(parents=True)
    poses.mkdir()
    n_frames = round(seconds * fps)
    for k in range(n):
        keypoints = dancing_keypoints(k, n_frames, fps)
        frames = (draw(item) for item in keypoints)
        sound = (clicks(seconds, 100 + 10 * (k % 4)), 22050)
        write_video(videos / f"clip{k}.mp4", frames, fps=fps, audio=sound)
        np.savez(
            poses / f"clip{k}.npz", keypoints=keypoints, confidence=np.full((n_frames, 17), 0.9),
            times_s=np.arange(n_frames) / fps, width=192, height=192, skeleton="coco17",
        )  # fmt: skip
    return TinyWorld(videos, poses, n)


def dance_in_space(k: int, seconds: float = 4.0, fps: float = 30.0):
    """A 3-D dancer whose limbs swing; number k has its own tempo, style and path."""
    from macebench.skeleton import forward_kinematics
    from macebench.types import Motion

    t = np.arange(round(seconds * fps))[:, None] / fps
    joint = np.arange(24)[None]
    tempo = 1.0 + 0.11 * k
    swing = np.stack([np.sin(2 * np.pi * tempo * t + 0.7 * joint * (axis + 1) + 0.4 * k) for axis in range(3)], axis=-1)
    rotations = swing * (0.1 + 0.05 * ((5 * joint + 3 * k) % 7))[..., None]
    rotations[:, 0] = 0.0
    root = np.concatenate([0.3 * np.sin(t + k), 0.95 + 0.02 * np.sin(3 * t), 0.2 * np.cos(0.7 * t + k)], axis=1)
    return Motion(fps, forward_kinematics(rotations, root), rotations, root)


def write_dances(folder: Path, n: int, *, first: int = 0, sounds: bool = True, **how: float) -> Path:
    """Write `n` 3-D dances, each with a click track beside it."""
    from macebench.media import write_wav
    from macebench.motion import write_motion

    folder.mkdir(parents=True, exist_ok=True)
    for k in range(first, first + n):
        motion = dance_in_space(k, **how)
        write_motion(folder / f"dance{k}.npz", motion)
        if sounds:
            write_wav(folder / f"dance{k}.wav", clicks(motion.duration_s, 100 + 7 * k), 22050)
    return folder


@pytest.fixture
def dances():
    """The function that writes folders of 3-D dances."""
    return write_dances


@pytest.fixture
def dance():
    """The function that makes one 3-D dance."""
    return dance_in_space


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """Six clips of three seconds."""
    return make_world(tmp_path_factory.mktemp("world"), 6)


@pytest.fixture(scope="session")
def tiny_world_long(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """Three clips of five seconds, long enough for the published protocol."""
    return make_world(tmp_path_factory.mktemp("long"), 3, seconds=5.0)


@pytest.fixture(scope="session")
def tiny_world_many(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """Twenty clips of three seconds."""
    return make_world(tmp_path_factory.mktemp("many"), 20)


@pytest.fixture
def click_track():
    """The function that makes click tracks."""
    return clicks


@pytest.fixture
def blazepose_weights() -> None:
    """Skips when the BlazePose weights are not on this machine."""
    from macebench import weights

    missing = [row.name for row in weights.select("blazepose") if weights.status(row.name) != "present"]
    if missing:
        pytest.skip(f"weights missing: {missing}; run `macebench weights pull blazepose`")


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never see the user's store."""
    monkeypatch.setenv("MACEBENCH_STORE", str(tmp_path / "store"))
