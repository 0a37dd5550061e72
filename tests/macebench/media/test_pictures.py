"""Pictures, timestamps and geometry of good files, through the decoder process."""

import json
import re
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from macebench.media import Decoder, FrameCounts, Limits

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
GOLDEN = SHARED / "golden" / "vbench"
CLIPS = sorted((GOLDEN / "mp4").glob("*.mp4"))


def read(decoder, path, **how):
    batches = list(decoder.frames(path, **how))
    return np.concatenate([b.frames for b in batches]), np.concatenate([b.times_s for b in batches])


def read_with_opencv(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while (answer := capture.read())[0]:
        frames.append(answer[1][..., ::-1])
    capture.release()
    return np.stack(frames)


@pytest.mark.skipif(not CLIPS, reason="shared/golden/vbench is not beside the checkout")
@pytest.mark.parametrize("path", CLIPS, ids=[path.stem for path in CLIPS])
def test_golden_clips_are_what_opencv_decodes(decoder, path):
    frames, times = read(decoder, path)
    assert np.array_equal(frames, read_with_opencv(path))
    assert np.allclose(times, np.arange(len(frames)) / 16, atol=1e-3)
    shape = json.loads((GOLDEN / "clips.json").read_text())[path.stem]["shape"]
    assert len(frames) == shape[0]
    assert frames.shape[1:3] == (shape[1] // 2 * 2, shape[2] // 2 * 2)


@pytest.mark.skipif(not CLIPS, reason="shared/golden/vbench is not beside the checkout")
def test_golden_clips_are_near_their_sources(decoder):
    sources = np.load(GOLDEN / "clips.npz")
    for path in CLIPS:
        frames, _ = read(decoder, path)
        source = sources[path.stem][:, : frames.shape[1], : frames.shape[2]]
        error = np.mean((frames.astype(float) - source) ** 2)
        assert 10 * np.log10(255**2 / max(error, 1e-9)) > 20, path.stem


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plain.mp4", []),
        ("hd.mp4", ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]),
        ("full.mkv", ["-pix_fmt", "yuvj420p", "-color_range", "pc"]),
        ("fat.mov", ["-pix_fmt", "yuv444p"]),
        ("web.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime"]),
    ],
)
def test_colours_and_frames_are_those_of_opencv(decoder, make, name, words):
    path = make.pattern(name, *words)
    frames, times = read(decoder, path)
    assert np.array_equal(frames, read_with_opencv(path))
    assert np.allclose(times, np.arange(10) / 10, atol=1e-6)
    info = decoder.probe(path)
    assert (info.width, info.height, info.fps, info.container) == (64, 48, 10.0, path.suffix[1:])
    assert info.duration_s == pytest.approx(1.0, abs=0.01)
    assert not info.has_audio
    assert info.variable_rate is False


def test_batch_size_changes_nothing(decoder, make):
    path = make.pattern("a.mp4", seconds=2.5)
    whole, times = read(decoder, path, batch=100)
    for batch in (1, 7, 16):
        parts = list(decoder.frames(path, batch=batch))
        assert [len(part) for part in parts[:-1]] == [batch] * (len(parts) - 1)
        assert np.array_equal(np.concatenate([part.frames for part in parts]), whole)
        assert np.array_equal(np.concatenate([part.times_s for part in parts]), times)


def test_batches_stay_as_they_were_when_later_ones_come(decoder, make):
    path = make.pattern("a.mp4", seconds=5)
    batches = list(decoder.frames(path, batch=2))
    again = list(decoder.frames(path, batch=50))
    assert np.array_equal(np.concatenate([b.frames for b in batches]), again[0].frames)
    batches[0].frames[:] = 0


def test_variable_rate_timestamps(decoder, make):
    ticks = [500, 533, 566, 700, 701, 1200, 1233, 3000]
    for name in ("v.mkv", "v.mp4"):
        path = make.timed(name, ticks)
        frames, times = read(decoder, path)
        assert np.allclose(times, (np.array(ticks) - ticks[0]) / 1000, atol=1e-3), name
        assert np.allclose(frames.mean(axis=(1, 2, 3)), 10 + 8 * np.arange(8), atol=3)
        assert decoder.probe(path).variable_rate is True


