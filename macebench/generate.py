"""Runs one model over a set of music: `macebench generate`, and the first half of ``macebench eval --model NAME``.

For each piece one dance is made and written in one or more formats:

| format | file | content |
|---|---|---|
| ``npz`` | ``<id>.npz``, and the music beside it | our motion file (`macebench.motion.files`) |
| ``aist`` | ``<id>.npz`` | AIST++'s names without pickle (`macebench.motion.files.write_aist`), y up |
| ``bvh`` | ``<id>.bvh`` | for animation programs (`macebench.motion.bvh_write`) |
| ``mp4`` | ``<id>.mp4`` | the dance with its music: a model's own video, or the mannequin |

One format lies in the output folder itself, several in a folder each, so that any of them can be given to
``macebench eval``. Beside each file ``<id>.json`` holds its recipe: format, model, code, settings, seed and music. A
file is kept as long as its recipe is the same; that is how a run goes on after an interruption. While a file is made,
its recipe says ``unfinished``. Files without a recipe of ours, and music, are never written over.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import macebench
from macebench import registry
from macebench.animators import PREVIEW_SIZE, Animator, Cascade, Mannequin, render_motion
from macebench.clips import inside
from macebench.dance_files import FORMATS, Job, finishing, is_there, need_room
from macebench.engine import Crashed, Work, run_jobs
from macebench.errors import MediaError, UserError
from macebench.media import file_sha256
from macebench.motion import MOTION_SUFFIXES, write_motion
from macebench.motion.files import write_aist
from macebench.prepare import model_card
from macebench.sounds import length_s, listen, music_of, sound_file
from macebench.store import atomic_write
from macebench.types import Clip, Motion, MotionModel, VideoModel

if TYPE_CHECKING:
    from macebench.run import Progress

__all__ = [
    "FORMATS", "PREVIEW_SIZE", "Danced", "Generated", "Planned", "check_options", "clip_seed", "dance_to", "generate",
    "is_generator", "make_model", "music_of", "need_generator", "plan_dances", "plan_generation", "render_motion",
]  # fmt: skip

GENERATED_FOLDER = "generated"
MOTIONS_FOLDER = "generated-motions"
MUSIC_FOLDER = "music"


@dataclass(frozen=True)
class Generated:
    """What `generate` made.

    Attributes:
        videos: The files of the first format, in the order of their clip ids.
        failed: Clip id -> what went wrong.
        frames: Frames that were sampled now, by models that say so.
        seconds: Time of sampling them, summed over workers.
        notes: Clip id -> what is odd about a dance that was made now.
    """

    videos: tuple[Path, ...]
    failed: dict[str, str]
    frames: int = 0
    seconds: float = 0.0
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """What `generate` would do.

    Attributes:
        pieces: Pieces of music.
        done: Of them, those whose files are there.
        unreadable: Clip id -> why the music cannot be read.
        music_s: Length of the music that is still to be danced to, in seconds.
        seconds: Estimated time of sampling; None when the model cannot tell.
    """

    pieces: int
    done: int
    unreadable: Mapping[str, str]
    music_s: float
    seconds: float | None


@dataclass(frozen=True)
class Danced:
    """What a model danced to the music of a set.

    Attributes:
        folder: Where the files are.
        ids: Clip ids of all that were asked for, also those that failed.
        failed: Clip id -> what went wrong.
        notes: See `Generated`.
    """

    folder: Path
    ids: frozenset[str]
    failed: dict[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Done:
    """What became of a job; frames and seconds of sampling, and what is odd."""

    failed: str | None
    frames: int = 0
    seconds: float = 0.0
    note: str = ""


def is_generator(name: str) -> bool:
    """Whether `name` is a registered model that makes something new (not a calibration model)."""
    return name in registry.names("models") and model_card(name).kind in ("motion", "video")


def need_generator(name: str) -> None:
    """Raises `UserError` unless `name` is a registered model that makes something new."""
    if name not in registry.names("models"):
        raise registry.unknown("model", name, registry.names("models"), "macebench ls models")
    if not is_generator(name):
        raise UserError(f"model {name!r} generates nothing.", hint="`macebench ls models` lists the models.")


def check_options(name: str, given: Collection[str], offered: Collection[str] | None = None) -> None:
    """Refuse options that the model `name` does not take; the hint names those of `offered`, or all, that it takes.

    Raises:
        UserError: the model is unknown or generates nothing, or does not take one of the options.
    """
    need_generator(name)
    kind = registry.get("models", name)
    taken = getattr(kind, "options", None)
    if taken is None:
        taken = {parameter.name for parameter in inspect.signature(kind).parameters.values()}
    strange = set(given) - set(taken)
    if strange:
        own = set(taken) if offered is None else set(taken) & set(offered)
        none = "It takes none of them." if offered is None else "It takes none of the command's model options."
        hint = f"Its own options: {_dashed(own)}." if own else none
        raise UserError(f"model {name!r} does not take {_dashed(strange)}.", hint=hint)


def _dashed(options: Collection[str]) -> str:
    return ", ".join(f"--{option.replace('_', '-')}" for option in sorted(options))


def make_model(name: str, options: Mapping[str, Any] | None = None) -> Any:
    """The registered model `name` with these options; raises as `check_options`."""
    check_options(name, options or ())
    return registry.get("models", name)(**(options or {}))


def generate(
    name: str,
    music: Mapping[str, Path],
    out: Path,
    *,
    seed: int = 0,
    as_motion: bool = False,
    formats: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    workers: int = 1,
    plugins: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Generated:
    """Make one dance for each piece of music and write it in each format.

    A file that is there is kept when model, code, settings, seed and music are the same as when it was made. A piece
    that fails costs its own files.

    Args:
        name: Registered model of kind ``motion`` or ``video``.
        music: Clip id -> sound file.
        out: Output folder; see the module.
        seed: The run's seed; each clip's own seed is derived from it and the clip's id, so that adding a clip
            changes no other.
        as_motion: Keep the motion, with a copy of its music beside it, and render nothing: the format ``npz``.
        formats: Keys of `FORMATS`; ``mp4`` when None.
        options: Arguments of the model.
        workers: Processes.
        plugins: Python files that register more, for the workers.
        progress: Called after each piece, and during sampling by models that tell.

    Raises:
        UserError: the model is unknown, generates nothing or no motion, does not take an option, there is no music, or
            a file that is to be written is music or was not made here.
    """
    chosen = ("npz",) if as_motion else tuple(dict.fromkeys(("mp4",) if formats is None else formats))
    model = make_model(name, options)
    jobs = _jobs(model, name, music, out, seed, chosen)
    report = progress or _silent
    if workers > 1 and len(jobs) > 1:
        results = _in_workers(name, options, plugins, jobs, workers, report)
    else:
        results = []
        for count, job in enumerate(jobs, start=1):
            _follow(model, report, count - 1, len(jobs))
            results.append(_run(model, name, job))
            report("generate", count, len(jobs))
    failed = {job.clip_id: done.failed for job, done in zip(jobs, results, strict=True) if done.failed is not None}
    made = tuple(job.targets[chosen[0]] for job in jobs if job.clip_id not in failed)
    notes = {job.clip_id: done.note for job, done in zip(jobs, results, strict=True) if done.note}
    return Generated(made, failed, sum(done.frames for done in results), sum(done.seconds for done in results), notes)


def dance_to(
    clips: Sequence[Clip],
    name: str,
    out: Path,
    *,
    seed: int = 0,
    as_motion: bool = False,
    device: str | None = None,
    training_set: Path | None = None,
    workers: int = 1,
    plugins: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Danced:
    """Let a model dance to the music of each clip, in a folder of the run folder `out`.

    Args:
        clips: Clips with music, or videos with sound; others are left out.
        name: Registered model of kind ``motion`` or ``video``.
        out: Run folder.
        seed: See `generate`, as for the next ones.
        as_motion: Keep motions with their music; else videos.
        device: Where the model runs, when it has that option; None leaves it to the model.
        training_set: Training set for models that take one; None leaves it to the model.
        workers: Processes.
        plugins: Python files that register more.
        progress: See `generate`.

    Raises:
        UserError: see `generate`.
    """
    folder = out / (MOTIONS_FOLDER if as_motion else GENERATED_FOLDER)
    sounds = music_of(clips, out / MUSIC_FOLDER)
    options = model_options(name, device, training_set)
    made = generate(
        name, sounds, folder, seed=seed, as_motion=as_motion, options=options, workers=workers, plugins=plugins,
        progress=progress,
    )  # fmt: skip
    ids = [path.relative_to(folder.resolve()).with_suffix("").as_posix() for path in made.videos]
    return Danced(folder, frozenset([*ids, *made.failed]), made.failed, made.notes)


def plan_dances(
    clips: Sequence[Clip],
    name: str,
    out: Path,
    *,
    seed: int = 0,
    as_motion: bool = False,
    device: str | None = None,
    training_set: Path | None = None,
) -> Planned:
    """What `dance_to` would do with the same arguments; nothing is written.

    Raises:
        UserError: see `generate`.
    """
    sounds = {}
    for clip in clips:
        written = sound_file(clip, out / MUSIC_FOLDER)
        if clip.music is not None or clip.path.suffix.lower() not in MOTION_SUFFIXES:
            sounds[clip.clip_id] = clip.music or (written if written.is_file() else clip.path)
    folder = out / (MOTIONS_FOLDER if as_motion else GENERATED_FOLDER)
    formats = ("npz",) if as_motion else ("mp4",)
    options = model_options(name, device, training_set)
    return plan_generation(name, sounds, folder, seed=seed, formats=formats, options=options)


def model_options(name: str, device: str | None, training_set: Path | None = None) -> dict[str, Any]:
    """The option ``device`` for a model that has it, and ``training_set`` when it is given."""
    taken = getattr(registry.get("models", name), "options", ())
    own: dict[str, Any] = {"device": device} if device is not None and "device" in taken else {}
    return own if training_set is None else {**own, "training_set": training_set}


def plan_generation(
    name: str,
    music: Mapping[str, Path],
    out: Path,
    *,
    seed: int = 0,
    formats: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Planned:
    """What `generate` would do with the same arguments; nothing is written.

    Raises:
        UserError: as `generate`.
    """
    model = make_model(name, options)
    jobs = _jobs(model, name, music, out, seed, ("mp4",) if formats is None else tuple(formats))
    waiting = [job for job in jobs if not is_there(job, _recipes(model, name, job))]
    unreadable: dict[str, str] = {}
    lengths: list[float] = []
    for job in waiting:
        try:
            lengths.append(length_s(job.music))
        except MediaError as error:
            unreadable[job.clip_id] = str(error)
    dancer = _parts(model)[0]
    cut = getattr(dancer, "seconds", None)
    total = sum(length if cut is None else min(length, cut) for length in lengths)
    estimate = getattr(dancer, "estimate", None)
    seconds = float(estimate(round(30 * total))) if estimate is not None else None
    return Planned(len(jobs), len(jobs) - len(waiting), unreadable, total, seconds)


def clip_seed(seed: int, clip_id: str) -> int:
    """Seed of one clip, from the run's seed and the clip's id."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{clip_id}".encode()).digest()[:4], "big")


