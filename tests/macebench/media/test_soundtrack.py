"""Sound: samples, rate, channels, and above all its place on the clip's clock."""

from fractions import Fraction

import av
import librosa
import numpy as np
import pytest
import soundfile

from macebench.errors import MediaError
from macebench.media import Decoder, Limits, write_video, write_wav
from macebench.media.soundtrack import _Samples
from macebench.media.wire import SOUND_SLOT_BYTES

RATE = 48000


def beep(seconds, at, rate=RATE, length=0.05):
    """Silence with one beep that starts at `at` seconds."""
    samples = np.zeros(round(seconds * rate))
    start, count = round(at * rate), round(length * rate)
    samples[start : start + count] = 0.8 * np.sin(np.arange(count) * 2 * np.pi * 1000 / rate)
    return samples


def onset_s(sound):
    """Time of the first loud sample on the clip's clock."""
    return sound.start_s + int(np.argmax(np.abs(sound.samples) > 0.2)) / sound.sample_rate


def flash(count, at, size=(48, 64)):
    """Black frames with one white frame."""
    return [np.full((*size, 3), 255 if index == at else 0, np.uint8) for index in range(count)]


def flash_s(decoder, path):
    """Timestamp of the white frame."""
    for batch in decoder.frames(path):
        for frame, time in zip(batch.frames, batch.times_s, strict=True):
            if frame.mean() > 128:
                return float(time)
    raise AssertionError("no flash")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("rate", [22050, 48000])
def test_a_beep_lies_on_its_frame(decoder, make, suffix, rate):
    path = make.path(f"clap.{suffix}")
    write_video(path, flash(50, 30), fps=25, audio=(beep(2.0, 30 / 25), RATE))
    sound = decoder.audio(path, rate)
    assert sound.sample_rate == rate
    assert sound.samples.dtype == np.float32
    assert flash_s(decoder, path) == pytest.approx(1.2, abs=1e-3)
    assert onset_s(sound) == pytest.approx(1.2, abs=0.010)
    assert sound.duration_s == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("name", ["late.mkv", "late.mp4"])
@pytest.mark.parametrize("offset", [0.5, -0.4])
def test_sound_that_starts_later_or_earlier(decoder, make, name, offset):
    write_video(make.path("clap.mp4"), flash(50, 30), fps=25, audio=(beep(2.0, 1.2), RATE))
    make.ffmpeg(
        "-i", "clap.mp4", "-itsoffset", str(offset), "-i", "clap.mp4", "-map", "0:v", "-map", "1:a",
        "-c:v", "copy", "-c:a", "pcm_s16le" if name.endswith("mkv") else "aac", name,
    )  # fmt: skip
    sound = decoder.audio(make.path(name), 16000)
    assert onset_s(sound) == pytest.approx(1.2 + offset, abs=0.010)
    assert flash_s(decoder, make.path(name)) == pytest.approx(1.2, abs=1e-3)
    if offset > 0:
        assert sound.start_s == pytest.approx(offset, abs=0.03)


def test_pictures_that_start_late(decoder, make):
    """The clip's clock starts with its first picture, not with the file."""
    write_video(make.path("clap.mp4"), flash(50, 30), fps=25, audio=(beep(2.0, 1.2), RATE))
    make.ffmpeg("-itsoffset", "0.7", "-i", "clap.mp4", "-i", "clap.mp4", "-map", "0:v", "-map", "1:a",
                "-c:v", "copy", "-c:a", "pcm_s16le", "late.mkv")  # fmt: skip
    sound = decoder.audio(make.path("late.mkv"), 48000)
    assert sound.start_s == pytest.approx(-0.7, abs=0.002)
    assert onset_s(sound) == pytest.approx(0.5, abs=0.010)


