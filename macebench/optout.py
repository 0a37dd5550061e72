"""The opt-out list: who does not want to be in a data set.

A list is a text file with one entry a line; what follows ``#`` is a comment:

- 64 hexadecimal digits: the SHA-256 of a source, clip or music file, or a salted id.
- ``salt TEXT``: the salt of the salted ids, once. A salted id is the SHA-256 of the salt, a colon and an id (a clip id,
  a source id, or the name of a source, a performer or a piece of music), so that the list names nobody.

A data set has its list in ``optout.txt``; `macebench.clips.load_set` leaves out what it names, whether the tables have
been cleaned yet or not (`macebench.curation.optout`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from macebench.errors import UserError

OPTOUT_FILE = "optout.txt"
ID_COLUMNS = ("clip_id", "source_id", "source_name", "performer", "music", "music_id")
HASH_COLUMNS = ("sha256", "source_id", "source_sha256", "music_sha256")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HINT = "A line has 64 hexadecimal digits, or `salt TEXT` for salted ids; # begins a comment."


@dataclass(frozen=True)
class OptOut:
    """An opt-out list.

    Attributes:
        digests: Entries, 64 lower-case hexadecimal digits each.
        salt: Salt of the salted ids; empty when there is none.
    """

    digests: frozenset[str] = field(default_factory=frozenset)
    salt: str = ""

    def __contains__(self, digest: object) -> bool:
        return digest in self.digests

    def __len__(self) -> int:
        return len(self.digests)

    def blocked(self, clip_sha256: str = "", source_sha256: str = "", *, ids: Iterable[str] = ()) -> bool:
        """Whether a clip is on the list, by the hash of its file, of its source, or by a salted id."""
        if clip_sha256.lower() in self.digests or source_sha256.lower() in self.digests:
            return True
        return bool(self.salt) and any(name and salted(name, self.salt) in self.digests for name in ids)

    def names_row(self, row: Mapping[str, Any]) -> bool:
        """Whether the list names a row of a manifest: one of its `HASH_COLUMNS`, or `ID_COLUMNS` salted."""
        if any(str(row.get(name) or "").lower() in self.digests for name in HASH_COLUMNS):
            return True
        return self.blocked(ids=[str(row.get(name) or "") for name in ID_COLUMNS])


def mark(digest: str) -> str:
    """What a ledger says instead of the SHA-256 of something that opted out: who has the file can find its row."""
    return hashlib.sha256(f"optout {digest}".encode()).hexdigest()


def salted(name: str, salt: str) -> str:
    """The entry for an id: SHA-256 of salt, colon and id."""
    return hashlib.sha256(f"{salt}:{name}".encode()).hexdigest()


def load_optout(path: Path) -> OptOut:
    """Read a list.

    Raises:
        UserError: the file cannot be read, or a line is wrong; file and line are named.
    """
    if not Path(path).exists():
        raise UserError(f"the opt-out list {path} does not exist.", hint=_HINT)
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the opt-out list {path} cannot be read: {error}.", hint=_HINT) from error
    digests: set[str] = set()
    salt = ""
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        word, _, rest = entry.partition(" ")
        if word == "salt" and rest.strip():
            if salt and salt != rest.strip():
                raise UserError(f"{path}:{number}: there is a salt above already.", hint=_HINT)
            salt = rest.strip()
        elif _DIGEST.fullmatch(entry.lower()):
            digests.add(entry.lower())
        else:
            raise UserError(f"{path}:{number}: {entry[:80]!r} is no SHA-256.", hint=_HINT)
    return OptOut(frozenset(digests), salt)


def dataset_optout(folder: Path) -> OptOut:
    """The list of a data set; empty when it has none."""
    path = Path(folder) / OPTOUT_FILE
    return load_optout(path) if path.is_file() else OptOut()
