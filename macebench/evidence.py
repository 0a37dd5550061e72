"""What is known of the clips of a run, loaded from the store one clip at a time.

Nothing is kept: a set of ten thousand clips costs no more memory than one of ten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

from macebench.extract import (
    NO_MUSIC,
    SUBJECT,
    ClipArtifacts,
    ClipPlan,
    Outcome,
    beat_ingredients,
    failure_ingredients,
    load_beats,
    load_clip,
    load_picture,
    sound_of,
)
from macebench.identity import NO_PICTURE, Found, unusable
from macebench.protocol import BeatRules, PoseBackend
from macebench.store import Store
from macebench.types import Beats, Clip, Evidence, FloatArray, Missing

ClipKey = tuple[str, str, str]
_KEPT = 8


def clip_key(clip: Clip) -> ClipKey:
    """What tells two clips of a run apart: name, content and music."""
    return clip.clip_id, clip.sha256, clip.music_sha256


@dataclass(frozen=True)
class Extracted:
    """Outcomes of extraction by clip, by sound and by a picture's content; empty for what was in the store already."""

    clips: Mapping[ClipKey, Outcome]
    sounds: Mapping[str, Outcome]
    pictures: Mapping[str, Outcome] = field(default_factory=dict)


class EvidenceSet(Sequence[Evidence]):
    """The evidence of some clips, made when it is asked for; the last few are kept."""

    def __init__(self, clips: Sequence[Clip], make: Callable[[Clip], Evidence]) -> None:
        self._clips = clips
        self._make = make
        self._recent: OrderedDict[int, Evidence] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clips)

    def __iter__(self) -> Iterator[Evidence]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Evidence: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Evidence]: ...

    def __getitem__(self, index: int | slice) -> Evidence | Sequence[Evidence]:
        if isinstance(index, slice):
            return EvidenceSet(self._clips[index], self._make)
        position = range(len(self))[index]
        if position not in self._recent:
            self._recent[position] = self._make(self._clips[position])
            if len(self._recent) > _KEPT:
                self._recent.popitem(last=False)
        return self._recent[position]


@dataclass(frozen=True)
class Source:
    """Where the evidence of a run comes from: its store, plan, back end and what failed just now."""

    store: Store
    plan: ClipPlan
    backend: PoseBackend | None
    extracted: Extracted

    def load(self, clip: Clip, rules: BeatRules | None, picture: Found | None = None) -> Evidence:
        """All that is known of a clip.

        Args:
            clip: The clip.
            rules: Of its music's beats; None when no metric needs them.
            picture: Its reference picture, or why it has none.
        """
        found = load_clip(self.store, clip, self.plan, self.backend) if clip.sha256 else None
        if found is None:
            missing = Missing(self._reason(clip))
            found = ClipArtifacts(0.0, missing, missing, missing)
        music = Missing("not computed") if rules is None else self._music(clip, rules)
        known = found.pose, music, found.frames, found.motion
        identity = self._identity(picture or Missing(NO_PICTURE))
        return Evidence(clip, found.duration_s, *known, self.plan.lacking, found.notes, identity)

    def failure(self, clip: Clip) -> tuple[str, str] | None:
        """Reason and detail of a clip that could not be read, now or in an earlier run; None for one that could."""
        lasting = self.store.get(failure_ingredients(clip, self.plan)) if clip.sha256 else None
        if lasting is not None:
            return str(lasting.meta["reason"]), str(lasting.meta.get("detail", ""))
        outcome = self.extracted.clips.get(clip_key(clip))
        if outcome is not None and outcome.reason:
            return outcome.reason, outcome.detail
        return None if clip.sha256 else ("file not found", str(clip.path))

    def _reason(self, clip: Clip) -> str:
        failed = self.failure(clip)
        return failed[0] if failed is not None else "not computed"

    def _identity(self, picture: Found) -> FloatArray | Missing:
        if isinstance(picture, Missing):
            return picture
        if SUBJECT in self.plan.lacking:
            return Missing(self.plan.lacking[SUBJECT])
        found = load_picture(self.store, picture) if SUBJECT in self.plan.statistics else None
        if found is not None:
            return found
        outcome = self.extracted.pictures.get(picture.sha256)
        return Missing(unusable((outcome.reason if outcome else None) or "not computed"))

    def _music(self, clip: Clip, rules: BeatRules) -> Beats | Missing:
        sound = sound_of(clip)
        if sound is None:
            return Missing(NO_MUSIC)
        if not sound[1]:
            return Missing("file not found")
        found = load_beats(self.store, sound[1], rules)
        if found is not None:
            return found
        outcome = self.extracted.sounds.get(beat_ingredients(sound[1], rules).key)
        return Missing((outcome.reason if outcome else None) or "not computed")
