"""Which dances are rendered: motion files with their music.

A `MotionSource` is one recording of 3-D motion and what is known of it. `motion_sources` finds them in a folder of
motion files (`macebench.motion.MOTION_SUFFIXES`); `macebench.curation.finedance` reads FineDance's folders.

AIST++ and other pickled motions are converted first: ``macebench convert FOLDER --out DIR --trust-pickle``. A pickle
beside other motions is refused, so that none is lost silently.

**Pairing.** ``original``: music and dance were recorded together. ``synthetic``: we or someone else put them together
afterwards; a beat score on such a clip is a construction, not evidence. Music that is found by the name inside an
AIST++ name is original. Of music that merely has the motion's file name nothing is known: the caller says what it is,
and when nobody says, it is synthetic. With `assign`, motions without music of their name get a piece of the music
folder each, chosen by the hash of the motion file: synthetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from macebench.errors import UserError

ORIGINAL, SYNTHETIC = "original", "synthetic"
PAIRINGS = (ORIGINAL, SYNTHETIC)
UNKNOWN = "unknown"
PICKLED = "motion file not usable: pickle not allowed"
"""Why a pickle is refused."""


@dataclass(frozen=True)
class MotionSource:
    """One recording of 3-D motion with its music.

    Attributes:
        name: Unique among the sources: path below the folder without suffix, or FineDance's song number.
        motion: The motion file.
        music: The sound file, or None.
        start_s: Seconds to leave out at the start, of motion and music alike.
        genre: Canonical genre, or ``unknown``.
        genre_raw: The genre as the source spells it.
        style: A coarser class than the genre, as the source spells it.
        title: The music's title, where it is known.
        music_id: Which piece of music this is: equal for equal music.
        split: The official split, or empty.
        pairing: ``original`` or ``synthetic``.
        licence: Licence of the motion, or ``unknown``.
        collection: Where it comes from: ``finedance``, ``aist++`` or ``motion``.
        refused: Why it must not be rendered; empty when it may.
        fps: Frame rate for files that do not state one, or None.
    """

    name: str
    motion: Path
    music: Path | None = None
    start_s: float = 0.0
    genre: str = UNKNOWN
    genre_raw: str = ""
    style: str = ""
    title: str = ""
    music_id: str = ""
    split: str = ""
    pairing: str = SYNTHETIC
    licence: str = UNKNOWN
    collection: str = "motion"
    refused: str = ""
    fps: float | None = None


def motion_sources(
    folder: str | Path,
    music: str | Path | None = None,
    *,
    pairing: str | None = None,
    assign: bool = False,
    fps: float | None = None,
    licence: str = UNKNOWN,
) -> Iterator[MotionSource]:
    """The motion files below a folder, in the order of their names.

    Args:
        folder: Folder of motion files, or a data set folder with ``motions/`` (then ``DIR:SPLIT`` names a split).
        music: Folder of sound files; without it music is looked for beside the motions and in ``music/``.
        pairing: What music of the same name is; None: see the module.
        assign: Give motions without music a piece of the folder `music`.
        fps: Frame rate of files that do not state one.
        licence: Licence of the motions.

    Raises:
        UserError: no such folder, no motion in it (pickles must be converted first), `fps` is not above 0, or `pairing`
            is unknown.
    """
    check_pairing(pairing)
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"the frame rate of motions is {fps:g}.", hint="Give frames a second, above 0.")
    return _found(str(folder), None if music is None else Path(music), pairing, assign, fps, licence)


def check_pairing(pairing: str | None) -> None:
    """Raises `UserError` when it is not one of `PAIRINGS` or None."""
    if pairing is not None and pairing not in PAIRINGS:
        raise UserError(f"pairing is {pairing!r}.", hint=f"Allowed are {' and '.join(PAIRINGS)}.")


def _found(
    folder: str, music: Path | None, pairing: str | None, assign: bool, fps: float | None, licence: str
) -> Iterator[MotionSource]:
    from macebench.clips import SOUND_SUFFIXES, load_set
    from macebench.motion.files import PICKLE_SUFFIXES

    clips = load_set(folder, kind="motion", music=music).clips
    pieces: list[Path] = []
    if assign:
        if music is None:
            raise UserError("to assign music, a folder of music is needed.", hint="Give it with --music.")
        pieces = sorted(path for path in music.iterdir() if path.suffix.lower() in SOUND_SUFFIXES)
    for clip in clips:
        sound, by_name = clip.music, clip.music is not None
        if sound is None and pieces and clip.sha256:
            sound = pieces[int(clip.sha256[:12], 16) % len(pieces)]
        pickled = clip.path.suffix.lower() in PICKLE_SUFFIXES
        yield MotionSource(
            clip.clip_id, clip.path, sound, genre=_genre(clip.path.stem), genre_raw=_genre_raw(clip.path.stem),
            title=sound.stem if sound else "", music_id=sound.stem if sound else "",
            pairing=_pairing(clip.path, sound, by_name, pairing), licence=licence,
            collection="aist++" if _genre_raw(clip.path.stem) else "motion", fps=fps,
            refused=PICKLED if pickled else "" if sound else "no music",
        )  # fmt: skip


def _pairing(motion: Path, sound: Path | None, by_name: bool, said: str | None) -> str:
    if not by_name or sound is None:
        return SYNTHETIC
    aist = motion.stem != sound.stem and f"_{sound.stem}" in motion.stem
    return said or (ORIGINAL if aist else SYNTHETIC)


AIST_GENRES = {
    "gBR": "Breaking", "gPO": "Popping", "gLO": "Locking", "gMH": "Middle Hiphop", "gLH": "LA Hiphop", "gHO": "House",
    "gWA": "Waacking", "gKR": "Krump", "gJS": "Street Jazz", "gJB": "Ballet Jazz",
}  # fmt: skip
"""AIST++ code at the start of a name -> genre."""


def _genre_raw(stem: str) -> str:
    head = stem.split("_", 1)[0]
    return head if head in AIST_GENRES else ""


def _genre(stem: str) -> str:
    return AIST_GENRES.get(_genre_raw(stem), UNKNOWN)
