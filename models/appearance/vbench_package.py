"""VBench's own package in an interpreter of its own, which the user names.

VBench pins versions that macebench cannot share (numpy below 2, transformers 4.33.2, torchvision), so it is never
imported here: ``<python> vbench_worker.py <job folder>`` runs it on the video files
(`macebench.models.appearance.vbench_worker`), and the values of each clip come back (`macebench.vbench_values`).
`STEPS` are the commands that make such an interpreter.

Models are loaded once for some clips. When the child dies or runs out of time, what it had finished is kept, and each
of its clips gets a child of its own for the rest, so that a clip that kills VBench costs only itself.

Beside what VBench says, two things are refused: a clip whose frames VBench counts otherwise than macebench's decoder,
and motion smoothness below 128 pixels a side, where VBench scores what comes of dividing by zero.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from macebench.errors import UserError
from macebench.models.appearance import vbench_worker
from macebench.models.appearance._settings import ENV_DEVICE
from macebench.process import ChildResult, read_json_result, run_job
from macebench.protocol import VbenchPackage
from macebench.types import FloatArray
from macebench.vbench_values import (
    CRASHED,
    DIMENSIONS,
    FAILED,
    NO_MP4,
    NO_WEIGHTS,
    OTHER_FRAMES,
    SMALL,
    TIMED_OUT,
    packed,
)

WORKER = Path(vbench_worker.__file__)
STEPS = (
    "python3.11 -m venv vbench-env",
    'vbench-env/bin/pip install "setuptools<81" "numpy<2" torch torchvision --extra-index-url '
    "https://download.pytorch.org/whl/cpu",
    'vbench-env/bin/pip install "transformers==4.33.2" "opencv-python-headless<4.11" scipy tqdm decord omegaconf '
    "easydict requests pyyaml regex ftfy einops pandas addict yapf lmdb future scikit-image icecream tensorboard",
    "vbench-env/bin/pip install --no-deps vbench==0.1.5 timm==1.0.12 openai-clip==1.0.1 pyiqa==0.1.13",
)
"""Commands that make the environment; measured with torch 2.13 for CPUs, whose torchvision needs no working library."""
NEEDS = (
    "`macebench doctor` prints how to make an environment with vbench; name it: --vbench-python vbench-env/bin/python."
)
CLIPS_AT_ONCE = 16
START_S, CLIP_S = 900.0, 3600.0
SMALLEST_FRAME = 113
_DESCRIBE_S = 600.0


@dataclass(frozen=True)
class PackageClip:
    """A clip as VBench's package is asked for it.

    Attributes:
        path: The video file.
        pairs: Frame pairs that macebench's decoder counts.
        shorter_side: Pixels.
    """

    path: Path
    pairs: int
    shorter_side: int


@dataclass
class _Found:
    """What children said so far, by video."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)

    def done(self, video: str) -> set[str]:
        return {*self.values.get(video, {}), *self.reasons.get(video, {})}

    def take(self, result: Mapping[str, Any], videos: Sequence[str]) -> None:
        """Add the checked contents of a ``result.json``."""
        for dimension in DIMENSIONS:
            values, failures = (_table(_table(result, kind), dimension) for kind in ("values", "failures"))
            for video in videos:
                if video in failures:
                    missing = str(failures[video]).startswith("missing:")
                    self.reasons.setdefault(video, {})[dimension] = NO_WEIGHTS if missing else FAILED
                elif isinstance(values.get(video), int | float):
                    self.values.setdefault(video, {})[dimension] = float(values[video])
        counts = _table(result, "pairs")
        self.pairs |= {video: int(counts[video]) for video in videos if isinstance(counts.get(video), int)}


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key, {})
    return found if isinstance(found, Mapping) else {}


