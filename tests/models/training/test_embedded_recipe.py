"""The recipe of the checkpoint in the package."""

from __future__ import annotations

from macebench.models.motion_expert.config import PRESETS
from macebench.models.training.embedded import configs


def test_both_parts_train_the_same_network_and_the_second_goes_on_with_the_first(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first, second = configs("dances", tmp_path, 1)
    assert first.network_config() == PRESETS["small"].revised(guidance="cfg")
    assert second.network_config() == PRESETS["small"].revised(guidance="gft")
    assert second.start_from == str(tmp_path / "model.safetensors")
    assert first.data == second.data == ("demo:600:20", "cmu:dances:60:8")
    assert first.hash != second.hash


def test_other_weights_to_begin_with_are_another_training(tmp_path):
    hashes = []
    for content in (b"one", b"two"):
        (tmp_path / "model.safetensors").write_bytes(content)
        hashes.append(configs("dances", tmp_path, 1)[1].hash)
    assert hashes[0] != hashes[1]
