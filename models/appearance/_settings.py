"""Where the appearance networks run, and with what numbers; from the environment.

- ``MACEBENCH_DEVICE``: ``cpu``, ``cuda`` or ``auto`` (cuda where there is one; the default).
- ``MACEBENCH_DTYPE``: ``float32`` (the default, and what VBench uses), ``bfloat16`` or ``float16``; the last two on a
  GPU only, because they are slower on a CPU. Part of what a result is stored under.
- ``MACEBENCH_BATCH``: frames that go through a network at once, or ``auto`` (the default). On a GPU either is halved
  for as long as memory runs out, and what was found serves the clips after it.

``--device``, ``--dtype`` and ``--batch`` of ``macebench eval`` set them for one run (`overridden`).

Neither device nor batch changes a result by more than 1e-5 of its size: both change the order of sums only. On a GPU
TF32 is off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from macebench.errors import UserError

ENV_DEVICE, ENV_DTYPE, ENV_BATCH = "MACEBENCH_DEVICE", "MACEBENCH_DTYPE", "MACEBENCH_BATCH"
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
BATCH_CPU, BATCH_CUDA = 8, 64
AUTO = "auto"


@dataclass(frozen=True)
class Settings:
    """Where and how networks run.

    Attributes:
        device: ``cpu`` or ``cuda``.
        dtype: Name of the type that is computed with.
        batch: Frames at once, at most.
    """

    device: str = "cpu"
    dtype: str = "float32"
    batch: int = BATCH_CPU


def settings() -> Settings:
    """The settings of the environment.

    Raises:
        UserError: a value that is not allowed, cuda without a GPU, or half precision without one.
    """
    import torch

    device, dtype = os.environ.get(ENV_DEVICE, "auto"), dtype_name()
    if device not in DEVICES:
        raise UserError(f"device {device!r} is not allowed; allowed are {', '.join(DEVICES)}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device on this machine.", hint="Use --device cpu or --device auto.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and dtype != "float32":
        raise UserError(
            f"dtype {dtype} needs a GPU: on a CPU it is about four times slower than float32.",
            hint="Use --dtype float32, or --device cuda on a machine that has one.",
        )
    given = os.environ.get(ENV_BATCH, AUTO) or AUTO
    if given != AUTO and not (given.isdecimal() and int(given) >= 1):
        raise UserError(f"batch size {given!r} is not allowed; allowed is auto, or 1 and more.")
    usual = BATCH_CUDA if device == "cuda" else BATCH_CPU
    return Settings(device, dtype, usual if given == AUTO else int(given))


@contextmanager
def overridden(device: str | None = None, dtype: str | None = None, batch: str | None = None) -> Iterator[None]:
    """Settings for what runs inside, and for the processes that it starts; None keeps the environment's.

    Raises:
        UserError: see `settings`; nothing is looked at when all are None.
    """
    given = {
        name: value
        for name, value in ((ENV_DEVICE, device), (ENV_DTYPE, dtype), (ENV_BATCH, batch))
        if value is not None
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        if given:
            settings()
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def dtype_name() -> str:
    """The name of the type that is computed with.

    Raises:
        UserError: it is not allowed.
    """
    name = os.environ.get(ENV_DTYPE, "float32")
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is not allowed; allowed are {', '.join(DTYPES)}.")
    return name
