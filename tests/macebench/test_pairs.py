"""Which clip goes with which, and which frame with which."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macebench import registry
from macebench.aggregate import aggregate
from macebench.clips import load_set
from macebench.errors import Unscorable, UserError
from macebench.media import Decoder, FrameBatch, write_video
from macebench.pairs import (
    CROP_TIME,
    LENGTH_DIFFERS,
    NEAREST_TIME,
    RESIZE,
    SIZE_DIFFERS,
    TIMES_DIFFER,
    aligned,
    alignments,
    check_pairs,
    first_pairs,
    pair_clips,
    read_pairs,
    resized,
    rows_table,
)
from macebench.protocol import load_protocol
from macebench.tables import ClipRow
from macebench.types import Clip


def clips(*names):
    return [Clip(name, Path(f"{name}.mp4"), "0" * 64) for name in names]


def ids(pairs):
    return [(pair.generated and pair.generated.clip_id, pair.reference and pair.reference.clip_id) for pair in pairs]


# ---- clips ----------------------------------------------------------------------------------------------


def test_pairs_by_id_by_file_name_and_by_table():
    assert ids(pair_clips(clips("b", "a"), clips("a", "b"))) == [("a", "a"), ("b", "b")]
    assert ids(pair_clips(clips("run/a", "b"), clips("a", "gt/b"))) == [("b", "gt/b"), ("run/a", "a")]
    table = {"x": "a", "a": "b"}
    assert ids(pair_clips(clips("a", "x"), clips("a", "b"), table)) == [("a", "b"), ("x", "a")]


def test_what_has_no_partner_is_kept():
    found = ids(pair_clips(clips("a", "c"), clips("a", "b", "d")))
    assert found == [("a", "a"), (None, "b"), ("c", None), (None, "d")]
    assert [pair.clip_id for pair in pair_clips(clips("a"), clips("a", "b"))] == ["a", "b"]


def test_a_file_name_that_occurs_twice_pairs_nothing():
    found = ids(pair_clips(clips("a", "x/b", "y/b"), clips("a", "b")))
    assert found == [("a", "a"), (None, "b"), ("x/b", None), ("y/b", None)]


def test_pairing_errors():
    with pytest.raises(UserError, match="no generated clip has the name") as caught:
        pair_clips(clips("a"), clips("b"))
    assert "generated,reference" in caught.value.hint
    with pytest.raises(UserError, match="generated clip 'z'"):
        pair_clips(clips("a"), clips("a"), {"z": "a"})
    with pytest.raises(UserError, match="reference clip 'z'"):
        pair_clips(clips("a"), clips("a"), {"a": "z"})
    with pytest.raises(UserError, match="'a' twice"):
        pair_clips(clips("a", "b"), clips("a"), {"a": "a", "b": "a"})


def test_table_of_pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("generated,reference\nx,a\ny,b\n")
    assert read_pairs(path) == {"x": "a", "y": "b"}
    for text, match in (
        ("generated,other\nx,a\n", "line 2"),
        ("generated,reference\nx,\n", "line 2"),
        ("generated,reference\nx,a\nx,b\n", "line 3: 'x' stands in it twice"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=match):
            read_pairs(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_pairs(tmp_path / "absent.csv")


def test_a_table_of_pairs_with_a_byte_order_mark(tmp_path):
    """As a spreadsheet writes it."""
    path = tmp_path / "pairs.csv"
    path.write_text("generated,reference\r\nx,a\r\n", encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_pairs(path) == {"x": "a"}


def test_the_first_pairs_are_whole_ones():
    pairs = pair_clips(clips("b", "c", "x"), clips("a", "b", "c", "d"))
    assert ids(first_pairs(pairs, 2)) == [("b", "b"), ("c", "c")]
    assert ids(first_pairs(pairs, 3)) == [(None, "a"), ("b", "b"), ("c", "c")]
    assert first_pairs(pairs, None) == first_pairs(pairs, 9) == pairs


# ---- frames ---------------------------------------------------------------------------------------------


def stream(times, *, first=0, size=(4, 6), batch=3):
    """Batches of frames whose pixels hold their index."""
    frames = np.stack([np.full((*size, 3), first + index, np.uint8) for index in range(len(times))])
    for start in range(0, len(times), batch):
        yield FrameBatch(frames[start : start + batch], np.asarray(times[start : start + batch], np.float64))


def indices(batches):
    """(generated, reference) frame indices of all pairs, and their times."""
    pairs, times = [], []
    for batch in batches:
        assert batch.generated.shape == batch.reference.shape
        pairs += [(int(a.flat[0]), int(b.flat[0])) for a, b in zip(batch.generated, batch.reference, strict=True)]
        times += batch.times_s.tolist()
    return pairs, times


def grid(count, fps):
    return np.arange(count) / fps


def test_frame_by_frame():
    pairs, times = indices(aligned(stream(grid(11, 25)), stream(grid(11, 25), batch=4), (), batch=5))
    assert pairs == [(k, k) for k in range(11)]
    assert times == grid(11, 25).tolist()


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_batches_hold_at_most_so_many(batch):
    found = list(aligned(stream(grid(9, 25)), stream(grid(9, 25)), (), batch=batch))
    assert [len(item.times_s) for item in found] == [min(batch, 9 - start) for start in range(0, 9, batch)]


def test_uneven_times_are_compared_by_time():
    times = np.cumsum([0, 0.04, 0.02, 0.08, 0.04])
    assert len(indices(aligned(stream(times), stream(times + np.array([0, 0.005, 0.005, -0.005, 0])), ()))[0]) == 5
    with pytest.raises(Unscorable, match=TIMES_DIFFER):
        indices(aligned(stream(times), stream(times + np.array([0, 0, 0.011, 0, 0])), ()))


def test_what_differs_is_refused():
    cases = [
        (stream(grid(8, 25)), stream(grid(9, 25)), LENGTH_DIFFERS),
        (stream(grid(9, 25)), stream(grid(8, 25)), LENGTH_DIFFERS),
        (stream(grid(9, 25)), stream(grid(9, 30)), TIMES_DIFFER),
        (stream(grid(9, 25), size=(4, 8)), stream(grid(9, 25)), SIZE_DIFFERS),
    ]
    for ours, theirs, reason in cases:
        with pytest.raises(Unscorable) as caught:
            indices(aligned(ours, theirs, ()))
        assert caught.value.reason == reason
    with pytest.raises(UserError, match="alignment 'stretch'"):
        indices(aligned(stream(grid(2, 25)), stream(grid(2, 25)), ("stretch",)))


@pytest.mark.parametrize(("ours", "theirs"), [(5, 9), (9, 5)])
def test_crop_time_ends_with_the_shorter(ours, theirs):
    pairs, _ = indices(aligned(stream(grid(ours, 25)), stream(grid(theirs, 25)), (CROP_TIME,)))
    assert pairs == [(k, k) for k in range(5)]
    with pytest.raises(Unscorable, match=TIMES_DIFFER):
        indices(aligned(stream(grid(ours, 25)), stream(grid(theirs, 30)), (CROP_TIME,)))


def test_nearest_time_takes_the_frames_of_the_reference():
    slow, _ = indices(aligned(stream(grid(8, 16)), stream(grid(15, 30)), (NEAREST_TIME,)))
    assert [theirs for _, theirs in slow] == list(range(15))
    expected = [int(np.argmin(np.abs(grid(8, 16) - time).round(9))) for time in grid(15, 30)]
    assert [ours for ours, _ in slow] == expected
    fast, _ = indices(aligned(stream(grid(30, 60)), stream(grid(15, 30)), (NEAREST_TIME,)))
    assert fast == [(2 * k, k) for k in range(15)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.005, 0.2), min_size=1, max_size=20),
    st.lists(st.floats(0.005, 0.2), min_size=1, max_size=20),
    st.integers(1, 7),
)
def test_nearest_time_of_any_two_clocks(ours, theirs, batch):
    mine, other = (np.cumsum([0, *steps]) for steps in (ours, theirs))
    pairs, times = indices(aligned(stream(mine, batch=batch), stream(other), (NEAREST_TIME, CROP_TIME), batch=batch))
    assert pairs, "the first frames are always at 0"
    for (generated, reference), time in zip(pairs, times, strict=True):
        assert time == other[reference]
        assert abs(mine[generated] - time) <= np.abs(mine - time).min() + 1e-5
    assert [reference for _, reference in pairs] == list(range(len(pairs)))
    left = other[len(pairs) :]
    assert (left > mine[-1]).all()


def test_nearest_time_wants_one_length_within_a_frame():
    assert len(indices(aligned(stream(grid(17, 16)), stream(grid(30, 30)), (NEAREST_TIME,)))[0]) == 30
    for ours, theirs in ((8, 30), (30, 15)):
        with pytest.raises(Unscorable, match=LENGTH_DIFFERS):
            indices(aligned(stream(grid(ours, 16)), stream(grid(theirs, 30)), (NEAREST_TIME,)))
        found = indices(aligned(stream(grid(ours, 16)), stream(grid(theirs, 30)), (NEAREST_TIME, CROP_TIME)))[0]
        assert len(found) == 15


@pytest.mark.parametrize(
    ("one", "two", "fits"),
    [
        ((30, 15), (61, 30), True),  # 2.000 s against 2.033 s
        ((80, 16), (121, 24), True),  # 5.000 s against 5.042 s
        ((30, 15), (62, 30), True),
        ((30, 15), (63, 30), False),
        ((31, 15), (60, 30), True),
        ((32, 15), (60, 30), False),
        ((25, 25), (26, 25), True),
        ((25, 25), (27, 25), False),
    ],
)
def test_both_ends_have_the_same_tolerance(one, two, fits):
    """One frame of the slower video, whichever of the two is generated and whichever is longer."""
    for ours, theirs in ((one, two), (two, one)):
        batches = aligned(stream(grid(*ours)), stream(grid(*theirs)), (NEAREST_TIME,))
        if fits:
            assert [index for _, index in indices(batches)[0]] == list(range(theirs[0]))
        else:
            with pytest.raises(Unscorable, match=LENGTH_DIFFERS):
                indices(batches)


@given(st.integers(1, 40), st.sampled_from((12, 16, 25, 30, 60)), st.integers(1, 40), st.sampled_from((16, 24, 30)))
@settings(max_examples=60, deadline=None)
def test_which_of_two_videos_is_generated_does_not_decide_whether_they_fit(count, fps, other_count, other_fps):
    def fits(ours, theirs):
        try:
            return bool(indices(aligned(stream(grid(*ours)), stream(grid(*theirs)), (NEAREST_TIME,))))
        except Unscorable:
            return False

    one, two = (count, fps), (other_count, other_fps)
    assert fits(one, two) == fits(two, one)


def test_one_frame():
    for align in ((), (CROP_TIME,), (NEAREST_TIME,), (NEAREST_TIME, CROP_TIME)):
        assert indices(aligned(stream([0.0]), stream([0.0]), align))[0] == [(0, 0)]
        if CROP_TIME in align:
            assert indices(aligned(stream([0.0]), stream(grid(5, 25)), align))[0] == [(0, 0)]


def test_alignments():
    assert alignments(()) == alignments(("", ",")) == ()
    assert alignments(("resize,crop-time", " nearest-time", "resize")) == (CROP_TIME, NEAREST_TIME, RESIZE)
    with pytest.raises(UserError, match=r"unknown alignment 'nearest'\. Did you mean 'nearest-time'") as caught:
        alignments(("resize,nearest",))
    assert "Allowed: crop-time, nearest-time, resize; several are separated by commas." in caught.value.hint


def test_resize_brings_frames_to_the_reference():
    batches = list(aligned(stream(grid(3, 25), size=(8, 12), first=7), stream(grid(3, 25)), (RESIZE,)))
    assert batches[0].generated.shape == (3, 4, 6, 3)
    assert batches[0].generated[:, 0, 0, 0].tolist() == [7, 8, 9]


def test_resizing_averages_when_it_shrinks():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    means = frame.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))
    assert np.abs(resized(frame, 6, 4) - means).max() <= 0.5
    assert resized(frame, 24, 8).shape == (8, 24, 3)
    np.testing.assert_array_equal(resized(frame, 12, 8), frame)


# ---- files ----------------------------------------------------------------------------------------------


def video(path, count=6, fps=25.0, size=(32, 48)):
    rng = np.random.default_rng(count)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, rng.integers(0, 256, (count, *size, 3), dtype=np.uint8), fps=fps)
    return path


def test_pairs_of_files_that_do_not_fit_are_said_at_once(tmp_path):
    video(tmp_path / "ours/a.mp4")
    video(tmp_path / "theirs/a.mp4", size=(32, 64))
    video(tmp_path / "ours/b.mp4")
    video(tmp_path / "theirs/b.mp4", count=9)
    (tmp_path / "ours/c.mp4").write_bytes(b"no video")
    video(tmp_path / "theirs/c.mp4")
    pairs = pair_clips(load_set(tmp_path / "ours").clips, load_set(tmp_path / "theirs").clips)
    with Decoder() as decoder:
        with pytest.raises(UserError, match=r"'a': it has 48x32, the reference 64x32.*1 more") as caught:
            check_pairs(pairs, (), decoder)
        assert "--align resize" in caught.value.hint
        with pytest.raises(
            UserError, match=r"'b': it has 6 frames in 0\.240 s .25 a second., the reference 9 "
        ) as caught:
            check_pairs(pairs, (RESIZE,), decoder)
        assert "--align crop-time" in caught.value.hint
        check_pairs(pairs, (RESIZE, CROP_TIME), decoder)
        check_pairs(pairs, (RESIZE, NEAREST_TIME), decoder)


def test_equal_numbers_of_frames_at_two_rates_are_said_at_once(tmp_path):
    """What comes of videos of 16 frames a second whose motions were rendered at 30."""
    video(tmp_path / "ours/a.mp4", count=40, fps=16)
    video(tmp_path / "theirs/a.mp4", count=40, fps=30)
    video(tmp_path / "near/a.mp4", count=40, fps=30000 / 1001)
    pairs = pair_clips(load_set(tmp_path / "ours").clips, load_set(tmp_path / "theirs").clips)
    near = pair_clips(load_set(tmp_path / "near").clips, load_set(tmp_path / "theirs").clips)
    with Decoder() as decoder:
        for align in ((), (CROP_TIME,)):
            with pytest.raises(UserError, match=r"40 frames in 2\.500 s .16 a second.*1\.333 s .30 a second") as caught:
                check_pairs(pairs, align, decoder)
            assert "--align nearest-time" in caught.value.hint
        check_pairs(pairs, (NEAREST_TIME,), decoder)
        check_pairs(near, (), decoder)


# ---- scores ---------------------------------------------------------------------------------------------


def row(name, role="generated", values=None, vectors=None, reasons=None):
    features = {} if vectors is None else {"i3d_16": np.asarray(vectors, np.float64).ravel()}
    return ClipRow("m", "h", name, role, "0" * 64, values=values or {}, features=features, reasons=reasons or {})


def test_sets_of_vectors_have_one_entry_for_each():
    protocol = load_protocol("animation/1")
    rules = protocol.need_pixels().model_copy(update={"fvd_features": 3})
    protocol = protocol.model_copy(update={"pixels": rules})
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(5, 3)), rng.normal(size=(9, 3)) + 1
    mine = [row("a", vectors=ours[:1]), row("b", vectors=ours[1:]), row("c", reasons={"feature.i3d_16": "too short"})]
    other = [row("a", "reference", vectors=theirs[:4]), row("b", "reference", vectors=theirs[4:])]
    (score,) = aggregate(rows_table(mine), rows_table(other), protocol, [registry.get_metric("fvd")])
    from macebench.metrics.frechet import frechet_distance

    assert score.value == pytest.approx(frechet_distance(ours, theirs, normalise="none").value)
    assert (score.n, score.n_unscored, dict(score.reasons)) == (5, 1, {"too short": 1})
    assert any("5 generated and 9 reference" in note for note in score.notes)


def test_clip_scores_are_means_over_clips():
    mine = [row("a", values={"ssim": 0.5}), row("b", values={"ssim": 1.0}), row("c", reasons={"ssim": "no frames"})]
    (score,) = aggregate(rows_table(mine), rows_table([]), load_protocol("animation/1"), [registry.get_metric("ssim")])
    assert (score.value, score.n, dict(score.reasons)) == (0.75, 2, {"no frames": 1})
    assert isinstance(rows_table(mine), pd.DataFrame)


def test_alignment_is_part_of_the_hash_whatever_its_order():
    protocol = load_protocol("animation/1")

    def hashed(*align):
        rules = type(protocol.need_pixels()).model_validate(protocol.need_pixels().model_dump() | {"align": align})
        return protocol.model_copy(update={"pixels": rules}).hash

    assert hashed() == protocol.hash
    assert hashed(RESIZE, CROP_TIME) == hashed(CROP_TIME, RESIZE, RESIZE)
    assert len({hashed(), hashed(RESIZE), hashed(CROP_TIME), hashed(RESIZE, CROP_TIME)}) == 4


def test_pairs_are_frozen():
    (pair,) = pair_clips(clips("a"), clips("a"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        pair.generated = None
