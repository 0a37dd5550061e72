import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macebench.report.numbers import plural, short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.98765, "0.988"), (12.3456, "12.35"), (123.456, "123.5"), (1234.5, "1234"), (-0.039, "-0.039"), (0.0, "0"),
        (3.6e-17, "0"), (-4e-13, "0"), (0.00012, "1.2e-04"), (-1.5e7, "-1.5e+07"), (math.nan, "–"), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_short(value, text):
    assert short(value) == text


@given(st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) >= 1e-12))
def test_a_short_number_is_near_and_short(value):
    assert len(short(value)) <= 8
    assert float(short(value)) == pytest.approx(value, rel=0.05, abs=5.1e-4 if abs(value) >= 5e-4 else 0)


def test_plural():
    assert [plural(count, "clip") for count in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
