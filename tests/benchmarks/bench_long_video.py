"""A long 1080p video through `macebench eval`: peak memory of all processes, and time.

The video is ffmpeg's moving test picture, in which no two frames are equal. It goes through the real path (command,
worker process, decoder process, store) under VBench's dimensions, ms_flow and dynamic degree, with filler weights on
networks of one layer (`tests/short_networks.py`): what could grow with the length is the same as in the full networks.
Motion smoothness (AMT-S) looks at three frames at a time and cannot be shortened, so it runs on a piece of its own.

Memory is the sum of the resident sizes of the command and everything that it starts, every 0.2 s; pages that processes
share (the decoder's ring) count in each. The embeddings of a 10-minute clip are 18,000 x 768 numbers, 110 MB.

    python tests/benchmarks/bench_long_video.py [--minutes 10] [--fps 30] [--amt-frames 9] [--limit-gb 3]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

NETWORKS = Path(__file__).resolve().parents[1] / "short_networks.py"
PROTOCOL = """
name: bench-long
version: 1
title: Bench
description: Bench
source: Bench
track: appearance
skeleton: none
sampling: {fps: 1.0}
metrics: [%s]
"""
STREAMED = (
    "imaging_quality, aesthetic_quality, subject_consistency, background_consistency, temporal_flickering, ms_flow, "
    "dynamic_degree"
)
INTERPOLATED = "motion_smoothness"


class Cost(NamedTuple):
    """What one evaluation took."""

    seconds: float
    peak_gb: float


def ffmpeg(*words: object) -> None:
    import imageio_ffmpeg

    call = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *map(str, words)]
    subprocess.run(call, check=True)


def make_video(path: Path, frames: int, fps: int, size: str = "1920x1080") -> None:
    """A moving video of so many frames, no two of which are equal: equal ones would be looked at once."""
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={fps}", "-frames:v", frames, "-c:v", "libx264", "-preset",
           "ultrafast", "-pix_fmt", "yuv420p", path)  # fmt: skip


def tree_bytes(root: int) -> int:
    """Resident bytes of a process and its descendants."""
    parents: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            sizes[int(place.name)] = int((place / "statm").read_text().split()[1]) * 4096
            parents[int(place.name)] = int(fields[1])
        except (OSError, IndexError, ValueError):
            continue  # it has ended
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        total += sizes.get(process, 0)
        waiting += [child for child, parent in parents.items() if parent == process]
    return total


def evaluate(folder: Path, videos: Path, metrics: str) -> Cost:
    """Score a folder in a process of its own."""
    protocol = folder / "bench.yaml"
    protocol.write_text(PROTOCOL % metrics)
    call = [
        sys.executable, "-m", "macebench", "eval", "--videos", videos, "--reference", videos, "--protocol", protocol,
        "--plugin", NETWORKS, "--out", folder / "run", "--store", folder / "store", "--no-report",
    ]  # fmt: skip
    start, peak = time.perf_counter(), 0
    with (folder / "log").open("w") as log, subprocess.Popen(list(map(str, call)), stdout=log, stderr=log) as process:
        while process.poll() is None:
            peak = max(peak, tree_bytes(process.pid))
            time.sleep(0.2)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"eval ended with {process.returncode}:\n{(folder / 'log').read_text()}")
    return Cost(seconds, peak / 1e9)


def measure(frames: int, fps: int, metrics: str) -> Cost:
    """Make a video of so many 1080p frames and score it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "videos").mkdir()
        make_video(folder / "videos" / "long.mp4", frames, fps)
        return evaluate(folder, folder / "videos", metrics)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--amt-frames", type=int, default=9, help="frames for motion smoothness; 0: leave it out")
    parser.add_argument("--limit-gb", type=float, default=3.0)
    options = parser.parse_args()
    frames = round(options.minutes * 60 * options.fps)
    jobs = [(frames, STREAMED)] + ([(options.amt_frames, INTERPOLATED)] if options.amt_frames else [])
    worst = 0.0
    for count, metrics in jobs:
        cost = measure(count, options.fps, metrics)
        worst = max(worst, cost.peak_gb)
        sys.stdout.write(
            f"{count} frames of 1920x1080 ({count / options.fps / 60:.1f} min): {cost.seconds:.0f} s "
            f"({count / cost.seconds:.1f} frames a second), peak {cost.peak_gb:.2f} GB   {metrics}\n"
        )
    sys.stdout.write(f"{'ok' if worst < options.limit_gb else 'TOO MUCH'}: limit {options.limit_gb} GB\n")
    return int(worst >= options.limit_gb)


if __name__ == "__main__":
    sys.exit(main())
