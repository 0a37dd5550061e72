"""The planted raw sources: the files are what the truth says, and the same settings give the same bytes."""

import dataclasses
import itertools
import json
from fractions import Fraction

import numpy as np
import pytest

from macebench.demo import rawset
from macebench.demo.rawset import OPTOUT_FILE, SOURCES, build_raw_set, read_truth, recipe_names
from macebench.demo.rawset_drawn import shapes, skeletons, swinging_lamp
from macebench.demo.rawset_edit import (
    Clock,
    Join,
    assemble,
    brightened,
    camera_moves,
    lay_out,
    mark_side,
    marked,
    strobe,
)
from macebench.demo.rawset_kept import with_passer_by
from macebench.demo.rawset_sound import find_clicks, with_clicks
from macebench.demo.rawset_stage import (
    Figure,
    Place,
    clothes,
    empty_room,
    film,
    moved,
    stand,
    turned,
    walk,
)
from macebench.demo.rawset_take import Bench
from macebench.demo.rawset_truth import MIN_SHOT_S, STAGES, RawTruth, SourceTruth, write_truth
from macebench.errors import MediaError, UserError
from macebench.media import Decoder, file_sha256
from macebench.skeleton import forward_kinematics

CUT = Join()


def grey(value, size=(24, 32)):
    return np.full((*size, 3), value, np.uint8)


def constant(value, count):
    return (grey(value) for _ in range(count))


def bytes_below(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


class Seen:
    """A decoded source: pictures, times, and why it ended early."""

    def __init__(self, decoder, path):
        frames, times, self.broken = [], [], None
        self.info = decoder.probe(path)
        try:
            for batch in decoder.frames(path):
                frames.extend(batch.frames)
                times.extend(batch.times_s)
        except MediaError as error:
            self.broken = error.reason
        self.frames, self.times = np.stack(frames), np.array(times)

    def at(self, second):
        """Number of the picture that is shown first at this time."""
        number = int(np.argmin(np.abs(self.times - second)))
        assert abs(self.times[number] - second) < 2e-3
        return number

    def change(self):
        """Mean difference of each picture to the one before, without the mark in the corner; 0 for the first."""
        side = 2 * mark_side(self.frames.shape[2], self.frames.shape[1])
        small = self.frames[:, side::4, side::4].astype(np.float64)
        return np.concatenate([[0.0], np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3))])

    def marks_s(self):
        side = mark_side(self.frames.shape[2], self.frames.shape[1])
        rim = max(1, side // 6)
        lit = self.frames[:, rim : side - rim, rim : side - rim].mean(axis=(1, 2, 3)) > 128
        return self.times[1:][lit[1:] & ~lit[:-1]]


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as shared:
        yield shared


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    out = tmp_path_factory.mktemp("raw") / "set"
    return out, build_raw_set(out, small=True)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, 3, 96, Fraction(15))


# --- clocks, joins and effects ---------------------------------------------------------------


def test_an_uneven_clock_changes_its_step():
    clock = Clock.uneven(Fraction(60), 6.0, (2, 3, 4))
    steps = np.diff(clock.ticks)
    assert set(steps.tolist()) == {2, 3, 4}
    assert np.all(np.diff(steps) >= 0)
    assert clock.times_s[-1] == pytest.approx(6.0, abs=4 / 60)
    assert clock.fps == pytest.approx(len(clock) / clock.times_s[-1])


def test_an_even_clock_of_ntsc():
    clock = Clock.even(Fraction(30000, 1001), 2.0)
    assert clock.times_s[1] == pytest.approx(1001 / 30000)
    assert clock.span(0, len(clock)) == (0.0, pytest.approx(60 * 1001 / 30000))


