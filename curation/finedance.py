"""FineDance's folders: songs, labels, genres and official splits.

Layout of a download (211 public songs, numbers 001 to 211, 30 frames a second)::

    label_json/001.json   "style1" (Folk, Classic, Mix, Street), "style2" (the genre), "name" (the song's)
    motion/001.npy        (T, 315): translation 3, then 52 joints x 6-D; or (T, 319) with 4 contacts in front
    music_wav/001.wav
    music_npy/001.npy     music features; not used here

FineDance is for non-commercial research. It is not part of macebench and nothing of it is: the user downloads it and
agrees to its terms; clips made of it are under them too.

**Splits** (``FineDance_dataset.py`` in li-ronghui/FineDance and in li-ronghui/LODGE).
``cross_genre`` has 20 test songs and no validation songs; ``cross_dancer`` has 18 test and 12 validation songs.

**Ignored songs.** Both repositories leave out 116 to 123 and 202; FineDance's also 130, and under ``cross_dancer`` 159.
Some ignored songs stand in test or validation lists too, and are left out there: of 20 ``cross_genre`` test songs, 120
(both) and 130 (FineDance) go, which leaves 18 with ``finedance`` and 19 with ``lodge``. Of ``cross_dancer``'s 18 test
songs 17 stay with ``finedance``; FineDance's code takes its 12 validation songs as they are, Lodge's list takes 117,
119, 121 and 122 out of them. `effective_counts` computes these numbers.

**Intros.** Lodge cuts the still start of some songs (`INTRO_S`), and three frames of 010 and 014.

**Genres.** Lodge's code knows 20 spellings of 16 genres; `canonical_genre` merges them as it does (Tai is Dai, Uighur
is Wei, Hmong is Miao, jazz is Jazz). A spelling that is not known is kept as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from macebench.curation.motion_sources import ORIGINAL, UNKNOWN, MotionSource, check_pairing
from macebench.errors import UserError

FPS = 30.0
N_SONGS = 211
LICENCE = "FineDance: non-commercial research"
SPLITS = ("cross_genre", "cross_dancer")
IGNORE_LISTS = ("finedance", "lodge", "none")
GENRES = (
    "Breaking", "Popping", "Locking", "Hiphop", "Urban", "Jazz", "Dai", "Wei", "Miao", "HanTang", "ShenYun", "Kun",
    "DunHuang", "Korean", "Choreography", "Chinese",
)  # fmt: skip
_SPELLINGS = {"tai": "Dai", "uighur": "Wei", "hmong": "Miao"} | {name.lower(): name for name in GENRES}
INTRO_S: Mapping[str, float] = {
    "004": 8.0, "005": 10.0, "067": 6.0, "105": 19.0, "110": 14.0, "113": 29.0, "153": 52.0, "211": 22.0,
    "010": 3 / FPS, "014": 3 / FPS,
}  # fmt: skip
"""Seconds that Lodge's preprocessing cuts from the start of a song."""
FOLDERS = {"label": "label_json", "motion": "motion", "music": "music_wav"}
_SUFFIXES = {"label": (".json",), "motion": (".npy",), "music": (".wav", ".flac", ".mp3", ".ogg")}
_NUMBER = re.compile(r"\d{3}")
_MAX_LABEL_BYTES = 1 << 20


