"""Where training dances come from.

| source | motion | music | pairing |
|---|---|---|---|
| `DemoSource` | procedural choreographer | procedural synthesiser | synthetic |
| `CmuSource` | recorded dances (BVH), joined and warped to the beats | procedural synthesiser | synthetic |
| `AistSource` | AIST++ | AIST++ | original |
| `FineDanceSource` | FineDance | FineDance | original |
| `FolderSource` | any motion files | sound files of the same name | as the caller says |

Dances of one piece of music are in one split. The official test songs of AIST++ and FineDance are left out. Genres keep
the spelling of their source; what a set holds is in `macebench.models.training.data.TrainingSet.genres`.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from macebench.errors import MediaError, UserError
from macebench.models.training.data import FPS, ItemInfo
from macebench.types import FloatArray, Motion

DEMO_LICENCE = "CC0-1.0"
CMU_LICENCE = "CMU: free for all uses"
UNKNOWN = "unknown"
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".mp4")
AIST_GENRES = {
    "gBR": "Break", "gPO": "Pop", "gLO": "Lock", "gMH": "Middle Hip-hop", "gLH": "LA-style Hip-hop", "gHO": "House",
    "gWA": "Waack", "gKR": "Krump", "gJS": "Street Jazz", "gJB": "Ballet Jazz",
}  # fmt: skip
AIST_TEST_MUSIC = frozenset({"mLH4", "mKR2", "mBR0", "mLO2", "mJB5", "mWA0", "mJS3", "mMH3", "mHO5", "mPO1"})
"""The music of AIST++'s cross-modal test split (``crossmodal_test.txt``)."""

_ABOVE_DEMO = 1 << 32
_AIST_MUSIC = re.compile(r"m[A-Z]{2}\d")
_MAX_BROKEN = 0.01
_CMU_FPS = 60.0
_CMU_SPARE = 1.3
_TRIES = 6
_MAX_SPEED_M_S = 15.0


def training_seed(name: str) -> int:
    """A seed that no clip of the demo data set has: those are below 2^32."""
    return _ABOVE_DEMO + int.from_bytes(hashlib.sha256(f"training/{name}".encode()).digest()[:4], "big")


def _features(source: str | Path | tuple[Any, int], start_bpm: float | None = None) -> FloatArray:
    from macebench.models.motion_expert.music import music_features

    return music_features(source, start_bpm=start_bpm)


def _check_count(n_pieces: int, seconds: float) -> None:
    if n_pieces < 0 or not seconds >= 1.0:
        raise UserError(f"{n_pieces} pieces of {seconds} s cannot be made.", hint="Pieces last 1 s or more.")


# ---- procedural -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DemoItem:
    """One procedural dance; see `DemoSource`."""

    info: ItemInfo
    seconds: float
    seed: int

    def recipe(self) -> Mapping[str, Any]:
        """What decides the content."""
        return {"kind": "demo", "version": 1, "seconds": self.seconds}

    def load(self) -> tuple[Motion, FloatArray]:
        """The dance and the features of its music."""
        from macebench.demo.choreography import choreograph
        from macebench.demo.music import compose

        piece = compose(self.info.genre, self.seconds, self.seed)
        grid = piece.beats_s[0] + 60.0 / piece.tempo_bpm * np.arange(len(piece.beats_s) + 1)
        dance = choreograph(grid, self.seconds, FPS, self.seed, self.info.genre)
        return dance.motion, _features((piece.samples, piece.sample_rate))


@dataclass(frozen=True)
class DemoSource:
    """Procedural dances to procedural music, made as the demo data set's are, from seeds that it never uses.

    Attributes:
        n_pieces: Number of dances; genres take turns. What a dance is does not depend on their number.
        seconds: Length of each.
        seed: Another number gives other dances.
    """

    n_pieces: int = 500
    seconds: float = 20.0
    seed: int = 0

    def items(self) -> list[DemoItem]:
        """Its dances. Raises `UserError` when they cannot be made."""
        from macebench.demo.music import GENRES

        _check_count(self.n_pieces, self.seconds)
        genres = sorted(GENRES)
        found = []
        for number in range(self.n_pieces):
            name = f"demo-{self.seed}-{number:05d}"
            seed = training_seed(name)
            info = ItemInfo(name, genres[number % len(genres)], "demo", DEMO_LICENCE, "synthetic", seed)
            found.append(DemoItem(info, self.seconds, seed))
        return found


# ---- recorded dances, warped to procedural music --------------------------------------------------------------------


