"""``macebench compare`` on the command line."""

import json
import runpy
from pathlib import Path

import pytest

from macebench.cli import main

make_run = runpy.run_path(str(Path(__file__).resolve().parents[1] / "run_folders.py"))["make_run"]
NAMES = tuple("abcdefghij")
FEW = ["--permutations", "99"]


@pytest.fixture
def runs(tmp_path):
    return make_run(tmp_path / "one", names=NAMES), make_run(tmp_path / "two", names=NAMES, shift=0.7)


def test_two_runs(runs, capfd):
    assert main(["compare", *map(str, runs), *FEW]) == 0
    shown = capfd.readouterr().out
    out = runs[1] / "compare-one-mine-vs-two-mine"
    for name in ("compare.json", "compare.csv", "compare.png"):
        assert (out / name).is_file()
        assert str(out / name) in shown
    for text in ("ma2d-fixed/1", "10 pairs", "fid_k ↓", "bas ≈", "nearer to", "p Holm"):
        assert text in shown
    assert json.loads((out / "compare.json").read_text("utf-8"))["seed"] == 0


def test_two_models_of_one_run(runs, tmp_path, capfd):
    run, out = str(runs[0]), tmp_path / "out"
    assert main(["compare", run, run, "--model-b", "frozen", "--out", str(out), "--seed", "4", *FEW]) == 0
    content = json.loads((out / "compare.json").read_text("utf-8"))
    assert (content["first"]["model"], content["second"]["model"], content["seed"]) == ("mine", "frozen", 4)
    assert main(["compare", run, run, "--model-b", "frozen", *FEW]) == 0
    assert (runs[0] / "compare-mine-vs-frozen" / "compare.png").is_file()
    capfd.readouterr()


def test_a_run_with_itself(runs, tmp_path, capfd):
    assert main(["compare", str(runs[0]), str(runs[0]), "--out", str(tmp_path / "out"), *FEW]) == 0
    tests = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))["protocols"][0]["tests"]
    assert {(test["p_value"], test["difference"]) for test in tests} == {(1.0, 0.0)}
    assert "equal" in capfd.readouterr().out


def test_what_was_left_out_is_said(runs, tmp_path, capfd):
    run = make_run(tmp_path / "three", names=(*NAMES[:6], "new"), lost=("b",))
    assert main(["compare", str(runs[0]), str(run), "--out", str(tmp_path / "out"), *FEW]) == 0
    shown = capfd.readouterr().out
    assert "not paired: 4 x only in the first run" in shown
    assert "not paired: 1 x only in the second run" in shown
    assert "not scored: 1 x second: no person  (fid_k" in shown
    assert "only 5 independent pieces of music: no p-value can be below 0.062, 0.75 after Holm over 12 tests" in shown
    assert "99 permutations are too few for 12 tests: give --permutations 480 or more" in shown


def test_runs_without_a_common_clip_say_so_and_write_their_files(runs, tmp_path, capfd):
    other, out = make_run(tmp_path / "other", names=("x", "y", "z")), tmp_path / "out"
    assert main(["compare", str(runs[0]), str(other), "--out", str(out), *FEW]) == 3
    shown = capfd.readouterr().out
    assert "ma2d-fixed/1: the two runs share no clip, so nothing could be tested." in shown
    assert "0 pairs" in shown
    part = json.loads((out / "compare.json").read_text("utf-8"))["protocols"][0]
    assert (part["n_pairs"], part["n_shared_music"]) == (0, None)
    assert (out / "compare.png").is_file()


@pytest.mark.parametrize(
    ("unpaired", "music", "text"),
    [
        ({"only in the first run": 2}, 0, "share no clip and no music, so"),
        ({"only in the first run": 2}, 1, "share no clip, so"),
        ({"other music": 2}, 0, "have other music in each, so"),
    ],
)
def test_why_nothing_was_tested(unpaired, music, text):
    from macebench.cli.compare import _no_pairs
    from macebench.compare_records import ProtocolComparison

    part = ProtocolComparison(
        protocol="p/1", protocol_hash="0", n_pairs=0, unpaired=unpaired, n_shared_music=music, tests=[]
    )
    assert text in _no_pairs(part)


def test_errors(runs, tmp_path, capfd):
    assert main(["compare", str(runs[0]), str(tmp_path / "nowhere")]) == 2
    assert "is no run folder" in capfd.readouterr().err
    assert main(["compare", *map(str, runs), "--model-a", "hers"]) == 2
    assert "It has mine, frozen" in capfd.readouterr().err
    other = make_run(tmp_path / "three", names=NAMES, reference_names=("r0", "r1", "r2"))
    assert main(["compare", str(runs[0]), str(other)]) == 2
    assert "reference.n: 6 != 3" in capfd.readouterr().err
    (tmp_path / "file").write_text("x")
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "file"), *FEW]) == 2
    assert "cannot write in" in capfd.readouterr().err
