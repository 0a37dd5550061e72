"""Recipes of the planted sources that must be rejected: see `macebench.demo.rawset`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.demo.rawset_drawn import shapes, skeletons, swinging_lamp
from macebench.demo.rawset_edit import FRAME_SHARE, Join, Picture, camera_moves, grainy
from macebench.demo.rawset_files import Container, cut_off, disguised_avi, huge_picture, sound_only
from macebench.demo.rawset_kept import AWAY_M, EDGE_M, Recipe, with_passer_by
from macebench.demo.rawset_stage import Figure, Place, clothes, empty_room, film, moved, sliced, stand
from macebench.demo.rawset_take import SOURCES, Bench, Take
from macebench.demo.rawset_truth import SourceTruth

OPTOUT_FILE = "optout.txt"
_PLAYLIST = "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


def reject(stage: str, reason: str, *also: str, n_people: int = 1) -> dict[str, Any]:
    """The fields of `SourceTruth` of a source that `stage` must drop."""
    return {"expect": "reject", "stage": stage, "reason": reason, "also_reasons": also, "n_people": n_people}


def _plain(bench: Bench, name: str, seconds: float, pictures: Any, size: tuple[int, int] | None = None) -> Take:
    """A take of pictures that have nothing to do with its music; `pictures` is made from the seconds."""
    dance = bench.dance(name, bench.clock(seconds))
    size = size or (bench.size, bench.size)
    return Take(dance, pictures(dance.clock.times_s[:-1]), *size)


# --- motion ----------------------------------------------------------------------------------


def still_dancer(bench: Bench) -> list[SourceTruth]:
    """Somebody stands and breathes; the sensor's noise is the largest change."""
    number = bench.number("still_dancer")

    def pictures(times: Any) -> Iterator[Picture]:
        breath = stand(round(4 * bench.rate), float(bench.rate))
        once = list(film([Figure(breath, clothes(number))], Place(number, number), bench.size, bench.size))
        return grainy((once[k % len(once)] for k in range(len(times))), number)

    take = _plain(bench, "still_dancer", 8.0, pictures)
    return [bench.write("still_dancer.mp4", "near-static dancer", take, **reject("motion", "near-static"))]


def frozen(bench: Bench) -> list[SourceTruth]:
    """One picture of a dance all the time."""
    take = bench.danced("frozen", (8.0,))
    still = repeat(next(iter(take.pictures)), len(take.dance.clock))
    frozen_take = replace(take, pictures=still, marked=False)
    return [bench.write("frozen.mp4", "frozen video", frozen_take, **reject("motion", "near-static"))]


def _large(bench: Bench, share: float = 1.0) -> int:
    return round(bench.size * FRAME_SHARE * share)


def camera_over_room(bench: Bench) -> list[SourceTruth]:
    """The camera pans and zooms over an empty room."""
    number, side = bench.number("camera_over_room"), _large(bench)
    room = empty_room(Place(number, 3), side, side)

    def pictures(times: Any) -> Iterator[Picture]:
        return camera_moves(repeat(room, len(times)), bench.size, bench.size, times, sway=0.28, zoom=0.25)

    take = _plain(bench, "camera_over_room", 8.0, pictures)
    known = reject("motion", "camera motion only", n_people=0)
    return [bench.write("camera_over_room.mp4", "moving camera, empty room", take, **known)]


