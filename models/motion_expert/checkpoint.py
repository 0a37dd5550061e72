"""Checkpoints of the Motion Expert: one safetensors file with weights, config, normalizer and model card.

The file holds the tensors ``network.*``, ``normalizer.scale`` and ``normalizer.minimum`` (float64). Its metadata has
one entry, ``macebench-motion-expert``: JSON with ``schema``, ``config`` and ``card``. One entry, because the format
keeps no order of several, and the same checkpoint shall be the same bytes. No pickle is written or read.

In half precision, matrices are stored as float16; vectors (biases, norms) and the state matrices ``A_log`` stay
float32. A loaded network is always float32 and in evaluation mode.

Loading trusts nothing in the file: the config is validated, and shapes are compared before memory is taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pydantic
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from macebench.errors import UserError
from macebench.models.motion_expert.codec import Normalizer
from macebench.models.motion_expert.config import MotionExpertConfig
from macebench.models.motion_expert.network import MotionExpertNetwork
from macebench.store import atomic_write

FORMAT = "macebench-motion-expert"
SCHEMA = 1
_NETWORK = "network."
_SCALE, _MINIMUM = "normalizer.scale", "normalizer.minimum"
_NAMED = 5


@dataclass(frozen=True)
class Checkpoint:
    """A trained Motion Expert.

    Attributes:
        network: float32, evaluation mode, gradients off (`requires_grad_()` turns them on for fine-tuning).
        config: Its sizes and choices.
        normalizer: Of its motion vectors.
        card: What a reader must know: data, steps, seed, licence; plain JSON values.
    """

    network: MotionExpertNetwork
    config: MotionExpertConfig
    normalizer: Normalizer
    card: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def save(
    path: Path,
    network: MotionExpertNetwork,
    config: MotionExpertConfig,
    normalizer: Normalizer,
    card: Mapping[str, Any],
    *,
    half: bool = False,
) -> None:
    """Write a checkpoint atomically; the same values give the same bytes.

    Args:
        path: The file, ``.safetensors``.
        network: Of `config`; moved to the CPU for writing.
        config: Sizes and choices.
        normalizer: Of `config.n_features` channels.
        card: Plain JSON values.
        half: Store matrices in half precision.

    Raises:
        ValueError: `network` is not of `config`, or the normalizer has another number of channels.
        UserError: weights are not finite, in half precision too large, or the file cannot be written.
    """
    if network.config != config:
        raise ValueError("the network was made with another config")
    _check_channels(normalizer, config)
    tensors = {f"{_NETWORK}{name}": _stored(name, value, half) for name, value in network.state_dict().items()}
    bad = sorted(name for name, value in tensors.items() if not torch.isfinite(value).all())
    if bad:
        kind = "finite in half precision" if half else "finite"
        raise UserError(f"cannot write {path}: weights that are not {kind}: {_named(bad)}.")
    tensors[_SCALE], tensors[_MINIMUM] = torch.tensor(normalizer.scale), torch.tensor(normalizer.minimum)
    about = {"schema": SCHEMA, "config": config.model_dump(mode="json"), "card": dict(card)}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={FORMAT: json.dumps(about, sort_keys=True, allow_nan=False)})


def _stored(name: str, value: Tensor, half: bool) -> Tensor:
    wide = value.ndim < 2 or name.endswith("A_log")
    dtype = torch.float16 if half and not wide else torch.float32
    return value.detach().to(device="cpu", dtype=dtype).contiguous()


def load(path: Path) -> Checkpoint:
    """Read a checkpoint that `save` wrote.

    Raises:
        UserError: the file is missing, damaged, of another kind or of a newer schema, or its weights do not fit its
            config; the message names the file and the first names that are missing or unexpected.
    """
    about, tensors = _read(Path(path))
    config = _config(path, about)
    normalizer = _normalizer(path, tensors.pop(_SCALE, None), tensors.pop(_MINIMUM, None), config)
    weights = {name.removeprefix(_NETWORK): value for name, value in tensors.items() if name.startswith(_NETWORK)}
    stray = {name: value for name, value in tensors.items() if not name.startswith(_NETWORK)}
    network = build_network(config, {**weights, **stray}, path)
    return Checkpoint(network, config, normalizer, MappingProxyType(about["card"]))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the file says of itself, and its tensors."""
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist.", hint="`macebench train motion-expert` makes one.")
    try:
        with safe_open(path, framework="pt") as file:
            about = _about(path, file.metadata() or {})
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"checkpoint {path} cannot be read: {str(error)[:200]}") from error


