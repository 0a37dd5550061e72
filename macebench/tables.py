"""The tables of a run folder, written so that equal content gives equal bytes.

``clips.parquet``, ``curves.parquet`` and ``contamination.parquet`` are described in `macebench.results`. Rows are
sorted by protocol hash, model, role and clip id, value columns by name; compression and row groups are fixed; no
time, host or pandas metadata is stored. A file appears complete or not at all. A missing value is NaN, a missing
feature null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from macebench.errors import UserError
from macebench.media.files import file_sha256
from macebench.results import FEATURE_PREFIX, INDEX_COLUMNS
from macebench.store import atomic_write
from macebench.types import FloatArray

if TYPE_CHECKING:
    import pandas as pd

_ORDER = ("protocol_hash", "model", "role", "clip_id")
_TEXT_COLUMNS = ("model", "protocol_hash", "clip_id", "role", "sha256", "music_sha256")
CURVE_COLUMNS = (
    "model", "protocol_hash", "clip_id", "times_s", "speed", "motion_beats_s", "music_beats_s", "video",
)  # fmt: skip
CONTAMINATION_COLUMNS = (
    "model", "protocol_hash", "clip_id", "nearest_clip_id", "distance", "ratio", "exact", "near",
)  # fmt: skip
_CURVE_LISTS = ("times_s", "speed", "motion_beats_s", "music_beats_s")
_ROW_GROUP = 1 << 20


@dataclass(frozen=True)
class ClipRow:
    """One row of ``clips.parquet``: what one model's clip got under one protocol.

    Attributes:
        model: Name of the model; of a reference row, the name under which the reference set is kept.
        protocol_hash: Hash of the resolved protocol.
        clip_id: Unique within model, protocol and role.
        role: ``generated``, or ``reference`` for a clip of the reference set.
        sha256: Hash of the video file.
        music_sha256: Hash of the separate sound file; empty when the video's own sound was used.
        duration_s: Length of the picture in seconds; NaN when unknown.
        values: Value of each column of the clip metrics; NaN when unscored.
        features: Feature vectors (F,) by feature name; a clip without a feature has no key.
        reasons: Why a column, or ``feature.<name>``, has no value: column -> reason.
        notes: What a reader must know of a scored column: column -> note.
    """

    model: str
    protocol_hash: str
    clip_id: str
    role: Literal["generated", "reference"]
    sha256: str
    music_sha256: str = ""
    duration_s: float = math.nan
    values: Mapping[str, float] = field(default_factory=dict)
    features: Mapping[str, FloatArray] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What rows are sorted by and must be unique in."""
        return (self.protocol_hash, self.model, self.role, self.clip_id)


