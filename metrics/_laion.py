"""LAION's linear head for aesthetic quality: 768 weights and a bias on a CLIP ViT-L/14 vector of length 1.

Source: LAION-AI/aesthetic-predictor, ``sa_0_4_vit_l_14_linear.pth`` (MIT).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from macebench.errors import UserError
from macebench.types import FloatArray
from macebench.weights import path_of

WEIGHTS = "laion-aesthetic-l14"
_INPUTS = 768


def laion_head() -> tuple[FloatArray, float]:
    """(768,) weight and bias of the head.

    Raises:
        WeightsMissingError: the file is not on this machine; the hint is the command that gets it.
        WeightsCorruptError: it has another SHA-256 than the published one.
    """
    return read_head(path_of(WEIGHTS))


@cache
def read_head(path: Path) -> tuple[FloatArray, float]:
    """(768,) weight and bias in a file of the published format.

    Raises:
        UserError: it is another kind of file.
    """
    import torch

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        weight, bias = tensors["weight"], tensors["bias"]
        if tuple(weight.shape) != (1, _INPUTS) or tuple(bias.shape) != (1,):
            raise ValueError(f"weight {tuple(weight.shape)}, bias {tuple(bias.shape)}")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise UserError(f"{path} is not LAION's linear head for ViT-L/14: {type(error).__name__}.") from error
    return weight[0].numpy().astype(np.float64), float(bias[0])
