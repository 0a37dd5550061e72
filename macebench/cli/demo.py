"""``macebench demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macebench.cli.console import progress_bar, say
from macebench.errors import UserError

if TYPE_CHECKING:
    from macebench.prepare import EvalConfig


def demo(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("macebench-demo"),
    clips: Annotated[int, typer.Option(help="Dances of the data set; at least 4.")] = 32,
    seconds: Annotated[float, typer.Option(help="Length of a dance in seconds.")] = 6.0,
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 512,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: the cores.")] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="Protocol id; repeatable.")] = None,
    pose: Annotated[str, typer.Option(help="Pose back end.")] = "blazepose",
    store: Annotated[Path | None, typer.Option(help="Folder of the store.")] = None,
) -> int:
    """The whole loop on videos made here: render dances, curate, estimate poses, score, rank, report.

    The raw videos are dances and planted bad sources, whose right fate is known. Half of the clips that are kept
    are the reference; the other half is scored as it is (ground-truth) and after known degradations, so that the
    order of the table can be checked by eye.
    """
    import os

    if clips < 4:
        raise UserError(f"--clips is {clips}; it must be 4 or more.")
    count = workers or os.cpu_count() or 1
    if pose == "blazepose":
        _pull("blazepose")
    dataset = _build(out, clips, seconds, size, count, store)
    return _evaluate(_config(dataset, out, count, tuple(protocol or ("ma2d-fixed/1",)), pose, store))


def _config(
    dataset: Path, out: Path, workers: int, protocols: tuple[str, ...], pose: str, store: Path | None
) -> EvalConfig:
    from macebench.cli.evaluate import ALL_CALIBRATIONS
    from macebench.prepare import EvalConfig

    return EvalConfig(
        reference=f"{dataset}:test",
        out=out / "run",
        model="ground-truth",
        protocols=protocols,
        calibrate=ALL_CALIBRATIONS,
        pose=pose,
        workers=workers,
        store=store,
    )


def _pull(name: str) -> None:
    from macebench import weights

    for row in weights.select(name):
        if weights.status(row.name) != "present":
            say(f"fetching {row.name} ({row.licence}) ...")
            weights.pull(row.name)


def _build(out: Path, clips: int, seconds: float, size: int, workers: int, store: Path | None) -> Path:
    from macebench.demo.curated import build_demo_data

    with progress_bar() as progress:
        made = build_demo_data(
            out, n_clips=clips, seconds=seconds, size=size, workers=workers, store=store, progress=progress
        )
    say(f"curated     {made.n_clips} clips of {made.n_sources} raw videos; see {made.dataset / 'summary.html'}")
    found = made.n_planted - len(made.wrong)
    say(f"planted     {found} of {made.n_planted} bad videos dropped by the right stage for the right reason")
    for name in made.wrong:
        say(f"  not as planted: {name}")
    return made.dataset


def _evaluate(config: EvalConfig) -> int:
    from macebench.cli.evaluate import run_and_show
    from macebench.leaderboards.board import add

    status = run_and_show(config)
    board = config.out.parent / "leaderboards" / "demo.csv"
    add(config.out, board, calibration=True)
    say(f"leaderboard {board}")
    say(f"check it    macebench leaderboard verify {board} --run {config.out}")
    return status