def describe(python: Path) -> VbenchPackage:
    """Version and weights of the package, as a resolved protocol names them.

    Raises:
        UserError: the interpreter does not exist, or cannot import vbench.
    """
    with tempfile.TemporaryDirectory(prefix="macebench-vbench-") as name:
        folder = Path(name)
        child = _child(python, folder, [], _DESCRIBE_S)
        if not child.ok:
            raise UserError(f"{python} cannot import vbench ({child.reason()}): {_last_line(child)}", hint=NEEDS)
        try:
            return VbenchPackage.model_validate(_table(read_json_result(folder), "about"))
        except ValidationError as error:
            raise UserError(f"{python} says nothing valid of its vbench: {error.errors()[0]['msg']}") from error


def compute(python: Path, clips: Sequence[PackageClip], log: Path) -> list[FloatArray]:
    """VBench's values of some clips, each an array of `macebench.vbench_values`.

    Args:
        python: Interpreter with vbench.
        clips: At most `CLIPS_AT_ONCE` make sense.
        log: What VBench printed is added to this file.

    Raises:
        UserError: the interpreter does not exist or lost its vbench.
    """
    videos = [str(clip.path.absolute()) for clip in clips if clip.path.suffix == ".mp4"]
    found = _Found()
    failure = _try(python, videos, DIMENSIONS, found, log) if videos else None
    if failure is not None:
        for video in videos:
            rest = [name for name in DIMENSIONS if name not in found.done(video)]
            alone = _try(python, [video], rest, found, log) if rest else None
            if alone is not None:
                found.reasons.setdefault(video, {}).update(dict.fromkeys(set(rest) - found.done(video), alone))
    return [_packed(clip, found) for clip in clips]


def _packed(clip: PackageClip, found: _Found) -> FloatArray:
    """The values of one clip, or why there are none."""
    video = str(clip.path.absolute())
    if clip.path.suffix != ".mp4":
        return packed({}, {}, NO_MP4)
    if found.pairs.get(video, clip.pairs) != clip.pairs:
        return packed({}, {}, OTHER_FRAMES)
    reasons = dict(found.reasons.get(video, {}))
    if clip.shorter_side < SMALLEST_FRAME:
        reasons["motion_smoothness"] = SMALL
    return packed(found.values.get(video, {}), reasons)


def _try(python: Path, videos: Sequence[str], dimensions: Sequence[str], found: _Found, log: Path) -> int | None:
    """Run a child and take what it finished; a reason's number when it did not end well, else None."""
    with tempfile.TemporaryDirectory(prefix="macebench-vbench-") as name:
        folder = Path(name)
        child = _child(python, folder, videos, START_S + CLIP_S * len(videos), dimensions)
        _append(log, folder / "log.txt")
        if child.returncode == vbench_worker.NO_VBENCH:
            raise UserError(f"{python} cannot import vbench: {_last_line(child)}", hint=NEEDS)
        try:
            found.take(read_json_result(folder), videos)
        except UserError:
            return TIMED_OUT if child.timed_out else CRASHED
    if child.ok:
        return None
    return TIMED_OUT if child.timed_out else CRASHED


def _child(
    python: Path, folder: Path, videos: Sequence[str], timeout_s: float, dimensions: Sequence[str] = ()
) -> ChildResult:
    path = Path(python).expanduser()
    if not path.is_file():
        raise UserError(f"vbench interpreter {path} does not exist.", hint=NEEDS)
    job = {"device": os.environ.get(ENV_DEVICE, "auto"), "videos": list(videos), "dimensions": list(dimensions)}
    own = {"VBENCH_CACHE_DIR": os.environ["VBENCH_CACHE_DIR"]} if "VBENCH_CACHE_DIR" in os.environ else {}
    return run_job(path, WORKER, folder, job, timeout_s=timeout_s, env=own, needs=NEEDS)


def _append(log: Path, part: Path) -> None:
    if part.is_file():
        with log.open("ab") as file:
            file.write(part.read_bytes())


def _last_line(child: ChildResult) -> str:
    lines = child.stderr_tail.strip().splitlines()
    return lines[-1][:300] if lines else "it says nothing"