def _silent(phase: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def _jobs(
    model: Any, name: str, music: Mapping[str, Path], out: Path, seed: int, formats: tuple[str, ...]
) -> list[Job]:
    """One job a piece, in the order of the ids. Raises `UserError` for what cannot be done at all."""
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise UserError(f"unknown format {', '.join(unknown)}.", hint=f"Formats are {', '.join(FORMATS)}.")
    if not formats:
        raise UserError("no format is given.", hint=f"Formats are {', '.join(FORMATS)}.")
    if _parts(model)[0] is None and set(formats) != {"mp4"}:
        raise UserError(f"model {name!r} makes videos, no 3-D motions.",
                        hint="Score it under a protocol for videos (`macebench ls protocols`).")  # fmt: skip
    if not music:
        raise UserError("there is no music to dance to.", hint="Give clips with sound, or --music DIR.")
    folders = {one: out / one if len(formats) > 1 else out for one in formats}
    jobs = []
    for clip_id in sorted(music):
        targets = {one: inside(folders[one], f"{clip_id}{FORMATS[one]}") for one in formats}
        jobs.append(Job(clip_id, music[clip_id], clip_seed(seed, clip_id), targets))
    need_room(jobs, out)
    return jobs


def _parts(model: Any) -> tuple[MotionModel | None, Animator | None]:
    """What dances and what draws; (None, None) for a model that makes finished videos."""
    if isinstance(model, Cascade):
        return model.motion_model, model.animator
    return (cast(MotionModel, model), Mannequin()) if model.card.kind == "motion" else (None, None)


def _follow(model: Any, progress: Progress, done: int, total: int) -> None:
    """Let a model that can tell report its steps on the bar ``sampling``."""
    dancer = _parts(model)[0]
    if hasattr(dancer, "progress"):

        def report(step: int, steps: int) -> None:
            progress("sampling", done * steps + step, total * steps)

        cast(Any, dancer).progress = report


def _in_workers(
    name: str,
    options: Mapping[str, Any] | None,
    plugins: Sequence[Path],
    jobs: Sequence[Job],
    workers: int,
    progress: Progress,
) -> list[_Done]:
    """What became of each job, done by several processes."""
    work: Work[Job, _Done] = Work(_run_in_worker, _set_up, (name, dict(options or {}), tuple(plugins)))
    results: dict[int, _Done] = {}
    for index, result in run_jobs(work, jobs, workers=workers):
        results[index] = _Done(result.reason) if isinstance(result, Crashed) else result
        progress("generate", len(results), len(jobs))
    return [results[index] for index in range(len(jobs))]


_worker: dict[str, Any] = {}


def _set_up(name: str, options: Mapping[str, Any], plugins: Sequence[Path]) -> None:
    """Prepare a worker process."""
    for path in plugins:
        registry.load_plugin(path)
    _worker.update(model=make_model(name, options), name=name)


def _run_in_worker(job: Job) -> _Done:
    return _run(_worker["model"], _worker["name"], job)


def _run(model: Any, name: str, job: Job) -> _Done:
    """Make one piece; what goes wrong with it is its own matter, a `UserError` everyone's."""
    before = _timing(model)
    try:
        note = _make(model, name, job)
    except UserError:
        raise
    except MediaError as error:
        return _Done(str(error))
    except Exception as error:  # noqa: BLE001 - one piece that fails must not lose the others
        return _Done(f"{type(error).__name__}: {error}")
    frames, seconds = _timing(model)
    return _Done(None, frames - before[0], seconds - before[1], note)


def _timing(model: Any) -> tuple[int, float]:
    """(frames, seconds) sampled so far, by models that tell."""
    timing = getattr(_parts(model)[0], "timing", None)
    return (timing.frames, timing.seconds) if timing is not None else (0, 0.0)


def _make(model: Any, name: str, job: Job) -> str:
    """Make the files of one piece, unless they are there and were made by the same recipes; says what is odd."""
    recipes = _recipes(model, name, job)
    if is_there(job, recipes):
        return ""
    note = listen(job.music)
    with finishing(job, recipes):
        _generate_one(model, job)
    return note


def _recipes(model: Any, name: str, job: Job) -> dict[str, dict[str, Any]]:
    """Everything that the file of each format depends on."""
    dancer, animator = _parts(model)
    content: dict[str, Any] = {
        "model": name,
        "code": _code_of(model),
        "seed": job.seed,
        "music": file_sha256(job.music),
        "macebench": macebench.__version__,
    }
    settings = getattr(dancer if dancer is not None else model, "recipe", None)
    if settings is not None:
        content["settings"] = dict(settings())
    recipes = {form: {**content, "format": form} for form in job.targets}
    if animator is not None and "mp4" in recipes:
        recipes["mp4"]["animator"] = dict(animator.settings())
    return recipes


def _code_of(model: Any) -> str:
    """Name and file hash of the model's class."""
    kind = type(model)
    source = inspect.getsourcefile(kind)
    return f"{kind.__module__}:{kind.__qualname__} {file_sha256(source) if source else ''}"


def _generate_one(model: Any, job: Job) -> None:
    dancer, animator = _parts(model)
    if dancer is None or animator is None:
        video = cast(VideoModel, model).generate(job.music, None, job.seed)
        with atomic_write(job.targets["mp4"]) as temporary:
            shutil.copyfile(video, temporary)
        return
    motion = dancer.generate(job.music, job.seed)
    for form, target in job.targets.items():
        _write(form, target, motion, job, animator)


def _write(form: str, target: Path, motion: Motion, job: Job, animator: Animator) -> None:
    if form == "mp4":
        animator.animate(motion, job.music, None, job.seed, target)
    elif form == "aist":
        write_aist(target, motion)
    else:
        write_motion(target, motion)
    if form == "npz":
        with atomic_write(target.with_suffix(job.music.suffix)) as temporary:
            shutil.copyfile(job.music, temporary)
