"""The network of the Motion Expert: a BiMamba and cross-attention hybrid that predicts the clean motion.

Source: MACE-Dance, section 3.2.2, and its public code (AMAP-ML/MACE-Dance). With the preset `released` parameter names
and shapes equal those of the released weights.

    music:  cond -> linear -> music layers -> taken away where `drop` -> + null embedding -> memory
    t-beta: MLP(sinusoid(t)) + MLP(sinusoid(1000 beta))
    dance:  x -> linear -> dance layers (with memory and t-beta) -> linear -> clean motion

    music layer:  x + FiLM(mixer(x)), driven by an MLP of the genre (without genres: x + mixer(x))
    dance layer:  x + FiLM(mixer(x)), then x + FiLM(cross-attention and feed-forward), both driven by t-beta

The null embedding is added whether or not the condition is kept, as in the released code. The music layers see neither
t nor beta, so `MotionExpertNetwork.encode_music` is run once a song and `MotionExpertNetwork.denoise` once a step.

`mixer` is the bidirectional Mamba (`bimamba`), one causal Mamba (`mamba`) or self-attention (`transformer`); the
attribute is named ``bimamba`` in each case, after the released weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from macebench.models.layers.blocks import CrossBlock, FiLM, SinusoidalEmbedding, featurewise_affine
from macebench.models.layers.mamba import BiMamba, CausalMamba, SelfAttention
from macebench.models.motion_expert.config import MotionExpertConfig

BETA_SCALE = 1000.0
_STEPS_PER_WINDOW = 4


def mixer(config: MotionExpertConfig) -> nn.Module:
    """What mixes neighbouring frames in a layer: (b, t, d) -> (b, t, d), with its norm and dropout."""
    if config.mixer == "transformer":
        return SelfAttention(config.latent_dim, config.n_heads, config.dropout)
    kind = BiMamba if config.mixer == "bimamba" else CausalMamba
    return kind(config.latent_dim, config.d_state, config.d_conv, config.expand, config.dropout)


class MusicLayer(nn.Module):
    """x + FiLM(mixer(x)), with scale and shift from the genre; x + mixer(x) when the model has no genres."""

    def __init__(self, config: MotionExpertConfig) -> None:
        super().__init__()
        width = config.latent_dim
        self.bimamba = mixer(config)
        self._last_is_unknown = config.unknown_genre == "index"
        self.film: FiLM | None = None
        self.genre_MLP: nn.Sequential | None = None
        if config.genres:
            self.film = FiLM(width, width)
            self.genre_MLP = nn.Sequential(
                nn.Embedding(len(config.genres), width),
                nn.Linear(width, 2 * width),
                nn.Mish(),
                nn.Linear(2 * width, width),
            )

    def forward(self, x: Float[Tensor, "b t d"], genre: Int[Tensor, " b"]) -> Float[Tensor, "b t d"]:
        """The next tokens; `genre` as in `MotionExpertNetwork.forward`."""
        mixed = self.bimamba(x)
        if self.film is None:
            return cast(Tensor, x + mixed)
        return x + featurewise_affine(mixed, self.film(self.genre_vector(genre)))

    def genre_vector(self, genre: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """What the genre MLP makes of genre indices; a negative index is an unknown genre.

        Raises:
            ValueError: the model has no genres.
        """
        if self.genre_MLP is None:
            raise ValueError("a model without genres has no genre vector")
        embedding, *rest = self.genre_MLP
        table = cast(nn.Embedding, embedding).weight
        unknown = table[-1] if self._last_is_unknown else table.mean(dim=0)
        vector = torch.where((genre < 0)[:, None], unknown, embedding(genre.clamp(min=0)))
        for module in rest:
            vector = module(vector)
        return vector


class DanceLayer(nn.Module):
    """x + FiLM(mixer(x)), then x + FiLM(cross block(x, memory)); scale and shift from the t-beta embedding."""

    def __init__(self, config: MotionExpertConfig) -> None:
        super().__init__()
        width = config.latent_dim
        self.bimamba = mixer(config)
        self.film1 = FiLM(width, width)
        self.transformer = CrossBlock(width, config.n_heads, config.ff_dim, config.dropout)
        self.film2 = FiLM(width, width)
        self._attention_frames = config.attention_frames

    def forward(
        self, x: Float[Tensor, "b t d"], memory: Float[Tensor, "b t d"], embedding: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b t d"]:
        """The next tokens."""
        x = x + featurewise_affine(self.bimamba(x), self.film1(embedding))
        heard = attend_nearby(self.transformer, x, memory, self._attention_frames)
        return x + featurewise_affine(heard, self.film2(embedding))


MUSIC_DEVIATIONS = 5.0
"""Standardised music features are kept within so many deviations."""


def attend_nearby(
    block: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "b t d"],
    memory: Float[Tensor, "b t d"],
    frames: int | None,
) -> Float[Tensor, "b t d"]:
    """A cross-attention block in which each frame of x sees `frames` frames of the memory around itself.

    Frames are taken in groups of a quarter of the window, each with the window around its middle; at both ends the
    window is the first or last `frames` frames. With `frames` None, or no fewer than there are, all see all.

    Args:
        block: (x, memory) -> as x; must treat the frames of x independently of one another.
        x: Queries.
        memory: As long as x.
        frames: Length of the window.
    """
    batch, length, width = x.shape
    if frames is None or length <= frames:
        return block(x, memory)
    group = max(1, frames // _STEPS_PER_WINDOW)
    count = math.ceil(length / group)
    queries = nn.functional.pad(x, (0, 0, 0, count * group - length)).reshape(batch * count, group, width)
    starts = torch.arange(count, device=x.device) * group - (frames - group) // 2
    index = starts.clamp(0, length - frames)[:, None] + torch.arange(frames, device=x.device)
    windows = memory[:, index].reshape(batch * count, frames, width)
    return block(queries, windows).reshape(batch, count * group, width)[:, :length]


class MotionExpertNetwork(nn.Module):
    """Noisy motion, music, genre, time and beta to the clean motion (see the module).

    Attributes:
        config: Sizes and choices.
    """

    def __init__(self, config: MotionExpertConfig) -> None:
        super().__init__()
        self.config = config
        width = config.latent_dim
        self.input_projection = nn.Linear(config.n_features, width)
        self.cond_projection = nn.Linear(config.cond_dim, width)
        self.time_mlp = _embedding_mlp(width)
        self.beta_mlp = _embedding_mlp(width)
        self.null_cond_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.musiclayerstack = nn.ModuleList(MusicLayer(config) for _ in range(config.n_music_layers))
        self.dancelayerstack = nn.ModuleList(DanceLayer(config) for _ in range(config.n_dance_layers))
        self.final_layer = nn.Linear(width, config.n_features)
        if config.quiet_start:
            _silence(self.dancelayerstack)

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        cond: Float[Tensor, "b t f"],
        genre: Int[Tensor, " b"],
        times: Int[Tensor, " b"],
        beta: Float[Tensor, " b"],
        drop: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b t c"]:
        """The clean motion that is expected behind a noisy one.

        Args:
            x: Noisy motion, normalised; c is `config.n_features`.
            cond: Music features; f is `config.cond_dim`.
            genre: Index into `config.genres`; negative where the genre is unknown.
            times: Diffusion step, 0 is nearly clean.
            beta: Temperature of guidance-free training, in [0, 1].
            drop: True where the music is taken away; None keeps it everywhere.
        """
        return self.denoise(x, self.encode_music(cond, genre, drop), times, beta)

    def encode_music(
        self, cond: Float[Tensor, "b t f"], genre: Int[Tensor, " b"], drop: Bool[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b t d"]:
        """What the dance layers attend to; it depends on neither time nor beta. Arguments as in `forward`."""
        tokens: Tensor = self.cond_projection(self._standardised(cond))
        for layer in self.musiclayerstack:
            tokens = layer(tokens, genre)
        if drop is not None:
            tokens = tokens * (~drop)[:, None, None]
        return tokens + self.null_cond_embed

    def _standardised(self, cond: Float[Tensor, "b t f"]) -> Float[Tensor, "b t f"]:
        """The music features as the network was trained on them; within five deviations where it standardises."""
        mean, std = self.config.music_mean, self.config.music_std
        if not self.config.standardise_music or mean is None or std is None:
            return cond
        return ((cond - cond.new_tensor(mean)) / cond.new_tensor(std)).clamp(-MUSIC_DEVIATIONS, MUSIC_DEVIATIONS)

    def embed(self, times: Int[Tensor, " b"], beta: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """The t-beta embedding: the sum of the embeddings of the step and of 1000 beta."""
        dtype = self.null_cond_embed.dtype
        return cast(Tensor, self.time_mlp(times.to(dtype)) + self.beta_mlp(beta.to(dtype) * BETA_SCALE))

    def denoise(
        self,
        x: Float[Tensor, "b t c"],
        memory: Float[Tensor, "b t d"],
        times: Int[Tensor, " b"],
        beta: Float[Tensor, " b"],
    ) -> Float[Tensor, "b t c"]:
        """The clean motion, given the memory that `encode_music` made. Other arguments as in `forward`."""
        embedding = self.embed(times, beta)
        tokens = self.input_projection(x)
        if self.config.aligned_music:
            tokens = tokens + memory
        for layer in self.dancelayerstack:
            tokens = layer(tokens, memory, embedding)
        return cast(Tensor, self.final_layer(tokens))


def _silence(layers: nn.ModuleList) -> None:
    """Let the blocks give nothing, so that a layer adds FiLM's shift alone: their last linear maps are zero."""
    for name, parameter in layers.named_parameters():
        if name.split(".")[-2] in ("out_proj", "linear2") and "attn" not in name:
            nn.init.zeros_(parameter)


def _embedding_mlp(width: int) -> nn.Sequential:
    return nn.Sequential(
        SinusoidalEmbedding(width), nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width)
    )


def parameter_count(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())
