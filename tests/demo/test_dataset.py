"""The demo data set, end to end on two tiny clips."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from macebench import registry
from macebench.clips import load_set
from macebench.demo import dataset
from macebench.demo.dataset import DemoConfig, build_demo_dataset, plan_clips
from macebench.errors import UserError

TINY = {"n_clips": 2, "seconds": 1.0, "size": 128, "fps": 15.0}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_demo_dataset(tmp_path_factory.mktemp("demo") / "set", **TINY)


def test_the_folder_holds_what_the_manifest_says(tiny):
    table = pd.read_parquet(tiny / "metadata.parquet")
    assert list(table["clip_id"]) == ["demo-test-0000", "demo-train-0000"]
    assert sorted(table["split"]) == ["test", "train"]
    for row in table.itertuples():
        video = tiny / row.file_name
        assert hashlib.sha256(video.read_bytes()).hexdigest() == row.sha256
        assert hashlib.sha256((tiny / "music" / f"{row.clip_id}.wav").read_bytes()).hexdigest() == row.music_sha256
        assert (row.n_frames, row.width, row.height, row.fps) == (15, 128, 128, 15.0)
        assert (row.start_s, row.end_s, row.pairing, row.licence) == (0.0, 1.0, "synthetic", "CC0-1.0")
        assert np.all((np.asarray(row.beat_times_s) >= 0) & (np.asarray(row.beat_times_s) < 1.0))
        with np.load(tiny / "motions" / f"{row.clip_id}.npz", allow_pickle=False) as motion:
            assert {name: motion[name].shape for name in motion.files} == {
                "fps": (), "joints": (15, 24, 3), "rotations": (15, 24, 3), "root": (15, 3),
            }  # fmt: skip
    assert table["music_sha256"].is_unique
    summary = json.loads((tiny / "dataset.json").read_text())
    expected = hashlib.sha256("\n".join(sorted(table["sha256"])).encode()).hexdigest()
    assert (summary["name"], summary["hash"], summary["n_clips"]) == ("demo", expected, 2)
    assert "CC0-1.0" in (tiny / "DATASHEET.md").read_text()
    assert [len(load_set(f"{tiny}:{split}").clips) for split in ("train", "test")] == [1, 1]


def test_the_videos_can_be_read_with_their_sound(tiny):
    import av

    with av.open(str(tiny / "clips" / "test" / "demo-test-0000.mp4")) as container:
        assert container.streams.audio
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 15
    assert frames[0].shape == (128, 128, 3)
    assert np.abs(frames[0].astype(int) - frames[7].astype(int)).mean() > 0.3, "the dancer moves"


def test_same_settings_same_bytes(tiny, tmp_path):
    again = build_demo_dataset(tmp_path / "again", **TINY)
    assert digests(again) == digests(tiny)


@pytest.mark.slow
def test_the_number_of_workers_does_not_matter(tiny, tmp_path):
    assert digests(build_demo_dataset(tmp_path / "two", **TINY, workers=2)) == digests(tiny)


def test_an_interrupted_build_is_finished(tiny, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise Killed

    with pytest.raises(Killed):
        build_demo_dataset(tmp_path / "set", **TINY, progress=stop)
    assert not (tmp_path / "set" / "metadata.parquet").exists()
    built, original = [], dataset.build_clip
    monkeypatch.setattr(
        dataset, "build_clip", lambda out, clip, config: built.append(clip.clip_id) or original(out, clip, config)
    )
    seen = []
    build_demo_dataset(tmp_path / "set", **TINY, progress=lambda done, total: seen.append((done, total)))
    assert built == ["demo-train-0000"]
    assert seen == [(1, 2), (2, 2)]
    assert digests(tmp_path / "set") == digests(tiny)


def test_a_damaged_clip_is_made_again(tiny, tmp_path):
    folder = build_demo_dataset(tmp_path / "set", **TINY)
    (folder / "clips" / "test" / "demo-test-0000.mp4").write_bytes(b"cut off")
    (folder / ".parts" / "demo-train-0000.json").write_text("{")
    build_demo_dataset(folder, **TINY)
    assert digests(folder) == digests(tiny)


def test_other_settings_do_not_mix(tiny, tmp_path):
    with pytest.raises(UserError, match="other settings"):
        build_demo_dataset(tiny, **{**TINY, "size": 64})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        build_demo_dataset(tmp_path / "mine", **TINY)


@pytest.mark.parametrize(
    "bad", [{"n_clips": 1}, {"size": 127}, {"size": 2}, {"seconds": 0.2}, {"fps": 0.0}, {"seed": -1}]
)
def test_bad_settings(bad, tmp_path):
    with pytest.raises(UserError):
        build_demo_dataset(tmp_path / "x", **{**TINY, **bad})
    assert not (tmp_path / "x").exists()


def test_both_halves_have_the_same_genres_and_no_common_seed():
    clips = plan_clips(DemoConfig(n_clips=24))
    halves = [[clip for clip in clips if clip.split == split] for split in ("train", "test")]
    assert sorted(clip.genre for clip in halves[0]) == sorted(clip.genre for clip in halves[1])
    assert len({clip.seed for clip in clips}) == 24
    more = {clip.clip_id: clip for clip in plan_clips(DemoConfig(n_clips=32))}
    assert all(more[clip.clip_id] == clip for clip in clips), "a larger set holds the smaller one"


def test_it_is_registered():
    assert registry.get("datasets", "demo") is build_demo_dataset
