import os
import signal
import sys
from pathlib import Path

import pytest

from macebench.engine import Crashed, Work, run_jobs
from macebench.errors import UserError

HERE = str(Path(__file__).parent)


def jobs_module(tmp_path, monkeypatch):
    """Jobs must be importable in spawned workers: write them to a module of their own."""
    (tmp_path / "engine_jobs.py").write_text(
        "import os, signal\n"
        "offset = 0\n"
        "def setup(value):\n    global offset\n    offset = value\n"
        "def add(job):\n    return job + offset\n"
        "def die_on_three(job):\n"
        "    if job == 3:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return job\n"
        "def fail(job):\n    raise ValueError(f'job {job}')\n"
        "def threads(job):\n    return os.environ['OMP_NUM_THREADS']\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    sys.modules.pop("engine_jobs", None)
    import engine_jobs

    return engine_jobs


@pytest.mark.parametrize("workers", [1, 3])
def test_results_do_not_depend_on_the_number_of_workers(tmp_path, monkeypatch, workers):
    jobs = jobs_module(tmp_path, monkeypatch)
    found = dict(run_jobs(Work(jobs.add, jobs.setup, (100,)), list(range(7)), workers=workers))
    assert found == {i: i + 100 for i in range(7)}


def test_a_worker_that_dies_costs_one_job(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    found = dict(run_jobs(Work(jobs.die_on_three), list(range(6)), workers=2))
    assert found[3] == Crashed("worker crashed")
    assert {k: v for k, v in found.items() if k != 3} == {i: i for i in (0, 1, 2, 4, 5)}


def test_an_error_in_a_job_reaches_the_caller(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="job 0"):
        list(run_jobs(Work(jobs.fail), [0]))


def test_workers_use_one_thread_each_and_the_parent_keeps_its_own(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert list(run_jobs(Work(jobs.threads), [0])) == [(0, "1")]
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_no_jobs_and_no_workers(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    assert list(run_jobs(Work(jobs.add), [])) == []
    with pytest.raises(UserError, match="--workers is 0"):
        list(run_jobs(Work(jobs.add), [1], workers=0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    jobs = jobs_module(tmp_path, monkeypatch)
    found = dict(run_jobs(Work(jobs.add, jobs.setup, (100,)), list(range(5)), workers=2, engine="ray"))
    import ray

    ray.shutdown()
    assert found == {i: i + 100 for i in range(5)}


@pytest.mark.slow
def test_workers_end_when_the_parent_is_killed(tmp_path):
    import subprocess
    import time

    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from macebench.engine import Work, run_jobs\n"
        "def job(path):\n    open(path, 'w').write(str(os.getpid()))\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n    import sys\n    list(run_jobs(Work(job), [sys.argv[1]]))\n"
    )
    pid_file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, str(script), str(pid_file)])
    for _ in range(200):
        if pid_file.is_file() and pid_file.read_text():
            break
        time.sleep(0.1)
    worker = int(pid_file.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(50):
        if not Path(f"/proc/{worker}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()
