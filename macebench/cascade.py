"""The cascade gap: one animator driven by ground-truth motions and by generated ones, side by side.

A music-to-video cascade is a motion model followed by an animator. How much of a video's faults are the animator's own,
and how much comes of feeding it motions that it was not made for? Both sets of motions go through the same animator:

1. Motions are paired by id. Of a pair, both are brought to the reference motion's frame rate and cut to the shorter
   one, and both are rendered with one camera (that holds both dances), one look and one size, with the reference's
   music.
2. Both sets of videos are scored under the same resolved protocol, whose reference set are the videos of the
   ground-truth motions.
3. Every column gets the difference *generated minus ground truth*, with the tests of `macebench.compare`: bootstrap
   interval and sign flip test over clips for means, permutation test for set metrics, p-values adjusted after Holm.

The animator here is the mannequin of `macebench.render`, which adds no fault of its own. Videos that another animator
made of both sets of motions are compared in the same way: `videos` and `reference_videos` take the place of step 1.

Written are ``cascade.csv``, ``cascade.html``, ``compare.json``, the videos, and both run folders.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import macebench
from macebench.clips import inside, load_set
from macebench.errors import MacebenchError, UserError
from macebench.motion import read_motion, resample_motion
from macebench.protocol import canonical_json
from macebench.run import Progress, silent
from macebench.store import ensure_writable, write_text
from macebench.types import Clip, Motion

if TYPE_CHECKING:
    from macebench.compare_records import Comparison
    from macebench.media import Decoder

ANIMATORS = ("mannequin",)
GENERATED, TRUTH = "generated-motion", "ground-truth-motion"
CSV_FILE, HTML_FILE, JSON_FILE = "cascade.csv", "cascade.html", "compare.json"
SOUND_RATE = 44100
MIN_FRAMES = 2
_HINT = "Give --motions and --reference-motions, or --videos and --reference-videos."
_SIDES = {
    "first: ": "generated: ", "second: ": "ground truth: ",
    "only in the first run": "only among the generated", "only in the second run": "only among the ground truth",
}  # fmt: skip
_COLUMNS = (
    "protocol", "protocol_hash", "score", "unit", "better", "n", "n_clusters", "generated", "ground_truth",
    "difference", "low", "high", "effect", "p_value", "p_holm", "n_unscored", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class CascadeConfig:
    """One comparison.

    Attributes:
        out: Folder to write.
        motions: Folder of generated motions, or ``DIR:SPLIT`` of a data set.
        reference_motions: The ground-truth motions of the same names.
        videos: Folder of videos that an animator made of the generated motions, instead of `motions`.
        reference_videos: Folder of videos that it made of the ground-truth motions.
        animator: Of `ANIMATORS`; what renders motions.
        protocols: Ids or YAML files of protocols for videos.
        music: Folder of sound files by stem.
        motion_fps: Frame rate of motion files that do not say theirs.
        size: Width and height of rendered videos in pixels, even.
        pose: Registered pose back end.
        pose_settings: Its settings.
        limit: Only the first so many clips.
        workers: Worker processes for decoding and pose.
        store: Folder of the store; None is the user's.
        plugins: Python files that register more.
        permutations: Permutations and resamples a test.
        seed: Seed of all of them.
    """

    out: Path
    motions: str | None = None
    reference_motions: str | None = None
    videos: Path | None = None
    reference_videos: Path | None = None
    animator: str = "mannequin"
    protocols: tuple[str, ...] = ("video-referee/1",)
    music: Path | None = None
    motion_fps: float | None = None
    size: int = 512
    pose: str = "blazepose"
    pose_settings: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    workers: int = 1
    store: Path | None = None
    plugins: tuple[Path, ...] = ()
    permutations: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Rendered:
    """Folders of videos, and what became of the pairs.

    Attributes:
        generated: Videos of the generated motions.
        truth: Videos of the ground-truth motions.
        failed: Clip id -> why a pair has no videos.
        notes: What was done to pairs, such as ``cut to the shorter motion``: note -> count.
        ids: The videos of this run; other files in the folders are left of an earlier one. None means all.
    """

    generated: Path
    truth: Path
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    ids: frozenset[str] | None = None


@dataclass(frozen=True)
class Cascade:
    """The result: tests whose first side is the generated motions, and what became of the pairs."""

    comparison: Comparison
    rendered: Rendered


def run_cascade(config: CascadeConfig, progress: Progress = silent) -> Cascade:
    """Render, score and compare both sets, and write the folder.

    Raises:
        UserError: nothing can be paired, a wrong option, an unknown name, or the folder cannot be written.
    """
    from macebench.compare import compare_runs
    from macebench.prepare import EvalConfig
    from macebench.report.cascade import cascade_page
    from macebench.runfolder import evaluate

    _check(config)
    ensure_writable(config.out)
    rendered = _videos(config, progress)
    runs = {}
    for name, videos in ((GENERATED, rendered.generated), (TRUTH, rendered.truth)):
        runs[name] = config.out / "runs" / name
        evaluate(
            EvalConfig(
                reference=str(rendered.truth), out=runs[name], videos=videos, model=name, protocols=config.protocols,
                pose=config.pose, pose_settings=config.pose_settings, limit=config.limit, workers=config.workers,
                store=config.store, plugins=config.plugins, only=rendered.ids, only_reference=rendered.ids,
            ),
            progress,
        )  # fmt: skip
    comparison = compare_runs(
        runs[GENERATED], runs[TRUTH], n_permutations=config.permutations, seed=config.seed, progress=progress
    )
    comparison = _named(comparison)
    result = Cascade(comparison, rendered)
    write_text(config.out / JSON_FILE, comparison.model_dump_json(indent=1) + "\n")
    write_text(config.out / CSV_FILE, as_csv(comparison))
    write_text(config.out / HTML_FILE, cascade_page(result))
    return result


def _named(comparison: Comparison) -> Comparison:
    """The comparison whose reasons call the sides by what they are: ``generated`` and ``ground truth``."""

    def named(counts: Mapping[str, int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for reason, count in counts.items():
            old = next((start for start in _SIDES if reason.startswith(start)), "")
            found[_SIDES.get(old, "") + reason.removeprefix(old)] = count
        return found

    parts = [
        part.model_copy(update={
            "unpaired": named(part.unpaired),
            "tests": [test.model_copy(update={"unscored": named(test.unscored)}) for test in part.tests],
        })
        for part in comparison.protocols
    ]  # fmt: skip
    return comparison.model_copy(update={"protocols": parts})


def as_csv(comparison: Comparison) -> str:
    """``cascade.csv``: one line a score; an absent number is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for part in comparison.protocols:
        for test in part.tests:
            cells = (
                part.protocol, part.protocol_hash, test.name, test.unit, test.better, test.n, test.n_clusters,
                test.first, test.second, test.difference, test.low, test.high, test.effect, test.p_value, test.p_holm,
                sum(test.unscored.values()), test.reason,
            )  # fmt: skip
            writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def _check(config: CascadeConfig) -> None:
    motions = config.motions is not None, config.reference_motions is not None
    videos = config.videos is not None, config.reference_videos is not None
    if (all(motions), any(videos)) != (True, False) and (all(videos), any(motions)) != (True, False):
        both = " of motions or two sets of videos; both kinds were given" if any(motions) and any(videos) else ""
        raise UserError(f"a cascade compares two sets{both}.", hint=_HINT)
    if config.animator not in ANIMATORS:
        raise UserError(
            f"animator {config.animator!r} is not built in; allowed is {', '.join(ANIMATORS)}.",
            hint="Render both sets of motions with yours and give --videos and --reference-videos.",
        )
    if config.size < 2 or config.size % 2:
        raise UserError(f"--size is {config.size}; it must be even and above 0.")


