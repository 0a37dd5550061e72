"""Says which sources of a data set are not there any more, before their clips are removed with them."""

from __future__ import annotations

import os
from pathlib import Path

from macebench.curation.records import Index
from macebench.errors import UserError

_MOST = 5
_METADATA = "metadata.parquet"


def check_nothing_is_lost(out: Path, index: Index) -> None:
    """Refuse to remove the clips of sources whose files are gone or have changed since they were curated.

    Sources that are still there, but were not named this time, are another matter (`macebench.curation.dataset`).

    Args:
        out: Folder of the data set.
        index: Sources of the run, all worked on.

    Raises:
        UserError: some are gone or have changed; they are named.
    """
    import pyarrow.parquet as pq

    if not (out / _METADATA).is_file():
        return
    columns = pq.read_table(out / _METADATA, columns=["source_id", "source_name"]).to_pydict()
    before = dict(zip(columns["source_id"], columns["source_name"], strict=True))
    found: dict[str, str] = {}
    names = set(before.values())
    for outcome in index.outcomes():
        before.pop(outcome.sha256, None)
        if outcome.name in names:
            found[outcome.name] = outcome.sha256
    if not before:
        return
    there = {sha256 for sha256, path in index.places() if sha256 in before and os.path.isfile(path)}
    lost = {name: "have changed" if found.get(name) else "are gone" for key, name in before.items() if key not in there}
    for what in ("are gone", "have changed"):
        _refuse(out, sorted(name for name, state in lost.items() if state == what), what)


def _refuse(out: Path, names: list[str], what: str) -> None:
    if not names:
        return
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    one = {"are gone": "is gone", "have changed": "has changed"}[what]
    files = f"{len(names)} sources whose files {what}" if len(names) > 1 else f"a source whose file {one}"
    raise UserError(
        f"{out} holds clips of {files}: {', '.join(names[:_MOST])}{more}.",
        hint="Put back what was there, or add --prune to remove these clips, or choose another folder.",
    )
