"""``macebench generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from macebench.cli.console import progress_bar, say
from macebench.errors import EXIT_OK, EXIT_UNSCORED, UserError


def generate(
    model: Annotated[str, typer.Option(help="Registered model.")],
    dataset: Annotated[str | None, typer.Option(help="Dance to the sound of these clips: DIR or DIR:SPLIT.")] = None,
    music: Annotated[Path | None, typer.Option(help="Dance to the sound files of this folder.")] = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("generated"),
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Only the first N pieces.")] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="Python file that registers more.")] = None,
) -> int:
    """Run one model over music and write one video for each piece."""
    from macebench.clips import REFERENCE_SPLIT, SOUND_SUFFIXES, load_set
    from macebench.generate import generate as run_model
    from macebench.generate import music_of
    from macebench.registry import load_plugin

    for path in plugin or ():
        load_plugin(path)
    if (dataset is None) == (music is None):
        raise UserError("give either --dataset or --music.")
    if music is not None:
        pieces = {p.stem: p for p in sorted(music.glob("*")) if p.suffix.lower() in SOUND_SUFFIXES}
        pieces = dict(list(pieces.items())[:limit])
    else:
        clips = load_set(str(dataset), default_split=REFERENCE_SPLIT, limit=limit).clips
        pieces = music_of(clips, out / "music")
    with progress_bar() as progress:
        made = run_model(model, pieces, out, seed=seed, progress=progress)
    say(f"{len(made.videos)} videos in {out}")
    for clip_id, reason in made.failed.items():
        say(f"  failed: {clip_id}: {reason}")
    return EXIT_UNSCORED if made.failed else EXIT_OK
