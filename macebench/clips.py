"""Finding clips: a folder of videos or motions, or a data set folder with a manifest.

A data set folder has ``metadata.parquet`` with at least ``clip_id``, ``file_name`` and ``split`` (see
`macebench.demo.dataset`). ``DIR:SPLIT`` names one of its splits. Clips that its opt-out list names
(`macebench.optout`) are left out, whatever is asked for. Its motions are the files named in the column
``motion_file_name`` where there is one, else ``motions/<clip_id>`` with the suffix of a motion.

A motion has no sound of its own. Its music is looked for in the music folder that was given, in the data set's
``music/`` and beside the motion, under the clip's id, the file's name, and the music's name inside AIST++ names
(``gBR_sBM_cAll_d04_mBR0_ch01``: ``mBR0``).

A folder of PNG pictures that says its frame rate counts as a video (`macebench.media.framefolder`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from macebench.errors import UserError
from macebench.motion import MOTION_SUFFIXES
from macebench.motion.files import PICKLE_SUFFIXES
from macebench.optout import HASH_COLUMNS, ID_COLUMNS, dataset_optout
from macebench.types import Clip

if TYPE_CHECKING:
    import pandas as pd

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".m4v")
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
METADATA_FILE = "metadata.parquet"
MOTION_COLUMN, MOTIONS_FOLDER, MUSIC_FOLDER = "motion_file_name", "motions", "music"
Kind = Literal["video", "motion"]
_SUFFIXES: dict[Kind, tuple[str, ...]] = {"video": VIDEO_SUFFIXES, "motion": MOTION_SUFFIXES}
_AIST_MUSIC = re.compile(r"_(m[A-Z]{2}\d)(?:_|$)")
REFERENCE_SPLIT, VALIDATION_SPLIT = "test", "val"


@dataclass(frozen=True)
class ClipSet:
    """Clips in the order of their ids.

    Attributes:
        name: For people: folder and split.
        clips: The clips.
    """

    name: str
    clips: tuple[Clip, ...]


def inside(root: Path, relative: str) -> Path:
    """`relative` below `root`, resolved.

    Raises:
        UserError: the path is absolute or leaves `root`, by ``..`` or by a link.
    """
    base = Path(root).resolve()
    path = (base / relative).resolve()
    if Path(relative).is_absolute() or not path.is_relative_to(base):
        raise UserError(f"{root}: the path {relative!r} leaves the folder.",
                        hint="Paths in a manifest are relative to its folder.")  # fmt: skip
    return path


def load_set(
    spec: str | Path,
    *,
    kind: Kind = "video",
    music: Path | None = None,
    default_split: str | None = None,
    other_than: str | None = None,
    limit: int | None = None,
    only: Collection[str] | None = None,
) -> ClipSet:
    """The clips of a folder.

    Args:
        spec: A folder, or ``DIR:SPLIT`` of a data set.
        kind: Whether its videos or its motions are meant.
        music: Folder of sound files that replace the videos' own sound, matched by file name without suffix.
        default_split: Split taken when `spec` names none and the data set has it.
        other_than: Take the rest of a data set beside this split. ``val``, kept for choices made on the way, is left
            out of it, unless there is nothing else.
        limit: Only the first so many clips, in the order of their ids.
        only: Only clips with these ids; one without a file is a clip that cannot be read.

    Raises:
        UserError: no such folder or split, or no such file in it.
    """
    folder, split = parse_spec(str(spec))
    if (folder / METADATA_FILE).is_file():
        files, name = _from_manifest(folder, split, default_split, other_than, kind)
    elif split or other_than:
        raise UserError(f"{folder} is no data set: it has no {METADATA_FILE}, so no splits.",
                        hint=f"Name a folder of {kind}s, or make a data set with `macebench demo`.")  # fmt: skip
    else:
        files, name = _from_folder(folder, _SUFFIXES[kind]), folder.name
        files |= _frame_folders(folder, files) if kind == "video" else {}
        # Beside motions, a pickle counts as one that cannot be read; a folder of nothing else is refused.
        if kind == "motion" and files:
            files = _from_folder(folder, (*MOTION_SUFFIXES, *PICKLE_SUFFIXES))
    if not files:
        raise UserError(f"{spec} holds no {kind}.", hint=_no_file_hint(folder, kind))
    if only is not None:
        suffix = ".mp4" if kind == "video" else ".npz"
        files = {clip_id: files.get(clip_id, folder / f"{clip_id}{suffix}") for clip_id in only}
    ids = sorted(files)[:limit]
    return ClipSet(name, tuple(_clip(clip_id, files[clip_id], _sound(kind, folder, music)) for clip_id in ids))


def _no_file_hint(folder: Path, kind: Kind) -> str:
    allowed = f"A {kind} ends in {', '.join(_SUFFIXES[kind])}."
    if kind == "video":
        allowed += ' A folder of PNG pictures counts when it has a frames.json such as {"fps": 16}.'
    if kind == "motion" and _from_folder(folder, PICKLE_SUFFIXES):
        return f"{allowed} `macebench convert {folder} --out DIR --trust-pickle` reads .pkl files."
    return allowed


@dataclass(frozen=True)
class _Sounds:
    """Where the sound of a clip is looked for: folders in order, and whether the clip's own folder is one."""

    folders: tuple[Path, ...]
    beside: bool