def camera_over_dancer(bench: Bench) -> list[SourceTruth]:
    """The camera pans and zooms around a dancer who does not move at all."""
    from macebench.render import fit_camera

    number, side = bench.number("camera_over_dancer"), _large(bench)
    pose = bench.danced("camera_over_dancer", (8.0,)).dance.motion
    one = sliced(pose, np.array([len(pose.joints) // 2]))
    camera = fit_camera(one, side, side, fill=0.5)
    still = next(film([Figure(one, clothes(number))], Place(number, number), side, side, camera))

    def pictures(times: Any) -> Iterator[Picture]:
        return camera_moves(repeat(still, len(times)), bench.size, bench.size, times, sway=0.12, zoom=0.10)

    take = _plain(bench, "camera_over_dancer", 8.0, pictures)
    known = reject("motion", "camera motion only")
    return [bench.write("camera_over_dancer.mp4", "moving camera, still dancer", take, **known)]


# --- person ----------------------------------------------------------------------------------


def two_dancers(bench: Bench) -> list[SourceTruth]:
    """Two dancers side by side all the time."""
    clock, name = bench.clock(7.0), "two_dancers"
    dance, other = bench.dance(name, clock), bench.dance("two_dancers_other", clock)
    number = bench.number(name)
    left = Figure(moved(dance.motion, -0.85, 0.0), clothes(number))
    right = Figure(moved(other.motion, 0.85, -0.1), clothes(number + 1))
    pictures = film([left, right], Place(number, number), *bench.wide)
    take = Take(dance, pictures, *bench.wide, marked=True)
    known = reject("person", "several people", n_people=2) | {"second_person": (clock.span(0, len(clock)),)}
    return [bench.write("two_dancers.mp4", "two dancers", take, **known)]


def passer_by_long(bench: Bench) -> list[SourceTruth]:
    """Somebody comes, watches in the background and leaves: seen in more than half of the pictures."""
    take, seen = with_passer_by(bench, "passer_by_long", 9.0, _watching)
    known = reject("person", "several people") | {"second_person": seen}
    return [bench.write("passer_by_long.mp4", "passer-by, long", take, **known)]


def _watching(times_s: Any, half_m: float) -> Any:
    """Comes at 1.6 s, stands from 2.6 s to 6.4 s, leaves until 7.4 s."""
    side, edge, away = 0.68 * half_m, half_m + EDGE_M, half_m + AWAY_M
    return np.interp(times_s, [1.2, 1.6, 2.6, 6.4, 7.4, 7.8], [away, edge, side, side, edge, away])


def lamp_room(bench: Bench) -> list[SourceTruth]:
    """A swinging lamp in an empty room."""
    number = bench.number("lamp_room")
    room = empty_room(Place(number, number), bench.size, bench.size)
    take = _plain(bench, "lamp_room", 8.0, lambda times: swinging_lamp(room, times))
    known = reject("person", "no person", n_people=0)
    return [bench.write("lamp_room.mp4", "no person, swinging lamp", take, **known)]


def abstract_shapes(bench: Bench) -> list[SourceTruth]:
    """Moving shapes."""
    number = bench.number("abstract_shapes")
    take = _plain(bench, "abstract_shapes", 8.0, lambda times: shapes(times, bench.size, bench.size, number))
    known = reject("person", "no person", n_people=0)
    return [bench.write("abstract_shapes.mp4", "no person, moving shapes", take, **known)]


def upper_body(bench: Bench) -> list[SourceTruth]:
    """The camera is so near that only the upper body is seen."""
    from macebench.render import Camera

    name, clock = "upper_body", bench.clock(6.5)
    dance, number = bench.dance(name, clock), bench.number(name)
    middle = float(dance.motion.joints[:, 0, 0].mean())
    camera = Camera((middle, 1.50, 2.9), (middle, 1.42, 0.0), 24.0)
    figure = Figure(dance.motion, clothes(number))
    pictures = film([figure], Place(number, number), bench.size, bench.size, camera)
    take = Take(dance, pictures, bench.size, bench.size)
    return [bench.write("upper_body.mp4", "upper body only", take, **reject("person", "body not in frame"))]


def leaves_frame(bench: Bench) -> list[SourceTruth]:
    """The dancer leaves the picture after less than half of the time."""
    from macebench.render import fit_camera

    name, clock = "leaves_frame", bench.clock(9.0)
    dance, number = bench.dance(name, clock), bench.number(name)
    camera = fit_camera(dance.motion, bench.size, bench.size, fill=0.85)
    out = np.interp(clock.times_s[:-1], [3.8, 5.0], [0.0, 4.0])
    figure = Figure(moved(dance.motion, out, 0.0), clothes(number))
    pictures = film([figure], Place(number, number), bench.size, bench.size, camera)
    take = Take(dance, pictures, bench.size, bench.size)
    known = reject("person", "body not in frame", "no person")
    notes = "leaves the picture between 3.8 s and 5 s; then the room is empty"
    return [bench.write("leaves_frame.mp4", "dancer leaves the frame", take, notes=notes, **known)]


def skeleton(bench: Bench) -> list[SourceTruth]:
    """A dance as a drawn skeleton on black."""
    dance = bench.dance("skeleton", bench.clock(7.0))
    pictures = skeletons(dance.motion, *bench.tall)
    take = Take(dance, pictures, *bench.tall)
    return [bench.write("skeleton.mp4", "drawn skeleton", take, **reject("person", "drawn skeleton", n_people=0))]


# --- shots and probe -------------------------------------------------------------------------


def only_short_shots(bench: Bench) -> list[SourceTruth]:
    """No shot reaches five seconds."""
    take = bench.danced("only_short_shots", (3.0, 4.0, 2.5), (Join(), Join()))
    known = reject("shots", "shot too short")
    return [bench.write("only_short_shots.mp4", "every shot too short", take, **known)]


def one_fault(bench: Bench) -> list[SourceTruth]:
    """A dance of one shot that would be kept, written six times with one fault each; and cut in two places."""
    take = bench.danced("one_fault", (6.5,))
    once = list(take.pictures)

    def write(name: str, kind: str, why: dict[str, Any], change: Any = None, **how: Any) -> SourceTruth:
        return bench.write(name, kind, replace(take, **{"pictures": once, **(change or {})}), **how, **why)

    silence = np.zeros((len(take.dance.music), 2), np.float32)
    small = [_halved(picture) for picture in once]
    side = small[0].shape[0]
    short = bench.clock(3.0)
    brief = replace(take.dance, clock=short, onsets=tuple(k for k in take.dance.onsets if k < len(short) - 5))
    brief = replace(brief, music=take.dance.music[: round(3.0 * take.dance.sample_rate)])
    known = [
        write("opted_out.mp4", "opted out", reject("probe", "opted out")),
        write("no_sound.mp4", "no sound", reject("probe", "no sound"), sound=None),
        write("silent.mp4", "silent", reject("probe", "silent"), sound=(silence, take.dance.sample_rate)),
        write("too_small.mp4", "small picture", reject("probe", "picture too small"),
              {"pictures": small, "width": side, "height": side}),
        write("too_short.mp4", "short video", reject("probe", "too short"),
              {"pictures": once[: len(short)], "dance": brief, "layout": None}),
    ]  # fmt: skip
    return known + _truncated(bench, replace(take, pictures=once))


def _halved(picture: Picture) -> Picture:
    import cv2

    half = (picture.shape[1] // 4 * 2, picture.shape[0] // 4 * 2)
    return np.asarray(cv2.resize(picture, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _truncated(bench: Bench, take: Take) -> list[SourceTruth]:
    """An MP4 file without its index, and one with the index in front and the end missing."""
    folder, known = bench.out / SOURCES, []
    for name, stage, faststart in (("truncated_index.mp4", "probe", False), ("truncated_tail.mp4", "decode", True)):
        whole = bench.write(name, "truncated", take, container=Container(faststart=faststart))
        cut_off(folder / name, folder / name, 0.6)
        if stage == "probe":
            whole = SourceTruth(name, "truncated", "reject")
        why = reject(stage, "truncated file")
        known.append(replace(whole, **why, usable_spans=(), audio_onsets_s=()))
    return known


def broken(bench: Bench) -> list[SourceTruth]:
    """Files that are no videos, whatever their names say."""
    folder = bench.out / SOURCES
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([bench.seed, 0xBAD]).bytes(60_000)
    for name, data in (
        ("empty.mp4", b""),
        ("text.mp4", b"This is a letter and no video.\n" * 40),
        ("noise.mp4", noise),
        ("playlist.mp4", _PLAYLIST.encode()),
    ):
        (folder / name).write_bytes(data)
    huge_picture(folder / "huge_picture.mp4")
    disguised_avi(folder / "disguised_avi.mp4")
    sound_only(folder / "sound_only.mp4", _hum(), 44100)
    reasons = {
        "empty.mp4": "empty file",
        "text.mp4": "not a media file",
        "noise.mp4": "not a media file",
        "playlist.mp4": "container not allowed",
        "huge_picture.mp4": "too many pixels",
        "disguised_avi.mp4": "container not allowed",
        "sound_only.mp4": "no video stream",
    }
    return [
        replace(SourceTruth(name, "broken", "keep"), **reject("probe", reason, n_people=0))
        for name, reason in reasons.items()
    ]


def _hum() -> NDArray[np.float32]:
    return np.asarray(0.3 * np.sin(np.arange(6 * 44100) * 2.0 * np.pi * 220.0 / 44100.0), dtype=np.float32)


def duplicate(out: Path, original: SourceTruth) -> SourceTruth:
    """The same bytes under another name, later in the order of names."""
    from macebench.media import file_sha256
    from macebench.store import atomic_write

    name = "zz_copy_of_" + original.file_name
    path = out / SOURCES / name
    if not path.is_file() or file_sha256(path) != original.sha256:
        with atomic_write(path) as temporary:
            shutil.copyfile(out / SOURCES / original.file_name, temporary)
    known = replace(original, file_name=name, kind="duplicate", usable_spans=(), dropped=())
    return replace(known, expect="reject", stage="probe", reason="duplicate")


REJECTED: Mapping[str, Recipe] = {
    "still_dancer": still_dancer,
    "frozen": frozen,
    "camera_over_room": camera_over_room,
    "camera_over_dancer": camera_over_dancer,
    "two_dancers": two_dancers,
    "passer_by_long": passer_by_long,
    "lamp_room": lamp_room,
    "abstract_shapes": abstract_shapes,
    "upper_body": upper_body,
    "leaves_frame": leaves_frame,
    "skeleton": skeleton,
    "only_short_shots": only_short_shots,
    "one_fault": one_fault,
    "broken": broken,
}
"""The recipes by name; the duplicate and the opt-out list come last (`macebench.demo.rawset`)."""
