"""What goes into a decoder and what comes out of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Limits:
    """What one clip may cost before it is given up.

    Attributes:
        memory_mb: Address space of the decoder process in MiB (``RLIMIT_AS``). Python, numpy and the codecs
            take about 400 of it, the shared ring at most 256, one decoder of 4096x4096 pictures about 500.
        wall_s: Seconds that the caller may be kept waiting by one call. The time that the consumer of
            the frames takes for itself is not counted.
        max_pixels: Pixels of one picture, both as stored and after scaling to square pixels.
        max_frames: Decoded pictures of one clip.
        max_duration_s: Length of one clip in seconds, declared or decoded.
    """

    memory_mb: int = 4096
    wall_s: float = 600.0
    max_pixels: int = 4096 * 4096
    max_frames: int = 1_000_000
    max_duration_s: float = 4 * 3600.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}, must be above 0")


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself, checked against its first decoded picture.

    Attributes:
        width: Pixels of a delivered picture: after scaling to square pixels and after turning.
        height: As `width`.
        fps: Average frame rate; NaN when the file does not say.
        duration_s: Length of the video stream in seconds (of the file where the stream does not say), from its first
            picture on; where that is over 0.5 s more than the pictures last, the time of the last one and its step.
        has_audio: True when the file has at least one sound stream.
        rotation_deg: Turn that is applied to stored pictures, counter-clockwise: 0, 90, 180 or 270.
        variable_rate: True when the distances of consecutive pictures differ by more than 2.5 ms and one tick
            (looked at in the first 512 pictures); None under three pictures.
        container: ``mp4``, ``mov``, ``webm``, ``mkv`` or ``ogg``; ``png`` for a folder of pictures.
        codec: Name of the video codec, such as ``h264``.
        n_frames: Pictures that the container declares, or None.
        steady_fps: The constant rate to which the pictures are best brought (`macebench.media.rates.steady_rate`, of
            those looked at for `variable_rate`); None where that is not known.
        notes: What a reader should know of its pictures, such as ``HDR (PQ) read without tone mapping``.
    """

    width: int
    height: int
    fps: float
    duration_s: float
    has_audio: bool
    rotation_deg: int
    variable_rate: bool | None
    container: str
    codec: str
    n_frames: int | None
    steady_fps: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(self.notes))  # a list where it was read from JSON


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive pictures. The arrays belong to the receiver.

    Attributes:
        frames: (B, H, W, 3) RGB.
        times_s: (B,) presentation timestamps in seconds after the clip's first picture.
    """

    frames: NDArray[np.uint8]
    times_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times_s)


@dataclass(frozen=True)
class FrameCounts:
    """What became of the pictures of one clip.

    Attributes:
        decoded: Good pictures that came out of the codec.
        delivered: Pictures handed to the caller.
        out_of_order: Dropped because their timestamp was not after the one before.
        thinned: Dropped because of `max_fps`.
    """

    decoded: int
    delivered: int
    out_of_order: int
    thinned: int


@dataclass(frozen=True)
class Sound:
    """The sound of a file.

    Attributes:
        samples: (N,) mono, mean of the channels, full scale is 1; (N, 2) where stereo was wanted and is there.
        sample_rate: Samples a second.
        start_s: Time of the first sample in seconds after the clip's first picture; 0 for a sound file.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    start_s: float

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate
