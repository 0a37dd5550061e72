"""Wall time of a whole evaluation against decoding plus pose estimation alone, in the same run.

The reference runs the decoder and the pose back end over the same files in one process, with nothing else:
no statistics, no beats, no store, no scores. Usage: bench_overhead.py VIDEOS [--runs N]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from macebench.clips import load_set


def decode_and_pose(folder: Path) -> None:
    """Decode every clip and estimate its poses."""
    from macebench.media import Decoder
    from macebench.models.pose import make_estimator

    estimator = make_estimator("blazepose")
    with Decoder() as decoder:
        for clip in load_set(folder).clips:
            info = decoder.probe(clip.path)
            session = estimator.start(clip, info.width, info.height)
            for batch in decoder.frames(clip.path):
                session.update(batch.frames, batch.times_s)
            session.finish()


def seconds(command: list[str]) -> float:
    """Wall time of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> int:
    """Alternate the two and print the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only-pose", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only_pose:
        decode_and_pose(given.videos)
        return 0
    alone, whole = [], []
    for _ in range(given.runs):
        alone.append(seconds([sys.executable, __file__, str(given.videos), "--only-pose"]))
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "macebench", "eval", "--videos", str(given.videos)]
            options = [
                "--reference",
                str(given.videos),
                "--store",
                f"{folder}/store",
                "--out",
                f"{folder}/run",
                "--no-report",
            ]
            whole.append(seconds([*command, *options]))
    mid = given.runs // 2
    pose, run = sorted(alone)[mid], sorted(whole)[mid]
    sys.stdout.write(
        f"eval {run:.2f} s, decode and pose alone {pose:.2f} s, ratio {run / pose:.3f} (runs {given.runs})\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
