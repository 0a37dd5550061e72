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
    clips: Annotated[int, typer.Option(help="Clips of the data set; at least 4.")] = 32,
    seconds: Annotated[float, typer.Option(help="Length of a clip in seconds.")] = 5.0,
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 512,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: the cores.")] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="Protocol id; repeatable.")] = None,
    pose: Annotated[str, typer.Option(help="Pose back end.")] = "blazepose",
    store: Annotated[Path | None, typer.Option(help="Folder of the store.")] = None,
) -> int:
    """The whole loop on a data set made here: render dances, estimate poses, score, rank, report.

    Half of the clips are the reference; the other half is scored as it is (ground-truth) and after known
    degradations, so that the order of the table can be checked by eye.
    """
    import os

    if clips < 4:
        raise UserError(f"--clips is {clips}; it must be 4 or more.")
    count = workers or os.cpu_count() or 1
    if pose == "blazepose":
        _pull("blazepose")
    dataset = _build(out / "dataset", clips, seconds, size, count)
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


def _build(folder: Path, clips: int, seconds: float, size: int, workers: int) -> Path:
    from macebench.demo.dataset import build_demo_dataset

    with progress_bar() as progress:
        return build_demo_dataset(
            folder, n_clips=clips, seconds=seconds, size=size, workers=workers,
            progress=lambda done, total: progress("render", done, total),
        )  # fmt: skip


def _evaluate(config: EvalConfig) -> int:
    from macebench.cli.evaluate import run_and_show
    from macebench.leaderboards.board import add

    status = run_and_show(config)
    board = config.out.parent / "leaderboards" / "demo.csv"
    add(config.out, board, calibration=True)
    say(f"leaderboard {board}")
    say(f"check it    macebench leaderboard verify {board} --run {config.out}")
    return status
