"""Content-addressed store of intermediate results, and atomic writes.

An entry is found by the hash of its *ingredients*: stage name, stage version, hashes of the input
files and the settings. Nothing else decides whether work is done again, and `why` names the
ingredient that changed. An entry is one ``.npz`` file (no pickle) beside a ``.json`` file with its
ingredients; both are written to a temporary name, synced and renamed, so a killed process leaves
either a whole entry or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from macebench.errors import UserError
from macebench.protocol import canonical_json
from macebench.types import Array

_META = "__meta__"
_ZIP_END_BYTES = 22
_STALE_TEMPORARY_S = 3600.0


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success sync it and rename it to `path`.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _write_error(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_error(path: Path, error: OSError) -> UserError:
    hint = "Free some space, or choose another place; what was finished before is kept."
    return UserError(f"cannot write {path}: {error.strerror or error}.", hint=hint)


def ensure_writable(folder: Path) -> None:
    """Make `folder` and try to write in it.

    Raises:
        UserError: it cannot be made or written; said before hours of work, not after.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write in {folder}: {error.strerror or error}.", hint="Choose another folder."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays atomically; equal arrays give equal bytes."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})


@dataclass(frozen=True)
class Artifact:
    """What one stage made of one input: arrays and small JSON values."""

    arrays: Mapping[str, Array]
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Ingredients:
    """Everything that an artifact depends on.

    Attributes:
        stage: Name of the stage, such as ``pose``.
        version: Version of the stage's code; raised when its result changes.
        inputs: Name -> SHA-256 of each input file.
        settings: JSON values.
    """

    stage: str
    version: int
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        return {
            "stage": self.stage,
            "version": self.version,
            "inputs": dict(self.inputs),
            "settings": dict(self.settings),
        }

    @property
    def key(self) -> str:
        """SHA-256 of the ingredients (64 hex digits)."""
        return hashlib.sha256(canonical_json(self.as_dict()).encode()).hexdigest()


@dataclass(frozen=True)
class StoreReport:
    """Size of a store, or what `Store.collect` removed."""

    n_entries: int
    n_bytes: int


def default_store_path() -> Path:
    """``$MACEBENCH_STORE``, else ``macebench/store`` in the user's cache folder."""
    named = os.environ.get("MACEBENCH_STORE")
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(named) if named else Path(cache) / "macebench" / "store"


class Store:
    """See the module's docstring.

    Args:
        root: Folder of the store; made when the first entry is written.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = Path(root) if root is not None else default_store_path()

    def path(self, ingredients: Ingredients) -> Path:
        """Where the entry is or would be."""
        key = ingredients.key
        return self.root / ingredients.stage / key[:2] / f"{key}.npz"

    def has(self, ingredients: Ingredients) -> bool:
        """Whether the entry is there and whole, judged by the end of the file."""
        return _is_complete(self.path(ingredients))

    def get(self, ingredients: Ingredients) -> Artifact | None:
        """The entry, or None; a damaged entry is removed and counts as absent."""
        path = self.path(ingredients)
        try:
            found = _read_entry(path)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def put(self, ingredients: Ingredients, artifact: Artifact) -> None:
        """Write an entry; a second writer of the same entry does no harm."""
        path = self.path(ingredients)
        meta = np.frombuffer(json.dumps(dict(artifact.meta), sort_keys=True).encode(), dtype=np.uint8)
        write_text(path.with_suffix(".json"), canonical_json(ingredients.as_dict()))
        write_npz(path, {**artifact.arrays, _META: meta})

    def why(self, ingredients: Ingredients) -> list[str]:
        """Why the entry must be computed: the changes against the most similar one; empty when it is there."""
        if self.has(ingredients):
            return []
        wanted = ingredients.as_dict()
        others = [other for other in self._recipes(ingredients.stage) if _same_input(other, wanted)]
        if not others:
            return ["never computed for this file"]
        return min((_changes(other, wanted) for other in others), key=len)

    def _recipes(self, stage: str) -> Iterator[dict[str, Any]]:
        for path in sorted((self.root / stage).glob("*/*.json")):
            if path.with_suffix(".npz").is_file():
                with contextlib.suppress(OSError, ValueError):
                    yield json.loads(path.read_text("utf-8"))

    def metas(self, stage: str, limit: int = 200) -> list[Mapping[str, Any]]:
        """Meta values of up to `limit` entries of a stage; used to estimate costs."""
        found = []
        for path in sorted((self.root / stage).glob("*/*.npz"))[:limit]:
            with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                found.append(_read_entry(path).meta)
        return found

    def report(self) -> StoreReport:
        """Number of entries and bytes."""
        files = [path for path in self.root.glob("*/*/*") if path.is_file()]
        entries = sum(path.suffix == ".npz" for path in files)
        return StoreReport(entries, sum(path.stat().st_size for path in files))

    def collect(self, max_bytes: int) -> StoreReport:
        """Remove the entries used longest ago until at most `max_bytes` are left, and stale temporary files."""
        self._remove_stale()
        entries = sorted(self.root.glob("*/*/*.npz"), key=lambda path: (path.stat().st_mtime, path.name))
        total = self.report().n_bytes
        removed, freed = 0, 0
        for path in entries:
            if total - freed <= max_bytes:
                break
            for part in (path, path.with_suffix(".json")):
                freed += part.stat().st_size if part.is_file() else 0
                part.unlink(missing_ok=True)
            removed += 1
        return StoreReport(removed, freed)

    def forget(self, inputs: Collection[str], stage: str = "*") -> int:
        """Remove every entry that was made of one of these inputs, and return how many there were.

        Args:
            inputs: SHA-256 of input files.
            stage: Only of this stage; ``*`` for all.
        """
        count = 0
        for path in sorted(self.root.glob(f"{stage}/*/*.json")) if inputs else ():
            try:
                used = set(json.loads(path.read_text("utf-8"))["inputs"].values())
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                continue
            if not used.isdisjoint(inputs):
                path.with_suffix(".npz").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                count += 1
        return count

    def _remove_stale(self) -> None:
        for path in self.root.glob("*/*/.*.tmp"):
            if time.time() - path.stat().st_mtime > _STALE_TEMPORARY_S:
                path.unlink(missing_ok=True)


def _is_complete(path: Path) -> bool:
    """Whether a zip archive's end record is where it must be: cheap, and enough for files cut short."""
    try:
        with path.open("rb") as file:
            file.seek(-_ZIP_END_BYTES, os.SEEK_END)
            return file.read(4) == b"PK\x05\x06"
    except OSError:
        return False


def _read_entry(path: Path) -> Artifact:
    # numpy leaves a damaged archive open, so the file is opened here
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files if name != _META}
        return Artifact(arrays, json.loads(bytes(data[_META]).decode()))


def _same_input(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    mine, theirs = set(one["inputs"].values()), set(other["inputs"].values())
    return bool(mine & theirs)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    changes = [] if old["version"] == new["version"] else [f"version: {old['version']} -> {new['version']}"]
    for part in ("inputs", "settings"):
        names = sorted(old[part].keys() | new[part].keys())
        for name in names:
            before, after = old[part].get(name, "absent"), new[part].get(name, "absent")
            if before != after:
                changes.append(f"{part}.{name}: {before} -> {after}")
    return changes
