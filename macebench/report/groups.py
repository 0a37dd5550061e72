"""Order and groups of score columns, so that a wide table stays readable.

A column belongs to the first group whose pattern fits its name; unknown ones, such as a plugin's, come last under
``other``. A column ``<name>_se`` is the standard error of ``<name>`` and is shown with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

_PATTERNS = (
    ("distances", r"fid_|kid_"),
    ("diversity", r"div_"),
    ("beats", r"bas$|bas_|beat_"),
    ("feet", r"fsr$|fsr_|pfc$|foot_"),
    ("activity", r"frozen_share$|motion_energy$|pose_visibility$"),
    ("style", r"style_"),
    ("picture", r"temporal_|subject_|background_|motion_smoothness|imaging_|aesthetic_|ms_flow$|(is_)?dynamic"),
)
SHARES = frozenset({
    "bas", "bas_null", "beat_precision", "beat_recall", "beat_f", "fsr", "fsr_left", "fsr_right", "frozen_share",
    "pose_visibility", "temporal_flickering", "motion_smoothness", "ms_flow", "is_dynamic", "video_foot_contact",
})  # fmt: skip
"""Columns of clip metrics that lie in [0, 1] by their definition; an interval around their mean does, too."""
OTHER = "other"
_ERROR = "_se"


def group_of(name: str) -> str:
    """The group of a column.

    Example:
        >>> [group_of(name) for name in ("fid_infinity_k", "bas_z", "fsr", "charm")]
        ['distances', 'beats', 'feet', 'other']
    """
    return next((group for group, pattern in _PATTERNS if re.match(pattern, name)), OTHER)


def ordered(names: Iterable[str]) -> list[str]:
    """Names by group, in their own order inside a group."""
    places = [group for group, _ in _PATTERNS] + [OTHER]
    return sorted(names, key=lambda name: places.index(group_of(name)))


def grouped(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """(group, names) in the order of `ordered`."""
    return [(group, list(members)) for group, members in groupby(ordered(names), key=group_of)]


def error_column(name: str) -> str:
    """The name under which the standard error of `name` is reported, if it is."""
    return name + _ERROR


def without_errors(names: Iterable[str]) -> list[str]:
    """Names without those that are the standard error of another one.

    Example:
        >>> without_errors(["kid_k", "kid_k_se", "phase_se"])
        ['kid_k', 'phase_se']
    """
    listed = list(names)
    return [name for name in listed if not (name.endswith(_ERROR) and name.removesuffix(_ERROR) in listed)]
