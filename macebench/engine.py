"""Runs independent jobs in worker processes: locally, or on a Ray cluster.

Jobs are pure: what they return does not depend on the number of workers, on the order or on the engine.
A worker that dies (a decoder or a network that crashes the interpreter) costs the job it was running,
never the run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Generic, Literal, TypeVar

from macebench.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
EngineName = Literal["local", "ray"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Crashed:
    """Stands for the result of a job whose worker died twice."""

    reason: str = "worker crashed"


@dataclass(frozen=True)
class Work(Generic[Job, Result]):
    """A function, and how a worker prepares for it.

    Attributes:
        function: Top-level function of one job.
        setup: Top-level function called once in every worker, or None.
        setup_arguments: Its arguments.
    """

    function: Callable[[Job], Result]
    setup: Callable[..., None] | None = None
    setup_arguments: tuple[Any, ...] = ()


def run_jobs(
    work: Work[Job, Result], jobs: Sequence[Job], *, workers: int = 1, engine: EngineName = "local"
) -> Iterator[tuple[int, Result | Crashed]]:
    """Run all jobs and yield ``(index, result)`` as they finish, in any order.

    Raises:
        UserError: `workers` is below 1, or Ray is asked for and not installed.
    """
    if workers < 1:
        raise UserError(f"--workers is {workers}; it must be 1 or more.")
    if engine == "ray":
        yield from _run_ray(work, jobs, workers)
        return
    waiting = list(range(len(jobs)))
    while waiting:
        suspects: list[int] = []
        for index, result in _run_pool(work, jobs, waiting, workers):
            if isinstance(result, Crashed):
                suspects.append(index)
            else:
                waiting.remove(index)
                yield index, result
        for index in suspects:
            waiting.remove(index)
            yield from _run_pool(work, jobs, [index], 1)


def _run_pool(
    work: Work[Job, Result], jobs: Sequence[Job], indices: Sequence[int], workers: int
) -> Iterator[tuple[int, Result | Crashed]]:
    """One pool until it is done or breaks; a broken pool reports the jobs in flight as crashed and stops."""
    queue = list(reversed(indices))
    flying: dict[Future[Result], int] = {}
    with _quiet_threads(), _pool(work, min(workers, len(indices))) as pool:
        while queue or flying:
            while queue and len(flying) < workers + 1:
                index = queue.pop()
                flying[pool.submit(work.function, jobs[index])] = index
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            broken = any(isinstance(future.exception(), BrokenProcessPool) for future in done)
            for future in [f for f in done if not isinstance(f.exception(), BrokenProcessPool)]:
                yield flying.pop(future), future.result()
            if broken:
                for index in flying.values():
                    yield index, Crashed()
                return


def _pool(work: Work[Any, Any], workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        max_workers=workers,
        mp_context=get_context("spawn"),
        initializer=_prepare_worker,
        initargs=(os.getpid(), work.setup, work.setup_arguments),
    )


def _prepare_worker(parent: int, setup: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Runs first in every worker: one thread a worker, Ctrl-C left to the parent, death with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    if setup is not None:
        setup(*arguments)


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


class _quiet_threads:  # noqa: N801 - reads as a statement
    """While workers are started, numeric libraries are told to use one thread each."""

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run_ray(work: Work[Job, Result], jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Result | Crashed]]:
    """The same contract on Ray actors; an actor that dies is replaced."""
    try:
        import ray
        from ray.util.actor_pool import ActorPool
    except ImportError as error:
        raise UserError("--engine ray needs Ray.", hint='`pip install -e ".[ray]"` installs it.') from error
    if not ray.is_initialized():
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    remote = ray.remote(num_cpus=1, max_restarts=2, max_task_retries=1)(_RayWorker)
    pool = ActorPool([remote.remote(work) for _ in range(min(workers, max(len(jobs), 1)))])
    for index, job in enumerate(jobs):
        pool.submit(lambda actor, value: actor.run.remote(*value), (index, job))
    while pool.has_next():
        yield pool.get_next_unordered()


class _RayWorker:
    def __init__(self, work: Work[Any, Any]) -> None:
        self.work = work
        if work.setup is not None:
            work.setup(*work.setup_arguments)

    def run(self, index: int, job: Any) -> tuple[int, Any]:
        return index, self.work.function(job)
