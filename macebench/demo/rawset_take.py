"""A take: the pictures, the sound and the truth of one planted source, before it is written to a file.

`Bench` is what a recipe works with: the folder, the sizes and seeds of a raw set. It dances (music, dance and clicks
of a seed), films shots and writes takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from macebench.demo.rawset_edit import Clock, Join, Layout, Picture, assemble, brightened, lay_out, marked
from macebench.demo.rawset_files import Container, encode
from macebench.demo.rawset_sound import with_clicks
from macebench.demo.rawset_stage import Figure, Place, clothes, film, sliced, turned
from macebench.demo.rawset_truth import MIN_SHOT_S, Dropped, SourceTruth, Span
from macebench.types import Motion

SOURCES = "sources"
_CLICK_BEATS = 4
_QUIET_S = 0.3  # no click so near to the begin and the end
_VIEWS = ((0.0, 1.25, 0.86), (24.0, 0.85, 0.92), (-22.0, 1.75, 0.78), (10.0, 1.0, 0.70), (-12.0, 1.5, 0.90))


@dataclass(frozen=True)
class Dance:
    """Music and a dance to it.

    Attributes:
        clock: When pictures are shown.
        motion: One frame for each picture.
        music: (N,) full scale 1.
        sample_rate: Samples a second.
        onsets: Numbers of the pictures at which a click is heard.
    """

    clock: Clock
    motion: Motion
    music: NDArray[np.float32]
    sample_rate: int
    onsets: tuple[int, ...]

    @property
    def onsets_s(self) -> tuple[float, ...]:
        """Seconds of the clicks on the clock of the pictures."""
        return tuple(float(self.clock.times_s[onset]) for onset in self.onsets)


@dataclass(frozen=True)
class Take:
    """A source before it is written.

    Attributes:
        dance: Clock, music and clicks.
        pictures: One for each picture of the clock, of `width` x `height` as they are seen.
        width, height: Pixels.
        layout: Where the shots lie; None for one shot.
        levels: Flashes, see `macebench.demo.rawset_edit.brightened`.
        marked: Show the clicks in the picture.
        truth: Further fields of `SourceTruth`.
    """

    dance: Dance
    pictures: Iterable[Picture]
    width: int
    height: int
    layout: Layout | None = None
    levels: dict[int, float] = field(default_factory=dict)
    marked: bool = False
    truth: dict[str, Any] = field(default_factory=dict)

    def frames(self) -> Iterator[Picture]:
        """The pictures with flashes and marks."""
        frames = brightened(self.pictures, self.levels)
        return marked(frames, self.dance.onsets) if self.marked else frames


@dataclass(frozen=True)
class Bench:
    """What recipes work with.

    Attributes:
        out: Folder of the raw set.
        seed: Seed of the raw set.
        size: Shorter side of most pictures in pixels.
        rate: Frames a second of most sources.
    """

    out: Path
    seed: int
    size: int
    rate: Fraction

    def number(self, name: str) -> int:
        """The seed of one source: the set's seed and its name decide it, nothing else."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{name}".encode()).digest()[:4], "big")

    @property
    def tall(self) -> tuple[int, int]:
        """Width and height of a portrait, about 9:16."""
        return self.size, int(self.size * 16 / 9) // 16 * 16

    @property
    def wide(self) -> tuple[int, int]:
        """Width and height of a landscape, about 16:9."""
        return self.tall[1], self.tall[0]

    def clock(self, seconds: float) -> Clock:
        """The set's own rate."""
        return Clock.even(self.rate, seconds)

    def dance(self, name: str, clock: Clock, *, sound_s: float | None = None) -> Dance:
        """Music with its dance, both of the seed of `name`.

        Args:
            name: Name of the source.
            clock: When pictures are shown.
            sound_s: Length of the music; that of the pictures when None.
        """
        from macebench.demo.choreography import choreograph
        from macebench.demo.music import GENRES, compose

        number = self.number(name)
        length = float(clock.times_s[-1])
        genre = sorted(GENRES)[number % len(GENRES)]
        piece = compose(genre, max(length, sound_s or 0.0), number)
        count = int(length * piece.tempo_bpm / 60.0) + 2
        beats = piece.beats_s[0] + 60.0 / piece.tempo_bpm * np.arange(count)
        motion = choreograph(beats, length + 0.1, float(clock.rate), number, genre).motion
        times = clock.times_s[:-1]
        wanted = beats[1::_CLICK_BEATS]
        wanted = wanted[(wanted > _QUIET_S) & (wanted < length - _QUIET_S)]
        onsets = tuple(int(np.argmin(np.abs(times - beat))) for beat in wanted)
        music = piece.samples[: round((length if sound_s is None else sound_s) * piece.sample_rate)]
        return Dance(clock, sliced(motion, np.array(clock.ticks)), music, piece.sample_rate, onsets)

    def shots(
        self, name: str, dance: Dance, layout: Layout, size: tuple[int, int], fill: float | None = None
    ) -> list[Iterator[Picture]]:
        """A dance in several shots, each with a room, clothes and a camera of its own.

        Args:
            name: Name of the source.
            dance: The dance; it goes on from shot to shot.
            layout: Where the shots lie.
            size: Width and height in pixels.
            fill: Share of the picture that the dancer may use; differs from shot to shot when None.
        """
        number = self.number(name)
        return [
            self._shot(number % 101 + shot, sliced(dance.motion, np.arange(first, after)), size, fill)
            for shot, (first, after) in enumerate(layout.spans)
        ]

    def _shot(self, number: int, motion: Motion, size: tuple[int, int], fill: float | None) -> Iterator[Picture]:
        from macebench.render import fit_camera

        degrees, elevation, own_fill = _VIEWS[number % len(_VIEWS)]
        figure = Figure(turned(motion, degrees), clothes(number))
        camera = fit_camera(figure.motion, *size, fill=fill or own_fill, elevation_m=elevation)
        return film([figure], Place(number, number), *size, camera)

    def danced(
        self,
        name: str,
        seconds: Sequence[float],
        joins: Sequence[Join] = (),
        *,
        size: tuple[int, int] | None = None,
        clock: Clock | None = None,
        sound_s: float | None = None,
        fill: float | None = None,
    ) -> Take:
        """A dance of one or more shots.

        Args:
            name: Name of the source.
            seconds: Length of each shot's material; dissolving shots overlap.
            joins: One between each two shots.
            size: Width and height; a square when None.
            clock: The set's own when None.
            sound_s: Length of the music; that of the pictures when None.
            fill: See `shots`.
        """
        lengths = [round(length * self.rate) for length in seconds] if clock is None else [len(clock)]
        if clock is not None and len(seconds) > 1:
            lengths = [round(length * clock.rate) for length in seconds]
        layout = lay_out(lengths, joins)
        clock = clock or Clock(self.rate, tuple(range(layout.count)), layout.count)
        size = size or (self.size, self.size)
        dance = self.dance(name, clock, sound_s=sound_s)
        pictures = assemble(self.shots(name, dance, layout, size, fill), lengths, joins)
        return Take(dance, pictures, *size, layout, marked=True)

    def write(
        self,
        name: str,
        kind: str,
        take: Take,
        *,
        container: Container | None = None,
        channels: int = 2,
        sound: tuple[NDArray[np.float32], int] | Literal["music"] | None = "music",
        **truth: Any,
    ) -> SourceTruth:
        """Write a take into the folder of sources, and say what is known of it.

        Args:
            name: Path below the folder.
            kind: What was planted.
            take: The take.
            container: How it is written.
            channels: Channels of the sound.
            sound: ``music`` with clicks, samples (N, channels) and their rate, or None for no sound.
            **truth: Further fields of `SourceTruth`.
        """
        container = container or Container()
        dance = take.dance
        own = isinstance(sound, str)
        heard = _sound(dance, container.sound_delay_s, channels) if isinstance(sound, str) else sound
        encode(self.out / SOURCES / name, take.frames(), dance.clock.rate, heard, container)
        known = replace(
            SourceTruth(name, kind, "keep"),
            fps=dance.clock.fps,
            duration_s=float(dance.clock.times_s[-1]),
            width=take.width,
            height=take.height,
            audio_onsets_s=_heard(dance, container.sound_delay_s) if own else (),
            marked=take.marked,
            flashes_s=_flashes(dance.clock, take.levels),
            **_shots_truth(dance.clock, take.layout),
        )
        known = replace(known, **{**take.truth, **truth})
        return known if known.expect == "keep" else replace(known, usable_spans=(), dropped=())


