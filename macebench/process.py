"""Foreign code in a child process: started without a shell, limited, killed as a group, and its output kept.

Systems that cannot be imported beside macebench (mmpose, EDGE, Lodge, VBench and so on) run in an interpreter of
their own. The convention, the *job folder*:

- macebench writes ``job.json`` into a folder: every input path and every setting.
- It starts ``<python> <script> <folder>``.
- The script reads ``job.json``, writes its result files into the same folder and exits 0.
- macebench reads those files as untrusted input: plain files below the folder, capped in size, never pickled.

A child is limited in time (then its whole process group is killed), and where asked in address space. It sees
only an allow-list of environment variables, so that neither ``PYTHONPATH`` nor a token reaches it by accident.
Works on Linux and macOS.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from macebench.errors import UserError

JOB_FILE = "job.json"
TAIL_BYTES = 8192
LOG_BYTES_MAX = 64 * 2**20
RESULT_BYTES_MAX = 512 * 2**20
_POLL_S = 0.02
_DRAIN_S = 5.0
_CHUNK = 65536

ENV_ALLOWED: tuple[str, ...] = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_OFFLINE",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
)  # fmt: skip

# Runs in the child before the foreign program: the limit is set in the process that it binds, and no Python
# code of ours runs between fork and exec, which is not safe in a program with threads.
_LAUNCHER = (
    "import os, resource, sys\n"
    "limit = int(sys.argv[1])\n"
    "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


@dataclass(frozen=True)
class ChildResult:
    """What became of a child process.

    Attributes:
        argv: What was started.
        returncode: Exit status; negative is the number of the signal that ended it.
        timed_out: It ran past its time and was killed.
        wall_s: Seconds from start to end.
        stdout_tail: The last 8 KiB of standard output.
        stderr_tail: The last 8 KiB of standard error.
        peak_rss: Largest resident memory in bytes of the child or of a descendant it waited for.
    """

    argv: tuple[str, ...]
    returncode: int
    timed_out: bool
    wall_s: float
    stdout_tail: str
    stderr_tail: str
    peak_rss: int

    @property
    def ok(self) -> bool:
        """It ended by itself with status 0."""
        return self.returncode == 0 and not self.timed_out

    def reason(self) -> str:
        """Why it failed, short and stable: ``timed out``, ``killed by SIGSEGV`` or ``exit status 3``."""
        if self.timed_out:
            return "timed out"
        if self.returncode < 0:
            known = {item.value: item.name for item in signal.Signals}
            return f"killed by {known.get(-self.returncode, -self.returncode)}"
        return f"exit status {self.returncode}"


class _Drain:
    """Reads one pipe to its end in a thread: the last bytes are kept, the first ones go to the log."""

    def __init__(self, pipe: IO[bytes], log: IO[bytes] | None, lock: threading.Lock) -> None:
        self._pipe, self._log, self._lock = pipe, log, lock
        self._tail = b""
        self._budget = LOG_BYTES_MAX
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        descriptor = self._pipe.fileno()
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(descriptor, _CHUNK):
                self._tail = (self._tail + chunk)[-TAIL_BYTES:]
                self._write(chunk[: self._budget])

    def _write(self, chunk: bytes) -> None:
        if self._log is not None and chunk:
            with self._lock:
                self._log.write(chunk)
            self._budget -= len(chunk)

    def finish(self) -> str:
        """The tail. Does not wait for ever: a descendant that left the group may hold the pipe open."""
        self._thread.join(_DRAIN_S)
        if not self._thread.is_alive():
            self._pipe.close()
        return self._tail.decode("utf-8", errors="replace")


def run_child(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env_allowed: Sequence[str] = ENV_ALLOWED,
    env: Mapping[str, str] | None = None,
    timeout_s: float,
    memory_mb: int | None = None,
    log: Path | None = None,
    needs: str = "",
) -> ChildResult:
    """Run a program to its end.

    Args:
        argv: Program and arguments; the program is a path or a name on the PATH.
        cwd: Working folder; None keeps ours.
        env_allowed: Names of environment variables that the child inherits.
        env: Further variables for the child.
        timeout_s: Wall-clock limit in seconds; past it the child's process group is killed.
        memory_mb: Limit on address space in MiB. CUDA programs reserve far more than they use: leave it None.
        log: File for both outputs (at most 64 MiB of each), or None.
        needs: What to get when program or script is missing; becomes the hint of the error.

    Raises:
        UserError: the program or the working folder does not exist, or cannot be started.
    """
    command = tuple(str(item) for item in argv)
    program = _program(command, env_allowed, needs)
    if cwd is not None and not Path(cwd).is_dir():
        raise UserError(f"folder {cwd} does not exist.", hint=needs)
    full = (program, *command[1:])
    if memory_mb is not None:
        full = (sys.executable, "-I", "-S", "-c", _LAUNCHER, str(memory_mb * 2**20), *full)
    variables = {name: os.environ[name] for name in env_allowed if name in os.environ} | dict(env or {})
    with contextlib.ExitStack() as stack:
        sink = None if log is None else stack.enter_context(Path(log).open("wb"))
        start = time.monotonic()
        try:
            child = subprocess.Popen(
                full, cwd=cwd, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, start_new_session=True, close_fds=True,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"{command[0]} cannot be started: {error.strerror}.", hint=needs) from error
        return _collect(child, command, sink, start, timeout_s)


def _collect(
    child: subprocess.Popen[bytes],
    command: tuple[str, ...],
    sink: IO[bytes] | None,
    start: float,
    timeout_s: float,
) -> ChildResult:
    if child.stdout is None or child.stderr is None:
        raise RuntimeError("child process without pipes")
    lock = threading.Lock()
    drains = [_Drain(pipe, sink, lock) for pipe in (child.stdout, child.stderr)]
    try:
        status, peak, timed_out = _wait(child, start + timeout_s)
    except BaseException:
        _kill_group(child.pid)
        child.wait()
        raise
    wall_s = time.monotonic() - start
    _kill_group(child.pid)  # what the child left behind
    out, err = (drain.finish() for drain in drains)
    return ChildResult(command, status, timed_out, wall_s, out, err, peak)


def _wait(child: subprocess.Popen[bytes], deadline: float) -> tuple[int, int, bool]:
    """(exit status, peak resident bytes, timed out) of a child, killed when the deadline has passed."""
    timed_out = False
    while True:
        pid, status, usage = os.wait4(child.pid, 0 if timed_out else os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            timed_out = True
            _kill_group(child.pid)
        else:
            time.sleep(_POLL_S)
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return child.returncode, usage.ru_maxrss * unit, timed_out


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _program(command: tuple[str, ...], env_allowed: Sequence[str], needs: str) -> str:
    """The absolute path of the program; for an interpreter the script must exist too."""
    if not command:
        raise UserError("no program to run.", hint=needs)
    found = shutil.which(command[0], path=os.environ.get("PATH") if "PATH" in env_allowed else os.defpath)
    if found is None:
        raise UserError(f"program {command[0]} does not exist or cannot be executed.", hint=needs)
    if len(command) > 1 and command[1].endswith(".py") and not Path(command[1]).is_file():
        raise UserError(f"script {command[1]} does not exist.", hint=needs)
    return os.path.abspath(found)


def require_success(result: ChildResult, what: str, *, hint: str = "") -> ChildResult:
    """The result itself when it is a success.

    Raises:
        UserError: names `what`, the reason and the last line the child wrote to standard error.
    """
    if result.ok:
        return result
    lines = [line for line in result.stderr_tail.splitlines() if line.strip()]
    said = f": {lines[-1].strip()[:300]}" if lines else ""
    raise UserError(f"{what} failed ({result.reason()}){said}", hint=hint)


def write_job(folder: Path, job: Mapping[str, Any]) -> Path:
    """Write ``job.json`` into `folder` (made when missing) and return its path."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / JOB_FILE
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(job, sort_keys=True, indent=1, allow_nan=False), "utf-8")
    os.replace(temporary, path)
    return path