def test_shots_lie_where_the_layout_says():
    joins = (CUT, Join("dissolve", 4), Join("fade", 3, 2))
    lengths = (10, 12, 9, 11)
    layout = lay_out(lengths, joins)
    assert layout.cuts == (10,)
    assert layout.spans == ((0, 10), (10, 22), (18, 27), (29, 40))
    assert layout.gradual == ((18, 22), (24, 32))
    assert layout.clear == ((0, 10), (10, 18), (22, 24), (32, 40))
    values = (40, 80, 120, 200)
    shots = [constant(value, length) for value, length in zip(values, lengths, strict=True)]
    got = np.array([picture.mean() for picture in assemble(shots, lengths, joins)])
    assert len(got) == layout.count == 40
    for value, (first, after) in zip(values, layout.clear, strict=True):
        assert np.all(got[first:after] == value)
    inside = np.zeros(40, bool)
    for first, after in layout.gradual:
        inside[first:after] = True
    assert not np.isin(got[inside], values).any()
    assert np.all(np.diff(got[18:22]) > 0)
    assert got[27:29].tolist() == [0.0, 0.0]


def test_flashes_and_strobe():
    levels = {2: 1.0, 3: 0.5} | strobe(6, 10, 4)
    got = [picture.mean() for picture in brightened(constant(100, 12), levels)]
    assert got[:6] == [100, 100, 255, 178, 100, 100]
    assert min(got[6:8]) > 200
    assert max(got[8:10]) < 40
    assert got[10:] == [100, 100]


def test_marks_are_white_for_three_pictures():
    got = np.stack(list(marked((np.full((96, 120, 3), 90, np.uint8) for _ in range(9)), [4])))
    side = mark_side(120, 96)
    assert got[:, :side, :side].mean(axis=(1, 2, 3)).tolist() == [0, 0, 0, 0, 255, 255, 255, 0, 0]
    assert np.all(got[:, side:] == 90)


def test_a_moving_camera_moves_the_picture():
    large = np.random.default_rng(0).integers(0, 255, (85, 85, 3), dtype=np.uint8)
    got = np.stack(list(camera_moves([large] * 5, 50, 50, np.arange(5) / 5, sway=0.2, zoom=0.1)))
    assert got.shape == (5, 50, 50, 3)
    assert all(np.abs(a.astype(int) - b).mean() > 10 for a, b in itertools.pairwise(got))


# --- sound -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_clicks_are_found_where_they_are(rate):
    rng = np.random.default_rng(rate)
    music = np.tanh(np.convolve(rng.normal(0, 1, 6 * rate), np.ones(24) / 24, mode="same"))
    onsets = np.array([0.31, 1.7, 3.333, 5.9])
    got = find_clicks(with_clicks(music, onsets, rate), rate)
    assert np.allclose(got, onsets, atol=1.5 / rate + 2e-4)


def test_no_clicks_in_music_alone():
    from macebench.demo.music import GENRES, compose

    for genre in GENRES:
        piece = compose(genre, 5.0, 4)
        assert len(find_clicks(0.4 * piece.samples, piece.sample_rate)) == 0


def test_clicks_outside_are_left_out():
    samples = with_clicks(np.zeros(8000), np.array([-1.0, 2.0]), 16000)
    assert not samples.any()
    with pytest.raises(ValueError, match="12000"):
        find_clicks(samples, 8000)


# --- figures and rooms -----------------------------------------------------------------------


def test_a_turned_motion_is_the_same_dance(bench):
    motion = bench.dance("x", bench.clock(2.0)).motion
    seen = turned(motion, 30.0)
    angle = np.radians(30.0)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    assert np.allclose(seen.joints, motion.joints @ turn.T, atol=1e-9)
    assert np.allclose(forward_kinematics(seen.rotations, seen.root), seen.joints, atol=1e-9)


def test_who_stands_hardly_moves_and_who_walks_gets_there():
    still = stand(60, 30.0)
    speed = np.linalg.norm(np.diff(still.joints, axis=0), axis=-1) * 30.0
    assert 0.0 < speed.max() < 0.05
    x = np.interp(np.arange(60) / 30, [0.5, 1.5], [-1.0, 1.0])
    walker = walk(x, -0.9, 30.0)
    assert np.allclose(walker.joints[:, 0, 0], x)
    assert np.abs(walker.joints[:, [7, 8], 1]).max() < 0.6
    ahead = walker.joints[30, 10:12].mean(axis=0) - walker.joints[30, 7:9].mean(axis=0)
    assert ahead[0] > abs(ahead[2])


