"""Pickles: numbers come out, nothing runs, and nothing costs more than the file is large."""

import codecs
import collections
import contextlib
import os
import pickle
import struct
import subprocess

import numpy as np
import pytest

from macebench.errors import MediaError
from macebench.motion import pickles
from macebench.motion.pickles import REFUSED, as_array, read_pickle, run_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
ARRAYS = {
    "float64": np.arange(6.0).reshape(2, 3),
    "float32": np.linspace(0, 1, 5, dtype=np.float32),
    "big_endian": np.arange(3, dtype=">i2"),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "strided": np.arange(12.0).reshape(3, 4)[::2, 1:3],
    "empty": np.zeros((0, 3)),
    "no_axis": np.array(5.0),
    "scalar": np.float32(3.5),
    "number": 7,
    "list": [1, 2.5],
    "unsigned": np.array([255], dtype=np.uint8),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_of_every_protocol(protocol):
    found = run_pickle(pickle.dumps(ARRAYS, protocol=protocol))
    assert found.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        array = as_array(found[name], name)
        assert array.dtype == np.float64
        assert array.shape == np.shape(value)
        assert np.array_equal(array, value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_of_every_protocol(protocol):
    value = {"a": [1, None, True, False, -(2**70), 1.5, "ä", b"\x00\xff"], "b": {"c": (1, (2, 3), ())}, "d": []}
    assert run_pickle(pickle.dumps(value, protocol=protocol)) == value
    ordered = collections.OrderedDict([("x", 1), ("y", 2)])
    assert run_pickle(pickle.dumps(ordered, protocol=protocol)) == dict(ordered)


def test_an_old_pickle_of_python_2():
    numbers = np.array([1.0, -2.0])
    data = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
        + numbers.tobytes() + b"tbs."
    )  # fmt: skip
    assert np.array_equal(pickle.loads(data, encoding="latin1")["a"], numbers)
    assert np.array_equal(as_array(run_pickle(data)["a"], "a"), numbers)


class Runs:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CALLS = {
    "os.system": (os.system, "touch {}"),
    "eval": (eval, "open({!r}, 'w')"),
    "exec": (exec, "open({!r}, 'w')"),
    "open": (open, "{}", "w"),
    "subprocess": (subprocess.check_output, ["touch", "{}"]),
    "getattr": (getattr, os, "system"),
    "import": (__import__, "os"),
    "load": (np.load, "{}"),
    "codecs": (codecs.open, "{}", "w"),
    "pickle": (pickle.loads, b"."),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", [name for name in CALLS if name != "getattr"])
def test_a_call_is_refused_before_it_runs(name, protocol, tmp_path):
    mark = tmp_path / "mark"
    function, *arguments = CALLS[name]
    arguments = [a.format(mark) if isinstance(a, str) else a for a in arguments]
    arguments = [[part.format(mark) for part in a] if isinstance(a, list) else a for a in arguments]
    data = pickle.dumps({"smpl_poses": Runs(function, *arguments)}, protocol=protocol)
    with pytest.raises(MediaError, match=REFUSED):
        run_pickle(data)
    assert not mark.exists()


def test_the_calls_of_this_test_would_run(tmp_path):
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Runs(open, str(mark), "w"))).close()
    assert mark.exists()


class Plain:
    pass


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [Plain(), Plain, {1, 2}, complex(1, 2), slice(3), range(3), {1: 2}, {(1, 2): 3}])
def test_objects_and_odd_keys_are_refused(value, protocol):
    with pytest.raises(MediaError, match=REFUSED):
        run_pickle(pickle.dumps({"x": value}, protocol=protocol))


OTHERS = [
    np.array([{}], dtype=object),
    np.array(["a"]),
    np.array([1j]),
    np.array([True]),
    np.zeros(2, dtype=[("a", "f4")]),
    np.array(["2020"], dtype="datetime64[D]"),
]


@pytest.mark.parametrize("array", OTHERS, ids=lambda array: str(array.dtype))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_anything_but_numbers_are_refused(array, protocol):
    with pytest.raises(MediaError, match=REFUSED):
        as_array(run_pickle(pickle.dumps({"x": array}, protocol=protocol))["x"], "x")


