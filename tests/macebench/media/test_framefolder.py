import json
import os

import numpy as np
import pytest

from macebench.clips import load_set
from macebench.errors import MediaError, UserError
from macebench.media import Decoder, Limits, find_frame_folders, frame_folder, write_video

cv2 = pytest.importorskip("cv2")


def picture(value, height=20, width=30, channels=3, dtype=np.uint8):
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 3 + y * 2 + value * 9 + 40 * k) % 200 for k in range(channels)], axis=-1).astype(dtype)


def write(folder, frames, fps=16.0, name="frame_{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        stored = frame[..., [2, 1, 0, 3][: frame.shape[-1]]] if frame.shape[-1] > 1 else frame
        cv2.imwrite(str(folder / name.format(index)), stored)
    if fps is not None:
        (folder / "frames.json").write_text(json.dumps({"fps": fps}))
    return folder


def read(path, **how):
    with Decoder() as decoder:
        batches = list(decoder.frames(path, **how))
        return np.concatenate([item.frames for item in batches]), np.concatenate([item.times_s for item in batches])


def test_pictures_and_times(tmp_path):
    frames = [picture(value) for value in range(12)]
    found, times = read(write(tmp_path / "a", frames), batch=5)
    assert np.array_equal(found, frames)
    assert times.tolist() == [index / 16 for index in range(12)]


def test_probe_says_what_it_is(tmp_path):
    folder = write(tmp_path / "a", [picture(value) for value in range(8)])
    with Decoder() as decoder:
        info = decoder.probe(folder)
        assert (info.width, info.height, info.fps, info.duration_s) == (30, 20, 16.0, 0.5)
        assert (info.container, info.n_frames, info.has_audio, info.notes) == ("png", 8, False, ())
        with pytest.raises(MediaError, match="no sound"):
            decoder.audio(folder, 16000)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures(tmp_path, channels):
    frames = [picture(value, channels=channels) for value in range(3)]
    folder = write(tmp_path / "a", frames)
    expected = np.repeat(frames, 3, axis=-1) if channels == 1 else np.array(frames)[..., :3]
    assert np.array_equal(read(folder)[0], expected)
    with Decoder() as decoder:
        assert decoder.probe(folder).notes == (("transparency ignored",) if channels == 4 else ())


def test_sixteen_bits_become_eight(tmp_path):
    frames = [picture(value, dtype=np.uint16) * 257 for value in range(3)]
    assert np.abs(read(write(tmp_path / "a", frames))[0].astype(int) - np.array(frames) // 257).max() <= 1


def test_span_rate_and_size_are_as_for_videos(tmp_path):
    frames = [picture(value, 40, 60) for value in range(16)]
    folder = write(tmp_path / "a", frames)
    video = write_video(tmp_path / "a.mkv", frames, fps=16, crf=0)
    for how in ({"start_s": 0.25, "end_s": 0.5}, {"max_fps": 8}, {"max_side": 20}):
        mine, theirs = read(folder, **how), read(video, **how)
        assert mine[0].shape == theirs[0].shape
        assert np.allclose(mine[1], theirs[1], atol=1e-3)


def test_order_is_by_number(tmp_path):
    folder = write(tmp_path / "a", [picture(value) for value in range(11)], name="shot2_{}.png")
    assert [path.name for path in frame_folder(folder).files()] == [f"shot2_{index}.png" for index in range(11)]


def test_one_sidecar_speaks_for_the_folders_below_it(tmp_path):
    for name in ("x/one", "x/two", ".hidden"):
        write(tmp_path / name, [picture(0)], fps=None)
    (tmp_path / "frames.json").write_text('{"fps": 24}')
    write(tmp_path / "x/two/deep", [picture(0)], fps=12)
    found = {item.path.relative_to(tmp_path).as_posix(): item.fps for item in find_frame_folders(tmp_path)}
    assert found == {"x/one": 24.0, "x/two": 24.0, "x/two/deep": 12.0}
    assert frame_folder(tmp_path / "x/one").fps == 24.0


def test_without_a_rate_a_folder_is_no_clip(tmp_path):
    write(tmp_path / "a", [picture(0)], fps=None)
    assert find_frame_folders(tmp_path) == []
    with Decoder() as decoder, pytest.raises(MediaError, match="not a media file"):
        decoder.probe(tmp_path / "a")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fps": 0}', '{"fps": "16"}', '{"fps": true}', '{"fps": 1e9}'])
def test_a_sidecar_without_a_rate_is_refused(tmp_path, text):
    write(tmp_path / "a", [picture(0)])
    (tmp_path / "a" / "frames.json").write_text(text)
    with pytest.raises(UserError, match="how many pictures a second"):
        find_frame_folders(tmp_path)


def test_damage(tmp_path):
    folder = write(tmp_path / "a", [picture(value) for value in range(6)])
    (folder / "frame_4.png").write_bytes((folder / "frame_4.png").read_bytes()[:90])
    with Decoder() as decoder:
        batches = decoder.frames(folder, batch=2)
        assert len(next(batches)) == 2
        with pytest.raises(MediaError, match="truncated file"):
            list(batches)
        (folder / "frame_0.png").write_bytes(b"GIF89a" + bytes(100))
        with pytest.raises(MediaError, match="not a media file"):
            decoder.probe(folder)


def test_limits(tmp_path):
    folder = write(tmp_path / "a", [picture(value) for value in range(6)])
    for limits, reason in ((Limits(max_frames=5), "too long"), (Limits(max_pixels=500), "too many pixels")):
        with Decoder(limits) as decoder, pytest.raises(MediaError, match=reason):
            list(decoder.frames(folder))
    bomb = bytearray((folder / "frame_0.png").read_bytes())
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2
    (folder / "frame_0.png").write_bytes(bomb)
    with Decoder() as decoder, pytest.raises(MediaError, match="too many pixels"):
        decoder.probe(folder)


def test_in_a_set_of_clips(tmp_path):
    write(tmp_path / "b", [picture(0), picture(1)])
    write_video(tmp_path / "a.mp4", [picture(0), picture(1)], fps=16)
    clips = load_set(tmp_path).clips
    assert [clip.clip_id for clip in clips] == ["a", "b"]
    before = clips[1].sha256
    assert len(before) == 64
    os.rename(tmp_path / "b" / "frame_0.png", tmp_path / "b" / "frame_9.png")
    assert load_set(tmp_path).clips[1].sha256 != before
    assert [clip.clip_id for clip in load_set(tmp_path / "b").clips] == ["b"]


def test_a_folder_of_the_same_name_as_a_video_is_another_clip(tmp_path):
    write(tmp_path / "a", [picture(0), picture(1)])
    write_video(tmp_path / "a.mp4", [picture(0), picture(1)], fps=16)
    assert [clip.clip_id for clip in load_set(tmp_path).clips] == ["a", "a/frames"]
