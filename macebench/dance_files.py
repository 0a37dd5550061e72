"""The files that `macebench.generate` writes: what they are called, which of them are there, what must not be lost.

Beside each file lies its recipe, ``<name>.json``. While a file is made its recipe holds ``unfinished``: so a run that
was interrupted knows its own files again. A file without a recipe of ours is somebody else's and is not written over;
nor is any file of the music that is danced to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from macebench.errors import UserError
from macebench.protocol import canonical_json
from macebench.store import write_text

FORMATS: dict[str, str] = {"npz": ".npz", "aist": ".npz", "bvh": ".bvh", "mp4": ".mp4"}
"""Format -> suffix."""

_RECIPE = frozenset({"model", "code", "seed", "music", "macebench"})
_ELSEWHERE = "Choose another output folder, or move the file."


@dataclass(frozen=True)
class Job:
    """One piece: its music, its seed and the file of each format."""

    clip_id: str
    music: Path
    seed: int
    targets: Mapping[str, Path]


def need_room(jobs: Sequence[Job], out: Path) -> None:
    """Raise `UserError` for a file in a folder's place, and for files that would be lost."""
    above = next((path for path in (out, *out.absolute().parents) if path.exists()), out)
    if above.exists() and not above.is_dir():
        raise UserError(f"{out} cannot be a folder: {above} is a file.", hint="Choose another output folder.")
    sounds = {_identity(job.music): job.music for job in jobs}
    for job in jobs:
        for form, target in job.targets.items():
            written = _written(form, target, job.music)
            for path in written:
                if path.exists() and _identity(path) in sounds:
                    raise UserError(f"{path} is music that is danced to; it would be lost.", hint=_ELSEWHERE)
            foreign = [path for path in written if path.exists()]
            if foreign and not _is_ours(target.with_suffix(".json")):
                raise UserError(f"{foreign[0]} was not made here; it would be lost.", hint=_ELSEWHERE)


def _identity(path: Path) -> object:
    """What two names of one file have in common."""
    try:
        found = path.stat()
    except OSError:  # music that cannot be read is a matter of its piece
        return path.absolute()
    return found.st_dev, found.st_ino


def _written(form: str, target: Path, music: Path) -> list[Path]:
    """The files that one format of a piece writes."""
    copy = [target.with_suffix(music.suffix)] if form == "npz" else []
    return [target, target.with_suffix(".json"), *copy]


def _is_ours(note: Path) -> bool:
    """Whether a file is a recipe, finished or not."""
    try:
        content = json.loads(note.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and set(content) >= _RECIPE


def is_there(job: Job, recipes: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether every file of a piece is there and was made by its recipe."""
    for form, target in job.targets.items():
        note = target.with_suffix(".json")
        if not (target.is_file() and note.is_file()):
            return False
        if note.read_bytes() != canonical_json(recipes[form]).encode():
            return False
    return True


@contextmanager
def finishing(job: Job, recipes: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Write the recipes of a piece: as unfinished before the block, as they are behind it.

    When the block fails, recipes without a file are removed.
    """
    notes = {form: target.with_suffix(".json") for form, target in job.targets.items()}
    for form, note in notes.items():
        write_text(note, canonical_json({**recipes[form], "unfinished": True}))
    try:
        yield
        for form, note in notes.items():
            write_text(note, canonical_json(recipes[form]))
    finally:
        for form, note in notes.items():
            if not job.targets[form].exists():
                note.unlink(missing_ok=True)
