"""Runs a TorchScript network over clips; started by `macebench.models.appearance.i3d` in a process of its own.

Imports nothing of macebench. ``<folder>/job.json``: ``weights`` (the file), ``sha256`` (its hash), ``clips`` (raw bytes
of uint8 clips), ``shape`` (N, 16, H, W, 3), ``device``, ``batch``, ``call`` (keywords of the network).
Writes ``<folder>/features.npy``, (N, F) float32.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch


def main(folder: Path) -> None:
    """Do the job in `folder`."""
    job: dict[str, Any] = json.loads((folder / "job.json").read_text("utf-8"))
    data = Path(job["weights"]).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != job["sha256"]:
        raise SystemExit(f"the file has SHA-256 {digest}, expected {job['sha256']}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: Any = torch.jit.load(io.BytesIO(data), map_location=job["device"])  # type: ignore[no-untyped-call]
    network.eval()
    clips = np.memmap(job["clips"], np.uint8, "r", shape=tuple(job["shape"]))
    parts = []
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(clips), job["batch"]):
            batch = torch.from_numpy(np.array(clips[start : start + job["batch"]])).to(job["device"])
            pixels = batch.permute(0, 4, 1, 2, 3).contiguous()
            parts.append(network(pixels, **job["call"]).float().cpu().numpy())
    np.save(folder / "features.npy", np.concatenate(parts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
