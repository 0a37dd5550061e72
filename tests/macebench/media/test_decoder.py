"""Damaged, hostile and oversized files, and a decoder process that dies, hangs or is left alone."""

import gc
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from macebench.errors import MediaError, UserError
from macebench.media import Decoder, Limits, write_video, write_wav


def reason(action):
    with pytest.raises(MediaError) as caught:
        action()
    return caught.value.reason


def read(decoder, path, **how):
    """Frames that came before the end or the error, and the reason of the error."""
    count = 0
    try:
        for batch in decoder.frames(path, **how):
            count += len(batch)
    except MediaError as error:
        return count, error.reason
    return count, None


def greys(count, size=(48, 64)):
    return (np.full((*size, 3), (10 + 7 * index) % 250, np.uint8) for index in range(count))


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists() or not is_running(pid):
            return True
        time.sleep(0.02)
    return False


def rss_mb(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


# --- files that are no good ------------------------------------------------------------------


def test_a_file_that_is_not_there(decoder, make):
    for call in (decoder.probe, lambda path: list(decoder.frames(path)), lambda p: decoder.audio(p, 8000)):
        assert reason(lambda call=call: call(make.path("no.mp4"))) == "file not found"
        assert reason(lambda call=call: call("nul\0.mp4")) == "file not found"


def test_an_empty_file(decoder, make):
    make.path("empty.mp4").write_bytes(b"")
    assert reason(lambda: decoder.probe(make.path("empty.mp4"))) == "empty file"


def test_things_that_are_no_files(decoder, make):
    assert reason(lambda: decoder.probe(make.folder)) == "not a media file"
    os.mkfifo(make.path("pipe.mp4"))
    assert reason(lambda: decoder.probe(make.path("pipe.mp4"))) == "not a media file"


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes(decoder, make, seed):
    make.path("r.mp4").write_bytes(random.Random(seed).randbytes(60_000))
    assert reason(lambda: decoder.probe(make.path("r.mp4"))) == "not a media file"
    assert read(decoder, make.path("r.mp4")) == (0, "not a media file")
    assert reason(lambda: decoder.audio(make.path("r.mp4"), 8000)) == "not a media file"


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_cost_a_clip_and_nothing_more(decoder, make, seed):
    path = make.pattern("ok.mp4")
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(40):
        data[rng.randrange(len(data))] = rng.randrange(256)
    make.path("bad.mp4").write_bytes(data)
    count, why = read(decoder, make.path("bad.mp4"))
    assert 0 <= count <= 10
    assert why in {None, "truncated file", "not a media file", "no frames", "no video stream", "too long",
                   "too many pixels", "container not allowed"}  # fmt: skip
    assert read(decoder, path) == (10, None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
        ("concat.mp4", "ffconcat version 1.0\nfile ok.mp4\n"),
    ],
)
def test_playlists_are_refused(decoder, make, name, text):
    make.pattern("ok.mp4")
    make.path(name).write_text(text)
    assert reason(lambda: decoder.probe(make.path(name))) == "container not allowed"
    assert read(decoder, make.path(name)) == (0, "container not allowed")


def test_a_playlist_of_good_segments_is_not_followed(decoder, make):
    make.pattern("seg.ts", "-c:v", "libx264")
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nseg.ts\n#EXT-X-ENDLIST\n"
    make.path("good.m3u8").write_text(text)
    assert read(decoder, make.path("good.m3u8")) == (0, "container not allowed")


@pytest.mark.parametrize("name", ["a.avi", "a.ts", "a.flv", "a.gif"])
def test_containers_that_are_not_on_the_list(decoder, make, name):
    words = ["-pix_fmt", "rgb8"] if name == "a.gif" else ["-c:v", "mpeg2video" if name == "a.ts" else "flv"]
    path = make.pattern(name, *words)
    disguised = path.rename(make.path(name + ".mp4"))
    assert reason(lambda: decoder.probe(disguised)) == "container not allowed"


def test_an_external_reference_inside_a_movie_is_not_followed(decoder, make):
    path = make.pattern("ok.mov")
    data = path.read_bytes()
    # A data reference that is not "self contained" and names another file.
    assert data.count(b"url \x00\x00\x00\x01") == 1
    make.path("ref.mov").write_bytes(data.replace(b"url \x00\x00\x00\x01", b"url \x00\x00\x00\x00"))
    count, _ = read(decoder, make.path("ref.mov"))
    assert count in (0, 10)


