"""The data that a training names, as one training set on disk.

| name | what it is |
|---|---|
| ``demo``, ``demo:N``, ``demo:N:SECONDS`` | procedural dances to procedural music |
| ``aist:DIR`` | AIST++ |
| ``finedance:DIR`` | FineDance |
| ``folder:MOTIONS:MUSIC`` | motions and the music of the same file names |
| ``cmu:DIR``, ``cmu:DIR:N``, ``cmu:DIR:N:SECONDS`` | CMU's BVH files, made to meet procedural music |
| ``NAME``, ``NAME:TEXT`` | a source that is registered under ``dances``, made with the text as its only argument |
| ``DIR`` | a training set that is built (`macebench.models.training.data.build_training_set`) |

One name of a built set is opened as it is. Anything else is built below the run folder, in a folder named after what is
asked for, and found there again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from macebench import registry
from macebench.errors import UserError
from macebench.models.motion_expert.codec import FPS, decode
from macebench.models.training.data import Item, ItemInfo, Source, TrainingSet, build_training_set
from macebench.protocol import canonical_json
from macebench.types import FloatArray, Motion

if TYPE_CHECKING:
    from macebench.models.motion_expert.config import MotionExpertConfig
    from macebench.models.training.config import TrainingConfig

TABLE = "sequences.json"
UNKNOWN = "unknown"
MIN_DEVIATION = 1e-3
"""A music feature that varies less is not blown up."""
MAX_SPEED_FRAMES = 20_000
"""Training frames that `joint_speed_p99` looks at."""
_REASONS = 4
_HINT = (
    "Allowed are demo, demo:N, aist:DIR, finedance:DIR, folder:MOTIONS:MUSIC, cmu:DIR, folders of built sets, and "
    "NAME:TEXT for other names that `macebench ls dances` lists."
)
Progress = Callable[[str, int, int], None]


def open_data(
    names: Sequence[str],
    folder: Path,
    *,
    limit: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> TrainingSet:
    """The training set that the names stand for; built when it is not there yet.

    Args:
        names: See the module.
        folder: Folder of the sets that are built.
        limit: The first so many sequences of each name only.
        workers: Processes that build it.
        progress: Told the phase ``data``, what is done and the whole.

    Raises:
        UserError: a name is none of the above, or a set cannot be built or read.
    """
    if len(names) == 1 and limit is None and (Path(names[0]) / TABLE).is_file():
        return TrainingSet.open(names[0])
    asked = [_fixed(name) for name in names]
    key = hashlib.sha256(canonical_json({"names": asked, "limit": limit}).encode()).hexdigest()[:8]
    sources = [Limited(source_of(name), limit) for name in asked]
    tell = None if progress is None else (lambda done, total: progress("data", done, total))
    return build_training_set(sources, folder / key, workers=workers, progress=tell)


def source_of(name: str) -> Source:
    """The source that one name stands for; errors as in `open_data`."""
    kind, _, rest = name.partition(":")
    found: Source
    if kind == "demo":
        found = registry.get("dances", "demo")(**_amount(name, rest))
        return found
    if kind == "cmu":
        place, _, amount = rest.partition(":")
        found = registry.get("dances", "cmu")(_folder(place, name), **_amount(name, amount))
        return found
    if kind in _FOLDERS:
        found = registry.get("dances", kind)(_folder(rest, name))
        return found
    if kind == "folder":
        motions, _, music = rest.partition(":")
        found = registry.get("dances", "folder")(_folder(motions, name), _folder(music, name))
        return found
    if (Path(name) / TABLE).is_file():
        return BuiltSource(name)
    if kind in registry.names("dances"):
        return _registered(kind, rest, name)
    raise UserError(f"data {name!r} is no data set and no folder of a built one.", hint=_HINT)


def _registered(kind: str, text: str, name: str) -> Source:
    """A source of somebody else: made with the text, or with nothing where there is none."""
    make = registry.get("dances", kind)
    given = (text,) if text else ()
    try:
        inspect.signature(make).bind(*given)
    except TypeError as error:
        wanted = f"{kind} alone" if text else f"{kind}:TEXT"
        raise UserError(f"data {name!r}: {kind} cannot be made so: {error}.", hint=f"Try {wanted}.") from error
    found: Source = make(*given)
    return found


_FOLDERS = ("aist", "finedance")
"""Sources that are one folder."""


def _amount(name: str, text: str) -> dict[str, Any]:
    """Number and length of made pieces from ``N`` or ``N:SECONDS``; what is not given is the source's own."""
    parts = text.split(":") if text else []
    try:
        found: dict[str, Any] = {"n_pieces": int(parts[0])} if parts else {}
        found |= {"seconds": float(parts[1])} if parts[1:] else {}
    except ValueError as error:
        raise UserError(f"data {name!r} does not end in :N or :N:SECONDS.", hint=_HINT) from error
    if len(parts) > 2 or found.get("n_pieces", 1) < 1 or not 1 <= found.get("seconds", 1) <= 600:
        raise UserError(f"data {name!r}: N is 1 or more, SECONDS from 1 to 600.", hint=_HINT)
    return found


