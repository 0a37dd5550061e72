"""Frames of a grid: which are looked at, that records hold true neighbours, and what is estimated from them."""

import numpy as np
import pytest

from macebench.grid import Gridded, GridRule, grid_ingredients, gridded_name, split_name
from macebench.metrics import appearance


class Seen:
    """Keeps the numbers of the frames that it is given, record by record."""

    def __init__(self):
        self.records, self.times = [], []

    def restart(self):
        self.records.append([])

    def update(self, frames, times_s):
        if not self.records:
            self.records.append([])
        self.records[-1] += [int(frame[0, 0, 0]) for frame in frames]
        self.times += times_s.tolist()

    def result(self):
        return np.zeros(0)


def looked_at(n, rule, fps=16.0, times=None, cut=5):
    seen = Seen()
    gridded = Gridded(seen, rule)
    frames = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 3)).copy()
    times = np.arange(n) / fps if times is None else times
    for start in range(0, n, cut):
        batch = frames[start : start + cut].copy()
        gridded.update(batch, times[start : start + cut])
        batch[:] = 255  # the caller may use the memory again
    gridded.result()
    return [record for record in seen.records if record]


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_single_frames_lie_in_the_middle_of_each_half_second(cut):
    assert looked_at(81, GridRule(per_s=2), cut=cut) == [[4], [12], [20], [28], [36], [44], [52], [60], [68], [76]]


def test_pairs_are_true_neighbours_and_the_first_frame_comes_first():
    found = looked_at(40, GridRule(per_s=2, frames=2, first=True))
    assert found == [[0], [4, 5], [12, 13], [20, 21], [28, 29], [36, 37]]


def test_triplets_are_some_of_vbenchs_own():
    found = looked_at(81, GridRule(per_s=2, frames=3), fps=15.0)
    assert all(record == [record[0], record[0] + 1, record[0] + 2] and record[0] % 2 == 0 for record in found)
    assert [record[0] for record in found][:3] == [4, 12, 20]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_below_the_grids_rate_every_record_is_looked_at_once(frames):
    stride = max(1, frames - 1)
    starts = range(stride, 12 - frames + 1, stride)  # the first frame lies before the first point
    assert looked_at(12, GridRule(per_s=2, frames=frames), fps=1.5) == [list(range(k, k + frames)) for k in starts]


@pytest.mark.parametrize(("n", "wanted"), [(1, [[0], [0]]), (2, [[0], [0, 1]]), (4, [[0], [0, 1]]), (6, [[0], [4, 5]])])
def test_a_short_clip_is_looked_at_where_its_first_record_is(n, wanted):
    assert looked_at(n, GridRule(per_s=2, frames=2, first=True)) == wanted


def test_presentation_timestamps_decide():
    times = np.concatenate([np.arange(8) / 100, 10 + np.arange(8) / 100])
    assert looked_at(16, GridRule(per_s=2), times=times) == [[8]]
    shifted = looked_at(81, GridRule(per_s=2), times=1000 + np.arange(81) / 16)
    assert shifted == looked_at(81, GridRule(per_s=2))


def test_a_record_that_the_clip_ends_in_is_left_out():
    assert looked_at(13, GridRule(per_s=2, frames=2)) == [[4, 5]]


def test_one_time_a_frame():
    with pytest.raises(ValueError, match="argument"):
        Gridded(Seen(), GridRule(per_s=2)).update(np.zeros((2, 2, 2, 3), np.uint8), np.zeros(1))


@pytest.mark.parametrize(
    "rule", [GridRule(per_s=2), GridRule(per_s=0.5, frames=3), GridRule(per_s=2.5, frames=2, first=True)]
)
def test_names_say_the_rule(rule):
    assert split_name(gridded_name("dino_b16", rule)) == ("dino_b16", rule)
    assert split_name("dino_b16") == ("dino_b16", None)
    assert grid_ingredients({"a": 1}, rule)["grid"]["frames"] == rule.frames
    assert grid_ingredients({"a": 1}, None) == {"a": 1}


def walk(n=4001, seed=5):
    """Unit vectors that drift: neighbours are alike, distant ones are not."""
    steps = np.random.default_rng(seed).normal(size=(n, 8)) * 0.05
    vectors = np.cumsum(steps, axis=0) + np.array([3.0, *np.zeros(7)])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_true_neighbours_estimate_the_exact_value_and_neighbours_on_the_grid_do_not():
    vectors = walk()
    exact = appearance.consistency(vectors).mean()
    starts = np.arange(4, 4000, 8)
    seen = np.concatenate([vectors[:1], np.stack([vectors[starts], vectors[starts + 1]], axis=1).reshape(-1, 8)])
    found = appearance.gridded_consistency(seen)
    assert len(found) == len(starts)
    assert abs(found.mean() - exact) < 5e-4
    coarse = appearance.consistency(vectors[::8]).mean()
    assert abs(coarse - exact) > 5 * abs(found.mean() - exact)


def test_all_records_give_the_exact_value():
    vectors = walk(30)
    pairs = np.stack([vectors[:-1], vectors[1:]], axis=1).reshape(-1, 8)
    seen = np.concatenate([vectors[:1], pairs])
    np.testing.assert_allclose(appearance.gridded_consistency(seen), appearance.consistency(vectors), atol=1e-15)
