"""``macebench eval``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from macebench.cli.console import duration, progress_bar, say, show_tables
from macebench.cli.generate import TrainingSet
from macebench.errors import EXIT_OK, EXIT_UNSCORED, UserError

if TYPE_CHECKING:
    from macebench.pairfolder import PairConfig
    from macebench.prepare import EvalConfig
    from macebench.results import RunResult, ScoreRecord
    from macebench.types import Clip

MOTION_CALIBRATIONS = (
    "random-music", "time-shifted", "frozen", "jitter", "half-speed", "mirrored", "two-second-loop", "foot-skate",
)  # fmt: skip
ALL_CALIBRATIONS = (*MOTION_CALIBRATIONS, "identity-swap")
SHOWN_FILES, SHOWN_TEXTS = 5, 20
ANIMATION = "animation"
_PAIRS_HINT = "`macebench eval --track animation --videos A --reference B` compares videos in pairs."
DEFAULT_POSE = "blazepose"
DEFAULT_PROTOCOL = {"video": "ma2d-fixed/1", "motion": "motion3d-fixed/1"}

_MODEL = "Name of the row; a registered model (mace-dance, ...) is run first to make the dances."
_ALIGN = "Pairs that do not fit: resize, crop-time, nearest-time."
_IDENTITY = "Picture of the dancer, or a folder with one by clip id: identity_drift is held against it."


def evaluate(
    reference: Annotated[str, typer.Option(help="Reference clips: a folder, or DIR:SPLIT of a data set.")],
    videos: Annotated[Path | None, typer.Option(help="Folder of generated videos.")] = None,
    motions: Annotated[str | None, typer.Option(help="Folder of generated 3-D motions, or DIR:SPLIT.")] = None,
    motion_fps: Annotated[float | None, typer.Option(help="Frame rate of motions that do not say theirs.")] = None,
    training: Annotated[str | None, typer.Option(help="Training set, to find copies of it: DIR or DIR:SPLIT.")] = None,
    model: Annotated[str | None, typer.Option(help=_MODEL)] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="Protocol id or YAML file; repeatable.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="One more metric; repeatable.")] = None,
    music: Annotated[Path | None, typer.Option(help="Folder of sound files, by file name.")] = None,
    pose: Annotated[str | None, typer.Option(help="Pose back end. \\[blazepose]")] = None,
    pose_option: Annotated[list[str] | None, typer.Option(help="Setting of the back end: key=value.")] = None,
    poses: Annotated[Path | None, typer.Option(help="Folder of precomputed poses.")] = None,
    mmpose_python: Annotated[Path | None, typer.Option(help="Python that has mmpose.")] = None,
    calibrate: Annotated[bool, typer.Option(help="Add the calibration rows.")] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first N clips.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local",
    store: Annotated[Path | None, typer.Option(help="Folder of the store.")] = None,
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/latest"),
    plugin: Annotated[list[Path] | None, typer.Option(help="Python file that registers more.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, when the model generates. \\[0]")] = None,
    track: Annotated[str | None, typer.Option(help="animation: compare each video with its reference.")] = None,
    align: Annotated[list[str] | None, typer.Option(help=_ALIGN)] = None,
    pairs: Annotated[Path | None, typer.Option(help="CSV of generated and reference ids.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done, and stop.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.html.")] = False,
    device: Annotated[str | None, typer.Option(help="Where networks run: cpu, cuda or auto.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32; on a GPU also float16 or bfloat16.")] = None,
    batch: Annotated[str | None, typer.Option(help="Frames at once: a number, or auto.")] = None,
    vbench_python: Annotated[Path | None, typer.Option(help="Python that has vbench; see doctor.")] = None,
    identity: Annotated[Path | None, typer.Option(help=_IDENTITY)] = None,
    training_set: TrainingSet = None,
) -> int:
    """Score videos or 3-D motions of dance against a reference set and write a run folder.

    Example: macebench eval --videos generated/ --reference ma-data:test --model mine --out runs/mine

    Example: macebench eval --motions generated/ --reference finedance/test --music wav/ --model mine
    """
    if engine not in ("local", "ray"):
        raise UserError(f"--engine is {engine!r}; allowed are local and ray.")
    from macebench.models.appearance._settings import overridden
    from macebench.registry import load_plugin

    for path in plugin or ():
        load_plugin(path)
    in_pairs = _is_paired(track, protocol or [])
    made = "--videos" if videos is not None else "--motions" if motions is not None else None
    _refuse_ignored(
        made,
        model,
        {"--seed": seed is not None, "--training-set": training_set is not None},
        {} if in_pairs else {"--align": bool(align), "--pairs": bool(pairs)},
    )
    for_poses = {"--pose": pose, "--pose-option": pose_option, "--poses": poses, "--mmpose-python": mmpose_python}
    with overridden(device, dtype, batch):
        if in_pairs:
            given = {
                "--motions": motions, "--metric": metric, "--music": music, "--training": training,
                "--calibrate": calibrate, "--plan": plan,
                "--vbench-python": vbench_python, "--identity": identity, "--motion-fps": motion_fps is not None,
                **for_poses,
            }  # fmt: skip
            _refuse([name for name, value in given.items() if value])
            paired = _pair_config(videos, reference, out, protocol, model, align, pairs)
            extra = {
                "limit": limit,
                "workers": workers,
                "engine": engine,
                "store": store,
                "plugins": tuple(plugin or ()),
            }
            return _paired(dataclasses.replace(paired, **extra), report=not no_report)  # type: ignore[arg-type]
        protocols = tuple(protocol or (DEFAULT_PROTOCOL["video" if motions is None else "motion"],))
        _refuse_unneeded(protocols, metric or [], for_poses, motion_fps)
        backend, settings = _pose(pose, pose_option or [], poses, mmpose_python)
        from macebench.generate import is_generator
        from macebench.prepare import EvalConfig

        config = EvalConfig(
            reference=reference,
            out=out,
            videos=videos,
            motions=motions,
            motion_fps=motion_fps,
            training=training,
            model=model or "external",
            protocols=protocols,
            metrics=tuple(metric or ()),
            calibrate=() if not calibrate else ALL_CALIBRATIONS if motions is None else MOTION_CALIBRATIONS,
            pose=backend,
            pose_settings=settings,
            music=music,
            limit=limit,
            workers=workers,
            engine=engine,  # type: ignore[arg-type]
            store=store,
            plugins=tuple(plugin or ()),
            vbench_python=vbench_python,
            identity=identity,
        )
        dances = videos is None and motions is None and model is not None and is_generator(model)
        if plan:
            return _show_plan_of_dances(config, seed or 0, device, training_set) if dances else _show_plan(config)
        return run_and_show(
            danced(config, seed=seed or 0, device=device, training_set=training_set) if dances else config,
            report=not no_report,
        )


def _is_paired(track: str | None, protocols: list[str]) -> bool:
    """Whether videos are compared in pairs: the track was named, or a protocol is of it."""
    if track not in (None, ANIMATION):
        raise UserError(f"--track is {track!r}; allowed is {ANIMATION}.", hint=_PAIRS_HINT)
    from macebench.protocol import load_protocol, protocol_ids

    other = [name for name in protocols if load_protocol(name).track != ANIMATION]
    if track == ANIMATION and other:
        own = [name for name in protocol_ids() if load_protocol(name).track == ANIMATION]
        what = "is no protocol" if len(other) == 1 else "are no protocols"
        raise UserError(f"{', '.join(other)} {what} of the animation track; it has {', '.join(own)}.", hint=_PAIRS_HINT)
    if track == ANIMATION or len(other) < len(protocols):
        if len(protocols) > 1:
            raise UserError(f"{', '.join(protocols)} cannot be scored in one run.", hint=_PAIRS_HINT)
        return True
    return False


def _refuse_ignored(
    made: str | None, model: str | None, of_models: Mapping[str, bool], of_pairs: Mapping[str, bool]
) -> None:
    """Refuse options that would do nothing.

    Args:
        made: The option that gives finished dances, if one does.
        model: Name of the row.
        of_models: Options of a generating model, and whether they were given.
        of_pairs: Options of pairs of videos, and whether they were given; empty when pairs are compared.
    """
    from macebench.generate import is_generator

    lone = [name for name, given in of_pairs.items() if given]
    if lone:
        raise UserError(f"{', '.join(lone)} cannot be used without --track {ANIMATION}.", hint=_PAIRS_HINT)
    if made is None:
        return
    idle = [name for name, given in of_models.items() if given]
    if idle:
        raise UserError(
            f"{', '.join(idle)} cannot be used with {made}: nothing is generated.",
            hint=f"Without {made}, --model NAME makes the dances; `macebench ls models` lists the models.",
        )
    if model is not None and is_generator(model):
        raise UserError(
            f"--model {model} cannot be used with {made}: what was made elsewhere would stand under that model's name.",
            hint=f"Choose another name for the row, or leave out {made} to let {model} make the dances.",
        )


def _refuse(options: list[str]) -> None:
    if options:
        raise UserError(f"{', '.join(options)} cannot be used when videos are compared in pairs.", hint=_PAIRS_HINT)


def _refuse_unneeded(
    protocols: Sequence[str], metrics: Sequence[str], for_poses: Mapping[str, object], motion_fps: float | None
) -> None:
    """Refuse options of poses, or of motions, where no metric looks at any."""
    from macebench.protocol import load_protocol
    from macebench.registry import get_metric
    from macebench.scoring import needed

    names = dict.fromkeys((*(name for item in protocols for name in load_protocol(item).metrics), *metrics))
    needs = needed([get_metric(name) for name in names])[1]
    idle = [name for name, value in for_poses.items() if value and "pose" not in needs]
    idle += ["--motion-fps"] if motion_fps is not None and "motion" not in needs else []
    if idle:
        raise UserError(
            f"{', '.join(idle)} cannot be used: no metric of {', '.join(protocols)} looks at "
            f"{'3-D motions' if idle == ['--motion-fps'] else 'poses'}.",
            hint="`macebench ls metrics` says what each metric needs; leave the option out.",
        )


def _pair_config(
    videos: Path | None,
    reference: str,
    out: Path,
    protocol: list[str] | None,
    model: str | None,
    align: list[str] | None,
    pairs: Path | None,
) -> PairConfig:
    from macebench.pairfolder import PairConfig

    if videos is None:
        raise UserError("comparing in pairs needs --videos.", hint=_PAIRS_HINT)
    name = (protocol or ["animation/1"])[0]
    return PairConfig(videos, reference, out, name, model or "external", tuple(align or ()), pairs)


def _paired(config: PairConfig, *, report: bool) -> int:
    """Score pairs of videos; the exit status comes back."""
    from macebench.pairfolder import evaluate_pairs

    with progress_bar() as progress:
        result = evaluate_pairs(config, progress)
    return _show(result, config.out, config.model, report=report)


def _in_space(protocols: tuple[str, ...]) -> bool:
    from macebench.prepare import MOTION_TRACK
    from macebench.protocol import load_protocol

    return all(load_protocol(name).track == MOTION_TRACK for name in protocols)


def _reference_clips(config: EvalConfig) -> tuple[Clip, ...]:
    """Clips of the reference set, to whose music a model dances."""
    from macebench.clips import REFERENCE_SPLIT, load_set

    kind: Literal["motion", "video"] = "motion" if _in_space(config.protocols) else "video"
    return load_set(
        config.reference, kind=kind, music=config.music, default_split=REFERENCE_SPLIT, limit=config.limit
    ).clips


def danced(
    config: EvalConfig, *, seed: int = 0, device: str | None = None, training_set: Path | None = None
) -> EvalConfig:
    """Let the model dance to the reference set's music; the configuration that scores what it made comes back."""
    from macebench.generate import dance_to

    in_space = _in_space(config.protocols)
    with progress_bar() as progress:
        made = dance_to(
            _reference_clips(config), config.model, config.out, seed=seed, as_motion=in_space, device=device,
            training_set=training_set, workers=config.workers, plugins=config.plugins, progress=progress,
        )  # fmt: skip
    for clip_id, note in made.notes.items():
        say(f"  note: {clip_id}: {note}")
    for clip_id, reason in made.failed.items():
        say(f"  generation failed: {clip_id}: {reason}")
    if in_space:
        return dataclasses.replace(config, motions=str(made.folder), only=made.ids)
    return dataclasses.replace(config, videos=made.folder, only=made.ids)


