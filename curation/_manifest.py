"""The table of a data set folder, read with errors that say what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from macebench.clips import METADATA_FILE
from macebench.errors import UserError

_HINT = "Name a data set folder: one with metadata.parquet, as `macebench curate raw/ --out dataset` makes it."


def check_folder(folder: Path, hint: str = _HINT) -> None:
    """Refuse what is no folder. Raises `UserError`."""
    if not Path(folder).exists():
        raise UserError(f"{folder} does not exist.", hint=hint)
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is no folder.", hint=hint)


def read_manifest(folder: Path) -> Any:
    """``metadata.parquet`` as an Arrow table.

    Raises:
        UserError: no folder, no table in it, or one that cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_folder(folder)
    path = Path(folder) / METADATA_FILE
    if not path.is_file():
        raise UserError(f"{folder} is no data set: it has no {METADATA_FILE}.", hint=_HINT)
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        said = str(error).splitlines()[0][:200]
        raise UserError(f"{path} cannot be read: {said}", hint=_HINT) from error
