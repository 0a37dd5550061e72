import json
import subprocess
import sys

import pytest


def run(*options, status=0):
    command = [sys.executable, "-m", "macebench", "selftest", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_the_plan_writes_nothing(tmp_path):
    out = tmp_path / "out"
    done = run("--plan", "--n", 8, "--protocol", "ma2d-paper/1", "--out", out)
    assert "ma2d-paper/1" in done.stdout
    assert "8 dances of the demo" in done.stdout
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--n", 2), "--n is 2"), (("--protocol", "nothing/1"), "unknown protocol"), (("--metric", "nothing"), "unknown"),
     (("--strengths", 9), "--strengths is 9")],
)  # fmt: skip
def test_wrong_input_says_what_is_wrong(tmp_path, options, said):
    done = run(*options, "--out", tmp_path / "out", status=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_prints_the_report_card_and_writes_the_folder(tmp_path):
    out = tmp_path / "out"
    options = ("--n", 8, "--repeats", 3, "--strengths", 1, "--protocol", "ma2d-fixed/1", "--out", out, "--strict")
    done = run(*options)
    assert "bas_corrected" in done.stdout
    assert str(out / "selftest.html") in done.stdout
    names = sorted(path.name for path in out.iterdir())
    assert names == ["heatmap.png", "report_card.csv", "selftest.csv", "selftest.html", "selftest.json"]
    result = json.loads((out / "selftest.json").read_text())
    assert len(result["damages"]) == 12
    assert {cell["protocol"] for cell in result["cells"]} == {"ma2d-fixed/1"}


def test_strict_fails_when_a_repaired_protocol_moves_the_wrong_way(tmp_path, monkeypatch, capsys):
    from macebench.cli import main
    from macebench.selftest.schema import Cell, SelftestResult

    cell = Cell(protocol="x-fixed/1", column="fid_k", damage="jitter", claim="worse", verdict="wrong", levels=(),
                d_prime=-2.5, rho=None, monotone=False, found_from=None)  # fmt: skip
    result = SelftestResult(source="s", n_clips=8, n_half=4, repeats=2, seed=0, protocols=(), damages=(), cells=(cell,),
                            cards=(), environment={})  # fmt: skip
    import macebench.selftest

    monkeypatch.setattr(macebench.selftest, "run_selftest", lambda *_: result)
    monkeypatch.setattr(macebench.selftest, "write_selftest", lambda _result, out: [out / "selftest.html"])
    assert main(["selftest", "--out", str(tmp_path)]) == 0
    assert main(["selftest", "--out", str(tmp_path), "--strict"]) == 3
    assert "x-fixed/1 fid_k under jitter, d' -2.5" in capsys.readouterr().out


@pytest.mark.parametrize("plan", [(), ("--plan",)])
def test_too_few_clips_are_refused_before_anything_is_read(tmp_path, dances, plan):
    folder = dances(tmp_path / "few", 3)
    done = run("--motions", folder, "--out", tmp_path / "out", "--store", tmp_path / "store", *plan, status=2)
    assert "3 clips are too few" in done.stderr
    assert not list((tmp_path / "store").rglob("*.npz"))
