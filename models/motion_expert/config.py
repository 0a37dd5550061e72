"""Sizes and choices of a Motion Expert, and the named presets.

| preset | what it is |
|---|---|
| `released` | the network of the public code of MACE-Dance (AMAP-ML/MACE-Dance): 66,680,983 parameters |
| `paper` | the network as the paper's section 3.2.2 draws it: as `released`, without the genre input |
| `small` | small enough to ship in the package in half precision and to train on two CPU cores |
| `tiny` | for tests |

The paper names neither layer counts (L_m, L_d) nor widths; `paper` takes those of the released code. Its equation 7
discretises B by a zero-order hold where the released code takes one Euler step; all presets take the Euler step.

**Genres.** The released code gives the music layers one of 16 genre labels, which the paper does not mention. A model
without genres (`genres=()`) has no such input. An unknown genre (`UNKNOWN_GENRE`) is the mean of the embedding table
(`unknown_genre="mean"`), or the last genre, which is then one trained on purpose (`"index"`).

**Attention window.** `attention_frames=None` lets every dance frame attend to the whole music, as published. A number
gives it that many music frames around itself. A model trained on windows of that length then meets as many keys in ten
minutes of music as in training, and time and memory grow linearly with the length. This is not in the paper.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from macebench.errors import UserError

Mixer = Literal["bimamba", "mamba", "transformer"]
Guidance = Literal["gft", "cfg"]

UNKNOWN_GENRE = -1
ANY_GENRE = "any"
RELEASED_GENRES = (
    "Dai", "ShenYun", "Wei", "Korean", "Urban", "Hiphop", "Popping", "Miao", "HanTang", "Breaking", "Kun", "Locking",
    "Jazz", "Choreography", "Chinese", "DunHuang",
)  # fmt: skip


class MotionExpertConfig(BaseModel):
    """Sizes and choices of a network; two networks of one config have the same parameters.

    Attributes:
        latent_dim: Width of all tokens; even, and a multiple of `n_heads`.
        ff_dim: Inner width of the feed-forward part of a cross-attention block.
        n_dance_layers: Dance layers (L_d).
        n_music_layers: Music layers (L_m).
        n_heads: Attention heads.
        d_state: State size of a Mamba.
        d_conv: Kernel of a Mamba's convolution, frames.
        expand: Inner width of a Mamba over `latent_dim`.
        dropout: Share of values dropped in training.
        cond_dim: Music features a frame.
        n_features: Motion features a frame (see `macebench.models.motion_expert.codec`).
        genres: Names in the order of the embedding table; empty for a model without genres.
        unknown_genre: What an unknown genre is: the ``mean`` of the table, or the last ``index``.
        mixer: What mixes neighbouring frames; ``mamba`` and ``transformer`` are the paper's ablations.
        guidance: How the model was, or is to be, trained: guidance-free (GFT) or classifier-free (CFG).
        attention_frames: Music frames that one dance frame attends to; None for all.
        aligned_music: Add the encoded music to the motion, frame by frame, before the first dance layer. Without it,
            dance and music meet in attention without positions only, and what belongs together has to be learnt.
        standardise_music: Bring every music feature to mean 0 and deviation 1 over the training data. Without it, the
            first cepstral coefficients (hundreds) drown the beat (0 or 1) for a long time.
        quiet_start: Begin with the last map of every block of the dance layers at zero. What such a layer then adds is
            FiLM's shift alone: one vector for all frames, which depends on time and beta and on nothing else. The
            network starts as a linear map of its input (and, with `aligned_music`, of the encoded music) plus that.
        music_mean: (cond_dim,) mean of each feature; filled in by training.
        music_std: (cond_dim,) deviation of each feature; filled in by training.
        fps: Frames a second of motion and music features.
        horizon_frames: Length of a training window in frames.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent_dim: int = Field(default=512, ge=4, le=8192, multiple_of=2)
    ff_dim: int = Field(default=1024, ge=1, le=32768)
    n_dance_layers: int = Field(default=8, ge=1, le=128)
    n_music_layers: int = Field(default=2, ge=0, le=128)
    n_heads: int = Field(default=8, ge=1, le=128)
    d_state: int = Field(default=16, ge=1, le=256)
    d_conv: int = Field(default=4, ge=2, le=16)
    expand: int = Field(default=2, ge=1, le=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    cond_dim: int = Field(default=35, ge=1, le=65536)
    n_features: int = Field(default=151, ge=1, le=65536)
    genres: tuple[str, ...] = Field(default=RELEASED_GENRES, max_length=4096)
    unknown_genre: Literal["mean", "index"] = "mean"
    mixer: Mixer = "bimamba"
    guidance: Guidance = "gft"
    attention_frames: int | None = Field(default=None, ge=8)
    aligned_music: bool = False
    standardise_music: bool = False
    quiet_start: bool = False
    music_mean: tuple[float, ...] | None = Field(default=None, max_length=65536)
    music_std: tuple[float, ...] | None = Field(default=None, max_length=65536)
    fps: float = Field(default=30.0, gt=0, le=1000)
    horizon_frames: int = Field(default=1200, ge=2)

    @model_validator(mode="after")
    def _consistent(self) -> MotionExpertConfig:
        if self.latent_dim % self.n_heads:
            raise ValueError(f"latent_dim {self.latent_dim} is no multiple of n_heads {self.n_heads}")
        if len(set(self.genres)) != len(self.genres):
            raise ValueError("a genre is named twice")
        if self.unknown_genre == "index" and not self.genres:
            raise ValueError("unknown_genre is index, but there are no genres")
        for name, values in (("music_mean", self.music_mean), ("music_std", self.music_std)):
            if values is not None and len(values) != self.cond_dim:
                raise ValueError(f"{name} has {len(values)} values, cond_dim is {self.cond_dim}")
        return self

    def genre_index(self, genre: str | None) -> int:
        """The row of a genre in the embedding table.

        Args:
            genre: A name of `genres` (capitals do not matter), or None when the genre is not known.

        Returns:
            The index. For None: the last one when `unknown_genre` is ``index``, else `UNKNOWN_GENRE`.

        Raises:
            UserError: the model does not know the genre.
        """
        if genre is None:
            return len(self.genres) - 1 if self.unknown_genre == "index" else UNKNOWN_GENRE
        names = [name.lower() for name in self.genres]
        if genre.lower() in names:
            return names.index(genre.lower())
        if not self.genres:
            raise UserError(f"this model takes no genre, {genre[:80]!r} was given.", hint="Leave the genre out.")
        close = difflib.get_close_matches(genre.lower(), names, n=1)
        guess = f"Did you mean {self.genres[names.index(close[0])]}? " if close else ""
        raise UserError(
            f"unknown genre {genre[:80]!r}.",
            hint=f"{guess}This model knows {', '.join(self.genres)}, or no genre at all.",
        )

    def with_genres(self, genres: tuple[str, ...]) -> MotionExpertConfig:
        """This config with other genres; `ANY_GENRE` is put last where `unknown_genre` is ``index``."""
        named = tuple(name for name in genres if name != ANY_GENRE)
        return self.revised(genres=(*named, ANY_GENRE) if self.unknown_genre == "index" else named)

    def revised(self, **changes: object) -> MotionExpertConfig:
        """A checked copy with some fields changed.

        Raises:
            pydantic.ValidationError: a field is unknown or out of range.
        """
        return MotionExpertConfig.model_validate({**self.model_dump(), **changes})


DEMO_GENRES = ("disco", "electro", "funk", "hiphop", "house", "modern", "pop")
"""Genres of the procedural dances, and of the recorded ones (``modern``)."""

_RELEASED = MotionExpertConfig()

PRESETS: Mapping[str, MotionExpertConfig] = MappingProxyType(
    {
        "released": _RELEASED,
        "paper": _RELEASED.revised(genres=()),
        "small": MotionExpertConfig(
            latent_dim=128, ff_dim=256, n_dance_layers=4, n_music_layers=1, n_heads=4, d_state=8, dropout=0.0,
            genres=(*DEMO_GENRES, ANY_GENRE), unknown_genre="index", attention_frames=60, aligned_music=True,
            standardise_music=True, quiet_start=True, horizon_frames=150,
        ),
        "tiny": MotionExpertConfig(
            latent_dim=32, ff_dim=64, n_dance_layers=2, n_music_layers=1, n_heads=2, d_state=4, dropout=0.0,
            genres=("electro", "funk", "pop", ANY_GENRE), unknown_genre="index", horizon_frames=60,
        ),
    }
)  # fmt: skip
"""The presets by name (see the module)."""


def preset(name: str) -> MotionExpertConfig:
    """The preset `name`.

    Raises:
        UserError: there is no such preset.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name[:80]!r}.", hint=f"Presets are {', '.join(sorted(PRESETS))}.")
    return PRESETS[name]
