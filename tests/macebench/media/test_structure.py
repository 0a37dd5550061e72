"""Sizes in file headers against the size of the file."""

import random

import numpy as np
import pytest

from macebench.media import write_wav
from macebench.media.structure import lacks_index, missing_bytes


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "fast.mp4", "frag.mp4"])
def test_every_cut_of_the_last_part_is_counted(make, name):
    words = {"fast.mp4": ["-movflags", "+faststart"], "a.webm": ["-c:v", "libvpx-vp9"]}
    words["frag.mp4"] = ["-movflags", "+frag_keyframe+empty_moov"]
    path = make.pattern(name, *words.get(name, []))
    size = path.stat().st_size
    assert missing_bytes(path) == 0
    assert not lacks_index(path)
    for missing in (1, 2, 7, 40):
        assert missing_bytes(make.cut(path, "cut", size - missing)) == missing


def test_wav(make):
    path = write_wav(make.path("a.wav"), np.zeros(100), 8000)
    assert missing_bytes(path) == 0
    assert missing_bytes(make.cut(path, "cut.wav", 200)) == 44
    data = bytearray(path.read_bytes())
    data[4:8] = b"\xff\xff\xff\xff"
    make.path("stream.wav").write_bytes(data)
    assert missing_bytes(make.path("stream.wav")) == 0


def test_a_live_recording_promises_nothing(make):
    path = make.pattern("live.webm", "-c:v", "libvpx-vp9", "-live", "1")
    assert missing_bytes(make.cut(path, "cut.webm", 0.5)) == 0


def test_index_cut_off(make):
    path = make.pattern("a.mp4")
    assert lacks_index(make.cut(path, "cut.mp4", 0.5))
    assert not lacks_index(make.pattern("a.mkv"))


def test_long_sizes_and_open_ends(make):
    head = (16).to_bytes(4, "big") + b"ftyp" + b"isom" + bytes(4)
    make.path("long.mp4").write_bytes(head + (1).to_bytes(4, "big") + b"mdat" + (116).to_bytes(8, "big") + bytes(50))
    assert missing_bytes(make.path("long.mp4")) == 50
    make.path("open.mp4").write_bytes(head + bytes(4) + b"mdat" + bytes(50))
    assert missing_bytes(make.path("open.mp4")) == 0


@pytest.mark.parametrize("seed", range(30))
def test_rubbish_is_no_crash(make, seed):
    rng = random.Random(seed)
    head = rng.choice(
        [b"", b"\x1a\x45\xdf\xa3", b"\0\0\0\x08ftyp", b"RIFF\0\0\0\0WAVE", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67"]
    )
    make.path("r").write_bytes(head + rng.randbytes(rng.randrange(40)))
    assert missing_bytes(make.path("r")) >= 0
    assert lacks_index(make.path("r")) in (True, False)


def wave(n_samples, *, riff_off=0, data_off=0, junk=b""):
    data = b"\0\0" * n_samples
    extra = b"LIST" + len(junk).to_bytes(4, "little") + junk + b"\0" * (len(junk) % 2) if junk else b""
    head = b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x22\x56\0\0\x44\xac\0\0\x02\0\x10\0" + extra
    body = head + b"data" + (len(data) + data_off).to_bytes(4, "little") + data
    return b"RIFF" + (len(body) + riff_off).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (wave(100), 0),
        (wave(100, riff_off=4), 0),  # a common writer counts its own header twice
        (wave(100, junk=b"odd"), 0),
        (wave(100)[:-30], 30),
        (wave(100, junk=b"odd")[:-30], 30),
        (wave(100, data_off=8), 8),
        (wave(100)[:30], 214),
        (wave(100, riff_off=0x7FFFFFFF - 300), 0),
    ],
)
def test_a_wave_file_lacks_what_its_sound_lacks(tmp_path, content, missing):
    (tmp_path / "a.wav").write_bytes(content)
    assert missing_bytes(tmp_path / "a.wav") == missing