def _pose(
    name: str | None, options: list[str], poses: Path | None, mmpose_python: Path | None
) -> tuple[str, dict[str, Any]]:
    """Back end and settings from the options."""
    named = {"--poses": (poses, "precomputed"), "--mmpose-python": (mmpose_python, "mmpose")}
    wanted = {f"--pose {name}": name} if name is not None else {}
    wanted |= {option: backend for option, (value, backend) in named.items() if value is not None}
    if len(set(wanted.values())) > 1:
        raise UserError(f"{' and '.join(wanted)} name different pose back ends.", hint="Give one of them.")
    settings: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"--pose-option {option!r} is not key=value.")
        settings[key] = _value(value)
    if poses is not None:
        return "precomputed", {**settings, "folder": poses}
    if mmpose_python is not None:
        return "mmpose", {**settings, "python": mmpose_python}
    return name or DEFAULT_POSE, settings


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _show_plan(config: EvalConfig) -> int:
    from macebench.prepare import prepare
    from macebench.report.numbers import plural
    from macebench.run import plan_run

    prepared = prepare(config)
    planned = plan_run(prepared)
    say(f"evaluated clips   {planned.n_generated} ({prepared.generated.name})")
    say(f"reference clips   {planned.n_reference} ({prepared.reference.name})")
    rest = " (the others are in the store)" if planned.n_to_extract < len(prepared.clips) else ""
    say(f"{'to read  ' if prepared.plan.motion else 'to decode'}         {planned.n_to_extract}{rest}")
    say(f"beats to track    {planned.n_sounds}")
    if prepared.pictures is not None:
        say(f"pictures to embed {planned.n_pictures} of {len(prepared.pictures.files)}")
    say(f"estimated time    {duration(planned.seconds)} with {plural(config.workers, 'worker')}")
    for protocol in prepared.protocols:
        say(f"protocol          {protocol.id} {protocol.hash}")
    return EXIT_OK


