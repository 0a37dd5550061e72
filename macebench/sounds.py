"""Music that is danced to: where it comes from, how long it is, and whether there is anything to hear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from macebench.clips import inside
from macebench.errors import MediaError
from macebench.motion import MOTION_SUFFIXES
from macebench.types import Clip

MIN_SECONDS = 0.5
"""Shortest music that is danced to."""
SILENT = "silent music: no beat can be followed"
_SILENCE = 1e-4


def music_of(clips: Sequence[Clip], folder: Path) -> dict[str, Path]:
    """The sound of each clip as a file: its music when given, else its own sound written to `folder`.

    Clips without sound are left out.
    """
    from macebench.media import Decoder, write_wav

    found: dict[str, Path] = {}
    with Decoder() as decoder:
        for clip in clips:
            target = sound_file(clip, folder)
            if clip.music is not None:
                found[clip.clip_id] = clip.music
            elif clip.path.suffix.lower() in MOTION_SUFFIXES:
                continue
            elif target.is_file():
                found[clip.clip_id] = target
            else:
                try:
                    sound = decoder.audio(clip.path, 44100)
                except MediaError:
                    continue
                write_wav(target, sound.samples, sound.sample_rate)
                found[clip.clip_id] = target
    return found


def sound_file(clip: Clip, folder: Path) -> Path:
    """Where `music_of` writes the sound of a video."""
    return inside(folder, f"{clip.clip_id}-{clip.sha256[:12]}.wav")


def length_s(music: Path) -> float:
    """Length of a sound in seconds.

    Raises:
        MediaError: it cannot be read, or is shorter than `MIN_SECONDS`.
    """
    from macebench.media import Decoder

    with Decoder() as decoder:
        seconds = sum(len(part.samples) / part.sample_rate for part in decoder.sound_parts(music))
    _need_length(music, seconds)
    return seconds


def listen(music: Path) -> str:
    """What is odd about a sound: `SILENT` when no sample reaches 1e-4 of full scale, else nothing.

    Reading stops where both its length and a sound are known to be enough.

    Raises:
        MediaError: it cannot be read, or is shorter than `MIN_SECONDS`.
    """
    from macebench.media import Decoder

    seconds, silent = 0.0, True
    with Decoder() as decoder:
        for part in decoder.sound_parts(music):
            seconds += len(part.samples) / part.sample_rate
            silent = silent and not np.any(np.abs(part.samples) > _SILENCE)
            if not silent and seconds >= MIN_SECONDS:
                return ""
    _need_length(music, seconds)
    return SILENT if silent else ""


def _need_length(music: Path, seconds: float) -> None:
    if seconds < MIN_SECONDS - 1e-6:
        raise MediaError("too short", f"{music.name} has {seconds:.2f} s of sound, at least {MIN_SECONDS} s are needed")
