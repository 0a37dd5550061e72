"""VBench's own package in a child process, with a fake package in its place."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from macebench.errors import UserError
from macebench.models.appearance import vbench_package, vbench_worker
from macebench.models.appearance.vbench_package import PackageClip, compute, describe
from macebench.protocol import load_protocol
from macebench.vbench_values import DIMENSIONS, REASONS, lasting, packed, unpacked

# Stands for vbench. A video's name says what happens: "bad" fails, "die" ends the interpreter, "slow" hangs,
# "long" is counted as 9.
FAKE_UTILS = """
def init_submodules(dimensions, local, read_frame):
    assert local and not read_frame
    return {name: name for name in dimensions}
"""
FAKE_DIMENSION = """
import json, os, time
def compute_{name}(listing, device, parts):
    assert (device, parts) == ("cpu", "{name}")
    paths = [row["video_list"][0] for row in json.load(open(listing)) if "{name}" in row["dimension"]]
    print("{name}", len(paths))
    found = []
    for path in paths:
        if "bad" in path and "{name}" == "imaging_quality":
            raise ValueError("cannot look at " + os.path.basename(path))
        if "slow" in path:
            time.sleep(60)
        if "die" in path and "{name}" == "motion_smoothness":
            os._exit(9)
        row = {{"video_path": path, "video_results": {value}}}
        if "{name}" == "background_consistency":
            row["cnt_per_video"] = 9 if "long" in path else 4
        found.append(row)
    return 0.5, found
