"""Training sets: dances with the features of their music, laid out for training.

A training set is a folder:

| file | content |
|---|---|
| ``motions.npy`` | (N, 151) float32, motion vectors, not normalised (`macebench.models.motion_expert.codec.encode`) |
| ``music.npy`` | (N, 35) float32, music features of the same frames (``edge`` layout), 30 frames a second |
| ``sequences.json`` | which rows belong to which sequence, and the set's normaliser |

``sequences.json`` has ``version``, ``recipe`` (hash of everything that decides the content), ``genres`` in the order of
their numbers, ``sequences`` (id, start, length, genre, split, source, licence, pairing, seed, group), ``stats`` (scale
and minimum of the normaliser, fitted on the sequences of ``train``), ``left_out`` (id -> reason) and ``sha256`` of both
arrays. It is written last: a folder without it is an unfinished build.

**Splits.** A source may say what a sequence belongs to. Else the hash of the sequence's *group* decides, one in ten is
``val``: what shares music (or, for procedural pairings, a recording) has one group, so that nothing of ``val`` was seen
in training. Of two groups or more, one at least is ``val`` (`macebench.models.training._splits`).

**Building.** `build_training_set` makes one part file a sequence below ``.parts``; a build that was interrupted goes on
where it stopped. The bytes depend on the items alone, not on workers, order of completion or interruptions.

**Windows.** `Windows.batch(step)` depends on (seed, step) alone: resuming at step k needs no replay. All windows of all
sequences that are as long as the horizon are equally likely; shorter sequences are left out and counted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from macebench.errors import MediaError, UserError
from macebench.models.training._splits import group_of, splits_of
from macebench.protocol import canonical_json
from macebench.registry import load_plugins, plugin_files
from macebench.store import atomic_write, ensure_writable, write_npz, write_text
from macebench.types import Array, FloatArray, Motion

if TYPE_CHECKING:
    from macebench.models.motion_expert.codec import Normalizer

VERSION = 1
FPS = 30.0
N_MOTION, N_MUSIC = 151, 35
SPLITS = ("train", "val")

_SALT = 0x7121
_HINT = "Build it with macebench.models.training.data.build_training_set."


@dataclass(frozen=True)
class ItemInfo:
    """What is known of one dance before it is read.

    Attributes:
        id: Unique in the set.
        genre: Name of the genre, or ``unknown``.
        source: Name of where it comes from.
        licence: Licence of motion and music, or ``unknown``.
        pairing: ``original`` when music and dance were recorded together, else ``synthetic``.
        seed: Seed that made it, or None.
        group: Sequences of one group are in one split; empty means the id.
        split: ``train`` or ``val`` where the source decides, else empty.
    """

    id: str
    genre: str
    source: str
    licence: str
    pairing: str
    seed: int | None = None
    group: str = ""
    split: str = ""


class Item(Protocol):
    """One dance with its music; a small value that can be sent to another process."""

    @property
    def info(self) -> ItemInfo:
        """What is known of it."""
        ...

    def recipe(self) -> Mapping[str, Any]:
        """JSON values that decide the content, hashes of files included."""
        ...

    def load(self) -> tuple[Motion, FloatArray]:
        """The dance, and the (T, 35) features of its music from the same moment on.

        Raises:
            MediaError: a file cannot be used; the sequence is left out.
        """
        ...


class Source(Protocol):
    """Where dances come from; see `macebench.dances.sources`."""

    def items(self) -> Iterable[Item]:
        """Its dances, always in the same order."""
        ...


@dataclass(frozen=True)
class Sequence_:  # noqa: N801 - `Sequence` is the abstract type
    """One sequence of a training set: rows ``start`` to ``start + length`` of both arrays.

    Attributes:
        id, genre, source, licence, pairing, seed, group: As in `ItemInfo`.
        split: ``train`` or ``val``.
        start: First row.
        length: Number of rows.
    """

    id: str
    start: int
    length: int
    genre: str
    split: str
    source: str
    licence: str
    pairing: str
    seed: int | None
    group: str


@dataclass(frozen=True)
class TrainingSet:
    """An opened training set. The arrays are read from the disk as they are used.

    Attributes:
        folder: Where it is.
        motions: (N, 151) float32, not normalised.
        music: (N, 35) float32.
        sequences: Its sequences, in the order of their rows.
        normalizer: Fitted on the sequences of ``train``.
        genres: Names in the order of their numbers.
        left_out: Id -> why a dance is not in the set.
        sha256: Hash of ``sequences.json``, which holds the hashes of the arrays.
    """

    folder: Path
    motions: NDArray[np.float32]
    music: NDArray[np.float32]
    sequences: tuple[Sequence_, ...]
    normalizer: Normalizer
    genres: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""

    @classmethod
    def open(cls, folder: str | Path) -> TrainingSet:
        """Open a finished training set.

        Raises:
            UserError: it is not there, not finished, damaged, or of another version.
        """
        return _open(Path(folder))

    @property
    def hash(self) -> str:
        """The same as `sha256`."""
        return self.sha256

    def genre_index(self, sequence: Sequence_) -> int:
        """Number of a sequence's genre."""
        return self.genres.index(sequence.genre)

    def rows(self, sequence: Sequence_) -> slice:
        """The rows of a sequence."""
        return slice(sequence.start, sequence.start + sequence.length)


