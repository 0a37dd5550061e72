"""``macebench store``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from macebench.cli.console import say, size

app = typer.Typer(help="The store of intermediate results.", no_args_is_help=True)
Root = Annotated[Path | None, typer.Option("--store", help="Folder of the store; default: the user's.")]


@app.command("info")
def info(store: Root = None) -> None:
    """Where the store is and how large."""
    from macebench.store import Store

    found = Store(store)
    report = found.report()
    say(f"{found.root}: {report.n_entries} entries, {size(report.n_bytes)}")


@app.command("gc")
def collect(
    max_size: Annotated[float, typer.Option(help="Gigabytes to keep; what was used longest ago goes first.")],
    store: Root = None,
) -> None:
    """Remove old entries."""
    from macebench.errors import UserError
    from macebench.store import Store

    if max_size < 0:
        raise UserError(f"--max-size is {max_size}; it must be 0 or more gigabytes.")
    removed = Store(store).collect(int(max_size * 1e9))
    say(f"removed {removed.n_entries} entries, {size(removed.n_bytes)}")


@app.command("why-recompute")
def why_recompute(
    video: Annotated[Path, typer.Argument(help="Video file.")],
    pose: Annotated[str, typer.Option(help="Pose back end.")] = "blazepose",
    store: Root = None,
) -> None:
    """Say for one video which results are in the store, and why others are computed again."""
    from macebench.clips import load_set
    from macebench.errors import UserError
    from macebench.extract import lacking_weights, pose_ingredients, statistic_ingredients
    from macebench.models.pose import make_estimator
    from macebench.registry import names
    from macebench.store import Store

    clips = {c.path.resolve(): c for c in load_set(str(video.parent)).clips} if video.is_file() else {}
    if video.resolve() not in clips:
        raise UserError(f"{video} is not a video file.")
    clip, found = clips[video.resolve()], Store(store)
    keys = {f"pose {pose}": pose_ingredients(clip, make_estimator(pose).describe())}
    single = [name for name in names("statistics") if not name.startswith("pair_")]  # the others compare two videos
    lacking = lacking_weights(single)
    keys |= {f"statistic {name}": statistic_ingredients(clip, name) for name in single if name not in lacking}
    for label, key in keys.items():
        reasons = found.why(key)
        say(f"{label}: {'in the store' if not reasons else 'will be computed: ' + '; '.join(reasons)}")
    for name, reason in lacking.items():
        say(f"statistic {name}: {reason}")
