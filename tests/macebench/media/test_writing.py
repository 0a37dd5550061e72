"""Videos and sound files that are written: content, bytes, and what is left after a failure."""

import subprocess
import sys
import wave

import av
import numpy as np
import pytest

from macebench.errors import UserError
from macebench.media import file_sha256, write_video, write_wav


def moving(count, size=(96, 128)):
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    for index in range(count):
        wave_ = 127 + 100 * np.sin(x / 20 + index / 5) * np.cos(y / 15)
        yield np.stack([wave_, wave_[::-1], 255 - wave_], axis=2).astype(np.uint8)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_round_trip(decoder, make, suffix):
    path = make.path(f"a.{suffix}")
    assert write_video(path, moving(37), fps=30) == path
    frames = np.concatenate([batch.frames for batch in decoder.frames(path)])
    source = np.stack(list(moving(37)))
    assert frames.shape == source.shape
    assert min(psnr(a, b) for a, b in zip(frames, source, strict=True)) > 34
    # swscale's fast conversion to RGB, which OpenCV uses too, cuts instead of rounding: about one level.
    assert np.abs(frames.mean(axis=(0, 1, 2)) - source.mean(axis=(0, 1, 2))).max() < 2
    info = decoder.probe(path)
    assert (info.width, info.height, info.codec, info.has_audio) == (128, 96, "h264", False)
    assert info.fps == pytest.approx(30)
    assert info.duration_s == pytest.approx(37 / 30, abs=2e-3)


@pytest.mark.parametrize(("fps", "expected"), [(29.97, 30000 / 1001), (23.976, 24000 / 1001), (12.5, 12.5),
                                               (60, 60), (59.94, 60000 / 1001), (1, 1), (29.5, 29.5)])  # fmt: skip
def test_rates(decoder, make, fps, expected):
    path = write_video(make.path("a.mp4"), moving(12, (16, 16)), fps=fps)
    times = np.concatenate([batch.times_s for batch in decoder.frames(path)])
    assert np.allclose(times, np.arange(12) / expected, atol=1e-6)


def test_equal_input_gives_equal_bytes(make):
    sound = (np.random.default_rng(0).uniform(-1, 1, (8000, 2)), 8000)
    for name in ("a.mp4", "b.mp4"):
        write_video(make.path(name), moving(20), fps=25, audio=sound, metadata={"comment": "generated"})
    assert file_sha256(make.path("a.mp4")) == file_sha256(make.path("b.mp4"))
    assert b"Lavf" not in make.path("a.mp4").read_bytes()


def test_tags_and_streams(make):
    path = make.path("a.mp4")
    sound = (np.zeros(4800, np.int16), 48000)
    write_video(path, moving(5), fps=10, audio=sound, metadata={"comment": "made by a=b", "macebench": "yes"})
    with av.open(str(path)) as container:
        assert container.metadata["comment"] == "made by a=b"
        assert container.metadata["macebench"] == "yes"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.audio[0].codec_context.name == "aac"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_quality_follows_crf(make):
    small = write_video(make.path("s.mp4"), moving(10), fps=10, crf=40).stat().st_size
    assert small < write_video(make.path("l.mp4"), moving(10), fps=10, crf=10).stat().st_size


