"""Sizes and choices: presets, genres, and what is refused."""

import pydantic
import pytest

from macebench.errors import UserError
from macebench.models.motion_expert.config import PRESETS, RELEASED_GENRES, UNKNOWN_GENRE, MotionExpertConfig, preset


def test_presets_by_name():
    assert {"paper", "released", "small", "tiny"} <= set(PRESETS)
    assert preset("released").genres == RELEASED_GENRES
    assert len(RELEASED_GENRES) == 16
    assert preset("paper") == preset("released").revised(genres=())
    with pytest.raises(UserError, match=r"unknown preset 'huge'(.|\n)*released"):
        preset("huge")


def test_a_genre_is_found_whatever_its_capitals():
    config = PRESETS["released"]
    assert [config.genre_index(name) for name in RELEASED_GENRES] == list(range(16))
    assert config.genre_index("hiphop") == 5


def test_an_unknown_genre_is_refused_with_a_guess():
    with pytest.raises(UserError, match="unknown genre 'hip-hop'") as caught:
        PRESETS["released"].genre_index("hip-hop")
    assert "Did you mean Hiphop?" in caught.value.hint
    assert "DunHuang" in caught.value.hint
    with pytest.raises(UserError) as caught:
        PRESETS["released"].genre_index("zzz")
    assert "Did you mean" not in caught.value.hint


def test_no_genre_is_the_mean_or_the_last():
    assert PRESETS["released"].genre_index(None) == UNKNOWN_GENRE
    assert PRESETS["small"].genre_index(None) == len(PRESETS["small"].genres) - 1
    assert PRESETS["small"].genre_index("any") == PRESETS["small"].genre_index(None)


def test_a_model_without_genres_takes_none():
    assert PRESETS["paper"].genre_index(None) == UNKNOWN_GENRE
    with pytest.raises(UserError, match="takes no genre"):
        PRESETS["paper"].genre_index("Jazz")


def test_other_genres_keep_the_unknown_one_last():
    assert PRESETS["small"].with_genres(("walk", "any", "pop")).genres == ("walk", "pop", "any")
    assert PRESETS["released"].with_genres(("walk", "pop")).genres == ("walk", "pop")


@pytest.mark.parametrize(
    "changes",
    [
        {"latent_dim": 100}, {"latent_dim": 63}, {"genres": ("a", "a")}, {"genres": (), "unknown_genre": "index"},
        {"mixer": "lstm"}, {"dropout": 1.0}, {"n_dance_layers": 10**6}, {"latent_dim": 10**9}, {"layers": 3},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(changes):
    with pytest.raises(pydantic.ValidationError):
        PRESETS["released"].revised(**changes)


def test_a_config_survives_json_and_cannot_be_changed():
    config = PRESETS["small"]
    assert MotionExpertConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(pydantic.ValidationError):
        config.latent_dim = 8