def _show_plan_of_dances(config: EvalConfig, seed: int, device: str | None, training_set: Path | None = None) -> int:
    """What a generating model would make before its dances are scored; nothing is computed."""
    from macebench.generate import plan_dances
    from macebench.protocol import load_protocol
    from macebench.report.numbers import plural

    clips = _reference_clips(config)
    planned = plan_dances(
        clips,
        config.model,
        config.out,
        seed=seed,
        as_motion=_in_space(config.protocols),
        device=device,
        training_set=training_set,
    )
    seconds = planned.seconds / config.workers if planned.seconds is not None else None
    workers = plural(config.workers, "worker")
    say(f"dances            {planned.pieces} by {config.model}, of which {planned.done} are in {config.out}")
    say(f"music             {duration(planned.music_s)}")
    say(f"sampling          {duration(seconds)} with {workers}, plus music features and pictures")
    for clip_id, reason in planned.unreadable.items():
        say(f"  cannot be read: {clip_id}: {reason}")
    say(f"reference clips   {len(clips)} ({config.reference})")
    for name in config.protocols:
        say(f"then scored       under {load_protocol(name).id}")
    return (
        _show_plan(danced(config, seed=seed, device=device, training_set=training_set))
        if planned.done == planned.pieces
        else EXIT_OK
    )