def test_frames_are_taken_one_by_one(make):
    """A video longer than memory can be written: the generator is never ahead of the pipe by much."""
    alive, most = 0, 0

    class Picture(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def pictures():
        nonlocal alive, most
        for _ in range(40):
            picture = np.zeros((64, 64, 3), np.uint8).view(Picture)
            alive += 1
            most = max(most, alive)
            yield picture
            del picture

    write_video(make.path("a.mp4"), pictures(), fps=10)
    assert most < 40


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no frames"),
        ([np.zeros((33, 32, 3), np.uint8)], "32x33"),
        ([np.zeros((32, 33, 3), np.uint8)], "even"),
        ([np.zeros((32, 32), np.uint8)], "shape"),
        ([np.zeros((32, 32, 3), np.float32)], "float32"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 34, 3), np.uint8)], "frame 1"),
    ],
)
def test_frames_that_cannot_be_written(make, frames, message):
    with pytest.raises(UserError, match=message):
        write_video(make.path("a.mp4"), iter(frames), fps=10)
    assert list(make.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": 0}, "frames a second"),
        ({"fps": float("nan")}, "frames a second"),
        ({"preset": "nonsense"}, "ffmpeg ended with"),
        ({"audio": (np.array([np.nan]), 8000)}, "no numbers"),
        ({"audio": (np.zeros(10), 0)}, "0 Hz"),
    ],
)
def test_settings_that_cannot_be_written(make, change, message):
    with pytest.raises(UserError, match=message):
        write_video(make.path("a.mp4"), moving(3), **({"fps": 10} | change))
    assert list(make.folder.iterdir()) == []


def test_suffix_that_cannot_be_written(make):
    with pytest.raises(UserError, match=r"\.avi"):
        write_video(make.path("a.avi"), moving(3), fps=10)


def test_an_error_of_the_frames_comes_through_and_leaves_the_old_file(make):
    path = write_video(make.path("a.mp4"), moving(3), fps=10)
    before = path.read_bytes()

    def broken():
        yield from moving(3)
        raise ZeroDivisionError("model failed")

    with pytest.raises(ZeroDivisionError, match="model failed"):
        write_video(path, broken(), fps=10)
    assert path.read_bytes() == before
    assert [entry.name for entry in make.folder.iterdir()] == ["a.mp4"]


_FULL = """
import resource, sys
import numpy as np
from macebench.errors import UserError
from macebench.media import write_video
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
rng = np.random.default_rng(0)
frames = (rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(60))
try:
    write_video(sys.argv[1], frames, fps=10)
except UserError as error:
    sys.exit("UserError " + error.hint)
"""


def test_no_room_for_the_file(make):
    """A limit on the file size stands in for a full disk."""
    command = [sys.executable, "-c", _FULL, str(make.path("a.mp4"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("UserError Free some space"), done.stderr
    assert list(make.folder.iterdir()) == []


def test_wav(make):
    path = write_wav(make.path("a.wav"), [0.0, 0.5, -0.5, 1.0, -1.0, 2.0], 8000)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        samples = np.frombuffer(file.readframes(6), "<i2")
    assert samples.tolist() == [0, 16384, -16384, 32767, -32768, 32767]
    write_wav(make.path("b.wav"), samples, 8000)
    assert file_sha256(make.path("b.wav")) == file_sha256(path)


def test_wav_in_stereo(make):
    path = write_wav(make.path("a.wav"), np.array([[0.25, -0.25]] * 4), 8000)
    with wave.open(str(path)) as file:
        assert file.getnchannels() == 2
        assert np.frombuffer(file.readframes(4), "<i2").tolist() == [8192, -8192] * 4


def test_wav_that_cannot_be_written(make):
    for samples, rate in (([np.inf], 8000), (np.zeros((2, 2, 2)), 8000), ([0.0], 0)):
        with pytest.raises(UserError):
            write_wav(make.path("a.wav"), samples, rate)
    assert list(make.folder.iterdir()) == []


def test_colour_tags_change_what_the_file_says_and_no_pixel(decoder, tmp_path):
    rng = np.random.default_rng(0)
    frames = [np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(5)]
    plain = write_video(tmp_path / "plain.mp4", frames, fps=25)
    tagged = write_video(tmp_path / "tagged.mp4", frames, fps=25, colour_tags=True)
    pixels = [np.concatenate([batch.frames for batch in decoder.frames(path)]) for path in (plain, tagged)]
    assert np.array_equal(*pixels)
    spaces = []
    for path in (plain, tagged):
        with av.open(str(path)) as container:
            spaces.append(container.streams.video[0].codec_context.colorspace)
    assert spaces == [2, 6]  # unspecified, and SMPTE 170M, which is BT.601
