"""Stage ``probe``: what the container says, before anything is decoded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from macebench.curation.stage import Rejection, Task, Verdict
from macebench.registry import stage


@dataclass(frozen=True)
class ProbeConfig:
    """Limits of the probe stage.

    Attributes:
        min_duration_s: Shorter sources are dropped.
        min_side: Sources whose shorter side has fewer pixels are dropped.
        needs_audio: Whether a source without sound is dropped.
    """

    min_duration_s: float = 5.0
    min_side: int = 256
    needs_audio: bool = True


@stage("probe")
class Probe:
    """Reads duration, frame rate, size and sound of a source, and drops what cannot become a clip."""

    name = "probe"

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self.config = config or ProbeConfig()

    def process(self, task: Task) -> Verdict:
        """Probe one source. Raises `MediaError` when it cannot be read."""
        from macebench.media import Decoder

        with Decoder() as decoder:
            info = decoder.probe(task.source)
        scores = {
            "duration_s": info.duration_s, "fps": info.fps, "width": float(info.width),
            "height": float(info.height), "has_audio": float(info.has_audio),
        }  # fmt: skip
        side = float(min(info.width, info.height))
        return Verdict(
            scores,
            _reject(info.duration_s, side, info.has_audio, self.config),
            (dataclasses.replace(task, end_s=info.duration_s),),
        )


def _reject(duration_s: float, side: float, has_audio: bool, config: ProbeConfig) -> Rejection | None:
    if duration_s < config.min_duration_s:
        return Rejection("probe", "too short", duration_s, config.min_duration_s)
    if side < config.min_side:
        return Rejection("probe", "picture too small", side, float(config.min_side))
    if config.needs_audio and not has_audio:
        return Rejection("probe", "no sound", 0.0, 1.0)
    return None
