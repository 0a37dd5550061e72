"""From motion files to videos: framing, floor, clock, cache, table."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.ndimage import binary_dilation

from macebench.curation import _framing, render
from macebench.curation.finedance import finedance_sources
from macebench.curation.motion_sources import motion_sources
from macebench.curation.render import RenderConfig, plan_takes, render_source, render_sources
from macebench.errors import UserError
from macebench.media import Decoder, file_sha256, write_wav
from macebench.motion import read_motion, resample_motion, write_motion
from macebench.motion.rotations import axis_angle_to_matrix, matrix_to_rotation_6d
from macebench.render import Camera, get_renderer
from macebench.render.body import load_body
from macebench.skeleton import forward_kinematics
from macebench.types import Motion

SMALL = RenderConfig(width=96, height=96, min_s=1.0, take_s=2.0)
TINY = RenderConfig(width=32, height=32, min_s=0.5, take_s=1.2)
RATE = 22050
SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def columns(motion, *, contacts, drop=0.35):
    """(T, 315 or 319) of FineDance: root without SMPL's constant, 52 joints x 6-D, hands at rest."""
    six = np.tile(matrix_to_rotation_6d(np.eye(3)), (len(motion), 52, 1))
    six[:, :22] = matrix_to_rotation_6d(axis_angle_to_matrix(motion.rotations[:, :22]))
    parts = [motion.root - [0.0, drop, 0.0], six.reshape(len(motion), -1)]
    feet = [np.zeros((len(motion), 4))] if contacts else []
    return np.concatenate([*feet, *parts], axis=1).astype(np.float32)