def _songs(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TEST = {
    "cross_genre": _songs("063 132 143 036 098 198 130 012 211 193 179 065 137 161 092 120 037 109 204 144"),
    "cross_dancer": _songs("001 002 003 004 005 006 007 008 009 010 011 012 013 124 126 128 130 132"),
}
_VAL = {
    "cross_genre": frozenset[str](),
    "cross_dancer": _songs("115 117 119 121 122 135 137 139 141 143 145 147"),
}
_LODGE_IGNORE = _songs("116 117 118 119 120 121 122 123 202")


def ignored(split: str, ignore: str) -> frozenset[str]:
    """The songs that a published ignore list leaves out.

    Args:
        split: ``cross_genre`` or ``cross_dancer``.
        ignore: ``finedance``, ``lodge`` or ``none``.

    Raises:
        UserError: an unknown name.
    """
    _check(split, ignore)
    if ignore == "none":
        return frozenset()
    if ignore == "lodge":
        return _LODGE_IGNORE
    songs = _LODGE_IGNORE | {"130"}
    # under cross_dancer FineDance's code names 116, 118, 120, 123, 130, 159 and 202: its validation songs stay
    return songs if split == "cross_genre" else (songs - _VAL[split]) | {"159"}


def official_split(song: str, split: str) -> str:
    """``train``, ``val`` or ``test`` of a song, ignored or not. Raises `UserError` on an unknown split."""
    _check(split, "none")
    if song in _TEST[split]:
        return "test"
    return "val" if song in _VAL[split] else "train"


def effective_counts(split: str, ignore: str) -> dict[str, int]:
    """How many of the 211 songs are left in each split when the ignored ones are taken out."""
    out = ignored(split, ignore)
    songs = [f"{number:03d}" for number in range(1, N_SONGS + 1)]
    kept = [official_split(song, split) for song in songs if song not in out]
    return {name: kept.count(name) for name in ("train", "val", "test")}


def canonical_genre(spelling: str) -> str:
    """One of `GENRES` for a label's spelling; an unknown one as it is, an empty one ``unknown``."""
    text = spelling.strip()
    return _SPELLINGS.get(text.lower(), text) or UNKNOWN


def finedance_sources(
    root: str | Path,
    *,
    split: str = "cross_genre",
    ignore: str = "finedance",
    cut_intros: bool = True,
    pairing: str = ORIGINAL,
) -> Iterator[MotionSource]:
    """Every song of a FineDance folder, in the order of the numbers.

    A song that lacks something, or that is ignored, comes with the reason in `MotionSource.refused`: ``no motion``,
    ``no music``, ``no label``, ``label not usable``, ``on the ignore list``.

    Args:
        root: The folder with ``motion``, ``music_wav`` and ``label_json``.
        split: Which official split the songs get: ``cross_genre`` or ``cross_dancer``.
        ignore: Whose ignore list: ``finedance``, ``lodge`` or ``none``.
        cut_intros: Whether to leave out the starts in `INTRO_S`.
        pairing: What is written of music and dance; FineDance's were recorded together.

    Raises:
        UserError: no such folder, or not laid out so; an unknown name.
    """
    _check(split, ignore)
    check_pairing(pairing)
    base = Path(root)
    if not (base / FOLDERS["motion"]).is_dir():
        raise UserError(
            f"{root} is no FineDance folder: it has no folder {FOLDERS['motion']}.",
            hint=f"Give the folder that holds {', '.join(FOLDERS.values())}, as FineDance is downloaded.",
        )
    files = {part: _files(base / folder, _SUFFIXES[part]) for part, folder in FOLDERS.items()}
    songs = sorted(set().union(*files.values()))
    if not songs:
        raise UserError(f"{root} holds no song.", hint="Files are named by numbers of three digits, such as 001.npy.")
    out = ignored(split, ignore)
    return (_source(song, files, split, song in out, cut_intros, pairing) for song in songs)


def _check(split: str, ignore: str) -> None:
    if split not in SPLITS:
        raise UserError(f"FineDance has no split {split!r}.", hint=f"Its splits are {' and '.join(SPLITS)}.")
    if ignore not in IGNORE_LISTS:
        raise UserError(f"there is no ignore list {ignore!r}.", hint=f"Allowed are {', '.join(IGNORE_LISTS)}.")


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Song number -> its file. Mirrored motions (``M001``) and other names are passed over."""
    if not folder.is_dir():
        return {}
    found = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes)
    return {path.stem: path for path in found if _NUMBER.fullmatch(path.stem)}


def _source(
    song: str, files: Mapping[str, Mapping[str, Path]], split: str, is_ignored: bool, cut: bool, pairing: str
) -> MotionSource:
    missing = next((f"no {part}" for part in ("motion", "music", "label") if song not in files[part]), "")
    label = None if missing else _label(files["label"][song])
    refused = "on the ignore list" if is_ignored else missing or ("label not usable" if label is None else "")
    raw, style, title = label or ("", "", "")
    motion = files["motion"].get(song)
    return MotionSource(
        song, motion if motion is not None else Path(f"{song}.npy"), files["music"].get(song),
        start_s=INTRO_S.get(song, 0.0) if cut else 0.0, genre=canonical_genre(raw), genre_raw=raw, style=style,
        title=title, music_id=f"finedance-{song}", split=official_split(song, split), pairing=pairing, licence=LICENCE,
        collection="finedance", refused=refused,
    )  # fmt: skip


def _label(path: Path) -> tuple[str, str, str] | None:
    """(genre as spelt, style, title) of a label file; None when it cannot be used."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_LABEL_BYTES + 1)
        values = json.loads(data.decode("utf-8-sig")) if len(data) <= _MAX_LABEL_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("style2"), str) or not values["style2"].strip():
        return None
    style = values.get("style1")
    titles = (values.get(key) for key in ("name", "songname", "song_name", "song name"))
    title = next((text for text in titles if isinstance(text, str)), "")
    return values["style2"].strip(), style.strip()[:200] if isinstance(style, str) else "", title[:200]
