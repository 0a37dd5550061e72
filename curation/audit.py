"""What is in a data set, and what is wrong with it.

`audit` decodes every clip once and reports hours, genres, frame rates and sizes for each split, and these findings:

- *errors*: a file that is missing, broken or not the one of the manifest (SHA-256); a clip id or a file that occurs
  twice; a row that the opt-out list names; a count in ``dataset.json`` that is not true; and leaks: clips of different
  splits that share a source or a piece of music by name, sound by fingerprint (`macebench.curation.fingerprint`), or
  pictures by hash (`macebench.curation.posehash`).
- *warnings*: copies within a split, rows without licence or consent, a performer in two splits (an error where the
  set's own settings keep performers apart), a size or length that the file does not have, files without a row.
- *notes*: columns that the manifest does not have, so that something could not be checked.

`verify` is quick: hashes, counts, and one picture of each clip.

A data set is a folder with ``metadata.parquet``; ``clip_id``, ``file_name`` and ``split`` are needed, other columns are
used where it is there. The report depends on the files only: not on workers, nor on what was in the store.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from macebench.clips import METADATA_FILE, MUSIC_FOLDER, inside
from macebench.curation import fingerprint, posehash
from macebench.curation._inspect import Inspected, InspectJob, inspect_all
from macebench.curation._manifest import read_manifest
from macebench.curation._voting import components
from macebench.errors import UserError
from macebench.media import find_media
from macebench.optout import dataset_optout

Severity = Literal["error", "warning", "note"]
Progress = Callable[[str, int, int], None]
Row = Mapping[str, Any]

NEEDED = ("clip_id", "file_name", "split")
SOURCE_COLUMNS = ("source_id", "source_sha256", "recording")
MUSIC_COLUMNS = ("music_id", "music", "music_sha256")
PERFORMER_COLUMNS = ("performer",)
RIGHTS_COLUMNS = ("licence", "consent")
_OPTIONAL = ("genre", "sha256", "start_s", "end_s", "fps", "n_frames", "width", "height")
_FPS_TOLERANCE = 0.02


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: ``error``, ``warning`` or ``note``.
        kind: Short and stable, such as ``leak: sound``.
        clips: Ids of the clips it is about, sorted; may be empty.
        detail: One sentence.
    """

    severity: Severity
    kind: str
    clips: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class SplitSummary:
    """What is in one split.

    Attributes:
        clips: Number of clips.
        hours: Their length.
        genres: Genre -> clips.
        fps: Frame rate, rounded to a hundredth -> clips.
        sizes: ``WIDTHxHEIGHT`` -> clips.
        without_sound: Clips without sound.
    """

    clips: int
    hours: float
    genres: Mapping[str, int]
    fps: Mapping[str, int]
    sizes: Mapping[str, int]
    without_sound: int


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit.

    Attributes:
        dataset: Name of the folder.
        splits: Split -> what is in it.
        findings: Errors first, then by kind and clips.
        clips: Number of rows.
    """

    dataset: str
    splits: Mapping[str, SplitSummary]
    findings: tuple[Finding, ...]
    clips: int

    @property
    def failed(self) -> bool:
        """Whether there is an error."""
        return any(one.severity == "error" for one in self.findings)

    def counts(self) -> dict[tuple[Severity, str], int]:
        """(severity, kind) -> number of findings, in their order."""
        return dict(Counter((one.severity, one.kind) for one in self.findings))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        return {
            "schema": "macebench-audit", "version": 1, "dataset": self.dataset, "n_clips": self.clips,
            "failed": self.failed, "splits": {name: asdict(one) for name, one in self.splits.items()},
            "findings": [asdict(one) | {"clips": list(one.clips)} for one in self.findings],
        }  # fmt: skip


def audit(
    dataset: Path, *, workers: int = 1, store: Path | None = None, progress: Progress | None = None
) -> AuditReport:  # fmt: skip
    """Look at every clip of a data set and at what clips share.

    Args:
        dataset: Folder with ``metadata.parquet``.
        workers: Processes.
        store: Folder of the store; None takes the user's.
        progress: Called with (phase, done, total).

    Raises:
        UserError: no data set.
    """
    folder, report = Path(dataset), progress or _silent
    rows, findings, seen = _looked_at(folder, quick=False, workers=workers, store=store, progress=report)
    report("compare", 0, 2)
    findings += leaks_by_name(rows, _kept_apart(folder))
    findings += exact_duplicates(rows, seen)
    findings += leaks_by_sound(rows, seen)
    report("compare", 1, 2)
    findings += leaks_by_picture(rows, seen)
    findings += _mismatches(rows, seen) + _rights(rows)
    report("compare", 2, 2)
    return _report(folder, rows, seen, findings)


def verify(
    dataset: Path, *, workers: int = 1, progress: Progress | None = None
) -> AuditReport:  # fmt: skip
    """Quick look: hashes, counts, one picture of each clip.

    Raises:
        UserError: no data set.
    """
    folder = Path(dataset)
    rows, findings, seen = _looked_at(folder, quick=True, workers=workers, store=None, progress=progress or _silent)
    return _report(folder, rows, seen, findings + _mismatches(rows, seen))


def _silent(_phase: str, _done: int, _total: int) -> None:
    """Progress that nobody wants to see."""


def _looked_at(
    folder: Path, *, quick: bool, workers: int, store: Path | None, progress: Progress
) -> tuple[list[dict[str, Any]], list[Finding], dict[str, Inspected]]:
    """Rows, findings on the table and the files, and what was seen of each clip."""
    table = read_rows(folder)
    rows, findings = _unique(table)
    jobs, more = _jobs(folder, rows)
    findings += more + _table_findings(folder, rows)
    seen = {one.clip_id: one for one in inspect_all(jobs, quick=quick, store=store, workers=workers, progress=progress)}
    return rows, findings + _file_findings(seen.values()), seen


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of the manifest, in the order of their ids.

    Raises:
        UserError: there is none, or it lacks a needed column.
    """
    path, table = Path(folder) / METADATA_FILE, read_manifest(folder)
    missing = [name for name in NEEDED if name not in table.column_names]
    if missing:
        raise UserError(f"{path} has no column {missing[0]}.", hint=f"A data set needs {', '.join(NEEDED)}.")
    rows = table.to_pylist()
    for number, row in enumerate(rows):
        empty = [name for name in NEEDED if not row[name]]
        if empty:
            raise UserError(f"{path}: row {number} has no {empty[0]}.", hint="Make the data set again.")
    return sorted(rows, key=lambda row: str(row["clip_id"]))


