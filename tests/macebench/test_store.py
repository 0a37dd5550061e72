import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.store import Artifact, Ingredients, Store, atomic_write, write_npz

KEY = Ingredients("pose", 1, {"video": "a" * 64}, {"model": "full", "threshold": 0.5})


def put(store, key=KEY, size=3):
    store.put(key, Artifact({"x": np.arange(size, dtype=np.float64)}, {"note": "hello"}))


def test_what_is_put_comes_back(tmp_path):
    store = Store(tmp_path)
    assert store.get(KEY) is None
    put(store)
    found = store.get(KEY)
    assert found.arrays["x"].tolist() == [0.0, 1.0, 2.0]
    assert found.meta == {"note": "hello"}


@pytest.mark.parametrize(
    "other",
    [
        Ingredients("pose", 2, KEY.inputs, KEY.settings),
        Ingredients("beats", 1, KEY.inputs, KEY.settings),
        Ingredients("pose", 1, {"video": "b" * 64}, KEY.settings),
        Ingredients("pose", 1, KEY.inputs, {**KEY.settings, "threshold": 0.6}),
    ],
)
def test_every_ingredient_changes_the_key(other):
    assert other.key != KEY.key


def test_why_names_the_ingredient_that_changed(tmp_path):
    store = Store(tmp_path)
    assert store.why(KEY) == ["never computed for this file"]
    put(store)
    assert store.why(KEY) == []
    changed = Ingredients("pose", 2, KEY.inputs, {**KEY.settings, "threshold": 0.6})
    assert store.why(changed) == ["version: 1 -> 2", "settings.threshold: 0.5 -> 0.6"]


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_entry_counts_as_absent(tmp_path, damage):
    store = Store(tmp_path)
    put(store)
    path = store.path(KEY)
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert store.get(KEY) is None
    assert not path.exists()
    put(store)
    assert store.get(KEY) is not None


def test_an_entry_of_somebody_else_is_read_and_kept(tmp_path, monkeypatch):
    store = Store(tmp_path)
    put(store)

    def refused(path, times=None):
        raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(os, "utime", refused)
    assert store.get(KEY) is not None
    assert store.has(KEY)


def test_collect_removes_the_longest_unused_first(tmp_path):
    store = Store(tmp_path)
    keys = [Ingredients("pose", 1, {"video": str(i)}, {}) for i in range(4)]
    for age, key in enumerate(keys):
        put(store, key, 1000)
        stamp = time.time() - 1000 + age
        os.utime(store.path(key), (stamp, stamp))
    assert store.get(keys[0]) is not None  # reading makes it young again
    removed = store.collect(store.report().n_bytes - 1)
    assert removed.n_entries == 1
    assert [store.has(key) for key in keys] == [True, False, True, True]
    assert store.collect(0).n_entries == 3
    assert store.report().n_entries == 0


def test_atomic_write_leaves_nothing_behind_when_it_fails(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write_half():
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_full_disk_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="No space left on device") as caught, atomic_write(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "Free some space" in caught.value.hint
    assert os.listdir(tmp_path) == []


def test_equal_arrays_give_equal_bytes(tmp_path):
    arrays = {"b": np.arange(4.0), "a": np.str_("text")}
    write_npz(tmp_path / "1.npz", arrays)
    write_npz(tmp_path / "2.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_a_writer_killed_in_the_middle_leaves_no_entry(tmp_path):
    code = (
        "import os, signal, sys, pathlib\n"
        "from macebench.store import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])) as t:\n"
        "    t.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    target = tmp_path / "entry"
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -9
    assert not target.exists()
    assert [Path(name).suffix for name in os.listdir(tmp_path)] == [".tmp"]


def test_what_was_made_of_an_input_is_forgotten(tmp_path):
    store = Store(tmp_path)
    other = Ingredients("pose", 1, {"video": "b" * 64}, {})
    third = Ingredients("sound", 1, {"video": "a" * 64, "music": "c" * 64}, {})
    for key in (KEY, other, third):
        put(store, key)
    assert store.forget(set()) == 0
    assert store.forget({"a" * 64}, "pose") == 1
    assert [store.has(key) for key in (KEY, other, third)] == [False, True, True]
    assert store.forget({"c" * 64}) == 1
    assert store.report().n_entries == 1
