"""What the self-test is made on: the demo's own dances, or a folder of motions or of videos.

By default no file is read: dances and their true beats are made by `macebench.demo`, 8 s at 30 frames a second.
Protocols for motions see them in space; protocols for videos see their *projected poses*
(`macebench.selftest.projected`), and no picture. A folder goes through the same steps as in `macebench eval`, and its
own half is the reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from macebench import registry
from macebench.errors import UserError
from macebench.prepare import COMPANIONS, MOTION_TRACK, EvalConfig, Prepared, prepare
from macebench.protocol import PoseBackend, Protocol, Reference, load_protocol, protocol_ids
from macebench.registry import Metric
from macebench.scoring import needed
from macebench.types import Beats, Clip, Evidence, Missing, Motion

if TYPE_CHECKING:
    from macebench.run import Progress

DEMO_SECONDS, DEMO_FPS = 8.0, 30.0
TRACKS = ("video-2d", MOTION_TRACK)
MIN_CLIPS = 8
NO_PICTURE = "dances without a picture"
PROJECTED = PoseBackend(name="projected", model="exact keypoints", weights_sha256="", input_size=(512, 512))


@dataclass(frozen=True)
class SelftestConfig:
    """One self-test.

    Attributes:
        out: Folder for the results.
        motions: Folder of motions, or None.
        videos: Folder of videos, or None; without either the demo's dances are taken.
        music: Folder of sound files by stem, for a folder of motions or videos.
        protocols: Ids or files; empty means all that can score the inputs.
        metrics: Registered metrics besides those of the protocols.
        n: Number of the demo's dances.
        limit: Only the first so many clips of a folder.
        repeats: Number of random half splits.
        strengths: How many of the five strengths of each degradation, 1 to 5; the strongest is always among them.
        workers: Worker processes.
        seed: Seed of the demo's dances and of the splits.
        pose: Pose back end, for videos.
        pose_settings: Its settings.
        store: Folder of the store; None is the user's.
        plugins: Python files that register more.
    """

    out: Path
    motions: Path | None = None
    videos: Path | None = None
    music: Path | None = None
    protocols: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    n: int = 32
    limit: int | None = None
    repeats: int = 20
    strengths: int = 5
    workers: int = 1
    seed: int = 0
    pose: str = "blazepose"
    pose_settings: dict[str, Any] = field(default_factory=dict)
    store: Path | None = None
    plugins: tuple[Path, ...] = ()

    def check(self) -> None:
        """Refuse wrong values.

        Raises:
            UserError: one is out of range, or two inputs are given.
        """
        if self.videos is not None and self.motions is not None:
            raise UserError("--videos and --motions were both given.", hint="Test them one after the other.")
        if self.n < MIN_CLIPS:
            raise UserError(f"--n is {self.n}; the self-test needs {MIN_CLIPS} dances or more.")
        if self.repeats < 2:
            raise UserError(f"--repeats is {self.repeats}; it must be 2 or more.")
        if not 1 <= self.strengths <= 5:
            raise UserError(f"--strengths is {self.strengths}; it must be 1 to 5.")
        if self.workers < 1:
            raise UserError(f"--workers is {self.workers}; it must be 1 or more.")


@dataclass(frozen=True)
class Bench:
    """One protocol with the clips that it is tested on.

    Attributes:
        protocol: Resolved.
        metrics: Names of the registered metrics.
        evidence: All clips in the order of their ids, undamaged.
    """

    protocol: Protocol
    metrics: tuple[str, ...]
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Inputs:
    """What the self-test is made on.

    Attributes:
        source: For people: what the clips are.
        benches: One for each protocol.
    """

    source: str
    benches: tuple[Bench, ...]

    @property
    def n_clips(self) -> int:
        """Clips of each protocol."""
        return len(self.benches[0].evidence)


def load_inputs(config: SelftestConfig, progress: Progress) -> Inputs:
    """The clips and protocols of a self-test.

    Raises:
        UserError: a wrong value, an unknown name, or too few clips.
    """
    for path in config.plugins:
        registry.load_plugin(path)
    config.check()
    return _demo(config) if config.videos is None and config.motions is None else _folder(config, progress)


def _protocols(asked: Sequence[str], tracks: Sequence[str]) -> list[Protocol]:
    """The asked protocols, or every built-in one of `tracks`; each once."""
    found = [load_protocol(name) for name in asked or protocol_ids()]
    chosen = {item.hash: item for item in found if asked or item.track in tracks}
    foreign = [item.id for item in chosen.values() if item.track not in tracks]
    if foreign:
        raise UserError(
            f"{', '.join(foreign)} cannot score these inputs.",
            hint=f"Protocols of {' and '.join(tracks)} can; `macebench ls protocols` lists them.",
        )
    return list(chosen.values())


def _demo(config: SelftestConfig) -> Inputs:
    dances = [_dance(clip, config.seed) for clip in _demo_clips(config)]
    sha256 = hashlib.sha256("\n".join(item.clip.sha256 for item in dances).encode()).hexdigest()
    reference = Reference(name="demo dances", sha256=sha256, n=len(dances))
    projected = None
    benches = []
    for protocol in _protocols(config.protocols, TRACKS):
        evidence = dances
        if protocol.track != MOTION_TRACK:
            projected = projected or [_seen(item) for item in dances]
            evidence = projected
        backend = PROJECTED if protocol.track != MOTION_TRACK else None
        metrics = _metrics(protocol, config.metrics, {"pose" if backend else "motion", "music"})
        benches.append(Bench(protocol.resolve(backend, reference), metrics, tuple(evidence)))
    return Inputs(f"{len(dances)} dances of the demo, true beats, projected poses for video protocols", tuple(benches))


def _demo_clips(config: SelftestConfig) -> list[Any]:
    from macebench.demo.dataset import DemoConfig, plan_clips

    return plan_clips(DemoConfig(n_clips=config.n, seconds=DEMO_SECONDS, fps=DEMO_FPS, seed=config.seed))


def _dance(clip: Any, seed: int) -> Evidence:
    """One dance of the demo with the true beats of its music."""
    from macebench.demo.choreography import choreograph
    from macebench.demo.music import compose

    piece = compose(clip.genre, DEMO_SECONDS, clip.seed, sample_rate=8000)
    grid = piece.beats_s[0] + 60.0 / piece.tempo_bpm * np.arange(len(piece.beats_s) + 1)
    motion = choreograph(grid, DEMO_SECONDS, DEMO_FPS, clip.seed, clip.genre).motion
    named = [hashlib.sha256(f"{part}/{seed}/{clip.clip_id}".encode()).hexdigest() for part in ("dance", "music")]
    item = Clip(clip.clip_id, Path(f"{clip.clip_id}.npz"), named[0], None, named[1])
    missing = Missing(NO_PICTURE)
    return Evidence(item, motion.duration_s, missing, Beats(piece.beats_s, DEMO_SECONDS), missing, motion)


def _seen(dance: Evidence) -> Evidence:
    """The dance as a video protocol sees it: projected poses, no motion in space."""
    from macebench.selftest.projected import projected_pose

    motion = dance.motion
    pose = projected_pose(motion) if isinstance(motion, Motion) else Missing("no 3-D motion")
    return dance.replace(pose=pose, motion=Missing("a video has no 3-D motion"))


def _metrics(protocol: Protocol, extra: Sequence[str], known: set[str]) -> tuple[str, ...]:
    """The protocol's metrics, its companions and those asked for, as far as what is known suffices for them."""
    names = dict.fromkeys((*protocol.metrics, *COMPANIONS.get(protocol.track, ()), *extra))
    return tuple(name for name in names if needs_of(registry.get_metric(name)) <= known)


