import dataclasses
from pathlib import Path

import numpy as np
import pytest

from macebench.curation.stage import Rejection, Task, Timeline
from macebench.curation.stages.probe import CLEAR_DB, SILENCE_DB, Probe, ProbeConfig, measure, sound_level
from macebench.errors import MediaError, UserError
from macebench.media import Decoder, VideoInfo, write_video, write_wav

INFO = VideoInfo(640, 360, 30.0, 12.0, True, 90, True, "mp4", "h264", None)
RATE = 8000


def task(info=INFO, level=-20.0):
    return Task(Path("x.mp4"), "a" * 64, info=info, observed={"probe": Timeline(np.zeros(0), {}, {"level_db": level})})


@pytest.mark.parametrize(
    ("changes", "level", "rejection"),
    [
        ({}, -20.0, None),
        ({"duration_s": 4.9}, -20.0, Rejection("probe", "too short", 4.9, 5.0)),
        ({"duration_s": float("nan")}, -20.0, "too short"),
        ({"duration_s": 5.0}, -20.0, None),
        ({"height": 255}, -20.0, Rejection("probe", "picture too small", 255.0, 256.0)),
        ({"height": 256}, -20.0, None),
        ({"has_audio": False}, SILENCE_DB, Rejection("probe", "no sound", 0.0, 1.0)),
        ({}, -60.1, Rejection("probe", "silent", -60.1, -60.0)),
        ({}, -60.0, None),
    ],
)
def test_each_limit_at_its_border(changes, level, rejection):
    verdict = Probe().process(task(dataclasses.replace(INFO, **changes), level))
    if isinstance(rejection, str):
        assert verdict.rejection.reason == rejection
    else:
        assert verdict.rejection == rejection


def test_scores_say_what_the_container_says():
    verdict = Probe().process(task())
    assert verdict.scores["rotation_deg"] == 90.0
    assert verdict.scores["variable_rate"] == 1.0
    assert verdict.scores["side"] == 360.0
    assert verdict.tasks[0].end_s == 12.0
    unknown = Probe().process(task(dataclasses.replace(INFO, variable_rate=None, has_audio=False)))
    assert np.isnan(unknown.scores["variable_rate"])
    assert np.isnan(unknown.scores["level_db"])


def test_sound_is_needed_only_when_the_config_says_so():
    lenient = Probe(ProbeConfig(needs_audio=False))
    assert lenient.process(task(dataclasses.replace(INFO, has_audio=False), SILENCE_DB)).rejection is None
    assert Probe(ProbeConfig(min_level_db=None)).process(task(level=SILENCE_DB)).rejection is None
    with pytest.raises(UserError, match="min_level_db"):
        ProbeConfig(min_level_db=CLEAR_DB + 1)


def test_opted_out(tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text("a" * 64 + "\n")
    verdict = Probe(ProbeConfig(optout=str(listing))).process(task())
    assert verdict.rejection == Rejection("probe", "opted out")
    listing.write_text("b" * 64 + "\n")
    assert Probe(ProbeConfig(optout=str(listing))).process(task()).rejection is None


def level(tmp_path, samples):
    path = write_wav(tmp_path / "s.wav", samples, RATE)
    with Decoder() as decoder:
        return sound_level(decoder, path)


def test_the_level_is_that_of_the_loudest_second(tmp_path):
    tone = np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
    assert level(tmp_path, np.zeros(3 * RATE)) == SILENCE_DB
    quiet = np.concatenate([np.zeros(2 * RATE), 0.002 * tone, np.zeros(2 * RATE)])
    assert level(tmp_path, quiet) == pytest.approx(20 * np.log10(0.002 / np.sqrt(2)), abs=1.0)
    assert level(tmp_path, 0.002 * tone[: RATE // 2]) == pytest.approx(20 * np.log10(0.002 / np.sqrt(2)), abs=0.5)
    late = np.concatenate([np.zeros(20 * RATE), 0.5 * tone, np.zeros(RATE)])
    assert level(tmp_path, late) > CLEAR_DB


def test_reading_stops_at_the_first_clear_second(tmp_path):
    tone = np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
    both = [level(tmp_path, np.concatenate([0.1 * tone, 0.1 * tone, rest])) for rest in (np.zeros(RATE), tone)]
    assert both[0] == both[1]


def test_a_real_file_is_measured_and_a_broken_one_is_an_error(tmp_path):
    frames = (np.full((64, 64, 3), i, np.uint8) for i in range(10))
    silent = write_video(tmp_path / "silent.mp4", frames, fps=5.0, audio=(np.zeros(2 * RATE), RATE))
    with Decoder() as decoder:
        info, measured = measure(decoder, silent)
        assert info.has_audio
        assert measured.meta["level_db"] < -100
        (tmp_path / "broken.mp4").write_bytes(b"nothing")
        with pytest.raises(MediaError):
            measure(decoder, tmp_path / "broken.mp4")