def test_sound_without_pictures(decoder, make):
    path = write_wav(make.path("a.wav"), np.zeros(800), 8000)
    assert reason(lambda: decoder.probe(path)) == "no video stream"
    assert read(decoder, path) == (0, "no video stream")


def test_a_cover_picture_is_no_video(decoder, make):
    make.ffmpeg("-f", "lavfi", "-i", "color=s=32x32:d=0.1:r=10", "-frames:v", "1", "cover.png")
    sound = ["-f", "lavfi", "-i", "sine=d=1", "-i", "cover.png", "-map", "0", "-map", "1"]
    make.ffmpeg(*sound, "-c:v", "copy", "-disposition:v", "attached_pic", "song.mp3")
    assert reason(lambda: decoder.probe(make.path("song.mp3"))) == "no video stream"
    assert len(decoder.audio(make.path("song.mp3"), 8000).samples) > 7000


def test_no_frames(decoder, make):
    path = make.pattern("frag.mp4", "-movflags", "+frag_keyframe+empty_moov")
    make.cut(path, "none.mp4", path.read_bytes().index(b"moof") - 4)
    assert reason(lambda: decoder.probe(make.path("none.mp4"))) == "no frames"
    assert read(decoder, make.path("none.mp4")) == (0, "no frames")


# --- files that are cut ----------------------------------------------------------------------


def test_an_mp4_without_its_index(decoder, make):
    path = make.cut(make.pattern("a.mp4"), "cut.mp4", 0.6)
    assert reason(lambda: decoder.probe(path)) == "truncated file"
    assert read(decoder, path) == (0, "truncated file")


@pytest.mark.parametrize("words", [["f.mp4", "-movflags", "+faststart"], ["f.mkv"], ["f.webm", "-c:v", "libvpx-vp9"],
                                   ["frag.mp4", "-movflags", "+frag_keyframe+empty_moov"]])  # fmt: skip
def test_good_frames_come_before_the_reason(decoder, make, words):
    name, *options = words
    whole = make.pattern(name, *options, "-g", "5", seconds=4)
    path = make.cut(whole, "cut-" + name, 0.7)
    expected = [batch.frames for batch in decoder.frames(whole, batch=1)]
    got = []
    with pytest.raises(MediaError) as caught:
        got.extend(batch.frames for batch in decoder.frames(path, batch=1))
    assert caught.value.reason == "truncated file"
    assert 10 <= len(got) < 40
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=False))
    assert read(decoder, path) == (len(got), "truncated file")
    assert decoder.counts is None


def test_one_missing_byte_is_noticed(decoder, make):
    whole = make.pattern("f.mp4", "-movflags", "+faststart")
    path = make.cut(whole, "cut.mp4", whole.stat().st_size - 1)
    assert read(decoder, path)[1] == "truncated file"


def test_bytes_behind_the_end_are_no_damage(decoder, make):
    path = make.pattern("f.mp4")
    path.write_bytes(path.read_bytes() + b"trailing rubbish" * 9)
    assert read(decoder, path) == (10, None)


def test_a_hole_in_the_middle(decoder, make):
    path = make.pattern("f.mp4", "-movflags", "+faststart", "-bf", "0", seconds=3)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(video=0)][20]
    data[place : place + 30] = b"\xff" * 30
    path.write_bytes(data)
    assert read(decoder, path) == (20, "truncated file")


# --- files that are too much -----------------------------------------------------------------


def test_too_many_pixels(make, decoder):
    source = "color=black:s=8192x8192:d=0.2:r=5"
    make.ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p",
                "-threads", "1", "bomb.mp4")  # fmt: skip
    assert make.path("bomb.mp4").stat().st_size < 200_000
    assert reason(lambda: decoder.probe(make.path("bomb.mp4"))) == "too many pixels"
    assert read(decoder, make.path("bomb.mp4")) == (0, "too many pixels")
    assert rss_mb(decoder.pid) < 1500