def run_job(
    python: Path,
    script: Path,
    folder: Path,
    job: Mapping[str, Any],
    *,
    timeout_s: float,
    memory_mb: int | None = None,
    env: Mapping[str, str] | None = None,
    needs: str = "",
) -> ChildResult:
    """Write the job folder and run ``<python> <script> <folder>``; both outputs go to ``folder/log.txt``.

    Raises:
        UserError: interpreter or script does not exist; the hint is `needs`.
    """
    write_job(folder, job)
    argv = (python, script, Path(folder).resolve())
    return run_child(argv, env=env, timeout_s=timeout_s, memory_mb=memory_mb, log=Path(folder) / "log.txt", needs=needs)


def result_path(folder: Path, name: str, *, size_max: int = RESULT_BYTES_MAX) -> Path:
    """The path of the result file `name` that a child has written into its job folder.

    Raises:
        UserError: it is not there, is no plain file, lies outside the folder, or is larger than `size_max` bytes.
    """
    path = Path(folder) / name
    if path.is_symlink() or not path.resolve().is_relative_to(Path(folder).resolve()) or not path.is_file():
        raise UserError(f"result file {name} is missing in {folder}.", hint=f"{Path(folder) / 'log.txt'} says why.")
    size = path.stat().st_size
    if size > size_max:
        raise UserError(f"result file {path} has {size} bytes, allowed are {size_max}.")
    return path


def read_json_result(folder: Path, name: str = "result.json", *, size_max: int = 16 * 2**20) -> dict[str, Any]:
    """The JSON object that a child wrote.

    Raises:
        UserError: it is missing, too large, or no JSON object.
    """
    path = result_path(folder, name, size_max=size_max)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"result file {path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"result file {path} holds {type(value).__name__}, expected an object.")
    return value