def _folder(text: str, name: str) -> Path:
    path = Path(text).expanduser()
    if not text or not path.is_dir():
        raise UserError(f"data {name!r}: the folder {text!r} does not exist.", hint=_HINT)
    return path


def _fixed(name: str) -> str:
    """The name with its folders in full, so that it means the same from anywhere."""
    kind, colon, rest = name.partition(":")
    if kind == "demo":
        return name
    if kind == "cmu":
        place, _, amount = rest.partition(":")
        return ":".join([kind, _resolved(place), *([amount] if amount else [])])
    if colon and (kind == "folder" or kind in _FOLDERS):
        return ":".join([kind, *map(_resolved, rest.split(":"))])
    return _resolved(name) if (Path(name) / TABLE).is_file() else name


def _resolved(text: str) -> str:
    """The folder in full; no text stays no text."""
    return str(Path(text).expanduser().resolve()) if text else ""


@dataclass(frozen=True)
class Limited:
    """The first sequences of a source, at least two where there are two, so that training and validation can differ."""

    source: Source
    limit: int | None

    def items(self) -> Iterable[Item]:
        """The first `limit` items, or all."""
        return itertools.islice(self.source.items(), self.limit)


@dataclass(frozen=True)
class BuiltSource:
    """The sequences of a built training set, to be put together with others."""

    folder: str

    def items(self) -> list[Item]:
        """One for each sequence."""
        made = TrainingSet.open(self.folder)
        return [_BuiltItem(self.folder, made.sha256, number, _info(item)) for number, item in enumerate(made.sequences)]


@dataclass(frozen=True)
class _BuiltItem:
    folder: str
    sha256: str
    number: int
    info: ItemInfo

    def recipe(self) -> Mapping[str, Any]:
        return {"kind": "built", "version": 1, "set": self.sha256, "id": self.info.id}

    def load(self) -> tuple[Motion, FloatArray]:
        made = TrainingSet.open(self.folder)
        rows = made.rows(made.sequences[self.number])
        music = np.asarray(made.music[rows], dtype=np.float64)
        return decode(np.asarray(made.motions[rows], dtype=np.float64)), music


def _info(sequence: Any) -> ItemInfo:
    """What was known of a sequence of a training set."""
    return ItemInfo(**{item.name: getattr(sequence, item.name) for item in dataclasses.fields(ItemInfo)})


def fingerprint(data: TrainingSet) -> str:
    """SHA-256 that decides the content of a training set."""
    return data.sha256


def licences(data: TrainingSet) -> dict[str, int]:
    """Licence -> number of training sequences."""
    found: dict[str, int] = {}
    for item in data.sequences:
        found[item.licence] = found.get(item.licence, 0) + 1
    return dict(sorted(found.items()))


