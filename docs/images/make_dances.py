"""Draws sampled dances of the Motion Expert to one picture, to look at.

A row is a dance: eight frames of the mannequin, evenly spread, and below them the speed of the body over time (the
curve whose minima are dance beats), with the beats of the music as grey lines, the dance's own as dots and the times of
the eight frames as ticks at the bottom. The music is that of clips of the demo data set, which no training has heard.

Usage: make_dances.py OUT.png [--checkpoint FILE_OR_RUN_FOLDER] [--dances N] [--beta B] [--steps N] [--seconds S]
[--size PIXELS] [--from DIR] [--real]
--real draws the procedural dances of the same music instead; --from DIR draws motions that are there already, each
beside its sound file (DIR/x.npz and DIR/x.wav, or DIR/../music/x.wav).
"""

import argparse
import runpy
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np

from macebench.media import Decoder
from macebench.metrics.beats import motion_beats, music_beats, speed_curve
from macebench.motion import read_motion
from macebench.protocol import Protocol, load_protocol
from macebench.render import Look, get_renderer
from macebench.types import Beats, FloatArray, Motion

mpl.use("Agg")
import matplotlib.pyplot as plt

COLUMNS, FPS = 8, 30.0
PROTOCOL = "motion3d-fixed/1"
BENCH = Path(__file__).resolve().parents[2] / "tests" / "benchmarks" / "bench_embedded.py"


@dataclass(frozen=True)
class Dance:
    """A dance and the beats of its music in seconds."""

    name: str
    motion: Motion
    beats: FloatArray


def chosen(motion: Motion) -> list[int]:
    """The frames that are drawn: the middles of equal parts."""
    return [int((column + 0.5) * len(motion) / COLUMNS) for column in range(COLUMNS)]


def strip(motion: Motion, size: int, seed: int) -> np.ndarray:
    """(size, 8 size, 3) pictures of one dance, from one camera that sees all of it."""
    from macebench.render import fit_camera

    frames = chosen(motion)
    rotations, root = np.asarray(motion.rotations)[frames], np.asarray(motion.root)[frames]
    few = Motion(motion.fps, motion.joints[frames], rotations, root)
    camera = fit_camera(few, size, size)
    return np.concatenate(
        list(get_renderer("painter", size, size).render(few, camera=camera, look=Look.seeded(seed))), 1
    )


def sampled(options: argparse.Namespace, protocol: Protocol) -> list[Dance]:
    """New dances to held-out music, or the procedural ones of the same music."""
    bench = runpy.run_path(str(BENCH))
    with tempfile.TemporaryDirectory() as folder:
        pieces = bench["make_pieces"](Path(folder), protocol, options.dances, options.seconds)
    if options.real:
        motions = [piece.real.need_motion() for piece in pieces]
    else:
        expert = bench["open_expert"](options.checkpoint)
        motions = bench["sampled"](expert, pieces, options.beta, options.steps, "none")
    return [
        Dance(f"{piece.path.stem}, {piece.genre}", motion, piece.real.need_music().times_s)
        for piece, motion in zip(pieces, motions, strict=True)
    ]


def read(folder: Path, count: int, protocol: Protocol) -> list[Dance]:
    """Dances that are there already."""
    rules, found = protocol.need_beats(), []
    with Decoder() as decoder:
        for path in sorted(folder.glob("*.npz"))[:count]:
            places = (path.with_suffix(".wav"), folder.parent / "music" / f"{path.stem}.wav")
            music = next((place for place in places if place.is_file()), None)
            beats = Beats(np.empty(0), 0.0)
            if music is not None:
                sound = decoder.audio(music, rules.music_sample_rate)
                times = music_beats(sound.samples, sound.sample_rate, variant=rules.music_variant) + sound.start_s
                beats = Beats(times, len(sound.samples) / sound.sample_rate)
            found.append(Dance(path.stem, read_motion(path), beats.times_s))
    return found


def curve(axis: plt.Axes, dance: Dance, protocol: Protocol) -> None:
    """Speed of the body, beats of the music and of the dance."""
    rules, motion = protocol.need_beats(), dance.motion
    how = {"fps": motion.fps, "smoothing_s": rules.smoothing_s, "variant": rules.motion_variant}
    times, speed = speed_curve(motion.joints, **how)
    own = motion_beats(motion.joints, **how)
    for beat in dance.beats:
        axis.axvline(beat, color="#9aa3b2", linewidth=1.2)
    axis.plot(times, speed, color="#2f5fd0", linewidth=1.2)
    axis.plot(own, np.interp(own, times, speed), "o", color="#d0462f", markersize=3.5)
    axis.plot(np.array(chosen(motion)) / motion.fps, np.zeros(COLUMNS), "^", color="#444", markersize=4)
    axis.set_xlim(0, motion.duration_s)
    axis.set_ylim(0, max(1.0, float(speed.max(initial=0.0)) * 1.05))
    axis.set_ylabel("m/s", fontsize=7)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def sheet(dances: list[Dance], protocol: Protocol, size: int, title: str) -> plt.Figure:
    """All rows."""
    heights = [part for _ in dances for part in (1.5, 0.6)]
    figure = plt.figure(figsize=(12.0, 2.5 * len(dances) + 0.4), layout="constrained")
    axes = figure.subplots(2 * len(dances), 1, height_ratios=heights, squeeze=False)[:, 0]
    for number, dance in enumerate(dances):
        picture, below = axes[2 * number], axes[2 * number + 1]
        picture.imshow(strip(dance.motion, size, number))
        picture.set_title(dance.name, fontsize=8, loc="left", pad=2)
        picture.axis("off")
        curve(below, dance, protocol)
    figure.suptitle(title, fontsize=9)
    return figure


def main() -> None:
    """Sample or read, draw and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoint")
    parser.add_argument("--dances", type=int, default=10)
    parser.add_argument("--beta", type=float, default=0.75)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--from", dest="folder", type=Path)
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    protocol = load_protocol(PROTOCOL)
    if options.folder:
        dances, title = read(options.folder, options.dances, protocol), str(options.folder.name)
    else:
        dances = sampled(options, protocol)
        title = "procedural dances" if options.real else f"motion-expert, beta {options.beta:g}, {options.steps} steps"
    if not dances:
        raise SystemExit(f"no motion in {options.folder}")
    lines = "grey lines: beats of the music, dots: beats of the dance, triangles: the frames above"
    sheet(dances, protocol, options.size, f"{title}; {lines}").savefig(options.out, dpi=100)


if __name__ == "__main__":
    main()
