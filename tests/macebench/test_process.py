"""Child processes: fake programs that succeed, crash, hang, flood and eat memory."""

from __future__ import annotations

import os
import sys
import time

import pytest

from macebench.errors import UserError
from macebench.process import (
    TAIL_BYTES,
    read_json_result,
    require_success,
    result_path,
    run_child,
    run_job,
    write_job,
)

ECHO = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
(folder / "result.json").write_text(json.dumps({"sum": sum(job["numbers"])}))
print("done")
"""


@pytest.fixture
def script(tmp_path):
    def make(text, name="fake.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def run(path, **options):
    return run_child([sys.executable, path], timeout_s=options.pop("timeout_s", 60), **options)


def test_job_folder_round_trip(script, tmp_path):
    folder = tmp_path / "job"
    result = run_job(sys.executable, script(ECHO), folder, {"numbers": [1, 2, 39]}, timeout_s=60)
    assert result.ok
    assert result.stdout_tail == "done\n"
    assert read_json_result(folder) == {"sum": 42}
    assert (folder / "log.txt").read_text() == "done\n"
    assert result.peak_rss > 2**20
    assert result.wall_s > 0


def test_crash_is_reported_with_its_last_line(script):
    result = run(script("import sys\nsys.stderr.write('first\\nno checkpoint\\n')\nsys.exit(3)\n"))
    assert (result.returncode, result.ok, result.reason()) == (3, False, "exit status 3")
    with pytest.raises(UserError, match=r"EDGE failed \(exit status 3\): no checkpoint"):
        require_success(result, "EDGE")


def test_signal_is_named(script):
    result = run(script("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"))
    assert result.returncode == -11
    assert result.reason() == "killed by SIGSEGV"


def test_hang_is_killed_with_its_children(script, tmp_path):
    mark = tmp_path / "pid"
    text = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(mark)!r}, "w").write(str(child.pid))
print("started", flush=True)
time.sleep(600)
"""
    start = time.monotonic()
    result = run(script(text), timeout_s=1.5)
    assert result.timed_out
    assert not result.ok
    assert result.reason() == "timed out"
    assert result.stdout_tail == "started\n"
    assert time.monotonic() - start < 20
    assert not alive(int(mark.read_text()))


def alive(pid):
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().split()[2] == "Z":
                return False
        time.sleep(0.02)
    return True


def test_descendants_die_when_the_child_ends(script, tmp_path):
    mark = tmp_path / "pid"
    text = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(mark)!r}, "w").write(str(child.pid))
"""
    assert run(script(text)).ok
    assert not alive(int(mark.read_text()))


def test_huge_output_is_capped(script, tmp_path, monkeypatch):
    monkeypatch.setattr("macebench.process.LOG_BYTES_MAX", 1000)
    text = "import sys\nfor _ in range(3000):\n    sys.stdout.write('x' * 10000)\nsys.stdout.write('the end')\n"
    result = run(script(text), log=tmp_path / "log.txt")
    assert result.ok
    assert len(result.stdout_tail) == TAIL_BYTES
    assert result.stdout_tail.endswith("xthe end")
    assert (tmp_path / "log.txt").stat().st_size == 1000


def test_missing_program_and_script_say_what_to_get(tmp_path):
    with pytest.raises(UserError, match="does not exist") as caught:
        run_child([tmp_path / "python", "x.py"], timeout_s=1, needs="install it")
    assert caught.value.hint == "install it"
    with pytest.raises(UserError, match=r"script .*none\.py does not exist"):
        run_child([sys.executable, tmp_path / "none.py"], timeout_s=1, needs="clone it")
    with pytest.raises(UserError, match=r"folder .* does not exist"):
        run_child([sys.executable, "-c", "pass"], cwd=tmp_path / "none", timeout_s=1)
    with pytest.raises(UserError, match="no program"):
        run_child([], timeout_s=1)


def test_file_that_is_no_program(tmp_path):
    path = tmp_path / "broken"
    path.write_bytes(b"\x00\x01 not a program")
    path.chmod(0o755)
    with pytest.raises(UserError, match="cannot be started"):
        run_child([path], timeout_s=1)


def test_environment_is_an_allow_list(script, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    text = "import os\nprint('SECRET_TOKEN' in os.environ, 'PYTHONPATH' in os.environ, os.environ.get('EXTRA'))\n"
    assert run(script(text), env={"EXTRA": "yes"}).stdout_tail == "False False yes\n"


def test_memory_limit(script):
    path = script("try:\n    bytearray(1 << 30)\nexcept MemoryError:\n    print('refused')\n")
    assert run(path, memory_mb=512).stdout_tail == "refused\n"
    assert run(path).stdout_tail == ""


def test_arguments_are_not_a_shell(script, tmp_path):
    path = script("import sys\nprint(sys.argv[1])\n")
    result = run_child([sys.executable, path, "$(touch boom); `id`"], cwd=tmp_path, timeout_s=60)
    assert result.stdout_tail == "$(touch boom); `id`\n"
    assert not (tmp_path / "boom").exists()


def test_results_are_untrusted(tmp_path):
    write_job(tmp_path, {"a": 1})
    with pytest.raises(UserError, match="missing"):
        result_path(tmp_path, "result.json")
    (tmp_path / "link.json").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="missing"):
        result_path(tmp_path, "link.json")
    with pytest.raises(UserError, match="missing"):
        result_path(tmp_path / "sub", "../job.json")
    (tmp_path / "result.json").write_text("[1]")
    with pytest.raises(UserError, match="expected an object"):
        read_json_result(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_json_result(tmp_path)
    with pytest.raises(UserError, match="allowed are 0"):
        result_path(tmp_path, "result.json", size_max=0)


def test_job_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_job(tmp_path, {"x": float("nan")})
