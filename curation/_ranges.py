"""Ranges of settings: one check for every number of a section.

A setting outside of its range is a `UserError` that names it, its value and what is allowed. NaN lies in no range; None
is left alone: a setting that may be None says itself what that means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from macebench.errors import UserError

SHARE = (0.0, 1.0)
GREY = (0.0, 255.0)
FROM_ZERO = (0.0, math.inf)


def check_ranges(section: str, config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a number outside of its range.

    Args:
        section: Name of the section, for the message.
        config: Its dataclass.
        ranges: Field -> (lowest, highest), both allowed.

    Raises:
        UserError: the first field that is outside.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            allowed = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
            where = f"{section}.{name}" if section else name
            raise UserError(f"{where} is {value:g}, allowed is {allowed}.")