def test_constant_rate_with_rounded_ticks_is_constant(decoder, make):
    path = make.timed("c.mkv", [round(index * 1000 / 30) for index in range(20)])
    assert decoder.probe(path).variable_rate is False


def test_two_pictures_have_no_rate_to_vary(decoder, make):
    assert decoder.probe(make.timed("two.mp4", [0, 100])).variable_rate is None


@pytest.mark.parametrize(("max_fps", "step"), [(30, 1), (15, 2), (10, 3), (20, 2), (60, 1), (1, 27)])
def test_max_fps_keeps_pictures_by_their_distance(decoder, make, max_fps, step):
    path = make.pattern("fast.mp4", seconds=2, fps=30)
    _, everything = read(decoder, path)
    _, times = read(decoder, path, max_fps=max_fps)
    assert np.array_equal(times, everything[::step])
    assert decoder.counts == FrameCounts(60, len(times), 0, 60 - len(times))


def test_frames_that_do_not_come_later_are_dropped_and_counted(decoder, make):
    path = make.timed("v.mkv", [0, 100, 200, 300, 400, 500, 600, 700])
    data = bytearray(path.read_bytes())
    # A simple block is A3, a size, track 81 and a signed 16-bit time: move the fifth to that of the third.
    places = [i for i in range(len(data)) if data[i] == 0x81 and data[i + 1 : i + 3] == (400).to_bytes(2, "big")]
    assert len(places) == 1
    data[places[0] + 1 : places[0] + 3] = (200).to_bytes(2, "big")
    path.write_bytes(data)
    _, times = read(decoder, path)
    assert np.all(np.diff(times) > 0)
    assert decoder.counts is not None
    assert decoder.counts.out_of_order == 1
    assert decoder.counts.delivered == len(times) == decoder.counts.decoded - 1


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_applied(decoder, make, degrees):
    plain = make.pattern("plain.mp4")
    make.ffmpeg("-display_rotation", str(degrees), "-i", "plain.mp4", "-c", "copy", "turned.mp4")
    path = make.path("turned.mp4")
    frames, _ = read(decoder, path)
    expected, _ = read(decoder, plain)
    assert np.array_equal(frames, np.rot90(expected, degrees // 90, axes=(1, 2)))
    info = decoder.probe(path)
    assert (info.height, info.width) == frames.shape[1:3]
    assert info.rotation_deg == degrees
    assert np.array_equal(frames, read_with_opencv(path))


def test_mirrored_pictures_are_mirrored(decoder, make):
    plain = make.pattern("plain.mp4")
    make.ffmpeg("-display_hflip", "-i", "plain.mp4", "-c", "copy", "mirror.mp4")
    mirrored, _ = read(decoder, make.path("mirror.mp4"))
    expected, _ = read(decoder, plain)
    assert np.array_equal(mirrored, expected[:, :, ::-1])


def test_pixels_that_are_not_square_are_scaled(decoder, make):
    grey = "format=gray,format=yuv420p"
    path = make.pattern("wide.mp4", "-vf", f"{grey},setsar=4/3", "-crf", "4")
    square, _ = read(decoder, make.pattern("square.mp4", "-vf", grey, "-crf", "4"))
    frames, _ = read(decoder, path)
    info = decoder.probe(path)
    assert frames.shape[1:3] == (48, 85) == (info.height, info.width)
    expected = np.stack([cv2.resize(f, (85, 48), interpolation=cv2.INTER_CUBIC) for f in square])
    assert np.abs(frames.astype(float) - expected).mean() < 1.5


def test_turned_and_not_square(decoder, make):
    make.pattern("a.mp4", "-vf", "setsar=2/1")
    make.ffmpeg("-display_rotation", "90", "-i", "a.mp4", "-c", "copy", "b.mp4")
    info = decoder.probe(make.path("b.mp4"))
    assert (info.width, info.height) == (48, 128)
    assert read(decoder, make.path("b.mp4"))[0].shape[1:3] == (128, 48)


def test_one_pixel(decoder, make):
    source = "color=c=red:s=1x1:d=0.3:r=10"
    make.ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv444p", "one.mp4")
    frames, _ = read(decoder, make.path("one.mp4"))
    assert frames.shape == (3, 1, 1, 3)
    assert np.all(frames[..., 0] > 240)
    assert np.all(frames[..., 1:] < 16)


def test_one_frame(decoder, make):
    path = make.timed("single.mp4", [0])
    frames, times = read(decoder, path)
    assert len(frames) == 1
    assert times.tolist() == [0.0]


def test_the_suffix_decides_nothing(decoder, make):
    path = make.pattern("clip.mp4")
    renamed = path.rename(make.path("clip.txt"))
    assert decoder.probe(renamed).container == "mp4"
    assert len(read(decoder, renamed)[0]) == 10


def test_names_that_look_like_something_else(decoder, make, monkeypatch):
    path = make.pattern("clip.mp4")
    monkeypatch.chdir(make.folder)
    for name in ("-i.mp4", "a b%03d.mp4", "http:x.mp4", "concat:a|b.mp4", "näme\n.mp4"):
        Path(name).write_bytes(path.read_bytes())
        assert decoder.probe(name).n_frames == 10


def test_big_pictures_come_in_smaller_batches(make):
    path = make.pattern("big.mp4", "-preset", "ultrafast", size="3840x2160", seconds=0.7)
    with Decoder() as decoder:
        sizes = [len(batch) for batch in decoder.frames(path)]
    assert sizes == [5, 2]


def test_length_and_rate_of_a_recording_without_an_index(decoder, make):
    path = make.pattern("live.webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-live", "1", seconds=2)
    info = decoder.probe(path)
    assert info.duration_s == pytest.approx(2.0, abs=0.05)
    assert info.fps == pytest.approx(10.0)
    assert info.n_frames is None


def test_a_size_that_changes_is_scaled_to_the_first(decoder, make):
    for name, size in (("a", "64x48"), ("b", "32x32")):
        make.pattern(f"{name}.ts", "-c:v", "libx264", "-bf", "0", size=size, seconds=0.5)
    joined = make.path("ab.ts")
    joined.write_bytes(make.path("a.ts").read_bytes() + make.path("b.ts").read_bytes())
    make.ffmpeg("-i", "ab.ts", "-c", "copy", "-bsf:v", "setts=ts=N*9000", "ab.mkv")
    frames, _ = read(decoder, make.path("ab.mkv"))
    assert frames.shape == (10, 48, 64, 3)


def test_arguments_are_checked_at_once(decoder, make):
    with pytest.raises(ValueError, match="batch"):
        decoder.frames("x.mp4", batch=0)
    with pytest.raises(ValueError, match="max_fps"):
        decoder.frames("x.mp4", max_fps=0)
    with pytest.raises(ValueError, match="memory_mb"):
        Limits(memory_mb=0)
    with pytest.raises(ValueError, match="sample_rate"):
        decoder.audio("x.mp4", 0)


def test_time_base_that_is_no_round_number(decoder, make):
    ticks = [1001 * index for index in range(8)]
    _, times = read(decoder, make.timed("ntsc.mp4", ticks, base=Fraction(1, 30000)))
    assert np.allclose(times, np.arange(8) * 1001 / 30000, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [("64x48", 32, (24, 32)), ("48x64", 32, (32, 24)), ("64x48", 33, (25, 33)), ("64x6", 8, (1, 8))],
)
def test_smaller_pictures_keep_their_shape_and_their_times(make, decoder, size, max_side, expected):
    path = make.pattern("small.mp4", size=size)
    full, times = read(decoder, path)
    small, small_times = read(decoder, path, max_side=max_side)
    assert small.shape == (len(full), *expected, 3)
    assert np.array_equal(small_times, times)


def test_smaller_pictures_are_averages_of_the_large_ones(make, decoder):
    path = make.pattern("area.mp4", "-crf", "1", size="256x192")
    full, _ = read(decoder, path)
    small, _ = read(decoder, path, max_side=32)
    means = full.reshape(len(full), 24, 8, 32, 8, 3).astype(float).mean(axis=(2, 4))
    picked = full[:, 4::8, 4::8].astype(float)
    assert np.abs(small - means).mean() < 3.0 < np.abs(picked - means).mean()


@pytest.mark.parametrize("max_side", [64, 65, 4000])
def test_pictures_are_never_made_larger(make, decoder, max_side):
    path = make.pattern("same.mp4")
    assert np.array_equal(read(decoder, path, max_side=max_side)[0], read(decoder, path)[0])


def test_smaller_pictures_are_square_and_turned(make, decoder):
    wide = make.pattern("wide.mp4", "-vf", "setsar=2/1", size="64x48")
    assert read(decoder, wide, max_side=64)[0].shape[1:] == (24, 64, 3)
    make.ffmpeg("-display_rotation", "90", "-i", "wide.mp4", "-c", "copy", "turned.mp4")
    assert read(decoder, make.path("turned.mp4"), max_side=64)[0].shape[1:] == (64, 24, 3)


def test_a_side_must_have_a_pixel(make, decoder):
    with pytest.raises(ValueError, match="max_side 0"):
        decoder.frames(make.path("any.mp4"), max_side=0)


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25")


def tagged(path, name, text):
    """A copy of a Matroska file whose DURATION tag of the pictures says `text`."""
    data = path.read_bytes()
    found = [m.start() for m in re.finditer(rb"\d\d:\d\d:\d\d\.\d{9}", data)]
    assert found
    for place in found:
        data = data[:place] + text + data[place + len(text) :]
    (path.parent / name).write_bytes(data)
    return path.parent / name


@pytest.mark.parametrize("name", ["late.mkv", "late.webm", "late.mp4"])
def test_the_length_begins_with_the_first_picture(decoder, make, name):
    """Matroska says when the last picture ends, not how long they last."""
    words = H264 if not name.endswith("webm") else ("-c:v", "libvpx", "-deadline", "realtime")
    make.ffmpeg(
        "-itsoffset", "3", "-f", "lavfi", "-i", "testsrc2=s=64x48:d=5:r=25", "-f", "lavfi", "-i", "sine=d=8",
        *words, "-pix_fmt", "yuv420p", name,
    )  # fmt: skip
    assert decoder.probe(make.path(name)).duration_s == pytest.approx(5.0, abs=0.05)


def test_a_lying_length_ends_with_the_last_picture(decoder, make):
    plain = make.pattern("plain.mkv", *H264, seconds=4, fps=25)
    assert decoder.probe(plain).duration_s == pytest.approx(4.0, abs=0.002)
    lying = tagged(plain, "lying.mkv", b"01:00:00.000000000")
    assert decoder.probe(lying).duration_s == pytest.approx(4.0, abs=0.002)
    modest = tagged(plain, "modest.mkv", b"00:00:04.300000000")
    assert decoder.probe(modest).duration_s == pytest.approx(4.3, abs=0.002)


@pytest.mark.parametrize("words", [("-movflags", "+faststart"), ()])
def test_a_file_that_was_cut_off_keeps_the_length_it_had(decoder, make, words):
    suffix = "mp4" if words else "mkv"
    plain = make.pattern(f"plain.{suffix}", *H264, *words, seconds=6, fps=25)
    assert decoder.probe(make.cut(plain, f"cut.{suffix}", 0.6)).duration_s == pytest.approx(6.0, abs=0.05)


@pytest.mark.parametrize(
    "words",
    [("b.mp4", *H264, "-bf", "3"), ("one_key.mp4", "-c:v", "libx264", "-g", "999"), ("b.mkv", *H264, "-bf", "3"),
     ("fragments.mp4", *H264, "-movflags", "frag_keyframe+empty_moov"), ("live.mkv", *H264, "-live", "1"),
     ("late.mkv", *H264, "-output_ts_offset", "3.5"), ("v.webm", "-c:v", "libvpx", "-deadline", "realtime")],
)  # fmt: skip
def test_times_of_a_span_without_decoding(decoder, make, words):
    path = make.pattern(words[0], *words[1:], seconds=8, fps=25)
    whole = np.concatenate([batch.times_s for batch in decoder.frames(path)])
    assert decoder.probe(path).duration_s == pytest.approx(8.0, abs=0.05)
    for start, end in ((0.0, 8.0), (0.5, 1.3), (5.01, 7.0), (7.5, 99.0), (20.0, 30.0)):
        found = decoder.times(path, start_s=start, end_s=end)
        expected = whole[(whole >= start - 1e-6) & (whole < end - 1e-6)]
        assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    with pytest.raises(ValueError, match="no span"):
        decoder.times(path, start_s=2.0, end_s=1.0)
