"""The finished training that another one begins with (`start_from`).

Weights mean something only together with the normaliser of the motions, the statistics of the music and the order of
the genres that they were trained with. All of these are kept, whatever the new data's own are. A field of the network
that changes what the weights mean must be as it was; so must be the names of genres, unless the settings name others.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from macebench.errors import UserError
from macebench.media import file_sha256
from macebench.models.motion_expert.checkpoint import Checkpoint, load
from macebench.models.training._datasets import UNKNOWN, network_for
from macebench.protocol import canonical_json

if TYPE_CHECKING:
    from torch import nn

    from macebench.models.motion_expert.codec import Normalizer
    from macebench.models.motion_expert.config import MotionExpertConfig
    from macebench.models.training.config import TrainingConfig
    from macebench.models.training.data import TrainingSet

MEANING = ("n_heads", "standardise_music", "unknown_genre", "fps")
"""Fields that change no size of a weight, and what it means."""
MUSIC = ("music_mean", "music_std")
TOLD_SHARE = 1e-3
"""Share of the training values outside the kept normaliser's range that is worth a line."""
_LOOKED_AT = 20_000


def read_base(config: TrainingConfig) -> Checkpoint | None:
    """The training that the settings begin with. Raises `UserError` when it cannot be read."""
    return None if config.start_from is None else load(Path(config.start_from))


def network_of(config: TrainingConfig, data: TrainingSet, base: Checkpoint | None) -> MotionExpertConfig:
    """The network's settings: those of `network_for`, with statistics and genres of the base where there is one.

    Raises:
        UserError: the data has a genre that the base does not know, or a field of `MEANING` differs.
    """
    made = network_for(config, data)
    if base is None:
        return made
    kept: dict[str, Any] = {}
    if made.standardise_music and not any(name in config.network for name in MUSIC):
        kept |= {name: getattr(base.config, name) for name in MUSIC}
    if made.genres and base.config.genres and "genres" not in config.network:
        _check_genres(config, data, base.config)
        kept["genres"] = base.config.genres
    _check_meaning(config, made, base.config)
    return made.revised(**kept)


def _check_genres(config: TrainingConfig, data: TrainingSet, base: MotionExpertConfig) -> None:
    has = {name.lower() for name in (*base.genres, UNKNOWN)}
    new = [name for name in data.genres if name.lower() not in has]
    if new:
        raise UserError(
            f"the data has the genre {', '.join(new)}, which {config.start_from} does not know; it knows "
            f"{', '.join(base.genres)}.",
            hint=f"Name the dances' genre so, or give its {len(base.genres)} genres new names with `network.genres`.",
        )


def _check_meaning(config: TrainingConfig, made: MotionExpertConfig, base: MotionExpertConfig) -> None:
    for name in MEANING:
        was, now = getattr(base, name), getattr(made, name)
        if was != now:
            raise UserError(
                f"{config.start_from} was trained with {name} {was!r}, now it is {now!r}.",
                hint=f"Set `network.{name}={str(was).lower()}`.",
            )


def put_weights(network: nn.Module, base: Checkpoint, name: str | None) -> None:
    """Put the base's weights into a network of the same sizes. Raises `UserError` for other sizes."""
    weights = base.network.state_dict()
    own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    if own != {key: tuple(value.shape) for key, value in weights.items()}:
        raise UserError(f"{name} holds a network of other sizes.", hint="Set `network` as it was in that training.")
    network.load_state_dict(weights)


def data_of(data: TrainingSet, base: Checkpoint | None) -> TrainingSet:
    """The training set with the base's normaliser; the set itself where that is its own or there is no base."""
    if base is None or normalizer_hash(base.normalizer) == normalizer_hash(data.normalizer):
        return data
    return dataclasses.replace(data, normalizer=base.normalizer)


def notes_on(config: TrainingConfig, own: TrainingSet, used: TrainingSet, network: MotionExpertConfig) -> list[str]:
    """Lines for people on what was kept of the base, and on what does not fit into it.

    Args:
        config: The settings.
        own: The training set with its own normaliser.
        used: The one with the base's (`data_of`).
        network: As `network_of` gave it.
    """
    if config.start_from is None:
        return []
    fitted = network_for(config, own)
    kept = [] if used is own else ["the normaliser of the motions"]
    kept += ["the statistics of the music"] if any(getattr(fitted, k) != getattr(network, k) for k in MUSIC) else []
    kept += ["the genres"] if fitted.genres != network.genres else []
    lines = [f"kept of {config.start_from}: {', '.join(kept)}"] if kept else []
    share = 0.0 if used is own else _outside(used)
    if share > TOLD_SHARE:
        lines.append(
            f"warning: {100 * share:.2g} % of the training values are outside the range of the kept normaliser, and "
            "are cut to it"
        )
    return lines


def _outside(data: TrainingSet) -> float:
    """Share of the training values that the normaliser cuts, over `_LOOKED_AT` frames at most."""
    frames = np.concatenate([np.arange(len(data.motions))[data.rows(x)] for x in data.sequences if x.split == "train"])
    values = data.normalizer.normalize(data.motions[frames[:: -(-len(frames) // _LOOKED_AT)]], clip=False)
    return float(np.mean(np.abs(values) > 1 + 1e-6))


def normalizer_hash(normalizer: Normalizer) -> str:
    """Decides whether two normalisers are the same."""
    values = [normalizer.scale.tolist(), normalizer.minimum.tolist()]
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def began_with(config: TrainingConfig) -> dict[str, Any] | None:
    """Hash, steps and guidance of the weights that the training began with."""
    if config.start_from is None:
        return None
    card = load(Path(config.start_from)).card
    kept = {name: card.get(name) for name in ("steps", "guidance", "seed", "data_sha256", "config_hash")}
    return {"sha256": file_sha256(config.start_from), **kept}
