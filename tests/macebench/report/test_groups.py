from hypothesis import given
from hypothesis import strategies as st

from macebench.report.groups import OTHER, group_of, grouped, ordered, without_errors

NAMES = ("frozen_share", "fsr", "fid_k", "charm", "bas", "div_k", "kid_k", "kid_k_se", "pfc", "temporal_flickering")


def test_columns_stand_by_group_and_keep_their_order_inside():
    assert grouped(NAMES) == [
        ("distances", ["fid_k", "kid_k", "kid_k_se"]), ("diversity", ["div_k"]), ("beats", ["bas"]),
        ("feet", ["fsr", "pfc"]), ("activity", ["frozen_share"]), ("picture", ["temporal_flickering"]),
        (OTHER, ["charm"]),
    ]  # fmt: skip


def test_names_that_only_begin_alike_are_others():
    assert [group_of(name) for name in ("bass", "fsrx", "fidelity", "pfcs")] == [OTHER] * 4


def test_a_standard_error_goes_with_its_value():
    assert without_errors(["kid_k", "kid_k_se", "lonely_se"]) == ["kid_k", "lonely_se"]


@given(st.lists(st.text(max_size=8) | st.sampled_from(NAMES), unique=True))
def test_no_column_is_lost(names):
    assert sorted(ordered(names)) == sorted(names)
    assert [name for _, members in grouped(names) for name in members] == ordered(names)
