"""Raw video files with planted faults and known truth: what curation is tested and shown on.

Layout of the folder: ``sources/`` holds the raw files, ``truth.json`` what is known of them
(`macebench.demo.rawset_truth`), ``optout.txt`` the SHA-256 of the sources whose owners opted out, one a line.

Everything is made by code: music with clicks (`rawset_sound`), dances of the procedural choreographer in furnished
rooms (`rawset_stage`), edits at known pictures (`rawset_edit`), odd and broken files (`rawset_files`). Every source
that must be kept has music and a dance of its own. The clicks are shown as a small square in the corner, so that the
place of the sound can be checked against the picture (`SourceTruth.marked`); it is about 0.2 % of the picture.

A source depends on the settings and its own name only: not on the number of workers. The same settings give the
same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from macebench.demo.rawset_files import TEMPORARY
from macebench.demo.rawset_kept import KEPT, Recipe, small_cuts, small_fade
from macebench.demo.rawset_rejected import (
    OPTOUT_FILE,
    REJECTED,
    abstract_shapes,
    broken,
    duplicate,
    one_fault,
    skeleton,
    still_dancer,
    two_dancers,
)
from macebench.demo.rawset_take import SOURCES, Bench
from macebench.demo.rawset_truth import (
    TRUTH_FILE,
    VERSION,
    Dropped,
    RawTruth,
    SourceTruth,
    read_truth,
    write_truth,
)
from macebench.errors import UserError

__all__ = [
    "OPTOUT_FILE",
    "SOURCES",
    "TRUTH_FILE",
    "Dropped",
    "RawTruth",
    "SourceTruth",
    "build_raw_set",
    "read_truth",
    "recipe_names",
]

_SMALL: dict[str, Recipe] = {
    "small_cuts": small_cuts,
    "small_fade": small_fade,
    "still_dancer": still_dancer,
    "two_dancers": two_dancers,
    "abstract_shapes": abstract_shapes,
    "skeleton": skeleton,
    "one_fault": one_fault,
    "broken": broken,
}
_STAMP = ".settings"
_PARTS = ".parts"


def recipe_names(*, small: bool = False) -> tuple[str, ...]:
    """Names of the recipes of a set; a recipe makes one or more sources."""
    return tuple(_SMALL) if small else (*KEPT, *REJECTED)


def build_raw_set(
    out: Path,
    *,
    seed: int = 0,
    size: int | None = None,
    workers: int = 1,
    small: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> RawTruth:
    """Build the raw set, or finish a build that was interrupted.

    Args:
        out: Folder of the set; made when missing.
        seed: Seed of the whole set.
        size: Shorter side of most pictures in pixels, a multiple of 16; 288, or 256 for a small set, when None.
        workers: Processes; the result does not depend on it.
        small: A few sources at 15 frames a second, for quick tests.
        progress: Called with (recipes done, recipes in all).

    Raises:
        UserError: settings out of range, or `out` holds something else.
    """
    size = size or (256 if small else 288)
    if size < 64 or size % 16 or seed < 0:
        raise UserError(f"a raw set of size {size} with seed {seed} cannot be made.",
                        hint="Sizes are multiples of 16 from 64 on, seeds 0 or above.")  # fmt: skip
    settings: dict[str, Any] = {"seed": seed, "size": size, "small": small}
    out, names = Path(out), recipe_names(small=small)
    _claim(out, settings)
    bench = Bench(out, seed, size, Fraction(15 if small else 30))
    made = {name: sources for name in names if (sources := _finished(out, name)) is not None}
    report = progress or (lambda _done, _total: None)
    report(len(made), len(names))
    for name, sources in _made(bench, [name for name in names if name not in made], small, max(1, workers)):
        _write_part(out, name, sources)
        made[name] = sources
        report(len(made), len(names))
    known = [source for name in names for source in made[name]]
    known.append(duplicate(out, next(source for source in known if source.file_name == "hard_cuts.mp4")))
    truth = RawTruth(tuple(sorted(known, key=lambda source: source.file_name)), settings)
    _write_optout(out, truth)
    write_truth(out / TRUTH_FILE, truth)
    return truth


def make_sources(bench: Bench, name: str, *, small: bool = False) -> tuple[SourceTruth, ...]:
    """Follow one recipe of `recipe_names`: writes its files and returns what is known of them."""
    import cv2

    from macebench.media import file_sha256

    cv2.setNumThreads(1)
    sources = (_SMALL if small else {**KEPT, **REJECTED})[name](bench)
    folder = bench.out / SOURCES
    return tuple(replace(source, sha256=file_sha256(folder / source.file_name)) for source in sources)


def _made(bench: Bench, names: list[str], small: bool, workers: int) -> Iterator[tuple[str, tuple[SourceTruth, ...]]]:
    """Recipes and what is known of their sources, as they are finished."""
    if workers == 1 or len(names) < 2:
        yield from ((name, make_sources(bench, name, small=small)) for name in names)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from macebench.demo.dataset import _one_thread_each

    with _one_thread_each(), ProcessPoolExecutor(min(workers, len(names)), get_context("spawn")) as pool:
        jobs = {pool.submit(make_sources, bench, name, small=small): name for name in names}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        finally:
            for job in jobs:
                job.cancel()


def _write_part(out: Path, name: str, sources: tuple[SourceTruth, ...]) -> None:
    write_truth(out / _PARTS / f"{name}.json", RawTruth(sources))


def _finished(out: Path, name: str) -> tuple[SourceTruth, ...] | None:
    """What is known of the sources of a recipe that was followed before and whose files are whole, else None."""
    from macebench.media import file_sha256

    try:
        sources = read_truth(out / _PARTS / f"{name}.json").sources
    except UserError:
        return None
    files = [(out / SOURCES / source.file_name, source.sha256) for source in sources]
    return sources if all(path.is_file() and file_sha256(path) == sha256 for path, sha256 in files) else None


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Mark the folder as a raw set of these settings, and sweep out what a killed build left.

    Raises:
        UserError: it is something else.
    """
    from macebench.store import write_text

    text = json.dumps({"raw set": VERSION, **settings}, sort_keys=True)
    stamp = out / _STAMP
    if stamp.is_file() and stamp.read_text("utf-8").strip() == text:
        for left in (out / SOURCES).rglob(f"{TEMPORARY}*"):
            shutil.rmtree(left)
        return
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and no raw set of these settings.", hint="Choose another folder.")
    write_text(stamp, text + "\n")


def _write_optout(out: Path, truth: RawTruth) -> None:
    from macebench.store import write_text

    hashes = sorted(source.sha256 for source in truth.sources if source.reason == "opted out")
    write_text(out / OPTOUT_FILE, "\n".join(["# SHA-256 of sources whose owners opted out", *hashes]) + "\n")
