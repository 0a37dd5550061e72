"""The page about a curated data set; what it shows of a whole one is in tests/curation/test_curate.py."""

from macebench.report.curation import _sums


def test_what_is_left_out_of_a_table_is_counted():
    assert '<p class="muted small">and 4 more</p>' in str(_sums("source", {f"s{k}": [1, 2.0] for k in range(34)}))
    assert "more" not in str(_sums("source", {f"s{k}": [1, 2.0] for k in range(30)}))
