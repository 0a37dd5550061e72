"""Stage ``probe``: what the container and the sound say, before any picture is decoded.

Sound is looked at in blocks of one second; the level of a block is its root mean square in decibels below full scale.
Reading stops at the first block of `CLEAR_DB` or more, so that a normal source costs little. The score ``level_db`` is
the highest level seen; a source is silent when it is below ``min_level_db``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from macebench.curation._ranges import FROM_ZERO, check_ranges
from macebench.curation.stage import Rejection, Task, Timeline, Verdict
from macebench.errors import MediaError, UserError
from macebench.media import Decoder, VideoInfo
from macebench.registry import stage

CLEAR_DB = -40.0
SILENCE_DB = -120.0
"""Level of digital silence."""
_PIECE = 1024
VERSION = 2
"""Raised when the same file gives another `measure`."""


@dataclass(frozen=True)
class ProbeConfig:
    """Limits of the probe stage.

    Attributes:
        min_duration_s: Shorter sources are dropped.
        min_side: Sources whose shorter side has fewer pixels are dropped.
        needs_audio: Whether a source without sound is dropped.
        min_level_db: Sources whose loudest second is below this level are dropped as silent; None keeps them. Not
            above -40, where reading stops.
        optout: File of opted-out ids, or None. Does not change what is decided of other sources.
    """

    min_duration_s: float = 5.0
    min_side: int = 256
    needs_audio: bool = True
    min_level_db: float | None = -60.0
    optout: str | None = field(default=None, metadata={"scope": "run"})

    def __post_init__(self) -> None:
        check_ranges("probe", self, {"min_duration_s": FROM_ZERO, "min_side": FROM_ZERO})
        if self.min_level_db is not None and not self.min_level_db <= CLEAR_DB:
            raise UserError(
                f"probe.min_level_db is {self.min_level_db:g}.", hint=f"Give {CLEAR_DB:g} or less: reading stops there."
            )


@stage("probe")
class Probe:
    """Drops what cannot become a clip: too short, too small, without sound, silent, opted out."""

    name = "probe"
    limits: ClassVar[dict[str, str]] = {
        "duration_s": "min_duration_s", "side": "min_side", "has_audio": "needs_audio", "level_db": "min_level_db",
    }  # fmt: skip

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self.config = config or ProbeConfig()

    def process(self, task: Task) -> Verdict:
        """Judge one source. Raises `MediaError` when it was not probed before and cannot be read."""
        if opted_out(task.source_id, self.config):
            return Verdict({}, Rejection("probe", "opted out"))
        info, measured = task.info, task.observed.get(self.name)
        if info is None or measured is None:
            with Decoder() as decoder:
                info, measured = measure(decoder, task.source)
        scores = {
            "duration_s": info.duration_s, "fps": info.fps, "width": float(info.width), "height": float(info.height),
            "side": float(min(info.width, info.height)), "has_audio": float(info.has_audio),
            "level_db": float(measured.meta["level_db"]) if info.has_audio else math.nan,
            "rotation_deg": float(info.rotation_deg),
            "variable_rate": math.nan if info.variable_rate is None else float(info.variable_rate),
        }  # fmt: skip
        following = dataclasses.replace(task, end_s=info.duration_s, info=info)
        return Verdict(scores, _decide(scores, self.config), (following,))


def opted_out(source_id: str, config: ProbeConfig) -> bool:
    """Whether the list of the config names this source by its hash."""
    if config.optout is None:
        return False
    from macebench.curation.optout import load_optout

    return load_optout(Path(config.optout)).blocked(source_sha256=source_id, ids=(source_id,))


def measure(decoder: Decoder, path: Path) -> tuple[VideoInfo, Timeline]:
    """What a file says of itself, and the level of its sound: a timeline without samples, ``level_db`` in its meta.

    Raises:
        MediaError: the video cannot be read. Sound that cannot be read counts as silence.
    """
    info = decoder.probe(path)
    level = sound_level(decoder, path) if info.has_audio else SILENCE_DB
    return info, Timeline(np.zeros(0), {}, {"level_db": level})


def sound_level(decoder: Decoder, path: Path) -> float:
    """Highest level of a second of sound in dB below full scale, up to the first one of `CLEAR_DB` or more."""
    highest, open_power, open_count = SILENCE_DB, 0.0, 0
    try:
        for part in decoder.sound_parts(path):
            for start in range(0, len(part.samples), _PIECE):
                piece = part.samples[start : start + _PIECE].astype(np.float64)
                open_power, open_count = open_power + float(piece @ piece), open_count + len(piece)
                if open_count >= part.sample_rate:
                    highest = max(highest, _level(open_power / open_count))
                    open_power, open_count = 0.0, 0
                if highest >= CLEAR_DB:
                    return round(highest, 3)
    except MediaError as error:
        if error.reason not in ("no sound", "truncated file"):
            raise
    return round(max(highest, _level(open_power / max(open_count, 1))), 3)


def _level(power: float) -> float:
    return max(10.0 * math.log10(power), SILENCE_DB) if power > 0 and math.isfinite(power) else SILENCE_DB


def _decide(scores: dict[str, float], config: ProbeConfig) -> Rejection | None:
    if not scores["duration_s"] >= config.min_duration_s:
        return Rejection("probe", "too short", scores["duration_s"], config.min_duration_s)
    if scores["side"] < config.min_side:
        return Rejection("probe", "picture too small", scores["side"], float(config.min_side))
    if not config.needs_audio:
        return None
    if not scores["has_audio"]:
        return Rejection("probe", "no sound", 0.0, 1.0)
    if config.min_level_db is not None and scores["level_db"] < config.min_level_db:
        return Rejection("probe", "silent", scores["level_db"], config.min_level_db)
    return None
