"""Formulas of VBench's appearance scores on arrays."""

import numpy as np
import pytest

from macebench.errors import Unscorable
from macebench.metrics.appearance import (
    aesthetic_quality,
    background_consistency,
    consistency,
    imaging_quality,
    subject_consistency,
)

TURN = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])


def test_consistency_by_hand():
    assert consistency(TURN).tolist() == pytest.approx([0.6, 0.0])
    assert subject_consistency(TURN) == background_consistency(TURN) == pytest.approx(0.3)


def test_a_frozen_clip_is_consistent():
    assert consistency(np.tile([[0.6, 0.8]], (5, 1))).tolist() == pytest.approx([1.0] * 4)


def test_imaging_quality_is_the_mean():
    assert imaging_quality(np.array([40.0, 50.0, 66.0])) == pytest.approx(52.0)


def test_aesthetic_quality_by_hand():
    assert aesthetic_quality(TURN, np.array([2.0, 1.0]), 4.0) == pytest.approx((6.0 + 6.0 + 2.0) / 30)


@pytest.mark.parametrize("score", [subject_consistency, background_consistency])
@pytest.mark.parametrize("frames", [0, 1])
def test_too_short(score, frames):
    with pytest.raises(Unscorable, match="too short"):
        score(np.ones((frames, 4)))


def test_no_frames():
    with pytest.raises(Unscorable, match="no frames"):
        imaging_quality(np.zeros(0))
    with pytest.raises(Unscorable, match="no frames"):
        aesthetic_quality(np.zeros((0, 2)), np.zeros(2), 0.0)
