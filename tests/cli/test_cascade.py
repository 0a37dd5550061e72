"""`macebench cascade`: the same animator driven by ground-truth and by generated motions."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from macebench.cascade import CascadeConfig, matched, render_both, run_cascade
from macebench.errors import UserError
from macebench.media import Decoder
from macebench.motion import read_motion, resample_motion, write_motion

ASIDE = np.array([1.0, 0.0, 0.0])
PROTOCOL = """
name: pictures
version: 1
title: Pictures
description: What needs no weights
source: a test
track: appearance
skeleton: none
sampling: {fps: 1.0}
metrics: [temporal_flickering, dynamic_degree]
"""


@pytest.fixture
def world(tmp_path, dances):
    """Ground-truth dances, slower "generated" ones of the same names, and a protocol without networks."""
    truth, generated = dances(tmp_path / "truth", 3, seconds=1.0), tmp_path / "generated"
    for path in sorted(truth.glob("*.npz")):
        slow = resample_motion(read_motion(path), 60.0).replace(fps=30.0)
        write_motion(generated / path.name, slow)
    (tmp_path / "pictures.yaml").write_text(PROTOCOL)
    return tmp_path


def config(world, **how):
    settings = {
        "motions": str(world / "generated"), "reference_motions": str(world / "truth"), "size": 96,
        "protocols": (str(world / "pictures.yaml"),), "store": world / "store", "permutations": 50,
    }  # fmt: skip
    return CascadeConfig(world / "out", **settings | how)


def frames(path):
    with Decoder() as decoder:
        return np.concatenate([batch.frames for batch in decoder.frames(path)])


def rows(world):
    return {row["score"]: row for row in csv.DictReader((world / "out" / "cascade.csv").read_text().splitlines())}


@pytest.mark.slow
def test_slower_motions_move_less_in_the_same_pictures(world):
    result = run_cascade(config(world))
    assert result.rendered.failed == {}
    assert result.rendered.notes == {"cut to the shorter motion": 3}
    found = rows(world)
    assert set(found) == {"temporal_flickering", "dynamic_degree", "is_dynamic"}
    speed, flicker = found["dynamic_degree"], found["temporal_flickering"]
    assert float(speed["generated"]) < 0.8 * float(speed["ground_truth"])
    assert float(flicker["difference"]) > 0
    for row in (speed, flicker):
        assert row["n"] == "3"
        assert float(row["difference"]) == pytest.approx(
            float(row["generated"]) - float(row["ground_truth"]), abs=1e-12
        )
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
    page = (world / "out" / "cascade.html").read_text("utf-8")
    assert "dynamic_" in page
    assert "<script" not in page
    assert "cut to the shorter motion" in page


@pytest.mark.slow
def test_a_motion_against_itself_has_no_gap(world):
    run_cascade(config(world, motions=str(world / "truth")))
    for row in rows(world).values():
        assert float(row["difference"]) == 0.0
    one, two = (frames(world / "out" / "videos" / name / "dance0.mp4") for name in ("generated", "ground-truth"))
    assert np.array_equal(one, two)


def test_both_are_seen_by_one_camera(world, dance, tmp_path):
    """A dancer who stands a metre aside stands aside in the picture, too."""
    truth = dance(0, seconds=0.2)
    aside = truth.replace(joints=truth.joints + ASIDE, root=truth.root + ASIDE)
    targets = (tmp_path / "one.mp4", tmp_path / "two.mp4")
    render_both((aside, truth), targets, size=96)
    one, two = (frames(path).astype(int) for path in targets)
    assert np.abs(one - two)[..., :48, :].mean() > 1.0
    render_both((truth, truth), targets, size=96)
    assert np.array_equal(frames(targets[0]), frames(targets[1]))


def test_frame_rates_and_lengths_are_matched(dance):
    truth, generated = dance(0, seconds=1.0), resample_motion(dance(1, seconds=1.5), 20.0)
    (first, second), notes = matched(generated, truth)
    assert (first.fps, len(first), len(second)) == (30.0, 30, 30)
    assert notes == ["generated motion brought to the ground truth's frame rate", "cut to the shorter motion"]
    assert matched(truth, truth)[1] == []


def test_a_motion_that_cannot_be_rendered_costs_its_pair(world):
    motion = read_motion(world / "generated" / "dance1.npz")
    write_motion(world / "generated" / "dance1.npz", motion.replace(rotations=None))
    result = run_cascade(config(world))
    assert list(result.rendered.failed) == ["dance1"]
    assert "rotations" in result.rendered.failed["dance1"]
    assert rows(world)["dynamic_degree"]["n"] == "2"


@pytest.mark.slow
def test_videos_of_another_animator(world):
    run_cascade(config(world))
    first = (world / "out" / "cascade.csv").read_bytes()
    made = world / "made"
    (world / "out" / "videos").rename(made)
    again = config(
        world, motions=None, reference_motions=None, videos=made / "generated", reference_videos=made / "ground-truth"
    )
    run_cascade(again)
    assert (world / "out" / "cascade.csv").read_bytes() == first


@pytest.mark.slow
def test_videos_of_an_earlier_run_are_not_scored(world):
    run_cascade(config(world))
    (world / "generated" / "dance1.npz").unlink()
    result = run_cascade(config(world))
    assert result.rendered.ids == {"dance0", "dance2"}
    assert {row["n"] for row in rows(world).values()} == {"2"}
    assert result.comparison.protocols[0].n_pairs == 2
    for name in ("generated-motion", "ground-truth-motion"):
        found = json.loads((world / "out" / "runs" / name / "result.json").read_text())
        assert [protocol["reference"]["n"] for protocol in found["protocols"].values()] == [2]
    (world / "out" / "videos" / "ground-truth" / "left.mp4").write_bytes(b"of an earlier run")
    run_cascade(config(world, limit=1))
    assert {row["n"] for row in rows(world).values()} == {"1"}


@pytest.mark.slow
def test_what_is_there_is_not_rendered_again(world):
    run_cascade(config(world))
    path = world / "out" / "videos" / "generated" / "dance0.mp4"
    before = path.stat().st_mtime_ns
    run_cascade(config(world))
    assert path.stat().st_mtime_ns == before
    run_cascade(config(world, size=64))
    assert path.stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"motions": None}, "two sets"),
        ({"videos": "x"}, "two sets"),
        ({"animator": "wan"}, "not built in"),
        ({"size": 95}, "even"),
    ],
)
def test_wrong_options(world, how, text):
    with pytest.raises(UserError, match=text):
        run_cascade(config(world, **how))


def test_both_kinds_of_input_are_named(world):
    with pytest.raises(UserError, match="both kinds were given"):
        run_cascade(config(world, videos=world / "truth", reference_videos=world / "truth"))


@pytest.mark.slow
def test_sides_are_called_by_what_they_are(world):
    (world / "broken.yaml").write_text(PROTOCOL.replace("temporal_flickering, dynamic_degree", "imaging_quality"))
    part = run_cascade(config(world, protocols=(str(world / "broken.yaml"),))).comparison.protocols[0]
    reasons = [reason for test in part.tests for reason in test.unscored]
    assert {reason.split(": ")[0] for reason in reasons} == {"generated", "ground truth"}
    assert "ground truth: " in (world / "out" / "cascade.html").read_text("utf-8")


def test_names_that_do_not_meet(world, dances):
    dances(world / "other", 1, first=7, seconds=0.5)
    with pytest.raises(UserError, match="has the name of one"):
        run_cascade(config(world, motions=str(world / "other")))


@pytest.mark.slow
def test_the_command(world):
    call = [
        sys.executable, "-m", "macebench", "cascade", "--motions", world / "generated", "--reference-motions",
        world / "truth", "--protocol", world / "pictures.yaml", "--size", 96, "--out", world / "out", "--store",
        world / "store", "--permutations", 20,
    ]  # fmt: skip
    done = subprocess.run(list(map(str, call)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dynamic_degree" in done.stdout
    assert "generated minus ground-truth" in done.stdout
    assert str(world / "out" / "cascade.html") in done.stdout
