import pandas as pd
import pytest

from macebench.clips import inside, load_set, set_hash
from macebench.errors import UserError


def folder_of(tmp_path, *names):
    folder = tmp_path / "videos"
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def data_set(tmp_path, rows):
    folder = folder_of(tmp_path, *[name for _, name, _ in rows if ".." not in name and not name.startswith("/")])
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=["clip_id", "file_name", "split"]).to_parquet(folder / "metadata.parquet")
    return folder


def test_a_folder_gives_its_videos_in_order(tmp_path):
    folder = folder_of(tmp_path, "b.mp4", "a.mov", "sub/c.mkv", "notes.txt")
    clips = load_set(folder).clips
    assert [clip.clip_id for clip in clips] == ["a", "b", "sub/c"]
    assert all(len(clip.sha256) == 64 for clip in clips)
    assert [clip.clip_id for clip in load_set(folder, limit=2).clips] == ["a", "b"]


def test_two_files_with_one_stem_keep_their_suffix(tmp_path):
    clips = load_set(folder_of(tmp_path, "a.mov", "a.mp4")).clips
    assert [clip.clip_id for clip in clips] == ["a", "a.mp4"]


def test_music_is_found_by_stem(tmp_path):
    folder = folder_of(tmp_path, "a.mp4", "b.mp4")
    music = tmp_path / "music"
    music.mkdir()
    (music / "a.wav").write_bytes(b"sound")
    one, two = load_set(folder, music=music).clips
    assert one.music == music / "a.wav"
    assert len(one.music_sha256) == 64
    assert two.music is None
    with pytest.raises(UserError, match="music folder"):
        load_set(folder, music=tmp_path / "none")


def test_splits_of_a_data_set(tmp_path):
    folder = data_set(tmp_path, [("x", "x.mp4", "train"), ("y", "y.mp4", "test"), ("z", "z.mp4", "val")])
    ids = lambda found: [clip.clip_id for clip in found.clips]  # noqa: E731
    assert ids(load_set(folder)) == ["x", "y", "z"]
    assert ids(load_set(folder, default_split="test")) == ["y"]
    assert ids(load_set(f"{folder}:train", default_split="test")) == ["x"]
    assert ids(load_set(folder, other_than="test")) == ["x"]  # z is in val, which is in neither half
    with pytest.raises(UserError, match="no split 'tets'") as caught:
        load_set(f"{folder}:tets")
    assert "test, train, val" in caught.value.hint


@pytest.mark.parametrize("name", ["../secret.mp4", "/etc/passwd"])
def test_a_manifest_cannot_leave_its_folder(tmp_path, name):
    folder = data_set(tmp_path, [("x", name, "test")])
    with pytest.raises(UserError, match="leaves the folder"):
        load_set(folder)


def test_a_link_in_a_manifest_cannot_leave_its_folder_but_a_folder_of_links_is_fine(tmp_path):
    (tmp_path / "elsewhere.mp4").write_bytes(b"x")
    folder = folder_of(tmp_path, "a.mp4")
    (folder / "b.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    assert [clip.clip_id for clip in load_set(folder).clips] == ["a", "b"]
    with pytest.raises(UserError, match="leaves the folder"):
        inside(folder, "b.mp4")


@pytest.mark.parametrize("clip_id", ["../../x", "/tmp/x", "a//b", "a\\b", "", "x" * 300, "a\nb"])
def test_a_hostile_clip_id_is_refused(tmp_path, clip_id):
    with pytest.raises(UserError, match="cannot be used as a file name"):
        load_set(data_set(tmp_path, [(clip_id, "x.mp4", "test")]))


def test_a_broken_manifest_names_the_file_and_the_problem(tmp_path):
    folder = data_set(tmp_path, [("x", "x.mp4", "test"), ("x", "y.mp4", "test")])
    with pytest.raises(UserError, match="occurs twice"):
        load_set(folder)
    pd.DataFrame({"clip_id": ["x"]}).to_parquet(folder / "metadata.parquet")
    with pytest.raises(UserError, match=r"metadata\.parquet cannot be read"):
        load_set(folder)
    (folder / "metadata.parquet").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"metadata\.parquet cannot be read"):
        load_set(folder)
    pd.DataFrame([("x", "x.mp4", None)], columns=["clip_id", "file_name", "split"]).to_parquet(
        folder / "metadata.parquet"
    )
    with pytest.raises(UserError, match="row 0 has no split"):
        load_set(folder)


