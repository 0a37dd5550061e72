"""The Motion Expert as one object: a checkpoint that turns music into dances.

    expert = MotionExpert.load(Path("model.safetensors"))
    motion = expert.generate(Path("song.wav"), seed=1)

A dance of any length is sampled in ONE non-autoregressive pass: all frames at once, `steps` times. No tensor grows
faster than the length (the scan and the attention, `torch.nn.functional.scaled_dot_product_attention`, are linear in
memory), so ten minutes are 18,000 frames and nothing is stitched.

What a dance is depends on the checkpoint, its music, its genre, the settings and its seed alone. Songs of different
lengths are never padded, because the network reads a song from both ends. On a CPU songs are sampled one by one, so
the company of other songs changes no bit. On a GPU songs of equal length share a batch, which changes the last digits
of float32 and nothing else.

Nothing is done to a sampled motion: what the network gives is clamped to the range of its training data, taken out of
the normalised form and read as a motion. Feet are not put on the floor and not locked.

Source: MACE-Dance, section 3.2 (AMAP-ML/MACE-Dance): 50 DDIM steps, eta 1, beta 0.75 in its public code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from macebench.errors import MediaError, UserError
from macebench.models.diffusion.constraints import Constraint
from macebench.models.diffusion.guidance import guided_denoiser
from macebench.models.diffusion.sampling import ddim, ddpm, seeded_noise
from macebench.models.diffusion.schedule import Schedule
from macebench.models.motion_expert import checkpoint as files
from macebench.models.motion_expert import codec
from macebench.models.motion_expert.checkpoint import Checkpoint
from macebench.models.motion_expert.music import aist_start_bpm, music_features
from macebench.types import Array, FloatArray, Motion

Sampler = Literal["ddim", "ddpm"]
Progress = Callable[[int, int], None]
MAX_SECONDS = 600.0
"""Longest music that is danced to unless the caller allows more: 18,000 frames."""
MAX_FRAMES = 36_000
EMBEDDED_FILE = "small.safetensors"
CHECKPOINT_VARIABLE = "MACEBENCH_MOTION_EXPERT"
RELEASED_SUFFIXES = (".pt", ".pth", ".ckpt")
BATCH_FRAMES = 65_536
_TRAIN = "`macebench train motion-expert` makes one; --checkpoint FILE names it."


@dataclass(frozen=True)
class Sampling:
    """How a dance is drawn from the model.

    Attributes:
        steps: Network evaluations of DDIM; DDPM takes one for each of the schedule's steps, whatever this says.
        eta: Noise of DDIM: 0 none after the first draw, 1 the released setting.
        beta: Temperature of a model trained guidance-free (GFT), in [0, 1]: near 0 guides most towards the music, 1
            does not guide. None is 0.75. A model trained for classifier-free guidance has none.
        scale: Weight of classifier-free guidance. None is 2. A guidance-free model has none.
        sampler: ``ddim`` or ``ddpm``.

    Raises:
        UserError: a number outside its range.
    """

    steps: int = 50
    eta: float = 1.0
    beta: float | None = None
    scale: float | None = None
    sampler: Sampler = "ddim"

    def __post_init__(self) -> None:
        if self.sampler not in ("ddim", "ddpm"):
            raise UserError(f"unknown sampler {self.sampler!r}.", hint="Allowed are ddim and ddpm.")
        if not 1 <= self.steps <= 1000:
            raise UserError(f"steps is {self.steps}; allowed are 1 to 1000.", hint="50 is the paper's value.")
        if not 0.0 <= self.eta <= 1.0:
            raise UserError(f"eta is {self.eta}; it lies in [0, 1].", hint="1 is the released setting.")
        if self.beta is not None and not 0.0 <= self.beta <= 1.0:
            raise UserError(f"beta is {self.beta}; it lies in [0, 1].", hint="0.75 is the paper's value.")
        if self.scale is not None and not 0.0 <= self.scale < 100.0:
            raise UserError(f"scale is {self.scale}; allowed are 0 to 100.", hint="2 is EDGE's value.")

    def resolved(self, guidance: str) -> Sampling:
        """The same with the defaults of the model's guidance (``gft`` or ``cfg``) filled in.

        Raises:
            UserError: a setting that a model of this guidance does not have was given.
        """
        if guidance == "gft" and self.scale is not None:
            raise UserError("this model was trained guidance-free: it has no scale.", hint="Give beta instead.")
        if guidance == "cfg" and self.beta is not None:
            raise UserError("this model was trained for classifier-free guidance: it has no beta.",
                            hint="Give scale instead.")  # fmt: skip
        beta = (0.75 if self.beta is None else self.beta) if guidance == "gft" else None
        scale = (2.0 if self.scale is None else self.scale) if guidance == "cfg" else None
        return Sampling(self.steps, self.eta, beta, scale, self.sampler)


@dataclass
class Timing:
    """What sampling has cost so far.

    Attributes:
        frames: Frames sampled.
        seconds: Wall time of sampling them: music features, files and pictures are not counted.
    """

    frames: int = 0
    seconds: float = 0.0

    @property
    def fps(self) -> float:
        """Generated frames a second of sampling, the paper's FPS; 0 before the first dance."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