def _about(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The JSON in the metadata, of this schema and with a card that is a mapping."""
    if FORMAT not in metadata:
        raise UserError(
            f"{path} is no checkpoint of a Motion Expert.",
            hint="A file of the MACE-Dance authors (.pt) is read by `MotionExpert.from_released`.",
        )
    try:
        about = json.loads(metadata[FORMAT])
    except (ValueError, RecursionError) as error:
        raise UserError(f"checkpoint {path}: its metadata is no JSON.") from error
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        schema = str(about.get("schema"))[:20] if isinstance(about, dict) else "none"
        raise UserError(
            f"checkpoint {path} has schema {schema}, this version reads {SCHEMA}.",
            hint="Install the version of macebench that wrote it.",
        )
    if not isinstance(about.get("card"), dict):
        raise UserError(f"checkpoint {path} has no model card.")
    return about


def _config(path: Path, about: Mapping[str, Any]) -> MotionExpertConfig:
    try:
        return MotionExpertConfig.model_validate(about.get("config"))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "config"
        raise UserError(f"checkpoint {path}: {where[:80]}: {first['msg'][:200]}") from error


def _normalizer(path: Path, scale: Tensor | None, minimum: Tensor | None, config: MotionExpertConfig) -> Normalizer:
    if scale is None or minimum is None:
        raise UserError(f"checkpoint {path} has no normalizer.")
    return make_normalizer(scale, minimum, config, path)


def make_normalizer(scale: Tensor, minimum: Tensor, config: MotionExpertConfig, path: Path) -> Normalizer:
    """The normalizer of two tensors read from the file `path`.

    Raises:
        UserError: shapes or values are not those of a normalizer of `config`.
    """
    try:
        arrays = [np.asarray(tensor.detach().to(device="cpu", dtype=torch.float64)) for tensor in (scale, minimum)]
        normalizer = Normalizer(*arrays)
        _check_channels(normalizer, config)
    except ValueError as error:
        raise UserError(f"checkpoint {path}: {error}.") from error
    return normalizer


def _check_channels(normalizer: Normalizer, config: MotionExpertConfig) -> None:
    if len(normalizer.scale) != config.n_features:
        raise ValueError(f"the normalizer has {len(normalizer.scale)} channels, the network {config.n_features}")


def build_network(config: MotionExpertConfig, weights: Mapping[str, Tensor], path: Path) -> MotionExpertNetwork:
    """A float32 network of `config`, in evaluation mode and without gradients, with weights read from the file `path`.

    The state of torch's random numbers is left as it was.

    Raises:
        UserError: weights are missing, unexpected, of another shape, no floating-point numbers or not finite.
    """
    with torch.device("meta"):
        expected = {name: value.shape for name, value in MotionExpertNetwork(config).state_dict().items()}
    _refuse(path, "misses weights", expected.keys() - weights.keys())
    _refuse(path, "has unexpected weights", weights.keys() - expected.keys())
    shapes = [
        f"{name} {tuple(weights[name].shape)} for {tuple(shape)}"
        for name, shape in expected.items()
        if weights[name].shape != shape
    ]
    _refuse(path, "has weights of another shape", shapes)
    _refuse(path, "has weights that are no numbers", [n for n, w in weights.items() if not _is_sound(w)])
    with torch.random.fork_rng(devices=[]):
        network = MotionExpertNetwork(config)
    network.load_state_dict({name: value.to(torch.float32) for name, value in weights.items()})
    return network.eval().requires_grad_(False)


def _is_sound(weight: Tensor) -> bool:
    return weight.is_floating_point() and bool(torch.isfinite(weight).all())


def _refuse(path: Path, what: str, names: Iterable[str]) -> None:
    if found := sorted(names):
        raise UserError(f"checkpoint {path} {what}: {_named(found)}.")


def _named(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMED
    shown = ", ".join(name[:120] for name in names[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
