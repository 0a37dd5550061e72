"""Spans of a file: the same pictures and samples as a slice of the whole file, and cheap."""

import numpy as np
import pytest

from macebench.errors import MediaError
from macebench.media import write_video

H264 = ("-c:v", "libx264", "-crf", "20", "-preset", "veryfast")
FILES = {
    "b_frames.mp4": (*H264, "-bf", "3", "-g", "12"),
    "one_key.mp4": (*H264, "-bf", "2", "-g", "999"),
    "open_gop.mp4": (*H264, "-bf", "3", "-g", "10", "-x264-params", "open-gop=1"),
    "open_gop.mkv": (*H264, "-bf", "3", "-g", "10", "-x264-params", "open-gop=1"),
    "refresh.mp4": (*H264, "-x264-params", "intra-refresh=1:keyint=20"),
    "vp9.webm": (
        "-c:v",
        "libvpx-vp9",
        "-b:v",
        "0",
        "-crf",
        "40",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "15",
    ),
    "mpeg4.mp4": ("-c:v", "mpeg4", "-g", "12", "-bf", "2", "-q:v", "4"),
    "fragments.mp4": (*H264, "-g", "12", "-movflags", "frag_keyframe+empty_moov"),
    "no_cues.mkv": (*H264, "-g", "12", "-f", "matroska", "-live", "1"),
    "late.mkv": (*H264, "-g", "12", "-output_ts_offset", "3.5"),
}
SPANS = [(0.0, 0.5), (0.5, 1.2), (1.21, 2.5), (2.0, 2.04), (3.9, None), (None, 0.3), (0.04, 9.0)]


def read(decoder, path, **how):
    batches = list(decoder.frames(path, **how))
    if not batches:
        return np.empty((0, 1, 1, 3), np.uint8), np.empty(0)
    return np.concatenate([batch.frames for batch in batches]), np.concatenate([batch.times_s for batch in batches])


def expected(times, start, end):
    low = -1.0 if start is None else start - 1e-6
    high = np.inf if end is None else end - 1e-6
    return (times >= low) & (times < high)


@pytest.mark.parametrize("name", FILES)
def test_a_span_is_a_slice_of_the_whole(decoder, make, name):
    path = make.pattern(name, *FILES[name], size="96x64", seconds=4, fps=25)
    frames, times = read(decoder, path)
    assert len(times) == 100
    for start, end in SPANS:
        part, part_times = read(decoder, path, start_s=start, end_s=end, batch=7)
        chosen = expected(times, start, end)
        assert part_times.tolist() == times[chosen].tolist()
        assert np.array_equal(part, frames[chosen]) or not chosen.any()


@pytest.mark.parametrize("start", [0.35, 1.0, 1.6])
def test_uneven_timestamps_and_turned_pictures(decoder, make, start):
    ticks = [0, 40, 90, 300, 340, 700, 1100, 1130, 1600, 1640, 1900]
    path = make.timed("uneven.mp4", ticks)
    make.ffmpeg("-display_rotation", "90", "-i", "uneven.mp4", "-c", "copy", "turned.mov")
    for name in (path, make.path("turned.mov")):
        frames, times = read(decoder, name)
        part, part_times = read(decoder, name, start_s=start)
        assert part_times.tolist() == times[times >= start].tolist()
        assert np.array_equal(part, frames[times >= start])


def test_a_span_behind_the_end_is_empty(decoder, make):
    path = make.pattern("short.mp4", *H264)
    assert len(read(decoder, path, start_s=7.0)[1]) == 0
    assert len(read(decoder, path, start_s=0.98)[1]) == 0


def test_damage_behind_the_span_does_not_matter(decoder, make):
    path = make.pattern("whole.mp4", *H264, "-g", "10", "-movflags", "+faststart", seconds=4)
    cut = make.cut(path, "cut.mp4", 0.8)
    frames, times = read(decoder, path, end_s=1.5)
    part, part_times = read(decoder, cut, end_s=1.5)
    assert np.array_equal(part, frames)
    assert part_times.tolist() == times.tolist()
    with pytest.raises(MediaError, match="truncated file"):
        read(decoder, cut, start_s=1.0)


def test_thinning_begins_with_the_span(decoder, make):
    path = make.pattern("thin.mp4", *H264, seconds=3, fps=25)
    _, times = read(decoder, path, start_s=1.0, max_fps=5)
    assert np.allclose(times, 1.0 + 0.2 * np.arange(10))


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv"])
def test_a_late_span_of_a_long_file_is_cheap(decoder, make, name):
    path = make.pattern(name, *H264, "-g", "50", seconds=120, fps=25)
    _, part = read(decoder, path, start_s=110.5, end_s=111.0)
    assert np.allclose(part, 110.52 + np.arange(12) / 25, atol=6e-4)
    assert decoder.counts.delivered == 12
    assert decoder.counts.decoded <= 50 + 12 + 1