def _sound(kind: Kind, folder: Path, music: Path | None) -> _Sounds:
    own = folder / MUSIC_FOLDER
    given = (music,) if music is not None else ()
    return _Sounds((*given, own) if kind == "motion" and own.is_dir() else given, kind == "motion")


def parse_spec(spec: str) -> tuple[Path, str | None]:
    """Folder and split of ``DIR`` or ``DIR:SPLIT``. Raises `UserError` when there is no such folder."""
    path, split = Path(spec), None
    if not path.exists() and ":" in spec:
        head, _, split = spec.rpartition(":")
        path = Path(head)
    if not path.is_dir():
        what = f"{path} is a file; a folder is wanted." if path.is_file() else f"folder {path} does not exist."
        raise UserError(what, hint="Give a folder of clips, or a data set folder.")
    return path, split


def _from_manifest(
    folder: Path, split: str | None, default_split: str | None, other_than: str | None, kind: Kind
) -> tuple[dict[str, Path], str]:
    table = _without_opted_out(folder, _read_manifest(folder / METADATA_FILE))
    splits = sorted(set(table["split"]))
    if other_than is not None and other_than not in splits:
        raise UserError(
            f"{folder} has no split {other_than!r}, so there is no other half.",
            hint=f"Name the reference split: {folder}:SPLIT, of {', '.join(splits)}.",
        )
    if split is None and other_than is None and default_split in splits:
        split = default_split
    if split is not None:
        if split not in splits:
            raise UserError(f"{folder} has no split {split!r}.", hint=f"Its splits: {', '.join(splits)}.")
        table = table[table["split"] == split]
    if other_than is not None:
        table = table[table["split"].isin(_rest(splits, other_than))]
    if kind == "motion":
        files = _motions_of(folder, table)
    else:
        pairs = zip(table["clip_id"], table["file_name"], strict=True)
        files = {str(clip_id): inside(folder, str(name)) for clip_id, name in pairs}
    label = split or ("+".join(sorted(set(table["split"]))) if other_than else "all")
    return files, f"{folder.name}:{label}"


def _rest(splits: Sequence[str], split: str) -> list[str]:
    """The splits beside one, without ``val`` when there are others."""
    rest = [name for name in splits if name != split]
    return [name for name in rest if name != VALIDATION_SPLIT] or rest


