"""The weight filler and the closed-form inputs against the stored sums and inputs."""

import runpy
from pathlib import Path

import numpy as np
import pytest

parity = runpy.run_path(str(Path(__file__).with_name("parity.py")))


def test_filler_equals_stored_check() -> None:
    stored = parity["golden_json"]("mace_state_dict")
    keys = [*list(stored["filled_check"])[::11], "null_cond_embed", "final_layer.weight"]
    for key in keys:
        weights = parity["fill"](key, stored["keys"][key]).astype(np.float64)
        check = stored["filled_check"][key]
        assert weights.sum() == pytest.approx(check["sum"], abs=1e-4 + 1e-6 * np.abs(weights).sum()), key
        assert weights.reshape(-1)[:3] == pytest.approx(check["first3"], abs=1e-6), key


def test_inputs_equal_stored() -> None:
    stored = parity["golden"]("mace_network")
    assert parity["motion"](2, 30) == pytest.approx(stored["in_x"], abs=1e-6)
    assert parity["motion"](2, 30, 2.1) == pytest.approx(stored["in_x0"], abs=1e-6)
    assert parity["cond"](2, 30) == pytest.approx(stored["in_cond"], abs=1e-6)
    assert parity["draw"](2, 30) == pytest.approx(stored["in_noise"], abs=1e-6)


def test_noise_has_zero_mean_and_unit_variance_and_depends_on_the_salt() -> None:
    v = parity["noise"](20000, "any")
    assert abs(v.mean()) < 0.03
    assert v.std() == pytest.approx(1, abs=0.02)
    assert not np.allclose(v, parity["noise"](20000, "any", 1))