class MotionExpert:
    """A checkpoint on a device.

    Args:
        checkpoint: Network, config, normalizer and card.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: the device is not known or not there.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        self.device = find_device(device)
        self.network = checkpoint.network.to(self.device).eval()
        self.config, self.normalizer, self.card = checkpoint.config, checkpoint.normalizer, checkpoint.card
        self.schedule = Schedule.cosine()
        self.timing = Timing()

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> MotionExpert:
        """A checkpoint that `save` or training wrote (``.safetensors``). Raises `UserError`: it cannot be used."""
        return cls(files.load(Path(path)), device)

    @classmethod
    def from_released(
        cls, path: str | Path, device: str = "auto", *, weights: Literal["model", "ema"] = "model"
    ) -> MotionExpert:
        """The authors' file (`macebench.models.motion_expert.released`). Raises `UserError`: it cannot be used."""
        from macebench.models.motion_expert.released import load_released

        return cls(load_released(Path(path), weights=weights), device)

    @classmethod
    def embedded(cls, device: str = "auto") -> MotionExpert:
        """The checkpoint in the package. Raises `UserError`: this installation has none."""
        return cls.load(embedded_path(), device)

    @classmethod
    def open(cls, path: str | Path | None = None, device: str = "auto") -> MotionExpert:
        """The checkpoint at `path` by its suffix; None is that of `checkpoint_path`."""
        found = checkpoint_path(path)
        return (
            cls.from_released(found, device) if found.suffix.lower() in RELEASED_SUFFIXES else cls.load(found, device)
        )

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Write a checkpoint that `load` reads; `half` stores matrices in half precision."""
        files.save(Path(path), self.network, self.config, self.normalizer, self.card, half=half)

    def sample(
        self,
        features: Sequence[Array],
        genre: str | None = None,
        *,
        seeds: Sequence[int],
        steps: int = 50,
        eta: float = 1.0,
        beta: float | None = None,
        scale: float | None = None,
        sampler: Sampler = "ddim",
        constraint: Constraint | None = None,
        progress: Progress | None = None,
    ) -> list[Motion]:
        """Dance to songs.

        Args:
            features: Music features (T, 35) of each song at 30 frames a second; lengths may differ.
            genre: A name of `config.genres`, for all songs; None is an unknown genre.
            seeds: One for each song, 0 or more.
            steps: See `Sampling`, as for the next four.
            eta: Noise of DDIM.
            beta: Temperature of a guidance-free model.
            scale: Guidance of a CFG model.
            sampler: ``ddim`` or ``ddpm``.
            constraint: Given parts, one row a song; then all songs have one length.
            progress: Called with steps done and steps in all.

        Returns:
            One motion of T frames for each song, y up, in metres, 30 frames a second.

        Raises:
            UserError: a setting, the genre or a constraint does not fit, or a song is empty, too long or not finite.
        """
        settings = Sampling(steps, eta, beta, scale, sampler)
        found = self.sample_vectors(features, genre, seeds, settings, constraint=constraint, progress=progress)
        return [self.decode(vectors) for vectors in found]

    def decode(self, vectors: Array) -> Motion:
        """The motion that normalised vectors (T, 151) stand for."""
        return codec.decode(self.normalizer.unnormalize(np.asarray(vectors, dtype=np.float64)))

    def sample_vectors(
        self,
        features: Sequence[Array],
        genre: str | None,
        seeds: Sequence[int],
        sampling: Sampling,
        *,
        constraint: Constraint | None = None,
        progress: Progress | None = None,
    ) -> list[FloatArray]:
        """As `sample`, normalised vectors (T, 151) in [-1, 1] of each song, float64."""
        settings = sampling.resolved(self.config.guidance)
        if len(seeds) != len(features):
            raise UserError(f"{len(seeds)} seeds for {len(features)} songs.", hint="Give one seed for each song.")
        songs = [self._checked(song, number) for number, song in enumerate(features)]
        index = self.config.genre_index(genre)
        lengths = [len(song) for song in songs]
        if constraint is not None and (len(set(lengths)) > 1 or constraint.mask.shape[:2] != (len(songs), lengths[0])):
            raise UserError("a constraint needs songs of one length, and one row for each.")
        batches = list(self._batches(lengths))
        result: list[FloatArray] = [np.empty(0)] * len(songs)
        for done, rows in enumerate(batches):
            cond = torch.from_numpy(np.stack([songs[row] for row in rows])).to(self.device)
            part = _rows_of(constraint, rows)
            step = _share(progress, done, len(batches))
            drawn = self._sample_batch(cond, index, [int(seeds[row]) for row in rows], settings, part, step)
            for row, values in zip(rows, drawn, strict=True):
                result[row] = values
        return result

    def _sample_batch(
        self,
        cond: Tensor,
        genre: int,
        seeds: Sequence[int],
        settings: Sampling,
        constraint: Constraint | None,
        progress: Progress | None,
    ) -> FloatArray:
        """(b, T, 151) of songs of one length."""
        begun = time.perf_counter()
        shape = (cond.shape[0], cond.shape[1], self.config.n_features)
        noise = seeded_noise(seeds, device=self.device)
        with torch.inference_mode():
            labels = torch.full((shape[0],), genre, dtype=torch.int64, device=self.device)
            denoiser = guided_denoiser(
                self.network, cond, labels, form=self.config.guidance, beta=_or(settings.beta, 1.0),
                scale=_or(settings.scale, 1.0), capped_below=100 if settings.sampler == "ddpm" else 0,
            )  # fmt: skip
            if settings.sampler == "ddpm":
                x = ddpm(denoiser, shape, self.schedule, noise, constraint=constraint, progress=progress)
            else:
                x = ddim(
                    denoiser, shape, self.schedule, noise, steps=settings.steps, eta=settings.eta,
                    constraint=constraint, progress=progress,
                )  # fmt: skip
            values = x.to("cpu", torch.float64).numpy()
        self.timing.frames += shape[0] * shape[1]
        self.timing.seconds += time.perf_counter() - begun
        return np.asarray(values)

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Songs that are sampled together: one each on a CPU, those of equal length on a GPU."""
        if self.device.type == "cpu":
            yield from ([row] for row in range(len(lengths)))
            return
        for length in sorted(set(lengths)):
            rows = [row for row, own in enumerate(lengths) if own == length]
            size = max(1, BATCH_FRAMES // length)
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def _checked(self, song: Array, number: int) -> Array:
        """The features of a song as float32."""
        values = np.asarray(song)
        if values.ndim != 2 or values.shape[1] != self.config.cond_dim or not len(values):
            raise UserError(f"song {number}: features {values.shape}, expected (T, {self.config.cond_dim}).")
        if len(values) > MAX_FRAMES:
            raise UserError(f"song {number} has {len(values)} frames, at most {MAX_FRAMES} are danced to.")
        if not np.isfinite(values).all():
            raise UserError(f"song {number} has features that are not finite.")
        return np.ascontiguousarray(values, dtype=np.float32)

    def generate(
        self,
        music: str | Path,
        seed: int,
        *,
        genre: str | None = None,
        sampling: Sampling | None = None,
        seconds: float | None = None,
        max_seconds: float = MAX_SECONDS,
        progress: Progress | None = None,
    ) -> Motion:
        """Dance to a sound or video file.

        Args:
            music: Anything that `macebench.media` reads; mono or not, any rate, silence and noise included.
            seed: 0 or more.
            genre: A name of `config.genres`, or None.
            sampling: Settings.
            seconds: Only the first so many seconds.
            max_seconds: Longer music is refused.
            progress: Called with steps done and steps in all.

        Returns:
            round(30 d) frames for d seconds of music.

        Raises:
            MediaError: the file cannot be read, is too short for one frame, or is too long.
            UserError: a setting or the genre does not fit.
        """
        features = features_of(music, seconds=seconds, max_seconds=max_seconds)
        drawn = self.sample_vectors([features], genre, [seed], sampling or Sampling(), progress=progress)
        return self.decode(drawn[0])


def features_of(music: str | Path, *, seconds: float | None = None, max_seconds: float = MAX_SECONDS) -> FloatArray:
    """Music features (T, 35) of a file, or of its first `seconds`.

    The beat tracker starts from the tempo in a name of AIST++'s form, as the published feature scripts do.

    Raises:
        MediaError: see `MotionExpert.generate`.
    """
    path = Path(music)
    samples, rate = read_sound(path, seconds=seconds, max_seconds=max_seconds)
    return music_features((samples, rate), start_bpm=aist_start_bpm(path.stem))


def read_sound(path: Path, *, seconds: float | None = None, max_seconds: float = MAX_SECONDS) -> tuple[Array, int]:
    """Samples (N,) float32, mono, at the file's own rate; reading stops at `seconds`, or where it is too long.

    Raises:
        MediaError: ``too long``, ``values not finite``, or see `macebench.media.decoder`.
        UserError: a limit that is not above 0.
    """
    from macebench.media import Decoder, Limits

    for name, value in (("seconds", seconds), ("max_seconds", max_seconds)):
        if value is not None and not value > 0:
            raise UserError(f"{name} is {value}, must be above 0.")
    longest = max_seconds if seconds is None else min(seconds, max_seconds)
    parts: list[Array] = []
    count, rate = 0, 1
    with Decoder(Limits(max_duration_s=24 * 3600.0)) as decoder:
        for part in decoder.sound_parts(path):
            parts.append(part.samples)
            count, rate = count + len(part.samples), part.sample_rate
            if count > longest * rate:
                break
    if seconds is None and count > max_seconds * rate:
        raise MediaError("too long", f"{path.name} is longer than {max_seconds:g} s; cut it, or allow more seconds")
    samples = np.concatenate(parts)[: round(longest * rate)]
    if not np.isfinite(samples).all():
        raise MediaError("values not finite", f"{path.name} holds samples that are no numbers")
    return samples, rate


def embedded_path() -> Path:
    """The checkpoint in the package.

    Raises:
        UserError: this installation has none.
    """
    path = Path(str(resources.files("macebench.models.motion_expert").joinpath(EMBEDDED_FILE)))
    if not path.is_file():
        raise UserError("this installation has no embedded checkpoint of the Motion Expert.", hint=_TRAIN)
    return path


def checkpoint_path(path: str | Path | None = None) -> Path:
    """The checkpoint to use: `path`, else the one that ``$MACEBENCH_MOTION_EXPERT`` names, else the embedded one.

    Raises:
        UserError: the file does not exist, or its suffix is not that of a checkpoint.
    """
    named = path or os.environ.get(CHECKPOINT_VARIABLE)
    if not named:
        return embedded_path()
    found = Path(named)
    if not found.is_file():
        raise UserError(f"checkpoint {found} does not exist.", hint=_TRAIN)
    if found.suffix.lower() not in (".safetensors", *RELEASED_SUFFIXES):
        known = ", ".join((".safetensors", *RELEASED_SUFFIXES))
        raise UserError(f"{found} is no checkpoint by its suffix.", hint=f"Known suffixes are {known}.")
    return found


def find_device(name: str = "auto") -> torch.device:
    """The torch device called `name`; ``auto`` is a GPU where there is one, else the CPU.

    Raises:
        UserError: another name, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()) or (kind == "cpu" and number):
        raise UserError(f"unknown device {name[:40]!r}.", hint="Allowed are auto, cpu, cuda and cuda:N.")
    if kind == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()):
        raise UserError(f"device {name} is not there.", hint="`macebench doctor` lists what is; --device cpu works.")
    return torch.device(name)


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _rows_of(constraint: Constraint | None, rows: Sequence[int]) -> Constraint | None:
    if constraint is None:
        return None
    chosen = list(rows)
    return Constraint(constraint.mask[chosen], constraint.value[chosen], constraint.resample, constraint.blend)


def _share(progress: Progress | None, done: int, total: int) -> Progress | None:
    """The progress of batch number `done` of `total` as that of the whole."""
    if progress is None:
        return None

    def report(step: int, steps: int) -> None:
        progress(done * steps + step, total * steps)

    return report