def _unique(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Rows with an id of their own, and findings on the others."""
    kept = {str(row["clip_id"]): row for row in reversed(rows)}
    found = []
    for column in ("clip_id", "file_name"):
        for value, count in sorted(Counter(str(row[column]) for row in rows).items()):
            if count > 1:
                clips = tuple(sorted({str(row["clip_id"]) for row in rows if str(row[column]) == value}))
                found.append(Finding("error", f"{column} twice", clips, f"{value} stands in {count} rows."))
    return [kept[name] for name in sorted(kept)], found


def _jobs(folder: Path, rows: Sequence[Row]) -> tuple[list[InspectJob], list[Finding]]:
    jobs, found = [], []
    for row in rows:
        clip_id = str(row["clip_id"])
        try:
            path = inside(folder, str(row["file_name"]))
            music: Path | None = inside(folder, f"{MUSIC_FOLDER}/{clip_id}.wav")
        except UserError as error:
            found.append(Finding("error", "broken file", (clip_id,), error.message))
            continue
        music = music if music is not None and music.is_file() else None
        jobs.append(InspectJob(clip_id, path, _text(row, "sha256"), music, _text(row, "music_sha256")))
    return jobs, found


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)


def _table_findings(folder: Path, rows: Sequence[Row]) -> list[Finding]:
    """What the table, ``dataset.json``, the opt-out list and the folder say of each other."""
    columns = set(rows[0]) if rows else set(NEEDED)
    wanted = (("source_id", SOURCE_COLUMNS), ("music", MUSIC_COLUMNS), ("performer", PERFORMER_COLUMNS))
    lacking = [name for name, any_of in wanted if not columns & set(any_of)]
    lacking += [name for name in (*RIGHTS_COLUMNS, *_OPTIONAL) if name not in columns]
    found = [Finding("note", "missing column", (), f"the manifest has no column {name}.") for name in lacking]
    optout = dataset_optout(folder)
    hit = tuple(str(row["clip_id"]) for row in rows if optout.names_row(row))
    if hit:
        found.append(Finding("error", "opted out", hit, "the opt-out list names clips that are still here."))
    known = {str(row["file_name"]) for row in rows}
    if (folder / "clips").is_dir():
        names = (path.relative_to(folder).as_posix() for path in find_media(folder / "clips", "video"))
        found += [Finding("warning", "no row", (), f"{name} is in no row.") for name in names if name not in known]
    return found + _count_findings(folder, rows)


def _count_findings(folder: Path, rows: Sequence[Row]) -> list[Finding]:
    summary = _summary(folder)
    found = []
    said, real = summary.get("n_clips"), len(rows)
    if isinstance(said, int) and said != real:
        found.append(Finding("error", "wrong count", (), f"dataset.json says {said} clips, the manifest has {real}."))
    splits = Counter(str(row["split"]) for row in rows)
    stated = summary.get("splits")
    if isinstance(stated, dict):
        for name in sorted(set(stated) | set(splits)):
            if stated.get(name, 0) != splits[name]:
                text = f"dataset.json says {stated.get(name, 0)} clips in {name}, the manifest has {splits[name]}."
                found.append(Finding("error", "wrong count", (), text))
    return found


def _summary(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((Path(folder) / "dataset.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _kept_apart(folder: Path) -> tuple[str, ...]:
    """What the data set's own settings keep in one split (``splits.by``); source and music when it does not say."""
    config = _summary(folder).get("config")
    splits = config.get("splits") if isinstance(config, dict) else None
    by = splits.get("by") if isinstance(splits, dict) else None
    return tuple(by) if isinstance(by, list) else ("source", "music")


def _file_findings(seen: Iterable[Inspected]) -> list[Finding]:
    found = []
    for one in seen:
        if one.problem:
            kind = "missing file" if one.problem == "file not found" else "broken file"
            found.append(Finding("error", kind, (one.clip_id,), f"{one.problem}."))
        for name in one.wrong:
            found.append(Finding("error", "wrong hash", (one.clip_id,), f"{name} is not what the manifest says."))
    return found


def _spread(kind: str, severity: Severity, clips: Iterable[str], rows: Mapping[str, Row], why: str) -> list[Finding]:
    """A finding when the clips are in more than one split."""
    names = tuple(sorted(clips))
    counts = Counter(str(rows[name]["split"]) for name in names)
    if len(counts) < 2:
        return []
    places = ", ".join(f"{count} in {split}" for split, count in sorted(counts.items()))
    return [Finding(severity, kind, names, f"{why}: {places}.")]


def _by_id(rows: Sequence[Row]) -> dict[str, Row]:
    return {str(row["clip_id"]): row for row in rows}


def leaks_by_name(rows: Sequence[Row], kept_apart: Sequence[str] = ("source", "music")) -> list[Finding]:
    """Sources, pieces of music and performers that are in several splits, by their names in the manifest."""
    names = {"source": SOURCE_COLUMNS, "music": MUSIC_COLUMNS, "performer": PERFORMER_COLUMNS}
    found, by_id = [], _by_id(rows)
    for what, columns in names.items():
        severity: Severity = "error" if what in kept_apart or what == "source" else "warning"
        for column in columns:
            clips: dict[str, list[str]] = defaultdict(list)
            for row in rows:
                if value := _text(row, column):
                    clips[value].append(str(row["clip_id"]))
            for value, members in sorted(clips.items()):
                found += _spread(f"leak: {what}", severity, members, by_id, f"{column} {value[:64]}")
    return found


def exact_duplicates(rows: Sequence[Row], seen: Mapping[str, Inspected]) -> list[Finding]:
    """Files with the same bytes: an error across splits, else a warning."""
    clips: dict[str, list[str]] = defaultdict(list)
    for name, one in seen.items():
        if one.sha256:
            clips[one.sha256].append(name)
    found, by_id = [], _by_id(rows)
    for members in clips.values():
        if len(members) > 1:
            across = _spread("leak: same file", "error", members, by_id, "the same bytes")
            inside_split = Finding("warning", "exact duplicate", tuple(sorted(members)), "the same bytes.")
            found += across or [inside_split]
    return found


def leaks_by_sound(rows: Sequence[Row], seen: Mapping[str, Inspected]) -> list[Finding]:
    """Groups of clips with the same sound that are in several splits."""
    names = sorted(name for name, one in seen.items() if one.sound is not None)
    prints = [sound for name in names if (sound := seen[name].sound) is not None]
    pairs = fingerprint.pairs(prints)
    found, by_id = [], _by_id(rows)
    for group in components(len(names), [(one, other) for one, other, _ in pairs]):
        scores = [match.score for one, _, match in pairs if one in group]
        why = f"the same sound (scores {min(scores):.2f} to {max(scores):.2f})"
        found += _spread("leak: sound", "error", [names[k] for k in group], by_id, why)
    return found


def leaks_by_picture(rows: Sequence[Row], seen: Mapping[str, Inspected]) -> list[Finding]:
    """Groups of clips with the same pictures: an error across splits, else a warning."""
    names = sorted(name for name, one in seen.items() if one.motion is not None)
    hashes = [motion for name in names if (motion := seen[name].motion) is not None]
    pairs = posehash.pairs(hashes)
    found, by_id = [], _by_id(rows)
    for group in components(len(names), [(one, other) for one, other, _ in pairs]):
        members = [names[k] for k in sorted(group)]
        scores = [match.score for one, _, match in pairs if one in group]
        turned = any(match.mirrored for one, _, match in pairs if one in group)
        why = f"the same pictures (scores {min(scores):.2f} to {max(scores):.2f}{', mirrored' if turned else ''})"
        across = _spread("leak: picture", "error", members, by_id, why)
        if not across and len({seen[name].sha256 for name in members}) > 1:
            across = [Finding("warning", "near duplicate", tuple(members), f"{why}.")]
        found += across
    return found


def _mismatches(rows: Sequence[Row], seen: Mapping[str, Inspected]) -> list[Finding]:
    """What the manifest says of a file and what it is."""
    found = []
    for row in rows:
        one = seen.get(str(row["clip_id"]))
        if one is None or one.problem:
            continue
        for name in ("width", "height", "n_frames"):
            said, real = row.get(name), getattr(one, name)
            if said is not None and real and int(said) != real:
                found.append(_differs(one.clip_id, name, f"{int(said)}", f"{real}"))
        said, real = row.get("fps"), one.fps
        if said is not None and math.isfinite(real) and abs(float(said) - real) > _FPS_TOLERANCE:
            found.append(_differs(one.clip_id, "fps", f"{float(said):.3f}", f"{real:.3f}"))
    return found


def _differs(clip_id: str, name: str, said: str, real: str) -> Finding:
    return Finding("warning", "wrong value", (clip_id,), f"{name} is {real}, the manifest says {said}.")


def _rights(rows: Sequence[Row]) -> list[Finding]:
    found = []
    for column in RIGHTS_COLUMNS:
        empty = tuple(str(row["clip_id"]) for row in rows if column in row and not _text(row, column).strip())
        if empty:
            found.append(Finding("warning", f"no {column}", empty, f"{len(empty)} rows have no {column}."))
    return found


def _report(folder: Path, rows: Sequence[Row], seen: Mapping[str, Inspected], found: list[Finding]) -> AuditReport:
    order = {"error": 0, "warning": 1, "note": 2}
    findings = sorted(set(found), key=lambda one: (order[one.severity], one.kind, one.clips, one.detail))
    splits = sorted({str(row["split"]) for row in rows})
    parts = {name: [row for row in rows if row["split"] == name] for name in splits}
    summaries = {name: _summed(part, seen) for name, part in parts.items()}
    return AuditReport(Path(folder).resolve().name, summaries, tuple(findings), len(rows))


def _summed(rows: Sequence[Row], seen: Mapping[str, Inspected]) -> SplitSummary:
    ones = [seen.get(str(row["clip_id"]), Inspected("")) for row in rows]
    good = [one for one in ones if not one.problem and one.width]
    seconds = [one.duration_s for one in good if math.isfinite(one.duration_s)]
    return SplitSummary(
        clips=len(rows),
        hours=round(math.fsum(seconds) / 3600.0, 6),
        genres=_counted(_text(row, "genre") or "unknown" for row in rows),
        fps=_counted(f"{one.fps:.2f}" if math.isfinite(one.fps) else "unknown" for one in good),
        sizes=_counted(f"{one.width}x{one.height}" for one in good),
        without_sound=sum(not one.has_audio for one in good),
    )


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
