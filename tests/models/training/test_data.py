"""Training sets: building, resuming, opening, and windows that depend on seed and step alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from macebench.dances.sources import DemoSource
from macebench.errors import MediaError, UserError
from macebench.models.motion_expert.codec import decode, encode
from macebench.models.training._splits import split_of, splits_of
from macebench.models.training.data import (
    ItemInfo,
    TrainingSet,
    Windows,
    build_training_set,
    make_part,
)
from macebench.types import Motion

JOINTS = 24


@dataclass(frozen=True)
class Waving:
    """A body that turns on the spot."""

    info: ItemInfo
    frames: int = 60
    salt: int = 0
    error: Exception | None = None
    calls: list | None = None

    def recipe(self):
        return {"frames": self.frames, "salt": self.salt}

    def load(self):
        if self.error is not None:
            raise self.error
        if self.calls is not None:
            self.calls.append(self.info.id)
        t = np.arange(self.frames)
        rotations = 0.1 * np.sin(0.1 * t[:, None, None] + np.arange(JOINTS * 3).reshape(JOINTS, 3) + self.salt)
        root = np.stack([0.01 * t, np.full(self.frames, 0.95), 0.0 * t], axis=1)
        motion = Motion(30.0, np.zeros((self.frames, JOINTS, 3)), rotations, root)
        return motion, np.random.default_rng(self.salt).normal(size=(self.frames + 2, 35))


@dataclass(frozen=True)
class Given:
    found: tuple

    def items(self):
        return list(self.found)


def info(name, genre="pop", **more):
    return ItemInfo(name, genre, "test", "CC0-1.0", "synthetic", **more)


def waving(count=12, frames=60, **more):
    genres = ("house", "pop", "funk")
    return Given(tuple(Waving(info(f"w{k:02d}", genres[k % 3]), frames + k, k, **more) for k in range(count)))


@pytest.fixture
def made(tmp_path):
    return build_training_set([waving()], tmp_path / "set")


def content(folder):
    return {name: (folder / name).read_bytes() for name in ("motions.npy", "music.npy", "sequences.json")}


def test_what_is_in_a_training_set(made):
    assert made.motions.shape == (sum(60 + k for k in range(12)), 151)
    assert made.motions.dtype == made.music.dtype == np.float32
    assert made.genres == ("funk", "house", "pop")
    assert [row.id for row in made.sequences] == [f"w{k:02d}" for k in range(12)]
    item = waving().found[4]
    row, (motion, music) = made.sequences[4], item.load()
    assert (row.length, row.genre, row.licence, row.pairing) == (64, "pop", "CC0-1.0", "synthetic")
    np.testing.assert_allclose(made.motions[made.rows(row)], encode(motion), atol=1e-6)
    np.testing.assert_allclose(made.music[made.rows(row)], music[:64], atol=1e-6)
    assert made.genres[made.genre_index(row)] == "pop"
    assert not (made.folder / ".parts").exists()


def test_splits_follow_the_group_and_the_source(tmp_path):
    val = next(name for name in map(str, range(100)) if split_of(name) == "val")
    train = next(name for name in map(str, range(100)) if split_of(name) == "train")
    items = (
        Waving(info("a", group=val)), Waving(info("b", group=val)), Waving(info("c", group=train)),
        Waving(info("d", group=val, split="train")), Waving(info("e", split="val")),
    )  # fmt: skip
    made = build_training_set([Given(items)], tmp_path / "set")
    assert [row.split for row in made.sequences] == ["val", "val", "train", "train", "val"]
    shares = [split_of(f"group-{k}") for k in range(2000)]
    assert 0.08 < shares.count("val") / 2000 < 0.12


def named(split, count):
    """Names of groups whose hash alone puts them into the split."""
    return [name for name in map(str, range(100 * count)) if split_of(name) == split][:count]


def test_of_two_groups_one_is_held_out(tmp_path):
    first, second = named("train", 2)
    items = (Waving(info("a", group=first)), Waving(info("b", group=first)), Waving(info("c", group=second)))
    made = build_training_set([Given(items)], tmp_path / "set")
    assert [row.split for row in made.sequences] == ["train", "train", "val"]  # the smaller group
    val = [info(name, group=name) for name in named("val", 3)]
    assert sorted(splits_of(val)) == ["train", "val", "val"]


def test_splits_that_are_there_stay():
    train, val = named("train", 5), named("val", 1)
    everything = [info(name, group=name) for name in (*train, *val)]
    assert splits_of(everything) == ["train"] * 5 + ["val"]
    assert splits_of([info("a", group=train[0]), info("b", group=train[0])]) == ["train", "train"]  # one group
    given = [info("a", split="train"), info("b", split="train"), info(train[0])]
    assert splits_of(given) == ["train"] * 3  # the source says so


def test_the_normaliser_knows_the_training_split_only(tmp_path):
    items = (Waving(info("a", split="train"), 60), Waving(info("b", split="val"), 200))
    made = build_training_set([Given(items)], tmp_path / "set")
    train = made.normalizer.normalize(np.asarray(made.motions[:60]), clip=False)
    assert train.min() >= -1 - 1e-6
    assert train.max() <= 1 + 1e-6
    assert made.normalizer.normalize(np.asarray(made.motions[60:]), clip=False).max() > 1.5


def test_an_interrupted_build_goes_on_and_gives_the_same_bytes(tmp_path):
    whole = build_training_set([waving()], tmp_path / "whole")
    calls: list[str] = []
    broken = [*waving(calls=calls).found]
    broken[7] = Waving(broken[7].info, broken[7].frames, broken[7].salt, RuntimeError("killed"), calls)
    with pytest.raises(RuntimeError, match="killed"):
        build_training_set([Given(tuple(broken))], tmp_path / "part")
    with pytest.raises(UserError, match="no finished training set"):
        TrainingSet.open(tmp_path / "part")
    seen: list[tuple[int, int]] = []
    build_training_set(
        [waving(calls=calls)], tmp_path / "part", progress=lambda done, total: seen.append((done, total))
    )
    assert calls == [f"w{k:02d}" for k in range(12)]
    assert seen[0] == (7, 12)
    assert seen[-1] == (12, 12)
    assert content(tmp_path / "part") == content(whole.folder)
    assert build_training_set([waving(calls=calls)], tmp_path / "part").sha256 == whole.sha256
    assert len(calls) == 12


def test_a_folder_of_something_else_is_refused(tmp_path, made):
    with pytest.raises(UserError, match="holds another training set"):
        build_training_set([waving(5)], made.folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty"):
        build_training_set([waving(5)], tmp_path / "other")
    (tmp_path / "half" / ".parts").mkdir(parents=True)
    (tmp_path / "half" / ".parts" / "recipe").write_text("something")
    with pytest.raises(UserError, match="unfinished build of another"):
        build_training_set([waving(5)], tmp_path / "half")


def test_dances_that_cannot_be_used_are_left_out_with_the_reason(tmp_path):
    bare = Waving(info("bad"), error=MediaError("truncated file", "bad.npz"))
    long = Waving(info("long"), error=UserError("long.wav is longer than 1200 s.", hint="Cut it."))
    made = build_training_set([Given((bare, long)), waving(3)], tmp_path / "set")
    assert dict(made.left_out) == {"bad": "truncated file: bad.npz", "long": "long.wav is longer than 1200 s."}
    assert len(made.sequences) == 3
    with pytest.raises(UserError, match="no dance can be used; bad: truncated file"):
        build_training_set([Given((bare,))], tmp_path / "none")


def test_wrong_items(tmp_path):
    with pytest.raises(UserError, match="two dances are called w00"):
        build_training_set([waving(2), waving(1)], tmp_path / "a")
    with pytest.raises(UserError, match="no dance"):
        build_training_set([Given(())], tmp_path / "b")
    with pytest.raises(UserError, match="split 'test'"):
        build_training_set([Given((Waving(info("a", split="test")),))], tmp_path / "c")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "sequences.json").write_text("{"),
        lambda folder: (folder / "sequences.json").write_text("[]"),
        lambda folder: (folder / "motions.npy").unlink(),
        lambda folder: np.save(folder / "music.npy", np.zeros((3, 35), dtype=np.float32)),
        lambda folder: np.save(folder / "music.npy", np.zeros((783, 36), dtype=np.float32)),
    ],
)
def test_a_damaged_set_is_no_traceback(made, damage):
    damage(made.folder)
    with pytest.raises(UserError, match="damaged training set"):
        TrainingSet.open(made.folder)


def test_another_version_is_refused(made):
    table = json.loads((made.folder / "sequences.json").read_text())
    (made.folder / "sequences.json").write_text(json.dumps(table | {"version": 99}))
    with pytest.raises(UserError, match="version 99"):
        TrainingSet.open(made.folder)


def test_a_batch_depends_on_seed_and_step_alone(made):
    first, second = Windows(made, 30, 8, 3), Windows(TrainingSet.open(made.folder), 30, 8, 3)
    for step in (5, 0, 9000):
        one, other = first.batch(step), second.batch(step)
        assert one.motion.shape == (8, 30, 151)
        assert one.music.shape == (8, 30, 35)
        assert (one.motion.dtype, one.music.dtype, one.genre.dtype) == (np.float32, np.float32, np.int64)
        for name in ("motion", "music", "genre"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert not np.array_equal(first.batch(1).motion, first.batch(2).motion)
    assert not np.array_equal(first.batch(1).motion, Windows(made, 30, 8, 4).batch(1).motion)


def test_windows_lie_within_one_sequence_of_their_split(made):
    rows = {row.id: row for row in made.sequences if row.split == "train"}
    windows = Windows(made, 50, 64, 0)
    assert windows.n_windows == sum(row.length - 49 for row in rows.values())
    hit = set()
    for step in range(30):
        for start, genre in zip(*windows.starts(step), strict=True):
            row = next(r for r in rows.values() if r.start <= start and start + 50 <= r.start + r.length)
            assert made.genres[genre] == row.genre
            hit.add(int(start))
    assert len(hit) > 0.9 * windows.n_windows
    batch = windows.batch(0)
    start = int(windows.starts(0)[0][0])
    np.testing.assert_array_equal(batch.music[0], made.music[start : start + 50])
    np.testing.assert_allclose(
        made.normalizer.unnormalize(batch.motion[0]), made.motions[start : start + 50], atol=1e-5
    )


def test_short_sequences_are_left_out_and_counted(made):
    train = [row for row in made.sequences if row.split == "train"]
    windows = Windows(made, 65, 4, 0)
    assert windows.left_out == sum(row.length < 65 for row in train) > 0
    assert windows.n_sequences == len(train) - windows.left_out
    with pytest.raises(UserError, match="no sequence of 500 frames in train; the longest has 70"):
        Windows(made, 500, 4, 0)
    with pytest.raises(ValueError, match="must be 1 or more"):
        Windows(made, 0, 4, 0)


def test_a_part_whose_motion_has_no_rotations(tmp_path):
    @dataclass(frozen=True)
    class Bare(Waving):
        def load(self):
            return Motion(30.0, np.zeros((9, 24, 3))), np.zeros((9, 35))

    make_part(Bare(info("x")), tmp_path / "x.npz")
    assert "joint positions only" in (tmp_path / "x.reason").read_text()
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_workers(tmp_path):
    source = DemoSource(4, 2.0)
    one = build_training_set([source], tmp_path / "one")
    two = build_training_set([source], tmp_path / "two", workers=2)
    assert content(one.folder) == content(two.folder)
    motion = decode(np.asarray(two.motions[two.rows(two.sequences[0])]))
    assert len(motion) == 60


def test_the_folder_may_be_text(tmp_path):
    made = build_training_set([waving(2)], str(tmp_path / "set"))
    assert made.folder == Path(tmp_path / "set")
