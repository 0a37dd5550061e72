"""Dividing clips into train, val and test so that nothing of a test clip was seen in training.

Clips that share a source, a piece of music or a performer (`SplitConfig.by`) form a component, directly or through
others; a component is moved as a whole. Music is shared by its name, or by its sound where clips have a group of equal
sound (`macebench.curation.sounds`). Official splits are kept: a clip with one takes its component along. Equal sound
joins no clips that official lists put into different splits; a note says so.

The other components are ranked by a hash of the seed and of their sources. In this order they fill the test split:
a component is taken when its genres have room (the genre's share in all clips times the size of the split, and half of
the genre's smallest component) and when the size that comes nearest to the wish can still be reached with those that
follow; this is known exactly from the sizes (subset sums). Then val is filled in the same way by another ranking.
The rest is train, and so is the largest component where no official list says what train is. The order of the clips
does not matter, and new sources move few old ones: measured 1.7 to 3 % of the clips when a tenth is added to 800
sources and the test split stays at 500 clips, where at least 1.1 % must move.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from macebench.curation._ranges import FROM_ZERO, SHARE, check_ranges
from macebench.errors import UserError

SPLITS = ("train", "val", "test")
KEYS = ("source", "music", "performer")
_SHARED = {"source": "a source", "music": "a piece of music", "performer": "a performer"}
_EXACT_BITS = 2 * 10**8
_TAIL = 1500
_LINE_HINT = "A line is an id (clip, source or music) and train, val or test."


@dataclass(frozen=True)
class ClipInfo:
    """What the splits need to know of a clip.

    Attributes:
        clip_id: Unique.
        source_id: The source it was cut from.
        music_id: Its piece of music; None or empty when not known.
        performer: Who dances; None or empty when not known.
        genre: Its genre; None or empty when not known.
        official_split: ``train``, ``val`` or ``test`` when a published list says so.
        duration_s: Seconds.
        sound: Its group of clips with the same sound; None or empty when there is none.
    """

    clip_id: str
    source_id: str
    music_id: str | None = None
    performer: str | None = None
    genre: str | None = None
    official_split: str | None = None
    duration_s: float = 0.0
    sound: str | None = None


@dataclass(frozen=True)
class SplitConfig:
    """How clips are divided into train, val and test.

    Attributes:
        test_size: Clips of the test split; null takes test_share of all.
        val_share: Share of clips in the val split, 0 to 1.
        test_share: Share of clips in the test split where test_size is null, 0 to 1.
        seed: Another number gives other splits.
        by: What may not be in two splits: source, music, performer.
        official: File of lines "id split" that is kept as it is, or null.
        genre_tolerance: Largest difference of a genre's share in test from its share in all clips, before it is noted.
    """

    test_size: int | None = None
    val_share: float = 0.05
    test_share: float = 0.1
    seed: int = 0
    by: tuple[str, ...] = KEYS
    official: str | None = None
    genre_tolerance: float = 0.05

    def __post_init__(self) -> None:
        ranges = {"test_size": FROM_ZERO, "seed": FROM_ZERO}
        check_ranges("splits", self, ranges | dict.fromkeys(("val_share", "test_share", "genre_tolerance"), SHARE))
        unknown = [name for name in self.by if name not in KEYS]
        if unknown:
            raise UserError(f"splits.by names {unknown[0]!r}.", hint=f"Allowed are {', '.join(KEYS)}.")


@dataclass(frozen=True)
class SplitPlan:
    """A division of clips.

    Attributes:
        splits: Clip id -> split.
        counts: Split -> number of clips.
        genre_shares: Genre -> (share in all clips, share in test).
        notes: What could not be had, one sentence each.
    """

    splits: Mapping[str, str]
    counts: Mapping[str, int]
    genre_shares: Mapping[str, tuple[float, float]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Component:
    """Clips that must stay together.

    Attributes:
        clip_ids: Sorted.
        sources: Sorted ids of their sources.
        genres: Number of clips of each genre.
        official: The split that a list gives it, or None.
    """

    clip_ids: tuple[str, ...]
    sources: tuple[str, ...]
    genres: Mapping[str, int]
    official: str | None = None

    @property
    def size(self) -> int:
        """Number of clips."""
        return len(self.clip_ids)

    def rank(self, salt: str) -> str:
        """Where it stands in the order of a salt; most often the same when clips are added to it."""
        return min(hashlib.sha256(f"{salt}/{source}".encode()).hexdigest() for source in self.sources)


def assign_splits(clips: Sequence[ClipInfo], config: SplitConfig | None = None) -> dict[str, str]:
    """Clip id -> split; `plan_splits` without its notes."""
    return dict(plan_splits(clips, config).splits)


def plan_splits(clips: Sequence[ClipInfo], config: SplitConfig | None = None) -> SplitPlan:
    """Divide clips.

    Args:
        clips: In any order.
        config: Settings; None takes the defaults.

    Raises:
        UserError: a clip id occurs twice, official splits contradict each other within a component, the official file
            is wrong, or `test_size` is asked for and all clips belong together.
    """
    config = config or SplitConfig()
    parts = find_components(clips, config)
    notes: list[str] = []
    taken: dict[str, list[Component]] = {name: [part for part in parts if part.official == name] for name in SPLITS}
    free = [part for part in parts if part.official is None]
    if free and not taken["train"]:
        largest = max(free, key=lambda part: (part.size, part.rank(f"{config.seed}/test")))
        free = [part for part in free if part is not largest]
        taken["train"].append(largest)
    total = sum(part.size for part in parts)
    overall = _genres(parts)
    wishes = {"test": round(config.test_share * total) if config.test_size is None else config.test_size,
              "val": round(config.val_share * total)}  # fmt: skip
    if config.test_size and not free and not taken["test"]:
        raise UserError(_all_together(parts, config), hint="Add sources, or leave a name out of splits.by.")
    for split, wish in wishes.items():
        ranked = sorted(free, key=lambda part: (part.rank(f"{config.seed}/{split}"), part.clip_ids))
        chosen = _choose(ranked, wish, taken[split], overall)
        taken[split] += chosen
        names = {part.clip_ids[0] for part in chosen}
        there, free = free, [part for part in free if part.clip_ids[0] not in names]
        notes += _size_notes(split, wish, taken[split], there, parts, config)
    taken["train"] += free
    plan = _plan(taken, overall, config, notes)
    return dataclasses.replace(plan, notes=(*plan.notes, *_sound_notes(clips, plan.splits, config)))


def _sound_notes(clips: Iterable[ClipInfo], splits: Mapping[str, str], config: SplitConfig) -> list[str]:
    """Whether official splits have torn groups of equal sound apart."""
    places: dict[str, set[str]] = defaultdict(set)
    for clip in clips if "music" in config.by else ():
        if clip.sound:
            places[clip.sound].add(splits[clip.clip_id])
    torn = sum(len(names) > 1 for names in places.values())
    what = "group of clips with the same sound is" if torn == 1 else "groups of clips with the same sound are"
    return [f"{torn} {what} in several splits: official splits are kept."] if torn else []


def _all_together(parts: Sequence[Component], config: SplitConfig) -> str:
    if not parts:
        return f"there are no clips, so test cannot have {config.test_size}."
    what = ", ".join(config.by) or "nothing"
    return (
        f"test cannot have {config.test_size} clips: all {sum(part.size for part in parts)} clips "
        f"hang together by {what} or are in official splits."
    )


def find_components(clips: Sequence[ClipInfo], config: SplitConfig) -> list[Component]:
    """The components of clips, in the order of their smallest clip id.

    Raises:
        UserError: as `plan_splits`.
    """
    by_id = {clip.clip_id: clip for clip in clips}
    if len(by_id) < len(clips):
        twice = Counter(clip.clip_id for clip in clips).most_common(1)[0][0]
        raise UserError(f"the clip id {twice!r} occurs twice.")
    listed = read_official(Path(config.official)) if config.official else {}
    forest = _Forest(by_id)
    first: dict[tuple[str, str], str] = {}
    for clip_id in sorted(by_id):
        for key in _keys(by_id[clip_id], config.by):
            forest.join(clip_id, first.setdefault(key, clip_id))
    if "music" in config.by:
        _join_sounds(forest, [by_id[clip_id] for clip_id in sorted(by_id)], listed)
    members: dict[str, list[ClipInfo]] = defaultdict(list)
    for clip_id in sorted(by_id):
        members[forest.root(clip_id)].append(by_id[clip_id])
    return [_component(group, listed) for _, group in sorted(members.items())]


class _Forest:
    """Names that are joined; the root of those that hang together is the smallest of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}

    def root(self, name: str) -> str:
        parent = self._parent
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def join(self, one: str, other: str) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low


