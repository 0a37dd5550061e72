"""VBench's dimensions of one clip, and two stand-ins that need no weights, as registered metrics.

Each looks at what a frame statistic gave for the clip's frames; the formulas are those of
`macebench.metrics.appearance`, `macebench.metrics._interpolation` and `macebench.metrics.flow_statistics`. Source:
Huang et al., "VBench: Comprehensive Benchmark Suite for Video Generative Models", CVPR 2024, version 0.1.5.

| metric | frames seen by | a set's value |
|---|---|---|
| ``imaging_quality`` | MUSIQ SPAQ | mean over clips |
| ``aesthetic_quality`` | CLIP ViT-L/14, LAION's linear head | mean over clips |
| ``subject_consistency`` | DINO ViT-B/16 | mean over frame pairs |
| ``background_consistency`` | CLIP ViT-B/32 | mean over frame pairs |
| ``motion_smoothness`` | AMT-S | mean over clips |
| ``ms_flow`` (ours) | DIS optical flow | mean over clips |
| ``dynamic_degree`` (ours) | DIS optical flow | mean over clips |

Under a protocol with a ``frames_grid`` the networks have seen a part of the frames (`macebench.grid`); under one with a
``vbench_package`` VBench's own package has computed the five that it has, and temporal flickering.

A mean over frame pairs weighs a clip by its number of pairs, which is a column of its own. That is VBench on one
process; on several GPUs its subject consistency is the plain mean over clips, so one set has two published values.

VBench reads all of these as "higher is better", and a frozen clip has the best value in four of them. Here they aim at
the reference's own value.
"""

from __future__ import annotations

import numpy as np

from macebench.errors import Unscorable, WeightsMissingError
from macebench.metrics import _interpolation, _laion, appearance, flow_statistics
from macebench.metrics._package import or_package
from macebench.protocol import Protocol
from macebench.registry import Column, metric
from macebench.types import Evidence, FloatArray
from macebench.weights import missing_reason

IMAGING, AESTHETIC, SUBJECT, BACKGROUND, INTERPOLATED = "musiq", "clip_l14", "dino_b16", "clip_b32", "amt_s"
IMAGING_MAX = 100.0

_SUBJECT = (
    Column("subject_consistency", "1", "reference", "Likeness of DINO features over time (VBench)", "subject_pairs"),
    Column("subject_pairs", "frames", "reference", "Frame pairs of a clip: its weight in subject_consistency"),
)
_BACKGROUND = (
    Column("background_consistency", "1", "reference", "Likeness of CLIP features over time (VBench)",
           "background_pairs"),
    Column("background_pairs", "frames", "reference", "Frame pairs of a clip: its weight in background_consistency"),
)  # fmt: skip
_DYNAMIC = (
    Column("dynamic_degree", "diagonals/s", "reference", "Mean speed of the fastest 5 % of the picture (after VBench)"),
    Column("is_dynamic", "1", "reference", "Whether the clip counts as dynamic; a set's value is the share of clips"),
)


@metric("imaging_quality", needs=(f"frames:{IMAGING}",))
@or_package("imaging_quality", scale=IMAGING_MAX)
def imaging_quality(evidence: Evidence, protocol: Protocol) -> float:
    """Technical quality of the frames by MUSIQ, 0 to 1 (VBench)."""
    return appearance.imaging_quality(evidence.need_frames(protocol.seen(IMAGING))) / IMAGING_MAX


@metric("aesthetic_quality", needs=(f"frames:{AESTHETIC}",))
@or_package("aesthetic_quality")
def aesthetic_quality(evidence: Evidence, protocol: Protocol) -> float:
    """LAION's aesthetic score of the frames, about 0 to 1 (VBench)."""
    features = evidence.need_frames(protocol.seen(AESTHETIC))
    try:
        weight, bias = _laion.laion_head()
    except WeightsMissingError as error:
        raise Unscorable(missing_reason([_laion.WEIGHTS])) from error
    return appearance.aesthetic_quality(features, weight, bias)


@metric("subject_consistency", columns=_SUBJECT, needs=(f"frames:{SUBJECT}",))
@or_package("subject_consistency", pairs="subject_pairs")
def subject_consistency(evidence: Evidence, protocol: Protocol) -> dict[str, float]:
    """Likeness of DINO features of each frame to the one before and the first (VBench), and how many frames that is."""
    found = _likeness(evidence, protocol, SUBJECT)
    return {"subject_consistency": float(np.mean(found)), "subject_pairs": float(len(found))}


@metric("background_consistency", columns=_BACKGROUND, needs=(f"frames:{BACKGROUND}",))
@or_package("background_consistency", pairs="background_pairs")
def background_consistency(evidence: Evidence, protocol: Protocol) -> dict[str, float]:
    """Likeness of CLIP features of each frame to the one before and the first (VBench), and how many frames that is."""
    found = _likeness(evidence, protocol, BACKGROUND)
    return {"background_consistency": float(np.mean(found)), "background_pairs": float(len(found))}


def _likeness(evidence: Evidence, protocol: Protocol, name: str) -> FloatArray:
    features = evidence.need_frames(protocol.seen(name))
    gridded = protocol.frames_grid is not None and name in protocol.frames_grid
    return appearance.gridded_consistency(features) if gridded else appearance.consistency(features)


@metric("motion_smoothness", needs=(f"frames:{INTERPOLATED}",))
@or_package("motion_smoothness")
def motion_smoothness(evidence: Evidence, protocol: Protocol) -> float:
    """How well every other frame is guessed from its neighbours by AMT-S, 0 to 1 (VBench)."""
    return _interpolation.smoothness(evidence.need_frames(protocol.seen(INTERPOLATED)))


@metric("ms_flow", needs=(f"frames:{flow_statistics.INTERPOLATION}",))
def ms_flow(evidence: Evidence, protocol: Protocol) -> float:
    """How well each frame is guessed from its neighbours by optical flow, 0 to 1 (ours; not VBench's number)."""
    return flow_statistics.flow_smoothness(evidence.need_frames(flow_statistics.INTERPOLATION))


@metric("dynamic_degree", columns=_DYNAMIC, needs=(f"frames:{flow_statistics.MAGNITUDE}",))
def dynamic_degree(evidence: Evidence, protocol: Protocol) -> dict[str, float]:
    """Speed in the picture in diagonals a second, and whether the clip counts as dynamic (ours, after VBench)."""
    speed, dynamic = flow_statistics.dynamic_degree(evidence.need_frames(flow_statistics.MAGNITUDE))
    return {"dynamic_degree": speed, "is_dynamic": float(dynamic)}