def run_and_show(config: EvalConfig, *, report: bool = True, beside: RunResult | None = None) -> int:
    """Evaluate, print the table and the reasons, write the report; the exit status comes back.

    Args:
        config: The evaluation.
        report: Write ``report.html``.
        beside: A run under the same protocols, whose rows stand first in the printed table.
    """
    result = scored(config)
    return _show(result, config.out, config.model, report=report, beside=beside)


def scored(config: EvalConfig) -> RunResult:
    """Evaluate with a progress bar."""
    from macebench.runfolder import evaluate as run_evaluation

    with progress_bar() as progress:
        return run_evaluation(config, progress)


def _show(result: RunResult, out: Path, model: str, *, report: bool, beside: RunResult | None = None) -> int:
    """Print a result, write its report; the exit status comes back."""
    from macebench.report.console import summary_tables

    if report:
        from macebench.report import write_report

        write_report(out)
    show_tables(summary_tables(result.with_rows_of(beside) if beside is not None else result))
    _show_reasons(result, model)
    _show_files(out)
    say(f"run folder  {out}")
    if report:
        say(f"report      {out / 'report.html'}")
    lost = unscored(result, model) + sum(result.reference_unscored.values()) + len(result.training_notes)
    return EXIT_UNSCORED if lost else EXIT_OK


