"""Memory of one curation worker on an hour-long source: the first pass, with every observer fed from one decode.

    python tests/benchmarks/bench_curation_hour.py [--hours 1.0]

The source is twenty seconds of a rendered dance at 1280x720 at 30 frames a second, joined end to end without encoding
again. Memory is the resident size of the worker and its decoder together, sampled twice a second after the first
minute of video and at the end. Fails at 1.5 GB or more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from macebench.curation.config import load_config
from macebench.curation.observe import observe, observers_of
from macebench.demo.choreography import choreograph
from macebench.media import Decoder, write_video
from macebench.render import Look, get_renderer

FPS, PIECE_S, SIDE, LIMIT_GB = 30.0, 20.0, 640, 1.5


def dance() -> Iterator[np.ndarray]:
    """Twenty seconds of dance on a plain stage at 1280x720."""
    motion = choreograph(np.arange(0, PIECE_S + 2, 0.5), PIECE_S, FPS, 1, "house").motion
    for small in get_renderer("painter", 360, 360).render(motion, look=Look.seeded(1)):
        wide = np.full((720, 1280, 3), small[5, 5], np.uint8)
        wide[:, 280:1000] = cv2.resize(small, (720, 720), interpolation=cv2.INTER_LINEAR)
        yield wide


def hours_long(folder: Path, hours: float) -> Path:
    """The piece joined end to end by stream copy."""
    piece = write_video(folder / "piece.mp4", dance(), fps=FPS)
    listing = folder / "list.txt"
    listing.write_text(f"file '{piece}'\n" * max(1, round(hours * 3600 / PIECE_S)), "utf-8")
    target = folder / "hour.mp4"
    joined = ["-f", "concat", "-safe", "0", "-i", str(listing), "-c", "copy", str(target)]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *joined], check=True)
    return target


def family_gb() -> float:
    """Resident memory of this process and its children in GB."""
    me, total = str(os.getpid()), 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text("utf-8").splitlines() if ":" in line)
        except OSError:
            continue
        mine = {fields["Pid"].strip(), fields["PPid"].strip()}
        if me in mine and "VmRSS" in fields:
            total += int(fields["VmRSS"].split()[0])
    return total / 1e6


class Watch(threading.Thread):
    """Samples memory until stopped: (seconds since the start, GB)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float]] = []
        self.done = threading.Event()

    def run(self) -> None:
        start = time.perf_counter()
        while not self.done.wait(0.5):
            self.samples.append((time.perf_counter() - start, family_gb()))


def main() -> int:
    """Measure and print; 1 when the limit is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=1.0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = hours_long(Path(folder), options.hours)
        watch, start = Watch(), time.perf_counter()
        with Decoder() as decoder:
            info = decoder.probe(path)
            watch.start()
            config = load_config(None, ["shots.detector=content"])
            observe(decoder, path, info, observers_of(config.make_stages()), SIDE)
            watch.done.set()
            watch.join()
        seconds = time.perf_counter() - start
    early = max((gb for at, gb in watch.samples if at < seconds / 10), default=float("nan"))
    peak = max(gb for _, gb in watch.samples)
    sys.stdout.write(
        f"{options.hours:g} h of 1280x720 ({path.name}): {seconds:.0f} s, memory after a tenth {early:.2f} GB, "
        f"peak {peak:.2f} GB (limit {LIMIT_GB})\n"
    )
    return int(peak >= LIMIT_GB)


if __name__ == "__main__":
    sys.exit(main())
