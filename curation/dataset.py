"""Puts a data set folder together from the records of its sources.

- ``clips/<split>/<clip id>.mp4``
- ``metadata.parquet``: one row a clip, `METADATA` and one column ``stage.score`` for each score of the stages; and the
  rows of each split in ``clips/<split>/metadata.parquet`` (`macebench.curation.videofolder`).
- ``ledger.parquet``: one row a rejected span, `LEDGER`.
- ``thumbnails/*.jpg``: some kept clips and rejected spans.
- ``dataset.json``: settings, versions, hashes, counts, yield. ``DATASHEET.md``: the data sheet.

Tables are written beside the folder's content first; then new clips are moved to their split, then the tables take
their names, then what belongs to no row is removed. A run that ends in the middle leaves the tables as they were and
every clip of theirs in place. Equal sources and settings give equal bytes. Tables are written in row groups; what
grows with the number of clips in memory is what the splits need.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macebench.curation._datasheet import datasheet
from macebench.curation.config import CurateConfig
from macebench.curation.job import find_clip
from macebench.curation.outcomes import Group, Outcomes, is_unfinished, optouts
from macebench.curation.records import WORK, ClipRecord, Index, Outcome, SpanRecord, clip_id, part_path, thumbnail_path
from macebench.curation.sources import FACTS
from macebench.curation.splits import ClipInfo, SplitPlan, plan_splits
from macebench.curation.videofolder import move_split_tables, write_split_tables
from macebench.errors import MacebenchError, UserError
from macebench.store import atomic_write, write_text

if TYPE_CHECKING:
    from macebench.curation.pipeline import CurateResult

SCHEMA, VERSION = "macebench-dataset", 1
METADATA_FILE, LEDGER_FILE, DATASET_FILE, DATASHEET_FILE = (
    "metadata.parquet", "ledger.parquet", "dataset.json", "DATASHEET.md",
)  # fmt: skip
METADATA: dict[str, tuple[str, str]] = {
    "file_name": ("text", "Path of the clip below the folder."),
    "clip_id": ("text", "First 12 digits of the source's SHA-256 and the start in milliseconds."),
    "split": ("text", "train, val or test."),
    "source": ("text", "Where it comes from: web, or what the table of sources says."),
    "source_id": ("text", "SHA-256 of the source file."),
    "source_name": ("text", "Name of the source file."),
    "start_s": ("real", "Start in the source, seconds of presentation time after its first picture."),
    "end_s": ("real", "End in the source."),
    "fps": ("real", "Frames a second."),
    "n_frames": ("count", "Frames."),
    "width": ("count", "Pixels."),
    "height": ("count", "Pixels."),
    "audio_sr": ("count", "Samples a second of the sound; 0 without sound."),
    "sound_share": ("real", "Share of the clip in which the source has sound."),
    "genre": ("text", "Genre as the table of sources has it."),
    "genre_raw": ("text", "Genre as its makers spell it; may be empty, like the following five."),
    "style": ("text", "A coarser class than the genre."),
    "title": ("text", "Title of the music."),
    "music": ("text", "Which piece of music."),
    "performer": ("text", "Who dances."),
    "recording": ("text", "The recording that the source is a part of."),
    "pose_valid_ratio": (
        "real",
        "Share of keypoints in the looked-at frames of the shot that are seen; empty when no stage says.",
    ),
    "n_people_max": ("real", "Most people seen in a looked-at frame of the shot; empty when no stage says."),
    "licence": ("text", "Licence of the source."),
    "consent": ("text", "Consent basis of the source."),
    "pairing": ("text", "How music and dance belong together."),
    "sha256": ("text", "SHA-256 of the clip file."),
}
"""Columns of ``metadata.parquet`` before those of the scores: type and meaning."""
LEDGER: dict[str, tuple[str, str]] = {
    "source_id": ("text", "SHA-256 of the source file; empty when it could not be read; a mark for what opted out."),
    "source_name": ("text", "Name of the source file; empty for what opted out."),
    "start_s": ("real", "Start of the span."),
    "end_s": ("real", "End of the span; empty when not known."),
    "stage": ("text", "Which stage dropped it."),
    "reason": ("text", "Why."),
    "value": ("real", "The score that decided; empty when there was none."),
    "threshold": ("real", "What it was compared with; empty when there was none."),
    "scores": ("text", "All scores so far as JSON: stage.score -> value."),
    "thumbnail": ("text", "Path of a picture below the folder; may be empty."),
}
"""Columns of ``ledger.parquet``: type and meaning."""
ALIASES = {"pose_valid_ratio": ("person.pose_valid_ratio",), "n_people_max": ("person.n_people_max",)}
_ROW_GROUP = 20_000
_CLIP = re.compile(r"[0-9a-f]{12}-[0-9]{8,}\.mp4")
_NEW = "new"


@dataclass
class _Totals:
    """What is counted while the tables are made."""

    sources: int = 0
    source_s: float = 0.0
    clips: int = 0
    clip_s: float = 0.0
    splits: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    reason_s: Counter[tuple[str, str]] = field(default_factory=Counter)
    unfinished: Counter[str] = field(default_factory=Counter)
    digest: Any = field(default_factory=hashlib.sha256)

    def add_group(self, group: Group) -> None:
        self.sources += 1 + len(group.others)
        if group.record is not None and math.isfinite(group.record.duration_s):
            self.source_s += group.record.duration_s
        if is_unfinished(group.first):
            self.unfinished[group.first.reason] += 1

    def add_span(self, span: SpanRecord) -> None:
        key = (span.stage, span.reason)
        self.reasons[key] += 1
        if math.isfinite(span.end_s):
            self.reason_s[key] += span.end_s - span.start_s  # type: ignore[assignment]

    def add_clip(self, row: Mapping[str, Any]) -> None:
        self.clips += 1
        self.clip_s += row["end_s"] - row["start_s"]
        self.splits[row["split"]] += 1
        self.digest.update(f"{row['clip_id']} {row['split']} {row['sha256']}\n".encode())


def assemble(
    out: Path, index: Index, config: CurateConfig, progress: Callable[[str, int, int], None], *, prune: bool = False
) -> CurateResult:  # fmt: skip
    """Write tables and texts, move the clips to their splits, remove what belongs to no row.

    Args:
        out: Folder of the data set.
        index: Sources and what became of them.
        config: Settings.
        progress: Called with (phase, done, total).
        prune: Clips of sources that are not among those of this run may be removed.

    Raises:
        UserError: the disk is full, or clips would be removed without `prune`.
        MacebenchError: a record or a clip is gone.
    """
    from macebench.curation.pipeline import CurateResult, count_reasons

    new = out / WORK / _NEW
    shutil.rmtree(new, ignore_errors=True)
    if not prune:
        _check_nothing_is_lost(out, index)
    sources = Outcomes(out, index, optouts(out, config), config.clips_hash)
    divided = _assign(sources, config)
    splits = divided.splits
    scores = sorted({name for group in sources for clip in group.clips for name in clip.scores})
    totals, pictures = _Totals(), _Pictures(config.general.max_thumbnails)
    _write_tables(new, sources, config, splits, scores, totals, pictures)
    summary = _summary(config, totals, divided)
    write_text(new / DATASET_FILE, json.dumps(summary, indent=2, sort_keys=True) + "\n")
    write_text(new / DATASHEET_FILE, datasheet(summary, METADATA, LEDGER, scores))
    filled = write_split_tables(new / METADATA_FILE, new)
    _place(out, sources, splits, progress)
    for name in pictures.chosen():
        _copy(thumbnail_path(out, name), out / "thumbnails" / name)
    for name in (METADATA_FILE, LEDGER_FILE, DATASHEET_FILE, DATASET_FILE):
        os.replace(new / name, out / name)
    move_split_tables(new, out, filled)
    _remove_strangers(out, splits, pictures.chosen())
    reasons = count_reasons(key for key, count in totals.reasons.items() for _ in range(count))
    return CurateResult(totals.sources, totals.clips, totals.clip_s, reasons, dict(totals.unfinished))


def _check_nothing_is_lost(out: Path, index: Index) -> None:
    """Refuse to remove the clips of sources that this run does not name."""
    import pyarrow.parquet as pq

    if not (out / METADATA_FILE).is_file():
        return
    before = set(pq.read_table(out / METADATA_FILE, columns=["source_id"])["source_id"].to_pylist())
    before.difference_update(outcome.sha256 for outcome in index.outcomes())
    if before:
        raise UserError(
            f"{out} holds clips of {len(before)} sources that are not among those given.",
            hint="Name these sources, too; or add --prune to remove their clips, or choose another folder.",
        )


def _assign(sources: Outcomes, config: CurateConfig) -> SplitPlan:
    """The division into splits.

    Raises:
        MacebenchError: two sources have the same first digits.
    """
    infos = []
    for group in sources:
        infos += [clip_info(group.first, clip, config) for clip in group.clips]
    if len({info.clip_id for info in infos}) < len(infos):
        raise MacebenchError("two clips have the same id: two sources have hashes that begin alike.")
    return plan_splits(infos, config.splits)


def clip_info(outcome: Outcome, clip: ClipRecord, config: CurateConfig) -> ClipInfo:
    """What the splits need to know of a clip."""
    return ClipInfo(
        clip_id=clip_id(outcome.sha256, clip.start_s), source_id=outcome.sha256,
        music_id=outcome.facts.get("music"), performer=outcome.facts.get("performer"),
        genre=outcome.facts.get("genre", config.general.genre), official_split=outcome.facts.get("split"),
        duration_s=clip.end_s - clip.start_s,
    )  # fmt: skip


def _write_tables(
    new: Path, sources: Outcomes, config: CurateConfig, splits: Mapping[str, str], scores: list[str], totals: _Totals,
    pictures: _Pictures,
) -> None:  # fmt: skip
    columns = {name: kind for name, (kind, _) in METADATA.items()} | dict.fromkeys(scores, "real")
    documented = {name: text for name, (_, text) in METADATA.items()}
    rejected = _Table(new / LEDGER_FILE, {n: k for n, (k, _) in LEDGER.items()}, {n: t for n, (_, t) in LEDGER.items()})
    with _Table(new / METADATA_FILE, columns, documented) as kept, rejected:
        for group in sources:
            totals.add_group(group)
            for number, clip in enumerate(group.clips):
                row = metadata_row(group.first, clip, splits, config)
                pictures.offer(("", ""), clip.thumbnail, number)
                totals.add_clip(row)
                kept.add(row)
        for group in sources:
            for _, span in group.spans():
                pictures.offer((span.stage, span.reason), span.thumbnail)
        shown = frozenset(pictures.chosen())
        for group in sources:
            for outcome, span in group.spans():
                totals.add_span(span)
                rejected.add(ledger_row(outcome, span, shown))


def metadata_row(
    outcome: Outcome, clip: ClipRecord, splits: Mapping[str, str], config: CurateConfig
) -> dict[str, Any]:  # fmt: skip
    """One row of ``metadata.parquet``."""
    name, general = clip_id(outcome.sha256, clip.start_s), config.general
    found = {key: next((clip.scores[n] for n in names if n in clip.scores), math.nan) for key, names in ALIASES.items()}
    facts = {key: outcome.facts.get(key, getattr(general, key, "")) for key in FACTS if key != "split"}
    return {
        "file_name": f"clips/{splits[name]}/{name}.mp4", "clip_id": name, "split": splits[name],
        "source_id": outcome.sha256, "source_name": outcome.name, "start_s": clip.cut_start_s,
        "end_s": clip.cut_end_s, "fps": clip.fps, "n_frames": clip.n_frames, "width": clip.width, "height": clip.height,
        "audio_sr": clip.audio_sr, "sound_share": clip.sound_share, "sha256": clip.sha256, **facts,
        "source": outcome.facts.get("source", "web"), **found, **clip.scores,
    }  # fmt: skip


def ledger_row(outcome: Outcome, span: SpanRecord, shown: frozenset[str]) -> dict[str, Any]:
    """One row of ``ledger.parquet``."""
    scores = {name: value for name, value in sorted(span.scores.items()) if math.isfinite(value)}
    return {
        "source_id": outcome.sha256, "source_name": outcome.name, "start_s": span.start_s, "end_s": span.end_s,
        "stage": span.stage, "reason": span.reason, "value": span.value, "threshold": span.threshold,
        "scores": json.dumps(scores), "thumbnail": f"thumbnails/{span.thumbnail}" if span.thumbnail in shown else "",
    }  # fmt: skip


class _Table:
    """A Parquet file written in row groups; it appears when it is whole."""

    def __init__(self, path: Path, columns: Mapping[str, str], docs: Mapping[str, str]) -> None:
        import pyarrow as pa

        kinds = {"text": pa.string(), "real": pa.float64(), "count": pa.int64()}
        fields = [
            pa.field(name, kinds[kind], metadata={"doc": docs[name]} if name in docs else None)
            for name, kind in columns.items()
        ]
        self._schema = pa.schema(fields)
        self._path, self._rows = path, []  # type: tuple[Path, list[Mapping[str, Any]]]

    def __enter__(self) -> _Table:
        import pyarrow.parquet as pq

        self._file = atomic_write(self._path)
        self._writer = pq.ParquetWriter(
            self._file.__enter__(), self._schema, compression="zstd", version="2.6", data_page_version="1.0"
        )
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        arrays = [
            pa.array([_cell(row.get(item.name)) for row in self._rows], type=item.type, from_pandas=False)
            for item in self._schema
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=_ROW_GROUP)
        self._rows.clear()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None and (self._rows or self._writer is not None):
            self._flush()
        self._writer.close()
        self._file.__exit__(kind, error, trace)


def _cell(value: Any) -> Any:
    """NaN is an empty cell."""
    return None if isinstance(value, float) and math.isnan(value) else value


class _Pictures:
    """Chooses thumbnails: of kept clips and of rejected spans so many, of each reason about as many.

    The first clip of every source goes before the second one of any. Else their names alone decide, not the order in
    which they are offered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heaps: dict[tuple[str, str], list[tuple[int, int, str]]] = {}

    def offer(self, reason: tuple[str, str], name: str, number: int = 0) -> None:
        """A picture of a kept clip (no reason) or of a rejected span; `number` counts those of the same source."""
        if not name or not self._most:
            return
        rank = -int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        heap = self._heaps.setdefault(reason, [])
        heapq.heappush(heap, (-number, rank, name))
        if len(heap) > self._most:
            heapq.heappop(heap)

    def chosen(self) -> list[str]:
        """Names of the chosen pictures, sorted."""
        ranked = {reason: [name for _, _, name in sorted(heap, reverse=True)] for reason, heap in self._heaps.items()}
        kept = ranked.pop(("", ""), [])
        turns = [names[turn] for turn in range(self._most) for _, names in sorted(ranked.items()) if turn < len(names)]
        return sorted({*kept, *turns[: self._most]})


