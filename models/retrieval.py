"""Dancing without learning: phrases of training dances strung together. Lower bounds for a board.

- ``random-phrases``: each phrase runs from one beat of its own music to another, `PHRASE_BEATS` beats on; which
  phrases, and thereby where their beats fall, has nothing to do with the music that is danced to.
- ``nearest-music``: every `STRIDE` frames the training music that sounds most like what comes next is looked up, and
  its dance is taken. The distance is Euclidean between windows of `WINDOW` frames of the 35 music features, each
  divided by its deviation in the training set; onsets and beats are smoothed by a frame or two before. One of the
  `NEAREST` nearest is taken at random, and none twice in a row.

Phrases are joined by `macebench.motion.edit.join`: cross-faded, with heading and place of the root carried on.
Feet may slide during a cross-fade. Motions have 30 frames a second and are as long as the music.

Without a training set of yours (``--training-set`` of ``macebench generate`` and ``macebench eval``), `N_PIECES`
procedural pieces (`macebench.dances.sources.DemoSource`; no clip of the demo data set is among them) are made at the
first use and kept in the store, see `macebench.store`.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from macebench import registry
from macebench.errors import MediaError, UserError
from macebench.types import Array, FloatArray, ModelCard, Motion

if TYPE_CHECKING:
    from macebench.models.training.data import TrainingSet

N_PIECES = 30
PIECE_S = 20.0
FPS = 30.0
PHRASE_BEATS = (4, 8)
"""Fewest and most beats of a random phrase."""
WINDOW, STRIDE, FADE = 75, 60, 12
"""Frames that are compared, frames from phrase to phrase, frames of a cross-fade."""
NEAREST = 3

_VERSION = 1
_APART = 15
_SMOOTHING = 1.5
_BEAT = 34
_EVENTS = (33, 34)
_SALT = 0x9E7
_MIN_DEVIATION = 1e-6


@dataclass(frozen=True)
class Library:
    """Training dances to cut phrases from.

    Attributes:
        motions: (N, 151) float32, motion vectors, not normalised.
        music: (N, 35) float32.
        spans: (S, 2) first row of each sequence and the row after its last.
    """

    motions: NDArray[np.float32]
    music: NDArray[np.float32]
    spans: NDArray[np.int64]

    def phrase(self, start: int, stop: int) -> Motion:
        """The dance of some rows."""
        from macebench.models.motion_expert.codec import decode

        return decode(np.asarray(self.motions[start:stop], dtype=np.float64))


def open_library(training_set: str | Path | None = None) -> Library:
    """The phrases of a training set's ``train`` sequences; None takes the procedural pieces of this module.

    Raises:
        UserError: there is no such training set, or it has no sequence of `train`.
    """
    from macebench.models.training.data import TrainingSet

    return _procedural() if training_set is None else _library(TrainingSet.open(training_set))


def _library(opened: TrainingSet) -> Library:
    spans = [(row.start, row.start + row.length) for row in opened.sequences if row.split == "train"]
    if not spans:
        raise UserError(f"{opened.folder} has no training sequence.", hint="Build a larger training set.")
    return Library(opened.motions, opened.music, np.array(spans, dtype=np.int64))


def _procedural() -> Library:
    """The procedural pieces, from the store or made now."""
    from macebench.models.training.data import VERSION, build_training_set
    from macebench.store import Artifact, Ingredients, Store

    settings = {"n_pieces": N_PIECES, "seconds": PIECE_S, "training_set": VERSION}
    ingredients = Ingredients("phrase-library", _VERSION, {}, settings)
    store = Store()
    found = store.get(ingredients)
    if found is None:
        with tempfile.TemporaryDirectory() as folder:
            source = registry.get("dances", "demo")(N_PIECES, PIECE_S)
            made = _library(build_training_set([source], folder))
            arrays = {"motions": made.motions, "music": made.music, "spans": made.spans}
            found = Artifact({name: np.array(array) for name, array in arrays.items()}, {})
        with contextlib.suppress(UserError):  # a store that cannot be written costs time, not the dance
            store.put(ingredients, found)
    return Library(found.arrays["motions"], found.arrays["music"], found.arrays["spans"])


def _rng(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, _SALT, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")])


def _strung(phrases: list[Motion], count: int) -> Motion:
    """Phrases joined, placed on the floor's middle and cut to `count` frames."""
    from macebench.motion.edit import join, part, placed

    return placed(part(join(phrases, fade_s=FADE / FPS), slice(0, count)))


