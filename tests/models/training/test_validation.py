"""Validation: fixed losses, sampled dances with our own metrics, nothing of the training's random state."""

import math

import numpy as np
import pytest
import torch

from macebench.models.motion_expert.network import MotionExpertNetwork
from macebench.models.training._datasets import genre_numbers, network_for
from macebench.models.training._device import Place
from macebench.models.training._score import SCORES, evidence_of, reasons_of, score_motions
from macebench.models.training.config import load_config
from macebench.models.training.data import ItemInfo, TrainingSet, build_training_set
from macebench.models.training.plots import plot_bars, plot_beta, plot_losses
from macebench.models.training.validation import VALIDATION_COLUMNS, held_out, sample, spread, validate
from macebench.protocol import load_protocol
from macebench.types import Motion

PLACE = Place(torch.device("cpu"))
FRAMES = 60


class Stepping:
    """A dance in closed form; the knees bend on the beats."""

    def __init__(self, number, genre, split):
        self.number = number
        self.info = ItemInfo(f"step-{number}", genre, "test", "CC0-1.0", "synthetic", number, "", split)

    def recipe(self):
        return {"kind": "step", "number": self.number}

    def load(self):
        n, period = 200, 14 + self.number
        t = np.arange(n)[:, None, None]
        joint, axis = np.arange(24)[None, :, None], np.arange(3)[None, None]
        rotations = (0.2 + 0.05 * self.number) * np.sin(2 * np.pi * t / period + 0.3 * joint * axis + self.number)
        root = np.stack([0.2 * np.sin(t[:, 0, 0] / 9), np.full(n, 0.9), 0.1 * np.cos(t[:, 0, 0] / 7)], axis=1)
        music = np.random.default_rng(self.number).normal(size=(n, 35))
        music[:, 33:] = 0
        music[::period, 34] = 1
        return Motion(30.0, np.zeros((n, 24, 3)), rotations, root), music