def test_the_other_half_needs_the_split(tmp_path):
    folder = data_set(tmp_path, [("x", "x.mp4", "train"), ("y", "y.mp4", "val")])
    with pytest.raises(UserError, match="no split 'test'"):
        load_set(folder, other_than="test")


def test_val_is_the_other_half_when_there_is_nothing_else(tmp_path):
    folder = data_set(tmp_path, [("x", "x.mp4", "test"), ("y", "y.mp4", "val")])
    found = load_set(folder, other_than="test")
    assert [clip.clip_id for clip in found.clips] == ["y"]
    assert found.name.endswith(":val")


def test_empty_and_absent_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="holds no video"):
        load_set(folder_of(tmp_path, "notes.txt"))
    with pytest.raises(UserError, match="does not exist"):
        load_set(tmp_path / "none")
    with pytest.raises(UserError, match="no splits"):
        load_set(f"{folder_of(tmp_path, 'a.mp4')}:test")


def test_set_hash_depends_on_content_only(tmp_path):
    one = load_set(folder_of(tmp_path / "1", "a.mp4", "b.mp4")).clips
    assert set_hash(one) == set_hash(tuple(reversed(one)))
    assert set_hash(one) != set_hash(one[:1])


def test_motions_of_a_folder_with_music_beside_them_and_in_aist_names(tmp_path):
    folder = folder_of(tmp_path, "a.npz", "a.wav", "gBR_sBM_cAll_d04_mBR0_ch01.npy", "b.bvh", "c.mp4", "d.pkl")
    music = tmp_path / "music"
    music.mkdir()
    (music / "mBR0.wav").write_bytes(b"x")
    clips = {clip.clip_id: clip for clip in load_set(folder, kind="motion", music=music).clips}
    assert sorted(clips) == ["a", "b", "d", "gBR_sBM_cAll_d04_mBR0_ch01"]  # the pickle counts as unreadable
    assert clips["a"].music == folder / "a.wav"
    assert clips["b"].music is None
    assert clips["gBR_sBM_cAll_d04_mBR0_ch01"].music == music / "mBR0.wav"


def test_motions_of_a_data_set(tmp_path):
    folder = data_set(tmp_path, [("x", "x.mp4", "train"), ("y", "y.mp4", "test"), ("z", "z.mp4", "test")])
    with pytest.raises(UserError, match="holds no motion"):
        load_set(folder, kind="motion")
    (folder / "motions").mkdir()
    (folder / "motions" / "y.npz").write_bytes(b"y")
    (folder / "music").mkdir()
    (folder / "music" / "y.wav").write_bytes(b"y")
    y, z = load_set(f"{folder}:test", kind="motion").clips
    assert (y.path.name, y.music, z.sha256) == ("y.npz", folder / "music" / "y.wav", "")


def test_motions_named_in_the_manifest(tmp_path):
    folder = data_set(tmp_path, [("x", "x.mp4", "test")])
    table = pd.read_parquet(folder / "metadata.parquet").assign(motion_file_name=["3d/x.npy"])
    table.to_parquet(folder / "metadata.parquet")
    (folder / "3d").mkdir()
    (folder / "3d" / "x.npy").write_bytes(b"x")
    (clip,) = load_set(folder, kind="motion").clips
    assert clip.path == (folder / "3d" / "x.npy").resolve()
    table.assign(motion_file_name=["../x.npy"]).to_parquet(folder / "metadata.parquet")
    with pytest.raises(UserError, match="leaves the folder"):
        load_set(folder, kind="motion")


def test_a_folder_of_pickles_names_the_command_that_converts_them(tmp_path):
    with pytest.raises(UserError, match=r"macebench convert .*--trust-pickle"):
        load_set(folder_of(tmp_path, "a.pkl"), kind="motion")
