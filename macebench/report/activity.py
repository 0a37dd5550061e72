"""The activity gate: does the dancer move about as often as a real one?

A dance that hardly moves gets good values where standing still cannot go wrong: still pictures do not flicker,
standing feet do not slide, and a Fréchet distance may find the average pose. The gate marks such a row.

The rule: a row *barely moves* when the share of frames in which the dancer moves (one minus ``frozen_share``) is
less than half of the reference set's. With a reference that stands still in 10 % of its frames, that is a
``frozen_share`` above 55 %.
"""

from __future__ import annotations

import math

from macebench.report.groups import group_of
from macebench.results import Entry

FROZEN_SHARE = "frozen_share"
MOTION_ENERGY = "motion_energy"
MOVING_RATIO = 0.5
RULE = "moves in less than half as many frames as the reference set"
_FLATTERED = frozenset({"distances", "feet", "picture"})


def barely_moves(frozen_share: float, reference: float) -> bool:
    """Whether a row barely moves; False when one of the two shares is NaN.

    Args:
        frozen_share: Share of frozen frames of a row, in [0, 1].
        reference: The reference set's own share, in [0, 1].
    """
    return 1.0 - frozen_share < MOVING_RATIO * (1.0 - reference)


def entry_barely_moves(entry: Entry) -> bool:
    """The same of a row of ``result.json``; False when it does not say how much it moves."""
    for record in entry.scores:
        if record.name == FROZEN_SHARE and record.value is not None and record.reference is not None:
            return barely_moves(record.value, record.reference)
    return False


def is_flattered(column: str) -> bool:
    """Whether standing still makes the value of a column better than it should be."""
    return group_of(column) in _FLATTERED


def describe(frozen_share: float, reference: float, energy: float, reference_energy: float) -> str:
    """How much a row moves, for people; energies may be NaN.

    Example:
        >>> describe(0.92, 0.08, 0.05, 1.0)
        'moves in 8 % of its frames (reference 92 %), with 5 % of its motion energy'
    """
    text = f"moves in {_percent(1 - frozen_share)} of its frames (reference {_percent(1 - reference)})"
    if math.isfinite(energy) and math.isfinite(reference_energy) and reference_energy > 0:
        text += f", with {_percent(energy / reference_energy)} of its motion energy"
    return text


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
