"""Where training dances come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from macebench.dances.sources import (
    AistSource,
    CmuSource,
    DemoSource,
    FineDanceSource,
    FolderSource,
    training_seed,
    usable_takes,
)
from macebench.dances.warp import kinetic_beats
from macebench.demo.choreography import choreograph
from macebench.demo.dataset import DemoConfig, plan_clips
from macebench.demo.music import GENRES, compose
from macebench.errors import MediaError, UserError
from macebench.media import write_wav
from macebench.models.motion_expert.codec import encode
from macebench.models.motion_expert.music import beat_frames
from macebench.models.training.data import build_training_set
from macebench.motion import write_motion

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "motion"
DANCES = SHARED / "cmu_subject05_dance"
needs_dances = pytest.mark.skipif(not DANCES.is_dir(), reason="the recorded dances are not beside this checkout")


def dance(seconds=2.0, seed=0, fps=60.0):
    return choreograph(np.arange(0.2, seconds, 0.5), seconds, fps, seed).motion


def sound(path, seconds=2.0, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    piece = compose("pop", seconds, seed, sample_rate=16000)
    write_wav(path, piece.samples, piece.sample_rate)


def moves(path, seed=0, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_motion(path, dance(seed=seed, **more))


def test_procedural_dances_are_on_the_beat_and_repeatable():
    item = DemoSource(3, 6.0, 1).items()[1]
    motion, music = item.load()
    again, same = item.load()
    assert len(motion) == len(music) == 180
    np.testing.assert_array_equal(motion.joints, again.joints)
    np.testing.assert_array_equal(music, same)
    beats = beat_frames(music) / 30.0
    away = np.abs(beats[:, None] - kinetic_beats(motion)).min(axis=1)
    assert np.median(away) < 0.1


def test_what_a_procedural_dance_is_does_not_depend_on_their_number():
    few, many = DemoSource(4).items(), DemoSource(40).items()
    assert few == many[:4]
    assert {item.info.genre for item in many} == set(GENRES)
    assert {item.info.pairing for item in many} == {"synthetic"}
    assert DemoSource(4, seed=1).items()[0].seed != few[0].seed


def test_no_seed_of_the_demo_data_set_is_used():
    demo = {clip.seed for seed in range(5) for clip in plan_clips(DemoConfig(n_clips=100, seed=seed))}
    training = {item.seed for item in DemoSource(500).items()}
    assert max(demo) < 2**32 <= min(training)
    assert len(training) == 500
    assert training_seed("a") == training_seed("a") != training_seed("b")


@pytest.mark.parametrize("source", [DemoSource(3, 0.5), DemoSource(-1)])
def test_pieces_that_cannot_be_made(source):
    with pytest.raises(UserError, match="cannot be made"):
        source.items()


def test_a_folder_of_motions_and_music(tmp_path):
    for name in ("one", "two", "alone"):
        moves(tmp_path / "m" / "sub" / f"{name}.npz", seed=len(name))
    for name in ("one", "two", "other"):
        sound(tmp_path / "s" / f"{name}.wav", seed=1)
    source = FolderSource(tmp_path / "m", tmp_path / "s", genre="salsa", licence="mine", pairing="original")
    made = build_training_set([source], tmp_path / "set")
    assert dict(made.left_out) == {"folder-alone": "no music"}
    assert [row.id for row in made.sequences] == ["folder-one", "folder-two"]
    assert {(row.genre, row.licence, row.pairing) for row in made.sequences} == {("salsa", "mine", "original")}
    assert len({row.group for row in made.sequences}) == 1, "one piece of music is in one split"
    np.testing.assert_allclose(made.motions[:60], encode(dance(seed=3))[:60], atol=1e-6)


def test_a_changed_file_is_another_set(tmp_path):
    moves(tmp_path / "m" / "one.npz")
    sound(tmp_path / "s" / "one.wav")
    source = FolderSource(tmp_path / "m", tmp_path / "s")
    before = source.items()[0].recipe()
    sound(tmp_path / "s" / "one.wav", seed=5)
    assert source.items()[0].recipe() != before


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        FolderSource(tmp_path / "x", tmp_path).items()
    with pytest.raises(UserError, match="holds no motion file"):
        FolderSource(tmp_path, tmp_path).items()
    moves(tmp_path / "a" / "one.npz")
    moves(tmp_path / "b" / "one.npz")
    with pytest.raises(UserError, match="have one name"):
        FolderSource(tmp_path, tmp_path).items()


@pytest.fixture
def aist(tmp_path):
    names = ("gBR_sBM_cAll_d04_mBR2_ch01", "gHO_sBM_cAll_d20_mHO1_ch02", "gPO_sBM_cAll_d10_mPO1_ch02",
             "gJS_sBM_cAll_d01_mJS1_ch09", "gJB_sBM_cAll_d08_mJB0_ch02")  # fmt: skip
    for name in names:
        moves(tmp_path / "motions" / f"{name}.npz")
    for name in ("mBR2", "mHO1", "mPO1", "mJS1"):
        sound(tmp_path / "music" / f"{name}.wav")
    (tmp_path / "ignore_list.txt").write_text("gJS_sBM_cAll_d01_mJS1_ch09\n")
    return tmp_path


def test_aist(aist):
    items = {item.info.id[5:8]: item for item in AistSource(aist).items()}
    assert items["gBR"].start_bpm == 100.0
    assert items["gHO"].start_bpm == 115.0
    assert items["gHO"].info.genre == "House"
    assert items["gHO"].info.group == "aist-mHO1"
    assert items["gHO"].info.pairing == "original"
    motion, music = items["gHO"].load()
    assert (motion.fps, len(motion), len(music)) == (30.0, 60, 60)
    for name, reason in (("gPO", "music of the test split"), ("gJS", "on the ignore list"), ("gJB", "no music")):
        with pytest.raises(MediaError, match=reason):
            items[name].load()
    kept = {item.info.id[5:8]: item for item in AistSource(aist, keep_test=True).items()}
    assert len(kept["gPO"].load()[0]) == 60


def test_pickles_are_read_when_they_are_trusted_only(aist):
    (aist / "motions" / "gBR_sBM_cAll_d04_mBR0_ch01.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(UserError, match="is a pickle") as error:
        AistSource(aist).items()
    assert "macebench convert" in error.value.hint
    assert "trust them" not in error.value.hint
    items = AistSource(aist, trust_pickle=True, keep_test=True).items()
    with pytest.raises(MediaError):
        next(item for item in items if item.motion.suffix == ".pkl").load()
    with pytest.raises(UserError, match="cannot be read"):
        AistSource(aist, trust_pickle=True, ignore_list=aist / "none.txt").items()


def test_finedance(tmp_path):
    values = np.zeros((300, 315), dtype=np.float32)
    values[:, 3:] = np.tile([1, 0, 0, 0, 1, 0], 52)
    values[:, 1] = 0.9 + 0.001 * np.arange(300)
    for song in ("001", "004", "063"):
        for folder in ("motion", "music_wav", "label_json"):
            (tmp_path / folder).mkdir(exist_ok=True)
        np.save(tmp_path / "motion" / f"{song}.npy", values)
        sound(tmp_path / "music_wav" / f"{song}.wav", 10.0)
        (tmp_path / "label_json" / f"{song}.json").write_text(json.dumps({"style1": "Folk", "style2": "Tai"}))
    items = list(FineDanceSource(tmp_path).items())
    assert [item.info.genre for item in items] == ["Dai"] * 3
    motion, music = items[1].load()
    assert len(motion) == len(music) == 60, "the intro of 8 s is cut from motion and music"
    assert np.asarray(motion.root)[0, 1] == pytest.approx(0.9 + 0.24)
    with pytest.raises(MediaError, match="test split"):
        items[2].load()


@needs_dances
def test_dirty_takes_are_left_out():
    names = {path.stem for path in usable_takes(DANCES)}
    assert not names & {"05_05", "05_08", "05_14", "05_18", "05_19"}
    assert {"05_02", "05_03", "05_04", "05_13"} <= names


@needs_dances
def test_recorded_dances_warped_to_beats():
    items = CmuSource(DANCES, 10, 6.0).items()
    splits = {split: {path for item in items if item.info.split == split for path in item.files}
              for split in ("train", "val")}  # fmt: skip
    assert splits["train"]
    assert splits["val"]
    assert not splits["train"] & splits["val"]
    item = items[3]
    motion, music = item.load()
    again, _ = item.load()
    assert len(motion) == len(music) == 180
    np.testing.assert_array_equal(motion.joints, again.joints)
    assert item.info.pairing == "synthetic"
    assert item.info.licence.startswith("CMU")
    steps = np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1)
    assert steps.max() * 30 < 15.0
    beats = compose(item.music, 6.0, item.seed).beats_s
    away = np.abs(kinetic_beats(motion)[:, None] - beats).min(axis=1)
    assert np.median(away) < 0.07


def test_a_folder_without_takes(tmp_path):
    (tmp_path / "bad.bvh").write_text("HIERARCHY nonsense")
    with pytest.raises(UserError, match="no usable BVH"):
        CmuSource(tmp_path).items()
