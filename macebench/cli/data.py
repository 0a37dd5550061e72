"""``macebench data``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macebench.cli.console import plain, progress_bar, say, show_tables
from macebench.errors import EXIT_OK, EXIT_UNSCORED, UserError

if TYPE_CHECKING:
    from macebench.curation.audit import AuditReport

app = typer.Typer(help="Look after a data set: audit, verify, opt out.", no_args_is_help=True)
Dataset = Annotated[Path, typer.Argument(help="Data set folder.")]
Workers = Annotated[int, typer.Option(help="Worker processes.")]
MAX_SHOWN = 20
MAX_VALUES = 8


@app.command("audit")
def audit(
    dataset: Dataset,
    workers: Workers = 1,
    out: Annotated[Path | None, typer.Option(help="JSON file; PNG and HTML go beside it.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the store.")] = None,
) -> int:
    """Hours, genres, split leaks by source, sound and picture, duplicates, broken files; exit 3 when there are errors.

    Example: macebench data audit DATASET --workers 2
    """
    from macebench.curation._audit_page import write_report
    from macebench.curation.audit import audit as run
    from macebench.store import ensure_writable

    _check(workers)
    path = out if out is not None else dataset / "audit.json"
    if out is not None:
        ensure_writable(path.parent)
    with progress_bar() as progress:
        report = run(dataset, workers=workers, store=store, progress=progress)
    paths = write_report(report, path)
    show_tables([_split_table(report)])
    _show_findings(report)
    say(f"page  {plain(paths[-1])}")
    return EXIT_UNSCORED if report.failed else EXIT_OK


@app.command("verify")
def verify(dataset: Dataset, workers: Workers = 1) -> int:
    """Check hashes, counts and one picture of each clip; exit 3 when something is wrong."""
    from macebench.curation.audit import verify as run

    _check(workers)
    with progress_bar() as progress:
        report = run(dataset, workers=workers, progress=progress)
    _show_findings(report)
    say(f"{report.clips} clips: {'errors found' if report.failed else 'whole'}")
    return EXIT_UNSCORED if report.failed else EXIT_OK


@app.command("optout")
def optout(
    dataset: Dataset,
    listing: Annotated[Path, typer.Option("--list", help="Text file: one SHA-256 or salted id a line.")],
    apply: Annotated[bool, typer.Option("--apply", help="Remove the clips; without it they are only listed.")] = False,
) -> None:
    """List the clips of a data set that an opt-out list names, or remove them."""
    from macebench.curation.optout import apply_optout
    from macebench.report.numbers import plural

    done = apply_optout(dataset, listing, apply=apply)
    for clip_id in done.clips:
        say(plain(clip_id))
    if apply:
        gone, files = plural(len(done.clips), "clip"), plural(done.removed_files, "file")
        say(f"{gone} opted out, {files} removed, {plural(done.kept_clips, 'clip')} left")
        _show_removed_pages(dataset, done.removed_pages)
    else:
        listed = plural(len(done.clips), "clip")
        say(f"on the list: {listed}; not on it: {done.kept_clips}. --apply removes what is on it")


def _show_removed_pages(dataset: Path, pages: Sequence[str]) -> None:
    """Which pages are gone because they showed the clips, and what writes them again."""
    if not pages:
        return
    say(f"removed too, because they showed the clips: {plain(', '.join(pages))}")
    if any(name.startswith("audit.") for name in pages):
        say(f"  `macebench data audit {plain(dataset)}` writes the audit again")
    if "summary.html" in pages:
        command = f"macebench curate SOURCES... --out {plain(dataset)}"
        say(f"  `{command}`, as the data set was made, writes summary.html again")


def _check(workers: int) -> None:
    if workers < 1:
        raise UserError(f"--workers is {workers}; it must be 1 or more.")


def _split_table(report: AuditReport) -> object:
    from rich.table import Table

    table = Table(title=f"{report.dataset}: {report.clips} clips")
    for name in ("split", "clips", "hours", "genres", "frame rates", "sizes", "without sound"):
        table.add_column(name)
    for name, one in report.splits.items():
        lists = [_counted(one.genres), _counted(one.fps, _rate), _counted(one.sizes)]
        table.add_row(_plain(name), str(one.clips), f"{one.hours:.3f}", *lists, str(one.without_sound))
    return table


def _counted(values: Mapping[str, int], shown: Callable[[str], str] = str) -> str:
    """``30 fps: 16 clips`` a line, the most frequent first."""
    lines = [f"{_plain(shown(key))}: {count} clip{'' if count == 1 else 's'}" for key, count in values.items()]
    more = len(lines) - MAX_VALUES
    return "\n".join([*lines[:MAX_VALUES], *([f"and {more} more"] if more > 0 else [])])


def _rate(text: str) -> str:
    """``30 fps`` of ``30.00``; what is no number stays."""
    return f"{float(text):g} fps" if text.replace(".", "").isdigit() else text


def _plain(text: str) -> str:
    """Text for a cell of a table."""
    from rich.markup import escape

    return escape(plain(text))


def _show_findings(report: AuditReport) -> None:
    for (severity, kind), count in report.counts().items():
        say(f"{severity:<8} {kind:<18} {count}")
        named = [one for one in report.findings if (one.severity, one.kind) == (severity, kind)]
        for one in named[:MAX_SHOWN] if severity != "note" or count <= MAX_SHOWN else []:
            clips = ", ".join(one.clips[:4]) + (f" and {len(one.clips) - 4} more" if len(one.clips) > 4 else "")
            say(f"  {plain(clips + ': ' if clips else '')}{plain(one.detail)}")
        if count > MAX_SHOWN:
            say(f"  and {count - MAX_SHOWN} more")
