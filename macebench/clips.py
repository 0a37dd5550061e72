"""Finding clips: a folder of videos, or a data set folder with a manifest.

A data set folder has ``metadata.parquet`` with at least ``clip_id``, ``file_name`` and ``split`` (see
`macebench.demo.dataset`). ``DIR:SPLIT`` names one of its splits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from macebench.errors import UserError
from macebench.types import Clip

if TYPE_CHECKING:
    import pandas as pd

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".m4v")
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
METADATA_FILE = "metadata.parquet"
REFERENCE_SPLIT = "test"


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
    music: Path | None = None,
    default_split: str | None = None,
    other_than: str | None = None,
    limit: int | None = None,
    only: Collection[str] | None = None,
) -> ClipSet:
    """The clips of a folder.

    Args:
        spec: A folder, or ``DIR:SPLIT`` of a data set.
        music: Folder of sound files that replace the videos' own sound, matched by file name without suffix.
        default_split: Split taken when `spec` names none and the data set has it.
        other_than: Take every split but this one (the other half of a data set).
        limit: Only the first so many clips, in the order of their ids.
        only: Only clips with these ids; one without a file is a clip that cannot be read.

    Raises:
        UserError: no such folder or split, or no video in it.
    """
    folder, split = parse_spec(str(spec))
    if (folder / METADATA_FILE).is_file():
        files, name = _from_manifest(folder, split, default_split, other_than)
    elif split or other_than:
        raise UserError(f"{folder} is no data set: it has no {METADATA_FILE}, so no splits.",
                        hint="Name a folder of videos, or make a data set with `macebench demo`.")  # fmt: skip
    else:
        files, name = _from_folder(folder), folder.name
    if not files:
        raise UserError(f"{spec} holds no video.", hint=f"Videos end in {', '.join(VIDEO_SUFFIXES)}.")
    if only is not None:
        files = {clip_id: files.get(clip_id, folder / f"{clip_id}.mp4") for clip_id in only}
    ids = sorted(files)[:limit]
    return ClipSet(name, tuple(_clip(clip_id, files[clip_id], music) for clip_id in ids))


def parse_spec(spec: str) -> tuple[Path, str | None]:
    """Folder and split of ``DIR`` or ``DIR:SPLIT``. Raises `UserError` when the folder does not exist."""
    path, split = Path(spec), None
    if not path.exists() and ":" in spec:
        head, _, split = spec.rpartition(":")
        path = Path(head)
    if not path.is_dir():
        raise UserError(f"folder {path} does not exist.", hint="Give a folder of videos or a data set folder.")
    return path, split


def _from_manifest(
    folder: Path, split: str | None, default_split: str | None, other_than: str | None
) -> tuple[dict[str, Path], str]:
    table = _read_manifest(folder / METADATA_FILE)
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
        table = table[table["split"] != other_than]
    pairs = zip(table["clip_id"], table["file_name"], strict=True)
    files = {str(clip_id): inside(folder, str(name)) for clip_id, name in pairs}
    label = split or (f"without {other_than}" if other_than else "all")
    return files, f"{folder.name}:{label}"


def _read_manifest(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    columns = ["clip_id", "file_name", "split"]
    try:
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


def _from_folder(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in VIDEO_SUFFIXES or not path.is_file():
            continue
        relative = path.relative_to(folder)
        clip_id = relative.with_suffix("").as_posix()
        if clip_id in files:
            clip_id = relative.as_posix()
        files[clip_id] = path
    return files


def _clip(clip_id: str, path: Path, music: Path | None) -> Clip:
    from macebench.media import file_sha256

    sha256 = file_sha256(path) if path.is_file() else ""
    sound = find_music(music, clip_id) or find_music(music, path.stem) if music is not None else None
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
