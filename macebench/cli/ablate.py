"""``macebench ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from macebench.cli.console import progress_bar, say
from macebench.cli.plugins import Plugins, load_all
from macebench.cli.train import Changes, Data, Threads, Workers, changes_of
from macebench.errors import EXIT_OK, EXIT_UNSCORED

app = typer.Typer(help="Train and score variants of a model at one equal budget.", no_args_is_help=True)
_VARIANT = (
    "Only this one of full, 'bimamba->mamba', 'bimamba->transformer', 'gft->cfg'; repeatable. Quote them: > is special "
    "in a shell."
)
_BETAS = "Also measure the diversity of `full` at these betas: 0.25,0.5,1."


@app.callback()
def _group() -> None:
    """Train and score variants of a model at one equal budget."""


@app.command("motion-expert")
def motion_expert(
    out: Annotated[Path, typer.Option(help="Folder of the ablation.")] = Path("runs/ablation"),
    config: Annotated[Path | None, typer.Option(help="YAML file of settings of a training.")] = None,
    changes: Changes = None,
    data: Data = None,
    steps: Annotated[int | None, typer.Option(help="Updates of each variant and seed. \\[20000]", min=1)] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each variant.", min=1)] = 3,
    variant: Annotated[list[str] | None, typer.Option(help=_VARIANT)] = None,
    clips: Annotated[int, typer.Option(help="Dances that are sampled of each training.", min=2)] = 32,
    ddim_steps: Annotated[int, typer.Option(help="Denoising steps of a sample.", min=1)] = 50,
    betas: Annotated[str | None, typer.Option(help=_BETAS)] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N sequences of each data set.", min=1)] = None,
    workers: Workers = 1,
    threads: Threads = None,
    plugin: Plugins = None,
) -> int:
    """Train the Motion Expert and its variants of the paper's Table 2, score them, write the table.

    Every training has the same steps, batch, data and seeds. Started again, it goes on where it stopped.

    Example: macebench ablate motion-expert --steps 2000 --seeds 3 --data demo --out runs/ablation
    """
    from macebench.models.training.ablation import Ablation, ablate, parse_betas
    from macebench.models.training.config import load_config

    load_all(plugin)
    settings = load_config(config, [*(changes or ()), *changes_of(data=data, steps=steps, threads=threads)])
    job = Ablation(
        settings, out, seeds, tuple(variant or ()), clips, ddim_steps, parse_betas(betas), limit=limit, workers=workers
    )
    with progress_bar() as progress:
        result = ablate(job, progress, say)
    say()
    say(result.markdown.rstrip())
    say()
    say(f"table       {result.table}")
    say(f"plot        {result.plot}")
    return EXIT_UNSCORED if result.lacking else EXIT_OK
