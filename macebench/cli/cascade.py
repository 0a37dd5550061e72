"""``macebench cascade``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from macebench.cli.console import progress_bar, say, show_tables
from macebench.cli.plugins import Plugins, load_all
from macebench.errors import EXIT_OK, EXIT_UNSCORED

if TYPE_CHECKING:
    from macebench.compare_records import ProtocolComparison


def cascade(
    motions: Annotated[str | None, typer.Option(help="Generated motions: a folder, or DIR:SPLIT.")] = None,
    reference_motions: Annotated[str | None, typer.Option(help="Ground-truth motions of the same names.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Instead: videos of the generated motions.")] = None,
    reference_videos: Annotated[Path | None, typer.Option(help="Videos of the ground-truth motions.")] = None,
    animator: Annotated[
        str,
        typer.Option(help="mannequin is the only one built in; for others give --videos and --reference-videos."),
    ] = "mannequin",
    protocol: Annotated[list[str] | None, typer.Option(help="Protocol id or YAML file; repeatable.")] = None,
    music: Annotated[Path | None, typer.Option(help="Folder of sound files, by file name.")] = None,
    motion_fps: Annotated[float | None, typer.Option(help="Frame rate of motions that do not say theirs.")] = None,
    size: Annotated[int, typer.Option(help="Width and height of rendered videos in pixels.")] = 512,
    pose: Annotated[str, typer.Option(help="Pose back end.")] = "blazepose",
    limit: Annotated[int | None, typer.Option(help="Only the first N clips.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    permutations: Annotated[int, typer.Option(help="Permutations and resamples a test.", min=1)] = 2000,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same files.", min=0)] = 0,
    store: Annotated[Path | None, typer.Option(help="Folder of the store.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/cascade"),
    plugin: Plugins = None,
) -> int:
    """Compare one animator's videos of generated and of ground-truth motions.

    How much worse does the animator get when generated motions drive it? Both sets are rendered alike and scored under
    the same protocol; the table has the differences and their tests.
    With an animator of your own, give the videos that it made of both sets.

    Example: macebench cascade --motions generated/ --reference-motions finedance/test --out runs/cascade
    """
    from macebench.cascade import CascadeConfig, run_cascade
    from macebench.report.cascade import remarks

    load_all(plugin)
    config = CascadeConfig(
        out=out, motions=motions, reference_motions=reference_motions, videos=videos, reference_videos=reference_videos,
        animator=animator, protocols=tuple(protocol or CascadeConfig.protocols), music=music, motion_fps=motion_fps,
        size=size, pose=pose, limit=limit, workers=workers, store=store, plugins=tuple(plugin or ()),
        permutations=permutations, seed=seed,
    )  # fmt: skip
    with progress_bar() as progress:
        result = run_cascade(config, progress)
    show_tables([_table(part) for part in result.comparison.protocols])
    for line in remarks(result):
        say(f"  {line}")
    say(f"table   {out / 'cascade.csv'}")
    say(f"report  {out / 'cascade.html'}")
    lost = any(test.unscored for part in result.comparison.protocols for test in part.tests)
    return EXIT_UNSCORED if lost or result.rendered.failed else EXIT_OK


def _table(part: ProtocolComparison) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from macebench.report.cascade import HEADS, cells
    from macebench.report.numbers import plural

    pairs = plural(part.n_pairs, "pair")
    title = f"{part.protocol}  {part.protocol_hash}  {pairs}: generated minus ground-truth motions"
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1),
                  pad_edge=False)  # fmt: skip
    table.add_column(HEADS[0], no_wrap=True)
    for text in HEADS[1:]:
        table.add_column(text, justify="right")
    for test in part.tests:
        style = "bold" if test.significant else "dim" if test.p_value is None else ""
        table.add_row(*(Text(cell) for cell in cells(test)), style=style)
    return table
