"""Memory of an evaluation does not grow with the length of a video."""

import runpy
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")]
BENCH = runpy.run_path(str(Path(__file__).resolve().parents[1] / "benchmarks" / "bench_long_video.py"))


def test_twice_the_length_in_1080p_costs_no_more_memory():
    """240 frames against 120, both more than fill every buffer: pictures that were kept would be 0.7 GB more."""
    short, long = (BENCH["measure"](frames, 2, BENCH["STREAMED"]) for frames in (120, 240))
    assert long.peak_gb < short.peak_gb + 0.25
    assert long.peak_gb < 3.0
