"""The demo's pictures: known damages of the picture itself, for the scores that compare frame with frame.

Of some clips of the reference half the first frames are written again: as they are (``reference``), strongly compressed
(``re-encoded``) and out of focus (``blurred``). The order of their PSNR and SSIM is known beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.types import Clip

if TYPE_CHECKING:
    from macebench.media import FrameBatch

N_CLIPS, N_FRAMES = 3, 16
DAMAGES = ("re-encoded", "blurred")
BLUR_PX = 3.0
_CRF = {"reference": 6, "re-encoded": 44, "blurred": 6}


def build_pairs(clips: Iterable[Clip], out: Path, n_frames: int = N_FRAMES) -> dict[str, Path]:
    """Write the first frames of each clip undamaged and under each damage.

    Args:
        clips: Videos.
        out: Folder; made anew clip by clip.
        n_frames: Frames of each video.

    Returns:
        Folder by name: ``reference`` and each of `DAMAGES`, with one ``<clip_id>.mp4`` a clip.

    Raises:
        UserError: a clip has fewer frames, or a file cannot be written.
        MediaError: a clip cannot be read.
    """
    from macebench.clips import inside
    from macebench.media import Decoder, write_video

    folders = {name: Path(out) / name for name in _CRF}
    with Decoder() as decoder:
        for clip in clips:
            fps = decoder.probe(clip.path).fps
            frames = _first(decoder.frames(clip.path, batch=n_frames), clip, n_frames)
            for name, folder in folders.items():
                shown = (_blurred(frame) for frame in frames) if name == "blurred" else iter(frames)
                target = inside(folder, f"{clip.clip_id}.mp4")
                target.parent.mkdir(parents=True, exist_ok=True)
                write_video(target, shown, fps=fps, crf=_CRF[name])
    return folders


def _first(batches: Iterator[FrameBatch], clip: Clip, count: int) -> NDArray[np.uint8]:
    parts: list[NDArray[np.uint8]] = []
    for batch in batches:
        parts.append(batch.frames)
        if sum(map(len, parts)) >= count:
            return np.concatenate(parts)[:count]
    raise UserError(f"{clip.path} has fewer than {count} frames.")


def _blurred(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.GaussianBlur(frame, (0, 0), BLUR_PX), dtype=np.uint8)
