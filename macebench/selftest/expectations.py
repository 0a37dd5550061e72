"""What every column is expected to do under every damage, declared before anything is measured.

- ``worse``: the damage makes the dance worse in the very thing that the column is said to measure.
- ``unchanged``: the dance is as good as before, or the column is about something else; it must not move.
- ``none``: no claim; the answer is shown and not judged.

The claims are about what a column is *for*, not about what a variant of it does: all protocols are held to the same
ones. A variant that fails is shown failing. Distances of features stand for "moves like the reference": they shall
notice noise, stillness, slowness, repetition and gliding, and must not notice where the dancer stands, or a mirror. In
the picture a larger dancer is one nearer to the camera, and a keypoint that drops out for a moment is the estimator's
fault; in space a joint that sticks is the motion's own fault, and a body 20 % larger is another body: no claim. Columns
that nobody declared (plug-ins) have one claim: what needs no music must not change with the music.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Claim = Literal["worse", "unchanged", "none"]

KINETIC = ("fid_k", "kid_k", "fid_infinity_k")
GEOMETRIC = ("fid_g", "kid_g", "fid_infinity_g")
SPREAD = ("div_k", "div_g")
ALIGNMENT = ("bas", "bas_corrected", "bas_z", "beat_precision", "beat_recall", "beat_f")
SKATING = ("fsr", "fsr_left", "fsr_right", "foot_slide", "pfc")
VIDEO_FEET = ("video_foot_slide",)
HEIGHT = ("foot_penetration", "foot_float")
ACTIVITY = ("frozen_share", "motion_energy")
_PLACE = ("mirror", "translation")


@dataclass(frozen=True)
class _Rule:
    """A claim for some columns and some damages, on one track or (None) on all."""

    columns: tuple[str, ...]
    damages: tuple[str, ...]
    claim: Claim
    track: str | None = None


_RULES = (
    _Rule(KINETIC, ("jitter", "freeze", "foot-skate", "half-speed", "two-second-loop", "identity-swap"), "worse"),
    _Rule(GEOMETRIC, ("jitter", "freeze", "half-speed", "two-second-loop"), "worse"),
    _Rule((*KINETIC, *GEOMETRIC), ("dropped-joints",), "worse", "motion-3d"),
    _Rule(("div_k",), ("freeze", "half-speed"), "worse"),
    _Rule(("div_g",), ("freeze",), "worse"),
    _Rule((*KINETIC, *GEOMETRIC, *SPREAD), _PLACE, "unchanged"),
    _Rule((*KINETIC, *GEOMETRIC, *SPREAD), ("scale", "dropped-joints"), "unchanged", "video-2d"),
    _Rule(ALIGNMENT, ("freeze", "time-shift", "wrong-music", "half-speed", "identity-swap"), "worse"),
    _Rule(ALIGNMENT, (*_PLACE, "scale"), "unchanged"),
    _Rule(ALIGNMENT, ("dropped-joints",), "unchanged", "video-2d"),
    _Rule(("bas_null",), (*_PLACE, "scale", "time-shift"), "unchanged"),
    _Rule(SKATING, ("foot-skate", "jitter"), "worse"),
    _Rule(SKATING, ("translation",), "unchanged"),
    _Rule(("fsr", "foot_slide", "pfc"), ("mirror",), "unchanged"),
    _Rule(VIDEO_FEET, ("foot-skate", "jitter"), "worse"),
    _Rule(VIDEO_FEET, (*_PLACE, "scale"), "unchanged"),
    _Rule(HEIGHT, ("jitter",), "worse"),
    _Rule(HEIGHT, (*_PLACE, "foot-skate"), "unchanged"),
    _Rule(ACTIVITY, ("freeze",), "worse"),
    _Rule(("motion_energy",), ("half-speed",), "worse"),
    _Rule(ACTIVITY, (*_PLACE, "foot-skate"), "unchanged"),
    _Rule(("frozen_share",), ("jitter",), "unchanged"),
    _Rule(ACTIVITY, ("scale", "dropped-joints"), "unchanged", "video-2d"),
    _Rule(("pose_visibility",), ("dropped-joints",), "worse"),
    _Rule(("pose_visibility",), ("jitter", "freeze", "foot-skate", "half-speed", *_PLACE, "two-second-loop", "scale",
                                 "identity-swap"), "unchanged"),
)  # fmt: skip

_CLAIMS: dict[tuple[str, str, str | None], Claim] = {
    (column, damage, rule.track): rule.claim for rule in _RULES for column in rule.columns for damage in rule.damages
}
_MUSIC = ("time-shift", "wrong-music")


def expectation(column: str, damage: str, track: str, needs: Collection[str]) -> Claim:
    """The claim for one column under one damage.

    Args:
        column: Name of the column.
        damage: Name of the degradation.
        track: Track of the protocol.
        needs: Parts of the evidence that the column's metric needs.
    """
    declared = _CLAIMS.get((column, damage, track)) or _CLAIMS.get((column, damage, None))
    if declared is None and damage in _MUSIC and "music" not in needs:
        return "unchanged"
    return declared or "none"
