"""Scores large sets of 3-D dances: is the cost linear in clips, and does memory stay bounded?

python tests/benchmarks/bench_motion_scale.py [--clips 10000]

Every clip (300 frames, 24 joints) goes through the registered features and beat metric of ``motion3d-fixed``, then the
sets through FID and DIV, as in a run. The motions are made beforehand; only scoring is timed. Printed are seconds for a
tenth of the clips and for all of them, their ratio (10 is linear), and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from macebench import registry
from macebench.aggregate import aggregate
from macebench.pieces import pieces
from macebench.protocol import load_protocol
from macebench.scoring import score_clip
from macebench.skeleton import forward_kinematics
from macebench.tables import read_clips, write_clips
from macebench.types import Beats, Clip, Evidence, Missing, Motion

POOL = 200
FRAMES, FPS = 300, 30.0
METRICS = ("fid_k_3d", "fid_g_3d", "div_k_3d", "div_g_3d", "bas_3d")


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


def dances() -> list[Motion]:
    """A pool of different dances."""
    rng = np.random.default_rng(0)
    t = np.arange(FRAMES)[:, None, None] / FPS
    found = []
    for _ in range(POOL):
        size, speed, phase = rng.uniform(0.05, 0.5, (24, 3)), rng.uniform(0.3, 2.5, (24, 3)), rng.uniform(0, 6, (24, 3))
        rotations = size * np.sin(2 * np.pi * speed * t + phase)
        root = np.concatenate(
            [0.3 * np.sin(t[:, 0] + phase[0, :1]), np.full((FRAMES, 1), 0.95), 0.2 * np.cos(t[:, 0])], 1
        )
        found.append(Motion(FPS, forward_kinematics(rotations, root), None, root))
    return found


def evidence(pool: list[Motion], index: int) -> Evidence:
    """Clip `index`: a dance of the pool, larger or smaller, at another tempo of music."""
    motion = pool[index % POOL]
    scaled = Motion(FPS, motion.joints * (0.9 + 0.2 * ((index * 7919) % 1000) / 1000))
    tempo = 90 + (index * 31) % 80
    music = Beats(np.arange(0.2, 10.0, 60 / tempo), 10.0)
    clip = Clip(f"{index:06d}", Path("x.npz"), f"{index:064d}")
    nothing = Missing("nothing")
    return Evidence(clip, 10.0, nothing, music, nothing, scaled)


def score(pool: list[Motion], n: int, folder: Path) -> float:
    """Seconds for `n` clips against a reference of 1,000."""
    protocol = load_protocol("motion3d-fixed/1")
    metrics = [registry.get_metric(name) for name in METRICS]
    start = time.perf_counter()
    rows = []
    for role, count in (("generated", n), ("reference", 1000)):
        for index in range(count):
            for piece in pieces(evidence(pool, index + (3 if role == "reference" else 0)), protocol, role):  # type: ignore[arg-type]
                rows.append(score_clip(piece, protocol, metrics, model="m", role=role))  # type: ignore[arg-type]
    write_clips(folder / "clips.parquet", rows)
    table = read_clips(folder / "clips.parquet")
    scores = aggregate(table[table["role"] == "generated"], table[table["role"] == "reference"], protocol, metrics)
    seconds = time.perf_counter() - start
    say(", ".join(f"{item.name} {item.value:.3f}" for item in scores[:5]))
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=10_000)
    n = parser.parse_args().clips
    pool = dances()
    with tempfile.TemporaryDirectory() as folder:
        score(pool, 50, Path(folder))  # imports and caches
        small, large = score(pool, n // 10, Path(folder)), score(pool, n, Path(folder))
    added = (large - small) / (n - n // 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    say(f"{n // 10} clips {small:.1f} s, {n} clips {large:.1f} s (1,000 reference clips included), peak {peak:.2f} GB")
    say(f"{1000 * added:.2f} ms a further clip; {small / (n // 10 + 1000) * 1000:.2f} ms a clip in the small set")


if __name__ == "__main__":
    main()
