import pytest
import yaml

from macebench.errors import UserError
from macebench.protocol import PoseBackend, Reference, load_protocol, parse_protocol, protocol_ids

BACKEND = PoseBackend(name="blazepose", model="full", weights_sha256="0" * 64, input_size=(256, 256))

# A number that changes needs a new version, never an edit: these hashes are frozen with their versions.
FROZEN = {
    "aist-bailando/1": "e28552fc4d59",
    "animation/1": "2eb545cad3ba",
    "finedance-lodge/1": "ada630141851",
    "ma2d-fixed/1": "3d73845a5af6",
    "ma2d-paper/1": "ce387cfd8e19",
    "mace3d-released/1": "cd748c32bf28",
    "megadance-eval/1": "47a7a715efdf",
    "motion3d-fixed/1": "0db371af7cfc",
    "vbench6-fast/1": "740726be0c5a",
    "vbench6-fixed/1": "d91516e28645",
    "vbench6/1": "bab471e0dbd2",
    "video-referee/1": "ccabbb2e99f3",
}


def changed(**fields):
    base = load_protocol("ma2d-fixed/1").model_dump(mode="json")
    return parse_protocol(yaml.safe_dump({**base, **fields}), "test")


@pytest.mark.parametrize("name", protocol_ids())
def test_built_in_protocols_load_and_their_hash_is_frozen(name):
    protocol = load_protocol(name)
    assert protocol.id == name
    assert protocol.hash == FROZEN[name], "a published protocol was edited: make a new version instead"
    assert protocol.known_defects
    assert protocol.source


def test_prose_does_not_change_the_hash_but_rules_do():
    base = load_protocol("ma2d-fixed/1")
    assert changed(title="other", description="other", known_defects=[]).hash == base.hash
    assert changed(sampling={"fps": 30.0}).hash != base.hash
    assert changed(version=2).hash != base.hash


def test_back_end_and_reference_are_part_of_the_hash_but_the_folder_name_is_not():
    base = load_protocol("ma2d-fixed/1")
    one = base.resolve(BACKEND, Reference(name="a", sha256="1" * 64, n=3))
    renamed = base.resolve(BACKEND, Reference(name="b", sha256="1" * 64, n=3))
    other_set = base.resolve(BACKEND, Reference(name="a", sha256="2" * 64, n=3))
    other_weights = base.resolve(BACKEND.model_copy(update={"weights_sha256": "f" * 64}), one.reference)
    assert one.hash == renamed.hash
    assert len({base.hash, one.hash, other_set.hash, other_weights.hash}) == 4
    assert one.differences(other_weights) == [f"pose_backend.weights_sha256: {'0' * 64} != {'f' * 64}"]


def test_networks_of_the_frames_are_part_of_the_hash_and_their_absence_changes_none():
    base = load_protocol("vbench6/1")
    reference = Reference(name="a", sha256="1" * 64, n=3)
    plain = base.resolve(None, reference)
    assert base.resolve(None, reference, {}).hash == plain.hash
    one = base.resolve(None, reference, {"dino_b16": {"weights_sha256": "0" * 64, "dtype": "float32"}})
    two = base.resolve(None, reference, {"dino_b16": {"weights_sha256": "0" * 64, "dtype": "bfloat16"}})
    assert one.differences(two) == ["frame_statistics.dino_b16.dtype: float32 != bfloat16"]
    assert len({plain.hash, one.hash, two.hash}) == 3


def test_a_grid_is_part_of_the_hash_and_says_what_is_seen():
    exact, fast = load_protocol("vbench6/1"), load_protocol("vbench6-fast/1")
    assert exact.metrics == fast.metrics
    assert any(line.startswith("frames_grid.dino_b16.per_s: absent != 4") for line in exact.differences(fast))
    assert fast.seen("dino_b16") == "dino_b16@4/s,2,first"
    assert fast.seen("frame_difference") == "frame_difference"
    assert exact.seen("dino_b16") == "dino_b16"
    denser = {**fast.model_dump(mode="json"), "frames_grid": {"musiq": {"per_s": 4}}}
    assert parse_protocol(yaml.safe_dump(denser), "test").hash != fast.hash


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"dino_b16": {"per_s": 2}}, "dino_b16 needs frames: 2, first: true"),
        ({"amt_s": {"per_s": 2, "frames": 2}}, "amt_s needs frames: 3"),
        ({"frame_difference": {"per_s": 2}}, "frames_grid.frame_difference"),
        ({"musiq": {"per_s": 0}}, "frames_grid.musiq.per_s"),
    ],
)
def test_a_grid_that_no_formula_fits_is_refused(grid, words):
    base = load_protocol("vbench6-fast/1").model_dump(mode="json")
    with pytest.raises(UserError, match=words):
        parse_protocol(yaml.safe_dump({**base, "frames_grid": grid}), "test")


def test_newest_version_without_a_number_and_a_suggestion_for_a_typo():
    assert load_protocol("ma2d-fixed").id == "ma2d-fixed/1"
    with pytest.raises(UserError, match="Did you mean 'ma2d-fixed/1'"):
        load_protocol("ma2d-fixd/1")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sampling": {"fps": -1}}, "sampling.fps"),
        ({"surprise": 1}, "surprise"),
        ({"normaliser": {"mode": "both"}}, "normaliser.mode"),
    ],
)
def test_a_wrong_protocol_names_the_field(fields, words):
    with pytest.raises(UserError, match=words):
        changed(**fields)


def test_a_protocol_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(changed(name="mine").model_dump(mode="json")))
    assert load_protocol(str(file)).id == "mine/1"
    with pytest.raises(UserError, match="does not exist"):
        load_protocol(str(tmp_path / "none.yaml"))
    file.write_text("a: [")
    with pytest.raises(UserError, match="is not YAML"):
        load_protocol(str(file))


def test_a_missing_section_is_named():
    with pytest.raises(UserError, match="section 'beats'"):
        changed(beats=None).need_beats()
