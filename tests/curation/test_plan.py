import dataclasses

import pytest

from macebench.curation.motion_sources import motion_sources
from macebench.curation.pipeline import curate
from macebench.curation.plan import Measured, Speeds, load_speeds, make_plan
from macebench.store import Store


def silent(phase, done, total):
    pass


def costs(look_s, video_s, source_s):
    return {"look_s": look_s, "video_s": video_s, "source_s": source_s}


def test_speeds_are_what_was_measured(job, tmp_path):
    config, store, measured = job().config, Store(tmp_path / "s"), Measured()
    for cost in (costs(4.0, 20.0, 6.0), costs(6.0, 20.0, 9.0), {"source_s": 0.5}, {}):
        measured.add(cost)
    measured.save(store, config, wall_s=10.0, workers=2)
    assert load_speeds(store, config) == Speeds(0.25, 0.125, 0.5, pytest.approx(10.0 - 15.5 / 2))
    assert load_speeds(store, job("x", "light.every=2").config) is None
    assert load_speeds(store, job("x", "encode.crf=30").config) is None
    assert load_speeds(store, job("x", "light.min_light=3").config) is not None


def test_too_little_says_nothing(job, tmp_path):
    store, measured = Store(tmp_path / "s"), Measured()
    measured.add(costs(1.0, 2.0, 3.0))
    measured.save(store, job().config, 3.0, 1)
    assert load_speeds(store, job().config) is None


def test_a_plan_of_what_is_new_half_done_and_done(job, raw, tmp_path):
    task = job()
    speeds, measured = Store(task.store), Measured()
    measured.add(costs(20.0, 40.0, 30.0))
    measured.save(speeds, task.config, 32.0, 1)
    planned = make_plan(task, silent)
    assert not task.out.exists()
    assert (planned.n_sources, planned.n_finished, planned.sampled) == (5, 0, False)
    assert planned.source_s == pytest.approx(4 * 3.3, abs=0.1)
    assert planned.decode_s == planned.source_s
    assert planned.seconds == pytest.approx(2.0 + 4 * 3.3 * 0.75, abs=0.2)
    half = make_plan(dataclasses.replace(task, workers=2), silent)
    assert half.seconds == pytest.approx(2.0 + 4 * 3.3 * 0.75 / 2, abs=0.2)
    curate(task)
    done = make_plan(task, silent)
    assert (done.n_finished, done.decode_s) == (5, 0.0)
    stricter = make_plan(job("out", "light.min_light=50"), silent)
    assert (stricter.n_finished, stricter.decode_s) == (0, 0.0)
    assert stricter.seconds < planned.seconds


def test_without_measurements_some_seconds_are_tried(job):
    planned = make_plan(job("new", workers=2), silent)
    assert "trial" in planned.basis
    assert planned.seconds > 3.0


def test_a_large_set_is_judged_by_a_sample(job, raw, tmp_path, monkeypatch):
    from macebench.curation import plan

    monkeypatch.setattr(plan, "SAMPLE", 2)
    monkeypatch.setattr(plan, "_sample", lambda index, chosen=plan._sample: [
        item for item in chosen(index) if item.name != "broken.mp4"][:2])  # fmt: skip
    task = job("new", sources=[raw.folder / "a.mp4", raw.folder / "b.mp4", raw.folder / "below" / "c.mp4"])
    planned = make_plan(task, silent)
    assert planned.sampled
    assert planned.source_s == pytest.approx(9.9, rel=0.5)


def test_a_plan_opens_nothing_that_is_refused(job, raw, tmp_path, monkeypatch):
    from macebench.curation import plan

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mp4").write_bytes((raw.folder / "a.mp4").read_bytes())
    (folder / "z.mp4").symlink_to("/dev/zero")
    (folder / "out.mp4").symlink_to(raw.folder / "b.mp4")
    opened = []

    def read(path):
        opened.append(path.name)
        return plan_sha256(path) if path.name == "a.mp4" else "0" * 64

    plan_sha256 = plan.file_sha256
    monkeypatch.setattr(plan, "file_sha256", read)
    planned = make_plan(job("new", sources=[folder]), silent)
    assert opened == ["a.mp4"]
    assert (planned.n_sources, planned.n_finished) == (3, 0)
    assert planned.source_s == pytest.approx(3.3, abs=0.1)


@pytest.mark.slow
def test_a_plan_counts_recordings_their_length_and_the_drawing(job, dances, tmp_path):
    folder = dances(tmp_path / "in", 2, seconds=2.0)
    (folder / "alone.npz").write_bytes((folder / "dance0.npz").read_bytes())
    changes = ("render.width=64", "render.height=64", "render.min_s=1", "render.take_s=1", "stages=[probe, light]")
    task = dataclasses.replace(job("set", *changes, sources=None), sources=(), motions=tuple(motion_sources(folder)))
    planned = make_plan(task, silent)
    assert not task.out.exists()
    assert (planned.n_sources, planned.n_recordings, planned.n_render, planned.n_finished) == (3, 3, 2, 0)
    assert planned.source_s == planned.render_s == planned.decode_s == pytest.approx(4.0, abs=0.1)
    assert planned.basis.endswith("a second of drawing")
    assert planned.seconds > 3.0
    one = make_plan(dataclasses.replace(task, limit=2), silent)
    assert (one.n_recordings, one.render_s) == (2, pytest.approx(2.0, abs=0.1))  # alone has no music
    curate(task)
    done = make_plan(task, silent)
    assert (done.n_sources, done.n_render, done.n_finished, done.decode_s) == (3, 0, 2, 0.0)
    assert done.source_s == pytest.approx(4.0, abs=0.1)


def test_many_recordings_are_judged_by_some(job, dances, tmp_path, monkeypatch):
    from macebench.curation import plan

    monkeypatch.setattr(plan, "_RECORDINGS", 2)
    folder = dances(tmp_path / "in", 4, seconds=1.5)
    task = dataclasses.replace(
        job("set", "render.width=64", "render.height=64", "render.min_s=1"), sources=(),
        motions=tuple(motion_sources(folder)),
    )  # fmt: skip
    planned = make_plan(task, silent)
    assert planned.sampled
    assert (planned.n_recordings, planned.n_render) == (4, 4)
    assert planned.render_s == pytest.approx(6.0, rel=0.2)
