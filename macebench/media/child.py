"""The decoder process: ``python -m macebench.media.child``, started by `macebench.media.Decoder` only.

It imports PyAV and numpy, limits its own address space, and answers one request after another until its
parent closes the pipe or dies. What it cannot turn into a reason ends it; the parent starts another one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from macebench.errors import MediaError
from macebench.media.values import Limits
from macebench.media.wire import OUT_OF_MEMORY, Message, decode, encode

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Serve until the parent goes. Arguments: output and memory descriptors, MiB, parent, die with it."""
    output, memory, memory_mb, parent, die_with_it = (int(argument) for argument in arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _tie_to(parent, bool(die_with_it))
    _limit_memory(memory_mb)
    commands: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands,), daemon=True).start()
    answer = _Answers(output, memory, commands)
    answer.ready()
    while True:
        answer.serve(commands.get())


def _tie_to(parent: int, die_with_it: bool) -> None:
    """On Linux the kernel ends this process when the parent is killed."""
    if die_with_it and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _limit_memory(memory_mb: int) -> None:
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 2**20, memory_mb * 2**20))


def _listen(commands: queue.SimpleQueue[Message]) -> None:
    """Pass on commands; leave at once when the parent has gone, whatever the codec is doing."""
    rest = b""
    while data := os.read(0, 1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            commands.put(decode(line))
    os._exit(0)


class _Answers:
    """Answers requests, one at a time."""

    def __init__(self, output: int, memory: int, commands: queue.SimpleQueue[Message]) -> None:
        self._output, self._memory, self._commands = output, memory, commands
        self._request = 0
        self._handlers: dict[str, Callable[..., dict[str, Any]]] = {}

    def ready(self) -> None:
        import av.logging

        from macebench.media import framefolder, pictures, soundtrack, stills

        av.logging.set_level(None)
        self._handlers = {
            "probe": lambda ring, path, limits: {"info": pictures.probe(path, limits)},
            "frames": lambda ring, path, limits, **how: pictures.stream_frames(path, limits, ring, **how),
            "times": lambda ring, path, limits, **how: {"times": pictures.timestamps(path, limits, **how)},
            "probe_folder": lambda ring, path, limits, fps: {"info": framefolder.probe_folder(path, fps, limits)},
            "folder": lambda ring, path, limits, fps, **how: framefolder.stream_folder(path, fps, limits, ring, **how),
            "still": lambda ring, path, limits: stills.stream_still(path, limits, ring),
            "audio": lambda ring, path, limits, **how: soundtrack.stream_sound(path, limits, ring, **how),
        }
        self._send("ready")

    def serve(self, request: Message) -> None:
        """Answer a request; leftovers of an abandoned one are passed over."""
        if request["kind"] not in self._handlers:
            return
        self._request = request["id"]
        try:
            self._send("end", **self._answer(request))
        except MediaError as error:
            self._send("error", reason=error.reason, detail=error.detail[:500])
        except (MemoryError, OSError) as error:
            full = isinstance(error, MemoryError) or error.errno == errno.ENOMEM
            self._send("error", reason=OUT_OF_MEMORY if full else "file not found", detail=str(error)[:500])

    def _answer(self, request: Message) -> dict[str, Any]:
        from av.error import FFmpegError

        from macebench.media.ring import Ring, Stopped

        ring = Ring(self._memory, self._commands, self._send)
        handler = self._handlers[request["kind"]]
        try:
            return handler(ring, request["path"], Limits(**request["limits"]), **request["how"])
        except Stopped:
            return {}
        except FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            raise MediaError("not a media file", error.strerror or str(error)) from error

    def _send(self, kind: str, **fields: Any) -> None:
        line = encode({"kind": kind, "id": self._request, **fields})
        while line:
            line = line[os.write(self._output, line) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
