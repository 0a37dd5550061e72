import dataclasses
from pathlib import Path

from macebench.curation.decide import decide
from macebench.curation.stage import Rejection, Task, Verdict
from macebench.errors import MediaError

TASK = Task(Path("x.mp4"), "a" * 64, 0.0, 10.0)


class Halves:
    name = "halves"

    def process(self, task):
        first, second, third = (dataclasses.replace(task, start_s=s, end_s=s + 3.0) for s in (0.0, 3.0, 6.0))
        second = dataclasses.replace(second, scores={"halves.own": 2.0, "halves.count": 9.0})
        return Verdict({"count": 3}, None, (first, second), ((third, Rejection("halves", "rest", 3.0, 4.0)),))


class Late:
    name = "late"

    def process(self, task):
        late = task.start_s > 1
        return Verdict({"start": task.start_s}, Rejection("late", "too late", task.start_s, 1.0) if late else None)


class Broken:
    name = "broken"

    def process(self, task):
        raise MediaError("truncated file")


def test_parts_that_are_dropped_while_others_go_on_are_in_the_ledger_with_scores():
    found = decide((TASK,), (Halves(), Late()))
    (kept,) = found.kept
    assert (kept.start_s, kept.end_s) == (0.0, 3.0)
    assert dict(kept.scores) == {"halves.count": 3.0, "late.start": 0.0}
    assert [(row.task.start_s, row.rejection.stage) for row in found.ledger] == [(6.0, "halves"), (3.0, "late")]
    assert dict(found.ledger[0].task.scores) == {"halves.count": 3.0}
    assert dict(found.ledger[1].task.scores) == {"halves.own": 2.0, "halves.count": 9.0, "late.start": 3.0}


def test_a_broken_file_is_a_reason_and_stages_are_announced():
    entered = []
    found = decide((TASK,), (Late(), Broken()), lambda stage: entered.append(stage.name))
    assert entered == ["late", "broken"]
    assert found.ledger[0].rejection == Rejection("broken", "truncated file")
    assert found.after(found.ledger).ledger == found.ledger * 2


class Mean:
    """Keeps spans that begin early on average; judges clips too."""

    name = "mean"
    judges_clips = True

    def process(self, task):
        middle = (task.start_s + task.end_s) / 2
        return Verdict({"middle": middle}, Rejection("mean", "late", middle, 5.5) if middle > 5.5 else None)


def test_a_stage_that_judges_clips_is_asked_again_about_what_was_cut():
    entered = []
    found = decide((TASK,), (Mean(), Halves()), lambda stage: entered.append(stage.name))
    assert entered == ["mean", "halves", "mean", "mean"]
    assert [dict(task.scores) for task in found.kept] == [
        {"mean.middle": 1.5, "halves.count": 3.0},
        {"mean.middle": 4.5, "halves.own": 2.0, "halves.count": 9.0},
    ]
    short = dataclasses.replace(TASK, end_s=9.0)
    assert [row.rejection.reason for row in decide((short,), (Mean(), Halves())).ledger] == ["rest"]


def test_a_clip_that_fails_by_itself_is_in_the_ledger_with_its_own_scores():
    late = dataclasses.replace(TASK, start_s=1.0)
    found = decide((late,), (Mean(), Thirds()))
    assert [(task.start_s, task.scores["mean.middle"]) for task in found.kept] == [(1.0, 2.5), (4.0, 5.5)]
    (row,) = found.ledger
    assert (row.task.start_s, row.rejection) == (7.0, Rejection("mean", "late", 8.5, 5.5))
    assert row.task.scores["mean.middle"] == 8.5


def test_a_span_that_nobody_cut_is_not_judged_twice():
    entered = []
    decide((dataclasses.replace(TASK, end_s=3.0),), (Mean(), Late()), lambda stage: entered.append(stage.name))
    assert entered == ["mean", "late"]


class Thirds:
    name = "thirds"

    def process(self, task):
        starts = (task.start_s, task.start_s + 3.0, task.start_s + 6.0)
        return Verdict({}, None, tuple(dataclasses.replace(task, start_s=s, end_s=s + 3.0) for s in starts))