def _without_opted_out(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The rows that the data set's opt-out list does not name."""
    optout = dataset_optout(folder)
    if not len(optout):
        return table
    import pyarrow.parquet as pq

    path = folder / METADATA_FILE
    columns = [name for name in pq.read_schema(path).names if name in {*ID_COLUMNS, *HASH_COLUMNS}]
    named = [optout.names_row(row) for row in pq.read_table(path, columns=columns).to_pylist()]
    return table[[not one for one in named]]


def _motions_of(folder: Path, table: pd.DataFrame) -> dict[str, Path]:
    """The motion file of each clip; the usual place when there is none, so that it counts as missing."""
    if MOTION_COLUMN in table:
        pairs = zip(table["clip_id"], table[MOTION_COLUMN], strict=True)
        return {str(clip_id): inside(folder, str(name)) for clip_id, name in pairs}
    if not (folder / MOTIONS_FOLDER).is_dir():
        return {}
    files = {}
    for clip_id in map(str, table["clip_id"]):
        places = [inside(folder, f"{MOTIONS_FOLDER}/{clip_id}{suffix}") for suffix in MOTION_SUFFIXES]
        files[clip_id] = next((path for path in places if path.is_file()), places[0])
    return files


def _read_manifest(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["clip_id", "file_name", "split"]
    try:
        extra = [MOTION_COLUMN] if MOTION_COLUMN in pq.read_schema(path).names else []
        columns += extra
        table = pd.read_parquet(path, columns=columns)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        text = str(error).splitlines()[0][:200]
        raise UserError(f"{path} cannot be read: {text}", hint=f"It needs the columns {', '.join(columns)}.") from error
    for column in columns:
        empty = table[column].isna()
        if empty.any():
            raise UserError(f"{path}: row {int(empty.to_numpy().argmax())} has no {column}.")
    table = table.astype(str)
    twice = table["clip_id"][table["clip_id"].duplicated()]
    if len(twice):
        raise UserError(f"{path}: the clip id {twice.iloc[0]!r} occurs twice.")
    return table


def _from_folder(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or not path.is_file():
            continue
        relative = path.relative_to(folder)
        clip_id = relative.with_suffix("").as_posix()
        if clip_id in files:
            clip_id = relative.as_posix()
        files[clip_id] = path
    return files


def _frame_folders(folder: Path, taken: Collection[str]) -> dict[str, Path]:
    """Folders of PNG pictures that say their frame rate (`macebench.media.framefolder`), `folder` itself included."""
    from macebench.media import find_frame_folders

    found: dict[str, Path] = {}
    for item in find_frame_folders(folder):
        relative = item.path.relative_to(folder).as_posix()
        clip_id = folder.resolve().name if relative == "." else relative
        found[f"{clip_id}/frames" if clip_id in taken else clip_id] = item.path
    return found


def _content(path: Path) -> str:
    """Hash of a file, or of a folder of pictures; empty for what is not there."""
    from macebench.media import file_sha256, frame_folder

    if path.is_dir():
        pictures = frame_folder(path)
        return pictures.sha256 if pictures is not None else ""
    return file_sha256(path) if path.is_file() else ""


def _clip(clip_id: str, path: Path, sounds: _Sounds) -> Clip:
    from macebench.media import file_sha256

    sha256 = _content(path)
    folders = (*sounds.folders, path.parent) if sounds.beside and path.parent.is_dir() else sounds.folders
    named = _AIST_MUSIC.search(path.stem) if sounds.beside else None
    stems = (clip_id, path.stem, *([named[1]] if named else []))
    found = (find_music(folder, stem) for folder in folders for stem in stems)
    sound = next((place for place in found if place is not None), None)
    if sound is None:
        return Clip(clip_id, path, sha256)
    return Clip(clip_id, path, sha256, sound, file_sha256(sound))


def find_music(folder: Path, stem: str) -> Path | None:
    """The sound file called `stem` in `folder`, or None.

    Raises:
        UserError: the folder does not exist.
    """
    if not Path(folder).is_dir():
        raise UserError(f"music folder {folder} does not exist.", hint="--music takes a folder of sound files.")
    candidates = [Path(folder) / f"{stem}{suffix}" for suffix in SOUND_SUFFIXES]
    return next((path for path in candidates if path.is_file()), None)


def set_hash(clips: Sequence[Clip]) -> str:
    """SHA-256 over the sorted hashes of the clips' files."""
    import hashlib

    lines = sorted(f"{clip.sha256} {clip.music_sha256}" for clip in clips)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