class _Retrieval:
    """What both models share: the library, opened at the first dance.

    Args:
        training_set: Folder of a training set (`macebench.models.training.data`), or None for procedural pieces.
    """

    def __init__(self, training_set: str | Path | None = None) -> None:
        self._training_set = training_set
        self._opened: Library | None = None
        self._recipe: Mapping[str, Any] | None = None

    @property
    def library(self) -> Library:
        """The phrases. Raises `UserError` when the training set cannot be opened."""
        if self._opened is None:
            self._opened = open_library(self._training_set)
        return self._opened

    def recipe(self) -> Mapping[str, Any]:
        """JSON values on which a dance depends besides its music and seed: the content of the training set.

        Raises:
            UserError: there is no such training set.
        """
        if self._recipe is None:
            from macebench.models.training.data import VERSION, TrainingSet

            if self._training_set is None:
                self._recipe = {"training_set": {"n_pieces": N_PIECES, "seconds": PIECE_S, "version": VERSION}}
            else:
                self._recipe = {"training_set": TrainingSet.open(self._training_set).sha256}
        return self._recipe


class RandomPhrases(_Retrieval):
    """Phrases of training dances in random order, without regard to the music."""

    card = ModelCard(
        "random-phrases", "motion", "Training phrases strung together at random; the music decides the length only.",
        "macebench", "Apache-2.0",
    )  # fmt: skip

    def generate(self, music: Path, seed: int) -> Motion:
        """Dance as long as the sound file `music`; the same seed and length give the same dance.

        Raises:
            MediaError: the file cannot be read or is too short.
            UserError: the training set cannot be used.
        """
        return self.dance(_frames_of(Path(music)), seed)

    def dance(self, count: int, seed: int) -> Motion:
        """A dance of `count` frames.

        Raises:
            UserError: the training set has no phrase of `PHRASE_BEATS` beats.
        """
        library, rng = self.library, _rng(seed, self.card.name)
        beats = [_beats_within(library, start, stop) for start, stop in library.spans]
        usable = [rows for rows in beats if len(rows) > PHRASE_BEATS[1]]
        if not usable:
            raise UserError(
                f"no training music has more than {PHRASE_BEATS[1]} beats.", hint="Use a training set of longer pieces."
            )
        phrases: list[Motion] = []
        left = count + FADE
        while left > 0:
            rows = usable[int(rng.integers(len(usable)))]
            length = int(rng.integers(PHRASE_BEATS[0], PHRASE_BEATS[1] + 1))
            first = int(rng.integers(len(rows) - length))
            phrases.append(library.phrase(int(rows[first]), int(rows[first + length])))
            left -= max(len(phrases[-1]) - FADE, 1)
        return _strung(phrases, count)


def _beats_within(library: Library, start: int, stop: int) -> NDArray[np.int64]:
    """Rows of a sequence with a beat of its music."""
    return np.asarray(np.flatnonzero(library.music[start:stop, _BEAT] > 0.5) + start, dtype=np.int64)


def _frames_of(music: Path) -> int:
    """Frames of a dance to a sound file. Raises `MediaError` when it cannot be read or is too short."""
    from macebench.media import Decoder

    with Decoder() as decoder:
        try:
            seconds = sum(len(part.samples) / part.sample_rate for part in decoder.sound_parts(music))
        except MediaError as error:
            raise MediaError(error.reason, f"{music.name} {error.detail}".strip()) from error
    count = round(seconds * FPS)
    if count < 1:
        raise MediaError("too short", f"{music.name} lasts {seconds:.3f} s, less than one frame")
    return count


