"""``macebench demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macebench.cli.console import progress_bar, say
from macebench.errors import UserError

if TYPE_CHECKING:
    from macebench.prepare import EvalConfig
    from macebench.results import RunResult


NO_MODEL = "none"
PICTURE_CLIPS = 3
DIMENSIONS = {
    "musiq": "imaging_quality", "clip_l14": "aesthetic_quality", "dino_b16": "subject_consistency",
    "clip_b32": "background_consistency", "amt_s": "motion_smoothness",
}  # fmt: skip


def demo(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("macebench-demo"),
    clips: Annotated[int, typer.Option(help="Dances of the data set; at least 4.")] = 32,
    seconds: Annotated[float, typer.Option(help="Length of a dance in seconds.")] = 6.0,
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 512,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: the cores.")] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="Protocol id; repeatable.")] = None,
    pose: Annotated[str, typer.Option(help="Pose back end.")] = "blazepose",
    store: Annotated[Path | None, typer.Option(help="Folder of the store.")] = None,
    model: Annotated[str, typer.Option(help="Model that dances (`macebench ls models`), or none.")] = "mace-dance",
) -> int:
    """The whole loop on videos made here: render dances, curate, generate, estimate poses, score, rank, report.

    The raw videos are dances and planted bad sources, whose right fate is known. Half of the clips that are kept
    are the reference, to whose music the model dances; the other half is scored as it is (ground-truth) and after
    known degradations, so that the order of the table can be checked by eye. Some clips are scored by their pictures,
    too, as far as that needs no download; what is missing is said with the command that gets it.
    """
    import os

    from macebench.generate import need_generator

    if clips < 4:
        raise UserError(f"--clips is {clips}; it must be 4 or more.")
    if model != NO_MODEL:
        need_generator(model)
    count = workers or os.cpu_count() or 1
    if pose == "blazepose":
        _pull("blazepose")
    dataset = _build(out, clips, seconds, size, count, store)
    config = _config(dataset, out, count, tuple(protocol or ("ma2d-fixed/1",)), pose, store)
    status = _evaluate(config, model)
    _pictures(config)
    _pairs(config)
    return status


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


def _pictures(config: EvalConfig) -> None:
    """What can be said of the picture without a download, of some clips; and what is missing for the rest."""
    import dataclasses

    from macebench.cli.evaluate import run_and_show
    from macebench.extract import lacking_weights

    say()
    run_and_show(
        dataclasses.replace(
            config, protocols=("video-referee/1",), calibrate=("frozen", "foot-skate"), limit=PICTURE_CLIPS,
            out=config.out.parent / "run-pictures",
        ),
        report=False,
    )  # fmt: skip
    lost = [dimension for name, dimension in DIMENSIONS.items() if lacking_weights([name])]
    if lost:
        say(f"not scored  {', '.join(lost)}: `macebench weights pull vbench6` gets the networks")
    say("all of them `macebench eval --protocol vbench6-fixed/1`; needs seconds a frame without a GPU")


def _pairs(config: EvalConfig) -> None:
    """Frames against the reference's frames: two copies of the reference whose damage is known."""
    from macebench.clips import load_set
    from macebench.demo.pictured import DAMAGES, N_CLIPS, build_pairs
    from macebench.pairfolder import PairConfig, evaluate_pairs

    folder = config.out.parent
    clips = load_set(config.reference, limit=N_CLIPS).clips
    made = build_pairs(clips, folder / "pairs")
    lost: dict[str, list[str]] = {}
    for name in DAMAGES:
        result = evaluate_pairs(
            PairConfig(made[name], str(made["reference"]), folder / f"run-{name}", model=name, store=config.store)
        )
        found = [f"{s.name} {s.value:.4g}" for s in result.entries[0].scores if s.value is not None]
        say(f"pairs       {name}: {', '.join(found)}")
        for score in result.entries[0].scores:
            for reason in score.reasons if score.value is None else ():
                lost.setdefault(reason, []).append(score.name)
    for reason, names in lost.items():
        say(f"not scored  {', '.join(dict.fromkeys(names))}: {reason}")


def _pull(name: str) -> None:
    from macebench import weights

    for row in weights.select(name):
        if weights.status(row.name) != "present":
            say(f"fetching {row.name} ({row.licence}) ...")
            weights.pull(row.name)


def _build(out: Path, clips: int, seconds: float, size: int, workers: int, store: Path | None) -> Path:
    from macebench.demo.curated import build_demo_data
    from macebench.report.numbers import plural

    with progress_bar() as progress:
        made = build_demo_data(
            out, n_clips=clips, seconds=seconds, size=size, workers=workers, store=store, progress=progress
        )
    sizes = f"{plural(made.n_clips, 'clip')} of {plural(made.n_sources, 'raw video')}"
    say(f"curated     {sizes}; see {made.dataset / 'summary.html'}")
    found = made.n_planted - len(made.wrong)
    say(f"planted     {found} of {made.n_planted} bad videos dropped by the right stage for the right reason")
    for name in made.wrong:
        say(f"  not as planted: {name}")
    return made.dataset


def _evaluate(config: EvalConfig, model: str) -> int:
    """Score the model's dances, then the real clips and what is made of them; one table and one board for both."""
    from macebench.cli.evaluate import run_and_show
    from macebench.leaderboards.board import add

    board = config.out.parent / "leaderboards" / "demo.csv"
    danced = _dance(config, model) if model != NO_MODEL else None
    status = run_and_show(config, beside=danced)
    runs = [config.out]
    if danced is not None:
        runs.insert(0, _run_of(config, model))
        say(f"dances      {runs[0] / 'generated'}, scored in {runs[0] / 'report.html'}")
    for run in runs:
        add(run, board, calibration=True)
    say(f"leaderboard {board}")
    say(f"check it    macebench leaderboard verify {board} --run {config.out}")
    return status


def _run_of(config: EvalConfig, model: str) -> Path:
    return config.out.parent / f"run-{model}"


def _dance(config: EvalConfig, model: str) -> RunResult:
    """What the model's dances to the reference set's music score."""
    import dataclasses

    from macebench.cli.evaluate import danced, scored
    from macebench.report import write_report

    wanted = dataclasses.replace(config, model=model, calibrate=(), out=_run_of(config, model))
    result = scored(danced(wanted))
    write_report(wanted.out)
    return result