def _videos(config: CascadeConfig, progress: Progress) -> Rendered:
    if config.videos is not None and config.reference_videos is not None:
        return Rendered(config.videos, config.reference_videos)
    given, truth = (
        {clip.clip_id: clip for clip in load_set(str(spec), kind="motion", music=config.music).clips}
        for spec in (config.motions, config.reference_motions)
    )
    shared = sorted(given.keys() & truth.keys())[: config.limit]
    if not shared:
        raise UserError(
            f"no motion of {config.motions} has the name of one of {config.reference_motions}.",
            hint="Pairs are found by file name: generated/a.npz goes with ground-truth/a.npz.",
        )
    return _render_all(config, [(given[name], truth[name]) for name in shared], progress)


# ---- rendering ------------------------------------------------------------------------------------------


def _render_all(config: CascadeConfig, pairs: list[tuple[Clip, Clip]], progress: Progress) -> Rendered:
    from macebench.media import Decoder

    folder = config.out / "videos"
    rendered = Rendered(folder / "generated", folder / "ground-truth")
    failed: dict[str, str] = {}
    notes: dict[str, int] = {}
    with Decoder() as decoder:
        for done, (given, truth) in enumerate(pairs, start=1):
            targets = tuple(inside(place, f"{truth.clip_id}.mp4") for place in (rendered.generated, rendered.truth))
            try:
                for note in _render_pair(config, given, truth, targets, decoder):
                    notes[note] = notes.get(note, 0) + 1
            except MacebenchError as error:
                failed[truth.clip_id] = str(error).splitlines()[0]
                for target in targets:
                    target.unlink(missing_ok=True)
            progress("render", done, len(pairs))
    if len(failed) == len(pairs):
        first = pairs[0][1].clip_id
        raise UserError(
            f"no pair could be rendered; {first}: {failed[first]}",
            hint="The mannequin is posed by rotations: give .npz motions with `rotations`, BVH or SMPL parameters.",
        )
    made = frozenset(truth.clip_id for _, truth in pairs) - failed.keys()
    return Rendered(rendered.generated, rendered.truth, failed, notes, made)