def _join_sounds(forest: _Forest, clips: Sequence[ClipInfo], listed: Mapping[str, str]) -> None:
    """Join clips of equal sound, but none that are in different official splits; `clips` are in the order of ids."""
    official: dict[str, str] = {}
    for clip in clips:
        split = _official_of(clip, listed)
        if split is not None:
            official.setdefault(forest.root(clip.clip_id), split)
    first: dict[str, str] = {}
    for clip in clips:
        if not clip.sound:
            continue
        one, other = forest.root(clip.clip_id), forest.root(first.setdefault(clip.sound, clip.clip_id))
        split = official.get(one, official.get(other))
        if official.get(other, split) == split:
            forest.join(one, other)
            if split is not None:
                official[forest.root(one)] = split


def _official_of(clip: ClipInfo, listed: Mapping[str, str]) -> str | None:
    names = (clip.clip_id, clip.source_id, clip.music_id or "")
    return next((listed[name] for name in names if name in listed), clip.official_split or None)


def _keys(clip: ClipInfo, by: Iterable[str]) -> Iterable[tuple[str, str]]:
    values = {"source": clip.source_id, "music": clip.music_id, "performer": clip.performer}
    for name in by:
        value = values[name]
        if value:
            yield name, value


def _component(group: Sequence[ClipInfo], listed: Mapping[str, str]) -> Component:
    official: dict[str, str] = {}
    for clip in group:
        split = _official_of(clip, listed)
        if split is not None and split not in SPLITS:
            raise UserError(f"clip {clip.clip_id} has the official split {split!r}.", hint=f"Allowed: {SPLITS}.")
        if split is not None:
            official.setdefault(split, clip.clip_id)
    if len(official) > 1:
        (one, first), (other, second) = sorted(official.items())[:2]
        raise UserError(
            f"official splits contradict each other: clip {first} is {one}, clip {second} is {other}, "
            "and the two share a source, a piece of music or a performer.",
            hint="Leave out of splits.by what the official list does not keep apart (often performer).",
        )
    genres = Counter(clip.genre or "" for clip in group)
    sources = tuple(sorted({clip.source_id for clip in group}))
    return Component(tuple(clip.clip_id for clip in group), sources, genres, next(iter(official), None))


