from pathlib import Path

import numpy as np
import pytest
import yaml

from macebench.errors import UserError
from macebench.evidence import Extracted, Source
from macebench.extract import SUBJECT, ClipPlan, Outcome
from macebench.identity import NO_PICTURE, SEVERAL, Picture, Pictures, find_pictures, with_pictures
from macebench.prepare import EvalConfig, prepare
from macebench.protocol import load_protocol, parse_protocol
from macebench.registry import get_metric
from macebench.store import Store
from macebench.types import Clip, Missing

cv2 = pytest.importorskip("cv2")
REFEREE = load_protocol("video-referee/1")


def clips(*names):
    return [Clip(name, Path(f"{name}.mp4"), "0" * 64) for name in names]


def write_picture(path, value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 30, 3), value, np.uint8))
    return path


def test_a_single_picture_is_that_of_the_evaluated_clips_alone(tmp_path):
    path = write_picture(tmp_path / "me.JPG")
    found = find_pictures(path, clips("a", "b/c"), clips("a", "d"))
    assert {item.path for item in found.generated.values()} == {path}
    assert len(found.files) == 1
    assert found.of(clips("a")[0], "reference") == Missing(NO_PICTURE)
    assert found.of(clips("a")[0], "generated").path == path


def test_a_folder_has_pictures_by_clip_id(tmp_path):
    for name in ("a.png", "deep/b.webp", "c.jpeg", "d.jpg", "d.png", "r.png"):
        write_picture(tmp_path / name, len(name))
    for name in ("e.gif", "f.mp4", "a.json"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "g.png").mkdir()
    found = find_pictures(tmp_path, clips("a", "deep/b", "c", "d", "e", "f", "g", "deep/a"), clips("r", "s", "a"))
    assert {name: item.path.name for name, item in found.generated.items() if isinstance(item, Picture)} == {
        "a": "a.png", "deep/b": "b.webp", "c": "c.jpeg",
    }  # fmt: skip
    assert {name: item.reason for name, item in found.generated.items() if isinstance(item, Missing)} == {
        "d": SEVERAL, "e": "reference picture: .gif is none of .png, .jpg, .jpeg, .webp", "f": NO_PICTURE,
        "g": "reference picture: cannot be read", "deep/a": NO_PICTURE,
    }  # fmt: skip
    assert [name for name, item in found.reference.items() if isinstance(item, Picture)] == ["r", "a"]
    assert len(found.files) == 3, "r.png has the bytes of a.png"


def test_a_folder_that_matches_no_evaluated_clip_is_an_error(tmp_path):
    write_picture(tmp_path / "other.png")
    with pytest.raises(UserError, match="has the name of one of the 2 clips") as caught:
        find_pictures(tmp_path, clips("deep/a", "b"), clips("other"))
    assert "deep/a.png" in caught.value.hint


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    outside = write_picture(tmp_path / "outside.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").symlink_to(outside)
    with pytest.raises(UserError, match="leaves the folder"):
        find_pictures(tmp_path / "folder", clips("a"), ())


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.gif", b"GIF89a", r"a\.gif is no picture: allowed are \.png, \.jpg, \.jpeg, \.webp"),
        ("a.png", b"", "cannot be read: empty file"),
        ("a.png", b"no picture at all", "cannot be read: not a media file"),
        ("b.png", None, "does not exist"),
    ],
)
def test_a_single_picture_that_cannot_be_used(tmp_path, name, data, words):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        find_pictures(tmp_path / name, clips("a"), ())
    assert name in str(caught.value)
    assert ".webp" in caught.value.hint


def test_the_protocol_says_what_the_dancer_is_held_against():
    plain, other = load_protocol("vbench6/1"), load_protocol("ma2d-fixed/1")
    drift, rest = get_metric("identity_drift"), get_metric("temporal_flickering")
    pairs = (REFEREE, plain), ((drift, rest), (rest,))
    assert with_pictures(None, *pairs) == pairs[0]
    changed, same = with_pictures(Path("me.png"), *pairs)
    assert same == plain
    assert changed.hash != REFEREE.hash
    assert REFEREE.differences(changed) == ["identity_reference: absent != picture"]
    with pytest.raises(UserError, match="ma2d-fixed/1 has no metric") as caught:
        with_pictures(Path("me.png"), (other,), ((rest,),))
    assert "identity_drift" in caught.value.hint


def test_a_protocol_file_that_wants_a_picture_needs_one():
    fields = {**REFEREE.model_dump(mode="json"), "name": "mine", "identity_reference": "picture"}
    mine = parse_protocol(yaml.safe_dump(fields), "test")
    metrics = ((get_metric("identity_drift"),),)
    with pytest.raises(UserError, match="mine/1 needs a reference picture"):
        with_pictures(None, (mine,), metrics)
    assert with_pictures(Path("me.png"), (mine,), metrics)[0].hash == mine.hash


def test_prepare_without_and_with_a_picture(tmp_path, tiny_world):
    fields = {"videos": tiny_world.videos, "pose": "precomputed", "pose_settings": {"folder": tiny_world.poses}}
    plain = EvalConfig(str(tiny_world.videos), tmp_path / "run", protocols=("video-referee/1",), **fields)
    picture = write_picture(tmp_path / "me.png")
    one, two = prepare(plain), prepare(EvalConfig(**{**vars(plain), "identity": picture}))
    assert one.pictures is None
    assert len(two.pictures.generated) == tiny_world.n
    assert one.protocols[0].differences(two.protocols[0]) == ["identity_reference: absent != picture"]
    with pytest.raises(UserError, match="no metric that follows an identity"):
        prepare(EvalConfig(**{**vars(plain), "identity": picture, "protocols": ("ma2d-fixed/1",)}))
    more = EvalConfig(
        **{**vars(plain), "identity": picture, "protocols": ("ma2d-fixed/1",), "metrics": ("identity_drift",)}
    )
    assert prepare(more).protocols[0].identity_reference == "picture"


def identity_of(tmp_path, found, *, lacking=None, outcome=None):
    plan = ClipPlan(tmp_path, None, {}, () if lacking else (SUBJECT,), lacking=lacking or {})
    failed = {found.sha256: outcome} if outcome else {}
    clip = Clip("a", tmp_path / "a.mp4", "")
    return Source(Store(tmp_path), plan, None, Extracted({}, {}, failed)).load(clip, None, found).identity


def test_why_a_clip_has_no_embedding(tmp_path, monkeypatch):
    from macebench.models.appearance.statistics import NetworkStatistic

    monkeypatch.setattr(NetworkStatistic, "ingredients", classmethod(lambda cls: {"weights_sha256": "test"}))
    picture = Picture(tmp_path / "a.png", "1" * 64)
    assert identity_of(tmp_path, Missing(SEVERAL)) == Missing(SEVERAL)
    assert identity_of(tmp_path, picture) == Missing("reference picture: not computed")
    assert identity_of(tmp_path, picture, outcome=Outcome("truncated file")) == Missing(
        "reference picture: truncated file"
    )
    assert identity_of(tmp_path, picture, lacking={SUBJECT: "weights missing"}) == Missing("weights missing")
    assert Pictures().of(Clip("a", tmp_path, ""), "generated") == Missing(NO_PICTURE)
