"""All golden clips through all four networks with filler weights: VBench's own scores, clip by clip."""

from __future__ import annotations

import pytest

from macebench.metrics.appearance import (
    aesthetic_quality,
    background_consistency,
    imaging_quality,
    subject_consistency,
)

pytest.importorskip("torch")

CLIPS = (
    "smooth_128", "noise_96x128", "static_128x96", "cut_160x120", "odd_97x131", "big_288x544", "stall_256", "long_96",
    "real_carphone", "real_pose1", "real_bunny",
)  # fmt: skip
SHORT = ("big_288x544", "static_128x96", "real_pose1", "real_bunny")


def deviations(network, formula, clips, wanted, run, names):
    """Largest difference from VBench, in the order of size."""
    found = {name: abs(formula(run(network, clips[name])) - wanted["per_clip"][name]) for name in names}
    return max((value, name) for name, value in found.items())


@pytest.mark.slow
def test_imaging_quality(musiq, clips, scores, run):
    worst = deviations(musiq, imaging_quality, clips, scores["imaging_quality"], run, CLIPS)
    assert worst[0] < 1e-3, worst


@pytest.mark.slow
def test_background_consistency(clip_b32, clips, scores, run):
    worst = deviations(clip_b32, background_consistency, clips, scores["background_consistency"], run, CLIPS)
    assert worst[0] < 2e-6, worst


@pytest.mark.slow
def test_subject_consistency(dino, clips, scores, run):
    worst = deviations(dino, subject_consistency, clips, scores["subject_consistency"], run, CLIPS)
    assert worst[0] < 2e-6, worst


@pytest.mark.slow
def test_aesthetic_quality(filler, tensor_file, clips, scores, run):
    """The short clips only: this network needs half a second a frame."""
    from macebench.metrics._laion import read_head
    from macebench.models.appearance.clip import TOWERS, Clip

    if not filler.SHARED_HEAD.is_file():
        pytest.skip(f"no {filler.SHARED_HEAD}")
    network = Clip(TOWERS["clip_l14"], tensor_file("clip", filler.CLIP["clip_l14"]))
    head = read_head(filler.SHARED_HEAD)
    worst = deviations(
        network, lambda features: aesthetic_quality(features, *head), clips, scores["aesthetic_quality"], run, SHORT
    )
    assert worst[0] < 2e-6, worst