class Steps:
    """Six dances of two genres; some are held out."""

    def items(self):
        genres, splits = ("waltz", "unknown"), ("train", "train", "val")
        return [Stepping(number, genres[number % 2], splits[number % 3]) for number in range(6)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return build_training_set([Steps()], tmp_path_factory.mktemp("steps") / "set")


@pytest.fixture(scope="module")
def config(data):
    changes = ["model=tiny", f'data=["{data.folder}"]', f"horizon={FRAMES}", "batch=3", "threads=1",
               "validation.clips=3", "validation.ddim_steps=3", "validation.times=[20, 700]"]  # fmt: skip
    return load_config(changes=changes)


@pytest.fixture(scope="module")
def network(data, config):
    torch.manual_seed(3)
    return MotionExpertNetwork(network_for(config, data)).eval()


def test_all_numbers_are_there_and_repeat(network, data, config):
    found = validate(network, data, config, PLACE)
    assert tuple(found) == VALIDATION_COLUMNS
    assert all(math.isfinite(found[name]) for name in ("val_total", "fid_k", "div_k", "div_k_real", "fsr_real"))
    assert found["clips"] == 3
    parts = ("reconstruction", "velocity", "joints", "foot")
    assert sum(found[f"val_{name}"] for name in parts) == pytest.approx(found["val_total"], rel=1e-5)
    again = validate(network, data, config, PLACE)
    np.testing.assert_array_equal(list(found.values()), list(again.values()))


def test_the_random_state_and_the_network_stay_as_they_are(network, data, config):
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    validate(network, data, config, PLACE)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not network.training
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_without_held_out_data_everything_is_missing(network, data, config, tmp_path):
    class Training:
        def items(self):
            return [item for item in Steps().items() if item.info.split == "train"]

    made = build_training_set([Training()], tmp_path / "set")
    found = validate(network, made, config, PLACE)
    assert all(math.isnan(value) for value in found.values())


def test_switched_off(network, data, config):
    off = config.validation.model_copy(update={"clips": 0, "batches": 0})
    found = validate(network, data, config.model_copy(update={"validation": off}), PLACE)
    assert all(math.isnan(value) for value in found.values())


def test_held_out_pieces_lie_side_by_side(data):
    pieces = held_out(data, FRAMES, 100)
    assert len(pieces) == 2 * (200 // FRAMES)
    assert held_out(data, 201, 100) == []
    assert len(held_out(data, FRAMES, 4)) == 4
    first = next(item for item in data.sequences if item.split == "val")
    np.testing.assert_array_equal(pieces[0].music, data.music[first.start : first.start + FRAMES])
    assert len(pieces[0].real.need_motion()) == FRAMES


def test_beats_of_a_piece_are_on_its_own_clock(data):
    piece = held_out(data, FRAMES, 100)[1]
    expected = np.flatnonzero(piece.music[:, 34]) / 30
    assert len(expected) >= 2
    np.testing.assert_array_equal(piece.real.need_music().times_s, expected)


def test_spread_takes_both_ends():
    assert spread(list(range(10)), 3) == [0, 4, 9]
    assert spread([1, 2], 5) == [1, 2]
    assert spread([], 5) == []


def test_a_dance_does_not_depend_on_the_batch(network, data, config):
    pieces = held_out(data, FRAMES, 3)
    together = sample(network, pieces, data, config, PLACE)
    alone = sample(network, pieces, data, config.model_copy(update={"batch": 1}), PLACE)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.need_motion().joints, other.need_motion().joints, atol=1e-4)
    other_seed = sample(network, pieces, data, config, PLACE, seed=1)
    assert not np.allclose(together[0].need_motion().joints, other_seed[0].need_motion().joints, atol=1e-2)


def test_cfg_is_sampled_with_two_passes(network, data, config):
    calls = []
    handle = network.final_layer.register_forward_hook(lambda *_: calls.append(1))
    try:
        pieces = held_out(data, FRAMES, 1)
        sample(network, pieces, data, config, PLACE)
        one = len(calls)
        sample(network, pieces, data, config.model_copy(update={"guidance": "cfg"}), PLACE)
    finally:
        handle.remove()
    assert (one, len(calls) - one) == (3, 6)


def test_scores_tell_real_dances_from_frozen_ones(data):
    protocol = load_protocol("motion3d-fixed/1")
    real = [piece.real for piece in held_out(data, FRAMES, 100)]
    still = []
    for item in real:
        motion = item.need_motion()
        joints = np.repeat(motion.joints[:1], len(motion), axis=0)
        still.append(item.replace(motion=Motion(30.0, joints)))
    own, frozen = score_motions(real, real, protocol), score_motions(still, real, protocol)
    assert tuple(own) == SCORES
    assert own["fid_k"] == pytest.approx(0, abs=1e-6)
    assert frozen["fid_k"] > 1
    assert frozen["div_k"] < own["div_k"]
    assert reasons_of(still, protocol) or math.isfinite(frozen["bas_corrected"])


def test_one_dance_has_no_distance_between_sets(data):
    piece = held_out(data, FRAMES, 1)
    found = score_motions([piece[0].real], [piece[0].real], load_protocol("motion3d-fixed/1"))
    assert math.isnan(found["fid_k"])


def test_genres_of_the_data_become_those_of_the_network(data, config):
    made = network_for(config, data)
    assert made.genres[0] == "waltz"
    assert "unknown" not in made.genres
    numbers = genre_numbers(data, made)
    assert numbers[data.genres.index("waltz")] == 0
    assert numbers[data.genres.index("unknown")] == made.genre_index(None)
    paper = load_config(changes=["model=paper"])
    assert network_for(paper, data).genres == ()
    assert set(genre_numbers(data, network_for(paper, data))) == {-1}


def test_genres_of_the_preset_stay_where_they_hold_all(tmp_path, config):
    class Pop:
        def items(self):
            return [Stepping(0, "Pop", "train"), Stepping(2, "pop", "val")]

    made = build_training_set([Pop()], tmp_path / "set")
    network = network_for(config, made)
    assert network.genres == load_config(changes=["model=tiny"]).network_config().genres
    assert list(genre_numbers(made, network)) == [network.genre_index("pop")] * 2


def test_evidence_has_the_music_of_its_frames_only():
    music = np.zeros((50, 35))
    music[[0, 10, 45], 34] = 1
    made = evidence_of(Motion(30.0, np.zeros((40, 24, 3))), music, "x")
    np.testing.assert_allclose(made.need_music().times_s, [0, 10 / 30])


def test_pictures(tmp_path):
    (tmp_path / "loss.csv").write_text("step,loss,reconstruction\n0,2,1\n1,,\n2,1,0.5\n", "utf-8")
    (tmp_path / "validation.csv").write_text("step,val_total,fid_k,fsr,fsr_real\n2,1.5,3,0.1,0.2\n", "utf-8")
    made = [
        plot_losses(tmp_path),
        plot_beta({0.25: {"div_k": [1.0, 1.2]}, 1.0: {"div_k": [2.0, 2.2]}}, {"div_k": 3.0}, tmp_path / "beta.png"),
        plot_bars({"a": {"fid_k": [1.0, 2.0]}, "b": {"fid_k": [math.nan]}}, {"fid_k": 0.5}, "t", tmp_path / "bars.png"),
    ]
    for path in made:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5000


def test_opened_set_is_what_validation_reads(data):
    assert TrainingSet.open(data.folder).sha256 == data.sha256