def test_a_hole_in_the_sound_stays_a_hole(decoder, make):
    write_wav(make.path("a.wav"), beep(2.0, 0.2) + beep(2.0, 1.5), 48000)
    # Take out the samples from 0.5 s to 1.0 s but leave the timestamps.
    make.ffmpeg("-i", "a.wav", "-af", "aselect='not(between(t,0.5,1.0))'", "-c:a", "pcm_s16le", "hole.mkv")
    samples = decoder.audio(make.path("hole.mkv"), 48000).samples
    loud = np.flatnonzero(np.abs(samples) > 0.2) / 48000
    assert loud[0] == pytest.approx(0.2, abs=0.002)
    assert loud[loud > 1.0][0] == pytest.approx(1.5, abs=0.002)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("rate", "target"), [(44100, 22050), (48000, 15360), (22050, 22050), (16000, 44100)])
def test_a_wav_file_is_what_librosa_loads(decoder, make, channels, rate, target):
    rng = np.random.default_rng(rate + channels)
    path = write_wav(make.path("n.wav"), rng.uniform(-0.9, 0.9, (rate // 2, channels)), rate)
    sound = decoder.audio(path, target)
    expected, _ = librosa.load(path, sr=target)
    assert sound.start_s == 0.0
    assert sound.samples.shape == expected.shape
    assert np.array_equal(sound.samples, expected)


def test_mono_is_the_mean_of_all_channels(decoder, make):
    levels = np.array([0.5, -0.25, 0.125, 0.75, 0.0, 0.25])
    soundfile.write(make.path("six.wav"), np.tile(levels, (1000, 1)), 8000, subtype="FLOAT")
    samples = decoder.audio(make.path("six.wav"), 8000).samples
    assert np.allclose(samples, levels.mean(), atol=1e-7)


def test_more_channels_than_pyav_can_hold(decoder, make):
    soundfile.write(make.path("ten.wav"), np.full((4000, 10), 0.25), 8000)
    assert np.allclose(decoder.audio(make.path("ten.wav"), 8000).samples, 0.25, atol=1e-4)
    make.ffmpeg("-i", "ten.wav", "-c:a", "wavpack", "ten.mkv")
    with pytest.raises(MediaError) as caught:
        decoder.audio(make.path("ten.mkv"), 8000)
    assert (caught.value.reason, caught.value.detail) == ("not a media file", "10 channels")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_sample_formats(decoder, make, subtype):
    wave = 0.5 * np.sin(np.arange(4000) / 20)
    soundfile.write(make.path("f.wav"), wave, 8000, subtype=subtype)
    samples = decoder.audio(make.path("f.wav"), 8000).samples
    assert np.allclose(samples, wave, atol=1 / 100 if subtype == "PCM_U8" else 1e-4)


@pytest.mark.parametrize("name", ["s.flac", "s.ogg", "s.mp3", "s.m4a", "s.webm", "s.mkv"])
def test_compressed_sound(decoder, make, name):
    write_wav(make.path("s.wav"), beep(2.0, 0.7), RATE)
    words = {"s.ogg": ["-c:a", "libvorbis"], "s.webm": ["-c:a", "libopus"], "s.mkv": ["-c:a", "flac"]}
    make.ffmpeg("-i", "s.wav", *words.get(name, []), name)
    sound = decoder.audio(make.path(name), RATE)
    assert onset_s(sound) == pytest.approx(0.7, abs=0.010)
    assert sound.duration_s == pytest.approx(2.0, abs=0.06)


def test_silence_is_returned_as_it_is(decoder, make):
    path = write_wav(make.path("quiet.wav"), np.zeros(8000), 8000)
    sound = decoder.audio(path, 8000)
    assert len(sound.samples) == 8000
    assert not sound.samples.any()


def test_no_sound(decoder, make):
    for path in (make.pattern("mute.mp4"), write_wav(make.path("none.wav"), np.zeros(0), 8000)):
        with pytest.raises(MediaError) as caught:
            decoder.audio(path, 8000)
        assert caught.value.reason == "no sound"


@pytest.mark.parametrize("name", ["cut.wav", "cut.flac", "cut.mp4"])
def test_cut_sound(decoder, make, name):
    write_wav(make.path("s.wav"), np.random.default_rng(0).uniform(-0.5, 0.5, 96000), 48000)
    make.ffmpeg("-i", "s.wav", "-movflags", "+faststart", f"whole-{name}")
    path = make.cut(make.path(f"whole-{name}"), name, 0.6)
    assert len(decoder.audio(make.path(f"whole-{name}"), 48000).samples) >= 96000
    with pytest.raises(MediaError) as caught:
        decoder.audio(path, 48000)
    assert caught.value.reason == "truncated file"


def test_cut_mp3_is_shorter_and_no_error(decoder, make):
    write_wav(make.path("s.wav"), np.random.default_rng(0).uniform(-0.5, 0.5, 96000), 48000)
    make.ffmpeg("-i", "s.wav", "-write_xing", "0", "whole.mp3")
    path = make.cut(make.path("whole.mp3"), "cut.mp3", 0.6)
    assert 40000 < len(decoder.audio(path, 48000).samples) < 70000


def test_too_long(make):
    path = write_wav(make.path("long.wav"), np.zeros(8000 * 3), 8000)
    with Decoder(Limits(max_duration_s=2)) as strict, pytest.raises(MediaError) as caught:
        strict.audio(path, 8000)
    assert caught.value.reason == "too long"


def test_a_hostile_hole_is_too_long(make):
    """A jump in the timestamps must not make hours of silence."""
    write_wav(make.path("a.wav"), beep(1.0, 0.2), 48000)
    make.ffmpeg("-i", "a.wav", "-af", "asetpts='PTS+gt(T,0.5)*36000/TB'", "-c:a", "pcm_s16le", "jump.mkv")
    data = make.path("jump.mkv").read_bytes()
    assert len(data) < 300_000
    with Decoder() as decoder, pytest.raises(MediaError) as caught:
        decoder.audio(make.path("jump.mkv"), 48000)
    assert caught.value.reason == "too long"


def test_same_call_same_samples(decoder, make):
    write_video(make.path("a.mp4"), flash(20, 3), fps=10, audio=(beep(2.0, 0.5), RATE))
    first, second = (decoder.audio(make.path("a.mp4"), 15360).samples for _ in range(2))
    assert np.array_equal(first, second)


NO_B = ("-c:v", "libx264", "-bf", "0")
CLICKS = (1.0, 1.5, 3.0, 4.0, 5.0, 6.0)


def clicking(make, name, *words):
    """Seven seconds of pictures and noise with clicks."""
    samples = np.random.default_rng(5).normal(scale=0.01, size=7 * RATE)
    for time in CLICKS:
        samples[round(time * RATE) : round(time * RATE) + 48] = 0.9
    write_video(make.path("plain.mp4"), flash(70, 3), fps=10)
    write_wav(make.path("clicks.wav"), samples, RATE)
    make.ffmpeg("-i", "plain.mp4", "-i", "clicks.wav", "-map", "0:v", "-map", "1:a", *words, name)
    return make.path(name)


def retimed(source, target, move):
    """Copy a file; `move(k, seconds)` gives the new time of sound packet k, None leaves it out."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        count = 0
        for packet in old.demux():
            if not packet.size:
                continue
            kind, packet.stream = packet.stream.type, streams[packet.stream.index]
            if kind == "audio":
                seconds = move(count, float(packet.pts * packet.time_base))
                count += 1
                if seconds is None:
                    continue
                packet.pts = packet.dts = round(seconds / packet.time_base)
            new.mux(packet)
    return target


def click_times(sound):
    loud = np.flatnonzero(np.abs(sound.samples) > 0.3) / sound.sample_rate + sound.start_s
    return loud[np.concatenate([[True], np.diff(loud) > 0.2])]


@pytest.mark.parametrize("lost", [{100, 101}, {90}, {90, 150, 151, 210}, {130, 131, 132}])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sound_after_lost_packets_is_at_its_time(decoder, make, suffix, lost):
    whole = clicking(make, f"whole.{suffix}", *NO_B, "-c:a", "aac")
    path = retimed(whole, make.path(f"lost.{suffix}"), lambda k, seconds: None if k in lost else seconds)
    for start in (None, 2.5):
        found = click_times(decoder.audio(path, RATE, start_s=start))
        expected = np.array([time for time in CLICKS if start is None or time > start])
        assert found == pytest.approx(expected, abs=0.010)


@pytest.mark.parametrize("early", [0.012, 0.03])
def test_sound_that_lies_over_what_was_before_is_at_its_time(decoder, make, early):
    whole = clicking(make, "whole.mkv", *NO_B, "-c:a", "pcm_s16le")
    path = retimed(whole, make.path("over.mkv"), lambda k, seconds: seconds - early * (seconds > 2.0))
    found = click_times(decoder.audio(path, RATE))
    assert found == pytest.approx([time - early * (time > 2.0) for time in CLICKS], abs=0.010)


class Sent:
    """Stands for the ring: keeps what is sent."""

    def __init__(self):
        self.parts, self.slot = [], np.zeros(SOUND_SLOT_BYTES, np.uint8)

    def open(self, *size, **head):
        self.head = head

    def acquire(self):
        return 0

    def view(self, slot):
        return self.slot

    def send(self, slot, n):
        self.parts.append(self.slot.view(np.float32)[:n].copy())


@pytest.mark.parametrize("jump", [-0.5, -0.08, -0.02, 0.02, 0.04, 0.08])
def test_every_sample_after_a_jump_is_at_its_time(jump):
    """Frames of 10 ms whose samples say at what millisecond they are; from 1 s on they come earlier or later."""
    sent = Sent()
    samples = _Samples(sent, Limits())
    for k in range(300):
        time = 10 * k + (1000 * jump if k >= 100 else 0.0)
        frame = av.AudioFrame.from_ndarray((time + np.arange(10.0)).astype(np.float32)[None], "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 1000, round(time), Fraction(1, 1000)
        samples.add(frame, 0.0)
    samples.finish()
    found = np.concatenate(sent.parts)
    expected = np.arange(round(3000 + 1000 * jump))
    assert len(found) == len(expected) == samples.count
    assert set(np.flatnonzero(found != expected)) == set(range(1000, 1000 + max(0, round(1000 * jump))))


@pytest.mark.parametrize("channels", [1, 2])
def test_timestamps_that_waver_move_nothing(decoder, make, channels):
    whole = clicking(make, "whole.mkv", *NO_B, "-c:a", "aac", "-ac", str(channels))
    for wavering in ((0.0, 0.01, -0.01), (0.0, 0.02, 0.02), (0.0, -0.01, 0.0, 0.0), (0.004, -0.004)):
        path = retimed(whole, make.path("wavering.mkv"), lambda k, s, w=wavering: s + w[k % len(w)])
        sounds = [decoder.audio(one, RATE, channels=channels).samples for one in (whole, path)]
        assert np.array_equal(*sounds)


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.mp4", ("aac",)), ("a.mkv", ("aac",)), ("o.webm", ("libopus", "-c:v", "libvpx")), ("m.mkv", ("libmp3lame",)),
     ("v.mkv", ("libvorbis",)), ("o.mp4", ("libopus",)), ("m.mp4", ("libmp3lame",)), ("p.mov", ("pcm_s16le",))],
)  # fmt: skip
@pytest.mark.parametrize("rate", ["24000", "44100", "48000"])
def test_healthy_sound_is_what_the_codec_gives(decoder, make, name, words, rate):
    """Whatever the container rounds its timestamps to."""
    if (rate, words[0]) == ("44100", "libopus"):
        pytest.skip("no such rate in this codec")
    path = clicking(make, name, "-c:v", "copy", "-ar", rate, "-c:a", *words)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        scale = 2.0**15 if frames[0].dtype == np.int16 else 1.0
        rate = container.streams.audio[0].codec_context.sample_rate
    assert np.array_equal(decoder.audio(path, rate).samples, (np.concatenate(frames) / scale).astype(np.float32))
