import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from macebench.engine import Crashed, Work, _answer, _Crew, _Line, run_jobs
from macebench.errors import MacebenchError, UserError

HERE = str(Path(__file__).parent)


def jobs_module(tmp_path, monkeypatch):
    """Jobs must be importable in spawned workers: write them to a module of their own."""
    (tmp_path / "engine_jobs.py").write_text(
        "import os, signal, time\n"
        "from pathlib import Path\n"
        "offset = 0\n"
        "def setup(value):\n    global offset\n    offset = value\n"
        "def add(job):\n    return job + offset\n"
        "def die_on_three(job):\n"
        "    if job == 3:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return job\n"
        "def fail(job):\n    raise ValueError(f'job {job}')\n"
        "class Odd(Exception):\n"
        "    def __init__(self, one, two):\n        super().__init__(f'{one} {two}')\n"
        "def fail_oddly(job):\n    raise Odd('very', 'odd')\n"
        "def bad_setup(name):\n    import not_a_plugin\n"
        "def dying_setup():\n    os._exit(3)\n"
        "def die_in_setup_once(folder):\n"
        "    try:\n        os.mkdir(folder)\n    except FileExistsError:\n        return\n    os._exit(3)\n"
        "def pid(job):\n    return os.getpid()\n"
        "def die_the_first_time(folder):\n"
        "    try:\n        os.mkdir(folder)\n    except FileExistsError:\n        return 'second'\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def note_and_sleep(job):\n"
        "    path, seconds = job\n"
        "    Path(path).with_suffix('.new').write_text(str(os.getpid()))\n"
        "    Path(path).with_suffix('.new').rename(path)\n"
        "    time.sleep(seconds)\n    return path\n"
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


def gone(pid):
    """Wait up to five seconds for the end of a process."""
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.1)
    return False


def wait_for(path):
    for _ in range(200):
        if path.is_file():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")


def test_a_worker_that_dies_while_the_caller_is_busy(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    found = {}
    for index, pid in run_jobs(Work(jobs.pid), list(range(5)), workers=1):
        found[index] = pid
        if len(found) == 2:
            os.kill(pid, signal.SIGKILL)
            assert gone_or_zombie(pid)
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert all(isinstance(pid, int) for pid in found.values())
    assert len(set(found.values())) == 2


def test_a_job_meant_for_a_worker_that_died_idle_has_not_been_tried(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    crew, line = _Crew(Work(jobs.add)), _Line(1)
    try:
        crew.fill(1)
        while not crew.workers[0].ready:
            for worker in crew.heard():
                _answer(crew, worker, line)
        crew.workers[0].process.kill()
        crew.workers[0].process.join()
        crew.assign(line, [7])
        assert (len(line), list(line.again)) == (1, [])
        assert line.take(1) == 0
        assert crew.n_running == 0
    finally:
        crew.end()


def gone_or_zombie(pid):
    for _ in range(50):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_job_whose_worker_died_is_tried_once_more(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    assert list(run_jobs(Work(jobs.die_the_first_time), [str(tmp_path / "once")])) == [(0, "second")]


def test_the_error_of_a_setup_reaches_the_caller(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    with pytest.raises(ModuleNotFoundError, match="not_a_plugin") as caught:
        list(run_jobs(Work(jobs.add, jobs.bad_setup, ("x",)), [0, 1], workers=2))
    assert "in bad_setup" in caught.value.__notes__[0]


def test_a_function_that_a_worker_cannot_import_is_reported(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    work = Work(jobs.add)
    (tmp_path / "engine_jobs.py").write_text("import not_a_plugin\n")
    with pytest.raises(ModuleNotFoundError, match="not_a_plugin"):
        list(run_jobs(work, [0]))


def test_workers_that_never_start_end_the_run(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    with pytest.raises(MacebenchError, match="die while they start"):
        list(run_jobs(Work(jobs.add, jobs.dying_setup), [0, 1]))


def test_a_worker_that_dies_in_its_setup_costs_no_job(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    work = Work(jobs.add, jobs.die_in_setup_once, (str(tmp_path / "once"),))
    assert dict(run_jobs(work, [5, 6])) == {0: 5, 1: 6}


def test_an_error_that_cannot_be_pickled_keeps_its_name(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    with pytest.raises(MacebenchError, match="Odd: very odd"):
        list(run_jobs(Work(jobs.fail_oddly), [0]))


@pytest.mark.parametrize("how", ["close", "throw"])
def test_leaving_early_kills_running_jobs_at_once(tmp_path, monkeypatch, how):
    jobs = jobs_module(tmp_path, monkeypatch)
    paths = [tmp_path / "quick", tmp_path / "long"]
    results = run_jobs(Work(jobs.note_and_sleep), list(zip(map(str, paths), (0, 60), strict=True)), workers=2)
    assert next(results)[0] == 0
    pids = [wait_for(path) for path in paths]
    began = time.monotonic()
    if how == "close":
        results.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt())
    assert time.monotonic() - began < 3
    assert all(gone(pid) for pid in pids)


def test_the_stop_event_ends_the_run(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    stop, found = threading.Event(), []
    work, wanted = Work(jobs.note_and_sleep), [(str(tmp_path / "a"), 0), (str(tmp_path / "b"), 60), ("c", 0)]
    thread = threading.Thread(target=lambda: found.extend(run_jobs(work, wanted, stop=stop)))
    thread.start()
    pid = wait_for(tmp_path / "b")
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert [index for index, _ in found] == [0]
    assert gone(pid)


def test_a_stop_event_that_is_set_starts_nothing(tmp_path, monkeypatch):
    jobs = jobs_module(tmp_path, monkeypatch)
    stop = threading.Event()
    stop.set()
    assert list(run_jobs(Work(jobs.note_and_sleep), [(str(tmp_path / "a"), 0)], stop=stop)) == []
    assert not (tmp_path / "a").exists()


@pytest.fixture
def ray_jobs(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    yield jobs_module(tmp_path, monkeypatch)
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_actors_that_die_cost_one_job_and_errors_come_out(tmp_path, ray_jobs):
    found = dict(run_jobs(Work(ray_jobs.die_on_three), list(range(6)), workers=2, engine="ray"))
    assert found == {0: 0, 1: 1, 2: 2, 3: Crashed(), 4: 4, 5: 5}
    again = run_jobs(Work(ray_jobs.die_the_first_time), [str(tmp_path / "once")], engine="ray")
    assert list(again) == [(0, "second")]
    with pytest.raises(ValueError, match=r"^job 0$") as caught:
        list(run_jobs(Work(ray_jobs.fail), [0], engine="ray"))
    assert type(caught.value) is ValueError
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'not_a_plugin'$"):
        list(run_jobs(Work(ray_jobs.add, ray_jobs.bad_setup, ("x",)), [0], engine="ray"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_stop_event_ends_a_ray_run(tmp_path, ray_jobs):
    stop = threading.Event()
    wanted = [(str(tmp_path / "a"), 0), (str(tmp_path / "b"), 60), (str(tmp_path / "c"), 0)]
    killer = threading.Thread(target=lambda: (wait_for(tmp_path / "b"), stop.set()))
    killer.start()
    found = [index for index, _ in run_jobs(Work(ray_jobs.note_and_sleep), wanted, engine="ray", stop=stop)]
    killer.join()
    assert found == [0]
    assert gone(wait_for(tmp_path / "b"))
    assert not (tmp_path / "c").exists()


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
