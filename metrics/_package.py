"""Metrics whose value VBench's own package may have computed (`macebench.vbench_values`)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from macebench.errors import Unscorable
from macebench.protocol import BY_VBENCH, Protocol
from macebench.types import Evidence
from macebench.vbench_values import unpacked

FRAMES = "frame_difference"
Compute = Callable[[Evidence, Protocol], Any]


def or_package(dimension: str, *, scale: float = 1.0, pairs: str = "") -> Callable[[Compute], Compute]:
    """A metric that takes the package's value of `dimension` where the protocol names the package.

    Args:
        dimension: VBench's name.
        scale: What the package's value is divided by.
        pairs: Name of a second column, the clip's frame pairs; empty for a metric of one column.
    """

    def decorate(compute: Compute) -> Compute:
        @functools.wraps(compute)
        def chosen(evidence: Evidence, protocol: Protocol) -> Any:
            if protocol.vbench_package is None:
                return compute(evidence, protocol)
            value, reason = unpacked(evidence.need_frames(protocol.seen(BY_VBENCH[0])), dimension)
            if math.isnan(value):
                raise Unscorable(reason)
            value /= scale
            return {dimension: value, pairs: float(len(evidence.need_frames(FRAMES)))} if pairs else value

        return chosen

    return decorate
