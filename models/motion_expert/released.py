"""The authors' checkpoint of MACE-Dance's Motion Expert, read without running what is in it.

The file is what `torch.save` wrote: a dictionary with ``model_state_dict``, ``ema_state_dict``, the optimiser's state
and ``normalizer``, an instance of ``Normalizer`` whose attribute ``scaler`` is a ``MinMaxScaler`` with the tensors
``scale_`` and ``min_``. `torch.load(weights_only=True)` admits tensors and plain containers. Two classes, by name and
wherever their modules lie, are admitted on top; both are read as `_Attributes`, an empty class with no methods, so that
none of the file's own classes is imported. A file that mentions any other class or function is refused before anything
is loaded.

Keys may begin with ``module.``, as data-parallel training leaves them.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

from macebench.errors import UserError
from macebench.models.motion_expert.checkpoint import Checkpoint, build_network, make_normalizer
from macebench.models.motion_expert.config import PRESETS, MotionExpertConfig

Weights = Literal["model", "ema"]

STAND_INS = frozenset({"Normalizer", "MinMaxScaler"})
_PLAIN = frozenset({"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"})
_PROGRAM_BYTES_MAX = 2**26
_PREFIX = "module."
_CARD = MappingProxyType(
    {
        "name": "MACE-Dance Motion Expert (released weights)",
        "source": "https://github.com/AMAP-ML/MACE-Dance",
        "data": "FineDance",
        "licence": "as published by the authors; not distributed with macebench",
    }
)
_ERRORS = (
    OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, AssertionError,
    RecursionError, OverflowError, zipfile.BadZipFile, UnpicklingError,
)  # fmt: skip


class _Attributes:
    """Stands in for a class of the file: attributes and nothing else."""


def load_released(path: Path, *, weights: Weights = "model", config: MotionExpertConfig | None = None) -> Checkpoint:
    """The Motion Expert in the authors' file.

    Args:
        path: Their checkpoint, such as ``train-3750.pt``.
        weights: ``model``, as the released test script does, or ``ema``, the running average of training.
        config: Of a file that their code wrote in another size; the preset `released` when None.

    Raises:
        UserError: the file is missing, no such checkpoint, mentions classes or functions that are not admitted, or its
            weights are not exactly those of the config (the first missing and unexpected keys are named).
    """
    path = Path(path)
    if weights not in ("model", "ema"):
        raise UserError(f"weights {weights!r}: allowed are model and ema.")
    content = _read(path)
    config = PRESETS["released"] if config is None else config
    network = build_network(config, _state(content, f"{weights}_state_dict", path), path)
    scale, minimum = _scaler(content, path)
    normalizer = make_normalizer(scale, minimum, config, path)
    return Checkpoint(network, config, normalizer, MappingProxyType({**_CARD, "weights": weights, "file": path.name}))


def _read(path: Path) -> dict[Any, Any]:
    """The dictionary in the file."""
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist.", hint="Get it from the authors' repository.")
    try:
        names = set(_mentioned(_program(path)))
        stand_ins = _stand_ins(names, path)
        with torch.serialization.safe_globals([(_Attributes, name) for name in stand_ins]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _ERRORS as error:
        what = (str(error).splitlines() or [""])[0][:200]
        raise UserError(f"checkpoint {path} cannot be read: {type(error).__name__}: {what}") from error
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} holds a {type(content).__name__}, expected a dictionary.")
    return content


def _program(path: Path) -> bytes:
    """The pickle in the archive."""
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if info.filename.partition("/")[2] == "data.pkl"]
        if len(infos) != 1 or infos[0].file_size > _PROGRAM_BYTES_MAX:
            raise UserError(f"checkpoint {path} is not what `torch.save` writes.")
        return archive.read(infos[0])


def _mentioned(program: bytes) -> Iterator[str]:
    """Every class and function that a pickle names, as module.name.

    Raises:
        UnpicklingError: it makes a name out of texts, which `torch.save` never does.
    """
    for operation, argument, _ in pickletools.genops(io.BytesIO(program)):
        if operation.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif operation.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            raise UnpicklingError(f"operation {operation.name} is not allowed")


def _stand_ins(names: set[str], path: Path) -> list[str]:
    """The names that `_Attributes` stands in for."""
    strange = []
    stand_ins = []
    for name in sorted(names):
        if name.rpartition(".")[2] in STAND_INS:
            stand_ins.append(name)
        elif name not in _PLAIN and not _is_storage(name):
            strange.append(name)
    if strange:
        raise UserError(
            f"checkpoint {path} is refused: it wants to run {', '.join(name[:80] for name in strange[:5])}.",
            hint="An honest file holds tensors and one Normalizer. Nothing of it was run.",
        )
    return stand_ins


def _is_storage(name: str) -> bool:
    module, _, kind = name.rpartition(".")
    return module in ("torch", "torch.storage") and kind.endswith("Storage")


def _state(content: Mapping[Any, Any], key: str, path: Path) -> dict[str, Tensor]:
    state = content.get(key)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        held = ", ".join(sorted(str(name)[:40] for name in content)[:8])
        raise UserError(f"checkpoint {path} has no weights under {key}; it holds {held}.")
    return {str(name).removeprefix(_PREFIX): value for name, value in state.items()}


def _scaler(content: Mapping[Any, Any], path: Path) -> tuple[Tensor, Tensor]:
    """(scale, minimum) of the pickled normalizer; nothing else of it is looked at."""
    scaler = _attribute(content.get("normalizer"), "scaler")
    scale, minimum = _attribute(scaler, "scale_"), _attribute(scaler, "min_")
    if not (isinstance(scale, Tensor) and isinstance(minimum, Tensor)):
        raise UserError(f"checkpoint {path} has no normalizer with a scaler (`scale_` and `min_`).")
    return scale, minimum


def _attribute(value: Any, name: str) -> Any:
    return vars(value).get(name) if isinstance(value, _Attributes) else None
