"""Which clips have the same sound, for the splits, where the table of sources does not say what the music is.

Every clip's sound is fingerprinted once (`macebench.curation.fingerprint`); the store keeps the result by the hash of
the clip. Clips whose fingerprints match, directly or through others, are a group. Two clips whose music is both known
are not joined: there the table decides. Time and memory grow with the number of clips, about 3 ms and 70 kB each;
above `MOST` clips no groups are made, and the data set says so. The groups do not depend on the order of the clips or
on the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from macebench.curation import fingerprint
from macebench.curation._voting import components
from macebench.curation.fingerprint import Fingerprint
from macebench.curation.job import find_clip
from macebench.curation.observe import PASSING
from macebench.curation.records import clip_id
from macebench.engine import Crashed, Work, run_jobs
from macebench.errors import MediaError
from macebench.media import Decoder
from macebench.store import Artifact, Ingredients, Store
from macebench.types import Array

if TYPE_CHECKING:
    from macebench.curation.outcomes import Outcomes

STAGE, VERSION = "curate-sound", 1
MOST = 100_000
TOO_MANY = "more than {most} clips whose music is not named: they were not grouped by their sound."


@dataclass(frozen=True)
class Sound:
    """A clip whose sound counts.

    Attributes:
        name: Id of the clip.
        path: Its file.
        sha256: Hash of the file.
        music: What the table says of its music; empty when it says nothing.
    """

    name: str
    path: Path
    sha256: str
    music: str


def sounds_of(out: Path, sources: Outcomes) -> tuple[list[Sound], tuple[str, ...]]:
    """The clips with sound in the order of their ids, and what must be said of them.

    There are none when the music of every clip is known, or when they are too many to be grouped.
    """
    found, unknown = [], False
    for group in sources:
        music = group.first.facts.get("music") or ""
        for clip in group.clips:
            path = find_clip(out, group.first.sha256, clip) if clip.audio_sr else None
            if path is not None:
                found.append(Sound(clip_id(group.first.sha256, clip.start_s), path, clip.sha256, music))
                unknown = unknown or not music
    if len(found) > MOST and unknown:
        return [], (TOO_MANY.format(most=MOST),)
    return (sorted(found, key=lambda one: one.name) if unknown else []), ()


def same_sounds(
    clips: Sequence[Sound], store: Path | None, workers: int, progress: Callable[[str, int, int], None]
) -> dict[str, str]:  # fmt: skip
    """Clip id -> name of its group, for the clips that share their sound with another one.

    Args:
        clips: What `sounds_of` returned.
        store: Folder of the store; None keeps nothing.
        workers: Processes; 1 works in this process.
        progress: Called with (phase, done, total).
    """
    known: dict[str, Fingerprint | None] = {}
    if store is not None:
        known = {one.sha256: item for one in clips if (item := _stored(Store(store), one.sha256)) is not None}
    missing = list({one.sha256: one for one in clips if one.sha256 not in known}.values())
    for done, (index, found) in enumerate(_measured(missing, store, workers), 1):
        known[missing[index].sha256] = None if isinstance(found, Crashed) else found
        progress("sounds", done, len(missing))
    return groups([(one.name, one.music, print_) for one in clips if (print_ := known[one.sha256]) is not None])


def groups(prints: Sequence[tuple[str, str, Fingerprint]]) -> dict[str, str]:
    """Name -> smallest name of its group, of (name, music, fingerprint); singles are left out."""
    found = sorted(prints, key=lambda item: item[0])
    links = [
        (one, other)
        for one, other, _ in fingerprint.pairs([item[2] for item in found])
        if not (found[one][1] and found[other][1])
    ]
    members = (sorted(found[k][0] for k in group) for group in components(len(found), links))
    return {name: names[0] for names in members for name in names}


def _key(sha256: str) -> Ingredients:
    return Ingredients(STAGE, VERSION, {"clip": sha256}, {"fingerprint": fingerprint.VERSION})


def _stored(store: Store, sha256: str) -> Fingerprint | None:
    known = store.get(_key(sha256))
    if known is None:
        return None
    return Fingerprint(known.arrays["times_ms"], known.arrays["cents"], int(known.meta["duration_ms"]))


def _measured(
    clips: Sequence[Sound], store: Path | None, workers: int
) -> Iterator[tuple[int, Fingerprint | Crashed | None]]:  # fmt: skip
    if workers > 1 and len(clips) > 1:
        yield from run_jobs(Work(_in_worker, _setup, (store,)), clips, workers=workers)
    elif clips:
        with Decoder() as decoder:
            yield from ((index, _measure(clip, decoder, store)) for index, clip in enumerate(clips))


_state: dict[str, tuple[Decoder, Path | None]] = {}


def _setup(store: Path | None) -> None:
    _state["worker"] = Decoder(), store


def _in_worker(clip: Sound) -> Fingerprint | None:
    return _measure(clip, *_state["worker"])


def _measure(clip: Sound, decoder: Decoder, store: Path | None) -> Fingerprint | None:
    """The fingerprint of a clip's file, without peaks when it cannot be decoded; None when it may be the next time."""
    try:
        sound = decoder.audio(clip.path, fingerprint.SAMPLE_RATE)
        found = fingerprint.fingerprint(sound.samples, sound.sample_rate)
    except MediaError as error:
        if error.reason in PASSING:
            return None
        found = fingerprint.fingerprint(np.zeros(0), fingerprint.SAMPLE_RATE)
    if store is not None:
        arrays: dict[str, Array] = {"times_ms": found.times_ms, "cents": found.cents}
        Store(store).put(_key(clip.sha256), Artifact(arrays, {"duration_ms": found.duration_ms}))
    return found
