"""Pairs of videos: which generated clip belongs to which reference clip, and which frame to which frame.

Clips are paired by id (the path below the scanned folder, or the manifest's ``clip_id``), by a table that names the
pairs, or, for what is left, by a file name that occurs once in each set.

Frames are paired by presentation time, both videos being read once and together:

- Without alignment, frame k goes with frame k. Both videos must have the same size, the same number of frames, and
  times that differ by less than half a frame. Anything else is refused.
- ``resize``: a generated frame of another size is brought to the reference's size, by area averages where neither
  side grows, else bicubic (OpenCV), rounded to 8 bits. The picture is stretched when its shape differs.
- ``crop-time``: pairs end where the shorter video ends.
- ``nearest-time``: each frame of the reference goes with the generated frame nearest in time (the earlier of two),
  whatever the rates; a video of variable rate needs nothing else. Frames of the reference are the grid, so every
  model is compared at the same times. A video lasts one frame beyond its last timestamp; without ``crop-time`` both
  must last equally long, within one frame of the slower one, whichever is longer. Frames of the reference beyond the
  generated video's end go with its last frame.

A *pair statistic* takes paired frames as they stream by, as a `FrameStatistic` takes frames: a class in the registry's
group ``statistics``, made with the protocol's `PixelRules`, with ``version``, ``update(generated, reference)``,
``result()``, classmethod ``ingredients(rules)`` and, where it needs weights, classmethod ``missing_weights()``. Metrics
need it as ``pairs:<name>`` and find it in `Evidence.frames`.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from macebench.errors import MediaError, UnknownNameError, Unscorable, UserError
from macebench.registry import unknown
from macebench.results import FEATURE_PREFIX
from macebench.tables import ClipRow
from macebench.types import Clip, FloatArray

if TYPE_CHECKING:
    import pandas as pd

    from macebench.media import Decoder, FrameBatch, VideoInfo

RESIZE, CROP_TIME, NEAREST_TIME = "resize", "crop-time", "nearest-time"
ALIGNMENTS = (CROP_TIME, NEAREST_TIME, RESIZE)
SIZE_DIFFERS = "size differs from the reference's"
LENGTH_DIFFERS = "length differs from the reference's"
TIMES_DIFFER = "frame times differ from the reference's"
NO_REFERENCE = "no reference clip of this name"
NO_GENERATED = "no generated clip of this name"
_BATCH = 8
_SAME_S = 1e-6
_ROUNDING_S = 2e-3
"""Ends of videos are compared within so much: some containers count in milliseconds."""
_TABLE_COLUMNS = ("generated", "reference")

Frames = NDArray[np.uint8]


def alignments(given: Iterable[str]) -> tuple[str, ...]:
    """The alignments that were asked for, sorted; one text may hold several, separated by commas.

    Raises:
        UnknownNameError: no such alignment, with the nearest one.
    """
    names = {name.strip() for text in given for name in text.split(",")} - {""}
    for name in sorted(names - set(ALIGNMENTS)):
        error = unknown("alignment", name, ALIGNMENTS, "macebench eval --help")
        allowed = f"Allowed: {', '.join(ALIGNMENTS)}; several are separated by commas."
        raise UnknownNameError(error.message, hint=allowed)
    return tuple(sorted(names))


# ---- which clip belongs to which ------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A generated clip and its reference; one of the two may be missing."""

    generated: Clip | None
    reference: Clip | None

    @property
    def clip_id(self) -> str:
        """The generated clip's id; the reference's where there is no generated clip."""
        clip = self.generated or self.reference
        return clip.clip_id if clip is not None else ""


def pair_clips(
    generated: Sequence[Clip], reference: Sequence[Clip], table: Mapping[str, str] | None = None
) -> list[Pair]:
    """Pairs in the order of their ids, and what has no partner.

    Args:
        generated: Clips of the evaluated set.
        reference: Clips of the reference set.
        table: Generated id -> reference id; clips that it does not name are paired by id and by file name.

    Raises:
        UserError: the table names a clip that is not there, or one reference twice, or nothing has a partner.
    """
    theirs = {clip.clip_id: clip for clip in reference}
    ours = {clip.clip_id: clip for clip in generated}
    found = _named(ours, theirs, table or {})
    found |= {name: name for name in ours.keys() - found.keys() if name in theirs and name not in found.values()}
    found |= _by_file_name(ours.keys() - found.keys(), theirs.keys() - set(found.values()))
    if not found:
        raise UserError(
            f"no generated clip has the name of a reference clip: {_first(ours)} and {_first(theirs)}.",
            hint="Name each generated video like its reference, or give a table of pairs: a CSV file with the columns "
            "generated,reference.",
        )
    pairs = [Pair(clip, theirs.get(found.get(name, ""))) for name, clip in ours.items()]
    left = theirs.keys() - set(found.values())
    return sorted(
        [*pairs, *(Pair(None, theirs[name]) for name in left)], key=lambda pair: (pair.clip_id, not pair.generated)
    )