def read_official(path: Path) -> dict[str, str]:
    """Id -> split of a file with lines ``id split`` (blank or comma between them); ``#`` begins a comment.

    Raises:
        UserError: the file cannot be read, or a line is wrong; file and line are named.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.", hint=_LINE_HINT) from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = re.split(r"[\s,]+", line.partition("#")[0].strip())
        if words == [""]:
            continue
        if len(words) != 2 or words[1] not in SPLITS:
            raise UserError(f"{path}:{number}: {line.strip()[:80]!r} is no id and split.", hint=_LINE_HINT)
        if found.setdefault(words[0], words[1]) != words[1]:
            raise UserError(f"{path}:{number}: {words[0]} has another split above.", hint=_LINE_HINT)
    return found


def _genres(parts: Iterable[Component]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.genres)
    return counts


@dataclass
class _Room:
    """How much of each genre still fits."""

    limits: Mapping[str, float]
    used: Counter[str] = field(default_factory=Counter)

    def fits(self, part: Component) -> bool:
        return all(self.used[genre] + count <= self.limits[genre] for genre, count in part.genres.items())


def _choose(
    ranked: Sequence[Component], wish: int, there: Sequence[Component], overall: Mapping[str, int]
) -> list[Component]:
    """Components, in their order, whose clips together with those that are there come nearest to the wish."""
    missing = wish - sum(part.size for part in there)
    if missing <= 0 or not ranked:
        return []
    total = sum(overall.values())
    limits = {
        genre: wish * count / total + 0.5 * min((p.size for p in ranked if genre in p.genres), default=0)
        for genre, count in overall.items()
    }
    room = _Room(limits, _genres(there))
    chosen, rest = _prefix(ranked, missing, room)
    return chosen + _exact(rest, missing - sum(part.size for part in chosen), room)


def _prefix(ranked: Sequence[Component], missing: int, room: _Room) -> tuple[list[Component], list[Component]]:
    """What is taken in the order of ranks, before sizes matter; nothing while `_exact` can do all."""
    if len(ranked) * missing <= _EXACT_BITS:
        return [], list(ranked)
    reserve = 4 * max(part.size for part in ranked)
    chosen: list[Component] = []
    skipped: list[Component] = []
    for number, part in enumerate(ranked):
        if missing - part.size < reserve:
            return chosen, (skipped + list(ranked[number:]))[:_TAIL]
        if room.fits(part):
            chosen.append(part)
            room.used.update(part.genres)
            missing -= part.size
        else:
            skipped.append(part)
    return chosen, skipped[:_TAIL]


def _exact(ranked: Sequence[Component], missing: int, room: _Room) -> list[Component]:
    """As `_choose`, with the nearest reachable size known from all subset sums."""
    if missing <= 0 or not ranked:
        return []
    most = missing + max(part.size for part in ranked)
    mask = (1 << (most + 1)) - 1
    reachable = [1]
    for part in reversed(ranked):
        reachable.append((reachable[-1] | (reachable[-1] << part.size)) & mask)
    reachable.reverse()
    left = min((n for n in range(most + 1) if reachable[0] >> n & 1), key=lambda n: (abs(n - missing), n))
    chosen = []
    for part, after in zip(ranked, reachable[1:], strict=True):
        can_skip = bool(after >> left & 1)
        can_take = part.size <= left and bool(after >> (left - part.size) & 1)
        if can_take and (room.fits(part) or not can_skip):
            chosen.append(part)
            room.used.update(part.genres)
            left -= part.size
    return chosen


def _size_notes(
    split: str, wish: int, got: Sequence[Component], free: Sequence[Component], parts: Sequence[Component],
    config: SplitConfig,
) -> list[str]:  # fmt: skip
    """Why a split has not the size that the settings ask for; `free` is what could be chosen from, of `parts`."""
    size, pinned = sum(part.size for part in got), sum(part.size for part in got if part.official)
    if size == wish:
        return []
    said = f"{split} has {_clips(size)}, the settings ask for {wish}"
    if pinned > wish:
        return [f"{said}: official lists put {pinned} there, and official splits are kept."]
    shared = _either([_SHARED[name] for name in config.by]) or "an official split"
    if len(parts) == 1:
        every = f"all {_clips(parts[0].size)} share {shared}, directly or through others"
        return [f"{said}: {every}, and stay together in train."]
    left = sum(part.size for part in free)
    if left < wish - pinned:
        rest = f"only {_clips(left)} could be chosen" if left else "no other clip could be chosen"
        first = "official lists, then the largest group for train, then test, then val"
        return [f"{said}: {rest}. The others have their place in another split already: {first}."]
    low, high = min(part.size for part in free), max(part.size for part in free)
    sizes = f"{low} to {high} clips" if low < high else _clips(low)
    groups = f"{len(free)} such groups of {sizes} each were" if len(free) > 1 else f"one such group of {sizes} was"
    return [
        f"{said}: clips that share {shared} always stay in one split together. {groups[:1].upper()}{groups[1:]} "
        f"left to choose from, and no sum of whole groups comes nearer to {wish}."
    ]


def _either(words: Sequence[str]) -> str:
    return " or ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def _clips(count: int) -> str:
    return f"{count} clip" if count == 1 else f"{count} clips"


def _plan(
    taken: Mapping[str, Sequence[Component]], overall: Counter[str], config: SplitConfig, notes: list[str]
) -> SplitPlan:
    splits = {clip_id: name for name, parts in taken.items() for part in parts for clip_id in part.clip_ids}
    counts = {name: sum(part.size for part in taken[name]) for name in SPLITS}
    test = _genres(taken["test"])
    shares = {
        genre: (count / len(splits), test[genre] / counts["test"] if counts["test"] else 0.0)
        for genre, count in sorted(overall.items())
    }
    if counts["test"]:
        for genre, (everywhere, here) in shares.items():
            if abs(here - everywhere) > config.genre_tolerance:
                notes.append(f"genre {genre or 'unknown'} is {here:.1%} of test and {everywhere:.1%} of all clips.")
    return SplitPlan(dict(sorted(splits.items())), counts, shares, tuple(notes))
