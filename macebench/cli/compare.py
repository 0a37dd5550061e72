"""``macebench compare``."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from macebench.cli.console import progress_bar, say, show_tables
from macebench.cli.plugins import Plugins, load_all
from macebench.errors import EXIT_OK, EXIT_UNSCORED

if TYPE_CHECKING:
    from macebench.compare_records import Comparison, Contrast, ProtocolComparison


def compare(
    run_a: Annotated[Path, typer.Argument(help="Run folder of the first model.")],
    run_b: Annotated[Path, typer.Argument(help="Run folder of the second model; may be the same.")],
    protocol: Annotated[str | None, typer.Option(help="Only this protocol: id or hash.")] = None,
    model_a: Annotated[str | None, typer.Option(help="Row of RUN_A; default: the evaluated model.")] = None,
    model_b: Annotated[str | None, typer.Option(help="Row of RUN_B; default: the evaluated model.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: RUN_B/compare-<first>-vs-<second>.")] = None,
    permutations: Annotated[int, typer.Option(help="Permutations and resamples a test.", min=1)] = 2000,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same files.", min=0)] = 0,
    plugin: Plugins = None,
) -> int:
    """Test which differences between two models are more than chance.

    Set metrics: paired permutation test. Means: sign flip test and bootstrap over pieces of music. All p-values are
    adjusted after Holm. Writes compare.json, compare.csv and compare.png. Exit status 3: the runs share no clip.

    Example: macebench compare runs/mine runs/theirs
    """
    from macebench.compare import compare_runs, write_comparison
    from macebench.store import ensure_writable

    load_all(plugin)
    if out is not None:
        ensure_writable(out)
    with progress_bar() as progress:
        comparison = compare_runs(
            run_a, run_b, model_first=model_a, model_second=model_b, protocol=protocol, n_permutations=permutations,
            seed=seed, progress=progress,
        )  # fmt: skip
    files = write_comparison(comparison, out or run_b / folder_name(comparison))
    show_tables([_table(part, comparison) for part in comparison.protocols])
    for line in _remarks(comparison):
        say(f"  {line}")
    for path in files:
        say(str(path))
    return EXIT_OK if all(part.n_pairs for part in comparison.protocols) else EXIT_UNSCORED


def folder_name(comparison: Comparison) -> str:
    """Name of the output folder: the two models, with their runs where the runs differ."""
    sides = [comparison.first, comparison.second]
    names = [side.model if sides[0].run == sides[1].run else f"{side.run}-{side.model}" for side in sides]
    return "compare-" + "-vs-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80] for name in names)


def _table(part: ProtocolComparison, comparison: Comparison) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from macebench.report.console import broken
    from macebench.report.numbers import ARROWS, plural

    title = f"{part.protocol}  {part.protocol_hash}  {plural(part.n_pairs, 'pair')}"
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1),
                  pad_edge=False)  # fmt: skip
    names = [comparison.first.model, comparison.second.model]
    table.add_column("score", no_wrap=True)
    for text in (*names, "difference", "95 % interval", "by chance 95 %", "effect", "p", "p Holm", "n"):
        table.add_column(Text(broken(text) if text in names else text), justify="right")
    table.add_column("better", overflow="fold")
    for test in part.tests:
        style = "bold" if test.significant else "dim" if test.p_value is None else ""
        cells = [f"{test.name} {ARROWS[test.better]}", *_numbers(test), _better(test, names)]
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _numbers(test: Contrast) -> list[str]:
    from macebench.report.numbers import NO_VALUE, short

    def one(value: float | None) -> str:
        return NO_VALUE if value is None else short(value)

    def span(low: float | None, high: float | None) -> str:
        return NO_VALUE if low is None or high is None else f"[{short(low)}, {short(high)}]"

    chance = span(test.null_low, test.null_high) if test.kind == "set" else NO_VALUE
    return [
        one(test.first), one(test.second), one(test.difference), span(test.low, test.high), chance, one(test.effect),
        one(test.p_value), one(test.p_holm), str(test.n),
    ]  # fmt: skip


def _better(test: Contrast, names: list[str]) -> str:
    """Who is better, in words; with what stands in the way when that cannot be said."""
    from macebench.report.numbers import short

    if test.reason:
        return test.reason
    if test.favours not in ("first", "second"):
        unknown = "no reference value" if test.better == "reference" else "below 0: none can be named"
        return "equal" if test.favours == "neither" else unknown
    name = names[0] if test.favours == "first" else names[1]
    if test.opposite and test.significant:
        return f"they differ, on both sides of {short(test.reference or 0.0)}"
    near = f", nearer to {short(test.reference)}" if test.reference is not None else ""
    return f"{name}{near}" if test.significant else f"({name}{near})"


def _remarks(comparison: Comparison) -> list[str]:
    """What a reader must know about the tables."""
    lines = ["Bold: Holm-adjusted p at most 0.05. In parentheses: may be chance. Set metrics have no interval."]
    for part in comparison.protocols:
        lines += [] if part.n_pairs else [f"{part.protocol}: {_no_pairs(part)}"]
        lines += [f"{part.protocol}: not paired: {n} x {reason}" for reason, n in part.unpaired.items()]
        lost: dict[str, list[str]] = {}
        for test in part.tests:
            for reason, n in test.unscored.items():
                lost.setdefault(f"{n} x {reason}", []).append(test.name)
        lines += [f"{part.protocol}: not scored: {text}  ({', '.join(names)})" for text, names in lost.items()]
        lines += [f"{part.protocol}: {text}" for text in _limits(part, comparison.n_permutations)]
    return lines


def _no_pairs(part: ProtocolComparison) -> str:
    """Why nothing was tested, in one sentence."""
    if part.unpaired.get("other music"):
        return "the clips that the two runs share have other music in each, so nothing could be tested."
    music = " and no music" if part.n_shared_music == 0 else ""
    return f"the two runs share no clip{music}, so nothing could be tested."


def _limits(part: ProtocolComparison, n_permutations: int) -> list[str]:
    """What keeps any test of a protocol from being significant after Holm, whatever the models do."""
    from macebench.compare_records import ALPHA

    tested = [test for test in part.tests if test.p_value is not None]
    if not tested:
        return []
    clusters, lines = min(test.n_clusters for test in tested), []
    smallest = 2.0 ** (1 - clusters)
    if smallest * len(tested) > ALPHA:
        lines.append(f"only {clusters} independent pieces of music: no p-value can be below {smallest:.2g}, "
                     f"{min(1.0, smallest * len(tested)):.2g} after Holm over {len(tested)} tests")  # fmt: skip
    if len(tested) / (1 + n_permutations) > ALPHA:
        lines.append(f"{n_permutations} permutations are too few for {len(tested)} tests: give --permutations "
                     f"{math.ceil(2 * len(tested) / ALPHA)} or more")  # fmt: skip
    return lines
