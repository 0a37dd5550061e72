import json
import math

import pytest

from macebench.curation.config import load_config
from macebench.curation.explain import checks, differences, explain, limits, what_if
from macebench.curation.pipeline import curate
from macebench.errors import UserError
from macebench.media import Decoder
from macebench.optout import salted


@pytest.fixture
def done(job):
    task = job("done")
    curate(task)
    return task


@pytest.fixture
def no_decoder(monkeypatch):
    """Counts decoders that are started; none may be."""
    started = []
    monkeypatch.setattr(Decoder, "_running", lambda self: started.append(1))
    return started


def test_why_something_was_dropped_or_kept(done):
    (dark,) = explain(done.out, "dark.mp4")
    assert (dark.kept, dark.stage, dark.reason, dark.threshold) == (False, "light", "too dark", 10.0)
    by_name = {check.name: check for check in dark.checks}
    assert by_name["light.light"].value == dark.value
    assert (by_name["light.light"].setting, by_name["light.light"].limit) == ("light.min_light", 10.0)
    assert by_name["probe.duration_s"].setting == "probe.min_duration_s"
    assert by_name["probe.fps"].setting == ""
    names = [check.name.partition(".")[0] for check in dark.checks]
    assert names == sorted(names, key=["probe", "light", "pieces"].index)
    spans = explain(done.out, "c.mp4")
    assert [span.kept for span in spans] == [True, True, True, False]
    assert explain(done.out, spans[1].name) == [spans[1]]
    assert explain(done.out, spans[0].source_id[:6]) == spans
    with pytest.raises(UserError, match="knows no clip or source 'nothing'"):
        explain(done.out, "nothing")
    with pytest.raises(UserError, match=r"no data set made by curate: it has no dataset\.json"):
        explain(done.out / "clips", "nothing")
    with pytest.raises(UserError, match="none does not exist"):
        explain(done.out / "none", "nothing")


def test_what_if_says_what_a_run_would_do_without_a_decoder(done, job, no_decoder, monkeypatch):
    then = what_if(done.out, ["light.min_light=119.5"])
    assert not no_decoder
    monkeypatch.undo()
    real = curate(job("other", "light.min_light=119.5", store="store2"))
    assert then.unknown == 0
    assert then.changed == {"light.min_light": (10.0, 119.5)}
    assert (then.now.clips, then.then.clips) == (9, real.n_clips)
    assert then.then.seconds == pytest.approx(real.seconds, abs=0.1)
    assert {f"{stage}: {reason}": n for (stage, reason), n in then.then.reasons.items()} == real.reasons
    assert real.n_clips < 9


def test_what_if_without_changes_is_what_is(done, no_decoder):
    found = what_if(done.out, [])
    assert found.changed == {}
    assert (found.then.clips, found.then.reasons) == (found.now.clips, found.now.reasons)
    assert not no_decoder


def test_what_if_leaves_out_what_opted_out(done, no_decoder):
    import pandas as pd

    clips = pd.read_parquet(done.out / "metadata.parquet")
    (done.out / "optout.txt").write_text(f"salt s\n{clips.sha256[0]}\n{salted(clips.clip_id[1], 's')}\n")
    found = what_if(done.out, [])
    assert (found.now.clips, found.then.clips) == (7, 7)
    assert found.then.reasons == found.now.reasons
    assert found.then.reasons["optout", "opted out"] == 2
    # other bytes have another hash; a name stays a name
    assert what_if(done.out, ["encode.crf=30"]).then.clips == 8
    assert not no_decoder


def test_what_if_knows_what_could_not_be_cut(done, no_decoder):
    path = next(
        path for path in (done.out / ".work" / "records").rglob("*.json") if json.loads(path.read_text())["clips"]
    )
    record = json.loads(path.read_text())
    clip = record["clips"].pop(1)
    span = {"start_s": clip["start_s"], "end_s": clip["end_s"], "stage": "cut", "reason": "no picture"}
    record["rejected"].append(span | {"value": None, "threshold": None, "scores": {}, "thumbnail": ""})
    path.write_text(json.dumps(record))
    found = what_if(done.out, [])
    assert (found.now.clips, found.then.clips) == (8, 8)
    assert found.then.reasons == found.now.reasons
    assert what_if(done.out, ["encode.crf=30"]).then.clips == 9
    assert not no_decoder


def test_what_if_says_which_sources_would_have_to_be_decoded(done, no_decoder):
    found = what_if(done.out, ["light.every=2"])
    assert (found.unknown, found.then.clips) == (4, 0)
    found = what_if(done.out, ["probe.min_duration_s=60"])
    assert (found.unknown, found.then.clips) == (0, 0)
    assert found.then.reasons["probe", "too short"] == 4
    assert not no_decoder
    with pytest.raises(UserError, match=r"light\.min_ligth"):
        what_if(done.out, ["light.min_ligth=3"])


def test_what_if_on_a_broken_source_and_a_lost_store(done, job, raw, tmp_path):
    folder = tmp_path / "cut"
    folder.mkdir()
    data = (raw.folder / "a.mp4").read_bytes()
    (folder / "short.mp4").write_bytes(data[: int(len(data) * 0.6)])
    task = job("broken", sources=[folder])
    curate(task)
    assert what_if(task.out, []).then.reasons == {("decode", "truncated file"): 1}
    assert what_if(done.out, [], store=tmp_path / "empty").unknown == 5


def test_limits_of_a_config(toys):
    config = load_config(None, ("stages=[probe, light]", "probe.min_side=7"))
    assert limits(config)["probe.side"] == ("probe.min_side", 7)
    (one, two) = checks({"light.light": 3.0, "probe.side": math.nan}, config)
    assert (one.name, one.limit, two.setting) == ("probe.side", 7, "light.min_light")
    other = load_config(None, ("stages=[probe, light]", "probe.min_side=8", "seed=3"))
    assert differences(config, other) == {"probe.min_side": (7, 8), "seed": (0, 3), "splits.seed": (0, 3)}


def test_every_stage_limit_is_a_field_and_a_score():
    """What a stage says it compares exists."""
    config = load_config()
    plain = config.plain()
    for score, (setting, value) in limits(config).items():
        stage, _, name = setting.partition(".")
        assert name in plain[stage], (score, setting)
        assert value is not None, (score, setting)
    assert limits(config)["motion.residual"] == ("motion.min", 0.0015)
    assert limits(load_config(None, ("motion.min=0.01",)))["motion.residual"] == ("motion.min", 0.01)


def test_a_difference_names_the_value_in_force():
    assert differences(load_config(), load_config(None, ("motion.min=0.003",))) == {"motion.min": (0.0015, 0.003)}


def test_the_tables_hold_no_more_than_the_record(done):
    (path,) = (done.out / ".work" / "records").rglob(f"{explain(done.out, 'a.mp4')[0].source_id}.json")
    record = json.loads(path.read_text())
    assert [clip["start_s"] for clip in record["clips"]] == [0.0, 1.0, 2.0]
    assert "a.mp4" not in path.read_text()
