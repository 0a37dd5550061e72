"""Runs independent jobs in worker processes: locally, or on a Ray cluster.

- Jobs are pure: what they return does not depend on the number of workers, on the order or on the engine.
- A worker that dies (a decoder or a network that crashes the interpreter) costs the job it was running, never the
  run. That job is tried once more at the end, alone; then its result is `Crashed`.
- An error raised by a job, or by the setup of a worker, reaches the caller as it is.
- When the caller stops early (Ctrl-C, an error, a closed generator, the `stop` event) running jobs are killed, not
  awaited. Jobs must therefore write files atomically.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, Literal, TypeVar

from macebench.errors import MacebenchError, UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
EngineName = Literal["local", "ray"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.2
_FAREWELL_S = 5.0
_MAX_FAILED_STARTS = 3


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
        gpus: Share of a GPU that a worker needs on a Ray cluster; local workers see all.
    """

    function: Callable[[Job], Result]
    setup: Callable[..., None] | None = None
    setup_arguments: tuple[Any, ...] = ()
    gpus: float = 0.0


def run_jobs(
    work: Work[Job, Result],
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    engine: EngineName = "local",
    stop: threading.Event | None = None,
    ray_address: str | None = None,
) -> Iterator[tuple[int, Result | Crashed]]:
    """Run all jobs and yield ``(index, result)`` as they finish, in any order.

    Once `stop` is set no further job is started, running ones are killed, and the iterator ends.

    Args:
        work: The function and how a worker prepares for it.
        jobs: One argument of the function each.
        workers: Processes, or actors on a Ray cluster.
        engine: Where they run.
        stop: See above.
        ray_address: Of an existing Ray cluster (``auto`` finds one); None: one is started here, with a processor for
            each worker.

    Raises:
        UserError: `workers` is below 1, Ray is asked for and not installed, or no cluster answers at `ray_address`.
        MacebenchError: worker processes die before they are ready for a job.
        Exception: whatever a job or the setup of a worker raises.
    """
    if workers < 1:
        raise UserError(f"--workers is {workers}; it must be 1 or more.")
    if not jobs:
        return
    stop, workers = stop or threading.Event(), min(workers, len(jobs))
    if engine == "ray":
        yield from _run_ray(work, jobs, workers, stop, ray_address)
    else:
        yield from _run_local(work, jobs, workers, stop)


class _Line:
    """Indices of the jobs that wait for a worker; those whose worker died wait for the end."""

    def __init__(self, count: int) -> None:
        self.fresh = iter(range(count))
        self.n_fresh = count
        self.returned: list[int] = []
        self.again: deque[int] = deque()
        self.tried_again: set[int] = set()

    def take(self, n_running: int) -> int | None:
        """The next job to start, or None; a job is tried again only while no other one runs."""
        if self.returned:
            return self.returned.pop()
        if self.n_fresh:
            self.n_fresh -= 1
            return next(self.fresh)
        if not self.again or n_running:
            return None
        index = self.again.popleft()
        self.tried_again.add(index)
        return index

    def died(self, index: int) -> bool:
        """Note that the worker died during this job; true when the job is given up."""
        if index in self.tried_again:
            return True
        self.again.append(index)
        return False

    def put_back(self, index: int) -> None:
        """Return a job that was taken and never started."""
        self.returned.append(index)
        self.tried_again.discard(index)

    def __len__(self) -> int:
        return self.n_fresh + len(self.returned) + len(self.again)


@dataclass(eq=False)
class _Worker:
    """A process and the pipe to it; `job` is what it is doing, None while it prepares or has nothing to do."""

    process: BaseProcess
    pipe: Connection[Any, Any]
    ready: bool = False
    job: int | None = None

    def end(self, patience_s: float = 0.0) -> None:
        self.pipe.close()
        if self.ready and patience_s:
            self.process.join(patience_s)
        self.process.kill()
        self.process.join()
        self.process.close()


class _Crew:
    """The worker processes of one run."""

    def __init__(self, work: Work[Any, Any]) -> None:
        self.work = work
        self.workers: list[_Worker] = []
        self.failed_starts = 0

    @property
    def n_running(self) -> int:
        return sum(worker.job is not None for worker in self.workers)

    def fill(self, size: int) -> None:
        """Start processes until there are `size`."""
        while len(self.workers) < size:
            context = get_context("spawn")
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, os.getpid()), daemon=True)
            with _worker_environment():
                process.start()
            self.workers.append(_Worker(process, here))
            there.close()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # noticed when its answer is read
                here.send(self.work)

    def assign(self, line: _Line, jobs: Sequence[Any]) -> None:
        """Give every idle worker a job."""
        for worker in self.workers:
            if not worker.ready or worker.job is not None:
                continue
            worker.job = line.take(self.n_running)
            if worker.job is None:
                return
            try:
                worker.pipe.send(jobs[worker.job])
            except (BrokenPipeError, ConnectionResetError):  # it died while it had nothing to do
                line.put_back(worker.job)
                worker.job = None

    def heard(self) -> list[_Worker]:
        """Workers that have answered or died."""
        pipes = wait([worker.pipe for worker in self.workers], _POLL_S)
        return [worker for worker in self.workers if worker.pipe in pipes]

    def bury(self, worker: _Worker) -> None:
        """Remove a dead worker.

        Raises:
            MacebenchError: several in a row died before they were ready.
        """
        self.workers.remove(worker)
        worker.end()
        self.failed_starts += not worker.ready
        if self.failed_starts >= _MAX_FAILED_STARTS:
            raise MacebenchError("worker processes die while they start.")

    def end(self, patience_s: float = 0.0) -> None:
        """End every process: kill it, or let it leave by itself within `patience_s` seconds."""
        for worker in self.workers:
            worker.pipe.close()
        while self.workers:
            self.workers.pop().end(patience_s)