def first_pairs(pairs: Sequence[Pair], limit: int | None) -> list[Pair]:
    """The first so many pairs in the order of their ids, those that have both clips first; all for None."""
    if limit is None:
        return list(pairs)
    whole = [index for index, pair in enumerate(pairs) if pair.generated is not None and pair.reference is not None]
    rest = [index for index in range(len(pairs)) if index not in set(whole)]
    return [pairs[index] for index in sorted([*whole, *rest][:limit])]


def _named(ours: Mapping[str, Clip], theirs: Mapping[str, Clip], table: Mapping[str, str]) -> dict[str, str]:
    for names, known, kind in ((table, ours, "generated"), (table.values(), theirs, "reference")):
        lost = sorted(name for name in names if name not in known)
        if lost:
            raise UserError(f"the table of pairs names the {kind} clip {lost[0]!r}, which is not there.",
                            hint=f"There are {len(known)} {kind} clips, such as {_first(known)}.")  # fmt: skip
    twice = [name for name, count in Counter(table.values()).items() if count > 1]
    if twice:
        raise UserError(f"the table of pairs names the reference clip {twice[0]!r} twice.")
    return dict(table)


def _by_file_name(ours: Collection[str], theirs: Collection[str]) -> dict[str, str]:
    """Pairs of ids whose last part occurs once on either side."""
    mine, other = ({name: _last(name) for name in names} for names in (ours, theirs))
    counts, other_counts = Counter(mine.values()), Counter(other.values())
    known = {last: name for name, last in other.items() if other_counts[last] == 1}
    return {name: known[last] for name, last in mine.items() if counts[last] == 1 and last in known}


def _last(clip_id: str) -> str:
    return PurePosixPath(clip_id).name


def _first(clips: Mapping[str, Clip]) -> str:
    return repr(min(clips)) if clips else "none"


