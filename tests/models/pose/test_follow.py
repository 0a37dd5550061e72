"""Following one person."""

from __future__ import annotations

import numpy as np

from macebench.models.pose.follow import Follower

SMALL, LARGE, FAR = [10, 10, 30, 50], [100, 10, 160, 130], [300, 10, 400, 200]


def boxes(*items):
    return np.array(items, dtype=float).reshape(-1, 4)


def test_the_most_prominent_is_taken_up():
    follower = Follower(0.3, 0.5)
    assert follower.choose(boxes(SMALL, LARGE), np.array([0.9, 0.8]), 0.0) == 1
    # prominence is area times score
    assert Follower(0.3, 0.5).choose(boxes(SMALL, LARGE), np.array([0.99, 0.05]), 0.0) == 0


def test_the_same_person_is_kept_when_another_becomes_larger():
    follower = Follower(0.3, 0.5)
    follower.choose(boxes(LARGE), np.ones(1), 0.0)
    moved = [105, 12, 166, 133]
    assert follower.choose(boxes(FAR, moved), np.ones(2), 0.1) == 1
    assert follower.choose(boxes(FAR, [111, 14, 172, 136]), np.ones(2), 0.2) == 1


def test_a_lost_person_is_waited_for():
    follower = Follower(0.3, 0.5)
    follower.choose(boxes(LARGE), np.ones(1), 0.0)
    assert follower.choose(boxes(FAR), np.ones(1), 0.2) is None
    assert follower.choose(boxes(), np.ones(0), 0.3) is None
    assert follower.choose(boxes(FAR, LARGE), np.ones(2), 0.5) == 1
    assert follower.choose(boxes(FAR), np.ones(1), 1.0) is None
    assert follower.choose(boxes(FAR), np.ones(1), 1.01) == 0
    assert follower.choose(boxes(LARGE, FAR), np.ones(2), 1.1) == 1