def test_two_figures_are_both_drawn():
    place, one, two = Place(1, 1), stand(1, 30.0), moved(stand(1, 30.0), 1.2, 0.0)
    from macebench.render import fit_camera

    joined = dataclasses.replace(one, joints=np.concatenate([one.joints, two.joints]), rotations=None, root=None)
    camera = fit_camera(joined, 128, 96)
    alone = next(film([Figure(one, clothes(1))], place, 128, 96, camera)).astype(int)
    both = next(film([Figure(one, clothes(1)), Figure(two, clothes(2))], place, 128, 96, camera)).astype(int)
    changed = np.abs(both - alone).max(axis=2) > 12
    assert changed[:, 64:].mean() > 0.03
    assert changed[:, :50].mean() < 0.005


def test_rooms_differ_and_repeat():
    rooms = [empty_room(Place(k, k), 64, 64).astype(int) for k in range(4)]
    assert np.array_equal(rooms[2], empty_room(Place(2, 2), 64, 64))
    assert all(np.abs(a - b).mean() > 15 for a, b in itertools.pairwise(rooms))


def test_pictures_without_a_person_move(bench):
    times = np.arange(12) / 15
    motion = bench.dance("x", bench.clock(0.8)).motion
    room = empty_room(Place(0, 0), 96, 96)
    for pictures in (shapes(times, 96, 96, 1), swinging_lamp(room, times), skeletons(motion, 96, 96)):
        got = np.stack(list(pictures)).astype(int)
        assert got.shape == (12, 96, 96, 3)
        assert np.abs(np.diff(got, axis=0)).mean() > 0.3
    assert (np.stack(list(skeletons(motion, 96, 96))).max(axis=3) < 8).mean() > 0.7


def test_the_dancer_never_leaves_a_shot(bench, monkeypatch):
    cameras = []

    def spy(figures, place, width, height, camera=None):
        cameras.append((camera, figures[0].motion, width, height))
        return iter(())

    monkeypatch.setattr("macebench.demo.rawset_take.film", spy)
    bench.danced("shots", (5.0,) * 5, (CUT,) * 4, size=bench.tall)
    assert len(cameras) == 5
    for camera, motion, width, height in cameras:
        pixels, _ = camera.project(motion.joints, width, height)
        assert pixels.min() > 0
        assert np.all(pixels.max(axis=(0, 1)) < [width, height])


# --- truth -----------------------------------------------------------------------------------


def test_truth_comes_back(tmp_path):
    source = SourceTruth(
        "a/ü.mp4", "x", "keep", cuts_s=(1.5,), gradual=((2.0, 3.0),), usable_spans=((0.0, 7.0),),
        dropped=(rawset.Dropped(7.0, 8.0, "shots", "shot too short"),), fps=29.97,
    )  # fmt: skip
    truth = RawTruth((source,), {"seed": 1})
    write_truth(tmp_path / "truth.json", truth)
    assert read_truth(tmp_path) == read_truth(tmp_path / "truth.json") == truth
    assert truth.source("a/ü.mp4") is source
    with pytest.raises(KeyError):
        truth.source("b.mp4")


