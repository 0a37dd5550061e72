"""``macebench convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from macebench.cli.console import progress_bar, say
from macebench.errors import EXIT_OK, EXIT_UNSCORED, UserError


def convert(
    sources: Annotated[list[Path], typer.Argument(help="Motion files, or folders that hold some.")],
    out: Annotated[Path, typer.Option(help="Folder for the .npz files.")],
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Read pickles, too. Numbers are read, nothing in them is run.")
    ] = False,
    fps: Annotated[
        float | None, typer.Option(help="Frame rate of files that do not state one. Nothing is resampled.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="What a pickle is: auto, aist, edge, mace, megadance, bailando, isaacgym.")
    ] = "auto",
    up: Annotated[
        str, typer.Option(help="z turns every file a quarter, y none. For files whose bodies lie after a conversion.")
    ] = "y",
    scale: Annotated[float, typer.Option(help="Metres in one unit of the files' lengths: 0.01 for centimetres.")] = 1.0,
    limit: Annotated[int | None, typer.Option(help="Only the first N files.")] = None,
) -> int:
    """Turn motion files of other projects into macebench's .npz (metres, y up, SMPL-24)."""
    from macebench.motion.convert import convert_files, plan
    from macebench.motion.files import MAX_FPS
    from macebench.store import ensure_writable

    if fps is not None and not 0 < fps <= MAX_FPS:
        raise UserError(f"--fps is {fps}; it must be above 0 and at most {MAX_FPS:.0f}.")
    if limit is not None and limit < 1:
        raise UserError(f"--limit is {limit}; it must be 1 or more.")
    pairs = plan(sources, out, limit=limit)
    ensure_writable(out)
    with progress_bar() as progress:
        done = convert_files(
            pairs, trust_pickle=trust_pickle, fps=fps, form=form, up=up, scale=scale, progress=progress
        )
    say(f"{len(done.written)} written, {len(done.unchanged)} unchanged, {len(done.failed)} failed; {out}")
    for source, note in done.notes.items():
        say(f"  note: {source}: {note}")
    for source, reason in done.failed.items():
        say(f"  failed: {source}: {reason}")
    return EXIT_UNSCORED if done.failed else EXIT_OK