def read_pairs(path: Path) -> dict[str, str]:
    """A table of pairs: a CSV file with the columns ``generated`` and ``reference`` (clip ids), in UTF-8 with or
    without a byte order mark.

    Raises:
        UserError: it cannot be read, lacks a column, or names a generated clip twice.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"table of pairs {path} cannot be read: {error}.") from error
    table: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        ours, theirs = (row.get(column) for column in _TABLE_COLUMNS)
        if not ours or not theirs:
            raise UserError(f"table of pairs {path}, line {number}: generated or reference is missing.",
                            hint="Its first line is `generated,reference`.")  # fmt: skip
        if ours in table:
            raise UserError(f"table of pairs {path}, line {number}: {ours!r} stands in it twice.")
        table[ours] = theirs
    return table


def check_pairs(pairs: Iterable[Pair], align: Collection[str], decoder: Decoder) -> None:
    """Refuse pairs that cannot be compared without alignment, before anything is computed.

    Looks at sizes and declared numbers of frames. Files that cannot be read are left to be counted.

    Raises:
        UserError: names the first pair that does not fit, how many more there are, and the alignment that helps.
    """
    problems: list[tuple[str, str, str]] = []
    for pair in pairs:
        if pair.generated is None or pair.reference is None:
            continue
        try:
            ours, theirs = decoder.probe(pair.generated.path), decoder.probe(pair.reference.path)
        except MediaError:
            continue
        found = _mismatch(ours, theirs, align)
        problems += [(pair.clip_id, *found)] if found else []
    if problems:
        name, what, helps = problems[0]
        more = f" (and {len(problems) - 1} more pairs do not fit)" if len(problems) > 1 else ""
        raise UserError(f"clip {name!r}: {what}{more}.", hint=helps)


def _mismatch(ours: VideoInfo, theirs: VideoInfo, align: Collection[str]) -> tuple[str, str] | None:
    """What does not fit, and what helps; None when all fits."""
    if RESIZE not in align and (ours.width, ours.height) != (theirs.width, theirs.height):
        sizes = f"{ours.width}x{ours.height}, the reference {theirs.width}x{theirs.height}"
        return f"it has {sizes} pixels", f"`--align {RESIZE}` brings it to the reference's size."
    counts = ours.n_frames, theirs.n_frames
    if NEAREST_TIME not in align and _rates_differ(ours, theirs):
        return (
            f"it has {_clock(ours)}, the reference {_clock(theirs)}",
            f"`--align {NEAREST_TIME}` compares videos of different rates; with `--align {CROP_TIME}` beside it also "
            "those of different length, for the time that both have.",
        )
    if set(align) & {CROP_TIME, NEAREST_TIME} or None in counts or counts[0] == counts[1]:
        return None
    return (
        f"it has {_clock(ours)}, the reference {_clock(theirs)}",
        f"`--align {CROP_TIME}` compares the time that both have, `--align {NEAREST_TIME}` videos of different rates.",
    )


def _clock(video: VideoInfo) -> str:
    rate = f" ({video.fps:.5g} a second)" if math.isfinite(video.fps) else ""
    return f"{'?' if video.n_frames is None else video.n_frames} frames in {video.duration_s:.3f} s{rate}"


def _rates_differ(ours: VideoInfo, theirs: VideoInfo) -> bool:
    """Whether two constant rates lie so far apart that frames of equal number are at least two frames apart in the end.

    A rate that a file declares may be wrong by one frame over its length; smaller differences are found in the stream.
    """
    videos = ours, theirs
    if not all(video.variable_rate is False and video.n_frames and video.fps > 0 for video in videos):
        return False
    count = min(video.n_frames or 0 for video in videos)
    steps = [1 / video.fps for video in videos]
    return (count - 1) * abs(steps[0] - steps[1]) >= 2 * min(steps)


# ---- which frame belongs to which -----------------------------------------------------------------------


@dataclass(frozen=True)
class PairBatch:
    """Paired frames: (B, H, W, 3) uint8 of both, and (B,) seconds on the reference's clock."""

    generated: Frames
    reference: Frames
    times_s: FloatArray


class PairStatistic(Protocol):
    """Something computed while paired frames stream by; a fresh instance for every pair."""

    def update(self, generated: Frames, reference: Frames) -> None:
        """Take the next (B, H, W, 3) frames of both. Raises `Unscorable` when they cannot be scored."""
        ...

    def result(self) -> FloatArray:
        """The statistic of the whole pair."""
        ...


@dataclass(frozen=True)
class _Timed:
    """A frame, its time, and the distance to the frame before it (infinite for the first)."""

    time_s: float
    frame: Frames
    step_s: float


_Match = tuple[_Timed, _Timed]


def aligned(
    generated: Iterable[FrameBatch], reference: Iterable[FrameBatch], align: Collection[str], *, batch: int = _BATCH
) -> Iterator[PairBatch]:
    """Paired frames of two videos, in batches; memory does not grow with their length.

    Args:
        generated: Batches of the generated video.
        reference: Batches of the reference video.
        align: As `alignments` takes them; see the module's docstring.
        batch: Most pairs in one batch.

    Raises:
        Unscorable: size, length or frame times differ and `align` does not say what to do. Pairs before the
            difference have come out by then and must not be used.
        UserError: no such alignment.
    """
    align = alignments(align)
    ours, theirs = _timed(generated), _timed(reference)
    crop = CROP_TIME in align
    matches = _nearest(ours, theirs, crop) if NEAREST_TIME in align else _one_by_one(ours, theirs, crop)
    yield from _batches(matches, RESIZE in align, batch)


def _timed(batches: Iterable[FrameBatch]) -> Iterator[_Timed]:
    before = -math.inf
    for batch in batches:
        for frame, time in zip(batch.frames, batch.times_s, strict=True):
            yield _Timed(float(time), frame, float(time) - before)
            before = float(time)


def _one_by_one(ours: Iterator[_Timed], theirs: Iterator[_Timed], crop: bool) -> Iterator[_Match]:
    while True:
        mine, other = next(ours, None), next(theirs, None)
        if mine is None or other is None:
            if (mine is not None or other is not None) and not crop:
                raise Unscorable(LENGTH_DIFFERS)
            return
        if abs(mine.time_s - other.time_s) >= min(mine.step_s, other.step_s) / 2:
            raise Unscorable(TIMES_DIFFER)
        yield mine, other


