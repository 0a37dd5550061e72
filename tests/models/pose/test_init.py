"""`make_estimator`."""

from __future__ import annotations

import pytest

from macebench import registry
from macebench.errors import UnknownNameError, UserError
from macebench.models.pose import make_estimator
from macebench.pose import PoseEstimator


def test_all_built_in_back_ends_can_be_made(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    needed = {"precomputed": {"folder": tmp_path}, "mmpose": {"python": tmp_path / "a.json"}}
    for name in registry.BUILTIN["poses"]:
        assert isinstance(make_estimator(name, **needed.get(name, {})), PoseEstimator)


def test_unknown_name_and_settings():
    with pytest.raises(UnknownNameError, match="Did you mean 'blazepose'"):
        make_estimator("blazpose")
    with pytest.raises(UserError, match=r"needs the setting 'folder'; its settings are folder\."):
        make_estimator("precomputed")
    with pytest.raises(UserError, match="has no setting 'sise'; its settings are size, device"):
        make_estimator("vitpose", sise="b")