@dataclass(frozen=True)
class Batch:
    """Windows of a training set.

    Attributes:
        motion: (b, t, 151) float32 in [-1, 1].
        music: (b, t, 35) float32.
        genre: (b,) int64, numbers of `TrainingSet.genres`.
    """

    motion: NDArray[np.float32]
    music: NDArray[np.float32]
    genre: NDArray[np.int64]


class Windows:
    """Windows of one length from the sequences of one split.

    Args:
        training_set: The set.
        horizon: Frames of a window.
        batch: Windows of a batch.
        seed: Chooses the windows, together with the step.
        split: ``train`` or ``val``.

    Attributes:
        n_windows: Windows there are in all.
        n_sequences: Sequences they come from.
        left_out: Sequences of the split that are shorter than the horizon.

    Raises:
        UserError: no sequence of the split is long enough.
        ValueError: horizon or batch under 1, or a negative seed.
    """

    def __init__(self, training_set: TrainingSet, horizon: int, batch: int, seed: int, split: str = "train") -> None:
        if horizon < 1 or batch < 1 or seed < 0:
            raise ValueError(f"horizon {horizon} and batch {batch} must be 1 or more, seed {seed} 0 or more")
        mine = [item for item in training_set.sequences if item.split == split]
        used = [item for item in mine if item.length >= horizon]
        if not used:
            longest = max((item.length for item in mine), default=0)
            raise UserError(
                f"{training_set.folder} has no sequence of {horizon} frames in {split}; the longest has {longest}.",
                hint="Use a shorter horizon, or longer music.",
            )
        self.training_set, self.horizon, self.size, self.seed = training_set, horizon, batch, seed
        self.n_sequences, self.left_out = len(used), len(mine) - len(used)
        self._first = np.array([item.start for item in used])
        self._genre = np.array([training_set.genre_index(item) for item in used], dtype=np.int64)
        self._ends = np.cumsum([item.length - horizon + 1 for item in used])
        self.n_windows = int(self._ends[-1])

    def starts(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First rows (b,) and genres (b,) of the windows of a step."""
        picks = np.random.default_rng([self.seed, step, _SALT]).integers(0, self.n_windows, self.size)
        which = np.searchsorted(self._ends, picks, side="right")
        before = np.where(which > 0, self._ends[which - 1], 0)
        return np.asarray(self._first[which] + picks - before), self._genre[which]

    def batch(self, step: int) -> Batch:
        """The batch of a step, 0 or above; the same for the same seed and step."""
        starts, genre = self.starts(step)
        rows = starts[:, None] + np.arange(self.horizon)
        motion = self.training_set.normalizer.normalize(self.training_set.motions[rows])
        return Batch(
            np.ascontiguousarray(motion, dtype=np.float32),
            np.ascontiguousarray(self.training_set.music[rows], dtype=np.float32),
            genre,
        )


# ---- building -------------------------------------------------------------------------------------------------------


def build_training_set(
    sources: Sequence[Source],
    out: str | Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingSet:
    """Build a training set, or finish a build that was interrupted; a finished one is opened as it is.

    Args:
        sources: Where the dances come from.
        out: Folder of the set; made when missing.
        workers: Processes; the result does not depend on it.
        progress: Called with (dances done, dances in all).

    Raises:
        UserError: two dances have one id, there is none that can be used, or `out` holds something else.
    """
    folder = Path(out)
    items = [item for source in sources for item in source.items()]
    _check_items(items)
    recipe = _hash({"version": VERSION, "items": [_recipe(item) for item in items]})
    _check_folder(folder, recipe)
    if _is_finished(folder, recipe):
        return TrainingSet.open(folder)
    report = progress or (lambda _done, _total: None)
    parts = {item.info.id: folder / ".parts" / f"{_hash(_recipe(item))}.npz" for item in items}
    todo = [item for item in items if _outcome(parts[item.info.id]) is None]
    report(len(items) - len(todo), len(items))
    for done, _ in enumerate(_made(todo, parts, max(1, int(workers))), start=len(items) - len(todo) + 1):
        report(done, len(items))
    _assemble(folder, items, parts, recipe)
    shutil.rmtree(folder / ".parts")
    return TrainingSet.open(folder)


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _recipe(item: Item) -> dict[str, Any]:
    return {"info": asdict(item.info), "content": dict(item.recipe())}


def _check_items(items: Sequence[Item]) -> None:
    if not items:
        raise UserError("there is no dance to make a training set of.", hint="Look at the folders that were given.")
    seen: set[str] = set()
    for item in items:
        if item.info.id in seen:
            raise UserError(f"two dances are called {item.info.id}.", hint="Give each source a name of its own.")
        if item.info.split not in ("", *SPLITS):
            raise UserError(f"{item.info.id} has the split {item.info.split!r}.", hint="Allowed are train and val.")
        seen.add(item.info.id)


def _check_folder(folder: Path, recipe: str) -> None:
    """Refuse a folder with anything else in it, and put the recipe down."""
    ensure_writable(folder)
    stamp, table = folder / ".parts" / "recipe", folder / "sequences.json"
    if table.is_file():
        if not _is_finished(folder, recipe):
            raise UserError(f"{folder} holds another training set.", hint="Choose another folder, or remove this one.")
        return
    if stamp.is_file():
        if stamp.read_text("utf-8").strip() != recipe:
            raise UserError(
                f"{folder} holds the unfinished build of another training set.",
                hint="Choose another folder, or remove this one.",
            )
        return
    if any(not child.name.startswith(".") for child in folder.iterdir()):
        raise UserError(f"{folder} is not empty and no training set.", hint="Choose another folder.")
    write_text(stamp, recipe + "\n")


def _is_finished(folder: Path, recipe: str) -> bool:
    try:
        table = json.loads((folder / "sequences.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(table, dict) and table.get("recipe") == recipe


def _outcome(part: Path) -> str | None:
    """``made`` or ``left out`` when a part is there, else None."""
    if part.with_suffix(".reason").is_file():
        return "left out"
    return "made" if part.is_file() else None


def _made(items: Sequence[Item], parts: Mapping[str, Path], workers: int) -> Iterator[None]:
    """Make the parts, in this process or in others."""
    if workers == 1 or len(items) < 2:
        for item in items:
            make_part(item, parts[item.info.id])
            yield
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    settings = (min(workers, len(items)), get_context("spawn"), load_plugins, (plugin_files(),))
    with _one_thread_each(), ProcessPoolExecutor(*settings) as pool:
        jobs = [pool.submit(make_part, item, parts[item.info.id]) for item in items]
        try:
            for job in as_completed(jobs):
                job.result()
                yield
        finally:
            for job in jobs:
                job.cancel()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let the libraries of new processes use one thread: there is a process for every core already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def make_part(item: Item, part: Path) -> None:
    """Make the part file of one dance, or a ``.reason`` file beside it when the dance cannot be used."""
    from macebench.models.motion_expert.codec import encode

    try:
        motion, music = item.load()
        rows = encode(motion)
    except (MediaError, UserError) as error:
        write_text(part.with_suffix(".reason"), str(error).splitlines()[0])
        return
    count = min(len(rows), len(music))
    write_npz(part, {"motion": rows[:count].astype(np.float32), "music": music[:count].astype(np.float32)})


def _assemble(folder: Path, items: Sequence[Item], parts: Mapping[str, Path], recipe: str) -> None:
    from macebench.models.motion_expert.codec import Normalizer

    left_out = {
        item.info.id: parts[item.info.id].with_suffix(".reason").read_text("utf-8")
        for item in items
        if _outcome(parts[item.info.id]) == "left out"
    }
    used = [item for item in items if item.info.id not in left_out]
    if not used:
        name, reason = next(iter(left_out.items()))
        raise UserError(f"no dance can be used; {name}: {reason}.", hint="Look at the folders that were given.")
    loaded = [_load_part(parts[item.info.id]) for item in used]
    motions = np.concatenate([motion for motion, _ in loaded])
    music = np.concatenate([features for _, features in loaded])
    rows = _sequences(used, [len(motion) for motion, _ in loaded])
    fitted = [motions[row.start : row.start + row.length] for row in rows if row.split == "train"]
    normalizer = Normalizer.fit(np.concatenate(fitted) if fitted else motions)
    hashes = {
        name: _write_npy(folder / f"{name}.npy", array) for name, array in (("motions", motions), ("music", music))
    }
    stats = {name: np.asarray(getattr(normalizer, name), dtype=np.float64).tolist() for name in ("scale", "minimum")}
    table = {
        "version": VERSION, "recipe": recipe, "fps": FPS, "genres": sorted({row.genre for row in rows}),
        "sequences": [asdict(row) for row in rows], "stats": stats, "left_out": left_out, "sha256": hashes,
    }  # fmt: skip
    write_text(folder / "sequences.json", json.dumps(table, indent=1, sort_keys=True) + "\n")


def _load_part(part: Path) -> tuple[Array, Array]:
    with np.load(part, allow_pickle=False) as data:
        return data["motion"], data["music"]


def _sequences(items: Sequence[Item], lengths: Sequence[int]) -> list[Sequence_]:
    rows, start = [], 0
    splits = splits_of([item.info for item in items])
    for item, length, split in zip(items, lengths, splits, strict=True):
        info = item.info
        known = (info.source, info.licence, info.pairing, info.seed, group_of(info))
        rows.append(Sequence_(info.id, start, length, info.genre, split, *known))
        start += length
    return rows


def _write_npy(path: Path, array: Array) -> str:
    """Write an array and return the SHA-256 of the file."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- opening --------------------------------------------------------------------------------------------------------


def _open(folder: Path) -> TrainingSet:
    from macebench.models.motion_expert.codec import Normalizer

    try:
        text = (folder / "sequences.json").read_bytes()
    except OSError as error:
        raise UserError(f"{folder} is no finished training set: it has no sequences.json.", hint=_HINT) from error
    try:
        table = json.loads(text)
        if table["version"] != VERSION:
            raise UserError(f"{folder} is a training set of version {table['version']}, not {VERSION}.", hint=_HINT)
        sequences = tuple(Sequence_(**row) for row in table["sequences"])
        stats = {name: np.array(table["stats"][name], dtype=np.float64) for name in ("scale", "minimum")}
        motions, music = (_map(folder / f"{name}.npy", width) for name, width in (("motions", 151), ("music", 35)))
        total = sum(row.length for row in sequences)
        if not len(motions) == len(music) == total:
            raise ValueError(f"{len(motions)} and {len(music)} rows, the sequences have {total}")
        return TrainingSet(
            folder, motions, music, sequences, Normalizer(**stats), tuple(table["genres"]), table["left_out"],
            hashlib.sha256(text).hexdigest(),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is a damaged training set: {error}.", hint="Remove it and build it again."
        ) from error


def _map(path: Path, width: int) -> NDArray[np.float32]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2 or array.shape[1] != width or array.dtype != np.float32:
        raise ValueError(f"{path.name} has shape {array.shape} of {array.dtype}")
    return np.asanyarray(array)
