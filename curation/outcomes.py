"""What became of the sources of a run: equal files together, opt-outs applied."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from macebench.curation.config import CurateConfig
from macebench.curation.forgetting import Span, Spans, grouped, in_force, read_spans, spans_of
from macebench.curation.observe import PASSING
from macebench.curation.optout import OptOut, dataset_optout, load_optout, mark
from macebench.curation.records import ClipRecord, Index, Outcome, SourceRecord, SpanRecord, clip_id, read_record
from macebench.errors import MacebenchError

DUPLICATE = "duplicate"
OPTED_OUT = "opted out"
_NAMES = ("music", "performer")


@dataclass(frozen=True)
class OptOuts:
    """All opt-out lists that hold for a data set: its own ``optout.txt`` and the one of the settings.

    Attributes:
        lists: The lists.
        spans: The spans that their entries mean, as far as they are noted (`macebench.curation.forgetting`).
    """

    lists: tuple[OptOut, ...]
    spans: Spans = field(default_factory=Spans)

    def blocks_source(self, source_id: str, name: str, facts: Mapping[str, str]) -> bool:
        """Whether a source, its performer or its music is on a list."""
        names = (source_id, name, *(facts[key] for key in _NAMES if key in facts))
        return any(one.blocked(source_sha256=source_id, ids=names) for one in self.lists)

    def blocks_clip(self, clip: ClipRecord, source_id: str) -> bool:
        """Whether a clip is on a list by its hash or its id, or lies in a span that opted out."""
        name = clip_id(source_id, clip.start_s)
        if any(one.blocked(clip_sha256=clip.sha256, ids=(name,)) for one in self.lists):
            return True
        return bool(self.spans.hit(source_id, clip.cut_start_s, clip.cut_end_s, clip.fps))

    def note(self, clip: ClipRecord, source_id: str) -> set[Span]:
        """The span of a clip that is on a list itself; nothing for another."""
        name = clip_id(source_id, clip.start_s)
        return spans_of(self.lists, source_id, clip.sha256, name, clip.cut_start_s, clip.cut_end_s)


def optouts(out: Path, config: CurateConfig) -> OptOuts:
    """The lists of a data set.

    Raises:
        UserError: a list is wrong, or the file of spans.
    """
    path = getattr(config.sections.get("probe"), "optout", None)
    own = dataset_optout(out)
    lists = (own,) if path is None else (own, load_optout(Path(path)))
    return OptOuts(lists, grouped(in_force(read_spans(out), lists)))


@dataclass(frozen=True)
class Group:
    """Equal files and what came out of them.

    Attributes:
        first: The one with the smallest name.
        others: Its duplicates.
        record: None when there is none: opted out, crashed, not readable.
        opted_out: Clips that were opted out.
    """

    first: Outcome
    others: tuple[Outcome, ...]
    record: SourceRecord | None
    opted_out: tuple[ClipRecord, ...] = ()

    @property
    def clips(self) -> tuple[ClipRecord, ...]:
        """Clips of the source."""
        return self.record.clips if self.record is not None else ()

    @property
    def is_opted_out(self) -> bool:
        """Whether the source itself is on an opt-out list."""
        return self.record is None and self.first.reason == OPTED_OUT

    def spans(self) -> Iterator[tuple[Outcome, SpanRecord]]:
        """Rejected spans, with whose they are. What opted out has no name, no place and a `mark` as its hash."""
        if self.is_opted_out:
            span = SpanRecord(0.0, math.nan, self.first.stage, OPTED_OUT)
            yield from ((_nameless(self.first, self.first.sha256), span) for _ in (self.first, *self.others))
            return
        if self.record is not None:
            yield from ((self.first, span) for span in self.record.rejected)
        elif self.first.reason:
            yield self.first, SpanRecord(0.0, math.nan, self.first.stage, self.first.reason)
        for clip in self.opted_out:
            yield _nameless(self.first, clip.sha256), SpanRecord(0.0, math.nan, "optout", OPTED_OUT)
        duration = self.record.duration_s if self.record is not None else math.nan
        for other in self.others:
            yield other, SpanRecord(0.0, duration, "probe", DUPLICATE)


def _nameless(outcome: Outcome, digest: str) -> Outcome:
    return dataclasses.replace(outcome, name="", sha256=mark(digest))


@dataclass(frozen=True)
class Outcomes:
    """The sources of a run in the order of their hashes, equal files together. Can be gone through again and again.

    Attributes:
        out: Folder of the data set.
        index: Its index.
        blocked: Opt-out lists.
        clips_hash: Settings that records must have; None takes any.
    """

    out: Path
    index: Index
    blocked: OptOuts
    clips_hash: str | None = None

    def __iter__(self) -> Iterator[Group]:
        """One group after the other. Raises `MacebenchError` when a record is gone."""
        for sha256, found in groupby(self.index.outcomes(), key=lambda outcome: outcome.sha256):
            if sha256:
                yield self._group(tuple(found))
            else:
                yield from (Group(outcome, (), None) for outcome in found)

    def _group(self, found: tuple[Outcome, ...]) -> Group:
        """Equal files. What one of their names has opted out, all have; what one of them has finished, all have."""
        first, others = found[0], found[1:]
        if any(self.blocked.blocks_source(item.sha256, item.name, item.facts) for item in found):
            return Group(dataclasses.replace(first, stage="probe", reason=OPTED_OUT), others, None)
        if all(item.reason for item in found):
            return Group(first, others, None)
        record = read_record(self.out, first.sha256)
        if record is None or self.clips_hash not in (None, record.clips_hash):
            raise MacebenchError(f"the record of {first.name} is gone; run the same command again.")
        gone = tuple(clip for clip in record.clips if self.blocked.blocks_clip(clip, first.sha256))
        if gone:
            record = dataclasses.replace(record, clips=tuple(clip for clip in record.clips if clip not in gone))
        return Group(dataclasses.replace(first, stage="", reason=""), others, record, gone)


def is_unfinished(outcome: Outcome) -> bool:
    """Whether a source may end otherwise the next time: one that is not there may be then."""
    return outcome.reason in PASSING or outcome.stage == "worker" or outcome.reason.startswith("stage failed")
