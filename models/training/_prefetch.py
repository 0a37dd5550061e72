"""Batches made one step ahead in a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Calls `make` for each of `steps` in order, up to `ahead` of them before they are asked for.

    Use it as a context manager: leaving it ends the thread. An error of `make` is raised by `get`.
    """

    def __init__(self, make: Callable[[int], T], steps: Iterable[int], ahead: int = 3) -> None:
        self._make = make
        self._steps = steps
        self._ready: queue.Queue[tuple[int, T | None, BaseException | None]] = queue.Queue(ahead)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="macebench-batches", daemon=True)

    def __enter__(self) -> Prefetch[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def get(self, step: int) -> T:
        """The batch of `step`; steps are asked for in their order.

        Raises:
            RuntimeError: another step is next.
        """
        at, made, error = self._ready.get()
        if error is not None:
            raise error
        if at != step or made is None:
            raise RuntimeError(f"step {step} was asked for, step {at} is next")
        return made

    def _work(self) -> None:
        for step in self._steps:
            try:
                item: tuple[int, T | None, BaseException | None] = (step, self._make(step), None)
            except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that asks
                item = (step, None, error)
            if not self._put(item) or item[2] is not None:
                return

    def _put(self, item: tuple[int, T | None, BaseException | None]) -> bool:
        """Whether the item was taken before the end."""
        while not self._ended.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