class NearestMusic(_Retrieval):
    """At every step the dance of the training music that sounds most like what comes next."""

    card = ModelCard(
        "nearest-music", "motion", "The dance of the most similar training music, looked up every two seconds.",
        "macebench", "Apache-2.0",
    )  # fmt: skip

    def generate(self, music: Path, seed: int) -> Motion:
        """Dance to the sound file `music`; the same seed gives the same dance.

        Raises:
            MediaError: the file cannot be read, is too short or too long.
            UserError: the training set cannot be used.
        """
        from macebench.models.motion_expert.music import music_features

        return self.dance(music_features(Path(music)), seed)

    def dance(self, features: FloatArray, seed: int) -> Motion:
        """A dance to music features (T, 35).

        Raises:
            UserError: no sequence of the training set is long enough for a phrase.
        """
        library, rng = self.library, _rng(seed, self.card.name)
        scale = 1.0 / np.maximum(_smoothed(library.music).std(axis=0), _MIN_DEVIATION)
        known = np.concatenate([_smoothed(library.music[start:stop]) for start, stop in library.spans]) * scale
        asked = _smoothed(features) * scale
        index = _Index(known, library.spans)
        phrases: list[Motion] = []
        before = -1
        for start in range(0, len(features), STRIDE):
            before = index.pick(asked[start : start + WINDOW], before, rng)
            phrases.append(library.phrase(before, before + STRIDE + FADE))
        return _strung(phrases, len(features))


def _smoothed(music: Array) -> FloatArray:
    """Features with the columns of onsets and beats blurred, so that a near miss is better than none."""
    from scipy.ndimage import gaussian_filter1d

    values = np.array(music, dtype=np.float64)
    columns = list(_EVENTS)
    values[:, columns] = gaussian_filter1d(values[:, columns], _SMOOTHING, axis=0, mode="constant")
    return values


class _Index:
    """Looks up windows of known features.

    Args:
        known: (M, 35) scaled features of all sequences, one after the other.
        spans: (S, 2) rows of each sequence in the library.
    """

    def __init__(self, known: FloatArray, spans: NDArray[np.int64]) -> None:
        lengths = spans[:, 1] - spans[:, 0]
        ends = np.cumsum(lengths)
        rows = np.arange(len(known))
        self._known = known
        self._row = np.concatenate([np.arange(start, stop) for start, stop in spans])
        # a phrase with its cross-fade, and the window that is compared, must lie within one sequence
        room = np.repeat(ends, lengths) - rows
        self._allowed = room >= max(WINDOW, STRIDE + FADE)
        self._squares = np.sum(known**2, axis=1)
        if not self._allowed.any():
            raise UserError(
                f"no training sequence has {max(WINDOW, STRIDE + FADE)} frames.", hint="Use longer training pieces."
            )

    def pick(self, asked: FloatArray, before: int, rng: np.random.Generator) -> int:
        """First row of one of the nearest windows; not the one that was taken `before`, nor its neighbours."""
        distance = self._distances(asked)
        distance[~self._allowed | (np.abs(self._row - before) < _APART)] = np.inf
        found: list[int] = []
        for _ in range(NEAREST):
            best = int(np.argmin(distance))
            if not np.isfinite(distance[best]):
                break
            found.append(int(self._row[best]))
            distance[max(best - _APART, 0) : best + _APART + 1] = np.inf
        return found[int(rng.integers(len(found)))] if found else int(self._row[np.argmax(self._allowed)])

    def _distances(self, asked: FloatArray) -> FloatArray:
        """(M,) squared distance of `asked` (w, 35) to the window that starts at each row; inf where there is none."""
        products = self._known @ asked.T
        count = len(self._known) - len(asked) + 1
        distance = np.full(len(self._known), np.inf)
        if count < 1:
            return distance
        sums = np.full(count, float(np.sum(asked**2)))
        for k in range(len(asked)):
            sums += self._squares[k : k + count] - 2.0 * products[k : k + count, k]
        distance[:count] = sums
        return distance