def needs_of(metric: Metric) -> set[str]:
    """Parts of the evidence that a metric and its feature need."""
    return {need.partition(":")[0] for need in needed([metric])[1]}


def _folder(config: SelftestConfig, progress: Progress) -> Inputs:
    from macebench.run import evidence_of, extract

    prepared = prepare(eval_config(config))
    clips = _enough(prepared).generated.clips
    extracted = extract(prepared, progress)
    benches = tuple(
        Bench(
            protocol,
            tuple(metric.name for metric in prepared.metrics[protocol.hash]),
            tuple(evidence_of(prepared, clips, protocol, extracted)),
        )
        for protocol in prepared.protocols
    )
    return Inputs(f"{len(clips)} clips of {prepared.generated.name}", benches)


def eval_config(config: SelftestConfig) -> EvalConfig:
    """The evaluation that reads the folder of `config`: every clip is in both sets."""
    track = MOTION_TRACK if config.motions is not None else "video-2d"
    folder = config.motions if config.motions is not None else config.videos
    protocols = _protocols(config.protocols, (track,))
    asked = config.protocols or tuple(item.id for item in protocols)
    return EvalConfig(
        reference=str(folder),
        out=config.out,
        videos=config.videos,
        motions=str(config.motions) if config.motions is not None else None,
        protocols=asked,
        metrics=config.metrics,
        pose=config.pose,
        pose_settings=config.pose_settings,
        music=config.music,
        limit=config.limit,
        workers=config.workers,
        store=config.store,
        plugins=config.plugins,
    )


def prepared_folder(config: SelftestConfig) -> Prepared | None:
    """What reading the folder needs, nothing computed; None for the demo's dances."""
    return None if config.videos is None and config.motions is None else _enough(prepare(eval_config(config)))


def _enough(prepared: Prepared) -> Prepared:
    """The same, when it has enough clips; before anything is decoded."""
    count = len(prepared.generated.clips)
    if count < MIN_CLIPS:
        raise UserError(
            f"{count} clips are too few: the self-test compares halves, so it needs {MIN_CLIPS} or more.",
            hint="Without --motions and --videos it makes its own dances.",
        )
    return prepared
