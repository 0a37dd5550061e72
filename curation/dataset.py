"""Puts a data set folder together from the records of its sources.

- ``clips/<split>/<clip id>.mp4``
- ``metadata.parquet``: one row a clip, `METADATA` and one column ``stage.score`` for each score of the stages; and the
  rows of each split in ``clips/<split>/metadata.parquet`` (`macebench.curation.videofolder`).
- ``ledger.parquet``: one row a rejected span, `LEDGER`.
- ``thumbnails/*.jpg``: some kept clips and rejected spans.
- ``dataset.json``: settings, versions, hashes, counts, yield. ``DATASHEET.md``: the data sheet.

Tables are written beside the folder's content first, then the pictures; then clips and tables take their places so
that a kill at any moment leaves tables whose clips are all there (`macebench.curation.placing` says what is promised),
then what belongs to no row is removed. Equal sources and settings give equal bytes. Tables are written in row groups;
what grows with the number of clips in memory is what the splits need, and names and hashes of the clips.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macebench.curation._datasheet import datasheet
from macebench.curation.config import CurateConfig, in_force
from macebench.curation.forgetting import forget, read_spans, write_spans
from macebench.curation.observe import observers_of
from macebench.curation.outcomes import Group, Outcomes, is_unfinished, optouts
from macebench.curation.placing import place, publish, remove_strangers, sweep
from macebench.curation.records import WORK, ClipRecord, Index, Outcome, SpanRecord, clip_id
from macebench.curation.sounds import same_sounds, sounds_of
from macebench.curation.sources import FACTS
from macebench.curation.splits import ClipInfo, SplitPlan, plan_splits
from macebench.curation.thumbs import Pictures, offer_all, restore, show
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
        "Share of keypoints in the looked-at frames of the clip that are seen; empty when no stage says.",
    ),
    "n_people_max": ("real", "Most people seen in a looked-at frame of the clip; empty when no stage says."),
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
    out: Path, index: Index, config: CurateConfig, progress: Callable[[str, int, int], None], *, prune: bool = False,
    workers: int = 1,
) -> CurateResult:  # fmt: skip
    """Write tables and texts, move the clips to their splits, remove what belongs to no row.

    Args:
        out: Folder of the data set.
        index: Sources and what became of them.
        config: Settings.
        progress: Called with (phase, done, total).
        prune: Clips of sources that are not among those of this run may be removed.
        workers: Processes that compare the clips' sound.

    Raises:
        UserError: the disk is full, or clips would be removed without `prune`.
        MacebenchError: a record or a clip is gone.
    """
    from macebench.curation.pipeline import CurateResult, count_reasons

    new = out / WORK / _NEW
    shutil.rmtree(new, ignore_errors=True)
    sweep(out)
    if not prune:
        _check_nothing_is_lost(out, index)
    lists = optouts(out, config)
    sources = Outcomes(out, index, lists, config.clips_hash)
    store = Path(index.get_state("store")) if index.get_state("store") else None
    sounds, notes = sounds_of(out, sources) if "music" in config.splits.by else ([], ())
    divided = _assign(sources, config, same_sounds(sounds, store, workers, progress))
    divided = dataclasses.replace(divided, notes=(*divided.notes, *notes))
    splits = divided.splits
    scores = sorted({name for group in sources for clip in group.clips for name in clip.scores})
    pictures = _pictures(out, store, sources, config)
    totals = _write_tables(new, sources, config, splits, scores, frozenset(pictures))
    summary = _summary(config, totals, divided)
    write_text(new / DATASET_FILE, json.dumps(summary, indent=2, sort_keys=True) + "\n")
    write_text(new / DATASHEET_FILE, datasheet(summary, METADATA, LEDGER, scores))
    noted = {s for group in sources for clip in group.opted_out for s in lists.note(clip, group.first.sha256)}
    write_spans(out, [*read_spans(out), *noted])
    show(out, pictures)
    instead = place(out, sources, splits, progress)
    publish(new, out, (METADATA_FILE, LEDGER_FILE, DATASHEET_FILE, DATASET_FILE), instead)
    remove_strangers(out, splits, pictures)
    forget(out, index, sources)
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


def _assign(sources: Outcomes, config: CurateConfig, sounds: Mapping[str, str]) -> SplitPlan:
    """The division into splits; `sounds` is clip id -> its group of clips with the same sound.

    Raises:
        MacebenchError: two sources have the same first digits.
    """
    infos = []
    for group in sources:
        found = (clip_info(group.first, clip, config) for clip in group.clips)
        infos += [dataclasses.replace(info, sound=sounds.get(info.clip_id)) for info in found]
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


def _pictures(out: Path, store: Path | None, sources: Outcomes, config: CurateConfig) -> list[str]:
    """Names of the pictures that are shown."""
    pictures = Pictures(config.general.max_thumbnails)
    offer_all(pictures, sources)
    return restore(out, pictures.chosen(), sources, store, config.general.max_side)


def _write_tables(
    new: Path, sources: Outcomes, config: CurateConfig, splits: Mapping[str, str], scores: list[str],
    shown: frozenset[str],
) -> _Totals:  # fmt: skip
    totals = _Totals()
    columns = {name: kind for name, (kind, _) in METADATA.items()} | dict.fromkeys(scores, "real")
    documented = {name: text for name, (_, text) in METADATA.items()}
    rejected = _Table(new / LEDGER_FILE, {n: k for n, (k, _) in LEDGER.items()}, {n: t for n, (_, t) in LEDGER.items()})
    with _Table(new / METADATA_FILE, columns, documented) as kept, rejected:
        for group in sources:
            totals.add_group(group)
            for clip in group.clips:
                row = metadata_row(group.first, clip, splits, config)
                totals.add_clip(row)
                kept.add(row)
            for outcome, span in group.spans():
                totals.add_span(span)
                rejected.add(ledger_row(outcome, span, shown))
    return totals


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


def _summary(config: CurateConfig, totals: _Totals, divided: SplitPlan) -> dict[str, Any]:
    """The content of ``dataset.json``."""
    lost = [
        {"stage": stage, "reason": reason, "spans": count, "seconds": round(totals.reason_s[stage, reason], 3)}
        for (stage, reason), count in sorted(totals.reasons.items(), key=lambda item: (-item[1], item[0]))
    ]
    return {
        "schema": SCHEMA, "version": VERSION, "hash": totals.digest.hexdigest(), "config_hash": config.hash,
        "config": config.plain(("clips", "tables")), "in_force": forces(config), "observers": observers(config),
        "software": software(), "n_sources": totals.sources,
        "source_seconds": round(totals.source_s, 3), "n_clips": totals.clips,
        "clip_seconds": round(totals.clip_s, 3), "splits": dict(sorted(totals.splits.items())),
        "split_notes": list(divided.notes), "rejected": lost,
        "unfinished": dict(sorted(totals.unfinished.items())),
    }  # fmt: skip


def forces(config: CurateConfig) -> dict[str, dict[str, Any]]:
    """Section -> field -> value that holds, for the fields whose value in the settings stands for another one."""
    plain, found = config.plain(), {}
    for name, section in config.sections.items():
        held = in_force(section)
        other = {key: value for key, value in held.items() if value != plain.get(name, {}).get(key)}
        if other:
            found[name] = other
    return found


def observers(config: CurateConfig) -> dict[str, dict[str, Any]]:
    """Stage -> what decides what it sees: which detector, its weights, its version."""
    made = {stage.name: dict(stage.observer_settings()) for stage in observers_of(config.make_stages())}
    return dict(json.loads(json.dumps(made)))


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