"""
FAKE_TORCH = """
from types import SimpleNamespace
__version__ = "0.0+fake"
cuda = SimpleNamespace(is_available=lambda: False)
hub = SimpleNamespace(load_state_dict_from_url=None)
"""
VALUES = {name: 50.0 if name == "imaging_quality" else 0.1 + 0.1 * k for k, name in enumerate(DIMENSIONS)}


def make_python(folder: Path, cache: Path) -> Path:
    """An interpreter in which the fakes can be imported."""
    package = folder / "packages" / "vbench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "utils.py").write_text(FAKE_UTILS)
    (package.parent / "torch.py").write_text(FAKE_TORCH)
    for name, value in VALUES.items():
        (package / f"{name}.py").write_text(FAKE_DIMENSION.format(name=name, value=value))
    for name in (name for names in vbench_worker.WEIGHTS.values() for name in names):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(b"weights")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{package.parent}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


@pytest.fixture
def place(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(cache))
    monkeypatch.delenv("MACEBENCH_DEVICE", raising=False)
    return make_python(tmp_path, cache), tmp_path / "vbench.log", cache


def clip(folder, name, pairs=4, side=200):
    return PackageClip(folder / name, pairs, side)


def values(rows):
    return {name: unpacked(rows, name)[0] for name in DIMENSIONS}


def reasons(rows):
    return {name: reason for name in DIMENSIONS if (reason := unpacked(rows, name)[1])}


def test_values_of_each_clip_come_back(place, tmp_path):
    python, log, _ = place
    found = compute(python, [clip(tmp_path, "a.mp4"), clip(tmp_path, "b.mp4")], log)
    assert [values(rows) for rows in found] == [VALUES, VALUES]
    assert [reasons(rows) for rows in found] == [{}, {}]
    assert "imaging_quality 2" in log.read_text()


def test_a_clip_that_fails_or_kills_costs_only_itself(place, tmp_path):
    python, log, _ = place
    names = ("good.mp4", "bad.mp4", "die.mp4", "also.mp4")
    found = dict(zip(names, compute(python, [clip(tmp_path, name) for name in names], log), strict=True))
    assert values(found["good.mp4"]) == values(found["also.mp4"]) == VALUES
    assert reasons(found["bad.mp4"]) == {"imaging_quality": "vbench failed, see vbench.log"}
    assert reasons(found["die.mp4"]) == dict.fromkeys(DIMENSIONS[4:], "vbench crashed, see vbench.log")
    assert values(found["die.mp4"])["subject_consistency"] == VALUES["subject_consistency"]
    assert (lasting(found["bad.mp4"]), lasting(found["die.mp4"])) == (True, False)
    assert "ValueError: cannot look at bad.mp4" in log.read_text()


def test_what_cannot_be_trusted_is_refused(place, tmp_path):
    python, log, _ = place
    clips = [clip(tmp_path, "a.mkv"), clip(tmp_path, "long.mp4"), clip(tmp_path, "small.mp4", side=112)]
    mkv, long, small = compute(python, clips, log)
    assert reasons(mkv) == dict.fromkeys(DIMENSIONS, "vbench reads mp4 only")
    assert reasons(long) == dict.fromkeys(DIMENSIONS, "vbench saw other frames than the decoder")
    assert reasons(small) == {"motion_smoothness": "smaller than 128 pixels"}


def test_absent_weights_are_a_reason_and_nothing_is_downloaded(place, tmp_path):
    python, log, cache = place
    (cache / "amt_model" / "amt-s.pth").unlink()
    (rows,) = compute(python, [clip(tmp_path, "a.mp4")], log)
    assert reasons(rows) == {"motion_smoothness": "vbench weights missing, see macebench doctor"}


def test_a_child_that_runs_too_long(place, tmp_path, monkeypatch):
    python, log, _ = place
    monkeypatch.setattr(vbench_package, "START_S", 0.01)
    monkeypatch.setattr(vbench_package, "CLIP_S", 0.0)
    (rows,) = compute(python, [clip(tmp_path, "slow.mp4")], log)
    assert reasons(rows) == dict.fromkeys(DIMENSIONS, "vbench timed out")


def test_the_protocol_names_version_and_weights_and_has_another_hash(place):
    python, _, cache = place
    package = describe(python)
    assert (package.version, package.torch, package.device) == ("unknown", "0.0+fake", "cpu")
    assert set(package.weights) == {name for names in vbench_worker.WEIGHTS.values() for name in names}
    base = load_protocol("vbench6/1")
    ours, theirs = base.resolve(None, None), base.model_copy(update={"vbench_package": package}).resolve(None, None)
    assert (ours.id, ours.seen("musiq")) == (theirs.id, "musiq")
    assert ours.hash != theirs.hash
    assert theirs.seen("musiq") == theirs.seen("amt_s") == f"vbench@{package.suffix}"
    assert theirs.seen("frame_difference") == "frame_difference"
    (cache / "amt_model" / "amt-s.pth").write_bytes(b"other")
    assert describe(python).suffix != package.suffix


def test_an_interpreter_without_it(tmp_path, place):
    with pytest.raises(UserError, match="does not exist") as caught:
        describe(tmp_path / "none")
    assert "macebench doctor" in caught.value.hint
    with pytest.raises(UserError, match="cannot import vbench"):
        describe(Path(sys.executable))
    with pytest.raises(UserError, match="cannot import vbench"):
        compute(Path(sys.executable), [clip(tmp_path, "a.mp4")], tmp_path / "log")


@pytest.mark.parametrize("content", ["[]", "{", '{"values": 3, "failures": {"imaging_quality": 4}}'])
def test_a_result_that_makes_no_sense(place, tmp_path, content):
    python, log, _ = place
    python.write_text(f"#!/bin/sh\nprintf '%s' '{content}' > \"$2/result.json\"\n")
    (rows,) = compute(python, [clip(tmp_path, "a.mp4")], log)
    assert len(reasons(rows)) == len(DIMENSIONS)


def test_operators_that_a_torchvision_without_its_library_wants_are_declared(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('imported')")
    text = '@torch.library.register_fake("torchvision::nms_of_a_test")\ndef meta(a, b, c): ...\n'
    (tmp_path / "torchvision" / "_meta_registrations.py").write_text(text)
    code = (
        f"import sys, importlib.util, torch; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"spec = importlib.util.spec_from_file_location('w', {str(vbench_worker.__file__)!r})\n"
        "w = importlib.util.module_from_spec(spec); spec.loader.exec_module(w)\n"
        "library = w.declare_operators(torch); print(torch.ops.torchvision.nms_of_a_test.default)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torchvision.nms_of_a_test" in shown.stdout


def test_the_worker_imports_nothing_of_macebench():
    lines = Path(vbench_worker.__file__).read_text().splitlines()
    assert not [line for line in lines if line.lstrip().startswith(("import macebench", "from macebench"))]


def test_packing():
    rows = packed({"imaging_quality": 40.0, "temporal_flickering": math.nan}, {"aesthetic_quality": 5})
    assert unpacked(rows, "imaging_quality") == (40.0, "")
    assert unpacked(rows, "aesthetic_quality")[1] == REASONS[5]
    assert unpacked(rows, "temporal_flickering")[1] == REASONS[1]
    with pytest.raises(ValueError, match="expected"):
        unpacked(np.zeros((5, 2)), "imaging_quality")
