"""Reports and leaderboards on the command line: changed runs, broken runs, scores of a plugin."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from macebench.cli import main

make_run = runpy.run_path(str(Path(__file__).resolve().parents[1] / "run_folders.py"))["make_run"]
PLUGIN = """
from macebench.registry import metric

@metric("charm", unit="1", better="higher", needs=("pose",))
def charm(evidence, protocol):
    "How charming a dance is."
    return 1.0
"""


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def test_a_report_of_a_changed_run_warns_on_standard_error(run, capfd):
    assert main(["report", str(run)]) == 0
    assert capfd.readouterr().err == ""
    path = run / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"clips_sha256": "00"}), "utf-8")
    assert main(["report", str(run)]) == 0
    assert "clips.parquet is not the file that the scores were computed from" in capfd.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_broken_result_is_a_user_error(run, capfd, content):
    (run / "result.json").write_text(content)
    assert main(["report", str(run)]) == 2
    error = capfd.readouterr().err
    assert error.startswith("macebench: error: ")
    assert "Traceback" not in error


def test_calibration_rows_are_added_when_asked_for(run, tmp_path, capfd):
    board = str(tmp_path / "board.csv")
    assert main(["leaderboard", "add", str(run), "--board", board]) == 0
    assert "left out: 1 calibration row;" in capfd.readouterr().out
    assert main(["leaderboard", "add", str(run), "--board", board, "--calibration"]) == 0
    assert "2 rows" in capfd.readouterr().out


def call(*words, status):
    done = subprocess.run([sys.executable, "-m", "macebench", *map(str, words)], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_score_of_a_plugin_is_added_verified_and_reported(run, tmp_path):
    plugin, board = tmp_path / "charm.py", tmp_path / "board.csv"
    plugin.write_text(PLUGIN)
    path = run / "result.json"
    result = json.loads(path.read_text("utf-8"))
    record = {"name": "charm", "value": None, "n": 0, "n_unscored": 5, "unit": "1", "better": "higher"}
    for entry in result["entries"]:
        entry["scores"].append(record | {"reasons": {"no reason given": 5}, "notes": {}})
    path.write_text(json.dumps(result), "utf-8")
    add = ["leaderboard", "add", run, "--board", board]
    verify = ["leaderboard", "verify", board, "--run", run]
    assert "--plugin" in call(*add, status=2)
    call(*add, "--plugin", plugin, status=0)
    assert "agrees" in call(*verify, "--plugin", plugin, status=0)
    assert "charm" in call(*verify, status=2)
    call("report", run, "--plugin", plugin, status=0)
    assert "How charming" in (run / "report.html").read_text("utf-8")
    assert "charm" in call("ls", "metrics", "--plugin", plugin, status=0)
