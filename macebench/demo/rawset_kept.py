"""Recipes of the planted sources that must be kept: see `macebench.demo.rawset`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from macebench.demo.rawset_drawn import shapes, skeletons
from macebench.demo.rawset_edit import (
    FRAME_SHARE,
    Clock,
    Join,
    assemble,
    camera_moves,
    grainy,
    lay_out,
    strobe,
)
from macebench.demo.rawset_files import Container
from macebench.demo.rawset_stage import Figure, Place, clothes, film, sliced, stand, walk
from macebench.demo.rawset_take import Bench, Take
from macebench.demo.rawset_truth import Dropped, SourceTruth

Recipe = Callable[[Bench], list[SourceTruth]]
CUT = Join()
EDGE_M, AWAY_M = 0.4, 1.2
"""So far from the edge of the picture a walking person's centre is when the first part of it is seen, and none."""
_X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast")


def hard_cuts(bench: Bench) -> list[SourceTruth]:
    """Three shots."""
    return [bench.write("hard_cuts.mp4", "hard cuts", bench.danced("hard_cuts", (6.5, 7.5, 6.0), (CUT, CUT)))]


def short_shots(bench: Bench) -> list[SourceTruth]:
    """Long and short shots."""
    take = bench.danced("short_shots", (3.0, 7.0, 2.0, 1.0, 6.5), (CUT,) * 4)
    return [bench.write("short_shots.mp4", "some shots too short", take)]


def fades(bench: Bench) -> list[SourceTruth]:
    """A fade to black and back."""
    fade = Join("fade", round(0.5 * bench.rate), round(0.2 * bench.rate))
    take = bench.danced("fades", (7.0, 7.0), (fade,), size=bench.tall)
    return [bench.write("fades.mp4", "fade to black", take)]


def dissolves(bench: Bench) -> list[SourceTruth]:
    """A long and a short cross-dissolve."""
    joins = Join("dissolve", round(0.8 * bench.rate)), Join("dissolve", round(0.4 * bench.rate))
    take = bench.danced("dissolves", (7.0, 7.2, 6.4), joins)
    return [bench.write("dissolves.mp4", "dissolves", take)]


def flashes(bench: Bench) -> list[SourceTruth]:
    """Stage lights of one, two and three pictures, and two in a row; no cut."""
    take = bench.danced("flashes", (11.0,))
    at = [round(second * bench.rate) for second in (2.0, 4.6, 7.2, 9.0, 9.3)]
    levels = {at[0]: 1.0, at[1]: 0.9, at[1] + 1: 0.9, at[3]: 0.85, at[4]: 0.85}
    levels |= {at[2]: 0.6, at[2] + 1: 1.0, at[2] + 2: 0.6}
    return [bench.write("flashes.mp4", "flashes", replace(take, levels=levels))]


def flash_at_cut(bench: Bench) -> list[SourceTruth]:
    """A cut right behind a flash, and a cut that begins with one."""
    take = bench.danced("flash_at_cut", (6.5, 6.5, 6.0), (CUT, CUT))
    first, second = take.layout.cuts if take.layout else (0, 0)
    levels = {first - 2: 0.95, first - 1: 0.95, second: 0.9, second + 1: 0.6}
    return [bench.write("flash_at_cut.mp4", "cuts beside flashes", replace(take, levels=levels))]


def strobe_light(bench: Bench) -> list[SourceTruth]:
    """Four seconds of strobe, about five times a second."""
    take = bench.danced("strobe", (10.0,))
    levels = strobe(round(3.0 * bench.rate), round(7.0 * bench.rate), round(bench.rate / 5))
    return [bench.write("strobe.mp4", "strobe", replace(take, levels=levels))]


def moving_camera(bench: Bench) -> list[SourceTruth]:
    """A dance seen by a hand-held camera."""
    large = round(bench.size * FRAME_SHARE)
    take = bench.danced("moving_camera_dance", (9.0,), size=(large, large), fill=0.46)
    times = take.dance.clock.times_s
    pictures = camera_moves(take.pictures, bench.size, bench.size, times, sway=0.10, zoom=0.06)
    seen = replace(take, pictures=pictures, width=bench.size, height=bench.size)
    sound = Container(audio=("-c:a", "pcm_s16le"))
    return [bench.write("moving_camera_dance.mov", "moving camera, dance", seen, container=sound)]


def passer_by(bench: Bench) -> list[SourceTruth]:
    """Somebody hurries through the background in less than a tenth of the pictures."""
    take, seen = with_passer_by(bench, "passer_by_short", 11.0, hurried)
    return [bench.write("passer_by_short.mp4", "passer-by, short", take, second_person=seen)]


