"""The run folder of paired videos (track ``animation``): as `macebench.runfolder`, without poses and curves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from macebench.animation import PairedScores, resolve_animation, score_pairs
from macebench.clips import REFERENCE_SPLIT, ClipSet, load_set
from macebench.engine import EngineName
from macebench.pairs import first_pairs, pair_clips, read_pairs
from macebench.prepare import model_card
from macebench.protocol import load_protocol
from macebench.results import CLIPS_FILE, RESULT_FILE, Entry, RunResult, with_reference
from macebench.run import Progress, environment, model_record, silent
from macebench.store import Store, ensure_writable, write_text
from macebench.tables import write_clips


@dataclass(frozen=True)
class PairConfig:
    """One evaluation of videos against the reference's videos of the same dances.

    Attributes:
        videos: Folder of generated videos.
        reference: Reference folder, or ``DIR:SPLIT`` of a data set.
        out: Run folder to write.
        protocol: Id or YAML file of a protocol with a section ``pixels``.
        model: Name of the row.
        align: What may be done to pairs that do not fit (`macebench.pairs`).
        table: CSV of generated and reference ids for names that do not agree.
        limit: Only the first so many pairs.
        workers: Worker processes.
        engine: ``local`` or ``ray``.
        store: Folder of the store; None is the user's.
        plugins: Python files that register more.
    """

    videos: Path
    reference: str
    out: Path
    protocol: str = "animation/1"
    model: str = "external"
    align: tuple[str, ...] = ()
    table: Path | None = None
    limit: int | None = None
    workers: int = 1
    engine: EngineName = "local"
    store: Path | None = None
    plugins: tuple[Path, ...] = ()


def evaluate_pairs(config: PairConfig, progress: Progress = silent) -> RunResult:
    """Score pairs of videos and write a run folder.

    Raises:
        UserError: nothing can be paired, videos do not fit, or the run folder cannot be written.
    """
    ensure_writable(config.out)
    generated = load_set(str(config.videos))
    reference = load_set(config.reference, default_split=REFERENCE_SPLIT)
    table = read_pairs(config.table) if config.table is not None else None
    pairs = first_pairs(pair_clips(generated.clips, reference.clips, table), config.limit)
    held = {pair.reference.clip_id for pair in pairs if pair.reference is not None}
    reference = ClipSet(reference.name, tuple(clip for clip in reference.clips if clip.clip_id in held))
    protocol = resolve_animation(load_protocol(config.protocol), reference, config.align)
    scored = score_pairs(
        pairs, protocol, store=Store(config.store), model=config.model, workers=config.workers, engine=config.engine,
        plugins=config.plugins, progress=lambda done, total: progress("pairs", done, total),
    )  # fmt: skip
    (config.out / RESULT_FILE).unlink(missing_ok=True)
    clips_sha256 = write_clips(config.out / CLIPS_FILE, scored.rows)
    entry, lost = _entry(config.model, scored)
    result = RunResult(
        protocols={protocol.hash: protocol.model_dump(mode="json")},
        entries=[entry],
        environment=environment(),
        clips_sha256=clips_sha256,
        reference_unscored={protocol.hash: lost},
    )
    write_text(config.out / RESULT_FILE, result.model_dump_json(indent=1) + "\n")
    return result


def _entry(model: str, scored: PairedScores) -> tuple[Entry, int]:
    """The row of the run, and the reference clips that lack a value."""
    mine = [row for row in scored.rows if row.role == "generated"]
    entry = Entry(
        model=model_record(model_card(model)),
        protocol_hash=scored.protocol.hash,
        n_clips=len(mine),
        n_incomplete=sum(bool(row.reasons) for row in mine),
        scores=with_reference(scored.scores, ()),
    )
    return entry, sum(bool(row.reasons) for row in scored.rows if row.role == "reference")