HOSTILE = {
    "persistent id": b"Pos.system\n.",
    "binary persistent id": b"Npos\x51.",
    "extension registry": b"\x82\x01.",
    "instance": b"(ios\nsystem\n.",
    "object": b"(cos\nsystem\no.",
    "new object": b"cos\nsystem\n)\x81.",
    "call of a text": b"Vx\n)R.",
    "known name, wrong call": b"cnumpy\nndarray\n(I1000000000000\ntR.",
    "name of the whole module": b"cnumpy\nload\n.",
    "state for a dictionary": b"}}b.",
    "state for a name": b"cnumpy\nndarray\n}b.",
    "empty stack": b".",
    "nothing": b"",
    "no stop": b"N",
    "get of nothing": b"h\x07.",
    "group without beginning": b"t.",
    "append to a number": b"I1\nI2\na.",
    "odd items": b"}(I1\nu.",
    "no text as dtype": b"cnumpy\ndtype\n(I1\ntR.",
    "no argument": b"cnumpy\ndtype\n)R.",
    "negative length": b"\x8b\xff\xff\xff\xff.",
    "endless length": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "byte array of 2^60": b"\x96\x00\x00\x00\x00\x00\x00\x00\x10.",
    "not a pickle": b"hello world",
    "text": "schön".encode(),
    "random": bytes(range(256)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused(name):
    with pytest.raises(MediaError, match=REFUSED):
        run_pickle(HOSTILE[name])


def test_every_truncation_is_refused():
    data = pickle.dumps({"a": np.arange(4.0), "b": [1, 2]}, protocol=2)
    for end in range(len(data)):
        with pytest.raises(MediaError, match=REFUSED):
            run_pickle(data[:end])


def test_flipped_bytes_give_a_value_or_a_refusal():
    data = bytearray(pickle.dumps({"a": np.arange(4.0)}, protocol=4))
    for place in range(len(data)):
        changed = data.copy()
        changed[place] ^= 0x15
        with contextlib.suppress(MediaError):
            value = run_pickle(bytes(changed))
            as_array(value["a"] if isinstance(value, dict) and "a" in value else value, "a")


def state(shape, data=b"\0" * 8, code=b"f8"):
    """A pickled array with a made-up state."""
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
    dtype = b"cnumpy\ndtype\n(V" + code + b"\nI0\nI1\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb"
    return head + b"(I1\n" + shape + dtype + b"I00\nC" + bytes([len(data)]) + data + b"tb."


def test_a_made_up_array_is_as_good_as_its_bytes():
    assert as_array(run_pickle(state(b"(I1\nt")), "x").tolist() == [0.0]
    for shape in (
        b"(I1000000000000\nt",
        b"(I-1\nt",
        b"(I-1\nI-1\nt",
        b"(Vx\nt",
        b"N",
        b"(L1000000000000000000000L\nI0\nt",
    ):
        with pytest.raises(MediaError, match=REFUSED):
            as_array(run_pickle(state(shape)), "x")
    for code in (b"O8", b"V8", b"f8,f8", b"(1000000)f8", b"c8", b"M8"):
        with pytest.raises(MediaError, match=REFUSED):
            as_array(run_pickle(state(b"(I1\nt", code=code)), "x")


def test_a_small_file_cannot_fill_the_memory():
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    data = b"](" + text + b"q\x000" + b"c_codecs\nencode\nq\x010"
    with pytest.raises(MediaError, match="POP"):
        run_pickle(data + b".")
    data = text + b"q\x00c_codecs\nencode\nq\x01(" + b"h\x01(h\x00Vlatin1\ntR" * 100 + b"t."
    with pytest.raises(MediaError, match="copies more"):
        run_pickle(data)


def test_a_long_program_is_stopped(monkeypatch):
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1000)
    with pytest.raises(MediaError, match="more than 1000 instructions"):
        run_pickle(b"(" + b"N" * 2000 + b"t.")


def test_files(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    np.save(path, {"x": np.arange(3.0)}, allow_pickle=True)
    assert as_array(read_pickle(path)["x"], "x").tolist() == [0, 1, 2]
    np.save(path, np.arange(3.0))
    with pytest.raises(MediaError, match="no pickle"):
        read_pickle(path)
    np.save(path, np.array([1, "a", None], dtype=object), allow_pickle=True)
    with pytest.raises(MediaError, match="not one object"):
        read_pickle(path)
    monkeypatch.setattr(pickles, "MAX_PICKLE_BYTES", 10)
    with pytest.raises(MediaError, match="too large"):
        read_pickle(path)
