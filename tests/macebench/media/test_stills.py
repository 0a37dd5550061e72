import json

import numpy as np
import pytest

from macebench.errors import MediaError
from macebench.media import Decoder, Limits

cv2 = pytest.importorskip("cv2")
Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")


def blocks(channels=3):
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 255, (6, 10, channels)), np.ones((16, 16, 1))).astype(np.uint8)


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as one:
        yield one


def shown(path):
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)


def write_exif(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(blocks()).save(path, quality=95, exif=exif)
    return path


def test_a_png_has_the_pixels_of_a_folder_of_pictures(tmp_path, decoder):
    cv2.imwrite(str(tmp_path / "a.png"), blocks()[..., ::-1])
    (tmp_path / "frames.json").write_text(json.dumps({"fps": 8}))
    folder = next(iter(decoder.frames(tmp_path))).frames[0]
    assert np.array_equal(decoder.picture(tmp_path / "a.png"), folder)
    assert np.array_equal(folder, blocks())


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_data_says(tmp_path, decoder, suffix, orientation):
    path = write_exif(tmp_path / f"a{suffix}", orientation)
    found = decoder.picture(path)
    assert found.shape == shown(path).shape
    assert np.abs(found - shown(path)).mean() < 6


def test_a_png_frame_with_exif_data_is_read_as_it_is_stored(tmp_path, decoder):
    write_exif(tmp_path / "a.png", 6)
    (tmp_path / "frames.json").write_text(json.dumps({"fps": 8}))
    assert np.array_equal(decoder.picture(tmp_path / "a.png"), blocks())
    assert np.array_equal(next(iter(decoder.frames(tmp_path))).frames[0], blocks())


@pytest.mark.parametrize(("mode", "suffix"), [("L", ".png"), ("P", ".png"), ("RGBA", ".png"), ("L", ".jpg"),
                                              ("CMYK", ".jpg"), ("RGBA", ".webp"), ("1", ".png")])  # fmt: skip
def test_other_kinds_of_colour(tmp_path, decoder, mode, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(blocks()).convert(mode).save(path)
    assert np.abs(decoder.picture(path) - shown(path)).mean() < 6


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_picture_one_can_look_through_is_refused(tmp_path, decoder, suffix):
    picture = np.concatenate([blocks(), np.full((96, 160, 1), 255, np.uint8)], axis=2)
    picture[:5, :5, 3] = 128
    Image.fromarray(picture).save(tmp_path / f"a{suffix}")
    with pytest.raises(MediaError, match="transparent picture"):
        decoder.picture(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_cut_file_is_no_picture(tmp_path, decoder, suffix, share):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(blocks()).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MediaError, match=r"truncated file|not a media file|empty file"):
        decoder.picture(path)


def test_what_is_no_picture(tmp_path, decoder):
    path = tmp_path / "a.png"
    for data, reason in ((b"", "empty file"), (b"GIF89a" + b"x" * 90, "not a media file")):
        path.write_bytes(data)
        with pytest.raises(MediaError, match=reason):
            decoder.picture(path)
    with pytest.raises(MediaError, match="file not found"):
        decoder.picture(tmp_path / "b.png")
    Image.fromarray(blocks()).save(path, "WEBP", save_all=True, append_images=[Image.fromarray(255 - blocks())])
    with pytest.raises(MediaError, match="not a media file"):
        decoder.picture(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_too_many_pixels(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(blocks()).save(path)
    with Decoder(Limits(max_pixels=1000)) as decoder, pytest.raises(MediaError, match="too many pixels"):
        decoder.picture(path)
