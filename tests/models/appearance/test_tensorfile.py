"""Weights files are read without running anything in them."""

from __future__ import annotations

import struct
import warnings
import zipfile

import pytest

from macebench.errors import UserError

torch = pytest.importorskip("torch")

from macebench.models.appearance._tensorfile import read_tensors  # noqa: E402


def some_tensors():
    table = torch.arange(24, dtype=torch.float32).view(4, 6)
    return {
        "a.weight": table, "a.turned": table.t(), "b.part": table[1:3, 2:5], "half": torch.linspace(0, 1, 5).half(),
        "counts": torch.tensor([3, -1, 2]), "nothing": torch.zeros(0, 3), "number": torch.tensor(1.5),
    }  # fmt: skip


def same(found, wanted):
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"params": t}, lambda t: {"model": {"state_dict": t}}])
def test_state_dict(tmp_path, wrap):
    torch.save(wrap(some_tensors()), tmp_path / "a.pth")
    file = read_tensors(tmp_path / "a.pth")
    assert file.mapping is not None
    found = {name.removeprefix("state_dict."): tensor for name, tensor in file.tensors.items()}
    same(found, some_tensors())


def test_ordered_dict_and_parameters(tmp_path):
    model = torch.nn.Linear(3, 2)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    same(read_tensors(tmp_path / "a.pth").tensors, model.state_dict())
    torch.save({"p": torch.nn.Parameter(torch.ones(2))}, tmp_path / "b.pth")
    same(read_tensors(tmp_path / "b.pth").tensors, {"p": torch.ones(2)})


def test_older_format(tmp_path):
    torch.save(some_tensors(), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    file = read_tensors(tmp_path / "a.pth")
    assert file.mapping is None
    same(file.tensors, some_tensors())


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = {name: tensor.contiguous().clone() for name, tensor in some_tensors().items()}
    safetensors.save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    same(read_tensors(tmp_path / "a.safetensors").tensors, tensors)


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 4), torch.nn.LayerNorm(4)])
        self.register_buffer("table", torch.arange(6, dtype=torch.float32).view(2, 3).half())

    def forward(self, x):
        return self.layers[1](self.layers[0](x))


def test_script_archive(tmp_path):
    module = Scripted().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), str(tmp_path / "a.pt"))
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert any("/code/" in name for name in archive.namelist())
    same(read_tensors(tmp_path / "a.pt").tensors, module.state_dict())


def test_released_tensors_come_back(tmp_path):
    wanted = {"big": torch.arange(300_000, dtype=torch.float32).view(300, 1000), "other": torch.ones(7)}
    torch.save(wanted, tmp_path / "a.pth")
    file = read_tensors(tmp_path / "a.pth")
    for tensor in (*file.tensors.values(), torch.ones(3), file.tensors["big"].double()):
        file.release(tensor)
    same(file.tensors, wanted)


def archive(path, program, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        out.writestr("a/data.pkl", program)
        for name, content in members.items():
            out.writestr(f"a/{name}", content)
    return path


def program_for(count, offset=0, size=4, stride=1, kind=b"FloatStorage"):
    """data.pkl of {"x": one tensor}: `size` numbers of a storage that claims `count`."""
    return (
        b"\x80\x02}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
        + kind + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ" + struct.pack("<i", count) + b"tQ"
        + b"J" + struct.pack("<i", offset) + b"J" + struct.pack("<i", size) + b"\x85J" + struct.pack("<i", stride)
        + b"\x85\x89}tRs."
    )  # fmt: skip


def test_the_written_program_is_what_torch_writes(tmp_path):
    data = struct.pack("<4f", 1, 2, 3, 4)
    path = archive(tmp_path / "a.pth", program_for(4), {"data/0": data, "version": "3\n"})
    same(read_tensors(path).tensors, {"x": torch.tensor([1.0, 2, 3, 4])})
    same({"x": torch.load(path, weights_only=True)["x"]}, {"x": torch.tensor([1.0, 2, 3, 4])})


@pytest.mark.parametrize(
    ("program", "match"),
    [
        (program_for(8, size=8), "beyond its storage"),
        (program_for(4, offset=1), "beyond its storage"),
        (program_for(4, offset=-1), "beyond its storage"),
        (program_for(4, size=3, stride=2), "beyond its storage"),
        (program_for(4, size=2**30, stride=0), None),
        (program_for(4, kind=b"SecretStorage"), "unknown kind"),
        (b"\x80\x02(tR.", "IndexError"),
        (b"\x80\x02t.", "no mark|IndexError"),
        (b"cos\nsystem\nX\x04\x00\x00\x00true\x93.", None),
        (b"\x80\x02}X\x01\x00\x00\x00x(lI1\nP0\n.", "not allowed"),
        (b"garbage", "cannot be read"),
    ],
)
def test_damaged_programs(tmp_path, program, match):
    path = archive(tmp_path / "a.pth", program, {"data/0": bytes(16)})
    if match is None:
        read_tensors(path)  # harmless: no memory is taken, nothing is called
    else:
        with pytest.raises(UserError, match=match):
            read_tensors(path)


def test_nothing_is_called(tmp_path):
    target = tmp_path / "made"
    command = f"touch {target}".encode()
    text = b"X" + struct.pack("<I", len(command)) + command
    call = b"\x80\x02}X\x01\x00\x00\x00xcos\nsystem\n" + text + b"\x85Rs."
    assert read_tensors(archive(tmp_path / "a.pth", call, {})).tensors == {}
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 no archive", b"\xff" * 100, struct.pack("<Q", 2**40) + b"{",
     struct.pack("<Q", 30) + b'{"x": 1}' + b" " * 22,
     struct.pack("<Q", 60) + b'{"x":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(60)],
)  # fmt: skip
def test_other_files(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pth cannot be read"):
        read_tensors(tmp_path / "a.pth")


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_tensors(tmp_path / "none.pth")


def test_compressed_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a/data.pkl", program_for(4))
        out.writestr("a/data/0", bytes(16))
    with pytest.raises(UserError, match="is compressed"):
        read_tensors(tmp_path / "a.pth")