@pytest.mark.parametrize("change", [{"version": 99}, {"schema": "x"}, {"sources": [{"kind": "x"}]}, {"sources": 3}])
def test_truth_that_is_none(tmp_path, change):
    path = tmp_path / "truth.json"
    write_truth(path, RawTruth(()))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match="truth"):
        read_truth(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_truth(tmp_path / "no.json")


@pytest.mark.parametrize("how", [{"size": 100}, {"size": 32}, {"seed": -1}])
def test_settings_out_of_range(tmp_path, how):
    with pytest.raises(UserError, match="cannot be made"):
        build_raw_set(tmp_path / "set", **how)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        build_raw_set(tmp_path)
    assert bytes_below(tmp_path) == {"mine.txt": b"x"}


def test_passers_by_are_seen_as_long_as_they_should(bench):
    from macebench.demo.rawset_kept import hurried
    from macebench.demo.rawset_rejected import _watching

    for way, seconds, low, high in ((hurried, 11.0, 0.05, 0.10), (_watching, 9.0, 0.55, 0.7)):
        _, seen = with_passer_by(bench, "x", seconds, way)
        share = sum(end - start for start, end in seen) / seconds
        assert low < share < high


# --- files -----------------------------------------------------------------------------------


def test_hostile_files_give_their_reasons(decoder, bench):
    for source in rawset.make_sources(bench, "broken"):
        with pytest.raises(MediaError) as caught:
            decoder.probe(bench.out / SOURCES / source.file_name)
        assert (source.stage, caught.value.reason) == ("probe", source.reason), source.file_name


@pytest.mark.parametrize(
    "name",
    [
        "skeleton",
        "abstract_shapes",
        pytest.param("variable_rate", marks=pytest.mark.slow),
        pytest.param("rotated_90", marks=pytest.mark.slow),
        pytest.param("odd_size", marks=pytest.mark.slow),
        pytest.param("wide_pixels", marks=pytest.mark.slow),
        pytest.param("moving_camera", marks=pytest.mark.slow),
    ],
)
def test_the_same_bytes_again(tmp_path, name):
    made = []
    for number in range(2):
        bench = Bench(tmp_path / str(number), 1, 64, Fraction(6))
        sources = rawset.make_sources(bench, name)
        made.append((sources, bytes_below(bench.out)))
    assert made[0] == made[1]
    other = rawset.make_sources(Bench(tmp_path / "other", 2, 64, Fraction(6)), name)
    assert bytes_below(tmp_path / "other") != made[0][1]
    assert len(other) == len(made[0][0])


@pytest.mark.parametrize(
    "name", ["variable_rate", "rotated_90", "rotated_270", "odd_size", "wide_pixels", "late_sound"]
)
def test_odd_files_are_what_their_truth_says(decoder, bench, name):
    (source,) = rawset.make_sources(bench, name)
    path = bench.out / SOURCES / source.file_name
    check_file(decoder, path, source)
    info = decoder.probe(path)
    assert (info.variable_rate is True) == (name == "variable_rate")
    assert info.rotation_deg == (int(name[-2:]) if name == "rotated_90" else 270 if name == "rotated_270" else 0)
    if name == "late_sound":
        assert decoder.audio(path, 48000).start_s == pytest.approx(0.12, abs=0.03)


def check_file(decoder, path, source):
    """Everything that the truth says of a file that can be decoded."""
    seen = Seen(decoder, path)
    assert (seen.info.width, seen.info.height) == (source.width, source.height)
    assert seen.frames.shape[1:3] == (source.height, source.width)
    if source.stage == "decode":
        assert seen.broken == source.reason
        assert seen.times[-1] < source.duration_s - 1.0
        return
    assert seen.broken is None
    assert len(seen.times) / source.duration_s == pytest.approx(source.fps, rel=1e-3)
    assert seen.info.duration_s == pytest.approx(source.duration_s, abs=0.04)
    check_pictures(seen, source)
    check_sound(decoder, path, seen, source)


def check_pictures(seen, source):
    change = seen.change()
    for cut in source.cuts_s:
        number = seen.at(cut)
        assert change[number] > 8.0, (source.file_name, cut)
        assert change[number] > 2.0 * np.median(change[1:])
    for start, end in source.flashes_s:
        first, after = seen.at(start), seen.at(end)
        usual = np.median(seen.frames[:: max(1, len(seen.frames) // 40)].mean(axis=(1, 2, 3)))
        assert np.abs(seen.frames[first:after].mean(axis=(1, 2, 3)) - usual).max() > 30, (source.file_name, start)
    for start, end in source.gradual:
        first, after = seen.at(start), seen.at(end)
        assert np.abs(seen.frames[first - 1].astype(int) - seen.frames[after]).mean() > 10


def check_sound(decoder, path, seen, source):
    if source.reason == "no sound":
        assert not seen.info.has_audio
        return
    sound = decoder.audio(path, 48000)
    if source.reason == "silent":
        assert np.abs(sound.samples).max() < 1e-4
        return
    heard = find_clicks(sound.samples, 48000) + sound.start_s
    assert len(heard) == len(source.audio_onsets_s)
    assert np.allclose(heard, source.audio_onsets_s, atol=0.005)
    if source.marked:
        marks = seen.marks_s()
        for onset in heard:
            assert np.abs(marks - onset).min() < 0.010


@pytest.mark.slow
def test_a_small_set_is_what_its_truth_says(small_set, decoder):
    out, truth = small_set
    assert read_truth(out) == truth
    names = [source.file_name for source in truth.sources]
    assert names == sorted(names)
    on_disk = {path.relative_to(out / SOURCES).as_posix() for path in (out / SOURCES).rglob("*") if path.is_file()}
    assert set(names) == on_disk
    assert {source.kind for source in truth.kept} == {"hard cuts", "fade to black"}
    assert truth.source("hard_cuts.mp4").dropped[0].reason == "shot too short"
    for source in truth.sources:
        path = out / SOURCES / source.file_name
        assert file_sha256(path) == source.sha256
        if source.duration_s:
            check_file(decoder, path, source)
        else:
            with pytest.raises(MediaError) as caught:
                decoder.probe(path)
            assert caught.value.reason == source.reason


@pytest.mark.slow
def test_the_truth_agrees_with_itself(small_set):
    for source in small_set[1].sources:
        assert bool(source.stage) == bool(source.reason) == (source.expect == "reject")
        assert source.stage in ("", *STAGES)
        assert bool(source.usable_spans) == (source.expect == "keep")
        for start, end in source.usable_spans:
            assert end - start >= MIN_SHOT_S
            assert not any(start < cut < end for cut in source.cuts_s)
            assert 0.0 <= start < end <= source.duration_s


@pytest.mark.slow
def test_two_workers_make_the_same_bytes_and_a_whole_set_is_not_made_again(small_set, tmp_path):
    out, truth = small_set
    calls = []
    again = build_raw_set(tmp_path / "again", small=True, workers=2, progress=lambda *state: calls.append(state))
    assert again == truth
    assert bytes_below(tmp_path / "again") == bytes_below(out)
    assert calls[-1] == (len(recipe_names(small=True)),) * 2
    stamps = {path: path.stat().st_mtime_ns for path in (out / SOURCES).iterdir()}
    assert build_raw_set(out, small=True) == truth
    assert {path: path.stat().st_mtime_ns for path in (out / SOURCES).iterdir()} == stamps
    with pytest.raises(UserError, match="not empty"):
        build_raw_set(out, small=True, seed=1)


@pytest.mark.slow
def test_opt_out_list_and_duplicate(small_set):
    out, truth = small_set
    listed = [line for line in (out / OPTOUT_FILE).read_text().splitlines() if not line.startswith("#")]
    assert listed == [truth.source("opted_out.mp4").sha256]
    copy = truth.source("zz_copy_of_hard_cuts.mp4")
    assert copy.sha256 == truth.source("hard_cuts.mp4").sha256
    assert copy.reason == "duplicate"
    others = [source.sha256 for source in truth.sources if source is not copy]
    assert len(set(others)) == len(others)


def test_an_interrupted_build_goes_on_and_a_damaged_file_is_made_again(tmp_path, monkeypatch):
    calls = []

    def cheap(bench):
        calls.append("cheap")
        (source,) = rawset.make_sources(bench, "abstract_shapes")
        path = bench.out / SOURCES / source.file_name
        path.replace(path.with_name("hard_cuts.mp4"))
        return [dataclasses.replace(source, file_name="hard_cuts.mp4")]

    def broken_off(bench):
        calls.append("broken off")
        raise UserError("stop")

    monkeypatch.setattr(rawset, "_SMALL", {"cheap": cheap, "skeleton": broken_off})
    with pytest.raises(UserError, match="stop"):
        build_raw_set(tmp_path, small=True, size=64)
    monkeypatch.setattr(rawset, "_SMALL", {"cheap": cheap, "skeleton": rawset.skeleton})
    truth = build_raw_set(tmp_path, small=True, size=64)
    assert calls == ["cheap", "broken off"]
    before = bytes_below(tmp_path)
    (tmp_path / SOURCES / "hard_cuts.mp4").write_bytes(b"damaged")
    left = tmp_path / SOURCES / ".encode.killed" / "straight.mp4"
    left.parent.mkdir()
    left.write_bytes(b"half a file")
    assert build_raw_set(tmp_path, small=True, size=64) == truth
    assert calls == ["cheap", "broken off", "cheap"]
    assert bytes_below(tmp_path) == before