@dataclass(frozen=True)
class CmuItem:
    """Recorded dances joined and warped to one procedural piece; see `CmuSource`."""

    info: ItemInfo
    files: tuple[Path, ...]
    music: str
    seconds: float
    seed: int
    max_travel_m: float

    def recipe(self) -> Mapping[str, Any]:
        """What decides the content."""
        hashes = [_sha256(path) for path in self.files]
        settings = {"seconds": self.seconds, "music": self.music, "max_travel_m": self.max_travel_m}
        return {"kind": "cmu", "version": 2, "files": hashes, **settings}

    def load(self) -> tuple[Motion, FloatArray]:
        """The warped dance and the features of the music."""
        from macebench.dances.warp import warp_to_beats
        from macebench.demo.music import compose
        from macebench.motion.edit import placed

        piece = compose(self.music, self.seconds, self.seed)
        rng = np.random.default_rng([self.seed, 0xC0])
        dance = _strung([_recorded(path, _sha256(path)) for path in self.files], _CMU_SPARE * self.seconds + 2.0, rng)
        warped, _ = warp_to_beats(dance, piece.beats_s, self.seconds, FPS)
        dance = placed(warped)
        if (travelled := _strays(dance, np.zeros(3))) > self.max_travel_m:
            raise UserError(f"the dancer leaves the stage: {travelled:.1f} m from the middle.")
        return dance, _features((piece.samples, piece.sample_rate))