def write_song(root, song, motion, *, genre="Tai", contacts=False, sound=None):
    """One song in FineDance's layout."""
    for folder in ("label_json", "motion", "music_wav"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    np.save(root / "motion" / f"{song}.npy", columns(motion, contacts=contacts))
    seconds = motion.duration_s
    samples = sound if sound is not None else noise(seconds)
    write_wav(root / "music_wav" / f"{song}.wav", samples, RATE)
    label = {"name": f"song {song}", "style1": "Folk", "style2": genre}
    (root / "label_json" / f"{song}.json").write_text(json.dumps(label), "utf-8")


def noise(seconds, seed=0):
    """Noise bursts, five a second: no part is like another, so that an offset has one answer."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * rng.standard_normal(len(t)) * ((5 * t) % 1 < 0.3)).astype(np.float32)


def standing(n=60, fps=30.0, **root):
    """A dancer who stands, swinging the arms; `root` moves are functions of the time."""
    t = np.arange(n) / fps
    rotations = np.zeros((n, 24, 3))
    rotations[:, 16, 2] = -1.0 + 0.5 * np.sin(5 * t)
    rotations[:, 17, 2] = 1.0 - 0.5 * np.sin(5 * t)
    path = np.stack([root.get(axis, lambda s: 0 * s)(t) for axis in "xyz"], axis=1)
    path[:, 1] += 0.974
    return Motion(fps, forward_kinematics(rotations, path), rotations, path)


def decoded(path):
    """(info, times, frames) of a video."""
    with Decoder() as decoder:
        info = decoder.probe(path)
        batches = list(decoder.frames(path))
    return info, np.concatenate([b.times_s for b in batches]), np.concatenate([b.frames for b in batches])


def offset_s(video, sound, rate):
    """Seconds by which the sound of `video` is behind `sound`, by cross-correlation."""
    with Decoder() as decoder:
        heard = decoder.audio(video, rate)
    ours, theirs = (np.fft.rfft(x, 1 << 19) for x in (heard.samples, sound))
    lag = int(np.fft.irfft(ours * np.conj(theirs)).argmax())
    return (lag - (1 << 19) * (lag > 1 << 18)) / rate + heard.start_s


def moving(seconds):
    """A dancer who walks about and turns a little."""
    motion = standing(round(30 * seconds), x=lambda t: 0.5 * np.sin(t), z=lambda t: 0.4 * np.cos(2 * t))
    rotations = np.array(motion.rotations)
    rotations[:, 0, 1] = 0.8 * np.sin(np.arange(len(motion)) / 20)
    return Motion(30.0, forward_kinematics(rotations, motion.root), rotations, motion.root)


@pytest.fixture
def song(tmp_path):
    """One FineDance song of 1.6 seconds."""
    write_song(tmp_path / "fd", "063", moving(1.6), contacts=True)
    return next(finedance_sources(tmp_path / "fd"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A song of four seconds in two takes: [(video's record, motion on the stage)]."""
    folder = tmp_path_factory.mktemp("drawn")
    write_song(folder, "063", moving(4.0), contacts=True)
    return list(staged_takes(next(finedance_sources(folder)), SMALL))


def staged_takes(source, config):
    """(take's record, motion on the stage) of every take of a source, as it was drawn."""
    made = render_source(source, source.motion.parent / "out", config)
    whole = resample_motion(read_motion(source.motion, fps=source.fps), made[0].facts["fps"])
    for item in made:
        first, behind = (round(item.facts[name] * whole.fps) for name in ("start_s", "end_s"))
        part = Motion(whole.fps, whole.joints[first:behind], whole.rotations[first:behind], whole.root[first:behind])
        turn = math.radians(item.facts["front_deg"])
        yield item, _framing.staged(part, item.facts["floor_m"], turn)


def camera_of(item):
    values = item.facts["camera"]
    return Camera(tuple(values["eye"]), tuple(values["target"]), values["fov_deg"])


class TestVideos:
    def test_thirty_frames_a_second_stay_thirty(self, drawn):
        assert [item.facts["n_frames"] for item, _ in drawn] == [60, 60]
        for item, _ in drawn:
            info, times, frames = decoded(item.path)
            assert info.fps == 30.0
            assert info.variable_rate is False
            assert len(frames) == item.facts["n_frames"]
            assert times == pytest.approx(np.arange(60) / 30.0, abs=1e-6)

    def test_music_is_on_the_pictures_clock(self, drawn):
        for item, _ in drawn:
            start = round(item.facts["start_s"] * RATE)
            assert abs(offset_s(item.path, noise(4.0)[start : start + 2 * RATE], RATE)) < 0.002

    def test_the_body_stays_in_every_picture(self, drawn):
        for item, motion in drawn:
            camera = camera_of(item)
            pixels, _ = camera.project(motion.joints, 96, 96)
            room = np.minimum(pixels, 96 - pixels).min()
            assert room > 0.05 * 96
            assert item.facts["margin_px"] <= room
            for mask in get_renderer("painter", 96, 96).silhouette(motion, camera=camera):
                y, x = np.nonzero(mask)
                assert min(x.min(), y.min(), 95 - x.max(), 95 - y.max()) >= item.facts["margin_px"] - 1.5
            assert item.facts["margin_px"] == pytest.approx(0.05 * 96, abs=1.0)

    def test_what_is_drawn_is_where_the_record_says(self, drawn):
        item, motion = drawn[1]
        masks = list(get_renderer("painter", 96, 96).silhouette(motion, camera=camera_of(item)))
        _, _, frames = decoded(item.path)
        body = np.any(masks, axis=0)
        # an encoder smears the outline by some pixels
        outside = ~binary_dilation(body, iterations=4)
        spread = frames.astype(int).max(axis=0) - frames.astype(int).min(axis=0)
        # the wall stands still; only the body and its shadow on the floor change
        assert spread[:40][outside[:40]].max() < 25
        assert np.mean(spread.max(axis=2)[body] > 30) > 0.8

    def test_feet_stand_on_the_floor(self, tmp_path):
        motion = standing(60, x=lambda t: 0.3 * np.sin(t), y=lambda t: 0.25 * np.clip(np.sin(2 * t - 2), 0, 1))
        write_song(tmp_path / "fd", "001", motion)
        source = next(finedance_sources(tmp_path / "fd"))
        item, staged = next(staged_takes(source, RenderConfig(width=256, height=256, min_s=1.0)))
        assert item.facts["floor_m"] == pytest.approx(-0.35, abs=0.004)
        camera, painter = camera_of(item), get_renderer("painter", 256, 256)
        for k, mask in enumerate(painter.silhouette(staged, camera=camera)):
            jump = 0.25 * max(0.0, math.sin(2 * k / 30 - 2))
            if jump > 0.0:
                continue
            toes = staged.joints[k, 10:12] * [1.0, 0.0, 1.0]
            floor, _ = camera.project(toes, 256, 256)
            # soles reach a little in front of the toe joint, that is below it in the picture
            assert -1.0 < np.nonzero(mask)[0].max() - floor[:, 1].max() < 6.0

    def test_the_same_input_gives_the_same_bytes_and_is_not_drawn_again(self, song, tmp_path, monkeypatch):
        first = render_source(song, tmp_path / "a", TINY)
        again = render_source(song, tmp_path / "b", TINY)
        assert [file_sha256(x.path) for x in first] == [file_sha256(x.path) for x in again]
        assert [x.path.name for x in first] == [x.path.name for x in again]
        first[1].path.unlink()
        before = file_sha256(again[1].path)
        calls = []
        monkeypatch.setattr(render, "_render_take", _counting(render._render_take, calls))
        resumed = render_source(song, tmp_path / "a", TINY)
        assert len(calls) == 1
        assert file_sha256(resumed[1].path) == before
        render_source(song, tmp_path / "a", TINY)
        assert len(calls) == 1

    @pytest.mark.parametrize(
        "change", [{"look": 3}, {"margin": 0.1}, {"take_s": 4.0}, {"crf": 30}, {"floor": "file"}, {"max_broken": None}]
    )
    def test_settings_are_part_of_the_name(self, song, change):
        assert render._key(song, SMALL) != render._key(song, replace(SMALL, **change))

    def test_a_damaged_video_is_made_again(self, song, tmp_path):
        made = render_source(song, tmp_path, TINY)[0]
        good = made.path.read_bytes()
        made.path.write_bytes(good[:-9])
        assert render_source(song, tmp_path, TINY)[0].path.read_bytes() == good

    def test_videos_say_that_they_are_drawn(self, song, tmp_path):
        assert b"synthetic picture" in render_source(song, tmp_path, TINY)[0].path.read_bytes()

    @pytest.mark.parametrize(("fps", "expected"), [(120.0, 60.0), (100.0, 50.0), (60.0, 60.0), (25.0, 25.0)])
    def test_high_rates_are_divided(self, tmp_path, dance, fps, expected):
        write_motion(tmp_path / "a.npz", dance(0, 0.8, fps))
        write_wav(tmp_path / "a.wav", noise(0.8), RATE)
        item = render_source(next(motion_sources(tmp_path)), tmp_path / "out", TINY)[0]
        assert item.facts["fps"] == expected
        assert decoded(item.path)[0].fps == expected

    def test_the_intro_is_cut_from_motion_and_music(self, tmp_path, dance):
        write_song(tmp_path / "fd", "067", dance(2, 7.2))
        item = render_source(next(finedance_sources(tmp_path / "fd")), tmp_path / "out", TINY)[0]
        assert (item.facts["start_s"], item.facts["end_s"]) == (6.0, 7.2)
        assert abs(offset_s(item.path, noise(7.2)[6 * RATE :], RATE)) < 0.002

    def test_a_recording_ends_with_its_music(self, tmp_path, dance):
        write_song(tmp_path / "fd", "001", dance(2, 2.0), sound=noise(1.51))
        made = render_source(next(finedance_sources(tmp_path / "fd")), tmp_path / "out", TINY)
        assert sum(item.facts["n_frames"] for item in made) == 45

    def test_sound_that_is_cut_short_is_used(self, song, tmp_path):
        whole = song.music.read_bytes()
        song.music.write_bytes(whole[: len(whole) - RATE * 2])
        made = render_source(song, tmp_path / "out", TINY)
        assert sum(item.facts["n_frames"] for item in made) in range(15, 19)


def _counting(function, calls):
    def counted(*args):
        calls.append(args)
        return function(*args)

    return counted


class TestRefused:
    def refused(self, folder, **config):
        made = render_source(next(motion_sources(folder)), folder / "out", RenderConfig(**{"min_s": 1.0} | config))
        assert made[0].path is None
        assert not list((folder / "out").glob("*.mp4"))
        return made[0].refused

    def test_motions_that_cannot_be_drawn(self, tmp_path, dance):
        write_wav(tmp_path / "a.wav", noise(2.0), RATE)
        path = tmp_path / "a.npz"
        path.write_bytes(b"PK no archive")
        assert self.refused(tmp_path) == "motion file not usable: not a motion file"
        write_motion(path, Motion(30.0, dance(0, 2.0).joints))
        assert self.refused(tmp_path) == "no rotations"
        write_motion(path, dance(0, 2.0))
        assert self.refused(tmp_path, min_s=2.5) == "too short"

    def test_feet_upside_down(self, tmp_path, dance):
        motion = dance(0, 2.0)
        rotations = np.array(motion.rotations)
        rotations[:30, 7] = [0.0, 0.0, 3.0]
        write_motion(tmp_path / "a.npz", motion.replace(rotations=rotations))
        write_wav(tmp_path / "a.wav", noise(2.0), RATE)
        assert self.refused(tmp_path) == "broken motion"
        assert render_source(
            next(motion_sources(tmp_path)), tmp_path / "kept", RenderConfig(64, 64, min_s=1.0, max_broken=None)
        )[0].path

    def test_music_that_cannot_be_read(self, tmp_path, dance):
        write_motion(tmp_path / "a.npz", dance(0, 2.0))
        assert self.refused(tmp_path) == "no music"
        (tmp_path / "a.wav").write_bytes(b"no sound at all")
        assert self.refused(tmp_path).startswith("music not usable: ")

    @pytest.mark.parametrize(
        "change",
        [{"width": 97}, {"height": 8}, {"renderer": "paint"}, {"body": "star"}, {"take_s": 1.0}, {"margin": 0.6},
         {"crf": 60}, {"floor": "roof"}, {"max_fps": 0.0}],
    )  # fmt: skip
    def test_settings_out_of_range(self, change):
        with pytest.raises(UserError, match=rf"render\.{next(iter(change))}"):
            RenderConfig(**change)

    def test_a_missing_model_stops_before_anything_is_drawn(self, song, tmp_path):
        with pytest.raises(UserError, match="needs a model file"):
            render_sources([song], tmp_path / "out", RenderConfig(body="smplx"))


class TestTable:
    def test_rows_of_kept_and_refused_recordings(self, tmp_path, dance):
        write_song(tmp_path / "fd", "012", dance(1, 1.6), genre="Hmong")
        write_song(tmp_path / "fd", "116", dance(2, 1.6))
        table = render_sources(finedance_sources(tmp_path / "fd"), tmp_path / "out", TINY)
        rows = pq.read_table(table).to_pylist()
        assert [(row["recording"], row["refused"]) for row in rows] == [
            ("012", ""), ("012", ""), ("116", "on the ignore list"),
        ]  # fmt: skip
        first = rows[0]
        assert (first["genre"], first["genre_raw"], first["split"], first["pairing"]) == (
            "Miao", "Hmong", "test", "original",
        )  # fmt: skip
        assert (first["music"], first["performer"], first["source"]) == ("finedance-012", "", "finedance")
        assert file_sha256(tmp_path / "out" / first["path"]) == first["sha256"]
        assert rows[2]["path"] == "116"
        assert rows[2]["fps"] is None

    @pytest.mark.slow
    def test_workers_change_nothing(self, tmp_path, dance, dances):
        folder = dances(tmp_path / "in", 3, seconds=1.2)
        config = RenderConfig(width=64, height=64, min_s=1.0)
        one = render_sources(motion_sources(folder), tmp_path / "one", config)
        two = render_sources(motion_sources(folder), tmp_path / "two", config, workers=2)
        assert one.read_bytes() == two.read_bytes()

    def test_two_motions_of_one_name(self, song, tmp_path):
        with pytest.raises(UserError, match="two motions are called '063'"):
            render_sources([song, song], tmp_path)

    def test_progress_counts_recordings(self, dances, tmp_path):
        seen = []
        config = RenderConfig(width=32, height=32, min_s=1.0)
        folder = dances(tmp_path / "in", 2, seconds=1.0)
        render_sources(motion_sources(folder), tmp_path / "out", config, progress=lambda *n: seen.append(n))
        assert seen == [(1, 2), (2, 2)]


class TestMotionFolders:
    def test_aist_names_give_music_genre_and_pairing(self, tmp_path, dance):
        name = "gBR_sBM_cAll_d04_mBR0_ch01"
        write_motion(tmp_path / f"{name}.npz", dance(0, 2.0, 60.0))
        (tmp_path / "music").mkdir()
        write_wav(tmp_path / "music" / "mBR0.wav", noise(2.0), RATE)
        source = next(motion_sources(tmp_path))
        assert (source.genre, source.genre_raw, source.music_id, source.pairing) == (
            "Breaking", "gBR", "mBR0", "original",
        )  # fmt: skip

    def test_music_of_the_same_name_is_synthetic_unless_said(self, dances, tmp_path):
        dances(tmp_path, 1)
        assert next(motion_sources(tmp_path)).pairing == "synthetic"
        assert next(motion_sources(tmp_path, pairing="original")).pairing == "original"
        with pytest.raises(UserError, match="pairing is 'true'"):
            motion_sources(tmp_path, pairing="true")

    def test_music_can_be_assigned(self, dances, tmp_path):
        folder = dances(tmp_path / "in", 6, sounds=False)
        music = tmp_path / "music"
        for k in range(3):
            write_wav(music / f"piece{k}.wav", noise(1.0, k), RATE)
        assert {source.refused for source in motion_sources(folder, music)} == {"no music"}
        given = list(motion_sources(folder, music, assign=True, pairing="original"))
        assert {source.pairing for source in given} == {"synthetic"}
        assert len({source.music for source in given}) > 1
        assert given == list(motion_sources(folder, music, assign=True))
        with pytest.raises(UserError, match="folder of music is needed"):
            list(motion_sources(folder, assign=True))

    def test_pickles_are_refused_and_the_hint_names_convert(self, dances, tmp_path):
        (tmp_path / "gBR_sBM_cAll_d04_mBR0_ch01.pkl").write_bytes(b"\x80\x04}.")
        with pytest.raises(UserError) as error:
            list(motion_sources(tmp_path))
        assert "macebench convert" in error.value.hint
        dances(tmp_path, 1)
        found = {source.name: source.refused for source in motion_sources(tmp_path)}
        assert found["gBR_sBM_cAll_d04_mBR0_ch01"] == "motion file not usable: pickle not allowed"
        assert found["dance0"] == ""
        assert len(list(motion_sources(tmp_path))) == 2

    @pytest.mark.parametrize("fps", [-3.0, 0.0, math.inf, math.nan])
    def test_a_frame_rate_is_above_zero(self, tmp_path, fps):
        with pytest.raises(UserError, match="frame rate"):
            motion_sources(tmp_path, fps=fps)


class TestFraming:
    def test_takes_are_few_equal_and_whole(self):
        assert plan_takes(600, 30.0, 20.0) == [(0, 600)]
        assert plan_takes(601, 30.0, 20.0) == [(0, 300), (300, 601)]
        spans = plan_takes(5432, 30.0, 20.0)
        assert [low for low, _ in spans[1:]] == [high for _, high in spans[:-1]]
        assert max(high - low for low, high in spans) <= 600
        assert min(high - low for low, high in spans) >= 540

    def test_takes_that_would_be_too_short_are_full_ones_and_the_rest_is_left(self):
        assert plan_takes(282, 30.0, 6.0, 5.0) == [(0, 180)]
        assert plan_takes(500, 30.0, 6.0, 5.0) == [(0, 167), (167, 333), (333, 500)]
        assert plan_takes(300, 30.0, 5.0, 5.0) == [(0, 150), (150, 300)]
        assert plan_takes(320, 30.0, 5.0, 5.0) == [(0, 150), (150, 300)]

    def test_what_is_left_over_is_a_refused_row(self, tmp_path):
        write_song(tmp_path / "fd", "063", moving(1.8))
        config = RenderConfig(width=32, height=32, min_s=1.0, take_s=1.2)
        table = render_sources(finedance_sources(tmp_path / "fd"), tmp_path / "out", config)
        made, rest = sorted(pq.read_table(table).to_pylist(), key=lambda row: row["start_s"])
        assert (made["n_frames"], made["refused"]) == (36, "")
        assert (rest["path"], rest["refused"]) == ("063-00001200", "too short")
        assert (rest["start_s"], rest["end_s"]) == pytest.approx((1.2, 1.8))
        assert len(list((tmp_path / "out").glob("*.mp4"))) == 1

    @pytest.mark.parametrize("seed", range(5))
    def test_the_mode_withstands_jumps_and_sinking(self, seed):
        rng = np.random.default_rng(seed)
        floor = rng.normal(0.7, 0.004, 300)
        jumps, sunk = 0.7 + rng.uniform(0.05, 0.6, 200), 0.7 - rng.uniform(0.02, 0.1, 60)
        ground = _framing.find_ground(np.concatenate([jumps, floor, sunk]))
        assert ground.height_m == pytest.approx(0.7, abs=0.006)
        assert 0.5 < ground.touching < 0.75
        assert ground.low_m < -0.01
        assert ground.high_m > 0.3

    def test_small_samples_have_a_mode(self):
        assert _framing.half_sample_mode(np.array([3.0])) == 3.0
        assert _framing.half_sample_mode(np.array([3.0, 5.0])) == 4.0
        with pytest.raises(ValueError, match="no values"):
            _framing.half_sample_mode(np.zeros(0))

    def test_a_take_has_its_own_floor_where_it_is_sure(self):
        whole = _framing.find_ground(np.full(100, 0.5))
        assert _framing.local_ground(whole, np.full(30, 0.53)).height_m == pytest.approx(0.53)
        assert _framing.local_ground(whole, np.full(30, 0.9)).height_m == pytest.approx(0.5)
        assert _framing.local_ground(whole, np.linspace(0.5, 1.5, 60)).height_m == pytest.approx(0.5)

    def test_a_kneeling_body_is_on_the_floor_too(self):
        motion = standing(40)
        rotations = np.array(motion.rotations)
        rotations[20:, 4:6, 0] = 1.57
        root = np.array(motion.root)
        kneel = Motion(30.0, forward_kinematics(rotations, root), rotations, root)
        lowest = _framing.lowest_points(kneel, load_body())
        root[20:, 1] -= lowest[20:].mean() - lowest[:20].mean()
        lowest = _framing.lowest_points(Motion(30.0, forward_kinematics(rotations, root), rotations, root), load_body())
        assert _framing.find_ground(lowest).touching == 1.0

    @pytest.mark.parametrize("turn", [0.0, 0.9, -2.5, 3.1])
    def test_the_dancer_faces_the_camera(self, turn):
        motion = standing(20)
        turned = _framing.staged(motion, 0.0, -turn)
        angle, length = _framing.facing(turned)
        # the two sides of SMPL's skeleton are not quite alike: 1.1 degrees
        assert np.exp(1j * angle) == pytest.approx(np.exp(1j * turn), abs=0.03)
        assert length == pytest.approx(1.0)
        front = _framing.staged(turned, 0.0, _framing.front(turned))
        assert front.joints == pytest.approx(motion.joints, abs=0.03)

    def test_who_turns_all_the_time_is_seen_from_the_files_front(self):
        motion = standing(60)
        rotations = np.array(motion.rotations)
        rotations[:, 0, 1] = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        spun = Motion(30.0, forward_kinematics(rotations, motion.root), rotations, motion.root)
        assert _framing.front(spun) == 0.0

    def test_the_stage_moves_and_turns_but_bends_nothing(self, dance):
        motion = dance(3, 1.0)
        staged = _framing.staged(motion, 0.2, 1.0)
        ours, theirs = (m.joints - m.joints[:, :1] for m in (staged, motion))
        c, s = math.cos(-1.0), math.sin(-1.0)
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        assert ours == pytest.approx(theirs @ turn.T, abs=1e-9)
        assert staged.root[:, 1] == pytest.approx(motion.root[:, 1] - 0.2)
        assert staged.root.min(axis=0)[[0, 2]] == pytest.approx(-staged.root.max(axis=0)[[0, 2]])

    def test_joints_only_cannot_be_staged(self):
        with pytest.raises(ValueError, match="rotations"):
            _framing.staged(Motion(30.0, np.zeros((2, 24, 3))), 0.0, 0.0)

    @pytest.mark.parametrize("size", [(128, 128), (160, 90), (90, 160)])
    def test_there_is_as_much_room_on_every_side(self, dance, size):
        motion = _framing.staged(dance(2, 2.0), 0.0, 0.0)
        width, height = size
        framing = _framing.frame_dance(motion, load_body(), width, height, margin=0.05)
        masks = np.any(list(get_renderer("painter", width, height).silhouette(motion, camera=framing.camera)), axis=0)
        y, x = np.nonzero(masks)
        left, right, top, bottom = x.min(), width - 1 - x.max(), y.min(), height - 1 - y.max()
        assert min(left, right, top, bottom) >= 0.05 * min(size) - 1.5
        assert abs(left - right) <= 2
        assert abs(top - bottom) <= 2


@pytest.mark.slow
def test_real_dances_in_finedances_format(tmp_path):
    takes = sorted((SHARED / "data" / "motion" / "cmu_subject05_dance").glob("*.bvh"))
    if not takes:
        pytest.skip("real dances are not beside this checkout")
    names = {"05_02": "001", "05_05": "002", "05_13": "003"}
    for path in takes:
        if path.stem in names:
            motion = resample_motion(read_motion(path), 30.0)
            write_song(tmp_path / "fd", names[path.stem], motion, contacts=path.stem == "05_13")
    config = RenderConfig(width=128, height=128)
    body = load_body()
    for source in finedance_sources(tmp_path / "fd"):
        if source.name == "002":
            assert render_source(source, tmp_path / "out", config)[0].refused == "broken motion"
            continue
        for item, motion in staged_takes(source, config):
            assert item.facts["floor_m"] == pytest.approx(-0.35, abs=0.03)
            assert item.facts["floor_touching"] > 0.85
            assert decoded(item.path)[0].fps == 30.0
            lowest = _framing.lowest_points(motion, body)
            assert np.median(np.abs(lowest)) < 0.02
            for mask in get_renderer("painter", 128, 128).silhouette(motion, camera=camera_of(item)):
                assert not mask[[0, 1, -2, -1]].any()
                assert not mask[:, [0, 1, -2, -1]].any()
