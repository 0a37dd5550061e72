"""Cutting: which pictures, which samples, in step, the same bytes, whole or not at all."""

import dataclasses
import hashlib
import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from macebench.curation.cut import CutResult, EncodeConfig, cut_clip, max_side, output_rate
from macebench.curation.stage import Task
from macebench.demo.rawset_files import Container, encode, ffmpeg
from macebench.demo.rawset_sound import find_clicks, with_clicks
from macebench.errors import MediaError, UserError
from macebench.media import Decoder, VideoInfo, write_video, write_wav
from macebench.media.writing import EncoderError

RATE = 44100
ONSETS = (0.3, 1.1, 1.7, 2.6, 3.4, 4.2, 5.0, 5.7)
INFO = VideoInfo(96, 64, 30.0, 6.0, True, 0, False, "mp4", "h264", 180)


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as shared:
        yield shared


def grey(k, width=96, height=64):
    """A picture whose two halves have a brightness each that together name its number, below 150."""
    picture = np.full((height, width, 3), 30 + 15 * (k // 15 % 10), np.uint8)
    picture[:, width // 2 :] = 30 + 10 * (k % 15)
    return picture


def with_flashes(fps, seconds, size=(96, 64), onsets=ONSETS):
    """Grey pictures; a white one at each onset."""
    flashes = {round(onset * float(fps)) for onset in onsets}
    for k in range(round(seconds * float(fps))):
        yield np.full((size[1], size[0], 3), 255, np.uint8) if k in flashes else grey(k, *size) // 2


def clicks(fps, seconds, delay=0.0):
    """Stereo noise with clicks at the times of the flashes, for a track that begins `delay` after the pictures."""
    rng = np.random.default_rng(3)
    times = [round(onset * float(fps)) / float(fps) - delay for onset in ONSETS]
    mono = with_clicks(0.05 * rng.normal(size=round(seconds * RATE)), times, RATE)
    return np.stack([mono, 0.9 * mono], axis=1), RATE


def task_of(path, start, end, decoder=None):
    info = decoder.probe(path) if decoder is not None else None
    return Task(Path(path), hashlib.sha256(Path(path).read_bytes()).hexdigest(), start, end, {}, info)


def read(decoder, path):
    batches = list(decoder.frames(path))
    return np.concatenate([item.frames for item in batches]), np.concatenate([item.times_s for item in batches])


def offsets_ms(decoder, path):
    """Click minus flash in milliseconds, for each flash of a clip that has both."""
    frames, times = read(decoder, path)
    bright = frames.mean(axis=(1, 2, 3)) > 200
    flashes = times[np.flatnonzero(bright & ~np.roll(bright, 1))]
    sound = decoder.audio(path, RATE)
    heard = find_clicks(sound.samples, RATE) + sound.start_s
    flashes = flashes[(flashes > 0.02) & (flashes < times[-1] - 0.05)]
    return np.array([1000 * (heard[np.argmin(np.abs(heard - flash))] - flash) for flash in flashes])


# --- in step ---------------------------------------------------------------------------------

_X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-crf", "18")
PLANTED = {
    "plain": ("a.mp4", Fraction(30), (96, 64), Container()),
    "ntsc": ("a.mp4", Fraction(30000, 1001), (96, 64), Container()),
    "late sound": ("a.mp4", Fraction(25), (96, 64), Container(sound_delay_s=0.12)),
    "late sound, mkv": ("a.mkv", Fraction(25), (96, 64), Container(sound_delay_s=0.12)),
    "turned": ("a.mp4", Fraction(30), (64, 96), Container(turned_deg=90)),
    "wide pixels": ("a.mp4", Fraction(24), (72, 64), Container(video=(*_X264, "-vf", "setsar=4/3"))),
    "odd": ("a.mkv", Fraction(30), (97, 65), Container(video=("-c:v", "ffv1"), audio=("-c:a", "flac"))),
    "webm": ("a.webm", Fraction(30), (96, 64), Container(
        video=("-c:v", "libvpx", "-b:v", "1M", "-deadline", "realtime"), audio=("-c:a", "libopus"))),
    "b pictures": ("a.mp4", Fraction(50), (96, 64), Container(video=(*_X264, "-bf", "3", "-g", "400"))),
    "mp3": ("a.mp4", Fraction(30), (96, 64), Container(audio=("-c:a", "libmp3lame"))),
    "48 kHz": ("a.mov", Fraction(30), (96, 64), Container(audio=("-c:a", "pcm_s16le", "-ar", "48000"))),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
@pytest.mark.parametrize(("start", "end"), [(0.0, 5.9), (0.537, 5.2), (1.0, 4.6)])
def test_sound_is_in_step(decoder, tmp_path, case, start, end):
    name, fps, size, container = PLANTED[case]
    source = encode(
        tmp_path / name, with_flashes(fps, 6, size), fps, clicks(fps, 6, container.sound_delay_s), container
    )
    result = cut_clip(decoder, task_of(source, start, end, decoder), tmp_path / "clip.mp4", EncodeConfig())
    found = offsets_ms(decoder, tmp_path / "clip.mp4")
    assert len(found) >= 4
    assert np.abs(found).max() < 2.0
    assert result.sound_share > 0.97
    sound = decoder.audio(tmp_path / "clip.mp4", RATE)
    assert sound.duration_s == pytest.approx(result.duration_s, abs=1024 / RATE)


def uneven(path, ticks, white, base):
    """A video whose picture k is at ``ticks[k] * base`` seconds, white at the ticks `white`."""
    with av.open(str(path), "w", options={"video_track_timescale": str(base.denominator)}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 96, 64, "yuv420p", base
        stream.codec_context.time_base, stream.codec_context.thread_count = base, 1
        stream.options = {"bf": "0", "crf": "18"}
        for tick in ticks:
            picture = np.full((64, 96, 3), 255 if tick in white else 60, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = tick, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("steps", [(2, 3, 4), (1, 2, 5), (2, 4, 4)])
def test_sound_is_in_step_with_a_variable_rate(decoder, tmp_path, steps):
    """Pictures on a grid of 60 a second: every picture stays at its time."""
    ticks, now = [], 0
    while now < 360:
        ticks.append(now)
        now += steps[now // 60 % len(steps)]
    flashes = sorted({min(ticks, key=lambda tick, onset=onset: abs(tick - 60 * onset)) for onset in ONSETS})
    silent = uneven(tmp_path / "silent.mp4", ticks, flashes, Fraction(1, 60))
    write_wav(tmp_path / "a.wav", with_clicks(np.zeros(6 * RATE), np.array(flashes) / 60, RATE), RATE)
    source = tmp_path / "vfr.mp4"
    ffmpeg(["-i", str(silent), "-i", str(tmp_path / "a.wav"), "-c:v", "copy", "-c:a", "aac", str(source)])
    task = task_of(source, 0.2, 5.9, decoder)
    assert task.info.variable_rate
    result = cut_clip(decoder, task, tmp_path / "clip.mp4", EncodeConfig())
    assert result.fps == (30.0 if steps == (2, 4, 4) else 60.0)
    found = offsets_ms(decoder, tmp_path / "clip.mp4")
    assert len(found) >= 5
    assert np.abs(found).max() < 2.0
    cut_clip(decoder, task, tmp_path / "slow.mp4", EncodeConfig(fps=25.0))
    assert abs(offsets_ms(decoder, tmp_path / "slow.mp4").mean()) < 10.0


# --- pictures --------------------------------------------------------------------------------


def numbers_in(frames):
    """Which picture of `grey` each frame shows."""
    halves = np.stack([frames[:, :, :40].mean(axis=(1, 2, 3)), frames[:, :, 56:].mean(axis=(1, 2, 3))])
    tens, units = np.round((halves[0] - 30) / 15), np.round((halves[1] - 30) / 10)
    return (15 * tens + units).astype(int).tolist()


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """150 pictures at 25 a second whose brightness tells them apart."""
    path = tmp_path_factory.mktemp("numbered") / "n.mp4"
    return write_video(path, (grey(k) for k in range(150)), fps=25, crf=1)


@pytest.mark.parametrize(
    ("start", "end", "first", "count"),
    [(0.0, 6.0, 0, 150), (1.0, 3.0, 25, 50), (1.001, 3.0, 26, 49), (0.9999999, 2.0, 25, 25), (5.5, 6.5, 138, 12 + 13)],
)
def test_the_pictures_of_the_span_and_no_others(decoder, numbered, tmp_path, start, end, first, count):
    result = cut_clip(decoder, task_of(numbered, start, end), tmp_path / "clip.mp4", EncodeConfig(crf=1))
    frames, times = read(decoder, tmp_path / "clip.mp4")
    assert len(frames) == result.n_frames == count
    assert numbers_in(frames) == [min(first + k, 149) for k in range(count)]
    assert times == pytest.approx(np.arange(count) / 25)
    assert result.start_s == pytest.approx(first / 25)
    assert (result.fps, result.audio_sr, result.duration_s) == (25.0, 0, count / 25)
    assert result.end_s == pytest.approx(result.start_s + count / 25)


def test_another_rate_repeats_and_leaves_out(decoder, numbered, tmp_path):
    for fps in (50.0, 12.5):
        result = cut_clip(decoder, task_of(numbered, 2.0, 4.0), tmp_path / "clip.mp4", EncodeConfig(fps=fps, crf=1))
        assert (result.fps, result.n_frames) == (fps, round(2 * fps))
        shown = numbers_in(read(decoder, tmp_path / "clip.mp4")[0])
        assert shown == [50 + int(k * 25 / fps) for k in range(len(shown))]


def test_a_source_that_ends_long_before_the_span(decoder, numbered, tmp_path):
    with pytest.raises(MediaError, match="truncated file"):
        cut_clip(decoder, task_of(numbered, 4.0, 8.0), tmp_path / "clip.mp4", EncodeConfig())
    with pytest.raises(MediaError, match="no frames"):
        cut_clip(decoder, task_of(numbered, 7.0, 9.0), tmp_path / "clip.mp4", EncodeConfig())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("start", "end"), [(1.0, None), (2.0, 1.0), (1.0, 1.0)])
def test_a_span_that_is_none(decoder, numbered, tmp_path, start, end):
    with pytest.raises(ValueError, match="no span"):
        cut_clip(decoder, task_of(numbered, start, end), tmp_path / "clip.mp4", EncodeConfig())


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [((97, 65), None, (96, 64)), ((128, 96), 48, (64, 48)), ((96, 128), 48, (48, 64)), ((64, 64), 128, (64, 64)),
     ((160, 90), 32, (56, 32)), ((99, 66), 44, (66, 44))],
)  # fmt: skip
def test_sizes(decoder, tmp_path, size, short_side, expected):
    pictures = (grey(k, *size) for k in range(30))
    source = encode(tmp_path / "a.mkv", pictures, Fraction(25), None, Container(video=("-c:v", "ffv1")))
    result = cut_clip(decoder, task_of(source, 0.0, 1.0), tmp_path / "clip.mp4", EncodeConfig(short_side=short_side))
    assert (result.width, result.height) == expected
    info = decoder.probe(tmp_path / "clip.mp4")
    assert (info.width, info.height) == expected


def test_max_side():
    assert max_side(1920, 1080, None) is None
    assert max_side(1920, 1080, 1080) is None
    assert max_side(1920, 1080, 512) == 910
    assert max_side(1080, 1920, 512) == 910


def test_output_rate():
    def rate(wanted=None, **known):
        return output_rate(dataclasses.replace(INFO, **known), wanted)

    assert rate() == 30.0
    assert rate(fps=29.97) == 30000 / 1001
    assert rate(fps=29.985) == 30000 / 1001
    assert rate(fps=30.05) == 30.05
    assert rate(25.0) == 25.0
    assert rate(23.976) == 24000 / 1001
    assert rate(fps=22.0, variable_rate=True, steady_fps=30.3) == 30.0
    assert rate(fps=18.3, variable_rate=True, steady_fps=17.2) == 17.0
    assert rate(fps=18.3, variable_rate=True) == 18.0
    assert rate(fps=float("nan"), steady_fps=25.0) == 25.0
    with pytest.raises(MediaError, match="no frame rate"):
        rate(fps=float("nan"))


def test_output_rate_of_the_pictures_of_a_span():
    def rate(times, **known):
        return output_rate(dataclasses.replace(INFO, **known), None, times)

    grid = np.arange(240) / 30
    assert rate(grid, fps=24.4004) == 30.0
    assert rate(grid[::2], fps=24.4004) == 15.0
    assert rate(np.round(np.arange(240) * 1001 / 30, 0) / 1000, fps=25.0) == 30000 / 1001
    assert rate(np.delete(grid, [7, 90, 91]), fps=29.5) == 30.0
    assert rate(grid[:7], fps=24.4004) == 24.4004
    assert rate(np.arange(200) / 30.05, fps=30.05) == 30.05
    assert rate(grid, fps=float("nan")) == 30.0
    assert rate(np.arange(200) / 1000, fps=25.0) == 240.0
    assert output_rate(INFO, 12.5, grid) == 12.5


def test_a_source_that_changes_its_rate_late(decoder, tmp_path):
    """More pictures than are looked at first, then every second one."""
    ticks = [*range(600), *range(600, 900, 2)]
    source = uneven(tmp_path / "changes.mp4", ticks, (), Fraction(1, 30))
    info = decoder.probe(source)
    assert not info.variable_rate
    assert info.fps < 27
    for start, end, fps, count in ((2.0, 7.0, 30.0, 150), (22.0, 28.0, 15.0, 90), (18.0, 23.0, 30.0, 150)):
        result = cut_clip(decoder, task_of(source, start, end), tmp_path / "clip.mp4", EncodeConfig())
        assert (result.fps, result.n_frames) == (fps, count)


# --- what the encoder refuses ----------------------------------------------------------------


@pytest.mark.parametrize("sample", [float("nan"), float("inf"), 1e30])
def test_sound_that_cannot_be_encoded_costs_its_clip(decoder, tmp_path, sample):
    import soundfile

    samples = np.zeros(3 * RATE)
    samples[RATE] = sample
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    write_video(tmp_path / "a.mp4", (grey(k) for k in range(75)), fps=25)
    words = ["-i", "a.mp4", "-i", "a.wav", "-c:v", "copy", "-c:a", "copy", "both.mkv"]
    ffmpeg([str(tmp_path / word) if "." in word else word for word in words])
    with pytest.raises(MediaError) as caught:
        cut_clip(decoder, task_of(tmp_path / "both.mkv", 0.0, 2.5), tmp_path / "clip.mp4", EncodeConfig())
    assert caught.value.reason == "cannot be encoded"
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize(("size", "short_side"), [((16400, 32), None), ((18000, 64), 60), ((1, 64), None)])
def test_sides_that_cannot_be_encoded(decoder, tmp_path, size, short_side):
    pictures = (np.zeros((size[1], size[0], 3), np.uint8) for _ in range(5))
    source = encode(tmp_path / "a.mkv", pictures, Fraction(5), None, Container(video=("-c:v", "png")))
    with pytest.raises(MediaError) as caught:
        cut_clip(decoder, task_of(source, 0.0, 1.0), tmp_path / "clip.mp4", EncodeConfig(short_side=short_side))
    assert caught.value.reason == "cannot be encoded"


def test_an_encoder_that_writes_nothing_at_all_is_no_fault_of_the_clip(decoder, numbered, tmp_path, monkeypatch):
    """Settings that ffmpeg does not know, an ffmpeg without x264: an error of the run."""
    settings = EncodeConfig()
    object.__setattr__(settings, "preset", "no-such-preset")
    with pytest.raises(UserError, match="could not be written"):
        cut_clip(decoder, task_of(numbered, 0.0, 1.0), tmp_path / "clip.mp4", settings)
    from macebench.media import writing

    monkeypatch.setattr(writing, "_encoding", lambda *_: ["-c:v", "no_such_encoder"])
    with pytest.raises(UserError, match="could not be written"):
        cut_clip(decoder, task_of(numbered, 0.0, 1.0), tmp_path / "clip.mp4", EncodeConfig())


def test_an_encoder_that_is_killed_may_do_better_the_next_time(decoder, numbered, tmp_path, monkeypatch):
    from macebench.curation import cut
    from macebench.curation.observe import PASSING

    def killed(*_, **__):
        raise EncoderError("killed", ended=True)

    monkeypatch.setattr(cut, "write_video", killed)
    with pytest.raises(MediaError) as caught:
        cut_clip(decoder, task_of(numbered, 0.0, 1.0), tmp_path / "clip.mp4", EncodeConfig())
    assert caught.value.reason in PASSING


# --- sound -----------------------------------------------------------------------------------


def sounding(path, seconds, sound, *, delay=0.0):
    container = Container(sound_delay_s=delay, audio=("-c:a", "pcm_s16le"))
    return encode(path, (grey(k) for k in range(round(25 * seconds))), Fraction(25), sound, container)


def ramp(seconds):
    """Two channels of smooth noise that never repeat."""
    rng = np.random.default_rng(1)
    noise = np.cumsum(rng.normal(size=(round(seconds * RATE), 2)), axis=0)
    smooth = noise - np.apply_along_axis(lambda v: np.convolve(v, np.ones(2001) / 2001, "same"), 0, noise)
    return (0.3 * smooth / np.abs(smooth).max()).astype(np.float32)


def heard(decoder, path):
    sound = decoder.audio(path, RATE, channels=2)
    return sound.samples, sound.start_s


def error_of(samples, expected):
    """Root mean square of the difference as a share of the signal's."""
    n = min(len(samples), len(expected))
    return float(np.sqrt(np.mean((samples[:n] - expected[:n]) ** 2) / np.mean(expected[:n] ** 2)))


def test_samples_are_those_of_the_span(decoder, tmp_path):
    samples = ramp(4)
    source = sounding(tmp_path / "a.mov", 4, (samples, RATE))
    result = cut_clip(decoder, task_of(source, 1.23, 3.2), tmp_path / "clip.mp4", EncodeConfig())
    found, start_s = heard(decoder, tmp_path / "clip.mp4")
    found, first = found[: round(result.duration_s * RATE)], round(result.start_s * RATE)
    assert result.start_s == pytest.approx(1.24)
    assert start_s == pytest.approx(0.0, abs=1e-4)
    assert error_of(found, samples[first : first + len(found)]) < 0.1
    assert error_of(found, samples[first + 8 : first + 8 + len(found)]) > 0.2  # 0.2 ms are seen
    assert result.audio_sr == RATE
    assert result.sound_share == 1.0


def test_late_and_short_sound_is_padded_with_silence(decoder, tmp_path):
    samples = ramp(2)
    source = sounding(tmp_path / "a.mov", 5, (samples, RATE), delay=1.0)
    result = cut_clip(decoder, task_of(source, 0.4, 4.4), tmp_path / "clip.mp4", EncodeConfig())
    found, start_s = heard(decoder, tmp_path / "clip.mp4")
    late = round((1.0 - result.start_s - start_s) * RATE)
    assert np.abs(found[: late - 2000]).max() < 0.01
    assert error_of(found[late : late + 2 * RATE], samples) < 0.1
    assert np.abs(found[late + 2 * RATE + 2000 :]).max() < 0.01
    assert len(found) / RATE == pytest.approx(4.0, abs=0.03)
    assert result.sound_share == pytest.approx(0.5, abs=0.01)
    before = cut_clip(decoder, task_of(source, 3.4, 4.4), tmp_path / "clip.mp4", EncodeConfig())
    assert (before.sound_share, before.audio_sr) == (0.0, RATE)
    assert np.abs(heard(decoder, tmp_path / "clip.mp4")[0]).max() < 1e-3


def test_channels_and_sample_rate(decoder, tmp_path):
    source = sounding(tmp_path / "a.mov", 3, (ramp(3), RATE))
    for channels, rate in ((2, 44100), (1, 22050), (1, 48000)):
        settings = EncodeConfig(audio_channels=channels, audio_sample_rate=rate)
        result = cut_clip(decoder, task_of(source, 0.5, 2.5), tmp_path / "clip.mp4", settings)
        with av.open(str(tmp_path / "clip.mp4")) as container:
            stream = container.streams.audio[0]
            assert (stream.codec_context.channels, stream.codec_context.sample_rate) == (channels, rate)
        assert result.audio_sr == rate


def test_a_source_without_sound_gives_a_clip_without_sound(decoder, numbered, tmp_path):
    result = cut_clip(decoder, task_of(numbered, 0.0, 2.0), tmp_path / "clip.mp4", EncodeConfig())
    assert not decoder.probe(tmp_path / "clip.mp4").has_audio
    assert (result.audio_sr, result.sound_share) == (0, 0.0)


# --- files -----------------------------------------------------------------------------------


def test_the_same_bytes_every_time(tmp_path):
    source = encode(
        tmp_path / "a.mp4", with_flashes(Fraction(30), 6), Fraction(30), clicks(Fraction(30), 6), Container()
    )
    found = []
    for name in ("one", "two"):
        with Decoder() as own:
            if name == "two":
                list(own.frames(source))
            found.append(cut_clip(own, task_of(source, 0.7, 5.1), tmp_path / f"{name}.mp4", EncodeConfig()))
    assert found[0] == found[1]
    data = (tmp_path / "one.mp4").read_bytes()
    assert (tmp_path / "two.mp4").read_bytes() == data
    assert found[0].sha256 == hashlib.sha256(data).hexdigest()


def test_the_clip_says_where_it_is_from_and_how_it_is_coded(decoder, numbered, tmp_path):
    task = task_of(numbered, 1.0, 3.5)
    cut_clip(decoder, task, tmp_path / "clip.mp4", EncodeConfig())
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.metadata["comment"] == f"source sha256 {task.source_id}, from 1.000 s to 3.500 s"
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.codec_context.colorspace == 6  # BT.601
        assert stream.average_rate == 25


CUT_AND_DIE = """
import itertools, os, sys
from pathlib import Path
import macebench.curation.cut as cut
from macebench.curation.stage import Task
from macebench.media import Decoder
whole = cut._Shot.pictures
def dying(self):
    yield from itertools.islice(whole(self), 20)
    os.kill(os.getpid(), 9)
cut._Shot.pictures = dying
with Decoder() as decoder:
    cut.cut_clip(decoder, Task(Path(sys.argv[1]), "0" * 64, 0.0, 5.0), Path(sys.argv[2]), cut.EncodeConfig())
"""


def test_a_crash_leaves_no_half_file_under_the_name(numbered, tmp_path):
    target = tmp_path / "clip.mp4"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CUT_AND_DIE), str(numbered), str(target)], timeout=60, check=False
    )
    assert done.returncode == -9
    assert not target.exists()
    target.write_bytes(b"before")
    with Decoder() as decoder:
        with pytest.raises(MediaError):
            cut_clip(decoder, task_of(numbered, 4.0, 9.0), target, EncodeConfig())
        assert target.read_bytes() == b"before"
        cut_clip(decoder, task_of(numbered, 4.0, 5.0), target, EncodeConfig())
    assert target.stat().st_size > 500


def test_a_folder_that_cannot_be_written_to(decoder, numbered, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((UserError, OSError)):
        cut_clip(decoder, task_of(numbered, 0.0, 1.0), tmp_path / "file" / "clip.mp4", EncodeConfig())
    assert os.listdir(tmp_path) == ["file"]


def test_a_late_span_decodes_little(decoder, tmp_path):
    source = write_video(tmp_path / "long.mp4", (grey(k) for k in range(2500)), fps=25)
    result = cut_clip(decoder, task_of(source, 93.0, 98.0), tmp_path / "clip.mp4", EncodeConfig())
    assert isinstance(result, CutResult)
    assert result.n_frames == 125
    assert decoder.counts.decoded < 125 + 251


@pytest.mark.parametrize(
    "wrong",
    [{"fps": 0.5}, {"fps": 500.0}, {"fps": float("nan")}, {"short_side": 15}, {"short_side": 33}, {"crf": -1},
     {"crf": 52}, {"preset": "best"}, {"audio_sample_rate": 11}, {"audio_channels": 3}],
)  # fmt: skip
def test_settings_out_of_range(wrong):
    with pytest.raises(UserError, match=rf"encode\.{next(iter(wrong))}"):
        EncodeConfig(**wrong)
