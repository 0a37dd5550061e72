"""Networks with filler weights, the golden clips and their scores."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

HERE = Path(__file__).resolve()
GOLDEN = HERE.parents[3].parent / "shared" / "golden" / "vbench"


@pytest.fixture(scope="session")
def filler():
    return SimpleNamespace(**runpy.run_path(str(HERE.with_name("filler.py"))))


def golden_file(name):
    if not (GOLDEN / name).is_file():
        pytest.skip(f"no {GOLDEN / name}")
    return GOLDEN / name


@pytest.fixture(scope="session")
def probes():
    return json.loads(golden_file("probes.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def scores():
    return json.loads(golden_file("vbench_scores.json").read_text("utf-8"))["arrays"]


@pytest.fixture(scope="session")
def clips():
    with np.load(golden_file("clips.npz"), allow_pickle=False) as archive:
        yield archive


@pytest.fixture(scope="session")
def tensor_file(filler):
    """Filler tensors of a network as a weights file gives them."""
    torch = pytest.importorskip("torch")
    from macebench.models.appearance._tensorfile import TensorFile

    def make(network, shapes):
        return TensorFile({name: torch.from_numpy(values) for name, values in filler.tensors(network, shapes).items()})

    return make


@pytest.fixture(scope="session")
def musiq(filler, tensor_file):
    from macebench.models.appearance.musiq import Musiq

    return Musiq(tensor_file("musiq", filler.musiq_shapes()))


@pytest.fixture(scope="session")
def dino(filler, tensor_file):
    from macebench.models.appearance.dino import Dino

    return Dino(tensor_file("dino", filler.dino_shapes()))


@pytest.fixture(scope="session")
def clip_b32(filler, tensor_file):
    from macebench.models.appearance.clip import TOWERS, Clip

    return Clip(TOWERS["clip_b32"], tensor_file("clip", filler.CLIP["clip_b32"]))


@pytest.fixture(scope="session")
def run():
    """(T, ...) results of a network for (T, H, W, 3) frames, in batches."""
    from macebench.models.appearance._common import Batches, run_frames

    def run(network, frames, batch=8):
        batches = Batches(lambda part: run_frames(network, part, "cpu"), batch)
        batches.add(frames)
        return batches.finish()

    return run
