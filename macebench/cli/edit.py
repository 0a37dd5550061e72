"""``macebench edit``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macebench.cli.console import progress_bar, say
from macebench.cli.generate import Beta, Checkpoint, Genre, Scale
from macebench.errors import EXIT_OK, MediaError, UserError

if TYPE_CHECKING:
    from macebench.models.motion_expert.editing import EditPlan, Seams
    from macebench.types import Motion

OUTPUTS = (".npz", ".bvh", ".mp4")
_KEEP = "Spans to keep, in seconds: 0:2,4:6. inbetween needs some; the other modes keep their part within them only."
_CONVERTIBLE = ("not a motion file", "pickle not allowed")
_PARTS = {"upper": "the upper body", "lower": "the lower body", "root": "the path"}
_SECONDS = "Length of the result. \\[continue: the music's; else the dance's]"
_BLEND = "Least seconds over which seams are blended, longer where that is a dash; 0 leaves them."
_RESAMPLE = "Do each step N times (RePaint): smoother seams, N times slower."


def edit(
    motion: Annotated[Path, typer.Argument(help="The dance: a motion file.")],
    music: Annotated[Path, typer.Option(help="Sound file; its start is the dance's start.")],
    mode: Annotated[str, typer.Option(help="What to KEEP: inbetween, continue, upper, lower or root; see above.")],
    out: Annotated[Path, typer.Option(help="File to write: .npz, .bvh or .mp4.")],
    keep: Annotated[str | None, typer.Option(help=_KEEP)] = None,
    seconds: Annotated[float | None, typer.Option(help=_SECONDS)] = None,
    seed: Annotated[int, typer.Option(help="Seed.", min=0)] = 0,
    genre: Genre = None,
    beta: Beta = None,
    scale: Scale = None,
    steps: Annotated[int, typer.Option(help="Denoising steps; fewer is faster.")] = 50,
    resample: Annotated[int, typer.Option(help=_RESAMPLE)] = 1,
    blend: Annotated[
        float,
        typer.Option(help=_BLEND),
    ] = 0.2,
    motion_fps: Annotated[float | None, typer.Option(help="Frame rate of a motion that does not say its own.")] = None,
    checkpoint: Checkpoint = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> int:
    """Keep a part of a dance and let the Motion Expert make the rest to the music.

    inbetween: keep the spans of --keep.

    continue: keep the beginning: all of it, or one span from 0 on.

    upper / lower: keep that half of the body, all the time or within the spans of --keep.

    root: keep the path, all the time or within the spans of --keep.

    What is kept is the input's own, at 30 frames a second.

    Example: macebench edit dance.npz --music song.wav --mode inbetween --keep 0:2,4:6 --out edited.npz

    Example: macebench edit dance.bvh --music song.wav --mode continue --seconds 30 --out longer.mp4
    """
    _check_files(motion, music, out)
    spans = parse_spans(keep)
    _check_numbers(seconds, steps, resample, blend)
    from macebench.models.motion_expert.editing import EditPlan, check_plan, edit_with_seams
    from macebench.models.motion_expert.expert import MotionExpert, Sampling, features_of

    plan = EditPlan(mode, spans, seconds, resample, blend)  # type: ignore[arg-type]
    sampling = Sampling(steps, beta=beta, scale=scale)
    dance = _read(motion, motion_fps)
    check_plan(plan, dance)
    expert = MotionExpert.open(checkpoint, device)
    sampling.resolved(expert.config.guidance)
    expert.config.genre_index(genre)
    try:
        features = features_of(music)
    except MediaError as error:
        raise UserError(f"{music} cannot be used: {error}") from error
    with progress_bar() as progress:
        made = edit_with_seams(
            expert, dance, features, plan, seed, genre=genre, sampling=sampling,
            progress=lambda done, total: progress("sampling", done, total),
        )  # fmt: skip
    _write(out, made.motion, music)
    _report(out, made.motion, plan, dance)
    _report_seams(made.seams)
    return EXIT_OK


def _check_files(motion: Path, music: Path, out: Path) -> None:
    """Refuse files that are not there, and a result that would replace its own input."""
    if out.suffix.lower() not in OUTPUTS:
        raise UserError(f"--out {out} is none of {', '.join(OUTPUTS)}.")
    for name, path in ((str(motion), motion), (f"--music {music}", music)):
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise UserError(f"{name} {what}.", hint=f"Give a {'sound' if path is music else 'motion'} file.")
        if out.resolve() == path.resolve() or (out.exists() and out.samefile(path)):
            raise UserError(f"--out {out} is the input itself; it would be lost.", hint="Give another name with --out.")


def _check_numbers(seconds: float | None, steps: int, resample: int, blend: float) -> None:
    if seconds is not None and not seconds > 0:
        raise UserError(f"--seconds is {seconds:g}; it must be above 0.")
    ranges = {"--steps": (steps, 1, 1000), "--resample": (resample, 1, 100), "--blend": (blend, 0, 10)}
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise UserError(f"{name} is {value:g}.", hint=f"Allowed are {low} to {high}.")


def parse_spans(text: str | None) -> tuple[tuple[float, float], ...]:
    """Spans in seconds of ``0:2,4:6``.

    Raises:
        UserError: the text is none.
    """
    spans = []
    for part in (text or "").split(","):
        if not part.strip():
            continue
        start, _, end = part.partition(":")
        try:
            spans.append((float(start or 0), float(end)))
        except ValueError as error:
            raise UserError(f"--keep {part!r} is no span.", hint="Spans are START:END in seconds: 0:2,4:6.") from error
    return tuple(spans)


def _read(path: Path, fps: float | None) -> Motion:
    from macebench.motion import read_motion

    try:
        return read_motion(path, fps=fps)
    except MediaError as error:
        hint = "`macebench convert` reads more formats." if error.reason in _CONVERTIBLE else ""
        raise UserError(f"{path} cannot be used: {error}", hint=hint) from error


def _write(out: Path, motion: Motion, music: Path) -> None:
    from macebench.generate import render_motion
    from macebench.motion import write_motion

    if out.suffix.lower() == ".mp4":
        render_motion(motion, music, out)
    else:
        write_motion(out.with_suffix(out.suffix.lower()), motion)


def _report(out: Path, motion: Motion, plan: EditPlan, dance: Motion) -> None:
    from macebench.models.motion_expert.editing import input_frames, kept_parts

    n_input = input_frames(dance)
    kept = kept_parts(plan, n_input, len(motion))
    whole = int(kept.whole.sum())
    part = _PARTS.get(plan.mode)
    count = int(kept.any.sum())
    said = f"{whole} of them kept whole" if part is None else f"{part} kept in {count} of them"
    say(f"{out}: {len(motion)} frames, {said}")


def _report_seams(seams: Seams) -> None:
    if math.isnan(seams.speed_m_s):
        return
    known = "" if math.isnan(seams.usual_m_s) else f" (99 % of training speeds are below {seams.usual_m_s:.2f} m/s)"
    over = f"over seams, blended over {seams.blend_s:.1f} s" if seams.blend_s else "over seams, not blended"
    say(f"fastest joint {over}: {seams.speed_m_s:.2f} m/s{known}")
    if seams.dash and seams.blend_s:
        say("  faster than usual: no blend that fits is slower. The parts that meet may themselves be that fast;"
            " keep other spans, or try --resample 4 or another --seed.")  # fmt: skip
