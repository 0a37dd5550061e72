"""Writing media files with all the oddities of the wild, and broken ones; the same bytes for the same input.

`encode` is `macebench.media.write_video` with more words: timestamps that are not even, metadata that turns the
picture, pixels that are not square, other codecs and containers, sound that starts late or ends early.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.media import write_wav

_EXACT = ("-fflags", "+bitexact", "-map_metadata", "-1")
_WORDS = ("-hide_banner", "-loglevel", "error", "-nostdin", "-y")
_WAIT_S = 300.0
TEMPORARY = ".encode."
"""Names of folders of unfinished files begin with it."""
COMMENT = "synthetic: rendered by macebench demo"


@dataclass(frozen=True)
class Container:
    """How pictures and sound are put into a file.

    Attributes:
        video: Words for the video encoder.
        audio: Words for the sound encoder.
        sound_delay_s: The sound starts so much after the pictures.
        turned_deg: The pictures are stored turned, with metadata that turns them back: 0, 90, 180 or 270.
        faststart: The index of an MP4 file lies in front.
    """

    video: tuple[str, ...] = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-crf", "20")
    audio: tuple[str, ...] = ("-c:a", "aac", "-b:a", "160k")
    sound_delay_s: float = 0.0
    turned_deg: int = 0
    faststart: bool = True


def encode(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    rate: Fraction,
    sound: tuple[NDArray[np.float32], int] | None,
    container: Container | None = None,
) -> Path:
    """Write frames and sound.

    Args:
        path: The file; its suffix names the container.
        frames: (H, W, 3) RGB of one size, as they are to be seen.
        rate: Frames a second.
        sound: Samples (N,) or (N, channels), and samples a second.
        container: How; H.264 and AAC when None.

    Raises:
        UserError: no frames, or ffmpeg's complaint.
    """
    container = container or Container()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as folder:
        sound_file = None
        if sound is not None:
            sound_file = write_wav(Path(folder) / "sound.wav", *sound)
        straight = Path(folder) / f"straight{path.suffix}"
        _encode(straight, frames, rate, sound_file, container)
        if container.turned_deg:
            turned = Path(folder) / f"turned{path.suffix}"
            words = ["-display_rotation", str(container.turned_deg), "-i", str(straight), "-map", "0", "-c", "copy"]
            ffmpeg([*words, *_ending(path.suffix, container), str(turned)])
            straight = turned
        straight.replace(path)
    return path


def _encode(
    path: Path, frames: Iterable[NDArray[np.uint8]], rate: Fraction, sound: Path | None, how: Container
) -> None:
    pictures = (np.ascontiguousarray(np.rot90(frame, -how.turned_deg // 90)) for frame in frames)
    first = next(pictures, None)
    if first is None:
        raise UserError(f"{path}: there are no frames to write.")
    height, width = first.shape[:2]
    words = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    words += ["-r", f"{rate.numerator}/{rate.denominator}", "-i", "pipe:0"]
    if sound is not None:
        words += ["-itsoffset", f"{how.sound_delay_s:.6f}", "-i", str(sound), "-map", "1:a", *how.audio]
        words += ["-flags:a", "+bitexact"]
    words += ["-map", "0:v", *how.video, "-threads", "1", "-flags:v", "+bitexact"]
    words += ["-sws_flags", "bicubic+accurate_rnd+bitexact", *_ending(path.suffix, how), str(path)]
    ffmpeg(words, itertools.chain([first], pictures))


def _ending(suffix: str, how: Container) -> list[str]:
    words = [*_EXACT, "-metadata", f"comment={COMMENT}"]
    if suffix in (".mp4", ".mov") and how.faststart:
        words += ["-movflags", "+faststart"]
    return words


def ffmpeg(words: Sequence[str], frames: Iterable[NDArray[np.uint8]] = ()) -> None:
    """Run ffmpeg, feed it raw frames. Raises `UserError` with its words when it fails."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), *_WORDS, *words]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors) as process:
            try:
                if process.stdin is not None:
                    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                        for frame in frames:
                            pipe.write(frame.tobytes())
                code = process.wait(_WAIT_S)
            finally:
                process.kill()
        errors.seek(0)
        said = " ".join(errors.read(2000).decode("utf-8", "replace").split())
    if code != 0:
        raise UserError(f"ffmpeg ended with {code}. {said}".rstrip(), hint="Check the space on the disk.")


def cut_off(whole: Path, path: Path, share: float) -> Path:
    """Write the first `share` of the bytes of a file."""
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def huge_picture(path: Path, side: int = 8192) -> Path:
    """A file of a few kilobytes whose pictures have `side` x `side` pixels."""
    source = f"color=black:s={side}x{side}:d=0.2:r=5"
    words = ["-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    ffmpeg([*words, "-threads", "1", "-flags:v", "+bitexact", *_EXACT, str(path)])
    return path


def disguised_avi(path: Path) -> Path:
    """A container that is not on the list of those allowed, whatever the suffix says."""
    words = ["-f", "lavfi", "-i", "testsrc2=s=256x256:d=1:r=10", "-c:v", "mpeg4", "-threads", "1"]
    ffmpeg([*words, "-flags:v", "+bitexact", *_EXACT, "-f", "avi", str(path)])
    return path


def sound_only(path: Path, sound: NDArray[np.float32], rate: int) -> Path:
    """An MP4 file without pictures."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as folder:
        wav = write_wav(Path(folder) / "sound.wav", sound, rate)
        ffmpeg(["-i", str(wav), "-c:a", "aac", "-flags:a", "+bitexact", *_EXACT, str(path)])
    return path