@dataclass(frozen=True)
class CurveRow:
    """One row of ``curves.parquet``: what the report's plot of one clip shows.

    Attributes:
        model: Name of the model.
        protocol_hash: Hash of the resolved protocol.
        clip_id: Clip of that model.
        times_s: (T,) seconds on the clip's clock.
        speed: (T,) motion speed; its unit is the protocol's.
        motion_beats_s: (B,) seconds.
        music_beats_s: (M,) seconds.
        video: Path of the video file; may be empty.
    """

    model: str
    protocol_hash: str
    clip_id: str
    times_s: FloatArray
    speed: FloatArray
    motion_beats_s: FloatArray
    music_beats_s: FloatArray
    video: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What rows are sorted by and must be unique in."""
        return (self.protocol_hash, self.model, self.clip_id)


@dataclass(frozen=True)
class ContaminationRow:
    """One row of ``contamination.parquet``: the training clip that is nearest to a generated one.

    Attributes:
        model: Name of the model.
        protocol_hash: Hash of the resolved protocol.
        clip_id: Clip of that model.
        nearest_clip_id: Clip of the training set.
        distance: Between their standardised features.
        ratio: `distance` over the typical distance of a training clip to its nearest neighbour.
        exact: Whether the two are the same.
        near: Whether they are nearer than independent dances are (`macebench.metrics.contamination`).
    """

    model: str
    protocol_hash: str
    clip_id: str
    nearest_clip_id: str
    distance: float
    ratio: float
    exact: bool
    near: bool

    @property
    def key(self) -> tuple[str, str, str]:
        """What rows are sorted by and must be unique in."""
        return (self.protocol_hash, self.model, self.clip_id)


def write_contamination(path: Path, rows: Iterable[ContaminationRow]) -> str:
    """Write ``contamination.parquet``; the same rows in any order give the same bytes.

    Returns:
        SHA-256 of the file.
    """
    ordered = _sorted_unique(rows, lambda row: row.key)
    return _write(path, {name: [getattr(row, name) for row in ordered] for name in CONTAMINATION_COLUMNS})


def read_contamination(path: Path) -> pd.DataFrame:
    """The table of a ``contamination.parquet``.

    Raises:
        UserError: the file is missing, is no Parquet file or lacks a column of the schema.
    """
    return _read(path, CONTAMINATION_COLUMNS)


def write_clips(path: Path, rows: Iterable[ClipRow]) -> str:
    """Write ``clips.parquet``; the same rows in any order give the same bytes.

    Returns:
        SHA-256 of the file.

    Raises:
        ValueError: two rows have the same model, protocol, role and clip id.
    """
    ordered = _sorted_unique(rows, lambda row: row.key)
    columns: dict[str, Any] = {name: [getattr(row, name) for row in ordered] for name in _TEXT_COLUMNS}
    columns["duration_s"] = [float(row.duration_s) for row in ordered]
    for name in sorted({name for row in ordered for name in row.values}):
        _check_value_name(name)
        columns[name] = [float(row.values.get(name, math.nan)) for row in ordered]
    for name in sorted({name for row in ordered for name in row.features}):
        columns[FEATURE_PREFIX + name] = [_vector(row.features.get(name)) for row in ordered]
    columns["reasons"] = [_json(row.reasons) for row in ordered]
    columns["notes"] = [_json(row.notes) for row in ordered]
    return _write(path, columns)


def write_curves(path: Path, rows: Iterable[CurveRow]) -> str:
    """Write ``curves.parquet``; the same rows in any order give the same bytes.

    Returns:
        SHA-256 of the file.

    Raises:
        ValueError: two rows have the same model, protocol and clip id.
    """
    ordered = _sorted_unique(rows, lambda row: row.key)
    columns: dict[str, Any] = {
        name: [_vector(getattr(row, name)) if name in _CURVE_LISTS else getattr(row, name) for row in ordered]
        for name in CURVE_COLUMNS
    }
    return _write(path, columns)


def read_clips(path: Path) -> pd.DataFrame:
    """The table of a ``clips.parquet``: text, float64 values, feature cells (F,) float64 or None.

    Raises:
        UserError: the file is missing, is no Parquet file or lacks a column of the schema.
    """
    return _read(path, INDEX_COLUMNS)


def read_curves(path: Path) -> pd.DataFrame:
    """The table of a ``curves.parquet``; list cells are (N,) float64.

    Raises:
        UserError: the file is missing, is no Parquet file or lacks a column of the schema.
    """
    return _read(path, CURVE_COLUMNS)


def value_columns(clips: pd.DataFrame) -> list[str]:
    """Names of the value columns of a table that `read_clips` returned."""
    return [
        str(name) for name in clips.columns if name not in INDEX_COLUMNS and not str(name).startswith(FEATURE_PREFIX)
    ]


def _sorted_unique(rows: Iterable[Any], key: Callable[[Any], tuple[str, ...]]) -> list[Any]:
    ordered = sorted(rows, key=key)
    for before, after in pairwise(ordered):
        if key(before) == key(after):
            raise ValueError(f"two rows have the key {key(after)}")
    return ordered


def _check_value_name(name: str) -> None:
    if name in INDEX_COLUMNS or name.startswith(FEATURE_PREFIX):
        raise ValueError(f"a value column cannot be called {name!r}: the name is taken by the schema")


def _vector(value: Sequence[float] | FloatArray | None) -> FloatArray | None:
    if value is None:
        return None
    vector = np.asarray(value, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"a list cell needs a vector, got shape {vector.shape}")
    return vector


def _json(texts: Mapping[str, str]) -> str:
    return json.dumps(dict(texts), sort_keys=True, ensure_ascii=False)


def _type(name: str) -> Any:
    import pyarrow as pa

    if name in {*_TEXT_COLUMNS, "reasons", "notes", "video", "nearest_clip_id"}:
        return pa.string()
    if name in {"exact", "near"}:
        return pa.bool_()
    lists = name in _CURVE_LISTS or name.startswith(FEATURE_PREFIX)
    return pa.list_(pa.float64()) if lists else pa.float64()


def _write(path: Path, columns: Mapping[str, Any]) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = [pa.array(values, type=_type(name), from_pandas=False) for name, values in columns.items()]
    table = pa.table(arrays, names=list(columns))
    coded = [name for name in columns if _type(name) == pa.string()]
    with atomic_write(Path(path)) as temporary:
        pq.write_table(
            table, temporary, compression="zstd", compression_level=3, row_group_size=_ROW_GROUP,
            version="2.6", data_page_version="1.0", use_dictionary=coded, store_schema=False,
        )  # fmt: skip
    return file_sha256(path)


def _read(path: Path, required: Sequence[str]) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    hint = "`macebench eval` writes run folders; run it again."
    if not path.is_file():
        raise UserError(f"table {path} does not exist.", hint=hint)
    try:
        table: pd.DataFrame = pq.read_table(path).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"table {path} is no Parquet file: {error}", hint=hint) from error
    absent = [name for name in required if name not in table.columns]
    if absent:
        raise UserError(f"table {path} lacks the columns {', '.join(absent)}.", hint=hint)
    return table