def with_passer_by(
    bench: Bench, name: str, seconds: float, way: Callable[[Any, float], Any]
) -> tuple[Take, tuple[tuple[float, float], ...]]:
    """A dance with somebody who walks behind, and the spans in which that one is seen.

    Args:
        bench: The bench.
        name: Name of the source.
        seconds: Length.
        way: (seconds of the pictures, half the width of the scene in metres) -> x in metres.
    """
    from macebench.render import fit_camera

    clock = bench.clock(seconds)
    dance = bench.dance(name, clock)
    size = (bench.size, bench.size)
    camera = fit_camera(dance.motion, *size, fill=0.72)
    behind = -0.9
    half = (camera.eye[2] - behind) * np.tan(np.radians(camera.fov_deg / 2.0))
    x = camera.eye[0] + way(clock.times_s[:-1], half)
    other = walk(x, behind, float(clock.rate))
    number = bench.number(name)
    figures = [Figure(dance.motion, clothes(number)), Figure(other, clothes(number + 1))]
    pictures = film(figures, Place(number, number), *size, camera)
    inside = np.flatnonzero(np.abs(x - camera.eye[0]) < half + EDGE_M)
    groups = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)
    seen = tuple(clock.span(int(group[0]), int(group[-1]) + 1) for group in groups if len(group))
    return Take(dance, pictures, *size, marked=True), seen


def hurried(times_s: Any, half_m: float) -> Any:
    """Through the scene in 0.9 s, from 4 s on."""
    edge, away = half_m + EDGE_M, half_m + AWAY_M
    return np.interp(times_s, [3.8, 4.0, 4.9, 5.1], [-away, -edge, edge, away])


def mixed(bench: Bench) -> list[SourceTruth]:
    """A dance, somebody who stands still, moving shapes, a drawn skeleton: one usable shot."""
    lengths = [round(s * bench.rate) for s in (7.0, 5.6, 5.6, 5.6)]
    layout = lay_out(lengths, (CUT,) * 3)
    dance = bench.dance("mixed", Clock(bench.rate, tuple(range(layout.count)), layout.count))
    size, fps, number = (bench.size, bench.size), float(bench.rate), bench.number("mixed")
    skeleton = sliced(dance.motion, np.arange(*layout.spans[3]))
    standing = film([Figure(stand(lengths[1], fps), clothes(number + 5))], Place(number + 2, number), *size)
    parts = [
        bench.shots("mixed", dance, layout, size)[0],
        grainy(standing, number),
        shapes(np.arange(lengths[2]) / fps, *size, number),
        skeletons(skeleton, *size),
    ]
    take = Take(dance, assemble(parts, lengths, (CUT,) * 3), *size, layout, marked=True)
    spans = [dance.clock.span(*span) for span in layout.spans]
    reasons = (("motion", "near-static"), ("person", "no person"), ("person", "drawn skeleton"))
    dropped = tuple(Dropped(*span, *reason) for span, reason in zip(spans[1:], reasons, strict=True))
    kind = "one good shot among bad ones"
    return [bench.write("mixed.mp4", kind, take, usable_spans=(spans[0],), dropped=dropped)]


def variable_rate(bench: Bench) -> list[SourceTruth]:
    """30, 20 and 15 pictures a second in turn, on a grid of 60."""
    clock = Clock.uneven(2 * bench.rate, 9.0, (2, 3, 4))
    take = bench.danced("variable_rate", (9.0,), clock=clock)
    steps = _by_number(clock.ticks)
    video = (*_X264, "-crf", "20", "-bf", "0", "-fps_mode", "passthrough", "-bsf:v", f"setts=ts='{steps}'")
    container = Container(video=(*video, "-video_track_timescale", "60000"))
    return [bench.write("variable_rate.mp4", "variable frame rate", take, container=container)]


def _by_number(ticks: tuple[int, ...]) -> str:
    """The tick of picture N as an expression of ffmpeg: one piece for each run of equal steps."""
    steps = np.diff(ticks)
    turns = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist()]
    text = f"{ticks[turns[-1]]}+(N-{turns[-1]})*{steps[turns[-1]]}"
    for first, after in reversed(list(itertools.pairwise(turns))):
        text = f"if(lt(N,{after}),{ticks[first]}+(N-{first})*{steps[first]},{text})"
    return text


def rotated(bench: Bench, degrees: int) -> list[SourceTruth]:
    """Stored turned, with metadata that turns it back."""
    name = f"rotated_{degrees}"
    size = bench.tall if degrees != 180 else (bench.size, bench.size)
    take = bench.danced(name, (6.0,), size=size)
    container = Container(turned_deg=degrees)
    return [bench.write(f"{name}.mp4", "rotated by metadata", take, container=container)]


