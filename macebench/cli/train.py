"""``macebench train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macebench.cli.console import duration, progress_bar, say
from macebench.cli.plugins import Plugins, load_all
from macebench.errors import EXIT_OK, UserError

if TYPE_CHECKING:
    from macebench.models.training.config import TrainingConfig

app = typer.Typer(help="Train a model (motion-expert).", no_args_is_help=True)
_SET = "Change one setting: lr=2e-4, network.mixer=mamba, recipe=released (the authors' settings); repeatable."
_DATA = (
    "demo, demo:N:SECONDS, cmu:DIR:N[:SECONDS], aist:DIR, finedance:DIR, folder:MOTIONS:MUSIC, NAME or NAME:TEXT of "
    "`macebench ls dances`, or a built training set; repeatable: the sets are joined."
)
_PLAN = "Build the data, measure three steps, say how long it takes, and stop."
_FRESH = "Go on from the last checkpoint, or DELETE this run's files and start anew."
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help=_SET)]
Data = Annotated[
    list[str] | None,
    typer.Option(help=_DATA),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads. \\[all cores]", min=1)]
Workers = Annotated[int, typer.Option(help="Processes that prepare the data.", min=1)]


@app.command("motion-expert")
def motion_expert(
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings; --print-config shows all of them.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder (needed to train).")] = None,
    changes: Changes = None,
    data: Data = None,
    steps: Annotated[int | None, typer.Option(help="Updates of the weights. \\[20000]", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N sequences of each data set.", min=1)] = None,
    workers: Workers = 1,
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume/--fresh", help=_FRESH)] = True,
    plan: Annotated[bool, typer.Option("--plan", help=_PLAN)] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print all settings, and stop.")] = False,
    plugin: Plugins = None,
) -> int:
    """Train the Motion Expert: music to 3-D dance.

    A run that was interrupted or killed goes on where its last checkpoint is, with the same losses.

    Example: macebench train motion-expert --out runs/train --data demo --steps 2000

    Example: macebench train motion-expert --config train.yaml --out runs/train --set lr=2e-4 --plan

    Example: accelerate launch --num_processes 8 -m macebench train motion-expert --config train.yaml --out runs/train
    """
    from macebench.models.training.config import config_text, load_config

    load_all(plugin)
    settings = load_config(config, [*(changes or ()), *changes_of(data=data, steps=steps, threads=threads)])
    if print_config:
        say(config_text(settings).rstrip())
        return EXIT_OK
    if out is None:
        raise UserError("--out is missing.", hint="Name the run folder with --out.")
    if plan:
        return _plan(settings, out, limit, workers)
    return _train(settings, out, resume, limit, workers)


def changes_of(**options: object) -> list[str]:
    """Options that were given, as changes of settings."""
    return [f"{name}={json.dumps(value)}" for name, value in options.items() if value is not None]


def _train(config: TrainingConfig, out: Path, resume: bool, limit: int | None, workers: int) -> int:
    from macebench.models.training.trainer import train

    with progress_bar() as progress:
        result = train(config, out, resume=resume, limit=limit, workers=workers, progress=progress, say=say)
    if not result.main:
        return EXIT_OK
    say(f"steps       {result.steps} in {duration(result.seconds)} (this call)")
    say(f"parameters  {result.parameters:,}")
    say(f"loss        {result.loss:.5f} (mean of the last {result.loss_steps} steps)")
    for name, value in result.validation.items():
        say(f"  {name:<20} {value:.5g}")
    if result.skipped:
        say(f"left out    {result.skipped} steps whose gradient was no number")
    say(f"weights     {result.model}")
    say(f"run folder  {out}")
    return EXIT_OK


def _plan(config: TrainingConfig, out: Path, limit: int | None, workers: int) -> int:
    from macebench.models.training.trainer import plan

    with progress_bar() as progress:
        found = plan(config, out, limit=limit, workers=workers, progress=progress)
    say(f"data              {found.sequences} sequences, {found.frames} frames ({duration(found.frames / 30)})")
    for note in found.notes:
        say(f"                  {note}")
    say(f"parameters        {found.parameters:,}")
    say(f"device            {found.device}")
    say(f"steps left        {found.steps_left}, {found.seconds_per_step:.3f} s each (measured)")
    say(f"estimated time    {duration(found.seconds)}, without validation")
    say(f"settings          {config.hash[:12]}")
    return EXIT_OK