def _render_pair(
    config: CascadeConfig, given: Clip, truth: Clip, targets: tuple[Path, ...], decoder: Decoder
) -> list[str]:
    """Render both motions of a pair, unless that was done already; what was done to them comes back."""
    motions = [read_motion(clip.path, fps=config.motion_fps) for clip in (given, truth)]
    pair, notes = matched(*motions)
    music = truth.music if truth.music is not None else given.music
    recipe = canonical_json({
        "generated": given.sha256, "truth": truth.sha256, "size": config.size, "motion_fps": config.motion_fps,
        "music": truth.music_sha256 or given.music_sha256, "animator": config.animator,
        "macebench": macebench.__version__,
    })  # fmt: skip
    record = targets[0].with_suffix(".json")
    if all(path.is_file() for path in targets) and record.is_file() and record.read_text("utf-8") == recipe:
        return notes
    record.unlink(missing_ok=True)
    render_both(pair, targets, size=config.size, sound=_sound(music, pair[0].duration_s, decoder))
    write_text(record, recipe)
    return notes


def matched(generated: Motion, truth: Motion) -> tuple[tuple[Motion, Motion], list[str]]:
    """Both motions at the second one's frame rate and of equal length, and notes on what that took.

    Raises:
        UserError: one has fewer than two frames, or no rotations.
    """
    notes = [] if generated.fps == truth.fps else ["generated motion brought to the ground truth's frame rate"]
    generated = resample_motion(generated, truth.fps)
    count = min(len(generated), len(truth))
    if len(generated) != len(truth):
        notes.append("cut to the shorter motion")
    if count < MIN_FRAMES:
        raise UserError("a motion of fewer than two frames cannot be rendered.")
    first, second = (_first_frames(motion, count) for motion in (generated, truth))
    return (first, second), notes


def _first_frames(motion: Motion, count: int) -> Motion:
    from macebench.render.base import need_rotations

    root = motion.joints[:, 0] if motion.root is None else motion.root
    return Motion(motion.fps, motion.joints[:count], need_rotations(motion)[:count], root[:count])


def _sound(music: Path | None, seconds: float, decoder: Decoder) -> tuple[Any, int] | None:
    if music is None:
        return None
    samples = decoder.audio(music, SOUND_RATE).samples
    return samples[: round(seconds * SOUND_RATE)], SOUND_RATE


def render_both(
    pair: tuple[Motion, Motion], targets: tuple[Path, ...], *, size: int, sound: tuple[Any, int] | None = None
) -> None:
    """Write both motions as videos with one camera and one look.

    Args:
        pair: Two motions of one frame rate.
        targets: Two video files.
        size: Width and height in pixels.
        sound: Samples and their rate, or None.

    Raises:
        UserError: a motion has no rotations, or a file cannot be written.
    """
    from macebench.media import write_video
    from macebench.render import get_renderer
    from macebench.render.base import Look
    from macebench.render.camera import fit_camera

    renderer = get_renderer("painter", width=size, height=size)
    camera = fit_camera(_together(pair), size, size)
    for motion, target in zip(pair, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        frames: Iterator[Any] = iter(renderer.render(motion, camera=camera, look=Look()))
        write_video(target, frames, fps=motion.fps, audio=sound, metadata={"comment": "generated by macebench"})


def _together(pair: tuple[Motion, Motion]) -> Motion:
    """Both motions one after the other, for measuring."""
    return Motion(pair[0].fps, np.concatenate([motion.joints for motion in pair]))
