"""A plugin file: the networks of VBench's dimensions with filler weights and few layers, for tests and benchmarks.

Values mean nothing; paths, shapes, batching, memory and reasons are those of an evaluation with the real weights.
``SHORT_LAYERS`` is the number of layers of the transformers (1).
"""

import os
import runpy
from functools import cache
from pathlib import Path

import numpy as np

from macebench.metrics import _laion
from macebench.models.appearance import amt, statistics

FILLER = runpy.run_path(str(Path(__file__).resolve().parent / "models" / "appearance" / "filler.py"))
LAYERS = int(os.environ.get("SHORT_LAYERS", "1"))


def tensor_file(name, shapes):
    import torch

    from macebench.models.appearance._tensorfile import TensorFile

    return TensorFile({key: torch.from_numpy(value) for key, value in FILLER["tensors"](name, shapes).items()})


@cache
def network(name):
    import dataclasses

    from macebench.models.appearance import clip, dino, musiq

    if name == "musiq":
        return musiq.Musiq(tensor_file("musiq", musiq.shapes(layers=LAYERS)), layers=LAYERS)
    if name == "dino_b16":
        return dino.Dino(tensor_file("dino", dino.shapes(layers=LAYERS)), layers=LAYERS)
    tower = dataclasses.replace(clip.TOWERS[name], layers=LAYERS)
    return clip.Clip(tower, tensor_file("clip", tower.shapes))


@cache
def interpolator():
    from macebench.models.appearance import _amt_network

    tensors = tensor_file("amt_s", _amt_network.layout()).tensors
    small = {name: tensor * 0.1 if name.endswith("2.weight") else tensor for name, tensor in tensors.items()}
    return amt.Interpolator(small)


def started(self):
    from macebench.models.appearance._common import Batches, run_frames

    return Batches(lambda frames: run_frames(network(self.name), frames, "cpu"), 8)


nothing_missing = classmethod(lambda cls: [])
ingredients = classmethod(lambda cls: {"weights_sha256": "filler", "layers": LAYERS})
for kind in (statistics.NetworkStatistic, amt.AmtS):
    kind.missing_weights, kind.ingredients = nothing_missing, ingredients
statistics.NetworkStatistic._started = started
amt.published_network = interpolator
_laion.laion_head = lambda: (np.sin(np.arange(768.0)), 5.0)
