"""Runs one model over a set of music: the first half of ``macebench eval --model NAME``."""

from __future__ import annotations

import hashlib
import inspect
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import macebench
from macebench import registry
from macebench.clips import inside
from macebench.errors import UserError
from macebench.media import file_sha256
from macebench.motion import MOTION_SUFFIXES, write_motion
from macebench.prepare import model_card
from macebench.protocol import canonical_json
from macebench.store import atomic_write, write_text
from macebench.types import Clip, Motion, MotionModel, VideoModel

if TYPE_CHECKING:
    from macebench.run import Progress

GENERATED_FOLDER = "generated"
MOTIONS_FOLDER = "generated-motions"
MUSIC_FOLDER = "music"
PREVIEW_SIZE = 512


@dataclass(frozen=True)
class Generated:
    """What `generate` made.

    Attributes:
        videos: The videos or motion files, in the order of their clip ids.
        failed: Clip id -> what went wrong.
    """

    videos: tuple[Path, ...]
    failed: dict[str, str]


def is_generator(name: str) -> bool:
    """Whether `name` is a registered model that makes something new (not a calibration model)."""
    return name in registry.names("models") and model_card(name).kind in ("motion", "video")


def music_of(clips: Sequence[Clip], folder: Path) -> dict[str, Path]:
    """The sound of each clip as a file: its music when given, else its own sound written to `folder`.

    Clips without sound are left out.
    """
    from macebench.errors import MediaError
    from macebench.media import Decoder, write_wav

    found: dict[str, Path] = {}
    with Decoder() as decoder:
        for clip in clips:
            target = inside(folder, f"{clip.clip_id}-{clip.sha256[:12]}.wav")
            if clip.music is not None:
                found[clip.clip_id] = clip.music
            elif clip.path.suffix.lower() in MOTION_SUFFIXES:
                continue
            elif target.is_file():
                found[clip.clip_id] = target
            else:
                try:
                    sound = decoder.audio(clip.path, 44100)
                except MediaError:
                    continue
                write_wav(target, sound.samples, sound.sample_rate)
                found[clip.clip_id] = target
    return found


def generate(
    name: str,
    music: dict[str, Path],
    out: Path,
    *,
    seed: int = 0,
    as_motion: bool = False,
    progress: Progress | None = None,
) -> Generated:
    """Make one video, or one motion file, for each piece of music.

    A file that is there is kept when model, code, seed and music are the same as when it was made. A piece
    that fails costs its own video.

    Args:
        name: Registered model of kind ``motion`` (rendered with the default renderer) or ``video``.
        music: Clip id -> sound file.
        out: Folder of the videos (``<clip_id>.mp4``) or motions (``<clip_id>.npz``), each with its recipe in
            ``<clip_id>.json``.
        seed: The run's seed; each clip's own seed is derived from it and the clip's id, so that adding a clip
            changes no other.
        as_motion: Keep the motion, with a copy of its music beside it, and render nothing.
        progress: Called after each file.

    Raises:
        UserError: the model is unknown, generates nothing or no motion, or there is no music.
    """
    if not is_generator(name):
        raise UserError(f"model {name!r} generates nothing.", hint="`macebench ls models` lists the models.")
    if as_motion and model_card(name).kind != "motion":
        raise UserError(f"model {name!r} makes videos, no 3-D motions.",
                        hint="Score it under a protocol for videos (`macebench ls protocols`).")  # fmt: skip
    if not music:
        raise UserError("there is no music to dance to.", hint="Give clips with sound, or --music DIR.")
    made: list[Path] = []
    failed: dict[str, str] = {}
    model = registry.get("models", name)()
    for count, clip_id in enumerate(sorted(music), start=1):
        target = inside(out, f"{clip_id}{'.npz' if as_motion else '.mp4'}")
        try:
            _make(model, name, clip_id, music[clip_id], target, seed)
            made.append(target)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - one piece that fails must not lose the others
            failed[clip_id] = f"{type(error).__name__}: {error}"
        if progress is not None:
            progress("generate", count, len(music))
    return Generated(tuple(made), failed)


def _make(model: Any, name: str, clip_id: str, music: Path, target: Path, seed: int) -> None:
    """Generate one video, unless it is there and was made by the same recipe."""
    recipe = canonical_json({
        "model": name,
        "code": _code_of(model),
        "seed": seed,
        "music": file_sha256(music),
        "macebench": macebench.__version__,
    })  # fmt: skip
    note = target.with_suffix(".json")
    if target.is_file() and note.is_file() and note.read_text("utf-8") == recipe:
        return
    note.unlink(missing_ok=True)
    _generate_one(model, music, target, clip_seed(seed, clip_id))
    write_text(note, recipe)


def _code_of(model: Any) -> str:
    """Name and file hash of the model's class."""
    kind = type(model)
    source = inspect.getsourcefile(kind)
    return f"{kind.__module__}:{kind.__qualname__} {file_sha256(source) if source else ''}"


def clip_seed(seed: int, clip_id: str) -> int:
    """Seed of one clip, from the run's seed and the clip's id."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{clip_id}".encode()).digest()[:4], "big")


def _generate_one(model: MotionModel | VideoModel, music: Path, target: Path, seed: int) -> None:
    if target.suffix == ".npz":
        with atomic_write(target.with_suffix(music.suffix)) as temporary:
            shutil.copyfile(music, temporary)
        write_motion(target, cast(MotionModel, model).generate(music, seed))
        return
    if model.card.kind == "video":
        video = cast(VideoModel, model).generate(music, None, seed)
        with atomic_write(target) as temporary:
            shutil.copyfile(video, temporary)
        return
    render_motion(cast(MotionModel, model).generate(music, seed), music, target)


def render_motion(motion: Motion, music: Path, target: Path, size: int = PREVIEW_SIZE) -> Path:
    """A video of the mannequin dancing `motion`, with the music, marked as generated in its metadata."""
    from macebench.media import Decoder, write_video
    from macebench.render import get_renderer

    with Decoder() as decoder:
        sound = decoder.audio(music, 44100)
    samples = sound.samples[: round(motion.duration_s * sound.sample_rate)]
    frames: Iterable[Any] = get_renderer("painter", width=size, height=size).render(motion)
    return write_video(
        target, _as_iterator(frames), fps=motion.fps, audio=(samples, sound.sample_rate),
        metadata={"comment": "generated by macebench"},
    )  # fmt: skip


def _as_iterator(frames: Iterable[Any]) -> Iterator[Any]:
    yield from frames