def _run_local(
    work: Work[Job, Result], jobs: Sequence[Job], workers: int, stop: threading.Event
) -> Iterator[tuple[int, Result | Crashed]]:
    line, crew = _Line(len(jobs)), _Crew(work)
    try:
        while (line or crew.n_running) and not stop.is_set():
            crew.fill(min(workers, len(line) + crew.n_running))
            crew.assign(line, jobs)
            for worker in crew.heard():
                if stop.is_set():
                    break
                finished = _answer(crew, worker, line)
                crew.assign(line, jobs)  # workers go on while the caller handles the result
                if finished is not None:
                    yield finished
        if not stop.is_set():
            crew.end(_FAREWELL_S)
    finally:
        crew.end()


def _answer(crew: _Crew, worker: _Worker, line: _Line) -> tuple[int, Any] | None:
    """Read what a worker has to say: it is ready, it has a result or an error, or it is dead. Results come back."""
    index = worker.job
    try:
        value, error = worker.pipe.recv()
    except (EOFError, OSError):
        crew.bury(worker)
        return (index, Crashed()) if index is not None and line.died(index) else None
    if error is not None:
        raise error
    worker.ready, worker.job, crew.failed_starts = True, None, 0
    return None if index is None else (index, value)


def _serve(pipe: Connection[Any, Any], parent: int) -> None:
    """Main function of a worker: receives the work, says that it is ready, then one job after the other."""
    _tie_to(parent)
    function: Callable[[Any], Any] = _prepare
    while True:
        try:
            message = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        answer, value = _try(function, message)
        if function is _prepare and value is not None:
            function, answer = value.function, _packed(None, None)
        pipe.send_bytes(answer)


def _prepare(work: Work[Any, Any]) -> Work[Any, Any]:
    if work.setup is not None:
        work.setup(*work.setup_arguments)
    return work


def _try(function: Callable[[Any], Any], message: bytes) -> tuple[bytes, Any]:
    """The answer to a message as bytes, and the value of the function; any error becomes the answer."""
    try:
        value = function(ForkingPickler.loads(message))
        return _packed(value, None), value
    except Exception as error:  # noqa: BLE001 - the caller of run_jobs raises it
        return _packed_error(error), None


def _packed(value: Any, error: Exception | None) -> bytes:
    return bytes(ForkingPickler.dumps((value, error)))


def _packed_error(error: Exception) -> bytes:
    """The error with the worker's traceback as a note; one that cannot travel becomes a `MacebenchError`."""
    error.add_note("In a worker:\n" + "".join(traceback.format_exception(error)))
    try:
        packed = _packed(None, error)
        ForkingPickler.loads(packed)
    except Exception:  # noqa: BLE001 - pickling runs code of the error's class
        return _packed(None, MacebenchError(f"{type(error).__name__}: {error}"))
    return packed


def _tie_to(parent: int) -> None:
    """Leave Ctrl-C to the parent, and die with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


_environment_lock = threading.Lock()


@contextlib.contextmanager
def _worker_environment() -> Iterator[None]:
    """What a worker inherits: numeric libraries use one thread each, and Ctrl-C waits until it can be ignored."""
    with _environment_lock:
        before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if sys.platform != "win32" else None
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value
            if sys.platform != "win32" and mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _run_ray(
    work: Work[Job, Result], jobs: Sequence[Job], workers: int, stop: threading.Event, address: str | None
) -> Iterator[tuple[int, Result | Crashed]]:
    """The same contract on Ray actors, one job each; an actor that dies is replaced."""
    ray = _start_ray(workers, address)
    new_actor = ray.remote(num_cpus=1, num_gpus=work.gpus, max_restarts=0)(_RayWorker).remote
    line = _Line(len(jobs))
    idle: list[Any] = []
    busy: dict[Any, tuple[int, Any]] = {}
    try:
        while (line or busy) and not stop.is_set():
            while len(busy) < workers and (index := line.take(len(busy))) is not None:
                actor = idle.pop() if idle else new_actor(work)
                busy[actor.run.remote(jobs[index])] = index, actor
            while idle:  # nothing to do for them: after a node was lost, another actor may wait for their place
                ray.kill(idle.pop())
            for done in ray.wait(list(busy), num_returns=1, timeout=_POLL_S)[0]:
                index, actor = busy.pop(done)
                try:
                    result = _ray_result(ray, done)
                except ray.exceptions.RayActorError:
                    ray.kill(actor)
                    if line.died(index):
                        yield index, Crashed()
                    continue
                idle.append(actor)
                yield index, result
    finally:
        for actor in [*idle, *(actor for _, actor in busy.values())]:
            ray.kill(actor)


def _start_ray(workers: int, address: str | None) -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs Ray.", hint='`pip install -e ".[ray]"` installs it.') from error
    if ray.is_initialized():
        return ray
    if address is None:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        return ray
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        hint = "Start one with `ray start --head`, or leave --ray-address out: then one is started here."
        raise UserError(f"no Ray cluster answers at {address}: {error}", hint=hint) from error
    return ray


def _ray_result(ray: Any, reference: Any) -> Any:
    """The result; the error of a job comes out as the job raised it."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


class _RayWorker:
    """An actor. What its setup raises is kept for the first job: Ray would only say that the actor died."""

    def __init__(self, work: Work[Any, Any]) -> None:
        self.function = work.function
        self.failure: Exception | None = None
        try:
            _prepare(work)
        except Exception as error:  # noqa: BLE001 - raised by `run`
            self.failure = error

    def run(self, job: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        return self.function(job)
