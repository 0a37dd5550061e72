"""``macebench doctor``."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from macebench.cli.console import say, size
from macebench.errors import UserError

_OPTIONAL = {
    "ai_edge_litert": ("blazepose", 'pip install -e ".[pose]"'),
    "transformers": ("vitpose", 'pip install -e ".[pose]"'),
    "pyrender": ("second renderer", 'pip install -e ".[render]"'),
    "smplx": ("SMPL bodies", 'pip install -e ".[smpl]"'),
    "diffusers": ("for an Appearance Expert; no command uses it yet", 'pip install -e ".[wan]"'),
    "ray": ("--engine ray", 'pip install -e ".[ray]"'),
    "mamba_ssm": ("CUDA scan (optional)", 'pip install -e ".[mamba]" on a CUDA machine'),
}
_BANNED = {
    "torchvision": "its presence beside CPU torch breaks transformers and torchmetrics: pip uninstall torchvision",
}
_EITHER = {"vbench6": "vbench6-hub", "vbench6-hub": "vbench6"}
"""Groups of weights of which one is enough."""
_OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")


def doctor(
    vbench_python: Annotated[Path | None, typer.Option(help="Python that should have vbench.")] = None,
) -> None:
    """Say what is there, what is missing, and the command that fixes it."""
    for line in [*_machine(), *_packages(), *_isolated(), *_vbench(vbench_python), *_weights(), *_store()]:
        say(line)


def _machine() -> Iterator[str]:
    import torch

    import macebench

    yield f"macebench {macebench.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found = ", ".join(devices) or "none found; everything runs on the CPU, networks much slower"
    yield f"torch {torch.__version__}, GPU: {found}"
    free = shutil.disk_usage(Path.cwd()).free
    yield f"free disk here: {size(free)}" + ("   LOW" if free < 5e9 else "")


def _packages() -> Iterator[str]:
    from importlib.metadata import distributions

    for name, (use, command) in _OPTIONAL.items():
        found = find_spec(name) is not None
        yield f"[{'ok' if found else '--'}] {name:<16} {use}" + ("" if found else f"   fix: {command}")
    for name, why in _BANNED.items():
        if find_spec(name) is not None:
            yield f"[!!] {name}: {why}"
    flavours = {str(item.metadata["Name"]).lower() for item in distributions()} & set(_OPENCV)
    for name in sorted(flavours):
        yield f"[!!] {name} beside opencv-python-headless: keep one flavour: pip uninstall {name}"


def _isolated() -> Iterator[str]:
    yield "[  ] mmpose runs in a Python of its own: macebench eval --mmpose-python PATH"
    yield "     make it: python -m venv mmpose-env, then install openmim, mmengine, mmcv with ops, mmdet, mmpose"


def _vbench(python: Path | None) -> Iterator[str]:
    """VBench's own package: what the interpreter has, or how to make one."""
    from macebench.models.appearance import vbench_package
    from macebench.models.appearance.vbench_worker import WEIGHTS, cache

    problem = ""
    if python is not None:
        try:
            found = vbench_package.describe(python)
        except UserError as error:
            problem = str(error)
        else:
            wanted = [name for names in WEIGHTS.values() for name in names]
            yield f"[ok] vbench {found.version} with torch {found.torch} on {found.device}: {python}"
            for name in wanted:
                yield f"     [{'ok' if name in found.weights else '--'}] {cache() / name}"
            return
    yield "[--] vbench: " + problem if problem else "[  ] vbench runs in a Python of its own: --vbench-python PATH"
    yield "     make it (numpy below 2, transformers 4.33.2 and setuptools below 81 must stay as they are here):"
    for step in vbench_package.STEPS:
        yield f"     {step}"
    yield "     its weights are in $VBENCH_CACHE_DIR (~/.cache/vbench); doctor --vbench-python PATH lists them"


def _weights() -> Iterator[str]:
    from macebench import weights

    rows = weights.weights_table()
    states = {row.name: weights.status(row.name) for row in rows}
    groups = {row.groups[0]: [states[item.name] for item in weights.select(row.groups[0])] for row in rows}
    for group, found in groups.items():
        good, other = _is_there(found), _EITHER.get(group, "")
        if not good and _is_there(groups.get(other, [])):
            yield f"[  ] weights {group}   not needed: {other} is there"
            continue
        state = "ok" if good else "!!" if "corrupt" in found else "--"
        either = f", or {other} in its place" if other else ""
        yield f"[{state}] weights {group}" + ("" if good else f"   fix: macebench weights pull {group}{either}")


def _is_there(states: Sequence[str]) -> bool:
    return bool(states) and all(state == "present" for state in states)


def _store() -> Iterator[str]:
    from macebench.store import Store

    store = Store()
    report = store.report()
    yield f"store {store.root}: {report.n_entries} entries, {size(report.n_bytes)}"
