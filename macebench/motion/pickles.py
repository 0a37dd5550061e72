"""Reading the numbers in a pickle without unpickling it.

A pickle is a program; running one from a stranger is running the stranger's code. This module runs none. The standard
library's `pickletools.genops` splits the file into instructions, and a small machine here carries out only those that
build plain containers, numbers, texts and bytes. A name such as ``numpy.ndarray`` becomes a token, never an import. A
call is accepted when its token is one of `KNOWN_NAMES`, and then it makes another token: nothing is imported, no
function of the file's choice is called, no object of a class is made. Anything else is refused before its effect.
numpy arrays are assembled from the bytes in the pickle by `numpy.frombuffer`, after their type and size were checked.

Limits: `MAX_PICKLE_BYTES` of file, `MAX_OPCODES` instructions. Memory stays in proportion to the file: what calls copy
is counted, and arrays are assembled only when they are asked for by name.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from macebench.errors import MediaError
from macebench.motion.arrays import check_file, read_npy_header
from macebench.types import FloatArray

REFUSED = "pickle refused"
MAX_OPCODES = 2_000_000
MAX_PICKLE_BYTES = 2**28
_CODES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})
_NAMES = ("numpy.core.multiarray", "numpy._core.multiarray")
_RECONSTRUCT = frozenset(f"{module} _reconstruct" for module in _NAMES)
_SCALAR = frozenset(f"{module} scalar" for module in _NAMES)
_FROMBUFFER = frozenset({"numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer"})
_EMPTY_BYTES = frozenset({"__builtin__ bytes", "builtins bytes"})
_PLAIN = frozenset({"numpy ndarray", "numpy dtype", "collections OrderedDict", "_codecs encode"})
KNOWN_NAMES: frozenset[str] = _RECONSTRUCT | _SCALAR | _FROMBUFFER | _EMPTY_BYTES | _PLAIN


@dataclass(frozen=True)
class _Name:
    """A global name that the pickle mentions. It is never looked up."""

    text: str


@dataclass
class _DType:
    """A numeric type as the pickle spells it, such as ``f4``, and its byte order."""

    code: str
    order: str = "<"


@dataclass
class _Array:
    """An array as the pickle spells it."""

    shape: Any = ()
    dtype: _DType | None = None
    fortran: bool = False
    data: Any = b""


class _Mark:
    """Where a group of stack items begins."""


_MARK = _Mark()


@dataclass
class _Machine:
    """Stack, memory by number, and how many bytes or items calls may still copy."""

    budget: int
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def spend(self, amount: int) -> None:
        """Count what a call copies; a small file must not fill the memory by copying one text again and again."""
        self.budget -= amount
        if self.budget < 0:
            raise _refused("it copies more than the file holds")

    def pop_to_mark(self) -> list[Any]:
        """The items above the last mark, which goes too."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                items = self.stack[place + 1 :]
                del self.stack[place:]
                return items
        raise _refused("a group without a beginning")

    def pop(self) -> Any:
        """The top item."""
        if not self.stack or self.stack[-1] is _MARK:
            raise _refused("the stack is empty")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        """The top item, which stays; it must be a `kind`."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise _refused("a container was expected")
        return self.stack[-1]


def _refused(detail: str) -> MediaError:
    return MediaError(REFUSED, detail)


def read_pickle(path: Path) -> Any:
    """The plain value in a pickle file, or in a ``.npy`` file that holds a pickled object.

    Dictionaries, lists, tuples, numbers, texts and bytes come as they are; arrays as tokens, for `as_array`.

    Raises:
        MediaError: ``pickle refused`` with what was met, or see `macebench.motion.arrays.check_file`.
    """
    if (size := check_file(path)) > MAX_PICKLE_BYTES:
        raise MediaError("file too large", f"{size} bytes, allowed for a pickle are {MAX_PICKLE_BYTES}")
    data = path.read_bytes()
    if data[:6] != b"\x93NUMPY":
        return run_pickle(data)
    stream = io.BytesIO(data)
    _, _, dtype = read_npy_header(stream)
    if not dtype.hasobject:
        raise _refused("the file holds no pickle")
    value = run_pickle(data[stream.tell() :])
    if isinstance(value, _Array) and isinstance(value.data, list) and len(value.data) == 1:
        return value.data[0]
    raise _refused("the array of objects holds not one object")


def run_pickle(data: bytes) -> Any:
    """Carry out the instructions of a pickle that only build plain values (see the module).

    Raises:
        MediaError: ``pickle refused``.
    """
    machine = _Machine(budget=2 * len(data))
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise _refused(f"more than {MAX_OPCODES} instructions")
            if opcode.name == "STOP":
                break
            action = _ACTIONS.get(opcode.name)
            if action is None:
                raise _refused(f"instruction {opcode.name}")
            action(machine, argument)
        return machine.pop()
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError, AttributeError) as error:
        raise _refused(f"damaged: {error}") from error


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _global(machine: _Machine, argument: Any) -> None:
    _mention(machine, str(argument))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise _refused("a name that is no text")
    _mention(machine, f"{module} {name}")


def _mention(machine: _Machine, text: str) -> None:
    if text not in KNOWN_NAMES:
        raise _refused(f"the file wants {text[:100].replace(' ', '.')!r}")
    _push(machine, _Name(text))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, name = machine.pop(), machine.pop()
    if not (isinstance(name, _Name) and isinstance(arguments, tuple)):
        raise _refused("a call of something that is no known name")
    _push(machine, _call(machine, name.text, arguments))


def _call(machine: _Machine, name: str, arguments: tuple[Any, ...]) -> Any:
    """What a known call stands for: a token, a dictionary or bytes."""
    if name in _RECONSTRUCT and arguments and arguments[0] == _Name("numpy ndarray"):
        return _Array()
    if name == "numpy dtype":
        code = _text(arguments[0])
        return _DType(code.lstrip("<>=|"), ">" if code.startswith(">") else "<")
    if name in _SCALAR:
        return _Array((), _a_dtype(arguments[0]), False, arguments[1])
    if name in _FROMBUFFER:
        return _Array(arguments[2], _a_dtype(arguments[1]), arguments[3] == "F", arguments[0])
    if name in _EMPTY_BYTES and not arguments:
        return b""
    if name == "collections OrderedDict":
        items = arguments[0] if arguments else []
        machine.spend(len(items))
        return _named([part for item in items for part in item])
    if name == "_codecs encode":
        machine.spend(len(_text(arguments[0])))
        return arguments[0].encode("latin-1")
    raise _refused(f"call of {name.replace(' ', '.')}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _refused("a text was expected")
    return value


def _a_dtype(value: Any) -> _DType:
    if not isinstance(value, _DType):
        raise _refused("a type of numbers was expected")
    return value


def _build(machine: _Machine, _: Any) -> None:
    """The state of an array or a type; nothing else may have one."""
    state = machine.pop()
    target = machine.stack[-1] if machine.stack else None
    if isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
        target.shape, target.dtype = state[1], _a_dtype(state[2])
        target.fortran, target.data = bool(state[3]), state[4]
    elif isinstance(target, _DType) and isinstance(state, tuple) and len(state) >= 2:
        if state[1] not in ("<", ">", "|", "="):
            raise _refused(f"byte order {state[1]!r}")
        target.order = state[1]
    else:
        raise _refused("a state for something that may have none")


def _extend(machine: _Machine, items: list[Any]) -> None:
    machine.top(list).extend(items)


def _set_items(machine: _Machine, items: list[Any]) -> None:
    machine.top(dict).update(_named(items))


def _one_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _last(machine: _Machine, count: int) -> None:
    items = [machine.pop() for _ in range(count)]
    _push(machine, tuple(reversed(items)))


def _memoise(machine: _Machine, place: Any) -> None:
    if not machine.stack:
        raise _refused("the stack is empty")
    machine.memo[len(machine.memo) if place is None else int(place)] = machine.stack[-1]


def _append(machine: _Machine, _: Any) -> None:
    value = machine.pop()
    _extend(machine, [value])


def _named(items: list[Any]) -> dict[str, Any]:
    """A dictionary of keys and values in turn; keys are texts, whose hashes nobody can make collide."""
    return dict(zip(map(_text, items[::2]), items[1::2], strict=True))


_Action = Callable[[_Machine, Any], None]
_VALUES = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8",
)  # fmt: skip
_ACTIONS: dict[str, _Action] = {
    **dict.fromkeys(_VALUES, _push),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, argument: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _memoise),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, place: _push(machine, machine.memo[int(place)])),
    "NONE": lambda machine, argument: _push(machine, None),
    "NEWTRUE": lambda machine, argument: _push(machine, True),
    "NEWFALSE": lambda machine, argument: _push(machine, False),
    "MARK": lambda machine, argument: _push(machine, _MARK),
    "EMPTY_LIST": lambda machine, argument: _push(machine, []),
    "EMPTY_DICT": lambda machine, argument: _push(machine, {}),
    "EMPTY_TUPLE": lambda machine, argument: _push(machine, ()),
    "LIST": lambda machine, argument: _push(machine, machine.pop_to_mark()),
    "TUPLE": lambda machine, argument: _push(machine, tuple(machine.pop_to_mark())),
    "DICT": lambda machine, argument: _push(machine, _named(machine.pop_to_mark())),
    "TUPLE1": lambda machine, argument: _last(machine, 1),
    "TUPLE2": lambda machine, argument: _last(machine, 2),
    "TUPLE3": lambda machine, argument: _last(machine, 3),
    "APPEND": _append,
    "APPENDS": lambda machine, argument: _extend(machine, machine.pop_to_mark()),
    "SETITEM": _one_item,
    "SETITEMS": lambda machine, argument: _set_items(machine, machine.pop_to_mark()),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
}


def as_array(value: Any, name: str) -> FloatArray:
    """A value of `read_pickle` as float64: an array, a number or a flat list of numbers.

    Raises:
        MediaError: ``pickle refused``: it is none of these, or its bytes do not fit its shape.
    """
    try:
        if isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value):
            return np.array(value, dtype=np.float64)
        if isinstance(value, int | float):
            return np.array(float(value))
        if isinstance(value, _Array) and value.dtype is not None:
            return _assemble(value, value.dtype, name)
    except (ValueError, OverflowError) as error:
        raise _refused(f"{name}: {error}") from error
    raise _refused(f"{name} is no array of numbers")


def _assemble(value: _Array, spelt: _DType, name: str) -> FloatArray:
    if spelt.code not in _CODES:
        raise _refused(f"{name} has type {spelt.code[:20]!r}, expected numbers")
    dtype = np.dtype(spelt.code).newbyteorder(">" if spelt.order == ">" else "<")
    raw = value.data.encode("latin-1") if isinstance(value.data, str) else value.data
    shape = value.shape if isinstance(value.shape, tuple) else (value.shape,)
    if not isinstance(raw, bytes | bytearray) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise _refused(f"{name} holds no bytes of numbers")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise _refused(f"{name} has {len(raw)} bytes for shape {str(shape)[:80]}")
    array = np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if value.fortran else "C")
    return np.ascontiguousarray(array, dtype=np.float64).reshape(shape)
