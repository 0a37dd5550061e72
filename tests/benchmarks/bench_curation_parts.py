"""What each observer of the curation costs, against PyAV's pure decode of the same file in the same run, on one thread.

Measured in turns, best of the rounds: PyAV decoding without any conversion; macebench's Decoder with full pictures and
with pictures of `--max-side`; each observer alone on those pictures in memory; Decoder and the cheap observers
together (the decoder works ahead in a process of its own). "share" is the time of pure decode divided by the time of
the row. Named alternatives: PySceneDetect and Farnebäck at the full resolution, pair by pair, as naive scripts do.

    python tests/benchmarks/bench_curation_parts.py [--file clip.mp4] [--frames 240] [--rounds 3] [--network]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from macebench.curation._transnet import load_network
from macebench.curation.stage import Observer
from macebench.curation.stages.motion import MotionConfig, MotionObserver
from macebench.curation.stages.shots import ShotsObserver
from macebench.media import Decoder, FrameBatch, write_video

BATCH = 32
LIMIT = 0.35
NAIVE = 6


def moving_picture(count: int) -> Iterator[np.ndarray]:
    """720p: a patch that swings over a textured still with some grain."""
    rng = np.random.default_rng(0)
    still = cv2.resize(rng.uniform(0, 255, (24, 40, 3)).astype(np.float32), (1280, 720), interpolation=cv2.INTER_CUBIC)
    patch = cv2.resize(rng.uniform(0, 255, (12, 5, 3)).astype(np.float32), (160, 420), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 3, (8, 720, 1280, 1)).astype(np.float32)
    for k in range(count):
        frame = still + grain[k % 8]
        x = 560 + round(120 * np.sin(k / 6))
        frame[200:620, x : x + 160] = patch
        yield np.clip(frame, 0, 255).astype(np.uint8)


def pure_decode(path: Path) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(stream))


def read(decoder: Decoder, path: Path, max_side: int | None, observers: list[Observer]) -> None:
    for batch in decoder.frames(path, batch=BATCH, max_side=max_side):
        for observer in observers:
            observer.update(batch.frames, batch.times_s)
    for observer in observers:
        observer.finish()


def feed(batches: list[FrameBatch], observer: Observer) -> None:
    for batch in batches:
        observer.update(batch.frames, batch.times_s)
    observer.finish()


def network_alone(windows: int) -> None:
    import torch

    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 100, 27, 48, 3), dtype=np.uint8)
    window, network = torch.from_numpy(pixels), load_network()
    with torch.inference_mode():
        for _ in range(windows):
            network(window)


def naive_scenes(path: Path) -> None:
    """PySceneDetect on full pictures, a decode of its own."""
    from scenedetect import ContentDetector, FrameTimecode

    detector = ContentDetector()
    with av.open(str(path)) as container:
        for k, frame in zip(range(NAIVE), container.decode(video=0), strict=False):
            detector.process_frame(FrameTimecode(k, 25.0), frame.to_ndarray(format="bgr24"))


def naive_flow(path: Path) -> None:
    """Farnebäck on each pair of full pictures, a decode of its own."""
    before = None
    with av.open(str(path)) as container:
        for _, frame in zip(range(NAIVE), container.decode(video=0), strict=False):
            grey = frame.to_ndarray(format="gray")
            if before is not None:
                cv2.calcOpticalFlowFarneback(before, grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)
            before = grey


def best(rounds: int, works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Shortest time of each work in seconds; all take turns."""
    times = dict.fromkeys(works, np.inf)
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def measure(path: Path, options: argparse.Namespace) -> dict[str, tuple[float, int]]:
    """Row -> seconds and the number of frames that they are for."""
    side, rounds = options.max_side, options.rounds
    count = pure_decode(path)

    def motion() -> MotionObserver:
        return MotionObserver(MotionConfig())

    with Decoder() as decoder:
        decoder.start()
        batches = list(decoder.frames(path, batch=BATCH, max_side=side))
        works: dict[str, Callable[[], object]] = {
            "PyAV pure decode": lambda: pure_decode(path),
            "Decoder, full pictures": lambda: read(decoder, path, None, []),
            f"Decoder, max_side {side}": lambda: read(decoder, path, side, []),
            "shots (content, adaptive) alone": lambda: feed(batches, ShotsObserver("content")),
            "motion (dis) alone": lambda: feed(batches, motion()),
            "motion (farneback) alone": lambda: feed(batches, MotionObserver(MotionConfig(estimator="farneback"))),
            "Decoder + shots (content) + motion": lambda: read(
                decoder, path, side, [ShotsObserver("content"), motion()]
            ),
        }
        if options.network:
            load_network()
            works["network alone (TransNetV2)"] = lambda: network_alone(-(-count // 50))
            works["shots (transnetv2) alone"] = lambda: feed(batches, ShotsObserver("transnetv2"))
            works["Decoder + shots (transnetv2) + motion"] = lambda: read(
                decoder, path, side, [ShotsObserver("transnetv2"), motion()]
            )
        rows = {name: (seconds, count) for name, seconds in best(rounds, works).items()}
    naive = best(1, {"scenes": lambda: naive_scenes(path), "flow": lambda: naive_flow(path)})
    rows["naive: PySceneDetect, full size"] = (naive["scenes"], NAIVE)
    rows["naive: Farnebäck, full size"] = (naive["flow"], NAIVE - 1)
    return rows


def main() -> int:
    """Print the table; 1 when Decoder and cheap observers together are under the limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", type=Path, help="a video instead of the synthetic one")
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-side", type=int, default=512)
    parser.add_argument("--network", action="store_true", help="TransNetV2 too")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or write_video(Path(folder, "clip.mp4"), moving_picture(options.frames), fps=30)
        rows = measure(path, options)
    each = {name: seconds / count for name, (seconds, count) in rows.items()}
    pure = each["PyAV pure decode"]
    lines = [
        f"{name:38} {1000 * s:8.3f} ms/frame  {1 / s:8.1f} frames/s  share {pure / s:6.3f}" for name, s in each.items()
    ]
    together = pure / each["Decoder + shots (content) + motion"]
    lines.append(f"{'limit':38} {LIMIT:.2f}, reached {together:.3f}")
    if options.network:
        ratio = each["Decoder + shots (transnetv2) + motion"] / (pure + each["network alone (TransNetV2)"])
        lines.append(f"{'TransNetV2: time over decode + network':38} {ratio:.3f} (limit 1.1)")
    sys.stdout.write("\n".join(lines) + "\n")
    return int(together < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
