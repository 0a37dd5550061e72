"""Trains the checkpoint that comes with the package: `models/motion_expert/small.safetensors`.

    python -m macebench.models.training.embedded --cmu FOLDER_OF_BVH --out RUN [--threads 1]

Data: 600 procedural dances of 20 s with their own music (`macebench.dances.sources.DemoSource`), and 60 pieces of 8 s
made of the recorded dances of `--cmu` (subject 5 of the CMU motion capture data), warped to the beats of procedural
music. Both pairings are synthetic.

Training has two parts, as the authors of guidance-free training suggest for a model that exists: first plain
conditional training, which costs one pass a step, then guidance-free training from those weights. The settings are
`FIRST` and `SECOND`. The same settings, data and number of threads give the same file on the same machine; a run that
was stopped goes on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from macebench.models.training.config import TrainingConfig
from macebench.models.training.trainer import train

DATA = ("demo:600:20", "cmu:{cmu}:60:8")
COMMON: dict[str, Any] = {
    "model": "small", "batch": 12, "weight_decay": 0.01, "genre_drop": 0.5, "ema_decay": 0.998, "validate_every": 0,
    "save_every": 100, "loss_weights": {"joints": 1.0, "velocity": 30.0, "foot": 60.0},
}  # fmt: skip
FIRST: dict[str, Any] = {"guidance": "cfg", "steps": 4600, "lr": 2e-3, "lr_final": 0.1, "warmup": 100}
SECOND: dict[str, Any] = {"guidance": "paper", "steps": 700, "lr": 4e-4, "lr_final": 0.02, "warmup": 50}


def configs(cmu: str, first: Path, threads: int) -> tuple[TrainingConfig, TrainingConfig]:
    """Settings of both parts; the second begins with the weights of the run folder `first`."""
    data = tuple(name.format(cmu=cmu) for name in DATA)
    common = {**COMMON, "data": data, "threads": threads}
    weights = str(first / "model.safetensors")
    return (
        TrainingConfig.model_validate({**common, **FIRST, "half": False}),
        TrainingConfig.model_validate({**common, **SECOND, "start_from": weights}),
    )


def train_embedded(cmu: str, out: Path, threads: int = 1) -> Path:
    """Train both parts below `out`, and return the finished file ``small.safetensors`` there."""
    first, second = configs(cmu, out / "first", threads)
    train(first, out / "first", data_folder=out / "data")
    train(second, out / "second", data_folder=out / "data")
    return Path(shutil.copyfile(out / "second" / "model.safetensors", out / "small.safetensors"))


def main() -> int:
    """The command line of the module."""
    parser = argparse.ArgumentParser(description="Train the checkpoint that comes with macebench.")
    parser.add_argument("--cmu", required=True, help="Folder of BVH dances.")
    parser.add_argument("--out", type=Path, required=True, help="Folder of the runs.")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads.")
    options = parser.parse_args()
    sys.stdout.write(f"{train_embedded(options.cmu, options.out, options.threads)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
