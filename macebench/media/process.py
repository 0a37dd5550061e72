"""The parent's end of a decoder process: starting, talking with a time limit, ending without a trace."""

from __future__ import annotations

import collections
import contextlib
import mmap
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.media.wire import MAX_LINE_BYTES, OUT_OF_MEMORY, Message, decode, encode

_START_S = 120.0
_CLOSED = "the decoder was closed"
_GOODBYE_S = 2.0
_NO_MEMORY = ("MemoryError", "bad_alloc", "annot allocate memory")


class ChildGone(Exception):  # noqa: N818 - the caller turns it into a reason
    """The decoder process ended, or talks nonsense."""


class ChildProcess:
    """A running decoder process.

    Args:
        memory_mb: Limit of its address space.

    Raises:
        UserError: it does not start.
    """

    def __init__(self, memory_mb: int) -> None:
        self._owner = os.getpid()
        self._memory = _shared_memory()
        self._map: mmap.mmap | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        output, child_output = os.pipe()
        self._output = output
        self._lines: collections.deque[bytes] = collections.deque()
        self._rest = b""
        try:
            self._process = self._spawn(child_output, memory_mb)
        finally:
            os.close(child_output)
        self._selector = selectors.DefaultSelector()
        self._selector.register(output, selectors.EVENT_READ)
        self._await_ready(memory_mb)

    def _spawn(self, output: int, memory_mb: int) -> subprocess.Popen[bytes]:
        # The kernel ties a child to the *thread* that made it, so only the main thread asks for it.
        tied = threading.current_thread() is threading.main_thread()
        arguments = [output, self._memory, memory_mb, os.getpid(), int(tied)]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "macebench.media.child", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            pass_fds=(output, self._memory),
            env=_environment(),
            bufsize=0,
        )

    def _await_ready(self, memory_mb: int) -> None:
        try:
            ready = self.receive(_START_S)
        except ChildGone as error:
            ready, detail = None, str(error)
        else:
            detail = f"no answer within {_START_S:.0f} s"
        if ready is None:
            self.kill()
            raise UserError(
                f"The decoder process does not start with {memory_mb} MiB of address space: {detail}",
                hint="Give it more with Limits(memory_mb=...), or check the installation of PyAV and numpy.",
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """True while it runs and belongs to this process (and not to one that this was forked from)."""
        return self._owner == os.getpid() and self._process.poll() is None

    def send(self, message: Message) -> None:
        """Send one line. Raises `ChildGone`."""
        line = encode(message)
        if self._output < 0 or self._process.stdin is None:
            raise ChildGone(_CLOSED)
        try:
            while line:
                line = line[self._process.stdin.write(line) or 0 :]
        except OSError as error:
            raise ChildGone(self.obituary()) from error

    def receive(self, timeout_s: float) -> Message | None:
        """The next message; None when none came in time. Raises `ChildGone`."""
        if self._output < 0:
            raise ChildGone(_CLOSED)
        deadline = time.monotonic() + timeout_s
        while not self._lines:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                return None
            data = os.read(self._output, 1 << 16)
            if not data or len(self._rest) + len(data) > MAX_LINE_BYTES:
                raise ChildGone(self.obituary())
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines.extend(lines)
        try:
            return decode(self._lines.popleft())
        except ValueError as error:
            raise ChildGone("it sent what is no message") from error

    def memory(self, size: int) -> mmap.mmap:
        """The first `size` bytes of the shared memory. Raises `ChildGone` when there are fewer."""
        if os.fstat(self._memory).st_size < size:
            raise ChildGone("the shared memory is too small")
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self._memory, size)
        return self._map

    def obituary(self) -> str:
        """How it ended: signal or exit code, and the last it said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOODBYE_S)
        code = self._process.returncode
        end = f"exit code {code}"
        with contextlib.suppress(ValueError):
            if code is not None and code < 0:
                end = f"signal {signal.Signals(-code).name}"
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 300))
        said = " ".join(self._errors.read().decode("utf-8", "replace").split())
        return f"{end}: {said}" if said else end

    def kill(self) -> None:
        """End it now, collect it and close every descriptor. May be called twice."""
        if self._owner == os.getpid():
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GOODBYE_S)
        self._release()

    def close(self) -> None:
        """Let it leave by itself, or end it when it does not."""
        if self._owner == os.getpid() and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GOODBYE_S)
        self.kill()

    def _release(self) -> None:
        if self._output < 0:
            return
        self._selector.close()
        os.close(self._output)
        os.close(self._memory)
        self._output = self._memory = -1
        self._map = None
        self._errors.close()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self._process.returncode is None:
            self._process.returncode = -signal.SIGKILL


def reason_of(obituary: str) -> str:
    """The reason to show for a process that ended with this obituary."""
    return OUT_OF_MEMORY if any(word in obituary for word in _NO_MEMORY) else "decoder crashed"


def copy_out(memory: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array of its own with what lies at `offset` of the shared memory."""
    count = int(np.prod(shape))
    return np.frombuffer(memory, dtype, count, offset).reshape(shape).copy()


def _shared_memory() -> int:
    """Descriptor of anonymous memory that can grow but, where the system allows it, not shrink."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    import fcntl

    handle = os.memfd_create("macebench-decoder", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return handle


def _environment() -> dict[str, str]:
    """The parent's environment with one thread for numpy and this package on the path."""
    import macebench

    root = str(Path(macebench.__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH")
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([root, path] if path else [root]),
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
