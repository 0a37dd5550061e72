"""VBench's dimensions from what the networks gave, through the rows of a run to the scores of a set."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from macebench import registry
from macebench.aggregate import aggregate
from macebench.errors import Unscorable, WeightsMissingError
from macebench.metrics import _laion, vbench
from macebench.pairs import rows_table
from macebench.protocol import load_protocol
from macebench.scoring import score_clip
from macebench.types import Clip, Evidence, Missing

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "vbench"
PROTOCOL = load_protocol("vbench6/1")
FIXED = load_protocol("vbench6-fixed/1")
NOT_READ = Missing("not read")
COMMAND = "weights missing: macebench weights pull vbench6"

# The released scores of five generated videos of MACE-Dance (frames - 1; sums of background; per clip what is printed).
PAIRS = (299, 249, 287, 149, 149)
BACKGROUND_SUMS = (283.809814453125, 237.90966796875, 223.466796875, 137.645751953125, 141.57421875)
SUBJECT = (0.9386930779, 0.9468988908, 0.7269869049, 0.9224193120, 0.9536903157)
IMAGING = (70.8849, 64.2084, 75.2537, 79.3876, 67.9504)
AESTHETIC = (0.6163687, 0.5134017, 0.5298368, 0.5220585, 0.4883282)


def evidence(frames, clip_id="a", lacking=None):
    clip = Clip(clip_id, Path(clip_id), "0" * 64)
    return Evidence(clip, 1.0, NOT_READ, NOT_READ, frames, lacking=lacking or {})


def turned(value, pairs):
    """Unit vectors of pairs + 1 frames whose consistency is `value`: the first looks another way than the rest."""
    cosine = (value * pairs - (pairs - 1) / 2) / (1 + (pairs - 1) / 2)
    rest = np.tile([cosine, math.sqrt(1 - cosine**2)], (pairs, 1))
    return np.concatenate([[[1.0, 0.0]], rest])


def scores_of(clips, names):
    metrics = [registry.get_metric(name) for name in names]
    rows = [score_clip(item, PROTOCOL, metrics, model="m", role="generated") for item in clips]
    table = rows_table(rows)
    return {score.name: score for score in aggregate(table, table, PROTOCOL, metrics)}


@pytest.fixture
def head(monkeypatch):
    """A linear head that takes the first number of a vector, times ten."""
    monkeypatch.setattr(_laion, "laion_head", lambda: (np.array([10.0, 0.0]), 0.0))


def test_the_released_result_file_is_reproduced_from_its_clips(head):
    clips = []
    for k, pairs in enumerate(PAIRS):
        frames = {
            "musiq": np.full(pairs + 1, IMAGING[k]),
            "clip_l14": np.tile([AESTHETIC[k], 0.0], (pairs + 1, 1)),
            "dino_b16": turned(SUBJECT[k], pairs),
            "clip_b32": turned(BACKGROUND_SUMS[k] / pairs, pairs),
            "amt_s": np.full(pairs // 2, 255 * (1 - 0.9918572743 - 0.001 * (k - 2))),
            "frame_difference": np.full(pairs, 255 * (1 - 0.9812424220 - 0.001 * (k - 2))),
        }
        clips.append(evidence(frames, f"c{k}"))
    found = scores_of(clips, PROTOCOL.metrics)
    assert found["background_consistency"].value == pytest.approx(0.9041537952338923, abs=1e-14)
    assert found["subject_consistency"].value == pytest.approx(0.8867013506782023, abs=6e-11)
    assert found["motion_smoothness"].value == pytest.approx(0.9918572743, abs=6e-11)
    assert found["temporal_flickering"].value == pytest.approx(0.9812424220, abs=6e-11)
    assert found["imaging_quality"].value == pytest.approx(0.7153698902, abs=5e-7)  # clips have four decimals
    assert found["aesthetic_quality"].value == pytest.approx(0.5339987755, abs=5e-8)  # clips have seven
    assert found["subject_pairs"].value == found["background_pairs"].value == sum(PAIRS) / 5
    assert {(score.n, score.n_unscored) for score in found.values()} == {(5, 0)}


def test_the_plain_mean_of_several_gpus_is_another_number():
    clips = [evidence({"dino_b16": turned(value, n)}, f"c{n}{value}") for value, n in zip(SUBJECT, PAIRS, strict=True)]
    score = scores_of(clips, ["subject_consistency"])["subject_consistency"]
    assert abs(score.value - float(np.mean(SUBJECT))) > 0.01


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no {GOLDEN}")
@pytest.mark.parametrize(
    ("name", "statistic"), [("subject_consistency", "dino_b16"), ("background_consistency", "clip_b32")]
)
def test_sets_of_vbenchs_own_code_are_weighted_by_frame_pairs(name, statistic):
    expected = json.loads((GOLDEN / "vbench_scores.json").read_text())["arrays"][name]
    shapes = json.loads((GOLDEN / "clips.json").read_text())
    clips = [
        evidence({statistic: turned(value, shapes[clip]["shape"][0] - 1)}, clip)
        for clip, value in expected["per_clip"].items()
    ]
    found = scores_of(clips, [name])[name]
    assert found.value == pytest.approx(expected["dataset_as_vbench_returns_it"], abs=1e-7)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no {GOLDEN}")
def test_imaging_quality_of_vbenchs_own_code():
    expected = json.loads((GOLDEN / "vbench_scores.json").read_text())["arrays"]["imaging_quality"]
    clips = [
        evidence({"musiq": np.array([value - 1, value + 1])}, clip) for clip, value in expected["per_clip"].items()
    ]
    value = scores_of(clips, ["imaging_quality"])["imaging_quality"].value
    assert value == pytest.approx(expected["dataset_as_vbench_returns_it"], abs=1e-9)


FROZEN = {
    "dino_b16": np.tile([0.6, 0.8], (5, 1)),
    "clip_b32": np.tile([0.6, 0.8], (5, 1)),
    "amt_s": np.zeros(2),
    "frame_difference": np.zeros(4),
    "flow_interpolation": np.zeros(3),
    "flow_magnitude": np.array([[0.0, 0.125], [0.0, 0.125]]),
}


def test_a_frozen_clip_is_perfect_in_five_columns_and_not_dynamic():
    found = scores_of([evidence(FROZEN)], FIXED.metrics[2:])
    ones = ("subject_consistency", "background_consistency", "motion_smoothness", "temporal_flickering", "ms_flow")
    assert [found[name].value for name in ones] == pytest.approx([1.0] * 5, abs=1e-15)
    assert (found["dynamic_degree"].value, found["is_dynamic"].value, found["subject_pairs"].value) == (0.0, 0.0, 4.0)


def test_a_moving_clip_is_dynamic():
    moves = np.array([[0.05, 0.125], [0.01, 0.125]])
    found = vbench.dynamic_degree(evidence({"flow_magnitude": moves}), FIXED)
    assert found == pytest.approx({"dynamic_degree": 0.24, "is_dynamic": 1.0})


def cut(n):
    """What the statistics give for the first `n` frames of a clip."""
    lost = {"musiq": 0, "clip_l14": 0, "dino_b16": 0, "clip_b32": 0, "frame_difference": 1, "flow_interpolation": 2}
    rows = {name: np.ones((max(n - less, 0), 2)) / math.sqrt(2) for name, less in lost.items()}
    rows |= {name: rows[name][:, 0] for name in ("musiq", "frame_difference", "flow_interpolation")}
    return rows | {"amt_s": np.zeros(max((n - 1) // 2, 0)), "flow_magnitude": np.zeros((0, 2))}


@pytest.mark.parametrize(
    ("n", "short"),
    [
        (1, {"subject_consistency", "background_consistency", "motion_smoothness", "temporal_flickering", "ms_flow",
             "dynamic_degree", "is_dynamic", "subject_pairs", "background_pairs"}),
        (2, {"motion_smoothness", "ms_flow", "dynamic_degree", "is_dynamic"}),
    ],
)  # fmt: skip
def test_clips_of_one_and_two_frames_have_scores_or_a_reason(head, n, short):
    found = scores_of([evidence(cut(n))], FIXED.metrics)
    assert {name for name, score in found.items() if score.n == 0} == short
    assert all(dict(found[name].reasons) == {"too short": 1} for name in short)


def test_no_frames_and_frames_that_are_too_small(head):
    found = scores_of([evidence(cut(0) | {"amt_s": np.array([np.nan])})], FIXED.metrics)
    assert dict(found["imaging_quality"].reasons) == dict(found["aesthetic_quality"].reasons) == {"no frames": 1}
    assert dict(found["motion_smoothness"].reasons) == {"smaller than 128 pixels": 1}


def test_missing_weights_are_a_reason_and_a_clip_that_cannot_be_read_keeps_its_own():
    lacking = dict.fromkeys(("musiq", "clip_l14", "dino_b16", "clip_b32", "amt_s"), COMMAND)
    rest = {name: FROZEN[name] for name in ("frame_difference", "flow_interpolation", "flow_magnitude")}
    found = scores_of([evidence(rest, "a", lacking), evidence(Missing("truncated file"), "b", lacking)], FIXED.metrics)
    assert dict(found["motion_smoothness"].reasons) == {COMMAND: 1, "truncated file": 1}
    assert (found["ms_flow"].n, found["temporal_flickering"].n, found["imaging_quality"].n) == (1, 1, 0)


def test_a_missing_head_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsMissingError):
        _laion.laion_head()
    with pytest.raises(Unscorable, match=COMMAND):
        vbench.aesthetic_quality(evidence({"clip_l14": np.ones((3, 768))}), PROTOCOL)


@pytest.mark.parametrize("protocol", [PROTOCOL, FIXED])
def test_every_dimension_aims_at_the_reference(protocol):
    columns = [column for name in protocol.metrics for column in registry.get_metric(name).columns]
    assert {column.better for column in columns} == {"reference"}
    assert len({column.name for column in columns}) == len(columns)
    assert not any(registry.get_metric(name).needs & {"pose", "motion", "music"} for name in protocol.metrics)
