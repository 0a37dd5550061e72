import dataclasses

import numpy as np
import pytest

from macebench.curation.observe import (
    CHECK_S,
    Thumbnails,
    load_probed,
    load_timelines,
    observe,
    probed,
    save_timelines,
    thumbnail_at,
    timeline_key,
)
from macebench.curation.stage import Rejection, Timeline
from macebench.errors import MediaError
from macebench.media import FrameBatch, VideoInfo, file_sha256
from macebench.store import Store

INFO = VideoInfo(96, 64, 10.0, 100.0, True, 0, False, "mp4", "h264", None)


class Pictures:
    """Stands for a decoder: pictures of one grey level each."""

    def __init__(self, times, step=None):
        self.times, self.n_given, self.max_side = np.asarray(times, float), 0, None

    def frames(self, path, *, batch, max_side):
        self.max_side = max_side
        for low in range(0, len(self.times), batch):
            times = self.times[low : low + batch]
            self.n_given += len(times)
            yield FrameBatch(np.repeat(times.astype(np.uint8), 32 * 48 * 3).reshape(-1, 32, 48, 3), times)


class Watcher:
    """Notes what it is given; gives up after `patience_s`."""

    name = "watcher"
    config = None

    def __init__(self, patience_s=None):
        self.patience_s = patience_s
        self.times = []

    def observer_settings(self):
        return {"version": 3, "patience": self.patience_s}

    def observe(self, info):
        return Watcher(self.patience_s)

    def process(self, task):
        raise AssertionError

    def update(self, frames, times_s):
        assert len(frames) == len(times_s)
        self.times += times_s.tolist()

    def hopeless(self):
        if self.patience_s is not None and self.times and self.times[-1] >= self.patience_s:
            return Rejection("watcher", "boring", self.times[-1], self.patience_s)
        return None

    def finish(self):
        return Timeline(np.array(self.times), {"x": np.array(self.times) * 2}, {"n": len(self.times)})


@pytest.mark.parametrize("batch", [1, 7, 16, 1000])
def test_the_result_does_not_depend_on_batches(batch):
    times = np.arange(0, 100, 0.37)
    found = observe(Pictures(times), "x", INFO, [Watcher(), Thumbnails()], 640, batch=batch)
    np.testing.assert_array_equal(found.timelines["watcher"].times_s, times)
    assert len(found.timelines["thumbnails"].times_s) == len(times[::2])
    assert (found.cost.n_frames, found.cost.pixels) == (len(times), 96 * 64)


@pytest.mark.parametrize("batch", [1, 7, 16, 1000])
def test_a_hopeless_source_is_given_up_at_a_fixed_time(batch):
    times = np.arange(0, 100, 0.37)
    pictures = Pictures(times)
    found = observe(pictures, "x", INFO, [Watcher(35.0)], 640, batch=batch)
    last = times[times < 2 * CHECK_S][-1]
    assert found.hopeless == Rejection("watcher", "boring", last, 35.0)
    assert found.timelines == {}
    assert found.cost.video_s == last
    if batch < 100:
        assert pictures.n_given < len(times)


def test_every_stage_sees_pictures_of_the_same_size_whatever_else_is_missing():
    for stages in ([Watcher()], [Watcher(), Thumbnails()]):
        pictures = Pictures(np.arange(3.0))
        observe(pictures, "x", INFO, stages, 320)
        assert pictures.max_side == 320


def test_timelines_come_back_and_their_key_has_the_settings(tmp_path):
    store, stages = Store(tmp_path), [Watcher(), Thumbnails()]
    found = observe(Pictures(np.arange(0, 5, 0.1)), "x", INFO, stages, 640)
    save_timelines(store, "a" * 64, stages, 640, found)
    again = load_timelines(store, "a" * 64, stages, 640)
    for name, timeline in found.timelines.items():
        np.testing.assert_array_equal(again[name].times_s, timeline.times_s)
        for key, values in timeline.values.items():
            np.testing.assert_array_equal(again[name].values[key], values)
        assert dict(again[name].meta) == dict(timeline.meta)
    assert load_timelines(store, "b" * 64, stages, 640) == {}
    assert load_timelines(store, "a" * 64, stages, 320) == {}
    keys = {timeline_key(Watcher(p), "a" * 64, s).key for p in (None, 1.0) for s in (320, 640)}
    assert len(keys) == 4


def test_thumbnails_are_few_and_the_nearest_inside_the_span_is_taken():
    long = dataclasses.replace(INFO, duration_s=3600.0)
    observer = Thumbnails().observe(long)
    for time_s in range(3600):
        observer.update(np.zeros((1, 4, 4, 3), np.uint8), np.array([float(time_s)]))
    assert len(observer.finish().times_s) <= Thumbnails.MOST
    line = Timeline(np.array([0.0, 4.0, 6.0]), {"jpeg": np.eye(3, 4, dtype=np.uint8), "size": np.array([1, 2, 3])})
    assert thumbnail_at(line, 0.0, 3.0) == b"\x01"
    assert thumbnail_at(line, 5.0, 8.0) == b"\x00\x00\x01"
    assert thumbnail_at(line, 4.2, 4.4) == b"\x00\x01"
    assert thumbnail_at(Timeline(np.zeros(0), {"jpeg": np.zeros((0, 0), np.uint8), "size": np.zeros(0)}), 0, 1) == b""


def test_what_a_source_says_is_asked_once_even_when_it_says_nothing(raw, tmp_path, monkeypatch):
    from macebench.media import Decoder

    store = Store(tmp_path)
    with Decoder() as decoder:
        good, bad = raw.folder / "a.mp4", raw.folder / "broken.mp4"
        first = probed(store, decoder, good, file_sha256(good))
        with pytest.raises(MediaError, match="not a media file"):
            probed(store, decoder, bad, file_sha256(bad))
        monkeypatch.setattr(Decoder, "probe", None)
        again = probed(store, decoder, good, file_sha256(good))
        assert (again[0], dict(again[1].meta)) == (first[0], dict(first[1].meta))
        with pytest.raises(MediaError, match="not a media file"):
            probed(store, decoder, bad, file_sha256(bad))
    assert load_probed(store, "0" * 64) is None
