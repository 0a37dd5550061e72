"""The demo's data set from raw videos: dances and planted bad sources go through the same curation as anybody's.

Layout of the folder: ``raw/dances`` (`macebench.demo.dataset`), ``raw/planted`` (`macebench.demo.rawset`: broken,
frozen, crowded and otherwise bad files with a known truth), ``raw/sources.parquet`` (what is known of each), and
``dataset``, which `macebench curate` makes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macebench.demo.dataset import LICENCE, build_demo_dataset
from macebench.demo.rawset import build_raw_set

if TYPE_CHECKING:
    from macebench.curation.config import CurateConfig
    from macebench.demo.rawset_truth import RawTruth

Progress = Callable[[str, int, int], None]
MIN_CLIP_S = 5.0
PLANTED_SPLIT = "val"
"""Planted sources that are rightly kept show whether curation works, not how one dances: they are in neither half."""


@dataclass(frozen=True)
class DemoData:
    """What the demo's curation made.

    Attributes:
        dataset: Folder of the data set.
        n_sources: Raw videos.
        n_clips: Clips that were kept.
        n_planted: Planted sources that must be dropped.
        wrong: Planted sources that were not dropped by the right stage for the right reason.
    """

    dataset: Path
    n_sources: int
    n_clips: int
    n_planted: int
    wrong: tuple[str, ...]


def build_demo_data(
    out: Path, *, n_clips: int, seconds: float, size: int, workers: int, store: Path | None, progress: Progress
) -> DemoData:
    """Make raw videos, curate them, and compare what was dropped with what is known.

    Args:
        out: Folder of the demo.
        n_clips: Dances; half of them become the reference half.
        seconds: Length of a dance; a clip is at most that long.
        size: Width and height of the dances in pixels.
        workers: Processes.
        store: Folder of the store; None is the user's.
        progress: Called with (phase, done, total).

    Raises:
        UserError: settings out of range, or folders of other settings.
    """
    from macebench.curation.pipeline import CurateJob, curate
    from macebench.report.curation import write_summary

    raw = Path(out) / "raw"
    dances = build_demo_dataset(
        raw / "dances", n_clips=n_clips, seconds=seconds, size=size, workers=workers,
        progress=lambda done, total: progress("dances", done, total),
    )  # fmt: skip
    truth = build_raw_set(
        raw / "planted", small=True, workers=workers, progress=lambda done, total: progress("planted", done, total)
    )
    table = _write_sources(raw, dances, truth)
    job = CurateJob(
        (str(table),), Path(out) / "dataset", demo_config(raw, seconds), workers=workers, store=store, prune=True
    )
    made = curate(job, lambda phase, done, total: progress(f"curate {phase}", done, total))
    write_summary(job.out)
    planted = [source.file_name for source in truth.rejected]
    return DemoData(job.out, made.n_sources, made.n_clips, len(planted), _wrong(job.out, truth))


def demo_config(raw: Path, seconds: float) -> CurateConfig:
    """Settings of the demo's curation: the usual ones, for dances that may be shorter than usual."""
    from macebench.curation.config import load_config

    shortest = round(min(MIN_CLIP_S, 0.8 * seconds), 3)
    return load_config(None, [
        f"probe.optout={raw / 'planted' / 'optout.txt'}",
        f"probe.min_duration_s={shortest}",
        f"shots.min_shot_s={shortest}",
        f"windows.min_s={shortest}",
        "splits.test_share=0.5",
        "splits.val_share=0",
    ])  # fmt: skip


def _write_sources(raw: Path, dances: Path, truth: RawTruth) -> Path:
    """The table of all raw videos: the dances keep their half, genre and music."""
    import pandas as pd

    from macebench.store import atomic_write

    known = pd.read_parquet(dances / "metadata.parquet")
    rows: list[dict[str, Any]] = [
        {
            "path": f"dances/{row['file_name']}", "genre": row["genre"], "music": row["clip_id"],
            "recording": row["clip_id"], "split": row["split"],
        }
        for row in known.to_dict("records")
    ]  # fmt: skip
    rows += [{"path": f"planted/sources/{source.file_name}", "split": PLANTED_SPLIT} for source in truth.sources]
    table = pd.DataFrame(rows).assign(licence=LICENCE, pairing="synthetic", source="demo", consent="nobody is shown")
    target = raw / "sources.parquet"
    with atomic_write(target) as temporary:
        table.to_parquet(temporary, index=False)
    return target


def _wrong(dataset: Path, truth: RawTruth) -> tuple[str, ...]:
    """Planted sources whose fate is not the known one."""
    import pandas as pd

    from macebench.curation.outcomes import OPTED_OUT
    from macebench.optout import mark

    clips = set(pd.read_parquet(dataset / "metadata.parquet", columns=["source_name"])["source_name"])
    ledger = pd.read_parquet(dataset / "ledger.parquet", columns=["source_name", "source_id", "stage", "reason"])
    dropped = {(row.source_name or row.source_id, row.stage, row.reason) for row in ledger.itertuples()}
    wrong = []
    for source in truth.sources:
        name = f"planted/sources/{source.file_name}"
        known = mark(source.sha256) if source.reason == OPTED_OUT else name
        rightly = any((known, source.stage, reason) in dropped for reason in source.reasons)
        if (name in clips) != (source.expect == "keep") or (source.expect == "reject" and not rightly):
            wrong.append(source.file_name)
    return tuple(wrong)