def notes_on_data(data: TrainingSet, frames: int) -> list[str]:
    """Lines for people: how many dances are used, held out and left out, and why; a warning where none is held out.

    Args:
        data: The training set.
        frames: Frames of a window; shorter dances are not used.
    """
    long = [item for item in data.sequences if item.length >= frames]
    held = sum(item.split == "val" for item in long)
    reasons = Counter(reason.partition(": ")[0].rstrip(".") for reason in data.left_out.values())
    reasons[f"shorter than {frames} frames"] += len(data.sequences) - len(long)
    why = [f"{count} {reason}" for reason, count in reasons.most_common() if count]
    lines = [
        f"dances: {len(long) - held} used, {held} held out, {sum(reasons.values())} left out"
        + (f" ({'; '.join(why[:_REASONS])}{'; ...' if why[_REASONS:] else ''})" if why else "")
    ]
    if data.left_out:
        lines.append(f"left out, with reasons: {data.folder / TABLE}")
    if not held:
        lines.append("warning: no dance is held out, so nothing is validated; add dances to other music")
    return lines


def joint_speed_p99(data: TrainingSet) -> float:
    """99th percentile over frames of the speed of the fastest joint in the training data, in m/s.

    Over `MAX_SPEED_FRAMES` frames at most: pairs of neighbours in sequences of ``train``, drawn with a fixed seed.
    Evenly spaced ones would fall into step with dances that repeat themselves.
    """
    rows = [data.rows(item) for item in data.sequences if item.split == "train"]
    firsts = np.concatenate([np.arange(row.start, row.stop - 1) for row in rows])
    drawn = np.random.default_rng(0).choice(firsts, min(len(firsts), MAX_SPEED_FRAMES // 2), replace=False)
    pairs = np.sort(drawn)[:, None] + np.arange(2)
    joints = decode(np.asarray(data.motions[pairs.ravel()], dtype=np.float64)).joints.reshape(len(pairs), 2, -1, 3)
    speeds = np.linalg.norm(joints[:, 1] - joints[:, 0], axis=-1).max(axis=1) * FPS
    return round(float(np.percentile(speeds, 99)), 4)


def network_for(config: TrainingConfig, data: TrainingSet) -> MotionExpertConfig:
    """The network's settings with genres that fit the data.

    The preset's genres are kept where they hold all genres of the data, or where the settings name them, or where the
    network takes none; else the data's take their place. ``unknown`` is no genre.
    """
    made = _with_statistics(config.network_config(), data)
    wanted = tuple(name for name in data.genres if name.lower() != UNKNOWN)
    has = {name.lower() for name in made.genres}
    if not made.genres or "genres" in config.network or all(name.lower() in has for name in wanted):
        return made
    return made.with_genres(wanted)


def _with_statistics(network: MotionExpertConfig, data: TrainingSet) -> MotionExpertConfig:
    """The settings with mean and deviation of the training music, where they ask for it and name none."""
    if not network.standardise_music or network.music_mean is not None:
        return network
    used = [data.music[data.rows(row)] for row in data.sequences if row.split == "train"]
    rows = np.concatenate(used).astype(np.float64)
    deviation = np.maximum(rows.std(axis=0), MIN_DEVIATION)
    return network.revised(
        music_mean=tuple(rows.mean(axis=0).round(6).tolist()), music_std=tuple(deviation.round(6).tolist())
    )


def genre_numbers(data: TrainingSet, network: MotionExpertConfig) -> NDArray[np.int64]:
    """(G,) the network's number of each genre of the data.

    Raises:
        UserError: the settings name genres, and one of the data is not among them.
    """
    if not network.genres:
        return np.full(len(data.genres), -1, dtype=np.int64)
    found = [network.genre_index(None if name.lower() == UNKNOWN else name) for name in data.genres]
    return np.array(found, dtype=np.int64)


def placeless(name: str) -> str:
    """The name of data without the folders of the machine: of each path its last part."""
    return ":".join(part if os.sep not in part else Path(part).name for part in name.split(":"))
