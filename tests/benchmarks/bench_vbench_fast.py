"""How far `vbench6-fast/1` is from `vbench6/1`, and how much faster: the same clips and networks, one after the other.

Weights are filler weights (deterministic numbers, nothing trained), unless --weights says to take those of this
machine. With --write the deviations go to the table that is printed beside the protocol's scores. A clip that is too
short or too small for a dimension does not count for it.

    python tests/benchmarks/bench_vbench_fast.py CLIP... [--frames 81] [--threads 1] [--noise] [--write FILE]
"""

from __future__ import annotations

import argparse
import functools
import runpy
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml

from macebench import registry
from macebench.errors import MacebenchError, Unscorable
from macebench.extract import make_statistic
from macebench.grid import Gridded
from macebench.media import Decoder
from macebench.metrics import _laion
from macebench.models.appearance._amt_network import layout
from macebench.models.appearance._common import Batches, run_frames
from macebench.models.appearance._tensorfile import TensorFile
from macebench.models.appearance.amt import AmtS, Interpolator
from macebench.models.appearance.clip import TOWERS, Clip
from macebench.models.appearance.dino import Dino
from macebench.models.appearance.musiq import Musiq
from macebench.protocol import load_protocol
from macebench.types import Clip as ClipRecord
from macebench.types import Evidence, Missing

HERE = Path(__file__).resolve()
FILLER = runpy.run_path(str(HERE.parents[1] / "models" / "appearance" / "filler.py"))
EXACT, FAST = load_protocol("vbench6/1"), load_protocol("vbench6-fast/1")
NETWORKS = {
    "temporal_flickering": "frame_difference", "background_consistency": "clip_b32", "subject_consistency": "dino_b16",
    "imaging_quality": "musiq", "motion_smoothness": "amt_s", "aesthetic_quality": "clip_l14",
}  # fmt: skip
BATCH = 8
Part = tuple[np.ndarray, np.ndarray]


class Counted:
    """A network behind `Batches`, as an evaluation runs it."""

    def __init__(self, network) -> None:
        self._batches = Batches(lambda frames: run_frames(network, frames, "cpu"), BATCH)

    def update(self, frames, times_s) -> None:
        self._batches.add(frames)

    def result(self):
        return self._batches.finish().astype(np.float64)


@functools.cache
def filled(name: str):
    """A network with filler weights."""
    if name == "amt_s":
        return Interpolator({key: torch.from_numpy(FILLER["amt_tensor"](key, size)) for key, size in layout().items()})
    shapes = FILLER["CLIP"].get(name) or FILLER["dino_shapes" if name == "dino_b16" else "musiq_shapes"]()
    tensors = FILLER["tensors"](name.partition("_")[0], shapes)
    file = TensorFile({key: torch.from_numpy(values) for key, values in tensors.items()})
    return Clip(TOWERS[name], file) if name in TOWERS else Dino(file) if name == "dino_b16" else Musiq(file)


def inner(name: str, real: bool):
    if real or name == "frame_difference":
        return make_statistic(name)
    return AmtS(filled(name)) if name == "amt_s" else Counted(filled(name))


def decoded(path: Path, n: int) -> list[Part]:
    """The first frames of a video in batches."""
    parts, count = [], 0
    with Decoder() as decoder:
        for batch in decoder.frames(path):
            parts.append((batch.frames[: n - count].copy(), batch.times_s[: n - count].copy()))
            count += len(parts[-1][0])
            if count >= n:
                break
    return parts


def noise(n: int) -> list[Part]:
    """`n` different frames of 512x512 at 16 a second."""
    return [(FILLER["noise"](1, n, 512, 512, 3).astype(np.uint8), np.arange(n) / 16)]


def scored(dimension: str, parts: list[Part], protocol, real: bool) -> tuple[float, float]:
    """Value of a dimension and the processor seconds it took; NaN where it has none."""
    name = NETWORKS[dimension]
    rule = (protocol.frames_grid or {}).get(name)
    statistic = inner(name, real) if rule is None else Gridded(inner(name, real), rule)
    start = time.process_time()
    for frames, times in parts:
        statistic.update(frames, times)
    found = {protocol.seen(name): statistic.result()}
    seconds = time.process_time() - start
    evidence = Evidence(ClipRecord("clip", Path("clip"), "0" * 64), 1.0, Missing("-"), Missing("-"), found)
    try:
        value = registry.get_metric(dimension).compute(evidence, protocol)
    except Unscorable:
        return float("nan"), seconds
    return (value[dimension] if isinstance(value, dict) else value), seconds


def clips(options: argparse.Namespace) -> Iterator[tuple[str, list[Part]]]:
    for path in options.clips:
        try:
            yield path.stem, decoded(path, options.frames)
        except MacebenchError as error:
            sys.stdout.write(f"{path.stem}: {error}\n")
    if options.noise:
        yield "noise", noise(options.frames)


def measure(options: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Deviations and (exact, fast) seconds by dimension."""
    away: dict[str, list[float]] = {name: [] for name in NETWORKS}
    spent: dict[str, list[float]] = {name: [0.0, 0.0] for name in NETWORKS}
    for label, parts in clips(options):
        line = []
        for dimension in options.dimensions:
            (exact, slow), (fast, quick) = (scored(dimension, parts, item, options.real) for item in (EXACT, FAST))
            spent[dimension][0] += slow
            spent[dimension][1] += quick
            if np.isfinite(exact) and np.isfinite(fast):
                away[dimension].append(abs(fast - exact))
                line.append(f"{dimension} {exact:.7f} {fast:.7f}")
        n = sum(len(frames) for frames, _ in parts)
        sys.stdout.write(f"{label} ({n} frames): {'  '.join(line)}\n")
        sys.stdout.flush()
    return away, spent


def table(away: dict[str, list[float]], options: argparse.Namespace) -> dict[str, object]:
    """The deviations as they are stored."""
    rows = {
        name: {"median": round(statistics.median(values), 6), "max": round(max(values), 6), "n": len(values)}
        for name, values in away.items() if values
    }  # fmt: skip
    n = max((len(values) for values in away.values()), default=0)
    origin = f"{'published' if options.real else 'filler'} weights, at most {options.frames} frames each"
    return {FAST.id: {"hash": FAST.hash, "exact": EXACT.id, "origin": origin, "n": n, "dimensions": rows}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dimensions", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--noise", action="store_true", help="add a clip of noise, 512x512, 16 frames a second")
    parser.add_argument("--weights", dest="real", action="store_true", help="the weights of this machine")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.real:
        head = FILLER["SHARED_HEAD"]
        _laion.laion_head = lambda: _laion.read_head(head)
    away, spent = measure(options)
    for name, (slow, quick) in ((name, spent[name]) for name in options.dimensions):
        sys.stdout.write(f"{name:24s} exact {slow:7.1f} s  fast {quick:6.1f} s  x{slow / max(quick, 1e-9):.1f}\n")
    slow, quick = (sum(row[index] for row in spent.values()) for index in (0, 1))
    sys.stdout.write(f"{'together':24s} exact {slow:7.1f} s  fast {quick:6.1f} s  x{slow / quick:.2f}\n")
    text = yaml.safe_dump(table(away, options), sort_keys=False)
    sys.stdout.write(text)
    if options.write:
        options.write.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
