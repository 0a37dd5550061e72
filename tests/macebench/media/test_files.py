"""Finding and hashing files."""

import hashlib
import os
import subprocess
import sys

import pytest

from macebench.errors import UserError
from macebench.media import file_sha256, find_media


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(folder, **how):
    return [path.relative_to(folder).as_posix() for path in find_media(folder, **how)]


def test_hash(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "b")


def test_kinds_and_order(tmp_path):
    put(tmp_path, "b.mp4", "a/z.MOV", "a.webm", "a/b/c.mkv", "song.wav", "a/s.mp3", "notes.txt", "B.mp4", "mp4")
    assert names(tmp_path) == ["B.mp4", "a.webm", "a/b/c.mkv", "a/z.MOV", "b.mp4"]
    assert names(tmp_path, kinds="audio") == ["a/s.mp3", "song.wav"]
    assert len(names(tmp_path, kinds="any")) == 7


def test_hidden_things_are_passed_over(tmp_path):
    put(tmp_path, ".a.mp4", "._b.mp4", ".git/c.mp4", "d.mp4")
    assert names(tmp_path) == ["d.mp4"]


def test_links_inside_are_fine(tmp_path):
    put(tmp_path, "real/a.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "real" / "a.mp4")
    (tmp_path / "again").symlink_to(tmp_path / "real")
    assert names(tmp_path) == ["b.mp4", "real/a.mp4"]


@pytest.mark.parametrize("target", ["secret.mp4", "elsewhere", "nowhere.mp4"])
def test_links_that_leave_are_refused(tmp_path, target):
    put(tmp_path, "in/a.mp4", "secret.mp4", "elsewhere/b.mp4")
    (tmp_path / "in" / "link.mp4").symlink_to(f"../{target}")
    with pytest.raises(UserError, match=r"link\.mp4 is a link"):
        find_media(tmp_path / "in")


def test_a_sibling_with_the_same_beginning_is_outside(tmp_path):
    put(tmp_path, "in/a.mp4", "in2/b.mp4")
    (tmp_path / "in" / "b.mp4").symlink_to(tmp_path / "in2" / "b.mp4")
    with pytest.raises(UserError, match="leaves the folder"):
        find_media(tmp_path / "in")


def test_the_folder_itself_may_be_a_link(tmp_path):
    put(tmp_path, "real/a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path / "link") == ["a.mp4"]


def test_wrong_arguments(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        find_media(tmp_path / "no")
    with pytest.raises(UserError, match="pictures"):
        find_media(tmp_path, kinds="pictures")


def test_a_pipe_has_no_hash_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    code = "import sys; from macebench.media import file_sha256; file_sha256(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "pipe.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "not a regular file" in done.stderr
    with pytest.raises(IsADirectoryError):
        file_sha256(tmp_path)
