"""Verification: computes every number of a row again from the run's per-clip data.

What is checked: the hash of ``clips.parquet``; that the stored protocol hashes to the stored hash and is the row's;
that the reference clips are those of the protocol; counts of clips; and value, n, unscored and the reference set's own
value of every score. Rows that came before the last one (no score of theirs has it) are not asked for it.
Values agree when they differ by at most 1e-9, relative or absolute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from macebench.clips import set_hash
from macebench.errors import UserError
from macebench.leaderboards.recompute import recompute
from macebench.leaderboards.schema import VERSIONS, Cell, ScoreRow, as_float, read_board
from macebench.media import file_sha256
from macebench.protocol import Protocol
from macebench.report.numbers import incomplete
from macebench.results import CLIPS_FILE, TIMING_FILE, Entry, RunResult, split_piece
from macebench.tables import read_clips
from macebench.types import Clip, Score

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Finding:
    """Something that does not agree.

    Attributes:
        model: The row's model; empty when it concerns the whole run.
        protocol_hash: The row's protocol.
        what: Column or field.
        stored: What the row or the run says.
        found: What was computed again.
    """

    model: str
    protocol_hash: str
    what: str
    stored: str
    found: str

    def __str__(self) -> str:
        row = f"{self.model} under {self.protocol_hash}: " if self.model else ""
        return f"{row}{self.what} is {self.stored}, computed again {self.found}"


def same(first: float | None, second: float | None) -> bool:
    """Whether two values agree; None and NaN both mean: no value."""
    one = math.nan if first is None else first
    two = math.nan if second is None else second
    if math.isnan(one) or math.isnan(two):
        return math.isnan(one) and math.isnan(two)
    return math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def verify(board_or_run: Path, run: Path) -> list[Finding]:
    """Compute the rows again that come from `run`.

    Args:
        board_or_run: A board (CSV): its valid rows that come from this run are checked: those that name it or its
            per-clip data, and those of its models and protocols whose own run is not at hand. Or the run folder
            itself: the scores in its ``result.json`` are checked.
        run: Run folder with the per-clip data.

    Returns:
        Everything that does not agree; empty when all does.

    Raises:
        UserError: board or run cannot be read, or no row of the board comes from the run, or only retracted ones.
    """
    result = RunResult.read(run)
    if Path(board_or_run).is_dir():
        return check_rows(rows_of(board_or_run), result, run)
    found = [row for row in read_board(board_or_run) if _comes_from(row, board_or_run, run, result)]
    mine = [row for row in found if row.status == "valid"]
    if found and not mine:
        told = "; ".join(f"{row.model!r} under {row.protocol_hash}: {row.status_reason}" for row in found)
        raise UserError(
            f"every row of {board_or_run} that comes from the run {run} is retracted: {told}.",
            hint="Retracted rows are not verified.",
        )
    if not mine:
        raise UserError(
            f"no valid row of {board_or_run} comes from the run {run}.",
            hint="Give the run folder that the row was added from; the column `run` names it.",
        )
    return check_rows(mine, result, run)


def _comes_from(row: ScoreRow, board: Path, run: Path, result: RunResult) -> bool:
    """Whether `run` is the run that `row` was added from, as far as the row tells."""
    if row.clips_sha256 == result.clips_sha256:
        return True
    local = (Path(board).parent / row.run).resolve() if row.run and "://" not in row.run else None
    if local is not None and local.is_dir():
        return local == Path(run).resolve()
    return row.key in {(entry.model.name, entry.protocol_hash) for entry in result.entries}


def check_rows(rows: list[ScoreRow], result: RunResult, run: Path) -> list[Finding]:
    """Findings of `rows` against the per-clip data of `run`."""
    path = Path(run) / CLIPS_FILE
    clips, sha256 = read_clips(path), file_sha256(path)
    findings = []
    if sha256 != result.clips_sha256:
        findings.append(Finding("", "", f"SHA-256 of {CLIPS_FILE}", result.clips_sha256, sha256))
    for row in rows:
        findings += _check_row(row, result, clips, sha256)
    return findings


def _check_row(row: ScoreRow, result: RunResult, clips: pd.DataFrame, sha256: str) -> Iterator[Finding]:
    def differ(what: str, stored: object, found: object) -> Iterator[Finding]:
        if stored != found:
            yield Finding(row.model, row.protocol_hash, what, str(stored), str(found))

    yield from differ("clips_sha256", row.clips_sha256, sha256)
    protocol = parse_stored(result.protocols.get(row.protocol_hash))
    if protocol is None:
        yield Finding(row.model, row.protocol_hash, "protocol", row.protocol_hash, "absent from the run, or invalid")
        return
    for name, value in _protocol_fields(protocol).items():
        yield from differ(name, getattr(row, name), value)
    mine = clips[clips["protocol_hash"] == row.protocol_hash]
    reference = mine[mine["role"] == "reference"]
    generated = mine[(mine["role"] == "generated") & (mine["model"] == row.model)]
    if protocol.reference is not None:
        files = _reference_files(reference, windows=protocol.sampling.window_frames is not None)
        yield from differ("reference_sha256", row.reference_sha256, set_hash(files))
        yield from differ("n_reference", row.n_reference, len(files))
    yield from differ("n_clips", row.n_clips, len(generated))
    if row.n_incomplete is not None:
        yield from differ("n_incomplete", row.n_incomplete, int((generated["reasons"] != "{}").sum()))
    if protocol.hash == row.protocol_hash:
        found = recompute(row.model, protocol, clips, row.scores, result.metric_versions)
        yield from _check_scores(row, found.scores)
        yield from _check_references(row, found.reference)


def parse_stored(stored: Mapping[str, Any] | None) -> Protocol | None:
    """The protocol of a ``result.json``; None when it is not there or not valid."""
    try:
        return Protocol.model_validate(stored)
    except ValidationError:
        return None


def _reference_files(reference: pd.DataFrame, *, windows: bool) -> list[Clip]:
    """The files behind the reference rows; with `windows`, several rows are of one."""
    columns = (reference[name] for name in ("clip_id", "sha256", "music_sha256"))
    files = {
        (split_piece(str(clip_id))[0] if windows else str(clip_id)): Clip("x", Path(), str(video), None, str(music))
        for clip_id, video, music in zip(*columns, strict=True)
    }
    return list(files.values())


def _check_scores(row: ScoreRow, scores: Mapping[str, Score]) -> Iterator[Finding]:
    total = sum(score.n_unscored for score in scores.values())
    if total != row.n_unscored:
        yield Finding(row.model, row.protocol_hash, "n_unscored", str(row.n_unscored), str(total))
    for name in sorted({*row.scores, *scores}):
        cell, score = row.scores.get(name), scores.get(name)
        if cell is None or score is None:
            yield Finding(row.model, row.protocol_hash, name, "absent" if cell is None else "there",
                          "absent" if score is None else "there")  # fmt: skip
            continue
        if not same(cell.value, score.value):
            yield Finding(row.model, row.protocol_hash, name, repr(as_float(cell)), repr(score.value))
        for what, stored, found in (("n", cell.n, score.n), ("unscored", cell.unscored, score.n_unscored)):
            if stored != found:
                yield Finding(row.model, row.protocol_hash, f"{name}.{what}", str(stored), str(found))


def _check_references(row: ScoreRow, own: Mapping[str, Score]) -> Iterator[Finding]:
    """The reference set's own values; a row in which none is stored came before they were."""
    if all(cell.reference is None for cell in row.scores.values()):
        return
    for name, cell in sorted(row.scores.items()):
        found = own[name].value if name in own else math.nan
        if not same(cell.reference, found):
            stored = math.nan if cell.reference is None else cell.reference
            yield Finding(row.model, row.protocol_hash, f"{name}.reference", repr(stored), repr(found))