def _sound(dance: Dance, delay_s: float, channels: int) -> tuple[NDArray[np.float32], int]:
    mono = with_clicks(dance.music, np.array(dance.onsets_s) - delay_s, dance.sample_rate)
    if channels == 1:
        return mono, dance.sample_rate
    return np.stack([mono, 0.9 * mono], axis=1), dance.sample_rate


def _heard(dance: Dance, delay_s: float) -> tuple[float, ...]:
    """The clicks that lie inside the sound."""
    end = delay_s + len(dance.music) / dance.sample_rate - 0.05
    return tuple(onset for onset in dance.onsets_s if delay_s <= onset < end)


def _flashes(clock: Clock, levels: dict[int, float]) -> tuple[Span, ...]:
    """Spans of neighbouring pictures that are brightened or darkened."""
    numbers = np.array(sorted(levels), dtype=np.int64)
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return tuple(clock.span(int(group[0]), int(group[-1]) + 1) for group in groups if len(group))


def _shots_truth(clock: Clock, layout: Layout | None) -> dict[str, Any]:
    """Cuts, gradual transitions, usable and dropped spans."""
    if layout is None:
        return {"usable_spans": (clock.span(0, len(clock)),)}
    clear = [clock.span(*span) for span in layout.clear]
    return {
        "cuts_s": tuple(float(clock.times_s[cut]) for cut in layout.cuts),
        "gradual": tuple(clock.span(*span) for span in layout.gradual),
        "usable_spans": tuple(span for span in clear if span[1] - span[0] >= MIN_SHOT_S),
        "dropped": tuple(Dropped(*s, "shots", "shot too short") for s in clear if s[1] - s[0] < MIN_SHOT_S),
    }