@pytest.mark.parametrize(
    ("start", "end"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), None), (None, 0.0), (None, -1.0), (float("inf"), None)]
)
def test_spans_that_are_none(decoder, make, start, end):
    path = make.pattern("any.mp4", *H264)
    with pytest.raises(ValueError, match="no span"):
        decoder.frames(path, start_s=start, end_s=end)
    with pytest.raises(ValueError, match="no span"):
        decoder.audio(path, 8000, start_s=start, end_s=end)


SOUNDS = {
    "aac.mp4": (("-c:a", "aac", "-b:a", "128k"), 1e-3),
    "late_aac.mp4": (("-c:a", "aac", "-b:a", "128k"), 1e-3),
    "mp3.mkv": (("-c:a", "libmp3lame", "-b:a", "128k"), 1e-2),
    "opus.webm": (("-c:a", "libopus", "-b:a", "96k", "-c:v", "libvpx"), 5e-2),
    "vorbis.mkv": (("-c:a", "libvorbis"), 5e-2),
    "pcm.mov": (("-c:a", "pcm_s16le"), 1e-6),
    "flac.mkv": (("-c:a", "flac"), 1e-6),
}


def sweep(seconds=6.0, rate=44100):
    """Two channels that are everywhere different, so that a shift is seen."""
    t = np.arange(int(seconds * rate)) / rate
    left = 0.4 * np.sin(2 * np.pi * (300 + 150 * t) * t)
    return np.stack([left, 0.3 * np.sin(2 * np.pi * (500 + 90 * t) * t)], axis=1).astype(np.float32), rate


def sound_file(make, name, words):
    plain = make.path("plain.mov")
    frames = (np.full((64, 64, 3), 20 + k % 100, np.uint8) for k in range(150))
    write_video(plain, frames, fps=25)
    samples, rate = sweep()
    from macebench.media import write_wav

    write_wav(make.path("sweep.wav"), samples, rate)
    delay = ("-itsoffset", "0.12") if name.startswith("late") else ()
    make.ffmpeg("-i", "plain.mov", *delay, "-i", "sweep.wav", "-map", "0:v", "-map", "1:a", *words, name)
    return make.path(name)


def shift(part, whole, rate):
    """Seconds by which a part lies later than in the whole, by cross-correlation."""
    n = min(len(part), len(whole))
    spectrum = np.fft.rfft(part[:n], 2 * n) * np.conj(np.fft.rfft(whole[:n], 2 * n))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    return (lag - 2 * n if lag > n else lag) / rate


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.7, 2.0), (3.333, 4.5), (5.0, None)])
def test_a_span_of_sound_is_a_slice_of_the_whole(decoder, make, name, start, end):
    words, tolerance = SOUNDS[name]
    path = sound_file(make, name, words)
    whole = decoder.audio(path, 44100)
    part = decoder.audio(path, 44100, start_s=start, end_s=end)
    assert abs(part.start_s - max(start, whole.start_s)) <= 0.51 / 44100
    first = round((part.start_s - whole.start_s) * 44100)
    same = whole.samples[first : first + len(part.samples)]
    if end is not None:
        assert abs(part.duration_s - (end - part.start_s)) <= 1.01 / 44100
    lag = round(shift(part.samples, same, 44100) * 44100)
    assert lag == 0 if name.endswith((".mp4", ".mov")) else abs(lag) <= 27  # Matroska's clock has milliseconds
    n = min(len(same), len(part.samples)) - 60
    assert np.abs(part.samples[30 : n + 30] - whole.samples[first + 30 - lag : first + 30 - lag + n]).max() < tolerance


def test_stereo_where_there_is_stereo(decoder, make):
    path = sound_file(make, "pcm.mov", ("-c:a", "pcm_s16le"))
    samples, rate = sweep()
    both = decoder.audio(path, rate, channels=2)
    assert both.samples.shape == (len(samples), 2)
    assert np.abs(both.samples - samples).max() < 1e-4
    assert np.allclose(decoder.audio(path, rate).samples, both.samples.mean(axis=1), atol=1e-6)
    lower = decoder.audio(path, 22050, channels=2, start_s=2.0, end_s=2.5)
    assert lower.samples.shape == (11025, 2)
    make.ffmpeg("-i", "sweep.wav", "-ac", "1", "mono.wav")
    assert decoder.audio(make.path("mono.wav"), rate, channels=2).samples.ndim == 1
    with pytest.raises(ValueError, match="channels"):
        decoder.audio(path, rate, channels=3)


def test_a_span_without_sound(decoder, make):
    path = sound_file(make, "pcm.mov", ("-c:a", "pcm_s16le"))
    with pytest.raises(MediaError, match="no sound"):
        decoder.audio(path, 44100, start_s=20.0, end_s=21.0)