def _summary(config: CurateConfig, totals: _Totals, divided: SplitPlan) -> dict[str, Any]:
    """The content of ``dataset.json``."""
    lost = [
        {"stage": stage, "reason": reason, "spans": count, "seconds": round(totals.reason_s[stage, reason], 3)}
        for (stage, reason), count in sorted(totals.reasons.items(), key=lambda item: (-item[1], item[0]))
    ]
    return {
        "schema": SCHEMA, "version": VERSION, "hash": totals.digest.hexdigest(), "config_hash": config.hash,
        "config": config.plain(("clips", "tables")), "software": software(), "n_sources": totals.sources,
        "source_seconds": round(totals.source_s, 3), "n_clips": totals.clips,
        "clip_seconds": round(totals.clip_s, 3), "splits": dict(sorted(totals.splits.items())),
        "split_notes": list(divided.notes), "rejected": lost,
        "unfinished": dict(sorted(totals.unfinished.items())),
    }  # fmt: skip


def software() -> dict[str, str]:
    """Versions of what decides bytes."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("macebench", "numpy", "av", "imageio-ffmpeg", "opencv-python-headless", "pyarrow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def _place(
    out: Path, sources: Outcomes, splits: Mapping[str, str], progress: Callable[[str, int, int], None]
) -> None:  # fmt: skip
    """Move every clip to its split. Done again, it does nothing."""
    done = 0
    for group in sources:
        for clip in group.clips:
            name = clip_id(group.first.sha256, clip.start_s)
            target = out / "clips" / splits[name] / f"{name}.mp4"
            part = part_path(out, name)
            found = part if part.is_file() else target
            if not (found.is_file() and found.stat().st_size == clip.size):
                there = find_clip(out, group.first.sha256, clip)
                if there is None:
                    raise MacebenchError(f"clip {name} is gone; run the same command again.")
                found = there
            if found != target:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(found, target)
            done += 1
            progress("clips", done, len(splits))


def _copy(source: Path, target: Path) -> None:
    try:
        data = source.read_bytes()
    except OSError as error:
        raise MacebenchError(f"thumbnail {source.name} is gone; run the same command again.") from error
    if not target.is_file() or target.read_bytes() != data:
        with atomic_write(target) as temporary:
            temporary.write_bytes(data)


def _remove_strangers(out: Path, splits: Mapping[str, str], pictures: list[str]) -> None:
    """Remove clips and thumbnails of earlier runs; other people's files stay."""
    wanted = set(pictures)
    for path in sorted((out / "clips").glob("*/*.mp4")):
        if _CLIP.fullmatch(path.name) and splits.get(path.stem) != path.parent.name:
            path.unlink()
    for path in sorted((out / "thumbnails").glob("*.jpg")):
        if path.name not in wanted:
            path.unlink()
    for folder in sorted((out / "clips").glob("*")):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    for name in (_NEW, "clips", "hung"):
        shutil.rmtree(out / WORK / name, ignore_errors=True)
