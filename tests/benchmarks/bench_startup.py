"""How long `macebench --help` takes, against an empty Python in the same run. Exits 1 above half a second."""

import subprocess
import sys
import time

RUNS = 7
LIMIT_S = 0.5


def median_seconds(command: list[str]) -> float:
    """Median wall time of a command."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return sorted(times)[RUNS // 2]


def main() -> int:
    """Measure and compare."""
    empty = median_seconds([sys.executable, "-c", "pass"])
    asked = median_seconds([sys.executable, "-m", "macebench", "--help"])
    sys.stdout.write(f"macebench --help {asked:.3f} s, empty Python {empty:.3f} s, ratio {asked / empty:.1f}\n")
    return int(asked > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