@dataclass(frozen=True)
class CmuSource:
    """Recorded dances (BVH files, such as CMU's subject 5) made to meet the beats of procedural music.

    Takes in which a joint turns by more than 60 degrees a frame or is faster than 15 m/s, or in which more than 1 % of
    the frames bend a joint further than a body can, are left out. Of the others one in eight, at least one, serves
    validation alone. A dance strings takes, mirrored or not, in an order of its own until they fill the music
    (`macebench.dances.warp`).

    Attributes:
        folder: Searched for ``.bvh`` files, subfolders included.
        n_pieces: Number of dances.
        seconds: Length of each.
        seed: Another number gives other dances.
        genre: Genre that is recorded.
        licence: Licence of the recordings.
        max_travel_m: A dance that leaves this distance from the middle of the stage is left out: one that crosses a
            hall widens the range of the root, on which every other dance is normalised.
    """

    folder: Path
    n_pieces: int = 100
    seconds: float = 8.0
    seed: int = 0
    genre: str = "modern"
    licence: str = CMU_LICENCE
    max_travel_m: float = 1.5

    def items(self) -> list[CmuItem]:
        """Its dances. Raises `UserError` when the folder has no usable take, or they cannot be made."""
        from macebench.demo.music import GENRES

        _check_count(self.n_pieces, self.seconds)
        takes = usable_takes(self.folder)
        if not takes:
            raise UserError(f"{self.folder} holds no usable BVH file.", hint="Give a folder with recorded dances.")
        ranked = sorted(takes, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
        held = ranked[: max(1, len(ranked) // 8)] if len(ranked) > 1 else []
        groups = {"val": tuple(sorted(held)), "train": tuple(sorted(set(takes) - set(held)))}
        genres = sorted(GENRES)
        found = []
        for number in range(self.n_pieces):
            name = f"cmu-{self.seed}-{number:05d}"
            split = "val" if held and number % 10 == 9 else "train"
            info = ItemInfo(
                name, self.genre, "cmu", self.licence, "synthetic", training_seed(name), f"cmu-{split}", split
            )
            music = genres[number % len(genres)]
            found.append(CmuItem(info, groups[split], music, self.seconds, training_seed(name), self.max_travel_m))
        return found


def usable_takes(folder: Path) -> list[Path]:
    """The BVH files of a folder that can be read and are clean (see `CmuSource`), in the order of their names."""
    found = []
    for path in sorted(Path(folder).rglob("*.bvh")):
        try:
            if _is_clean(path):
                found.append(path)
        except MediaError:
            continue
    return found


def _is_clean(path: Path) -> bool:
    from macebench.motion import read_motion
    from macebench.motion.retarget import broken, jumps

    motion = read_motion(path)
    if jumps(motion).any() or float(broken(motion).mean()) > _MAX_BROKEN:
        return False
    steps = np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1)
    return float(steps.max(initial=0.0)) * motion.fps <= _MAX_SPEED_M_S


@functools.lru_cache(maxsize=64)
def _recorded(path: Path, sha256: str) -> Motion:
    from macebench.motion import read_motion, resample_motion

    return resample_motion(read_motion(path), _CMU_FPS)


def _strung(takes: Sequence[Motion], seconds: float, rng: np.random.Generator) -> Motion:
    """Takes joined until they last `seconds`; of a few candidates the one that strays least from the start is next."""
    from macebench.motion.edit import FADE_S, join, mirrored, part

    waiting: list[Motion] = []
    chosen: list[Motion] = []
    end: Motion | None = None
    while sum(take.duration_s - FADE_S for take in chosen) < seconds:
        if len(waiting) < _TRIES:
            order = rng.permutation(len(takes))
            waiting += [mirrored(takes[i]) if rng.random() < 0.5 else takes[i] for i in order]
        tries = [take if end is None else join([end, take]) for take in waiting[:_TRIES]]
        best = 0 if end is None else int(np.argmin([_strays(motion, chosen[0].joints[0, 0]) for motion in tries]))
        end = part(tries[best], slice(-round(_CMU_FPS), None))
        chosen.append(waiting.pop(best))
    return join(chosen)


def _strays(motion: Motion, start: FloatArray) -> float:
    """Largest distance on the floor from `start` (3,), in metres."""
    away = motion.joints[:, 0] - start
    return float(np.hypot(away[:, 0], away[:, 2]).max())


# ---- files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileItem:
    """A motion file with its music file.

    Attributes:
        info: What is known of it.
        motion: The motion file.
        music: The sound file, or None: then it is left out.
        start_s: Seconds to leave out at the start of both.
        start_bpm: Where the beat tracker starts, or None for librosa's estimate.
        fps: Frame rate of motion files that do not state one.
        refused: Why it is left out, or empty.
    """

    info: ItemInfo
    motion: Path
    music: Path | None
    start_s: float = 0.0
    start_bpm: float | None = None
    fps: float | None = None
    refused: str = ""

    def recipe(self) -> Mapping[str, Any]:
        """What decides the content."""
        if self.refused or self.music is None:
            return {"kind": "file", "refused": self.refused or "no music"}
        return {
            "kind": "file", "version": 1, "motion": _sha256(self.motion), "music": _sha256(self.music),
            "start_s": self.start_s, "start_bpm": self.start_bpm, "fps": self.fps,
        }  # fmt: skip

    def load(self) -> tuple[Motion, FloatArray]:
        """The dance and the features of its music, both without the first `start_s` seconds."""
        from macebench.motion import resample_motion
        from macebench.motion.convert import read_any
        from macebench.motion.edit import part

        if self.refused or self.music is None:
            raise MediaError(self.refused or "no music")
        motion = resample_motion(read_any(self.motion, fps=self.fps), FPS)
        if motion.rotations is None:
            raise MediaError("no rotations", f"{self.motion.name} has joint positions only")
        first = round(self.start_s * FPS)
        if first >= len(motion):
            raise MediaError("too short", f"{self.motion.name} ends before {self.start_s:g} s")
        return part(motion, slice(first, None)), _features(self.music, self.start_bpm)[first:]


@functools.lru_cache(maxsize=65536)
def _sha256_of(path: Path, size: int, changed: int) -> str:
    from macebench.media import file_sha256

    return file_sha256(path)


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Stem -> file, subfolders included. Raises `UserError` when two files have one stem."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder.", hint="Give a folder that is there.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.suffix.lower() not in suffixes or not path.is_file():
            continue
        other = found.setdefault(path.stem, path)
        if other != path:
            raise UserError(f"{other} and {path} have one name.", hint="Names must be unique, suffixes aside.")
    return found


@dataclass(frozen=True)
class FolderSource:
    """Motion files with sound files of the same name.

    Attributes:
        motions: Folder of motion files (`macebench.motion.MOTION_SUFFIXES`), subfolders included.
        music: Folder of sound files, subfolders included.
        genre: Genre of all of them.
        licence: Licence of all of them.
        pairing: ``original`` when music and dance were recorded together; what nobody vouches for is ``synthetic``.
        fps: Frame rate of motion files that do not state one.
        name: Prefix of the ids.
    """

    motions: Path
    music: Path
    genre: str = UNKNOWN
    licence: str = UNKNOWN
    pairing: Literal["original", "synthetic"] = "synthetic"
    fps: float | None = None
    name: str = "folder"

    def items(self) -> list[FileItem]:
        """Its dances; a motion without music is left out with the reason ``no music``.

        Raises:
            UserError: no such folder, no motion file, or two of one name.
        """
        from macebench.motion import MOTION_SUFFIXES

        dances = _by_stem(Path(self.motions), MOTION_SUFFIXES)
        sounds = _by_stem(Path(self.music), SOUND_SUFFIXES)
        if not dances:
            raise UserError(f"{self.motions} holds no motion file.", hint=f"Known are {', '.join(MOTION_SUFFIXES)}.")
        return [self._item(stem, path, sounds.get(stem)) for stem, path in dances.items()]

    def _item(self, stem: str, motion: Path, music: Path | None) -> FileItem:
        group = f"music-{_sha256(music)[:16]}" if music is not None else ""
        info = ItemInfo(f"{self.name}-{stem}", self.genre, self.name, self.licence, self.pairing, None, group)
        return FileItem(info, motion, music, fps=self.fps)


@dataclass(frozen=True)
class AistSource:
    """AIST++: ``motions/*.pkl`` or ``.npz`` (converted), and sounds named by piece (``mBR0``) or dance.

    Sounds are looked for in ``music``, ``wavs`` and ``audio``.

    Attributes:
        folder: The folder of both.
        trust_pickle: Read pickles; numbers are read, nothing in them is run (`macebench.motion.convert`).
        keep_test: Keep the music of the cross-modal test split.
        ignore_list: Text file with names to leave out, such as AIST++'s ``ignore_list.txt``; None takes the one in the
            folder where there is one.
    """

    folder: Path
    trust_pickle: bool = False
    keep_test: bool = False
    ignore_list: Path | None = None

    def items(self) -> list[FileItem]:
        """Its dances. Raises `UserError` when the folder is not laid out so, or pickles are not trusted."""
        from macebench.motion.files import MOTION_SUFFIXES, PICKLE_SUFFIXES

        base = Path(self.folder)
        dances = _by_stem(base / "motions", (*MOTION_SUFFIXES, *PICKLE_SUFFIXES))
        pickled = [path for path in dances.values() if path.suffix.lower() in PICKLE_SUFFIXES]
        if pickled and not self.trust_pickle:
            hint = (
                f"`macebench convert {base / 'motions'} --out {base / 'npz'} --trust-pickle` converts them; then let "
                "the folder npz take the place of motions."
            )
            raise UserError(f"{pickled[0]} is a pickle.", hint=hint)
        sounds: dict[str, Path] = {}
        for folder in (base / name for name in ("music", "wavs", "audio")):
            sounds |= _by_stem(folder, SOUND_SUFFIXES) if folder.is_dir() else {}
        ignored = self._ignored(base)
        return [self._item(stem, path, sounds, stem in ignored) for stem, path in dances.items()]

    def _ignored(self, base: Path) -> frozenset[str]:
        path = base / "ignore_list.txt" if self.ignore_list is None else Path(self.ignore_list)
        try:
            return frozenset(path.read_text("utf-8").split())
        except OSError as error:
            if self.ignore_list is None:
                return frozenset()
            raise UserError(f"{path} cannot be read: {error.strerror}.", hint="Give a text file of names.") from error

    def _item(self, stem: str, motion: Path, sounds: Mapping[str, Path], ignored: bool) -> FileItem:
        from macebench.models.motion_expert.music import aist_start_bpm

        found = _AIST_MUSIC.search(stem)
        music_id = found[0] if found else stem
        refused = "on the ignore list" if ignored else ""
        if music_id in AIST_TEST_MUSIC and not self.keep_test:
            refused = "music of the test split"
        genre = AIST_GENRES.get(stem[:3], UNKNOWN)
        info = ItemInfo(
            f"aist-{stem}", genre, "aist++", "CC BY 4.0 (annotations)", "original", None, f"aist-{music_id}"
        )
        music = sounds.get(stem) or sounds.get(music_id)
        return FileItem(info, motion, music, start_bpm=aist_start_bpm(stem), refused=refused)


@dataclass(frozen=True)
class FineDanceSource:
    """FineDance as it is downloaded (`macebench.curation.finedance`); its official test songs are left out.

    Attributes:
        folder: The folder with ``motion``, ``music_wav`` and ``label_json``.
        split: ``cross_genre`` or ``cross_dancer``: which songs are test songs.
        keep_test: Keep the test songs.
    """

    folder: Path
    split: str = "cross_genre"
    keep_test: bool = False

    def items(self) -> Iterator[FileItem]:
        """Its songs. Raises `UserError` when the folder is not laid out so."""
        from macebench.curation.finedance import finedance_sources

        for song in finedance_sources(self.folder, split=self.split):
            test = song.split == "test" and not self.keep_test
            refused = song.refused or ("song of the test split" if test else "")
            info = ItemInfo(
                f"finedance-{song.name}", song.genre, "finedance", song.licence, song.pairing, None, song.music_id,
                "val" if song.split == "val" else "",
            )  # fmt: skip
            yield FileItem(info, song.motion, song.music, start_s=song.start_s, fps=song.fps, refused=refused)
