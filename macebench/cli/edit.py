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
    from macebench.models.motion_expert.editing import EditPlan
    from macebench.types import Motion

OUTPUTS = (".npz", ".bvh", ".mp4")
USUAL_SPEED = "joint_speed_p99_m_s"
"""Entry of a checkpoint's card: 99th percentile of the speeds of joints in its training data, in m/s."""
_KEEP = "Spans to keep, in seconds: 0:2,4:6. Needed by inbetween."
_SECONDS = "Length of the result. \\[continue: the music's; else the dance's]"
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
    blend: Annotated[float, typer.Option(help="Seconds over which seams are blended; 0 leaves them.")] = 0.2,
    motion_fps: Annotated[float | None, typer.Option(help="Frame rate of a motion that does not say its own.")] = None,
    checkpoint: Checkpoint = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> int:
    """Keep a part of a dance and let the Motion Expert make the rest to the music.

    inbetween: keep the spans of --keep.

    continue: keep the beginning.

    upper / lower: keep that half of the body.

    root: keep the path.

    What is kept is the input's own, at 30 frames a second.

    Example: macebench edit dance.npz --music song.wav --mode inbetween --keep 0:2,4:6 --out edited.npz

    Example: macebench edit dance.bvh --music song.wav --mode continue --seconds 30 --out longer.mp4
    """
    if out.suffix.lower() not in OUTPUTS:
        raise UserError(f"--out {out} is none of {', '.join(OUTPUTS)}.")
    if not music.is_file():
        raise UserError(f"--music {music} does not exist.", hint="Give a sound file.")
    from macebench.models.motion_expert.editing import EditPlan
    from macebench.models.motion_expert.editing import edit as run_edit
    from macebench.models.motion_expert.expert import MotionExpert, Sampling, features_of

    plan = EditPlan(mode, parse_spans(keep), seconds, resample, blend)  # type: ignore[arg-type]
    sampling = Sampling(steps, beta=beta, scale=scale)
    dance = _read(motion, motion_fps)
    expert = MotionExpert.open(checkpoint, device)
    try:
        features = features_of(music)
    except MediaError as error:
        raise UserError(f"{music} cannot be used: {error}") from error
    with progress_bar() as progress:
        made = run_edit(
            expert, dance, features, plan, seed, genre=genre, sampling=sampling,
            progress=lambda done, total: progress("sampling", done, total),
        )  # fmt: skip
    _write(out, made, music)
    _report(out, made, plan, dance, expert.card.get(USUAL_SPEED))
    return EXIT_OK


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
        raise UserError(f"{path} cannot be used: {error}", hint="`macebench convert` reads more formats.") from error


def _write(out: Path, motion: Motion, music: Path) -> None:
    from macebench.generate import render_motion
    from macebench.motion import write_motion

    if out.suffix.lower() == ".mp4":
        render_motion(motion, music, out)
    else:
        write_motion(out.with_suffix(out.suffix.lower()), motion)


def _report(out: Path, motion: Motion, plan: EditPlan, dance: Motion, usual: object) -> None:
    from macebench.models.motion_expert.editing import input_frames, kept_parts, seam_speed

    n_input = input_frames(dance)
    kept = kept_parts(plan, n_input, len(motion))
    whole = int(kept.whole.sum())
    say(f"{out}: {len(motion)} frames, {whole} of them kept whole")
    speed = seam_speed(motion, plan, n_input)
    if not math.isnan(speed):
        known = f" (99 % of training speeds are below {usual:.2f} m/s)" if isinstance(usual, int | float) else ""
        say(f"fastest joint over a seam: {speed:.2f} m/s{known}")