def _protocol_fields(protocol: Protocol) -> dict[str, Any]:
    backend, reference = protocol.pose_backend, protocol.reference
    return {
        "protocol": protocol.id,
        "protocol_hash": protocol.hash,
        "pose_backend": f"{backend.name} {backend.model}".strip() if backend else "",
        "reference": reference.name if reference else "",
        "reference_sha256": reference.sha256 if reference else "",
        "n_reference": reference.n if reference else 0,
    }


def rows_of(run: Path, *, location: str = "") -> list[ScoreRow]:
    """The rows that a run folder says of itself.

    Args:
        run: Run folder.
        location: What the column ``run`` says.

    Raises:
        UserError: the run folder cannot be read or has an entry without a valid protocol.
    """
    result = RunResult.read(run)
    cost = _cost(run, result)
    return [_row_of(entry, result, location, cost) for entry in result.entries]


def _row_of(entry: Entry, result: RunResult, location: str, cost: Mapping[str, Any]) -> ScoreRow:
    protocol = parse_stored(result.protocols.get(entry.protocol_hash))
    if protocol is None:
        raise UserError(f"the run has no valid protocol {entry.protocol_hash} for {entry.model.name!r}.",
                        hint="Run the evaluation again.")  # fmt: skip
    fields = _protocol_fields(protocol) | {"protocol_hash": entry.protocol_hash}
    return ScoreRow(
        model=entry.model.name,
        kind=entry.model.kind,
        n_clips=entry.n_clips,
        n_unscored=sum(score.n_unscored for score in entry.scores),
        n_incomplete=incomplete(entry),
        scores={
            item.name: Cell(value=item.value, n=item.n, unscored=item.n_unscored, reference=item.reference)
            for item in entry.scores
        },
        versions={name: result.environment[name] for name in VERSIONS if name in result.environment},
        clips_sha256=result.clips_sha256,
        run=location,
        **fields,
        **cost,
    )


def _cost(run: Path, result: RunResult) -> dict[str, Any]:
    """Cost columns; ``timing.json`` may be absent."""
    import json

    device = result.environment.get("device", result.environment.get("machine", ""))
    path = Path(run) / TIMING_FILE
    if not path.is_file():
        return {"evaluator_device": device}
    try:
        seconds = json.loads(path.read_text("utf-8"))["seconds"]
        total = math.fsum(float(value) for value in seconds.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no timing file: {error!r}", hint="Delete it or run the evaluation again."
        ) from error
    return {"evaluator_device": device, "evaluator_seconds": round(total, 3)}
