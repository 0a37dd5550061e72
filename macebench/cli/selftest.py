"""``macebench selftest``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macebench.cli.console import progress_bar, say, show_tables
from macebench.cli.plugins import Plugins
from macebench.errors import EXIT_OK, EXIT_UNSCORED

if TYPE_CHECKING:
    from macebench.selftest import SelftestConfig


def selftest(
    motions: Annotated[Path | None, typer.Option(help="Folder of 3D motions instead of the demo's dances.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Folder of videos instead of the demo's dances.")] = None,
    music: Annotated[Path | None, typer.Option(help="Folder of sound files, by file name.")] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="Protocol id or YAML file; repeatable.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="One more metric; repeatable.")] = None,
    n: Annotated[int, typer.Option("--n", help="Number of the demo's dances.")] = 32,
    limit: Annotated[int | None, typer.Option(help="Only the first N clips of a folder.")] = None,
    repeats: Annotated[int, typer.Option(help="Random half splits.")] = 20,
    strengths: Annotated[int, typer.Option(help="Strengths of each damage, 1 to 5.")] = 5,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    pose: Annotated[str, typer.Option(help="Pose back end, for videos.")] = "blazepose",
    poses: Annotated[Path | None, typer.Option(help="Folder of precomputed poses, for videos.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the store.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/selftest"),
    seed: Annotated[int, typer.Option(help="Seed of the dances and of the splits.")] = 0,
    plugin: Plugins = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done, and stop.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 3 when a repaired protocol moves the wrong way.")
    ] = False,
) -> int:
    """Damage real dances in known ways and show which metrics notice.

    Example: macebench selftest --workers 2 --out runs/selftest
    """
    from macebench.selftest import SelftestConfig

    config = SelftestConfig(
        out=out,
        motions=motions,
        videos=videos,
        music=music,
        protocols=tuple(protocol or ()),
        metrics=tuple(metric or ()),
        n=n,
        limit=limit,
        repeats=repeats,
        strengths=strengths,
        workers=workers,
        seed=seed,
        pose="precomputed" if poses is not None else pose,
        pose_settings={"folder": poses} if poses is not None else {},
        store=store,
        plugins=tuple(plugin or ()),
    )
    return _show_plan(config) if plan else _run(config, strict=strict)


def _show_plan(config: SelftestConfig) -> int:
    from macebench.selftest import plan_selftest

    planned = plan_selftest(config)
    say(f"clips        {planned.n_clips} ({planned.source})")
    say(f"to decode    {planned.n_to_extract}")
    say(f"protocols    {', '.join(planned.protocols)}")
    say(f"columns      {planned.n_columns}")
    say(f"scorings     {planned.n_scorings} clips, {config.repeats} half splits of each damage")
    return EXIT_OK


def _run(config: SelftestConfig, *, strict: bool) -> int:
    from macebench.selftest import run_selftest, write_selftest
    from macebench.selftest.console import card_tables

    with progress_bar() as progress:
        result = run_selftest(config, progress)
    paths = write_selftest(result, config.out)
    show_tables(card_tables(result))
    wrong = result.wrong_fixed
    for cell in wrong:
        say(f"  moves the wrong way: {cell.protocol} {cell.column} under {cell.damage}, d' {cell.d_prime:.1f}")
    say(f"page  {paths[-1]}")
    return EXIT_UNSCORED if strict and wrong else EXIT_OK
