"""Files of generated dances: whose they are, and what an interruption leaves."""

import json

import pytest

from macebench.dance_files import Job, finishing, is_there, need_room
from macebench.errors import UserError

RECIPE = {"model": "m", "code": "c", "seed": 1, "music": "h", "macebench": "1"}


@pytest.fixture
def job(tmp_path):
    music = tmp_path / "song.wav"
    music.write_bytes(b"sound")
    return Job("song", music, 1, {"npz": tmp_path / "out" / "song.npz"})


def test_what_was_made_is_there_until_the_recipe_changes(job):
    recipes = {"npz": RECIPE}
    assert not is_there(job, recipes)
    with finishing(job, recipes):
        job.targets["npz"].write_bytes(b"dance")
        assert not is_there(job, recipes), "not finished yet"
        assert json.loads(job.targets["npz"].with_suffix(".json").read_text())["unfinished"] is True
    assert is_there(job, recipes)
    assert not is_there(job, {"npz": {**RECIPE, "seed": 2}})
    need_room([job], job.targets["npz"].parent)


def test_a_failure_leaves_no_recipe_without_a_file(job):
    note = job.targets["npz"].with_suffix(".json")
    with pytest.raises(OSError, match="full"), finishing(job, {"npz": RECIPE}):
        raise OSError("full")
    assert not note.exists()
    job.targets["npz"].write_bytes(b"half")
    with pytest.raises(OSError, match="full"), finishing(job, {"npz": RECIPE}):
        raise OSError("full")
    assert not is_there(job, {"npz": RECIPE})
    need_room([job], job.targets["npz"].parent)


def test_music_is_known_under_another_name(job):
    """A hard link, and a folder that is named in another way."""
    out = job.targets["npz"].parent
    out.mkdir()
    need_room([job], out)
    (out / "song.wav").hardlink_to(job.music)
    out.joinpath("song.json").write_text(json.dumps(RECIPE))
    with pytest.raises(UserError, match=r"song\.wav is music that is danced to"):
        need_room([job], out)


@pytest.mark.parametrize("name", ["song.npz", "song.json", "song.wav"])
def test_a_file_of_somebody_else_is_in_the_way(job, name):
    out = job.targets["npz"].parent
    out.mkdir()
    (out / name).write_text("{}")
    with pytest.raises(UserError, match="was not made here"):
        need_room([job], out)


def test_a_file_in_the_place_of_a_folder(job, tmp_path):
    with pytest.raises(UserError, match=r"song\.wav is a file"):
        need_room([job], tmp_path / "song.wav" / "deeper")
    need_room([job], tmp_path / "new" / "deeper")
