"""``macebench generate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macebench.cli.console import duration, progress_bar, say
from macebench.cli.plugins import Plugins, load_all
from macebench.errors import EXIT_OK, EXIT_UNSCORED, UserError

if TYPE_CHECKING:
    from macebench.generate import Generated, Planned

DEFAULT_FORMATS = {"motion": "npz,mp4", "video": "mp4"}
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Weights: .safetensors, or the authors' .pt. \\[the one in the package]"),
]
Genre = Annotated[str | None, typer.Option(help="Genre, one of those the checkpoint was trained on. \\[unknown genre]")]
Beta = Annotated[
    float | None,
    typer.Option(help="Guidance, 0 to 1: near 0 keeps most to the music, 1 is no guidance. \\[0.75]"),
]
Scale = Annotated[float | None, typer.Option(help="Guidance weight; only for checkpoints trained with cfg. \\[2]")]
TrainingSet = Annotated[
    Path | None,
    typer.Option(help="Folder that random-phrases and nearest-music take dances from. \\[procedural pieces]"),
]
_MODEL = "Model to run: motion-expert, mace-dance, ... (`macebench ls models`)."
_DATASET = "Take the sound of these clips as music: DIR or DIR:SPLIT. Give this or --music."
_FORMAT = "npz, bvh, aist, mp4, or several with commas (then one folder each). \\[npz,mp4; mp4 for video models]"


def generate(
    model: Annotated[str, typer.Option(help=_MODEL)],
    dataset: Annotated[str | None, typer.Option(help=_DATASET)] = None,
    music: Annotated[Path | None, typer.Option(help="Dance to a sound file, or to those of a folder.")] = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("generated"),
    form: Annotated[str | None, typer.Option("--format", help=_FORMAT)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the run.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(help="How many different dances for each piece.", min=1)] = 1,
    limit: Annotated[int | None, typer.Option(help="Only the first N pieces.", min=1)] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 1,
    checkpoint: Checkpoint = None,
    genre: Genre = None,
    beta: Beta = None,
    scale: Scale = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps of ddim; fewer is faster. \\[50]")] = None,
    eta: Annotated[float | None, typer.Option(help="Fresh noise in each ddim step, 0 (none) to 1. \\[1]")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddim or ddpm.")] = None,
    training_set: TrainingSet = None,
    seconds: Annotated[float | None, typer.Option(help="Only the first N seconds of each piece.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Refuse longer pieces; at most 1200. \\[600]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done, and stop.")] = False,
    plugin: Plugins = None,
) -> int:
    """Run one model over music and write a dance for each piece; what is there already is kept.

    Options from --checkpoint to --device belong to the model; one that it does not take is an error.

    Example: macebench generate --model motion-expert --music song.wav --out dances

    Example: macebench generate --model motion-expert --music songs/ --format npz --beta 0.5 --seeds 4 --workers 2
    """
    from macebench.generate import check_options, plan_generation
    from macebench.generate import generate as run_model

    load_all(plugin)
    given = {
        "checkpoint": checkpoint, "genre": genre, "beta": beta, "scale": scale, "steps": steps, "eta": eta,
        "sampler": sampler, "seconds": seconds, "max_seconds": max_seconds, "device": device,
        "training_set": training_set,
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    check_options(model, options, given)
    pieces = _with_seeds(_pieces(dataset, music, out, limit), seeds)
    formats = _formats(model, form)
    if plan:
        return _show_plan(plan_generation(model, pieces, out, seed=seed, formats=formats, options=options), out)
    with progress_bar() as progress:
        made = run_model(
            model, pieces, out, seed=seed, formats=formats, options=options, workers=workers,
            plugins=tuple(plugin or ()), progress=progress,
        )  # fmt: skip
    return _show(made, formats, out)


def _pieces(dataset: str | None, music: Path | None, out: Path, limit: int | None) -> dict[str, Path]:
    """Id -> sound file."""
    from macebench.clips import REFERENCE_SPLIT, load_set
    from macebench.generate import music_of

    if (dataset is None) == (music is None):
        raise UserError("give either --dataset or --music.")
    if music is None:
        clips = load_set(str(dataset), default_split=REFERENCE_SPLIT, limit=limit).clips
        return music_of(clips, out / "music")
    return dict(list(_sounds(music).items())[:limit])


def _sounds(music: Path) -> dict[str, Path]:
    """Stem -> file; of two files with one stem the second keeps its suffix in the id."""
    from macebench.clips import SOUND_SUFFIXES

    if music.is_file():
        return {music.stem: music}
    if not music.is_dir():
        raise UserError(f"--music {music} does not exist.", hint="Give a sound file, or a folder of some.")
    found: dict[str, Path] = {}
    for path in sorted(music.iterdir()):
        if path.is_file() and path.suffix.lower() in SOUND_SUFFIXES:
            found[path.name if path.stem in found else path.stem] = path
    if not found:
        raise UserError(
            f"there is no music in {music}: no file that ends in {', '.join(SOUND_SUFFIXES)}.",
            hint="Sub-folders are not searched; give the folder that holds the files.",
        )
    return found


def _with_seeds(pieces: dict[str, Path], count: int) -> dict[str, Path]:
    """Each piece `count` times, under numbered ids: the seed follows from the id."""
    if count == 1:
        return pieces
    digits = max(2, len(str(count - 1)))
    return {f"{name}-{number:0{digits}d}": path for name, path in pieces.items() for number in range(count)}


def _formats(model: str, form: str | None) -> tuple[str, ...]:
    from macebench.prepare import model_card

    chosen = form if form is not None else DEFAULT_FORMATS[model_card(model).kind]
    formats = tuple(dict.fromkeys(part.strip() for part in chosen.split(",") if part.strip()))
    if not formats:
        raise UserError(f"--format {chosen!r} names no format.", hint="For example --format npz,mp4.")
    return formats


def _show_plan(planned: Planned, out: Path) -> int:
    say(f"pieces            {planned.pieces}, of which {planned.done} are in {out}")
    say(f"music to dance to {duration(planned.music_s)}")
    say(f"estimated time    {duration(planned.seconds)}, plus music features and pictures")
    for clip_id, reason in planned.unreadable.items():
        say(f"  cannot be read: {clip_id}: {reason}")
    return EXIT_OK


def _show(made: Generated, formats: tuple[str, ...], out: Path) -> int:
    from macebench.report.numbers import plural

    say(f"{plural(len(made.videos), 'dance')} as {', '.join(formats)} in {out}")
    if made.frames:
        rate = made.frames / made.seconds
        say(f"sampled {plural(made.frames, 'frame')} in {made.seconds:.1f} s: {rate:.0f} frames a second")
    for clip_id, note in made.notes.items():
        say(f"  note: {clip_id}: {note}")
    for clip_id, reason in made.failed.items():
        say(f"  failed: {clip_id}: {reason}")
    return EXIT_UNSCORED if made.failed else EXIT_OK
