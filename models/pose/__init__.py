"""Pose back ends: one file each, see `macebench.pose.PoseEstimator`. `make_estimator` makes them by name."""

from __future__ import annotations

import inspect
from typing import Any

from macebench import registry
from macebench.errors import UserError
from macebench.pose import PoseEstimator


def make_estimator(name: str, **settings: Any) -> PoseEstimator:
    """The pose back end registered as `name` with the given settings; loads no weights.

    Raises:
        UnknownNameError: no such back end.
        UserError: a setting that it does not have or that is out of range; names the allowed ones.
    """
    kind = registry.get("poses", name)
    allowed = [item for item in inspect.signature(kind).parameters.values() if item.name != "self"]
    known = [item.name for item in allowed]
    missing = [item.name for item in allowed if item.default is inspect.Parameter.empty and item.name not in settings]
    extra = sorted(set(settings) - set(known))
    if extra or missing:
        wrong = f"has no setting {extra[0]!r}" if extra else f"needs the setting {missing[0]!r}"
        raise UserError(f"pose back end {name!r} {wrong}; its settings are {', '.join(known) or 'none'}.")
    estimator: PoseEstimator = kind(**settings)
    return estimator