def _nearest(ours: Iterator[_Timed], theirs: Iterator[_Timed], crop: bool) -> Iterator[_Match]:
    current, following = next(ours, None), next(ours, None)
    last: _Timed | None = None
    slowest = 0.0
    for other in theirs:
        if current is None:
            break
        while (
            following is not None
            and abs(following.time_s - other.time_s) < abs(current.time_s - other.time_s) - _SAME_S
        ):
            current, following = following, next(ours, None)
        slowest = max(slowest, _length(current), _length(other))
        if following is None and _is_over(current, other, slowest, crop):
            if not crop:
                raise Unscorable(LENGTH_DIFFERS)
            return
        yield current, other
        last = other
    if not crop and last is not None:
        _check_end(following, ours, last, slowest)


def _length(frame: _Timed) -> float:
    """How long a frame lasts: as long as the one before it; 0 for the first, of which that is not known."""
    return frame.step_s if math.isfinite(frame.step_s) else 0.0


def _end(last: _Timed, other: _Timed) -> float:
    """Where a video ends whose last frame this is; a video of one frame lasts as long as a frame of the other."""
    return last.time_s + (_length(last) or _length(other))


def _is_over(last: _Timed, other: _Timed, slowest: float, crop: bool) -> bool:
    """Whether a frame of the reference lies beyond the generated video's last frame.

    At all where the longer video is cropped, else by more than a frame of the slower video.
    """
    if crop:
        return other.time_s > last.time_s and other.time_s > _end(last, other) - _SAME_S
    return _end(other, last) > _end(last, other) + slowest + _ROUNDING_S


def _check_end(following: _Timed | None, ours: Iterator[_Timed], last: _Timed, slowest: float) -> None:
    """Refuse a generated video that ends more than a frame of the slower video after the reference's last frame."""
    while following is not None:
        slowest = max(slowest, _length(following))
        if _end(following, last) > _end(last, following) + slowest + _ROUNDING_S:
            raise Unscorable(LENGTH_DIFFERS)
        following = next(ours, None)


def _batches(matches: Iterable[_Match], resize: bool, size: int) -> Iterator[PairBatch]:
    waiting: list[tuple[Frames, Frames, float]] = []
    for mine, other in matches:
        frame = mine.frame
        if frame.shape != other.frame.shape:
            if not resize:
                raise Unscorable(SIZE_DIFFERS)
            frame = resized(frame, other.frame.shape[1], other.frame.shape[0])
        waiting.append((frame, other.frame, other.time_s))
        if len(waiting) == size:
            yield _stacked(waiting)
            waiting.clear()
    if waiting:
        yield _stacked(waiting)


def _stacked(waiting: Sequence[tuple[Frames, Frames, float]]) -> PairBatch:
    ours, theirs, times = zip(*waiting, strict=True)
    return PairBatch(np.stack(ours), np.stack(theirs), np.array(times, dtype=np.float64))


def resized(frame: Frames, width: int, height: int) -> Frames:
    """An (H, W, 3) picture at another size: area averages where no side grows, else bicubic."""
    import cv2

    grows = width > frame.shape[1] or height > frame.shape[0]
    how = cv2.INTER_CUBIC if grows else cv2.INTER_AREA
    result: Any = cv2.resize(np.ascontiguousarray(frame), (width, height), interpolation=how)
    return np.asarray(result, dtype=np.uint8)


# ---- scores ---------------------------------------------------------------------------------------------


def rows_table(rows: Sequence[ClipRow]) -> pd.DataFrame:
    """The rows as `macebench.tables.read_clips` would give them back, without a file."""
    import pandas as pd

    names = sorted({name for row in rows for name in row.values})
    features = sorted({name for row in rows for name in row.features})
    columns: dict[str, list[Any]] = {
        "clip_id": [row.clip_id for row in rows],
        "reasons": [json.dumps(dict(row.reasons)) for row in rows],
        "notes": [json.dumps(dict(row.notes)) for row in rows],
    }
    columns |= {name: [row.values.get(name, math.nan) for row in rows] for name in names}
    columns |= {FEATURE_PREFIX + name: [row.features.get(name) for row in rows] for name in features}
    return pd.DataFrame(columns)
