"""Pose back ends: one file each, see `macebench.pose.PoseEstimator`."""

from __future__ import annotations

import inspect
from typing import Any, cast

from macebench import registry
from macebench.errors import UserError
from macebench.pose import PoseEstimator


def make_estimator(name: str, **settings: Any) -> PoseEstimator:
    """The pose back end called `name` with keyword settings.

    Raises:
        UnknownNameError: nobody registered the name.
        UserError: the back end has no such setting; the allowed ones are named.
    """
    kind = registry.get("poses", name)
    allowed = [key for key in inspect.signature(kind).parameters if key != "self"]
    wrong = sorted(set(settings) - set(allowed))
    if wrong:
        known = ", ".join(allowed) or "none"
        raise UserError(f"pose back end {name!r} has no setting {wrong[0]!r}.", hint=f"Its settings: {known}.")
    return cast(PoseEstimator, kind(**settings))
