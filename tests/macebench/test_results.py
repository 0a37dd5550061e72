import json
import math

import pytest
from pydantic import ValidationError

from macebench.results import RunResult, ScoreRecord, split_piece, with_reference
from macebench.types import Score


def score(name, value, better="reference", n=3):
    return Score(name, value, n if not math.isnan(value) else 0, 0 if not math.isnan(value) else n, "1", better, "hash",
                 {} if not math.isnan(value) else {"no person": n})  # fmt: skip


def test_only_columns_without_a_direction_get_the_references_value():
    scores = [score("div", 3.0), score("fid", 2.0, "lower"), score("flicker", 0.9, "higher"), score("bas", 0.5)]
    own = [score("div", 4.5), score("fid", 0.0, "lower"), score("flicker", 0.8, "higher"), score("bas", math.nan)]
    div, fid, flicker, bas = with_reference(scores, own)
    assert (div.reference, div.gap) == (4.5, 1.5)
    assert [(record.reference, record.gap) for record in (fid, flicker, bas)] == [(None, None)] * 3


def test_a_score_without_a_value_has_no_gap_but_the_aim():
    (record,) = with_reference([score("div", math.nan)], [score("div", 4.5)])
    assert (record.value, record.reference, record.gap) == (None, 4.5, None)


def test_a_score_the_reference_lacks_has_no_aim():
    (record,) = with_reference([score("div", 1.0)], [])
    assert record.reference is None


def test_a_record_comes_back_from_json_and_an_old_one_still_loads():
    (record,) = with_reference([score("div", 3.0)], [score("div", 4.5)])
    stored = json.loads(record.model_dump_json())
    assert stored["reference"] == 4.5
    assert "gap" not in stored
    assert ScoreRecord.model_validate(stored) == record
    del stored["reference"]
    assert ScoreRecord.model_validate(stored).gap is None
    with pytest.raises(ValidationError):
        ScoreRecord.model_validate(stored | {"aim": 1.0})


def test_a_result_of_the_first_schema_still_loads():
    result = RunResult.model_validate(
        {"schema_version": 1, "protocols": {}, "entries": [], "environment": {}, "clips_sha256": ""}
    )
    assert result.metric_versions == {}


@pytest.mark.parametrize(
    ("clip_id", "expected"),
    [
        ("solo/a@12.000", ("solo/a", 12.0)), ("a", ("a", 0.0)), ("a@b", ("a@b", 0.0)), ("a@1", ("a@1", 0.0)),
        ("a@1.000@2.500", ("a@1.000", 2.5)), ("@1.000", ("@1.000", 0.0)),
    ],
)  # fmt: skip
def test_a_piece_is_named_after_its_clip_and_start(clip_id, expected):
    assert split_piece(clip_id) == expected
