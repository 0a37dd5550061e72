"""Tensors out of published weights files, without running anything that stands in them.

Three formats are read, chosen by content:

- ``.safetensors``: a JSON header and raw numbers.
- torch's zip format, as `torch.save` and `torch.jit.save` write it: the member ``data.pkl`` says which tensor lies in
  which member ``data/N``. OpenAI's CLIP files are TorchScript archives; `torch.load(weights_only=True)` refuses those
  and `torch.jit.load` would run their code. Here the members below ``code/`` are never opened, and ``data.pkl`` is not
  unpickled: `pickletools.genops` lists its operations and a small interpreter follows those that build containers,
  strings, numbers and tensors. An object of any class becomes a plain mapping of its attributes. A call of anything
  other than the two functions that rebuild tensors leaves an empty placeholder: nothing is ever called.
- torch's older format: `torch.load(weights_only=True)`.

Tensors of the first two formats are mapped, not read: they take no memory until they are used, several processes
share them, and `TensorFile.release` gives their pages back.
"""

from __future__ import annotations

import json
import math
import mmap
import pickletools
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

from macebench.errors import UserError

_HEADER_BYTES_MAX = 2**26
_STORAGES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_SAFE_TYPES = {
    "F32": torch.float32, "F16": torch.float16, "F64": torch.float64, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_WRAPPERS = ("state_dict", "params", "params_ema", "model")


_ERRORS = (
    OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, struct.error,
    zipfile.BadZipFile, UnpicklingError,
)  # fmt: skip


class _DamagedError(ValueError):
    """The file is not what it says it is."""


class _Name(NamedTuple):
    """A class or function that the file names; never looked up."""

    module: str
    name: str


class _Storage(NamedTuple):
    """A run of numbers in the file."""

    dtype: torch.dtype
    member: str


@dataclass
class _Object:
    """An instance of a class that does not exist here."""

    state: Any = None


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file.

    Attributes:
        tensors: Name to tensor; names of nested modules are joined by points. Not to be written to.
        mapping: The mapped file, or None when the tensors were read into memory.
    """

    tensors: Mapping[str, Tensor]
    mapping: mmap.mmap | None = field(default=None, repr=False)

    def release(self, tensor: Tensor) -> None:
        """Give the pages under a mapped tensor back; they return from the file at its next use.

        Pages shared with a neighbour stay. Does nothing where the system has no such call.
        """
        if self.mapping is None or not hasattr(mmap, "MADV_DONTNEED") or tensor.device.type != "cpu":
            return
        start = tensor.data_ptr() - _address(self.mapping)
        end = start + tensor.numel() * tensor.element_size()
        if start < 0 or end > len(self.mapping):
            return  # a copy, not a view of the file
        first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            self.mapping.madvise(mmap.MADV_DONTNEED, first, last - first)


def _address(mapping: mmap.mmap) -> int:
    return torch.frombuffer(mapping, dtype=torch.uint8, count=1).data_ptr()


def read_tensors(path: Path) -> TensorFile:
    """All tensors of a weights file.

    A mapping that wraps them (``state_dict``, ``params``, ``params_ema`` or ``model``) is taken off.

    Raises:
        UserError: the file cannot be read as any of the three formats.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[:4] == b"PK\x03\x04":
            return _read_zip(path)
        if start[8:9] == b"{":
            return _read_safetensors(path)
        tree = torch.load(path, map_location="cpu", weights_only=True)
        return TensorFile(_unwrapped(dict(_flat(tree))))
    except _ERRORS as error:
        what = (str(error).splitlines() or [""])[0][:200]
        raise UserError(f"weights file {path} cannot be read: {type(error).__name__}: {what}") from error


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # torch wants memory that could be written to


def _view(mapping: mmap.mmap, dtype: torch.dtype, start: int, count: int) -> Tensor:
    """`count` numbers from byte `start`; a copy where they are not aligned."""
    size = dtype.itemsize
    if start < 0 or start + count * size > len(mapping):
        raise _DamagedError("a tensor reaches beyond the file")
    if count == 0:
        return torch.empty(0, dtype=dtype)
    if start % size:
        return torch.frombuffer(bytearray(mapping[start : start + count * size]), dtype=dtype)
    return torch.frombuffer(mapping, dtype=dtype, count=count, offset=start)


# ---- safetensors -----------------------------------------------------------------------------------------


def _read_safetensors(path: Path) -> TensorFile:
    mapping = _map(path)
    (length,) = struct.unpack("<Q", mapping[:8])
    if length > min(_HEADER_BYTES_MAX, len(mapping) - 8):
        raise _DamagedError("the header is longer than the file")
    tensors = {}
    for name, row in json.loads(mapping[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        dtype, shape = _SAFE_TYPES[row["dtype"]], [int(size) for size in row["shape"]]
        start, end = row["data_offsets"]
        if min(shape, default=0) < 0 or end - start != math.prod(shape) * dtype.itemsize:
            raise _DamagedError(f"{name} has {end - start} bytes for the shape {shape}")
        tensors[name] = _view(mapping, dtype, 8 + length + start, math.prod(shape)).view(shape)
    return TensorFile(tensors, mapping)


# ---- torch's zip format ----------------------------------------------------------------------------------


def _read_zip(path: Path) -> TensorFile:
    mapping = _map(path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        info = members["data.pkl"]
        if info.file_size > _HEADER_BYTES_MAX:
            raise _DamagedError(f"data.pkl has {info.file_size} bytes")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise _DamagedError("the numbers are big-endian")
        program = archive.read(info)

    def storage(member: str, dtype: torch.dtype) -> Tensor:
        info = members[f"data/{member}"]
        if info.compress_type != zipfile.ZIP_STORED:
            raise _DamagedError(f"data/{member} is compressed")
        name, extra = struct.unpack("<HH", mapping[info.header_offset + 26 : info.header_offset + 30])
        start = info.header_offset + 30 + name + extra
        return _view(mapping, dtype, start, info.file_size // dtype.itemsize)

    tree = _Interpreter(storage).run(program)
    return TensorFile(_unwrapped(dict(_flat(tree))), mapping)


def _flat(tree: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of everything below mappings and objects."""
    if depth > 100:
        raise _DamagedError("containers are nested too deeply")
    if isinstance(tree, _Object):
        tree = tree.state
    if isinstance(tree, Tensor):
        yield prefix, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key), depth + 1)


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for name in _WRAPPERS:
        if tensors and all(key.startswith(f"{name}.") for key in tensors):
            return {key[len(name) + 1 :]: value for key, value in tensors.items()}
    return tensors


_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "INT", "LONG", "FLOAT", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING",
}  # fmt: skip
_IGNORED = {"PROTO", "FRAME", "STOP"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Interpreter:
    """Follows the operations of ``data.pkl`` that build data; everything else is an error."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        """What the program builds."""
        for operation, argument, _ in pickletools.genops(program):
            self._step(operation.name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name not in _IGNORED:
            handler = getattr(self, f"_op_{name.lower()}", None)
            if handler is None:
                raise _DamagedError(f"operation {name} is not allowed")
            handler(argument)

    def _to_mark(self) -> list[Any]:
        """Everything above the last mark; both are taken off."""
        index = len(self._stack) - 1
        while self._stack[index] is not _MARK:
            index -= 1
            if index < 0:
                raise _DamagedError("no mark")
        items = self._stack[index + 1 :]
        del self._stack[index:]
        return items

    def _op_mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _op_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._to_mark()))

    def _op_list(self, _: Any) -> None:
        self._stack.append(self._to_mark())

    def _op_dict(self, _: Any) -> None:
        items = self._to_mark()
        self._stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _op_pop(self, _: Any) -> None:
        self._stack.pop()

    def _op_append(self, _: Any) -> None:
        value = self._stack.pop()
        self._stack[-1].append(value)

    def _op_appends(self, _: Any) -> None:
        items = self._to_mark()
        self._stack[-1].extend(items)

    def _op_setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._stack[-1][key] = value

    def _op_setitems(self, _: Any) -> None:
        items = self._to_mark()
        self._stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _op_binput(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _op_long_binput = _op_put = _op_binput

    def _op_memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _op_binget(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _op_long_binget = _op_get = _op_binget

    def _op_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(_Name(module, name))

    def _op_stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(_Name(str(module), str(name)))

    def _op_binpersid(self, _: Any) -> None:
        kind, storage, member, *_rest = self._stack.pop()
        if kind != "storage" or not isinstance(storage, _Name) or storage.name not in _STORAGES:
            raise _DamagedError("an unknown kind of storage")
        self._stack.append(_Storage(_STORAGES[storage.name], str(member)))

    def _op_newobj(self, _: Any) -> None:
        del self._stack[-2:]
        self._stack.append(_Object())

    def _op_build(self, _: Any) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], _Object):
            self._stack[-1].state = state

    def _op_reduce(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self._rebuilt(function, arguments))

    def _rebuilt(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if function == _Name("torch._utils", "_rebuild_tensor_v2"):
            storage, offset, shape, stride = arguments[:4]
            return self._tensor(storage, offset, shape, stride)
        if function == _Name("torch._utils", "_rebuild_parameter"):
            return arguments[0]
        if function == _Name("collections", "OrderedDict"):
            return {}
        return _Object()

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> Tensor:
        if not isinstance(storage, _Storage):
            raise _DamagedError("a tensor without a storage")
        sizes, steps, first = [int(size) for size in shape], [int(step) for step in stride], int(offset)
        numbers: Tensor = self._storage(storage.member, storage.dtype)
        last = first + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
        if min([first, *sizes, *steps]) < 0 or (0 not in sizes and last >= numbers.numel()):
            raise _DamagedError("a tensor reaches beyond its storage")
        return numbers.as_strided(sizes, steps, first)