def unscored(result: RunResult, model: str) -> int:
    """Values that the evaluated model lacks. What a calibration row cannot have is no failure."""
    entries = [entry for entry in result.entries if entry.model.name == model]
    return sum(score.n_unscored for entry in entries for score in entry.scores)


def _show_reasons(result: RunResult, model: str) -> None:
    from macebench.report.numbers import plural
    from macebench.results import RESULT_FILE

    names = {digest: f"{item['name']}/{item['version']}" for digest, item in result.protocols.items()}
    for digest, count in result.reference_unscored.items():
        if count:
            clips, them = ("1 clip lacks", "it") if count == 1 else (f"{count} clips lack", "them")
            say(f"  reference: {clips} at least one value under {names[digest]}; that value leaves {them} out")
    for digest, note in result.training_notes.items():
        say(f"  training: copies under {names[digest]}: {note}")
    if result.n_shared_clips:
        shared = result.n_shared_clips
        say(f"  note: {plural(shared, 'evaluated clip')} {'is' if shared == 1 else 'are'} also in the reference set")
    own = [entry.scores for entry in result.entries if entry.model.name == model]
    texts = sorted(_texts([score for scores in own for score in scores]).items())
    for text, columns in texts[:SHOWN_TEXTS]:
        say(f"  {text}  ({', '.join(dict.fromkeys(columns))})")
    if len(texts) > SHOWN_TEXTS:
        say(f"  {len(texts) - SHOWN_TEXTS} more reasons and notes, see {RESULT_FILE}")


def _texts(scores: Sequence[ScoreRecord]) -> dict[str, list[str]]:
    """Reasons and notes with the columns that they belong to; what holds for all clips has no count."""
    found: dict[str, list[str]] = {}
    for score in scores:
        for reason, count in score.reasons.items():
            found.setdefault(f"not scored: {count} x {reason}", []).append(score.name)
        for note, count in score.notes.items():
            counted = note if count == score.n else f"{count} x {note}"
            found.setdefault(f"note: {counted}", []).append(score.name)
    return found


def _show_files(out: Path) -> None:
    """The files that could not be read, or look odd, with what was said of them; the first few of many."""
    from macebench.results import TIMING_FILE

    if not (out / TIMING_FILE).is_file():
        return
    timing = json.loads((out / TIMING_FILE).read_text("utf-8"))
    for title, found in (("cannot be read", timing["failures"]), ("look at", timing["doubts"])):
        for clip_id, text in list(found.items())[:SHOWN_FILES]:
            say(f"  {title}: {clip_id}: {text}")
        if len(found) > SHOWN_FILES:
            say(f"  {title}: {len(found) - SHOWN_FILES} more, see {out / TIMING_FILE}")