def test_declared_size_that_is_a_lie(decoder, make):
    data = bytearray(make.pattern("a.mp4").read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd"))
    assert struct.unpack(">HH", data[entry + 28 : entry + 32]) == (64, 48)
    data[entry + 28 : entry + 32] = struct.pack(">HH", 65535, 65535)
    make.path("lie.mp4").write_bytes(data)
    assert read(decoder, make.path("lie.mp4")) in [(0, "too many pixels"), (10, None)]
    assert rss_mb(decoder.pid) < 1500


def test_scaling_to_square_pixels_counts_too(make):
    path = make.pattern("flat.mp4", "-vf", "setsar=20/1")
    with Decoder(Limits(max_pixels=100 * 100)) as small:
        assert read(small, path) == (0, "too many pixels")


def test_an_hour_streams_and_five_hours_are_refused(make, decoder):
    hour = make.pattern("hour.mp4", size="16x16", seconds=3600, fps=1)
    assert read(decoder, hour, batch=64) == (3600, None)
    assert decoder.probe(hour).duration_s == pytest.approx(3600)
    long = make.timed("long.mkv", [1000 * 1800 * index for index in range(11)])
    assert reason(lambda: decoder.probe(long)) == "too long"
    assert read(decoder, long) == (0, "too long")
    with Decoder(Limits(max_duration_s=60)) as strict:
        assert read(strict, hour) == (0, "too long")
        assert reason(lambda: strict.probe(hour)) == "too long"


def test_too_long_where_nothing_is_declared(make):
    path = make.pattern("live.webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-live", "1", seconds=3)
    with Decoder(Limits(max_duration_s=1.05)) as strict:
        assert reason(lambda: strict.probe(path)) == "too long"
        assert read(strict, path, batch=2) == (11, "too long")


def test_too_many_frames(make):
    path = make.pattern("a.mp4")
    live = make.pattern("live.webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-live", "1")
    with Decoder(Limits(max_frames=9)) as strict:
        assert read(strict, path) == (0, "too long")
        assert read(strict, live, batch=3) == (9, "too long")
    with Decoder(Limits(max_frames=10)) as strict:
        assert read(strict, path) == (10, None)


@pytest.mark.parametrize("memory_mb", [400, 550])
def test_out_of_memory_costs_one_clip(make, memory_mb):
    path = make.pattern("big.mp4", "-preset", "ultrafast", size="3840x2160", seconds=0.5)
    small = make.pattern("small.mp4")
    with Decoder(Limits(memory_mb=memory_mb)) as decoder:
        assert read(decoder, small) == (10, None)
        first = decoder.pid
        assert read(decoder, path) == (0, "decoder ran out of memory")
        assert read(decoder, small) == (10, None)
        assert decoder.pid != first


def test_a_limit_that_python_cannot_live_with():
    with Decoder(Limits(memory_mb=20)) as decoder, pytest.raises(UserError, match="20 MiB"):
        decoder.start()


def test_memory_does_not_grow_with_the_clip(make, decoder):
    path = write_video(make.path("long.mp4"), greys(1200, (240, 320)), fps=30, preset="ultrafast")
    raw_mb = 1200 * 240 * 320 * 3 / 2**20
    child, parent = [], []
    for number, _ in enumerate(decoder.frames(path)):
        if number in (5, 70):
            child.append(rss_mb(decoder.pid))
            parent.append(rss_mb(os.getpid()))
    assert raw_mb > 260
    assert child[1] - child[0] < 20
    assert parent[1] - parent[0] < 20


# --- a process that dies, hangs or is left ---------------------------------------------------


def test_killed_in_the_middle(make):
    path = write_video(make.path("a.mp4"), greys(300), fps=30)
    with Decoder() as decoder:
        stream = decoder.frames(path, batch=8)
        next(stream)
        pid = decoder.pid
        os.kill(pid, signal.SIGKILL)
        assert reason(lambda: list(stream)) == "decoder crashed"
        assert not Path(f"/proc/{pid}").exists(), "a zombie is left"
        assert read(decoder, path) == (300, None)


def test_killed_while_idle_costs_nothing(make):
    path = make.pattern("a.mp4")
    with Decoder() as decoder:
        assert read(decoder, path) == (10, None)
        os.kill(decoder.pid, signal.SIGKILL)
        time.sleep(0.1)
        assert read(decoder, path) == (10, None)


def test_a_hung_decoder_times_out(make):
    path = write_video(make.path("a.mp4"), greys(300), fps=30)
    with Decoder(Limits(wall_s=0.8)) as decoder:
        decoder.start()
        stream = decoder.frames(path, batch=8)
        next(stream)
        pid = decoder.pid
        os.kill(pid, signal.SIGSTOP)
        start = time.monotonic()
        assert reason(lambda: list(stream)) == "decoder timed out"
        assert time.monotonic() - start < 5
        assert not Path(f"/proc/{pid}").exists()
        assert read(decoder, path) == (300, None)
        os.kill(decoder.pid, signal.SIGSTOP)
        assert reason(lambda: decoder.probe(path)) == "decoder timed out"
        os.kill(_restarted(decoder), signal.SIGSTOP)
        assert reason(lambda: decoder.audio(path, 8000)) == "decoder timed out"


def _restarted(decoder):
    decoder.start()
    return decoder.pid


def test_the_time_of_the_consumer_is_not_counted(make):
    path = write_video(make.path("a.mp4"), greys(60), fps=30)
    with Decoder(Limits(wall_s=1.0)) as decoder:
        decoder.start()
        count = 0
        for batch in decoder.frames(path, batch=10):
            time.sleep(0.2)
            count += len(batch)
    assert count == 60


def test_leaving_early_keeps_the_process(make):
    path = write_video(make.path("a.mp4"), greys(300), fps=30)
    with Decoder() as decoder:
        decoder.start()
        pid = decoder.pid
        for _ in range(5):
            for batch in decoder.frames(path, batch=4):
                assert len(batch) == 4
                break
        assert read(decoder, path) == (300, None)
        assert decoder.pid == pid


def test_a_second_call_ends_the_first(make):
    path = write_video(make.path("a.mp4"), greys(300), fps=30)
    with Decoder() as decoder:
        first = decoder.frames(path, batch=4)
        next(first)
        assert decoder.probe(path).n_frames == 300
        with pytest.raises(RuntimeError, match="another call"):
            next(first)
        assert read(decoder, path) == (300, None)


def test_closing_under_a_running_stream(make):
    path = write_video(make.path("a.mp4"), greys(300), fps=30)
    decoder = Decoder()
    stream = decoder.frames(path, batch=4)
    next(stream)
    pid = decoder.pid
    decoder.close()
    assert not Path(f"/proc/{pid}").exists()
    assert reason(lambda: next(stream)) == "decoder crashed"
    assert decoder.probe(path).n_frames == 300
    decoder.close()
    decoder.close()


def test_a_forgotten_decoder_takes_its_process_along():
    decoder = Decoder()
    decoder.start()
    pid = decoder.pid
    assert is_running(pid)
    del decoder
    assert gone(pid)
    assert not Path(f"/proc/{pid}").exists()


def test_a_decoder_that_was_started_in_a_thread_lives_on(make):
    path = make.pattern("a.mp4")
    with Decoder() as decoder:
        thread = threading.Thread(target=decoder.start)
        thread.start()
        thread.join()
        pid = decoder.pid
        assert read(decoder, path) == (10, None)
        assert decoder.pid == pid


_PARENT = """
import sys, time
from macebench.media import Decoder
decoder = Decoder()
stream = decoder.frames(sys.argv[1], batch=4)
next(stream)
print(decoder.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_killing_the_parent_ends_the_child(make, stopped):
    path = write_video(make.path("a.mp4"), greys(300), fps=30)
    with subprocess.Popen([sys.executable, "-c", _PARENT, str(path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        if stopped:
            os.kill(child, signal.SIGSTOP)
        parent.kill()
    assert gone(child)


def test_the_end_of_the_pipe_alone_ends_the_child(make):
    """Without the kernel's help: a process started outside the main thread is not tied to its parent."""
    with Decoder() as decoder:
        thread = threading.Thread(target=decoder.start)
        thread.start()
        thread.join()
        pid = decoder.pid
        decoder._child._process.stdin.close()
        assert gone(pid, 3.0)


def test_the_child_imports_nothing_heavy():
    code = (
        "import sys, macebench.media.child, macebench.media.pictures, macebench.media.soundtrack\n"
        "heavy = {'torch', 'cv2', 'librosa', 'scipy', 'pandas', 'soxr', 'imageio_ffmpeg', 'yaml', 'pydantic'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_package_does_not_import_pyav():
    code = "import sys, macebench.media\nsys.exit(int('av' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_modules_in_the_working_folder_are_not_imported(make, monkeypatch):
    path = make.pattern("a.mp4")
    for name in ("av.py", "numpy.py", "json.py"):
        make.path(name).write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(make.folder)
    with Decoder() as decoder:
        assert read(decoder, path) == (10, None)


def test_many_clips_leave_no_descriptors_behind(make):
    path, bad = make.pattern("a.mp4"), make.path("bad.mp4")
    bad.write_bytes(b"rubbish" * 100)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Decoder() as decoder:
            for _ in range(10):
                assert read(decoder, path) == (10, None)
                assert read(decoder, bad) == (0, "not a media file")
            assert len(os.listdir(f"/proc/{decoder.pid}/fd")) < 12
    assert len(os.listdir("/proc/self/fd")) == before
