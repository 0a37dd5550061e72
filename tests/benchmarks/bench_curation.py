"""The curation funnel against pure decoding and against a naive script, in one run.

    python tests/benchmarks/bench_curation.py [--seconds 20] [--rounds 3]

The input is a rendered dance, enlarged to 1280x720 with grain. Rows, in milliseconds a frame, best of the rounds:

- PyAV pure decode: one thread, no conversion. This is the bound.
- funnel: one decode, PySceneDetect's content score on every picture, DIS flow at 4 Hz, BlazePose counting at 2 Hz, as
  `macebench curate` runs them in one worker.
- naive: what a script does that gives each job a decode of its own: PySceneDetect on full pictures, Farnebäck on every
  full pair, BlazePose on every picture. Measured on a few pictures.

Then: the same input three times as long (is the cost linear?), peak memory of the worker, and hours for 116 h of video,
the size of MA-Data, beside the bound of decoding. Fails when the funnel is below 0.35 of pure decode or less than 20
times faster than the naive script.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np

from macebench.curation.config import load_config
from macebench.curation.observe import observe, observers_of
from macebench.demo.choreography import choreograph
from macebench.media import Decoder, write_video
from macebench.render import Look, get_renderer

FPS, SIDE, MADATA_H, NAIVE = 30.0, 640, 116.0, 6
LIMIT, LIMIT_NAIVE = 0.35, 20.0


def pictures(seconds: float) -> Iterator[np.ndarray]:
    """A dance at 1280x720 with grain, repeated to any length."""
    grid = np.arange(0, 8, 0.5)
    motion = choreograph(grid, 6.0, FPS, 1, "house").motion
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 2, (8, 720, 1280, 1)).astype(np.float32)
    small = list(get_renderer("painter", 512, 512).render(motion, look=Look.seeded(1)))
    for k in range(round(seconds * FPS)):
        wide = np.full((720, 1280, 3), small[0][5, 5], np.uint8)
        wide[:, 280:1000] = cv2.resize(small[k % len(small)], (720, 720), interpolation=cv2.INTER_CUBIC)
        yield np.clip(wide + grain[k % 8], 0, 255).astype(np.uint8)


def pure_decode(path: Path) -> int:
    """Decode everything on one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(stream))


def funnel(decoder: Decoder, path: Path) -> None:
    """Observe with the stages of `macebench curate`."""
    config = load_config(None, ["shots.detector=content"])
    observe(decoder, path, decoder.probe(path), observers_of(config.make_stages()), SIDE)


def naive_seconds(path: Path) -> float:
    """Seconds a frame of the naive script."""
    from scenedetect import ContentDetector, FrameTimecode

    from macebench.models.pose import make_estimator
    from macebench.types import Clip

    with av.open(str(path)) as container:
        frames = [
            frame.to_ndarray(format="rgb24") for _, frame in zip(range(NAIVE), container.decode(video=0), strict=False)
        ]
    detector, total = ContentDetector(), 0.0
    session = make_estimator("blazepose").start(Clip("x", path, "0" * 64), 1280, 720)
    session.update(frames[0][None], np.array([0.0]))
    start = time.perf_counter()
    for k, frame in enumerate(frames):
        detector.process_frame(FrameTimecode(k, FPS), frame[..., ::-1])
    total += (time.perf_counter() - start) / NAIVE
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    start = time.perf_counter()
    for one, two in pairwise(grey):
        cv2.calcOpticalFlowFarneback(one, two, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    total += (time.perf_counter() - start) / (NAIVE - 1)
    start = time.perf_counter()
    session.update(np.stack(frames[1:]), np.arange(1, NAIVE) / FPS)
    return total + (time.perf_counter() - start) / (NAIVE - 1)


def best(rounds: int, works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Shortest time of each work in seconds; all take turns."""
    times = dict.fromkeys(works, np.inf)
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def main() -> int:
    """Measure and print; 1 when a limit is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder, Decoder() as decoder:
        path = write_video(Path(folder, "a.mp4"), pictures(options.seconds), fps=FPS)
        longer = write_video(Path(folder, "b.mp4"), pictures(3 * options.seconds), fps=FPS)
        funnel(decoder, path)
        works = {"decode": lambda: pure_decode(path), "funnel": lambda: funnel(decoder, path)}
        found = best(options.rounds, works)
        three = best(1, {"funnel": lambda: funnel(decoder, longer)})["funnel"]
        slow = naive_seconds(path)
    count = round(options.seconds * FPS)
    pure, ours = found["decode"] / count, found["funnel"] / count
    naive = slow + 3 * pure
    memory = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1e6
    rows = (("PyAV pure decode", pure), ("funnel, one worker", ours), ("naive script", naive))
    for name, seconds in rows:
        hours = MADATA_H * seconds * FPS
        sys.stdout.write(
            f"{name:20} {1000 * seconds:8.2f} ms a frame {1 / seconds:8.1f} frames/s   116 h of video: {hours:8.1f} h\n"
        )
    sys.stdout.write(
        f"funnel / decode {pure / ours:.3f} (limit {LIMIT}), naive / funnel {naive / ours:.1f} (limit {LIMIT_NAIVE}), "
        f"three times as long costs {three / found['funnel']:.2f}, peak memory of both processes {memory:.2f} GB\n"
    )
    return int(pure / ours < LIMIT or naive / ours < LIMIT_NAIVE)


if __name__ == "__main__":
    sys.exit(main())
