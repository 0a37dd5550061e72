"""Calibration models: known changes of ground truth whose place on the board is known beforehand.

They act on pose tracks, 3-D motions, beat times and frame statistics that are already there; nothing is decoded or
estimated again. A metric that ranks them wrongly is not measuring dance. Most are a degradation of
`macebench.baselines.degradations` at one strength. Each touches as few clips of the set as it can.
"""

from __future__ import annotations

from collections.abc import Sequence

from macebench.baselines.degradations import DEGRADATIONS, hold_middle
from macebench.registry import model
from macebench.types import Evidence, Missing, ModelCard, Motion

JITTER_SHARE = 0.01
LOOPS_PER_S = 0.5
SKATE_M_S = 0.4
SWAP_SHARE = 0.3
NO_IDENTITY = "identities swap in video only"


def _card(name: str, summary: str) -> ModelCard:
    return ModelCard(name, "calibration", summary, source="macebench", licence="Apache-2.0")


@model("ground-truth")
class GroundTruth:
    """Real clips, unchanged: the split half that every other row is read against."""

    card = _card("ground-truth", "Real clips against the other half of the split.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip as it is."""
        return evidence[index]


@model("random-music")
class RandomMusic:
    """Each dance with the beats of another clip's music: any beat score above its null is luck."""

    card = _card("random-music", "Real clips with the music of another clip.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with the beats of the next clip (half the set away) that has other music."""
        return DEGRADATIONS["wrong-music"].apply(evidence, index, 1.0)


@model("time-shifted")
class TimeShifted:
    """The music moved by half a beat: every accent falls between two beats."""

    card = _card("time-shifted", "Real clips with the music shifted by half a beat.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with beats moved by half of their median distance."""
        return DEGRADATIONS["time-shift"].apply(evidence, index, 0.5)


@model("frozen")
class Frozen:
    """The middle frame held for the whole clip."""

    card = _card("frozen", "The middle frame of each clip, held.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with one pose and no change between frames."""
        return hold_middle(evidence[index])


@model("jitter")
class Jitter:
    """White noise on every joint of every frame, 1 % of the dancer's height."""

    card = _card("jitter", "Real clips with noise of 1 % of the dancer's height on every joint.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with noise seeded by its own hash, so that adding a clip changes no other."""
        return DEGRADATIONS["jitter"].apply(evidence, index, JITTER_SHARE)


@model("half-speed")
class HalfSpeed:
    """The first half of each clip, played at half speed."""

    card = _card("half-speed", "The first half of each clip at half speed.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip slowed down on its own clock; pictures are repeated, poses interpolated."""
        return DEGRADATIONS["half-speed"].apply(evidence, index, 0.5)


@model("mirrored")
class Mirrored:
    """Every dance in a mirror: as good a dance as before, so no score should move beyond its noise."""

    card = _card("mirrored", "Real clips in a mirror, left and right exchanged.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with left and right exchanged."""
        return DEGRADATIONS["mirror"].apply(evidence, index, 1.0)


@model("two-second-loop")
class TwoSecondLoop:
    """The first two seconds of each clip, over and over."""

    card = _card("two-second-loop", "The first two seconds of each clip, repeated with a cross-fade.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip that starts again every two seconds."""
        return DEGRADATIONS["two-second-loop"].apply(evidence, index, LOOPS_PER_S)


@model("foot-skate")
class FootSkate:
    """The whole body glides at 0.4 m/s, and planted feet with it."""

    card = _card("foot-skate", "Real clips whose dancer glides over the floor at 0.4 m/s.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with a body that glides on a circle."""
        return DEGRADATIONS["foot-skate"].apply(evidence, index, SKATE_M_S)


@model("identity-swap")
class IdentitySwap:
    """The tracker follows another clip's dancer for 30 % of the time."""

    card = _card("identity-swap", "Real clips whose track jumps to another dancer for 30 % of the time.")

    def transform(self, evidence: Sequence[Evidence], index: int) -> Evidence:
        """The clip with jumps in its pose track; a motion in space has no tracker, so it is missing."""
        changed = DEGRADATIONS["identity-swap"].apply(evidence, index, SWAP_SHARE)
        return changed.replace(motion=Missing(NO_IDENTITY)) if isinstance(changed.motion, Motion) else changed
