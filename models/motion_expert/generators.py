"""The Motion Expert as registered models.

| model | what it makes |
|---|---|
| ``motion-expert`` | music to 3-D dance |
| ``mace-dance`` | music to video: the Motion Expert, then an animator |

The second half of MACE-Dance, the Appearance Expert, is not in this package yet: ``mace-dance`` draws its dances with
the built-in mannequin, and its card says so. Under a protocol of 3-D motions both models are the same dances.

The checkpoint is the one named by the option, else by the variable ``MACEBENCH_MOTION_EXPERT``, else the embedded one.
The recipe of what was generated holds the checkpoint's hash, the code's, the device and every setting, so that a change
of any of them makes it anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from macebench.animators import Animator, Cascade, Mannequin
from macebench.errors import UserError
from macebench.registry import model
from macebench.types import ModelCard, Motion

if TYPE_CHECKING:
    from macebench.models.motion_expert.expert import MotionExpert, Sampling, Timing

SOURCE = "MACE-Dance; https://github.com/AMAP-ML/MACE-Dance"
LICENCE = "Apache-2.0"
_CODE = ("motion_expert", "diffusion", "layers")
_PROBE_FRAMES, _PROBE_STEPS = 150, 2


@model("motion-expert")
class MotionExpertModel:
    """Music to 3-D dance: a `macebench.types.MotionModel`. Nothing is loaded before it is needed.

    Args:
        checkpoint: ``.safetensors``, or the authors' ``.pt``; None is explained in the module.
        genre: A genre that the checkpoint knows; None is an unknown one.
        beta: See `macebench.models.motion_expert.expert.Sampling`, as for the next four.
        steps: Steps of DDIM; 50 when None.
        eta: Noise of DDIM; 1 when None.
        scale: Guidance of a CFG model.
        sampler: ``ddim`` or ``ddpm``.
        seconds: Dance to the first so many seconds of each piece.
        max_seconds: Longer music is refused; 600 when None, at most 1200.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: a setting out of range; in `generate` also a checkpoint or genre that is not there.
    """

    card = ModelCard("motion-expert", "motion", "The Motion Expert of MACE-Dance: music to 3-D dance.", SOURCE, LICENCE)
    options: ClassVar[frozenset[str]] = frozenset(
        {"checkpoint", "genre", "beta", "steps", "eta", "scale", "sampler", "seconds", "max_seconds", "device"}
    )

    def __init__(
        self,
        *,
        checkpoint: str | Path | None = None,
        genre: str | None = None,
        beta: float | None = None,
        steps: int | None = None,
        eta: float | None = None,
        scale: float | None = None,
        sampler: str = "ddim",
        seconds: float | None = None,
        max_seconds: float | None = None,
        device: str = "auto",
    ) -> None:
        from macebench.models.motion_expert.expert import MAX_SECONDS, Sampling

        _check_seconds(seconds, max_seconds)
        own = {name: value for name, value in (("steps", steps), ("eta", eta)) if value is not None}
        if sampler == "ddpm" and own:
            raise UserError(
                f"{' and '.join(own)} cannot be given with the sampler ddpm, which takes every step of its schedule.",
                hint="Take the sampler ddim, which has both.",
            )
        self.sampling: Sampling = Sampling(beta=beta, scale=scale, sampler=sampler, **own)  # type: ignore[arg-type]
        self.genre, self.seconds, self.device = genre, seconds, device
        self.max_seconds = MAX_SECONDS if max_seconds is None else max_seconds
        self.progress: Callable[[int, int], None] | None = None
        self._path = checkpoint
        self._expert: MotionExpert | None = None
        self._recipe: Mapping[str, Any] | None = None

    @property
    def expert(self) -> MotionExpert:
        """The checkpoint, read at the first call."""
        if self._expert is None:
            from macebench.models.motion_expert.expert import MotionExpert

            self._expert = MotionExpert.open(self._path, self.device)
        return self._expert

    @property
    def timing(self) -> Timing | None:
        """What sampling has cost so far; None before the first dance."""
        return None if self._expert is None else self._expert.timing

    def generate(self, music: Path, seed: int) -> Motion:
        """Dance to the sound file `music`; see `MotionExpert.generate` for limits and errors."""
        return self.expert.generate(
            music, seed, genre=self.genre, sampling=self.sampling, seconds=self.seconds, max_seconds=self.max_seconds,
            progress=self.progress,
        )  # fmt: skip

    def recipe(self) -> Mapping[str, Any]:
        """JSON values on which a dance depends besides its music and seed; not `max_seconds`, which refuses only.

        Raises:
            UserError: the checkpoint is not there or cannot be used, or a setting does not fit it.
        """
        if self._recipe is None:
            self._recipe = self._new_recipe()
        return self._recipe

    def _new_recipe(self) -> Mapping[str, Any]:
        from dataclasses import asdict

        from macebench.media import file_sha256
        from macebench.models.motion_expert.expert import checkpoint_path

        expert = self.expert
        expert.config.genre_index(self.genre)
        return {
            "checkpoint": file_sha256(checkpoint_path(self._path)),
            "sampling": asdict(self.sampling.resolved(expert.config.guidance)),
            "genre": self.genre, "seconds": self.seconds, "device": expert.device.type, "code": code_hash(),
        }  # fmt: skip

    def estimate(self, frames: int) -> float:
        """Seconds that sampling so many frames will take, from two steps on silence; features are not counted."""
        import numpy as np

        from macebench.models.motion_expert.expert import Sampling, Timing

        expert = self.expert
        silence = np.zeros((_PROBE_FRAMES, expert.config.cond_dim))
        for _ in range(2):  # the first call compiles and warms up
            expert.timing = Timing()
            expert.sample_vectors([silence], None, [0], Sampling(steps=_PROBE_STEPS))
        steps = expert.schedule.timesteps if self.sampling.sampler == "ddpm" else self.sampling.steps
        seconds = frames / expert.timing.fps * steps / _PROBE_STEPS
        expert.timing = Timing()
        return seconds


@model("mace-dance")
class MaceDance(Cascade):
    """The Motion Expert, then an animator: a `macebench.types.VideoModel`.

    Args:
        animator: The second half; the built-in mannequin when None.
        settings: Arguments of `MotionExpertModel`.
    """

    card = ModelCard(
        "mace-dance", "video", "MACE-Dance's Motion Expert, drawn by the built-in mannequin.", SOURCE, LICENCE
    )
    options = MotionExpertModel.options

    def __init__(self, *, animator: Animator | None = None, **settings: Any) -> None:
        super().__init__(type(self).card, MotionExpertModel(**settings), animator or Mannequin())


def _check_seconds(seconds: float | None, max_seconds: float | None) -> None:
    from macebench.models.motion_expert.music import MAX_SECONDS as LONGEST

    for name, value in (("seconds", seconds), ("max_seconds", max_seconds)):
        if value is not None and not value > 0:
            raise UserError(f"{name} is {value}; it must be above 0.")
    if max_seconds is not None and max_seconds > LONGEST:
        raise UserError(f"max_seconds is {max_seconds:g}; at most {LONGEST:g} are allowed.",
                        hint="Cut longer music into pieces, or dance to the first `seconds` of it.")  # fmt: skip


@lru_cache(maxsize=1)
def code_hash() -> str:
    """SHA-256 over the source files that a dance depends on, in the order of their names."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for folder in _CODE:
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
