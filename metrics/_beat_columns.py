"""The columns of beat alignment, and how a `BeatReport` fills them: the same in 2-D and 3-D."""

from __future__ import annotations

import numpy as np

from macebench.metrics.beats import beat_report
from macebench.protocol import BeatRules
from macebench.registry import Column
from macebench.types import FloatArray

BEAT_COLUMNS = (
    Column("bas", better="reference", summary="Beat alignment, not corrected for chance"),
    Column("bas_null", better="reference", summary="Mean beat alignment over circular shifts of the music"),
    Column("bas_corrected", better="reference", summary="Beat alignment above chance: 0 is chance, 1 perfect"),
    Column("bas_z", better="reference", summary="Beat alignment above chance in deviations of the null"),
    Column("beat_precision", better="reference", summary="Share of motion beats on a music beat (70 ms)"),
    Column("beat_recall", better="reference", summary="Share of music beats with a motion beat (70 ms)"),
    Column("beat_f", better="reference", summary="Harmonic mean of beat precision and recall"),
)


def whole_frames(times_s: FloatArray, fps: float | None) -> FloatArray:
    """Beats cut down to whole frames of `fps` a second, two in one frame counting once; as they are for None."""
    if fps is None:
        return times_s
    # A beat that lies on a frame must not fall into the frame before through rounding.
    return np.asarray(np.unique(np.floor(times_s * fps + 1e-9)) / fps)


def beat_values(heard: FloatArray, danced: FloatArray, duration_s: float, rules: BeatRules) -> dict[str, float | str]:
    """`BEAT_COLUMNS` of (B,) music beats and (D,) motion beats in seconds from the start of the motion.

    Raises:
        Unscorable: ``no music beats``.
    """
    report = beat_report(
        heard, danced, duration_s,
        sigma_s=rules.sigma_s, direction=rules.direction, keep_beyond=rules.beyond_end == "keep",
    )  # fmt: skip
    values: dict[str, float | str] = {
        "bas": report.raw,
        "bas_null": report.null,
        "bas_corrected": report.corrected,
        "bas_z": report.z,
        "beat_precision": report.precision,
        "beat_recall": report.recall,
        "beat_f": report.f_score,
    }
    return values | ({"note": report.note} if report.note else {})
