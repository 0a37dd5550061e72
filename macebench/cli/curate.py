"""``macebench curate``, ``macebench curate explain`` and ``macebench curate what-if``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from macebench.cli.console import duration, plain, progress_bar, say, show_tables, size
from macebench.cli.plugins import Plugins, load_all
from macebench.errors import EXIT_OK, EXIT_UNSCORED, UserError

if TYPE_CHECKING:
    from macebench.curation.explain import Check, Explained, WhatIf
    from macebench.curation.motion_sources import MotionSource
    from macebench.curation.pipeline import CurateJob, CurateResult

_MOST_REASONS = 20


class _RunImplied(TyperGroup):
    """``curate X`` means ``curate run X`` unless X is a sub-command; a folder of that name is ``./explain``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``run`` in front where no sub-command is named."""
        return super().parse_args(ctx, args if args and args[0] in self.commands else ["run", *args])


app = typer.Typer(cls=_RunImplied, help="Turn raw videos into a data set of clips.", no_args_is_help=False)
_Dataset = Annotated[Path, typer.Option("--dataset", help="Folder of the data set.")]
_Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Change one setting; repeatable.")
]


@app.command("run")
def run(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Folders, videos, .txt lists of paths, .parquet tables of paths.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    changes: _Changes = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N sources or recordings by name.", min=1)] = None,
    test_size: Annotated[
        int | None, typer.Option(help="Clips of the test split, genres in balance; as --set splits.test_size.", min=0)
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local",
    ray_address: Annotated[str | None, typer.Option(help="Existing Ray cluster; auto finds it.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the store.")] = None,
    plugin: Plugins = None,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="A stage that fails costs one source.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove clips of sources not named any more.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done, and stop.")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print all settings, and stop.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no summary.html.")] = False,
    finedance: Annotated[Path | None, typer.Option(help="Render and curate the songs of a FineDance folder.")] = None,
    finedance_split: Annotated[
        str | None, typer.Option(help="cross_genre or cross_dancer. \\[cross_genre]", show_default=False)
    ] = None,
    finedance_ignore: Annotated[
        str | None, typer.Option(help="Ignore list: finedance, lodge or none. \\[finedance]", show_default=False)
    ] = None,
    motions: Annotated[Path | None, typer.Option(help="Render and curate a folder of motion files.")] = None,
    music: Annotated[Path | None, typer.Option(help="Folder of music for --motions, matched by name.")] = None,
    assign_music: Annotated[bool, typer.Option("--assign-music", help="Motions without music get some of it.")] = False,
    motion_fps: Annotated[float | None, typer.Option(help="Frame rate of motion files that do not state one.")] = None,
    pairing: Annotated[str | None, typer.Option(help="What music and motion are: original or synthetic.")] = None,
    renderer: Annotated[str | None, typer.Option(help="painter or pyrender; as --set render.renderer.")] = None,
    body: Annotated[str | None, typer.Option(help="mannequin, smplx, smplh or smpl; as --set render.body.")] = None,
    smpl_dir: Annotated[Path | None, typer.Option(help="Folder of your SMPL model files.")] = None,
) -> int:
    """Raw videos to a data set: clips, metadata, a ledger of every rejected span, a summary.

    With --finedance or --motions, 3-D motions are rendered first, front view with their music, and curated like videos.

    `macebench curate explain CLIP --dataset DATASET` says why something was kept or dropped;
    `macebench curate what-if --dataset DATASET --motion.min 0.003` what another threshold would keep.

    Example: macebench curate raw/ --out dataset --workers 8 --test-size 500

    Example: macebench curate raw/ --out dataset --set windows.min_s=6 --plan

    Example: macebench curate --finedance FineDance/ --out dataset --workers 8

    Example: macebench curate --motions motions/ --music music/ --out dataset --set render.take_s=30
    """
    from macebench.curation.config import config_text, load_config
    from macebench.curation.pipeline import CurateJob

    if engine not in ("local", "ray"):
        raise UserError(f"--engine is {engine!r}; allowed are local and ray.")
    if workers < 1:
        raise UserError(f"--workers is {workers}; it must be 1 or more.")
    load_all(plugin)
    drawn = {"renderer": renderer, "body": body, "smpl_dir": smpl_dir}
    sized = [] if test_size is None else [f"splits.test_size={test_size}"]
    settings = load_config(config, [*(changes or ()), *sized, *_render_changes(drawn)])
    if print_config:
        say(config_text(settings).rstrip())
        return EXIT_OK
    _refuse_idle(engine == "ray", "--engine ray", {"--ray-address": ray_address is not None})
    _refuse_idle(
        finedance is not None, "--finedance",
        {"--finedance-split": finedance_split is not None, "--finedance-ignore": finedance_ignore is not None},
    )  # fmt: skip
    _refuse_idle(
        motions is not None, "--motions",
        {"--music": music is not None, "--assign-music": assign_music, "--motion-fps": motion_fps is not None},
    )  # fmt: skip
    _refuse_idle(
        motions is not None or finedance is not None, "--motions or --finedance",
        {"--pairing": pairing is not None, **{f"--{n.replace('_', '-')}": v is not None for n, v in drawn.items()}},
    )  # fmt: skip
    recordings = (
        *_songs(finedance, finedance_split or "cross_genre", finedance_ignore or "finedance", pairing),
        *_motions(motions, music, assign_music, motion_fps, pairing),
    )
    job = CurateJob(
        tuple(sources or ()), _out(out, sources or recordings), settings, limit, workers,
        engine,  # type: ignore[arg-type]
        ray_address, store, tuple(plugin or ()), keep_going, prune, recordings,
    )  # fmt: skip
    if plan:
        return _show_plan(job)
    return _curate(job, motions or finedance, report=not no_report)


def _refuse_idle(used: bool, needed: str, given: Mapping[str, bool]) -> None:
    """Refuse options that would do nothing, because the option that they belong to is not there."""
    idle = [name for name, is_given in given.items() if is_given]
    if idle and not used:
        raise UserError(
            f"{', '.join(idle)} cannot be used without {needed}.",
            hint=f"{'It does' if len(idle) == 1 else 'They do'} nothing then; see `macebench curate --help`.",
        )


def _out(out: Path | None, sources: Sequence[Any]) -> Path:
    """The folder of the data set. Raises `UserError` when it or the sources are missing."""
    if not sources:
        raise UserError("no sources are given.", hint="`macebench curate raw/ --out dataset` curates a folder.")
    if out is None:
        raise UserError("--out is missing.", hint="Name the folder of the data set with --out.")
    return out


def _render_changes(values: dict[str, Any]) -> list[str]:
    """Options as changes of the section ``render``."""
    given = {name: value for name, value in values.items() if value is not None}
    return [f"render.{name}={json.dumps(str(value))}" for name, value in given.items()]


def _songs(folder: Path | None, split: str, ignore: str, pairing: str | None) -> Iterable[MotionSource]:
    """The songs of a FineDance folder."""
    if folder is None:
        return ()
    from macebench.curation.finedance import finedance_sources
    from macebench.curation.motion_sources import ORIGINAL

    return finedance_sources(folder, split=split, ignore=ignore, pairing=pairing or ORIGINAL)


def _motions(
    folder: Path | None, music: Path | None, assign: bool, fps: float | None, pairing: str | None
) -> Iterable[MotionSource]:
    """The motion files of a folder."""
    if folder is None:
        return ()
    from macebench.curation.motion_sources import motion_sources

    return motion_sources(folder, music, pairing=pairing, assign=assign, fps=fps)


def _curate(job: CurateJob, recordings: Path | None, *, report: bool) -> int:
    from macebench.curation.pipeline import curate

    with progress_bar() as progress:
        result = curate(job, progress)
    if report:
        from macebench.report.curation import write_summary

        write_summary(job.out)
    _show_passed(result.passed_over)
    _show_result(result, recordings)
    say(f"data set    {plain(job.out)}")
    if report:
        say(f"summary     {plain(job.out / 'summary.html')}")
    for reason, count in result.unfinished.items():
        say(f"not done: {count} x {plain(reason)}; the same command tries them again")
    if not result.n_clips:
        say(f"no clip was kept; see {plain(job.out / 'ledger.parquet')}")
    return EXIT_UNSCORED if result.unfinished or not result.n_clips else EXIT_OK


def _show_passed(paths: Sequence[str]) -> None:
    for path in paths[:_MOST_REASONS]:
        say(f"passed over: {plain(path)}; what is in a data set is no source")
    if len(paths) > _MOST_REASONS:
        say(f"passed over: {len(paths) - _MOST_REASONS} more")


def _show_result(result: CurateResult, recordings: Path | None) -> None:
    from macebench.curation.motion_sources import PICKLED
    from macebench.report.numbers import plural

    say(f"{result.n_clips} clips ({duration(result.seconds)}) out of {result.n_sources} sources")
    for reason, count in list(result.reasons.items())[:_MOST_REASONS]:
        say(f"  dropped: {count} x {plain(reason)}")
    pickled = result.reasons.get(f"sources: {PICKLED}", 0)
    if pickled:
        command = f"macebench convert {plain(recordings)} --out DIR --trust-pickle"
        say(f"note: {plural(pickled, 'motion')} left out as pickled; `{command}` reads pickles")
    if result.n_clips and not result.splits.get("test") and not any(n.startswith("test ") for n in result.notes):
        say("note: the test split is empty: its share of so few clips is less than one; --test-size sets its size")
    for note in result.notes[:_MOST_REASONS]:
        say(f"note: {plain(note)}")


def _show_plan(job: CurateJob) -> int:
    from macebench.curation.plan import make_plan
    from macebench.report.numbers import plural

    with progress_bar() as progress:
        planned = make_plan(job, progress)
    estimated = " (estimated)" if planned.sampled else ""
    _show_passed(planned.passed_over)
    say(f"sources           {planned.n_sources} ({size(planned.n_bytes)})")
    say(f"length            {duration(planned.source_s)}{estimated}")
    say(f"finished          {planned.n_finished}{estimated}")
    if planned.n_recordings:
        recordings = f"{planned.n_render} of {plural(planned.n_recordings, 'recording')}"
        say(f"to render         {recordings}, {duration(planned.render_s)} of video{estimated}")
    say(f"to decode         {duration(planned.decode_s)}")
    say(f"estimated time    {duration(planned.seconds)} with {plural(job.workers, 'worker')}, from {planned.basis}")
    say(f"settings          {job.config.hash}")
    return EXIT_OK


@app.command("explain")
def explain(
    what: Annotated[str, typer.Argument(help="Clip id, source name, or first digits of a source's SHA-256.")],
    dataset: _Dataset,
    plugin: Plugins = None,
) -> None:
    """Why a clip or a source was kept or dropped: every score beside its threshold.

    Example: macebench curate explain 0123456789ab-00004200 --dataset dataset
    """
    from macebench.curation.explain import explain as find

    load_all(plugin)
    source = None
    for item in find(dataset, what):
        if source != (item.source_id, item.source_name):
            source = item.source_id, item.source_name
            say(f"{plain(item.source_name)}  sha256 {plain(item.source_id or 'unknown')}")
        _show_span(item)


def _show_span(item: Explained) -> None:
    end = "end" if math.isnan(item.end_s) else f"{item.end_s:.3f} s"
    span = f"  {item.start_s:.3f} s to {end}"
    if item.kept:
        say(f"{span}  kept as {plain(item.name)}")
    else:
        value = "" if math.isnan(item.value) else f": {item.value:.6g}"
        threshold = "" if math.isnan(item.threshold) else f", threshold {item.threshold:.6g}"
        say(f"{span}  dropped by {plain(item.stage)}: {plain(item.reason)}{value}{threshold}")
    for check in item.checks:
        say(f"    {plain(check.name):<28} {_number(check.value):<12} {plain(_limit(check))}".rstrip())


def _limit(check: Check) -> str:
    return f"{check.setting} = {check.limit}" if check.setting else ""


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.6g}"


@app.command("what-if", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def what_if(
    ctx: typer.Context,
    dataset: _Dataset,
    changes: _Changes = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the store.")] = None,
    plugin: Plugins = None,
) -> int:
    """What other thresholds would keep, from the stored scores: nothing is decoded.

    Every setting is an option, too: --SECTION.FIELD VALUE, such as --motion.min 0.003, does what --set
    motion.min=0.003 does. `macebench curate --print-config` prints all of them.

    Example: macebench curate what-if --dataset dataset --motion.min 0.003

    Example: macebench curate what-if --dataset dataset --set motion.min=0.003 --set person.max_several_share=0.1
    """
    from macebench.curation.explain import what_if as judge

    wanted = [*(changes or ()), *_direct(ctx.args)]
    if not wanted:
        raise UserError(
            "what-if needs a change.",
            hint=f"`macebench curate what-if --dataset {dataset} --set motion.min=0.003`; see --print-config.",
        )
    load_all(plugin)
    found = judge(dataset, wanted, store=store, plugins=tuple(plugin or ()))
    for name, (now, then) in found.changed.items():
        say(f"{plain(name)}: {plain(_setting(now))} -> {plain(_setting(then))}")
    if not found.changed:
        say("nothing differs from the settings of the data set")
    show_tables([_yield_table(found)])
    if found.unknown:
        say(f"{found.unknown} sources cannot be judged without decoding; `macebench curate` does that.")
    return EXIT_UNSCORED if found.unknown else EXIT_OK


def _direct(words: Sequence[str]) -> list[str]:
    """``--SECTION.FIELD VALUE`` and ``--SECTION.FIELD=VALUE`` as ``SECTION.FIELD=VALUE``.

    Raises:
        UserError: another option, a word that belongs to none, or no value.
    """
    from macebench.registry import unknown

    changes, waiting = [], list(words)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            raise UserError(
                f"what-if does not take {word!r}.", hint="`macebench curate what-if --help` says what it does."
            )
        if "." not in name:
            options = ("--dataset", "--set", "--store", "--plugin", "--help")
            raise UserError(
                unknown("option", name, options, "macebench curate what-if --help").message,
                hint="`macebench curate what-if --help` lists them; a setting is --SECTION.FIELD VALUE.",
            )
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise UserError(f"{name} needs a value.", hint=f"Such as {name} 0.5 or {name}=0.5.")
            value = waiting.pop(0)
        changes.append(f"{name[2:]}={value}")
    return changes


def _setting(value: Any) -> str:
    return "none" if value is None else str(value)


def _yield_table(found: WhatIf) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "now", "then", box=None)
    table.add_row("clips", str(found.now.clips), str(found.then.clips))
    table.add_row("length", duration(found.now.seconds), duration(found.then.seconds))
    for key in sorted(found.now.reasons.keys() | found.then.reasons.keys()):
        table.add_row(
            escape(plain(f"dropped: {key[0]}: {key[1]}")), str(found.now.reasons[key]), str(found.then.reasons[key])
        )
    return table
