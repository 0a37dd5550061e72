import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent
GOLDEN = json.loads((FOLDER / "golden.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def now():
    spec = importlib.util.spec_from_file_location("make_golden", FOLDER / "make_golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compute()


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_own_golden_numbers_hold(now, name):
    np.testing.assert_allclose(now[name], GOLDEN[name], rtol=1e-9, atol=1e-9)


def test_the_script_makes_no_other_numbers(now):
    assert set(now) == set(GOLDEN)


def test_golden_inputs_move_what_they_are_meant_to_move():
    shares = np.array(GOLDEN["geometric_clip0"])
    assert np.count_nonzero((shares > 0) & (shares < 1)) >= 8
    assert GOLDEN["fid_k"][0] > 0
    assert len(GOLDEN["motion_beats_0"]) >= 3
