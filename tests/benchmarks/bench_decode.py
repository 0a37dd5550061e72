"""How much the decoder process costs: `macebench.media.Decoder` against PyAV in this process.

Both decode the same file in the same run, in turns, with one codec thread, to RGB in batches of 16, and touch every
batch; the medians are compared. Starting the decoder process is measured once and printed on its own.

    python tests/benchmarks/bench_decode.py [--size 512] [--frames 150] [--rounds 7] [--consumer-ms 0]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from macebench.media import Decoder, write_video

BATCH = 16


def moving_picture(size: int, count: int) -> Iterator[np.ndarray]:
    """Smooth waves that move, with some grain: a clip that is neither trivial nor noise."""
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 24, (size, size, 3), dtype=np.uint8)
    y, x = np.mgrid[0:size, 0:size] / size
    for index in range(count):
        phase = index / 15
        waves = [np.sin(9 * x + phase), np.cos(7 * y - phase), np.sin(11 * (x + y) + 2 * phase)]
        yield (100 + 80 * np.stack(waves, axis=2)).astype(np.uint8) + np.roll(grain, index, axis=1)


def ours(decoder: Decoder, path: Path, pause_s: float) -> float:
    start = time.perf_counter()
    for batch in decoder.frames(path, batch=BATCH):
        _consume(batch.frames, pause_s)
    return time.perf_counter() - start


def in_process(path: Path, pause_s: float) -> float:
    start = time.perf_counter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        batch: list[np.ndarray] = []
        for frame in container.decode(stream):
            batch.append(frame.to_ndarray(format="rgb24", threads=1))
            if len(batch) == BATCH:
                _consume(np.stack(batch), pause_s)
                batch = []
        if batch:
            _consume(np.stack(batch), pause_s)
    return time.perf_counter() - start


def _consume(frames: np.ndarray, pause_s: float) -> None:
    """Read a little of the batch, then work for a while (busy, as a network would be)."""
    int(frames[:, ::64, ::64].sum())
    end = time.perf_counter() + pause_s
    while time.perf_counter() < end:
        pass


def main() -> int:
    """Print the table; 1 when the ratio is above the limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--consumer-ms", type=float, default=0.0, help="work of the consumer for each batch")
    parser.add_argument("--limit", type=float, default=1.1)
    options = parser.parse_args()
    pause_s = options.consumer_ms / 1000
    with tempfile.TemporaryDirectory() as folder, Decoder() as decoder:
        path = write_video(Path(folder, "clip.mp4"), moving_picture(options.size, options.frames), fps=30)
        start = time.perf_counter()
        decoder.start()
        start_s = time.perf_counter() - start
        ours(decoder, path, 0.0)
        in_process(path, 0.0)
        pairs = [(ours(decoder, path, pause_s), in_process(path, pause_s)) for _ in range(options.rounds)]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = mine / theirs
    lines = [
        f"clip               {options.size}x{options.size}, {options.frames} frames",
        f"decoder start      {start_s:.3f} s (once for each worker)",
        f"macebench Decoder  {mine:.3f} s  {options.frames / mine:.0f} frames/s",
        f"PyAV in process    {theirs:.3f} s  {options.frames / theirs:.0f} frames/s",
        f"ratio              {ratio:.3f} (limit {options.limit})",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(ratio > options.limit)


if __name__ == "__main__":
    sys.exit(main())