def odd_size(bench: Bench) -> list[SourceTruth]:
    """Odd width and height, VP9 and Opus in WebM."""
    size = bench.size + 1, bench.size + 63
    take = bench.danced("odd_size", (6.5,), size=size)
    video = ("-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "900k")
    container = Container(video=video, audio=("-c:a", "libopus", "-ar", "48000", "-b:a", "128k"))
    return [bench.write("odd_size.webm", "odd size", take, container=container)]


def wide_pixels(bench: Bench) -> list[SourceTruth]:
    """Pixels of 4:3, FLAC in Matroska."""
    import cv2

    stored = height = bench.size
    width = round(stored * 4 / 3)
    take = bench.danced("wide_pixels", (6.5,), size=(width, height))
    squeezed = (cv2.resize(picture, (stored, height), interpolation=cv2.INTER_AREA) for picture in take.frames())
    container = Container(video=(*_X264, "-crf", "20", "-vf", "setsar=4/3"), audio=("-c:a", "flac"))
    plain = replace(take, pictures=squeezed, marked=False)
    known = bench.write("wide_pixels.mkv", "pixels that are not square", plain, container=container)
    return [replace(known, marked=True)]


def film_24(bench: Bench) -> list[SourceTruth]:
    """24 frames a second, mono."""
    take = bench.danced("film_24", (6.5,), clock=Clock.even(Fraction(24), 6.5), size=bench.tall)
    return [bench.write("film_24.mp4", "24 fps, mono", take, channels=1)]


def late_sound(bench: Bench) -> list[SourceTruth]:
    """25 frames a second; the sound begins 120 ms after the pictures."""
    take = bench.danced("late_sound_25", (6.5,), clock=Clock.even(Fraction(25), 6.5))
    container = Container(sound_delay_s=0.12)
    return [bench.write("late_sound_25.mp4", "25 fps, late sound", take, container=container)]


def long_gop(bench: Bench) -> list[SourceTruth]:
    """29.97 frames a second, one key frame, many B-frames."""
    rate = Fraction(30000, 1001)
    count = round(6.5 * rate) + round(6 * rate)
    clock = Clock(rate, tuple(range(count)), count)
    take = bench.danced("long_gop_2997", (6.5, 6.0), (CUT,), clock=clock)
    gop = "keyint=infinite:min-keyint=infinite:scenecut=0:bframes=8:b-adapt=0:ref=4"
    container = Container(video=(*_X264, "-crf", "20", "-x264-params", gop))
    return [bench.write("long_gop_2997.mp4", "29.97 fps, long GOP, B-frames", take, container=container)]


def fast_60(bench: Bench) -> list[SourceTruth]:
    """60 frames a second; 48 kHz; the sound goes on for 1.5 s."""
    take = bench.danced("fast_60", (6.0,), clock=Clock.even(Fraction(60), 6.0), sound_s=7.5)
    container = Container(audio=("-c:a", "aac", "-ar", "48000", "-b:a", "160k"))
    return [bench.write("fast_60.mp4", "60 fps, sound longer than picture", take, container=container)]


def short_sound(bench: Bench) -> list[SourceTruth]:
    """A name with spaces and accents; the sound ends 1.2 s before the pictures."""
    take = bench.danced("short_sound", (7.0,), sound_s=5.8)
    name = "more files/tänzerin 2 (final).mp4"
    return [bench.write(name, "sound shorter than picture", take)]


def small_cuts(bench: Bench) -> list[SourceTruth]:
    """For small sets: two long shots, a short one and a flash."""
    take = bench.danced("small_cuts", (5.6, 1.6, 5.4), (CUT, CUT))
    at = round(2.5 * bench.rate)
    take = replace(take, levels={at: 1.0, at + 1: 0.8})
    return [bench.write("hard_cuts.mp4", "hard cuts", take)]


def small_fade(bench: Bench) -> list[SourceTruth]:
    """For small sets: a fade."""
    fade = Join("fade", round(0.5 * bench.rate), round(0.2 * bench.rate))
    return [bench.write("fades.mp4", "fade to black", bench.danced("small_fade", (6.0, 3.0), (fade,)))]


KEPT: Mapping[str, Recipe] = {
    "hard_cuts": hard_cuts,
    "short_shots": short_shots,
    "fades": fades,
    "dissolves": dissolves,
    "flashes": flashes,
    "flash_at_cut": flash_at_cut,
    "strobe": strobe_light,
    "moving_camera": moving_camera,
    "passer_by": passer_by,
    "mixed": mixed,
    "variable_rate": variable_rate,
    "rotated_90": lambda bench: rotated(bench, 90),
    "rotated_180": lambda bench: rotated(bench, 180),
    "rotated_270": lambda bench: rotated(bench, 270),
    "odd_size": odd_size,
    "wide_pixels": wide_pixels,
    "film_24": film_24,
    "late_sound": late_sound,
    "long_gop": long_gop,
    "fast_60": fast_60,
    "short_sound": short_sound,
}
"""The recipes by name."""
