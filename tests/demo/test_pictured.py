from pathlib import Path

import numpy as np
import pytest

from macebench.demo.pictured import DAMAGES, build_pairs
from macebench.errors import UserError
from macebench.media import Decoder, write_video
from macebench.metrics.pixels import psnr
from macebench.types import Clip


@pytest.fixture
def clip(tmp_path):
    t, y, x = np.mgrid[:20, :64, :96]
    frames = np.repeat((128 + 100 * np.sin((x + 3 * t) / 3) * np.cos(y / 4)).astype(np.uint8)[..., None], 3, axis=3)
    return Clip("some/a", write_video(tmp_path / "a.mp4", frames, fps=24, crf=1), "0" * 64)


def read(path: Path):
    with Decoder() as decoder:
        assert decoder.probe(path).fps == 24
        return np.concatenate([batch.frames for batch in decoder.frames(path)])


def test_damages_are_known(clip, tmp_path):
    made = build_pairs([clip], tmp_path / "pairs", n_frames=12)
    assert set(made) == {"reference", *DAMAGES}
    first = read(clip.path)[:12]
    away = {name: float(psnr(first, read(folder / "some/a.mp4")).mean()) for name, folder in made.items()}
    assert away["reference"] > 38
    assert all(away[name] < away["reference"] - 8 for name in DAMAGES)


def test_a_clip_that_is_too_short(clip, tmp_path):
    with pytest.raises(UserError, match="fewer than 21 frames"):
        build_pairs([clip], tmp_path / "pairs", n_frames=21)
