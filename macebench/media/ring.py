"""The child's end of the shared memory: a ring of slots with back-pressure.

The decoder fills a slot while the parent copies another one or works; when all are full it
waits. `Stopped` leaves a request whose answer nobody wants any more.
"""

from __future__ import annotations

import collections
import mmap
import os
import queue
from collections.abc import Callable
from typing import Any

import numpy as np

from macebench.media.wire import N_SLOTS, Message
from macebench.types import Array


class Stopped(Exception):  # noqa: N818 - a signal, not a failure
    """The parent wants no more of this answer."""


class Ring:
    """Slots of shared memory for the answer to one request.

    Args:
        memory: File descriptor of the shared memory.
        commands: What the parent sent, in order.
        send: Sends one message to the parent.
    """

    def __init__(self, memory: int, commands: queue.SimpleQueue[Message], send: Callable[..., None]) -> None:
        self._memory, self._commands, self._send = memory, commands, send
        self._free: collections.deque[int] = collections.deque()
        self._map: mmap.mmap | None = None
        self._slot_bytes = 0

    def open(self, slot_bytes: int, **head: Any) -> None:
        """Make `N_SLOTS` slots of `slot_bytes` and tell the parent."""
        total = slot_bytes * N_SLOTS
        if os.fstat(self._memory).st_size < total:
            os.ftruncate(self._memory, total)
        self._map = mmap.mmap(self._memory, total)
        self._slot_bytes = slot_bytes
        self._free.extend(range(N_SLOTS))
        self._send("head", slot_bytes=slot_bytes, **head)

    def view(self, slot: int) -> Array:
        """(slot_bytes,) uint8 of one slot, writable."""
        if self._map is None:
            raise RuntimeError("the ring is not open")
        return np.frombuffer(self._map, np.uint8, self._slot_bytes, slot * self._slot_bytes)

    def acquire(self) -> int:
        """A free slot; waits for one. Raises `Stopped`."""
        while not self._commands.empty() or not self._free:
            command = self._commands.get()
            if command["kind"] != "free":
                raise Stopped
            self._free.append(int(command["slot"]))
        return self._free.popleft()

    def send(self, slot: int, **fields: Any) -> None:
        """Hand a filled slot to the parent."""
        self._send("slot", slot=slot, **fields)
