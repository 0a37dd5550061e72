import numpy as np
import pytest

from macebench.errors import UserError
from macebench.generate import clip_seed, generate, music_of
from macebench.registry import model
from macebench.skeleton import forward_kinematics
from macebench.types import ModelCard, Motion


@model("test-generate-bow")
class Bow:
    """Bows for half a second; counts its calls."""

    card = ModelCard("test-generate-bow", "motion", "Bows.")
    calls: list = []  # noqa: RUF012

    def generate(self, music, seed):
        self.calls.append((music.name, seed))
        rotations = np.zeros((10, 24, 3))
        rotations[:, 3, 0] = np.linspace(0, 0.8, 10)
        root = np.tile([0.0, 0.95, 0.0], (10, 1))
        return Motion(20.0, forward_kinematics(rotations, root), rotations, root)


def sounds(tmp_path, click_track, n=2):
    from macebench.media import write_wav

    return {f"s{i}": write_wav(tmp_path / f"s{i}.wav", click_track(0.5, 120), 22050) for i in range(n)}


def test_each_piece_gets_a_video_with_sound_and_what_is_there_is_kept(tmp_path, click_track):
    from macebench.media import Decoder

    Bow.calls.clear()
    music = sounds(tmp_path, click_track)
    made = generate("test-generate-bow", music, tmp_path / "out", seed=3)
    assert [path.name for path in made.videos] == ["s0.mp4", "s1.mp4"]
    with Decoder() as decoder:
        info = decoder.probe(made.videos[0])
    assert (info.has_audio, info.width, round(info.fps)) == (True, 512, 20)
    generate("test-generate-bow", music, tmp_path / "out", seed=3)
    assert Bow.calls == [("s0.wav", clip_seed(3, "s0")), ("s1.wav", clip_seed(3, "s1"))]


def test_seeds_differ_by_clip_and_run():
    seeds = {clip_seed(run, clip) for run in range(3) for clip in ("a", "b")}
    assert len(seeds) == 6


def test_music_is_taken_from_the_clips(tmp_path, tiny_world):
    from macebench.clips import load_set
    from macebench.media import Decoder

    found = music_of(load_set(tiny_world.videos, limit=2).clips, tmp_path)
    assert sorted(found) == ["clip0", "clip1"]
    with Decoder() as decoder:
        assert decoder.audio(found["clip0"], 22050).samples.std() > 0.01


def test_what_cannot_be_generated_is_refused(tmp_path):
    with pytest.raises(UserError, match="no music"):
        generate("test-generate-bow", {}, tmp_path)
    with pytest.raises(UserError, match="generates nothing"):
        generate("frozen", {"a": tmp_path / "a.wav"}, tmp_path)


def test_a_motion_is_kept_with_its_music(tmp_path, click_track):
    from macebench.motion import read_motion

    made = generate("test-generate-bow", sounds(tmp_path, click_track), tmp_path / "out", as_motion=True)
    assert [path.name for path in made.videos] == ["s0.npz", "s1.npz"]
    motion = read_motion(made.videos[1])
    assert (motion.fps, len(motion)) == (20.0, 10)
    assert (tmp_path / "out" / "s1.wav").read_bytes() == (tmp_path / "s1.wav").read_bytes()


def test_a_video_model_has_no_motion(tmp_path, click_track):
    @model("test-generate-film")
    class Film:
        card = ModelCard("test-generate-film", "video", "A film.")

    with pytest.raises(UserError, match="no 3-D motions"):
        generate("test-generate-film", sounds(tmp_path, click_track), tmp_path / "out", as_motion=True)
