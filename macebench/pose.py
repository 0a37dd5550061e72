"""What every pose back end is: frames in, one `PoseTrack` out."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from macebench.protocol import PoseBackend
from macebench.types import Clip, FloatArray, Missing, PoseTrack

NO_PERSON = "no person"


class PoseSession(Protocol):
    """The state of one clip: frames are given in order, in batches of any size.

    The result must not depend on the batch sizes.
    """

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) RGB frames and their (B,) presentation timestamps in seconds."""
        ...

    def finish(self) -> PoseTrack | Missing:
        """The track of the most prominent person, or ``Missing("no person")``."""
        ...


@runtime_checkable
class PoseEstimator(Protocol):
    """A pose back end. It is made once a worker and used for many clips.

    Attributes:
        needs_frames: False when poses are read from files (`precomputed`): then nothing is decoded for it.
    """

    needs_frames: bool

    def describe(self) -> PoseBackend:
        """Name, model, weights' hash and settings: what goes into the protocol's hash. Loads no weights."""
        ...

    def start(self, clip: Clip, width: int, height: int) -> PoseSession:
        """Begin a clip whose pictures are `width` x `height` pixels. Loads the weights at the first call.

        Raises:
            WeightsMissingError: with the command that gets them.
        """
        ...
